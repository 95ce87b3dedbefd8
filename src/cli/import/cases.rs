//! Test cases beside an imported config: what each route makes of a call without a token, as it was imported.
//!
//! They hold by construction. Whoever mends a rule by hand sees which calls that changes.

use std::{fmt::Write as _, net::IpAddr, path::Path};

use serde_json::{Map, Value, json};

use crate::{
    config::Document,
    offline::{OfflineGateway, OfflineKeys, OfflineRequest, Outcome, Verdict},
    route::RouteConfig,
};

/// The time of the cases: 2027-03-01, 09:00 UTC.
const NOW: u64 = 1_803_891_600;
/// The caller of the cases.
const CALLER: [u8; 4] = [203, 0, 113, 9];
/// The maximum number of cases.
const MOST: usize = 500;

/// Returns a file of cases; `None` if the config cannot be tried without a network.
pub(super) fn of(config: &Path, text: &str) -> Option<String> {
    let document = Document::from_text(&config.to_string_lossy(), text).ok()?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let within = tokio.enter();
    let gateway = OfflineGateway::build(&document, NOW, OfflineKeys::Development).ok()?;
    drop(within);
    let mut cases = String::new();
    for route in document.config.routes.iter().take(MOST) {
        let (method, url) = call(route);
        let Ok(request) = OfflineRequest::new(&method, &url, IpAddr::from(CALLER)) else { continue };
        gateway.begin(NOW);
        let outcome = tokio.block_on(gateway.run(&request));
        let name = format!("{}, as it was imported", route.name);
        let case = json!({ "name": name, "request": { "method": method, "url": url }, "expect": expectation(&outcome) });
        // JSON is YAML.
        let _ = writeln!(cases, "  - {case}");
    }
    let head = "# Test cases of entrada.yaml: what each route makes of a call without a token, as it was imported. `entrada test entrada.yaml` runs them.\n\
                # Add the calls of your clients, with their tokens.";
    (!cases.is_empty())
        .then(|| format!("{head}\nconfig: entrada.yaml\nnow: 2027-03-01T09:00:00Z\nfrom: 203.0.113.9\ntests:\n{cases}"))
}

/// Returns a call that the route takes.
fn call(route: &RouteConfig) -> (String, String) {
    let matches = &route.matches;
    let method = matches.methods.first().cloned().unwrap_or_else(|| "GET".to_owned());
    let path = matches.exact_path.as_deref().or(matches.path.as_deref()).unwrap_or("/");
    let path: Vec<_> = path.split('/').map(|segment| if segment.starts_with('{') { "1" } else { segment }).collect();
    let host = matches.hosts.iter().find(|host| !host.starts_with('*')).map_or("api.contoso.example", String::as_str);
    (method, format!("http://{host}{}", path.join("/")))
}

/// Returns what the gateway did, as a case expects it.
fn expectation(outcome: &Outcome) -> Value {
    let mut expected = Map::new();
    expected.insert("status".to_owned(), outcome.status.as_u16().into());
    if let Some(code) = outcome.code.as_ref().filter(|_| outcome.verdict == Verdict::Refuse) {
        expected.insert("code".to_owned(), code.as_str().into());
    }
    if let Some(sent) = outcome.upstream.as_ref().filter(|_| outcome.verdict == Verdict::Allow) {
        expected.insert("upstream".to_owned(), (*sent.upstream).into());
        expected.insert("upstream-method".to_owned(), sent.method.as_str().into());
    }
    expected.into()
}

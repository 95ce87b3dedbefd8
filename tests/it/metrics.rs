//! Tests of metrics: their names and labels, and that the dashboard, the alerts and the page name none that do not exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use entrada::{
    CandidateSample, ServerOptions,
    dev_tenant::{App, DevTenant, Options},
};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::support::{Gateway, ORDERS_TOKEN, TestBed, Upstream, config, eventually};

const CLIENT_ID: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

/// The type and the label names of each family.
pub(crate) type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Reads the families of a text.
pub(crate) fn families(text: &str) -> Families {
    let mut families = Families::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            last = name.to_owned();
            assert!(families.insert(last.clone(), (kind.to_owned(), BTreeSet::new())).is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&last), "{line} stands under {last}");
            let names = line.split_once('{').map_or("", |(_, labels)| labels);
            let names = names.split("=\"").filter_map(|part| part.rsplit([',', '{', '"']).next());
            let names =
                names.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            families.get_mut(&last).unwrap().1.extend(names.map(str::to_owned));
        }
    }
    families
}

/// Starts a gateway with everything that has metrics, and carries some requests.
pub(crate) async fn busy() -> (DevTenant, Upstream, Gateway, tempfile::TempDir) {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let certificate = entrada::cli::certificate::NewCertificate { subject: "CN=gateway".into(), days: 30, bits: 2048 }
        .make(&entrada::Clock::system());
    let certificate = certificate.unwrap();
    tenant.register(App::new(CLIENT_ID).named("gateway").certificate_pem(certificate.certificate_pem()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.pem"), certificate.pem().as_bytes()).unwrap();
    let servers = crate::support::Authority::new("Contoso Servers");
    servers.server("gateway.contoso.example").write(folder.path(), "server");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let upstream = Upstream::answering(|received| {
        let status = received.uri.path().rsplit('/').next().and_then(|last| last.parse().ok()).unwrap_or(200);
        let mut response = Response::new(Full::new(Bytes::from_static(b"from the backend")));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    })
    .await;
    let routes = format!(
        "- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}\n\
         - {{ name: idle, match: {{ path: /idle }}, anonymous: true, upstream: backend }}\n\
         - {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend, authorization: {{ credential: gateway, scope: api://orders/.default }} }}\n\
         - name: partners\n  match: {{ path: /partners }}\n  upstream: backend\n  inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders] }}, check-partner: {{}} ]\n\
         - name: limited\n  match: {{ path: /limited }}\n  anonymous: true\n  upstream: backend\n  inbound: [ check-header: {{ name: X-Key, mode: report-only }}, rate-limit-by-key: {{ calls: 9, renewal-period: 1h, counter-key: \"@(caller.address)\" }}, limit-concurrency: {{ max-count: 9, key: a, store: redis, on-store-failure: local }} ]"
    );
    // A store that nobody serves: its metrics are there all the same.
    let more = format!(
        "redis: {{ url: \"redis://127.0.0.1:1\", key-secret: not-a-secret-of-anybody }}\nlisteners:\n  - {{ name: public, address: \"127.0.0.1:0\" }}\n  - {{ name: secure, address: \"127.0.0.1:0\", tls: {{ certificate: {}, private-key: {} }} }}\n\
         credentials: {{ gateway: {{ tenant: contoso, client-id: {CLIENT_ID}, certificate: {{ pem: {} }} }} }}\n\
         partners: {{ fabrikam: {{ client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666], tenants: [contoso], addresses: [127.0.0.1], expires: 2099-12-31, rate-limit: {{ calls: 5, renewal-period: 1h }} }} }}",
        file("server.pem"),
        file("server.key"),
        file("gateway.pem"),
    );
    let active = config(&tenant, &upstream, &routes, &more);
    let options = ServerOptions { workers: 1, candidate: Some(CandidateSample::default()), ..ServerOptions::default() };
    let gateway = Gateway::start_with(&active, options).await;
    gateway.judge_beside(&active.replace("name: X-Key, mode: report-only", "name: X-Key")).unwrap();
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    let partner = tenant.token().app("22223333-cccc-4444-dddd-5555eeee6666").audience("api://orders").sign();
    gateway.get("/open/200").send().await;
    gateway.get("/open/503").send().await;
    gateway.request(Method::POST, "/open/201").body("four").send().await;
    gateway.request(Method::from_bytes(b"BREW").unwrap(), "/open/201").send().await;
    gateway.get("/orders").bearer(&token).send().await;
    gateway.get("/orders").bearer(&token).send().await;
    gateway.get("/orders").send().await;
    gateway.get("/partners").bearer(&partner).send().await;
    gateway.get("/limited").send().await;
    gateway.get("/nowhere").send().await;
    gateway.record(|record| record["path"] == "/nowhere").await;
    (tenant, upstream, gateway, folder)
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status() {
    let (_tenant, upstream, gateway, _folder) = busy().await;

    let text = gateway.metrics().await;

    let labels = |route: &str, method: &str, status: &str| {
        format!("{{http_route=\"{route}\",http_request_method=\"{method}\",http_response_status_code=\"{status}\"}}")
    };
    let address = upstream.address;
    for expected in [
        format!("http_server_request_duration_seconds_count{} 1\n", labels("open", "GET", "200")),
        format!("http_server_request_duration_seconds_count{} 1\n", labels("open", "GET", "503")),
        format!("http_server_request_duration_seconds_count{} 1\n", labels("open", "POST", "201")),
        format!("http_server_request_duration_seconds_count{} 1\n", labels("", "_OTHER", "405")),
        format!("http_server_request_body_size_bytes_sum{} 4\n", labels("open", "POST", "201")),
        format!("http_server_response_body_size_bytes_sum{} 16\n", labels("open", "GET", "200")),
        // A backend's own error is no refusal.
        "entrada_decisions_total{route=\"open\",decision=\"allow\",code=\"\"} 3\n".to_owned(),
        "entrada_decisions_total{route=\"orders\",decision=\"deny\",code=\"token-missing\"} 1\n".to_owned(),
        "http_server_active_requests 0\n".to_owned(),
        format!(
            "http_client_request_duration_seconds_count{{upstream=\"backend\",server_address=\"127.0.0.1\",server_port=\"{}\",http_request_method=\"GET\",http_response_status_code=\"503\"}} 1\n",
            address.port()
        ),
        format!("entrada_upstream_server_up{{upstream=\"backend\",server=\"{address}\"}} 1\n"),
        format!("entrada_upstream_connect_failures_total{{upstream=\"backend\",server=\"{address}\"}} 0\n"),
        "entrada_partner_limit_remaining{partner=\"fabrikam\",limit=\"rate-limit\"} 4\n".to_owned(),
        "entrada_config_last_reload_successful 1\n".to_owned(),
        format!("entrada_build_info{{version=\"{}\",revision=", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.contains("=\"idle\"")).count(), 1, "{text}");
    assert!(!text.contains("BREW"), "{text}");
}

#[tokio::test]
async fn a_request_that_is_under_way_is_active() {
    let semaphore = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let backend = crate::support::RawUpstream::answering(vec![
        crate::support::Step::Wait(semaphore.clone()),
        crate::support::Step::send("HTTP/1.1 204 No Content\r\n\r\n"),
    ])
    .await;
    let gateway =
        Gateway::start(&backend.config("  - { name: slow, match: { path: /slow }, anonymous: true, upstream: backend }")).await;
    let address = gateway.address();
    let asked = tokio::spawn(async move { reqwest::get(format!("http://{address}/slow")).await.unwrap().status() });
    eventually("the backend has the request", async || !backend.received().is_empty()).await;

    assert!(gateway.metrics().await.contains("http_server_active_requests 1\n"));
    semaphore.add_permits(1);
    assert_eq!(asked.await.unwrap(), 204);
    gateway.record(|record| record["path"] == "/slow").await;
    assert!(gateway.metrics().await.contains("http_server_active_requests 0\n"));
}

#[tokio::test]
async fn unreachable_servers_and_unknown_keys_are_counted() {
    // Bound and not listening: nobody else can have the port meanwhile.
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let dead = held.local_addr().unwrap().as_socket().unwrap();
    let bed = TestBed::with_orders().await;
    bed.gateway.get("/orders").bearer(bed.tenant.token().user("nia").audience("api://orders").unknown_key().sign()).send().await;
    let text = bed.gateway.metrics().await;
    let unknown = text.lines().find(|line| line.starts_with("entrada_signing_keys_unknown_key_ids_total{")).unwrap();
    assert!(!unknown.ends_with(" 0"), "{unknown}");
    for family in ["entrada_signing_keys{", "entrada_signing_keys_age_seconds{", "entrada_signing_keys_fetches_total{"] {
        assert!(text.contains(family), "{family}\n{text}");
    }

    let gateway = Gateway::start(&format!(
        "upstreams: {{ backend: {{ servers: [\"http://{dead}\"] }} }}\nroutes: [ {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }} ]\n"
    ))
    .await;
    gateway.get("/open").send().await;
    gateway.record(|record| record["path"] == "/open").await;

    let text = gateway.metrics().await;
    let expected = format!("entrada_upstream_connect_failures_total{{upstream=\"backend\",server=\"{dead}\"}} 1\n");
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("http_response_status_code=\"502\"") && text.contains("server_port=\""), "{text}");
}

#[tokio::test]
async fn open_metrics_are_served_to_those_who_ask_for_them() {
    let gateway =
        Gateway::start("routes: [ { name: a, match: { path: /a }, anonymous: true, respond: { status: 204 } } ]\n").await;
    let url = format!("http://{}/metrics", gateway.admin_address());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

    let answer = client.get(url).header("accept", accept).send().await.unwrap();

    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE entrada_decisions counter\nentrada_decisions_total{"), "{text}");
}

/// The demands of `promtool check metrics`.
#[tokio::test]
async fn every_name_follows_the_rules_of_prometheus() {
    let (_tenant, _upstream, gateway, _folder) = busy().await;
    let text = gateway.metrics().await;

    for (name, (kind, _)) in families(&text) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(!name.contains(&format!("_{kind}")), "{name} names its type");
        for unit in ["milliseconds", "microseconds", "minutes", "days", "kilobytes", "_ms", "_us"] {
            assert!(!name.ends_with(unit), "{name} is not in base units");
        }
        let ours = ["entrada_", "http_server_", "http_client_", "process_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(ours, "{name}");
    }
}

/// Returns the names of metrics in an expression, each with the labels that it names.
fn named(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    for (at, _) in expression.match_indices(|letter: char| letter.is_ascii_lowercase()) {
        if expression[..at].ends_with(|letter: char| is_word(letter) || letter == ':' || letter == '"') {
            continue;
        }
        let name: String = expression[at..].chars().take_while(|letter| is_word(*letter)).collect();
        if !["entrada_", "http_server_", "http_client_", "process_"].iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let rest = &expression[at + name.len()..];
        if rest.starts_with(':') {
            continue;
        }
        let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(matchers, _)| matchers);
        let labels = matchers.split(',').filter_map(|matcher| matcher.split(['=', '!']).next()).map(str::trim);
        found.push((name, labels.filter(|label| !label.is_empty()).map(str::to_owned).collect()));
    }
    found
}

/// Returns every `expr` and query of a document.
fn expressions(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("expr" | "query", Value::String(text)) => into.push(text.clone()),
            _ => expressions(value, into),
        }),
        Value::Array(entries) => entries.iter().for_each(|entry| expressions(entry, into)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let (_tenant, _upstream, gateway, _folder) = busy().await;
    let families = families(&gateway.metrics().await);
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/entrada.json")).unwrap();
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    assert!(all.len() > 40, "{}", all.len());
    let rules = read("deploy/prometheus/entrada.rules.yaml");
    let alerts = rules.matches("- alert: ").count();
    assert!(alerts > 10 && rules.matches("summary: ").count() == alerts && rules.matches("description: ").count() == alerts);
    // Every line of the rules is looked at, since an expression may go over several.
    all.extend(rules.lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned));

    let mut used = BTreeSet::new();
    for (name, labels) in all.iter().flat_map(|expression| named(expression)) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            let base = name.strip_suffix(end)?;
            families.get(base).filter(|(kind, _)| matches!(kind.as_str(), "histogram" | "summary")).map(|_| base.to_owned())
        });
        let family = family.unwrap_or(name);
        let (_, known) = families.get(&family).unwrap_or_else(|| panic!("there is no metric {family}"));
        for label in labels {
            assert!(known.contains(&label) || ["job", "instance"].contains(&&*label), "{family} has no label {label}: {known:?}");
        }
        used.insert(family);
    }
    let shown: Vec<_> = families.keys().filter(|name| !used.contains(*name)).collect();
    let unseen = ["process_threads", "process_virtual_memory_bytes", "process_start_time_seconds"];
    assert!(shown.iter().all(|name| unseen.contains(&name.as_str())), "the dashboard shows nothing of {shown:?}");
}

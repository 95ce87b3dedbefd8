//! Tests of the sinks of audit records: what the receiver really got.

mod azure;
mod chain;
mod crash;
mod files;
mod network;
mod settings;
mod tail;

use std::{path::Path, time::Instant};

use entrada::dev_tenant::DevTenant;
use serde_json::Value;

use crate::support::{Gateway, LONGEST_WAIT};

/// The gateway's own registration at the development tenant.
const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const RULE: &str = "dcr-00000000000000000000000000000000";

/// Routes that answer by themselves: one for everybody, and one that nobody may use.
const ROUTES: &str = "routes:\n\
    \x20 - { name: own, match: { path: /own }, anonymous: true, respond: { status: 200, body: fine } }\n\
    \x20 - { name: shut, match: { path: /shut }, anonymous: true, inbound: [ check-header: { name: X-Door } ], respond: { status: 200 } }\n";

/// Returns a config with these sinks and this spool; `more` goes into `audit`.
fn config(sinks: &str, more: &str) -> String {
    format!("{ROUTES}audit:\n  sinks:\n{sinks}{more}\n")
}

/// Returns a config with these sinks and a spool in a folder.
fn spooled(sinks: &str, folder: &Path) -> String {
    config(sinks, &format!("  spool: {{ directory: \"{}\", size: 8MiB }}", folder.join("spool").display()))
}

/// Returns the tenant and the credential that Azure Monitor is called with.
fn identity(tenant: &DevTenant) -> String {
    tenant.update_app(GATEWAY, |app| app.secret("opens-the-door"));
    format!(
        "tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}\nnamed-values: {{ word: {{ value: opens-the-door, secret: true }} }}\n\
         credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: \"{{{{word}}}}\" }} }}\n",
        tenant.tenant_id(),
        tenant.base_url(),
    )
}

/// Returns the sink of Azure Monitor at the development tenant.
fn azure_monitor(tenant: &DevTenant) -> String {
    format!(
        "    - azure-monitor: {{ endpoint: \"{}\", rule: {RULE}, stream: Custom-Entrada_CL, credential: gateway }}\n",
        tenant.base_url()
    )
}

/// Waits until a value satisfies the condition, and returns it.
async fn until<T: std::fmt::Debug>(mut value: impl AsyncFnMut() -> T, is_it: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let found = value().await;
        if is_it(&found) {
            return found;
        }
        assert!(begun.elapsed() < LONGEST_WAIT, "never: {found:?}");
        tokio::task::yield_now().await;
    }
}

/// Sends this many requests, one after the other, and returns the ids of their records.
async fn call(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        let answer = gateway.get(&format!("/own/{number}")).send().await;
        assert_eq!(answer.status, 200);
        ids.push(answer.headers["x-request-id"].to_str().unwrap().to_owned());
    }
    ids
}

/// Returns the state of the sink whose name begins so.
async fn sink(gateway: &Gateway, name: &str) -> Value {
    let url = format!("http://{}/api/status", gateway.admin_address());
    let status: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let sinks = status["audit_sinks"].as_array().unwrap();
    sinks.iter().find(|sink| sink["name"].as_str().unwrap().starts_with(name)).unwrap_or_else(|| panic!("{status}")).clone()
}

/// Returns the records in a file, compressed or not.
fn records(path: &Path) -> Vec<Value> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = if path.extension().is_some_and(|ending| ending == "gz") {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut text).unwrap();
        text
    } else {
        String::from_utf8(bytes).unwrap()
    };
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns the members of this name, of the records that have it.
fn members(records: &[Value], name: &str) -> Vec<String> {
    records.iter().filter_map(|record| record[name].as_str().map(str::to_owned)).collect()
}

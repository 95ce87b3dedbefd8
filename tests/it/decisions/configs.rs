//! The settings of a listener that decides: what is required, what contradicts, and what only warns.

use super::orders;
use crate::support::Gateway;

const TENANT: &str = "tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }\n";

fn config(listener: &str, route: &str) -> String {
    format!("{TENANT}listeners:\n  - {{ name: mesh, {listener} }}\nroutes:\n  {route}\n")
}

#[test]
fn who_may_ask_is_said_and_is_not_everybody() {
    for (listener, expected) in [
        ("address: \"127.0.0.1:0\", decides: { dialect: caddy }", "it is not said which proxies may ask"),
        ("address: \"127.0.0.1:0\", decides: { dialect: caddy, peers: [0.0.0.0/0] }", "every address of a family may ask"),
        ("address: \"127.0.0.1:0\", decides: { dialect: caddy, peers: [\"::/0\"] }", "every address of a family may ask"),
        (
            "address: \"127.0.0.1:0\", decides: { dialect: caddy, peers: [0.0.0.0/1, 128.0.0.0/1] }",
            "every address of a family may ask",
        ),
        ("address: \"127.0.0.1:0\", decides: { dialect: caddy, peers: [10.0.0.1/8] }", "host bits"),
        (
            "address: \"127.0.0.1:0\", decides: { dialect: caddy, client-certificates: { mode: required, ca: ca.pem } }",
            "this listener has none",
        ),
        ("address: \"127.0.0.1:0\", decides: { dialect: kong, peers: [10.0.0.0/8] }", "kong"),
        ("address: \"127.0.0.1:0\", decides: { peers: [10.0.0.0/8] }", "dialect"),
    ] {
        let report = match entrada::Document::from_text("test.yaml", &config(listener, &orders("decide-only: true"))) {
            Err(report) => report.to_string(),
            Ok(_) => Gateway::refusal(&config(listener, &orders("decide-only: true"))),
        };
        assert!(report.contains(expected), "{listener}: {report}");
    }
}

#[test]
fn settings_that_mean_nothing_to_a_question_are_errors() {
    let decides = "decides: { dialect: envoy-grpc, peers: [10.0.0.0/8] }";
    for (more, expected) in [
        ("http2: false", "gRPC is spoken over HTTP/2 alone"),
        ("trusted-proxies: [10.0.0.0/8], proxy-protocol: required", "does so on its own connections"),
        ("forwarded-header: forwarded", "name the caller in `X-Forwarded-For`"),
        ("trusted-proxies: [10.0.0.0/8], only-trusted-proxies: true", "says itself which proxies may ask"),
        ("client-certificates: { mode: required, ca: ca.pem }", "within `decides`"),
    ] {
        let report =
            Gateway::refusal(&config(&format!("address: \"127.0.0.1:0\", {decides}, {more}"), &orders("decide-only: true")));
        assert!(report.contains(expected), "{more}: {report}");
    }
}

fn warnings(listener: &str, route: &str) -> String {
    let document = entrada::Document::from_text("test.yaml", &config(listener, route)).unwrap();
    let mut faults = entrada::unstable::settings::Faults::default();
    let runtime = entrada::unstable::gateway::runtime::Runtime::try_out(&document, &mut faults);
    assert!(runtime.is_some(), "{}", document.report(&faults));
    document.report(&faults).to_string()
}

#[test]
fn what_a_decision_keeps_only_in_part_is_warned_of() {
    let decides = "address: \"127.0.0.1:0\", decides: { dialect: caddy, peers: [10.0.0.0/8] }";
    let report = warnings(decides, &orders("decide-only: true, upgrades: [websocket]"));
    assert!(report.contains("is not closed when the caller's token expires"), "{report}");

    let open = "address: \"0.0.0.0:0\", decides: { dialect: caddy, peers: [10.0.0.0/8], carry-tokens: true }";
    assert!(warnings(open, &orders("decide-only: true")).contains("go over the network without TLS"));

    let outbound = format!("{}\noutbound: [ set-header: {{ name: X-A, value: b }} ]", orders("decide-only: true"));
    assert!(warnings(decides, &outbound).contains("do not run for requests that another proxy forwards"));

    let listed = "address: \"127.0.0.1:0\", decides: { dialect: caddy, peers: [10.0.0.0/8], routes: [orders] }";
    let route = format!(
        "{}\n  {}",
        orders("decide-only: true"),
        "- { name: forgotten, match: { path: /f }, anonymous: true, decide-only: true }"
    );
    assert!(warnings(listed, &route).contains("no listener decides the route `forgotten`"));
}

/// The configs of the proxies that the repository ships hold what `check` prints for the config beside them.
#[test]
fn the_shipped_configs_of_proxies_are_those_that_check_prints() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/decisions");
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_entrada"))
        .args(["check", "--format", "json"])
        .arg(folder.join("entrada.yaml"))
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(report["passed"], true, "{report}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (listener, program, file) in [
        ("traefik", "Traefik", "traefik.yaml"),
        ("traefik", "HAProxy", "haproxy.cfg"),
        ("caddy", "Caddy", "Caddyfile"),
        ("nginx", "nginx", "nginx.conf"),
        ("envoy-http", "Envoy", "envoy-http.yaml"),
        ("envoy-grpc", "Envoy", "envoy-grpc.yaml"),
    ] {
        let shipped = words(&std::fs::read_to_string(folder.join(file)).unwrap());
        let told = report["decisions"].as_array().unwrap().iter().find(|told| told["listener"] == listener).unwrap();
        let text = told["settings"][program].as_str().unwrap();
        let lines = text.lines().map(|line| line.split(" #").next().unwrap().trim());
        let names = ["- {", "- x-", "copy_headers", "proxy_set_header x", "auth_request_set", "http-request"];
        let named: Vec<_> = lines.filter(|line| names.iter().any(|start| line.starts_with(start))).collect();
        assert!(named.len() > 30 || matches!(program, "Caddy") || listener == "envoy-grpc", "{file}: {named:?}");
        for line in named {
            assert!(shipped.contains(&words(line)), "{file} lacks {line}");
        }
    }
}

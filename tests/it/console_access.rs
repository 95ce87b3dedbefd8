//! Tests of who may read the console: tokens, certificates and names, and what a config must say before the network reaches it.

use serde_json::Value;

use crate::support::{Authority, Gateway, TestBed, client_of, config};

const ROUTE: &str = "- { name: own, match: { path: /own }, anonymous: true, respond: { status: 204 } }";
const APIS: [&str; 7] =
    ["/api/status", "/api/overview", "/api/routes", "/api/config", "/api/decisions", "/api/decisions?follow", "/metrics"];

fn admin(more: &str) -> String {
    format!("admin: {{ address: \"127.0.0.1:0\", {more} }}")
}

fn token_policy(scope: &str) -> String {
    admin(&format!(
        "hosts: [console.contoso.example], validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [{scope}] }}"
    ))
}

/// Sends a GET to the admin listener; returns the status, the challenge and the body.
async fn get(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("http://{}{path}", gateway.admin_address()));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut answer = request.send().await.unwrap();
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    // A stream has no end: its first piece is enough.
    let body = if answer.status().is_success() && path.ends_with("?follow") {
        String::new()
    } else {
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.unwrap() {
            body.extend_from_slice(&piece);
        }
        String::from_utf8(body).unwrap()
    };
    (answer.status().as_u16(), challenge, body)
}

#[tokio::test]
async fn behind_a_token_policy_the_empty_page_is_open_and_all_else_needs_a_token() {
    let bed = TestBed::with(ROUTE, &token_policy("Orders.Read")).await;
    let good = format!("Bearer {}", bed.user_token());

    for path in ["/", "/app.js", "/console.css", "/healthz", "/readyz"] {
        assert_eq!(get(&bed.gateway, path, &[]).await.0, 200, "{path}");
    }
    for path in APIS {
        let (status, challenge, body) = get(&bed.gateway, path, &[]).await;
        assert_eq!(status, 401, "{path}");
        assert!(challenge.starts_with("Bearer"), "{challenge}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some("token-missing"), Some(401)), "{path}");
        assert_eq!(get(&bed.gateway, path, &[("authorization", &good)]).await.0, 200, "{path}");
    }
    // What is not there is nobody's business, either.
    assert_eq!(get(&bed.gateway, "/api/other", &[]).await.0, 401);
    assert_eq!(get(&bed.gateway, "/api/other", &[("authorization", &good)]).await.0, 404);

    let token = || bed.tenant.token().user("nia").audience("api://orders");
    for (name, value, status) in [
        ("another signature", format!("{}x", bed.user_token()), 401),
        ("expired", token().scopes(["Orders.Read"]).issued_in(-9_000).expires_in(-5_000).sign(), 401),
        ("another audience", token().audience("api://legacy").scopes(["Orders.Read"]).sign(), 401),
        ("another scope", token().scopes(["Orders.List"]).sign(), 403),
        ("no token", "b3BlcmF0b3I6b3BlcmF0b3I=".to_owned(), 401),
    ] {
        let value = format!("Bearer {value}");
        let (got, _, body) = get(&bed.gateway, "/api/overview", &[("authorization", &value)]).await;
        assert_eq!(got, status, "{name}: {body}");
        assert!(!body.contains("attention"), "{name}: {body}");
    }
    // A token makes no foreign page or name acceptable.
    for (field, value) in [("host", "attacker.example"), ("origin", "https://attacker.example")] {
        assert_eq!(get(&bed.gateway, "/api/overview", &[("authorization", &good), (field, value)]).await.0, 403);
    }
    let named = [("host", "Console.contoso.example:9901"), ("authorization", &*good)];
    assert_eq!(get(&bed.gateway, "/api/overview", &named).await.0, 200);
    assert_eq!(get(&bed.gateway, "/", &[("host", "console.contoso.example.attacker.example")]).await.0, 403);
}

#[tokio::test]
async fn a_reload_changes_who_may_read_on_connections_that_are_open() {
    let mut bed = TestBed::with(ROUTE, &token_policy("Orders.Read")).await;
    let token = bed.user_token();
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build().unwrap();
    let address = bed.gateway.admin_address();
    let ask =
        async || client.get(format!("http://{address}/api/overview")).bearer_auth(&token).send().await.unwrap().status().as_u16();
    assert_eq!(ask().await, 200);

    let stricter = config(&bed.tenant, &bed.upstream, ROUTE, &token_policy("Console.Read"));
    bed.gateway.reload(&stricter).await;

    assert_eq!(bed.gateway.admin_address(), address, "the listener has stayed");
    assert_eq!(ask().await, 403);
}

#[tokio::test]
async fn a_required_certificate_keeps_everybody_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let (operators, strangers) = (Authority::new("operators"), Authority::new("strangers"));
    let tls = operators.server("console.contoso.example").write(folder.path(), "server");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, operators.pem()).unwrap();
    let admin = admin(&format!("tls: {tls}, client-certificates: {{ mode: required, ca: {} }}", ca.display()));
    let gateway =
        Gateway::start(&format!("routes: [ {} ]\nhealth: {{ address: \"127.0.0.1:0\" }}\n{admin}\n", &ROUTE[2..])).await;
    let url = |path: &str| format!("https://{}{path}", gateway.admin_address());

    let known = operators.client("nia");
    let answer =
        client_of(&operators, Some(&known), false).get(url("/api/status?parts=listener_certificates")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let status: Value = answer.json().await.unwrap();
    assert_eq!(status["listener_certificates"][0]["listener"], "admin");
    let stranger = strangers.client("mallory");
    for shows in [None, Some(&stranger)] {
        let answer = client_of(&operators, shows, false).get(url("/api/status")).send().await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[test]
fn a_listener_that_the_network_reaches_says_who_may_read_it() {
    let wrong = |more: &str| Gateway::refusal(&format!("routes: [ {} ]\nadmin: {{ {more} }}\n", &ROUTE[2..]));
    for (more, told) in [
        ("address: \"0.0.0.0:0\"", "can be reached from the network, and asks nobody who they are"),
        ("address: \"192.0.2.1:0\", hosts: [console.contoso.example]", "`anonymous: true` shows it to everybody"),
        (
            "address: \"127.0.0.1:0\", validate-azure-ad-token: { tenant: contoso, audiences: [a] }",
            "there is no tenant `contoso`",
        ),
        ("address: \"127.0.0.1:0\", hosts: [\"https://console.contoso.example\"]", "is no name of a host"),
        ("address: \"127.0.0.1:0\", client-certificates: { mode: required, ca: ca.pem }", "this listener has none"),
    ] {
        let report = wrong(more);
        assert!(report.contains(told), "{more}: {report}");
    }
    let both = "tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }\nadmin: { address: \"127.0.0.1:0\", anonymous: true, validate-azure-ad-token: { tenant: contoso, audiences: [a], scopes: [b] } }\n";
    assert!(Gateway::refusal(&format!("routes: [ {} ]\n{both}", &ROUTE[2..])).contains("keep one of the two"));
    let silent = both.replace("anonymous: true, ", "").replace("scopes: [b]", "scopes: [b], mode: report-only");
    assert!(Gateway::refusal(&format!("routes: [ {} ]\n{silent}", &ROUTE[2..])).contains("nobody would be refused"));
    let Err(report) = entrada::Document::from_text("test.yaml", "admin: { recent-decisions: 10001 }\n") else { panic!("taken") };
    assert!(report.to_string().contains("write 10000 or less"), "{report}");
}

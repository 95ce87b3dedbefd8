//! Tests of records: who called, who was refused, and what the request was.

use entrada::dev_tenant::{DevTenant, Options};
use serde_json::{Value, json};

use crate::support::{Gateway, ORDERS_TOKEN, TestBed, Upstream, config};

const CLIENT: &str = "22223333-cccc-4444-dddd-5555eeee6666";

async fn refused(bed: &TestBed, code: &str, token: &str) -> Value {
    bed.gateway.get("/orders/1").bearer(token).send().await;
    bed.gateway.record(|record| record["code"] == code).await
}

#[tokio::test]
async fn a_refused_caller_is_named_once_the_signature_of_its_token_held() {
    let bed = TestBed::with_orders().await;
    let user = || bed.tenant.token().user("nia").client(CLIENT).audience("api://orders").scopes(["Orders.Read"]);
    let app = bed.tenant.token().app(CLIENT).audience("api://orders");

    for (code, token) in [
        ("token-audience-not-allowed", user().audience("api://payroll").sign()),
        ("token-expired", user().expired().sign()),
        ("token-not-yet-valid", user().not_yet_valid().sign()),
        ("scope-missing", user().scopes(["Orders.Write"]).sign()),
        ("role-missing", app.roles(["Other"]).sign()),
    ] {
        let record = refused(&bed, code, &token).await;

        let audience = if code.contains("audience") { "api://payroll" } else { "api://orders" };
        assert_eq!(record["decision"], "deny", "{record}");
        assert!(record["issuer"].as_str().is_some_and(|issuer| issuer.starts_with("http")), "{record}");
        assert_eq!((&record["audience"], &record["client_application"]), (&audience.into(), &CLIENT.into()), "{record}");
        assert_eq!(record["tenant_id"], bed.tenant.tenant_id(), "{record}");
        assert!(record["object_id"].is_string() && record["token_id"].is_string(), "{record}");
        let (kind, granted) = match code {
            "role-missing" => ("app", &record["roles"]),
            _ => ("user", &record["scopes"]),
        };
        assert_eq!(record["token_kind"], kind, "{record}");
        let expected = match code {
            "role-missing" => json!(["Other"]),
            "scope-missing" => json!(["Orders.Write"]),
            _ => json!(["Orders.Read"]),
        };
        assert_eq!(*granted, expected, "{record}");
        assert!(record.get("token_seen").is_none(), "{record}");
    }
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn an_admitted_caller_is_named_by_the_same_fields() {
    let bed = TestBed::with_orders().await;

    // The second time the token is known.
    for _ in 0..2 {
        bed.gateway.get("/orders/1").bearer(bed.user_token()).send().await.assert_allowed();
    }

    for record in [bed.gateway.record(|record| record["decision"] == "allow").await, bed.gateway.records().remove(0)] {
        assert_eq!((&record["audience"], &record["token_kind"]), (&"api://orders".into(), &"user".into()), "{record}");
        assert_eq!(record["scopes"], json!(["Orders.Read"]), "{record}");
        assert!(record["issuer"].is_string() && record["object_id"].is_string(), "{record}");
    }
}

/// Facts that anybody can write are shown, and never as if it were a fact.
#[tokio::test]
async fn before_the_signature_a_record_has_what_the_token_says_and_marks_it() {
    let bed = TestBed::with_orders().await;
    let victim = "99998888-aaaa-4444-bbbb-7777cccc6666";
    let token = || bed.tenant.token().user("nia").client(victim).audience("api://orders").scopes(["Orders.Read"]);

    for (code, token) in [
        ("token-signature-invalid", token().wrong_key().sign()),
        ("token-key-unknown", token().unknown_key().sign()),
        ("token-algorithm-not-allowed", token().algorithm("none").sign()),
    ] {
        let record = refused(&bed, code, &token).await;

        let seen = &record["token_seen"];
        assert_eq!(seen["verified"], false, "{record}");
        assert_eq!((&seen["client_application"], &seen["audience"]), (&victim.into(), &"api://orders".into()), "{record}");
        assert!(seen["issuer"].is_string() && seen["algorithm"].is_string(), "{record}");
        for fact in
            ["issuer", "audience", "tenant_id", "client_application", "subject", "object_id", "token_id", "scopes", "roles"]
        {
            assert!(record.get(fact).is_none(), "{fact} is no fact: {record}");
        }
    }
}

#[tokio::test]
async fn what_a_token_says_of_itself_is_short_and_cannot_forge_a_record() {
    let bed = TestBed::with_orders().await;
    let token = bed
        .tenant
        .token()
        .user("nia")
        .audience(&"a".repeat(2_000))
        .claim("iss", "x\",\"decision\":\"allow\",\"y\":\"\n{\"decision\":\"allow\"}")
        .wrong_key()
        .sign();

    bed.gateway.get("/orders/1").bearer(&token).send().await;

    let record = bed.gateway.record(|record| record["code"] == "token-signature-invalid").await;
    assert_eq!(record["token_seen"]["audience"].as_str().map(str::len), Some(256), "{record}");
    assert!(record["token_seen"]["issuer"].as_str().unwrap().contains("\n{\"decision\""), "{record}");
    assert_eq!((record["decision"].as_str(), bed.gateway.records().len()), (Some("deny"), 1));
}

/// An alternative that accepts a token and then fails leaves its caller's name.
#[tokio::test]
async fn a_caller_that_every_alternative_refuses_is_named() {
    let route = "- name: orders\n  match: { path: /orders }\n  anonymous: true\n  upstream: backend\n  inbound:\n    - any-of:\n        - [ { validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] } }, { authorize: { condition: \"@(token.claims.level == 5)\" } } ]\n        - [ { check-header: { name: X-Door, values: [open] } } ]";
    let bed = TestBed::with(route, "").await;

    bed.gateway.get("/orders/1").bearer(bed.user_token()).send().await;
    bed.gateway.get("/orders/2").bearer(bed.user_token()).header("x-door", "open").send().await.assert_allowed();

    let record = bed.gateway.record(|record| record["path"] == "/orders/1").await;
    assert_eq!((&record["decision"], &record["audience"]), (&"deny".into(), &"api://orders".into()), "{record}");
}

#[tokio::test]
async fn a_record_says_which_request_it_was_and_by_which_config_it_was_judged() {
    let mut bed = TestBed::with_orders().await;
    let long = format!("agent/{}", "x".repeat(500));
    bed.gateway.get("/a").header("x-request-id", "their-own-17").header("user-agent", &long).send().await;
    bed.gateway.get("/b").header("user-agent", "curl/8.5.0").send().await;

    let (first, second) =
        (bed.gateway.record(|record| record["path"] == "/a").await, bed.gateway.record(|record| record["path"] == "/b").await);

    assert_eq!((&first["caller_request_id"], &first["http_version"]), (&"their-own-17".into(), &"1.1".into()), "{first}");
    assert_ne!(first["caller_request_id"], first["request_id"]);
    assert_eq!(first["user_agent"].as_str().map(str::len), Some(256), "{first}");
    assert_eq!((&second["user_agent"], second.get("caller_request_id")), (&"curl/8.5.0".into(), None), "{second}");
    assert!(first["record_id"] != second["record_id"] && first["record_id"].as_str().unwrap().len() == 32);
    assert!(first.get("tls_version").is_none());
    assert_eq!((&first["config"], &first["config"]["generation"]), (&second["config"], &0.into()));

    let other = "routes: [ { name: a, match: { path: /a }, anonymous: true, respond: { status: 204 } } ]\n";
    bed.gateway.reload(other).await;
    bed.gateway.get("/a").send().await;

    let after = bed.gateway.record(|record| record["status"] == 204).await;
    assert_eq!(after["config"]["generation"], 1, "{after}");
    assert_ne!(after["config"]["digest"], first["config"]["digest"], "{after}");
    // Another gateway with the same settings has the same digest.
    let twin = Gateway::start(other).await;
    twin.get("/a").send().await;
    let twin = twin.record(|record| record["status"] == 204).await;
    assert_eq!(twin["config"], json!({ "digest": after["config"]["digest"], "generation": 0 }));
}

async fn with_audit(audit: &str) -> (TestBed, String) {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let route = format!(
        "- name: orders\n  match: {{ path: /orders }}\n  upstream: backend\n  inbound:\n    - {ORDERS_TOKEN}\n    - authorize: {{ condition: \"@(request.headers['x-team'] == 'a' && request.query['v'] == '1')\" }}"
    );
    let secret = "named-values: { door: { value: a-secret-word, secret: true } }\n\
                  fragments: { unused: [ { check-header: { name: X-Key, values: [\"{{door}}\"] } } ] }";
    let route = format!("{route}\n    - include-fragment: unused");
    let gateway = Gateway::start(&config(&tenant, &upstream, &route, &format!("{secret}\n{audit}"))).await;
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let token = token.claim("department", "sales").claim("extn", json!({ "costCenter": 4711 })).claim("salary", 1).sign();
    (TestBed { tenant, upstream, gateway }, token)
}

#[tokio::test]
async fn of_a_tokens_claims_those_are_recorded_that_the_config_lists() {
    let (bed, token) = with_audit("audit: { sinks: [], claims: [department, extn.costCenter, absent] }").await;

    bed.gateway.get("/orders/1?v=2").bearer(&token).header("x-team", "a").send().await;

    let record = bed.gateway.record(|record| record["path"] == "/orders/1").await;
    assert_eq!(record["claims"], json!({ "department": "sales", "extn.costCenter": 4711 }), "{record}");
    assert!(!record.to_string().contains("salary"), "{record}");
    for field in ["forwarded", "query_facts", "header_facts", "token_facts"] {
        assert!(record.get(field).is_none(), "{field} is for replays: {record}");
    }
}

#[tokio::test]
async fn a_record_for_replays_has_the_facts_that_the_config_reads_and_no_secret() {
    let (bed, token) = with_audit("audit: { sinks: [], replay: true }").await;

    let call = bed.gateway.get("/orders/1?v=1&other=2&v=%20b").bearer(&token).header("x-team", "a");
    let call = call.header("x-key", "a-secret-word").header("x-forwarded-for", "203.0.113.9, 10.0.0.1").header("x-other", "o");
    call.header("cookie", "c=1").send().await;

    let record = bed.gateway.record(|record| record["path"] == "/orders/1").await;
    assert_eq!(record["query_facts"], json!({ "v": ["1", " b"] }), "{record}");
    assert_eq!(record["header_facts"], json!({ "x-team": ["a"], "x-key": true }), "{record}");
    assert_eq!(record["forwarded"], json!({ "x-forwarded-for": ["203.0.113.9, 10.0.0.1"] }), "{record}");
    let token_facts = &record["token_facts"];
    assert_eq!(
        (&token_facts["place"], &token_facts["algorithm"], &token_facts["signature_held"]),
        (&"header authorization".into(), &"RS256".into(), &true.into()),
        "{record}"
    );
    assert!(token_facts["key_id"].is_string() && token_facts["expires_at"].is_u64(), "{record}");
    let text = record.to_string();
    assert!(!text.contains("a-secret-word") && !text.contains(&token[..40]) && !text.contains("c=1"), "{text}");
}

#[test]
fn claims_that_name_none_are_faults() {
    for (audit, expected) in [
        ("claims: [\"\"]", "this names no claim"),
        ("claims: [a..b]", "this names no claim"),
        ("claims: [a, a]", "is listed twice"),
    ] {
        let report = Gateway::refusal(&format!(
            "routes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, respond: {{ status: 204 }} }} ]\naudit: {{ sinks: [], {audit} }}\n"
        ));
        assert!(report.contains(expected), "{audit}: {report}");
    }
}

//! Tests of `trace`: notes in the records of requests, and what never gets into one.

use serde_json::json;

use crate::support::{Gateway, ORDERS_TOKEN, TestBed};

#[tokio::test]
async fn a_note_is_in_the_record_whatever_becomes_of_the_request() {
    let route = format!(
        r#"- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN}, trace: {{ source: in, message: "@('for ' + token.kind)", metadata: {{ line: "@(request.query.q)", none: "@(token.claims.none)" }} }}, check-header: {{ name: X-Door }} ],
            outbound: [ trace: {{ message: "@('answered ' + string(response.status))" }} ], on-error: [ trace: {{ message: "@(error.code)" }} ], upstream: backend }}"#
    );
    let bed = TestBed::with(&route, "").await;

    bed.gateway
        .get("/orders/1?q=a%22%0a%22,%22x%22:1")
        .bearer(bed.user_token())
        .header("X-Door", "1")
        .send()
        .await
        .assert_allowed();
    let record = bed.gateway.record(|record| record["path"] == "/orders/1").await;
    let note = json!({ "source": "in", "message": "for user", "metadata": { "line": "a\"\n\",\"x\":1" } });
    assert_eq!(record["notes"], json!([note, { "message": "answered 200" }]));

    bed.gateway.get("/orders/2").bearer(bed.user_token()).send().await;
    let record = bed.gateway.record(|record| record["path"] == "/orders/2").await;
    assert_eq!(record["notes"], json!([{ "source": "in", "message": "for user" }, { "message": "header-check-failed" }]));
    bed.gateway.get("/orders/3").send().await;
    let record = bed.gateway.record(|record| record["path"] == "/orders/3").await;
    assert_eq!(record["notes"], json!([{ "message": "token-missing" }]));
}

#[tokio::test]
async fn notes_have_an_end_however_much_a_caller_sends() {
    let trace = r#"trace: { message: "@(request.query.q)", metadata: { again: "@(request.query.q)" } }"#;
    let inbound = [trace; 20].join(", ");
    let route =
        format!("- {{ name: open, match: {{ path: /open }}, anonymous: true, inbound: [ {inbound} ], upstream: backend }}");
    let bed = TestBed::with(&route, "").await;

    bed.gateway.get(&format!("/open?q={}", "x".repeat(7_000))).send().await.assert_allowed();
    let record = bed.gateway.record(|record| record["path"] == "/open").await;

    let notes = record["notes"].as_array().unwrap();
    assert!(notes.len() <= 8 && notes[0]["message"].as_str().unwrap().len() == 1_024, "{notes:?}");
    assert!(record["notes"].to_string().len() < 10_000);
}

#[test]
fn a_credential_is_never_noted() {
    let upstreams = "upstreams: { backend: { servers: [\"http://127.0.0.1:1\"] } }\npartners: { fabrikam: { api-keys: [ { sha256: 5f9c4ab08cac7457e9111a30e4664920607ea2c115a1433d7be98e97e64244ca } ] } }";
    for inbound in [
        r#"trace: { message: "@(request.headers.authorization)" }"#,
        r#"trace: { message: x, metadata: { a: "@(request.url)" } }"#,
        r#"validate-api-key: { header-name: X-Key, query-parameter-name: key }, trace: { message: "@(request.headers['x-key'])" }"#,
        r#"trace: { message: "@(request.headers['x-key'])" }, validate-api-key: { header-name: X-Key }"#,
        r#"validate-api-key: { query-parameter-name: key }, trace: { message: "@(request.query.key)" }"#,
        r#"set-variable: { name: a, value: "@(base64(request.headers.cookie))" }, set-variable: { name: b, value: "@(variables.a + '')" }, trace: { message: "@(variables.b)" }"#,
    ] {
        let refusal = Gateway::refusal(&format!(
            "{upstreams}\nroutes:\n  - {{ name: a, match: {{ path: /a }}, anonymous: true, inbound: [ {inbound} ], upstream: backend }}\n"
        ));
        assert!(refusal.contains("credential, and no record ever does"), "{inbound}: {refusal}");
    }
    // By way of a variable, and of the list that every route's errors go through.
    let refusal = Gateway::refusal(&format!(
        "{upstreams}\non-error: [ trace: {{ message: \"@(variables.a)\" }} ]\nroutes:\n  - {{ name: a, match: {{ path: /a }}, anonymous: true, inbound: [ set-variable: {{ name: a, value: \"@(request.headers.cookie)\" }} ], upstream: backend }}\n"
    ));
    assert!(refusal.contains("credential, and no record ever does"), "{refusal}");
}

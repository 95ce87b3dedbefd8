//! Tests of secrets in header fields: sent to backends, never to callers, and compared with callers' values.

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Fault, Options},
};

use crate::support::{Gateway, TestBed, Upstream, config, eventually};

const KEY: &str = "named-values: { key: { value: the-shared-key, secret: true } }";

#[test]
fn a_secret_in_a_field_of_the_answer_is_refused_at_start() {
    let upstream = "upstreams: { backend: { servers: [\"http://127.0.0.1:3000\"] } }\n";
    let answer = "set-header: { name: X-Key, value: \"Key {{key}}\" }";
    for (routes, expected) in [
        (format!("outbound: [ {answer} ]"), "would show the secret to callers"),
        ("outbound: [ set-header: { name: X-Key, values: [a, \"{{key}}\"] } ]".to_owned(), "would show the secret to callers"),
        (
            format!("outbound: [ choose: [ {{ when: '@(response.status == 404)', do: [ {answer} ] }} ] ]"),
            "would show the secret to callers",
        ),
        ("outbound: [ include-fragment: keyed ]".to_owned(), "would show the secret to callers"),
        ("outbound: [ return-response: { body: \"{{key}}\" } ]".to_owned(), "names a secret"),
        ("inbound: [ return-response: { headers: { X-Key: \"{{key}}\" } } ]".to_owned(), "names a secret"),
        ("inbound: [ check-header: { name: X-Key, failed-check-error-message: \"{{key}}\" } ]".to_owned(), "names a secret"),
    ] {
        let text = format!(
            "{KEY}\nfragments: {{ keyed: [ {answer} ] }}\n{upstream}routes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, upstream: backend, {routes} }} ]\n"
        );
        let refusal = refused(&text);
        assert!(refusal.contains(expected) && refusal.contains("help: "), "{routes}: {refusal}");
        assert!(!refusal.contains("the-shared-key"), "{refusal}");
    }
}

/// Returns the faults of a config, from reading or building.
fn refused(text: &str) -> String {
    match entrada::Document::from_text(
        "test.yaml",
        &format!("{text}listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\n"),
    ) {
        Err(report) => report.to_string(),
        Ok(document) => {
            let mut faults = entrada::unstable::settings::Faults::default();
            assert!(
                entrada::unstable::gateway::runtime::Runtime::try_out(&document, &mut faults).is_none(),
                "it was taken: {text}"
            );
            document.report(&faults).to_string()
        }
    }
}

#[tokio::test]
async fn a_shared_key_lets_in_whoever_has_it_and_nobody_else() {
    let routes = "- { name: a, match: { path: /a }, anonymous: true, inbound: [ check-header: { name: X-Key, values: [ \"{{key}}\", \"other {{key}}\" ] } ], upstream: backend }
- { name: b, match: { path: /b }, anonymous: true, inbound: [ check-header: { name: X-Key, ignore-case: true, values: [ \"{{key}}\" ] } ], upstream: backend }";
    let bed = TestBed::with(routes, KEY).await;

    for (path, key, admitted) in [
        ("/a", "the-shared-key", true),
        ("/a", "other the-shared-key", true),
        ("/a", "The-Shared-Key", false),
        ("/a", "the-shared-ke", false),
        ("/a", "the-shared-keyy", false),
        ("/a", "{{key}}", false),
        ("/a", "", false),
        ("/b", "The-Shared-Key", true),
        ("/b", "The-Shared-Kex", false),
    ] {
        let answer = bed.gateway.get(path).header("X-Key", key).send().await;
        if admitted { answer.assert_allowed() } else { answer.assert_refused(Reason::HeaderCheckFailed) }
    }
    assert_eq!(bed.upstream.requests(), 3);
}

#[tokio::test]
async fn without_the_vaults_key_nobody_is_let_in_and_nobody_is_to_blame() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::start().await;
    let client = entrada::dev_tenant::DEFAULT_AUDIENCE;
    tenant.update_app(client, |app| app.secret("opens-the-vault"));
    tenant.fail(Fault::on("/secrets/").status(503));
    let routes = "- { name: a, match: { path: /a }, anonymous: true, inbound: [ check-header: { name: X-Key, values: [ \"{{key}}\", known ] } ], upstream: backend }";
    let more = format!(
        "named-values: {{ key: {{ key-vault: {{ vault: \"{}\", secret: shared, identity: opener }} }} }}
credentials: {{ opener: {{ tenant: contoso, client-id: {client}, client-secret: opens-the-vault }} }}",
        tenant.base_url()
    );
    let text = config(&tenant, &upstream, routes, &more);
    let mut gateway = Gateway::start(&text).await;
    let send = async |gateway: &Gateway, key: &str| gateway.get("/a").header("X-Key", key).send().await;

    send(&gateway, "of-the-vault").await.assert_refused(Reason::CredentialUnavailable);
    send(&gateway, "").await.assert_refused(Reason::CredentialUnavailable);
    send(&gateway, "known").await.assert_allowed();

    tenant.vault_secret("shared", "of-the-vault", None);
    tenant.recover();
    // What a vault failed to give is asked for again after a while; a new gateway asks at once.
    gateway = Gateway::start(&text).await;
    eventually("the vault's value", async || {
        !send(&gateway, "known").await.status.is_success() || send(&gateway, "of-the-vault").await.status.is_success()
    })
    .await;
    send(&gateway, "of-the-vault").await.assert_allowed();
    send(&gateway, "another").await.assert_refused(Reason::HeaderCheckFailed);
}

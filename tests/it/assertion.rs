//! Tests of the signed statement about the caller: its content, and the location of its keys.

use entrada::Reason;
use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, ORDERS_TOKEN, TestBed, config};

const AUDIENCE: &str = "https://orders.contoso.internal";

fn routes() -> String {
    format!(
        "- name: orders
  match: {{ path: /orders }}
  inbound:
    - {ORDERS_TOKEN}
    - rewrite-uri: {{ template: \"/v2{{rest}}\" }}
    - set-header: {{ name: X-Kind, value: \"@(token.kind)\" }}
    - set-header: {{ name: X-Fixed, value: hunter2 }}
  identity-headers: {{ X-Remote-User: {{ claim: onpremisessamaccountname }}, X-Groups: {{ claim: groups, encoding: repeated, when-absent: skip }} }}
  backend-assertion: {{ audience: \"{AUDIENCE}\", lifetime: 30s }}
  upstream: backend
- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}"
    )
}

async fn get(address: std::net::SocketAddr, path: &str) -> Answer {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Answer::read(client.get(format!("http://{address}{path}")).send().await.unwrap()).await
}

async fn keys(gateway: &Gateway) -> JwkSet {
    let answer = get(gateway.admin_address(), "/.well-known/jwks.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, Some("application/jwk-set+json")));
    serde_json::from_slice(&answer.body).unwrap()
}

/// Verifies an assertion as a backend does.
fn checked(assertion: &str, keys: &JwkSet, audience: &str) -> Result<Value, jsonwebtoken::errors::Error> {
    let header = decode_header(assertion)?;
    let key = keys.find(&header.kid.unwrap()).expect("the key is published");
    let mut validation = Validation::new(header.alg);
    validation.algorithms = vec![Algorithm::ES256, Algorithm::PS256];
    validation.algorithms.retain(|algorithm| *algorithm == header.alg);
    validation.set_audience(&[audience]);
    validation.set_issuer(&["entrada"]);
    validation.set_required_spec_claims(&["exp", "aud", "iss"]);
    decode::<Value>(assertion, &DecodingKey::from_jwk(key)?, &validation).map(|data| data.claims)
}

#[tokio::test]
async fn a_backend_can_check_who_calls() {
    let bed = TestBed::with(&routes(), "").await;
    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let token = token.claim("onpremisessamaccountname", "nokafor").claim("groups", vec!["a", "b"]).sign();

    let call = bed.gateway.get("/orders/17?query=1").bearer(&token).header("X-Entrada-Assertion", "forged");
    let answer = call.header("X_Entrada_Assertion", "forged").send().await;

    answer.assert_allowed();
    let received = bed.upstream.last();
    assert!(!received.headers.contains_key("x_entrada_assertion"));
    let assertion = received.value("x-entrada-assertion").unwrap();
    let header = decode_header(assertion).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::ES256, Some("entrada-assertion+jwt")));
    let keys = keys(&bed.gateway).await;
    let claims = checked(assertion, &keys, AUDIENCE).expect("it holds");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 30);
    assert_eq!((&claims["method"], &claims["path"], &claims["route"]), (&json!("GET"), &json!("/v2/17"), &json!("orders")));
    assert_eq!(claims["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!((&claims["token_kind"], &claims["caller"]), (&json!("user"), &json!("127.0.0.1")));
    assert_eq!(claims["tid"], bed.tenant.tenant_id());
    assert!(claims["sub"].is_string() && claims["oid"].is_string() && claims["azp"].is_string());
    assert_eq!(claims["token_issuer"], bed.tenant.issuer_v2(&bed.tenant.tenant_id()));
    // What the gateway made of the token, and neither what the caller sent nor what is fixed, which may be a secret.
    assert_eq!(claims["headers"], json!({ "x-groups": ["a", "b"], "x-kind": ["user"], "x-remote-user": ["nokafor"] }));
    assert_eq!(received.value("x-fixed"), Some("hunter2"));

    assert!(checked(assertion, &keys, "https://other.contoso.internal").is_err());
    let mut forged = assertion.to_owned();
    let at = forged.find('.').unwrap() + 5;
    forged.replace_range(at..=at, if &forged[at..=at] == "A" { "B" } else { "A" });
    assert!(checked(&forged, &keys, AUDIENCE).is_err());

    // Each request has its own.
    bed.gateway.get("/orders/17").bearer(&token).send().await.assert_allowed();
    let again = checked(bed.upstream.last().value("x-entrada-assertion").unwrap(), &keys, AUDIENCE).unwrap();
    assert_ne!(claims["jti"], again["jti"]);
}

#[tokio::test]
async fn no_caller_brings_its_own() {
    let bed = TestBed::with(&routes(), "").await;

    let call = bed.gateway.get("/open").header("X-Entrada-Assertion", "a.b.c").header("x.entrada.assertion", "a.b.c");
    call.send().await.assert_allowed();

    assert!(!bed.upstream.last().headers.keys().any(|name| name.as_str().contains("assertion")));
    // And without a token nothing is asserted, and nothing is sent.
    bed.gateway.get("/orders/1").header("X-Entrada-Assertion", "a.b.c").send().await.assert_refused(Reason::TokenMissing);
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn the_keys_are_where_the_config_says_and_nowhere_else() {
    let mut bed = TestBed::with(&routes(), "").await;
    let first = get(bed.gateway.admin_address(), "/.well-known/jwks.json").await;
    assert!(!String::from_utf8_lossy(&first.body).contains("\"d\""), "{first:?}");
    bed.gateway.get("/.well-known/jwks.json").send().await.assert_refused(Reason::NoRoute);

    let published = "- { name: keys, match: { exact-path: /.well-known/jwks.json, methods: [GET] }, assertion-keys: {} }";
    let text = config(&bed.tenant, &bed.upstream, &format!("{}\n{published}", routes()), "");
    bed.gateway.reload(&text).await;

    let answer = bed.gateway.get("/.well-known/jwks.json").send().await;
    // The key of the process lives on across the reload.
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &first.body));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    bed.gateway.request(http::Method::POST, "/.well-known/jwks.json").send().await.assert_refused(Reason::MethodNotAllowed);

    let plain = TestBed::with_orders().await;
    assert_eq!(get(plain.gateway.admin_address(), "/.well-known/jwks.json").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn replicas_with_one_key_file_agree_and_a_key_is_replaced_by_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        std::fs::write(folder.path().join(name), key.serialize_pem()).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (old, new) = (write("old.pem"), write("new.pem"));
    let more = |files: &[&str]| format!("backend-assertion: {{ issuer: entrada, private-keys: {} }}", json!(files));
    let bed = TestBed::with(&routes(), &more(&[&old])).await;
    let mut replica = Gateway::start(&config(&bed.tenant, &bed.upstream, &routes(), &more(&[&old]))).await;
    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let token = token.claim("onpremisessamaccountname", "nokafor").sign();
    let upstream = &bed.upstream;
    let last = || upstream.last().value("x-entrada-assertion").unwrap().to_owned();

    replica.get("/orders/1").bearer(&token).send().await.assert_allowed();
    let signed_by_old = last();
    checked(&signed_by_old, &keys(&bed.gateway).await, AUDIENCE).expect("the other gateway's keys are the same");

    let overlap = config(&bed.tenant, &bed.upstream, &routes(), &more(&[&new, &old]));
    replica.reload(&overlap).await;
    replica.get("/orders/1").bearer(&token).send().await.assert_allowed();
    let published = keys(&replica).await;
    assert_eq!(published.keys.len(), 2);
    assert_ne!(decode_header(last()).unwrap().kid, decode_header(&signed_by_old).unwrap().kid);
    for assertion in [last(), signed_by_old] {
        checked(&assertion, &published, AUDIENCE).expect("both hold while both are published");
    }
}

#[test]
fn mistakes_are_found_at_load() {
    let upstream = "upstreams: { backend: { servers: [\"http://127.0.0.1:3000\"] } }\ntenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }\n";
    let token = "inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [a] } ]";
    for (routes, expected) in [
        (
            "{ name: a, match: { path: /a }, anonymous: true, backend-assertion: { audience: b }, upstream: backend }".to_owned(),
            "knows nobody",
        ),
        (
            format!("{{ name: a, match: {{ path: /a }}, {token}, backend-assertion: {{ audience: '' }}, upstream: backend }}"),
            "the audience is empty",
        ),
        (
            format!(
                "{{ name: a, match: {{ path: /a }}, {token}, backend-assertion: {{ audience: b, lifetime: 1h }}, upstream: backend }}"
            ),
            "too short or too long",
        ),
        (
            format!(
                "{{ name: a, match: {{ path: /a }}, {token}, backend-assertion: {{ audience: b }}, respond: {{ status: 200 }} }}"
            ),
            "no upstream that could be told",
        ),
        (
            "{ name: a, match: { path: /a }, assertion-keys: {}, respond: { status: 200 } }".to_owned(),
            "both `respond` and `assertion-keys`",
        ),
    ] {
        let refusal = Gateway::refusal(&format!("{upstream}routes: [ {routes} ]\n"));
        assert!(refusal.contains(expected), "{routes}\nwas refused with\n{refusal}");
    }
}

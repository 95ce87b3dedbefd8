//! Faulty answers of an authority instead of its documents, before and after there are any.

use http::StatusCode;

use super::*;
use crate::entra::IssuerVerdict;
use crate::identity_http::testing::{Origin, Reply};

/// Returns the faulty answers. `ELSEWHERE` stands for an address that must not be called.
fn faults(path: &str) -> Vec<(&'static str, Fault)> {
    let on = || Fault::on(path);
    vec![
        ("unauthorized", on().status(401)),
        ("forbidden", on().status(403)),
        ("not found", on().status(404)),
        ("throttled", on().status(429).header("retry-after", "1")),
        ("failed", on().status(500)),
        ("unavailable, with a document", on().status(503).body(r#"{"keys":[]}"#)),
        ("moved", on().status(301).header("location", "ELSEWHERE")),
        ("found elsewhere", on().status(302).header("location", "ELSEWHERE")),
        ("see other", on().status(303).header("location", "ELSEWHERE")),
        ("temporary redirect", on().status(307).header("location", "ELSEWHERE")),
        ("permanent redirect", on().status(308).header("location", "ELSEWHERE")),
        ("no content", on().status(204)),
        ("partial content", on().status(206).body("{}")),
        ("nothing", on().body("")),
        ("an empty object", on().body("{}")),
        ("an empty set", on().body(r#"{"keys":[]}"#)),
        ("a list", on().body("[]")),
        ("a page", on().body("<!doctype html><title>Maintenance</title>").header("content-type", "text/html")),
        ("a page of a proxy", on().status(200).body("<html>Sign in to the network</html>")),
        ("cut off", on().body(r#"{"keys":[{"kty":"RSA","#)),
        ("broken off", on().cut()),
        ("members twice", on().body(r#"{"keys":[],"keys":[],"issuer":"a","issuer":"b"}"#)),
        ("of wrong types", on().body(r#"{"keys":{},"issuer":7,"jwks_uri":[]}"#)),
        ("two documents", on().body("{}{}")),
        ("nested deep", on().body(format!(r#"{{"keys":{}"#, "[".repeat(100_000)))),
        ("a shared secret", on().body(r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}"#)),
        ("too long", on().body(format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(3 << 20)))),
        ("too many keys", on().body(format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(1_000)))),
    ]
}

#[tokio::test]
async fn whatever_comes_instead_of_a_document_the_last_good_keys_serve() {
    let elsewhere = Origin::start(|_| Reply::status(200)).await;
    for path in ["/openid-configuration", "/keys"] {
        let scene = Scene::start().await;
        let good = scene.entra.token().sign();
        let strange = scene.entra.token().unknown_key().sign();
        for (row, fault) in faults(path) {
            let row = format!("{path}: {row}");
            scene.entra.recover();
            scene.entra.fail(aimed(fault, &elsewhere));
            scene.entra.forget_calls();

            scene.refresh().await;

            assert!(scene.judge_now(&good).is_ok(), "{row}");
            assert!(matches!(scene.judge_now(&strange), Err(VerifyError::UnknownKey)), "{row}");
            let status = scene.tenants.status(&scene.clock);
            assert!(status.iter().all(|document| document.serves && document.error.is_some()), "{row}: {status:?}");
            // One call for each document; nothing is tried twice, and keys are not asked for without metadata.
            let expected = if path == "/keys" { (2, 2) } else { (2, 0) };
            assert_eq!((scene.entra.calls("/openid-configuration"), scene.entra.calls("/keys")), expected, "{row}");
        }
        scene.entra.recover();
        scene.refresh().await;
        assert!(scene.tenants.status(&scene.clock).iter().all(|document| document.error.is_none()), "{path}");
    }
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn whatever_comes_instead_of_a_document_nobody_is_let_in_or_refused_for_good_at_first() {
    let elsewhere = Origin::start(|_| Reply::status(200)).await;
    let clock = Clock::manual(NOW);
    for path in ["/openid-configuration", "/keys"] {
        for (row, fault) in faults(path) {
            let row = format!("{path}: {row}");
            let entra = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
            entra.fail(aimed(fault, &elsewhere));
            let scene = Scene::at(entra, clock.clone(), None, None).await;
            let good = scene.entra.token().sign();

            // Not refused as an unknown key: the client would throw a good token away.
            assert!(matches!(scene.judge_now(&good), Err(VerifyError::NoKeys)), "{row}");
            scene.entra.recover();
            scene.refresh().await;
            assert!(scene.judge_now(&good).is_ok(), "{row}");
        }
    }
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
}

fn aimed(mut fault: Fault, elsewhere: &Origin) -> Fault {
    for (_, value) in &mut fault.headers {
        *value = value.replace("ELSEWHERE", elsewhere.url("/keys").as_str());
    }
    fault
}

#[tokio::test]
async fn what_is_no_key_for_signatures_is_passed_over() {
    let scene = Scene::start().await;
    let key = scene.entra.signing_key();
    let mut other = key.jwk(None);
    other["kid"] = "other".into();
    other["use"] = "enc".into();
    let listed = json!({ "keys": [
        { "kty": "AKP", "alg": "ML-DSA-65", "kid": key.kid(), "pub": "AAAA" },
        { "kty": "oct", "kid": key.kid(), "k": "AAAA" },
        { "kty": "EC", "crv": "secp256k1", "kid": key.kid(), "x": "AA", "y": "AA" },
        { "kty": "RSA", "kid": "short", "n": "AQAB", "e": "AQAB" },
        other, 7, null, {}, [], "key",
        key.jwk(None),
    ] });
    let plain = key.jwk(None);
    assert!(plain.get("alg").is_none(), "as Entra's keys are");
    scene.entra.fail(Fault::on("/keys").body(listed.to_string()));

    scene.refresh().await;

    assert!(scene.judge_now(&scene.entra.token().sign()).is_ok());
    let status = scene.tenants.status(&scene.clock);
    assert!(status.iter().all(|document| document.keys == 1 && document.error.is_none()), "{status:?}");
}

#[tokio::test]
async fn another_key_under_the_same_id_takes_the_old_ones_place() {
    let scene = Scene::start().await;
    let old = scene.entra.token().sign();
    assert!(scene.judge(&old).await.is_ok());
    let replaced = DevTenant::start(Options { own_keys: true, clock: scene.clock.clone(), ..Options::default() }).await.unwrap();
    let mut jwk = replaced.signing_key().jwk(None);
    jwk["kid"] = scene.entra.signing_key().kid().into();
    scene.entra.fail(Fault::on("/keys").body(json!({ "keys": [jwk] }).to_string()));

    scene.refresh().await;

    // Also where the token was seen before: what was verified once does not outlive the key that vouched for it.
    assert!(scene.verifier.cached(old.as_bytes(), 0, Moment::of(&scene.clock)).is_none());
    assert!(matches!(scene.judge(&old).await, Err(VerifyError::Signature)));
    let new = scene.entra.token().key(replaced.signing_key()).header("kid", scene.entra.signing_key().kid()).sign();
    assert!(scene.judge(&new).await.is_ok());
}

#[tokio::test]
async fn keys_that_have_moved_are_followed_when_a_token_names_a_new_one() {
    let scene = Scene::start().await;
    let moved = json!({
        "issuer": scene.entra.issuer_v2(&scene.entra.tenant_id()),
        "jwks_uri": format!("{}/{}/discovery/v2.0/keys?moved", scene.entra.base_url(), scene.entra.tenant_id()),
    });
    scene.entra.roll_keys();
    let new = scene.entra.token().sign();
    scene.entra.forget_calls();
    // The old place is gone; the metadata of version 2 names another one.
    scene.entra.fail(Fault::on("/keys").status(410).times(2));
    scene.entra.fail(Fault::on("/v2.0/.well-known/openid-configuration").body(moved.to_string()));

    let verdict = scene.judge(&new).await;

    assert!(verdict.is_ok(), "{verdict:?}");
    assert_eq!(scene.entra.calls("/openid-configuration"), 2);
    let asked = scene.entra.requests("/keys");
    assert_eq!(asked.iter().filter(|request| request.target.query() == Some("moved")).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn an_authority_without_version_1_has_no_tokens_of_it() {
    let clock = Clock::manual(NOW);
    for (status, expected) in
        [(StatusCode::NOT_FOUND, IssuerVerdict::OtherIssuer), (StatusCode::SERVICE_UNAVAILABLE, IssuerVerdict::NoMetadata)]
    {
        let entra = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
        entra.fail(Fault::on(&format!("/{}/.well-known", entra.tenant_id())).status(status.as_u16()));
        let scene = Scene::at(entra, clock.clone(), None, None).await;
        let judged = |token: String| scene.verifier.verify(token.as_bytes(), 0, Moment::of(&scene.clock)).unwrap().issuer;

        assert_eq!(judged(scene.entra.token().sign()), IssuerVerdict::Agrees, "{status}");
        assert_eq!(judged(scene.entra.token().v1().sign()), expected, "{status}");
    }
}

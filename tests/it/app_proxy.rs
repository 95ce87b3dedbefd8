//! Tests of the unchanged `config/app-proxy.yaml`: a backend behind Entra application proxy, and the requests that it receives.

use bytes::Bytes;
use entrada::{
    Reason,
    dev_tenant::{App, DevTenant, Options, TokenBuilder},
};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::support::{Gateway, TestBed, Upstream};

const APPLICATION: &str = "55556666-ffff-7777-aaaa-88889999aaaa";

/// Starts the example with a local tenant, backend and connectors.
async fn bed(connectors: &str, upstream: Upstream) -> TestBed {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    tenant.update_app(APPLICATION, App::own_signing_key);
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/app-proxy.yaml")).unwrap();
    let mut text = example.clone();
    let contoso = format!("{{ id: {}, authority: \"{}\" }}", tenant.tenant_id(), tenant.base_url());
    for (written, here) in [
        ("{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }", &*contoso),
        ("http://127.0.0.1:8081", &upstream.url()),
        ("127.0.0.1:8080", "127.0.0.1:0"),
        ("name: internal", "name: public"),
        ("[10.1.0.0/28]", connectors),
    ] {
        assert!(text.contains(written), "the example has no {written}");
        text = text.replace(written, here);
    }
    let gateway = Gateway::start(&text).await;
    TestBed { tenant, upstream, gateway }
}

fn legacy(bed: &TestBed, user: &str) -> TokenBuilder {
    let token = bed.tenant.token().user(user).audience("api://legacy").scopes(["user_impersonation"]).app_key(APPLICATION);
    if user == "nia" { token.claim("onpremisessamaccountname", "NOkafor") } else { token.without("onpremisessamaccountname") }
}

#[tokio::test]
async fn a_native_clients_token_comes_in_another_header() {
    let bed = bed("[127.0.0.1]", Upstream::start().await).await;
    let token = legacy(&bed, "nia").sign();

    // With or without the scheme: clients differ.
    for value in [format!("Bearer {token}"), token.clone()] {
        bed.gateway.get("/legacy/a").header("Authorization2", &value).send().await.assert_allowed();

        let received = bed.upstream.last();
        assert_eq!(received.value("authorization"), Some(&*format!("Bearer {token}")));
        assert_eq!(received.value("x-remote-user"), Some("CONTOSO\\nokafor"));
        assert!(!received.headers.contains_key("authorization2"));
    }
}

#[tokio::test]
async fn a_pages_fetch_keeps_its_authorization() {
    let bed = bed("[127.0.0.1]", Upstream::start().await).await;
    let token = legacy(&bed, "nia").sign();

    let call = bed.gateway.get("/legacy/a").bearer(&token);
    call.header("X-Remote-User", "CONTOSO\\admin").header("X_Remote_User", "CONTOSO\\admin").send().await.assert_allowed();

    let received = bed.upstream.last();
    assert_eq!(received.value("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!(received.value("x-remote-user"), Some("CONTOSO\\nokafor"));
    assert!(!received.headers.contains_key("x_remote_user"));
}

#[tokio::test]
async fn of_two_tokens_the_validated_one_alone_goes_on() {
    let bed = bed("[127.0.0.1]", Upstream::start().await).await;
    let (token, other) = (legacy(&bed, "nia").sign(), legacy(&bed, "otto").claim("onpremisessamaccountname", "admin").sign());

    bed.gateway.get("/legacy").header("Authorization2", &token).bearer(&other).send().await.assert_allowed();

    let received = bed.upstream.last();
    assert_eq!(received.value("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!(received.value("x-remote-user"), Some("CONTOSO\\nokafor"));
    assert!(!received.headers.values().any(|value| value.to_str().unwrap().contains(&other)));
}

#[tokio::test]
async fn an_account_without_a_name_and_a_token_of_the_tenants_key_are_refused() {
    let bed = bed("[127.0.0.1]", Upstream::start().await).await;

    let cloud_only = bed.gateway.get("/legacy").bearer(legacy(&bed, "otto").sign()).header("X-Remote-User", "admin").send().await;
    cloud_only.assert_refused(Reason::HeaderValueUnavailable);
    let tenants_key = bed
        .tenant
        .token()
        .user("nia")
        .audience("api://legacy")
        .scopes(["user_impersonation"])
        .key(bed.tenant.signing_key())
        .sign();
    bed.gateway.get("/legacy").bearer(&tenants_key).send().await.assert_refused(Reason::TokenKeyUnknown);

    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn easy_auths_id_token_is_validated_and_goes_no_further() {
    let bed = bed("[127.0.0.1]", Upstream::start().await).await;
    let token = || bed.tenant.token().user("nia").audience(APPLICATION).claim("onpremisessamaccountname", "nokafor");
    let id_token = token().id_token().sign();

    let call = bed.gateway.get("/portal").header("X-MS-TOKEN-AAD-ID-TOKEN", &id_token);
    let call = call.header("X-MS-CLIENT-PRINCIPAL-NAME", "admin").header("X_MS_TOKEN_AAD_ID_TOKEN", "a.b.c");
    call.send().await.assert_allowed();
    let received = bed.upstream.last();
    assert_eq!(received.value("x-remote-user"), Some("nokafor"));
    assert!(!received.headers.keys().any(|name| name.as_str().starts_with("x-ms") || name.as_str().starts_with("x_ms")));
    assert!(!received.headers.contains_key("authorization"));

    let access = token().scopes(["user_impersonation"]).sign();
    let answer = bed.gateway.get("/portal").header("X-MS-TOKEN-AAD-ID-TOKEN", &access).send().await;
    answer.assert_refused(Reason::TokenNotAccessToken);
    bed.gateway.get("/portal").bearer(&id_token).send().await.assert_refused(Reason::TokenMissing);
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn header_based_sign_on_is_believed_from_the_connector_alone() {
    let upstream = Upstream::start().await;
    let behind = bed("[127.0.0.1]", upstream).await;

    let call = behind.gateway.get("/reports").header("X-Sso-User", "nia").header("X_Sso_User", "admin");
    call.header("X-Forwarded-For", "203.0.113.7").send().await.assert_allowed();
    let received = behind.upstream.last();
    assert_eq!(received.value("x-sso-user"), Some("nia"));
    assert_eq!(received.value("x-forwarded-for"), Some("203.0.113.7"));
    assert!(!received.headers.contains_key("x_sso_user"));
    behind.gateway.get("/reports").send().await.assert_refused(Reason::HeaderCheckFailed);
    behind.gateway.get("/reports").header("X_Sso_User", "admin").send().await.assert_refused(Reason::HeaderCheckFailed);

    let elsewhere = bed("[10.1.0.0/28]", Upstream::start().await).await;
    let call = elsewhere.gateway.get("/reports").header("X-Sso-User", "nia").header("X-Forwarded-For", "10.1.0.5");
    call.send().await.assert_refused(Reason::HeaderCheckFailed);
    assert_eq!(elsewhere.upstream.requests(), 0);
}

#[tokio::test]
async fn what_authenticates_a_connection_never_crosses_the_pool() {
    let challenge = |_: &_| {
        let response = Response::builder().status(StatusCode::UNAUTHORIZED);
        let response = response.header("WWW-Authenticate", "Negotiate").header("WWW-Authenticate", "NTLM TlRMTVNTUAACAAAA");
        response.header("WWW-Authenticate", "Basic realm=\"legacy\"").body(Full::new(Bytes::new())).unwrap()
    };
    let bed = bed("[127.0.0.1]", Upstream::answering(challenge).await).await;
    let token = legacy(&bed, "nia").sign();

    for scheme in ["Negotiate YIIJvwYGKwYBBQUCoIIJszCC", "NTLM TlRMTVNTUAABAAAA", "negotiate", "ntlm x"] {
        let answer = bed.gateway.get("/legacy").header("Authorization2", &token).header("Authorization", scheme).send().await;

        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(bed.upstream.last().value("authorization"), Some(&*format!("Bearer {token}")), "{scheme}");
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(challenges, ["Basic realm=\"legacy\""], "{scheme}");

        bed.gateway.get("/reports").header("X-Sso-User", "nia").header("Authorization", scheme).send().await;
        assert_eq!(bed.upstream.last().value("authorization"), None, "{scheme}");
    }
}

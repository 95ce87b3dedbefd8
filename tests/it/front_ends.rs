//! Tests of other front ends' fields about caller, address or target: from a stranger they reach no backend.

use crate::support::TestBed;

const FORGED: &[&str] = &[
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Original-URI",
    "X-Original-Method",
    "X-Envoy-External-Address",
    "X-Envoy-Original-Path",
    "Client-IP",
    "X-ProxyUser-Ip",
    "Fastly-Client-IP",
    "x-msft-entra-identity",
    "Cf-Access-Jwt-Assertion",
    "Cf-Access-Authenticated-User-Email",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-IAP-JWT-Assertion",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "Remote-User",
    "X-Remote-User",
    "X-WEBAUTH-USER",
    "X-Authenticated-Userid",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "X-Authentik-Username",
    "X-Pomerium-Claim-Email",
    "X-Vouch-User",
    "Tailscale-User-Login",
    "OIDC_CLAIM_email",
    "Impersonate-User",
    "X-Forwarded-User",
    "SM_USER",
];

#[tokio::test]
async fn what_other_front_ends_write_reaches_no_backend_from_a_stranger() {
    let bed = TestBed::with("- { name: open, match: { path: /open }, anonymous: true, upstream: backend }", "").await;
    let mut call = bed.gateway.get("/open").header("X-Own", "1");
    for name in FORGED {
        for spelled in [(*name).to_owned(), name.replace('-', "_"), name.replace(['-', '_'], ".").to_uppercase()] {
            call = call.header(&spelled, "forged");
        }
    }

    call.send().await.assert_allowed();

    let received = bed.upstream.last();
    let forged: Vec<_> = received.headers.iter().filter(|(_, value)| *value == "forged").map(|(name, _)| name.as_str()).collect();
    assert!(forged.is_empty(), "{forged:?}");
    assert_eq!(received.value("x-own"), Some("1"));
}

#[tokio::test]
async fn no_policy_sees_them_and_peers_that_are_listed_are_believed() {
    let seen =
        "inbound: [ set-header: { name: X-Seen, value: \"@(has(request.headers['x-auth-request-user']) ? 'yes' : 'no')\" } ]";
    let routes = format!(
        "- {{ name: open, match: {{ path: /open }}, anonymous: true, {seen}, upstream: backend }}\n- {{ name: sso, match: {{ path: /sso }}, anonymous: true, trusted-headers: {{ names: [X-Auth-Request-User, Cf-Access-Authenticated-User-Email], from: [127.0.0.1] }}, {seen}, upstream: backend }}\n- {{ name: other, match: {{ path: /other }}, anonymous: true, trusted-headers: {{ names: [X-Auth-Request-User], from: [192.0.2.1] }}, {seen}, upstream: backend }}"
    );
    let bed = TestBed::with(&routes, "").await;

    for (path, user, seen) in [("/open", None, "no"), ("/sso", Some("nia"), "yes"), ("/other", None, "no")] {
        let call = bed.gateway.get(path).header("X-Auth-Request-User", "nia").header("X_Auth_Request_User", "root");
        call.send().await.assert_allowed();

        let received = bed.upstream.last();
        assert_eq!((received.value("x-auth-request-user"), received.value("x-seen")), (user, Some(seen)), "{path}");
        assert!(received.values("x_auth_request_user").is_empty());
    }
}

#[tokio::test]
async fn a_token_in_such_a_field_is_judged_like_any_other() {
    let route = "- { name: orders, match: { path: /orders }, inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], header-name: X-Amzn-Oidc-Accesstoken } ], authorization: keep, upstream: backend }";
    let bed = TestBed::with(route, "").await;
    let token = bed.user_token();

    bed.gateway.get("/orders").header("X-Amzn-Oidc-Accesstoken", &token).send().await.assert_allowed();

    assert_eq!(bed.upstream.last().value("x-amzn-oidc-accesstoken"), Some(&*token));
}

//! Tests of tokens: the admitted ones, and their treatment.

use entrada::Reason;
use http::StatusCode;
use serde_json::json;

use crate::support::{ORDERS_TOKEN, TestBed};

#[tokio::test]
async fn a_valid_token_is_let_through_and_kept() {
    let bed = TestBed::with_orders().await;
    let token = bed.user_token();

    let answer = bed.gateway.get("/orders/7?expand=lines").bearer(&token).send().await;

    answer.assert_allowed();
    assert_eq!(answer.body, "from the backend");
    let received = bed.upstream.last();
    assert_eq!(received.uri, "/orders/7?expand=lines");
    assert_eq!(received.value("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!(received.value("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.value("x-forwarded-proto"), Some("http"));
    assert_eq!(received.value("x-request-id"), answer.header("x-request-id"));
}

#[tokio::test]
async fn each_defect_is_refused_with_its_own_code_and_never_reaches_the_backend() {
    let bed = TestBed::with_orders().await;
    let token = || bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let cases = [
        (Reason::TokenMalformed, "no.token".to_owned()),
        (Reason::TokenExpired, token().expired().sign()),
        (Reason::TokenNotYetValid, token().not_yet_valid().sign()),
        (Reason::TokenAudienceNotAllowed, token().audience("api://payroll").sign()),
        (Reason::TokenSignatureInvalid, token().wrong_key().sign()),
        (Reason::TokenKeyUnknown, token().unknown_key().sign()),
        (Reason::TokenNotAccessToken, token().id_token().sign()),
        (Reason::TokenAlgorithmNotAllowed, token().algorithm("none").sign()),
        (Reason::TokenAlgorithmNotAllowed, token().algorithm("HS256").sign()),
        (Reason::ScopeMissing, token().scopes(["Orders.Write"]).sign()),
        (
            Reason::RoleMissing,
            bed.tenant.token().app("22223333-cccc-4444-dddd-5555eeee6666").audience("api://orders").roles(["Other"]).sign(),
        ),
    ];

    for (reason, token) in cases {
        bed.gateway.get("/orders").bearer(&token).send().await.assert_refused(reason);
    }
    bed.gateway.get("/orders").send().await.assert_refused(Reason::TokenMissing);

    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_missing_token_gets_a_bare_challenge_and_a_bad_one_gets_an_error() {
    let bed = TestBed::with_orders().await;

    let missing = bed.gateway.get("/orders").send().await;
    let expired = bed.gateway.get("/orders").bearer(bed.tenant.token().audience("api://orders").expired().sign()).send().await;

    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    assert!(expired.header("www-authenticate").unwrap().starts_with("Bearer error=\"invalid_token\""));
}

#[tokio::test]
async fn the_token_is_removed_unless_the_route_keeps_it() {
    let route = format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend }}");
    let bed = TestBed::with(&route, "").await;

    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();

    assert_eq!(bed.upstream.last().value("authorization"), None);
}

#[tokio::test]
async fn a_token_in_another_header_moves_to_authorization() {
    let route = "- name: legacy
  match: { path: /legacy }
  inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], header-name: [Authorization2, Authorization], scopes: [Orders.Read] } ]
  authorization: { from-header: Authorization2 }
  upstream: backend";
    let bed = TestBed::with(route, "").await;
    let token = bed.user_token();

    let answer = bed.gateway.get("/legacy").header("Authorization2", &token).header("Authorization", "Bearer other").send().await;

    answer.assert_allowed();
    let received = bed.upstream.last();
    assert_eq!(received.value("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!(received.value("authorization2"), None);
}

#[tokio::test]
async fn a_header_made_from_a_claim_is_never_the_callers_own() {
    let route = format!(
        "- name: orders
  match: {{ path: /orders }}
  inbound:
    - {ORDERS_TOKEN}
    - set-header: {{ name: X-Remote-User, value: \"@(token.claims.onpremisessamaccountname)\" }}
  upstream: backend
- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}"
    );
    let bed = TestBed::with(&route, "").await;
    let token = bed
        .tenant
        .token()
        .user("nia")
        .audience("api://orders")
        .scopes(["Orders.Read"])
        .claim("onpremisessamaccountname", "nokafor")
        .sign();
    let without = bed
        .tenant
        .token()
        .user("nia")
        .audience("api://orders")
        .scopes(["Orders.Read"])
        .without("onpremisessamaccountname")
        .sign();

    let request = bed.gateway.get("/orders").bearer(&token).header("X-Remote-User", "admin").header("x_remote_user", "admin");
    request.send().await.assert_allowed();
    let received = bed.upstream.last();
    assert_eq!(received.value("x-remote-user"), Some("nokafor"));
    assert_eq!(received.values("x_remote_user"), [""; 0]);

    bed.gateway
        .get("/orders")
        .bearer(&without)
        .header("X-Remote-User", "admin")
        .send()
        .await
        .assert_refused(Reason::HeaderValueUnavailable);
    bed.gateway.get("/open").header("X.Remote.User", "admin").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().values("x.remote.user"), [""; 0]);
}

#[tokio::test]
async fn rolled_keys_are_followed_without_a_restart() {
    let bed = TestBed::with_orders().await;
    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();

    bed.tenant.roll_keys();

    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();
}

#[tokio::test]
async fn only_a_client_that_understands_is_asked_to_step_up() {
    let policy = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], authentication-context: c1 }";
    let route = format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {policy} ], upstream: backend }}");
    let bed = TestBed::with(&route, "").await;
    let token = || bed.tenant.token().user("nia").audience("api://orders");

    let capable = bed.gateway.get("/orders").bearer(token().claim("xms_cc", json!(["cp1"])).sign()).send().await;
    let other = bed.gateway.get("/orders").bearer(token().sign()).send().await;
    let done = bed.gateway.get("/orders").bearer(token().claim("acrs", json!(["c1"])).sign()).send().await;

    assert_eq!((capable.status, other.status), (StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN));
    assert_eq!((&capable.json()["code"], &other.json()["code"]), (&json!("claims-challenge"), &json!("claims-challenge")));
    let challenge = capable.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer realm=") && challenge.contains("error=\"insufficient_claims\", claims=\""),
        "{challenge}"
    );
    assert_eq!(other.header("www-authenticate"), None);
    done.assert_allowed();
}

#[tokio::test]
async fn a_second_token_is_judged_and_read_by_its_name() {
    let device = "validate-azure-ad-token: { tenant: contoso, audiences: [api://devices], token-kind: app, roles: [Device], header-name: X-Device-Token, as: device }";
    let route = format!(
        "- name: orders
  match: {{ path: /orders }}
  inbound:
    - {ORDERS_TOKEN}
    - {device}
    - set-header: {{ name: X-Who, value: \"@(token.claims.name + ' at ' + device.client)\" }}
  authorization: keep
  upstream: backend
- name: moved
  match: {{ path: /moved }}
  inbound: [ {ORDERS_TOKEN}, {device} ]
  authorization: {{ from-header: X-Device-Token }}
  upstream: backend"
    );
    let bed = TestBed::with(&route, "").await;
    let user = bed.user_token();
    let device = "22223333-cccc-4444-dddd-5555eeee6666";
    let device_token = bed.tenant.token().app(device).audience("api://devices").roles(["Device"]).sign();

    let both = bed.gateway.get("/orders").bearer(&user).header("X-Device-Token", &device_token).send().await;
    both.assert_allowed();
    let kept = bed.upstream.last();
    let moved = bed.gateway.get("/moved").bearer(&user).header("X-Device-Token", &device_token).send().await;
    moved.assert_allowed();
    let moved = bed.upstream.last();

    assert_eq!(kept.value("x-who"), Some(&*format!("Nia Okafor at {device}")));
    assert_eq!(kept.value("authorization"), Some(&*format!("Bearer {user}")));
    assert_eq!(kept.value("x-device-token"), Some(&*device_token));
    assert_eq!(moved.value("authorization"), Some(&*format!("Bearer {device_token}")));
    assert_eq!(moved.value("x-device-token"), None);
    // Neither stands in for the other.
    bed.gateway.get("/orders").bearer(&user).send().await.assert_refused(Reason::TokenMissing);
    bed.gateway.get("/orders").header("X-Device-Token", &device_token).send().await.assert_refused(Reason::TokenMissing);
    bed.gateway
        .get("/orders")
        .bearer(&user)
        .header("X-Device-Token", &user)
        .send()
        .await
        .assert_refused(Reason::TokenAudienceNotAllowed);
    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn a_check_of_partners_vouches_for_the_token_that_it_looks_at_alone() {
    const PARTNER: &str = "22223333-cccc-4444-dddd-5555eeee6666";
    let first = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app }";
    let second = "validate-azure-ad-token: { tenant: contoso, audiences: [api://devices], header-name: X-Second, as: second }";
    let route = format!(
        "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {first}, {second}, check-partner: {{}} ], upstream: backend }}"
    );
    let partners = format!("partners: {{ fabrikam: {{ client-application-ids: [{PARTNER}] }} }}");
    let bed = TestBed::with(&route, &partners).await;
    let partners_own = bed.tenant.token().app(PARTNER).audience("api://orders").sign();
    let granted = bed.tenant.token().app(PARTNER).audience("api://devices").roles(["Device"]).sign();
    let not_granted = bed.tenant.token().app("55556666-cccc-4444-dddd-5555eeee7777").audience("api://devices").sign();

    let call = |second: &str| bed.gateway.get("/orders").bearer(&partners_own).header("X-Second", second);
    call(&granted).send().await.assert_allowed();
    call(&not_granted).send().await.assert_refused(Reason::PermissionMissing);
}

#[tokio::test]
async fn the_status_of_a_refusal_can_be_set() {
    let route = "- name: orders
  match: { path: /orders }
  inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], failed-validation-httpcode: 404, failed-validation-error-message: Nothing here. } ]
  upstream: backend";
    let bed = TestBed::with(route, "").await;

    let answer = bed.gateway.get("/orders").send().await;

    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json()["title"], "Nothing here.");
    assert_eq!(answer.json()["code"], "token-missing");
}

/// Tests the statements of docs/tokens.md about mapped claims.
#[tokio::test]
async fn each_shape_of_a_mapped_claim_has_one_outcome() {
    let token = |more: &str| {
        format!("validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read]{more} }}")
    };
    let route = |name: &str, policies: String| {
        format!("- {{ name: {name}, match: {{ path: /{name} }}, inbound: [ {policies} ], upstream: backend }}\n")
    };
    let header =
        |more: &str| format!("{}, set-header: {{ name: X-Account, value: \"@(token.claims['x.account'])\"{more} }}", token(""));
    let routes = route("named", token(", required-claims: [ { name: x.account } ]"))
        + &route("valued", token(", required-claims: [ { name: x.account, values: [nokafor] } ]"))
        + &route("header", header(""))
        + &route("skip", header(", when-absent: skip"))
        + &route("asked", format!("{}, authorize: {{ condition: \"@(has(token.claims['x.account']))\" }}", token("")));
    let bed = TestBed::with(&routes, "").await;
    let (met, refused) = ("met", "required-claim-missing");
    let unavailable = "header-value-unavailable";
    for (row, value, expected) in [
        ("absent", None, [refused, refused, unavailable, "", "not-authorized"]),
        ("null", Some(json!(null)), [refused, refused, unavailable, "", "not-authorized"]),
        ("empty", Some(json!("")), [refused, refused, unavailable, "", met]),
        ("the text", Some(json!("nokafor")), [met, met, "nokafor", "nokafor", met]),
        ("another text", Some(json!("other")), [met, refused, "other", "other", met]),
        ("a number", Some(json!(7)), [met, refused, "7", "7", met]),
        ("a boolean", Some(json!(false)), [met, refused, "false", "false", met]),
        ("a list", Some(json!(["nokafor", "x"])), [met, met, unavailable, unavailable, met]),
        ("an empty list", Some(json!([])), [refused, refused, unavailable, unavailable, met]),
        ("an object", Some(json!({ "a": "nokafor" })), [met, refused, unavailable, unavailable, met]),
        ("an empty object", Some(json!({})), [refused, refused, unavailable, unavailable, met]),
        ("a line end", Some(json!("a\r\nX-Admin: 1")), [met, refused, unavailable, unavailable, met]),
        ("a blank before it", Some(json!(" nokafor")), [met, refused, unavailable, unavailable, met]),
    ] {
        let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
        let token = value.into_iter().fold(token, |token, value| token.claim("x.account", value)).sign();

        let mut found = Vec::new();
        for route in ["named", "valued", "header", "skip", "asked"] {
            let answer = bed.gateway.get(&format!("/{route}")).bearer(&token).header("X-Account", "admin").send().await;
            found.push(match (answer.status, route) {
                (StatusCode::OK, "header" | "skip") => bed.upstream.last().value("x-account").unwrap_or_default().to_owned(),
                (StatusCode::OK, _) => met.to_owned(),
                _ => answer.json()["code"].as_str().unwrap().to_owned(),
            });
        }

        assert_eq!(found, expected, "{row}");
        assert_eq!(bed.upstream.last().values("x-admin"), [""; 0], "{row}");
    }
}

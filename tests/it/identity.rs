//! Tests of the caller's identity for the backend, which nobody else can set.

use entrada::Reason;
use http::Method;

use crate::support::{ORDERS_TOKEN, RawConnection, TestBed, config};

fn orders(headers: &str) -> String {
    format!(
        "- name: orders
  match: {{ path: /orders }}
  inbound: [ {ORDERS_TOKEN} ]
  identity-headers: {headers}
  upstream: backend
- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}"
    )
}

#[tokio::test]
async fn claims_become_headers_in_the_form_that_the_backend_wants() {
    let headers = r#"
    X-Remote-User: { value: '@("CONTOSO\\" + lower(token.claims.onpremisessamaccountname))' }
    X-Groups: { claim: groups, encoding: joined, separator: ";", when-absent: skip }
    X-Roles: { claim: wids, encoding: repeated, when-absent: skip }
    X-Address: { claim: address, encoding: json, when-absent: skip }
    X-Display-Name: { claim: name, non-ascii: percent }
    X-Department: { claim: department, default: none }"#;
    let bed = TestBed::with(&orders(headers), "").await;
    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let token = token
        .claim("onpremisessamaccountname", "NOkafor")
        .claim("groups", vec!["a", "b"])
        .claim("wids", vec!["1", "2"])
        .claim("address", serde_json::json!({ "city": "Lag\u{f3}s" }))
        .claim("name", "Nia \u{d6}kafor 100%")
        .sign();

    bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();

    let received = bed.upstream.last();
    assert_eq!(received.value("x-remote-user"), Some("CONTOSO\\nokafor"));
    assert_eq!(received.value("x-groups"), Some("a;b"));
    assert_eq!(received.values("x-roles"), ["1", "2"]);
    assert_eq!(received.value("x-address"), Some(r#"{"city":"Lag\u00f3s"}"#));
    assert_eq!(received.value("x-display-name"), Some("Nia %C3%96kafor 100%25"));
    assert_eq!(received.value("x-department"), Some("none"));
}

#[tokio::test]
async fn an_identity_header_is_never_the_callers_own() {
    let bed = TestBed::with(
        &orders("{ X-Remote-User: { claim: nickname }, X-Groups: { claim: groups, encoding: joined, when-absent: skip } }"),
        "",
    )
    .await;
    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);

    let forged = |call: crate::support::Call| {
        call.header("X_Remote_User", "root").header("X-Groups", "admins").header("x.groups", "admins")
    };
    let with = forged(bed.gateway.get("/orders").bearer(token.claim("nickname", "nia").sign())).send().await;
    with.assert_allowed();
    let received = bed.upstream.last();
    assert_eq!(received.value("x-remote-user"), Some("nia"));
    for name in ["x_remote_user", "x-groups", "x.groups"] {
        assert!(!received.headers.contains_key(name), "{name} got through");
    }

    forged(bed.gateway.get("/open")).send().await.assert_allowed();
    let received = bed.upstream.last();
    for name in ["x-remote-user", "x_remote_user", "x-groups", "x.groups"] {
        assert!(!received.headers.contains_key(name), "{name} got through");
    }

    let without = forged(bed.gateway.get("/orders").bearer(bed.user_token())).send().await;
    without.assert_refused(Reason::HeaderValueUnavailable);
    let record = bed.gateway.record(|record| record["code"] == "header-value-unavailable").await;
    assert_eq!(record["policy"], "identity-headers.x-remote-user");
    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn a_claim_that_could_break_out_of_its_header_refuses() {
    let bed = TestBed::with(&orders("{ X-Name: { claim: name } }"), "").await;
    for name in ["nia\r\nX-Remote-User: root", "nia\u{0}", "nia\u{85}", " nia"] {
        let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("name", name).sign();
        bed.gateway.get("/orders").bearer(&token).send().await.assert_refused(Reason::HeaderValueUnavailable);
    }
    assert_eq!(bed.upstream.requests(), 0);
}

/// Returns two routes to one backend; the connector of the first identifies the caller.
fn behind_connector(from: &str) -> String {
    format!(
        "- name: legacy
  match: {{ path: /legacy }}
  anonymous: true
  trusted-headers: {{ names: [X-Sso-User], from: [{from}] }}
  inbound: [ {{ authorize: {{ condition: \"@(has(request.headers['x-sso-user']) || request.path != '/legacy/own')\" }} }} ]
  upstream: backend
- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}"
    )
}

#[tokio::test]
async fn a_trusted_header_is_believed_from_its_peer_alone() {
    let mut bed = TestBed::with(&behind_connector("127.0.0.1"), "").await;
    let call = |bed: &TestBed, path: &str| {
        let call = bed.gateway.get(path).header("X-Sso-User", "nia");
        call.header("X_Sso_User", "root").header("X.Sso.User", "root").header("x-sso_user", "root")
    };

    call(&bed, "/legacy/own").send().await.assert_allowed();
    let received = bed.upstream.last();
    assert_eq!(received.value("x-sso-user"), Some("nia"));
    assert!(!received.headers.keys().any(|name| name != "x-sso-user" && name.as_str().contains("sso")), "{received:?}");

    // Another route to the same backend must not hand it on.
    call(&bed, "/open").send().await.assert_allowed();
    assert!(!bed.upstream.last().headers.keys().any(|name| name.as_str().contains("sso")));

    // What the client says of where it comes from is of no account, and neither policies nor the backend see its field.
    let text = config(&bed.tenant, &bed.upstream, &behind_connector("10.1.0.0/28"), "");
    bed.gateway.reload(&text).await;
    let answer = call(&bed, "/legacy").header("X-Forwarded-For", "10.1.0.5").send().await;
    answer.assert_allowed();
    assert!(!bed.upstream.last().headers.keys().any(|name| name.as_str().contains("sso")));
    call(&bed, "/legacy/own").send().await.assert_refused(Reason::NotAuthorized);
}

#[tokio::test]
async fn no_policy_reads_what_a_caller_writes_under_a_name_that_says_who_calls() {
    let other = "
- name: other
  match: { path: /other }
  anonymous: true
  inbound: [ { check-header: { name: X-Sso-User, values: [root] } } ]
  upstream: backend
- name: platform
  match: { path: /platform }
  anonymous: true
  inbound: [ { authorize: { condition: \"@(request.headers['x-ms-client-principal-name'] == 'root')\" } } ]
  upstream: backend";
    let bed = TestBed::with(&(behind_connector("10.1.0.0/28") + other), "").await;

    for (path, name, reason) in [
        ("/other", "X-Sso-User", Reason::HeaderCheckFailed),
        ("/other", "X_Sso_User", Reason::HeaderCheckFailed),
        ("/platform", "X-MS-CLIENT-PRINCIPAL-NAME", Reason::NotAuthorized),
    ] {
        bed.gateway.get(path).header(name, "root").send().await.assert_refused(reason);
    }
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_trusted_proxy_that_speaks_for_a_connector_is_not_the_connector() {
    let listener = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1] } ]";
    let bed = TestBed::with(&behind_connector("10.1.0.0/28"), listener).await;

    let call = bed.gateway.get("/legacy").header("X-Forwarded-For", "10.1.0.5").header("X-Sso-User", "root");
    call.send().await.assert_allowed();

    let received = bed.upstream.last();
    assert_eq!(received.value("x-forwarded-for"), Some("10.1.0.5"));
    assert!(!received.headers.contains_key("x-sso-user"));
}

#[tokio::test]
async fn where_others_share_the_connectors_addresses_its_header_tells_it_from_them() {
    let ours = "{ addresses: [127.0.0.1], require-header: { X-Azure-FDID: [5f5f0000-1111-4222-8333-abcdefabcdef] } }";
    let bed = TestBed::with(&behind_connector(ours), "").await;

    for (proof, believed) in [
        (&["5f5f0000-1111-4222-8333-abcdefabcdef"][..], true),
        (&[], false),
        (&["00000000-1111-4222-8333-abcdefabcdef"], false),
        (&["00000000-1111-4222-8333-abcdefabcdef", "5f5f0000-1111-4222-8333-abcdefabcdef"], false),
    ] {
        let call = bed.gateway.get("/legacy").header("X-Sso-User", "nia").header("X_Azure_FDID", "5f5f0000");
        proof.iter().fold(call, |call, value| call.header("X-Azure-FDID", value)).send().await.assert_allowed();

        assert_eq!(bed.upstream.last().value("x-sso-user"), believed.then_some("nia"), "{proof:?}");
    }
}

#[tokio::test]
async fn a_trusted_header_that_came_twice_is_refused() {
    let bed = TestBed::with(&behind_connector("127.0.0.1"), "").await;

    let twice = bed.gateway.get("/legacy").header("X-Sso-User", "nia").header("X-Sso-User", "root").send().await;
    twice.assert_refused(Reason::RequestHeaderInvalid);
    let mut connection = RawConnection::open(bed.gateway.address()).await;
    connection
        .send(b"POST /legacy HTTP/1.1\r\nHost: a\r\nConnection: close, X-Sso-User\r\nX-Sso-User: root\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sso-User\r\n\r\n0\r\nX-Sso-User: root\r\n\r\n")
        .await;
    let answer = connection.read_to_end().await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = bed.upstream.last();
    assert_eq!(received.method, Method::POST);
    assert!(!received.headers.contains_key("x-sso-user") && received.trailers.is_empty());
    assert_eq!(bed.upstream.requests(), 1);
}

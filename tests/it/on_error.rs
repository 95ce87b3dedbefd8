//! Tests of `on-error`: refusals and faults in a form of the config's own, while records keep what was decided.

use bytes::Bytes;
use entrada::Reason;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::support::{ORDERS_TOKEN, RawConnection, TestBed, Upstream};

fn orders(on_error: &str) -> String {
    format!(
        "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], on-error: [ {on_error} ], upstream: backend }}"
    )
}

#[tokio::test]
async fn a_refusal_has_the_form_that_the_route_gives_it() {
    let on_error = r#"set-header: { name: X-Error, value: "@(error.code + ' ' + string(error.status) + ' ' + error.policy)" },
        set-header: { name: WWW-Authenticate, exists-action: delete },
        choose: [ { when: "@(error.status == 401)", do: [ set-status: { code: 403 }, set-body: { value: "@('{\"message\": \"' + error.code + '\"}')", content-type: application/json } ] } ]"#;
    let bed = TestBed::with(&orders(on_error), "").await;

    let refused = bed.gateway.get("/orders").send().await;

    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(
        (refused.header("content-type"), &refused.body[..]),
        (Some("application/json"), &br#"{"message": "token-missing"}"#[..])
    );
    assert_eq!(refused.header("x-error"), Some("token-missing 401 inbound[0].validate-azure-ad-token"));
    assert_eq!((refused.header("www-authenticate"), refused.header("cache-control")), (None, Some("no-store")));
    let record = bed.gateway.record(|record| record["path"] == "/orders").await;
    assert_eq!((&record["code"], &record["decision"], &record["status"]), (&"token-missing".into(), &"deny".into(), &403.into()));
    assert_eq!(record["policy"], "inbound[0].validate-azure-ad-token");
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn an_answer_of_the_upstream_is_none_of_its_business() {
    let upstream = Upstream::answering(|_| {
        Response::builder().status(503).body(Full::new(Bytes::from_static(b"from the backend"))).unwrap()
    })
    .await;
    let bed =
        TestBed::around(upstream, &orders("return-response: { status: 500 }"), "on-error: [ return-response: { status: 500 } ]")
            .await;

    let answer = bed.gateway.get("/orders").bearer(bed.user_token()).send().await;

    assert_eq!((answer.status, &answer.body[..]), (StatusCode::SERVICE_UNAVAILABLE, &b"from the backend"[..]));
}

#[tokio::test]
async fn faults_and_requests_without_a_route_meet_the_global_list_first() {
    let global =
        r#"on-error: [ set-header: { name: X-Error, value: "@(error.code)" }, set-header: { name: X-Way, value: global } ]"#;
    let routes = format!(
        "{}\n- {{ name: gone, match: {{ path: /gone }}, anonymous: true, on-error: [ set-header: {{ name: X-Way, value: own }} ], upstream: nobody }}",
        orders("")
    );
    let more = format!("{global}\n");
    let tenant = entrada::dev_tenant::DevTenant::start(Default::default()).await.unwrap();
    let upstream = Upstream::start().await;
    let config = crate::support::config(&tenant, &upstream, &routes, &more)
        .replace("upstreams: {", "upstreams: { nobody: { servers: [\"http://127.0.0.1:1\"] },");
    let gateway = crate::support::Gateway::start(&config).await;

    let (none, gone) = (gateway.get("/none").send().await, gateway.get("/gone").send().await);

    none.assert_refused(Reason::NoRoute);
    assert_eq!((none.header("x-error"), none.header("x-way")), (Some("no-route"), Some("global")));
    gone.assert_refused(Reason::UpstreamUnreachable);
    assert_eq!((gone.header("x-error"), gone.header("x-way")), (Some("upstream-unreachable"), Some("own")));
}

#[tokio::test]
async fn a_value_that_is_not_there_leaves_the_refusal_as_it_is() {
    let on_error = r#"set-header: { name: X-First, value: "1" }, set-header: { name: X-Who, value: "@(token.claims.oid)" },
        return-response: { status: 200, body: "@(error.code)" }"#;
    let bed = TestBed::with(&orders(on_error), "").await;

    let refused = bed.gateway.get("/orders").send().await;

    refused.assert_refused(Reason::TokenMissing);
    assert_eq!((refused.header("x-first"), refused.header("x-who")), (Some("1"), None));
    let record = bed.gateway.record(|record| record["path"] == "/orders").await;
    assert_eq!(record["policy"], "inbound[0].validate-azure-ad-token");
}

#[tokio::test]
async fn a_replaced_refusal_is_no_success_unless_the_config_says_so() {
    let bed = TestBed::with(&orders("return-response: { headers: { Content-Type: text/plain }, body: Sorry. }"), "").await;

    let refused = bed.gateway.get("/orders").send().await;

    assert_eq!((refused.status, &refused.body[..]), (StatusCode::UNAUTHORIZED, &b"Sorry."[..]));
    assert!(refused.header("x-request-id").is_some());
}

#[tokio::test]
async fn nothing_that_a_caller_sends_becomes_a_line_of_a_refusal() {
    let on_error = r#"set-header: { name: X-Asked, value: "@(request.query.q)" }"#;
    let bed = TestBed::with(&orders(on_error), "").await;

    for q in ["a%0d%0aX-Admin:%201", "a%0aSet-Cookie:x=1"] {
        let refused = bed.gateway.get(&format!("/orders?q={q}")).send().await;
        refused.assert_refused(Reason::TokenMissing);
        assert!(["x-asked", "x-admin", "set-cookie"].iter().all(|name| refused.header(name).is_none()), "{refused:?}");
    }
    assert_eq!(bed.gateway.get("/orders?q=a").send().await.header("x-asked"), Some("a"));
}

#[tokio::test]
async fn a_request_whose_head_cannot_be_read_has_no_policies() {
    let bed = TestBed::with(&orders(""), "on-error: [ return-response: { status: 200 } ]").await;
    let mut caller = RawConnection::open(bed.gateway.address()).await;

    caller.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let answer = caller.read_to_end().await;

    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

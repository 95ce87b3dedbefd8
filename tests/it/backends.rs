//! Tests of policies that choose where a request goes and by which method it arrives there.

use entrada::Reason;
use http::Method;

use crate::support::{Gateway, TestBed, Upstream};

fn open(inbound: &str) -> String {
    format!("- {{ name: open, match: {{ path: /open }}, anonymous: true, inbound: [ {inbound} ], upstream: backend }}")
}

/// Starts a gateway with three upstreams: `backend`, `beta` and `stable`. Returns the last two besides.
async fn with_three(routes: &str) -> (TestBed, Upstream, Upstream) {
    let (backend, beta, stable) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    let tenant = entrada::dev_tenant::DevTenant::start(Default::default()).await.unwrap();
    let config = crate::support::config(&tenant, &backend, routes, "").replace(
        "upstreams: {",
        &format!("upstreams: {{ beta: {{ servers: [\"{}\"] }}, stable: {{ servers: [\"{}\"] }},", beta.url(), stable.url()),
    );
    let gateway = Gateway::start(&config).await;
    (TestBed { tenant, upstream: backend, gateway }, beta, stable)
}

#[tokio::test]
async fn a_request_goes_to_the_upstream_that_a_policy_chooses() {
    let choose = r#"choose: [ { when: "@(has(request.headers['x-beta']))", do: [ set-backend-service: { upstream: beta } ] } ]"#;
    let (bed, beta, _) = with_three(&open(choose)).await;

    bed.gateway.get("/open/1").header("X-Beta", "1").send().await.assert_allowed();
    assert_eq!((bed.upstream.requests(), beta.requests()), (0, 1));
    let record = bed.gateway.record(|record| record["path"] == "/open/1").await;
    assert_eq!((&record["upstream"], &record["server"]), (&"beta".into(), &beta.address.to_string().into()));
    bed.gateway.get("/open/2").send().await.assert_allowed();
    assert_eq!((bed.upstream.requests(), beta.requests()), (1, 1));
    let record = bed.gateway.record(|record| record["path"] == "/open/2").await;
    assert_eq!(record["upstream"], "backend");
}

#[tokio::test]
async fn an_expression_reaches_no_upstream_that_is_not_listed() {
    let policy = r#"set-backend-service: { upstream: "@(request.headers['x-ring'])", among: [beta, backend] }"#;
    let (bed, beta, stable) = with_three(&open(policy)).await;

    bed.gateway.get("/open").header("X-Ring", "beta").send().await.assert_allowed();
    let target = stable.address.to_string();
    for ring in ["stable", "Beta", "beta ,", "backend,beta", "", &target, &stable.url(), "../stable"] {
        bed.gateway.get("/open").header("X-Ring", ring).send().await.assert_refused(Reason::NotAuthorized);
    }
    bed.gateway.get("/open").send().await.assert_refused(Reason::NotAuthorized);
    assert_eq!((beta.requests(), bed.upstream.requests(), stable.requests()), (1, 0, 0));
}

#[tokio::test]
async fn a_list_of_any_of_that_refuses_has_chosen_nothing() {
    let any = "any-of: [ [ { set-backend-service: { upstream: beta } }, { check-header: { name: X-Door } } ], [ { check-header: { name: X-Window } } ] ]";
    let (bed, beta, _) = with_three(&open(any)).await;

    bed.gateway.get("/open").header("X-Window", "1").send().await.assert_allowed();

    assert_eq!((bed.upstream.requests(), beta.requests()), (1, 0));
}

#[tokio::test]
async fn a_name_that_a_route_overrides_is_reserved_at_every_upstream_that_it_may_choose() {
    let choose = r#"choose: [ { when: "@(has(request.headers['x-beta']))", do: [ set-backend-service: { upstream: beta } ] } ],
        set-header: { name: X-Stage, value: ours }"#;
    let routes = format!(
        "{}\n- {{ name: other, match: {{ path: /other }}, anonymous: true, upstream: beta }}\n- {{ name: third, match: {{ path: /third }}, anonymous: true, upstream: stable }}",
        open(choose)
    );
    let (bed, beta, stable) = with_three(&routes).await;

    bed.gateway.get("/open").header("X-Beta", "1").header("X_Stage", "forged").send().await.assert_allowed();
    assert_eq!((beta.last().values("x-stage"), beta.last().values("x_stage")), (vec!["ours"], vec![]));
    bed.gateway.get("/other").header("X-Stage", "forged").send().await.assert_allowed();
    assert!(beta.last().values("x-stage").is_empty());
    bed.gateway.get("/third").header("X-Stage", "mine").send().await.assert_allowed();
    assert_eq!(stable.last().values("x-stage"), ["mine"]);
}

#[test]
fn a_choice_without_a_closed_list_is_an_error() {
    let upstreams = "upstreams: { backend: { servers: [\"http://127.0.0.1:1\"] }, iis: { servers: [\"http://127.0.0.1:2\"], case-insensitive-paths: true } }";
    for (policy, expected) in [
        (r#"set-backend-service: { upstream: "@(request.query.to)" }"#, "could name any upstream"),
        (
            r#"set-backend-service: { upstream: "@(request.query.to)", among: [backend, nowhere] }"#,
            "there is no upstream `nowhere`",
        ),
        ("set-backend-service: { upstream: nowhere }", "there is no upstream `nowhere`"),
        ("set-backend-service: { upstream: backend, among: [backend] }", "leave `among` out"),
        ("set-backend-service: { upstream: iis }", "the route matches paths exactly"),
        ("set-method: HEAD", "is not a method to send"),
    ] {
        let refusal = Gateway::refusal(&format!("{upstreams}\nroutes:\n  {}\n", open(policy)));
        assert!(refusal.contains(expected), "{policy}: {refusal}");
    }
}

#[tokio::test]
async fn a_method_is_changed_and_the_body_is_not() {
    let policy = r#"choose: [ { when: "@(request.method == 'PUT')", do: [ set-method: POST ] }, { when: "@(has(request.query.m))", do: [ set-method: "@(request.query.m)" ] } ]"#;
    let bed = TestBed::with(&open(policy), "").await;

    bed.gateway.request(Method::PUT, "/open").body("content").send().await.assert_allowed();
    let received = bed.upstream.last();
    assert_eq!((received.method, &received.body[..]), (Method::POST, &b"content"[..]));
    bed.gateway.request(Method::PATCH, "/open").body("content").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().method, Method::PATCH);
    bed.gateway.get("/open?m=DELETE").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().method, Method::DELETE);
    // A request line is no method, and neither is one without a body or one of another hop.
    for made in ["HEAD", "TRACE", "CONNECT", "get", "", "GET%20/admin%20HTTP/1.1%0d%0aHost:a%0d%0a%0d%0aGET"] {
        bed.gateway.get(&format!("/open?m={made}")).send().await.assert_refused(Reason::NotAuthorized);
    }
    assert_eq!(bed.upstream.requests(), 3);
}

#[tokio::test]
async fn a_head_request_has_no_body_whatever_the_backend_was_asked() {
    let bed = TestBed::with(&open("set-method: POST"), "").await;

    for _ in 0..3 {
        let answer = bed.gateway.request(Method::HEAD, "/open").send().await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    }
    assert_eq!(bed.upstream.requests(), 3);
}

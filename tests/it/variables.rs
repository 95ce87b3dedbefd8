//! Tests of variables: what policies compute once and others read, on both sides of a request.

use bytes::Bytes;
use entrada::Reason;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::support::{Gateway, ORDERS_TOKEN, RawConnection, TestBed, Upstream};

fn open(inbound: &str, outbound: &str) -> String {
    format!(
        "- {{ name: open, match: {{ path: /open }}, anonymous: true, inbound: [ {inbound} ], outbound: [ {outbound} ], upstream: backend }}"
    )
}

fn orders(inbound: &str) -> String {
    format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN}, {inbound} ], upstream: backend }}")
}

#[tokio::test]
async fn a_variable_is_read_by_later_policies_on_both_sides() {
    let inbound = r#"set-variable: { name: parts, value: "@(split(request.path, '/'))" },
        set-variable: { name: leaf, value: "@(upper(last(variables.parts)))" },
        set-header: { name: X-Leaf, value: "@(variables.leaf)" }"#;
    let outbound = r#"set-variable: { name: was, value: "@(response.headers.etag + '/' + variables.leaf)" },
        set-header: { name: X-Was, value: "@(variables.was)" },
        set-header: { name: ETag, value: "@(replace(response.headers.etag, 'v', 'w'))" }"#;
    let upstream = Upstream::answering(|_| Response::builder().header("ETag", "v1").body(Full::default()).unwrap()).await;
    let bed = TestBed::around(upstream, &open(inbound, outbound), "").await;

    let answer = bed.gateway.get("/open/a/leaf").send().await;

    answer.assert_allowed();
    assert_eq!(bed.upstream.last().value("x-leaf"), Some("LEAF"));
    assert_eq!((answer.header("x-was"), answer.header("etag")), (Some("v1/LEAF"), Some("w1")));
}

#[tokio::test]
async fn a_variable_of_one_request_is_unknown_to_the_next() {
    let inbound = r#"choose: [ { when: "@(has(request.headers['x-tier']))", do: [ set-variable: { name: tier, value: "@(request.headers['x-tier'])" } ] } ],
        set-header: { name: X-Level, value: "@(has(variables.tier) ? variables.tier : 'none')" }"#;
    let bed = TestBed::with(&open(inbound, ""), "").await;

    bed.gateway.get("/open").header("X-Tier", "gold").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().value("x-level"), Some("gold"));
    bed.gateway.get("/open").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().value("x-level"), Some("none"));
}

#[tokio::test]
async fn a_variable_that_was_not_set_refuses_where_it_is_read() {
    let inbound = r#"choose: [ { when: "@(request.query.a == '1')", do: [ set-variable: { name: tier, value: gold } ] } ],
        authorize: { condition: "@(variables.tier != 'basic')" }"#;
    let bed = TestBed::with(&open(inbound, ""), "").await;

    bed.gateway.get("/open?a=1").send().await.assert_allowed();
    bed.gateway.get("/open?a=2").send().await.assert_refused(Reason::NotAuthorized);
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn a_list_of_any_of_that_refuses_leaves_no_variable_behind() {
    let inbound = r#"any-of: [ [ { set-variable: { name: way, value: first } }, { check-header: { name: X-Door } } ],
                              [ { check-header: { name: X-Window } } ] ],
        set-header: { name: X-Way, value: "@(has(variables.way) ? variables.way : 'other')" }"#;
    let bed = TestBed::with(&open(inbound, ""), "").await;

    bed.gateway.get("/open").header("X-Window", "1").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().value("x-way"), Some("other"));
    bed.gateway.get("/open").header("X-Door", "1").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().value("x-way"), Some("first"));
}

#[tokio::test]
async fn a_header_from_a_variable_of_the_token_is_reserved_like_one_from_the_token() {
    let inbound = r#"set-variable: { name: who, value: "@(token.claims.oid)" },
        set-variable: { name: name, value: "@('user-' + variables.who)" },
        set-header: { name: X-Who, value: "@(variables.name)" }"#;
    let routes = format!("{}\n{}", orders(inbound), open("", ""));
    let bed = TestBed::with(&routes, "").await;

    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("oid", "0f0f").sign();
    bed.gateway.get("/orders").bearer(token).header("X_Who", "root").send().await.assert_allowed();
    let received = bed.upstream.last();
    assert_eq!((received.values("x-who"), received.values("x_who")), (vec!["user-0f0f"], vec![]));
    // On any route: a backend cannot know by which one a request came.
    bed.gateway.get("/open").header("X-Who", "root").send().await.assert_allowed();
    assert!(bed.upstream.last().values("x-who").is_empty());
}

#[tokio::test]
async fn no_line_is_smuggled_into_a_header_through_a_variable() {
    let inbound = r#"set-variable: { name: hint, value: "@(request.query.hint)" },
        set-header: { name: X-Hint, value: "@(variables.hint)" }"#;
    let bed = TestBed::with(&open(inbound, ""), "").await;

    for hint in ["a%0d%0aX-Admin:%201", "a%0aX-Admin:1", "a%00b", "%20a", "a%e2%80%a8b%0d"] {
        bed.gateway.get(&format!("/open?hint={hint}")).send().await.assert_refused(Reason::HeaderValueUnavailable);
    }
    bed.gateway.get("/open?hint=a:%20b").send().await.assert_allowed();
    assert_eq!((bed.upstream.requests(), bed.upstream.last().value("x-hint")), (1, Some("a: b")));
}

#[tokio::test]
async fn what_variables_hold_and_functions_make_has_an_end() {
    let inbound = r#"set-variable: { name: long, value: "@(replace(request.headers['x-long'], 'x', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy'))" },
        set-variable: { name: again, value: "@(variables.long + 'z')" }"#;
    let bed = TestBed::with(&open(inbound, ""), "").await;

    bed.gateway.get("/open").header("X-Long", "x".repeat(700)).send().await.assert_allowed();
    // More than one evaluation may make, and more than all variables may hold.
    for length in [900, 2_000, 20_000] {
        let answer = bed.gateway.get("/open").header("X-Long", "x".repeat(length)).send().await;
        answer.assert_refused(Reason::HeaderValueUnavailable);
    }
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn the_request_is_told_by_its_scheme_url_and_id() {
    let inbound = r#"set-header: { name: X-Url, value: "@(request.url)" },
        set-header: { name: X-Scheme, value: "@(request.scheme)" },
        set-header: { name: X-Id, value: "@(request.id)" },
        set-header: { name: X-Return, value: "@('/login?to=' + url_encode(request.url))" }"#;
    let more = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1] } ]";
    let bed = TestBed::with(&open(inbound, ""), more).await;
    let mut caller = RawConnection::open(bed.gateway.address()).await;

    caller
        .send(b"GET /open/a?b=c%26d HTTP/1.1\r\nHost: API.contoso.example:8080\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    let answer = caller.read_answer().await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = bed.upstream.last();
    assert_eq!(received.value("x-url"), Some("https://api.contoso.example:8080/open/a?b=c%26d"));
    assert_eq!(received.value("x-scheme"), Some("https"));
    assert_eq!(received.value("x-id"), received.value("x-request-id"));
    assert_eq!(received.value("x-return"), Some("/login?to=https%3A%2F%2Fapi.contoso.example%3A8080%2Fopen%2Fa%3Fb%3Dc%2526d"));
}

#[tokio::test]
async fn an_answer_is_judged_by_its_header() {
    let outbound = r#"choose: [ { when: "@(has(response.headers['x-cache']) && response.headers['x-cache'].contains('stale'))",
        do: [ return-response: { status: 503, headers: { X-Cache: "@(response.headers['X-Cache'])" } } ] } ]"#;
    let upstream = Upstream::answering(|received| {
        let mut response = Response::new(Full::<Bytes>::default());
        if received.uri.path().ends_with("stale") {
            response.headers_mut().append("x-cache", "hit".parse().unwrap());
            response.headers_mut().append("x-cache", "stale".parse().unwrap());
        }
        response
    })
    .await;
    let bed = TestBed::around(upstream, &open("", outbound), "").await;

    bed.gateway.get("/open/fresh").send().await.assert_allowed();
    let stale = bed.gateway.get("/open/stale").send().await;
    assert_eq!((stale.status, stale.header("x-cache")), (StatusCode::SERVICE_UNAVAILABLE, Some("hit,stale")));
}

#[test]
fn what_can_never_have_a_value_is_a_mistake() {
    for (inbound, expected) in [
        ("set-header: { name: X-A, value: \"@(variables.tier)\" }", "no policy before it sets `variables.tier`"),
        ("set-header: { name: X-A, value: \"@(response.headers.etag)\" }", "there is no answer yet"),
        ("set-header: { name: X-A, value: \"@(error.code)\" }", "the expression reads `error`"),
        (
            "rate-limit-by-key: { calls: 1, renewal-period: 1s, counter-key: a, increment-condition: \"@(has(response.headers.etag))\" }",
            "which are gone when it is evaluated",
        ),
        ("set-variable: { name: who, value: \"@(token.claims.oid)\" }", "no policy before it validates one"),
    ] {
        let refusal = Gateway::refusal(&format!(
            "upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n  {}\n",
            open(inbound, "")
        ));
        assert!(refusal.contains(expected), "{inbound}: {refusal}");
    }
}

#[tokio::test]
async fn a_variable_in_a_path_stays_one_segment() {
    let inbound = r#"set-variable: { name: tier, value: "@(request.query.tier)" }, rewrite-uri: { template: "/tiers/{variables.tier}{rest}?t={variables.tier}", copy-unmatched-params: false }"#;
    let bed = TestBed::with(&open(inbound, ""), "").await;

    bed.gateway.get("/open/1?tier=a%20b%26c").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().uri, "/tiers/a%20b%26c/1?t=a%20b%26c");
    for tier in [
        "..",
        ".",
        "%2e%2e",
        "%252e%252e",
        "..%2f..%2fadmin",
        "a%2fb",
        "a%5cb",
        "a%3fb",
        "a%23b",
        "a;b",
        "a%0d%0aHost:%20evil",
        "a%00",
        "",
    ] {
        bed.gateway.get(&format!("/open/1?tier={tier}")).send().await.assert_refused(Reason::RequestTargetInvalid);
    }
    bed.gateway.get("/open/1").send().await.assert_refused(Reason::HeaderValueUnavailable);
    assert_eq!(bed.upstream.requests(), 1);
}

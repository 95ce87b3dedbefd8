//! Tests of policies that change, limit or answer requests, as callers and upstreams see them.

use bytes::Bytes;
use entrada::Reason;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use crate::support::{ORDERS_TOKEN, TestBed, Upstream, config};

fn route(inbound: &str) -> String {
    format!("- {{ name: open, match: {{ path: /open }}, anonymous: true, inbound: [ {inbound} ], upstream: backend }}")
}

fn orders(inbound: &str) -> String {
    format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN}, {inbound} ], upstream: backend }}")
}

#[tokio::test]
async fn a_claim_becomes_a_header_that_no_caller_can_make() {
    let bed =
        TestBed::with(&orders(r#"set-header: { name: X-Remote-User, value: "@(lower(token.claims.nickname))" }"#), "").await;
    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);

    let with =
        bed.gateway.get("/orders").bearer(token.claim("nickname", "NIA").sign()).header("X_Remote-User", "root").send().await;
    let without = bed.gateway.get("/orders").bearer(bed.user_token()).header("X-Remote-User", "root").send().await;

    with.assert_allowed();
    without.assert_refused(Reason::HeaderValueUnavailable);
    assert_eq!(bed.upstream.requests(), 1);
    assert_eq!(bed.upstream.last().values("x-remote-user"), ["nia"]);
    assert!(bed.upstream.last().values("x_remote-user").is_empty());
}

#[tokio::test]
async fn an_answer_can_be_replaced_by_one_of_the_gateways_own() {
    let upstream = Upstream::answering(|received| {
        let status = if received.uri.path().contains("broken") { 500 } else { 200 };
        let response = Response::builder().status(status).header("X-Powered-By", "legacy").header("Server", "legacy");
        response.body(Full::new(Bytes::from_static(b"Traceback: hunter2"))).unwrap()
    })
    .await;
    let route = r#"- name: open
  match: { path: /open }
  anonymous: true
  outbound:
    - include-fragment: plain
    - choose:
        - when: "@(response.status >= 500)"
          do:
            - return-response: { status: 503, headers: { X-Was: "@(string(response.status))" }, body: Sorry. }
            - set-header: { name: X-After, value: within }
        - otherwise: [ set-header: { name: X-Fine, value: "1" } ]
    - set-header: { name: X-Last, value: "1" }
  upstream: backend"#;
    let more = "fragments: { plain: [ set-header: { name: Server, exists-action: delete }, set-header: { name: X-Powered-By, exists-action: delete } ] }";
    let bed = TestBed::around(upstream, route, more).await;

    let broken = bed.gateway.get("/open/broken").send().await;
    assert_eq!((broken.status, &*broken.body), (StatusCode::SERVICE_UNAVAILABLE, &b"Sorry."[..]));
    assert_eq!(broken.header("x-was"), Some("500"));
    // It ends the list, and those that it stands within.
    for name in ["x-after", "x-last", "x-fine", "server", "x-powered-by"] {
        assert_eq!(broken.header(name), None, "{name}");
    }
    let record = bed.gateway.record(|record| record["path"] == "/open/broken").await;
    assert_eq!((&record["status"], &record["decision"]), (&503.into(), &"allow".into()));

    let fine = bed.gateway.get("/open/fine").send().await;
    assert_eq!((fine.status, fine.header("x-fine"), fine.header("x-last")), (StatusCode::OK, Some("1"), Some("1")));
    assert_eq!((fine.header("server"), fine.header("x-powered-by")), (None, None));
}

#[test]
fn a_fragment_that_judges_requests_cannot_stand_among_the_policies_on_the_answer() {
    let route = "routes: [ { name: a, match: { path: /a }, anonymous: true, outbound: [ include-fragment: f ], respond: { status: 200 } } ]";
    let refusal = crate::support::Gateway::refusal(&format!("{route}\nfragments: {{ f: [ check-header: {{ name: X-A }} ] }}\n"));
    assert!(refusal.contains("has `check-header`, which is for requests"), "{refusal}");
}

#[tokio::test]
async fn too_many_calls_are_refused_also_after_a_reload() {
    let limit = r#"rate-limit-by-key: { calls: 2, renewal-period: 60s, counter-key: "@(route.name + caller.address)" }"#;
    let mut bed = TestBed::with(&route(limit), "").await;

    let first = bed.gateway.get("/open").send().await;
    first.assert_allowed();
    assert_eq!(first.header("ratelimit-policy"), Some("\"rate-60s\";q=2;w=60"));
    assert_eq!(first.header("ratelimit"), Some("\"rate-60s\";r=1;t=60"));
    bed.gateway.get("/open").send().await.assert_allowed();
    let text = config(&bed.tenant, &bed.upstream, &route(limit), "drain-timeout: 1s");
    bed.gateway.reload(&text).await;
    let third = bed.gateway.get("/open").send().await;

    third.assert_refused(Reason::RateLimitExceeded);
    let wait: u64 = third.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(third.header("ratelimit").unwrap().contains("r=0"));
    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn only_what_the_condition_on_the_answer_says_is_counted() {
    let upstream = Upstream::answering(|received| {
        let status = if received.uri.path().contains("missing") { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = status;
        response
    })
    .await;
    let limit = r#"rate-limit-by-key: { calls: 1, renewal-period: 60s, counter-key: all, increment-condition: "@(response.status == 404)" }"#;
    let bed = TestBed::around(upstream, &route(limit), "").await;

    for _ in 0..3 {
        bed.gateway.get("/open/there").send().await.assert_allowed();
    }
    assert_eq!(bed.gateway.get("/open/missing").send().await.status, StatusCode::NOT_FOUND);
    // A call is counted when its answer has ended, which is when its record is written.
    bed.gateway.record(|record| record["status"] == 404).await;

    bed.gateway.get("/open/there").send().await.assert_refused(Reason::RateLimitExceeded);
}

#[tokio::test]
async fn a_used_up_quota_refuses() {
    let bed = TestBed::with(&route("quota-by-key: { calls: 1, renewal-period: 30d, counter-key: all }"), "").await;

    bed.gateway.get("/open").send().await.assert_allowed();
    let second = bed.gateway.get("/open").send().await;

    second.assert_refused(Reason::QuotaExceeded);
    assert!(second.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_call_under_way_holds_its_place_until_its_body_has_ended() {
    let bed = TestBed::with(&route("limit-concurrency: { max-count: 1, key: all }"), "").await;

    for _ in 0..3 {
        bed.gateway.get("/open").send().await.assert_allowed();
        bed.gateway.record(|record| record["status"] == 200).await;
    }

    assert_eq!(bed.upstream.requests(), 3);
}

#[tokio::test]
async fn the_first_branch_that_holds_runs() {
    let choose = r#"choose: [ { when: "@(request.method == 'GET')", do: [ set-header: { name: X-Way, value: read } ] }, { when: "@(request.query.force == 'yes')", do: [ set-header: { name: X-Way, value: forced } ] }, { otherwise: [ return-response: { status: 418, headers: { X-Why: "@(request.method)" }, body: stop } ] } ]"#;
    let bed = TestBed::with(&route(choose), "").await;

    bed.gateway.get("/open").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().value("x-way"), Some("read"));
    bed.gateway.request(Method::PUT, "/open?force=yes").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().value("x-way"), Some("forced"));
    let answered = bed.gateway.request(Method::PUT, "/open?force=no").send().await;
    assert_eq!((answered.status.as_u16(), answered.header("x-why"), &answered.body[..]), (418, Some("PUT"), &b"stop"[..]));
    // A condition that cannot be judged is no reason to take a weaker branch.
    bed.gateway.request(Method::PUT, "/open").send().await.assert_refused(Reason::NotAuthorized);

    assert_eq!(bed.upstream.requests(), 2);
    let record = bed.gateway.record(|record| record["status"] == 418).await;
    assert_eq!(record["policy"], "inbound[0].choose[2].otherwise[0].return-response");
}

#[tokio::test]
async fn any_of_takes_the_first_list_that_admits() {
    let inbound = r#"any-of: [ [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: user, scopes: [Orders.Read] } ], [ set-header: { name: X-Tried, value: second }, validate-azure-ad-token: { tenant: contoso, audiences: [api://batch], token-kind: app, roles: [Run] }, authorize: { condition: "@(token.kind == 'app')" } ] ], set-header: { name: X-Kind, value: "@(token.kind)" }"#;
    let routes = format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {inbound} ], upstream: backend }}");
    let bed = TestBed::with(&routes, "").await;
    let daemon = bed.tenant.token().app("22223333-cccc-4444-dddd-5555eeee6666").audience("api://batch").roles(["Run"]).sign();

    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();
    assert_eq!((bed.upstream.last().value("x-kind"), bed.upstream.last().value("x-tried")), (Some("user"), None));
    bed.gateway.get("/orders").bearer(daemon).send().await.assert_allowed();
    assert_eq!((bed.upstream.last().value("x-kind"), bed.upstream.last().value("x-tried")), (Some("app"), Some("second")));

    let expired = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).expired().sign();
    bed.gateway.get("/orders").bearer(expired).send().await.assert_refused(Reason::TokenExpired);
    bed.gateway.get("/orders").send().await.assert_refused(Reason::TokenMissing);
    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn an_authorization_may_have_a_code_of_its_own() {
    let inbound = r#"authorize: { condition: "@(token.kind == 'app')", code: daemons-only, message: Daemons only. }"#;
    let bed = TestBed::with(&orders(inbound), "").await;

    let answer = bed.gateway.get("/orders").bearer(bed.user_token()).send().await;

    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!((&answer.json()["code"], &answer.json()["title"]), (&"daemons-only".into(), &"Daemons only.".into()));
    let record = bed.gateway.record(|record| record["code"] == "daemons-only").await;
    assert_eq!(record["decision"], "deny");
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn pages_of_an_allowed_origin_may_ask_and_read_refusals() {
    let cors =
        "cors: { allowed-origins: [https://app.contoso.example], allowed-methods: [GET], allowed-headers: [Authorization] }";
    let routes = format!(
        "- {{ name: orders, match: {{ path: /orders, methods: [GET] }}, inbound: [ {cors}, {ORDERS_TOKEN} ], upstream: backend }}"
    );
    let upstream = Upstream::answering(|_| {
        let response = Response::builder().header("access-control-allow-origin", "*").header("vary", "accept");
        response.body(Full::new(Bytes::new())).unwrap()
    })
    .await;
    let bed = TestBed::around(upstream, &routes, "").await;
    let origin = "https://app.contoso.example";
    let ask = |origin: &'static str, method: &'static str| {
        let call = bed.gateway.request(Method::OPTIONS, "/orders").header("Origin", origin);
        call.header("Access-Control-Request-Method", method).header("Access-Control-Request-Headers", "authorization").send()
    };

    let asked = ask(origin, "GET").await;
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (StatusCode::OK, Some(origin)));
    assert_eq!(ask("https://evil.example", "GET").await.header("access-control-allow-origin"), None);
    ask(origin, "PUT").await.assert_refused(Reason::MethodNotAllowed);
    assert_eq!(bed.upstream.requests(), 0);

    let refused = bed.gateway.get("/orders").header("Origin", origin).send().await;
    refused.assert_refused(Reason::TokenMissing);
    assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
    let allowed = bed.gateway.get("/orders").header("Origin", origin).bearer(bed.user_token()).send().await;
    assert_eq!(allowed.headers.get_all("access-control-allow-origin").iter().collect::<Vec<_>>(), [origin]);
    assert_eq!(allowed.headers.get_all("vary").iter().count(), 2);
    let other = bed.gateway.get("/orders").header("Origin", "https://evil.example").bearer(bed.user_token()).send().await;
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn one_field_can_have_several_lines_in_an_answer_of_the_gateways_own() {
    let own = r#"{ status: 302, headers: { Location: "@('/login?to=' + url_encode(request.path))", Set-Cookie: [a=1, "@('b=' + request.method)"] } }"#;
    let routes = format!(
        "{}\n- {{ name: own, match: {{ path: /own }}, anonymous: true, respond: {own} }}",
        route(&format!("return-response: {own}"))
    );
    let bed = TestBed::with(&routes, "").await;

    for path in ["/open/a%20b", "/own/a%20b"] {
        let answer = bed.gateway.get(path).send().await;

        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((answer.status, cookies), (StatusCode::FOUND, vec!["a=1", "b=GET"]));
        assert_eq!(answer.header("location"), Some(&*format!("/login?to={}", path.replace('/', "%2F").replace("%20", "%2520"))));
    }
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_filter_of_the_peer_is_not_told_who_calls() {
    let filters =
        "ip-filter: { action: allow, addresses: [127.0.0.0/8], of: peer }, ip-filter: { action: forbid, addresses: [192.0.2.7] }";
    let more = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1] } ]";
    let bed = TestBed::with(&route(filters), more).await;

    bed.gateway.get("/open").header("X-Forwarded-For", "203.0.113.9").send().await.assert_allowed();
    bed.gateway.get("/open").header("X-Forwarded-For", "192.0.2.7").send().await.assert_refused(Reason::CallerAddressNotAllowed);

    let bed = TestBed::with(&route("ip-filter: { action: forbid, addresses: [127.0.0.1], of: peer }"), more).await;
    let claimed = bed.gateway.get("/open").header("X-Forwarded-For", "203.0.113.9").send().await;
    claimed.assert_refused(Reason::CallerAddressNotAllowed);
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_status_is_changed_on_the_way_out_and_the_length_stays_true() {
    let upstream = Upstream::answering(|received| {
        let status = if received.uri.path().ends_with("same") { 304 } else { 200 };
        Response::builder().status(status).header("ETag", "v1").body(Full::new(Bytes::from_static(b"hello"))).unwrap()
    })
    .await;
    let routes =
        "- { name: open, match: { path: /open }, anonymous: true, outbound: [ set-status: { code: 202 } ], upstream: backend }
- { name: none, match: { path: /none }, anonymous: true, outbound: [ set-status: { code: 204 } ], upstream: backend }";
    let bed = TestBed::around(upstream, routes, "").await;
    let mut caller = crate::support::RawConnection::open(bed.gateway.address()).await;

    for (path, status, body) in
        [("/open", "202", "hello"), ("/open/same", "202", ""), ("/none", "204", ""), ("/open", "202", "hello")]
    {
        caller.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        let answer = caller.read_answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }
}

#[tokio::test]
async fn the_global_list_on_answers_runs_on_every_route_and_first() {
    let routes = "- { name: open, match: { path: /open }, anonymous: true, outbound: [ set-header: { name: X-Way, value: own } ], upstream: backend }
- { name: own, match: { path: /own }, anonymous: true, respond: { status: 200 } }";
    let more = "outbound: [ set-header: { name: X-Way, value: global }, set-header: { name: X-Frame-Options, value: DENY } ]";
    let bed = TestBed::with(routes, more).await;

    let (open, own) = (bed.gateway.get("/open").send().await, bed.gateway.get("/own").send().await);

    assert_eq!((open.header("x-way"), open.header("x-frame-options")), (Some("own"), Some("DENY")));
    assert_eq!((own.header("x-way"), own.header("x-frame-options")), (Some("global"), Some("DENY")));
}

#[test]
fn a_fault_of_a_global_list_is_told_once() {
    let routes: String = (0..3)
        .map(|index| {
            format!("  - {{ name: r{index}, match: {{ path: /{index} }}, anonymous: true, respond: {{ status: 200 }} }}\n")
        })
        .collect();
    let refusal = crate::support::Gateway::refusal(&format!(
        "routes:\n{routes}outbound: [ set-status: {{ code: 99 }} ]\non-error: [ set-header: {{ name: X-A, value: \"@(error.reason)\" }} ]\n"
    ));
    assert_eq!(refusal.matches("99 is not a status").count(), 1, "{refusal}");
    assert_eq!(refusal.matches("`error` has no field `reason`").count(), 1, "{refusal}");
}

#[test]
fn policies_on_answers_have_no_place_before_there_is_one() {
    for (policy, expected) in
        [("set-status: { code: 404 }", "there is none yet"), ("set-body: { value: x }", "there is none yet")]
    {
        let refusal = crate::support::Gateway::refusal(&format!(
            "upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n  {}\n",
            route(policy)
        ));
        assert!(refusal.contains(expected), "{policy}: {refusal}");
    }
    let refusal = crate::support::Gateway::refusal(
        "routes: [ { name: a, match: { path: /a }, anonymous: true, outbound: [ set-body: { value: x } ], respond: { status: 200 } } ]\n",
    );
    assert!(refusal.contains("only that of a refusal can be set"), "{refusal}");
}

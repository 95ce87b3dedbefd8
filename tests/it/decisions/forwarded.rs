//! Every dialect: what is admitted, what is refused, and what no client can get past it.

use super::{Asks, Bed, DIALECTS, orders};

#[tokio::test]
async fn an_admitted_request_gets_its_identity_and_loses_what_the_client_wrote() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        let asks = Asks::get("/orders/1?x=%2F").bearer(&bed.token()).field("X-User", "evil").field("x-user", "more");

        let decided = bed.ask(dialect, &asks).await;

        decided.assert_admitted();
        assert!(decided.set["x-user"].len() == 36, "{dialect}: {decided:?}");
        // Envoy has it already, and is told of changes alone.
        let told = decided.set.get("x-forwarded-for").map(String::as_str);
        assert!(told == Some("203.0.113.7") || told.is_none() && dialect.starts_with("envoy"), "{dialect}: {decided:?}");
        assert_eq!(decided.set["x-forwarded-host"], "api.contoso.example", "{dialect}");
        let id = decided.set.get("x-request-id").unwrap();
        let record = bed.gateway.record(|record| record["request_id"] == id.as_str()).await;
        for (member, expected) in [
            ("decision", "allow"),
            ("dialect", dialect),
            ("listener", dialect),
            ("route", "orders"),
            ("caller", "203.0.113.7"),
            ("address_source", "question"),
            ("source", "203.0.113.7"),
            ("method", "GET"),
            ("host", "api.contoso.example"),
            ("path", "/orders/1"),
        ] {
            assert_eq!(record[member], expected, "{dialect}: {member} of {record}");
        }
        assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        // `authorization: remove`: the proxy takes it away, since its list has the name or the answer says so.
        let gone = if dialect.starts_with("envoy") { decided.removed.contains(&"authorization".to_owned()) } else { true };
        assert!(gone && !decided.set.contains_key("authorization"), "{dialect}: {decided:?}");
    }
    assert_eq!(bed.upstream.requests(), 0, "nothing is proxied");
}

#[tokio::test]
async fn a_refusal_goes_to_the_client_as_its_proxy_can_tell_it() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        let decided = bed.ask(dialect, &Asks::get("/orders/1")).await;
        decided.assert_refused(401, "token-missing");
        assert_eq!(decided.header("www-authenticate"), Some("Bearer"), "{dialect}");
        assert_eq!(decided.header("content-type"), Some("application/problem+json"), "{dialect}");
        assert!(decided.header("x-user").is_none() && decided.header("x-request-id").is_some(), "{dialect}: {decided:?}");

        let decided = bed.ask(dialect, &Asks::get("/nothing")).await;
        decided.assert_refused(if dialect == "nginx" { 403 } else { 404 }, "no-route");
        if dialect == "nginx" {
            assert_eq!((decided.header("x-entrada-code"), decided.header("x-entrada-status")), (Some("no-route"), Some("404")));
        }
    }
    let decided = bed.ask("envoy-grpc", &Asks::get("/orders/1")).await;
    assert_eq!(decided.rpc, 16);
}

#[tokio::test]
async fn a_route_that_is_not_listed_is_refused_by_name() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        bed.ask(dialect, &Asks::get("/other")).await.assert_refused(403, "route-not-decided");
    }
    bed.gateway.get("/other").header("Host", "api.contoso.example").send().await.assert_allowed();
}

#[tokio::test]
async fn a_route_that_is_decided_alone_is_none_of_the_listener_that_serves() {
    let bed = Bed::with(&orders("decide-only: true"), "carry-tokens: false", "").await;
    for dialect in DIALECTS {
        bed.ask(dialect, &Asks::get("/orders/1").bearer(&bed.token())).await.assert_admitted();
    }

    let answer = bed.gateway.get("/orders/1").header("Host", "api.contoso.example").bearer(bed.token()).send().await;

    answer.assert_refused(entrada::Reason::NoRoute);
}

/// The spellings that a backend of CGI takes for one header: none of a client's gets to it.
#[tokio::test]
async fn identity_in_any_spelling_does_not_come_from_the_client() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        for spelling in ["X-User", "x_user", "X.User"] {
            let decided = bed.ask(dialect, &Asks::get("/orders/1").bearer(&bed.token()).field(spelling, "evil")).await;

            let lower = spelling.to_ascii_lowercase();
            if decided.admitted {
                assert_ne!(decided.set.get("x-user").map(String::as_str), Some("evil"), "{dialect} {spelling}");
                assert!(lower == "x-user" || decided.removed.contains(&lower), "{dialect} {spelling}: {decided:?}");
            } else {
                // A proxy that changes the names of its list alone cannot take this one away.
                assert!(!dialect.starts_with("envoy"), "{dialect} {spelling}: {decided:?}");
                assert_eq!(decided.code(), "request-header-invalid", "{dialect} {spelling}");
            }
        }
    }
}

/// An absent claim must not leave the client's value standing: the name is removed.
#[tokio::test]
async fn a_header_without_a_value_is_removed() {
    let route = orders("decide-only: true").replace("{ claim: oid }", "{ claim: absent, when-absent: skip }");
    let bed = Bed::with(&route, "carry-tokens: false", "").await;
    for dialect in DIALECTS {
        let decided = bed.ask(dialect, &Asks::get("/orders/1").bearer(&bed.token()).field("X-User", "evil")).await;

        decided.assert_admitted();
        assert!(!decided.set.contains_key("x-user"), "{dialect}: {decided:?}");
        for spelling in ["x-user", "x_user"] {
            assert!(!dialect.starts_with("envoy") || decided.removed.contains(&spelling.to_owned()), "{dialect}: {decided:?}");
        }
    }
}

#[tokio::test]
async fn two_tokens_are_none() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        let asks = Asks::get("/orders/1").bearer(&bed.token()).bearer("a.b.c");
        let status = if dialect == "nginx" { 403 } else { 400 };
        bed.ask(dialect, &asks).await.assert_refused(status, "token-ambiguous");

        // As a proxy merges them.
        let merged = Asks::get("/orders/1").field("authorization", format!("Bearer {},Bearer a.b.c", bed.token()));
        bed.ask(dialect, &merged).await.assert_refused(status, "token-ambiguous");
    }
}

/// Targets that the proxy, the decision and the backend could read as different ones.
#[tokio::test]
async fn a_target_with_two_readings_is_refused() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        for target in [
            "/orders/../other",
            "/orders/%2e%2e/other",
            "/orders/..;/other",
            "/orders%2fother",
            "/orders%5c..%5cother",
            "/orders//1",
            "/orders/%zz",
            "/orders/;a=b",
            "/orders/%00",
        ] {
            let decided = bed.ask(dialect, &Asks::get(target).bearer(&bed.token())).await;
            let status = if dialect == "nginx" { 403 } else { 400 };
            decided.assert_refused(status, "request-target-invalid");
        }
    }
}

#[tokio::test]
async fn methods_that_are_never_served_are_never_admitted() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        for method in ["TRACE", "TRACK", "CONNECT", "get", "PURGE"] {
            let mut asks = Asks::get("/orders/1").bearer(&bed.token());
            asks.method = method.to_owned();
            // A request line of CONNECT has no path, so that a question in that form is none of HTTP.
            if dialect == "envoy-http" && method == "CONNECT" {
                continue;
            }
            let decided = bed.ask(dialect, &asks).await;
            assert!(!decided.admitted, "{dialect} {method}: {decided:?}");
            assert!(["method-not-allowed", "no-route"].contains(&&*decided.code()), "{dialect} {method}: {decided:?}");
        }
    }
}

/// The five fields are the proxy's: a second line of one, as a client's would be beside it, decides nothing.
#[tokio::test]
async fn a_question_that_says_something_twice_is_refused() {
    let bed = Bed::usual().await;
    for dialect in ["traefik", "caddy", "nginx"] {
        for (name, value) in [
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Uri", "/orders/1"),
            ("X-Forwarded-Host", "api.contoso.example"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-For", "203.0.113.7"),
        ] {
            let decided = bed.ask(dialect, &Asks::get("/orders/1").bearer(&bed.token()).beside(name, value)).await;
            let status = if dialect == "nginx" { 403 } else { 400 };
            decided.assert_refused(status, "request-header-invalid");
        }
    }
}

/// The fields by which other proxies ask decide nothing, and a question that has one is not taken for what it was not.
#[tokio::test]
async fn questions_of_another_dialect_are_refused() {
    let bed = Bed::usual().await;
    for dialect in ["traefik", "caddy", "nginx"] {
        for name in ["X-Original-URL", "X-Original-URI", "X-Original-Method", "X-Rewrite-URL", "Forwarded"] {
            let decided = bed.ask(dialect, &Asks::get("/other").field(name, "/orders/1").bearer(&bed.token())).await;
            let status = if dialect == "nginx" { 403 } else { 400 };
            decided.assert_refused(status, "request-header-invalid");
        }
    }
    for dialect in ["envoy-grpc", "envoy-http"] {
        // There they are the client's own, which are not read, and go no further.
        let asks =
            Asks::get("/orders/1").bearer(&bed.token()).field("X-Original-URL", "/other").field("X-Forwarded-Uri", "/other");
        let decided = bed.ask(dialect, &asks).await;
        decided.assert_admitted();
        for name in ["x-original-url", "x-forwarded-uri"] {
            assert!(decided.removed.contains(&name.to_owned()), "{dialect}: {decided:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_question_is_answered_as_none() {
    let bed = Bed::usual().await;
    let ask = async |dialect: &str, question: &str| {
        let mut connection = crate::support::RawConnection::open(bed.gateway.server().address(dialect).unwrap()).await;
        connection.send(question.as_bytes()).await;
        connection.read_to_end().await
    };
    let five = "X-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: api.contoso.example\r\n\
                X-Forwarded-Uri: /orders/1\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n";
    for (dialect, line) in [
        ("traefik", "GET /other HTTP/1.1"),
        ("traefik", "GET /decide?x-forwarded-uri=/other HTTP/1.1"),
        ("traefik", "DELETE /decide HTTP/1.1"),
        ("caddy", "GET /decide?a=b HTTP/1.1"),
        ("nginx", "GET / HTTP/1.1"),
        ("envoy-http", "GET /orders/1 HTTP/1.1"),
        ("envoy-http", "GET /decide HTTP/1.1"),
    ] {
        let answer = ask(dialect, &format!("{line}\r\nHost: a.example\r\n{five}\r\n")).await;
        let status = if dialect == "nginx" { "HTTP/1.1 403 " } else { "HTTP/1.1 400 " };
        assert!(answer.starts_with(status) && answer.contains("request-header-invalid"), "{dialect} {line}: {answer}");
    }
    let with_body = format!("GET /decide HTTP/1.1\r\nHost: a.example\r\n{five}Content-Length: 2\r\n\r\n{{}}");
    assert!(ask("traefik", &with_body).await.contains("request-framing-invalid"));
    // A plain request to the listener of gRPC.
    let answer = ask("envoy-grpc", "GET /orders/1 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("grpc-status: 3"), "{answer}");
}

/// A rate limit counts each question once, and is told as far as the proxy can tell it.
#[tokio::test]
async fn limits_count_once_a_question() {
    let limit = "rate-limit-by-key: { calls: 2, renewal-period: 1h, counter-key: \"@(route.name + caller.address)\" }";
    let route = format!("- {{ name: open, match: {{ path: /open }}, anonymous: true, inbound: [ {limit} ], decide-only: true }}");
    let bed = Bed::with(&route, "carry-tokens: false", "").await;
    for (at, dialect) in DIALECTS.into_iter().enumerate() {
        let mut asks = Asks::get("/open");
        asks.from = format!("203.0.113.{at}");
        for _ in 0..2 {
            let decided = bed.ask(dialect, &asks).await;
            decided.assert_admitted();
            if dialect == "envoy-grpc" {
                assert!(decided.informs.contains_key("ratelimit"), "{decided:?}");
            }
        }
        let decided = bed.ask(dialect, &asks).await;
        decided.assert_refused(if dialect == "nginx" { 403 } else { 429 }, "rate-limit-exceeded");
        assert!(decided.header("retry-after").is_some(), "{dialect}: {decided:?}");
    }
}

/// A refusal stays one, even if a policy gives it the status of a success.
#[tokio::test]
async fn a_refusal_that_a_policy_calls_a_success_is_none() {
    let route =
        orders("decide-only: true, on-error: [ set-status: { code: 200 }, set-header: { name: X-Refused, value: \"yes\" } ]");
    let bed = Bed::with(&route, "carry-tokens: false", "").await;
    for dialect in DIALECTS {
        let decided = bed.ask(dialect, &Asks::get("/orders/1")).await;
        assert!(!decided.admitted && decided.status == 403, "{dialect}: {decided:?}");
        assert_eq!(decided.header("x-refused"), Some("yes"), "{dialect}");
    }
}

#[tokio::test]
async fn a_websocket_opens_where_the_route_allows_it() {
    for (upgrades, admitted) in [("", false), (", upgrades: [websocket]", true)] {
        let bed = Bed::with(&orders(&format!("decide-only: true{upgrades}")), "carry-tokens: false", "").await;
        let asks = Asks::get("/orders/1").bearer(&bed.token()).field("connection", "upgrade").field("upgrade", "websocket");
        let decided = bed.ask("envoy-grpc", &asks).await;
        assert_eq!(decided.admitted, admitted, "{decided:?}");
        if !admitted {
            decided.assert_refused(403, "route-not-decided");
        }
        // Over HTTP/2 Envoy tells it alike.
        let decided = bed.ask("envoy-grpc", &Asks { protocol: "HTTP/2".to_owned(), ..asks }).await;
        assert_eq!(decided.admitted, admitted, "{decided:?}");
    }
}

#[tokio::test]
async fn a_value_at_the_limit_passes_and_a_longer_one_does_not() {
    let bed = Bed::usual().await;
    for dialect in DIALECTS {
        let with = |length: usize| Asks::get("/orders/1").bearer(&bed.token()).field("x-long", "a".repeat(length));
        bed.ask(dialect, &with(40_000)).await.assert_admitted();
    }
    let decided = bed.ask("traefik", &Asks::get("/orders/1").field("x-long", "a".repeat(70_000))).await;
    assert_eq!(decided.status, 431, "{decided:?}");
}

/// A claim with a line break in it reaches no proxy: one of them would write it to the client as it is.
#[tokio::test]
async fn a_claim_with_a_line_break_refuses() {
    let route = orders("decide-only: true").replace("{ claim: oid }", "{ claim: nickname }");
    let bed = Bed::with(&route, "carry-tokens: false", "").await;
    let token = bed
        .tenant
        .token()
        .user("nia")
        .audience("api://orders")
        .scopes(["Orders.Read"])
        .claim("nickname", "nia\r\nX-Admin: 1")
        .sign();
    for dialect in DIALECTS {
        bed.ask(dialect, &Asks::get("/orders/1").bearer(&token)).await.assert_refused(403, "header-value-unavailable");
    }
}

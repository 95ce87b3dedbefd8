//! Tests of unsupported methods, and of `OPTIONS *`.

use crate::support::{RawConnection, TestBed};

const ROUTES: &str = "- { name: read, match: { path: /read, methods: [GET] }, anonymous: true, upstream: backend }
- { name: write, match: { path: /read, methods: [POST] }, anonymous: true, upstream: backend }
- { name: named, match: { hosts: [api.contoso.example], path: /named, methods: [REPORT] }, anonymous: true, upstream: backend }";

async fn ask(bed: &TestBed, request: &str) -> String {
    let mut connection = RawConnection::open(bed.gateway.address()).await;
    connection.send(request.as_bytes()).await;
    connection.end().await;
    connection.read_to_end().await
}

fn allow(answer: &str) -> Option<&str> {
    answer.lines().find_map(|line| line.strip_prefix("allow: "))
}

#[tokio::test]
async fn every_405_says_what_is_allowed() {
    let bed = TestBed::with(ROUTES, "").await;
    for (request, expected) in [
        ("TRACE /read HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST"),
        ("TRACK /read/more HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST"),
        ("DELETE /read HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST"),
        ("OPTIONS /read HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST"),
        ("INVENTED /read HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST"),
        ("TRACE /named HTTP/1.1\r\nHost: api.contoso.example\r\n\r\n", "REPORT"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("CONNECT /read HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
    ] {
        let answer = ask(&bed, request).await;

        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{request}: {answer}");
        assert!(answer.contains("\"code\":\"method-not-allowed\""), "{request}: {answer}");
        assert_eq!(allow(&answer), Some(expected), "{request}");
    }
    for method in ["TRACE", "TRACK", "GET"] {
        let answer = ask(&bed, &format!("{method} /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")).await;

        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("\"code\":\"no-route\""), "{method}: {answer}");
    }
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_trace_shows_nobody_the_callers_headers() {
    let bed = TestBed::with(ROUTES, "").await;

    let answer =
        ask(&bed, "TRACE /read HTTP/1.1\r\nHost: a\r\nCookie: a=very-own\r\nAuthorization: Bearer very-own\r\n\r\n").await;

    assert!(!answer.contains("very-own"), "{answer}");
    let record = bed.gateway.record(|record| record["code"] == "method-not-allowed").await;
    assert_eq!((&record["method"], &record["path"]), (&"TRACE".into(), &"/read".into()), "{record}");
}

#[tokio::test]
async fn options_of_the_server_is_answered_by_the_gateway() {
    let bed = TestBed::with(ROUTES, "").await;
    for (request, expected) in [
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "GET, HEAD, POST"),
        ("OPTIONS * HTTP/1.1\r\nHost: api.contoso.example\r\n\r\n", "REPORT"),
        ("OPTIONS * HTTP/1.0\r\n\r\n", "GET, HEAD, POST"),
    ] {
        let answer = ask(&bed, request).await;

        assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n") && answer.contains("x-request-id: "), "{request}: {answer}");
        assert_eq!(allow(&answer), Some(expected), "{request}");
    }
    let record = bed.gateway.record(|record| record["path"] == "*").await;
    assert_eq!((&record["status"], &record["decision"], &record["method"]), (&204.into(), &"allow".into(), &"OPTIONS".into()));
    for request in ["OPTIONS * HTTP/1.1\r\n\r\n", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n"] {
        assert!(ask(&bed, request).await.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request}");
    }
    let odd = ask(&bed, "OPTIONS /* HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(odd.starts_with("HTTP/1.1 404 "), "{odd}");
    assert_eq!(bed.upstream.requests(), 0);
}

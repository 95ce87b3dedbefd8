//! Tests of strictness: unambiguous requests are accepted, and forwarded in canonical form; others are refused.

use crate::support::{Gateway, RawConnection, RawUpstream, Step};

const ROUTE: &str = "  - { name: open, match: { path: /open }, anonymous: true, upstream: backend }";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn ask(gateway: &Gateway, request: impl AsRef<[u8]>) -> String {
    let mut connection = RawConnection::open(gateway.address()).await;
    connection.send(request.as_ref()).await;
    connection.end().await;
    connection.read_to_end().await
}

#[tokio::test]
async fn what_real_clients_send_goes_on_in_one_form() {
    let upstream = RawUpstream::answering(vec![Step::send(ANSWER)]).await;
    let gateway = Gateway::start(&upstream.config(ROUTE)).await;
    let host = upstream.address();
    let post = |fields: &str| format!("POST /open HTTP/1.1\r\nhost: {host}\r\n{fields}");
    let close = "Connection: close\r\n";
    for (name, request, expected) in [
        (
            "equal lengths",
            format!("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{close}Content-Length: 5\r\n\r\nhello"),
            post("x-forwarded-host: a\r\ncontent-length: 5\r\n\r\nhello"),
        ),
        (
            "a list of equal lengths",
            format!("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5,5\r\n{close}\r\nhello"),
            post("x-forwarded-host: a\r\ncontent-length: 5\r\n\r\nhello"),
        ),
        (
            "chunk extensions",
            format!(
                "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{close}\r\n5;a=b\r\nhello\r\n0;last;x=\"y\"\r\n\r\n"
            ),
            post("x-forwarded-host: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "two empty lines first",
            format!("\r\n\r\nPOST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{close}\r\n"),
            post("x-forwarded-host: a\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "an empty port",
            format!("POST /open HTTP/1.1\r\nHost: A:\r\nContent-Length: 0\r\n{close}\r\n"),
            post("x-forwarded-host: a\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "a later minor version",
            format!("POST /open HTTP/1.7\r\nHost: a\r\nContent-Length: 0\r\n{close}\r\n"),
            post("x-forwarded-host: a\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "no host in HTTP/1.0",
            "POST /open HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            post("content-length: 2\r\n\r\nhi"),
        ),
        (
            "no host in HTTP/1.0, and somebody else's word for it",
            "POST /open HTTP/1.0\r\nX-Forwarded-Host: evil\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            post("content-length: 2\r\n\r\nhi"),
        ),
        (
            "the host of an HTTP/1.0 target",
            "POST http://a/open HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            post("x-forwarded-host: a\r\ncontent-length: 2\r\n\r\nhi"),
        ),
    ] {
        let answer = ask(&gateway, request).await;

        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{name}: {answer}");
        assert_eq!(upstream.received().last(), Some(&expected), "{name}");
    }
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_stays_refused() {
    let upstream = RawUpstream::answering(vec![Step::send(ANSWER)]).await;
    let gateway = Gateway::start(&upstream.config(ROUTE)).await;
    let chunked = "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut served = 0;
    for (name, request, code) in [
        (
            "lengths that differ",
            "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".to_owned(),
            "request-framing-invalid",
        ),
        (
            "lengths that are written otherwise",
            "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 05\r\n\r\nhello".to_owned(),
            "request-framing-invalid",
        ),
        ("an extension with a bare LF", format!("{chunked}5;a\nb\r\nhello\r\n0\r\n\r\n"), "request-framing-invalid"),
        ("an extension with a bare CR", format!("{chunked}5;a\rb\r\nhello\r\n0\r\n\r\n"), "request-framing-invalid"),
        (
            "an extension without a bound",
            format!("{chunked}5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(300)),
            "request-framing-invalid",
        ),
        ("a padded chunk size", format!("{chunked}5 \r\nhello\r\n0\r\n\r\n"), "request-framing-invalid"),
        ("three empty lines", "\r\n\r\n\r\nGET /open HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "request-framing-invalid"),
        ("empty lines of LF", "\nGET /open HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "request-framing-invalid"),
        ("a bare LF in a request", "GET /open HTTP/1.1\nHost: a\r\n\r\n".to_owned(), "request-framing-invalid"),
        ("no host in HTTP/1.1", "GET /open HTTP/1.1\r\n\r\n".to_owned(), "request-header-invalid"),
        ("an empty host", "GET /open HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), "request-header-invalid"),
        ("a port alone", "GET /open HTTP/1.1\r\nHost: :\r\n\r\n".to_owned(), "request-header-invalid"),
        ("two ports", "GET /open HTTP/1.1\r\nHost: a::\r\n\r\n".to_owned(), "request-header-invalid"),
        ("absolute form without a host", "GET http://a/open HTTP/1.1\r\n\r\n".to_owned(), "request-header-invalid"),
        (
            "another expectation",
            "POST /open HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            "expectation-failed",
        ),
        ("HTTP/2.0 on a request line", "GET /open HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), "http-version-not-supported"),
        ("HTTP/0.9 on a request line", "GET /open HTTP/0.9\r\nHost: a\r\n\r\n".to_owned(), "http-version-not-supported"),
        ("no version at all", "GET /open\r\nHost: a\r\n\r\n".to_owned(), "request-framing-invalid"),
    ] {
        let answer = ask(&gateway, format!("{request}GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;

        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{name}: {answer}");
        let status = match code {
            "expectation-failed" => "417 Expectation Failed",
            "http-version-not-supported" => "505 HTTP Version Not Supported",
            _ => "400 Bad Request",
        };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{name}: {answer}");
        // A head whose fields contradict themselves ends where it seems to; behind anything else nothing is a request.
        let ends = code == "request-header-invalid";
        assert_eq!(upstream.received().len(), served + usize::from(ends), "{name}: {:?}", upstream.received());
        assert!(ends || answer.contains("connection: close\r\n"), "{name}: {answer}");
        served += usize::from(ends);
    }
}

#[tokio::test]
async fn a_request_without_a_host_takes_no_route_that_names_hosts() {
    let upstream = RawUpstream::answering(vec![Step::send(ANSWER)]).await;
    let routes = "  - { name: named, match: { hosts: [api.contoso.example, '*.fabrikam.example'], path: /open }, anonymous: true, upstream: backend }
  - { name: any, match: { path: /any }, anonymous: true, upstream: backend }";
    let gateway = Gateway::start(&upstream.config(routes)).await;

    let refused = ask(&gateway, "GET /open HTTP/1.0\r\n\r\n").await;
    let served = ask(&gateway, "GET /any HTTP/1.0\r\n\r\n").await;

    assert!(refused.contains("\"code\":\"no-route\""), "{refused}");
    assert!(served.starts_with("HTTP/1.1 200 OK\r\n"), "{served}");
    let record = gateway.record(|record| record["path"] == "/any").await;
    assert!(record.get("host").is_none_or(serde_json::Value::is_null), "{record}");
}

#[tokio::test]
async fn a_host_that_was_not_named_cannot_be_preserved() {
    let upstream = RawUpstream::answering(vec![Step::send(ANSWER)]).await;
    let config = upstream.config(ROUTE).replace("servers:", "host: preserve, servers:");
    let gateway = Gateway::start(&config).await;

    for (host, seen) in [("", format!("host: {}\r\n", upstream.address())), ("Host: a:\r\n", "host: a\r\n".to_owned())] {
        let answer = ask(&gateway, format!("GET /open HTTP/1.0\r\n{host}\r\n")).await;

        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(upstream.received().last().unwrap().contains(&seen), "{:?}", upstream.received());
    }
}

#[tokio::test]
async fn what_real_backends_answer_is_passed_on_in_one_form() {
    let many: String = (0..198).map(|number| format!("x-{number}: a\r\n")).collect();
    for (name, answer, status) in [
        ("lines of LF", "HTTP/1.1 200 OK\nX-A: b\nContent-Length: 2\n\nok".to_owned(), 200),
        ("lines of both kinds", "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 2\r\n\nok".to_owned(), 200),
        ("equal lengths", "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok".to_owned(), 200),
        ("a list of equal lengths", "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2, 2\r\n\r\nok".to_owned(), 200),
        (
            "chunk extensions",
            "HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n".to_owned(),
            200,
        ),
        ("200 fields", format!("HTTP/1.1 200 OK\r\nx-a: b\r\n{many}content-length: 2\r\n\r\nok"), 200),
        ("201 fields", format!("HTTP/1.1 200 OK\r\nx-a: b\r\nx-b: c\r\n{many}content-length: 2\r\n\r\nok"), 502),
        ("a folded line of LF", "HTTP/1.1 200 OK\nX-A: b\n c\nContent-Length: 2\n\nok".to_owned(), 502),
        ("a bare CR", "HTTP/1.1 200 OK\nX-A: b\rc\nContent-Length: 2\n\nok".to_owned(), 502),
        ("lengths that differ", "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok".to_owned(), 502),
        ("chunks of LF", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nok\n0\n\n".to_owned(), 502),
    ] {
        let upstream = RawUpstream::answering(vec![Step::send(answer)]).await;
        let gateway = Gateway::start(&upstream.config(ROUTE)).await;

        let raw = ask(&gateway, "GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;

        assert!(raw.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {raw}");
        if status == 200 {
            let (head, body) = raw.split_once("\r\n\r\n").unwrap();
            let framing = if head.contains("content-length: 2\r\n") { "ok" } else { "2\r\nok\r\n0\r\n\r\n" };
            assert_eq!(body, framing, "{name}: {raw:?}");
            assert!(head.contains("\r\nx-a: b\r\n") && !head.replace("\r\n", "").contains('\n'), "{name}: {raw:?}");
            assert_eq!(
                head.matches("content-length: ").count() + head.matches("transfer-encoding: ").count(),
                1,
                "{name}: {raw:?}"
            );
        }
    }
}

#[tokio::test]
async fn trailers_go_to_clients_that_take_them_without_what_belongs_into_a_head() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n2\r\nok\r\n0\r\nX-Checksum: 1a\r\nGrpc-Status: 0\r\n\
                  Content-Length: 99\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\nWww-Authenticate: Basic\r\nX-Request-Id: forged\r\n\
                  Access-Control-Allow-Origin: *\r\nLocation: /\r\nConnection: close\r\nX-Policy: 0\r\n\r\n";
    let upstream = RawUpstream::answering(vec![Step::send(answer)]).await;
    let routes = "  - { name: open, match: { path: /open }, anonymous: true, outbound: [ set-header: { name: X-Policy, value: \"1\" } ], upstream: backend }";
    let gateway = Gateway::start(&upstream.config(routes)).await;
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    for (te, version, expected, said) in [
        ("TE: trailers\r\n", "1.1", "2\r\nok\r\n0\r\nx-checksum: 1a\r\ngrpc-status: 0\r\n\r\n", true),
        (
            "TE: deflate;q=0.5, trailers\r\nConnection: te\r\n",
            "1.1",
            "2\r\nok\r\n0\r\nx-checksum: 1a\r\ngrpc-status: 0\r\n\r\n",
            true,
        ),
        ("TE: deflate\r\n", "1.1", "2\r\nok\r\n0\r\n\r\n", false),
        ("", "1.1", "2\r\nok\r\n0\r\n\r\n", false),
        ("TE: trailers\r\n", "1.0", "ok", false),
    ] {
        let answer = ask(&gateway, format!("GET /open HTTP/{version}\r\nHost: a\r\n{te}\r\n")).await;

        assert_eq!(body(&answer), expected, "{te:?} {version}: {answer}");
        assert_eq!(answer.matches("x-policy: ").count(), 1, "{answer}");
        let received = upstream.received().last().unwrap().clone();
        assert_eq!(received.contains("connection: te\r\nte: trailers\r\n"), said, "{te:?} {version}: {received}");
        assert_eq!(received.contains("te:"), said, "{te:?} {version}: {received}");
    }
}

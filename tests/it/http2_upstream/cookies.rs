//! Tests that cookies in several fields are joined.

use super::{Http2Caller, request, soon};
use crate::support::{Gateway, RawConnection, Upstream};

const ROUTES: &str = "- { name: open, match: { path: / }, anonymous: true, upstream: backend, inbound: [ { set-header: { name: x-seen, value: \"@(request.headers.cookie)\" } } ] }";

async fn gateway_before(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!("upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\nroutes:\n  {ROUTES}\n", upstream.url())).await
}

#[tokio::test]
async fn the_crumbs_of_an_http2_cookie_are_joined_for_policies_and_backend() {
    let upstream = Upstream::start().await;
    let gateway = gateway_before(&upstream).await;
    let mut caller = Http2Caller::connect(gateway.address()).await;
    let mut request = request(http::Method::GET, "/crumbs");
    for crumb in ["a=1", "b=2", "c=\"3\""] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }

    let (answer, _) = caller.send(request, true).await;

    assert_eq!(soon(answer).await.unwrap().status(), 200);
    let received = upstream.last();
    assert_eq!(received.values("cookie"), ["a=1; b=2; c=\"3\""]);
    assert_eq!(received.values("x-seen"), ["a=1; b=2; c=\"3\""]);
}

#[tokio::test]
async fn several_cookie_lines_of_http1_are_joined() {
    let upstream = Upstream::start().await;
    let gateway = gateway_before(&upstream).await;
    let mut caller = RawConnection::open(gateway.address()).await;

    caller
        .send(b"GET /lines HTTP/1.1\r\nHost: api.contoso.example\r\nCookie: a=1\r\nX-Between: x\r\ncookie: b=2; c=3\r\n\r\n")
        .await;
    let answer = caller.read_answer().await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.last().values("cookie"), ["a=1; b=2; c=3"]);
    assert_eq!(upstream.last().values("x-seen"), ["a=1; b=2; c=3"]);
}

//! Tests of heads over HTTP/2: too long or too demanding ones are refused as over HTTP/1.1, and recorded.

use std::future::poll_fn;

use bytes::Bytes;
use entrada::Reason;
use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;

use super::raw::{CONTINUATION, END_HEADERS, END_STREAM, FIRST_WINDOW, HEADERS, Raw, frame, get, in_time};
use crate::support::TestBed;

async fn bed() -> TestBed {
    TestBed::with("- { name: open, match: { path: /open }, inbound: [], anonymous: true, upstream: backend }", "").await
}

/// Sends a request; returns the whole response.
async fn ask(bed: &TestBed, request: Request<()>) -> Response<Bytes> {
    let socket = TcpStream::connect(bed.gateway.address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let (answer, _) = client.send_request(request, true).unwrap();
    let (parts, mut body) = in_time(answer).await.unwrap().into_parts();
    let mut read = Vec::new();
    while let Some(data) = in_time(poll_fn(|cx| body.poll_data(cx))).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    connection.abort();
    Response::from_parts(parts, read.into())
}

fn request(fields: &[(&str, &str)]) -> Request<()> {
    let request = Request::get("http://api.contoso.example/open");
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

async fn assert_refused(bed: &TestBed, request: Request<()>, reason: Reason) {
    let answer = ask(bed, request).await;

    assert_eq!(answer.status(), reason.status());
    let problem: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    let id = answer.headers()["x-request-id"].to_str().unwrap();
    assert_eq!((&problem["code"], &problem["request_id"]), (&reason.code().into(), &id.into()));
    assert_eq!(answer.headers()["content-length"].to_str().unwrap(), answer.body().len().to_string());
    assert!(answer.headers().contains_key("date"));
    let record = bed.gateway.record(|record| record["request_id"] == id).await;
    assert_eq!((&record["code"], &record["complete"]), (&reason.code().into(), &true.into()));
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_with_a_problem_and_a_record() {
    let bed = bed().await;
    let long = "a".repeat(7_000);
    let names: Vec<_> = (0..10).map(|number| format!("x-{number}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();

    assert_refused(&bed, request(&fields), Reason::HeadersTooLarge).await;
}

#[tokio::test]
async fn a_head_that_is_far_too_long_leaves_a_record_and_a_metric() {
    let bed = bed().await;
    let mut client = Raw::open(bed.gateway.address(), FIRST_WINDOW).await;
    let (long, names): (_, Vec<_>) = ("a".repeat(7_000), (0..45).map(|number| format!("x-{number}")).collect());
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();
    let block = get("/open", &fields);
    let mut parts = block.chunks(16_000).peekable();
    let mut kind = HEADERS;
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        let end = if kind == HEADERS { END_STREAM } else { 0 };
        client.send(&frame(kind, last | end, 1, part)).await;
        kind = CONTINUATION;
    }

    client.until(|frame| frame.kind == HEADERS && frame.stream == 1).await;

    let record = bed.gateway.record(|record| record["code"] == Reason::HeadersTooLarge.code()).await;
    assert_eq!(record["status"], StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16());
    // The connection is good for more.
    client.get(3, "/open", &[]).await;
    client.until(|frame| frame.kind == super::raw::DATA && frame.stream == 3).await;
}

#[tokio::test]
async fn an_expectation_that_nobody_knows_is_refused() {
    let bed = bed().await;

    assert_refused(&bed, request(&[("expect", "tea")]), Reason::ExpectationFailed).await;
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let bed = bed().await;
    let mut refused = request(&[]);
    *refused.method_mut() = http::Method::HEAD;
    *refused.uri_mut() = "http://api.contoso.example/nowhere".parse().unwrap();

    let answer = ask(&bed, refused).await;

    assert_eq!((answer.status(), answer.body().len()), (StatusCode::NOT_FOUND, 0));
}

/// Makes a block whose path is written as given: `:method: GET`, `:scheme: http`, `:authority`, and the path's representation.
fn with_path(path: &[u8]) -> Vec<u8> {
    let authority = b"api.contoso.example";
    let length = u8::try_from(authority.len()).unwrap();
    [&[0x82, 0x86, 0x01, length][..], authority, path].concat()
}

#[tokio::test]
async fn a_path_with_a_fragment_is_refused_however_it_is_compressed() {
    let bed = bed().await;
    let mut client = Raw::open(bed.gateway.address(), FIRST_WINDOW).await;
    // `/open#x`: as a text that is not kept, and as one that is; the entry that was kept, and its name with another text; and
    // `/open#` in the Huffman code (RFC 7541, appendix B).
    let coded = [0x04, 0x85, 0x60, 0xf5, 0x96, 0xaf, 0xfa];
    for (stream, path) in
        (1..).step_by(2).zip([&b"\x04\x07/open#x"[..], b"\x44\x07/open#x", b"\xbe", b"\x0f\x2f\x07/open#y", &coded])
    {
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &with_path(path))).await;
        client.until(|frame| frame.stream == stream && frame.flags & END_STREAM != 0).await;
        let record = bed.gateway.record(|record| record["code"] == "request-target-invalid").await;
        assert_eq!(record["status"], 400);
    }
    assert_eq!(bed.upstream.requests(), 0);

    // The connection serves other requests.
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 11, &with_path(b"\x04\x05/open"))).await;
    client.until(|frame| frame.stream == 11 && frame.flags & END_STREAM != 0).await;
    assert_eq!(bed.upstream.requests(), 1);
    bed.gateway.record(|record| record["status"] == 200).await;
    assert_eq!(bed.gateway.records().iter().filter(|record| record["code"] == "request-target-invalid").count(), 5);
}

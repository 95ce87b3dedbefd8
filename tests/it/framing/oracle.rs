//! The oracle: hyper's server on the same bytes.
//!
//! Bytes that our codec takes for a request, hyper must take for the same one, and must find the next request at the same byte.
//! Our refusals do not matter here, and requests that we accept beyond hyper are compared in their canonical form: a later
//! HTTP/1.x as 1.1, a list of equal lengths as one. Used by the property test beside this file and by the fuzz target.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use entrada::unstable::listener::{WholeRequest, read_request};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

const HEADER_BYTES: usize = 64 << 10;
/// The next request on the connection.
const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nhost: a\r\n\r\n";

/// The parts of a request that an upstream could distinguish.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    method: Method,
    target: Uri,
    version: Version,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Reading {
    fn of(method: &Method, target: &Uri, version: Version, headers: &HeaderMap, body: &[u8]) -> Self {
        let fields = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        Self { method: method.clone(), target: target.clone(), version, fields, body: body.to_vec() }
    }

    fn closes(&self) -> bool {
        let named = |option: &str| {
            let mut options = self.fields.iter().filter(|(name, _)| name == "connection").map(|(_, value)| value);
            options.any(|value| {
                value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
            })
        };
        named("close")
            || self.version == Version::HTTP_10 && !named("keep-alive")
            || self.method == Method::CONNECT
            || named("upgrade")
    }
}

/// Reads the bytes both ways. Returns whether they were taken for a request.
///
/// # Panics
/// Panics if the two readings differ.
pub(crate) fn agrees_with_hyper(bytes: &[u8]) -> bool {
    let Ok(Some(WholeRequest { request, length })) = read_request(bytes, HEADER_BYTES) else { return false };
    let ours = Reading::of(request.method(), request.uri(), request.version(), request.headers(), request.body());
    let theirs = read_by_hyper(&[&canonical(&bytes[..length]), SENTINEL].concat());
    assert_eq!(theirs.first(), Some(&ours), "hyper reads another request than we do");
    if !ours.closes() {
        let next = theirs.get(1).map(|reading| reading.target.to_string());
        assert_eq!(next.as_deref(), Some("/sentinel"), "hyper finds the next request elsewhere");
    }
    true
}

/// Returns a request that we accepted, in a form that hyper accepts, too.
fn canonical(request: &[u8]) -> Vec<u8> {
    let start = request.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    let end = request[start..].windows(4).position(|window| window == b"\r\n\r\n").expect("a head has an end");
    let (head, body) = request.split_at(start + end);
    let mut lines = head[start..].split(|byte| *byte == b'\n');
    let mut canonical = head[..start].to_vec();
    let line = lines.next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (minor, line) = line.split_last().expect("a request line has a version");
    canonical.extend_from_slice(line);
    canonical.push(if *minor == b'0' { b'0' } else { b'1' });
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        canonical.extend_from_slice(b"\r\n");
        let is_length = line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:");
        let first = line.split(|byte| *byte == b',').next().unwrap_or_default();
        canonical.extend_from_slice(if is_length { first } else { line });
    }
    canonical.extend_from_slice(body);
    canonical
}

fn read_by_hyper(bytes: &[u8]) -> Vec<Reading> {
    let readings = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    runtime.block_on(async {
        let (near, far) = duplex(1 << 20);
        let seen = readings.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let (head, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    let reading = Reading::of(&head.method, &head.uri, head.version, &head.headers, &body.to_bytes());
                    seen.lock().expect("nobody panics with it").push(reading);
                }
                Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
            }
        });
        let server = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
        let client = async {
            let (mut read, mut write) = split(near);
            // hyper may close before it has read everything.
            let _ = write.write_all(bytes).await;
            let _ = write.shutdown().await;
            let _ = read.read_to_end(&mut Vec::new()).await;
        };
        let _ = tokio::join!(server, client);
    });
    let readings = readings.lock().expect("nobody panics with it");
    readings.clone()
}

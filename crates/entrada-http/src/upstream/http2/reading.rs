//! Requests on a connection whose server is given: the client without pools and policies, for tests and fuzzing.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Answer, Connection, Fault, Stream};
use crate::{
    refusal::Refusal,
    upstream::{interim::Relay, send_body::SendBody},
};

/// The result of a request.
#[derive(Debug)]
pub struct Http2Reading {
    /// The method that was sent.
    pub method: Method,
    /// The head of the response, if it arrived.
    pub head: Option<(StatusCode, HeaderMap)>,
    /// The received part of its body.
    pub body: Vec<u8>,
    /// True if the response was complete.
    pub whole: bool,
}

/// Sends a request of each of these methods on one connection, concurrently, and reads the responses of the server at the other
/// end of the byte stream. `POST` sends this many bytes.
///
/// # Panics
/// Panics if something of the connection is left when all of them are over.
pub async fn read_http2<I>(io: I, methods: &[Method], posted: usize) -> Vec<Http2Reading>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(connection) = Connection::open(io, Arc::default()).await else { return Vec::new() };
    let readings = join_all(methods.iter().map(|method| one(&connection, method, posted))).await;
    assert_eq!(connection.streams(), 0, "a stream is left");
    readings
}

async fn one(connection: &Arc<Connection>, method: &Method, posted: usize) -> Http2Reading {
    let mut reading = Http2Reading { method: method.clone(), head: None, body: Vec::new(), whole: false };
    if let Ok((head, mut answer)) = exchange(Stream::of(connection), method, posted).await {
        reading.head = Some(head);
        reading.whole = loop {
            match poll_fn(|context| answer.poll_frame(context)).await {
                Some(Ok(frame)) => reading.body.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
    }
    reading
}

async fn exchange(stream: Stream, method: &Method, posted: usize) -> Result<((StatusCode, HeaderMap), Answer), Fault> {
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = http::Uri::from_static("http://orders.internal/");
    let mut body = SendBody::empty();
    if *method == Method::POST {
        body = SendBody::of(Full::new(Bytes::from(vec![7; posted])).map_err(|never| -> Refusal { match never {} }));
    }
    let (head, answer) = stream.exchange(request, &mut body, &mut Relay::new(None)).await?.into_parts();
    Ok(((head.status, head.headers), answer))
}

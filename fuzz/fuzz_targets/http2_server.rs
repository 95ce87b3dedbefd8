//! Bytes of an HTTP/2 client, in any sequence: its connection ends in time, its calls end with it, and the output is frames.
//!
//! `cargo +nightly fuzz run http2_server -- -max_total_time=600 -max_len=4096`

#![no_main]

use std::{
    convert::Infallible,
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use entrada::unstable::{
    base::response::Response,
    connection::ConnectionEvent,
    listener::{Arrival, Connection, Limits, Listener, ListenerSettings, Service, serve_http2},
};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::Builder,
    time::timeout,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A time far longer than any limit below.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A service that answers by the length of the path, so that a random one finds something.
#[derive(Clone, Default)]
struct Answers(Arc<AtomicUsize>);

struct Call(Arc<AtomicUsize>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service for Answers {
    type Body = Full<Bytes>;

    fn call(&self, arrival: Arrival, _: &Arc<Connection>) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        self.0.fetch_add(1, Ordering::SeqCst);
        let call = Call(self.0.clone());
        async move {
            let _call = call;
            let Arrival::Request(request) = arrival else { return Response::new(Full::default()) };
            let length = request.uri.path().len();
            let mut body = request.body;
            match length % 6 {
                0 => return pending().await,
                1 => return Response::new(Full::new(Bytes::from(vec![b'x'; 200_000]))),
                2 => {
                    if let Some(informational) = body.take_informational() {
                        informational.send(StatusCode::EARLY_HINTS, HeaderMap::new());
                    }
                }
                3 | 4 => {
                    return Response::new(
                        body.collect().await.map_or_else(|_| Full::default(), |body| Full::new(body.to_bytes())),
                    );
                }
                _ => {}
            }
            Response::new(Full::new(Bytes::from_static(b"hello")))
        }
    }

    fn event(&self, _: ConnectionEvent) {}
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    // As they are, or as the frames that they can be cut into.
    let sent = if mode & 1 == 0 { bytes.to_vec() } else { framed(bytes) };
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(serve(sent, mode & 2 == 0, mode & 4 == 0));
});

/// Makes frames with correct lengths: kind, flags, stream, length and payload by turns.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        frames.extend([0, 0, payload.len() as u8, kind % 11, *flags, 0, 0, 0, *stream]);
        frames.extend(payload);
        bytes = rest;
    }
    frames
}

async fn serve(sent: Vec<u8>, reads: bool, closes: bool) {
    let limits = Limits { header_bytes: 4_096, ..Limits::default() };
    let settings = ListenerSettings { max_stream: LONGEST, ..ListenerSettings::plain(limits) };
    let (near, far) = duplex(16 << 10);
    let answers = Answers::default();
    let server = serve_http2(near, Listener::new("public", settings), answers.clone());
    let (mut read, mut write) = tokio::io::split(far);
    let client = async {
        let send = async {
            // A server that has seen enough takes no more.
            let _ = write.write_all(&[PREFACE, &sent].concat()).await;
            if closes {
                let _ = write.shutdown().await;
            }
        };
        let mut answer = Vec::new();
        if reads {
            let _ = tokio::join!(send, read.read_to_end(&mut answer));
        } else {
            send.await;
            pending::<Infallible>().await;
        }
        check(&answer);
    };
    let both = async {
        if reads {
            tokio::join!(server, client);
        } else {
            tokio::select! {
                () = server => {}
                () = client => {}
            }
        }
    };
    timeout(LONGEST, both).await.expect("the connection ends");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(answers.0.load(Ordering::SeqCst), 0, "calls that outlive their connection");
}

/// Asserts that the output consists of whole frames, except that the end of the connection may cut off the last.
fn check(mut answer: &[u8]) {
    while let [a, b, c, kind, _, ..] = answer {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        assert!(length <= 16_384 && *kind <= 9, "no frame of ours");
        answer = answer.get(9 + length..).unwrap_or_default();
    }
}

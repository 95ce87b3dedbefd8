//! Frames that no server should send. Whatever arrives, every request ends, and a complete response has the announced length.
//!
//! Used by the property test beside this file and by the fuzz target.

use entrada::unstable::upstream::read_http2;
use http::{Method, StatusCode, header};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

/// A length above a server's initial window.
const POSTED: usize = 70_000;

/// Makes a server's bytes from any bytes: raw, or as frames with correct lengths.
pub(crate) fn server_bytes(input: &[u8]) -> Vec<u8> {
    let Some((mode, mut rest)) = input.split_first() else { return Vec::new() };
    let mut bytes = if mode & 2 == 0 { vec![0, 0, 0, 4, 0, 0, 0, 0, 0] } else { Vec::new() };
    if mode & 1 == 1 {
        bytes.extend_from_slice(rest);
        return bytes;
    }
    while let [kind, flags, stream, length, payload @ ..] = rest {
        let payload = &payload[..payload.len().min(usize::from(*length))];
        rest = &rest[4 + payload.len()..];
        bytes.extend_from_slice(&[0, 0, u8::try_from(payload.len()).unwrap_or_default(), kind % 11, *flags, 0, 0, 0, stream % 9]);
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Sends these bytes to a connection with three requests.
///
/// # Panics
/// Panics if a response violates the expectations.
pub(crate) async fn survives(bytes: Vec<u8>) {
    let (ours, theirs) = duplex(1 << 16);
    let server = tokio::spawn(serve(theirs, bytes));
    for reading in read_http2(ours, &[Method::GET, Method::HEAD, Method::POST], POSTED).await {
        let Some((status, headers)) = reading.head else { continue };
        assert!(!status.is_informational(), "{status} is no answer");
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
            assert!(!headers.contains_key(&name), "{name}");
        }
        let bare = reading.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if let Some(length) = length.filter(|_| reading.whole && !bare) {
            assert_eq!(reading.body.len(), length);
        }
    }
    server.await.expect("the server does as it is told");
}

async fn serve(io: DuplexStream, bytes: Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(io);
    let drain = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    // Until the requests are there: an answer before is another matter.
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    let _ = write.write_all(&bytes).await;
    let _ = write.shutdown().await;
    let _ = drain.await;
    drop(write.flush().await);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn whatever_a_server_sends_every_request_comes_to_an_end(
            frames in prop::collection::vec((
                prop::sample::select(vec![0_u8, 1, 1, 1, 3, 4, 6, 7, 8, 9, 10]),
                prop::sample::select(vec![0_u8, 1, 4, 5, 8, 12, 32, 255]),
                0_u8..9,
                prop::sample::select(vec![
                    &b"\x88"[..], b"", b"\x08\x03103", b"\x88\x0f\x0d\x015", b"hello", b"\0\0\0\x08", b"\0\0\x40\0", b"\x7f\xff\xff\xff",
                    b"\0\x03\0\0\0\0", b"\0\x04\0\0\0\x01", b"\0\0\0\0\0\0\0\0", b"\x88\x00\x01X\x01a", b"\xff\xff\xff\xff\xff",
                ]),
            ), 0..24),
        ) {
            let mut input = vec![0];
            for (kind, flags, stream, payload) in frames {
                input.extend_from_slice(&[kind, flags, stream, u8::try_from(payload.len()).unwrap()]);
                input.extend_from_slice(payload);
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let run = async { tokio::time::timeout(std::time::Duration::from_secs(60), survives(server_bytes(&input))).await };
            prop_assert!(runtime.block_on(run).is_ok(), "it comes to no end");
        }
    }
}

//! Parsing without a connection, for tests and fuzzing.

use bytes::BytesMut;
use http::Request;

use super::{
    framing::{Decoded, Decoder},
    head::{self, Scan},
};
use crate::{listener::broken::Broken, refusal::Reason};

/// A request with its body, as returned by [`read_request`].
#[derive(Debug)]
pub struct WholeRequest {
    /// The request.
    pub request: Request<Vec<u8>>,
    /// The number of bytes that it took.
    pub length: usize,
}

/// Parses bytes with the codec; `None` if more are needed.
///
/// This is the parsing of a connection without the connection, for tests and fuzzing.
///
/// # Errors
/// Returns the reason why the bytes are not a request.
pub fn read_request(bytes: &[u8], header_bytes: usize) -> Result<Option<WholeRequest>, Broken> {
    let mut buffer = BytesMut::from(bytes);
    let Some(head) = head::parse::<()>(&mut buffer, &mut Scan::default(), header_bytes)? else { return Ok(None) };
    let (mut decoder, mut body) = (Decoder::from(head.framing), Vec::new());
    loop {
        match decoder.decode(&mut buffer).map_err(|detail| Broken::new(Reason::RequestFramingInvalid, detail))? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::More => return Ok(None),
            Decoded::End => break,
        }
    }
    Ok(Some(WholeRequest { request: Request::from(*head.request).map(|_| body), length: bytes.len() - buffer.len() }))
}

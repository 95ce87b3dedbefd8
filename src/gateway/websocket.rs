//! WebSockets over HTTP/2, RFC 8441: the handshake of HTTP/1.1 with the upstream, and what a client takes for a tunnel.

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::{
    base::{fields::Fields, response::Response},
    refusal::{Reason, Refusal},
};

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake with an upstream, in the name of a client of HTTP/2, which has no part in it.
#[derive(Debug)]
pub(super) struct Handshake {
    key: HeaderValue,
    accept: HeaderValue,
}

impl Default for Handshake {
    fn default() -> Self {
        let mut nonce = [0; 16];
        // It keeps caches from answering, and is no secret: none that the system refuses is missed.
        let _ = rand::fill(&mut nonce);
        Self::with(&STANDARD.encode(nonce))
    }
}

impl Handshake {
    fn with(key: &str) -> Self {
        let answer = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
        let value = |text: &str| HeaderValue::from_str(text).expect("base64 is visible ASCII");
        Self { key: value(key), accept: value(&STANDARD.encode(answer)) }
    }

    /// Writes the key, in place of one that the client has sent: its handshake is another one.
    pub(super) fn begin(&self, headers: &mut Fields) {
        headers.insert(&KEY, &self.key);
    }

    /// Checks the response of an upstream that switches protocols.
    ///
    /// # Errors
    /// Fails if it does not answer the key. RFC 6455, section 4.1.
    pub(super) fn judge<B>(&self, response: &Response<B>) -> Result<(), Refusal> {
        let answered = |headers: &Fields| {
            let mut lines = headers.get_all(ACCEPT);
            lines.next().is_some_and(|line| line == self.accept) && lines.next().is_none()
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || answered(response.headers()) {
            return Ok(());
        }
        Err(Refusal::new(Reason::UpstreamProtocolError, "the backend opens a WebSocket without an answer to its key"))
    }
}

/// Refuses an extended CONNECT whose response would be a success, and thereby a tunnel, although nothing has opened one.
pub(super) fn no_success(status: StatusCode, from_upstream: bool) -> Result<(), Refusal> {
    match (status.is_success(), from_upstream) {
        (false, _) => Ok(()),
        (true, true) => Err(Refusal::new(
            Reason::UpstreamProtocolError,
            format!("the backend answers the request for a WebSocket with {}, and opens none", status.as_u16()),
        )),
        (true, false) => {
            Err(Refusal::new(Reason::ProtocolNotSupported, "the request asks for a WebSocket, and is answered otherwise"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switched(fields: &[(&HeaderName, &str)]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in fields {
            response.headers_mut().append(*name, &HeaderValue::from_str(value).unwrap());
        }
        response
    }

    #[test]
    fn the_key_is_answered_as_the_specification_says() {
        let handshake = Handshake::with("dGhlIHNhbXBsZSBub25jZQ==");
        let right = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

        assert!(handshake.judge(&switched(&[(&ACCEPT, right)])).is_ok());
        for wrong in [&[][..], &[(&ACCEPT, "x")], &[(&ACCEPT, right), (&ACCEPT, right)], &[(&KEY, right)]] {
            let refusal = handshake.judge(&switched(wrong)).unwrap_err();
            assert_eq!(refusal.reason, Reason::UpstreamProtocolError, "{wrong:?}");
        }
        assert!(handshake.judge(&Response::new(())).is_ok(), "what opens nothing needs no answer");
    }

    #[test]
    fn each_handshake_has_a_key_of_its_own_and_takes_the_place_of_the_clients() {
        let (one, other) = (Handshake::default(), Handshake::default());
        let mut headers = Fields::from_iter([(KEY, HeaderValue::from_static("smuggled"))]);

        one.begin(&mut headers);

        assert_eq!((headers.get(&KEY).map(|key| key.to_header_value()), headers.len()), (Some(one.key.clone()), 1));
        assert_ne!(one.key, other.key);
        assert_eq!(STANDARD.decode(&one.key).unwrap().len(), 16);
    }

    #[test]
    fn only_what_opens_a_websocket_succeeds() {
        for (status, from_upstream, reason) in [
            (200, true, Some(Reason::UpstreamProtocolError)),
            (204, false, Some(Reason::ProtocolNotSupported)),
            (101, true, None),
            (302, false, None),
            (403, true, None),
        ] {
            let judged = no_success(StatusCode::from_u16(status).unwrap(), from_upstream);
            assert_eq!(judged.err().map(|refusal| refusal.reason), reason, "{status}");
        }
    }
}

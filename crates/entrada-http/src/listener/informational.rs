//! Informational responses (RFC 9110, section 15.2), sent to the caller before the final one.

use http::{HeaderMap, StatusCode};

use super::{http1::Http1Informational, http2::Http2Informational};

/// The channel by which informational responses reach the caller.
///
/// It accepts 1xx responses until the final one begins, and drops those that must not be forwarded: `101`, which changes the
/// protocol; `100` if the caller does not wait for it; and everything if the caller speaks HTTP/1.0, which has none. The number
/// of unread responses is bounded: further ones are dropped.
///
/// Use it within the service's future, which the listener polls, and drop it with that.
#[derive(Debug, Default)]
pub struct Informational(Protocol);

#[derive(Debug, Default)]
enum Protocol {
    /// No client accepts them.
    #[default]
    None,
    Http1(Http1Informational),
    Http2(Http2Informational),
}

impl Informational {
    /// Makes the channel to an HTTP/1.1 caller.
    pub(crate) const fn http1(way: Http1Informational) -> Self {
        Self(Protocol::Http1(way))
    }

    /// Makes the channel to an HTTP/2 caller.
    pub(crate) const fn http2(way: Http2Informational) -> Self {
        Self(Protocol::Http2(way))
    }

    /// Sends an informational response. Fields about a connection or a body are left out.
    pub fn send(&self, status: StatusCode, headers: HeaderMap) {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        match &self.0 {
            Protocol::None => {}
            Protocol::Http1(way) => way.send(status, &headers),
            Protocol::Http2(way) => way.send(status, headers),
        }
    }
}

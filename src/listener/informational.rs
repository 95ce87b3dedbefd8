//! Informational answers (RFC 9110, section 15.2), on their way to the caller before the final one.

use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::listener::{Http1Informational, Http2Informational};

/// The way by which informational answers reach the caller.
///
/// It takes 1xx answers until the final one begins, and drops what must not go on: `101`, which changes the protocol and is no
/// answer of this kind; `100` where the caller does not wait for it; and everything where the caller speaks HTTP/1.0, which knows
/// none of them. What a caller does not take is bounded: further ones are dropped.
///
/// To be used within the service's future, which is the one that the listener polls, and to be dropped with it.
#[derive(Debug, Default)]
pub struct Informational(Protocol);

#[derive(Debug, Default)]
enum Protocol {
    /// Nobody is there to take them.
    #[default]
    None,
    Http1(Http1Informational),
    Http2(Http2Informational),
}

impl Informational {
    /// Leads to a caller over HTTP/1.1.
    pub(crate) const fn http1(way: Http1Informational) -> Self {
        Self(Protocol::Http1(way))
    }

    /// Leads to a caller over HTTP/2.
    pub(crate) const fn http2(way: Http2Informational) -> Self {
        Self(Protocol::Http2(way))
    }

    /// Sends an informational answer. Fields that concern one connection or a body are left out.
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

/// Whether a field never goes on with an informational answer: it concerns one connection, or a body that there is not.
pub(crate) fn stays_behind(name: &HeaderName) -> bool {
    [header::CONNECTION, header::CONTENT_LENGTH, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE]
        .contains(name)
        || name == "keep-alive"
        || name == "proxy-connection"
}

//! The question of a proxy: the request that it has received, as it describes it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Version, uri::PathAndQuery};

use super::protobuf::Malformed;
use crate::{
    base::fields::{FieldName, Fields, Known, Value},
    certificate::ClientCertificate,
    connection::Scheme,
    listener::ReceivedRequest,
    refusal::{Reason, Refusal},
};

/// The head of a request that is, or holds, a question.
pub(crate) type Head = ReceivedRequest<()>;

/// A request as a proxy has received it.
#[derive(Debug)]
pub(crate) struct Question {
    /// The method.
    pub(crate) method: Method,
    /// Path and query, as they will be forwarded.
    pub(crate) target: PathAndQuery,
    /// The host that the request names.
    pub(crate) host: HeaderValue,
    /// The scheme that the caller used.
    pub(crate) scheme: Scheme,
    /// The protocol that the caller spoke.
    pub(crate) version: Version,
    /// The header fields of the request.
    pub(crate) headers: Fields,
    /// The address that connected to the proxy.
    pub(crate) source: SocketAddr,
    /// The certificate whose private key the proxy has seen proven.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// The server name that the caller asked the proxy for.
    pub(crate) server_name: Option<Box<str>>,
}

/// The reason why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QuestionFault {
    /// A part that every question has is missing.
    #[error("the question does not name the request's {0}")]
    Missing(&'static str),
    /// A part stands there twice.
    #[error("the question names the request's {0} more than once")]
    Repeated(&'static str),
    /// A part cannot be read.
    #[error("the request's {0} cannot be read")]
    Unreadable(&'static str),
    /// Two parts contradict each other.
    #[error("the question names two values of the request's {0}")]
    Contradicting(&'static str),
    /// A field by which another kind of proxy asks: two readers could take two requests for the one that is meant.
    #[error("`{0}` is how another kind of proxy asks, and is not read here")]
    Foreign(HeaderName),
    /// The question was sent to another address than the one for questions.
    #[error("questions are asked with {0}")]
    NoQuestion(&'static str),
    /// The question has a query that the dialect does not have.
    #[error("the address of the question has a query")]
    Query,
    /// The question has a body.
    #[error("the question has a body; let the proxy send the header alone")]
    Body,
    /// The target is not one in origin form.
    #[error("the request's target is not a path with a query")]
    Target,
    /// The address that connected is not known.
    #[error("the question does not say which address connected to the proxy")]
    Source,
    /// The message of gRPC cannot be read.
    #[error(transparent)]
    Message(#[from] Malformed),
}

impl From<QuestionFault> for Refusal {
    fn from(fault: QuestionFault) -> Self {
        let reason = match &fault {
            QuestionFault::Target => Reason::RequestTargetInvalid,
            QuestionFault::Source => Reason::CallerAddressUnparsable,
            QuestionFault::Body | QuestionFault::Message(_) => Reason::RequestFramingInvalid,
            _ => Reason::RequestHeaderInvalid,
        };
        Self::new(reason, fault).with_hint("`entrada check` prints the settings of the proxy that asks")
    }
}

impl Question {
    /// Returns the head of the request.
    pub(crate) fn into_head(self) -> (Head, Scheme) {
        let Self { method, target, host, scheme, version, mut headers, .. } = self;
        headers.insert(Known::Host, &host);
        (Head { method, uri: target.into(), version, headers, extensions: Default::default(), body: () }, scheme)
    }
}

/// Returns the single line of a field.
pub(super) fn single<'a>(headers: &'a Fields, name: impl FieldName, what: &'static str) -> Result<Value<'a>, QuestionFault> {
    let mut lines = headers.get_all(name);
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line),
        (None, _) => Err(QuestionFault::Missing(what)),
        (Some(_), Some(_)) => Err(QuestionFault::Repeated(what)),
    }
}

/// Reads a method. A comma joins what two fields said.
pub(super) fn method(written: &[u8]) -> Result<Method, QuestionFault> {
    Method::from_bytes(written).map_err(|_| QuestionFault::Unreadable("method"))
}

/// Reads the host that the request names.
pub(super) fn host(written: HeaderValue) -> Result<HeaderValue, QuestionFault> {
    if written.is_empty() || written.as_bytes().contains(&b',') { Err(QuestionFault::Unreadable("host")) } else { Ok(written) }
}

/// Reads a scheme.
pub(super) fn scheme(written: &[u8]) -> Result<Scheme, QuestionFault> {
    match written {
        b"http" => Ok(Scheme::Http),
        b"https" => Ok(Scheme::Https),
        _ => Err(QuestionFault::Unreadable("scheme")),
    }
}

/// Reads a target in origin form, byte for byte. A fragment is no part of one, and the parser would cut it off.
pub(super) fn target(written: &[u8]) -> Result<PathAndQuery, QuestionFault> {
    origin_form(written)?;
    PathAndQuery::try_from(written).map_err(|_| QuestionFault::Target)
}

/// Reads a target that is a part of the message, and shares its memory.
pub(super) fn target_in(message: &Bytes, written: &str) -> Result<PathAndQuery, QuestionFault> {
    origin_form(written.as_bytes())?;
    PathAndQuery::from_maybe_shared(message.slice_ref(written.as_bytes())).map_err(|_| QuestionFault::Target)
}

fn origin_form(written: &[u8]) -> Result<(), QuestionFault> {
    let is_one = written.first() == Some(&b'/') && written.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#');
    if is_one { Ok(()) } else { Err(QuestionFault::Target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_with_a_query_and_is_not_touched() {
        for written in ["/", "/a//b/../c?x=%2F&y", "/..;/admin", "/%c3%a9", "/a?b,c"] {
            assert_eq!(target(written.as_bytes()).unwrap().as_str(), written);
        }
        for written in ["", "*", "a", "http://a.example/b", "/a#b", "/a b", "/\u{e9}", "//a\n", "?a"] {
            assert!(target(written.as_bytes()).is_err(), "{written}");
        }
    }

    #[test]
    fn what_two_fields_said_is_not_one_word() {
        assert!(method(b"GET").is_ok() && method(b"GET,DELETE").is_err() && method(b"GET, GET").is_err() && method(b"").is_err());
        assert!(scheme(b"https").is_ok() && scheme(b"https,http").is_err() && scheme(b"wss").is_err());
        let host = |text: &'static str| host(HeaderValue::from_static(text));
        assert!(host("a.example:8443").is_ok() && host("a.example,b.example").is_err() && host("").is_err());
    }

    #[test]
    fn a_fault_is_a_refusal_with_the_code_of_its_kind() {
        for (fault, reason) in [
            (QuestionFault::Missing("host"), Reason::RequestHeaderInvalid),
            (QuestionFault::Target, Reason::RequestTargetInvalid),
            (QuestionFault::Source, Reason::CallerAddressUnparsable),
            (QuestionFault::Body, Reason::RequestFramingInvalid),
            (QuestionFault::Message(Malformed), Reason::RequestFramingInvalid),
        ] {
            assert_eq!(Refusal::from(fault).reason, reason);
        }
    }
}

//! The places of tokens in a request.

use http::{HeaderName, header};
use secrecy::SecretString;

use crate::request::IncomingRequest;

/// The schemes of tokens in `Authorization`: RFC 6750, and the one that Microsoft's clients use for a certificate-bound token.
/// Only the token itself tells whether it is bound.
pub(crate) const TOKEN_SCHEMES: [&str; 2] = ["Bearer", "mtls_pop"];

/// A place where a token policy looks for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// A header field.
    Header(HeaderName),
    /// A query parameter.
    Query(Box<str>),
}

impl TokenPlace {
    /// Returns the token in this place, without its scheme. A validated place holds one at most.
    pub(crate) fn token(&self, incoming: &IncomingRequest) -> Option<SecretString> {
        match self {
            Self::Header(name) => {
                let text = incoming.headers.get(name)?.to_str().ok()?.trim();
                match text.split_once(' ') {
                    // RFC 9110, section 11.1: schemes are told apart without regard to case.
                    Some((scheme, token)) if TOKEN_SCHEMES.iter().any(|ours| scheme.eq_ignore_ascii_case(ours)) => {
                        Some(token.trim_start().into())
                    }
                    Some(_) => None,
                    None if *name == header::AUTHORIZATION => None,
                    None => Some(text.into()),
                }
            }
            Self::Query(name) => {
                let query = incoming.target.query.as_deref()?;
                let token = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| **key == **name)?.1;
                Some(token.into_owned().into())
            }
        }
    }
}

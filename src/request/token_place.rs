//! Where tokens stand in a request.

use http::{HeaderName, header};
use secrecy::SecretString;

use crate::request::IncomingRequest;

/// The schemes under which tokens come in `Authorization`: RFC 6750, and what Microsoft's clients write before a token that is bound
/// to their certificate. Whether a token is bound is read from the token alone.
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
    /// The token that stands here, without its scheme. Of a place that was validated there is one at most.
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

//! The facts that are known of a request that is judged by its record: what is absent there is absent in the request only if it would
//! have been recorded.

use std::{collections::HashSet, sync::Mutex};

use http::HeaderName;

use super::node::Field;
use crate::{base::lock::lock, request::TokenPlace};

/// The most facts that are noted as unknown.
const MOST: usize = 16;

/// The names of the facts that a record would have, and those that were looked at although it would not.
#[derive(Debug, Default)]
pub struct KnownFacts {
    /// The header fields.
    pub headers: HashSet<HeaderName>,
    /// The query parameters.
    pub parameters: HashSet<Box<str>>,
    /// The claims of tokens.
    pub claims: HashSet<Box<str>>,
    /// True if the caller showed a certificate, of which the record has not enough to judge it.
    pub certificate: bool,
    /// True if the tokens stand in the request itself, so that they can be verified.
    pub tokens: bool,
    missed: Mutex<Vec<String>>,
}

impl KnownFacts {
    /// Notes that a fact was looked at that is not known.
    pub fn misses(&self, fact: String) {
        let mut missed = lock(&self.missed);
        if missed.len() < MOST && !missed.contains(&fact) {
            missed.push(fact);
        }
    }

    /// Returns the facts that were looked at and are not known.
    pub fn missed(&self) -> Vec<String> {
        lock(&self.missed).clone()
    }

    /// Notes the reading of a header field.
    pub fn look_at_header(&self, name: &HeaderName) {
        if !self.headers.contains(name) {
            self.misses(format!("the header field {name}"));
        }
    }

    /// Notes that no token or key was found in this place.
    pub fn look_in(&self, place: &TokenPlace) {
        match place {
            TokenPlace::Header(name) if !self.headers.contains(name) => {
                self.misses(format!("the token or key in the header field {name}"));
            }
            TokenPlace::Query(name) if !self.parameters.contains(&**name) => {
                self.misses(format!("the token or key in the query parameter {name}"));
            }
            _ => {}
        }
    }

    /// Returns the same knowledge of a request that has its tokens, with nothing missed so far.
    pub fn with_tokens(&self) -> Self {
        Self {
            headers: self.headers.clone(),
            parameters: self.parameters.clone(),
            claims: self.claims.clone(),
            certificate: self.certificate,
            tokens: true,
            missed: Mutex::default(),
        }
    }

    /// Notes the reading of a claim.
    pub fn look_at_claim(&self, name: &str) {
        if !self.claims.contains(name) {
            self.misses(format!("the claim {name}"));
        }
    }

    /// Notes that a decision depends on the caller's certificate.
    pub fn look_at_certificate(&self) {
        if self.certificate {
            self.misses("the client's certificate".to_owned());
        }
    }

    /// Notes the reading of a fact by an expression.
    pub(super) fn look_at(&self, field: &Field, found: bool) {
        match field {
            Field::Header(name) if !found => self.look_at_header(name),
            Field::Parameter(name) if !found && !self.parameters.contains(&**name) => {
                self.misses(format!("the query parameter {name}"));
            }
            Field::Claim(name) if !found => self.look_at_claim(name),
            Field::Certificate | Field::CertificateField(_) if !found => self.look_at_certificate(),
            // What of them an expression then takes is not seen here.
            Field::Headers => self.misses("the header fields".to_owned()),
            Field::Query | Field::QueryString | Field::Url => self.misses("the query".to_owned()),
            Field::Claims => self.misses("the claims of the token".to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_would_have_is_absent_and_the_rest_is_unknown() {
        let known = KnownFacts { headers: HashSet::from([HeaderName::from_static("x-team")]), ..KnownFacts::default() };
        known.look_at_header(&HeaderName::from_static("x-team"));
        known.look_at_header(&HeaderName::from_static("x-door"));
        known.look_at_header(&HeaderName::from_static("x-door"));
        known.look_at_claim("department");

        assert_eq!(known.missed(), ["the header field x-door", "the claim department"]);
        (0..100).for_each(|number| known.look_at_claim(&number.to_string()));
        assert_eq!(known.missed().len(), MOST);
    }
}

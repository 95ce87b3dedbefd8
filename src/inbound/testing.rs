//! What the tests of policies share: a scope to build them in.

use super::scope::{CertificateScope, Scope};
use crate::{
    limits::Limits,
    request::{ReservedNames, TokenPlace},
    settings::{Faults, Place, Severity},
};

/// The route that a policy is built for.
#[derive(Debug, Default)]
pub(crate) struct Building<'a> {
    /// The names that its path captures.
    pub(crate) captures: &'a [&'a str],
    /// Whether a token policy stands before the one that is built.
    pub(crate) token: bool,
    /// The counters; new ones if there are none.
    pub(crate) limits: Option<&'a Limits>,
    /// What bears on clients' certificates.
    pub(crate) certificates: CertificateScope<'a>,
    /// Whether it says `anonymous: true`.
    pub(crate) anonymous: bool,
}

impl Building<'_> {
    /// Builds a policy; otherwise what is wrong with it.
    pub(crate) fn build<T>(&self, policy: impl FnOnce(&Place, &mut Scope<'_>) -> Option<T>) -> Result<T, Vec<String>> {
        let mut faults = Faults::default();
        let built = self.build_with(&mut ReservedNames::default(), &mut faults, policy);
        let errors = faults.iter().filter(|fault| fault.severity == Severity::Error).map(|fault| fault.message.clone()).collect();
        match built {
            Some(policy) if !faults.any_error() => Ok(policy),
            _ => Err(errors),
        }
    }

    /// As [`build`](Self::build), with reserved names and faults that several policies share.
    pub(crate) fn build_with<T>(
        &self,
        reserved: &mut ReservedNames,
        faults: &mut Faults,
        policy: impl FnOnce(&Place, &mut Scope<'_>) -> Option<T>,
    ) -> Option<T> {
        let captures: Vec<_> = self.captures.iter().map(|name| (*name).to_owned()).collect();
        let mut token_places = Vec::new();
        if self.token {
            token_places.push(TokenPlace::Header(http::header::AUTHORIZATION));
        }
        let none = Limits::default();
        let mut scope = Scope {
            faults,
            sets: &Default::default(),
            tenants: &Default::default(),
            limits: self.limits.unwrap_or(&none).into(),
            secrets: &Default::default(),
            fragments: &Default::default(),
            shared: &Default::default(),
            depth: 0,
            captures: Some(&captures),
            anonymous: self.anonymous,
            reserved,
            certificates: self.certificates,
            partners: None,
            token_places: &mut token_places,
            graph: None,
            way: &mut Default::default(),
        };
        policy(&Place::root(), &mut scope)
    }
}

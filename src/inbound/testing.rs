//! The tests' context for building policies.

use super::build_context::{BuildContext, CertificateContext};
use crate::{
    limits::Limits,
    request::{ReservedNames, TokenPlace},
    settings::{Faults, Place, Severity},
};

/// The route that a policy is built for.
#[derive(Debug, Default)]
pub(crate) struct Building<'a> {
    /// The captures of its path.
    pub(crate) captures: &'a [&'a str],
    /// True if a token policy precedes the one that is built.
    pub(crate) token: bool,
    /// The counters; new ones if absent.
    pub(crate) limits: Option<&'a Limits>,
    /// The state of clients' certificates.
    pub(crate) certificates: CertificateContext<'a>,
    /// True if it is `anonymous: true`.
    pub(crate) anonymous: bool,
}

impl Building<'_> {
    /// Builds a policy, or returns its faults.
    pub(crate) fn build<T>(&self, policy: impl FnOnce(&Place, &mut BuildContext<'_>) -> Option<T>) -> Result<T, Vec<String>> {
        let mut faults = Faults::default();
        let built = self.build_with(&mut ReservedNames::default(), &mut faults, policy);
        let errors = faults.iter().filter(|fault| fault.severity == Severity::Error).map(|fault| fault.message.clone()).collect();
        match built {
            Some(policy) if !faults.any_error() => Ok(policy),
            _ => Err(errors),
        }
    }

    /// Does the same as [`build`](Self::build) with reserved names and faults that several policies share.
    pub(crate) fn build_with<T>(
        &self,
        reserved: &mut ReservedNames,
        faults: &mut Faults,
        policy: impl FnOnce(&Place, &mut BuildContext<'_>) -> Option<T>,
    ) -> Option<T> {
        let captures: Vec<_> = self.captures.iter().map(|name| (*name).to_owned()).collect();
        let mut token_places = Vec::new();
        if self.token {
            token_places.push(TokenPlace::Header(http::header::AUTHORIZATION));
        }
        let none = Limits::default();
        let mut context = BuildContext {
            faults,
            sets: &Default::default(),
            tenants: &Default::default(),
            limits: self.limits.unwrap_or(&none).into(),
            secrets: &Default::default(),
            captures: Some(&captures),
            anonymous: self.anonymous,
            reserved,
            certificates: self.certificates,
            partners: None,
            token_places: &mut token_places,
            graph: None,
            tokens_before: &mut Default::default(),
            on_error: Default::default(),
            credential_names: &Default::default(),
            upstreams: None,
            key_places: &mut Vec::new(),
        };
        policy(&Place::root(), &mut context)
    }
}

//! An application at a token endpoint: its proof of identity, and its reaction to a refusal.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{
    AssertionConfig,
    aadsts::Next,
    assertion::{Assertions, Subject},
    certificates::Certificates,
    challenge,
    error::Failure,
    key_vault::OpenedSecret,
    pace::Pace,
    past::Past,
    signing_certificate::SigningCertificate,
    status::VaultCertificateStatus,
    token_cache::{Fetched, TokenSlot},
    token_request::{Grant, Proof, TokenRequest},
};
use crate::certificate::keys::{self, CertificateError};
use crate::{
    base::{clock::Clock, text},
    identity_http::IdentityHttp,
    settings::LiveSecret,
};

/// A client at one tenant's token endpoint, with the common parts of its requests.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) assertions: Arc<Assertions>,
    pub(crate) pace: Arc<Pace>,
}

impl Endpoint {
    pub(crate) fn new(url: Url) -> Self {
        Self { url, assertions: Arc::default(), pace: Arc::default() }
    }
}

/// An application that requests tokens.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) client_id: Box<str>,
    pub(crate) identity: Identity,
    /// True if each request states that the client answers claims challenges.
    pub(crate) answers_challenges: bool,
    pub(crate) http: IdentityHttp,
    pub clock: Clock,
}

/// The proof of an application's identity.
#[derive(Debug)]
pub(crate) enum Identity {
    /// With an assertion that a certificate's key signs.
    Certificates(Certificates),
    /// With a shared secret.
    Secret(ClientSecret),
    /// With a token of another issuer, which the platform keeps fresh in a file.
    File(PathBuf),
    /// With the token of a managed identity.
    Managed(Arc<TokenSlot>),
}

/// A client secret, and the vaults that it is read from.
#[derive(Debug)]
pub(crate) struct ClientSecret {
    pub(crate) secret: LiveSecret,
    pub(crate) opened: Vec<OpenedSecret>,
}

impl ClientSecret {
    /// Returns the current value, reading it from its vault if it is not known yet.
    pub(crate) async fn value(&self, clock: &Clock) -> Result<Arc<SecretString>, Failure> {
        if let Some(value) = self.secret.value(clock.unix_seconds()) {
            return Ok(value);
        }
        self.read_again().await;
        self.secret.value(clock.unix_seconds()).ok_or_else(|| {
            let failures = self.opened.iter().filter_map(|opened| opened.secret.last_failure());
            failures.map(Failure::Vault).next().unwrap_or(Failure::NoSecret)
        })
    }

    pub(super) async fn read_again(&self) {
        for opened in &self.opened {
            opened.read_again().await;
        }
    }
}

impl Identity {
    /// Returns the certificates, the preferred one first.
    pub(crate) fn certificates(&self, now: u64) -> Vec<Arc<SigningCertificate>> {
        match self {
            Self::Certificates(certificates) => certificates.in_order(now),
            Self::Secret(_) | Self::File(_) | Self::Managed(_) => Vec::new(),
        }
    }

    /// Returns the certificates of vaults, and their versions in use.
    pub(crate) fn vault_certificates(&self) -> Vec<VaultCertificateStatus> {
        match self {
            Self::Certificates(certificates) => certificates.vault_status(),
            Self::Secret(_) | Self::File(_) | Self::Managed(_) => Vec::new(),
        }
    }

    /// Returns whether both are the same, as far as can be seen.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Certificates(one), Self::Certificates(other)) => one.same_as(other),
            (Self::Secret(one), Self::Secret(other)) => {
                one.secret.same_as(&other.secret)
                    && one.opened.len() == other.opened.len()
                    && one.opened.iter().zip(&other.opened).all(|(one, other)| Arc::ptr_eq(&one.vault, &other.vault))
            }
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Managed(one), Self::Managed(other)) => Arc::ptr_eq(one, other),
            (Self::Certificates(_) | Self::Secret(_) | Self::File(_) | Self::Managed(_), _) => false,
        }
    }

    /// Takes over from the previous config: a proof that was accepted there may still be needed.
    pub(crate) fn after(self, previous: Option<&Self>) -> Self {
        match (self, previous) {
            (Self::Certificates(own), Some(Self::Certificates(previous))) => Self::Certificates(own.after(previous)),
            (own, _) => own,
        }
    }

    /// Returns its files.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match self {
            Self::Certificates(certificates) => certificates.files(),
            // The platform's file changes all the time, and is read for each request.
            Self::Secret(_) | Self::File(_) | Self::Managed(_) => Vec::new(),
        }
    }
}

/// The parameters of a token request.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub scope: &'a str,
    pub grant: Grant<'a>,
    pub claims: Option<&'a str>,
}

impl Application {
    /// Requests a token.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        match &self.identity {
            Identity::Certificates(certificates) => self.ask_with_any(certificates, endpoint, ask).await,
            Identity::Secret(secret) => self.ask_with_secret(secret, endpoint, ask).await,
            Identity::File(file) => {
                // The platform replaces the token long before it ends, so a copy of it would only grow old.
                let bytes = keys::read_file(file)?;
                let text = text::decode(&bytes).map_err(|_| Failure::FederatedFile)?;
                let token = SecretString::from(text.trim());
                if token.expose_secret().is_empty() {
                    return Err(Failure::FederatedFile);
                }
                self.send(Proof::Assertion(&token), endpoint, ask).await
            }
            Identity::Managed(slot) => {
                let token = slot.token().await.map_err(|error| Failure::Identity(Box::new(error)))?;
                self.send(Proof::Assertion(&token.expose().into()), endpoint, ask).await
            }
        }
    }

    /// Requests a token with the secret; if it is refused, once more with the vault's current value.
    async fn ask_with_secret(&self, secret: &ClientSecret, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let value = secret.value(&self.clock).await?;
        let fetched = self.send(Proof::Secret(&value), endpoint, ask.clone()).await;
        if !is_doubted(&fetched) {
            return fetched;
        }
        secret.read_again().await;
        match secret.secret.value(self.clock.unix_seconds()).filter(|newer| !Arc::ptr_eq(newer, &value)) {
            Some(newer) => self.send(Proof::Secret(&newer), endpoint, ask).await,
            None => fetched,
        }
    }

    /// Requests a token with the certificate that was accepted last; if it is refused, with the others, and with the current
    /// content of files and vaults.
    async fn ask_with_any(&self, certificates: &Certificates, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let mut tried: Vec<Arc<SigningCertificate>> = Vec::new();
        let mut outcome = None;
        let mut read_again = false;
        let mut past: Option<Past<'_>> = None;
        loop {
            let known = match (certificates.to_try(&self.clock).await, outcome.take()) {
                (Ok(known), before) => {
                    outcome = before;
                    known
                }
                (Err(failure), None) => return Err(failure),
                (Err(_), Some(before)) => return before,
            };
            let is_tried = |signer: &SigningCertificate| tried.iter().any(|other| other.is(signer));
            let (from_the_past, signer) = match known.into_iter().find(|signer| !is_tried(signer)) {
                Some(signer) => (None, signer),
                None if !read_again => {
                    read_again = true;
                    certificates.read_again(&self.clock).await;
                    continue;
                }
                None => {
                    let Some(Err(failure)) = &outcome else {
                        return outcome.unwrap_or(Err(Failure::Certificate(CertificateError::NoCertificate)));
                    };
                    if past.is_none() && may_have_been_registered_before(failure) {
                        past = Some(Past::of(certificates).await);
                        // Somebody else may have found one meanwhile.
                        continue;
                    }
                    let next = match &mut past {
                        Some(past) => past.next(&tried, &self.clock).await,
                        None => None,
                    };
                    let Some((index, signer)) = next else {
                        let notes = past.map(Past::notes).unwrap_or_default();
                        return outcome.unwrap_or(Err(Failure::Signing)).map_err(|failure| with_notes(failure, &notes));
                    };
                    (Some(index), signer)
                }
            };
            let fetched = self.ask_with(&signer, certificates.settings, endpoint, ask.clone()).await;
            if fetched.is_ok() {
                if let Some(index) = from_the_past {
                    certificates.keep(index, &signer);
                }
                certificates.accept(&signer);
            }
            if is_doubted(&fetched)
                && let Err(Failure::Refused(refused)) = &fetched
            {
                certificates.doubt(&signer, refused.name().as_deref(), &self.clock);
            }
            // A vault that does not sign is no reason to leave a key unused that is here.
            if !is_doubted(&fetched) && !matches!(fetched, Err(Failure::Vault(_))) {
                return fetched;
            }
            tried.push(signer);
            outcome = Some(fetched);
        }
    }

    pub(super) async fn ask_with(
        &self,
        signer: &Arc<SigningCertificate>,
        settings: AssertionConfig,
        endpoint: &Endpoint,
        ask: Ask<'_>,
    ) -> Fetched {
        let subject = Subject { settings, client_id: &self.client_id, audience: endpoint.url.as_str() };
        let (assertion, reused) = endpoint.assertions.of(signer, subject, &self.clock).await?;
        let fetched = self.send(Proof::Assertion(&assertion), endpoint, ask.clone()).await;
        if !is_doubted(&fetched) {
            return fetched;
        }
        endpoint.assertions.forget(&assertion);
        if !reused {
            return fetched.map_err(|failure| signed_with(failure, signer, self.clock.unix_seconds()));
        }
        // It may be the assertion alone that has grown stale: the clock was set, or Entra's is another one.
        let (assertion, _) = endpoint.assertions.of(signer, subject, &self.clock).await?;
        let fetched = self.send(Proof::Assertion(&assertion), endpoint, ask).await;
        if is_doubted(&fetched) {
            endpoint.assertions.forget(&assertion);
        }
        fetched.map_err(|failure| signed_with(failure, signer, self.clock.unix_seconds()))
    }

    pub(super) async fn send(&self, proof: Proof<'_>, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let Ask { scope, grant, claims } = ask;
        let capabilities = self.answers_challenges.then(challenge::capabilities);
        let claims = claims.or(capabilities.as_deref());
        let request = TokenRequest { endpoint: &endpoint.url, client_id: &self.client_id, scope, grant, proof, claims };
        request.send(&self.http, &self.clock).await
    }
}

/// Returns whether the proof was refused, and another one might be accepted.
fn is_doubted(fetched: &Fetched) -> bool {
    matches!(fetched, Err(Failure::Refused(refused)) if refused.next() == Next::OtherCertificate)
}

/// Returns whether an earlier version that Entra knows may be accepted after this failure. It would not help against a wrong
/// clock or a key of the wrong size.
fn may_have_been_registered_before(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refused) if refused.next() == Next::OtherCertificate && !matches!(refused.code, Some(700_024)))
}

/// Adds notes about the older versions to the failure.
fn with_notes(failure: Failure, notes: &[String]) -> Failure {
    match failure {
        Failure::Refused(mut refused) if !notes.is_empty() => {
            let certificate = refused.certificate.take().unwrap_or_default();
            refused.certificate = Some([&[certificate.into()], notes].concat().join("; ").into());
            Failure::Refused(refused)
        }
        failure => failure,
    }
}

/// Adds the refused certificate to the failure.
fn signed_with(failure: Failure, signer: &SigningCertificate, now: u64) -> Failure {
    match failure {
        Failure::Refused(mut refused) if refused.next() == Next::OtherCertificate => {
            refused.certificate = Some(signer.describe().into());
            refused.certificate_expired = signer.has_expired(now);
            Failure::Refused(refused)
        }
        failure => failure,
    }
}

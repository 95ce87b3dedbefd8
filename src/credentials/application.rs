//! An application at Entra: a client id with the means to prove it, asking a token endpoint.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{
    AssertionConfig,
    aadsts::Next,
    assertion::{self, Assertions},
    certificate::{self, Certificate, CertificateError, KeyedCertificate},
    error::Failure,
    key_vault::Vault,
    token_cache::{Fetched, Pace, TokenSlot},
    token_request::{Grant, Proof, TokenRequest},
};
use crate::{clock::Clock, identity_http::IdentityHttp};

/// A client at one tenant's token endpoint: what its requests have in common.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) assertions: Assertions,
    pub(crate) pace: Arc<Pace>,
}

impl Endpoint {
    pub(crate) fn new(url: Url) -> Self {
        Self { url, assertions: Assertions::default(), pace: Arc::default() }
    }
}

/// An application that asks for tokens.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) client_id: Box<str>,
    pub(crate) identity: Identity,
    pub(crate) http: IdentityHttp,
    pub(crate) clock: Clock,
}

/// How an application proves who it is.
#[derive(Debug)]
pub(crate) enum Identity {
    /// With a signed assertion.
    Certificates(Certificates),
    /// With an assertion that a vault signs.
    Vault(VaultIdentity),
    /// With a shared secret.
    Secret(SecretString),
    /// With a token of another issuer, which the platform keeps fresh in a file.
    File(PathBuf),
    /// With the token of a managed identity.
    Managed(Arc<TokenSlot>),
}

impl Identity {
    /// The certificates, that which is used first.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        match self {
            Self::Certificates(certificates) => {
                certificates.in_order().into_iter().map(|(_, pair)| pair.certificate().clone()).collect()
            }
            Self::Vault(vault) => vault.current.load_full().map(|pair| pair.certificate.clone()).into_iter().collect(),
            Self::Secret(_) | Self::File(_) | Self::Managed(_) => Vec::new(),
        }
    }

    /// Whether both are the same, as far as it can be seen.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Certificates(one), Self::Certificates(other)) => one.same_as(other),
            (Self::Secret(one), Self::Secret(other)) => one.expose_secret() == other.expose_secret(),
            // What has not been built anew is the same, if the settings are; those are compared elsewhere.
            (Self::Vault(one), Self::Vault(other)) => Arc::ptr_eq(&one.vault.slot, &other.vault.slot),
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Managed(one), Self::Managed(other)) => Arc::ptr_eq(one, other),
            (Self::Certificates(_) | Self::Vault(_) | Self::Secret(_) | Self::File(_) | Self::Managed(_), _) => false,
        }
    }

    /// The files that it comes from.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match self {
            Self::Certificates(certificates) => certificates.sources.iter().flat_map(CertificateSource::files).collect(),
            // The platform's file changes all the time, and is read for each request.
            Self::Vault(_) | Self::Secret(_) | Self::File(_) | Self::Managed(_) => Vec::new(),
        }
    }
}

/// A certificate in a vault, which signs with its key.
#[derive(Debug)]
pub(crate) struct VaultIdentity {
    pub(crate) vault: Vault,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) settings: AssertionConfig,
    /// What was read last, and accepted.
    pub(crate) current: ArcSwapOption<VaultPair>,
}

/// A certificate, and the URL of its very key: so that header and signature always belong together.
#[derive(Debug)]
pub(crate) struct VaultPair {
    pub(crate) certificate: Certificate,
    key: Url,
}

impl VaultIdentity {
    pub(crate) async fn read(&self) -> Result<Arc<VaultPair>, Failure> {
        let (certificate, key) = self.vault.certificate(&self.name, self.version.as_deref()).await?;
        Ok(Arc::new(VaultPair { certificate, key }))
    }

    pub(crate) async fn assertion(
        &self,
        pair: &VaultPair,
        endpoint: &Endpoint,
        client_id: &str,
        now: u64,
    ) -> Result<Arc<SecretString>, Failure> {
        let VaultPair { certificate, key } = pair;
        if let Some(kept) = endpoint.assertions.kept(certificate, self.settings, now) {
            return Ok(kept);
        }
        let input = assertion::signing_input(certificate, self.settings, client_id, endpoint.url.as_str(), now);
        let signature = self.vault.sign(key, certificate, self.settings.algorithm, input.as_bytes()).await?;
        let assertion = assertion::compact(&input, &signature);
        endpoint.assertions.keep(assertion.clone(), certificate, self.settings, now);
        Ok(assertion)
    }
}

/// What a token is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) scope: &'a str,
    pub(crate) grant: Grant<'a>,
    pub(crate) claims: Option<&'a str>,
}

impl Application {
    /// Asks for a token.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        match &self.identity {
            Identity::Certificates(certificates) => self.ask_with_any(certificates, endpoint, ask).await,
            Identity::Vault(vault) => self.ask_with_vault(vault, endpoint, ask).await,
            Identity::Secret(secret) => self.send(Proof::Secret(secret), endpoint, ask).await,
            Identity::File(file) => {
                // The platform replaces the token long before it ends, so a copy of it would only grow old.
                let bytes = certificate::read_file(file)?;
                let text = str::from_utf8(&bytes).map_err(|_| Failure::Signing)?;
                self.send(Proof::Assertion(&text.trim().into()), endpoint, ask).await
            }
            Identity::Managed(slot) => {
                let token = slot.token().await.map_err(|error| Failure::Identity(Box::new(error)))?;
                self.send(Proof::Assertion(&token.expose().into()), endpoint, ask).await
            }
        }
    }

    /// Asks with the version that was accepted last. When it is refused, the vault's latest is tried, and taken if it is accepted.
    async fn ask_with_vault(&self, identity: &VaultIdentity, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let pair = match identity.current.load_full() {
            Some(pair) => pair,
            None => identity.read().await?,
        };
        let fetched = self.ask_with_vault_pair(identity, &pair, endpoint, ask.clone()).await;
        match &fetched {
            Ok(_) => {
                identity.current.store(Some(pair));
                return fetched;
            }
            Err(Failure::Refused(failure)) if failure.next() == Next::OtherCertificate => {}
            Err(_) => return fetched,
        }
        let latest = identity.read().await?;
        if latest.certificate.x5t_s256() == pair.certificate.x5t_s256() {
            return fetched;
        }
        let fetched = self.ask_with_vault_pair(identity, &latest, endpoint, ask).await;
        if fetched.is_ok() {
            identity.current.store(Some(latest));
        }
        fetched
    }

    async fn ask_with_vault_pair(
        &self,
        identity: &VaultIdentity,
        pair: &VaultPair,
        endpoint: &Endpoint,
        ask: Ask<'_>,
    ) -> Fetched {
        let assertion = identity.assertion(pair, endpoint, &self.client_id, self.clock.unix_seconds()).await?;
        let fetched = self.send(Proof::Assertion(&assertion), endpoint, ask).await;
        fetched.map_err(|failure| doubted(failure, endpoint, &assertion, &pair.certificate))
    }

    /// Asks with the certificate that was accepted last; if it is not accepted now, with what its file holds by now and with the
    /// others.
    async fn ask_with_any(&self, certificates: &Certificates, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let mut refused: Vec<String> = Vec::new();
        loop {
            let candidates = certificates.in_order();
            let next = candidates.iter().find(|(_, pair)| !refused.contains(&pair.certificate().x5t_s256()));
            let Some((index, pair)) = next else { return Err(Failure::Certificate(CertificateError::NoCertificate)) };
            let fetched = self.ask_with(pair, certificates.settings, endpoint, ask.clone()).await;
            match &fetched {
                Ok(_) => {
                    certificates.accepted.store(*index, Ordering::Relaxed);
                    return fetched;
                }
                Err(Failure::Refused(failure)) if failure.next() == Next::OtherCertificate => {}
                Err(_) => return fetched,
            }
            refused.push(pair.certificate().x5t_s256());
            // The file may hold another one by now.
            certificates.reload();
            let others = certificates.in_order();
            if others.iter().all(|(_, pair)| refused.contains(&pair.certificate().x5t_s256())) {
                return fetched;
            }
        }
    }

    async fn ask_with(&self, pair: &KeyedCertificate, settings: AssertionConfig, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let audience = endpoint.url.as_str();
        let assertion = endpoint.assertions.local(pair, settings, &self.client_id, audience, self.clock.unix_seconds())?;
        let fetched = self.send(Proof::Assertion(&assertion), endpoint, ask).await;
        fetched.map_err(|failure| doubted(failure, endpoint, &assertion, pair.certificate()))
    }

    async fn send(&self, proof: Proof<'_>, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let Ask { scope, grant, claims } = ask;
        let request = TokenRequest { endpoint: &endpoint.url, client_id: &self.client_id, scope, grant, proof, claims };
        request.send(&self.http, &self.clock).await
    }
}

/// Forgets an assertion whose certificate was not accepted, and names that certificate in the failure.
fn doubted(failure: Failure, endpoint: &Endpoint, assertion: &SecretString, certificate: &Certificate) -> Failure {
    match failure {
        Failure::Refused(mut refused) if refused.next() == Next::OtherCertificate => {
            endpoint.assertions.forget(assertion);
            refused.certificate = Some(describe(certificate).into());
            Failure::Refused(refused)
        }
        failure => failure,
    }
}

/// A certificate as an operator looks for it in the portal.
fn describe(certificate: &Certificate) -> String {
    let end = jiff::Timestamp::from_second(certificate.not_after().cast_signed()).map(|end| end.strftime("%Y-%m-%d").to_string());
    format!("{}, thumbprint {}, valid until {}", certificate.subject(), certificate.thumbprint(), end.unwrap_or_default())
}

/// The certificates that an application may prove itself with, in the order of preference.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) settings: AssertionConfig,
    sources: Vec<CertificateSource>,
    loaded: ArcSwap<Vec<Arc<KeyedCertificate>>>,
    /// The index of the one that was accepted last.
    accepted: AtomicUsize,
}

impl Certificates {
    /// The certificates of `sources`, which are never none.
    ///
    /// # Errors
    /// The indexes of the sources that cannot be loaded, and why.
    pub(crate) fn load(
        settings: AssertionConfig,
        sources: Vec<CertificateSource>,
    ) -> Result<Self, Vec<(usize, CertificateError)>> {
        let (mut loaded, mut failed) = (Vec::new(), Vec::new());
        for (index, source) in sources.iter().enumerate() {
            match source.load() {
                Ok(pair) => loaded.push(Arc::new(pair)),
                Err(error) => failed.push((index, error)),
            }
        }
        if !failed.is_empty() {
            return Err(failed);
        }
        Ok(Self { settings, sources, loaded: ArcSwap::from_pointee(loaded), accepted: AtomicUsize::new(0) })
    }

    /// The certificates, that which was accepted last first.
    pub(crate) fn in_order(&self) -> Vec<(usize, Arc<KeyedCertificate>)> {
        let mut list: Vec<_> = self.loaded.load_full().iter().cloned().enumerate().collect();
        let accepted = self.accepted.load(Ordering::Relaxed);
        list.sort_by_key(|(index, _)| (*index != accepted, *index));
        list
    }

    /// Reads the files again; what cannot be read stays as it was.
    fn reload(&self) {
        let old = self.loaded.load_full();
        let new = self.sources.iter().zip(old.iter()).map(|(source, old)| match source.load() {
            Ok(new) => Arc::new(new),
            Err(error) => {
                tracing::warn!(error = super::token_cache::chain(&error), "the certificate cannot be read again");
                old.clone()
            }
        });
        self.loaded.store(Arc::new(new.collect()));
    }

    /// Whether both hold the same certificates.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let thumbprints =
            |list: &Self| list.loaded.load_full().iter().map(|pair| pair.certificate().x5t_s256()).collect::<Vec<_>>();
        thumbprints(self) == thumbprints(other)
    }
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug)]
pub(crate) struct CertificateSource {
    /// Where the certificate is.
    pub(crate) file: PathBuf,
    /// What the file is.
    pub(crate) form: CertificateForm,
    /// The password of the file, or of the key.
    pub(crate) password: Option<SecretString>,
}

/// The form of a certificate's file.
#[derive(Clone, Debug)]
pub(crate) enum CertificateForm {
    /// PEM; the key is in this file, where it has one of its own.
    Pem(Option<PathBuf>),
    /// PKCS#12.
    Pfx,
}

impl CertificateSource {
    fn load(&self) -> Result<KeyedCertificate, CertificateError> {
        let bytes = certificate::read_file(&self.file)?;
        let password = self.password.as_ref();
        match &self.form {
            CertificateForm::Pem(key) => {
                let key = key.as_deref().map(certificate::read_file).transpose()?;
                KeyedCertificate::from_pem(&bytes, key.as_ref().map(|key| key.as_slice()), password)
            }
            CertificateForm::Pfx => KeyedCertificate::from_pfx(&bytes, password),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let key = match &self.form {
            CertificateForm::Pem(key) => key.as_deref(),
            CertificateForm::Pfx => None,
        };
        std::iter::once(&*self.file).chain(key)
    }

    /// The file that holds the key.
    pub(crate) fn key_file(&self) -> &Path {
        match &self.form {
            CertificateForm::Pem(Some(key)) => key,
            CertificateForm::Pem(None) | CertificateForm::Pfx => &self.file,
        }
    }
}

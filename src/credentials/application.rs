//! An application at Entra: a client id with the means to prove it, asking a token endpoint.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use secrecy::SecretString;
use url::Url;

use super::{
    AssertionConfig,
    aadsts::Next,
    assertion::Assertions,
    certificate::{self, CertificateError, KeyedCertificate},
    error::Failure,
    token_cache::{Fetched, Pace},
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
    pub(crate) certificates: Certificates,
    pub(crate) http: IdentityHttp,
    pub(crate) clock: Clock,
}

/// What a token is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) scope: &'a str,
    pub(crate) grant: Grant<'a>,
    pub(crate) claims: Option<&'a str>,
}

impl Application {
    /// Asks for a token; with another certificate too, where the first is not accepted and there is another.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let mut refused = Vec::new();
        let mut candidates = self.certificates.in_order();
        loop {
            let Some((index, pair)) = candidates.iter().find(|(_, pair)| !refused.contains(&pair.certificate().x5t_s256()))
            else {
                return Err(Failure::Certificate(CertificateError::NoCertificate));
            };
            let fetched = self.ask_with(pair, endpoint, ask.clone()).await;
            match &fetched {
                Ok(_) => {
                    self.certificates.accepted.store(*index, Ordering::Relaxed);
                    return fetched;
                }
                Err(Failure::Refused(failure)) if failure.next() == Next::OtherCertificate && refused.len() < 3 => {}
                Err(_) => return fetched,
            }
            refused.push(pair.certificate().x5t_s256());
            // The file may hold another one by now; during a rotation there is a second one anyway.
            self.certificates.reload();
            candidates = self.certificates.in_order();
            if candidates.iter().all(|(_, pair)| refused.contains(&pair.certificate().x5t_s256())) {
                return fetched;
            }
        }
    }

    async fn ask_with(&self, pair: &KeyedCertificate, endpoint: &Endpoint, ask: Ask<'_>) -> Fetched {
        let assertion = self.assertion(pair, endpoint)?;
        let request = TokenRequest {
            endpoint: &endpoint.url,
            client_id: &self.client_id,
            scope: ask.scope,
            grant: ask.grant,
            proof: Proof::Assertion(&assertion),
            claims: ask.claims,
        };
        let fetched = request.send(&self.http, &self.clock).await;
        match fetched {
            Err(Failure::Refused(mut failure)) if failure.next() == Next::OtherCertificate => {
                endpoint.assertions.forget(&assertion);
                failure.certificate = Some(describe(pair).into());
                Err(Failure::Refused(failure))
            }
            fetched => fetched,
        }
    }

    fn assertion(&self, pair: &KeyedCertificate, endpoint: &Endpoint) -> Result<Arc<SecretString>, Failure> {
        endpoint.assertions.local(
            pair,
            self.certificates.settings,
            &self.client_id,
            endpoint.url.as_str(),
            self.clock.unix_seconds(),
        )
    }
}

/// A certificate as an operator looks for it in the portal.
fn describe(pair: &KeyedCertificate) -> String {
    let certificate = pair.certificate();
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
    /// The index of the source that cannot be loaded, and why.
    pub(crate) fn load(settings: AssertionConfig, sources: Vec<CertificateSource>) -> Result<Self, (usize, CertificateError)> {
        let loaded = sources
            .iter()
            .enumerate()
            .map(|(index, source)| source.load().map(Arc::new).map_err(|error| (index, error)))
            .collect::<Result<Vec<_>, _>>()?;
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

    /// The files that the certificates come from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().flat_map(CertificateSource::files)
    }
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateSource {
    /// PEM files.
    Pem {
        /// The certificate, and the key unless that has a file of its own.
        pem: PathBuf,
        /// The key.
        private_key: Option<PathBuf>,
    },
}

impl CertificateSource {
    fn load(&self) -> Result<KeyedCertificate, CertificateError> {
        match self {
            Self::Pem { pem, private_key } => {
                let text = certificate::read_file(pem)?;
                let key = private_key.as_deref().map(certificate::read_file).transpose()?;
                KeyedCertificate::from_pem(&text, key.as_ref().map(|key| key.as_slice()))
            }
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        match self {
            Self::Pem { pem, private_key } => std::iter::once(pem.as_path()).chain(private_key.as_deref()),
        }
    }

    /// The file that holds the key.
    pub(crate) fn key_file(&self) -> &Path {
        match self {
            Self::Pem { pem, private_key } => private_key.as_deref().unwrap_or(pem),
        }
    }
}

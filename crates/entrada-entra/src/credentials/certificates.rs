//! An application's certificates, from files and vaults, through rotations.
//!
//! A source supplies its current certificate. The one that was accepted last is tried first, so that a new version in a vault,
//! which Entra does not know until it is uploaded, changes nothing; after a refusal, the sources are read again and their content
//! is tried. The certificate of an earlier config is tried last: a file is often replaced before Entra knows. If nothing is
//! accepted, earlier versions are looked up in the vault ([`past`](super::past)).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use secrecy::SecretString;

use super::{
    AssertionConfig, KeyUse,
    error::Failure,
    key_vault::{self, Vault, VaultError},
    past::RefusedVersion,
    signing_certificate::SigningCertificate,
};
use crate::base::{clock::Clock, error_chain::chain, lock::lock};
use crate::certificate::{
    Thumbprint,
    keys::{self, Certificate, CertificateError, KeyedCertificate, ThumbprintedKey},
};

/// The interval at which a vault is asked for a newer version.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// The number of days before its end from which on a vault's certificate causes a warning when it is read.
const WARN_DAYS: i64 = 30;

/// The certificates of an application, in the order of preference.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) settings: AssertionConfig,
    sources: Vec<Kept>,
    /// The id of the last accepted certificate.
    accepted: Mutex<Option<String>>,
    /// The certificate that the previous config signed with, if it was accepted.
    before: Option<Arc<SigningCertificate>>,
    /// Held while older versions are tried: others wait for the result.
    pub(super) looking_back: tokio::sync::Mutex<()>,
}

/// A source, and its content when it was read.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) source: CertificateSource,
    pub(super) newest: ArcSwapOption<SigningCertificate>,
    /// The previous certificate, which may still be the accepted one.
    pub(super) older: ArcSwapOption<SigningCertificate>,
    /// An older version from the vault that was accepted instead of the newest one.
    pub(super) found: ArcSwapOption<SigningCertificate>,
    /// The refusal of the newest version by Entra.
    pub(super) refused: Mutex<Option<RefusedVersion>>,
    /// The time of the last reading, on the monotonic clock.
    read_at: Mutex<Option<Duration>>,
}

/// The source of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) enum CertificateSource {
    /// Files.
    File(CertificateFile),
    /// A vault.
    Vault(VaultSource),
}

/// A certificate in files.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFile {
    /// The file of the certificate, or of the key that is there without it.
    pub(crate) file: PathBuf,
    /// The format of the file.
    pub(crate) form: CertificateForm,
    /// The password of the file, or of the key.
    pub(crate) password: Option<SecretString>,
}

/// The format of a certificate's file.
#[derive(Clone, Debug)]
pub(crate) enum CertificateForm {
    /// PEM; the key is in this file, or else in the same file.
    Pem(Option<PathBuf>),
    /// PEM, with the private key alone; its certificate has this thumbprint.
    Key(Thumbprint),
    /// PKCS#12.
    Pfx,
}

/// A certificate in a vault.
#[derive(Clone, Debug)]
pub(crate) struct VaultSource {
    pub(crate) vault: Arc<Vault>,
    pub name: String,
    /// The pinned version, if any.
    pub(crate) version: Option<String>,
    pub(crate) key_use: KeyUse,
}

impl Certificates {
    /// Loads the certificates of `sources`, of which there is at least one. Files are read at once, vaults on the first token
    /// request.
    ///
    /// # Errors
    /// Returns the indexes of the files that cannot be loaded, and the reasons.
    pub(crate) fn load(
        settings: AssertionConfig,
        sources: Vec<CertificateSource>,
    ) -> Result<Self, Vec<(usize, CertificateError)>> {
        let (mut kept, mut failed) = (Vec::new(), Vec::new());
        for (index, source) in sources.into_iter().enumerate() {
            let newest = match &source {
                CertificateSource::File(file) => match file.load() {
                    Ok(signer) => Some(Arc::new(signer)),
                    Err(error) => {
                        failed.push((index, error));
                        continue;
                    }
                },
                CertificateSource::Vault(_) => None,
            };
            kept.push(Kept {
                source,
                newest: ArcSwapOption::new(newest),
                older: ArcSwapOption::empty(),
                found: ArcSwapOption::empty(),
                refused: Mutex::default(),
                read_at: Mutex::default(),
            });
        }
        if failed.is_empty() {
            Ok(Self { settings, sources: kept, accepted: Mutex::default(), before: None, looking_back: Default::default() })
        } else {
            Err(failed)
        }
    }

    /// Keeps the previous config's certificate as a last resort, since a source may hold another one by now.
    pub(crate) fn after(mut self, previous: &Self) -> Self {
        // A version that is pinned is the one that is meant.
        let follows = |kept: &Kept| !matches!(&kept.source, CertificateSource::Vault(VaultSource { version: Some(_), .. }));
        if self.sources.iter().any(follows) {
            let accepted = lock(&previous.accepted).clone();
            self.before = previous.known().into_iter().find(|signer| accepted == Some(signer.id()));
        }
        self
    }

    /// Returns the loaded certificates, in the order in which they are tried.
    pub(crate) fn in_order(&self, now: u64) -> Vec<Arc<SigningCertificate>> {
        let accepted = lock(&self.accepted).clone();
        let mut known = self.known();
        known.sort_by_key(|signer| (signer.has_expired(now), accepted.as_ref() != Some(&signer.id())));
        known
    }

    /// Returns the certificates in the order of their sources, for messages when they are loaded.
    pub(crate) fn by_source(&self) -> impl Iterator<Item = (usize, Arc<SigningCertificate>)> {
        self.sources.iter().enumerate().filter_map(|(index, kept)| Some((index, kept.newest.load_full()?)))
    }

    /// Returns the sources, with their last known content.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&CertificateSource, Option<Arc<SigningCertificate>>)> {
        self.sources.iter().map(|kept| (&kept.source, kept.newest.load_full()))
    }

    fn known(&self) -> Vec<Arc<SigningCertificate>> {
        let mut known: Vec<Arc<SigningCertificate>> = Vec::new();
        let newest = self.sources.iter().map(|kept| kept.newest.load_full());
        let older = self.sources.iter().flat_map(|kept| [kept.found.load_full(), kept.older.load_full()]);
        for signer in newest.chain(older).flatten().chain(self.before.clone()) {
            if !known.iter().any(|other| other.is(&signer)) {
                known.push(signer);
            }
        }
        known
    }

    /// Returns the certificates to try, in order. Vaults that were not asked yet, or not for long, are asked.
    ///
    /// # Errors
    /// Fails if there is none, because no vault supplied any.
    pub(crate) async fn to_try(&self, clock: &Clock) -> Result<Vec<Arc<SigningCertificate>>, Failure> {
        let mut failure = None;
        for kept in &self.sources {
            let read_at = *lock(&kept.read_at);
            let due = match &kept.source {
                CertificateSource::File(_) => false,
                CertificateSource::Vault(VaultSource { version: Some(_), .. }) => read_at.is_none(),
                CertificateSource::Vault(_) => read_at.is_none_or(|at| clock.monotonic() >= at + LOOK_EVERY),
            };
            if due && let Err(error) = kept.read(clock).await {
                failure.get_or_insert(error);
            }
        }
        let again = self.newest_again(clock);
        let mut known = self.in_order(clock.unix_seconds());
        if let Some(at) = again.and_then(|again| known.iter().position(|signer| Arc::ptr_eq(signer, &again))) {
            known[..=at].rotate_right(1);
        }
        match failure {
            Some(failure) if known.is_empty() => Err(failure),
            _ => Ok(known),
        }
    }

    /// Reads all sources again after a refusal.
    pub(crate) async fn read_again(&self, clock: &Clock) {
        for kept in &self.sources {
            if let Err(error) = kept.read(clock).await {
                tracing::warn!(error = chain(&error), "the certificate cannot be read again");
            }
        }
    }

    /// Remembers the accepted certificate.
    pub(crate) fn accept(&self, signer: &SigningCertificate) {
        let id = signer.id();
        let mut accepted = lock(&self.accepted);
        if accepted.as_ref() != Some(&id) {
            if accepted.is_some() {
                let (subject, thumbprint) = (signer.subject(), signer.thumbprint());
                tracing::info!(subject, thumbprint, "another certificate is accepted from now on");
            }
            *accepted = Some(id);
        }
        drop(accepted);
        self.told_of_accepted(signer);
    }

    /// Returns the last accepted certificate.
    pub(super) fn accepted(&self) -> Option<Arc<SigningCertificate>> {
        let id = lock(&self.accepted).clone()?;
        self.known().into_iter().find(|signer| signer.id() == id)
    }

    pub(super) fn kept(&self) -> &[Kept] {
        &self.sources
    }

    /// Returns whether both hold the same, as far as can be seen: a vault's content is the same if the settings are, and those
    /// are compared elsewhere.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.sources.len() == other.sources.len()
            && self.sources.iter().zip(&other.sources).all(|(one, other)| match (&one.source, &other.source) {
                (CertificateSource::Vault(one), CertificateSource::Vault(other)) => Arc::ptr_eq(&one.vault, &other.vault),
                (CertificateSource::File(_), CertificateSource::File(_)) => {
                    let id = |kept: &Kept| kept.newest.load_full().map(|signer| signer.id());
                    id(one) == id(other)
                }
                (CertificateSource::Vault(_) | CertificateSource::File(_), _) => false,
            })
    }

    /// Returns their files.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let files = self.sources.iter().filter_map(|kept| match &kept.source {
            CertificateSource::File(file) => Some(file.files()),
            CertificateSource::Vault(_) => None,
        });
        files.flatten().collect()
    }
}

impl Kept {
    async fn read(&self, clock: &Clock) -> Result<(), Failure> {
        let read = match &self.source {
            CertificateSource::File(file) => file.load()?,
            CertificateSource::Vault(source) => source.read().await?,
        };
        *lock(&self.read_at) = Some(clock.monotonic());
        let before = self.newest.load_full();
        if before.as_ref().is_some_and(|before| before.is(&read)) {
            return Ok(());
        }
        if let (CertificateSource::Vault(source), Some(certificate)) = (&self.source, read.certificate()) {
            tell(source, certificate, clock.unix_seconds());
            if read.is_exportable() {
                tracing::warn!(name = &*source.name, cure = key_vault::NON_EXPORTABLE, "{}", key_vault::EXPORTABLE);
            }
        }
        if before.is_some() {
            self.older.store(before);
        }
        self.newest.store(Some(Arc::new(read)));
        Ok(())
    }
}

/// Logs the version of a certificate that a vault supplied, and a warning if it ends soon.
fn tell(source: &VaultSource, certificate: &Certificate, now: u64) {
    let (name, subject, thumbprint) = (&*source.name, certificate.subject(), certificate.thumbprint());
    let days_left = certificate.days_left(now);
    if days_left < WARN_DAYS {
        tracing::warn!(name, subject, thumbprint, days_left, "the certificate in the vault ends soon");
    } else {
        tracing::info!(name, subject, thumbprint, days_left, "certificate read from its vault");
    }
}

impl VaultSource {
    pub(crate) async fn read(&self) -> Result<SigningCertificate, Arc<VaultError>> {
        let (name, version) = (&*self.name, self.version.as_deref());
        match self.key_use {
            KeyUse::Sign => Ok(SigningCertificate::InVault(self.vault.certificate(name, version).await?, self.vault.clone())),
            KeyUse::Download => {
                let (pair, version) = self.vault.keyed_certificate(name, version).await?;
                Ok(SigningCertificate::Downloaded(pair, version))
            }
        }
    }

    /// Reads another version.
    pub(crate) async fn read_version(&self, version: &str) -> Result<SigningCertificate, Arc<VaultError>> {
        Self { version: Some(version.to_owned()), ..self.clone() }.read().await
    }
}

impl CertificateFile {
    pub(super) fn load(&self) -> Result<SigningCertificate, CertificateError> {
        let bytes = keys::read_file(&self.file)?;
        let password = self.password.as_ref();
        match &self.form {
            CertificateForm::Pem(key) => {
                let key = key.as_deref().map(keys::read_file).transpose()?;
                KeyedCertificate::from_pem(&bytes, key.as_ref().map(|key| key.as_slice()), password).map(SigningCertificate::Here)
            }
            CertificateForm::Key(thumbprint) => {
                ThumbprintedKey::from_pem(&bytes, password, *thumbprint).map(SigningCertificate::KeyOnly)
            }
            CertificateForm::Pfx => KeyedCertificate::from_pfx(&bytes, password).map(SigningCertificate::Here),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let key = match &self.form {
            CertificateForm::Pem(key) => key.as_deref(),
            CertificateForm::Key(_) | CertificateForm::Pfx => None,
        };
        std::iter::once(&*self.file).chain(key)
    }

    /// Returns the file that holds the key.
    pub(crate) fn key_file(&self) -> &Path {
        match &self.form {
            CertificateForm::Pem(Some(key)) => key,
            CertificateForm::Pem(None) | CertificateForm::Key(_) | CertificateForm::Pfx => &self.file,
        }
    }
}

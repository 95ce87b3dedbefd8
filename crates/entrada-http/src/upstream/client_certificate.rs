//! The gateway's own certificate towards the servers of an upstream.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{crypto::aws_lc_rs::default_provider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    certificate::{
        ClientCertificate,
        keys::{CertificateError, LOOSE_CURE, loose_key, read_file},
    },
    settings::{Faults, Lint, Place},
};

/// The number of days before expiry from which on a warning is given.
const WARN_DAYS: i64 = 30;

/// The gateway's own certificate, for servers that request one.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamCertificateConfig {
    /// The certificate, and the intermediates up to its authority (PEM); read again when the file changes.
    pub pem: String,
    /// The private key (PEM, not encrypted); read again when the file changes. Default: it is in the same file.
    pub private_key: Option<String>,
}

impl UpstreamCertificateConfig {
    /// Returns the files that are read.
    pub fn files(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.pem).chain(&self.private_key)
    }
}

/// The gateway's own certificate, read and matched with its key.
#[derive(Clone)]
pub(super) struct OwnCertificate {
    pub(super) key: Arc<CertifiedKey>,
    certificate: Arc<ClientCertificate>,
}

/// The status of the gateway's own certificate.
#[derive(Clone, Debug, Serialize)]
pub struct OwnCertificateStatus {
    /// The subject of the certificate.
    pub subject: String,
    /// SHA-256, in hexadecimal.
    pub thumbprint: String,
    /// Whole days until it expires; negative after that.
    pub days_left: i64,
}

impl OwnCertificate {
    /// Reads certificate and key; file names are relative to `base`. Faults go to `faults`.
    pub(super) fn build(config: &UpstreamCertificateConfig, base: &Path, place: &Place, faults: &mut Faults) -> Option<Self> {
        let pem = base.join(&config.pem);
        let key = config.private_key.as_ref().map_or_else(|| pem.clone(), |key| base.join(key));
        match Self::load(&pem, &key) {
            Ok(own) => {
                if let Some(message) = loose_key(&key) {
                    faults.warning(Lint::SecretFilePermissions, place, message, LOOSE_CURE);
                }
                Some(own)
            }
            Err((file, error)) => {
                let at = if file == key && config.private_key.is_some() { "private-key" } else { "pem" };
                let cure = match error {
                    CertificateError::Encrypted => "decrypt it, and let the file's permissions protect it",
                    ref error => error.cure(),
                };
                let message = format!("{}: {}", file.display(), crate::base::error_chain::chain(&error));
                faults.error(&place.key(at), message, cure);
                None
            }
        }
    }

    fn load(pem: &Path, key: &Path) -> Result<Self, (PathBuf, CertificateError)> {
        let of = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        let text = read_file(pem).map_err(of(pem))?;
        let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|_| of(pem)(CertificateError::PemUnreadable))?;
        if certificates.is_empty() {
            return Err(of(pem)(CertificateError::NoCertificate));
        }
        let text = read_file(key).map_err(of(key))?;
        let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let encrypted = memchr::memmem::find(&text, b"ENCRYPTED").is_some();
            of(key)(if encrypted { CertificateError::Encrypted } else { CertificateError::NoKey })
        })?;
        let unusable = |reason: rustls::Error| of(key)(CertificateError::KeyUnusable { reason: reason.to_string().into() });
        let signer = default_provider().key_provider.load_private_key(private).map_err(unusable)?;
        // The certificate that counts is the key's own, wherever it stands; the others are its chain.
        for index in 0..certificates.len() {
            let mut chain = certificates.clone();
            chain[..=index].rotate_right(1);
            let pair = CertifiedKey::new(chain, signer.clone());
            if pair.keys_match().is_ok() {
                let certificate = ClientCertificate::read(&pair.cert);
                let certificate = certificate.map_err(|_| of(pem)(CertificateError::CertificateUnreadable))?;
                return Ok(Self { key: Arc::new(pair), certificate: Arc::new(certificate) });
            }
        }
        let first = ClientCertificate::read(&certificates[..1]);
        let first = first.map_err(|_| of(pem)(CertificateError::CertificateUnreadable))?;
        Err(of(key)(CertificateError::Mismatch { subject: first.subject().into() }))
    }

    /// Returns whether both show the same certificates, and so have the same key.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }

    /// Returns its status at this time.
    pub(super) fn status(&self, now: u64) -> OwnCertificateStatus {
        OwnCertificateStatus {
            subject: self.certificate.subject().to_owned(),
            thumbprint: self.certificate.thumbprint_sha256().to_owned(),
            days_left: (self.certificate.not_after().cast_signed() - now.cast_signed()).div_euclid(86_400),
        }
    }

    /// Warns ahead of its expiry.
    pub(super) fn lint(&self, place: &Place, now: u64, faults: &mut Faults) {
        let OwnCertificateStatus { subject, days_left, .. } = self.status(now);
        let message = match days_left {
            ..0 => format!("the certificate of {subject} has expired"),
            0..WARN_DAYS => format!("the certificate of {subject} expires in {days_left} days"),
            _ => return,
        };
        faults.warning(Lint::CertificateExpiry, place, message, "replace the files; they are read again when they change");
    }
}

// A key is no part of any log.
impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

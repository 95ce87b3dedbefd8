//! A client's certificate: its fields, and the authorities that vouch for it.
//!
//! Three questions are kept apart:
//!
//! - **Possession**: whether the caller holds the private key. The TLS handshake always proves it; for a certificate in a header,
//!   the proxy that wrote the header has checked it.
//! - **Trust, validity, revocation**: whether an authority vouches for the certificate now ([`Authorities`]). Signatures are
//!   verified once per certificate, times for each request.
//! - **Identity**: whether it is the expected certificate ([`Thumbprint`], names). Policies and partners decide that.

mod authorities;
pub mod header;
pub mod keys;
mod name;
mod thumbprint;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use entrada_base::{self as base, refusal};
use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time};

pub use authorities::{Authorities, AuthoritiesError, AuthorityStatus, Checks, RevocationListStatus, Verdict};
pub use name::NameFault;
pub use name::canonical;
pub use thumbprint::serial as serial_number;
pub use thumbprint::{Thumbprint, ThumbprintFault};

use crate::refusal::{Reason, Refusal};

/// The maximum number of certificates read of a chain: more than any authority uses, and a bound on our work.
pub const LONGEST_CHAIN: usize = 10;

/// A parsed client certificate.
pub struct ClientCertificate {
    /// The certificate, followed by those that came with it, in their order.
    chain: Box<[CertificateDer<'static>]>,
    subject: Box<str>,
    issuer: Box<str>,
    common_name: Option<Box<str>>,
    serial: Box<str>,
    dns_names: Box<[Box<str>]>,
    emails: Box<[Box<str>]>,
    uris: Box<[Box<str>]>,
    not_before: u64,
    not_after: u64,
    sha1: [u8; 20],
    sha256: [u8; 32],
    thumbprint: Box<str>,
    thumbprint_sha256: Box<str>,
    /// SHA-256 of the whole chain.
    digest: [u8; 32],
}

/// An error: the certificate, or one that came with it, cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be read")]
pub struct Unreadable;

impl ClientCertificate {
    /// Reads a certificate and those that came with it, the client's own first.
    ///
    /// # Errors
    /// Fails if there is none, if there are too many, or if the first is not an X.509 certificate.
    pub fn read(chain: &[CertificateDer<'_>]) -> Result<Self, Unreadable> {
        let Some(leaf) = chain.first().filter(|_| chain.len() <= LONGEST_CHAIN) else { return Err(Unreadable) };
        let (rest, parsed) = X509Certificate::from_der(leaf).map_err(|_| Unreadable)?;
        if !rest.is_empty() {
            return Err(Unreadable);
        }
        let mut common_names = parsed.subject().iter_common_name();
        let common_name = match (common_names.next(), common_names.next()) {
            (Some(name), None) => name::text(name.attr_value()).map(Into::into),
            // Which of several is meant nobody can tell.
            _ => None,
        };
        let (mut dns_names, mut emails, mut uris) = (Vec::new(), Vec::new(), Vec::new());
        // An extension that is there twice is an error here.
        let names = parsed.subject_alternative_name().map_err(|_| Unreadable)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push(name.to_ascii_lowercase().into()),
                GeneralName::RFC822Name(name) => emails.push((*name).into()),
                GeneralName::URI(name) => uris.push((*name).into()),
                _ => {}
            }
        }
        let sha1 = hash(&SHA1_FOR_LEGACY_USE_ONLY, leaf);
        let sha256 = hash(&SHA256, leaf);
        let mut whole = digest::Context::new(&SHA256);
        for certificate in chain {
            // Each with its length, so that no two chains run into the same bytes.
            whole.update(&certificate.len().to_be_bytes());
            whole.update(certificate);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(whole.finish().as_ref());
        Ok(Self {
            subject: name::of(parsed.subject()),
            issuer: name::of(parsed.issuer()),
            common_name,
            serial: serial(parsed.raw_serial()),
            dns_names: dns_names.into(),
            emails: emails.into(),
            uris: uris.into(),
            not_before: seconds(parsed.validity().not_before),
            not_after: seconds(parsed.validity().not_after),
            thumbprint: hex(&sha1),
            thumbprint_sha256: hex(&sha256),
            sha1,
            sha256,
            digest,
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        })
    }

    /// Returns the subject as RFC 4514 writes it, with a blank after each comma: `CN=client, O=Fabrikam, C=NL`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the issuer, written like the subject.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the common name, where the subject has exactly one.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Returns the serial number in hexadecimal, upper case, without leading zeros.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Returns the DNS names (subject alternative names), lower case.
    pub fn dns_names(&self) -> &[Box<str>] {
        &self.dns_names
    }

    /// Returns the e-mail addresses (subject alternative names).
    pub fn emails(&self) -> &[Box<str>] {
        &self.emails
    }

    /// Returns the URIs (subject alternative names), as SPIFFE has them.
    pub fn uris(&self) -> &[Box<str>] {
        &self.uris
    }

    /// Returns the first second in which it is valid, since 1970.
    pub const fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Returns the last second in which it is valid, since 1970.
    pub const fn not_after(&self) -> u64 {
        self.not_after
    }

    /// SHA-1 of the certificate in hexadecimal, upper case, as API Management and portals show it.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// SHA-256 of the certificate in hexadecimal, upper case.
    pub fn thumbprint_sha256(&self) -> &str {
        &self.thumbprint_sha256
    }

    /// Returns the SHA-256 digest of the certificate, as in certificate-bound tokens (`x5t#S256`).
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Returns the certificate in base64, as App Service forwards it.
    pub fn encoded(&self) -> String {
        STANDARD.encode(&*self.chain[0])
    }

    /// Checks a time against its validity, as far as `checks` ask for it.
    ///
    /// # Errors
    /// Fails if it is not valid yet, or no longer.
    pub fn check_times(&self, checks: Checks, now: u64) -> Result<(), CertificateFault> {
        authorities::check_times((self.not_before, self.not_after), checks, now)
    }

    /// Returns whether the time lies within its validity, both ends included (RFC 5280, section 4.1.2.5).
    pub const fn is_valid_at(&self, now: u64) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

// Names may be a person's.
impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("thumbprint_sha256", &self.thumbprint_sha256).finish_non_exhaustive()
    }
}

/// The reason why a client's certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// There is none.
    #[error("the caller showed no certificate")]
    Missing,
    /// The header with a forwarded certificate cannot be read.
    #[error("the header with the certificate cannot be read: {0}")]
    Header(#[from] header::HeaderFault),
    /// No authority vouches for it.
    #[error("no authority vouches for the certificate: {0}")]
    Untrusted(Box<str>),
    /// It, or one of its issuers, is not valid yet.
    #[error("the certificate, or one of its issuers, becomes valid in {0} s")]
    NotYetValid(u64),
    /// It, or one of its issuers, is no longer valid.
    #[error("the certificate, or one of its issuers, expired {0} s ago")]
    Expired(u64),
    /// It, or one of its issuers, was revoked.
    #[error("the certificate, or one of its issuers, was revoked")]
    Revoked,
    /// The revocation status is unknown.
    #[error("the revocation status of the certificate is unknown: {0}")]
    RevocationUnknown(Box<str>),
    /// It is not one of the expected certificates.
    #[error("the certificate of {subject} matches none of the identities (SHA-256 {thumbprint})")]
    NotAllowed {
        /// The subject of the certificate.
        subject: Box<str>,
        /// SHA-256, in hexadecimal.
        thumbprint: Box<str>,
    },
}

impl From<CertificateFault> for Refusal {
    fn from(fault: CertificateFault) -> Self {
        let reason = match &fault {
            CertificateFault::Missing => Reason::ClientCertificateMissing,
            CertificateFault::Header(_) | CertificateFault::Untrusted(_) | CertificateFault::RevocationUnknown(_) => {
                Reason::ClientCertificateUntrusted
            }
            CertificateFault::NotYetValid(_) | CertificateFault::Expired(_) => Reason::ClientCertificateExpired,
            CertificateFault::Revoked => Reason::ClientCertificateRevoked,
            CertificateFault::NotAllowed { .. } => Reason::ClientCertificateNotAllowed,
        };
        Self::new(reason, fault)
    }
}

/// Converts a time to seconds since 1970; earlier times become 0, since no certificate in use today was valid then.
fn seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

/// Returns a serial number in hexadecimal, without the zeros before it.
fn serial(bytes: &[u8]) -> Box<str> {
    let text = hex(bytes);
    let number = text.trim_start_matches('0');
    if number.is_empty() { "0".into() } else { number.into() }
}

fn hex(bytes: &[u8]) -> Box<str> {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A string takes every write.
        let _ = write!(text, "{byte:02X}");
    }
    text.into()
}

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest::digest(algorithm, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests;

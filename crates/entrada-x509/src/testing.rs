//! Authorities and clients' certificates for tests, generated on the fly.

#![allow(missing_docs, missing_debug_implementations, clippy::unwrap_used, reason = "helpers of tests alone")]

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::ClientCertificate;

/// 2026-01-01, within the default validity of the test certificates.
pub const NOW: u64 = 1_767_225_600;

/// An authority.
pub struct Authority(pub CertifiedIssuer<'static, KeyPair>);

/// A client's certificate with its key.
pub struct Issued {
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub key_pem: String,
}

/// The unusual properties of a test certificate.
#[derive(Clone, Default)]
pub struct Unusual {
    /// The first and last years of validity; default 2025 and 2035.
    pub years: Option<(i32, i32)>,
    /// Restricts the certificate to server authentication.
    pub for_servers: bool,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// The serial number; 7 otherwise.
    pub serial: Option<u64>,
}

fn params(name: &str, years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "NL");
    params.distinguished_name.push(DnType::OrganizationName, "Fabrikam, Inc.");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    params
}

fn authority_params(name: &str, years: (i32, i32)) -> CertificateParams {
    let mut params = params(name, years);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::valid_in(name, (2025, 2035))
    }

    pub fn valid_in(name: &str, years: (i32, i32)) -> Self {
        Self(CertifiedIssuer::self_signed(authority_params(name, years), KeyPair::generate().unwrap()).unwrap())
    }

    /// Makes an authority that this one has certified.
    pub fn subordinate(&self, name: &str, years: (i32, i32)) -> Self {
        let mut params = authority_params(name, years);
        params.serial_number = Some(SerialNumber::from(77));
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// Makes another certificate for the same authority: same name and key, other years.
    pub fn renewed_by(&self, issuer: &Self, name: &str, years: (i32, i32)) -> Self {
        let key = KeyPair::from_pem(&self.0.key().serialize_pem()).unwrap();
        Self(CertifiedIssuer::signed_by(authority_params(name, years), key, &issuer.0).unwrap())
    }

    pub fn issue(&self, name: &str) -> Issued {
        self.issue_unusual(name, &Unusual::default())
    }

    pub fn issue_unusual(&self, name: &str, unusual: &Unusual) -> Issued {
        let params = client_params(name, unusual);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.0).unwrap();
        Issued { der: made.der().clone(), pem: made.pem(), key_pem: key.serialize_pem() }
    }

    /// Makes this authority's revocation list, with the next one due in that year.
    pub fn revoke(&self, serials: &[u64], next_update: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 6, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 6, 1),
            next_update: date_time_ymd(next_update, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }
}

/// Makes a self-signed certificate.
pub fn self_signed(name: &str) -> Issued {
    let params = client_params(name, &Unusual::default());
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    Issued { der: made.der().clone(), pem: made.pem(), key_pem: key.serialize_pem() }
}

fn client_params(name: &str, unusual: &Unusual) -> CertificateParams {
    let mut params = params(name, unusual.years.unwrap_or((2025, 2035)));
    params.serial_number = Some(SerialNumber::from(unusual.serial.unwrap_or(7)));
    let purpose = if unusual.for_servers { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
    params.extended_key_usages = vec![purpose];
    let dns_names = unusual.dns_names.iter().map(|name| SanType::DnsName(name.clone().try_into().unwrap()));
    let emails = unusual.emails.iter().map(|email| SanType::Rfc822Name(email.clone().try_into().unwrap()));
    let uris = unusual.uris.iter().map(|uri| SanType::URI(uri.clone().try_into().unwrap()));
    params.subject_alt_names = dns_names.chain(emails).chain(uris).collect();
    params
}

impl Issued {
    /// Parses the certificate, with others that a client would send along.
    pub fn read(&self, more: &[&Authority]) -> ClientCertificate {
        let chain: Vec<_> = std::iter::once(self.der.clone()).chain(more.iter().map(|authority| authority.der())).collect();
        ClientCertificate::read(&chain).unwrap()
    }
}

/// Writes a file and returns its path.
pub fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

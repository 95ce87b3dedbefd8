//! Certificate authorities, clients' certificates, and callers with one, generated on the fly.

use std::{path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key and issuer.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The certificate, then its issuers, PEM.
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap())
    }

    /// Makes an authority that this one has certified.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        Self(CertifiedIssuer::signed_by(authority(name), KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// Returns a client's certificate.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.issue(&client(name), "")
    }

    /// Makes a client's certificate with changed parameters.
    pub(crate) fn client_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = client(name);
        change(&mut params);
        self.issue(&params, "")
    }

    /// Makes a client's certificate that includes this authority's own.
    pub(crate) fn client_with_chain(&self, name: &str) -> Identity {
        self.issue(&client(name), &self.pem())
    }

    /// Returns a server's certificate for loopback and a name.
    pub(crate) fn server(&self, name: &str) -> Identity {
        let mut params = client(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names =
            vec![SanType::DnsName(name.to_owned().try_into().unwrap()), SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
        self.issue(&params, "")
    }

    fn issue(&self, params: &CertificateParams, more: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { chain: format!("{}{more}", certificate.pem()), key: key.serialize_pem(), der: certificate.der().clone() }
    }

    /// Returns a revocation list of the serial numbers, PEM.
    pub(crate) fn revoked(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 6, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 6, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Fabrikam");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2090, 1, 1));
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn client(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://fabrikam.example/{name}").try_into().unwrap())];
    params
}

/// Makes a self-signed client certificate.
pub(crate) fn self_signed(name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = client(name).self_signed(&key).unwrap();
    Identity { chain: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

impl Identity {
    /// Returns the SHA-256 digest in hexadecimal, upper case.
    pub(crate) fn thumbprint(&self) -> String {
        sha256(&self.der).iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// Returns the SHA-256 digest as in tokens.
    pub(crate) fn x5t_s256(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha256(&self.der))
    }

    /// Writes `NAME.pem` and `NAME.key`, and returns the `tls` entry for them.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> String {
        let (chain, key) = (folder.join(name).with_extension("pem"), folder.join(name).with_extension("key"));
        std::fs::write(&chain, &self.chain).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("{{ certificate: {}, private-key: {} }}", chain.display(), key.display())
    }
}

/// Makes an HTTP client that trusts an authority, and shows a certificate if it has one.
pub(crate) fn client_of(authority: &Authority, identity: Option<&Identity>, http2: bool) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_der(&authority.der()).unwrap()])
        .redirect(reqwest::redirect::Policy::none());
    let builder = if http2 { builder } else { builder.http1_only() };
    match identity {
        Some(identity) => {
            let pem = format!("{}{}", identity.chain, identity.key);
            builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap()).build().unwrap()
        }
        None => builder.build().unwrap(),
    }
}

/// Makes TLS settings of a client that trusts an authority, and shows a certificate if it has one. Sessions are resumed.
pub(crate) fn tls_of(authority: &Authority, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

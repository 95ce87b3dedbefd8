//! Certificates for tests, generated on the fly.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p12_keystore::{EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKeyChain};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

use super::{
    access_token::Issued,
    error::{Failure, ForWhom},
    token_cache::{Background, TokenSlot},
};
use crate::certificate::keys::KeyedCertificate;
use crate::{
    base::clock::Clock,
    credentials::{CertificateConfig, CredentialConfig, Credentials, Setting},
    dev_tenant::{DevTenant, Options},
    entra::TenantConfig,
    identity_http::{IdentityHttp, IdentityHttpConfig},
    settings::{Faults, Place, Secrets},
};

/// A self-signed certificate and its key.
pub(crate) struct Made {
    pub(crate) certificate_pem: String,
    pub(crate) certificate_der: Vec<u8>,
    pub(crate) key_pem: String,
    pub(crate) key_der: Vec<u8>,
}

impl Made {
    pub(crate) fn pair(&self) -> KeyedCertificate {
        KeyedCertificate::from_pem(self.certificate_pem.as_bytes(), Some(self.key_pem.as_bytes()), None).unwrap()
    }

    /// Returns both in one text.
    pub(crate) fn pem(&self) -> String {
        format!("{}{}", self.certificate_pem, self.key_pem)
    }

    /// Returns the key, encrypted with `password` as PKCS#8 has it.
    pub(crate) fn key_encrypted_pem(&self, parameters: &pkcs8::pkcs5::pbes2::Parameters, password: &str) -> String {
        let encrypted = parameters.encrypt(password, &self.key_der).unwrap();
        let info = pkcs8::EncryptedPrivateKeyInfoOwned {
            encryption_algorithm: parameters.clone().into(),
            encrypted_data: pkcs8::der::asn1::OctetString::new(encrypted).unwrap(),
        };
        pem_of("ENCRYPTED PRIVATE KEY", &pkcs8::der::Encode::to_der(&info).unwrap())
    }

    /// Returns both as PKCS#12.
    pub(crate) fn pfx(&self, password: &str, encryption: EncryptionAlgorithm, mac: MacAlgorithm) -> Vec<u8> {
        let certificate = p12_keystore::Certificate::from_der(&self.certificate_der).unwrap();
        let key = p12_keystore::PrivateKey::from_der(&self.key_der).unwrap();
        let mut store = KeyStore::new();
        store.add_entry("gateway", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(vec![1], key, [certificate])));
        store
            .writer(password)
            .encryption_algorithm(encryption)
            .mac_algorithm(mac)
            .encryption_iterations(1_000)
            .mac_iterations(1_000)
            .write()
            .unwrap()
    }

    pub(crate) fn key_pkcs1_pem(&self) -> String {
        // RFC 5208, section 5: the PKCS#1 form is what the octet string at the end of the PKCS#8 form holds.
        let start = memchr::memmem::find(&self.key_der, &[0x04, 0x82]).unwrap() + 4;
        pem_of("RSA PRIVATE KEY", &self.key_der[start..])
    }
}

fn pem_of(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Returns a certificate with an RSA key of 2048 bits, valid from 2025 to 2035.
pub(crate) fn certificate(name: &str) -> Made {
    made(name, &KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

/// Returns a certificate with an elliptic key.
pub(crate) fn elliptic_certificate() -> Made {
    made("elliptic", &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
}

fn made(name: &str, key: &KeyPair) -> Made {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2035, 1, 1);
    let certificate = params.self_signed(key).unwrap();
    Made {
        certificate_pem: certificate.pem(),
        certificate_der: certificate.der().to_vec(),
        key_pem: key.serialize_pem(),
        key_der: key.serialize_der(),
    }
}

/// Makes a slot that gets these tokens, one after the other, and then none.
pub(crate) fn slot_of<const N: usize>(tokens: [&'static str; N]) -> Arc<TokenSlot> {
    let clock = Clock::manual(1_000_000);
    let tokens = Mutex::new(tokens.into_iter());
    let sent_at = clock.monotonic();
    TokenSlot::new(
        "gateway".into(),
        ForWhom::Gateway,
        Box::new(move |_| {
            let token = tokens.lock().unwrap().next();
            Box::pin(async move {
                let token = token.ok_or(Failure::Nonsense("holds no token"))?;
                Ok(Issued { token: token.to_owned().into(), lifetime: Duration::from_secs(3_600), renew_in: None, sent_at })
            })
        }),
        Arc::default(),
        Background { clock, handle: Arc::default(), second_attempt_after: Duration::ZERO },
        None,
    )
}

pub(crate) static GATEWAY: LazyLock<Made> = LazyLock::new(|| certificate("gateway"));
pub(crate) static OTHER: LazyLock<Made> = LazyLock::new(|| certificate("other"));

pub(crate) const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
pub(crate) const SCOPE: &str = "api://orders-internal/.default";

/// A development tenant, a folder with the gateway's certificate, and the context of credentials.
pub(crate) struct House {
    pub(crate) entra: DevTenant,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) tenants: BTreeMap<String, TenantConfig>,
    pub(crate) http: Arc<IdentityHttp>,
    pub(crate) clock: Clock,
    pub(crate) secrets: Secrets,
}

impl House {
    pub(crate) async fn open() -> Self {
        let clock = Clock::manual(1_800_000_000);
        let entra = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
        entra.update_app(CLIENT, |app| app.certificate_pem(&GATEWAY.certificate_pem));
        let folder = tempfile::tempdir().unwrap();
        let house = Self {
            tenants: [("contoso".to_owned(), tenant(&entra.tenant_id(), Some(entra.base_url())))].into(),
            http: Arc::new(IdentityHttp::new(&IdentityHttpConfig::default()).unwrap()),
            entra,
            folder,
            clock,
            secrets: Secrets::default(),
        };
        house.write("gateway.pem", &GATEWAY.pem());
        house
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn build(&self, config: CredentialConfig, previous: Option<&Credentials>) -> (Credentials, Faults) {
        self.build_all(&BTreeMap::from([("gateway".to_owned(), config)]), previous)
    }

    pub(crate) fn build_all(
        &self,
        configs: &BTreeMap<String, CredentialConfig>,
        previous: Option<&Credentials>,
    ) -> (Credentials, Faults) {
        let setting = Setting {
            tenants: &self.tenants,
            base: self.folder.path(),
            secrets: &self.secrets,
            http: &self.http,
            clock: &self.clock,
            previous,
        };
        let mut faults = Faults::default();
        let credentials = Credentials::build(configs, &setting, &Place::root().key("credentials"), &mut faults);
        (credentials, faults)
    }

    pub(crate) fn gateway(&self) -> Credentials {
        let (credentials, faults) = self.build(config(), None);
        assert!(faults.is_empty(), "{faults:?}");
        credentials
    }
}

pub(crate) fn tenant(id: &str, authority: Option<&str>) -> TenantConfig {
    TenantConfig {
        id: id.to_owned(),
        cloud: Default::default(),
        authority: authority.map(str::to_owned),
        stale: None,
        graph: None,
        required: None,
    }
}

pub(crate) fn config() -> CredentialConfig {
    CredentialConfig {
        tenant: Some("contoso".to_owned()),
        client_id: Some(CLIENT.to_owned()),
        certificate: Some(pem("gateway.pem")),
        ..CredentialConfig::default()
    }
}

pub(crate) fn pem(name: &str) -> CertificateConfig {
    CertificateConfig { pem: Some(name.to_owned()), ..CertificateConfig::default() }
}

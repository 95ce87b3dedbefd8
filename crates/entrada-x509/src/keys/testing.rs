//! Certificates with their keys, for tests: generated, never stored.

#![allow(missing_docs, missing_debug_implementations, clippy::unwrap_used, reason = "helpers of tests alone")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p12_keystore::{EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKeyChain};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

use super::KeyedCertificate;

/// A self-signed certificate and its key.
pub struct Made {
    pub certificate_pem: String,
    pub certificate_der: Vec<u8>,
    pub key_pem: String,
    pub key_der: Vec<u8>,
}

impl Made {
    pub fn pair(&self) -> KeyedCertificate {
        KeyedCertificate::from_pem(self.certificate_pem.as_bytes(), Some(self.key_pem.as_bytes()), None).unwrap()
    }

    /// Returns both in one text.
    pub fn pem(&self) -> String {
        format!("{}{}", self.certificate_pem, self.key_pem)
    }

    /// Returns the key, encrypted with `password` as PKCS#8 has it.
    pub fn key_encrypted_pem(&self, parameters: &pkcs8::pkcs5::pbes2::Parameters, password: &str) -> String {
        let encrypted = parameters.encrypt(password, &self.key_der).unwrap();
        let info = pkcs8::EncryptedPrivateKeyInfoOwned {
            encryption_algorithm: parameters.clone().into(),
            encrypted_data: pkcs8::der::asn1::OctetString::new(encrypted).unwrap(),
        };
        pem_of("ENCRYPTED PRIVATE KEY", &pkcs8::der::Encode::to_der(&info).unwrap())
    }

    /// Returns both as PKCS#12.
    pub fn pfx(&self, password: &str, encryption: EncryptionAlgorithm, mac: MacAlgorithm) -> Vec<u8> {
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

    pub fn key_pkcs1_pem(&self) -> String {
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
pub fn certificate(name: &str) -> Made {
    made(name, &KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

/// Returns a certificate with an elliptic key.
pub fn elliptic_certificate() -> Made {
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

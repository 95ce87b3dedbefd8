//! The settings of credentials, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Secret;

/// A credential of the gateway: an application with one means to prove itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CredentialConfig {
    /// The name of the tenant that issues the tokens.
    pub tenant: Option<String>,
    /// The application (client) id, a GUID.
    pub client_id: Option<String>,
    /// The certificate with its private key.
    pub certificate: Option<CertificateConfig>,
    /// Two certificates during a rotation: the one that Entra accepts is remembered.
    pub certificates: Vec<CertificateConfig>,
    /// How client assertions are signed.
    pub assertion: AssertionConfig,
    /// A client secret. A certificate is better: a secret can be copied by whoever sees it, and leaves the machine on each request.
    pub client_secret: Option<Secret>,
    /// Whether `/readyz` waits until the tokens of this credential are there. Default: false.
    pub required: bool,
}

/// Where a certificate and its private key are: a PEM file, or a PFX file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CertificateConfig {
    /// A PEM file with the certificate, and the private key unless `private-key` names another file.
    pub pem: Option<String>,
    /// A PEM file with the private key. Only with `pem`.
    pub private_key: Option<String>,
    /// A PKCS#12 file with the certificate and the private key.
    pub pfx: Option<String>,
    /// The password of the PFX file, or of an encrypted private key.
    pub password: Option<Secret>,
}

/// How client assertions are signed.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AssertionConfig {
    /// The signature: PS256 names the certificate by `x5t#S256`, RS256 by `x5t`. Default: PS256.
    pub algorithm: AssertionAlgorithm,
    /// Sends the certificate chain (`x5c`), which only subject-name trust needs. Default: false.
    pub send_certificate_chain: bool,
}

/// The signature of client assertions.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum AssertionAlgorithm {
    /// RSASSA-PSS with SHA-256.
    #[default]
    PS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

//! The settings of credentials, as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// A credential of the gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CredentialConfig {
    /// The name of the tenant that issues the tokens.
    pub tenant: String,
    /// The application (client) id, a GUID.
    pub client_id: String,
    /// The certificate with its private key.
    pub certificate: CertificateConfig,
    /// How client assertions are signed.
    #[serde(default)]
    pub assertion: AssertionConfig,
    /// Whether `/readyz` waits until this credential's certificate was accepted. Default: false.
    #[serde(default)]
    pub required: bool,
}

/// Where a certificate and its private key are.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CertificateConfig {
    /// A PEM file with the certificate, and the private key unless `private-key` names another file.
    pub pem: String,
    /// A PEM file with the private key.
    pub private_key: Option<String>,
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

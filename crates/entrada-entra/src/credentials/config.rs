//! The settings of credentials.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::Secret;

/// A credential of the gateway: an application with one proof of its identity.
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
    /// The signing of client assertions.
    pub assertion: AssertionConfig,
    /// A client secret. Prefer a certificate: a secret can be copied by anyone who sees it, and leaves the machine on each
    /// request.
    pub client_secret: Option<Secret>,
    /// A token of another issuer that the app registration trusts, in place of a certificate.
    pub federated_token: Option<FederatedTokenConfig>,
    /// The identity of the Kubernetes pod.
    pub workload_identity: Option<WorkloadIdentityConfig>,
    /// The identity of the machine, or of the service that the gateway runs in.
    pub managed_identity: Option<ManagedIdentityConfig>,
    /// Whether its token requests announce that claims challenges are answered (`xms_cc: cp1`): Microsoft Graph then issues
    /// tokens that live for a day and can be revoked at once. Default: false.
    pub answers_claims_challenges: bool,
    /// Makes `/readyz` wait for the tokens of this credential. Default: false.
    pub required: bool,
}

/// The location of a certificate and its private key: a PEM file, a PFX file or a Key Vault.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CertificateConfig {
    /// A PEM file with the certificate, and the private key unless `private-key` names another file.
    pub pem: Option<String>,
    /// A PEM file with the private key. Only with `pem`, or with `thumbprint`.
    pub private_key: Option<String>,
    /// The thumbprint of the certificate that the app registration has, in hexadecimal, for a private key without its certificate:
    /// SHA-1, as the portal shows it, signs with RS256; SHA-256 signs with PS256.
    pub thumbprint: Option<String>,
    /// A PKCS#12 file with the certificate and the private key.
    pub pfx: Option<String>,
    /// The password of the PFX file, or of an encrypted private key.
    pub password: Option<Secret>,
    /// A certificate in a Key Vault, whose private key signs there.
    pub key_vault: Option<KeyVaultCertificateConfig>,
}

/// A certificate in a Key Vault.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyVaultCertificateConfig {
    /// The vault: `https://contoso.vault.azure.net`.
    pub vault: String,
    /// The certificate's name.
    pub certificate: String,
    /// The pinned version. Default: the latest; a later one is looked for when this one is no longer accepted.
    pub version: Option<String>,
    /// The credential that opens the vault: one with a managed identity, a workload identity or another certificate.
    pub identity: String,
    /// The use of the private key. Default: sign.
    #[serde(default, rename = "use")]
    pub key_use: KeyUse,
}

/// The use of a private key in a vault.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUse {
    /// It stays in the vault and signs there.
    #[default]
    Sign,
    /// It is downloaded from the vault, which the certificate's policy has to allow, and signs locally.
    Download,
}

/// A token of another issuer that the app registration trusts: from a file, or from a managed identity.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FederatedTokenConfig {
    /// The file that holds the token; read for each token request.
    pub file: Option<String>,
    /// The credential with the managed identity.
    pub managed_identity: Option<String>,
}

/// The identity of the Kubernetes pod. Missing values are taken from the environment, as the platform sets them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WorkloadIdentityConfig {
    /// The file that holds the pod's token. Default: `AZURE_FEDERATED_TOKEN_FILE`.
    pub token_file: Option<String>,
}

/// The identity of the machine: its own, or one that is assigned to it and named here by one of its ids.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ManagedIdentityConfig {
    /// The client id of a user-assigned identity.
    pub client_id: Option<String>,
    /// The object (principal) id of a user-assigned identity.
    pub object_id: Option<String>,
    /// The resource id of a user-assigned identity: `/subscriptions/…`.
    pub resource_id: Option<String>,
    /// The platform endpoint. Default: auto.
    pub source: ManagedIdentitySource,
}

/// The platform endpoint that supplies a managed identity's tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ManagedIdentitySource {
    /// The endpoint that the environment names, or else that of virtual machines.
    #[default]
    Auto,
    /// Virtual machines and Kubernetes nodes.
    Imds,
    /// App Service, Functions and Container Apps.
    AppService,
    /// Machines that Azure Arc manages.
    Arc,
    /// Services on Service Fabric.
    ServiceFabric,
}

/// The signing of client assertions.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AssertionConfig {
    /// The signature: PS256 names the certificate by `x5t#S256`, RS256 by `x5t`. Default: PS256; RS256 for a private key with a SHA-1
    /// thumbprint.
    pub algorithm: Option<AssertionAlgorithm>,
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

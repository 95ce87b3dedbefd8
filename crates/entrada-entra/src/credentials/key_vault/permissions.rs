//! The permissions that an identity needs in a vault.
//!
//! A vault has one of two models: role assignments (Azure RBAC), or its own access policies, in which roles do not count.

use super::VaultAction;

/// The finding for a key that signs in a vault and can be exported.
pub(crate) const EXPORTABLE: &str = "the private key signs in the vault, and its policy lets it be exported all the same: a copy is good until the \
    certificate ends, a stolen token for an hour";
/// The cure for it.
pub(crate) const NON_EXPORTABLE: &str = "make a new version whose policy says `exportable: false`, as `entrada certificate policy` prints it, \
    upload it to the app registration, and disable the versions before it";

impl VaultAction {
    /// Returns the cure in a vault with role assignments.
    pub(super) const fn roles(self) -> &'static str {
        match self {
            Self::ReadCertificate | Self::Sign => {
                "give the identity the roles Key Vault Crypto User and Key Vault Reader on this vault; it takes minutes to take effect"
            }
            Self::DownloadCertificate => {
                "give the identity the role Key Vault Certificate User on this vault; it takes minutes to take effect"
            }
            Self::ListVersions => "give the identity the role Key Vault Reader on this vault; it takes minutes to take effect",
            Self::ReadSecret => {
                "give the identity the role Key Vault Secrets User on this vault; it takes minutes to take effect"
            }
        }
    }

    /// Returns the cure in a vault with access policies.
    pub(in crate::credentials) const fn access_policy(self) -> &'static str {
        match self {
            Self::ReadCertificate | Self::Sign | Self::ListVersions => {
                "the vault has access policies, in which roles do not count: give the identity `get` and `sign` of keys, `get` and `list` of certificates, and nothing else (az keyvault set-policy --name VAULT --object-id ID --key-permissions get sign --certificate-permissions get list)"
            }
            Self::DownloadCertificate => {
                "the vault has access policies, in which roles do not count: give the identity `get` of secrets and of certificates (az keyvault set-policy --name VAULT --object-id ID --secret-permissions get --certificate-permissions get)"
            }
            Self::ReadSecret => {
                "the vault has access policies, in which roles do not count: give the identity `get` of secrets (az keyvault set-policy --name VAULT --object-id ID --secret-permissions get)"
            }
        }
    }
}

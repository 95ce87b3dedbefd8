//! Signatures by a certificate's key that stays in its vault, for others than token requests.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{
    AssertionAlgorithm, Credentials, KeyUse, KeyVaultCertificateConfig, VaultError,
    key_vault::{self, Vault, VaultCertificate},
};
use crate::settings::{Faults, Place};

/// A key in a vault that signs texts there, with PS256.
#[derive(Debug)]
pub struct VaultSigner {
    vault: Arc<Vault>,
    name: String,
    version: Option<String>,
    /// The certificate, once it was read.
    read: Mutex<Option<Arc<VaultCertificate>>>,
}

/// A signature of a vault's key.
#[derive(Clone, Debug)]
pub struct VaultSignature {
    /// The signature: RSASSA-PSS with SHA-256.
    pub signature: Vec<u8>,
    /// The certificate of the key, DER.
    pub certificate: Vec<u8>,
}

impl Credentials {
    /// Returns a signer with this certificate's key; faults of its settings go to `faults`.
    pub fn vault_signer(&self, config: &KeyVaultCertificateConfig, place: &Place, faults: &mut Faults) -> Option<VaultSigner> {
        let KeyVaultCertificateConfig { vault, certificate, version, identity, key_use } = config;
        let before = faults.errors();
        let url = key_vault::vault_url(vault);
        if url.is_none() {
            let cure = "write it as https://contoso.vault.azure.net";
            faults.error(&place.key("vault"), format!("`{vault}` is not a vault"), cure);
        }
        for (key, name) in [("certificate", Some(certificate)), ("version", version.as_ref())] {
            if let Some(name) = name.filter(|name| !key_vault::is_name(name)) {
                let message = format!("`{name}` cannot be the name of something in a vault");
                faults.error(&place.key(key), message, "names have letters, digits and hyphens alone");
            }
        }
        if *key_use == KeyUse::Download {
            let message = "a key that seals records stays in its vault";
            faults.error(&place.key("use"), message, "leave `use` out, or name a file as the key");
        }
        let credential = self.find(identity);
        if credential.is_none() && !self.is_broken(identity) {
            let cure = "define it in `credentials`";
            faults.error(&place.key("identity"), format!("no credential is named `{identity}`"), cure);
        }
        let vault = credential?.vault(url?);
        if vault.is_none() {
            let message = format!("credential `{identity}` has no tenant of its own");
            faults.error(&place.key("identity"), message, "name the vault's tenant at that credential");
        }
        if faults.errors() > before {
            return None;
        }
        Some(VaultSigner { vault: vault?, name: certificate.clone(), version: version.clone(), read: Mutex::default() })
    }
}

impl VaultSigner {
    /// Signs a text. The certificate is read anew after a failure, so that a later version takes over.
    ///
    /// # Errors
    /// Fails if the vault does, or if its signature does not belong to the certificate.
    pub async fn sign(&self, text: &[u8]) -> Result<VaultSignature, Arc<VaultError>> {
        let mut read = self.read.lock().await;
        let certificate = match &*read {
            Some(certificate) => certificate.clone(),
            None => Arc::new(self.vault.certificate(&self.name, self.version.as_deref()).await?),
        };
        *read = Some(certificate.clone());
        match self.vault.sign(&certificate.key, &certificate.certificate, AssertionAlgorithm::PS256, text).await {
            Ok(signature) => Ok(VaultSignature { signature, certificate: certificate.certificate.der().to_vec() }),
            Err(error) => {
                *read = None;
                Err(error)
            }
        }
    }
}

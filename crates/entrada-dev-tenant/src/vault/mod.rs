//! A Key Vault: certificates with their keys, signing, secrets, versions, and permissions.
//!
//! The real one is identified by its host name; this tenant has one vault under every name, at `/certificates`, `/keys` and
//! `/secrets`. A private key leaves it only as part of the secret of an exportable certificate.

mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) use wire::router;

use super::{
    DevTenant,
    directory::new_id,
    keys::{KeyError, SigningKey},
};

/// The content of the vault.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    /// By lower-case name; the newest version is the last.
    certificates: BTreeMap<String, Vec<CertificateVersion>>,
    secrets: BTreeMap<String, Vec<SecretVersion>>,
    /// The certificates, by lower-case name, whose secret is PEM text instead of a PKCS#12 file.
    as_pem: BTreeSet<String>,
    /// The permissions of each client; a client that is not listed may do anything.
    permissions: BTreeMap<String, BTreeSet<String>>,
    /// Whether it has access policies instead of role assignments, as vaults of some age have.
    access_policies: bool,
}

#[derive(Clone, Debug)]
struct CertificateVersion {
    id: String,
    key: Arc<SigningKey>,
    exportable: bool,
    enabled: bool,
    created: u64,
    not_after: u64,
}

#[derive(Clone)]
struct SecretVersion {
    id: String,
    value: String,
    content_type: Option<String>,
    enabled: bool,
    created: u64,
    expires: Option<u64>,
}

impl std::fmt::Debug for SecretVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretVersion").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Vault {
    /// Makes a new version of a certificate.
    pub(crate) fn certify(
        &mut self,
        name: &str,
        exportable: bool,
        now: u64,
        days: u32,
    ) -> Result<(String, Arc<SigningKey>), KeyError> {
        let not_after = now + u64::from(days) * 86_400;
        let key = Arc::new(SigningKey::certified(name, now.saturating_sub(600), not_after)?);
        let id = new_id().replace('-', "");
        let version = CertificateVersion { id: id.clone(), key: key.clone(), exportable, enabled: true, created: now, not_after };
        self.certificates.entry(name.to_ascii_lowercase()).or_default().push(version);
        Ok((id, key))
    }

    pub(crate) fn put_secret(
        &mut self,
        name: &str,
        value: &str,
        content_type: Option<&str>,
        expires: Option<u64>,
        now: u64,
    ) -> String {
        let id = new_id().replace('-', "");
        self.secrets.entry(name.to_ascii_lowercase()).or_default().push(SecretVersion {
            id: id.clone(),
            value: value.to_owned(),
            content_type: content_type.map(ToOwned::to_owned),
            enabled: true,
            created: now,
            expires,
        });
        id
    }

    /// Sets whether the secret beside a certificate is PEM text.
    pub(crate) fn set_form(&mut self, name: &str, as_pem: bool) {
        let name = name.to_ascii_lowercase();
        if as_pem {
            self.as_pem.insert(name);
        } else {
            self.as_pem.remove(&name);
        }
    }

    pub(crate) fn enable(&mut self, name: &str, version: &str, enabled: bool) {
        let name = name.to_ascii_lowercase();
        let certificates = self.certificates.get_mut(&name).into_iter().flatten();
        certificates.filter(|entry| entry.id == version).for_each(|entry| entry.enabled = enabled);
        let secrets = self.secrets.get_mut(&name).into_iter().flatten();
        secrets.filter(|entry| entry.id == version).for_each(|entry| entry.enabled = enabled);
    }

    pub(crate) fn restrict(&mut self, client_id: &str, permissions: &[&str]) {
        self.permissions.insert(client_id.to_ascii_lowercase(), permissions.iter().map(|&name| name.to_owned()).collect());
    }

    pub(crate) const fn use_access_policies(&mut self, access_policies: bool) {
        self.access_policies = access_policies;
    }

    fn certificate(&self, name: &str, version: Option<&str>) -> Option<&CertificateVersion> {
        let versions = self.certificates.get(&name.to_ascii_lowercase())?;
        match version {
            Some(version) => versions.iter().find(|entry| entry.id.eq_ignore_ascii_case(version)),
            None => versions.iter().rev().find(|entry| entry.enabled),
        }
    }

    fn secret(&self, name: &str, version: Option<&str>) -> Option<&SecretVersion> {
        let versions = self.secrets.get(&name.to_ascii_lowercase())?;
        match version {
            Some(version) => versions.iter().find(|entry| entry.id.eq_ignore_ascii_case(version)),
            None => versions.iter().rev().find(|entry| entry.enabled),
        }
    }
}

/// The vault, as tests and the demo set it up.
impl DevTenant {
    /// Makes a new version of a certificate in the vault, as auto-renewal does: it is the latest at once. Returns the version and
    /// the certificate (DER), which the app registration does not know until it is uploaded.
    ///
    /// # Panics
    ///
    /// Panics if the cryptographic library makes no key.
    pub fn vault_certificate(&self, name: &str, exportable: bool, days: u32) -> (String, Vec<u8>) {
        let now = self.state.clock.unix_seconds();
        match self.state.vault().certify(name, exportable, now, days) {
            Ok((version, key)) => (version, key.certificate().to_vec()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Stores a new version of a secret, and returns the version.
    pub fn vault_secret(&self, name: &str, value: &str, expires: Option<u64>) -> String {
        let now = self.state.clock.unix_seconds();
        self.state.vault().put_secret(name, value, None, expires, now)
    }

    /// Returns the key of a certificate version, for tests that check whether it ever left.
    pub fn vault_key(&self, name: &str, version: &str) -> Option<Arc<SigningKey>> {
        self.state.vault().certificate(name, Some(version)).map(|entry| entry.key.clone())
    }

    /// Sets the form in which the vault supplies a certificate with its private key: `application/x-pkcs12` or
    /// `application/x-pem-file`, as the certificate's policy names it.
    pub fn vault_certificate_form(&self, name: &str, content_type: &str) {
        self.state.vault().set_form(name, content_type == "application/x-pem-file");
    }

    /// Enables or disables a version.
    pub fn vault_enable(&self, name: &str, version: &str, enabled: bool) {
        self.state.vault().enable(name, version, enabled);
    }

    /// Restricts a client to the listed actions: `keys/get`, `keys/sign`, `certificates/get`, `certificates/list`, `secrets/get`,
    /// ….
    pub fn vault_restrict(&self, client_id: &str, permissions: &[&str]) {
        self.state.vault().restrict(client_id, permissions);
    }

    /// Lets the vault speak of access policies instead of role assignments where it refuses.
    pub fn vault_access_policies(&self) {
        self.state.vault().use_access_policies(true);
    }
}

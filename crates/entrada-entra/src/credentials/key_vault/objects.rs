//! The objects of a vault: certificates, their signing keys, and secrets.

use std::sync::Arc;

use aws_lc_rs::{
    digest,
    signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::{Vault, VaultAction, VaultError, is_name};
use crate::{
    certificate::keys::{Certificate, CertificateError, KeyedCertificate},
    credentials::AssertionAlgorithm,
};

/// The public part of a certificate, and the URL of its exact key version.
#[derive(Debug)]
pub(crate) struct VaultCertificate {
    pub(crate) certificate: Certificate,
    pub(crate) key: Url,
    /// Whether the private key may leave the vault, if the vault reports it.
    pub(crate) exportable: Option<bool>,
}

/// The maximum number of pages of a list.
const MOST_PAGES: usize = 20;

/// One version of a certificate, as a vault lists it.
#[derive(Debug)]
pub(crate) struct ListedVersion {
    pub(crate) version: Box<str>,
    /// The SHA-1 thumbprint in base64url.
    pub(crate) x5t: Option<Box<str>>,
    pub(crate) attributes: ListedAttributes,
}

/// The validity of a version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListedAttributes {
    enabled: Option<bool>,
    nbf: Option<u64>,
    exp: Option<u64>,
    created: Option<u64>,
}

impl ListedVersion {
    /// Returns whether it may be used at `now`, in seconds since 1970.
    pub(crate) fn is_usable(&self, now: u64) -> bool {
        let ListedAttributes { enabled, nbf, exp, .. } = self.attributes;
        enabled == Some(true) && nbf.is_none_or(|start| start <= now) && exp.is_none_or(|end| now < end)
    }

    /// Returns its time of creation, in seconds since 1970.
    pub(crate) fn created(&self) -> u64 {
        self.attributes.created.unwrap_or_default()
    }
}

/// One version of a secret.
#[derive(Debug)]
pub(crate) struct KeptSecret {
    pub(crate) value: SecretString,
    /// The content type of the value, if it is set.
    content_type: Option<Box<str>>,
    /// The version, if the vault names it.
    pub(crate) version: Option<Box<str>>,
    /// The start of its validity, in seconds since 1970.
    pub not_before: Option<u64>,
    /// The end of its validity, in seconds since 1970.
    pub(crate) expires_at: Option<u64>,
}

impl Vault {
    /// Reads the public part of a certificate, with its key. Without a version, the latest one.
    pub(crate) async fn certificate(&self, name: &str, version: Option<&str>) -> Result<VaultCertificate, Arc<VaultError>> {
        #[derive(Deserialize)]
        struct Bundle {
            cer: String,
            kid: String,
            // A vault may write a policy that it does not tell as null.
            policy: Option<Policy>,
        }
        #[derive(Deserialize)]
        struct Policy {
            key_props: Option<KeyProperties>,
        }
        #[derive(Deserialize)]
        struct KeyProperties {
            exportable: Option<bool>,
        }

        let answer = self.call(VaultAction::ReadCertificate, self.object("certificates", name, version), None).await?;
        let bundle: Bundle = serde_json::from_slice(&answer.body).map_err(|_| VaultError::Nonsense("holds no certificate"))?;
        let der = STANDARD.decode(bundle.cer).map_err(|_| VaultError::Nonsense("holds no certificate"))?;
        let certificate = Certificate::from_der(&der).map_err(VaultError::Certificate)?;
        let exportable = bundle.policy.and_then(|policy| policy.key_props).and_then(|properties| properties.exportable);
        Ok(VaultCertificate { certificate, key: self.key_url(&bundle.kid)?, exportable })
    }

    /// Reads the versions of a certificate, in the vault's order.
    pub(crate) async fn certificate_versions(&self, name: &str) -> Result<Vec<ListedVersion>, Arc<VaultError>> {
        #[derive(Deserialize)]
        struct Page {
            value: Vec<Entry>,
            #[serde(rename = "nextLink")]
            next: Option<String>,
        }
        #[derive(Deserialize)]
        struct Entry {
            id: String,
            x5t: Option<Box<str>>,
            attributes: Option<ListedAttributes>,
        }

        let mut url = self.object("certificates", name, Some("versions"));
        let path = url.path().to_owned();
        url.set_query(Some("maxresults=25"));
        let mut versions = Vec::new();
        for _ in 0..MOST_PAGES {
            let answer = self.call(VaultAction::ListVersions, url, None).await?;
            let page: Page =
                serde_json::from_slice(&answer.body).map_err(|_| VaultError::Nonsense("holds no list of versions"))?;
            versions.extend(page.value.into_iter().filter_map(|entry| {
                let version = entry.id.rsplit('/').next().filter(|version| is_name(version))?.into();
                Some(ListedVersion { version, x5t: entry.x5t, attributes: entry.attributes.unwrap_or_default() })
            }));
            let Some(next) = page.next.filter(|next| !next.is_empty()) else { break };
            // Whatever else is no place for the vault's token.
            let next = Url::parse(&next).ok().filter(|next| next.origin() == self.url.origin());
            url = next
                .filter(|next| next.path().trim_end_matches('/').eq_ignore_ascii_case(&path))
                .ok_or(VaultError::Nonsense("goes on somewhere else"))?;
        }
        Ok(versions)
    }

    /// Signs with the key at `key`, and verifies the signature with the certificate before it is used.
    pub(crate) async fn sign(
        &self,
        key: &Url,
        certificate: &Certificate,
        algorithm: AssertionAlgorithm,
        text: &[u8],
    ) -> Result<Vec<u8>, Arc<VaultError>> {
        #[derive(Deserialize)]
        struct Signed {
            kid: String,
            value: String,
        }

        let (name, verifier): (_, &'static dyn VerificationAlgorithm) = match algorithm {
            AssertionAlgorithm::PS256 => ("PS256", &RSA_PSS_2048_8192_SHA256),
            AssertionAlgorithm::RS256 => ("RS256", &RSA_PKCS1_2048_8192_SHA256),
        };
        let mut url = key.clone();
        url.set_path(&format!("{}/sign", key.path()));
        // The vault signs a digest: the text itself stays here.
        let value = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text));
        let body = json!({ "alg": name, "value": value }).to_string().into();
        let answer = self.call(VaultAction::Sign, url, Some(body)).await?;
        let signed: Signed = serde_json::from_slice(&answer.body).map_err(|_| VaultError::Nonsense("holds no signature"))?;
        if self.key_url(&signed.kid)? != *key {
            return Err(VaultError::Nonsense("is signed with another version of the key").into());
        }
        let signature =
            URL_SAFE_NO_PAD.decode(signed.value.trim_end_matches('=')).map_err(|_| VaultError::Nonsense("holds no signature"))?;
        if !certificate.verifies(verifier, text, &signature) {
            return Err(VaultError::Nonsense("holds a signature that does not belong to the certificate").into());
        }
        Ok(signature)
    }

    /// Reads a secret. Without a version, the latest enabled one.
    pub(crate) async fn secret(&self, name: &str, version: Option<&str>) -> Result<KeptSecret, Arc<VaultError>> {
        self.read_secret(VaultAction::ReadSecret, name, version).await
    }

    /// Reads a certificate with its private key: the secret of the same name. Also returns its version.
    pub(crate) async fn keyed_certificate(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(KeyedCertificate, Option<Box<str>>), Arc<VaultError>> {
        let secret = self.read_secret(VaultAction::DownloadCertificate, name, version).await?;
        let text = secret.value.expose_secret();
        let pair = match secret.content_type.as_deref() {
            Some("application/x-pem-file") => KeyedCertificate::from_pem(text.as_bytes(), None, None),
            // A certificate's secret is a PKCS#12 file with an empty password.
            _ => match STANDARD.decode(text.trim()) {
                Ok(pfx) => KeyedCertificate::from_pfx(&Zeroizing::new(pfx), None),
                Err(_) => Err(CertificateError::NotPfx),
            },
        };
        match pair {
            Ok(pair) => Ok((pair, secret.version)),
            Err(error) => Err(VaultError::Certificate(error).into()),
        }
    }

    async fn read_secret(&self, action: VaultAction, name: &str, version: Option<&str>) -> Result<KeptSecret, Arc<VaultError>> {
        #[derive(Deserialize)]
        struct Bundle {
            value: Zeroizing<String>,
            #[serde(rename = "contentType")]
            content_type: Option<Box<str>>,
            id: Option<String>,
            attributes: Option<Attributes>,
        }
        #[derive(Default, Deserialize)]
        struct Attributes {
            nbf: Option<u64>,
            exp: Option<u64>,
        }

        let answer = self.call(action, self.object("secrets", name, version), None).await?;
        // The parser's own words could quote the value.
        let bundle: Bundle = serde_json::from_slice(&answer.body).map_err(|_| VaultError::Nonsense("holds no secret"))?;
        let Attributes { nbf, exp } = bundle.attributes.unwrap_or_default();
        let version = bundle.id.as_deref().and_then(|id| id.rsplit('/').next()).filter(|version| is_name(version));
        Ok(KeptSecret {
            version: version.map(Into::into),
            value: SecretString::from(bundle.value.as_str()),
            content_type: bundle.content_type,
            not_before: nbf,
            expires_at: exp,
        })
    }

    fn object(&self, kind: &str, name: &str, version: Option<&str>) -> Url {
        let mut url = self.url.clone();
        url.set_path(&match version {
            Some(version) => format!("/{kind}/{name}/{version}"),
            None => format!("/{kind}/{name}"),
        });
        url
    }

    /// Returns a key's URL, if it belongs to this vault and has a version: the vault's token must not go anywhere else.
    fn key_url(&self, text: &str) -> Result<Url, VaultError> {
        let elsewhere = VaultError::Nonsense("names a key of another vault");
        let Some(url) = Url::parse(text).ok().filter(|url| url.origin() == self.url.origin()) else { return Err(elsewhere) };
        let mut segments = url.path().trim_matches('/').split('/');
        match (segments.next(), segments.next(), segments.next(), segments.next()) {
            (Some("keys"), Some(name), Some(version), None) if is_name(name) && is_name(version) => {
                Ok(self.object("keys", name, Some(version)))
            }
            _ => Err(VaultError::Nonsense("names no key with a version")),
        }
    }
}

//! Key Vault: certificates whose private key stays in the vault, which signs in the gateway's place.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    digest,
    signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{
    AssertionAlgorithm,
    certificate::{Certificate, CertificateError},
    error::{CredentialError, clean},
    token_cache::{AccessToken, TokenSlot},
    token_request::retry_after,
};
use crate::{
    clock::Clock,
    identity_http::{Answer, Call, IdentityHttp, IdentityHttpError, is_loopback},
};

/// Old enough to be served in every cloud, and it has all that is needed.
const API_VERSION: &str = "7.4";
/// More than a certificate or a signature.
const CAP: usize = 256 << 10;
/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A vault, and the identity that opens it.
#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) url: Url,
    /// The token for the vault, of the identity that opens it.
    pub(crate) slot: Arc<TokenSlot>,
    pub(crate) http: IdentityHttp,
    pub(crate) clock: Clock,
}

/// Why a vault gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The identity that opens it has no token.
    #[error("no token for the vault")]
    Token(#[source] CredentialError),
    /// No answer came.
    #[error("no answer of the vault")]
    Unreachable(#[source] IdentityHttpError),
    /// An error was answered.
    #[error("the vault answered {} {code}: {message}", status.as_u16())]
    Refused {
        /// The status.
        status: StatusCode,
        /// The vault's own code, the innermost one.
        code: Box<str>,
        /// What it says, cleaned.
        message: Box<str>,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The answer cannot be used.
    #[error("the vault's answer {0}")]
    Nonsense(&'static str),
    /// The certificate cannot be used.
    #[error("the vault's certificate cannot be used")]
    Certificate(#[source] CertificateError),
}

impl VaultError {
    /// What the operator can do.
    pub fn cure(&self) -> Option<&'static str> {
        match self {
            Self::Refused { status: StatusCode::FORBIDDEN, code, .. } => Some(match &**code {
                "ForbiddenByFirewall" | "ForbiddenByConnection" => "let the vault's network rules admit this machine",
                "KeyDisabled" | "SecretDisabled" => "enable the certificate's version, or see its dates",
                _ => {
                    "give the identity the roles Key Vault Crypto User and Key Vault Reader on this vault; it takes minutes to take effect"
                }
            }),
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                Some("the identity must be of the vault's own tenant and cloud")
            }
            Self::Refused { status: StatusCode::NOT_FOUND, .. } => {
                Some("see the names of vault and certificate; what was deleted looks like this, too")
            }
            Self::Unreachable(_) => {
                Some("see the vault's name, and that this machine reaches it, through `identity-http.proxy` if need be")
            }
            Self::Certificate(error) => Some(error.cure()),
            Self::Refused { .. } | Self::Token(_) | Self::Nonsense(_) => None,
        }
    }
}

/// The scope of tokens for a vault: by its cloud, and never by what the vault itself says.
pub(crate) fn scope_of(vault: &Url) -> &'static str {
    let host = vault.host_str().unwrap_or_default();
    if host.ends_with(".vault.azure.cn") {
        "https://vault.azure.cn/.default"
    } else if host.ends_with(".vault.usgovcloudapi.net") {
        "https://vault.usgovcloudapi.net/.default"
    } else {
        "https://vault.azure.net/.default"
    }
}

/// Reads a vault's address: a bare https origin, or http on this machine.
pub(crate) fn vault_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    // A backslash reads as a slash to some, and the token would go to another host.
    (bare && safe && url.has_host() && !text.contains('\\')).then_some(url)
}

/// Whether this can be the name of an object in a vault.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Vault {
    /// The public part of a certificate, and the URL of its key with the version that belongs to it.
    pub(crate) async fn certificate(&self, name: &str, version: Option<&str>) -> Result<(Certificate, Url), VaultError> {
        #[derive(Deserialize)]
        struct Bundle {
            cer: String,
            kid: String,
        }

        let mut url = self.url.clone();
        let path = version.map_or_else(|| format!("/certificates/{name}"), |version| format!("/certificates/{name}/{version}"));
        url.set_path(&path);
        let answer = self.call(url, None).await?;
        let bundle: Bundle = serde_json::from_slice(&answer.body).map_err(|_| VaultError::Nonsense("holds no certificate"))?;
        let der = STANDARD.decode(bundle.cer).map_err(|_| VaultError::Nonsense("holds no certificate"))?;
        let certificate = Certificate::from_der(&der).map_err(VaultError::Certificate)?;
        Ok((certificate, self.key_url(&bundle.kid)?))
    }

    /// Signs with the key at `key`, and holds the signature against the certificate before anybody else sees it.
    pub(crate) async fn sign(
        &self,
        key: &Url,
        certificate: &Certificate,
        algorithm: AssertionAlgorithm,
        text: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
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
        let answer = self.call(url, Some(json!({ "alg": name, "value": value }).to_string().into())).await?;
        let signed: Signed = serde_json::from_slice(&answer.body).map_err(|_| VaultError::Nonsense("holds no signature"))?;
        if self.key_url(&signed.kid)? != *key {
            return Err(VaultError::Nonsense("is signed with another version of the key"));
        }
        let signature =
            URL_SAFE_NO_PAD.decode(signed.value.trim_end_matches('=')).map_err(|_| VaultError::Nonsense("holds no signature"))?;
        if !certificate.verifies(verifier, text, &signature) {
            return Err(VaultError::Nonsense("holds a signature that does not belong to the certificate"));
        }
        Ok(signature)
    }

    /// A key's URL, if it is one of this vault with a version: whatever else is no place for the vault's token.
    fn key_url(&self, text: &str) -> Result<Url, VaultError> {
        let elsewhere = VaultError::Nonsense("names a key of another vault");
        let Some(url) = Url::parse(text).ok().filter(|url| url.origin() == self.url.origin()) else { return Err(elsewhere) };
        let mut segments = url.path().trim_matches('/').split('/');
        match (segments.next(), segments.next(), segments.next(), segments.next()) {
            (Some("keys"), Some(name), Some(version), None) if is_name(name) && is_name(version) => {
                let mut key = self.url.clone();
                key.set_path(&format!("/keys/{name}/{version}"));
                Ok(key)
            }
            _ => Err(VaultError::Nonsense("names no key with a version")),
        }
    }

    async fn call(&self, mut url: Url, body: Option<Bytes>) -> Result<Answer, VaultError> {
        url.set_query(Some(&format!("api-version={API_VERSION}")));
        let token = self.slot.token().await.map_err(VaultError::Token)?;
        let answer = self.send(&url, &token, body.clone()).await?;
        // A token that has grown stale is dropped once; what else a 401 says does not choose where tokens go.
        if answer.status == StatusCode::UNAUTHORIZED && self.slot.refused(&token) {
            let token = self.slot.token().await.map_err(VaultError::Token)?;
            return self.checked(self.send(&url, &token, body).await?);
        }
        self.checked(answer)
    }

    async fn send(&self, url: &Url, token: &AccessToken, body: Option<Bytes>) -> Result<Answer, VaultError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.header().clone());
        let call = match body {
            Some(body) => Call::post_json(url, body, headers, CAP),
            None => Call { headers, ..Call::get(url, CAP) },
        };
        self.http.send(call.within(TIMEOUT)).await.map_err(VaultError::Unreachable)
    }

    fn checked(&self, answer: Answer) -> Result<Answer, VaultError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            error: Inner,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Inner {
            code: String,
            message: String,
            innererror: Option<Box<Self>>,
        }

        if answer.status == StatusCode::OK {
            return Ok(answer);
        }
        let Body { error } = serde_json::from_slice(&answer.body).unwrap_or_default();
        let code = error.innererror.map_or(error.code, |inner| inner.code);
        let retry = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Err(VaultError::Refused {
            status: answer.status,
            code: clean(&code),
            message: clean(&error.message),
            retry_after: retry.and_then(|value| retry_after(value, self.clock.unix_seconds())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vaults_address_is_a_bare_https_origin() {
        for (text, fine) in [
            ("https://contoso.vault.azure.net", true),
            ("https://contoso.vault.azure.net/", true),
            ("http://127.0.0.1:7070", true),
            ("http://contoso.vault.azure.net", false),
            ("https://contoso.vault.azure.net/keys", false),
            ("https://contoso.vault.azure.net?x", false),
            ("https://user@contoso.vault.azure.net", false),
            ("https://evil.example\\.vault.azure.net", false),
            ("contoso", false),
        ] {
            assert_eq!(vault_url(text).is_some(), fine, "{text}");
        }
    }

    #[test]
    fn the_cloud_of_the_vault_names_the_audience() {
        for (vault, scope) in [
            ("https://contoso.vault.azure.net", "https://vault.azure.net/.default"),
            ("https://contoso.vault.azure.cn", "https://vault.azure.cn/.default"),
            ("https://contoso.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"),
        ] {
            assert_eq!(scope_of(&Url::parse(vault).unwrap()), scope);
        }
    }
}

//! Key Vault: reading from a vault, and signing with a key that stays there.
//!
//! The audience of the vault's token follows from the vault's name and never from its answers. Its challenge is compared with
//! that name: a server with another resource is not the vault, and gets no second token. A vault that throttles or fails is left
//! alone for a while by all its users.

mod objects;
mod permissions;
mod secret;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use url::Url;

pub use self::secret::VaultSecretStatus;
pub(crate) use self::{
    objects::{KeptSecret, VaultCertificate},
    secret::{OpenedSecret, VaultSecret},
};
use super::{
    access_token::AccessToken,
    challenge::{Challenge, challenges},
    error::{CredentialError, Delay, clean},
    pace::Pace,
    token_cache::{TokenSlot, random},
    token_request::retry_after,
};
use crate::certificate::keys::CertificateError;
use crate::{
    base::clock::Clock,
    identity_http::{Answer, Call, IdentityHttp, IdentityHttpError, is_loopback},
};

/// The API version: old enough for every cloud, and sufficient.
const API_VERSION: &str = "7.4";
/// The size limit: more than a certificate, a signature or a secret.
const CAP: usize = 256 << 10;
/// The timeout of one call.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A vault, and the identity that opens it. One for everything that is read with that identity.
#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) url: Url,
    /// The token of the identity that opens the vault.
    pub(crate) slot: Arc<TokenSlot>,
    pub(crate) http: IdentityHttp,
    pub(crate) clock: Clock,
    /// The earliest time of the next call.
    pub(crate) pace: Pace<VaultError>,
}

/// An action in a vault, which determines the required role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultAction {
    /// Reading the public part of a certificate.
    ReadCertificate,
    /// Listing the versions of a certificate.
    ListVersions,
    /// Signing with a key.
    Sign,
    /// Reading a certificate with its private key.
    DownloadCertificate,
    /// Reading a secret.
    ReadSecret,
}

/// The reason why a vault did not supply an object.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The identity that opens it has no token.
    #[error("no token for the vault")]
    Token(#[source] CredentialError),
    /// There was no answer.
    #[error("no answer of the vault")]
    Unreachable(#[source] IdentityHttpError),
    /// The answer was an error.
    #[error("the vault answered {}{}{}", status.as_u16(), said(code, message), tenant.as_ref().map(|tenant| format!(" (the vault trusts {tenant})")).unwrap_or_default())]
    Refused {
        /// The requested action.
        action: VaultAction,
        /// The status.
        status: StatusCode,
        /// The vault's own code, the innermost one.
        code: Box<str>,
        /// The message, sanitised.
        message: Box<str>,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
        /// The authority that the vault trusts, if it names one.
        tenant: Option<Box<str>>,
    },
    /// The answering server declares itself to be something else.
    #[error("the server asks for a token for {resource}, which is not this vault's")]
    NotThisVault {
        /// The declared resource, sanitised.
        resource: Box<str>,
    },
    /// The answer cannot be used.
    #[error("the vault's answer {0}")]
    Nonsense(&'static str),
    /// The certificate cannot be used.
    #[error("the vault's certificate cannot be used")]
    Certificate(#[source] CertificateError),
    /// The secret is outside its period of validity.
    #[error("the secret {0}")]
    OutOfTime(&'static str),
}

impl VaultError {
    /// Returns the operator's remedy.
    pub fn cure(&self) -> Option<&'static str> {
        match self {
            Self::Refused { status: StatusCode::FORBIDDEN, code, action, .. } => Some(match &**code {
                "ForbiddenByFirewall" | "ForbiddenByConnection" => "let the vault's network rules admit this machine",
                "KeyDisabled" | "SecretDisabled" | "KeyExpired" | "KeyNotYetValid" => {
                    "enable the version, or see its dates; a new version is found by itself"
                }
                _ if self.is_about_access_policies() => action.access_policy(),
                _ => action.roles(),
            }),
            Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. } => Some(
                "nothing is to be done for the moment: the gateway asks again by itself; if it lasts, see what else asks this vault so often, and give the gateway a vault of its own",
            ),
            Self::Refused { status, .. } if status.is_server_error() => {
                Some("nothing is to be done for the moment: the gateway asks again by itself")
            }
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                Some("the identity must be of the vault's own tenant and cloud")
            }
            Self::Refused { status: StatusCode::NOT_FOUND, .. } => {
                Some("see the names of the vault and of what is read; what was deleted looks like this, too")
            }
            Self::Unreachable(_) => {
                Some("see the vault's name, and that this machine reaches it, through `identity-http.proxy` if need be")
            }
            Self::NotThisVault { .. } => Some("see the vault's name and where it leads; no token was sent a second time"),
            Self::Certificate(CertificateError::NoKey) => {
                Some("its policy keeps the private key in the vault: say `use: sign`, or make it exportable")
            }
            Self::Certificate(error) => Some(error.cure()),
            Self::OutOfTime(_) => Some("put a new version into the vault; it is found by itself"),
            Self::Refused { .. } | Self::Token(_) | Self::Nonsense(_) => None,
        }
    }

    /// Returns whether the refusal is one of a vault with access policies, in which roles do not count.
    pub(in crate::credentials) fn is_about_access_policies(&self) -> bool {
        match self {
            Self::Refused { status: StatusCode::FORBIDDEN, code, message, .. } => {
                &**code == "AccessDenied" || (&**code == "Forbidden" && message.contains("permission on key vault"))
            }
            _ => false,
        }
    }

    /// Returns whether the object itself was deleted or disabled, so that its cached value must not be used any more.
    fn is_withdrawn(&self) -> bool {
        match self {
            Self::Refused { status: StatusCode::NOT_FOUND, code, .. } => code.ends_with("NotFound"),
            Self::Refused { status: StatusCode::FORBIDDEN, code, .. } => {
                matches!(&**code, "SecretDisabled" | "SecretExpired" | "SecretNotYetValid")
            }
            Self::OutOfTime(_) => true,
            Self::Refused { .. }
            | Self::Token(_)
            | Self::Unreachable(_)
            | Self::NotThisVault { .. }
            | Self::Nonsense(_)
            | Self::Certificate(_) => false,
        }
    }

    /// Returns the time for which the whole vault is left alone. Failures of one object concern that object only, and a missing
    /// token is delayed by the identity itself.
    fn hold(&self) -> Option<Delay> {
        match self {
            Self::Refused { retry_after: Some(seconds), .. } => {
                Some(Delay::Asked(Duration::from_secs((*seconds).clamp(1, 3_600))))
            }
            Self::Refused { status, .. } if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS => {
                Some(Delay::Growing)
            }
            Self::Unreachable(_) => Some(Delay::Growing),
            Self::NotThisVault { .. } => Some(Delay::Client),
            Self::Refused { .. } | Self::Token(_) | Self::Nonsense(_) | Self::Certificate(_) | Self::OutOfTime(_) => None,
        }
    }
}

/// Returns code and message of a refusal; both may be empty, as with throttling.
fn said(code: &str, message: &str) -> String {
    match (code, message) {
        ("", "") => String::new(),
        ("", text) | (text, "") => format!(": {text}"),
        (code, message) => format!(" {code}: {message}"),
    }
}

/// Returns the scope of tokens for a vault, by its cloud, and never by the vault's own answers.
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

/// Returns whether this can be the name of an object in a vault.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Vault {
    /// Calls the vault, unless it is left alone just now.
    async fn call(&self, action: VaultAction, url: Url, body: Option<Bytes>) -> Result<Answer, Arc<VaultError>> {
        if let Some((held, _)) = self.pace.held(self.clock.monotonic()) {
            return Err(held);
        }
        match self.call_now(action, url, body).await {
            Ok(answer) => {
                self.pace.release();
                Ok(answer)
            }
            Err(error) => {
                let error = Arc::new(error);
                if let Some(delay) = error.hold() {
                    self.pace.hold(self.clock.monotonic(), &error, delay, random());
                }
                Err(error)
            }
        }
    }

    async fn call_now(&self, action: VaultAction, mut url: Url, body: Option<Bytes>) -> Result<Answer, VaultError> {
        let more: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(name, _)| name != "api-version").collect();
        url.query_pairs_mut().clear().append_pair("api-version", API_VERSION).extend_pairs(more);
        let token = self.slot.token().await.map_err(VaultError::Token)?;
        let answer = self.send(&url, &token, body.clone()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return self.checked(action, answer);
        }
        let challenges = challenges(&answer.headers);
        self.verify(&challenges)?;
        let again = match challenges.iter().find_map(Challenge::claims) {
            Some(claims) => self.slot.challenged(&token, claims),
            // A token that has grown stale is dropped once.
            None => self.slot.refused(&token),
        };
        if !again {
            return self.checked(action, answer);
        }
        let token = self.slot.token().await.map_err(VaultError::Token)?;
        let answer = self.send(&url, &token, body).await?;
        self.checked(action, answer)
    }

    /// Compares a 401's token resource with the vault's own name, as Microsoft's clients do: the vault's host is a subdomain of
    /// the resource's. A local stand-in for a vault belongs to no cloud.
    fn verify(&self, challenges: &[Challenge]) -> Result<(), VaultError> {
        let Some(resource) = challenges.iter().find_map(|challenge| challenge.get("resource").or_else(|| challenge.get("scope")))
        else {
            return Ok(());
        };
        let host = self.url.host_str().unwrap_or_default();
        let fits = Url::parse(resource).is_ok_and(|resource| {
            resource.scheme() == "https"
                && resource.host_str().and_then(|domain| host.strip_suffix(domain)).is_some_and(|name| name.ends_with('.'))
        });
        if fits || is_loopback(&self.url) { Ok(()) } else { Err(VaultError::NotThisVault { resource: clean(resource) }) }
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

    fn checked(&self, action: VaultAction, answer: Answer) -> Result<Answer, VaultError> {
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
        // The innermost one that is there says most.
        let (mut code, mut inner) = (error.code, error.innererror);
        while let Some(deeper) = inner {
            code = if deeper.code.is_empty() { code } else { deeper.code };
            inner = deeper.innererror;
        }
        let retry = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let trusted = challenges(&answer.headers);
        let tenant =
            trusted.iter().find_map(|challenge| challenge.get("authorization").or_else(|| challenge.get("authorization_uri")));
        Err(VaultError::Refused {
            action,
            status: answer.status,
            code: clean(&code),
            message: clean(&error.message),
            retry_after: retry.and_then(|value| retry_after(value, self.clock.unix_seconds())),
            tenant: tenant.map(clean),
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

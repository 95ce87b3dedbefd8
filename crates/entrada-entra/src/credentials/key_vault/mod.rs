//! Key Vault: reading from a vault, and signing with a key that stays there.
//!
//! The audience of the vault's token follows from the vault's name and never from its answers. Its challenge is compared with
//! that name: a server with another resource is not the vault, and gets no second token. A vault that throttles or fails is left
//! alone for a while by all its users.

mod error;
mod objects;
mod permissions;
mod secret;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use url::Url;

pub use self::{
    error::{VaultAction, VaultError},
    secret::VaultSecretStatus,
};
pub(crate) use self::{
    objects::{KeptSecret, VaultCertificate},
    permissions::{EXPORTABLE, NON_EXPORTABLE},
    secret::{OpenedSecret, VaultSecret},
};
use super::{
    access_token::AccessToken,
    challenge::{Challenge, challenges},
    error::clean,
    pace::Pace,
    token_cache::{TokenSlot, random},
    token_request::retry_after,
};
use crate::{
    base::clock::Clock,
    identity_http::{Answer, Call, IdentityHttp, is_loopback},
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
    pub slot: Arc<TokenSlot>,
    pub(crate) http: IdentityHttp,
    pub clock: Clock,
    /// The earliest time of the next call.
    pub(crate) pace: Pace<VaultError>,
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

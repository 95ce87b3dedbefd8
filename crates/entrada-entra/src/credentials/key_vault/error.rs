//! Errors of vaults, with the operator's remedies.

use std::time::Duration;

use http::StatusCode;

use crate::{
    certificate::keys::CertificateError,
    credentials::error::{CredentialError, Delay},
    identity_http::IdentityHttpError,
};

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
    pub(super) fn is_withdrawn(&self) -> bool {
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
    pub(super) fn hold(&self) -> Option<Delay> {
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

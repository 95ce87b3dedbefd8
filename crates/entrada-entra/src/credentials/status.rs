//! The status of credentials, for the status page and its API.

use std::sync::Arc;

use serde::Serialize;

use super::{
    CredentialConfig,
    error::{Failure, Refused},
    signing_certificate::SigningCertificate,
    token_cache::{LastFailure, SlotStatus},
};
use crate::certificate::keys::Certificate;

use crate::base::error_chain::chain;

/// The status of a credential.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialStatus {
    /// The credential's name.
    pub name: String,
    /// The application id.
    pub client_id: Option<String>,
    /// The tenant's name.
    pub tenant: Option<String>,
    /// The token endpoint; absent if each route names the tenant.
    pub token_endpoint: Option<String>,
    /// True if readiness waits for it.
    pub required: bool,
    /// True if it has every token that routes need.
    pub ready: bool,
    /// The certificates, the preferred one first.
    pub certificates: Vec<CertificateStatus>,
    /// The vaults' certificates among them, and their versions in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vault_certificates: Vec<VaultCertificateStatus>,
    /// The number of tokens kept for callers' tenants and on behalf of users.
    pub tokens_for_callers: usize,
    /// The tokens, by scope.
    pub tokens: Vec<TokenStatus>,
}

/// The status of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateStatus {
    /// Its subject; absent for a private key whose certificate is elsewhere.
    pub subject: Option<String>,
    /// Its SHA-1 thumbprint in hexadecimal, as the portal shows it; SHA-256 if only that is known.
    pub thumbprint: String,
    /// `x5t#S256`, if it is known.
    pub x5t_s256: Option<String>,
    /// Its expiry, in seconds since 1970, if it is known.
    pub not_after: Option<u64>,
    /// Whole days until then.
    pub days_left: Option<i64>,
}

/// The version of a vault's certificate in use.
#[derive(Clone, Debug, Serialize)]
pub struct VaultCertificateStatus {
    /// The certificate's name in its vault.
    pub name: String,
    /// The newest version, once the vault has been asked.
    pub newest_version: Option<String>,
    /// The version that Entra accepted last.
    pub used_version: Option<String>,
    /// The reason why the versions differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl VaultCertificateStatus {
    /// The remedy if a version other than the newest one is used.
    pub const CURE: &str = "upload the newest version to the app registration; the gateway moves to it by itself";
}

/// The status of a token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenStatus {
    /// Its scope.
    pub scope: String,
    /// Its expiry, in seconds since 1970; absent if there is none.
    pub expires_at: Option<u64>,
    /// The seconds until then.
    pub expires_in: Option<u64>,
    /// The number of token requests.
    pub requests: u64,
    /// The number of failed attempts.
    pub failures: u64,
    /// The last failure, if any.
    pub last_error: Option<ErrorStatus>,
    /// The seconds until the next attempt, if it is delayed.
    pub retry_in: Option<u64>,
}

/// A failed attempt.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorStatus {
    /// The error message.
    pub message: String,
    /// Entra's own code, if Entra answered with one: `AADSTS700027`.
    pub code: Option<String>,
    /// The meaning of the code.
    pub meaning: Option<&'static str>,
    /// The remedy.
    pub cure: Option<String>,
    /// The id under which Microsoft finds the response.
    pub trace_id: Option<String>,
    /// The id of the request, as it was sent.
    pub correlation_id: Option<String>,
    /// The time, in seconds since 1970.
    pub at: u64,
}

impl ErrorStatus {
    /// Makes the status of a failure.
    pub fn of(failure: &Failure, at: u64) -> Self {
        let refused = failure.refused();
        Self {
            message: chain(failure),
            code: refused.and_then(Refused::name),
            meaning: refused.and_then(Refused::meaning),
            cure: failure.cure().map(Into::into),
            trace_id: refused.and_then(|refused| refused.trace_id.clone()).map(Into::into),
            correlation_id: refused.map(|refused| refused.correlation_id.clone().into()),
            at,
        }
    }
}

pub(super) fn of(
    name: String,
    config: &CredentialConfig,
    endpoint: Option<String>,
    tokens_for_callers: usize,
    certificates: &[Arc<SigningCertificate>],
    slots: Vec<(Box<str>, SlotStatus)>,
    now: u64,
) -> CredentialStatus {
    CredentialStatus {
        name,
        client_id: config.client_id.clone(),
        tenant: config.tenant.clone(),
        token_endpoint: endpoint,
        tokens_for_callers,
        required: config.required,
        ready: slots.iter().all(|(_, slot)| slot.expires_at.is_some()),
        certificates: certificates.iter().map(|signer| of_certificate(signer, now)).collect(),
        vault_certificates: Vec::new(),
        tokens: slots.into_iter().map(|(scope, slot)| token(scope.into(), slot)).collect(),
    }
}

fn of_certificate(signer: &SigningCertificate, now: u64) -> CertificateStatus {
    let certificate = signer.certificate();
    CertificateStatus {
        subject: signer.subject().map(str::to_owned),
        thumbprint: signer.thumbprint(),
        x5t_s256: signer.x5t_s256(),
        not_after: certificate.map(Certificate::not_after),
        days_left: certificate.map(|certificate| certificate.days_left(now)),
    }
}

fn token(scope: String, slot: SlotStatus) -> TokenStatus {
    TokenStatus {
        scope,
        expires_at: slot.expires_at,
        expires_in: slot.expires_in,
        requests: slot.fetches,
        failures: slot.failures,
        last_error: slot.last_failure.map(|LastFailure { failure, at }| ErrorStatus::of(&failure, at)),
        retry_in: slot.retry_in,
    }
}

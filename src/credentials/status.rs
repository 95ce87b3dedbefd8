//! What there is to tell of credentials: for the status page and its API.

use serde::Serialize;

use super::{
    CredentialConfig,
    error::{Failure, Refused},
    token_cache::{LastFailure, SlotStatus},
};
use crate::certificate::keys::Certificate;

use crate::base::causes::chain;

/// What there is to tell of a credential.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialStatus {
    /// The credential's name.
    pub name: String,
    /// The application id.
    pub client_id: Option<String>,
    /// The tenant's name.
    pub tenant: Option<String>,
    /// Where tokens are asked for; absent where each route names the tenant.
    pub token_endpoint: Option<String>,
    /// Whether readiness waits for it.
    pub required: bool,
    /// Whether every token that routes ask for is there.
    pub ready: bool,
    /// The certificates, that which is used first.
    pub certificates: Vec<CertificateStatus>,
    /// The certificates among them that vaults hold, and which of their versions are used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vault_certificates: Vec<VaultCertificateStatus>,
    /// How many tokens are kept for callers' tenants and on behalf of users.
    pub tokens_for_callers: usize,
    /// The tokens, by scope.
    pub tokens: Vec<TokenStatus>,
}

/// What there is to tell of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateStatus {
    /// Its subject.
    pub subject: String,
    /// Its SHA-1 thumbprint in hexadecimal, as the portal shows it.
    pub thumbprint: String,
    /// `x5t#S256`.
    pub x5t_s256: String,
    /// When it ends, in seconds since 1970.
    pub not_after: u64,
    /// Whole days until then.
    pub days_left: i64,
}

/// Which version of a vault's certificate is used.
#[derive(Clone, Debug, Serialize)]
pub struct VaultCertificateStatus {
    /// The certificate's name in its vault.
    pub name: String,
    /// The newest version, once the vault has been asked.
    pub newest_version: Option<String>,
    /// The version that Entra accepted last.
    pub used_version: Option<String>,
    /// Why it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl VaultCertificateStatus {
    /// What mends it where another version than the newest one is used.
    pub const CURE: &str = "upload the newest version to the app registration; the gateway moves to it by itself";
}

/// What there is to tell of a token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenStatus {
    /// What it is for.
    pub scope: String,
    /// When it ends, in seconds since 1970; absent where there is none.
    pub expires_at: Option<u64>,
    /// The seconds until then.
    pub expires_in: Option<u64>,
    /// How many token requests were made.
    pub requests: u64,
    /// How many attempts failed.
    pub failures: u64,
    /// How the last attempt failed, if it did.
    pub last_error: Option<ErrorStatus>,
    /// The seconds until the next attempt, where it is put off.
    pub retry_in: Option<u64>,
}

/// How an attempt failed.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorStatus {
    /// What happened.
    pub message: String,
    /// Entra's own code, where that is what answered: `AADSTS700027`.
    pub code: Option<String>,
    /// What the code means.
    pub meaning: Option<&'static str>,
    /// What mends it.
    pub cure: Option<String>,
    /// The id by which Microsoft finds the answer.
    pub trace_id: Option<String>,
    /// The id of the request, as it was sent.
    pub correlation_id: Option<String>,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl ErrorStatus {
    /// What there is to tell of a failure.
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
    certificates: &[Certificate],
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
        certificates: certificates.iter().map(|certificate| of_certificate(certificate, now)).collect(),
        vault_certificates: Vec::new(),
        tokens: slots.into_iter().map(|(scope, slot)| token(scope.into(), slot)).collect(),
    }
}

fn of_certificate(certificate: &Certificate, now: u64) -> CertificateStatus {
    CertificateStatus {
        subject: certificate.subject().to_owned(),
        thumbprint: certificate.thumbprint(),
        x5t_s256: certificate.x5t_s256(),
        not_after: certificate.not_after(),
        days_left: certificate.days_left(now),
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

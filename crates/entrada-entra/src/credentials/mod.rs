//! The gateway's identity towards upstreams: certificates, client assertions, the token cache.
//!
//! A [`Credential`] has a [`TokenSlot`] for each scope; a slot supplies [`AccessToken`]s and keeps them fresh. Building only
//! reads files; network access starts with [`Credentials::warm`], or with the first request.

pub mod aadsts;
mod access_token;
mod application;
mod assertion;
mod build;
mod certificates;
mod challenge;
mod config;
mod credential;
mod error;
mod examine;
mod excess;
#[cfg(test)]
mod golden;
mod key_vault;
mod managed_identity;
mod own_token;
mod pace;
mod past;
mod platform;
mod registration;
mod rehearse;
mod set;
mod signing_certificate;
mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token_cache;
mod token_request;
mod vault_signer;

pub use self::rehearse::{Rehearsal, Rehearsed};
pub use self::{
    access_token::AccessToken,
    config::{
        AssertionAlgorithm, AssertionConfig, CertificateConfig, CredentialConfig, FederatedTokenConfig, KeyUse,
        KeyVaultCertificateConfig, ManagedIdentityConfig, ManagedIdentitySource, WorkloadIdentityConfig,
    },
    credential::{Credential, UserToken},
    error::{CredentialError, Failure, ForWhom, Refused},
    examine::{Outcome, Step},
    key_vault::{VaultAction, VaultError, VaultSecretStatus},
    own_token::OwnToken,
    set::{Credentials, CredentialsContext},
    status::{CertificateStatus, CredentialStatus, ErrorStatus, TokenStatus, VaultCertificateStatus},
    token_cache::TokenSlot,
    vault_signer::{VaultSignature, VaultSigner},
};
pub use self::{
    challenge::wanted_claims,
    token_request::{ANSWER_CAP, Grant, Proof, TokenRequest, consent_uri, refused, retry_after},
};

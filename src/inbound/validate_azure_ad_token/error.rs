//! The reasons for refusing a token, and the responses to the caller.

use std::sync::Arc;

use crate::{
    entra::{IssuerVerdict, VerifyError},
    graph::GraphFault,
    refusal::Reason,
    request::PlaceError,
};

/// The reason why a request is not admitted, in the order of the checks; for the log, and free of the token's content.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAccepted {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("the request has no token in the policy's places")]
    Missing,
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Only where a request is judged once more.
    #[error("it is not known whether the keys of the config would have verified the token")]
    NotAtHand,
    #[error("the issuer is not accepted: {}", describe(*.0))]
    Issuer(IssuerVerdict),
    #[error("the token's tenant is not allowed")]
    Tenant,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token expired {0} s ago")]
    Expired(u64),
    #[error("the token becomes valid in {0} s")]
    NotYetValid(u64),
    #[error("the token is not an access token")]
    NotAccessToken,
    #[error("the token is not an ID token")]
    NotIdToken,
    #[error("the token is bound to a key that the caller cannot prove here")]
    Bound,
    #[error("the token is bound to a certificate, but the caller showed none")]
    BoundToCertificate,
    #[error("the token is bound to a certificate other than the caller's")]
    BoundToAnother,
    #[error("the token is not bound to a certificate")]
    Unbound,
    #[error("tokens of this kind are not accepted")]
    Kind,
    #[error("the client application is not listed")]
    Client,
    #[error("the client did not authenticate with a certificate")]
    ClientCredential,
    #[error("the claim {0:?} is absent or has none of the wanted values")]
    Claim(Box<str>),
    #[error("the token does not list its groups")]
    GroupOverage,
    #[error("the lookup of facts that the token lacks failed")]
    Lookup(#[source] Arc<GraphFault>),
    #[error("none of the scopes was granted")]
    Scope,
    #[error("none of the roles was granted")]
    Role,
    #[error("the token grants neither a scope nor a role, and its client is not listed")]
    Permission,
    #[error("the sign-in satisfies none of the authentication contexts")]
    Context {
        /// True if the client states that it supports challenges.
        capable: bool,
    },
}

const fn describe(verdict: IssuerVerdict) -> &'static str {
    match verdict {
        IssuerVerdict::Agrees => "it agrees",
        IssuerVerdict::UnknownVersion => "the token says no version that has one",
        IssuerVerdict::NoTenant => "the token names no tenant",
        IssuerVerdict::OtherIssuer => "it is not the one of the tenant's metadata",
        IssuerVerdict::KeyOfOtherIssuer => "the signing key is for another one",
        IssuerVerdict::KeyOfUnknownIssuer => "the signing key does not say whose it is",
        IssuerVerdict::NoMetadata => "the metadata of the token's version could not be had",
    }
}

impl From<&NotAccepted> for Reason {
    fn from(error: &NotAccepted) -> Self {
        match error {
            NotAccepted::Place(PlaceError::Ambiguous) => Self::TokenAmbiguous,
            NotAccepted::Missing => Self::TokenMissing,
            NotAccepted::Place(PlaceError::NoToken)
            | NotAccepted::Verify(VerifyError::Form(_) | VerifyError::NoKeyId | VerifyError::Payload(_)) => Self::TokenMalformed,
            NotAccepted::Verify(VerifyError::Algorithm) => Self::TokenAlgorithmNotAllowed,
            NotAccepted::Verify(VerifyError::UnknownKey) => Self::TokenKeyUnknown,
            NotAccepted::Verify(VerifyError::Signature) => Self::TokenSignatureInvalid,
            NotAccepted::NotAtHand
            | NotAccepted::Verify(VerifyError::NoKeys)
            | NotAccepted::Issuer(IssuerVerdict::NoMetadata) => Self::SigningKeysUnavailable,
            NotAccepted::Issuer(IssuerVerdict::NoTenant) | NotAccepted::Tenant => Self::TokenTenantNotAllowed,
            NotAccepted::Issuer(_) => Self::TokenIssuerNotAllowed,
            NotAccepted::Audience => Self::TokenAudienceNotAllowed,
            NotAccepted::Expired(_) => Self::TokenExpired,
            NotAccepted::NotYetValid(_) => Self::TokenNotYetValid,
            NotAccepted::NotAccessToken | NotAccepted::NotIdToken => Self::TokenNotAccessToken,
            NotAccepted::Bound | NotAccepted::BoundToCertificate | NotAccepted::BoundToAnother | NotAccepted::Unbound => {
                Self::TokenBindingMissing
            }
            NotAccepted::Kind => Self::TokenKindNotAllowed,
            NotAccepted::Client => Self::ClientApplicationNotAllowed,
            NotAccepted::ClientCredential => Self::ClientCredentialTooWeak,
            NotAccepted::Claim(_) => Self::RequiredClaimMissing,
            NotAccepted::GroupOverage => Self::GroupOverage,
            NotAccepted::Lookup(fault) => fault.reason(),
            NotAccepted::Scope => Self::ScopeMissing,
            NotAccepted::Role => Self::RoleMissing,
            NotAccepted::Permission => Self::PermissionMissing,
            NotAccepted::Context { .. } => Self::ClaimsChallenge,
        }
    }
}

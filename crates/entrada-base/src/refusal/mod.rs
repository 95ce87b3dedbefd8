//! Refusals: the public table of reasons, and their private causes.
//!
//! A [`Reason`] is public and stable: clients and dashboards match on its code. A [`Refusal`] carries one reason and the private
//! cause, which goes to the log and the audit record and never to the caller.

mod stop;
pub mod trace;

pub use self::stop::Stop;

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    ops::{Deref, DerefMut},
};

use http::{HeaderValue, StatusCode};

/// Declares [`Reason`]: one line per reason, with its code, status and title.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// The reason why a request is refused. A code never changes its meaning and is never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)* }

        impl Reason {
            /// All reasons, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the stable code, as in problem documents, audit records and metrics.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the status of the response, unless the policy sets another one.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// Returns one sentence for the caller, which contains nothing that helps an attacker.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Returns the meaning for operators, as in `docs/refusal-codes.md`.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii_start(),)* }
            }
        }
    };
}

reasons! {
    // The request itself.
    /// The request target is malformed or can be read in two ways.
    RequestTargetInvalid = "request-target-invalid", BAD_REQUEST, "The request target is not acceptable.";
    /// The end of the message can be read in two ways. RFC 9112, section 6.
    RequestFramingInvalid = "request-framing-invalid", BAD_REQUEST, "The framing of the request is not acceptable.";
    /// A header field is malformed, repeated or contradicts another one.
    RequestHeaderInvalid = "request-header-invalid", BAD_REQUEST, "A header field of the request is not acceptable.";
    /// A trusted proxy's statement about the caller's address cannot be read.
    CallerAddressUnparsable = "caller-address-unparsable", BAD_REQUEST, "The caller's address cannot be established.";
    /// No route matches; there is no default.
    NoRoute = "no-route", NOT_FOUND, "Nothing is served here.";
    /// The path is served, with other methods.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here.";
    /// The request did not arrive in time.
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "The request did not arrive in time.";
    /// The body is longer than the listener's or the route's limit.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The request body is too large.";
    /// The target is longer than the listener's limit.
    TargetTooLong = "target-too-long", URI_TOO_LONG, "The request target is too long.";
    /// The request expects something other than `100-continue`. RFC 9110, section 10.1.1.
    ExpectationFailed = "expectation-failed", EXPECTATION_FAILED, "The expectation of the request cannot be met.";
    /// The connection was not made for this host.
    MisdirectedRequest = "misdirected-request", MISDIRECTED_REQUEST, "This connection does not serve that host.";
    /// The header fields are longer or more than the listener's limit.
    HeadersTooLarge = "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The header fields are too large.";
    /// The gateway has reached one of its own limits.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "The gateway is busy; please try again later.";
    /// The request line names another major version of HTTP than 1.
    HttpVersionNotSupported = "http-version-not-supported", HTTP_VERSION_NOT_SUPPORTED, "This version of HTTP is not spoken here.";
    /// The request asks for a protocol that is not served here, or for a WebSocket where none may open. RFC 8441.
    ProtocolNotSupported = "protocol-not-supported", NOT_IMPLEMENTED, "This protocol is not spoken here.";
    /// The route requires TLS, but the request came without it.
    TlsRequired = "tls-required", FORBIDDEN, "TLS is required.";
    /// The gateway itself failed.
    InternalError = "internal-error", INTERNAL_SERVER_ERROR, "The gateway failed.";
    /// The caller left before the decision on the request, or before its body was complete. Recorded without a status.
    ClientLeft = "client-left", INTERNAL_SERVER_ERROR, "The caller has left.";

    // Who calls, and from where.
    /// `ip-filter` does not admit the caller's address.
    CallerAddressNotAllowed = "caller-address-not-allowed", FORBIDDEN, "Access is not allowed.";
    /// One place of the request holds two tokens.
    TokenAmbiguous = "token-ambiguous", BAD_REQUEST, "More than one token was sent.";
    /// No token was sent. RFC 6750, section 3.
    TokenMissing = "token-missing", UNAUTHORIZED, "A bearer token is required.";
    /// The token cannot be read.
    TokenMalformed = "token-malformed", UNAUTHORIZED, "The token is malformed.";
    /// The token names an algorithm that is not accepted.
    TokenAlgorithmNotAllowed = "token-algorithm-not-allowed", UNAUTHORIZED, "The token's algorithm is not accepted.";
    /// The signature is invalid.
    TokenSignatureInvalid = "token-signature-invalid", UNAUTHORIZED, "The token's signature is not valid.";
    /// No key of the policy's issuer has the token's key id.
    TokenKeyUnknown = "token-key-unknown", UNAUTHORIZED, "The token's signing key is not known.";
    /// The token has expired.
    TokenExpired = "token-expired", UNAUTHORIZED, "The token has expired.";
    /// The token is not valid yet.
    TokenNotYetValid = "token-not-yet-valid", UNAUTHORIZED, "The token is not valid yet.";
    /// The issuer is not the one that the policy trusts.
    TokenIssuerNotAllowed = "token-issuer-not-allowed", UNAUTHORIZED, "The token's issuer is not accepted.";
    /// The token was issued for another audience.
    TokenAudienceNotAllowed = "token-audience-not-allowed", UNAUTHORIZED, "The token's audience is not accepted.";
    /// The token is an ID token, or another token that grants no access.
    TokenNotAccessToken = "token-not-access-token", UNAUTHORIZED, "An access token is required.";
    /// The token is bound to a key that the caller did not show. RFC 8705.
    TokenBindingMissing = "token-binding-missing", UNAUTHORIZED, "The token is bound to a key that was not shown.";
    /// The token lacks an authentication context; the challenge names it.
    ClaimsChallenge = "claims-challenge", UNAUTHORIZED, "More claims are required.";
    /// The token's tenant is not an allowed one.
    TokenTenantNotAllowed = "token-tenant-not-allowed", FORBIDDEN, "The token's tenant is not allowed.";
    /// The token is a user's where an application's is required, or the reverse.
    TokenKindNotAllowed = "token-kind-not-allowed", FORBIDDEN, "This kind of token is not allowed.";
    /// The client application is not an allowed one.
    ClientApplicationNotAllowed = "client-application-not-allowed", FORBIDDEN, "The client application is not allowed.";
    /// The client authenticated with less than the policy requires.
    ClientCredentialTooWeak = "client-credential-too-weak", FORBIDDEN, "The client's credential is not strong enough.";
    /// A required claim is absent, or has another value.
    RequiredClaimMissing = "required-claim-missing", FORBIDDEN, "A required claim is missing.";
    /// None of the policy's scopes was granted.
    ScopeMissing = "scope-missing", FORBIDDEN, "A required scope is missing.";
    /// None of the policy's roles was granted.
    RoleMissing = "role-missing", FORBIDDEN, "A required role is missing.";
    /// The token grants neither a scope nor a role.
    PermissionMissing = "permission-missing", FORBIDDEN, "The token grants no permission.";
    /// The token does not list its groups, which a policy needs.
    GroupOverage = "group-overage", FORBIDDEN, "The token does not list its groups.";
    /// The keys to check the token are unavailable.
    SigningKeysUnavailable = "signing-keys-unavailable", SERVICE_UNAVAILABLE, "Please try again later.";
    /// No client certificate was shown.
    ClientCertificateMissing = "client-certificate-missing", FORBIDDEN, "A client certificate is required.";
    /// The client certificate is not from a trusted authority.
    ClientCertificateUntrusted = "client-certificate-untrusted", FORBIDDEN, "The client certificate is not trusted.";
    /// The client certificate is outside its validity.
    ClientCertificateExpired = "client-certificate-expired", FORBIDDEN, "The client certificate is not valid now.";
    /// The client certificate was revoked.
    ClientCertificateRevoked = "client-certificate-revoked", FORBIDDEN, "The client certificate was revoked.";
    /// The client certificate is not one of those listed.
    ClientCertificateNotAllowed = "client-certificate-not-allowed", FORBIDDEN, "The client certificate is not allowed.";
    /// No API key was sent.
    ApiKeyMissing = "api-key-missing", UNAUTHORIZED, "An API key is required.";
    /// The API key is no partner's, has expired, or is sent twice.
    ApiKeyInvalid = "api-key-invalid", UNAUTHORIZED, "The API key is not valid.";
    /// The token's application belongs to no partner.
    PartnerUnknown = "partner-unknown", FORBIDDEN, "The caller is not a known partner.";
    /// The partner was disabled.
    PartnerDisabled = "partner-disabled", FORBIDDEN, "The partner's access is switched off.";
    /// The partner's access has ended.
    PartnerExpired = "partner-expired", FORBIDDEN, "The partner's access has ended.";
    /// The partner may not use this route.
    PartnerRouteNotAllowed = "partner-route-not-allowed", FORBIDDEN, "The partner may not use this.";
    /// The partner calls from an address that is not its own.
    PartnerAddressNotAllowed = "partner-address-not-allowed", FORBIDDEN, "Access is not allowed.";
    /// The partner authenticated with less than its entry requires.
    PartnerCredentialTooWeak = "partner-credential-too-weak", FORBIDDEN, "The partner's credential is not strong enough.";
    /// `authorize`: the condition is false.
    NotAuthorized = "not-authorized", FORBIDDEN, "Access is not allowed.";
    /// `any-of` that is report-only: none of its lists admits the request. Told in `would_deny` alone; a caller gets the first list's refusal.
    NoneAdmitted = "none-admitted", FORBIDDEN, "Access is not allowed.";
    /// `check-header`: the header is absent, repeated or has another value.
    HeaderCheckFailed = "header-check-failed", UNAUTHORIZED, "A required header is missing or not acceptable.";
    /// `set-header`: the value is unavailable.
    HeaderValueUnavailable = "header-value-unavailable", FORBIDDEN, "The request lacks what the backend needs.";

    // Token requests that are relayed.
    /// `token-relay`: the request is not an unambiguous token request.
    TokenRequestInvalid = "token-request-invalid", BAD_REQUEST, "The token request is not acceptable.";
    /// `token-relay`: the grant type is not allowed.
    GrantTypeNotAllowed = "grant-type-not-allowed", FORBIDDEN, "The grant type is not allowed.";
    /// `token-relay`: the scope is not allowed.
    ScopeNotAllowed = "scope-not-allowed", FORBIDDEN, "The scope is not allowed.";

    // How much.
    /// Too many calls in the period.
    RateLimitExceeded = "rate-limit-exceeded", TOO_MANY_REQUESTS, "Too many requests; please try again later.";
    /// The quota of the period is used up.
    QuotaExceeded = "quota-exceeded", FORBIDDEN, "The quota is used up.";
    /// Too many concurrent calls.
    ConcurrencyLimitExceeded = "concurrency-limit-exceeded", TOO_MANY_REQUESTS, "Too many requests at once.";
    /// The store of a limit does not answer, and the limit refuses calls then.
    LimitStoreUnavailable = "limit-store-unavailable", SERVICE_UNAVAILABLE, "Please try again later.";

    // Decisions for other proxies.
    /// The proxy that asked for a decision is not one that may ask.
    DecisionPeerNotAllowed = "decision-peer-not-allowed", FORBIDDEN, "Access is not allowed.";
    /// The request matches a route that is not decided for the proxy that asked.
    RouteNotDecided = "route-not-decided", FORBIDDEN, "Access is not allowed.";
    /// A decision for another proxy was not made in time.
    DecisionTimeout = "decision-timeout", SERVICE_UNAVAILABLE, "Please try again later.";

    // The way on.
    /// The gateway's own credential is unavailable.
    CredentialUnavailable = "credential-unavailable", SERVICE_UNAVAILABLE, "Please try again later.";
    /// Only a user's token can be exchanged on the user's behalf.
    OnBehalfOfNeedsUser = "on-behalf-of-needs-user", FORBIDDEN, "A user's token is required.";
    /// The caller's tenant has not consented to the gateway's application.
    TenantNotConsented = "tenant-not-consented", FORBIDDEN, "The tenant has not given its consent.";
    /// The user must interact with the identity provider first.
    InteractionRequired = "interaction-required", UNAUTHORIZED, "The user has to sign in again.";
    /// No connection to the upstream could be made.
    UpstreamUnreachable = "upstream-unreachable", BAD_GATEWAY, "The backend cannot be reached.";
    /// The upstream broke the protocol.
    UpstreamProtocolError = "upstream-protocol-error", BAD_GATEWAY, "The backend gave no valid answer.";
    /// The upstream refused the gateway's own token, also a fresh one.
    UpstreamRefusedCredential = "upstream-refused-credential", BAD_GATEWAY, "The backend refused the gateway.";
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream-timeout", GATEWAY_TIMEOUT, "The backend did not answer in time.";
    /// Every server of the upstream is out of service.
    NoHealthyUpstream = "no-healthy-upstream", SERVICE_UNAVAILABLE, "The backend is out of service.";
}

impl Reason {
    /// Returns the `error` of a `WWW-Authenticate: Bearer` challenge (RFC 6750, section 3.1), if this reason has one.
    pub const fn challenge_error(self) -> Option<&'static str> {
        match self {
            Self::TokenAmbiguous => Some("invalid_request"),
            Self::TokenMalformed
            | Self::TokenAlgorithmNotAllowed
            | Self::TokenSignatureInvalid
            | Self::TokenKeyUnknown
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenIssuerNotAllowed
            | Self::TokenAudienceNotAllowed
            | Self::TokenNotAccessToken
            | Self::TokenBindingMissing => Some("invalid_token"),
            Self::ScopeMissing => Some("insufficient_scope"),
            Self::ClaimsChallenge | Self::InteractionRequired => Some("insufficient_claims"),
            _ => None,
        }
    }

    /// Returns whether it is a fault on the way on, which befalls requests that were admitted.
    pub const fn is_of_the_way_on(self) -> bool {
        matches!(
            self,
            Self::CredentialUnavailable
                | Self::TenantNotConsented
                | Self::InteractionRequired
                | Self::UpstreamUnreachable
                | Self::UpstreamProtocolError
                | Self::UpstreamRefusedCredential
                | Self::UpstreamTimeout
                | Self::NoHealthyUpstream
        )
    }

    /// Returns whether it refuses for the number of calls.
    pub const fn is_of_limits(self) -> bool {
        matches!(self, Self::RateLimitExceeded | Self::QuotaExceeded | Self::ConcurrencyLimitExceeded)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One request's refusal: the public reason, and the private cause for the operator.
///
/// It is one pointer long. Every result on the way of a request could hold one, and is moved from function to function.
#[derive(Debug)]
pub struct Refusal(Box<RefusalParts>);

/// The parts of a [`Refusal`].
#[derive(Debug)]
pub struct RefusalParts {
    /// The reason, as told to the caller.
    pub reason: Reason,
    /// The cause, for the log and the audit record.
    pub cause: Option<Box<dyn Error + Send + Sync>>,
    /// A change by which the operator could admit this request, for the audit record.
    pub hint: Option<Cow<'static, str>>,
    /// The status that the policy sets instead of the reason's own.
    pub status: Option<StatusCode>,
    /// The code that the policy sets instead of the reason's own.
    pub code: Option<std::sync::Arc<str>>,
    /// The sentence that the policy sets instead of the reason's own.
    pub message: Option<Box<str>>,
    /// The whole challenge for `WWW-Authenticate`, if that of the reason is not enough.
    pub challenge: Option<HeaderValue>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// `Allow`, with 405.
    pub allow: Option<HeaderValue>,
}

impl Refusal {
    /// Makes a refusal with its cause.
    pub fn new(reason: Reason, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let mut refusal = Self::from(reason);
        refusal.cause = Some(cause.into());
        refusal
    }

    /// Makes a refusal of a method, with the methods that are allowed instead.
    pub fn of_method(allow: HeaderValue) -> Self {
        let mut refusal = Self::from(Reason::MethodNotAllowed);
        refusal.allow = Some(allow);
        refusal
    }

    /// Returns the parts.
    pub fn into_parts(self) -> RefusalParts {
        *self.0
    }

    /// Adds a change that the operator could make.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the code of the response.
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or(self.reason.code())
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or(self.reason.status())
    }
}

impl Deref for Refusal {
    type Target = RefusalParts;

    fn deref(&self) -> &RefusalParts {
        &self.0
    }
}

impl DerefMut for Refusal {
    fn deref_mut(&mut self) -> &mut RefusalParts {
        &mut self.0
    }
}

impl From<Reason> for Refusal {
    // What builds one stays out of the functions that every request runs.
    #[cold]
    fn from(reason: Reason) -> Self {
        Self(Box::new(RefusalParts {
            reason,
            cause: None,
            hint: None,
            status: None,
            code: None,
            message: None,
            challenge: None,
            retry_after: None,
            allow: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_plain() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();

        assert_eq!(codes.len(), Reason::ALL.len());
        for code in codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{code}");
        }
    }

    #[test]
    fn every_reason_is_an_error_status() {
        for reason in Reason::ALL {
            assert!(reason.status().is_client_error() || reason.status().is_server_error(), "{reason}");
        }
    }
}

//! The reason why there is no token, in words for the operator; without any token, assertion or key.

use std::{borrow::Cow, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};

use super::{
    aadsts::{self, Advice, Asker, Next},
    key_vault::VaultError,
};
use crate::{
    certificate::keys::CertificateError,
    identity_http::IdentityHttpError,
    refusal::{Reason, Refusal},
};

/// An error: a credential has no token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("credential {credential} has no token")]
pub struct CredentialError {
    /// The credential's name.
    pub credential: Arc<str>,
    /// The failure of the last token request.
    #[source]
    pub failure: Arc<Failure>,
    /// The time until the next attempt.
    pub retry_in: Option<Duration>,
    /// The party that can mend it.
    pub for_whom: ForWhom,
}

/// The party that a token is requested for, and that can be told what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForWhom {
    /// The gateway, in its own tenant: its failures concern the operator only.
    Gateway,
    /// The caller, or the caller's tenant: a missing consent or sign-in is theirs to mend.
    Caller,
}

impl CredentialError {
    /// Returns the reason that the gateway's caller is told.
    pub fn reason(&self) -> Reason {
        match &*self.failure {
            Failure::Refused(refused) => match (self.for_whom, refused.next()) {
                (ForWhom::Caller, Next::Consent) => Reason::TenantNotConsented,
                (ForWhom::Caller, Next::Interaction) => Reason::InteractionRequired,
                (ForWhom::Gateway, _) | (ForWhom::Caller, Next::Nothing | Next::OtherCertificate | Next::Wait) => {
                    Reason::CredentialUnavailable
                }
            },
            Failure::NeedsUser => Reason::OnBehalfOfNeedsUser,
            Failure::Unreachable(_)
            | Failure::Nonsense(_)
            | Failure::Certificate(_)
            | Failure::Vault(_)
            | Failure::NoSecret
            | Failure::FederatedFile
            | Failure::Identity(_)
            | Failure::Signing
            | Failure::Interrupted => Reason::CredentialUnavailable,
        }
    }

    /// Returns the operator's remedy.
    pub fn cure(&self) -> Option<Cow<'static, str>> {
        self.failure.cure()
    }

    /// Returns the challenge for a caller whose user has to sign in again: RFC 6750, section 3, in the form of Microsoft's
    /// clients.
    pub fn challenge(&self) -> Option<HeaderValue> {
        let Failure::Refused(refused) = &*self.failure else { return None };
        if self.reason() != Reason::InteractionRequired {
            return None;
        }
        let uri = refused.authorization_uri.as_deref().unwrap_or_default();
        let what = match &refused.claims {
            Some(claims) => format!("error=\"insufficient_claims\", claims=\"{}\"", STANDARD.encode(claims.as_bytes())),
            None => "error=\"interaction_required\", error_description=\"The user has to sign in again.\"".to_owned(),
        };
        HeaderValue::try_from(format!("Bearer realm=\"\", authorization_uri=\"{uri}\", {what}")).ok()
    }
}

/// The failure of a token request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There was no answer.
    #[error("no answer to the token request")]
    Unreachable(#[source] IdentityHttpError),
    /// The answer was an error.
    #[error(transparent)]
    Refused(#[from] Box<Refused>),
    /// The answer cannot be used.
    #[error("the answer to the token request {0}")]
    Nonsense(&'static str),
    /// The certificate can no longer be read.
    #[error("the credential's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The vault with the certificate or the secret did not supply it.
    #[error("the vault did not supply the object")]
    Vault(#[from] Arc<VaultError>),
    /// The underlying identity has no token.
    #[error("the identity behind it has no token")]
    Identity(#[source] Box<CredentialError>),
    /// The file for the token of another issuer holds no token.
    #[error("the file with the federated token is empty or no text")]
    FederatedFile,
    /// The client secret is missing.
    #[error("the client secret is not available yet")]
    NoSecret,
    /// The assertion could not be signed.
    #[error("the client assertion could not be signed")]
    Signing,
    /// A token on behalf of a user was requested without a user.
    #[error("a token on behalf of a user needs a user's token")]
    NeedsUser,
    /// The gateway stopped before the answer came.
    #[error("the token request was aborted")]
    Interrupted,
}

impl Failure {
    /// Returns the operator's remedy.
    pub fn cure(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Unreachable(_) => {
                Some("see that this machine reaches the authority, through `identity-http.proxy` if need be".into())
            }
            Self::Refused(refused) => refused.cure(),
            Self::Nonsense(_) => Some("see that the authority is Entra, and no proxy answers in its place".into()),
            Self::Certificate(error) => Some(error.cure().into()),
            Self::Vault(error) => match &**error {
                VaultError::Token(error) => error.cure(),
                error => error.cure().map(Cow::Borrowed),
            },
            Self::Identity(error) => error.cure(),
            Self::NeedsUser => Some("use `credential` for applications that call on their own behalf".into()),
            Self::FederatedFile => Some("see that the platform writes a token into it, as UTF-8".into()),
            Self::NoSecret | Self::Signing | Self::Interrupted => None,
        }
    }

    /// Returns the refusal of a token endpoint at the root of the failure, here or for the underlying identity.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Vault(error) => match &**error {
                VaultError::Token(error) => error.failure.refused(),
                _ => None,
            },
            Self::Identity(error) => error.failure.refused(),
            Self::Unreachable(_)
            | Self::Nonsense(_)
            | Self::Certificate(_)
            | Self::NoSecret
            | Self::FederatedFile
            | Self::Signing
            | Self::NeedsUser
            | Self::Interrupted => None,
        }
    }

    /// Returns whether the same request may succeed at once: the connection broke, or the server had a temporary error.
    pub(crate) fn may_pass_at_once(&self) -> bool {
        match self {
            Self::Unreachable(error) => matches!(error, IdentityHttpError::Connect { .. } | IdentityHttpError::Broken { .. }),
            Self::Refused(refused) => refused.status.is_server_error() && refused.retry_after.is_none(),
            Self::Nonsense(_)
            | Self::Certificate(_)
            | Self::Vault(_)
            | Self::NoSecret
            | Self::FederatedFile
            | Self::Identity(_)
            | Self::Signing
            | Self::NeedsUser
            | Self::Interrupted => false,
        }
    }

    /// Returns the delay before the next attempt.
    pub(crate) fn delay(&self, for_whom: ForWhom) -> Delay {
        match self {
            // The same token of the same user cannot succeed later.
            Self::Refused(refused) if for_whom == ForWhom::Caller && refused.next() == Next::Interaction => Delay::Long,
            Self::Refused(refused) => match refused.retry_after {
                Some(seconds) => Delay::Asked(Duration::from_secs(seconds.clamp(1, 3_600))),
                None if refused.is_transient() => Delay::Growing,
                None if refused.concerns_client() => Delay::Client,
                None => Delay::Request,
            },
            Self::Unreachable(_) | Self::Nonsense(_) | Self::Interrupted => Delay::Growing,
            Self::Vault(error) => match &**error {
                VaultError::Refused { retry_after: Some(seconds), .. } => {
                    Delay::Asked(Duration::from_secs((*seconds).clamp(1, 3_600)))
                }
                VaultError::Refused { status, .. } if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS => {
                    Delay::Client
                }
                _ => Delay::Growing,
            },
            Self::NoSecret | Self::FederatedFile | Self::Identity(_) => Delay::Growing,
            Self::Certificate(_) | Self::Signing => Delay::Client,
            Self::NeedsUser => Delay::Request,
        }
    }
}

/// The delay before the next attempt after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// A short delay for this request only.
    Request,
    /// A long delay for this request only.
    Long,
    /// A short delay for all requests of this client to this tenant.
    Client,
    /// A doubling delay for all requests of this client to this tenant.
    Growing,
    /// The requested delay for all requests of this client to this tenant, since the server does not say which one was too much.
    Asked(Duration),
}

/// An error response of a token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token endpoint answered {} {error}{}: {message}", status.as_u16(), self.name().map(|name| format!(" ({name})")).unwrap_or_default())]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// `error`: the OAuth code.
    pub error: Box<str>,
    /// The first of Entra's own codes.
    pub code: Option<u32>,
    /// The first sentence of `error_description`; foreign text, sanitised.
    pub message: Box<str>,
    /// `suberror`.
    pub suberror: Option<Box<str>>,
    /// `claims`: the demands on the user's next sign-in, as JSON.
    pub claims: Option<Box<str>>,
    /// The id under which Microsoft finds this response.
    pub trace_id: Option<Box<str>>,
    /// The id of the request, as we sent it.
    pub correlation_id: Box<str>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The number of seconds that our clock is ahead of the server's.
    pub clock_ahead: Option<i64>,
    /// The party that asked.
    pub asker: Asker,
    /// The address for a new sign-in.
    pub authorization_uri: Option<Box<str>>,
    /// The address at which an administrator of the tenant consents.
    pub consent_uri: Option<Box<str>>,
    /// The certificate of the request: its thumbprint, and the end of its validity.
    pub certificate: Option<Box<str>>,
    /// Whether that certificate has expired: whatever Entra says of it, only a new one helps.
    pub certificate_expired: bool,
}

impl Refused {
    /// Returns Entra's own code as in Microsoft's documents: `AADSTS700027`.
    pub fn name(&self) -> Option<String> {
        self.code.map(|code| format!("AADSTS{code}"))
    }

    /// Returns the meaning of the answer: by Entra's own code if it is known, or else by the OAuth error.
    pub fn meaning(&self) -> Option<&'static str> {
        self.advice().map(|advice| advice.meaning)
    }

    fn advice(&self) -> Option<Advice> {
        aadsts::advice(self.code, &self.error, self.asker)
    }

    /// Returns the next step: by the OAuth code first, and by Entra's own if that is more specific.
    pub(crate) fn next(&self) -> Next {
        // Whatever is asked of a user, an application cannot do.
        let interaction = if matches!(self.asker, Asker::User) { Next::Interaction } else { Next::Nothing };
        match &*self.error {
            "interaction_required" => return interaction,
            "temporarily_unavailable" => return Next::Wait,
            _ => {}
        }
        if matches!(
            self.suberror.as_deref(),
            Some("basic_action" | "additional_action" | "message_only" | "user_password_expired")
        ) {
            return interaction;
        }
        if self.suberror.as_deref() == Some("consent_required") {
            return Next::Consent;
        }
        match self.advice() {
            Some(advice) => advice.next,
            None if &*self.error == "invalid_client" => Next::OtherCertificate,
            None => Next::Nothing,
        }
    }

    /// Returns whether waiting may be enough.
    pub(crate) fn is_transient(&self) -> bool {
        self.status.is_server_error()
            // The metadata service answers 404 while it starts, and 410 while it is being updated.
            || matches!(
                self.status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::NOT_FOUND | StatusCode::GONE
            )
            || self.next() == Next::Wait
    }

    /// Returns whether every other request of this client would be refused likewise.
    fn concerns_client(&self) -> bool {
        matches!(&*self.error, "invalid_client" | "unauthorized_client")
    }

    /// Returns the cure, for the party that asked.
    pub fn cure(&self) -> Option<Cow<'static, str>> {
        let expired = self.certificate_expired && self.next() == Next::OtherCertificate;
        let advice = if expired {
            Some(aadsts::RENEW)
        } else {
            self.advice().map(|advice| advice.cure).or_else(|| self.cure_of_platform())
        };
        let consent =
            self.consent_uri.as_deref().filter(|_| self.next() == Next::Consent || advice.is_some_and(is_about_consent));
        let certificate = self.certificate.as_deref().filter(|_| self.next() == Next::OtherCertificate);
        let clock = self.clock_ahead.filter(|seconds| seconds.unsigned_abs() > 60);
        let mut notes = Vec::new();
        notes.extend(consent.map(|uri| format!("consent is given at {uri}")));
        notes.extend(certificate.map(|certificate| format!("signed with {certificate}")));
        notes.extend(clock.map(|seconds| {
            format!("this machine's clock is {} s {}", seconds.abs(), if seconds > 0 { "ahead" } else { "behind" })
        }));
        if notes.is_empty() {
            return advice.map(Cow::Borrowed);
        }
        let mut text = advice.unwrap_or("see what the certificate and the app registration say").to_owned();
        notes.iter().for_each(|note| text.push_str(&format!(" ({note})")));
        Some(text.into())
    }

    /// Returns the cure for an answer of the platform, which has no codes.
    fn cure_of_platform(&self) -> Option<&'static str> {
        let says = |words: &str| self.message.to_ascii_lowercase().contains(words);
        (self.asker == Asker::Platform
            && self.status.is_client_error()
            && (says("identity not found") || says("no managed identity")))
        .then_some("assign the managed identity to this machine or service, or mend `client-id`, `object-id` or `resource-id`")
    }
}

/// Returns whether the cure includes the consent of an administrator.
fn is_about_consent(cure: &'static str) -> bool {
    cure.contains("consent")
}

/// Makes foreign text fit for a log: one line, bounded, without anything that looks like a token.
pub(crate) fn clean(text: &str) -> Box<str> {
    const LONGEST_WORD: usize = 100;
    const LONGEST: usize = 300;
    // Entra puts its ids and the time behind the message, in lines or in words; they are kept apart.
    let text = text.split("Trace ID:").next().unwrap_or_default();
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        // A signed token starts with `{"` in base64url.
        out.push_str(if word.chars().count() > LONGEST_WORD || word.contains("eyJ") { "[…]" } else { word });
        if out.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| out.is_char_boundary(*end)).unwrap_or(0);
            out.truncate(end);
            out.push('…');
            break;
        }
    }
    out.into()
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        let (reason, cure) = (error.reason(), error.cure());
        // RFC 9110, section 10.2.3: whole seconds, so that nobody comes back too early.
        let retry_after =
            error.retry_in.map(|left| u32::try_from(left.as_secs()).map_or(u32::MAX, |seconds| seconds.saturating_add(1)));
        let challenge = error.challenge();
        let mut refusal = Self::new(reason, error);
        refusal.challenge = challenge;
        refusal.hint = cure;
        refusal.retry_after = retry_after.filter(|_| reason == Reason::CredentialUnavailable);
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(error: &str, code: Option<u32>) -> Refused {
        Refused {
            status: StatusCode::BAD_REQUEST,
            error: error.into(),
            code,
            message: "AADSTS: told".into(),
            suberror: None,
            claims: None,
            trace_id: None,
            correlation_id: "id".into(),
            retry_after: None,
            clock_ahead: None,
            asker: Asker::User,
            authorization_uri: None,
            consent_uri: None,
            certificate: Some("x5t 00AA, valid until 2027-01-01".into()),
            certificate_expired: false,
        }
    }

    #[test]
    fn foreign_text_becomes_one_bounded_line_without_tokens() {
        let token = format!("eyJ{}", "a".repeat(20));
        let long = "b".repeat(200);

        for (text, expected) in [
            ("AADSTS700027: no.\r\nTrace ID: 1\r\nCorrelation ID: 2".to_owned(), "AADSTS700027: no.".to_owned()),
            ("a\u{1b}[31m\tb".to_owned(), "a [31m b".to_owned()),
            (format!("saw '{token}' here"), "saw […] here".to_owned()),
            (format!("saw {long} here"), "saw […] here".to_owned()),
            (String::new(), String::new()),
        ] {
            assert_eq!(&*clean(&text), expected);
        }
        assert!(clean(&"é ".repeat(500)).len() < 310);
    }

    #[test]
    fn the_caller_learns_the_least_that_helps() {
        let (gateway, caller) = (ForWhom::Gateway, ForWhom::Caller);
        for (error, code, for_whom, reason) in [
            ("invalid_client", Some(700_027), caller, Reason::CredentialUnavailable),
            ("invalid_scope", Some(70_011), caller, Reason::CredentialUnavailable),
            ("unauthorized_client", Some(700_016), caller, Reason::TenantNotConsented),
            ("unauthorized_client", Some(700_016), gateway, Reason::CredentialUnavailable),
            ("invalid_grant", Some(65_001), caller, Reason::TenantNotConsented),
            ("interaction_required", Some(50_079), caller, Reason::InteractionRequired),
            ("invalid_grant", Some(53_003), caller, Reason::InteractionRequired),
            ("invalid_grant", Some(53_003), gateway, Reason::CredentialUnavailable),
            ("server_error", None, caller, Reason::CredentialUnavailable),
        ] {
            let error = CredentialError {
                credential: "gateway".into(),
                failure: Arc::new(Failure::Refused(Box::new(refused(error, code)))),
                retry_in: None,
                for_whom,
            };

            assert_eq!(error.reason(), reason, "{error:?}");
        }
    }

    #[test]
    fn an_expired_certificate_is_not_to_be_uploaded() {
        let unknown = refused("invalid_client", Some(700_027));
        let expired = Refused { certificate_expired: true, ..unknown.clone() };

        assert!(unknown.cure().unwrap().starts_with("upload this certificate"), "{:?}", unknown.cure());
        assert!(expired.cure().unwrap().starts_with("make a new certificate"), "{:?}", expired.cure());
    }

    #[test]
    fn the_cure_names_the_certificate_and_the_clock() {
        let mut refused = refused("invalid_client", Some(700_024));
        refused.clock_ahead = Some(-700);

        assert_eq!(
            refused.cure().unwrap(),
            "set this machine's clock right (signed with x5t 00AA, valid until 2027-01-01) (this machine's clock is 700 s behind)"
        );
    }

    #[test]
    fn puts_off_the_next_attempt_by_what_failed() {
        let delay = |change: fn(&mut Refused)| {
            let mut refused = refused("invalid_scope", None);
            change(&mut refused);
            Failure::Refused(Box::new(refused)).delay(ForWhom::Gateway)
        };

        assert_eq!(delay(|_| ()), Delay::Request);
        assert_eq!(delay(|refused| refused.error = "invalid_client".into()), Delay::Client);
        assert_eq!(delay(|refused| refused.status = StatusCode::BAD_GATEWAY), Delay::Growing);
        assert_eq!(delay(|refused| refused.status = StatusCode::TOO_MANY_REQUESTS), Delay::Growing);
        assert_eq!(delay(|refused| refused.retry_after = Some(0)), Delay::Asked(Duration::from_secs(1)));
        assert_eq!(delay(|refused| refused.retry_after = Some(99_999)), Delay::Asked(Duration::from_secs(3_600)));
    }
}

//! 5 · Authorization: the `Authorization` that the upstream receives.
//!
//! | setting | the upstream receives |
//! | --- | --- |
//! | `keep` | the token as received |
//! | `remove`, or no setting | no token |
//! | `from-header` | the validated token, moved to `Authorization` |
//! | `credential` | the gateway's own token, of its tenant or of the caller's |
//! | `on-behalf-of` | a token that is exchanged for the user's |
//! | `basic` | a user name and a password of the gateway's own |
//!
//! All except `keep` first clear `Authorization` and every [place](TokenPlace) in which a token policy of the route looks. `keep`
//! leaves the place of the validated token and clears the route's others, since their content was not validated.

mod basic;
mod build;
mod config;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};

use self::basic::{Basic, PasswordRefused};
pub(crate) use self::build::AuthorizationContext;
pub use self::config::{
    AuthorizationConfig, AuthorizationWord, BasicConfig, BasicCredentialConfig, FromHeaderConfig, OnBehalfOfConfig,
    UseCredentialConfig,
};
use crate::{
    base::{
        b64token::is_b64token,
        clock::Clock,
        fields::{Fields, Known, Name, Value},
    },
    credentials::OwnToken,
    credentials::{Credential, CredentialError, TokenSlot, UserToken, wanted_claims},
    entra::token::{Token, TokenKind},
    exchange::Exchange,
    refusal::{Reason, Refusal, trace::Trace},
    request::{Captures, IncomingRequest, NamedToken, TokenPlace, binds_connection, remove_folded},
    upstream::UpstreamRequest,
};

/// Stands for the gateway's own token in a trial, where none is acquired.
pub(crate) const PLACEHOLDER: HeaderValue = HeaderValue::from_static("Bearer the-token-of-the-gateway");

/// The `Authorization` that the upstream of a route receives.
#[derive(Debug)]
pub struct Authorization {
    form: Form,
    /// The places in which the route's token policies look.
    places: Box<[TokenPlace]>,
}

#[derive(Debug)]
enum Form {
    Keep,
    Remove,
    /// The validated token from this header.
    FromHeader(HeaderName),
    /// One token for all requests of the route.
    Credential {
        name: Arc<str>,
        slot: Arc<TokenSlot>,
    },
    /// The credential's token in the caller's tenant.
    InCallersTenant {
        credential: Arc<Credential>,
        scope: Box<str>,
    },
    /// The credential's token in a tenant that the path names, if it is one of these.
    InNamedTenant {
        credential: Arc<Credential>,
        scope: Box<str>,
        capture: Box<str>,
        allowed: Box<[Box<str>]>,
    },
    OnBehalfOf {
        credential: Arc<Credential>,
        scope: Box<str>,
    },
    Basic(Box<Basic>),
}

/// The reaction to an upstream's 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Pass it on to the caller, whose token it was.
    PassOn,
    /// Apply again to a new request, which puts a fresh token on it, and send that.
    ApplyAgain,
}

/// An error: the upstream answered 401 to the gateway's own token.
#[derive(Debug, thiserror::Error)]
#[error("the upstream refused the token of credential {credential}{}", if *.twice { ", and a fresh one too" } else { "" })]
pub struct UpstreamRefused {
    credential: Arc<str>,
    twice: bool,
}

impl From<UpstreamRefused> for Refusal {
    fn from(error: UpstreamRefused) -> Self {
        Self::new(Reason::UpstreamRefusedCredential, error)
            .with_hint("see that `scope` is this upstream's, and that the credential's application has been given access to it")
    }
}

/// Decides how to go on with a request whose token the upstream refused with this response.
fn after_refusal(own: &OwnToken, answer: &Fields, can_send_again: bool) -> Result<AfterRefusal, UpstreamRefused> {
    // A challenge that asks for claims is answered once; the fresh token has brought what was asked for.
    let claims = if own.refused_before { None } else { wanted_claims(&answer.into()) };
    let worth_it = match claims {
        Some(claims) => own.slot.challenged(&own.token, claims),
        None => own.slot.refused(&own.token),
    };
    if worth_it && can_send_again && !own.refused_before {
        return Ok(AfterRefusal::ApplyAgain);
    }
    Err(UpstreamRefused { credential: own.slot.credential().clone(), twice: own.refused_before })
}

/// The reason why the caller's token cannot be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum NotForwardable {
    /// There are several tokens.
    #[error("the request has several Authorization fields")]
    Repeated,
    /// No token was validated.
    #[error("there is no validated token to be moved or exchanged")]
    Missing,
    /// The token's tenant has no token endpoint.
    #[error("the token's tenant has no token endpoint")]
    Tenant,
    /// The path names a tenant that is not allowed.
    #[error("the path names no tenant of `allowed-tenants`")]
    TenantNotAllowed,
    /// The token is an application's.
    #[error("an application's token cannot be exchanged on a user's behalf")]
    NoUser,
}

impl From<NotForwardable> for Refusal {
    fn from(error: NotForwardable) -> Self {
        match error {
            NotForwardable::Repeated => Self::new(Reason::TokenAmbiguous, error),
            NotForwardable::Missing => Self::new(Reason::TokenMissing, error),
            NotForwardable::Tenant => Self::new(Reason::CredentialUnavailable, error),
            // The token's own tenant was accepted: it is the path that names another one.
            NotForwardable::TenantNotAllowed => {
                let mut refusal = Self::new(Reason::TokenTenantNotAllowed, error);
                refusal.message = Some("The tenant that the path names is not allowed.".into());
                refusal.with_hint("add the tenant's id to `allowed-tenants` of the route's `authorization` if it may be named")
            }
            NotForwardable::NoUser => Self::new(Reason::OnBehalfOfNeedsUser, error)
                .with_hint("use `credential` on a route of its own for applications that call on their own behalf"),
        }
    }
}

impl Authorization {
    /// Writes the `Authorization` of the upstream's request.
    ///
    /// # Errors
    /// Fails if no token of the gateway is available, or if the caller's token is ambiguous.
    pub(crate) async fn apply(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        let Exchange {
            clock,
            token,
            token_place,
            named_tokens,
            captures,
            own_token,
            own_connection,
            outcome,
            timings,
            trace,
            ..
        } = exchange;
        let facts = Facts {
            trace,
            clock,
            captures,
            token: token.as_deref(),
            token_place: token_place.as_ref(),
            named_tokens,
            own_token,
            own_connection: *own_connection,
            credential: &mut outcome.credential,
            waited: &mut timings.credential,
        };
        self.write(facts, incoming, outgoing).await
    }

    async fn write(&self, facts: Facts<'_>, incoming: &IncomingRequest, outgoing: &mut UpstreamRequest) -> Result<(), Refusal> {
        match &self.form {
            Form::Keep => self.keep(&facts, incoming, outgoing)?,
            Form::Remove => self.remove(outgoing),
            Form::FromHeader(name) => {
                let in_it = |place: &&TokenPlace| matches!(place, TokenPlace::Header(header) if header == name);
                let named = facts.named_tokens.iter().map(|named| &named.place).find(in_it);
                let place = named.or(facts.token_place);
                let token = presented(place, incoming).ok_or(NotForwardable::Missing)?;
                let value = bearer(token.expose_secret()).ok_or(NotForwardable::Missing)?;
                self.remove(outgoing);
                outgoing.headers.insert(Known::Authorization, &value);
            }
            Form::Credential { name, slot } => {
                self.remove(outgoing);
                present(name, slot, facts, outgoing).await?;
            }
            Form::InCallersTenant { credential, scope } => {
                self.remove(outgoing);
                let token = facts.token.ok_or(NotForwardable::Missing)?;
                let slot = credential.slot_in(&token.tenant, scope).ok_or(NotForwardable::Tenant)?;
                present(credential.name(), &slot, facts, outgoing).await?;
            }
            Form::InNamedTenant { credential, scope, capture, allowed } => {
                self.remove(outgoing);
                let named = facts.captures.segments.iter().find(|(name, _)| **name == **capture).map(|(_, segment)| segment);
                let tenant = named.and_then(|named| allowed.iter().find(|tenant| tenant.eq_ignore_ascii_case(named)));
                let tenant = tenant.ok_or(NotForwardable::TenantNotAllowed)?;
                let slot = credential.slot_in(tenant, scope).ok_or(NotForwardable::Tenant)?;
                present(credential.name(), &slot, facts, outgoing).await?;
            }
            Form::Basic(basic) => {
                self.remove(outgoing);
                outgoing.headers.insert(Known::Authorization, &basic.value(facts.clock.unix_seconds())?);
            }
            Form::OnBehalfOf { credential, scope } => {
                self.remove(outgoing);
                let token = facts.token.ok_or(NotForwardable::Missing)?;
                if token.kind != TokenKind::User {
                    return Err(NotForwardable::NoUser.into());
                }
                let presented = presented(facts.token_place, incoming).ok_or(NotForwardable::Missing)?;
                let user = UserToken { token: &presented, tenant: &token.tenant, expires_at: token.expires_at };
                let slot = credential.slot_on_behalf_of(user, scope).ok_or(NotForwardable::Tenant)?;
                present(credential.name(), &slot, facts, outgoing).await?;
            }
        }
        Ok(())
    }

    /// Returns the places in which the route's token policies look, all of which may be cleared.
    pub(crate) const fn places(&self) -> &[TokenPlace] {
        &self.places
    }

    /// Returns whether the upstream receives the caller's own token.
    pub(crate) const fn is_kept(&self) -> bool {
        matches!(self.form, Form::Keep)
    }

    /// Returns whether the upstream receives the gateway's own token.
    pub fn is_own(&self) -> bool {
        match self.form {
            Form::Credential { .. } | Form::InCallersTenant { .. } | Form::InNamedTenant { .. } | Form::OnBehalfOf { .. } => true,
            Form::Keep | Form::Remove | Form::FromHeader(_) | Form::Basic(_) => false,
        }
    }

    /// Decides on an upstream's 401 with the header fields `answer`. The gateway's own token is dropped, and a fresh one is worth
    /// one attempt if the request can be sent again; it contains the claims that the upstream demands, if any.
    ///
    /// # Errors
    /// Fails if it was the gateway's own token, and there is no further attempt.
    pub(crate) fn refused(
        &self,
        exchange: &mut Exchange,
        answer: &Fields,
        can_send_again: bool,
    ) -> Result<AfterRefusal, Refusal> {
        if matches!(self.form, Form::Basic(_)) {
            return Err(PasswordRefused.into());
        }
        let Some(own) = &exchange.own_token else { return Ok(AfterRefusal::PassOn) };
        after_refusal(own, answer, can_send_again).map_err(Refusal::from)
    }

    fn remove(&self, outgoing: &mut UpstreamRequest) {
        remove_folded(&mut outgoing.headers, &header::AUTHORIZATION);
        for place in &self.places {
            place.clear(outgoing);
        }
    }

    fn keep(&self, facts: &Facts<'_>, incoming: &IncomingRequest, outgoing: &mut UpstreamRequest) -> Result<(), NotForwardable> {
        let validated = || facts.token_place.into_iter().chain(facts.named_tokens.iter().map(|named| &named.place));
        let vouched_for = |place: &TokenPlace| validated().any(|validated| validated == place);
        // Nobody has vouched for what stands in the other places; where no token was validated, that is each in which one would be.
        for place in self.places.iter().filter(|place| !vouched_for(place)) {
            place.clear(outgoing);
        }
        for place in validated() {
            // The caller's `Connection` may have named the field, which does not make the gateway forget the token.
            if let TokenPlace::Header(name) = place
                && *name != header::AUTHORIZATION
                && let Some(value) = incoming.headers.get(name)
            {
                put(outgoing, name, value);
            }
        }
        let authorization = TokenPlace::Header(header::AUTHORIZATION);
        if !vouched_for(&authorization) && self.places.contains(&authorization) {
            return Ok(());
        }
        match forwardable(&incoming.headers, facts.own_connection)? {
            Some(_) if facts.trace.leaves_fields_unread() => {}
            // It replaces what is there; a name of letters alone has no other spelling.
            Some(value) => outgoing.headers.insert_secret(Known::Authorization, value),
            None => remove_folded(&mut outgoing.headers, &header::AUTHORIZATION),
        }
        Ok(())
    }
}

/// Puts a slot's token on the upstream's request, waiting for it only if necessary.
async fn present(
    name: &Arc<str>,
    slot: &Arc<TokenSlot>,
    facts: Facts<'_>,
    outgoing: &mut UpstreamRequest,
) -> Result<(), CredentialError> {
    *facts.credential = Some(name.clone());
    if let Some(stand_in) = facts.trace.stand_in() {
        stand_in.not_asked("the token of the gateway's credential");
        outgoing.headers.insert(Known::Authorization, &PLACEHOLDER);
        return Ok(());
    }
    let token = match slot.cached() {
        Some(token) => token,
        None => {
            let started = facts.clock.monotonic();
            let token = Box::pin(slot.token()).await;
            *facts.waited += facts.clock.monotonic().saturating_sub(started);
            token?
        }
    };
    outgoing.headers.insert(Known::Authorization, token.header());
    let refused_before = facts.own_token.is_some();
    *facts.own_token = Some(OwnToken { slot: slot.clone(), token, refused_before });
    Ok(())
}

/// The facts of a request that determine its `Authorization`, and the facts found here.
struct Facts<'a> {
    trace: &'a mut Trace,
    clock: &'a Clock,
    captures: &'a Captures,
    token: Option<&'a Token>,
    token_place: Option<&'a TokenPlace>,
    named_tokens: &'a [NamedToken],
    own_token: &'a mut Option<OwnToken>,
    own_connection: bool,
    credential: &'a mut Option<Arc<str>>,
    waited: &'a mut Duration,
}

fn put<'n>(outgoing: &mut UpstreamRequest, name: impl Into<Name<'n>>, token: Value<'_>) {
    outgoing.headers.insert(name, token.secret());
}

/// Returns the caller's single `Authorization` if it may be forwarded. Credentials that authenticate a connection are only
/// forwarded on a connection of the caller's own.
fn forwardable(headers: &Fields, own_connection: bool) -> Result<Option<Value<'_>>, NotForwardable> {
    let mut values = headers.get_all(Known::Authorization).filter(|value| own_connection || !binds_connection(*value));
    match (values.next(), values.next()) {
        // RFC 9110, section 11.6.2: the field is no list, so each reader would choose its own.
        (Some(_), Some(_)) => Err(NotForwardable::Repeated),
        (value, _) => Ok(value),
    }
}

/// Returns the token that was validated in this place of the request. Content with another scheme (`Basic`) is no token, also in a
/// field that needs none: it would leave as a part of another header.
fn presented(place: Option<&TokenPlace>, incoming: &IncomingRequest) -> Option<SecretString> {
    let token = place?.read(incoming).ok()??;
    std::str::from_utf8(&token).ok().filter(|token| is_b64token(token)).map(SecretString::from)
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;

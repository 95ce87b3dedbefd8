//! Judges a verified token: issuer, tenant, audience, times, kind, client, claims.

use serde_json::Value;

use super::{MatchConfig, TokenKindConfig, TokenTypeConfig, error::NotAccepted, lookup::Lookups};
use crate::entra::{
    IssuerVerdict, PERSONAL_ACCOUNTS, Profile, Verified,
    token::{Binding, CredentialKind, Token, TokenKind},
};

/// The requirements for a verified token.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) profile: Profile,
    pub(super) tenants: AllowedTenants,
    pub(super) audiences: Vec<Box<str>>,
    /// The accepted clock skew, in seconds.
    pub(super) clock_skew: u64,
    pub(super) token_type: TokenTypeConfig,
    pub(super) kind: TokenKindConfig,
    /// Lower-case GUIDs; none means any.
    pub(super) clients: Vec<Box<str>>,
    pub(super) certificate: bool,
    /// True if the token must be bound to the caller's certificate.
    pub(super) bound: bool,
    pub(super) claims: Vec<RequiredClaim>,
    pub(super) scopes: Vec<Box<str>>,
    pub(super) roles: Vec<Box<str>>,
    /// Authentication contexts of which one must be satisfied; none means any.
    pub(super) contexts: Vec<Box<str>>,
    pub(super) partner_check_follows: bool,
    /// The lookups for facts that the token lacks.
    pub(super) lookups: Lookups,
}

/// The accepted tenants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AllowedTenants {
    /// Tenants do not apply to this issuer.
    NotAsked,
    /// The tenant that the key set is for.
    Own,
    /// All tenants except that of personal accounts, which has to be listed.
    Any,
    /// These tenants, sorted, in lower case.
    Listed(Vec<Box<str>>),
}

/// A required claim.
#[derive(Debug)]
pub(super) struct RequiredClaim {
    pub(super) name: Box<str>,
    pub(super) matching: MatchConfig,
    /// None means that the claim must exist.
    pub(super) values: Vec<Box<str>>,
    pub(super) separator: Option<Box<str>>,
}

impl Rules {
    /// Judges a token at the time `now`, in seconds since 1970. `certificate` is the SHA-256 of the certificate whose key the
    /// caller has proven to hold. Claims that a lookup may supply are left to it.
    pub(super) fn judge(&self, verified: &Verified, now: u64, certificate: Option<&[u8; 32]>) -> Result<(), NotAccepted> {
        let Verified { token, facts, .. } = verified;
        Self::judge_issuer(verified)?;
        self.judge_tenant(verified)?;
        self.judge_audience(verified)?;
        self.judge_times(verified, now)?;
        self.judge_kind(verified)?;
        self.judge_binding(facts.binding.as_ref(), certificate)?;
        self.judge_own_kind(token)?;
        self.judge_client(token)?;
        self.judge_claims(verified)?;
        self.judge_permissions(verified)?;
        self.judge_context(token)
    }

    /// Judges a token by each check on its own; the order is that of [`judge`](Self::judge).
    pub(super) fn judge_each(
        &self,
        verified: &Verified,
        now: u64,
        certificate: Option<&[u8; 32]>,
    ) -> Vec<(&'static str, Result<(), NotAccepted>)> {
        let Verified { token, facts, .. } = verified;
        let mut checks = vec![
            ("issuer", Self::judge_issuer(verified)),
            ("tenant", self.judge_tenant(verified)),
            ("audience", self.judge_audience(verified)),
            ("times", self.judge_times(verified, now)),
            ("token type", self.judge_kind(verified)),
            ("binding", self.judge_binding(facts.binding.as_ref(), certificate)),
            ("token kind", self.judge_own_kind(token)),
            ("client", self.judge_client(token)),
        ];
        checks.extend(self.claims.iter().map(|claim| ("required claim", self.judge_claim(claim, verified))));
        checks.push(("scopes and roles", self.judge_permissions(verified)));
        checks.push(("authentication context", self.judge_context(token)));
        checks
    }

    #[inline]
    fn judge_issuer(verified: &Verified) -> Result<(), NotAccepted> {
        if verified.issuer == IssuerVerdict::Agrees { Ok(()) } else { Err(NotAccepted::Issuer(verified.issuer)) }
    }

    #[inline]
    fn judge_tenant(&self, verified: &Verified) -> Result<(), NotAccepted> {
        if self.tenants.allow(&verified.token.tenant, verified.own_tenant) { Ok(()) } else { Err(NotAccepted::Tenant) }
    }

    /// Checks the audience: RFC 7519, section 4.1.3. Entra writes one audience; a list was refused when the token was read.
    #[inline]
    fn judge_audience(&self, verified: &Verified) -> Result<(), NotAccepted> {
        let accepted = verified.facts.audiences.iter().any(|audience| self.audiences.contains(audience));
        if accepted { Ok(()) } else { Err(NotAccepted::Audience) }
    }

    #[inline]
    fn judge_times(&self, verified: &Verified, now: u64) -> Result<(), NotAccepted> {
        let Verified { token, facts, .. } = verified;
        // RFC 7519, sections 4.1.4 and 4.1.5: on or after `exp` a token is over.
        let over = token.expires_at.saturating_add(self.clock_skew);
        if now >= over {
            return Err(NotAccepted::Expired(now - token.expires_at));
        }
        if let Some(begins) = facts.not_before.filter(|begins| now + self.clock_skew < *begins) {
            return Err(NotAccepted::NotYetValid(begins - now));
        }
        Ok(())
    }

    #[inline]
    fn judge_claims(&self, verified: &Verified) -> Result<(), NotAccepted> {
        self.claims.iter().try_for_each(|claim| self.judge_claim(claim, verified))
    }

    #[inline]
    fn judge_claim(&self, claim: &RequiredClaim, verified: &Verified) -> Result<(), NotAccepted> {
        if claim.holds(&verified.token) || self.lookups.may_tell(&claim.name, verified) {
            return Ok(());
        }
        let elsewhere = &*claim.name == "groups" && verified.facts.groups_elsewhere;
        Err(if elsewhere { NotAccepted::GroupOverage } else { NotAccepted::Claim(claim.name.clone()) })
    }

    fn judge_kind(&self, verified: &Verified) -> Result<(), NotAccepted> {
        let Verified { token, facts, .. } = verified;
        match self.token_type {
            // An ID token of the same application has the right audience and signature, and may hold roles: what it lacks is a
            // client.
            TokenTypeConfig::Access if facts.id_token => return Err(NotAccepted::NotAccessToken),
            TokenTypeConfig::Access if token.client.is_none() && self.profile == Profile::Entra => {
                return Err(NotAccepted::NotAccessToken);
            }
            TokenTypeConfig::Access if !facts.kind_is_certain && !token.roles.is_empty() => {
                return Err(NotAccepted::NotAccessToken);
            }
            TokenTypeConfig::Id if !token.scopes.is_empty() || token.kind == TokenKind::App => {
                return Err(NotAccepted::NotIdToken);
            }
            TokenTypeConfig::Id if token.client.is_some() && !facts.id_token => return Err(NotAccepted::NotIdToken),
            TokenTypeConfig::Access | TokenTypeConfig::Id => {}
        }
        Ok(())
    }

    /// Checks the binding: RFC 7800, section 3: a token with `cnf` requires proof of the key. Accepted as a bearer token, it
    /// would be valid for anybody.
    fn judge_binding(&self, binding: Option<&Binding>, certificate: Option<&[u8; 32]>) -> Result<(), NotAccepted> {
        match (binding, certificate) {
            (None, _) if self.bound => Err(NotAccepted::Unbound),
            (None, _) => Ok(()),
            (Some(Binding::Certificate(wanted)), Some(shown)) if wanted == shown => Ok(()),
            (Some(Binding::Certificate(_)), Some(_)) => Err(NotAccepted::BoundToAnother),
            (Some(Binding::Certificate(_)), None) => Err(NotAccepted::BoundToCertificate),
            (Some(Binding::Other), _) => Err(NotAccepted::Bound),
        }
    }

    fn judge_own_kind(&self, token: &Token) -> Result<(), NotAccepted> {
        match (self.kind, token.kind) {
            (TokenKindConfig::User, TokenKind::App) | (TokenKindConfig::App, TokenKind::User) => Err(NotAccepted::Kind),
            _ => Ok(()),
        }
    }

    fn judge_client(&self, token: &Token) -> Result<(), NotAccepted> {
        if !self.clients.is_empty() && !self.lists_client(token) {
            return Err(NotAccepted::Client);
        }
        if self.certificate && token.credential_kind != Some(CredentialKind::Certificate) {
            return Err(NotAccepted::ClientCredential);
        }
        Ok(())
    }

    fn lists_client(&self, token: &Token) -> bool {
        let listed = |client: &str| match self.profile {
            // GUIDs are one in either case.
            Profile::Entra => self.clients.iter().any(|listed| listed.eq_ignore_ascii_case(client)),
            Profile::Other => self.clients.iter().any(|listed| **listed == *client),
        };
        token.client.as_deref().is_some_and(listed)
    }

    /// Checks scopes and roles. Entra grants scopes to users and roles to applications: if both are configured, each kind is held
    /// to its own, so that a user's role with the name of an application's does not count. Scopes alone admit no application,
    /// roles alone are required of everybody. Other issuers grant scopes to applications, too (RFC 6749, section 4.4.2), so there
    /// scopes alone are required of everybody.
    fn judge_permissions(&self, verified: &Verified) -> Result<(), NotAccepted> {
        let Verified { token, facts, .. } = verified;
        let user = token.kind == TokenKind::User;
        let scopes_alone = !self.scopes.is_empty() && self.roles.is_empty();
        let has_scopes = user || self.profile == Profile::Other && scopes_alone;
        if has_scopes && !self.scopes.is_empty() && !token.scopes.iter().any(|scope| self.scopes.contains(scope)) {
            return Err(NotAccepted::Scope);
        }
        if scopes_alone && !has_scopes {
            return Err(NotAccepted::Role);
        }
        let wants_role = !self.roles.is_empty() && (!user || self.scopes.is_empty());
        if wants_role && !token.roles.iter().any(|role| self.roles.contains(role)) {
            return Err(NotAccepted::Role);
        }
        // Every application of a tenant can get a token for any API of it; without a grant it says nothing.
        let granted = !token.scopes.is_empty() || !token.roles.is_empty();
        let vouched_for = facts.kind_is_certain && (self.lists_client(token) || self.partner_check_follows);
        let needs_grant = self.token_type == TokenTypeConfig::Access && self.profile == Profile::Entra;
        if needs_grant && !granted && !vouched_for { Err(NotAccepted::Permission) } else { Ok(()) }
    }

    fn judge_context(&self, token: &Token) -> Result<(), NotAccepted> {
        if self.contexts.is_empty() {
            return Ok(());
        }
        let satisfied =
            token.claims.get("acrs").is_some_and(|acrs| texts(acrs).any(|acr| self.contexts.iter().any(|own| **own == *acr)));
        if satisfied {
            return Ok(());
        }
        let capable = token.claims.get("xms_cc").is_some_and(|list| texts(list).any(|word| word.eq_ignore_ascii_case("cp1")));
        Err(NotAccepted::Context { capable: capable && token.kind == TokenKind::User })
    }
}

impl AllowedTenants {
    fn allow(&self, tenant: &str, own: bool) -> bool {
        match self {
            Self::NotAsked => true,
            _ if tenant.is_empty() => false,
            Self::Own => own,
            Self::Any => tenant != PERSONAL_ACCOUNTS,
            Self::Listed(list) => list.binary_search_by(|listed| (**listed).cmp(tenant)).is_ok(),
        }
    }
}

impl RequiredClaim {
    pub(super) fn holds(&self, token: &Token) -> bool {
        token.claims.get(&self.name).is_some_and(|claim| self.is_met_by(claim))
    }

    /// Returns whether a present claim satisfies the requirement.
    pub(super) fn is_met_by(&self, claim: &Value) -> bool {
        match self.matching {
            _ if self.values.is_empty() => !self.is_empty(claim),
            MatchConfig::All => self.values.iter().all(|value| self.has(claim, value)),
            MatchConfig::Any => self.values.iter().any(|value| self.has(claim, value)),
        }
    }

    /// Returns whether the claim is this value, or lists it. The separator splits a claim that is one text, never the elements of
    /// a list: a person who chooses the name of one element could write two.
    fn has(&self, claim: &Value, value: &str) -> bool {
        match (claim, self.separator.as_deref()) {
            (Value::Array(entries), _) => entries.iter().any(|entry| is(entry, value)),
            (Value::String(text), Some(separator)) => text.split(separator).any(|piece| piece == value),
            (claim, _) => is(claim, value),
        }
    }

    /// Returns whether the claim has no value. Empty parts between separators do not count.
    fn is_empty(&self, claim: &Value) -> bool {
        match (claim, self.separator.as_deref()) {
            (Value::String(text), Some(separator)) => text.split(separator).all(str::is_empty),
            (Value::Array(entries), _) => entries.iter().all(says_nothing),
            (claim, _) => says_nothing(claim),
        }
    }
}

/// Returns whether a claim, or an element of one, is exactly this value. Lists and objects are not values.
fn is(claim: &Value, value: &str) -> bool {
    match claim {
        Value::String(text) => text == value,
        Value::Bool(true) => value == "true",
        Value::Bool(false) => value == "false",
        Value::Number(number) => number.to_string() == value,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn says_nothing(claim: &Value) -> bool {
    match claim {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns the texts of a claim that is a list, or a single text.
fn texts(claim: &Value) -> impl Iterator<Item = &str> {
    let single = claim.as_str();
    single.into_iter().chain(claim.as_array().into_iter().flatten().filter_map(Value::as_str))
}

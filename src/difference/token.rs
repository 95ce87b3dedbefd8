//! Token policies on a region, check by check, in the order of the gateway's own.

use std::collections::BTreeSet;

use super::{
    region::{Atom, Flag, ListKey, Spot, TextKey, TokenList, TokenText},
    run::{Asked, Ended, Run, State, refuse},
};
use crate::{
    explain::TokenEntry,
    expression::shape::Test,
    inbound::{
        PolicyConfig,
        list::Listed,
        validate_azure_ad_token::{
            ClientCredentialConfig, MatchConfig, RequiredClaimConfig, TokenBindingConfig, TokenKindConfig, TokenTypeConfig,
        },
    },
    refusal::Reason,
    settings::ConfigDuration,
};

/// The clock skew of a policy without one, in seconds.
const DEFAULT_SKEW: u64 = 300;

impl Run<'_> {
    pub(super) fn token_policy(&self, entry: &Listed<'_>, state: &mut State, followed: bool) -> Ended {
        let Some(policy) = TokenEntry::of(entry.config) else { return Ok(None) };
        let Some(spot) = self.token_place(policy)? else { return Ok(Some(refuse(Reason::TokenMissing, &entry.place))) };
        if let Some(reason) = self.token_fault(policy, &spot, followed)? {
            return Ok(Some(refuse(reason, &entry.place)));
        }
        let named = match entry.config {
            PolicyConfig::ValidateAzureAdToken(config) => &config.named,
            PolicyConfig::ValidateJwt(config) => &config.named,
            _ => &None,
        };
        state.named.extend(named.iter().map(|name| (name.clone(), spot.clone())));
        // What a first token policy established stays.
        state.token.get_or_insert(spot);
        Ok(None)
    }

    /// Returns the first of the policy's places that holds a token.
    fn token_place(&self, policy: TokenEntry<'_>) -> Asked<Option<Spot>> {
        for spot in policy.places().iter().map(Spot::from) {
            if let Spot::Header(name) = &spot
                && !self.sees(name)?
            {
                continue;
            }
            if self.ask(Atom::Flag(Flag::Token(spot.clone())))? {
                return Ok(Some(spot));
            }
        }
        Ok(None)
    }

    /// Returns the check that a token fails.
    fn token_fault(&self, policy: TokenEntry<'_>, spot: &Spot, followed: bool) -> Asked<Option<Reason>> {
        let flag = |flag: fn(Spot) -> Flag| self.ask(Atom::Flag(flag(spot.clone())));
        let text =
            |field: TokenText, texts: Vec<String>| self.ask(Atom::Text(TextKey::Token(spot.clone(), field), Test::In(texts)));
        if !flag(Flag::Sound)? {
            return Ok(Some(Reason::TokenSignatureInvalid));
        }
        if !self.issuer_allowed(policy, spot)? {
            return Ok(Some(Reason::TokenTenantNotAllowed));
        }
        if !text(TokenText::Audience, policy.audiences().to_vec())? {
            return Ok(Some(Reason::TokenAudienceNotAllowed));
        }
        if self.ask(Atom::Lapsed(spot.clone(), skew(policy)))? {
            return Ok(Some(Reason::TokenExpired));
        }
        let settings = Settings::of(policy);
        if self.world.id_tokens && flag(Flag::Id)? != settings.id_token {
            return Ok(Some(Reason::TokenNotAccessToken));
        }
        if self.world.bound_tokens && settings.bound && !flag(Flag::Bound)? {
            return Ok(Some(Reason::TokenBindingMissing));
        }
        let app = match policy.kind() {
            TokenKindConfig::Any => None,
            TokenKindConfig::App => Some(true),
            TokenKindConfig::User => Some(false),
        };
        if let Some(app) = app
            && flag(Flag::App)? != app
        {
            return Ok(Some(Reason::TokenKindNotAllowed));
        }
        let clients: Vec<_> = policy.clients().iter().map(|client| client.to_ascii_lowercase()).collect();
        let lists_client = !clients.is_empty();
        if lists_client && !text(TokenText::Client, clients)? {
            return Ok(Some(Reason::ClientApplicationNotAllowed));
        }
        if settings.certificate && !text(TokenText::Credential, vec!["certificate".to_owned()])? {
            return Ok(Some(Reason::ClientCredentialTooWeak));
        }
        for claim in policy.claims() {
            if !self.claim_met(claim, spot)? {
                return Ok(Some(Reason::RequiredClaimMissing));
            }
        }
        if let Some(reason) = self.permissions(policy, spot, (settings.id_token, lists_client || followed))? {
            return Ok(Some(reason));
        }
        let contexts: BTreeSet<String> = policy.contexts().iter().cloned().collect();
        let acrs = ListKey(spot.clone(), TokenList::Claim("acrs".to_owned()));
        if !contexts.is_empty() && !self.ask(Atom::List(acrs, contexts))? {
            return Ok(Some(Reason::ClaimsChallenge));
        }
        Ok(None)
    }

    fn issuer_allowed(&self, policy: TokenEntry<'_>, spot: &Spot) -> Asked<bool> {
        let issuer = |test: Test| self.ask(Atom::Text(TextKey::Token(spot.clone(), TokenText::Issuer), test));
        match self.side.issuers(policy) {
            super::side::Issuers::These(issuers) => issuer(Test::In(issuers)),
            super::side::Issuers::Any { begins, ends, except } => {
                Ok(issuer(Test::Starts(begins))? && issuer(Test::Ends(ends))? && !issuer(Test::In(vec![except]))?)
            }
        }
    }

    /// Follows the gateway's rule for scopes and roles.
    fn permissions(&self, policy: TokenEntry<'_>, spot: &Spot, (id, vouched_for): (bool, bool)) -> Asked<Option<Reason>> {
        let (scopes, roles) = (policy.scopes(), policy.roles());
        let entra = matches!(policy, TokenEntry::Entra(_));
        let has = |list: TokenList, wanted: &[String]| {
            self.ask(Atom::List(ListKey(spot.clone(), list), wanted.iter().cloned().collect()))
        };
        let app = || self.ask(Atom::Flag(Flag::App(spot.clone())));
        let scopes_alone = !scopes.is_empty() && roles.is_empty();
        if !scopes.is_empty() && (!entra && scopes_alone || !app()?) {
            if !has(TokenList::Scopes, scopes)? {
                return Ok(Some(Reason::ScopeMissing));
            }
        } else if scopes_alone {
            return Ok(Some(Reason::RoleMissing));
        }
        if !roles.is_empty() && (scopes.is_empty() || app()?) && !has(TokenList::Roles, roles)? {
            return Ok(Some(Reason::RoleMissing));
        }
        let needs_grant = entra && !id && !vouched_for && scopes.is_empty() && roles.is_empty();
        if needs_grant {
            let filled = |list: TokenList| self.ask(Atom::Filled(ListKey(spot.clone(), list)));
            if !filled(TokenList::Roles)? && (app()? || !filled(TokenList::Scopes)?) {
                return Ok(Some(Reason::PermissionMissing));
            }
        }
        Ok(None)
    }

    fn claim_met(&self, claim: &RequiredClaimConfig, spot: &Spot) -> Asked<bool> {
        let own = match claim.name.as_str() {
            "roles" => Some(TokenList::Roles),
            name if self.world.lists_claim(name) => Some(TokenList::Claim(name.to_owned())),
            _ => None,
        };
        if let Some(list) = own {
            let key = ListKey(spot.clone(), list);
            let has = |values: &[String]| self.ask(Atom::List(key.clone(), values.iter().cloned().collect()));
            return match claim.matching {
                _ if claim.values.is_empty() => self.ask(Atom::Filled(key)),
                MatchConfig::Any => has(&claim.values),
                MatchConfig::All => {
                    for value in &claim.values {
                        if !has(std::slice::from_ref(value))? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
            };
        }
        let field = match claim.name.as_str() {
            "sub" => TokenText::Subject,
            "azp" => TokenText::Client,
            name => TokenText::Claim(name.to_owned()),
        };
        let always = matches!(field, TokenText::Subject | TokenText::Client);
        let key = TextKey::Token(spot.clone(), field);
        if !always && !self.ask(Atom::Exists(key.clone()))? {
            return Ok(false);
        }
        match claim.matching {
            _ if claim.values.is_empty() => Ok(true),
            MatchConfig::Any => self.ask(Atom::Text(key, Test::In(claim.values.clone()))),
            MatchConfig::All => {
                for value in &claim.values {
                    if !self.ask(Atom::Text(key.clone(), Test::In(vec![value.clone()])))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

/// The settings of a policy for Entra's tokens alone.
#[derive(Clone, Copy, Default)]
struct Settings {
    id_token: bool,
    bound: bool,
    certificate: bool,
}

impl Settings {
    fn of(policy: TokenEntry<'_>) -> Self {
        match policy {
            TokenEntry::Entra(config) => Self {
                id_token: config.token_type == TokenTypeConfig::Id,
                bound: config.token_binding == TokenBindingConfig::Certificate,
                certificate: config.client_credential == ClientCredentialConfig::Certificate,
            },
            TokenEntry::Other(config) => {
                Self { bound: config.token_binding == TokenBindingConfig::Certificate, ..Self::default() }
            }
        }
    }
}

fn skew(policy: TokenEntry<'_>) -> u64 {
    let skew = match policy {
        TokenEntry::Entra(config) => config.clock_skew,
        TokenEntry::Other(config) => config.clock_skew,
    };
    skew.map_or(DEFAULT_SKEW, |ConfigDuration(skew)| skew.as_secs())
}

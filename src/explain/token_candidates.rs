//! Candidates for refusals by a token policy, or for want of a token.

use serde_json::{Value, json};

use super::{
    candidates::{Candidate, MOST, Refused, claim_in_words, in_utc},
    token::{FoundPlace, FoundToken},
    variant::Change,
};
use crate::{
    inbound::{
        PolicyConfig,
        validate_azure_ad_token::{
            MatchConfig, RequiredClaimConfig, TokenKindConfig, ValidateAzureAdTokenConfig, listed_tenants,
        },
        validate_jwt::ValidateJwtConfig,
    },
    offline::{TokenSpec, TokenSpecCredential, TokenSpecKind},
    refusal::Reason,
    settings::OneOrMany,
};

const TENANT_ADMIN: &str = "an administrator of the tenant";
const NEW_TOKEN: &str = "the caller, with a new token";

/// The settings of a token policy, of either kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'c> {
    Entra(&'c ValidateAzureAdTokenConfig),
    Other(&'c ValidateJwtConfig),
}

impl<'c> Entry<'c> {
    pub(crate) fn of(policy: &'c PolicyConfig) -> Option<Self> {
        match policy {
            PolicyConfig::ValidateAzureAdToken(config) => Some(Self::Entra(config)),
            PolicyConfig::ValidateJwt(config) => Some(Self::Other(config)),
            _ => None,
        }
    }

    pub(crate) fn audiences(self) -> &'c [String] {
        match self {
            Self::Entra(config) => &config.audiences,
            Self::Other(config) => &config.audiences,
        }
    }

    pub(crate) fn scopes(self) -> &'c [String] {
        match self {
            Self::Entra(config) => &config.scopes,
            Self::Other(config) => &config.scopes,
        }
    }

    pub(crate) fn roles(self) -> &'c [String] {
        match self {
            Self::Entra(config) => &config.roles,
            Self::Other(config) => &config.roles,
        }
    }

    pub(crate) fn clients(self) -> &'c [String] {
        match self {
            Self::Entra(config) => &config.client_application_ids,
            Self::Other(config) => &config.client_application_ids,
        }
    }

    pub(crate) fn claims(self) -> &'c [RequiredClaimConfig] {
        match self {
            Self::Entra(config) => &config.required_claims,
            Self::Other(config) => &config.required_claims,
        }
    }

    pub(crate) const fn kind(self) -> TokenKindConfig {
        match self {
            Self::Entra(config) => config.token_kind,
            Self::Other(config) => config.token_kind,
        }
    }

    pub(crate) fn contexts(self) -> &'c [String] {
        match self {
            Self::Entra(config) => config.authentication_context.as_ref().map_or(&[], OneOrMany::as_slice),
            Self::Other(_) => &[],
        }
    }

    /// Returns the places in which the policy looks, in its order.
    pub(crate) fn places(self) -> Vec<FoundPlace> {
        let (headers, query) = match self {
            Self::Entra(config) => (&config.header_name, &config.query_parameter_name),
            Self::Other(config) => (&config.header_name, &config.query_parameter_name),
        };
        let headers = headers.as_ref().map_or_else(|| vec!["Authorization".to_owned()], |names| names.as_slice().to_vec());
        let headers = headers.iter().map(|name| FoundPlace::preferred(Some(name), None));
        headers.chain(query.iter().map(|name| FoundPlace::Query(name.clone()))).collect()
    }

    /// Returns the issuer whose tokens the policy takes: the name of a tenant, or of another issuer.
    pub(crate) fn issuer(self) -> &'c str {
        match self {
            Self::Entra(config) => &config.tenant,
            Self::Other(config) => &config.issuer,
        }
    }

    /// Describes a token as the policy wants it.
    pub(crate) fn wanted(self, app: bool) -> TokenSpec {
        let client = self.clients().first().cloned();
        let issuer = match self {
            Self::Entra(_) => None,
            Self::Other(config) => Some(config.issuer.clone()),
        };
        TokenSpec {
            kind: Some(if app { TokenSpecKind::App } else { TokenSpecKind::User }),
            tenant: matches!(self, Self::Entra(_)).then(|| self.issuer().to_owned()),
            issuer,
            client,
            audience: self.audiences().first().cloned(),
            scopes: (!app).then(|| self.scopes().first().cloned().map_or_else(|| vec!["access".to_owned()], |scope| vec![scope])),
            roles: self.roles().first().cloned().into_iter().collect(),
            client_credential: Some(if app { TokenSpecCredential::Certificate } else { TokenSpecCredential::None }),
            claims: self.claims().iter().map(|claim| (claim.name.clone(), met(claim, None))).collect(),
            ..TokenSpec::default()
        }
    }
}

/// Returns the candidates about the token.
pub(super) fn of(refused: &Refused<'_>, reason: Reason) -> Vec<Candidate> {
    let Some(entry) = refused.token_entry() else { return Vec::new() };
    let places = entry.places();
    let token = refused.variant.token(&places);
    let Some(token) = token else {
        let absent = matches!(
            reason,
            Reason::TokenMissing | Reason::TokenMalformed | Reason::TokenAmbiguous | Reason::TokenAlgorithmNotAllowed
        );
        return if absent { new_tokens(refused, entry, &places) } else { Vec::new() };
    };
    let about = About { refused, entry, token };
    match reason {
        Reason::TokenMissing | Reason::TokenMalformed | Reason::TokenAmbiguous => {
            [about.signed(), new_tokens(refused, entry, &places)].concat()
        }
        Reason::TokenKeyUnknown
        | Reason::TokenSignatureInvalid
        | Reason::TokenAlgorithmNotAllowed
        | Reason::SigningKeysUnavailable => about.signed(),
        Reason::TokenExpired | Reason::TokenNotYetValid => about.times(),
        Reason::TokenIssuerNotAllowed | Reason::TokenTenantNotAllowed => about.issuers(),
        Reason::TokenAudienceNotAllowed => about.each("aud", "audience", entry.audiences(), NEW_TOKEN),
        Reason::TokenNotAccessToken | Reason::TokenBindingMissing => {
            [about.without(&["cnf"], "binding"), new_tokens(refused, entry, &places)].concat()
        }
        Reason::ClaimsChallenge => {
            let contexts = entry.contexts().iter().take(MOST);
            let list = |context: &String| about.claim("acrs", "acrs", json!([context]), "the user, by signing in again as asked");
            contexts.map(list).collect()
        }
        Reason::TokenKindNotAllowed | Reason::OnBehalfOfNeedsUser => new_tokens(refused, entry, &places),
        Reason::ClientApplicationNotAllowed => about.clients(entry.clients(), "the caller, through a client that is listed"),
        Reason::PartnerUnknown => {
            let partners = refused.config().partners.values();
            let ids: Vec<_> = partners.flat_map(|partner| partner.client_application_ids.iter().cloned()).collect();
            about.clients(&ids, "the caller, with its own application")
        }
        Reason::ClientCredentialTooWeak | Reason::PartnerCredentialTooWeak => about.strength(),
        Reason::RequiredClaimMissing => about.required_claims(),
        Reason::GroupOverage => about.groups(),
        Reason::ScopeMissing => about.scopes(),
        Reason::RoleMissing => about.roles(),
        Reason::PermissionMissing => about.permissions(),
        _ => Vec::new(),
    }
}

/// Returns tokens as the policy wants them: an application's, and a user's.
fn new_tokens(refused: &Refused<'_>, entry: Entry<'_>, places: &[FoundPlace]) -> Vec<Candidate> {
    let Some(place) = places.first() else { return Vec::new() };
    let kinds: &[bool] = match entry.kind() {
        TokenKindConfig::App => &[true],
        TokenKindConfig::User => &[false],
        TokenKindConfig::Any if entry.scopes().is_empty() && !entry.roles().is_empty() => &[true, false],
        TokenKindConfig::Any => &[false, true],
    };
    let made = kinds.iter().filter_map(|app| {
        let spec = entry.wanted(*app);
        let claims = spec.claims(refused.gateway).ok()?;
        let to = format!("{}, for {}", if *app { "an application's" } else { "a user's" }, spec.audience.unwrap_or_default());
        let from = refused.variant.token(places).map_or("absent", |_| "another");
        Some(Candidate::new("token", from, to, Change::Token(place.clone(), claims), NEW_TOKEN))
    });
    made.collect()
}

/// A token that was refused, and the policy that refused it.
struct About<'r, 'a> {
    refused: &'r Refused<'a>,
    entry: Entry<'a>,
    token: &'r FoundToken,
}

impl About<'_, '_> {
    fn is_v1(&self) -> bool {
        self.token.claims.get("ver").and_then(Value::as_str) == Some("1.0")
    }

    fn is_app(&self) -> bool {
        let claims = &self.token.claims;
        match claims.get("idtyp").and_then(Value::as_str) {
            Some(kind) => kind == "app",
            None => {
                let other = matches!(self.entry, Entry::Other(_)) && claims.get("sub") == claims.get("client_id");
                !claims.contains_key("scp") && claims.contains_key("sub") && (claims.get("sub") == claims.get("oid") || other)
            }
        }
    }

    /// Makes a candidate that changes one claim.
    fn claim(&self, claim: &str, name: &str, to: Value, who: &str) -> Candidate {
        let from = claim_in_words(self.token.claims.get(claim));
        let words = claim_in_words(Some(&to));
        let change = Change::Claim(self.token.place.clone(), claim.to_owned(), Some(to));
        Candidate::new(name, from, words, change, who)
    }

    fn each(&self, claim: &str, name: &str, values: &[String], who: &str) -> Vec<Candidate> {
        values.iter().take(MOST).map(|value| self.claim(claim, name, value.as_str().into(), who)).collect()
    }

    fn without(&self, claims: &[&str], name: &str) -> Vec<Candidate> {
        let present = claims.iter().filter(|claim| self.token.claims.contains_key(**claim));
        let absent = |claim: &&str| {
            let change = Change::Claim(self.token.place.clone(), (*claim).to_owned(), None);
            Candidate::new(name, "present", "absent", change, NEW_TOKEN)
        };
        present.map(absent).collect()
    }

    fn signed(&self) -> Vec<Candidate> {
        let to = format!("by a key of {}", self.entry.issuer());
        let change = Change::Signed(self.token.place.clone());
        vec![Candidate::new("signature", "not by a key that is trusted here", to, change, NEW_TOKEN)]
    }

    fn times(&self) -> Vec<Candidate> {
        let now = self.refused.variant.now();
        let time = |claim: &str| self.token.claims.get(claim).and_then(Value::as_u64);
        let mut changes = vec![("exp".to_owned(), Some(Value::from(now + 3_600)))];
        for claim in ["nbf", "iat"] {
            if time(claim).is_some() {
                changes.push((claim.to_owned(), Some(now.into())));
            }
        }
        let words = |at: Option<u64>| at.map_or("absent".to_owned(), in_utc);
        let (from, to) = match time("exp").is_some_and(|expires| expires <= now) {
            true => (words(time("exp")), in_utc(now + 3_600)),
            false => (format!("not before {}", words(time("nbf"))), format!("not before {}", in_utc(now))),
        };
        let change = Change::Claims(self.token.place.clone(), changes);
        vec![Candidate::new("validity", from, to, change, NEW_TOKEN)]
    }

    fn issuers(&self) -> Vec<Candidate> {
        let Entry::Entra(config) = self.entry else {
            let issuer = self.refused.gateway.issuer(self.entry.issuer(), "", 2);
            return issuer.map(|issuer| self.claim("iss", "issuer", issuer.into(), NEW_TOKEN)).into_iter().collect();
        };
        let version = if self.is_v1() { 1 } else { 2 };
        let tenants = &self.refused.gateway.runtime().tenants;
        let listed = listed_tenants(config, tenants).unwrap_or_default();
        let own = self.refused.gateway.tenant_of(Some(&config.tenant)).ok().into_iter();
        // Where the policy's tenant stands for several, its tokens bear the issuer of each.
        let named = listed.iter().map(|id| (config.tenant.clone(), id.to_string()));
        let from = claim_in_words(self.token.claims.get("tid"));
        let tenants: Vec<_> = named.chain(own).collect();
        let to = tenants.into_iter().take(MOST).filter_map(|(name, id)| {
            let issuer = self.refused.gateway.issuer(&name, &id, version)?;
            let changes = vec![("iss".to_owned(), Some(issuer.into())), ("tid".to_owned(), Some(id.as_str().into()))];
            Some(Candidate::new("tenant", &from, &id, Change::Claims(self.token.place.clone(), changes), NEW_TOKEN))
        });
        to.collect()
    }

    fn clients(&self, ids: &[String], who: &str) -> Vec<Candidate> {
        let claim = match self.entry {
            Entry::Other(_) => "client_id",
            Entry::Entra(_) if self.is_v1() => "appid",
            Entry::Entra(_) => "azp",
        };
        self.each(claim, "client", ids, who)
    }

    fn strength(&self) -> Vec<Candidate> {
        let claim = if self.is_v1() { "appidacr" } else { "azpacr" };
        let who = "the owner of the client: acquire tokens with a certificate";
        let mut found = self.claim(claim, "client credential", "2".into(), who);
        found.to = "certificate".to_owned();
        found.from = match found.from.as_str() {
            "1" => "secret".to_owned(),
            "0" => "none".to_owned(),
            other => other.to_owned(),
        };
        vec![found]
    }

    fn required_claims(&self) -> Vec<Candidate> {
        let who = format!("{TENANT_ADMIN}: let the token have the claim, then get a new token");
        let claims = self.entry.claims().iter().take(MOST);
        let changed = claims.map(|claim| {
            let to = met(claim, self.token.claims.get(&claim.name));
            self.claim(&claim.name, &claim.name, to, &who)
        });
        changed.filter(|candidate| candidate.from != candidate.to).collect()
    }

    fn groups(&self) -> Vec<Candidate> {
        let who = format!("{TENANT_ADMIN}: let tokens list the groups, then get a new token");
        let groups = self.entry.claims().iter().find(|claim| claim.name == "groups").map(|claim| met(claim, None));
        let changes = vec![
            ("groups".to_owned(), groups.clone()),
            ("hasgroups".to_owned(), None),
            ("_claim_names".to_owned(), None),
            ("_claim_sources".to_owned(), None),
        ];
        let to = claim_in_words(groups.as_ref());
        vec![Candidate::new("groups", "not listed", to, Change::Claims(self.token.place.clone(), changes), who)]
    }

    fn scopes(&self) -> Vec<Candidate> {
        let claim = match self.entry {
            Entry::Other(_) if self.token.claims.contains_key("scope") || !self.token.claims.contains_key("scp") => "scope",
            _ => "scp",
        };
        let has = claim_in_words(self.token.claims.get(claim));
        let who = format!("the user, or {TENANT_ADMIN}: consent to the scope, then get a new token");
        let with = |scope: &String| {
            let all = if has == "absent" { scope.clone() } else { format!("{has} {scope}") };
            Candidate { to: format!("{scope} as well"), ..self.claim(claim, "scopes", all.into(), &who) }
        };
        self.entry.scopes().iter().take(MOST).map(with).collect()
    }

    fn with_role(&self, role: &str) -> Candidate {
        let who = match self.is_app() {
            true => format!("{TENANT_ADMIN}: grant the application role and consent, then get a new token"),
            false => format!("{TENANT_ADMIN}: assign the role to the user, then get a new token"),
        };
        let mut roles = match self.token.claims.get("roles") {
            Some(Value::Array(roles)) => roles.clone(),
            Some(Value::String(one)) => vec![one.as_str().into()],
            _ => Vec::new(),
        };
        roles.push(role.into());
        Candidate { to: format!("{role} as well"), ..self.claim("roles", "roles", Value::Array(roles), &who) }
    }

    fn roles(&self) -> Vec<Candidate> {
        let roles: Vec<_> = self.entry.roles().iter().take(MOST).map(|role| self.with_role(role)).collect();
        // Scopes alone admit no application.
        if roles.is_empty() { new_tokens(self.refused, self.entry, &self.entry.places()) } else { roles }
    }

    fn permissions(&self) -> Vec<Candidate> {
        let who = "the caller, through a client that is listed";
        let listed = self.clients(self.entry.clients(), who);
        let granted = match self.is_app() {
            true => Candidate { to: "any of the API's".to_owned(), ..self.with_role("any-role") },
            false => {
                let who = format!("the user, or {TENANT_ADMIN}: consent to a scope of the API, then get a new token");
                Candidate { to: "any of the API's".to_owned(), ..self.claim("scp", "scopes", "any-scope".into(), &who) }
            }
        };
        std::iter::once(granted).chain(listed).collect()
    }
}

/// Returns a value with which a claim is as required; what it has already stays where the claim is a list.
fn met(claim: &RequiredClaimConfig, present: Option<&Value>) -> Value {
    let wanted: Vec<&String> = match (claim.values.as_slice(), claim.matching) {
        ([], _) => return "any".into(),
        (values, MatchConfig::All) => values.iter().collect(),
        (values, MatchConfig::Any) => values.iter().take(1).collect(),
    };
    match (present, claim.separator.as_deref()) {
        (Some(Value::Array(entries)), _) => {
            let missing = wanted.iter().filter(|value| !entries.iter().any(|entry| entry == value.as_str()));
            entries.iter().cloned().chain(missing.map(|value| value.as_str().into())).collect()
        }
        (_, Some(separator)) => wanted.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(separator).into(),
        _ if wanted.len() == 1 && claim.name != "groups" && claim.name != "roles" => typed(wanted[0]),
        _ => wanted.iter().map(|value| Value::from(value.as_str())).collect(),
    }
}

/// Returns a value that reads as it is written: `true` is a truth.
fn typed(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        text => text.into(),
    }
}

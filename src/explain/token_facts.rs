//! The token of a request in words, and the checks that it has passed.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Explained, StepFacts,
    candidates::claim_in_words,
    describe::{printable, span},
    entry::policy_at,
    token::FoundToken,
    token_candidates::Entry,
    token_shape,
    variant::Variant,
};
use crate::{
    inbound::{PolicyConfig, validate_azure_ad_token::MatchConfig},
    refusal::{Reason, trace::Verdict},
};

/// The token that was judged last. It is not shown itself.
#[derive(Clone, Debug, Serialize)]
pub struct TokenFacts {
    /// Where it is.
    pub place: String,
    /// `user` or `app`.
    pub kind: &'static str,
    /// The tenant.
    pub tenant: Option<String>,
    /// The client application.
    pub client: Option<String>,
    /// The id of the key that it names.
    pub key_id: Option<String>,
    /// The algorithm that it names.
    pub algorithm: Option<String>,
    /// The issuer.
    pub issuer: Option<String>,
    /// The audience.
    pub audience: Option<String>,
    /// The seconds until its expiry; negative after it.
    pub expires_in_s: Option<i64>,
    /// The checks, in order, up to the first that does not hold.
    pub checks: Vec<TokenCheck>,
}

/// One check of a token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenCheck {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub held: bool,
}

/// The checks of a token in their order, with the reasons of each.
const CHECKS: &[(&str, &[Reason])] = &[
    ("place", &[Reason::TokenMissing, Reason::TokenAmbiguous]),
    ("form", &[Reason::TokenMalformed]),
    ("algorithm", &[Reason::TokenAlgorithmNotAllowed]),
    ("key", &[Reason::TokenKeyUnknown, Reason::SigningKeysUnavailable]),
    ("signature", &[Reason::TokenSignatureInvalid]),
    ("issuer", &[Reason::TokenIssuerNotAllowed]),
    ("tenant", &[Reason::TokenTenantNotAllowed]),
    ("audience", &[Reason::TokenAudienceNotAllowed]),
    ("times", &[Reason::TokenExpired, Reason::TokenNotYetValid]),
    ("token type", &[Reason::TokenNotAccessToken]),
    ("binding", &[Reason::TokenBindingMissing]),
    ("token kind", &[Reason::TokenKindNotAllowed]),
    ("client", &[Reason::ClientApplicationNotAllowed, Reason::ClientCredentialTooWeak]),
    ("required claims", &[Reason::RequiredClaimMissing, Reason::GroupOverage]),
    ("scopes and roles", &[Reason::ScopeMissing, Reason::RoleMissing, Reason::PermissionMissing]),
    ("authentication context", &[Reason::ClaimsChallenge]),
];

/// Returns the token that the last token policy judged.
pub(super) fn of(explained: Explained<'_>, now: u64) -> Option<TokenFacts> {
    let (entry, verdict) = explained.outcome.steps.iter().rev().find_map(|step| {
        let policy = policy_at(&explained.document.config, step.place.as_ref()?)?;
        Some((Entry::of(policy)?, step.verdict))
    })?;
    let variant = Variant::of(explained.request, explained.outcome, now);
    let token = variant.token(&entry.places())?;
    let refused = match verdict {
        Verdict::Refused(reason) | Verdict::WouldRefuse(reason) => Some(reason),
        Verdict::Passed | Verdict::Answered => None,
    };
    let text = |object: &Map<String, Value>, name: &str| object.get(name).and_then(Value::as_str).map(printable);
    let claim = |name: &str| text(&token.claims, name);
    Some(TokenFacts {
        place: token.place.in_words(),
        kind: if is_app(token) { "app" } else { "user" },
        tenant: claim("tid"),
        client: claim("azp").or_else(|| claim("appid")).or_else(|| claim("client_id")),
        key_id: text(&token.header, "kid"),
        algorithm: text(&token.header, "alg"),
        issuer: claim("iss"),
        audience: token.claims.get("aud").map(|audience| printable(&claim_in_words(Some(audience)))),
        expires_in_s: seconds_left(token, now),
        checks: checks(refused),
    })
}

fn checks(refused: Option<Reason>) -> Vec<TokenCheck> {
    let failed = refused.and_then(|reason| CHECKS.iter().position(|(_, reasons)| reasons.contains(&reason)));
    let held = CHECKS.iter().take(failed.unwrap_or(CHECKS.len())).map(|(name, _)| TokenCheck { name, held: true });
    held.chain(failed.map(|failed| TokenCheck { name: CHECKS[failed].0, held: false })).collect()
}

fn is_app(token: &FoundToken) -> bool {
    match token.claims.get("idtyp").and_then(Value::as_str) {
        Some(kind) => kind == "app",
        None => {
            let subject = token.claims.get("sub");
            let same = subject == token.claims.get("oid") || subject == token.claims.get("client_id");
            subject.is_some() && same && !token.claims.contains_key("scp")
        }
    }
}

fn seconds_left(token: &FoundToken, now: u64) -> Option<i64> {
    Some(token.claims.get("exp")?.as_i64()?.saturating_sub(i64::try_from(now).ok()?))
}

/// Describes the step of a token policy.
pub(super) fn describe(explained: Explained<'_>, policy: &PolicyConfig, refused: Option<Reason>, facts: &mut StepFacts) {
    let Some(entry) = Entry::of(policy) else { return };
    let places: Vec<_> = entry.places().iter().map(super::token::FoundPlace::in_words).collect();
    facts.looked_at = format!("the token in {}", places.join(", or in "));
    let variant = Variant::of(explained.request, explained.outcome, explained.gateway.now());
    let token = variant.token(&entry.places());
    let Some(reason) = refused else {
        facts.wanted = passed(entry);
        facts.found = token.map(in_short).into_iter().collect();
        return;
    };
    let claims = token.map(|token| &token.claims);
    let claim = |name: &str| printable(&claim_in_words(claims.and_then(|claims| claims.get(name))));
    let first = |names: &[&str]| {
        names.iter().map(|name| claim(name)).find(|value| value != "absent").unwrap_or_else(|| "absent".to_owned())
    };
    let (wanted, found) = match reason {
        Reason::TokenMissing => (vec![format!("a token in {}", places.join(", or in "))], "none".to_owned()),
        Reason::TokenMalformed => {
            let wanted = "3 parts, separated by dots: header, claims and signature, each in base64url".to_owned();
            (vec![wanted], token_shape::presented(explained.request, &entry.places()).unwrap_or_else(|| "none".to_owned()))
        }
        Reason::TokenAmbiguous => (vec!["one token".to_owned()], "several in one place".to_owned()),
        Reason::TokenKeyUnknown | Reason::TokenSignatureInvalid | Reason::SigningKeysUnavailable => {
            let key =
                token.and_then(|token| token.header.get("kid")).and_then(Value::as_str).map_or("none".to_owned(), printable);
            (vec![format!("a signature by a key of {}", entry.issuer())], format!("the key id {key}"))
        }
        Reason::TokenIssuerNotAllowed => {
            let version = if claim("ver") == "1.0" { 1 } else { 2 };
            let issuer = explained.gateway.issuer(entry.issuer(), &claim("tid"), version);
            (issuer.into_iter().collect(), claim("iss"))
        }
        Reason::TokenTenantNotAllowed => {
            (vec![format!("a tenant that {} stands for, or that is listed", entry.issuer())], claim("tid"))
        }
        Reason::TokenAudienceNotAllowed => (entry.audiences().to_vec(), claim("aud")),
        Reason::TokenExpired => {
            let left = token.and_then(|token| seconds_left(token, explained.gateway.now())).unwrap_or_default();
            (vec!["a token that has not expired".to_owned()], format!("expired {} ago", span(left.unsigned_abs())))
        }
        Reason::TokenNotYetValid => (vec!["a token that is valid by now".to_owned()], format!("not before {}", claim("nbf"))),
        Reason::TokenKindNotAllowed => {
            let kind = token.is_some_and(is_app);
            (vec![if kind { "a user's token" } else { "an application's token" }.to_owned()], whose(kind).to_owned())
        }
        Reason::ClientApplicationNotAllowed => (entry.clients().to_vec(), first(&["azp", "appid", "client_id"])),
        Reason::ClientCredentialTooWeak => (vec!["a certificate".to_owned()], strength(&first(&["azpacr", "appidacr"]))),
        Reason::RequiredClaimMissing | Reason::GroupOverage => return required_claims(entry, facts, claim),
        Reason::ScopeMissing => (entry.scopes().to_vec(), first(&["scp", "scope"])),
        Reason::RoleMissing => (entry.roles().to_vec(), claim("roles")),
        Reason::PermissionMissing => (vec!["a scope, a role, or a client that is listed".to_owned()], "neither".to_owned()),
        Reason::ClaimsChallenge => (entry.contexts().to_vec(), claim("acrs")),
        _ => (Vec::new(), token.map(in_short).unwrap_or_default()),
    };
    facts.wanted = wanted;
    facts.found = vec![found];
}

fn required_claims(entry: Entry<'_>, facts: &mut StepFacts, claim: impl Fn(&str) -> String) {
    for wanted in entry.claims() {
        let all = if wanted.matching == MatchConfig::All { "all" } else { "any" };
        let values =
            if wanted.values.is_empty() { "present".to_owned() } else { format!("{all} of {}", wanted.values.join(", ")) };
        facts.wanted.push(format!("{}: {values}", wanted.name));
        facts.found.push(format!("{}: {}", wanted.name, claim(&wanted.name)));
    }
}

/// Returns the requirements that a token has met.
fn passed(entry: Entry<'_>) -> Vec<String> {
    let list = |name: &str, values: &[String]| (!values.is_empty()).then(|| format!("{name} {}", values.join(", ")));
    let kinds = [
        list("audience", entry.audiences()),
        list("scopes", entry.scopes()),
        list("roles", entry.roles()),
        list("clients", entry.clients()),
    ];
    kinds.into_iter().flatten().collect()
}

/// Describes a token in one line.
fn in_short(token: &FoundToken) -> String {
    let claim = |name: &str| token.claims.get(name).map(|value| printable(&claim_in_words(Some(value))));
    let mut words = vec![whose(is_app(token)).to_owned()];
    words.extend(claim("aud").map(|audience| format!("for {audience}")));
    words.extend(claim("scp").or_else(|| claim("scope")).map(|scopes| format!("scopes {scopes}")));
    words.extend(claim("roles").map(|roles| format!("roles {roles}")));
    words.join(", ")
}

const fn whose(app: bool) -> &'static str {
    if app { "an application's" } else { "a user's" }
}

fn strength(code: &str) -> String {
    match code {
        "0" => "no authentication".to_owned(),
        "1" => "a secret".to_owned(),
        "2" => "a certificate".to_owned(),
        other => other.to_owned(),
    }
}

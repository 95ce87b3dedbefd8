//! Lookups in Microsoft Graph for facts that a user's token lacks: its groups, and missing claims.
//!
//! Only for users, only after every other check has passed, and only for what the policy names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    ClaimLookupConfig, GroupLookupConfig, LookupWord, ValidateAzureAdTokenConfig,
    error::NotAccepted,
    judge::{RequiredClaim, Rules},
};
use crate::{
    credentials::Credential,
    entra::{
        Tenant, Verified, is_guid,
        token::{Token, TokenKind},
    },
    graph::{Graph, GraphAnswer, GraphFault, Person},
    inbound::build_context::BuildContext,
    settings::{ConfigDuration, Place},
};

/// The default cache time of an answer.
const LASTS: Duration = Duration::from_secs(300);
/// The longest cache time of an answer: about as long as a token would be valid.
const LASTS_AT_MOST: Duration = Duration::from_secs(3_600);

/// The claim that a lookup supplies by default, and its source attribute.
const ACCOUNT_NAME: (&str, &str) = ("onpremisessamaccountname", "onPremisesSamAccountName");

/// Claims that Entra itself writes, or that identify the caller: their absence is meaningful, so they are never supplied.
const ENTRAS_OWN: [&str; 33] = [
    "acct",
    "acr",
    "acrs",
    "aio",
    "amr",
    "appid",
    "appidacr",
    "aud",
    "azp",
    "azpacr",
    "cnf",
    "exp",
    "groups",
    "hasgroups",
    "iat",
    "idp",
    "idtyp",
    "iss",
    "nbf",
    "nonce",
    "oid",
    "rh",
    "role",
    "roles",
    "scp",
    "sid",
    "sub",
    "tid",
    "uti",
    "ver",
    "wids",
    "xms_cc",
    "client_id",
];

/// The lookups of a policy.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    groups: Option<Asked<Box<str>>>,
    claims: Option<Asked<(Box<str>, Box<str>)>>,
}

/// The client, the question, and the cache time of an answer.
#[derive(Debug)]
struct Asked<T> {
    graph: Arc<Graph>,
    about: Arc<[T]>,
    lasts: Duration,
}

/// The source of answers.
#[derive(Debug)]
pub(super) enum AnswerSource<'a> {
    /// Graph; its answers are noted, with the time, where somebody will judge by them once more.
    Graph(Option<(&'a mut Vec<GraphAnswer>, u64)>),
    /// The answers at hand: those that are cached, or those of a record.
    Known(Option<&'a [GraphAnswer]>),
}

impl Lookups {
    /// Returns whether Graph could supply this claim, which the token lacks.
    pub(super) fn may_tell(&self, claim: &str, verified: &Verified) -> bool {
        self.tells_of_groups(claim, verified) || self.tells_of_claim(claim, &verified.token)
    }

    fn tells_of_groups(&self, claim: &str, verified: &Verified) -> bool {
        self.groups.is_some() && claim == "groups" && verified.facts.groups_elsewhere && verified.token.kind == TokenKind::User
    }

    fn tells_of_claim(&self, claim: &str, token: &Token) -> bool {
        let named = |asked: &Asked<(Box<str>, Box<str>)>| asked.about.iter().any(|(name, _)| **name == *claim);
        token.kind == TokenKind::User && token.claims.get(claim).is_none() && self.claims.as_ref().is_some_and(named)
    }

    /// Performs the lookups for an otherwise accepted token; returns the completed token.
    pub(super) async fn complete(
        &self,
        verified: &Verified,
        rules: &Rules,
        source: &mut AnswerSource<'_>,
    ) -> Result<Arc<Token>, NotAccepted> {
        let token = self.with_claims(&verified.token, source).await?;
        for claim in &rules.claims {
            if claim.holds(&verified.token) {
                continue;
            }
            let holds = match &self.groups {
                Some(asked) if self.tells_of_groups(&claim.name, verified) => {
                    Self::is_in(asked, claim, &verified.token, source).await?
                }
                _ => claim.holds(&token),
            };
            if !holds {
                return Err(NotAccepted::Claim(claim.name.clone()));
            }
        }
        Ok(token)
    }

    async fn is_in(
        asked: &Asked<Box<str>>,
        claim: &RequiredClaim,
        token: &Token,
        source: &mut AnswerSource<'_>,
    ) -> Result<bool, NotAccepted> {
        // Without an object id nobody can be asked about.
        let person = Person::of(token).ok_or(NotAccepted::GroupOverage)?;
        let groups = match source {
            AnswerSource::Graph(noted) => {
                let groups = asked.graph.groups(person, &asked.about, asked.lasts).await.map_err(NotAccepted::Lookup)?;
                if let Some((noted, at)) = noted {
                    noted.push(GraphAnswer::of_groups(person, &asked.about, &groups, *at));
                }
                groups
            }
            AnswerSource::Known(None) => {
                asked.graph.known_groups(person, &asked.about, asked.lasts).map_err(NotAccepted::Lookup)?
            }
            AnswerSource::Known(Some(told)) => GraphAnswer::groups(told, person, &asked.about)
                .ok_or_else(|| NotAccepted::Lookup(GraphFault::NotAtHand.into()))?,
        };
        Ok(claim.is_met_by(groups.claim()))
    }

    async fn with_claims(&self, token: &Arc<Token>, source: &mut AnswerSource<'_>) -> Result<Arc<Token>, NotAccepted> {
        let Some(asked) = &self.claims else { return Ok(token.clone()) };
        let lacks = asked.about.iter().any(|(name, _)| self.tells_of_claim(name, token));
        let Some(person) = Person::of(token).filter(|_| lacks) else { return Ok(token.clone()) };
        let attributes = match source {
            AnswerSource::Graph(noted) => {
                let found = asked.graph.attributes(person, &asked.about, asked.lasts).await.map_err(NotAccepted::Lookup)?;
                if let Some((noted, at)) = noted {
                    noted.push(GraphAnswer::of_attributes(person, &asked.about, &found, *at));
                }
                found
            }
            AnswerSource::Known(None) => {
                asked.graph.known_attributes(person, &asked.about, asked.lasts).map_err(NotAccepted::Lookup)?
            }
            AnswerSource::Known(Some(told)) => GraphAnswer::attributes(told, person, &asked.about)
                .ok_or_else(|| NotAccepted::Lookup(GraphFault::NotAtHand.into()))?,
        };
        Ok(attributes.added_to(token))
    }
}

impl Lookups {
    pub(super) fn build(
        config: &ValidateAzureAdTokenConfig,
        tenant: Option<&Tenant>,
        claims: &[RequiredClaim],
        place: &Place,
        context: &mut BuildContext<'_>,
    ) -> Self {
        let group = config.group_lookup.as_ref().map(|lookup| match lookup {
            GroupLookupConfig::Word(LookupWord::Graph) => (None, None),
            GroupLookupConfig::Graph(lookup) => (Some(&*lookup.graph), lookup.cache),
        });
        let claim = config.claim_lookup.as_ref().map(|lookup| match lookup {
            ClaimLookupConfig::Word(LookupWord::Graph) => (None, None, None),
            ClaimLookupConfig::Graph(lookup) => (Some(&*lookup.graph), lookup.cache, lookup.claims.as_ref()),
        });
        let mut lookups = Self::default();
        if let Some((credential, cache)) = group {
            let at = place.key("group-lookup");
            let about = groups(claims, &at, context);
            let (graph, lasts) = (graph(credential, tenant, &at, context), lasts(cache, &at, context));
            lookups.groups = graph.map(|graph| Asked { graph, about, lasts });
        }
        if let Some((credential, cache, named)) = claim {
            let at = place.key("claim-lookup");
            let about = attributes(named, &at, context);
            let (graph, lasts) = (graph(credential, tenant, &at, context), lasts(cache, &at, context));
            lookups.claims = graph.map(|graph| Asked { graph, about, lasts });
        }
        lookups
    }

    /// Returns whether there are no lookups.
    pub(super) const fn are_none(&self) -> bool {
        self.groups.is_none() && self.claims.is_none()
    }
}

/// Returns the groups that the policy names.
fn groups(claims: &[RequiredClaim], place: &Place, context: &mut BuildContext<'_>) -> Arc<[Box<str>]> {
    let mut groups: Vec<Box<str>> =
        claims.iter().filter(|claim| &*claim.name == "groups").flat_map(|claim| claim.values.iter().cloned()).collect();
    groups.sort_unstable();
    groups.dedup();
    if groups.is_empty() {
        let cure = "list the groups in `required-claims`, as { name: groups, values: […] }: Graph is asked about these alone";
        context.faults.error(place, "the policy names no group that could be asked about", cure);
    }
    if let Some(name) = groups.iter().find(|group| !is_guid(group)) {
        let message = format!("`{name}` is not a group's object id, and Graph is asked about object ids alone");
        context.faults.error(place, message, "write the groups of `required-claims` by their object ids");
    }
    groups.into()
}

/// Returns the claims that are looked up, each with its source attribute.
fn attributes(
    named: Option<&BTreeMap<String, String>>,
    place: &Place,
    context: &mut BuildContext<'_>,
) -> Arc<[(Box<str>, Box<str>)]> {
    let Some(named) = named else { return Arc::new([(ACCOUNT_NAME.0.into(), ACCOUNT_NAME.1.into())]) };
    let at = place.key("claims");
    if named.is_empty() {
        context.faults.error(&at, "no claim is named", "name one, as { onpremisessamaccountname: onPremisesSamAccountName }");
    }
    for (claim, attribute) in named {
        if claim.is_empty() || ENTRAS_OWN.contains(&claim.to_ascii_lowercase().as_str()) || claim.starts_with('_') {
            let cure = "look up what a claims-mapping policy would write, as onpremisessamaccountname";
            context.faults.error(&at.key(claim), format!("`{claim}` is a claim of Entra's own, which is not filled in"), cure);
        }
        let letters = attribute.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
        if attribute.is_empty() || attribute.len() > 128 || !letters {
            let cure = "write the name of one property of a Graph user, as onPremisesSamAccountName";
            context.faults.error(&at.key(claim), format!("`{attribute}` is not an attribute of a user"), cure);
        }
    }
    named.iter().map(|(claim, attribute)| (claim.as_str().into(), attribute.as_str().into())).collect()
}

fn lasts(cache: Option<ConfigDuration>, place: &Place, context: &mut BuildContext<'_>) -> Duration {
    let lasts = cache.map_or(LASTS, |span| span.0);
    if lasts > LASTS_AT_MOST {
        context.faults.error(&place.key("cache"), "who leaves a group would be in it for longer than 1h", "write 1h at most");
    }
    lasts
}

/// Returns Graph for the credential that the lookup names, or the only possible one.
fn graph(named: Option<&str>, tenant: Option<&Tenant>, place: &Place, context: &mut BuildContext<'_>) -> Option<Arc<Graph>> {
    let Some((graphs, credentials)) = context.graph else {
        context.faults.error(place, "nothing is looked up here", "leave the lookup out");
        return None;
    };
    let tenant = tenant?;
    // A managed identity belongs to one tenant, which nobody here knows; an application asks where its authority is the tenant's.
    let can_ask = |credential: &Credential| match credential.is_application() {
        true => credentials.shares_authority(credential, tenant.name()),
        false => !tenant.id().is_many(),
    };
    let Some(name) = named else {
        let able: Vec<_> = credentials.names().filter_map(|name| credentials.find(name)).filter(|one| can_ask(one)).collect();
        if let [only] = able[..] {
            return Some(graphs.of(tenant.graph(), only));
        }
        let names: Vec<_> = able.iter().map(|credential| format!("{{ graph: {} }}", credential.name())).collect();
        let cure = if names.is_empty() {
            "define a credential for this tenant under `credentials`".to_owned()
        } else {
            format!("name it: {}", names.join(" or "))
        };
        context.faults.error(place, "it is not said which credential asks Graph", cure);
        return None;
    };
    let at = place.key("graph");
    match credentials.find(name) {
        Some(credential) if can_ask(credential) => return Some(graphs.of(tenant.graph(), credential)),
        Some(credential) if credential.is_application() => context.faults.error(
            &at,
            format!("credential `{name}` cannot ask about users of tenant `{}`", tenant.name()),
            "name a credential whose tenant has the same cloud and authority",
        ),
        Some(_) => context.faults.error(
            &at,
            format!("credential `{name}` is a managed identity, which can ask about one tenant alone"),
            "name a credential with a `client-id`",
        ),
        None if credentials.is_broken(name) => {}
        None => {
            let known: Vec<_> = credentials.names().collect();
            let cure = if known.is_empty() {
                "define it under `credentials`".to_owned()
            } else {
                format!("name one of: {}", known.join(", "))
            };
            context.faults.error(&at, format!("there is no credential `{name}`"), cure);
        }
    }
    None
}

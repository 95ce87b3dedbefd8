//! Witnesses: a request with exactly the facts of a region, which both engines judge.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use serde_json::{Value, json};

use super::{
    cell::{Arrival, Cell},
    region::{Flag, ListKey, Region, Spot, TextKey, TokenList, TokenText},
    side::{Side, UNNAMED_TENANT},
    text_fact::Found,
    world::World,
};
use crate::offline::{OfflineRequest, Outcome, TokenSpec, TokenSpecCredential, TokenSpecKind, Verdict};

/// A client that no config names.
const CLIENT: &str = "99990000-9999-4999-8999-000000009999";
/// An audience that no config names.
const AUDIENCE: &str = "api://another";
/// An issuer that no config names.
const ISSUER: &str = "https://login.example/another/v2.0";
/// The page that asks, where any may.
const ORIGIN: &str = "https://app.contoso.example";

/// Values that are tried for facts which conditions read without being taken apart.
pub(crate) type Overrides = BTreeMap<TextKey, String>;

/// A request with the facts of a region.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) caller: IpAddr,
    pub(crate) arrival: Arrival,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) tokens: Vec<(Spot, TokenSpec, usize)>,
}

/// The outcomes of a witness in both configs.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) outcomes: [Outcome; 2],
}

/// Tokens that were signed, by their description: signing takes longer than all else.
#[derive(Debug, Default)]
pub(crate) struct Mint(RefCell<HashMap<String, String>>);

impl Witness {
    /// Fills the facts of a region. Fails with what cannot be made.
    pub(crate) fn of(
        region: &Region,
        (cell, arrival): (&Cell, &Arrival),
        world: &World,
        overrides: &Overrides,
    ) -> Result<Self, &'static str> {
        let caller = region.callers.sample().ok_or("there is no address")?;
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, fact) in &region.texts {
            let wanted: Vec<String> = overrides.get(key).cloned().into_iter().collect();
            let value = match fact.value(&wanted) {
                Found::Value(value) => value,
                Found::Absent => continue,
                Found::None | Found::Unknown => return Err("no value was found that a pattern takes"),
            };
            match key {
                TextKey::Header(name) => {
                    let times = if region.flags.get(&Flag::Repeated(name.clone())) == Some(&true) { 2 } else { 1 };
                    headers.extend(std::iter::repeat_n((name.clone(), value), times));
                }
                TextKey::Parameter(name) => drop(query.append_pair(name, &value)),
                TextKey::Token(..) => {}
            }
        }
        // Facts that only a free condition reads.
        for (key, value) in overrides.iter().filter(|(key, _)| !region.texts.contains_key(key)) {
            match key {
                TextKey::Header(name) => headers.push((name.clone(), value.clone())),
                TextKey::Parameter(name) => drop(query.append_pair(name, value)),
                TextKey::Token(..) => {}
            }
        }
        if cell.preflight {
            headers.push(("access-control-request-method".to_owned(), cell.method.clone()));
            if headers.iter().all(|(name, _)| name != "origin") {
                headers.push(("origin".to_owned(), ORIGIN.to_owned()));
            }
        }
        let mut tokens = Vec::new();
        for (flag, holds) in &region.flags {
            match (flag, holds) {
                (Flag::Certificate(_), true) => return Err("it takes a client certificate, which is not at hand"),
                (Flag::Key(..), true) => return Err("it takes an API key, of which the config holds only the digest"),
                (Flag::Bound(_), true) => return Err("it takes a token that is bound to a certificate"),
                (Flag::Token(spot), true) => tokens.push(token(region, spot, world, overrides)),
                _ => {}
            }
        }
        let query = query.finish();
        let separator = if query.is_empty() { "" } else { "?" };
        let scheme = if arrival.tls { "https" } else { "http" };
        Ok(Self {
            method: if cell.preflight { "OPTIONS".to_owned() } else { cell.method.clone() },
            url: format!("{scheme}://{}{}{separator}{query}", cell.host, cell.path),
            caller,
            arrival: arrival.clone(),
            headers,
            tokens,
        })
    }

    /// Makes the request to one of the configs.
    pub(crate) fn request(&self, sides: [&Side; 2], index: usize, mint: &Mint) -> Option<OfflineRequest> {
        let mut request = OfflineRequest::new(&self.method, &self.url, self.caller).ok()?;
        for (name, value) in &self.headers {
            request.header(name.as_str(), value.as_str());
        }
        for (spot, spec, knows) in &self.tokens {
            let token = mint.token(spec, *knows, sides)?;
            match spot {
                Spot::Header(name) if name == "authorization" => request.set_header(name, Some(&format!("Bearer {token}"))),
                Spot::Header(name) => request.set_header(name, Some(&token)),
                Spot::Query(name) => {
                    let mark = if request.target.contains('?') { '&' } else { '?' };
                    request.target = format!("{}{mark}{name}={token}", request.target);
                }
            }
        }
        self.arrival.put(&mut request, index, self.caller);
        Some(request)
    }

    /// Lets both engines judge the request. `traced` is whether the steps are noted.
    pub(crate) async fn judge(&self, sides: [&Side; 2], mint: &Mint, traced: bool) -> Option<Judged> {
        let mut outcomes = Vec::with_capacity(2);
        for (index, side) in sides.into_iter().enumerate() {
            let mut request = self.request(sides, index, mint)?;
            request.read_trace = traced;
            // Counters begin anew: what was counted for another witness is none of this one's.
            side.gateway.begin(side.gateway.now());
            outcomes.push(side.gateway.run(&request).await);
        }
        Some(Judged { outcomes: outcomes.try_into().ok()? })
    }
}

impl Judged {
    /// Returns whether each config serves the caller.
    pub(crate) fn served(&self) -> [bool; 2] {
        [serves(&self.outcomes[0]), serves(&self.outcomes[1])]
    }
}

/// Returns whether the caller gets what the route serves: a refusal that the config words itself is none.
pub(crate) fn serves(outcome: &Outcome) -> bool {
    match outcome.verdict {
        Verdict::Allow => true,
        Verdict::Answer => outcome.status.as_u16() < 400,
        Verdict::Refuse | Verdict::Fault => false,
    }
}

impl Mint {
    fn token(&self, spec: &TokenSpec, knows: usize, sides: [&Side; 2]) -> Option<String> {
        let now = sides[knows].gateway.now();
        let key = format!("{knows} {now} {spec:?}");
        if let Some(token) = self.0.borrow().get(&key) {
            return Some(token.clone());
        }
        let token = spec.mint(&sides[knows].gateway).ok()?;
        self.0.borrow_mut().insert(key, token.clone());
        Some(token)
    }
}

/// Describes the token of a region, and says which config knows its issuer.
fn token(region: &Region, spot: &Spot, world: &World, overrides: &Overrides) -> (Spot, TokenSpec, usize) {
    let text = |field: TokenText, first: &[String]| {
        let key = TextKey::Token(spot.clone(), field);
        let mut wanted: Vec<String> = overrides.get(&key).cloned().into_iter().collect();
        wanted.extend(first.iter().cloned());
        match region.texts.get(&key).map(|fact| fact.value(&wanted)) {
            Some(Found::Value(value)) => Some(value),
            _ => overrides.get(&key).cloned().filter(|_| !region.texts.contains_key(&key)),
        }
    };
    let list = |list: TokenList| region.lists.get(&ListKey(spot.clone(), list)).and_then(|fact| fact.elements());
    let flag = |flag: fn(Spot) -> Flag| region.flags.get(&flag(spot.clone())).copied();
    let app = flag(Flag::App).unwrap_or(false);
    let keys: Vec<String> = world.issuers.iter().map(|issuer| issuer.key.clone()).collect();
    let issuer = text(TokenText::Issuer, &keys);
    let known = match &issuer {
        Some(key) => world.issuers.iter().find(|issuer| issuer.key == *key),
        None => world.issuers.first(),
    };
    let mut spec = TokenSpec {
        kind: Some(if app { TokenSpecKind::App } else { TokenSpecKind::User }),
        client: text(TokenText::Client, &[CLIENT.to_owned()]),
        audience: Some(text(TokenText::Audience, &[AUDIENCE.to_owned()]).unwrap_or_else(|| AUDIENCE.to_owned())),
        roles: list(TokenList::Roles).unwrap_or_default(),
        wrong_key: flag(Flag::Sound) == Some(false),
        ..TokenSpec::default()
    };
    let scopes = list(TokenList::Scopes).unwrap_or_default();
    spec.scopes = (!scopes.is_empty()).then_some(scopes);
    match known {
        Some(issuer) => {
            spec.tenant = issuer.tenant.as_ref().map(|(_, guid)| guid.clone());
            spec.issuer.clone_from(&issuer.issuer);
        }
        None => drop(spec.claims.insert("iss".to_owned(), ISSUER.into())),
    }
    spec.client_credential = text(TokenText::Credential, &[]).map(|credential| match (credential.as_str(), app) {
        ("certificate", _) => TokenSpecCredential::Certificate,
        (_, true) => TokenSpecCredential::Secret,
        (_, false) => TokenSpecCredential::None,
    });
    if flag(Flag::Id) == Some(true) {
        // An ID token has no client.
        for claim in ["azp", "azpacr", "scp"] {
            spec.claims.insert(claim.to_owned(), Value::Null);
        }
    }
    claims(region, spot, world, overrides, &mut spec);
    if let Some((least, most)) = region.ages.get(spot)
        && !(*least <= -3_600 && -3_600 <= *most)
    {
        let age = if *least > i64::MIN { *least } else { *most };
        spec.expires = Some(if age > 0 { format!("-{age}s") } else { format!("{}s", -age) });
    }
    if known.is_none() {
        spec.tenant = world.issuers.iter().find_map(|issuer| Some(issuer.tenant.as_ref()?.1.clone()));
        spec.claims.insert("tid".to_owned(), UNNAMED_TENANT.into());
    }
    (spot.clone(), spec, known.map_or(0, |issuer| issuer.side))
}

fn claims(region: &Region, spot: &Spot, world: &World, overrides: &Overrides, spec: &mut TokenSpec) {
    for (key, fact) in &region.texts {
        let TextKey::Token(of, field) = key else { continue };
        let name = match field {
            TokenText::Claim(name) => name.as_str(),
            TokenText::Subject => "sub",
            _ => continue,
        };
        if of != spot || !fact.is_known() {
            continue;
        }
        let wanted: Vec<String> = overrides.get(key).cloned().into_iter().collect();
        let truth = region.flags.get(&Flag::Claim(spot.clone(), name.to_owned()));
        let value = match (fact.value(&wanted), truth) {
            (Found::Absent, _) => Value::Null,
            (_, Some(truth)) => (*truth).into(),
            (Found::Value(value), None) => value.into(),
            (Found::None | Found::Unknown, None) => continue,
        };
        spec.claims.insert(name.to_owned(), value);
    }
    for (key, value) in overrides.iter().filter(|(key, _)| !region.texts.contains_key(key)) {
        if let TextKey::Token(of, TokenText::Claim(name)) = key
            && of == spot
        {
            spec.claims.insert(name.clone(), value.as_str().into());
        }
    }
    for (ListKey(of, list), fact) in &region.lists {
        let (TokenList::Claim(name), Some(elements)) = (list, fact.elements()) else { continue };
        if of != spot {
            continue;
        }
        let value = match world.separators.get(name) {
            _ if elements.is_empty() => Value::Null,
            Some(separator) => elements.join(separator).into(),
            None => json!(elements),
        };
        spec.claims.insert(name.clone(), value);
    }
}

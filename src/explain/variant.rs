//! A variant of the explained request: with some facts changed, and run again.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::token::{FoundPlace, FoundToken, tokens_of};
use crate::{
    caller::AddressSource,
    config::Document,
    offline::{OfflineGateway, OfflineRequest, Outcome, development_key},
    partner::ApiKeyConfig,
};

/// The explained request, taken apart so that its facts can be changed.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    request: OfflineRequest,
    tokens: Vec<FoundToken>,
    /// The time, in seconds since 1970.
    now: u64,
    /// The changes of the config that stand for facts outside of the request.
    edits: Vec<Edit>,
    /// How the caller's address is told, and the trusted hops between it and the peer.
    told: Option<(AddressSource, Vec<IpAddr>)>,
}

/// A change of the config that stands for a fact outside of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Edit {
    Enabled(String),
    TrialKey(String),
}

/// A changed fact.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// The caller's address.
    Caller(IpAddr),
    /// The host of the URL.
    Host(String),
    /// The path of the URL.
    Path(String),
    /// The host and the path of the URL.
    Url(String, String),
    /// The method.
    Method(String),
    /// A header field; `None` removes it.
    Header(String, Option<String>),
    /// A query parameter.
    Parameter(String, String),
    /// Whether the connection uses TLS.
    Tls(bool),
    /// A claim of the token in this place; `None` removes it.
    Claim(FoundPlace, String, Option<Value>),
    /// Several claims of a token that only change together, as the tenant and its issuer.
    Claims(FoundPlace, Vec<(String, Option<Value>)>),
    /// A token in this place.
    Token(FoundPlace, Map<String, Value>),
    /// The token in this place, signed by its issuer.
    Signed(FoundPlace),
    /// The time of the request; tokens keep their distance to it.
    Time(u64),
    /// A field of the form in the body.
    FormField(String, String),
    /// The switch of this partner, turned on.
    PartnerEnabled(String),
    /// An API key of this partner in this place: one that is made for the trial.
    ApiKey(String, FoundPlace),
}

/// Stands for an API key of a partner, which only its holder knows.
const TRIAL_KEY: &str = "an-api-key-that-is-made-for-a-trial";

impl Variant {
    /// Takes a request apart.
    pub(crate) fn of(request: &OfflineRequest, outcome: &Outcome, now: u64) -> Self {
        let told = outcome.caller.as_ref().map(|caller| {
            let trusted = caller.hops.iter().filter(|hop| hop.trusted_by.is_some()).skip(1).map(|hop| hop.address);
            (caller.source, trusted.collect())
        });
        Self { request: request.clone(), tokens: tokens_of(request), now, edits: Vec::new(), told }
    }

    /// Returns the token in a place of these, the most preferred first.
    pub(crate) fn token(&self, places: &[FoundPlace]) -> Option<&FoundToken> {
        let same = |one: &FoundPlace, other: &FoundPlace| match (one, other) {
            (FoundPlace::Header(one, _), FoundPlace::Header(other, _)) => one.eq_ignore_ascii_case(other),
            (FoundPlace::Query(one), FoundPlace::Query(other)) => one == other,
            _ => false,
        };
        places.iter().find_map(|place| self.tokens.iter().find(|token| same(&token.place, place)))
    }

    /// Returns the request.
    pub(crate) const fn request(&self) -> &OfflineRequest {
        &self.request
    }

    /// Returns the time of the request.
    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// Applies a change. Returns whether it changes anything.
    pub(crate) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Caller(address) => return self.call_from(*address),
            Change::Url(host, path) => {
                return self.apply(&Change::Host(host.clone())) && self.apply(&Change::Path(path.clone()));
            }
            Change::Host(host) => {
                let port = self.request.authority.strip_prefix(self.request.host()).unwrap_or_default().to_owned();
                self.request.authority = format!("{host}{port}");
            }
            Change::Path(path) => {
                let query = self.request.target.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
                self.request.target = format!("{path}{query}");
            }
            Change::Method(method) => self.request.method.clone_from(method),
            Change::Header(name, value) => self.request.set_header(name, value.as_deref()),
            Change::Parameter(name, value) => FoundPlace::Query(name.clone()).put(&mut self.request, Some(value)),
            Change::Tls(tls) => self.request.tls = Some(*tls),
            Change::Claim(place, name, value) => return self.set_claims(place, &[(name.clone(), value.clone())]),
            Change::Claims(place, claims) => return self.set_claims(place, claims),
            Change::Token(place, claims) => {
                self.tokens.retain(|token| token.place != *place);
                let header = Map::new();
                self.tokens.push(FoundToken { place: place.clone(), header, claims: claims.clone() });
            }
            Change::PartnerEnabled(name) => self.edits.push(Edit::Enabled(name.clone())),
            Change::ApiKey(partner, place) => {
                place.put(&mut self.request, Some(TRIAL_KEY));
                self.edits.push(Edit::TrialKey(partner.clone()));
            }
            // All tokens are signed anew for a trial.
            Change::Signed(_) => {}
            Change::Time(now) => {
                let by = i64::try_from(*now).unwrap_or(i64::MAX) - i64::try_from(self.now).unwrap_or(i64::MAX);
                self.now = *now;
                for token in &mut self.tokens {
                    for name in ["iat", "nbf", "exp"] {
                        if let Some(at) = token.claims.get(name).and_then(Value::as_i64) {
                            token.claims.insert(name.to_owned(), at.saturating_add(by).into());
                        }
                    }
                }
            }
            Change::FormField(name, value) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                let others = url::form_urlencoded::parse(&self.request.body).filter(|(other, _)| other != name);
                form.extend_pairs(others).append_pair(name, value);
                self.request.body = form.finish().into_bytes().into();
            }
        }
        true
    }

    /// Returns the request with its tokens signed by the development key.
    pub(crate) fn signed(&self, gateway: &OfflineGateway) -> OfflineRequest {
        let mut request = self.request.clone();
        for token in &self.tokens {
            let mut header = token.header.clone();
            for name in ["crit", "x5c", "x5u", "jku", "jwk"] {
                header.remove(name);
            }
            header.insert("typ".to_owned(), "JWT".into());
            header.insert("alg".to_owned(), "RS256".into());
            header.insert("kid".to_owned(), development_key().kid().into());
            token.place.put(&mut request, Some(&gateway.sign_with(&header, &token.claims)));
        }
        request
    }

    /// Runs the variant on a gateway that takes tokens of the development key.
    pub(crate) async fn run(&self, gateway: &OfflineGateway) -> Outcome {
        gateway.begin(self.now);
        gateway.run(&self.signed(gateway)).await
    }

    /// Returns the config with which the variant is to be judged; `None` if that is the one in question.
    pub(crate) fn edited(&self, document: &Document) -> Option<Document> {
        if self.edits.is_empty() {
            return None;
        }
        let mut document = document.clone();
        for edit in &self.edits {
            let (Edit::Enabled(name) | Edit::TrialKey(name)) = edit;
            let Some(partner) = document.config.partners.get_mut(name) else { continue };
            match edit {
                Edit::Enabled(_) => partner.enabled = true,
                Edit::TrialKey(_) => {
                    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, TRIAL_KEY.as_bytes());
                    let hexadecimal: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                    partner.api_keys.push(ApiKeyConfig { sha256: hexadecimal.as_str().into(), owner: None, expires: None });
                }
            }
        }
        Some(document)
    }

    fn set_claims(&mut self, place: &FoundPlace, claims: &[(String, Option<Value>)]) -> bool {
        let Some(token) = self.tokens.iter_mut().find(|token| token.place == *place) else { return false };
        let before = token.claims.clone();
        for (name, value) in claims {
            match value {
                Some(value) => drop(token.claims.insert(name.clone(), value.clone())),
                None => drop(token.claims.remove(name)),
            }
        }
        token.claims != before
    }

    /// Lets the request come from another caller, by the same way.
    fn call_from(&mut self, address: IpAddr) -> bool {
        let Some((source, hops)) = &self.told else {
            self.request.peer = address;
            return true;
        };
        match source {
            AddressSource::Peer | AddressSource::Question | AddressSource::ProxyProtocol => self.request.peer = address,
            AddressSource::XForwardedFor => {
                let hops = std::iter::once(address).chain(hops.iter().rev().copied());
                let list = hops.map(|hop| hop.to_string()).collect::<Vec<_>>().join(", ");
                self.request.set_header("X-Forwarded-For", Some(&list));
            }
            AddressSource::Forwarded => {
                let node = |hop: IpAddr| match hop {
                    IpAddr::V4(hop) => format!("for={hop}"),
                    IpAddr::V6(hop) => format!("for=\"[{hop}]\""),
                };
                let hops = std::iter::once(address).chain(hops.iter().rev().copied());
                let list = hops.map(node).collect::<Vec<_>>().join(", ");
                self.request.set_header("Forwarded", Some(&list));
            }
        }
        true
    }
}

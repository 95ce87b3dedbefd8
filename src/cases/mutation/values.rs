//! The values that the requests of the cases bring: what is added to a list is one of them, since no case could notice another.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;

use crate::{cases::Suite, config::test_case::TestTokenConfig};

/// The values of the cases' requests, by what they are.
#[derive(Debug, Default)]
pub(super) struct KnownValues {
    /// The addresses that connect.
    pub(super) peers: BTreeSet<IpAddr>,
    /// The addresses that connect, and those that proxies name.
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) methods: BTreeSet<String>,
    pub(super) audiences: BTreeSet<String>,
    pub(super) clients: BTreeSet<String>,
    pub(super) scopes: BTreeSet<String>,
    pub(super) roles: BTreeSet<String>,
    pub(super) tenants: BTreeSet<String>,
    /// Claims: name and value.
    pub(super) claims: BTreeSet<(String, String)>,
    /// Header fields: name in lower case, and value.
    pub(super) headers: BTreeSet<(String, String)>,
}

impl KnownValues {
    pub(super) fn of(suite: &Suite) -> Self {
        let mut known = Self::default();
        for step in suite.cases.iter().flat_map(|case| &case.steps) {
            let request = &step.request;
            known.peers.insert(request.peer);
            known.addresses.insert(request.peer);
            known.methods.insert(request.method.clone());
            for (name, value) in &request.headers {
                let (name, value) = (name.to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned());
                if name == "x-forwarded-for" || name == "forwarded" {
                    known.addresses.extend(value.split([',', ';', '=', ' ', '"']).filter_map(|part| part.parse::<IpAddr>().ok()));
                }
                known.headers.insert((name, value));
            }
            step.tokens.iter().for_each(|(_, token)| known.token(&token.config));
        }
        known
    }

    fn token(&mut self, token: &TestTokenConfig) {
        self.audiences.extend(token.audience.clone());
        self.clients.extend(token.client.clone());
        self.tenants.extend(token.tenant.clone());
        self.scopes.extend(token.scopes.iter().flatten().cloned());
        self.roles.extend(token.roles.iter().flatten().cloned());
        for (name, value) in &token.claims {
            match value {
                Value::Array(entries) => entries.iter().for_each(|entry| self.claim(name, entry)),
                value => self.claim(name, value),
            }
        }
    }

    fn claim(&mut self, name: &str, value: &Value) {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return,
        };
        self.claims.insert((name.to_owned(), text));
    }

    /// Returns the values of a claim.
    pub(super) fn claims_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        self.claims.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.clone())
    }

    /// Returns the values of a header field.
    pub(super) fn headers_of(&self, name: &str) -> impl Iterator<Item = String> {
        let name = name.to_ascii_lowercase();
        self.headers.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.clone())
    }
}

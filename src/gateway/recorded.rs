//! The parts of records that are the same for many requests: written once for a connection, a route or a config.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::Value;

use super::replayed::ReplayNames;
use crate::{
    audit::line::{LONGEST, Line, Prepared, address, number, object, plain, socket_address, text},
    base::lock::lock,
    caller::{AddressSource, Caller},
    config::Document,
    entra::token::Claims,
    listener::Connection,
    route::Route,
};

/// The settings of a config for records, and its part of each.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The digest and the generation of the config.
    pub(super) config: Prepared,
    /// The names of each route, by index.
    routes: Box<[Prepared]>,
    /// The claims that are recorded.
    claims: Box<[Box<str>]>,
    /// The names of the facts that a later replay needs; `None` if it is not prepared for.
    pub(super) replay: Option<ReplayNames>,
}

impl Recorded {
    /// Prepares the parts of a config and of its routes.
    pub(super) fn new(document: &Document, generation: u64, routes: &[Route]) -> Self {
        let (config, digest) = (&document.config.audit, document.fingerprint.digest());
        let route = |route: &Route| {
            Prepared::new(|line| {
                text!(line, "route", &*route.name);
                text!(line, "upstream", route.upstream_name().filter(|_| route.upstreams.len() < 2));
            })
        };
        Self {
            config: Prepared::new(|line| {
                object!(line, "config", |line: &mut Line<'_>| {
                    plain!(line, "digest", digest);
                    number!(line, "generation", generation);
                });
            }),
            routes: routes.iter().map(route).collect(),
            claims: config.claims.iter().map(|name| name.as_str().into()).collect(),
            replay: config.replay.then(|| ReplayNames::of(document)),
        }
    }

    /// Returns whether records have what a later replay needs.
    pub(super) const fn is_for_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// Returns the part of the route with this index.
    pub(super) fn route(&self, index: usize) -> &Prepared {
        &self.routes[index]
    }

    /// Writes the claims that are to be recorded.
    pub(super) fn write_claims(&self, line: &mut Line<'_>, claims: &Claims) {
        if self.claims.is_empty() {
            return;
        }
        object!(line, "claims", |line: &mut Line<'_>| {
            for name in &self.claims {
                if let Some(value) = claim(claims, name) {
                    line.member(name, &short(value));
                }
            }
        });
    }
}

/// Returns the claim of this name, or the member of a claim that is an object: `extn.costCenter`.
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        inner.split('.').try_fold(claims.get(outer)?, |value, name| value.get(name))
    })
}

/// Returns the JSON of a claim, or the beginning of it as a text if it is long.
fn short(value: &Value) -> String {
    let json = value.to_string();
    if json.len() <= LONGEST {
        return json;
    }
    let text = value.as_str().unwrap_or(&json);
    Value::from(format!("{}…", &text[..text.floor_char_boundary(LONGEST)])).to_string()
}

/// The part of a connection, kept with it.
#[derive(Debug, Default)]
pub(super) struct ConnectionPart {
    members: OnceLock<ConnectionMembers>,
    /// The connection as the candidate with this id sees it.
    beside: Mutex<Option<(u64, Arc<Connection>)>>,
}

#[derive(Debug)]
struct ConnectionMembers {
    /// The listener, the peer and what else is the connection's.
    all: Prepared,
    /// The caller, where it is the peer.
    caller: Prepared,
    peer: IpAddr,
}

impl ConnectionPart {
    /// Returns the connection as a candidate sees it: made once for all its requests.
    pub(super) fn beside(
        connection: &Connection,
        candidate: u64,
        make: impl FnOnce() -> Option<Connection>,
    ) -> Option<Arc<Connection>> {
        let made: Arc<Self>;
        let part = match connection.recorded.get::<Self>() {
            Some(part) => part,
            None => {
                made = connection.recorded.get_or_default().unwrap_or_default();
                &made
            }
        };
        let mut known = lock(&part.beside);
        if let Some((of, connection)) = &*known
            && *of == candidate
        {
            return Some(connection.clone());
        }
        let made = Arc::new(make()?);
        *known = Some((candidate, made.clone()));
        Some(made)
    }

    /// Writes the members of the connection, and the caller.
    pub(super) fn write(line: &mut Line<'_>, connection: &Connection, caller: Option<&Caller>) {
        let kept = connection.recorded.get::<Self>();
        let made: Arc<Self>;
        let part = match kept {
            Some(part) => part,
            None => {
                made = connection.recorded.get_or_default().unwrap_or_default();
                &made
            }
        };
        let part = part.members.get_or_init(|| ConnectionMembers::of(connection));
        line.prepared(&part.all);
        match caller {
            Some(caller) if caller.source == AddressSource::Peer && caller.address == part.peer => line.prepared(&part.caller),
            Some(caller) => write_caller(line, caller.address, caller.source),
            None => {}
        }
    }
}

impl ConnectionMembers {
    fn of(connection: &Connection) -> Self {
        let peer = connection.peer.ip().to_canonical();
        Self {
            all: Prepared::new(|line| {
                text!(line, "listener", &*connection.listener.name);
                socket_address!(line, "peer", Some(connection.peer));
                socket_address!(line, "proxy", connection.introduction.map(|introduction| introduction.by));
                plain!(line, "tls_version", connection.tls.as_ref().and_then(|tls| tls.version));
            }),
            caller: Prepared::new(|line| write_caller(line, peer, AddressSource::Peer)),
            peer,
        }
    }
}

fn write_caller(line: &mut Line<'_>, address: IpAddr, source: AddressSource) {
    address!(line, "caller", Some(address));
    plain!(line, "address_source", source.as_str());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_by_name_and_within_objects_and_are_short() {
        let claims = json!({
            "department": "sales", "extn": { "costCenter": 7, "deep": { "er": true } }, "extn.own": "wins", "long": "x".repeat(900),
            "list": vec!["y"; 900], "none": null,
        });
        let claims = Claims(claims.into());
        let found = |name: &str| claim(&claims, name).map(short);

        assert_eq!(found("department").as_deref(), Some("\"sales\""));
        assert_eq!(found("extn.costCenter").as_deref(), Some("7"));
        assert_eq!(found("extn.deep.er").as_deref(), Some("true"));
        assert_eq!(found("extn.own").as_deref(), Some("\"wins\""));
        assert_eq!(found("none"), None);
        assert_eq!(found("extn.absent.er"), None);
        for long in ["long", "list"] {
            let text: String = serde_json::from_str(&found(long).unwrap()).unwrap();
            assert!(text.len() < LONGEST + 5 && text.ends_with('…'), "{text}");
        }
    }
}

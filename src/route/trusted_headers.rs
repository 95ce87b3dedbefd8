//! `trusted-headers`: header fields by which a peer in front of the gateway identifies the caller, trusted from that peer only.
//!
//! The author of a field can only be the maker of the connection, so the **peer** counts, never the caller: a caller's address
//! may have come through hops that forward their clients' fields. (If a connection begins with a PROXY protocol header, its
//! source made the connection.) The name is reserved: it is removed from the requests of every other route, in every spelling,
//! and here from those of every other peer, before any policy can read it.
//!
//! If others use the peer's addresses, too, as all customers of Front Door do, its requests must carry a field that identifies it
//! (`require-header`); that is checked for each request.
//!
//! A trusted peer is trusted for the written spelling only. A connector that writes `X-Sso-User` forwards its client's
//! `X_Sso_User`, and a backend behind CGI takes one for the other.

use std::net::IpAddr;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    base::{clock::Clock, fields::Value},
    caller::{TrustPurpose, TrustedGroup, TrustedProxyConfig},
    inbound::build_context::BuildContext,
    refusal::{Reason, Refusal},
    request::{Claim, IncomingRequest, Reserved, remove_folded, same_folded},
    settings::{Faults, Place},
    upstream::UpstreamRequest,
};

/// Header fields that are trusted from some peers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustedHeadersConfig {
    /// The names of the fields; at least one.
    pub names: Vec<String>,
    /// The trusted peers: addresses, CIDRs, ranges or names of address sets; or `addresses` with the `require-header` that
    /// distinguishes a peer from others at the same addresses.
    pub from: Vec<TrustedProxyConfig>,
}

const STAKE: TrustPurpose = TrustPurpose {
    everybody: "every address of a family is believed, so every caller could choose who it is",
    cure: "list the connectors alone",
};

/// Header fields that are trusted from some peers.
#[derive(Debug)]
pub struct TrustedHeaders {
    names: Box<[HeaderName]>,
    from: Box<[TrustedGroup]>,
}

/// An error: a field that identifies the caller was sent more than once.
#[derive(Debug, thiserror::Error)]
#[error("{0} came more than once, and only one of them can be the peer's own")]
struct Repeated(HeaderName);

impl TrustedHeaders {
    /// Returns the names of the fields.
    pub(crate) const fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// Builds the setting at this place, or reports its faults.
    pub(crate) fn build(config: &TrustedHeadersConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let list = place.key("names");
        if config.names.is_empty() {
            context.faults.error(
                &list,
                "the list is empty",
                "name the headers that are believed, or leave `trusted-headers` out",
            );
        }
        let mut names: Vec<HeaderName> = Vec::new();
        for (index, written) in config.names.iter().enumerate() {
            let place = list.index(index);
            let Some(name) = name(written, &place, context.faults) else { continue };
            if let Some(other) = names.iter().find(|other| same_folded(other.as_str(), name.as_str())) {
                let message = format!("a backend may take `{written}` and `{other}` for one header");
                context.faults.error(&place, message, "keep the one that the peer writes");
            }
            names.push(name);
        }
        let list = place.key("from");
        if config.from.is_empty() {
            context.faults.error(&list, "the list is empty, so nobody would be believed", "list the addresses of the connectors");
        }
        let from = TrustedGroup::list(&config.from, &list, STAKE, context.sets, context.faults);
        if context.faults.errors() > before {
            return None;
        }
        for name in &names {
            context.reserved.claim(name, Claim::Identity);
            context.reserved.reads(name);
        }
        Some(Self { names: names.into(), from: from.into() })
    }

    /// Keeps the fields of a request that this peer is trusted for; none of an unknown peer.
    ///
    /// # Errors
    /// Fails if a field came more than once: the peer wrote one, and forwarded its client's.
    pub(crate) fn admit(&self, peer: Option<IpAddr>, clock: &Clock, incoming: &mut IncomingRequest) -> Result<(), Refusal> {
        let believed = self.believes(peer, clock, incoming);
        for name in &self.names {
            let (value, repeated) = {
                let mut values = incoming.headers.get_all(name);
                // RFC 9110, section 7.6.1: what `Connection` names is of that connection alone.
                let value = values.next().filter(|_| believed && !incoming.connection.nominated.contains(name));
                (value.map(Value::to_header_value), values.next().is_some())
            };
            if value.is_some() && repeated {
                return Err(Refusal::new(Reason::RequestHeaderInvalid, Repeated(name.clone()))
                    .with_hint("let the connector replace the header, not add to what its client sent"));
            }
            remove_folded(&mut incoming.headers, name);
            if let Some(value) = value {
                incoming.headers.insert(name, &value);
            }
        }
        Ok(())
    }

    /// Returns whether this peer is trusted for the request.
    pub(crate) fn believes(&self, peer: Option<IpAddr>, clock: &Clock, incoming: &IncomingRequest) -> bool {
        peer.is_some_and(|peer| self.from.iter().any(|believed| believed.holds(peer, &incoming.headers, clock)))
    }

    /// Forwards the remaining fields, which are reserved and therefore not forwarded otherwise.
    pub(crate) fn hand_on(&self, admitted: &IncomingRequest, outgoing: &mut UpstreamRequest) {
        for name in &self.names {
            if let Some(value) = admitted.headers.get(name) {
                outgoing.headers.insert(name, value);
            }
        }
    }
}

fn name(written: &str, place: &Place, faults: &mut Faults) -> Option<HeaderName> {
    let name = crate::outgoing::field::name(written, place, faults)?;
    if name == http::header::COOKIE {
        faults.error(place, "cookies are every client's own", "name the header that the peer writes");
        return None;
    }
    if Reserved::is_the_gateways(&name) {
        let message =
            format!("`{written}` is the gateway's own to write, or says where a request goes; it is believed from nobody");
        faults.error(place, message, "name the header that the peer writes; who may speak for a caller is `trusted-proxies`");
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{base::fields::Fields, inbound::testing::Building, request::ReservedNames};

    fn built(yaml: &str) -> Result<TrustedHeaders, Vec<String>> {
        let config = crate::settings::testing::part(yaml);
        Building::default().build(|place, context| TrustedHeaders::build(&config, place, context))
    }

    fn incoming(fields: &[(&str, &str)]) -> IncomingRequest {
        let mut request = Request::builder().uri("/").header("host", "a.example");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        IncomingRequest::read(request.body(()).expect("a request").into_parts().0, None).expect("readable")
    }

    /// Returns the fields that a policy sees, and those that are forwarded.
    fn admitted(from: &str, fields: &[(&str, &str)]) -> Result<(Vec<String>, Vec<String>), Refusal> {
        let trusted = built("{ names: [X-Sso-User, X-Sso-Groups], from: [10.1.0.0/28] }").expect("valid");
        let mut names = ReservedNames::default();
        for name in &trusted.names {
            names.claim(name, Claim::Identity);
        }
        let mut incoming = incoming(fields);
        trusted.admit(from.parse().ok(), &Clock::manual(0), &mut incoming)?;
        let mut outgoing = crate::outgoing::from_incoming(&mut incoming, &names.finish(None), &trusted.names);
        trusted.hand_on(&incoming, &mut outgoing);
        let told = |headers: &Fields| {
            let fields = headers.iter().filter(|(name, _)| name.as_str().contains("sso"));
            fields.map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII"))).collect()
        };
        Ok((told(&incoming.headers), told(&outgoing.headers)))
    }

    #[test]
    fn the_peers_own_spelling_is_believed_from_the_peer_alone() {
        let user = ["x-sso-user: nia".to_owned()];
        for (peer, fields, expected) in [
            ("10.1.0.5", &[("X-Sso-User", "nia")][..], &user[..]),
            ("::ffff:10.1.0.5", &[("X-Sso-User", "nia")], &user),
            (
                "10.1.0.5",
                &[("X-Sso-User", "nia"), ("X_Sso_User", "root"), ("x.sso-user", "root"), ("X_Sso_Groups", "admins")],
                &user,
            ),
            ("10.1.0.5", &[("X_Sso_User", "root")], &[]),
            ("10.1.0.5", &[("X-Sso-User", "nia"), ("Connection", "X-Sso-User")], &[]),
            ("10.1.0.16", &[("X-Sso-User", "root")], &[]),
            ("nobody knows", &[("X-Sso-User", "root")], &[]),
            ("10.1.0.16", &[("X-Sso-User", "root"), ("X-Sso-User", "root"), ("X_Sso_User", "root")], &[]),
            ("127.0.0.1", &[("X-Sso-User", "root"), ("X-Forwarded-For", "10.1.0.5")], &[]),
        ] {
            let (seen, sent) = admitted(peer, fields).unwrap_or_else(|refusal| panic!("{fields:?}: {refusal:?}"));
            assert_eq!((&*seen, &*sent), (expected, expected), "{peer} {fields:?}");
        }
    }

    #[test]
    fn where_others_share_the_peers_addresses_it_proves_itself_by_a_header() {
        let from = "[10.1.0.5, { addresses: [10.2.0.0/28], require-header: { X-Azure-FDID: [ours, spare], X-Hop: [edge] } }]";
        let trusted = built(&format!("{{ names: [X-Sso-User], from: {from} }}")).expect("valid");
        for (peer, proof, expected) in [
            ("10.1.0.5", &[][..], true),
            ("10.2.0.5", &[("X-Azure-FDID", "ours"), ("X-Hop", "edge")], true),
            ("10.2.0.5", &[("x-azure-fdid", "spare"), ("X-Hop", "edge")], true),
            ("10.2.0.5", &[], false),
            ("10.2.0.5", &[("X-Azure-FDID", "ours")], false),
            ("10.2.0.5", &[("X-Azure-FDID", "theirs"), ("X-Hop", "edge")], false),
            ("10.2.0.5", &[("X-Azure-FDID", "ours, theirs"), ("X-Hop", "edge")], false),
            ("10.2.0.5", &[("X-Azure-FDID", "ours"), ("X-Azure-FDID", "theirs"), ("X-Hop", "edge")], false),
            ("10.2.0.5", &[("X-Azure-FDID", "ours"), ("X-Azure-FDID", "ours"), ("X-Hop", "edge")], false),
            ("10.2.0.5", &[("X_Azure_FDID", "ours"), ("X-Hop", "edge")], false),
            ("10.3.0.5", &[("X-Azure-FDID", "ours"), ("X-Hop", "edge")], false),
            ("nobody knows", &[("X-Azure-FDID", "ours"), ("X-Hop", "edge")], false),
        ] {
            let mut incoming = incoming(&[proof, &[("X-Sso-User", "nia")]].concat());
            trusted.admit(peer.parse().ok(), &Clock::manual(0), &mut incoming).expect("one of each");
            assert_eq!(incoming.headers.contains_key("x-sso-user"), expected, "{peer} {proof:?}");
        }
    }

    #[test]
    fn two_of_them_refuse() {
        let refusal = admitted("10.1.0.5", &[("X-Sso-User", "nia"), ("X-Sso-User", "root")]).expect_err("two");

        assert_eq!(refusal.reason, Reason::RequestHeaderInvalid);
    }

    #[test]
    fn mistakes_are_found_at_load() {
        for (yaml, expected) in [
            ("{ names: [], from: [10.1.0.1] }", "the list is empty"),
            ("{ names: [X-A], from: [] }", "nobody would be believed"),
            ("{ names: [X-A], from: [0.0.0.0/0] }", "every address of a family is believed"),
            ("{ names: [X-A], from: [connectors] }", "connectors"),
            ("{ names: [X-A], from: [0.0.0.0/1, 128.0.0.0/1] }", "every address of a family is believed"),
            (
                "{ names: [X-A], from: [{ addresses: ['::/0'], require-header: { X-B: [c] } }] }",
                "every address of a family is believed",
            ),
            ("{ names: [X-A], from: [{ addresses: [10.1.0.1], require-header: { X-B: [] } }] }", "no value is listed"),
            ("{ names: [X-A], from: [{ addresses: [10.1.0.1], require-header: { 'x b': [c] } }] }", "is not a header name"),
            ("{ names: [X-A, X_A], from: [10.1.0.1] }", "for one header"),
            ("{ names: [x a], from: [10.1.0.1] }", "not a header's name"),
            ("{ names: [Authorization], from: [10.1.0.1] }", "`Authorization` is not set as a header"),
            ("{ names: [Cookie], from: [10.1.0.1] }", "every client's own"),
            ("{ names: [X-Forwarded-For], from: [10.1.0.1] }", "the gateway's own to write"),
            ("{ names: [X-Original-URL], from: [10.1.0.1] }", "the gateway's own to write"),
            ("{ names: [X-Entrada-Assertion], from: [10.1.0.1] }", "the gateway's own to write"),
            ("{ names: [Content-Length], from: [10.1.0.1] }", "the gateway sets it itself"),
        ] {
            let faults = built(yaml).expect_err(yaml);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}");
        }
        // What platforms write to say who calls can be believed from them.
        assert!(built("{ names: [X-MS-CLIENT-PRINCIPAL-NAME, X-ARR-ClientCert], from: [10.1.0.1] }").is_ok());
    }
}

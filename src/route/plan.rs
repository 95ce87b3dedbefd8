//! A route, built: what happens to a request that it matches.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::runtime::Handle;

use super::{ResourceMetadata, RespondConfig, RouteConfig, TrustedHeaders};
use crate::{
    authorization::Authorization,
    connection::Scheme,
    identity::{AssertionKeys, BackendAssertion, IdentityHeaders},
    inbound::list::PolicyList,
    outbound::OutboundList,
    refusal::{Reason, Refusal},
    request::{IncomingRequest, Oddities, Reserved},
    settings::{Faults, Place},
    telemetry::Counters,
    token_relay::{TokenRelay, TokenRelayConfig},
    upstream::Upstream,
};

/// A route, built.
#[derive(Debug)]
pub struct Route {
    /// The name, as in the config.
    pub name: Arc<str>,
    /// What is otherwise refused in a target and accepted here.
    pub accept: Oddities,
    /// Whether plain requests are refused.
    pub require_tls: bool,
    /// Whether WebSocket upgrades are let through.
    pub websocket: bool,
    /// The fields that are believed from some peers.
    pub trusted_headers: Option<TrustedHeaders>,
    /// The policies on the request: the global ones, then the route's.
    pub inbound: PolicyList,
    /// What tells the upstream who calls.
    pub identity_headers: IdentityHeaders,
    /// What the upstream can check of it.
    pub backend_assertion: Option<BackendAssertion>,
    /// What the upstream gets to see as `Authorization`.
    pub authorization: Authorization,
    /// Where the request goes.
    pub action: Action,
    /// The policies on the answer.
    pub outbound: OutboundList,
    /// Where clients are told to get their tokens.
    pub metadata: Option<Arc<ResourceMetadata>>,
    /// The header names that never come from the caller.
    pub reserved: Arc<Reserved>,
    /// Those of them that policies of the route read all the same: they judge who wrote them.
    pub read: Box<[HeaderName]>,
    /// What is counted, one for each worker.
    pub counters: Arc<[Counters]>,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Action {
    /// To an upstream.
    Forward(Arc<Upstream>),
    /// Nowhere: the gateway answers itself.
    Respond(OwnAnswer),
    /// Nowhere: the gateway tells where tokens for another route come from.
    Describe(Arc<ResourceMetadata>),
    /// To a tenant's token endpoint.
    Relay(Box<TokenRelay>),
    /// Nowhere: the gateway tells its public keys.
    Keys(Arc<AssertionKeys>),
}

impl Route {
    /// Judges what the route asks of every request before its policies run; `scheme` is the one that the caller speaks.
    ///
    /// # Errors
    /// The refusal that ends the request.
    pub(crate) fn admits(&self, incoming: &IncomingRequest, scheme: Scheme) -> Result<(), Refusal> {
        incoming.target.accepted_by(self.accept)?;
        if self.require_tls && scheme == Scheme::Http {
            return Err(Reason::TlsRequired.into());
        }
        Ok(())
    }

    /// The name of the upstream, where the route has one.
    pub fn upstream_name(&self) -> Option<&str> {
        match &self.action {
            Action::Forward(upstream) => Some(upstream.name()),
            Action::Respond(_) | Action::Describe(_) | Action::Relay(_) | Action::Keys(_) => None,
        }
    }

    /// Whether it passes requests for tokens through.
    pub(crate) const fn is_token_relay(&self) -> bool {
        matches!(self.action, Action::Relay(_))
    }

    /// Names the runtime that carries what outlives requests.
    pub(crate) fn start(&self, background: &Handle) {
        if let Action::Relay(relay) = &self.action {
            relay.start(background);
        }
    }
}

/// An answer of the gateway's own, ready to go out.
#[derive(Debug)]
pub struct OwnAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl OwnAnswer {
    /// Builds the answer, or says why not.
    pub(crate) fn build(config: &RespondConfig, place: &Place, faults: &mut Faults) -> Option<Self> {
        let status = StatusCode::from_u16(config.status).ok().filter(|status| status.as_u16() >= 200 && status.as_u16() < 600);
        if status.is_none() {
            faults.error(
                &place.key("status"),
                format!("{} is no status to answer with", config.status),
                "use a status from 200 to 599",
            );
        }
        let headers = header_map(&config.headers, &place.key("headers"), faults);
        Some(Self { status: status?, headers: headers?, body: Bytes::from(config.body.clone().unwrap_or_default()) })
    }

    /// The public keys by which backends check assertions, as they are now.
    pub(crate) fn of_keys(keys: &AssertionKeys) -> Response<Bytes> {
        let mut response = Response::new(keys.published());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(AssertionKeys::CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(AssertionKeys::CACHE_CONTROL));
        response
    }

    /// The answer to one request.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

fn header_map(written: &BTreeMap<String, String>, place: &Place, faults: &mut Faults) -> Option<HeaderMap> {
    let before = faults.errors();
    let mut headers = HeaderMap::with_capacity(written.len());
    for (name, value) in written {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
            (Err(_), _) => faults.error(&place.key(name), format!("`{name}` is no header name"), "use letters, digits and `-`"),
            (_, Err(_)) => faults.error(&place.key(name), "the value cannot stand in a header", "leave out control characters"),
        }
    }
    (faults.errors() == before).then_some(headers)
}

/// What a route leads to, as written.
pub(crate) enum Target<'a> {
    Upstream(&'a str),
    Respond(&'a RespondConfig),
    Relay(&'a TokenRelayConfig),
    Keys,
}

impl RouteConfig {
    /// Where the route leads, or why that cannot be told.
    pub(crate) fn leads_to(&self, place: &Place, faults: &mut Faults) -> Option<Target<'_>> {
        let mut targets = [
            ("upstream", self.upstream.as_deref().map(Target::Upstream)),
            ("respond", self.respond.as_ref().map(Target::Respond)),
            ("token-relay", self.token_relay.as_ref().map(Target::Relay)),
            ("assertion-keys", self.assertion_keys.map(|_| Target::Keys)),
        ]
        .into_iter()
        .filter_map(|(key, target)| target.map(|target| (key, target)));
        let Some((first, target)) = targets.next() else {
            faults.error(place, "the route leads nowhere", "give it an `upstream`, or an answer with `respond`");
            return None;
        };
        if let Some((second, _)) = targets.next() {
            faults.error(&place.key(second), format!("the route has both `{first}` and `{second}`"), "keep one of them");
            return None;
        }
        Some(target)
    }
}

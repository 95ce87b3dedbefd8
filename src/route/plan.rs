//! A route, built: the treatment of its requests.

use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority};
use tokio::runtime::Handle;

use super::{RequireTlsConfig, RequireTlsWord, ResourceMetadata, RespondConfig, RouteConfig, RouteLimits, TrustedHeaders};
use crate::{
    authorization::Authorization,
    base::{fields::Known, response::Response},
    connection::Scheme,
    identity::{AssertionKeys, BackendAssertion, IdentityHeaders, X_ENTRADA_ASSERTION},
    inbound::{InboundPolicy, ReturnResponse, list::PolicyList},
    outbound::OutboundList,
    refusal::{Reason, Refusal},
    request::{Ambiguities, IncomingRequest, Reserved, TokenPlace},
    settings::{Faults, Place},
    telemetry::Counters,
    token_relay::{TokenRelay, TokenRelayConfig},
    upstream::Upstream,
};

/// A route, built.
#[derive(Debug)]
pub struct Route {
    /// The name in the config.
    pub name: Arc<str>,
    /// The accepted ambiguities of a target.
    pub accept: Ambiguities,
    /// The treatment of plain requests.
    pub require_tls: RequireTls,
    /// The limits of requests.
    pub limits: RouteLimits,
    /// True if callers are told how long the parts of a request took.
    pub server_timing: bool,
    /// True if WebSocket upgrades are allowed.
    pub websocket: bool,
    /// Whether the log has told of requests that the route is not made for.
    pub hinted: AtomicBool,
    /// The fields that are trusted from some peers.
    pub trusted_headers: Option<TrustedHeaders>,
    /// True if no policy of the route's own list refuses.
    pub report_only: bool,
    /// The policies on the request: the global ones, then the route's.
    pub inbound: PolicyList,
    /// The fields that identify the caller to the upstream.
    pub identity_headers: IdentityHeaders,
    /// The signed statement about the caller.
    pub backend_assertion: Option<BackendAssertion>,
    /// The places in which policies look for API keys, which are never sent upstream.
    pub key_places: Box<[TokenPlace]>,
    /// The `Authorization` that the upstream receives.
    pub authorization: Authorization,
    /// The destination of requests.
    pub action: Action,
    /// The names of all upstreams to which requests may go: the route's own, and those that policies may choose.
    pub upstreams: Box<[Arc<str>]>,
    /// The policies on the response: the global ones, then the route's.
    pub outbound: OutboundList,
    /// The policies on refusals: the global ones, then the route's.
    pub on_error: OutboundList,
    /// The metadata that tells clients where to get their tokens.
    pub metadata: Option<Arc<ResourceMetadata>>,
    /// The header names that never come from the caller.
    pub reserved: Arc<Reserved>,
    /// The reserved names that policies of the route read nevertheless: they check who wrote them.
    pub read: Box<[HeaderName]>,
    /// True if a decision depends on the fields that the upstream's request has.
    pub judges_upstream_fields: bool,
    /// The counters, one for each worker.
    pub counters: Arc<[Counters]>,
}

/// The treatment of requests without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequireTls {
    /// They are served.
    No,
    /// They are refused.
    Refuse,
    /// GET and HEAD are redirected, others refused: what they brought has been seen already.
    Redirect,
}

impl From<RequireTlsConfig> for RequireTls {
    fn from(config: RequireTlsConfig) -> Self {
        match config {
            RequireTlsConfig::Refuse(false) => Self::No,
            RequireTlsConfig::Refuse(true) => Self::Refuse,
            RequireTlsConfig::Word(RequireTlsWord::Redirect) => Self::Redirect,
        }
    }
}

/// The destination of a request.
#[derive(Debug)]
pub enum Action {
    /// An upstream.
    Forward(Arc<Upstream>),
    /// A response of the gateway's own.
    Respond(Box<ReturnResponse>),
    /// The metadata of another route's resource.
    Describe(Arc<ResourceMetadata>),
    /// A tenant's token endpoint.
    Relay(Box<TokenRelay>),
    /// The gateway's public keys.
    Keys(Arc<AssertionKeys>),
    /// To the service that an application has put behind the gateway.
    Service,
    /// Nowhere: another proxy asks, and forwards the request itself.
    Decide,
}

impl Route {
    /// Checks the route's requirements on every request before its policies run; `scheme` is the one that the caller uses.
    ///
    /// # Errors
    /// Returns the refusal that ends the request.
    pub(crate) fn admits(&self, incoming: &IncomingRequest, scheme: Scheme) -> Result<(), Refusal> {
        incoming.target.accepted_by(self.accept)?;
        if self.require_tls != RequireTls::No && scheme == Scheme::Http {
            return Err(Reason::TlsRequired.into());
        }
        Ok(())
    }

    /// Returns the redirect of a request without TLS to the same target over https, where the route redirects. `host` is the one that
    /// a trusted proxy states.
    pub(crate) fn redirect(
        &self,
        incoming: &IncomingRequest,
        scheme: Scheme,
        host: Option<&HeaderValue>,
    ) -> Option<Response<Bytes>> {
        let redirects = self.require_tls == RequireTls::Redirect && scheme == Scheme::Http;
        if !redirects
            || !matches!(incoming.method, Method::GET | Method::HEAD)
            || incoming.target.accepted_by(self.accept).is_err()
        {
            return None;
        }
        let stated = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let host = match &stated {
            Some(stated) => stated.host(),
            None => &*incoming.authority.host,
        };
        // The port is that of the plain listener.
        let location = HeaderValue::try_from(format!("https://{host}{}", incoming.target)).ok().filter(|_| !host.is_empty())?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(Known::Location, &location);
        Some(response)
    }

    /// Returns the name of the upstream, if the route has one.
    pub fn upstream_name(&self) -> Option<&str> {
        match &self.action {
            Action::Forward(upstream) => Some(upstream.name()),
            Action::Respond(_) | Action::Describe(_) | Action::Relay(_) | Action::Keys(_) | Action::Service | Action::Decide => {
                None
            }
        }
    }

    /// Returns the header fields that the route may set, change or remove, whatever a request brings.
    pub(crate) fn written_names(&self) -> Vec<HeaderName> {
        let mut names: Vec<HeaderName> = self.identity_headers.names().cloned().collect();
        self.inbound.each(&mut |entry| {
            if let InboundPolicy::SetHeader(policy) = &entry.policy {
                names.push(policy.name().clone());
            }
        });
        names.extend(self.trusted_headers.iter().flat_map(|trusted| trusted.names().iter().cloned()));
        names.extend(self.backend_assertion.as_ref().map(|_| X_ENTRADA_ASSERTION));
        let kept = self.authorization.is_kept();
        names.extend((!kept).then_some(header::AUTHORIZATION));
        let cleared = self.authorization.places().iter().chain(&self.key_places);
        names.extend(cleared.filter_map(|place| match place {
            TokenPlace::Header(name) => Some(name.clone()),
            TokenPlace::Query(_) => None,
        }));
        names
    }

    /// Returns whether it relays token requests.
    pub(crate) const fn is_token_relay(&self) -> bool {
        matches!(self.action, Action::Relay(_))
    }

    /// Sets the runtime of work that outlives requests.
    pub(crate) fn start(&self, background: &Handle) {
        if let Action::Relay(relay) = &self.action {
            relay.start(background);
        }
    }
}

/// Makes the response with the current public keys by which backends verify assertions.
pub(crate) fn answer_of_keys(keys: &AssertionKeys) -> Response<Bytes> {
    let mut response = Response::new(keys.published());
    let headers = response.headers_mut();
    headers.insert(Known::ContentType, &HeaderValue::from_static(AssertionKeys::CONTENT_TYPE));
    headers.insert(Known::CacheControl, &HeaderValue::from_static(AssertionKeys::CACHE_CONTROL));
    response
}

/// The configured destination of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    Upstream(&'a str),
    Respond(&'a RespondConfig),
    Relay(&'a TokenRelayConfig),
    Keys,
    Service,
    Decide,
}

impl RouteConfig {
    /// Returns the destination of the route, or reports that it is ambiguous.
    pub(crate) fn leads_to(&self, before_service: bool, place: &Place, faults: &mut Faults) -> Option<Target<'_>> {
        let mut targets = [
            ("upstream", self.upstream.as_deref().map(Target::Upstream)),
            ("respond", self.respond.as_ref().map(Target::Respond)),
            ("token-relay", self.token_relay.as_ref().map(Target::Relay)),
            ("assertion-keys", self.assertion_keys.map(|_| Target::Keys)),
            ("decide-only", self.decide_only.then_some(Target::Decide)),
        ]
        .into_iter()
        .filter_map(|(key, target)| target.map(|target| (key, target)));
        let Some((first, target)) = targets.next() else {
            if before_service {
                return Some(Target::Service);
            }
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

//! One request in progress, and the facts found by each station.

mod facts;
pub(crate) mod held;

pub use self::held::{Held, Pending};
use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, StatusCode, Version};
use tokio::time::Instant;

use crate::{
    base::clock::{Clock, Reading},
    caller::Caller,
    certificate::{CertificateFault, ClientCertificate},
    connection::Introduction,
    credentials::OwnToken,
    entra::token::Token,
    gateway::runtime::{Runtime, Snapshot},
    listener::{BytesRead, CertificateNames, ClientCertificateMode, ClientCertificates, ListenerSettings},
    partner::{Access, Partner},
    refusal::{Reason, Refusal, trace::Trace},
    request::NamedToken,
    request::{Captures, IncomingRequest, Relayed, RequestId, TokenPlace, TraceContext},
    route::Route,
    telemetry::Counters,
    upstream::{Affinity, UpstreamRequest},
};

/// The facts of one request. Each station writes its findings here; the audit record is made from them at the end.
#[derive(Debug)]
pub struct Exchange {
    /// The config that the request started with, and keeps.
    pub runtime: Snapshot,
    /// The connection of the request.
    pub connection: Arc<Connection>,
    /// The index of the worker thread that carries the request: of its pools, counters and buffers.
    pub worker: usize,
    /// The request's id, as in every response and record.
    pub id: RequestId,
    /// The time when the request's head was complete.
    pub began: Reading,
    /// The caller's address; set by the `caller` station.
    pub caller: Option<Caller>,
    /// The index of the route in the runtime; set by the `route` station.
    pub route: Option<usize>,
    /// The captures of the route's path.
    pub captures: Captures,
    /// The trace of the request.
    pub trace_context: Option<TraceContext>,
    /// The validated token; set by the first successful token policy.
    pub token: Option<Arc<Token>>,
    /// The place of that token; set with it.
    pub token_place: Option<TokenPlace>,
    /// The validated tokens that `as` names, in the order they were judged.
    pub named_tokens: Vec<NamedToken>,
    /// The time until which all accepted tokens are valid, in seconds since 1970: the expiry of each plus the clock skew that its
    /// policy accepts.
    pub tokens_until: Option<u64>,
    /// The client of a relayed token request; set before it is judged.
    pub relayed: Option<Relayed>,
    /// The caller's certificate, once a policy or the listener has accepted it.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The last judged certificate, accepted or not, for the record.
    pub judged_certificate: Option<Arc<ClientCertificate>>,
    /// The calling partner; set by `check-partner`, even if the partner is refused.
    pub partner: Option<Arc<str>>,
    /// The gateway's own token for the upstream; set by the `authorization` station.
    pub own_token: Option<OwnToken>,
    /// True if the request uses an upstream connection of its caller's own, so that credentials of a connection may be forwarded.
    pub own_connection: bool,
    /// The result of each policy, if the trace is read.
    pub trace: Trace,
    /// The limits that the request occupies until its response has ended.
    pub limits: Held,
    /// True if a `cors` policy governs the response: the upstream's own CORS headers are then dropped.
    pub cors: bool,
    /// Header fields that are added to every response, refusals included.
    pub response_headers: HeaderMap,
    /// The outcome of the request, as far as it is known.
    pub outcome: Outcome,
    /// The timings of the request.
    pub timings: Timings,
}

impl Exchange {
    /// Starts the exchange of a request that has just arrived.
    pub fn begin(runtime: Snapshot, connection: Arc<Connection>, worker: usize) -> Self {
        let began = runtime.clock.read();
        Self {
            id: RequestId::generate(began.unix),
            began,
            runtime,
            connection,
            worker,
            caller: None,
            route: None,
            captures: Captures::default(),
            trace_context: None,
            token: None,
            token_place: None,
            named_tokens: Vec::new(),
            tokens_until: None,
            relayed: None,
            certificate: None,
            judged_certificate: None,
            partner: None,
            own_token: None,
            own_connection: false,
            trace: Trace::default(),
            limits: Held::default(),
            cors: false,
            response_headers: HeaderMap::new(),
            outcome: Outcome::default(),
            timings: Timings::default(),
        }
    }

    /// Returns a checkpoint of the policies' findings, for a policy that tries several alternatives.
    pub(crate) fn judged(&self) -> Judged {
        Judged {
            token: self.token.clone(),
            token_place: self.token_place.clone(),
            partner: self.partner.clone(),
            named_tokens: self.named_tokens.len(),
            tokens_until: self.tokens_until,
            certificate: self.certificate.clone(),
            response_headers: self.response_headers.clone(),
            permits: self.limits.permits.len(),
            pending: self.limits.pending.len(),
        }
    }

    /// Restores the findings at a checkpoint.
    pub(crate) fn back_to(&mut self, before: Judged) {
        self.token = before.token;
        self.token_place = before.token_place;
        self.partner = before.partner;
        self.named_tokens.truncate(before.named_tokens);
        self.tokens_until = before.tokens_until;
        self.certificate = before.certificate;
        self.response_headers = before.response_headers;
        self.limits.permits.truncate(before.permits);
        self.limits.give_back_to(before.pending);
    }

    /// Returns the matched route, if there is one.
    pub fn matched_route(&self) -> Option<&Route> {
        self.route.map(|index| &self.runtime.routes[index])
    }

    /// Returns the calling partner, even a refused one.
    pub(crate) fn partner(&self) -> Option<&Arc<Partner>> {
        self.runtime.partners.get(self.partner.as_deref()?)
    }

    /// Assigns the call to this partner and counts it: once, however often it is judged.
    ///
    /// # Errors
    /// Fails if the partner has called too often.
    pub(crate) fn admit_partner(&mut self, partner: &Partner) -> Result<(), Refusal> {
        self.partner = Some(partner.name.clone());
        if self.limits.partner.as_ref() != Some(&partner.name) {
            partner.count(&self.runtime.clock, &mut self.response_headers)?;
            self.limits.partner = Some(partner.name.clone());
        }
        Ok(())
    }

    /// Admits a call whose caller has not proven its identity yet: it is assigned to the partner, and counted after the proof.
    ///
    /// # Errors
    /// Fails if the partner has called too often.
    pub(crate) fn admit_unproven_partner(&mut self, partner: &Partner) -> Result<(), Refusal> {
        self.partner = Some(partner.name.clone());
        partner.has_room(&self.runtime.clock)
    }

    /// Returns the access that the request depends on: that of the partner whose call was admitted.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.let_through().then(|| self.partner())?.map(|partner| &partner.access)
    }

    const fn let_through(&self) -> bool {
        self.outcome.decision.reason().is_none()
    }

    /// Returns the counters for this request.
    pub fn counters(&self) -> &Counters {
        let counters = self.matched_route().map_or(&self.runtime.unrouted, |route| &route.counters);
        &counters[self.worker]
    }

    /// Returns the time since the request's head was complete.
    pub fn elapsed(&self) -> Duration {
        self.runtime.clock.monotonic().saturating_sub(self.began.monotonic)
    }

    /// Returns the caller's address: the peer's address until the `caller` station has run.
    pub fn caller_address(&self) -> IpAddr {
        self.caller.as_ref().map_or(self.connection.peer.ip(), |caller| caller.address)
    }

    /// Sets the forwarding headers of the upstream's request.
    pub(crate) fn introduce(&self, incoming: &IncomingRequest, outgoing: &mut UpstreamRequest) {
        if let (Some(caller), Some(trace)) = (&self.caller, &self.trace_context) {
            outgoing.introduce(incoming, caller, &self.id, trace);
        }
    }

    /// Checks the caller's certificate against the listener's requirements.
    ///
    /// # Errors
    /// Fails if the listener requires a certificate and this one is not acceptable.
    pub(crate) fn admit_certificate(&mut self) -> Result<(), CertificateFault> {
        let (connection, runtime) = (self.connection.clone(), self.runtime.clone());
        let Some(asked) = connection.asked_certificates(&runtime) else { return Ok(()) };
        if asked.mode() == ClientCertificateMode::Optional {
            return Ok(());
        }
        let shown = self.connection.tls.as_ref().and_then(|tls| tls.certificate.clone());
        self.judged_certificate.clone_from(&shown);
        asked.admit(shown.as_deref(), self.worker, self.clock().unix_seconds())?;
        self.certificate = shown;
        Ok(())
    }

    /// Returns the certificate whose key the caller holds: the accepted one, or else the connection's own, which no authority has
    /// confirmed. Use the latter only to compare it with a known certificate.
    pub fn proven_certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.as_ref().or_else(|| self.connection.tls.as_ref()?.certificate.as_ref())
    }

    /// Returns whether the connection belongs to the caller alone, so that connection-bound credentials can only be the caller's.
    /// This excludes proxies, which send the requests of several callers on one connection, and HTTP/2.
    pub(crate) fn has_connection_of_its_own(&self, incoming: &IncomingRequest) -> bool {
        let Some(maker) = self.connection.maker() else { return false };
        let shown = self.connection.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        let handed_on = self.certificate.as_ref().is_some_and(|accepted| shown.is_none_or(|shown| !Arc::ptr_eq(shown, accepted)));
        let speaks_for_others = |route: &Route| {
            route.trusted_headers.as_ref().is_some_and(|trusted| trusted.believes(Some(maker), self.clock(), incoming))
        };
        incoming.version < Version::HTTP_2
            && self.caller.as_ref().is_some_and(|caller| !caller.believed() && caller.address == maker)
            && !handed_on
            && !self.matched_route().is_some_and(speaks_for_others)
    }

    /// Returns a key for the caller, as far as it is known: different callers on the same connection have different keys.
    pub(crate) fn who(&self) -> Arc<str> {
        let mut who = self.caller_address().to_string();
        for token in self.token.iter().chain(self.named_tokens.iter().map(|named| &named.token)) {
            // Writing to a string cannot fail. Quoted, so that no two callers are written alike.
            let _ = write!(who, " {:?} {:?} {:?}", token.tenant, token.subject, token.client);
        }
        if let Some(certificate) = self.proven_certificate() {
            let _ = write!(who, " {}", certificate.thumbprint_sha256());
        }
        who.into()
    }

    /// Notes that a token with this expiry was accepted by a policy that accepts this clock skew.
    pub(crate) fn holds_until(&mut self, expires_at: u64, skew: u64) {
        let until = expires_at.saturating_add(skew);
        self.tokens_until = Some(self.tokens_until.map_or(until, |others| others.min(until)));
    }

    /// Returns the time when the response must have ended: the earliest expiry of the request's tokens, its certificate, its
    /// partner's access and the listener's `max-stream`.
    pub(crate) fn ends_at(&self) -> Instant {
        let now = self.began.unix;
        let token = self.tokens_until.map(|until| Duration::from_secs(until).saturating_sub(now));
        let partner = self.partner().filter(|_| self.let_through()).and_then(|partner| partner.until);
        let partner = partner.map(|until| Duration::from_secs(until).saturating_sub(now));
        let certificate = self.certificate.as_ref().map(|certificate| Duration::from_secs(certificate.not_after() + 1));
        let certificate = certificate.map(|until| until.saturating_sub(now));
        let max_stream = self.connection.settings.max_stream;
        self.began.instant + [token, partner, certificate].into_iter().flatten().fold(max_stream, Duration::min)
    }

    /// Returns the runtime's clock.
    pub fn clock(&self) -> &Clock {
        &self.runtime.clock
    }
}

/// A checkpoint of the policies' findings.
#[derive(Debug)]
pub(crate) struct Judged {
    token: Option<Arc<Token>>,
    token_place: Option<TokenPlace>,
    partner: Option<Arc<str>>,
    named_tokens: usize,
    tokens_until: Option<u64>,
    certificate: Option<Arc<ClientCertificate>>,
    response_headers: HeaderMap,
    permits: usize,
    pending: usize,
}

/// A connection that carries requests.
#[derive(Debug)]
pub struct Connection {
    /// The listener's name.
    pub listener_name: Arc<str>,
    /// The listener's rules when the connection was made: the connection keeps them across reloads.
    pub settings: Arc<ListenerSettings>,
    /// The peer's socket address; IPv4-mapped addresses become IPv4. The PROXY protocol's source, if there is one.
    pub peer: SocketAddr,
    /// The introduction of the connection, if it began with a PROXY protocol header.
    pub introduction: Option<Introduction>,
    /// The gateway's own address on this connection.
    pub local: SocketAddr,
    /// The TLS facts; absent on a plain connection.
    pub tls: Option<TlsFacts>,
    /// The upstream connections that belong to this one.
    pub affinity: Affinity,
}

impl Connection {
    /// Returns the requirements for the caller's certificate. Of all rules of a listener these alone also apply to open
    /// connections after a reload, so that a revoked certificate is no longer accepted. A listener that was removed keeps its
    /// requirements.
    pub(crate) fn asked_certificates<'a>(&'a self, runtime: &'a Runtime) -> Option<&'a ClientCertificates> {
        let present = runtime.listener(&self.listener_name).map(|rules| &rules.settings);
        present.unwrap_or(&self.settings).client_certificates()
    }

    /// Finds the caller of a request on this connection.
    ///
    /// # Errors
    /// Fails if a trusted proxy wrote something that is not an address.
    pub(crate) fn caller(&self, incoming: &IncomingRequest, clock: &Clock) -> Result<Caller, Refusal> {
        let (trust, peer) = (&self.settings.trust, self.peer.ip());
        match self.introduction {
            None => trust.caller(peer, &incoming.headers, clock),
            Some(introduction) => trust.introduced_caller(peer, introduction, &incoming.headers, clock),
        }
    }

    /// Returns the maker of the connection. `None` if a proxy introduced it without a source: its bytes may be anybody's.
    pub(crate) fn maker(&self) -> Option<IpAddr> {
        self.introduction.is_none_or(|introduction| introduction.names_source).then(|| self.peer.ip())
    }
}

/// The results of a TLS handshake.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The name that the client asked for (SNI), lower case.
    pub server_name: Option<Box<str>>,
    /// The names of the certificate that was shown to the client, if the listener has several.
    pub shown: Option<Arc<CertificateNames>>,
    /// The certificate whose private key the client has proven to hold; no authority has confirmed it yet.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// The decision on a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// No decision yet: the request is being judged.
    #[default]
    Pending,
    /// The request was admitted: every check before forwarding has passed.
    Allowed,
    /// The request was refused, or failed.
    Refused(Reason),
}

impl Decision {
    /// Returns the reason of a refusal.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Pending | Self::Allowed => None,
            Self::Refused(reason) => Some(reason),
        }
    }
}

impl Outcome {
    /// Notes that the request was admitted.
    pub(crate) fn allow(&mut self) {
        if self.decision == Decision::Pending {
            self.decision = Decision::Allowed;
        }
    }

    /// Notes that the gateway failed; the log has the details.
    pub(crate) fn fail(&mut self) {
        self.decision = Decision::Refused(Reason::InternalError);
        self.code = None;
    }
}

/// The outcome of a request.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The decision.
    pub decision: Decision,
    /// The code of the refusal, if the policy sets another one than the reason's.
    pub code: Option<Arc<str>>,
    /// The deciding entry, such as `inbound[1].ip-filter`; absent if no policy decided.
    pub policy: Option<Arc<str>>,
    /// A change that the operator could make.
    pub hint: Option<Box<str>>,
    /// The chain of causes, for the audit record.
    pub cause: Option<Box<str>>,
    /// The status of the response.
    pub status: Option<StatusCode>,
    /// The name of the credential whose token was sent upstream.
    pub credential: Option<Arc<str>>,
    /// The server that received the request.
    pub server: Option<Arc<str>>,
    /// The number of body bytes from the caller.
    pub bytes_in: BytesRead,
    /// The number of body bytes to the caller.
    pub bytes_out: u64,
    /// True if the response body was sent completely.
    pub complete: bool,
}

/// The durations of a request's stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Route, policies and everything before them.
    pub policies: Duration,
    /// The wait for the gateway's own token.
    pub credential: Duration,
    /// The upstream's time, from sending the request to the head of its response.
    pub upstream: Duration,
}

//! One request on its way: what is learnt of it, station by station.

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

/// What is known of one request. Each station of the way writes what it learns here; the audit record is made from it at the end.
#[derive(Debug)]
pub struct Exchange {
    /// The config that the request started with, and keeps.
    pub runtime: Snapshot,
    /// The connection that the request came on.
    pub connection: Arc<Connection>,
    /// Which of the gateway's threads carries the request: the index of its pools, counters and buffers.
    pub worker: usize,
    /// The request's id, as on every answer and record.
    pub id: RequestId,
    /// When the request's head was complete.
    pub began: Reading,
    /// Whose address it is; set by the `caller` station.
    pub caller: Option<Caller>,
    /// The index of the route in the runtime; set by the `route` station.
    pub route: Option<usize>,
    /// What the route's path captured.
    pub captures: Captures,
    /// The trace that the request belongs to.
    pub trace_context: Option<TraceContext>,
    /// The validated token; set by the first token policy that held.
    pub token: Option<Arc<Token>>,
    /// Where that token was found; set with it.
    pub token_place: Option<TokenPlace>,
    /// The validated tokens that `as` names, in the order they were judged.
    pub named_tokens: Vec<NamedToken>,
    /// Until when all tokens that were accepted hold, in seconds since 1970: each until its end and as far as its policy lets clocks
    /// differ.
    pub tokens_until: Option<u64>,
    /// Who asks for a token, where the route relays the request; set before it is judged.
    pub relayed: Option<Relayed>,
    /// The caller's certificate, once a policy or the listener has accepted it.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The certificate that was judged last, accepted or not: for the record.
    pub judged_certificate: Option<Arc<ClientCertificate>>,
    /// The partner that calls; set by `check-partner`, also where the partner is refused.
    pub partner: Option<Arc<str>>,
    /// The token of the gateway's own that goes upstream; set by the `authorization` station.
    pub own_token: Option<OwnToken>,
    /// Whether the request goes on a connection of its caller's own, so that credentials of a connection may go with it.
    pub own_connection: bool,
    /// What each policy found, where somebody reads it.
    pub trace: Trace,
    /// What the request holds of limits, until its answer has ended.
    pub limits: Held,
    /// Whether a `cors` policy speaks for the answer: permissions that the upstream gives itself are then dropped.
    pub cors: bool,
    /// Header fields that go on whatever leaves, refusals included.
    pub response_headers: HeaderMap,
    /// How the request ended, as far as it is known.
    pub outcome: Outcome,
    /// Where the time went.
    pub timings: Timings,
}

impl Exchange {
    /// The exchange of a request that has just arrived.
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

    /// What policies have found so far, for a policy that tries several ways.
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

    /// Forgets what policies have found since then.
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

    /// The route that was found, if one was.
    pub fn matched_route(&self) -> Option<&Route> {
        self.route.map(|index| &self.runtime.routes[index])
    }

    /// The partner that calls, also one that is refused.
    pub(crate) fn partner(&self) -> Option<&Arc<Partner>> {
        self.runtime.partners.get(self.partner.as_deref()?)
    }

    /// Notes that the call is this partner's, and counts it: once, however often it is judged.
    ///
    /// # Errors
    /// The partner has called too often.
    pub(crate) fn admit_partner(&mut self, partner: &Partner) -> Result<(), Refusal> {
        self.partner = Some(partner.name.clone());
        if self.limits.partner.as_ref() != Some(&partner.name) {
            partner.count(&self.runtime.clock, &mut self.response_headers)?;
            self.limits.partner = Some(partner.name.clone());
        }
        Ok(())
    }

    /// Lets a call in whose caller has proven nothing yet: it is noted as the partner's, and counted once the caller has.
    ///
    /// # Errors
    /// The partner has called too often.
    pub(crate) fn admit_unproven_partner(&mut self, partner: &Partner) -> Result<(), Refusal> {
        self.partner = Some(partner.name.clone());
        partner.has_room(&self.runtime.clock)
    }

    /// The access that the request stands and falls with: that of the partner whose call was let through.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.let_through().then(|| self.partner())?.map(|partner| &partner.access)
    }

    const fn let_through(&self) -> bool {
        self.outcome.decision.reason().is_none()
    }

    /// The counters that this request counts in.
    pub fn counters(&self) -> &Counters {
        let counters = self.matched_route().map_or(&self.runtime.unrouted, |route| &route.counters);
        &counters[self.worker]
    }

    /// The time since the request's head was complete.
    pub fn elapsed(&self) -> Duration {
        self.runtime.clock.monotonic().saturating_sub(self.began.monotonic)
    }

    /// The caller's address: the one that the `caller` station settled on.
    ///
    /// Before that station has run it is the peer's, which nobody but that station asks for.
    pub fn caller_address(&self) -> IpAddr {
        self.caller.as_ref().map_or(self.connection.peer.ip(), |caller| caller.address)
    }

    /// Tells the upstream on whose behalf the request goes.
    pub(crate) fn introduce(&self, incoming: &IncomingRequest, outgoing: &mut UpstreamRequest) {
        if let (Some(caller), Some(trace)) = (&self.caller, &self.trace_context) {
            outgoing.introduce(incoming, caller, &self.id, trace);
        }
    }

    /// Holds the caller's certificate against what the listener requires of every request.
    ///
    /// # Errors
    /// What does not hold, where the listener requires a certificate.
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

    /// The certificate whose key the caller holds: the one that was accepted, or else the connection's own, for which nobody has
    /// vouched. Good for whoever knows the very certificate.
    pub fn proven_certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.as_ref().or_else(|| self.connection.tls.as_ref()?.certificate.as_ref())
    }

    /// Whether whoever made the connection is the caller, so that what authenticates a connection speaks for it and for nobody else:
    /// not a proxy, which sends the requests of several callers on one connection, and not HTTP/2.
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

    /// Who calls, as far as that is known: somebody else on the same connection differs in something.
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

    /// Notes that a token was accepted that ends then, by a policy that lets clocks differ so far.
    pub(crate) fn holds_until(&mut self, expires_at: u64, skew: u64) {
        let until = expires_at.saturating_add(skew);
        self.tokens_until = Some(self.tokens_until.map_or(until, |others| others.min(until)));
    }

    /// When the answer must have ended: with the first of the tokens that the request came with, with its certificate, with the access of
    /// the partner that it came from, and with the listener's `max-stream`.
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

    /// The clock of the runtime.
    pub fn clock(&self) -> &Clock {
        &self.runtime.clock
    }
}

/// What policies had found at some point.
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

/// A connection that requests come on.
#[derive(Debug)]
pub struct Connection {
    /// The listener's name.
    pub listener_name: Arc<str>,
    /// The rules of the listener when the connection was made: it keeps them, whatever becomes of the listener.
    pub settings: Arc<ListenerSettings>,
    /// The peer's socket address; IPv4-mapped addresses are folded. The one that the PROXY protocol names, where it does.
    pub peer: SocketAddr,
    /// Who introduced the connection, where it began with a PROXY protocol header.
    pub introduction: Option<Introduction>,
    /// The gateway's own address on this connection.
    pub local: SocketAddr,
    /// What TLS settled; absent on a plain connection.
    pub tls: Option<TlsFacts>,
    /// The connections to servers that belong to this one.
    pub affinity: Affinity,
}

impl Connection {
    /// What is asked of the caller's certificate. Of all rules of a listener these alone go over to open connections: a certificate that
    /// is revoked is to serve no longer. One that a reload took away asks what it asked.
    pub(crate) fn asked_certificates<'a>(&'a self, runtime: &'a Runtime) -> Option<&'a ClientCertificates> {
        let present = runtime.listener(&self.listener_name).map(|rules| &rules.settings);
        present.unwrap_or(&self.settings).client_certificates()
    }

    /// Whose address a request on this connection comes from.
    ///
    /// # Errors
    /// A trusted proxy said something that cannot be read as an address.
    pub(crate) fn caller(&self, incoming: &IncomingRequest, clock: &Clock) -> Result<Caller, Refusal> {
        let (trust, peer) = (&self.settings.trust, self.peer.ip());
        match self.introduction {
            None => trust.caller(peer, &incoming.headers, clock),
            Some(introduction) => trust.introduced_caller(peer, introduction, &incoming.headers, clock),
        }
    }

    /// Who made the connection. `None` where a proxy introduced it and did not say whose it is: its bytes may be anybody's.
    pub(crate) fn maker(&self) -> Option<IpAddr> {
        self.introduction.is_none_or(|introduction| introduction.names_source).then(|| self.peer.ip())
    }
}

/// What TLS settled for a connection.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The name that the client asked for (SNI), lower case.
    pub server_name: Option<Box<str>>,
    /// The names of the certificate that the client was shown, where the listener has several.
    pub shown: Option<Arc<CertificateNames>>,
    /// The certificate whose private key the client has proven to hold; nothing says yet who vouches for it.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// What was decided of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Nothing yet: it is being judged.
    #[default]
    Pending,
    /// It was let through: everything that might have refused it before it went upstream has been asked.
    Allowed,
    /// It was refused, or failed.
    Refused(Reason),
}

impl Decision {
    /// The reason of a refusal.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Pending | Self::Allowed => None,
            Self::Refused(reason) => Some(reason),
        }
    }
}

impl Outcome {
    /// Notes that the request was let through.
    pub(crate) fn allow(&mut self) {
        if self.decision == Decision::Pending {
            self.decision = Decision::Allowed;
        }
    }

    /// Notes that the gateway failed, as the log tells.
    pub(crate) fn fail(&mut self) {
        self.decision = Decision::Refused(Reason::InternalError);
        self.code = None;
    }
}

/// How a request ended, or is about to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was decided.
    pub decision: Decision,
    /// The code of the refusal, where the policy was told another one than the reason's.
    pub code: Option<Arc<str>>,
    /// Which entry decided, as `inbound[1].ip-filter`; absent where no policy did.
    pub policy: Option<Arc<str>>,
    /// What the operator could change.
    pub hint: Option<Box<str>>,
    /// The chain of causes, for the audit record.
    pub cause: Option<Box<str>>,
    /// The status of the answer.
    pub status: Option<StatusCode>,
    /// The name of the credential whose token went upstream.
    pub credential: Option<Arc<str>>,
    /// The server that was spoken to.
    pub server: Option<Arc<str>>,
    /// The body bytes that came from the caller.
    pub bytes_in: BytesRead,
    /// The body bytes that went to the caller.
    pub bytes_out: u64,
    /// Whether the answer's body went out whole.
    pub complete: bool,
}

/// Where the time of a request went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Route, policies and all before them.
    pub policies: Duration,
    /// Waiting for the gateway's own token.
    pub credential: Duration,
    /// From the request's start towards the upstream to the head of its answer.
    pub upstream: Duration,
}

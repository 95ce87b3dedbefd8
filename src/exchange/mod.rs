//! One request in progress, and the facts found by each station.

mod asked;
mod ended_by;
mod evidence;
pub(crate) mod held;
mod note;
mod route_label;

pub(crate) use self::held::{HeldPermit, Pending};
pub use self::{
    asked::Asked,
    ended_by::EndedBy,
    evidence::{Earlier, Evidence, KeyEvidence, TokenEvidence},
    held::Held,
    note::{Note, Notes},
    route_label::{RouteLabel, RouteNames},
};
use std::{fmt::Write as _, net::IpAddr, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    base::{
        clock::{Clock, Reading},
        fields::Fields,
    },
    caller::Caller,
    certificate::{Authorities, ClientCertificate},
    credentials::OwnToken,
    entra::token::{Token, TokenSeen},
    expression::{ErrorFacts, Facts, Variables},
    listener::{BytesRead, Connection, Sent},
    partner::{Access, ApiKey, Partner},
    refusal::{Reason, trace::Trace},
    request::{Captures, IncomingRequest, NamedToken, Relayed, RequestId, TokenPlace, TraceContext},
    upstream::Upstream,
};

/// The facts of one request. Each station writes its findings here; the audit record is made from them at the end.
#[derive(Debug)]
pub struct Exchange {
    /// The clock.
    pub clock: Clock,
    /// The connection of the request.
    pub connection: Arc<Connection>,
    /// The index of the worker thread that carries the request: of its pools, counters and buffers.
    pub worker: usize,
    /// The request's id, as in every response and record.
    pub id: RequestId,
    /// The time when the request's head was complete.
    pub began: Reading,
    /// The question that describes the request, if another proxy has asked about it.
    pub asked: Option<Box<Asked>>,
    /// The caller's address; set by the `caller` station.
    pub caller: Option<Caller>,
    /// The route; set by the `route` station.
    pub route: Option<RouteLabel>,
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
    /// A token whose signature held, but that no policy accepted, or only an alternative that failed; for the record.
    pub refused_token: Option<Arc<Token>>,
    /// The place of a token that no policy accepted.
    pub refused_place: Option<TokenPlace>,
    /// The statements of a token whose signature was not verified; for the record, and never a fact.
    pub token_seen: Option<Box<TokenSeen>>,
    /// The time until which all accepted tokens are valid, in seconds since 1970: the expiry of each plus the clock skew that its
    /// policy accepts.
    pub tokens_until: Option<u64>,
    /// The client of a relayed token request; set before it is judged.
    pub relayed: Option<Relayed>,
    /// The caller's certificate, once a policy or the listener has accepted it.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The last judged certificate, accepted or not, for the record.
    pub judged_certificate: Option<Arc<ClientCertificate>>,
    /// The authorities of the listener that vouch for certificates, by the request's config.
    pub listener_authorities: Option<Arc<Authorities>>,
    /// The variables that policies have set.
    pub variables: Variables,
    /// The route's own limit of the request's duration.
    pub max_stream: Option<Duration>,
    /// The time that a caller of gRPC waits for the whole response.
    pub deadline: Option<Duration>,
    /// The notes for the record that policies have made.
    pub notes: Notes,
    /// The upstream that a policy has chosen, in place of the route's.
    pub backend: Option<Arc<Upstream>>,
    /// The calling partner; set by `check-partner`, even if the partner is refused.
    pub partner: Option<Arc<Partner>>,
    /// The partner's API key that the caller sent; set by `validate-api-key`, even if the call is refused.
    pub api_key: Option<Arc<ApiKey>>,
    /// The gateway's own token for the upstream; set by the `authorization` station.
    pub own_token: Option<OwnToken>,
    /// True if the request uses an upstream connection of its caller's own, so that credentials of a connection may be forwarded.
    pub own_connection: bool,
    /// The result of each policy, if the trace is read.
    pub trace: Trace,
    /// The evidence for judging the request once more: noted where somebody will, given where that is done.
    pub evidence: Option<Box<Evidence>>,
    /// The limits that the request occupies until its response has ended.
    pub limits: Held,
    /// True if a `cors` policy governs the response: the upstream's own CORS headers are then dropped.
    pub cors: bool,
    /// Header fields that are added to every response, refusals included.
    pub response_headers: Fields,
    /// The outcome of the request, as far as it is known.
    pub outcome: Outcome,
    /// The timings of the request.
    pub timings: Timings,
}

impl Exchange {
    /// Starts the exchange of a request that has just arrived.
    #[inline]
    pub fn begin(clock: Clock, connection: Arc<Connection>, worker: usize) -> Self {
        let began = clock.read();
        let id = RequestId::generate(began.unix);
        let trace = if tracing::enabled!(tracing::Level::DEBUG) { Trace::read() } else { Trace::default() };
        Self::with(clock, connection, worker, began, id, trace)
    }

    /// Starts the exchange of a request that is judged once more, of which only the decision is wanted.
    pub(crate) fn again(original: &mut Self, connection: Arc<Connection>) -> Self {
        let clock = Clock::standing(original.began);
        let trace = Trace::decision();
        let mut again = Self::with(clock, connection, original.worker, original.began, original.id.clone(), trace);
        again.evidence = original.evidence.take();
        again
    }

    #[inline]
    fn with(clock: Clock, connection: Arc<Connection>, worker: usize, began: Reading, id: RequestId, trace: Trace) -> Self {
        Self {
            id,
            began,
            clock,
            connection,
            worker,
            asked: None,
            caller: None,
            route: None,
            captures: Captures::default(),
            trace_context: None,
            token: None,
            token_place: None,
            named_tokens: Vec::new(),
            refused_token: None,
            refused_place: None,
            token_seen: None,
            tokens_until: None,
            relayed: None,
            certificate: None,
            judged_certificate: None,
            listener_authorities: None,
            variables: Variables::default(),
            max_stream: None,
            deadline: None,
            notes: Notes::default(),
            backend: None,
            partner: None,
            api_key: None,
            own_token: None,
            own_connection: false,
            trace,
            evidence: None,
            limits: Held::default(),
            cors: false,
            response_headers: Fields::default(),
            outcome: Outcome::default(),
            timings: Timings::default(),
        }
    }

    /// Returns a checkpoint of the policies' findings, for a policy that tries several alternatives.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            token: self.token.clone(),
            token_place: self.token_place.clone(),
            partner: self.partner.clone(),
            api_key: self.api_key.clone(),
            named_tokens: self.named_tokens.len(),
            variables: self.variables.clone(),
            backend: self.backend.clone(),
            tokens_until: self.tokens_until,
            certificate: self.certificate.clone(),
            response_headers: self.response_headers.clone(),
            permits: self.limits.permits.len(),
            pending: self.limits.pending.len(),
            would_deny: self.outcome.would_deny.len(),
        }
    }

    /// Restores the findings at a checkpoint.
    pub(crate) fn restore(&mut self, before: Checkpoint) {
        // Whoever is refused in the end is named by the token that an alternative accepted.
        let accepted = std::mem::replace(&mut self.token, before.token);
        if self.token.is_none() && accepted.is_some() {
            self.refused_token = accepted;
            self.refused_place = self.token_place.take();
        }
        self.token_place = before.token_place;
        self.partner = before.partner;
        self.api_key = before.api_key;
        self.named_tokens.truncate(before.named_tokens);
        self.variables = before.variables;
        self.backend = before.backend;
        self.tokens_until = before.tokens_until;
        self.certificate = before.certificate;
        self.response_headers = before.response_headers;
        self.limits.permits.truncate(before.permits);
        self.limits.give_back_to(before.pending);
        self.outcome.would_deny.truncate(before.would_deny);
    }

    /// The facts that expressions read.
    pub fn facts<'a>(&'a self, request: &'a IncomingRequest) -> Facts<'a> {
        Facts {
            request,
            caller: self.caller_address(),
            certificate: self.certificate.as_deref(),
            token: self.token.as_deref(),
            partner: self.partner_name(),
            named_tokens: &self.named_tokens,
            captures: &self.captures,
            route: self.route.as_ref().map(|route| &**route.name()),
            status: self.outcome.status,
            response_headers: None,
            error: self.outcome.refused.map(|status| ErrorFacts {
                code: self.outcome.code.as_deref().or(self.outcome.decision.reason().map(Reason::code)).unwrap_or_default(),
                status,
                policy: self.outcome.policy.as_deref(),
            }),
            scheme: self.caller.as_ref().and_then(|caller| caller.scheme).unwrap_or(request.scheme),
            id: self.id.as_str(),
            variables: &self.variables,
            clock: &self.clock,
            known: self.evidence.as_ref().and_then(|evidence| evidence.recorded.as_deref()),
        }
    }

    /// The name of the calling partner, also if it is refused.
    pub fn partner_name(&self) -> Option<&str> {
        self.partner.as_ref().map(|partner| &*partner.name)
    }

    /// Returns the access that the request depends on: that of the partner whose call was admitted.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.let_through().then_some(self.partner.as_ref())?.map(|partner| &partner.access)
    }

    /// Returns whether nothing has refused the request.
    pub(crate) const fn let_through(&self) -> bool {
        self.outcome.decision.reason().is_none()
    }

    /// Returns the longest duration of the request: the listener's, or the route's if that is shorter.
    pub(crate) fn max_stream(&self) -> Duration {
        let listeners = self.connection.settings.max_stream;
        self.max_stream.map_or(listeners, |own| own.min(listeners))
    }

    /// Returns the time since the request's head was complete.
    // A request comes here several times, and each inlined copy would take room in the first-level cache.
    #[inline(never)]
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began.monotonic)
    }

    /// Returns the caller's address: the peer's address until the `caller` station has run.
    pub fn caller_address(&self) -> IpAddr {
        self.caller.as_ref().map_or(self.connection.peer.ip(), |caller| caller.address)
    }

    /// Returns the certificate whose key the caller holds: the accepted one, or else the connection's own, which no authority has
    /// confirmed. Use the latter only to compare it with a known certificate.
    pub fn proven_certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.as_ref().or_else(|| self.connection.certificate())
    }

    /// Returns a key for the caller, as far as it is known: different callers on the same connection have different keys.
    pub(crate) fn caller_key(&self) -> Arc<str> {
        let mut who = self.caller_address().to_string();
        for token in self.token.iter().chain(self.named_tokens.iter().map(|named| &named.token)) {
            // Writing to a string cannot fail. Quoted, so that no two callers are written alike.
            let _ = write!(who, " {:?} {:?} {:?}", token.tenant, token.subject, token.client);
        }
        if let Some(key) = &self.api_key {
            let _ = write!(who, " {:?} {}", key.partner().name, key.name);
        }
        if let Some(certificate) = self.proven_certificate() {
            let _ = write!(who, " {}", certificate.thumbprint_sha256());
        }
        who.into()
    }

    /// Notes that a decision depends on a fact that is not known, where only the decision is wanted.
    #[cold]
    pub(crate) fn lacks(&mut self, fact: impl Into<std::borrow::Cow<'static, str>>) {
        if let Some(stand_in) = self.trace.decision_alone() {
            stand_in.lacks(fact);
        }
    }

    /// Notes that a token with this expiry was accepted by a policy that accepts this clock skew.
    pub(crate) fn holds_until(&mut self, expires_at: u64, skew: u64) {
        let until = expires_at.saturating_add(skew);
        self.tokens_until = Some(self.tokens_until.map_or(until, |others| others.min(until)));
    }
}

/// A checkpoint of the policies' findings.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    token: Option<Arc<Token>>,
    token_place: Option<TokenPlace>,
    partner: Option<Arc<Partner>>,
    api_key: Option<Arc<ApiKey>>,
    named_tokens: usize,
    variables: Variables,
    backend: Option<Arc<Upstream>>,
    tokens_until: Option<u64>,
    certificate: Option<Arc<ClientCertificate>>,
    response_headers: Fields,
    permits: usize,
    pending: usize,
    would_deny: usize,
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
    /// The status of the refusal, before `on-error`.
    pub refused: Option<StatusCode>,
    /// The status of the response.
    pub status: Option<StatusCode>,
    /// The status of gRPC by which a caller of gRPC was told.
    pub grpc_status: Option<u8>,
    /// The name of the credential whose token was sent upstream.
    pub credential: Option<Arc<str>>,
    /// The server that received the request.
    pub server: Option<Arc<str>>,
    /// The number of body bytes from the caller.
    pub bytes_in: BytesRead,
    /// The number of body bytes to the caller.
    pub bytes_out: u64,
    /// True if the response was sent completely.
    pub complete: bool,
    /// The cause of the end of a tunnel, or of a response before its end.
    pub ended_by: Option<EndedBy>,
    /// True if a policy was run whose refusal is not enforced.
    pub report_only: bool,
    /// The refusals that were not enforced, in the order of the policies.
    pub would_deny: Vec<WouldDeny>,
}

/// A refusal that was not enforced: its policy is report-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WouldDeny {
    /// The entry, such as `inbound[1].ip-filter`.
    pub at: Arc<str>,
    /// The file and the line of the entry.
    pub place: Option<Arc<str>>,
    /// The reason.
    pub reason: Reason,
    /// The code, if the policy sets another one than the reason's.
    pub code: Option<Arc<str>>,
}

impl WouldDeny {
    /// Returns the code of the refusal.
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_else(|| self.reason.code())
    }
}

impl Outcome {
    /// Records how much of the response was sent.
    pub(crate) const fn settle(&mut self, sent: Sent) {
        match sent {
            Sent::Whole => self.complete = self.status.is_some(),
            Sent::Part { unsent } => self.bytes_out = self.bytes_out.saturating_sub(unsent),
            Sent::Nothing => (self.status, self.bytes_out) = (None, 0),
        }
    }
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

//! The outcome of a run.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};

use crate::{
    caller::{AddressSource, Hop},
    entra::token::Token,
    exchange::{Decision, Exchange},
    expression::Variables,
    gateway::Recorder,
    refusal::{
        Reason,
        trace::{SentRequest, Step, Verdict as StepVerdict},
    },
    request::{Captures, IncomingRequest, NamedToken, TokenPlace},
    settings::Place,
};

/// The verdict on a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It would be sent to its upstream.
    Allow,
    /// It is refused.
    Refuse,
    /// The gateway answers itself, as its config says.
    Answer,
    /// The gateway could not handle it.
    #[default]
    Fault,
}

impl Verdict {
    /// Returns its name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
            Self::Answer => "answer",
            Self::Fault => "fault",
        }
    }
}

/// The facts that the gateway found about the caller.
#[derive(Clone, Debug)]
pub struct CallerFacts {
    /// The caller's address.
    pub address: IpAddr,
    /// Its source.
    pub source: AddressSource,
    /// The address that connected.
    pub peer: IpAddr,
    /// The hops from the peer to the caller, if the trace is read.
    pub hops: Vec<Hop>,
}

/// The outcome of a request.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The status of the response.
    pub status: StatusCode,
    /// The code of a refusal.
    pub code: Option<String>,
    /// The reason of a refusal, whose code a policy may replace.
    pub reason: Option<Reason>,
    /// The deciding entry, such as `inbound[1].ip-filter`.
    pub policy: Option<Arc<str>>,
    /// The place of that entry in the config, if the trace is read.
    pub place: Option<Place>,
    /// The name of the route.
    pub route: Option<Arc<str>>,
    /// The index of the route.
    pub route_index: Option<usize>,
    /// The caller; `None` if it could not be determined.
    pub caller: Option<CallerFacts>,
    /// The calling partner, also if it is refused.
    pub partner: Option<String>,
    /// The token that was accepted.
    pub token: Option<Arc<Token>>,
    /// The place of that token.
    pub token_place: Option<TokenPlace>,
    /// The accepted tokens that `as` names.
    pub named_tokens: Vec<NamedToken>,
    /// The captures of the route's path.
    pub captures: Captures,
    /// The variables that policies have set.
    pub variables: Variables,
    /// The request's id.
    pub id: String,
    /// The time of the request, in seconds since 1970.
    pub now: u64,
    /// The SHA-256 thumbprint of the certificate that was accepted.
    pub certificate: Option<String>,
    /// The name of the credential whose token would be sent.
    pub credential: Option<Arc<str>>,
    /// The cause of a refusal, as the record has it.
    pub cause: Option<String>,
    /// A change that the operator could make, as the record has it.
    pub hint: Option<String>,
    /// The request that would have been sent upstream.
    pub upstream: Option<SentRequest>,
    /// The response to the caller, after the policies on it.
    pub response: Response<Bytes>,
    /// The codes of refusals that are only reported, in their order.
    pub would_deny: Vec<String>,
    /// The steps of the decision, if the trace is read. Those within a policy stand before it.
    pub steps: Vec<Step>,
    /// The facts that were not available.
    pub judged_without: Vec<&'static str>,
    /// The facts that the decision depends on and that are not known: it is no decision.
    pub unknown: Vec<String>,
    /// The request's head, as the gateway read it.
    pub incoming: Option<IncomingRequest>,
}

/// The decision on a request that was judged once more.
#[derive(Debug, Default)]
pub struct Decided {
    /// The code of a refusal.
    pub code: Option<String>,
    /// The name of the route.
    pub route: Option<Arc<str>>,
    /// The facts that the decision depends on and that are not known.
    pub unknown: Vec<String>,
    /// The facts that were left out.
    pub judged_without: Vec<&'static str>,
}

impl Decided {
    pub(crate) fn of(recorder: &mut Recorder) -> Self {
        let exchange = &mut recorder.exchange;
        let stand_in = exchange.trace.take().1;
        let (judged_without, lacked) = stand_in.map(|it| (it.unasked, it.unknown)).unwrap_or_default();
        let unknown = unknown(exchange, lacked);
        let outcome = &exchange.outcome;
        let reason = outcome.decision.reason();
        Self {
            code: reason.map(|reason| outcome.code.as_deref().unwrap_or(reason.code()).to_owned()),
            route: exchange.route.as_ref().map(|route| route.name().clone()),
            unknown,
            judged_without,
        }
    }
}

/// Returns the facts that the decision depends on and that are not known: those that a stand-in lacked, and those that no record has.
fn unknown(exchange: &Exchange, lacked: Vec<Cow<'static, str>>) -> Vec<String> {
    let recorded = exchange.evidence.as_ref().and_then(|evidence| evidence.recorded.as_deref());
    let missed = recorded.map(|known| known.missed()).unwrap_or_default();
    lacked.into_iter().map(Cow::into_owned).chain(missed).collect()
}

impl Outcome {
    pub(crate) fn of(recorder: &mut Recorder) -> Self {
        let incoming = recorder.exchange.trace.is_read().then(|| recorder.incoming.clone()).flatten();
        let exchange = &mut recorder.exchange;
        let (steps, stand_in) = exchange.trace.take();
        let (upstream, judged_without, lacked) = stand_in.map(|it| (it.sent, it.unasked, it.unknown)).unwrap_or_default();
        let unknown = unknown(exchange, lacked);
        let reason = match exchange.outcome.decision {
            Decision::Refused(reason) => Some(reason),
            Decision::Pending | Decision::Allowed => None,
        };
        let outcome = &exchange.outcome;
        let refused_at = |step: &&Step| Some(&step.at) == outcome.policy.as_ref() && step.verdict != StepVerdict::Passed;
        Self {
            verdict: match reason {
                Some(reason) if reason.status().is_server_error() => Verdict::Fault,
                Some(_) => Verdict::Refuse,
                None if upstream.is_some() => Verdict::Allow,
                None => Verdict::Answer,
            },
            status: outcome.status.unwrap_or_default(),
            code: reason.map(|reason| outcome.code.as_deref().unwrap_or(reason.code()).to_owned()),
            reason,
            policy: outcome.policy.clone(),
            place: steps.iter().find(refused_at).and_then(|step| step.place.clone()),
            route: exchange.route.as_ref().map(|route| route.name().clone()),
            route_index: exchange.route.as_ref().map(|route| route.index),
            caller: exchange.caller.as_ref().map(|caller| CallerFacts {
                address: caller.address,
                source: caller.source,
                peer: exchange.connection.peer.ip(),
                hops: Vec::new(),
            }),
            partner: exchange.partner_name().map(str::to_owned),
            token: exchange.token.clone(),
            token_place: exchange.token_place.clone(),
            named_tokens: exchange.named_tokens.clone(),
            captures: exchange.captures.clone(),
            variables: exchange.variables.clone(),
            id: exchange.id.as_str().to_owned(),
            now: exchange.began.unix.as_secs(),
            certificate: exchange.certificate.as_ref().map(|certificate| certificate.thumbprint_sha256().to_owned()),
            credential: outcome.credential.clone(),
            cause: outcome.cause.as_deref().map(str::to_owned),
            hint: outcome.hint.as_deref().map(str::to_owned),
            upstream,
            would_deny: outcome.would_deny.iter().map(|refusal| refusal.code().to_owned()).collect(),
            response: Response::default(),
            steps,
            judged_without,
            unknown,
            incoming,
        }
    }

    /// Returns the method and header fields that an upstream would have received.
    pub fn sent(&self) -> Option<(&Method, &HeaderMap)> {
        self.upstream.as_ref().map(|sent| (&sent.method, &sent.headers))
    }
}

//! Why a request is decided as it is: each step with what it looked at, wanted and found, and the fact that would have turned it.
//!
//! The decision is the engine's own ([`offline`](crate::offline)); here it is put into words. Turning facts are tried by the same
//! engine before they are named.

mod addresses;
mod candidates;
mod curl;
mod describe;
mod entry;
mod har;
mod operands;
mod record;
mod routes;
mod secrets;
mod text;
mod token;
mod token_candidates;
mod token_facts;
mod token_shape;
mod turning;
mod untried;
mod upstream;
mod variant;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub(crate) use self::describe::span;
pub(crate) use self::{
    addresses::{AddressList, in_words as range_in_words},
    candidates::in_utc,
    describe::is_credential,
    entry::policy_at,
    secrets::revealed,
    token::FoundPlace,
    token_candidates::Entry as TokenEntry,
    upstream::{masked_url, shown as shown_value},
};
pub use self::{
    curl::{CurlFault, Described, curl},
    har::{HarEntry, HarFault, har_entry},
    record::{RecordFault, Recorded, recorded},
    routes::RouteConsidered,
    text::to_text,
    token_facts::{TokenCheck, TokenFacts},
    turning::{Turning, TurningFact},
    upstream::{Field, UpstreamFacts},
};
use crate::{
    config::Document,
    offline::{OfflineGateway, OfflineRequest, Outcome, Verdict},
    refusal::trace::{Step, Verdict as StepVerdict},
    settings::Place,
};

/// The explanation of one decision.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// `allow`, `refuse`, `answer` or `fault`; `unknown` if it depends on facts that are not known.
    pub verdict: &'static str,
    /// The status of the response; absent if the verdict is unknown.
    pub status: Option<u16>,
    /// The code of a refusal.
    pub code: Option<String>,
    /// The digest of the config, as in audit records.
    pub config_digest: String,
    /// The time of the decision.
    pub at: String,
    /// The request.
    pub request: RequestFacts,
    /// The caller, and how its address was found.
    pub caller: Option<CallerFacts>,
    /// The route.
    pub route: Option<RouteFacts>,
    /// The nearest routes that were not taken.
    pub routes_considered: Vec<RouteConsidered>,
    /// The steps of the decision.
    pub steps: Vec<StepFacts>,
    /// The entries of the route that were not reached.
    pub not_reached: Vec<String>,
    /// The token that was judged last.
    pub token: Option<TokenFacts>,
    /// The partner that calls.
    pub partner: Option<String>,
    /// The request that the upstream would receive.
    pub upstream: Option<UpstreamFacts>,
    /// The response to the caller, after the policies on it; absent where there is none, as of a recorded request.
    pub response: Option<ResponseFacts>,
    /// The cause, as the audit record has it.
    pub cause: Option<String>,
    /// A change that the operator could make, as the audit record has it.
    pub hint: Option<String>,
    /// The facts that turn the verdict.
    pub turning: Option<Turning>,
    /// The facts that were not available.
    pub judged_without: Vec<String>,
    /// The facts that the verdict depends on and that are not known; none but for a verdict that is unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// The request in question.
#[derive(Clone, Debug, Serialize)]
pub struct RequestFacts {
    /// The method.
    pub method: String,
    /// The URL without its query, which may hold a token.
    pub url: String,
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
    /// The name of the listener.
    pub listener: Option<String>,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

/// The caller.
#[derive(Clone, Debug, Serialize)]
pub struct CallerFacts {
    /// The address.
    pub address: String,
    /// Its source: `peer`, `x-forwarded-for`, `forwarded` or `proxy-protocol`.
    pub source: &'static str,
    /// The address that connects.
    pub peer: String,
    /// The hops from the peer to the caller.
    pub hops: Vec<HopFacts>,
}

/// The response to the caller.
#[derive(Clone, Debug, Serialize)]
pub struct ResponseFacts {
    /// The status.
    pub status: u16,
    /// The header fields. What looks like a credential is masked.
    pub headers: Vec<Field>,
}

impl ResponseFacts {
    fn of(response: &http::Response<bytes::Bytes>) -> Self {
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            // What a config writes is marked as a secret, whatever it is; but what callers get must not be one.
            let mut told = value.clone();
            told.set_sensitive(false);
            let value = if is_credential(name.as_str()) { "***".to_owned() } else { shown_value(&told) };
            Field { name: upstream::in_title_case(name.as_str()), value }
        };
        Self { status: response.status().as_u16(), headers: response.headers().iter().map(field).collect() }
    }
}

/// One hop.
#[derive(Clone, Debug, Serialize)]
pub struct HopFacts {
    /// The address.
    pub address: String,
    /// The entry of `trusted-proxies` or `trust-path` by which it is trusted; absent for the caller.
    pub trusted_by: Option<String>,
}

/// The route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteFacts {
    /// Its name.
    pub name: String,
    /// Its place in the config.
    pub place: Option<Position>,
}

/// A place in the config's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

/// One step of the decision.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepFacts {
    /// The entry: `inbound[1].ip-filter`.
    pub at: String,
    /// The policy's name.
    pub policy: String,
    /// The place of the entry.
    pub place: Option<Position>,
    /// `passed`, `refused` or `answered`; `unknown` where that cannot be said.
    pub outcome: &'static str,
    /// The fact that the policy judges.
    pub looked_at: String,
    /// The values that it wants.
    pub wanted: Vec<String>,
    /// The values that it found.
    pub found: Vec<String>,
    /// The reason, in words.
    pub reason: String,
    /// The code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Whether the step would have refused, but only reports.
    pub would_deny: bool,
    /// The time that it took, with the steps within it, in microseconds and parts of them.
    pub duration_us: f64,
    /// True for the steps of an alternative that was given up: a list of `any-of` that refused while another one passed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
}

/// The sources of an explanation.
#[derive(Clone, Copy, Debug)]
pub struct Explained<'a> {
    /// The config.
    pub document: &'a Document,
    /// The gateway that judged.
    pub gateway: &'a OfflineGateway,
    /// The request.
    pub request: &'a OfflineRequest,
    /// The decision.
    pub outcome: &'a Outcome,
}

impl Explanation {
    /// Judges a request and explains the decision. `now` is in seconds since 1970. `trial` takes tokens of the development key, and tries
    /// the facts that may turn a refusal; without it none is named.
    pub async fn of(
        document: &Document,
        gateway: &OfflineGateway,
        trial: Option<&OfflineGateway>,
        request: &OfflineRequest,
        now: u64,
    ) -> Self {
        gateway.begin(now);
        let outcome = gateway.run(request).await;
        let mut explanation = Self::new(Explained { document, gateway, request, outcome: &outcome }, now);
        if let Some(trial) = trial
            && matches!(outcome.verdict, Verdict::Refuse | Verdict::Fault)
        {
            explanation.turning = Box::pin(turning::find(document, trial, request, &outcome, now)).await;
        }
        explanation
    }

    /// Explains a decision.
    pub fn new(explained: Explained<'_>, now: u64) -> Self {
        let Explained { document, gateway, request, outcome } = explained;
        let (host, path) = (request.host(), request.target.split('?').next().unwrap_or_default());
        let steps = steps(explained);
        Self {
            verdict: outcome.verdict.as_str(),
            status: Some(outcome.status.as_u16()),
            code: outcome.code.clone(),
            config_digest: document.fingerprint.digest().to_owned(),
            at: candidates::in_utc(now),
            request: RequestFacts {
                method: request.method.clone(),
                url: format!("{}://{}{path}", request.scheme.as_str(), request.authority),
                host: host.to_owned(),
                path: path.to_owned(),
                listener: request.listener_name(gateway.runtime()).map(str::to_owned),
                tls: request.uses_tls(gateway.runtime()),
            },
            caller: outcome.caller.as_ref().map(|caller| CallerFacts {
                address: caller.address.to_string(),
                source: caller.source.as_str(),
                peer: caller.peer.to_string(),
                hops: hops(explained, caller),
            }),
            route: outcome.route.as_ref().map(|name| RouteFacts {
                name: name.to_string(),
                place: outcome
                    .route_index
                    .and_then(|index| position(document, &Place::root().key("routes").index(index).key("name"))),
            }),
            routes_considered: routes::considered(document, outcome, (host, path)),
            not_reached: not_reached(gateway, outcome),
            token: token_facts::of(explained, now),
            partner: outcome.partner.clone(),
            upstream: outcome.upstream.as_ref().map(|sent| UpstreamFacts::of(sent, explained)),
            response: Some(ResponseFacts::of(&outcome.response)),
            cause: outcome.cause.clone(),
            hint: outcome.hint.clone(),
            turning: None,
            judged_without: judged_without(&steps, outcome),
            unknown: Vec::new(),
            steps,
        }
    }
}

/// Returns whether a request holds something that looks like a token.
pub fn has_token(request: &OfflineRequest) -> bool {
    !token::tokens_of(request).is_empty()
}

/// Returns the position of a setting.
pub(crate) fn position(document: &Document, place: &Place) -> Option<Position> {
    document.position(place).map(|(file, line, column)| Position { file, line, column })
}

/// Returns the steps of a decision. A step of a list within a policy stands before it in the trace, and after it here.
fn steps(explained: Explained<'_>) -> Vec<StepFacts> {
    let ran: Vec<&Step> = explained.outcome.steps.iter().filter(|step| &*step.at != "route").collect();
    // Each by the entries that contain it, the outermost first, so that an entry stands before what is within it.
    let key = |index: usize| {
        let at = &*ran[index].at;
        let mut outer: Vec<usize> = (0..ran.len()).filter(|other| is_within(at, &ran[*other].at)).collect();
        outer.sort_by_key(|other| ran[*other].at.len());
        outer.push(index);
        outer
    };
    let mut order: Vec<usize> = (0..ran.len()).collect();
    order.sort_by_cached_key(|index| key(*index));
    let steps: Vec<&Step> = order.into_iter().map(|index| ran[index]).collect();
    let passed: Vec<&str> =
        steps.iter().filter(|step| step.verdict == StepVerdict::Passed && is_any_of(&step.at)).map(|step| &*step.at).collect();
    steps
        .iter()
        .map(|step| {
            let refused = matches!(step.verdict, StepVerdict::Refused(_));
            let given_up = refused && passed.iter().any(|any_of| is_within(&step.at, any_of));
            StepFacts { given_up, ..describe::step(explained, step) }
        })
        .collect()
}

/// Returns a duration in microseconds, to the nanosecond.
#[expect(clippy::cast_precision_loss, reason = "no step takes as long as 2^53 ns, which are 104 days")]
fn microseconds(duration: std::time::Duration) -> f64 {
    duration.as_nanos() as f64 / 1_000.0
}

fn is_any_of(at: &str) -> bool {
    at.ends_with(".any-of")
}

/// Returns whether an entry stands within another one: `inbound[1].any-of[0][2].ip-filter` in `inbound[1].any-of`.
fn is_within(at: &str, outer: &str) -> bool {
    at.len() > outer.len() && at.starts_with(outer) && at[outer.len()..].starts_with('[')
}

fn hops(explained: Explained<'_>, caller: &crate::offline::CallerFacts) -> Vec<HopFacts> {
    let runtime = explained.gateway.runtime();
    let name = explained.request.listener_name(runtime);
    let listener = explained.document.config.listeners.iter().find(|listener| Some(listener.name.as_str()) == name);
    let entry = |index: usize| {
        let listener = listener?;
        let written = match listener.trust_path.get(index) {
            Some(step) => step.from.as_slice().iter().map(|entry| entry.text().to_owned()).collect::<Vec<_>>().join(", "),
            None => describe::trusted_proxy(listener.trusted_proxies.get(index)?),
        };
        Some(written)
    };
    let hop = |hop: &crate::caller::Hop| HopFacts {
        address: hop.address.to_string(),
        trusted_by: hop.trusted_by.map(|index| entry(index).unwrap_or_else(|| format!("entry {index}"))),
    };
    caller.hops.iter().map(hop).collect()
}

/// Returns the entries of the route's list that were not reached.
fn not_reached(gateway: &OfflineGateway, outcome: &Outcome) -> Vec<String> {
    let Some(route) = outcome.route_index.and_then(|index| gateway.runtime().routes.get(index)) else { return Vec::new() };
    let ran: Vec<&str> = outcome.steps.iter().map(|step| &*step.at).collect();
    // Entries of a fragment that stands twice in a list have one name each: what ran is counted.
    let mut left: Vec<String> = route.inbound.iter().map(|entry| entry.at.to_string()).collect();
    for at in ran {
        if let Some(index) = left.iter().position(|entry| entry == at) {
            left.remove(index);
        }
    }
    left
}

fn judged_without(steps: &[StepFacts], outcome: &Outcome) -> Vec<String> {
    let counts =
        |step: &&StepFacts| matches!(&*step.policy, "rate-limit-by-key" | "quota-by-key" | "limit-concurrency" | "check-partner");
    let mut without: Vec<String> = outcome.judged_without.iter().map(|fact| (*fact).to_owned()).collect();
    if steps.iter().any(|step| counts(&step)) {
        without.push("earlier calls, which limits count".to_owned());
    }
    if outcome.cause.as_deref().is_some_and(|cause| cause.contains("Microsoft Graph")) {
        without.push("answers of Microsoft Graph".to_owned());
    }
    without
}

//! Requests from an audit record: what it says of a request, and what it does not.

use std::{collections::HashSet, mem, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderName;
use serde_json::{Map, Value, json};

use super::{Explained, Explanation, StepFacts, TurningFact, token::FoundPlace, turning};
use crate::{
    config::{Document, FactMarks},
    exchange::Evidence,
    expression::KnownFacts,
    offline::{OfflineGateway, OfflineRequest, Outcome, RequestFault, Verdict},
    refusal::Reason,
    replay::{RecordedRequest, RecordedToken, Skipped, Told, proof_fields},
    request::{RequestId, TokenPlace},
};

/// A recorded request.
#[derive(Debug)]
pub struct Recorded {
    /// The request, as far as the record has it.
    pub request: OfflineRequest,
    /// Whether the record was written with `audit.replay`, and so has the facts that decided.
    pub has_facts: bool,
    /// The address that connected.
    pub peer: IpAddr,
    /// The time, in seconds since 1970.
    pub time: u64,
    /// The decision at that time: `allow`, `deny` or `error`.
    pub decision: String,
    /// The code at that time.
    pub code: Option<String>,
    /// The entry that decided at that time.
    pub policy: Option<String>,
    /// The facts that the record does not have.
    pub without: Vec<&'static str>,
    /// Why the decision was none of rules alone, and is not made again; absent for all others.
    pub apart: Option<&'static str>,
    evidence: Box<Evidence>,
    id: Option<RequestId>,
    tokens: Vec<RecordedToken>,
    /// A fact that any decision depends on, and that the record does not have.
    lacks: Option<String>,
}

/// The reason why a record is not found, or does not describe a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// There is no such record.
    #[error("no record has the request id `{0}`")]
    NotFound(String),
    /// The record is of a connection, or of a request that could not be read.
    #[error("the record `{0}` has no method, host and path: the request could not be read")]
    NoRequest(String),
    /// The request cannot be described.
    #[error(transparent)]
    Request(#[from] RequestFault),
}

/// Finds the record of a request id in JSON lines.
///
/// # Errors
/// Fails if there is none, or if it is no record of a request that could be read.
pub fn recorded(document: &Document, lines: &str, id: &str) -> Result<Recorded, RecordFault> {
    let wanted = |line: &str| {
        let record: Map<String, Value> = serde_json::from_str(line).ok()?;
        (record.get("request_id").and_then(Value::as_str) == Some(id)).then_some(record)
    };
    // The id stands in the line as it is, so that others need not be parsed.
    let record =
        lines.lines().filter(|line| line.contains(id)).find_map(wanted).ok_or_else(|| RecordFault::NotFound(id.to_owned()))?;
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    let (decision, code, policy) = (text("decision").unwrap_or_default(), text("code"), text("policy"));
    match RecordedRequest::read(&Value::Object(record.clone()).to_string(), &FactMarks::of(document)) {
        Ok(read) => {
            let lacks = read.lacks(&proof_fields(document));
            let apart = if let Told::Apart(cause) = read.told { Some(cause) } else { None };
            let RecordedRequest { mut request, evidence, request_id, time, tokens, .. } = read;
            request.read_trace = true;
            Ok(Recorded {
                peer: request.peer,
                has_facts: true,
                without: Vec::new(),
                id: request_id,
                request,
                time,
                decision,
                code,
                policy,
                apart,
                evidence,
                tokens,
                lacks,
            })
        }
        Err(Skipped::Unreadable) if !record.contains_key("path") => Err(RecordFault::NoRequest(id.to_owned())),
        Err(_) => plain(&record, id),
    }
}

/// Reads a record that was written without the facts for a replay.
fn plain(record: &Map<String, Value>, id: &str) -> Result<Recorded, RecordFault> {
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    let fault = || RecordFault::NoRequest(id.to_owned());
    let (method, path) = (text("method").ok_or_else(fault)?, text("path").ok_or_else(fault)?);
    let host = text("host").unwrap_or_default();
    let socket = |name: &str| text(name)?.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let address = |name: &str| text(name).and_then(|text| text.parse::<IpAddr>().ok());
    let peer = socket("peer").or_else(|| address("peer")).ok_or_else(fault)?;
    let mut request = OfflineRequest::new(&method, &format!("https://{host}{path}"), peer)?;
    request.listener = text("listener");
    if let Some(caller) = address("caller") {
        match text("address_source").as_deref() {
            Some("x-forwarded-for") => request.header("X-Forwarded-For", caller.to_string()),
            Some("forwarded") => {
                let node = if caller.is_ipv6() { format!("for=\"[{caller}]\"") } else { format!("for={caller}") };
                request.header("Forwarded", node);
            }
            _ => {}
        }
    }
    let time = text("time").and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let evidence = Evidence { recorded: Some(Box::default()), ..Evidence::default() };
    Ok(Recorded {
        request,
        has_facts: false,
        peer,
        time: time.and_then(|at| u64::try_from(at.as_second()).ok()).ok_or_else(fault)?,
        decision: text("decision").unwrap_or_default(),
        code: text("code"),
        policy: text("policy"),
        without: vec!["the token", "the query", "the other header fields"],
        apart: None,
        evidence: Box::new(evidence),
        id: RequestId::recorded(id),
        tokens: Vec::new(),
        lacks: None,
    })
}

impl Recorded {
    /// Takes header fields that the record may not have, as they are given beside it.
    pub fn with_headers<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let Some(known) = &mut self.evidence.recorded else { return };
        known.headers.extend(names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()));
    }

    /// Takes a token that is given beside the record: it counts in place of those that the record tells of.
    pub fn with_token(&mut self) {
        self.evidence.tokens.clear();
        self.tokens.clear();
        if let Some(known) = &mut self.evidence.recorded {
            known.headers.insert(http::header::AUTHORIZATION);
            known.tokens = true;
        }
    }

    /// Returns the request with the recorded claims in place of its tokens, for descriptions: nobody has signed them.
    fn described(&self, request: &OfflineRequest) -> OfflineRequest {
        let mut request = request.clone();
        for token in &self.tokens {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let header = part(&json!({ "alg": token.algorithm }));
            let text = format!("{header}.{}.AAAA", part(&Value::Object(token.claims.clone())));
            let place = match &token.place {
                TokenPlace::Header(name) if *name == http::header::AUTHORIZATION => FoundPlace::preferred(None, None),
                TokenPlace::Header(name) => FoundPlace::Header(name.as_str().to_owned(), String::new()),
                TokenPlace::Query(name) => FoundPlace::Query(name.to_string()),
            };
            place.put(&mut request, Some(&text));
        }
        request
    }
}

impl Explanation {
    /// Judges a recorded request by the facts of its record, as a replay does, and explains the decision. Where it depends on a fact that
    /// the record does not have, there is none.
    pub async fn of_recorded(
        document: &Document,
        gateway: &OfflineGateway,
        trial: Option<&OfflineGateway>,
        (recorded, request): (&mut Recorded, &OfflineRequest),
        now: u64,
    ) -> Self {
        let evidence = mem::take(&mut recorded.evidence);
        let known = evidence.recorded.as_ref().map(|known| known.with_tokens()).unwrap_or_default();
        gateway.begin(now);
        let outcome = gateway.judge(request, evidence, recorded.id.clone()).await;
        let described = recorded.described(request);
        let mut explanation = Self::new(Explained { document, gateway, request: &described, outcome: &outcome }, now);
        // Nothing has answered: only the decision was wanted.
        explanation.response = None;
        // That there was no token is what a record of this code tells, whatever else it has.
        let told = outcome.reason == Some(Reason::TokenMissing) && recorded.code == outcome.code;
        let unknown: Vec<String> = recorded.lacks.iter().chain(outcome.unknown.iter().filter(|_| !told)).cloned().collect();
        if !unknown.is_empty() {
            explanation.leave_open(unknown);
        } else if let Some(trial) = trial
            && matches!(outcome.verdict, Verdict::Refuse | Verdict::Fault)
        {
            explanation.turning = Box::pin(turned(document, trial, (&described, &outcome), known, now)).await;
        }
        explanation
    }

    /// Says that there is no verdict, and on which facts it depends.
    pub fn leave_open(&mut self, facts: Vec<String>) {
        (self.verdict, self.status) = ("unknown", None);
        (self.code, self.cause, self.hint, self.turning) = (None, None, None, None);
        self.response = None;
        if let Some(step) = self.steps.iter_mut().rev().find(|step| step.outcome == "refused" && !step.given_up) {
            let open = StepFacts { outcome: "unknown", code: None, found: Vec::new(), ..mem::take(step) };
            *step = StepFacts { reason: format!("depends on {}", facts.join(", ")), ..open };
        }
        self.unknown = facts;
    }
}

/// Finds the facts that turn the refusal of a recorded request. One that only the request itself could tell is no such fact.
async fn turned(
    document: &Document,
    trial: &OfflineGateway,
    (request, outcome): (&OfflineRequest, &Outcome),
    known: KnownFacts,
    now: u64,
) -> Option<turning::Turning> {
    let mut turning = turning::find(document, trial, request, outcome, now).await?;
    let Some((changed, at)) = turning.request.take() else { return Some(turning) };
    let new = |names: fn(&OfflineRequest) -> HashSet<String>| -> Vec<String> {
        names(&changed).difference(&names(request)).cloned().collect()
    };
    let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| known.headers.contains(&name));
    let mut guessed = new(header_names);
    guessed.retain(|name| !header(name));
    let mut parameters = new(parameter_names);
    parameters.retain(|name| !known.parameters.contains(&**name));
    guessed.append(&mut parameters);
    if let Some(first) = guessed.first() {
        // That the request had none of it is a guess; what comes before it is none.
        turning.leads_to = nothing_known(first);
        let is_guess = |fact: &TurningFact| {
            let name = fact.name.to_ascii_lowercase();
            matches!(&*fact.name, "token" | "API key") || guessed.iter().any(|guess| name.contains(&**guess))
        };
        let guesses: Vec<bool> = turning.facts.iter().map(is_guess).collect();
        let (mut facts, mut who) = (guesses.iter(), guesses.iter());
        turning.facts.retain(|_| !facts.next().is_some_and(|guess| *guess));
        turning.who.retain(|_| !who.next().is_some_and(|guess| *guess));
        return (!turning.facts.is_empty()).then_some(turning);
    }
    trial.begin(at);
    let evidence = Evidence { recorded: Some(Box::new(known)), ..Evidence::default() };
    let judged = trial.judge(&changed, Box::new(evidence), None).await;
    if let Some(fact) = judged.unknown.first() {
        turning.leads_to = nothing_known(fact);
    }
    Some(turning)
}

fn nothing_known(fact: &str) -> String {
    format!("what the record does not tell: it does not have {fact}")
}

fn header_names(request: &OfflineRequest) -> HashSet<String> {
    request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

fn parameter_names(request: &OfflineRequest) -> HashSet<String> {
    let query = request.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_describes_what_it_has() {
        let line = r#"{"time":"2027-02-27T17:31:04.000Z","request_id":"019aa8c2","listener":"public","peer":"10.1.0.7:50312","caller":"198.51.100.200","address_source":"x-forwarded-for","method":"GET","host":"partners.contoso.example","path":"/orders/1","decision":"deny","code":"caller-address-not-allowed","policy":"inbound[0].ip-filter"}"#;
        let config = "routes: [ { name: ping, match: { exact-path: /ping }, anonymous: true, respond: { status: 204 } } ]";
        let document = Document::from_text("test.yaml", config).unwrap_or_else(|report| panic!("{report}"));
        let found = recorded(&document, &format!("{{\"request_id\":\"other\"}}\n{line}\n"), "019aa8c2").unwrap();

        assert_eq!(found.request.url(), "https://partners.contoso.example/orders/1");
        assert_eq!(found.request.headers, [("X-Forwarded-For".to_owned(), b"198.51.100.200".to_vec())]);
        assert_eq!((found.peer.to_string(), found.time), ("10.1.0.7".to_owned(), 1_803_749_464));
        assert_eq!(recorded(&document, line, "019aa8c3").unwrap_err(), RecordFault::NotFound("019aa8c3".to_owned()));
    }
}

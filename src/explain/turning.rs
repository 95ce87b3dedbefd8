//! The turning fact: the change of the request that turns a refusal, tried before it is named.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    candidates::{Candidate, Refused},
    untried,
    variant::{Change, Variant},
};
use crate::{
    config::Document,
    offline::{OfflineGateway, OfflineRequest, Outcome, Verdict},
};

/// The number of facts that are changed one after the other.
const MOST_FACTS: usize = 8;
/// The number of runs for one explanation.
const MOST_RUNS: usize = 1_500;

/// The facts that turn a verdict, or what is known instead.
#[derive(Clone, Debug, Serialize)]
pub struct Turning {
    /// The facts, each with its value in the request and the one that turns the verdict; none if no such fact was found.
    pub facts: Vec<TurningFact>,
    /// The verdict with these facts, or the refusal that follows.
    pub leads_to: String,
    /// Whether the engine judged the changed request.
    pub tried: bool,
    /// The people who can change it, one entry for each fact.
    pub who: Vec<String>,
    /// The changed request itself, for whoever would send it.
    #[serde(skip)]
    pub request: Option<(OfflineRequest, u64)>,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TurningFact {
    /// Its name.
    pub name: String,
    /// Its value in the request.
    pub from: String,
    /// Its value in the request that was tried.
    pub to: String,
}

/// A search.
struct Search<'a> {
    document: &'a Document,
    trial: &'a OfflineGateway,
    start: Variant,
    runs: usize,
}

/// Finds the facts that turn a refusal. `trial` is a gateway of the same config that takes tokens of the development key.
pub(super) async fn find(
    document: &Document,
    trial: &OfflineGateway,
    request: &OfflineRequest,
    outcome: &Outcome,
    now: u64,
) -> Option<Turning> {
    let start = Variant::of(request, outcome, now);
    let mut search = Search { document, trial, start, runs: 0 };
    let mut facts: Vec<Candidate> = Vec::new();
    // What the trial says of the request as it is: its tokens are signed anew, so that a bad signature is no fault there.
    let mut current = Box::pin(search.run(&facts)).await;
    let signature_alone = current.verdict == Verdict::Allow || current.verdict == Verdict::Answer;
    if signature_alone || current.reason != outcome.reason {
        facts.push(search.signature(outcome)?);
    }
    let mut seen = vec![signature_of(outcome), signature_of(&current)];
    while !turns(&current) && facts.len() < MOST_FACTS {
        let Some((next, reached)) = Box::pin(search.step(&facts, &current, &mut seen)).await else { break };
        facts.push(next);
        current = reached;
    }
    if !turns(&current) {
        return Some(untried::of(document, &current).unwrap_or_else(|| Turning::none(&current)));
    }
    // What the request itself had there: later facts were found in requests that were changed already.
    let own: BTreeMap<String, String> = facts.iter().rev().map(|fact| (fact.name.clone(), fact.from.clone())).collect();
    let facts = Box::pin(search.fewest(facts)).await;
    let last = Box::pin(search.run(&facts)).await;
    Some(Turning {
        leads_to: leads_to(&last),
        tried: true,
        who: facts.iter().map(|fact| fact.who.clone()).collect(),
        // Where a fact outside of the request has changed, no request tells it.
        request: search
            .variant(&facts)
            .filter(|variant| variant.edited(document).is_none())
            .map(|variant| (variant.signed(trial), variant.now())),
        facts: facts
            .into_iter()
            .map(|Candidate { name, from, to, .. }| TurningFact { from: own.get(&name).cloned().unwrap_or(from), name, to })
            .collect(),
    })
}

impl Turning {
    pub(super) fn none(stopped: &Outcome) -> Self {
        Self { facts: Vec::new(), leads_to: leads_to(stopped), tried: false, who: vec![who_else(stopped)], request: None }
    }
}

impl Search<'_> {
    /// Returns the request with these facts; `None` if one of them changes nothing.
    fn variant(&self, facts: &[Candidate]) -> Option<Variant> {
        let mut variant = self.start.clone();
        for fact in facts {
            variant.apply(&fact.change).then_some(())?;
        }
        Some(variant)
    }

    async fn run(&mut self, facts: &[Candidate]) -> Outcome {
        self.runs += 1;
        match self.variant(facts) {
            Some(variant) => match variant.edited(self.document).map(|edited| self.trial.build_after(&edited)) {
                None => variant.run(self.trial).await,
                Some(Ok(gateway)) => variant.run(&gateway).await,
                Some(Err(_)) => Outcome::default(),
            },
            None => Outcome::default(),
        }
    }

    /// Returns the fact that the token is signed by its issuer.
    fn signature(&self, outcome: &Outcome) -> Option<Candidate> {
        let refused = Refused { document: self.document, gateway: self.trial, variant: &self.start, outcome };
        refused.candidates().into_iter().find(|candidate| candidate.name == "signature")
    }

    /// Changes one more fact: one that turns the verdict, or else the first that leads to a refusal that was not met before.
    async fn step(
        &mut self,
        facts: &[Candidate],
        current: &Outcome,
        seen: &mut Vec<(String, String)>,
    ) -> Option<(Candidate, Outcome)> {
        let variant = self.variant(facts)?;
        let refused = Refused { document: self.document, gateway: self.trial, variant: &variant, outcome: current };
        let mut onwards: Option<(Candidate, Outcome)> = None;
        for candidate in refused.candidates() {
            if self.runs >= MOST_RUNS {
                break;
            }
            let mut all = facts.to_vec();
            all.push(candidate.clone());
            let outcome = Box::pin(self.run(&all)).await;
            if turns(&outcome) {
                return Some((candidate, outcome));
            }
            let new = outcome.verdict != Verdict::Fault && !seen.contains(&signature_of(&outcome));
            if new && onwards.is_none() && is_further(&outcome, current) {
                onwards = Some((candidate, outcome));
            }
        }
        let (candidate, outcome) = onwards?;
        seen.push(signature_of(&outcome));
        Some((candidate, outcome))
    }

    /// Leaves out the facts that are not needed: the rest is minimal, since without any one of it the verdict stays.
    async fn fewest(&mut self, mut facts: Vec<Candidate>) -> Vec<Candidate> {
        let mut index = 0;
        while index < facts.len() && facts.len() > 1 {
            let mut others = facts.clone();
            // Trials sign every token, so that they cannot tell whether that was needed: it was, unless the token is another one.
            let signed = match others.remove(index).change {
                Change::Signed(place) => {
                    !others.iter().any(|fact| matches!(&fact.change, Change::Token(other, _) if *other == place))
                }
                _ => false,
            };
            if !signed && self.variant(&others).is_some() && turns(&Box::pin(self.run(&others)).await) {
                facts = others;
                index = 0;
            } else {
                index += 1;
            }
        }
        facts
    }
}

fn turns(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Allow | Verdict::Answer)
}

/// Returns what tells one refusal from another.
fn signature_of(outcome: &Outcome) -> (String, String) {
    let at = outcome.policy.as_deref().unwrap_or_default().to_owned();
    (format!("{}/{at}", outcome.route.as_deref().unwrap_or_default()), outcome.code.clone().unwrap_or_default())
}

/// Returns whether a refusal stands further on than another one: after as many steps at least.
fn is_further(outcome: &Outcome, before: &Outcome) -> bool {
    outcome.route.is_some() && outcome.steps.len() >= before.steps.len()
}

fn leads_to(outcome: &Outcome) -> String {
    match outcome.verdict {
        Verdict::Allow => "ALLOWED".to_owned(),
        Verdict::Answer => format!("ANSWERED with {}", outcome.status.as_u16()),
        Verdict::Refuse | Verdict::Fault => format!(
            "{} {}{}",
            outcome.status.as_u16(),
            outcome.code.as_deref().unwrap_or_default(),
            outcome.policy.as_deref().map(|at| format!(" at {at}")).unwrap_or_default()
        ),
    }
}

/// Returns who could help where no fact of the request does.
fn who_else(outcome: &Outcome) -> String {
    use crate::refusal::Reason;
    match outcome.reason {
        Some(Reason::PartnerRouteNotAllowed) => {
            format!("whoever keeps partners.{}, whose routes are others", outcome.partner.as_deref().unwrap_or_default())
        }
        Some(reason) if reason.status().is_server_error() => "the operator of the gateway".to_owned(),
        _ => "nobody with a single fact that a caller controls".to_owned(),
    }
}

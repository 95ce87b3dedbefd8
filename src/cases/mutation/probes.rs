//! Requests made from those of the cases, which show how a mutant differs.

use std::{collections::BTreeSet, net::IpAddr};

use super::Witness;
use crate::{
    cases::{Case, Runner, Suite, expectation, run::RunError},
    offline::{OfflineGateway, OfflineRequest, Outcome},
};

/// The maximum number of requests.
const MOST_PROBES: usize = 2_000;
/// The maximum number of requests made from those of one case.
const MOST_OF_A_CASE: usize = 60;
/// The maximum number of tokens that are tried in a request.
const MOST_TOKENS: usize = 36;
/// The maximum number of requests that are sent to one mutant.
const MOST_OF_A_MUTANT: usize = 600;

/// Requests, each with what the config that is tested makes of it.
#[derive(Debug)]
pub(super) struct Probes(Vec<Probe>);

#[derive(Debug)]
struct Probe {
    /// The index of the case whose request it was made from.
    case: usize,
    request: OfflineRequest,
    now: u64,
    /// The request, in words.
    text: String,
    outcome: Treatment,
}

/// The line and the header fields of a request to an upstream.
type SentHead = (String, Vec<(String, Vec<u8>)>);

/// How a request is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Treatment {
    verdict: String,
    /// The request that the upstream receives, but for its identifiers.
    sent: Option<SentHead>,
}

impl Treatment {
    fn of(outcome: &Outcome) -> Self {
        const OWN: [&str; 3] = ["x-request-id", "traceparent", "x-entrada-assertion"];
        let sent = outcome.upstream.as_ref().map(|sent| {
            let fields = sent.headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
            let mut fields: Vec<_> = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
            fields.sort();
            (format!("{} {}", sent.method, sent.url), fields)
        });
        Self { verdict: expectation::verdict(outcome), sent }
    }

    /// Says how it differs from another one.
    fn against(&self, other: &Self) -> String {
        if self.verdict != other.verdict {
            return self.verdict.clone();
        }
        let (Some((line, fields)), Some((other_line, other_fields))) = (&self.sent, &other.sent) else {
            return self.verdict.clone();
        };
        if line != other_line {
            return format!("{}: {line}", self.verdict);
        }
        let only = fields.iter().find(|field| !other_fields.contains(field)).map(|(name, value)| (name.as_str(), value));
        match only {
            Some(("authorization", _)) => format!("{}, with Authorization", self.verdict),
            // Others may be made from secrets.
            Some((name, value)) if name.starts_with("x-forwarded-") => {
                format!("{}, with {name}: {}", self.verdict, String::from_utf8_lossy(value))
            }
            Some((name, _)) => format!("{}, with another {name}", self.verdict),
            None => self.verdict.clone(),
        }
    }
}

impl Probes {
    /// Makes the requests, and sends them to the config that is tested.
    pub(super) fn of(suite: &Suite, runner: &mut Runner) -> Result<Self, RunError> {
        let (mut bases, mut tokens, mut addresses, mut methods) = (Vec::new(), Vec::new(), BTreeSet::new(), BTreeSet::new());
        for (index, case) in suite.cases.iter().enumerate() {
            for (request, step) in runner.requests(case, false)?.into_iter().zip(&case.steps) {
                for (name, wanted) in &step.tokens {
                    let found = request.values(name.as_str()).last().map(<[u8]>::to_vec);
                    tokens.extend(found.map(|value| (name.to_string(), value, format!("the token of `{}`", case.name))));
                    for (other, change) in wanted.variations(case.now) {
                        let value = runner.bearer(name, &other, case)?;
                        tokens.push((name.to_string(), value.into_bytes(), format!("the token of `{}` {change}", case.name)));
                    }
                }
                addresses.insert(request.peer);
                methods.insert(request.method.clone());
                bases.push((index, case, request));
            }
        }
        tokens.sort();
        tokens.dedup_by(|one, other| (&one.0, &one.1) == (&other.0, &other.1));
        let mut seen = BTreeSet::new();
        let mut probes = Vec::new();
        for (index, case, base) in &bases {
            for (request, change) in
                variations((&case.name, base), &tokens, &addresses, &methods).into_iter().take(MOST_OF_A_CASE)
            {
                let key = format!("{} {} {} {:?}", request.method, request.url(), request.peer, request.headers);
                if probes.len() < MOST_PROBES && seen.insert(key) {
                    probes.push(probe((*index, case), request, &change, runner));
                }
            }
        }
        Ok(Self(probes))
    }

    /// Returns the first request that the other config treats differently, those from the first of these cases first.
    pub(super) fn witness(&self, other: &OfflineGateway, cases: &[usize], runner: &Runner) -> Option<Witness> {
        let near = |case: usize| self.0.iter().filter(move |probe| probe.case == case);
        cases.iter().copied().flat_map(near).take(MOST_OF_A_MUTANT).find_map(|probe| {
            let after = Treatment::of(&runner.probe(other, &probe.request, probe.now));
            (after != probe.outcome).then(|| Witness {
                request: probe.text.clone(),
                before: probe.outcome.against(&after),
                after: after.against(&probe.outcome),
            })
        })
    }
}

fn probe((index, case): (usize, &Case), request: OfflineRequest, change: &str, runner: &Runner) -> Probe {
    let outcome = Treatment::of(&runner.probe(runner.gateway(), &request, case.now));
    let text = format!("{} {} from {}, as in `{}`{change}", request.method, request.url(), request.peer, case.name);
    Probe { case: index, request, now: case.now, text, outcome }
}

/// Returns a request, and requests that differ from it in one fact.
fn variations(
    (case, base): (&str, &OfflineRequest),
    tokens: &[(String, Vec<u8>, String)],
    addresses: &BTreeSet<IpAddr>,
    methods: &BTreeSet<String>,
) -> Vec<(OfflineRequest, String)> {
    let mut found = vec![(base.clone(), String::new())];
    // Those that differ least from the request come first.
    let (own, others): (Vec<_>, Vec<_>) = tokens.iter().partition(|(_, _, of)| of.contains(&format!("`{case}`")));
    for (name, value, of) in own.into_iter().chain(others).take(MOST_TOKENS) {
        let mut request = base.clone();
        request.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        request.header(name.as_str(), value.clone());
        found.push((request, format!(", with {of} in {name}")));
    }
    for (index, (name, _)) in base.headers.iter().enumerate() {
        let mut request = base.clone();
        request.headers.remove(index);
        found.push((request, format!(", without {name}")));
    }
    for address in addresses {
        found.push((OfflineRequest { peer: *address, ..base.clone() }, ", from another address".to_owned()));
        let mut request = base.clone();
        request.header("X-Forwarded-For", address.to_string());
        found.push((request, format!(", with X-Forwarded-For: {address}")));
    }
    let mut other = base.clone();
    "elsewhere.example".clone_into(&mut other.authority);
    found.push((other, ", for another host".to_owned()));
    for method in methods {
        found.push((OfflineRequest { method: method.clone(), ..base.clone() }, String::new()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_treatments_are_told_apart() {
        let sent = |name: &str, value: &str| Treatment {
            verdict: "allowed".to_owned(),
            sent: Some(("GET http://10.0.0.5/".to_owned(), vec![(name.to_owned(), value.as_bytes().to_vec())])),
        };
        let told = |name: &str| sent(name, "a").against(&sent(name, "b"));

        assert_eq!(told("x-forwarded-for"), "allowed, with x-forwarded-for: a");
        assert_eq!(told("x-backend-key"), "allowed, with another x-backend-key");
        assert_eq!(told("authorization"), "allowed, with Authorization");
    }
}

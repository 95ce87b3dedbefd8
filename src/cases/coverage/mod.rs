//! The rules of a config that no case touches, each with its place.
//!
//! Counted are: each route is chosen; each policy entry passes a request, and refuses one if it can; each branch of `choose` and each list
//! of `any-of` is taken; each refusal code that an entry's settings govern is given; each element of a list (an audience, a scope, a
//! role, a client, an address) admits a request, or refuses one with `forbid`. Codes that no setting governs, such as
//! `token-signature-invalid`, are the gateway's own and do not count.

mod codes;
mod units;

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use self::units::{Item, Test, Unit};
use crate::{
    base::clock::Clock,
    config::Document,
    entra::token::Token,
    gateway::runtime::Runtime,
    offline::{Outcome, Verdict as OfflineVerdict},
    refusal::trace::Verdict,
    settings::Place,
};

/// The kinds of units, in the order of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A route is chosen.
    Route,
    /// An entry passes a request.
    Passed,
    /// An entry refuses a request.
    Refused,
    /// A branch, or an alternative, is taken.
    Branch,
    /// An entry gives a code.
    Code,
    /// An element of a list decides.
    Item,
}

/// A unit that no case touches.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    /// The unit: `route partners`, `inbound[1] ip-filter`.
    pub(crate) what: String,
    /// The event that has not happened: `never chosen`.
    pub(crate) said: &'static str,
    pub(crate) place: Place,
}

/// The units of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) total: usize,
    pub(crate) missing: Vec<Missing>,
}

impl Part {
    /// Returns the number of units that cases touch.
    pub(crate) const fn touched(&self) -> usize {
        self.total - self.missing.len()
    }
}

/// The coverage of a config.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) routes: Part,
    pub(crate) passed: Part,
    pub(crate) refused: Part,
    pub(crate) branches: Part,
    pub(crate) codes: Part,
    pub(crate) list_items: Part,
}

impl Coverage {
    fn part(&mut self, kind: Kind) -> &mut Part {
        match kind {
            Kind::Route => &mut self.routes,
            Kind::Passed => &mut self.passed,
            Kind::Refused => &mut self.refused,
            Kind::Branch => &mut self.branches,
            Kind::Code => &mut self.codes,
            Kind::Item => &mut self.list_items,
        }
    }

    /// Returns all parts, in the order of reports.
    pub(crate) const fn parts(&self) -> [&Part; 6] {
        [&self.routes, &self.passed, &self.refused, &self.branches, &self.codes, &self.list_items]
    }

    /// Returns the units that no case touches, in the order of their places.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.parts().into_iter().flat_map(|part| &part.missing)
    }

    /// Returns the covered share in percent, rounded down: 100 means that nothing is missing.
    pub(crate) fn percent(&self) -> usize {
        let total: usize = self.parts().iter().map(|part| part.total).sum();
        let touched: usize = self.parts().iter().map(|part| part.touched()).sum();
        (touched * 100).checked_div(total).unwrap_or(100)
    }

    /// Returns the coverage for machines.
    pub(crate) fn to_json(&self, document: &Document) -> Value {
        let part = |part: &Part| {
            let missing = part.missing.iter().map(|missing| {
                let place = document.position(&missing.place).map(|(file, line, column)| json!({ "file": file, "line": line, "column": column }));
                json!({ "what": format!("{} {}", missing.what, missing.said), "place": place, "pointer": missing.place.pointer() })
            });
            json!({ "total": part.total, "missing": missing.collect::<Vec<_>>() })
        };
        json!({
            "percent": self.percent(),
            "routes": part(&self.routes),
            "entries": { "passed": part(&self.passed), "refused": part(&self.refused) },
            "branches": part(&self.branches),
            "codes": part(&self.codes),
            "list_items": part(&self.list_items),
        })
    }
}

/// Measures the coverage while cases run.
#[derive(Debug)]
pub(crate) struct Meter {
    units: Vec<(Unit, bool)>,
    by_place: HashMap<String, Vec<usize>>,
    clock: Clock,
}

impl Meter {
    /// Finds the units of a config.
    pub(crate) fn new(document: &Document, runtime: &Runtime) -> Self {
        let units: Vec<_> = units::of(&document.config, runtime).into_iter().map(|unit| (unit, false)).collect();
        let mut by_place: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, (unit, _)) in units.iter().enumerate() {
            by_place.entry(unit.at.clone()).or_default().push(index);
        }
        Self { units, by_place, clock: runtime.clock.clone() }
    }

    /// Notes what a request touches.
    pub(crate) fn observe(&mut self, outcome: &Outcome) {
        let passed = matches!(outcome.verdict, OfflineVerdict::Allow | OfflineVerdict::Answer);
        if let Some(route) = &outcome.route {
            self.touch(&format!("route {route}"), |_| true);
        }
        if let (Some(partner), true) = (&outcome.partner, passed) {
            let (facts, clock) = (Facts::of(outcome), self.clock.clone());
            self.touch(&format!("partner {partner}"), |test| matches!(test, Test::Item(item, _) if facts.has(item, &clock)));
        }
        for step in &outcome.steps {
            let Some(place) = &step.place else { continue };
            let (facts, clock, verdict) = (Facts::of(outcome), self.clock.clone(), step.verdict);
            self.touch(place.pointer(), |test| match (test, verdict) {
                (Test::Passed, Verdict::Passed | Verdict::Answered) => true,
                (Test::Refused, Verdict::Refused(_) | Verdict::WouldRefuse(_)) => true,
                (Test::Code(code), Verdict::Refused(reason) | Verdict::WouldRefuse(reason)) => *code == reason,
                (Test::Item(item, refuses), Verdict::Refused(_) | Verdict::WouldRefuse(_)) => *refuses && facts.has(item, &clock),
                (Test::Item(item, refuses), Verdict::Passed | Verdict::Answered) => !*refuses && facts.has(item, &clock),
                _ => false,
            });
            self.touch_branches(place.pointer(), verdict);
        }
    }

    /// Notes the branches that a step lies in, and the alternative that has passed.
    fn touch_branches(&mut self, pointer: &str, verdict: Verdict) {
        let ends = pointer.match_indices('/').map(|(at, _)| at).chain([pointer.len()]);
        for end in ends.collect::<Vec<_>>() {
            let whole = end == pointer.len();
            self.touch(&format!("branch {}", &pointer[..end]), |test| match test {
                Test::Branch => true,
                Test::Alternative => whole && verdict == Verdict::Passed,
                _ => false,
            });
        }
    }

    fn touch(&mut self, key: &str, holds: impl Fn(&Test) -> bool) {
        for index in self.by_place.get(key).into_iter().flatten() {
            let (unit, touched) = &mut self.units[*index];
            *touched = *touched || holds(&unit.test);
        }
    }

    /// Returns the result.
    pub(crate) fn finish(self) -> Coverage {
        let mut coverage = Coverage::default();
        for (unit, touched) in self.units {
            let part = coverage.part(unit.kind);
            part.total += 1;
            if !touched {
                part.missing.push(Missing { what: unit.what, said: unit.said, place: unit.place });
            }
        }
        coverage
    }
}

/// The facts of a request that elements of lists are compared with.
struct Facts<'a> {
    token: Option<&'a Arc<Token>>,
    caller: Option<std::net::IpAddr>,
}

impl<'a> Facts<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        Self { token: outcome.token.as_ref(), caller: outcome.caller.as_ref().map(|caller| caller.address) }
    }

    fn has(&self, item: &Item, clock: &Clock) -> bool {
        let Some(token) = self.token else {
            return matches!((item, self.caller), (Item::Address(set), Some(caller)) if set.contains(caller, clock));
        };
        match item {
            Item::Address(set) => self.caller.is_some_and(|caller| set.contains(caller, clock)),
            Item::Audience(audience) => is_or_lists(token.claims.get("aud"), audience),
            Item::Scope(scope) => token.scopes.iter().any(|own| **own == **scope),
            Item::Role(role) => token.roles.iter().any(|own| **own == **role),
            Item::Client(client) => token.client.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(client)),
            Item::Claim(name, value) => is_or_lists(token.claims.get(name), value),
        }
    }
}

/// Returns whether a claim is this text, or lists it.
fn is_or_lists(claim: Option<&Value>, text: &str) -> bool {
    match claim {
        Some(Value::Array(entries)) => entries.iter().any(|entry| is_or_lists(Some(entry), text)),
        Some(Value::String(own)) => own == text || own.split([' ', ',', ';']).any(|part| part == text),
        Some(Value::Bool(own)) => text == if *own { "true" } else { "false" },
        Some(Value::Number(own)) => text == own.to_string(),
        Some(Value::Null | Value::Object(_)) | None => false,
    }
}

//! Mutants of a config: each has one rule changed, and the cases should notice.
//!
//! Martin and Xie, "A fault model and mutation testing of access control policies", WWW 2007. A mutant that no case notices is a rule
//! that is not tested. Requests made from those of the cases are then sent to both configs: one that is treated differently would be
//! the case that is missing. Where none is, the two are compared as `entrada diff` compares configs: it finds a request, or proves that the
//! mutant is equivalent, and so no rule that a case could test; it does not count then. Where it can do neither, the mutant has survived.

mod changes;
mod edit;
mod probes;
mod sites;
mod values;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::{edit::Edit, probes::Probes, values::KnownValues};
use super::{Runner, Suite, run::RunError};
use crate::{difference::Difference, offline::OfflineGateway, settings::Place};

/// The number of cases that are held against all edits of a mutant before the others are.
const NEAREST: usize = 12;
/// The number of edits of a mutant for which a request is looked for that tells them apart.
const MOST_WITNESSED: usize = 2;

/// A changed rule.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    pub(crate) place: Place,
    /// The change: `inbound[1] ip-filter: allow becomes forbid`.
    pub(crate) change: String,
    /// The change itself; of several, one that is noticed is enough.
    edits: Vec<Edit>,
}

/// The fate of a mutant.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// This case notices it.
    Killed(String),
    /// No case notices it.
    Survived(Option<Witness>),
    /// It decides and treats every request as the config does.
    Equivalent,
    /// It is no config that could be used.
    Unusable,
}

/// A request that a config and its mutant treat differently.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    /// The request, in words.
    pub(crate) request: String,
    pub(crate) before: String,
    pub(crate) after: String,
}

/// The rules that each case touches: a case that touches a changed rule is the one that notices, if any does.
struct Touched(Vec<Vec<String>>);

impl Touched {
    fn of(suite: &Suite, runner: &mut Runner) -> Result<Self, RunError> {
        let mut touched = Vec::with_capacity(suite.cases.len());
        for case in &suite.cases {
            let mut places = Vec::new();
            runner.run(case, true, &mut |outcome| {
                let route = outcome.route_index.map(|index| Place::root().key("routes").index(index));
                let steps = outcome.steps.iter().filter_map(|step| step.place.as_ref());
                places.extend(route.iter().chain(steps).map(|place| place.pointer().to_owned()));
                // Requests that are sent again touch the same rules.
                places.sort_unstable();
                places.dedup();
            })?;
            touched.push(places);
        }
        Ok(Self(touched))
    }

    /// Returns the cases, those first that touch a rule nearest to the place.
    fn nearest_first(&self, place: &Place) -> Vec<usize> {
        let common = |own: &str| {
            let steps = own.split('/').zip(place.pointer().split('/'));
            steps.take_while(|(own, other)| own == other).count()
        };
        let nearness = |places: &[String]| places.iter().map(|own| common(own)).max().unwrap_or(0);
        let mut cases: Vec<_> = self.0.iter().map(|places| nearness(places)).enumerate().collect();
        cases.sort_by_key(|(_, nearness)| std::cmp::Reverse(*nearness));
        cases.into_iter().map(|(index, _)| index).collect()
    }
}

/// The mutants of a config, and what became of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mutation {
    pub(crate) mutants: Vec<(Mutant, Fate)>,
    pub(crate) duration: Duration,
}

impl Mutation {
    /// Makes the mutants of a suite's config, and runs its cases on each.
    ///
    /// # Errors
    /// Fails if a token of a case cannot be minted.
    pub(crate) fn run(suite: &Suite, runner: &mut Runner) -> Result<Self, RunError> {
        let began = Instant::now();
        let known = KnownValues::of(suite);
        let mutants = sites::mutants(suite, runner.gateway().runtime(), &known);
        let touched = Touched::of(suite, runner)?;
        let mut probes = None;
        let mut found = Vec::with_capacity(mutants.len());
        for mutant in mutants {
            let cases = touched.nearest_first(&mutant.place);
            let fate = Self::try_out(&mutant, (suite, &cases), runner, &mut probes)?;
            found.push((mutant, fate));
        }
        Ok(Self { mutants: found, duration: began.elapsed() })
    }

    /// Runs the cases, in this order, on a mutant.
    fn try_out(
        mutant: &Mutant,
        (suite, cases): (&Suite, &[usize]),
        runner: &mut Runner,
        probes: &mut Option<Probes>,
    ) -> Result<Fate, RunError> {
        let built: Vec<_> = mutant.edits.iter().filter_map(|edit| Some((edit, Self::build(edit, suite, runner)?))).collect();
        let (edits, survivors): (Vec<_>, Vec<_>) = built.into_iter().unzip();
        if survivors.is_empty() {
            return Ok(Fate::Unusable);
        }
        // The cases that are nearest notice most changes: all edits are held against them first.
        let (near, far) = cases.split_at(cases.len().min(NEAREST));
        for cases in [near, far] {
            for gateway in &survivors {
                for case in cases.iter().filter_map(|index| suite.cases.get(*index)) {
                    if !runner.holds_for(case, gateway)? {
                        return Ok(Fate::Killed(case.name.clone()));
                    }
                }
            }
        }
        let probes = match probes {
            Some(probes) => probes,
            None => probes.insert(Probes::of(suite, runner)?),
        };
        let witness = survivors.iter().take(MOST_WITNESSED).find_map(|gateway| probes.witness(gateway, cases, runner));
        Ok(witness.map_or_else(|| Self::compared(&edits, suite, runner), |witness| Fate::Survived(Some(witness))))
    }

    /// Compares the config with its mutant, where no request like those of the cases tells the two apart.
    fn compared(edits: &[&Edit], suite: &Suite, runner: &Runner) -> Fate {
        let mut all_same = true;
        for edit in edits.iter().take(MOST_WITNESSED) {
            let Some(found) = Self::difference(edit, suite, runner) else { return Fate::Survived(None) };
            if let Some(group) = found.groups.first() {
                let [before, after] = [&group.before, &group.after].map(crate::difference::Verdict::in_words);
                return Fate::Survived(Some(Witness { request: group.request(), before, after }));
            }
            all_same &= found.is_proven_same();
        }
        if all_same && edits.len() <= MOST_WITNESSED { Fate::Equivalent } else { Fate::Survived(None) }
    }

    fn difference(edit: &Edit, suite: &Suite, runner: &Runner) -> Option<Difference> {
        let mut values = suite.values.clone();
        edit.apply(&mut values)?;
        let document = suite.document.variant(&values).ok()?;
        runner.difference((&suite.document, &suite.values), (&document, &values)).ok()
    }

    /// Compiles the changed config, if that can be used.
    fn build(edit: &Edit, suite: &Suite, runner: &Runner) -> Option<OfflineGateway> {
        let mut values = suite.values.clone();
        edit.apply(&mut values)?;
        let document = suite.document.variant(&values).ok()?;
        runner.other(&document).ok()
    }

    /// Returns the number of mutants that a case notices.
    pub(crate) fn killed(&self) -> usize {
        self.mutants.iter().filter(|(_, fate)| matches!(fate, Fate::Killed(_))).count()
    }

    /// Returns the mutants that no case notices.
    pub(crate) fn survivors(&self) -> impl Iterator<Item = (&Mutant, Option<&Witness>)> {
        self.mutants.iter().filter_map(|(mutant, fate)| match fate {
            Fate::Survived(witness) => Some((mutant, witness.as_ref())),
            Fate::Killed(_) | Fate::Equivalent | Fate::Unusable => None,
        })
    }

    /// Returns the number of mutants that differ from the config in nothing.
    pub(crate) fn equivalent(&self) -> usize {
        self.mutants.iter().filter(|(_, fate)| matches!(fate, Fate::Equivalent)).count()
    }

    /// Returns the number of mutants that are no usable config.
    pub(crate) fn unusable(&self) -> usize {
        self.mutants.len() - self.killed() - self.equivalent() - self.survivors().count()
    }

    /// Returns the share of mutants that cases notice, in percent, rounded down.
    pub(crate) fn score(&self) -> usize {
        let (killed, survived) = (self.killed(), self.survivors().count());
        (killed * 100).checked_div(killed + survived).unwrap_or(100)
    }

    /// Returns the mutants for machines, without those that are no usable config.
    pub(crate) fn to_json(&self, suite: &Suite) -> Value {
        let mutants = self.mutants.iter().filter_map(|(mutant, fate)| {
            let (killed_by, witness) = match fate {
                Fate::Killed(case) => (Some(case), None),
                Fate::Survived(witness) => (None, witness.as_ref()),
                Fate::Equivalent => (None, None),
                Fate::Unusable => return None,
            };
            let place = suite.document.position(&mutant.place);
            let place = place.map(|(file, line, column)| json!({ "file": file, "line": line, "column": column }));
            Some(json!({
                "place": place,
                "pointer": mutant.place.pointer(),
                "change": mutant.change,
                "killed_by": killed_by,
                "equivalent": match fate {
                    Fate::Equivalent => Some(true),
                    // Without a witness it is not known.
                    Fate::Survived(None) => None,
                    _ => Some(false),
                },
                "witness": witness.map(|witness| json!({
                    "request": witness.request, "before": witness.before, "after": witness.after,
                })),
            }))
        });
        mutants.collect()
    }
}

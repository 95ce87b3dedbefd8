//! The judgement of cubes by both engines: what they decide differently is shown, and what they do not is said to be unknown.

use std::collections::BTreeSet;

use super::{
    cell::{Arrival, Cell},
    region::{Atom, Flag, Region, TextKey},
    sample::{Sequence, of_pattern},
    side::Side,
    walk::{Cube, End},
    witness::{Judged, Mint, Overrides, Witness},
    world::{FreeCondition, World},
};

/// The value of facts that are compared with each other, where none of them is given.
const ALIKE: &str = "alike";

/// The verdict of both engines on a cube.
#[derive(Debug)]
pub(super) enum Finding {
    /// They decide a request of it differently, or treat it differently.
    Shown(Box<(Witness, Judged)>),
    /// They treat all requests that were tried alike, though the rules differ; or none could be made.
    Unknown(String),
}

/// Judges the requests of cubes.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) sides: [&'a Side; 2],
    pub(super) world: &'a World,
    pub(super) mint: &'a Mint,
    pub(super) samples: usize,
}

impl Judge<'_> {
    /// Looks for a request of the cube that is decided as the rules say: served by one config and refused by the other. Where a
    /// condition is not taken apart, a request may be one of another cube, whose facts it has: it is shown only if no other is found.
    pub(super) async fn find(&self, cube: &Cube, (cell, arrival): (&Cell, &Arrival)) -> Finding {
        let expected = [cube.ends[0].serves(), cube.ends[1].serves()];
        let mut why = "both configs treat the requests that were tried alike".to_owned();
        let mut other = None;
        for overrides in self.overrides(&cube.region) {
            let witness = match Witness::of(&cube.region, (cell, arrival), self.world, &overrides) {
                Ok(witness) => witness,
                Err(reason) => {
                    reason.clone_into(&mut why);
                    continue;
                }
            };
            let Some(judged) = witness.judge(self.sides, self.mint, false).await else {
                "the token cannot be made".clone_into(&mut why);
                continue;
            };
            let served = judged.served();
            if served == expected {
                return Finding::Shown(Box::new((witness, judged)));
            }
            if served[0] != served[1] {
                other.get_or_insert_with(|| Box::new((witness, judged)));
            }
        }
        other.map_or(Finding::Unknown(why), Finding::Shown)
    }

    /// Returns values for the facts of conditions that are not taken apart; the first are those of the region itself.
    fn overrides(&self, region: &Region) -> Vec<Overrides> {
        let mut all = vec![Overrides::new()];
        let free = self.world.free.borrow();
        let conditions: Vec<_> = region
            .decided
            .iter()
            .filter_map(|(atom, _)| if let Atom::Flag(Flag::Free(name)) = atom { free.get(name) } else { None })
            .collect();
        let keys: BTreeSet<&TextKey> = conditions.iter().flat_map(|condition| &condition.reads).collect();
        if keys.is_empty() {
            return all;
        }
        // Where facts are compared with each other, those that can be chosen are what the others are, or alike.
        let alike = |condition: &FreeCondition| {
            let caller = condition.reads_caller.then(|| region.callers.sample()).flatten().map(|caller| caller.to_string());
            caller.or_else(|| condition.given.first().cloned()).unwrap_or_else(|| ALIKE.to_owned())
        };
        all.push(
            conditions.iter().flat_map(|condition| condition.reads.iter().map(|key| (key.clone(), alike(condition)))).collect(),
        );
        let mut values: Vec<String> = Vec::new();
        for given in conditions.iter().flat_map(|condition| &condition.given) {
            values.extend([given.clone(), given.to_uppercase()]);
        }
        for literal in conditions.iter().flat_map(|condition| &condition.literals) {
            values.extend([literal.clone(), format!("{literal}x"), format!("x{literal}"), literal.to_uppercase()]);
            values.extend(of_pattern(literal));
        }
        let mut sequence = Sequence::new(values.len() as u64);
        for at in 0..self.samples {
            let mut value = |key: usize| match values.get(at / keys.len().max(1)) {
                // Each literal for each fact in turn, then at random.
                Some(literal) if at % keys.len() == key => literal.clone(),
                _ if sequence.below(2) == 0 => sequence.one_of(&values).cloned().unwrap_or_else(|| sequence.text()),
                _ => sequence.text(),
            };
            all.push(keys.iter().enumerate().map(|(index, key)| ((*key).clone(), value(index))).collect());
        }
        all
    }

    /// Returns the file and the line of the last condition of a region that is not taken apart.
    pub(super) fn free_position(&self, region: &Region) -> Option<String> {
        let free = self.world.free.borrow();
        region.decided.iter().rev().find_map(|(atom, _)| match atom {
            Atom::Flag(Flag::Free(name)) => free.get(name)?.position.clone(),
            _ => None,
        })
    }
}

/// Returns the code of a predicted refusal, for what no example is found of.
pub(super) fn in_words(end: &End) -> String {
    match end {
        End::Refused(refused) => refused.code.clone(),
        End::Answered { status, .. } => format!("answered with {status}"),
        End::Sent { .. } => "served".to_owned(),
    }
}

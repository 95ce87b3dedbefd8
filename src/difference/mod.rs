//! The difference between two configs: who gains access, who loses it, and what happens otherwise than before.
//!
//! The requests are cut into cells where either config names a host, a path or a method. In each cell whose rules differ both lists of
//! policies are followed at once, entry by entry, over the facts that they look at (`walk`). Where they end differently a request with
//! exactly those facts is made and given to both engines that serve (`witness`, `judge`): only what they decide is told.

mod arrivals;
mod cell;
mod cells;
mod changes;
mod compare;
mod condition;
mod content;
mod describe;
mod group;
mod judge;
mod list_fact;
mod markdown;
mod not_compared;
mod partner;
mod region;
mod report;
mod run;
mod sample;
mod sarif;
mod side;
mod space;
mod text;
mod text_fact;
mod token;
mod treatment;
mod walk;
mod witness;
mod world;

#[cfg(test)]
mod tests;

pub use self::report::{
    Callers, Change, ChangedPlace, Condition, Difference, Group, Routes, Treatment, Unknown, Verdict, Witness,
};
pub use self::{
    compare::{Options, difference},
    side::Side,
};

//! The report: every element and expression, with its verdict.

mod entry;
mod json;
mod lints;
mod markdown;
mod registry;

pub use self::entry::{Entry, EntryKind, Lint, Need, Report, Totals, Verdict};
pub(crate) use self::{
    lints::lint,
    registry::{Judgement, Registry},
};

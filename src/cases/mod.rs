//! The test cases of a config: read, run through the engine that serves, and measured.
//!
//! A case is a request and what is expected of the gateway. Its tokens are minted and verified like any other, its time stands still,
//! and no socket is opened. [`coverage`] tells which rules no case touches, [`mutation`] which rules could be changed without
//! any case noticing.

mod check;
pub(crate) mod coverage;
mod expectation;
pub(crate) mod mutation;
mod run;
mod suite;
mod token;

pub(crate) use self::{
    check::{Case, CaseStep},
    expectation::Difference,
    run::{CaseResult, Failure, RunError, Runner},
    suite::{Suite, SuiteError},
};

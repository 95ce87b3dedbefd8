//! Translation of elements: one list of policies, in the order in which they run.

mod access;
mod backend;
mod credentials;
pub(crate) mod flow;
mod forwarding;
mod headers;
mod limits;
mod outcome;
#[cfg(test)]
mod reading_tests;
mod responses;
mod rest;
pub(crate) mod sections;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod tokens;
mod values;
mod variables;

pub(crate) use self::{
    backend::empty_answer,
    flow::Flow,
    state::{Authorization, Documents, Route, Shared, Upstream},
};

//! The estate: APIs, operations, products, subscriptions, backends and named values, whatever layout they come in.

mod apiops;
mod arm;
mod build;
mod config;
mod files;
mod folder;
mod input;
mod merge;
mod model;
pub(crate) mod named;
mod openapi;
#[cfg(test)]
mod product_tests;
mod routes;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use self::{build::build, files::gather};

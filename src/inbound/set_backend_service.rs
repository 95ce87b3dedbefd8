//! Chooses the upstream of the request.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/set-backend-service.yaml")]
//! ```
//!
//! An expression chooses from a closed list: what a caller sends can never name another destination. A value that is unavailable, or not
//! in the list, refuses with [`Reason::NotAuthorized`]. The last policy that runs decides; without any, it is the route's `upstream`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::build_context::BuildContext;
use super::settings::{DependsOn, PolicySettings};
use crate::{
    exchange::Exchange,
    expression::{EvaluationError, Expression, Facts, Template},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::Place,
    upstream::{Upstream, UpstreamRequest},
};

/// Settings of `set-backend-service`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetBackendServiceConfig {
    /// The name of an upstream, or an expression `@(…)` that makes one of those in `among`.
    pub upstream: String,
    /// The upstreams that the expression may name; only with an expression.
    #[serde(default)]
    pub among: Vec<String>,
}

impl SetBackendServiceConfig {
    /// Returns the names of the upstreams that may be chosen.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &str> {
        let fixed = self.among.is_empty().then_some(&self.upstream);
        fixed.into_iter().chain(&self.among).map(String::as_str)
    }
}

/// Chooses the upstream of the request.
#[derive(Debug)]
pub enum SetBackendService {
    /// Always this one.
    Fixed(Arc<Upstream>),
    /// One of these, by its name.
    Among(Box<Expression>, Box<[Arc<Upstream>]>),
}

impl PolicySettings for SetBackendServiceConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }
}

impl SetBackendService {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.apply(exchange, incoming)?)
    }

    pub(crate) fn build(config: &SetBackendServiceConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let at = place.key("upstream");
        let template = context.template(&config.upstream, &at);
        let among = place.key("among");
        match template? {
            Template::Literal(name) => {
                if !config.among.is_empty() {
                    context.faults.error(
                        &among,
                        "`among` is for an expression, and the upstream is written here",
                        "leave `among` out",
                    );
                    return None;
                }
                find(&name, &at, context).map(Self::Fixed)
            }
            Template::Expression(expression) => {
                if config.among.is_empty() {
                    let message = "the expression could name any upstream";
                    context.faults.error(
                        &among,
                        message,
                        "list the upstreams that may be chosen, as `among: [orders, orders-beta]`",
                    );
                    return None;
                }
                let found: Vec<_> =
                    config.among.iter().enumerate().map(|(index, name)| find(name, &among.index(index), context)).collect();
                Some(Self::Among(expression, found.into_iter().collect::<Option<_>>()?))
            }
        }
    }

    pub(crate) fn apply(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        let chosen = match self {
            Self::Fixed(upstream) => upstream,
            Self::Among(expression, among) => choose(expression, among, &exchange.facts(incoming))?,
        };
        exchange.backend = Some(chosen.clone());
        Ok(())
    }
}

fn choose<'a>(expression: &Expression, among: &'a [Arc<Upstream>], facts: &Facts<'_>) -> Result<&'a Arc<Upstream>, NotChosen> {
    let name = expression.text(facts)?;
    among.iter().find(|upstream| **upstream.name() == *name).ok_or(NotChosen::NotAmong)
}

fn find(name: &str, place: &Place, context: &mut BuildContext<'_>) -> Option<Arc<Upstream>> {
    let (upstreams, configs) = context.upstreams?;
    let found = upstreams.find(name);
    // One that is there and could not be built has been reported where it stands.
    if found.is_none() && !configs.contains_key(name) {
        let names: Vec<_> = configs.keys().map(|name| format!("`{name}`")).collect();
        let cure = if names.is_empty() { "none is defined".to_owned() } else { format!("defined are {}", names.join(", ")) };
        context.faults.error(place, format!("there is no upstream `{name}`"), cure);
    }
    found.cloned()
}

/// The reason why no upstream is chosen.
#[derive(Debug, thiserror::Error)]
enum NotChosen {
    #[error("the expression that names the upstream has no value")]
    Unavailable(#[from] EvaluationError),
    #[error("the expression names no upstream of `among`")]
    NotAmong,
}

impl From<NotChosen> for Refusal {
    fn from(error: NotChosen) -> Self {
        Self::new(Reason::NotAuthorized, error)
    }
}

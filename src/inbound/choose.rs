//! Runs the policies of the first branch whose condition is true.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/choose.yaml")]
//! ```
//!
//! Conditions are evaluated in their order, up to the first that is true. One that cannot be evaluated refuses with
//! [`Reason::NotAuthorized`], since another branch might be weaker. If none is true and there is no `otherwise`, the request
//! continues.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{
    PolicyConfig,
    build_context::BuildContext,
    list::{ListContext, PolicyList, Written},
};
use crate::{
    exchange::Exchange,
    expression::{EvaluationError, Expression},
    refusal::{
        Reason, Refusal, Stop,
        trace::{Step, Verdict},
    },
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// One branch of `choose`: `when` and `do`, or `otherwise`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BranchConfig {
    /// The condition: an expression `@(…)` that is true or false.
    pub when: Option<String>,
    /// The policies that run if it is true.
    #[serde(rename = "do")]
    pub then: Option<Vec<PolicyConfig>>,
    /// The policies that run if no condition is true; the last branch.
    pub otherwise: Option<Vec<PolicyConfig>>,
}

impl BranchConfig {
    /// Returns the policies of the branch.
    pub(crate) fn policies(&self) -> &[PolicyConfig] {
        self.then.as_deref().or(self.otherwise.as_deref()).unwrap_or_default()
    }
}

/// Runs the policies of the first branch whose condition is true.
#[derive(Debug)]
pub struct Choose {
    branches: Vec<(Expression, Branch)>,
    otherwise: Option<Branch>,
}

/// The policies of a branch.
#[derive(Debug)]
struct Branch {
    list: PolicyList,
    /// Its name in traces: `inbound[1].choose[0].do`.
    at: Arc<str>,
    place: Place,
}

impl PolicySettings for Vec<BranchConfig> {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }
}

impl Choose {
    pub(crate) fn build(
        config: &[BranchConfig],
        (place, at): (&Place, &str),
        within: ListContext<'_>,
        context: &mut BuildContext<'_>,
    ) -> Option<Self> {
        let errors = context.faults.errors();
        let mut built = Self { branches: Vec::new(), otherwise: None };
        let (before, mut after) = (context.tokens_before.clone(), context.tokens_before.clone());
        for (index, branch) in config.iter().enumerate() {
            let place = place.index(index);
            context.tokens_before.clone_from(&before);
            match branch {
                BranchConfig { when: Some(when), then: Some(then), otherwise: None } => {
                    let condition = context.condition(when, &place.key("when"));
                    let name = format!("{at}[{index}].do");
                    let list = Written { policies: then, place: place.key("do"), name: &name, shared: false, report_only: false };
                    let list = PolicyList::build(&[list], within, context);
                    let branch = Branch { list, at: name.into(), place: place.key("when") };
                    built.branches.extend(condition.map(|condition| (condition, branch)));
                }
                BranchConfig { when: None, then: None, otherwise: Some(otherwise) } if index > 0 && index + 1 == config.len() => {
                    let name = format!("{at}[{index}].otherwise");
                    let place = place.key("otherwise");
                    let list =
                        Written { policies: otherwise, place: place.clone(), name: &name, shared: false, report_only: false };
                    let list = PolicyList::build(&[list], within, context);
                    built.otherwise = Some(Branch { list, at: name.into(), place });
                }
                BranchConfig { when: None, then: None, otherwise: Some(_) } => {
                    context.faults.error(&place, "`otherwise` is not the last branch after others", "put it last");
                }
                _ => {
                    let cure = "write { when: \"@(…)\", do: […] }, or at last { otherwise: […] }";
                    context.faults.error(&place, "a branch has either `when` and `do`, or `otherwise` alone", cure);
                }
            }
            after.join(context.tokens_before);
        }
        *context.tokens_before = after;
        if config.is_empty() {
            context.faults.error(place, "there is no branch", "write { when: \"@(…)\", do: […] }");
        }
        (context.faults.errors() == errors).then_some(built)
    }

    /// Returns the lists of the branches.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &PolicyList> {
        self.branches.iter().map(|(_, branch)| branch).chain(&self.otherwise).map(|branch| &branch.list)
    }

    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        let mut chosen = self.otherwise.as_ref();
        for (condition, branch) in &self.branches {
            if condition.holds(&exchange.facts(incoming)).map_err(CannotChoose)? {
                chosen = Some(branch);
                break;
            }
        }
        let Some(Branch { list, at, place }) = chosen else { return Ok(()) };
        exchange.trace.note(|| Step::new(at.clone(), Some(place.clone()), Verdict::Passed, "this branch is taken".into()));
        list.run_within(exchange, incoming, outgoing).await
    }
}

/// An error: a condition cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[error("the condition cannot be evaluated")]
pub(crate) struct CannotChoose(#[source] pub(crate) EvaluationError);

impl From<CannotChoose> for Refusal {
    fn from(error: CannotChoose) -> Self {
        Self::new(Reason::NotAuthorized, error)
    }
}

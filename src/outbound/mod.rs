//! 7 · Outbound: the policies on the response.
//!
//! They run in the order written, on the response of the upstream or of the gateway itself, and see the original request. A
//! refusal replaces the response; `return-response` does too, and ends the list, as in API Management.

mod list;

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::list::OutboundList;
use crate::{
    exchange::Exchange,
    expression::{Expression, Facts},
    inbound::{
        choose::CannotChoose,
        return_response::{ReturnResponse, ReturnResponseConfig},
        set_header::{SetHeader, SetHeaderConfig},
    },
    refusal::{
        Refusal,
        trace::{Step, Verdict},
    },
    request::IncomingRequest,
    settings::Place,
};

/// One policy on the response: a map with one key, the policy's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutboundPolicyConfig {
    /// Sets, adds or removes a header field of the response.
    SetHeader(SetHeaderConfig),
    /// Replaces the response; the policies after it do not run.
    ReturnResponse(ReturnResponseConfig),
    /// Runs the first branch whose condition is true.
    Choose(Vec<OutboundBranchConfig>),
    /// Inserts the policies of a fragment, which must all be allowed here.
    IncludeFragment(String),
}

/// One branch of `choose`: `when` and `do`, or `otherwise`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutboundBranchConfig {
    /// The condition: an expression `@(…)` that is true or false, such as `"@(response.status >= 500)"`.
    pub when: Option<String>,
    /// The policies that run if it is true.
    #[serde(rename = "do")]
    pub then: Option<Vec<OutboundPolicyConfig>>,
    /// The policies that run if no condition is true; the last branch.
    pub otherwise: Option<Vec<OutboundPolicyConfig>>,
}

impl OutboundPolicyConfig {
    /// Returns the policy's name in the config.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SetHeader(_) => "set-header",
            Self::ReturnResponse(_) => "return-response",
            Self::Choose(_) => "choose",
            Self::IncludeFragment(_) => "include-fragment",
        }
    }
}

/// One entry of a list: the policy and its place in the config.
#[derive(Debug)]
struct OutboundPolicy {
    kind: Kind,
    /// The entry's name in audit records: `outbound[0].set-header`.
    at: Arc<str>,
    /// The place of its settings in the config.
    place: Place,
}

#[derive(Debug)]
enum Kind {
    SetHeader(SetHeader),
    ReturnResponse(Box<ReturnResponse>),
    Choose { branches: Vec<(Expression, OutboundList)>, otherwise: OutboundList },
}

/// Whether the following policies run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Goes,
    Ends,
}

impl OutboundPolicy {
    fn apply<B: From<Bytes>>(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        response: &mut Response<B>,
    ) -> Result<Flow, Refusal> {
        let result = self.change(exchange, incoming, response);
        let verdict = match &result {
            Ok(_) if matches!(self.kind, Kind::ReturnResponse(_)) => Verdict::Answered,
            Ok(_) => Verdict::Passed,
            Err(refusal) => Verdict::Refused(refusal.reason),
        };
        // A policy within this one has said so already.
        if result.is_err() && exchange.outcome.policy.is_none() {
            exchange.outcome.policy = Some(self.at.clone());
        }
        exchange.trace.note(|| Step { at: self.at.clone(), place: Some(self.place.clone()), verdict, detail: "".into() });
        result
    }

    fn change<B: From<Bytes>>(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        response: &mut Response<B>,
    ) -> Result<Flow, Refusal> {
        let status = response.status();
        match &self.kind {
            Kind::SetHeader(policy) => {
                policy.apply_to_answer(exchange, incoming, status, response.headers_mut())?;
                Ok(Flow::Goes)
            }
            Kind::ReturnResponse(policy) => {
                *response = policy.response(exchange, incoming, Some(status))?.map(B::from);
                Ok(Flow::Ends)
            }
            Kind::Choose { branches, otherwise } => {
                let mut chosen = otherwise;
                for (condition, list) in branches {
                    if holds(condition, exchange, incoming, status)? {
                        chosen = list;
                        break;
                    }
                }
                chosen.run(exchange, incoming, response)
            }
        }
    }
}

fn holds(
    condition: &Expression,
    exchange: &Exchange,
    incoming: &IncomingRequest,
    status: StatusCode,
) -> Result<bool, CannotChoose> {
    condition.holds(&Facts { status: Some(status), ..exchange.facts(incoming) }).map_err(CannotChoose)
}

//! 7 · Outbound: the policies on the response.
//!
//! They run in the order written, on the response of the upstream or of the gateway itself, and see the original request. A
//! refusal replaces the response; `return-response` does too, and ends the list, as in API Management.
//!
//! `on-error` is such a list, too, for the problem document of a refusal or fault; one of its policies that fails ends the list, and
//! the document goes out as it is by then.

mod list;

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::list::OutboundList;
use crate::{
    base::response::Response,
    exchange::Exchange,
    expression::{Expression, Facts},
    inbound::{
        choose::CannotChoose,
        return_response::{ReturnResponse, ReturnResponseConfig},
        set_body::{SetBody, SetBodyConfig},
        set_header::{SetHeader, SetHeaderConfig},
        set_status::{SetStatus, SetStatusConfig},
        set_variable::{SetVariable, SetVariableConfig},
        trace::{Trace, TraceConfig},
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
    /// Sets a variable, for the expressions of later policies.
    SetVariable(SetVariableConfig),
    /// Changes the status of the response.
    SetStatus(SetStatusConfig),
    /// Replaces the body of a refusal; only in `on-error`.
    SetBody(SetBodyConfig),
    /// Adds a note to the record of the request.
    Trace(TraceConfig),
    /// Replaces the response; the policies after it do not run.
    ReturnResponse(ReturnResponseConfig),
    /// Runs the first branch whose condition is true.
    Choose(Vec<OutboundBranchConfig>),
    /// Inserts the policies of a fragment, which must all be allowed here.
    IncludeFragment(String),
    /// Panics after it has changed the response.
    #[cfg(test)]
    Panic(String),
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
            Self::SetVariable(_) => "set-variable",
            Self::SetStatus(_) => "set-status",
            Self::SetBody(_) => "set-body",
            Self::Trace(_) => "trace",
            Self::ReturnResponse(_) => "return-response",
            Self::Choose(_) => "choose",
            Self::IncludeFragment(_) => "include-fragment",
            #[cfg(test)]
            Self::Panic(_) => "panic",
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
    SetVariable(SetVariable),
    SetStatus(SetStatus),
    SetBody(Box<SetBody>),
    Trace(Box<Trace>),
    ReturnResponse(Box<ReturnResponse>),
    Choose {
        branches: Vec<(Expression, OutboundList)>,
        otherwise: OutboundList,
    },
    #[cfg(test)]
    Panic(String),
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
        exchange.trace.note(|| Step::new(self.at.clone(), Some(self.place.clone()), verdict, "".into()));
        result
    }

    fn change<B: From<Bytes>>(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        response: &mut Response<B>,
    ) -> Result<Flow, Refusal> {
        let facts =
            Facts { status: Some(response.status()), response_headers: Some(response.headers()), ..exchange.facts(incoming) };
        match &self.kind {
            Kind::SetHeader(policy) => {
                // The value may be made of the field that it replaces.
                let before = policy.reads_answer().then(|| response.headers().clone());
                let facts = Facts { response_headers: before.as_ref(), ..exchange.facts(incoming) };
                let facts = Facts { status: Some(response.status()), ..facts };
                policy.apply_to_answer(&facts, &exchange.clock, response.headers_mut())?;
                Ok(Flow::Goes)
            }
            Kind::SetVariable(policy) => {
                exchange.variables = policy.apply(&facts)?;
                Ok(Flow::Goes)
            }
            Kind::SetStatus(policy) => {
                policy.apply(response);
                Ok(Flow::Goes)
            }
            Kind::SetBody(policy) => {
                SetBody::put(policy.make(&facts)?, response);
                Ok(Flow::Goes)
            }
            Kind::Trace(policy) => {
                if let Some(note) = policy.note(&facts) {
                    exchange.notes.add(note);
                }
                Ok(Flow::Goes)
            }
            Kind::ReturnResponse(policy) => {
                *response = policy.response(&facts)?.map(B::from);
                Ok(Flow::Ends)
            }
            Kind::Choose { branches, otherwise } => {
                let mut chosen = otherwise;
                for (condition, list) in branches {
                    if condition.holds(&facts).map_err(CannotChoose)? {
                        chosen = list;
                        break;
                    }
                }
                chosen.run(exchange, incoming, response)
            }
            #[cfg(test)]
            Kind::Panic(text) => {
                *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
                panic!("panicked over {text} of {}", incoming.target.path)
            }
        }
    }
}

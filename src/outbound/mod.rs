//! 7 · Outbound: the policies on the answer.
//!
//! They run in the order written, on the answer of the upstream or of the gateway itself, and see the request as it came.

use std::sync::Arc;

use http::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    config::Place,
    exchange::Exchange,
    inbound::{
        Scope,
        set_header::{SetHeader, SetHeaderConfig},
    },
    refusal::Refusal,
    request::IncomingRequest,
    trace::{Step, Verdict},
};

/// One policy on the answer, as written: a map with one key, the policy's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutboundPolicyConfig {
    /// Sets, adds or removes a header field of the answer.
    SetHeader(SetHeaderConfig),
}

impl OutboundPolicyConfig {
    /// The policy's name, as in the config.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SetHeader(_) => "set-header",
        }
    }
}

/// One entry of a route's `outbound`: the policy and its place in the config.
#[derive(Debug)]
pub struct OutboundPolicy {
    kind: Kind,
    /// The entry as audit records name it: `outbound[0].set-header`.
    at: Arc<str>,
}

#[derive(Debug)]
enum Kind {
    SetHeader(SetHeader),
}

impl OutboundPolicy {
    /// Builds the entry at this place of a route's `outbound`, or says why not in the scope's faults.
    pub(crate) fn build(config: &OutboundPolicyConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let place = place.key(config.name());
        let kind = match config {
            OutboundPolicyConfig::SetHeader(config) => Kind::SetHeader(SetHeader::build_for_answer(config, &place, scope)?),
        };
        let at = place.to_string();
        // The record names the route beside it.
        let at = at.find("outbound[").map_or(at.as_str(), |start| &at[start..]);
        Some(Self { kind, at: at.into() })
    }

    /// Changes the answer.
    ///
    /// # Errors
    /// The refusal that takes the answer's place, where a value for it cannot be had.
    pub(crate) fn apply<B>(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        response: &mut Response<B>,
    ) -> Result<(), Refusal> {
        let result = match &self.kind {
            Kind::SetHeader(policy) => {
                let status = response.status();
                policy.apply_to_answer(exchange, incoming, status, response.headers_mut()).map_err(Refusal::from)
            }
        };
        let verdict = match &result {
            Ok(()) => Verdict::Passed,
            Err(refusal) => {
                exchange.outcome.policy = Some(self.at.clone());
                Verdict::Refused(refusal.reason)
            }
        };
        exchange.trace.note(|| Step { at: self.at.clone(), verdict, saw: "".into() });
        result
    }
}

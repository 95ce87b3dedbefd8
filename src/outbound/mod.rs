//! 7 · Outbound: the policies on the answer.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::inbound::set_header::SetHeaderConfig;

/// One policy on the answer, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutboundPolicyConfig {
    /// Sets, adds or removes a header field of the answer.
    SetHeader(SetHeaderConfig),
}

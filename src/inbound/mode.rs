//! The mode of a policy or a route: whether its refusals are enforced.

use schemars::JsonSchema;
use serde::Deserialize;

/// Whether a refusal is enforced.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ModeConfig {
    /// A refusal ends the request.
    #[default]
    Enforce,
    /// A refusal is recorded and counted, and the request continues as if the policy had not been there.
    ReportOnly,
}

impl ModeConfig {
    /// Returns whether refusals are not enforced.
    pub(crate) fn is_report_only(self) -> bool {
        self == Self::ReportOnly
    }
}

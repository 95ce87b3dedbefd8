//! Changes the status of the answer; for `outbound` and `on-error`.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/set-status.yaml")]
//! ```

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::build_context::BuildContext;
use super::settings::PolicySettings;
use crate::{
    base::{fields::Known, response::Response},
    settings::Place,
};

/// Settings of `set-status`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetStatusConfig {
    /// The status, from 200 to 599.
    pub code: u16,
}

/// Changes the status of the answer.
#[derive(Clone, Copy, Debug)]
pub struct SetStatus(StatusCode);

impl PolicySettings for SetStatusConfig {}

impl SetStatus {
    pub(crate) fn build(config: SetStatusConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        status(config.code, &place.key("code"), context).map(Self)
    }

    pub(crate) fn apply<B: From<bytes::Bytes>>(self, response: &mut Response<B>) {
        // What follows that head is no HTTP any more.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let (before, after) = (is_bodiless(response.status()), is_bodiless(self.0));
        if before || after {
            // The length said there is of a body that is not sent (RFC 9110, section 8.6).
            response.headers_mut().remove(Known::ContentLength);
        }
        if before && !after {
            *response.body_mut() = B::from(bytes::Bytes::new());
        }
        *response.status_mut() = self.0;
    }
}

/// Reads a status of an answer.
pub(super) fn status(code: u16, place: &Place, context: &mut BuildContext<'_>) -> Option<StatusCode> {
    let status = StatusCode::from_u16(code).ok().filter(|_| (200..600).contains(&code));
    if status.is_none() {
        context.faults.error(place, format!("{code} is not a status to answer with"), "write one from 200 to 599");
    }
    status
}

/// Returns whether responses of this status have no body: RFC 9112, section 6.3.
fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{base::fields::Fields, inbound::testing::Building};

    #[test]
    fn a_status_never_announces_a_body_that_is_not_there() {
        for (before, after, length) in [(200, 404, Some("5")), (304, 200, None), (200, 204, None), (101, 200, Some("5"))] {
            let mut response = Response::new(Bytes::from_static(b"hello"));
            *response.status_mut() = StatusCode::from_u16(before).expect("a status");
            *response.headers_mut() = Fields::of(&[("content-length", "5")]);
            let config = SetStatusConfig { code: after };
            let policy = Building::default().build(|place, context| SetStatus::build(config, place, context)).expect("valid");

            policy.apply(&mut response);

            let now = if before == 101 { before } else { after };
            assert_eq!(response.status().as_u16(), now);
            assert_eq!(response.headers().get(Known::ContentLength).map(|value| value.to_str().unwrap()), length);
            assert_eq!(response.body().is_empty(), before == 304);
        }
    }
}

//! The limits of a route, which narrow those of its listeners and its upstream.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    listener::RequestBody,
    refusal::{Reason, Refusal},
    request::IncomingRequest,
    settings::{ConfigDuration, Faults, Place, Size},
};

/// The limits of a route. They narrow those of the listener; `response-timeout` replaces that of the upstream.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RouteLimitsConfig {
    /// The longest body of a request. Default: the listener's.
    pub body_bytes: Option<Size>,
    /// The longest header of a request, with its target. Default: the listener's.
    pub header_bytes: Option<Size>,
    /// The time from the request to the head of the response, in place of the upstream's `timeouts.response`.
    pub response_timeout: Option<ConfigDuration>,
    /// The longest duration of a request, streams and tunnels included. Default: the listener's.
    pub max_stream: Option<ConfigDuration>,
}

/// The limits of a route, built.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteLimits {
    body_bytes: Option<u64>,
    header_bytes: Option<u64>,
    /// The deadline of the head of a response.
    pub response_timeout: Option<Duration>,
    /// The longest duration of a request.
    pub max_stream: Option<Duration>,
}

impl RouteLimits {
    /// Reads the settings, and reports those that would refuse every request.
    pub(super) fn build(config: Option<&RouteLimitsConfig>, place: &Place, faults: &mut Faults) -> Self {
        let Some(config) = config else { return Self::default() };
        for (key, duration) in [("response-timeout", config.response_timeout), ("max-stream", config.max_stream)] {
            if duration.is_some_and(|duration| duration.0.is_zero()) {
                faults.error(&place.key(key), "no request would end in time", "write a duration, as 30s");
            }
        }
        if config.header_bytes.is_some_and(|size| size.0 == 0) {
            faults.error(&place.key("header-bytes"), "every header is longer", "write a size, as 16KiB");
        }
        Self {
            body_bytes: config.body_bytes.map(|size| size.0),
            header_bytes: config.header_bytes.map(|size| size.0),
            response_timeout: config.response_timeout.map(|duration| duration.0),
            max_stream: config.max_stream.map(|duration| duration.0),
        }
    }

    /// Holds a request to the limits of its head and body.
    ///
    /// # Errors
    /// Returns the refusal that ends the request.
    pub(crate) fn hold(&self, incoming: &IncomingRequest, body: &mut RequestBody) -> Result<(), Refusal> {
        if self.header_bytes.is_some_and(|limit| head_bytes(incoming) > limit) {
            return Err(Refusal::new(Reason::HeadersTooLarge, "the head is longer than the route's `header-bytes`"));
        }
        if let Some(limit) = self.body_bytes {
            body.limit(limit)?;
        }
        Ok(())
    }
}

/// Returns about the length of a head as HTTP/1.1 writes it, whatever version it came in.
fn head_bytes(incoming: &IncomingRequest) -> u64 {
    let fields: usize = incoming.headers.iter().map(|(name, value)| name.as_bytes().len() + value.len() + 4).sum();
    let target = incoming.target.path.len() + incoming.target.query.as_ref().map_or(0, |query| query.len() + 1);
    (incoming.method.as_str().len() + target + fields) as u64
}

//! A collector, reached over HTTP or gRPC, and what its answers mean.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use url::Url;

use super::{
    grpc::{GrpcClient, code},
    reading,
    settings::{OtlpProtocol, OtlpSettings},
};
use crate::base::error_chain::chain;

/// The longest answer that is read.
const CAP: usize = 64 << 10;
/// The most letters of a collector's reason that are told.
const TOLD: usize = 300;

/// A kind of telemetry, which collectors take at an address of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

/// The answer of a collector to an export.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was taken, but for so many spans or points, for this reason.
    Taken(Option<(u64, String)>),
    /// It will never be taken.
    Refused(String),
    /// It may be taken later: the reason, and the pause that the collector asks for.
    Later(String, Option<Duration>),
}

/// A collector.
#[derive(Debug)]
pub(super) enum Collector {
    Http { client: reqwest::Client, endpoint: Url },
    Grpc(GrpcClient),
}

impl Signal {
    /// Returns the path below the endpoint.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

impl Collector {
    /// Makes the client of a collector.
    ///
    /// # Errors
    /// Fails if TLS cannot be set up.
    pub(super) fn new(settings: &OtlpSettings) -> reqwest::Result<Self> {
        let (endpoint, headers) = (settings.endpoint.clone(), settings.headers.clone());
        if settings.protocol == OtlpProtocol::Grpc {
            return GrpcClient::new(endpoint, headers, settings.timeout).map(Self::Grpc);
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("entrada/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            .build()?;
        Ok(Self::Http { client, endpoint })
    }

    /// Sends an export once.
    pub(super) async fn send(&self, signal: Signal, body: &Bytes) -> Outcome {
        match self {
            Self::Http { client, endpoint } => over_http(client, endpoint, signal, body).await,
            Self::Grpc(client) => match client.call(signal.method(), body).await {
                Ok(reply) if reply.code == code::OK => Outcome::Taken(rejected(&reply.body)),
                // No pause is one that we choose.
                Ok(reply) if reply.is_transient() => Outcome::Later(reply.told(), reply.retry.filter(|pause| !pause.is_zero())),
                Ok(reply) => Outcome::Refused(reply.told()),
                Err(failure) => Outcome::Later(failure, None),
            },
        }
    }
}

/// Sends an export over HTTP. Only what the specification calls transient is tried again.
async fn over_http(client: &reqwest::Client, endpoint: &Url, signal: Signal, body: &Bytes) -> Outcome {
    let Ok(url) = endpoint.join(signal.path()) else { return Outcome::Refused("the address cannot be used".to_owned()) };
    let request = client.post(url).header("content-type", "application/x-protobuf").body(body.clone());
    let mut answer = match request.send().await {
        Ok(answer) => answer,
        // The address may hold what is nobody's business.
        Err(error) => return Outcome::Later(chain(&error.without_url()), None),
    };
    let status = answer.status();
    if status == StatusCode::OK {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await
            && body.len() + chunk.len() <= CAP
        {
            body.extend_from_slice(&chunk);
        }
        return Outcome::Taken(rejected(&body));
    }
    if !matches!(status.as_u16(), 429 | 502..=504) {
        return Outcome::Refused(status.to_string());
    }
    let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    Outcome::Later(status.to_string(), seconds.map(Duration::from_secs))
}

/// Returns the number that a collector did not take, and its reason.
fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let rejected = reading::rejected(answer)?;
    let reason = String::from_utf8_lossy(rejected.reason);
    Some((rejected.count, reason.chars().filter(|letter| !letter.is_control()).take(TOLD).collect()))
}

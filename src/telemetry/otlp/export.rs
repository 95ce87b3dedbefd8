//! The task that sends spans and metrics.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{
    metrics::{self, Period},
    protobuf::Message,
    settings::OtlpSettings,
    traces::Traces,
};

/// The time between two exports of spans: OpenTelemetry's default.
const SPANS_EVERY: Duration = Duration::from_secs(5);
/// The attempts for one export, and the pause after the first.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Writes the current metrics in Prometheus' text format.
pub type Source = Box<dyn Fn() -> String + Send + Sync>;

/// An exporter, before it runs.
pub struct Exporter {
    settings: OtlpSettings,
    client: reqwest::Client,
    traces: Option<Arc<Traces>>,
    source: Source,
    started: u64,
}

/// Shows no header: these carry credentials.
impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Makes an exporter of these traces and metrics.
    ///
    /// # Errors
    /// Fails if TLS cannot be set up.
    pub fn new(settings: OtlpSettings, traces: Option<Arc<Traces>>, source: Source) -> reqwest::Result<Self> {
        let product = concat!("entrada/", env!("CARGO_PKG_VERSION"));
        let client = reqwest::Client::builder()
            .user_agent(product)
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(settings.headers.clone())
            .build()?;
        Ok(Self { settings, client, traces, source, started: now() })
    }

    /// Exports until it is told to stop, and then what is left; drops what came with the word when that is done.
    pub async fn run(self, mut stop: oneshot::Receiver<mpsc::Sender<()>>) {
        let every = self.settings.metrics;
        let mut spans_at = Instant::now() + SPANS_EVERY;
        let mut metrics_at = every.map(|every| Instant::now() + every);
        loop {
            let next = metrics_at.map_or(spans_at, |at| at.min(spans_at));
            let stopped = tokio::select! {
                () = sleep_until(next) => None,
                stopped = &mut stop => Some(stopped),
            };
            if stopped.is_some() || Instant::now() >= spans_at {
                self.export_spans().await;
                spans_at = Instant::now() + SPANS_EVERY;
            }
            if let (Some(at), Some(every)) = (metrics_at, every)
                && (stopped.is_some() || Instant::now() >= at)
            {
                self.export_metrics().await;
                metrics_at = Some(Instant::now() + every);
            }
            if let Some(receipt) = stopped {
                drop(receipt);
                return;
            }
        }
    }

    async fn export_spans(&self) {
        let Some(traces) = &self.traces else { return };
        for spans in traces.take() {
            let body = self.wrapped(|scope| {
                scope.fields(&spans.bytes);
            });
            if self.send("v1/traces", body).await {
                traces.export_spans(spans.count);
            } else {
                traces.drop_spans(spans.count);
            }
        }
    }

    async fn export_metrics(&self) {
        let period = Period { from: self.started, until: now() };
        let text = (self.source)();
        self.send("v1/metrics", self.wrapped(|scope| metrics::write(scope, &text, period))).await;
    }

    /// Writes an export request: the resource, our scope, and what belongs to it. Those of traces and of metrics differ in that alone.
    fn wrapped(&self, write: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut request = Message::default();
        request.message(1, |resource| {
            resource.message(1, |resource| {
                for (key, value) in &self.settings.resource {
                    resource.attribute(1, key, value);
                }
            });
            resource.message(2, |scope| {
                scope.message(1, |scope| {
                    scope.text(1, "entrada").text(2, env!("CARGO_PKG_VERSION"));
                });
                write(scope);
            });
        });
        request.into_bytes()
    }

    /// Sends an export; returns whether the collector has taken it. Only what the specification calls transient is tried again.
    async fn send(&self, path: &str, body: Vec<u8>) -> bool {
        let Ok(url) = self.settings.endpoint.join(path) else { return false };
        let body = bytes::Bytes::from(body);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let request = self.client.post(url.clone()).header("content-type", "application/x-protobuf").body(body.clone());
            let failure = match request.send().await {
                Ok(answer) if answer.status() == StatusCode::OK => return true,
                Ok(answer) => {
                    let status = answer.status();
                    let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                    if !matches!(status.as_u16(), 429 | 502..=504) {
                        tracing::warn!(path, %status, "the collector refused an export, which was dropped");
                        return false;
                    }
                    pause = seconds.map_or(pause, Duration::from_secs).min(LONGEST_PAUSE);
                    status.to_string()
                }
                // The address may hold what is nobody's business.
                Err(error) => crate::base::error_chain::chain(&error.without_url()),
            };
            if attempt == ATTEMPTS {
                tracing::warn!(path, failure, "the collector cannot be reached, and an export was dropped");
                return false;
            }
            sleep(pause).await;
            pause *= 2;
        }
        false
    }
}

/// Returns nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}

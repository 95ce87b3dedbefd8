//! The task that sends spans and metrics.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{
    collector::{Collector, Outcome, Signal},
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
/// The most bytes of metrics in one export, unless a single metric has more: collectors take messages of 4 MiB over gRPC.
const MOST: usize = 3_500_000;

/// Writes the current metrics in Prometheus' text format.
pub type Source = Box<dyn Fn() -> String + Send + Sync>;

/// An exporter, before it runs.
pub struct Exporter {
    settings: OtlpSettings,
    collector: Collector,
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
        let collector = Collector::new(&settings)?;
        Ok(Self { settings, collector, traces, source, started: now() })
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
            let taken = self.send(Signal::Traces, body, spans.count).await;
            traces.export_spans(taken);
            traces.drop_spans(spans.count - taken);
        }
    }

    async fn export_metrics(&self) {
        let period = Period { from: self.started, until: now() };
        for metrics in metrics::write(&(self.source)(), period, MOST) {
            let body = self.wrapped(|scope| {
                scope.fields(&metrics);
            });
            self.send(Signal::Metrics, body, u64::MAX).await;
        }
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

    /// Sends an export of `count` spans or points, again where that may help; returns how many of them the collector has taken.
    async fn send(&self, signal: Signal, body: Vec<u8>, count: u64) -> u64 {
        let path = signal.path();
        let body = bytes::Bytes::from(body);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            match self.collector.send(signal, &body).await {
                Outcome::Taken(None) => return count,
                Outcome::Taken(Some((rejected, reason))) => {
                    tracing::warn!(path, rejected, reason, "the collector rejected a part of an export, which was dropped");
                    return count.saturating_sub(rejected);
                }
                Outcome::Refused(status) => {
                    tracing::warn!(path, %status, "the collector refused an export, which was dropped");
                    return 0;
                }
                Outcome::Later(failure, _) if attempt == ATTEMPTS => {
                    tracing::warn!(path, failure, "the collector cannot be reached, and an export was dropped");
                    return 0;
                }
                Outcome::Later(_, asked) => {
                    pause = asked.unwrap_or(pause).min(LONGEST_PAUSE);
                    sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        0
    }
}

/// Returns nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}

//! Metrics: per-worker counters, summed when they are read.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{base::lock::lock, refusal::Reason};

/// The upper bounds of the duration histogram, in microseconds.
const BUCKETS: [u64; 12] = [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

const OUTCOMES: usize = Reason::ALL.len() + 1;

/// The route name for requests that no route matched.
pub(crate) const NO_ROUTE: &str = "";

/// The counters of one worker for one route. Only that worker writes to them, so that cores do not contend.
#[derive(Debug)]
pub struct Counters {
    outcomes: [AtomicU64; OUTCOMES],
    durations: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            durations: std::array::from_fn(|_| AtomicU64::new(0)),
            microseconds: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Counts one request.
    pub fn count(&self, reason: Option<Reason>, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| microseconds <= *bound).unwrap_or(BUCKETS.len());
        self.outcomes[reason.map_or(0, |reason| reason as usize + 1)].fetch_add(1, Ordering::Relaxed);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }
}

/// All counters, by route and worker. They live as long as the process, so that a reload does not reset them.
#[derive(Debug, Default)]
pub struct Metrics {
    routes: ByName,
    partners: ByName,
}

/// The counters of each worker, by the name of the counted route or partner.
type ByName = Mutex<BTreeMap<Arc<str>, Arc<[Counters]>>>;

impl Metrics {
    /// Returns the counters of a route, one for each worker.
    pub fn route(&self, name: &str, workers: usize) -> Arc<[Counters]> {
        counters(&self.routes, name, workers)
    }

    /// Returns the counters of a partner, one for each worker.
    pub fn partner(&self, name: &str, workers: usize) -> Arc<[Counters]> {
        counters(&self.partners, name, workers)
    }

    /// Writes the request metrics.
    pub fn write(&self, text: &mut MetricsText) {
        let routes = lock(&self.routes);
        text.family("entrada_requests_total", "counter", "Requests by route, decision and refusal code.");
        write_outcomes(text, "entrada_requests_total", "route", &routes);
        let partners = lock(&self.partners);
        text.family("entrada_partner_requests_total", "counter", "Requests by partner, decision and refusal code.");
        write_outcomes(text, "entrada_partner_requests_total", "partner", &partners);
        drop(partners);
        text.family("entrada_request_duration_seconds", "histogram", "Time from a request's head to the end of its answer.");
        for (route, workers) in routes.iter() {
            let mut sum = 0;
            for (index, bound) in BUCKETS.iter().map(Some).chain([None]).enumerate() {
                sum += workers.iter().map(|counters| counters.durations[index].load(Ordering::Relaxed)).sum::<u64>();
                let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| seconds(*bound));
                text.sample("entrada_request_duration_seconds_bucket", &[("route", route), ("le", &bound)], sum);
            }
            let total: u64 = workers.iter().map(|counters| counters.microseconds.load(Ordering::Relaxed)).sum();
            text.sample("entrada_request_duration_seconds_sum", &[("route", route)], seconds(total));
            text.sample("entrada_request_duration_seconds_count", &[("route", route)], sum);
        }
    }
}

fn counters(all: &ByName, name: &str, workers: usize) -> Arc<[Counters]> {
    let mut all = lock(all);
    if let Some(counters) = all.get(name) {
        return counters.clone();
    }
    let counters: Arc<[Counters]> = (0..workers).map(|_| Counters::default()).collect();
    all.insert(name.into(), counters.clone());
    counters
}

fn write_outcomes(text: &mut MetricsText, family: &str, label: &str, all: &BTreeMap<Arc<str>, Arc<[Counters]>>) {
    for (name, workers) in all {
        for outcome in 0..OUTCOMES {
            let count: u64 = workers.iter().map(|counters| counters.outcomes[outcome].load(Ordering::Relaxed)).sum();
            if count > 0 {
                let reason = outcome.checked_sub(1).map(|index| Reason::ALL[index]);
                let decision = match reason {
                    None => "allow",
                    Some(reason) if reason.status().is_server_error() => "error",
                    Some(_) => "deny",
                };
                let code = reason.map_or("", Reason::code);
                text.sample(family, &[(label, name), ("decision", decision), ("code", code)], count);
            }
        }
    }
}

fn seconds(microseconds: u64) -> String {
    (std::time::Duration::from_micros(microseconds).as_secs_f64()).to_string()
}

/// Metrics in Prometheus' text format, under construction.
#[derive(Debug, Default)]
pub struct MetricsText(String);

impl MetricsText {
    /// Begins a family: its name, type (`counter`, `gauge`, `histogram`) and help text.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Writes one sample. Labels come from the config, never from a caller.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for letter in text.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    letter => self.0.push(letter),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Returns the whole text.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_and_labels_escaped() {
        let metrics = Metrics::default();
        let counters = metrics.route("a\"b", 2);
        counters[0].count(None, Duration::from_millis(1));
        counters[1].count(None, Duration::from_millis(1));
        counters[1].count(Some(Reason::TokenExpired), Duration::from_secs(60));

        let mut text = MetricsText::default();
        metrics.write(&mut text);
        let text = text.into_string();

        assert!(text.contains("entrada_requests_total{route=\"a\\\"b\",decision=\"allow\",code=\"\"} 2\n"), "{text}");
        assert!(text.contains("entrada_requests_total{route=\"a\\\"b\",decision=\"deny\",code=\"token-expired\"} 1\n"), "{text}");
        assert!(text.contains("entrada_request_duration_seconds_bucket{route=\"a\\\"b\",le=\"0.001\"} 2\n"), "{text}");
        assert!(text.contains("entrada_request_duration_seconds_bucket{route=\"a\\\"b\",le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("entrada_request_duration_seconds_sum{route=\"a\\\"b\"} 60.002\n"), "{text}");
    }
}

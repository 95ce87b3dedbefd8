//! Metrics: per-worker counters, summed when they are read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{
    exposition::MetricsText,
    requests::{self, ByPartner, ByRoute, Counters, DecisionCounts, Decisions},
};
use crate::base::lock::lock;

/// The route name for requests that no route matched.
pub(crate) const NO_ROUTE: &str = "";

/// All counters, by route and worker. They live as long as the process, so that a reload does not reset them.
#[derive(Debug, Default)]
pub struct Metrics {
    routes: Mutex<ByRoute>,
    partners: Mutex<ByPartner>,
}

impl Metrics {
    /// Returns the counters of a route, one for each worker.
    pub fn route(&self, name: &str, workers: usize) -> Arc<[Counters]> {
        counters(&self.routes, name, workers)
    }

    /// Returns the counters of a partner, one for each worker.
    pub fn partner(&self, name: &str, workers: usize) -> Arc<[Decisions]> {
        counters(&self.partners, name, workers)
    }

    /// Returns the number of requests so far, by decision, and of those under way.
    pub fn totals(&self) -> (DecisionCounts, u64) {
        let routes = lock(&self.routes);
        let counts = DecisionCounts::of(routes.values().flat_map(|workers| Counters::by_reason(workers)));
        (counts, requests::active(&routes))
    }

    /// Writes the request metrics.
    pub fn write(&self, text: &mut MetricsText) {
        requests::write(text, &lock(&self.routes));
        requests::write_partners(text, &lock(&self.partners));
    }
}

fn counters<T: Default>(all: &Mutex<BTreeMap<Arc<str>, Arc<[T]>>>, name: &str, workers: usize) -> Arc<[T]> {
    let mut all = lock(all);
    if let Some(counters) = all.get(name) {
        return counters.clone();
    }
    let counters: Arc<[T]> = (0..workers).map(|_| T::default()).collect();
    all.insert(name.into(), counters.clone());
    counters
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode};

    use super::*;
    use crate::{refusal::Reason, telemetry::Counted};

    fn written(metrics: &Metrics) -> String {
        let mut text = MetricsText::default();
        metrics.write(&mut text);
        text.into_string()
    }

    #[test]
    fn workers_are_summed_and_labels_escaped() {
        let metrics = Metrics::default();
        let counters = metrics.route("a\"b", 2);
        let fine = Counted {
            method: Some(&Method::GET),
            status: Some(StatusCode::OK),
            duration: Duration::from_millis(1),
            policies: Duration::from_micros(250),
            bytes_out: 2_000,
            ..Counted::default()
        };
        counters[0].count(&fine);
        counters[1].count(&fine);
        let expired = Counted {
            status: Some(StatusCode::UNAUTHORIZED),
            reason: Some(Reason::TokenExpired),
            duration: Duration::from_secs(60),
            ..fine
        };
        counters[1].count(&expired);

        let text = written(&metrics);

        let labels = "http_route=\"a\\\"b\",http_request_method=\"GET\",http_response_status_code";
        for expected in [
            "entrada_decisions_total{route=\"a\\\"b\",decision=\"allow\",code=\"\"} 2\n",
            "entrada_decisions_total{route=\"a\\\"b\",decision=\"deny\",code=\"token-expired\"} 1\n",
            &format!("http_server_request_duration_seconds_bucket{{{labels}=\"200\",le=\"0.001\"}} 2\n"),
            &format!("http_server_request_duration_seconds_bucket{{{labels}=\"401\",le=\"10\"}} 0\n"),
            &format!("http_server_request_duration_seconds_bucket{{{labels}=\"401\",le=\"+Inf\"}} 1\n"),
            &format!("http_server_request_duration_seconds_sum{{{labels}=\"401\"}} 60\n"),
            &format!("http_server_response_body_size_bytes_bucket{{{labels}=\"200\",le=\"1024\"}} 0\n"),
            &format!("http_server_response_body_size_bytes_sum{{{labels}=\"200\"}} 4000\n"),
            "entrada_policies_duration_seconds_sum{route=\"a\\\"b\"} 0.00075\n",
            "entrada_policies_duration_seconds_count{route=\"a\\\"b\"} 3\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn a_route_without_requests_costs_one_line() {
        let metrics = Metrics::default();
        metrics.route("idle", 16);

        let text = written(&metrics);

        assert_eq!(text.lines().filter(|line| line.contains("idle")).count(), 1, "{text}");
    }

    #[test]
    fn a_partner_has_its_decisions_and_its_last_call() {
        let metrics = Metrics::default();
        let counters = metrics.partner("fabrikam", 2);
        counters[0].count(None, 7);
        counters[1].count(Some(Reason::QuotaExceeded), 9);

        let text = written(&metrics);

        for expected in [
            "entrada_partner_decisions_total{partner=\"fabrikam\",decision=\"allow\",code=\"\"} 1\n",
            "entrada_partner_decisions_total{partner=\"fabrikam\",decision=\"deny\",code=\"quota-exceeded\"} 1\n",
            "entrada_partner_last_seen_timestamp_seconds{partner=\"fabrikam\"} 9\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}

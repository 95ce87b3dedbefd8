//! The counters of requests: for each worker and route, by method, status and reason.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use serde::Serialize;

use super::exposition::{MetricsText, seconds};
use crate::{
    base::counts::{DURATIONS, Durations, OTHER_METHOD, SIZES, SeriesList, Sizes, method_label, method_number},
    base::lock::lock,
    refusal::Reason,
};

/// The most combinations of method, status and reason of a route and a worker.
const MOST: usize = 96;

/// The counts of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted<'a> {
    /// The method, once the head was read.
    pub method: Option<&'a Method>,
    /// The status, if a response was sent.
    pub status: Option<StatusCode>,
    /// The reason of a refusal.
    pub reason: Option<Reason>,
    /// The time from the head to the end of the response.
    pub duration: Duration,
    /// The part of it that the policies took.
    pub policies: Duration,
    /// The bytes of the request's body.
    pub bytes_in: u64,
    /// The bytes of the response's body.
    pub bytes_out: u64,
}

/// Method, status and reason, each by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(u32);

impl Key {
    fn of(counted: &Counted<'_>) -> Self {
        let method = counted.method.map_or(OTHER_METHOD, |method| method_number(method.as_str()));
        let status = counted.status.map_or(0, |status| status.as_u16());
        let reason = counted.reason.map_or(0, |reason| reason as u32 + 1);
        Self(reason << 16 | u32::from(status) << 4 | method)
    }

    /// Returns the key of requests of whatever method and status, for this one's reason.
    const fn without_labels(self) -> Self {
        Self(self.0 & !0xFFFF | OTHER_METHOD)
    }

    fn method(self) -> &'static str {
        method_label(self.0 & 0xF)
    }

    /// Returns the status, 0 if none was sent.
    const fn status(self) -> u16 {
        (self.0 >> 4 & 0xFFF) as u16
    }

    fn reason(self) -> Option<Reason> {
        (self.0 >> 16).checked_sub(1).and_then(|index| Reason::ALL.get(index as usize)).copied()
    }
}

/// The requests of one combination.
#[derive(Debug, Default)]
struct Requests {
    durations: Durations,
    request_bodies: Sizes,
    response_bodies: Sizes,
}

/// The counters of one worker for one route. Only that worker writes to them, so that cores do not contend.
#[derive(Debug, Default)]
pub struct Counters {
    requests: SeriesList<Requests>,
    /// The time that policies took, in microseconds.
    policies: AtomicU64,
    /// The number of requests under way. Counted for requests without a route alone, which every request begins as.
    active: AtomicI64,
    /// The refusals that were not enforced. Whoever reads them is the only other one that locks it.
    would_deny: Mutex<Vec<WouldDenyCount>>,
}

/// The refusals of one policy that were not enforced, by code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WouldDenyCount {
    /// The entry, such as `inbound[1].ip-filter`.
    pub policy: Arc<str>,
    /// The code of the refusal.
    pub code: Box<str>,
    /// The number of requests.
    pub count: u64,
}

impl Counters {
    /// Counts one request.
    pub fn count(&self, counted: &Counted<'_>) {
        let key = Key::of(counted);
        let requests = self.requests.of(key.0, MOST, key.without_labels().0);
        requests.durations.count_duration(counted.duration);
        requests.request_bodies.count(counted.bytes_in, &SIZES);
        requests.response_bodies.count(counted.bytes_out, &SIZES);
        let policies = u64::try_from(counted.policies.as_micros()).unwrap_or(u64::MAX);
        self.policies.fetch_add(policies, Ordering::Relaxed);
    }

    /// Counts a refusal that was not enforced.
    pub fn count_would_deny(&self, policy: &Arc<str>, code: &str) {
        let mut counts = lock(&self.would_deny);
        match counts.iter_mut().find(|known| known.policy == *policy && *known.code == *code) {
            Some(known) => known.count += 1,
            None => counts.push(WouldDenyCount { policy: policy.clone(), code: code.into(), count: 1 }),
        }
    }

    /// Returns the number of requests of all workers by their reason; those without one were allowed.
    pub fn by_reason(workers: &[Self]) -> BTreeMap<Option<Reason>, u64> {
        let mut counts = BTreeMap::new();
        for (key, requests) in workers.iter().flat_map(|counters| counters.requests.iter()) {
            let (buckets, _) = requests.durations.read();
            *counts.entry(Key(key).reason()).or_default() += buckets.iter().sum::<u64>();
        }
        counts
    }

    /// Returns the refusals of all workers that were not enforced, by policy and code.
    pub fn would_deny(workers: &[Self]) -> Vec<WouldDenyCount> {
        let mut sum = BTreeMap::<(Arc<str>, Box<str>), u64>::new();
        for counters in workers {
            for WouldDenyCount { policy, code, count } in lock(&counters.would_deny).iter() {
                *sum.entry((policy.clone(), code.clone())).or_default() += count;
            }
        }
        sum.into_iter().map(|((policy, code), count)| WouldDenyCount { policy, code, count }).collect()
    }

    /// Notes that a request has begun.
    pub fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request has ended.
    pub fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of requests by decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecisionCounts {
    /// Those that were allowed.
    pub allowed: u64,
    /// Those that were refused: `deny` in their records.
    pub refused: u64,
    /// Those that the gateway failed to serve: `error` in their records.
    pub failed: u64,
}

impl DecisionCounts {
    /// Counts requests by their reason.
    pub fn of(counts: impl IntoIterator<Item = (Option<Reason>, u64)>) -> Self {
        let mut sum = Self::default();
        for (reason, count) in counts {
            match reason {
                None => sum.allowed += count,
                Some(reason) if reason.status().is_server_error() => sum.failed += count,
                Some(_) => sum.refused += count,
            }
        }
        sum
    }
}

/// The number of requests by decision, for a partner.
#[derive(Debug)]
pub struct Decisions {
    by_reason: [AtomicU64; Reason::ALL.len() + 1],
    /// The time of the last request, in seconds since 1970.
    last_seen: AtomicU64,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { by_reason: std::array::from_fn(|_| AtomicU64::new(0)), last_seen: AtomicU64::new(0) }
    }
}

impl Decisions {
    /// Counts one request that ended at this time, in seconds since 1970.
    pub fn count(&self, reason: Option<Reason>, now: u64) {
        self.by_reason[reason.map_or(0, |reason| reason as usize + 1)].fetch_add(1, Ordering::Relaxed);
        self.last_seen.store(now, Ordering::Relaxed);
    }

    /// Returns the number of requests of all workers by decision, and the time of the last one, in seconds since 1970; 0 without one.
    pub fn sum(workers: &[Self]) -> (DecisionCounts, u64) {
        let reasons = std::iter::once(None).chain(Reason::ALL.iter().copied().map(Some));
        let count = |index: usize| workers.iter().map(|own| own.by_reason[index].load(Ordering::Relaxed)).sum();
        let counts = DecisionCounts::of(reasons.enumerate().map(|(index, reason)| (reason, count(index))));
        (counts, workers.iter().map(|own| own.last_seen.load(Ordering::Relaxed)).max().unwrap_or_default())
    }
}

/// Returns `allow`, `deny` or `error`.
pub(crate) fn decision(reason: Option<Reason>) -> &'static str {
    match reason {
        None => "allow",
        Some(reason) if reason.status().is_server_error() => "error",
        Some(_) => "deny",
    }
}

/// The sum of some histograms.
#[derive(Clone, Debug)]
struct Sum<const N: usize> {
    buckets: [u64; N],
    sum: u64,
}

impl<const N: usize> Default for Sum<N> {
    fn default() -> Self {
        Self { buckets: [0; N], sum: 0 }
    }
}

impl<const N: usize> Sum<N> {
    fn add(&mut self, (buckets, sum): ([u64; N], u64)) {
        self.sum += sum;
        self.buckets.iter_mut().zip(buckets).for_each(|(all, own)| *all += own);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The counters of each worker, by the name of the route.
pub(super) type ByRoute = BTreeMap<Arc<str>, Arc<[Counters]>>;
/// The counters of each worker, by the name of the partner.
pub(super) type ByPartner = BTreeMap<Arc<str>, Arc<[Decisions]>>;

/// Writes the metrics of requests.
pub(super) fn write(text: &mut MetricsText, routes: &ByRoute) {
    decisions(text, routes);
    would_deny(text, routes);
    let durations = |requests: &Requests| requests.durations.read();
    let name = "http_server_request_duration_seconds";
    text.family(name, "histogram", "Time from a request's head to the end of its response.");
    histograms(text, name, routes, durations, seconds, &DURATIONS);
    let bytes = |bytes: u64| bytes.to_string();
    let name = "http_server_request_body_size_bytes";
    text.family(name, "histogram", "Bytes of requests' bodies.");
    histograms(text, name, routes, |requests| requests.request_bodies.read(), bytes, &SIZES);
    let name = "http_server_response_body_size_bytes";
    text.family(name, "histogram", "Bytes of responses' bodies that were sent.");
    histograms(text, name, routes, |requests| requests.response_bodies.read(), bytes, &SIZES);
    text.family("http_server_active_requests", "gauge", "Requests that are under way, tunnels included.");
    text.sample("http_server_active_requests", &[], active(routes));
    policies(text, routes);
}

/// Returns the number of requests under way.
pub(super) fn active(routes: &ByRoute) -> u64 {
    let active: i64 = routes.values().flat_map(|workers| workers.iter()).map(|own| own.active.load(Ordering::Relaxed)).sum();
    active.try_into().unwrap_or_default()
}

/// Writes the decisions. A route that never carried a request has one line here, and none elsewhere.
fn decisions(text: &mut MetricsText, routes: &ByRoute) {
    let name = "entrada_decisions_total";
    text.family(name, "counter", "Requests by route, decision and refusal code.");
    for (route, workers) in routes {
        let mut counts = Counters::by_reason(workers);
        counts.entry(None).or_default();
        for (reason, count) in counts {
            let code = reason.map_or("", Reason::code);
            text.sample(name, &[("route", route), ("decision", decision(reason)), ("code", code)], count);
        }
    }
}

/// Writes the refusals that were not enforced.
fn would_deny(text: &mut MetricsText, routes: &ByRoute) {
    let name = "entrada_would_deny_total";
    text.family(name, "counter", "Refusals of report-only policies, which were not enforced, by route, policy and code.");
    for (route, workers) in routes {
        for WouldDenyCount { policy, code, count } in Counters::would_deny(workers) {
            text.sample(name, &[("route", &**route), ("policy", &*policy), ("code", &*code)], count);
        }
    }
}

fn histograms<const N: usize>(
    text: &mut MetricsText,
    name: &str,
    routes: &ByRoute,
    read: impl Fn(&Requests) -> ([u64; N], u64),
    shown: impl Fn(u64) -> String,
    bounds: &[u64],
) {
    for (route, workers) in routes {
        let mut sums = BTreeMap::<(&str, u16), Sum<N>>::new();
        for (key, requests) in workers.iter().flat_map(|counters| counters.requests.iter()) {
            sums.entry((Key(key).method(), Key(key).status())).or_default().add(read(requests));
        }
        for ((method, status), sum) in sums {
            let status = if status == 0 { String::new() } else { status.to_string() };
            let labels = [("http_route", &**route), ("http_request_method", method), ("http_response_status_code", &*status)];
            let bounds = bounds.iter().map(|bound| shown(*bound));
            text.histogram(name, &labels, bounds.zip(sum.buckets), sum.count(), shown(sum.sum));
        }
    }
}

fn policies(text: &mut MetricsText, routes: &ByRoute) {
    let name = "entrada_policies_duration_seconds";
    text.family(name, "summary", "Time until the policies of a route had run, or one of them had ended the request.");
    for (route, workers) in routes {
        let requests = workers.iter().flat_map(|counters| counters.requests.iter());
        let count: u64 = requests.map(|(_, requests)| requests.durations.read().0.iter().sum::<u64>()).sum();
        if count > 0 {
            let sum = workers.iter().map(|counters| counters.policies.load(Ordering::Relaxed)).sum();
            text.sample("entrada_policies_duration_seconds_sum", &[("route", route)], seconds(sum));
            text.sample("entrada_policies_duration_seconds_count", &[("route", route)], count);
        }
    }
}

/// Writes the metrics of partners' requests.
pub(super) fn write_partners(text: &mut MetricsText, partners: &ByPartner) {
    let name = "entrada_partner_decisions_total";
    text.family(name, "counter", "Requests by partner, decision and refusal code.");
    for (partner, workers) in partners {
        for index in 0..=Reason::ALL.len() {
            let count: u64 = workers.iter().map(|decisions| decisions.by_reason[index].load(Ordering::Relaxed)).sum();
            let reason = index.checked_sub(1).map(|index| Reason::ALL[index]);
            if count > 0 || reason.is_none() {
                let code = reason.map_or("", Reason::code);
                text.sample(name, &[("partner", partner), ("decision", decision(reason)), ("code", code)], count);
            }
        }
    }
    let name = "entrada_partner_last_seen_timestamp_seconds";
    text.family(name, "gauge", "Time of the partner's last request.");
    for (partner, workers) in partners {
        let (_, last_seen) = Decisions::sum(workers);
        if last_seen > 0 {
            text.sample(name, &[("partner", partner)], last_seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_what_it_was_made_of() {
        for (method, label) in [("GET", "GET"), ("PATCH", "PATCH"), ("BREW", "_OTHER")] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            for reason in [None, Reason::ALL.first().copied(), Reason::ALL.last().copied()] {
                for status in [None, Some(StatusCode::OK), StatusCode::from_u16(999).ok()] {
                    let key = Key::of(&Counted { method: Some(&method), status, reason, ..Counted::default() });

                    assert_eq!((key.method(), key.reason()), (label, reason));
                    assert_eq!(key.status(), status.map_or(0, |status| status.as_u16()));
                    assert_eq!((key.without_labels().method(), key.without_labels().reason()), ("_OTHER", reason));
                    assert_eq!(key.without_labels().status(), 0);
                }
            }
        }
    }

    #[test]
    fn a_server_that_answers_with_every_status_takes_no_more_series() {
        let counters = Counters::default();
        for status in 100..1_000 {
            let status = StatusCode::from_u16(status).ok();
            counters.count(&Counted { method: Some(&Method::GET), status, ..Counted::default() });
        }

        assert_eq!(counters.requests.iter().count(), MOST + 1);
        let routes = BTreeMap::from([("r".into(), [counters].into())]);
        let mut text = MetricsText::default();
        write(&mut text, &routes);
        assert!(text.into_string().contains("entrada_decisions_total{route=\"r\",decision=\"allow\",code=\"\"} 900\n"));
    }
}

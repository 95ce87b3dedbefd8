//! `/api/routes`: the routes with their policies in words and their counts, searched and in pages.

use std::cmp::Reverse;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Admin, shown::ShownRoute};
use crate::{
    route::{Action, Route},
    telemetry::{Counters, DecisionCounts, WouldDenyCount, decision},
};

/// The number of routes in a page if the question does not say, and the most.
const USUAL_LIMIT: usize = 50;
const MOST: usize = 200;
/// The number of refusal codes of a route that are listed, the most frequent ones.
const CODES: usize = 5;

/// The question.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Question {
    /// Part of a name, a host, a path, a policy in words or an upstream, without regard to case.
    text: String,
    /// The name of one route.
    name: Option<String>,
    offset: usize,
    limit: Option<usize>,
    order: Order,
}

/// The order of the routes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Order {
    /// As in the config.
    #[default]
    Config,
    /// By name.
    Name,
    /// The most frequently called first.
    Requests,
    /// The most frequently refused first.
    Refused,
    /// Those with most refusals that were not enforced first.
    WouldDeny,
}

/// A page of routes.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    /// The number of all routes, and of those that the question means.
    total: usize,
    matching: usize,
    offset: usize,
    routes: Vec<RouteRow>,
}

/// A route.
#[derive(Debug, Serialize)]
pub(super) struct RouteRow {
    name: String,
    /// `report-only`, if no policy of the route's own refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(flatten)]
    shown: ShownRoute,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstreams: Vec<String>,
    /// The requests since the process began.
    #[serde(flatten)]
    counts: DecisionCounts,
    /// The refusals of report-only policies.
    would_deny: u64,
    /// The most frequent codes of refusals and failures.
    codes: Vec<Code>,
}

/// The refusals with one code.
#[derive(Debug, Serialize)]
struct Code {
    code: &'static str,
    /// `deny` or `error`, as in records.
    decision: &'static str,
    count: u64,
}

/// Answers with a page of routes.
pub(super) async fn routes(State(admin): State<Admin>, question: Result<Query<Question>, QueryRejection>) -> Response {
    match question {
        Ok(Query(question)) => Json(admin.route_page(&question)).into_response(),
        Err(rejection) => (StatusCode::BAD_REQUEST, format!("{}\n", rejection.body_text())).into_response(),
    }
}

/// The numbers by which routes are put in order.
struct Counted {
    index: usize,
    counts: DecisionCounts,
    would_deny: u64,
}

impl Admin {
    fn route_page(&self, question: &Question) -> Page {
        let (runtime, shown) = (self.runtime.load_full(), self.shown.load_full());
        let wanted = question.text.to_lowercase();
        // Between the two a reload may have come: a route that only one of them has waits for the next question.
        let mut matching: Vec<_> = runtime
            .routes
            .iter()
            .zip(&shown.routes)
            .enumerate()
            .filter(|(_, (route, _))| question.name.as_deref().is_none_or(|name| *route.name == *name))
            .filter(|(_, (route, shown))| wanted.is_empty() || has_text(route, shown, &wanted))
            .map(|(index, (route, _))| Counted {
                index,
                counts: DecisionCounts::of(Counters::by_reason(&route.counters)),
                would_deny: would_deny(route),
            })
            .collect();
        match question.order {
            Order::Config => {}
            Order::Name => matching.sort_by(|a, b| runtime.routes[a.index].name.cmp(&runtime.routes[b.index].name)),
            Order::Requests => matching.sort_by_key(|one| Reverse(one.counts.allowed + one.counts.refused + one.counts.failed)),
            Order::Refused => matching.sort_by_key(|one| Reverse(one.counts.refused + one.counts.failed)),
            Order::WouldDeny => matching.sort_by_key(|one| Reverse(one.would_deny)),
        }
        let limit = question.limit.unwrap_or(USUAL_LIMIT).min(MOST);
        let page = matching.iter().skip(question.offset).take(limit);
        Page {
            total: runtime.routes.len(),
            matching: matching.len(),
            offset: question.offset,
            routes: page.map(|one| RouteRow::of(&runtime.routes[one.index], &shown.routes[one.index], one)).collect(),
        }
    }
}

impl RouteRow {
    fn of(route: &Route, shown: &ShownRoute, counted: &Counted) -> Self {
        let mut codes: Vec<Code> = Counters::by_reason(&route.counters)
            .into_iter()
            .filter_map(|(reason, count)| Some(Code { code: reason?.code(), decision: decision(reason), count }))
            .collect();
        codes.sort_by_key(|code| Reverse(code.count));
        codes.truncate(CODES);
        Self {
            name: route.name.to_string(),
            mode: route.report_only.then_some("report-only"),
            shown: shown.clone(),
            upstreams: upstreams(route),
            counts: counted.counts,
            would_deny: counted.would_deny,
            codes,
        }
    }
}

/// Returns the upstreams to which requests may go, the route's own first.
fn upstreams(route: &Route) -> Vec<String> {
    let Action::Forward(own) = &route.action else { return Vec::new() };
    let others = route.upstreams.iter().filter(|name| **name != *own.name());
    std::iter::once(own.name()).chain(others).map(ToString::to_string).collect()
}

fn would_deny(route: &Route) -> u64 {
    Counters::would_deny(&route.counters).iter().map(|WouldDenyCount { count, .. }| count).sum()
}

fn has_text(route: &Route, shown: &ShownRoute, wanted: &str) -> bool {
    let names = std::iter::once(&*route.name).chain(route.upstreams.iter().map(|name| &**name));
    let policies = shown.policies.iter().map(|policy| policy.words.as_str());
    let own = shown.hosts.iter().map(String::as_str).chain([shown.path.as_str()]).chain(shown.answer.as_deref());
    names.chain(own).chain(policies).any(|text| text.to_lowercase().contains(wanted))
}

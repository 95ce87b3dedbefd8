//! `/api/decisions`: the newest records, filtered, and as they come.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Admin;
use crate::audit::AuditLog;

/// The number of records in an answer if the question does not say.
const USUAL_LIMIT: usize = 100;
/// The most records in an answer, and in one step of a follower: what comes faster is told as missed.
const MOST: usize = 1_000;
/// Those who follow at the same time.
const FOLLOWERS: usize = 32;
/// The longest value of a filter, in bytes.
const LONGEST_FILTER: usize = 256;

/// Permits for those who follow.
pub(super) fn followers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(FOLLOWERS))
}

/// The question.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Question {
    /// Only records after the one with this number.
    after: Option<u64>,
    /// Only records before the one with this number.
    before: Option<u64>,
    /// The most records of the answer.
    limit: Option<usize>,
    /// Present if the records are to be streamed as they come.
    follow: Option<String>,
    /// The name of the route, exactly; empty for requests without one.
    route: Option<String>,
    /// Part of the caller's address, application or object id.
    caller: Option<String>,
    /// The name of the partner, exactly.
    partner: Option<String>,
    /// The code of the refusal, or the kind of the event, exactly.
    code: Option<String>,
    /// `allow`, `deny`, `error`, `event` or `would-deny`; several with commas.
    decision: Option<String>,
    /// Part of any value of the record, without regard to case.
    text: Option<String>,
}

/// The filters of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    route: Option<String>,
    partner: Option<String>,
    code: Option<String>,
    decisions: Vec<String>,
    /// In lower case, like the next one.
    caller: Option<String>,
    text: Option<String>,
}

/// The fields by which a caller is known.
const CALLER: [&str; 7] = ["caller", "peer", "client_application", "object_id", "subject", "partner", "client_certificate"];
/// The kinds of records.
const DECISIONS: [&str; 5] = ["allow", "deny", "error", "event", "would-deny"];

impl Question {
    fn filter(&self) -> Result<Filter, String> {
        let read = |name: &str, value: &Option<String>| match value.as_deref() {
            Some(value) if value.len() > LONGEST_FILTER => {
                Err(format!("`{name}` is longer than {LONGEST_FILTER} bytes: write a part of it"))
            }
            Some("") if name != "route" => Ok(None),
            value => Ok(value.map(str::to_owned)),
        };
        let lower = |value: Option<String>| value.map(|value| value.to_lowercase());
        let decisions = read("decision", &self.decision)?.unwrap_or_default();
        let decisions: Vec<_> = decisions.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        if let Some(other) = decisions.iter().find(|word| !DECISIONS.contains(&word.as_str())) {
            return Err(format!("`decision` is `{other}`, and can be {}", DECISIONS.join(", ")));
        }
        Ok(Filter {
            route: read("route", &self.route)?,
            partner: read("partner", &self.partner)?,
            code: read("code", &self.code)?,
            decisions,
            caller: lower(read("caller", &self.caller)?),
            text: lower(read("text", &self.text)?),
        })
    }
}

impl Filter {
    /// Returns whether a record is wanted.
    fn takes(&self, record: &[u8]) -> bool {
        if *self == Self::default() {
            return true;
        }
        // Every line is an object; one that was not could not be filtered.
        let Ok(record) = serde_json::from_slice::<Map<String, Value>>(record) else { return false };
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| wanted == found.unwrap_or_default())
        };
        let holds = |wanted: &str, found: &str| found.to_lowercase().contains(wanted);
        is(&self.route, text("route").or_else(|| text("event").map(|_| "an event has no route")))
            && is(&self.partner, text("partner"))
            && is(&self.code, text("code").or_else(|| text("event")))
            && (self.decisions.is_empty() || self.decisions.iter().any(|decision| is_a(&record, decision)))
            && self
                .caller
                .as_deref()
                .is_none_or(|wanted| CALLER.iter().filter_map(|name| text(name)).any(|found| holds(wanted, found)))
            && self.text.as_deref().is_none_or(|wanted| record.values().any(|value| has_text(value, wanted)))
    }
}

/// Returns whether a record is of this kind.
fn is_a(record: &Map<String, Value>, kind: &str) -> bool {
    match kind {
        "event" => record.contains_key("event"),
        "would-deny" => record.contains_key("would_deny"),
        _ => record.get("decision").and_then(Value::as_str) == Some(kind),
    }
}

/// Returns whether a value, or one within it, has the text.
fn has_text(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text.to_lowercase().contains(wanted),
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(values) => values.iter().any(|value| has_text(value, wanted)),
        Value::Object(members) => members.values().any(|value| has_text(value, wanted)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// Answers with records that are kept, or streams them as they come.
pub(super) async fn decisions(
    State(admin): State<Admin>,
    headers: HeaderMap,
    question: Result<Query<Question>, QueryRejection>,
) -> Response {
    let question = match question {
        Ok(Query(question)) => question,
        Err(rejection) => return bad(&rejection.body_text()),
    };
    let filter = match question.filter() {
        Ok(filter) => filter,
        Err(fault) => return bad(&fault),
    };
    if question.follow.is_some() {
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        return follow(&admin, last.or(question.after), filter);
    }
    let limit = question.limit.unwrap_or(USUAL_LIMIT).min(MOST);
    let body = answer(&admin.audit, &question, limit, &filter);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn bad(fault: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{fault}\n")).into_response()
}

/// Returns the records in question, oldest first, and the numbers to go on with.
fn answer(audit: &AuditLog, question: &Question, limit: usize, filter: &Filter) -> Vec<u8> {
    audit.flush();
    let read = audit.kept().after(question.after.unwrap_or_default());
    let before = question.before.unwrap_or(u64::MAX);
    let wanted = read.records.iter().filter(|(number, record)| *number < before && filter.takes(record));
    let (found, more): (Vec<_>, bool) = match question.after {
        // Those who read on get the next ones, all others the newest.
        Some(_) => {
            let mut found: Vec<_> = wanted.take(limit + 1).collect();
            let more = found.len() > limit;
            found.truncate(limit);
            (found, more)
        }
        None => {
            let mut found: Vec<_> = wanted.rev().take(limit + 1).collect();
            let more = found.len() > limit;
            found.truncate(limit);
            found.reverse();
            (found, more)
        }
    };
    let next = match (more, found.last()) {
        (true, Some((number, _))) if question.after.is_some() => *number,
        _ => read.newest,
    };
    let missed = question.after.map_or(0, |after| (read.oldest - 1).saturating_sub(after));
    let mut body = format!(
        "{{\"oldest\":{},\"newest\":{},\"next\":{next},\"missed\":{missed},\"more\":{more},\"decisions\":[",
        read.oldest, read.newest
    )
    .into_bytes();
    for (index, (number, record)) in found.into_iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"" } else { b"," });
        body.extend_from_slice(format!("{{\"number\":{number},\"record\":").as_bytes());
        body.extend_from_slice(record);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

/// One who follows.
struct Follower {
    audit: Arc<AuditLog>,
    filter: Filter,
    newest: watch::Receiver<u64>,
    /// The number of the last record that was looked at.
    last: u64,
    _permit: OwnedSemaphorePermit,
}

/// Streams the records after `last`, or from now on, as server-sent events. A reader that falls behind misses some and is told so.
fn follow(admin: &Admin, last: Option<u64>, filter: Filter) -> Response {
    let Ok(permit) = admin.followers.clone().try_acquire_owned() else {
        let fault = "too many follow already; ask again, or read on with `after`\n";
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "5")], fault).into_response();
    };
    let newest = admin.audit.kept().newest();
    let last = last.unwrap_or_else(|| *newest.borrow());
    let follower = Follower { audit: admin.audit.clone(), filter, newest, last, _permit: permit };
    let events = follower.events().take_until(admin.ending.clone().cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send + use<> {
        let steps = stream::unfold(self, |mut follower| async move {
            loop {
                let newest = *follower.newest.borrow_and_update();
                // A number beyond the newest is one of a process before this.
                if newest != follower.last {
                    let events = follower.step();
                    if !events.is_empty() {
                        return Some((stream::iter(events.into_iter().map(Ok)), follower));
                    }
                }
                follower.newest.changed().await.ok()?;
            }
        });
        steps.flatten()
    }

    /// Returns the events of the records that have come since the last step.
    fn step(&mut self) -> Vec<Event> {
        let read = self.audit.kept().after(if self.last > *self.newest.borrow() { 0 } else { self.last });
        let missed = (read.oldest - 1).saturating_sub(self.last);
        self.last = read.newest;
        let mut wanted: Vec<(u64, Bytes)> = read.records.into_iter().filter(|(_, record)| self.filter.takes(record)).collect();
        let skipped = wanted.len().saturating_sub(MOST);
        wanted.drain(..skipped);
        let missed = missed + skipped as u64;
        let missed = (missed > 0).then(|| Event::default().event("missed").data(missed.to_string()));
        let record =
            |(number, record): (u64, Bytes)| Event::default().id(number.to_string()).data(String::from_utf8_lossy(&record));
        missed.into_iter().chain(wanted.into_iter().map(record)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(question: &Question, record: &str) -> bool {
        question.filter().unwrap().takes(record.as_bytes())
    }

    #[test]
    fn each_filter_takes_what_it_says() {
        const REFUSED: &str = r#"{"peer":"192.0.2.7:4711","caller":"203.0.113.9","route":"orders","decision":"deny","code":"role-missing","client_application":"22223333-CCCC","partner":"fabrikam","path":"/Orders/17","status":403,"roles":["Orders.List"],"would_deny":[{"at":"inbound[0].ip-filter"}]}"#;
        const EVENT: &str = r#"{"peer":"192.0.2.7:4711","event":"tls-handshake-failed","detail":"no certificate"}"#;
        const UNROUTED: &str = r#"{"peer":"192.0.2.7:4711","decision":"deny","code":"no-route"}"#;
        let own = |text: &str| Some(text.to_owned());
        for (question, expected) in [
            (Question::default(), [true, true, true]),
            (Question { route: own("orders"), ..Question::default() }, [true, false, false]),
            (Question { route: own("order"), ..Question::default() }, [false; 3]),
            (Question { route: own(""), ..Question::default() }, [false, false, true]),
            (Question { partner: own("fabrikam"), ..Question::default() }, [true, false, false]),
            (Question { code: own("no-route"), ..Question::default() }, [false, false, true]),
            (Question { code: own("tls-handshake-failed"), ..Question::default() }, [false, true, false]),
            (Question { decision: own("deny"), ..Question::default() }, [true, false, true]),
            (Question { decision: own("event,would-deny"), ..Question::default() }, [true, true, false]),
            (Question { caller: own("203.0.113."), ..Question::default() }, [true, false, false]),
            (Question { caller: own("192.0.2.7"), ..Question::default() }, [true, true, true]),
            (Question { caller: own("22223333-cccc"), ..Question::default() }, [true, false, false]),
            (Question { text: own("orders/17"), ..Question::default() }, [true, false, false]),
            (Question { text: own("403"), ..Question::default() }, [true, false, false]),
            (Question { text: own("orders.list"), ..Question::default() }, [true, false, false]),
            (Question { text: own("CERTIFICATE"), ..Question::default() }, [false, true, false]),
            (Question { text: own("decision"), ..Question::default() }, [false; 3]),
            (Question { code: own(""), partner: own(""), text: own(""), ..Question::default() }, [true, true, true]),
        ] {
            let shown = format!("{question:?}");
            let filter = question.filter().unwrap();
            assert_eq!([REFUSED, EVENT, UNROUTED].map(|record| filter.takes(record.as_bytes())), expected, "{shown}");
        }
        assert!(!takes(&Question { text: own("x"), ..Question::default() }, "no object"));
    }

    #[test]
    fn filters_that_cannot_be_meant_are_refused() {
        let own = |text: String| Some(text);
        for (question, told) in [
            (Question { decision: own("denied".to_owned()), ..Question::default() }, "can be allow, deny"),
            (Question { text: own("x".repeat(257)), ..Question::default() }, "longer than 256 bytes"),
        ] {
            assert!(question.filter().unwrap_err().contains(told));
        }
    }
}

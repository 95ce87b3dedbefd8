//! OpenTelemetry logs: records as log records, over HTTP as Protocol Buffers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use url::Url;

use super::{Limits, Verdict, retry_after, told};
use crate::{
    audit::text,
    base::{clock::Clock, error_chain::chain},
    telemetry::{Message, reading},
};

/// Collectors take 4 MiB by default, some of them as gRPC does.
pub(super) const LIMITS: Limits = Limits { bytes: 3_000_000, between: 0 };
/// The time for an export.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const CAP: usize = 64 << 10;
/// The deepest JSON that is written as a value; what lies deeper is written as text.
const DEPTH: usize = 6;

/// A collector.
#[derive(Debug)]
pub(in crate::audit) struct OtlpLogs {
    pub(super) url: Url,
    pub(super) client: reqwest::Client,
    pub(super) clock: Clock,
    /// The attributes of the resource.
    pub(super) resource: Vec<(String, String)>,
}

/// The severities of records: the number, and the word.
const fn severity(decision: Option<&[u8]>) -> (u64, &'static str) {
    match decision {
        Some(b"deny") => (13, "WARN"),
        Some(b"error") => (17, "ERROR"),
        Some(_) => (9, "INFO"),
        None => (10, "INFO2"),
    }
}

/// Writes a record as a `ScopeLogs.log_records` field.
pub(super) fn row(line: &[u8]) -> Vec<u8> {
    let record: Map<String, Value> = serde_json::from_slice(line).unwrap_or_default();
    let string = |name: &str| record.get(name).and_then(Value::as_str);
    let time = string("time").and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let nanoseconds = time.and_then(|time| u64::try_from(time.as_nanosecond()).ok()).unwrap_or_default();
    let (number, word) = severity(string("decision").map(str::as_bytes));
    let mut body = String::new();
    if record.is_empty() {
        text::write(line, &mut body);
    } else {
        text::write_record(&record, &mut body);
    }
    let mut message = Message::default();
    message.message(2, |log| {
        log.fixed64(1, nanoseconds).number(2, number).text(3, word);
        log.message(5, |any| {
            any.text(1, &body);
        });
        for (name, value) in &record {
            pair(log, 6, &format!("entrada.{name}"), value, 0);
        }
        if let Some(trace) = string("trace_id").and_then(bytes_of) {
            log.bytes(9, &trace);
        }
        log.fixed64(11, nanoseconds);
        log.text(12, if record.contains_key("event") { "entrada.event" } else { "entrada.request" });
    });
    message.into_bytes()
}

/// Writes a `KeyValue`.
fn pair(message: &mut Message, field: u32, name: &str, value: &Value, depth: usize) {
    message.message(field, |pair| {
        pair.text(1, name).message(2, |any| write_value(any, value, depth));
    });
}

/// Writes an `AnyValue`.
fn write_value(any: &mut Message, value: &Value, depth: usize) {
    match value {
        Value::Null => {}
        Value::Bool(truth) => _ = any.chosen_number(2, u64::from(*truth)),
        Value::String(text) => _ = any.text(1, text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => _ = any.chosen_number(3, number.cast_unsigned()),
            (None, Some(number)) => _ = any.double(4, number),
            (None, None) => {}
        },
        Value::Array(_) | Value::Object(_) if depth >= DEPTH => _ = any.text(1, &value.to_string()),
        Value::Array(list) => {
            any.message(5, |array| {
                for value in list {
                    array.message(1, |any| write_value(any, value, depth + 1));
                }
            });
        }
        Value::Object(map) => {
            any.message(6, |list| map.iter().for_each(|(name, value)| pair(list, 1, name, value, depth + 1)));
        }
    }
}

/// Reads hexadecimal digits.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

impl OtlpLogs {
    /// Sends log records.
    pub(super) async fn send(&self, rows: &[Bytes]) -> Verdict {
        let body = self.export(rows);
        let request = self.client.post(self.url.clone()).header("content-type", "application/x-protobuf").body(body);
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            // The address may hold what is nobody's business.
            Err(error) => return Verdict::Later(chain(&error.without_url()), None),
        };
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            if body.len() + chunk.len() > CAP {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        judge(status, &headers, &body, self.clock.unix_seconds())
    }

    /// Writes an `ExportLogsServiceRequest`.
    fn export(&self, rows: &[Bytes]) -> Vec<u8> {
        let mut request = Message::default();
        request.message(1, |logs| {
            logs.message(1, |resource| self.resource.iter().for_each(|(key, value)| _ = resource.attribute(1, key, value)));
            logs.message(2, |scope| {
                scope.message(1, |scope| {
                    scope.text(1, "entrada.audit").text(2, env!("CARGO_PKG_VERSION"));
                });
                rows.iter().for_each(|row| _ = scope.fields(row));
            });
        });
        request.into_bytes()
    }
}

/// Returns what an answer means: only what the specification calls transient is tried again.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8], now: u64) -> Verdict {
    match status.as_u16() {
        200..300 => match rejected(body) {
            Some(reason) => Verdict::Refused(reason),
            None => Verdict::Delivered,
        },
        413 => Verdict::TooLarge,
        // Somebody has to mend the collector or the credentials for it; the records are right.
        401 | 403 | 404 | 429 | 500..600 => {
            Verdict::Later(format!("{}: {}", status.as_u16(), told(body)), retry_after(headers, now))
        }
        _ => Verdict::Refused(format!("{}: {}", status.as_u16(), told(body))),
    }
}

/// Returns why a collector took some records and not others.
fn rejected(body: &[u8]) -> Option<String> {
    let rejected = reading::rejected(body)?;
    Some(format!("the collector rejected {} records: {}", rejected.count, told(rejected.reason)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::reading::{field, fields, varint_field};

    fn judged(status: u16, body: &[u8]) -> Verdict {
        judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body, 0)
    }

    #[test]
    fn each_answer_has_its_meaning_also_a_success_that_is_none() {
        assert!(matches!(judged(200, b""), Verdict::Delivered));
        let mut partial = Message::default();
        partial.message(1, |partial| {
            partial.number(1, 3).text(2, "no room");
        });
        let Verdict::Refused(reason) = judged(200, &partial.into_bytes()) else { panic!() };
        assert_eq!(reason, "the collector rejected 3 records: no room");
        let mut warning = Message::default();
        warning.message(1, |partial| {
            partial.text(2, "soon full");
        });
        assert!(matches!(judged(200, &warning.into_bytes()), Verdict::Delivered));
        assert!(matches!((judged(413, b""), judged(400, b"no")), (Verdict::TooLarge, Verdict::Refused(_))));
        for status in [401, 404, 429, 500, 503] {
            assert!(matches!(judged(status, b""), Verdict::Later(..)), "{status}");
        }
    }

    #[test]
    fn a_trace_id_is_sixteen_bytes_and_what_is_none_is_left_out() {
        assert_eq!(bytes_of("4bf92f3577b34da6a3ce929d0e0e4736").unwrap().len(), 16);
        assert_eq!((bytes_of("0g"), bytes_of("abc")), (None, None));
        let row = row(br#"{"time":"2026-11-30T12:00:00.004711Z","decision":"deny","status":0,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}"#);
        let log = field(&row, 2).unwrap();
        assert_eq!((field(log, 9).unwrap().len(), varint_field(log, 2)), (16, Some(13)));
        let attributes = fields(log).filter(|(number, _)| *number == 6).count();
        assert_eq!(attributes, 4);
    }

    proptest! {
        #[test]
        fn an_answer_of_any_bytes_is_judged(body in proptest::collection::vec(any::<u8>(), 0..60), status in 200_u16..600) {
            judged(status, &body);
        }
    }
}

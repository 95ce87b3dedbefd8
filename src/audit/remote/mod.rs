//! The sinks that cross a network. Each has a task that reads its records from the spool, and sends them until they have arrived.

mod azure_monitor;
mod backoff;
mod build;
mod delivery;
mod log_analytics;
mod otlp;
mod rejected;
pub mod row;
mod syslog;
mod tls;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub(crate) use self::build::RemoteContext;
use self::{azure_monitor::AzureMonitor, log_analytics::LogAnalytics, otlp::OtlpLogs, syslog::SyslogServer};
pub(super) use self::{
    build::{Remotes, check},
    delivery::Delivery,
};

/// The answer of a receiver to records.
#[derive(Debug)]
pub(super) enum Verdict {
    /// They have arrived.
    Delivered,
    /// They are too many at once.
    TooLarge,
    /// They will never be taken, for this reason.
    Refused(String),
    /// They may be taken later: the reason, and the pause that the receiver asks for.
    Later(String, Option<Duration>),
}

/// The most that one call may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The bytes of its body.
    pub(super) bytes: usize,
    /// The bytes that each record adds to its own.
    pub(super) between: usize,
}

/// A receiver of records.
#[derive(Debug)]
pub(super) enum Target {
    AzureMonitor(AzureMonitor),
    LogAnalytics(Box<LogAnalytics>),
    Otlp(Box<OtlpLogs>),
    Syslog(SyslogServer),
}

impl Target {
    /// Returns the limits of one call.
    const fn limits(&self) -> Limits {
        match self {
            Self::AzureMonitor(_) => azure_monitor::LIMITS,
            Self::LogAnalytics(_) => log_analytics::LIMITS,
            Self::Otlp(_) => otlp::LIMITS,
            Self::Syslog(_) => syslog::LIMITS,
        }
    }

    /// Writes a record as this receiver takes it.
    fn row(&self, record: &[u8]) -> Vec<u8> {
        match self {
            Self::AzureMonitor(_) => row::of_ingestion(record),
            Self::LogAnalytics(_) => row::of_data_collector(record),
            Self::Otlp(_) => otlp::row(record),
            Self::Syslog(server) => server.row(record),
        }
    }

    /// Sends rows.
    async fn send(&self, rows: &[Bytes]) -> Verdict {
        match self {
            Self::AzureMonitor(target) => target.send(rows).await,
            Self::LogAnalytics(target) => target.send(rows).await,
            Self::Otlp(target) => target.send(rows).await,
            Self::Syslog(target) => target.send(rows).await,
        }
    }
}

/// Joins rows to a JSON array.
fn array(rows: &[Bytes]) -> Vec<u8> {
    let mut body = Vec::with_capacity(2 + rows.iter().map(|row| row.len() + 1).sum::<usize>());
    body.push(b'[');
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    body.push(b']');
    body
}

/// Returns the pause that an answer asks for: seconds, or a date.
fn retry_after(headers: &http::HeaderMap, now: u64) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    crate::credentials::retry_after(value, now).map(Duration::from_secs)
}

/// Returns what an error's body says of itself, short and without control characters.
fn told(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let error = json.as_ref().map(|json| json.get("error").filter(|error| error.is_object()).unwrap_or(json));
    let member = |name: &[&str]| name.iter().find_map(|name| Some(error?.get(name)?.as_str()?.to_owned()));
    let text = match (member(&["code", "Error"]), member(&["message", "Message"])) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

/// A sink that crosses a network, as the config has it.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) name: String,
    pub(super) only: super::sink::Only,
    pub(super) target: Arc<Target>,
}

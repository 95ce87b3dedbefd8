//! A record as a row of a Log Analytics table.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The longest text of a column, in bytes: what is longer, Azure would cut without a word.
const LONGEST: usize = 32 << 10;

/// The type of a column, as tables declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    String,
    /// A whole number.
    Long,
    /// True or false.
    Boolean,
    /// A time.
    DateTime,
    /// Any JSON.
    Dynamic,
}

impl Kind {
    /// Returns the name of the type in a data collection rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Long => "long",
            Self::Boolean => "boolean",
            Self::DateTime => "datetime",
            Self::Dynamic => "dynamic",
        }
    }
}

/// The columns of the table, with the fields of records that they hold. `TenantId` is a column of Azure's own.
pub const COLUMNS: &[(&str, &str, Kind)] = &[
    ("time", "TimeGenerated", Kind::DateTime),
    ("record_id", "RecordId", Kind::String),
    ("request_id", "RequestId", Kind::String),
    ("caller_request_id", "CallerRequestId", Kind::String),
    ("trace_id", "TraceId", Kind::String),
    ("listener", "Listener", Kind::String),
    ("peer", "Peer", Kind::String),
    ("proxy", "Proxy", Kind::String),
    ("tls_version", "TlsVersion", Kind::String),
    ("caller", "Caller", Kind::String),
    ("address_source", "AddressSource", Kind::String),
    ("http_version", "HttpVersion", Kind::String),
    ("method", "Method", Kind::String),
    ("host", "RequestHost", Kind::String),
    ("path", "Path", Kind::String),
    ("user_agent", "UserAgent", Kind::String),
    ("route", "Route", Kind::String),
    ("upstream", "Upstream", Kind::String),
    ("decision", "Decision", Kind::String),
    ("code", "Code", Kind::String),
    ("policy", "Policy", Kind::String),
    ("hint", "Hint", Kind::String),
    ("cause", "Cause", Kind::String),
    ("mode", "Mode", Kind::String),
    ("would_deny", "WouldDeny", Kind::Dynamic),
    ("candidate", "Candidate", Kind::Dynamic),
    ("issuer", "Issuer", Kind::String),
    ("audience", "Audience", Kind::Dynamic),
    ("tenant_id", "CallerTenantId", Kind::String),
    ("client_application", "ClientApplication", Kind::String),
    ("credential_kind", "CredentialKind", Kind::String),
    ("token_kind", "TokenKind", Kind::String),
    ("subject", "Subject", Kind::String),
    ("object_id", "ObjectId", Kind::String),
    ("token_id", "TokenId", Kind::String),
    ("scopes", "Scopes", Kind::Dynamic),
    ("roles", "Roles", Kind::Dynamic),
    ("claims", "Claims", Kind::Dynamic),
    ("token_seen", "TokenSeen", Kind::Dynamic),
    ("client_certificate", "ClientCertificate", Kind::String),
    ("partner", "Partner", Kind::String),
    ("api_key", "ApiKey", Kind::String),
    ("notes", "Notes", Kind::Dynamic),
    ("credential", "Credential", Kind::String),
    ("server", "Server", Kind::String),
    ("status", "Status", Kind::Long),
    ("complete", "Complete", Kind::Boolean),
    ("ended_by", "EndedBy", Kind::String),
    ("bytes_in", "BytesIn", Kind::Long),
    ("bytes_out", "BytesOut", Kind::Long),
    ("duration_us", "DurationUs", Kind::Long),
    ("policies_us", "PoliciesUs", Kind::Long),
    ("credential_us", "CredentialUs", Kind::Long),
    ("upstream_us", "UpstreamUs", Kind::Long),
    ("config", "Config", Kind::Dynamic),
    ("event", "Event", Kind::String),
    ("sink", "Sink", Kind::String),
    ("count", "RecordCount", Kind::Long),
    ("detail", "Detail", Kind::String),
];

/// The column of all other fields: those for a replay, and those of seals.
pub const MORE: &str = "More";

/// The column with the time for the Data Collector API, which keeps the usual name to itself.
pub(super) const TIME: &str = "Time";

/// Writes a record as a row for the Logs Ingestion API.
pub(super) fn of_ingestion(record: &[u8]) -> Vec<u8> {
    written(&columns(record))
}

/// Writes a record as a row for the Data Collector API: flat, and with a time that it understands.
pub(super) fn of_data_collector(record: &[u8]) -> Vec<u8> {
    let mut row = columns(record);
    if let Some(time) = row.remove("TimeGenerated") {
        let second =
            time.as_str().and_then(|time| time.get(..19)).map_or_else(|| time.clone(), |second| format!("{second}Z").into());
        row.insert(TIME.to_owned(), second);
        row.insert("ExactTime".to_owned(), time);
    }
    for value in row.values_mut().filter(|value| value.is_object() || value.is_array()) {
        *value = cut(value.to_string()).into();
    }
    written(&row)
}

fn columns(record: &[u8]) -> Map<String, Value> {
    let record: Map<String, Value> = serde_json::from_slice(record).unwrap_or_else(|_| unread(record));
    let (mut row, mut more) = (Map::new(), Map::new());
    for (name, value) in record {
        match COLUMNS.iter().find(|(field, ..)| *field == name) {
            Some((_, column, _)) => _ = row.insert((*column).to_owned(), short(value)),
            None => _ = more.insert(name, short(value)),
        }
    }
    if !more.is_empty() {
        row.insert(MORE.to_owned(), more.into());
    }
    row
}

/// Returns a record for a line that is none: whatever it is, it is not lost.
fn unread(line: &[u8]) -> Map<String, Value> {
    let detail = cut(String::from_utf8_lossy(line).into_owned());
    [("time", Timestamp::now().to_string()), ("event", "unreadable".to_owned()), ("detail", detail)]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into_iter()
        .collect()
}

fn short(value: Value) -> Value {
    match value {
        Value::String(text) => cut(text).into(),
        // A single column must not make a row that no call can carry.
        Value::Array(_) | Value::Object(_) if value.to_string().len() > LONGEST => cut(value.to_string()).into(),
        other => other,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - '…'.len_utf8()));
        text.push('…');
    }
    text
}

fn written(row: &Map<String, Value>) -> Vec<u8> {
    // A map of texts and JSON is always written.
    serde_json::to_vec(row).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    const RECORD: &str = r#"{"time":"2026-11-30T12:00:00.004711Z","record_id":"0a","decision":"deny","tenant_id":"t","roles":["a"],"status":403,"forwarded":{"x-forwarded-for":["192.0.2.1"]},"config":{"digest":"d","generation":1}}"#;

    fn parsed(row: &[u8]) -> Value {
        serde_json::from_slice(row).unwrap()
    }

    #[test]
    fn a_record_is_a_row_of_the_table() {
        assert_eq!(
            parsed(&of_ingestion(RECORD.as_bytes())),
            json!({
                "TimeGenerated": "2026-11-30T12:00:00.004711Z", "RecordId": "0a", "Decision": "deny", "CallerTenantId": "t", "Roles": ["a"],
                "Status": 403, "Config": { "digest": "d", "generation": 1 }, "More": { "forwarded": { "x-forwarded-for": ["192.0.2.1"] } },
            })
        );
    }

    #[test]
    fn the_data_collector_gets_flat_rows_and_no_column_that_it_reserves() {
        let row = parsed(&of_data_collector(RECORD.as_bytes()));

        assert_eq!((&row["Time"], &row["ExactTime"]), (&json!("2026-11-30T12:00:00Z"), &json!("2026-11-30T12:00:00.004711Z")));
        assert_eq!(row["Roles"], "[\"a\"]");
        assert!(
            row.as_object()
                .unwrap()
                .iter()
                .all(|(name, value)| !value.is_object() && !value.is_array() && name != "TimeGenerated")
        );
    }

    #[test]
    fn columns_have_names_that_tables_take() {
        let mut names = BTreeSet::from([MORE, TIME]);
        for (field, column, _) in COLUMNS {
            assert!(names.insert(column), "{field}: {column} is there twice");
        }
        for name in names {
            let letters = name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
            assert!(letters && name.len() <= 45 && name.starts_with(|letter: char| letter.is_ascii_alphabetic()), "{name}");
            let reserved = ["_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title", "tenant", "RawData"];
            assert!(!reserved.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_a_line_that_is_no_record_arrives() {
        let long = json!({ "path": "ä".repeat(LONGEST), "notes": vec!["x".repeat(100); LONGEST / 50], "status": 1 }).to_string();
        for row in [of_ingestion(long.as_bytes()), of_data_collector(long.as_bytes())] {
            let row = parsed(&row);
            for column in ["Path", "Notes"] {
                let text = row[column].as_str().unwrap();
                assert!(text.len() <= LONGEST && text.ends_with('…'), "{column}: {}", text.len());
            }
        }
        let row = parsed(&of_ingestion(b"half a {"));
        assert_eq!((&row["Event"], &row["Detail"]), (&json!("unreadable"), &json!("half a {")));
    }
}

//! Messages of syslog: RFC 5424. The message is the record as it is; what a receiver looks for stands in structured data, too.

use serde_json::{Map, Value};

use crate::audit::config::FacilityConfig;

/// The id of our structured data: a name with the number for documentation, since a private enterprise number is not had.
const STRUCTURED_DATA_ID: &str = "entrada@32473";

/// The fields that stand in structured data: flat ones, by which receivers route and count.
const PARAMETERS: [&str; 16] = [
    "record_id",
    "request_id",
    "listener",
    "event",
    "route",
    "method",
    "host",
    "path",
    "caller",
    "decision",
    "code",
    "policy",
    "client_application",
    "object_id",
    "partner",
    "status",
];

/// The form of messages.
#[derive(Clone, Debug)]
pub(crate) struct SyslogFormat {
    facility: u8,
    host: String,
    process: u32,
}

impl SyslogFormat {
    /// Makes the form of messages with this facility.
    pub(crate) fn new(facility: FacilityConfig) -> Self {
        Self { facility: facility as u8, host: host_name(), process: std::process::id() }
    }

    /// Writes the message of a record, without its line end.
    pub(crate) fn write(&self, line: &[u8], into: &mut Vec<u8>) {
        let record: Map<String, Value> = serde_json::from_slice(line).unwrap_or_default();
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let priority = self.facility * 8 + severity(text("decision"), text("event"));
        let id = text("event").or_else(|| text("decision")).unwrap_or("-");
        let time = text("time").unwrap_or("-");
        let head = format!("<{priority}>1 {time} {} entrada {} {id} ", self.host, self.process);
        into.extend_from_slice(head.as_bytes());
        structured_data(&record, into);
        into.push(b' ');
        into.extend_from_slice(line);
    }
}

/// Returns the severity of a record: RFC 5424, section 6.2.1.
fn severity(decision: Option<&str>, event: Option<&str>) -> u8 {
    const ERROR: u8 = 3;
    const WARNING: u8 = 4;
    const NOTICE: u8 = 5;
    const INFORMATIONAL: u8 = 6;
    match (decision, event) {
        (Some("deny"), _) => WARNING,
        (Some("error"), _) => ERROR,
        (Some(_), _) => INFORMATIONAL,
        (None, Some("seal" | "chain-begin")) => INFORMATIONAL,
        (None, _) => NOTICE,
    }
}

fn structured_data(record: &Map<String, Value>, into: &mut Vec<u8>) {
    into.push(b'[');
    into.extend_from_slice(STRUCTURED_DATA_ID.as_bytes());
    for name in PARAMETERS {
        let value = match record.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => continue,
        };
        into.push(b' ');
        into.extend_from_slice(name.as_bytes());
        into.extend_from_slice(b"=\"");
        for letter in value.chars() {
            // Section 6.3.3: these three, and no others. Line ends would part the message at some receivers.
            match letter {
                '"' | '\\' | ']' => into.extend_from_slice(&[b'\\', letter as u8]),
                letter if letter.is_control() => into.push(b'?'),
                letter => into.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        into.push(b'"');
    }
    into.push(b']');
}

/// Returns the machine's name, or the sign for none.
fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> String {
        let format = SyslogFormat { facility: FacilityConfig::Auth as u8, host: "gw1".to_owned(), process: 7 };
        let mut message = Vec::new();
        format.write(line.as_bytes(), &mut message);
        String::from_utf8(message).unwrap()
    }

    #[test]
    fn a_record_is_a_message_with_its_fields_as_structured_data() {
        let line = r#"{"time":"2026-11-22T10:00:00.004711Z","record_id":"0a","decision":"deny","code":"role-missing","path":"/a\"]\\","status":403,"roles":["x"]}"#;

        assert_eq!(
            written(line),
            format!(
                "<36>1 2026-11-22T10:00:00.004711Z gw1 entrada 7 deny [entrada@32473 record_id=\"0a\" path=\"/a\\\"\\]\\\\\" decision=\"deny\" \
                 code=\"role-missing\" status=\"403\"] {line}"
            )
        );
    }

    #[test]
    fn the_severity_is_that_of_the_decision() {
        for (line, expected) in [
            (r#"{"decision":"allow"}"#, "<38>1"),
            (r#"{"decision":"deny"}"#, "<36>1"),
            (r#"{"decision":"error"}"#, "<35>1"),
            (r#"{"event":"handshake-failed"}"#, "<37>1"),
            (r#"{"event":"seal"}"#, "<38>1"),
        ] {
            assert!(written(line).starts_with(expected), "{}", written(line));
        }
    }

    #[test]
    fn nothing_that_a_caller_wrote_ends_the_message() {
        let message = written("{\"decision\":\"allow\",\"path\":\"/a\\n<0>1 - forged\"}");

        assert!(!message.contains('\n'), "{message:?}");
        assert!(message.contains("path=\"/a?<0>1 - forged\""), "{message}");
    }
}

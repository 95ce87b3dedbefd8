//! A record as one line for a person.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The fields of an event that stand in the line already, and those of a chain, which only `audit verify` reads.
const NOT_TOLD: [&str; 13] = [
    "time",
    "record_id",
    "event",
    "chain",
    "prev",
    "sealed",
    "sealed_at",
    "every",
    "algorithm",
    "key_id",
    "public_key",
    "previous_seal",
    "signature",
];

/// Writes a record as one line for a person, with its line end. A line that is no record stays as it is, without control characters.
pub(crate) fn write(line: &[u8], into: &mut String) {
    match serde_json::from_slice::<Map<String, Value>>(line) {
        Ok(record) => write_record(&record, into),
        Err(_) => push(into, &String::from_utf8_lossy(line)),
    }
    into.push('\n');
}

/// Writes a record as one line for a person.
pub(crate) fn write_record(record: &Map<String, Value>, into: &mut String) {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    // To the millisecond: more is for programs.
    let time = text("time").unwrap_or("-");
    push(into, time.get(..23).unwrap_or(time));
    if time.len() > 23 {
        into.push('Z');
    }
    if let Some(event) = text("event") {
        word(into, event);
        let others = record.iter().filter(|(name, _)| !NOT_TOLD.contains(&name.as_str()));
        others.for_each(|(name, value)| pair(into, name, value));
        return;
    }
    word(into, text("decision").unwrap_or("-"));
    match record.get("status").and_then(Value::as_u64) {
        // Writing to a string cannot fail.
        Some(status) => _ = write!(into, " {status}"),
        None => into.push_str(" -"),
    }
    if let Some(code) = text("code") {
        word(into, code);
    }
    word(into, text("method").unwrap_or("-"));
    into.push(' ');
    push(into, text("host").unwrap_or_default());
    push(into, text("path").unwrap_or("-"));
    for name in ["route", "server", "caller", "client_application", "object_id", "partner", "policy", "cause", "hint", "ended_by"]
    {
        if let Some(value) = record.get(name) {
            pair(into, name, value);
        }
    }
    if let Some(refusals) = record.get("would_deny").and_then(Value::as_array) {
        let codes: Vec<_> = refusals.iter().filter_map(|refusal| refusal["code"].as_str()).collect();
        pair(into, "would_deny", &Value::from(codes.join(",")));
    }
    if record.get("complete") == Some(&Value::Bool(false)) {
        into.push_str(" incomplete");
    }
    if let Some(duration) = record.get("duration_us").and_then(Value::as_u64) {
        let _ = match duration {
            0..1_000 => write!(into, " {duration}µs"),
            1_000..1_000_000 => write!(into, " {:.1}ms", duration as f64 / 1e3),
            _ => write!(into, " {:.1}s", duration as f64 / 1e6),
        };
    }
    if let Some(id) = text("request_id") {
        word(into, id);
    }
}

fn word(into: &mut String, word: &str) {
    into.push(' ');
    push(into, word);
}

/// Writes ` name=value`; a text with blanks in quotes.
fn pair(into: &mut String, name: &str, value: &Value) {
    word(into, name);
    into.push('=');
    match value {
        Value::String(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
            into.push('"');
            push(into, &text.replace('\\', "\\\\").replace('"', "\\\""));
            into.push('"');
        }
        Value::String(text) => push(into, text),
        other => push(into, &other.to_string()),
    }
}

/// Writes a text of a caller's: what would steer a terminal, or hide the rest of the line, is written as its number.
fn push(into: &mut String, text: &str) {
    for letter in text.chars() {
        let unseen = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if letter.is_control() || unseen {
            let _ = write!(into, "\\u{{{:x}}}", u32::from(letter));
        } else {
            into.push(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(line: &str) -> String {
        let mut text = String::new();
        write(line.as_bytes(), &mut text);
        text
    }

    #[test]
    fn a_record_is_a_line_that_a_person_reads() {
        for (record, expected) in [
            (
                r#"{"time":"2026-11-22T10:00:00.004711Z","record_id":"0","request_id":"r-1","listener":"public","caller":"203.0.113.7","method":"GET","host":"api.contoso.example","path":"/orders/17","route":"orders","decision":"deny","code":"role-missing","policy":"inbound[0].validate-azure-ad-token","hint":"assign one of the \"app\" roles","status":403,"complete":true,"duration_us":412}"#,
                "2026-11-22T10:00:00.004Z deny 403 role-missing GET api.contoso.example/orders/17 route=orders caller=203.0.113.7 policy=inbound[0].validate-azure-ad-token hint=\"assign one of the \\\"app\\\" roles\" 412µs r-1\n",
            ),
            (
                r#"{"time":"2026-11-22T10:00:00.000000Z","decision":"error","code":"client-left","complete":false,"ended_by":"caller","duration_us":1500000}"#,
                "2026-11-22T10:00:00.000Z error - client-left - - ended_by=caller incomplete 1.5s\n",
            ),
            (
                r#"{"time":"2026-11-22T10:00:00.000000Z","decision":"allow","status":200,"method":"GET","path":"/","would_deny":[{"at":"a","code":"role-missing"},{"code":"scope-missing"}],"complete":true,"duration_us":2500}"#,
                "2026-11-22T10:00:00.000Z allow 200 GET / would_deny=role-missing,scope-missing 2.5ms\n",
            ),
            (
                r#"{"time":"2026-11-22T10:00:00.000000Z","record_id":"0","event":"handshake-failed","peer":"192.0.2.7:443","count":2,"detail":"no certificate"}"#,
                "2026-11-22T10:00:00.000Z handshake-failed count=2 detail=\"no certificate\" peer=192.0.2.7:443\n",
            ),
            (
                r#"{"time":"2026-11-22T10:00:00.000000Z","record_id":"0","event":"seal","file":"a.jsonl","reason":"stop","seq":25,"prev":"q2Zk","public_key":{"kty":"EC"},"signature":"yMkb"}"#,
                "2026-11-22T10:00:00.000Z seal file=a.jsonl reason=stop seq=25\n",
            ),
            ("no record\u{1b}[2J", "no record\\u{1b}[2J\n"),
        ] {
            assert_eq!(written(record), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_caller_wrote_steers_the_terminal(path in any::<String>(), agent in "[\\x00-\\x1f\\x7f-\\x9f\u{202e}a]{0,9}") {
            let record = serde_json::json!({ "time": "t", "decision": "allow", "path": path, "hint": agent }).to_string();
            let line = written(&record);

            prop_assert!(line.ends_with('\n'));
            prop_assert!(!line.trim_end_matches('\n').chars().any(|letter| letter.is_control() || letter == '\u{202e}'), "{line:?}");
        }
    }
}

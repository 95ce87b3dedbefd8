//! `docs/audit.md`.

use serde_json::Value;

use super::{read, rows, sources};
use crate::support::{Gateway, Upstream};

const PAGE: &str = "docs/audit.md";

/// Returns the fields of a record as the program writes them, with their types as the page names them.
fn written(record: &str) -> Vec<(String, &'static str)> {
    record
        .split("line.")
        .filter_map(|call| {
            let (method, rest) = call.split_once("(\"")?;
            let kind = match method {
                "text" => "string",
                "number" => "integer",
                "truth" => "boolean",
                "hexadecimal" => "32 hexadecimal digits",
                "address" => "address",
                "socket_address" => "address:port",
                "time" => "RFC 3339",
                _ => return None,
            };
            Some((rest.split('"').next()?.to_owned(), kind))
        })
        .collect()
}

/// Returns the code that writes each record: from the beginning of its line to the end.
fn records() -> Vec<String> {
    let sources = sources();
    let records: Vec<_> = sources
        .iter()
        .flat_map(|(_, text)| text.split("Line::begin(").skip(1))
        .filter_map(|text| text.split_once("line.end()"))
        .map(|(record, _)| record.to_owned())
        .collect();
    assert!(records.len() >= 2, "where records are written is not found");
    records
}

fn documented(heading: &str) -> Vec<(String, String)> {
    let rows = rows(&read(PAGE), heading);
    rows.into_iter().map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone())).collect()
}

#[test]
fn every_field_is_documented_with_its_type_in_the_order_written() {
    for record in records() {
        let fields = written(&record);
        let heading = if fields.iter().any(|(name, _)| name == "event") { "## Connection events" } else { "## Request records" };

        let documented = documented(heading);

        let documented: Vec<_> = documented.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
        let fields: Vec<_> = fields.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert_eq!(
            documented, fields,
            "{PAGE}, under \"{heading}\": a row for each field, in the order of the record (left: the page)"
        );
    }
}

#[test]
fn every_connection_event_is_documented() {
    let sources = sources();
    let events = sources.iter().find_map(|(_, text)| Some(text.split_once("impl EventKind {")?.1.split_once("\n}\n")?.0));
    let events: Vec<_> = events.expect("the kinds of events are found").split('"').skip(1).step_by(2).collect();

    let documented = rows(&read(PAGE), "## Events");

    let documented: Vec<_> = documented.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(documented, events, "{PAGE}, under \"Events\" (left: the page)");
}

#[tokio::test]
async fn a_real_record_has_the_documented_fields_and_types() {
    let upstream = Upstream::start().await;
    let config = format!(
        "upstreams: {{ orders: {{ servers: [\"{}\"] }} }}\n\
         routes: [ {{ name: orders, match: {{ path: /orders }}, anonymous: true, upstream: orders }} ]",
        upstream.url()
    );
    let gateway = Gateway::start(&config).await;
    gateway.get("/orders/1").send().await.assert_allowed();
    let record = gateway.record(|record| record["path"] == "/orders/1").await;

    let documented = documented("## Request records");

    for (name, value) in record.as_object().unwrap() {
        let kind = documented.iter().find(|(known, _)| known == name).map(|(_, kind)| kind.as_str());
        let fits = match (kind, value) {
            (Some("integer"), Value::Number(number)) => number.is_u64(),
            (Some("boolean"), Value::Bool(_)) => true,
            (Some("32 hexadecimal digits"), Value::String(text)) => {
                text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            }
            (Some("address"), Value::String(text)) => text.parse::<std::net::IpAddr>().is_ok(),
            (Some("address:port"), Value::String(text)) => text.parse::<std::net::SocketAddr>().is_ok(),
            (Some("RFC 3339"), Value::String(text)) => text.ends_with('Z'),
            (Some("string"), Value::String(_)) => true,
            _ => false,
        };
        assert!(fits, "{name}: {value} is no {kind:?}");
    }
}

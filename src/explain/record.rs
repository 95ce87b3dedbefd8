//! Requests from an audit record: what it says of a request, and what it does not.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::curl::Described;

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The request, as far as the record has it.
    pub described: Described,
    /// The address that connected.
    pub peer: IpAddr,
    /// The caller's address, which a trusted proxy told if it is another one.
    pub caller: Option<IpAddr>,
    /// `peer`, `x-forwarded-for`, `forwarded` or `proxy-protocol`.
    pub address_source: Option<String>,
    /// The listener.
    pub listener: Option<String>,
    /// The time, in seconds since 1970.
    pub time: u64,
    /// The decision at that time: `allow`, `deny` or `error`.
    pub decision: String,
    /// The code at that time.
    pub code: Option<String>,
    /// The entry that decided at that time.
    pub policy: Option<String>,
    /// The facts that the record does not have.
    pub without: Vec<&'static str>,
    /// The whole record.
    pub record: Map<String, Value>,
}

/// The reason why a record is not found, or does not describe a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// There is no such record.
    #[error("no record has the request id `{0}`")]
    NotFound(String),
    /// The record is of a connection, or of a request that could not be read.
    #[error("the record `{0}` has no method, host and path: the request could not be read")]
    NoRequest(String),
}

/// Finds the record of a request id in JSON lines.
///
/// # Errors
/// Fails if there is none, or if it is no record of a request that could be read.
pub fn recorded(lines: &str, id: &str) -> Result<Recorded, RecordFault> {
    let wanted = |line: &str| {
        let record: Map<String, Value> = serde_json::from_str(line).ok()?;
        (record.get("request_id").and_then(Value::as_str) == Some(id)).then_some(record)
    };
    // The id stands in the line as it is, so that others need not be parsed.
    let record =
        lines.lines().filter(|line| line.contains(id)).find_map(wanted).ok_or_else(|| RecordFault::NotFound(id.to_owned()))?;
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    let fault = || RecordFault::NoRequest(id.to_owned());
    let (method, path) = (text("method").ok_or_else(fault)?, text("path").ok_or_else(fault)?);
    let host = text("host").unwrap_or_default();
    let socket = |name: &str| text(name)?.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let address = |name: &str| text(name).and_then(|text| text.parse().ok());
    let peer = socket("peer").or_else(|| address("peer")).ok_or_else(fault)?;
    let (caller, source) = (address("caller"), text("address_source"));
    let mut headers = Vec::new();
    if let Some(caller) = caller {
        match source.as_deref() {
            Some("x-forwarded-for") => headers.push(("X-Forwarded-For".to_owned(), caller.to_string().into_bytes())),
            Some("forwarded") => {
                let node = if caller.is_ipv6() { format!("for=\"[{caller}]\"") } else { format!("for={caller}") };
                headers.push(("Forwarded".to_owned(), node.into_bytes()));
            }
            _ => {}
        }
    }
    let time =
        text("time").and_then(|time| time.parse::<jiff::Timestamp>().ok()).and_then(|at| u64::try_from(at.as_second()).ok());
    Ok(Recorded {
        described: Described { method, url: format!("https://{host}{path}"), headers, ..Described::default() },
        peer,
        caller,
        address_source: source,
        listener: text("listener"),
        time: time.ok_or_else(fault)?,
        decision: text("decision").unwrap_or_default(),
        code: text("code"),
        policy: text("policy"),
        without: vec!["the token", "the query", "the other header fields"],
        record,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_describes_what_it_has() {
        let line = r#"{"time":"2027-02-27T17:31:04.000Z","request_id":"019aa8c2","listener":"public","peer":"10.1.0.7:50312","caller":"198.51.100.200","address_source":"x-forwarded-for","method":"GET","host":"partners.contoso.example","path":"/orders/1","decision":"deny","code":"caller-address-not-allowed","policy":"inbound[0].ip-filter"}"#;
        let found = recorded(&format!("{{\"request_id\":\"other\"}}\n{line}\n"), "019aa8c2").unwrap();

        assert_eq!(found.described.url, "https://partners.contoso.example/orders/1");
        assert_eq!(found.described.headers, [("X-Forwarded-For".to_owned(), b"198.51.100.200".to_vec())]);
        assert_eq!((found.peer.to_string(), found.time), ("10.1.0.7".to_owned(), 1_803_749_464));
        assert_eq!(recorded(line, "019aa8c3").unwrap_err(), RecordFault::NotFound("019aa8c3".to_owned()));
    }
}

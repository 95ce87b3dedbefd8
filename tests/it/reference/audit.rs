//! `docs/audit.md`.

use std::collections::BTreeMap;

use entrada::dev_tenant::{DevTenant, Options};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{read, rows, sources};
use crate::support::{Gateway, ORDERS_TOKEN, Upstream, config};

const PAGE: &str = "docs/audit.md";

/// The macros that write members, with the types of their values as the page names them.
const KINDS: [(&str, &str); 11] = [
    ("text!(", "string"),
    ("caller_text!(", "string"),
    ("plain!(", "string"),
    ("number!(", "integer"),
    ("truth!(", "boolean"),
    ("hexadecimal!(", "32 hexadecimal digits"),
    ("socket_address!(", "address:port"),
    ("address!(", "address"),
    ("list!(", "list"),
    ("object!(", "object"),
    ("objects!(", "list of objects"),
];

/// A member of a record: its type, and the names of its own members if it is an object.
type Member = (&'static str, Vec<String>);

/// Returns the members that this code writes.
fn written(code: &str) -> BTreeMap<String, Member> {
    let mut members = BTreeMap::new();
    let mut rest = code;
    while let Some((at, name, kind)) = KINDS.iter().filter_map(|(name, kind)| Some((rest.find(name)?, *name, *kind))).min() {
        // `address!(` stands in `socket_address!(`, which begins before it.
        let call = &rest[at + name.len()..];
        let end = closed(call);
        let quoted = call.split('"').nth(1).filter(|_| call.find('"') < Some(end)).map(str::to_owned);
        let inner = if kind.ends_with("object") || kind.ends_with("objects") {
            written(&call[..end]).into_keys().collect()
        } else {
            Vec::new()
        };
        if let Some(name) = quoted {
            members.insert(name, (kind, inner));
        }
        rest = &call[end..];
    }
    members
}

/// Returns the place of the parenthesis that closes a call.
fn closed(call: &str) -> usize {
    let mut depth = 1;
    for (at, letter) in call.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    call.len()
}

/// Returns the source of the program whose path ends so.
fn source(end: &str) -> String {
    let sources = sources();
    sources.into_iter().find(|(path, _)| path.ends_with(end)).unwrap_or_else(|| panic!("there is no {end}")).1
}

/// Returns the members of request records.
fn request_members() -> BTreeMap<String, Member> {
    let mut members = written(&source("gateway/request_record.rs"));
    members.extend(written(&source("gateway/recorded.rs")));
    let replayed = source("gateway/replayed.rs");
    let function = |name: &str| written(replayed.split_once(&format!("fn {name}(")).unwrap().1.split_once("\n}\n").unwrap().0);
    members.extend(function("write"));
    for (object, writers) in [("token_facts", &["presented", "times"][..]), ("certificate_facts", &["certificate_facts"])] {
        let inner = writers.iter().flat_map(|writer| function(writer).into_keys());
        members.get_mut(object).unwrap().1.extend(inner);
    }
    let token = source("entra/token/recorded.rs");
    let fields = token.split_once("struct TokenMembers<'a> {").unwrap().1.split_once("\n}").unwrap().0;
    let fields = fields.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
    members.extend(fields.map(|(name, kind)| {
        let kind = match kind {
            "Option<Audience<'a>>" => "string or list",
            kind if kind.starts_with("Vec") => "list",
            _ => "string",
        };
        (name.to_owned(), (kind, Vec::new()))
    }));
    begun(members)
}

/// Adds the members with which every record begins.
fn begun(mut members: BTreeMap<String, Member>) -> BTreeMap<String, Member> {
    members.insert("time".to_owned(), ("RFC 3339", Vec::new()));
    members.extend(written(
        source("audit/line.rs").split_once("pub(crate) fn begin").unwrap().1.split_once("pub(crate) fn").unwrap().0,
    ));
    members
}

/// Returns the rows of fields under these headings: name, type and meaning.
fn documented(headings: &[&str]) -> Vec<(String, String, String)> {
    let page = read(PAGE);
    let rows = headings.iter().flat_map(|heading| rows(&page, heading));
    // Tables of events have two cells.
    let rows = rows.filter(|row| row.len() > 3);
    rows.map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone(), row[3].clone())).collect()
}

const REQUESTS: [&str; 2] = ["## Request records", "## Fields for a replay"];

fn assert_documented(code: &BTreeMap<String, Member>, headings: &[&str]) {
    let documented = documented(headings);
    let page: BTreeMap<_, _> = documented.iter().map(|(name, kind, _)| (&**name, &**kind)).collect();
    let code_names: BTreeMap<_, _> = code.iter().map(|(name, (kind, _))| (&**name, *kind)).collect();
    assert_eq!(page, code_names, "{PAGE}, under {headings:?}: a row for each field (left: the page)");
    assert_eq!(page.len(), documented.len(), "{PAGE}: a field is listed twice");
    for (name, _, meaning) in &documented {
        for inner in &code[name].1 {
            assert!(
                meaning.contains(&format!("`{inner}`")) || meaning.contains(&format!("`{inner}:")),
                "{PAGE}: `{name}` does not tell of its `{inner}`"
            );
        }
    }
}

#[test]
fn every_field_is_documented_with_its_type() {
    assert_documented(&request_members(), &REQUESTS);
}

#[test]
fn every_field_of_a_connection_event_is_documented() {
    let code = source("gateway/record.rs");
    let event = code.split_once("fn record_connection_event").unwrap().1.split_once("line.end()").unwrap().0;

    assert_documented(&begun(written(event)), &["## Connection events"]);
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

#[test]
fn every_field_of_a_record_of_the_log_itself_is_documented() {
    let mut code = begun(written(&source("audit/own_record.rs")));
    for file in ["audit/chain/mod.rs", "audit/chain/seal.rs", "audit/chain/tail.rs"] {
        code.extend(written(&source(file)));
    }
    code.insert("public_key".to_owned(), ("object", Vec::new()));

    assert_documented(&code, &["## Records of the log itself"]);
}

#[test]
fn every_event_of_the_log_itself_is_documented() {
    let text = source("audit/own_record.rs");
    let codes = text.split_once("fn code(self)").unwrap().1.split_once("\n    }\n").unwrap().0;
    let events = codes.split('"').skip(1).step_by(2).chain(["chain-begin", "seal"]);
    let page = read(PAGE);
    let (_, part) = page.split_once("## Records of the log itself").unwrap();

    for event in events {
        assert!(part.contains(&format!("| `{event}` |")), "{PAGE}: `{event}`");
    }
}

/// The names of an object's members, in the order written.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(names)
            }
        }
        deserializer.deserialize_map(Names).map(Self)
    }
}

#[tokio::test]
async fn real_records_have_the_documented_fields_and_types_in_their_order() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let routes = format!(
        "- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}\n\
         - {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend }}"
    );
    let audit = "audit: { sinks: [], claims: [oid, uti], replay: true }";
    let gateway = Gateway::start(&config(&tenant, &upstream, &routes, audit)).await;
    let token = || tenant.token().user("nia").audience("api://orders");
    for (target, token) in [
        ("/open/1", None),
        ("/orders/1", Some(token().scopes(["Orders.Read"]).sign())),
        ("/orders/2", Some(token().scopes(["Orders.Write"]).sign())),
        ("/orders/3", Some(token().wrong_key().sign())),
        ("/nowhere", None),
    ] {
        let call = gateway.get(target).header("user-agent", "a test").header("x-request-id", "their-own");
        match token {
            Some(token) => call.bearer(token),
            None => call,
        }
        .send()
        .await;
    }
    gateway.record(|record| record["path"] == "/nowhere").await;
    let documented = documented(&REQUESTS);

    let mut seen = Vec::new();
    for line in gateway.written_records() {
        let Names(names) = serde_json::from_str(&line).unwrap();
        let places: Vec<_> = names.iter().map(|name| documented.iter().position(|(known, ..)| known == name)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{PAGE} has another order: {line}");
        let record: serde_json::Map<String, Value> = serde_json::from_str(&line).unwrap();
        assert_eq!(names.len(), record.len(), "{line}");
        for (name, value) in &record {
            let kind = documented.iter().find(|(known, ..)| known == name).map(|(_, kind, _)| kind.as_str());
            assert!(fits(kind.unwrap_or_default(), value), "{name}: {value} is no {kind:?}");
        }
        seen.extend(names);
    }
    for name in
        ["record_id", "caller_request_id", "user_agent", "http_version", "issuer", "scopes", "token_seen", "claims", "config"]
    {
        assert!(seen.iter().any(|seen| seen == name), "no record has {name}");
    }
}

/// Returns whether a value has the type that the page names.
fn fits(kind: &str, value: &Value) -> bool {
    match (kind, value) {
        ("integer", Value::Number(number)) => number.is_u64(),
        ("boolean", Value::Bool(_)) | ("object", Value::Object(_)) => true,
        ("32 hexadecimal digits", Value::String(text)) => text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        ("address", Value::String(text)) => text.parse::<std::net::IpAddr>().is_ok(),
        ("address:port", Value::String(text)) => text.parse::<std::net::SocketAddr>().is_ok(),
        ("RFC 3339", Value::String(text)) => text.ends_with('Z'),
        ("string" | "string or list", Value::String(text)) => !text.is_empty(),
        ("list" | "string or list", Value::Array(entries)) => !entries.is_empty(),
        ("list of objects", Value::Array(entries)) => !entries.is_empty() && entries.iter().all(Value::is_object),
        _ => false,
    }
}

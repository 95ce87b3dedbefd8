//! A record, read as a request and the evidence by which it was judged.

use std::{collections::HashSet, net::SocketAddr, str::FromStr as _, sync::Arc};

use http::HeaderName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::{
    audit::line::LONGEST,
    config::{FactMarks, Marked},
    entra::{Algorithm, IssuerVerdict, JUDGED_CLAIMS, PayloadForm, Verified},
    exchange::{Evidence, KeyEvidence, TokenEvidence},
    expression::KnownFacts,
    graph::{GraphAnswer, GraphTold},
    offline::OfflineRequest,
    partner::KeyMark,
    refusal::Reason,
    request::{RequestId, TokenPlace},
};

/// Stands for a token or a key that a record does not have.
const STAND_IN: &str = "not-in-the-record";
/// The characters of a parameter's name or value that need no escape.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The decision that a record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The request was admitted, or answered as the config says.
    Allowed,
    /// It was refused with this code.
    Refused(String),
    /// It was not decided by rules alone, for this cause.
    Apart(&'static str),
}

/// A recorded request that can be judged once more.
#[derive(Debug)]
pub struct RecordedRequest {
    /// The request, as far as the record has it.
    pub request: OfflineRequest,
    /// The evidence.
    pub evidence: Box<Evidence>,
    /// Its id.
    pub id: String,
    /// The id as the gateway has it.
    pub request_id: Option<RequestId>,
    /// The time when it began, in seconds since 1970.
    pub time: u64,
    /// The route of then; empty if there was none.
    pub route: String,
    /// The decision of then.
    pub told: Told,
    /// The claims of its tokens, as far as the record has them.
    pub tokens: Vec<RecordedToken>,
    /// Parts of the record that were too long to be kept whole.
    pub cut: Vec<&'static str>,
}

/// A token whose signature held.
#[derive(Clone, Debug)]
pub struct RecordedToken {
    /// Its place.
    pub place: TokenPlace,
    /// The algorithm.
    pub algorithm: String,
    /// The claims that were recorded.
    pub claims: Map<String, Value>,
}

/// The reason why a line cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// The line is no JSON object.
    NoRecord,
    /// It is the record of a connection, or of the log itself.
    NoRequest,
    /// The head of the request could not be read.
    Unreadable,
    /// It is of a question that another proxy has asked, which the record does not have whole.
    Question,
    /// It was written without `audit.replay`.
    NoFacts,
}

impl Skipped {
    /// Returns the cause in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRecord => "no record",
            Self::NoRequest => "not of a request",
            Self::Unreadable => "the request could not be read",
            Self::Question => "a question of another proxy",
            Self::NoFacts => "written without `audit.replay: true`",
        }
    }
}

impl RecordedRequest {
    /// Reads one line.
    ///
    /// # Errors
    /// Returns why it cannot be judged.
    pub fn read(line: &str, marks: &FactMarks) -> Result<Self, Skipped> {
        let record: Map<String, Value> = serde_json::from_str(line).map_err(|_| Skipped::NoRecord)?;
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let id = text("request_id").ok_or(Skipped::NoRequest)?.to_owned();
        let (method, path) = text("method").zip(text("path")).ok_or(Skipped::Unreadable)?;
        let host = text("host").ok_or(Skipped::Unreadable)?;
        if record.contains_key("dialect") {
            return Err(Skipped::Question);
        }
        let kept = record.get("replay").and_then(Value::as_object).ok_or(Skipped::NoFacts)?;
        let peer: SocketAddr = text("peer").and_then(|peer| peer.parse().ok()).ok_or(Skipped::Unreadable)?;
        let tls = kept.get("tls").and_then(Value::as_bool).unwrap_or(record.contains_key("tls_version"));
        let scheme = if tls { "https" } else { "http" };
        let authority = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("{scheme}://{authority}{path}");
        let mut request = OfflineRequest::new(method, &url, peer.ip()).map_err(|_| Skipped::Unreadable)?;
        request.tls = Some(tls);
        request.listener = text("listener").map(str::to_owned);
        request.read_trace = false;
        if text("http_version") == Some("2") {
            request.version = http::Version::HTTP_2;
        }
        let mut read = Reading { request, known: KnownFacts::default(), tokens: Vec::new(), cut: Vec::new() };
        if path.len() >= LONGEST {
            read.cut.push("the path");
        }
        if host.len() >= LONGEST {
            read.cut.push("the host");
        }
        read.forwarded(&record);
        read.headers(&record, kept);
        read.marks(&record, marks);
        read.parameters(&record, kept);
        let mut evidence = Evidence::default();
        read.tokens(&record, kept, &mut evidence);
        read.known.certificate = record.contains_key("certificate_facts") || record.contains_key("client_certificate");
        evidence.keys = keys(&record);
        evidence.graph = graph(&record);
        let Reading { request, known, tokens, cut } = read;
        evidence.recorded = Some(Box::new(known));
        let time = began(&record).ok_or(Skipped::Unreadable)?;
        let (told, route) = (told(&record), text("route").unwrap_or_default().to_owned());
        let request_id = RequestId::recorded(&id);
        Ok(Self { request, evidence: Box::new(evidence), request_id, id, time, route, told, tokens, cut })
    }
}

/// A record that is being read.
struct Reading {
    request: OfflineRequest,
    known: KnownFacts,
    tokens: Vec<RecordedToken>,
    cut: Vec<&'static str>,
}

impl Reading {
    fn forwarded(&mut self, record: &Map<String, Value>) {
        for (name, values) in members(record, "forwarded") {
            let values: Vec<&str> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if values.iter().any(|value| is_cut(value)) {
                self.cut.push("the fields of proxies");
            }
            for value in values {
                self.request.header(name, value);
            }
        }
    }

    /// Adds the header fields that were recorded. A field that was to be recorded and is not there was absent.
    fn headers(&mut self, record: &Map<String, Value>, kept: &Map<String, Value>) {
        let facts: Vec<_> = members(record, "header_facts").collect();
        for name in texts(kept, "headers") {
            let values = facts.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
            let values: Vec<&str> = values.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            let whole = values.iter().all(|value| !is_cut(value)) && values.len() < 16;
            if let Ok(name) = HeaderName::from_str(name)
                && whole
            {
                values.iter().for_each(|value| self.request.header(name.as_str(), *value));
                self.known.headers.insert(name);
            }
        }
        // Of those that are compared with secrets only their absence is known.
        for name in texts(kept, "secret_headers") {
            if let Ok(parsed) = HeaderName::from_str(name)
                && !facts.iter().any(|(own, _)| *own == name)
            {
                self.known.headers.insert(parsed);
            }
        }
    }

    /// Puts the accepted values, or another one, where the marks of fields tell that they were.
    fn marks(&mut self, record: &Map<String, Value>, marks: &FactMarks) {
        for (name, mark) in members(record, "header_marks") {
            let (Ok(name), Some(mark)) = (HeaderName::from_str(name), mark.as_str()) else { continue };
            let Some(marked) = marks.read(&name, mark) else { continue };
            match marked {
                Marked::Value(value) => self.request.header(name.as_str(), value.as_bytes()),
                Marked::Other => self.request.header(name.as_str(), STAND_IN),
            }
            self.known.headers.insert(name);
        }
    }

    fn parameters(&mut self, record: &Map<String, Value>, kept: &Map<String, Value>) {
        let facts: Vec<_> = members(record, "query_facts").collect();
        let mut query = Vec::new();
        let escaped = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        for name in texts(kept, "parameters") {
            let values = facts.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
            let values: Vec<&str> = values.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            if values.iter().all(|value| !is_cut(value)) && values.len() < 16 {
                query.extend(values.iter().map(|value| format!("{}={}", escaped(name), escaped(value))));
                self.known.parameters.insert(name.into());
            }
        }
        if !query.is_empty() {
            self.request.target = format!("{}?{}", self.request.target, query.join("&"));
        }
    }

    /// Puts stand-ins where tokens and keys were, and reads what their verification told.
    fn tokens(&mut self, record: &Map<String, Value>, kept: &Map<String, Value>, evidence: &mut Evidence) {
        let facts = record.get("token_facts").and_then(Value::as_object);
        let presented = facts.and_then(|facts| facts.get("presented")).and_then(Value::as_object);
        for place in texts(kept, "places") {
            let form = presented.and_then(|presented| presented.get(place)).and_then(Value::as_str);
            if let Some(place) = place_of(place) {
                self.present(&place, form);
                match place {
                    TokenPlace::Header(name) => drop(self.known.headers.insert(name)),
                    TokenPlace::Query(name) => drop(self.known.parameters.insert(name)),
                }
            }
        }
        let mut claims: Option<HashSet<Box<str>>> = None;
        let verifications = facts.and_then(|facts| facts.get("verifications")).and_then(Value::as_array);
        for verification in verifications.into_iter().flatten().filter_map(Value::as_object) {
            self.tokens.extend(recorded_token(verification));
            match token(verification) {
                Some(token) => evidence.tokens.push(token),
                None => self.cut.push("the claims of the token"),
            }
        }
        for name in texts(kept, "claims").chain(JUDGED_CLAIMS) {
            claims.get_or_insert_default().insert(name.into());
        }
        self.known.claims = claims.unwrap_or_default();
    }

    fn present(&mut self, place: &TokenPlace, form: Option<&str>) {
        let Some(form) = form else { return };
        match place {
            TokenPlace::Header(name) => {
                let authorization = *name == http::header::AUTHORIZATION;
                let token = if authorization { format!("Bearer {STAND_IN}") } else { STAND_IN.to_owned() };
                match form {
                    "ambiguous" => (0..2).for_each(|_| self.request.header(name.as_str(), token.as_str())),
                    "empty" => self.request.header(name.as_str(), "Bearer "),
                    _ => self.request.header(name.as_str(), token),
                }
            }
            TokenPlace::Query(name) => {
                let name = utf8_percent_encode(name, PLAIN);
                let pair = match form {
                    "ambiguous" => format!("{name}={STAND_IN}&{name}={STAND_IN}"),
                    "empty" => format!("{name}="),
                    _ => format!("{name}={STAND_IN}"),
                };
                let sign = if self.request.target.contains('?') { '&' } else { '?' };
                self.request.target = format!("{}{sign}{pair}", self.request.target);
            }
        }
    }
}

/// Reads the verification of one token; `None` if its claims were too long to be kept.
fn token(written: &Map<String, Value>) -> Option<TokenEvidence> {
    let text = |name: &str| written.get(name).and_then(Value::as_str);
    let (place, verifier): (_, Arc<str>) = (place_of(text("place")?)?, text("by")?.into());
    let result = match text("code") {
        Some(code) => Err(*Reason::ALL.iter().find(|reason| reason.code() == code)?),
        None => {
            let form = PayloadForm::named(text("form")?)?;
            let issuer = IssuerVerdict::named(text("issuer_verdict")?)?;
            let own_tenant = written.get("own_tenant")?.as_bool()?;
            let algorithm = Algorithm::named(text("algorithm")?)?;
            let claims = written.get("claims")?.as_object()?;
            Ok((Verified::recalled(form, claims, (issuer, own_tenant), algorithm).ok()?, form))
        }
    };
    Some(TokenEvidence { place, verifier, with: None, result })
}

fn recorded_token(written: &Map<String, Value>) -> Option<RecordedToken> {
    let text = |name: &str| written.get(name).and_then(Value::as_str);
    let (place, algorithm) = (place_of(text("place")?)?, text("algorithm")?.to_owned());
    Some(RecordedToken { place, algorithm, claims: written.get("claims")?.as_object()?.clone() })
}

fn keys(record: &Map<String, Value>) -> Vec<KeyEvidence> {
    let key = |written: &Value| {
        let text = |name: &str| written.get(name).and_then(Value::as_str);
        let mark = match text("key") {
            Some(mark) => Some(KeyMark::parse(mark)?),
            None => None,
        };
        Some(KeyEvidence { place: place_of(text("place")?)?, among: KeyMark::parse(text("among")?)?, mark })
    };
    record.get("key_facts").and_then(Value::as_array).into_iter().flatten().filter_map(key).collect()
}

fn graph(record: &Map<String, Value>) -> Vec<GraphAnswer> {
    let names = |value: Option<&Value>| -> Vec<Box<str>> {
        value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    let answer = |written: &Value| {
        let about = written.get("about")?.as_str()?.into();
        let at = written.get("at")?.as_u64()?;
        let told = if written.get("groups_asked").is_some() {
            GraphTold::Groups(names(written.get("groups_asked")).into(), names(written.get("groups")))
        } else {
            let claims = written.get("claims").and_then(Value::as_object);
            let found = claims.into_iter().flatten().map(|(name, value)| (name.as_str().into(), value.clone()));
            GraphTold::Claims(names(written.get("claims_asked")).into(), found.collect())
        };
        Some(GraphAnswer { about, at, told })
    };
    let outside = record.get("outside").and_then(|outside| outside.get("graph")).and_then(Value::as_array);
    outside.into_iter().flatten().filter_map(answer).collect()
}

/// Returns the decision of a record.
fn told(record: &Map<String, Value>) -> Told {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let Some(code) = text("code") else {
        return if text("decision") == Some("allow") { Told::Allowed } else { Told::Apart("not decided") };
    };
    let Some(reason) = Reason::ALL.iter().copied().find(|reason| reason.code() == code) else {
        // A code of the config's own.
        return Told::Refused(code.to_owned());
    };
    let policy = text("policy").is_some();
    match reason {
        reason if reason.is_of_limits() => Told::Apart("limits"),
        Reason::ClientLeft | Reason::InternalError | Reason::Overloaded | Reason::RequestTimeout => Told::Apart("not decided"),
        Reason::BodyTooLarge | Reason::HeadersTooLarge | Reason::RequestFramingInvalid | Reason::ExpectationFailed => {
            Told::Apart("the size or the framing of the request")
        }
        Reason::MisdirectedRequest => Told::Apart("the connection"),
        reason if reason.is_of_the_way_on() => Told::Apart("upstream faults"),
        Reason::PartnerDisabled if !policy => Told::Apart("access that ended meanwhile"),
        reason => Told::Refused(reason.code().to_owned()),
    }
}

/// Returns the second in which the request began.
fn began(record: &Map<String, Value>) -> Option<u64> {
    let ended: jiff::Timestamp = record.get("time")?.as_str()?.parse().ok()?;
    let duration = record.get("duration_us").and_then(Value::as_i64).unwrap_or_default();
    u64::try_from((ended.as_microsecond() - duration).div_euclid(1_000_000)).ok()
}

fn members<'a>(record: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    record.get(name).and_then(Value::as_object).into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn texts<'a>(object: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a str> {
    object.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns whether a value may be the beginning of a longer one, or was not UTF-8.
fn is_cut(value: &str) -> bool {
    value.len() + 3 > LONGEST || value.contains(char::REPLACEMENT_CHARACTER)
}

fn place_of(text: &str) -> Option<TokenPlace> {
    match text.split_once(' ')? {
        ("header", name) => HeaderName::from_str(name).ok().map(TokenPlace::Header),
        ("query", name) => Some(TokenPlace::Query(name.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> Value {
        json!({
            "time": "2027-02-27T17:31:04.500000Z", "request_id": "019aa8c2", "listener": "public", "peer": "10.1.0.7:50312",
            "http_version": "1.1", "method": "GET", "host": "api.contoso.example", "path": "/orders/1", "decision": "deny",
            "code": "role-missing", "route": "orders", "duration_us": 600_000,
            "forwarded": { "x-forwarded-for": ["198.51.100.200"] },
            "header_facts": { "x-team": ["a"], "x-key": true }, "query_facts": { "v": ["1", " b"] },
            "replay": {
                "headers": ["x-team", "x-none"], "secret_headers": ["x-key", "x-other-key"], "parameters": ["v", "w"],
                "claims": ["department"], "places": ["header authorization", "query token"],
            },
            "token_facts": { "presented": { "header authorization": "token", "query token": "ambiguous" } },
        })
    }

    #[test]
    fn a_record_is_read_as_a_request_and_what_it_would_have_told() {
        let read = RecordedRequest::read(&record().to_string(), &FactMarks::default()).unwrap();

        assert_eq!(
            read.request.url(),
            "http://api.contoso.example/orders/1?v=1&v=%20b&token=not-in-the-record&token=not-in-the-record"
        );
        let headers = read.request.header_map();
        assert!(headers["x-team"] == "a" && headers["authorization"] == "Bearer not-in-the-record", "{headers:?}");
        assert_eq!(
            (read.time, &read.told),
            (1_803_749_463, &Told::Refused("role-missing".to_owned())),
            "the time is its beginning"
        );
        let known = read.evidence.recorded.unwrap();
        let has = |name: &'static str| known.headers.contains(&HeaderName::from_static(name));
        assert!(has("x-team") && has("x-none") && has("x-other-key") && !has("x-key") && !has("x-unheard-of"));
        assert!(known.parameters.contains("w") && !known.parameters.contains("x"));
        assert!(known.claims.contains("department") && known.claims.contains("oid") && !known.claims.contains("salary"));
        assert!(read.cut.is_empty(), "{:?}", read.cut);
    }

    #[test]
    fn what_cannot_be_judged_says_why() {
        let changed = |change: &dyn Fn(&mut Map<String, Value>)| {
            let mut record = record();
            change(record.as_object_mut().unwrap());
            RecordedRequest::read(&record.to_string(), &FactMarks::default())
        };
        assert_eq!(RecordedRequest::read("nonsense", &FactMarks::default()).unwrap_err(), Skipped::NoRecord);
        assert_eq!(changed(&|record| drop(record.remove("request_id"))).unwrap_err(), Skipped::NoRequest);
        assert_eq!(changed(&|record| drop(record.remove("path"))).unwrap_err(), Skipped::Unreadable);
        assert_eq!(changed(&|record| drop(record.remove("replay"))).unwrap_err(), Skipped::NoFacts);
        let long = changed(&|record| drop(record.insert("path".to_owned(), format!("/{}", "a".repeat(255)).into()))).unwrap();
        assert_eq!(long.cut, ["the path"]);
        for (code, policy, expected) in [
            ("quota-exceeded", true, Told::Apart("limits")),
            ("upstream-timeout", false, Told::Apart("upstream faults")),
            ("client-left", false, Told::Apart("not decided")),
            ("partner-disabled", false, Told::Apart("access that ended meanwhile")),
            ("partner-disabled", true, Told::Refused("partner-disabled".to_owned())),
            ("of-our-own", true, Told::Refused("of-our-own".to_owned())),
        ] {
            let read = changed(&|record| {
                record.insert("code".to_owned(), code.into());
                if policy {
                    record.insert("policy".to_owned(), "inbound[0].x".into());
                }
            });
            assert_eq!(read.unwrap().told, expected, "{code}");
        }
    }

    /// Attack: records are files that others can write to.
    #[test]
    fn nothing_in_a_record_makes_the_reader_panic() {
        for member in record().as_object().unwrap().keys() {
            for value in [json!(null), json!(7), json!("\u{0}\r\nx: y"), json!([[]]), json!({ "a": [{}] }), json!(-1)] {
                let mut record = record();
                record[member] = value;
                let _ = RecordedRequest::read(&record.to_string(), &FactMarks::default());
            }
        }
    }
}

//! Azure Monitor as the gateway uses it: the Logs Ingestion API, and the older HTTP Data Collector API.
//!
//! Both verify what comes as Azure does: token or signature, size, form and schema. What they took is kept for inspection.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    sync::Arc,
};

use aws_lc_rs::hmac;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State as Extract},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    State,
    assertion::Assertion,
    graph::{admit, refuse},
};

/// The most bytes of a call, before and after compression.
const CALL_LIMIT: usize = 1 << 20;
/// The most bytes of a post to the Data Collector.
const POST_LIMIT: usize = 30_000_000;
/// How far the clock of a client may be off, in seconds.
const CLOCK_SKEW: i64 = 900;
/// The most rows that are kept.
const KEPT: usize = 200_000;

/// Azure Monitor: the rows that it was sent, and the rules that it admits them by.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// The data collection rules; without any, every rule is there and takes all columns.
    pub(crate) rules: BTreeMap<String, Rule>,
    /// The keys of workspaces.
    pub(crate) workspaces: BTreeMap<String, Vec<u8>>,
    /// The rows, each with its stream or table.
    rows: Vec<(String, Value)>,
}

/// A data collection rule.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Rule {
    /// The columns of each stream, with their types: `string`, `int`, `long`, `real`, `boolean`, `datetime`, `dynamic`.
    pub streams: BTreeMap<String, BTreeMap<String, String>>,
    /// The clients with the role Monitoring Metrics Publisher. Default: all.
    #[serde(default)]
    pub publishers: Option<BTreeSet<String>>,
}

impl Monitor {
    /// Returns the rows of a stream or table, in the order they came.
    pub(crate) fn rows(&self, name: &str) -> Vec<Value> {
        self.rows.iter().filter(|(stream, _)| name.is_empty() || stream == name).map(|(_, row)| row.clone()).collect()
    }

    /// Forgets the rows.
    pub(crate) fn forget(&mut self) {
        self.rows.clear();
    }

    fn keep(&mut self, name: &str, rows: Vec<Value>) {
        let free = KEPT - self.rows.len().min(KEPT);
        self.rows.extend(rows.into_iter().take(free).map(|row| (name.to_owned(), row)));
    }
}

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new().route("/dataCollectionRules/{rule}/streams/{stream}", post(ingest)).route("/api/logs", post(collect))
}

/// Implements the Logs Ingestion API: a JSON list of at most 1 MB, compressed or not.
async fn ingest(
    Extract(state): Extract<Arc<State>>,
    Path((rule, stream)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    const AUDIENCES: [&str; 2] = ["https://monitor.azure.com", "https://monitor.azure.com/"];
    if let Err(refused) = admit(&state, &headers, AUDIENCES[0], "").or_else(|_| admit(&state, &headers, AUDIENCES[1], "")) {
        return *refused;
    }
    if !query.contains_key("api-version") {
        return refuse(StatusCode::BAD_REQUEST, "MissingApiVersion", "The api-version query parameter is required.");
    }
    let declared = match declared(&state, &rule, &stream, &headers) {
        Ok(declared) => declared,
        Err(refused) => return *refused,
    };
    let rows = match read_rows(&headers, &body) {
        Ok(rows) => rows,
        Err(refused) => return *refused,
    };
    let rows: Result<Vec<_>, _> = rows.into_iter().map(|row| fitted(row, declared.as_ref())).collect();
    match rows {
        Ok(rows) => {
            state.monitor().keep(&stream, rows);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(text) => refuse(StatusCode::BAD_REQUEST, "InvalidRecord", &text),
    }
}

/// Returns the columns of a stream, if rules are defined, and checks that the client may publish there.
fn declared(
    state: &State,
    rule: &str,
    stream: &str,
    headers: &HeaderMap,
) -> Result<Option<BTreeMap<String, String>>, Box<Response>> {
    let monitor = state.monitor();
    if monitor.rules.is_empty() {
        return Ok(None);
    }
    let Some(known) = monitor.rules.get(rule) else {
        let text = format!("Data collection rule with immutable Id '{rule}' not found.");
        return Err(Box::new(refuse(StatusCode::NOT_FOUND, "NotFound", &text)));
    };
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = token.and_then(|token| Assertion::read(token).ok()).map(|token| token.claims);
    let claim = |name: &str| claims.as_ref()?.get(name)?.as_str().map(str::to_ascii_lowercase);
    let client = claim("appid").or_else(|| claim("azp")).unwrap_or_default();
    if known.publishers.as_ref().is_some_and(|publishers| !publishers.contains(&client)) {
        let text = format!(
            "The authentication token provided does not have access to ingest data for the data collection rule with immutable Id '{rule}' \
             PipelineAccessResult: AccessGranted: False, IsRbacPresent: False, IsDcrDceBindingValid: , DcrArmId: ."
        );
        return Err(Box::new(refuse(StatusCode::FORBIDDEN, "OperationFailed", &text)));
    }
    match known.streams.get(stream) {
        Some(columns) => Ok(Some(columns.clone())),
        None => {
            let text = format!("Stream '{stream}' is not declared by the data collection rule.");
            Err(Box::new(refuse(StatusCode::BAD_REQUEST, "InvalidStream", &text)))
        }
    }
}

/// Reads the rows of a call.
fn read_rows(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Value>, Box<Response>> {
    let refused = |status, code: &str, text: &str| Err(Box::new(refuse(status, code, text)));
    let too_large =
        || refused(StatusCode::PAYLOAD_TOO_LARGE, "ContentLengthLimitExceeded", "Maximum allowed content length: 1048576 bytes.");
    if body.len() > CALL_LIMIT {
        return too_large();
    }
    let mut text = Vec::new();
    match headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None => text.extend_from_slice(body),
        Some(b"gzip") => {
            let decoded = MultiGzDecoder::new(body).take(CALL_LIMIT as u64 + 1).read_to_end(&mut text);
            if decoded.is_err() {
                return refused(StatusCode::BAD_REQUEST, "InvalidContentEncoding", "The body is not gzip.");
            }
        }
        Some(_) => return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedEncoding", "The content encoding is unknown."),
    }
    if text.len() > CALL_LIMIT {
        return too_large();
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Array(rows)) => Ok(rows),
        _ => refused(StatusCode::BAD_REQUEST, "InvalidRequestFormat", "The body is not a JSON array."),
    }
}

/// Returns a row as the table takes it: columns that are not declared are dropped.
fn fitted(row: Value, declared: Option<&BTreeMap<String, String>>) -> Result<Value, String> {
    let Value::Object(row) = row else { return Err("A record is no object.".to_owned()) };
    let Some(declared) = declared else { return Ok(Value::Object(row)) };
    let mut kept = Map::new();
    for (name, value) in row {
        let Some(kind) = declared.get(&name) else { continue };
        let fits = match kind.as_str() {
            "string" | "guid" => value.is_string(),
            "int" | "long" => value.is_i64() || value.is_u64(),
            "real" => value.is_number(),
            "boolean" => value.is_boolean(),
            "datetime" => value.as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()),
            _ => true,
        };
        if !fits && !value.is_null() {
            return Err(format!("The column {name} is of type {kind}, and its value is not."));
        }
        kept.insert(name, value);
    }
    if !kept.contains_key("TimeGenerated") && declared.contains_key("TimeGenerated") {
        return Err("The column TimeGenerated is missing.".to_owned());
    }
    Ok(Value::Object(kept))
}

/// Implements the HTTP Data Collector API.
async fn collect(
    Extract(state): Extract<Arc<State>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let refuse =
        |status: StatusCode, error: &str, text: &str| (status, Json(json!({ "Error": error, "Message": text }))).into_response();
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if body.len() > POST_LIMIT {
        return refuse(StatusCode::NOT_FOUND, "NotFound", "The request is too large.");
    }
    if query.get("api-version").map(String::as_str) != Some("2016-04-01") {
        return refuse(StatusCode::BAD_REQUEST, "InvalidApiVersion", "The API version is not valid.");
    }
    if field("content-type") != Some("application/json") {
        return refuse(StatusCode::BAD_REQUEST, "UnsupportedContentType", "The content type is not application/json.");
    }
    let Some(log_type) = field("log-type") else {
        return refuse(StatusCode::BAD_REQUEST, "MissingLogType", "The Log-Type header is missing.");
    };
    let letters = log_type.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
    if !letters || log_type.is_empty() || log_type.len() > 100 {
        return refuse(StatusCode::BAD_REQUEST, "InvalidLogType", "The log type is not valid.");
    }
    if !is_signed(&state, &headers, body.len()) {
        return refuse(StatusCode::FORBIDDEN, "InvalidAuthorization", "The signature or the date of the request is not valid.");
    }
    let rows = match serde_json::from_slice(&body) {
        Ok(Value::Array(rows)) => rows,
        Ok(row @ Value::Object(_)) => vec![row],
        _ => return refuse(StatusCode::BAD_REQUEST, "InvalidDataFormat", "The body is not JSON."),
    };
    let reserved = ["tenant", "TimeGenerated", "RawData"];
    let fits = |row: &Value| {
        row.as_object().is_some_and(|row| row.len() <= 500 && !row.keys().any(|name| reserved.contains(&name.as_str())))
    };
    if !rows.iter().all(fits) {
        return refuse(StatusCode::BAD_REQUEST, "InvalidDataFormat", "A record is no object, or has a reserved column.");
    }
    state.monitor().keep(&format!("{log_type}_CL"), rows);
    StatusCode::OK.into_response()
}

/// Verifies `SharedKey` of a body of this length.
fn is_signed(state: &State, headers: &HeaderMap, length: usize) -> bool {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(date), Some(authorization)) = (field("x-ms-date"), field("authorization")) else { return false };
    let now = state.clock.unix_seconds().cast_signed();
    let in_time = jiff::fmt::rfc2822::parse(date).is_ok_and(|date| (date.timestamp().as_second() - now).abs() <= CLOCK_SKEW);
    let Some((workspace, signature)) = authorization.strip_prefix("SharedKey ").and_then(|text| text.split_once(':')) else {
        return false;
    };
    let (Some(key), Ok(signature)) = (state.monitor().workspaces.get(workspace).cloned(), STANDARD.decode(signature)) else {
        return false;
    };
    let text = format!("POST\n{length}\napplication/json\nx-ms-date:{date}\n/api/logs");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    in_time && date.ends_with(" GMT") && hmac::verify(&key, text.as_bytes(), &signature).is_ok()
}

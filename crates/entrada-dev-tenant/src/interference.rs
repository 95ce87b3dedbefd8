//! The tenant's side effects: it counts and records requests, and fails, delays or holds them on demand.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State as Extract},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::{State, problem::Aadsts};

use crate::base::lock::lock;

/// The longest body that any endpoint reads.
const BODY_LIMIT: usize = 8 << 20;
/// The number of requests that are kept for inspection.
const KEPT: usize = 4_096;

/// A request as received.
#[derive(Clone)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for Recorded {
    // Header and body may hold tokens and assertions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target.path())
    }
}

impl Recorded {
    /// Returns the fields of a form, in order.
    pub fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// Returns the value of a form field.
    pub fn field(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// A fault to inject. Of several that match a request, the one added first is injected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// The paths that fail: those that contain this text.
    pub path: String,
    /// The number of requests that fail; all of them if absent.
    pub times: Option<u32>,
    /// The delay of the response, in milliseconds.
    pub delay_ms: u64,
    /// The status of the response. Without status and `aadsts` the request is only delayed.
    pub status: Option<u16>,
    /// An Entra error code, answered in Entra's form.
    pub aadsts: Option<u32>,
    /// Members added to the error's JSON (`claims`, `suberror`, …).
    pub members: serde_json::Map<String, Value>,
    /// Header fields of the answer.
    pub headers: Vec<(String, String)>,
    /// The body of the answer.
    pub body: Option<String>,
    /// Breaks off the connection in the middle of the response.
    pub cut: bool,
    /// Processes the request, and loses the answer.
    pub lose_answer: bool,
}

impl Default for Fault {
    fn default() -> Self {
        Self::on("")
    }
}

impl Fault {
    /// Makes a fault for the paths that contain a text.
    pub fn on(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            times: None,
            delay_ms: 0,
            status: None,
            aadsts: None,
            members: serde_json::Map::new(),
            headers: Vec::new(),
            body: None,
            cut: false,
            lose_answer: false,
        }
    }

    /// Answers with a status.
    #[must_use]
    pub const fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Answers with an Entra error.
    #[must_use]
    pub const fn aadsts(mut self, code: u32) -> Self {
        self.aadsts = Some(code);
        self
    }

    /// Adds a member to the error's JSON.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Limits the number of requests.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Delays the response.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Adds a header field to the answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Answers with this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Breaks off the connection in the middle of the response.
    #[must_use]
    pub const fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// Processes the request, and loses the answer.
    #[must_use]
    pub const fn lose_answer(mut self) -> Self {
        self.lose_answer = true;
        self
    }

    fn answer(&self, state: &State, headers: &HeaderMap) -> Option<Response> {
        let mut response = if let Some(code) = self.aadsts {
            Aadsts::played(code).with_members(self.members.clone()).response(state.clock.unix_seconds(), headers)
        } else {
            let status = match (self.status, &self.body) {
                (Some(status), _) => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                (None, Some(_)) => StatusCode::OK,
                (None, None) if self.cut => StatusCode::OK,
                (None, None) => return None,
            };
            (status, self.body.clone().unwrap_or_default()).into_response()
        };
        if let Some(status) = self.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            *response.status_mut() = status;
        }
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        if self.cut {
            // A promise of more than comes. The head and the beginning leave while the body pretends to wait; its failure then ends the connection.
            response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("65536"));
            let beginning = self.body.clone().filter(|body| !body.is_empty()).unwrap_or_else(|| " ".to_owned());
            let broken = async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("the answer is cut"))
            };
            let parts = stream::once(std::future::ready(Ok(Bytes::from(beginning)))).chain(stream::once(broken));
            *response.body_mut() = Body::from_stream(parts);
        }
        Some(response)
    }
}

/// A hold on requests to some paths, which ends on drop.
#[derive(Debug)]
#[must_use]
pub struct Hold {
    path: String,
    open: watch::Sender<bool>,
    interference: Arc<Interference>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.interference.holds().retain(|(path, _)| *path != self.path);
        let _ = self.open.send(true);
    }
}

/// Counts, recorded requests and faults.
#[derive(Debug, Default)]
pub(crate) struct Interference {
    requests: Mutex<VecDeque<Recorded>>,
    /// The number of requests that arrived before the recorded ones.
    arrivals: watch::Sender<usize>,
    faults: Mutex<Vec<Fault>>,
    holds: Mutex<Vec<(String, watch::Receiver<bool>)>>,
}

impl Interference {
    fn holds(&self) -> std::sync::MutexGuard<'_, Vec<(String, watch::Receiver<bool>)>> {
        lock(&self.holds)
    }

    pub(crate) fn requests(&self, path: &str) -> Vec<Recorded> {
        let requests = lock(&self.requests);
        requests.iter().filter(|request| matches(request.target.path(), path)).cloned().collect()
    }

    pub(crate) fn forget(&self) {
        lock(&self.requests).clear();
    }

    pub(crate) fn arrivals(&self) -> watch::Receiver<usize> {
        self.arrivals.subscribe()
    }

    pub(crate) fn fail(&self, fault: Fault) {
        lock(&self.faults).push(fault);
    }

    pub(crate) fn recover(&self) {
        lock(&self.faults).clear();
    }

    pub(crate) fn hold(self: &Arc<Self>, path: &str) -> Hold {
        let (open, gate) = watch::channel(false);
        self.holds().push((path.to_owned(), gate));
        Hold { path: path.to_owned(), open, interference: self.clone() }
    }

    /// Returns the fault for a request, and counts it.
    fn fault(&self, path: &str) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let fault = faults.iter_mut().find(|fault| path.contains(&fault.path) && fault.times != Some(0))?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        let fault = fault.clone();
        faults.retain(|fault| fault.times != Some(0));
        Some(fault)
    }
}

/// Returns a response of which no byte arrives, not even its status: hyper breaks the connection off at the first frame.
fn nothing() -> Response {
    let broken = std::future::ready(Err::<axum::body::Bytes, _>(std::io::Error::other("the answer is lost")));
    Body::from_stream(stream::once(broken)).into_response()
}

/// Returns whether a path ends so: `/keys` matches each tenant's, of both versions.
fn matches(path: &str, end: &str) -> bool {
    path.trim_end_matches('/').ends_with(end.trim_end_matches('/'))
}

/// Records every request except those to the control endpoints, and plays the faults.
pub(crate) async fn middleware(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/dev/") || request.uri().path() == "/" {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    {
        let mut requests = lock(&state.interference.requests);
        if requests.len() == KEPT {
            requests.pop_front();
        }
        requests.push_back(Recorded {
            method: parts.method.clone(),
            target: parts.uri.clone(),
            headers: parts.headers.clone(),
            body: body.clone(),
        });
    }
    state.interference.arrivals.send_modify(|count| *count += 1);

    let gate = state
        .interference
        .holds()
        .iter()
        .find(|(path, _)| parts.uri.path().contains(path.as_str()))
        .map(|(_, gate)| gate.clone());
    if let Some(mut gate) = gate {
        let _ = gate.wait_for(|open| *open).await;
    }
    if let Some(fault) = state.interference.fault(parts.uri.path()) {
        if fault.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
        }
        if fault.lose_answer {
            drop(next.run(Request::from_parts(parts, Body::from(body))).await);
            return nothing();
        }
        if let Some(answer) = fault.answer(&state, &parts.headers) {
            return answer;
        }
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

//! `POST /api/explain`: why a request would be decided as it is, by the running config. Nothing is sent, counted or changed.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};

use super::{Admin, guard::Known};
use crate::{
    config::Written,
    explain::Explanation,
    gateway::runtime::Runtime,
    listener::Connection,
    offline::{OfflineFault, OfflineGateway, OfflineKeys, OfflineRequest},
};

/// The path.
pub(super) const PATH: &str = "/api/explain";
/// The longest question, in bytes.
const MAX_QUESTION: usize = 256 << 10;
/// One at a time: each compiles the config anew, so that nothing of the running one is touched.
static AT_ONCE: Semaphore = Semaphore::const_new(1);

/// The request in question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    #[serde(default = "get")]
    method: String,
    url: String,
    /// The address that connects.
    from: IpAddr,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    /// The token, for `Authorization`.
    token: Option<String>,
    listener: Option<String>,
    tls: Option<bool>,
    #[serde(default)]
    http2: bool,
    /// The time. Default: now.
    at: Option<jiff::Timestamp>,
}

/// The values of a header field.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

fn get() -> String {
    "GET".to_owned()
}

impl Question {
    fn request(self) -> Result<(OfflineRequest, u64), String> {
        let now = match self.at {
            Some(at) => u64::try_from(at.as_second()).map_err(|_| "`at` is before 1970".to_owned())?,
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        let mut request = OfflineRequest::new(&self.method, &self.url, self.from).map_err(|fault| fault.to_string())?;
        for (name, values) in self.headers {
            match values {
                Values::One(value) => request.header(name, value),
                Values::Many(values) => values.into_iter().for_each(|value| request.header(name.clone(), value)),
            }
        }
        if let Some(token) = self.token {
            request.set_header("Authorization", Some(&format!("Bearer {}", token.trim_start_matches("Bearer "))));
        }
        request.listener = self.listener;
        request.tls = self.tls;
        if self.http2 {
            request.version = http::Version::HTTP_2;
        }
        Ok((request, now))
    }
}

/// Answers the question in the body: to callers on this machine, and to those who have proven who they are.
pub(super) async fn explain(State(admin): State<Admin>, request: Request) -> Response {
    let extensions = request.extensions();
    let local = extensions.get::<Arc<Connection>>().is_some_and(|connection| connection.peer.ip().is_loopback());
    if !local && extensions.get::<Known>().is_none() {
        let fault = "explanations are for callers on this machine, or with a token or a certificate that the listener asks for\n";
        return (StatusCode::FORBIDDEN, fault).into_response();
    }
    if !is_json(request.headers()) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json\n").into_response();
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), MAX_QUESTION).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the question is too long\n").into_response();
    };
    // What serde says repeats keys and kinds, and no value.
    let question = serde_json::from_slice::<Question>(&body).map_err(|error| error.to_string());
    let (request, now) = match question.and_then(Question::request) {
        Ok(asked) => asked,
        Err(fault) => return (StatusCode::BAD_REQUEST, format!("{fault}\n")).into_response(),
    };
    // Nobody waits here, where probes and scrapes are answered, too.
    let Ok(permit) = AT_ONCE.try_acquire() else {
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], "another explanation is being made\n")
            .into_response();
    };
    let (written, runtime) = (admin.written.load_full(), admin.runtime.load_full());
    if let Some(name) =
        request.listener.as_ref().filter(|name| !runtime.listeners.iter().any(|listener| *listener.name == ***name))
    {
        return (StatusCode::BAD_REQUEST, format!("there is no listener `{name}`\n")).into_response();
    }
    let handle = Handle::current();
    let explained = move || {
        // Held until the work is done, also if nobody waits for it any more.
        let _permit = permit;
        handle.block_on(explained(&written, &runtime, request, now))
    };
    match spawn_blocking(explained).await {
        Ok(Ok(Some(explanation))) => axum::Json(explanation).into_response(),
        Ok(Ok(None)) => {
            let fault = "the files of the running config have changed, or cannot be read any more; reload, then ask again\n";
            (StatusCode::CONFLICT, fault).into_response()
        }
        Ok(Err(fault)) => {
            let fault = crate::base::error_chain::chain(&fault);
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the running config cannot be compiled anew: {fault}\n")).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn explained(
    written: &Written,
    runtime: &Runtime,
    request: OfflineRequest,
    now: u64,
) -> Result<Option<Explanation>, OfflineFault> {
    let Some(document) = written.read() else { return Ok(None) };
    let gateway = OfflineGateway::build_beside(&document, Some(runtime), now, OfflineKeys::AsTheyAre)?;
    let trial = OfflineGateway::build_beside(&document, Some(runtime), now, OfflineKeys::Development)?;
    Ok(Some(Box::pin(Explanation::of(&document, &gateway, Some(&trial), &request, now)).await))
}

/// Returns whether the body is JSON: a page of another origin cannot send that without being asked first.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

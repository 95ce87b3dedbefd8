//! Upstreams against real servers on the loopback interface: good ones made with hyper, bad ones byte by byte.

mod servers;
mod speaks;
mod survives;
mod verifies;

use std::{collections::BTreeMap, convert::Infallible, path::Path, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;

use super::{Call, ResponseBody, Upstream, UpstreamConfig, UpstreamError, Upstreams};
use crate::upstream::UpstreamRequest;
use crate::{
    base::{fields::Fields, response::Response},
    connection::Authority,
    refusal::{Reason, Refusal},
    settings::{ConfigDuration, Faults, Place},
};

/// Makes the settings of an upstream with these servers.
fn config(servers: &[String]) -> UpstreamConfig {
    serde_json::from_value(serde_json::json!({ "servers": servers })).unwrap()
}

/// Builds an upstream from these settings, for one thread.
fn upstream(config: UpstreamConfig) -> Arc<Upstream> {
    upstream_beside(config, Path::new("/"))
}

fn upstream_beside(config: UpstreamConfig, base: &Path) -> Arc<Upstream> {
    let mut faults = Faults::default();
    let configs = BTreeMap::from([("orders".to_owned(), config)]);
    let upstreams = Upstreams::build(&configs, base, 1, None, &Place::root().key("upstreams"), &mut faults);
    assert!(!faults.any_error(), "{faults:?}");
    upstreams.find("orders").unwrap().clone()
}

fn short(milliseconds: u64) -> ConfigDuration {
    ConfigDuration(Duration::from_millis(milliseconds))
}

fn request(method: Method, path: &str) -> UpstreamRequest {
    UpstreamRequest { method, path: path.into(), query: None, headers: Default::default() }
}

/// A body whose frames the test sends one by one.
struct Frames(mpsc::Receiver<Result<Frame<Bytes>, Refusal>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        self.0.poll_recv(context)
    }
}

fn frames() -> (mpsc::Sender<Result<Frame<Bytes>, Refusal>>, Frames) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Frames(receiver))
}

fn never(never: Infallible) -> Refusal {
    match never {}
}

async fn send<B>(upstream: &Upstream, request: UpstreamRequest, body: B) -> Result<Response<ResponseBody>, UpstreamError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Refusal>,
{
    let host = Authority { host: "api.contoso.example".into(), port: None };
    upstream
        .send(
            Call { worker: 0, host: &host, upgrade: None, owner: None, response_timeout: None, informational: None },
            request,
            body,
        )
        .await
}

async fn send_upgrade(upstream: &Upstream, path: &str) -> Result<Response<ResponseBody>, UpstreamError> {
    let host = Authority { host: "api.contoso.example".into(), port: None };
    let websocket = HeaderValue::from_static("websocket");
    let call =
        Call { worker: 0, host: &host, upgrade: Some(&websocket), owner: None, response_timeout: None, informational: None };
    upstream.send(call, request(Method::GET, path), Empty::new().map_err(never)).await
}

/// Sends a request without a body; returns the whole response.
async fn get(upstream: &Upstream, path: &str) -> Result<(u16, String), UpstreamError> {
    read(send(upstream, request(Method::GET, path), Empty::new().map_err(never)).await?).await
}

/// Sends a request with a body of known length; returns the whole response.
async fn post(upstream: &Upstream, path: &str, body: &'static str) -> Result<(u16, String), UpstreamError> {
    read(send(upstream, request(Method::POST, path), Full::from(body).map_err(never)).await?).await
}

async fn read(response: Response<ResponseBody>) -> Result<(u16, String), UpstreamError> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Returns the reason that a caller is told for an error.
fn reason<T: std::fmt::Debug>(result: Result<T, UpstreamError>) -> Reason {
    Refusal::from(result.expect_err("the request should fail")).reason
}

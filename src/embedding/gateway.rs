//! The gateway as a tower service.

use std::{
    convert::Infallible,
    error::Error,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::runtime::Handle;

use super::Peer;
use crate::{
    audit::AuditLog,
    base::{fields::Known, lock::lock},
    config::Document,
    gateway::{
        DataPlane, Inner,
        answer::ResponseBody,
        runtime::{Purpose, Runtime},
    },
    listener::{Arrival, Broken, RequestBody},
    refusal::Reason,
    server::{self, ServerError, ServerOptions},
    telemetry::Metrics,
};

/// The gateway as a `tower::Service` that an application mounts.
///
/// It handles a request as `entrada run` does: the policies of its route are applied, it is sent to the route's upstream, and it is
/// recorded. The gateway opens no socket: the application hands requests over, with a [`Peer`] among their extensions. Clones share their state.
///
/// ```no_run
/// # async fn start() -> Result<(), entrada::ServerError> {
/// let gateway = entrada::Gateway::open("config/entrada.yaml").await?;
/// let application = axum::Router::new().fallback_service(gateway);
/// # let _: axum::Router = application;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    runtime: Arc<ArcSwap<Runtime>>,
    audit: Arc<AuditLog>,
    metrics: Metrics,
    /// One for each thread, in turn, so that threads do not contend for one unless there are more threads than data planes.
    planes: Box<[DataPlane]>,
    options: ServerOptions,
    purpose: Purpose,
    /// The runtime of work that outlives requests: fetching keys and tokens, and health checks.
    background: Handle,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Held during a reload.
    reloading: std::sync::Mutex<()>,
}

impl Gateway {
    /// Reads the config at `path`, and starts the gateway on the current tokio runtime.
    ///
    /// # Errors
    /// Fails if the config is faulty, or if something that it refers to, such as a file, is not available.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ServerError> {
        Self::start(&document(path).await?, ServerOptions::default())
    }

    /// Starts the gateway on the current tokio runtime, which from now on fetches its keys and tokens. The config needs no `listeners`;
    /// listeners that it has open no socket, and only set the trusted proxies, certificate requirements and limits of requests.
    ///
    /// # Errors
    /// Fails if the config is faulty, or if something that it refers to, such as a file, is not available.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn start(document: &Document, options: ServerOptions) -> Result<Self, ServerError> {
        Self::started(document, options, Purpose::Mounted)
    }

    pub(super) fn started(document: &Document, options: ServerOptions, purpose: Purpose) -> Result<Self, ServerError> {
        let options = ServerOptions { workers: options.workers.max(1), ..options };
        let metrics = Metrics::default();
        let runtime = Arc::new(ArcSwap::from_pointee(server::build(document, &options, purpose, &metrics, None)?));
        let audit = {
            let runtime = runtime.load_full();
            let context = runtime.audit_context(&document.base);
            AuditLog::open(&document.config.audit, context, options.workers).map_err(ServerError::Audit)?
        };
        let planes = (0..options.workers).map(|worker| DataPlane::new(runtime.clone(), audit.clone(), worker)).collect();
        let writer = std::sync::Mutex::new(Some(audit.spawn_writer().map_err(ServerError::Thread)?));
        let background = Handle::current();
        runtime.load_full().start(&background);
        audit.start(&background);
        Ok(Self(Arc::new(Shared {
            runtime,
            audit,
            metrics,
            planes,
            options,
            purpose,
            background,
            writer,
            reloading: std::sync::Mutex::default(),
        })))
    }

    /// Replaces the config, entirely or not at all. Requests that have begun keep the rules that they started with.
    ///
    /// # Errors
    /// Fails if the config is faulty, or if something that it refers to is not available; the previous config then stays in use.
    pub fn reload(&self, document: &Document) -> Result<(), ServerError> {
        let Shared { runtime, audit, metrics, planes, options, purpose, background, reloading, .. } = &*self.0;
        // One after the other: each takes partners' access over from the one before.
        let _reloading = lock(reloading);
        let before = runtime.load_full();
        let after = Arc::new(server::build(document, options, *purpose, metrics, Some(&before))?);
        audit.reopen(&document.config.audit, after.audit_context(&document.base)).map_err(ServerError::Audit)?;
        after.start(background);
        runtime.store(after.clone());
        planes.iter().for_each(|plane| drop(plane.snapshot()));
        before.partners.give_way_to(&after.partners);
        Ok(())
    }

    /// Returns the things that are still missing before every request can be handled, such as signing keys; empty once the gateway is ready.
    pub fn waiting_for(&self) -> Vec<String> {
        self.0.runtime.load_full().waiting_for()
    }

    /// Returns the newest audit records, oldest first, one JSON object each.
    pub fn records(&self) -> Vec<Bytes> {
        self.0.audit.recent()
    }

    /// Handles a request; `inner` is the service that routes without a target lead to, if there is one.
    pub(super) async fn serve<B>(&self, request: Request<B>, inner: Option<Box<dyn Inner>>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let plane = self.plane();
        let to_head = request.method() == Method::HEAD;
        let told = Peer::of(request.extensions());
        let connection = told.and_then(|peer| peer.connection(&plane.snapshot()));
        let (arrival, connection) = match connection {
            Some(connection) => (Arrival::Request(Box::new(request.map(RequestBody::boxed).into())), connection),
            None => {
                const UNKNOWN: Broken = Broken::new(
                    Reason::InternalError,
                    "the application gives no `Peer`, or one of a listener that the config does not have",
                );
                (Arrival::Broken(UNKNOWN), Peer::unknown())
            }
        };
        let mut response = plane.serve(arrival, &Arc::new(connection), inner).await;
        response.body_mut().settles_itself(to_head);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // A listener of the gateway writes this itself.
            response.headers_mut().insert(Known::Connection, &HeaderValue::from_static("upgrade"));
        }
        response.into()
    }

    /// Returns the data plane of the current thread.
    fn plane(&self) -> &DataPlane {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static INDEX: usize = THREADS.fetch_add(1, Ordering::Relaxed));
        let planes = &self.0.planes;
        &planes[INDEX.with(|index| index % planes.len())]
    }
}

impl<B> tower::Service<Request<B>> for Gateway
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move { Ok(gateway.serve(request, None).await) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last records are written before the sinks close.
        self.audit.stop();
        if let Some(writer) = lock(&self.writer).take() {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
        // On a runtime of one thread nothing is delivered while this one waits; the rest stays in the spool.
        if self.background.metrics().num_workers() > 1 {
            self.audit.finish();
        }
    }
}

/// Reads a config without blocking the current thread.
pub(super) async fn document(path: impl AsRef<Path>) -> Result<Document, ServerError> {
    let path = path.as_ref().to_owned();
    let read = tokio::task::spawn_blocking(move || Document::load(&path)).await;
    read.map_err(|error| ServerError::Thread(std::io::Error::other(error)))?
        .map_err(|report| ServerError::Config(Box::new(report)))
}

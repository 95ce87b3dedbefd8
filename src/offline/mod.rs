//! The engine without a network: requests are described, judged by the gateway that serves, and nothing outside is called.
//!
//! A config is compiled as it is for serving. What differs is outside of the engine: the clock stands still, the signing keys are
//! given, upstreams are replaced by a [stand-in](crate::refusal::trace::StandIn) that notes what they would have received, and the
//! gateway's own tokens by a placeholder. Limits count, and are forgotten with each [`begin`](OfflineGateway::begin).

mod keys;
mod mint;
mod outcome;
mod request;

use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};

use arc_swap::ArcSwap;
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;

pub use self::{
    keys::{KeysFault, OfflineKeys, development_key},
    mint::{MintFault, TokenSpec, TokenSpecCredential, TokenSpecKind},
    outcome::{CallerFacts, Decided, Outcome, Verdict},
    request::{OfflineRequest, RequestFault},
};
use crate::{
    audit::{AuditConfig, AuditContext, AuditLog},
    base::{clock::Clock, fields::Fields, response::Response},
    caller::Caller,
    config::{Document, Report},
    exchange::Evidence,
    gateway::{
        DataPlane, Trial,
        runtime::{Purpose, Runtime, RuntimeContext},
    },
    refusal::trace::{StandIn, Trace},
    request::RequestId,
    route::Action,
    settings::Faults,
    telemetry::Metrics,
};

/// Stands for a secret of a vault, which is not read.
const UNREAD_SECRET: &str = "secret-of-a-vault";

/// A config, compiled for requests that are only described.
#[derive(Debug)]
pub struct OfflineGateway {
    runtime: Arc<Runtime>,
    clock: Clock,
    plane: DataPlane,
    audit: Arc<AuditLog>,
    keys: OfflineKeys,
    /// The time for which the keys were put into their sets.
    keys_at: AtomicU64,
    unasked: Vec<&'static str>,
}

/// The reason why a config cannot be used offline.
#[derive(Debug, thiserror::Error)]
pub enum OfflineFault {
    /// The config is faulty.
    #[error("the config cannot be used")]
    Config(Box<Report>),
    /// The given keys cannot be used.
    #[error("the keys cannot be used")]
    Keys(#[source] KeysFault),
}

impl OfflineGateway {
    /// Compiles a config as it is compiled for serving; nothing is started. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Returns all faults of the config, or that of the keys.
    pub fn build(document: &Document, now: u64, keys: OfflineKeys) -> Result<Self, OfflineFault> {
        Self::build_beside(document, None, now, keys)
    }

    /// Does the same for the config of a running gateway: its signing keys and the secrets that it has read are used as well. Nothing
    /// of the running one is changed, or counted.
    ///
    /// # Errors
    /// Fails as [`build`](Self::build).
    pub fn build_beside(
        document: &Document,
        running: Option<&Runtime>,
        now: u64,
        keys: OfflineKeys,
    ) -> Result<Self, OfflineFault> {
        Self::compile(document, (running, None), now, keys)
    }

    /// Compiles another config after this one: what did not change is taken over, as in a reload.
    ///
    /// # Errors
    /// Fails as [`build`](Self::build).
    pub fn build_after(&self, document: &Document) -> Result<Self, OfflineFault> {
        Self::compile(document, (None, Some(&self.runtime)), self.now(), self.keys.clone())
    }

    fn compile(
        document: &Document,
        (running, previous): (Option<&Runtime>, Option<&Runtime>),
        now: u64,
        keys: OfflineKeys,
    ) -> Result<Self, OfflineFault> {
        let mut document = document.clone();
        let unread = document.secrets.has_vault() && running.is_none();
        document.secrets = document.secrets.apart(running.map(Runtime::secrets), UNREAD_SECRET);
        let (clock, metrics, mut faults) = (Clock::manual(now), Metrics::default(), Faults::default());
        let context =
            RuntimeContext { document: &document, purpose: Purpose::Mounted, workers: 1, clock: &clock, metrics: &metrics };
        let Some(runtime) = Runtime::build(context, previous, &mut faults) else {
            return Err(OfflineFault::Config(Box::new(document.report(&faults))));
        };
        if let Some(running) = running {
            runtime.tenants.copy_keys(&running.tenants, running.clock.monotonic(), &clock);
        }
        let runtime = Arc::new(runtime);
        let quiet = AuditConfig::default().without_sinks();
        let context = AuditContext { base: &document.base, clock: &clock, remote: None };
        // Without sinks nothing is opened, so that nothing can fail.
        let audit = AuditLog::open(&quiet, context, 1).map_err(|error| OfflineFault::Keys(KeysFault::other(error)))?;
        let plane = DataPlane::new(Arc::new(ArcSwap::new(runtime.clone())), audit.clone(), 0);
        let unasked = if unread { vec!["the secrets of a vault"] } else { Vec::new() };
        let gateway = Self { runtime, clock, plane, audit, keys, keys_at: AtomicU64::new(now), unasked };
        gateway.put_keys().map_err(OfflineFault::Keys)?;
        Ok(gateway)
    }

    /// Does the same with the keys of the issuers, which are fetched as the gateway fetches them. Nothing else is called.
    ///
    /// # Errors
    /// Fails as [`build`](Self::build). Keys that cannot be fetched are missing.
    pub async fn build_online(document: &Document, now: u64) -> Result<Self, OfflineFault> {
        let (clock, metrics, mut faults) = (Clock::system(), Metrics::default(), Faults::default());
        let context = RuntimeContext { document, purpose: Purpose::Mounted, workers: 1, clock: &clock, metrics: &metrics };
        let Some(fetching) = Runtime::build(context, None, &mut faults) else {
            return Err(OfflineFault::Config(Box::new(document.report(&faults))));
        };
        fetching.fetch_keys(&Handle::current()).await;
        let secrets = document.secrets.has_vault();
        let mut gateway = Self::build_beside(document, Some(&fetching), now, OfflineKeys::AsTheyAre)?;
        if secrets {
            gateway.unasked.push("the secrets of a vault");
        }
        Ok(gateway)
    }

    /// Begins a case: sets the clock, also back, and forgets all counts. Runs between two cases share their counts.
    pub fn begin(&self, now: u64) {
        self.clock.set(now);
        self.runtime.limits.clear();
        if self.keys_at.swap(now, Ordering::Relaxed) != now {
            // They were usable when the gateway was built.
            let _ = self.put_keys();
        }
    }

    /// Moves the clock on within a case.
    pub fn advance(&self, seconds: u64) {
        self.clock.advance(std::time::Duration::from_secs(seconds));
    }

    fn put_keys(&self) -> Result<(), KeysFault> {
        self.keys.put(&self.runtime.tenants, &self.clock)
    }

    /// Returns the config, compiled.
    pub const fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Returns the time, in seconds since 1970.
    pub fn now(&self) -> u64 {
        self.clock.unix_seconds()
    }

    /// Decides a request by the evidence of an earlier judgement. Limits are passed, and nothing is made for an upstream.
    pub async fn decide(&self, request: &OfflineRequest, evidence: Box<Evidence>, id: Option<RequestId>) -> Decided {
        let trial = Trial { trace: Trace::trial(StandIn::for_decision(), false), evidence: Some(evidence), id };
        let connection = Arc::new(request.connection(&self.runtime));
        let mut response = self.plane.try_out(request.arrival(), &connection, trial).await;
        let decided = response.body_mut().recorder().map(Decided::of).unwrap_or_default();
        drop(response);
        // The record has no sink, and is not kept for anybody.
        self.audit.flush();
        decided
    }

    /// Runs a request through the gateway.
    pub async fn run(&self, request: &OfflineRequest) -> Outcome {
        let stand_in = StandIn { unasked: self.unasked.clone(), ..StandIn::answering(request.answer.clone().into()) };
        self.outcome(request, Trial { trace: Trace::trial(stand_in, request.read_trace), evidence: None, id: None }).await
    }

    /// Judges a request by the facts of its record, as [`decide`](Self::decide), and notes the steps. What is not known is told beside
    /// the verdict, which is none then.
    pub async fn judge(&self, request: &OfflineRequest, evidence: Box<Evidence>, id: Option<RequestId>) -> Outcome {
        let trial = Trial { trace: Trace::trial(StandIn::for_decision(), true), evidence: Some(evidence), id };
        let mut outcome = self.outcome(request, trial).await;
        // Nothing was made for an upstream, where a request goes that nothing has answered.
        let route = outcome.route_index.and_then(|index| self.runtime.routes.get(index));
        let forwards = route.is_some_and(|route| matches!(route.action, Action::Forward(_) | Action::Service | Action::Decide));
        if outcome.verdict == Verdict::Answer && forwards && outcome.policy.is_none() {
            outcome.verdict = Verdict::Allow;
        }
        outcome
    }

    async fn outcome(&self, request: &OfflineRequest, trial: Trial) -> Outcome {
        let connection = Arc::new(request.connection(&self.runtime));
        let mut response = self.plane.try_out(request.arrival(), &connection, trial).await;
        let mut outcome = match response.body_mut().recorder() {
            Some(recorder) => Outcome::of(recorder),
            None => Outcome::default(),
        };
        if request.read_trace
            && let Some(caller) = &mut outcome.caller
        {
            caller.hops = Caller::hops(&connection, &Fields::from(&request.header_map()), &self.clock);
        }
        let (parts, body) = response.into_parts();
        // All that answers here is in memory. What broke off has said so.
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        outcome.response = Response::from_parts(parts, body).into();
        outcome.status = outcome.response.status();
        // The record has no sink, and is not kept for anybody.
        self.audit.flush();
        outcome
    }
}

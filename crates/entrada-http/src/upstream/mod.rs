//! 6 · Upstream: pools, TLS, balancing, deadlines.
//!
//! An [`Upstream`] sends requests to one of its servers over pooled connections. Each of the gateway's threads has pools of its
//! own, so that no thread waits for another; a connection lives and dies on the thread that made it.
//!
//! The request is built from the [`UpstreamRequest`] alone: target, `Host` or `:authority`, and framing are made here. The
//! response loses its hop-by-hop fields and the challenges of schemes that authenticate a connection rather than a request
//! (`NTLM`, `Negotiate`), since the next request on that connection may be another caller's; unless the upstream has
//! `connection-affinity`, and the request has a connection of its caller's own. Redirects are never followed, but forwarded like
//! any other response; with `rewrite-redirects` those to inner hosts lead to the caller's own path. Informational responses (1xx) are forwarded before the final one; 101 if an upgrade was requested.

mod affinity;
mod body;
mod build;
mod client_certificate;
mod config;
mod connect;
mod counts;
mod error;
mod failure;
mod head;
mod health;
mod http1;
mod http2;
mod hygiene;
mod interim;
mod io;
mod outgoing;
mod pool;
mod preview;
mod redirect;
mod resolve;
mod retry;
mod send;
mod send_body;
mod server;
mod server_health;
mod tls;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path, sync::Arc};

pub use self::{
    affinity::Owner,
    body::{ResponseBody, Upgraded},
    client_certificate::{OwnCertificateStatus, UpstreamCertificateConfig},
    config::{
        AffinityConfig, BalanceConfig, EjectionConfig, Percent, ProtocolConfig, RetriesConfig, RetryCondition, TimeoutsConfig,
        UpstreamConfig, UpstreamHealthConfig, UpstreamTlsConfig,
    },
    counts::{ServerCounts, ServerDurations},
    error::UpstreamError,
    head::UpstreamRequest,
    http2::{Http2Reading, read_http2},
    interim::{Interim, Withheld},
    redirect::Reached,
    send::{Call, ServerState, Upstream},
    tls::tls_client,
};
use tokio::runtime::Handle;

use crate::settings::{Faults, Place};

/// The backends by name.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    by_name: BTreeMap<Arc<str>, Arc<Upstream>>,
}

impl Upstreams {
    /// Builds the backends, with pools for this many threads. One whose settings are those of `previous` is taken over with its
    /// connections. `place` is that of the map.
    pub fn build(
        configs: &BTreeMap<String, UpstreamConfig>,
        base: &Path,
        workers: usize,
        previous: Option<&Self>,
        place: &Place,
        faults: &mut Faults,
    ) -> Self {
        let mut trust = tls::Trust::new(base);
        let mut by_name = BTreeMap::new();
        for (name, config) in configs {
            let Some(built) = Upstream::build(name, config, workers, &mut trust, &place.key(name), faults) else { continue };
            let kept = previous.and_then(|previous| previous.find(name)).filter(|old| old.same_as(&built));
            by_name.insert(built.name().clone(), kept.cloned().unwrap_or_else(|| Arc::new(built)));
        }
        Self { by_name }
    }

    /// Starts network activity: health checks, on `background`. Does nothing for those that were taken over.
    pub fn start(&self, background: &Handle) {
        self.iter().for_each(|upstream| health::start(upstream, background));
    }

    /// Warns of settings that will stop working soon. `place` is that of the map.
    pub fn lint(&self, place: &Place, now: u64, faults: &mut Faults) {
        for upstream in self.iter() {
            if let Some(own) = upstream.own_certificate() {
                own.lint(&place.key(upstream.name()).key("tls").key("client-certificate"), now, faults);
            }
        }
    }

    /// Returns the upstream of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name)
    }

    /// Returns every upstream, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_name.values()
    }
}

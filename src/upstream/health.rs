//! Health checks: servers are polled at intervals, so that failures are detected before callers meet them.

use std::sync::{Arc, Weak, atomic::Ordering};

use http::{HeaderMap, Method};
use tokio::{
    runtime::Handle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    config::UpstreamHealthConfig,
    outgoing::Outgoing,
    pool::Pool,
    send::{Call, Upstream},
    send_body::SendBody,
};
use crate::connection::Authority;
use crate::upstream::UpstreamRequest;

/// Starts to check the servers, if it is configured and not running yet. It ends with the upstream.
pub(super) fn start(upstream: &Arc<Upstream>, background: &Handle) {
    let Some(health) = &upstream.config.health else { return };
    if upstream.watched.swap(true, Ordering::Relaxed) {
        return;
    }
    for index in 0..upstream.servers.len() {
        background.spawn(watch(Arc::downgrade(upstream), index, health.clone()));
    }
}

async fn watch(upstream: Weak<Upstream>, index: usize, health: UpstreamHealthConfig) {
    let mut ticks = interval(health.interval.0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(upstream) = upstream.upgrade() else { return };
        let passed = timeout(health.interval.0, check(&upstream, index, &health.path)).await.unwrap_or(false);
        let server = &upstream.servers[index];
        if server.standing.checked(passed, &health) {
            let state = if passed { "a server is back in service" } else { "a server is out of service: its health checks fail" };
            tracing::warn!(upstream = &*upstream.name, server = &*server.name, "{state}");
        }
    }
}

/// Checks whether the server answers with success or a redirect. Each check has its own connection, as a new caller would.
async fn check(upstream: &Upstream, index: usize, path: &str) -> bool {
    let server = &upstream.servers[index];
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let request =
        UpstreamRequest { method: Method::GET, path: path.into(), query: query.map(Into::into), headers: HeaderMap::new() };
    let host = Authority { host: server.authority.host().into(), port: server.authority.port_u16() };
    let call = Call { worker: 0, host: &host, upgrade: None, owner: None, informational: None };
    let mut outgoing = Outgoing::new(request, SendBody::empty());
    let answer = upstream.send_to(server, &Arc::new(Pool::new(&server.name)), &call, &mut outgoing, None).await;
    answer.is_ok_and(|answer| answer.status().is_success() || answer.status().is_redirection())
}

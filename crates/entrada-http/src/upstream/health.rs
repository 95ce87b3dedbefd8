//! Health checks: servers are polled at intervals, so that failures are detected before callers meet them.

use std::sync::{Arc, Weak, atomic::Ordering};

use http::Method;
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
use crate::upstream::UpstreamRequest;
use crate::{base::error_chain::chain, connection::Authority};

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
        let result = timeout(health.interval.0, check(&upstream, index, &health.path))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", health.interval.0)));
        let server = &upstream.servers[index];
        let (passed, cause) = (result.is_ok(), result.as_ref().err().cloned());
        if server.health.checked(result, &health) {
            let (upstream, server) = (&*upstream.name, &*server.name);
            if passed {
                tracing::warn!(upstream, server, "a server is back in service");
            } else {
                tracing::warn!(upstream, server, cause, "a server is out of service: its health checks fail");
            }
        }
    }
}

/// Checks whether the server answers with success or a redirect. Each check has its own connection, as a new caller would.
async fn check(upstream: &Upstream, index: usize, path: &str) -> Result<(), String> {
    let server = &upstream.servers[index];
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let request =
        UpstreamRequest { method: Method::GET, path: path.into(), query: query.map(Into::into), headers: Default::default() };
    let host = Authority { host: server.authority.host().into(), port: server.authority.port_u16() };
    let call = Call { worker: 0, host: &host, upgrade: None, owner: None, response_timeout: None, informational: None };
    let mut outgoing = Outgoing::new(request, SendBody::empty());
    let answer = upstream.send_to(server, &Arc::new(Pool::new(&server.name)), &call, &mut outgoing, None).await;
    match answer {
        Ok(answer) if answer.status().is_success() || answer.status().is_redirection() => Ok(()),
        Ok(answer) => Err(format!("it answers with {}", answer.status())),
        Err(error) => Err(chain(&error)),
    }
}

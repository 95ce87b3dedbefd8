//! The state of a server's service, by its health checks and its responses.

use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::base::lock::lock;

use super::config::{EjectionConfig, UpstreamHealthConfig};

/// The origin of times; never zero milliseconds ago.
static START: LazyLock<Instant> = LazyLock::new(|| Instant::now() - Duration::from_millis(1));

/// The state of a server's service. Read by every request, written only when something changes.
#[derive(Debug, Default)]
pub(super) struct ServerHealth {
    /// Its health checks fail.
    down: AtomicBool,
    /// The number of checks in a row that contradict the current state.
    contrary: AtomicU32,
    /// The number of failed requests in a row.
    failures: AtomicU32,
    /// The number of ejections.
    ejections: AtomicU64,
    /// The end of the ejection, in milliseconds; 0 if there is none.
    ejected_until: AtomicU64,
    /// The last change, which only changes and the status page read.
    last: Mutex<Last>,
}

/// The last change of a server's state.
#[derive(Debug, Default)]
struct Last {
    /// In seconds since 1970.
    since: Option<u64>,
    cause: Option<Arc<str>>,
}

impl ServerHealth {
    /// Returns whether it may receive requests.
    pub(super) fn is_available(&self) -> bool {
        self.is_up() && !self.is_ejected()
    }

    /// Returns whether its health checks pass, or there are none.
    pub(super) fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// Returns whether it is ejected.
    pub(super) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && until > now()
    }

    /// Notes a successful request.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a failed request. Returns whether the server is ejected from now on.
    pub(super) fn failed(&self, ejection: &EjectionConfig, cause: impl FnOnce() -> String) -> bool {
        if self.is_ejected() || self.failures.fetch_add(1, Ordering::Relaxed) + 1 < ejection.consecutive_failures {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        let time = u64::try_from(ejection.r#for.0.as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(now().saturating_add(time), Ordering::Relaxed);
        self.changed(Some(cause()));
        true
    }

    /// Notes the result of a health check. Returns whether that changed anything.
    pub(super) fn checked(&self, result: Result<(), String>, health: &UpstreamHealthConfig) -> bool {
        let passed = result.is_ok();
        if passed == self.is_up() {
            self.contrary.store(0, Ordering::Relaxed);
            return false;
        }
        let needed = if passed { health.healthy } else { health.unhealthy };
        if self.contrary.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return false;
        }
        self.contrary.store(0, Ordering::Relaxed);
        self.down.store(!passed, Ordering::Relaxed);
        self.changed(result.err());
        true
    }

    fn changed(&self, cause: Option<String>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        *lock(&self.last) = Last { since, cause: cause.map(Into::into) };
    }

    /// Returns the number of ejections so far.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Returns when the state changed last, in seconds since 1970.
    pub(super) fn since(&self) -> Option<u64> {
        lock(&self.last).since
    }

    /// Returns why it is out of service, if it is.
    pub(super) fn cause(&self) -> Option<Arc<str>> {
        if self.is_available() { None } else { lock(&self.last).cause.clone() }
    }
}

fn now() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ConfigDuration;

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_eject_for_a_while() {
        let (health, ejection) =
            (ServerHealth::default(), EjectionConfig { consecutive_failures: 3, r#for: ConfigDuration::seconds(30) });

        for failures in [2, 3] {
            health.succeeded();
            for _ in 0..failures {
                assert!(health.is_available());
                health.failed(&ejection, || "it answers with 503".to_owned());
            }
        }
        assert!(!health.is_available());
        assert!(health.is_up());
        assert_eq!(health.cause().as_deref(), Some("it answers with 503"));
        assert!(health.since().is_some());

        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(health.is_available());
    }

    #[test]
    fn checks_in_a_row_change_the_state() {
        let health = ServerHealth::default();
        let config: UpstreamHealthConfig = serde_json::from_value(serde_json::json!({ "path": "/" })).unwrap();

        let changes: Vec<_> = [false, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|passed| (health.checked(if passed { Ok(()) } else { Err("refused".to_owned()) }, &config), health.is_up()))
            .filter(|(changed, _)| *changed)
            .collect();

        assert_eq!(changes, [(true, false), (true, true)]);
    }
}

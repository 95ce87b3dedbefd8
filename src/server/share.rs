//! The share of each listener in the connections that the process can hold.

use crate::{
    base::process_limits::{connections_that_fit, raise_open_files},
    gateway::runtime::{ListenerRules, Runtime},
    listener::ListenerSettings,
};

/// Each listener's share of the connections that fit into the process's limit of open files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// The connections that all listeners allow together.
    pub(super) wanted: u64,
    /// The number of connections that fit.
    pub(super) fit: u64,
}

impl Share {
    pub(super) fn of(runtime: &Runtime) -> Self {
        let of = |rules: &ListenerRules| (rules.settings.limits.connections * rules.addresses.len()) as u64;
        let wanted = runtime.listeners.iter().map(of).sum();
        let fit = raise_open_files().map_or(wanted, |open_files| connections_that_fit(open_files).min(wanted));
        Self { wanted, fit }
    }

    pub(super) fn applied(self, mut settings: ListenerSettings) -> ListenerSettings {
        if self.fit < self.wanted {
            for limit in [&mut settings.limits.connections, &mut settings.limits.connections_per_peer] {
                let share = u128::from(self.fit) * *limit as u128 / u128::from(self.wanted);
                *limit = usize::try_from(share).unwrap_or(usize::MAX).max(1);
            }
        }
        settings
    }
}

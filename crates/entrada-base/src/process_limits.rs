//! Limits of the process, set once when it starts.

use std::sync::OnceLock;

/// Descriptors reserved for everything but callers' and backends' connections: files, listening sockets, the threads' event
/// queues, and connections to identity providers.
const RESERVED: u64 = 256;
/// The number of connections that are always allowed, however few descriptors there are.
const LEAST_CONNECTIONS: u64 = 16;

/// Raises the soft limit of open files to the hard one, once. Returns the limit, or `None` where no bound is known.
pub fn raise_open_files() -> Option<u64> {
    static RAISED: OnceLock<Option<u64>> = OnceLock::new();
    *RAISED.get_or_init(raise)
}

#[cfg(unix)]
fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(soft = limit.current, hard = limit.maximum, %error, "the limit of open files cannot be raised");
            limit.current
        }
    }
}

#[cfg(not(unix))]
const fn raise() -> Option<u64> {
    None
}

/// Returns the number of callers' connections that fit into this many open files, where each may need another one to a backend.
pub const fn connections_that_fit(open_files: u64) -> u64 {
    let fit = open_files.saturating_sub(RESERVED) / 2;
    if fit < LEAST_CONNECTIONS { LEAST_CONNECTIONS } else { fit }
}

/// Returns the number of open files that this many connections may need.
pub const fn open_files_for(connections: u64) -> u64 {
    connections.saturating_mul(2).saturating_add(RESERVED)
}

/// Prevents core files: they would hold keys, secrets and callers' tokens. The hard limit is lowered too, so that nothing in the
/// process can raise it again. Where the kernel pipes core dumps to a program (`core_pattern`), that program is told the limit,
/// and systemd's obeys it.
pub fn forbid_core_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};

        let none = Rlimit { current: Some(0), maximum: Some(0) };
        if let Err(error) = setrlimit(Resource::Core, none) {
            eprintln!("core files cannot be forbidden, which would hold keys and tokens: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_room_for_one_to_a_backend() {
        for (open_files, connections) in [(20_256, 10_000), (1_024, 384), (256, 16), (0, 16), (u64::MAX, (u64::MAX - 256) / 2)] {
            assert_eq!(connections_that_fit(open_files), connections, "{open_files}");
        }
        assert_eq!(connections_that_fit(open_files_for(10_000)), 10_000);
    }

    #[cfg(unix)]
    #[test]
    fn the_soft_limit_is_the_hard_one() {
        let raised = raise_open_files();

        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!((limit.current, raised), (limit.maximum, limit.maximum));
    }
}

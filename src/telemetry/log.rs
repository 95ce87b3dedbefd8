//! The gateway's own log: what it does, on standard error. Requests are not logged here; they have their audit records.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::LogLevel;

/// Starts the log. `ENTRADA_LOG` overrules the level, in the form of `tracing`'s filters. A second call does nothing.
pub fn start_logging(level: LogLevel) {
    let filter =
        EnvFilter::try_from_env("ENTRADA_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,entrada={}", level.as_str())));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let person = std::io::stderr().is_terminal();
    // An error says that a log is there already: in tests and in the demo, where several gateways share a process.
    let _ = if person { log.try_init() } else { log.json().flatten_event(true).try_init() };
}

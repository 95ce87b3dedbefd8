//! The gateway's own log, on standard error. Requests are not logged here; they have their audit records.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::LogLevel;

/// Sends the message of a panic to the log, instead of printing it.
///
/// A message that was formatted at run time may quote a caller's input or a secret, so only literal messages are logged. The
/// location is always logged.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let at = panic.location().map(ToString::to_string);
        let message = message(panic.payload());
        tracing::error!(at, thread = thread.name(), message, "the gateway panicked");
    }));
}

fn message(panic: &(dyn std::any::Any + Send)) -> &'static str {
    panic.downcast_ref::<&'static str>().copied().unwrap_or("(not shown: it may quote a request)")
}

/// Starts the log. `ENTRADA_LOG` overrides the level, in the form of `tracing`'s filters. A second call does nothing.
pub fn start_logging(level: LogLevel) {
    let filter =
        EnvFilter::try_from_env("ENTRADA_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,entrada={}", level.as_str())));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let person = std::io::stderr().is_terminal();
    // An error says that a log is there already: in tests and in the demo, where several gateways share a process.
    let _ = if person { log.try_init() } else { log.json().flatten_event(true).try_init() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_tells_what_stands_in_the_source_and_no_more() {
        let secret = "s3cret";
        let caught = |panic: fn(&str)| std::panic::catch_unwind(|| panic(secret)).unwrap_err();

        assert_eq!(message(&*caught(|_| panic!("never empty"))), "never empty");
        assert!(!message(&*caught(|secret| panic!("no end: {secret}"))).contains(secret));
    }
}

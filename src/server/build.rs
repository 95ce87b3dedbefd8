//! Compiling a config for a server: what a start would find, and the warnings that go with it.

use super::{ServerError, ServerOptions};
use crate::{
    audit,
    base::process_limits::{open_files_for, raise_open_files},
    config::{Config, Document, ListenerConfig, Report},
    gateway::runtime::{Purpose, Runtime, RuntimeContext},
    settings::{Faults, Lint, Place},
    telemetry::{self, Metrics},
};

/// Builds a config as a start would, and says in `faults` what would keep it from starting. Nothing is opened or made.
pub fn try_out(document: &Document, faults: &mut Faults) -> Option<Runtime> {
    let runtime = Runtime::try_out(document, faults);
    let context = runtime.as_ref().map(Runtime::remote_context);
    audit::check::check(&document.config.audit, &document.base, context, faults);
    check_telemetry(&document.config, faults);
    lint_open_files(&document.config, faults);
    runtime
}

fn check_telemetry(config: &Config, faults: &mut Faults) {
    if let Some(otlp) = &config.telemetry.otlp {
        telemetry::check_otlp(otlp, &Place::root().key("telemetry").key("otlp"), faults);
    }
}

/// Warns of written limits of connections that do not fit into the open files that this process may have.
fn lint_open_files(config: &Config, faults: &mut Faults) {
    let wanted = |listener: &ListenerConfig| u64::from(listener.limits.connections) * listener.address.as_slice().len() as u64;
    let needed = open_files_for(config.listeners.iter().map(wanted).sum());
    let Some(open_files) = raise_open_files().filter(|open_files| *open_files < needed) else { return };
    let default = ListenerConfig::default_connections();
    // Where nothing is written, a start says what it makes of the default.
    if let Some(index) = config.listeners.iter().position(|listener| listener.limits.connections != default) {
        let place = Place::root().key("listeners").index(index).key("limits").key("connections");
        let message =
            format!("the connections of all listeners may need {needed} open files, and this process may have {open_files}");
        faults.warning(
            Lint::OpenFiles,
            &place,
            message,
            "raise the limit (`LimitNOFILE=`, `ulimit -n`), or allow fewer connections",
        );
    }
}

/// Compiles a config, and tells its warnings to the log.
///
/// # Errors
/// Fails with a report of its faults.
pub(crate) fn build(
    document: &Document,
    options: &ServerOptions,
    purpose: Purpose,
    metrics: &Metrics,
    previous: Option<&Runtime>,
) -> Result<Runtime, ServerError> {
    build_with_report(document, options, purpose, metrics, previous).map(|(runtime, _)| runtime)
}

/// Does the same, and returns the warnings, too.
pub(super) fn build_with_report(
    document: &Document,
    options: &ServerOptions,
    purpose: Purpose,
    metrics: &Metrics,
    previous: Option<&Runtime>,
) -> Result<(Runtime, Report), ServerError> {
    let mut faults = Faults::default();
    let context = RuntimeContext { document, purpose, workers: options.workers, clock: &options.clock, metrics };
    let runtime = Runtime::build(context, previous, &mut faults);
    let remote = runtime.as_ref().map(Runtime::remote_context);
    audit::check::check(&document.config.audit, &document.base, remote, &mut faults);
    check_telemetry(&document.config, &mut faults);
    let report = document.report_at(&faults, options.clock.unix_seconds());
    match runtime {
        Some(runtime) if report.errors() == 0 => {
            report.log();
            Ok((runtime, report))
        }
        _ => Err(ServerError::Config(Box::new(report))),
    }
}

//! The export of traces and metrics, begun with the process.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    admin::Admin,
    config::Config,
    settings::{Faults, Place},
    telemetry::{Exporter, OtlpSettings, Traces},
};

/// Returns the settings of the export of traces and metrics, if there is one. Its faults were told when the config was built.
pub(super) fn otlp(config: &Config) -> Option<OtlpSettings> {
    let place = Place::root().key("telemetry").key("otlp");
    let variable = |name: &str| std::env::var(name).ok();
    OtlpSettings::build(config.telemetry.otlp.as_ref()?, &variable, &place, &mut Faults::default())
}

/// Starts the export; returns what ends it.
pub(super) fn export(
    settings: OtlpSettings,
    traces: Option<Arc<Traces>>,
    admin: Admin,
    background: &Handle,
) -> Option<oneshot::Sender<std::sync::mpsc::Sender<()>>> {
    match Exporter::new(settings, traces, Box::new(move || admin.metrics_text())) {
        Ok(exporter) => {
            let (word, stop) = oneshot::channel();
            background.spawn(exporter.run(stop));
            Some(word)
        }
        Err(error) => {
            tracing::error!(error = crate::base::error_chain::chain(&error), "traces and metrics cannot be exported");
            None
        }
    }
}

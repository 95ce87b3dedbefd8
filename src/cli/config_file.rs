//! The config that a command is about, named in either of two ways.

use std::path::PathBuf;

use clap::Args;

/// The config file of a command: an argument, or `--config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// The config file [default: $ENTRADA_CONFIG, else config/entrada.yaml]
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The config file, as an option
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The path, as it was given.
    pub(crate) fn path(&self) -> PathBuf {
        let written = self.file.as_ref().or(self.config.as_ref()).cloned();
        written
            .or_else(|| std::env::var_os("ENTRADA_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("config/entrada.yaml"))
    }
}

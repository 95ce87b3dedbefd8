//! `entrada diff`: who gains or loses access by a change of the config.

mod live;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::{
    config::Document,
    difference::{Change, Difference, Options, Side, difference},
    offline::OfflineFault,
    settings::node::Node,
};

/// Arguments of `entrada diff`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 if the question is answered and nothing of the kind of --fail-on was found, 1 if something of that kind was \
                  found or cannot be ruled out, 2 if a config is faulty or the answer is not complete.\nNothing is sent: each difference is \
                  shown with a request that both configs have judged."
)]
pub struct DiffArguments {
    /// The config as it is
    #[arg(value_name = "OLD", required_unless_present = "live")]
    old: Option<PathBuf>,
    /// The config as it is to be
    #[arg(value_name = "NEW", required_unless_present = "live")]
    new: Option<PathBuf>,
    /// Compare a file with what a running gateway uses, by the digests of their parts
    #[arg(long, value_name = "FILE", conflicts_with_all = ["old", "new", "route"])]
    live: Option<PathBuf>,
    /// The admin listener of the running gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901", requires = "live")]
    admin: String,
    /// Exit with 1 if somebody gains access, loses it, or either
    #[arg(long, value_enum, value_name = "KIND")]
    fail_on: Option<FailOn>,
    /// Compare only routes whose name contains this text
    #[arg(long, value_name = "TEXT")]
    route: Option<String>,
    /// The most cells that are compared
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max_cells: usize,
    /// The number of requests that are tried for a condition that cannot be taken apart
    #[arg(long, value_name = "N", default_value_t = 64)]
    samples: usize,
    /// Exit as if the answer were complete when a limit was met
    #[arg(long)]
    allow_incomplete: bool,
    /// The time of the requests, as 2027-03-01T09:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: DiffFormat,
}

/// A kind of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Somebody gains access.
    Gain,
    /// Somebody loses access.
    Loss,
    /// Either.
    Any,
}

/// The output format of `entrada diff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
    /// For a comment on a pull request.
    Markdown,
    /// For code scanning.
    Sarif,
}

/// Runs the command.
///
/// # Errors
/// Fails if a config cannot be read or used; the program then exits with 2.
pub fn run(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let now = match arguments.at {
        Some(at) => u64::try_from(at.as_second()).context("the time is before 1970")?,
        None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(file) = &arguments.live {
        return runtime.block_on(live::run(file, &arguments.admin, arguments));
    }
    let (Some(old), Some(new)) = (&arguments.old, &arguments.new) else {
        bail!("name the config as it is, and as it is to be");
    };
    let within = runtime.enter();
    let (old, new) = (side(old, now)?, side(new, now)?);
    drop(within);
    if let Some(text) = &arguments.route
        && ![&old, &new].iter().any(|side| side.has_route(text))
    {
        bail!("neither config has a route whose name contains `{text}`: nothing would be compared");
    }
    let options = Options { route: arguments.route.clone(), most_cells: arguments.max_cells, samples: arguments.samples };
    let found = runtime.block_on(difference([&old, &new], &options));
    let text = match arguments.format {
        DiffFormat::Text => found.to_text(),
        DiffFormat::Json => format!("{:#}\n", serde_json::to_value(&found)?),
        DiffFormat::Markdown => found.to_markdown(),
        DiffFormat::Sarif => format!("{:#}\n", found.to_sarif()),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("the result cannot be written")?;
    Ok(exit(&found, arguments))
}

fn exit(found: &Difference, arguments: &DiffArguments) -> ExitCode {
    let has = |change: Change| found.of(change).next().is_some();
    let of_kind = match arguments.fail_on {
        None => false,
        Some(FailOn::Gain) => has(Change::Gain),
        Some(FailOn::Loss) => has(Change::Loss),
        Some(FailOn::Any) => has(Change::Gain) || has(Change::Loss),
    };
    // What was found stands, also where more could not be looked for.
    if of_kind || arguments.fail_on.is_some() && !found.unknown.is_empty() {
        return ExitCode::FAILURE;
    }
    if found.complete || arguments.allow_incomplete { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// Reads and compiles a config.
fn side(path: &Path, now: u64) -> anyhow::Result<Side> {
    let (document, nodes): (Document, Node) =
        Document::load_with_values(path, &|name| std::env::var(name).ok()).map_err(|report| anyhow::anyhow!("{report}"))?;
    match Side::new(&document, &nodes, now) {
        Ok(side) => Ok(side),
        Err(OfflineFault::Config(report)) => bail!("{report}"),
        Err(fault @ OfflineFault::Keys(_)) => bail!("{}", crate::base::error_chain::chain(&fault)),
    }
}

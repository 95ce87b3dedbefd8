//! `entrada audit replay`: what another config would have decided on recorded requests.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, IsTerminal as _, Write as _, stdin},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    address::AddressSetStatus,
    base::error_chain::chain,
    cli::certificate::Format,
    config::Document,
    offline::{OfflineFault, OfflineGateway, OfflineKeys},
    replay::{Change, Direction, Replay},
};

/// The longest record, in bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// The rows of each part of the text.
const ROWS: usize = 40;

/// Arguments of `entrada audit replay`.
#[derive(Args, Debug)]
#[command(
    after_help = "Records are judged by what they hold: write them with `audit: { replay: true }`. A fact that is not there makes the verdict unknown. \
                  Limits and faults of upstreams are counted apart.\nExit status: 0 if the question is answered; 1 if --fail-on is given and there is \
                  something of that kind; 2 if a file or the config cannot be read."
)]
pub struct ReplayArguments {
    /// The files of records, the oldest first; `-` reads standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The config that decides
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The time of the decisions: `now`, or a time as 2027-03-01T09:00:00Z [default: each record's own]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Fail if there is something of this kind; can be given several times
    #[arg(long, value_enum, value_name = "KIND")]
    fail_on: Vec<FailOn>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A kind of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Refused then, admitted by the config.
    Gain,
    /// Admitted then, refused by the config.
    Loss,
    /// Any other verdict than then.
    Any,
    /// A verdict that the records do not decide.
    Unknown,
}

/// Replays the files.
///
/// # Errors
/// Fails if a file or the config cannot be read.
pub fn run(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = at(arguments.at.as_deref(), now)?;
    let document = Document::load(&arguments.config).map_err(|report| anyhow::anyhow!("{report}"))?;
    let gateway = OfflineGateway::build(&document, at.unwrap_or(now), OfflineKeys::AsTheyAre).map_err(|fault| match fault {
        OfflineFault::Config(report) => anyhow::anyhow!("{report}"),
        fault @ OfflineFault::Keys(_) => anyhow::anyhow!("{}", chain(&fault)),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut replay = Replay::against(&document);
    for file in &arguments.files {
        each_line(file, |line| runtime.block_on(replay.add(&gateway, line, at)))?;
    }
    let sets = gateway.runtime().address_sets.status(now);
    let changes = replay.changes();
    let shown = match arguments.format {
        Format::Json => format!("{:#}\n", in_json(&document, &replay, &changes, &sets)),
        Format::Text => in_words(&document, &replay, &changes, &sets),
    };
    std::io::stdout().lock().write_all(shown.as_bytes())?;
    let fails = |kind: &FailOn| match kind {
        FailOn::Gain => changes.iter().any(|change| change.direction() == Direction::Gain),
        FailOn::Loss => changes.iter().any(|change| change.direction() == Direction::Loss),
        FailOn::Any => !changes.is_empty(),
        FailOn::Unknown => !replay.unknown().is_empty(),
    };
    Ok(if arguments.fail_on.iter().any(fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn at(written: Option<&str>, now: u64) -> anyhow::Result<Option<u64>> {
    match written {
        None => Ok(None),
        Some("now") => Ok(Some(now)),
        Some(text) => {
            let time: jiff::Timestamp =
                text.parse().with_context(|| format!("`{text}` is no time; write `now`, or a time as 2027-03-01T09:00:00Z"))?;
            Ok(Some(u64::try_from(time.as_second()).context("the time is before 1970")?))
        }
    }
}

/// Reads a file line by line, however long it is.
fn each_line(file: &Path, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let mut reader: Box<dyn BufRead> = if file == Path::new("-") {
        if stdin().is_terminal() {
            eprintln!("reading records from standard input");
        }
        Box::new(stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).with_context(|| format!("cannot read {name}"))?))
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut reader, LONGEST_LINE).read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {name}"))? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_start_matches('\u{feff}').trim();
        if !text.is_empty() {
            each(text);
        }
    }
}

fn in_json(document: &Document, replay: &Replay, changes: &[Change], sets: &[AddressSetStatus]) -> Value {
    json!({
        "config_digest": document.fingerprint.digest(),
        "records": replay.records,
        "skipped": replay.skipped(),
        "skipped_by": replay.skipped_by(),
        "same": replay.same,
        "changes": changes,
        "unknown": replay.unknown(),
        "not_judged": replay.not_judged(),
        "address_sets": sets,
    })
}

fn in_words(document: &Document, replay: &Replay, changes: &[Change], sets: &[AddressSetStatus]) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let judged = replay.same + changes.iter().map(|change| change.count).sum::<u64>();
    let _ = writeln!(text, "{} records, {judged} judged by {}", replay.records, document.fingerprint.digest());
    for (direction, title) in [
        (Direction::Gain, "GAIN   refused then, admitted now"),
        (Direction::Loss, "LOSS   admitted then, refused now"),
        (Direction::OtherCode, "OTHER  refused then and now, for other reasons"),
    ] {
        let of_kind: Vec<_> = changes.iter().filter(|change| change.direction() == direction).collect();
        if of_kind.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{title}");
        for change in of_kind.iter().take(ROWS) {
            let route = if change.route.is_empty() { "(no route)" } else { &change.route };
            let first = change.request_ids.first().map_or("", String::as_str);
            let (route, before, after) = (printable(route), printable(&change.before), printable(&change.after));
            let _ = writeln!(text, "  {:>7}  {route:<20} {before} → {after}   as {}", change.count, printable(first));
        }
        if of_kind.len() > ROWS {
            let _ = writeln!(text, "  and {} more (--format json shows all)", of_kind.len() - ROWS);
        }
    }
    let unknown = replay.unknown();
    if !unknown.is_empty() {
        let _ = writeln!(text, "\nUNKNOWN  the records do not decide it");
        for unknown in unknown.iter().take(ROWS) {
            let _ = writeln!(text, "  {:>7}  needs {}", unknown.count, printable(&unknown.fact));
        }
    }
    let apart = replay.not_judged().into_iter().chain(replay.skipped_by());
    let apart: Vec<_> = apart.map(|counted| format!("{} ({})", counted.count, counted.cause)).collect();
    if !apart.is_empty() {
        let _ = writeln!(text, "\nNot judged: {}", apart.join(", "));
    }
    if !sets.is_empty() {
        let _ = writeln!(text, "\nAddress sets are those of the config as it is now.");
    }
    let _ = match (changes.is_empty(), unknown.is_empty()) {
        (true, true) => writeln!(text, "\nThe same: every verdict that was judged."),
        (true, false) => writeln!(text, "\nThe same: {} verdicts.", replay.same),
        (false, _) => {
            writeln!(text, "\nThe same: {} verdicts. Explain one: entrada explain --record FILE --request-id ID", replay.same)
        }
    };
    text
}

/// Makes what a record holds safe for a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

//! `entrada audit verify`: whether files of audit records are as they were written.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::{
    audit::verify::{Finding, FindingKind, Verification, Wanted, read_keys, verify},
    cli::certificate::Format,
};

/// Arguments of `entrada audit verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 if nothing was found, 1 if something was, 2 if a file cannot be read.\nNothing is written: what was changed \
                  stays as it is."
)]
pub(super) struct VerifyArguments {
    /// The files of one chain, in any order; those that end with .gz are decompressed
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A seal that was kept elsewhere: the record itself, or a file of records; can be given several times
    #[arg(long, value_name = "SEAL")]
    anchor: Vec<String>,
    /// A file with the key of the seals: the public or private key, or the certificate (PEM); can be given several times
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// The time by which the last seal is judged, as 2027-03-01T09:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// The output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Verifies the files, and prints what was found.
///
/// # Errors
/// Fails if a file, a key or an anchor cannot be read.
pub(super) fn run(arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let mut anchors = Vec::new();
    for anchor in &arguments.anchor {
        anchors.extend(read_anchors(anchor)?);
    }
    let now = match arguments.at {
        Some(at) => u64::try_from(at.as_second()).context("the time is before 1970")?,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let wanted = Wanted { keys: read_keys(&arguments.key)?, anchors, now };
    let result = verify(&arguments.files, &wanted)?;
    match arguments.format {
        Format::Json => writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&result)?)?,
        Format::Text => write!(std::io::stdout(), "{}", text(&result))?,
    }
    Ok(ExitCode::from(u8::from(!result.findings.is_empty())))
}

/// Reads seals: a record, or those in a file.
fn read_anchors(anchor: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    let file = !anchor.trim_start().starts_with('{');
    let text =
        if file { fs::read_to_string(anchor).with_context(|| format!("cannot open {anchor}"))? } else { anchor.to_owned() };
    let seals: Vec<_> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok())
        .filter(|record| record.get("event").is_some_and(|event| event == "seal"))
        .collect();
    if seals.is_empty() {
        bail!("{} holds no seal", if file { anchor } else { "the anchor" });
    }
    Ok(seals)
}

/// Returns the result as text for a person.
fn text(result: &Verification) -> String {
    let mut lines: Vec<_> = result.findings.iter().map(finding).collect();
    let range = match (result.first_seq, result.last_seq) {
        (Some(first), Some(last)) => format!(" {first} to {last}"),
        _ => String::new(),
    };
    let (files, of) = (result.files.len(), if result.files.len() == 1 { "file" } else { "files" });
    lines.push(format!("{} lines{range} in {files} {of}", result.records));
    if let Some(head) = &result.head {
        lines.push(format!("head: {head}"));
    }
    let seals = &result.seals;
    lines.push(format!(
        "seals: {} valid, {} invalid; records since the last one: {}",
        seals.valid, seals.invalid, result.unsealed_tail
    ));
    if result.torn > 0 {
        lines.push(format!("lines that a crash left incomplete, and that are recorded as such: {}", result.torn));
    }
    for key in result.keys.iter().filter(|_| !result.keys_known) {
        lines.push(format!("signed with the key {key}: compare it with yours, or name yours with --key"));
    }
    lines.push(match result.findings.len() {
        0 => "nothing was found".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    });
    lines.into_iter().map(|line| line + "\n").collect()
}

fn finding(finding: &Finding) -> String {
    let (from, to) = (finding.seq_from.unwrap_or_default(), finding.seq_to.unwrap_or_default());
    let numbers = if from == to { from.to_string() } else { format!("{from}-{to}") };
    let told = match finding.kind {
        FindingKind::Edited => format!("edited {numbers}"),
        FindingKind::Missing => format!("missing {numbers}"),
        FindingKind::Reordered => format!("reordered {numbers}"),
        FindingKind::Inserted => "inserted".to_owned(),
        FindingKind::Truncated => format!("truncated after {}", from.saturating_sub(1)),
        FindingKind::UnsealedTail => format!("unsealed tail {} records", to + 1 - from.min(to)),
        FindingKind::Signature => format!("signature of the seal of {numbers}"),
        FindingKind::Unchained => "no chain".to_owned(),
    };
    let name = Path::new(&finding.file).display();
    if finding.line == 0 { format!("{name}: {told}") } else { format!("{name}:{}: {told}", finding.line) }
}

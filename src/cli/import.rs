//! `entrada import api-management`: policies and estates of Azure API Management as a config, with a report.

mod cases;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use entrada_import::{DocumentScope, Import, Options, report::Verdict};

use crate::{
    config::{Document, Report},
    server,
    settings::{Faults, Finding},
};

/// The maximum number of attempts: each leaves out what `check` did not accept in the one before.
const ATTEMPTS: usize = 24;

/// Arguments of `entrada import`.
#[derive(Args, Debug)]
pub struct ImportArguments {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// Import policy documents, apiops and extractor folders, compiled ARM templates and OpenAPI descriptions
    ApiManagement(Box<ApiManagementArguments>),
}

/// Arguments of `entrada import api-management`.
#[derive(Args, Debug)]
pub struct ApiManagementArguments {
    /// Policy documents, folders, ARM templates and OpenAPI descriptions
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The folder for the config, the report and the partners
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write the report for machines to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The output format: for people, for machines, or for code scanning
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The scope of documents whose place does not tell it [default: api]
    #[arg(long, value_name = "SCOPE", value_parser = scope)]
    scope: Option<DocumentScope>,
    /// The scope of the documents whose names fit a pattern; can be given several times
    #[arg(long, value_name = "GLOB=SCOPE", value_parser = scope_of)]
    scope_map: Vec<(String, DocumentScope)>,
    /// The content of a named value; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    named_value: Vec<(String, String)>,
    /// The content of a hole `${NAME}` of a Terraform template; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    var: Vec<(String, String)>,
    /// A file with the properties that an environment overrides, as apiops has them; can be given several times
    #[arg(long, value_name = "FILE")]
    overrides: Vec<PathBuf>,
    /// Write routes that no token policy protects as open ones, instead of asking for a subscription key
    #[arg(long)]
    accept_anonymous: bool,
    /// The verdict from which on the exit code is 1
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
    /// The number of elements and expressions that may be left untranslated: beyond it the exit code is 1, up to it changes are no failure
    #[arg(long, value_name = "N")]
    max_not: Option<usize>,
}

/// The output format of `entrada import`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
    /// For code scanning: SARIF 2.1.0.
    Sarif,
}

/// The verdict that is a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Anything that is changed or not translated.
    #[default]
    Changed,
    /// Anything that is not translated.
    Not,
    /// Nothing.
    Never,
}

fn scope(word: &str) -> Result<DocumentScope, String> {
    DocumentScope::from_word(word).ok_or_else(|| "write global, product, api, operation or fragment".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "write NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

fn scope_of(text: &str) -> Result<(String, DocumentScope), String> {
    let (pattern, word) = text.rsplit_once('=').ok_or_else(|| "write GLOB=SCOPE".to_owned())?;
    Ok((pattern.to_owned(), scope(word)?))
}

/// Imports, checks, and writes the files.
///
/// # Errors
/// Fails if nothing can be read or written, or if the result is not accepted.
pub fn run(arguments: &ImportArguments) -> anyhow::Result<ExitCode> {
    let Source::ApiManagement(arguments) = &arguments.source;
    let options = Options {
        scope: arguments.scope,
        scope_map: arguments.scope_map.clone(),
        named_values: named_values(arguments),
        overrides: arguments.overrides.clone(),
        accept_anonymous: arguments.accept_anonymous,
        rejected: Vec::new(),
    };
    let config = arguments.out.join("entrada.yaml");
    let (import, faults) = checked(&arguments.paths, options, &config)?;
    fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make the folder {}", arguments.out.display()))?;
    for (name, text) in &import.files {
        write(&arguments.out.join(name), text)?;
    }
    // Cases that somebody has added are theirs.
    let tests = arguments.out.join("entrada.test.yaml");
    if faults.is_none()
        && !tests.exists()
        && let Some(cases) = cases::of(&config, &import.files[0].1)
    {
        write(&tests, &cases)?;
    }
    if let Some(file) = &arguments.report {
        write(file, &format!("{:#}\n", import.report.to_json()))?;
    }
    let mut out = std::io::stdout().lock();
    match arguments.format {
        Format::Text => write!(out, "{}", import.report.summary())?,
        Format::Json => writeln!(out, "{:#}", import.report.to_json())?,
        Format::Sarif => writeln!(out, "{:#}", import.report.to_sarif(env!("CARGO_PKG_VERSION")))?,
    }
    if let Some(faults) = faults {
        anyhow::bail!("the config was written, and `entrada check` does not accept it:\n{}", faults.render(false));
    }
    anyhow::ensure!(import.report.accounts_for_all(), "some elements are not accounted for: this is a fault of the program");
    Ok(if passes(arguments, &import) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn named_values(arguments: &ApiManagementArguments) -> Vec<(String, String)> {
    let holes = arguments.var.iter().map(|(name, value)| (format!("tf-{}", name.replace('_', "-")), value.clone()));
    arguments.named_value.iter().cloned().chain(holes).collect()
}

fn passes(arguments: &ApiManagementArguments, import: &Import) -> bool {
    if let Some(most) = arguments.max_not {
        return import.report.entries.iter().filter(|entry| entry.verdict == Verdict::Not).count() <= most;
    }
    let worst = import.report.worst();
    match arguments.fail_on {
        FailOn::Changed => worst < Verdict::Changed,
        FailOn::Not => worst < Verdict::Not,
        FailOn::Never => true,
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Imports, and leaves out what `check` does not accept; returns the faults that no element is to blame for.
///
/// # Errors
/// Fails if nothing can be read.
fn checked(paths: &[PathBuf], mut options: Options, config: &Path) -> anyhow::Result<(Import, Option<Report>)> {
    let mut attempt = 0;
    loop {
        let import = entrada_import::import(paths, &options)?;
        let text = &import.files[0].1;
        let report = check(config, text);
        if report.errors() == 0 {
            return Ok((import, None));
        }
        attempt += 1;
        let before = options.rejected.len();
        for finding in report.findings().iter().filter(|finding| finding.is_error()) {
            if let Some(position) = origin(finding, text, &import)
                && !options.rejected.iter().any(|(own, _)| *own == position)
            {
                options.rejected.push((position, finding.message.clone()));
            }
        }
        if options.rejected.len() == before || attempt >= ATTEMPTS {
            return Ok((import, Some(report)));
        }
    }
}

/// Checks a text as `entrada check` does a file.
fn check(file: &Path, text: &str) -> Report {
    match Document::from_text(&file.to_string_lossy(), text) {
        Err(report) => report.with_the_rest(|document, faults| drop(server::try_out(document, faults))),
        Ok(document) => {
            let mut faults = Faults::default();
            drop(server::try_out(&document, &mut faults));
            document.report(&faults)
        }
    }
}

/// Returns the element that a fault comes from: that of the nearest policy around its place.
fn origin(finding: &Finding, text: &str, import: &Import) -> Option<(String, usize, usize)> {
    let pointer = finding.place.pointer();
    let around = |own: &str| pointer == own || pointer.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'));
    let nearest = import.places.iter().filter(|(own, _)| around(own)).max_by_key(|(own, _)| own.len());
    if let Some((_, position)) = nearest {
        return Some(position.clone());
    }
    // The comment of the line says the same.
    let at = finding.origin.as_ref()?.start.min(text.len());
    let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
    let comment = text[line..].lines().next()?.rsplit_once("# ")?.1;
    let (file, number) = comment.rsplit_once(':')?;
    let number: usize = number.parse().ok()?;
    import.places.iter().map(|(_, position)| position).find(|(own, line, _)| own == file && *line == number).cloned()
}

#[cfg(test)]
mod tests;

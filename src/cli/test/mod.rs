//! `entrada test`: runs the test cases of a config, without a network.

mod github;
mod json;
mod junit;
mod report;
mod tap;
mod text;

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use regex::Regex;

use self::report::{Outcomes, SuiteOutcome};
use super::config_file::ConfigFile;
use crate::{
    cases::{Case, RunError, Runner, Suite, SuiteError, coverage::Meter, mutation::Mutation},
    config::Report,
    offline::OfflineFault,
};

/// Arguments of `entrada test`.
#[derive(Args, Debug)]
pub struct TestArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Run only the cases whose names match this pattern
    #[arg(long, value_name = "PATTERN")]
    run: Option<Regex>,
    /// List the cases, without running them
    #[arg(long)]
    list: bool,
    /// Report the rules that no case touches
    #[arg(long)]
    coverage: bool,
    /// Fail unless the cases touch this share of the rules, in percent; 100 means all of them
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    require_coverage: Option<u8>,
    /// Change one rule at a time, and fail if no case notices
    #[arg(long, conflicts_with = "run")]
    mutate: bool,
    /// Fail only if the cases notice less than this share of the changes, in percent
    #[arg(long, value_name = "PERCENT", requires = "mutate", value_parser = clap::value_parser!(u8).range(0..=100))]
    require_score: Option<u8>,
    /// The output format [default: text; for --report, that of the file's name]
    #[arg(long, value_enum)]
    format: Option<TestFormat>,
    /// Write the report in its format to this file, and the one for people to standard output
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The output format of `entrada test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
    /// For CI systems: JUnit's XML.
    Junit,
    /// The Test Anything Protocol, version 14.
    Tap,
}

/// Runs the cases.
///
/// # Errors
/// Fails if there is no case, or if a file or the config is faulty; the program then exits with 2.
pub fn run(arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let format = format(arguments)?;
    let suites = match load(&arguments.config.path()) {
        Ok(suites) => suites,
        Err(error) => return faulty(&error),
    };
    if arguments.list {
        return list(&suites, arguments);
    }
    let outcomes = match outcomes(suites, began, arguments) {
        Ok(outcomes) => outcomes,
        Err(RunError::Config(OfflineFault::Config(report))) => return faulty(&SuiteError::Faults(vec![*report])),
        Err(error) => return Err(error.into()),
    };
    if outcomes.cases() == 0 {
        return Err(anyhow!("no case has a name that matches `{}`", arguments.run.as_ref().map_or("", Regex::as_str)));
    }
    write(&outcomes, format, arguments)?;
    let coverage = arguments.require_coverage.is_none_or(|wanted| outcomes.covered() >= usize::from(wanted));
    let score = !arguments.mutate || outcomes.score() >= usize::from(arguments.require_score.unwrap_or(100));
    let passed = outcomes.failed() == 0 && coverage && score;
    for why in shortfalls(&outcomes, arguments, (coverage, score)) {
        eprintln!("{why}");
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns why the status is 1 although no case that fails says so.
fn shortfalls(outcomes: &Outcomes, arguments: &TestArguments, (coverage, score): (bool, bool)) -> Vec<String> {
    let mut why = Vec::new();
    if !coverage {
        let wanted = arguments.require_coverage.unwrap_or_default();
        why.push(format!("the cases cover {} % of the config, and {wanted} % are required", outcomes.covered()));
    }
    if arguments.mutate && outcomes.failed() > 0 {
        why.push("no change of the config was tried: a case does not hold, and would notice every one".to_owned());
    } else if !score {
        let wanted = arguments.require_score.unwrap_or(100);
        why.push(format!("the cases notice {} % of the changes, and {wanted} % are required", outcomes.score()));
    }
    why
}

/// Returns the format of the report.
fn format(arguments: &TestArguments) -> anyhow::Result<TestFormat> {
    if let Some(format) = arguments.format {
        return Ok(format);
    }
    let Some(file) = &arguments.report else { return Ok(TestFormat::Text) };
    match file.extension().and_then(|end| end.to_str()) {
        Some("xml") => Ok(TestFormat::Junit),
        Some("json") => Ok(TestFormat::Json),
        Some("tap") => Ok(TestFormat::Tap),
        Some("txt") => Ok(TestFormat::Text),
        _ => Err(anyhow!("the format of `{}` is not clear; say it with --format", file.display())),
    }
}

fn load(path: &Path) -> Result<Vec<Suite>, SuiteError> {
    Suite::load(path)
}

/// Reports why no case could be run.
fn faulty(error: &SuiteError) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stderr().lock();
    match error {
        SuiteError::Nothing(message) => writeln!(out, "{message}")?,
        SuiteError::Faults(reports) => {
            let colours = out.is_terminal() && !no_colour();
            for report in reports.iter().filter(|report| !Report::is_empty(report)) {
                writeln!(out, "{}", report.render(colours))?;
            }
        }
    }
    Ok(ExitCode::from(2))
}

pub(super) fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn list(suites: &[Suite], arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for case in suites.iter().flat_map(|suite| &suite.cases).filter(|case| wanted(case, arguments)) {
        writeln!(out, "{}:{}  {}", case.file, case.line, case.name)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(case: &Case, arguments: &TestArguments) -> bool {
    arguments.run.as_ref().is_none_or(|pattern| pattern.is_match(&case.name))
}

fn outcomes(suites: Vec<Suite>, began: Instant, arguments: &TestArguments) -> Result<Outcomes, RunError> {
    let mut found = Vec::with_capacity(suites.len());
    for suite in suites {
        let mut runner = Runner::new(&suite.document, suite.cases.first().map_or(0, |case| case.now))?;
        let measure = arguments.coverage || arguments.require_coverage.is_some();
        let mut meter = measure.then(|| Meter::new(&suite.document, runner.gateway().runtime()));
        let mut results = Vec::with_capacity(suite.cases.len());
        for (index, case) in suite.cases.iter().enumerate().filter(|(_, case)| wanted(case, arguments)) {
            let result = runner.run(case, measure, &mut |outcome| {
                if let Some(meter) = &mut meter {
                    meter.observe(outcome);
                }
            })?;
            results.push((index, result));
        }
        let coverage = meter.map(Meter::finish);
        // Mutants of a config whose cases fail would all be noticed.
        let holds = results.iter().all(|(_, result)| result.failure.is_none());
        let mutation = if arguments.mutate && holds { Some(Mutation::run(&suite, &mut runner)?) } else { None };
        found.push(SuiteOutcome { suite, results, coverage, mutation });
    }
    Ok(Outcomes { suites: found, duration: began.elapsed() })
}

fn write(outcomes: &Outcomes, format: TestFormat, arguments: &TestArguments) -> anyhow::Result<()> {
    let colours = std::io::stdout().is_terminal() && !no_colour();
    let text = |colours| text::render(outcomes, colours);
    let rendered = |format| match format {
        TestFormat::Text => text(false),
        TestFormat::Json => format!("{:#}\n", json::render(outcomes)),
        TestFormat::Junit => junit::render(outcomes),
        TestFormat::Tap => tap::render(outcomes),
    };
    let shown = match &arguments.report {
        Some(file) => {
            std::fs::write(file, rendered(format)).with_context(|| format!("`{}` cannot be written", file.display()))?;
            text(colours)
        }
        None if format == TestFormat::Text => text(colours),
        None => rendered(format),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(shown.as_bytes())?;
    // Not among what a program reads.
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
        && (format == TestFormat::Text || arguments.report.is_some())
    {
        let here = std::env::current_dir().context("there is no current folder")?;
        let repository = std::env::var_os("GITHUB_WORKSPACE").map(std::path::PathBuf::from);
        out.write_all(github::annotations(outcomes, &here, repository.as_deref()).as_bytes())?;
        if let Some(summary) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(&summary);
            file.and_then(|mut file| file.write_all(github::summary(outcomes).as_bytes()))
                .context("the step's summary cannot be written")?;
        }
    }
    Ok(())
}

//! The cases of one config: its own, and those of the files beside it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::check::{Case, Checker, FileContext};
use crate::{
    base::clock::Clock,
    config::{
        Document, Report, SettingsFile, TEST_FILE,
        test_case::{TestFileConfig, TestTime},
        test_schema,
    },
    settings::{Faults, Place, node::Node},
};

/// A config with its test cases.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The config's file.
    pub(crate) config: PathBuf,
    /// The config.
    pub(crate) document: Document,
    /// The values of the config, of which mutants are made.
    pub(super) values: Node,
    /// The cases, in the order of files and of their lists.
    pub(crate) cases: Vec<Case>,
}

/// The reason why no case can be run.
#[derive(Debug)]
pub(crate) enum SuiteError {
    /// The config or files of cases have faults.
    Faults(Vec<Report>),
    /// Nothing is there that could be run, or read.
    Nothing(String),
}

impl Suite {
    /// Reads the suites that `path` names: a config with its cases, a file of cases with its config, or all configs that the files of
    /// cases in a folder name.
    ///
    /// # Errors
    /// Returns the faults of all files.
    pub(crate) fn load(path: &Path) -> Result<Vec<Self>, SuiteError> {
        let files = Files::of(path)?;
        let (mut suites, mut reports) = (Vec::new(), Vec::new());
        for (config, files) in files.by_config {
            match Self::of(config, &files) {
                Ok(suite) => suites.push(suite),
                Err(found) => reports.extend(found),
            }
        }
        if !reports.is_empty() {
            return Err(SuiteError::Faults(reports));
        }
        if suites.iter().all(|suite| suite.cases.is_empty()) {
            let message = format!(
                "`{}` has no test cases: write `tests:` in the config, or a file `*{TEST_FILE}` beside it",
                path.display()
            );
            return Err(SuiteError::Nothing(message));
        }
        Ok(suites)
    }

    /// Reads a config and checks its cases.
    fn of(config: PathBuf, files: &[(PathBuf, SettingsFile<TestFileConfig>)]) -> Result<Self, Vec<Report>> {
        let (document, values) = match Document::load_with_values(&config, &|name| std::env::var(name).ok()) {
            Ok(read) => read,
            Err(report) => return Err(vec![report]),
        };
        let (mut cases, mut reports) = (Vec::new(), Vec::new());
        let now = Clock::system().unix_seconds();
        let tests = Place::root().key("tests");
        let checker = Checker::new(&document.config);

        let mut faults = Faults::default();
        let own = FileContext { name: config.display().to_string(), now, base: &document.base, ..FileContext::default() };
        let line = |place: &Place| document.position(place).map_or((own.name.clone(), 1), |(file, line, _)| (file, line));
        cases.extend(checker.cases(&document.config.tests, &own, &tests, &line, &mut faults));
        if faults.any_error() {
            reports.push(document.report(&faults));
        }
        for (path, file) in files {
            let TestFileConfig { now: at, from, tokens, tests: written, .. } = &file.settings;
            let mut faults = Faults::default();
            let base = path.parent().unwrap_or(Path::new(""));
            let name = path.display().to_string();
            let context = FileContext {
                name: name.clone(),
                now: at.map_or(now, |TestTime(at)| at),
                from: checker.from(from.as_deref(), &Place::root().key("from"), &mut faults),
                tokens: Some(tokens),
                base,
            };
            checker.tokens(tokens, &Place::root().key("tokens"), &mut faults);
            if written.is_empty() {
                faults.error(&tests, "there are no cases", "write at least one below `tests:`");
            }
            cases.extend(checker.cases(written, &context, &tests, &|place| (name.clone(), file.line(place)), &mut faults));
            if faults.any_error() {
                reports.push(file.report(&faults));
            }
        }
        if reports.is_empty() { Ok(Self { config, document, values, cases }) } else { Err(reports) }
    }
}

/// Files of cases, by the configs that they test.
#[derive(Default)]
struct Files {
    by_config: BTreeMap<PathBuf, Vec<(PathBuf, SettingsFile<TestFileConfig>)>>,
}

impl Files {
    fn of(path: &Path) -> Result<Self, SuiteError> {
        let mut found = Self::default();
        if is_test_file(path) {
            found.add(vec![path.to_owned()], None)?;
        } else if path.is_dir() {
            found.add(beside(path)?, None)?;
        } else {
            found.by_config.insert(path.to_owned(), Vec::new());
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // A config that cannot be read has an error of its own.
            found.add(beside(folder).unwrap_or_default(), Some(path))?;
        }
        Ok(found)
    }

    /// Adds the files; with `config`, only those that test this one.
    fn add(&mut self, paths: Vec<PathBuf>, config: Option<&Path>) -> Result<(), SuiteError> {
        let schema = test_schema();
        let mut reports = Vec::new();
        for path in paths {
            let file: SettingsFile<TestFileConfig> = match SettingsFile::load(&path, &schema, "TestFileConfig") {
                Ok(file) => file,
                Err(report) => {
                    reports.push(report);
                    continue;
                }
            };
            let own = file.settings.config.as_ref().map(|name| path.with_file_name(name));
            match (own, config) {
                (Some(own), Some(config)) if !is_same(&own, config) => {}
                (_, Some(config)) => self.by_config.entry(config.to_owned()).or_default().push((path, file)),
                (Some(own), None) => self.by_config.entry(own).or_default().push((path, file)),
                (None, None) => {
                    let mut faults = Faults::default();
                    let cure = "write `config: entrada.yaml`, relative to this file, or name the config behind the command";
                    faults.error(&Place::root(), "the file does not say which config it tests", cure);
                    reports.push(file.report(&faults));
                }
            }
        }
        if reports.is_empty() { Ok(()) } else { Err(SuiteError::Faults(reports)) }
    }
}

fn is_test_file(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(TEST_FILE))
}

/// Returns whether both paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Returns the files of cases in a folder, by name.
fn beside(folder: &Path) -> Result<Vec<PathBuf>, SuiteError> {
    let unreadable = |error| SuiteError::Nothing(format!("the folder `{}` cannot be read: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        // `./` before each name says nothing to the reader.
        let path = if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) };
        if is_test_file(&path) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

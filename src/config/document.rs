//! A parsed config: the settings, and the place of each in the files.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Config, beside, effect,
    fact_names::FactNames,
    fingerprint::Fingerprint,
    lint, merge,
    named_values::{self, ValueSources},
    partial_check::{self, PartialConfig},
    report::Report,
    schema::{Shape, schema},
    silence::Silences,
    validate,
};
use crate::base::clock::Clock;
use crate::settings::Finding;
use crate::settings::{
    Secrets,
    deserialize::{TypeMismatch, settings},
    fault::{Faults, Place, Severity},
    node::{Kind, Node},
    origin::{Origin, SourceFile, Sources},
};

/// A config that was read without errors.
///
/// Faults that only show when it is built (an undefined name, a file that is not a certificate) are told by place;
/// [`report`](Self::report) finds the lines.
#[derive(Clone)]
pub struct Document {
    /// The settings.
    #[doc(hidden)]
    pub config: Config,
    /// The values of the secret named values.
    #[doc(hidden)]
    pub secrets: Secrets,
    /// The folder that relative paths in the config start from: the main file's.
    #[doc(hidden)]
    pub base: PathBuf,
    /// The files that were read: the config's own and those of named values.
    #[doc(hidden)]
    pub files: Vec<PathBuf>,
    /// The folders in which a new file may become part of the config.
    #[doc(hidden)]
    pub folders: Vec<PathBuf>,
    warnings: Report,
    /// All that was found while the config was read, silenced or not.
    found: Vec<Finding>,
    silences: Silences,
    /// The settings by name, for telling what another config changes.
    #[doc(hidden)]
    pub fingerprint: Fingerprint,
    /// The names of fields and parameters that the config reads.
    #[doc(hidden)]
    pub fact_names: FactNames,
    places: Places,
    sources: Arc<Sources>,
}

/// Shows the source only. The settings may contain confidential values.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Document {
    /// Reads the config at `path` and everything that it includes.
    ///
    /// # Errors
    /// Returns all faults of the config.
    pub fn load(path: &Path) -> Result<Self, Report> {
        Self::load_with(path, &|name| std::env::var(name).ok())
    }

    /// Does the same with the given variables instead of the environment's.
    ///
    /// # Errors
    /// Returns all faults of the config.
    pub fn load_with(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Report> {
        Self::load_with_values(path, variable).map(|(document, _)| document)
    }

    /// Does the same, and returns the values of the config besides, of which [variants](Self::variant) are made.
    ///
    /// # Errors
    /// Returns all faults of the config.
    pub(crate) fn load_with_values(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Node), Report> {
        let mut sources = Sources::default();
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        match merge::add_file(path, &mut sources) {
            Ok(main) => Self::read(main, base, sources, variable),
            Err(error) => {
                let message = format!("the config `{}` cannot be read: {error}", path.display());
                let cure = "name the file that holds the config behind the command, or set ENTRADA_CONFIG";
                let finding = Finding::nowhere(message, cure);
                Err(Report::unread(finding, Arc::new(sources)))
            }
        }
    }

    /// Reads a config from `text`; messages call it `name`. Relative paths start from the folder of that name.
    ///
    /// # Errors
    /// Returns all faults of the config.
    pub fn from_text(name: &str, text: &str) -> Result<Self, Report> {
        Self::from_text_with(name, text, &|name| std::env::var(name).ok())
    }

    /// Does the same with the given variables instead of the environment's.
    ///
    /// # Errors
    /// Returns all faults of the config.
    pub fn from_text_with(name: &str, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Report> {
        Self::from_text_with_values(name, text, variable).map(|(document, _)| document)
    }

    /// Does the same, and returns the values of the config besides.
    ///
    /// # Errors
    /// Returns all faults of the config.
    pub(crate) fn from_text_with_values(
        name: &str,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Node), Report> {
        let mut sources = Sources::default();
        let path = PathBuf::from(name);
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        let main = sources.add(SourceFile { name: name.to_owned(), path, text: text.to_owned() });
        Self::read(main, base, sources, variable)
    }

    /// Returns this config with other values, in the same places of the same files.
    ///
    /// # Errors
    /// Returns the first value that is none of a config.
    pub(crate) fn variant(&self, values: &Node) -> Result<Self, TypeMismatch> {
        let Self { secrets, base, sources, .. } = self;
        Ok(Self {
            config: settings(values)?,
            secrets: secrets.clone(),
            base: base.clone(),
            files: Vec::new(),
            folders: Vec::new(),
            warnings: Report::new(Vec::new(), sources.clone()),
            found: Vec::new(),
            silences: Silences::default(),
            fingerprint: Fingerprint::default(),
            fact_names: FactNames::default(),
            places: Places::default(),
            sources: sources.clone(),
        })
    }

    fn read(
        main: usize,
        base: PathBuf,
        mut sources: Sources,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Node), Report> {
        let schema = schema();
        let shape = Shape::root(&schema);
        let merge::Reading { mut document, mut findings, folders } = merge::read(main, &base, &mut sources, shape);
        beside::move_modes(&mut document);
        let resolved = named_values::resolve(&mut document, ValueSources { variable, base: &base }, &mut sources);
        findings.extend(resolved.findings);
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
        let wrong = errors.map(|finding| finding.place.clone()).collect();
        let checked = validate::validate(&document, shape, wrong, &mut sources);
        findings.extend(checked.findings);
        // What is made of the config can lie where the schema lay.
        drop(schema);
        let files = sources.paths().cloned().chain(resolved.files).collect();
        let sources = Arc::new(sources);
        let report = Report::new(findings, sources.clone());
        if report.errors() > 0 {
            let readable = partial_check::readable(&document, checked.repairs, &checked.gone);
            let (silences, invalid) = Silences::read(&document, readable.as_ref().map(|(config, ..)| config), &sources);
            let report = report.and(&Report::new(invalid, sources.clone())).silence(&silences, today(), false);
            let rest = readable.map(|(config, nodes, without)| {
                let warnings = Report::new(Vec::new(), sources.clone());
                let (found, silences) = (Vec::new(), Silences::default());
                let (files, folders, secrets) = (Vec::new(), Vec::new(), Secrets(resolved.secrets));
                // Where an entry was taken out, others keep their places.
                let places = Places::of(&nodes);
                let fingerprint = Fingerprint::default();
                let fact_names = FactNames::default();
                let document = Self {
                    config,
                    secrets,
                    base,
                    files,
                    folders,
                    warnings,
                    found,
                    silences,
                    fingerprint,
                    fact_names,
                    places,
                    sources,
                };
                PartialConfig { document, nodes, without }
            });
            return Err(if let Some(rest) = rest { report.beside(rest) } else { report });
        }
        let places = Places::of(&document);
        let config = if matches!(document.kind, Kind::Null) { Ok(Config::default()) } else { settings::<Config>(&document) };
        match config {
            Ok(config) => {
                let mut faults = Faults::default();
                lint::lint(&config, &mut faults);
                effect::lint(&document, &mut faults);
                let found = faults.iter().map(|fault| Finding::of(fault, places.origin(&fault.place, fault.at_key)));
                // A name that looks unused may be named where an error kept us from reading: so not before all is read.
                let found = found.chain(lint::unused(&document, &resolved.used));
                let (silences, invalid) = Silences::read(&document, Some(&config), &sources);
                let report = report.and(&Report::new(found.chain(invalid).collect(), sources.clone()));
                let found = report.findings().to_vec();
                let warnings = report.silence(&silences, today(), false);
                let secrets = Secrets(resolved.secrets);
                let fingerprint = Fingerprint::of(&document);
                let fact_names = FactNames::of(&document);
                let whole = Self {
                    config,
                    secrets,
                    base,
                    files,
                    folders,
                    warnings,
                    found,
                    silences,
                    fingerprint,
                    fact_names,
                    places,
                    sources,
                };
                Ok((whole, document))
            }
            Err(misfit) => {
                let place = misfit.place();
                let origin = places.origin(&place, false);
                let mut faults = Faults::default();
                faults.error(&place, misfit.to_string(), "");
                let finding = faults.iter().map(|fault| Finding::of(fault, origin.clone()));
                Err(report.and(&Report::new(finding.collect(), sources)))
            }
        }
    }

    /// Returns the warnings found while the config was read, without those that are silenced.
    pub const fn warnings(&self) -> &Report {
        &self.warnings
    }

    /// Returns the faults found while the config was built, with their places in the files, and the earlier warnings.
    #[doc(hidden)]
    pub fn report(&self, faults: &Faults) -> Report {
        self.report_at(faults, today())
    }

    /// Does the same at a time, in seconds since 1970: silences end on a day.
    #[doc(hidden)]
    pub fn report_at(&self, faults: &Faults, now: u64) -> Report {
        let findings = faults.iter().map(|fault| Finding::of(fault, self.places.origin(&fault.place, fault.at_key)));
        let findings = findings.chain(self.found.iter().cloned()).collect();
        Report::new(findings, self.sources.clone()).silence(&self.silences, now, true)
    }

    /// Returns a message about the config without its secrets.
    #[doc(hidden)]
    pub fn said<'m>(&self, message: &'m str) -> Cow<'m, str> {
        self.sources.said(message, None)
    }

    /// Returns where the config is written.
    pub(crate) fn written(&self) -> Written {
        Written { path: self.files.first().cloned().unwrap_or_default(), digest: self.digest() }
    }

    /// Returns the digest of the config's files: SHA-256 of their texts in the order in which they were read, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for text in self.sources.texts() {
            digest.update(&(text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
        digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the place of a setting: file, line and column.
    #[doc(hidden)]
    pub fn position(&self, place: &Place) -> Option<(String, usize, usize)> {
        let origin = self.places.origin(place, false)?;
        let (line, column) = self.sources.line_column(origin.file, origin.start);
        Some((self.sources.get(origin.file).name.clone(), line, column))
    }

    /// Returns the path that a setting names, relative to the main file's folder.
    pub fn path(&self, written: &str) -> PathBuf {
        self.base.join(written)
    }
}

/// Where a config is written. It is read again where its text is needed, so that it need not be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    path: PathBuf,
    digest: String,
}

impl Written {
    /// Reads the config again. `None` if it is not there any more as it was.
    pub(crate) fn read(&self) -> Option<Document> {
        Document::load(&self.path).ok().filter(|document| document.digest() == self.digest)
    }
}

/// Returns the time of the system's clock.
fn today() -> u64 {
    Clock::system().unix_seconds()
}

/// The place of each setting.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(HashMap<Place, (Option<Origin>, Origin)>);

impl Places {
    pub(super) fn of(document: &Node) -> Self {
        let mut places = Self::default();
        places.note(document, None, Place::root());
        places
    }

    fn note(&mut self, node: &Node, key: Option<&Origin>, place: Place) {
        match &node.kind {
            Kind::List(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    self.note(entry, None, place.index(index));
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.note(value, Some(&key.at), place.key(&key.text));
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Broken => {}
        }
        // A whole map or list is better shown by its key than by the first line of what it holds.
        let value = match (&node.kind, key) {
            (Kind::List(_) | Kind::Map(_), Some(key)) => key.clone(),
            _ => node.at.clone(),
        };
        self.0.insert(place, (key.cloned(), value));
    }

    /// Returns the origin of a place; if it does not exist (a default, a missing key), that of the surrounding value.
    pub(super) fn origin(&self, place: &Place, at_key: bool) -> Option<Origin> {
        if let Some((key, value)) = self.0.get(place) {
            return Some(key.clone().filter(|_| at_key).unwrap_or_else(|| value.clone()));
        }
        let parent = place.pointer().rfind('/').map(|end| Place::from(place.pointer()[..end].to_owned()))?;
        self.origin(&parent, true)
    }
}

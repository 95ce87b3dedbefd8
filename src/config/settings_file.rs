//! Files of settings besides the config, read with the same care: all faults at once, each with its place and its cure.

use std::{path::Path, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{document::Places, merge, report::Report, schema::Shape, validate};
use crate::settings::{
    Finding,
    deserialize::settings,
    fault::{Faults, Place, Severity},
    node::Kind,
    origin::{Origin, Sources},
};

/// A file of settings that was read without errors.
#[derive(Debug)]
pub(crate) struct SettingsFile<T> {
    /// The settings.
    pub(crate) settings: T,
    places: Places,
    sources: Arc<Sources>,
}

impl<T: DeserializeOwned> SettingsFile<T> {
    /// Reads the file at `path` by this schema, which describes a type of this name.
    ///
    /// # Errors
    /// Returns all faults of the file.
    pub(crate) fn load(path: &Path, schema: &Value, name: &str) -> Result<Self, Report> {
        let mut sources = Sources::default();
        let file = merge::add_file(path, &mut sources).map_err(|error| {
            let finding = Finding::nowhere(format!("the file `{}` cannot be read: {error}", path.display()), "");
            Report::new(vec![finding], Arc::default())
        })?;
        let mut findings = Vec::new();
        let document = merge::read_one(file, &mut sources, &mut findings);
        merge::names_once(&document, &mut findings);
        if matches!(document.kind, Kind::Null) {
            let cure = "write `tests:` and below it the cases";
            findings.push(Finding::error(Origin::file(file), &Place::root(), "the file holds nothing", cure));
        }
        let wrong = findings.iter().filter(|finding| finding.severity == Severity::Error);
        let wrong = wrong.map(|finding| finding.place.clone()).collect();
        findings.extend(validate::validate(&document, Shape::of(schema, name), wrong, &mut sources).findings);
        let (places, sources) = (Places::of(&document), Arc::new(sources));
        let report = Report::new(findings, sources.clone());
        if report.errors() > 0 {
            return Err(report);
        }
        match settings(&document) {
            Ok(settings) => Ok(Self { settings, places, sources }),
            Err(misfit) => {
                let mut faults = Faults::default();
                faults.error(&misfit.place(), misfit.to_string(), "");
                let findings = faults.iter().map(|fault| Finding::of(fault, places.origin(&fault.place, false)));
                Err(Report::new(findings.collect(), sources))
            }
        }
    }
}

impl<T> SettingsFile<T> {
    /// Returns the faults found after the file was read, with their places in it.
    pub(crate) fn report(&self, faults: &Faults) -> Report {
        let findings = faults.iter().map(|fault| Finding::of(fault, self.places.origin(&fault.place, fault.at_key)));
        Report::new(findings.collect(), self.sources.clone())
    }

    /// Returns the line of a setting.
    pub(crate) fn line(&self, place: &Place) -> usize {
        let line = self.places.origin(place, false).map(|origin| self.sources.line_column(origin.file, origin.start).0);
        line.unwrap_or(1)
    }
}

//! A fault of a config with its place in the files.

use std::borrow::Cow;

use super::{
    fault::{Fault, Place, Severity},
    origin::{Origin, Sources},
};

/// A fault with its place in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub(crate) severity: Severity,
    /// The place; `None` where no file could be read.
    pub(crate) origin: Option<Origin>,
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) cure: Option<String>,
    /// Related places, each with its meaning.
    pub(crate) related: Vec<(Origin, String)>,
}

impl Finding {
    /// Returns whether the config cannot be used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns what to do about it, if there is something to say.
    pub fn cure(&self) -> Option<&str> {
        self.cure.as_deref()
    }

    pub(crate) fn error(origin: Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Severity::Error, Some(origin), place, message.into(), cure.into())
    }

    pub(crate) fn warning(origin: Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Severity::Warning, Some(origin), place, message.into(), cure.into())
    }

    /// Makes a finding that belongs to no file in particular.
    pub(crate) fn nowhere(message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Severity::Error, None, &Place::root(), message.into(), cure.into())
    }

    fn new(severity: Severity, origin: Option<Origin>, place: &Place, message: String, cure: String) -> Self {
        let cure = (!cure.is_empty()).then_some(cure);
        Self { severity, origin, place: place.clone(), message, cure, related: Vec::new() }
    }

    pub(crate) fn of(fault: &Fault, origin: Option<Origin>) -> Self {
        let cure = fault.cure.clone().unwrap_or_default();
        Self::new(fault.severity, origin, &fault.place, fault.message.clone(), cure)
    }

    pub(crate) fn say_no_secret(&mut self, sources: &Sources) {
        for text in std::iter::once(&mut self.message).chain(&mut self.cure) {
            if let Cow::Owned(said) = sources.said(text, self.origin.as_ref()) {
                *text = said;
            }
        }
    }

    #[must_use]
    pub(crate) fn related(mut self, origin: Origin, label: impl Into<String>) -> Self {
        self.related.push((origin, label.into()));
        self
    }
}

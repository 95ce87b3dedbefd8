//! A fault of a config with its place in the files.

use std::borrow::Cow;

use super::{
    fault::{Fault, Place, Severity},
    lint::Lint,
    origin::{Origin, Sources},
};

/// A fault with its place in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind of the fault.
    pub lint: Lint,
    /// Whether it stops the start or is only a warning.
    pub severity: Severity,
    /// The place; `None` where no file could be read.
    #[doc(hidden)]
    pub origin: Option<Origin>,
    /// The place in the document, as keys and indices.
    #[doc(hidden)]
    pub place: Place,
    /// The fault, with the text at hand.
    pub message: String,
    /// The text to write instead.
    pub cure: Option<String>,
    /// Related places, each with its meaning.
    #[doc(hidden)]
    pub related: Vec<(Origin, String)>,
}

impl Finding {
    /// Returns whether the config cannot be used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the stable code of its kind, as in `docs/lints.md`.
    pub fn code(&self) -> &'static str {
        self.lint.code()
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns what to do about it, if there is something to say.
    pub fn cure(&self) -> Option<&str> {
        self.cure.as_deref()
    }

    /// Makes an error at an origin.
    #[doc(hidden)]
    pub fn error(origin: Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Lint::ConfigInvalid, Some(origin), place, message.into(), cure.into())
    }

    /// Makes a warning at an origin.
    #[doc(hidden)]
    pub fn warning(lint: Lint, origin: Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(lint, Some(origin), place, message.into(), cure.into())
    }

    /// Makes a finding that belongs to no file in particular.
    pub fn nowhere(message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Lint::ConfigInvalid, None, &Place::root(), message.into(), cure.into())
    }

    fn new(lint: Lint, origin: Option<Origin>, place: &Place, message: String, cure: String) -> Self {
        let cure = (!cure.is_empty()).then_some(cure);
        Self { lint, severity: lint.severity(), origin, place: place.clone(), message, cure, related: Vec::new() }
    }

    /// Makes the finding of a fault; its origin is where the setting was read, if it was.
    #[doc(hidden)]
    pub fn of(fault: &Fault, origin: Option<Origin>) -> Self {
        let cure = fault.cure.clone().unwrap_or_default();
        Self::new(fault.lint, origin, &fault.place, fault.message.clone(), cure)
    }

    /// Takes what may be a secret out of the message and the cure.
    #[doc(hidden)]
    pub fn say_no_secret(&mut self, sources: &Sources) {
        for text in std::iter::once(&mut self.message).chain(&mut self.cure) {
            if let Cow::Owned(said) = sources.said(text, self.origin.as_ref()) {
                *text = said;
            }
        }
    }

    /// Adds another origin that the finding concerns, with a label.
    #[must_use]
    #[doc(hidden)]
    pub fn related(mut self, origin: Origin, label: impl Into<String>) -> Self {
        self.related.push((origin, label.into()));
        self
    }
}

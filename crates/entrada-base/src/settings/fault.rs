//! Faults of a config, with their places.

use std::fmt;

use super::lint::Lint;

/// A place in the config: the keys and indexes that lead there, as a JSON pointer (RFC 6901).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(String);

impl Place {
    /// Returns the whole document.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Returns the value of `key` below this place.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}/{}", self.0, key.replace('~', "~0").replace('/', "~1")))
    }

    /// Returns the entry `index` of the list at this place.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}/{index}", self.0))
    }

    /// Returns the JSON pointer.
    pub fn pointer(&self) -> &str {
        &self.0
    }
}

impl From<String> for Place {
    fn from(pointer: String) -> Self {
        Self(pointer)
    }
}

/// Writes the place as people would: `routes[2].inbound[0].ip-filter`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, part) in self.0.split('/').skip(1).enumerate() {
            if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
                write!(f, "[{part}]")?;
            } else {
                let dot = if depth == 0 { "" } else { "." };
                write!(f, "{dot}{}", part.replace("~1", "/").replace("~0", "~"))?;
            }
        }
        Ok(())
    }
}

/// The severity of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The config works, but part of it is probably a mistake.
    Warning,
    /// The config cannot be used.
    Error,
}

/// One fault, with its place and its cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of the fault.
    pub lint: Lint,
    /// The severity: whether the config can be used despite the fault.
    pub severity: Severity,
    /// The place of the fault.
    pub place: Place,
    /// Points to the key itself rather than to its value.
    pub at_key: bool,
    /// The description of the fault.
    pub message: String,
    /// The correct form, or the action that mends the config.
    pub cure: Option<String>,
    /// Whether another policy or listener would mend it: where one of those could not be read, this is no fault of its own.
    pub misses_another: bool,
}

/// The faults of a config, collected while it is read and compiled.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    /// Adds an error: what is wrong, and what would be right.
    pub fn error(&mut self, place: &Place, message: impl Into<String>, cure: impl Into<String>) {
        self.push(Lint::ConfigInvalid, place, message.into(), cure.into());
    }

    /// Adds an error that another policy or listener would mend, which is absent.
    pub fn missing(&mut self, place: &Place, message: impl Into<String>, cure: impl Into<String>) {
        self.error(place, message, cure);
        self.list.iter_mut().last().into_iter().for_each(|fault| fault.misses_another = true);
    }

    /// Adds a warning: what is likely a mistake, and what would be better.
    pub fn warning(&mut self, lint: Lint, place: &Place, message: impl Into<String>, cure: impl Into<String>) {
        self.push(lint, place, message.into(), cure.into());
    }

    /// Adds a fault.
    pub fn add(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    fn push(&mut self, lint: Lint, place: &Place, message: String, cure: String) {
        let cure = (!cure.is_empty()).then_some(cure);
        let severity = lint.severity();
        self.list.push(Fault { lint, severity, place: place.clone(), at_key: false, message, cure, misses_another: false });
    }

    /// Returns whether anything found makes the config unusable.
    pub fn any_error(&self) -> bool {
        self.list.iter().any(|fault| fault.severity == Severity::Error)
    }

    /// Returns the number of errors, which tells whether a part of the build added some.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|fault| fault.severity == Severity::Error).count()
    }

    /// Returns the number of faults.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Drops the faults from this number on that were reported before it.
    pub fn drop_repeated(&mut self, from: usize) {
        let (before, after) = self.list.split_at(from.min(self.list.len()));
        let new: Vec<_> = after.iter().filter(|fault| !before.contains(fault)).cloned().collect();
        self.list.truncate(from);
        self.list.extend(new);
    }

    /// Returns all faults, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter()
    }

    /// Returns whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_reads_as_a_person_would_say_it() {
        let place = Place::root().key("routes").index(2).key("inbound").index(0).key("ip-filter");

        assert_eq!(place.to_string(), "routes[2].inbound[0].ip-filter");
        assert_eq!(place.pointer(), "/routes/2/inbound/0/ip-filter");
    }
}

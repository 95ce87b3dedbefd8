//! Import from Azure API Management: policy documents and estates become a config of entrada, with a report.
//!
//! The import accounts for every element and every expression, and never opens what was closed: an access rule that has no
//! counterpart becomes a refusal in its place. C# is never run; an expression is translated whole or not at all.
//!
//! - [`xml`] reads documents as API Management does, expressions in attributes included;
//! - [`csharp`] reads the part of C# in which expressions are written;
//! - `expression` translates them, `elements` the policies around them;
//! - `estate` reads the layouts in which documents come, and builds the routes;
//! - [`report`] says of each element what became of it.

#[cfg(test)]
mod collection;
pub mod csharp;
mod elements;
mod estate;
mod expression;
#[cfg(test)]
mod gaps;
mod kinds;
mod names;
mod output;
mod policy;
pub mod report;
pub mod xml;

use std::path::PathBuf;

pub use self::policy::{DocumentScope, NoDocument};
use self::report::Report;

/// The options of an import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The scope of documents whose place does not tell it.
    pub scope: Option<DocumentScope>,
    /// Scopes by pattern of the file's name; the first that fits counts.
    pub scope_map: Vec<(String, DocumentScope)>,
    /// Named values that were given.
    pub named_values: Vec<(String, String)>,
    /// Files with the properties that an environment overrides, as apiops has them.
    pub overrides: Vec<PathBuf>,
    /// Whether routes that no token policy protects are open.
    pub accept_anonymous: bool,
    /// Elements whose translation was not accepted: file, line and column, and the message.
    pub rejected: Vec<((String, usize, usize), String)>,
}

impl Options {
    /// Returns the scope of a document, as far as the options tell it.
    fn scope_of(&self, file: &str) -> Option<DocumentScope> {
        let mapped = self.scope_map.iter().find(|(pattern, _)| matches(pattern, file));
        mapped.map(|(_, scope)| *scope).or(self.scope)
    }
}

/// The result of an import.
#[derive(Clone, Debug)]
pub struct Import {
    /// The files by name: `entrada.yaml`, `report.md`, and `partners.yaml` if there are subscriptions.
    pub files: Vec<(String, String)>,
    /// The report.
    pub report: Report,
    /// The places in the config, as JSON pointers, each with file, line and column of its origin.
    pub places: Vec<(String, (String, usize, usize))>,
}

/// The fault of an import that reads nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("{file}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// The reason.
        reason: String,
    },
    /// A file is no policy document.
    #[error(transparent)]
    NoDocument(#[from] NoDocument),
    /// There is nothing to import.
    #[error("there is no policy document, no API and no ARM template in what was given")]
    Nothing,
}

/// Imports files and folders.
///
/// # Errors
/// Fails if a path cannot be read, or if nothing in it can be imported.
pub fn import(paths: &[PathBuf], options: &Options) -> Result<Import, ImportError> {
    let estate = estate::gather(paths, options)?;
    let (files, report, places) = estate::build(estate, options);
    Ok(Import { files, report, places })
}

/// Returns whether a name fits a pattern, in which `*` stands for any text and `?` for any letter.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of, mut star, mut mark) = (0, 0, None, 0);
    while of < name.len() {
        if pattern.get(at).is_some_and(|letter| *letter == '?' || *letter == name[of]) && pattern.get(at) != Some(&'*') {
            at += 1;
            of += 1;
        } else if pattern.get(at) == Some(&'*') {
            star = Some(at);
            mark = of;
            at += 1;
        } else if let Some(back) = star {
            at = back + 1;
            mark += 1;
            of = mark;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names_fit() {
        for (pattern, name, fits) in [
            ("*.xml", "a/b.xml", true),
            ("apis/*/policy.xml", "apis/orders/policy.xml", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*global*", "a/global_policy.xml", true),
            ("", "", true),
            ("*", "", true),
            ("a", "b", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}

//! Ambiguities of a target that a route accepts by name.

use schemars::JsonSchema;
use serde::Deserialize;

/// An ambiguity of a target that is refused unless the route accepts it by name.
///
/// Accepting one never lets a request change its route: a target that a lenient reader would take for another route's is refused
/// anyway.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptConfig {
    /// `%2F`.
    EncodedSlash,
    /// `;` and `%3B`, which some backends cut off together with the rest.
    Semicolon,
    /// `//`.
    EmptySegment,
    /// `\` and `%5C`.
    Backslash,
    /// Bytes beyond ASCII, raw or percent-encoded as something that is not UTF-8, and characters that some backends turn into
    /// `.` or `/`.
    NonAscii,
    /// `%25`, which a backend that decodes twice reads as the start of another escape.
    EncodedPercent,
    /// `%` in a query without two hexadecimal digits behind it.
    BareEscape,
    /// `%3F`, which some backends take for the beginning of the query.
    EncodedQuestionMark,
    /// `%23`, which some backends take for the beginning of a fragment.
    EncodedHash,
}

impl AcceptConfig {
    /// All values.
    pub const ALL: &[Self] = &[
        Self::EncodedSlash,
        Self::Semicolon,
        Self::EmptySegment,
        Self::Backslash,
        Self::NonAscii,
        Self::EncodedPercent,
        Self::BareEscape,
        Self::EncodedQuestionMark,
        Self::EncodedHash,
    ];

    /// Returns the word in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EncodedSlash => "encoded-slash",
            Self::Semicolon => "semicolon",
            Self::EmptySegment => "empty-segment",
            Self::Backslash => "backslash",
            Self::NonAscii => "non-ascii",
            Self::EncodedPercent => "encoded-percent",
            Self::BareEscape => "bare-escape",
            Self::EncodedQuestionMark => "encoded-question-mark",
            Self::EncodedHash => "encoded-hash",
        }
    }
}

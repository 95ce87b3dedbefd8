//! Parts of the path that the pattern of a route captures.

use bytestring::ByteString;

/// What a route's path captured: names and raw segments, and the rest below a prefix.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// The captured segments as they came, with the names of the route's pattern.
    pub segments: Vec<(std::sync::Arc<str>, ByteString)>,
    /// What follows the prefix: empty, or with its slash.
    pub rest: ByteString,
}

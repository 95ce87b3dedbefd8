//! Parts of the path that the pattern of a route captures.

use bytestring::ByteString;

/// The captures of a route's path: names and raw segments, and the rest below a prefix.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// The captured segments as received, with the names of the route's pattern.
    pub segments: Vec<(std::sync::Arc<str>, ByteString)>,
    /// The rest after the prefix: empty, or with its slash.
    pub rest: ByteString,
}

//! The memory of a cached token, as the allocator accounts for it.

use serde_json::Value;

/// Returns the memory of an allocation of this size with glibc: with the word before it, rounded up to sixteen bytes.
pub(super) const fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 32,
        _ => (bytes + 8).next_multiple_of(16),
    }
}

/// The size of the counts of a reference-counted pointer.
pub(super) const COUNTS: usize = 2 * size_of::<usize>();

/// The maximum number of an object's members in one node of its tree, and the minimum in a tree of several nodes.
const NODE: (usize, usize) = (11, 5);

/// Returns the memory that a JSON value points to.
pub(super) fn of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => block(text.capacity()),
        Value::Array(values) => block(values.capacity() * size_of::<Value>()) + values.iter().map(of_value).sum::<usize>(),
        Value::Object(members) => {
            let node = block(NODE.0 * (size_of::<String>() + size_of::<Value>()) + 2 * size_of::<usize>());
            let values = members.iter().map(|(name, value)| block(name.capacity()) + of_value(value));
            members.len().div_ceil(NODE.1) * node + values.sum::<usize>()
        }
    }
}

/// Returns the memory that a text points to.
pub(super) const fn of_text(text: &str) -> usize {
    block(text.len())
}

/// Returns the memory that a list of texts points to.
pub(super) fn of_texts(texts: &[Box<str>], capacity: usize) -> usize {
    block(capacity * size_of::<Box<str>>()) + texts.iter().map(|text| of_text(text)).sum::<usize>()
}

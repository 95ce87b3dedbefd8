//! The parts of a text in which `{{name}}` stands for a named value.

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// `{{name}}`; `at` is its start.
    Name {
        /// The name between the brackets.
        name: &'a str,
        /// The byte at which the hole begins.
        at: usize,
    },
    /// `{{` without a name.
    Malformed {
        /// The text from the opening bracket on.
        text: &'a str,
    },
}

/// Returns the pieces of a text, in order.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut done = 0;
    while let Some(start) = text[done..].find("{{").map(|at| done + at) {
        if start > done {
            parts.push(Part::Text(&text[done..start]));
        }
        let inner = &text[start + 2..];
        let name = inner.find("}}").map(|end| &inner[..end]);
        match name {
            Some(name) if is_name(name.trim()) => {
                parts.push(Part::Name { name: name.trim(), at: start });
                done = start + 4 + name.len();
            }
            _ => {
                parts.push(Part::Malformed { text: &text[start..start + 2] });
                done = start + 2;
            }
        }
    }
    if done < text.len() {
        parts.push(Part::Text(&text[done..]));
    }
    parts
}

/// Returns whether a text can be a variable's name.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

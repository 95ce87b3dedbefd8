//! The end of an expression: the bracket that matches its first one.

/// The deepest nesting of brackets and interpolated strings.
const DEEPEST: usize = 256;

/// Returns the length of the expression `@(…)` or `@{…}` that a text begins with; `None` if its bracket is never closed.
///
/// Only `( [ {` count, since generics use `<`. Strings, characters and comments of C# are skipped.
pub fn expression_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'@') || !matches!(bytes.get(1), Some(b'(' | b'{')) {
        return None;
    }
    matching(bytes, 1, 0)
}

/// Returns the offset behind the bracket that matches the one at `open`.
fn matching(bytes: &[u8], open: usize, nesting: usize) -> Option<usize> {
    if nesting > DEEPEST {
        return None;
    }
    let mut expected = Vec::new();
    let mut at = open;
    while at < bytes.len() {
        match bytes[at] {
            b'(' => expected.push(b')'),
            b'[' => expected.push(b']'),
            b'{' => expected.push(b'}'),
            close @ (b')' | b']' | b'}') => {
                if expected.pop() != Some(close) {
                    return None;
                }
                if expected.is_empty() {
                    return Some(at + 1);
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|byte| *byte == b'\n')?;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at += 2 + bytes[at + 2..].windows(2).position(|pair| pair == b"*/")? + 2;
                continue;
            }
            b'\'' => {
                at = character(bytes, at)?;
                continue;
            }
            b'"' => {
                at = plain(bytes, at)?;
                continue;
            }
            b'@' if bytes.get(at + 1) == Some(&b'"') => {
                at = verbatim(bytes, at + 1)?;
                continue;
            }
            b'$' if bytes.get(at + 1) == Some(&b'"') => {
                at = interpolated(bytes, at + 1, false, nesting)?;
                continue;
            }
            b'$' | b'@' if matches!(bytes.get(at + 1), Some(b'@' | b'$')) && bytes.get(at + 2) == Some(&b'"') => {
                at = interpolated(bytes, at + 2, true, nesting)?;
                continue;
            }
            _ => {}
        }
        at += 1;
        if expected.len() > DEEPEST {
            return None;
        }
    }
    None
}

/// Returns the offset behind a character literal.
fn character(bytes: &[u8], at: usize) -> Option<usize> {
    let inner = at + if bytes.get(at + 1) == Some(&b'\\') { 3 } else { 2 };
    // Letters beyond ASCII and `\u0041` are longer than one byte.
    let length = bytes.get(inner..)?.iter().take(8).position(|byte| *byte == b'\'')?;
    Some(inner + length + 1)
}

/// Returns the offset behind a string with escapes, which has no line break.
fn plain(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 1,
            b'\n' => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns the offset behind a string in which `""` is a quote.
fn verbatim(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', Some(b'"')) => at += 1,
            (b'"', _) => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns the offset behind a string with holes `{expression}`; `{{` is a brace, or a named value.
fn interpolated(bytes: &[u8], open: usize, is_verbatim: bool, nesting: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', Some(b'"')) if is_verbatim => at += 1,
            (b'"', _) => return Some(at + 1),
            (b'\\', _) if !is_verbatim => at += 1,
            (b'{', Some(b'{')) | (b'}', Some(b'}')) => at += 1,
            (b'{', _) => {
                at = matching(bytes, at, nesting + 1)?;
                continue;
            }
            (b'\n', _) if !is_verbatim => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

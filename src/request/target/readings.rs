//! The readings of one path by different backends.
//!
//! A route accepts by name the ambiguities that some backends read differently. How *its* backend reads them is not known: it may
//! decode once or repeatedly, before it looks for slashes or after, cut parameters off or keep them. So every such reading is
//! tried, in every combination with the others, and none of them may lead to another route.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use super::{Ambiguities, Strictness, Target, TargetFault, canonical, escape, lenient, push_escape, refuse_dot_segments};

/// The maximum size of all readings of a path together, in bytes: the cost limit for a route that accepts many ambiguities.
const MOST: usize = 256 << 10;

impl Target {
    /// Returns the paths that some backend may take the path for, besides the path itself, each in the form that routes are
    /// matched by.
    ///
    /// # Errors
    /// Fails if there are too many, or if one of them contains what no path may.
    pub(crate) fn readings(&self) -> Result<Vec<String>, TargetFault> {
        if self.ambiguities.is_empty() && !is_beyond_ascii(&self.path) {
            return Ok(Vec::new());
        }
        let mut readings = Readings { texts: vec![self.path.to_string()], bytes: 0 };
        readings.decode()?;
        readings.vary(compatible)?;
        // What became a `%` may begin another escape, which need not be decoded where those before it were.
        readings.decode()?;
        readings.vary(|text| Ok(without_parameters(text)))?;
        readings.vary(|text| Ok(cut(text, ";").or_else(|| cut(text, "%3B"))))?;
        readings.vary(|text| Ok(cut(text, "%3F")))?;
        readings.vary(|text| Ok(cut(text, "%23")))?;
        readings.vary(|text| Ok(merged(text)))?;
        readings.texts.iter().try_for_each(|text| refuse_dot_segments(text))?;
        Ok(readings.texts.split_off(1))
    }
}

struct Readings {
    texts: Vec<String>,
    bytes: usize,
}

impl Readings {
    /// Adds the readings by backends that decode further, and take decoded slashes and backslashes for separators.
    fn decode(&mut self) -> Result<(), TargetFault> {
        self.vary(decoded)?;
        self.vary(|text| Ok(replaced(text, "%2F", "/")))?;
        self.vary(|text| Ok(replaced(text, "%5C", "/")))
    }

    /// Adds the reading of each path by a backend that also applies `change`, repeated until nothing changes.
    fn vary(&mut self, change: impl Fn(&str) -> Result<Option<String>, TargetFault>) -> Result<(), TargetFault> {
        let mut at = 0;
        while let Some(text) = self.texts.get(at) {
            at += 1;
            let Some(other) = change(text)? else { continue };
            if !self.texts.contains(&other) {
                self.bytes += other.len();
                if self.bytes > MOST {
                    return Err(TargetFault::TooManyReadings);
                }
                self.texts.push(other);
            }
        }
        Ok(())
    }
}

/// Returns whether a path, in its canonical form, has escapes of bytes beyond ASCII.
fn is_beyond_ascii(path: &str) -> bool {
    let bytes = path.as_bytes();
    memchr::memchr_iter(b'%', bytes).any(|at| bytes.get(at + 1).is_some_and(|digit| matches!(digit, b'8'..=b'9' | b'A'..=b'F')))
}

/// Decodes the text once more.
fn decoded(text: &str) -> Result<Option<String>, TargetFault> {
    let Some(once) = replaced(text, "%25", "%") else { return Ok(None) };
    canonical(once.as_bytes(), &mut Ambiguities::default(), Strictness::Deeper).map(Some)
}

/// Returns the text as a reader that normalises letters sees it, or one that converts them to a smaller character set (best fit).
fn compatible(text: &str) -> Result<Option<String>, TargetFault> {
    if !is_beyond_ascii(text) {
        return Ok(None);
    }
    let decoded = lenient::decode(&decode_beyond_ascii(text));
    let mut made = String::with_capacity(text.len());
    for letter in normalised(&decoded).chars() {
        match letter {
            // These have no place in a path as they are.
            ' ' | '#' | '?' => push_escape(&mut made, letter as u8),
            letter => made.push(letter),
        }
    }
    canonical(made.as_bytes(), &mut Ambiguities::default(), Strictness::Deeper).map(Some)
}

/// Replaces letters by the simplest compatible ones (NFKC), or by those that a conversion takes for them.
pub(crate) fn normalised(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();
    NFKC.normalize(text).chars().map(best_fit).collect::<String>().into()
}

/// Maps delimiters that NFKC does not change. The last two backslashes are those of two Windows code pages; the full stop is a dot in
/// domain names (UTS 46).
const fn best_fit(letter: char) -> char {
    match letter {
        '\u{3002}' => '.',
        '\u{2044}' | '\u{2215}' | '\u{29F8}' => '/',
        '\u{2216}' | '\u{29F5}' | '\u{29F9}' | '\u{A5}' | '\u{20A9}' => '\\',
        '\u{066A}' => '%',
        '\u{0589}' | '\u{2236}' | '\u{A789}' => ':',
        letter => letter,
    }
}

/// Returns the text with its escapes of bytes beyond ASCII decoded, and no others.
fn decode_beyond_ascii(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match escape(tail).filter(|(escaped, _)| byte == b'%' && !escaped.is_ascii()) {
            Some((escaped, tail)) => {
                bytes.push(escaped);
                rest = tail;
            }
            None => bytes.push(byte),
        }
    }
    bytes
}

fn replaced(text: &str, from: &str, to: &str) -> Option<String> {
    text.contains(from).then(|| text.replace(from, to))
}

/// Removes the parameters of each segment.
fn without_parameters(text: &str) -> Option<String> {
    let end = |segment: &str| segment.find(';').into_iter().chain(segment.find("%3B")).min();
    end(text)?;
    let segments: Vec<_> = text.split('/').map(|segment| end(segment).map_or(segment, |end| &segment[..end])).collect();
    Some(segments.join("/"))
}

/// Returns the text before `at`.
fn cut(text: &str, at: &str) -> Option<String> {
    text.find(at).map(|at| text[..at.max(1)].to_owned())
}

/// Removes empty segments.
fn merged(text: &str) -> Option<String> {
    if !text.contains("//") {
        return None;
    }
    let mut merged = String::with_capacity(text.len());
    for segment in text.split('/').filter(|segment| !segment.is_empty()) {
        merged.push('/');
        merged.push_str(segment);
    }
    if text.ends_with('/') {
        merged.push('/');
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(target: &str) -> Result<Vec<String>, TargetFault> {
        Target::read(target).unwrap_or_else(|fault| panic!("{target}: {fault}")).readings()
    }

    #[test]
    fn every_way_to_read_a_path_is_among_them() {
        for (target, expected) in [
            ("/a%2fb", &["/a/b"][..]),
            ("/a%252fb", &["/a%2Fb", "/a/b"]),
            ("//a///b", &["/a/b"]),
            ("/a;x=1/b;y", &["/a/b", "/a"]),
            ("/a%3bx/b", &["/a/b", "/a"]),
            ("/a%5cb\\c/", &["/a/b/c/"]),
            ("//", &["/"]),
            ("/a%3Fb/c", &["/a"]),
            ("/a%23b%3fc", &["/a%23b", "/a"]),
            ("/%3Fa", &["/"]),
            ("/my%20files//x", &["/my%20files/x"]),
            ("/x%2Fy%3Fz%2Fw", &["/x/y%3Fz/w", "/x%2Fy", "/x/y"]),
            ("/%EF%BD%81dmin", &["/admin"]),
            ("/a%EF%BC%8Fb", &["/a/b"]),
            ("/a%E2%88%95b", &["/a/b"]),
            ("/a%C2%A5b", &["/a%5Cb", "/a/b"]),
            ("/a%EF%BC%852Fb", &["/a%2Fb", "/a/b"]),
            ("/a%EF%BC%85252Fb", &["/a%252Fb", "/a%2Fb", "/a/b"]),
            ("/%EF%BC%852F%EF%BC%8Fa%2F", &["/%2F/a/", "/%2F/a%2F", "///a/"]),
            ("/%EF%BC%852F%5Ca%252F", &["/%2F/a/", "/%2F/a%2F", "///a/"]),
            ("/a%EF%BC%83b", &["/a%23b", "/a"]),
            ("/a%D9%AA2Fb", &["/a%2Fb", "/a/b"]),
            // Four bytes for `é`, and two halves of a letter for an `a`.
            ("/caf%F0%80%83%A9", &["/caf%C3%A9"]),
            ("/%ED%A0%B5%ED%B0%9Admin", &["/admin"]),
        ] {
            let found = readings(target).unwrap_or_else(|fault| panic!("{target}: {fault}"));
            for reading in expected {
                assert!(found.iter().any(|found| found == reading), "{target}: {reading} is not among {found:?}");
            }
        }
        for plain in ["/a/b", "/caf%C3%A9", "/a%20b", "/a,b"] {
            assert_eq!(readings(plain).map(|readings| readings.into_iter().filter(|it| it != plain).count()), Ok(0), "{plain}");
        }
    }

    #[test]
    fn what_would_climb_in_some_reading_is_refused() {
        for target in [
            "/a/%EF%BC%8E%EF%BC%8E/b",
            "/a/%E2%80%A5/b",
            "/a/%E3%80%82%E3%80%82/b",
            "/a/%EF%BD%A1./b",
            "/a/%EF%B8%92/b",
            "/a%EF%BC%8F..x/%EF%BC%8E",
            "/a/%EF%BC%852e%EF%BC%852e/b",
        ] {
            assert_eq!(readings(target), Err(TargetFault::DotSegment), "{target}");
        }
        assert_eq!(readings("/a%EF%BC%8500"), Err(TargetFault::Control));
    }

    #[test]
    fn there_is_an_end_to_what_is_looked_at() {
        let long = "a;b%2Fc%5Cd%3Fe%23f%25252Fg%EF%BC%8Fh//".repeat(180);

        assert_eq!(readings(&format!("/{long}")), Err(TargetFault::TooManyReadings));
    }
}

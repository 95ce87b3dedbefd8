//! The source files of a config, and places in them.

use std::{borrow::Cow, ops::Range, path::PathBuf};

use super::blank::Blanks;

/// A stretch of one of the files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file's index among the [`Sources`].
    pub file: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Origin {
    /// Makes an origin of a range of bytes.
    pub const fn new(file: usize, range: Range<usize>) -> Self {
        Self { file, start: range.start, end: range.end }
    }

    /// Makes an origin for a whole file, where no narrower place is known.
    pub const fn file(file: usize) -> Self {
        Self { file, start: 0, end: 0 }
    }
}

/// One file, as read.
pub struct SourceFile {
    /// The name shown to people: the path as they gave it.
    pub name: String,
    /// The path as it was given.
    pub path: PathBuf,
    /// The contents.
    pub text: String,
}

/// Omits the text, which may hold secrets.
impl std::fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SourceFile").field(&self.name).finish()
    }
}

/// All the files of a config.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    /// The parts that must not be shown.
    blanks: Blanks,
}

impl Sources {
    /// Adds a file and returns its index.
    pub fn add(&mut self, file: SourceFile) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Returns the number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns whether no file was read.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns the file of an index.
    pub fn get(&self, file: usize) -> &SourceFile {
        &self.files[file]
    }

    /// Returns the texts of all files.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.text.as_str())
    }

    /// Returns the paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|file| &file.path)
    }

    /// Hides a place whenever the file is shown.
    pub fn hide(&mut self, origin: Origin) {
        self.blanks.place(origin);
    }

    /// Returns whether some of what stands at a place is hidden.
    pub fn hides(&self, origin: &Origin) -> bool {
        self.blanks.touches(origin)
    }

    /// Redacts a secret in everything that is shown, wherever it occurs.
    pub fn keep_secret(&mut self, text: &str) {
        self.blanks.text(text);
    }

    /// Returns the file's text with its secrets redacted, every byte at its old position.
    pub fn shown(&self, file: usize) -> String {
        self.blanks.of_file(file, &self.files[file].text)
    }

    /// Returns a message without secrets; `about` is the place that the message is about.
    pub fn said<'m>(&self, message: &'m str, about: Option<&Origin>) -> Cow<'m, str> {
        let about = about.map(|origin| (origin, &self.files[origin.file].text[self.first_line(origin)]));
        self.blanks.of_message(message, about)
    }

    /// Returns line and column of a byte, both counted from 1, the column in characters.
    pub fn line_column(&self, file: usize, offset: usize) -> (usize, usize) {
        let text = &self.files[file].text;
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        // A byte order mark is no character of the first line.
        (line, before[line_start..].trim_start_matches('\u{feff}').chars().count() + 1)
    }

    /// Returns the part of the origin on its first line, as a byte range of the file.
    pub fn first_line(&self, origin: &Origin) -> Range<usize> {
        let text = &self.files[origin.file].text;
        let start = text.floor_char_boundary(origin.start);
        let end = text.floor_char_boundary(origin.end.max(start));
        let line = text[start..end].split(['\n', '\r']).next().unwrap_or_default().trim_end();
        start..start + line.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        let mut sources = Sources::default();
        sources.add(SourceFile { name: "a.yaml".into(), path: "a.yaml".into(), text: text.into() });
        sources
    }

    #[test]
    fn columns_count_characters() {
        let sources = sources("\u{feff}ä: 1\nöü: x\n");

        assert_eq!(sources.line_column(0, 3), (1, 1));
        assert_eq!(sources.line_column(0, 5), (1, 2));
        assert_eq!(sources.line_column(0, 15), (2, 5));
        assert_eq!(sources.line_column(0, 999), (3, 1));
    }

    #[test]
    fn hidden_text_is_not_shown() {
        let mut sources = sources("secret: häm\nother: 1\n");

        sources.hide(Origin::new(0, 8..12));

        assert_eq!(sources.shown(0), "secret: ****\nother: 1\n");
    }
}

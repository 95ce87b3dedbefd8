//! Notes for the record of a request, which `trace` policies make.

use std::sync::Arc;

/// The most notes of one request.
const MOST: usize = 8;
/// The most bytes of all notes of one request together.
const MOST_BYTES: usize = 8 * 1024;

/// A note for the record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its source, as the config names it.
    pub source: Option<Arc<str>>,
    /// The message.
    pub message: Box<str>,
    /// Further values by name.
    pub metadata: Box<[(Arc<str>, Box<str>)]>,
}

impl Note {
    fn weight(&self) -> usize {
        let metadata = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.source.as_ref().map_or(0, |source| source.len()) + self.message.len() + metadata
    }
}

/// The notes of a request, bounded in number and size. Takes no memory until there is one.
#[derive(Clone, Debug, Default)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// Adds a note, if there is room for it.
    pub(crate) fn add(&mut self, note: Note) {
        if self.0.len() < MOST && self.0.iter().chain([&note]).map(Note::weight).sum::<usize>() <= MOST_BYTES {
            self.0.push(note);
        }
    }

    /// Returns the notes, in the order they were made.
    pub fn as_slice(&self) -> &[Note] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(length: usize) -> Note {
        Note { source: None, message: "x".repeat(length).into(), metadata: Box::default() }
    }

    #[test]
    fn notes_are_bounded_in_number_and_size() {
        let mut few = Notes::default();
        (0..20).for_each(|_| few.add(note(1)));
        assert_eq!(few.as_slice().len(), MOST);

        let mut large = Notes::default();
        (0..5).for_each(|_| large.add(note(3_000)));
        assert_eq!(large.as_slice().len(), 2);
        large.add(note(1_000));
        assert_eq!(large.as_slice().len(), 3);
    }
}

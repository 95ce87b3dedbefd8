//! Sample values for facts that nothing cuts: texts that a pattern finds, and random ones.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The longest sample of a pattern, in bytes.
const LONGEST: usize = 512;

/// Returns texts in which a pattern is found: with as few repetitions as it allows, and with one more.
pub(super) fn of_pattern(pattern: &str) -> Vec<String> {
    let Ok(hir) = regex_syntax::parse(pattern) else { return Vec::new() };
    let mut found = Vec::new();
    for (more, last) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut text = String::new();
        write(&hir, more, last, &mut text);
        if text.len() <= LONGEST && !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// Writes a text of the pattern: each repetition `more` times more often than it has to be, and of alternatives the first or the last.
fn write(hir: &Hir, more: u32, last: bool, text: &mut String) {
    if text.len() > LONGEST {
        return;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => text.extend(letter(class)),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            for _ in 0..repetition.min.saturating_add(more).min(most).min(64) {
                write(&repetition.sub, more, last, text);
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, more, last, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, more, last, text)),
        HirKind::Alternation(parts) => {
            if let Some(part) = if last { parts.last() } else { parts.first() } {
                write(part, more, last, text);
            }
        }
    }
}

/// Returns a letter of a class, one that people write if there is one.
fn letter(class: &Class) -> Option<char> {
    let usual = |has: &dyn Fn(char) -> bool| ['a', '1', 'A', '-', '_', '.', '/'].into_iter().find(|letter| has(*letter));
    match class {
        Class::Unicode(class) => {
            let has = |letter: char| class.ranges().iter().any(|range| range.start() <= letter && letter <= range.end());
            usual(&has).or_else(|| class.ranges().first().map(|range| range.start()))
        }
        Class::Bytes(class) => {
            let has = |letter: char| {
                class
                    .ranges()
                    .iter()
                    .any(|range| u32::from(range.start()) <= letter.into() && u32::from(letter) <= range.end().into())
            };
            usual(&has).or_else(|| class.ranges().first().map(|range| char::from(range.start())))
        }
    }
}

/// A sequence of numbers that look random, and are the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Sequence(u64);

impl Sequence {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Returns the next number (SplitMix64).
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below the limit, which must not be 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    /// Returns one of these.
    pub(crate) fn one_of<'t, T>(&mut self, all: &'t [T]) -> Option<&'t T> {
        if all.is_empty() { None } else { all.get(self.below(all.len())) }
    }

    /// Returns a short text of letters and digits.
    pub(crate) fn text(&mut self) -> String {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let length = 1 + self.below(12);
        (0..length).map(|_| char::from(LETTERS[self.below(LETTERS.len())])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_their_pattern() {
        for pattern in ["^/orders/[0-9]+$", "(?i)admin|root", "^[A-Za-z0-9._-]{3,8}@contoso\\.example$", "x*y?"] {
            let read = regex::Regex::new(pattern).expect(pattern);
            let samples = of_pattern(pattern);
            assert!(!samples.is_empty() && samples.iter().all(|sample| read.is_match(sample)), "{pattern}: {samples:?}");
        }
    }

    #[test]
    fn a_sequence_depends_on_its_seed_alone() {
        let numbers = |seed| {
            (0..3)
                .map({
                    let mut sequence = Sequence::new(seed);
                    move |_| sequence.next()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}

//! Knowledge of a fact that is a text: tests that hold or do not, and a value that meets them.

use std::collections::BTreeSet;

use regex::Regex;

use crate::expression::shape::{Fold, Test};

/// A text that no config compares with.
pub(crate) const ANOTHER: &str = "another";

/// The most values that are tried.
const MOST_TRIED: usize = 4_096;

/// A fact that is a text, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextFact {
    /// Whether it is there.
    pub(crate) present: Option<bool>,
    tests: Vec<(Test, bool)>,
}

/// The result of a search for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The fact is absent.
    Absent,
    /// This value meets all tests.
    Value(String),
    /// There is none.
    None,
    /// There may be one, but none was found.
    Unknown,
}

impl TextFact {
    /// Adds a test. Returns false if it contradicts what is known.
    pub(crate) fn add(&mut self, test: Test, holds: bool) -> bool {
        if self.present == Some(false) {
            return false;
        }
        self.present = Some(true);
        self.tests.push((test, holds));
        self.value(&[]) != Found::None
    }

    /// Says whether the fact is there. Returns false if that contradicts what is known.
    pub(crate) fn exists(&mut self, exists: bool) -> bool {
        let agrees = self.present.is_none_or(|present| present == exists);
        self.present = Some(exists);
        agrees
    }

    /// Returns whether something is known.
    pub(crate) const fn is_known(&self) -> bool {
        self.present.is_some()
    }

    /// Returns the listed values of which the fact is one, if it has to be one.
    pub(crate) fn wanted(&self) -> Option<Vec<String>> {
        let lists = self.tests.iter().filter_map(|(test, holds)| match test {
            Test::In(texts) if *holds => Some(texts),
            _ => None,
        });
        let shortest = lists.min_by_key(|texts| texts.len())?;
        let fits = |value: &&String| self.tests.iter().all(|(test, holds)| passes(test, value) == *holds);
        Some(shortest.iter().filter(fits).cloned().collect())
    }

    /// Returns a value that meets the tests; `more` are tried first.
    pub(crate) fn value(&self, more: &[String]) -> Found {
        match self.present {
            Some(false) => return Found::Absent,
            None => return Found::Absent,
            Some(true) => {}
        }
        let fits = |value: &String| self.tests.iter().all(|(test, holds)| passes(test, value) == *holds);
        if let Some(value) = more.iter().find(|value| fits(value)) {
            return Found::Value(value.clone());
        }
        if let Some(value) = self.candidates().into_iter().take(MOST_TRIED).find(fits) {
            return Found::Value(value);
        }
        let decidable = |(test, _): &(Test, bool)| !has_pattern(test);
        if self.tests.iter().all(decidable) { Found::None } else { Found::Unknown }
    }

    /// Returns the values among which one meets the tests, if any does: the texts that are compared, each text in either case, and each
    /// beginning with each middle and each end.
    fn candidates(&self) -> Vec<String> {
        let mut parts = Parts::default();
        self.tests.iter().for_each(|(test, _)| parts.add(test, None));
        let mut found: Vec<String> = parts.whole.iter().cloned().collect();
        let none = || std::iter::once(String::new());
        for begin in none().chain(parts.begin.iter().cloned()) {
            for middle in [String::new(), ANOTHER.to_owned()].into_iter().chain(parts.middle.iter().cloned()) {
                for end in none().chain(parts.end.iter().cloned()) {
                    found.push(format!("{begin}{middle}{end}"));
                    // The end may be within the beginning, and the other way round.
                    found.extend(overlapped(&begin, &end).filter(|_| middle.is_empty()));
                }
            }
        }
        if parts.middle.len() > 1 {
            found.push(parts.middle.iter().cloned().collect::<Vec<_>>().concat());
        }
        found.retain(|text| !text.is_empty());
        found
    }
}

/// Returns a text that begins with the one and ends with the other, where they overlap.
fn overlapped(begin: &str, end: &str) -> Option<String> {
    let at = (0..begin.len()).filter(|at| begin.is_char_boundary(*at)).find(|at| end.starts_with(&begin[*at..]))?;
    Some(format!("{}{end}", &begin[..at]))
}

/// The texts of tests, by their position in a value.
#[derive(Debug, Default)]
struct Parts {
    whole: BTreeSet<String>,
    begin: BTreeSet<String>,
    middle: BTreeSet<String>,
    end: BTreeSet<String>,
}

impl Parts {
    fn add(&mut self, test: &Test, fold: Option<Fold>) {
        // A folded test is met by its own text, and also by one in the other case, which tests without folding tell apart.
        let cases = |text: &String| match fold {
            None => vec![text.clone()],
            Some(Fold::Lower) => vec![text.clone(), text.to_uppercase()],
            Some(Fold::Upper) => vec![text.clone(), text.to_lowercase()],
        };
        match test {
            Test::In(texts) | Test::Holds(texts) => self.whole.extend(texts.iter().flat_map(cases)),
            Test::Starts(text) => self.begin.extend(cases(text)),
            Test::Ends(text) => self.end.extend(cases(text)),
            Test::Contains(text) => self.middle.extend(cases(text)),
            Test::Matches(pattern) => self.whole.extend(super::sample::of_pattern(pattern)),
            Test::Folded(fold, test) => self.add(test, Some(*fold)),
            Test::True | Test::Networks(_) => {}
        }
    }
}

fn has_pattern(test: &Test) -> bool {
    match test {
        Test::Matches(_) => true,
        Test::Folded(_, test) => has_pattern(test),
        _ => false,
    }
}

/// Returns whether a text passes a test.
pub(crate) fn passes(test: &Test, value: &str) -> bool {
    match test {
        Test::In(texts) | Test::Holds(texts) => texts.iter().any(|text| text == value),
        Test::Starts(text) => value.starts_with(text.as_str()),
        Test::Ends(text) => value.ends_with(text.as_str()),
        Test::Contains(text) => value.contains(text.as_str()),
        Test::Matches(pattern) => Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(value)),
        Test::True => value == "true",
        Test::Networks(networks) => value
            .parse()
            .is_ok_and(|address: std::net::IpAddr| networks.iter().any(|network| network.contains(&address.to_canonical()))),
        Test::Folded(Fold::Lower, test) => passes(test, &value.to_lowercase()),
        Test::Folded(Fold::Upper, test) => passes(test, &value.to_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tests: &[(Test, bool)]) -> Found {
        let mut fact = TextFact { present: Some(true), ..TextFact::default() };
        fact.tests.extend(tests.iter().cloned());
        fact.value(&[])
    }

    #[test]
    fn a_value_meets_all_tests_or_there_is_none() {
        let texts = |list: &[&str]| Test::In(list.iter().map(|text| (*text).to_owned()).collect());
        let starts = |text: &str| Test::Starts(text.to_owned());
        let ends = |text: &str| Test::Ends(text.to_owned());
        for (tests, wanted) in [
            (vec![(texts(&["a", "b"]), true), (texts(&["a"]), false)], Some("b")),
            (vec![(texts(&["a"]), true), (texts(&["b"]), true)], None),
            (vec![(starts("/x"), true), (ends("x/y"), true)], Some("/xx/y")),
            (vec![(starts("ab"), true), (starts("abc"), false)], Some("ab")),
            (vec![(starts("a"), false), (texts(&["abc"]), true)], None),
        ] {
            match wanted {
                None => assert_eq!(found(&tests), Found::None, "{tests:?}"),
                Some(_) => assert!(matches!(found(&tests), Found::Value(_)), "{tests:?}"),
            }
        }
        let either = [(Test::Folded(Fold::Lower, Box::new(texts(&["nia"]))), true), (texts(&["nia"]), false)];
        assert_eq!(found(&either), Found::Value("NIA".to_owned()));
        let pattern = [(Test::Matches("^[0-9]{4}-x$".to_owned()), true)];
        assert!(matches!(found(&pattern), Found::Value(_)));
        // No value was found; that there is none cannot be said.
        let odd = [(Test::Matches("^(?:)$".to_owned()), true), (Test::Matches("^b$".to_owned()), true)];
        assert_eq!(found(&odd), Found::Unknown);
    }
}

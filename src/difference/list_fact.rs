//! Knowledge of a fact that is a list of texts, as roles are: elements that it has or has not.

use std::collections::BTreeSet;

use super::text_fact::ANOTHER;

/// A fact that is a list, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListFact {
    filled: Option<bool>,
    /// Sets of which the list has an element.
    some: Vec<BTreeSet<String>>,
    /// Elements that it has not.
    none: BTreeSet<String>,
}

impl ListFact {
    /// Says whether the list has one of these elements. Returns false if that contradicts what is known.
    pub(crate) fn any(&mut self, elements: BTreeSet<String>, holds: bool) -> bool {
        if holds {
            self.some.push(elements)
        } else {
            self.none.extend(elements)
        }
        self.elements().is_some()
    }

    /// Says whether the list has any element. Returns false if that contradicts what is known.
    pub(crate) fn fill(&mut self, filled: bool) -> bool {
        if self.filled.is_some_and(|known| known != filled) {
            return false;
        }
        self.filled = Some(filled);
        self.elements().is_some()
    }

    /// Returns whether the list may be empty.
    pub(crate) fn may_be_empty(&self) -> bool {
        self.filled != Some(true) && self.some.is_empty()
    }

    /// Returns the sets of which the list has an element, each without what it has not.
    pub(crate) fn wanted(&self) -> Vec<Vec<String>> {
        self.some.iter().map(|set| set.difference(&self.none).cloned().collect()).collect()
    }

    /// Returns the shortest list that is as known; `None` if there is none.
    pub(crate) fn elements(&self) -> Option<Vec<String>> {
        let mut elements: Vec<String> = Vec::new();
        // Sets of few elements leave no choice, so they come first.
        let mut some: Vec<_> = self.some.iter().collect();
        some.sort_by_key(|set| set.len());
        for set in some {
            if set.iter().any(|element| elements.contains(element)) {
                continue;
            }
            elements.push(set.iter().find(|element| !self.none.contains(*element))?.clone());
        }
        match self.filled {
            Some(false) if !elements.is_empty() => return None,
            Some(true) if elements.is_empty() => {
                // Shorter than any that could be listed is nothing: a longer one is always left.
                let mut text = ANOTHER.to_owned();
                while self.none.contains(&text) {
                    text.push('x');
                }
                elements.push(text);
            }
            _ => {}
        }
        Some(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_what_it_must_have_and_nothing_else() {
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        let mut fact = ListFact::default();
        assert!(fact.may_be_empty() && fact.any(set(&["a", "b"]), true) && fact.any(set(&["a"]), false));
        assert_eq!(fact.elements(), Some(vec!["b".to_owned()]));
        assert!(!fact.clone().any(set(&["b", "c"]), false), "nothing is left");
        assert!(!fact.clone().fill(false));

        let mut other = ListFact::default();
        assert!(other.any(set(&[ANOTHER]), false) && other.fill(true));
        assert_eq!(other.elements(), Some(vec!["anotherx".to_owned()]));
    }
}

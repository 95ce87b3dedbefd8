//! Fragments: what several routes have in common is written once.

use std::collections::BTreeMap;

use super::Item;

/// The lists that are written once.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    /// Each list by its name, in the order of the names.
    pub(crate) lists: BTreeMap<String, Vec<Item>>,
}

/// The shortest list that is worth a fragment of its own.
const SHORTEST: usize = 2;

impl Fragments {
    /// Takes what several of the lists have in common out of them.
    pub(crate) fn of(lists: &mut [&mut Vec<Item>]) -> Self {
        let mut uses: BTreeMap<String, Vec<(Vec<Item>, usize)>> = BTreeMap::new();
        for list in lists.iter() {
            count(list, &mut uses);
        }
        let mut fragments = Self::default();
        // One name has one content; what differs from route to route stays where it is.
        for (name, contents) in uses {
            if let [(items, times)] = contents.as_slice()
                && *times > 1
                && items.iter().filter(|item| item.writes()).count() >= SHORTEST
            {
                fragments.lists.insert(name, items.clone());
            }
        }
        fragments.put_into(lists);
        let names: Vec<String> = fragments.lists.keys().cloned().collect();
        for (name, items) in &mut fragments.lists {
            let own = name.clone();
            replace(items, &names, &own);
        }
        fragments
    }

    /// Includes the fragments in lists, in the place of what they hold.
    pub(crate) fn put_into(&self, lists: &mut [&mut Vec<Item>]) {
        let names: Vec<String> = self.lists.keys().cloned().collect();
        for list in lists.iter_mut() {
            replace(list, &names, "");
        }
    }
}

fn count(items: &[Item], uses: &mut BTreeMap<String, Vec<(Vec<Item>, usize)>>) {
    for item in items {
        match item {
            Item::Group { name, items } => {
                let contents = uses.entry(name.clone()).or_default();
                match contents.iter_mut().find(|(own, _)| own == items) {
                    Some((_, times)) => *times += 1,
                    None => contents.push((items.clone(), 1)),
                }
                count(items, uses);
            }
            Item::Policy { value: super::Yaml::Branches(branches), .. } => {
                branches.iter().for_each(|(_, items)| count(items, uses));
            }
            _ => {}
        }
    }
}

fn replace(items: &mut [Item], names: &[String], within: &str) {
    for item in items {
        match item {
            Item::Group { name, .. } if name != within && names.contains(name) => {
                let name = name.clone();
                let value = super::text(name);
                *item = Item::Policy { name: "include-fragment".to_owned(), value, origin: usize::MAX, comment: String::new() };
            }
            Item::Group { items, .. } => replace(items, names, within),
            Item::Policy { value: super::Yaml::Branches(branches), .. } => {
                branches.iter_mut().for_each(|(_, items)| replace(items, names, within));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{map, text};

    fn policy(value: &str) -> Item {
        Item::Policy { name: "set-method".into(), value: text(value), origin: 0, comment: String::new() }
    }

    fn group(name: &str, items: Vec<Item>) -> Item {
        Item::Group { name: name.into(), items }
    }

    #[test]
    fn what_is_alike_everywhere_is_written_once() {
        let common = || group("apim-global-inbound", vec![policy("A"), policy("B")]);
        let different = |value: &str| group("apim-api-inbound", vec![common(), policy(value), policy("C")]);
        let (mut first, mut second) = (vec![different("X")], vec![different("Y")]);

        let fragments = Fragments::of(&mut [&mut first, &mut second]);

        assert_eq!(fragments.lists.keys().collect::<Vec<_>>(), ["apim-global-inbound"]);
        let Item::Group { items, .. } = &first[0] else { panic!("{first:?}") };
        assert!(matches!(&items[0], Item::Policy { name, .. } if name == "include-fragment"), "{items:?}");
        assert_eq!(map([]), super::super::Yaml::Map(vec![]));
    }
}

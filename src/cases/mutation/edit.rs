//! Changes to the values of a config.

use crate::settings::{
    Place,
    node::{Key, Kind, Node, Text},
};

/// A change to the values of a config.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// Removes an entry of a list, or a key.
    Delete(Place),
    /// Adds an entry to the end of a list.
    Append(Place, String),
    /// Replaces a text.
    Replace(Place, String),
    /// Replaces a number.
    ReplaceNumber(Place, u64),
    /// Swaps two entries of a list that follow each other, the first of which has this index.
    Swap(Place, usize),
    /// Sets a key of a map to a text.
    Set(Place, &'static str, String),
    /// Sets a key of a map to a list of one text.
    SetList(Place, &'static str, String),
}

impl Edit {
    /// Changes the values; `None` if they do not have the place.
    pub(super) fn apply(&self, values: &mut Node) -> Option<()> {
        match self {
            Self::Delete(place) => {
                let (parent, last) = place.pointer().rsplit_once('/')?;
                match &mut at_mut(values, parent)?.kind {
                    Kind::List(entries) => {
                        let index: usize = last.parse().ok().filter(|index| *index < entries.len())?;
                        entries.remove(index);
                    }
                    Kind::Map(entries) => {
                        let key = plain(last);
                        entries.retain(|(own, _)| own.text != key);
                    }
                    _ => return None,
                }
            }
            Self::Append(place, text) => {
                let list = at_mut(values, place.pointer())?;
                let entry = text_at(list, text);
                match &mut list.kind {
                    Kind::List(entries) => entries.push(entry),
                    // One text may stand where a list can.
                    Kind::Text(_) => list.kind = Kind::List(vec![list.clone(), entry]),
                    _ => return None,
                }
            }
            Self::Replace(place, text) => {
                let value = at_mut(values, place.pointer())?;
                value.kind = Kind::Text(Text::plain(text.clone()));
            }
            Self::ReplaceNumber(place, number) => {
                at_mut(values, place.pointer())?.kind = Kind::Number((*number).into());
            }
            Self::Swap(place, index) => {
                let Kind::List(entries) = &mut at_mut(values, place.pointer())?.kind else { return None };
                (index + 1 < entries.len()).then(|| entries.swap(*index, index + 1))?;
            }
            Self::Set(place, key, text) => set(values, place, key, |map| text_at(map, text))?,
            Self::SetList(place, key, text) => {
                set(values, place, key, |map| Node::new(Kind::List(vec![text_at(map, text)]), map.at.clone()))?;
            }
        }
        Some(())
    }
}

/// Sets a key of a map.
fn set(values: &mut Node, place: &Place, key: &str, value: impl FnOnce(&Node) -> Node) -> Option<()> {
    let map = at_mut(values, place.pointer())?;
    let (value, at) = (value(map), map.at.clone());
    let Kind::Map(entries) = &mut map.kind else { return None };
    entries.retain(|(own, _)| own.text != key);
    entries.push((Key { text: key.to_owned(), at }, value));
    Some(())
}

fn text_at(node: &Node, text: &str) -> Node {
    Node::new(Kind::Text(Text::plain(text.to_owned())), node.at.clone())
}

/// Returns the value at a JSON pointer.
pub(super) fn at<'n>(values: &'n Node, pointer: &str) -> Option<&'n Node> {
    pointer.split('/').skip(1).try_fold(values, |node, step| match &node.kind {
        Kind::List(entries) => entries.get(step.parse::<usize>().ok()?),
        Kind::Map(_) => node.get(&plain(step)),
        _ => None,
    })
}

fn at_mut<'n>(values: &'n mut Node, pointer: &str) -> Option<&'n mut Node> {
    pointer.split('/').skip(1).try_fold(values, |node, step| match &mut node.kind {
        Kind::List(entries) => entries.get_mut(step.parse::<usize>().ok()?),
        Kind::Map(entries) => {
            let key = plain(step);
            entries.iter_mut().find(|(own, _)| own.text == key).map(|(_, value)| value)
        }
        _ => None,
    })
}

/// Returns a step of a JSON pointer as the key itself.
fn plain(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::yaml;

    fn edited(edit: &Edit) -> Option<String> {
        let text = "{ a: [x, y, z], 'b/c': { d: one, e: two } }";
        let mut values = yaml::read(text, 0, &mut Vec::new(), &mut Vec::new());
        edit.apply(&mut values).map(|()| values.to_json().to_string())
    }

    #[test]
    fn changes_are_made_at_their_places() {
        let root = Place::root();
        let (a, b) = (root.key("a"), root.key("b/c"));
        for (edit, expected) in [
            (Edit::Delete(a.index(1)), Some(r#"{"a":["x","z"],"b/c":{"d":"one","e":"two"}}"#)),
            (Edit::Delete(b.key("d")), Some(r#"{"a":["x","y","z"],"b/c":{"e":"two"}}"#)),
            (Edit::Append(a.clone(), "w".into()), Some(r#"{"a":["x","y","z","w"],"b/c":{"d":"one","e":"two"}}"#)),
            (Edit::Append(b.key("d"), "w".into()), Some(r#"{"a":["x","y","z"],"b/c":{"d":["one","w"],"e":"two"}}"#)),
            (Edit::Replace(b.key("e"), "w".into()), Some(r#"{"a":["x","y","z"],"b/c":{"d":"one","e":"w"}}"#)),
            (Edit::ReplaceNumber(b.key("e"), 7), Some(r#"{"a":["x","y","z"],"b/c":{"d":"one","e":7}}"#)),
            (Edit::Swap(a.clone(), 1), Some(r#"{"a":["x","z","y"],"b/c":{"d":"one","e":"two"}}"#)),
            (Edit::Set(b.clone(), "f", "w".into()), Some(r#"{"a":["x","y","z"],"b/c":{"d":"one","e":"two","f":"w"}}"#)),
            (Edit::SetList(b, "e", "w".into()), Some(r#"{"a":["x","y","z"],"b/c":{"d":"one","e":["w"]}}"#)),
            (Edit::Swap(a.clone(), 2), None),
            (Edit::Delete(a.index(7)), None),
            (Edit::Append(root.key("nowhere"), "w".into()), None),
        ] {
            assert_eq!(edited(&edit).as_deref(), expected, "{edit:?}");
        }
    }
}

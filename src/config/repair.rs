//! Stand-ins for what is wrong in a config, so that all around it is judged in the same go.
//!
//! A value that does not fit is replaced by one that does, a key that is mistyped by the one that is meant, a key that is missing by
//! one that is made up. What is wrong with a stand-in itself is nobody's fault and is not told.

use crate::settings::{
    fault::Place,
    node::{Key, Kind, Node, Text},
};

use super::schema::{Additional, Shape};

/// The maximum depth of made-up values.
const DEPTH: usize = 4;

/// One change that lets the rest of a config be read.
#[derive(Debug)]
pub(crate) enum Repair {
    /// The key of this entry is written otherwise than it is meant.
    Key { place: Place, meant: String },
    /// The written value stands for another one, which is as good as written.
    Meant { place: Place, kind: Kind },
    /// A value that is made up.
    MadeUp { place: Place, kind: Kind },
    /// An entry that is made up.
    Missing { map: Place, key: String, kind: Kind },
}

/// Carries out the changes, and notes in `without` what is made up.
pub(crate) fn repair(nodes: &mut Node, repairs: Vec<Repair>, without: &mut Vec<Place>) {
    for change in repairs {
        match change {
            Repair::Key { place, meant } => {
                let pointer = place.pointer();
                let end = pointer.rfind('/').unwrap_or_default();
                let (around, written) = (&pointer[..end], unescaped(pointer.get(end + 1..).unwrap_or_default()));
                if let Some(Kind::Map(entries)) = at(nodes, around).map(|node| &mut node.kind)
                    && let Some((key, _)) = entries.iter_mut().find(|(key, _)| key.text == written)
                {
                    key.text = meant;
                }
            }
            Repair::Meant { place, kind } => {
                if let Some(node) = at(nodes, place.pointer()) {
                    node.kind = kind;
                }
            }
            Repair::MadeUp { place, kind } => {
                if let Some(node) = at(nodes, place.pointer()) {
                    node.kind = kind;
                }
                without.push(place);
            }
            Repair::Missing { map, key, kind } => {
                if let Some(node) = at(nodes, map.pointer())
                    && let Kind::Map(entries) = &mut node.kind
                {
                    let place = node.at.clone();
                    entries.push((Key { text: key.clone(), at: place.clone() }, Node::new(kind, place)));
                }
                without.push(map.key(&key));
            }
        }
    }
}

/// A value of the shape, if one can be made up.
pub(crate) fn stand_in(shape: Shape<'_>) -> Option<Kind> {
    made_up(shape, 0)
}

fn made_up(shape: Shape<'_>, depth: usize) -> Option<Kind> {
    if depth > DEPTH {
        return None;
    }
    let forms = shape.alternatives();
    let simple = forms.iter().find_map(|form| match () {
        () if form.tag().is_some() => None,
        () if form.allows("string") => text(*form),
        () if form.allows("boolean") => Some(Kind::Bool(false)),
        () if form.allows("integer") || form.allows("number") => {
            // Bounds of a schema are small.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let least = form.bounds().0.map_or(1, |least| least.max(1.0) as u64);
            Some(Kind::Number(least.into()))
        }
        () => None,
    });
    simple.or_else(|| {
        forms.iter().find_map(|form| match () {
            () if form.allows("array") => {
                let items = form.items()?;
                let node = |kind| Node::new(kind, crate::settings::origin::Origin::file(0));
                let entries = (0..form.least("minItems").max(1)).map(|_| made_up(items, depth + 1).map(node));
                entries.collect::<Option<Vec<_>>>().map(Kind::List)
            }
            () if form.tag().is_none() && form.allows("object") => map(*form, depth),
            () => None,
        })
    })
}

fn map(form: Shape<'_>, depth: usize) -> Option<Kind> {
    if let (Additional::Each(_), None) = (form.additional(), form.properties()) {
        return Some(Kind::Map(Vec::new()));
    }
    let at = crate::settings::origin::Origin::file(0);
    let entries = form.required().map(|required| {
        let kind = made_up(form.property(required)?, depth + 1)?;
        Some((Key { text: required.to_owned(), at: at.clone() }, Node::new(kind, at.clone())))
    });
    entries.collect::<Option<Vec<_>>>().map(Kind::Map)
}

fn text(form: Shape<'_>) -> Option<Kind> {
    const TEXTS: [&str; 6] = ["stand-in", "1s", "1KiB", "2999-01-01", "50%", "timeout"];
    let text = match form.words() {
        Some(words) => *words.first()?,
        None => TEXTS.into_iter().find(|text| form.form().is_none_or(|fits| fits(text)))?,
    };
    Some(Kind::Text(Text::plain(text.to_owned())))
}

/// Returns the node at a pointer.
fn at<'n>(node: &'n mut Node, pointer: &str) -> Option<&'n mut Node> {
    pointer.split('/').skip(1).try_fold(node, |node, step| match &mut node.kind {
        Kind::Map(entries) => {
            let step = unescaped(step);
            entries.iter_mut().find(|(key, _)| key.text == step).map(|(_, value)| value)
        }
        Kind::List(entries) => entries.get_mut(step.parse::<usize>().ok()?),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Broken => None,
    })
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

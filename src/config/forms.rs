//! Forms that values take in a config, and how one is written that does not fit.

use super::{
    schema::{Additional, Shape},
    unsupported,
};
use crate::settings::{
    Place,
    blank::has_url_secrets,
    node::{Key, Kind, Node, Text},
    suggest,
};

pub(super) fn is_planned(owners: &[&str], key: &str) -> bool {
    owners.iter().any(|owner| unsupported::is_planned(owner, key))
}

/// The alternative that values of this JSON type are held against.
pub(super) fn pick<'s>(shape: Shape<'s>, kind: &str) -> Option<Shape<'s>> {
    shape.alternatives().into_iter().find(|shape| shape.allows(kind))
}

/// The kinds of values that fit, in words.
pub(super) fn wanted(shape: Shape<'_>) -> String {
    let alternatives = shape.alternatives();
    let kinds: Vec<&str> = [
        ("boolean", "true or false"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("string", "a text"),
        ("array", "a list"),
        ("object", "a map"),
    ]
    .into_iter()
    .filter(|(kind, _)| alternatives.iter().any(|shape| shape.allows(kind)))
    .map(|(_, word)| word)
    .collect();
    kinds.join(" or ")
}

/// A text that stands for a list of texts, as the list.
pub(super) fn listed(node: &Node, shape: Shape<'_>) -> Option<Kind> {
    let text = node.as_text().filter(|_| pick(shape, "string").is_none())?;
    pick(shape, "array")?.items().filter(|items| pick(*items, "string").is_some_and(|text| !text.is_secret()))?;
    let entry = |text: &str| Node::new(Kind::Text(Text::plain(text.to_owned())), node.at.clone());
    Some(Kind::List(words(text).map(entry).collect()))
}

/// The words of a text that was written for a list: `a b`, `a, b`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',']).filter(|word| !word.is_empty())
}

/// Entries that stand beside a key without a value and belong below it.
pub(super) fn dedented<'n>(
    entries: &'n [(Key, Node)],
    map: Shape<'n>,
    inner: Shape<'n>,
) -> Option<impl Iterator<Item = &'n (Key, Node)>> {
    let inner = pick(inner, "object")?;
    let below = move |(key, _): &&(Key, Node)| map.property(&key.text).is_none() && inner.property(&key.text).is_some();
    entries.iter().any(|entry| below(&entry)).then(|| entries.iter().filter(below))
}

/// The key of this map below which another key belongs.
pub(super) fn owner_of<'s>(map: Shape<'s>, key: &str) -> Option<&'s str> {
    // A name that many things have says nothing of where it belongs.
    if matches!(key, "name" | "id" | "value" | "address" | "tenant" | "scope") {
        return None;
    }
    let mut owners = map.keys().filter(|owner| {
        map.property(owner)
            .is_some_and(|inner| inner.alternatives().iter().any(|form| form.tag().is_none() && form.property(key).is_some()))
    });
    owners.next().filter(|_| owners.next().is_none())
}

/// Returns the cure: the value in the form that fits.
pub(super) fn cure(node: &Node, written: &str, shape: Shape<'_>) -> String {
    if let (Some(text), Some(list)) = (node.as_text(), pick(shape, "array"))
        && list.items().is_some_and(|items| pick(items, "string").is_some())
    {
        // A comma may be part of a secret, whose halves nobody would know for one.
        if has_url_secrets(text) {
            return "write it as a list: [\"…\"]".to_owned();
        }
        return format!("write it as a list: [{}]", words(text).collect::<Vec<_>>().join(", "));
    }
    if let (Some(text), true) = (node.as_text(), pick(shape, "object").is_some()) {
        let tags: Vec<&str> = shape.alternatives().iter().filter_map(|variant| variant.tag()).collect();
        if tags.contains(&text) {
            return format!("write `{text}: {{…}}`, with its settings as a map");
        }
        return match pick(shape, "object").filter(|map| map.tag().is_none()) {
            Some(map) if map.properties().is_some() => as_only_key(written, map)
                .unwrap_or_else(|| format!("write its keys below: {}", map.keys().collect::<Vec<_>>().join(", "))),
            _ => {
                suggest::known(text, tags, "write one of these as the key:").unwrap_or_else(|| "write `name: …` below".to_owned())
            }
        };
    }
    match (&node.kind, pick(shape, "boolean").is_some()) {
        (Kind::Text(_), true) => "write true or false, without quotes".to_owned(),
        (Kind::Text(text), false) if text.value.parse::<f64>().is_ok() => "leave the quotes out".to_owned(),
        (Kind::Bool(_), false) => match pick(shape, "object").filter(|map| map.required().next().is_some()) {
            Some(map) => format!("write `{}`", in_braces(map)),
            None => shape.summary().unwrap_or_default().to_owned(),
        },
        (Kind::Map(_), false) => match pick(shape, "array") {
            Some(list) if list.items().and_then(|items| items.property("name")).is_some() => {
                "write a list: each entry begins with `- `, and its name stands in it as `name: …`".to_owned()
            }
            Some(_) => "begin each entry with `- `".to_owned(),
            None if pick(shape, "string").is_some() => "write the text alone, without keys: \"…\"".to_owned(),
            None => shape.summary().unwrap_or_default().to_owned(),
        },
        (Kind::List(_), false) => match pick(shape, "object").map(Shape::additional) {
            Some(Additional::Each(each)) => match pick(each, "object") {
                Some(each) => format!("write each entry under a name of its own: `name: {}`", in_braces(each)),
                None => "write `name: value` lines instead of a list".to_owned(),
            },
            Some(_) => "write `key: value` lines instead of a list".to_owned(),
            None if pick(shape, "string").is_some() => "write one value, without the list".to_owned(),
            None => shape.summary().unwrap_or_default().to_owned(),
        },
        _ => shape.summary().unwrap_or_default().to_owned(),
    }
}

/// A map with the keys that it needs.
fn in_braces(map: Shape<'_>) -> String {
    let keys: Vec<String> = map.required().map(|key| format!("{key}: …")).collect();
    if keys.is_empty() { "{ … }".to_owned() } else { format!("{{ {} }}", keys.join(", ")) }
}

/// A text as the one key that a map needs.
fn as_only_key(written: &str, map: Shape<'_>) -> Option<String> {
    let mut required = map.required();
    let (key, None) = (required.next()?, required.next()) else { return None };
    let value = map.property(key)?;
    let listed = pick(value, "array").and_then(Shape::items).is_some_and(|items| pick(items, "string").is_some());
    match (pick(value, "string").is_some(), listed) {
        (true, _) => Some(format!("write `{{ {key}: {written} }}`")),
        (false, true) => Some(format!("write `{{ {key}: [{written}] }}`")),
        (false, false) => None,
    }
}

/// Returns whether an expression that stands there is evaluated.
pub(super) fn is_evaluated(place: &Place) -> bool {
    let is_index = |step: &str| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    let steps: Vec<&str> = place.pointer().split('/').skip(1).filter(|step| !is_index(step)).collect();
    match steps[..] {
        // Where a named value is used decides.
        ["named-values", ..] => true,
        [.., "set-header" | "set-query-parameter", "value" | "values"]
        | [.., "return-response" | "respond", "body"]
        | [.., "return-response" | "respond", "headers", _]
        | [.., "identity-headers", _, "value"]
        | [.., "authorize", "condition"]
        | [.., "choose", "when"]
        | [.., "rate-limit-by-key" | "quota-by-key", "counter-key" | "increment-condition"]
        | [.., "limit-concurrency", "key"]
        | [.., "authorization", "tenant"]
        | [.., "set-variable" | "set-body", "value"]
        | [.., "trace", "message"]
        | [.., "trace", "metadata", _]
        | [.., "set-backend-service", "upstream"]
        | [.., "set-method"] => true,
        _ => false,
    }
}

/// The message and the cure of a text that names a variable as in a shell; a hidden one is not repeated.
pub(super) fn filled_in_by_nobody(variable: &str, hidden: bool) -> (String, String) {
    if hidden {
        let cure = "write \"{{name}}\", and define it: `named-values: { name: { env: … } }`";
        return ("a variable of a shell is filled in by nobody".to_owned(), cure.to_owned());
    }
    let name = variable.to_ascii_lowercase().replace('_', "-");
    let cure = format!("write \"{{{{{name}}}}}\", and define it: `named-values: {{ {name}: {{ env: {variable} }} }}`");
    (format!("`${variable}` is filled in by nobody"), cure)
}

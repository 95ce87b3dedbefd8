//! Validation of the document against the schema, with readable messages.
//!
//! A general validator says of `- ip-filtr: {}` that none of twenty alternatives matches. This one knows the forms of the
//! config's types (maps, lists, words, and enums with their variant as key) and follows the probably intended one.

use super::{
    named_values::is_expression,
    schema::{Additional, Shape, summary},
    unsupported,
};
use crate::settings::{
    Finding,
    parts::{Part, parts},
};
use crate::settings::{
    fault::Place,
    node::{Kind, Node, Text},
    origin::{Origin, Sources},
    suggest,
    yaml::in_quotes,
};

/// Checks the whole document against its shape.
pub(crate) fn validate(document: &Node, shape: Shape<'_>, sources: &mut Sources) -> Vec<Finding> {
    let mut walk = Walk { findings: Vec::new(), sources };
    walk.check(document, None, shape, &Place::root());
    walk.findings
}

struct Walk<'a> {
    findings: Vec<Finding>,
    sources: &'a mut Sources,
}

impl Walk<'_> {
    fn error(&mut self, at: &Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) {
        self.findings.push(Finding::error(at.clone(), place, message, cure));
    }

    /// Checks a value against its shape; `key` is its key.
    fn check(&mut self, node: &Node, key: Option<&Origin>, shape: Shape<'_>, place: &Place) {
        if let Some(secret) = shape.secret() {
            self.hide_secret(node, key, secret, shape);
        }
        match &node.kind {
            Kind::Broken => {}
            Kind::Null if *place == Place::root() => {}
            Kind::Null => self.nothing(node, key, shape, place),
            Kind::Map(entries) => self.map(node, entries, key, shape, place),
            Kind::List(entries) => match pick(shape, "array") {
                Some(list) => {
                    if entries.len() < list.least("minItems") {
                        self.error(
                            key.unwrap_or(&node.at),
                            place,
                            "this list is empty",
                            "list at least one, or leave the key out",
                        );
                    }
                    let Some(items) = list.items() else { return };
                    for (index, entry) in entries.iter().enumerate() {
                        self.check(entry, None, items, &place.index(index));
                    }
                }
                None => self.wrong_kind(node, shape, place),
            },
            Kind::Text(text) => self.text(node, text, shape, place),
            Kind::Bool(_) if pick(shape, "boolean").is_some() => {}
            Kind::Number(number) => match pick(shape, "integer").or_else(|| pick(shape, "number")) {
                Some(fit) => self.number(node, number, fit, place),
                None => self.wrong_kind(node, shape, place),
            },
            Kind::Bool(_) => self.wrong_kind(node, shape, place),
        }
    }

    /// Hides the value of a setting for secrets, whatever it contains. The name of a named value is shown, and so is an
    /// expression where one is allowed.
    fn hide_secret(&mut self, node: &Node, key: Option<&Origin>, secret: Shape<'_>, shape: Shape<'_>) {
        // Each entry of a list of secrets is seen by itself.
        if let Kind::List(entries) = &node.kind
            && pick(shape, "array").is_some()
            && entries.iter().all(|entry| matches!(entry.kind, Kind::Text(_)))
        {
            return;
        }
        let text = &self.sources.get(node.at.file).text;
        let bare = text.get(node.at.start..node.at.end).unwrap_or_default().trim_matches(['"', '\'']);
        let is_name = !bare.is_empty() && parts(bare).iter().all(|part| matches!(part, Part::Name { .. }));
        let is_shown = is_name || secret.is_also_plain() && is_expression(bare);
        if let Kind::Text(text) = &node.kind
            && !text.names_secret
            && !secret.is_also_plain()
        {
            self.sources.keep_secret(&text.value);
        }
        if !is_shown {
            self.hide(node, key);
        }
    }

    /// Hides a value together with everything between it and its key: a tag or an anchor may be a secret that begins with `!` or
    /// `&`.
    fn hide(&mut self, node: &Node, key: Option<&Origin>) {
        let mut parts = Vec::new();
        node.each_part(&mut |origin| parts.push(origin.clone()));
        let own = parts.iter().filter(|part| part.file == node.at.file && part.start >= node.at.start);
        let mut whole = node.at.clone();
        whole.end = own.map(|part| part.end).max().unwrap_or(whole.end).max(whole.end);
        if let Some(key) = key.filter(|key| key.file == whole.file) {
            let text = &self.sources.get(key.file).text;
            let behind = text.get(key.end..).unwrap_or_default();
            let start = key.end + behind.find(':').map_or(0, |at| at + 1);
            if matches!(node.kind, Kind::Null) {
                // An empty value stands somewhere behind its key, and what is left of the line may be meant as one.
                whole.end = start + behind[start - key.end..].find('\n').unwrap_or(behind.len() + key.end - start);
            }
            whole.start = start.min(whole.start);
            whole.end = whole.end.max(whole.start);
        }
        parts.push(whole);
        parts.into_iter().for_each(|part| self.sources.hide(part));
    }

    fn nothing(&mut self, node: &Node, key: Option<&Origin>, shape: Shape<'_>, place: &Place) {
        let cure = match pick(shape, "object") {
            Some(map) if map.required().next().is_none() && map.properties().is_some() => {
                "write `{}` for all defaults, or leave the key out"
            }
            _ => "give it a value, or leave the key out",
        };
        self.error(key.unwrap_or(&node.at), place, "there is no value here", cure);
    }

    fn map(
        &mut self,
        node: &Node,
        entries: &[(crate::settings::node::Key, Node)],
        key: Option<&Origin>,
        shape: Shape<'_>,
        place: &Place,
    ) {
        let maps: Vec<Shape<'_>> = shape.alternatives().into_iter().filter(|shape| shape.allows("object")).collect();
        match maps.as_slice() {
            [] => {
                let owners: Vec<&str> = shape.alternatives().iter().flat_map(|form| [form.name, form.parent]).collect();
                self.hide_all(entries);
                match entries.iter().find(|(name, _)| is_planned(&owners, &name.text)) {
                    Some((name, _)) => self.unknown(&name.text, &name.at, Vec::new(), &owners, &place.key(&name.text)),
                    None => self.wrong_kind(node, shape, place),
                }
            }
            several if several.iter().all(|map| map.tag().is_some()) => self.variant(node, entries, key, several, place),
            [map] => self.object(node, entries, key, *map, place),
            several => {
                // The form that was meant is the one that shares most keys with what is written.
                let shared = |map: &Shape<'_>| entries.iter().filter(|(key, _)| map.property(&key.text).is_some()).count();
                let best = several.iter().rev().max_by_key(|map| shared(map)).filter(|map| shared(map) > 0);
                match best {
                    Some(map) => self.object(node, entries, key, *map, place),
                    None => self.no_form(node, entries, key, several, place),
                }
            }
        }
    }

    /// Reports that no form of an untagged enum has any of the keys.
    fn no_form(
        &mut self,
        node: &Node,
        entries: &[(crate::settings::node::Key, Node)],
        key: Option<&Origin>,
        several: &[Shape<'_>],
        place: &Place,
    ) {
        let keys: Vec<&str> = several.iter().flat_map(|map| map.keys()).collect();
        self.hide_all(entries);
        match entries.first() {
            Some((first, _)) => {
                let owners: Vec<&str> = several.iter().flat_map(|map| [map.name, map.parent]).collect();
                self.unknown(&first.text, &first.at, keys, &owners, &place.key(&first.text));
            }
            None => {
                let forms: Vec<String> =
                    several.iter().map(|map| format!("`{{ {} }}`", map.required().collect::<Vec<_>>().join(", "))).collect();
                self.error(key.unwrap_or(&node.at), place, "this map is empty", format!("write one of {}", forms.join(", ")));
            }
        }
    }

    /// Checks an enum: a map with one key, the name of a variant.
    fn variant(
        &mut self,
        node: &Node,
        entries: &[(crate::settings::node::Key, Node)],
        key: Option<&Origin>,
        variants: &[Shape<'_>],
        place: &Place,
    ) {
        let names = || variants.iter().filter_map(|variant| variant.tag());
        let Some((first, rest)) = entries.split_first() else {
            let cure = suggest::known("", names(), "write one of").unwrap_or_default();
            return self.error(key.unwrap_or(&node.at), place, "this map is empty", cure);
        };
        for (key, value) in entries {
            let place = place.key(&key.text);
            match variants.iter().find(|variant| variant.tag() == Some(&key.text)).and_then(|variant| variant.property(&key.text))
            {
                Some(inner) => self.check(value, Some(&key.at), inner, &place),
                None if rest.is_empty() || !names().any(|name| name == first.0.text) => {
                    self.hide_all(entries);
                    self.unknown(&key.text, &key.at, names().collect(), &[variants[0].parent], &place);
                    break;
                }
                None => self.hide(value, Some(&key.at)),
            }
        }
        if let Some((second, _)) = rest.first()
            && names().any(|name| name == first.0.text)
        {
            let message = format!("`{}` stands beside `{}`, and there is room for one key", second.text, first.0.text);
            let cure = if names().any(|name| name == second.text) {
                "begin a new entry of the list with `- `"
            } else {
                "indent it, if it belongs to the key above"
            };
            self.error(&second.at, &place.key(&second.text), message, cure);
        }
    }

    fn object(
        &mut self,
        node: &Node,
        entries: &[(crate::settings::node::Key, Node)],
        key: Option<&Origin>,
        map: Shape<'_>,
        place: &Place,
    ) {
        let owners = [map.name, map.parent];
        for (name, value) in entries {
            let place = place.key(&name.text);
            match (map.property(&name.text), map.additional()) {
                (Some(inner), _) | (None, Additional::Each(inner)) => self.check(value, Some(&name.at), inner, &place),
                (None, Additional::Nothing) => {
                    self.hide(value, Some(&name.at));
                    self.unknown(&name.text, &name.at, map.keys().collect(), &owners, &place);
                }
                (None, Additional::Anything) => self.hide(value, Some(&name.at)),
            }
        }
        // What is to come may stand for what is missing.
        if entries.iter().any(|(name, _)| map.property(&name.text).is_none() && is_planned(&owners, &name.text)) {
            return;
        }
        for missing in map.required().filter(|required| node.get(required).is_none()) {
            let what = map.properties().and_then(|all| all.get(missing)).and_then(summary).unwrap_or_default();
            self.error(
                key.unwrap_or(&node.at),
                place,
                format!("`{missing}` is missing"),
                format!("add `{missing}`: {what}").trim_end_matches(": ").to_owned(),
            );
        }
    }

    /// Hides the values of unknown keys: any of them may be a secret under a mistyped name.
    fn hide_all(&mut self, entries: &[(crate::settings::node::Key, Node)]) {
        entries.iter().for_each(|(key, value)| self.hide(value, Some(&key.at)));
    }

    fn unknown(&mut self, key: &str, at: &Origin, keys: Vec<&str>, owners: &[&str], place: &Place) {
        // `client-secret:"…"` without a blank is all of it a key.
        if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b' ')) {
            self.sources.hide(at.clone());
        }
        if is_planned(owners, key) {
            return self.error(
                at,
                place,
                format!("`{key}` is not supported yet"),
                "remove it: this version would not do what it says",
            );
        }
        let cure =
            suggest::known(key, keys, "the keys here are").unwrap_or_else(|| "remove it: there are no keys here".to_owned());
        self.error(at, place, format!("unknown key `{key}`"), cure);
    }

    fn text(&mut self, node: &Node, text: &Text, shape: Shape<'_>, place: &Place) {
        let texts: Vec<Shape<'_>> = shape.alternatives().into_iter().filter(|shape| shape.allows("string")).collect();
        if texts.is_empty() {
            return self.wrong_kind(node, shape, place);
        }
        if text.odd && texts.iter().any(|shape| shape.is_secret()) {
            let message = "this is a number to some readers of YAML and none to others";
            return self.error(&node.at, place, message, "quote it");
        }
        if text.odd {
            let message = format!("`{}` is a number to some readers of YAML and none to others", text.value);
            return self.error(&node.at, place, message, format!("quote it: {}", in_quotes(&text.value)));
        }
        if texts.iter().any(|shape| shape.is_secret()) {
            // The name alone may be shown; any other text may be the secret itself.
            let has_braces = text.value.contains("{{");
            if !text.names_secret && has_braces {
                self.error(
                    &node.at,
                    place,
                    "a value that stands here holds `{{`, which would name a secret",
                    "use another value, or make it a secret itself",
                );
            }
            return;
        }
        if text.names_secret {
            let cure = "a secret is allowed only where one is meant (a password, a client secret, a value of `set-header` or `check-header`)";
            return self.error(&node.at, place, "this text names a secret, and none may stand here", cure);
        }
        self.word(node, &text.value, &texts, place);
    }

    fn word(&mut self, node: &Node, text: &str, texts: &[Shape<'_>], place: &Place) {
        let words: Vec<&str> = texts.iter().filter_map(|shape| shape.words()).flatten().collect();
        let free: Vec<Shape<'_>> = texts.iter().filter(|shape| shape.words().is_none()).copied().collect();
        if words.contains(&text) {
            return;
        }
        if free.is_empty() {
            let cure = suggest::known(text, words.iter().copied(), "write one of").unwrap_or_default();
            return self.error(&node.at, place, format!("`{text}` is none of the words that can stand here"), cure);
        }
        if free.iter().any(|shape| shape.form().is_none_or(|fits| fits(text)) && text.chars().count() >= shape.least("minLength"))
        {
            return;
        }
        if text.is_empty() {
            return self.error(&node.at, place, "this text is empty", "write something, or leave the key out");
        }
        let cure = free.iter().find_map(|shape| shape.summary()).unwrap_or("see the documentation of this key");
        let kind = free.iter().find(|shape| shape.form().is_some()).map_or("", |shape| shape.name);
        let (message, cure) = match kind {
            "Duration" => (format!("`{text}` is no duration"), "write a whole number and its unit: 250ms, 10s, 5m, 1h or 30d"),
            "Size" => (format!("`{text}` is no size"), "write a whole number and its unit: 512B, 64KiB, 100MiB or 1GiB"),
            _ => (format!("`{text}` is not in the form that is wanted here"), cure),
        };
        self.error(&node.at, place, message, cure);
    }

    fn number(&mut self, node: &Node, number: &serde_json::Number, shape: Shape<'_>, place: &Place) {
        if shape.allows("integer") && !(number.is_u64() || number.is_i64()) {
            return self.error(&node.at, place, format!("`{number}` is no whole number"), "write a whole number");
        }
        let (least, most) = shape.bounds();
        let value = number.as_f64().unwrap_or(f64::INFINITY);
        if let Some(least) = least.filter(|least| value < *least) {
            self.error(&node.at, place, format!("`{number}` is too small"), format!("write {least} or more"));
        }
        if let Some(most) = most.filter(|most| value > *most) {
            self.error(&node.at, place, format!("`{number}` is too large"), format!("write {most} or less"));
        }
    }

    fn wrong_kind(&mut self, node: &Node, shape: Shape<'_>, place: &Place) {
        if shape.holds_secrets() || node.anchored.is_some() {
            self.hide(node, None);
        }
        let texts: Vec<Shape<'_>> = shape.alternatives().into_iter().filter(|shape| shape.allows("string")).collect();
        // A bare number where a duration, a size or a word is wanted: quotes would not help.
        if let (Kind::Number(_) | Kind::Bool(_), false) = (&node.kind, texts.is_empty()) {
            if texts.iter().any(|shape| shape.is_secret()) {
                return self.error(&node.at, place, "a text is wanted here, and this is none without quotes", "quote it");
            }
            let range = self.sources.first_line(&node.at);
            let written = self.sources.get(node.at.file).text[range].to_owned();
            if texts.iter().all(|shape| shape.words().is_some() || shape.form().is_some_and(|fits| !fits(&written))) {
                return self.word(node, &written, &texts, place);
            }
            let message = format!("`{written}` is read as {}, and a text is wanted", node.what());
            return self.error(&node.at, place, message, format!("quote it: {}", in_quotes(&written)));
        }
        let wanted = wanted(shape);
        if self.sources.hides(&node.at) {
            let cure = shape.summary().unwrap_or_default();
            return self.error(&node.at, place, format!("{wanted} is wanted here, not {}", node.what()), cure);
        }
        let range = self.sources.first_line(&node.at);
        let written = &self.sources.get(node.at.file).text[range];
        let found = if node.as_text().is_some() { format!("`{written}`") } else { node.what().to_owned() };
        self.error(&node.at, place, format!("{wanted} is wanted here, not {found}"), self::cure(node, shape));
    }
}

fn is_planned(owners: &[&str], key: &str) -> bool {
    owners.iter().any(|owner| unsupported::is_planned(owner, key))
}

/// Returns the alternative for values of this JSON type.
fn pick<'s>(shape: Shape<'s>, kind: &str) -> Option<Shape<'s>> {
    shape.alternatives().into_iter().find(|shape| shape.allows(kind))
}

/// Describes the allowed kinds of values.
fn wanted(shape: Shape<'_>) -> String {
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

/// Describes how to write the value correctly.
fn cure(node: &Node, shape: Shape<'_>) -> String {
    if let (Some(text), Some(list)) = (node.as_text(), pick(shape, "array"))
        && list.items().is_some_and(|items| pick(items, "string").is_some())
    {
        return format!("write it as a list: [{text}]");
    }
    if let (Some(text), true) = (node.as_text(), pick(shape, "object").is_some()) {
        let tags: Vec<&str> = shape.alternatives().iter().filter_map(|variant| variant.tag()).collect();
        if tags.contains(&text) {
            return format!("write `{text}: {{…}}`, with its settings as a map");
        }
        return match pick(shape, "object").filter(|map| map.tag().is_none()) {
            Some(map) if map.properties().is_some() => {
                format!("write its keys below: {}", map.keys().collect::<Vec<_>>().join(", "))
            }
            _ => {
                suggest::known(text, tags, "write one of these as the key:").unwrap_or_else(|| "write `name: …` below".to_owned())
            }
        };
    }
    match (&node.kind, pick(shape, "boolean").is_some()) {
        (Kind::Text(_), true) => "write true or false, without quotes".to_owned(),
        (Kind::Text(text), false) if text.value.parse::<f64>().is_ok() => "leave the quotes out".to_owned(),
        (Kind::Map(_), false) if pick(shape, "array").is_some() => "begin each entry with `- `".to_owned(),
        (Kind::List(_), false) if pick(shape, "object").is_some() => "write `key: value` lines instead of a list".to_owned(),
        (Kind::List(_), false) if pick(shape, "string").is_some() => "write one value, without the list".to_owned(),
        _ => shape.summary().unwrap_or_default().to_owned(),
    }
}

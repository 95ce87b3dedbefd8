//! Validation of the document against the schema, with readable messages.
//!
//! A general validator says of `- ip-filtr: {}` that none of twenty alternatives matches. This one knows the forms of the
//! config's types (maps, lists, words, and enums with their variant as key) and follows the probably intended one.

mod hidden;

use std::collections::{HashMap, HashSet};

use super::{
    forms::{cure, dedented, filled_in_by_nobody, is_evaluated, is_planned, listed, owner_of, pick, wanted},
    habits::{self, Habit},
    named_values::is_expression,
    repair::{Repair, stand_in},
    schema::{Additional, Shape, summary},
};
use crate::settings::{
    Finding, Lint,
    fault::Place,
    node::{Key, Kind, Node, Text},
    origin::{Origin, Sources},
    suggest,
    yaml::in_quotes,
};

/// The faults, and the stand-ins with which the rest of the document is judged all the same.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) findings: Vec<Finding>,
    pub(crate) repairs: Vec<Repair>,
    /// Values that are wrong and have no stand-in.
    pub(crate) gone: HashSet<Place>,
}

/// Checks the whole document against the shape of one; `wrong` are the places where something was found wrong before.
pub(crate) fn validate(document: &Node, shape: Shape<'_>, wrong: HashSet<Place>, sources: &mut Sources) -> Checked {
    let checked = Checked { gone: wrong, ..Checked::default() };
    let mut walk = Walk { checked, lists: HashMap::new(), sources };
    walk.check(document, None, shape, &Place::root());
    walk.checked
}

struct Walk<'a> {
    checked: Checked,
    /// The lines where lists of keys were told already.
    lists: HashMap<Vec<String>, (usize, usize)>,
    sources: &'a mut Sources,
}

impl Walk<'_> {
    fn error(&mut self, at: &Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) {
        self.checked.findings.push(Finding::error(at.clone(), place, message, cure));
    }

    /// Checks a value against its shape; `key` is its key.
    fn check(&mut self, node: &Node, key: Option<&Origin>, shape: Shape<'_>, place: &Place) {
        if let Some(secret) = shape.secret() {
            self.hide_secret(node, key, secret, shape);
        }
        if let Kind::Map(entries) = &node.kind {
            return self.map(node, entries, key, shape, place);
        }
        let before = self.checked.findings.len();
        match &node.kind {
            Kind::Broken => return self.make_up(shape, place),
            Kind::Null if *place == Place::root() => {}
            Kind::Null => self.nothing(node, key, shape, place),
            Kind::List(entries) => match pick(shape, "array") {
                Some(list) if entries.len() >= list.least("minItems") => {
                    let Some(items) = list.items() else { return };
                    for (index, entry) in entries.iter().enumerate() {
                        self.check(entry, None, items, &place.index(index));
                    }
                    return;
                }
                Some(_) => {
                    self.error(key.unwrap_or(&node.at), place, "this list is empty", "list at least one, or leave the key out");
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
            Kind::Map(_) => {}
        }
        if self.checked.findings.len() > before || self.checked.gone.contains(place) {
            match listed(node, shape) {
                Some(kind) => self.checked.repairs.push(Repair::Meant { place: place.clone(), kind }),
                None => self.make_up(shape, place),
            }
        }
    }

    /// Puts a value in the place of one that does not fit; without one the entry goes.
    fn make_up(&mut self, shape: Shape<'_>, place: &Place) {
        match stand_in(shape) {
            Some(kind) => {
                self.checked.gone.remove(place);
                self.checked.repairs.push(Repair::MadeUp { place: place.clone(), kind });
            }
            None => drop(self.checked.gone.insert(place.clone())),
        }
    }

    /// Notes what is wrong at a place that nothing can stand in for.
    fn gone(&mut self, at: &Origin, place: &Place, message: impl Into<String>, cure: impl Into<String>) {
        self.error(at, place, message, cure);
        self.checked.gone.insert(place.clone());
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

    fn map(&mut self, node: &Node, entries: &[(Key, Node)], key: Option<&Origin>, shape: Shape<'_>, place: &Place) {
        let maps: Vec<Shape<'_>> = shape.alternatives().into_iter().filter(|shape| shape.allows("object")).collect();
        match maps.as_slice() {
            [] => {
                let owners: Vec<&str> = shape.alternatives().iter().flat_map(|form| [form.name, form.parent]).collect();
                self.hide_all(entries);
                match entries.iter().find(|(name, _)| is_planned(&owners, &name.text)) {
                    Some((name, _)) => {
                        self.unknown(&name.text, &name.at, &[], &owners, &place.key(&name.text));
                    }
                    None => self.wrong_kind(node, shape, place),
                }
                self.make_up(shape, place);
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

    /// None of the forms of an untagged enum has any of the keys.
    fn no_form(&mut self, node: &Node, entries: &[(Key, Node)], key: Option<&Origin>, several: &[Shape<'_>], place: &Place) {
        let keys: Vec<&str> = several.iter().flat_map(|map| map.keys()).collect();
        self.hide_all(entries);
        match entries.first() {
            Some((first, _)) => {
                let owners: Vec<&str> = several.iter().flat_map(|map| [map.name, map.parent]).collect();
                self.unknown(&first.text, &first.at, &keys, &owners, &place.key(&first.text));
                self.checked.gone.insert(place.clone());
            }
            None => {
                let forms: Vec<String> =
                    several.iter().map(|map| format!("`{{ {} }}`", map.required().collect::<Vec<_>>().join(", "))).collect();
                self.gone(key.unwrap_or(&node.at), place, "this map is empty", format!("write one of {}", forms.join(", ")));
            }
        }
    }

    /// An enum: a map with one key, which is the name of a variant.
    fn variant(&mut self, node: &Node, entries: &[(Key, Node)], key: Option<&Origin>, variants: &[Shape<'_>], place: &Place) {
        let names = || variants.iter().filter_map(|variant| variant.tag());
        let Some((first, rest)) = entries.split_first() else {
            let cure = suggest::known("", names(), "write one of").unwrap_or_default();
            return self.gone(key.unwrap_or(&node.at), place, "this map is empty", cure);
        };
        let named =
            |name: &str| variants.iter().find(|variant| variant.tag() == Some(name)).and_then(|variant| variant.property(name));
        for (key, value) in entries {
            let at = place.key(&key.text);
            match named(&key.text) {
                Some(inner) => self.check(value, Some(&key.at), inner, &at),
                None if rest.is_empty() || !names().any(|name| name == first.0.text) => {
                    self.hide_all(entries);
                    let meant = self.unknown(&key.text, &key.at, &names().collect::<Vec<_>>(), &[variants[0].parent], &at);
                    match meant.and_then(|meant| named(meant).map(|inner| (meant, inner))).filter(|_| rest.is_empty()) {
                        Some((meant, inner)) => self.renamed((&at, place), meant, value, &key.at, inner),
                        None => drop(self.checked.gone.insert(place.clone())),
                    }
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
            self.gone(&second.at, &place.key(&second.text), message, cure);
        }
    }

    /// Checks the value of a key by the one that is meant.
    fn renamed(&mut self, (at, map): (&Place, &Place), meant: &str, value: &Node, key: &Origin, inner: Shape<'_>) {
        self.checked.gone.remove(at);
        self.checked.repairs.push(Repair::Key { place: at.clone(), meant: meant.to_owned() });
        self.check(value, Some(key), inner, &map.key(meant));
    }

    fn object(&mut self, node: &Node, entries: &[(Key, Node)], key: Option<&Origin>, map: Shape<'_>, place: &Place) {
        let owners = [map.name, map.parent];
        let mut meant: Vec<&str> = Vec::new();
        for (name, value) in entries {
            let at = place.key(&name.text);
            match (map.property(&name.text), map.additional()) {
                (Some(inner), _) if matches!(value.kind, Kind::Null) && dedented(entries, map, inner).is_some() => {
                    let below: Vec<String> =
                        dedented(entries, map, inner).into_iter().flatten().map(|(key, _)| format!("`{}`", key.text)).collect();
                    let cure = format!("indent {}: it belongs below `{}`", below.join(" and "), name.text);
                    self.error(&name.at, &at, "there is no value here", cure);
                    let kind = Kind::Map(dedented(entries, map, inner).into_iter().flatten().cloned().collect());
                    self.checked.repairs.push(Repair::Meant { place: at, kind });
                }
                (Some(inner), _) | (None, Additional::Each(inner)) => self.check(value, Some(&name.at), inner, &at),
                (None, Additional::Nothing) => {
                    self.hide(value, Some(&name.at));
                    if let Some(owner) = owner_of(map, &name.text) {
                        let cure = format!("write it below `{owner}`: `{owner}: {{ {}: … }}`", name.text);
                        self.gone(&name.at, &at, format!("unknown key `{}`", name.text), cure);
                        continue;
                    }
                    let keys = map.keys().filter(|key| node.get(key).is_none() && !meant.contains(key));
                    let known: Vec<_> = map.keys().collect();
                    let found = self.unknown(&name.text, &name.at, &known, &owners, &at);
                    if let Some((other, inner)) = keys
                        .into_iter()
                        .find(|key| found == Some(key))
                        .and_then(|key| map.property(key).map(|inner| (key, inner)))
                    {
                        meant.push(other);
                        self.renamed((&at, place), other, value, &name.at, inner);
                    }
                }
                (None, Additional::Anything) => self.hide(value, Some(&name.at)),
            }
        }
        // What is to come may stand for what is missing.
        let planned = entries.iter().any(|(name, _)| map.property(&name.text).is_none() && is_planned(&owners, &name.text));
        let missing = map.required().filter(|required| node.get(required).is_none() && !meant.contains(required));
        for missing in missing.collect::<Vec<_>>() {
            if !planned {
                let what = map.properties().and_then(|all| all.get(missing)).and_then(summary).unwrap_or_default();
                let cure = format!("add `{missing}`: {what}").trim_end_matches(": ").to_owned();
                self.error(key.unwrap_or(&node.at), place, format!("`{missing}` is missing"), cure);
            }
            match map.property(missing).and_then(stand_in) {
                Some(kind) => {
                    self.checked.repairs.push(Repair::Missing { map: place.clone(), key: missing.to_owned(), kind });
                }
                None => drop(self.checked.gone.insert(place.clone())),
            }
        }
    }

    /// Tells of a key that nobody knows, and which one is meant, if that is clear.
    fn unknown<'k>(&mut self, key: &str, at: &Origin, keys: &[&'k str], owners: &[&str], place: &Place) -> Option<&'k str> {
        // `client-secret:"…"` without a blank is all of it a key.
        if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b' ')) {
            self.sources.hide(at.clone());
        }
        if is_planned(owners, key) {
            let cure = "remove it: this version would not do what it says";
            self.gone(at, place, format!("`{key}` is not supported yet"), cure);
            return None;
        }
        let (cure, meant) = match habits::key(owners, key) {
            Some(Habit::Name(name)) => (format!("write `{name}`"), keys.iter().copied().find(|key| *key == name)),
            Some(Habit::Otherwise(cure)) => (cure.to_owned(), None),
            None => match suggest::close(key, keys) {
                Some(near) => (format!("did you mean `{near}`?"), Some(near)),
                None => (self.key_list(key, keys, at), None),
            },
        };
        self.gone(at, place, format!("unknown key `{key}`"), cure);
        meant
    }

    /// The keys that can stand here; a list that was told before is not told again.
    fn key_list(&mut self, key: &str, keys: &[&str], at: &Origin) -> String {
        if keys.is_empty() {
            return "remove it: there are no keys here".to_owned();
        }
        let (line, _) = self.sources.line_column(at.file, at.start);
        let list = keys.iter().map(|key| (*key).to_owned()).collect();
        let (file, told) = *self.lists.entry(list).or_insert((at.file, line));
        let near = suggest::nearest(key, keys).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        if keys.len() > 4 && (file, told) != (at.file, line) {
            let file = if file == at.file { String::new() } else { format!(" of {}", self.sources.get(file).name) };
            return format!("remove it: the keys that can stand here are listed at line {told}{file}{near}");
        }
        let shown: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        format!("the keys here are {}{near}", shown.join(", "))
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
            self.expression(node, &text.value, place);
            return;
        }
        if text.names_secret {
            let cure = "a secret is allowed only where one is meant (a password, a client secret, a value of `set-header` or `check-header`)";
            return self.error(&node.at, place, "this text names a secret, and none may stand here", cure);
        }
        if let Some(variable) = self.shell_variable(node, &text.value, place) {
            let (message, cure) = filled_in_by_nobody(variable, self.sources.hides(&node.at));
            return self.error(&node.at, place, message, cure);
        }
        if self.expression(node, &text.value, place) {
            return;
        }
        self.word(node, &text.value, &texts, place);
    }

    /// Warns of an expression where none is evaluated; returns whether it is one.
    fn expression(&mut self, node: &Node, text: &str, place: &Place) -> bool {
        let literal = is_expression(text) && !is_evaluated(place);
        if literal {
            let message = "expressions are not evaluated here: this is the text itself".to_owned();
            let cure = "write the value out, or use a setting that takes expressions".to_owned();
            self.checked.findings.push(Finding::warning(Lint::ExpressionNotEvaluated, node.at.clone(), place, message, cure));
        }
        literal
    }

    /// The variable that a text names as in a shell. A text that came from elsewhere, or is defined as a value, is what it is.
    fn shell_variable<'t>(&self, node: &Node, text: &'t str, place: &Place) -> Option<&'t str> {
        let written = self.sources.get(node.at.file).text.get(node.at.start..node.at.end)?;
        let as_written = written.trim_matches(['"', '\'']) == text && !place.pointer().starts_with("/named-values/");
        habits::shell_variable(text).filter(|_| as_written)
    }

    fn word(&mut self, node: &Node, text: &str, texts: &[Shape<'_>], place: &Place) {
        let words: Vec<&str> = texts.iter().filter_map(|shape| shape.words()).flatten().collect();
        let free: Vec<Shape<'_>> = texts.iter().filter(|shape| shape.words().is_none()).copied().collect();
        if words.contains(&text) {
            return;
        }
        if free.is_empty() {
            let cure = habits::word(text, &words)
                .map(|word| format!("write `{word}`"))
                .or_else(|| suggest::known(text, words.iter().copied(), "write one of"))
                .unwrap_or_default();
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
            "Duration" => (
                format!("`{text}` is no duration"),
                habits::duration(text)
                    .unwrap_or_else(|| "write a whole number and its unit: 250ms, 10s, 5m, 1h or 30d".to_owned()),
            ),
            "Size" => (
                format!("`{text}` is no size"),
                habits::size(text).unwrap_or_else(|| "write a whole number and its unit: 512B, 64KiB, 100MiB or 1GiB".to_owned()),
            ),
            _ => (format!("`{text}` is not in the form that is wanted here"), cure.to_owned()),
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
            let cure = if place.pointer().ends_with("/address") && matches!(node.kind, Kind::Number(_)) {
                format!("write address and port: \"0.0.0.0:{written}\"")
            } else {
                format!("quote it: {}", in_quotes(&written))
            };
            return self.error(&node.at, place, message, cure);
        }
        let wanted = wanted(shape);
        if *place == Place::root() {
            let cure = habits::document(&self.sources.get(node.at.file).text);
            return self.error(&node.at, place, format!("{wanted} is wanted here, not {}", node.what()), cure);
        }
        if self.sources.hides(&node.at) {
            let cure = match &node.kind {
                Kind::List(_) | Kind::Map(_) | Kind::Bool(_) => cure(node, "", shape),
                _ => shape.summary().unwrap_or_default().to_owned(),
            };
            return self.error(&node.at, place, format!("{wanted} is wanted here, not {}", node.what()), cure);
        }
        let range = self.sources.first_line(&node.at);
        let written = self.sources.get(node.at.file).text[range].to_owned();
        let found = if node.as_text().is_some() { format!("`{written}`") } else { node.what().to_owned() };
        self.error(&node.at, place, format!("{wanted} is wanted here, not {found}"), cure(node, &written, shape));
    }
}

//! The schema of the config, generated from its types, and navigation in it.

use serde_json::{Map, Value};

use super::{
    Config,
    test_case::{self, TestFileConfig, TestOffset, TestTime},
};
use crate::settings::{
    ConfigDuration, Date, Size,
    secret::{PLAIN_TOO, SECRET_KEYWORD},
};
use crate::upstream::{Percent, RetryCondition};

/// Generates the JSON Schema of the config: a gateway needs it only while it reads its config.
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// Generates the JSON Schema of files of test cases.
pub fn test_schema() -> Value {
    schemars::schema_for!(TestFileConfig).to_value()
}

/// Returns whether a text has a form.
type Fits = fn(&str) -> bool;

/// The types that the schema describes by a pattern, with their exact check: the type itself.
const FORMS: [(&str, Fits); 7] = [
    ("Duration", |text| ConfigDuration::parse(text).is_some()),
    ("Size", |text| Size::parse(text).is_some()),
    ("Day", |text| Date::parse(text).is_some()),
    ("Percent", |text| Percent::parse(text).is_some()),
    ("RetryCondition", |text| RetryCondition::parse(text).is_some()),
    ("Time", |text| TestTime::parse(text).is_some()),
    ("Offset", |text| TestOffset::parse(text).is_some()),
];

/// A schema with all references followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'s> {
    schema: &'s Value,
    /// The whole schema, for resolving references.
    root: &'s Value,
    /// The name of its type, if it has one.
    pub(crate) name: &'s str,
    /// The name of the enum that it is a variant of, if any.
    pub(crate) parent: &'s str,
    /// True for a variant of an enum whose variants are distinguished by their single key.
    is_variant: bool,
}

/// The additional keys that a schema allows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Additional<'s> {
    /// No keys but those listed.
    Nothing,
    /// Any key, with values of this shape.
    Each(Shape<'s>),
    /// Anything at all.
    Anything,
}

impl<'s> Shape<'s> {
    /// Returns the shape of the whole document.
    pub(crate) const fn root(schema: &'s Value) -> Self {
        Self::of(schema, "Config")
    }

    /// Returns the shape of a whole document of the type with this name.
    pub(crate) const fn of(schema: &'s Value, name: &'s str) -> Self {
        Self { schema, root: schema, name, parent: "", is_variant: false }
    }

    /// Returns the shape of a part of this schema.
    fn part(self, schema: &'s Value) -> Self {
        let mut shape = Self { schema, name: "", parent: "", is_variant: false, ..self };
        // Types can refer to themselves only through a list or a map, which ends the walk here.
        while let Some(reference) = shape.schema.get("$ref").and_then(Value::as_str) {
            let Some(name) = reference.strip_prefix("#/$defs/") else { break };
            let Some(target) = self.root.get("$defs").and_then(|all| all.get(name)) else { break };
            shape = Self { schema: target, name, ..shape };
        }
        shape
    }

    /// Returns the alternative shapes of a value; this one alone if there are none. Nothing (`null`) does not count.
    pub(crate) fn alternatives(self) -> Vec<Self> {
        let mut found = Vec::new();
        self.gather(&mut found);
        found
    }

    fn gather(self, found: &mut Vec<Self>) {
        // serde's tagged enums become `oneOf`, its untagged ones and options `anyOf`.
        let (tagged, untagged) = (self.schema.get("oneOf"), self.schema.get("anyOf"));
        match tagged.or(untagged).and_then(Value::as_array) {
            Some(several) => {
                let parent = if self.name.is_empty() { self.parent } else { self.name };
                for schema in several {
                    let form = self.part(schema);
                    Self { parent, is_variant: tagged.is_some() && form.name.is_empty(), ..form }.gather(found);
                }
            }
            None if self.schema.get("type").and_then(Value::as_str) == Some("null") => {}
            None => found.push(self),
        }
    }

    /// Returns whether values of this JSON type can fit.
    pub(crate) fn allows(self, kind: &str) -> bool {
        match self.schema.get("type") {
            Some(Value::String(one)) => one == kind,
            Some(Value::Array(several)) => several.iter().any(|one| one == kind),
            _ => self.words().is_none_or(|_| kind == "string"),
        }
    }

    pub(crate) fn properties(self) -> Option<&'s Map<String, Value>> {
        self.schema.get("properties").and_then(Value::as_object)
    }

    pub(crate) fn property(self, key: &str) -> Option<Self> {
        let numbered = || {
            let schema = self.schema.get("patternProperties")?.as_object()?.values().next()?;
            test_case::first(key).map(|_| schema)
        };
        self.properties()?.get(key).or_else(numbered).map(|schema| self.part(schema))
    }

    /// Returns the keys, in alphabetical order.
    pub(crate) fn keys(self) -> impl Iterator<Item = &'s str> {
        self.properties().into_iter().flat_map(Map::keys).map(String::as_str)
    }

    pub(crate) fn required(self) -> impl Iterator<Item = &'s str> {
        self.schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    pub(crate) fn additional(self) -> Additional<'s> {
        match self.schema.get("additionalProperties") {
            Some(Value::Bool(false)) => Additional::Nothing,
            Some(schema @ Value::Object(_)) => Additional::Each(self.part(schema)),
            _ => Additional::Anything,
        }
    }

    pub(crate) fn items(self) -> Option<Self> {
        self.schema.get("items").filter(|items| items.is_object()).map(|items| self.part(items))
    }

    /// Returns the single key of an enum's variant with a value: `{ ip-filter: … }`.
    pub(crate) fn tag(self) -> Option<&'s str> {
        if !self.is_variant {
            return None;
        }
        let properties = self.properties()?;
        let mut required = self.required();
        match (required.next(), required.next(), properties.len(), self.additional()) {
            (Some(tag), None, 1, Additional::Nothing) => Some(tag),
            _ => None,
        }
    }

    /// Returns the allowed texts, if there is a list of them.
    pub(crate) fn words(self) -> Option<Vec<&'s str>> {
        if let Some(word) = self.schema.get("const").and_then(Value::as_str) {
            return Some(vec![word]);
        }
        self.schema.get("enum").and_then(Value::as_array).map(|words| words.iter().filter_map(Value::as_str).collect())
    }

    pub(crate) fn is_secret(self) -> bool {
        self.schema.get(SECRET_KEYWORD).is_some()
    }

    /// Returns whether ordinary text is allowed here besides secrets.
    pub(crate) fn is_also_plain(self) -> bool {
        self.schema.get(SECRET_KEYWORD).is_some_and(|mark| mark == PLAIN_TOO)
    }

    /// Returns the shape of the secret that a value of this shape is, or that a list of them contains.
    pub(crate) fn secret(self) -> Option<Self> {
        let forms = self.alternatives();
        let listed = forms.iter().filter_map(|form| form.items()).flat_map(Self::alternatives);
        forms.iter().copied().chain(listed).find(|form| form.is_secret())
    }

    /// Returns whether a value of this shape can contain a secret, at any depth.
    pub(crate) fn holds_secrets(self) -> bool {
        self.finds_secret(&mut Vec::new())
    }

    fn finds_secret(self, seen: &mut Vec<&'s str>) -> bool {
        self.alternatives().into_iter().any(|form| {
            if form.is_secret() {
                return true;
            }
            if !form.name.is_empty() {
                if seen.contains(&form.name) {
                    return false;
                }
                seen.push(form.name);
            }
            let each = match form.additional() {
                Additional::Each(shape) => Some(shape),
                Additional::Nothing | Additional::Anything => None,
            };
            let keys = form.keys().filter_map(|key| form.property(key));
            keys.chain(form.items()).chain(each).any(|part| part.finds_secret(seen))
        })
    }

    /// Returns the check of the required form, if there is one.
    pub(crate) fn form(self) -> Option<Fits> {
        self.schema.get("pattern")?;
        // Where nobody can judge, nothing fits.
        let nothing: Fits = |_| false;
        Some(FORMS.iter().find(|(name, _)| *name == self.name).map_or(nothing, |(_, fits)| *fits))
    }

    /// Returns the minimum and maximum of numbers.
    pub(crate) fn bounds(self) -> (Option<f64>, Option<f64>) {
        let number = |keyword: &str| self.schema.get(keyword).and_then(Value::as_f64);
        let most = match self.schema.get("format").and_then(Value::as_str) {
            Some("uint8") => Some(f64::from(u8::MAX)),
            Some("uint16") => Some(f64::from(u16::MAX)),
            Some("uint32") => Some(f64::from(u32::MAX)),
            _ => None,
        };
        (number("minimum"), number("maximum").or(most))
    }

    /// Returns the minimum number of entries or letters, by its keyword.
    pub(crate) fn least(self, keyword: &str) -> usize {
        self.schema.get(keyword).and_then(Value::as_u64).and_then(|least| usize::try_from(least).ok()).unwrap_or(0)
    }

    /// Returns the first sentence of the type's documentation.
    pub(crate) fn summary(self) -> Option<&'s str> {
        summary(self.schema)
    }
}

/// Returns the first paragraph of a schema's description.
pub(crate) fn summary(schema: &Value) -> Option<&str> {
    let text = schema.get("description")?.as_str()?;
    Some(text.split("\n\n").next().unwrap_or(text).trim())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keywords<'s>(schema: &'s Value, found: &mut BTreeSet<&'s str>) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            found.insert(keyword);
            match keyword.as_str() {
                "properties" | "patternProperties" | "$defs" => {
                    value.as_object().into_iter().flatten().for_each(|(_, value)| keywords(value, found))
                }
                "items" | "additionalProperties" => keywords(value, found),
                "oneOf" | "anyOf" => value.as_array().into_iter().flatten().for_each(|value| keywords(value, found)),
                _ => {}
            }
        }
    }

    /// Checks that the schema uses no keyword that the walk would ignore.
    #[test]
    fn schema_uses_only_keywords_that_are_checked() {
        let schema = schema();
        let mut found = BTreeSet::new();
        keywords(&schema, &mut found);

        let known = [
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "default",
            "deprecated",
            "examples",
            "type",
            "properties",
            "patternProperties",
            "additionalProperties",
            "required",
            "items",
            "oneOf",
            "anyOf",
            "const",
            "enum",
            "format",
            "pattern",
            "minimum",
            "maximum",
            "minItems",
            "minLength",
            "x-entrada-secret",
        ];
        let unknown: Vec<_> = found.iter().filter(|keyword| !known.contains(keyword)).collect();
        assert_eq!(unknown, Vec::<&&str>::new());
    }

    #[test]
    fn schema_is_valid() {
        assert!(jsonschema::meta::is_valid(&schema()));
        assert!(jsonschema::meta::is_valid(&test_schema()));
    }

    /// Checks that keys with numbers are those of test cases, whose check is that of the walk.
    #[test]
    fn numbered_keys_and_their_check_agree() {
        let text = schema().to_string();
        assert_eq!(text.matches("\"patternProperties\":").count(), 1);
        let pattern = regex::Regex::new("^first-[1-9][0-9]*$").expect("a pattern");
        assert!(text.contains("\"^first-[1-9][0-9]*$\""));
        for key in ["first-1", "first-100", "first-0", "first-", "first-1x", "last", "first"] {
            assert_eq!(test_case::first(key).is_some(), pattern.is_match(key), "{key}");
        }
    }

    /// Checks that the pattern, which editors use, and the type, which the walk uses, agree.
    #[test]
    fn patterns_and_their_types_agree() {
        let schema = schema();
        let defs = schema["$defs"].as_object().expect("types have names");
        let with_pattern: Vec<&str> =
            defs.iter().filter(|(_, schema)| schema.get("pattern").is_some()).map(|(name, _)| name.as_str()).collect();
        let mut judged: Vec<&str> = FORMS.iter().map(|(name, _)| *name).collect();
        judged.sort_unstable();
        assert_eq!(with_pattern, judged);
        assert_eq!(schema.to_string().matches("\"pattern\":\"").count(), FORMS.len(), "a pattern stands at a type of its own");

        let texts = [
            "250ms",
            "10s",
            "5m",
            "1h",
            "30d",
            "10",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "10s ",
            "64KiB",
            "1GiB",
            "5B",
            "5KB",
            "2027-01-31",
            "2027-1-31",
            "20270131",
            "0%",
            "7%",
            "20%",
            "100%",
            "101%",
            "007%",
            "+7%",
            "%",
            "timeout",
            "connect-failure",
            "503",
            "600",
            "+50",
            "50",
            "reset",
            "2027-03-01T09:00:00Z",
            "2027-03-01T09:00:00+00:00",
            "2027-03-01 09:00:00Z",
            "-10m",
            "--10m",
            "-10",
            "",
        ];
        for (name, fits) in FORMS {
            let pattern = regex::Regex::new(defs[name]["pattern"].as_str().expect("a text")).expect("a pattern");
            for text in texts {
                assert_eq!(fits(text), pattern.is_match(text), "{name}: `{text}`");
            }
        }
    }
}

//! `docs/policies.md`: settings from the schema, examples from `config/policies`.

use serde_json::{Map, Value};

use super::{cell, hold_blocks, read};

const PAGE: &str = "docs/policies.md";

/// The schema, and its presentation.
struct Schema(Value);

impl Schema {
    fn definition(&self, name: &str) -> &Value {
        &self.0["$defs"][name]
    }

    /// Returns the target of a reference, or the schema itself.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.definition(reference.trim_start_matches("#/$defs/")),
            None => schema,
        }
    }

    /// Returns the alternatives of a schema, without `null`.
    fn alternatives<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let list = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
        list.into_iter().flatten().filter(|one| one["type"] != "null").collect()
    }

    /// Returns the type of a value, in words.
    fn kind(&self, schema: &Value) -> String {
        if let Some(name) = schema["$ref"].as_str() {
            match name.trim_start_matches("#/$defs/") {
                "Duration" => return "duration".to_owned(),
                "Size" => return "size".to_owned(),
                "Day" => return "day".to_owned(),
                "Secret" | "HeaderText" => return "text".to_owned(),
                "PolicyConfig" => return "policy".to_owned(),
                "AddressEntryConfig" => return "address entry".to_owned(),
                _ => {}
            }
        }
        let schema = self.resolve(schema);
        if let Some(constant) = schema["const"].as_str() {
            return format!("`{constant}`");
        }
        if let Some(values) = schema["enum"].as_array() {
            return values.iter().map(|value| format!("`{}`", value.as_str().unwrap())).collect::<Vec<_>>().join(" or ");
        }
        let alternatives = self.alternatives(schema);
        if !alternatives.is_empty() {
            let mut kinds: Vec<String> = Vec::new();
            for kind in alternatives.iter().map(|one| self.kind(one)) {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(" or ");
        }
        let types = schema["type"].as_array().map_or_else(|| vec![&schema["type"]], |types| types.iter().collect());
        match types.into_iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("any") {
            "string" => "text".to_owned(),
            "integer" => "integer".to_owned(),
            "array" => format!("list of {}", plural(&self.kind(&schema["items"]))),
            "object" if schema["properties"].is_object() => "object".to_owned(),
            "object" => format!("map of names to {}", plural(&self.kind(&schema["additionalProperties"]))),
            other => other.to_owned(),
        }
    }

    /// Collects the objects that a value may be or contain, each with its suffix of the key.
    fn objects<'a>(&'a self, schema: &'a Value, behind: &str, into: &mut Vec<(String, &'a Map<String, Value>)>) {
        if matches!(schema["$ref"].as_str(), Some("#/$defs/PolicyConfig" | "#/$defs/AddressEntryConfig")) {
            return;
        }
        let schema = self.resolve(schema);
        if schema["properties"].is_object() {
            into.push((behind.to_owned(), schema.as_object().unwrap()));
        }
        self.alternatives(schema).into_iter().for_each(|one| self.objects(one, behind, into));
        if schema["items"].is_object() {
            self.objects(&schema["items"], &format!("{behind}[]"), into);
        }
    }

    /// Makes the rows for the settings of an object, and of those within it.
    fn rows(&self, prefix: &str, object: &Map<String, Value>, into: &mut String) {
        let required =
            |key: &str| object.get("required").and_then(Value::as_array).is_some_and(|keys| keys.iter().any(|one| one == key));
        for (key, schema) in object["properties"].as_object().unwrap() {
            let name = format!("{prefix}{key}");
            let must = if required(key) { " (required)" } else { "" };
            let told = schema["description"].as_str().unwrap_or_default();
            into.push_str(&format!("| `{name}` | {}{must} | {} |\n", self.kind(schema), cell(told)));
            let mut objects = Vec::new();
            self.objects(schema, "", &mut objects);
            for (behind, object) in objects {
                self.rows(&format!("{name}{behind}."), object, into);
            }
        }
    }
}

fn plural(kind: &str) -> String {
    let one = |kind: &str| match kind {
        "text" => "texts".to_owned(),
        "policy" => "policies".to_owned(),
        "address entry" => "address entries".to_owned(),
        "object" => "objects".to_owned(),
        other => other.strip_prefix("list of ").map_or_else(|| other.to_owned(), |elements| format!("lists of {elements}")),
    };
    kind.split(" or ").map(one).collect::<Vec<_>>().join(" or ")
}

/// Makes a policy's part of the page: its purpose, settings and example.
fn part(schema: &Schema, name: &str, policy: &Value) -> String {
    let settings = &policy["properties"][name];
    let mut rows = String::new();
    let mut objects = Vec::new();
    schema.objects(settings, "", &mut objects);
    for (behind, object) in objects {
        let prefix = if behind.is_empty() { String::new() } else { format!("{behind}.") };
        schema.rows(&prefix, object, &mut rows);
    }
    let mut text = format!("{}\n\n", policy["description"].as_str().unwrap());
    if rows.is_empty() {
        text.push_str(&format!("Its value is a {}.\n", schema.kind(settings)));
    } else {
        text.push_str(&format!("| setting | type | meaning |\n| --- | --- | --- |\n{rows}"));
    }
    let example = read(&format!("config/policies/{name}.yaml"));
    text.push_str(&format!("\n```yaml\n{}```\n", example));
    text
}

#[test]
fn settings_and_examples_are_the_programs() {
    let schema = Schema(serde_json::to_value(entrada::schema()).unwrap());
    let policies = schema.definition("PolicyConfig")["oneOf"].as_array().unwrap();
    let blocks: Vec<_> = policies
        .iter()
        .map(|policy| {
            let name = policy["required"][0].as_str().unwrap();
            (name.to_owned(), part(&schema, name, policy))
        })
        .collect();

    hold_blocks(PAGE, &blocks);
}

#[test]
fn every_policy_says_what_it_refuses_with() {
    let page = read(PAGE);
    let schema = Schema(serde_json::to_value(entrada::schema()).unwrap());
    for policy in schema.definition("PolicyConfig")["oneOf"].as_array().unwrap() {
        let name = policy["required"][0].as_str().unwrap();
        let (_, behind) = page.split_once(&format!("<!-- end {name} -->\n")).expect("it has its block");
        let part = behind.split("\n## ").next().unwrap();
        assert!(part.lines().any(|line| line.starts_with("Refuses with")), "{PAGE}: `Refuses with …` behind the table of {name}");
    }
}

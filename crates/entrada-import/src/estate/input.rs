//! Files as they were read, and their content as values.

use entrada_base::settings::{
    node::{Kind, Node},
    yaml,
};
use serde_json::Value;

/// A file that was read.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// The path relative to what was given, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Returns whether a name is one of a template of policies.
pub(crate) fn is_template(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".xml") || name.ends_with(".xml.tpl") || name.ends_with(".tpl") || name.ends_with(".cshtml")
}

/// Reads JSON or YAML.
pub(crate) fn value(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut findings = Vec::new();
    let value = json(&yaml::read(text, 0, &mut findings, &mut Vec::new()));
    (value.is_object() || value.is_array()).then_some(value)
}

fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null | Kind::Broken => Value::Null,
        Kind::Bool(value) => Value::Bool(*value),
        Kind::Number(value) => Value::Number(value.clone()),
        Kind::Text(text) => Value::String(text.value.clone()),
        Kind::List(entries) => Value::Array(entries.iter().map(json).collect()),
        Kind::Map(entries) => Value::Object(entries.iter().map(|(key, value)| (key.text.clone(), json(value))).collect()),
    }
}

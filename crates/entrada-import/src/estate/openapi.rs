//! Descriptions of APIs: their operations become routes.

use serde_json::Value;

use super::{
    input::File,
    model::{Api, Estate, Operation},
};
use crate::{ImportError, names::identifier};

/// The methods of a path.
const METHODS: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch"];

/// Returns whether a value is a description.
pub(crate) fn is_description(value: &Value) -> bool {
    (value.get("openapi").is_some() || value.get("swagger").is_some()) && value.get("paths").is_some()
}

/// Reads a description by itself: an API without policies.
pub(crate) fn read(file: &File, value: &Value, estate: &mut Estate) -> Result<(), ImportError> {
    let title = value.pointer("/info/title").and_then(Value::as_str).unwrap_or_default();
    let id = identifier(title, &identifier(&super::folder::stem(&file.name), "api"));
    let mut operations = operations(value);
    for operation in &mut operations {
        if operation.id.is_empty() {
            operation.id = identifier(&format!("{} {}", operation.method, operation.template), "operation");
        }
    }
    estate.apis.push(Api {
        path: if estate.apis.is_empty() { String::new() } else { id.clone() },
        name: if title.is_empty() { id.clone() } else { title.to_owned() },
        id,
        servers: servers(value),
        operations,
        file: file.name.clone(),
        needs_key: security(value),
        ..Api::default()
    });
    estate.same(&file.name, "openapi", title);
    if extensions(value) {
        estate.leave("extensions `x-…` of descriptions");
    }
    Ok(())
}

/// Returns the operations of a description.
pub(crate) fn operations(value: &Value) -> Vec<Operation> {
    let base = value.get("basePath").and_then(Value::as_str).unwrap_or_default().trim_end_matches('/');
    let mut operations = Vec::new();
    for (template, path) in value.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for method in METHODS {
            let Some(operation) = path.get(*method) else { continue };
            let text = |key: &str| operation.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            operations.push(Operation {
                id: text("operationId"),
                name: text("summary"),
                method: method.to_ascii_uppercase(),
                template: format!("{base}{template}"),
                document: None,
                examples: examples(operation),
            });
        }
    }
    operations
}

/// Returns the servers that a description names, if they are whole URLs.
pub(crate) fn servers(value: &Value) -> Vec<String> {
    let servers = value.get("servers").and_then(Value::as_array).into_iter().flatten();
    let urls = servers.filter_map(|server| server.get("url").and_then(Value::as_str));
    let urls: Vec<String> = urls
        .filter(|url| url.starts_with("http") && !url.contains('{'))
        .take(1)
        .map(|url| url.trim_end_matches('/').to_owned())
        .collect();
    if !urls.is_empty() {
        return urls;
    }
    let host = value.get("host").and_then(Value::as_str);
    let scheme = value.pointer("/schemes/0").and_then(Value::as_str).unwrap_or("https");
    host.map(|host| format!("{scheme}://{host}")).into_iter().collect()
}

/// Returns whether a description asks for API Management's key.
fn security(value: &Value) -> Option<bool> {
    let schemes = value.pointer("/components/securitySchemes").or_else(|| value.get("securityDefinitions"))?;
    let asks = schemes.as_object()?.values().any(|scheme| {
        scheme.get("name").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case("ocp-apim-subscription-key"))
    });
    asks.then_some(true)
}

/// Returns the examples of an operation's answers, by status.
fn examples(operation: &Value) -> std::collections::BTreeMap<u64, (String, String)> {
    let mut examples = std::collections::BTreeMap::new();
    for (status, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
        let Ok(status) = status.parse::<u64>() else { continue };
        for (kind, content) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
            let example = content.get("example").or_else(|| {
                content
                    .get("examples")
                    .and_then(Value::as_object)
                    .and_then(|all| all.values().next())
                    .and_then(|one| one.get("value"))
            });
            if let Some(example) = example {
                let body = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
                examples.entry(status).or_insert((kind.clone(), body));
            }
        }
    }
    examples
}

/// Returns whether a description has extensions, which say nothing of policies.
fn extensions(value: &Value) -> bool {
    match value {
        Value::Object(entries) => entries.iter().any(|(key, value)| key.starts_with("x-") || extensions(value)),
        Value::Array(entries) => entries.iter().any(extensions),
        _ => false,
    }
}

//! Compiled ARM templates: resources of the service, with policies as texts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    apiops, folder,
    input::File,
    model::{Api, Estate, Operation, Product},
};
use crate::{ImportError, policy::DocumentScope};

/// The prefix of the types of the service's resources.
const SERVICE: &str = "microsoft.apimanagement/service";

/// Returns whether a value is a template with resources of the service.
pub(crate) fn is_template(value: &Value) -> bool {
    let mut found = false;
    each(value, "", "", &mut |kind, _, _| found |= kind.starts_with(SERVICE));
    found
}

/// Visits the resources of a template, nested ones and those of nested deployments included.
fn each<'v>(value: &'v Value, kind: &str, name: &str, visit: &mut impl FnMut(&str, &str, &'v Value)) {
    let resources = match value.get("resources") {
        Some(Value::Array(list)) => list.iter().collect::<Vec<_>>(),
        Some(Value::Object(map)) => map.values().collect(),
        _ => return,
    };
    for resource in resources {
        let own = resource.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        let full =
            if own.contains('/') && (kind.is_empty() || own.starts_with("microsoft.")) { own } else { format!("{kind}/{own}") };
        let own_name = plain_name(resource.get("name").and_then(Value::as_str).unwrap_or_default());
        let full_name = if name.is_empty() || own_name.contains('/') { own_name } else { format!("{name}/{own_name}") };
        visit(&full, &full_name, resource);
        if full == "microsoft.resources/deployments" {
            if let Some(template) = resource.pointer("/properties/template") {
                each(template, "", "", visit);
            }
        } else {
            each(resource, &full, &full_name, visit);
        }
    }
}

/// Returns a name without the functions of templates: `[concat(parameters('service'), '/orders/policy')]` is `x/orders/policy`.
fn plain_name(name: &str) -> String {
    let Some(inner) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) else { return name.to_owned() };
    let is_format = inner.starts_with("format(");
    // The texts in quotes, and a letter in the place of everything else.
    let mut parts = Vec::new();
    let mut rest = inner;
    let mut function = String::new();
    while let Some(at) = rest.find('\'') {
        let before = &rest[..at];
        function.push_str(before);
        let Some(end) = rest[at + 1..].find('\'') else { break };
        let text = &rest[at + 1..at + 1 + end];
        let is_argument = function.trim_end().ends_with("parameters(") || function.trim_end().ends_with("variables(");
        parts.push(if is_argument { format!("{{{text}}}") } else { text.to_owned() });
        rest = &rest[at + 2 + end..];
    }
    if is_format && !parts.is_empty() {
        let mut format = parts.remove(0);
        for (index, part) in parts.iter().enumerate() {
            format = format.replace(&format!("{{{index}}}"), part);
        }
        return format;
    }
    parts.concat()
}

/// Reads a template.
pub(crate) fn read(file: &File, value: &Value, estate: &mut Estate) -> Result<(), ImportError> {
    let mut resources: Vec<(String, String, &Value)> = Vec::new();
    each(value, "", "", &mut |kind, name, resource| resources.push((kind.to_owned(), name.to_owned(), resource)));
    let mut apis: BTreeMap<String, Api> = BTreeMap::new();
    let mut products: BTreeMap<String, Product> = BTreeMap::new();
    let mut versions = BTreeMap::new();
    let null = Value::Null;
    for (kind, name, resource) in &resources {
        if kind == "microsoft.apimanagement/service/apiversionsets" {
            versions.insert(last(name, 0), resource.get("properties").cloned().unwrap_or(Value::Null));
        }
    }
    for (kind, name, resource) in &resources {
        let Some(kind) = kind.strip_prefix(SERVICE) else { continue };
        let properties = resource.get("properties").unwrap_or(&null);
        match kind.trim_start_matches('/') {
            "" | "apiversionsets" => {}
            "apis" => {
                let id = last(name, 0);
                let read = apiops::from_properties(&id, &file.name, properties, &versions, estate);
                let own = apis.entry(id).or_default();
                *own = Api { document: own.document, operations: std::mem::take(&mut own.operations), ..read };
            }
            "apis/operations" => {
                let text = |key: &str| properties.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let operation = operation(&mut apis, &last(name, 1), &last(name, 0));
                operation.name = text("displayName");
                operation.method = text("method");
                operation.template = text("urlTemplate");
            }
            "policies" => {
                if let Some(index) = document(file, "policies", properties, DocumentScope::Global, estate)? {
                    estate.global = Some(index);
                }
            }
            "apis/policies" => {
                let owner = last(name, 1);
                let index = document(file, &owner, properties, DocumentScope::Api, estate)?;
                let api = apis.entry(owner.clone()).or_default();
                api.document = index.or(api.document);
                if api.id.is_empty() {
                    api.id = owner;
                    api.file.clone_from(&file.name);
                    api.is_single = true;
                }
            }
            "apis/operations/policies" => {
                let (owner, own) = (last(name, 2), last(name, 1));
                let index = document(file, &format!("{owner} {own}"), properties, DocumentScope::Operation, estate)?;
                operation(&mut apis, &owner, &own).document = index;
                let api = apis.entry(owner.clone()).or_default();
                if api.id.is_empty() {
                    api.id = owner;
                    api.file.clone_from(&file.name);
                    api.is_single = true;
                }
            }
            "products" => {
                let id = last(name, 0);
                let product = products.entry(id.clone()).or_default();
                product.name = id;
                product.needs_key = properties.get("subscriptionRequired").and_then(Value::as_bool);
            }
            "products/policies" => {
                let owner = last(name, 1);
                let index = document(file, &owner, properties, DocumentScope::Product, estate)?;
                let product = products.entry(owner.clone()).or_default();
                product.document = index;
                product.name = owner;
            }
            "products/apis" => products.entry(last(name, 1)).or_default().apis.push(last(name, 0)),
            "policyfragments" => {
                let owner = last(name, 0);
                if let Some(index) = document(file, &owner, properties, DocumentScope::Fragment, estate)? {
                    estate.documents.fragments.insert(owner, index);
                }
            }
            "namedvalues" => apiops::named_value_of(&file.name, &last(name, 0), properties, estate),
            "backends" => apiops::backend(&file.name, &last(name, 0), properties, estate),
            "subscriptions" => apiops::subscription_of(&file.name, &last(name, 0), properties, estate),
            other => estate.leave(&format!("ARM resources `{other}`")),
        }
    }
    for (id, mut api) in apis {
        if api.id.is_empty() {
            api.id = id;
            api.is_single = true;
            api.file.clone_from(&file.name);
        }
        for operation in &mut api.operations {
            if operation.template.is_empty() {
                operation.template = format!("/{}/*", operation.id);
            }
        }
        estate.apis.push(api);
    }
    estate.products.extend(products.into_values());
    Ok(())
}

fn operation<'a>(apis: &'a mut BTreeMap<String, Api>, api: &str, id: &str) -> &'a mut Operation {
    let operations = &mut apis.entry(api.to_owned()).or_default().operations;
    let index = operations.iter().position(|operation| operation.id == id).unwrap_or_else(|| {
        operations.push(Operation { id: id.to_owned(), name: id.to_owned(), ..Operation::default() });
        operations.len() - 1
    });
    &mut operations[index]
}

/// Returns a segment of a name, counted from its end.
fn last(name: &str, from_end: usize) -> String {
    name.rsplit('/').nth(from_end).unwrap_or(name).to_owned()
}

/// Reads a policy document that stands in a resource as a text.
fn document(
    file: &File,
    owner: &str,
    properties: &Value,
    scope: DocumentScope,
    estate: &mut Estate,
) -> Result<Option<usize>, ImportError> {
    let format = properties.get("format").and_then(Value::as_str).unwrap_or("xml");
    let value = properties.get("value").or_else(|| properties.get("policyContent")).and_then(Value::as_str).unwrap_or_default();
    if format.ends_with("-link") {
        estate.lost(&file.name, "policy", owner, "link", "the policy stands behind a URL, and nothing is fetched", "download it");
        return Ok(unread(file, owner, scope, "the policy stands behind a URL, and nothing is fetched", estate));
    }
    if !value.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
        estate.lost(
            &file.name,
            "policy",
            owner,
            "computed",
            "the policy is computed by the template",
            "import the file that it loads",
        );
        return Ok(unread(file, owner, scope, "the policy is computed by the template", estate));
    }
    // Lines are those of the text, not of the template.
    let inner = File { name: format!("{}#{owner}", file.name), text: value.to_owned() };
    let index = folder::add(&inner, scope, estate)?;
    owner.clone_into(&mut estate.documents.all[index].owner);
    Ok(Some(index))
}

/// Adds a document in the place of one that cannot be read: what it may restrict is refused.
fn unread(file: &File, owner: &str, scope: DocumentScope, reason: &str, estate: &mut Estate) -> Option<usize> {
    let text = if scope == DocumentScope::Fragment { "<fragment />" } else { "<policies />" };
    let inner = File { name: format!("{}#{owner}", file.name), text: text.to_owned() };
    let index = folder::add(&inner, scope, estate).ok()?;
    let document = &mut estate.documents.all[index];
    owner.clone_into(&mut document.owner);
    document.problems.push(crate::xml::Problem { at: 0, message: reason.to_owned() });
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_templates_are_read() {
        for (name, expected) in [
            ("svc/orders/policy", "svc/orders/policy"),
            ("[concat(parameters('svc'), '/orders/policy')]", "{svc}/orders/policy"),
            ("[format('{0}/{1}/{2}', parameters('svc'), 'orders', 'policy')]", "{svc}/orders/policy"),
            ("[parameters('svc')]", "{svc}"),
        ] {
            assert_eq!(plain_name(name), expected);
        }
        assert_eq!(last("a/b/c", 1), "b");
    }
}

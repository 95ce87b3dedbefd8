//! The layout of apiops and of the extractor: a folder for each resource.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    folder,
    input::{File, value},
    model::{Api, Estate, Operation, Product, Subscription},
    named::NamedValue,
    openapi,
};
use crate::{ImportError, elements::state::Backend, policy::DocumentScope};

/// Returns whether files lie in this layout.
pub(crate) fn is_layout(files: &[File]) -> bool {
    files.iter().any(|file| {
        let name = file.name.rsplit('/').next().unwrap_or_default();
        matches!(
            name,
            "apiInformation.json" | "productInformation.json" | "namedValueInformation.json" | "backendInformation.json"
        )
    })
}

/// Returns the folder in which the layout lies: that of the estate, wherever in a repository it is.
fn root_of(files: &[File]) -> Result<String, ImportError> {
    let mut roots: Vec<String> = Vec::new();
    for file in files.iter().filter(|file| file.name.ends_with("Information.json")) {
        let parts: Vec<&str> = file.name.split('/').collect();
        let Some(at) = parts.iter().position(|part| is_kind(part) || *part == "workspaces") else { continue };
        let root = parts[..at].join("/");
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    match roots.len() {
        0 | 1 => Ok(roots.pop().unwrap_or_default()),
        // Rules of one would be taken for those of another.
        _ => Err(ImportError::Unreadable {
            file: roots.iter().map(|root| if root.is_empty() { "." } else { root }).collect::<Vec<_>>().join(", "),
            reason: "these are several estates: import each by itself".to_owned(),
        }),
    }
}

/// The files of an API.
#[derive(Default)]
struct ApiFiles<'f> {
    /// The workspace around it; empty for none.
    workspace: String,
    information: Option<&'f File>,
    policy: Option<&'f File>,
    specification: Option<&'f File>,
    operations: BTreeMap<String, &'f File>,
}

/// Returns the name of a resource of a workspace; those of the service itself keep theirs.
fn name_in(workspace: &str, name: &str) -> String {
    if workspace.is_empty() { name.to_owned() } else { format!("{workspace}-{name}") }
}

fn files_of<'a, 'f>(apis: &'a mut BTreeMap<String, ApiFiles<'f>>, workspace: &str, name: &str) -> &'a mut ApiFiles<'f> {
    let own = apis.entry(name_in(workspace, name)).or_default();
    workspace.clone_into(&mut own.workspace);
    own
}

/// Reads the layout.
pub(crate) fn read(files: &[File], estate: &mut Estate) -> Result<(), ImportError> {
    let mut apis: BTreeMap<String, ApiFiles<'_>> = BTreeMap::new();
    let mut versions: BTreeMap<String, Value> = BTreeMap::new();
    let mut products: BTreeMap<String, Product> = BTreeMap::new();
    let mut workspaces: BTreeMap<String, usize> = BTreeMap::new();
    let root = root_of(files)?;
    for file in files {
        let within = if root.is_empty() { Some(&*file.name) } else { file.name.strip_prefix(&format!("{root}/")) };
        let Some(within) = within else {
            estate.leave("files beside the layout");
            continue;
        };
        let parts: Vec<&str> = within.split('/').collect();
        // What stands in a workspace is laid out in the same way.
        let (workspace, parts) = match parts.as_slice() {
            ["workspaces", workspace, rest @ ..] => (*workspace, rest),
            all => ("", all),
        };
        let own_name = |name: &str| name_in(workspace, name);
        match parts {
            ["apis", name, "apiInformation.json"] => files_of(&mut apis, workspace, name).information = Some(file),
            ["apis", name, "policy.xml"] => files_of(&mut apis, workspace, name).policy = Some(file),
            ["apis", name, own] if own.starts_with("specification.") => {
                files_of(&mut apis, workspace, name).specification = Some(file)
            }
            ["apis", name, "operations", operation, "policy.xml"] => {
                files_of(&mut apis, workspace, name).operations.insert((*operation).to_owned(), file);
            }
            ["products", name, "productInformation.json"] => {
                let properties = estate.overridden("products", name, properties(file));
                let product = products.entry(own_name(name)).or_default();
                product.needs_key = properties.get("subscriptionRequired").and_then(Value::as_bool);
                product.name = own_name(name);
            }
            ["products", name, "policy.xml"] => {
                let index = folder::add(file, DocumentScope::Product, estate)?;
                (*name).clone_into(&mut estate.documents.all[index].owner);
                let product = products.entry(own_name(name)).or_default();
                product.document = Some(index);
                product.name = own_name(name);
            }
            ["products", name, "apis", api, ..] => {
                let product = products.entry(own_name(name)).or_default();
                product.name = own_name(name);
                product.apis.push(own_name(api));
            }
            ["named values", name, "namedValueInformation.json"] => named_value(file, name, estate),
            ["policy fragments", name, "policy.xml"] => {
                let index = folder::add(file, DocumentScope::Fragment, estate)?;
                (*name).clone_into(&mut estate.documents.all[index].owner);
                estate.documents.fragments.insert((*name).to_owned(), index);
            }
            ["backends", name, "backendInformation.json"] => {
                let properties = estate.overridden("backends", name, properties(file));
                backend(&file.name, name, &properties, estate);
            }
            ["version sets", name, ..] => {
                versions.insert((*name).to_owned(), properties(file));
            }
            ["subscriptions", name, ..] => subscription(file, name, estate),
            ["policy.xml"] if workspace.is_empty() => estate.global = Some(folder::add(file, DocumentScope::Global, estate)?),
            ["policy.xml"] => {
                let index = folder::add(file, DocumentScope::Workspace, estate)?;
                workspace.clone_into(&mut estate.documents.all[index].owner);
                workspaces.insert(workspace.to_owned(), index);
            }
            [kind, ..] if is_kind(kind) && !file.name.ends_with("Information.json") => {}
            [kind, ..] => estate.leave(&format!("{kind} of the layout")),
            [] => {}
        }
    }
    for (name, own) in apis {
        api(&name, &own, workspaces.get(&own.workspace).copied(), &versions, estate)?;
    }
    estate.products.extend(products.into_values());
    Ok(())
}

fn is_kind(part: &str) -> bool {
    matches!(part, "apis" | "products" | "named values" | "policy fragments" | "backends" | "version sets" | "subscriptions")
}

/// Returns what stands under `properties`.
fn properties(file: &File) -> Value {
    let value = value(&file.text).unwrap_or(Value::Null);
    value.get("properties").cloned().unwrap_or(value)
}

fn api(
    name: &str,
    own: &ApiFiles<'_>,
    workspace: Option<usize>,
    versions: &BTreeMap<String, Value>,
    estate: &mut Estate,
) -> Result<(), ImportError> {
    let Some(information) = own.information else {
        estate.leave("APIs without `apiInformation.json`");
        return Ok(());
    };
    let properties = estate.overridden("apis", name, properties(information));
    let is_current = properties.get("isCurrent").and_then(Value::as_bool).unwrap_or(!name.contains(";rev="));
    if !is_current {
        estate.lost(
            &information.name,
            "revision",
            name,
            "revision",
            "only the current revision is imported",
            "make it the current one",
        );
        return Ok(());
    }
    let mut api = from_properties(name, &information.name, &properties, versions, estate);
    if api.id.is_empty() {
        return Ok(());
    }
    api.workspace = workspace;
    if let Some(policy) = own.policy {
        let index = folder::add(policy, DocumentScope::Api, estate)?;
        name.clone_into(&mut estate.documents.all[index].owner);
        api.document = Some(index);
    }
    let description = own.specification.and_then(|file| value(&file.text));
    match &description {
        Some(value) if openapi::is_description(value) => {
            api.operations = openapi::operations(value);
            if api.servers.is_empty() {
                api.servers = openapi::servers(value);
            }
        }
        _ if own.specification.is_some() => estate.leave("descriptions that are no OpenAPI"),
        _ => {}
    }
    for (id, file) in &own.operations {
        let index = folder::add(file, DocumentScope::Operation, estate)?;
        estate.documents.all[index].owner = format!("{name} {id}");
        match api.operations.iter_mut().find(|operation| operation.id == *id) {
            Some(operation) => operation.document = Some(index),
            None => {
                let reason = "no description of the API has this operation: its path is not known";
                estate.changed(&file.name, "operation", id, "operation-unknown", reason, "write the path of its route");
                api.operations.push(Operation {
                    id: id.clone(),
                    name: id.clone(),
                    template: format!("/{id}/*"),
                    document: Some(index),
                    ..Operation::default()
                });
            }
        }
    }
    estate.apis.push(api);
    Ok(())
}

/// Reads the properties of an API. Its id is empty if it is of a kind that is left alone.
pub(crate) fn from_properties(
    name: &str,
    file: &str,
    properties: &Value,
    versions: &BTreeMap<String, Value>,
    estate: &mut Estate,
) -> Api {
    let text = |key: &str| properties.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = properties.get("type").or_else(|| properties.get("apiType")).and_then(Value::as_str).unwrap_or("http");
    if !kind.eq_ignore_ascii_case("http") {
        estate.lost(file, "api", name, "api-kind", &format!("an API of the kind `{kind}`"), "only HTTP APIs are imported");
        return Api::default();
    }
    let version = Some(text("apiVersion")).filter(|version| !version.is_empty());
    let mut path = text("path").trim_matches('/').to_owned();
    if let Some(version) = &version {
        let set = text("apiVersionSetId");
        let set = set.rsplit('/').next().unwrap_or_default();
        match versions.get(set).and_then(|set| set.get("versioningScheme")).and_then(Value::as_str) {
            Some("Segment") | None => path = format!("{path}/{version}").trim_matches('/').to_owned(),
            Some(scheme) => {
                let reason = format!("the version is told apart by `{scheme}`: routes are told apart by path, host and method");
                estate.lost(file, "version-set", name, "version", &reason, "write a `choose` on the header or parameter");
            }
        }
    }
    let protocols: Vec<&str> =
        properties.get("protocols").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let names = properties.get("subscriptionKeyParameterNames");
    let key = |kind: &str| names.and_then(|names| names.get(kind)).and_then(Value::as_str).map(str::to_owned);
    let needs_key = properties.get("subscriptionRequired").and_then(Value::as_bool).unwrap_or(true);
    if needs_key {
        let reason = "keys cannot be exported, and are not sent to the backend";
        estate.changed(
            file,
            "subscription-key",
            name,
            "subscription-key",
            reason,
            "add the partners, or issue new keys: see partners.yaml",
        );
    }
    estate.same(file, "api", name);
    Api {
        id: name.split(";rev=").next().unwrap_or(name).to_owned(),
        name: Some(text("displayName")).filter(|name| !name.is_empty()).unwrap_or_else(|| name.to_owned()),
        path,
        servers: Some(text("serviceUrl"))
            .filter(|url| !url.is_empty())
            .map(|url| url.trim_end_matches('/').to_owned())
            .into_iter()
            .collect(),
        needs_key: Some(needs_key),
        key_names: key("header").map(|header| (header, key("query").unwrap_or_else(|| "subscription-key".to_owned()))),
        https_only: !protocols.is_empty() && protocols.iter().all(|protocol| matches!(*protocol, "https" | "wss")),
        version,
        file: file.to_owned(),
        ..Api::default()
    }
}

fn named_value(file: &File, name: &str, estate: &mut Estate) {
    let properties = estate.overridden("namedValues", name, properties(file));
    named_value_of(&file.name, name, &properties, estate);
}

/// Reads the properties of a named value.
pub(crate) fn named_value_of(file: &str, id: &str, properties: &Value, estate: &mut Estate) {
    let name = properties.get("displayName").and_then(Value::as_str).unwrap_or(id);
    let is_secret = properties.get("secret").and_then(Value::as_bool).unwrap_or(false);
    let vault = properties.pointer("/keyVault/secretIdentifier").and_then(Value::as_str);
    let value = properties.get("value").and_then(Value::as_str);
    let named = match (vault, value) {
        (Some(identifier), _) => {
            let rest = identifier.strip_prefix("https://").unwrap_or(identifier);
            let mut parts = rest.split('/');
            let host = parts.next().unwrap_or_default();
            let secret = parts.nth(1).unwrap_or_default().to_owned();
            let client = properties.pointer("/keyVault/identityClientId").and_then(Value::as_str).map(str::to_owned);
            let version = parts.next().filter(|version| !version.is_empty()).map(str::to_owned);
            NamedValue::KeyVault { vault: format!("https://{host}"), secret, version, client }
        }
        (None, Some(value)) if !is_secret && !value.contains("{#") => NamedValue::Plain(value.to_owned()),
        (None, Some(_)) if !is_secret => {
            estate.changed(
                file,
                "named-value",
                name,
                "token-unfilled",
                "a mark of the pipeline is not filled in",
                "give it with `--named-value`",
            );
            return;
        }
        _ => NamedValue::Secret,
    };
    match &named {
        NamedValue::Secret => estate.changed(file, "named-value", name, "secret", "an export has no secrets", "supply it"),
        _ => estate.same(file, "named-value", name),
    }
    estate.named.define(name, named);
}

/// Reads the properties of a backend.
pub(crate) fn backend(file: &str, name: &str, properties: &Value, estate: &mut Estate) {
    let url = properties.get("url").and_then(Value::as_str).map(|url| url.trim_end_matches('/').to_owned());
    let pool: Vec<String> = properties
        .pointer("/pool/services")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|service| service.get("id").and_then(Value::as_str))
        .filter_map(|id| id.rsplit('/').next())
        .filter_map(|id| estate.backends.get(id).map(|backend| backend.servers.clone()))
        .flatten()
        .collect();
    let servers: Vec<String> = url.into_iter().filter(|url| !url.is_empty()).chain(pool).collect();
    for (pointer, code, reason) in [
        (
            "/credentials/certificateIds",
            "client-certificate",
            "the certificate has to be exported, and named in `tls.client-certificate`",
        ),
        ("/proxy", "proxy", "an upstream is reached without a proxy"),
        ("/properties/serviceFabricCluster", "service-fabric", "Service Fabric has no counterpart"),
    ] {
        if properties.pointer(pointer).is_some_and(|value| !value.is_null()) {
            estate.lost(file, "backend", name, code, reason, "write it by hand");
        }
    }
    for pointer in ["/tls/validateCertificateChain", "/tls/validateCertificateName"] {
        if properties.pointer(pointer).and_then(Value::as_bool) == Some(false) {
            let reason = "the backend's certificate was not checked, and always is here";
            estate.lost(file, "backend", name, "tls-unchecked", reason, "put its authority into `tls.ca`");
        }
    }
    if properties.pointer("/credentials/authorization").is_some() || properties.pointer("/credentials/header").is_some() {
        let reason = "credentials of a backend are those of the routes here";
        estate.lost(
            file,
            "backend",
            name,
            "backend-credentials",
            reason,
            "write `authorization: { basic: … }`, or `set-header` with a named value",
        );
    }
    let rule = properties.pointer("/circuitBreaker/rules/0");
    let ejection = rule.and_then(|rule| {
        let failures = rule.pointer("/failureCondition/count")?.as_u64()?;
        let time = rule.get("tripDuration")?.as_str()?;
        Some((failures, duration(time)?))
    });
    if rule.is_some() {
        let reason = "consecutive failures count, not those within an interval";
        estate.changed(file, "backend", name, "circuit-breaker", reason, "look at `ejection`");
    }
    if servers.is_empty() {
        estate.lost(file, "backend", name, "backend-url", "the backend has no URL", "write its URL into `upstreams`");
        return;
    }
    estate.same(file, "backend", name);
    estate.backends.insert(name.to_owned(), Backend { servers, ejection });
}

/// Reads a duration of ISO 8601: `PT1M30S`.
fn duration(text: &str) -> Option<String> {
    let mut seconds = 0_u64;
    let mut digits = String::new();
    let mut in_time = false;
    for letter in text.strip_prefix('P')?.chars() {
        match letter {
            'T' => in_time = true,
            '0'..='9' => digits.push(letter),
            _ => {
                let number: u64 = digits.parse().ok()?;
                digits.clear();
                seconds += number
                    * match (letter, in_time) {
                        ('D', false) => 86_400,
                        ('H', true) => 3_600,
                        ('M', true) => 60,
                        ('S', true) => 1,
                        _ => return None,
                    };
            }
        }
    }
    (seconds > 0).then(|| format!("{seconds}s"))
}

fn subscription(file: &File, name: &str, estate: &mut Estate) {
    let properties = estate.overridden("subscriptions", name, properties(file));
    subscription_of(&file.name, name, &properties, estate);
}

/// Reads the properties of a subscription.
pub(crate) fn subscription_of(file: &str, name: &str, properties: &Value, estate: &mut Estate) {
    let text = |key: &str| properties.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = Some(text("displayName")).filter(|name| !name.is_empty()).unwrap_or_else(|| name.to_owned());
    let owner = text("ownerId");
    estate.subscriptions.push(Subscription {
        name: own.clone(),
        owner: owner.rsplit('/').next().unwrap_or_default().to_owned(),
        is_active: text("state").eq_ignore_ascii_case("active"),
        scope: text("scope").rsplit("/service/").next().unwrap_or_default().to_owned(),
    });
    let reason = "a subscription is a partner here, whose key or application has to be filled in";
    estate.changed(file, "subscription", &own, "subscription-is-partner", reason, "see partners.yaml");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("PT1M30S").as_deref(), Some("90s"));
        assert_eq!(duration("P1DT1H").as_deref(), Some("90000s"));
        assert_eq!(duration("P1M"), None);
        assert_eq!(duration("PT0S"), None);
    }
}

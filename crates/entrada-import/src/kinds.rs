//! Kinds of elements: what restricts access, answers, or decides where a request goes; and the parts that access rules may have.

use crate::{
    policy::says_something,
    xml::{Element, Node},
};

/// Returns whether an element restricts or grants access.
pub(crate) fn is_security(name: &str) -> bool {
    must_refuse(name) && !matches!(name, "rewrite-uri" | "set-backend-service" | "mock-response" | "include-fragment" | "base")
        || name.starts_with("authentication-")
        || matches!(name, "cors" | "get-authorization-context")
}

/// Returns whether a refusal stands in the place of an element that is not translated: it restricts access, answers, or decides
/// where the request goes.
pub(crate) fn must_refuse(name: &str) -> bool {
    matches!(
        name,
        "base"
            | "ip-filter"
            | "check-header"
            | "return-response"
            | "mock-response"
            | "set-backend-service"
            | "rewrite-uri"
            | "include-fragment"
            | "limit-concurrency"
            | "rate-limit"
            | "rate-limit-by-key"
            | "quota"
            | "quota-by-key"
    ) || name.starts_with("validate-")
        || name.ends_with("-token-limit")
        || name.ends_with("content-safety")
}

/// Policies that may be left out without opening anything.
const HARMLESS: &[&str] = &[
    "authentication-basic",
    "authentication-certificate",
    "authentication-managed-identity",
    "cache-lookup",
    "cache-lookup-value",
    "cache-remove-value",
    "cache-store",
    "cache-store-value",
    "choose",
    "cors",
    "cosmosdb-data-source",
    "cross-domain",
    "emit-metric",
    "find-and-replace",
    "forward-request",
    "get-authorization-context",
    "http-data-source",
    "invoke-dapr-binding",
    "json-to-xml",
    "jsonp",
    "log-to-eventhub",
    "proxy",
    "publish-event",
    "publish-to-dapr",
    "redirect-content-urls",
    "retry",
    "send-one-way-request",
    "send-request",
    "send-service-bus-message",
    "set-body",
    "set-header",
    "set-method",
    "set-query-parameter",
    "set-status",
    "set-variable",
    "sql-data-source",
    "trace",
    "wait",
    "xml-to-json",
    "xsl-transform",
];

/// Returns whether a policy, or one within it, decides about access, the answer or the backend. One that nobody knows may.
pub(crate) fn decides(element: &Element) -> bool {
    let name = element.name.as_str();
    let is_model = name.starts_with("llm-") || name.starts_with("azure-openai-");
    must_refuse(name)
        || !HARMLESS.contains(&name) && !is_model
        || match name {
            "choose" => element.children.iter().any(|node| match node {
                Node::Element(branch) if matches!(branch.name.as_str(), "when" | "otherwise") => list_decides(branch),
                Node::Element(_) => true,
                Node::Text(text) => says_something(text),
            }),
            "retry" | "wait" => list_decides(element),
            _ => false,
        }
}

fn list_decides(element: &Element) -> bool {
    element.children.iter().any(|node| match node {
        Node::Element(policy) => decides(policy),
        Node::Text(text) => says_something(text),
    })
}

/// The attributes and the elements of an access rule; a text stands where there are no elements.
type Parts = (&'static [&'static str], &'static [&'static str]);

const TEXT: Parts = (&[], &[]);

/// Returns the parts of an element of an access rule; `None` if its parts are not bounded.
fn parts(name: &str, parent: &str) -> Option<Parts> {
    Some(match (name, parent) {
        ("ip-filter", _) => (&["action"], &["address", "address-range"]),
        ("address-range", "ip-filter") => (&["from", "to"], &[]),
        ("check-header", _) => (&["name", "failed-check-httpcode", "failed-check-error-message", "ignore-case"], &["value"]),
        ("validate-jwt", _) => (
            &[
                "header-name",
                "query-parameter-name",
                "token-value",
                "failed-validation-httpcode",
                "failed-validation-error-message",
                "require-expiration-time",
                "require-scheme",
                "require-signed-tokens",
                "clock-skew",
                "output-token-variable-name",
            ],
            &["openid-config", "issuer-signing-keys", "decryption-keys", "audiences", "issuers", "required-claims"],
        ),
        ("validate-azure-ad-token", _) => (
            &[
                "tenant-id",
                "header-name",
                "query-parameter-name",
                "token-value",
                "failed-validation-httpcode",
                "failed-validation-error-message",
                "output-token-variable-name",
                "authentication-endpoint",
                "clock-skew",
            ],
            &["client-application-ids", "backend-application-ids", "audiences", "required-claims", "decryption-keys"],
        ),
        ("validate-client-certificate", _) => (
            &["validate-revocation", "validate-trust", "validate-not-before", "validate-not-after", "ignore-error"],
            &["identities"],
        ),
        ("openid-config", "validate-jwt") => (&["url"], &[]),
        ("audiences", _) => (&[], &["audience"]),
        ("issuers", _) => (&[], &["issuer"]),
        ("required-claims", _) => (&[], &["claim"]),
        ("claim", "required-claims") => (&["name", "match", "separator"], &["value"]),
        ("client-application-ids", _) => (&[], &["application-id"]),
        ("identities", _) => (&[], &["identity"]),
        ("address", "ip-filter")
        | ("value", "claim" | "check-header")
        | ("audience", _)
        | ("issuer", _)
        | ("application-id", _) => TEXT,
        _ => return None,
    })
}

/// Returns what stands within an access rule and is no part of it: a rule that nobody reads would restrict nothing.
pub(crate) fn unknown_part(element: &Element, parent: &str) -> Option<String> {
    let (attributes, elements) = parts(&element.name, parent)?;
    let name = &element.name;
    let unknown = element.attributes.iter().find(|own| own.name != "id" && !attributes.contains(&own.name.as_str()));
    if let Some(attribute) = unknown {
        return Some(format!("`{name}` has no attribute `{}`", attribute.name));
    }
    element.children.iter().find_map(|node| match node {
        Node::Element(inner) if !elements.contains(&inner.name.as_str()) => {
            Some(format!("`{}` stands within `{name}`", inner.name))
        }
        Node::Element(inner) => unknown_part(inner, name),
        Node::Text(text) if !elements.is_empty() && says_something(text) => Some(format!("a text stands within `{name}`")),
        Node::Text(_) => None,
    })
}

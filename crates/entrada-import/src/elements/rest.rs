//! Elements without a counterpart, each with the reason.

use super::{flow::Flow, outcome::not};
use crate::{
    csharp::Refusal,
    policy::{PolicyDocument, is_credential_name},
    xml::Element,
};

/// Returns code and reason of an element that has no counterpart; `None` for those that have one.
pub(super) fn reason(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "send-request" => ("sub-request", "the gateway makes no requests of its own for a policy"),
        "send-one-way-request" => ("sub-request", "the gateway makes no requests of its own; the audit log has sinks"),
        "log-to-eventhub" => ("sub-request", "the audit log has sinks of its own"),
        "cache-lookup-value" | "cache-store-value" | "cache-remove-value" => ("cache", "values are not kept between requests"),
        "cache-lookup" | "cache-store" => ("cache", "answers are not cached: only speed is lost"),
        "find-and-replace" | "xml-to-json" | "json-to-xml" | "xsl-transform" | "validate-content" | "redirect-content-urls" => {
            ("body", "it reads or changes a body, and bodies pass through unread")
        }
        "wait" => ("sub-request", "it waits for requests of the policy"),
        "emit-metric" => ("metric", "the gateway has metrics of its own"),
        "get-authorization-context" => {
            ("credential-manager", "tokens of the credential manager have no counterpart: use a `credential` or `on-behalf-of`")
        }
        "authentication-certificate" => {
            ("client-certificate", "the certificate has to be exported, and named in `tls.client-certificate` of the upstream")
        }
        "retry" => ("retry", "policies are repeated; only requests to an upstream are here"),
        "proxy" => ("proxy", "an upstream is reached without a proxy"),
        "jsonp" => ("body", "it changes the body"),
        "publish-to-dapr" | "send-service-bus-message" | "invoke-dapr-binding" => ("sub-request", "messages are not sent"),
        "validate-parameters"
        | "validate-headers"
        | "validate-status-code"
        | "validate-odata-request"
        | "validate-graphql-request" => ("validation", "it checks messages against the description of the API"),
        "sql-data-source" | "cosmosdb-data-source" | "http-data-source" | "publish-event" => {
            ("resolver", "resolvers have no counterpart")
        }
        _ if name.starts_with("llm-") || name.starts_with("azure-openai-") => ("ai", "policies on models have no counterpart"),
        _ => return None,
    })
}

impl<'i> Flow<'i> {
    /// Refuses an element that has no counterpart.
    pub(super) fn not_translated(&mut self, document: &'i PolicyDocument, element: &'i Element) -> Refusal {
        let (code, text) = reason(&element.name).unwrap_or(("element", "the element is not known"));
        let is_lax = element.text_of("ignore-error").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        if element.name == "send-request" && is_lax {
            self.shared.lint("L15", document, element.start);
        }
        if element.name == "cache-lookup-value"
            && let Some(key) = element.attribute("key")
            && key.expression().is_none()
            && element.text_of("variable-name").is_some_and(is_credential_name)
        {
            self.shared.lint("L17", document, element.start);
        }
        let text = match element.name.as_str() {
            "send-request" => advice_for_request(element).unwrap_or(text),
            _ => text,
        };
        not(code, text)
    }
}

/// Returns what a sub-request becomes, by its purpose.
fn advice_for_request(element: &Element) -> Option<&'static str> {
    let url = element.child("set-url").and_then(Element::text).map(|text| text.content.to_ascii_lowercase())?;
    if url.contains("/oauth2/") || url.contains("/token") {
        return Some("it asks for a token: make it a `credential`, and send it with `authorization`");
    }
    if url.contains("vault.azure.net") {
        return Some("it asks a vault: make the secret a named value with `key-vault`");
    }
    if url.contains("authoriz") || url.contains("introspect") {
        return Some("it asks an authorizer: make it a token policy, or `authorize` by claims");
    }
    None
}

//! Settings by which tokens, secrets and inner hosts reach somebody who is not meant to have them.

use std::net::IpAddr;

use super::{Config, lint::decides};
use crate::{
    authorization::AuthorizationConfig,
    inbound::{
        PolicyConfig,
        cors::CorsConfig,
        validate_azure_ad_token::{AllowedTenantConfig, AllowedTenantsConfig, ValidateAzureAdTokenConfig},
    },
    outbound::OutboundPolicyConfig,
    route::RouteConfig,
    settings::{Lint, fault::Faults, fault::Place},
};

/// Domains of Microsoft's services, below which each resource has its own hosts.
const MICROSOFT: [&str; 16] = [
    "microsoft.com",
    "microsoft.us",
    "microsoftgraph.chinacloudapi.cn",
    "chinacloudapi.cn",
    "windows.net",
    "windows-int.net",
    "azure.com",
    "azure.net",
    "azure.us",
    "azure.cn",
    "azure-api.net",
    "azurewebsites.net",
    "office.com",
    "office365.com",
    "sharepoint.com",
    "dynamics.com",
];

/// Endings of names that only an inner network knows.
const INTERNAL: [&str; 9] = ["local", "internal", "intranet", "lan", "corp", "home.arpa", "localdomain", "private", "svc"];

/// Words of header fields that hold a secret.
const SECRET_FIELDS: [&str; 7] = ["key", "secret", "password", "token", "authorization", "apikey", "credential"];

/// Warns of what is shown and sent to the wrong ones.
pub(super) fn lint(config: &Config, faults: &mut Faults) {
    let root = Place::root();
    if config.audit.sinks.is_empty() {
        let message = "no record of requests is written, so nobody can tell later who was let in and who was refused";
        let cure = "list a sink, as `- stdout: {}`, or leave `sinks` out";
        faults.warning(Lint::AuditOff, &root.key("audit").key("sinks"), message, cure);
    }
    for (index, route) in config.routes.iter().enumerate() {
        lint_route(route, &root.key("routes").index(index), config, faults);
    }
}

fn lint_route(route: &RouteConfig, place: &Place, config: &Config, faults: &mut Faults) {
    let scope = match &route.authorization {
        AuthorizationConfig::Credential(credential) => Some(&credential.scope),
        AuthorizationConfig::OnBehalfOf(exchange) => Some(&exchange.scope),
        _ => None,
    };
    let servers = route.upstream.as_ref().and_then(|name| config.upstreams.get(name)).map(|upstream| &upstream.servers);
    if let (Some(scope), Some(servers)) = (scope, servers)
        && let Some(resource) = host_of(scope).filter(|host| is_microsoft(host))
        && let Some(server) = servers.iter().find(|server| host_of(server).is_some_and(|host| is_elsewhere(&host)))
    {
        let message = format!("the token for {resource} is sent to {server}, which could use it there as the gateway");
        let cure = "send it to the service itself, or acquire a token for the application that answers there";
        faults.warning(Lint::CredentialLeavesOrigin, &place.key("authorization").key("scope"), message, cure);
    }
    if let Some(respond) = &route.respond {
        let location = respond.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
        if let (Some((name, location)), 300..400) = (location, respond.status) {
            for location in location.as_slice() {
                lint_location(location, &place.key("respond").key("headers").key(name), faults);
            }
        }
        for (name, values) in &respond.headers {
            for value in values.as_slice() {
                lint_shown(name, value, &place.key("respond").key("headers").key(name), faults);
            }
        }
    }
    lint_outbound(&route.outbound, &place.key("outbound"), faults);
}

/// Warns of settings of a policy on the request.
pub(super) fn lint_policy(policy: &PolicyConfig, later: &[PolicyConfig], place: &Place, faults: &mut Faults) {
    let in_query = match policy {
        PolicyConfig::ValidateAzureAdToken(token) => {
            lint_tenants(token, later, place, faults);
            token.query_parameter_name.is_some()
        }
        PolicyConfig::ValidateJwt(token) => token.query_parameter_name.is_some(),
        PolicyConfig::Cors(cors) => {
            lint_cors(cors, place, faults);
            false
        }
        PolicyConfig::ReturnResponse(answer) => {
            for (name, values) in &answer.headers {
                let place = place.key("headers").key(name);
                for value in values.as_slice() {
                    lint_shown(name, value, &place, faults);
                    if name.eq_ignore_ascii_case("location") {
                        lint_location(value, &place, faults);
                    }
                }
            }
            false
        }
        _ => false,
    };
    if in_query {
        let message = "a token in a URL is kept by logs, histories and the `Referer` of pages, and whoever reads it can use it";
        let cure = "leave it out, and let callers send the token in a header";
        faults.warning(Lint::TokenInQuery, &place.key("query-parameter-name"), message, cure);
    }
}

/// Warns of a policy that every tenant passes: roles and scopes of an application with several tenants are granted by each of them.
fn lint_tenants(token: &ValidateAzureAdTokenConfig, later: &[PolicyConfig], place: &Place, faults: &mut Faults) {
    let any = match &token.allowed_tenants {
        Some(AllowedTenantsConfig::Word(word)) => word == "any",
        Some(AllowedTenantsConfig::List(list)) => {
            list.iter().any(|entry| matches!(entry, AllowedTenantConfig::Word(word) if word == "any"))
        }
        Some(AllowedTenantsConfig::File(_)) | None => false,
    };
    let restricted = !token.client_application_ids.is_empty() || !token.required_claims.is_empty() || later.iter().any(decides);
    if any && !restricted {
        let message = "every tenant of Entra is let in: its own administrators grant the scopes and roles that are asked for";
        let cure = "list the tenants, or say whose applications may call: `client-application-ids`, or `check-partner` behind it";
        faults.warning(Lint::AnyTenant, &place.key("allowed-tenants"), message, cure);
    }
}

fn lint_cors(cors: &CorsConfig, place: &Place, faults: &mut Faults) {
    if cors.allowed_origins.iter().any(|origin| origin == "*") {
        let message = "pages of every origin may call with whatever token they have, and read the answers";
        faults.warning(
            Lint::CorsAnyOrigin,
            &place.key("allowed-origins"),
            message,
            "list the origins of the pages that are meant",
        );
    }
}

fn lint_outbound(policies: &[OutboundPolicyConfig], place: &Place, faults: &mut Faults) {
    for (index, policy) in policies.iter().enumerate() {
        let place = place.index(index).key(policy.name());
        match policy {
            OutboundPolicyConfig::SetHeader(header) => {
                for value in header.value.iter().chain(&header.values).filter_map(|value| value.plain()) {
                    lint_shown(&header.name, value, &place, faults);
                    if header.name.eq_ignore_ascii_case("location") {
                        lint_location(value, &place.key("value"), faults);
                    }
                }
            }
            OutboundPolicyConfig::ReturnResponse(answer) => {
                for (name, values) in &answer.headers {
                    for value in values.as_slice() {
                        lint_shown(name, value, &place.key("headers").key(name), faults);
                    }
                }
            }
            OutboundPolicyConfig::Choose(branches) => {
                for (index, branch) in branches.iter().enumerate() {
                    let (key, policies) = match (&branch.then, &branch.otherwise) {
                        (Some(policies), _) => ("do", policies),
                        (None, Some(policies)) => ("otherwise", policies),
                        (None, None) => continue,
                    };
                    lint_outbound(policies, &place.index(index).key(key), faults);
                }
            }
            OutboundPolicyConfig::SetVariable(_)
            | OutboundPolicyConfig::SetStatus(_)
            | OutboundPolicyConfig::SetBody(_)
            | OutboundPolicyConfig::Trace(_)
            | OutboundPolicyConfig::IncludeFragment(_) => {}
            #[cfg(test)]
            OutboundPolicyConfig::Panic(_) => {}
        }
    }
}

/// Warns of a field of a response that holds a secret by its name, and a text that is the same for everybody.
fn lint_shown(name: &str, value: &str, place: &Place, faults: &mut Faults) {
    let sounds = name.to_ascii_lowercase().split(['-', '_']).any(|word| SECRET_FIELDS.contains(&word));
    if sounds && !value.is_empty() && !value.starts_with("@(") && !name.to_ascii_lowercase().starts_with("access-control-") {
        let message = format!("every caller gets to see the value of `{name}`, which by its name is a secret");
        faults.warning(Lint::SecretShownToCaller, place, message, "remove it; fields for the backend belong into `inbound`");
    }
}

/// Warns of a redirect to a host that callers outside cannot reach, and need not know.
fn lint_location(location: &str, place: &Place, faults: &mut Faults) {
    if let Some(host) = host_of(location).filter(|host| is_internal(host)) {
        let message = format!("callers are sent to `{host}`, a host of the inner network");
        faults.warning(
            Lint::RedirectToInternalHost,
            place,
            message,
            "write the host by which callers reach it, or the path alone",
        );
    }
}

/// Returns the host of a URL with `http://` or `https://`.
fn host_of(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase())
}

fn is_microsoft(host: &str) -> bool {
    MICROSOFT.iter().any(|domain| host == *domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// Returns whether a server is neither Microsoft's nor on this machine.
fn is_elsewhere(host: &str) -> bool {
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !here && !is_microsoft(host)
}

fn is_internal(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_link_local() || address.is_loopback(),
        Ok(IpAddr::V6(address)) => address.is_unique_local() || address.is_unicast_link_local() || address.is_loopback(),
        Err(_) => {
            let ends = |end: &&str| host.strip_suffix(*end).is_some_and(|rest| rest.ends_with('.'));
            // A name without a dot is completed by a machine's own search list.
            !host.contains('.') || INTERNAL.iter().any(ends)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_hosts_are_known() {
        for (location, expected) in [
            ("https://10.0.0.5:8443/orders", true),
            ("https://[fd00::1]/", true),
            ("http://orders/", true),
            ("http://orders.default.svc/", true),
            ("http://orders.corp/", true),
            ("https://api.contoso.example/", false),
            ("https://203.0.113.7/", false),
            ("/orders", false),
            ("@('https://10.0.0.5/')", false),
        ] {
            assert_eq!(host_of(location).is_some_and(|host| is_internal(&host)), expected, "{location}");
        }
    }

    #[test]
    fn a_service_of_microsoft_is_below_its_domains_alone() {
        for (host, expected) in [
            ("graph.microsoft.com", true),
            ("contoso.vault.azure.net", true),
            ("graph.microsoft.us", true),
            ("graph.microsoft.com.attacker.example", false),
            ("notmicrosoft.com", false),
            ("api.contoso.example", false),
        ] {
            assert_eq!(is_microsoft(host), expected, "{host}");
        }
    }
}

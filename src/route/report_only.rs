//! Routes on which nobody is authenticated, since the policies that would do it are report-only.

use super::RouteConfig;
use crate::{
    authorization::{AuthorizationConfig, AuthorizationWord},
    inbound::{
        PolicyConfig,
        list::{self, Fragments, Written},
    },
    settings::{Faults, Lint, Place},
};

/// Warns of a route that authenticates nobody, and refuses what would vouch for a caller there.
pub(super) fn check(config: &RouteConfig, lists: &[Written<'_>], fragments: &Fragments, place: &Place, faults: &mut Faults) {
    let enforced = |list: &Written<'_>| !list.report_only && list::enforces_authentication(list.policies, fragments);
    if lists.iter().any(enforced) {
        return;
    }
    let at = if config.mode.is_report_only() { place.key("mode") } else { place.key("name") };
    let keeps = matches!(config.authorization, AuthorizationConfig::Word(AuthorizationWord::Keep));
    let more = if keeps { ", and whatever they put into `Authorization` reaches the backend" } else { "" };
    faults.warning(
        Lint::ReportOnlyAuthentication,
        &at,
        format!(
            "the route `{}` lets in callers that nobody has authenticated: its policies for that are report-only{more}",
            config.name
        ),
        "leave `mode` out once `would_deny` in the records tells only what is meant",
    );
    let vouching = [
        ("authorization", "a token of the gateway or a validated one is sent", vouches(&config.authorization)),
        ("identity-headers", "headers say who calls", !config.identity_headers.is_empty()),
        ("backend-assertion", "an assertion says who calls", config.backend_assertion.is_some()),
    ];
    const CURE: &str =
        "leave `mode` out, or give the policies that are tried to a whole config beside this one, or to a route of their own";
    for (key, what, _) in vouching.into_iter().filter(|(.., written)| *written) {
        let message = format!("{what}, and the policies that authenticate the caller are report-only");
        faults.error(&place.key(key), message, CURE);
    }
    let mut names = Vec::new();
    let mut told = Vec::new();
    for list in lists {
        list::each(list.policies, fragments, 0, &mut |policy| match policy {
            PolicyConfig::ValidateAzureAdToken(token) => names.extend(token.named.clone()),
            PolicyConfig::ValidateJwt(token) => names.extend(token.named.clone()),
            PolicyConfig::SetHeader(header) => {
                let mut values = header.value.iter().chain(&header.values).filter_map(|value| value.plain());
                if values.any(|value| reads_identity(value, &names)) && !told.contains(&header.name) {
                    told.push(header.name.clone());
                }
            }
            _ => {}
        });
    }
    for name in told {
        let message = format!("`{name}` is made from a token, and the policies that validate it are report-only");
        faults.error(&at, message, CURE);
    }
}

/// Returns whether the upstream gets a token that stands for a caller or for the gateway.
fn vouches(authorization: &AuthorizationConfig) -> bool {
    match authorization {
        AuthorizationConfig::Word(_) | AuthorizationConfig::Absent => false,
        AuthorizationConfig::FromHeader(_)
        | AuthorizationConfig::Credential(_)
        | AuthorizationConfig::OnBehalfOf(_)
        | AuthorizationConfig::Basic(_) => true,
    }
}

/// Returns whether an expression names a token or the partner.
fn reads_identity(value: &str, names: &[String]) -> bool {
    let words = || value.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'));
    value.trim_start().starts_with("@(")
        && words().any(|word| word == "token" || word == "partner" || names.iter().any(|name| name == word))
}

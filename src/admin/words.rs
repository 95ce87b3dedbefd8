//! Policies, destinations and identities of the config in a few words each, for the console. No value of a header field, no key and no
//! password is among them.

use std::time::Duration;

use crate::{
    address::AddressEntryConfig,
    authorization::{AuthorizationConfig, AuthorizationWord},
    explain::span,
    inbound::{
        PolicyConfig,
        ip_filter::{Action, IpFilterConfig},
        validate_azure_ad_token::{
            AllowedTenantConfig, AllowedTenantsConfig, ClientCredentialConfig, RequiredClaimConfig, TokenKindConfig,
            ValidateAzureAdTokenConfig,
        },
        validate_jwt::ValidateJwtConfig,
    },
    route::RouteConfig,
};

/// The number of names in a list before the rest is counted.
const MOST: usize = 4;
/// The longest expression that is shown whole, in bytes.
const LONGEST: usize = 200;

/// Describes a policy.
pub(super) fn policy(policy: &PolicyConfig) -> String {
    match policy {
        PolicyConfig::IpFilter(filter) => addresses(filter),
        PolicyConfig::ValidateAzureAdToken(token) => azure_token(token),
        PolicyConfig::ValidateJwt(token) => jwt(token),
        PolicyConfig::ValidateClientCertificate(certificate) => match &certificate.identities {
            Some(identities) => format!("a client certificate, one of {} that are listed", identities.len()),
            None => "a client certificate of the listener's authorities".to_owned(),
        },
        PolicyConfig::CheckHeader(check) => format!("a certain value of the header {}", check.name),
        PolicyConfig::Authorize(authorize) => format!("the condition {}", expression(&authorize.condition)),
        PolicyConfig::CheckPartner(check) => match &check.partners {
            Some(partners) => format!("one of the partners {}", names(partners)),
            None => "any partner that may use the route".to_owned(),
        },
        PolicyConfig::ValidateApiKey(check) => match &check.partners {
            Some(partners) => format!("an API key of {}", names(partners)),
            None => "an API key of a partner".to_owned(),
        },
        PolicyConfig::RateLimitByKey(limit) => {
            format!(
                "at most {} calls in {} for each {}",
                limit.calls,
                time(limit.renewal_period.0),
                expression(&limit.counter_key)
            )
        }
        PolicyConfig::QuotaByKey(quota) => {
            let calls = quota.calls.map(|calls| format!("{calls} calls"));
            let bytes = quota.bandwidth.map(|bytes| format!("{} bytes", bytes.0));
            let most: Vec<_> = calls.into_iter().chain(bytes).collect();
            let period = time(quota.renewal_period.0);
            format!("at most {} in {period} for each {}", most.join(" and "), expression(&quota.counter_key))
        }
        PolicyConfig::LimitConcurrency(limit) => {
            format!("at most {} calls at once for each {}", limit.max_count, expression(&limit.key))
        }
        PolicyConfig::Cors(cors) => format!("pages of {} may call", names(&cors.allowed_origins)),
        PolicyConfig::Choose(branches) => {
            let conditions: Vec<_> = branches.iter().filter_map(|branch| branch.when.as_deref()).map(expression).collect();
            format!("policies that depend on {}", names(&conditions))
        }
        PolicyConfig::AnyOf(lists) => {
            let list = |list: &Vec<PolicyConfig>| list.iter().map(self::policy).collect::<Vec<_>>().join(" and ");
            lists.iter().map(list).collect::<Vec<_>>().join("; or ")
        }
        PolicyConfig::SetHeader(set) => format!("sets the header {}", set.name),
        PolicyConfig::SetQueryParameter(set) => format!("sets the query parameter {}", set.name),
        PolicyConfig::SetVariable(set) => format!("sets the variable {}", set.name),
        PolicyConfig::SetMethod(method) => format!("sets the method to {}", expression(&method.0)),
        PolicyConfig::SetBackendService(choice) => {
            let upstreams: Vec<_> = choice.upstreams().collect();
            format!("chooses the upstream: {}", names(&upstreams))
        }
        PolicyConfig::RewriteUri(rewrite) => format!("rewrites the path to {}", expression(&rewrite.template)),
        PolicyConfig::ReturnResponse(answer) => format!("answers with {}", answer.status.unwrap_or(200)),
        PolicyConfig::Trace(_) => "makes a note in the record".to_owned(),
        PolicyConfig::SetStatus(set) => format!("sets the status to {}", set.code),
        PolicyConfig::SetBody(_) => "sets the body".to_owned(),
        PolicyConfig::ReportOnly(_) | PolicyConfig::IncludeFragment(_) => policy.name().to_owned(),
        #[cfg(test)]
        PolicyConfig::Panic(_) => policy.name().to_owned(),
    }
}

fn addresses(filter: &IpFilterConfig) -> String {
    let entries: Vec<_> = filter.addresses.iter().map(AddressEntryConfig::text).collect();
    match filter.action {
        Action::Allow => format!("an address of {}", names(&entries)),
        Action::Forbid => format!("no address of {}", names(&entries)),
    }
}

fn azure_token(token: &ValidateAzureAdTokenConfig) -> String {
    let tenants = match &token.allowed_tenants {
        None => token.tenant.clone(),
        Some(AllowedTenantsConfig::Word(word)) => format!("{} ({word})", token.tenant),
        Some(AllowedTenantsConfig::List(tenants)) => {
            let name = |tenant: &AllowedTenantConfig| match tenant {
                AllowedTenantConfig::Word(name) => name.clone(),
                AllowedTenantConfig::File(_) => "a file of tenants".to_owned(),
            };
            names(&tenants.iter().map(name).collect::<Vec<_>>())
        }
        Some(AllowedTenantsConfig::File(_)) => format!("{} (a file of tenants)", token.tenant),
    };
    let who = who(token.token_kind);
    let mut words = format!("{who} of {tenants} for {}", names(&token.audiences));
    permissions(&mut words, &token.scopes, &token.roles);
    claims(&mut words, &token.client_application_ids, &token.required_claims);
    if token.client_credential == ClientCredentialConfig::Certificate {
        words.push_str("; the client proved itself with a certificate");
    }
    words
}

fn jwt(token: &ValidateJwtConfig) -> String {
    let mut words = format!("{} of the issuer {} for {}", who(token.token_kind), token.issuer, names(&token.audiences));
    permissions(&mut words, &token.scopes, &token.roles);
    claims(&mut words, &token.client_application_ids, &token.required_claims);
    words
}

const fn who(kind: TokenKindConfig) -> &'static str {
    match kind {
        TokenKindConfig::Any => "a token",
        TokenKindConfig::User => "a user's token",
        TokenKindConfig::App => "an application's token",
    }
}

fn permissions(words: &mut String, scopes: &[String], roles: &[String]) {
    let listed = |kind: &str, names_of: &[String]| {
        (!names_of.is_empty()).then(|| format!("the {kind}{} {}", if names_of.len() > 1 { "s" } else { "" }, names(names_of)))
    };
    let both: Vec<_> = listed("scope", scopes).into_iter().chain(listed("role", roles)).collect();
    if !both.is_empty() {
        words.push_str(" with ");
        words.push_str(&both.join(" or "));
    }
}

fn claims(words: &mut String, clients: &[String], claims: &[RequiredClaimConfig]) {
    match clients.len() {
        0 => {}
        1 => words.push_str("; of one client application"),
        several => words.push_str(&format!("; of {several} client applications")),
    }
    if !claims.is_empty() {
        let required: Vec<_> = claims.iter().map(|claim| claim.name.as_str()).collect();
        words.push_str("; with the claims ");
        words.push_str(&names(&required));
    }
}

/// Describes the `Authorization` that the upstream receives.
pub(super) fn authorization(config: &AuthorizationConfig) -> String {
    match config {
        AuthorizationConfig::Word(AuthorizationWord::Keep) => "the caller's own token".to_owned(),
        AuthorizationConfig::Word(AuthorizationWord::Remove) | AuthorizationConfig::Absent => "none".to_owned(),
        AuthorizationConfig::FromHeader(from) => format!("the caller's token from {}", from.from_header),
        AuthorizationConfig::Credential(own) => format!("the gateway's token: {} for {}", own.credential, own.scope),
        AuthorizationConfig::OnBehalfOf(exchanged) => {
            format!("a token on behalf of the user: {} for {}", exchanged.on_behalf_of, exchanged.scope)
        }
        AuthorizationConfig::Basic(_) => "a user name and a password of the gateway's".to_owned(),
    }
}

/// Describes where the requests of a route go, other than to an upstream.
pub(super) fn answer(route: &RouteConfig) -> Option<String> {
    if let Some(respond) = &route.respond {
        return Some(format!("answers with {}", respond.status));
    }
    if let Some(relay) = &route.token_relay {
        return Some(format!("the token endpoint of {}", relay.tenant));
    }
    route.assertion_keys.map(|_| "the gateway's public keys".to_owned())
}

/// Lists some names; of many, the first ones.
pub(super) fn names<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<_> = names.iter().take(MOST).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn expression(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.len() {
        ..=LONGEST => text,
        _ => format!("{}…", &text[..text.floor_char_boundary(LONGEST)]),
    }
}

fn time(period: Duration) -> String {
    span(period.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::part;

    #[test]
    fn policies_have_words_and_no_values() {
        for (written, expected) in [
            ("ip-filter: { action: allow, addresses: [office, 10.0.0.0/8] }", "an address of office, 10.0.0.0/8"),
            ("ip-filter: { action: forbid, addresses: [a, b, c, d, e, f] }", "no address of a, b, c, d and 2 more"),
            (
                "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], roles: [A, B] }",
                "a token of contoso for api://orders with the scope Orders.Read or the roles A, B",
            ),
            (
                "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app, client-credential: certificate, client-application-ids: [x] }",
                "an application's token of contoso for api://orders; of one client application; the client proved itself with a certificate",
            ),
            (
                "validate-jwt: { issuer: partners, audiences: [orders], required-claims: [ { name: team } ] }",
                "a token of the issuer partners for orders; with the claims team",
            ),
            ("check-header: { name: X-Gateway-Key, values: [hunter2] }", "a certain value of the header X-Gateway-Key"),
            ("set-header: { name: X-Key, value: hunter2 }", "sets the header X-Key"),
            ("authorize: { condition: \"@(token.kind ==\\n  'app')\" }", "the condition @(token.kind == 'app')"),
            (
                "rate-limit-by-key: { calls: 10, renewal-period: 60s, counter-key: \"@(caller.address)\" }",
                "at most 10 calls in 60 s for each @(caller.address)",
            ),
            ("check-partner: {}", "any partner that may use the route"),
            (
                "any-of: [ [ { check-partner: { partners: [fabrikam] } } ], [ { ip-filter: { action: allow, addresses: [office] } } ] ]",
                "one of the partners fabrikam; or an address of office",
            ),
            ("return-response: { status: 204 }", "answers with 204"),
        ] {
            let config: PolicyConfig = part(written);

            assert_eq!(policy(&config), expected, "{written}");
            assert!(!policy(&config).contains("hunter2"));
        }
    }
}

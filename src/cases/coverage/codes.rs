//! The refusal codes that the settings of an entry govern.

use crate::{
    config::Config,
    inbound::{
        PolicyConfig,
        set_header::{ExistsAction, WhenAbsent},
        validate_azure_ad_token::{
            ClientCredentialConfig, TokenBindingConfig, TokenKindConfig, TokenTypeConfig, ValidateAzureAdTokenConfig,
        },
        validate_client_certificate::ValidateClientCertificateConfig,
        validate_jwt::ValidateJwtConfig,
    },
    partner::{PartnerConfig, PartnerCredential},
    refusal::Reason,
};

/// Returns the codes that an entry can give by its settings, each as callers see it. `checked` tells whether a check of partners follows.
pub(super) fn of(policy: &PolicyConfig, config: &Config, checked: bool) -> Vec<(Reason, String)> {
    let mut own = None;
    let reasons = match policy {
        PolicyConfig::IpFilter(_) => vec![Reason::CallerAddressNotAllowed],
        PolicyConfig::ValidateAzureAdToken(token) => of_entra(token, checked),
        PolicyConfig::ValidateJwt(token) => of_issuer(token),
        PolicyConfig::ValidateClientCertificate(certificate) => of_certificate(certificate),
        PolicyConfig::CheckPartner(check) => {
            let named = |name: &String| check.partners.as_ref().is_none_or(|names| names.contains(name));
            let partners = config.partners.iter().filter(|(name, _)| named(name)).map(|(_, partner)| partner);
            of_partners(&partners.collect::<Vec<_>>())
        }
        PolicyConfig::Authorize(authorize) => {
            own.clone_from(&authorize.code);
            vec![Reason::NotAuthorized]
        }
        PolicyConfig::CheckHeader(_) => vec![Reason::HeaderCheckFailed],
        PolicyConfig::SetHeader(header) => {
            let values = header.value.iter().chain(&header.values);
            let reads = values.filter_map(|value| value.plain()).any(|value| value.starts_with("@("));
            let refuses = header.when_absent != WhenAbsent::Skip && header.exists_action != ExistsAction::Delete;
            if reads && refuses { vec![Reason::HeaderValueUnavailable] } else { Vec::new() }
        }
        PolicyConfig::ValidateApiKey(_) => vec![Reason::ApiKeyMissing, Reason::ApiKeyInvalid],
        PolicyConfig::RateLimitByKey(_) => vec![Reason::RateLimitExceeded],
        PolicyConfig::QuotaByKey(_) => vec![Reason::QuotaExceeded],
        // Those of lists within are their entries'. One request at a time exceeds no limit of concurrent ones.
        _ => Vec::new(),
    };
    reasons.into_iter().map(|reason| (reason, own.clone().unwrap_or_else(|| reason.code().to_owned()))).collect()
}

fn of_entra(token: &ValidateAzureAdTokenConfig, checked: bool) -> Vec<Reason> {
    let kind = token.token_kind;
    let has_permissions = !token.scopes.is_empty() || !token.roles.is_empty();
    let access = token.token_type == TokenTypeConfig::Access;
    let vouched_for = checked || !token.client_application_ids.is_empty();
    chosen([
        (true, Reason::TokenMissing),
        (true, Reason::TokenAudienceNotAllowed),
        (true, Reason::TokenExpired),
        (access, Reason::TokenNotAccessToken),
        (token.allowed_tenants.is_some(), Reason::TokenTenantNotAllowed),
        (kind != TokenKindConfig::Any, Reason::TokenKindNotAllowed),
        (!token.client_application_ids.is_empty(), Reason::ClientApplicationNotAllowed),
        (token.client_credential == ClientCredentialConfig::Certificate, Reason::ClientCredentialTooWeak),
        (token.token_binding == TokenBindingConfig::Certificate, Reason::TokenBindingMissing),
        (!token.required_claims.is_empty(), Reason::RequiredClaimMissing),
        (!token.scopes.is_empty() && kind != TokenKindConfig::App, Reason::ScopeMissing),
        (has_permissions && !(token.roles.is_empty() && kind == TokenKindConfig::User), Reason::RoleMissing),
        (access && !has_permissions && !vouched_for, Reason::PermissionMissing),
        (token.authentication_context.is_some(), Reason::ClaimsChallenge),
    ])
}

fn of_issuer(token: &ValidateJwtConfig) -> Vec<Reason> {
    chosen([
        (true, Reason::TokenMissing),
        (true, Reason::TokenAudienceNotAllowed),
        (true, Reason::TokenExpired),
        (token.token_kind != TokenKindConfig::Any, Reason::TokenKindNotAllowed),
        (!token.client_application_ids.is_empty(), Reason::ClientApplicationNotAllowed),
        (token.token_binding == TokenBindingConfig::Certificate, Reason::TokenBindingMissing),
        (!token.required_claims.is_empty(), Reason::RequiredClaimMissing),
        (!token.scopes.is_empty() && token.token_kind != TokenKindConfig::App, Reason::ScopeMissing),
        (!token.roles.is_empty(), Reason::RoleMissing),
    ])
}

fn of_certificate(certificate: &ValidateClientCertificateConfig) -> Vec<Reason> {
    let dated = certificate.validate_not_before || certificate.validate_not_after;
    chosen([
        (true, Reason::ClientCertificateMissing),
        (certificate.validate_trust, Reason::ClientCertificateUntrusted),
        (dated, Reason::ClientCertificateExpired),
        (certificate.validate_revocation.unwrap_or(!certificate.crl.is_empty()), Reason::ClientCertificateRevoked),
        (certificate.identities.is_some(), Reason::ClientCertificateNotAllowed),
    ])
}

fn of_partners(partners: &[&PartnerConfig]) -> Vec<Reason> {
    let any = |holds: fn(&PartnerConfig) -> bool| partners.iter().copied().any(holds);
    let weak = |partner: &PartnerConfig| {
        partner.client_credential == PartnerCredential::Certificate || partner.client_certificate.is_some()
    };
    chosen([
        (true, Reason::PartnerUnknown),
        (any(|partner| !partner.enabled), Reason::PartnerDisabled),
        (any(|partner| partner.expires.is_some()), Reason::PartnerExpired),
        (any(|partner| partner.routes.is_some()), Reason::PartnerRouteNotAllowed),
        (any(|partner| partner.addresses.is_some()), Reason::PartnerAddressNotAllowed),
        (any(weak), Reason::PartnerCredentialTooWeak),
        (any(|partner| partner.rate_limit.is_some()), Reason::RateLimitExceeded),
        (any(|partner| partner.quota.is_some()), Reason::QuotaExceeded),
    ])
}

fn chosen<const N: usize>(reasons: [(bool, Reason); N]) -> Vec<Reason> {
    reasons.into_iter().filter(|(governed, _)| *governed).map(|(_, reason)| reason).collect()
}

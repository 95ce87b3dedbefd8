//! 4 · Inbound: the policies on the request, one file each.
//!
//! A route's policies are a plain list that runs in the order written; the first refusal ends the request. A new policy needs one
//! file, its example in `config/policies/`, its variant in [`PolicyConfig`] and [`InboundPolicy`], and its line in `build` and
//! `check`.

pub mod any_of;
pub mod authorize;
pub(crate) mod build_context;
pub mod check_header;
pub mod check_partner;
pub mod choose;
pub mod cors;
pub(crate) mod credential_names;
pub(crate) mod filters;
pub mod ip_filter;
pub mod limit_concurrency;
mod limit_owners;
mod limit_scope;
pub mod list;
pub(crate) mod mode;
mod query;
pub mod quota_by_key;
pub mod rate_limit_by_key;
mod report_only;
pub mod return_response;
pub mod rewrite_uri;
pub mod set_backend_service;
pub mod set_body;
pub mod set_header;
pub mod set_method;
pub mod set_query_parameter;
pub mod set_status;
pub mod set_variable;
mod shared;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod token_policies;
pub mod trace;
pub mod validate_api_key;
pub mod validate_azure_ad_token;
pub mod validate_client_certificate;
pub mod validate_jwt;

use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::mode::ModeConfig;
use self::{
    any_of::AnyOf,
    authorize::{Authorize, AuthorizeConfig},
    build_context::PartnerRoute,
    check_header::{CheckHeader, CheckHeaderConfig},
    check_partner::{CheckPartner, CheckPartnerConfig},
    choose::{BranchConfig, Choose},
    cors::{Cors, CorsConfig},
    ip_filter::{IpFilter, IpFilterConfig},
    limit_concurrency::{LimitConcurrency, LimitConcurrencyConfig},
    quota_by_key::{QuotaByKey, QuotaByKeyConfig},
    rate_limit_by_key::{RateLimitByKey, RateLimitByKeyConfig},
    rewrite_uri::{RewriteUri, RewriteUriConfig},
    set_backend_service::{SetBackendService, SetBackendServiceConfig},
    set_body::SetBodyConfig,
    set_header::{SetHeader, SetHeaderConfig},
    set_method::SetMethod,
    set_query_parameter::{SetQueryParameter, SetQueryParameterConfig},
    set_status::SetStatusConfig,
    set_variable::{SetVariable, SetVariableConfig},
    trace::{Trace, TraceConfig},
    validate_api_key::{ValidateApiKey, ValidateApiKeyConfig},
    validate_azure_ad_token::{ValidateAzureAdToken, ValidateAzureAdTokenConfig},
    validate_client_certificate::{ValidateClientCertificate, ValidateClientCertificateConfig},
    validate_jwt::{ValidateJwt, ValidateJwtConfig},
};
pub(crate) use self::{
    limit_scope::{LimitContext, LimitOwners},
    shared::SharedPolicies,
};
use crate::{
    exchange::Exchange,
    inbound::{build_context::BuildContext, list::ListContext},
    refusal::{Stop, trace::Verdict},
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};
pub use return_response::{ReturnResponse, ReturnResponseConfig};

/// One policy on the request: a map with one key, the policy's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyConfig {
    /// Admits or refuses callers by address.
    IpFilter(IpFilterConfig),
    /// Admits callers with an Entra token.
    ValidateAzureAdToken(Box<ValidateAzureAdTokenConfig>),
    /// Admits callers with a token of another issuer.
    ValidateJwt(Box<ValidateJwtConfig>),
    /// Admits callers by their certificate.
    ValidateClientCertificate(Box<ValidateClientCertificateConfig>),
    /// Sets, adds or removes a header field.
    SetHeader(SetHeaderConfig),
    /// Admits requests that carry a header field.
    CheckHeader(CheckHeaderConfig),
    /// Changes the path of the request.
    RewriteUri(RewriteUriConfig),
    /// Sets, adds to or removes a parameter of the query.
    SetQueryParameter(SetQueryParameterConfig),
    /// Changes the method of the upstream's request: a method, or an expression `@(…)` that makes one.
    SetMethod(String),
    /// Chooses the upstream of the request, in place of the route's.
    SetBackendService(SetBackendServiceConfig),
    /// Sets a variable, for the expressions of later policies.
    SetVariable(SetVariableConfig),
    /// Admits requests for which a condition is true.
    Authorize(AuthorizeConfig),
    /// Limits the rate of calls.
    RateLimitByKey(Box<RateLimitByKeyConfig>),
    /// Limits calls or bytes over a long time.
    QuotaByKey(Box<QuotaByKeyConfig>),
    /// Limits the number of concurrent calls.
    LimitConcurrency(LimitConcurrencyConfig),
    /// Allows pages of other origins to call.
    Cors(CorsConfig),
    /// Answers the request itself.
    ReturnResponse(ReturnResponseConfig),
    /// Runs the first branch whose condition is true.
    Choose(Vec<BranchConfig>),
    /// Admits requests that one of several lists admits.
    AnyOf(Vec<Vec<Self>>),
    /// Admits the calls of known partners.
    CheckPartner(CheckPartnerConfig),
    /// Inserts policies that judge, and whose refusals are recorded and counted instead of enforced.
    ReportOnly(Vec<Self>),
    /// Admits the calls of partners that send an API key of theirs.
    ValidateApiKey(ValidateApiKeyConfig),
    /// Changes the status of the answer; for `outbound` and `on-error`.
    SetStatus(SetStatusConfig),
    /// Replaces the body of a refusal; for `on-error`.
    SetBody(SetBodyConfig),
    /// Adds a note to the record of the request.
    Trace(TraceConfig),
    /// Inserts the policies of a fragment.
    IncludeFragment(String),
    /// Panics, at this place.
    #[cfg(test)]
    Panic(String),
}

impl PolicyConfig {
    /// Returns the policy's name in the config.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::IpFilter(_) => "ip-filter",
            Self::ValidateAzureAdToken(_) => "validate-azure-ad-token",
            Self::ValidateJwt(_) => "validate-jwt",
            Self::ValidateClientCertificate(_) => "validate-client-certificate",
            Self::SetHeader(_) => "set-header",
            Self::CheckHeader(_) => "check-header",
            Self::RewriteUri(_) => "rewrite-uri",
            Self::SetQueryParameter(_) => "set-query-parameter",
            Self::SetMethod(_) => "set-method",
            Self::SetBackendService(_) => "set-backend-service",
            Self::SetVariable(_) => "set-variable",
            Self::Authorize(_) => "authorize",
            Self::RateLimitByKey(_) => "rate-limit-by-key",
            Self::QuotaByKey(_) => "quota-by-key",
            Self::LimitConcurrency(_) => "limit-concurrency",
            Self::Cors(_) => "cors",
            Self::ReturnResponse(_) => "return-response",
            Self::Choose(_) => "choose",
            Self::AnyOf(_) => "any-of",
            Self::CheckPartner(_) => "check-partner",
            Self::ReportOnly(_) => "report-only",
            Self::ValidateApiKey(_) => "validate-api-key",
            Self::SetStatus(_) => "set-status",
            Self::SetBody(_) => "set-body",
            Self::Trace(_) => "trace",
            Self::IncludeFragment(_) => "include-fragment",
            #[cfg(test)]
            Self::Panic(_) => "panic",
        }
    }
}

/// One policy, built.
#[derive(Debug)]
pub enum InboundPolicy {
    /// `ip-filter`
    IpFilter(IpFilter),
    /// `validate-azure-ad-token`
    ValidateAzureAdToken(Box<ValidateAzureAdToken>),
    /// `validate-jwt`
    ValidateJwt(Box<ValidateJwt>),
    /// `validate-client-certificate`
    ValidateClientCertificate(Box<ValidateClientCertificate>),
    /// `set-header`
    SetHeader(SetHeader),
    /// `check-header`
    CheckHeader(CheckHeader),
    /// `rewrite-uri`
    RewriteUri(RewriteUri),
    /// `set-query-parameter`
    SetQueryParameter(SetQueryParameter),
    /// `set-method`
    SetMethod(SetMethod),
    /// `set-backend-service`
    SetBackendService(SetBackendService),
    /// `set-variable`
    SetVariable(SetVariable),
    /// `authorize`
    Authorize(Authorize),
    /// `rate-limit-by-key`
    RateLimitByKey(Box<RateLimitByKey>),
    /// `quota-by-key`
    QuotaByKey(Box<QuotaByKey>),
    /// `limit-concurrency`
    LimitConcurrency(LimitConcurrency),
    /// `cors`
    Cors(Box<Cors>),
    /// `return-response`
    ReturnResponse(Box<ReturnResponse>),
    /// `choose`
    Choose(Choose),
    /// `any-of`
    AnyOf(AnyOf),
    /// `check-partner`
    CheckPartner(CheckPartner),
    /// `validate-api-key`
    ValidateApiKey(ValidateApiKey),
    /// `trace`
    Trace(Box<Trace>),
    /// `panic`
    #[cfg(test)]
    Panic(String),
}

/// One entry of a route's list: the policy and its place in the config.
#[derive(Debug)]
pub struct PolicyEntry {
    /// The policy.
    pub policy: InboundPolicy,
    /// The entry's name in audit records: `inbound[1].ip-filter`.
    pub at: Arc<str>,
    /// The place of its settings in the config.
    pub place: Place,
    /// True if a refusal is recorded instead of enforced.
    pub report_only: bool,
    /// The file and the line of the entry, where records need it.
    pub(crate) position: OnceLock<Arc<str>>,
}

impl InboundPolicy {
    /// Builds the policy, or reports its faults.
    ///
    /// `at` is what audit records call the entry; `within` is for the lists within it.
    pub(crate) fn build(
        config: &PolicyConfig,
        place: &Place,
        at: &str,
        within: ListContext<'_>,
        scope: &mut BuildContext<'_>,
    ) -> Option<Self> {
        Some(match config {
            PolicyConfig::IpFilter(config) => Self::IpFilter(IpFilter::build(config, place, scope)?),
            PolicyConfig::ValidateAzureAdToken(config) => {
                Self::ValidateAzureAdToken(Box::new(ValidateAzureAdToken::build(config, place, scope)?))
            }
            PolicyConfig::ValidateJwt(config) => Self::ValidateJwt(Box::new(ValidateJwt::build(config, place, scope)?)),
            PolicyConfig::ValidateClientCertificate(config) => {
                Self::ValidateClientCertificate(Box::new(ValidateClientCertificate::build(config, place, scope)?))
            }
            PolicyConfig::SetHeader(config) => Self::SetHeader(SetHeader::build(config, place, scope)?),
            PolicyConfig::CheckHeader(config) => Self::CheckHeader(CheckHeader::build(config, place, scope)?),
            PolicyConfig::RewriteUri(config) => Self::RewriteUri(RewriteUri::build(config, place, scope)?),
            PolicyConfig::SetQueryParameter(config) => Self::SetQueryParameter(SetQueryParameter::build(config, place, scope)?),
            PolicyConfig::SetMethod(config) => Self::SetMethod(SetMethod::build(config, place, scope)?),
            PolicyConfig::SetBackendService(config) => Self::SetBackendService(SetBackendService::build(config, place, scope)?),
            PolicyConfig::SetVariable(config) => Self::SetVariable(SetVariable::build(config, place, scope)?),
            PolicyConfig::Authorize(config) => Self::Authorize(Authorize::build(config, place, scope)?),
            PolicyConfig::RateLimitByKey(config) => Self::RateLimitByKey(Box::new(RateLimitByKey::build(config, place, scope)?)),
            PolicyConfig::QuotaByKey(config) => Self::QuotaByKey(Box::new(QuotaByKey::build(config, place, scope)?)),
            PolicyConfig::LimitConcurrency(config) => Self::LimitConcurrency(LimitConcurrency::build(config, place, scope)?),
            PolicyConfig::Cors(config) => Self::Cors(Box::new(Cors::build(config, place, scope)?)),
            PolicyConfig::ReturnResponse(config) => Self::ReturnResponse(Box::new(ReturnResponse::build(config, place, scope)?)),
            PolicyConfig::Choose(config) => Self::Choose(Choose::build(config, (place, at), within, scope)?),
            PolicyConfig::AnyOf(config) => Self::AnyOf(AnyOf::build(config, (place, at), within, scope)?),
            PolicyConfig::CheckPartner(config) => {
                let (partners, known) = scope.partners.as_mut()?;
                // Also where it cannot be built: that is a fault of its own, and not of those that follow.
                known.checked = true;
                let (partners, route) = (*partners, PartnerRoute { has_token: !scope.token_places.is_empty(), ..*known });
                Self::CheckPartner(CheckPartner::build(config, place, partners, route, scope.faults)?)
            }
            PolicyConfig::ValidateApiKey(config) => Self::ValidateApiKey(ValidateApiKey::build(config, place, scope)?),
            PolicyConfig::Trace(config) => Self::Trace(Box::new(Trace::build(config, place, scope)?)),
            PolicyConfig::SetStatus(_) | PolicyConfig::SetBody(_) => {
                let message = format!("`{}` changes an answer, and there is none yet", config.name());
                scope.faults.error(place, message, "use it in `outbound` or `on-error`, or answer with `return-response`");
                return None;
            }
            #[cfg(test)]
            PolicyConfig::Panic(place) => Self::Panic(place.clone()),
            // Inserted lists are spliced in before the policies are built.
            PolicyConfig::ReportOnly(_) | PolicyConfig::IncludeFragment(_) => return None,
        })
    }

    /// Judges the request, and changes the upstream's request as the policy demands.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn check(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        match self {
            Self::IpFilter(policy) => policy.check(exchange)?,
            Self::ValidateAzureAdToken(policy) => policy.check(exchange, incoming, outgoing).await?,
            Self::ValidateJwt(policy) => policy.check(exchange, incoming, outgoing).await?,
            Self::ValidateClientCertificate(policy) => policy.check(exchange, incoming)?,
            Self::SetHeader(policy) => policy.apply(exchange, incoming, &mut outgoing.headers)?,
            Self::CheckHeader(policy) => policy.check(incoming, &exchange.clock)?,
            Self::RewriteUri(policy) => policy.apply(exchange, incoming, outgoing)?,
            Self::SetQueryParameter(policy) => policy.apply(exchange, incoming, outgoing)?,
            Self::SetMethod(policy) => policy.apply(exchange, incoming, outgoing)?,
            Self::SetBackendService(policy) => policy.apply(exchange, incoming)?,
            Self::SetVariable(policy) => exchange.variables = policy.apply(&exchange.facts(incoming))?,
            Self::Authorize(policy) => policy.check(exchange, incoming)?,
            Self::RateLimitByKey(policy) => policy.check(exchange, incoming)?,
            Self::QuotaByKey(policy) => policy.check(exchange, incoming)?,
            Self::LimitConcurrency(policy) => policy.check(exchange, incoming)?,
            Self::Cors(policy) => policy.check(exchange, incoming)?,
            Self::ReturnResponse(policy) => {
                return Err(Stop::Respond(Box::new(policy.response(&exchange.facts(incoming))?)));
            }
            Self::Choose(policy) => policy.run(exchange, incoming, outgoing).await?,
            Self::AnyOf(policy) => policy.run(exchange, incoming, outgoing).await?,
            Self::CheckPartner(policy) => policy.check(exchange)?,
            Self::ValidateApiKey(policy) => policy.check(exchange, incoming)?,
            Self::Trace(policy) => {
                if let Some(note) = policy.note(&exchange.facts(incoming)) {
                    exchange.notes.add(note);
                }
            }
            #[cfg(test)]
            Self::Panic(place) => match &**place {
                "body" => {
                    let body = bytes::Bytes::from_static(b"panics");
                    return Err(Stop::Respond(Box::new(http::Response::new(body))));
                }
                place => panic!("panicked in {place} of {}", incoming.target.path),
            },
        }
        Ok(())
    }
}

impl PolicyEntry {
    /// Runs the policy and notes its result.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        if self.report_only {
            // Boxed, since it is rare: every request would have to keep the room for it.
            return Box::pin(self.report(exchange, incoming, outgoing)).await;
        }
        let result = self.policy.check(exchange, incoming, outgoing).await;
        let verdict = Verdict::of(&result);
        // A policy within this one has said so already.
        if verdict != Verdict::Passed && exchange.outcome.policy.is_none() {
            exchange.outcome.policy = Some(self.at.clone());
        }
        exchange.trace.note(|| {
            let refusal = if let Err(Stop::Refuse(refusal)) = &result { Some(refusal) } else { None };
            self.step(verdict, refusal)
        });
        result
    }
}

//! 4 · Inbound: the policies on the request, one file each.
//!
//! A route's policies are a plain list that runs in the order written; the first refusal ends the request. A new policy needs one
//! file, its example in `config/policies/`, and its line in `policies!`. What else the gateway must know of it, its settings say
//! ([`PolicySettings`]).

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
pub(crate) mod settings;
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
pub(crate) use self::settings::PolicySettings;
use self::{
    any_of::AnyOf,
    authorize::{Authorize, AuthorizeConfig},
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
    set_method::{SetMethod, SetMethodConfig},
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

/// Declares the policies, one line each: its name in the code, the type of its settings, its type once built, and its name in the
/// config. A policy with that name in the code has two functions: `build`, from its settings and their place, and `run`. One that
/// contains lists of policies is marked `in lists`, and is built with their context. Those after `for answers` stand in the lists of
/// answers alone.
macro_rules! policies {
    (
        $($(#[doc = $doc:literal])+ $kind:ident($settings:ty => $policy:ty) = $name:literal $(in $lists:ident)?;)*
        for answers
        $($(#[doc = $answer_doc:literal])+ $answer_kind:ident($answer_settings:ty) = $answer_name:literal;)*
    ) => {
        /// One policy on the request: a map with one key, the policy's name.
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum PolicyConfig {
            $($(#[doc = $doc])+ $kind($settings),)*
            $($(#[doc = $answer_doc])+ $answer_kind($answer_settings),)*
            /// Inserts policies that judge, and whose refusals are recorded and counted instead of enforced.
            ReportOnly(Vec<Self>),
            /// Inserts the policies of a fragment.
            IncludeFragment(String),
            /// Panics, at the place of this name.
            #[cfg(test)]
            Panic(String),
        }

        impl PolicyConfig {
            /// Returns the policy's name in the config.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                    $(Self::$answer_kind(_) => $answer_name,)*
                    Self::ReportOnly(_) => "report-only",
                    Self::IncludeFragment(_) => "include-fragment",
                    #[cfg(test)]
                    Self::Panic(_) => "panic",
                }
            }

            /// Returns the settings; `None` for inserted lists, whose policies have their own.
            pub(crate) fn settings(&self) -> Option<&dyn PolicySettings> {
                match self {
                    $(Self::$kind(settings) => Some(settings),)*
                    $(Self::$answer_kind(settings) => Some(settings),)*
                    Self::ReportOnly(_) | Self::IncludeFragment(_) => None,
                    #[cfg(test)]
                    Self::Panic(_) => None,
                }
            }

            /// Returns whether the answer to a question about the settings is yes.
            pub(crate) fn is(&self, question: impl FnOnce(&dyn PolicySettings) -> bool) -> bool {
                self.settings().is_some_and(question)
            }
        }

        /// One policy, built.
        #[derive(Debug)]
        pub enum InboundPolicy {
            $(#[doc = concat!("`", $name, "`")] $kind($policy),)*
            /// `panic`
            #[cfg(test)]
            Panic(String),
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
                context: &mut BuildContext<'_>,
            ) -> Option<Self> {
                Some(match config {
                    $(PolicyConfig::$kind(config) => {
                        Self::$kind(policies!(@build $kind, config, place, at, within, context $(, $lists)?)?.into())
                    })*
                    $(PolicyConfig::$answer_kind(_))|* => {
                        let message = format!("`{}` changes an answer, and there is none yet", config.name());
                        context.faults.error(place, message, "use it in `outbound` or `on-error`, or answer with `return-response`");
                        return None;
                    }
                    // Inserted lists are spliced in before the policies are built.
                    PolicyConfig::ReportOnly(_) | PolicyConfig::IncludeFragment(_) => return None,
                    #[cfg(test)]
                    PolicyConfig::Panic(place) => Self::Panic(place.clone()),
                })
            }

            /// Judges the request, and changes the upstream's request as the policy demands.
            ///
            /// # Errors
            /// Returns the refusal, or the gateway's own response, that ends the request.
            pub(crate) async fn run(
                &self,
                exchange: &mut Exchange,
                incoming: &IncomingRequest,
                outgoing: &mut UpstreamRequest,
            ) -> Result<(), Stop> {
                match self {
                    $(Self::$kind(policy) => policy.run(exchange, incoming, outgoing).await,)*
                    #[cfg(test)]
                    Self::Panic(place) => panics(place, incoming),
                }
            }
        }
    };
    (@build $kind:ident, $config:ident, $place:ident, $at:ident, $within:ident, $context:ident) => {
        $kind::build($config, $place, $context)
    };
    (@build $kind:ident, $config:ident, $place:ident, $at:ident, $within:ident, $context:ident, lists) => {
        $kind::build($config, ($place, $at), $within, $context)
    };
}

policies! {
    /// Admits or refuses callers by address.
    IpFilter(IpFilterConfig => IpFilter) = "ip-filter";
    /// Admits callers with an Entra token.
    ValidateAzureAdToken(Box<ValidateAzureAdTokenConfig> => Box<ValidateAzureAdToken>) = "validate-azure-ad-token";
    /// Admits callers with a token of another issuer.
    ValidateJwt(Box<ValidateJwtConfig> => Box<ValidateJwt>) = "validate-jwt";
    /// Admits callers by their certificate.
    ValidateClientCertificate(Box<ValidateClientCertificateConfig> => Box<ValidateClientCertificate>) = "validate-client-certificate";
    /// Sets, adds or removes a header field.
    SetHeader(SetHeaderConfig => SetHeader) = "set-header";
    /// Admits requests that carry a header field.
    CheckHeader(CheckHeaderConfig => CheckHeader) = "check-header";
    /// Changes the path of the request.
    RewriteUri(RewriteUriConfig => RewriteUri) = "rewrite-uri";
    /// Sets, adds to or removes a parameter of the query.
    SetQueryParameter(SetQueryParameterConfig => SetQueryParameter) = "set-query-parameter";
    /// Changes the method of the upstream's request: a method, or an expression `@(…)` that makes one.
    SetMethod(SetMethodConfig => SetMethod) = "set-method";
    /// Chooses the upstream of the request, in place of the route's.
    SetBackendService(SetBackendServiceConfig => SetBackendService) = "set-backend-service";
    /// Sets a variable, for the expressions of later policies.
    SetVariable(SetVariableConfig => SetVariable) = "set-variable";
    /// Admits requests for which a condition is true.
    Authorize(AuthorizeConfig => Authorize) = "authorize";
    /// Limits the rate of calls.
    RateLimitByKey(Box<RateLimitByKeyConfig> => Box<RateLimitByKey>) = "rate-limit-by-key";
    /// Limits calls or bytes over a long time.
    QuotaByKey(Box<QuotaByKeyConfig> => Box<QuotaByKey>) = "quota-by-key";
    /// Limits the number of concurrent calls.
    LimitConcurrency(LimitConcurrencyConfig => LimitConcurrency) = "limit-concurrency";
    /// Allows pages of other origins to call.
    Cors(CorsConfig => Box<Cors>) = "cors";
    /// Answers the request itself.
    ReturnResponse(ReturnResponseConfig => Box<ReturnResponse>) = "return-response";
    /// Runs the first branch whose condition is true.
    Choose(Vec<BranchConfig> => Choose) = "choose" in lists;
    /// Admits requests that one of several lists admits.
    AnyOf(Vec<Vec<PolicyConfig>> => AnyOf) = "any-of" in lists;
    /// Admits the calls of known partners.
    CheckPartner(CheckPartnerConfig => CheckPartner) = "check-partner";
    /// Admits the calls of partners that send an API key of theirs.
    ValidateApiKey(ValidateApiKeyConfig => ValidateApiKey) = "validate-api-key";
    /// Adds a note to the record of the request.
    Trace(TraceConfig => Box<Trace>) = "trace";
    for answers
    /// Changes the status of the answer; for `outbound` and `on-error`.
    SetStatus(SetStatusConfig) = "set-status";
    /// Replaces the body of a refusal; for `on-error`.
    SetBody(SetBodyConfig) = "set-body";
}

#[cfg(test)]
fn panics(place: &str, incoming: &IncomingRequest) -> Result<(), Stop> {
    match place {
        "body" => {
            let body = bytes::Bytes::from_static(b"panics");
            Err(Stop::Respond(Box::new(crate::base::response::Response::new(body))))
        }
        place => panic!("panicked in {place} of {}", incoming.target.path),
    }
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
        let result = self.policy.run(exchange, incoming, outgoing).await;
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

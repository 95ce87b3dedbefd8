//! 4 · Inbound: the policies on the request, one file each.
//!
//! A route's policies are a plain list that runs in the order written; the first refusal ends the request. A new policy is one
//! file, its example in `config/policies/`, its variant in [`PolicyConfig`] and [`InboundPolicy`], and its line in `build` and `check`.

pub mod check_header;
pub mod check_partner;
pub mod ip_filter;
pub mod rewrite_uri;
pub mod set_header;
#[cfg(test)]
pub(crate) mod testing;
pub mod validate_azure_ad_token;
pub mod validate_jwt;

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use self::{
    check_header::{CheckHeader, CheckHeaderConfig},
    ip_filter::{IpFilter, IpFilterConfig},
    rewrite_uri::{RewriteUri, RewriteUriConfig},
    set_header::{SetHeader, SetHeaderConfig},
    validate_azure_ad_token::{ValidateAzureAdToken, ValidateAzureAdTokenConfig},
    validate_jwt::{ValidateJwt, ValidateJwtConfig},
};
use crate::{
    address::AddressSet,
    config::{Faults, Place, Secrets},
    entra::Tenants,
    exchange::Exchange,
    refusal::Refusal,
    request::{IncomingRequest, ReservedNames},
    trace::{Step, Verdict},
    upstream::UpstreamRequest,
};

/// One policy on the request, as written: a map with one key, the policy's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyConfig {
    /// Admits or refuses callers by address.
    IpFilter(IpFilterConfig),
    /// Admits callers with an Entra token.
    ValidateAzureAdToken(Box<ValidateAzureAdTokenConfig>),
    /// Admits callers with a token of another issuer.
    ValidateJwt(Box<ValidateJwtConfig>),
    /// Sets, adds or removes a header field.
    SetHeader(SetHeaderConfig),
    /// Admits requests that bear a header field.
    CheckHeader(CheckHeaderConfig),
    /// Sends the request to another path.
    RewriteUri(RewriteUriConfig),
    /// Stands for the policies of a fragment.
    IncludeFragment(String),
}

impl PolicyConfig {
    /// The policy's name, as in the config.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::IpFilter(_) => "ip-filter",
            Self::ValidateAzureAdToken(_) => "validate-azure-ad-token",
            Self::ValidateJwt(_) => "validate-jwt",
            Self::SetHeader(_) => "set-header",
            Self::CheckHeader(_) => "check-header",
            Self::RewriteUri(_) => "rewrite-uri",
            Self::IncludeFragment(_) => "include-fragment",
        }
    }

    /// Whether the policy establishes who calls.
    pub const fn authenticates(&self) -> bool {
        matches!(self, Self::ValidateAzureAdToken(_) | Self::ValidateJwt(_))
    }
}

/// What a policy may look at, and must tell, while it is built.
#[derive(Debug)]
pub struct Scope<'a> {
    /// What is wrong goes here; the build goes on.
    pub faults: &'a mut Faults,
    /// The address sets by name.
    pub sets: &'a BTreeMap<String, Arc<AddressSet>>,
    /// The tenants by name, and their key sets.
    pub tenants: &'a Tenants,
    /// What the secrets among the named values are.
    pub secrets: &'a Secrets,
    /// The names that the path of the route captures; `None` for policies that belong to no one route.
    pub captures: Option<&'a [String]>,
    /// Whether the route says `anonymous: true`.
    pub anonymous: bool,
    /// Header names that are spoken for.
    pub reserved: &'a mut ReservedNames,
    /// The places where token policies of the route look for a token, gathered as they are built.
    pub token_places: &'a mut Vec<crate::authorization::TokenPlace>,
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
    /// `set-header`
    SetHeader(SetHeader),
    /// `check-header`
    CheckHeader(CheckHeader),
    /// `rewrite-uri`
    RewriteUri(RewriteUri),
}

/// One entry of a route's list: the policy and its place in the config.
#[derive(Debug)]
pub struct PolicyEntry {
    /// What runs.
    pub policy: InboundPolicy,
    /// The entry as audit records name it: `inbound[1].ip-filter`.
    pub at: Arc<str>,
}

impl InboundPolicy {
    /// Builds the policy, or says why not in the scope's faults.
    pub(crate) fn build(config: &PolicyConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        Some(match config {
            PolicyConfig::IpFilter(config) => Self::IpFilter(IpFilter::build(config, place, scope)?),
            PolicyConfig::ValidateAzureAdToken(config) => {
                Self::ValidateAzureAdToken(Box::new(ValidateAzureAdToken::build(config, place, scope)?))
            }
            PolicyConfig::ValidateJwt(config) => Self::ValidateJwt(Box::new(ValidateJwt::build(config, place, scope)?)),
            PolicyConfig::SetHeader(config) => Self::SetHeader(SetHeader::build(config, place, scope)?),
            PolicyConfig::CheckHeader(config) => Self::CheckHeader(CheckHeader::build(config, place, scope)?),
            PolicyConfig::RewriteUri(config) => Self::RewriteUri(RewriteUri::build(config, place, scope)?),
            // Fragments are spliced in before the policies are built.
            PolicyConfig::IncludeFragment(_) => return None,
        })
    }

    /// Judges the request, and writes to the upstream's what the policy is for.
    ///
    /// # Errors
    /// The refusal that ends the request.
    pub(crate) async fn check(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        match self {
            Self::IpFilter(policy) => policy.check(exchange).map_err(Refusal::from),
            Self::ValidateAzureAdToken(policy) => policy.check(exchange, incoming, outgoing).await,
            Self::ValidateJwt(policy) => policy.check(exchange, incoming, outgoing).await,
            Self::SetHeader(policy) => policy.apply(exchange, incoming, &mut outgoing.headers).map_err(Refusal::from),
            Self::CheckHeader(policy) => policy.check(incoming),
            Self::RewriteUri(policy) => policy.apply(exchange, incoming, outgoing),
        }
    }
}

impl PolicyEntry {
    /// Runs the policy and notes what it found.
    ///
    /// # Errors
    /// The refusal that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        let result = self.policy.check(exchange, incoming, outgoing).await;
        let verdict = match &result {
            Ok(()) => Verdict::Passed,
            Err(refusal) => Verdict::Refused(refusal.reason),
        };
        if verdict != Verdict::Passed {
            exchange.outcome.policy = Some(self.at.clone());
        }
        exchange.trace.note(|| Step {
            at: self.at.clone(),
            verdict,
            saw: result
                .as_ref()
                .err()
                .and_then(|refusal| refusal.cause.as_ref())
                .map_or(std::borrow::Cow::Borrowed(""), |cause| cause.to_string().into()),
        });
        result
    }
}

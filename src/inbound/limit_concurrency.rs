//! Limits the number of concurrent calls, by any key.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/limit-concurrency.yaml")]
//! ```
//!
//! A call lasts until its response body has ended, or the caller has left. Calls never wait: excess ones are refused at once with
//! [`Reason::ConcurrencyLimitExceeded`]. Permits belong to the policy, or to all policies with its `name`.
//!
//! With `store: redis` the gateways that share a store count together. A permit there is renewed as long as its call lasts, and given
//! back at its end; that of a gateway that is gone ends after `redis.permit-timeout`. While the store fails, calls are refused with
//! [`Reason::LimitStoreUnavailable`], or each gateway counts by itself (`on-store-failure: local`).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{
    build_context::BuildContext,
    limit_scope::Named,
    mode::ModeConfig,
    rate_limit_by_key::{key, key_text, of_key},
};
use crate::{
    exchange::{Exchange, HeldPermit},
    expression::Template,
    limits::{
        Concurrency, OnStoreFailureConfig, Owner, StoreChoice, StoreConfig,
        store::{SharedPermits, StoreUnavailable},
    },
    refusal::{Reason, Refusal, Stop, trace::StandIn},
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// Settings of `limit-concurrency`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitConcurrencyConfig {
    /// The maximum number of concurrent calls.
    pub max_count: u32,
    /// The key by which calls are counted separately: an expression, such as `@(token.client)`.
    pub key: String,
    /// A name for the counts: all policies of this kind with the same name count together. Default: each counts by itself.
    pub name: Option<String>,
    /// The store of the permits. Default: local; redis, where `redis.default-store` is true.
    pub store: Option<StoreConfig>,
    /// The treatment of calls while the store fails. Default: refuse.
    pub on_store_failure: Option<OnStoreFailureConfig>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Limits the number of concurrent calls, by any key.
#[derive(Debug)]
pub struct LimitConcurrency {
    key: Template,
    most: u32,
    calls: Arc<Concurrency>,
    owner: Owner,
    shared: Option<Box<SharedPermits>>,
}

impl PolicySettings for LimitConcurrencyConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl LimitConcurrency {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        let key = key_text(&self.key, &exchange.facts(incoming)).map_err(Refusal::from)?;
        if exchange.trace.decision_alone().map(StandIn::passes_limits).is_some() {
            return Ok(());
        }
        let permit = match &self.shared {
            Some(shared) if exchange.trace.stand_in().is_none() => {
                // Boxed, so that only these requests have the room for it.
                Box::pin(self.begin_shared(shared, &key)).await.map_err(Refusal::from)?
            }
            _ => self.begin(&key),
        };
        let Some(permit) = permit else {
            let reached = format!("{} calls are under way already", self.most);
            return Err(of_key(&reached, &self.key, Reason::ConcurrencyLimitExceeded.into()).into());
        };
        exchange.limits.permits.push(permit);
        Ok(())
    }

    fn begin(&self, key: &str) -> Option<HeldPermit> {
        self.calls.begin((self.owner, key), self.most).map(HeldPermit::Local)
    }

    async fn begin_shared(&self, shared: &SharedPermits, key: &str) -> Result<Option<HeldPermit>, StoreUnavailable> {
        match shared.begin(key).await {
            Ok(permit) => Ok(permit.map(HeldPermit::Shared)),
            Err(_) if shared.falls_back() => {
                shared.fell_back();
                Ok(self.begin(key))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn build(config: &LimitConcurrencyConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let key = key(&config.key, &place.key("key"), context);
        if config.max_count == 0 {
            context.faults.error(&place.key("max-count"), "no call at all would be let through", "write a number of at least 1");
            return None;
        }
        let named = Named { kind: "limit-concurrency", name: config.name.as_deref(), period: None };
        let (owner, id) = context.limits.owner(config, named, place, context.faults);
        let choice = StoreChoice { store: config.store, on_failure: config.on_store_failure };
        let shared = context.limits.limits().shared(choice, place, context.faults);
        let shared = shared.map(|store| Box::new(SharedPermits::new(store, &id, config.max_count)));
        Some(Self { key: key?, most: config.max_count, calls: context.limits.limits().concurrency(), owner, shared })
    }
}

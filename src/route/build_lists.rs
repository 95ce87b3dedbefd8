//! The parts of a route's build that look beyond the route: the global lists on answers and refusals, and the upstreams that policies may
//! choose.

use std::{collections::BTreeSet, sync::Arc};

use super::{RouteBuilder, RouteConfig};
use crate::{
    inbound::{
        PolicyConfig,
        build_context::{BuildContext, OnError},
    },
    outbound::{OutboundList, OutboundPolicyConfig},
    request::ReservedNames,
    settings::{Faults, Place},
};

impl RouteBuilder<'_> {
    /// Builds a global list for one more route; faults that were reported for another are not repeated.
    pub(super) fn global(
        &self,
        list: &[OutboundPolicyConfig],
        key: &str,
        on_error: OnError,
        context: &mut BuildContext<'_>,
    ) -> OutboundList {
        if list.is_empty() {
            return OutboundList::default();
        }
        let before = context.faults.len();
        context.on_error = on_error;
        let place = Place::root().key(key);
        let built = OutboundList::build(list, (&place, &format!("global-{key}")), self.config.fragments, context);
        context.on_error = OnError::No;
        context.faults.drop_repeated(before);
        built
    }

    /// Builds the policies on refusals of requests that no route takes.
    pub(crate) fn on_error_everywhere(&self, faults: &mut Faults) -> OutboundList {
        let mut context = BuildContext {
            faults,
            sets: self.sets,
            secrets: self.secrets,
            tenants: self.tenants,
            limits: self.limits,
            captures: None,
            anonymous: true,
            reserved: &mut ReservedNames::default(),
            certificates: self.certificates(),
            partners: None,
            token_places: &mut Vec::new(),
            key_places: &mut Vec::new(),
            graph: None,
            tokens_before: &mut Default::default(),
            upstreams: None,
            on_error: OnError::Everywhere,
            credential_names: self.credential_names,
        };
        self.global(self.config.on_error, "on-error", OnError::Everywhere, &mut context)
    }

    /// Returns the upstreams to which the requests of a route may go. They have to match paths in one way: the route does.
    pub(super) fn upstreams_of(
        &self,
        config: &RouteConfig,
        policies: &[&PolicyConfig],
        place: &Place,
        faults: &mut Faults,
    ) -> Box<[Arc<str>]> {
        let Some(own) = config.upstream.as_deref() else { return Box::default() };
        let chosen = policies.iter().flat_map(|policy| match policy {
            PolicyConfig::SetBackendService(policy) => policy.upstreams().collect(),
            _ => Vec::new(),
        });
        let names: BTreeSet<&str> = chosen.chain([own]).collect();
        let folds = |name: &str| self.config.upstreams.get(name).map(|upstream| upstream.case_insensitive_paths);
        if let (Some(folded), Some(other)) =
            (folds(own), names.iter().find(|name| folds(name).is_some_and(|other| Some(other) != folds(own))))
        {
            let (message, cure) = if folded {
                (
                    format!("paths are matched without case, as `{own}` does, and `{other}` does not"),
                    "take routes of their own for the two",
                )
            } else {
                (
                    format!("`{other}` has `case-insensitive-paths`, and the route matches paths exactly, as `{own}` does"),
                    "take routes of their own for the two",
                )
            };
            faults.error(&place.key("upstream"), message, cure);
        }
        names.into_iter().map(Into::into).collect()
    }
}

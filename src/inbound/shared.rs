//! Policies of lists that many routes run: each is built once for all routes in which it has the same meaning.
//!
//! The global list and the fragments can be large, and there can be thousands of routes. A policy is built again only if
//! something that its build depends on differs; the facts that its build establishes for later policies are repeated for each
//! route.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use super::settings::DependsOn;
use super::{
    PolicyConfig, PolicyEntry,
    build_context::{BuildContext, TokensBefore},
    list::{self, Fragments, ListContext},
};
use crate::request::{ReservedNames, TokenPlace};

/// The policies of shared lists that were built already. Lives no longer than their config.
#[derive(Debug, Default)]
pub(crate) struct SharedPolicies(RefCell<HashMap<Key, Rc<Built>>>);

/// The inputs of the build of a policy that may differ within a config.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The address of the settings, which do not move while they are built from.
    config: usize,
    depth: usize,
    /// True if it stands in a list that is report-only.
    report_only: bool,
    anonymous: bool,
    certificate: bool,
    token: bool,
    graph: bool,
    tokens_before: TokensBefore,
    /// Of partners: whether tokens of several tenants are admitted, whether a check precedes, and the route's name if it matters.
    partners: Option<(bool, bool, Option<Box<str>>)>,
    /// The route's captures, if they matter.
    captures: Option<Option<Box<[String]>>>,
}

/// A policy, and the context after it.
#[derive(Debug)]
struct Built {
    entry: Option<Arc<PolicyEntry>>,
    names: ReservedNames,
    token_places: Box<[TokenPlace]>,
    key_places: Box<[TokenPlace]>,
    tokens_before: TokensBefore,
    certificate: bool,
    checked: bool,
}

impl Key {
    fn of(config: &PolicyConfig, within: ListContext<'_>, context: &BuildContext<'_>) -> Self {
        let depends = Dependence::of(config, within.fragments);
        let partners = context
            .partners
            .as_ref()
            .map(|(_, route)| (route.several_tenants, route.checked, depends.on_route.then(|| route.name.into())));
        Self {
            config: std::ptr::from_ref(config).addr(),
            depth: within.depth,
            report_only: within.report_only,
            anonymous: context.anonymous,
            certificate: context.certificates.validated,
            token: !context.token_places.is_empty(),
            graph: context.graph.is_some(),
            tokens_before: context.tokens_before.clone(),
            partners,
            captures: depends.on_captures.then(|| context.captures.map(Into::into)),
        }
    }
}

/// The properties of a route that a policy's meaning may depend on.
#[derive(Debug, Default)]
struct Dependence {
    on_captures: bool,
    on_route: bool,
}

impl Dependence {
    fn of(config: &PolicyConfig, fragments: &Fragments) -> Self {
        let mut depends = Self::default();
        list::each(std::slice::from_ref(config), fragments, 0, &mut |policy| match policy
            .settings()
            .map(|settings| settings.depends_on())
        {
            Some(DependsOn::Captures) => depends.on_captures = true,
            Some(DependsOn::Route) => depends.on_route = true,
            Some(DependsOn::Nothing) | None => {}
        });
        depends
    }
}

impl SharedPolicies {
    /// Returns the policy of these settings, built by `build` if it was not yet built in an equal context.
    pub(super) fn once(
        &self,
        config: &PolicyConfig,
        within: ListContext<'_>,
        context: &mut BuildContext<'_>,
        build: impl FnOnce(&mut BuildContext<'_>) -> Option<Arc<PolicyEntry>>,
    ) -> Option<Arc<PolicyEntry>> {
        let key = Key::of(config, within, context);
        let known = self.0.borrow().get(&key).cloned();
        if let Some(known) = known {
            known.enter(context);
            return known.entry.clone();
        }
        let outer = std::mem::take(context.reserved);
        let (places, keys) = (context.token_places.len(), context.key_places.len());
        let entry = build(context);
        let built = Built {
            entry,
            names: std::mem::replace(context.reserved, outer),
            token_places: context.token_places[places..].into(),
            key_places: context.key_places[keys..].into(),
            tokens_before: context.tokens_before.clone(),
            certificate: context.certificates.validated,
            checked: context.partners.as_ref().is_some_and(|(_, route)| route.checked),
        };
        context.reserved.take_over(&built.names);
        let entry = built.entry.clone();
        self.0.borrow_mut().insert(key, Rc::new(built));
        entry
    }
}

impl Built {
    /// Repeats for another route what the build established for the first one.
    fn enter(&self, context: &mut BuildContext<'_>) {
        context.reserved.take_over(&self.names);
        context.token_places.extend_from_slice(&self.token_places);
        context.key_places.extend_from_slice(&self.key_places);
        context.tokens_before.clone_from(&self.tokens_before);
        context.certificates.validated = self.certificate;
        if let Some((_, route)) = &mut context.partners {
            route.checked = self.checked;
        }
    }
}

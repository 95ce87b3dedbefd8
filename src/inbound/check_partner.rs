//! Admits the calls of known partners.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/check-partner.yaml")]
//! ```
//!
//! Follows a token policy, and judges the token's application, the caller's address and the route, in the order of
//! [`Partners::judge`]. Admitted calls count against the partner's rate and quota.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use crate::{
    exchange::Exchange,
    inbound::{
        build_context::{BuildContext, PartnerRoute},
        mode::ModeConfig,
    },
    partner::{Call, Partner, PartnerFault, Partners},
    refusal::{Reason, Refusal, Stop, trace::StandIn},
    request::IncomingRequest,
    settings::{Faults, Lint, Place},
    upstream::UpstreamRequest,
};

/// Settings of `check-partner`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CheckPartnerConfig {
    /// The partners that may pass. Default: all whose `routes` allow it.
    pub partners: Option<Vec<String>>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    pub mode: ModeConfig,
}

/// Admits the calls of known partners.
#[derive(Debug)]
pub struct CheckPartner {
    partners: Arc<Partners>,
    only: Option<Arc<[Arc<str>]>>,
    route: Arc<str>,
}

impl PolicySettings for CheckPartnerConfig {
    fn checks_partner(&self) -> bool {
        true
    }

    fn restricts_callers(&self) -> bool {
        true
    }

    fn depends_on(&self) -> DependsOn {
        DependsOn::Route
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl CheckPartner {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        _incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.check(exchange).await?)
    }

    pub(crate) fn build(config: &CheckPartnerConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let (partners, known) = context.partners.as_mut()?;
        // Also where it cannot be built: that is a fault of its own, and not of those that follow.
        known.checked = true;
        let (partners, route) = (*partners, PartnerRoute { has_token: !context.token_places.is_empty(), ..*known });
        Self::for_route(config, place, partners, route, context.faults)
    }

    /// Builds it for a route of which this much is known.
    pub(crate) fn for_route(
        config: &CheckPartnerConfig,
        place: &Place,
        partners: &Arc<Partners>,
        route: PartnerRoute<'_>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let before = faults.errors();
        if !route.has_token {
            faults.missing(
                place,
                "no token is validated before the partner is checked",
                "put `validate-azure-ad-token` before it",
            );
        }
        let list = place.key("partners");
        for (index, name) in config.partners.iter().flatten().enumerate() {
            match partners.get(name) {
                Some(partner) if !partner.may_use(route.name) => {
                    let cure = "add this route to the partner's `routes`, or leave the partner out here";
                    faults.error(
                        &list.index(index),
                        format!("the partner `{name}` may not use the route `{}`", route.name),
                        cure,
                    );
                }
                None if !partners.mentions(name) => {
                    faults.error(&list.index(index), format!("there is no partner `{name}`"), "name one of `partners`");
                }
                _ => {}
            }
        }
        if config.partners.as_ref().is_some_and(Vec::is_empty) {
            let cure = "name a partner, or leave `partners` out for all of them";
            faults.error(&list, "the list is empty, so every call would be refused", cure);
        }
        let only = config.partners.as_ref().map(|names| partners.selection(names));
        let concerns =
            |partner: &Partner| only.as_ref().map_or_else(|| partner.may_use(route.name), |only| only.contains(&partner.name));
        if route.several_tenants {
            for partner in partners.iter().filter(|partner| !partner.names_tenants() && concerns(partner)) {
                // Anybody can register an application with a chosen display name, and have a foreign one in the own tenant.
                faults.error(
                    &Place::root().key("partners").key(&partner.name),
                    format!(
                        "the route `{}` takes tokens of several tenants, and it is not said which are this partner's",
                        route.name
                    ),
                    "list the partner's `tenants`",
                );
            }
        }
        if !partners.iter().any(|partner| concerns(partner)) && faults.errors() == before {
            faults.warning(
                Lint::PartnersNone,
                place,
                "no partner may use this route, so every call is refused",
                "name the partners in `partners`",
            );
        }
        (faults.errors() == before).then(|| Self { partners: partners.clone(), only, route: route.name.into() })
    }

    /// Identifies the partner of the call, and notes it, even if it is refused.
    ///
    /// # Errors
    /// Returns the refusal that ends the request.
    pub(crate) async fn check(&self, exchange: &mut Exchange) -> Result<(), Refusal> {
        let certificate = exchange.proven_certificate().cloned();
        // The build has made sure that a token policy stands before.
        let token = exchange.token.clone().ok_or(Reason::TokenMissing)?;
        let call = Call {
            application: token.client.as_deref(),
            tenant: &token.tenant,
            kind: token.kind,
            credential: token.credential_kind,
            certificate: certificate.as_deref(),
            address: exchange.caller_address(),
            route: &self.route,
        };
        let partner = self.judge(call, exchange)?;
        admit(&partner, exchange).await
    }

    /// Returns the partners of the config.
    pub(super) fn partners(&self) -> &Partners {
        &self.partners
    }

    /// Returns the names of the partners that may pass, if not all may.
    pub(super) fn only(&self) -> Option<&[Arc<str>]> {
        self.only.as_deref()
    }

    /// Returns whether calls of this partner may pass.
    pub(super) fn concerns(&self, partner: &Partner) -> bool {
        self.only.as_ref().map_or_else(|| partner.may_use(&self.route), |only| only.contains(&partner.name))
    }

    /// Returns the name of the route that the policy was built for.
    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// Identifies the partner of this call, and notes it, even if it is refused.
    ///
    /// # Errors
    /// Returns the refusal that ends the request.
    pub(crate) fn judge(&self, call: Call<'_>, exchange: &mut Exchange) -> Result<Arc<Partner>, Refusal> {
        match self.partners.judge(call, self.only.as_deref(), &exchange.clock) {
            Ok(partner) => Ok(partner.clone()),
            Err(fault) => {
                exchange.partner = fault.partner().and_then(|name| self.partners.get(name)).cloned();
                if matches!(fault, PartnerFault::Certificate(_)) {
                    let known = exchange.evidence.as_ref().and_then(|evidence| evidence.recorded.as_deref());
                    known.into_iter().for_each(|known| known.look_at_certificate());
                    exchange.judged_certificate = exchange.proven_certificate().cloned();
                }
                let hint = exchange.partner_name().map(|name| format!("see `partners.{name}`"));
                let refusal = Refusal::from(fault);
                Err(if let Some(hint) = hint { refusal.with_hint(hint) } else { refusal })
            }
        }
    }
}

/// Assigns the call to this partner and counts it: once, however often it is judged.
///
/// # Errors
/// Fails if the partner has called too often.
pub(crate) async fn admit(partner: &Arc<Partner>, exchange: &mut Exchange) -> Result<(), Refusal> {
    exchange.partner = Some(partner.clone());
    if partner.has_limits() && exchange.trace.decision_alone().map(StandIn::passes_limits).is_some() {
        return Ok(());
    }
    if exchange.limits.partner.as_ref() != Some(&partner.name) {
        partner.count(1, &exchange.clock, &mut exchange.trace, &mut exchange.response_headers).await?;
        exchange.limits.partner = Some(partner.name.clone());
    }
    Ok(())
}

/// Admits a call whose caller has not proven its identity yet: it is assigned to the partner, and counted after the proof.
///
/// # Errors
/// Fails if the partner has called too often.
pub(crate) async fn admit_unproven(partner: &Arc<Partner>, exchange: &mut Exchange) -> Result<(), Refusal> {
    exchange.partner = Some(partner.clone());
    partner.count(0, &exchange.clock, &mut exchange.trace, &mut exchange.response_headers).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entra::Tenants, partner::PartnersContext};

    const APP: &str = "22223333-cccc-4444-dddd-5555eeee6666";

    fn tenants() -> Tenants {
        let tenants = "{ contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee }, fabrikam: { id: bbbbcccc-0000-cccc-1111-dddd2222eeee }, any: { id: organizations } }";
        Tenants::build(&crate::settings::testing::part(tenants), None, &Place::root(), &mut Faults::default())
    }

    /// Returns the faults of the partners, then those of the policy, which exists unless one is an error.
    fn build(partners: &str, policy: &str, route: PartnerRoute<'_>) -> (Option<CheckPartner>, [Vec<String>; 2]) {
        let mut faults = Faults::default();
        let (tenants, sets) = (tenants(), crate::address::AddressSets::default());
        let (limits, metrics) = (crate::limits::Limits::default(), crate::telemetry::Metrics::default());
        let with = PartnersContext {
            sets: &sets,
            tenants: &tenants,
            routes: &["orders", "partners"],
            certificates: true,
            now: 0,
            secrets: &Default::default(),
            limits: &limits,
            metrics: (&metrics, 1),
            previous: None,
        };
        let partners =
            Partners::build(&crate::settings::testing::part(partners), with, &Place::root().key("partners"), &mut faults);
        let told = |faults: &Faults| faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect();
        let of_partners = told(&faults);
        let mut faults = Faults::default();
        let built = CheckPartner::for_route(
            &crate::settings::testing::part(policy),
            &Place::root().key("inbound").index(1),
            &Arc::new(partners),
            route,
            &mut faults,
        );
        assert_eq!(built.is_none(), faults.any_error());
        (built, [of_partners, told(&faults)])
    }

    const ROUTE: PartnerRoute<'static> = PartnerRoute { name: "orders", has_token: true, several_tenants: false, checked: false };

    #[test]
    fn a_policy_that_could_admit_nobody_or_anybody_is_told_of() {
        let one = format!("p: {{ client-application-ids: [{APP}], addresses: [192.0.2.1], routes: [partners] }}");
        let open = format!("p: {{ client-application-ids: [{APP}], addresses: [192.0.2.1] }}");
        let bound = format!("p: {{ client-application-ids: [{APP}], addresses: [192.0.2.1], tenants: [contoso] }}");
        let several = PartnerRoute { several_tenants: true, ..ROUTE };
        for (partners, policy, route, expected) in [
            (&open, "{}", ROUTE, None),
            (&open, "{ partners: [p] }", ROUTE, None),
            (&bound, "{}", several, None),
            (&one, "{}", several, Some("inbound[1]: no partner may use this route, so every call is refused")),
            (
                &open,
                "{}",
                PartnerRoute { has_token: false, ..ROUTE },
                Some("inbound[1]: no token is validated before the partner is checked"),
            ),
            (&open, "{ partners: [q] }", ROUTE, Some("inbound[1].partners[0]: there is no partner `q`")),
            (&open, "{ partners: [] }", ROUTE, Some("inbound[1].partners: the list is empty, so every call would be refused")),
            (&one, "{ partners: [p] }", ROUTE, Some("inbound[1].partners[0]: the partner `p` may not use the route `orders`")),
            (
                &open,
                "{}",
                several,
                Some(
                    "partners.p: the route `orders` takes tokens of several tenants, and it is not said which are this partner's",
                ),
            ),
        ] {
            let (_, [of_partners, faults]) = build(partners, policy, route);
            assert!(of_partners.is_empty());
            assert_eq!(faults.first().map(String::as_str), expected, "{partners} {policy}");
            assert!(faults.len() <= 1, "{faults:?}");
        }
    }

    #[test]
    fn a_partner_that_is_faulty_itself_is_told_of_once() {
        let partners = format!(
            "p: {{ client-application-ids: [p], addresses: [192.0.2.1] }}\nq: {{ client-application-ids: [{APP}], addresses: [192.0.2.1] }}"
        );

        let (policy, [of_partners, faults]) = build(&partners, "{ partners: [p, q] }", ROUTE);

        assert_eq!(of_partners.len(), 1, "{of_partners:?}");
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(policy.expect("nothing is wrong with it").route(), "orders");
    }
}

//! A list of policies: fragments inserted, built, and run in the order written.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use super::{
    InboundPolicy, PolicyConfig, PolicyEntry,
    build_context::BuildContext,
    shared::SharedPolicies,
    validate_azure_ad_token::{AllowedTenantConfig, AllowedTenantsConfig},
};
use crate::{
    entra::Tenants,
    exchange::Exchange,
    refusal::Stop,
    request::IncomingRequest,
    settings::{Faults, Place},
    upstream::UpstreamRequest,
};

/// The maximum nesting depth of lists.
pub(crate) const MAX_DEPTH: usize = 8;

/// Named lists of policies, for `include-fragment`.
pub(crate) type Fragments = BTreeMap<String, Vec<PolicyConfig>>;

/// The context in which a list is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListContext<'a> {
    /// Named lists of policies.
    pub(crate) fragments: &'a Fragments,
    /// The policies of lists that several routes run, as far as they are built.
    pub(crate) shared: &'a SharedPolicies,
    /// The depth of the list within others.
    pub(crate) depth: usize,
    /// True if no refusal of a policy in it is enforced.
    pub(crate) report_only: bool,
}

/// A list of policies, built. Entries common to several lists are shared.
#[derive(Debug, Default)]
pub struct PolicyList(Vec<Arc<PolicyEntry>>);

/// A list of policies as written in the config.
#[derive(Clone, Debug)]
pub(crate) struct Written<'a> {
    pub(crate) policies: &'a [PolicyConfig],
    pub(crate) place: Place,
    /// Its name in audit records, such as `inbound`.
    pub(crate) name: &'a str,
    /// True if other routes run it, too.
    pub(crate) shared: bool,
    /// True if no refusal of a policy in it is enforced.
    pub(crate) report_only: bool,
}

/// An entry of a list, after the insertion of fragments.
#[derive(Clone, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) config: &'a PolicyConfig,
    /// The place of the settings.
    pub(crate) place: Place,
    /// The entry's name in audit records.
    pub(crate) at: String,
    shared: bool,
    pub(crate) report_only: bool,
}

/// Returns the entries of a list that was built without faults, in the order they run.
pub(crate) fn listed<'a>(list: &Written<'a>, fragments: &'a Fragments) -> Vec<Listed<'a>> {
    let mut listed = Vec::new();
    add(list, list.name, &mut Vec::new(), fragments, &mut Faults::default(), &mut listed);
    listed
}

impl PolicyList {
    /// Builds the lists, one after the other; policies that cannot be built are left out, and their faults reported.
    pub(crate) fn build(lists: &[Written<'_>], outer: ListContext<'_>, context: &mut BuildContext<'_>) -> Self {
        if outer.depth >= MAX_DEPTH {
            let message = format!("lists of policies stand more than {MAX_DEPTH} deep within each other");
            for list in lists {
                context.faults.error(&list.place, message.as_str(), "write them flatter; a fragment must not include itself");
            }
            return Self::default();
        }
        let mut listed = Vec::new();
        for list in lists {
            let list = Written { report_only: list.report_only || outer.report_only, ..list.clone() };
            add(&list, list.name, &mut Vec::new(), outer.fragments, context.faults, &mut listed);
        }
        let follows = context.tokens_before.partner_check_follows;
        // A check that refuses nobody is none that an enforced policy could leave its decision to.
        let last_check = |report_only: bool| {
            listed.iter().rposition(|listed| {
                listed.config.is(|settings| settings.checks_partner()) && (report_only || !listed.report_only)
            })
        };
        let last_checks = [last_check(false), last_check(true)];
        let built = listed.iter().enumerate().filter_map(|(index, listed)| {
            let last_check = last_checks[usize::from(listed.report_only)];
            context.tokens_before.partner_check_follows = follows || last_check.is_some_and(|last| index < last);
            let within = ListContext { depth: outer.depth + 1, report_only: listed.report_only, ..outer };
            match listed.shared {
                true => within.shared.once(listed.config, within, context, |context| listed.build(within, context)),
                false => listed.build(within, context),
            }
        });
        let entries = built.collect();
        context.tokens_before.partner_check_follows = follows;
        Self(entries)
    }

    /// Returns the entries, in the order they run.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.0.iter().map(|entry| &**entry)
    }

    /// Visits the entries, and those of branches and alternatives within them.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(&PolicyEntry)) {
        for entry in self.iter() {
            visit(entry);
            match &entry.policy {
                InboundPolicy::AnyOf(policy) => policy.lists().for_each(|list| list.each(visit)),
                InboundPolicy::Choose(policy) => policy.lists().for_each(|list| list.each(visit)),
                _ => {}
            }
        }
    }

    /// Returns whether a decision depends on the fields that the upstream's request has by then.
    pub(crate) fn judges_upstream_fields(&self) -> bool {
        let mut found = false;
        self.each(&mut |entry| {
            if let InboundPolicy::SetHeader(policy) = &entry.policy {
                found |= policy.depends_on_others();
            }
        });
        found
    }

    /// Returns whether preflights of browsers are answered.
    pub fn answers_preflights(&self) -> bool {
        self.iter().any(|entry| matches!(entry.policy, InboundPolicy::Cors(_)))
    }

    /// Runs the policies, until one stops the request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        for entry in self.iter() {
            entry.run(exchange, incoming, outgoing).await?;
        }
        Ok(())
    }

    /// Does the same as [`run`](Self::run) for a list within a policy, whose size is not known before it runs.
    pub(crate) fn run_within<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        incoming: &'a IncomingRequest,
        outgoing: &'a mut UpstreamRequest,
    ) -> Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>> {
        Box::pin(self.run(exchange, incoming, outgoing))
    }
}

impl Listed<'_> {
    fn build(&self, within: ListContext<'_>, context: &mut BuildContext<'_>) -> Option<Arc<PolicyEntry>> {
        let policy = InboundPolicy::build(self.config, &self.place, &self.at, within, context)?;
        let report_only = self.report_only && self.config.judges();
        let (at, place) = (self.at.as_str().into(), self.place.clone());
        Some(Arc::new(PolicyEntry { policy, at, place, report_only, position: Default::default() }))
    }
}

/// Lists the entries of one list, with the entries of fragments and of `report-only` in place of these.
fn add<'a>(
    list: &Written<'a>,
    list_name: &str,
    within: &mut Vec<&'a str>,
    fragments: &'a Fragments,
    faults: &mut Faults,
    listed: &mut Vec<Listed<'a>>,
) {
    for (index, config) in list.policies.iter().enumerate() {
        let place = list.place.index(index).key(config.name());
        let report_only = list.report_only || config.mode().is_report_only();
        let name = match config {
            PolicyConfig::IncludeFragment(name) => name,
            PolicyConfig::ReportOnly(policies) => {
                let name = format!("{list_name}[{index}].report-only");
                let inner = Written { policies, place, report_only: true, ..*list };
                add(&inner, &name, within, fragments, faults, listed);
                continue;
            }
            _ => {
                let at = format!("{list_name}[{index}].{}", config.name());
                listed.push(Listed { config, place, at, shared: list.shared, report_only });
                continue;
            }
        };
        if within.contains(&name.as_str()) {
            faults.error(&place, format!("the fragment `{name}` includes itself"), "take it out of its own list");
        } else if let Some(policies) = fragments.get(name) {
            within.push(name);
            let place = Place::root().key("fragments").key(name);
            let fragment = Written { policies, place, name, shared: true, report_only };
            add(&fragment, name, within, fragments, faults, listed);
            within.pop();
        } else {
            faults.error(&place, format!("there is no fragment `{name}`"), defined(fragments.keys()));
        }
    }
}

fn defined<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none is defined".to_owned() } else { format!("defined are {}", names.join(", ")) }
}

/// Visits every policy of the list, and those of its fragments and branches.
pub(crate) fn each<'a>(
    policies: &'a [PolicyConfig],
    fragments: &'a Fragments,
    depth: usize,
    visit: &mut dyn FnMut(&'a PolicyConfig),
) {
    // Too deep a list is a fault of its own.
    if depth >= MAX_DEPTH * 2 {
        return;
    }
    for policy in policies {
        visit(policy);
        match policy {
            PolicyConfig::IncludeFragment(name) => {
                if let Some(policies) = fragments.get(name) {
                    each(policies, fragments, depth + 1, visit);
                }
            }
            PolicyConfig::AnyOf(lists) => lists.iter().for_each(|policies| each(policies, fragments, depth + 1, visit)),
            PolicyConfig::ReportOnly(policies) => each(policies, fragments, depth + 1, visit),
            PolicyConfig::Choose(branches) => {
                branches.iter().for_each(|branch| each(branch.policies(), fragments, depth + 1, visit));
            }
            _ => {}
        }
    }
}

/// Returns whether some policy of the list authenticates the caller, whatever path a request takes through it; those that are
/// report-only count, too.
pub(crate) fn authenticates(policies: &[PolicyConfig], fragments: &Fragments, depth: usize) -> bool {
    authenticates_by(policies, fragments, depth, &|_| true)
}

/// Does the same for policies whose refusals are enforced.
pub(crate) fn enforces_authentication(policies: &[PolicyConfig], fragments: &Fragments) -> bool {
    let enforced = |policy: &PolicyConfig| !policy.mode().is_report_only() && !matches!(policy, PolicyConfig::ReportOnly(_));
    authenticates_by(policies, fragments, 0, &enforced)
}

fn authenticates_by(
    policies: &[PolicyConfig],
    fragments: &Fragments,
    depth: usize,
    counts: &dyn Fn(&PolicyConfig) -> bool,
) -> bool {
    // Too deep a list is a fault of its own.
    depth < MAX_DEPTH * 2
        && policies.iter().filter(|policy| counts(policy)).any(|policy| match policy {
            PolicyConfig::IncludeFragment(name) => {
                fragments.get(name).is_some_and(|policies| authenticates_by(policies, fragments, depth + 1, counts))
            }
            PolicyConfig::ReportOnly(policies) => authenticates_by(policies, fragments, depth + 1, counts),
            PolicyConfig::AnyOf(lists) => {
                !lists.is_empty() && lists.iter().all(|policies| authenticates_by(policies, fragments, depth + 1, counts))
            }
            PolicyConfig::Choose(branches) => {
                branches.iter().any(|branch| branch.otherwise.is_some())
                    && branches.iter().all(|branch| ends(branch.policies(), fragments, depth, counts))
            }
            policy => policy.is(|settings| settings.authenticates()),
        })
}

/// Returns whether no request passes the list without authentication.
fn ends(policies: &[PolicyConfig], fragments: &Fragments, depth: usize, counts: &dyn Fn(&PolicyConfig) -> bool) -> bool {
    policies.iter().any(|policy| policy.is(|settings| settings.ends_request()))
        || authenticates_by(policies, fragments, depth + 1, counts)
}

/// Returns whether token policies together admit tokens of more than one tenant.
pub(crate) fn allows_several_tenants<'a>(policies: impl IntoIterator<Item = &'a PolicyConfig>, tenants: &Tenants) -> bool {
    let mut named: Option<&str> = None;
    for policy in policies {
        let PolicyConfig::ValidateAzureAdToken(policy) = policy else { continue };
        let many = tenants.get(&policy.tenant).is_some_and(|tenant| tenant.id().is_many());
        let one_listed = match &policy.allowed_tenants {
            Some(AllowedTenantsConfig::Word(word)) => word != "any",
            Some(AllowedTenantsConfig::List(list)) => matches!(list.as_slice(), [AllowedTenantConfig::Word(_)]),
            Some(AllowedTenantsConfig::File(_)) | None => false,
        };
        if (many && !one_listed) || named.is_some_and(|named| named != policy.tenant) {
            return true;
        }
        named = Some(&policy.tenant);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{inbound::testing::Building, settings::testing::part};

    fn policies(yaml: &str) -> Vec<PolicyConfig> {
        part(yaml)
    }

    fn built(policies: &[PolicyConfig], token: bool) -> Result<PolicyList, Vec<String>> {
        let building = Building { token, captures: &["person", "rest"], ..Building::default() };
        building.build(|place, context| {
            let list = PolicyList::build(
                &[Written { policies, place: place.clone(), name: "inbound", shared: false, report_only: false }],
                ListContext { fragments: &Fragments::new(), shared: &SharedPolicies::default(), depth: 0, report_only: false },
                context,
            );
            (!context.faults.any_error()).then_some(list)
        })
    }

    #[test]
    fn every_example_is_read_and_every_policy_has_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies");
        let mut seen = Vec::new();
        for file in folder.read_dir().expect("the folder of examples") {
            let path = file.expect("an entry").path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            let policies = policies(&std::fs::read_to_string(&path).expect("readable"));

            assert!(policies.iter().all(|policy| policy.name() == name), "{name}");
            // These name what only a whole config has; `entrada check` is tested on them.
            let of_a_config = [
                "validate-azure-ad-token",
                "validate-jwt",
                "validate-client-certificate",
                "check-partner",
                "validate-api-key",
                "set-backend-service",
                "set-status",
                "set-body",
                "any-of",
                "include-fragment",
                "report-only",
            ];
            if !of_a_config.contains(&&*name) {
                let list = built(&policies, true).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
                assert_eq!(list.iter().count(), policies.len());
            }
            seen.push(name);
        }
        let schema = schemars::schema_for!(PolicyConfig).to_value().to_string();
        for name in &seen {
            assert!(schema.contains(&format!("\"{name}\"")), "{name}");
        }
        assert!(seen.len() >= 15, "{seen:?}");
    }

    #[test]
    fn lists_within_lists_have_an_end() {
        let mut nested = policies("- authorize: { condition: \"@(true)\" }");
        for _ in 0..MAX_DEPTH {
            nested = vec![PolicyConfig::AnyOf(vec![nested.clone(), nested])];
        }

        let faults = built(&nested, false).expect_err("too deep");
        assert!(faults.iter().any(|fault| fault.contains("deep within each other")), "{faults:?}");
    }

    #[test]
    fn branches_are_what_they_should_be() {
        for (yaml, expected) in [
            ("- choose: []", "there is no branch"),
            ("- choose: [ { otherwise: [] } ]", "not the last branch"),
            ("- choose: [ { otherwise: [] }, { when: \"@(true)\", do: [] } ]", "not the last branch"),
            ("- choose: [ { when: \"@(true)\" } ]", "either `when` and `do`"),
            ("- choose: [ { when: \"true\", do: [] } ]", "is not an expression"),
            ("- any-of: []", "fewer than two"),
            ("- any-of: [ [], [ { check-header: { name: a } } ] ]", "the list is empty"),
            ("- include-fragment: nowhere", "no fragment `nowhere`"),
        ] {
            let faults = built(&policies(yaml), false).expect_err(yaml);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}");
        }
    }

    #[test]
    fn a_second_token_has_a_name_of_its_own() {
        let token = |more: &str| format!("validate-jwt: {{ issuer: idp, audiences: [orders]{more} }}");
        let (plain, device) = (token(""), token(", as: device"));
        let header = "set-header: { name: X-Device, value: \"@(device.client)\" }";
        let without = "nothing could tell the two tokens apart";
        for (yaml, expected) in [
            (format!("- {plain}\n- {device}\n- {header}"), None),
            (format!("- {device}\n- {header}"), None),
            (format!("- {plain}\n- {plain}"), Some(without)),
            (format!("- {device}\n- {plain}"), Some(without)),
            (format!("- {plain}\n- {device}\n- {device}"), Some("another token is called `device`")),
            (format!("- {}", token(", as: token")), Some("cannot be the name of a token")),
            (format!("- {header}\n- {device}"), Some("nothing is called `device`")),
            // Alternatives are no second ones, and what follows them knows the names of all.
            (format!("- any-of: [ [ {{ {plain} }} ], [ {{ {plain} }} ] ]"), None),
            (format!("- any-of: [ [ {{ {device} }} ], [ {{ {plain} }}, {{ {device} }} ] ]\n- {header}"), None),
            (format!("- any-of: [ [ {{ {plain} }} ], [ {{ check-header: {{ name: a }} }} ] ]\n- {plain}"), Some(without)),
            (format!("- choose: [ {{ when: \"@(true)\", do: [ {{ {plain} }} ] }}, {{ otherwise: [ {{ {plain} }} ] }} ]"), None),
            (format!("- choose: [ {{ when: \"@(true)\", do: [ {{ {plain} }} ] }} ]\n- {plain}"), Some(without)),
        ] {
            // The issuer is one of a whole config; here only what concerns the names is looked at.
            let faults = built(&policies(&yaml), false).err().unwrap_or_default();
            let faults: Vec<_> = faults.into_iter().filter(|fault| !fault.contains("no issuer")).collect();
            match expected {
                None => assert!(faults.is_empty(), "{yaml}: {faults:?}"),
                Some(expected) => assert!(faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}"),
            }
        }
    }

    #[test]
    fn a_route_authenticates_only_if_every_way_through_it_does() {
        let token = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }";
        let open = "check-header: { name: X-Door }";
        let fragments = Fragments::from([
            ("staff".to_owned(), policies(&format!("- {token}"))),
            ("loop".to_owned(), policies("- include-fragment: loop")),
        ]);
        for (yaml, expected) in [
            (format!("- {token}"), true),
            (format!("- {open}"), false),
            ("- validate-client-certificate: {}".to_owned(), true),
            ("- include-fragment: staff".to_owned(), true),
            ("- include-fragment: loop".to_owned(), false),
            ("- include-fragment: nowhere".to_owned(), false),
            (format!("- any-of: [ [ {{ {token} }} ], [ {{ {open} }}, {{ include-fragment: staff }} ] ]"), true),
            (format!("- any-of: [ [ {{ {token} }} ], [ {{ {open} }} ] ]"), false),
            (format!("- choose: [ {{ when: \"@(true)\", do: [ {{ {token} }} ] }} ]"), false),
            (format!("- choose: [ {{ when: \"@(true)\", do: [ {{ {token} }} ] }}, {{ otherwise: [ {{ {open} }} ] }} ]"), false),
            (format!("- choose: [ {{ when: \"@(true)\", do: [ {{ {token} }} ] }}, {{ otherwise: [ {{ {token} }} ] }} ]"), true),
            (
                format!(
                    "- choose: [ {{ when: \"@(true)\", do: [ {{ {token} }} ] }}, {{ otherwise: [ {{ return-response: {{}} }} ] }} ]"
                ),
                true,
            ),
            (
                "- choose: [ { when: \"@(true)\", do: [ { return-response: {} } ] }, { otherwise: [ { return-response: {} } ] } ]".to_owned(),
                true,
            ),
        ] {
            assert_eq!(authenticates(&policies(&yaml), &fragments, 0), expected, "{yaml}");
        }
    }

    #[test]
    fn token_policies_of_several_tenants_are_noticed() {
        let tenants = "{ contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee }, fabrikam: { id: bbbbcccc-0000-cccc-1111-dddd2222eeee }, any: { id: organizations } }";
        let tenants = Tenants::build(&part(tenants), None, &Place::root(), &mut Faults::default());
        let token = |rest: &str| format!("{{ validate-azure-ad-token: {{ audiences: [a], {rest} }} }}");
        for (policies, expected) in [
            (&[token("tenant: contoso")][..], false),
            (&[token("tenant: contoso"), token("tenant: contoso")], false),
            (&[token("tenant: contoso"), token("tenant: fabrikam")], true),
            (&[token("tenant: any, allowed-tenants: any")], true),
            (&[token("tenant: any, allowed-tenants: [contoso]")], false),
            (&[token("tenant: any, allowed-tenants: contoso")], false),
            (&[token("tenant: any, allowed-tenants: [contoso, fabrikam]")], true),
            (&[token("tenant: any, allowed-tenants: { file: tenants.txt }")], true),
            (&[token("tenant: any, allowed-tenants: [{ file: tenants.txt }]")], true),
            (&[], false),
        ] {
            let policies: Vec<PolicyConfig> = policies.iter().map(|yaml| part(yaml)).collect();
            assert_eq!(allows_several_tenants(&policies, &tenants), expected, "{policies:?}");
        }
    }
}

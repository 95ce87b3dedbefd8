//! The token policies of a list of policies, and what their place in it says about them.

use super::{
    PolicyConfig,
    credential_names::CredentialNames,
    list::{self, Fragments, MAX_DEPTH},
    validate_azure_ad_token::ValidateAzureAdTokenConfig,
    validate_jwt::ValidateJwtConfig,
};

/// Collects the names under which policies of these lists expect callers' credentials.
pub(crate) fn credential_names<'a>(
    lists: impl IntoIterator<Item = &'a [PolicyConfig]>,
    fragments: &'a Fragments,
) -> CredentialNames {
    let mut names = CredentialNames::default();
    for list in lists {
        list::each(list, fragments, 0, &mut |policy| match policy {
            PolicyConfig::ValidateAzureAdToken(policy) => {
                names.add(policy.header_name.as_ref(), policy.query_parameter_name.as_ref());
            }
            PolicyConfig::ValidateJwt(policy) => names.add(policy.header_name.as_ref(), policy.query_parameter_name.as_ref()),
            PolicyConfig::ValidateApiKey(policy) => names.add(policy.header_name.as_ref(), policy.query_parameter_name.as_ref()),
            _ => {}
        });
    }
    names
}

/// A policy for tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenPolicy<'a> {
    /// For tokens of Entra.
    Entra {
        config: &'a ValidateAzureAdTokenConfig,
        /// True if a check of partners decides about applications that were granted nothing.
        before_partner_check: bool,
    },
    /// For another issuer's.
    Issuer(&'a ValidateJwtConfig),
}

/// Returns the token policies of lists that run one after the other, as [`PolicyList::build`](super::list::PolicyList::build) would
/// build them: a check counts for the policies before it in its list, and for the lists within these. It looks at the first token
/// alone.
pub(crate) fn token_policies<'a>(lists: &[&'a [PolicyConfig]], fragments: &'a Fragments) -> Vec<TokenPolicy<'a>> {
    let mut walk = Walk { fragments, found: Vec::new(), has_token: false };
    walk.list(lists, false, 0);
    walk.found
}

struct Walk<'a> {
    fragments: &'a Fragments,
    found: Vec<TokenPolicy<'a>>,
    /// True if a token policy may have succeeded before.
    has_token: bool,
}

impl<'a> Walk<'a> {
    fn list(&mut self, lists: &[&'a [PolicyConfig]], outer: bool, depth: usize) {
        // Too deep a list is a fault of its own.
        if depth >= MAX_DEPTH {
            return;
        }
        let mut listed = Vec::new();
        lists.iter().for_each(|list| self.add(list, 0, &mut listed));
        let checks = |policy: &&PolicyConfig| matches!(policy, PolicyConfig::CheckPartner(_)) && !policy.mode().is_report_only();
        let last_check = listed.iter().rposition(checks);
        for (index, policy) in listed.into_iter().enumerate() {
            let follows = outer || last_check.is_some_and(|last| index < last);
            match policy {
                PolicyConfig::ValidateAzureAdToken(config) => {
                    let before_partner_check = follows && !self.has_token;
                    self.found.push(TokenPolicy::Entra { config, before_partner_check });
                    self.has_token = true;
                }
                PolicyConfig::ValidateJwt(config) => {
                    self.found.push(TokenPolicy::Issuer(config));
                    self.has_token = true;
                }
                PolicyConfig::AnyOf(lists) => {
                    self.alternatives(lists.iter().map(Vec::as_slice), follows, depth);
                }
                PolicyConfig::Choose(branches) => {
                    self.alternatives(branches.iter().map(|branch| branch.policies()), follows, depth);
                }
                _ => {}
            }
        }
    }

    /// Visits lists of which one runs.
    fn alternatives(&mut self, lists: impl Iterator<Item = &'a [PolicyConfig]>, outer: bool, depth: usize) {
        let (before, mut after) = (self.has_token, self.has_token);
        for list in lists {
            self.has_token = before;
            self.list(&[list], outer, depth + 1);
            after |= self.has_token;
        }
        self.has_token = after;
    }

    /// Lists the entries of one list, with the entries of fragments in place of their includes.
    fn add(&self, list: &'a [PolicyConfig], within: usize, listed: &mut Vec<&'a PolicyConfig>) {
        for policy in list {
            match policy {
                // A fragment that includes itself is a fault of its own.
                PolicyConfig::IncludeFragment(name) if within < MAX_DEPTH => {
                    let policies = self.fragments.get(name).map(Vec::as_slice).unwrap_or_default();
                    self.add(policies, within + 1, listed);
                }
                PolicyConfig::ReportOnly(policies) if within < MAX_DEPTH => self.add(policies, within + 1, listed),
                policy => listed.push(policy),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::part;

    #[test]
    fn a_check_of_partners_counts_where_it_follows() {
        let token = |tenant: &str| format!("{{ validate-azure-ad-token: {{ tenant: {tenant}, audiences: [api://orders] }} }}");
        let (a, b, check) = (token("a"), token("b"), "{ check-partner: {} }");
        let named = "{ validate-azure-ad-token: { tenant: b, audiences: [api://orders], as: device } }";
        let jwt = "{ validate-jwt: { issuer: build, audiences: [api://orders] } }";
        let fragments: Fragments = part(&format!("checked: [ {b}, {check} ]"));
        let told = |policy: &TokenPolicy<'_>| match policy {
            TokenPolicy::Entra { config, before_partner_check } => (config.tenant.clone(), *before_partner_check),
            TokenPolicy::Issuer(config) => (config.issuer.clone(), false),
        };
        for (yaml, expected) in [
            (format!("[ {a} ]"), &[("a", false)][..]),
            (format!("[ {a}, {check} ]"), &[("a", true)]),
            (format!("[ {check}, {a} ]"), &[("a", false)]),
            (format!("[ {{ any-of: [ [ {a}, {check} ], [ {b} ] ] }} ]"), &[("a", true), ("b", false)]),
            (format!("[ {{ any-of: [ [ {a} ], [ {b} ] ] }}, {check} ]"), &[("a", true), ("b", true)]),
            (format!("[ {{ any-of: [ [ {a} ], [ {{ include-fragment: checked }} ] ] }} ]"), &[("a", false), ("b", true)]),
            (format!("[ {a}, {named}, {check} ]"), &[("a", true), ("b", false)]),
            (format!("[ {{ any-of: [ [ {jwt} ], [ {a} ] ] }}, {check} ]"), &[("build", false), ("a", true)]),
            (format!("[ {jwt}, {named}, {check} ]"), &[("build", false), ("b", false)]),
            (
                format!("[ {{ choose: [ {{ when: \"@(true)\", do: [ {a} ] }}, {{ otherwise: [ {b}, {check} ] }} ] }} ]"),
                &[("a", false), ("b", true)],
            ),
        ] {
            let policies: Vec<PolicyConfig> = part(&yaml);
            let found = token_policies(&[&policies], &fragments);
            let found: Vec<_> = found.iter().map(told).collect();
            let expected: Vec<_> = expected.iter().map(|(name, follows)| ((*name).to_owned(), *follows)).collect();
            assert_eq!(found, expected, "{yaml}");
        }
        // The route's own list follows the one of all routes.
        let (global, own): (Vec<PolicyConfig>, Vec<PolicyConfig>) = (part(&format!("[ {a} ]")), part(&format!("[ {check} ]")));
        assert!(told(&token_policies(&[&global, &own], &fragments)[0]).1);
    }
}

//! The settings of a policy entry, found by its place in the config.

use crate::{config::Config, inbound::PolicyConfig, settings::Place};

/// Returns the policy at a place such as `/routes/0/inbound/2/any-of/0/1/ip-filter`.
pub(crate) fn policy_at<'c>(config: &'c Config, place: &Place) -> Option<&'c PolicyConfig> {
    let mut parts = place.pointer().split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    let mut list: &[PolicyConfig] = match parts.next()?.as_str() {
        "inbound" => &config.inbound,
        "fragments" => config.fragments.get(&parts.next()?)?,
        "routes" => {
            let route = config.routes.get(parts.next()?.parse::<usize>().ok()?)?;
            (parts.next()? == "inbound").then_some(&route.inbound)?
        }
        _ => return None,
    };
    let mut index = parts.next()?.parse::<usize>().ok()?;
    loop {
        let policy = list.get(index)?;
        (parts.next()? == policy.name()).then_some(())?;
        let Some(within) = parts.next().and_then(|index| index.parse::<usize>().ok()) else { return Some(policy) };
        list = match policy {
            PolicyConfig::ReportOnly(policies) => {
                (list, index) = (policies, within);
                continue;
            }
            PolicyConfig::AnyOf(lists) => lists.get(within)?,
            PolicyConfig::Choose(branches) => {
                parts.next()?;
                branches.get(within)?.policies()
            }
            _ => return Some(policy),
        };
        index = parts.next()?.parse().ok()?;
    }
}

/// Returns the name of the policy in an entry such as `inbound[1].any-of[0][2].ip-filter`.
pub(crate) fn policy_name(at: &str) -> &str {
    at.rsplit('.').next().unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing::part;

    #[test]
    fn every_entry_is_found_at_its_place() {
        let config: Config = part(
            "
inbound: [ { ip-filter: { action: forbid, addresses: [192.0.2.1] } } ]
fragments: { staff: [ { check-header: { name: x-staff } } ] }
routes:
  - name: a
    match: { path: / }
    inbound:
      - any-of: [ [ { check-header: { name: x-one } } ], [ { choose: [ { when: \"@(true)\", do: [ { check-header: { name: x-two } } ] } ] } ] ]
    respond: { status: 200 }
",
        );
        let name = |pointer: &str| match policy_at(&config, &Place::from(pointer.to_owned())) {
            Some(PolicyConfig::CheckHeader(header)) => header.name.clone(),
            Some(policy) => policy.name().to_owned(),
            None => "nothing".to_owned(),
        };
        for (pointer, expected) in [
            ("/inbound/0/ip-filter", "ip-filter"),
            ("/fragments/staff/0/check-header", "x-staff"),
            ("/routes/0/inbound/0/any-of", "any-of"),
            ("/routes/0/inbound/0/any-of/0/0/check-header", "x-one"),
            ("/routes/0/inbound/0/any-of/1/0/choose/0/do/0/check-header", "x-two"),
            ("/routes/0/inbound/7/any-of", "nothing"),
            ("/routes/0/outbound/0/set-header", "nothing"),
            ("/upstreams/a", "nothing"),
        ] {
            assert_eq!(name(pointer), expected, "{pointer}");
        }
    }
}

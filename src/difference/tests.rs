//! The comparison of two configs, by what its users must not be surprised by.

use super::{Change, Difference, Options, Side, difference};
use crate::config::Document;

/// A time before all dates of these configs: 2027-03-01T09:00:00Z.
pub(super) const NOW: u64 = 1_803_891_600;

/// The parts that all configs share.
const COMMON: &str = "
listeners: [ { name: public, address: 127.0.0.1:8443 } ]
tenants: { contoso: { id: 10000000-0000-4000-8000-000000000001 }, fabrikam: { id: 30000000-0000-4000-8000-000000000003 } }
upstreams: { orders: { servers: [ \"http://10.0.0.5:8080\" ] }, reports: { servers: [ \"http://10.0.0.6:8080\" ] } }
";

/// A token policy of the tests.
pub(super) const TOKEN: &str =
    "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], roles: [Orders.Read.All] }";

pub(super) fn side(name: &str, text: &str) -> Side {
    let text = if text.contains("listeners:") { text.to_owned() } else { format!("{COMMON}{text}") };
    let (document, nodes) =
        Document::from_text_with_values(name, &text, &|_| None).unwrap_or_else(|report| panic!("{report}\n{text}"));
    Side::new(&document, &nodes, NOW).unwrap_or_else(|fault| match fault {
        crate::offline::OfflineFault::Config(report) => panic!("{report}\n{text}"),
        fault @ crate::offline::OfflineFault::Keys(_) => panic!("{fault:?}"),
    })
}

/// Compares two configs, and checks that each witness differs when it is judged again.
fn compare(old: &str, new: &str) -> Difference {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let within = runtime.enter();
    let (old, new) = (side("old.yaml", old), side("new.yaml", new));
    drop(within);
    let found = runtime.block_on(difference([&old, &new], &Options::default()));
    for group in &found.groups {
        let served = [&group.before, &group.after].map(|verdict| verdict.to.is_some());
        assert_eq!(served, [group.change == Change::Loss, group.change == Change::Gain], "{group:?}");
    }
    found
}

fn changes(found: &Difference) -> Vec<(&'static str, String, Option<String>, Option<String>)> {
    let one =
        |group: &super::Group| (group.change.as_str(), group.where_it_is(), group.before.code.clone(), group.after.code.clone());
    found.groups.iter().map(one).collect()
}

fn routes(list: &[(&str, &str, &str)]) -> String {
    let mut text = "routes:\n".to_owned();
    for (name, matches, inbound) in list {
        text += &format!("  - {{ name: {name}, match: {{ {matches} }}, upstream: orders, inbound: [ {inbound} ] }}\n");
    }
    text
}

fn code(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn the_same_rules_admit_the_same_callers_whatever_they_are_called() {
    let old = routes(&[("orders", "path: /orders", TOKEN), ("other", "path: /other", TOKEN)]);
    let renamed = routes(&[("o", "path: /orders", TOKEN), ("other", "path: /other", TOKEN)]);
    let fragment = format!("fragments: {{ staff: [ {TOKEN} ] }}\n")
        + &routes(&[("orders", "path: /orders", "include-fragment: staff"), ("other", "path: /other", TOKEN)]);
    for new in [&old, &renamed, &fragment] {
        let found = compare(&old, new);
        assert!(found.is_same_access() && found.treatment.is_empty(), "{}", found.to_text());
    }
}

#[test]
fn a_role_more_is_a_gain_of_its_callers_alone() {
    let old = routes(&[("orders", "path: /orders", TOKEN)]);
    let new = old.replace("[Orders.Read.All]", "[Orders.Read.All, Orders.Write.All]");
    let found = compare(&old, &new);
    assert_eq!(changes(&found), [("gain", "orders: all methods".to_owned(), code("role-missing"), None)], "{}", found.to_text());
    let group = &found.groups[0];
    assert_eq!(group.tokens.len(), 1);
    assert!(
        group.tokens[0].starts_with("applications") && group.tokens[0].contains("role Orders.Write.All"),
        "{:?}",
        group.tokens
    );
    assert!(group.places.iter().any(|place| place.what == "roles: + Orders.Write.All"), "{:?}", group.places);
    assert!(found.complete && found.unknown.is_empty());
    // The other way round it is a loss.
    assert_eq!(changes(&compare(&new, &old)), [("loss", "orders: all methods".to_owned(), None, code("role-missing"))]);
}

#[test]
fn a_role_more_is_a_gain_also_where_the_backend_learns_the_object_id() {
    for value in ["token.claims.oid", "token.subject + token.claims.oid"] {
        let inbound = format!("{TOKEN}, {{ set-header: {{ name: X-Remote-User, value: '@({value})' }} }}");
        let old = routes(&[("orders", "path: /orders", &inbound)]);
        let new = old.replace("[Orders.Read.All]", "[Orders.Read.All, Orders.Write.All]");

        let found = compare(&old, &new);

        assert_eq!(
            changes(&found),
            [("gain", "orders: all methods".to_owned(), code("role-missing"), None)],
            "{}",
            found.to_text()
        );
        assert!(found.unknown.is_empty(), "{}", found.to_text());
    }
}

#[test]
fn a_group_says_of_a_condition_what_its_request_does() {
    let inbound = format!("{TOKEN}, {{ authorize: {{ condition: '@(captures.account == lower(token.claims.account))' }} }}");
    let old = routes(&[("orders", "path: '/orders/{account}', methods: [GET]", &inbound)]);
    let new = old.replace("[GET]", "[GET, PUT]");

    let found = compare(&old, &new);

    assert_eq!(changes(&found), [("gain", "orders: PUT".to_owned(), code("method-not-allowed"), None)], "{}", found.to_text());
    assert!(found.groups[0].condition.iter().all(|condition| condition.value), "{:?}", found.groups[0].condition);
}

/// A condition that compares two facts is met by making them alike.
#[test]
fn facts_that_are_compared_with_each_other_are_made_alike() {
    for condition in [
        "captures.customer == token.claims.customer",
        "upper(captures.customer) == token.claims.customer",
        "token.claims.customer == request.headers['x-customer']",
        "token.claims.address == caller.address",
        "captures.customer == token.claims.customer && request.headers['x-team'] == token.claims.team",
        "token.claims.customer.startsWith(captures.customer)",
    ] {
        let inbound = format!("{TOKEN}, {{ authorize: {{ condition: \"@({condition})\" }} }}");
        let old = routes(&[("orders", "path: '/customers/{customer}/orders', methods: [GET]", &inbound)]);
        let new = old.replace("[GET]", "[GET, PUT]");

        let found = compare(&old, &new);

        let told = found.to_text();
        assert_eq!(
            changes(&found),
            [("gain", "orders: PUT".to_owned(), code("method-not-allowed"), None)],
            "{condition}\n{told}"
        );
        assert!(found.unknown.is_empty(), "{told}");
    }
}

/// Where no request is found, the condition is named, and not the route that it belongs to.
#[test]
fn an_unknown_is_told_at_the_condition() {
    let inbound = format!("{TOKEN},\n      {{ authorize: {{ condition: '@(size(token.claims.customer) == 77)' }} }}");
    let old = COMMON.to_owned() + &routes(&[("orders", "path: /orders, methods: [GET]", &inbound)]);

    let found = compare(&old, &old.replace("[GET]", "[GET, PUT]"));

    assert!(found.groups.is_empty() && found.unknown.len() == 1, "{}", found.to_text());
    let line = old.lines().position(|line| line.contains("size(token")).map_or(0, |line| line + 1);
    assert!(found.unknown[0].place.ends_with(&format!(":{line}")), "{line}: {}", found.to_text());
}

#[test]
fn methods_that_a_route_names_are_told() {
    let old = routes(&[("orders", "path: /orders, methods: [GET]", TOKEN)]);
    let new = old.replace("[Orders.Read.All]", "[Orders.Read.All, Orders.Write.All]");

    assert_eq!(changes(&compare(&old, &new)), [("gain", "orders: GET, HEAD".to_owned(), code("role-missing"), None)]);
}

#[test]
fn a_wider_address_set_is_a_gain_of_just_these_addresses() {
    let old = "address-sets: { offices: [203.0.113.0/24, 198.51.100.10-198.51.100.40] }\n".to_owned()
        + &routes(&[(
            "reports",
            "path: /reports",
            &format!("{{ ip-filter: {{ action: allow, addresses: [offices] }} }}, {TOKEN}"),
        )]);
    let new = old.replace("198.51.100.10-198.51.100.40", "198.51.100.0/24");
    let found = compare(&old, &new);
    assert_eq!(changes(&found).len(), 1, "{}", found.to_text());
    let group = &found.groups[0];
    assert_eq!(group.callers.addresses, ["198.51.100.0-198.51.100.9", "198.51.100.41-198.51.100.255"]);
    assert_eq!((group.callers.count, group.before.code.clone()), (225, code("caller-address-not-allowed")));
    assert!(group.places[0].what.starts_with("offices: + 198.51.100.0/24"), "{:?}", group.places);
}

mod traps;

#[test]
fn limits_that_differ_are_told_with_their_figures() {
    let of = |name: &str, policies: &str| routes(&[(name, "path: /a", &format!("{{ {TOKEN} }}, {policies}"))]);
    let rate =
        |calls: u32, key: &str| format!("{{ rate-limit-by-key: {{ calls: {calls}, renewal-period: 60s, counter-key: {key} }} }}");
    let quota = "{ quota-by-key: { calls: 9, bandwidth: 1KiB, renewal-period: 1h, counter-key: k } }";
    for (old, new, expected) in [
        (of("a", &rate(5, "k")), of("a", &rate(50, "k")), &["rate-limit-by-key of route a: 5 in 60 s → 50 in 60 s"][..]),
        (
            of("a", &rate(5, "k")),
            of("a", &rate(5, "l")),
            &["rate-limit-by-key of route a: 5 in 60 s as before, otherwise counted"],
        ),
        (of("a", &rate(5, "k")), of("b", &rate(5, "k")), &[]),
        (
            of("a", &rate(5, "k")),
            of("a", quota),
            &[
                "quota-by-key of route a: none → 9 calls and 1024 bytes in 3600 s",
                "rate-limit-by-key of route a: 5 in 60 s → none",
            ],
        ),
    ] {
        let found = compare(&old, &new);
        assert_eq!(found.not_compared, expected, "{}", found.to_text());
    }
}

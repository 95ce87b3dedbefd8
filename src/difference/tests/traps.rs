//! Changes that are easily missed when rules are compared by reading them: each with what has to be told of it.

use super::{TOKEN, changes, code, compare, routes};

const WITHOUT: &str = "check-header: { name: x-gate, values: [open] }";

fn anonymous(list: &[(&str, &str, &str)]) -> String {
    routes(list).replace("upstream: orders", "anonymous: true, upstream: orders")
}

#[test]
fn a_removed_route_hands_its_paths_to_a_shorter_prefix() {
    let both = routes(&[("all", "path: /", TOKEN), ("admin", "path: /admin", &format!("{{ {TOKEN} }}, {{ {WITHOUT} }}"))]);
    let one = routes(&[("all", "path: /", TOKEN)]);
    let found = compare(&both, &one);
    let gains: Vec<_> = changes(&found).into_iter().filter(|(change, ..)| *change == "gain").collect();
    assert_eq!(gains.len(), 1, "{}", found.to_text());
    assert_eq!((gains[0].1.as_str(), gains[0].2.clone()), ("all: all methods", code("header-check-failed")));
    // A longer path takes callers away again.
    let back = compare(&one, &both);
    assert_eq!(
        changes(&back),
        [("loss", "all: all methods".to_owned(), None, code("header-check-failed"))],
        "{}",
        back.to_text()
    );
}

#[test]
fn an_exact_host_takes_callers_from_the_routes_without_hosts() {
    let old = routes(&[("any", "path: /", TOKEN)]);
    let new = routes(&[("any", "path: /", TOKEN), ("api", "hosts: [api.contoso.example], path: /orders", TOKEN)]);
    let found = compare(&old, &new);
    assert_eq!(changes(&found), [("loss", "any: all methods".to_owned(), None, code("no-route"))], "{}", found.to_text());
    assert_eq!(found.groups[0].hosts, ["api.contoso.example"]);
}

#[test]
fn not_found_and_method_not_allowed_are_both_refusals_and_told_apart() {
    let old = routes(&[("orders", "path: /orders, methods: [GET]", TOKEN)]);
    let new = routes(&[("orders", "path: /orders, methods: [POST]", TOKEN)]);
    let found = compare(&old, &new);
    let kinds: Vec<_> = changes(&found).into_iter().map(|(change, at, before, after)| (change, at, before.or(after))).collect();
    assert_eq!(
        kinds,
        [
            ("gain", "orders: POST".to_owned(), code("method-not-allowed")),
            ("loss", "orders: GET, HEAD".to_owned(), code("method-not-allowed"))
        ],
        "{}",
        found.to_text()
    );
    let nothing = compare(&old, &routes(&[("other", "path: /other, methods: [GET]", TOKEN)]));
    assert!(
        nothing
            .treatment
            .iter()
            .any(|treatment| treatment.before == "refused: 405 method-not-allowed" && treatment.after == "refused: 404 no-route"),
        "{}",
        nothing.to_text()
    );
}

#[test]
fn get_brings_head() {
    let old = routes(&[("orders", "path: /orders, methods: [POST]", TOKEN)]);
    let found = compare(&old, &routes(&[("orders", "path: /orders, methods: [POST, GET]", TOKEN)]));
    assert_eq!(found.groups.len(), 1, "{}", found.to_text());
    assert_eq!(found.groups[0].methods, ["GET", "HEAD"]);
}

#[test]
fn the_global_list_changes_every_cell() {
    let old = routes(&[("a", "path: /a", TOKEN), ("b", "path: /b", TOKEN)]);
    let new = format!("inbound: [ {{ ip-filter: {{ action: forbid, addresses: [192.0.2.0/24] }} }} ]\n{old}");
    let found = compare(&old, &new);
    assert_eq!(found.groups.len(), 1, "{}", found.to_text());
    let group = &found.groups[0];
    assert_eq!((group.change.as_str(), &*group.routes), ("loss", &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!((&*group.callers.addresses, group.callers.count), (&["192.0.2.0/24".to_owned()][..], 256));
    assert_eq!(found.routes.same, Some(0));
}

#[test]
fn the_order_of_alternatives_decides_whose_token_it_is() {
    let user = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }";
    let device = "validate-azure-ad-token: { tenant: contoso, audiences: [api://devices], roles: [Device], header-name: X-Device, as: device }";
    let route = |first: &str, second: &str| {
        routes(&[(
            "orders",
            "path: /orders",
            &format!(
                "{{ any-of: [ [ {first} ], [ {second} ] ] }}, {{ set-header: {{ name: x-caller, value: '@(\"Device\" in token.roles ? \"device\" : \"person\")' }} }}"
            ),
        )])
    };
    let found = compare(&route(user, device), &route(device, user));
    // Whoever has both tokens is admitted either way, and told of otherwise.
    assert!(found.groups.is_empty() && found.unknown.is_empty(), "{}", found.to_text());
    assert!(found.treatment.iter().any(|treatment| treatment.what == "header x-caller"), "{}", found.to_text());
}

#[test]
fn the_order_of_branches_decides_which_rules_apply() {
    let branch = |path: &str, inner: &str| format!("{{ when: '@(request.path.startsWith(\"{path}\"))', do: [ {inner} ] }}");
    let (narrow, wide) = (branch("/orders/admin", WITHOUT), branch("/orders", "check-header: { name: x-any }"));
    let list = |first: &str, second: &str| {
        routes(&[("orders", "path: /orders", &format!("{{ {TOKEN} }}, {{ choose: [ {first}, {second} ] }}"))])
    };
    let found = compare(&list(&narrow, &wide), &list(&wide, &narrow));
    // With `x-any` alone one gets in that did not, with `x-gate` alone one does not any more.
    let kinds: Vec<_> = changes(&found).into_iter().map(|(change, ..)| change).collect();
    assert_eq!(kinds, ["gain", "loss"], "{}", found.to_text());
    assert!(
        found.groups.iter().flat_map(|group| &group.paths).all(|path| path.starts_with("/orders/admin")),
        "{}",
        found.to_text()
    );
}

#[test]
fn a_mapped_address_is_the_ipv4_one() {
    let list = |entry: &str| {
        routes(&[("a", "path: /a", &format!("{{ ip-filter: {{ action: allow, addresses: [\"{entry}\"] }} }}, {{ {TOKEN} }}"))])
    };
    let found = compare(&list("192.0.2.0/24"), &list("::ffff:192.0.2.0/120"));
    assert!(found.is_same_access() && found.treatment.is_empty(), "{}", found.to_text());
}

#[test]
fn a_set_that_is_a_file_is_what_the_file_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let of = |path: &str| {
        format!("address-sets: {{ offices: {{ file: {path} }} }}\n")
            + &routes(&[("a", "path: /a", &format!("{{ ip-filter: {{ action: allow, addresses: [offices] }} }}, {{ {TOKEN} }}"))])
    };
    let (old, same) = (file("old.txt", "192.0.2.0/25\n"), file("same.txt", "# the same\n192.0.2.0-192.0.2.127\n"));
    let more = file("more.txt", "192.0.2.0/24\n");
    assert!(compare(&of(&old), &of(&same)).groups.is_empty());
    let found = compare(&of(&old), &of(&more));
    assert_eq!(found.groups.len(), 1, "{}", found.to_text());
    assert_eq!(found.groups[0].callers.addresses, ["192.0.2.128/25"]);
    // Microsoft's list likewise: its change number is no change, and a prefix more is one.
    let tags = |name: &str, number: u32, prefixes: &str| {
        let properties = format!("{{ \"addressPrefixes\": [{prefixes}] }}");
        let list =
            format!("{{ \"changeNumber\": {number}, \"values\": [{{ \"name\": \"Of.Ours\", \"properties\": {properties} }}] }}");
        file(name, &list)
    };
    let listed = |path: &str| of(path).replace("{ file: ", "{ tags: [Of.Ours], service-tags: ");
    let (old, same) = (tags("1.json", 1, "\"192.0.2.0/25\""), tags("2.json", 2, "\"192.0.2.0/25\""));
    let more = tags("3.json", 3, "\"192.0.2.0/25\", \"192.0.2.128/25\"");
    assert!(compare(&listed(&old), &listed(&same)).groups.is_empty());
    let found = compare(&listed(&old), &listed(&more));
    assert_eq!(found.groups.len(), 1, "{}", found.to_text());
    assert_eq!(found.groups[0].callers.addresses, ["192.0.2.128/25"]);
}

#[test]
fn an_entry_that_expires_later_admits_until_then() {
    let list = |entry: &str| {
        routes(&[(
            "a",
            "path: /a",
            &format!("{{ ip-filter: {{ action: allow, addresses: [203.0.113.0/24, {entry}] }} }}, {{ {TOKEN} }}"),
        )])
    };
    let found = compare(&list("{ address: 192.0.2.1, expires: 2027-04-01 }"), &list("192.0.2.1"));
    assert_eq!(
        changes(&found),
        [("gain", "a: all methods".to_owned(), code("caller-address-not-allowed"), None)],
        "{}",
        found.to_text()
    );
    assert_eq!(found.groups[0].from.as_deref(), Some("2027-04-02 00:00:00Z"));
}

#[test]
fn a_route_that_asks_nobody_admits_everybody() {
    let (with, without) = (routes(&[("a", "path: /a", TOKEN)]), anonymous(&[("a", "path: /a", "")]));
    let found = compare(&with, &without);
    assert!(found.groups.iter().all(|group| group.change.as_str() == "gain"), "{}", found.to_text());
    assert!(
        found.groups.iter().any(|group| group.before.code.as_deref() == Some("token-missing") && group.tokens == ["no token"]),
        "{}",
        found.to_text()
    );
    let back = compare(&without, &with);
    assert!(!back.groups.is_empty() && back.groups.iter().all(|group| group.change.as_str() == "loss"), "{}", back.to_text());
}

#[test]
fn a_trusted_proxy_lets_its_header_say_who_calls() {
    let config = |trusted: &str| {
        format!(
            "listeners: [ {{ name: public, address: 127.0.0.1:8443{trusted} }} ]
tenants: {{ contoso: {{ id: 10000000-0000-4000-8000-000000000001 }} }}
upstreams: {{ orders: {{ servers: [ \"http://10.0.0.5:8080\" ] }} }}
"
        ) + &routes(&[(
            "a",
            "path: /a",
            &format!("{{ ip-filter: {{ action: allow, addresses: [203.0.113.0/24] }} }}, {{ {TOKEN} }}"),
        )])
    };
    let found = compare(&config(""), &config(", trusted-proxies: [192.0.2.7]"));
    assert_eq!(
        changes(&found),
        [("gain", "a: all methods".to_owned(), code("caller-address-not-allowed"), None)],
        "{}",
        found.to_text()
    );
    assert!(found.groups[0].places[0].what.contains("sees another caller behind 192.0.2.7"), "{:?}", found.groups[0].places);
    let request = &found.groups[0].witness.request;
    assert_eq!((request["from"].as_str(), request["caller"].as_str()), (Some("192.0.2.7"), Some("203.0.113.1")));
}

#[test]
fn a_policy_that_only_reports_admits_whom_it_refused() {
    let list = |mode: &str| {
        routes(&[(
            "a",
            "path: /a",
            &format!("{{ {TOKEN} }}, {{ ip-filter: {{ action: allow, addresses: [203.0.113.0/24]{mode} }} }}"),
        )])
    };
    let found = compare(&list(""), &list(", mode: report-only"));
    assert_eq!(
        changes(&found),
        [("gain", "a: all methods".to_owned(), code("caller-address-not-allowed"), None)],
        "{}",
        found.to_text()
    );
    assert!(
        found.groups[0].places.iter().any(|place| place.what == "its refusals are only reported"),
        "{:?}",
        found.groups[0].places
    );
    let back = compare(&list(", mode: report-only"), &list(""));
    assert_eq!(changes(&back)[0].0, "loss");
}

#[test]
fn a_header_made_from_a_token_elsewhere_is_reserved_here() {
    let list = |other: &str| routes(&[("a", "path: /a", TOKEN), ("b", "path: /b", &format!("{{ {TOKEN} }}{other}"))]);
    let made = ", { set-header: { name: x-user, value: \"@(token.subject)\" } }";
    let found = compare(&list(""), &list(made));
    assert!(found.groups.is_empty(), "treatment, and not access: {}", found.to_text());
    assert!(
        found.treatment.iter().any(|treatment| treatment.what == "header x-user" && treatment.after == "a caller's is removed"),
        "{}",
        found.to_text()
    );
}

#[test]
fn preflights_are_answered_before_the_token_policy() {
    let cors = "cors: { allowed-origins: [\"https://app.contoso.example\"], allowed-methods: [GET] }";
    let list = |inbound: String| routes(&[("a", "path: /a, methods: [GET]", &inbound)]);
    let found = compare(&list(format!("{{ {TOKEN} }}")), &list(format!("{{ {cors} }}, {{ {TOKEN} }}")));
    let gains: Vec<_> = found.groups.iter().filter(|group| group.change.as_str() == "gain").collect();
    assert_eq!(gains.len(), 1, "{}", found.to_text());
    assert!(gains[0].methods.iter().any(|method| method.starts_with("OPTIONS before")), "{:?}", gains[0].methods);
}

#[test]
fn the_name_of_a_token_says_which_one_a_condition_reads() {
    let list = |name: &str| {
        let first = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }";
        let second = "validate-azure-ad-token: { tenant: contoso, audiences: [api://devices], roles: [Device], header-name: X-Device, as: device }";
        routes(&[(
            "a",
            "path: /a",
            &format!("{{ {first} }}, {{ {second} }}, {{ authorize: {{ condition: '@(\"Admin\" in {name}.roles)' }} }}"),
        )])
    };
    let found = compare(&list("token"), &list("device"));
    let kinds: Vec<_> = changes(&found).into_iter().map(|(change, ..)| change).collect();
    assert_eq!(kinds, ["gain", "loss"], "{}", found.to_text());
}

#[test]
fn allowed_tenants_by_file_are_what_the_file_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        let token = format!(
            "validate-azure-ad-token: {{ tenant: many, allowed-tenants: {{ file: {} }}, audiences: [api://orders], scopes: [Orders.Read] }}",
            path.display()
        );
        "listeners: [ { name: public, address: 127.0.0.1:8443 } ]
tenants: { many: { id: organizations } }
upstreams: { orders: { servers: [ \"http://10.0.0.5:8080\" ] } }
"
        .to_owned()
            + &routes(&[("a", "path: /a", &token)])
    };
    let (one, two) = ("10000000-0000-4000-8000-00000000000a\n", "10000000-0000-4000-8000-00000000000b\n");
    let found = compare(&of("old.txt", one), &of("new.txt", &format!("{one}{two}")));
    assert_eq!(
        changes(&found),
        [("gain", "a: all methods".to_owned(), code("token-tenant-not-allowed"), None)],
        "{}",
        found.to_text()
    );
    assert!(found.groups[0].tokens[0].contains(two.trim()), "{:?}", found.groups[0].tokens);
}

#[test]
fn a_partner_s_routes_are_who_may_use_them() {
    let config = |more: &str| {
        format!(
            "partners: {{ fabrikam: {{ client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666], addresses: [203.0.113.0/24], routes: [a{more}] }} }}\n"
        ) + &routes(&[
            ("a", "path: /a", &format!("{{ {PARTNER} }}, check-partner: {{}}")),
            ("b", "path: /b", &format!("{{ {PARTNER} }}, check-partner: {{}}")),
        ])
    };
    let found = compare(&config(""), &config(", b"));
    assert_eq!(
        changes(&found),
        [("gain", "b: all methods".to_owned(), code("partner-route-not-allowed"), None)],
        "{}",
        found.to_text()
    );
    assert!(found.groups[0].tokens[0].contains("client 22223333-cccc-4444-dddd-5555eeee6666"), "{:?}", found.groups[0].tokens);
}

const PARTNER: &str = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], roles: [Orders.Read.All] }";

#[test]
fn what_is_the_same_under_another_name_is_no_change() {
    let old = "address-sets: { offices: [203.0.113.0/24] }\nfragments: { inner: [ { ip-filter: { action: allow, addresses: [offices] } } ] }\n".to_owned()
        + &routes(&[("orders", "path: /orders", &format!("{{ include-fragment: inner }}, {{ {TOKEN} }}"))]);
    let new = old.replace("inner", "gate").replace("offices", "sites").replace("name: orders", "name: o1");
    let found = compare(&old, &new);
    assert!(found.is_same_access() && found.treatment.is_empty(), "{}", found.to_text());
}

//! Tests of lists that many routes run: built once, and judged for each route as if they were its own.

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Options},
};

use crate::support::{Gateway, TestBed, Upstream, config};

const WALL: &str = "{ ip-filter: { action: forbid, addresses: [192.0.2.0/24] } }";

#[tokio::test]
async fn the_policies_of_global_lists_and_fragments_are_there_once_however_many_routes_run_them() {
    let routes: Vec<_> = (0..50)
        .map(|index| {
            format!("- {{ name: r{index}, match: {{ path: \"/r{index}\" }}, anonymous: true, inbound: [ {{ include-fragment: walls }} ], upstream: backend }}")
        })
        .collect();
    let more = format!(
        "inbound: [ {WALL}, {{ set-header: {{ name: X-Via, value: \"@(route.name)\" }} }} ]\nfragments: {{ walls: [ {WALL} ] }}"
    );
    let bed = TestBed::with(&routes.join("\n"), &more).await;

    let runtime = bed.gateway.server().runtime();
    let first: Vec<_> = runtime.routes[0].inbound.iter().map(std::ptr::from_ref).collect();

    assert_eq!(first.len(), 3);
    for route in &runtime.routes {
        assert!(route.inbound.iter().map(std::ptr::from_ref).eq(first.iter().copied()), "{}", route.name);
    }
    for path in ["/r0", "/r49"] {
        bed.gateway.get(path).send().await.assert_allowed();
    }
    let seen: Vec<_> = bed.upstream.all().iter().map(|request| request.value("x-via").map(str::to_owned)).collect();
    assert_eq!(seen, [Some("r0".to_owned()), Some("r49".to_owned())]);
}

#[tokio::test]
async fn a_global_token_policy_leaves_to_a_partners_check_only_the_routes_that_have_one() {
    let routes = "- { name: checked, match: { path: /checked }, authorization: keep, inbound: [ { check-partner: {} } ], upstream: backend }\n\
                  - { name: plain, match: { path: /plain }, authorization: keep, upstream: backend }";
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let app = "22223333-cccc-4444-dddd-5555eeee6666";
    let more = format!(
        "inbound: [ {{ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders] }} }} ]\n\
         partners: {{ acme: {{ client-application-ids: [{app}], expires: 2099-01-01, owner: Ann, addresses: [127.0.0.0/8] }} }}"
    );
    let gateway = Gateway::start(&config(&tenant, &upstream, routes, &more)).await;
    let token = tenant.token().app(app).audience("api://orders").sign();

    gateway.get("/checked").bearer(&token).send().await.assert_allowed();
    gateway.get("/plain").bearer(&token).send().await.assert_refused(Reason::PermissionMissing);
}

#[tokio::test]
async fn a_name_that_a_global_list_overrides_is_reserved_on_the_routes_of_every_upstream() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let more = "inbound: [ { choose: [ { when: \"@(request.method == 'PUT')\", do: [ { set-header: { name: X-Door, value: open } } ] } ] } ]";
    let routes = "- { name: one, match: { path: /one }, anonymous: true, upstream: backend }\n\
                  - { name: two, match: { path: /two }, anonymous: true, upstream: other }\n\
                  - { name: three, match: { path: /three }, anonymous: true, upstream: other }";
    let text = config(&tenant, &upstream, routes, more);
    let other = format!("upstreams: {{ other: {{ servers: [\"{}\"] }}, backend:", upstream.url());
    let gateway = Gateway::start(&text.replace("upstreams: { backend:", &other)).await;

    for path in ["/one", "/two", "/three"] {
        gateway.get(path).header("x-door", "forged").send().await.assert_allowed();
    }

    for request in upstream.all() {
        assert_eq!(request.value("x-door"), None, "{request:?}");
    }
}

#[tokio::test]
async fn captures_that_a_global_list_reads_are_judged_for_each_route() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let more = "inbound: [ { set-header: { name: X-Item, value: \"@(captures.id)\" } } ]";
    let route = |name: &str, path: &str| {
        format!("- {{ name: {name}, match: {{ path: \"{path}\" }}, anonymous: true, upstream: backend }}")
    };
    let sound = [route("a", "/a/{id}"), route("b", "/b/{id}")].join("\n");
    let gateway = Gateway::start(&config(&tenant, &upstream, &sound, more)).await;
    gateway.get("/b/7").send().await.assert_allowed();
    assert_eq!(upstream.last().value("x-item"), Some("7"));

    let refusal = Gateway::refusal(&config(&tenant, &upstream, &[sound, route("c", "/c/{other}")].join("\n"), more));

    assert!(refusal.contains("captures no `id`"), "{refusal}");
}

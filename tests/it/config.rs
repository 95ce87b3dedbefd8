//! Tests of configs that must be rejected.

use crate::support::Gateway;

#[test]
fn what_would_be_unsafe_is_refused_at_start_with_its_place() {
    let upstream = "upstreams: { backend: { servers: [\"http://127.0.0.1:3000\"] } }\n";
    let cases = [
        ("routes: [ { name: a, match: { path: /a }, upstream: backend } ]", "authenticates nobody"),
        ("routes: [ { name: a, match: { path: /a }, anonymous: true, upstream: other } ]", "there is no upstream `other`"),
        ("routes: [ { name: a, match: { path: /a }, anonymous: true } ]", "leads nowhere"),
        (
            "routes: [ { name: a, match: { path: /a }, anonymous: true, upstream: backend }, { name: b, match: { path: /a }, anonymous: true, upstream: backend } ]",
            "alike",
        ),
        (
            "routes: [ { name: a, match: { path: /a }, anonymous: true, inbound: [ include-fragment: f ], upstream: backend } ]\nfragments: { f: [ include-fragment: f ] }",
            "includes itself",
        ),
        (
            "routes: [ { name: a, match: { path: /a }, anonymous: true, authorization: { from-header: X-Token }, upstream: backend } ]",
            "anonymous",
        ),
        (
            "routes: [ { name: a, match: { path: /a }, anonymous: true, inbound: [ set-header: { name: X-User, value: \"@(token.subject)\" } ], upstream: backend } ]",
            "token",
        ),
        (
            "routes: [ { name: a, match: { path: /a }, anonymous: true, inbound: [ set-header: { name: Authorization, value: x } ], upstream: backend } ]",
            "authorization",
        ),
    ];

    for (routes, expected) in cases {
        let refusal = Gateway::refusal(&format!("{upstream}{routes}\n"));
        assert!(refusal.contains(expected), "{routes}\nwas refused with\n{refusal}");
        assert!(refusal.contains("test.yaml:"), "{refusal}");
    }
}

#[test]
fn an_upstream_may_not_be_the_gateways_own_admin_listener() {
    for server in ["http://127.0.0.1:9902", "http://localhost:9902", "http://[::1]:9902"] {
        let refusal = Gateway::refusal(&format!(
            "health: {{ address: \"127.0.0.1:9902\" }}\nupstreams: {{ own: {{ servers: [\"{server}\"] }} }}\nroutes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, upstream: own }} ]\n"
        ));
        assert!(refusal.contains("own admin or health listener"), "{refusal}");
    }
}

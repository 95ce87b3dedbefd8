//! A promise that a decision cannot keep is an error of the config, at its place.

use super::orders;
use crate::support::Gateway;

const TENANT: &str = "tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }\nupstreams: { backend: { servers: [\"http://127.0.0.1:1\"] } }\n";

fn refusal(routes: &str, decides: &str, more: &str) -> String {
    let listener = format!(
        "listeners:\n  - {{ name: public, address: \"127.0.0.1:0\" }}\n  - {{ name: mesh, address: \"127.0.0.1:0\", decides: {{ dialect: traefik, peers: [10.0.0.0/8]{decides} }} }}\n"
    );
    let routes: String = routes.lines().map(|line| format!("  {line}\n")).collect();
    Gateway::refusal(&format!("{TENANT}{listener}routes:\n{routes}{more}"))
}

#[test]
fn policies_that_need_the_end_the_body_or_the_response() {
    for (policy, word) in [
        ("limit-concurrency: { max-count: 1, key: \"@(caller.address)\" }", "limit-concurrency"),
        ("quota-by-key: { bandwidth: 1MiB, renewal-period: 1h, counter-key: \"@(caller.address)\" }", "quota-by-key"),
        (
            "rate-limit-by-key: { calls: 1, renewal-period: 1h, counter-key: \"@(caller.address)\", increment-condition: \"@(response.status == 200)\" }",
            "rate-limit-by-key",
        ),
        ("cors: { allowed-origins: [\"https://app.contoso.example\"] }", "cors"),
        ("return-response: { status: 204 }", "return-response"),
        ("rewrite-uri: { template: \"/v2{rest}\" }", "rewrite-uri"),
        ("set-query-parameter: { name: a, value: b }", "set-query-parameter"),
        ("set-method: POST", "set-method"),
    ] {
        let route =
            format!("- {{ name: open, match: {{ path: /open }}, anonymous: true, inbound: [ {policy} ], decide-only: true }}");
        let report = refusal(&route, "", "");
        let line = report.lines().find(|line| line.contains("cannot be kept")).unwrap_or_else(|| panic!("{policy}: {report}"));
        assert!(line.contains(word), "{policy}: {report}");
        // Also where another policy decides whether it runs.
        let route = route.replace(policy, &format!("choose: [ {{ when: \"@(request.method == 'GET')\", do: [ {policy} ] }} ]"));
        assert!(refusal(&route, "", "").contains("cannot be kept"), "{policy} within choose");
    }
}

#[test]
fn routes_that_a_decision_cannot_stand_for() {
    let listed = ", routes: [orders]";
    for (route, decides, more, expected) in [
        (
            orders("upstream: backend, outbound: [ set-header: { name: X-A, value: b } ]"),
            listed,
            "",
            "policies on the response cannot run",
        ),
        (orders("upstream: backend, limits: { max-stream: 1m }"), listed, "", "`max-stream` cannot be kept"),
        (orders("upstream: backend, limits: { body-bytes: 1KiB }"), listed, "", "`body-bytes` cannot be kept"),
        (orders("upstream: backend, require-tls: redirect"), listed, "", "a decision does not redirect"),
        (orders("upstream: backend, server-timing: true"), listed, "", "is not known to a decision"),
        (
            "- { name: orders, match: { path: /orders }, anonymous: true, respond: { status: 204 } }".to_owned(),
            listed,
            "",
            "answers by itself",
        ),
        (
            orders("upstream: backend").replace("scopes:", "query-parameter-name: access_token, scopes:"),
            listed,
            "",
            "in the query cannot be removed",
        ),
        (orders("upstream: backend"), ", routes: [order]", "", "there is no route `order`"),
        (orders("upstream: backend"), ", routes: []", "", "the list is empty"),
        (orders("upstream: backend"), "", "", "no route is decided here"),
        (orders("decide-only: true, upstream: backend"), "", "", "both `upstream` and `decide-only`"),
        (
            orders("decide-only: true")
                .replace("authorization: remove", "authorization: { basic: { username: a, password: b } }"),
            "",
            "",
            "carry-tokens: true",
        ),
        (
            orders("decide-only: true")
                .replace("authorization: remove", "authorization: { credential: pod, scope: \"api://orders/.default\" }"),
            "",
            "credentials: { pod: { managed-identity: {} } }\n",
            "`credential` would hand a token",
        ),
    ] {
        let report = refusal(&route, decides, more);
        assert!(report.contains(expected), "{expected}: {report}");
    }
}

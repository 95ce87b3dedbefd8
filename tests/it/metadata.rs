//! Tests of the metadata that tells a route's clients where to get tokens: RFC 9728, and the challenges that refer to it.

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{Gateway, ORDERS_TOKEN, TestBed};

fn route(name: &str, matches: &str, more: &str) -> String {
    format!("- {{ name: {name}, match: {{ {matches} }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend, {more} }}\n")
}

#[tokio::test]
async fn clients_are_told_where_tokens_come_from() {
    let bed = TestBed::with(&route("orders", "path: /orders", "protected-resource-metadata: true"), "").await;
    let base = format!("http://{}", bed.gateway.address());

    let document = bed.gateway.get("/.well-known/oauth-protected-resource/orders").send().await;
    let missing = bed.gateway.get("/orders/7").send().await;
    let expired = bed.gateway.get("/orders").bearer(bed.tenant.token().audience("api://orders").expired().sign()).send().await;
    let scope = bed.tenant.token().user("nia").audience("api://orders").scopes(["Other"]).sign();
    let scope = bed.gateway.get("/orders").bearer(scope).send().await;

    assert_eq!(document.status, StatusCode::OK);
    assert_eq!(document.header("content-type"), Some("application/json"));
    assert_eq!(document.header("access-control-allow-origin"), Some("*"));
    let issuer = bed.tenant.issuer_v2(&bed.tenant.tenant_id());
    assert_eq!(
        document.json(),
        json!({
            "resource": format!("{base}/orders"),
            "authorization_servers": [issuer],
            "scopes_supported": ["api://orders/Orders.Read"],
            "bearer_methods_supported": ["header"],
        })
    );
    let named = format!("resource_metadata=\"{base}/.well-known/oauth-protected-resource/orders\"");
    let asked = "scope=\"api://orders/Orders.Read\"";
    assert_eq!(missing.header("www-authenticate"), Some(&*format!("Bearer {asked}, {named}")));
    let invalid = "Bearer error=\"invalid_token\", error_description=\"The token has expired.\"";
    assert_eq!(expired.header("www-authenticate"), Some(&*format!("{invalid}, {asked}, {named}")));
    let insufficient = format!("Bearer error=\"insufficient_scope\", {asked}");
    assert_eq!(scope.header("www-authenticate"), Some(&*format!("{insufficient}, {named}")));
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn the_document_can_be_read_and_nothing_else() {
    let bed = TestBed::with(&route("orders", "path: /orders", "protected-resource-metadata: {}"), "").await;
    let at = "/.well-known/oauth-protected-resource/orders";

    let head = bed.gateway.request(Method::HEAD, at).send().await;
    let post = bed.gateway.request(Method::POST, at).body("{}").send().await;
    let below = bed.gateway.get(&format!("{at}/7")).send().await;
    let plain = bed.gateway.get("/.well-known/oauth-protected-resource").send().await;

    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!((post.status, post.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")));
    assert_eq!((below.status, plain.status), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
    let record = bed.gateway.record(|record| record["method"] == "HEAD").await;
    assert_eq!(record["route"], "orders (metadata)");
}

#[tokio::test]
async fn each_host_is_told_of_itself() {
    let routes = route(
        "orders",
        "hosts: [api.contoso.example, '*.eu.contoso.example'], path: /orders",
        "protected-resource-metadata: true",
    ) + &route("other", "hosts: [other.contoso.example], path: /orders", "require-tls: false");
    let bed = TestBed::with(&routes, "").await;
    let ask =
        async |host: &str| bed.gateway.get("/.well-known/oauth-protected-resource/orders").header("host", host).send().await;

    for host in ["api.contoso.example", "de.eu.contoso.example", "api.contoso.example:8443"] {
        assert_eq!(ask(host).await.json()["resource"], format!("http://{host}/orders"));
    }
    assert_eq!(ask("other.contoso.example").await.status, StatusCode::NOT_FOUND);
    // Behind a proxy that is believed, it is the name that the caller used.
    let listener =
        "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [ { addresses: [\"127.0.0.1\"] } ] } ]";
    let bed = TestBed::with(&routes, listener).await;
    let call = bed.gateway.get("/orders").header("host", "api.contoso.example").header("x-forwarded-for", "203.0.113.7");
    let answer = call.header("x-forwarded-proto", "https").header("x-forwarded-host", "public.contoso.example").send().await;
    let expected = "Bearer scope=\"api://orders/Orders.Read\", resource_metadata=\"https://public.contoso.example/.well-known/oauth-protected-resource/orders\"";
    assert_eq!(answer.header("www-authenticate"), Some(expected));
}

#[tokio::test]
async fn what_the_config_says_counts_more_than_what_is_derived() {
    let settings = "protected-resource-metadata: { resource: \"https://api.contoso.example/people/\", authorization-servers: [\"https://login.contoso.example\"], scopes-supported: [people.read], resource-name: People, resource-documentation: \"https://docs.contoso.example/people\" }";
    let bed = TestBed::with(&route("people", "path: \"/people/{person}\"", settings), "").await;

    let document = bed.gateway.get("/.well-known/oauth-protected-resource/people").send().await;
    let refused = bed.gateway.get("/people/7").send().await;

    assert_eq!(
        document.json(),
        json!({
            "resource": "https://api.contoso.example/people/",
            "authorization_servers": ["https://login.contoso.example"],
            "scopes_supported": ["people.read"],
            "bearer_methods_supported": ["header"],
            "resource_name": "People",
            "resource_documentation": "https://docs.contoso.example/people",
        })
    );
    let expected = "Bearer scope=\"people.read\", resource_metadata=\"https://api.contoso.example/.well-known/oauth-protected-resource/people\"";
    assert_eq!(refused.header("www-authenticate"), Some(expected));
}

#[tokio::test]
async fn routes_of_one_path_share_a_document_that_needs_no_token() {
    let write = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Write], header-name: X-Token, query-parameter-name: token }";
    let routes = route("read", "path: /orders, methods: [GET]", "protected-resource-metadata: true")
        + &format!("- {{ name: write, match: {{ path: /orders, methods: [POST] }}, inbound: [ {write} ], protected-resource-metadata: true, upstream: backend }}\n")
        // A catch-all does not hide the document.
        + "- { name: all, match: { path: / }, anonymous: true, upstream: backend }";
    let bed = TestBed::with(&routes, "inbound: [ { ip-filter: { action: forbid, addresses: [\"203.0.113.9\"] } } ]").await;

    let document = bed.gateway.get("/.well-known/oauth-protected-resource/orders").send().await;

    assert_eq!(document.json()["scopes_supported"], json!(["api://orders/Orders.Read", "api://orders/Orders.Write"]));
    assert_eq!(document.json()["bearer_methods_supported"], json!(["header", "query"]));
    let posted = bed.gateway.request(Method::POST, "/orders").send().await;
    assert!(posted.header("www-authenticate").unwrap().contains("oauth-protected-resource/orders"), "{posted:?}");
}

#[test]
fn metadata_that_cannot_be_right_is_a_config_error() {
    let config = |route: &str, more: &str| {
        format!(
            "tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}\nupstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n{}{more}",
            route.lines().map(|line| format!("  {line}\n")).collect::<String>()
        )
    };
    for (route, expected) in [
        (route("a", "path: \"/people/{person}\"", "protected-resource-metadata: true"), "stands for many resources"),
        (route("a", "path: /a", "protected-resource-metadata: { resource: api://orders }"), "is not a valid resource"),
        (
            route("a", "path: /a", "protected-resource-metadata: { resource: \"http://api.contoso.example/a\" }"),
            "is not a valid resource",
        ),
        (route("a", "path: /a", "protected-resource-metadata: { authorization-servers: [contoso] }"), "is not a valid resource"),
        (route("a", "path: /a", "protected-resource-metadata: { scopes: [a] }"), "scopes"),
        (
            "- { name: a, match: { path: /a }, anonymous: true, upstream: backend, protected-resource-metadata: true }"
                .to_owned(),
            "no policy of the route asks for a token",
        ),
        (
            route("a", "path: /a", "protected-resource-metadata: true")
                + "- { name: b, match: { exact-path: /.well-known/oauth-protected-resource/a }, anonymous: true, upstream: backend }",
            "`routes[1]` matches alike",
        ),
    ] {
        // What the schema finds is told when the file is read, and panics there.
        let told = std::panic::catch_unwind(|| Gateway::refusal(&config(&route, "")))
            .unwrap_or_else(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default());

        assert!(told.contains(expected), "{route}: {told}");
    }
}

#[tokio::test]
async fn scopes_are_told_by_the_same_names_everywhere() {
    let settings = "protected-resource-metadata: { scopes-supported: [\"https://api.contoso.example/orders/Orders.Read\"] }";
    for (more, expected) in
        [(settings, "https://api.contoso.example/orders/Orders.Read"), ("anonymous: false", "api://orders/Orders.Read")]
    {
        let bed = TestBed::with(&route("orders", "path: /orders", more), "").await;
        let other = bed.tenant.token().user("nia").audience("api://orders").scopes(["Other"]).sign();

        let missing = bed.gateway.get("/orders").send().await;
        let refused = bed.gateway.get("/orders").bearer(other).send().await;

        let scope = format!("scope=\"{expected}\"");
        assert!(refused.header("www-authenticate").unwrap().contains(&scope), "{refused:?}");
        // Without metadata nobody is told of scopes who has no token.
        assert_eq!(missing.header("www-authenticate").unwrap().contains(&scope), more == settings, "{missing:?}");
    }
}

#[test]
fn check_tells_of_a_resource_that_entra_refuses_beside_the_scopes() {
    let folder = tempfile::tempdir().unwrap();
    for (audiences, hosts, metadata, warned) in [
        ("api://orders", "", "true", true),
        ("api://orders", "", "{ resource: \"https://api.contoso.example/orders\" }", true),
        ("\"https://api.contoso.example/orders\"", "", "{ resource: \"https://api.contoso.example/orders\" }", false),
        ("\"https://api.contoso.example/orders\"", "", "true", false),
        ("\"https://api.contoso.example/orders\"", "hosts: [other.contoso.example],", "true", true),
        ("api://orders", "", "{ authorization-servers: [\"https://idp.fabrikam.example\"] }", false),
        ("api://orders", "", "false", false),
    ] {
        let config = format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}
upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}
routes:
  - name: orders
    match: {{ {hosts} path: /orders }}
    protected-resource-metadata: {metadata}
    inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{audiences}], scopes: [Orders.Read], token-kind: user }} ]
    upstream: backend
"
        );
        let file = folder.path().join("entrada.yaml");
        std::fs::write(&file, config).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_entrada")).arg("check").arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();

        assert!(output.status.success(), "{text}");
        assert_eq!(text.contains("AADSTS9010010"), warned, "{audiences} {metadata}:\n{text}");
    }
}

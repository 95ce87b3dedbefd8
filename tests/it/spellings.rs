//! Tests of paths that a backend reads differently from their spelling: no spelling bypasses the route that guards one.

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Options},
};

use crate::support::{Gateway, RawConnection, TestBed, Upstream};

/// Returns the status and the body's code, for a target in this spelling.
async fn ask(gateway: &Gateway, target: &str) -> String {
    let mut connection = RawConnection::open(gateway.address()).await;
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
    let answer = connection.read_answer().await;
    let status = answer[9..12].to_owned();
    match answer.split_once("\"code\":\"").and_then(|(_, rest)| rest.split_once('"')) {
        Some((code, _)) => format!("{status} {code}"),
        None => status,
    }
}

const GUARDED: &str = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }";

/// Returns a weak route `/app` with the setting, and a guarded one below it.
fn routes(more: &str) -> String {
    format!(
        "- {{ name: app, match: {{ path: /app }}, anonymous: true, {more}upstream: backend }}\n- {{ name: admin, match: {{ path: /app/admin }}, inbound: [ {GUARDED} ], upstream: backend }}"
    )
}

async fn windows(more: &str) -> TestBed {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let config = format!(
        "tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}\nupstreams: {{ backend: {{ servers: [\"{}\"], case-insensitive-paths: true }} }}\nroutes:\n{}\n",
        tenant.tenant_id(),
        tenant.base_url(),
        upstream.url(),
        routes(more).lines().map(|line| format!("  {line}\n")).collect::<String>(),
    );
    let gateway = Gateway::start(&config).await;
    TestBed { tenant, upstream, gateway }
}

#[tokio::test]
async fn what_windows_reads_as_another_path_never_reaches_it() {
    let everything = "accept: [encoded-slash, semicolon, empty-segment, backslash, non-ascii, encoded-percent, encoded-question-mark, encoded-hash], ";
    let (plain, open) = (windows("").await, windows(everything).await);
    let refused = format!("400 {}", Reason::RequestTargetInvalid.code());

    for target in [
        "/app/(S(x))/admin/users.aspx",
        "/app/(s(x))admin/users.aspx",
        "/app/%28A%28x%29F%28y%29%29/admin",
        "/app/b/(S(x))in/users.aspx",
        "/app/admin./x",
        "/app/admin...",
        "/app/admin%2e/x",
        "/app/admin%20/x",
        "/app/admin%20",
        "/app/admin::$DATA",
        "/app/admin%3A%3A$DATA",
        "/app/ADMINI~1/x",
        "/app/admin%3F.x",
        "/app/admin%23",
        "/app/admin%EF%BC%8E/x",
        "/app/admin%E3%80%80",
        "/app/%EF%BD%81%EF%BD%84%EF%BD%8D%EF%BD%89%EF%BD%8E",
        "/app/%EF%BC%8E%EF%BC%8E/app/admin",
        "/app/x%2F..%2Fadmin",
        "/app/admin.%2Fx",
        "/app/admin.;x",
        "/app//admin",
    ] {
        assert_eq!(ask(&plain.gateway, target).await, refused, "{target}");
        assert_eq!(ask(&open.gateway, target).await, refused, "{target}, where everything is accepted");
    }
    assert_eq!((plain.upstream.requests(), open.upstream.requests()), (0, 0));
    let record = plain.gateway.record(|record| record["path"] == "/app/admin./x").await;
    assert!(record["hint"].as_str().unwrap().contains("case-insensitive-paths"), "{record}");

    for target in ["/app/users.aspx", "/app/my%20files/x", "/APP/Products(5)/Rating", "/app/caf%C3%A9"] {
        assert_eq!(ask(&plain.gateway, target).await, "200", "{target}");
        assert_eq!(plain.upstream.last().uri.path(), target);
    }
    assert_eq!(ask(&plain.gateway, "/App/ADMIN").await, "401 token-missing");
}

#[tokio::test]
async fn an_escaped_question_mark_or_hash_passes_only_where_it_is_accepted_and_leads_nowhere_else() {
    let plain = TestBed::with(&routes(""), "").await;
    let accepting = TestBed::with(&routes("accept: [encoded-question-mark, encoded-hash], "), "").await;
    let refused = format!("400 {}", Reason::RequestTargetInvalid.code());

    for target in ["/app/what%3F", "/app/c%23/x"] {
        assert_eq!(ask(&plain.gateway, target).await, refused, "{target}");
        assert_eq!(ask(&accepting.gateway, target).await, "200", "{target}");
        assert_eq!(accepting.upstream.last().uri.path(), target);
    }
    // Some backends cut off what follows, and would serve what the other route guards.
    for target in ["/app/admin%3F.x", "/app/admin%23", "/app/admin%3f/x", "/app/admin%253F"] {
        assert_eq!(ask(&accepting.gateway, target).await, refused, "{target}");
    }
    let record = plain.gateway.record(|record| record["path"] == "/app/what%3F").await;
    assert_eq!(record["hint"], "the route could say `accept: [encoded-question-mark]`");
    assert_eq!((plain.upstream.requests(), accepting.upstream.requests()), (0, 2));
}

#[tokio::test]
async fn letters_that_are_compatible_with_others_lead_around_no_route() {
    let bed = TestBed::with(&routes("accept: [non-ascii], "), "").await;
    let refused = format!("400 {}", Reason::RequestTargetInvalid.code());

    for target in [
        "/app/%EF%BD%81%EF%BD%84%EF%BD%8D%EF%BD%89%EF%BD%8E",
        "/app/%EF%BD%81dmin",
        "/app/x%EF%BC%8F%EF%BC%8E%EF%BC%8E%EF%BC%8Fadmin",
        "/app%EF%BC%8Fadmin",
        "/app/%EF%BC%8E%EF%BC%8E/x",
    ] {
        assert_eq!(ask(&bed.gateway, target).await, refused, "{target}");
    }
    assert_eq!(bed.upstream.requests(), 0);
    for target in ["/app/%EF%BC%A1", "/app/%E6%97%A5", "/app/a%EF%BC%8Fb"] {
        assert_eq!(ask(&bed.gateway, target).await, "200", "{target}");
    }
}

#[test]
fn a_route_that_only_such_a_spelling_could_match_is_a_fault() {
    let config = "upstreams: { backend: { servers: [\"http://127.0.0.1:9\"], case-insensitive-paths: true } }\nroutes: [ { name: a, match: { path: \"/a/x:y\" }, anonymous: true, upstream: backend } ]\n";

    let refusal = Gateway::refusal(config);

    assert!(refusal.contains("`x:y` could be read as another name"), "{refusal}");
}

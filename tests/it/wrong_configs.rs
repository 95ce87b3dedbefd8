//! Tests of configs in the habits of API Management, nginx, Traefik, YARP and oauth2-proxy, and of what they are told: each fault at its
//! place, with what to write instead.

use std::path::Path;

use entrada::unstable::{
    config::{Document, Report},
    server,
    settings::Faults,
};

/// Returns the output of `check` for a config, one line a fault.
fn told(name: &str, text: &str) -> Vec<String> {
    let report: Report = match Document::from_text_with(name, text, &|_| None) {
        Ok(document) => {
            let mut faults = Faults::default();
            drop(server::try_out(&document, &mut faults));
            document.report(&faults)
        }
        Err(report) => report.with_the_rest(|document, faults| drop(server::try_out(document, faults))),
    };
    report.lines()
}

/// Each expected line is `line:column: part of what is told`; what is not listed must not be told.
#[track_caller]
fn assert_told(text: &str, expected: &[&str]) {
    let told = told("a.yaml", text);
    for wanted in expected {
        let (line, rest) = wanted.split_once(':').expect("a line");
        let (column, part) = rest.split_once(": ").expect("a column");
        let at = format!("a.yaml:{line}:{column}: ");
        assert!(told.iter().any(|fault| fault.starts_with(&at) && fault.contains(part)), "{wanted}\n{told:#?}\n{text}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}\n{text}");
}

const BASE: &str = r#"listeners: [{ name: p, address: "127.0.0.1:8080" }]
tenants: { c: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
upstreams: { u: { servers: ["http://127.0.0.1:3000"] } }
"#;
const TOKEN: &str = "validate-azure-ad-token: { tenant: c, audiences: [a], roles: [r] }";

/// A config whose one route is this, from line 5 on.
fn with_route(route: &str) -> String {
    format!("{BASE}routes:\n  - {{ name: r, {route} }}\n")
}

#[test]
fn a_document_of_another_product_is_known_as_such() {
    for (text, part) in [
        ("<policies><inbound><base /></inbound></policies>", "this is XML, as API Management has it"),
        ("server {\n  listen 443 ssl;\n}\n", "this reads like nginx"),
        ("just words", "write YAML with `listeners`, `upstreams` and `routes`"),
    ] {
        assert_told(text, &[&format!("1:1: {part}")]);
    }
}

#[test]
fn keys_of_other_products_are_told_by_what_is_written_for_them_here() {
    assert_told(
        "entryPoints: { web: {} }\nhttp: { routers: {} }\nprovider: oidc\nclient_id: x\ncookie_secret: z\nzebra: 1\ncrocodile: 2\n",
        &[
            "1:1: write `listeners`",
            "1:1: no listener is defined",
            "2:1: write `routes`",
            "3:1: there is no browser sign-in here",
            "4:1: write a `credentials` entry",
            "5:1: there is no browser sign-in here",
            "6:1: the keys here are",
            "7:1: listed at line 6",
        ],
    );
    for (route, expected) in [
        (format!("match: {{ path: /r }}, inbound: [ {{ {TOKEN} }} ], backend: u"), "write `upstream`"),
        ("match: { path: /r }, anonymous: true, upstream: u, path: /r".to_owned(), "write it below `match`: `match: { path: … }`"),
        ("match: { location: /r }, anonymous: true, upstream: u".to_owned(), "write `path`"),
        ("match: { path: /r, host: a.example }, anonymous: true, upstream: u".to_owned(), "write `hosts`, a list"),
        (
            format!("match: {{ path: /r }}, inbound: [ {{ {TOKEN} }}, {{ rate-limit: {{}} }} ], upstream: u"),
            "write `rate-limit-by-key`",
        ),
        (
            format!("match: {{ path: /r }}, inbound: [ {{ authentication-basic: {{}} }}, {{ {TOKEN} }} ], upstream: u"),
            "write the route's `authorization: { basic",
        ),
        (
            "match: { path: /r }, inbound: [ { validate-azure-ad-token: { tenant-id: c, audiences: [a], roles: [r] } } ], upstream: u"
                .to_owned(),
            "write `tenant`",
        ),
    ] {
        let told = told("a.yaml", &with_route(&route));
        assert!(told.len() == 1 && told[0].starts_with("a.yaml:5:") && told[0].contains(expected), "{route}: {told:#?}");
    }
    assert_told(
        &with_route("match: { path: /r }, anonymous: true, proxy_pass: \"http://127.0.0.1:3000\""),
        &["5:54: write `upstream: name` here"],
    );
}

#[test]
fn each_value_in_a_wrong_form_is_told_how_to_write_it() {
    for (text, expected) in [
        ("upstreams: { u: \"http://127.0.0.1:3000\" }", "write `{ servers: [\"http://127.0.0.1:3000\"] }`"),
        ("upstreams: [\"http://127.0.0.1:3000\"]", "write each entry under a name of its own: `name: { servers: … }`"),
        ("upstreams: { u: { servers: [\"127.0.0.1:3000\"] } }", "write `http://127.0.0.1:3000`, or `https://127.0.0.1:3000`"),
        ("upstreams: { u: { servers: [{ url: \"http://127.0.0.1:3000\", weight: 3 }] } }", "write the text alone"),
        ("upstreams: { u: { servers: [\"http://127.0.0.1:3000/a?x=1\"] } }", "write `http://127.0.0.1:3000/a`"),
        ("upstreams: { u: { servers: [\"http://127.0.0.1:3000\"], balance: least_conn } }", "write `least-requests`"),
        ("upstreams: { u: { servers: [\"http://127.0.0.1:3000\"], host: preseve } }", "did you mean `preserve`?"),
        ("upstreams: { u: { servers: [\"http://127.0.0.1:3000\"], timeouts: { response: 1m30s } } }", "write `90s`"),
        ("upstreams: { u: { servers: [\"http://127.0.0.1:3000\"], health: \"/healthz\" } }", "write `{ path: \"/healthz\" }`"),
        ("drain-timeout: 30", "write `30s` if seconds are meant"),
        ("tenants: { c: aaaabbbb-0000-cccc-1111-dddd2222eeee }", "write `{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }`"),
        (
            "tenants: { c: { id: \"https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0\" } }",
            "write `aaaabbbb-0000-cccc-1111-dddd2222eeee`",
        ),
        (
            "tenants: { c: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee, authority: \"https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0\" } }",
            "write `https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee`",
        ),
        (
            "tenants: { c: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee, authority: \"https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin\" } }",
            "write `id: contoso.onmicrosoft.com`",
        ),
        ("tenants: { c: { id: \"$TENANT\" } }", "`named-values: { tenant: { env: TENANT } }`"),
        ("listeners: [{ name: p, address: \":8080\" }]", "write `0.0.0.0:8080`"),
        ("listeners: [{ name: p, address: 8443 }]", "\"0.0.0.0:8443\""),
        ("listeners: [{ name: p, address: \"localhost:8081\" }]", "write `127.0.0.1:8081`"),
        ("listeners: [{ name: p, address: \"${ADDR}\" }]", "write \"{{addr}}\""),
        ("listeners: [{ name: p, address: \"127.0.0.1:1\", tls: true }]", "write `{ certificate: …, private-key: … }`"),
        ("listeners: [{ name: p, address: \"127.0.0.1:1\", trusted-proxies: [\"*\"] }]", "list the addresses that are meant"),
        ("routes: { r: { match: { path: /r } } }", "write a list: each entry begins with `- `"),
        (
            "routes: [{ name: r, match: { path: \"~ ^/r/[0-9]+$\" }, anonymous: true, respond: { status: 200 } }]",
            "patterns are not matched",
        ),
        ("routes: [{ name: r, match: { path: \"/r/{**all}\" }, anonymous: true, respond: { status: 200 } }]", "write `path: /r`"),
        ("routes: [{ name: r, match: { path: \"/r/*\" }, anonymous: true, respond: { status: 200 } }]", "write `path: /r`"),
        (
            "routes: [{ name: r, match: { path: /r, methods: get }, anonymous: true, respond: { status: 200 } }]",
            "write it as a list: [get]",
        ),
        ("routes: [{ name: r, match: { path: /r, methods: get }, anonymous: true, respond: { status: 200 } }]", "write `GET`"),
        (
            "routes: [{ name: r, match: { hosts: [\"https://a.example/x\"] }, anonymous: true, respond: { status: 200 } }]",
            "write `a.example`",
        ),
        (
            "routes: [{ name: r, match: { path: /r }, inbound: [ { validate-azure-ad-token: { tenant: c, audiences: [a], scopes: \"a b\" } } ], respond: { status: 200 } }]",
            "write it as a list: [a, b]",
        ),
        (
            "routes:\n  - name: r\n    match:\n    path: /r\n    anonymous: true\n    respond: { status: 200 }",
            "indent `path`: it belongs below `match`",
        ),
        (
            "routes: [{ name: r, match: { path: /r }, anonymous: true, respond: { status: 200, body: '@(context.Request.Headers.GetValueOrDefault(\"A\",\"\").Split(new [] {\" \"}))' } }]",
            "for `context.Request.Headers` write request.headers",
        ),
        (
            "routes: [{ name: r, match: { path: /r }, anonymous: true, respond: { status: 200, body: \"@(request.path + )\" } }]",
            "at column 18 of the expression: the expression ends where a value is expected",
        ),
    ] {
        let told = told("a.yaml", text);
        assert!(told.iter().any(|fault| fault.contains(expected)), "{text}: {expected}\n{told:#?}");
        assert!(!told.iter().any(|fault| fault.contains("expecting {")), "{told:#?}");
    }
}

#[test]
fn one_policy_that_cannot_be_read_hides_nothing_of_its_route() {
    let text = format!(
        r#"{BASE}routes:
  - name: a
    match: {{ path: no-slash, methods: [FETCH] }}
    inbound:
      - ip-filter: {{ action: maybe, addresses: ["10.0.0.0/33"] }}
      - validate-azure-ad-token: {{ tenant: c, roles: [r] }}
      - set-header: {{ name: "bad name", value: x }}
      - set-header: {{ name: X-Oid, value: "@(token.claims.oid)" }}
    upstream: missing
"#
    );
    assert_told(
        &text,
        &[
            "6:20: does not begin with `/`",
            "6:40: `FETCH`",
            "8:30: `maybe`",
            "8:49: `10.0.0.0/33`",
            "9:9: `audiences` is missing",
            "10:29: `bad name`",
            "12:15: no upstream `missing`",
        ],
    );
}

/// A policy whose name is mistyped is judged by the one that is meant, and what misses it is not told.
#[test]
fn a_mistyped_policy_is_judged_as_the_one_that_is_meant() {
    assert_told(
        &with_route(
            "match: { path: /r }, inbound: [ { validate_azure_ad_token: { tenant: d, audiences: [a], roles: [r] } }, { set-header: { name: X-Oid, value: \"@(token.claims.oid)\" } } ], upstream: u",
        ),
        &["5:50: did you mean `validate-azure-ad-token`?", "5:85: there is no tenant"],
    );
}

#[test]
fn settings_that_cannot_be_meant_are_warned_of() {
    let token = format!("{{ {TOKEN} }}");
    for (route, more, expected) in [
        (format!("match: {{ path: /r }}, require-tls: true, inbound: [ {token} ], upstream: u"), "", "no listener has TLS"),
        (
            "match: { path: /r }, anonymous: true, inbound: [ { return-response: { status: 200 } }, { set-header: { name: X-A, value: b } } ], upstream: u".to_owned(),
            "",
            "this policy never runs: `return-response`",
        ),
        (
            "match: { path: /r }, anonymous: true, inbound: [ { include-fragment: end }, { check-header: { name: X-A } } ], upstream: u".to_owned(),
            "fragments: { end: [ { return-response: { status: 200 } } ] }\n",
            "this policy never runs: `include-fragment`",
        ),
        ("match: { path: /r }, anonymous: true, authorization: keep, upstream: u".to_owned(), "", "sends whatever callers put into"),
        (
            format!("match: {{ path: /r }}, inbound: [ {token} ], upstream: u"),
            "partners: { f: { client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666], addresses: [192.0.2.1] } }\n",
            "no route asks for the partner `f`",
        ),
        (
            "match: { path: /r }, inbound: [ { validate-azure-ad-token: { tenant: c, audiences: [\"api://o/.default\"], roles: [r] } } ], upstream: u".to_owned(),
            "",
            "write `api://o`",
        ),
        (
            "match: { hosts: [a.example], path: /r }, anonymous: true, upstream: u".to_owned(),
            "",
            "`a.example` is served by the routes that name it alone: `any` without `hosts`",
        ),
    ] {
        let any = "  - { name: any, match: { path: /any }, anonymous: true, respond: { status: 204 } }\n";
        let told = told("a.yaml", &format!("{}{any}{more}", with_route(&route)));
        let of_it: Vec<_> = told.iter().filter(|fault| !fault.contains("used nowhere")).collect();
        assert!(of_it.len() == 1 && of_it[0].contains("warning: ") && of_it[0].contains(expected), "{route}: {told:#?}");
    }
}

#[test]
fn tokens_in_clear_are_warned_of_in_every_form() {
    for (authorization, expected) in [
        ("keep", Some("the caller's token travels to the upstream in clear")),
        ("{ from-header: X-Token }", Some("the caller's token travels")),
        ("remove", None),
    ] {
        let text = with_route(&format!(
            "match: {{ path: /r }}, inbound: [ {{ validate-azure-ad-token: {{ tenant: c, audiences: [a], roles: [r], header-name: X-Token }} }} ], authorization: {authorization}, upstream: u"
        ));
        let clear = told("a.yaml", &text.replace("127.0.0.1:3000", "10.0.0.7:3000"));
        let own = told("a.yaml", &text);
        assert_eq!(
            clear.iter().any(|fault| expected.is_some_and(|expected| fault.contains(expected))),
            expected.is_some(),
            "{clear:#?}"
        );
        assert!(!own.iter().any(|fault| fault.contains("in clear")), "{own:#?}");
    }
}

/// The collected files, where they are: none may be taken in silence that cannot be meant, and none may be told without a cure.
#[test]
fn no_collected_file_is_taken_without_a_word() {
    let Some(data) = std::env::var_os("ENTRADA_DATA") else {
        eprintln!("skipped: ENTRADA_DATA names no folder with wrong configs");
        return;
    };
    let folder = Path::new(&data).join("wrong-configs");
    let mut seen = 0;
    for part in ["form", "meaning"] {
        let Ok(entries) = std::fs::read_dir(folder.join(part)) else { continue };
        for path in entries.map(|entry| entry.expect("listed").path()) {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            let told = told(&path.display().to_string(), &std::fs::read_to_string(&path).expect("readable"));
            seen += 1;
            // JSON is YAML, and means what it says.
            assert_eq!(told.is_empty(), name == "20-json.yaml", "{part}/{name}: {told:#?}");
            for fault in &told {
                assert!(fault.contains("; "), "{part}/{name}: no cure: {fault}");
                assert!(!fault.contains("expecting {") && !fault.contains(", …"), "{part}/{name}: {fault}");
            }
        }
    }
    assert!(seen == 0 || seen >= 45, "{seen} files");
}

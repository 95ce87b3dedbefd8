//! Tests of replays: generated traffic through a live gateway, whose records are decided once more.

mod explained;

use std::collections::BTreeMap;

use entrada::{
    Document,
    dev_tenant::{App, DevTenant, Options, User},
    unstable::{
        config::FactMarks,
        offline::{OfflineGateway, OfflineKeys},
        replay::{RecordedRequest, Replay, Told},
    },
};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, Upstream};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const STAFF: &str = "aaaa0000-1111-2222-3333-bbbb4444cccc";
/// Records that are looked at together: the gateway remembers no more of them.
const BATCH: usize = 120;

/// The servers that every config of a test has.
struct Scene {
    tenant: DevTenant,
    upstream: Upstream,
    config: String,
}

impl Scene {
    async fn set() -> Self {
        let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
        tenant.update_app(GATEWAY, |app: App| app.secret("a secret of the tests"));
        tenant.add_user(User::new("nia").group(STAFF));
        tenant.add_user(User::new("otto"));
        let key = sha256("partner-key");
        let config = format!(
            r#"
named-values: {{ door: {{ value: s3cret-door, secret: true }} }}
listeners: [ {{ name: public, address: "127.0.0.1:0", trusted-proxies: [ {{ addresses: [127.0.0.1/32], require-header: {{ X-Azure-FDID: [ours] }} }} ] }} ]
audit: {{ sinks: [], replay: true, claims: [department] }}
tenants: {{ contoso: {{ id: {tenant_id}, authority: "{authority}" }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: a secret of the tests }} }}
upstreams: {{ backend: {{ servers: ["{upstream}"] }}, dead: {{ servers: ["http://127.0.0.1:1"] }} }}
partners:
  fabrikam: {{ client-application-ids: [{FABRIKAM}], addresses: [203.0.113.0/24], api-keys: [ {{ sha256: {key} }} ] }}
fragments:
  staff: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], roles: [Orders.Read.All] }} ]
routes:
  - name: orders
    match: {{ path: /orders }}
    inbound: [ ip-filter: {{ action: forbid, addresses: [198.51.100.0/24] }}, include-fragment: staff ]
    authorization: keep
    upstream: backend
  - name: sales
    match: {{ path: /sales }}
    inbound:
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], required-claims: [ {{ name: department, match: any, values: [sales, it] }} ] }}
      - authorize: {{ condition: "@(token.claims.department == 'sales' || request.query['v'] == '2')", code: not-sales }}
      - set-header: {{ name: X-Remote-User, value: "@(token.claims.oid)" }}
    upstream: backend
  - name: salary
    match: {{ path: /salary }}
    inbound: [ include-fragment: staff, authorize: {{ condition: "@(has(token.claims.salary))" }} ]
    upstream: backend
  - name: groups
    match: {{ path: /groups }}
    inbound:
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], required-claims: [ {{ name: groups, match: any, values: [{STAFF}] }} ], group-lookup: {{ graph: gateway }} }}
    upstream: backend
  - name: door
    match: {{ path: /door, methods: [GET, POST] }}
    anonymous: true
    inbound:
      - check-header: {{ name: X-Door, values: ["{{{{door}}}}", spare] }}
      - authorize: {{ condition: "@(request.headers['x-team'] == 'a' || request.query['v'] == '1')" }}
      - cors: {{ allowed-origins: ["https://app.contoso.example"], allowed-methods: [POST] }}
    upstream: backend
  - name: either
    match: {{ path: "/either/{{id}}" }}
    inbound:
      - any-of:
          - [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://others] }} ]
          - [ include-fragment: staff, authorize: {{ condition: "@(captures.id != '7')" }} ]
    upstream: backend
  - name: partners
    match: {{ path: /partners }}
    inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], token-kind: app }}, check-partner: {{}} ]
    upstream: backend
  - name: keys
    match: {{ path: /keys }}
    inbound: [ validate-api-key: {{ header-name: X-Api-Key, query-parameter-name: key }} ]
    upstream: backend
  - name: limited
    match: {{ path: /limited }}
    anonymous: true
    inbound: [ rate-limit-by-key: {{ calls: 3, renewal-period: 3600s, counter-key: all }} ]
    upstream: backend
  - name: dead
    match: {{ path: /dead }}
    inbound: [ include-fragment: staff ]
    upstream: dead
"#,
            tenant_id = tenant.tenant_id(),
            authority = tenant.base_url(),
            upstream = upstream.url(),
        );
        Self { tenant, upstream, config }
    }

    /// Returns a generated request: the method, the target, and the fields.
    fn request(&self, random: &mut Random) -> Asked {
        let path = *random.of(&[
            "/orders/1",
            "/sales",
            "/sales?v=2",
            "/salary",
            "/groups",
            "/door",
            "/door?v=1&v=1",
            "/door?v=1&other=x",
            "/either/1",
            "/either/7",
            "/partners",
            "/keys",
            "/limited",
            "/dead",
            "/nowhere",
            "/orders?token=x",
            "/door?v=%31",
        ]);
        let method = match path {
            path if path.starts_with("/door") => random.of(&[Method::GET, Method::POST, Method::DELETE, Method::OPTIONS]).clone(),
            _ => Method::GET,
        };
        let mut fields = Vec::new();
        if random.one_in(2) {
            fields.push(("X-Azure-FDID", (*random.of(&["ours", "ours", "theirs"])).to_owned()));
            let list =
                *random.of(&["203.0.113.9", "198.51.100.7", "192.0.2.1, 127.0.0.1", "unknown", "203.0.113.9, 198.51.100.7"]);
            fields.push(("X-Forwarded-For", list.to_owned()));
        }
        if let Some(token) = self.token(random) {
            fields.push(("Authorization", token));
        }
        if random.one_in(2) {
            fields.push(("X-Door", (*random.of(&["s3cret-door", "spare", "Spare", "guess", ""])).to_owned()));
        }
        if random.one_in(3) {
            fields.push(("X-Team", (*random.of(&["a", "b"])).to_owned()));
        }
        if random.one_in(3) {
            fields.push(("X-Api-Key", (*random.of(&["partner-key", "wrong", ""])).to_owned()));
        }
        if method == Method::OPTIONS {
            fields.push(("Origin", (*random.of(&["https://app.contoso.example", "https://evil.example"])).to_owned()));
            fields.push(("Access-Control-Request-Method", "POST".to_owned()));
        }
        (method, path.to_owned(), fields)
    }

    fn token(&self, random: &mut Random) -> Option<String> {
        let user = |name: &str| self.tenant.token().user(name).audience("api://orders");
        let made = match random.below(14) {
            0 => return None,
            1 => return Some("Bearer a.b.c".to_owned()),
            2 => return Some("Basic eDp5".to_owned()),
            3 => user("nia").scopes(["Orders.Read"]).wrong_key(),
            4 => user("nia").scopes(["Orders.Read"]).unknown_key(),
            5 => user("nia").scopes(["Orders.Write"]),
            6 => user("nia").scopes(["Orders.Read"]).claim("department", "sales").claim("salary", 1),
            7 => user("nia").scopes(["Orders.Read"]).claim("department", "it"),
            8 => user("nia").scopes(["Orders.Read"]).claim("department", "law"),
            9 => self.tenant.token().user("nia").audience("api://others").scopes(["X"]),
            10 => self.tenant.token().app(FABRIKAM).audience("api://orders").roles(["Orders.Read.All"]),
            11 => user("nia").scopes(["Orders.Read"]).claim("hasgroups", true),
            12 => user("otto").scopes(["Orders.Read"]).claim("hasgroups", true),
            _ => user("nia")
                .scopes(["Orders.Read"])
                .claim("exp", 1_000_000_000)
                .claim("nbf", 999_999_999)
                .claim("iat", 999_999_999),
        };
        Some(format!("Bearer {}", made.sign()))
    }
}

/// A request: its method, its target, and its header fields.
type Asked = (Method, String, Vec<(&'static str, String)>);

/// Serves requests, and returns their records in the same order.
async fn served(gateway: &Gateway, requests: &[Asked], round: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for (method, target, fields) in requests {
        let mut call = gateway.request(method.clone(), target);
        for (name, value) in fields {
            call = call.header(name, value);
        }
        ids.push(call.send().await.header("x-request-id").unwrap_or_else(|| panic!("{round}: no id")).to_owned());
    }
    let last = ids.last().unwrap().clone();
    gateway.record(|record| record["request_id"] == *last).await;
    let mut by_id: BTreeMap<String, String> = BTreeMap::new();
    for line in gateway.written_records() {
        let record: Value = serde_json::from_str(&line).unwrap();
        if let Some(id) = record["request_id"].as_str() {
            by_id.insert(id.to_owned(), line);
        }
    }
    ids.iter().map(|id| by_id.remove(id).unwrap_or_else(|| panic!("no record of {id}"))).collect()
}

fn offline(config: &str) -> (Document, OfflineGateway) {
    let document = Document::from_text("test.yaml", config).unwrap_or_else(|report| panic!("{report}"));
    let gateway =
        OfflineGateway::build(&document, 1_800_000_000, OfflineKeys::AsTheyAre).unwrap_or_else(|fault| panic!("{fault:?}"));
    (document, gateway)
}

/// The verdict on a record by another config: a code, none, or that it is unknown.
async fn replayed(line: &str, marks: &FactMarks, gateway: &OfflineGateway) -> Option<(Option<String>, Vec<String>, Told)> {
    let recorded = RecordedRequest::read(line, marks).ok()?;
    gateway.begin(recorded.time);
    let decided = gateway.decide(&recorded.request, recorded.evidence, recorded.request_id).await;
    Some((decided.code, decided.unknown, recorded.told))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_config_decides_every_record_as_it_did() {
    let scene = Scene::set().await;
    let gateway = Gateway::start(&scene.config).await;
    let (document, engine) = offline(&scene.config);
    let (mut replay, mut random) = (Replay::against(&document), Random(7));

    for round in 0..6 {
        let requests: Vec<_> = (0..BATCH).map(|_| scene.request(&mut random)).collect();
        for line in served(&gateway, &requests, round).await {
            replay.add(&engine, &line, None).await;
        }
    }

    let changes = replay.changes();
    assert!(changes.is_empty(), "{changes:#?}");
    let unknown = replay.unknown();
    let unlisted = ["the claim salary", "the claim groups"];
    assert!(unknown.iter().all(|unknown| unlisted.contains(&&*unknown.fact)), "only what nobody listed: {unknown:#?}");
    assert!(!unknown.is_empty() && replay.same > 400, "{} of {} judged", replay.same, replay.records);
    let apart: Vec<_> = replay.not_judged().into_iter().map(|counted| counted.cause).collect();
    assert!(apart.contains(&"limits") && apart.contains(&"upstream faults"), "{apart:?}");
    assert_eq!(replay.skipped(), 0, "{:?}", replay.skipped_by());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_config_decides_as_if_it_had_served_the_same_requests() {
    let scene = Scene::set().await;
    let before = Gateway::start(&scene.config).await;
    for (from, to) in [
        ("addresses: [198.51.100.0/24]", "addresses: [203.0.113.0/24]"),
        ("scopes: [Orders.Read], roles", "scopes: [Orders.Write], roles"),
        ("values: [sales, it]", "values: [sales, law]"),
        ("name: X-Door, values: [\"{{door}}\", spare]", "name: X-Door, ignore-case: true, values: [\"{{door}}\", spare]"),
        ("request.headers['x-team'] == 'a'", "request.headers['x-team'] == 'b'"),
        ("audiences: [api://others]", "audiences: [api://orders]"),
        ("addresses: [203.0.113.0/24], api-keys", "addresses: [192.0.2.0/24], api-keys"),
        ("trusted-proxies: [ { addresses: [127.0.0.1/32]", "trusted-proxies: [ { addresses: [127.0.0.2/32]"),
        ("match: { path: \"/either/{id}\" }", "match: { path: \"/other/{id}\" }"),
        ("methods: [GET, POST]", "methods: [POST, DELETE]"),
        ("code: not-sales", "code: not-of-sales"),
    ] {
        assert!(scene.config.contains(from), "{from}");
        let changed = scene.config.replace(from, to);
        let after = Gateway::start(&changed).await;
        let (document, engine) = offline(&changed);
        let (marks, mut random) = (FactMarks::of(&document), Random(11));
        let requests: Vec<_> = (0..BATCH).map(|_| scene.request(&mut random)).collect();
        let (old, new) = (served(&before, &requests, 0).await, served(&after, &requests, 1).await);

        let mut judged = 0;
        for ((old, new), request) in old.iter().zip(&new).zip(&requests) {
            let Some((code, unknown, told)) = replayed(old, &marks, &engine).await else { panic!("{old}") };
            let served = RecordedRequest::read(new, &marks).unwrap().told;
            // What one of the two did not decide by rules cannot be compared.
            if !unknown.is_empty() || matches!(told, Told::Apart(_)) || matches!(served, Told::Apart(_)) {
                continue;
            }
            judged += 1;
            let told = code.map_or(Told::Allowed, Told::Refused);
            assert_eq!(told, served, "{from} → {to}: {request:?}\n{old}\n{new}");
        }
        assert!(judged > BATCH / 2, "{to}: {judged}");
    }
    assert!(scene.upstream.requests() > 0);
}

/// Attack: a record must not be judged by what it does not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_is_not_there_makes_the_verdict_unknown() {
    let scene = Scene::set().await;
    let gateway = Gateway::start(&scene.config).await;
    let token =
        scene.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("department", "it").sign();
    let bearer = ("Authorization", format!("Bearer {token}"));
    let requests = [
        (Method::GET, "/orders/1".to_owned(), vec![bearer.clone(), ("X-Unread", "a".to_owned())]),
        (Method::GET, "/door".to_owned(), vec![("X-Door", "guess".to_owned())]),
        (Method::GET, format!("/orders/{}", "a".repeat(400)), vec![bearer]),
        (Method::GET, "/keys".to_owned(), vec![("X-Api-Key", "another".to_owned())]),
    ];
    let lines = served(&gateway, &requests, 0).await;
    let keys = [sha256("partner-key"), sha256("another")];
    let staff = "include-fragment: staff ]\n    authorization: keep";
    for (row, from, to, expected) in [
        (
            0,
            staff,
            "include-fragment: staff, check-header: { name: X-Unread } ]\n    authorization: keep",
            "the header field x-unread",
        ),
        (
            0,
            staff,
            "include-fragment: staff, authorize: { condition: \"@(request.query['w'] == '1')\" } ]\n    authorization: keep",
            "the query parameter w",
        ),
        (
            0,
            staff,
            "include-fragment: staff, authorize: { condition: \"@(token.claims.email != '')\" } ]\n    authorization: keep",
            "the claim email",
        ),
        (
            0,
            "audiences: [api://orders], scopes: [Orders.Read], roles: [Orders.Read.All]",
            "audiences: [api://orders], scopes: [Orders.Read], signing-keys-of: 33334444-dddd-5555-eeee-6666ffff7777",
            "the verification of the token",
        ),
        (1, "value: s3cret-door", "value: guess", "the header field x-door"),
        (2, "name: orders\n", "name: orders-renamed\n", "the path, of which only the beginning is recorded"),
        (3, &*keys[0], &*keys[1], "the API key"),
    ] {
        assert!(scene.config.contains(from), "{from}");
        let (document, engine) = offline(&scene.config.replace(from, to));
        let mut replay = Replay::against(&document);
        replay.add(&engine, &lines[row], None).await;
        let unknown = replay.unknown();
        assert!(
            unknown.len() == 1 && unknown[0].fact.contains(expected),
            "{to}: {unknown:?} {:?} {}",
            replay.changes(),
            lines[row]
        );
    }
    let record: Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!(record["path"].as_str().unwrap().len(), 256, "{record}");
    for line in &lines {
        for secret in ["s3cret-door", "guess", &token[token.len() - 40..], "another"] {
            assert!(!line.contains(secret), "{secret}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_counts_lists_and_fails_as_asked() {
    let scene = Scene::set().await;
    let gateway = Gateway::start(&scene.config).await;
    let token = |department: &str| {
        let token =
            scene.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("department", department);
        vec![("Authorization", format!("Bearer {}", token.sign()))]
    };
    let requests = [
        (Method::GET, "/sales".to_owned(), token("sales")),
        (Method::GET, "/sales?v=2".to_owned(), token("it")),
        (Method::GET, "/sales?v=2".to_owned(), token("law")),
        (Method::GET, "/salary".to_owned(), token("it")),
    ];
    let mut lines = served(&gateway, &requests, 0).await;
    let gained: Value = serde_json::from_str(&lines[2]).unwrap();
    lines.push("{\"event\":\"tls-handshake-failed\"}".to_owned());
    lines.push("torn".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let (records, config) = (folder.path().join("records.jsonl"), folder.path().join("entrada.yaml"));
    std::fs::write(&records, format!("{}\n", lines.join("\n"))).unwrap();
    let changed = scene.config.replace("values: [sales, it]", "values: [sales, law]");
    let run = |config_text: &str, more: &[&str]| {
        std::fs::write(&config, format!("{config_text}\nadmin: {{ address: \"127.0.0.1:0\" }}\n")).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_entrada"))
            .args(["audit", "replay"])
            .arg(&records)
            .arg("--config")
            .arg(&config)
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };

    let (code, text, _) = run(&changed, &["--format", "json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["records"], &told["skipped"], &told["same"]), (Some(0), &json!(6), &json!(2), &json!(1)), "{told:#}");
    let changes = told["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "{told:#}");
    assert_eq!((&changes[0]["before"], &changes[0]["after"]), (&json!("required-claim-missing"), &json!("allow")), "gains first");
    assert_eq!(changes[0]["request_ids"], json!([gained["request_id"]]));
    assert_eq!((&changes[1]["before"], &changes[1]["route"]), (&json!("allow"), &json!("sales")));
    assert_eq!(told["unknown"], json!([{ "cause": "not-recorded", "fact": "the claim salary", "count": 1 }]));

    for (config, kinds, expected) in [
        (&changed, &["gain"][..], 1),
        (&changed, &["loss"], 1),
        (&changed, &["unknown"], 1),
        (&scene.config, &["any"], 0),
        (&scene.config, &["any", "unknown"], 1),
    ] {
        let more: Vec<&str> = kinds.iter().flat_map(|kind| ["--fail-on", kind]).collect();
        assert_eq!(run(config, &more).0, Some(expected), "{kinds:?}");
    }
    let (code, words, _) = run(&changed, &[]);
    assert!(code == Some(0) && words.contains("GAIN") && words.contains("needs the claim salary"), "{words}");
    assert!(words.find("GAIN") < words.find("LOSS"), "{words}");
    // Asked for another time, the tokens have another age.
    let (_, later, _) = run(&scene.config, &["--at", "2040-01-01T00:00:00Z", "--format", "json"]);
    let later: Value = serde_json::from_str(&later).unwrap();
    assert!(later["changes"].to_string().contains("token-expired"), "{later:#}");
    assert_eq!(run("routes: [", &[]).0, Some(2));
    std::fs::remove_file(&records).unwrap();
    assert_eq!(run(&scene.config, &[]).0, Some(2), "a file that is not there");
}

/// A generator whose requests are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn one_in(&mut self, parts: usize) -> bool {
        self.below(parts) == 0
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Returns the SHA-256 of a key, in hexadecimal.
fn sha256(key: &str) -> String {
    use std::fmt::Write as _;

    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    hash.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

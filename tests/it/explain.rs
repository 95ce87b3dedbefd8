//! Tests of `entrada explain` by what it prints, and of `POST /api/explain`.

mod described;
mod running;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use entrada::dev_tenant::{DevTenant, Options};
use serde_json::{Value, json};

const CONFIG: &str = "
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [app-gateways] } ]
address-sets:
  app-gateways: [10.1.0.0/28]
  offices: [{ address: 203.0.113.0/24, owner: network@contoso.example }, 198.51.100.10-198.51.100.40]
named-values: { backend-key: { value: hunter2hunter2, secret: true } }
upstreams: { orders: { servers: [\"https://10.0.0.5:8443/api\"] } }
routes:
  - name: orders
    match: { hosts: [api.contoso.example], path: /orders, methods: [GET, POST] }
    inbound:
      - ip-filter: { action: allow, addresses: [offices] }
      - validate-azure-ad-token:
          tenant: contoso
          audiences: [api://orders]
          scopes: [Orders.Read]
          roles: [Orders.Write.All]
      - set-header: { name: X-Remote-User, value: \"@(token.subject)\" }
      - set-header: { name: X-Backend-Key, value: \"{{backend-key}}\" }
    upstream: orders
  - { name: notes, match: { hosts: [api.contoso.example], path: \"/orders/{id}/notes\" }, anonymous: true, upstream: orders }
  - { name: partners, match: { hosts: [partners.contoso.example], path: /orders }, anonymous: true, inbound: [ { ip-filter: { action: allow, addresses: [offices] } } ], upstream: orders }
";

/// 2027-03-01, 09:00 UTC.
const AT: &str = "2027-03-01T09:00:00Z";
const NIA: &str = "{ user: nia, audience: api://orders, scopes: [Orders.Read] }";
const DAEMON: &str =
    "{ kind: app, client: 11112222-bbbb-3333-cccc-4444dddd5555, audience: api://orders, roles: [Orders.Read.All] }";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("entrada.yaml"), CONFIG).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn explain(&self, arguments: &[&str]) -> Output {
        let config = self.0.path().join("entrada.yaml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
        command.arg("explain").arg("--config").arg(config).args(arguments).env_remove("ENTRADA_CONFIG").output().unwrap()
    }

    /// Explains, and returns the exit status and what was printed.
    fn told(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.explain(arguments);
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code().unwrap(), text)
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.explain(&[arguments, &["--format", "json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{error}")))
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

const ORDER: [&str; 6] = ["--url", "https://api.contoso.example/orders/17", "--from", "203.0.113.9", "--at", AT];

#[test]
fn an_allowed_request_is_told_step_by_step_and_its_secrets_are_masked() {
    let folder = Folder::new();

    let (status, text) = folder.told(&[&ORDER[..], &["--mint", NIA, "-H", "X-Remote-User: admin"]].concat());

    assert_eq!(status, 0, "{text}");
    for part in [
        "ALLOWED    GET https://api.contoso.example/orders/17",
        "2027-03-01 09:00:00Z",
        "caller     203.0.113.9     the peer; it is no trusted proxy",
        "route      orders",
        "not notes: /orders/{id}/notes is another path",
        "✓ inbound[0].ip-filter",
        "entrada.yaml:13",
        "in 203.0.113.0/24 of offices",
        "✓ inbound[1].validate-azure-ad-token",
        "token     in Authorization, a user's",
        "upstream   orders         GET https://10.0.0.5:8443/api/orders/17",
        "removed   X-Remote-User, Authorization",
        "added     X-Backend-Key: ***",
        "added     X-Forwarded-For: 203.0.113.9",
        "Nothing was sent.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("eyJ"), "{text}");
}

#[test]
fn a_refusal_names_what_was_wanted_and_found_and_the_fact_that_turns_it() {
    let folder = Folder::new();

    let (status, text) = folder.told(&[&ORDER[..], &["--mint", DAEMON]].concat());

    assert_eq!(status, 1, "{text}");
    for part in [
        "REFUSED 403 role-missing   GET https://api.contoso.example/orders/17",
        "✓ 1 entry passed (--all shows it)",
        "✗ inbound[1].validate-azure-ad-token",
        "wanted    Orders.Write.All",
        "found     Orders.Read.All",
        "– 2 entries not reached",
        "turns it   roles: Orders.Write.All as well   (now Orders.Read.All)",
        "→ ALLOWED (tried)",
        "who can    an administrator of the tenant: grant the application role and consent, then get a new token",
        "caller saw {\"code\":\"role-missing\"}",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let (status, told) = folder.json(&["--url", "https://api.contoso.example/orders", "--from", "198.51.100.200", "--at", AT]);
    assert_eq!((status, &told["verdict"], &told["code"]), (1, &json!("refuse"), &json!("caller-address-not-allowed")));
    let step = &told["steps"][0];
    assert_eq!(step["found"], json!(["198.51.100.200"]));
    assert_eq!(step["reason"], "outside; the nearest range ends at 198.51.100.40");
    assert_eq!((&step["place"]["line"], &step["outcome"]), (&json!(13), &json!("refused")));
    assert_eq!(told["not_reached"].as_array().unwrap().len(), 3);
    // Two facts, since the token is missing as well; each of them is needed.
    let names: Vec<_> = told["turning"]["facts"].as_array().unwrap().iter().map(|fact| fact["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["caller", "token"], "{told:#}");
    assert_eq!(told["turning"]["tried"], true);
    assert!(told["turning"]["who"][0].as_str().unwrap().contains("address-sets.offices (owner: network@contoso.example)"));
}

#[test]
fn each_kind_of_refusal_has_its_turning_fact() {
    let folder = Folder::new();
    let url = "https://api.contoso.example/orders/17";
    for (arguments, code, name, to) in [
        (
            vec!["--url", "https://api.contoso.example/order", "--from", "203.0.113.9", "--mint", NIA],
            "no-route",
            "path",
            "/orders",
        ),
        (vec!["--url", url, "--from", "203.0.113.9", "--mint", NIA, "-X", "DELETE"], "method-not-allowed", "method", "GET"),
        (vec!["--url", url, "--from", "198.51.100.200", "--mint", NIA], "caller-address-not-allowed", "caller", "198.51.100.40"),
        (
            vec!["--url", url, "--from", "10.1.0.7", "-H", "X-Forwarded-For: 198.51.100.200, 10.1.0.3", "--mint", NIA],
            "caller-address-not-allowed",
            "caller",
            "198.51.100.40",
        ),
        (
            vec!["--url", url, "--from", "203.0.113.9", "--keys", "dev-tenant"],
            "token-missing",
            "token",
            "a user's, for api://orders",
        ),
        (
            vec!["--url", url, "--from", "203.0.113.9", "--mint", "{ user: nia, audience: api://other, scopes: [Orders.Read] }"],
            "token-audience-not-allowed",
            "audience",
            "api://orders",
        ),
        (
            vec![
                "--url",
                url,
                "--from",
                "203.0.113.9",
                "--mint",
                "{ user: nia, audience: api://orders, scopes: [Orders.Read], expires: -10m }",
            ],
            "token-expired",
            "validity",
            "2027-03-01 10:00:00Z",
        ),
        (
            vec![
                "--url",
                url,
                "--from",
                "203.0.113.9",
                "--mint",
                "{ user: nia, audience: api://orders, scopes: [Orders.Read], wrong-key: true }",
            ],
            "token-signature-invalid",
            "signature",
            "by a key of contoso",
        ),
        (
            vec!["--url", url, "--from", "203.0.113.9", "--mint", "{ user: nia, audience: api://orders, scopes: [Other] }"],
            "scope-missing",
            "scopes",
            "Orders.Read as well",
        ),
    ] {
        let (status, told) = folder.json(&[&arguments[..], &["--at", AT]].concat());
        assert_eq!((status, told["code"].as_str()), (1, Some(code)), "{arguments:?}: {told:#}");
        let facts = told["turning"]["facts"].as_array().unwrap();
        assert_eq!((facts.len(), facts[0]["name"].as_str(), facts[0]["to"].as_str()), (1, Some(name), Some(to)), "{told:#}");
        assert!(told["turning"]["leads_to"].as_str().unwrap().starts_with("ALLOWED"), "{told:#}");
    }
}

#[test]
fn a_trusted_proxys_hops_are_told_one_by_one() {
    let folder = Folder::new();

    let (_, text) = folder.told(&[
        "--url",
        "https://partners.contoso.example/orders/1",
        "--from",
        "10.1.0.7",
        "-H",
        "X-Forwarded-For: 198.51.100.200, 10.1.0.3",
    ]);

    for part in [
        "caller     198.51.100.200  by x-forwarded-for, from peer 10.1.0.7",
        "10.1.0.7         trusted (app-gateways)",
        "10.1.0.3         trusted (app-gateways)",
        "198.51.100.200   the first that is not: the caller",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn conditions_are_told_with_the_values_that_they_read() {
    let folder = Folder::new();
    let config = "
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
listeners: [ { name: public, address: \"127.0.0.1:0\" } ]
upstreams: { orders: { servers: [\"http://10.0.0.5:8080\"] } }
routes:
  - name: accounts
    match: { path: \"/accounts/{account}\" }
    inbound:
      - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }
      - authorize: { condition: \"@(request.headers['x-token'] != 'a' && captures.account == token.claims.account)\" }
    upstream: orders
";
    std::fs::write(folder.0.path().join("entrada.yaml"), config).unwrap();
    let mint = "{ user: nia, audience: api://orders, scopes: [Orders.Read], claims: { account: a17 } }";
    let asked = |account: &str| {
        let url = format!("http://api.contoso.example/accounts/{account}");
        folder.told(&["--url", &url, "--from", "203.0.113.9", "--mint", mint, "-H", "X-Token: hunter2", "--at", AT])
    };

    let (allowed, refused) = (asked("a17"), asked("b1"));

    assert_eq!((allowed.0, refused.0), (0, 1), "{}{}", allowed.1, refused.1);
    assert!(allowed.1.contains("captures.account is a17, token.claims.account is a17"), "{}", allowed.1);
    assert!(refused.1.contains("captures.account is b1"), "{}", refused.1);
    assert!(!refused.1.contains("hunter2") && !allowed.1.contains("hunter2"), "{}", refused.1);
    // The caller can ask for its own; the condition compares two facts.
    assert!(
        refused.1.contains("turns it   path: /accounts/a17   (now /accounts/b1)\n             → ALLOWED (tried)"),
        "{}",
        refused.1
    );
}

/// A condition on two facts is turned by making them alike: by the caller if it can, and else by whoever grants the claim.
#[test]
fn a_condition_that_compares_two_facts_has_its_turning_fact() {
    let folder = Folder::new();
    let mint = "{ user: nia, audience: api://orders, scopes: [Orders.Read], claims: { team: blue, teams: [red, green], email: Nia@contoso.example } }";
    for (condition, header, turning) in [
        ("token.claims.team == request.headers['x-team']", "X-Team: red", Some(("request.headers['x-team']", "blue"))),
        ("request.headers['x-team'] in token.claims.teams", "X-Team: blue", Some(("request.headers['x-team']", "red"))),
        ("captures.mail == lower(token.claims.email)", "X-Team: red", Some(("path", "/of/nia%40contoso%2Eexample"))),
        ("token.claims.team == token.claims.other", "X-Team: red", Some(("token.claims.other", "blue"))),
        ("token.claims.team == captures.mail + '-team'", "X-Team: red", None),
        ("size(token.claims.team) > 400", "X-Team: red", None),
    ] {
        let config = format!(
            "
tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}
listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
upstreams: {{ orders: {{ servers: [\"http://10.0.0.5:8080\"] }} }}
routes:
  - name: of
    match: {{ path: \"/of/{{mail}}\" }}
    inbound:
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }}
      - authorize: {{ condition: \"@({condition})\" }}
    upstream: orders
"
        );
        std::fs::write(folder.0.path().join("entrada.yaml"), config).unwrap();
        let arguments =
            ["--url", "http://api.contoso.example/of/x", "--from", "203.0.113.9", "--mint", mint, "-H", header, "--at", AT];

        let (status, told) = folder.json(&arguments);

        assert_eq!((status, &told["code"]), (1, &json!("not-authorized")), "{condition}: {told:#}");
        let (facts, leads_to) = (told["turning"]["facts"].as_array().unwrap(), told["turning"]["leads_to"].as_str().unwrap());
        let found: Vec<_> = facts.iter().map(|fact| (fact["name"].as_str().unwrap(), fact["to"].as_str().unwrap())).collect();
        assert_eq!(found, turning.into_iter().collect::<Vec<_>>(), "{condition}: {told:#}");
        match turning {
            Some(_) => assert!(leads_to.starts_with("ALLOWED") && told["turning"]["tried"] == true, "{told:#}"),
            None => assert_eq!(told["turning"]["who"], json!(["nobody with a single fact that a caller controls"]), "{told:#}"),
        }
    }
}

/// A token that is replaced needs no signature of the old one.
#[test]
fn a_token_of_nobodys_keys_is_turned_by_another_token() {
    let folder = Folder::new();
    let token = folder.file("token.jwt", "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.AAAA");

    let (status, told) = folder.json(&[
        "--url",
        "https://api.contoso.example/orders/17",
        "--from",
        "203.0.113.9",
        "--token",
        path(&token),
        "--keys",
        "dev-tenant",
        "--at",
        AT,
    ]);

    assert_eq!((status, &told["code"]), (1, &json!("token-key-unknown")), "{told:#}");
    let facts = told["turning"]["facts"].as_array().unwrap();
    assert_eq!((facts.len(), &facts[0]["name"]), (1, &json!("token")), "{told:#}");
}

#[test]
fn a_token_needs_keys_and_is_never_shown() {
    let folder = Folder::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tenant = runtime.block_on(DevTenant::start(Options::default())).unwrap();
    let tid = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
    let issuer = format!("https://login.microsoftonline.com/{tid}/v2.0");
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let token = token.claim("iss", issuer.as_str()).claim("tid", tid).sign();
    let keys = json!({ "keys": [tenant.signing_key().jwk(Some(&issuer))] }).to_string();
    let (token_file, keys) = (folder.file("token.jwt", &token), folder.file("keys.json", &keys));
    let arguments = ["--url", "https://api.contoso.example/orders/17", "--from", "203.0.113.9", "--token", path(&token_file)];

    let (without, text) = folder.told(&arguments);
    assert_eq!(without, 2, "{text}");
    assert!(text.contains("--keys"), "{text}");
    let (with, text) = folder.told(&[&arguments[..], &["--keys", path(&keys)]].concat());
    assert_eq!(with, 0, "{text}");
    let (other, told) = folder.json(&[&arguments[..], &["--keys", "dev-tenant"]].concat());
    assert_eq!((other, told["code"].as_str()), (1, Some("token-key-unknown")), "{told:#}");
    let part = token.split('.').nth(1).unwrap();
    assert!(!text.contains(part) && !told.to_string().contains(part));
    assert_eq!(folder.told(&["--url", "https://api.contoso.example/orders/17"]).0, 2, "it depends on who connects");
}

/// Whether it is a secret of another kind, nobody knows: its form is told, and none of its letters.
#[test]
fn a_malformed_token_is_told_by_its_form() {
    let folder = Folder::new();
    let arguments = [&ORDER[..], &["--keys", "dev-tenant", "-H", "Authorization: Bearer hunter2hunter2"]].concat();

    let (status, told) = folder.json(&arguments);
    let text = folder.told(&arguments).1;

    assert_eq!((status, &told["code"]), (1, &json!("token-malformed")), "{told:#}");
    let found = told["steps"][1]["found"][0].as_str().unwrap();
    assert!(found.starts_with("1 part of 14 characters; begins with ***"), "{found}");
    assert!(told["steps"][1]["wanted"][0].as_str().unwrap().contains("3 parts"), "{told:#}");
    assert!(text.contains("found     1 part of 14 characters"), "{text}");
    assert!(!text.contains("hunter2") && !told.to_string().contains("hunter2"), "{text}");
}

/// The words of test cases are those of `--mint`: a token of a case can be explained as it is written.
#[test]
fn a_token_is_described_in_the_words_of_test_cases() {
    let folder = Folder::new();
    for (signer, code) in [("wrong-key", "token-signature-invalid"), ("unknown-key", "token-key-unknown")] {
        let mint = format!("{{ user: nia, audience: api://orders, scopes: [Orders.Read], signed-by: {signer} }}");
        let (_, told) = folder.json(&[&ORDER[..], &["--mint", &mint]].concat());
        assert_eq!(told["code"], code, "{told:#}");
    }
}

#[test]
fn a_trusted_proxy_that_names_nobody_is_told_as_one() {
    let folder = Folder::new();
    let url = "https://partners.contoso.example/orders/1";

    let (_, from_proxy) = folder.told(&["--url", url, "--from", "10.1.0.7"]);
    let (_, from_peer) = folder.told(&["--url", url, "--from", "203.0.113.9"]);

    assert!(from_proxy.contains("10.1.0.7        the peer; a trusted proxy (app-gateways) that names no caller"), "{from_proxy}");
    assert!(from_peer.contains("the peer; it is no trusted proxy"), "{from_peer}");
}

#[test]
fn steps_say_how_long_they_took() {
    let folder = Folder::new();

    let (_, told) = folder.json(&[&ORDER[..], &["--mint", NIA]].concat());

    let steps = told["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 4, "{told:#}");
    // The signature is verified in one of them: that takes time on any machine.
    assert!(steps.iter().all(|step| step["duration_us"].as_f64().is_some_and(|duration| duration >= 0.0)), "{told:#}");
    assert!(steps[1]["duration_us"].as_f64().unwrap() > 0.0, "{told:#}");
}

/// A config whose refusals depend on facts that no request holds by itself.
const OUTSIDE: &str = r#"
listeners: [ { name: public, address: "127.0.0.1:0" } ]
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
upstreams: { backend: { servers: ["https://10.0.0.5"] } }
partners:
  fabrikam: { enabled: false, client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666], addresses: [203.0.113.0/24] }
  adatum: { api-keys: [ { sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae } ], addresses: [203.0.113.0/24] }
routes:
  - name: partners
    match: { path: /partners }
    inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app }, check-partner: {} ]
    upstream: backend
  - name: keys
    match: { path: /keys }
    inbound: [ validate-api-key: { header-name: X-Key } ]
    upstream: backend
  - name: tiers
    match: { path: /tiers }
    inbound:
      - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }
      - set-variable: { name: tier, value: "@(lower(request.headers['x-tier']))" }
      - set-variable: { name: both, value: "@(variables.tier + '-' + token.kind)" }
      - authorize: { condition: "@(variables.both == 'gold-user')", code: not-gold }
    upstream: backend
"#;

#[test]
fn a_partners_switch_an_api_key_and_what_a_variable_is_made_of_can_turn_it() {
    let folder = Folder::new();
    folder.file("entrada.yaml", OUTSIDE);
    let app = "{ client: 22223333-cccc-4444-dddd-5555eeee6666, audience: api://orders, roles: [A] }";
    let nia = "{ user: nia, audience: api://orders, scopes: [Orders.Read] }";
    for (path, more, code, name, to) in [
        ("/partners", &["--mint", app][..], "partner-disabled", "partners.fabrikam.enabled", "true"),
        ("/keys", &[], "api-key-missing", "API key", "one of partners.adatum"),
        ("/keys", &["-H", "X-Key: guess"], "api-key-invalid", "API key", "one of partners.adatum"),
        ("/tiers", &["--mint", nia, "-H", "X-Tier: silver"], "not-gold", "request.headers['x-tier']", "gold"),
    ] {
        let url = format!("https://api.contoso.example{path}");
        let (status, told) = folder.json(&[&["--url", &url, "--from", "203.0.113.9", "--at", AT], more].concat());
        assert_eq!((status, told["code"].as_str()), (1, Some(code)), "{told:#}");
        let turning = &told["turning"];
        if code == "not-gold" {
            // The literal is of the whole text: what it is made of is named, whether or not one value of it would do.
            assert!(told["steps"].to_string().contains("variables.both"), "{told:#}");
            continue;
        }
        assert_eq!(
            (&turning["tried"], &turning["facts"][0]["name"], &turning["facts"][0]["to"]),
            (&json!(true), &json!(name), &json!(to)),
            "{told:#}"
        );
        assert!(turning["leads_to"].as_str().unwrap().starts_with("ALLOWED"), "{told:#}");
        assert!(!told.to_string().contains("made-for-a-trial"), "{told:#}");
    }
    let simple = OUTSIDE.replace("@(variables.tier + '-' + token.kind)", "@(variables.tier)").replace("gold-user", "gold");
    folder.file("entrada.yaml", &simple);
    let url = "https://api.contoso.example/tiers";
    let (_, told) = folder.json(&["--url", url, "--from", "203.0.113.9", "--at", AT, "--mint", nia, "-H", "X-Tier: silver"]);
    assert_eq!(told["turning"]["facts"][0]["to"], "gold", "{told:#}");
}

#[test]
fn a_listener_that_is_not_there_is_an_error() {
    let folder = Folder::new();
    let (status, text) = folder.told(&[&ORDER[..], &["--mint", NIA, "--listener", "pubilc"]].concat());
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("there is no listener `pubilc`"), "{text}");
}

//! Tests of the reader as a whole: accepted configs, and the reports of faults.

use std::collections::BTreeSet;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::{testing::examples, *};
use crate::settings::{Faults, Lint, Place, Secret, node, yaml};

/// Reads with only two variables set.
fn read(text: &str) -> Result<Document, Report> {
    Document::from_text_with("entrada.yaml", text, &|name| match name {
        "REGION" => Some("westeurope".to_owned()),
        "BRACES" => Some("{{key}}".to_owned()),
        "QUOTES" => Some("a\"b\\c\n".to_owned()),
        _ => None,
    })
}

fn faults(text: &str) -> Vec<String> {
    read(text).expect_err("it has faults").lines()
}

const GOOD: &str = r#"
named-values:
  tenant: { value: aaaabbbb-0000-cccc-1111-dddd2222eeee }
  region: { env: REGION }
listeners:
  - { name: public, address: "127.0.0.1:0", limits: { header-bytes: 64KiB } }
tenants:
  contoso: { id: "{{tenant}}", cloud: public }
upstreams:
  orders: { servers: ["http://127.0.0.1:1"] }
routes:
  - name: orders
    match: { path: "/{{region}}/orders", methods: [GET] }
    inbound:
      - ip-filter: { action: allow, addresses: [192.0.2.7] }
      - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], roles: [Orders.Read] }
      - set-header: { name: X-Region, value: "@(lower({{region}}))" }
    authorization: keep
    upstream: orders
"#;

#[test]
fn reads_settings_and_replaces_named_values() {
    let document = read(GOOD).unwrap_or_else(|report| panic!("{report}"));

    assert_eq!(document.config.tenants["contoso"].id, "aaaabbbb-0000-cccc-1111-dddd2222eeee");
    assert_eq!(document.config.routes[0].matches.path.as_deref(), Some("/westeurope/orders"));
    assert_eq!(document.config.routes[0].inbound[1].name(), "validate-azure-ad-token");
    assert!(document.warnings().is_empty());
    let place = Place::root().key("routes").index(0).key("inbound").index(0).key("ip-filter").key("action");
    assert_eq!(document.position(&place), Some(("entrada.yaml".to_owned(), 15, 30)));
}

#[test]
fn empty_file_is_an_empty_config() {
    for text in ["", "\n", "# nothing\n", "---\n", "~\n"] {
        assert!(read(text).is_ok(), "{text:?}");
    }
}

/// Tests one file with every kind of fault: all are reported together, each at its place.
#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let text = r#"
named-values:
  one: { value: a, env: B }
  gone: { env: NOT_SET_ANYWHERE }
listeners:
  - name: public
    adress: 127.0.0.1:0
    limits: { header-timeout: 10, header-bytes: 64kb, connections: -1 }
    trusted-proxies: 192.0.2.1
tenants:
  contoso: { id: 0123, cloud: publik }
  contoso: { id: organizations }
upstreams:
  orders: { servers: ["http://127.0.0.1:1"], host: no }
drain-timeout: 30s
routes:
  - name: orders
    match: { path: "/{{unknown}}" }
    inbound:
      - ip-filtr: { action: allow }
      - ip-filter: { action: allow }
      - set-header: { name: X-A, value: @(token.claims["a"]) }
      - set-header:
          name: X-B
          value: {{one}}
    anonymous: "true"
    upstream:
"#;

    assert_eq!(
        faults(text),
        [
            "entrada.yaml:3:25: this named value has several sources: value, env; keep one of them",
            "entrada.yaml:4:16: the environment variable `NOT_SET_ANYWHERE` is not set; set it, or give a `default`",
            "entrada.yaml:7:5: unknown key `adress`; did you mean `address`?",
            "entrada.yaml:8:31: `10` is no duration; write `10s` if seconds are meant",
            "entrada.yaml:8:49: `64kb` is no size; write `64KiB`",
            "entrada.yaml:8:68: `-1` is too small; write 0 or more",
            "entrada.yaml:9:22: a list is wanted here, not `192.0.2.1`; write it as a list: [192.0.2.1]",
            "entrada.yaml:11:18: `0123` is a number to some readers of YAML and none to others; quote it: \"0123\"",
            "entrada.yaml:11:31: `publik` is none of the words that can stand here; did you mean `public`?",
            "entrada.yaml:12:3: `contoso` is here twice; remove one of the two",
            "entrada.yaml:14:52: `no` is read as true or false, and a text is wanted; quote it: \"no\"",
            "entrada.yaml:18:20: no named value is called `unknown`; the named values are `gone`, `one`",
            "entrada.yaml:20:9: `addresses` is missing; add `addresses`: Addresses, CIDRs, ranges or names of address sets; at least one.",
            "entrada.yaml:20:9: unknown key `ip-filtr`; did you mean `ip-filter`?",
            "entrada.yaml:21:9: `addresses` is missing; add `addresses`: Addresses, CIDRs, ranges or names of address sets; at least one.",
            "entrada.yaml:22:41: `@(token.claims[\"a\"])` has to stand in quotes, or YAML reads it as something else; quote it: '@(token.claims[\"a\"])'",
            "entrada.yaml:25:18: `{{one}}` has to stand in quotes, or YAML reads it as something else; quote it: \"{{one}}\"",
            "entrada.yaml:26:16: true or false is wanted here, not `\"true\"`; write true or false, without quotes",
            "entrada.yaml:27:5: there is no value here; give it a value, or leave the key out",
        ]
    );
}

#[test]
fn report_shows_the_line_and_the_cure() {
    let report =
        read("listeners:\n  - { name: public, adress: \"127.0.0.1:0\" }\ntenants: {}\ntenants: {}\n").expect_err("faults");

    assert_eq!(
        report.to_string(),
        "\
error: unknown key `adress`
 --> entrada.yaml:2:21
  |
2 |   - { name: public, adress: ************* }
  |                     ^^^^^^
  |
  = help: did you mean `address`?

error: `tenants` is here twice
 --> entrada.yaml:4:1
  |
3 | tenants: {}
  | ------- the first one
4 | tenants: {}
  | ^^^^^^^
  |
  = help: remove one of the two

2 errors
"
    );
    let json = report.to_json();
    assert_eq!(json[0]["line"], 2);
    assert_eq!(json[0]["column"], 21);
    assert_eq!(json[0]["text"], "adress");
    assert_eq!(json[0]["pointer"], "/listeners/0/adress");
    assert_eq!(json[1]["related"][0]["line"], 3);
}

#[test]
fn syntax_is_told_with_its_place() {
    for (text, expected) in [
        (
            "a: b: c\n",
            "entrada.yaml:1:5: not readable as YAML: mapping values are not allowed in this context; a text that holds `: ` must stand in quotes",
        ),
        (
            "tenants:\n\ta: {}\n",
            "entrada.yaml:2:2: not readable as YAML: tabs disallowed within this context (block indentation); indent with spaces",
        ),
        (
            "tenants: {}\n---\nroutes: []\n",
            "entrada.yaml:2:1: a second document begins here; a config is one document; name further files in `include`",
        ),
        ("tenants: &a { <<: *a }\n", "entrada.yaml:1:19: this alias stands inside of what it names"),
        (
            "tenants: { <<: {} }\n",
            "entrada.yaml:1:12: `<<` is not understood: YAML 1.2 has no merge keys; use an alias for a whole value, or a fragment",
        ),
        (
            "upstreams: !env x\n",
            "entrada.yaml:1:17: a tag, which begins with `!`, is not understood here; remove it, or quote the text",
        ),
        (
            "include: [*.yaml]\n",
            "entrada.yaml:1:11: `*.yaml` begins with `*`, which YAML reads as the name of an anchor; quote it: \"*.yaml\"",
        ),
        ("[1, 2]: x\n", "entrada.yaml:1:1: a key has to be a text"),
        ("- a\n", "entrada.yaml:1:1: a map is wanted here, not a list; write YAML with `listeners`, `upstreams` and `routes`"),
    ] {
        assert_eq!(faults(text).first().map(String::as_str), Some(expected), "{text:?}");
    }
}

#[test]
fn bombs_of_aliases_are_defused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }

    let found = faults(&text);

    assert!(found[0].contains("the file holds too much"), "{found:?}");
}

#[test]
fn secrets_stay_out_of_the_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), "hunter2\r\n").expect("written");
    let path = folder.path().join("entrada.yaml");
    let text = r#"
named-values:
  key: { file: key }
  open: { value: west }
routes:
  - name: a
    match: { path: / }
    anonymous: true
    respond: { status: 204 }
    inbound:
      - set-header: { name: X-Key, value: "{{open}} {{key}}" }
"#;
    std::fs::write(&path, text).expect("written");

    let report = Document::load(&path).inspect(|document| {
        let secret = Secret::from("{{key}}").reveal(&document.secrets).expect("known");
        assert_eq!(secret.expose_secret(), "hunter2");
        assert!(document.files.contains(&folder.path().join("key")));
    });

    // Whether the setting may hold a secret is its type's decision; nothing tells the secret either way.
    let told = report.map_or_else(|report| report.to_string(), |document| format!("{:?}", document.config));
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn secrets_are_refused_where_none_is_meant() {
    let found = faults("named-values: { key: { value: hunter2, secret: true } }\ntenants: { a: { id: \"x{{key}}\" } }\n");

    assert_eq!(
        found,
        [
            "entrada.yaml:2:21: this text names a secret, and none may stand here; a secret is allowed only where one is meant (a password, a client secret, a value of `set-header` or `check-header`)"
        ]
    );
}

#[test]
fn secrets_cannot_stand_inside_of_expressions() {
    let found = faults(
        "named-values: { key: { value: hunter2, secret: true } }\ninbound: [ { set-header: { name: X-A, value: \"@({{key}})\" } } ]\n",
    );

    assert_eq!(
        found,
        [
            "entrada.yaml:2:46: the secret `key` cannot stand inside of an expression; write text around it instead, as in `Bearer {{key}}`"
        ]
    );
}

#[test]
fn secrets_written_into_the_file_are_not_shown() {
    let report = read("named-values: { key: { value: hunter2, secret: true, typo: 1 } }\n").expect_err("a fault");

    assert!(!report.to_string().contains("hunter2"), "{report}");
    assert!(!report.to_json().to_string().contains("hunter2"));
}

#[test]
fn named_values_are_replaced_once_and_never_become_code() {
    let document = |value: &str| {
        format!(
            "named-values:\n  q: {{ env: QUOTES }}\n  b: {{ env: BRACES }}\n  n: {{ value: \"<{{{{q}}}}>\" }}\ntenants: {{ a: {{ id: {value} }} }}\n"
        )
    };
    for (written, expected) in
        [("\"{{n}}\"", "<a\"b\\c\n>"), ("\"{{b}}\"", "{{key}}"), ("'@({{q}} + \"x\")'", "@(\"a\\\"b\\\\c\\n\" + \"x\")")]
    {
        let document = read(&document(written)).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(document.config.tenants["a"].id, expected, "{written}");
    }
    assert_eq!(
        faults(&document("'@(\"x{{q}}\")'")),
        [
            "entrada.yaml:5:21: `{{q}}` stands inside of a string; leave the quotes out: inside of `@(…)` a named value is a string already; join with `+`"
        ]
    );
}

#[test]
fn named_values_cannot_be_made_from_themselves() {
    let found =
        faults("named-values:\n  a: { value: \"{{b}}\" }\n  b: { value: \"{{a}}\" }\ntenants: { x: { id: \"{{a}}\" } }\n");

    assert_eq!(found, ["entrada.yaml:3:15: the named value `a` is made from itself; break the circle"]);
}

#[test]
fn included_files_are_joined_and_names_are_defined_once() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("routes")).expect("made");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let route =
        |name: &str| format!("  - {{ name: {name}, match: {{ path: /{name} }}, anonymous: true, respond: {{ status: 204 }} }}\n");
    write("entrada.yaml", &format!("include: [\"routes/*.yaml\"]\ntenants: {{ a: {{ id: x }} }}\nroutes:\n{}", route("one")));
    write("routes/b.yaml", &format!("routes:\n{}", route("three")));
    write("routes/a.yaml", &format!("tenants: {{ b: {{ id: y }} }}\nroutes:\n{}", route("two")));
    write("routes/.hidden.yaml", "nonsense: true\n");
    let path = folder.path().join("entrada.yaml");

    let document = Document::load(&path).unwrap_or_else(|report| panic!("{report}"));

    assert_eq!(document.config.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(document.config.tenants.len(), 2);
    assert_eq!(document.files.len(), 3);
    assert_eq!(document.folders, [folder.path().join("routes")]);

    write("routes/c.yaml", &format!("drain-timeout: 5s\ntenants: {{ a: {{ id: z }} }}\nroutes:\n{}include: [x]\n", route("one")));
    write("routes/d.yaml", "drain-timeout: 6s\nadress-sets: {}\n");
    let report = Document::load(&path).expect_err("names are taken");

    let lines: Vec<String> = report.lines().iter().map(|line| line.replace(&folder.path().display().to_string(), "")).collect();
    assert_eq!(
        lines,
        [
            "/routes/c.yaml:2:12: `a` is defined twice; rename or remove one of the two",
            "/routes/c.yaml:4:13: `one` is defined twice; rename or remove one of the two",
            "/routes/c.yaml:5:1: an included file cannot include others; name them in the main file",
            "/routes/d.yaml:1:1: `drain-timeout` stands in two files; keep it in one of them",
            "/routes/d.yaml:2:1: unknown key `adress-sets`; did you mean `address-sets`?",
        ]
    );
}

#[test]
fn faults_of_the_build_find_their_lines() {
    let document = read(GOOD).expect("it is good");
    let mut faults = Faults::default();
    let route = Place::root().key("routes").index(0);
    faults.error(&route.key("upstream"), "no upstream is called `orders`", "define it");
    faults.warning(
        Lint::ScopeNeverIssued,
        &route.key("inbound").index(1).key("validate-azure-ad-token").key("scopes"),
        "no scopes",
        "",
    );

    let report = document.report(&faults);

    assert_eq!(
        report.lines(),
        ["entrada.yaml:16:9: warning: no scopes", "entrada.yaml:19:15: no upstream is called `orders`; define it"]
    );
}

#[test]
fn what_is_likely_not_meant_is_warned_of() {
    let text = r#"
named-values:
  used: { value: x }
  stale: { value: y }
listeners:
  - { name: public, address: ["127.0.0.1:1", "0.0.0.0:2"] }
  - { name: behind, address: "0.0.0.0:3", trusted-proxies: [192.0.2.1] }
admin: { address: "127.0.0.1:9901" }
tenants: { contoso: { id: "{{used}}" }, fabrikam: { id: y } }
address-sets: { all: [192.0.2.0/24, "::/0"] }
credentials: { gateway: { tenant: contoso, client-id: x, certificate: { pem: a.pem } } }
upstreams: { clear: { servers: ["http://192.0.2.1"] }, near: { servers: ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost"] } }
routes:
  - name: a
    match: { path: /a }
    inbound:
      - ip-filter: { action: allow, addresses: [all] }
      - validate-azure-ad-token: { tenant: contoso, audiences: [x] }
    authorization: { credential: gateway, scope: x/.default }
    upstream: clear
  - name: b
    match: { path: /b }
    inbound:
      - validate-azure-ad-token: { tenant: contoso, audiences: [x], roles: [R] }
    authorization: { credential: gateway, scope: x/.default }
    upstream: near
"#;

    let document = read(text).unwrap_or_else(|report| panic!("{report}"));

    assert_eq!(
        document.warnings().lines(),
        [
            "entrada.yaml:4:3: warning: the named value `stale` is used nowhere; remove it",
            "entrada.yaml:6:21: warning: the listener `public` takes tokens without TLS from the network; give it `tls`, or name the proxies that end TLS in `trusted-proxies`",
            "entrada.yaml:9:41: warning: `fabrikam` is used nowhere; remove it, or look for a name that is mistyped",
            "entrada.yaml:18:9: warning: every user and application that has any permission for this audience is let through; name `scopes` and `roles`, `client-application-ids` or `required-claims`",
            "entrada.yaml:19:5: warning: the gateway's own token travels to the upstream in clear, to http://192.0.2.1: whoever reads it on its way can use it; use `https://` servers, or send none where the upstream needs none",
        ]
    );
}

#[test]
fn schema_and_walk_agree() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is valid");
    for (text, expected) in [
        (GOOD, true),
        ("drain-timeout: 5s", true),
        ("drain-timeout: 5", false),
        ("audit: { sinks: [ { stdout: {} } ] }", true),
        ("audit: { sinks: [ { stdout: {}, file: { path: x } } ] }", false),
        ("audit: { sinks: [ { stdout: { format: xml } } ] }", false),
        ("admin: { adress: x }", false),
        ("routes: [ { name: a, match: {}, authorization: kept } ]", false),
        ("routes: [ { name: a, match: {}, authorization: { from-header: X } } ]", true),
        ("routes: [ { name: a, match: {}, respond: { status: 70000 } } ]", false),
    ] {
        let value = yaml::read(text, 0, &mut Vec::new(), &mut Vec::new()).to_json();
        assert_eq!(validator.is_valid(&value), expected, "schema: {text}");
        assert_eq!(read(text).is_ok(), expected, "walk: {text}");
    }
}

#[test]
fn what_reads_like_something_else_is_warned_of() {
    let policies = |policies: &str| {
        format!(
            "tenants: {{ contoso: {{ id: x }} }}\nupstreams: {{ near: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes: [ {{ name: a, match: {{ path: /a }}, inbound: [ {policies} ], upstream: near }} ]"
        )
    };
    let token = |rest: &str| policies(&format!("validate-azure-ad-token: {{ tenant: contoso, audiences: [x], {rest} }}"));
    for (text, expected) in [
        (token("scopes: [a]"), Some("every application with any role for this audience is let through")),
        (token("scopes: [a], roles: [R]"), None),
        (token("scopes: [a], token-kind: user"), None),
        (token("scopes: [a], client-application-ids: [y]"), None),
        (token("scopes: [a] }, check-partner: {"), None),
        (token("scopes: [api://x/a], roles: [R]"), Some("tokens hold the part behind the last slash; write `a`")),
        (policies("set-header: { name: X-A, value: token.claims.oid }"), Some("write \"@(…)\" around it")),
        (policies("set-header: { name: X-A, value: \"@(token.claims.oid)\" }"), None),
        (policies("set-header: { name: X-A, value: tokens.example }"), None),
        (policies("").replace("/a }", "/a/* }"), Some("`*` in `/a/*` is a star")),
    ] {
        let text = text.replace("inbound: [  ]", "anonymous: true");

        let found = read(&text).unwrap_or_else(|report| panic!("{text}: {report}")).warnings().lines();
        let found: Vec<_> = found.into_iter().filter(|line| !line.contains("used nowhere")).collect();

        assert_eq!(found.len(), usize::from(expected.is_some()), "{text}: {found:?}");
        assert!(expected.is_none_or(|expected| found[0].contains(expected)), "{text}: {found:?}");
    }
}

#[test]
fn every_example_is_read_without_a_warning() {
    let folder = examples();
    let mut count = 0;
    for entry in std::fs::read_dir(folder.path()).expect("the examples are there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_none_or(|extension| extension != "yaml") || path.to_string_lossy().ends_with(TEST_FILE) {
            continue;
        }
        count += 1;

        let document = Document::load(&path).unwrap_or_else(|report| panic!("{report}"));

        assert!(document.warnings().is_empty(), "{}", document.warnings());
    }
    assert!(count >= 3, "{count} examples");
}

/// Collects the keys that a document uses, each with its type.
fn keys_used(node: &node::Node, shape: schema::Shape<'_>, used: &mut BTreeSet<(String, String)>) {
    let forms = shape.alternatives();
    match &node.kind {
        node::Kind::List(entries) => {
            let items = forms.iter().find_map(|form| form.items());
            entries.iter().for_each(|entry| keys_used(entry, items.expect("a list"), used));
        }
        node::Kind::Map(entries) => {
            for (key, value) in entries {
                for form in forms.iter().filter(|form| form.allows("object")) {
                    if let Some(inner) = form.property(&key.text) {
                        used.insert((if form.name.is_empty() { form.parent } else { form.name }.to_owned(), key.text.clone()));
                        keys_used(value, inner, used);
                    } else if let schema::Additional::Each(inner) = form.additional() {
                        keys_used(value, inner, used);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Collects all keys, each with its type.
fn keys_known(schema: &serde_json::Value, owner: &str, known: &mut BTreeSet<(String, String)>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match keyword.as_str() {
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    known.insert((owner.to_owned(), key.clone()));
                    keys_known(inner, owner, known);
                }
            }
            "$defs" => value.as_object().into_iter().flatten().for_each(|(name, schema)| keys_known(schema, name, known)),
            "oneOf" | "anyOf" => value.as_array().into_iter().flatten().for_each(|form| keys_known(form, owner, known)),
            "items" | "additionalProperties" => keys_known(value, owner, known),
            _ => {}
        }
    }
}

#[test]
fn the_complete_example_shows_every_key() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/complete.yaml");
    let text = std::fs::read_to_string(path).expect("the example is there");
    let (mut used, mut known) = (BTreeSet::new(), BTreeSet::new());

    let schema = schema();
    keys_used(&yaml::read(&text, 0, &mut Vec::new(), &mut Vec::new()), schema::Shape::root(&schema), &mut used);
    keys_known(&schema, "Config", &mut known);

    // Keys from files are replaced by whoever made them: `rotate` is told in a comment.
    known.remove(&("AssertionKeysConfig".to_owned(), "rotate".to_owned()));
    // A list of tenants in a file is told in a comment: it stands where their names do.
    known.remove(&("TenantFileConfig".to_owned(), "file".to_owned()));
    // Names of tokens are of files of cases; each request, and the first or last of them, have the same expectations.
    known.remove(&("TestTokenConfig".to_owned(), "like".to_owned()));
    known.retain(|(owner, _)| owner != "ExpectationConfig");
    // It stands in a comment beside `password`, in whose place it is written.
    known.remove(&("RedisConfig".to_owned(), "credential".to_owned()));
    // Policies that only unit tests have.
    known.remove(&("PolicyConfig".to_owned(), "panic".to_owned()));
    known.remove(&("OutboundPolicyConfig".to_owned(), "panic".to_owned()));
    let missing: Vec<String> = known.difference(&used).map(|(owner, key)| format!("{owner}: {key}")).collect();
    assert!(missing.is_empty(), "config/complete.yaml lacks {missing:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        let _ = read(&text).map_err(|report| (report.to_string(), report.to_json()));
    }

    #[test]
    fn anything_that_looks_like_yaml_is_read_or_refused(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "routes", "tenants", "named-values", ": ", ":", "- ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ", ", "\"", "'",
                "@(", ")", "{{", "}}", "a", "value", "secret", "true", "null", "0123", "&a ", "*a", "!x ", "|\n", "#", "é", "\t", "<<",
                "\u{feff}", "---\n", "\r\n", "ip-filter", "inbound", "include", "%",
            ]),
            0..40,
        )
    ) {
        let text = pieces.concat();
        let _ = read(&text).map_err(|report| (report.to_string(), report.to_json()));
    }
}

#[test]
fn a_variable_of_a_shell_is_told_where_it_is_written_and_nowhere_else() {
    for text in [
        "named-values: { pw: { value: \"$UMMER2024\", secret: true } }\n",
        "named-values: { pw: { value: \"$UMMER2024\" } }\n",
        // Replaced text is the value itself, and no URL for a reason of its own.
        "named-values: { host: { value: \"$NAME\" } }\nupstreams: { a: { servers: [\"{{host}}\"] } }\n",
    ] {
        let found = read(text).err().map(|report| report.to_string()).unwrap_or_default();
        assert!(!found.contains("filled in by nobody") && !found.contains("UMMER2024"), "{found}");
    }
    let found = faults("upstreams: { a: { servers: [\"$BACKEND\"] } }\n");
    assert!(found.iter().any(|fault| fault.contains("`$BACKEND` is filled in by nobody")), "{found:?}");
}

#[test]
fn secrets_of_urls_are_not_taken_apart_by_a_cure() {
    for url in ["https://me:pa,Zq7@h", "https://h/?sig=pa,Zq7"] {
        let report = read(&format!("upstreams: {{ a: {{ servers: \"{url}\" }} }}\n")).expect_err(url).to_string();
        assert!(report.contains("write it as a list") && !report.contains("Zq7"), "{report}");
    }
}

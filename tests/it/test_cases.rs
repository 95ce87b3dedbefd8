//! Tests of `entrada test`: what cases show, its formats and its exit codes.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::Authority;

/// A config with a filter, a token policy, a limit by partner, and policies on responses.
const CONFIG: &str = r#"
listeners: [ { name: public, address: "127.0.0.1:0", trusted-proxies: [10.1.0.0/28] } ]
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
address-sets: { offices: [203.0.113.0/24] }
partners:
  fabrikam:
    client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666]
    addresses: [203.0.113.7]
    rate-limit: { calls: 100, renewal-period: 60s }
upstreams: { orders: { servers: ["https://10.0.0.5:8443/api"] } }
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
      - set-header: { name: X-Remote-User, value: "@(token.claims.onpremisessamaccountname)", when-absent: skip }
    outbound:
      - choose:
          - when: "@(response.status == 404)"
            do: [ return-response: { status: 404, body: "There is no such order." } ]
          - otherwise: [ set-header: { name: Server, exists-action: delete } ]
    upstream: orders
  - name: partners
    match: { hosts: [partners.contoso.example], path: /orders }
    inbound:
      - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app }
      - check-partner: {}
    upstream: orders
"#;

const HEAD: &str = r#"config: entrada.yaml
now: 2027-03-01T09:00:00Z
from: 203.0.113.9
tokens:
  nia:    { kind: user, user: nia, audience: api://orders, scopes: [Orders.Read], claims: { onpremisessamaccountname: nia } }
  daemon: { kind: app, client: 11112222-bbbb-3333-cccc-4444dddd5555, audience: api://orders, roles: [Orders.Read.All] }
tests:
"#;

/// Cases that hold, one for each thing that can be expected.
const CASES: &str = r#"
  - name: a user reads, and the backend learns who
    request: { method: GET, url: "https://api.contoso.example/orders/17", token: nia, headers: { X-Remote-User: admin } }
    expect:  { upstream: orders, upstream-path: /api/orders/17, upstream-headers: { X-Remote-User: nia, Authorization: absent }, route: orders, verdict: allow }
  - name: a daemon without the role may not write
    request: { method: POST, url: "https://api.contoso.example/orders", token: daemon }
    expect:  { status: 403, code: role-missing, policy: "inbound[1].validate-azure-ad-token", verdict: refuse, upstream: absent }
  - name: an expired token is refused, with a challenge
    request: { method: GET, url: "https://api.contoso.example/orders/17", token: { like: nia, expires: -10m } }
    expect:  { status: 401, code: token-expired, headers: { WWW-Authenticate: /invalid_token/ } }
  - name: a token is valid through the clock skew
    request: { url: "https://api.contoso.example/orders/17", token: { like: nia, expires: -4m } }
    expect:  { upstream: orders }
  - name: a signature is verified for real
    request: { url: "https://api.contoso.example/orders/17", token: { like: nia, signed-by: wrong-key } }
    expect:  { code: token-signature-invalid }
  - name: a key that nobody knows is refused
    request: { url: "https://api.contoso.example/orders/17", token: { like: nia, signed-by: unknown-key } }
    expect:  { code: token-key-unknown }
  - name: a token without a signature is refused
    request: { url: "https://api.contoso.example/orders/17", token: { like: nia, algorithm: none } }
    expect:  { code: token-algorithm-not-allowed }
  - name: nobody outside the offices
    request: { method: GET, url: "https://api.contoso.example/orders/17", token: nia, from: 192.0.2.99 }
    expect:  { code: caller-address-not-allowed }
  - name: a stranger cannot speak for an office
    request: { url: "https://api.contoso.example/orders/17", token: nia, from: 192.0.2.99, headers: { X-Forwarded-For: 203.0.113.9 } }
    expect:  { code: caller-address-not-allowed, identity: { caller: 192.0.2.99 } }
  - name: a trusted proxy can
    request: { url: "https://api.contoso.example/orders/17", token: nia, from: 10.1.0.4, headers: { X-Forwarded-For: 203.0.113.9 } }
    expect:  { upstream: orders, identity: { caller: 203.0.113.9, kind: user, tenant: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
  - name: deleting is not served here
    request: { method: DELETE, url: "https://api.contoso.example/orders/17", token: nia }
    expect:  { status: 405, headers: { Allow: "GET, HEAD, POST" } }
  - name: the hundred and first call of a minute waits
    request: { url: "https://partners.contoso.example/orders/1", token: { like: daemon, client: 22223333-cccc-4444-dddd-5555eeee6666 }, from: 203.0.113.7 }
    times:   101
    expect:  { first-100: { upstream: orders, identity: { partner: fabrikam } }, last: { status: 429, code: rate-limit-exceeded, headers: { Retry-After: present } } }
    then:
      - { after: 61s, expect: { upstream: orders } }
  - name: the count begins anew with each case
    request: { url: "https://partners.contoso.example/orders/1", token: { like: daemon, client: 22223333-cccc-4444-dddd-5555eeee6666 }, from: 203.0.113.7 }
    times:   100
    expect:  { upstream: orders }
  - name: a missing order is told in our words
    request: { url: "https://api.contoso.example/orders/0", token: nia }
    answer:  { status: 404, headers: { Server: Kestrel }, body: "{}" }
    expect:  { status: 404, body: "There is no such order.", headers: { Server: absent } }
  - name: what the upstream says otherwise goes through
    request: { url: "https://api.contoso.example/orders/1", token: nia }
    answer:  { status: 200, headers: { Server: Kestrel, X-Total: "7" }, body: "[1]" }
    expect:  { status: 200, body: "[1]", headers: { Server: absent, X-Total: "/^[0-9]$/" } }
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    /// Makes a folder with the config and a file of these cases.
    fn with(cases: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("entrada.yaml", CONFIG);
        folder.write("orders.test.yaml", &format!("{HEAD}{cases}"));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// Runs `entrada test` in the folder.
    fn test(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut command(self.0.path(), &[&["test"], arguments].concat()))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.test(&[&["entrada.yaml", "--format", "json"], arguments].concat());
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.error))
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
    command.args(arguments).current_dir(folder);
    for variable in ["ENTRADA_CONFIG", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command
}

/// The output of a command, and its exit code.
struct Ran {
    code: i32,
    out: String,
    error: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code().unwrap(), out: text(stdout), error: text(stderr) }
    }
}

#[test]
fn cases_are_judged_by_the_engine_that_serves() {
    let folder = Folder::with(CASES);

    let ran = folder.test(&["entrada.yaml"]);

    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.error);
    assert!(ran.out.starts_with("15 cases, 15 hold, 0 do not; "), "{}", ran.out);
}

#[test]
fn a_failing_case_says_what_was_wanted_and_found_and_each_step() {
    let folder = Folder::with(
        "  - name: a daemon without the role may not write\n    request: { method: POST, url: \"https://api.contoso.example/orders\", token: { like: daemon, roles: [Orders.Write.All] } }\n    expect: { code: role-missing }\n  - name: holds\n    request: { url: \"https://api.contoso.example/orders\" }\n    expect: { code: token-missing }\n",
    );

    let ran = folder.test(&["entrada.yaml"]);

    assert_eq!(ran.code, 1, "{}", ran.out);
    let lines: Vec<_> = ran.out.lines().map(str::trim).collect();
    assert_eq!(lines[0], "✗ a daemon without the role may not write   orders.test.yaml:8");
    assert_eq!(lines[1], "wanted   code role-missing");
    assert_eq!(lines[2], "found    allowed, upstream orders");
    let step = |at: &str, place: &str| lines.iter().any(|line| line.starts_with(&format!("✓ {at}")) && line.contains(place));
    assert!(
        step("inbound[0].ip-filter", "entrada.yaml:15") && step("inbound[1].validate-azure-ad-token", "entrada.yaml:16"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("2 cases, 1 holds, 1 does not; "), "{}", ran.out);
}

#[test]
fn machines_get_the_same_as_json() {
    let folder = Folder::with(
        "  - name: wrong\n    request: { url: \"https://api.contoso.example/orders\" }\n    expect: { status: 403, headers: { X-None: present } }\n",
    );

    let value = folder.json(&[]);

    assert_eq!((&value["passed"], &value["failed"], &value["errors"]), (&0.into(), &1.into(), &0.into()));
    let case = &value["cases"][0];
    assert_eq!((&case["name"], &case["file"], &case["line"]), (&"wrong".into(), &"orders.test.yaml".into(), &8.into()));
    assert_eq!(case["differences"][0], serde_json::json!({ "field": "status", "wanted": "403", "found": "401 token-missing" }));
    assert_eq!(case["differences"][1], serde_json::json!({ "field": "headers.x-none", "wanted": "present", "found": "absent" }));
    let last = case["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["outcome"], &last["code"]), (&"refused".into(), &"token-missing".into()));
    assert_eq!(last["place"]["line"], 16);
}

#[test]
fn ci_systems_get_junit_and_tap() {
    let folder = Folder::with(
        "  - name: \"<wrong> & \\\"odd\\\" # TODO\"\n    request: { url: \"https://api.contoso.example/orders\" }\n    expect: { status: 403 }\n  - name: holds\n    request: { url: \"https://api.contoso.example/orders\" }\n    expect: { status: 401 }\n",
    );

    let ran = folder.test(&["entrada.yaml", "--report", "TEST-entrada.xml"]);
    let (junit, tap) = (folder.read("TEST-entrada.xml"), folder.test(&["entrada.yaml", "--format", "tap"]).out);

    assert!(ran.code == 1 && ran.out.contains("2 cases, 1 holds, 1 does not"), "{}", ran.out);
    assert!(junit.contains("<testsuites name=\"entrada\" tests=\"2\" failures=\"1\" errors=\"0\" time=\""), "{junit}");
    assert!(
        junit.contains("<testsuite name=\"orders.test.yaml\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\""),
        "{junit}"
    );
    assert!(
        junit.contains("<testcase name=\"&lt;wrong&gt; &amp; &quot;odd&quot; # TODO\" classname=\"orders\" time=\""),
        "{junit}"
    );
    assert!(junit.contains("type=\"unexpected\">wanted   status 403\nfound    401 token-missing\n"), "{junit}");
    let lines: Vec<_> = tap.lines().collect();
    assert_eq!(lines[..3], ["TAP version 14", "1..2", "not ok 1 - <wrong> & \"odd\" \\# TODO"], "{tap}");
    assert_eq!(lines[3], "  ---");
    assert!(tap.contains("    - { field: \"status\", wanted: \"403\", found: \"401 token-missing\" }\n"), "{tap}");
    assert_eq!(*lines.last().unwrap(), "ok 2 - holds");
    // The diagnostics are a document of YAML for everybody else, too.
    let block: String = lines.iter().skip(4).take_while(|line| **line != "  ...").map(|line| format!("{line}\n")).collect();
    assert!(block.starts_with("  at: \"orders.test.yaml:8\"\n"), "{block}");
}

#[test]
fn github_gets_annotations_and_a_summary() {
    let folder = Folder::with(
        "  - name: wrong, indeed\n    request: { url: \"https://api.contoso.example/orders\" }\n    expect: { status: 403 }\n",
    );
    let summary = folder.0.path().join("summary.md");
    let mut command = command(folder.0.path(), &["test", "entrada.yaml"]);

    let ran = Ran::of(command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary));

    assert!(
        ran.out.contains(
            "::error file=orders.test.yaml,line=8,title=wrong%2C indeed::wanted   status 403%0Afound    401 token-missing%0A"
        ),
        "{}",
        ran.out
    );
    assert!(folder.read("summary.md").contains("| wrong, indeed (orders.test.yaml:8) | status 403 | 401 token-missing |"));
}

#[test]
fn cases_can_be_chosen_and_listed() {
    let folder = Folder::with(CASES);

    let (chosen, listed) = (folder.json(&["--run", "^a (user|daemon)"]), folder.test(&["orders.test.yaml", "--list"]));

    assert_eq!(chosen["cases"].as_array().unwrap().len(), 2);
    assert_eq!(listed.code, 0);
    assert_eq!(listed.out.lines().count(), 15);
    assert!(listed.out.starts_with("orders.test.yaml:9  a user reads, and the backend learns who\n"), "{}", listed.out);
    assert_eq!(folder.test(&["entrada.yaml", "--run", "no such case"]).code, 2);
}

#[test]
fn what_cannot_be_answered_is_neither_yes_nor_no() {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.write("entrada.yaml", CONFIG);

    let without_cases = folder.test(&["entrada.yaml"]);
    folder.write("entrada.yaml", &CONFIG.replace("upstream: orders\n  - name", "upstream: order\n  - name"));
    folder.write("orders.test.yaml", &format!("{HEAD}{CASES}"));
    let faulty = folder.test(&["entrada.yaml"]);

    assert!(without_cases.code == 2 && without_cases.error.contains("has no test cases"), "{}", without_cases.error);
    assert!(faulty.code == 2 && faulty.error.contains("there is no upstream `order`"), "{}", faulty.error);
    assert_eq!(folder.test(&["nowhere.yaml"]).code, 2);
}

#[test]
fn faults_of_cases_have_their_places_and_cures() {
    const URL: &str = "url: \"https://api.contoso.example/orders\"";
    for (case, message) in [
        ("request: { URL }, expect: { headers: { X: present } }", "any verdict would do"),
        ("request: { URL }, expect: { code: token-mising }", "did you mean `token-missing`?"),
        ("request: { URL }, expect: { upstream: order }", "there is no upstream `order`"),
        ("request: { URL }, expect: { route: order, status: 200 }", "there is no route `order`"),
        ("request: { URL }, expect: { code: token-missing, upstream: orders }", "a refused request reaches no upstream"),
        ("request: { URL }, expect: { staus: 403 }", "did you mean `status`?"),
        ("request: { URL, token: nina }, expect: { status: 200 }", "did you mean `nia`?"),
        ("request: { URL, token: { like: nina } }, expect: { status: 200 }", "there is no token `nina`"),
        (
            "request: { URL, token: { kind: app, audience: a, scopes: [b] } }, expect: { status: 200 }",
            "has roles, and never scopes",
        ),
        ("request: { URL, token: { tenant: contosso, audience: a } }, expect: { status: 200 }", "did you mean `contoso`?"),
        ("request: { URL, token: { issuer: idp, audience: a } }, expect: { status: 200 }", "there is no issuer `idp`"),
        ("request: { URL, from: office }, expect: { status: 200 }", "`office` is not an address"),
        ("request: { url: /orders }, expect: { status: 200 }", "is no URL of http or https"),
        ("request: { URL, headers: { Host: other.example } }, expect: { status: 200 }", "`Host` is that of the URL"),
        ("request: { URL }, expect: { status: 200, body: /(/ }", "is no pattern"),
        ("request: { URL }, expect: { first-2: { status: 200 } }", "the request is sent once"),
        ("request: { URL }, times: 0, expect: { status: 200 }", "is not sent 0 times"),
        ("request: { URL, token: { like: nia, expires: soon } }, expect: { status: 200 }", "is not in the form"),
        ("request: { URL, certificate: nowhere.pem }, expect: { status: 200 }", "the certificate cannot be read"),
    ] {
        let folder = Folder::with(&format!("  - {{ name: a case, {} }}\n", case.replace("URL", URL)));

        let ran = folder.test(&["entrada.yaml"]);

        assert!(ran.code == 2 && ran.error.contains(message), "{case}\n{}{}", ran.out, ran.error);
        assert!(ran.error.contains("orders.test.yaml:8"), "{case}\n{}", ran.error);
    }
    let folder = Folder::with("  - { name: twice, request: { URL }, expect: { status: 200 } }\n  - { name: twice, request: { URL }, expect: { status: 200 } }\n".replace("URL", URL).as_str());
    assert!(folder.test(&["entrada.yaml"]).error.contains("`twice` is defined twice"));
}

#[test]
fn a_config_has_cases_of_its_own() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let token = "token: { kind: app, client: 22223333-cccc-4444-dddd-5555eeee6666, audience: api://orders }";
    let case = format!(
        "tests:\n  - name: a partner from an unknown address is refused\n    request: {{ method: GET, url: \"https://partners.contoso.example/orders/1\", from: 192.0.2.99, {token} }}\n    expect: {{ status: 403, code: partner-address-not-allowed }}\n"
    );
    folder.write("entrada.yaml", &format!("{CONFIG}{case}"));

    let ran = folder.test(&["entrada.yaml"]);

    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.error);
    let check = Ran::of(&mut command(folder.0.path(), &["check", "entrada.yaml"]));
    assert_eq!(check.code, 0, "{}", check.out);
    folder.write("entrada.yaml", &format!("{CONFIG}{}", case.replace(token, "token: nia")));
    assert!(folder.test(&["entrada.yaml"]).error.contains("a config names no tokens"));
}

#[test]
fn files_of_cases_belong_to_the_config_that_they_name() {
    let folder = Folder::with(CASES);
    let other =
        CONFIG.replace("address: \"127.0.0.1:0\"", "address: \"127.0.0.1:8080\"").replace("path: /orders,", "path: /other,");
    folder.write("other.yaml", &other);
    let case = "config: other.yaml\ntests: [ { name: elsewhere, request: { url: \"https://api.contoso.example/other\", from: 203.0.113.9 }, expect: { code: token-missing } } ]\n";
    folder.write("other.test.yaml", case);

    let (one, both, by_file) = (folder.test(&["other.yaml"]), folder.test(&["."]), folder.test(&["other.test.yaml"]));

    assert!(one.out.starts_with("1 case, 1 holds, 0 do not"), "{}{}", one.out, one.error);
    assert!(both.out.starts_with("16 cases, 16 hold, 0 do not"), "{}{}", both.out, both.error);
    assert!(by_file.out.starts_with("1 case, 1 holds, 0 do not"), "{}{}", by_file.out, by_file.error);
    folder.write("other.test.yaml", &case.replace("config: other.yaml\n", ""));
    assert!(folder.test(&["other.test.yaml"]).error.contains("does not say which config it tests"));
}

#[test]
fn files_of_cases_among_included_ones_are_no_config() {
    let folder = Folder::with(CASES);
    let (head, routes) = CONFIG.split_once("routes:\n").unwrap();
    std::fs::create_dir(folder.0.path().join("routes")).unwrap();
    folder.write("entrada.yaml", &format!("include: [routes/*.yaml]\n{head}"));
    folder.write("routes/orders.yaml", &format!("routes:\n{routes}"));
    folder.write("routes/orders.test.yaml", &format!("{HEAD}{CASES}").replace("config: entrada.yaml", "config: ../entrada.yaml"));

    for arguments in [["entrada.yaml"], ["routes/orders.test.yaml"]] {
        let ran = folder.test(&arguments);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.error);
    }
}

#[test]
fn a_secret_of_the_config_is_not_told_by_a_failing_case() {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.write("key", "hunter2-hunter2");
    let config = CONFIG.replace("upstreams:", "named-values: { backend-key: { file: key } }\nupstreams:").replace(
        "      - set-header:",
        "      - set-header: { name: X-Backend-Key, value: \"Key {{backend-key}}\" }\n      - set-header:",
    );
    folder.write("entrada.yaml", &config);
    let case = "  - name: wrong\n    request: { url: \"https://api.contoso.example/orders\", token: nia }\n    expect: { upstream: orders, upstream-headers: { X-Backend-Key: other } }\n";
    folder.write("orders.test.yaml", &format!("{HEAD}{case}"));

    for format in ["text", "json", "junit", "tap"] {
        let ran = folder.test(&["entrada.yaml", "--format", format]);
        assert!(ran.code == 1 && ran.out.contains("x-backend-key"), "{format}: {}{}", ran.out, ran.error);
        assert!(!ran.out.contains("hunter2"), "{format}: {}", ran.out);
    }
}

/// The schema of files of cases is the one that editors are given.
#[test]
fn the_schema_of_cases_describes_them() {
    let printed = Ran::of(&mut command(Path::new("."), &["schema", "--tests"]));
    let schema: Value = serde_json::from_str(&printed.out).unwrap();

    assert_eq!(schema["title"], "TestFileConfig");
    assert!(schema["$defs"]["ExpectConfig"]["patternProperties"]["^first-[1-9][0-9]*$"].is_object());
}

/// Makes a folder with the examples and the files that they name.
fn examples() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| {
        let file = path(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let partners = Authority::new("Partners");
    let server = partners.server("orders.internal");
    for (name, text) in [
        ("tls/server.pem", server.chain.as_str()),
        ("tls/server.key", &server.key),
        ("tls/corporate-ca.pem", &partners.pem()),
        ("tls/internal-ca.pem", &partners.pem()),
        ("tls/partners-ca.pem", &partners.pem()),
        ("tls/partners.crl", &partners.revoked(&[])),
        ("certs/mtls.pem", &server.chain),
        ("certs/mtls.key", &server.key),
        ("audit/readme.txt", "where records go\n"),
        ("keys/audit-seal.pem", &server.key),
        ("secrets/workspace-key", "AAECAwQFBgcICQoLDA0ODw==\n"),
        ("blocklist.txt", "192.0.2.66\n"),
        (
            "ServiceTags_Public.json",
            r#"{"changeNumber":1,"cloud":"Public","values":[{"name":"AzureFrontDoor.Backend","id":"AzureFrontDoor.Backend","properties":{"addressPrefixes":["192.0.2.128/25"]}}]}"#,
        ),
        ("secrets/password", "hunter2\n"),
        ("secrets/limit-keys", "the-same-on-every-gateway\n"),
        ("secrets/backend-key", "hunter2\n"),
    ] {
        write(name, text);
    }
    // As a reader would make them: one certificate with its key, in all its forms.
    let made = Ran::of(&mut command(
        folder.path(),
        &[
            "certificate",
            "new",
            "--subject",
            "CN=gateway",
            "--out",
            "certs/gateway.pem",
            "--pfx",
            "certs/gateway.pfx",
            "--password-file",
            "secrets/password",
        ],
    ));
    assert_eq!(made.code, 0, "{}", made.error);
    let pem = std::fs::read_to_string(path("certs/gateway.pem")).unwrap();
    let key = pem.find("-----BEGIN PRIVATE KEY").unwrap();
    let certificate = pem.find("-----BEGIN CERTIFICATE").unwrap();
    let (certificate, key) =
        if key < certificate { (&pem[certificate..], &pem[key..certificate]) } else { (&pem[certificate..key], &pem[key..]) };
    write("certs/gateway.key", key);
    write("keys/assertion.pem", key);
    write("keys/tools.pem", certificate);
    let signing = entrada::dev_tenant::SigningKey::generate().unwrap();
    write("keys/build.json", &serde_json::json!({ "keys": [signing.jwk(None)] }).to_string());
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            std::fs::copy(entry.path(), path(&entry.file_name().to_string_lossy())).unwrap();
        }
    }
    folder
}

#[test]
fn the_examples_have_cases_that_hold() {
    let folder = examples();
    let configs = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut configs: Vec<_> = configs.filter(|name| name.ends_with(".yaml") && !name.ends_with(".test.yaml")).collect();
    configs.sort();
    assert!(configs.len() >= 4, "{configs:?}");

    for config in configs {
        let ran = Ran::of(&mut command(folder.path(), &["test", &config]));
        assert_eq!(ran.code, 0, "{config}: {}{}", ran.out, ran.error);
    }
}

#[test]
fn changes_of_the_examples_are_noticed_by_their_cases() {
    let folder = examples();

    // `complete.yaml` shows every key, with certificates that nobody has: its cases notice 188 of 204 changes, which takes minutes to count.
    for config in ["entrada", "app-proxy", "own-identity", "front-door", "application-gateway", "shared-limits"] {
        let config = &format!("{config}.yaml");
        let ran = Ran::of(&mut command(folder.path(), &["test", config, "--mutate", "--require-score", "100"]));
        assert_eq!(ran.code, 0, "{config}: {}{}", ran.out, ran.error);
    }
}

/// A config with each policy that changes a request or an answer, and cases that notice every change of them.
const CHANGING: &str = r#"
listeners: [ { name: public, address: "127.0.0.1:0", trusted-proxies: [10.1.0.0/28] } ]
upstreams: { orders: { servers: ["https://10.0.0.5:8443"] }, beta: { servers: ["https://10.0.0.6:8443"] } }
routes:
  - name: orders
    match: { path: /orders }
    anonymous: true
    inbound:
      - ip-filter: { action: forbid, addresses: [198.51.100.0/24], of: peer }
      - set-variable: { name: tier, value: '@(request.headers["x-tier"])', when-absent: skip }
      - set-variable: { name: stage, value: test }
      - set-method: POST
      - choose: [ { when: "@(has(variables.tier))", do: [ set-backend-service: { upstream: beta } ] } ]
      - set-header: { name: X-Stage, value: "@(variables.stage)" }
      - set-header: { name: X-Tier, value: "@(has(variables.tier) ? variables.tier : 'none')" }
    outbound:
      - choose: [ { when: "@(response.status == 404)", do: [ set-status: { code: 410 } ] } ]
    on-error:
      - set-body: { value: Sorry. }
    upstream: orders
tests:
  - name: an order
    request: { method: GET, url: "http://api.contoso.example/orders/1", from: 203.0.113.9 }
    expect: { status: 200, upstream: orders, upstream-method: POST, upstream-headers: { X-Stage: test, X-Tier: none } }
  - name: an order of a tier
    request: { method: GET, url: "http://api.contoso.example/orders/1", from: 203.0.113.9, headers: { X-Tier: gold } }
    expect: { status: 200, upstream: beta, upstream-headers: { X-Tier: gold } }
  - name: a caller behind the proxy
    request: { method: GET, url: "http://api.contoso.example/orders/1", from: 10.1.0.4, headers: { X-Forwarded-For: 198.51.100.7 } }
    expect: { status: 200 }
  - name: a peer that is kept out
    request: { method: GET, url: "http://api.contoso.example/orders/1", from: 198.51.100.7 }
    expect: { status: 403, body: Sorry. }
  - name: a missing order
    request: { method: GET, url: "http://api.contoso.example/orders/2", from: 203.0.113.9 }
    answer: { status: 404 }
    expect: { status: 410 }
"#;

#[test]
fn changes_of_policies_that_change_requests_and_answers_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("entrada.yaml"), CHANGING).unwrap();

    let ran = Ran::of(&mut command(folder.path(), &["test", "entrada.yaml", "--mutate", "--format", "json"]));

    let value: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.error));
    let mutants = value["mutants"].as_array().unwrap();
    for change in [
        "inbound[0] ip-filter: the peer becomes the caller",
        "inbound[1] set-variable: an absent value refuses",
        "inbound[2] set-variable: another value",
        "inbound[3] set-method: PUT instead",
        "inbound[4] choose[0].do[0] set-backend-service: `orders` instead",
        "outbound[0] choose[0].do[0] set-status: 410 becomes 500",
        "on-error[0] set-body: another value",
    ] {
        let found = mutants.iter().find(|mutant| mutant["change"] == change).unwrap_or_else(|| panic!("{change}: {mutants:#?}"));
        assert!(found["killed_by"].is_string(), "{change}: {found}");
    }
}

#[test]
fn a_rule_that_no_case_touches_is_reported_with_its_place() {
    let few = CASES.split("  - name: deleting").next().unwrap();
    let folder = Folder::with(few);

    let (text, value) = (folder.test(&["entrada.yaml", "--coverage"]), folder.json(&["--require-coverage", "100"]));
    let (enough, short) =
        (folder.test(&["entrada.yaml", "--require-coverage", "30"]), folder.test(&["entrada.yaml", "--require-coverage", "100"]));

    assert_eq!((text.code, enough.code, short.code), (0, 0, 1), "{}", text.out);
    assert!(short.error.contains("% of the config, and 100 % are required") && enough.error.is_empty(), "{}", short.error);
    let missing = |what: &str, place: &str| text.out.lines().any(|line| line.contains(what) && line.contains(place));
    assert!(missing("route partners", "entrada.yaml:28") && missing("never chosen", ""), "{}", text.out);
    assert!(missing("inbound[1] check-partner", "entrada.yaml:32"), "{}", text.out);
    assert!(missing("role Orders.Write.All", "entrada.yaml:20"), "{}", text.out);
    assert!(missing("outbound[0] choose[0]", "entrada.yaml:24") && !missing("outbound[0] choose[1] ", ""), "{}", text.out);
    assert!(!missing("route orders", "") && !missing("ip-filter", ""), "{}", text.out);
    let coverage = &value["coverage"];
    assert_eq!(coverage["routes"]["total"], 2);
    assert_eq!(coverage["routes"]["missing"][0]["what"], "route partners never chosen");
    assert_eq!(coverage["routes"]["missing"][0]["place"]["line"], 28);
    assert!(coverage["percent"].as_u64().unwrap() < 100);
}

#[test]
fn a_rule_that_could_be_changed_unnoticed_is_shown_with_a_request() {
    // Without the cases of a stranger who speaks for an office, and of one outside.
    let kept: String =
        CASES.split("\n  - name: ").filter(|case| !case.contains("192.0.2.99")).collect::<Vec<_>>().join("\n  - name: ");
    let folder = Folder::with(&kept);

    let (ran, value) = (folder.test(&["entrada.yaml", "--mutate"]), folder.json(&["--mutate"]));

    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.error.contains("% of the changes, and 100 % are required"), "{}", ran.error);
    let failing = Folder::with(&CASES.replace("code: token-expired", "code: token-missing"));
    let untried = failing.test(&["entrada.yaml", "--mutate"]);
    assert_eq!(untried.code, 1, "{}", untried.out);
    assert!(untried.error.contains("no change of the config was tried"), "{}", untried.error);
    assert!(ran.out.contains("entrada.yaml:15   inbound[0] ip-filter: `10.1.0.4` added\n"), "{}", ran.out);
    let mutants = value["mutants"].as_array().unwrap();
    let of = |change: &str| {
        mutants.iter().find(|mutant| mutant["change"] == change).unwrap_or_else(|| panic!("{change}: {mutants:#?}"))
    };
    let filter = of("inbound[0] ip-filter: `10.1.0.4` added");
    assert!(filter["killed_by"].is_null() && filter["place"]["line"] == 15, "{filter}");
    assert_eq!(filter["equivalent"], false);
    assert!(filter["witness"]["before"].as_str().unwrap().contains("caller-address-not-allowed"), "{filter}");
    assert!(filter["witness"]["after"].as_str().unwrap().contains("allowed, upstream orders"), "{filter}");
    assert_eq!(of("inbound[0] ip-filter: allow becomes forbid")["killed_by"], "a user reads, and the backend learns who");
    assert_eq!(of("inbound[1] validate-azure-ad-token: a clock skew of 300s becomes 600s")["killed_by"], Value::Null);
    assert_eq!(of("without outbound[0] choose")["killed_by"], "a missing order is told in our words");
    assert!(value["mutation"]["score"].as_u64().unwrap() < 100);
}

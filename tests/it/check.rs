//! Tests of the commands that inspect a config, by their exit codes and output.

use std::process::{Command, Output, Stdio};

use crate::support::Authority;

fn entrada(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_entrada")).args(arguments).env_remove("ENTRADA_CONFIG").output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it prints UTF-8")
}

const GOOD: &str = r#"
listeners: [ { name: public, address: "127.0.0.1:0" } ]
routes: [ { name: ping, match: { exact-path: /ping }, anonymous: true, respond: { status: 204 } } ]
"#;

struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("entrada.yaml"), text).expect("written");
        Self(folder)
    }

    fn path(&self) -> String {
        self.0.path().join("entrada.yaml").display().to_string()
    }
}

#[test]
fn a_good_config_passes() {
    let file = File::new(GOOD);

    let output = entrada(&["check", &file.path()]);

    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert_eq!(text(&output.stdout), format!("{}: no faults\n", file.path()));
}

#[test]
fn warnings_count_only_when_they_are_told_to() {
    let file = File::new(&format!("{GOOD}tenants: {{ unused: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}\n"));

    let lenient = entrada(&["check", &file.path()]);
    let strict = entrada(&["check", &file.path(), "--deny-warnings"]);

    assert_eq!(lenient.status.code(), Some(0));
    assert!(text(&lenient.stdout).contains("warning: `unused` is used nowhere"));
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn connections_of_callers_own_that_nobody_could_sign_in_on_are_warned_of() {
    let check = |listener: &str, authorization: &str| {
        let file = File::new(&format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\", {listener} }} ]
upstreams: {{ portal: {{ servers: [\"http://127.0.0.1:1\"], connection-affinity: per-caller }} }}
routes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, authorization: {authorization}, upstream: portal }} ]"
        ));
        Authority::new("Contoso Servers").server("gateway.contoso.example").write(file.0.path(), "server");
        text(&entrada(&["check", &file.path()]).stdout)
    };
    let tls = "tls: { certificate: server.pem, private-key: server.key }";
    let (nobody, http2) = ("no route lets callers' own credentials through", "every listener offers HTTP/2");

    for (listener, authorization, expected) in [
        ("", "keep", None),
        ("", "remove", Some(nobody)),
        (tls, "keep", Some(http2)),
        (&format!("{tls}, http2: false"), "keep", None),
    ] {
        let told = check(listener, authorization);
        for words in [nobody, http2] {
            assert_eq!(told.contains(words), expected == Some(words), "{listener} {authorization}: {told}");
        }
        assert_eq!(told.contains("no faults"), expected.is_none(), "{told}");
    }
}

/// Tests one file with more than twelve different faults: all are reported, by `check` and by `run`.
#[test]
fn many_faults_are_told_at_once() {
    let file = File::new(
        r#"named-values: { region: { value: a, env: B } }
listeners:
  - { name: public, adress: "127.0.0.1:0", address: "127.0.0.1:0" }
  - { name: other, address: "127.0.0.1:0", limits: { header-timeout: 10 } }
drain-timeout: 5s
drain-timeout: 6s
tenants: { contoso: { id: 0123 }, fabrikam: { id: "{{nowhere}}", cloud: publik } }
rooms: []
routes:
  - match: { path: / }
    anonymous: "yes"
    inbound: [ { ip-filtr: {} } ]
  - { name: ping, match: { path: /{{region}} }, respond: { status: 70000 } }
"#,
    );
    let places = ["1:42", "3:21", "4:70", "6:1", "7:27", "7:51", "7:73", "8:1", "10:5", "11:16", "12:18", "13:35", "13:68"]
        .map(|place| format!("{}:{place}", file.path()));

    let checked = entrada(&["check", &file.path()]);
    let run = entrada(&["run", "--config", &file.path()]);

    assert_eq!(checked.status.code(), Some(1));
    for place in &places {
        assert!(text(&checked.stdout).contains(place), "check: {place}{}", text(&checked.stdout));
        assert!(text(&run.stderr).contains(place), "run: {place}{}", text(&run.stderr));
    }
    assert!(text(&checked.stdout).ends_with("15 errors\n"));
    assert_eq!(run.status.code(), Some(2));
}

/// Tests that a fault in one place hides none in another, and is not repeated by a setting that depends on it.
#[test]
fn slips_and_dangling_names_are_told_in_one_go() {
    let file = File::new(
        r#"listeners: [ { name: public, address: "127.0.0.1:0", prot: 80 } ]
named-values: { password: { file: not/there } }
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee, clowd: public } }
upstreams:
  orders: { servers: ["http://127.0.0.1:1"], timeouts: { connect: soon } }
routes:
  - name: orders
    match: { path: /orders }
    inbound: [ { validate-azure-ad-token: { tenant: contosso, audiences: [api://orders], scopes: [a] } } ]
    upstream: order
  - { name: open, match: { path: /open }, upstream: orders }
  - { name: own, match: { path: /own }, anonymus: true, upstream: ordes }
"#,
    );

    let output = entrada(&["check", &file.path()]);

    let told = text(&output.stdout);
    let expected = ["1:54", "2:35", "3:65", "5:67", "9:53", "10:15", "11:13", "12:41", "12:67"];
    let places: Vec<_> = told.lines().filter_map(|line| line.trim().strip_prefix("--> ")).collect();
    let expected = expected.map(|place| format!("{}:{place}", file.path()));
    assert_eq!(places, expected, "{told}");
    assert_eq!(output.status.code(), Some(1));
}

/// Tests an unreadable policy in the middle of a list: the faults after it are reported at their own places.
#[test]
fn policies_that_cannot_be_read_hide_nothing_of_other_routes() {
    let file = File::new(
        r#"listeners: [ { name: public, address: "127.0.0.1:0" } ]
upstreams: { orders: { servers: ["http://127.0.0.1:1"] }, stock: { timeouts: { connect: 1s } } }
fragments: { office: [ ip-filter: { action: allow, addresses: [offices] } ] }
routes:
  - name: first
    match: { path: /first }
    inbound: [ validate-azure-add-token: { tenant: contoso }, check-partner: {} ]
    authorization: { from-header: X-Token }
    upstream: orders
  - { name: second, match: { path: /second }, anonymous: yess, upstream: orders }
  - { name: third, match: { path: /third }, anonymous: true, inbound: [ ip-filter: { addresses: [10.0.0.0/8] }, include-fragment: office ], upstream: stock }
  - { name: fourth, match: { path: /fourth }, anonymous: true, inbound: [ include-fragment: offise ], upstream: ordes }
"#,
    );

    let output = entrada(&["check", &file.path()]);

    let told = text(&output.stdout);
    let expected = ["2:59", "3:64", "7:16", "7:16", "7:52", "10:58", "11:73", "12:93", "12:113"];
    let places: Vec<_> = told.lines().filter_map(|line| line.trim().strip_prefix("--> ")).collect();
    let expected = expected.map(|place| format!("{}:{place}", file.path()));
    assert_eq!(places, expected, "{told}");
}

#[test]
fn machines_get_json() {
    let file = File::new("listeners: 5\n");

    let output = entrada(&["check", &file.path(), "--format", "json"]);

    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["passed"], false);
    assert_eq!(value["errors"], 1);
    assert_eq!(value["findings"][0]["line"], 1);
    assert_eq!(value["findings"][0]["column"], 12);
    assert_eq!(value["findings"][0]["text"], "5");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_config_that_is_not_there_is_a_fault() {
    let output = entrada(&["check", "/nowhere/entrada.yaml"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("/nowhere/entrada.yaml"), "{}", text(&output.stdout));
}

#[test]
fn the_schema_is_printed() {
    let output = entrada(&["schema"]);

    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["properties"]["routes"].is_object());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn shells_are_told_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = entrada(&["completions", shell]);

        assert!(text(&output.stdout).contains("must-allow"), "{shell}");
        assert_eq!(output.status.code(), Some(0));
    }
}

/// `entrada explain … | head -1`: whoever reads has had enough, which is no error of ours.
#[test]
fn output_that_nobody_reads_on_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = "routes: [ { name: ping, match: { exact-path: /ping }, anonymous: true, respond: { status: 204 } } ]";
    std::fs::write(folder.path().join("entrada.yaml"), config).unwrap();
    let explain = ["explain", "entrada.yaml", "--url", "https://api.contoso.example/ping", "--from", "203.0.113.9"];
    for arguments in
        [&["schema"][..], &explain, &["check", "entrada.yaml", "--format", "sarif"], &["diff", "entrada.yaml", "entrada.yaml"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
        let piped = command.args(arguments).current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        drop(child.stdout.take());

        let output = child.wait_with_output().unwrap();

        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

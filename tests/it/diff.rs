//! Tests of `entrada diff`: what it prints, and that nothing differs beyond what it tells.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Command, Output},
};

use entrada::unstable::{
    difference::{Change, Difference, Options, Side, difference},
    offline::{OfflineRequest, Outcome, Verdict},
};
use serde_json::Value;

use crate::{
    random_config::{Random, RandomConfig, RandomRequest},
    support::Gateway,
};

/// 2027-03-01, 09:00 UTC.
const NOW: u64 = 1_803_891_600;
const AT: &str = "2027-03-01T09:00:00Z";
const TENANT: &str = "id: 10000000-0000-4000-8000-000000000001";
const SERVERS: [&str; 2] = ["http://10.0.0.5:8080", "http://10.0.0.6:8080"];

const OLD: &str = "
listeners: [ { name: public, address: \"127.0.0.1:0\" } ]
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
address-sets: { offices: [203.0.113.0/24, 198.51.100.10-198.51.100.40] }
named-values: { gate-key: { value: hunter2hunter2, secret: true } }
upstreams: { orders: { servers: [\"https://10.0.0.5:8443/api\"] } }
routes:
  - name: orders
    match: { hosts: [api.contoso.example], path: /orders, methods: [POST] }
    inbound:
      - ip-filter: { action: allow, addresses: [offices] }
      - check-header: { name: X-Gate, values: [\"{{gate-key}}\"] }
      - validate-azure-ad-token:
          tenant: contoso
          audiences: [api://orders]
          roles: [Orders.Write.All]
    upstream: orders
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(old: &str, new: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old.yaml"), old).unwrap();
        std::fs::write(folder.path().join("new.yaml"), new).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn diff(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_entrada"))
            .arg("diff")
            .args([self.path("old.yaml"), self.path("new.yaml")])
            .args(["--at", AT])
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_gain_is_told_with_its_cause_and_a_request() {
    let new = OLD.replace("[Orders.Write.All]", "[Orders.Write.All, Orders.Read.All]");
    let folder = Folder::with(OLD, &new);
    let output = folder.diff(&[]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for part in [
        "1 group gains, 0 lose; 0 of 1 route has the same rules.   complete,",
        "GAIN  1  orders: POST",
        "tokens: of contoso, for api://orders, role Orders.Read.All, the header x-gate is ***",
        "callers from 198.51.100.10-198.51.100.40, 203.0.113.0/24 (287 addresses)",
        "new.yaml:16  roles: + Orders.Read.All",
        "POST http://api.contoso.example/orders   from 203.0.113.1",
        "before   ✗ inbound[2].validate-azure-ad-token    role-missing",
        "after    ✓ → orders",
        "UNKNOWN       none",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(!told.contains("hunter2"), "a secret is shown nowhere: {told}");
    for (arguments, status) in [
        (&["--fail-on", "gain"][..], 1),
        (&["--fail-on", "loss"], 0),
        (&["--fail-on", "any"], 1),
        (&["--route", "ord", "--fail-on", "any"], 1),
        (&["--route", "other", "--fail-on", "any"], 2),
        (&["--max-cells", "3"], 2),
        (&["--max-cells", "3", "--allow-incomplete"], 0),
    ] {
        let output = folder.diff(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output));
    }
}

/// Nothing that was not compared is told to be the same.
#[test]
fn an_answer_that_is_not_complete_says_so_in_every_form() {
    let new = OLD.replace("[Orders.Write.All]", "[Orders.Write.All, Orders.Read.All]");
    let folder = Folder::with(OLD, &new);
    let limited = |format: &str| {
        let output = folder.diff(&["--max-cells", "1", "--format", format]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output)
    };

    let (told, markdown) = (limited("text"), limited("markdown"));
    let [json, sarif] = ["json", "sarif"].map(|format| serde_json::from_str::<Value>(&limited(format)).unwrap());

    assert!(told.starts_with("NOT COMPLETE: in what was compared, "), "{told}");
    assert!(told.contains("UNKNOWN       none in what was compared"), "{told}");
    assert!(told.contains("NOT COMPLETE  there are more than 1 hosts, paths and methods"), "{told}");
    assert!(markdown.starts_with("### Access: NOT COMPLETE: in what was compared, "), "{markdown}");
    assert!(markdown.contains("What was not compared may differ."), "{markdown}");
    for text in [&told, &markdown] {
        assert!(!text.contains("have the same rules"), "{text}");
    }
    assert_eq!((&json["complete"], &json["routes"]["same"]), (&Value::Bool(false), &Value::Null), "{json:#}");
    let ended = &sarif["runs"][0]["invocations"][0];
    assert_eq!(ended["executionSuccessful"], false);
    let notification = &ended["toolExecutionNotifications"][0];
    assert_eq!(notification["level"], "error");
    assert!(notification["message"]["text"].as_str().unwrap().contains("not complete"), "{sarif:#}");
}

#[test]
fn machines_read_json_sarif_and_markdown() {
    let new =
        OLD.replace("198.51.100.10-198.51.100.40", "198.51.100.0/24").replace("roles: [Orders.Write.All]", "roles: [Admin]");
    let folder = Folder::with(OLD, &new);
    let json: Value = serde_json::from_slice(&folder.diff(&["--format", "json"]).stdout).unwrap();
    assert_eq!(json["complete"], true);
    let changes: Vec<_> = json["groups"].as_array().unwrap().iter().map(|group| group["change"].as_str().unwrap()).collect();
    assert!(changes.contains(&"gain") && changes.contains(&"loss"), "{json:#}");
    for group in json["groups"].as_array().unwrap() {
        assert!(group["witness"]["curl"].as_str().unwrap().starts_with("curl -X POST"), "{group:#}");
        assert_ne!(group["before"]["verdict"], group["after"]["verdict"], "{group:#}");
        let headers = group["witness"]["request"]["headers"].to_string();
        assert!(headers.contains("***") && !headers.contains("hunter2"), "{headers}");
    }
    let sarif: Value = serde_json::from_slice(&folder.diff(&["--format", "sarif"]).stdout).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert!(results.iter().any(|result| result["ruleId"] == "access-gained" && result["level"] == "warning"), "{sarif:#}");
    let prints: Vec<_> = results.iter().map(|result| &result["partialFingerprints"]["primaryLocationLineHash"]).collect();
    assert!(prints.iter().all(|print| prints.iter().filter(|other| other == &print).count() == 1), "{prints:?}");
    let markdown = text(&folder.diff(&["--format", "markdown"]));
    assert!(
        markdown.starts_with("### Access: ") && markdown.contains("#### Gains access") && markdown.contains("```"),
        "{markdown}"
    );
    assert!(!markdown.contains("hunter2"), "{markdown}");
}

#[test]
fn a_faulty_config_is_no_answer() {
    let folder = Folder::with(OLD, "routes: [ { name: a } ]\n");
    let output = folder.diff(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("new.yaml"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_compared_with_a_running_gateway_by_digests_alone() {
    let tenant = entrada::dev_tenant::DevTenant::start(entrada::dev_tenant::Options::default()).await.unwrap();
    let known = format!("id: {}, authority: \"{}\"", tenant.tenant_id(), tenant.base_url());
    let config = OLD
        .replace("id: aaaabbbb-0000-cccc-1111-dddd2222eeee", &known)
        .replace("https://10.0.0.5:8443/api", "http://127.0.0.1:9/api");
    let config = format!("{config}admin: {{ address: \"127.0.0.1:0\" }}\naudit: {{ sinks: [] }}\n");
    let gateway = Gateway::start(&config).await;
    let admin = format!("http://{}", gateway.admin_address());

    let folder =
        Folder::with(&config, &config.replace("[203.0.113.0/24, ", "[203.0.113.0/25, ").replace("name: orders\n", "name: o\n"));
    let ask = |file: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
        command.args(["diff", "--live"]).arg(folder.path(file)).args(["--admin", &admin]).args(more);
        command.output().unwrap()
    };
    let same = ask("old.yaml", &["--fail-on", "any"]);
    assert!(text(&same).starts_with("the gateway uses this config"), "{}", text(&same));
    assert_eq!(same.status.code(), Some(0));
    let other = ask("new.yaml", &["--fail-on", "any"]);
    let told = text(&other);
    assert_eq!(other.status.code(), Some(1), "{told}");
    for (part, what) in
        [("address-sets.offices", "differs"), ("routes.o", "only in the file"), ("routes.orders", "only in the gateway")]
    {
        assert!(told.lines().any(|line| line.trim_start().starts_with(part) && line.ends_with(what)), "{part} {what}: {told}");
    }
    let answer =
        reqwest::Client::builder().no_proxy().build().unwrap().get(format!("{admin}/api/config/parts")).send().await.unwrap();
    let answer = answer.text().await.unwrap();
    for hidden in ["hunter2", "203.0.113", "api.contoso.example"] {
        assert!(!answer.contains(hidden), "digests alone leave the gateway: {answer}");
    }
}

fn serves(outcome: &Outcome) -> bool {
    match outcome.verdict {
        Verdict::Allow => true,
        Verdict::Answer => outcome.status.as_u16() < 400,
        Verdict::Refuse | Verdict::Fault => false,
    }
}

/// Judges random requests by both configs, and finds those that differ outside of all groups.
async fn outside_of_groups(sides: [&Side; 2], found: &Difference, random: &mut Random, requests: usize, told: &str) -> usize {
    let mut tokens: HashMap<String, String> = HashMap::new();
    let mut differ = 0;
    for _ in 0..requests {
        let asked = RandomRequest::new(random);
        let url = format!("http://{}{}", asked.host, asked.target);
        let mut request = OfflineRequest::new(asked.method, &url, asked.caller).unwrap();
        request.read_trace = false;
        if let Some(gate) = asked.gate {
            request.header("X-Gate", gate);
        }
        if let Some(spec) = &asked.token {
            let token = tokens.entry(format!("{spec:?}")).or_insert_with(|| spec.mint(sides[0].gateway()).unwrap());
            request.header("Authorization", format!("Bearer {token}"));
        }
        let mut outcomes = Vec::new();
        for side in sides {
            side.gateway().begin(NOW);
            outcomes.push(side.gateway().run(&request).await);
        }
        let served = [serves(&outcomes[0]), serves(&outcomes[1])];
        if served[0] == served[1] {
            continue;
        }
        differ += 1;
        let change = if served[1] { Change::Gain } else { Change::Loss };
        let (refusing, serving) = if served[1] { (&outcomes[0], &outcomes[1]) } else { (&outcomes[1], &outcomes[0]) };
        let in_one = found.groups.iter().any(|group| {
            let refusal = if served[1] { &group.before } else { &group.after };
            group.change == change
                && serving.route.as_deref().is_none_or(|route| group.routes.iter().any(|name| name == route))
                && (group.methods.is_empty() || group.methods.iter().any(|method| method == asked.method))
                && group.holds(asked.caller)
                && (refusal.code == refusing.code || refusing.code.as_deref().is_some_and(|code| code.starts_with("token-")))
        });
        assert!(
            in_one || !found.unknown.is_empty(),
            "{told}\n{asked:?}\n{:?} {:?} → {:?} {:?}\n{}",
            outcomes[0].code,
            outcomes[0].policy,
            outcomes[1].code,
            outcomes[1].policy,
            found.to_text()
        );
    }
    differ
}

/// Compares configs with changes of them, and judges requests; returns the number of requests and of those that differ.
fn compare_random(seeds: std::ops::Range<u64>, requests: usize) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    let (mut judged, mut differ, mut unusable) = (0, 0, 0);
    for seed in seeds {
        let mut random = Random::new(seed);
        let old = RandomConfig::new(&mut random);
        let new = old.changed(&mut random);
        let texts = [&old, &new].map(|config| config.to_text(TENANT, SERVERS, ""));
        let told = format!("seed {seed}\n--- old\n{}--- new\n{}", texts[0], texts[1]);
        let (Ok(old), Ok(new)) = (Side::from_text("old.yaml", &texts[0], NOW), Side::from_text("new.yaml", &texts[1], NOW))
        else {
            unusable += 1;
            continue;
        };
        let found = runtime.block_on(difference([&old, &new], &Options::default()));
        assert!(found.complete, "{told}\n{}", found.to_text());
        for group in &found.groups {
            let served = [&group.before, &group.after].map(|verdict| verdict.to.is_some());
            assert_eq!(served, [group.change == Change::Loss, group.change == Change::Gain], "{told}\n{group:#?}");
        }
        differ += runtime.block_on(outside_of_groups([&old, &new], &found, &mut random, requests, &told));
        judged += requests;
    }
    println!("{judged} requests, {differ} decided differently; {unusable} pairs of configs are unusable");
    (judged, differ)
}

#[test]
fn random_requests_differ_only_within_groups() {
    let (judged, differ) = compare_random(0..70, 60);
    assert!(judged >= 2_000 && differ >= 50, "{judged} requests, {differ} differ: too few to say something");
}

/// The config has a condition on a path that a capture of another route's path matches.
#[test]
fn a_path_that_a_condition_names_is_compared_where_a_capture_matches_it() {
    compare_random(2_579..2_580, 100);
}

#[test]
#[ignore = "takes minutes: the long form of the property above, run by hand"]
fn a_hundred_thousand_random_requests_differ_only_within_groups() {
    let (judged, differ) = compare_random(1_000..2_600, 100);
    assert!(judged >= 100_000 && differ >= 2_000, "{judged} requests, {differ} differ");
}

/// Writes a config with as many routes, each with its own rules.
fn many_routes(count: usize, role: &str) -> String {
    let mut text = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
tenants: {{ contoso: {{ {TENANT} }} }}
address-sets: {{ offices: [203.0.113.0/24] }}
upstreams: {{ one: {{ servers: [\"{}\"] }} }}
routes:
",
        SERVERS[0]
    );
    for index in 0..count {
        text += &format!(
            "  - {{ name: r{index}, match: {{ path: /p{index} }}, upstream: one, inbound: [ {{ ip-filter: {{ action: allow, addresses: [offices, 192.0.2.{}] }} }}, {{ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], roles: [{role}, Role{}] }} }} ] }}\n",
            index % 250,
            index % 7
        );
    }
    text
}

#[test]
#[ignore = "a measurement, run by hand in release: entrada diff of 19 and of 2,000 routes"]
fn configs_of_many_routes_are_compared_in_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    for count in [19, 2_000] {
        for (kind, role) in [("one changed set", "A"), ("every route changed", "B")] {
            let old = many_routes(count, "A");
            let new = many_routes(count, role).replace("[203.0.113.0/24]", "[203.0.113.0/24, 198.51.100.0/24]");
            let began = std::time::Instant::now();
            let sides = [Side::from_text("old.yaml", &old, NOW).unwrap(), Side::from_text("new.yaml", &new, NOW).unwrap()];
            let read = began.elapsed();
            let found = runtime.block_on(difference([&sides[0], &sides[1]], &Options::default()));
            println!("{count} routes, {kind}: read in {read:?}, {:?} in all: {}", began.elapsed(), found.summary());
            assert!(found.complete);
        }
    }
}

//! Tests of what the console asks: `/api/overview`, `/api/routes`, `/api/config`, `/api/decisions` and parts of `/api/status`.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Gateway, LONGEST_WAIT, ORDERS_TOKEN, TestBed, eventually};

async fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{}{path}", gateway.admin_address())).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn json(gateway: &Gateway, path: &str) -> Value {
    let (status, text) = get(gateway, path).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Returns a member of each record of an answer.
fn each<'v>(answer: &'v Value, member: &str) -> Vec<&'v str> {
    let records = answer["decisions"].as_array().unwrap();
    records.iter().map(|one| one["record"][member].as_str().unwrap_or_default()).collect()
}

const OPEN: &str = "routes: [ { name: own, match: { path: /own }, anonymous: true, respond: { status: 200 } } ]\n";

#[tokio::test]
async fn decisions_are_numbered_filtered_and_bounded() {
    let gateway = Gateway::start(&format!("{OPEN}admin: {{ address: \"127.0.0.1:0\", recent-decisions: 4 }}\n")).await;
    for path in ["/own/1", "/own/2", "/else", "/own/3", "/own/4"] {
        gateway.get(path).send().await;
    }
    gateway.record(|record| record["path"] == "/own/4").await;

    let all = json(&gateway, "/api/decisions").await;
    assert_eq!(each(&all, "path"), ["/own/2", "/else", "/own/3", "/own/4"], "only four are kept");
    assert_eq!((&all["oldest"], &all["newest"], &all["next"]), (&json!(2), &json!(5), &json!(5)));
    let numbers: Vec<_> = all["decisions"].as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 3, 4, 5]);

    for (question, expected) in [
        ("limit=2", &["/own/3", "/own/4"][..]),
        ("before=4", &["/own/2", "/else"]),
        ("before=4&limit=1", &["/else"]),
        ("after=3", &["/own/3", "/own/4"]),
        ("after=5", &[]),
        ("decision=deny", &["/else"]),
        ("decision=allow,deny&limit=1", &["/own/4"]),
        ("code=no-route", &["/else"]),
        ("route=own", &["/own/2", "/own/3", "/own/4"]),
        ("route=", &["/else"]),
        ("text=OWN%2F3", &["/own/3"]),
        ("caller=127.0.0.1&text=else", &["/else"]),
        ("caller=192.0.2.1", &[]),
        ("partner=fabrikam", &[]),
    ] {
        let answer = json(&gateway, &format!("/api/decisions?{question}")).await;
        assert_eq!(each(&answer, "path"), expected, "{question}");
    }

    // Who reads on gets everything in turn, and learns what has gone by.
    let first = json(&gateway, "/api/decisions?after=1&limit=3").await;
    assert_eq!((&first["next"], &first["more"], &first["missed"]), (&json!(4), &json!(true), &json!(0)));
    let rest = json(&gateway, "/api/decisions?after=4").await;
    assert_eq!((&rest["next"], &rest["more"]), (&json!(5), &json!(false)));
    assert_eq!(json(&gateway, "/api/decisions?after=0").await["missed"], 1);

    for question in ["limit=many", "unknown=1", "decision=denied", &format!("text={}", "x".repeat(257))] {
        assert_eq!(get(&gateway, &format!("/api/decisions?{question}")).await.0, 400, "{question}");
    }
}

/// A stream of decisions as it arrives.
struct Following(TcpStream, String);

impl Following {
    async fn begin(gateway: &Gateway, question: &str, more: &str) -> Self {
        let mut stream = TcpStream::connect(gateway.admin_address()).await.unwrap();
        let head = format!("GET /api/decisions?follow{question} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut following = Self(stream, String::new());
        following.until("\r\n\r\n").await;
        following
    }

    /// Reads until a text has come.
    async fn until(&mut self, text: &str) -> &str {
        let read = async {
            while !self.1.contains(text) {
                let mut bytes = [0; 4096];
                let count = self.0.read(&mut bytes).await.unwrap();
                assert!(count > 0, "the stream has ended: {}", self.1);
                self.1.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        timeout(LONGEST_WAIT, read).await.expect("it comes");
        &self.1
    }
}

#[tokio::test]
async fn decisions_are_followed_from_where_one_was_and_filtered() {
    let gateway = Gateway::start(OPEN).await;
    gateway.get("/own/before").send().await;
    gateway.record(|record| record["path"] == "/own/before").await;

    let mut all = Following::begin(&gateway, "", "").await;
    let mut refused = Following::begin(&gateway, "&decision=deny", "").await;
    let mut again = Following::begin(&gateway, "&after=0", "").await;
    let mut reconnected = Following::begin(&gateway, "", "Last-Event-ID: 0\r\n").await;
    gateway.get("/own/now").send().await;
    gateway.get("/else").send().await;

    let seen = all.until("/else").await;
    assert!(seen.contains("/own/now") && !seen.contains("/own/before"), "{seen}");
    assert!(seen.contains("\nid: 2\n") && seen.contains("\nid: 3\n"), "{seen}");
    let seen = refused.until("/else").await;
    assert!(!seen.contains("/own/"), "{seen}");
    for following in [&mut again, &mut reconnected] {
        let seen = following.until("/else").await;
        assert!(seen.contains("/own/before") && seen.contains("/own/now"), "{seen}");
    }
}

#[tokio::test]
async fn only_so_many_follow_and_a_place_comes_free() {
    let gateway = Gateway::start(OPEN).await;
    let mut all = Vec::new();
    for _ in 0..32 {
        all.push(Following::begin(&gateway, "", "").await);
    }
    assert!(all.iter().all(|following| following.1.starts_with("HTTP/1.1 200 ")));

    let (status, told) = get(&gateway, "/api/decisions?follow").await;
    assert_eq!(status, 429, "{told}");
    // Those who follow take nobody's place among ordinary questions.
    assert_eq!(get(&gateway, "/api/overview").await.0, 200);

    all.clear();
    eventually("that a place comes free", async || Following::begin(&gateway, "", "").await.1.starts_with("HTTP/1.1 200 ")).await;
}

#[tokio::test]
async fn routes_have_words_counts_and_pages() {
    let many: String = (0..120)
        .map(|index| format!("- {{ name: team-{index:03}, match: {{ hosts: [t.contoso.example], path: /apis/{index:03}, methods: [GET] }}, anonymous: true, respond: {{ status: 204 }} }}\n"))
        .collect();
    let routes = format!(
        "- name: orders\n  match: {{ exact-path: /orders }}\n  inbound: [ {ORDERS_TOKEN}, {{ check-header: {{ name: x-key, values: [hunter2], mode: report-only }} }} ]\n  authorization: keep\n  upstream: backend\n{many}"
    );
    let bed = TestBed::with(&routes, "").await;
    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();
    bed.gateway.get("/orders").send().await;
    bed.gateway.get("/orders").bearer(format!("{}x", bed.user_token())).send().await;
    bed.gateway.get("/orders").send().await;
    bed.gateway.get("/nowhere").send().await;
    bed.gateway.record(|record| record["code"] == "no-route").await;

    let page = json(&bed.gateway, "/api/routes").await;
    assert_eq!((&page["total"], &page["matching"]), (&json!(121), &json!(121)));
    assert_eq!(page["routes"].as_array().unwrap().len(), 50);
    let orders = &page["routes"][0];
    assert_eq!(orders["name"], "orders");
    assert_eq!((&orders["path"], &orders["exact"], &orders["hosts"]), (&json!("/orders"), &json!(true), &json!([])));
    assert_eq!(orders["methods"].as_array().unwrap().len(), 7);
    assert_eq!(
        (&orders["allowed"], &orders["refused"], &orders["failed"], &orders["would_deny"]),
        (&json!(1), &json!(3), &json!(0), &json!(1))
    );
    assert_eq!(orders["codes"][0], json!({ "code": "token-missing", "decision": "deny", "count": 2 }));
    assert_eq!(orders["upstreams"], json!(["backend"]));
    assert_eq!(orders["authorization"], "the caller's own token");
    let policies = orders["policies"].as_array().unwrap();
    assert_eq!(
        policies[0]["words"],
        "a token of contoso for api://orders with the scope Orders.Read or the role Orders.Read.All"
    );
    assert_eq!(
        policies[1],
        json!({ "at": "inbound[1].check-header", "words": "a certain value of the header x-key", "report_only": true })
    );

    for (question, total, first) in [
        ("text=team-11", 10, "team-110"),
        ("text=APIS/007", 1, "team-007"),
        ("text=orders.read.all", 1, "orders"),
        ("text=backend", 1, "orders"),
        ("order=name&offset=1", 121, "team-000"),
        ("order=refused", 121, "orders"),
        ("order=would-deny&limit=1", 121, "orders"),
        ("name=team-042", 1, "team-042"),
        ("offset=100&limit=500", 121, "team-099"),
    ] {
        let page = json(&bed.gateway, &format!("/api/routes?{question}")).await;
        assert_eq!((&page["matching"], &page["routes"][0]["name"]), (&json!(total), &json!(first)), "{question}");
    }
    assert_eq!(get(&bed.gateway, "/api/routes?order=sideways").await.0, 400);
}

#[tokio::test]
async fn the_overview_says_what_needs_attention() {
    let mut bed = TestBed::with_orders().await;
    let overview = json(&bed.gateway, "/api/overview").await;
    assert_eq!((&overview["ready"], &overview["routes"], &overview["upstreams"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!(
        overview["attention"].as_array().unwrap().iter().filter(|matter| matter["state"] == "bad").count(),
        0,
        "{overview}"
    );
    assert!(overview["started_at"].as_u64().unwrap() <= overview["now"].as_u64().unwrap());
    assert!(overview["history"]["every_seconds"].as_u64().unwrap() > 0);

    bed.gateway.refused_reload("routes: [ { name: x, match: { path: /x }, upstream: missing } ]").await;
    let overview = json(&bed.gateway, "/api/overview").await;
    let first = &overview["attention"][0];
    assert_eq!((&first["state"], &first["view"]), (&json!("bad"), &json!("config")), "{overview}");
    assert!(first["what"].as_str().unwrap().starts_with("the last config was not taken"), "{first}");

    // What a report-only policy would have refused is worth knowing, and no more.
    let route = "routes: [ { name: trial, match: { path: /trial }, anonymous: true, respond: { status: 200 }, inbound: [ { check-header: { name: x-a, mode: report-only } } ] } ]";
    bed.gateway.reload(route).await;
    assert_eq!(bed.gateway.get("/trial").send().await.status, 200);
    bed.gateway.record(|record| record["route"] == "trial").await;
    let overview = json(&bed.gateway, "/api/overview").await;
    let told = overview["attention"].as_array().unwrap().iter().find(|matter| matter["view"] == "routes").unwrap();
    assert_eq!(
        (&told["state"], &told["what"]),
        (&json!("note"), &json!("report-only policies of 1 route would have refused 1 times"))
    );
    assert_eq!(overview["requests"]["allowed"], 1);
}

#[tokio::test]
async fn the_config_has_its_warnings_and_what_reloads_changed() {
    let mut gateway = Gateway::start(OPEN).await;
    let digest = json(&gateway, "/api/config").await["digest"].clone();
    let changed = format!(
        "{OPEN}partners: {{ fabrikam: {{ client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666] }} }}\ntenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee, authority: \"http://127.0.0.1:9\" }} }}\n"
    );
    gateway.reload(&changed).await;
    gateway.refused_reload("routes: [ { name: x, match: { path: /x }, upstream: missing } ]").await;

    let config = json(&gateway, "/api/config").await;

    assert_eq!(config["generation"], 1);
    let reloads = config["reloads"].as_array().unwrap();
    assert_eq!(reloads.len(), 3, "{config}");
    assert!(reloads[0]["error"].is_string() && reloads[0]["generation"].is_null(), "{config}");
    assert_eq!((&reloads[1]["generation"], &reloads[1]["digest"]), (&json!(1), &config["digest"]));
    assert!(reloads[1]["changes"].to_string().contains("`fabrikam` added"), "{config}");
    assert_eq!((&reloads[2]["generation"], &reloads[2]["digest"], &reloads[2]["changes"]), (&json!(0), &digest, &json!([])));
    let warning = config["warnings"].as_array().unwrap().iter().find(|finding| finding["code"] == "partner-any-address").unwrap();
    assert_eq!(warning["place"], "partners.fabrikam");
    assert!(warning["cure"].is_string() && warning.get("text").is_none(), "{warning}");
}

#[tokio::test]
async fn parts_of_the_status_can_be_had_alone() {
    let bed = TestBed::with_orders().await;

    let parts = json(&bed.gateway, "/api/status?parts=upstreams,partners,not-there").await;

    assert_eq!(parts.as_object().unwrap().keys().collect::<Vec<_>>(), ["partners", "upstreams"]);
    let server = &parts["upstreams"][0]["servers"][0];
    assert_eq!((&server["state"], &server["ejections"], &server["connect_failures"]), (&json!("up"), &json!(0), &json!(0)));
    assert_eq!(json(&bed.gateway, "/api/status?parts=routes").await["routes"][0]["name"], "orders");
    assert_eq!(get(&bed.gateway, "/api/status?part=routes").await.0, 400);
}

#[tokio::test]
async fn partners_have_their_description_and_their_calls() {
    const APP: &str = "22223333-cccc-4444-dddd-5555eeee6666";
    let more = format!(
        "address-sets: {{ offices: [127.0.0.0/8] }}\npartners:\n  fabrikam: {{ client-application-ids: [{APP}], addresses: [offices, 192.0.2.1], routes: [orders], rate-limit: {{ calls: 5, renewal-period: 60s }} }}\n  northwind: {{ client-application-ids: [33334444-cccc-4444-dddd-5555eeee6666], enabled: false }}"
    );
    let route = format!(
        "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN}, {{ check-partner: {{}} }} ], upstream: backend }}"
    );
    let bed = TestBed::with(&route, &more).await;
    let token = bed.tenant.token().app(APP).audience("api://orders").roles(["Orders.Read.All"]).sign();
    bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();
    bed.gateway.record(|record| record["partner"] == "fabrikam").await;

    let status = json(&bed.gateway, "/api/status?parts=partners").await;

    let fabrikam = &status["partners"][0];
    assert_eq!((&fabrikam["name"], &fabrikam["state"]), (&json!("fabrikam"), &json!("active")));
    assert_eq!((&fabrikam["addresses"], &fabrikam["routes"]), (&json!(["offices", "192.0.2.1"]), &json!(["orders"])));
    assert_eq!((&fabrikam["applications"], &fabrikam["allowed"], &fabrikam["refused"]), (&json!([APP]), &json!(1), &json!(0)));
    assert!(fabrikam["last_seen"].as_u64().unwrap() > 0);
    assert_eq!(fabrikam["rate_limit"]["remaining"], 4);
    let northwind = &status["partners"][1];
    assert_eq!((&northwind["state"], northwind.get("last_seen")), (&json!("disabled"), None));
}

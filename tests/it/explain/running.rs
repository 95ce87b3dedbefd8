//! Tests of `POST /api/explain`: what the running gateway explains.

use entrada::{Document, Server, ServerOptions};
use serde_json::{Value, json};

use crate::support::{ORDERS_TOKEN, TestBed};

fn rows(text: &str) -> String {
    text.lines().filter(|line| line.starts_with("entrada_decisions_total")).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_gateway_explains_without_counting_or_changing_anything() {
    let bed = TestBed::with_orders().await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}\nupstreams: {{ backend: {{ servers: [\"{}\"] }} }}\naudit: {{ sinks: [] }}\nadmin: {{ address: \"127.0.0.1:0\" }}\nlisteners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\nroutes: [ {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: keep, upstream: backend }} ]\n",
        bed.tenant.tenant_id(),
        bed.tenant.base_url(),
        bed.upstream.url(),
    );
    let file = folder.path().join("entrada.yaml");
    std::fs::write(&file, &config).unwrap();
    let document = Document::load(&file).unwrap_or_else(|report| panic!("{report}"));
    let options = ServerOptions { workers: 1, ..ServerOptions::default() };
    let server = tokio::task::spawn_blocking(move || Server::start(&document, options).unwrap()).await.unwrap();
    let admin = format!("http://{}", server.admin_address().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let begun = std::time::Instant::now();
    while !client.get(format!("{admin}/readyz")).send().await.unwrap().status().is_success() {
        assert!(begun.elapsed().as_secs() < 60, "never ready");
        tokio::task::yield_now().await;
    }
    let ask = |question: Value, kind: &'static str| {
        let request = client.post(format!("{admin}/api/explain")).header("content-type", kind).body(question.to_string());
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    let metrics = async || rows(&client.get(format!("{admin}/metrics")).send().await.unwrap().text().await.unwrap());
    let before = metrics().await;
    let question =
        |token: Option<String>| json!({ "url": "http://api.contoso.example/orders/17", "from": "203.0.113.9", "token": token });

    let (status, allowed) = ask(question(Some(bed.user_token())), "application/json").await;
    assert_eq!(status, 200, "{allowed}");
    let allowed: Value = serde_json::from_str(&allowed).unwrap();
    assert_eq!(
        (&allowed["verdict"], &allowed["upstream"]["authorization"]),
        (&json!("allow"), &json!("the caller's")),
        "{allowed:#}"
    );
    let (_, refused) = ask(question(None), "application/json").await;
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!((&refused["code"], &refused["turning"]["tried"]), (&json!("token-missing"), &json!(true)), "{refused:#}");
    assert_eq!(bed.upstream.requests(), 0, "nothing is sent");
    assert_eq!(metrics().await, before, "nothing is counted");
    assert!(server.audit().recent().is_empty(), "nothing is recorded");

    assert_eq!(ask(question(None), "text/plain").await.0, 415, "a page of another origin could send that unasked");
    assert_eq!(ask(json!({ "url": "http://a.example/" }), "application/json").await.0, 400);
    assert_eq!(ask(json!({ "url": "http://a.example/", "from": "192.0.2.1", "frm": 1 }), "application/json").await.0, 400);
    let elsewhere = json!({ "url": "http://a.example/", "from": "192.0.2.1", "listener": "pubilc" });
    assert_eq!(ask(elsewhere, "application/json").await, (400, "there is no listener `pubilc`\n".to_owned()));
    assert_eq!(client.get(format!("{admin}/api/explain")).send().await.unwrap().status(), 405);
    assert_eq!(client.post(format!("{admin}/api/status")).send().await.unwrap().status(), 405, "nothing else takes POST");
    let foreign = client.post(format!("{admin}/api/explain")).header("origin", "https://attacker.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);

    std::fs::write(&file, format!("{config}# another\n")).unwrap();
    assert_eq!(ask(question(None), "application/json").await.0, 409, "the running config is not there any more");
    std::thread::spawn(move || drop(server));
}

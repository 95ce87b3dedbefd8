//! Tests of the admin listener, and of its protection from others.

use crate::support::TestBed;

const OPEN: &str = "- { name: open, match: { path: /open }, anonymous: true, upstream: backend }";

async fn get(bed: &TestBed, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("http://{}{path}", bed.gateway.admin_address()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn probes_metrics_and_status_tell_how_it_goes() {
    let bed = TestBed::with_orders().await;
    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();
    bed.gateway.get("/orders").send().await;
    bed.gateway.get("/other").send().await;
    bed.gateway.record(|record| record["code"] == "no-route").await;

    let (alive, _) = get(&bed, "/healthz", &[]).await;
    let (ready, _) = get(&bed, "/readyz", &[]).await;
    let (_, metrics) = get(&bed, "/metrics", &[]).await;
    let (_, status) = get(&bed, "/api/status", &[]).await;
    let (_, decisions) = get(&bed, "/api/decisions", &[]).await;
    let (page, html) = get(&bed, "/", &[]).await;

    assert_eq!((alive, ready, page), (200, 200, 200));
    assert!(html.contains("<title>entrada</title>"));
    assert!(metrics.contains("entrada_decisions_total{route=\"orders\",decision=\"allow\",code=\"\"} 1"), "{metrics}");
    assert!(
        metrics.contains("entrada_decisions_total{route=\"orders\",decision=\"deny\",code=\"token-missing\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("entrada_decisions_total{route=\"\",decision=\"deny\",code=\"no-route\"} 1"), "{metrics}");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["routes"][0]["name"], "orders");
    assert!(status["signing_keys"][0]["keys"].as_u64().unwrap() > 0, "{status}");
    let decisions: serde_json::Value = serde_json::from_str(&decisions).unwrap();
    assert_eq!(decisions["decisions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn foreign_hosts_origins_methods_and_paths_are_turned_away() {
    let bed = TestBed::with(OPEN, "").await;

    for path in
        ["/", "/app.js", "/api/status", "/api/overview", "/api/routes", "/api/config", "/api/decisions", "/api/decisions?follow"]
    {
        assert_eq!(get(&bed, path, &[("host", "attacker.example")]).await.0, 403, "{path}");
        assert_eq!(get(&bed, path, &[("origin", "https://attacker.example")]).await.0, 403, "{path}");
    }
    assert_eq!(get(&bed, "/api/status/", &[]).await.0, 404);
    assert_eq!(get(&bed, "/api//status", &[]).await.0, 404);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = client.post(format!("http://{}/api/status", bed.gateway.admin_address())).send().await.unwrap();
    assert_eq!(post.status(), 405);
}

#[tokio::test]
async fn neither_status_nor_records_nor_metrics_hold_a_token() {
    let bed = TestBed::with_orders().await;
    let token = bed.user_token();
    bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();
    bed.gateway.get("/orders").bearer(format!("{token}x")).send().await;
    bed.gateway.record(|record| record["decision"] == "deny").await;
    let (payload, signature) = (token.split('.').nth(1).unwrap(), token.split('.').nth(2).unwrap());

    for path in ["/api/status", "/api/overview", "/api/routes", "/api/config", "/api/decisions", "/metrics", "/readyz"] {
        let (_, text) = get(&bed, path, &[]).await;
        assert!(!text.contains(payload) && !text.contains(signature), "{path} holds a token");
    }
}

#[tokio::test]
async fn the_console_runs_nothing_that_stands_in_it() {
    let bed = TestBed::with(OPEN, "").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", bed.gateway.admin_address());

    let page = client.get(url("/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let html = page.text().await.unwrap();

    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    for inline in ["<style", "style=", "<script>", " onload=", " onclick=", "javascript:", "http://", "https://"] {
        assert!(!html.contains(inline), "{inline}");
    }
    // What the page names, and what its scripts import, is there, and says what it is.
    let mut files: Vec<String> = html
        .split(['"', '\''])
        .filter(|text| [".css", ".js", ".svg"].iter().any(|end| text.ends_with(end)))
        .map(str::to_owned)
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(file) = files.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        let answer = client.get(url(&format!("/{file}"))).send().await.unwrap();
        let kind = match file.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            _ => "image/svg+xml",
        };
        assert_eq!(answer.status(), 200, "{file}");
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(kind), "{file}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers()["content-security-policy"].to_str().unwrap(), policy);
        let text = answer.text().await.unwrap();
        // Texts of callers never become markup or code.
        for dangerous in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser"]
        {
            assert!(!text.contains(dangerous), "{file}: {dangerous}");
        }
        files.extend(text.split("from './").skip(1).filter_map(|rest| rest.split('\'').next()).map(str::to_owned));
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/console");
    let there: std::collections::BTreeSet<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    seen.insert("index.html".to_owned());
    assert_eq!(seen, there, "every file of the console is served and used");
}

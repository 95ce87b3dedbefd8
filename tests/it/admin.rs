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
    let decisions: Vec<serde_json::Value> = serde_json::from_str(&decisions).unwrap();
    assert_eq!(decisions.len(), 3);
}

#[tokio::test]
async fn foreign_hosts_origins_methods_and_paths_are_turned_away() {
    let bed = TestBed::with(OPEN, "").await;

    assert_eq!(get(&bed, "/api/status", &[("host", "attacker.example")]).await.0, 403);
    assert_eq!(get(&bed, "/api/status", &[("origin", "https://attacker.example")]).await.0, 403);
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

    for path in ["/api/status", "/api/decisions", "/metrics", "/readyz"] {
        let (_, text) = get(&bed, path, &[]).await;
        assert!(!text.contains(payload) && !text.contains(signature), "{path} holds a token");
    }
}

#[tokio::test]
async fn the_status_page_runs_nothing_that_stands_in_it() {
    let bed = TestBed::with(OPEN, "").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", bed.gateway.admin_address());

    let page = client.get(url("/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    let html = page.text().await.unwrap();

    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    for inline in ["<style", "style=", "<script>", " onload=", " onclick=", "javascript:"] {
        assert!(!html.contains(inline), "{inline}");
    }
    // What the page names is there, and says what it is.
    for (path, kind) in [("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        assert!(html.contains(&format!("\"{}\"", &path[1..])), "{path}");
        let answer = client.get(url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(kind));
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}

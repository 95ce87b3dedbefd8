//! Tests of reloads while requests are in progress.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Options},
};

use crate::support::{Gateway, ORDERS_TOKEN, RawConnection, Upstream, config};

#[tokio::test]
async fn a_reload_changes_the_rules_of_the_next_request() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let open = "- { name: open, match: { path: /open }, anonymous: true, upstream: backend }";
    let closed = format!("- {{ name: open, match: {{ path: /open }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend }}");
    let mut gateway = Gateway::start(&config(&tenant, &upstream, open, "")).await;
    gateway.get("/open").send().await.assert_allowed();

    gateway.reload(&config(&tenant, &upstream, &closed, "")).await;

    gateway.get("/open").send().await.assert_refused(Reason::TokenMissing);
}

#[tokio::test]
async fn a_connection_keeps_the_rules_of_its_listener_until_it_ends() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let routes = "- { name: open, match: { path: /open }, anonymous: true, upstream: backend }";
    let with = |listeners: &str| config(&tenant, &upstream, routes, listeners);
    let trusting = "{ name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1], limits: { body-bytes: 10B } }";
    let mut gateway = Gateway::start(&with(&format!("listeners: [ {trusting} ]"))).await;
    let mut caller = RawConnection::open(gateway.address()).await;
    let request = "POST /open HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.7\r\ncontent-length: 2\r\n\r\nab";
    let large = "POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world";
    let forwarded = || upstream.last().value("x-forwarded-for").map(str::to_owned);

    // The listener changes, then goes; what was opened before it goes on by what it said.
    for listeners in [
        format!("listeners: [ {trusting} ]"),
        "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]".to_owned(),
        "listeners: [ { name: other, address: \"127.0.0.1:0\" } ]\ndrain-timeout: 60s".to_owned(),
    ] {
        let gone = listeners.contains("other");
        // Half of the head is there already: a connection at rest is closed when its listener goes.
        let (before, after) = request.split_at(if gone { 20 } else { 0 });
        caller.send(before.as_bytes()).await;
        for _ in 0..3 {
            gateway.get("/open").send().await.assert_allowed();
        }
        gateway.reload(&with(&listeners)).await;
        caller.send(after.as_bytes()).await;
        let answer = caller.read_answer().await;

        assert!(answer.starts_with("HTTP/1.1 200 "), "{listeners}: {answer}");
        assert_eq!(forwarded().as_deref(), Some("192.0.2.7"), "{listeners}");
        if gone {
            break;
        }
        let mut other = RawConnection::open(gateway.address()).await;
        other.send(request.as_bytes()).await;
        other.read_answer().await;
        let believed = forwarded().is_some_and(|forwarded| forwarded.starts_with("192.0.2.7"));
        assert_eq!(believed, listeners.contains("trusted-proxies"), "a new connection goes by the new rules");
        other.send(large.as_bytes()).await;
        let status = if believed { "413" } else { "200" };
        assert_eq!(&other.read_answer().await[9..12], status, "{listeners}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request_and_decide_none_wrongly() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    // Two configs that differ in what they say and agree in what they decide.
    let config = |name: &str| {
        let routes = format!(
            "- {{ name: {name}, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: keep, upstream: backend }}\n- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}"
        );
        config(&tenant, &upstream, &routes, "")
    };
    let configs = [config("one"), config("other")];
    let mut gateway = Gateway::start(&configs[0]).await;
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (done, served, token, address) = (done.clone(), served.clone(), token.clone(), gateway.address());
            tokio::spawn(async move {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                while !done.load(Ordering::Relaxed) {
                    let (path, expected) = [("/orders", 200), ("/orders?", 401), ("/open", 200), ("/other", 404)][caller];
                    let mut request = client.get(format!("http://{address}{path}"));
                    if expected == 200 {
                        request = request.bearer_auth(&token);
                    }
                    let answer = request.send().await.expect("no request fails");
                    assert_eq!(answer.status(), expected, "{path}");
                    answer.bytes().await.expect("every answer comes whole");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    for round in 0..100 {
        let before = served.load(Ordering::Relaxed);
        gateway.reload(&configs[round % 2]).await;
        // Each config carries some requests before the next one comes.
        while served.load(Ordering::Relaxed) < before + 4 && !callers.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);

    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(gateway.server().runtime().generation, 100);
}

//! Going over to another config while requests are under way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use entrada::{
    dev_tenant::{DevTenant, Options},
    refusal::Reason,
};

use crate::support::{Gateway, ORDERS_TOKEN, Upstream, config};

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

//! Tests of signing keys as callers and operators see them: readiness, outages, a company's proxy.

use std::sync::{Arc, Mutex};

use entrada::{
    Clock, Reason, ServerOptions,
    dev_tenant::{DevTenant, Fault, Options},
};
use http::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::support::{Gateway, ORDERS_TOKEN, TestBed, Upstream, config};

fn orders() -> String {
    format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend }}")
}

async fn keys_as_shown(gateway: &Gateway) -> Vec<Value> {
    let status = reqwest::Client::builder().no_proxy().build().unwrap();
    let status = status.get(format!("http://{}/api/status", gateway.admin_address())).send().await.unwrap();
    status.json::<Value>().await.unwrap()["signing_keys"].as_array().unwrap().clone()
}

#[tokio::test]
async fn through_an_outage_the_last_good_keys_serve_and_their_age_is_shown() {
    let clock = Clock::manual(1_790_000_000);
    let tenant = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
    let upstream = Upstream::start().await;
    let text = config(&tenant, &upstream, &orders(), "").replace("authority:", "stale: 2h, authority:");
    let gateway =
        Gateway::start_with(&text, ServerOptions { workers: 1, clock: clock.clone(), ..ServerOptions::default() }).await;
    let token = || tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).expires_in(100_000);
    let fetched = keys_as_shown(&gateway).await;
    tenant.fail(Fault::on("").status(503));

    clock.advance(std::time::Duration::from_secs(7_000));
    gateway.get("/orders").bearer(token().sign()).send().await.assert_allowed();
    let during = keys_as_shown(&gateway).await;
    clock.advance(std::time::Duration::from_secs(200));
    let after = gateway.get("/orders").bearer(token().sign()).send().await;
    let late = keys_as_shown(&gateway).await;

    after.assert_refused(Reason::SigningKeysUnavailable);
    assert_eq!(after.header("retry-after"), Some("5"));
    let ages =
        |shown: &[Value]| shown.iter().map(|keys| (keys["age_seconds"].clone(), keys["serves"].clone())).collect::<Vec<_>>();
    assert_eq!(ages(&fetched), vec![(0.into(), true.into()); 2]);
    assert_eq!(ages(&during), vec![(7_000.into(), true.into()); 2]);
    assert_eq!(ages(&late), vec![(7_200.into(), false.into()); 2]);
}

#[tokio::test]
async fn a_gateway_that_never_had_keys_says_come_again_and_never_go_away() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    tenant.fail(Fault::on("").status(500));
    let upstream = Upstream::start().await;
    let text = config(&tenant, &upstream, &orders(), "").replace("authority:", "required: false, authority:");
    let gateway = Gateway::start(&text).await;
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();

    let good = gateway.get("/orders").bearer(&token).send().await;
    let forged = gateway.get("/orders").bearer(tenant.token().unknown_key().sign()).send().await;
    let none = gateway.get("/orders").send().await;

    good.assert_refused(Reason::SigningKeysUnavailable);
    forged.assert_refused(Reason::SigningKeysUnavailable);
    none.assert_refused(Reason::TokenMissing);
    let shown = keys_as_shown(&gateway).await;
    assert!(shown.iter().all(|keys| keys["serves"] == false && keys["error"].as_str().unwrap().contains("500")), "{shown:?}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_through_the_gateway_is_one_fetch() {
    let bed = TestBed::with_orders().await;
    bed.tenant.forget_calls();

    for index in 0..60 {
        let token = bed.tenant.token().audience("api://orders").unknown_key().header("kid", format!("k{index}")).sign();
        bed.gateway.get("/orders").bearer(token).send().await.assert_refused(Reason::TokenKeyUnknown);
    }

    assert_eq!((bed.tenant.calls("/keys"), bed.tenant.calls("/openid-configuration")), (2, 0));
    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();
}

#[tokio::test]
async fn a_key_of_the_app_is_told_apart_from_the_tenants() {
    let app = entrada::dev_tenant::DEFAULT_AUDIENCE;
    let routes = format!(
        "- {{ name: own, match: {{ path: /own }}, inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{app}], signing-keys-of: {app} }} ], upstream: backend }}
- {{ name: plain, match: {{ path: /plain }}, inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{app}] }} ], upstream: backend }}
- {{ name: both, match: {{ path: /both }}, inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{app}], signing-keys-of: {app}, signing-keys: [tenant, app] }} ], upstream: backend }}"
    );
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    tenant.update_app(app, |app| entrada::dev_tenant::App { custom_signing_key: true, ..app });
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(&tenant, &upstream, &routes, "")).await;
    let signed = |key: &str| {
        let token = tenant.token().audience(app).scopes(["Orders.Read"]);
        match key {
            "app" => token.app_key(app).sign(),
            "tenant" => token.key(tenant.signing_key()).sign(),
            _ => token.app_key("aaaaaaaa-1111-4222-8333-444444444444").sign(),
        }
    };

    for (path, key, allowed) in [
        ("/own", "app", true),
        ("/own", "tenant", false),
        ("/own", "another app", false),
        ("/plain", "app", false),
        ("/plain", "tenant", true),
        ("/both", "app", true),
        ("/both", "tenant", true),
        ("/both", "another app", false),
    ] {
        let answer = gateway.get(path).bearer(signed(key)).send().await;

        if allowed {
            answer.assert_allowed();
        } else {
            answer.assert_refused(Reason::TokenKeyUnknown);
        }
    }
    // The one refusal that a setting would cure says which.
    let record = gateway.record(|record| record["route"] == "plain" && record["decision"] == "deny").await;
    assert!(record["hint"].as_str().unwrap().contains(&format!("signing-keys-of to {app}")), "{record}");
}

/// A company's proxy: it resolves every name, and records the requested ones.
struct Proxy {
    address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy in which every name leads to `target`.
    async fn to(target: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let log = log.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match client.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    log.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn keys_come_through_the_proxy_of_the_company_by_name_and_over_tls() {
    let host = "login.contoso.example";
    let tenant = DevTenant::start(Options { tls: true, host: Some(host.to_owned()), ..Options::default() }).await.unwrap();
    let (proxy, upstream) = (Proxy::to(tenant.address()).await, Upstream::start().await);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, tenant.ca_pem().unwrap()).unwrap();
    let settings = format!("identity-http: {{ proxy: \"http://{}\", ca: {} }}", proxy.address, ca.display());

    let gateway = Gateway::start(&config(&tenant, &upstream, &orders(), &settings)).await;
    let token = || tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    gateway.get("/orders").bearer(token()).send().await.assert_allowed();
    tenant.roll_keys();
    gateway.get("/orders").bearer(token()).send().await.assert_allowed();

    let asked = proxy.asked();
    let first = format!("CONNECT {host}:{} HTTP/1.1\r\n", tenant.address().port());
    assert!(!asked.is_empty() && asked.iter().all(|head| head.starts_with(&first)), "{asked:?}");
    assert!(asked.iter().all(|head| !head.to_ascii_lowercase().contains("authorization")), "{asked:?}");
    assert_eq!(tenant.calls("/keys"), 4);
}

#[tokio::test]
async fn a_proxy_in_the_middle_that_shows_another_certificate_gets_nothing_believed() {
    let host = "login.contoso.example";
    let tenant = DevTenant::start(Options { tls: true, host: Some(host.to_owned()), ..Options::default() }).await.unwrap();
    let middle =
        DevTenant::start(Options { tls: true, host: Some(host.to_owned()), own_keys: true, ..Options::default() }).await.unwrap();
    let (proxy, upstream) = (Proxy::to(middle.address()).await, Upstream::start().await);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, tenant.ca_pem().unwrap()).unwrap();
    let settings = format!("identity-http: {{ proxy: \"http://{}\", ca: {} }}", proxy.address, ca.display());

    let text = config(&tenant, &upstream, &orders(), &settings).replace("authority:", "required: false, authority:");
    let gateway = Gateway::start(&text).await;
    let forged = middle.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    let answer = gateway.get("/orders").bearer(forged).send().await;

    answer.assert_refused(Reason::SigningKeysUnavailable);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((middle.calls("/openid-configuration"), upstream.requests()), (0, 0));
    assert!(!proxy.asked().is_empty());
}

//! Tests of records, also of requests whose caller left.

use std::net::SocketAddr;

use entrada::dev_tenant::{DevTenant, Options};
use serde_json::Value;
use tokio::{io::AsyncReadExt, net::TcpListener, sync::oneshot};

use crate::support::{Gateway, ORDERS_TOKEN, RawConnection, TestBed, Upstream, config, eventually};

/// Sends a request and leaves, once `reached` states that the gateway has reached the desired stage.
async fn leave(gateway: &Gateway, path: &str, token: &str, reached: impl Future<Output = ()>) -> Value {
    let mut caller = RawConnection::open(gateway.address()).await;
    caller.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n").as_bytes()).await;
    reached.await;
    caller.reset();
    gateway.record(|record| record["path"] == path).await
}

async fn until_called(tenant: &DevTenant, path: &str) {
    eventually(path, async || tenant.calls(path) > 0).await;
}

#[tokio::test]
async fn a_caller_who_leaves_before_a_verdict_is_an_error_without_a_status() {
    let bed = TestBed::with_orders().await;
    bed.tenant.roll_keys();
    let token = bed.user_token();
    bed.tenant.forget_calls();
    let held = bed.tenant.hold("/keys");

    let record = leave(&bed.gateway, "/orders/7", &token, until_called(&bed.tenant, "/keys")).await;
    drop(held);

    assert_eq!((&record["decision"], &record["code"]), (&"error".into(), &"client-left".into()), "{record}");
    assert!(record.get("status").is_none() && record["complete"] == false, "{record}");
    assert_eq!(bed.upstream.requests(), 0);
    let metrics = reqwest::get(format!("http://{}/metrics", bed.gateway.admin_address())).await.unwrap().text().await.unwrap();
    let counted = "entrada_decisions_total{route=\"orders\",decision=\"error\",code=\"client-left\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_caller_who_leaves_while_a_token_is_asked_for_on_its_behalf_was_not_let_through() {
    const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    tenant.update_app(CLIENT, |app| app.secret("opens-the-door"));
    let routes = format!(
        "- name: user\n  match: {{ path: /user }}\n  upstream: backend\n  \
         inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{CLIENT}], scopes: [access_as_user] }} ]\n  \
         authorization: {{ on-behalf-of: gateway, scope: \"https://graph.microsoft.com/User.Read\" }}"
    );
    let more = format!(
        "named-values: {{ word: {{ value: opens-the-door, secret: true }} }}\n\
         credentials: {{ gateway: {{ tenant: contoso, client-id: {CLIENT}, client-secret: \"{{{{word}}}}\" }} }}"
    );
    let gateway = Gateway::start(&config(&tenant, &upstream, &routes, &more)).await;
    let token = tenant.token().user("nia").audience(CLIENT).scopes(["access_as_user"]).sign();
    tenant.forget_calls();
    let held = tenant.hold("/token");

    let record = leave(&gateway, "/user", &token, until_called(&tenant, "/token")).await;
    drop(held);

    assert_eq!((&record["decision"], &record["code"]), (&"error".into(), &"client-left".into()), "{record}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_caller_who_leaves_after_the_verdict_was_let_through_and_got_nothing() {
    let (address, asked) = silent_backend().await;
    let route = format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend }}");
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let config = config(&tenant, &upstream, &route, "").replace(&upstream.url(), &format!("http://{address}"));
    let gateway = Gateway::start(&config).await;
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();

    let record = leave(&gateway, "/orders/8", &token, async { asked.await.unwrap() }).await;

    assert_eq!((&record["decision"], record.get("code")), (&"allow".into(), None), "{record}");
    assert!(record.get("status").is_none() && record["complete"] == false, "{record}");
}

/// Starts a backend that accepts a request, and never answers it.
async fn silent_backend() -> (SocketAddr, oneshot::Receiver<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (asked, was_asked) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        asked.send(()).unwrap();
        // The gateway breaks off when its caller has left.
        while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    });
    (address, was_asked)
}

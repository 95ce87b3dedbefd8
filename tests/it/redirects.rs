//! Tests of `rewrite-redirects`: what a backend says of its own hosts, as callers get to see it.

use entrada::dev_tenant::DevTenant;
use http::Response;
use http_body_util::Full;

use crate::support::{Gateway, Upstream, config};

/// Starts a gateway before a backend that redirects to where `to` says, with `{host}` for its own host and port.
async fn gateway(route: &str, rewrites: bool, to: &'static str) -> (Gateway, Upstream) {
    let upstream = Upstream::answering(move |received| {
        let own = received.headers["host"].to_str().unwrap();
        let response = Response::builder().status(302).header("Location", to.replace("{host}", own));
        let response =
            response.header("Set-Cookie", "plain=1; Path=/").header("Set-Cookie", "session=2; Domain=127.0.0.1; HttpOnly");
        response.body(Full::default()).unwrap()
    })
    .await;
    let tenant = DevTenant::start(Default::default()).await.unwrap();
    let mut config = config(&tenant, &upstream, route, "");
    if rewrites {
        config = config.replace("\"] } }", "/base\"], rewrite-redirects: true } }");
    }
    (Gateway::start(&config).await, upstream)
}

const ROUTE: &str = "- { name: open, match: { path: /orders }, anonymous: true, inbound: [ rewrite-uri: { template: \"/v1{rest}\" } ], upstream: backend }";

#[tokio::test]
async fn a_redirect_to_the_backend_leads_through_the_gateway() {
    for (to, expected) in [
        ("http://{host}/base/v1/login?return=/orders#top", "/orders/login?return=/orders#top"),
        ("https://127.0.0.1/base/v1/2", "/orders/2"),
        ("/base/v1/2", "/orders/2"),
        ("//{host}/base/v1", "/orders"),
        ("http://{host}", "/"),
        ("next", "next"),
        ("https://login.fabrikam.example/?to=http://127.0.0.1/", "https://login.fabrikam.example/?to=http://127.0.0.1/"),
    ] {
        let (gateway, upstream) = gateway(ROUTE, true, to).await;

        // What the caller says of hosts is in no redirect.
        let answer =
            gateway.get("/orders/1").header("Host", "evil.example").header("X-Forwarded-Host", "evil.example").send().await;

        assert_eq!((answer.status.as_u16(), answer.header("location")), (302, Some(expected)), "{to}");
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["plain=1; Path=/", "session=2; HttpOnly"]);
        assert_eq!(upstream.last().uri.path(), "/base/v1/1");
    }
}

#[tokio::test]
async fn no_path_of_the_backend_becomes_another_host() {
    for to in [
        "http://{host}//evil.example/",
        "http://{host}/base//evil.example",
        "http://{host}/\\evil.example",
        "http://{host}/base/v1//evil.example",
    ] {
        let (gateway, _) = gateway(ROUTE, true, to).await;

        let answer = gateway.get("/orders/1").send().await;

        let location = answer.header("location").unwrap();
        let seen = url::Url::parse("http://api.contoso.example/orders/1").unwrap().join(location).unwrap();
        assert_eq!(seen.host_str(), Some("api.contoso.example"), "{to}: {location}");
    }
}

#[tokio::test]
async fn without_the_key_nothing_is_rewritten() {
    let (gateway, upstream) = gateway(ROUTE, false, "http://{host}/v1/2").await;

    let answer = gateway.get("/orders/1").send().await;

    assert_eq!(answer.header("location"), Some(&*format!("{}/v1/2", upstream.url())));
    assert_eq!(answer.headers.get_all("set-cookie").iter().nth(1).unwrap(), "session=2; Domain=127.0.0.1; HttpOnly");
}

//! Tests of `authorization: { basic: … }`: a user name and a password of the gateway's own.

use entrada::{Reason, dev_tenant::DevTenant};
use http::Response;
use http_body_util::Full;

use crate::support::{Gateway, ORDERS_TOKEN, TestBed, Upstream, config};

fn orders(basic: &str) -> String {
    format!(
        "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: {{ basic: {basic} }}, upstream: backend }}"
    )
}

const GATEWAY: &str = r#"{ username: gateway, password: "{{password}}" }"#;
const PASSWORD: &str = r#"named-values: { password: { value: "p\u00e4ss:w", secret: true } }"#;

#[tokio::test]
async fn the_backend_gets_the_gateways_password_in_place_of_the_callers_token() {
    let bed = TestBed::with(&orders(GATEWAY), PASSWORD).await;

    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();

    // gateway:päss:w
    assert_eq!(bed.upstream.last().values("authorization"), ["Basic Z2F0ZXdheTpww6Rzczp3"]);
    bed.gateway
        .get("/orders")
        .header("Authorization", "Basic Z2F0ZXdheTpww6Rzczp3")
        .send()
        .await
        .assert_refused(Reason::TokenMissing);
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn a_refused_password_is_no_fault_of_the_callers() {
    let upstream = Upstream::answering(|_| {
        Response::builder().status(401).header("WWW-Authenticate", "Basic realm=\"inner\"").body(Full::default()).unwrap()
    })
    .await;
    let tenant = DevTenant::start(Default::default()).await.unwrap();
    let gateway = Gateway::start(&config(&tenant, &upstream, &orders(GATEWAY), PASSWORD)).await;
    let token = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();

    let answer = gateway.get("/orders").bearer(token).send().await;

    answer.assert_refused(Reason::UpstreamRefusedCredential);
    assert_eq!((answer.header("www-authenticate"), upstream.requests()), (None, 1));
    let record = gateway.record(|record| record["path"] == "/orders").await;
    assert!(!record.to_string().contains("Z2F0"), "{record}");
}

#[test]
fn what_cannot_be_sent_is_an_error_at_load() {
    let upstreams = "upstreams: { backend: { servers: [\"http://127.0.0.1:1\"] } }\ntenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }";
    for (basic, more, expected) in [
        (r#"{ username: "a:b", password: "{{password}}" }"#, PASSWORD, "has no colon"),
        (GATEWAY, r#"named-values: { password: { value: "a\nb", secret: true } }"#, "has control characters"),
    ] {
        let refusal = Gateway::refusal(&format!("{upstreams}\nroutes:\n  {}\n{more}\n", orders(basic)));
        assert!(refusal.contains(expected), "{basic} {more}: {refusal}");
    }
    let anonymous = orders(GATEWAY).replace(ORDERS_TOKEN, "").replace("inbound:", "anonymous: true, inbound:");
    let refusal = Gateway::refusal(&format!("{upstreams}\nroutes:\n  {anonymous}\n{PASSWORD}\n"));
    assert!(refusal.contains("`basic` on a route with `anonymous: true`"), "{refusal}");
}

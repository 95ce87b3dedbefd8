//! Tests of partners: identity, address, expiry, and the record.

use std::{net::SocketAddr, time::Duration};

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Options},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Gateway, TestBed, Upstream, config};

const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const TAILSPIN: &str = "44443333-cccc-4444-dddd-5555eeee6666";
const REVOKED: &str = "55553333-cccc-4444-dddd-5555eeee6666";

async fn bed() -> TestBed {
    let route = "- name: partners\n  match: { path: /orders }\n  inbound:\n    - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }\n    - check-partner: {}\n  upstream: backend";
    let partners = format!(
        "partners:\n  \
         fabrikam: {{ client-application-ids: [{FABRIKAM}], tenants: [contoso], addresses: [127.0.0.1], owner: integration@contoso.example, expires: 2099-12-31 }}\n  \
         tailspin: {{ client-application-ids: [{TAILSPIN}], tenants: [contoso], addresses: [203.0.113.7] }}\n  \
         revoked: {{ enabled: false, client-application-ids: [{REVOKED}], tenants: [contoso], addresses: [127.0.0.1] }}"
    );
    TestBed::with(route, &partners).await
}

#[tokio::test]
async fn a_partners_daemon_is_let_through_without_any_role() {
    let bed = bed().await;
    let token = bed.tenant.token().app(FABRIKAM).audience("api://orders").sign();

    bed.gateway.get("/orders/1").bearer(&token).send().await.assert_allowed();

    let record = bed.gateway.record(|record| record["partner"] == "fabrikam").await;
    assert_eq!(record["decision"], "allow");
    assert_eq!(record["client_application"], FABRIKAM);
    assert_eq!(bed.upstream.last().value("authorization"), None);
}

#[tokio::test]
async fn who_is_no_partner_or_calls_from_elsewhere_is_refused() {
    let bed = bed().await;
    let token = || bed.tenant.token().audience("api://orders");
    let cases = [
        (Reason::PartnerUnknown, token().app("99993333-cccc-4444-dddd-5555eeee6666").sign()),
        (Reason::PartnerAddressNotAllowed, token().app(TAILSPIN).sign()),
        (Reason::PartnerDisabled, token().app(REVOKED).sign()),
    ];

    for (reason, token) in cases {
        let answer = bed.gateway.get("/orders").bearer(&token).header("X-Forwarded-For", "203.0.113.7").send().await;
        answer.assert_refused(reason);
        bed.gateway.record(|record| record["code"] == reason.code()).await;
    }

    assert_eq!(bed.upstream.requests(), 0);
}

/// Returns a route for partners.
fn route(name: &str) -> String {
    format!(
        "- name: {name}\n  match: {{ path: /{name} }}\n  upgrades: [websocket]\n  inbound:\n    - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders] }}\n    - check-partner: {{}}\n  upstream: backend\n"
    )
}

/// Returns a partner with these further settings.
fn partner(name: &str, application: &str, more: &str) -> String {
    format!("  {name}: {{ client-application-ids: [{application}], tenants: [contoso], addresses: [127.0.0.1], {more} }}\n")
}

#[tokio::test]
async fn a_partners_rate_is_one_over_all_of_its_routes_and_outlives_a_reload() {
    let routes = [route("orders"), route("invoices")].concat();
    let limited = partner("fabrikam", FABRIKAM, "rate-limit: { calls: 2, renewal-period: 1h }");
    let partners = format!("partners:\n{limited}{}", partner("tailspin", TAILSPIN, "routes: [orders]"));
    let mut bed = TestBed::with(&routes, &partners).await;
    let token = |application: &str| bed.tenant.token().app(application).audience("api://orders").sign();
    let (fabrikam, tailspin) = (token(FABRIKAM), token(TAILSPIN));
    // What is refused before it comes to counting does not count.
    bed.gateway.get("/orders").bearer(token("99993333-cccc-4444-dddd-5555eeee6666")).send().await;
    bed.gateway.get("/invoices").bearer(&tailspin).send().await.assert_refused(Reason::PartnerRouteNotAllowed);

    let first = bed.gateway.get("/orders").bearer(&fabrikam).send().await;
    bed.gateway.get("/invoices").bearer(&fabrikam).send().await.assert_allowed();
    let third = bed.gateway.get("/orders").bearer(&fabrikam).send().await;

    first.assert_allowed();
    assert_eq!(first.header("ratelimit-policy"), Some("\"partner-rate-3600s\";q=2;w=3600"));
    assert!(first.header("ratelimit").unwrap().starts_with("\"partner-rate-3600s\";r=1;"), "{first:?}");
    third.assert_refused(Reason::RateLimitExceeded);
    assert!((3_500..=3_600).contains(&third.header("retry-after").unwrap().parse::<u32>().unwrap()));
    bed.gateway.get("/orders").bearer(&tailspin).send().await.assert_allowed();

    let text = config(&bed.tenant, &bed.upstream, &routes, &format!("{partners}\ndrain-timeout: 1s"));
    bed.gateway.reload(&text).await;
    bed.gateway.get("/orders").bearer(&fabrikam).send().await.assert_refused(Reason::RateLimitExceeded);
    assert_eq!(bed.upstream.requests(), 3);
    let record = bed.gateway.record(|record| record["code"] == "rate-limit-exceeded").await;
    assert_eq!((&record["partner"], &record["hint"]), (&"fabrikam".into(), &"see `partners.fabrikam.rate-limit`".into()));
    assert_eq!(record["cause"], "more than 2 calls in 3600 s, counted for the partner `fabrikam`");
}

#[tokio::test]
async fn a_partner_that_has_used_its_quota_up_is_refused_until_the_next_period() {
    let partners = format!("partners:\n{}", partner("fabrikam", FABRIKAM, "quota: { calls: 1, renewal-period: 30d }"));
    let bed = TestBed::with(&route("orders"), &partners).await;
    let token = bed.tenant.token().app(FABRIKAM).audience("api://orders").sign();

    bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();
    let refused = bed.gateway.get("/orders").bearer(&token).send().await;

    refused.assert_refused(Reason::QuotaExceeded);
    assert!((1..=30 * 86_400).contains(&refused.header("retry-after").unwrap().parse::<u32>().unwrap()));
}

#[tokio::test]
async fn the_partners_name_can_be_used_and_is_that_of_the_list_that_admitted() {
    let token_policy = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], roles: [Orders.Read.All] }";
    let name = "set-header: { name: X-Partner, value: \"@(partner.name)\", when-absent: skip }";
    let routes = format!(
        "- name: orders\n  match: {{ path: /orders }}\n  inbound: [ any-of: [ [ {{ {token_policy} }}, check-partner: {{}} ], [ {{ {token_policy} }} ] ], {{ {name} }} ]\n  upstream: backend"
    );
    let partners = format!("partners:\n{}", partner("fabrikam", FABRIKAM, ""));
    let partners = format!("{partners}{}", partner("tailspin", TAILSPIN, "").replace("127.0.0.1", "203.0.113.7"));
    let bed = TestBed::with(&routes, &partners).await;
    let token = |app: &str| bed.tenant.token().app(app).audience("api://orders").roles(["Orders.Read.All"]).sign();

    bed.gateway.get("/orders").bearer(token(FABRIKAM)).header("x-partner", "forged").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().values("x-partner"), ["fabrikam"]);

    // As a partner it would have been refused, so it is none.
    bed.gateway.get("/orders").bearer(token(TAILSPIN)).header("x-partner", "fabrikam").send().await.assert_allowed();
    assert!(bed.upstream.last().values("x-partner").is_empty());
}

/// Starts a backend whose responses never end: `/orders/stream` begins a body, `/orders/socket` becomes an echo, all others stay
/// silent.
async fn endless() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = socket.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(connection.read_u8().await.unwrap());
                }
                if head.starts_with(b"GET /orders/stream") {
                    connection.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
                } else if head.starts_with(b"GET /orders/socket") {
                    let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                    connection.write_all(switch).await.unwrap();
                }
                let mut bytes = [0; 64];
                while let Ok(count @ 1..) = connection.read(&mut bytes).await {
                    if connection.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Begins a request, and reads until the expected text has arrived.
async fn begin(gateway: &Gateway, path: &str, token: &str, more: &str, expected: &str) -> TcpStream {
    let mut connection = TcpStream::connect(gateway.address()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(expected) {
        read.push(connection.read_u8().await.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&read))));
    }
    connection
}

/// Returns the rest of the response, which has to end.
async fn rest(mut connection: TcpStream) -> String {
    let mut read = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(Duration::from_secs(30), connection.read_to_end(&mut read)).await.expect("it ends");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_revoked_partner_loses_its_streams_tunnels_and_calls_at_once() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let endless = format!("http://{}", endless().await);
    let with = |partners: &str| config(&tenant, &upstream, &route("orders"), partners).replace(&upstream.url(), &endless);
    let both = |more: &str| format!("partners:\n{}{}", partner("fabrikam", FABRIKAM, more), partner("tailspin", TAILSPIN, ""));
    let mut gateway = Gateway::start(&with(&both(""))).await;
    let token = |application: &str| tenant.token().app(application).audience("api://orders").sign();
    let (fabrikam, tailspin) = (token(FABRIKAM), token(TAILSPIN));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    for revoked in [both("enabled: false"), format!("partners:\n{}", partner("tailspin", TAILSPIN, ""))] {
        let stream = begin(&gateway, "/orders/stream", &fabrikam, "", "hello").await;
        let mut tunnel = begin(&gateway, "/orders/socket", &fabrikam, upgrade, "\r\n\r\n").await;
        tunnel.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        tunnel.read_exact(&mut echo).await.unwrap();
        let silent = begin(&gateway, "/orders/silent", &fabrikam, "Connection: close\r\n", "").await;
        let mut others = begin(&gateway, "/orders/socket", &tailspin, upgrade, "\r\n\r\n").await;

        gateway.reload(&with(&revoked)).await;

        assert!(!rest(stream).await.contains("0\r\n\r\n"), "a torn answer never looks whole");
        assert_eq!(rest(tunnel).await, "");
        let refused = rest(silent).await;
        assert!(refused.is_empty() || refused.contains("partner-disabled"), "{refused}");
        others.write_all(b"pong").await.unwrap();
        others.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"pong", "nobody else is affected");

        let refused = gateway.get("/orders/stream").bearer(&fabrikam).send().await;
        assert!(refused.status == 403, "{refused:?}");
        gateway.reload(&with(&both(""))).await;
    }
    let record = gateway.record(|record| record["cause"] == "the partner's access was revoked").await;
    assert_eq!((&record["partner"], &record["complete"]), (&"fabrikam".into(), &false.into()));
}

#[tokio::test]
async fn operators_see_how_each_partner_fares() {
    let limits = "rate-limit: { calls: 5, renewal-period: 60s }, quota: { calls: 50, renewal-period: 30d }, owner: integration@contoso.example, expires: 2099-12-31";
    let partners =
        format!("partners:\n{}{}", partner("fabrikam", FABRIKAM, limits), partner("revoked", REVOKED, "enabled: false"));
    let bed = TestBed::with(&route("orders"), &partners).await;
    let token = |application: &str| bed.tenant.token().app(application).audience("api://orders").sign();
    bed.gateway.get("/orders").bearer(token(FABRIKAM)).send().await.assert_allowed();
    bed.gateway.get("/orders").bearer(token(REVOKED)).send().await.assert_refused(Reason::PartnerDisabled);
    bed.gateway.record(|record| record["code"] == "partner-disabled").await;

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let read = async |path: &str| {
        client.get(format!("http://{}{path}", bed.gateway.admin_address())).send().await.unwrap().text().await.unwrap()
    };
    let (metrics, status) = (read("/metrics").await, read("/api/status").await);

    for line in [
        "entrada_partner_decisions_total{partner=\"fabrikam\",decision=\"allow\",code=\"\"} 1\n",
        "entrada_partner_decisions_total{partner=\"revoked\",decision=\"deny\",code=\"partner-disabled\"} 1\n",
        "entrada_partner_enabled{partner=\"revoked\"} 0\n",
        "entrada_partner_expires_timestamp_seconds{partner=\"fabrikam\"} 4102444800\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let [fabrikam, revoked] = [0, 1].map(|index| status["partners"][index].clone());
    assert_eq!((&fabrikam["name"], &fabrikam["state"]), (&"fabrikam".into(), &"active".into()), "{status}");
    assert_eq!((&fabrikam["owner"], &fabrikam["expires"]), (&"integration@contoso.example".into(), &"2099-12-31".into()));
    assert_eq!(fabrikam["rate_limit"]["remaining"], 4);
    assert_eq!(fabrikam["quota"]["remaining"], 49);
    assert_eq!(revoked["state"], "disabled");
}

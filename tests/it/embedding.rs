//! The gateway within an application: mounted as a service, and as a layer before one.

#[path = "../../examples/authorize.rs"]
mod authorize;
#[path = "../../examples/mount.rs"]
mod mount;

use std::{convert::Infallible, fs, net::SocketAddr, path::Path, sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    body::Bytes,
    http::HeaderMap,
    routing::{any, get, post},
};
use entrada::{
    AuthorizeLayer, Caller, Document, Gateway, Partner, Peer, Reason, ServerError, ServerOptions, Token,
    dev_tenant::{DevTenant, Options},
};
use http_body_util::{BodyExt as _, Full};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Notify};
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Answer, LONGEST_WAIT, ORDERS_TOKEN, RawUpstream, Step, Upstream};

/// The application of a partner.
const PARTNER: &str = "22223333-cccc-4444-dddd-5555eeee6666";

/// Routes that lead to the application: one asks for a token, the other for nothing.
fn routes(inbound: &str) -> String {
    format!(
        "routes:\n  - {{ name: orders, match: {{ path: /orders }}, inbound: [ {inbound} ] }}\n  - {{ name: open, match: {{ path: /open }}, anonymous: true }}\n"
    )
}

fn document(tenant: &DevTenant, more: &str) -> Document {
    let tenants = format!("tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}", tenant.tenant_id(), tenant.base_url());
    let text = format!("{tenants}\naudit: {{ sinks: [] }}\n{more}");
    Document::from_text("test.yaml", &text).unwrap_or_else(|report| panic!("{report}"))
}

async fn ready(gateway: &Gateway) {
    let begun = Instant::now();
    while !gateway.waiting_for().is_empty() {
        assert!(begun.elapsed() < LONGEST_WAIT, "{:?}", gateway.waiting_for());
        tokio::task::yield_now().await;
    }
}

async fn layer(tenant: &DevTenant, more: &str) -> AuthorizeLayer {
    let layer = AuthorizeLayer::start(&document(tenant, more), ServerOptions::default()).unwrap();
    ready(layer.gateway()).await;
    layer
}

/// Serves the application as its authors would.
async fn serve(application: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = application.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

/// Puts the layer before a router.
fn before(layer: &AuthorizeLayer, router: Router) -> Router {
    Router::new().fallback_service(layer.layer(router))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get_with(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client().get(format!("http://{address}{path}"));
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::read(request.send().await.unwrap()).await
}

async fn record(gateway: &Gateway, is_it: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let begun = Instant::now();
    loop {
        let records: Vec<serde_json::Value> =
            gateway.records().iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        if let Some(record) = records.iter().rev().find(|record| is_it(record)) {
            return record.clone();
        }
        assert!(begun.elapsed() < LONGEST_WAIT, "no such record: {records:#?}");
        tokio::task::yield_now().await;
    }
}

/// An application that tells what it was given.
fn telling() -> Router {
    let tell = async |headers: HeaderMap, caller: Extension<Caller>, token: Option<Extension<Token>>, body: Bytes| {
        let fields: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let user = token.as_ref().and_then(|token| token.claim("oid")).cloned();
        axum::Json(serde_json::json!({
            "fields": fields, "caller": caller.address(), "route": caller.route(), "request_id": caller.request_id(), "user": user,
            "scope": token.as_ref().is_some_and(|token| token.has_scope("Orders.Read")), "body": String::from_utf8_lossy(&body),
        }))
    };
    Router::new().fallback(any(tell))
}

fn user_token(tenant: &DevTenant) -> String {
    tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign()
}

/// The example's config with the test's tenant in it, and `edits` made.
fn example_config(folder: &TempDir, example: &str, tenant: &DevTenant, edits: &[(&str, &str)]) -> std::path::PathBuf {
    let mut text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example)).unwrap();
    for (from, to) in edits.iter().copied().chain([("http://127.0.0.1:7070", tenant.base_url())]) {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = folder.path().join(example);
    fs::write(&path, format!("{text}\naudit: {{ sinks: [] }}\n")).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_with_the_layer_lets_nobody_in_without_a_token() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let config = example_config(&folder, "authorize.yaml", &tenant, &[]);
    let address = serve(authorize::application(&config).await.unwrap()).await;
    let bearer = format!("Bearer {}", user_token(&tenant));

    let allowed = get_with(address, "/orders/4711", &[("authorization", &bearer)]).await;
    let refused = get_with(address, "/orders/4711", &[]).await;
    let (signed, signature) = bearer.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    let forged = get_with(address, "/orders/4711", &[("authorization", &forged)]).await;
    let elsewhere = get_with(address, "/version", &[("authorization", &bearer)]).await;
    let own = get_with(address, "/health", &[]).await;

    allowed.assert_allowed();
    let text = String::from_utf8_lossy(&allowed.body);
    assert!(text.starts_with("order 4711 for ") && text.ends_with(" from 127.0.0.1 by the route orders\n"), "{text}");
    refused.assert_refused(Reason::TokenMissing);
    forged.assert_refused(Reason::TokenSignatureInvalid);
    elsewhere.assert_refused(Reason::NoRoute);
    assert_eq!(own.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_that_mounts_the_gateway_forwards_what_its_routes_let_through() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    let config = example_config(&folder, "mount.yaml", &tenant, &[("http://127.0.0.1:9000", &upstream.url())]);
    let application = mount::application(&config).await.unwrap();
    let address = serve(application).await;
    let bearer = format!("Bearer {}", user_token(&tenant));

    let own = get_with(address, "/version", &[]).await;
    let allowed = get_with(address, "/orders/1?a=b", &[("authorization", &bearer), ("x-forwarded-for", "203.0.113.9")]).await;
    let refused = get_with(address, "/orders/1", &[]).await;

    assert_eq!(own.body, env!("CARGO_PKG_VERSION"));
    allowed.assert_allowed();
    assert_eq!(allowed.body, "from the backend");
    refused.assert_refused(Reason::TokenMissing);
    assert_eq!(upstream.requests(), 1);
    let received = upstream.last();
    assert_eq!(received.uri, "/orders/1?a=b");
    assert_eq!((received.value("authorization"), received.value("x-forwarded-for")), (None, Some("127.0.0.1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_behind_the_layer_gets_what_an_upstream_would_get() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let more = format!("{ORDERS_TOKEN} }}, {{ set-header: {{ name: X-Tenant, value: \"@(token.tenant)\" }}");
    let layer = layer(&tenant, &routes(&format!("{{ {more} }}"))).await;
    let address = serve(before(&layer, telling())).await;
    let bearer = format!("Bearer {}", user_token(&tenant));
    let forged = [
        ("authorization", &*bearer),
        ("x-tenant", "forged"),
        ("x-ms-client-principal-name", "admin"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-request-id", "forged"),
        ("cookie", "a=b"),
    ];

    let request = client().post(format!("http://{address}/orders/1?x=y")).body("the body");
    let request = forged.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = Answer::read(request.send().await.unwrap()).await;
    let open = get_with(address, "/open", &[("authorization", &bearer)]).await.json();

    answer.assert_allowed();
    let told = answer.json();
    assert_eq!((&told["route"], &told["caller"], &told["body"]), (&"orders".into(), &"127.0.0.1".into(), &"the body".into()));
    assert_eq!((&told["scope"], told["user"].is_string()), (&true.into(), true), "{told}");
    assert_eq!(told["request_id"].as_str(), answer.header("x-request-id"));
    let fields: Vec<_> = told["fields"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
    for expected in [
        &*format!("x-tenant: {}", tenant.tenant_id()),
        "x-forwarded-for: 127.0.0.1",
        "cookie: a=b",
        "content-length: 8",
        &format!("host: {address}"),
    ] {
        assert!(fields.contains(&expected), "{expected}: {fields:#?}");
    }
    for gone in ["authorization", "x-ms-client-principal-name"] {
        assert!(!fields.iter().any(|field| field.starts_with(gone)), "{gone}: {fields:#?}");
    }
    // Nobody looked at the token there, so it stands for nothing.
    assert_eq!((&open["user"], &open["scope"]), (&serde_json::Value::Null, &false.into()));
    let record = record(layer.gateway(), |record| record["route"] == "orders").await;
    assert_eq!(
        (&record["decision"], &record["status"], &record["bytes_in"], &record["complete"]),
        (&"allow".into(), &200.into(), &8.into(), &true.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_before_the_service_is_recorded() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let reached = Router::new().fallback(async || -> &'static str { panic!("the service was reached") });
    let layer = layer(&tenant, &routes(&format!("{{ {ORDERS_TOKEN} }}"))).await;
    let address = serve(before(&layer, reached)).await;

    for (path, reason) in [
        ("/orders", Reason::TokenMissing),
        ("/elsewhere", Reason::NoRoute),
        ("/orders/%2e%2e/open", Reason::RequestTargetInvalid),
    ] {
        // Raw, since clients tidy up what they send.
        let answer = raw(address, path).await;

        assert!(answer.contains(&format!("\"code\":\"{}\"", reason.code())), "{path}: {answer}");
        let record = record(layer.gateway(), |record| record["code"] == reason.code()).await;
        assert_eq!((&record["decision"], &record["peer"].is_string()), (&"deny".into(), &true), "{record}");
    }

    // The service itself panics on the open route: that is its own request's end, and recorded.
    let panicked = get_with(address, "/open", &[]).await;
    panicked.assert_refused(Reason::InternalError);
    let record = record(layer.gateway(), |record| record["route"] == "open").await;
    assert_eq!((&record["decision"], &record["code"]), (&"error".into(), &"internal-error".into()));
}

async fn raw(address: SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(LONGEST_WAIT, stream.read_to_end(&mut bytes)).await.expect("an end");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A request as no server makes it, with what stands in its extensions.
fn request(path: &str, peer: Option<Peer>) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::builder().uri(path).header("host", "api.contoso.example").body(Full::default()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_tells_the_peer_of_is_refused() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let gateway = Gateway::start(
        &document(&tenant, "routes: [ { name: own, match: { path: /own }, anonymous: true, respond: { status: 204 } } ]"),
        ServerOptions::default(),
    )
    .unwrap();
    let peer = || Peer::new("192.0.2.7:50000".parse().unwrap());

    for (peer, expected) in [(Some(peer()), 204), (None, 500), (Some(peer().on_listener("nowhere")), 500)] {
        let Ok::<_, Infallible>(answer) = gateway.clone().oneshot(request("/own", peer)).await;

        assert_eq!(answer.status(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_the_config_says_who_may_speak_for_callers() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let listeners = "listeners:\n  - { name: plain, address: \"127.0.0.1:1\" }\n  - { name: proxied, address: \"127.0.0.1:2\", trusted-proxies: [192.0.2.7], limits: { body-bytes: 4B } }\n";
    let layer = layer(&tenant, &format!("{listeners}{}", routes(&format!("{{ {ORDERS_TOKEN} }}")))).await;
    let application = layer.layer(telling());
    let peer = Peer::new("192.0.2.7:50000".parse().unwrap());

    for (peer, expected) in [(peer.clone(), "192.0.2.7"), (peer.clone().on_listener("proxied"), "198.51.100.4")] {
        let mut request = request("/open", Some(peer));
        request.headers_mut().insert("x-forwarded-for", "198.51.100.4".parse().unwrap());

        let answer = application.clone().oneshot(request).await.unwrap();

        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told["caller"], expected);
    }
    let mut long = request("/open", Some(peer.on_listener("proxied"))).map(|_| Full::from("12345"));
    *long.method_mut() = http::Method::POST;
    let answer = application.oneshot(long).await.unwrap();
    assert_eq!(answer.status(), Reason::BodyTooLarge.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partner_that_calls_stands_in_the_extensions_and_its_end_ends_the_call() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let config = |enabled: bool| {
        let partners = format!(
            "partners: {{ fabrikam: {{ client-application-ids: [{PARTNER}], tenants: [contoso], addresses: [127.0.0.1], enabled: {enabled} }} }}\n"
        );
        let token = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], roles: [Orders.Read.All] }";
        format!("{partners}{}", routes(&format!("{{ {token} }}, {{ check-partner: {{}} }}")))
    };
    let layer = layer(&tenant, &config(true)).await;
    let name = async |partner: Extension<Partner>| partner.name().to_owned();
    let reached = Arc::new(Notify::new());
    let wait = {
        let reached = reached.clone();
        async move || {
            reached.notify_one();
            std::future::pending::<&'static str>().await
        }
    };
    let address = serve(before(&layer, Router::new().route("/orders", get(name)).route("/orders/wait", post(wait)))).await;
    let token = tenant.token().app(PARTNER).audience("api://orders").roles(["Orders.Read.All"]).sign();

    let named = get_with(address, "/orders", &[("authorization", &format!("Bearer {token}"))]).await;
    let waiting = tokio::spawn(client().post(format!("http://{address}/orders/wait")).bearer_auth(&token).send());
    reached.notified().await;
    layer.gateway().reload(&document(&tenant, &config(false))).unwrap();
    let ended = tokio::time::timeout(LONGEST_WAIT, waiting).await.expect("the call ends").unwrap().unwrap();

    named.assert_allowed();
    assert_eq!(named.body, "fabrikam");
    Answer::read(ended).await.assert_refused(Reason::PartnerDisabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_a_mounted_gateway() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
    let upstream = RawUpstream::answering(vec![Step::send(switch), Step::Close]).await;
    let route = "  - { name: socket, match: { path: /socket }, anonymous: true, upgrades: [websocket], upstream: backend }";
    let gateway = Gateway::start(&document(&tenant, &upstream.config(route)), ServerOptions::default()).unwrap();
    let address = serve(Router::new().fallback_service(gateway)).await;

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "GET /socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(LONGEST_WAIT, stream.read_to_end(&mut bytes)).await.expect("an end");

    let answer = String::from_utf8_lossy(&bytes);
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_a_service_is_refused_where_there_is_none() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let document = document(&tenant, &routes(&format!("{{ {ORDERS_TOKEN} }}")));

    let Err(ServerError::Config(report)) = Gateway::start(&document, ServerOptions::default()) else { panic!("it was taken") };

    assert!(report.to_string().contains("the route leads nowhere"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_a_service_authenticates_or_says_that_it_does_not() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let document = document(&tenant, "routes: [ { name: orders, match: { path: /orders } } ]");

    let Err(ServerError::Config(report)) = AuthorizeLayer::start(&document, ServerOptions::default()) else {
        panic!("it was taken")
    };

    assert!(report.to_string().contains("authenticates nobody"), "{report}");
}

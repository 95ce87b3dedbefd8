//! Tests of a backend on IIS: its paths are case-insensitive, and it takes the user who signed in on a connection for the sender
//! of every later request on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use entrada::{
    Reason,
    dev_tenant::{DevTenant, Options},
};
use http::{Response, StatusCode, Version};
use http_body_util::Full;
use tempfile::TempDir;

use crate::support::{Authority, Gateway, ORDERS_TOKEN, RawConnection, Received, TestBed, Upstream, client_of};

/// Starts a backend that signs users in as NTLM does: per connection, in two steps. Its responses name the user and the
/// connection.
async fn iis() -> Upstream {
    let signed_in: Arc<Mutex<HashMap<usize, String>>> = Arc::default();
    Upstream::answering(move |request| sign_in(request, &mut signed_in.lock().unwrap())).await
}

fn sign_in(request: &Received, signed_in: &mut HashMap<usize, String>) -> Response<Full<Bytes>> {
    let message = request.value("authorization").map(|value| value.strip_prefix("NTLM ").unwrap_or("other").to_owned());
    let challenge = |values: &[&str]| {
        let response =
            values.iter().fold(Response::builder().status(401), |response, it| response.header("WWW-Authenticate", *it));
        response.body(Full::default()).unwrap()
    };
    match message.as_deref() {
        Some("TYPE1") => {
            signed_in.insert(request.connection, "?".to_owned());
            return challenge(&["NTLM TYPE2"]);
        }
        Some(message) => match message.strip_prefix("TYPE3-") {
            // The answer to a challenge is good on the connection of the challenge alone.
            Some(user) if signed_in.get(&request.connection).is_some_and(|user| user == "?") => {
                signed_in.insert(request.connection, user.to_owned());
            }
            _ => return challenge(&["Negotiate", "NTLM"]),
        },
        None => {}
    }
    match signed_in.get(&request.connection) {
        Some(user) if user != "?" => Response::new(Full::new(format!("{user} on {}", request.connection).into())),
        _ => challenge(&["Negotiate", "NTLM"]),
    }
}

const PORTAL: &str = "- { name: portal, match: { path: /Portal }, anonymous: true, authorization: keep, upstream: portal }
- { name: outside, match: { path: /outside }, anonymous: true, upstream: portal }
- { name: shared, match: { path: /shared }, anonymous: true, authorization: keep, upstream: shared }";

/// Starts a gateway in front of the backend, configured as `portal` with affinity and as `shared` without.
async fn bed(routes: &str, more: &str) -> TestBed {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), iis().await);
    let gateway = Gateway::start(&config(&tenant, &upstream, "30s", routes, more)).await;
    TestBed { tenant, upstream, gateway }
}

fn config(tenant: &DevTenant, upstream: &Upstream, response: &str, routes: &str, more: &str) -> String {
    format!(
        "tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}
upstreams:
  portal:
    servers: [\"{}\"]
    timeouts: {{ response: {response} }}
    connection-affinity: per-caller
    case-insensitive-paths: true
  shared: {{ servers: [\"{}\"] }}
routes:
{}
{more}
",
        tenant.tenant_id(),
        tenant.base_url(),
        upstream.url(),
        upstream.url(),
        routes.lines().map(|line| format!("  {line}\n")).collect::<String>(),
    )
}

/// A client with one connection to the gateway, like a browser with Windows sign-in.
struct Client(RawConnection);

impl Client {
    async fn of(bed: &TestBed) -> Self {
        Self(RawConnection::open(bed.gateway.address()).await)
    }

    async fn get(&mut self, path: &str, more: &str) -> String {
        self.0.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n").as_bytes()).await;
        self.0.read_answer().await
    }

    /// Sends a request, is challenged, and signs in.
    async fn sign_in(&mut self, path: &str, user: &str) -> String {
        let asked = self.get(path, "").await;
        assert!(asked.starts_with("HTTP/1.1 401"), "{asked}");
        assert_eq!(challenges(&asked), ["Negotiate", "NTLM"]);
        let challenged = self.get(path, "Authorization: NTLM TYPE1\r\n").await;
        assert_eq!(challenges(&challenged), ["NTLM TYPE2"], "{challenged}");
        self.get(path, &format!("Authorization: NTLM TYPE3-{user}\r\n")).await
    }
}

fn challenges(answer: &str) -> Vec<&str> {
    answer
        .lines()
        .filter_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate")))
        .map(|(_, value)| value)
        .collect()
}

/// Returns the user and the connection that the backend saw.
fn taken_for(answer: &str) -> (&str, usize) {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (user, connection) = answer.split_once("\r\n\r\n").unwrap().1.split_once(" on ").unwrap();
    (user, connection.parse().unwrap())
}

#[tokio::test]
async fn two_callers_sign_in_side_by_side_and_each_stays_who_it_is() {
    let bed = bed(PORTAL, "").await;
    let (mut nia, mut tom) = (Client::of(&bed).await, Client::of(&bed).await);

    // Step by step in turns: at each moment a connection of the other one lies idle.
    for client in [&mut nia, &mut tom] {
        assert_eq!(challenges(&client.get("/portal", "").await), ["Negotiate", "NTLM"]);
    }
    for client in [&mut nia, &mut tom] {
        assert_eq!(challenges(&client.get("/portal", "Authorization: NTLM TYPE1\r\n").await), ["NTLM TYPE2"]);
    }
    let first = nia.get("/portal", "Authorization: NTLM TYPE3-nia\r\n").await;
    let second = tom.get("/portal", "Authorization: NTLM TYPE3-tom\r\n").await;
    let (nias, toms) = (taken_for(&first), taken_for(&second));
    assert_eq!((nias.0, toms.0), ("nia", "tom"));
    assert_ne!(nias.1, toms.1);

    for _ in 0..3 {
        assert_eq!(taken_for(&nia.get("/PORTAL/reports", "").await), nias);
        assert_eq!(taken_for(&tom.get("/portal/reports", "").await), toms);
    }
    for received in bed.upstream.all() {
        let user = received.value("authorization").and_then(|value| value.strip_prefix("NTLM TYPE3-")).unwrap_or_default();
        assert!(user.is_empty() || (received.connection == nias.1) == (user == "nia"), "{received:?}");
    }
    assert_eq!(bed.upstream.connections(), 2);
}

#[tokio::test]
async fn a_caller_never_gets_a_connection_that_another_one_signed_in_on() {
    let bed = bed(PORTAL, "").await;
    let mut nia = Client::of(&bed).await;
    let signed_in = nia.sign_in("/portal", "nia").await;
    let (_, nias) = taken_for(&signed_in);

    // While it lies idle, by every way to that backend, and from a caller that knows what it is after.
    for _ in 0..3 {
        let mut other = Client::of(&bed).await;
        for path in ["/portal", "/outside", "/shared", "/portal"] {
            let answer = other.get(path, "Authorization: NTLM TYPE3-nia\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        }
    }
    // After its client is gone it is closed, and not there for the next one.
    drop(nia);
    let mut late = Client::of(&bed).await;
    assert!(late.get("/portal", "").await.starts_with("HTTP/1.1 401"));

    let on_nias: Vec<_> = bed.upstream.all().into_iter().filter(|received| received.connection == nias).collect();
    assert_eq!(on_nias.len(), 3, "{on_nias:?}");
}

#[tokio::test]
async fn a_callers_connections_are_closed_with_its_own() {
    let bed = bed(PORTAL, "").await;
    let (mut nia, mut tom) = (Client::of(&bed).await, Client::of(&bed).await);
    nia.sign_in("/portal", "nia").await;
    tom.sign_in("/portal", "tom").await;
    assert_eq!(bed.upstream.open_connections(), 2);

    drop(nia);
    bed.upstream.until_open(1).await;

    assert_eq!(taken_for(&tom.get("/portal", "").await).0, "tom");
    drop(tom);
    bed.upstream.until_open(0).await;
}

#[tokio::test]
async fn credentials_of_a_connection_pass_where_it_is_the_callers_own_alone() {
    let bed = bed(PORTAL, "").await;
    let mut nia = Client::of(&bed).await;
    let signed_in = nia.sign_in("/portal", "nia").await;
    let (_, nias) = taken_for(&signed_in);
    let ntlm = "Authorization: NTLM TYPE1\r\n";

    // Without affinity, and where the route keeps no credentials: neither they nor the challenge, and another connection.
    for path in ["/shared", "/outside"] {
        let answer = nia.get(path, ntlm).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert_eq!(challenges(&answer), [""; 0]);
        let received = bed.upstream.last();
        assert_eq!(received.value("authorization"), None);
        assert_ne!(received.connection, nias);
    }
    // By HTTP/2 the requests of several callers may come on one connection.
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/portal", bed.gateway.address());
    let answer = client.get(url).header("Authorization", "NTLM TYPE3-nia").send().await.unwrap();
    assert_eq!((answer.status(), answer.headers().get("www-authenticate")), (StatusCode::UNAUTHORIZED, None));
    assert_eq!(bed.upstream.last().value("authorization"), None);

    // Other credentials of the caller's pass as ever.
    nia.get("/portal", "Authorization: Basic bmlhOg==\r\n").await;
    assert_eq!(bed.upstream.last().value("authorization"), Some("Basic bmlhOg=="));
}

#[tokio::test]
async fn behind_a_proxy_no_connection_is_a_callers_own() {
    let routes = format!(
        "{PORTAL}
- {{ name: behind, match: {{ path: /behind }}, anonymous: true, trusted-headers: {{ names: [X-Sso-User], from: [127.0.0.1] }}, authorization: keep, upstream: portal }}"
    );
    let trusting = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1] } ]";
    for (more, path, forwarded) in [
        (trusting, "/portal", "X-Forwarded-For: 192.0.2.7\r\n"),
        // One that says nothing of its callers has several all the same.
        (trusting, "/portal", ""),
        ("", "/behind", "X-Sso-User: nia\r\n"),
    ] {
        let bed = bed(&routes, more).await;
        let mut proxy = Client::of(&bed).await;

        let answer = proxy.get(path, &format!("{forwarded}Authorization: NTLM TYPE1\r\n")).await;

        assert_eq!(challenges(&answer), [""; 0], "{path} {forwarded}");
        assert_eq!(bed.upstream.last().value("authorization"), None);
    }
}

#[tokio::test]
async fn another_caller_on_the_same_connection_does_not_get_what_the_first_one_opened() {
    let token = ORDERS_TOKEN.replace("audiences", "header-name: X-Token, audiences");
    let routes =
        format!("- {{ name: portal, match: {{ path: /portal }}, inbound: [ {token} ], authorization: keep, upstream: portal }}");
    let bed = bed(&routes, "").await;
    let token_of = |user: &str| {
        let token = bed.tenant.token().user(user).audience("api://orders").scopes(["Orders.Read"]).sign();
        format!("X-Token: {token}\r\n")
    };
    let (nias, toms) = (token_of("nia"), token_of("tom"));
    // Somebody whom nobody told the gateway of, who sends the requests of several users on one connection.
    let mut proxy = Client::of(&bed).await;
    proxy.get("/portal", &format!("{nias}Authorization: NTLM TYPE1\r\n")).await;
    let first = proxy.get("/portal", &format!("{nias}Authorization: NTLM TYPE3-nia\r\n")).await;
    let (user, connection) = taken_for(&first);
    assert_eq!(user, "nia");
    // Another token of the same user's is the same caller.
    assert_eq!(taken_for(&proxy.get("/portal", &token_of("nia")).await), ("nia", connection));

    let answer = proxy.get("/portal", &toms).await;

    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_ne!(bed.upstream.last().connection, connection);
    // What was the first one's is gone, for the first one, too.
    let answer = proxy.get("/portal", &nias).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn another_config_for_the_upstream_ends_what_was_opened_under_the_one_before() {
    let mut bed = bed(PORTAL, "").await;
    let mut nia = Client::of(&bed).await;
    nia.sign_in("/portal", "nia").await;

    bed.gateway.reload(&config(&bed.tenant, &bed.upstream, "30s", PORTAL, "drain-timeout: 20s")).await;
    assert_eq!(taken_for(&nia.get("/portal", "").await).0, "nia");

    bed.gateway.reload(&config(&bed.tenant, &bed.upstream, "20s", PORTAL, "")).await;
    assert!(nia.get("/portal", "").await.starts_with("HTTP/1.1 401"));
    taken_for(&nia.sign_in("/portal", "nia").await);
}

#[tokio::test]
async fn a_listener_without_http2_offers_a_browser_what_it_can_sign_in_by() {
    for (http2, version, challenged) in [("true", Version::HTTP_2, false), ("false", Version::HTTP_11, true)] {
        let (servers, folder) = (Authority::new("Contoso Servers"), TempDir::new().unwrap());
        servers.server("gateway.contoso.example").write(folder.path(), "server");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let (certificate, key) = (file("server.pem"), file("server.key"));
        let listener = format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\", http2: {http2}, tls: {{ certificate: {certificate}, private-key: {key} }} }} ]"
        );
        let bed = bed(PORTAL, &listener).await;
        // As a browser does, it takes HTTP/2 where that is offered.
        let client = client_of(&servers, None, true);

        let answer = client.get(format!("https://{}/portal", bed.gateway.address())).send().await.unwrap();

        assert_eq!((answer.status(), answer.version()), (StatusCode::UNAUTHORIZED, version));
        let challenges: Vec<_> = answer.headers().get_all("www-authenticate").iter().collect();
        assert_eq!(challenges, if challenged { &["Negotiate", "NTLM"][..] } else { &[] });
    }
    let plain = bed(PORTAL, "listeners: [ { name: public, address: \"127.0.0.1:0\", http2: false } ]").await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    client.get(format!("http://{}/portal", plain.gateway.address())).send().await.expect_err("it is not spoken here");
    assert_eq!(plain.upstream.requests(), 0);
}

#[test]
fn settings_that_would_do_nothing_are_told() {
    let config = |upstream: &str, route: &str| {
        format!(
            "upstreams: {{ portal: {{ servers: [\"http://127.0.0.1:1\"], connection-affinity: per-caller, {upstream} }} }}
routes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, upstream: portal, {route} }} ]"
        )
    };

    let refusal = Gateway::refusal(&config("protocol: http2", "authorization: keep"));

    assert!(refusal.contains("over HTTP/2 many callers share a connection"), "{refusal}");
}

#[tokio::test]
async fn a_route_guards_its_path_in_every_case_that_the_backend_takes_for_it() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let text = format!(
        "tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}
upstreams: {{ intranet: {{ servers: [\"{}\"], case-insensitive-paths: true }}, other: {{ servers: [\"{}\"] }} }}
routes:
  - {{ name: all, match: {{ path: / }}, anonymous: true, upstream: intranet }}
  - {{ name: admin, match: {{ path: \"/Admin/{{unit}}\" }}, inbound: [ {ORDERS_TOKEN}, {{ authorize: {{ condition: \"@(lower(captures.unit) == 'sales')\" }} }} ], upstream: intranet }}
  - {{ name: other, match: {{ path: /other }}, anonymous: true, upstream: other }}
  - {{ name: gone, match: {{ path: /gone }}, anonymous: true, respond: {{ status: 410 }} }}",
        tenant.tenant_id(),
        tenant.base_url(),
        upstream.url(),
        upstream.url(),
    );
    let gateway = Gateway::start(&text).await;
    let bed = TestBed { tenant, upstream, gateway };
    let token = bed.user_token();

    for path in ["/admin/sales", "/ADMIN/Sales", "/%41dm%69n/SALES/list", "/Admin/sales"] {
        bed.gateway.get(path).send().await.assert_refused(Reason::TokenMissing);
        bed.gateway.get(path).bearer(&token).send().await.assert_allowed();
        // As the caller wrote it, but for letters that need no escape.
        assert_eq!(bed.upstream.last().uri.path(), path.replace("%41", "A").replace("%69", "i"));
    }
    bed.gateway.get("/ADMIN/Board").bearer(&token).send().await.assert_refused(Reason::NotAuthorized);
    // `ı`, a letter without its dot, is an `i` to whoever knows no case.
    for path in ["/OTHER", "/Gone", "/GONE/a", "/adm%C4%B1n/sales"] {
        bed.gateway.get(path).send().await.assert_refused(Reason::RequestTargetInvalid);
    }
    bed.gateway.get("/Elsewhere").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().uri.path(), "/Elsewhere");
    assert_eq!(bed.upstream.requests(), 5);
}

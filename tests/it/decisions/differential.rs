//! Generated requests, asked about in every dialect and sent through the same gateway: both are decided alike, or the decision is
//! a refusal whose reason is one of decisions alone.

use super::{Asks, Bed, DIALECTS};
use crate::support::{ORDERS_TOKEN, RawConnection};

/// A generator of numbers, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.next() % choices.len() as u64).unwrap()]
    }
}

/// The number of requests, each of which is asked about in every dialect.
const REQUESTS: usize = 2_000;

/// The codes of refusals that only a decision has, and why.
fn only_decided(code: &str, asks: &Asks) -> bool {
    let odd = |(name, _): &(String, Vec<u8>)| name.contains('_') || name.contains('.');
    let foreign =
        |(name, _): &(String, Vec<u8>)| name.starts_with("x-original") || name.starts_with("x-forwarded") || name == "forwarded";
    match code {
        // A spelling that the proxy could not remove, or a field by which another kind of proxy asks.
        "request-header-invalid" => asks.fields.iter().any(odd) || asks.fields.iter().any(foreign),
        _ => false,
    }
}

fn generate(random: &mut Random, tokens: &[String]) -> Asks {
    let usual = random.next().is_multiple_of(2);
    let target = random.of(&[
        "/orders",
        "/orders/1",
        "/orders/1?x=1",
        "/Orders/1",
        "/orders/%41",
        "/orders/..",
        "/orders/a%2fb",
        "/orders//1",
        "/ordersx",
        "/other",
        "/",
        "/reports/7",
        "/reports/7/lines?a=b,c",
        "/reports",
        "/orders/1;v=2",
        "/orders/\u{7e}a",
        "/open",
    ]);
    let mut asks = Asks::get(target);
    asks.method =
        random.of(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PURGE"]).to_owned();
    asks.host =
        random.of(&["api.contoso.example", "API.contoso.example", "other.example", "api.contoso.example:8443"]).to_owned();
    if usual {
        // Most of what is put together is refused for one part or another: half of the requests are those of usual clients.
        asks.target = random.of(&["/orders", "/orders/1", "/orders/1?x=1", "/reports/7", "/open"]).to_owned();
        asks.method = random.of(&["GET", "GET", "POST"]).to_owned();
        asks.host = "api.contoso.example".to_owned();
    }
    // Proxying, the caller is on loopback.
    asks.from = "127.0.0.1".to_owned();
    asks.scheme = "http".to_owned();
    match random.next() % 8 {
        _ if usual => asks = asks.bearer(&tokens[0]),
        0 => {}
        1 => asks = asks.field("authorization", "Basic eDp5"),
        2 => asks = asks.field("authorization", "Bearer"),
        _ => {
            let tokens: Vec<&String> = tokens.iter().collect();
            let token = random.of(&tokens);
            asks = asks.bearer(token);
        }
    }
    if random.next().is_multiple_of(16) {
        asks = asks.bearer("a.b.c");
    }
    for _ in 0..random.next() % 4 {
        let name = random.of(&[
            "x-user",
            "x_user",
            "x.user",
            "x-version",
            "x-ms-client-principal",
            "x-request-id",
            "accept-language",
            "cookie",
            "x-forwarded-uri-x",
            "x-original-url",
            "forwarded",
            "traceparent",
            "x-tier",
        ]);
        asks = asks.field(name, random.of(&["evil", "1", "a=b", "gold"]));
    }
    asks
}

/// Returns the status and the code of what the gateway answers to the request itself.
async fn proxied(bed: &Bed, asks: &Asks) -> (u16, String) {
    let mut bytes = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", asks.method, asks.target, asks.host).into_bytes();
    for (name, value) in &asks.fields {
        bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    let mut connection = RawConnection::open(bed.gateway.address()).await;
    connection.send(&bytes).await;
    let answer = connection.read_to_end().await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"));
    let code = answer.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    (status, code.to_owned())
}

#[tokio::test]
async fn two_thousand_requests_are_decided_as_they_are_proxied() {
    let routes = format!(
        "- {{ name: orders, match: {{ hosts: [api.contoso.example], path: /orders }}, inbound: [ {ORDERS_TOKEN} ], identity-headers: {{ X-User: {{ claim: oid }} }}, upstream: backend }}
- name: reports
  match: {{ path: \"/reports/{{id}}\", methods: [GET, POST] }}
  inbound:
    - any-of:
        - [ {ORDERS_TOKEN} ]
        - [ check-header: {{ name: X-Tier, values: [gold] }} ]
    - authorize: {{ condition: \"@(captures.id != '8')\" }}
    - set-header: {{ name: X-Version, value: \"2\" }}
  anonymous: true
  upstream: backend
- {{ name: open, match: {{ path: /open }}, anonymous: true, accept: [encoded-slash], upstream: backend }}"
    );
    let bed = Bed::with(&routes, "routes: [orders, reports, open]", "").await;
    let now = bed.token();
    let tokens = [
        now.clone(),
        now,
        bed.tenant.token().user("nia").audience("api://other").scopes(["Orders.Read"]).sign(),
        bed.tenant.token().user("nia").audience("api://orders").scopes(["Other"]).sign(),
        bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).expires_in(-7_200).sign(),
        "not.a.token".to_owned(),
    ];
    let mut random = Random(16);
    let (mut alike, mut refused) = ([0; 2], 0);
    for _ in 0..REQUESTS {
        let asks = generate(&mut random, &tokens);
        let (status, code) = proxied(&bed, &asks).await;
        for dialect in DIALECTS {
            let decided = bed.ask(dialect, &asks).await;
            if decided.admitted {
                assert_eq!(status, 200, "{dialect} admits what is refused as {code}: {asks:?}");
                alike[0] += 1;
                continue;
            }
            // The answer to HEAD has no body; in it the code would be.
            let own = if decided.body.is_empty() { String::new() } else { decided.code() };
            if status == 200 {
                assert!(only_decided(&own, &asks), "{dialect} refuses as {own} what is admitted: {asks:?}");
                refused += 1;
            } else if !code.is_empty() && !own.is_empty() && !only_decided(&own, &asks) {
                assert_eq!(own, code, "{dialect}: {asks:?}");
                alike[1] += 1;
            }
        }
    }
    assert!(alike[0] > 1_000 && alike[1] > 4_000 && refused < 1_000, "{alike:?} {refused}");
}

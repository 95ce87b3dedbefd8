//! Tests ten thousand hostile header sets: whatever a caller sends under a reserved name, no backend sees it, however it reads
//! names.

use std::collections::BTreeSet;

use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{ORDERS_TOKEN, TestBed};

const REQUESTS: usize = 10_000;

/// Names that identify the caller or the source of a request: the gateway's, the platform's, and those of this config.
const RESERVED: &[&str] = &[
    "X-Remote-User",
    "X-Groups",
    "X-Kind",
    "X-Tier",
    "X-Sso-User",
    "X-Sso-Groups",
    "X-Entrada-Assertion",
    "X-Entrada-Anything",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Client-Cert",
    "Forwarded",
    "X-MS-Client-Principal",
    "X-MS-Client-Principal-Name",
    "X-MS-Token-AAD-Id-Token",
    "X-ARR-ClientCert",
    "X-Client-Cert",
    "Client-Cert",
    "Client-Cert-Chain",
    "SSL-Client-Cert",
    "X-SSL-Client-Verify",
    "X-Amzn-Mtls-Clientcert",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-Real-IP",
    "True-Client-IP",
    "X-Request-Id",
    "Traceparent",
    "Proxy",
];

/// Names that are not reserved: they pass, so that the test sees that anything does.
const FREE: &[&str] = &["Accept", "X-Custom", "X-Remote-Users", "X_Free", "User-Agent"];

/// The characters besides letters and digits that RFC 9110, section 5.6.2, allows in a name.
const ODD: &[u8] = b"-_.!~*'|^`#$%&+";

/// A generator of the same hostile requests in every run. Marsaglia's xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    /// Returns a spelling of a name that one side might read differently from the other.
    fn spelling(&mut self, name: &str) -> String {
        let (case, odd) = (self.roll(3), self.roll(3));
        let letter = |letter: char, dice: &mut Self| match (letter, odd) {
            ('-', 0) => '-',
            ('-', 1) => '_',
            ('-', _) => char::from(*dice.of(ODD)),
            (letter, _) => match case {
                0 => letter.to_ascii_lowercase(),
                1 => letter.to_ascii_uppercase(),
                _ => letter,
            },
        };
        name.chars().map(|it| letter(it, self)).collect()
    }

    /// Returns a request: target, fields and possibly trailers, all forged.
    fn request(&mut self, token: &str) -> String {
        let path = *self.of(&["/orders/1", "/open/1", "/elsewhere/1", "/behind/1"]);
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: api.contoso.example\r\n");
        if path == "/orders/1" {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        let mut names = Vec::new();
        for _ in 0..1 + self.roll(8) {
            let names_of = if self.roll(8) == 0 { FREE } else { RESERVED };
            let name = *self.of(names_of);
            let spelled = self.spelling(name);
            // The peer of this route is believed in the very spelling that it writes.
            if path == "/behind/1" && (spelled.eq_ignore_ascii_case("x-sso-user") || spelled.eq_ignore_ascii_case("x-sso-groups"))
            {
                continue;
            }
            head.push_str(&format!("{spelled}: forged-{}\r\n", self.roll(1_000)));
            names.push(spelled);
        }
        if self.roll(4) == 0 && !names.is_empty() {
            head.push_str(&format!("Connection: {}\r\n", names.join(", ")));
        }
        if self.roll(3) == 0 {
            let trailers: String = names.iter().map(|name| format!("{name}: forged-in-a-trailer\r\n")).collect();
            head.push_str(&format!("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n"));
        } else {
            head.push_str("Content-Length: 2\r\n\r\nok");
        }
        head
    }
}

/// Returns a name as a backend behind CGI sees it (RFC 3875, section 4.1.18), with the folding of other servers as well.
fn variable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }).collect()
}

/// Returns the status of the next response on the connection.
async fn status(connection: &mut TcpStream, read: &mut Vec<u8>) -> u16 {
    let (head, length) = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            break (head, end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap()));
        }
        assert_ne!(connection.read_buf(read).await.unwrap(), 0, "the gateway closed: {}", String::from_utf8_lossy(read));
    };
    while read.len() < length {
        assert_ne!(connection.read_buf(read).await.unwrap(), 0, "the gateway closed");
    }
    read.drain(..length);
    head[9..12].parse().unwrap()
}

/// Returns the caller's values that a backend reads under a reserved name.
fn forged(headers: &HeaderMap, reserved: &BTreeSet<String>) -> Option<String> {
    let is_reserved = |name: &str| {
        let prefixes = ["X_FORWARDED_", "X_MS_CLIENT_PRINCIPAL", "X_MS_TOKEN_", "X_ENTRADA_", "PROXY_"];
        reserved.contains(name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut seen = BTreeSet::new();
    for (name, value) in headers {
        let variable = variable(name.as_str());
        if !is_reserved(&variable) {
            continue;
        }
        // Two of ours that fold together would be one variable with whatever the server makes of them.
        if value.as_bytes().windows(6).any(|window| window == b"forged") || (!seen.insert(variable) && name != "x-groups") {
            return Some(format!("{name}: {value:?}"));
        }
    }
    None
}

#[tokio::test]
async fn no_backend_sees_what_a_caller_makes_under_a_reserved_name() {
    let routes = format!(
        "- name: orders
  match: {{ path: /orders }}
  inbound:
    - {ORDERS_TOKEN}
    - set-header: {{ name: X-Kind, value: \"@(token.kind)\" }}
    - set-header: {{ name: X-Tier, value: gold }}
  identity-headers: {{ X-Remote-User: {{ claim: nickname, when-absent: skip }}, X-Groups: {{ claim: groups, encoding: repeated }} }}
  backend-assertion: {{ audience: \"https://orders.contoso.internal\" }}
  upstream: backend
- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}
- {{ name: elsewhere, match: {{ path: /elsewhere }}, anonymous: true, trusted-headers: {{ names: [X-Sso-User], from: [10.1.0.0/28] }}, upstream: backend }}
- {{ name: behind, match: {{ path: /behind }}, anonymous: true, trusted-headers: {{ names: [X-Sso-User, X-Sso-Groups], from: [127.0.0.1] }}, upstream: backend }}"
    );
    let bed = TestBed::with(&routes, "").await;
    let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    // Without the claim of X-Remote-User: what is absent must not be filled by the caller.
    let token = token.claim("groups", vec!["a", "b"]).without("nickname").sign();
    let reserved: BTreeSet<String> = RESERVED.iter().map(|name| variable(name)).collect();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut connection = TcpStream::connect(bed.gateway.address()).await.unwrap();
    let mut read = Vec::new();
    let (mut passed, mut free) = (0, 0);

    for number in 0..REQUESTS {
        let request = dice.request(&token);
        connection.write_all(request.as_bytes()).await.unwrap();
        let status = status(&mut connection, &mut read).await;
        assert_eq!(status, 200, "{request}");
        passed += 1;
        assert_eq!(bed.upstream.requests(), passed, "{number}");
        let received = bed.upstream.last();
        assert_eq!(forged(&received.headers, &reserved), None, "request {number}:\n{request}");
        assert!(received.trailers.is_empty(), "request {number}:\n{request}");
        assert_eq!(received.body, "ok");
        let ours = received.uri.path() == "/orders/1";
        assert_eq!(received.headers.contains_key("x-entrada-assertion"), ours);
        assert_eq!(received.values("x-groups"), if ours { &["a", "b"][..] } else { &[] });
        free += received.headers.values().filter(|value| value.as_bytes().starts_with(b"forged")).count();
    }

    assert!(free > 1_000, "names that nobody claimed pass: {free}");
}

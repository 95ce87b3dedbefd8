//! A request that a proxy has received, and how each kind of proxy asks about it.

use std::{collections::BTreeMap, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use http::{Method, Request};

use crate::support::{Fields, RawConnection, Written};

/// A request as the proxy received it.
#[derive(Clone, Debug)]
pub(super) struct Asks {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) scheme: String,
    /// The address that connected to the proxy, with those that this peer named, as the proxy tells them.
    pub(super) from: String,
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// Lines of the question itself, as an attacker or a broken proxy would write them.
    pub(super) beside: Vec<(String, String)>,
    pub(super) protocol: String,
    pub(super) certificate: Option<String>,
    /// Sends the fields merged into a map, as Envoy does unless it is told otherwise.
    pub(super) merged: bool,
}

/// The request or response that the proxy makes of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Decided {
    pub(super) admitted: bool,
    /// The status for the caller.
    pub(super) status: u16,
    /// The fields that are set on the request.
    pub(super) set: BTreeMap<String, String>,
    /// The fields that are removed from it, of those that the answer names.
    pub(super) removed: Vec<String>,
    /// The header of a refusal.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// Fields for the response to the caller.
    pub(super) informs: BTreeMap<String, String>,
    /// The status in the message of gRPC.
    pub(super) rpc: u64,
}

impl Decided {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// Returns the code of a refusal.
    pub(super) fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(super) fn assert_admitted(&self) {
        assert!(self.admitted, "{self:?}");
    }

    #[track_caller]
    pub(super) fn assert_refused(&self, status: u16, code: &str) {
        assert!(!self.admitted, "{self:?}");
        assert_eq!((self.status, &*self.code()), (status, code), "{self:?}");
    }
}

impl Asks {
    pub(super) fn get(target: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            target: target.to_owned(),
            host: "api.contoso.example".to_owned(),
            scheme: "https".to_owned(),
            from: "203.0.113.7".to_owned(),
            fields: vec![("accept".to_owned(), b"*/*".to_vec())],
            beside: Vec::new(),
            protocol: "HTTP/1.1".to_owned(),
            certificate: None,
            merged: false,
        }
    }

    pub(super) fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.field("authorization", format!("Bearer {token}"))
    }

    pub(super) fn beside(mut self, name: &str, value: &str) -> Self {
        self.beside.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) async fn ask(&self, address: SocketAddr, dialect: &str) -> Decided {
        if dialect == "envoy-grpc" { self.by_grpc(address).await } else { self.by_http(address, dialect).await }
    }

    /// Returns the question of a dialect over HTTP.
    pub(super) fn question(&self, dialect: &str) -> Vec<u8> {
        let query = self.target.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        let (method, target, host) = match dialect {
            "envoy-http" => (self.method.as_str(), format!("/decide{}", self.target), self.host.as_str()),
            "caddy" => ("GET", format!("/decide{query}"), "127.0.0.1"),
            _ => ("GET", "/decide".to_owned(), "127.0.0.1"),
        };
        let mut question = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
        let mut put = |name: &str, value: &[u8]| {
            question.extend_from_slice(name.as_bytes());
            question.extend_from_slice(b": ");
            question.extend_from_slice(value);
            question.extend_from_slice(b"\r\n");
        };
        self.fields.iter().for_each(|(name, value)| put(name, value));
        let mut own = vec![("X-Forwarded-Proto", &*self.scheme), ("X-Forwarded-For", &self.from)];
        if dialect == "envoy-http" {
            own.push(("Content-Length", "0"));
        } else {
            own.extend([
                ("X-Forwarded-Method", &*self.method),
                ("X-Forwarded-Uri", &self.target),
                ("X-Forwarded-Host", &self.host),
            ]);
        }
        own.into_iter().for_each(|(name, value)| put(name, value.as_bytes()));
        self.beside.iter().for_each(|(name, value)| put(name, value.as_bytes()));
        question.extend_from_slice(b"Connection: close\r\n\r\n");
        question
    }

    async fn by_http(&self, address: SocketAddr, dialect: &str) -> Decided {
        let mut connection = RawConnection::open(address).await;
        connection.send(&self.question(dialect)).await;
        decided_by_http(&connection.read_to_end().await, dialect)
    }

    /// Returns the message of a question over gRPC.
    pub(super) fn check_request(&self) -> Written {
        let nearest = self.from.rsplit(',').next().unwrap().trim();
        let socket = Written::default().bytes(2, nearest).number(3, 50_123);
        let mut source = Written::default().message(1, Written::default().message(1, socket));
        if let Some(certificate) = &self.certificate {
            source = source.bytes(5, certificate);
        }
        let mut fields: Vec<(String, Vec<u8>)> = vec![
            (":method".to_owned(), self.method.clone().into_bytes()),
            (":path".to_owned(), self.target.clone().into_bytes()),
            (":authority".to_owned(), self.host.clone().into_bytes()),
            (":scheme".to_owned(), self.scheme.clone().into_bytes()),
        ];
        fields.extend(self.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        fields.push(("x-forwarded-for".to_owned(), self.from.clone().into_bytes()));
        fields.push(("x-forwarded-proto".to_owned(), self.scheme.clone().into_bytes()));
        let mut http = Written::default().bytes(2, &self.method);
        if self.merged {
            let mut merged = BTreeMap::<String, Vec<u8>>::new();
            for (name, value) in fields.clone() {
                let joined = merged.entry(name).or_default();
                if !joined.is_empty() {
                    joined.push(b',');
                }
                joined.extend_from_slice(&value);
            }
            for (name, value) in merged {
                http = http.message(3, Written::default().bytes(1, name).bytes(2, value));
            }
        }
        http = http.bytes(4, &self.target).bytes(5, &self.host).bytes(6, &self.scheme).bytes(10, &self.protocol);
        if !self.merged {
            let mut raw = Written::default();
            for (name, value) in fields {
                raw = raw.message(1, Written::default().bytes(1, name).bytes(3, value));
            }
            http = http.message(13, raw);
        }
        let request = Written::default().message(2, http);
        Written::default().message(1, Written::default().message(1, source).message(4, request))
    }

    async fn by_grpc(&self, address: SocketAddr) -> Decided {
        let answer = call(address, CHECK, &framed(&self.check_request().0), &[]).await;
        assert_eq!(answer.status, 0, "{answer:?}");
        decided_by_grpc(&answer.message)
    }
}

pub(super) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The end of a call.
#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) status: u32,
    pub(super) text: String,
    pub(super) message: Vec<u8>,
}

/// Puts the length before a message.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// Makes a unary call.
pub(super) async fn call(address: SocketAddr, path: &str, body: &[u8], fields: &[(&str, &str)]) -> Called {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
    sending.send_data(Bytes::copy_from_slice(body), true).unwrap();
    let (parts, mut receiving) = response.await.unwrap().into_parts();
    let mut message = BytesMut::new();
    while let Some(data) = receiving.data().await {
        let data = data.unwrap();
        receiving.flow_control().release_capacity(data.len()).unwrap();
        message.extend_from_slice(&data);
    }
    let trailers = receiving.trailers().await.unwrap().unwrap_or_else(|| parts.headers.clone());
    driver.abort();
    let text = |name: &str| trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    assert_eq!(parts.status, 200);
    Called {
        status: text("grpc-status").parse().unwrap_or_else(|_| panic!("{trailers:?}")),
        text: text("grpc-message"),
        message: message.get(5..).unwrap_or_default().to_vec(),
    }
}

/// Reads a `CheckResponse` as Envoy does.
pub(super) fn decided_by_grpc(message: &[u8]) -> Decided {
    assert!(!message.is_empty(), "an empty message would admit");
    let response = Fields::read(message);
    let rpc = response.message(1).unwrap_or_default().number(1);
    let pairs = |options: Vec<Fields>| -> Vec<(String, String)> {
        let pair = |option: Fields| option.message(1).map(|header| (header.text(1), header.text(2))).unwrap();
        options.into_iter().map(pair).collect()
    };
    if rpc == 0 {
        assert!(response.message(2).is_none(), "an admission with a refusal in it");
        let ok = response.message(3).expect("an admission says so");
        assert!(ok.messages(2).iter().all(|option| option.number(3) == 2), "every field overwrites");
        let set = pairs(ok.messages(2));
        let names: std::collections::BTreeSet<_> = set.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), set.len(), "each name once: {set:?}");
        return Decided {
            admitted: true,
            status: 200,
            set: set.into_iter().collect(),
            removed: ok.texts(5),
            informs: pairs(ok.messages(6)).into_iter().collect(),
            ..Decided::default()
        };
    }
    let denied = response.message(2).expect("a refusal has its response");
    Decided {
        admitted: false,
        status: u16::try_from(denied.message(1).unwrap().number(1)).unwrap(),
        headers: pairs(denied.messages(2)),
        body: denied.text(3),
        rpc,
        ..Decided::default()
    }
}

/// Reads an answer over HTTP as the proxies do: 200 admits.
fn decided_by_http(answer: &str, dialect: &str) -> Decided {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut lines = head.lines();
    let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    if status == 200 {
        assert!(body.is_empty(), "{body}");
        assert!(headers.contains(&("cache-control".to_owned(), "no-store".to_owned())), "{headers:?}");
        // Caddy removes what is answered without a value.
        let headers: Vec<_> = headers.into_iter().filter(|(_, value)| dialect != "caddy" || !value.is_empty()).collect();
        let own = ["cache-control", "content-length", "connection", "date", "x-envoy-auth-headers-to-remove"];
        let of = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let removed = of("x-envoy-auth-headers-to-remove").unwrap_or_default();
        return Decided {
            admitted: true,
            status,
            set: headers.iter().filter(|(name, _)| !own.contains(&&**name)).cloned().collect(),
            removed: removed.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            ..Decided::default()
        };
    }
    assert!(!(200..300).contains(&status), "{status} would admit in {dialect}");
    if dialect == "nginx" {
        assert!(matches!(status, 401 | 403), "{status} would become 500");
    }
    Decided { admitted: false, status, headers, body: body.to_owned(), ..Decided::default() }
}

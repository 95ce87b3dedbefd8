//! Tests of 421: a request for a host that the connection's certificate does not name.

use std::sync::Arc;

use entrada::dev_tenant::{DevTenant, Options};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use tempfile::TempDir;

use crate::support::{Authority, Gateway, TestBed, Upstream, config, tls_of};

const ROUTE: &str = "- { name: open, match: { path: / }, anonymous: true, upstream: backend }";

/// Starts a gateway whose listener has a certificate for each of the names.
async fn bed(authority: &Authority, folder: &TempDir, names: &[&str]) -> TestBed {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let tls: Vec<_> = names.iter().map(|name| authority.server(name).write(folder.path(), &name.replace('*', "any"))).collect();
    let listener = format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", tls: [ {} ] }} ]", tls.join(", "));
    let gateway = Gateway::start(&config(&tenant, &upstream, ROUTE, &listener)).await;
    TestBed { tenant, upstream, gateway }
}

/// Makes a client that resolves every name to the gateway.
fn client(authority: &Authority) -> ClientConfig {
    let mut tls = (*tls_of(authority, None)).clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls
}

/// Returns the statuses of requests for these hosts, one after the other on a connection that requested this server name.
async fn statuses(bed: &TestBed, tls: &ClientConfig, asked: Option<&str>, hosts: &[&str]) -> Vec<u16> {
    let address = bed.gateway.address();
    let mut tls = tls.clone();
    // Without SNI the name is only what the certificate is held against.
    tls.enable_sni = asked.is_some();
    let name = ServerName::try_from(asked.unwrap_or("a.contoso.example").to_owned()).unwrap();
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let socket = std::net::TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(tls), name).unwrap(), socket);
        hosts
            .iter()
            .map(|host| {
                stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
                let mut answer = Vec::new();
                loop {
                    let mut part = [0; 4096];
                    let length = stream.read(&mut part).unwrap();
                    answer.extend_from_slice(&part[..length]);
                    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                        if body.len() >= length.parse().unwrap() {
                            break text[9..12].parse().unwrap();
                        }
                    }
                    assert_ne!(length, 0, "{text}");
                }
            })
            .collect()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_host_that_the_shown_certificate_does_not_name_is_misdirected() {
    let (authority, folder) = (Authority::new("Contoso"), TempDir::new().unwrap());
    let bed = bed(&authority, &folder, &["a.contoso.example", "b.contoso.example", "*.apps.contoso.example"]).await;
    let tls = client(&authority);

    for (asked, hosts, expected) in [
        (
            Some("a.contoso.example"),
            &["a.contoso.example", "A.Contoso.Example.", "a.contoso.example:8443"][..],
            &[200, 200, 200][..],
        ),
        // The connection goes on: the client may have more for the right host.
        (Some("a.contoso.example"), &["b.contoso.example", "a.contoso.example"], &[421, 200]),
        (Some("b.contoso.example"), &["a.contoso.example", "nowhere.example", "b.contoso.example"], &[421, 421, 200]),
        (
            Some("x.apps.contoso.example"),
            &["x.apps.contoso.example", "y.apps.contoso.example", "apps.contoso.example", "x.y.apps.contoso.example"],
            &[200, 200, 421, 421],
        ),
        // Every certificate of these names the address, too.
        (Some("b.contoso.example"), &["127.0.0.1", "127.0.0.2", "[::1]"], &[200, 421, 421]),
        // Who asks for no name is shown the first.
        (None, &["a.contoso.example", "b.contoso.example"], &[200, 421]),
    ] {
        assert_eq!(statuses(&bed, &tls, asked, hosts).await, expected, "{asked:?} {hosts:?}");
    }
    let record = bed.gateway.record(|record| record["host"] == "nowhere.example").await;
    assert_eq!((&record["code"], &record["status"]), (&"misdirected-request".into(), &421.into()));
    assert!(record["hint"].as_str().unwrap().contains("SNI"), "{record}");
}

#[tokio::test]
async fn over_http2_too_and_before_any_route_is_looked_at() {
    let (authority, folder) = (Authority::new("Contoso"), TempDir::new().unwrap());
    let bed = bed(&authority, &folder, &["a.contoso.example", "b.contoso.example"]).await;
    let mut tls = (*tls_of(&authority, None)).clone();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let socket = tokio::net::TcpStream::connect(bed.gateway.address()).await.unwrap();
    let name = ServerName::try_from("a.contoso.example").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, socket).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);

    // Both names resolve here, and the client takes the connection that it has: coalescing (RFC 9113, section 9.1.1).
    for (host, expected) in [("a.contoso.example", 200), ("b.contoso.example", 421), ("a.contoso.example", 200)] {
        let request = http::Request::get(format!("https://{host}/")).body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{host}");
    }
    let record = bed.gateway.record(|record| record["code"] == "misdirected-request").await;
    assert!(record["route"].is_null(), "{record}");
    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn where_there_is_one_certificate_nothing_is_misdirected() {
    let (authority, folder) = (Authority::new("Contoso"), TempDir::new().unwrap());
    let bed = bed(&authority, &folder, &["a.contoso.example"]).await;

    let hosts = ["a.contoso.example", "b.contoso.example", "127.0.0.9"];
    assert_eq!(statuses(&bed, &client(&authority), Some("a.contoso.example"), &hosts).await, [200, 200, 200]);
}

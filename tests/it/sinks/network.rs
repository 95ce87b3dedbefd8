//! Syslog servers and OpenTelemetry collectors: what they really receive.

use std::{
    collections::BTreeSet,
    io::Read,
    net::{TcpListener, UdpSocket},
    sync::{Arc, Mutex, mpsc},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tempfile::tempdir;

use super::{call, sink, spooled, until};
use crate::support::{Authority, Fields, Gateway, LONGEST_WAIT, Upstream};

/// Reads messages with octet counting, strictly.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ').expect("a length and a blank");
        let length: usize = std::str::from_utf8(&bytes[..blank]).unwrap().parse().unwrap();
        messages.push(String::from_utf8(bytes[blank + 1..blank + 1 + length].to_vec()).unwrap());
        bytes = &bytes[blank + 1 + length..];
    }
    messages
}

/// Returns the record in a message, after a look at what stands before it.
fn record(message: &str) -> Value {
    let (head, json) = message.split_once("] ").expect("structured data");
    let fields: Vec<_> = head.split(' ').collect();
    assert_eq!((fields[0].starts_with('<'), &fields[0][fields[0].len() - 1..], fields[3]), (true, "1", "entrada"), "{head}");
    assert!(head.contains("[entrada@32473 record_id=\""), "{head}");
    serde_json::from_str(json).unwrap()
}

/// A server that reads each connection to its end.
fn server<S: Read>(mut accept: impl FnMut() -> Option<S> + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let received = Arc::<Mutex<Vec<String>>>::default();
    let messages = received.clone();
    std::thread::spawn(move || {
        while let Some(mut connection) = accept() {
            let mut bytes = Vec::new();
            if connection.read_to_end(&mut bytes).is_ok() {
                messages.lock().unwrap().extend(frames(&bytes));
            }
        }
    });
    received
}

async fn ids(received: &Arc<Mutex<Vec<String>>>, count: usize) -> BTreeSet<String> {
    let ids = async || {
        let messages = received.lock().unwrap().clone();
        let records = messages.iter().map(|message| record(message));
        records.filter_map(|record| record["request_id"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    until(ids, |ids| ids.len() >= count).await
}

#[tokio::test]
async fn a_syslog_server_gets_every_record_over_tcp_also_those_of_its_absence() {
    let folder = tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let gateway =
        Gateway::start(&spooled(&format!("    - syslog: {{ address: \"tcp://{address}\", facility: local0 }}\n"), folder.path()))
            .await;
    let mut sent: BTreeSet<_> = call(&gateway, 10).await.into_iter().collect();
    let state = until(async || sink(&gateway, "syslog").await, |state| state.get("error").is_some()).await;
    assert!(state["spooled_bytes"].as_u64().unwrap() > 0, "{state}");

    let socket = TcpListener::bind(address).unwrap();
    let received = server(move || socket.accept().ok().map(|(stream, _)| stream));
    sent.extend(call(&gateway, 10).await);

    assert_eq!(ids(&received, 20).await, sent);
    let message = received.lock().unwrap()[0].clone();
    // local0, informational.
    assert!(message.starts_with("<134>1 20"), "{message}");
}

#[tokio::test]
async fn a_syslog_server_with_tls_is_trusted_by_its_own_authority_alone() {
    let folder = tempdir().unwrap();
    let (authority, stranger) = (Authority::new("SIEM"), Authority::new("Somebody"));
    let identity = authority.server("localhost");
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let tls = Arc::new(tls.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let received = server(move || {
        let (stream, _) = socket.accept().ok()?;
        Some(rustls::StreamOwned::new(rustls::ServerConnection::new(tls.clone()).ok()?, stream))
    });
    std::fs::write(folder.path().join("siem.pem"), authority.pem()).unwrap();
    std::fs::write(folder.path().join("other.pem"), stranger.pem()).unwrap();
    let with = |ca: &str| {
        let ca = folder.path().join(ca);
        spooled(&format!("    - syslog: {{ address: \"tls://localhost:{port}\", ca: \"{}\" }}\n", ca.display()), folder.path())
    };
    let mut gateway = Gateway::start(&with("other.pem")).await;
    let mut sent: BTreeSet<_> = call(&gateway, 5).await.into_iter().collect();
    let state = until(async || sink(&gateway, "syslog").await, |state| state.get("error").is_some()).await;
    assert!(state["error"].as_str().unwrap().contains("certificate"), "{state}");
    assert!(received.lock().unwrap().is_empty());

    gateway.reload(&with("siem.pem")).await;
    sent.extend(call(&gateway, 5).await);

    assert_eq!(ids(&received, 10).await, sent, "what waited goes to the same sink with other trust");
}

#[tokio::test]
async fn datagrams_have_a_record_each() {
    let folder = tempdir().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
    let sinks = format!("    - syslog: {{ address: \"udp://{}\", only: [deny] }}\n", socket.local_addr().unwrap());
    let gateway = Gateway::start(&spooled(&sinks, folder.path())).await;

    call(&gateway, 2).await;
    gateway.get("/shut").send().await;
    let received = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 65_535];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    });
    let message = received.await.unwrap();

    // auth, warning: what was let through did not come.
    assert!(message.starts_with("<36>1 20") && message.contains(" deny [entrada@32473 "), "{message}");
    assert_eq!(record(&message)["code"], "header-check-failed");
    assert!(message.contains(" code=\"header-check-failed\" policy=\"inbound[0\\].check-header\""), "{message}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_systems_own_syslog_needs_no_spool() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("log");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
    let gateway =
        Gateway::start(&super::config(&format!("    - syslog: {{ address: \"unix:{}\" }}\n", path.display()), "")).await;

    let sent = call(&gateway, 3).await;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_535];
        while let Ok(length) = socket.recv(&mut buffer) {
            if tell.send(String::from_utf8(buffer[..length].to_vec()).unwrap()).is_err() {
                return;
            }
        }
    });
    let received: Vec<_> =
        (0..3).map(|_| record(&told.recv_timeout(LONGEST_WAIT).unwrap())["request_id"].as_str().unwrap().to_owned()).collect();

    assert_eq!(received, sent);
    let state = until(async || sink(&gateway, "syslog:unix").await, |state| state["written"] == 3).await;
    assert!(state.get("spooled_bytes").is_none(), "{state}");
}

#[tokio::test]
async fn a_collector_gets_log_records_and_what_it_rejects_is_set_aside() {
    let folder = tempdir().unwrap();
    let turn = Mutex::new(0);
    let collector = Upstream::answering(move |request| {
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        let mut response = Response::new(Full::new(Bytes::new()));
        if *turn == 1 {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert("retry-after", "0".parse().unwrap());
        }
        assert_eq!(request.values("api-key"), ["of-the-tests"]);
        response
    })
    .await;
    let sinks = format!("    - otlp: {{ endpoint: \"{}\", headers: {{ api-key: of-the-tests }} }}\n", collector.url());
    let gateway = Gateway::start(&spooled(&sinks, folder.path())).await;

    call(&gateway, 2).await;
    let refused = gateway.get("/shut").send().await;
    until(async || sink(&gateway, "otlp").await, |state| state["written"] == 3 && state["spooled_bytes"] == 0).await;

    let exports = collector.all();
    assert!(
        exports.iter().all(|export| export.uri == "/v1/logs" && export.value("content-type") == Some("application/x-protobuf"))
    );
    let mut logs = Vec::new();
    for export in &exports[1..] {
        for resource in Fields::read(&export.body).all(1).map(Fields::read) {
            let about = Fields::read(resource.all(1).next().unwrap());
            assert_eq!(about.attribute(1, "service.name").as_deref(), Some("entrada"));
            for scope in resource.all(2).map(Fields::read) {
                logs.extend(scope.all(2).map(Fields::read));
            }
        }
    }
    assert_eq!(logs.len(), 3);
    let log = logs.iter().find(|log| log.attribute(6, "entrada.decision").as_deref() == Some("deny")).unwrap();
    assert_eq!((log.number(2), &*log.text(3), &*log.text(12)), (13, "WARN", "entrada.request"));
    assert_eq!(log.attribute(6, "entrada.request_id").as_deref(), refused.headers["x-request-id"].to_str().ok());
    assert_eq!(log.attribute(6, "entrada.status").as_deref(), Some("401"));
    assert_eq!(log.hex(9).len(), 32, "the trace");
    let body = Fields::read(log.all(5).next().unwrap()).text(1);
    assert!(body.contains(" deny 401 header-check-failed GET "), "{body}");
}

//! Tests of panics: their effect on the request, on others, and on the record.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::{
    config::Document,
    server::{Server, ServerOptions},
};

/// A gateway of one worker with routes that panic, one that answers, and one whose backend answers on demand.
struct Scene {
    server: Option<Server>,
    answer: Arc<Notify>,
    asked: Arc<Notify>,
}

impl Scene {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (answer, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let config = format!(
            r#"
listeners: [ {{ name: public, address: "127.0.0.1:0" }} ]
admin: {{ address: "127.0.0.1:0" }}
audit: {{ sinks: [] }}
upstreams: {{ backend: {{ servers: ["http://{}"], protocol: http1 }} }}
routes:
  - {{ name: policy, match: {{ path: /policy }}, anonymous: true, respond: {{ status: 204 }}, inbound: [ {{ panic: policy }} ] }}
  - {{ name: body, match: {{ path: /body }}, anonymous: true, respond: {{ status: 204 }}, inbound: [ {{ panic: body }} ] }}
  - {{ name: refused, match: {{ path: /refused }}, anonymous: true, respond: {{ status: 204 }}, inbound: [ {{ check-header: {{ name: X-Key }} }} ], on-error: [ {{ set-header: {{ name: X-Seen, value: told }} }}, {{ panic: words }} ] }}
  - {{ name: fine, match: {{ path: /fine }}, anonymous: true, respond: {{ status: 204 }} }}
  - {{ name: slow, match: {{ path: /slow }}, anonymous: true, upstream: backend }}
"#,
            socket.local_addr().unwrap()
        );
        tokio::spawn({
            let (answer, asked) = (answer.clone(), asked.clone());
            async move {
                let (mut stream, _) = socket.accept().await.unwrap();
                let mut buffer = [0; 4096];
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                asked.notify_one();
                answer.notified().await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow").await.unwrap();
                std::future::pending::<()>().await;
            }
        });
        let document = Document::from_text("test.yaml", &config).unwrap_or_else(|report| panic!("{report}"));
        // A candidate that panics in what the active config serves.
        let candidate = config.replace(
            "name: fine, match: { path: /fine }",
            "name: fine, inbound: [ { panic: candidate } ], match: { path: /fine }",
        );
        assert_ne!(candidate, config);
        let candidate = Document::from_text("candidate.yaml", &candidate).unwrap_or_else(|report| panic!("{report}"));
        let options = ServerOptions { workers: 1, candidate: Some(Default::default()), ..ServerOptions::default() };
        let server = tokio::task::spawn_blocking(move || {
            let server = Server::start(&document, options).unwrap();
            server.judge_beside(&candidate).unwrap_or_else(|report| panic!("{report}"));
            server
        });
        let server = server.await.unwrap();
        Self { server: Some(server), answer, asked }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.as_ref().unwrap().address("public").unwrap()).await.unwrap()
    }

    /// Sends a request; returns everything received until the gateway closes.
    async fn ask(&self, path: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A body that is torn off may end in a reset.
        let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes)).await.expect("an end");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the record of the only request to this path.
    async fn record(&self, path: &str) -> Value {
        let find = async {
            loop {
                let records = self.server.as_ref().unwrap().audit().recent();
                let mut records = records.iter().map(|line| serde_json::from_slice::<Value>(line).unwrap());
                if let Some(record) = records.find(|record| record["path"] == path) {
                    return record;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), find).await.expect("a record")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Stopping waits for the worker; not on a thread that drives the test's own connections.
        let server = self.server.take();
        std::thread::spawn(move || drop(server));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_policy_ends_its_request_alone_and_is_recorded() {
    let scene = Scene::start().await;

    let answer = scene.ask("/policy/s3cret").await;
    let next = scene.ask("/fine").await;
    let record = scene.record("/policy/s3cret").await;

    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("\"code\":\"internal-error\"") && !answer.contains("panicked"), "{answer}");
    assert!(next.starts_with("HTTP/1.1 204 "), "{next}");
    assert_eq!(
        (&record["decision"], &record["code"], &record["status"]),
        (&"error".into(), &"internal-error".into(), &500.into())
    );
    assert!(!record["cause"].as_str().unwrap().contains("s3cret"), "{record}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_within_an_answer_tears_it_off_and_is_recorded() {
    let scene = Scene::start().await;

    let answer = scene.ask("/body").await;
    let next = scene.ask("/fine").await;
    let record = scene.record("/body").await;

    // However much of it has left by then: it never looks whole.
    assert!(!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\r\n\r\n")), "{answer}");
    assert!(next.starts_with("HTTP/1.1 204 "), "{next}");
    assert_eq!(
        (&record["decision"], &record["code"], &record["status"]),
        (&"error".into(), &"internal-error".into(), &200.into())
    );
    assert_eq!(record["complete"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_stream_leaves_the_others_of_its_connection_alone() {
    let scene = Scene::start().await;
    let io = TokioIo::new(scene.connect().await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| Request::get(format!("http://a{path}")).body(Empty::<Bytes>::new()).unwrap();

    let slow = tokio::spawn(sender.send_request(request("/slow")));
    scene.asked.notified().await;
    let panicked = sender.send_request(request("/policy")).await.unwrap();
    let torn = match sender.send_request(request("/body")).await {
        Ok(answer) => answer.into_body().collect().await.is_err(),
        Err(_) => true,
    };
    scene.answer.notify_one();
    let slow = slow.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    let fine = sender.send_request(request("/fine")).await.unwrap();

    assert_eq!((panicked.status().as_u16(), fine.status().as_u16(), &*slow), (500, 204, &b"slow"[..]));
    assert!(torn);
    assert_eq!(scene.record("/body").await["code"], "internal-error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_what_answers_a_refusal_leaves_the_refusal() {
    let scene = Scene::start().await;

    let answer = scene.ask("/refused/s3cret").await;
    let record = scene.record("/refused/s3cret").await;

    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("\"code\":\"header-check-failed\"") && !answer.contains("x-seen"), "{answer}");
    assert_eq!((&record["decision"], &record["code"]), (&"deny".into(), &"header-check-failed".into()), "{record}");
    assert_eq!(record["status"], 401, "{record}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_panics_changes_nothing_for_the_request() {
    let scene = Scene::start().await;

    for _ in 0..3 {
        let answer = scene.ask("/fine").await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }
    let record = scene.record("/fine").await;

    assert_eq!((&record["decision"], record.get("code")), (&"allow".into(), None), "{record}");
    assert_eq!((&record["candidate"]["verdict"], &record["candidate"]["code"]), (&"error".into(), &"internal-error".into()));
    let status = scene.record("/fine").await;
    assert_eq!(status["status"], 204, "{status}");
}

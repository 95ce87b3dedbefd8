//! An origin that gives one scripted answer after the other, for tests of the calls.

#![allow(missing_docs, missing_debug_implementations, clippy::unwrap_used, reason = "helpers of tests alone")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// An answer of the origin.
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// A notification that releases the answer.
    pub after: Option<Arc<tokio::sync::Notify>>,
}

impl Reply {
    pub fn json(body: impl Into<String>) -> Self {
        Self { status: 200, head: "content-type: application/json\r\n".to_owned(), body: body.into().into_bytes(), after: None }
    }

    pub fn status(status: u16) -> Self {
        Self { status, head: String::new(), body: Vec::new(), after: None }
    }
}

/// An origin that answers by a function and records its requests.
pub struct Origin {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Origin {
    pub async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let log = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), log.clone());
                tokio::spawn(async move {
                    let request = Box::pin(read_request(&mut stream)).await;
                    log.lock().unwrap().push(request.clone());
                    let reply = answer(&request);
                    if let Some(after) = &reply.after {
                        after.notified().await;
                    }
                    let head = format!(
                        "HTTP/1.1 {} Answer\r\n{}content-length: {}\r\nconnection: close\r\n\r\n",
                        reply.status,
                        reply.head,
                        reply.body.len()
                    );
                    // A client that has left early is what some tests are about.
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(&reply.body).await;
                });
            }
        });
        Self { address, asked, task }
    }

    pub fn url(&self, path: &str) -> url::Url {
        url::Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    /// Returns the requests so far, head and body.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if count == 0 {
                return text;
            }
            continue;
        };
        let expected = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |length| length.parse().unwrap());
        if count == 0 || body.len() >= expected {
            return text;
        }
    }
}

//! A caller: requests by a real client, and raw bytes.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use entrada::Reason;

use super::gateway::note_code;

/// A response, read completely.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = Self { status, headers, body: response.bytes().await.expect("the answer's body comes whole") };
        // The answer to HEAD says what a body would be, and has none.
        if answer.header("content-type") == Some("application/problem+json") && !answer.body.is_empty() {
            note_code(answer.json()["code"].as_str().unwrap_or_default());
        }
        answer
    }

    /// Returns the header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Asserts that the request was admitted.
    #[track_caller]
    pub(crate) fn assert_allowed(&self) {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
    }

    /// Asserts that the request was refused for this reason, with a complete refusal.
    #[track_caller]
    pub(crate) fn assert_refused(&self, reason: Reason) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], reason.code(), "{problem}");
        assert_eq!(problem["type"], format!("urn:entrada:{}", reason.code()));
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        assert_eq!(self.status, reason.status(), "{problem}");
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(self.status != StatusCode::UNAUTHORIZED || self.headers.contains_key("www-authenticate"), "{self:?}");
    }
}

/// A connection on which the caller writes any bytes.
pub(crate) struct RawConnection(TcpStream);

impl RawConnection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Leaves at once, with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Ends the client's side; a gateway that waits for more then need not.
    pub(crate) async fn end(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Reads the next response, whose length its head announces; the connection stays open.
    pub(crate) async fn read_answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut missing = 1;
        while missing > 0 {
            let mut part = vec![0; missing];
            let length = self.0.read(&mut part).await.unwrap();
            assert_ne!(length, 0, "the gateway closed: {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&part[..length]);
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            missing = text.split_once("\r\n\r\n").map_or(1, |(head, body)| {
                let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                announced.map_or(0, |length| length.parse::<usize>().unwrap()) - body.len()
            });
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until this text; the connection stays open.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let length = self.0.read_buf(&mut bytes).await.unwrap();
            assert_ne!(length, 0, "the gateway closed: {}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends, if the connection is still open.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Reads until this text; `None` if the connection ends before.
    pub(crate) async fn try_read_until(&mut self, end: &str) -> Option<String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            self.0.read_buf(&mut bytes).await.ok().filter(|length| *length > 0)?;
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads until the gateway closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset after the answer is an end like any other.
        let _ = self.0.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

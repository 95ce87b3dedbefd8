//! A backend that writes scripted frames.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;

/// END_HEADERS, and that with END_STREAM.
pub(super) const HEAD: u8 = 4;
pub(super) const HEAD_AND_END: u8 = 5;
/// `:status: 200`, of the static table.
pub(super) const OK: &[u8] = &[0x88];

/// A frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) stream: u32,
}

/// A connection of a backend.
pub(super) struct Connection(TcpStream);

impl Connection {
    /// Writes a frame.
    pub(super) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        // Whoever closes has seen enough.
        let _ = self.0.write_all(&frame).await;
    }

    /// Reads the next frame; `None` at the end.
    pub(super) async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let frame = Frame { kind: head[3], stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) };
        if frame.kind == SETTINGS && head[4] == 0 {
            self.write(SETTINGS, 1, 0, &[]).await;
        }
        Some(frame)
    }

    /// Returns the stream of the next request, or `None` at the end.
    pub(super) async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.read().await?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// Answers 200 without a body.
    pub(super) async fn answer(&mut self, stream: u32) {
        self.write(HEADERS, HEAD_AND_END, stream, OK).await;
    }

    /// Sends GOAWAY: no streams above this one were processed.
    pub(super) async fn go_away(&mut self, last: u32) {
        self.write(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat()).await;
    }
}

/// Starts a backend whose connections are served one after the other, by number. Returns its address, and the number of
/// connections.
pub(super) async fn backend<F>(serve: impl Fn(usize, Connection) -> F + Send + 'static) -> (SocketAddr, Arc<Mutex<usize>>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let came = Arc::new(Mutex::new(0));
    let count = came.clone();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = socket.accept().await.unwrap();
            *count.lock().unwrap() += 1;
            let mut preface = [0; 24];
            if stream.read_exact(&mut preface).await.is_err() {
                continue;
            }
            let mut connection = Connection(stream);
            connection.write(SETTINGS, 0, 0, &[]).await;
            tokio::spawn(serve(number, connection));
        }
    });
    (address, came)
}

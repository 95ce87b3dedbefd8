//! A client that sends arbitrary HTTP/2 frames.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The largest window.
pub(crate) const WIDE: u32 = (1 << 31) - 1;
/// The initial window of a connection.
pub(crate) const FIRST_WINDOW: u32 = 65_535;

/// Fails after a timeout: nothing in these tests takes long.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("the test hangs")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Returns the code of a RST_STREAM or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes a header block of literals.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fn write(out: &mut Vec<u8>, text: &str) {
        let length = text.len();
        if length < 127 {
            out.push(u8::try_from(length).unwrap());
        } else {
            out.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap());
        }
        out.extend(text.as_bytes());
    }
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        write(&mut out, name);
        write(&mut out, value);
    }
    out
}

/// Returns the fields of a GET request.
pub(crate) fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "api.contoso.example"), (":path", path)];
    fields.extend(more);
    block(&fields)
}

/// A connection of that client, over any stream of bytes.
pub(crate) struct Raw<T = TcpStream> {
    socket: T,
    read: Vec<u8>,
    /// The code of the gateway's GOAWAY.
    pub(crate) gone: Option<u32>,
}

impl Raw {
    /// Opens a connection and exchanges settings, with this window for each stream.
    pub(crate) async fn open(address: SocketAddr, window: u32) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), window).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    /// Does the same over an existing byte stream.
    pub(crate) async fn over(socket: T, window: u32) -> Self {
        let mut raw = Self { socket, read: Vec::new(), gone: None };
        let settings = [&[0, 4], window.to_be_bytes().as_slice()].concat();
        raw.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &settings)].concat()).await;
        raw.until(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).await;
        raw
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        in_time(self.socket.write_all(bytes)).await.unwrap();
    }

    /// Sends as much as the gateway accepts before it ends the connection.
    pub(crate) async fn flood(&mut self, bytes: &[u8]) {
        let _ = in_time(self.socket.write_all(bytes)).await;
    }

    pub(crate) async fn get(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(path, more))).await;
    }

    pub(crate) async fn open_window(&mut self, stream: u32, bytes: u32) {
        self.send(&frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())).await;
    }

    /// Returns the next frame; `None` at the end of the connection. Settings and pings are answered.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(length) = self.read.get(..3).map(|head| u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize)
                && self.read.len() >= 9 + length
            {
                let bytes: Vec<_> = self.read.drain(..9 + length).collect();
                let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
                let frame = Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() };
                if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
                    let payload = if frame.kind == PING { frame.payload.as_slice() } else { &[] };
                    let _ = self.socket.write_all(&self::frame(frame.kind, ACK, 0, payload)).await;
                }
                if frame.kind == GOAWAY {
                    self.gone = Some(frame.code());
                }
                return Some(frame);
            }
            let mut bytes = vec![0; 16 << 10];
            match in_time(self.socket.read(&mut bytes)).await {
                Ok(count @ 1..) => self.read.extend(&bytes[..count]),
                _ => return None,
            }
        }
    }

    pub(crate) async fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Frame {
        let mut seen = Vec::new();
        while let Some(frame) = self.next().await {
            if is_it(&frame) {
                return frame;
            }
            seen.push((frame.kind, frame.flags, frame.stream));
        }
        panic!("the connection ended after {seen:?}");
    }

    /// Returns the code that a stream is reset with.
    pub(crate) async fn until_reset(&mut self, stream: u32) -> u32 {
        self.until(|frame| frame.kind == RST_STREAM && frame.stream == stream).await.code()
    }
}

//! A syslog server on the network: datagrams (RFC 5426), or a stream with octet counting (RFC 6587), also within TLS (RFC 5425).
//!
//! Syslog has no answers. A batch over a stream has arrived when the server has read to its end: we close our side, and the server
//! closes its own. Datagrams are sent and may be lost on the way.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Limits, Verdict};
use crate::audit::sink::SyslogFormat;

/// Small batches: a connection that breaks makes all of one be sent again.
pub(super) const LIMITS: Limits = Limits { bytes: 1 << 20, between: 0 };
/// The time for connecting, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// The time for sending a batch.
const SEND: Duration = Duration::from_secs(30);
/// The time in which a server closes its side. One that keeps it open has most likely read everything.
const CLOSE: Duration = Duration::from_secs(5);
/// The longest datagram that arrives on most networks in IPv4, in bytes.
const DATAGRAM: usize = 65_000;
/// The datagrams that are sent in one go, and the pause after them.
const BURST: usize = 32;
const BETWEEN_BURSTS: Duration = Duration::from_millis(5);

/// The way to a server.
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls(Arc<rustls::ClientConfig>, ServerName<'static>),
}

/// A syslog server.
pub(in crate::audit) struct SyslogServer {
    /// Host and port.
    pub(super) address: String,
    pub(super) transport: Transport,
    pub(super) format: SyslogFormat,
}

impl std::fmt::Debug for SyslogServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyslogServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SyslogServer {
    /// Writes the message of a record.
    pub(super) fn row(&self, record: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        self.format.write(record, &mut message);
        match self.transport {
            Transport::Udp => {
                message.truncate(DATAGRAM);
                message
            }
            Transport::Tcp | Transport::Tls(..) => {
                let mut framed = format!("{} ", message.len()).into_bytes();
                framed.extend_from_slice(&message);
                framed
            }
        }
    }

    /// Sends messages.
    pub(super) async fn send(&self, rows: &[Bytes]) -> Verdict {
        match self.try_to_send(rows).await {
            Ok(()) => Verdict::Delivered,
            Err(error) => Verdict::Later(format!("{}: {error}", self.address), None),
        }
    }

    async fn try_to_send(&self, rows: &[Bytes]) -> io::Result<()> {
        if matches!(self.transport, Transport::Udp) {
            return self.send_datagrams(rows).await;
        }
        let stream = in_time(CONNECT, TcpStream::connect(&self.address)).await?;
        match &self.transport {
            Transport::Tls(tls, name) => {
                let connect = TlsConnector::from(tls.clone()).connect(name.clone(), stream);
                self.send_stream(in_time(CONNECT, connect).await?, rows).await
            }
            Transport::Tcp | Transport::Udp => self.send_stream(stream, rows).await,
        }
    }

    async fn send_stream(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, rows: &[Bytes]) -> io::Result<()> {
        let all = rows.concat();
        in_time(SEND, async {
            stream.write_all(&all).await?;
            stream.flush().await?;
            stream.shutdown().await
        })
        .await?;
        let mut buffer = [0; 256];
        let closed = timeout(CLOSE, async {
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    // TLS without its own end: the stream has one all the same.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        });
        closed.await.unwrap_or(Ok(()))
    }

    async fn send_datagrams(&self, rows: &[Bytes]) -> io::Result<()> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in in_time(CONNECT, tokio::net::lookup_host(&self.address)).await? {
            let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(own).await?;
            let sent = async {
                socket.connect(address).await?;
                for burst in rows.chunks(BURST) {
                    for row in burst {
                        socket.send(row).await?;
                    }
                    // A server's buffer holds a few hundred datagrams, and nobody tells of those that it had no room for.
                    tokio::time::sleep(BETWEEN_BURSTS).await;
                }
                Ok(())
            };
            match in_time(SEND, sent).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

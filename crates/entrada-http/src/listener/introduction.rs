//! The PROXY protocol header at the beginning of a connection, before TLS and any request.

use std::{io, net::SocketAddr};

use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::connection::{
    Introduction, TrustedPeers,
    proxy_protocol::{self, Header, Progress, ProxyProtocolFault},
};

/// The number of bytes that are peeked at once: more than nearly every header has.
const LOOK: usize = 512;

/// The reason why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotIntroduced {
    /// The peer may not introduce connections. None of its bytes were read.
    #[error("the peer is not a trusted proxy")]
    Untrusted,
    /// The bytes are not a header.
    #[error(transparent)]
    Faulty(#[from] ProxyProtocolFault),
    /// The connection ended within the header.
    #[error("the connection ended within the PROXY protocol header")]
    Abandoned,
    /// The connection ended before its first byte, as a balancer's health checks do.
    #[error("nothing arrived")]
    Silent,
    /// The header did not arrive in time.
    #[error("no PROXY protocol header within header-timeout")]
    Late,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

/// Reads the header of a connection from `proxy`: not a byte beyond it, and nothing from an untrusted peer.
///
/// Returns the initial peer, with its source.
pub(super) async fn read(
    tcp: &mut TcpStream,
    proxy: SocketAddr,
    trusted: &dyn TrustedPeers,
    deadline: Instant,
) -> Result<(SocketAddr, Introduction), NotIntroduced> {
    if !trusted.may_introduce(proxy.ip()) {
        return Err(NotIntroduced::Untrusted);
    }
    let header = timeout_at(deadline, header(tcp)).await.map_err(|_| NotIntroduced::Late)??;
    let introduction = Introduction { by: proxy, names_source: header.source.is_some(), tls: header.tls };
    Ok((header.source.unwrap_or(proxy), introduction))
}

/// Reads the header. The bytes after it belong to TLS or HTTP, so bytes are consumed only once they are known to be the header's.
/// As long as it is incomplete they all are, and are consumed at once: a peer that sends it byte by byte causes no busy loop.
async fn header(tcp: &mut TcpStream) -> Result<Header, NotIntroduced> {
    let mut read = Vec::new();
    let mut look = [0; LOOK];
    loop {
        let count = tcp.peek(&mut look).await.map_err(NotIntroduced::Broken)?;
        if count == 0 {
            return Err(if read.is_empty() { NotIntroduced::Silent } else { NotIntroduced::Abandoned });
        }
        let before = read.len();
        read.extend_from_slice(&look[..count]);
        let complete = match proxy_protocol::read(&read)? {
            Progress::Complete(header) => Some(header),
            Progress::Partial => None,
        };
        let own = complete.map_or(count, |header| header.length - before);
        tcp.read_exact(&mut look[..own]).await.map_err(NotIntroduced::Broken)?;
        if let Some(header) = complete {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    /// Returns the result of reading these pieces, and the bytes left.
    async fn heard(pieces: &[&[u8]]) -> (Result<Header, NotIntroduced>, Vec<u8>) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = socket.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (found, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(30), header(&mut server)), send);
        let mut rest = Vec::new();
        // Who was refused may not care for the rest.
        let _ = server.read_to_end(&mut rest).await;
        (found.expect("in time"), rest)
    }

    fn v2(body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, &[192, 0, 2, 7, 203, 0, 113, 1, 0x12, 0x67, 1, 0xBB], &body[12..]]
            .concat()
    }

    #[tokio::test]
    async fn takes_the_header_and_not_a_byte_more() {
        let tlvs = v2(&[0xEA; 3_000]);
        for header in [&b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n"[..], &v2(&[0; 12]), &tlvs] {
            let whole = [header, b"\x16\x03\x01 and so on"].concat();

            let (found, rest) = heard(&[&whole]).await;

            let found = found.expect("a header");
            assert_eq!((found.length, found.source), (header.len(), Some("192.0.2.7:4711".parse().unwrap())));
            assert_eq!(rest, b"\x16\x03\x01 and so on");
        }
    }

    #[tokio::test]
    async fn puts_a_header_together_that_comes_in_pieces() {
        for header in [b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n".to_vec(), v2(&[7; 40])] {
            let pieces: Vec<&[u8]> = header.chunks(1).chain([&b"GET /"[..]]).collect();

            let (found, rest) = heard(&pieces).await;

            assert_eq!(found.expect("a header").length, header.len());
            assert_eq!(rest, b"GET /");
        }
    }

    #[tokio::test]
    async fn tells_what_else_there_may_be() {
        for (bytes, expected) in [
            (&b""[..], "nothing arrived"),
            (b"PROXY TC", "the connection ended within the PROXY protocol header"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x01", "the connection ended within the PROXY protocol header"),
            (b"GET / HTTP/1.1\r\n\r\n", "the connection does not begin with a PROXY protocol header"),
            (b"\x16\x03\x01", "the connection does not begin with a PROXY protocol header"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF", "the PROXY protocol header is too long"),
            (b"PROXY TCP4 192.0.2.7\r\n", "the PROXY protocol header is malformed"),
        ] {
            let (found, _) = heard(&[bytes]).await;

            assert_eq!(found.expect_err("no header").to_string(), expected);
        }
    }
}

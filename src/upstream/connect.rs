//! Making connections: TCP, TLS, HTTP.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    body::SendBody,
    config::{ProtocolConfig, TimeoutsConfig},
    error::UpstreamError,
    http1,
    io::Io,
    pool::{Found, Http2, Pool, Stream},
    resolve::resolve,
    server::{Address, Server},
};

/// The longest header list of an HTTP/2 answer, in bytes.
const HEADER_LIST: u32 = 64 * 1024;
/// What a server may send on one HTTP/2 stream, and on all of a connection, before it has to wait.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// How often a server is asked whether it is still there while it owes an answer, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(10);

/// A connection for one request.
pub(super) enum Connection {
    /// HTTP/1.1, for this request alone until it is over.
    Http1(Box<http1::Connection>),
    /// A stream of a shared HTTP/2 connection, and whether that carried requests before.
    Http2 { stream: Stream, reused: bool },
}

/// What a connection is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Any connection.
    Any,
    /// One that was never used.
    Fresh,
    /// A new HTTP/1.1 connection that will change its protocol.
    Upgrade,
}

/// A connection from the pool, or a new one.
pub(super) async fn connection(
    server: &Server,
    pool: &Arc<Pool>,
    protocol: ProtocolConfig,
    timeouts: &TimeoutsConfig,
    want: Want,
) -> Result<Connection, UpstreamError> {
    let idle = timeouts.idle.0;
    if want == Want::Any
        && let Some(connection) = from_shelf(pool.take(idle))
    {
        return Ok(connection);
    }
    let deadline = Instant::now() + timeouts.connect.0;
    let attempt = async {
        let may_share = match protocol {
            ProtocolConfig::Http1 => false,
            ProtocolConfig::Http2 => true,
            ProtocolConfig::Auto => server.tls.is_some() && !pool.speaks_http1.load(Ordering::Relaxed),
        };
        if !may_share || want == Want::Upgrade {
            return open(server, pool, protocol, want, idle).await;
        }
        // Those who wait here while a connection is made find it on the shelf.
        let _making = pool.making.lock().await;
        if want == Want::Any
            && let Some(connection) = from_shelf(pool.take(idle))
        {
            return Ok(connection);
        }
        open(server, pool, protocol, want, idle).await
    };
    // Boxed: a handshake has a large future, and nearly every request finds a connection and has no use for its room.
    match timeout_at(deadline, Box::pin(attempt)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(source)) => Err(UpstreamError::Connect { server: server.name.clone(), source }),
        Err(_) => Err(UpstreamError::ConnectTimeout { server: server.name.clone(), after: timeouts.connect.0 }),
    }
}

fn from_shelf(found: Found) -> Option<Connection> {
    match found {
        Found::Http1(connection) => Some(Connection::Http1(connection)),
        Found::Http2(stream) => Some(Connection::Http2 { stream, reused: true }),
        Found::Nothing => None,
    }
}

/// Makes a connection.
async fn open(server: &Server, pool: &Arc<Pool>, protocol: ProtocolConfig, want: Want, idle: Duration) -> io::Result<Connection> {
    let tcp = match &server.address {
        Address::Known(address) => TcpStream::connect(address).await?,
        Address::Named(host, port) => TcpStream::connect(&*resolve(host, *port).await?).await?,
    };
    tcp.set_nodelay(true)?;
    let (stream, http2) = match &server.tls {
        None => (Io::Plain(tcp), protocol == ProtocolConfig::Http2 && want != Want::Upgrade),
        Some((tls, name)) => {
            let config = if want == Want::Upgrade { &tls.http1 } else { &tls.config };
            let stream = TlsConnector::from(config.clone()).connect(name.clone(), tcp).await?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            if protocol == ProtocolConfig::Http2 && !http2 && want != Want::Upgrade {
                return Err(io::Error::other("the server does not offer HTTP/2 (ALPN)"));
            }
            (Io::Tls(Box::new(stream)), http2)
        }
    };
    if http2 {
        let connection = Arc::new(Http2::new(shake_http2(stream).await.map_err(io::Error::other)?));
        let stream = Stream::of(&connection);
        pool.share(connection, idle);
        return Ok(Connection::Http2 { stream, reused: false });
    }
    pool.speaks_http1.store(protocol == ProtocolConfig::Auto, Ordering::Relaxed);
    Ok(Connection::Http1(http1::Connection::new(stream)))
}

async fn shake_http2(stream: Io) -> hyper::Result<http2::SendRequest<SendBody>> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

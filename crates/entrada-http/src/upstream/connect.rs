//! Making connections: TCP, TLS, HTTP.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    config::{ProtocolConfig, TimeoutsConfig},
    error::UpstreamError,
    http1, http2,
    io::Io,
    pool::{Found, Pool},
    resolve::resolve,
    server::{Address, Server},
};

/// A connection for one request.
pub(super) enum Connection {
    /// HTTP/1.1, for this request alone until it is over.
    Http1(Box<http1::Connection>),
    /// A place on a shared HTTP/2 connection.
    Http2(http2::Stream),
}

/// The requirements for a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Any connection.
    Any,
    /// A connection made after this time.
    MadeAfter(Instant),
    /// A connection that was never used.
    Fresh,
    /// A new HTTP/1.1 connection that will switch its protocol.
    Upgrade,
}

/// The requirements for a connection, and whether the request has a body.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) what: Want,
    pub(super) upload: bool,
}

/// Returns a connection from the pool, if any will do and one is idle now, or shared.
pub(super) fn pooled(pool: &Pool, timeouts: &TimeoutsConfig, wanted: Wanted, now: Instant) -> Option<Connection> {
    if wanted.what != Want::Any {
        return None;
    }
    from_shelf(pool.take(timeouts.idle.0, wanted.upload, None, now))
}

/// Returns a new connection, or one that others made in the meantime.
pub(super) async fn connection(
    server: &Server,
    pool: &Arc<Pool>,
    protocol: ProtocolConfig,
    timeouts: &TimeoutsConfig,
    wanted: Wanted,
) -> Result<Connection, UpstreamError> {
    let (idle, want) = (timeouts.idle.0, wanted.what);
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
        let after = match want {
            Want::Any => None,
            Want::MadeAfter(after) => Some(after),
            Want::Fresh | Want::Upgrade => return open(server, pool, protocol, want, idle).await,
        };
        loop {
            // Those who wait here while a connection is made find it on the shelf.
            let making = pool.making.lock().await;
            match pool.take(idle, wanted.upload, after, Instant::now()) {
                Found::Unsettled(connection) => connection.settles().await,
                Found::Full => {
                    drop(making);
                    pool.vacancy.notified().await;
                }
                Found::Nothing => return open(server, pool, protocol, want, idle).await,
                Found::Http1(connection) => return Ok(Connection::Http1(connection)),
                Found::Http2(stream) => return Ok(Connection::Http2(stream)),
            }
        }
    };
    let error = match timeout_at(deadline, attempt).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(source)) => UpstreamError::Connect { server: server.name.clone(), source },
        Err(_) => UpstreamError::ConnectTimeout { server: server.name.clone(), after: timeouts.connect.0 },
    };
    pool.connect_failures.fetch_add(1, Ordering::Relaxed);
    Err(error)
}

fn from_shelf(found: Found) -> Option<Connection> {
    match found {
        Found::Http1(connection) => Some(Connection::Http1(connection)),
        Found::Http2(stream) => Some(Connection::Http2(stream)),
        Found::Unsettled(_) | Found::Full | Found::Nothing => None,
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
    pool.opened.fetch_add(1, Ordering::Relaxed);
    if http2 {
        let connection = http2::Connection::open(stream, pool.vacancy.clone()).await.map_err(io::Error::other)?;
        let stream = http2::Stream::of(&connection);
        pool.share(connection, idle);
        return Ok(Connection::Http2(stream));
    }
    pool.speaks_http1.store(protocol == ProtocolConfig::Auto, Ordering::Relaxed);
    Ok(Connection::Http1(http1::Connection::new(stream)))
}

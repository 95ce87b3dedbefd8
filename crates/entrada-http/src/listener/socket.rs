//! Sockets: listening ones, one for each worker, and those of connections.

use std::{
    io::{self, IoSlice},
    net::{SocketAddr, TcpListener},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// The number of connections that may wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Binds an address once for each worker, so that the kernel spreads connections over them (`SO_REUSEPORT`). Where there is no such
/// option, as on Windows, all workers accept from one socket.
///
/// Port 0 is assigned by the first socket; the others share it.
///
/// # Errors
/// Fails if the address cannot be bound. An address that another process listens on is refused, although the option would allow
/// sharing it: two gateways on one address by accident are worse than a moment without one.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        socket(address, false)?;
    }
    let first = socket(address, true)?;
    let address = first.local_addr()?;
    first.listen(BACKLOG)?;
    let mut sockets: Vec<TcpListener> = vec![first.into()];
    for _ in 1..workers {
        sockets.push(another(&sockets[0], address)?);
    }
    Ok(sockets)
}

#[cfg(unix)]
fn another(_: &TcpListener, address: SocketAddr) -> io::Result<TcpListener> {
    let another = socket(address, true)?;
    another.listen(BACKLOG)?;
    Ok(another.into())
}

#[cfg(not(unix))]
fn another(first: &TcpListener, _: SocketAddr) -> io::Result<TcpListener> {
    first.try_clone()
}

/// Makes a bound socket that does not listen yet.
fn socket(address: SocketAddr, shared: bool) -> io::Result<Bound> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    allow_reuse(&socket, shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(Bound(socket))
}

/// Lets a socket have an address whose connections have just ended, and share it with others of this process.
#[cfg(unix)]
fn allow_reuse(socket: &socket2::Socket, shared: bool) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)
}

/// Changes nothing. On Windows the first is so without an option, and the option of that name would let other processes take the address.
#[cfg(not(unix))]
fn allow_reuse(_: &socket2::Socket, _: bool) -> io::Result<()> {
    Ok(())
}

struct Bound(socket2::Socket);

impl Bound {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no network address"))
    }

    fn listen(&self, backlog: i32) -> io::Result<()> {
        self.0.listen(backlog)
    }
}

impl From<Bound> for TcpListener {
    fn from(bound: Bound) -> Self {
        bound.0.into()
    }
}

/// The socket of one connection.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A client in the same process.
    Memory(DuplexStream),
    /// The socket was handed over.
    Gone,
}

impl Socket {
    /// Closes with a reset, so that the peer sees a failure and not an end.
    pub(crate) fn reset(&self) {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
            Self::Memory(_) | Self::Gone => return,
        };
        // Where this fails the peer has gone already.
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

impl AsyncRead for Socket {
    // A request comes here several times, and each inlined copy would take room in the first-level cache.
    #[inline(never)]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
            Self::Memory(memory) => Pin::new(memory).poll_read(cx, buffer),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline(never)]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Memory(memory) => Pin::new(memory).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Self::Memory(memory) => Pin::new(memory).poll_write_vectored(cx, slices),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Memory(memory) => Pin::new(memory).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Memory(memory) => Pin::new(memory).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_port_that_the_first_one_got() {
        let sockets = bind(([127, 0, 0, 1], 0).into(), 3).unwrap();
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();

        assert_ne!(ports[0], 0);
        assert_eq!(ports, [ports[0]; 3]);
    }

    #[test]
    fn an_address_in_use_is_not_shared_by_accident() {
        let sockets = bind(([127, 0, 0, 1], 0).into(), 1).unwrap();

        let error = bind(sockets[0].local_addr().unwrap(), 1).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}

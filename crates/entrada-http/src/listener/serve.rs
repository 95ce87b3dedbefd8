//! One worker's part of a listener: accepts connections, and determines their protocol.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::ProtocolVersion;
use tokio::{
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    admission::NotAdmitted,
    connection::{Connection, TlsFacts},
    drain::{ConnectionGuard, ConnectionSet, Drain, Guarded},
    http1, http2,
    introduction::{self, NotIntroduced},
    opening::Opening,
    service::Service,
    settings::{Listener, ListenerSettings},
    socket::Socket,
    tls::{InUse, ServerTls},
};
use crate::{
    certificate::ClientCertificate,
    connection::{ConnectionEvent, EventKind, Introduction, Slot},
};

/// The response to an excess connection. Minimal, since it must cost nothing.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// The reason for refusing a connection of a peer with too many of them.
const PEER_LIMIT: &str = "limits.connections-per-peer is reached";
/// The reason for refusing a connection of a peer that is no trusted proxy.
const ONLY_TRUSTED: &str = "only-trusted-proxies: the peer is none";
/// The first and the longest pause after a failed accept, as when there are no descriptors left.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The time that a connection told to close may take to release its descriptor.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// Serves one socket of a listener until the drain ends; must be run on the runtime of its worker.
///
/// A socket comes from [`bind`](super::bind). Connections that wait in its queue when the drain begins are still accepted.
///
/// # Errors
/// Fails if the socket cannot be used at all.
pub async fn serve<S: Service>(
    socket: std::net::TcpListener,
    listener: Arc<Listener>,
    service: S,
    mut drain: Drain,
) -> io::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let door = Acceptor { local: socket.local_addr()?, connections: Arc::default(), listener, service };
    door.listener.admission.joined_by(&door.connections);
    let mut pause = Pause::default();
    let until = loop {
        tokio::select! {
            biased;
            until = drain.begins() => break until,
            // What a connection that ends gives back may be what was missing.
            () = door.connections.left(), if pause.until.is_some() => pause.until = None,
            () = sleep_until(pause.until.unwrap_or_else(Instant::now)), if pause.until.is_some() => pause.until = None,
            accepted = socket.accept(), if pause.until.is_none() => match accepted {
                Ok((tcp, peer)) => {
                    pause = Pause::default();
                    door.admit(tcp, canonical(peer));
                    if door.listener.connections() > door.listener.limits().connections {
                        // Whoever was told to go shall have gone before the next one comes.
                        yield_now().await;
                    }
                }
                Err(error) => door.failed(&error, &mut pause),
            },
        }
    };
    // Closing the socket would reset those that wait in its queue: the kernel does not move them to another worker's. The system
    // is asked itself, since the runtime may not have been told of them yet.
    let socket = socket.into_std()?;
    while let Ok((tcp, peer)) = socket.accept() {
        if tcp.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(tcp)
        {
            door.admit(tcp, canonical(peer));
        }
    }
    drop(socket);
    door.connections.drain(until).await;
    Ok(())
}

/// The state shared by all connections of a socket.
struct Acceptor<S> {
    local: SocketAddr,
    connections: Arc<ConnectionSet>,
    listener: Arc<Listener>,
    service: S,
}

/// The pause of accepting, and the length of the next one.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
}

impl<S: Service> Acceptor<S> {
    /// Handles a failed accept.
    fn failed(&self, error: &io::Error, pause: &mut Pause) {
        // The peer's affair, and over. Everything else is ours, and stays for a while.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        self.listener.admission.failed();
        if out_of_descriptors(error) && self.listener.admission.make_room() {
            pause.until = Some(Instant::now() + ROOM_PAUSE);
            return;
        }
        self.note(None, EventKind::AcceptFailed, error.to_string());
        pause.length = (pause.length * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        pause.until = Some(Instant::now() + pause.length);
    }

    fn admit(&self, tcp: TcpStream, peer: SocketAddr) {
        let accepted = Instant::now();
        let settings = self.listener.settings.load_full();
        let tls = settings.tls.clone();
        if settings.only_trusted && !settings.trusted_peers.may_speak_for_others(peer.ip()) {
            // Before anything is read: whoever goes around the proxy in front is not even told what is here.
            self.listener.admission.untrusted();
            return self.note(Some(peer), EventKind::PeerNotTrusted, ONLY_TRUSTED.to_owned());
        }
        let seat = match self.listener.admit(self.listener.counted(peer.ip())) {
            Ok(seat) => seat,
            Err(full) => {
                if tls.is_none() && !settings.proxy_protocol {
                    // Whoever cannot take it at once goes without.
                    let _ = tcp.try_write(TOO_MANY_CONNECTIONS);
                }
                let (kind, detail) = match full {
                    NotAdmitted::Listener => (EventKind::ConnectionRefused, "limits.connections is reached"),
                    NotAdmitted::Peer => (EventKind::PeerConnectionLimit, PEER_LIMIT),
                };
                return self.note(Some(peer), kind, detail.to_owned());
            }
        };
        // Answers leave in whole pieces; waiting for more to send with them only costs time.
        let _ = tcp.set_nodelay(true);
        let membership = self.connections.join(seat, self.listener.admission.newly(accepted));
        let signal = membership.signal().clone();
        let listener = self.listener.clone();
        let proxy_protocol = settings.proxy_protocol;
        let arrived = Arrived { local: self.local_of(&tcp), peer, introduction: None, membership, accepted, listener, settings };
        let service = self.service.clone();
        match (proxy_protocol, tls) {
            (true, tls) => drop(tokio::spawn(Guarded::new(introduced(tcp, arrived, tls, service), signal))),
            (false, None) => drop(tokio::spawn(Guarded::new(plain(tcp, arrived, service), signal))),
            (false, Some(tls)) => drop(tokio::spawn(Guarded::new(secured(tcp, arrived, tls, service), signal))),
        }
    }

    /// Returns the local address; a wildcard socket has to ask the connection.
    fn local_of(&self, tcp: &TcpStream) -> SocketAddr {
        let asked = if self.local.ip().is_unspecified() { tcp.local_addr().ok() } else { None };
        asked.map_or(self.local, canonical)
    }

    fn note(&self, peer: Option<SocketAddr>, kind: EventKind, detail: String) {
        self.service.event(ConnectionEvent { listener: self.listener.name.clone(), peer, kind, detail: detail.into() });
    }
}

/// A connection that was just accepted.
struct Arrived {
    peer: SocketAddr,
    introduction: Option<Introduction>,
    local: SocketAddr,
    membership: ConnectionGuard,
    accepted: Instant,
    listener: Arc<Listener>,
    settings: Arc<ListenerSettings>,
}

impl Arrived {
    fn open(self, socket: Socket, tls: Option<TlsFacts>) -> Opening {
        let connection = Connection {
            listener: self.listener.clone(),
            settings: self.settings,
            peer: self.peer,
            introduction: self.introduction,
            local: self.local,
            tls,
            affinity: Slot::default(),
            recorded: Slot::default(),
        };
        Opening {
            socket,
            buffer: BytesMut::new(),
            listener: self.listener,
            connection: Arc::new(connection),
            membership: self.membership,
            accepted: self.accepted,
        }
    }

    fn note<S: Service>(&self, service: &S, kind: EventKind, detail: String) {
        let listener = self.listener.name.clone();
        service.event(ConnectionEvent { listener, peer: Some(self.peer), kind, detail: detail.into() });
    }
}

/// Serves a connection that begins with a PROXY protocol header; the rest is as on any other.
async fn introduced<S: Service>(mut tcp: TcpStream, mut arrived: Arrived, tls: Option<Arc<ServerTls>>, service: S) {
    let deadline = arrived.accepted + arrived.listener.limits().header_timeout;
    let trusted = arrived.settings.trusted_peers.clone();
    match Box::pin(introduction::read(&mut tcp, arrived.peer, &*trusted, deadline)).await {
        Ok((peer, introduction)) => {
            // The proxy may have any number of connections; those whose it is count each for its own.
            let counted = arrived.listener.counted(peer.ip()).filter(|_| introduction.names_source);
            if counted.is_some_and(|peer| !arrived.membership.counts_for(peer)) {
                arrived.peer = peer;
                return arrived.note(&service, EventKind::PeerConnectionLimit, PEER_LIMIT.to_owned());
            }
            (arrived.peer, arrived.introduction) = (peer, Some(introduction));
        }
        Err(fault) => {
            let kind = match fault {
                NotIntroduced::Silent => return,
                NotIntroduced::Untrusted => EventKind::PeerNotTrusted,
                NotIntroduced::Late => EventKind::HandshakeTimeout,
                NotIntroduced::Faulty(_) => EventKind::ProxyHeaderInvalid,
                NotIntroduced::Abandoned | NotIntroduced::Broken(_) => EventKind::HeadAbandoned,
            };
            return arrived.note(&service, kind, fault.to_string());
        }
    }
    match tls {
        None => plain(tcp, arrived, service).await,
        Some(tls) => secured(tcp, arrived, tls, service).await,
    }
}

/// Serves a connection without TLS: HTTP/2 if its preface arrives and it is enabled, else HTTP/1.
async fn plain<S: Service>(tcp: TcpStream, arrived: Arrived, service: S) {
    let http2 = arrived.listener.speaks_http2();
    let opening = arrived.open(Socket::Plain(tcp), None);
    if let Some(opening) = http1::serve(opening, service.clone(), http2).await {
        opening.membership.signal().set_busy();
        Box::pin(http2::serve(opening, service)).await;
    }
}

/// Serves a connection with TLS, by the protocol of ALPN. RFC 9113, section 3.2 allows no other choice there.
async fn secured<S: Service>(tcp: TcpStream, arrived: Arrived, tls: Arc<ServerTls>, service: S) {
    let certificates = tls.in_use();
    let Some(stream) = shake_hands(tcp, &arrived, &certificates, &service).await else { return };
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let facts = TlsFacts {
        version: session.protocol_version().and_then(version),
        server_name: session.server_name().map(|name| name.to_ascii_lowercase().into()),
        shown: certificates.shown(session.server_name()),
        // The handshake has read it already, or a session before has.
        certificate: session.peer_certificates().and_then(|chain| ClientCertificate::read(chain).ok()).map(Arc::new),
    };
    drop(certificates);
    let opening = arrived.open(Socket::Tls(Box::new(stream)), Some(facts));
    if http2 {
        opening.membership.signal().set_busy();
        Box::pin(http2::serve(opening, service)).await;
    } else {
        http1::serve(opening, service, false).await;
    }
}

/// Returns the number of a version of TLS; `None` for those that are not served.
const fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("1.2"),
        ProtocolVersion::TLSv1_3 => Some("1.3"),
        _ => None,
    }
}

async fn shake_hands<S: Service>(
    tcp: TcpStream,
    arrived: &Arrived,
    certificates: &InUse,
    service: &S,
) -> Option<TlsStream<TcpStream>> {
    let deadline = arrived.accepted + arrived.listener.limits().header_timeout;
    let handshake = Box::pin(TlsAcceptor::from(certificates.config().clone()).accept(tcp));
    let shaken = timeout_at(deadline, handshake).await;
    arrived.listener.admission.shook_hands(matches!(shaken, Ok(Ok(_))));
    match shaken {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => arrived.note(service, EventKind::HandshakeFailed, in_words(&error)),
        Err(_) => arrived.note(service, EventKind::HandshakeTimeout, "no handshake within header-timeout".to_owned()),
    }
    None
}

/// Says why a handshake failed.
fn in_words(error: &io::Error) -> String {
    use rustls::{CertificateError, Error};
    match error.get_ref().and_then(|source| source.downcast_ref::<Error>()) {
        // Only the library's own words tell it: the error within is not public.
        Some(Error::InvalidCertificate(CertificateError::Other(other))) if format!("{other:?}").contains("UnsupportedCertVersion") => {
            "the client's certificate is of an old version of X.509: it needs one of version 3, with some extension (`openssl x509 -req … -extfile`)".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Returns whether the process or the machine has no descriptors left.
fn out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let code = error.raw_os_error();
        code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use rustls::{CertificateError, Error, OtherError};

    use super::*;

    /// A fault of the certificate library, as it calls itself.
    #[derive(Debug)]
    struct UnsupportedCertVersion;

    impl fmt::Display for UnsupportedCertVersion {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "{self:?}")
        }
    }

    impl std::error::Error for UnsupportedCertVersion {}

    #[test]
    fn a_failed_handshake_is_told_in_words() {
        let told = |error: Error| in_words(&io::Error::new(io::ErrorKind::InvalidData, error));

        let old = told(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(UnsupportedCertVersion)))));
        assert!(old.starts_with("the client's certificate is of an old version of X.509"), "{old}");
        assert_eq!(told(Error::HandshakeNotComplete), "handshake not complete");
    }
}

//! Taking over from a running gateway without a refused connection: `entrada run --take-over PATH`.
//!
//! The gateway in service waits for its successor at a unix socket of sequenced packets. To one that runs as the same user it sends
//! its listening sockets, each in a packet with its name, and a zero byte behind them. The successor serves them beside it, and
//! says so; then the predecessor drains, and ends. The queues of the sockets stay, so that no connection is lost. Where the
//! successor fails before, nothing has changed.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use rustix::{
    cmsg_space,
    fs::{Mode, chmod, rename, unlink},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recv, recvmsg, send, sendmsg,
        socket_with,
        sockopt::{Timeout, set_socket_timeout, socket_acceptconn, socket_peercred},
    },
    process::geteuid,
};
use tokio::sync::{mpsc, oneshot};

use crate::listener::InheritedSocket;

/// The longest name of a socket, in bytes.
const LONGEST_NAME: usize = 256;
/// The maximum number of sockets that are taken.
const MOST_SOCKETS: usize = 4_096;
/// The time that one packet may take.
const PACKET_TIMEOUT: Duration = Duration::from_secs(5);
/// The time within which a successor has to serve.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// The successor's word that it serves.
const SERVING: &[u8] = b"serving";

/// The gateway in service, which waits for the word that its successor serves.
#[derive(Debug)]
pub(in crate::cli) struct Predecessor(OwnedFd);

impl Predecessor {
    /// Asks the gateway at `path` for its sockets; `None` if there is none.
    ///
    /// # Errors
    /// Fails if one is there and does not hand them over.
    pub(in crate::cli) fn ask(path: &Path) -> anyhow::Result<Option<(Self, Vec<InheritedSocket>)>> {
        use rustix::io::Errno;

        let whole = || format!("the gateway at {} hands nothing over", path.display());
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).with_context(whole)?;
        match connect(&socket, &SocketAddrUnix::new(path).with_context(whole)?) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error).with_context(whole),
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(PACKET_TIMEOUT)).with_context(whole)?;
        let mut sockets = Vec::new();
        while let Some(inherited) = receive(&socket).with_context(whole)? {
            anyhow::ensure!(
                sockets.len() < MOST_SOCKETS,
                "the gateway at {} has more than {MOST_SOCKETS} sockets",
                path.display()
            );
            sockets.push(inherited);
        }
        Ok(Some((Self(socket), sockets)))
    }

    /// Lets it go: its successor serves.
    pub(in crate::cli) fn release(self) {
        // One that has ended since needs no word.
        let _ = send(&self.0, SERVING, SendFlags::NOSIGNAL);
    }
}

/// Receives a socket with its name; `None` behind the last one.
fn receive(from: &OwnedFd) -> io::Result<Option<InheritedSocket>> {
    let mut name = [0; LONGEST_NAME];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let handed: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(handed) = message { Some(handed) } else { None })
        .flatten()
        .collect();
    let mut handed = handed.into_iter();
    match (received.bytes, handed.next()) {
        (1, None) if name[0] == END => Ok(None),
        (length, Some(socket)) if socket_acceptconn(&socket)? => {
            Ok(Some(InheritedSocket { name: String::from_utf8_lossy(&name[..length]).into(), socket: TcpListener::from(socket) }))
        }
        (0, None) => Err(io::Error::other("it closed the connection; it takes a successor of the same user alone")),
        _ => Err(io::Error::other("it sent something other than a listening socket")),
    }
}

/// The packet behind the last socket: no listener has this name.
const END: u8 = 0;

/// The place where a successor asks.
#[derive(Debug)]
pub(in crate::cli) struct HandOver(mpsc::UnboundedReceiver<Successor>);

impl HandOver {
    /// Waits at `path` from now on, in place of a predecessor.
    ///
    /// # Errors
    /// Fails if the socket cannot be made there.
    pub(in crate::cli) fn listen(path: &Path) -> anyhow::Result<Self> {
        let whole = || format!("no successor can be waited for at {}", path.display());
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).with_context(whole)?;
        // Made beside it and moved there: the path never leads nowhere.
        let mut made = path.as_os_str().to_owned();
        made.push(format!(".{}", std::process::id()));
        let _ = unlink(&made);
        bind(&socket, &SocketAddrUnix::new(&made).with_context(whole)?).with_context(whole)?;
        chmod(&made, Mode::RUSR | Mode::WUSR).with_context(whole)?;
        listen(&socket, 4).with_context(whole)?;
        rename(&made, path).with_context(whole)?;
        let (found, successors) = mpsc::unbounded_channel();
        let waiting = move || {
            while let Some(successor) = next_successor(&socket) {
                if found.send(successor).is_err() {
                    return;
                }
            }
        };
        // It ends with the process: nothing else wakes up whoever waits for a connection.
        std::thread::Builder::new().name("successors".to_owned()).spawn(waiting).with_context(whole)?;
        Ok(Self(successors))
    }

    /// Returns the next successor that runs as the same user.
    pub(in crate::cli) async fn successor(&mut self) -> Successor {
        match self.0.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        }
    }
}

/// Waits for a successor that runs as the same user; `None` if none can come any more.
fn next_successor(socket: &OwnedFd) -> Option<Successor> {
    loop {
        match accept_with(socket, SocketFlags::CLOEXEC) {
            Ok(connection) if socket_peercred(&connection).is_ok_and(|peer| peer.uid == geteuid()) => {
                return Some(Successor(connection));
            }
            Ok(_) => tracing::warn!("a process of another user asked for the listening sockets; it got none"),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(error) => {
                tracing::error!(%error, "no successor can be waited for any more");
                return None;
            }
        }
    }
}

/// A gateway that takes over.
#[derive(Debug)]
pub(in crate::cli) struct Successor(OwnedFd);

impl Successor {
    /// Hands the sockets over. What is returned receives the word that the successor serves; it is dropped if that never comes.
    ///
    /// # Errors
    /// Fails if the successor does not take them.
    pub(in crate::cli) fn hand_over(self, sockets: &[InheritedSocket]) -> io::Result<oneshot::Receiver<()>> {
        set_socket_timeout(&self.0, Timeout::Send, Some(PACKET_TIMEOUT))?;
        set_socket_timeout(&self.0, Timeout::Recv, Some(START_TIMEOUT))?;
        for inherited in sockets {
            let name = &inherited.name.as_bytes()[..inherited.name.len().min(LONGEST_NAME)];
            let handed = [inherited.socket.as_fd()];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&handed));
            sendmsg(&self.0, &[IoSlice::new(name)], &mut control, SendFlags::NOSIGNAL)?;
        }
        send(&self.0, &[END], SendFlags::NOSIGNAL)?;
        let (serves, told) = oneshot::channel();
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || {
            let mut word = [0; SERVING.len()];
            if recv(&self.0, &mut word[..], RecvFlags::empty()).is_ok_and(|(length, _)| length == SERVING.len())
                && word == SERVING
            {
                let _ = serves.send(());
            }
        })?;
        Ok(told)
    }
}

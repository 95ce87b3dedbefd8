//! Listening sockets that another process opened: the service manager, or the gateway that this one takes over from.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use crate::base::lock::lock;

/// A socket that listens, and the name that it was given.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The name of a listener, `admin` or `health`.
    pub name: Box<str>,
    /// The socket.
    pub socket: TcpListener,
}

/// The inherited sockets that no listener has taken yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InheritedSockets(Arc<Mutex<Vec<InheritedSocket>>>);

impl InheritedSockets {
    /// Makes them available to the listeners.
    pub fn new(sockets: Vec<InheritedSocket>) -> Self {
        Self(Arc::new(Mutex::new(sockets)))
    }

    /// Takes the sockets of a listener: those at its address, else those with its name, wherever they listen.
    pub fn take(&self, name: &str, address: Option<SocketAddr>) -> Vec<TcpListener> {
        let mut sockets = lock(&self.0);
        let is_there = |inherited: &InheritedSocket| address.is_some() && inherited.socket.local_addr().ok() == address;
        let some_there = sockets.iter().any(is_there);
        let is_its = |inherited: &mut InheritedSocket| if some_there { is_there(inherited) } else { &*inherited.name == name };
        sockets.extract_if(.., is_its).map(|inherited| inherited.socket).collect()
    }

    /// Closes what no listener has taken, and returns its names and addresses.
    pub fn close_rest(&self) -> Vec<String> {
        let in_words = |inherited: InheritedSocket| match inherited.socket.local_addr() {
            Ok(address) => format!("{} ({address})", inherited.name),
            Err(_) => inherited.name.into(),
        };
        std::mem::take(&mut *lock(&self.0)).into_iter().map(in_words).collect()
    }
}

/// Gives each worker at least one socket, and every socket to a worker: what waits in the queue of one that nobody serves would
/// never be answered. Workers without one of their own share.
///
/// # Errors
/// Fails if a descriptor cannot be duplicated.
pub fn spread(sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<TcpListener>> {
    let count = sockets.len();
    let mut spread = sockets;
    spread.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    for index in count..workers {
        spread.push(spread[index % count].try_clone()?);
    }
    Ok(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn inherited(name: &str, socket: &TcpListener) -> InheritedSocket {
        InheritedSocket { name: name.into(), socket: socket.try_clone().unwrap() }
    }

    #[test]
    fn an_address_decides_before_a_name_and_each_socket_is_taken_once() {
        let (first, second, third) = (socket(), socket(), socket());
        let at = |socket: &TcpListener| socket.local_addr().ok();
        let sockets =
            InheritedSockets::new(vec![inherited("public", &first), inherited("public", &second), inherited("unknown", &third)]);

        assert_eq!(sockets.take("public", at(&first)).len(), 1);
        assert!(sockets.take("partners", at(&first)).is_empty());
        assert_eq!(sockets.take("public", None).len(), 1);
        assert_eq!(sockets.take("partners", at(&third)).len(), 1);
        assert!(sockets.close_rest().is_empty());
    }

    #[test]
    fn what_no_listener_takes_is_closed_and_named() {
        let socket = socket();
        let sockets = InheritedSockets::new(vec![inherited("old", &socket)]);

        assert_eq!(sockets.close_rest(), [format!("old ({})", socket.local_addr().unwrap())]);
        assert!(sockets.close_rest().is_empty());
    }

    #[test]
    fn every_worker_has_a_socket_and_every_socket_a_worker() {
        for (sockets, workers, spread_over) in [(1, 4, 4), (4, 1, 4), (2, 3, 3)] {
            assert_eq!(spread((0..sockets).map(|_| socket()).collect(), workers).unwrap().len(), spread_over);
        }
    }
}

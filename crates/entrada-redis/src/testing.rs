//! A stand-in for a server that misbehaves as it is told, for tests of what real servers do only by chance.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Buf as _, BytesMut};
use entrada_base::lock::lock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{Endpoint, Login, Logins, Reply};

/// A command, part by part.
pub type Command = Vec<Vec<u8>>;

/// The reaction to a command.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Sends a reply.
    Reply(Reply),
    /// Sends these bytes, whatever they mean.
    Bytes(&'static [u8]),
    /// Says nothing.
    Silence,
    /// Closes the connection.
    Close,
    /// Sends these bytes, and closes the connection.
    BytesThenClose(&'static [u8]),
}

impl Reaction {
    /// Sends an error.
    pub fn error(text: &str) -> Self {
        Self::Reply(Reply::Error(crate::ServerError::new(text)))
    }

    /// Sends numbers, as scripts answer.
    pub fn numbers(numbers: &[i64]) -> Self {
        Self::Reply(Reply::List(numbers.iter().copied().map(Reply::Integer).collect()))
    }
}

type React = dyn Fn(&Command) -> Reaction + Send + Sync;

/// A server that reacts to commands as it is told. `AUTH`, `SELECT` and `PING` are acknowledged, unless it says otherwise.
pub struct FaultyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    react: Mutex<Arc<React>>,
    commands: Mutex<Vec<Command>>,
    connections: AtomicUsize,
}

impl std::fmt::Debug for FaultyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FaultyServer {
    /// Starts a server on the current runtime.
    ///
    /// # Errors
    /// Fails if no port can be listened on.
    pub async fn start(react: impl Fn(&Command) -> Reaction + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { react: Mutex::new(Arc::new(react)), commands: Mutex::default(), connections: AtomicUsize::new(0) });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(socket, accepting.clone()));
            }
        });
        Ok(Self { address, shared })
    }

    /// Returns the address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address as a client names it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.address.ip().to_string().into(), port: self.address.port() }
    }

    /// Reacts otherwise from now on.
    pub fn react(&self, react: impl Fn(&Command) -> Reaction + Send + Sync + 'static) {
        *lock(&self.shared.react) = Arc::new(react);
    }

    /// Returns the commands so far.
    pub fn commands(&self) -> Vec<Command> {
        lock(&self.shared.commands).clone()
    }

    /// Returns how many commands of this name there were so far.
    pub fn count(&self, name: &str) -> usize {
        lock(&self.shared.commands).iter().filter(|command| command[0] == name.as_bytes()).count()
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut input = BytesMut::new();
    loop {
        while let Some(command) = take(&mut input) {
            lock(&shared.commands).push(command.clone());
            let react = lock(&shared.react).clone();
            let mut out = BytesMut::new();
            match react(&command) {
                Reaction::Reply(reply) => reply.encode(&mut out),
                Reaction::Bytes(bytes) => out.extend_from_slice(bytes),
                Reaction::Silence => {}
                Reaction::Close => return,
                Reaction::BytesThenClose(bytes) => {
                    let _ = socket.write_all(bytes).await;
                    return;
                }
            }
            if socket.write_all(&out).await.is_err() {
                return;
            }
        }
        if !matches!(socket.read_buf(&mut input).await, Ok(count) if count > 0) {
            return;
        }
    }
}

/// Takes a command from the front of the bytes received so far. They have the form of a reply that is a list of strings.
fn take(input: &mut BytesMut) -> Option<Command> {
    let mut rest = input.clone();
    let reply = Reply::decode(&mut rest).ok()??;
    input.advance(input.len() - rest.len());
    let part = |part: &Reply| if let Reply::Bulk(bytes) = part { bytes.to_vec() } else { Vec::new() };
    Some(reply.list().iter().map(part).collect())
}

/// Acknowledges what a connection begins with; `None` for every other command.
pub fn acknowledged(command: &Command) -> Option<Reaction> {
    matches!(&*command[0], b"AUTH" | b"SELECT" | b"PING").then(|| Reaction::Reply(Reply::Simple("OK".into())))
}

/// A login that tests change.
#[derive(Debug, Default)]
pub struct TestLogin(pub Mutex<Option<Login>>);

impl Logins for TestLogin {
    fn current(&self) -> Result<Option<Login>, Box<str>> {
        Ok(lock(&self.0).clone())
    }
}

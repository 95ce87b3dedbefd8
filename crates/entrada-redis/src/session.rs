//! One connection: TLS, login, and calls in a pipeline.

use std::{collections::VecDeque, fmt, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    Failure, Login, Settings,
    endpoint::Endpoint,
    resp::{Reply, command},
};

/// The time for a connection: TCP, TLS and login together.
const CONNECT: Duration = Duration::from_secs(1);
/// The maximum number of calls that wait for their replies.
const MOST_PENDING: usize = 16_384;
/// The number of bytes to be sent, above which no further call is taken.
const MOST_UNSENT: usize = 256 * 1024;
/// The time without any call after which the server is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(5);
/// The interval of looking after the connection.
const TICK: Duration = Duration::from_millis(250);
/// The shortest time without a reply after which the connection is given up. Replies to calls that were given up arrive until then.
const STALE: Duration = Duration::from_secs(1);

/// TLS towards the servers.
#[derive(Clone)]
pub struct Tls {
    /// The trusted authorities, and whatever else rustls wants to know.
    pub config: Arc<ClientConfig>,
    /// The name in the certificates of servers that are known by an address alone, as sentinels and clusters name them.
    pub name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A call for a connection.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) command: Bytes,
    /// True if `ASKING` goes right before it.
    pub(crate) asking: bool,
    pub(crate) answer: oneshot::Sender<Result<Reply, Failure>>,
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// An open connection.
pub(crate) struct Connection {
    socket: Box<dyn Socket>,
    input: BytesMut,
    login: Option<Login>,
}

/// A command that was sent, whose reply has not arrived.
enum Pending {
    Call(oneshot::Sender<Result<Reply, Failure>>),
    /// Asks whether the server is there.
    Ping,
    /// Announces the next command, whose slot is just moving here.
    Asking,
    /// Sends a login that has changed.
    Login,
}

impl Connection {
    /// Connects to a server and logs in.
    pub(crate) async fn open(at: &Endpoint, settings: &Settings, login: Option<Login>, database: u32) -> Result<Self, Failure> {
        let opening = Self::open_slowly(at, settings, login, database);
        let late = || Failure::Connect(format!("{at} did not answer within {} s", CONNECT.as_secs()).into());
        timeout(CONNECT, opening).await.unwrap_or_else(|_| Err(late()))
    }

    async fn open_slowly(at: &Endpoint, settings: &Settings, login: Option<Login>, database: u32) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Connect(format!("{at}: {error}").into());
        let tcp = TcpStream::connect((&*at.host, at.port)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let socket: Box<dyn Socket> = match &settings.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = match at.host.parse::<IpAddr>() {
                    Ok(_) => tls.name.clone(),
                    Err(_) => ServerName::try_from(String::from(&*at.host)).map_err(|error| failed(io::Error::other(error)))?,
                };
                Box::new(TlsConnector::from(tls.config.clone()).connect(name, tcp).await.map_err(failed)?)
            }
        };
        let mut connection = Self { socket, input: BytesMut::new(), login: None };
        if let Some(login) = login {
            connection.socket.write_all(&login.command()).await.map_err(failed)?;
            connection.acknowledged(at).await?;
            connection.login = Some(login);
        }
        if database > 0 {
            connection.say(&[b"SELECT", database.to_string().as_bytes()], at).await?;
        }
        // A server that starts, or is stopped, shows it here.
        connection.say(&[b"PING"], at).await?;
        Ok(connection)
    }

    /// Sends a command, and waits for a reply that is not an error.
    pub(crate) async fn say(&mut self, parts: &[&[u8]], at: &Endpoint) -> Result<Reply, Failure> {
        let failed = |error: io::Error| Failure::Connect(format!("{at}: {error}").into());
        self.socket.write_all(&command(parts)).await.map_err(failed)?;
        self.acknowledged(at).await
    }

    async fn acknowledged(&mut self, at: &Endpoint) -> Result<Reply, Failure> {
        let failed = |error: io::Error| Failure::Connect(format!("{at}: {error}").into());
        self.socket.flush().await.map_err(failed)?;
        loop {
            match Reply::decode(&mut self.input)? {
                Some(Reply::Error(error)) => return Err(error.into()),
                Some(reply) => return Ok(reply),
                None if self.socket.read_buf(&mut self.input).await.map_err(failed)? == 0 => {
                    return Err(failed(io::ErrorKind::UnexpectedEof.into()));
                }
                None => {}
            }
        }
    }

    /// Carries calls until the connection is lost, or nobody has calls any more. Returns the reason.
    pub(crate) async fn carry(self, jobs: &mut mpsc::Receiver<Job>, settings: &Settings, reset: &Notify) -> Box<str> {
        let Self { socket, input, login } = self;
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut carried = Carried {
            input,
            login,
            out: BytesMut::new(),
            pending: VecDeque::new(),
            since: Instant::now(),
            heard: Instant::now(),
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stale = STALE.max(settings.timeout * 4);
        let reason = loop {
            tokio::select! {
                job = jobs.recv(), if carried.has_room() => match job {
                    Some(job) => carried.take(job, jobs),
                    None => break "it is no longer used".into(),
                },
                written = write(&mut writer, &carried.out), if !carried.out.is_empty() => match written {
                    Ok(0) => break "it was closed".into(),
                    Ok(count) => carried.out.advance(count),
                    Err(error) => break error.to_string().into(),
                },
                read = reader.read_buf(&mut carried.input) => match read {
                    Ok(0) => break "the server closed it".into(),
                    Ok(_) => if let Err(reason) = carried.replies() { break reason },
                    Err(error) => break error.to_string().into(),
                },
                _ = ticks.tick() => if let Err(reason) = carried.look_after(settings, stale) { break reason },
                () = reset.notified() => break "the server is not the primary any more".into(),
            }
        };
        carried.fail(&reason);
        reason
    }
}

/// Writes what is to be sent, and flushes what TLS holds back.
async fn write(writer: &mut (impl AsyncWrite + Unpin), out: &[u8]) -> io::Result<usize> {
    let count = writer.write(out).await?;
    if count == out.len() {
        writer.flush().await?;
    }
    Ok(count)
}

/// The state of a connection that carries calls.
struct Carried {
    input: BytesMut,
    out: BytesMut,
    login: Option<Login>,
    pending: VecDeque<Pending>,
    /// The time since which a reply is owed.
    since: Instant,
    /// The time of the last reply.
    heard: Instant,
}

impl Carried {
    fn has_room(&self) -> bool {
        self.pending.len() < MOST_PENDING && self.out.len() < MOST_UNSENT
    }

    /// Takes a call, and those that wait behind it.
    fn take(&mut self, first: Job, jobs: &mut mpsc::Receiver<Job>) {
        let mut next = Some(first);
        while let Some(job) = next {
            // Whoever has stopped waiting is refused already: it must not be counted.
            if !job.answer.is_closed() {
                if job.asking {
                    self.out.extend_from_slice(&command(&[b"ASKING"]));
                    self.expect(Pending::Asking);
                }
                self.out.extend_from_slice(&job.command);
                self.expect(Pending::Call(job.answer));
            }
            next = if self.has_room() { jobs.try_recv().ok() } else { None };
        }
    }

    fn expect(&mut self, pending: Pending) {
        if self.pending.is_empty() {
            self.since = Instant::now();
        }
        self.pending.push_back(pending);
    }

    /// Hands replies to those who wait for them.
    fn replies(&mut self) -> Result<(), Box<str>> {
        while let Some(reply) = Reply::decode(&mut self.input).map_err(|error| error.to_string())? {
            self.heard = Instant::now();
            self.since = self.heard;
            match (self.pending.pop_front(), reply) {
                (Some(Pending::Call(answer)), reply) => _ = answer.send(Ok(reply)),
                (Some(Pending::Login), Reply::Error(error)) => {
                    tracing::warn!(%error, "the limit store refuses the renewed login; the connection is made anew");
                    return Err(format!("the renewed login was refused: {error}").into());
                }
                (Some(Pending::Ping | Pending::Asking | Pending::Login), _) => {}
                (None, Reply::Error(error)) => return Err(error.to_string().into()),
                (None, _) => return Err("a reply came that nobody asked for".into()),
            }
        }
        Ok(())
    }

    /// Gives up a silent server, asks an idle one whether it is there, and sends a login that has changed.
    fn look_after(&mut self, settings: &Settings, stale: Duration) -> Result<(), Box<str>> {
        if !self.pending.is_empty() && self.since.elapsed() > stale {
            return Err(format!("the server was silent for {:.1} s", self.since.elapsed().as_secs_f64()).into());
        }
        if self.pending.is_empty() && self.heard.elapsed() > IDLE {
            self.out.extend_from_slice(&command(&[b"PING"]));
            self.expect(Pending::Ping);
        }
        // While there is no new one the old one may still serve.
        if let Ok(Some(login)) = settings.logins.current()
            && !self.login.as_ref().is_some_and(|known| known.same_as(&login))
        {
            self.out.extend_from_slice(&login.command());
            self.login = Some(login);
            self.expect(Pending::Login);
        }
        Ok(())
    }

    fn fail(&mut self, reason: &str) {
        for pending in self.pending.drain(..) {
            if let Pending::Call(answer) = pending {
                // Whoever has stopped waiting misses nothing.
                let _ = answer.send(Err(Failure::Lost(reason.into())));
            }
        }
    }
}

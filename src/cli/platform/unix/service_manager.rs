//! The service manager, systemd: it is told the state of the process, and may hand over listening sockets.
//!
//! The protocols are those of `sd_notify(3)` and `sd_listen_fds(3)`.

use std::{env, time::Duration};

use crate::listener::InheritedSocket;

/// The manager that started the process, if there is one.
#[derive(Debug)]
pub(in crate::cli) struct ServiceManager {
    #[cfg(target_os = "linux")]
    socket: Option<std::os::unix::net::UnixDatagram>,
}

impl ServiceManager {
    /// Finds the manager by the variable `NOTIFY_SOCKET`.
    #[cfg(target_os = "linux")]
    pub(in crate::cli) fn find() -> Self {
        use std::os::{
            linux::net::SocketAddrExt as _,
            unix::net::{SocketAddr, UnixDatagram},
        };
        let connect = |name: String| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(&name)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            // A manager that does not read must not hold up the gateway.
            socket.set_nonblocking(true)?;
            std::io::Result::Ok(socket)
        };
        let socket = env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            let connected = connect(name);
            if let Err(error) = &connected {
                tracing::warn!(%error, "NOTIFY_SOCKET is set, and nobody is there to be told of the state");
            }
            connected.ok()
        });
        Self { socket }
    }

    #[cfg(not(target_os = "linux"))]
    pub(in crate::cli) const fn find() -> Self {
        Self {}
    }

    /// Tells it a state, as `READY=1`. What it does not take is lost: the gateway serves all the same.
    pub(in crate::cli) fn tell(&self, state: &str) {
        #[cfg(target_os = "linux")]
        if let Some(socket) = &self.socket {
            let _ = socket.send(state.as_bytes());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = state;
    }

    /// Tells it that the config is read anew; `Type=notify-reload` wants the time, too.
    pub(in crate::cli) fn tell_of_reload(&self) {
        #[cfg(target_os = "linux")]
        {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        }
    }

    /// Returns the time between signs of life that the manager wants: half of `WATCHDOG_USEC`, as its manual advises.
    pub(in crate::cli) fn watchdog() -> Option<Duration> {
        let is_ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let microseconds: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
        (is_ours && microseconds > 1_000).then(|| Duration::from_micros(microseconds / 2))
    }
}

/// Returns the sockets that the manager opened (`LISTEN_FDS`), with their names (`FileDescriptorName=`).
///
/// # Errors
/// Fails if a descriptor is no listening TCP socket.
pub(in crate::cli) fn activated_sockets() -> anyhow::Result<Vec<InheritedSocket>> {
    use anyhow::Context as _;
    // Meant for another process: a child that inherits the environment has not been given the sockets.
    if env::var("LISTEN_PID").map_or(true, |pid| pid != std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let what =
            || format!("descriptor {} of LISTEN_FDS is no listening TCP socket: write ListenStream= with an address", index + 3);
        let socket = handed.take_tcp_listener(index).with_context(what)?.with_context(what)?;
        anyhow::ensure!(rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false), what());
        // Not for children of this process.
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).with_context(what)?;
        sockets.push(InheritedSocket { name: names.next().unwrap_or_default().into(), socket });
    }
    Ok(sockets)
}

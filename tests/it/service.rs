//! Tests of the program as a service: health checks, the delay before a drain, the service manager, and a change of processes
//! without a refused connection.
#![cfg(target_os = "linux")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::LONGEST_WAIT;

/// A gateway in a process of its own.
struct Process {
    child: Child,
    /// The lines of its log.
    log: Receiver<Value>,
}

impl Process {
    /// Starts a command that becomes `entrada run`.
    fn start(mut command: Command) -> Self {
        let mut child = command.env_remove("ENTRADA_LOG").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, log) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()) {
                let _ = tell.send(line);
            }
        });
        Self { child, log }
    }

    /// Returns the next line of the log with this message.
    fn logged(&self, message: &str) -> Value {
        let end = Instant::now() + LONGEST_WAIT;
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line["message"] == message {
                return line;
            }
            seen.push(line);
        }
        panic!("never `{message}`: {seen:#?}");
    }

    /// Returns the address of the next listener that is logged with this message.
    fn address(&self, message: &str) -> SocketAddr {
        self.logged(message)["address"].as_str().unwrap().parse().unwrap()
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "{signal}");
    }

    fn has_ended(&mut self) -> bool {
        let end = Instant::now() + LONGEST_WAIT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::yield_now();
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with a config whose one route answers itself; `more` are further keys.
struct Folder(TempDir);

impl Folder {
    fn new(listener: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "listeners: [ {{ name: public, address: \"{listener}\" }} ]\nadmin: {{ address: \"127.0.0.1:0\" }}\naudit: {{ sinks: [] }}\n{more}\
             routes: [ {{ name: own, match: {{ path: /own }}, anonymous: true, respond: {{ status: 200, body: fine }} }} ]\n"
        );
        std::fs::write(folder.path().join("entrada.yaml"), config).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
        command.args(["run", "--workers", "2", "--config"]).arg(self.path("entrada.yaml"));
        command
    }
}

/// Asks on a connection of its own; `None` if that is refused or breaks.
fn get(address: SocketAddr, target: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
    connection.write_all(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

fn is_served(address: SocketAddr) -> bool {
    get(address, "/own").is_some_and(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"))
}

fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_entrada")).arg("health").args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn a_health_check_follows_readiness_and_a_drain_begins_with_its_announcement() {
    let folder = Folder::new("127.0.0.1:0", "drain-delay: 1h\n");
    let mut process = Process::start(folder.run());
    let admin = process.address("the admin listener is here");
    let public = process.address("listening");
    let url = format!("http://{admin}");

    assert_eq!(health(&[&url]), (Some(0), "ready\n".to_owned()));
    assert_eq!(health(&[&format!("{url}/healthz")]).0, Some(0));
    assert_eq!(health(&[&format!("{url}/elsewhere")]).0, Some(1));

    process.send("TERM");
    process.logged("not ready any more; connections are still accepted for the delay");
    let (code, told) = health(&[&url]);
    assert!(code == Some(1) && told.contains("answers 503") && told.contains("draining"), "{told}");
    assert_eq!(health(&[&format!("{url}/healthz")]).0, Some(0), "it lives");
    assert!(is_served(public), "balancers still send");

    process.send("TERM");
    assert!(process.has_ended(), "a second signal ends the delay");
    assert!(TcpStream::connect(public).is_err());
    let (code, told) = health(&[&url, "--timeout", "1"]);
    assert!(code == Some(1) && told.contains("does not answer"), "{told}");
    for wrong in ["https://127.0.0.1:9901", "127.0.0.1:9901", "file:///readyz"] {
        assert_eq!(health(&[wrong]).0, Some(2), "{wrong}");
    }
}

#[test]
fn the_service_manager_is_told_of_every_state_and_that_the_workers_work() {
    let folder = Folder::new("127.0.0.1:0", "");
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
    let until = |wanted: &str| {
        let mut seen = Vec::new();
        let mut told = [0; 512];
        loop {
            let length = manager.recv(&mut told).unwrap_or_else(|error| panic!("{error}: {seen:?}"));
            let state = String::from_utf8(told[..length].to_vec()).unwrap();
            if state.starts_with(wanted) {
                return state;
            }
            seen.push(state);
        }
    };
    let mut command = folder.run();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut process = Process::start(command);

    until("READY=1");
    assert!(is_served(process.address("listening")), "ready means that it serves");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    process.send("HUP");
    let reloading = until("RELOADING=1");
    assert!(reloading.lines().any(|line| line.strip_prefix("MONOTONIC_USEC=").is_some_and(|time| time.parse::<u64>().is_ok())));
    until("READY=1");
    process.send("TERM");
    until("STOPPING=1");
    assert!(process.has_ended());
}

/// Runs a command as a service manager does: with a socket as its third descriptor, named for it.
fn activated(folder: &Folder, socket: TcpListener, name: &str) -> Command {
    let mut command = Command::new("sh");
    let run = "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" run --workers 2 --config \"$1\"";
    command.args(["-c", run, env!("CARGO_BIN_EXE_entrada")]).arg(folder.path("entrada.yaml"));
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).stdin(Stdio::from(OwnedFd::from(socket)));
    command
}

#[test]
fn sockets_of_the_service_manager_are_served_by_address_or_by_name() {
    for (listener, name) in [("the socket's own", "any"), ("192.0.2.1:443", "public")] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listener = if listener == "192.0.2.1:443" { listener.to_owned() } else { address.to_string() };
        let folder = Folder::new(&listener, "");
        // Who connects before the gateway runs waits in the socket's queue.
        let waiting = std::thread::spawn(move || is_served(address));

        let process = Process::start(activated(&folder, socket, name));

        assert_eq!(process.address("listening"), address);
        assert!(waiting.join().unwrap() && is_served(address), "{name}");
    }
}

#[test]
fn a_socket_that_no_listener_takes_is_closed_and_told_of() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let folder = Folder::new("127.0.0.1:0", "");

    let process = Process::start(activated(&folder, socket, "partners"));

    let told = process.logged("no listener has the name or the address of an inherited socket; it was closed");
    assert_eq!(told["socket"], format!("partners ({address})"));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn probes_that_no_kubelet_can_ask_are_warned_of() {
    let warning = "the kubelet cannot reach the probes: write `health: { address: \"0.0.0.0:9902\" }`";
    for (more, warned) in [("", true), ("health: { address: \"0.0.0.0:0\" }\n", false)] {
        let folder = Folder::new("127.0.0.1:0", more);
        let mut command = folder.run();
        command.env("KUBERNETES_SERVICE_HOST", "192.0.2.1");
        let mut process = Process::start(command);
        process.address("listening");
        process.send("TERM");
        assert!(process.has_ended());
        assert_eq!(process.log.iter().any(|line| line["message"] == warning), warned, "{more}");
    }
}

fn successor(folder: &Folder, path: &Path) -> Process {
    let mut command = folder.run();
    command.arg("--take-over").arg(path);
    Process::start(command)
}

#[test]
fn a_successor_takes_over_without_a_refused_connection() {
    let folder = Folder::new("127.0.0.1:0", "");
    let path = folder.path("entrada.sock");
    let mut first = successor(&folder, &path);
    let admin = first.address("the admin listener is here");
    let address = first.address("listening");
    // Connections all the time, from two sides: none may be refused, and each is answered.
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut served = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    assert!(is_served(address), "after {served} connections");
                    served += 1;
                }
                served
            })
        })
        .collect();

    let mut second = successor(&folder, &path);
    assert_eq!(second.address("listening"), address);
    first.logged("a successor serves");
    assert!(first.has_ended());
    let third = successor(&folder, &path);
    assert_eq!((third.address("the admin listener is here"), third.address("listening")), (admin, address));
    assert!(second.has_ended());

    assert!(is_served(address));
    stop.store(true, Ordering::Relaxed);
    assert!(callers.into_iter().all(|caller| caller.join().unwrap() > 0));
    assert_eq!(health(&[&format!("http://{admin}")]).0, Some(0));
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let folder = Folder::new("127.0.0.1:0", "");
    let path = folder.path("entrada.sock");
    let mut first = successor(&folder, &path);
    let address = first.address("listening");
    let text = std::fs::read_to_string(folder.path("entrada.yaml")).unwrap();
    std::fs::write(
        folder.path("second.yaml"),
        text.replace("127.0.0.1:0\" } ]", "192.0.2.1:1\" }, { name: other, address: \"192.0.2.1:1\" } ]"),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
    command.arg("run").arg(folder.path("second.yaml")).arg("--take-over").arg(&path);

    let output = command.output().unwrap();

    assert_eq!(output.status.code(), Some(2), "{output:?}");
    first.logged("the successor failed; this gateway serves on");
    assert!(is_served(address));
    first.send("TERM");
    assert!(first.has_ended());
}

//! The process's own log: one event a line on standard error, and what it says of reloads and, at level debug, of requests.
#![cfg(unix)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use serde_json::Value;

use crate::support::LONGEST_WAIT;

struct Process {
    child: Child,
    events: mpsc::Receiver<String>,
    folder: tempfile::TempDir,
}

impl Process {
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("entrada.yaml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_entrada"))
            .args(["run", "--workers", "1"])
            .arg(folder.path().join("entrada.yaml"))
            .env_remove("ENTRADA_CONFIG")
            .env_remove("ENTRADA_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, events) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, events, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("entrada.yaml")
    }

    /// The events up to one that satisfies the condition. Each line must be one.
    fn until(&self, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let line = self.events.recv_timeout(LONGEST_WAIT).unwrap_or_else(|_| panic!("no such event: {seen:#?}"));
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("no event ({error}): {line}"));
            seen.push(event);
            if is_it(&seen[seen.len() - 1]) {
                return seen;
            }
        }
    }

    fn reload(&self, config: &str) -> Vec<Value> {
        std::fs::write(self.path(), config).unwrap();
        // The file is watched, too, from the moment on that the process has begun to.
        self.hang_up();
        self.until(reloaded)
    }

    /// Sends SIGHUP.
    fn hang_up(&self) {
        let sent = Command::new("kill").arg("-HUP").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BASE: &str = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\nadmin: { address: \"127.0.0.1:0\" }\n";
const ROUTE: &str = "  - { name: ping, match: { path: /ping }, anonymous: true, respond: { status: 204 } }\n";

fn reloaded(event: &Value) -> bool {
    event["message"] == "the new config is in force"
        || event["message"].as_str().is_some_and(|message| message.contains("the old one stays in force"))
}

fn started(event: &Value) -> bool {
    event["message"] == "the console is here"
}

#[test]
fn warnings_are_events_and_told_once() {
    let unused = "tenants: { spare: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee, required: false } }\n";
    let process = Process::start(&format!("{BASE}{unused}routes:\n{ROUTE}"));

    let events = process.until(started);

    let told: Vec<_> = events.iter().filter(|event| event["message"] == "`spare` is used nowhere").collect();
    assert_eq!(told.len(), 1, "{events:#?}");
    assert_eq!((&told[0]["level"], &told[0]["at"]), (&"WARN".into(), &"tenants.spare".into()));
    assert!(told[0]["position"].as_str().is_some_and(|position| position.ends_with("entrada.yaml:3:12")), "{}", told[0]);
    assert!(told[0]["cure"].is_string(), "{}", told[0]);
}

#[test]
fn faults_of_a_start_and_of_a_reload_are_events() {
    let mut failed = Process::start(&format!("{BASE}routes:\n{ROUTE}drain-timeout: soon\n"));
    let events =
        failed.until(|event| event["message"].as_str().is_some_and(|message| message.starts_with("the config cannot be used")));
    assert!(events.iter().any(|event| event["message"] == "`soon` is no duration" && event["level"] == "ERROR"), "{events:#?}");
    assert_eq!(failed.child.wait().unwrap().code(), Some(2));

    let process = Process::start(&format!("{BASE}routes:\n{ROUTE}"));
    process.until(started);
    let events = process.reload(&format!("{BASE}routes:\n{ROUTE}drain-timeout: soon\n"));
    assert!(events.iter().any(|event| event["message"] == "`soon` is no duration"), "{events:#?}");
}

#[test]
fn a_reload_says_what_changed() {
    let partner = |enabled: bool| {
        format!(
            "partners: {{ fabrikam: {{ enabled: {enabled}, addresses: [192.0.2.1], client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666] }} }}\n"
        )
    };
    let process = Process::start(&format!("{BASE}{}routes:\n{ROUTE}", partner(true)));
    process.until(started);

    let more = "  - { name: pong, match: { path: /pong }, anonymous: true, respond: { status: 204 } }\n";
    let events = process.reload(&format!("{BASE}{}routes:\n{}{more}", partner(false), ROUTE.replace("204", "200")));

    let changes = events[events.len() - 1]["changes"].as_str().unwrap_or_default();
    assert_eq!(changes, "partners: `fabrikam` switched off; routes: `ping` changed, `pong` added");
}

#[test]
fn a_reload_says_what_caused_it_and_which_config_is_in_force() {
    let process = Process::start(&format!("{BASE}routes:\n{ROUTE}"));
    let events = process.until(started);
    let first = events.iter().find(|event| event["message"] == "the config is in force").expect("the first config is told");

    process.hang_up();
    let events = process.until(reloaded);
    let again = &events[events.len() - 1];
    assert_eq!((&again["cause"], &again["changes"]), (&"signal SIGHUP".into(), &"none in the config itself".into()), "{again}");
    assert_eq!((&again["generation"], &again["digest"]), (&1.into(), &first["digest"]), "{again}");

    std::fs::write(process.path(), format!("{BASE}routes:\n{}", ROUTE.replace("204", "200"))).unwrap();
    let events = process.until(reloaded);
    let other = &events[events.len() - 1];
    assert!(other["cause"].as_str().is_some_and(|cause| cause.ends_with("entrada.yaml")), "{other}");
    assert_eq!((&other["generation"], &other["changes"]), (&2.into(), &"routes: `ping` changed".into()), "{other}");
    assert_ne!(other["digest"], first["digest"]);

    std::fs::write(process.path(), format!("{BASE}routes:\n{ROUTE}drain-timeout: soon\n")).unwrap();
    let events = process.until(reloaded);
    let refused = &events[events.len() - 1];
    assert!(
        refused["level"] == "ERROR" && refused["cause"].as_str().is_some_and(|cause| cause.ends_with("entrada.yaml")),
        "{refused}"
    );
}

#[test]
fn debug_says_what_happened_to_a_request() {
    let filter = "inbound: [ { check-header: { name: X-Door } } ], ";
    let process = Process::start(&format!(
        "{BASE}telemetry: {{ log: debug }}\nroutes:\n{}",
        ROUTE.replace("respond:", &format!("{filter}respond:"))
    ));
    let events = process.until(|event| event["message"] == "listening");
    let address = events[events.len() - 1]["address"].as_str().unwrap().to_owned();

    let mut caller = TcpStream::connect(address).unwrap();
    caller.write_all(b"GET /ping HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();

    let events = process.until(|event| event["message"] == "a request has ended");
    let ended = &events[events.len() - 1];
    assert_eq!(
        (&ended["level"], &ended["code"], &ended["status"]),
        (&"DEBUG".into(), &"header-check-failed".into(), &401.into()),
        "{ended}"
    );
    assert!(
        events.iter().any(|event| event["message"] == "a step of the decision" && event["at"] == "inbound[0].check-header"),
        "{events:#?}"
    );
}

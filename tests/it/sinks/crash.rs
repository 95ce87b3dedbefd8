//! A gateway that is killed in the middle of its work: what was appended arrives, and the next start says what may be missing.
#![cfg(unix)]

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Instant,
};

use entrada::dev_tenant::{DevTenant, Fault, Options};
use serde_json::Value;
use tempfile::tempdir;

use super::{ROUTES, azure_monitor, identity, members, records, until};
use crate::support::LONGEST_WAIT;

const STREAM: &str = "Custom-Entrada_CL";

/// `entrada run` as a process of its own.
struct Process {
    child: Child,
    log: Receiver<Value>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_entrada"))
            .args(["run", "--workers", "1", "--config"])
            .arg(config)
            .env_remove("ENTRADA_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, log) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            lines.into_iter().try_for_each(|line| tell.send(line))
        });
        let nowhere = ([127, 0, 0, 1], 0).into();
        let mut process = Self { child, log, address: nowhere, admin: nowhere };
        process.address = process.address_of("listening");
        process.admin = process.address_of("the console is here");
        process
    }

    fn address_of(&self, message: &str) -> SocketAddr {
        self.logged(|line| line["message"] == message)["address"].as_str().unwrap().parse().unwrap()
    }

    /// Returns the next line of the log that satisfies the condition.
    fn logged(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LONGEST_WAIT;
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if is_it(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("no such line: {seen:#?}");
    }

    fn get(address: SocketAddr, target: &str) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
        connection
            .write_all(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends requests, and returns their ids.
    fn call(&self, count: usize) -> Vec<String> {
        let id = |answer: String| {
            let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("x-request-id: ")).unwrap().to_owned();
            line[14..].trim().to_owned()
        };
        (0..count).map(|number| id(Self::get(self.address, &format!("/own/{number}")))).collect()
    }

    /// Lets all that was recorded reach the sinks.
    fn flush(&self) {
        assert!(Self::get(self.admin, "/api/decisions").contains("200 OK"));
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status().unwrap();
        assert!(sent.success());
        // Its log ends when it does.
        let end = Instant::now() + LONGEST_WAIT;
        while self.log.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
        assert!(Instant::now() < end, "the process goes on");
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(folder: &Path, config: &str) -> std::path::PathBuf {
    let path = folder.join("entrada.yaml");
    let head = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\nadmin: { address: \"127.0.0.1:0\" }\n";
    std::fs::write(&path, format!("{head}{config}")).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_in_the_middle_everything_that_was_appended_arrives_and_the_rest_is_said() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempdir().unwrap());
    let sinks =
        format!("audit:\n  sinks:\n{}    - file: {{ path: r.jsonl }}\n  spool: {{ directory: spool }}\n", azure_monitor(&tenant));
    let config = write(folder.path(), &format!("{}{ROUTES}{sinks}", identity(&tenant)));
    // The receiver is away, so that everything waits in the spool.
    tenant.fail(Fault::on("/streams/").status(503));

    let (appended, more) = tokio::task::spawn_blocking({
        let config = config.clone();
        move || {
            let process = Process::start(&config);
            let appended = process.call(200);
            process.flush();
            let more = process.call(50);
            process.kill();
            (appended, more)
        }
    })
    .await
    .unwrap();
    tenant.recover();
    let process = tokio::task::spawn_blocking(move || {
        let process = Process::start(&config);
        process.call(10);
        process
    })
    .await
    .unwrap();
    let rows = until(async || tenant.rows(STREAM), |rows| rows.iter().filter(|row| row["Path"].is_string()).count() >= 210).await;
    tokio::task::spawn_blocking(move || process.end()).await.unwrap();

    let arrived: BTreeSet<_> = members(&rows, "RequestId").into_iter().collect();
    let missing: Vec<_> = appended.iter().filter(|id| !arrived.contains(*id)).collect();
    assert!(missing.is_empty(), "{} of {} are missing", missing.len(), appended.len());
    let all: BTreeSet<_> = appended.iter().chain(&more).collect();
    assert!(arrived.iter().filter(|id| all.contains(id)).count() >= 200);
    let rows = tenant.rows(STREAM);
    assert!(rows.iter().any(|row| row["Event"] == "unclean-end"), "the next start says that some may be missing");
    let records = records(&folder.path().join("r.jsonl"));
    let written: BTreeSet<_> = members(&records, "request_id").into_iter().collect();
    assert!(appended.iter().all(|id| written.contains(id)), "the file has them, too");
    assert_eq!(records.iter().filter(|record| record["event"] == "unclean-end").count(), 1);
}

#[test]
fn an_orderly_end_is_none_to_speak_of() {
    let folder = tempdir().unwrap();
    let config = write(folder.path(), &format!("{ROUTES}audit: {{ sinks: [ {{ file: {{ path: r.jsonl }} }} ] }}\n"));

    let process = Process::start(&config);
    process.call(3);
    process.end();
    let process = Process::start(&config);
    process.call(3);
    process.end();

    let records = records(&folder.path().join("r.jsonl"));
    assert_eq!(records.len(), 6, "{records:#?}");
    assert!(!folder.path().join(".r.jsonl.open").exists());
}

#[test]
fn a_chain_goes_on_after_kill_9_and_nothing_is_found_in_it() {
    let folder = tempdir().unwrap();
    let key = folder.path().join("seal.key");
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let chain = "audit:\n  sinks: [ { file: { path: r.jsonl, rotate: { size: 64KiB } } } ]\n  chain: { seal: { every: 1s, key: seal.key } }\n";
    let config = write(folder.path(), &format!("{ROUTES}{chain}"));

    for round in 0..3 {
        let process = Process::start(&config);
        if round > 0 {
            // What is written of the crash before is in the chain.
            process.flush();
        }
        process.call(120);
        if round < 2 { process.kill() } else { process.end() }
    }
    let files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    let verified = Command::new(env!("CARGO_BIN_EXE_entrada")).args(["audit", "verify"]).args(&files).output().unwrap();

    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.success() && text.contains("nothing was found"), "{text}");
    assert!(files.len() >= 2, "{files:?}");
}

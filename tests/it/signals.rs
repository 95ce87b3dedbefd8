//! Tests of signals. Each test runs the program as a separate process.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::LONGEST_WAIT;

/// `entrada run`, with a route that answers itself and a file of records.
struct Process {
    child: Child,
    /// The lines of its log.
    log: Receiver<Value>,
    address: SocketAddr,
    folder: TempDir,
}

impl Process {
    fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts it with this text as the candidate beside its config.
    fn start_with(candidate: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\nadmin: { address: \"127.0.0.1:0\" }\n\
            audit: { sinks: [ { file: { path: records.jsonl } } ] }\n\
            routes: [ { name: own, match: { path: /own }, anonymous: true, respond: { status: 200, body: fine } } ]\n";
        std::fs::write(folder.path().join("entrada.yaml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_entrada"))
            .args(["run", "--workers", "2", "--config"])
            .arg(folder.path().join("entrada.yaml"))
            .args(candidate.map(|text| {
                let file = folder.path().join("candidate.yaml");
                std::fs::write(&file, text).unwrap();
                format!("--candidate={}", file.display())
            }))
            .env_remove("ENTRADA_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, log) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Reports of a config are for people, and no concern of these tests.
                if let Ok(line) = serde_json::from_str(&line) {
                    let _ = tell.send(line);
                }
            }
        });
        let mut process = Self { child, log, address: ([127, 0, 0, 1], 0).into(), folder };
        let listening = process.logged(|line| line["message"] == "listening");
        process.address = listening["address"].as_str().unwrap().parse().unwrap();
        process
    }

    /// Returns the next line of the log that satisfies the condition.
    fn logged(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LONGEST_WAIT;
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if is_it(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("no such line, and the process is {:?}: {seen:#?}", self.child.try_wait());
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.child.id())]).status().unwrap();
        assert!(sent.success(), "{signal}");
    }

    fn get(&self, target: &str) -> String {
        let mut connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
        connection
            .write_all(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Waits for the end of the process.
    fn ended(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + LONGEST_WAIT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::yield_now();
        }
        panic!("the process goes on");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the targets of the records in a file, sorted: each worker's are in order, and there are several workers.
fn targets(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut targets: Vec<_> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned()).collect();
    targets.sort_unstable();
    targets
}

#[test]
fn no_undocumented_signal_ends_the_process() {
    let mut process = Process::start();

    let named = ["USR2", "ALRM", "VTALRM", "PROF", "XCPU", "XFSZ", "IO"];
    let numbered: Vec<_> = [16, 30, 34, 35, 50, 63, 64].map(|number: i32| number.to_string()).into();
    for signal in named.iter().copied().chain(numbered.iter().map(String::as_str)) {
        process.send(signal);
        process.logged(|line| line["signal"].is_u64());
        assert!(process.get("/own").ends_with("fine"), "{signal}");
    }
    for signal in ["PIPE", "URG", "WINCH", "CHLD", "CONT"] {
        process.send(signal);
        assert!(process.get("/own").ends_with("fine"), "{signal}");
    }
    assert_eq!(process.child.try_wait().unwrap(), None);
    process.send("TERM");
    assert!(process.ended().success());
}

#[test]
fn usr1_opens_moved_files_again_and_loses_no_record() {
    let mut process = Process::start();
    let rounds = 5;

    for round in 0..rounds {
        process.get(&format!("/own/{round}/before"));
        std::fs::rename(process.file("records.jsonl"), process.file(&format!("records.{round}"))).unwrap();
        process.get(&format!("/own/{round}/moved"));
        process.send("USR1");
        process.logged(|line| line["message"] == "the files of the audit log were opened again");
        assert!(process.file("records.jsonl").exists(), "the file is there at once, and not only with the next record");
        process.get(&format!("/own/{round}/after"));
    }
    process.send("TERM");
    assert!(process.ended().success());

    // What came before the signal is in the file that was moved away, what came after it in the new one.
    let mut expected = Vec::new();
    for round in 0..rounds {
        expected.extend([format!("/own/{round}/before"), format!("/own/{round}/moved")]);
        expected.sort_unstable();
        assert_eq!(targets(&process.file(&format!("records.{round}"))), expected, "round {round}");
        expected = vec![format!("/own/{round}/after")];
    }
    assert_eq!(targets(&process.file("records.jsonl")), expected);
}

#[test]
fn files_that_cannot_be_opened_again_stay_as_they_are() {
    let mut process = Process::start();
    let moved = process.file("moved");
    std::fs::rename(process.file("records.jsonl"), &moved).unwrap();
    // A folder of that name is no file to write to.
    std::fs::create_dir(process.file("records.jsonl")).unwrap();

    process.send("USR1");
    process.logged(|line| line["message"] == "the files of the audit log stay as they were");
    process.get("/own/later");
    process.send("TERM");
    assert!(process.ended().success());

    assert_eq!(targets(&moved), ["/own/later"]);
}

#[test]
fn hup_reloads_and_quit_drains_as_term_and_int_do() {
    for signal in ["TERM", "INT", "QUIT"] {
        let mut process = Process::start();
        process.send("HUP");
        process.logged(|line| line["message"] == "the new config is in force");
        assert!(process.get("/own").ends_with("fine"));

        process.send(signal);
        process.logged(|line| line["message"] == "draining");
        assert!(process.ended().success(), "{signal}");
    }
}

/// A config that refuses what the active one answers.
const STRICTER: &str = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\naudit: { sinks: [] }\n\
    routes: [ { name: own, match: { path: /own }, anonymous: true, respond: { status: 200, body: fine }, inbound: [ check-header: { name: X-Key } ] } ]\n";

#[test]
fn a_candidate_judges_and_both_configs_are_read_again() {
    let mut process = Process::start_with(Some(STRICTER));
    let judges = |line: &Value| line["message"] == "the candidate judges beside the config in force";
    let first = process.logged(judges)["digest"].clone();

    assert!(process.get("/own/1").ends_with("fine"), "it refuses nobody");
    process.send("HUP");
    process.logged(|line| line["message"] == "the new config is in force");
    assert_eq!(process.logged(judges)["digest"], first);

    // A faulty one is said, and concerns nobody.
    std::fs::write(process.file("candidate.yaml"), STRICTER.replace("X-Key", "'X Key'")).unwrap();
    process.send("HUP");
    let told = process.logged(|line| line["message"] == "the candidate cannot be used; no candidate judges");
    assert_eq!(told["level"], "WARN", "{told}");
    assert!(process.get("/own/2").ends_with("fine"));

    // A faulty active config stays out, and the candidate goes on beside the one that stays.
    let config = std::fs::read_to_string(process.file("entrada.yaml")).unwrap();
    std::fs::write(process.file("entrada.yaml"), format!("{config}nonsense: true\n")).unwrap();
    std::fs::write(process.file("candidate.yaml"), STRICTER).unwrap();
    process.send("HUP");
    process.logged(|line| line["message"] == "the new config cannot be used; the old one stays in force");
    process.logged(judges);
    assert!(process.get("/own/3").ends_with("fine"));

    process.send("TERM");
    assert!(process.ended().success());
    let records = std::fs::read_to_string(process.file("records.jsonl")).unwrap();
    let verdict = |path: &str| {
        let record =
            records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|record| record["path"] == path);
        record.unwrap()["candidate"]["code"].clone()
    };
    assert_eq!(
        [verdict("/own/1"), verdict("/own/2"), verdict("/own/3")],
        ["header-check-failed".into(), Value::Null, "header-check-failed".into()]
    );
}

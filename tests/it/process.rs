//! Tests of the traces that the process leaves on the machine: no core file, and protected records.
#![cfg(unix)]

use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader, Read},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use crate::support::LONGEST_WAIT;

/// A running command, and its output lines.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts the command after this line of a shell.
    fn start(before: &str, arguments: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before}; exec \"$0\" {arguments}"), env!("CARGO_BIN_EXE_entrada")])
            .env_remove("ENTRADA_CONFIG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        gather(child.stdout.take().unwrap(), sender.clone());
        gather(child.stderr.take().unwrap(), sender);
        Self { child, lines }
    }

    /// Returns the next line that contains this.
    fn line(&self, wanted: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(LONGEST_WAIT) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {wanted}: {seen:#?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(from: impl Read + Send + 'static, into: mpsc::Sender<String>) {
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| into.send(line)));
}

fn write_config(folder: &Path, sinks: &str) -> String {
    let file = folder.join("entrada.yaml");
    let text = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
admin: {{ address: \"127.0.0.1:0\" }}
routes: [ {{ name: ping, match: {{ exact-path: /ping }}, anonymous: true, respond: {{ status: 204 }} }} ]
audit: {{ sinks: [ {sinks} ] }}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[cfg(target_os = "linux")]
#[test]
fn no_command_leaves_a_core_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "");

    for (arguments, sign) in [
        (format!("run --workers 1 --config {config}"), "\"listening\""),
        ("dev-tenant --address 127.0.0.1:0 --format json".to_owned(), "base_url"),
    ] {
        let running = Running::start("ulimit -S -c unlimited 2>/dev/null", &arguments);
        running.line(sign);

        let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.child.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{arguments}: {core}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn nobody_else_reads_the_files_of_audit_records() {
    let folder = tempfile::tempdir().unwrap();
    let [made, wide, narrow] = ["made.jsonl", "wide.jsonl", "narrow.jsonl"].map(|name| folder.path().join(name));
    for (path, mode) in [(&wide, 0o666), (&narrow, 0o600)] {
        std::fs::write(path, "{}\n").unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let sinks = "file: { path: made.jsonl }, file: { path: wide.jsonl }, file: { path: narrow.jsonl }, file: { path: /dev/null }";
    let sinks = sinks.replace("file: {", "{ file: {").replace("},", "} },") + " }";
    let config = write_config(folder.path(), &sinks);

    let running = Running::start("umask 000", &format!("run --workers 1 --config {config}"));
    let told = running.line("its mode was narrowed");
    running.line("\"listening\"");

    assert!(told.contains("wide.jsonl") && told.contains("0666") && told.contains("0640"), "{told}");
    assert_eq!([mode(&made), mode(&wide), mode(&narrow)], [0o640, 0o640, 0o600]);
    assert_eq!(std::fs::read_to_string(&wide).unwrap(), "{}\n", "nothing of it is lost");
    assert_ne!(mode(Path::new("/dev/null")) & 0o006, 0, "a device stays as it is");

    // A file that was moved away is made anew, as narrow.
    std::fs::rename(&made, folder.path().join("made.jsonl.1")).unwrap();
    running.signal("HUP");
    running.line("the new config is in force");
    assert_eq!(mode(&made), 0o640);
}

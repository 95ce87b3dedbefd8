//! Tests that `run` can start with what `check` passes: the files that it writes, and the addresses that it listens on.
#![cfg(unix)]

use std::process::{Command, Output};

fn entrada(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_entrada")).args(arguments).env_remove("ENTRADA_CONFIG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const ROUTE: &str = "routes: [ { name: ping, match: { path: /ping }, anonymous: true, respond: { status: 204 } } ]\n";

struct Config(tempfile::TempDir);

impl Config {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("entrada.yaml"), text).unwrap();
        Self(folder)
    }

    fn path(&self) -> String {
        self.0.path().join("entrada.yaml").display().to_string()
    }
}

#[test]
fn what_run_cannot_start_with_check_does_not_pass() {
    let listener = "listeners: [ { name: public, address: \"127.0.0.1:18080\" } ]\n";
    for (config, expected) in [
        (format!("{listener}audit: {{ sinks: [ {{ file: {{ path: nowhere/audit.jsonl }} }} ] }}\n"), "mkdir -p"),
        (format!("{listener}audit: {{ sinks: [ {{ file: {{ path: . }} }} ] }}\n"), "is a folder"),
        (format!("{listener}admin: {{ address: \"127.0.0.1:18080\" }}\n"), "`admin` has the address 127.0.0.1:18080"),
        (format!("{listener}admin: {{ address: \"0.0.0.0:18080\" }}\n"), "`admin` has the address 0.0.0.0:18080"),
        (format!("{listener}health: {{ address: \"localhost:18080\" }}\n"), "`health` has the address 127.0.0.1:18080"),
        (format!("{listener}admin: {{ address: \"localhost\" }}\n"), "`localhost` is no address to listen on"),
        (
            "listeners: [ { name: a, address: \"127.0.0.1:18080\" }, { name: b, address: \"0.0.0.0:18080\" } ]\n".to_owned(),
            "the listener `b` has the address 0.0.0.0:18080, and the listener `a` has 127.0.0.1:18080",
        ),
        (
            "listeners: [ { name: a, address: [ \"0.0.0.0:18080\", \"[::]:18080\" ] } ]\n".to_owned(),
            "the listener `a` has the address [::]:18080",
        ),
        (
            "listeners: [ { name: a, address: \"127.0.0.1:9901\" } ]\n".to_owned(),
            "`admin`, which nothing is written for, has 127.0.0.1:9901",
        ),
    ] {
        let config = Config::new(&format!("{config}{ROUTE}"));

        let check = entrada(&["check", &config.path()]);
        let run = entrada(&["run", &config.path()]);

        assert!(check.status.code() == Some(1) && text(&check.stdout).contains(expected), "{expected}\n{}", text(&check.stdout));
        assert!(run.status.code() == Some(2) && text(&run.stderr).contains(expected), "{expected}\n{}", text(&run.stderr));
        assert!(text(&check.stdout).contains("= help: "), "{}", text(&check.stdout));
    }
}

#[test]
fn a_folder_that_nobody_may_write_to_is_told() {
    use std::os::unix::fs::PermissionsExt as _;

    let config = Config::new(&format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\naudit: {{ sinks: [ {{ file: {{ path: shut/audit.jsonl }} }} ] }}\n{ROUTE}"
    ));
    let folder = config.0.path().join("shut");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root writes wherever it likes.
    let anyway = std::fs::write(folder.join("probe"), "").is_ok();

    let check = entrada(&["check", &config.path()]);

    assert_eq!(check.status.code(), Some(i32::from(!anyway)), "{}", text(&check.stdout));
    assert!(!folder.join("audit.jsonl").exists(), "a check makes no file");
}

#[test]
fn every_command_takes_the_config_in_both_ways() {
    let config = Config::new(&format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\n{ROUTE}drain-timeuot: 5s\n"));
    let path = config.path();

    for command in
        [&["check"][..], &["run"], &["doctor"], &["token", "acquire", "--credential", "a", "--scope", "api://orders/.default"]]
    {
        for arguments in [vec![path.as_str()], vec!["--config", &path]] {
            let output = entrada(&[command, &arguments].concat());
            let told = text(&output.stdout) + &text(&output.stderr);
            assert!(told.contains("did you mean `drain-timeout`?"), "{command:?} {arguments:?}: {told}");
        }
        let both = entrada(&[command, &[&path, "--config", &path]].concat());
        assert_eq!(both.status.code(), Some(2), "{command:?}");
        let by_variable =
            Command::new(env!("CARGO_BIN_EXE_entrada")).args(command).env("ENTRADA_CONFIG", &path).output().unwrap();
        let told = text(&by_variable.stdout) + &text(&by_variable.stderr);
        assert!(told.contains("did you mean `drain-timeout`?"), "{command:?}: {told}");
    }
    let absent = text(&entrada(&["check", "nowhere.yaml"]).stdout);
    assert!(absent.contains("name the file that holds the config behind the command"), "{absent}");
}

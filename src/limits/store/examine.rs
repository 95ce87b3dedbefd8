//! An examination of the store: whether it answers, whether the user may run the scripts, and whether counts can be lost.

use super::Store;
use crate::{
    credentials::{Outcome, Step},
    redis::{Client, Failure, FailureKind, Reply},
};

/// The commands that scripts run, each as it is tried on a test key.
const COMMANDS: &[&[&str]] = &[
    &["TIME"],
    &["SET", "KEY", "1", "PX", "1000"],
    &["GET", "KEY"],
    &["ZADD", "SET", "1", "a"],
    &["ZCARD", "SET"],
    &["ZREM", "SET", "b"],
    &["ZREMRANGEBYSCORE", "SET", "-inf", "0"],
    &["PEXPIRE", "SET", "1000"],
    &["PTTL", "SET"],
];

impl Store {
    /// Examines the store link by link. It must have been started.
    pub(crate) async fn examine(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(client) = self.client.get() else {
            return vec![Step::new("connection", Outcome::Failed, "the store's thread cannot be started")];
        };
        let name = self.name(b"doctor", self.identity.config.prefix.as_bytes());
        let keys = [self.key_of(&name, 'x'), self.key_of(&name, 'c')];
        match connected(client, &keys[0]).await {
            Ok(()) => {
                steps.push(Step::new("connection", Outcome::Ok, format!("connected to {}", client.server_of(keys[0].as_bytes()))))
            }
            Err(failure) => {
                steps.push(Step::new("connection", Outcome::Failed, failure.to_string()).cure(cure(&failure)));
                return steps;
            }
        }
        let missing = missing(client, &keys).await;
        if !missing.is_empty() {
            let cure = format!("ACL SETUSER … {}", missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" "));
            steps.push(Step::new("commands", Outcome::Failed, format!("the user may not run {}", missing.join(", "))).cure(cure));
        }
        steps.push(self.scripts_run(client, &name).await);
        steps.extend(eviction(client, &keys[0]).await);
        steps
    }

    async fn scripts_run(&self, client: &Client, name: &super::Name) -> Step {
        let runs: [(&str, &crate::redis::Script, char, &[&[u8]]); 3] = [
            ("rate", &self.scripts.rate, 'r', &[b"1000000", b"0", b"0", b"1", b"1", b"0", b"0"]),
            ("quota", &self.scripts.quota, 'q', &[b"1000", b"0", b"0", b"1000000", b"1", b"0"]),
            ("permit", &self.scripts.permit, 'c', &[b"take", b"doctor", b"1000", b"1000000"]),
        ];
        for (what, script, kind, arguments) in runs {
            if let Err(failure) = client.run(script, self.key_of(name, kind).as_bytes(), arguments).await {
                let found = format!("the script `{what}` does not run: {failure}");
                return Step::new("scripts", Outcome::Failed, found).cure(cure(&failure));
            }
        }
        Step::new("scripts", Outcome::Ok, "rate, quota and permit run")
    }
}

/// Waits for a connection, for as long as one may take to be made.
async fn connected(client: &Client, key: &str) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
    loop {
        let result = client.command(key.as_bytes(), &[b"PING"]).await;
        match result {
            Ok(_) => return Ok(()),
            Err(failure) if tokio::time::Instant::now() >= deadline => return Err(failure),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// Returns the commands that the user lacks. Those within scripts are not always named in errors, so each is tried by itself.
async fn missing(client: &Client, [key, set]: &[String; 2]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for command in COMMANDS {
        let parts = command.iter().map(|part| match *part {
            "KEY" => key.as_bytes(),
            "SET" if part != &command[0] => set.as_bytes(),
            part => part.as_bytes(),
        });
        let result = client.command(key.as_bytes(), &parts.collect::<Vec<_>>()).await;
        if result.is_err_and(|failure| failure.kind() == FailureKind::Permission) {
            missing.push(command[0]);
        }
    }
    missing
}

/// Looks at what the server does when its memory is full. Users without the right to ask are common.
async fn eviction(client: &Client, key: &str) -> Option<Step> {
    let reply = client.command(key.as_bytes(), &[b"CONFIG", b"GET", b"maxmemory-policy"]).await;
    let policy = match &reply {
        Ok(reply) => reply.list().get(1).and_then(Reply::text)?,
        Err(_) => {
            let found = "the user may not read `maxmemory-policy`; it must be `noeviction`";
            return Some(Step::new("eviction", Outcome::Skipped, found));
        }
    };
    Some(match policy {
        "noeviction" => Step::new("eviction", Outcome::Ok, "counts are not evicted"),
        policy => Step::new(
            "eviction",
            Outcome::Warning,
            format!("`maxmemory-policy` is `{policy}`: whoever makes many keys resets the limits of others"),
        )
        .cure("CONFIG SET maxmemory-policy noeviction, on a server or a database of its own"),
    })
}

fn cure(failure: &Failure) -> &'static str {
    match failure.kind() {
        FailureKind::Authentication => "compare `username` and `password` with the server's users",
        FailureKind::Permission => "give the user the commands and the keys of docs/limits.md",
        FailureKind::Memory => "give the server more memory, or remove what else it holds",
        FailureKind::ReadOnly => "name the primary, or use `mode: sentinel`",
        FailureKind::Cluster => "write `mode: cluster`, and see whether every slot is served",
        FailureKind::Timeout => "raise `timeout`, or look for what makes the server slow",
        FailureKind::Connection | FailureKind::Overload | FailureKind::Busy | FailureKind::Other => {
            "see whether the server runs, and whether address, port and TLS are right"
        }
    }
}

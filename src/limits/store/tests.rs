//! Settings of the store, and counters against a stand-in for it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use super::*;
use crate::{
    base::clock::Clock,
    credentials::Credentials,
    redis::testing::{Command, FaultyServer, Reaction, acknowledged},
    settings::{Faults, Place, Secrets},
};

const SECRET: &str = "a-secret-of-the-test-itself";
const KEY_SECRET: &str = "key-secret: \"{{keys}}\"";

fn built(yaml: &str) -> (Option<Arc<Store>>, Vec<String>) {
    after(yaml, None)
}

fn after(yaml: &str, previous: Option<&Arc<Store>>) -> (Option<Arc<Store>>, Vec<String>) {
    let secrets = Secrets::known([("keys", SECRET), ("short", "hunter2"), ("password", "hunter2")]);
    let (credentials, clock, mut faults) = (Credentials::default(), Clock::manual(0), Faults::default());
    let with = StoreContext { base: Path::new(""), secrets: &secrets, credentials: &credentials, clock: &clock, previous };
    let store = Store::build(&crate::settings::testing::part(yaml), with, &Place::root().key("redis"), &mut faults);
    (store, faults.iter().map(|fault| format!("{:?} {}: {}", fault.severity, fault.place, fault.message)).collect())
}

fn store_at(server: &FaultyServer, more: &str) -> Arc<Store> {
    let yaml = format!("{{ url: \"redis://{}\", timeout: 500ms, {KEY_SECRET}{more} }}", server.address());
    let (store, faults) = built(&yaml);
    let store = store.unwrap_or_else(|| panic!("{faults:?}"));
    store.start();
    store
}

async fn server(react: impl Fn(&Command) -> Reaction + Send + Sync + 'static) -> FaultyServer {
    FaultyServer::start(move |command| acknowledged(command).unwrap_or_else(|| react(command))).await.unwrap()
}

fn counter(store: &Arc<Store>, gives_back: bool) -> Arc<SharedCounter> {
    let store = (store.clone(), OnStoreFailureConfig::Refuse);
    Arc::new(SharedCounter::new(store, SharedKind::Rate, "route\0orders", (100, Duration::from_secs(60)), gives_back))
}

#[test]
fn settings_are_taken_or_refused_with_their_place() {
    for (yaml, fault) in [
        ("{ url: \"redis://127.0.0.1\", KEYS }", ""),
        ("{ url: \"redis://[::1]:6379/3\", KEYS, username: entrada, password: \"{{password}}\" }", ""),
        ("{ url: \"redis://10.0.0.7\", KEYS, insecure: true }", ""),
        ("{ url: \"redis://127.0.0.1\", KEYS, mode: cluster, nodes: [\"127.0.0.1:7001\", \"[::1]:7002\"] }", ""),
        ("{ url: \"redis://127.0.0.1\", KEYS, mode: sentinel, name: limits, nodes: [\"127.0.0.1:26380\"] }", ""),
        (
            "{ url: \"redis://127.0.0.1\", key-secret: \"a-secret-in-the-config\" }",
            "Warning redis.key-secret: the secret for the store's keys stands",
        ),
        ("{ url: \"redis://127.0.0.1\", KEYS, password: hunter2 }", "Warning redis.password: the store's password stands"),
        (
            "{ url: \"redis://10.0.0.7\", KEYS, insecure: true, password: \"{{password}}\" }",
            "Warning redis.url: the password is sent to the store without TLS",
        ),
        ("{ url: \"redis://127.0.0.1\" }", "Error redis: `key-secret` is missing"),
        ("{ url: \"redis://127.0.0.1\", key-secret: \"{{short}}\" }", "Error redis.key-secret: the secret is too short"),
        (
            "{ url: \"redis://127.0.0.1\", key-secret: { file: nowhere } }",
            "Error redis.key-secret.file: `nowhere` cannot be read",
        ),
        ("{ url: \"redis://10.0.0.7\", KEYS }", "Error redis.url: `redis://` shows the password"),
        (
            "{ url: \"redis://127.0.0.1\", KEYS, mode: cluster, nodes: [\"10.0.0.7:1\"] }",
            "Error redis.url: `redis://` shows the password",
        ),
        ("{ url: \"http://127.0.0.1\", KEYS }", "Error redis.url: the store's address is not"),
        ("{ url: \"redis://me:hunter2@127.0.0.1\", KEYS }", "Error redis.url: the URL holds a user or a password"),
        ("{ url: \"redis://127.0.0.1/orders\", KEYS }", "Error redis.url: the URL has no host, or its path"),
        ("{ url: \"rediss://127.0.0.1#insecure\", KEYS }", "Error redis.url: the URL has a query or a fragment"),
        ("{ url: \"redis://127.0.0.1/1\", KEYS, mode: cluster }", "Error redis.url: a cluster has no other database"),
        ("{ url: \"redis://127.0.0.1\", KEYS, mode: sentinel }", "Error redis: `mode: sentinel` needs the name"),
        ("{ url: \"redis://127.0.0.1\", KEYS, name: limits }", "Error redis.name: only sentinels know"),
        ("{ url: \"redis://127.0.0.1\", KEYS, nodes: [\"127.0.0.1:1\"] }", "Error redis.nodes: a single server has no further"),
        ("{ url: \"redis://127.0.0.1\", KEYS, mode: cluster, nodes: [limits] }", "Error redis.nodes[0]: the node is not"),
        ("{ url: \"redis://127.0.0.1\", KEYS, sentinel-username: x }", "Error redis.sentinel-username: no sentinel is asked"),
        ("{ url: \"redis://127.0.0.1\", KEYS, username: x }", "Error redis.username: a user without a password"),
        ("{ url: \"redis://127.0.0.1\", KEYS, credential: pod }", "Error redis.credential: there is no credential `pod`"),
        (
            "{ url: \"redis://127.0.0.1\", KEYS, credential: pod, password: \"{{password}}\" }",
            "Error redis: both `password` and `credential`",
        ),
        ("{ url: \"redis://127.0.0.1\", KEYS, password: \"{{nothing}}\" }", "Error redis.password: no secret is named"),
        ("{ url: \"redis://127.0.0.1\", KEYS, timeout: 4ms }", "Error redis.timeout: the time is too short"),
        ("{ url: \"redis://127.0.0.1\", KEYS, timeout: 6s }", "Error redis.timeout: the time is too short"),
        ("{ url: \"redis://127.0.0.1\", KEYS, permit-timeout: 9s }", "Error redis.permit-timeout: the time is too short"),
        ("{ url: \"redis://127.0.0.1\", KEYS, lease: 26 }", "Error redis.lease: few gateways could hold"),
        ("{ url: \"redis://127.0.0.1\", KEYS, prefix: \"a{b\" }", "Error redis.prefix: the prefix is empty"),
        ("{ url: \"rediss://127.0.0.1\", KEYS, tls: { ca: nowhere } }", "Error redis.tls.ca: `nowhere` cannot be used"),
        ("{ url: \"rediss://127.0.0.1\", KEYS, tls: { server-name: \"a b\" } }", "Error redis.tls.server-name: `a b` is not"),
    ] {
        let (store, faults) = built(&yaml.replace("KEYS", KEY_SECRET));

        assert_eq!(store.is_some(), !fault.starts_with("Error"), "{yaml}: {faults:?}");
        match fault {
            "" => assert!(faults.is_empty(), "{yaml}: {faults:?}"),
            fault => assert!(faults.len() == 1 && faults[0].starts_with(fault), "{yaml}: {faults:?}"),
        }
        assert!(!faults.join("").contains("hunter2") && !format!("{store:?}").contains(SECRET));
    }
}

#[test]
fn a_store_goes_on_as_long_as_its_settings_are_the_same() {
    let same = format!("{{ url: \"redis://127.0.0.1\", {KEY_SECRET}, password: \"{{{{password}}}}\" }}");
    let store = built(&same).0.unwrap();

    assert!(Arc::ptr_eq(&store, &after(&same, Some(&store)).0.unwrap()));
    for other in
        [same.replace("127.0.0.1", "127.0.0.2"), same.replace("{{password}}", "{{keys}}"), same.replace("{{keys}}", "{{keys}}!")]
    {
        assert!(!Arc::ptr_eq(&store, &after(&other, Some(&store)).0.unwrap()), "{other}");
    }
}

#[test]
fn keys_tell_nothing_of_callers_and_nothing_of_them_is_shared() {
    let yaml = format!("{{ url: \"redis://127.0.0.1\", {KEY_SECRET} }}");
    let (store, twin) = (built(&yaml).0.unwrap(), built(&yaml).0.unwrap());
    let key = |store: &Store, policy: &str, caller: &str| store.key_of(&store.name(policy.as_bytes(), caller.as_bytes()), 'r');

    let first = key(&store, "a\u{0}100\u{0}60000", "nia@contoso.example");
    assert_eq!(first, key(&twin, "a\u{0}100\u{0}60000", "nia@contoso.example"), "every gateway has the same");
    assert!(first.starts_with("entrada:1:{") && first.ends_with("}:r") && first.len() == "entrada:1:{}:r".len() + 22, "{first}");
    let others = [
        key(&store, "b\u{0}100\u{0}60000", "nia@contoso.example"),
        key(&store, "a\u{0}101\u{0}60000", "nia@contoso.example"),
        key(&store, "a\u{0}100\u{0}60000", "nia@contoso.examplf"),
        key(&store, "a\u{0}100\u{0}60000\u{0}nia", "@contoso.example"),
        key(&store, "a", "}:x{\r\nFLUSHALL"),
        key(&built(&yaml.replace("{{keys}}", "{{keys}}!")).0.unwrap(), "a\u{0}100\u{0}60000", "nia@contoso.example"),
    ];
    for other in &others {
        assert_ne!(&first, other);
        assert!(!other.contains("nia") && !other.contains('\r') && other.matches('{').count() == 1);
    }
}

#[tokio::test]
async fn what_is_taken_ahead_is_used_without_a_question_and_what_is_left_is_given_back() {
    // Grants all that is asked for; the remaining amount sinks.
    let left = Arc::new(AtomicI64::new(100));
    let server = server(move |command| {
        let number = |index: usize| std::str::from_utf8(&command[index]).unwrap().parse::<i64>().unwrap();
        if command.len() < 8 {
            return Reaction::numbers(&[1, 0, 0, 0, 1]);
        }
        let taken = number(8) + number(9);
        let remaining = left.fetch_sub(taken - number(6), Ordering::Relaxed) - taken + number(6);
        Reaction::numbers(&[1, number(9), remaining, 60_000_000, 1_700_000_000_000_000])
    })
    .await;
    let store = store_at(&server, ", lease: 10");
    let counter = counter(&store, false);

    let mut remaining = Vec::new();
    for _ in 0..12 {
        remaining.push(counter.take("nia", 1).await.unwrap().0.remaining);
    }

    assert_eq!(server.count("EVALSHA"), 2, "the first call, the second with ten more, and ten of these");
    assert_eq!(remaining, (88..100).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reached_limit_is_not_asked_for_again_at_once() {
    let server = server(|_| Reaction::numbers(&[0, 0, 0, 50_000_000, 1])).await;
    let store = store_at(&server, "");
    for (gives_back, questions) in [(false, 1), (true, 100)] {
        let counter = counter(&store, gives_back);
        let before = server.count("EVALSHA");
        let began = Instant::now();
        for _ in 0..100 {
            let (taken, _) = counter.take("nia", 1).await.unwrap();
            assert!(!taken.admitted && taken.wait > Duration::from_secs(40));
        }
        if began.elapsed() < Duration::from_millis(900) {
            assert_eq!(server.count("EVALSHA") - before, questions);
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_is_left_alone_and_found_again_by_itself() {
    let server = server(|_| Reaction::error("OOM command not allowed when used memory > 'maxmemory'.")).await;
    let store = store_at(&server, "");
    let counter = counter(&store, false);
    for _ in 0..200 {
        let refusal = Refusal::from(counter.take("nia", 1).await.unwrap_err());
        assert_eq!((refusal.reason, refusal.retry_after.is_some()), (Reason::LimitStoreUnavailable, true));
    }
    assert!(server.count("EVALSHA") < 20, "{} questions", server.count("EVALSHA"));
    assert_eq!(serde_json::to_value(store.status()).unwrap()["state"], "down");

    server.react(|command| acknowledged(command).unwrap_or(Reaction::numbers(&[1, 0, 99, 1, 1])));

    // Nobody asks for a limit: it is the store itself that looks.
    let deadline = Instant::now() + Duration::from_secs(30);
    while serde_json::to_value(store.status()).unwrap()["state"] != "up" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(counter.take("nia", 1).await.unwrap().0.admitted);
}

#[tokio::test]
async fn permits_are_given_back_also_those_that_came_too_late() {
    let server = server(|command| match &*command[4] {
        b"take" => Reaction::Silence,
        _ => Reaction::numbers(&[1, 0]),
    })
    .await;
    let store = store_at(&server, "");
    let permits = SharedPermits::new((store.clone(), OnStoreFailureConfig::Refuse), "route\0orders", 2);

    permits.begin("nia").await.unwrap_err();
    server.react(|command| acknowledged(command).unwrap_or(Reaction::numbers(&[1, 0])));
    let permit = loop {
        if let Ok(permit) = permits.begin("nia").await {
            break permit.expect("there is room");
        }
    };
    assert_eq!(store.permits.held(), 1);
    drop(permit);

    let of = |what: &str| -> Vec<Vec<u8>> {
        server
            .commands()
            .into_iter()
            .filter(|command| command.get(4).is_some_and(|it| it == what.as_bytes()))
            .map(|command| command[5].clone())
            .collect()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while of("take").iter().any(|taken| !of("give").contains(taken)) {
        assert!(Instant::now() < deadline, "{:?} {:?}", of("take"), of("give"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.permits.held(), 0);
}

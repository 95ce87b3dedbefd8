//! Tests of limits that are counted in a store: by a gateway, against a stand-in for the server that answers as it is told.
//! Real servers are tested in `tests/shared-limits`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entrada::{
    Clock, Reason, ServerOptions,
    dev_tenant::{DevTenant, Options},
};
use entrada_redis::testing::{Command, FaultyServer, Reaction, acknowledged};
use http::StatusCode;

use crate::support::{Answer, Gateway, RawConnection, TestBed, Upstream, eventually};

const RATE: &str =
    "rate-limit-by-key: { calls: 2, renewal-period: 1h, counter-key: \"@(request.headers['x-key'])\", store: redis }";
const QUOTA: &str = "quota-by-key: { calls: 2, renewal-period: 1h, counter-key: \"@(request.headers['x-key'])\", store: redis }";
const PERMIT: &str = "limit-concurrency: { max-count: 2, key: \"@(request.headers['x-key'])\", store: redis }";

/// The answer of the scripts for rates and quotas: this many calls are left.
fn left(calls: i64) -> Reaction {
    Reaction::numbers(&[1, 0, calls, 60_000_000, 1_800_000_000_000_000])
}

fn reached() -> Reaction {
    Reaction::numbers(&[0, 0, 0, 1_500_000, 1_800_000_000_000_000])
}

async fn store(react: impl Fn(&Command) -> Reaction + Send + Sync + 'static) -> FaultyServer {
    FaultyServer::start(answering(react)).await.unwrap()
}

fn answering(
    react: impl Fn(&Command) -> Reaction + Send + Sync + 'static,
) -> impl Fn(&Command) -> Reaction + Send + Sync + 'static {
    move |command| acknowledged(command).unwrap_or_else(|| react(command))
}

/// Returns the settings of the store. The time is more than a loaded machine takes for an answer.
fn redis(store: &FaultyServer, more: &str) -> String {
    format!("redis: {{ url: \"redis://{}\", key-secret: not-a-secret-of-anybody, timeout: 400ms{more} }}", store.address())
}

fn route(policy: &str) -> String {
    format!("- {{ name: orders, match: {{ path: /orders }}, anonymous: true, upstream: backend, inbound: [ {policy} ] }}")
}

async fn bed(store: &FaultyServer, policy: &str, more: &str) -> TestBed {
    let house = TestBed::with(&route(policy), &redis(store, more)).await;
    connected(&house.gateway).await;
    house
}

/// Waits until the gateway is connected to the store.
async fn connected(gateway: &Gateway) {
    eventually("the store is connected", async || gateway.metrics().await.contains("entrada_limit_store_up 1\n")).await;
}

async fn call(gateway: &Gateway, key: &str) -> Answer {
    gateway.get("/orders").header("x-key", key).send().await
}

/// Returns the keys that scripts were run on, in order.
fn keys(store: &FaultyServer) -> Vec<String> {
    let keys = store.commands().into_iter().filter(|command| command[0] == b"EVALSHA");
    keys.map(|command| String::from_utf8(command[3].clone()).unwrap()).collect()
}

#[tokio::test]
async fn the_store_decides_and_its_answer_is_announced() {
    for (policy, reason) in [(RATE, Reason::RateLimitExceeded), (QUOTA, Reason::QuotaExceeded)] {
        let store = store(|_| left(1)).await;
        let house = bed(&store, policy, "").await;

        let admitted = call(&house.gateway, "nia@contoso.example").await;
        assert_eq!(admitted.status, StatusCode::OK);
        let announced = admitted.headers["ratelimit"].to_str().unwrap();
        assert!(announced.ends_with("\";r=1;t=60"), "{announced}");

        store.react(answering(|_| reached()));
        let refused = call(&house.gateway, "nia@contoso.example").await;
        refused.assert_refused(reason);
        assert_eq!(refused.headers["retry-after"], "2", "rounded up");
        assert_eq!(house.upstream.requests(), 1);
        assert!(keys(&store).iter().all(|key| !key.contains("nia") && key.starts_with("entrada:1:{")), "{:?}", keys(&store));
    }
}

#[tokio::test]
async fn gateways_with_one_config_ask_for_the_same_key_and_policies_for_others() {
    let store = store(|command| if command[3].ends_with(b"c") { Reaction::numbers(&[1, 0]) } else { left(1) }).await;
    let policies = [RATE, RATE, QUOTA, PERMIT].join(", ");
    let (first, second) = (bed(&store, &policies, "").await, bed(&store, &policies, "").await);

    assert_eq!(call(&first.gateway, "a").await.status, StatusCode::OK);
    let asked = keys(&store);
    assert_eq!(call(&second.gateway, "a").await.status, StatusCode::OK);

    let four = |keys: &[String]| keys.iter().filter(|key| !key.ends_with('c')).cloned().collect::<Vec<_>>();
    assert_eq!(four(&keys(&store)), [four(&asked), four(&asked)].concat(), "the same of each");
    let mut distinct = asked.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() >= 4, "two policies never share a key: {asked:?}");
    let before = keys(&store).len();
    call(&first.gateway, "b").await;
    // The permits of calls before may be given back only now.
    assert!(four(&keys(&store)[before..]).iter().all(|key| !asked.contains(key)), "nor two callers");
}

#[tokio::test]
async fn a_store_that_fails_has_the_stated_outcome_in_time() {
    for fault in [
        Reaction::Silence,
        Reaction::Close,
        Reaction::Bytes(b"HTTP/1.1 200 OK\r\n\r\n"),
        Reaction::BytesThenClose(b"*5\r\n:1\r\n"),
        Reaction::numbers(&[1]),
        Reaction::error("READONLY You can't write against a read only replica."),
        Reaction::error("OOM command not allowed when used memory > 'maxmemory'."),
        Reaction::error("NOPERM this user has no permissions to run the 'evalsha' command"),
        Reaction::error("NOSCRIPT No matching script."),
    ] {
        for policy in [RATE, QUOTA, PERMIT] {
            for (local, admitted) in [(false, 0), (true, 2)] {
                let store = store({
                    let fault = fault.clone();
                    move |_| fault.clone()
                })
                .await;
                let policy = if local {
                    policy.replace("store: redis", "store: redis, on-store-failure: local")
                } else {
                    policy.to_owned()
                };
                let house = TestBed::with(&route(&policy), &redis(&store, "")).await;
                let mut passed = 0;

                for _ in 0..8 {
                    let answer = call(&house.gateway, "a").await;
                    if answer.status == StatusCode::OK {
                        passed += 1;
                    } else if !local {
                        answer.assert_refused(Reason::LimitStoreUnavailable);
                        assert!(answer.headers.contains_key("retry-after") && !answer.headers.contains_key("ratelimit"));
                    }
                }

                // Five failures open the breaker; from then on nobody asks at all.
                let asked = store.commands().iter().filter(|command| command[0] == b"EVALSHA").count();
                assert!(asked <= 5, "{fault:?}: {asked}");
                let expected = if policy.starts_with("limit-concurrency") { admitted * 4 } else { admitted };
                assert_eq!((passed, house.upstream.requests()), (expected, expected), "{fault:?} {policy}");
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_is_back_is_used_by_itself_and_metrics_tell_of_both() {
    let store = store(|_| Reaction::error("OOM command not allowed")).await;
    let house = TestBed::with(&route(RATE), &redis(&store, "")).await;
    for _ in 0..8 {
        call(&house.gateway, "a").await.assert_refused(Reason::LimitStoreUnavailable);
    }
    let metrics = house.gateway.metrics().await;
    for line in [
        "entrada_limit_store_up 0\n",
        "entrada_limit_store_failures_total{kind=\"memory\"} 5\n",
        "entrada_limit_store_requests_total{outcome=\"not-asked\"} 3\n",
        "entrada_limit_store_breaker_state{state=\"closed\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let record = house.gateway.record(|record| record["code"] == "limit-store-unavailable").await;
    assert_eq!((&record["status"], &record["policy"]), (&503.into(), &"inbound[0].rate-limit-by-key".into()), "{record}");

    store.react(answering(|_| left(1)));
    connected(&house.gateway).await;

    assert_eq!(call(&house.gateway, "a").await.status, StatusCode::OK);
    assert!(house.gateway.metrics().await.contains("entrada_limit_store_breaker_state{state=\"closed\"} 1\n"));
}

#[tokio::test]
async fn permits_are_held_as_long_as_the_call_and_then_given_back() {
    let taken = Arc::new(AtomicUsize::new(0));
    let store = store({
        let taken = taken.clone();
        move |command| match &*command[4] {
            b"take" if taken.load(Ordering::SeqCst) >= 2 => Reaction::numbers(&[0, 2]),
            b"take" => Reaction::numbers(&[1, taken.fetch_add(1, Ordering::SeqCst) as i64]),
            b"give" => Reaction::numbers(&[1, taken.fetch_sub(1, Ordering::SeqCst) as i64]),
            _ => Reaction::numbers(&[1, 0]),
        }
    })
    .await;
    let house = bed(&store, PERMIT, "").await;
    // Requests whose bodies do not end.
    let hold = async || {
        let mut caller = RawConnection::open(house.gateway.address()).await;
        caller.send(b"POST /orders HTTP/1.1\r\nhost: a\r\nx-key: a\r\ncontent-length: 5\r\n\r\nab").await;
        caller
    };
    let (first, _second) = (hold().await, hold().await);
    eventually("both hold a permit", async || taken.load(Ordering::SeqCst) == 2).await;

    call(&house.gateway, "a").await.assert_refused(Reason::ConcurrencyLimitExceeded);
    drop(first);
    eventually("the one that left has given it back", async || taken.load(Ordering::SeqCst) == 1).await;
    assert_eq!(call(&house.gateway, "a").await.status, StatusCode::OK);
    eventually("and so has the one that was answered", async || taken.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn what_the_answer_decides_is_settled_in_the_store() {
    let store = store(|_| left(1)).await;
    let condition = "increment-condition: \"@(response.status >= 500)\", counter-key: a, renewal-period: 1h, store: redis";
    let policies = format!(
        "rate-limit-by-key: {{ calls: 9, {condition} }}, quota-by-key: {{ calls: 9, {condition} }}, quota-by-key: {{ bandwidth: 1MiB, counter-key: a, renewal-period: 1h, store: redis }}"
    );
    let house = bed(&store, &policies, "").await;

    assert_eq!(call(&house.gateway, "a").await.status, StatusCode::OK);

    let given_back = || {
        let commands = store.commands();
        commands.iter().filter(|command| command.len() == 7 && command[6] == b"1").count()
    };
    let counted =
        || store.commands().iter().any(|command| command.get(7).is_some_and(|it| it == b"count") && command[8] == b"16");
    eventually("both calls are given back, and the bytes of the answer counted", async || given_back() == 2 && counted()).await;
}

#[tokio::test]
async fn partners_are_counted_in_the_store_too() {
    let store = store(|_| left(4)).await;
    let key = "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let more = format!(
        "{}\npartners: {{ fabrikam: {{ api-keys: [ {{ {key} }} ], addresses: [127.0.0.1], rate-limit: {{ calls: 5, renewal-period: 60s }}, quota: {{ calls: 5, renewal-period: 30d, on-store-failure: local }} }} }}",
        redis(&store, ", default-store: true"),
    );
    let house = TestBed::with(&route("validate-api-key: {}").replace("anonymous: true, ", ""), &more).await;
    connected(&house.gateway).await;
    let call = || house.gateway.get("/orders").header("ocp-apim-subscription-key", "test").send();

    let admitted = call().await;
    assert_eq!(admitted.status, StatusCode::OK);
    assert_eq!(admitted.headers.get_all("ratelimit").iter().count(), 2);
    assert_eq!(keys(&store).iter().map(|key| key.chars().last().unwrap()).collect::<String>(), "rq");
    let status = reqwest::get(format!("http://{}/api/status", house.gateway.admin_address())).await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status.text().await.unwrap()).unwrap();
    assert_eq!(status["partners"][0]["rate_limit"]["remaining"], 4);
    assert_eq!(status["limit_store"]["state"], "up");
    assert_eq!(status["limit_store"]["connections"], 1);

    store.react(answering(|_| reached()));
    call().await.assert_refused(Reason::RateLimitExceeded);
}

#[tokio::test]
async fn a_reload_keeps_the_connection_and_another_store_is_connected_to_before() {
    let (old, new) = (store(|_| left(1)).await, store(|_| left(1)).await);
    let mut house = bed(&old, RATE, "").await;
    let config = |store: &FaultyServer, more: &str| {
        crate::support::config(&house.tenant, &house.upstream, &route(RATE), &redis(store, more))
    };
    let (same, other) = (config(&old, ""), config(&new, ""));
    for _ in 0..100 {
        house.gateway.reload(&same).await;
    }
    assert_eq!(call(&house.gateway, "a").await.status, StatusCode::OK);
    assert_eq!(old.connections(), 1);

    house.gateway.reload(&other).await;
    connected(&house.gateway).await;
    assert_eq!(call(&house.gateway, "a").await.status, StatusCode::OK);
    assert_eq!((keys(&old).len(), keys(&new).len()), (1, 1));
}

#[tokio::test]
async fn a_managed_store_is_logged_in_to_with_tokens_that_are_renewed_on_the_open_connection() {
    let store = store(|_| left(1)).await;
    let clock = Clock::manual(1_800_000_000);
    let tenant = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
    let client = "00001111-aaaa-2222-bbbb-3333cccc4444";
    tenant.update_app(client, |app| app.secret("hunter2-of-the-test"));
    let more = format!(
        "{}\nnamed-values: {{ word: {{ value: hunter2-of-the-test, secret: true }} }}\ncredentials: {{ pod: {{ tenant: contoso, client-id: {client}, client-secret: \"{{{{word}}}}\" }} }}",
        redis(&store, ", credential: pod"),
    );
    let upstream = Upstream::start().await;
    let config = crate::support::config(&tenant, &upstream, &route(RATE), &more);
    let gateway =
        Gateway::start_with(&config, ServerOptions { workers: 1, clock: clock.clone(), ..ServerOptions::default() }).await;
    connected(&gateway).await;

    let logins = || store.commands().into_iter().filter(|command| command[0] == b"AUTH").collect::<Vec<_>>();
    let claims = |token: &[u8]| -> serde_json::Value {
        let payload = std::str::from_utf8(token).unwrap().split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    };
    let first = claims(&logins()[0][2]);
    assert_eq!(first["aud"], "https://redis.azure.com");
    assert_eq!(first["oid"].as_str().unwrap().as_bytes(), logins()[0][1], "the user is the identity's object id");

    // Before the token ends, three minutes and more.
    let end = first["exp"].as_u64().unwrap();
    clock.advance(Duration::from_secs(end - 200 - clock.unix_seconds()));
    eventually("the renewed token is sent", async || logins().len() >= 2).await;
    let second = claims(&logins()[1][2]);
    assert!(second["exp"].as_u64() > Some(end));
    assert_eq!((store.connections(), call(&gateway, "a").await.status), (1, StatusCode::OK));
}

#[tokio::test]
async fn the_doctor_names_what_is_missing() {
    let lacks_time = |command: &Command| match &*command[0] {
        b"TIME" | b"EVALSHA" => Reaction::error("NOPERM User entrada has no permissions to run the 'time' command"),
        b"CONFIG" => Reaction::Reply(entrada_redis::Reply::List(
            ["maxmemory-policy", "allkeys-lru"].map(|part| entrada_redis::Reply::Bulk(part.as_bytes().into())).into(),
        )),
        _ => Reaction::Reply(entrada_redis::Reply::Integer(1)),
    };
    let store = store(lacks_time).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    std::fs::write(&file, redis(&store, "")).unwrap();
    let examine = move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_entrada")).arg("doctor").arg("--config").arg(&file).output().unwrap()
    };

    let (output, examine) = tokio::task::spawn_blocking(move || (examine(), examine)).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["the user may not run TIME", "+TIME", "allkeys-lru", "Shared limits would not be counted."] {
        assert!(text.contains(part), "{part}: {text}");
    }

    store.react(answering(move |command| match &*command[0] {
        b"EVALSHA" if command.len() == 8 && command[4] == b"take" => Reaction::numbers(&[1, 0]),
        b"EVALSHA" => left(1),
        b"TIME" => Reaction::numbers(&[1, 1]),
        command => lacks_time(&vec![command.to_vec()]),
    }));
    let output = tokio::task::spawn_blocking(examine).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("Shared limits are counted."), "{text}");
}

#[tokio::test]
async fn what_cannot_be_counted_in_a_store_is_a_fault_of_the_config() {
    let house = TestBed::with_orders().await;
    let config = |policy: &str, more: &str| crate::support::config(&house.tenant, &house.upstream, &route(policy), more);
    let local = RATE.replace("store: redis", "store: local, on-store-failure: local");
    let secret = "redis: { url: \"redis://127.0.0.1:1\" }";
    let unread = "redis: { url: \"redis://127.0.0.1:1\", key-secret: { file: keys/nowhere } }";
    for (config, fault) in [
        (config(RATE, ""), "the config names no store"),
        (config(&local, ""), "there is no store that could fail"),
        (config(RATE, secret), "`key-secret` is missing"),
        // The name of the file is no secret.
        (config(RATE, unread), "`keys/nowhere` cannot be read"),
    ] {
        let report = Gateway::refusal(&config);
        assert!(report.contains(fault), "{report}");
        assert!(report.contains("\n1 error, "), "one fault, told once: {report}");
    }
}

#[tokio::test]
async fn offline_nothing_is_asked() {
    let store = store(|_| panic!("nobody asks")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    let tests = "tests: [ { name: third, request: { url: \"http://a/orders\", headers: { x-key: a } }, times: 2, expect: { status: 200 }, then: [ { expect: { code: rate-limit-exceeded } } ] } ]";
    let config = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\nupstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n{}\n{}\n{tests}\n",
        route(RATE),
        redis(&store, ""),
    );
    std::fs::write(&file, config).unwrap();

    let output = std::process::Command::new(env!("CARGO_BIN_EXE_entrada")).arg("test").arg(&file).output().unwrap();

    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(store.connections(), 0);
}

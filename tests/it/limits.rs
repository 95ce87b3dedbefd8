//! Tests of limits by any key: their owners, conditions on the response, and time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use entrada::{
    Clock, Reason, ServerOptions,
    dev_tenant::{DevTenant, Options},
};
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};

use crate::support::{Gateway, RawConnection, TestBed, Upstream, config, eventually};

const DAY: Duration = Duration::from_hours(24);

/// Returns open routes with these policies, each given as its path and its list.
fn routes(lists: &[(&str, &str)]) -> String {
    let route = |(name, list): &(&str, &str)| {
        format!("- {{ name: {name}, match: {{ path: /{name} }}, anonymous: true, upstream: backend, inbound: [ {list} ] }}")
    };
    lists.iter().map(route).collect::<Vec<_>>().join("\n")
}

/// Returns how many of this many calls are admitted.
async fn admitted(gateway: &Gateway, path: &str, key: &str, calls: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..calls {
        admitted += usize::from(gateway.get(path).header("x-key", key).send().await.status.is_success());
    }
    admitted
}

const RATE: &str = "rate-limit-by-key: { calls: 3, renewal-period: 1h, counter-key: \"@(request.headers['x-key'])\" }";
const QUOTA: &str = "quota-by-key: { calls: 3, renewal-period: 30d, counter-key: \"@(request.headers['x-key'])\" }";

#[tokio::test]
async fn counts_belong_to_their_policy_unless_it_has_a_name() {
    for policy in [RATE, QUOTA] {
        let named = policy.replace("{ calls", "{ name: shared, calls");
        let lists = [
            ("a", policy),
            ("b", policy),
            ("twice", &*format!("{policy}, {}", policy.replace("calls: 3", "calls: 2"))),
            ("c", &*named),
            ("d", &*named),
        ];
        let bed = TestBed::with(&routes(&lists), "").await;

        assert_eq!(admitted(&bed.gateway, "/a", "k", 5).await, 3, "{policy}");
        assert_eq!(admitted(&bed.gateway, "/b", "k", 5).await, 3, "another route counts by itself: {policy}");
        assert_eq!(admitted(&bed.gateway, "/twice", "k", 5).await, 2, "two on one route do: {policy}");
        assert_eq!(admitted(&bed.gateway, "/c", "k", 2).await, 2, "{policy}");
        assert_eq!(admitted(&bed.gateway, "/d", "k", 5).await, 1, "what has one name counts together: {policy}");
    }
}

#[tokio::test]
async fn what_is_written_once_counts_once_whatever_routes_run_it() {
    let more = format!("inbound: [ {} ]\nfragments: {{ few: [ {RATE} ] }}", RATE.replace("calls: 3", "calls: 7"));
    let few = "include-fragment: few";
    let bed = TestBed::with(&routes(&[("a", few), ("b", few), ("c", RATE)]), &more).await;

    assert_eq!(admitted(&bed.gateway, "/a", "k", 4).await, 3);
    assert_eq!(admitted(&bed.gateway, "/b", "k", 1).await, 0, "the fragment's three calls are used up");
    assert_eq!(admitted(&bed.gateway, "/c", "k", 3).await, 2, "five calls had passed the global list before");
    assert_eq!(admitted(&bed.gateway, "/c", "other", 3).await, 3);
}

#[tokio::test]
async fn a_caller_of_one_route_takes_no_permits_of_another() {
    let permit = "limit-concurrency: { max-count: 1, key: \"@(request.headers['x-key'])\" }";
    let named = permit.replace("{ max", "{ name: shared, max");
    let routes = routes(&[("open", permit), ("guarded", permit), ("one", &named), ("other", &named)]);
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let url = format!("http://{}", backend.local_addr().unwrap());
    let gateway = Gateway::start(&config(&tenant, &upstream, &routes, "").replace(&upstream.url(), &url)).await;
    // A backend that begins every answer and ends none.
    let begun = Arc::new(Semaphore::new(0));
    tokio::spawn({
        let begun = begun.clone();
        async move {
            while let Ok((mut stream, _)) = backend.accept().await {
                let begun = begun.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    assert!(stream.read(&mut buffer).await.unwrap() > 0);
                    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await.unwrap();
                    begun.add_permits(1);
                    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
                });
            }
        }
    });
    let hold = async |path: &str| {
        let mut caller = RawConnection::open(gateway.address()).await;
        caller.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-key: victim\r\n\r\n").as_bytes()).await;
        begun.acquire().await.unwrap().forget();
        caller
    };

    let _stranger = hold("/open").await;
    gateway.get("/open").header("x-key", "victim").send().await.assert_refused(Reason::ConcurrencyLimitExceeded);
    // The victim's own route is as free as it was.
    let _victim = hold("/guarded").await;
    let _one = hold("/one").await;
    gateway.get("/other").header("x-key", "victim").send().await.assert_refused(Reason::ConcurrencyLimitExceeded);
}

#[tokio::test]
async fn a_reload_keeps_counts_where_the_policy_stays_however_routes_are_ordered() {
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let filter = "ip-filter: { action: allow, addresses: [127.0.0.0/8] }";
    let with = |lists: &[(&str, &str)]| config(&tenant, &upstream, &routes(lists), "");
    let mut gateway = Gateway::start(&with(&[("a", RATE), ("b", RATE)])).await;
    assert_eq!(admitted(&gateway, "/a", "k", 5).await, 3);
    assert_eq!(admitted(&gateway, "/b", "k", 1).await, 1);

    gateway.reload(&with(&[("new", RATE), ("b", RATE), ("a", &format!("{filter}, {RATE}"))])).await;

    assert_eq!(admitted(&gateway, "/a", "k", 5).await, 0);
    assert_eq!(admitted(&gateway, "/b", "k", 5).await, 2);
    assert_eq!(admitted(&gateway, "/new", "k", 5).await, 3);
}

#[tokio::test]
async fn one_name_has_one_period() {
    let named = |period: &str| format!("rate-limit-by-key: {{ name: few, calls: 3, renewal-period: {period}, counter-key: a }}");
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);

    let refusal = Gateway::refusal(&config(&tenant, &upstream, &routes(&[("a", &named("60s")), ("b", &named("1h"))]), ""));

    assert!(refusal.contains("named `few` counts over 60s and this one over 3600s"), "{refusal}");
    Gateway::start(&config(&tenant, &upstream, &routes(&[("a", &named("60s")), ("b", &named("1m"))]), "")).await;
}

/// Starts a backend that answers its requests with this status once they are released.
async fn held_back(status: StatusCode) -> (Upstream, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (gate, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let upstream = {
        let (gate, arrived) = (gate.clone(), arrived.clone());
        Upstream::answering(move |_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            // Not for ever: where too many come, all threads wait here.
            let begun = std::time::Instant::now();
            while gate.available_permits() == 0 && begun.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
            Response::builder().status(status).body(Full::new(Bytes::new())).unwrap()
        })
        .await
    };
    (upstream, gate, arrived)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn calls_at_once_cannot_pass_a_limit_that_counts_by_the_answer() {
    for policy in [RATE, QUOTA] {
        let policy = policy.replace(" }", ", increment-condition: \"@(response.status == 401)\" }");
        let (upstream, gate, arrived) = held_back(StatusCode::UNAUTHORIZED).await;
        let bed = TestBed::around(upstream, &routes(&[("login", &policy)]), "").await;

        let calls: Vec<_> = (0..30).map(|_| tokio::spawn(bed.gateway.get("/login").header("x-key", "k").send())).collect();
        eventually("three calls at the backend", async || arrived.load(Ordering::SeqCst) >= 3).await;
        gate.add_permits(1);
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(call.await.unwrap().status);
        }

        assert_eq!(statuses.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count(), 3, "{policy}: {statuses:?}");
        assert_eq!(bed.upstream.requests(), 3, "{policy}");
        assert_eq!(admitted(&bed.gateway, "/login", "k", 1).await, 0, "{policy}");
    }
}

#[tokio::test]
async fn a_call_whose_condition_fails_gives_its_place_back_when_it_ends() {
    for policy in [RATE, QUOTA] {
        let policy = policy.replace(" }", ", increment-condition: \"@(response.status == 401)\" }");
        let bed = TestBed::with(&routes(&[("login", &policy)]), "").await;

        assert_eq!(admitted(&bed.gateway, "/login", "k", 10).await, 10, "{policy}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_keeps_its_place_taken() {
    let policy = RATE.replace(" }", ", increment-condition: \"@(response.status == 401)\" }");
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    let url = format!("http://{}", backend.local_addr().unwrap());
    let routes = routes(&[("login", &policy)]);
    let gateway = Gateway::start(&config(&tenant, &upstream, &routes, "").replace(&upstream.url(), &url)).await;
    for number in 0..3 {
        let mut caller = RawConnection::open(gateway.address()).await;
        caller.send(format!("GET /login/{number} HTTP/1.1\r\nhost: a\r\nx-key: k\r\n\r\n").as_bytes()).await;
        let (mut stream, _) = backend.accept().await.unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        drop(caller);
        let record = gateway.record(|record| record["path"] == format!("/login/{number}")).await;
        assert!(record.get("status").is_none(), "{record}");
    }

    gateway.get("/login").header("x-key", "k").send().await.assert_refused(Reason::RateLimitExceeded);
}

#[tokio::test]
async fn a_way_that_led_nowhere_gives_its_places_back() {
    let limit = RATE.replace(" }", ", increment-condition: \"@(response.status == 500)\" }");
    let any = format!(
        "any-of: [ [ {limit}, check-header: {{ name: x-never, values: [a] }} ], [ check-header: {{ name: x-key, values: [k] }} ] ]"
    );
    let bed = TestBed::with(&routes(&[("door", &any)]), "").await;

    assert_eq!(admitted(&bed.gateway, "/door", "k", 10).await, 10);
}

#[tokio::test]
async fn limits_are_whole_again_after_weeks_and_months_and_after_a_clock_that_was_ahead() {
    for days in [25, 26, 31, 40, 48, 50, 100] {
        let clock = Clock::manual(1_800_000_000);
        let (tenant, upstream) =
            (DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap(), Upstream::start().await);
        let config = config(&tenant, &upstream, &routes(&[("rate", RATE), ("quota", &QUOTA.replace("30d", "24h"))]), "");
        let gateway =
            Gateway::start_with(&config, ServerOptions { workers: 1, clock: clock.clone(), ..ServerOptions::default() }).await;
        for path in ["/rate", "/quota"] {
            assert_eq!(admitted(&gateway, path, "k", 5).await, 3, "{path}");
        }

        clock.advance(DAY * days);

        for path in ["/rate", "/quota"] {
            assert_eq!(admitted(&gateway, path, "k", 5).await, 3, "{path} after {days} days");
        }
    }
}

#[tokio::test]
async fn a_partners_rate_and_quota_are_whole_again_after_weeks_and_months() {
    const APP: &str = "22223333-cccc-4444-dddd-5555eeee6666";
    let clock = Clock::manual(1_800_000_000);
    let tenant = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
    let upstream = Upstream::start().await;
    let routes = "- { name: p, match: { path: /p }, inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app }, check-partner: {} ], upstream: backend }";
    let more = format!(
        "partners: {{ fabrikam: {{ client-application-ids: [{APP}], rate-limit: {{ calls: 3, renewal-period: 60s }}, quota: {{ calls: 3, renewal-period: 24h }} }} }}"
    );
    let config = config(&tenant, &upstream, routes, &more);
    let gateway =
        Gateway::start_with(&config, ServerOptions { workers: 1, clock: clock.clone(), ..ServerOptions::default() }).await;
    for days in [0, 25, 1, 5, 9, 8, 2, 50] {
        clock.advance(DAY * days);
        let token = tenant.token().app(APP).audience("api://orders").sign();
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(gateway.get("/p").bearer(&token).send().await.status.as_u16());
        }
        assert_eq!(statuses, [200, 200, 200, 429], "after {days} more days");
    }
}

#[tokio::test]
async fn counts_that_keys_had_to_share_are_among_the_metrics() {
    let bed = TestBed::with(&routes(&[("a", RATE)]), "").await;
    assert_eq!(admitted(&bed.gateway, "/a", "k", 1).await, 1);

    let text = reqwest::get(format!("http://{}/metrics", bed.gateway.admin_address())).await.unwrap().text().await.unwrap();

    let sample = "entrada_limit_counts_shared_total{limit=\"rate\",counted=\"calls\",period=\"3600s\"} 0";
    assert!(text.contains(sample), "{text}");
}

//! The property on which `explain`, `test` and `diff` rest: a described request is decided as the same one that arrives.
//!
//! Random configs are started as gateways, with a development tenant and backends, and random requests are sent to them; the engine
//! without a network judges the same requests. Verdict, code, route, policy and the head that the backend receives have to agree.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use entrada::{
    Document,
    dev_tenant::{DevTenant, Options},
    unstable::offline::{OfflineGateway, OfflineKeys, OfflineRequest, Outcome, Verdict},
};
use http::Method;

use crate::{
    random_config::{Random, RandomConfig, RandomRequest},
    support::{Answer, Gateway, Received, Upstream},
};

/// How long the property is looked for, in seconds; without it a few configs are tried.
const SECONDS: &str = "ENTRADA_RANDOM_SECONDS";
/// Fields that differ from request to request, or that the backend's connection determines.
const OF_EACH: [&str; 5] = ["x-request-id", "traceparent", "tracestate", "connection", "content-length"];

struct World {
    tenant: DevTenant,
    backends: [Upstream; 2],
    jwks: Vec<u8>,
}

/// One gateway, twice: running, and without a network.
struct Twins {
    live: Gateway,
    offline: OfflineGateway,
    text: String,
}

impl World {
    async fn start() -> Self {
        let tenant = DevTenant::start(Options::default()).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let keys = format!("{}/{}/discovery/v2.0/keys", tenant.base_url().trim_end_matches('/'), tenant.tenant_id());
        let jwks = client.get(keys).send().await.unwrap().bytes().await.unwrap().to_vec();
        Self { tenant, backends: [Upstream::start().await, Upstream::start().await], jwks }
    }

    /// Starts a random config; `None` if it is no usable one.
    async fn twins(&self, random: &mut Random) -> Option<Twins> {
        let tenant = format!("id: {}, authority: \"{}\"", self.tenant.tenant_id(), self.tenant.base_url());
        let urls = [self.backends[0].url(), self.backends[1].url()];
        let text = RandomConfig::new(random).to_text(&tenant, [&urls[0], &urls[1]], ", trusted-proxies: [127.0.0.1]");
        let document = Document::from_text("random.yaml", &text).ok()?;
        let offline = OfflineGateway::build(&document, now(), OfflineKeys::Jwks(self.jwks.clone())).ok()?;
        let live = Gateway::start(&text).await;
        Some(Twins { live, offline, text })
    }

    /// Sends one request both ways, and compares what comes of it.
    async fn compare(&self, twins: &Twins, asked: &RandomRequest, told: &str) {
        let token = asked.token.as_ref().map(|spec| {
            let claims = spec.claims(&twins.offline).unwrap();
            let token = self.tenant.token().payload_text(&serde_json::Value::Object(claims).to_string());
            if spec.wrong_key { token.wrong_key().sign() } else { token.sign() }
        });
        let mut described =
            OfflineRequest::new(asked.method, &format!("http://{}{}", asked.host, asked.target), [127, 0, 0, 1].into()).unwrap();
        let mut fields = vec![("accept", "*/*".to_owned()), ("x-forwarded-for", asked.caller.to_string())];
        fields.extend(asked.gate.map(|gate| ("x-gate", gate.to_owned())));
        fields.extend(token.map(|token| ("authorization", format!("Bearer {token}"))));
        let method = Method::from_bytes(asked.method.as_bytes()).unwrap();
        let mut call = twins.live.request(method, &asked.target).header("host", asked.host);
        for (name, value) in &fields {
            described.header(*name, value.as_str());
            if *name != "accept" {
                call = call.header(name, value);
            }
        }
        twins.offline.begin(now());
        let outcome = twins.offline.run(&described).await;
        let before = self.backends.each_ref().map(Upstream::requests);
        let answer = call.send().await;
        let after = self.backends.each_ref().map(Upstream::requests);
        let reached = (0..2).find(|index| after[*index] > before[*index]).map(|index| self.backends[index].last());
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let record = twins.live.record(|record| record["request_id"] == id.as_str()).await;
        let told = format!("{told}\n{asked:?}\n{}\n{record:#}\noffline: {outcome:#?}", twins.text);
        agree(&outcome, &answer, reached.as_ref(), &record, &told);
    }
}

fn agree(outcome: &Outcome, answer: &Answer, reached: Option<&Received>, record: &serde_json::Value, told: &str) {
    assert_eq!(record["code"].as_str().unwrap_or_default(), outcome.code.as_deref().unwrap_or_default(), "the code: {told}");
    assert_eq!(record["route"].as_str().unwrap_or_default(), outcome.route.as_deref().unwrap_or_default(), "the route: {told}");
    assert_eq!(
        record["policy"].as_str().unwrap_or_default(),
        outcome.policy.as_deref().unwrap_or_default(),
        "the policy: {told}"
    );
    assert_eq!(answer.status, outcome.status, "the status: {told}");
    assert_eq!(reached.is_some(), outcome.verdict == Verdict::Allow, "the verdict: {told}");
    let (Some(reached), Some(sent)) = (reached, &outcome.upstream) else { return };
    assert_eq!(reached.method, sent.method, "the method: {told}");
    assert!(sent.url.ends_with(&reached.uri.to_string()), "the target {}: {told}", reached.uri);
    let head = |headers: &http::HeaderMap| {
        let mut head: Vec<String> = headers
            .iter()
            .filter(|(name, _)| !OF_EACH.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        head.sort_unstable();
        head
    };
    assert_eq!(head(&reached.headers), head(&sent.headers), "the head: {told}");
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_described_request_is_decided_as_the_one_that_arrives() {
    let long = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let first: u64 = if long.is_some() { now() } else { 0 };
    let began = Instant::now();
    let world = World::start().await;
    let (mut configs, mut requests) = (0, 0);
    for seed in first.. {
        let enough = match long {
            Some(long) => began.elapsed() >= long,
            None => configs >= 6,
        };
        if enough {
            break;
        }
        let mut random = Random::new(seed);
        let Some(twins) = world.twins(&mut random).await else { continue };
        configs += 1;
        for _ in 0..50 {
            world.compare(&twins, &RandomRequest::new(&mut random), &format!("seed {seed}")).await;
            requests += 1;
        }
    }
    println!("{configs} configs, {requests} requests, seeds from {first} on");
    assert!(requests >= 300, "{requests} requests say too little");
}

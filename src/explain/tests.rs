//! Explanations and serving are one: over the examples of `config/`, with generated requests.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    address::AddressEntryConfig,
    audit::{AuditConfig, AuditContext, AuditLog},
    authorization::{AuthorizationConfig, PLACEHOLDER},
    base::clock::Clock,
    config::testing::examples,
    gateway::{
        DataPlane,
        runtime::{Purpose, Runtime, RuntimeContext},
    },
    inbound::{PolicyConfig, list},
    offline::{OfflineKeys, TokenSpec, TokenSpecKind},
    settings::Faults,
    telemetry::Metrics,
    upstream::ProtocolConfig,
};

/// The generated requests for each example; `ENTRADA_CASES` sets another number.
const CASES: usize = 400;

fn cases() -> usize {
    std::env::var("ENTRADA_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

/// A backend on loopback that keeps the last head that it received.
struct Backend {
    url: String,
    received: Arc<Mutex<Option<String>>>,
}

impl Backend {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let received = Arc::<Mutex<Option<String>>>::default();
        let kept = received.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    while let Ok(read) = stream.read_buf(&mut bytes).await {
                        if read == 0 {
                            return;
                        }
                        while let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
                            let head: Vec<u8> = bytes.drain(..end + 4).collect();
                            *kept.lock().unwrap() = Some(String::from_utf8_lossy(&head).into_owned());
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                        }
                    }
                });
            }
        });
        Self { url, received }
    }

    fn take(&self) -> Option<String> {
        self.received.lock().unwrap().take()
    }
}

/// The gateway that serves: over the network, and with the development key in its key sets.
struct Live {
    runtime: Arc<Runtime>,
    clock: Clock,
    plane: DataPlane,
}

impl Live {
    fn build(document: &Document, now: u64) -> Self {
        let (clock, metrics, mut faults) = (Clock::manual(now), Metrics::default(), Faults::default());
        let context = RuntimeContext { document, purpose: Purpose::Mounted, workers: 1, clock: &clock, metrics: &metrics };
        let runtime = Arc::new(Runtime::build(context, None, &mut faults).unwrap_or_else(|| panic!("{faults:?}")));
        OfflineKeys::Development.put(&runtime.tenants, &clock).unwrap();
        let context = AuditContext { base: &document.base, clock: &clock, remote: None };
        let audit = AuditLog::open(&AuditConfig::default().without_sinks(), context, 1).unwrap();
        let plane = DataPlane::new(Arc::new(ArcSwap::new(runtime.clone())), audit, 0);
        Self { runtime, clock, plane }
    }

    async fn serve(&self, request: &OfflineRequest, now: u64) -> Outcome {
        self.clock.set(now);
        self.runtime.limits.clear();
        OfflineKeys::Development.put(&self.runtime.tenants, &self.clock).unwrap();
        let connection = Arc::new(request.connection(&self.runtime));
        let mut response = self.plane.serve(request.arrival(), &connection, None).await;
        let mut outcome = Outcome::of(response.body_mut().recorder().unwrap());
        outcome.status = response.status();
        outcome
    }
}

/// An example with its upstreams on this machine. What the gateway would acquire for itself is left out: nothing here reaches a network.
fn example(folder: &std::path::Path, name: &str, backend: &Backend) -> Document {
    let mut document = Document::load(&folder.join(name)).unwrap_or_else(|report| panic!("{name}: {report}"));
    for upstream in document.config.upstreams.values_mut() {
        upstream.servers = vec![format!("{}/base", backend.url)];
        upstream.tls = Default::default();
        upstream.health = None;
        upstream.retries = None;
        upstream.protocol = ProtocolConfig::Http1;
    }
    for route in &mut document.config.routes {
        if matches!(route.authorization, AuthorizationConfig::Credential(_) | AuthorizationConfig::OnBehalfOf(_)) {
            route.authorization = AuthorizationConfig::Absent;
        }
    }
    document.secrets = document.secrets.apart(None, "secret-of-a-vault");
    document
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn often(&mut self) -> bool {
        self.below(4) > 0
    }
}

/// The constants of a config, of which requests are made.
struct Constants {
    addresses: Vec<IpAddr>,
    hosts: Vec<String>,
    policies: Vec<PolicyConfig>,
}

impl Constants {
    fn of(document: &Document, runtime: &Runtime) -> Self {
        let mut policies = Vec::new();
        let routes = document.config.routes.iter().map(|route| &route.inbound);
        for list in routes.chain([&document.config.inbound]) {
            list::each(list, &document.config.fragments, 0, &mut |policy| policies.push(policy.clone()));
        }
        let sets = document.config.address_sets.keys().map(|name| AddressEntryConfig::Text(name.clone()));
        let written = policies.iter().filter_map(|policy| match policy {
            PolicyConfig::IpFilter(filter) => Some(filter.addresses.clone()),
            _ => None,
        });
        let entries: Vec<_> = sets.chain(written.flatten()).collect();
        let mut addresses: Vec<IpAddr> =
            vec!["192.0.2.99".parse().unwrap(), "2001:db8::9".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        for entry in &entries {
            let list = addresses::AddressList::of(std::slice::from_ref(entry), runtime);
            addresses.extend(list.nearest("10.0.0.1".parse().unwrap()).map(|(address, _)| address));
        }
        let named = document.config.routes.iter().flat_map(|route| &route.matches.hosts);
        let hosts = named.map(|host| host.replace("*.", "a.")).chain(["other.example".to_owned()]).collect();
        Self { addresses, hosts, policies }
    }
}

/// Generates a request that is near to what the config admits.
fn generated(document: &Document, gateway: &OfflineGateway, constants: &Constants, random: &mut Random) -> OfflineRequest {
    let route = random.one_of(&document.config.routes);
    let host = match route.matches.hosts.first() {
        Some(host) if random.often() => host.replace("*.", "a."),
        _ => random.one_of(&constants.hosts),
    };
    let written = route.matches.exact_path.as_ref().or(route.matches.path.as_ref());
    let mut path = written.map_or("/".to_owned(), |path| routes::filled(path));
    path += match random.below(8) {
        0 => "/17",
        1 => "/a%2Fb",
        2 => "?a=b&c",
        3 => "/%41/./b",
        _ => "",
    };
    let scheme = if random.often() { "https" } else { "http" };
    let methods: Vec<String> =
        route.matches.methods.iter().cloned().chain(["GET", "POST", "DELETE", "OPTIONS", "TRACE"].map(str::to_owned)).collect();
    let method = if random.often() { methods[0].clone() } else { random.one_of(&methods) };
    let address = random.one_of(&constants.addresses);
    let mut request = OfflineRequest::new(&method, &format!("{scheme}://{host}{path}"), address).unwrap();
    if random.below(3) == 0 {
        let list = [random.one_of(&constants.addresses).to_string(), random.one_of(&constants.addresses).to_string()];
        request.header("X-Forwarded-For", list[..=random.below(2)].join(", "));
    }
    for name in [
        "X-Forwarded-Proto",
        "X-Remote-User",
        "X-Sso-User",
        "Cookie",
        "Connection",
        "Accept",
        "Origin",
        "Upgrade",
        "X-Request-Id",
    ] {
        if random.below(6) == 0 {
            request.header(
                name,
                random.one_of(&[
                    "https",
                    "admin",
                    "a=b",
                    "close, x-remote-user",
                    "*/*",
                    "https://app.contoso.example",
                    "websocket",
                ]),
            );
        }
    }
    for policy in &constants.policies {
        if let PolicyConfig::CheckHeader(check) = policy
            && random.often()
        {
            let value = check.values.first().and_then(|value| secrets::revealed(value, &document.secrets));
            request.set_header(&check.name, Some(value.as_deref().unwrap_or("1")));
        }
    }
    let mut own = Vec::new();
    list::each(&route.inbound, &document.config.fragments, 0, &mut |policy| own.push(policy));
    let own: Vec<_> = own.into_iter().filter_map(token_candidates::Entry::of).collect();
    if let Some(token) = generated_token(gateway, &own, constants, random) {
        let names = ["Authorization", "Authorization2", "X-Access-Token"];
        let name = if random.often() { names[0] } else { random.one_of(&names) };
        request.header(name, if random.below(9) == 0 { token } else { format!("Bearer {token}") });
    }
    request
}

fn generated_token(
    gateway: &OfflineGateway,
    own: &[token_candidates::Entry<'_>],
    constants: &Constants,
    random: &mut Random,
) -> Option<String> {
    let entries: Vec<_> = constants.policies.iter().filter_map(token_candidates::Entry::of).collect();
    if entries.is_empty() || random.below(8) == 0 {
        return (random.below(2) == 0).then(|| "not.a.token".to_owned());
    }
    let entry = if own.is_empty() || !random.often() { random.one_of(&entries) } else { random.one_of(own) };
    let mut spec: TokenSpec = entry.wanted(random.below(2) == 0);
    for _ in 0..random.below(3) {
        match random.below(12) {
            0 => spec.audience = Some("api://another".to_owned()),
            1 => spec.expires = Some("-10m".to_owned()),
            2 => spec.scopes = spec.scopes.map(|_| vec!["Another".to_owned()]),
            3 => spec.roles = vec!["Another".to_owned()],
            4 => spec.client = Some("99990000-0000-4000-8000-000000000000".to_owned()),
            5 => spec.wrong_key = true,
            6 => spec.claims = BTreeMap::from([("tid".to_owned(), "99990000-0000-4000-8000-000000000001".into())]),
            7 => spec.claims.clear(),
            8 => spec.kind = Some(TokenSpecKind::App),
            9 => spec.client_credential = Some(crate::offline::TokenSpecCredential::Secret),
            10 => spec.issued = Some("1h".to_owned()),
            _ => drop(spec.header.insert("kid".to_owned(), "another".into())),
        }
    }
    spec.mint(gateway).ok()
}

/// Returns a head in a form that can be compared: what is made for each request is left out.
fn comparable(method: &str, target: &str, headers: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .filter(|(name, _)| !matches!(&**name, "x-request-id" | "traceparent" | "x-entrada-assertion"))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines.sort();
    lines.insert(0, format!("{method} {target}"));
    lines
}

fn received(head: &str) -> Vec<String> {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let fields = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned()));
    comparable(method, target, fields)
}

fn described(sent: &crate::refusal::trace::SentRequest) -> Vec<String> {
    let text = |headers: &HeaderMap| -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect()
    };
    let rest = sent.url.split_once("://").map_or("", |(_, rest)| rest);
    let target = rest.find('/').map_or("/", |at| &rest[at..]);
    comparable(sent.method.as_str(), target, text(&sent.headers).into_iter())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn explaining_equals_serving_and_every_turning_fact_turns_the_served_verdict() {
    let (folder, backend, now) = (examples(), Backend::start().await, now());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in ["entrada.yaml", "app-proxy.yaml", "own-identity.yaml", "complete.yaml"] {
        let document = example(folder.path(), name, &backend);
        let live = Live::build(&document, now);
        let gateway = OfflineGateway::build(&document, now, OfflineKeys::Development).unwrap();
        let constants = Constants::of(&document, gateway.runtime());
        let mut random = Random(0x5eed_0000_0000_0001 ^ name.len() as u64);
        for case in 0..cases() {
            let request = generated(&document, &gateway, &constants, &mut random);
            let context = || {
                format!("{name}, case {case}: {} {} from {} {:?}", request.method, request.url(), request.peer, request.headers)
            };
            gateway.begin(now);
            let outcome = gateway.run(&request).await;
            if outcome.upstream.as_ref().is_some_and(|sent| sent.upstream.as_ref() == "token-endpoint") {
                *counts.entry("relayed").or_default() += 1;
                continue;
            }
            let served = live.serve(&request, now).await;
            let head = backend.take();

            assert_eq!(
                (outcome.status, &outcome.code, &outcome.policy, &outcome.route, outcome.caller.as_ref().map(|it| it.address)),
                (served.status, &served.code, &served.policy, &served.route, served.caller.as_ref().map(|it| it.address)),
                "{}",
                context()
            );
            assert_eq!(outcome.upstream.as_ref().map(described), head.as_deref().map(received), "{}", context());
            assert!(outcome.upstream.iter().all(|sent| sent.headers.get("authorization").is_none_or(|own| own != PLACEHOLDER)));
            *counts.entry(outcome.verdict.as_str()).or_default() += 1;

            if outcome.verdict != Verdict::Refuse || case % 4 != 0 {
                continue;
            }
            let turning = turning::find(&document, &gateway, &request, &outcome, now).await;
            let Some(turning) = turning.filter(|turning| turning.tried) else {
                *counts.entry("not turned").or_default() += 1;
                continue;
            };
            let Some((changed, at)) = turning.request.clone() else {
                // A partner's switch or key is no fact of the request.
                let outside = |name: &str| name == "API key" || name.starts_with("partners.");
                assert!(turning.facts.iter().any(|fact| outside(&fact.name)), "{:?}: {}", turning.facts, context());
                continue;
            };
            let turned = live.serve(&changed, at).await;
            backend.take();
            assert!(turned.code.is_none(), "{:?} leads to {:?}: {}", turning.facts, turned.code, context());
            *counts.entry("turned").or_default() += 1;
        }
    }
    eprintln!("{counts:?}");
    for (what, least) in [("allow", 20), ("refuse", 100), ("turned", 50)] {
        assert!(counts.get(what).copied().unwrap_or_default() >= least * cases() / CASES, "{what}: {counts:?}");
    }
}

//! Benchmarks of the whole path in memory: from a request's head to the response, without sockets; and of a start.
//!
//! `cargo bench --bench gateway`

use std::sync::Arc;

use arc_swap::ArcSwap;
use divan::Bencher;
use entrada::{
    Document, Server, ServerOptions,
    dev_tenant::{DevTenant, Options},
    unstable::{
        gateway::DataPlane,
        listener::{Arrival, Connection, Listener, RequestBody, Service},
    },
};
use http::Request;

fn main() {
    divan::main();
}

/// A gateway with its keys, and a tenant that issues tokens for it.
struct Bench {
    runtime: tokio::runtime::Runtime,
    tenant: DevTenant,
    server: Server,
    gateway: DataPlane,
    connection: Arc<Connection>,
}

/// The size of a config's parts that do not concern the request.
#[derive(Clone, Copy)]
struct Size {
    /// Routes beside the request's own.
    routes: usize,
    /// Networks in the list that the request's address is looked up in.
    networks: usize,
    /// Policies of another route.
    policies: usize,
}

const SMALL: Size = Size { routes: 0, networks: 0, policies: 0 };

impl Size {
    fn routes(self) -> String {
        let policy = "      - set-header: { name: X-Region, value: westeurope }\n";
        let policies = policy.repeat(self.policies);
        let other = |number| {
            let inbound = if number == 0 && self.policies > 0 { format!("    inbound:\n{policies}") } else { String::new() };
            format!(
                "  - name: other-{number}\n    match: {{ path: /service-{number}/items }}\n    anonymous: true\n{inbound}    respond: {{ status: 204 }}\n"
            )
        };
        (0..self.routes.max(usize::from(self.policies > 0))).map(other).collect()
    }

    /// Returns non-adjacent networks, so that none is merged with another.
    fn networks(self) -> String {
        let network = |number: usize| format!(", {}.{}.{}.0/25", 11 + (number >> 16), (number >> 8) & 255, number & 255);
        (0..self.networks).map(network).collect()
    }
}

fn config(tenant: &DevTenant, size: Size) -> Document {
    let text = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
admin: {{ address: \"127.0.0.1:0\" }}
audit: {{ sinks: [] }}
tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}
address-sets: {{ offices: [127.0.0.0/8, 10.0.0.0/8, 192.168.0.0/16{}] }}
routes:
  - {{ name: plain, match: {{ path: /plain }}, anonymous: true, respond: {{ status: 200, body: fine }} }}
  - name: orders
    match: {{ path: /orders }}
    inbound:
      - ip-filter: {{ action: allow, addresses: [offices] }}
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }}
      - set-header: {{ name: X-User, value: \"@(token.subject)\" }}
    respond: {{ status: 200, body: fine }}
{}",
        tenant.tenant_id(),
        tenant.base_url(),
        size.networks(),
        size.routes(),
    );
    Document::from_text("bench.yaml", &text).expect("the config is good")
}

fn start(document: &Document) -> Server {
    Server::start(document, ServerOptions { workers: 1, ..ServerOptions::default() }).expect("the gateway starts")
}

impl Bench {
    fn new() -> Self {
        Self::of(SMALL)
    }

    fn of(size: Size) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let tenant = runtime.block_on(DevTenant::start(Options::default())).expect("the tenant starts");
        let server = start(&config(&tenant, size));
        server.handle().block_on(server.runtime().tenants.tried());
        let gateway = DataPlane::new(Arc::new(ArcSwap::from(server.runtime())), server.audit().clone(), 0);
        let listener = Listener::new("public", server.runtime().listeners[0].settings.clone());
        let connection = Arc::new(Connection::plain(listener, ([127, 0, 0, 1], 50_000).into(), ([127, 0, 0, 1], 8_080).into()));
        Self { runtime, tenant, server, gateway, connection }
    }

    fn answer(&self, path: &str, token: Option<&str>) -> http::StatusCode {
        let mut request = Request::get(path).header("host", "api.contoso.example").header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(RequestBody::empty()).expect("a request");
        self.runtime.block_on(self.gateway.call(Arrival::Request(Box::new(request.into())), &self.connection)).status()
    }

    fn run(&self, bencher: Bencher, path: &str, token: Option<&str>, expected: u16) {
        assert_eq!(self.answer(path, token), expected);
        bencher.bench_local(|| self.answer(path, token));
        self.server.audit().flush();
    }
}

/// Measures a request without any policy.
#[divan::bench]
fn plain(bencher: Bencher) {
    Bench::new().run(bencher, "/plain", None, 200);
}

/// Measures an address list, a cached token, and a header from a claim.
#[divan::bench]
fn token_seen_before(bencher: Bencher) {
    token_in(bencher, SMALL);
}

fn token_in(bencher: Bencher, size: Size) {
    let bench = Bench::of(size);
    let token = bench.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    bench.run(bencher, "/orders/7", Some(&token), 200);
}

/// Measures the same among this many routes.
#[divan::bench(args = [1, 100, 5_000])]
fn growth_routes(bencher: Bencher, routes: usize) {
    token_in(bencher, Size { routes, ..SMALL });
}

/// Measures the same with this many networks in the list.
#[divan::bench(args = [1, 1_000, 100_000])]
fn growth_networks(bencher: Bencher, networks: usize) {
    token_in(bencher, Size { networks, ..SMALL });
}

/// Measures the same beside a route with this many policies.
#[divan::bench(args = [1, 100])]
fn growth_policies_elsewhere(bencher: Bencher, policies: usize) {
    token_in(bencher, Size { policies, ..SMALL });
}

/// Measures the same with a token for another API.
#[divan::bench]
fn refused(bencher: Bencher) {
    let bench = Bench::new();
    let token = bench.tenant.token().user("nia").audience("api://payroll").scopes(["Orders.Read"]).sign();
    bench.run(bencher, "/orders/7", Some(&token), 401);
}

/// Measures a start, from a parsed config to open sockets, and the stop.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn start_and_stop(bencher: Bencher) {
    let bench = Bench::new();
    let document = config(&bench.tenant, SMALL);
    bencher.bench_local(|| drop(start(&document)));
}

//! The whole path in memory: from a request's head to the answer, without sockets; and what a start takes.
//!
//! `cargo bench --bench gateway`

use std::sync::Arc;

use arc_swap::ArcSwap;
use divan::Bencher;
use entrada::{
    config::Document,
    dev_tenant::{DevTenant, Options},
    exchange::Connection,
    gateway::Gateway,
    listener::Arrival,
    request::RequestBody,
    server::{Server, ServerOptions},
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
    gateway: Gateway,
    connection: Arc<Connection>,
}

fn config(tenant: &DevTenant) -> Document {
    let text = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
admin: {{ address: \"127.0.0.1:0\" }}
audit: {{ sinks: [] }}
tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}
address-sets: {{ offices: [127.0.0.0/8, 10.0.0.0/8, 192.168.0.0/16] }}
routes:
  - {{ name: plain, match: {{ path: /plain }}, anonymous: true, respond: {{ status: 200, body: fine }} }}
  - name: orders
    match: {{ path: /orders }}
    inbound:
      - ip-filter: {{ action: allow, addresses: [offices] }}
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }}
      - set-header: {{ name: X-User, value: \"@(token.subject)\" }}
    respond: {{ status: 200, body: fine }}
",
        tenant.tenant_id(),
        tenant.base_url()
    );
    Document::from_text("bench.yaml", &text).expect("the config is good")
}

fn start(document: &Document) -> Server {
    Server::start(document, ServerOptions { workers: 1, ..ServerOptions::default() }).expect("the gateway starts")
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let tenant = runtime.block_on(DevTenant::start(Options::default())).expect("the tenant starts");
        let server = start(&config(&tenant));
        server.handle().block_on(server.runtime().tenants.tried());
        let gateway = Gateway::new(Arc::new(ArcSwap::from(server.runtime())), server.audit().clone(), 0);
        let connection = Arc::new(Connection {
            listener_name: "public".into(),
            peer: ([127, 0, 0, 1], 50_000).into(),
            introduction: None,
            local: ([127, 0, 0, 1], 8_080).into(),
            tls: None,
        });
        Self { runtime, tenant, server, gateway, connection }
    }

    fn answer(&self, path: &str, token: Option<&str>) -> http::StatusCode {
        let mut request = Request::get(path).header("host", "api.contoso.example").header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(RequestBody::empty()).expect("a request");
        self.runtime.block_on(self.gateway.serve(Arrival::Request(request), &self.connection)).status()
    }

    fn run(&self, bencher: Bencher, path: &str, token: Option<&str>, expected: u16) {
        assert_eq!(self.answer(path, token), expected);
        bencher.bench_local(|| self.answer(path, token));
        self.server.audit().flush();
    }
}

/// No policy at all.
#[divan::bench]
fn plain(bencher: Bencher) {
    Bench::new().run(bencher, "/plain", None, 200);
}

/// Address list, a token seen before, a header from a claim.
#[divan::bench]
fn token_seen_before(bencher: Bencher) {
    let bench = Bench::new();
    let token = bench.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    bench.run(bencher, "/orders/7", Some(&token), 200);
}

/// The same with a token for another API.
#[divan::bench]
fn refused(bencher: Bencher) {
    let bench = Bench::new();
    let token = bench.tenant.token().user("nia").audience("api://payroll").scopes(["Orders.Read"]).sign();
    bench.run(bencher, "/orders/7", Some(&token), 401);
}

/// From a config that was read to open sockets, and back.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn start_and_stop(bencher: Bencher) {
    let bench = Bench::new();
    let document = config(&bench.tenant);
    bencher.bench_local(|| drop(start(&document)));
}

//! Tests of listeners that decide for other proxies: each asks as that proxy does, byte for byte.

mod addresses;
mod asks;
mod configs;
mod differential;
mod envoy_grpc;
mod forwarded;
mod kept;
mod tokens;

use entrada::dev_tenant::{DevTenant, Options};

use self::asks::{Asks, Decided};
use crate::support::{Gateway, ORDERS_TOKEN, Upstream, config};

/// The dialects.
const DIALECTS: [&str; 5] = ["envoy-grpc", "envoy-http", "traefik", "caddy", "nginx"];

/// A gateway with a listener for each dialect, which also serves requests itself.
struct Bed {
    tenant: DevTenant,
    upstream: Upstream,
    gateway: Gateway,
}

/// The route of most stories: a token, and a header from it.
fn orders(more: &str) -> String {
    format!(
        "- {{ name: orders, match: {{ hosts: [api.contoso.example], path: /orders }}, inbound: [ {ORDERS_TOKEN} ], \
         identity-headers: {{ X-User: {{ claim: oid }} }}, authorization: remove, {more} }}"
    )
}

/// Returns the listeners: one that serves, and one for each dialect, with these further keys in `decides` and of the listener.
fn listeners(decides: &str, more: &str) -> String {
    let mut listeners = "listeners:\n  - { name: public, address: \"127.0.0.1:0\" }\n".to_owned();
    for dialect in DIALECTS {
        listeners.push_str(&format!(
            "  - {{ name: {dialect}, address: \"127.0.0.1:0\", decides: {{ dialect: {dialect}, peers: [127.0.0.1], {decides} }}, {more} }}\n"
        ));
    }
    listeners
}

impl Bed {
    /// Starts a gateway with these routes; the listed ones are decided.
    async fn with(routes: &str, decides: &str, more: &str) -> Self {
        Self::with_keys(routes, &listeners(decides, more)).await
    }

    /// Does the same with further top-level keys.
    async fn with_keys(routes: &str, more: &str) -> Self {
        Self::around(DevTenant::start(Options::default()).await.unwrap(), routes, more).await
    }

    /// Does the same with a given tenant.
    async fn around(tenant: DevTenant, routes: &str, more: &str) -> Self {
        let upstream = Upstream::start().await;
        let gateway = Gateway::start(&config(&tenant, &upstream, routes, more)).await;
        Self { tenant, upstream, gateway }
    }

    /// Starts a gateway with the route of most stories.
    async fn usual() -> Self {
        let routes = format!(
            "{}\n- {{ name: other, match: {{ hosts: [api.contoso.example], path: /other }}, anonymous: true, upstream: backend }}",
            orders("upstream: backend")
        );
        Self::with(&routes, "routes: [orders]", "").await
    }

    fn token(&self) -> String {
        self.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign()
    }

    /// Asks the listener of a dialect.
    async fn ask(&self, dialect: &str, request: &Asks) -> Decided {
        request.ask(self.gateway.server().address(dialect).unwrap(), dialect).await
    }
}

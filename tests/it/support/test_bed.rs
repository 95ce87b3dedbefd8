//! The usual test bed: a development tenant, an upstream, and the config that ties them to a gateway.

use entrada::dev_tenant::{DevTenant, Options};

use super::{Gateway, Upstream};

/// A tenant, an upstream and a gateway that knows both.
pub(crate) struct TestBed {
    pub(crate) tenant: DevTenant,
    pub(crate) upstream: Upstream,
    pub(crate) gateway: Gateway,
}

/// The policy of most routes in the tests.
pub(crate) const ORDERS_TOKEN: &str =
    "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], roles: [Orders.Read.All] }";

impl TestBed {
    /// Starts a test bed whose config has these `routes` (a YAML list) and these further top-level keys. The upstream is called
    /// `backend`.
    pub(crate) async fn with(routes: &str, more: &str) -> Self {
        Self::around(Upstream::start().await, routes, more).await
    }

    /// Does the same with a given upstream.
    pub(crate) async fn around(upstream: Upstream, routes: &str, more: &str) -> Self {
        let tenant = DevTenant::start(Options::default()).await.unwrap();
        let gateway = Gateway::start(&config(&tenant, &upstream, routes, more)).await;
        Self { tenant, upstream, gateway }
    }

    /// Starts a test bed with one route, `/orders`, that requires a token of the orders API and forwards it.
    pub(crate) async fn with_orders() -> Self {
        let route = format!(
            "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: keep, upstream: backend }}"
        );
        Self::with(&route, "").await
    }

    /// Returns a token that the orders API accepts.
    pub(crate) fn user_token(&self) -> String {
        self.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign()
    }
}

/// Returns the config of a test bed.
pub(crate) fn config(tenant: &DevTenant, upstream: &Upstream, routes: &str, more: &str) -> String {
    format!(
        "tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}\nupstreams: {{ backend: {{ servers: [\"{}\"] }} }}\nroutes:\n{}\n{more}\n",
        tenant.tenant_id(),
        tenant.base_url(),
        upstream.url(),
        indent(routes),
    )
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

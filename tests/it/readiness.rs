//! Tests of readiness: a gateway is ready once it has the keys of every tenant whose tokens a route accepts.

use entrada::{
    Document, Server, ServerOptions,
    dev_tenant::{DevTenant, Fault, Options},
};

use crate::support::{ORDERS_TOKEN, Upstream, config, eventually};

/// A gateway before it is ready.
struct Early(Option<Server>);

impl Early {
    async fn start(text: &str) -> Self {
        let text = format!(
            "{text}\naudit: {{ sinks: [] }}\nadmin: {{ address: \"127.0.0.1:0\" }}\nlisteners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\n"
        );
        let document = Document::from_text("test.yaml", &text).unwrap_or_else(|report| panic!("{report}"));
        let start = move || Server::start(&document, ServerOptions { workers: 1, ..ServerOptions::default() }).unwrap();
        Self(Some(tokio::task::spawn_blocking(start).await.unwrap()))
    }

    async fn readyz(&self) -> (u16, String) {
        let admin = self.0.as_ref().unwrap().admin_address().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("http://{admin}/readyz")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Returns its readiness once it no longer waits for a first answer.
    async fn settled(&self) -> (u16, String) {
        self.0.as_ref().unwrap().runtime().tenants.tried().await;
        self.readyz().await
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            std::thread::spawn(move || drop(server));
        }
    }
}

fn route(policy: &str) -> String {
    format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {policy} ], upstream: backend }}")
}

#[tokio::test]
async fn a_gateway_that_has_no_keys_of_a_tenant_is_not_ready_until_it_has() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    tenant.fail(Fault::on("").status(503));
    let gateway = Early::start(&config(&tenant, &Upstream::start().await, &route(ORDERS_TOKEN), "")).await;

    assert_eq!(gateway.settled().await, (503, "not ready: the signing keys of the tenant contoso\n".to_owned()));

    tenant.recover();
    eventually("ready", async || gateway.readyz().await.0 == 200).await;
    tenant.fail(Fault::on("").status(503));
    assert_eq!(gateway.readyz().await.0, 200, "the last good keys serve");
}

#[tokio::test]
async fn what_is_not_required_or_not_used_keeps_nobody_waiting() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    tenant.fail(Fault::on("").status(503));
    let upstream = Upstream::start().await;
    let many = ORDERS_TOKEN.replace("tenant: contoso", "tenant: contoso, allowed-tenants: any");
    let own = |more: &str| format!("{more}id: {}", tenant.tenant_id());
    for (policy, id, ready) in [
        (ORDERS_TOKEN, own("required: false, "), true),
        (ORDERS_TOKEN, own("required: true, "), false),
        (&many, "id: organizations".to_owned(), false),
        (&many, "required: false, id: organizations".to_owned(), true),
        ("check-header: { name: X-Key }", own(""), true),
    ] {
        let text = config(&tenant, &upstream, &route(policy), "").replace(&own(""), &id);
        let text = if policy.starts_with("check") { text.replace("inbound:", "anonymous: true, inbound:") } else { text };
        let gateway = Early::start(&text).await;
        let (status, told) = gateway.settled().await;
        assert_eq!(status == 200, ready, "{text}: {told}");
    }
}

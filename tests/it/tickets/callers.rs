//! Questions about callers.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ask, assert_answer};
use crate::support::{Answer, Authority, Gateway, TestBed, Upstream, client_of, self_signed};

const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const TAILSPIN: &str = "44443333-cccc-4444-dddd-5555eeee6666";
const REVOKED: &str = "55553333-cccc-4444-dddd-5555eeee6666";
const FORMER: &str = "66663333-cccc-4444-dddd-5555eeee6666";
const STRANGER: &str = "99993333-cccc-4444-dddd-5555eeee6666";

async fn partners() -> TestBed {
    let route = "- name: partners\n  match: { path: /orders }\n  upstream: backend\n  inbound:\n    - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }\n    - check-partner: {}\n\
                 - name: office\n  match: { path: /office }\n  anonymous: true\n  upstream: backend\n  inbound: [ ip-filter: { action: allow, addresses: [203.0.113.0/24] } ]\n\
                 - { name: safe, match: { path: /safe }, anonymous: true, require-tls: true, upstream: backend }";
    let partner = |name: &str, application: &str, more: &str| {
        format!("  {name}: {{ client-application-ids: [{application}], tenants: [contoso], addresses: [127.0.0.1], {more} }}\n")
    };
    let partners = [
        "partners:\n".to_owned(),
        partner("fabrikam", FABRIKAM, ""),
        partner("tailspin", TAILSPIN, "").replace("127.0.0.1", "203.0.113.7"),
        partner("revoked", REVOKED, "enabled: false"),
        partner("former", FORMER, "expires: 2020-12-31"),
    ];
    TestBed::with(route, &partners.concat()).await
}

#[tokio::test]
async fn partners_and_addresses() {
    let bed = partners().await;
    let call = async |application: &str| {
        let token = bed.tenant.token().app(application).audience("api://orders").sign();
        bed.gateway.get("/orders").bearer(token).send().await
    };

    for (question, application, expected) in [
        (
            "Which partner is it, and why is it refused?",
            TAILSPIN,
            &["partner-address-not-allowed", "\"partner\":\"tailspin\"", TAILSPIN, "127.0.0.1"][..],
        ),
        ("Does the application belong to a partner at all?", STRANGER, &["partner-unknown", STRANGER, "tenant_id"]),
        ("Was the partner switched off?", REVOKED, &["partner-disabled", "revoked"]),
        ("Has the partner's access ended?", FORMER, &["partner-expired", "former"]),
    ] {
        let answer = call(application).await;
        ask(&bed.gateway, question, &answer, expected).await;
    }
    let answer = bed.gateway.get("/office").send().await;
    ask(
        &bed.gateway,
        "From which address does the caller come, and how is that known?",
        &answer,
        &["caller-address-not-allowed", "inbound[0].ip-filter", "\"caller\":\"127.0.0.1\"", "\"address_source\":\"peer\""],
    )
    .await;
    let answer = bed.gateway.get("/safe").send().await;
    ask(&bed.gateway, "Did the request come without TLS?", &answer, &["tls-required", "\"tls_version\":null", "safe"]).await;
}

#[tokio::test]
async fn who_is_refused_most_is_at_the_top() {
    let bed = partners().await;
    for (application, times) in [(REVOKED, 1), (STRANGER, 3), (FABRIKAM, 4)] {
        let token = bed.tenant.token().app(application).audience("api://orders").sign();
        for _ in 0..times {
            bed.gateway.get("/orders").bearer(&token).send().await;
        }
    }
    bed.gateway.get("/orders/last").send().await;
    bed.gateway.record(|record| record["path"] == "/orders/last").await;

    let (_, line) = super::questions().into_iter().find(|(question, _)| question == "Who is refused most?").unwrap();
    let Some(answer) = super::jq(&line, &bed.gateway.written_records().join("\n")) else { return };

    let rows: Vec<_> = answer.lines().collect();
    assert_eq!(rows.len(), 3, "{answer}");
    assert!(rows[0].starts_with("{\"count\":3,\"code\":\"partner-unknown\"") && rows[0].contains(STRANGER), "{answer}");
}

/// A gateway whose listener asks for certificates.
struct CertificateBed {
    _folder: tempfile::TempDir,
    servers: Authority,
    clients: Authority,
    gateway: Gateway,
}

impl CertificateBed {
    async fn open() -> Self {
        let (servers, clients, upstream) =
            (Authority::new("Contoso Servers"), Authority::new("Fabrikam Root"), Upstream::start().await);
        let folder = tempfile::TempDir::new().unwrap();
        servers.server("gateway.contoso.example").write(folder.path(), "server");
        std::fs::write(folder.path().join("ca.pem"), clients.pem()).unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "listeners:\n  - name: public\n    address: \"127.0.0.1:0\"\n    tls: {{ certificate: {}, private-key: {} }}\n    client-certificates: {{ mode: optional, ca: {} }}\n\
             upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\n\
             routes: [ {{ name: orders, match: {{ path: /orders }}, inbound: [ validate-client-certificate: {{}} ], upstream: backend }} ]\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem"),
            upstream.url(),
        );
        let gateway = Gateway::start(&config).await;
        Self { _folder: folder, servers, clients, gateway }
    }

    async fn get(&self, identity: Option<&crate::support::Identity>) -> Answer {
        let request = client_of(&self.servers, identity, false).get(format!("https://{}/orders", self.gateway.address()));
        Answer::read(request.send().await.expect("the gateway answers")).await
    }
}

#[tokio::test]
async fn certificates_and_handshakes() {
    let bed = CertificateBed::open().await;

    let none = bed.get(None).await;
    ask(&bed.gateway, "Was a client certificate shown?", &none, &["client-certificate-missing", "\"client_certificate\":null"])
        .await;
    let own = self_signed("daemon");
    let untrusted = bed.get(Some(&own)).await;
    ask(
        &bed.gateway,
        "Which certificate was refused, and why?",
        &untrusted,
        &["client-certificate-untrusted", &own.thumbprint()],
    )
    .await;
    let accepted = bed.get(Some(&bed.clients.client("daemon"))).await;
    accepted.assert_allowed();
    let record = bed.gateway.record(|record| record["decision"] == "allow").await;
    assert_eq!(record["tls_version"], "1.3", "{record}");

    // A client that trusts nobody breaks the handshake off.
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let tcp = TcpStream::connect(bed.gateway.address()).await.unwrap();
    let name = "gateway.contoso.example".try_into().unwrap();
    TlsConnector::from(Arc::new(client)).connect(name, tcp).await.unwrap_err();
    bed.gateway.record(|record| record["event"] == "handshake-failed").await;
    assert_answer(&bed.gateway, "Why did the TLS handshake fail?", "", &["127.0.0.1", "UnknownCA"]);
}

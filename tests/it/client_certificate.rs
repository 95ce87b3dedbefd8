//! Tests of authentication by certificate: in the handshake, or forwarded by a proxy.

use std::{path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use entrada::{
    Document, Reason,
    dev_tenant::{DevTenant, Options},
};
use http::StatusCode;
use rcgen::{ExtendedKeyUsagePurpose, SerialNumber, date_time_ymd};
use rustls::HandshakeKind;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{Answer, Authority, Gateway, Identity, RawConnection, Upstream, client_of, self_signed, tls_of};

/// A gateway whose listener asks for certificates, the authorities of both sides, and a backend.
struct CertificateBed {
    folder: TempDir,
    servers: Authority,
    clients: Authority,
    upstream: Upstream,
    gateway: Gateway,
}

const ROUTE: &str =
    "- { name: orders, match: { path: /orders }, inbound: [ validate-client-certificate: {} ], upstream: backend }";

impl CertificateBed {
    async fn open(mode: &str, routes: &str) -> Self {
        Self::with_lists(mode, routes, false).await
    }

    /// Makes a gateway with a revocation list that contains the serial number 666, if there are `lists`.
    async fn with_lists(mode: &str, routes: &str, lists: bool) -> Self {
        Self::with_more(mode, routes, lists, |_| String::new()).await
    }

    /// Does the same with further top-level keys, which may name files of the clients' authority.
    async fn with_more(mode: &str, routes: &str, lists: bool, more: impl FnOnce(&Authority) -> String) -> Self {
        let (servers, clients) = (Authority::new("Contoso Servers"), Authority::new("Fabrikam Root"));
        let folder = TempDir::new().unwrap();
        servers.server("gateway.contoso.example").write(folder.path(), "server");
        let upstream = Upstream::start().await;
        std::fs::write(folder.path().join("ca.pem"), clients.pem()).unwrap();
        std::fs::write(folder.path().join("root.crl"), clients.revoked(&[666])).unwrap();
        let more = more(&clients);
        let gateway = Gateway::start(&format!("{}\n{more}", config(&folder, &upstream, mode, routes, lists))).await;
        Self { folder, servers, clients, upstream, gateway }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn reload(&mut self, mode: &str, routes: &str, lists: bool) {
        let config = config(&self.folder, &self.upstream, mode, routes, lists);
        self.gateway.reload(&config).await;
    }

    /// Sends a GET request with this certificate.
    async fn get(&self, target: &str, identity: Option<&Identity>) -> Answer {
        self.get_with(target, identity, false).await
    }

    async fn get_with(&self, target: &str, identity: Option<&Identity>, http2: bool) -> Answer {
        let client = client_of(&self.servers, identity, http2);
        let request = client.get(format!("https://{}{target}", self.gateway.address()));
        Answer::read(request.send().await.expect("the gateway answers")).await
    }

    /// Returns the detail of the recorded event after a failed handshake.
    async fn event(&self, identity: Option<&Identity>) -> String {
        let request = client_of(&self.servers, identity, false).get(format!("https://{}/orders", self.gateway.address()));
        request.send().await.expect_err("the handshake ends");
        let record = self.gateway.record(|record| record["event"] == "handshake-failed").await;
        record["detail"].as_str().unwrap().to_owned()
    }
}

fn config(folder: &TempDir, upstream: &Upstream, mode: &str, routes: &str, lists: bool) -> String {
    let file = |name: &str| folder.path().join(name).display().to_string();
    let lists = if lists { file("root.crl") } else { String::new() };
    format!(
        "listeners:\n  - name: public\n    address: \"127.0.0.1:0\"\n    tls: {{ certificate: {}, private-key: {} }}\n    \
         client-certificates: {{ mode: {mode}, ca: {}, crl: [{lists}] }}\n\
         upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\nroutes:\n{}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem"),
        upstream.url(),
        routes.lines().map(|line| format!("  {line}\n")).collect::<String>(),
    )
}

#[tokio::test]
async fn a_trusted_certificate_is_let_through_and_recorded() {
    let bed = CertificateBed::open("optional", ROUTE).await;
    let daemon = bed.clients.client("daemon");

    for http2 in [false, true] {
        bed.get_with("/orders/7", Some(&daemon), http2).await.assert_allowed();
        let record = bed.gateway.record(|record| record["decision"] == "allow").await;
        assert_eq!(record["client_certificate"], daemon.thumbprint());
    }

    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn where_certificates_are_optional_each_defect_is_told_to_the_caller() {
    let route = "- name: orders
  match: { path: /orders }
  inbound: [ validate-client-certificate: { identities: [ { common-name: daemon }, { uri: spiffe://fabrikam.example/robot } ] } ]
  upstream: backend";
    let bed = CertificateBed::with_lists("optional", route, true).await;
    let stranger = Authority::new("Fabrikam Root");
    let years = |from, until| {
        move |params: &mut rcgen::CertificateParams| {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        }
    };
    let cases = [
        ("none", None, Some(Reason::ClientCertificateMissing)),
        ("the one", Some(bed.clients.client("daemon")), None),
        ("another one", Some(bed.clients.client("robot")), None),
        ("not one of them", Some(bed.clients.client("other")), Some(Reason::ClientCertificateNotAllowed)),
        ("of a stranger of the same name", Some(stranger.client("daemon")), Some(Reason::ClientCertificateUntrusted)),
        ("self-signed", Some(self_signed("daemon")), Some(Reason::ClientCertificateUntrusted)),
        (
            "for servers",
            Some(bed.clients.client_with("daemon", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
            Some(Reason::ClientCertificateUntrusted),
        ),
        ("over", Some(bed.clients.client_with("daemon", years(2015, 2020))), Some(Reason::ClientCertificateExpired)),
        ("to come", Some(bed.clients.client_with("daemon", years(2080, 2090))), Some(Reason::ClientCertificateExpired)),
        (
            "revoked",
            Some(bed.clients.client_with("daemon", |params| params.serial_number = Some(SerialNumber::from(666)))),
            Some(Reason::ClientCertificateRevoked),
        ),
    ];

    for (row, identity, expected) in &cases {
        let answer = bed.get("/orders", identity.as_ref()).await;
        match expected {
            None => answer.assert_allowed(),
            Some(reason) => {
                answer.assert_refused(*reason);
                let record = bed.gateway.record(|record| record["request_id"] == answer.json()["request_id"]).await;
                assert_eq!(record["policy"], "inbound[0].validate-client-certificate", "{row}");
                let thumbprint = identity.as_ref().map(Identity::thumbprint);
                assert_eq!(record["client_certificate"].as_str(), thumbprint.as_deref(), "{row}");
            }
        }
    }

    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn where_certificates_are_required_a_handshake_without_a_good_one_ends() {
    let open = "- { name: orders, match: { path: /orders }, anonymous: true, upstream: backend }";
    for (row, detail) in
        [("none", "peer sent no certificates"), ("self-signed", "UnknownIssuer"), ("over", "Expired"), ("revoked", "Revoked")]
    {
        let bed = CertificateBed::with_lists("required", open, true).await;
        let identity = match row {
            "none" => None,
            "self-signed" => Some(self_signed("daemon")),
            "over" => Some(bed.clients.client_with("daemon", |params| params.not_after = date_time_ymd(2025, 2, 1))),
            _ => Some(bed.clients.client_with("daemon", |params| params.serial_number = Some(SerialNumber::from(666)))),
        };

        let told = bed.event(identity.as_ref()).await;

        assert!(told.contains(detail), "{row}: {told}");
        assert_eq!(bed.upstream.requests(), 0);
    }

    let bed = CertificateBed::with_lists("required", open, true).await;
    let daemon = bed.clients.client("daemon");
    bed.get("/orders", Some(&daemon)).await.assert_allowed();
    let record = bed.gateway.record(|record| record["decision"] == "allow").await;
    assert_eq!(record["client_certificate"], daemon.thumbprint());
}

#[tokio::test]
async fn what_lies_between_a_certificate_and_its_authority_comes_from_the_client() {
    let bed = CertificateBed::open("optional", ROUTE).await;
    let issuing = bed.clients.subordinate("Fabrikam Issuing");

    bed.get("/orders", Some(&issuing.client_with_chain("daemon"))).await.assert_allowed();
    bed.get("/orders", Some(&issuing.client("daemon"))).await.assert_refused(Reason::ClientCertificateUntrusted);
}

/// Sends a request on a new connection, with TLS settings that resume sessions.
async fn call(bed: &CertificateBed, tls: &Arc<rustls::ClientConfig>) -> (HandshakeKind, String) {
    let tcp = TcpStream::connect(bed.gateway.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::from(bed.gateway.address().ip());
    let mut stream = TlsConnector::from(tls.clone()).connect(name, tcp).await.unwrap();
    stream.write_all(b"GET /orders HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = stream.read_to_end(&mut answer).await;
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    (kind, String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_resumed_session_brings_the_certificate_and_no_verdict() {
    let mut bed = CertificateBed::open("optional", ROUTE).await;
    let daemon = bed.clients.client_with("daemon", |params| params.serial_number = Some(SerialNumber::from(666)));
    let tls = tls_of(&bed.servers, Some(&daemon));

    let (first, answer) = call(&bed, &tls).await;
    assert!(first == HandshakeKind::Full && answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (second, answer) = call(&bed, &tls).await;
    assert!(second == HandshakeKind::Resumed && answer.starts_with("HTTP/1.1 200"), "{answer}");

    // With other settings no session of before is resumed, and the certificate is judged by the new ones.
    bed.reload("optional", ROUTE, true).await;
    let (third, answer) = call(&bed, &tls).await;
    assert_eq!(third, HandshakeKind::Full);
    assert!(answer.contains("client-certificate-revoked"), "{answer}");
    let (fourth, answer) = call(&bed, &tls).await;
    assert_eq!(fourth, HandshakeKind::Resumed);
    assert!(answer.contains("client-certificate-revoked"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_is_open_is_held_to_what_a_reload_asks() {
    let open = "- { name: orders, match: { path: /orders }, anonymous: true, upstream: backend }";
    let mut bed = CertificateBed::open("optional", open).await;
    let daemon = bed.clients.client_with("daemon", |params| params.serial_number = Some(SerialNumber::from(666)));
    let target = format!("https://{}/orders", bed.gateway.address());
    let (with, without) = (client_of(&bed.servers, Some(&daemon), true), client_of(&bed.servers, None, true));
    let get = async |client: &reqwest::Client| Answer::read(client.get(&target).send().await.unwrap()).await;
    get(&with).await.assert_allowed();
    get(&without).await.assert_allowed();

    bed.reload("required", open, true).await;

    get(&with).await.assert_refused(Reason::ClientCertificateRevoked);
    get(&without).await.assert_refused(Reason::ClientCertificateMissing);
}

#[tokio::test]
async fn authorities_and_lists_are_both_taken_over_or_neither() {
    let mut bed = CertificateBed::with_lists("optional", ROUTE, true).await;
    let daemon = bed.clients.client_with("daemon", |params| params.serial_number = Some(SerialNumber::from(5)));
    bed.get("/orders", Some(&daemon)).await.assert_allowed();

    // A list that revokes, and an authority's file that cannot be used: nothing changes.
    std::fs::write(bed.file("root.crl"), bed.clients.revoked(&[5])).unwrap();
    std::fs::write(bed.file("ca.pem"), "").unwrap();
    let broken = config(&bed.folder, &bed.upstream, "optional", ROUTE, true);
    // Off the test's thread: a server that does not start waits for its own threads.
    let refusal = tokio::task::spawn_blocking(move || Gateway::refusal(&broken)).await.unwrap();
    assert!(refusal.contains("holds no certificate") && refusal.contains("test.yaml:"), "{refusal}");
    bed.get("/orders", Some(&daemon)).await.assert_allowed();

    std::fs::write(bed.file("ca.pem"), bed.clients.pem()).unwrap();
    bed.reload("optional", ROUTE, true).await;
    bed.get("/orders", Some(&daemon)).await.assert_refused(Reason::ClientCertificateRevoked);
}

#[tokio::test]
async fn the_files_are_among_those_whose_change_calls_for_a_reload() {
    let route = ROUTE.replace("{} ]", "{ ca: CA, crl: [CRL] } ]");
    let other = TempDir::new().unwrap();
    let authority = Authority::new("Fabrikam Other");
    let (ca, crl) = (other.path().join("other.pem"), other.path().join("other.crl"));
    std::fs::write(&ca, authority.pem()).unwrap();
    std::fs::write(&crl, authority.revoked(&[])).unwrap();
    let route = route.replace("CA", &ca.display().to_string()).replace("CRL", &crl.display().to_string());
    let bed = CertificateBed::with_lists("optional", &route, true).await;

    let files = bed.gateway.server().runtime().files.clone();

    for file in [bed.file("ca.pem"), bed.file("root.crl"), ca, crl] {
        assert!(files.contains(&file), "{}", file.display());
    }
    // The policy's own authority counts, and not the listener's.
    bed.get("/orders", Some(&authority.client("daemon"))).await.assert_allowed();
    bed.get("/orders", Some(&bed.clients.client("daemon"))).await.assert_refused(Reason::ClientCertificateUntrusted);
}

#[test]
fn a_listener_that_could_check_nothing_is_refused_at_start() {
    let folder = TempDir::new().unwrap();
    let clients = Authority::new("Fabrikam Root");
    clients.server("gateway.contoso.example").write(folder.path(), "server");
    std::fs::write(folder.path().join("ca.pem"), clients.pem()).unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!("tls: {{ certificate: {}, private-key: {} }}", file("server.pem"), file("server.key"));
    let ca = file("ca.pem");
    for (listener, expected) in [
        (format!("client-certificates: {{ mode: optional, ca: {ca} }}"), "clients show certificates in TLS alone"),
        (format!("{tls}, client-certificates: {{ mode: required, ca: /nowhere.pem }}"), "cannot be read"),
        (format!("{tls}, client-certificates: {{ mode: required, ca: {} }}", file("server.key")), "holds no certificate"),
        (format!("{tls}, client-certificates: {{ mode: required, ca: {} }}", file("server.pem")), "is not an authority"),
        (format!("{tls}, client-certificates: {{ mode: required, ca: {ca}, crl: [{ca}] }}"), "holds no revocation list"),
    ] {
        let listener = format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", {listener} }} ]");
        let refusal = Gateway::refusal(&format!(
            "{listener}\nroutes: [ {{ name: ping, match: {{ path: /ping }}, anonymous: true, respond: {{ status: 204 }} }} ]"
        ));
        assert!(refusal.contains(expected) && refusal.contains("test.yaml:"), "{expected}: {refusal}");
    }
    for (listener, expected) in [("mode: required", "`ca` is missing"), ("ca: ca.pem", "`mode` is missing")] {
        let text = format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\", client-certificates: {{ {listener} }} }} ]");
        let report = Document::from_text("test.yaml", &text).expect_err(expected).to_string();
        assert!(report.contains(expected), "{report}");
    }
}

#[tokio::test]
async fn a_route_without_the_policy_asks_nobody() {
    let routes = format!("{ROUTE}\n- {{ name: ping, match: {{ path: /ping }}, anonymous: true, respond: {{ status: 204 }} }}");
    let bed = CertificateBed::open("optional", &routes).await;

    for identity in [None, Some(self_signed("daemon"))] {
        let answer = bed.get("/ping", identity.as_ref()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }
}

/// Returns the `tenants` key for a development tenant.
fn tenants(tenant: &DevTenant) -> String {
    format!("tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}", tenant.tenant_id(), tenant.base_url())
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_for_whoever_holds_its_key() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let policy = |more: &str| {
        format!("validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read]{more} }}")
    };
    let routes = format!(
        "- {{ name: any, match: {{ path: /any }}, inbound: [ {} ], authorization: keep, upstream: backend }}\n\
         - {{ name: bound, match: {{ path: /bound }}, inbound: [ {} ], upstream: backend }}",
        policy(""),
        policy(", token-binding: certificate")
    );
    let bed = CertificateBed::with_more("optional", &routes, false, |_| tenants(&tenant)).await;
    // Nobody has to vouch for it: the token says which one it is.
    let (own, other) = (self_signed("daemon"), self_signed("daemon"));
    let token = || tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let (plain, bound) = (token().sign(), token().claim("cnf", json!({ "x5t#S256": own.x5t_s256() })).sign());
    let key = token().claim("cnf", json!({ "jkt": own.x5t_s256() })).sign();

    for (row, path, token, identity, expected) in [
        ("a bearer token", "/any", &plain, None, true),
        ("a bearer token where a bound one is asked for", "/bound", &plain, Some(&own), false),
        ("bound", "/any", &bound, Some(&own), true),
        ("bound, as asked for", "/bound", &bound, Some(&own), true),
        ("stolen", "/any", &bound, None, false),
        ("stolen by somebody with a certificate", "/any", &bound, Some(&other), false),
        ("bound to a key of which there is no proof", "/any", &key, Some(&own), false),
    ] {
        for http2 in [false, true] {
            let client = client_of(&bed.servers, identity, http2);
            let request = client.get(format!("https://{}{path}", bed.gateway.address())).bearer_auth(token);
            let answer = Answer::read(request.send().await.unwrap()).await;
            if expected {
                assert_eq!(answer.status, StatusCode::OK, "{row}: {:?}", answer.body);
            } else {
                answer.assert_refused(Reason::TokenBindingMissing);
                assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"), "{row}");
            }
        }
    }

    assert_eq!(bed.upstream.requests(), 6);
}

#[tokio::test]
async fn a_partner_that_is_pinned_needs_its_token_and_its_certificate() {
    const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let route = "- name: orders
  match: { path: /orders }
  inbound: [ { validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] } }, { check-partner: {} } ]
  upstream: backend";
    let (own, other) = (self_signed("daemon"), self_signed("daemon"));
    let partner = format!(
        "partners: {{ fabrikam: {{ client-application-ids: [{FABRIKAM}], addresses: [127.0.0.1], client-certificate: {{ thumbprints: [\"{}\"] }} }} }}",
        own.thumbprint()
    );
    let bed = CertificateBed::with_more("optional", route, false, |_| format!("{}\n{partner}", tenants(&tenant))).await;
    let token = tenant.token().app(FABRIKAM).audience("api://orders").sign();
    let call = async |identity: Option<&Identity>| {
        let request = client_of(&bed.servers, identity, true).get(format!("https://{}/orders", bed.gateway.address()));
        Answer::read(request.bearer_auth(&token).send().await.unwrap()).await
    };

    call(Some(&own)).await.assert_allowed();
    for identity in [None, Some(&other)] {
        let answer = call(identity).await;
        answer.assert_refused(Reason::PartnerCredentialTooWeak);
        let record = bed.gateway.record(|record| record["request_id"] == answer.json()["request_id"]).await;
        assert_eq!(record["partner"], "fabrikam");
        assert_eq!(record["client_certificate"].as_str(), identity.map(Identity::thumbprint).as_deref());
    }

    assert_eq!(bed.upstream.requests(), 1);
}

/// Starts a gateway without TLS behind a proxy of these addresses, which forwards certificates in this field.
async fn behind_a_proxy(clients: &Authority, header: &str, addresses: &str) -> (TempDir, Upstream, Gateway) {
    let listener = "trusted-proxies: [127.0.0.1]";
    behind_a_proxy_at(clients, listener, &format!("header: {header}, addresses: [{addresses}]")).await
}

/// Does the same with these trust settings of the listener and of `from`.
async fn behind_a_proxy_at(clients: &Authority, listener: &str, from: &str) -> (TempDir, Upstream, Gateway) {
    let (folder, upstream) = (TempDir::new().unwrap(), Upstream::start().await);
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, clients.pem()).unwrap();
    let gateway = Gateway::start(&format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\", {listener} }} ]\n\
         upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\n\
         routes:\n  - name: orders\n    match: {{ path: /orders }}\n    inbound:\n      \
         - validate-client-certificate: {{ ca: {}, from: {{ {from} }} }}\n      \
         - set-header: {{ name: X-Daemon, value: \"@(caller.certificate.common_name + ' ' + caller.certificate.uris[0])\" }}\n    upstream: backend\n  \
         - {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}",
        upstream.url(),
        ca.display(),
    ))
    .await;
    (folder, upstream, gateway)
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[tokio::test]
async fn a_certificate_that_a_proxy_hands_on_is_judged_here() {
    let clients = Authority::new("Fabrikam Root");
    let issuing = clients.subordinate("Fabrikam Issuing");
    let daemon = clients.client("daemon");
    let base64 = STANDARD.encode(&daemon.der);
    for (header, value) in [
        ("X-ARR-ClientCert", base64.clone()),
        ("Client-Cert", format!(":{base64}:")),
        ("X-SSL-Cert", escaped(&daemon.chain)),
        ("X-SSL-Cert", daemon.chain.trim_end().replace('\n', " ")),
        ("X-Forwarded-Client-Cert", format!("Hash=00;Cert=\"{}\";Subject=\"CN=daemon\"", escaped(&daemon.chain))),
        ("X-SSL-Cert", escaped(&issuing.client_with_chain("daemon").chain)),
    ] {
        let (_folder, upstream, gateway) = behind_a_proxy(&clients, header, "127.0.0.1").await;

        gateway.get("/orders").header(header, &value).header("x-daemon", "forged").send().await.assert_allowed();

        let received = upstream.last();
        assert_eq!(received.value("x-daemon"), Some("daemon spiffe://fabrikam.example/daemon"), "{value}");
        assert_eq!(received.values(header), [""; 0]);
    }

    let (_folder, upstream, gateway) = behind_a_proxy(&clients, "X-SSL-Cert", "127.0.0.1").await;
    let stranger = Authority::new("Fabrikam Root").client("daemon");
    let over = clients.client_with("daemon", |params| params.not_after = date_time_ymd(2025, 2, 1));
    let other = STANDARD.encode(&clients.client("other").der);
    for (value, reason) in [
        ("".to_owned(), Reason::ClientCertificateMissing),
        // A certificate is no secret: a client may send a copy of another's to a proxy that adds what it verified.
        (format!("{base64},{other}"), Reason::ClientCertificateUntrusted),
        (escaped(&stranger.chain), Reason::ClientCertificateUntrusted),
        (escaped(&over.chain), Reason::ClientCertificateExpired),
        (escaped("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), Reason::ClientCertificateUntrusted),
        ("nonsense!".to_owned(), Reason::ClientCertificateUntrusted),
    ] {
        gateway.get("/orders").header("x-ssl-cert", &value).send().await.assert_refused(reason);
    }
    let twice = gateway.get("/orders").header("x-ssl-cert", &base64).header("x-ssl-cert", &base64);
    twice.send().await.assert_refused(Reason::ClientCertificateUntrusted);
    gateway.get("/orders").send().await.assert_refused(Reason::ClientCertificateMissing);
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_certificate_in_a_header_is_believed_from_the_proxy_alone() {
    let clients = Authority::new("Fabrikam Root");
    let value = STANDARD.encode(&clients.client("daemon").der);
    let (_folder, upstream, gateway) = behind_a_proxy(&clients, "X-SSL-Cert", "192.0.2.1").await;

    // Not by claiming to be the proxy, nor by another spelling.
    for (name, forwarded) in [("X-SSL-Cert", None), ("X-SSL-Cert", Some("192.0.2.1")), ("X_SSL_Cert", None)] {
        let mut request = gateway.get("/orders").header(name, &value);
        if let Some(address) = forwarded {
            request = request.header("X-Forwarded-For", address);
        }
        request.send().await.assert_refused(Reason::ClientCertificateMissing);
    }
    assert_eq!(upstream.requests(), 0);

    // Nor does it reach a backend on a route that asks nobody.
    for name in ["X-SSL-Cert", "x_ssl_cert", "X.SSL.Cert", "X-Daemon"] {
        gateway.get("/open").header(name, &value).send().await.assert_allowed();
        assert_eq!(upstream.last().values(name), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn a_proxy_whose_addresses_are_shared_proves_itself_before_its_certificates_are_believed() {
    let clients = Authority::new("Fabrikam Root");
    let value = STANDARD.encode(&clients.client("daemon").der);
    let from = "header: X-SSL-Cert, addresses: [127.0.0.1], require-header: { X-Azure-FDID: [5f5f0000-1111] }";
    let (_folder, upstream, gateway) = behind_a_proxy_at(&clients, "trusted-proxies: [127.0.0.1]", from).await;
    let call = || gateway.get("/orders").header("X-SSL-Cert", &value);

    call().header("X-Azure-FDID", "5f5f0000-1111").send().await.assert_allowed();
    let another = call().header("X-Azure-FDID", "00000000-1111").send().await;
    let both = call().header("X-Azure-FDID", "5f5f0000-1111").header("X-Azure-FDID", "00000000-1111").send().await;

    for answer in [call().send().await, another, both] {
        answer.assert_refused(Reason::ClientCertificateMissing);
    }
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn a_certificate_in_a_header_is_not_believed_where_nobody_knows_whose_connection_it_is() {
    let clients = Authority::new("Fabrikam Root");
    let value = STANDARD.encode(&clients.client("daemon").der);
    let listener = "trusted-proxies: [127.0.0.1], proxy-protocol: required";
    // The balancer is a proxy that is believed, and so is a proxy behind it: neither of them has written these bytes, as far as is known.
    let from = "header: X-SSL-Cert, addresses: [127.0.0.1, 192.0.2.7]";
    let (_folder, upstream, gateway) = behind_a_proxy_at(&clients, listener, from).await;
    let local =
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20, 0x11, 0, 12, 192, 0, 2, 7, 203, 0, 113, 1, 0x12, 0x67, 0x01, 0xBB]].concat();

    for (header, believed) in [
        (&b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 443\r\n"[..], true),
        (b"PROXY TCP4 192.0.2.8 203.0.113.1 4711 443\r\n", false),
        (b"PROXY UNKNOWN\r\n", false),
        (b"PROXY UNKNOWN 192.0.2.7 203.0.113.1 4711 443\r\n", false),
        (&local, false),
    ] {
        let request = format!("GET /orders HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-SSL-Cert: {value}\r\n\r\n");
        let mut connection = RawConnection::open(gateway.address()).await;
        connection.send(&[header, request.as_bytes()].concat()).await;
        let answer = connection.read_to_end().await;

        let shown = String::from_utf8_lossy(header);
        if believed {
            assert!(answer.starts_with("HTTP/1.1 200"), "{shown}: {answer}");
            assert_eq!(upstream.last().value("x-daemon"), Some("daemon spiffe://fabrikam.example/daemon"));
        } else {
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("client-certificate-missing"), "{shown}: {answer}");
        }
    }
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn an_expression_cannot_read_a_certificate_that_nobody_accepted() {
    let route = |inbound: &str| {
        format!(
            "upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:3000\"] }} }}\n\
             routes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, inbound: [ {inbound} ], upstream: backend }} ]"
        )
    };

    let refusal = Gateway::refusal(&route("set-header: { name: X-Daemon, value: \"@(caller.certificate.subject)\" }"));
    assert!(refusal.contains("nothing before it accepts one"), "{refusal}");
    let refusal = Gateway::refusal(&route("validate-client-certificate: {}"));
    assert!(refusal.contains("no listener asks clients for certificates"), "{refusal}");
}

#[tokio::test]
async fn the_gateway_shows_its_own_certificate_to_a_backend_that_asks() {
    let open = "- { name: orders, match: { path: /orders }, anonymous: true, upstream: backend }";
    // The backend is another gateway, which requires a certificate and remembers which one it saw.
    let backend = CertificateBed::with_lists("required", open, false).await;
    let folder = TempDir::new().unwrap();
    let (first, second) = (backend.clients.client("gateway"), backend.clients.client("gateway"));
    let write = |identity: &Identity| {
        // In one file, the key first and the authority before the certificate: what belongs together is found.
        std::fs::write(folder.path().join("both.pem"), format!("{}{}{}", identity.key, backend.clients.pem(), identity.chain))
            .unwrap();
    };
    std::fs::write(folder.path().join("servers.pem"), backend.servers.pem()).unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let config = |certificate: &str| {
        format!(
            "upstreams: {{ backend: {{ servers: [\"https://{}\"], tls: {{ ca: {}{certificate} }} }} }}\nroutes: [ {} ]",
            backend.gateway.address(),
            file("servers.pem"),
            &open[2..],
        )
    };
    let with = config(&format!(", client-certificate: {{ pem: {} }}", file("both.pem")));
    write(&first);
    let mut gateway = Gateway::start(&with).await;
    gateway.get("/orders").send().await.assert_allowed();
    backend.gateway.record(|record| record["client_certificate"] == first.thumbprint()).await;
    assert!(gateway.server().runtime().files.contains(&folder.path().join("both.pem")));

    // Another certificate in the same file: connections that are open go, and new ones show the new one.
    write(&second);
    gateway.reload(&with).await;
    gateway.get("/orders").send().await.assert_allowed();
    backend.gateway.record(|record| record["client_certificate"] == second.thumbprint()).await;
    let admin = gateway.admin_address();
    let status: serde_json::Value = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("http://{admin}/api/status"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(status["upstreams"][0]["client_certificate"]["thumbprint"], second.thumbprint());
    assert!(status["upstreams"][0]["client_certificate"]["days_left"].as_i64().unwrap() > 1_000);

    let without = Gateway::start(&config("")).await;
    let answer = without.get("/orders").send().await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{:?}", answer.body);
}

//! Tests of the gateway's own identity: many callers, rotations, outages, challenges, on the test's own clock.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use entrada::{
    Clock, Reason, ServerOptions,
    dev_tenant::{DevTenant, Fault, Options},
};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::support::{Answer, Gateway, ORDERS_TOKEN, Received, Upstream, config};

/// The application that routes use: its certificate is in the vault.
const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// The application that opens the vault, with a secret.
const OPENER: &str = "77778888-bbbb-9999-cccc-0000dddd1111";

/// A development tenant, an upstream and a gateway, all on one clock that only the test advances.
struct Scene {
    clock: Clock,
    tenant: DevTenant,
    upstream: Upstream,
    config: String,
}

impl Scene {
    /// Starts one route, `/orders`, that calls the upstream with the token of a vault's certificate; `more` are further routes.
    async fn set(upstream: Upstream, scope: &str, more: &str) -> Self {
        let clock = Clock::manual(1_800_000_000);
        let tenant = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
        let (_, der) = tenant.vault_certificate("gateway-key", false, 365);
        tenant.update_app(GATEWAY, |app| app.certificate_der(&der));
        tenant.update_app(OPENER, |app| app.secret("opens-the-vault").granted("https://vault.azure.net", ["user_impersonation"]));
        // The vault gives no private key to the one who opens it.
        tenant.vault_restrict(OPENER, &["certificates/get", "keys/sign", "secrets/get"]);
        let routes = format!(
            "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: {{ credential: gateway, scope: \"{scope}\" }}, upstream: backend }}{more}"
        );
        let credentials = format!(
            "named-values:
  word: {{ value: opens-the-vault, secret: true }}
  partner-key: {{ key-vault: {{ vault: \"{base}\", secret: partner-key, identity: opener }} }}
credentials:
  opener: {{ tenant: contoso, client-id: {OPENER}, client-secret: \"{{{{word}}}}\" }}
  gateway:
    tenant: contoso
    client-id: {GATEWAY}
    certificate: {{ key-vault: {{ vault: \"{base}\", certificate: gateway-key, identity: opener }} }}",
            base = tenant.base_url(),
        );
        let config = config(&tenant, &upstream, &routes, &credentials);
        Self { clock, tenant, upstream, config }
    }

    async fn open(&self) -> Gateway {
        let options = ServerOptions { workers: 1, clock: self.clock.clone(), ..ServerOptions::default() };
        Gateway::start_with(&self.config, options).await
    }

    fn caller(&self) -> String {
        self.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign()
    }

    async fn call(&self, gateway: &Gateway) -> Answer {
        gateway.get("/orders").bearer(self.caller()).send().await
    }

    /// Sends some requests and advances the clock, `steps` times. Every request is admitted, and the token that the upstream
    /// received is valid at that moment.
    async fn serve(&self, gateway: &Gateway, steps: u32, each: Duration) {
        for step in 0..steps {
            for _ in 0..2 {
                let answer = self.call(gateway).await;
                assert_eq!(answer.status, StatusCode::OK, "step {step}: {:?}", answer.body);
                let received = self.upstream.last();
                let token = received.value("authorization").unwrap().strip_prefix("Bearer ").unwrap();
                assert!(self.tenant.verify(token).is_some(), "step {step}: an expired token was sent");
            }
            self.clock.advance(each);
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const SCOPE: &str = "api://orders-internal/.default";

#[tokio::test]
async fn five_hundred_cold_requests_cause_one_token_request_and_one_signature() {
    let scene = Scene::set(Upstream::start().await, SCOPE, "").await;
    let hold = scene.tenant.hold("/certificates/");
    let gateway = scene.open().await;
    scene.tenant.arrived("/certificates/gateway-key", 1).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (url, caller) = (format!("http://{}/orders", gateway.address()), scene.caller());
    let waiting: Vec<_> = (0..500).map(|_| tokio::spawn(client.get(&url).bearer_auth(&caller).send())).collect();

    drop(hold);

    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    let asked = scene.tenant.requests("/token");
    let by = |client: &str| asked.iter().filter(|request| request.field("client_id").as_deref() == Some(client)).count();
    assert_eq!((by(GATEWAY), by(OPENER)), (1, 1));
    assert_eq!(scene.tenant.calls("/sign"), 1);
    assert_eq!(scene.tenant.calls("/secrets/gateway-key"), 0);
    assert_eq!(scene.upstream.requests(), 500);
}

#[tokio::test]
async fn outages_throttling_and_a_rotation_fail_no_request_while_a_token_lives() {
    let scene = Scene::set(Upstream::start().await, SCOPE, "").await;
    let gateway = scene.open().await;

    // Entra is out from before the renewal until a minute before the token's end.
    scene.serve(&gateway, 45, MINUTE).await;
    scene.tenant.forget_calls();
    scene.tenant.fail(Fault::on("/token").status(503));
    scene.serve(&gateway, 14, MINUTE).await;
    // Renewals run in the background: on a busy machine the first may still be on its way.
    scene.tenant.arrived("/token", 1).await;
    assert!((1..=20).contains(&scene.tenant.calls("/token")), "{}", scene.tenant.calls("/token"));
    scene.tenant.recover();

    // The vault is out for as long, and then throttles. The token of whoever opens it is renewed meanwhile.
    scene.serve(&gateway, 40, MINUTE).await;
    scene.tenant.fail(Fault::on("/keys/").status(503));
    scene.serve(&gateway, 9, MINUTE).await;
    scene.tenant.recover();
    scene.tenant.fail(Fault::on("/keys/").status(429).header("retry-after", "120"));
    scene.tenant.forget_calls();
    scene.serve(&gateway, 8, MINUTE).await;
    assert!(scene.tenant.calls("/sign") <= 5, "two minutes apart: {}", scene.tenant.calls("/sign"));
    scene.tenant.recover();

    // Entra throttles.
    scene.serve(&gateway, 40, MINUTE).await;
    scene.tenant.forget_calls();
    scene.tenant.fail(Fault::on("/token").status(429).header("retry-after", "180"));
    scene.serve(&gateway, 14, MINUTE).await;
    let asked = scene.tenant.requests("/token");
    let by = |client: &str| asked.iter().filter(|request| request.field("client_id").as_deref() == Some(client)).count();
    assert!(by(GATEWAY) <= 5 && by(OPENER) <= 5, "three minutes apart: {} {}", by(GATEWAY), by(OPENER));
    scene.tenant.recover();

    // The vault renews the certificate; later somebody uploads it, and takes the old one away.
    scene.serve(&gateway, 30, MINUTE).await;
    let (_, der) = scene.tenant.vault_certificate("gateway-key", false, 365);
    scene.serve(&gateway, 60, MINUTE).await;
    scene.tenant.update_app(GATEWAY, |mut app| {
        app.certificates.clear();
        app.certificate_der(&der)
    });
    scene.serve(&gateway, 120, MINUTE).await;

    let secrets = scene.tenant.requests("/secrets/gateway-key");
    assert!(secrets.is_empty(), "the private key was never asked for");
}

/// Returns the claims of a JWT, unverified.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn bearer(received: &Received) -> &str {
    received.value("authorization").unwrap().strip_prefix("Bearer ").unwrap()
}

/// Makes an upstream that demands claims: of tokens whose client does not announce support, or of all.
fn demanding(always: bool) -> impl Fn(&Received) -> Response<Full<Bytes>> + Send + Sync + 'static {
    move |received| {
        if !always && claims(bearer(received))["xms_cc"][0] == "cp1" {
            return Response::new(Full::from("from the backend"));
        }
        // {"access_token":{"nbf":{"essential":true,"value":"1760000000"}}}
        let claims = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzYwMDAwMDAwIn19fQ==";
        Response::builder()
            .status(401)
            .header("www-authenticate", "Basic realm=\"other\"")
            .header("www-authenticate", format!("Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{claims}\""))
            .body(Full::from("the upstream's own business"))
            .unwrap()
    }
}

#[tokio::test]
async fn a_claims_challenge_of_the_upstream_is_answered_once_with_the_claims() {
    let scene = Scene::set(Upstream::answering(demanding(false)).await, "https://graph.microsoft.com/.default", "").await;
    let gateway = scene.open().await;

    scene.call(&gateway).await.assert_allowed();
    scene.call(&gateway).await.assert_allowed();

    assert_eq!(scene.upstream.requests(), 3, "one was refused; the fresh token serves from then on");
    let asked: Vec<_> = scene.tenant.requests("/token").iter().filter_map(|request| request.field("claims")).collect();
    let [asked] = &asked[..] else { panic!("{asked:?}") };
    let asked: Value = serde_json::from_str(asked).unwrap();
    assert_eq!(asked["access_token"]["nbf"]["value"], "1760000000");
    assert_eq!(asked["access_token"]["xms_cc"]["values"][0], "cp1");
}

#[tokio::test]
async fn an_upstream_that_always_challenges_gets_one_answer_and_causes_no_storm() {
    let scene = Scene::set(Upstream::answering(demanding(true)).await, "https://graph.microsoft.com/.default", "").await;
    let gateway = scene.open().await;

    let answer = scene.call(&gateway).await;

    answer.assert_refused(Reason::UpstreamRefusedCredential);
    assert_eq!(answer.header("www-authenticate"), None, "the challenge is no business of the caller's");
    assert_eq!(scene.upstream.requests(), 2);
    for _ in 0..10 {
        scene.call(&gateway).await.assert_refused(Reason::UpstreamRefusedCredential);
    }
    assert_eq!(scene.upstream.requests(), 12);
    assert_eq!(scene.tenant.requests("/token").iter().filter(|request| request.field("claims").is_some()).count(), 1);
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_refused_and_the_next_request_brings_the_claims() {
    let scene = Scene::set(Upstream::answering(demanding(false)).await, "https://graph.microsoft.com/.default", "").await;
    let gateway = scene.open().await;

    let answer = gateway.request(Method::POST, "/orders").bearer(scene.caller()).body("an order").send().await;
    answer.assert_refused(Reason::UpstreamRefusedCredential);
    assert_eq!(scene.upstream.requests(), 1, "an order is not placed twice");

    gateway.request(Method::POST, "/orders").bearer(scene.caller()).body("an order").send().await.assert_allowed();
    assert_eq!(scene.upstream.requests(), 2);
}

const WITH_KEY: &str = "
- { name: keyed, match: { path: /keyed }, anonymous: true, inbound: [ set-header: { name: X-Key, value: \"Key {{partner-key}}\" } ], upstream: backend }
- { name: open, match: { path: /open }, anonymous: true, upstream: backend }";

#[tokio::test]
async fn a_header_follows_the_vaults_secret_without_a_restart() {
    let scene = Scene::set(Upstream::start().await, SCOPE, WITH_KEY).await;
    scene.tenant.vault_secret("partner-key", "first", None);
    let mut gateway = scene.open().await;

    gateway.get("/keyed").header("X-Key", "the caller's").send().await.assert_allowed();
    assert_eq!(scene.upstream.last().values("x-key"), ["Key first"]);

    scene.tenant.vault_secret("partner-key", "second", None);
    scene.tenant.fail(Fault::on("/secrets/").status(503));
    gateway.reload(&scene.config).await;
    gateway.get("/keyed").send().await.assert_allowed();
    assert_eq!(scene.upstream.last().value("x-key"), Some("Key first"), "a reload forgets nothing");

    scene.tenant.recover();
    scene.clock.advance(Duration::from_secs(330));
    // What is due is looked for when a config takes over, and every few seconds.
    gateway.reload(&scene.config).await;
    while scene.upstream.last().value("x-key") != Some("Key second") {
        gateway.get("/keyed").send().await.assert_allowed();
    }
}

#[tokio::test]
async fn without_the_vault_the_gateway_starts_and_refuses_what_needs_it() {
    let scene = Scene::set(Upstream::start().await, SCOPE, WITH_KEY).await;
    scene.tenant.fail(Fault::on("/secrets/").status(503));
    let gateway = scene.open().await;

    gateway.get("/keyed").header("X-Key", "the caller's").send().await.assert_refused(Reason::CredentialUnavailable);
    assert_eq!(scene.upstream.requests(), 0);
    gateway.get("/open").send().await.assert_allowed();
    scene.call(&gateway).await.assert_allowed();

    let status: Value =
        reqwest::get(format!("http://{}/api/status", gateway.admin_address())).await.unwrap().json().await.unwrap();
    let secret = &status["vault_secrets"][0];
    assert_eq!((&secret["name"], &secret["ready"]), (&"partner-key".into(), &false.into()));
    assert!(secret["last_error"].as_str().unwrap().contains("503"), "{secret}");

    let metrics = reqwest::get(format!("http://{}/metrics", gateway.admin_address())).await.unwrap().text().await.unwrap();
    for line in [
        "entrada_credential_ready{credential=\"gateway\"} 1",
        "entrada_credential_token_requests_total{credential=\"gateway\"} 1",
        "entrada_credential_token_failures_total{credential=\"gateway\"} 0",
        "entrada_credential_certificate_expiry_timestamp_seconds{credential=\"gateway\",thumbprint=",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

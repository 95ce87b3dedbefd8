//! Tests of a vault's renewed certificate that Entra does not know yet: a gateway that starts in between works all the same.

use std::time::Duration;

use entrada::{
    Clock, Reason, ServerOptions,
    dev_tenant::{DevTenant, Fault, Options},
};
use serde_json::Value;

use crate::support::{Answer, Gateway, ORDERS_TOKEN, Upstream, config};

/// The application that routes use: its certificate is in the vault.
const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// The application that opens the vault, with a secret.
const OPENER: &str = "77778888-bbbb-9999-cccc-0000dddd1111";
/// A time longer than the pause of a refused version, and than a token's life.
const LATER: Duration = Duration::from_secs(2 * 3_600);

/// A development tenant with a vault, an upstream, and the config of a gateway whose certificate is in the vault.
struct Scene {
    clock: Clock,
    tenant: DevTenant,
    upstream: Upstream,
    config: String,
}

impl Scene {
    async fn set(key_use: &str) -> Self {
        let clock = Clock::manual(1_800_000_000);
        let tenant = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
        tenant.update_app(OPENER, |app| app.secret("opens-the-vault").granted("https://vault.azure.net", ["user_impersonation"]));
        let upstream = Upstream::start().await;
        let routes = format!(
            "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: {{ credential: gateway, scope: \"api://orders-internal/.default\" }}, upstream: backend }}"
        );
        let credentials = format!(
            "credentials:
  opener: {{ tenant: contoso, client-id: {OPENER}, client-secret: opens-the-vault }}
  gateway:
    tenant: contoso
    client-id: {GATEWAY}
    certificate: {{ key-vault: {{ vault: \"{}\", certificate: gateway-key, identity: opener, use: {key_use} }} }}",
            tenant.base_url(),
        );
        let config = config(&tenant, &upstream, &routes, &credentials);
        Self { clock, tenant, upstream, config }
    }

    /// Makes a version, created a second after the previous one.
    fn renew(&self, days: u32) -> (String, Vec<u8>) {
        self.clock.advance(Duration::from_secs(1));
        self.tenant.vault_certificate("gateway-key", true, days)
    }

    fn upload(&self, der: &[u8]) {
        self.tenant.update_app(GATEWAY, |app| app.certificate_der(der));
    }

    async fn open(&self) -> Gateway {
        Gateway::start_with(&self.config, ServerOptions { workers: 1, clock: self.clock.clone(), ..ServerOptions::default() })
            .await
    }

    async fn call(&self, gateway: &Gateway) -> Answer {
        let caller = self.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
        gateway.get("/orders").bearer(caller).send().await
    }

    /// Returns the number of token requests of the gateway's own application.
    fn asked(&self) -> usize {
        let requests = self.tenant.requests("/token");
        requests.iter().filter(|request| request.field("client_id").as_deref() == Some(GATEWAY)).count()
    }
}

/// Returns the status of the gateway's credential.
async fn status(gateway: &Gateway) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{}/api/status", gateway.admin_address())).send().await.unwrap();
    let status: Value = answer.json().await.unwrap();
    let credentials = status["credentials"].as_array().unwrap();
    credentials.iter().find(|credential| credential["name"] == "gateway").unwrap().clone()
}

#[tokio::test]
async fn a_gateway_that_starts_between_renewal_and_upload_uses_the_version_that_entra_knows() {
    for key_use in ["sign", "download"] {
        let scene = Scene::set(key_use).await;
        let (first, der) = scene.renew(365);
        scene.upload(&der);
        let (second, new) = scene.renew(365);

        let gateway = scene.open().await;
        scene.call(&gateway).await.assert_allowed();

        let shown = &status(&gateway).await["vault_certificates"][0];
        assert_eq!(
            (&shown["newest_version"], &shown["used_version"]),
            (&Value::from(&*second), &Value::from(&*first)),
            "{key_use}"
        );
        let note = shown["note"].as_str().unwrap();
        let expected = format!(
            "version {second} of the certificate gateway-key in the vault is not registered (AADSTS700027); version {first} is used"
        );
        assert_eq!(note, expected);

        // It is kept: the next token is asked for with it, and no list is read again.
        scene.tenant.forget_calls();
        scene.clock.advance(LATER);
        scene.call(&gateway).await.assert_allowed();
        assert_eq!(scene.tenant.calls("/certificates/gateway-key/versions"), 0);

        // Once it is uploaded the gateway moves to the newest.
        scene.upload(&new);
        scene.clock.advance(LATER);
        let answer = scene.call(&gateway).await;
        assert!(answer.status.is_success(), "{key_use}: {}", status(&gateway).await);
        let shown = &status(&gateway).await["vault_certificates"][0];
        assert_eq!((&shown["used_version"], &shown["note"]), (&Value::from(&*second), &Value::Null), "{key_use}");
    }
}

#[tokio::test]
async fn the_newest_version_is_tried_again_at_a_slow_pace() {
    let scene = Scene::set("sign").await;
    let (_, der) = scene.renew(365);
    scene.upload(&der);
    scene.renew(365);
    let gateway = scene.open().await;
    scene.call(&gateway).await.assert_allowed();
    assert_eq!(scene.asked(), 2, "the newest, and the one before it");

    scene.tenant.forget_calls();
    for _ in 0..4 {
        scene.clock.advance(LATER);
        scene.call(&gateway).await.assert_allowed();
        scene.call(&gateway).await.assert_allowed();
    }
    assert!((4..=8).contains(&scene.asked()), "once for each token, and once for the newest: {}", scene.asked());
}

#[tokio::test]
async fn versions_that_are_disabled_or_have_ended_are_not_tried() {
    let scene = Scene::set("sign").await;
    let (_, ended) = scene.renew(1);
    scene.upload(&ended);
    scene.clock.advance(Duration::from_secs(3 * 86_400));
    let (good, der) = scene.renew(365);
    scene.upload(&der);
    let (disabled, der) = scene.renew(365);
    scene.upload(&der);
    scene.renew(365);
    scene.tenant.vault_enable("gateway-key", &disabled, false);
    scene.tenant.forget_calls();

    let gateway = scene.open().await;
    scene.call(&gateway).await.assert_allowed();

    assert_eq!(scene.asked(), 2);
    let shown = &status(&gateway).await["vault_certificates"][0];
    assert_eq!(shown["used_version"], Value::from(&*good));
}

/// Tests a list of many pages, of which only the newest few are tried.
#[tokio::test]
async fn only_the_newest_few_are_tried() {
    let scene = Scene::set("sign").await;
    let (_, der) = scene.renew(365);
    scene.upload(&der);
    for _ in 0..30 {
        scene.renew(365);
    }
    scene.tenant.forget_calls();

    let gateway = scene.open().await;
    scene.call(&gateway).await.assert_refused(Reason::CredentialUnavailable);

    assert_eq!(scene.asked(), 6, "the newest and five before it");
    assert_eq!(scene.tenant.calls("/certificates/gateway-key/versions"), 2, "both pages");
    let note = status(&gateway).await["vault_certificates"][0]["note"].as_str().unwrap().to_owned();
    assert!(note.ends_with("no other one is accepted"), "{note}");
}

#[tokio::test]
async fn a_vault_that_does_not_list_is_told_with_what_entra_said() {
    for (play, told) in [
        (None, "403 ForbiddenByRbac"),
        (Some(Fault::on("/versions").status(429).header("retry-after", "20")), "429"),
        (
            Some(
                Fault::on("/versions")
                    .body("{\"value\":[],\"nextLink\":\"https://elsewhere.example/certificates/gateway-key/versions\"}")
                    .status(200),
            ),
            "goes on somewhere else",
        ),
    ] {
        let scene = Scene::set("sign").await;
        let (_, der) = scene.renew(365);
        scene.upload(&der);
        scene.renew(365);
        match play {
            None => scene.tenant.vault_restrict(OPENER, &["certificates/get", "keys/sign"]),
            Some(fault) => scene.tenant.fail(fault),
        }

        let gateway = scene.open().await;
        scene.call(&gateway).await.assert_refused(Reason::CredentialUnavailable);

        let token = &status(&gateway).await["tokens"][0]["last_error"];
        assert_eq!(token["code"], "AADSTS700027", "{token}");
        let cure = token["cure"].as_str().unwrap();
        assert!(cure.contains("the versions of the certificate gateway-key") && cure.contains(told), "{cure}");
        assert_eq!(scene.upstream.requests(), 0);
    }
}

/// Tests that only the version in the config is used.
#[tokio::test]
async fn a_pinned_version_is_the_only_one_that_is_tried() {
    let mut scene = Scene::set("sign").await;
    let (_, der) = scene.renew(365);
    scene.upload(&der);
    let (second, _) = scene.renew(365);
    scene.config = scene.config.replace("certificate: gateway-key,", &format!("certificate: gateway-key, version: {second},"));

    let gateway = scene.open().await;
    scene.call(&gateway).await.assert_refused(Reason::CredentialUnavailable);

    assert_eq!(scene.asked(), 1);
    assert_eq!(scene.tenant.calls("/certificates/gateway-key/versions"), 0);
}

//! Tests of the development tenant: Entra's shapes, and no token for a client without proof.

mod services;
mod token_endpoint;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};

use super::{
    defaults::{CONTOSO, GATEWAY, LEGACY, PARTNER},
    *,
};

const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Makes a client that connects to loopback directly, whatever proxy the machine has.
fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("client")
}

async fn fetch(url: impl reqwest::IntoUrl) -> reqwest::Result<reqwest::Response> {
    http().get(url).send().await
}

async fn tenant() -> DevTenant {
    DevTenant::start(Options::default()).await.expect("starts")
}

async fn get(tenant: &DevTenant, path: &str) -> Value {
    let answer = fetch(format!("{}{path}", tenant.base_url())).await.expect("answers");
    serde_json::from_slice(&answer.bytes().await.expect("body")).expect("JSON")
}

async fn post(tenant: &DevTenant, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = http().post(format!("{}{path}", tenant.base_url())).form(form).send().await.expect("answers");
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.expect("body")).expect("JSON"))
}

/// Returns the claims of a token, its signature verified by another library with the published keys.
async fn verified(tenant: &DevTenant, keys: &str, token: &str) -> Value {
    let set: JwkSet = serde_json::from_value(get(tenant, keys).await).expect("key set");
    let header = jsonwebtoken::decode_header(token).expect("header");
    let jwk = set.find(header.kid.as_deref().expect("kid")).expect("published key");
    let mut validation = Validation::new(header.alg);
    validation.validate_aud = false;
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(jwk).expect("key"), &validation).expect("verifies").claims
}

/// A client with a certificate, and every way to name it.
struct Client {
    key: SigningKey,
}

impl Client {
    fn new() -> Self {
        Self { key: SigningKey::generate().expect("key") }
    }

    fn sha256(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.key.certificate()).as_ref().to_vec()
    }

    fn sha1(&self) -> Vec<u8> {
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.key.certificate()).as_ref().to_vec()
    }

    fn assert_with(&self, engine: &impl base64::Engine, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", engine.encode(header.to_string()), engine.encode(claims.to_string()));
        let signature = self.key.sign(header["alg"].as_str().expect("alg"), input.as_bytes()).expect("signs");
        format!("{input}.{}", engine.encode(signature))
    }

    fn claims(tenant: &DevTenant) -> Value {
        let now = crate::base::clock::Clock::system().unix_seconds();
        json!({
            "aud": tenant.token_endpoint(CONTOSO), "iss": GATEWAY, "sub": GATEWAY, "jti": "1", "nbf": now, "exp": now + 300,
        })
    }

    fn header(&self) -> Value {
        json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(self.sha256()) })
    }

    fn assertion(&self, tenant: &DevTenant) -> String {
        self.assert_with(&URL_SAFE_NO_PAD, &self.header(), &Self::claims(tenant))
    }

    async fn registered(tenant: &DevTenant) -> Self {
        let client = Self::new();
        tenant.update_app(GATEWAY, |app| app.certificate_der(client.key.certificate()));
        client
    }
}

async fn ask(tenant: &DevTenant, assertion: &str, change: &[(&str, Option<&str>)]) -> (u16, Value) {
    let mut form = vec![
        ("client_id", GATEWAY),
        ("grant_type", "client_credentials"),
        ("scope", "api://orders-internal/.default"),
        ("client_assertion_type", BEARER),
        ("client_assertion", assertion),
    ];
    for (name, value) in change {
        form.retain(|(other, _)| other != name);
        form.extend(value.map(|value| (*name, value)));
    }
    post(tenant, &format!("/{CONTOSO}/oauth2/v2.0/token"), &form).await
}

#[tokio::test]
async fn metadata_has_entras_shapes() {
    let tenant = tenant().await;
    let base = tenant.base_url();

    let v2 = get(&tenant, &format!("/{CONTOSO}/v2.0/.well-known/openid-configuration")).await;
    let v1 = get(&tenant, "/contoso.example/.well-known/openid-configuration").await;
    let any = get(&tenant, "/organizations/v2.0/.well-known/openid-configuration").await;
    let of_app = get(&tenant, &format!("/{CONTOSO}/v2.0/.well-known/openid-configuration?appid={PARTNER}")).await;
    let nobody = get(&tenant, "/nobody.example/v2.0/.well-known/openid-configuration").await;

    assert_eq!(v2["issuer"], format!("{base}/{CONTOSO}/v2.0"));
    assert_eq!(v2["jwks_uri"], format!("{base}/{CONTOSO}/discovery/v2.0/keys"));
    assert_eq!(v1["issuer"], format!("{base}/{CONTOSO}/"));
    assert_eq!(any["issuer"], format!("{base}/{{tenantid}}/v2.0"));
    assert_eq!(of_app["jwks_uri"], format!("{base}/{CONTOSO}/discovery/v2.0/keys?appid={PARTNER}"));
    assert_eq!(nobody["error_codes"], json!([90002]));
}

#[tokio::test]
async fn key_sets_name_issuers_as_entras_do() {
    let tenant = tenant().await;
    let template = format!("{}/{{tenantid}}/v2.0", tenant.base_url());

    let v2 = get(&tenant, &format!("/{CONTOSO}/discovery/v2.0/keys")).await;
    let v1 = get(&tenant, &format!("/{CONTOSO}/discovery/keys")).await;
    let common = get(&tenant, "/common/discovery/v2.0/keys").await;

    for key in v2["keys"].as_array().expect("keys") {
        assert_eq!((&key["issuer"], &key["kty"], key.get("alg")), (&json!(template), &json!("RSA"), None));
    }
    assert!(v1["keys"].as_array().expect("keys").iter().all(|key| key.get("issuer").is_none() && key["kid"] == key["x5t"]));
    let personal = format!("{}/{PERSONAL_TENANT}/v2.0", tenant.base_url());
    assert!(common["keys"].as_array().expect("keys").iter().any(|key| key["issuer"] == personal));
}

#[tokio::test]
async fn mints_user_and_app_tokens_of_both_versions() {
    let tenant = tenant().await;
    let keys = format!("/{CONTOSO}/discovery/v2.0/keys");

    let user =
        verified(&tenant, &keys, &tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign()).await;
    let app = verified(&tenant, &keys, &tenant.token().app(PARTNER).roles(["Orders.Read"]).sign()).await;
    let v1 = verified(&tenant, &keys, &tenant.token().user("nia").audience("api://legacy").sign()).await;

    assert_eq!(
        (&user["ver"], &user["scp"], &user["iss"]),
        (&json!("2.0"), &json!("Orders.Read"), &json!(tenant.issuer_v2(CONTOSO)))
    );
    assert_eq!((&app["azp"], &app["azpacr"], &app["roles"]), (&json!(PARTNER), &json!("2"), &json!(["Orders.Read"])));
    assert_eq!(app["oid"], app["sub"]);
    assert!(app.get("scp").is_none() && user["oid"] != user["sub"]);
    assert_eq!((&v1["ver"], &v1["iss"], &v1["appidacr"]), (&json!("1.0"), &json!(tenant.issuer_v1(CONTOSO)), &json!("0")));
}

#[tokio::test]
async fn mapped_claims_are_absent_where_the_user_has_no_value() {
    let tenant = tenant().await;
    tenant.update_app(LEGACY, |app| {
        app.mapped_claim("onpremisessamaccountname", "onpremisessamaccountname").accepts_mapped_claims()
    });
    let keys = format!("/{CONTOSO}/discovery/keys");

    let synced = verified(&tenant, &keys, &tenant.token().user("nia").audience("api://legacy").sign()).await;
    let cloud_only = verified(&tenant, &keys, &tenant.token().user("otto").audience("api://legacy").sign()).await;

    assert_eq!(synced["onpremisessamaccountname"], "nokafor");
    assert!(cloud_only.get("onpremisessamaccountname").is_none());
}

#[tokio::test]
async fn an_apps_own_key_is_published_only_with_its_id() {
    let tenant = tenant().await;
    tenant.update_app(LEGACY, App::own_signing_key);
    let token = tenant.token().audience("api://legacy").sign();
    let kid = jsonwebtoken::decode_header(&token).expect("header").kid;

    let plain: JwkSet = serde_json::from_value(get(&tenant, &format!("/{CONTOSO}/discovery/keys")).await).expect("keys");

    verified(&tenant, &format!("/{CONTOSO}/discovery/keys?appid={LEGACY}"), &token).await;
    assert!(plain.find(kid.as_deref().expect("kid")).is_none());
}

#[tokio::test]
async fn rolling_signs_with_a_new_key_and_keeps_the_old_one_until_it_retires() {
    let tenant = tenant().await;
    let keys = format!("/{CONTOSO}/discovery/v2.0/keys");
    let old = tenant.token().sign();

    let kid = tenant.roll_keys();
    let new = tenant.token().sign();

    assert_eq!(jsonwebtoken::decode_header(&new).expect("header").kid, Some(kid));
    verified(&tenant, &keys, &old).await;
    verified(&tenant, &keys, &new).await;
    tenant.retire_keys();
    assert_eq!(get(&tenant, &keys).await["keys"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn fails_as_often_as_asked_and_counts() {
    let tenant = tenant().await;
    let client = Client::registered(&tenant).await;
    let assertion = client.assertion(&tenant);
    tenant.fail(Fault::on("/token").status(429).header("Retry-After", "7").times(1));
    tenant.fail(Fault::on("/token").aadsts(50079).member("claims", "{\"access_token\":{}}").times(1));

    let url = tenant.token_endpoint(CONTOSO);
    let first = http().post(&url).form(&[("a", "b")]).send().await.expect("answers");
    let (second, answer) = ask(&tenant, &assertion, &[]).await;
    let (third, _) = ask(&tenant, &assertion, &[]).await;

    assert_eq!((first.status().as_u16(), first.headers()["retry-after"].as_bytes()), (429, &b"7"[..]));
    assert_eq!(
        (second, &answer["error"], &answer["claims"]),
        (400, &json!("interaction_required"), &json!("{\"access_token\":{}}"))
    );
    assert_eq!((third, tenant.calls("/token")), (200, 3));
    assert_eq!(tenant.requests("/token")[2].field("client_id").as_deref(), Some(GATEWAY));
}

#[tokio::test]
async fn held_requests_wait_until_they_are_let_go() {
    let tenant = tenant().await;
    let hold = tenant.hold("/keys");
    let url = format!("{}/{CONTOSO}/discovery/v2.0/keys", tenant.base_url());

    let waiting = tokio::spawn(fetch(url));
    tenant.arrived("/keys", 1).await;
    assert!(!waiting.is_finished());
    drop(hold);

    assert_eq!(waiting.await.expect("runs").expect("answers").status().as_u16(), 200);
}

#[tokio::test]
async fn an_answer_can_break_off() {
    let tenant = tenant().await;
    for fault in [Fault::on("/openid-configuration").body("{\"issuer\":").cut(), Fault::on("/openid-configuration").cut()] {
        tenant.fail(fault.times(1));

        let answer = fetch(format!("{}/{CONTOSO}/v2.0/.well-known/openid-configuration", tenant.base_url())).await;

        // The head arrives, and the connection ends before what it promises.
        let answer = answer.expect("a head");
        assert_eq!((answer.status().as_u16(), answer.content_length()), (200, Some(65_536)));
        assert!(answer.bytes().await.is_err_and(|error| !error.is_timeout()));
    }
}

#[tokio::test]
async fn control_endpoints_mint_and_register() {
    let tenant = tenant().await;
    let client = http();
    let url = |path: &str| format!("{}/dev/{path}", tenant.base_url());

    let wanted = json!({ "user": "nia", "audience": "api://orders", "scopes": ["Orders.Read"], "claims": { "x": 1 }, "header": { "nonce": "n" } });
    let token =
        client.post(url("token?format=text")).body(wanted.to_string()).send().await.expect("answers").text().await.expect("text");
    let app = json!({ "client_id": "77778888-0000-4000-8000-000000000000", "identifier_uris": ["api://made"] });
    let registered = client.post(url("apps")).json(&app).send().await.expect("answers").status();
    let wrong = client.post(url("token")).body(r#"{"usr":"nia"}"#).send().await.expect("answers").status();

    let claims = verified(&tenant, &format!("/{CONTOSO}/discovery/v2.0/keys"), &token).await;
    assert_eq!((&claims["x"], &claims["aud"]), (&json!(1), &json!(DEFAULT_AUDIENCE)));
    assert_eq!((registered.as_u16(), wrong.as_u16()), (204, 400));
    assert!(tenant.apps().iter().any(|app| app.identifier_uris.contains("api://made") && app.token_version == 2));
}

#[tokio::test]
async fn control_endpoints_issue_what_entra_would_unless_it_is_forced() {
    let tenant = tenant().await;
    let client = http();
    let ask = async |wanted: serde_json::Value| {
        let answer =
            client.post(format!("{}/dev/token", tenant.base_url())).body(wanted.to_string()).send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    for (wanted, expected) in [
        (json!({ "app": DEFAULT_CLIENT, "scopes": ["Orders.Read"] }), "has roles, and never scopes"),
        (json!({ "audience": "api://orders", "version": 1 }), "gets version 2 tokens"),
        (json!({ "audience": "api://legacy", "version": 2 }), "gets version 1 tokens"),
        (json!({ "audience": "api://nobody" }), "AADSTS500011"),
    ] {
        let (status, text) = ask(wanted.clone()).await;
        assert_eq!(status, 400, "{wanted}: {text}");
        assert!(text.contains(expected) && text.contains("\"force\": true"), "{wanted}: {text}");

        let mut forced = wanted.clone();
        forced["force"] = true.into();
        assert_eq!(ask(forced).await.0, 200, "{wanted}");
    }
    let (_, adapted) = ask(json!({ "audience": "api://orders" })).await;
    assert!(adapted.contains("version 2 tokens name the API by its client id"), "{adapted}");
    let (_, forced) = ask(json!({ "audience": "api://orders", "force": true })).await;
    let token =
        serde_json::from_str::<serde_json::Value>(&forced).expect("JSON")["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(tenant.verify(&token).expect("good")["aud"], "api://orders");
}

#[tokio::test]
async fn control_endpoints_read_json_whatever_it_is_called() {
    let tenant = tenant().await;
    let app = json!({ "client_id": "77778888-0000-4000-8000-000000000001" }).to_string();
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json"] {
        let call = http().post(format!("{}/dev/apps", tenant.base_url())).header("Content-Type", kind).body(app.clone());
        assert_eq!(call.send().await.expect("answers").status().as_u16(), 204, "{kind}");
    }
}

#[tokio::test]
async fn clients_that_want_to_sign_in_get_an_error_that_they_understand() {
    let tenant = tenant().await;
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("client");
    let at = |path: &str| format!("{}/{CONTOSO}/oauth2/v2.0/{path}", tenant.base_url());

    let device = client.post(at("devicecode")).body("client_id=a&scope=b").send().await.expect("answers");
    assert_eq!(device.status().as_u16(), 400);
    let device: serde_json::Value = device.json().await.expect("JSON");
    assert_eq!((&device["error"], &device["error_codes"]), (&json!("unsupported_grant_type"), &json!([70_003])));

    for (query, expected) in [
        (
            "redirect_uri=http://localhost:5000/back?x%3D1&state=s%261",
            "http://localhost:5000/back?x=1&error=unsupported_response_type",
        ),
        ("redirect_uri=http://127.0.0.1/&response_mode=fragment", "http://127.0.0.1/#error=unsupported_response_type"),
    ] {
        let answer = client.get(format!("{}?{query}", at("authorize"))).send().await.expect("answers");
        let location = answer.headers()["location"].to_str().expect("a text").to_owned();
        assert!(answer.status().as_u16() == 302 && location.starts_with(expected), "{location}");
    }
    // Nobody is sent to another machine that the app does not list.
    for query in ["redirect_uri=https://evil.example/", "redirect_uri=javascript:alert(1)", ""] {
        let answer = client.get(format!("{}?{query}", at("authorize"))).send().await.expect("answers");
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("location")), (400, false), "{query}");
    }
}

#[tokio::test]
async fn control_endpoints_serve_no_web_page_and_no_foreign_name() {
    let tenant = tenant().await;
    let client = http();
    let url = format!("{}/dev/token", tenant.base_url());

    let page = client.post(&url).header("Origin", "https://evil.example").body("{}").send().await.expect("answers");
    let rebound = client.post(&url).header("Host", "evil.example:7070").body("{}").send().await.expect("answers");

    assert_eq!((page.status().as_u16(), rebound.status().as_u16()), (403, 403));
}

#[tokio::test]
async fn listens_beyond_loopback_only_when_told() {
    let options = Options { address: "0.0.0.0:0".parse().expect("address"), ..Options::default() };

    assert!(matches!(DevTenant::start(options).await, Err(StartError::NotLoopback(_))));
}

#[tokio::test]
async fn tls_is_trusted_through_its_own_authority_only() {
    let tenant =
        DevTenant::start(Options { tls: true, host: Some("localhost".to_owned()), ..Options::default() }).await.expect("starts");
    let url = format!("{}/{CONTOSO}/v2.0/.well-known/openid-configuration", tenant.base_url());
    let ca = reqwest::Certificate::from_pem(tenant.ca_pem().expect("CA").as_bytes()).expect("PEM");

    let trusting = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .build()
        .expect("client")
        .get(&url)
        .send()
        .await
        .expect("trusted");
    let strange = fetch(&url).await;

    assert!(url.starts_with("https://localhost:"));
    assert_eq!(trusting.status().as_u16(), 200);
    assert!(strange.is_err());
}

#[tokio::test]
async fn token_defects_are_what_they_say() {
    let tenant = tenant().await;
    let keys: JwkSet = serde_json::from_value(get(&tenant, &format!("/{CONTOSO}/discovery/v2.0/keys")).await).expect("keys");
    let kid = |token: &str| jsonwebtoken::decode_header(token).expect("header").kid;

    let wrong = tenant.token().wrong_key().sign();
    let unknown = tenant.token().unknown_key().sign();
    let none = tenant.token().algorithm("none").sign();

    assert!(keys.find(&kid(&wrong).expect("kid")).is_some() && keys.find(&kid(&unknown).expect("kid")).is_none());
    assert!(none.ends_with('.'));
    assert_eq!(kid(&tenant.token().without_kid().sign()), None);
    assert!(tenant.token().algorithm("ES256").try_sign().is_err());
}

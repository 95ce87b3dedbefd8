//! Tests of the vault, the platform's token endpoints and Graph: their answers and refusals.

use aws_lc_rs::{
    digest,
    signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{super::defaults::*, *};

async fn send(request: reqwest::RequestBuilder) -> (u16, http::HeaderMap, Value) {
    let answer = request.send().await.expect("answers");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, serde_json::from_slice(&answer.bytes().await.expect("body")).unwrap_or_default())
}

fn vault_token(tenant: &DevTenant) -> String {
    tenant.token().app(GATEWAY).v1().audience("https://vault.azure.net").sign()
}

async fn vault(tenant: &DevTenant, path: &str) -> (u16, Value) {
    let request = http().get(format!("{}{path}", tenant.base_url())).bearer_auth(vault_token(tenant));
    let (status, _, body) = send(request).await;
    (status, body)
}

async fn sign(tenant: &DevTenant, kid: &str, alg: &str, digest: &[u8]) -> (u16, Value) {
    let request = http().post(format!("{kid}/sign?api-version=7.4")).bearer_auth(vault_token(tenant));
    let (status, _, body) = send(request.json(&json!({ "alg": alg, "value": URL_SAFE_NO_PAD.encode(digest) }))).await;
    (status, body)
}

#[tokio::test]
async fn the_vault_challenges_who_has_no_token_for_it() {
    let tenant = tenant().await;
    let url = format!("{}/certificates/gateway/?api-version=7.4", tenant.base_url());
    let of = |audience: &str| tenant.token().app(GATEWAY).v1().audience(audience).sign();
    let vaults = "https://vault.azure.net";

    let (status, headers, body) = send(http().get(&url)).await;

    assert_eq!((status, &body["error"]["code"]), (401, &json!("Unauthorized")));
    let challenge = format!("Bearer authorization=\"{}/{CONTOSO}\", resource=\"{vaults}\"", tenant.base_url());
    assert_eq!(headers["www-authenticate"].to_str().expect("text"), challenge);
    for (name, token, code) in [
        ("slash at the end", of("https://vault.azure.net/"), "AKV10022"),
        ("the vault's own URL", of("https://contoso.vault.azure.net"), "AKV10022"),
        ("another tenant", tenant.token().tenant(FABRIKAM).app(GATEWAY).v1().audience(vaults).sign(), "AKV10032"),
        ("expired", tenant.token().app(GATEWAY).v1().audience(vaults).expired().sign(), "AKV10014"),
        ("wrong key", tenant.token().app(GATEWAY).v1().audience(vaults).wrong_key().sign(), "AKV10013"),
    ] {
        let (status, _, body) = send(http().get(&url).bearer_auth(token)).await;
        assert_eq!(status, 401, "{name}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.starts_with(code)), "{name}: {body}");
    }
}

#[tokio::test]
async fn the_vault_signs_digests_with_the_certificates_key() {
    let tenant = tenant().await;
    let (version, der) = tenant.vault_certificate("gateway", false, 30);
    let digest = digest::digest(&digest::SHA256, b"header.payload");

    let (status, certificate) = vault(&tenant, "/certificates/Gateway/?api-version=7.4").await;
    let kid = certificate["kid"].as_str().expect("kid").to_owned();
    let (_, signed) = sign(&tenant, &kid, "PS256", digest.as_ref()).await;

    assert_eq!((status, STANDARD.decode(certificate["cer"].as_str().expect("cer")).expect("base64")), (200, der.clone()));
    assert!(kid.ends_with(&version) && signed["kid"] == kid, "{signed}");
    let (_, parsed) = X509Certificate::from_der(&der).expect("certificate");
    let signature = URL_SAFE_NO_PAD.decode(signed["value"].as_str().expect("value")).expect("base64url");
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, parsed.public_key().subject_public_key.data.as_ref());
    assert!(key.verify(b"header.payload", &signature).is_ok());
    assert_eq!(sign(&tenant, &kid, "PS256", b"no digest").await.0, 400);
    assert_eq!(sign(&tenant, &kid, "ES256", digest.as_ref()).await.0, 400);
}

#[tokio::test]
async fn renewal_makes_a_version_that_is_the_latest_at_once() {
    let tenant = tenant().await;
    let (old, _) = tenant.vault_certificate("gateway", false, 30);
    let (new, _) = tenant.vault_certificate("gateway", false, 30);
    let digest = digest::digest(&digest::SHA256, b"x");

    let (_, latest) = vault(&tenant, "/certificates/gateway?api-version=7.4").await;
    let (_, pinned) = vault(&tenant, &format!("/certificates/gateway/{old}?api-version=7.4")).await;
    let (_, listed) = vault(&tenant, "/certificates/gateway/versions?api-version=7.4&maxresults=1").await;
    let (_, unpinned) = sign(&tenant, &format!("{}/keys/gateway", tenant.base_url()), "RS256", digest.as_ref()).await;

    assert!(
        latest["id"].as_str().is_some_and(|id| id.ends_with(&new)) && pinned["id"].as_str().is_some_and(|id| id.ends_with(&old))
    );
    assert_eq!(listed["value"].as_array().map(Vec::len), Some(1));
    assert!(listed["nextLink"].as_str().is_some_and(|link| link.contains("skip=1")));
    assert!(unpinned["kid"].as_str().is_some_and(|kid| kid.ends_with(&new)));
    tenant.vault_enable("gateway", &new, false);
    assert!(vault(&tenant, "/certificates/gateway?api-version=7.4").await.1["id"].as_str().is_some_and(|id| id.ends_with(&old)));
    let (status, refused) = sign(&tenant, &format!("{}/keys/gateway/{new}", tenant.base_url()), "RS256", digest.as_ref()).await;
    assert_eq!((status, &refused["error"]["innererror"]["code"]), (403, &json!("KeyDisabled")));
}

#[tokio::test]
async fn a_private_key_leaves_the_vault_only_where_it_may() {
    let tenant = tenant().await;
    tenant.vault_certificate("open", true, 30);
    tenant.vault_certificate("closed", false, 30);
    let keys = async |name: &str| {
        let (_, secret) = vault(&tenant, &format!("/secrets/{name}?api-version=7.4")).await;
        assert_eq!((&secret["contentType"], &secret["managed"]), (&json!("application/x-pkcs12"), &json!(true)));
        let pfx = STANDARD.decode(secret["value"].as_str().expect("value")).expect("base64");
        let archive = p12_keystore::Pkcs12Archive::from_pkcs12(&pfx, "").expect("PFX");
        (archive.keys.len(), archive.certs.len())
    };

    assert_eq!(keys("open").await, (1, 1));
    assert_eq!(keys("closed").await, (0, 1));
}

#[tokio::test]
async fn secrets_have_versions_and_dates() {
    let tenant = tenant().await;
    let first = tenant.vault_secret("partner-key", "one", None);
    tenant.vault_secret("partner-key", "two", Some(1_900_000_000));

    let (_, latest) = vault(&tenant, "/secrets/partner-key/?api-version=7.4").await;
    let (_, pinned) = vault(&tenant, &format!("/secrets/partner-key/{first}?api-version=7.4")).await;
    let (status, missing) = vault(&tenant, "/secrets/nothing?api-version=7.4").await;

    assert_eq!((&latest["value"], &latest["attributes"]["exp"]), (&json!("two"), &json!(1_900_000_000)));
    assert_eq!((&pinned["value"], latest.get("contentType")), (&json!("one"), None));
    assert_eq!((status, &missing["error"]["code"]), (404, &json!("SecretNotFound")));
    assert_eq!(vault(&tenant, "/secrets/partner-key").await.0, 400, "the api-version is mandatory");
}

#[tokio::test]
async fn the_vault_holds_clients_to_their_roles() {
    let tenant = tenant().await;
    tenant.vault_certificate("gateway", true, 30);
    tenant.vault_restrict(GATEWAY, &["certificates/get", "keys/sign"]);

    let (certificate, _) = vault(&tenant, "/certificates/gateway?api-version=7.4").await;
    let (secret, refused) = vault(&tenant, "/secrets/gateway?api-version=7.4").await;

    assert_eq!((certificate, secret, &refused["error"]["innererror"]["code"]), (200, 403, &json!("ForbiddenByRbac")));
}

#[tokio::test]
async fn a_virtual_machine_wants_its_header_and_answers_in_texts() {
    let tenant = tenant().await;
    let url =
        format!("{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net", tenant.base_url());
    let ask = |query: &str| http().get(format!("{url}{query}")).header("Metadata", "true");

    let (bare, _, refused) = send(http().get(&url)).await;
    let (status, _, answer) = send(ask("")).await;
    let (unknown, ..) = send(ask("&client_id=99999999-0000-4000-8000-000000000000")).await;

    assert_eq!((bare, status, unknown), (400, 200, 400));
    assert!(refused["error_description"].as_str().is_some_and(|text| text.contains("bad_request_102")));
    assert_eq!((&answer["expires_in"], &answer["resource"]), (&json!("86399"), &json!("https://vault.azure.net")));
    let claims = tenant.verify(answer["access_token"].as_str().expect("token")).expect("verifies");
    assert_eq!((&claims["aud"], &claims["appidacr"]), (&json!("https://vault.azure.net"), &json!("2")));
}

#[tokio::test]
async fn app_service_answers_without_a_lifetime_and_its_older_form_with_a_date() {
    let tenant = tenant().await;
    let secret = tenant.identity_header();
    let url =
        |version: &str, resource: &str| format!("{}/msi/token?api-version={version}&resource={resource}", tenant.base_url());
    let vaults = "https://vault.azure.net";

    let (status, _, answer) = send(http().get(url("2019-08-01", vaults)).header("X-IDENTITY-HEADER", &secret)).await;
    let (_, _, old) = send(http().get(url("2017-09-01", vaults)).header("secret", &secret)).await;
    let (refused, _, why) = send(http().get(url("2019-08-01", vaults)).header("X-IDENTITY-HEADER", "other")).await;
    let (vague, ..) = send(http().get(url("2019-08-01", "api://nothing")).header("X-IDENTITY-HEADER", &secret)).await;

    assert_eq!((status, answer.get("expires_in"), answer["expires_on"].as_str().is_some()), (200, None, true));
    assert!(old["expires_on"].as_str().is_some_and(|date| date.contains('/') && date.ends_with(" +00:00")), "{old}");
    assert_eq!((refused, &why["statusCode"], vague), (401, &json!(401), 500));
}

#[tokio::test]
async fn arc_hands_a_token_to_who_can_read_its_file() {
    let tenant = tenant().await;
    let folder = tempfile::tempdir().expect("folder");
    let url = format!("{}/arc/token?api-version=2020-06-01&resource=https://vault.azure.net", tenant.base_url());
    let ask = || http().get(&url).header("Metadata", "true");

    let (absent, ..) = send(ask()).await;
    tenant.play_arc(folder.path());
    let (challenged, headers, _) = send(ask()).await;
    let file = headers["www-authenticate"].to_str().expect("text").strip_prefix("Basic realm=").expect("realm").to_owned();
    let proof = std::fs::read_to_string(&file).expect("file");
    let (status, _, answer) = send(ask().header("Authorization", format!("Basic {proof}"))).await;

    assert_eq!((absent, challenged, status), (404, 401, 200));
    assert!(answer["access_token"].is_string());
}

#[tokio::test]
async fn a_user_assigned_identity_stands_in_for_an_app() {
    let tenant = tenant().await;
    let identity =
        ManagedIdentity { client_id: PARTNER.to_owned(), resource_id: Some("/subscriptions/s/identities/pod".to_owned()) };
    tenant.update_app(GATEWAY, |app| app.federated(&tenant.issuer_v2(CONTOSO), &identity.object_id()));
    tenant.managed_identities(vec![identity]);
    let url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api://AzureADTokenExchange",
        tenant.base_url()
    );

    let (_, _, own) = send(http().get(url).header("Metadata", "true")).await;
    let form = [
        ("client_id", GATEWAY),
        ("grant_type", "client_credentials"),
        ("scope", "api://orders-internal/.default"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", own["access_token"].as_str().expect("token")),
    ];
    let (status, _, answer) = send(http().post(tenant.token_endpoint(CONTOSO)).form(&form)).await;

    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn graph_tells_attributes_and_memberships_to_who_may_ask() {
    let tenant = tenant().await;
    tenant.add_user(
        User::new("nia").attribute("onpremisessamaccountname", "nokafor").group("11110000-0000-4000-8000-000000000001"),
    );
    let id = directory::id_of("user", "nia");
    let url = |path: &str| format!("{}/v1.0/users/{path}", tenant.base_url());
    let token = |role: &str| tenant.token().app(GATEWAY).v1().audience("https://graph.microsoft.com").roles([role]).sign();
    let asked = json!({ "groupIds": ["11110000-0000-4000-8000-000000000001", "11110000-0000-4000-8000-000000000002"] });

    let attribute =
        http().get(url(&format!("{id}?$select=onPremisesSamAccountName,employeeId"))).bearer_auth(token("User.Read.All"));
    let (_, _, attributes) = send(attribute).await;
    let groups = http().post(url(&format!("{id}/checkMemberGroups"))).bearer_auth(token("GroupMember.Read.All")).json(&asked);
    let (_, _, member) = send(groups).await;
    let (denied, ..) =
        send(http().post(url(&format!("{id}/checkMemberGroups"))).bearer_auth(token("User.Read.All")).json(&asked)).await;
    let (nobody, ..) = send(http().get(url("99999999-0000-4000-8000-000000000000")).bearer_auth(token("User.Read.All"))).await;

    assert_eq!((&attributes["onPremisesSamAccountName"], &attributes["employeeId"]), (&json!("nokafor"), &Value::Null));
    assert_eq!(member["value"], json!(["11110000-0000-4000-8000-000000000001"]));
    assert_eq!((denied, nobody), (403, 404));
}

//! An app registration, read from Microsoft Graph and compared with the recommendations for a daemon.
//!
//! A gateway signs nobody in: redirect URIs, the implicit grant and public client flows are of no use to it, and each is a way to
//! tokens under its name. An application that may not read its own registration is not a fault: the operator is told what to
//! check.

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::{
    Credential,
    access_token::AccessToken,
    application::{Application, Identity},
    credential::Source,
    examine::{Outcome, Step},
    signing_certificate::SigningCertificate,
};
use crate::certificate::keys::ValidityState;
use crate::{base::error_chain::chain, entra::GraphAddress, entra::graph_address, identity_http::Call};

/// The size limit: more than any registration.
const CAP: usize = 1 << 20;
/// The number of days before its end from which on a client secret causes a warning.
const WARN_DAYS: i64 = 30;
/// The properties that are read; without the public keys.
const SELECT: &str = "displayName,signInAudience,isFallbackPublicClient,web,spa,publicClient,passwordCredentials,keyCredentials,\
    requiredResourceAccess";

/// An `application` of Graph, reduced to the checked properties.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Registration {
    sign_in_audience: Option<String>,
    is_fallback_public_client: Option<bool>,
    web: Web,
    spa: Redirects,
    public_client: Redirects,
    password_credentials: Vec<PasswordCredential>,
    key_credentials: Vec<KeyCredential>,
    required_resource_access: Vec<ResourceAccess>,
}

/// The permissions that the registration lists for one API.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResourceAccess {
    resource_app_id: String,
    resource_access: Vec<Permission>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Permission {
    id: String,
    /// `Scope` for a delegated permission, `Role` for an application's.
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Web {
    redirect_uris: Vec<String>,
    implicit_grant_settings: ImplicitGrant,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ImplicitGrant {
    enable_access_token_issuance: Option<bool>,
    enable_id_token_issuance: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Redirects {
    redirect_uris: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PasswordCredential {
    display_name: Option<String>,
    /// The first letters of the secret, for recognising it.
    hint: Option<String>,
    #[serde(deserialize_with = "time")]
    end_date_time: Option<jiff::Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct KeyCredential {
    display_name: Option<String>,
    /// The certificate's SHA-1: its bytes in base64, or in hexadecimal where a person wrote it.
    custom_key_identifier: Option<String>,
    #[serde(deserialize_with = "time")]
    end_date_time: Option<jiff::Timestamp>,
}

/// Reads a time; an unreadable one counts as absent, since it only serves for advice.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
}

impl Credential {
    /// Returns the scope of tokens for Microsoft Graph in this credential's cloud: every tenant has it.
    pub fn graph_scope(&self) -> Option<String> {
        graph_address(&self.authority).map(|graph| graph.scope.into())
    }

    /// Reads the credential's own app registration, if permitted, and reports problems. Does nothing for a managed identity,
    /// which has none.
    pub async fn examine_registration(&self, tenant: Option<&str>, exchanges: bool) -> Vec<Step> {
        let (Source::Application(application), Some(GraphAddress { base, scope })) =
            (&self.source, graph_address(&self.authority))
        else {
            return Vec::new();
        };
        let look = "look under Authentication and Certificates & secrets in the portal: a gateway needs neither redirect URIs nor \
                    the implicit grant nor public client flows nor client secrets";
        let skipped = |why: String| vec![Step::new("registration", Outcome::Skipped, why).cure(look)];
        let Some(slot) = self.slot_for(tenant, &scope) else { return Vec::new() };
        let token = match slot.token().await {
            Ok(token) => token,
            Err(error) => return skipped(format!("no token for Microsoft Graph: {}", chain(&*error.failure))),
        };
        match application.read_registration(&base, &token).await {
            Ok(registration) => {
                let now = application.clock.unix_seconds();
                judge(
                    &registration,
                    &application.identity,
                    Use { single_tenant: self.has_own_tenant() && tenant.is_none(), exchanges },
                    now,
                )
            }
            Err(why) => skipped(why),
        }
    }
}

impl Application {
    async fn read_registration(&self, base: &Url, token: &AccessToken) -> Result<Registration, String> {
        let mut url = base.clone();
        // Read and checked when the credential was built: a client id is a GUID.
        url.set_path(&format!("/v1.0/applications(appId='{}')", self.client_id));
        url.set_query(Some(&format!("$select={SELECT}")));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.header().clone());
        let answer = self.http.send(Call { headers, ..Call::get(&url, CAP) }).await.map_err(|error| chain(&error))?;
        match answer.status {
            StatusCode::OK => {
                serde_json::from_slice(&answer.body).map_err(|_| "Microsoft Graph's answer cannot be read".to_owned())
            }
            StatusCode::FORBIDDEN => {
                Err("the application may not read its own registration, which is as it should be".to_owned())
            }
            StatusCode::NOT_FOUND => Err("the application is registered in another tenant".to_owned()),
            status => Err(format!("Microsoft Graph answered {}", status.as_u16())),
        }
    }
}

/// The uses of an application in the config.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Whether it asks for tokens in its own tenant alone.
    single_tenant: bool,
    /// Whether routes exchange users' tokens with it.
    exchanges: bool,
}

/// Reports the problems of a registration, present or approaching, or else that there are none.
fn judge(registration: &Registration, identity: &Identity, Use { single_tenant, exchanges }: Use, now: u64) -> Vec<Step> {
    let mut found = Vec::new();
    let mut note = |what: String, cure: &str| found.push(Step::new("registration", Outcome::Warning, what).cure(cure));

    let web = registration.web.redirect_uris.iter();
    let others = registration.spa.redirect_uris.iter().chain(&registration.public_client.redirect_uris);
    let redirects: Vec<_> = web.chain(others).map(String::as_str).collect();
    if !redirects.is_empty() {
        let what = format!("it has redirect URIs: {}", redirects.join(", "));
        note(what, "remove them: nobody signs in to the gateway, and codes and tokens can be sent there");
    }
    let implicit = &registration.web.implicit_grant_settings;
    if implicit.enable_access_token_issuance == Some(true) || implicit.enable_id_token_issuance == Some(true) {
        note("the implicit grant is switched on".to_owned(), "switch it off: it gives tokens to browsers");
    }
    if registration.is_fallback_public_client == Some(true) {
        note(
            "public client flows are allowed".to_owned(),
            "switch `Allow public client flows` off: whoever knows the id is the client",
        );
    }
    if single_tenant && registration.sign_in_audience.as_deref().is_some_and(|audience| audience != "AzureADMyOrg") {
        let what = format!("it can be used in other tenants ({})", registration.sign_in_audience.as_deref().unwrap_or_default());
        note(what, "make it single-tenant, unless routes name other tenants");
    }
    if !exchanges {
        judge_delegated(&registration.required_resource_access, &mut note);
    }
    let own_secret = match identity {
        Identity::Secret(secret) => secret.secret.value(now),
        Identity::Certificates(_) | Identity::File(_) | Identity::Managed(_) => None,
    };
    for password in &registration.password_credentials {
        judge_password(password, own_secret.as_deref(), now, &mut note);
    }
    let certificates = identity.certificates(now);
    for key in &registration.key_credentials {
        let name = key.display_name.as_deref().unwrap_or("without a name");
        if days(key.end_date_time, now).is_some_and(|days| days < 0) {
            note(format!("it has a certificate that has expired ({name})"), "remove it");
        }
    }
    // A key without its certificate does not know when that ends.
    for key_only in certificates.iter().filter(|certificate| certificate.certificate().is_none()) {
        let entry = registration.key_credentials.iter().find(|key| names(key, key_only));
        if let Some(left) = entry.and_then(|key| days(key.end_date_time, now)).filter(|left| (0..WARN_DAYS).contains(left)) {
            let what = format!("the certificate {} expires in {left} days", key_only.thumbprint());
            note(what, ValidityState::EndsSoon.cure());
        }
    }
    // Graph tells thumbprints in one of two spellings; one that it does not tell says nothing, and SHA-256 is never told.
    let told = |signer: &&Arc<SigningCertificate>| signer.x5t().is_some();
    let named = registration.key_credentials.iter().all(|key| key.custom_key_identifier.is_some());
    for certificate in certificates.iter().filter(|_| named).filter(told) {
        if !registration.key_credentials.iter().any(|key| names(key, certificate)) {
            let whose = certificate.subject().map_or_else(
                || "the certificate of the private key".to_owned(),
                |subject| format!("the certificate of {subject}"),
            );
            let what = format!("{whose} ({}) is not on it", certificate.thumbprint());
            note(what, "upload it; a new upload takes minutes to be known everywhere");
        }
    }
    if found.is_empty() {
        found.push(Step::new("registration", Outcome::Ok, "nothing is on it that a gateway does not need"));
    }
    found
}

/// Delegated permissions serve where a user is; a daemon has none.
fn judge_delegated(access: &[ResourceAccess], note: &mut impl FnMut(String, &str)) {
    /// `User.Read` of Microsoft Graph, which the portal puts on each new registration.
    const USER_READ: &str = "e1fe6dd8-ba31-4d61-89e7-88639da4683d";
    for api in access {
        let delegated: Vec<_> = api.resource_access.iter().filter(|permission| permission.kind == "Scope").collect();
        let what = match &delegated[..] {
            [] => continue,
            [only] if only.id == USER_READ => {
                "it has the delegated permission User.Read of Microsoft Graph, which each new registration has".to_owned()
            }
            more => format!("it has {} delegated permissions for the API {}", more.len(), api.resource_app_id),
        };
        note(what, "remove them (API permissions): no route calls on behalf of users with this credential");
    }
}

fn judge_password(password: &PasswordCredential, own: Option<&SecretString>, now: u64, note: &mut impl FnMut(String, &str)) {
    let name = password.display_name.as_deref().unwrap_or("without a name");
    let left = days(password.end_date_time, now);
    let hint = password.hint.as_deref().filter(|hint| !hint.is_empty());
    let is_own = own.is_some_and(|own| hint.is_none_or(|hint| own.expose_secret().starts_with(hint)));
    match (is_own, left) {
        (true, Some(..0)) => note(format!("the client secret {name} has expired"), "make a new one; better: use a certificate"),
        (true, Some(left @ 0..WARN_DAYS)) => {
            note(format!("the client secret {name} expires in {left} days"), "make a new one; better: use a certificate");
        }
        (true, _) => {}
        (false, _) => note(format!("it has a client secret that this credential does not use ({name})"), "remove it"),
    }
}

fn days(end: Option<jiff::Timestamp>, now: u64) -> Option<i64> {
    end.map(|end| (end.as_second() - now.cast_signed()).div_euclid(86_400))
}

fn names(key: &KeyCredential, signer: &SigningCertificate) -> bool {
    let (Some(x5t), hex) = (signer.x5t(), signer.thumbprint()) else { return false };
    key.custom_key_identifier.as_deref().is_some_and(|written| {
        let decoded = STANDARD.decode(written).unwrap_or_default();
        written.eq_ignore_ascii_case(&hex)
            || URL_SAFE_NO_PAD.encode(&decoded) == x5t
            || decoded.eq_ignore_ascii_case(hex.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::credentials::{
        CertificateConfig, CredentialConfig,
        application::ClientSecret,
        testing::{CLIENT, GATEWAY, OTHER, TestBed, config},
    };

    const NOW: u64 = 1_800_000_000;

    fn told(registration: &Value, identity: &Identity) -> Vec<String> {
        let registration: Registration = serde_json::from_value(registration.clone()).unwrap();
        judge(&registration, identity, Use { single_tenant: true, exchanges: false }, NOW)
            .into_iter()
            .map(|step| step.found)
            .collect()
    }

    #[test]
    fn names_what_should_not_be_on_a_registration() {
        let file = Identity::File(PathBuf::from("token"));
        let fine = "nothing is on it that a gateway does not need";
        for (registration, expected) in [
            (json!({}), fine),
            (json!({ "signInAudience": "AzureADMyOrg", "isFallbackPublicClient": null, "web": { "redirectUris": [] } }), fine),
            (json!({ "web": { "redirectUris": ["https://a.example/"] } }), "it has redirect URIs: https://a.example/"),
            (
                json!({ "spa": { "redirectUris": ["https://b.example/"] }, "publicClient": { "redirectUris": ["x:y"] } }),
                "it has redirect URIs: https://b.example/, x:y",
            ),
            (
                json!({ "web": { "implicitGrantSettings": { "enableIdTokenIssuance": true } } }),
                "the implicit grant is switched on",
            ),
            (json!({ "isFallbackPublicClient": true }), "public client flows are allowed"),
            (json!({ "signInAudience": "AzureADMultipleOrgs" }), "it can be used in other tenants (AzureADMultipleOrgs)"),
            (
                json!({ "passwordCredentials": [{ "displayName": "old", "endDateTime": "2030-01-01T00:00:00Z" }] }),
                "it has a client secret that this credential does not use (old)",
            ),
            (
                json!({ "requiredResourceAccess": [{
                    "resourceAppId": "00000003-0000-0000-c000-000000000000",
                    "resourceAccess": [
                        { "id": "e1fe6dd8-ba31-4d61-89e7-88639da4683d", "type": "Scope" },
                        { "id": "df021288-bdef-4463-88db-98f22de89214", "type": "Role" },
                    ],
                }] }),
                "it has the delegated permission User.Read of Microsoft Graph, which each new registration has",
            ),
            (
                json!({ "requiredResourceAccess": [{ "resourceAppId": "a", "resourceAccess": [{ "id": "1", "type": "Scope" }] }] }),
                "it has 1 delegated permissions for the API a",
            ),
            (
                json!({ "keyCredentials": [{ "displayName": "CN=old", "endDateTime": "2020-01-01T00:00:00Z" }] }),
                "it has a certificate that has expired (CN=old)",
            ),
        ] {
            assert_eq!(told(&registration, &file), [expected], "{registration}");
        }
    }

    #[test]
    fn a_secret_of_its_own_is_warned_of_before_it_ends() {
        let secret = crate::settings::Secret::from("abcdef").live(&Default::default()).unwrap();
        let own = Identity::Secret(ClientSecret { secret, opened: Vec::new() });
        let secret =
            |hint: &str, end: &str| json!({ "passwordCredentials": [{ "displayName": "s", "hint": hint, "endDateTime": end }] });
        let fine = "nothing is on it that a gateway does not need";
        for (registration, expected) in [
            (secret("abc", "2028-01-01T00:00:00Z"), fine),
            (secret("abc", "2027-01-20T00:00:00Z"), "the client secret s expires in 4 days"),
            (secret("abc", "2026-01-20T00:00:00Z"), "the client secret s has expired"),
            (secret("xyz", "2028-01-01T00:00:00Z"), "it has a client secret that this credential does not use (s)"),
        ] {
            assert_eq!(told(&registration, &own), [expected], "{registration}");
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_uploaded_is_told() {
        let bed = TestBed::open().await;
        let credentials = bed.gateway();
        let Source::Application(application) = &credentials.find("gateway").unwrap().source else { panic!("an application") };
        let sha1 = |made: &crate::certificate::keys::testing::Made| *made.pair().certificate().thumbprints().sha1();
        let hex = GATEWAY.pair().certificate().thumbprint();
        for (identifier, known) in [
            (STANDARD.encode(sha1(&GATEWAY)), true),
            (hex.clone(), true),
            (STANDARD.encode(hex.as_bytes()), true),
            (STANDARD.encode(sha1(&OTHER)), false),
        ] {
            let found = told(&json!({ "keyCredentials": [{ "customKeyIdentifier": identifier }] }), &application.identity);

            assert_eq!(!found[0].contains("is not on it"), known, "{identifier}: {found:?}");
        }
    }

    #[tokio::test]
    async fn a_key_without_its_certificate_is_told_its_end_by_the_registration() {
        let bed = TestBed::open().await;
        bed.write("gateway.key", &GATEWAY.key_pem);
        let hex = GATEWAY.pair().certificate().thumbprint();
        let build = |thumbprint: &str| {
            let certificate = CertificateConfig {
                private_key: Some("gateway.key".to_owned()),
                thumbprint: Some(thumbprint.to_owned()),
                ..CertificateConfig::default()
            };
            let (credentials, faults) = bed.build(CredentialConfig { certificate: Some(certificate), ..config() }, None);
            assert!(faults.is_empty(), "{faults:?}");
            credentials
        };
        let by_sha1 = build(&hex);
        let Source::Application(application) = &by_sha1.find("gateway").unwrap().source else { panic!("an application") };
        let entry = |identifier: &str, end: &str| json!({ "keyCredentials": [{ "customKeyIdentifier": identifier, "endDateTime": end }] });
        for (registration, expected) in [
            (entry(&hex, "2028-01-01T00:00:00Z"), "nothing is on it that a gateway does not need".to_owned()),
            (entry(&hex, "2027-01-20T00:00:00Z"), format!("the certificate {hex} expires in 4 days")),
            (entry(&"AB".repeat(20), "2028-01-01T00:00:00Z"), format!("the certificate of the private key ({hex}) is not on it")),
        ] {
            assert_eq!(told(&registration, &application.identity), [expected], "{registration}");
        }

        // Graph tells no SHA-256, so nothing can be said of one.
        let by_sha256 = build(&GATEWAY.pair().certificate().thumbprints().hex_sha256());
        let Source::Application(application) = &by_sha256.find("gateway").unwrap().source else { panic!("an application") };
        let found = told(&entry(&hex, "2027-01-20T00:00:00Z"), &application.identity);
        assert_eq!(found, ["nothing is on it that a gateway does not need"]);
    }

    #[tokio::test]
    async fn reads_the_registration_where_it_may_and_says_what_to_look_for_where_not() {
        let bed = TestBed::open().await;
        let credentials = bed.gateway();
        let examine = async || bed.gateway().find("gateway").unwrap().examine_registration(None, true).await;

        let steps = examine().await;
        assert_eq!(steps[0].outcome, Outcome::Skipped, "{steps:?}");
        assert!(steps[0].found.contains("may not read its own registration"), "{steps:?}");

        bed.entra.update_app(CLIENT, |app| app.granted("https://graph.microsoft.com", ["Application.Read.All"]));
        let steps = examine().await;
        assert_eq!(steps.iter().map(|step| step.outcome).collect::<Vec<_>>(), [Outcome::Ok], "{steps:?}");

        bed.entra.update_app(CLIENT, |app| app.redirect_uri("https://contoso.example/signin").secret("s").implicit_grant());
        let steps = examine().await;
        let told: Vec<_> = steps.iter().map(|step| &*step.found).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("https://contoso.example/signin"), "{told:?}");
        drop(credentials);
    }
}

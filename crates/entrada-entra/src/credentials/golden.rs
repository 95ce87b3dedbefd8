//! The requests of Microsoft's own clients, as captured on the wire, each compared with ours for the same purpose.
//!
//! Every difference is listed in [`DIFFERENCES`] with its reason; a difference that is not listed fails the test, and so does a
//! reason without a difference. Captured requests without a counterpart give the reason in [`purpose`].

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use url::Url;

use super::{
    AssertionAlgorithm, AssertionConfig, CertificateConfig, CredentialConfig, Credentials, FederatedTokenConfig, KeyUse,
    KeyVaultCertificateConfig, ManagedIdentityConfig, ManagedIdentitySource, UserToken,
    managed_identity::ManagedIdentity,
    platform::Platform,
    testing::{GATEWAY, TestBed, pem, tenant},
};
use crate::{
    dev_tenant::{App, Recorded, Tenant},
    identity_http::IdentityHttp,
};

/// The captures, with tokens, signatures and certificates removed.
const CAPTURES: &str = include_str!("../../../../tests/fixtures/captures.json");
/// The client and the tenants of the captures.
const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OTHER_TENANT: &str = "66666666-7777-8888-9999-000000000000";
const AUTHORITY: &str = "https://login.microsoftonline.com";

#[derive(Deserialize)]
struct Capture {
    file: String,
    client: String,
    requests: Vec<Theirs>,
}

#[derive(Deserialize)]
struct Theirs {
    method: String,
    #[serde(deserialize_with = "url")]
    url: Url,
    headers: Vec<(String, String)>,
    #[serde(default)]
    form: Vec<(String, String)>,
    json: Option<Map<String, Value>>,
    assertion: Option<Assertion>,
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct Assertion {
    header: Map<String, Value>,
    payload: Map<String, Value>,
}

/// `-` marks fields that only they send, `+` fields that only we send, `~` fields with different values.
const DIFFERENCES: &[(&str, &str)] = &[
    ("form -client_info", "asks for data about the user; nobody reads it"),
    ("form -claims", "a client that declares cp1 must answer challenges; it is declared when there is one to answer"),
    ("form ~scope", "no ID token and no refresh token is asked for: neither is of use, and the latter would have to be guarded"),
    ("header -accept-encoding", "answers are small"),
    ("header -connection", "keep-alive is the default of HTTP/1.1"),
    ("header -x-client-sku", "telemetry"),
    ("header -x-client-ver", "telemetry"),
    ("header -x-client-os", "telemetry"),
    ("header -x-client-current-telemetry", "telemetry"),
    ("header -x-client-last-telemetry", "telemetry"),
    ("header -x-ms-client-request-id", "azure-core's own; the token endpoint is sent client-request-id"),
    ("header +client-request-id", "lets Microsoft find the request"),
    ("header +x-ms-lib-capability", "asks for 429 in place of an error that looks final"),
    ("header +metadata", "needed by some of the services behind this endpoint, and ignored by the others"),
    ("header ~accept", "JSON is all that either side speaks, whatever else is said to be welcome"),
    ("assertion ~x5t", "base64url has no padding (RFC 7515); theirs has"),
    ("assertion ~x5t#S256", "base64url has no padding (RFC 7515); theirs has"),
    ("assertion ~exp", "whole seconds, and five minutes: what was signed is of use for as short as can be"),
    ("assertion ~iat", "whole seconds"),
    ("assertion +iat", "RFC 7523 advises it"),
    ("assertion +nbf", "Entra's own texts show it"),
    ("query ~api-version", "an older version, which every cloud serves"),
    ("path ~slash", "no version is an absent segment, not an empty one"),
    ("host", "regional hosts serve Microsoft's own services alone"),
];

/// The purpose of a captured request, or the reason why it has no counterpart.
enum Purpose {
    /// A token for the client itself, with a certificate.
    Certificate,
    /// A token on behalf of a user.
    OnBehalfOf,
    /// A token for the client itself, with the token in a file.
    File,
    /// A managed identity's token: the first request, or the one that answers Arc's challenge.
    Identity {
        proof: bool,
    },
    /// A certificate of a vault.
    VaultCertificate,
    /// A signature of a vault.
    VaultSignature,
    /// A certificate of a vault with its private key.
    VaultSecret,
    Nothing(&'static str),
}

fn purpose(capture: &Capture, theirs: &Theirs) -> Purpose {
    let (host, path) = (theirs.url.host_str().unwrap_or_default(), theirs.url.path());
    let field = |name: &str| theirs.form.iter().find(|(field, _)| field == name).map(|(_, value)| &**value);
    let has = |header: &str| theirs.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(header));
    if path.ends_with("/token") && theirs.method == "POST" {
        return match (field("requested_token_use"), &theirs.assertion) {
            (Some("on_behalf_of"), _) => Purpose::OnBehalfOf,
            (_, Some(_)) => Purpose::Certificate,
            (_, None) => Purpose::File,
        };
    }
    if path.ends_with("/openid-configuration") || path.ends_with("/discovery/instance") {
        return Purpose::Nothing("the token endpoint of a known authority needs no discovery");
    }
    if path.starts_with("/metadata/instance/") {
        return Purpose::Nothing("no region is looked for: regional hosts serve Microsoft's own services alone");
    }
    if host.ends_with(".vault.azure.net") {
        return match (path.split('/').nth(1), has("authorization")) {
            (_, false) => Purpose::Nothing("the token goes along at once: the vault's challenge never chooses what it is for"),
            (Some("certificates"), _) => Purpose::VaultCertificate,
            (Some("keys"), _) if theirs.method == "POST" => Purpose::VaultSignature,
            (Some("keys"), _) => Purpose::Nothing("the certificate names its key, and holds the public one"),
            (Some("secrets"), _) => Purpose::VaultSecret,
            _ => Purpose::Nothing("nothing else is asked of a vault"),
        };
    }
    if host.ends_with(".ingest.monitor.azure.com") {
        return Purpose::Nothing("no token: the rows of a log");
    }
    match &*capture.file {
        "azid-mi-service-fabric" => {
            Purpose::Nothing("refused when the config is read: its certificate is trusted by SHA-1 alone")
        }
        _ if host == "169.254.169.254" && !has("metadata") => {
            Purpose::Nothing("nothing is probed: the operator or the environment names it")
        }
        _ => Purpose::Identity { proof: has("authorization") },
    }
}

/// Our requests for the same purpose.
struct Stage {
    bed: TestBed,
}

impl Stage {
    async fn open() -> Self {
        let mut bed = TestBed::open().await;
        for (id, name) in [(TENANT, "captured"), (OTHER_TENANT, "other")] {
            bed.entra.add_tenant(Tenant { id: id.to_owned(), name: name.to_owned(), domains: BTreeSet::new() });
        }
        let issuer = bed.entra.issuer_v2(TENANT);
        bed.entra.register(
            App::new(CLIENT)
                .in_tenant("captured")
                .consented_by("other")
                .certificate_pem(&GATEWAY.certificate_pem)
                .federated(&issuer, "pod")
                .delegated("https://graph.microsoft.com", ["User.Read"]),
        );
        bed.tenants.insert("captured".to_owned(), tenant(TENANT, Some(bed.entra.base_url())));
        Self { bed }
    }

    fn credentials(&self, config: CredentialConfig) -> Credentials {
        let config = CredentialConfig { tenant: Some("captured".to_owned()), client_id: Some(CLIENT.to_owned()), ..config };
        let (credentials, faults) = self.bed.build(config, None);
        assert!(!faults.any_error(), "{faults:?}");
        credentials
    }

    /// Builds a credential that signs as they do.
    fn certified(&self, theirs: &Theirs) -> Credentials {
        let header = &theirs.assertion.as_ref().unwrap().header;
        let algorithm = if header["alg"] == "RS256" { AssertionAlgorithm::RS256 } else { AssertionAlgorithm::PS256 };
        let assertion = AssertionConfig { algorithm: Some(algorithm), send_certificate_chain: header.contains_key("x5c") };
        self.credentials(CredentialConfig { certificate: Some(pem("gateway.pem")), assertion, ..Default::default() })
    }

    async fn ours(&self, purpose: &Purpose, theirs: &Theirs) -> Recorded {
        self.bed.entra.forget_calls();
        let field = |name: &str| theirs.form.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
        match purpose {
            Purpose::Certificate => {
                let credentials = self.certified(theirs);
                let tenant = theirs.url.path_segments().unwrap().next().unwrap();
                let slot = credentials.find("gateway").unwrap().slot_in(tenant, &field("scope").unwrap()).unwrap();
                let token = slot.token().await.unwrap();
                let challenge = field("claims").filter(|claims| claims.contains("nbf"));
                if let Some(challenge) = &challenge {
                    assert!(slot.challenged(&token, challenge.as_str().into()));
                    slot.token().await.unwrap();
                }
                self.bed.entra.requests("/token").remove(usize::from(challenge.is_some()))
            }
            Purpose::OnBehalfOf => {
                let credentials = self.certified(theirs);
                let user = self.bed.entra.token().tenant(TENANT).user("nia").audience(CLIENT).scopes(["access_as_user"]).sign();
                let token = SecretString::from(user);
                let expires_at = self.bed.clock.unix_seconds() + 3_000;
                let user = UserToken { token: &token, tenant: TENANT, expires_at };
                let slot = credentials.find("gateway").unwrap().slot_on_behalf_of(user, "https://graph.microsoft.com/User.Read");
                slot.unwrap().token().await.unwrap();
                self.bed.entra.requests("/token").remove(0)
            }
            Purpose::File => {
                let pod = self.bed.entra.token().tenant(TENANT).app(CLIENT).audience("api://AzureADTokenExchange");
                self.bed.write("pod.jwt", &pod.claim("sub", "pod").sign());
                let file = FederatedTokenConfig { file: Some("pod.jwt".to_owned()), ..Default::default() };
                let credentials = self.credentials(CredentialConfig { federated_token: Some(file), ..Default::default() });
                credentials.find("gateway").unwrap().slot(&field("scope").unwrap()).unwrap().token().await.unwrap();
                self.bed.entra.requests("/token").remove(0)
            }
            Purpose::Identity { proof } => self.identity(theirs, *proof).await,
            Purpose::VaultCertificate => self.vault("RS256", KeyUse::Sign, "/certificates/gateway-cert").await,
            Purpose::VaultSignature => {
                self.vault(theirs.json.as_ref().unwrap()["alg"].as_str().unwrap(), KeyUse::Sign, "/sign").await
            }
            Purpose::VaultSecret => self.vault("PS256", KeyUse::Download, "/secrets/gateway-cert").await,
            Purpose::Nothing(_) => unreachable!("nothing is asked for"),
        }
    }

    async fn identity(&self, theirs: &Theirs, proof: bool) -> Recorded {
        let TestBed { entra, folder, clock, http, .. } = &self.bed;
        let query: BTreeMap<_, _> = theirs.url.query_pairs().into_owned().collect();
        let get = |names: [&str; 2]| names.iter().find_map(|name| query.get(*name).cloned());
        let which = ManagedIdentityConfig {
            client_id: get(["client_id", "clientid"]),
            object_id: None,
            resource_id: get(["mi_res_id", "msi_res_id"]),
            source: ManagedIdentitySource::Auto,
        };
        let base = entra.base_url();
        let endpoint = format!("{base}{}", theirs.url.path());
        let header = |name: &str| theirs.headers.iter().any(|(theirs, _)| theirs == name).then(|| entra.identity_header());
        let platform = if theirs.url.path() == "/arc/token" {
            entra.play_arc(folder.path());
            Platform::Arc(Url::parse(&endpoint).unwrap(), folder.path().to_owned())
        } else {
            let environment: BTreeMap<_, _> = match (header("X-IDENTITY-HEADER"), header("secret")) {
                (Some(secret), _) => [("IDENTITY_ENDPOINT", endpoint), ("IDENTITY_HEADER", secret)].into(),
                (_, Some(secret)) => [("MSI_ENDPOINT", endpoint), ("MSI_SECRET", secret)].into(),
                (None, None) => [("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.to_owned())].into(),
            };
            Platform::detect(which.source, |name| environment.get(name).cloned()).unwrap()
        };
        let identity = ManagedIdentity { platform, which, http: IdentityHttp::clone(http), clock: clock.clone() };
        // That the tenant knows none of these ids is all the same: the request is what counts.
        let _ = identity.ask("https://vault.azure.net/.default").await;
        entra.requests(theirs.url.path()).remove(usize::from(proof))
    }

    /// Returns our request to a vault at `path` for a certificate with this use.
    async fn vault(&self, algorithm: &str, key_use: KeyUse, path: &str) -> Recorded {
        let TestBed { entra, .. } = &self.bed;
        entra.vault_certificate("gateway-cert", key_use == KeyUse::Download, 90);
        let opener = CredentialConfig { tenant: Some("contoso".to_owned()), ..super::testing::config() };
        let key_vault = KeyVaultCertificateConfig {
            vault: entra.base_url().to_owned(),
            certificate: "gateway-cert".to_owned(),
            version: None,
            identity: "opener".to_owned(),
            key_use,
        };
        let algorithm = if algorithm == "RS256" { AssertionAlgorithm::RS256 } else { AssertionAlgorithm::PS256 };
        let gateway = CredentialConfig {
            tenant: Some("captured".to_owned()),
            client_id: Some(CLIENT.to_owned()),
            certificate: Some(CertificateConfig { key_vault: Some(key_vault), ..Default::default() }),
            assertion: AssertionConfig { algorithm: Some(algorithm), send_certificate_chain: false },
            ..Default::default()
        };
        let configs = [("opener".to_owned(), opener), ("gateway".to_owned(), gateway)].into();
        let (credentials, faults) = self.bed.build_all(&configs, None);
        assert!(!faults.any_error(), "{faults:?}");
        // The app registration does not know the vault's certificate, and nothing here needs it to.
        let _ = credentials.find("gateway").unwrap().slot("https://graph.microsoft.com/.default").unwrap().token().await;
        entra.requests(path).remove(0)
    }
}

/// Returns the differences of two lists of named values; `same` compares values that both have.
fn compare(
    what: &str,
    theirs: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
    same: impl Fn(&str, &str, &str) -> bool,
) -> Vec<String> {
    let lacking = theirs.keys().filter(|name| !ours.contains_key(*name)).map(|name| format!("{what} -{name}"));
    let surplus = ours.keys().filter(|name| !theirs.contains_key(*name)).map(|name| format!("{what} +{name}"));
    let other = theirs.iter().filter_map(|(name, value)| Some((name, value, ours.get(name)?)));
    let other = other.filter(|(name, theirs, ours)| !same(name, theirs, ours)).map(|(name, ..)| format!("{what} ~{name}"));
    lacking.chain(surplus).chain(other).collect()
}

fn lower(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

fn texts(object: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    object.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn differences(base: &str, theirs: &Theirs, ours: &Recorded) -> Vec<String> {
    let mut found = Vec::new();
    assert_eq!(ours.method.as_str(), theirs.method);
    if theirs.url.host_str().is_some_and(|host| host.ends_with(".login.microsoft.com")) {
        found.push("host".to_owned());
    }
    // A version of the vault's is made anew for each run.
    let path = |path: &str| -> String {
        let segment = |segment: &str| {
            let version = segment.len() == 32 && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
            if version { "VERSION".to_owned() } else { segment.to_owned() }
        };
        path.split('/').map(segment).collect::<Vec<_>>().join("/")
    };
    let (theirs_path, ours_path) = (path(theirs.url.path()), path(ours.target.path()));
    if theirs_path != ours_path && theirs_path.trim_end_matches('/') == ours_path {
        found.push("path ~slash".to_owned());
    } else {
        assert_eq!(theirs_path, ours_path);
    }

    let ours_url = Url::parse(base).unwrap().join(&ours.target.to_string()).unwrap();
    let query = |url: &Url| url.query_pairs().into_owned().collect();
    found.extend(compare("query", &query(&theirs.url), &query(&ours_url), |_, theirs, ours| theirs == ours));

    let drawn = ["client-request-id", "x-ms-client-request-id", "authorization", "secret", "x-identity-header"];
    let mut headers: BTreeMap<String, String> =
        ours.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.retain(|name, _| !["host", "content-length", "user-agent"].contains(&&**name));
    let same = |name: &str, theirs: &str, ours: &str| drawn.contains(&name) || theirs == ours;
    found.extend(compare("header", &lower(&theirs.headers), &headers, same));

    let secret = ["client_assertion", "assertion"];
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    let same = |name: &str, theirs: &str, ours: &str| {
        secret.contains(&name) || theirs == ours || name == "claims" && json(theirs).is_some() && json(theirs) == json(ours)
    };
    found.extend(compare("form", &lower(&theirs.form), &lower(&form(ours)), same));

    if let Some(json) = &theirs.json {
        let ours: Map<String, Value> = serde_json::from_slice(&ours.body).unwrap();
        // Both are digests of SHA-256, of texts that differ.
        let same = |name: &str, theirs: &str, ours: &str| {
            theirs == ours || name == "value" && theirs.len() == ours.len() && URL_SAFE_NO_PAD.decode(ours).is_ok()
        };
        found.extend(compare("body", &texts(json), &texts(&ours), same));
    }
    if let Some(assertion) = &theirs.assertion {
        let sent = ours.field("client_assertion").unwrap();
        let part = |index: usize| -> Map<String, Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(sent.split('.').nth(index).unwrap()).unwrap()).unwrap()
        };
        let same = |name: &str, theirs: &str, ours: &str| match name {
            // The keys differ; that a thumbprint is one shows by its length.
            "x5t" | "x5t#S256" => theirs.len() == ours.len(),
            "x5c" => ours.starts_with("[\""),
            "jti" => [theirs, ours].iter().all(|id| uuid::Uuid::parse_str(id).is_ok()),
            "aud" => theirs == ours.replace(base, AUTHORITY),
            "nbf" => [theirs, ours].iter().all(|time| time.parse::<u64>().is_ok()),
            _ => theirs == ours,
        };
        found.extend(compare("assertion", &texts(&assertion.header), &texts(&part(0)), same));
        found.extend(compare("assertion", &texts(&assertion.payload), &texts(&part(1)), same));
    }
    found
}

fn form(request: &Recorded) -> Vec<(String, String)> {
    let is_form = request.headers.get("content-type").is_some_and(|kind| kind == "application/x-www-form-urlencoded");
    if is_form { request.form() } else { Vec::new() }
}

fn captures() -> Vec<Capture> {
    serde_json::from_str(&CAPTURES.replace(":PORT/", ":1/")).unwrap()
}

#[tokio::test]
async fn our_requests_are_those_of_microsofts_clients_but_for_what_is_listed() {
    let stage = Stage::open().await;
    let base = stage.bed.entra.base_url().to_owned();
    let (mut compared, mut explained, mut unknown) = (0, BTreeSet::new(), BTreeSet::new());
    for capture in captures() {
        for (index, theirs) in capture.requests.iter().enumerate() {
            let purpose = purpose(&capture, theirs);
            if let Purpose::Nothing(why) = purpose {
                assert!(!why.is_empty());
                continue;
            }
            let ours = stage.ours(&purpose, theirs).await;
            for difference in differences(&base, theirs, &ours) {
                match DIFFERENCES.iter().position(|(known, _)| *known == difference) {
                    Some(reason) => _ = explained.insert(reason),
                    None => _ = unknown.insert(format!("{difference}: {} of {}, request {index}", capture.client, capture.file)),
                }
            }
            compared += 1;
        }
    }
    assert!(unknown.is_empty(), "these stand in no table: {unknown:#?}");
    assert!(compared >= 40, "{compared}");
    let idle: Vec<_> =
        (0..DIFFERENCES.len()).filter(|index| !explained.contains(index)).map(|index| DIFFERENCES[index].0).collect();
    assert_eq!(idle, [""; 0], "these explain nothing");
}

/// Checks that the fixture contains every capture, if the captures lie beside the checkout.
#[test]
fn every_capture_is_in_the_fixture() {
    let Some(folder) = std::env::var_os("ENTRADA_GOLDEN").map(std::path::PathBuf::from).filter(|folder| folder.is_dir()) else {
        eprintln!("skipped: ENTRADA_GOLDEN names no folder with captures");
        return;
    };
    let known: BTreeMap<String, Vec<Theirs>> = captures().into_iter().map(|capture| (capture.file, capture.requests)).collect();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        if entry.extension().is_none_or(|extension| extension != "json") || name == "certificates" {
            continue;
        }
        let text = std::fs::read_to_string(&entry).unwrap().replace(":PORT/", ":1/");
        let document: Value = serde_json::from_str(&text).unwrap();
        let ours = known.get(&name).unwrap_or_else(|| panic!("{name} is not in the fixture"));
        let theirs = document["requests"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(ours.url.as_str(), Url::parse(theirs["url"].as_str().unwrap()).unwrap().as_str(), "{name}");
            assert_eq!(ours.assertion.is_some(), theirs["client_assertion_decoded"].is_object(), "{name}");
            let fields = theirs["form_in_order"].as_array().map_or(0, Vec::len);
            assert_eq!(ours.form.len(), fields, "{name}");
        }
    }
}

//! The vault's HTTP interface: `certificates`, `keys` and `secrets`, a challenge, errors.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State as Extract},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use p12_keystore::{Certificate as P12Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        State,
        assertion::{Assertion, decode},
        directory::new_id,
    },
    CertificateVersion, SecretVersion,
};

/// The audience of vault tokens: without a trailing slash, and not the vault's own URL.
const AUDIENCE: &str = "https://vault.azure.net";
/// The longest text of a secret.
const SECRET_LIMIT: usize = 25 * 1024;

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/certificates/{*path}", get(certificates).post(create_certificate))
        .route("/keys/{*path}", get(keys).post(sign))
        .route("/secrets/{*path}", get(secrets).put(set_secret))
}

/// An error of the vault: status, code, inner code, text.
struct Refused {
    status: StatusCode,
    code: &'static str,
    inner: Option<&'static str>,
    text: String,
    challenge: Option<String>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, inner: None, text: text.into(), challenge: None }
    }

    fn inner(mut self, inner: &'static str) -> Self {
        self.inner = Some(inner);
        self
    }

    fn not_found(kind: &'static str, name: &str) -> Self {
        let code = match kind {
            "certificate" => "CertificateNotFound",
            "key" => "KeyNotFound",
            _ => "SecretNotFound",
        };
        Self::new(
            StatusCode::NOT_FOUND,
            code,
            format!(
                "A {kind} with (name/id) {name} was not found in this key vault. If you recently deleted this {kind} you may be able to recover it."
            ),
        )
    }

    fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", text)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.text });
        if let Some(inner) = self.inner {
            error["innererror"] = json!({ "code": inner });
        }
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge.and_then(|challenge| HeaderValue::try_from(challenge).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        headers.insert("x-ms-keyvault-region", HeaderValue::from_static("westeurope"));
        if let Ok(id) = HeaderValue::try_from(new_id()) {
            headers.insert("x-ms-request-id", id);
        }
        response
    }
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(rename = "api-version")]
    api_version: Option<String>,
    maxresults: Option<usize>,
    skip: Option<usize>,
}

/// One request: the client, and the object.
struct VaultRequest {
    state: Arc<State>,
    /// Scheme and host as called: ids are URLs of the vault.
    base: String,
    segments: Vec<String>,
    query: Asked,
}

impl VaultRequest {
    /// Admits clients with a token for the vault and the permission.
    fn new(state: Arc<State>, path: &str, query: Asked, headers: &HeaderMap, permission: &str) -> Result<Self, Refused> {
        let tenant = state.directory().home(None);
        let refuse = |text: String| Refused {
            challenge: Some(format!("Bearer authorization=\"{}/{tenant}\", resource=\"{AUDIENCE}\"", state.base)),
            ..Refused::new(StatusCode::UNAUTHORIZED, "Unauthorized", text)
        };
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| refuse("AKV10000: Request is missing a Bearer or PoP token.".to_owned()))?;
        let token = Assertion::read(token).map_err(|_| refuse("AKV10001: The token cannot be read.".to_owned()))?;
        let claim = |name: &str| token.claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if !state.keys().published.iter().any(|key| token.is_signed_by(key)) {
            return Err(refuse("AKV10013: The token's signature is not valid.".to_owned()));
        }
        let (issuer, expected) = (claim("iss"), [state.issuer_v1(&tenant), state.issuer_v2(&tenant)]);
        if !expected.contains(&issuer) {
            return Err(refuse(format!("AKV10032: Invalid issuer. Expected one of {}, found {issuer}.", expected.join(", "))));
        }
        let audience = claim("aud");
        if audience != AUDIENCE {
            return Err(refuse(format!("AKV10022: Invalid audience. Expected {AUDIENCE}, found: {audience}.")));
        }
        if token.claims.get("exp").and_then(Value::as_u64).is_none_or(|exp| exp <= state.clock.unix_seconds()) {
            return Err(refuse("AKV10014: The token has expired.".to_owned()));
        }
        if query.api_version.as_deref().is_none_or(str::is_empty) {
            return Err(Refused::bad("api-version must be specified"));
        }
        let client = [claim("appid"), claim("azp")].into_iter().find(|client| !client.is_empty()).unwrap_or_default();
        let allowed =
            state.vault().permissions.get(&client.to_ascii_lowercase()).is_none_or(|allowed| allowed.contains(permission));
        if !allowed && state.vault().access_policies {
            let (kind, action) = permission.split_once('/').unwrap_or((permission, ""));
            let text = format!(
                "The user, group or application 'appid={client};oid={};iss={issuer}' does not have {kind} {action} permission on key vault 'entrada;location=westeurope'.",
                claim("oid")
            );
            return Err(Refused::new(StatusCode::FORBIDDEN, "Forbidden", text).inner("AccessDenied"));
        }
        if !allowed {
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                format!(
                    "Caller is not authorized to perform action on resource. Caller: appid={client};oid={};iss={issuer} Action: 'Microsoft.KeyVault/vaults/{permission}/action'",
                    claim("oid")
                ),
            )
            .inner("ForbiddenByRbac"));
        }
        let scheme = if state.base.starts_with("https") { "https" } else { "http" };
        let base = match headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
            Some(host) => format!("{scheme}://{host}"),
            None => state.base.clone(),
        };
        let segments = path.split('/').filter(|segment| !segment.is_empty()).map(ToOwned::to_owned).collect();
        Ok(Self { state, base, segments, query })
    }

    fn name(&self) -> &str {
        self.segments.first().map_or("", String::as_str)
    }

    fn version(&self) -> Option<&str> {
        self.segments.get(1).map(String::as_str)
    }

    fn url(&self, kind: &str, name: &str, version: &str) -> String {
        format!("{}/{kind}/{name}/{version}", self.base)
    }

    /// Returns the certificate if it is valid now.
    fn usable(&self) -> Result<CertificateVersion, Refused> {
        let vault = self.state.vault();
        let entry = vault.certificate(self.name(), self.version()).ok_or_else(|| Refused::not_found("key", self.name()))?.clone();
        let now = self.state.clock.unix_seconds();
        if !entry.enabled {
            return Err(Refused::new(StatusCode::FORBIDDEN, "Forbidden", "Operation is not allowed on a disabled key.")
                .inner("KeyDisabled"));
        }
        if now > entry.not_after {
            return Err(Refused::new(StatusCode::FORBIDDEN, "Forbidden", "Operation is not allowed on an expired key.")
                .inner("KeyExpired"));
        }
        Ok(entry)
    }
}

fn attributes(entry: &CertificateVersion) -> Value {
    json!({
        "enabled": entry.enabled,
        "nbf": entry.created.saturating_sub(600),
        "exp": entry.not_after,
        "created": entry.created,
        "updated": entry.created,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    })
}

async fn certificates(
    Extract(state): Extract<Arc<State>>,
    Path(path): Path<String>,
    Query(query): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let listing = path.trim_end_matches('/').ends_with("/versions");
    let visit = VaultRequest::new(state, &path, query, &headers, if listing { "certificates/list" } else { "certificates/get" })?;
    if listing {
        return Ok(list(&visit));
    }
    let vault = visit.state.vault();
    let entry =
        vault.certificate(visit.name(), visit.version()).ok_or_else(|| Refused::not_found("certificate", visit.name()))?;
    Ok(Json(bundle(&visit, visit.name(), entry, content_type(vault.as_pem.contains(&visit.name().to_ascii_lowercase()))))
        .into_response())
}

/// Writes the public part of a certificate. `cer` uses the standard alphabet, `x5t` the URL-safe one, as in the real vault.
fn bundle(visit: &VaultRequest, name: &str, entry: &CertificateVersion, content_type: &str) -> Value {
    json!({
        "id": visit.url("certificates", name, &entry.id),
        "kid": visit.url("keys", name, &entry.id),
        "sid": visit.url("secrets", name, &entry.id),
        "x5t": URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, entry.key.certificate())),
        "cer": STANDARD.encode(entry.key.certificate()),
        "attributes": attributes(entry),
        "policy": {
            "id": format!("{}/certificates/{name}/policy", visit.base),
            "key_props": { "exportable": entry.exportable, "kty": "RSA", "key_size": 2048, "reuse_key": false },
            "secret_props": { "contentType": content_type },
            "x509_props": { "subject": format!("CN={name}"), "key_usage": ["digitalSignature"], "validity_months": 12 },
            "issuer": { "name": "Self" },
        },
    })
}

fn list(visit: &VaultRequest) -> Response {
    let vault = visit.state.vault();
    let versions = vault.certificates.get(&visit.name().to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default();
    let (skip, most) = (visit.query.skip.unwrap_or(0), visit.query.maxresults.unwrap_or(25).clamp(1, 25));
    let value: Vec<Value> = versions
        .iter()
        .skip(skip)
        .take(most)
        .map(|entry| {
            json!({
                "id": visit.url("certificates", visit.name(), &entry.id),
                "x5t": URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, entry.key.certificate())),
                "attributes": attributes(entry),
            })
        })
        .collect();
    let next = (skip + most < versions.len()).then(|| {
        format!(
            "{}/certificates/{}/versions?api-version={}&maxresults={most}&skip={}",
            visit.base,
            visit.name(),
            visit.query.api_version.as_deref().unwrap_or_default(),
            skip + most
        )
    });
    Json(json!({ "value": value, "nextLink": next })).into_response()
}

/// `POST /certificates/{name}/create`: makes a new version at once.
async fn create_certificate(
    Extract(state): Extract<Arc<State>>,
    Path(path): Path<String>,
    Query(query): Query<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let visit = VaultRequest::new(state, &path, query, &headers, "certificates/create")?;
    if visit.version() != Some("create") {
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "The method is not allowed."));
    }
    let policy: Value = serde_json::from_slice(&body).map_err(|_| Refused::bad("The body is not JSON."))?;
    let exportable = policy["policy"]["key_props"]["exportable"].as_bool().unwrap_or(true);
    let now = visit.state.clock.unix_seconds();
    visit
        .state
        .vault()
        .certify(visit.name(), exportable, now, 365)
        .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", error.to_string()))?;
    let operation = json!({
        "id": format!("{}/certificates/{}/pending", visit.base, visit.name()),
        "status": "completed",
        "target": format!("{}/certificates/{}", visit.base, visit.name()),
        "issuer": { "name": "Self" },
        "request_id": new_id().replace('-', ""),
    });
    Ok((StatusCode::ACCEPTED, Json(operation)).into_response())
}

async fn keys(
    Extract(state): Extract<Arc<State>>,
    Path(path): Path<String>,
    Query(query): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let visit = VaultRequest::new(state, &path, query, &headers, "keys/get")?;
    let vault = visit.state.vault();
    let entry = vault.certificate(visit.name(), visit.version()).ok_or_else(|| Refused::not_found("key", visit.name()))?;
    let mut attributes = attributes(entry);
    attributes["exportable"] = entry.exportable.into();
    Ok(Json(json!({
        "key": {
            "kid": visit.url("keys", visit.name(), &entry.id),
            "kty": "RSA",
            "key_ops": ["sign", "verify"],
            "n": URL_SAFE_NO_PAD.encode(entry.key.modulus()),
            "e": URL_SAFE_NO_PAD.encode(entry.key.exponent()),
        },
        "attributes": attributes,
        "managed": true,
    }))
    .into_response())
}

#[derive(Debug, Deserialize)]
struct SignRequest {
    alg: String,
    value: String,
}

/// `POST /keys/{name}[/{version}]/sign`: signs a digest. Without a version the newest one signs.
async fn sign(
    Extract(state): Extract<Arc<State>>,
    Path(path): Path<String>,
    Query(query): Query<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut visit = VaultRequest::new(state, &path, query, &headers, "keys/sign")?;
    if visit.segments.pop().as_deref() != Some("sign") {
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "The method is not allowed."));
    }
    let entry = visit.usable()?;
    let request: SignRequest =
        serde_json::from_slice(&body).map_err(|error| Refused::bad(format!("The body cannot be read: {error}")))?;
    let digest = decode(&request.value).ok_or_else(|| Refused::bad("Property value has invalid value: it is not base64url."))?;
    let signature = entry.key.sign_digest(&request.alg, &digest).ok_or_else(|| {
        Refused::bad(format!("Property alg has invalid value, or the digest's length does not fit {}.", request.alg))
    })?;
    Ok(Json(json!({ "kid": visit.url("keys", visit.name(), &entry.id), "value": URL_SAFE_NO_PAD.encode(signature) }))
        .into_response())
}

async fn secrets(
    Extract(state): Extract<Arc<State>>,
    Path(path): Path<String>,
    Query(query): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let listing = path.trim_end_matches('/').ends_with("/versions");
    let visit = VaultRequest::new(state, &path, query, &headers, if listing { "secrets/list" } else { "secrets/get" })?;
    let vault = visit.state.vault();
    if listing {
        let versions = vault.secrets.get(&visit.name().to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default();
        let mut value: Vec<Value> = versions.iter().map(|secret| secret_body(&visit, secret)).collect();
        // A list tells what there is, and never what it says.
        value.iter_mut().filter_map(Value::as_object_mut).for_each(|entry| drop(entry.remove("value")));
        return Ok(Json(json!({ "value": value, "nextLink": null })).into_response());
    }
    if let Some(secret) = vault.secret(visit.name(), visit.version()) {
        if !secret.enabled {
            return Err(Refused::new(StatusCode::FORBIDDEN, "Forbidden", "Operation get is not allowed on a disabled secret.")
                .inner("SecretDisabled"));
        }
        return Ok(Json(secret_body(&visit, secret)).into_response());
    }
    let entry = vault.certificate(visit.name(), visit.version()).ok_or_else(|| Refused::not_found("secret", visit.name()))?;
    let as_pem = vault.as_pem.contains(&visit.name().to_ascii_lowercase());
    let value = if as_pem { Some(pem(entry)) } else { pfx(visit.name(), entry).map(|pfx| STANDARD.encode(pfx)) };
    let value =
        value.ok_or_else(|| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "The PFX cannot be made."))?;
    Ok(Json(json!({
        "value": value,
        "contentType": content_type(as_pem),
        "id": visit.url("secrets", visit.name(), &entry.id),
        "managed": true,
        "kid": visit.url("keys", visit.name(), &entry.id),
        "attributes": attributes(entry),
    }))
    .into_response())
}

fn secret_body(visit: &VaultRequest, secret: &SecretVersion) -> Value {
    let mut attributes = json!({
        "enabled": secret.enabled,
        "created": secret.created,
        "updated": secret.created,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    });
    if let Some(expires) = secret.expires {
        attributes["exp"] = expires.into();
    }
    let mut body =
        json!({ "value": secret.value, "id": visit.url("secrets", visit.name(), &secret.id), "attributes": attributes });
    if let Some(content_type) = &secret.content_type {
        body["contentType"] = content_type.as_str().into();
    }
    body
}

const fn content_type(as_pem: bool) -> &'static str {
    if as_pem { "application/x-pem-file" } else { "application/x-pkcs12" }
}

/// Returns the certificate as PEM text; with its private key only if it is exportable.
fn pem(entry: &CertificateVersion) -> String {
    let block = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let key = if entry.exportable { block("PRIVATE KEY", entry.key.pkcs8()) } else { String::new() };
    key + &block("CERTIFICATE", entry.key.certificate())
}

/// Returns the certificate as a PFX with an empty password; with its private key only if it is exportable.
fn pfx(name: &str, entry: &CertificateVersion) -> Option<Vec<u8>> {
    let certificate = P12Certificate::from_der(entry.key.certificate()).ok()?;
    let content = if entry.exportable {
        let key = PrivateKey::from_der(entry.key.pkcs8()).ok()?;
        KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(entry.id.as_bytes(), key, [certificate]))
    } else {
        KeyStoreEntry::Certificate(certificate)
    };
    let mut store = KeyStore::new();
    store.add_entry(name, content);
    store.writer("").write().ok()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewSecret {
    value: String,
    content_type: Option<String>,
    #[serde(default)]
    attributes: Value,
}

async fn set_secret(
    Extract(state): Extract<Arc<State>>,
    Path(path): Path<String>,
    Query(query): Query<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let visit = VaultRequest::new(state, &path, query, &headers, "secrets/set")?;
    let secret: NewSecret =
        serde_json::from_slice(&body).map_err(|error| Refused::bad(format!("The body cannot be read: {error}")))?;
    if secret.value.len() > SECRET_LIMIT {
        return Err(Refused::bad("The secret is longer than 25 KB."));
    }
    let now = visit.state.clock.unix_seconds();
    let mut vault = visit.state.vault();
    vault.put_secret(visit.name(), &secret.value, secret.content_type.as_deref(), secret.attributes["exp"].as_u64(), now);
    let stored = vault.secret(visit.name(), None).ok_or_else(|| Refused::not_found("secret", visit.name()))?;
    Ok(Json(secret_body(&visit, stored)).into_response())
}

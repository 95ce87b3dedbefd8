//! The token endpoints of the platform: virtual machines (IMDS), App Service, its older form, Azure Arc, each with its
//! peculiarities.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State as Extract},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    DevTenant, State,
    directory::{id_of, new_id},
    mint::TokenBuilder,
    problem::no_store,
};

/// The lifetime of these tokens, in seconds: a day.
const LIFETIME: u64 = 86_399;

/// A managed identity of the machine that the tenant simulates.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ManagedIdentity {
    /// The client id.
    pub client_id: String,
    /// The resource id of a user-assigned identity; `None` for the machine's own.
    #[serde(default)]
    pub resource_id: Option<String>,
}

impl ManagedIdentity {
    /// Returns the principal's object id: the subject of its tokens.
    pub fn object_id(&self) -> String {
        id_of("service-principal", &self.client_id)
    }
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    identities: Vec<ManagedIdentity>,
    /// The required value of `X-IDENTITY-HEADER` and `secret`.
    identity_header: String,
    /// The folder in which Arc's agent leaves its challenge files. Clients accept only the agent's own folder.
    arc_folder: Option<PathBuf>,
    /// SHA-1 of the TLS certificate in hexadecimal, by which Service Fabric's clients know the endpoint; `None` without TLS.
    pub(crate) server_thumbprint: Option<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            identities: vec![ManagedIdentity { client_id: id_of("machine", "system"), resource_id: None }],
            identity_header: id_of("machine", "header"),
            arc_folder: None,
            server_thumbprint: None,
        }
    }
}

impl Machine {
    /// Changes the identities, and the folder of Arc's challenge files; what is `None` stays.
    pub(crate) fn change(&mut self, identities: Option<Vec<ManagedIdentity>>, arc_folder: Option<PathBuf>) {
        self.identities = identities.unwrap_or_else(|| std::mem::take(&mut self.identities));
        self.arc_folder = arc_folder.or_else(|| self.arc_folder.take());
    }

    /// Returns the environment variables of a program that runs here, by kind of platform.
    pub(crate) fn environment(&self, base: &str) -> Value {
        json!({
            "identities": self.identities,
            "app-service": { "IDENTITY_ENDPOINT": format!("{base}/msi/token"), "IDENTITY_HEADER": self.identity_header },
            "app-service-2017": { "MSI_ENDPOINT": format!("{base}/msi/token"), "MSI_SECRET": self.identity_header },
            "azure-ml": { "MSI_ENDPOINT": format!("{base}/ml/token"), "MSI_SECRET": self.identity_header },
            "service-fabric": {
                "IDENTITY_ENDPOINT": format!("{base}/sf/token"),
                "IDENTITY_HEADER": self.identity_header,
                "IDENTITY_SERVER_THUMBPRINT": self.server_thumbprint,
            },
            "imds": { "AZURE_POD_IDENTITY_AUTHORITY_HOST": base },
            "arc": { "IDENTITY_ENDPOINT": format!("{base}/arc/token"), "IMDS_ENDPOINT": base },
        })
    }
}

/// The machine, as tests set it up.
impl DevTenant {
    /// Gives the machine these identities instead of its single system-assigned one.
    pub fn managed_identities(&self, identities: Vec<ManagedIdentity>) {
        self.state.machine().identities = identities;
    }

    /// Returns the value of `IDENTITY_SERVER_THUMBPRINT`, with `IDENTITY_ENDPOINT` at `{base}/sf/token`; `None` without TLS.
    pub fn server_thumbprint(&self) -> Option<String> {
        self.state.machine().server_thumbprint.clone()
    }

    /// Returns the identities of the machine.
    pub fn identities(&self) -> Vec<ManagedIdentity> {
        self.state.machine().identities.clone()
    }

    /// Returns the value for `IDENTITY_HEADER` (and `MSI_SECRET`), with `IDENTITY_ENDPOINT` at `{base}/msi/token`.
    pub fn identity_header(&self) -> String {
        self.state.machine().identity_header.clone()
    }

    /// Simulates Azure Arc at `{base}/arc/token`, with challenge files in this folder.
    pub fn play_arc(&self, folder: impl Into<PathBuf>) {
        self.state.machine().arc_folder = Some(folder.into());
    }
}

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/metadata/identity/oauth2/token", get(imds))
        .route("/msi/token", get(app_service))
        .route("/ml/token", get(azure_ml))
        .route("/arc/token", get(arc))
        .route("/sf/token", get(service_fabric))
}

type Fields = BTreeMap<String, String>;

/// Returns the identity that a request names, or the machine's own.
fn identity(state: &State, fields: &Fields, resource_id: &str) -> Option<ManagedIdentity> {
    let machine = state.machine();
    let named = |name: &str| fields.get(name).filter(|value| !value.is_empty());
    let find = |matches: &dyn Fn(&ManagedIdentity) -> bool| machine.identities.iter().find(|identity| matches(identity)).cloned();
    if let Some(id) = named("client_id").or_else(|| named("clientid")) {
        return find(&|identity| identity.client_id.eq_ignore_ascii_case(id));
    }
    if let Some(id) = named("object_id").or_else(|| named("principal_id")) {
        return find(&|identity| identity.object_id().eq_ignore_ascii_case(id));
    }
    if let Some(id) = named(resource_id) {
        return find(&|identity| identity.resource_id.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(id)));
    }
    match machine.identities.as_slice() {
        // A machine with a single user-assigned identity hands that one out.
        [only] => Some(only.clone()),
        _ => find(&|identity| identity.resource_id.is_none()),
    }
}

/// Returns the token of an identity for the requested audience.
fn token(state: Arc<State>, identity: &ManagedIdentity, resource: &str) -> Option<String> {
    let (audience, version, roles) = {
        let directory = state.directory();
        let app = directory.resource(resource)?;
        let roles =
            directory.app(&identity.client_id).and_then(|client| app.of_resource(&client.roles)).cloned().unwrap_or_default();
        let audience = if app.token_version == 1 { resource.to_owned() } else { app.client_id.clone() };
        (audience, app.token_version, roles)
    };
    let builder = TokenBuilder::new(state).app(&identity.client_id).audience(&audience).roles(roles);
    let builder = if version == 1 { builder.v1() } else { builder.v2() };
    let builder = match &identity.resource_id {
        Some(id) => builder.claim("xms_mirid", id.as_str()),
        None => builder,
    };
    builder.expires_in(i64::try_from(LIFETIME).unwrap_or(i64::MAX)).try_sign().ok()
}

fn oauth_error(status: StatusCode, error: &str, text: &str) -> Response {
    (status, Json(json!({ "error": error, "error_description": text }))).into_response()
}

/// Serves IMDS: numbers are texts, and `Metadata: true` keeps web pages out.
async fn imds(Extract(state): Extract<Arc<State>>, Query(fields): Query<Fields>, headers: HeaderMap) -> Response {
    if headers.get("metadata").is_none_or(|value| value.as_bytes() != b"true") {
        return oauth_error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "bad_request_102: Required metadata header not specified",
        );
    }
    if headers.contains_key("x-forwarded-for") {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "The metadata service answers no proxied request");
    }
    if fields.get("api-version").is_none_or(String::is_empty) {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "Required query variable 'api-version' is missing");
    }
    let Some(resource) = fields.get("resource").filter(|resource| !resource.is_empty()) else {
        return oauth_error(
            StatusCode::BAD_REQUEST,
            "invalid_resource",
            "AADSTS50001: The application named in the request was not found: resource is missing",
        );
    };
    let Some(identity) = identity(&state, &fields, "msi_res_id") else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "Identity not found");
    };
    let now = state.clock.unix_seconds();
    let Some(token) = token(state, &identity, resource) else {
        return oauth_error(
            StatusCode::BAD_REQUEST,
            "invalid_resource",
            &format!("AADSTS500011: The resource principal named {resource} was not found in the tenant"),
        );
    };
    answer(json!({
        "access_token": token,
        "client_id": identity.client_id,
        "expires_in": LIFETIME.to_string(),
        "expires_on": (now + LIFETIME).to_string(),
        "ext_expires_in": LIFETIME.to_string(),
        "not_before": now.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    }))
}

/// Serves App Service, in the current form or in the one of 2017: without `expires_in`, and the older one writes the expiry as a
/// date.
async fn app_service(Extract(state): Extract<Arc<State>>, Query(fields): Query<Fields>, headers: HeaderMap) -> Response {
    local_service(state, &fields, &headers, date)
}

/// Serves Azure ML: App Service's older form, with the expiry in seconds.
async fn azure_ml(Extract(state): Extract<Arc<State>>, Query(fields): Query<Fields>, headers: HeaderMap) -> Response {
    local_service(state, &fields, &headers, |seconds| seconds.to_string())
}

fn local_service(state: Arc<State>, fields: &Fields, headers: &HeaderMap, old_date: fn(u64) -> String) -> Response {
    let refuse = |status: StatusCode, text: &str| {
        (status, Json(json!({ "statusCode": status.as_u16(), "message": text }))).into_response()
    };
    let old = match fields.get("api-version").map(String::as_str) {
        Some("2019-08-01") => false,
        Some("2017-09-01") => true,
        _ => return refuse(StatusCode::BAD_REQUEST, "The api-version is not supported."),
    };
    let secret = headers.get(if old { "secret" } else { "x-identity-header" }).map(HeaderValue::as_bytes);
    if secret != Some(state.machine().identity_header.as_bytes()) {
        return refuse(StatusCode::UNAUTHORIZED, "The identity header is missing or wrong.");
    }
    let Some(resource) = fields.get("resource").filter(|resource| !resource.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "The resource is missing.");
    };
    let Some(identity) = identity(&state, fields, "mi_res_id") else {
        return refuse(StatusCode::BAD_REQUEST, "No managed identity was found for the given parameters.");
    };
    let expires = state.clock.unix_seconds() + LIFETIME;
    // A resource that it does not know shows as a vague failure of its own.
    let Some(token) = token(state, &identity, resource) else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred while fetching the AAD token.");
    };
    let expires_on = if old { old_date(expires) } else { expires.to_string() };
    answer(json!({
        "access_token": token,
        "expires_on": expires_on,
        "resource": resource,
        "token_type": "Bearer",
        "client_id": identity.client_id,
    }))
}

/// Formats a time: `11/22/2026 12:00:00 PM +00:00`.
fn date(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map(|at| at.strftime("%m/%d/%Y %I:%M:%S %p +00:00").to_string())
        .unwrap_or_default()
}

/// Serves Arc: first a challenge that names a file, then a token for the file's content, which proves that the caller may read
/// it.
async fn arc(Extract(state): Extract<Arc<State>>, Query(fields): Query<Fields>, headers: HeaderMap) -> Response {
    let Some(folder) = state.machine().arc_folder.clone() else {
        return oauth_error(StatusCode::NOT_FOUND, "not_found", "This machine is not connected to Azure Arc");
    };
    if headers.get("metadata").is_none_or(|value| value.as_bytes() != b"true") {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "Required metadata header not specified");
    }
    let key = folder.join("entrada-development-tenant.key");
    let proof =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Basic "));
    let expected = id_of("arc", &state.base);
    if proof.map(str::trim) != Some(expected.as_str()) {
        if std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&key, &expected)).is_err() {
            return oauth_error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "The challenge file cannot be written");
        }
        let mut response = oauth_error(StatusCode::UNAUTHORIZED, "unauthorized_client", "Missing Basic Authorization header");
        if let Ok(challenge) = HeaderValue::try_from(format!("Basic realm={}", key.display())) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        return response;
    }
    let Some(resource) = fields.get("resource").filter(|resource| !resource.is_empty()) else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "resource is missing");
    };
    let Some(identity) = identity(&state, &fields, "msi_res_id") else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "Identity not found");
    };
    let now = state.clock.unix_seconds();
    let Some(token) = token(state, &identity, resource) else {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_resource", "The resource was not found in the tenant");
    };
    answer(json!({
        "access_token": token,
        "client_id": identity.client_id,
        "object_id": identity.object_id(),
        "msi_res_id": identity.resource_id,
        "expires_in": LIFETIME.to_string(),
        "expires_on": (now + LIFETIME).to_string(),
        "resource": resource,
        "token_type": "Bearer",
    }))
}

/// Service Fabric's: the identity is the service's own, and numbers are numbers.
async fn service_fabric(Extract(state): Extract<Arc<State>>, Query(fields): Query<Fields>, headers: HeaderMap) -> Response {
    let refuse = |status: StatusCode, code: &str, text: &str| {
        (status, Json(json!({ "error": { "correlationId": new_id(), "code": code, "message": text } }))).into_response()
    };
    if fields.get("api-version").map(String::as_str) != Some("2019-07-01-preview") {
        return refuse(StatusCode::BAD_REQUEST, "InvalidApiVersion", "The api-version is not supported.");
    }
    if headers.get("secret").map(HeaderValue::as_bytes) != Some(state.machine().identity_header.as_bytes()) {
        return refuse(StatusCode::UNAUTHORIZED, "SecretHeaderNotFound", "The Secret header is missing or wrong.");
    }
    let Some(resource) = fields.get("resource").filter(|resource| !resource.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "ArgumentNullOrEmpty", "The resource is missing.");
    };
    let Some(identity) = state.machine().identities.first().cloned() else {
        return refuse(StatusCode::NOT_FOUND, "ManagedIdentityNotFound", "No managed identity was found for the service.");
    };
    let expires = state.clock.unix_seconds() + LIFETIME;
    let Some(token) = token(state, &identity, resource) else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "The token could not be fetched.");
    };
    answer(json!({ "token_type": "Bearer", "access_token": token, "expires_on": expires, "resource": resource }))
}

fn answer(body: Value) -> Response {
    let mut response = Json(body).into_response();
    no_store(&mut response);
    response
}

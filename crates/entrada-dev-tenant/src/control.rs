//! The tenant's control endpoints, `/dev/…`: registrations, tokens of any shape, keys, faults. For callers on this machine only.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{FromRequest, Query, Request, State as Extract},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::mint::ClientAuthentication;
use super::{
    State,
    directory::{App, Tenant, User},
    interference::Fault,
    managed_identity::ManagedIdentity,
    mint::TokenBuilder,
    monitor::Rule,
    server::Peer,
};

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(index))
        .route("/dev/apps", get(apps).post(put_app))
        .route("/dev/users", get(users).post(put_user))
        .route("/dev/tenants", get(tenants).post(put_tenant))
        .route("/dev/token", post(token))
        .route("/dev/keys/roll", post(roll))
        .route("/dev/keys/retire", post(retire))
        .route("/dev/vault/certificates", post(vault_certificate))
        .route("/dev/vault/secrets", post(vault_secret))
        .route("/dev/vault/permissions", post(vault_permissions))
        .route("/dev/machine", get(machine).post(set_machine))
        .route("/dev/monitor/rules", post(define_rule))
        .route("/dev/monitor/workspaces", post(define_workspace))
        .route("/dev/monitor/rows", get(rows).delete(forget_rows))
        .route("/dev/fail", post(fail))
        .route("/dev/recover", post(recover))
        .route("/dev/calls", get(calls).delete(forget))
        .layer(from_fn(this_machine_only))
}

/// Refuses other machines, and web pages in a browser on this machine: these endpoints hand out tokens.
async fn this_machine_only(Extension(Peer(peer)): Extension<Peer>, request: Request, next: Next) -> Response {
    let of_this_machine = |host: &str| {
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(host, |(name, _)| name);
        let name = name.trim_matches(['[', ']']);
        name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !peer.ip().to_canonical().is_loopback() || !of_this_machine(host) || request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "The control endpoints of the development tenant answer only this machine.\n")
            .into_response();
    }
    next.run(request).await
}

/// A JSON body, whatever its content type: `curl -d '{…}'` calls it a form.
struct Told<T>(T);

impl<T: serde::de::DeserializeOwned> FromRequest<Arc<State>> for Told<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        let read = serde_json::from_slice(&body);
        read.map(Told).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response())
    }
}

async fn index(Extract(state): Extract<Arc<State>>) -> String {
    let tenants: Vec<String> =
        state.directory().tenants.iter().map(|tenant| format!("  {}  {}", tenant.id, tenant.name)).collect();
    format!(
        "entrada development tenant at {base}\n\nTenants:\n{}\n\n\
         POST {base}/dev/token         {{\"user\": \"nia\", \"audience\": \"api://orders\", \"scopes\": [\"Orders.Read\"]}}; ?format=text gives the token alone\n\
         GET  {base}/dev/apps          what is registered; POST registers\n\
         GET  {base}/dev/users         the users; POST adds\n\
         POST {base}/dev/keys/roll     sign with a new key; /dev/keys/retire takes the old ones off the list\n\
         POST {base}/dev/fail          {{\"path\": \"/token\", \"status\": 503, \"times\": 2}}; POST /dev/recover ends it\n\
         POST {base}/dev/vault/certificates  {{\"name\": \"gateway\"}} makes a version; /dev/vault/secrets {{\"name\": \"…\", \"value\": \"…\"}}\n\
         GET  {base}/dev/machine       the environment of a program with a managed identity\n\
         GET  {base}/dev/monitor/rows?stream=  the rows that Azure Monitor took; POST /dev/monitor/rules and /dev/monitor/workspaces define where to\n\
         GET  {base}/dev/calls?path=/token   how often an endpoint was asked\n",
        tenants.join("\n"),
        base = state.base,
    )
}

async fn apps(Extract(state): Extract<Arc<State>>) -> Json<Vec<App>> {
    // Secrets stay at the desk.
    Json(state.directory().apps.iter().map(|app| App { secrets: Vec::new(), ..app.clone() }).collect())
}

async fn put_app(Extract(state): Extract<Arc<State>>, Told(mut app): Told<App>) -> StatusCode {
    app.client_id.make_ascii_lowercase();
    state.directory().put_app(app);
    StatusCode::NO_CONTENT
}

async fn users(Extract(state): Extract<Arc<State>>) -> Json<Vec<User>> {
    Json(state.directory().users.clone())
}

async fn put_user(Extract(state): Extract<Arc<State>>, Told(user): Told<User>) -> StatusCode {
    state.directory().put_user(user);
    StatusCode::NO_CONTENT
}

async fn tenants(Extract(state): Extract<Arc<State>>) -> Json<Vec<Tenant>> {
    Json(state.directory().tenants.clone())
}

async fn put_tenant(Extract(state): Extract<Arc<State>>, Told(tenant): Told<Tenant>) -> StatusCode {
    let mut directory = state.directory();
    directory.tenants.retain(|other| other.id != tenant.id);
    directory.tenants.push(tenant);
    StatusCode::NO_CONTENT
}

/// The parameters of a token for shell users.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    tenant: Option<String>,
    user: Option<String>,
    /// The app whose own token is requested.
    app: Option<String>,
    client: Option<String>,
    /// `none`, `secret` or `certificate`.
    client_credential: Option<String>,
    audience: Option<String>,
    scopes: Option<Vec<String>>,
    roles: Vec<String>,
    version: Option<u8>,
    /// Seconds from now; may be negative.
    expires_in: Option<i64>,
    issued_in: Option<i64>,
    expired: bool,
    id_token: bool,
    claims: Map<String, Value>,
    without: Vec<String>,
    header: Map<String, Value>,
    without_header: Vec<String>,
    algorithm: Option<String>,
    /// `tenant`, `wrong`, `unknown`, `personal` or `app:<client id>`.
    key: Option<String>,
    /// Whether a token is issued that Entra would never issue.
    force: bool,
}

impl Wanted {
    /// Compares the token with those that Entra issues: a test that passes with another one proves nothing. Defects that are requested
    /// by name (`expired`, `key`, `claims`, …) are intended.
    ///
    /// Returns notes on what was adapted.
    fn adapt(&mut self, state: &State) -> Result<Vec<String>, String> {
        const FORCED: &str = "or add \"force\": true to get it all the same";
        if self.force {
            return Ok(Vec::new());
        }
        if self.app.is_some() && self.scopes.is_some() {
            return Err(format!("an application's own token has roles, and never scopes: write \"roles\", {FORCED}"));
        }
        let Some(audience) = self.audience.clone() else { return Ok(Vec::new()) };
        let directory = state.directory();
        let Some(resource) = directory.resource(&audience) else {
            return Err(format!(
                "no app is registered as {audience}, for which Entra answers AADSTS500011: register it (POST /dev/apps), {FORCED}"
            ));
        };
        let own = resource.token_version;
        if let Some(version) = self.version.filter(|version| *version != own) {
            return Err(format!(
                "{audience} gets version {own} tokens by its registration, whatever the client asks for: register it with \"token_version\": {version}, {FORCED}"
            ));
        }
        if own == 2 && !audience.eq_ignore_ascii_case(&resource.client_id) {
            let note = format!("aud is {}: version 2 tokens name the API by its client id, never by its URI", resource.client_id);
            self.audience = Some(resource.client_id.clone());
            return Ok(vec![note]);
        }
        Ok(Vec::new())
    }

    fn builder(self, state: Arc<State>) -> Result<TokenBuilder, String> {
        let mut builder = TokenBuilder::new(state);
        if self.expired {
            builder = builder.expired();
        }
        builder = match (&self.user, &self.app) {
            (Some(_), Some(_)) => return Err("a token speaks for a user or for an app, not for both".to_owned()),
            (None, Some(app)) => builder.app(app),
            (user, None) => builder.user(user.as_deref().unwrap_or("nia")),
        };
        if let Some(tenant) = &self.tenant {
            builder = builder.tenant(tenant);
        }
        if let Some(client) = &self.client {
            builder = builder.client(client);
        }
        if let Some(audience) = &self.audience {
            builder = builder.audience(audience);
        }
        if let Some(scopes) = self.scopes {
            builder = builder.scopes(scopes);
        }
        builder = match self.client_credential.as_deref() {
            None => builder,
            Some("none") => builder.client_credential(ClientAuthentication::None),
            Some("secret") => builder.client_credential(ClientAuthentication::Secret),
            Some("certificate") => builder.client_credential(ClientAuthentication::Certificate),
            Some(other) => return Err(format!("client_credential is {other:?}; it is none, secret or certificate")),
        };
        builder = match self.version {
            None => builder,
            Some(1) => builder.v1(),
            Some(2) => builder.v2(),
            Some(other) => return Err(format!("version is {other}; it is 1 or 2")),
        };
        if let Some(seconds) = self.issued_in {
            builder = builder.issued_in(seconds);
        }
        if let Some(seconds) = self.expires_in {
            builder = builder.expires_in(seconds);
        }
        if self.id_token {
            builder = builder.id_token();
        }
        if let Some(algorithm) = &self.algorithm {
            builder = builder.algorithm(algorithm);
        }
        builder = match self.key.as_deref() {
            None | Some("tenant") => builder,
            Some("wrong") => builder.wrong_key(),
            Some("unknown") => builder.unknown_key(),
            Some("personal") => builder.personal_key(),
            Some(other) => match other.strip_prefix("app:") {
                Some(app) => builder.app_key(app),
                None => return Err(format!("key is {other:?}; it is tenant, wrong, unknown, personal or app:<client id>")),
            },
        };
        builder = builder.roles(self.roles);
        builder = self.claims.into_iter().fold(builder, |builder, (name, value)| builder.claim(&name, value));
        builder = self.header.into_iter().fold(builder, |builder, (name, value)| builder.header(&name, value));
        builder = self.without.iter().fold(builder, |builder, name| builder.without(name));
        Ok(self.without_header.iter().fold(builder, |builder, name| builder.without_header(name)))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Format {
    format: Option<String>,
}

async fn token(Extract(state): Extract<Arc<State>>, Query(query): Query<Format>, headers: HeaderMap, body: String) -> Response {
    // `curl -d '{…}'` calls its JSON a form; at this desk it is read all the same.
    let mut wanted: Wanted = match serde_json::from_str(if body.trim().is_empty() { "{}" } else { &body }) {
        Ok(wanted) => wanted,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let notes = match wanted.adapt(&state) {
        Ok(notes) => notes,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let token = wanted.builder(state).and_then(|builder| builder.try_sign().map_err(|error| error.to_string()));
    match token {
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Ok(token) => {
            let text = query.format.as_deref() == Some("text")
                || headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"text/plain");
            if text {
                token.into_response()
            } else {
                let mut answer = json!({ "token_type": "Bearer", "access_token": token });
                if !notes.is_empty() {
                    answer["notes"] = notes.into();
                }
                Json(answer).into_response()
            }
        }
    }
}

async fn roll(Extract(state): Extract<Arc<State>>) -> Response {
    match state.keys().roll() {
        Ok(key) => Json(json!({ "kid": key.kid() })).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn retire(Extract(state): Extract<Arc<State>>) -> StatusCode {
    state.keys().retire();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCertificate {
    name: String,
    #[serde(default)]
    exportable: bool,
    /// True if the secret beside it is PEM text instead of a PKCS#12 file.
    #[serde(default)]
    pem: bool,
    #[serde(default = "a_year")]
    days: u32,
    /// The app registration that the certificate is uploaded to at once.
    app: Option<String>,
}

const fn a_year() -> u32 {
    365
}

async fn vault_certificate(Extract(state): Extract<Arc<State>>, Told(wanted): Told<NewCertificate>) -> Response {
    let now = state.clock.unix_seconds();
    state.vault().set_form(&wanted.name, wanted.pem);
    let made = state.vault().certify(&wanted.name, wanted.exportable, now, wanted.days);
    match made {
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Ok((version, key)) => {
            if let Some(client_id) = &wanted.app {
                let mut directory = state.directory();
                let app = directory.app(client_id).cloned().unwrap_or_else(|| App::new(client_id));
                directory.put_app(app.certificate_der(key.certificate()));
            }
            Json(json!({ "name": wanted.name, "version": version, "cer": STANDARD.encode(key.certificate()) })).into_response()
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSecret {
    name: String,
    value: String,
    content_type: Option<String>,
    expires: Option<u64>,
}

async fn vault_secret(Extract(state): Extract<Arc<State>>, Told(wanted): Told<NewSecret>) -> Json<Value> {
    let now = state.clock.unix_seconds();
    let version = state.vault().put_secret(&wanted.name, &wanted.value, wanted.content_type.as_deref(), wanted.expires, now);
    Json(json!({ "name": wanted.name, "version": version }))
}

/// Returns the environment of a program on the machine that the tenant simulates.
async fn machine(Extract(state): Extract<Arc<State>>) -> Json<Value> {
    Json(state.machine().environment(&state.base))
}

/// Changes of the machine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Machine {
    identities: Option<Vec<ManagedIdentity>>,
    /// The folder for the challenge files of Azure Arc, which then answers.
    arc_folder: Option<PathBuf>,
}

async fn set_machine(Extract(state): Extract<Arc<State>>, Told(wanted): Told<Machine>) -> StatusCode {
    state.machine().change(wanted.identities, wanted.arc_folder);
    StatusCode::NO_CONTENT
}

/// The permissions of a client in the vault, and the vault's model of permissions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Permissions {
    client: Option<String>,
    /// `keys/sign`, `certificates/get`, ….
    #[serde(default)]
    permissions: Vec<String>,
    access_policies: Option<bool>,
}

async fn vault_permissions(Extract(state): Extract<Arc<State>>, Told(wanted): Told<Permissions>) -> StatusCode {
    let mut vault = state.vault();
    if let Some(client) = &wanted.client {
        let permissions: Vec<&str> = wanted.permissions.iter().map(String::as_str).collect();
        vault.restrict(client, &permissions);
    }
    if let Some(access_policies) = wanted.access_policies {
        vault.use_access_policies(access_policies);
    }
    StatusCode::NO_CONTENT
}

/// A data collection rule of Azure Monitor, with its immutable id.
#[derive(Debug, Deserialize)]
struct NewRule {
    rule: String,
    #[serde(flatten)]
    settings: Rule,
}

async fn define_rule(Extract(state): Extract<Arc<State>>, Told(wanted): Told<NewRule>) -> StatusCode {
    state.monitor().rules.insert(wanted.rule, wanted.settings);
    StatusCode::NO_CONTENT
}

/// A Log Analytics workspace, with its key in base64.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWorkspace {
    workspace: String,
    key: String,
}

async fn define_workspace(Extract(state): Extract<Arc<State>>, Told(wanted): Told<NewWorkspace>) -> StatusCode {
    let Ok(key) = STANDARD.decode(wanted.key) else { return StatusCode::BAD_REQUEST };
    state.monitor().workspaces.insert(wanted.workspace, key);
    StatusCode::NO_CONTENT
}

/// The stream or table whose rows are asked for.
#[derive(Debug, Default, Deserialize)]
struct Stream {
    #[serde(default)]
    stream: String,
}

async fn rows(Extract(state): Extract<Arc<State>>, Query(which): Query<Stream>) -> Json<Vec<Value>> {
    Json(state.monitor().rows(&which.stream))
}

async fn forget_rows(Extract(state): Extract<Arc<State>>) -> StatusCode {
    state.monitor().forget();
    StatusCode::NO_CONTENT
}

async fn fail(Extract(state): Extract<Arc<State>>, body: String) -> Response {
    match serde_json::from_str::<Fault>(&body) {
        Ok(fault) => {
            state.interference.fail(fault);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

async fn recover(Extract(state): Extract<Arc<State>>) -> StatusCode {
    state.interference.recover();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Default, Deserialize)]
struct Which {
    #[serde(default)]
    path: String,
}

async fn calls(Extract(state): Extract<Arc<State>>, Query(which): Query<Which>) -> Json<Value> {
    let requests = state.interference.requests(&which.path);
    let targets: Vec<String> = requests.iter().map(|request| format!("{} {}", request.method, request.target)).collect();
    Json(json!({ "count": targets.len(), "requests": targets }))
}

async fn forget(Extract(state): Extract<Arc<State>>) -> StatusCode {
    state.interference.forget();
    StatusCode::NO_CONTENT
}

//! Discovery: OpenID configuration of both versions, key sets, instance discovery.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State as Extract},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{State, mint::PERSONAL_TENANT, problem::Aadsts};

/// The query parameters of these documents.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Of {
    /// The client id of the API whose own keys are requested.
    appid: Option<String>,
}

impl Of {
    fn suffix(&self) -> String {
        self.appid.as_deref().map(|id| format!("?appid={id}")).unwrap_or_default()
    }
}

/// The tenants that a document is about.
enum Realm {
    /// One tenant, by its id.
    One(String),
    /// Every tenant; `common` includes personal accounts.
    Any { personal: bool },
    /// Personal accounts only.
    Personal,
}

impl Realm {
    fn of(state: &State, segment: &str) -> Result<Self, Aadsts> {
        match segment {
            "common" => Ok(Self::Any { personal: true }),
            "organizations" => Ok(Self::Any { personal: false }),
            "consumers" | PERSONAL_TENANT => Ok(Self::Personal),
            name => {
                state.directory().tenant(name).map(|tenant| Self::One(tenant.id.clone())).ok_or_else(|| tenant_not_found(name))
            }
        }
    }

    /// Returns the tenant's segment in issuers.
    fn id(&self) -> &str {
        match self {
            Self::One(id) => id,
            Self::Any { .. } => "{tenantid}",
            Self::Personal => PERSONAL_TENANT,
        }
    }
}

pub(crate) fn tenant_not_found(name: &str) -> Aadsts {
    Aadsts::invalid_request(
        90002,
        format!(
            "Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
        ),
    )
}

pub(crate) async fn openid_v2(
    Extract(state): Extract<Arc<State>>,
    Path(tenant): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
) -> Response {
    let realm = match Realm::of(&state, &tenant) {
        Ok(realm) => realm,
        Err(error) => return error.response(state.clock.unix_seconds(), &headers),
    };
    let at = format!("{}/{tenant}", state.base);
    let mut document = common_members(&state);
    merge(
        &mut document,
        json!({
            "token_endpoint": format!("{at}/oauth2/v2.0/token"),
            "authorization_endpoint": format!("{at}/oauth2/v2.0/authorize"),
            "device_authorization_endpoint": format!("{at}/oauth2/v2.0/devicecode"),
            "end_session_endpoint": format!("{at}/oauth2/v2.0/logout"),
            "jwks_uri": format!("{at}/discovery/v2.0/keys{}", of.suffix()),
            "issuer": state.issuer_v2(realm.id()),
            "userinfo_endpoint": format!("{}/oidc/userinfo", state.base),
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }),
    );
    Json(document).into_response()
}

pub(crate) async fn openid_v1(
    Extract(state): Extract<Arc<State>>,
    Path(tenant): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
) -> Response {
    let realm = match Realm::of(&state, &tenant) {
        Ok(realm) => realm,
        Err(error) => return error.response(state.clock.unix_seconds(), &headers),
    };
    let at = format!("{}/{tenant}", state.base);
    let mut document = common_members(&state);
    merge(
        &mut document,
        json!({
            "token_endpoint": format!("{at}/oauth2/token"),
            "authorization_endpoint": format!("{at}/oauth2/authorize"),
            "end_session_endpoint": format!("{at}/oauth2/logout"),
            "jwks_uri": format!("{at}/discovery/keys{}", of.suffix()),
            "issuer": state.issuer_v1(realm.id()),
            "scopes_supported": ["openid"],
        }),
    );
    Json(document).into_response()
}

fn common_members(state: &State) -> Value {
    let host = state.base.split_once("://").map_or(state.base.as_str(), |(_, host)| host);
    json!({
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "name", "tid", "ver"],
        "tenant_region_scope": "EU",
        "cloud_instance_name": host,
        "cloud_graph_host_name": host,
        "msgraph_host": host,
    })
}

fn merge(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
    }
}

pub(crate) async fn keys_v2(
    Extract(state): Extract<Arc<State>>,
    Path(tenant): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
) -> Response {
    key_set(&state, &tenant, &of, true, &headers)
}

pub(crate) async fn keys_v1(
    Extract(state): Extract<Arc<State>>,
    Path(tenant): Path<String>,
    Query(of): Query<Of>,
    headers: HeaderMap,
) -> Response {
    key_set(&state, &tenant, &of, false, &headers)
}

fn key_set(state: &State, tenant: &str, of: &Of, v2: bool, headers: &HeaderMap) -> Response {
    let realm = match Realm::of(state, tenant) {
        Ok(realm) => realm,
        Err(error) => return error.response(state.clock.unix_seconds(), headers),
    };
    let app = of.appid.as_deref().and_then(|id| state.directory().app(id).filter(|app| app.custom_signing_key).cloned());
    // Keys of version 2 say whose tokens they are good for; organizational ones all tenants', by a template.
    let organizations = v2.then(|| state.issuer_v2("{tenantid}"));
    let personal = v2.then(|| state.issuer_v2(PERSONAL_TENANT));
    let mut ring = state.keys();
    let keys: Vec<Value> = match app {
        // An app's own key set holds nothing else.
        Some(app) => match ring.app(&app.client_id) {
            Ok(key) => vec![key.jwk(organizations.as_deref())],
            Err(_) => Vec::new(),
        },
        None => {
            let own = ring.published.iter().map(|key| key.jwk(organizations.as_deref()));
            let theirs = ring.personal.jwk(personal.as_deref());
            match realm {
                Realm::One(_) | Realm::Any { personal: false } => own.collect(),
                Realm::Any { personal: true } => own.chain([theirs]).collect(),
                Realm::Personal => vec![theirs],
            }
        }
    };
    Json(json!({ "keys": keys })).into_response()
}

/// Serves instance discovery: the hosts that belong together. This one stands alone.
pub(crate) async fn instance(Extract(state): Extract<Arc<State>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let host = state.base.split_once("://").map_or(state.base.as_str(), |(_, host)| host);
    let tenant = query
        .iter()
        .find(|(name, _)| name == "authorization_endpoint")
        .and_then(|(_, endpoint)| url::Url::parse(endpoint).ok())
        .and_then(|url| url.path_segments().and_then(|mut segments| segments.next().map(ToOwned::to_owned)))
        .unwrap_or_else(|| "common".to_owned());
    Json(json!({
        "tenant_discovery_endpoint": format!("{}/{tenant}/v2.0/.well-known/openid-configuration", state.base),
        "api-version": "1.1",
        "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
    }))
    .into_response()
}

//! An app registration in Microsoft Graph: `GET /v1.0/applications(appId='…')`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State as Extract},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    State,
    directory::{App, id_of},
    graph::{admit, refuse},
};
use crate::certificate::keys::Thumbprints;

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new().route("/v1.0/{object}", get(application))
}

async fn application(
    Extract(state): Extract<Arc<State>>,
    Path(object): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = admit(&state, &headers, "https://graph.microsoft.com", "Application.Read.All") {
        return *refused;
    }
    let id = object.strip_prefix("applications(appId='").and_then(|rest| rest.strip_suffix("')"));
    let Some(app) = id.and_then(|id| state.directory().app(id).cloned()) else {
        let text =
            format!("Resource '{object}' does not exist or one of its queried reference-property objects are not present.");
        return refuse(StatusCode::NOT_FOUND, "Request_ResourceNotFound", &text);
    };
    let whole = resource(&app, state.clock.unix_seconds());
    let mut body = json!({ "@odata.context": format!("{}/v1.0/$metadata#applications/$entity", state.base) });
    let selected = query.get("$select").map_or("id,appId,displayName", String::as_str);
    for name in selected.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        body[name] = whole[name].clone();
    }
    Json(body).into_response()
}

fn resource(app: &App, now: u64) -> Value {
    let at = |seconds: u64| jiff::Timestamp::from_second(seconds.cast_signed()).map(|at| at.to_string()).unwrap_or_default();
    let passwords: Vec<Value> = app
        .secrets
        .iter()
        .map(|secret| {
            json!({
                "displayName": "a client secret",
                // The first letters are told, and no more of it ever again.
                "hint": secret.chars().take(3).collect::<String>(),
                "secretText": null,
                "keyId": id_of("secret", secret),
                "endDateTime": at(app.secrets_end.unwrap_or(now + 180 * 86_400)),
            })
        })
        .collect();
    json!({
        "id": id_of("application", &app.client_id),
        "appId": app.client_id,
        "displayName": app.name,
        "signInAudience": if app.multi_tenant { "AzureADMultipleOrgs" } else { "AzureADMyOrg" },
        "isFallbackPublicClient": app.public_client.then_some(true),
        "identifierUris": app.identifier_uris,
        "web": {
            "redirectUris": app.redirect_uris,
            "implicitGrantSettings": {
                "enableAccessTokenIssuance": app.implicit_grant,
                "enableIdTokenIssuance": app.implicit_grant,
            },
        },
        "spa": { "redirectUris": [] },
        "publicClient": { "redirectUris": [] },
        "requiredResourceAccess": resource_access(app),
        "passwordCredentials": passwords,
        "keyCredentials": app.certificates.iter().filter_map(|text| key_credential(text)).collect::<Vec<Value>>(),
    })
}

/// Returns the permissions of the registration, by API; each has an id in place of its name.
fn resource_access(app: &App) -> Vec<Value> {
    let entries = |map: &BTreeMap<String, BTreeSet<String>>, kind: &str| -> Vec<Value> {
        let access = |(resource, names): (&String, &BTreeSet<String>)| {
            let list: Vec<Value> =
                names.iter().map(|name| json!({ "id": permission_id(resource, name), "type": kind })).collect();
            json!({ "resourceAppId": resource, "resourceAccess": list })
        };
        map.iter().map(access).collect()
    };
    [entries(&app.roles, "Role"), entries(&app.delegated, "Scope")].concat()
}

fn permission_id(resource: &str, name: &str) -> String {
    match (resource, name) {
        ("https://graph.microsoft.com", "User.Read") => "e1fe6dd8-ba31-4d61-89e7-88639da4683d".to_owned(),
        _ => id_of("permission", &format!("{resource}/{name}")),
    }
}

fn key_credential(text: &str) -> Option<Value> {
    let der = match CertificateDer::from_pem_slice(text.as_bytes()) {
        Ok(der) => der.to_vec(),
        Err(_) => STANDARD.decode(text).ok()?,
    };
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let at = |time: i64| jiff::Timestamp::from_second(time).map(|at| at.to_string()).unwrap_or_default();
    Some(json!({
        "customKeyIdentifier": STANDARD.encode(Thumbprints::of(&der).sha1()),
        "displayName": certificate.subject().to_string(),
        "startDateTime": at(certificate.validity().not_before.timestamp()),
        "endDateTime": at(certificate.validity().not_after.timestamp()),
        "keyId": id_of("certificate", text),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        // Only who selects `keyCredentials` alone is given the key.
        "key": null,
    }))
}

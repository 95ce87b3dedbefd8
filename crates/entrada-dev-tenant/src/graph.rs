//! Microsoft Graph as the gateway uses it: a user's attributes, and a user's groups.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State as Extract},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::{
    State,
    assertion::Assertion,
    directory::{Directory, User, new_id},
};

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new().route("/v1.0/users/{id}", get(user)).route("/v1.0/users/{id}/checkMemberGroups", post(check_member_groups))
}

pub(super) fn refuse(status: StatusCode, code: &str, text: &str) -> Response {
    let error = json!({ "error": {
        "code": code,
        "message": text,
        "innerError": { "request-id": new_id(), "client-request-id": new_id() },
    } });
    (status, Json(error)).into_response()
}

/// Returns the claims of a good token for a service, or the refusal.
pub(super) fn admit(state: &State, headers: &HeaderMap, audience: &str, role: &str) -> Result<(), Box<Response>> {
    let unauthorized = |text: &str| Box::new(refuse(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", text));
    let token =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    let token =
        token.and_then(|token| Assertion::read(token).ok()).ok_or_else(|| unauthorized("Access token is empty or malformed."))?;
    let now = state.clock.unix_seconds();
    if !state.keys().published.iter().any(|key| token.is_signed_by(key)) {
        return Err(unauthorized("Access token validation failure. Invalid signature."));
    }
    if token.claims.get("exp").and_then(Value::as_u64).is_none_or(|exp| exp <= now) {
        return Err(unauthorized("Lifetime validation failed, the token is expired."));
    }
    if token.claims.get("aud").and_then(Value::as_str) != Some(audience) {
        return Err(unauthorized("Access token validation failure. Invalid audience."));
    }
    let roles = token.claims.get("roles").and_then(Value::as_array);
    let scopes = token.claims.get("scp").and_then(Value::as_str).unwrap_or_default();
    let granted = role.is_empty()
        || roles.is_some_and(|roles| roles.iter().any(|entry| entry == role))
        || scopes.split(' ').any(|word| word == role);
    if granted {
        Ok(())
    } else {
        Err(Box::new(refuse(
            StatusCode::FORBIDDEN,
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
        )))
    }
}

/// Returns the user of an object id or a principal name. Only registered users are known here.
fn find(state: &State, id: &str) -> Option<User> {
    let directory = state.directory();
    let known = directory.users.iter().find(|user| {
        Directory::object_id(user).eq_ignore_ascii_case(id)
            || id.split_once('@').is_some_and(|(name, _)| user.name.eq_ignore_ascii_case(name))
    });
    known.cloned()
}

fn not_found(id: &str) -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "Request_ResourceNotFound",
        &format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present."),
    )
}

async fn user(
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = admit(&state, &headers, "https://graph.microsoft.com", "User.Read.All") {
        return *refused;
    }
    let Some(user) = find(&state, &id) else { return not_found(&id) };
    let selected = query.get("$select").map_or("id,displayName", String::as_str);
    let mut body = json!({ "@odata.context": format!("{}/v1.0/$metadata#users({selected})/$entity", state.base) });
    for name in selected.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        // Graph spells attributes in camel case, claims in lower case; what a user lacks is null here and absent there.
        body[name] = match name {
            "id" => Directory::object_id(&user).into(),
            "displayName" => user.display_name.clone().into(),
            name => user.attributes.get(&name.to_ascii_lowercase()).cloned().unwrap_or(Value::Null),
        };
    }
    Json(body).into_response()
}

async fn check_member_groups(
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = admit(&state, &headers, "https://graph.microsoft.com", "GroupMember.Read.All") {
        return *refused;
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(groups) = asked["groupIds"].as_array() else {
        return refuse(StatusCode::BAD_REQUEST, "Request_BadRequest", "The parameter groupIds is missing.");
    };
    // Graph takes at most 20 at once.
    if groups.len() > 20 {
        return refuse(StatusCode::BAD_REQUEST, "Request_BadRequest", "Too many groups were asked about.");
    }
    let Some(user) = find(&state, &id) else { return not_found(&id) };
    let member: Vec<&Value> = groups
        .iter()
        .filter(|group| group.as_str().is_some_and(|group| user.groups.iter().any(|own| own.eq_ignore_ascii_case(group))))
        .collect();
    Json(json!({ "@odata.context": format!("{}/v1.0/$metadata#Collection(Edm.String)", state.base), "value": member }))
        .into_response()
}

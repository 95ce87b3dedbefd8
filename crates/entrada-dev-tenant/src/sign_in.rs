//! The endpoints of interactive sign-in, which this tenant does not have: clients get an error in the form that they expect.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State as Extract},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use url::Url;

use super::{State, problem::Aadsts};

/// The advice in place of a sign-in.
const INSTEAD: &str = "The development tenant signs nobody in: POST /dev/token issues users' tokens.";

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/authorize", get(authorize).post(authorize))
        .route("/{tenant}/oauth2/authorize", get(authorize).post(authorize))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(device_code))
        .route("/{tenant}/oauth2/devicecode", post(device_code))
        .route("/{tenant}/oauth2/v2.0/logout", get(logout))
        .route("/{tenant}/oauth2/logout", get(logout))
        .route("/{tenant}/adminconsent", get(admin_consent))
        .route("/{tenant}/v2.0/adminconsent", get(admin_consent))
}

type Fields = BTreeMap<String, String>;

/// Returns the error to the client, if its address is on this machine or registered: RFC 6749, section 4.1.2.1. Otherwise it is shown.
async fn authorize(
    Extract(state): Extract<Arc<State>>,
    Query(mut fields): Query<Fields>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    fields.extend(url::form_urlencoded::parse(&body).into_owned());
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let uri = field("redirect_uri");
    let registered = state.directory().app(field("client_id")).is_some_and(|app| app.redirect_uris.iter().any(|own| own == uri));
    let Some(mut target) = Url::parse(uri).ok().filter(|url| registered || is_of_this_machine(url)) else {
        return unsupported("authorization_code").response(state.clock.unix_seconds(), &headers);
    };
    let mut answer = url::form_urlencoded::Serializer::new(String::new());
    answer.append_pair("error", "unsupported_response_type").append_pair("error_description", INSTEAD);
    if !field("state").is_empty() {
        answer.append_pair("state", field("state"));
    }
    let answer = answer.finish();
    if field("response_mode") == "fragment" {
        target.set_fragment(Some(&answer));
    } else {
        let before = target.query().map(|query| format!("{query}&")).unwrap_or_default();
        target.set_query(Some(&format!("{before}{answer}")));
    }
    (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
}

fn is_of_this_machine(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.host().is_some_and(|host| match host {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
        })
}

/// Returns an error in the form of the token endpoint: RFC 8628, section 3.2.
async fn device_code(Extract(state): Extract<Arc<State>>, headers: HeaderMap) -> Response {
    unsupported("device_code").response(state.clock.unix_seconds(), &headers)
}

fn unsupported(grant: &str) -> Aadsts {
    let text = format!("The app requested an unsupported grant type '{grant}'. {INSTEAD}");
    Aadsts::new(70_003, "unsupported_grant_type", text)
}

async fn logout() -> &'static str {
    "Nobody is signed in.\n"
}

async fn admin_consent(Query(fields): Query<Fields>) -> (StatusCode, String) {
    let client = fields.get("client_id").map(String::as_str).unwrap_or_default();
    let text = format!(
        "At Entra an administrator consents here. In the development tenant, POST /dev/apps registers the application {client} with \
         `roles`, `delegated` permissions and `consented` tenants.\n"
    );
    (StatusCode::NOT_IMPLEMENTED, text)
}

//! Entra's error responses.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::directory::new_id;

/// An error of the token endpoint: the code, its family, and the sentence.
#[derive(Clone, Debug)]
pub(crate) struct Aadsts {
    pub(crate) code: u32,
    error: &'static str,
    text: String,
    members: Map<String, Value>,
}

/// Codes that only a test's operator can cause, with their family and sentence.
const PLAYED: &[(u32, &str, &str)] = &[
    (50001, "invalid_resource", "The resource principal was not found in the tenant or is disabled."),
    (50012, "invalid_client", "Authentication failed."),
    (50013, "invalid_grant", "Assertion failed signature validation."),
    (
        50076,
        "interaction_required",
        "Due to a configuration change made by your administrator, you must use multi-factor authentication.",
    ),
    (
        50079,
        "interaction_required",
        "Due to a configuration change made by your administrator, you must enroll in multi-factor authentication.",
    ),
    (50173, "invalid_grant", "The provided grant has expired due to it being revoked."),
    (50196, "invalid_grant", "The server terminated an operation because it encountered a client request loop."),
    (53003, "interaction_required", "Access has been blocked by Conditional Access policies."),
    (65001, "invalid_grant", "The user or administrator has not consented to use the application."),
    (70021, "invalid_client", "No matching federated identity record found for presented assertion."),
    (700016, "unauthorized_client", "Application was not found in the directory."),
    (700024, "invalid_client", "Client assertion is not within its valid time range."),
    (
        700027,
        "invalid_client",
        "The certificate with identifier used to sign the client assertion is not registered on application.",
    ),
    (7000112, "unauthorized_client", "Application is disabled."),
    (7000214, "invalid_client", "The certificate used to sign the client assertion is revoked."),
    (7000215, "invalid_client", "Invalid client secret provided."),
    (7000222, "invalid_client", "The provided client secret keys are expired."),
    (7000229, "unauthorized_client", "The client application is missing a service principal in the tenant."),
    (1000502, "invalid_client", "The provided certificate is not within its specified validity window."),
    (90002, "invalid_request", "Tenant not found."),
    (90033, "temporarily_unavailable", "A transient error has occurred. Please try again."),
    (90055, "temporarily_unavailable", "Tenant throttled."),
];

impl Aadsts {
    pub(crate) fn new(code: u32, error: &'static str, text: impl Into<String>) -> Self {
        Self { code, error, text: text.into(), members: Map::new() }
    }

    pub(crate) fn invalid_client(code: u32, text: impl Into<String>) -> Self {
        Self::new(code, "invalid_client", text)
    }

    pub(crate) fn invalid_request(code: u32, text: impl Into<String>) -> Self {
        Self::new(code, "invalid_request", text)
    }

    pub(crate) fn invalid_grant(code: u32, text: impl Into<String>) -> Self {
        Self::new(code, "invalid_grant", text)
    }

    /// Makes a code for a fault.
    pub(crate) fn played(code: u32) -> Self {
        let (error, text) = PLAYED
            .iter()
            .find(|(known, ..)| *known == code)
            .map_or(("invalid_request", "An error that was asked for."), |(_, error, text)| (*error, *text));
        Self::new(code, error, text)
    }

    pub(crate) fn with_members(mut self, members: Map<String, Value>) -> Self {
        self.members.extend(members);
        self
    }

    pub(crate) fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Makes the response. The caller's request id becomes the correlation id.
    pub(crate) fn response(&self, now: u64, request: &HeaderMap) -> Response {
        let status = match self.error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let correlation = ["client-request-id", "x-ms-client-request-id"]
            .iter()
            .find_map(|name| request.get(*name)?.to_str().ok())
            .map_or_else(new_id, ToOwned::to_owned);
        let (trace, stamp) = (new_id(), timestamp(now));
        let mut body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}", self.code, self.text
            ),
            "error_codes": [self.code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={}", self.code),
        });
        for (name, value) in &self.members {
            body[name] = value.clone();
        }
        let mut response = (status, axum::Json(body)).into_response();
        no_store(&mut response);
        if let Ok(trace) = HeaderValue::try_from(trace) {
            response.headers_mut().insert("x-ms-request-id", trace);
        }
        response
    }
}

/// Formats a time: `2026-11-21 12:00:00Z`.
pub(crate) fn timestamp(now: u64) -> String {
    i64::try_from(now)
        .ok()
        .and_then(|now| jiff::Timestamp::from_second(now).ok())
        .map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_default()
}

pub(crate) fn no_store(response: &mut Response) {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}

//! A token in another place than the policy's: the hint for whoever operates the gateway.

use std::borrow::Cow;

use super::place::Places;
use crate::{
    base::fields::{Known, Value},
    request::{IncomingRequest, TokenPlace, token_place::TOKEN_SCHEMES},
};

/// The fields in which front ends and clients are known to send tokens.
const KNOWN: [&str; 19] = [
    "authorization",
    "authorization2",
    "x-authorization",
    "proxy-authorization",
    "x-access-token",
    "x-user-token",
    "x-id-token",
    "x-token",
    "x-auth-token",
    "x-forwarded-access-token",
    "x-forwarded-authorization",
    "x-auth-request-access-token",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-goog-iap-jwt-assertion",
    "cf-access-jwt-assertion",
    "x-original-authorization",
];

/// Returns the hint for a request without a token in `places`.
pub(super) fn hint(places: &Places, incoming: &IncomingRequest) -> Option<Cow<'static, str>> {
    let is_read = |name: &str| places.iter().any(|place| matches!(place, TokenPlace::Header(header) if header == name));
    let held = |name: &&&str| incoming.headers.get_all(**name).any(holds_token);
    if is_read("authorization")
        && let Some(value) = incoming.headers.get(Known::Authorization)
    {
        return Some(match looks_like_token(value.as_bytes()) {
            true => "Authorization holds a token without a scheme: the client should send `Authorization: Bearer TOKEN`".into(),
            false => {
                "Authorization has another scheme than Bearer: the client authenticates in another way than with a token of Entra"
                    .into()
            }
        });
    }
    if let Some(name) = KNOWN.iter().filter(|name| !is_read(name)).find(held) {
        return Some(
            format!(
                "the request holds a token in {name}, where this policy does not look: the client should send it as `Authorization: \
                 Bearer`, or, if a front end puts it there, name the header in header-name"
            )
            .into(),
        );
    }
    let query = incoming.target.query.as_deref().unwrap_or_default();
    let in_query =
        query.split('&').any(|pair| pair.strip_prefix("access_token=").is_some_and(|value| looks_like_token(value.as_bytes())));
    in_query.then(|| {
        "the request holds a token in the parameter access_token, where this policy does not look: the client should send it as \
         `Authorization: Bearer`, since queries end up in logs"
            .into()
    })
}

/// Returns whether a field holds a token, with or without a scheme.
fn holds_token(value: Value<'_>) -> bool {
    let bytes = value.as_bytes();
    let bare = bytes.iter().position(|byte| *byte == b' ').map_or(bytes, |at| {
        let scheme = &bytes[..at];
        if TOKEN_SCHEMES.iter().any(|ours| scheme.eq_ignore_ascii_case(ours.as_bytes())) { &bytes[at + 1..] } else { bytes }
    });
    looks_like_token(bare)
}

/// Returns whether the text has the form of a signed token: three parts of base64url, the first of which is a JSON object.
fn looks_like_token(text: &[u8]) -> bool {
    text.starts_with(b"eyJ")
        && text.split(|byte| *byte == b'.').count() == 3
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

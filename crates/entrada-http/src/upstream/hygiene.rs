//! Removal of fields from a response's head and trailers that must not be forwarded.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::base::{
    fields::{Fields, Known, Value},
    header_names::X_REQUEST_ID,
};

/// Fields that a recipient must not accept from a trailer section (RFC 9110, section 6.5.1): routing, authentication, request
/// modifiers, response controls, and fields that browsers obey. In addition to all names with the [`NO_TRAILER_PREFIXES`].
const NO_TRAILERS: [HeaderName; 22] = [
    header::HOST,
    header::TRAILER,
    header::AUTHORIZATION,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("authentication-info"),
    header::COOKIE,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::RANGE,
    header::AGE,
    header::EXPIRES,
    header::DATE,
    header::LOCATION,
    header::RETRY_AFTER,
    header::VARY,
    header::WARNING,
    header::ALLOW,
    header::STRICT_TRANSPORT_SECURITY,
    X_REQUEST_ID,
];

/// Prefixes of fields about content, cross-origin access, and identity.
const NO_TRAILER_PREFIXES: [&str; 4] = ["content-", "access-control-", "x-forwarded-", "x-entrada-"];

/// Schemes that authenticate a connection, not a request: behind a pool, one caller would act as another.
const CONNECTION_BOUND: [&str; 2] = ["ntlm", "negotiate"];

/// Returns whether a field belongs to one connection (RFC 9110, section 7.6.1, and names that implementations use), or is between
/// the upstream and us (section 11.7).
pub(super) const fn ends_here(name: Known) -> bool {
    matches!(
        name,
        Known::Connection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Te
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticationInfo
    )
}

/// Returns the same of a name as `http` has it.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    ends_here(Known::of(name.as_str().as_bytes()))
}

/// Removes fields from the head of an HTTP/2 response that are not for the caller. Connection fields cannot be in it: it would be
/// malformed (RFC 9113, section 8.2.2).
pub(super) fn clean_http2(headers: &mut Fields) {
    headers.remove(Known::ProxyAuthenticate);
    headers.remove(Known::ProxyAuthenticationInfo);
}

/// Returns whether a status belongs to a class of RFC 9110, section 15.
pub(super) fn is_known(status: StatusCode) -> bool {
    (100..600).contains(&status.as_u16())
}

/// Removes fields from trailers that are only allowed in a head.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    let forbidden = |name: &&HeaderName| {
        is_hop_by_hop(name)
            || NO_TRAILERS.contains(name)
            || NO_TRAILER_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    let forbidden: Vec<HeaderName> = trailers.keys().filter(forbidden).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// Returns whether a challenge is of a scheme that authenticates a connection.
fn is_connection_bound(challenge: &[u8]) -> bool {
    let scheme = challenge.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | b',')).next().unwrap_or_default();
    CONNECTION_BOUND.iter().any(|bound| scheme.eq_ignore_ascii_case(bound.as_bytes()))
}

/// Removes the challenges of schemes that authenticate a connection.
pub(super) fn remove_connection_bound_challenges(headers: &mut Fields) {
    let bound = |value: Value<'_>| challenges(value.as_bytes()).iter().any(|challenge| is_connection_bound(challenge));
    if !headers.get_all(Known::WwwAuthenticate).any(bound) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(Known::WwwAuthenticate)
        .flat_map(|value| challenges(value.as_bytes()))
        .filter(|challenge| !is_connection_bound(challenge))
        .filter_map(|challenge| HeaderValue::from_bytes(challenge).ok())
        .collect();
    headers.remove(Known::WwwAuthenticate);
    for challenge in kept {
        headers.append(Known::WwwAuthenticate, &challenge);
    }
}

/// Returns the challenges of one field line (RFC 9110, section 11.6.1): a list whose entries hold lists. An entry that starts
/// with a word without `=` begins the next challenge.
fn challenges(line: &[u8]) -> Vec<&[u8]> {
    let mut challenges = Vec::new();
    let mut start = 0;
    for entry in entries(line) {
        if begins_challenge(&line[entry.clone()]) && entry.start > start {
            challenges.push(trim(&line[start..entry.start]));
            start = entry.start;
        }
    }
    challenges.push(trim(&line[start..]));
    challenges.retain(|challenge| !challenge.is_empty());
    challenges
}

/// Returns the ranges between the commas outside quotes.
fn entries(line: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut entries, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                entries.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries.push(start..line.len());
    entries
}

fn begins_challenge(entry: &[u8]) -> bool {
    let entry = entry.trim_ascii();
    let word = entry.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'=')).unwrap_or(entry.len());
    word > 0 && !entry[word..].trim_ascii_start().starts_with(b"=")
}

fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.trim_ascii();
    let bytes = bytes.strip_prefix(b",").unwrap_or(bytes);
    bytes.strip_suffix(b",").unwrap_or(bytes).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(headers: &HeaderMap) -> Vec<String> {
        let mut fields: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.sort();
        fields
    }

    #[test]
    fn challenges_of_connection_bound_schemes_are_removed() {
        for (lines, expected) in [
            (&["Negotiate", "NTLM", "Bearer realm=\"a\""][..], &["www-authenticate: Bearer realm=\"a\""][..]),
            (&["NTLM, Basic realm=\"x, NTLM\""], &["www-authenticate: Basic realm=\"x, NTLM\""]),
            (&["negotiate oYG2MIGz=="], &[]),
            (&["Basic realm=\"r\", charset=\"UTF-8\", Negotiate"], &["www-authenticate: Basic realm=\"r\", charset=\"UTF-8\""]),
            (
                &["Bearer realm=\"a\", error = \"b\", Digest qop=\"auth, auth-int\""],
                &["www-authenticate: Bearer realm=\"a\", error = \"b\", Digest qop=\"auth, auth-int\""],
            ),
        ] {
            let mut headers = Fields::of(&lines.iter().map(|line| ("www-authenticate", *line)).collect::<Vec<_>>());
            remove_connection_bound_challenges(&mut headers);
            assert_eq!(headers.lines(), expected, "{lines:?}");
        }
    }

    #[test]
    fn trailers_do_not_change_the_head() {
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "set-cookie",
            "content-length",
            "content-security-policy",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "www-authenticate",
            "access-control-allow-origin",
            "x-request-id",
            "x-forwarded-for",
            "cache-control",
            "date",
        ] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("0"));
        }

        clean_trailers(&mut trailers);

        assert_eq!(fields(&trailers), ["grpc-status: 0"]);
    }
}

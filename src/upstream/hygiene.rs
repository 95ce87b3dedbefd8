//! What of an answer's head, and of its trailers, may go further.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

/// RFC 9110, section 7.6.1, with the names that implementations use besides: fields of this connection.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::UPGRADE,
    header::TE,
    // They are between the upstream and us (RFC 9110, section 11.7), and none of the caller's business.
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
];

/// Fields that a recipient must not take from a trailer section (RFC 9110, section 6.5.1): framing, routing, authentication,
/// and how to read the content.
const NO_TRAILERS: [HeaderName; 14] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::HOST,
    header::TRAILER,
    header::AUTHORIZATION,
    header::WWW_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::LOCATION,
    header::VARY,
    header::AGE,
];

/// Schemes that authenticate a connection, not a request: behind a pool one caller would act as another.
const CONNECTION_BOUND: [&str; 2] = ["ntlm", "negotiate"];

/// Removes from an answer what is not for the caller. `upgrade` is the protocol that was asked for.
///
/// # Errors
/// What makes the answer one that must not go further.
pub(super) fn clean<B>(response: &mut Response<B>, upgrade: Option<&HeaderValue>) -> Result<(), &'static str> {
    let status = response.status();
    let headers = response.headers_mut();
    // RFC 9112, section 6.3: two opinions on where the message ends may be an attempt at response splitting.
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Err("has both Transfer-Encoding and Content-Length");
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let Some(asked) = upgrade else { return Err("switches protocols unasked") };
        let switched = headers.get(header::UPGRADE);
        if !switched.is_some_and(|switched| switched.as_bytes().eq_ignore_ascii_case(asked.as_bytes())) {
            return Err("switches to another protocol than was asked for");
        }
        let switched = switched.cloned();
        remove_hop_by_hop(headers);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.extend(switched.map(|protocol| (header::UPGRADE, protocol)));
        return Ok(());
    }
    remove_hop_by_hop(headers);
    if status == StatusCode::UNAUTHORIZED {
        remove_connection_bound_challenges(headers);
    }
    Ok(())
}

/// Removes from trailers what may only stand in a head.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    for name in &NO_TRAILERS {
        trailers.remove(name);
    }
}

/// Whether a challenge is of a scheme that authenticates a connection.
fn is_connection_bound(challenge: &[u8]) -> bool {
    let scheme = challenge.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | b',')).next().unwrap_or_default();
    CONNECTION_BOUND.iter().any(|bound| scheme.eq_ignore_ascii_case(bound.as_bytes()))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            // How the body ends was read from it, and is not for the server to take back.
            .filter(|name| name != header::CONTENT_LENGTH)
            .collect();
        for name in nominated {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn remove_connection_bound_challenges(headers: &mut HeaderMap) {
    let bound = |value: &HeaderValue| challenges(value.as_bytes()).iter().any(|challenge| is_connection_bound(challenge));
    if !headers.get_all(header::WWW_AUTHENTICATE).iter().any(bound) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .flat_map(|value| challenges(value.as_bytes()))
        .filter(|challenge| !is_connection_bound(challenge))
        .filter_map(|challenge| HeaderValue::from_bytes(challenge).ok())
        .collect();
    headers.remove(header::WWW_AUTHENTICATE);
    for challenge in kept {
        headers.append(header::WWW_AUTHENTICATE, challenge);
    }
}

/// The challenges of one field line (RFC 9110, section 11.6.1): a list whose entries hold lists. An entry that starts with a
/// word and no `=` after it begins the next challenge.
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

/// The ranges between the commas that stand outside quotes.
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

    fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }

    fn fields(headers: &HeaderMap) -> Vec<String> {
        let mut fields: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.sort();
        fields
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_go_no_further() {
        let mut response = answer(
            200,
            &[
                ("connection", "close, x-private"),
                ("connection", "Content-Length"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authenticate", "Basic"),
                ("upgrade", "h2c"),
                ("content-length", "3"),
                ("etag", "\"1\""),
            ],
        );

        clean(&mut response, None).unwrap();

        assert_eq!(fields(response.headers()), ["content-length: 3", "etag: \"1\""]);
    }

    #[test]
    fn two_framings_are_refused() {
        let mut response = answer(200, &[("transfer-encoding", "chunked"), ("content-length", "3")]);

        assert!(clean(&mut response, None).is_err());
    }

    #[test]
    fn protocols_switch_only_as_asked() {
        let websocket = HeaderValue::from_static("websocket");
        for (asked, given, fine) in
            [(None, "websocket", false), (Some(&websocket), "h2c", false), (Some(&websocket), "WebSocket", true)]
        {
            let mut response = answer(101, &[("connection", "Upgrade"), ("upgrade", given)]);
            assert_eq!(clean(&mut response, asked).is_ok(), fine, "{asked:?} {given}");
            assert!(!fine || fields(response.headers()) == ["connection: upgrade", "upgrade: WebSocket"]);
        }
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
            let mut response = answer(401, &lines.iter().map(|line| ("www-authenticate", *line)).collect::<Vec<_>>());
            clean(&mut response, None).unwrap();
            assert_eq!(fields(response.headers()), expected, "{lines:?}");
        }
    }

    #[test]
    fn trailers_do_not_change_the_head() {
        let mut trailers = HeaderMap::new();
        for name in ["grpc-status", "set-cookie", "content-length", "transfer-encoding", "www-authenticate"] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("0"));
        }

        clean_trailers(&mut trailers);

        assert_eq!(fields(&trailers), ["grpc-status: 0"]);
    }
}

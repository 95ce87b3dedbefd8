//! The token request: one POST of a form to Entra's token endpoint, and its response.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::{
    aadsts::Asker,
    access_token::Issued,
    error::{Failure, Refused, clean},
    token_cache::Fetched,
};
use crate::{
    base::clock::Clock,
    identity_http::{Answer, IdentityHttp},
};

/// The size limit: far more than any token response.
pub const ANSWER_CAP: usize = 256 << 10;

/// The requested grant.
#[derive(Clone, Debug)]
pub enum Grant<'a> {
    /// A token for the client itself. RFC 6749, section 4.4.
    ClientCredentials,
    /// A token for the client, on behalf of the user of this token.
    OnBehalfOf(&'a SecretString),
}

/// The client's proof of identity.
#[derive(Clone, Debug)]
pub enum Proof<'a> {
    /// A signed assertion. RFC 7523, section 2.2.
    Assertion(&'a SecretString),
    /// A shared secret.
    Secret(&'a SecretString),
}

/// A token request.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// The token endpoint.
    pub endpoint: &'a Url,
    /// The client's application id.
    pub client_id: &'a str,
    /// The requested scope.
    pub scope: &'a str,
    /// The requested grant.
    pub grant: Grant<'a>,
    /// The client's proof of identity.
    pub proof: Proof<'a>,
    /// The claims that an upstream's challenge demands, as JSON.
    pub claims: Option<&'a str>,
}

impl TokenRequest<'_> {
    /// Returns the form, in the order that it is sent in.
    pub fn form(&self) -> Vec<(&'static str, &str)> {
        let mut form = vec![("client_id", self.client_id)];
        match self.grant {
            Grant::ClientCredentials => form.push(("grant_type", "client_credentials")),
            Grant::OnBehalfOf(assertion) => form.extend([
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                ("requested_token_use", "on_behalf_of"),
                ("assertion", assertion.expose_secret()),
            ]),
        }
        form.push(("scope", self.scope));
        match self.proof {
            Proof::Assertion(assertion) => form.extend([
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", assertion.expose_secret()),
            ]),
            Proof::Secret(secret) => form.push(("client_secret", secret.expose_secret())),
        }
        form.extend(self.claims.map(|claims| ("claims", claims)));
        form
    }

    /// Returns the header fields other than those that HTTP needs.
    pub fn headers(correlation_id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        // Entra then answers a client that asks in a loop with 429 and a time, and not with an error that looks final.
        headers.insert(HeaderName::from_static("x-ms-lib-capability"), HeaderValue::from_static("retry-after, h429"));
        if let Ok(id) = HeaderValue::from_str(correlation_id) {
            headers.insert(HeaderName::from_static("client-request-id"), id);
        }
        headers
    }

    /// Sends the request.
    pub(crate) async fn send(&self, http: &IdentityHttp, clock: &Clock) -> Fetched {
        let correlation_id = uuid::Uuid::new_v4().to_string();
        let sent_at = clock.monotonic();
        let answer = http
            .post_form(self.endpoint, &self.form(), Self::headers(&correlation_id), ANSWER_CAP)
            .await
            .map_err(Failure::Unreachable)?;
        if answer.status == http::StatusCode::OK {
            issued(&answer.body, sent_at)
        } else {
            let asker = match self.grant {
                Grant::ClientCredentials => Asker::Gateway,
                Grant::OnBehalfOf(_) => Asker::User,
            };
            let refused = self.refused(&answer, clock, correlation_id.into(), asker);
            Err(Failure::Refused(Box::new(refused)))
        }
    }
}

impl TokenRequest<'_> {
    /// Reads a refusal of this request, with the addresses for sign-in and consent.
    pub fn refused(&self, answer: &Answer, clock: &Clock, correlation_id: Box<str>, asker: Asker) -> Refused {
        Refused {
            authorization_uri: self
                .endpoint
                .as_str()
                .strip_suffix("/token")
                .map(|endpoint| format!("{endpoint}/authorize").into()),
            consent_uri: consent_uri(self.endpoint, self.client_id),
            ..refused(answer, clock, correlation_id, asker)
        }
    }
}

/// Returns the address at which an administrator of the endpoint's tenant consents to the permissions of the application.
pub fn consent_uri(endpoint: &Url, client_id: &str) -> Option<Box<str>> {
    let mut url = endpoint.clone();
    url.set_path(&format!("{}/adminconsent", endpoint.path().strip_suffix("/oauth2/v2.0/token")?));
    url.set_query(None);
    url.query_pairs_mut().append_pair("client_id", client_id);
    Some(url.as_str().into())
}

/// A success response. RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Success {
    access_token: Zeroizing<String>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    refresh_in: Option<Seconds>,
}

/// Seconds, as a number or, from older endpoints, as a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    /// Returns a time in seconds since 1970. The oldest endpoint writes it as `11/22/2026 12:00:00 PM +00:00`.
    pub(crate) fn instant(&self) -> Option<u64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.trim().parse().ok().or_else(|| {
                let at = jiff::Timestamp::strptime("%m/%d/%Y %I:%M:%S %p %:z", text.trim()).ok()?;
                u64::try_from(at.as_second()).ok()
            }),
        }
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.trim().parse().ok(),
        }
        // Nothing lives for longer than some days; what says so would overflow sums of times.
        .map(|seconds| Duration::from_secs(seconds.min(30 * 86_400)))
    }
}

pub(crate) fn issued(body: &[u8], sent_at: Duration) -> Fetched {
    // The parser's own words could quote the token.
    let success: Success = serde_json::from_slice(body).map_err(|_| Failure::Nonsense("is not JSON with a token in it"))?;
    if success.access_token.is_empty() {
        return Err(Failure::Nonsense("holds no token"));
    }
    if success.token_type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(Failure::Nonsense("holds a token that is not a bearer token"));
    }
    let lifetime = success
        .expires_in
        .as_ref()
        .and_then(Seconds::duration)
        .ok_or(Failure::Nonsense("does not say how long the token lives"))?;
    Ok(Issued {
        token: success.access_token,
        lifetime,
        renew_in: success.refresh_in.as_ref().and_then(Seconds::duration).filter(|renew_in| !renew_in.is_zero()),
        sent_at,
    })
}

/// An error response. RFC 6749, section 5.2, with Entra's additions; any member may be missing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: Option<String>,
    error_description: Option<String>,
    error_codes: Vec<u32>,
    suberror: Option<String>,
    claims: Option<String>,
    trace_id: Option<String>,
    /// App Service's name for the description.
    message: Option<String>,
}

/// Reads the answer of a token endpoint that refused.
pub fn refused(answer: &Answer, clock: &Clock, correlation_id: Box<str>, asker: Asker) -> Refused {
    let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap_or_default();
    let description = body.error_description.as_deref().or(body.message.as_deref()).unwrap_or("no description");
    let (code, description) = named_code(description);
    let text = |name: HeaderName| answer.headers.get(name).and_then(|value| value.to_str().ok());
    Refused {
        status: answer.status,
        error: clean(body.error.as_deref().unwrap_or("without an error code")),
        code: body.error_codes.first().copied().or(code),
        message: clean(description),
        suberror: body.suberror.as_deref().map(clean),
        claims: body.claims.filter(|claims| claims.len() <= 8 << 10).map(Into::into),
        trace_id: body.trace_id.as_deref().map(clean),
        correlation_id,
        retry_after: text(header::RETRY_AFTER).and_then(|value| retry_after(value, clock.unix_seconds())),
        clock_ahead: text(header::DATE).and_then(http_date).map(|date| clock.unix_seconds().cast_signed() - date),
        asker,
        authorization_uri: None,
        consent_uri: None,
        certificate: None,
        certificate_expired: false,
    }
}

/// Splits off the code that Entra puts before its sentence (`AADSTS700027: …`).
fn named_code(description: &str) -> (Option<u32>, &str) {
    let named = description.strip_prefix("AADSTS").and_then(|rest| rest.split_once(':'));
    match named.and_then(|(code, sentence)| Some((code.parse().ok()?, sentence))) {
        Some((code, sentence)) => (Some(code), sentence.trim_start()),
        None => (None, description),
    }
}

/// Returns the seconds of a `Retry-After`, which is a number or a date. RFC 9110, section 10.2.3.
pub fn retry_after(value: &str, now: u64) -> Option<u64> {
    match value.trim().parse() {
        Ok(seconds) => Some(seconds),
        Err(_) => http_date(value).map(|date| u64::try_from(date - now.cast_signed()).unwrap_or(0)),
    }
}

/// Reads an HTTP date as seconds since 1970. RFC 9110, section 5.6.7; only the form that senders must use.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|date| date.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn reads_what_token_endpoints_answer() {
        for (body, expected) in [
            (json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "t"}), Ok((3_599, None))),
            (json!({"token_type": "bearer", "expires_in": "3599", "access_token": "t"}), Ok((3_599, None))),
            (json!({"expires_in": 86400, "refresh_in": 43200, "access_token": "t"}), Ok((86_400, Some(43_200)))),
            (json!({"expires_in": u64::MAX, "access_token": "t"}), Ok((30 * 86_400, None))),
            (
                json!({"token_type": "pop", "expires_in": 3599, "access_token": "t"}),
                Err("holds a token that is not a bearer token"),
            ),
            (json!({"expires_in": 3599}), Err("is not JSON with a token in it")),
            (json!({"expires_in": 3599, "access_token": ""}), Err("holds no token")),
            (json!({"access_token": "t"}), Err("does not say how long the token lives")),
            (json!({"access_token": "t", "expires_in": -1}), Err("is not JSON with a token in it")),
            (json!([]), Err("is not JSON with a token in it")),
        ] {
            let read = issued(body.to_string().as_bytes(), Duration::ZERO);

            let read = read.map(|issued| (issued.lifetime.as_secs(), issued.renew_in.map(|time| time.as_secs())));
            match (read, expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{body}"),
                (Err(Failure::Nonsense(read)), Err(expected)) => assert_eq!(read, expected, "{body}"),
                (read, _) => panic!("{body}: {read:?}"),
            }
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &Value) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
            body: Bytes::from(body.to_string()),
        }
    }

    #[test]
    fn reads_why_a_token_was_refused() {
        let clock = Clock::manual(1_795_304_100);
        let answer = answer(
            401,
            &[("date", "Sat, 21 Nov 2026 23:40:00 GMT"), ("retry-after", "60")],
            &json!({
                "error": "invalid_client",
                "error_description": "AADSTS700027: The certificate is not registered.\r\nTrace ID: 0f0e\r\nCorrelation ID: 5a0c",
                "error_codes": [700_027],
                "trace_id": "0f0e",
                "claims": "{\"access_token\":{}}",
            }),
        );

        let refused = refused(&answer, &clock, "5a0c".into(), Asker::Gateway);

        assert_eq!(
            refused.to_string(),
            "the token endpoint answered 401 invalid_client (AADSTS700027): The certificate is not registered."
        );
        assert_eq!(refused.retry_after, Some(60));
        assert_eq!(refused.clock_ahead, Some(-300));
        assert_eq!(refused.claims.as_deref(), Some("{\"access_token\":{}}"));
    }

    #[test]
    fn survives_answers_that_are_no_errors_of_entra() {
        let clock = Clock::manual(0);
        for body in [json!("<html>"), json!([1]), json!({"error": 5}), json!({"error_codes": ["x"]})] {
            let refused = refused(&answer(502, &[], &body), &clock, "id".into(), Asker::Gateway);

            assert_eq!(refused.to_string(), "the token endpoint answered 502 without an error code: no description");
            assert!(refused.is_transient());
        }
    }

    #[test]
    fn reads_both_forms_of_retry_after() {
        for (value, expected) in [
            ("60", Some(60)),
            (" 5 ", Some(5)),
            ("Sat, 21 Nov 2026 23:36:00 GMT", Some(60)),
            ("Sat, 21 Nov 2026 23:00:00 GMT", Some(0)),
            ("soon", None),
            ("", None),
            ("-5", None),
        ] {
            assert_eq!(retry_after(value, 1_795_304_100), expected, "{value}");
        }
    }
}

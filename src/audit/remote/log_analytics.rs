//! The HTTP Data Collector API of Log Analytics, which Microsoft has retired: rows for a table, signed with the workspace's key.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use url::Url;

use super::{Limits, Verdict, array, retry_after, row, told};
use crate::{
    base::{clock::Clock, error_chain::chain},
    identity_http::{Call, IdentityHttp},
};

/// A post carries 30 MB; smaller ones take less memory, and are lost less.
pub(super) const LIMITS: Limits = Limits { bytes: 4_000_000, between: 1 };
/// The version of the interface.
const API_VERSION: &str = "2016-04-01";
/// The time for a call.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The size limit of answers.
const CAP: usize = 64 << 10;
/// The pause where the workspace or its key is wrong: somebody has to mend that.
const UNTIL_MENDED: Duration = Duration::from_secs(120);

/// A table of a workspace.
pub(in crate::audit) struct LogAnalytics {
    pub(super) url: Url,
    pub(super) workspace: String,
    pub(super) log_type: HeaderValue,
    pub(super) key: hmac::Key,
    pub(super) http: Arc<IdentityHttp>,
    pub(super) clock: Clock,
}

impl std::fmt::Debug for LogAnalytics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogAnalytics").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}

/// Returns the URL of an endpoint.
pub(super) fn url(endpoint: &Url) -> Option<Url> {
    let mut url = endpoint.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(["api", "logs"]);
    url.query_pairs_mut().clear().append_pair("api-version", API_VERSION);
    Some(url)
}

/// Reads a workspace's key.
pub(super) fn key(text: &str) -> Option<hmac::Key> {
    let key = STANDARD.decode(text.trim()).ok().filter(|key| !key.is_empty())?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

/// Returns the signature of a body of this length, sent at this time.
fn signature(key: &hmac::Key, length: usize, date: &str) -> String {
    let text = format!("POST\n{length}\napplication/json\nx-ms-date:{date}\n/api/logs");
    STANDARD.encode(hmac::sign(key, text.as_bytes()))
}

/// Returns a time as the interface wants it: RFC 1123.
fn date(now: Duration) -> String {
    let second = i64::try_from(now.as_secs()).unwrap_or_default();
    jiff::Timestamp::from_second(second).unwrap_or_default().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

impl LogAnalytics {
    /// Sends rows.
    pub(super) async fn send(&self, rows: &[Bytes]) -> Verdict {
        let body = Bytes::from(array(rows));
        let date = date(self.clock.unix());
        let authorization = format!("SharedKey {}:{}", self.workspace, signature(&self.key, body.len(), &date));
        let (Ok(mut authorization), Ok(date)) = (HeaderValue::try_from(authorization), HeaderValue::try_from(date)) else {
            return Verdict::Later("a request cannot be signed".to_owned(), None);
        };
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(HeaderName::from_static("log-type"), self.log_type.clone());
        headers.insert(HeaderName::from_static("x-ms-date"), date);
        headers.insert(HeaderName::from_static("time-generated-field"), HeaderValue::from_static(row::TIME));
        let answer = match self.http.send(Call::post_json(&self.url, body, headers, CAP).within(TIMEOUT)).await {
            Ok(answer) => answer,
            Err(error) => return Verdict::Later(chain(&error), None),
        };
        judge(answer.status, &answer.headers, &answer.body, (rows.len(), self.clock.unix_seconds()))
    }
}

/// Returns what an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8], (rows, now): (usize, u64)) -> Verdict {
    let reason = || format!("{}: {}", status.as_u16(), told(body));
    match status.as_u16() {
        200 => Verdict::Delivered,
        413 => Verdict::TooLarge,
        // The documentation has this for a wrong URL, and for a request that is too large.
        404 if rows > 1 => Verdict::TooLarge,
        400 => {
            // Not the rows are wrong, but the settings.
            let settings = ["InactiveCustomer", "InvalidApiVersion", "InvalidCustomerId", "InvalidLogType", "MissingLogType"];
            if settings.iter().any(|code| told(body).contains(code)) {
                Verdict::Later(reason(), Some(UNTIL_MENDED))
            } else {
                Verdict::Refused(reason())
            }
        }
        403 => Verdict::Later(
            format!("{} (the workspace's id, its key or this machine's clock is wrong)", reason()),
            Some(UNTIL_MENDED),
        ),
        404 => Verdict::Later(format!("{} (there is no such workspace)", reason()), Some(UNTIL_MENDED)),
        _ => Verdict::Later(reason(), retry_after(headers, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 bytes: 0, 1, 2, ….
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";

    #[test]
    fn signatures_are_those_of_the_vectors() {
        let key = key(KEY).unwrap();
        let body = r#"[{"Path":"/api/x","Status":200,"User":"Zoë"}]"#;

        assert_eq!((body.chars().count(), body.len()), (45, 46));
        let saturday = "Sat, 21 Nov 2026 12:00:00 GMT";
        assert_eq!(signature(&key, body.len(), saturday), "1tP3i0mHgh9le6JQ6M7QpQtvTyUAegzYkx0Dp4DAAvg=");
        // With the length in characters.
        assert_eq!(signature(&key, 45, saturday), "dUVGw8ENs1LVtAkVql4u93taTKAitKKAt3BYCHoTEkE=");
        assert_eq!(signature(&key, 1024, "Mon, 04 Apr 2016 08:00:00 GMT"), "kQfMluP3yBFQzfwH0Ye5adOjNq2FCEIWGh0n4uEtCrg=");
    }

    #[test]
    fn dates_have_two_digits_for_the_day_and_english_names() {
        assert_eq!(date(Duration::from_secs(1_795_262_400)), "Sat, 21 Nov 2026 12:00:00 GMT");
        assert_eq!(date(Duration::from_secs(1_459_756_800)), "Mon, 04 Apr 2016 08:00:00 GMT");
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let judged = |status: u16, body: &str, rows| {
            judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes(), (rows, 0))
        };
        assert!(matches!(judged(200, "", 1), Verdict::Delivered));
        assert!(matches!((judged(404, "", 2), judged(413, "", 1)), (Verdict::TooLarge, Verdict::TooLarge)));
        assert!(matches!(judged(400, r#"{"Error":"InvalidDataFormat","Message":"no"}"#, 1), Verdict::Refused(_)));
        for (status, body) in [(400, r#"{"Error":"InvalidLogType"}"#), (403, ""), (404, ""), (429, ""), (500, "")] {
            assert!(matches!(judged(status, body, 1), Verdict::Later(..)), "{status}");
        }
        assert!(key("no base64!").is_none() && key("").is_none());
    }
}

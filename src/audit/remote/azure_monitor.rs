//! Azure Monitor's Logs Ingestion API: rows for a stream of a data collection rule.

use std::{io::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use url::Url;

use super::{Limits, Verdict, array, retry_after, told};
use crate::{
    base::{clock::Clock, error_chain::chain},
    credentials::TokenSlot,
    identity_http::{Call, IdentityHttp},
};

/// A call carries a megabyte, before and after compression; it is not said whether of 10⁶ or of 2²⁰ bytes.
pub(super) const LIMITS: Limits = Limits { bytes: 1_000_000 - 2, between: 1 };
/// The version of the interface.
const API_VERSION: &str = "2023-01-01";
/// The time for a call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The size limit of answers.
const CAP: usize = 64 << 10;
/// The pause where a role is missing or the rule is not there: assignments take minutes to act.
const UNTIL_ASSIGNED: Duration = Duration::from_secs(120);

/// A stream of a data collection rule.
#[derive(Debug)]
pub(in crate::audit) struct AzureMonitor {
    pub(super) url: Url,
    pub(super) slot: Arc<TokenSlot>,
    pub(super) http: Arc<IdentityHttp>,
    pub(super) clock: Clock,
}

/// Returns the URL of a stream.
pub(super) fn url(endpoint: &Url, rule: &str, stream: &str) -> Option<Url> {
    let mut url = endpoint.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(["dataCollectionRules", rule, "streams", stream]);
    url.query_pairs_mut().clear().append_pair("api-version", API_VERSION);
    Some(url)
}

/// Returns the scope of tokens, by the cloud that the endpoint belongs to.
pub(super) fn scope_of(endpoint: &Url) -> &'static str {
    let host = endpoint.host_str().unwrap_or_default();
    if host.ends_with(".azure.us") {
        "https://monitor.azure.us/.default"
    } else if host.ends_with(".azure.cn") {
        "https://monitor.azure.cn/.default"
    } else {
        "https://monitor.azure.com/.default"
    }
}

impl AzureMonitor {
    /// Sends rows. A token that is refused is replaced once.
    pub(super) async fn send(&self, rows: &[Bytes]) -> Verdict {
        let body = array(rows);
        let Ok(compressed) = compress(&body) else { return Verdict::Later("a batch cannot be compressed".to_owned(), None) };
        let body = Bytes::from(compressed);
        let mut renewed = false;
        loop {
            let token = match self.slot.token().await {
                Ok(token) => token,
                Err(error) => return Verdict::Later(format!("no token: {}", chain(&error)), None),
            };
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, token.header().clone());
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
                headers.insert(HeaderName::from_static("x-ms-client-request-id"), id);
            }
            let call = Call::post_json(&self.url, body.clone(), headers, CAP).within(TIMEOUT);
            let answer = match self.http.send(call).await {
                Ok(answer) => answer,
                Err(error) => return Verdict::Later(chain(&error), None),
            };
            if answer.status == StatusCode::UNAUTHORIZED && !renewed && self.slot.refused(&token) {
                renewed = true;
                continue;
            }
            return judge(answer.status, &answer.headers, &answer.body, self.clock.unix_seconds());
        }
    }
}

/// Returns what an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8], now: u64) -> Verdict {
    let reason = || format!("{}: {}", status.as_u16(), told(body));
    match status.as_u16() {
        200 | 202 | 204 => Verdict::Delivered,
        413 => Verdict::TooLarge,
        400 => Verdict::Refused(reason()),
        403 => {
            let cure = "give the credential the role Monitoring Metrics Publisher on the data collection rule; that takes up to half an hour to act";
            Verdict::Later(format!("{} ({cure})", reason()), Some(UNTIL_ASSIGNED))
        }
        404 => Verdict::Later(format!("{} (there is no such rule, stream or endpoint)", reason()), Some(UNTIL_ASSIGNED)),
        _ => Verdict::Later(reason(), retry_after(headers, now)),
    }
}

/// Compresses a body: RFC 1952.
fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_rule_and_stream_and_the_scope_the_cloud() {
        for (endpoint, expected, scope) in [
            (
                "https://entrada-x1y2.westeurope-1.ingest.monitor.azure.com",
                "https://entrada-x1y2.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-1/streams/Custom-A_CL?api-version=2023-01-01",
                "https://monitor.azure.com/.default",
            ),
            (
                "https://a-b.logs.z1.ingest.monitor.azure.us/",
                "https://a-b.logs.z1.ingest.monitor.azure.us/dataCollectionRules/dcr-1/streams/Custom-A_CL?api-version=2023-01-01",
                "https://monitor.azure.us/.default",
            ),
        ] {
            let endpoint = Url::parse(endpoint).unwrap();
            assert_eq!(url(&endpoint, "dcr-1", "Custom-A_CL").unwrap().as_str(), expected);
            assert_eq!(scope_of(&endpoint), scope);
        }
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let mut wait = HeaderMap::new();
        wait.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        let judged = |status: u16, headers: &HeaderMap, body: &str| {
            judge(StatusCode::from_u16(status).unwrap(), headers, body.as_bytes(), 0)
        };
        assert!(matches!(judged(204, &wait, ""), Verdict::Delivered));
        assert!(matches!(judged(413, &wait, ""), Verdict::TooLarge));
        let Verdict::Refused(reason) = judged(400, &wait, r#"{"error":{"code":"InvalidStream","message":"no"}}"#) else {
            panic!()
        };
        assert_eq!(reason, "400: InvalidStream: no");
        let Verdict::Later(reason, Some(UNTIL_ASSIGNED)) = judged(403, &wait, "") else { panic!() };
        assert!(reason.contains("Monitoring Metrics Publisher"), "{reason}");
        for status in [429, 500, 503] {
            assert!(matches!(judged(status, &wait, ""), Verdict::Later(_, Some(asked)) if asked == Duration::from_secs(7)));
        }
        assert!(matches!(judged(502, &HeaderMap::new(), ""), Verdict::Later(_, None)));
    }
}

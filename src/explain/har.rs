//! Requests from an HTTP archive (HAR 1.2), as browsers export it.

use bytes::Bytes;
use serde::Deserialize;

use super::curl::Described;

/// A request of an archive.
#[derive(Clone, Debug)]
pub struct HarEntry {
    /// The request.
    pub described: Described,
    /// The time when it was sent, in seconds since 1970.
    pub started: Option<u64>,
    /// True if the export has left out credentials, as Chrome's does by default.
    pub sanitised: bool,
}

/// The reason why an archive is not read.
#[derive(Debug, thiserror::Error)]
pub enum HarFault {
    /// The file is not an archive.
    #[error("the file is not an HTTP archive (HAR 1.2)")]
    Json(#[from] serde_json::Error),
    /// There is no such entry.
    #[error("the archive has no entry {0}; it has {1}, counted from 1")]
    Entry(usize, usize),
    /// There are several entries.
    #[error("the archive has {0} entries; say which one with --entry")]
    Several(usize),
}

#[derive(Deserialize)]
struct Archive {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    started_date_time: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    #[serde(default)]
    http_version: String,
    #[serde(default)]
    headers: Vec<Pair>,
    #[serde(default)]
    cookies: Vec<serde_json::Value>,
    post_data: Option<PostData>,
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostData {
    #[serde(default)]
    mime_type: String,
    #[serde(default)]
    text: String,
}

/// Reads one request of an archive: the entry of this number, from 1, or the only one.
///
/// # Errors
/// Fails if the text is no archive, or has no such entry.
pub fn har_entry(text: &str, number: Option<usize>) -> Result<HarEntry, HarFault> {
    let archive: Archive = serde_json::from_str(text.trim_start_matches('\u{feff}'))?;
    let entries = archive.log.entries;
    let entry = match number {
        Some(number) => entries.get(number.wrapping_sub(1)).ok_or(HarFault::Entry(number, entries.len()))?,
        None => match entries.as_slice() {
            [entry] => entry,
            [] => return Err(HarFault::Entry(1, 0)),
            _ => return Err(HarFault::Several(entries.len())),
        },
    };
    let request = &entry.request;
    // Pseudo-headers of HTTP/2, and the host, are in the URL.
    let fields = request.headers.iter().filter(|field| !field.name.starts_with(':') && !field.name.eq_ignore_ascii_case("host"));
    let mut headers: Vec<_> = fields.map(|field| (field.name.clone(), field.value.clone().into_bytes())).collect();
    let has = |name: &str| request.headers.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    let body = request.post_data.as_ref().map(|data| Bytes::from(data.text.clone())).unwrap_or_default();
    if let Some(data) = request.post_data.as_ref().filter(|data| !data.mime_type.is_empty() && !has("content-type")) {
        headers.push(("Content-Type".to_owned(), data.mime_type.clone().into_bytes()));
    }
    let started = entry.started_date_time.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_second()).ok());
    Ok(HarEntry {
        described: Described {
            method: request.method.clone(),
            url: request.url.clone(),
            headers,
            body,
            http2: matches!(&*request.http_version.to_ascii_lowercase(), "h2" | "http/2" | "http/2.0"),
            ..Described::default()
        },
        started,
        sanitised: !has("authorization") && !has("cookie") && request.cookies.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHIVE: &str = r#"{"log":{"version":"1.2","entries":[{"startedDateTime":"2027-03-01T10:00:00.000+01:00","request":{"method":"POST",
        "url":"https://api.contoso.example/orders?a=b","httpVersion":"h2","headers":[{"name":":authority","value":"api.contoso.example"},
        {"name":"accept","value":"*/*"}],"queryString":[],"cookies":[],"postData":{"mimeType":"application/json","text":"{}"},"headersSize":-1,"bodySize":2}}]}}"#;

    #[test]
    fn an_entry_is_a_request_at_its_time() {
        let entry = har_entry(ARCHIVE, None).unwrap();

        assert_eq!((&*entry.described.method, &*entry.described.url), ("POST", "https://api.contoso.example/orders?a=b"));
        let names: Vec<_> = entry.described.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["accept", "Content-Type"]);
        assert_eq!((entry.started, entry.described.http2, entry.sanitised), (Some(1_803_891_600), true, true));
        assert_eq!(entry.described.body, b"{}"[..]);
        assert!(har_entry(ARCHIVE, Some(2)).is_err() && har_entry("{}", None).is_err());
    }
}

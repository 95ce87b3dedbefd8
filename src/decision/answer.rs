//! Answers: what is told of an admitted request, and of a refused one.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{
    changes::{Changes, Untellable, joined},
    question::OF_THE_CONNECTION,
};

/// A request that is admitted.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    /// The header that the proxy has.
    pub(crate) received: &'a HeaderMap,
    /// The header that the backend is to receive.
    pub(crate) header: &'a HeaderMap,
}

/// A request that is refused, as its caller would be told.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    /// The status.
    pub(crate) status: StatusCode,
    /// The header fields.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
    /// The code of the refusal.
    pub(crate) code: &'a str,
    /// Whether the caller speaks gRPC.
    pub(crate) to_grpc: bool,
}

/// The answer to a question.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The header fields.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
    /// The fields after the body.
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// Makes an answer of HTTP that admits: 200 exactly, without a body, and kept by nobody.
    pub(super) fn admission(headers: HeaderMap) -> Self {
        let mut headers = headers;
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { status: StatusCode::OK, headers, body: Bytes::new(), trailers: None }
    }

    /// Makes an answer of HTTP that the proxy sends on as it is. No refusal is a success, whatever a policy has made of it.
    pub(super) fn refusal(refused: Refused<'_>) -> Self {
        let Refused { status, mut headers, body, .. } = refused;
        OF_THE_CONNECTION.iter().for_each(|name| drop(headers.remove(name)));
        Self { status: denial(status), headers, body, trailers: None }
    }
}

/// Returns the status of a refusal: one of a success would let the request through.
pub(super) fn denial(status: StatusCode) -> StatusCode {
    if status.is_informational() || status.is_success() { StatusCode::FORBIDDEN } else { status }
}

/// Returns the fields of `names` that the backend is to receive. A proxy removes the names of its list that an answer leaves out, so what
/// passes unchanged is repeated.
///
/// # Errors
/// Fails if something beyond the list would have to change.
pub(super) fn listed(admitted: &Admitted<'_>, names: &[HeaderName]) -> Result<HeaderMap, Untellable> {
    let changes = Changes::between(admitted.received, admitted.header)?;
    let changed = changes.set.iter().map(|(name, _)| name).chain(&changes.remove);
    if let Some(name) = changed.into_iter().find(|name| !names.contains(name)) {
        return Err(Untellable::NotListed(name.clone()));
    }
    let mut headers = HeaderMap::with_capacity(names.len());
    for name in names.iter().filter(|name| admitted.header.contains_key(*name)) {
        let value = joined(admitted.header, name).ok_or_else(|| Untellable::Value(name.clone()))?;
        headers.insert(name.clone(), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_refusal_is_never_a_success() {
        for (status, expected) in [(200, 403), (204, 403), (101, 403), (302, 302), (401, 401), (503, 503)] {
            assert_eq!(denial(StatusCode::from_u16(status).unwrap()).as_u16(), expected);
        }
    }

    #[test]
    fn what_passes_unchanged_is_repeated_and_what_is_gone_is_left_out() {
        let names = ["x-user", "authorization", "x-version"].map(HeaderName::from_static);
        let received = map(&[("authorization", "Bearer a"), ("x-user", "evil"), ("x-version", "2"), ("accept", "*/*")]);
        let header = map(&[("authorization", "Bearer a"), ("x-version", "2"), ("accept", "*/*")]);

        let listed = listed(&Admitted { received: &received, header: &header }, &names).unwrap();

        assert_eq!(listed, map(&[("authorization", "Bearer a"), ("x-version", "2")]));
    }

    #[test]
    fn what_the_proxy_would_not_change_is_an_error() {
        let (received, header) = (map(&[("x_user", "evil")]), HeaderMap::new());

        let error = listed(&Admitted { received: &received, header: &header }, &[HeaderName::from_static("x-user")]).unwrap_err();

        assert!(matches!(error, Untellable::NotListed(name) if name == "x_user"));
    }
}

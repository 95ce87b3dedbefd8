//! Answers: what is told of an admitted request, and of a refused one.

use std::cmp::Ordering;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::changes::{Changes, Untellable, differs, is_of_the_connection, joined};
use crate::{
    base::{
        buffers,
        fields::{Fields, Known, Name, Value},
    },
    telemetry::Message,
};

/// A request that is admitted.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    /// The header that the proxy has.
    pub(crate) received: &'a Fields,
    /// The header that the backend is to receive.
    pub(crate) header: &'a Fields,
}

/// The names that the answers of a listener are about, with what of an answer can be made before there is one.
#[derive(Debug)]
pub(crate) struct Told {
    /// The fields that the proxy takes from an answer, in the order of their letters.
    pub(super) names: Box<[HeaderName]>,
    /// The same, the shorter ones first: of those that are as long as a name few have to be read.
    by_length: Box<[HeaderName]>,
    /// The fields that no client may set, in all spellings, each with the bytes by which Envoy is told over gRPC that it is removed.
    pub(super) removed: Box<[(HeaderName, Box<[u8]>)]>,
    /// The answer in which none of the fields has a value.
    pub(super) empty: Fields,
}

/// Compares two names by their lengths, and by their letters if these are the same.
fn order(one: &str, other: &str) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

impl Told {
    /// Prepares answers about these names.
    pub(super) fn new(mut names: Vec<HeaderName>, removed: Vec<HeaderName>) -> Self {
        names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        let mut by_length = names.clone();
        by_length.sort_by(|one, other| order(one.as_str(), other.as_str()));
        let empty = names.iter().map(|name| (name.clone(), HeaderValue::from_static(""))).collect();
        let encoded = |name: HeaderName| {
            let mut field = Message::default();
            field.text(5, name.as_str());
            (name, field.into_bytes().into())
        };
        Self { names: names.into(), by_length: by_length.into(), removed: removed.into_iter().map(encoded).collect(), empty }
    }

    /// Returns whether the proxy takes a field of this name from an answer.
    pub(super) fn lists(&self, name: Name<'_>) -> bool {
        let name = name.as_str();
        self.by_length.binary_search_by(|listed| order(listed.as_str(), name)).is_ok()
    }

    /// Returns those of the removed fields that an answer does not name otherwise.
    pub(super) fn absent<'a>(
        &'a self,
        admitted: &'a Admitted<'_>,
        changes: &'a Changes<'_>,
    ) -> impl Iterator<Item = &'a (HeaderName, Box<[u8]>)> {
        self.removed.iter().filter(|(name, _)| {
            let name = name.as_str().as_bytes();
            let is = |other: Name<'_>| other.as_bytes() == name;
            !admitted.header.names().any(is) && !changes.remove.iter().copied().any(is)
        })
    }
}

/// A request that is refused, as its caller would be told.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    /// The status.
    pub(crate) status: StatusCode,
    /// The header fields.
    pub(crate) headers: Fields,
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
    pub(crate) headers: Fields,
    /// The body.
    pub(crate) body: Bytes,
    /// The fields after the body.
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// Makes an answer of HTTP that admits: 200 exactly, without a body, and kept by nobody.
    pub(super) fn admission(headers: Fields) -> Self {
        let mut headers = headers;
        headers.insert(Known::CacheControl, Value::visible(b"no-store"));
        Self { status: StatusCode::OK, headers, body: Bytes::new(), trailers: None }
    }

    /// Makes an answer of HTTP that the proxy sends on as it is. No refusal is a success, whatever a policy has made of it.
    pub(super) fn refusal(refused: Refused<'_>) -> Self {
        let Refused { status, mut headers, body, .. } = refused;
        headers.remove_if(is_of_the_connection);
        Self { status: denial(status), headers, body, trailers: None }
    }
}

/// Returns the status of a refusal: one of a success would let the request through.
pub(super) fn denial(status: StatusCode) -> StatusCode {
    if status.is_informational() || status.is_success() { StatusCode::FORBIDDEN } else { status }
}

/// Puts the listed fields that the backend is to receive into `headers`. A proxy removes the names of its list that an answer leaves out, so
/// what passes unchanged is repeated.
///
/// # Errors
/// Fails if something beyond the list would have to change.
pub(super) fn listed(admitted: &Admitted<'_>, told: &Told, mut headers: Fields) -> Result<Fields, Untellable> {
    let Admitted { received, header } = admitted;
    for name in header.distinct_names() {
        if told.lists(name) {
            let untellable = || Untellable::Value(name.to_header_name());
            let value = joined(header, name).ok_or_else(untellable)?;
            headers.remove(name);
            headers.try_append(name.as_bytes(), &value).map_err(|_| untellable())?;
        } else if differs(received, header, name) {
            return Err(Untellable::NotListed(name.to_header_name()));
        }
    }
    let mut gone = received.names().filter(|name| !header.contains_key(*name));
    match gone.find(|name| !told.lists(*name) && !is_of_the_connection(*name)) {
        Some(name) => Err(Untellable::NotListed(name.to_header_name())),
        None => Ok(headers),
    }
}

/// Makes the answer of HTTP to a question about an admitted request.
///
/// # Errors
/// Fails if something beyond the list would have to change.
pub(super) fn admit(admitted: &Admitted<'_>, told: &Told) -> Result<Answer, Untellable> {
    listed(admitted, told, buffers::fields()).map(Answer::admission)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<T: FromIterator<(HeaderName, HeaderValue)>>(fields: &[(&'static str, &'static str)]) -> T {
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
        let told = Told::new(["x-user", "authorization", "x-version"].map(HeaderName::from_static).into(), Vec::new());
        let received = map(&[("authorization", "Bearer a"), ("x-user", "evil"), ("x-version", "2"), ("accept", "*/*")]);
        let header = map(&[("authorization", "Bearer a"), ("x-version", "2"), ("accept", "*/*")]);

        let listed = listed(&Admitted { received: &received, header: &header }, &told, Fields::default()).unwrap();

        assert_eq!(listed, map(&[("authorization", "Bearer a"), ("x-version", "2")]));
    }

    #[test]
    fn what_the_proxy_would_not_change_is_an_error() {
        let (received, header) = (map(&[("x_user", "evil")]), Fields::default());
        let told = Told::new(vec![HeaderName::from_static("x-user")], Vec::new());

        let error = admit(&Admitted { received: &received, header: &header }, &told).unwrap_err();

        assert!(matches!(error, Untellable::NotListed(name) if name == "x_user"));
    }
}

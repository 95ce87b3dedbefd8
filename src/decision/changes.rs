//! The difference between the header that a proxy has, and the one that the backend is to receive.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::question::OF_THE_CONNECTION;
use crate::{
    base::buffers,
    refusal::{Reason, Refusal},
};

/// The changes of a request's header, each name at most once.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The fields that are set, in place of all that the request has by their names.
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    /// The fields that are removed, all lines of them.
    pub(crate) remove: Vec<HeaderName>,
}

/// An error: the proxy cannot be told of a change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untellable {
    /// The value cannot be put on one line, or contains bytes that are no text.
    #[error("the value of `{0}` cannot be handed to the proxy that asks")]
    Value(HeaderName),
    /// The proxy does not take a field of this name from an answer.
    #[error("`{0}` is to be changed, and the proxy that asks changes the fields of its list alone")]
    NotListed(HeaderName),
}

impl From<Untellable> for Refusal {
    fn from(error: Untellable) -> Self {
        match error {
            Untellable::Value(_) => Self::new(Reason::HeaderValueUnavailable, error),
            // The caller has sent what the backend must not see, under a name that nobody expects.
            Untellable::NotListed(_) => Self::new(Reason::RequestHeaderInvalid, error),
        }
    }
}

impl Changes {
    /// Compares the header that was received with the one that is to be forwarded.
    ///
    /// # Errors
    /// Fails if a value cannot be told.
    pub(crate) fn between(received: &HeaderMap, admitted: &HeaderMap) -> Result<Self, Untellable> {
        let mut changes = Self::default();
        for name in admitted.keys().filter(|name| !OF_THE_CONNECTION.contains(name)) {
            if !received.get_all(name).iter().eq(admitted.get_all(name).iter()) {
                let value = joined(admitted, name).ok_or_else(|| Untellable::Value(name.clone()))?;
                changes.set.push((name.clone(), value));
            }
        }
        let gone = received.keys().filter(|name| !OF_THE_CONNECTION.contains(name) && !admitted.contains_key(*name));
        changes.remove.extend(gone.cloned());
        Ok(changes)
    }
}

/// Returns all lines of a field as one, if it is a text.
pub(super) fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let value = match lines.next() {
        None => first.clone(),
        Some(second) => {
            let mut bytes = first.as_bytes().to_vec();
            for line in std::iter::once(second).chain(lines) {
                bytes.extend_from_slice(if *name == header::COOKIE { b"; " } else { b", " });
                bytes.extend_from_slice(line.as_bytes());
            }
            HeaderValue::from_maybe_shared(buffers::bytes(&bytes)).ok()?
        }
    };
    is_text(value.as_bytes()).then_some(value)
}

/// Returns whether a value is a text without control characters, which no proxy could read as the end of a line.
pub(super) fn is_text(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok() && !value.iter().any(u8::is_ascii_control)
}

/// Returns a value as a text; empty for one that is none.
pub(super) fn text(value: &HeaderValue) -> Cow<'_, str> {
    if is_text(value.as_bytes()) { String::from_utf8_lossy(value.as_bytes()) } else { Cow::Borrowed("") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn only_what_differs_is_told_and_each_name_once() {
        let received = map(&[
            ("host", b"a.example"),
            ("accept", b"text/html"),
            ("accept", b"*/*"),
            ("x-user", b"evil"),
            ("x_user", b"evil"),
            ("connection", b"close"),
            ("authorization", b"Bearer a"),
        ]);
        let admitted = map(&[
            ("accept", b"text/html"),
            ("accept", b"*/*"),
            ("x-user", b"nia"),
            ("x-groups", b"a"),
            ("x-groups", b"b"),
            ("te", b"trailers"),
        ]);

        let mut changes = Changes::between(&received, &admitted).unwrap();
        changes.set.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
        changes.remove.sort_by(|one, other| one.as_str().cmp(other.as_str()));

        let set: Vec<_> = changes.set.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(set, ["x-groups: a, b", "x-user: nia"]);
        assert_eq!(changes.remove, ["authorization", "x_user"]);
    }

    #[test]
    fn a_value_that_no_proxy_could_take_is_an_error() {
        assert!(Changes::between(&HeaderMap::new(), &map(&[("x-user", b"Lod\xc5\xba")])).is_ok());
        for value in [&b"\xff"[..], b"a\tb"] {
            let admitted: HeaderMap =
                [(HeaderName::from_static("x-user"), HeaderValue::from_bytes(value).unwrap())].into_iter().collect();
            assert!(matches!(Changes::between(&HeaderMap::new(), &admitted), Err(Untellable::Value(_))), "{value:?}");
        }
        let passes = map(&[("x-odd", b"\xff")]);
        assert!(Changes::between(&passes, &passes).unwrap().set.is_empty(), "what does not change is not told");
    }
}

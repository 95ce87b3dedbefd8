//! The difference between the header that a proxy has, and the one that the backend is to receive.

use std::borrow::Cow;

use http::HeaderName;

use crate::{
    base::fields::{Fields, Known, Name},
    outgoing::field::FRAMING,
    refusal::{Reason, Refusal},
};

/// The changes of a request's header, each name at most once.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    /// The fields that are set, in place of all that the request has by their names.
    pub(crate) set: Vec<(Name<'a>, Cow<'a, [u8]>)>,
    /// The fields that are removed, all lines of them.
    pub(crate) remove: Vec<Name<'a>>,
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

impl<'a> Changes<'a> {
    /// Compares the header that was received with the one that is to be forwarded.
    ///
    /// # Errors
    /// Fails if a value cannot be told.
    pub(crate) fn between(received: &'a Fields, admitted: &'a Fields) -> Result<Self, Untellable> {
        let mut changes = Self::default();
        // Most fields pass as they came, in order. A name all of whose lines pass so has not changed; the others are looked at.
        let (mut gone, mut rest) = (Vec::with_capacity(received.len()), admitted.iter().peekable());
        for had in received.iter() {
            if rest.next_if_eq(&had).is_none() {
                gone.push(had.0);
            }
        }
        let added: Vec<_> = rest.map(|(name, _)| name).collect();
        for name in each_once(&added) {
            if differs(received, admitted, name) {
                changes.set(admitted, name)?;
            }
        }
        for name in each_once(&gone).filter(|name| !is_of_the_connection(*name)) {
            if !admitted.contains_key(name) {
                changes.remove.push(name);
            } else if !added.contains(&name) {
                // The request has more lines of it than the backend is to receive.
                changes.set(admitted, name)?;
            }
        }
        Ok(changes)
    }

    fn set(&mut self, admitted: &'a Fields, name: Name<'a>) -> Result<(), Untellable> {
        let value = joined(admitted, name).ok_or_else(|| Untellable::Value(name.to_header_name()))?;
        self.set.push((name, value));
        Ok(())
    }
}

/// Returns whether the fields of this name are to be others than they were, as far as they are the request's.
pub(super) fn differs(received: &Fields, admitted: &Fields, name: Name<'_>) -> bool {
    !received.get_all(name).eq(admitted.get_all(name)) && !is_of_the_connection(name)
}

/// Returns whether a field is of the connection or the framing of a message: a question's are the asking proxy's, which is told of none.
pub(super) fn is_of_the_connection(name: Name<'_>) -> bool {
    FRAMING.contains(&name.known())
}

/// Returns the names, each once.
fn each_once<'a>(names: &[Name<'a>]) -> impl Iterator<Item = Name<'a>> {
    names.iter().enumerate().filter(|(at, name)| !names[..*at].contains(name)).map(|(_, name)| *name)
}

/// Returns all lines of a field as one, if it is a text.
pub(super) fn joined<'a>(fields: &'a Fields, name: Name<'_>) -> Option<Cow<'a, [u8]>> {
    let mut lines = fields.get_all(name);
    let first = lines.next()?;
    let value = match lines.next() {
        None => Cow::Borrowed(first.as_bytes()),
        Some(second) => {
            let mut bytes = first.as_bytes().to_vec();
            for line in std::iter::once(second).chain(lines) {
                bytes.extend_from_slice(if name == Known::Cookie { b"; " } else { b", " });
                bytes.extend_from_slice(line.as_bytes());
            }
            Cow::Owned(bytes)
        }
    };
    is_text(&value).then_some(value)
}

/// Returns whether a value is a text without control characters, which no proxy could read as the end of a line.
pub(super) fn is_text(value: &[u8]) -> bool {
    // Read to its end, so that many bytes are looked at together.
    let controls = value.iter().fold(false, |found, byte| found | byte.is_ascii_control());
    !controls && std::str::from_utf8(value).is_ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn list(fields: &[(&'static str, &'static [u8])]) -> Fields {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn only_what_differs_is_told_and_each_name_once() {
        let received = list(&[
            ("host", b"a.example"),
            ("accept", b"text/html"),
            ("accept", b"*/*"),
            ("x-user", b"evil"),
            ("x_user", b"evil"),
            ("connection", b"close"),
            ("authorization", b"Bearer a"),
        ]);
        let admitted = list(&[
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

        let set: Vec<_> = changes.set.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        assert_eq!(set, ["x-groups: a, b", "x-user: nia"]);
        assert_eq!(changes.remove.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["authorization", "x_user"]);
    }

    proptest! {
        /// Compares the changes with those that a look at each name by itself finds, and what they make of the request.
        #[test]
        fn whatever_changes_is_told(
            received in prop::collection::vec((0..5_usize, 0..3_usize), 0..8),
            admitted in prop::collection::vec((0..5_usize, 0..3_usize), 0..8),
            kept in 0..8_usize,
        ) {
            const NAMES: [&str; 5] = ["accept", "x-user", "x-groups", "cookie", "connection"];
            let fields = |lines: &[(usize, usize)]| -> Fields {
                let line = |(name, value): &(usize, usize)| (HeaderName::from_static(NAMES[*name]), HeaderValue::from(*value));
                lines.iter().map(line).collect()
            };
            // Many begin alike.
            let admitted = fields(&[&received[..kept.min(received.len())], &admitted].concat());
            let received = fields(&received);

            let changes = Changes::between(&received, &admitted).unwrap();

            for name in NAMES {
                let (had, has): (Vec<_>, Vec<_>) = (received.get_all(name).collect(), admitted.get_all(name).collect());
                let changed = name != "connection" && had != has;
                let set: Vec<_> = changes.set.iter().filter(|(other, _)| other.as_str() == name).collect();
                let removed = changes.remove.iter().filter(|other| other.as_str() == name).count();
                prop_assert_eq!((set.len(), removed), (usize::from(changed && !has.is_empty()), usize::from(changed && has.is_empty())));
                if let [(name, value)] = &*set {
                    prop_assert_eq!(&**value, &*joined(&admitted, *name).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_value_that_no_proxy_could_take_is_an_error() {
        assert!(Changes::between(&Fields::default(), &list(&[("x-user", b"Lod\xc5\xba")])).is_ok());
        for value in [&b"\xff"[..], b"a\tb"] {
            let admitted: Fields =
                [(HeaderName::from_static("x-user"), HeaderValue::from_bytes(value).unwrap())].into_iter().collect();
            assert!(matches!(Changes::between(&Fields::default(), &admitted), Err(Untellable::Value(_))), "{value:?}");
        }
        let passes = list(&[("x-odd", b"\xff")]);
        assert!(Changes::between(&passes, &passes).unwrap().set.is_empty(), "what does not change is not told");
    }
}

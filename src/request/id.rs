//! The id of one request.

use std::{cell::Cell, time::Duration};

use uuid::Uuid;

use crate::base::{
    fields::{Fields, Known, Value},
    fmt_fast,
};

/// The longest id that is kept from a trusted proxy.
const MAX_KEPT: usize = 128;

/// The id of one request, on its answer and on the request upstream: a UUID of version 7, or what a trusted proxy gave. Always visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Id);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    /// The text of a UUID.
    Made(UuidText),
    /// The text that somebody else gave.
    Given(Box<str>),
}

/// The text of a UUID. Aligned, since a text that begins anywhere is checked letter by letter each time it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(align(8))]
struct UuidText([u8; 36]);

impl RequestId {
    /// Returns a new id, made at this time since 1970: RFC 9562, section 5.7.
    pub fn generate(now: Duration) -> Self {
        let number = version_7(u64::try_from(now.as_millis()).unwrap_or_default(), random_128());
        let (digits, mut text) = (fmt_fast::hexadecimal(number), [b'-'; 36]);
        // A hyphen stands before the ninth digit, and before each four of the next twelve.
        text[..8].copy_from_slice(&digits[..8]);
        text[9..13].copy_from_slice(&digits[8..12]);
        text[14..18].copy_from_slice(&digits[12..16]);
        text[19..23].copy_from_slice(&digits[16..20]);
        text[24..].copy_from_slice(&digits[20..]);
        Self(Id::Made(UuidText(text)))
    }

    /// Returns the id that a proxy sent, if it can be kept. Only for requests of a trusted proxy.
    pub fn kept_from(headers: &Fields) -> Option<Self> {
        let mut values = headers.get_all(Known::XRequestId);
        let (value, None) = (values.next()?, values.next()) else { return None };
        // It is repeated in logs, headers and documents: nothing that any of these would have to escape.
        let plain =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'+' | b'/' | b'=' | b'|');
        let text = value.to_str().ok()?;
        (!text.is_empty() && text.len() <= MAX_KEPT && text.as_bytes().iter().all(plain)).then(|| Self(Id::Given(text.into())))
    }

    /// Returns the id that a record has.
    pub(crate) fn recorded(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        (!text.is_empty() && text.len() <= MAX_KEPT && plain).then(|| Self(Id::Given(text.into())))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Digits and hyphens.
            Id::Made(text) => std::str::from_utf8(&text.0).unwrap_or_default(),
            Id::Given(text) => text,
        }
    }

    /// Returns the id as the value of a field.
    pub fn value(&self) -> Value<'_> {
        Value::visible(match &self.0 {
            Id::Made(text) => &text.0,
            Id::Given(text) => text.as_bytes(),
        })
    }
}

const fn version_7(milliseconds: u64, random: u128) -> u128 {
    let fields = ((milliseconds as u128) << 80) | (random & 0xFFFF_FFFF_FFFF_FFFF_FFFF);
    fields & !(0xF << 76) & !(0b11 << 62) | 0x7 << 76 | 0b10 << 62
}

thread_local! {
    /// Seeded from the system once per thread: ids of requests and spans must be unique, but may be guessable.
    static STATE: Cell<u128> = Cell::new(Uuid::new_v4().as_u128() ^ (Uuid::new_v4().as_u128() << 61));
}

/// 128 bits for ids: no system call, no lock.
pub(super) fn random_128() -> u128 {
    (u128::from(random_64()) << 64) | u128::from(random_64())
}

/// 64 bits for ids: a 128-bit Lehmer generator, of which the upper half is taken.
pub(super) fn random_64() -> u64 {
    STATE.with(|state| {
        // An odd state stays odd, so that the generator never ends at zero.
        let next = (state.get() | 1).wrapping_mul(0xDA94_2042_E4DD_58B5);
        state.set(next);
        (next >> 64) as u64
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn generated_ids_are_uuids_of_version_7_and_their_time() {
        let id = RequestId::generate(Duration::from_millis(1_790_000_000_123));

        let uuid = Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(uuid.get_timestamp().unwrap().to_unix(), (1_790_000_000, 123_000_000));
    }

    #[test]
    fn ids_are_unique_over_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..5_000).map(|_| RequestId::generate(Duration::ZERO)).collect::<Vec<_>>()))
            .collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();

        let unique: HashSet<_> = ids.iter().map(RequestId::as_str).collect();

        assert_eq!(unique.len(), 20_000);
    }

    #[test]
    fn keeps_only_plain_ids() {
        for (values, kept) in [
            (&[][..], false),
            (&["0f8fad5b-d9cb-469f-a165-70867728950e"], true),
            (&["|a.b_c:d+e/f=1"], true),
            (&[""], false),
            (&["a", "a"], false),
            (&["a b"], false),
            (&["a\"b"], false),
            (&["<script>"], false),
            (&[&"a".repeat(128)], true),
            (&[&"a".repeat(129)], false),
        ] {
            let headers = Fields::of(&values.iter().map(|value| ("x-request-id", *value)).collect::<Vec<_>>());
            assert_eq!(RequestId::kept_from(&headers).is_some(), kept, "{values:?}");
        }
    }
}

//! Memory that requests reuse, per thread, for small short-lived values that are not worth an allocation each.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use http::HeaderMap;

use crate::fields::Fields;

/// The size of the chunk that small texts are cut from, in bytes.
const CHUNK: usize = 4 << 10;
/// The longest text that is cut from a chunk, in bytes.
const SMALL: usize = 512;

/// The number of header maps, and of lists of fields, that a thread keeps for reuse.
const MAPS: usize = 128;
/// The initial capacity of a header map or a list of fields: the fields of most heads.
const FIELDS: usize = 24;
/// The largest capacity that is kept.
const MOST_FIELDS: usize = 96;

/// The number of buffers that a thread keeps for reuse.
const BUFFERS: usize = 32;
/// The largest buffer that is kept, in bytes.
const BUFFER: usize = 16 << 10;

thread_local! {
    static CHUNK_AT_HAND: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    static SPARE_MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
    static SPARE_FIELDS: RefCell<Vec<Fields>> = const { RefCell::new(Vec::new()) };
    static SPARE_BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Copies a few bytes that live about as long as a request. They are cut from the thread's chunk, which is reused once everything
/// that was cut from it is gone.
// A request comes here several times, and each inlined copy would take room in the first-level cache.
#[inline(never)]
pub fn bytes(small: &[u8]) -> Bytes {
    if small.len() > SMALL {
        return Bytes::copy_from_slice(small);
    }
    CHUNK_AT_HAND.with_borrow_mut(|chunk| {
        if chunk.capacity() < small.len() {
            // Uses the same memory again, or has new of the same size.
            chunk.reserve(CHUNK);
        }
        chunk.extend_from_slice(small);
        chunk.split().freeze()
    })
}

/// Does the same as [`bytes()`] for a text.
pub fn text(small: &str) -> ByteString {
    // Whole texts are UTF-8: the check cannot fail.
    ByteString::try_from(bytes(small.as_bytes())).unwrap_or_default()
}

/// Does the same as [`bytes()`] for content that has to be made first.
pub fn made(make: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut room = buffer();
    make(&mut room);
    let made = bytes(&room);
    keep_buffer(room);
    made
}

/// Returns an empty header map with room for the fields of most heads.
pub fn headers() -> HeaderMap {
    SPARE_MAPS.with_borrow_mut(Vec::pop).unwrap_or_else(|| HeaderMap::with_capacity(FIELDS))
}

/// Keeps the memory of a header map that is no longer used.
pub fn keep_headers(mut map: HeaderMap) {
    if (FIELDS..=MOST_FIELDS).contains(&map.capacity()) {
        map.clear();
        SPARE_MAPS.with_borrow_mut(|spare| {
            if spare.len() < MAPS {
                spare.push(map);
            }
        });
    }
}

/// Returns an empty list of fields with room for those of most heads.
#[inline(never)]
pub fn fields() -> Fields {
    SPARE_FIELDS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Fields::with_capacity(FIELDS))
}

/// Keeps the memory of a list of fields that is no longer used.
#[inline(never)]
pub fn keep_fields(mut fields: Fields) {
    if (FIELDS..=MOST_FIELDS).contains(&fields.capacity()) {
        fields.clear();
        SPARE_FIELDS.with_borrow_mut(|spare| {
            if spare.len() < MAPS {
                spare.push(fields);
            }
        });
    }
}

/// Returns an empty buffer.
#[inline(never)]
pub fn buffer() -> Vec<u8> {
    SPARE_BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps the memory of a buffer that is no longer used.
#[inline(never)]
pub fn keep_buffer(mut buffer: Vec<u8>) {
    if (1..=BUFFER).contains(&buffer.capacity()) {
        buffer.clear();
        SPARE_BUFFERS.with_borrow_mut(|spare| {
            if spare.len() < BUFFERS {
                spare.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn small_texts_share_a_chunk_and_stay_what_they_are() {
        let texts: Vec<_> = (0..2_000).map(|number| (number, text(&format!("text {number}")))).collect();

        let chunks = texts.windows(2).filter(|pair| pair[0].1.as_ptr().wrapping_add(pair[0].1.len()) != pair[1].1.as_ptr());
        assert!(chunks.count() < 20);
        for (number, text) in texts {
            assert_eq!(text, format!("text {number}"));
        }
        assert_eq!(bytes(&[7; SMALL + 1]).len(), SMALL + 1);
    }

    #[test]
    fn a_header_map_comes_back_empty() {
        let mut map = headers();
        map.insert("x-user", HeaderValue::from_static("nia"));
        keep_headers(map);
        keep_headers(HeaderMap::new());

        for _ in 0..2 {
            let map = headers();
            assert!(map.is_empty() && map.capacity() >= FIELDS);
        }
    }

    #[test]
    fn large_memory_is_not_kept() {
        keep_headers(HeaderMap::with_capacity(1_000));
        keep_buffer(Vec::with_capacity(BUFFER + 1));

        assert!(headers().capacity() <= MOST_FIELDS);
        assert_eq!(buffer().capacity(), 0);
    }
}

//! Replies of any bytes are read or refused without a panic, and never more of them than there are bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(entrada_redis::replies_in(bytes) <= bytes.len() / 3);
});

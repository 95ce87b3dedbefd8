//! A token of any bytes is read or refused without a panic, and one that is called malformed is never shown as sound.

#![no_main]

use entrada::cli::token::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let decoded = decode(text, 1_790_000_000);
    assert!(!decoded.problems.is_empty() || decoded.header.is_some() && decoded.claims.is_some());
});

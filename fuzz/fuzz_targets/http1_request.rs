//! Bytes that our HTTP/1 codec takes for a request, hyper must take for the same one.
//!
//! `cargo +nightly fuzz run http1_request -- -max_total_time=60 -dict=fuzz/http1.dict`

#![no_main]

#[path = "../../tests/it/framing/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oracle::agrees_with_hyper(bytes);
});

//! Frames of a backend, in any sequence: every request on its connection ends, and an answer that looks whole has the length that
//! it announced.
//!
//! `cargo +nightly fuzz run http2_client -- -max_total_time=60 -dict=fuzz/http2.dict`

#![no_main]

#[path = "../../tests/it/http2_upstream/sequences.rs"]
mod sequences;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    runtime.block_on(sequences::survives(sequences::server_bytes(bytes)));
});

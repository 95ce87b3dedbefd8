//! Whatever frames a backend sends, every request on its connection comes to an end, and what looks whole is as long as it said.
//!
//! `cargo +nightly fuzz run http2_client -- -max_total_time=60 -dict=fuzz/http2.dict`

#![no_main]

#[path = "../../tests/it/http2_upstream/sequences.rs"]
mod sequences;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    runtime.block_on(sequences::survives(sequences::server_bytes(bytes)));
});

//! Key sets and discovery documents of any bytes are read or refused without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = entrada::entra::inspect_key_set(bytes);
    let _ = entrada::entra::inspect_metadata(bytes, "login.microsoftonline.com");
});

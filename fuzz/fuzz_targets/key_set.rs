//! A key set of any bytes is read or refused without a panic, and so is one key of it with any signature.

#![no_main]

use entrada::unstable::entra::{Algorithm, inspect_key_set, inspect_signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = inspect_key_set(bytes);
    for algorithm in Algorithm::ALL {
        // Nobody signed anything here.
        assert_ne!(inspect_signature(bytes, algorithm.as_str(), b"header.payload", &bytes[..bytes.len().min(512)]), Ok(true));
    }
});

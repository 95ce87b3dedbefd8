//! A payload of any bytes is read or refused without a panic, and what is read is one JSON object to every reader.

#![no_main]

use entrada::unstable::entra::token::inspect_payload;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let (entra, other) = inspect_payload(bytes);
    if !entra && !other {
        return;
    }
    let claims: Value = serde_json::from_slice(bytes).expect("what we read, others read");
    let claims = claims.as_object().expect("claims are an object");
    // A token without an end, or with one that is no whole number, is none.
    assert!(claims.get("exp").and_then(Value::as_u64).is_some());
    if entra {
        for judged in ["iss", "aud", "scp", "idtyp", "oid", "sub", "ver"] {
            assert!(claims.get(judged).is_none_or(Value::is_string), "{judged}");
        }
    }
});

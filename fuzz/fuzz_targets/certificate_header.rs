//! A header field of any bytes holds certificates or is refused, without a panic; what it holds is read or refused, too.

#![no_main]

use entrada::unstable::certificate::{ClientCertificate, LONGEST_CHAIN, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let Ok(chain) = header::read(value) else { return };
    assert!(chain.len() <= LONGEST_CHAIN);
    assert!(chain.iter().all(|certificate| !certificate.is_empty()));
    if let Ok(certificate) = ClientCertificate::read(&chain) {
        // What was read is written in one way, and read again as the same.
        let again = header::read(certificate.encoded().as_bytes()).expect("base64");
        assert_eq!(again[0], chain[0]);
    }
});

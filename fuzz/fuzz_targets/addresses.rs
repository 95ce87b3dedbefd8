//! An entry of a list of addresses is refused, or is a range whose ends are in order.

#![no_main]

use entrada::unstable::{address::AddressRange, connection::Authority};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse() {
        Ok(AddressRange::V4(from, to)) => assert!(from <= to),
        Ok(AddressRange::V6(from, to)) => assert!(from <= to),
        Err(_) => {}
    }
    if let Ok(authority) = Authority::read(text.as_bytes()) {
        assert_eq!(Authority::read(authority.to_string().as_bytes()), Ok(authority));
    }
});

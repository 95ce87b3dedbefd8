//! The caller found is the client's own address, or none, whatever the client writes before its proxy's entry.

#![no_main]

use std::sync::LazyLock;

use entrada::{
    Clock,
    unstable::{
        address::AddressSets,
        caller::Trust,
        base::fields::Fields,
        connection::proxy_protocol,
        settings::{Faults, Place},
    },
};
use http::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

static TRUSTS: LazyLock<[(Trust, HeaderName, &str); 2]> = LazyLock::new(|| {
    [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")].map(|(header, appended)| {
        let config = serde_json::json!({
            "trusted-proxies": ["10.1.0.1"], "forwarded-header": header,
        });
        let config = serde_json::from_value(config).expect("whom a listener trusts");
        let trust = Trust::build(&config, &Place::root(), &AddressSets::default(), &mut Faults::default()).expect("it is sound");
        (trust, HeaderName::from_static(header), appended)
    })
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proxy_protocol::Progress::Complete(header)) = proxy_protocol::read(bytes) {
        assert!(header.length <= bytes.len());
    }
    for (trust, name, appended) in &*TRUSTS {
        let Ok(value) = HeaderValue::from_bytes(&[bytes, b", ", appended.as_bytes()].concat()) else { return };
        let headers = Fields::from_iter([(name.clone(), value)]);
        if let Ok(caller) = trust.caller([10, 1, 0, 1].into(), &headers, &Clock::manual(0)) {
            assert_eq!(caller.address.to_string(), "192.0.2.7");
        }
    }
});

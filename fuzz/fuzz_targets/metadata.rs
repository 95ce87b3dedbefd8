//! A discovery document of any bytes is refused, or names keys and an issuer of the required host.

#![no_main]

use entrada::unstable::entra::inspect_metadata;
use libfuzzer_sys::fuzz_target;
use url::Url;

const HOST: &str = "login.microsoftonline.com";

fuzz_target!(|bytes: &[u8]| {
    let Ok((issuer, keys)) = inspect_metadata(bytes, HOST) else { return };
    assert_eq!((keys.scheme(), keys.host_str(), keys.port()), ("https", Some(HOST), None));
    let issuer = Url::parse(&issuer.replace("{tenantid}", "x")).expect("an issuer is an address");
    assert_eq!((issuer.scheme(), issuer.host_str(), issuer.port()), ("https", Some(HOST), None));
});

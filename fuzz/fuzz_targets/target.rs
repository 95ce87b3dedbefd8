//! A target of any bytes is refused or has one reading, which reads as itself.

#![no_main]

use entrada::unstable::request::Target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(target) = Target::read(bytes) else { return };
    let again = Target::read(target.to_string()).expect("what was read once is read again");
    assert_eq!((&again.path, &again.query), (&target.path, &target.query));
    assert!(again.ambiguities.minus(target.ambiguities).is_empty());
    for segment in target.path.split('/') {
        assert!(segment != "." && segment != "..");
    }
});

//! A config of any bytes is read or refused, and reported, without a panic.

#![no_main]

use entrada::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Only what needs no file system: a pattern could name all of it.
    if text.contains("include") || text.contains("file") {
        return;
    }
    match Document::from_text_with("fuzz.yaml", text, &|_| None) {
        Ok(document) => drop(document.warnings().to_string()),
        Err(report) => {
            drop(report.to_string());
            drop(report.to_json());
        }
    }
});

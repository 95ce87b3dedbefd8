//! `docs/limits.md`.

use serde_json::Value;

use super::{cell, hold_blocks, read, sources};

const PAGE: &str = "docs/limits.md";

/// Limits that no key changes: their declaration in the program, and the text of the page.
const FIXED: &[(&str, &str)] = &[
    ("const MAX_TARGET: usize = 8 << 10;", "| path and query | 8 KiB"),
    ("const MAX_FIELDS: usize = 100;", "| header fields of a request | 100 |"),
    ("const MAX_METHOD: usize = 32;", "| method | 32 bytes |"),
    ("const MAX_ESCAPE_DEPTH: usize = 3;", "| escapes of escapes in a path | 3 deep |"),
    ("const MAX_TRAILERS: usize = 8 << 10;", "| trailers of a request | 8 KiB"),
    ("const MAX_TRAILER_FIELDS: usize = 64;", "64 fields"),
    ("const DRAIN_BYTES: u64 = 1 << 20;", "1 MiB are read"),
    ("const LINGER: Duration = Duration::from_secs(2);", "2 s to read the answer"),
    ("const LINGER_AFTER_SHUTDOWN: Duration = Duration::from_secs(5);", "5 s to be answered"),
    ("const LEAST_RATE: u64 = 240;", "240 bytes a second"),
    ("const LONGEST_CHAIN: usize = 10;", "| certificates of a client's chain | 10 |"),
    ("const STREAMS: u32 = 100;", "| streams of a connection | 100 |"),
    ("const MAX_TOKEN_BYTES: usize = 32 << 10;", "| a token | 32 KiB |"),
    ("const MAX_HEADER_BYTES: usize = 4 << 10;", "| its header | 4 KiB"),
    ("const MAX_KEY_ID_BYTES: usize = 256;", "a key id 256 bytes"),
    ("const MAX_DEPTH: usize = 12;", "| nesting of its JSON | 12 deep |"),
    ("const DEFAULT_SKEW: Duration = Duration::from_secs(300);", "| clocks that differ | 5m, at most 10m |"),
    ("const MAX_SKEW: Duration = Duration::from_secs(600);", "| clocks that differ | 5m, at most 10m |"),
    ("const MAX_KEYS: usize = 1_000;", "| signing keys of an issuer | 1000"),
    ("const MAX_KEYS_OF_ONE_ID: usize = 4;", "4 of one id"),
    ("const REFRESH: Duration = Duration::from_secs(3_600);", "| time between fetches | 1 h"),
    ("const COOL_DOWN: Duration = Duration::from_secs(30);", "at most every 30 s"),
    ("const STALE: Duration = Duration::from_secs(24 * 3_600);", "| how long the last good keys serve | 24h |"),
    ("const MAX_DEPTH: usize = 8;", "| lists within lists, fragments included | 8 deep |"),
    ("const MAX_SEGMENTS: usize = 32;", "| segments of a route's path | 32 |"),
    ("const MAX_PERIOD: Duration = Duration::from_hours(24);", "| period of a rate | 1s to 24h |"),
    ("const MOST_ANSWERS: usize = 20_000;", "20000 answers kept"),
    ("const MOST_CALLS: usize = 32;", "32 calls at once"),
    ("const MOST_PARAMETERS: usize = 32;", "| a relayed token request | 64 KiB, 32 parameters |"),
    ("const DEFAULT_LIFETIME: u64 = 60;", "| a backend assertion's life | 60s, at most 10m |"),
    ("const LONGEST_LIFETIME: u64 = 600;", "| a backend assertion's life | 60s, at most 10m |"),
    ("const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);", "5 s to connect, 15 s in all"),
    ("const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);", "5 s to connect, 15 s in all"),
    ("const MOST_TENANTS: usize = 2_000;", "| tenants that one credential has tokens for | 2000 |"),
    ("const MOST_CALLERS: usize = 10_000;", "tokens for | 10000 |"),
    ("const HEAD: usize = 64 * 1024;", "| head of an answer | 64 KiB, 200 fields |"),
    ("const FIELDS: usize = 200;", "| head of an answer | 64 KiB, 200 fields |"),
    ("const MOST: usize = 32;", "| informational answers before the final one | 32, 64 KiB"),
    ("const TRAILERS: usize = 16 * 1024;", "| trailers of an answer | 16 KiB, 100 fields |"),
    ("const TRAILER_FIELDS: usize = 100;", "| trailers of an answer | 16 KiB, 100 fields |"),
    ("const IDLE_CONNECTIONS: usize = 512;", "| idle HTTP/1.1 connections of a thread to a server | 512 |"),
    ("const HTTP2_CONNECTIONS: usize = 64;", "| HTTP/2 connections of a thread to a server | 64, each with 32 streams |"),
    ("const STREAMS: usize = 32;", "| HTTP/2 connections of a thread to a server | 64, each with 32 streams |"),
    ("const NODES: usize = 200_000;", "200000 nodes"),
    ("const BUFFER_LIMIT: usize = 16 << 20;", "| audit records of a thread that no sink takes | 16 MiB"),
    ("const RECENT_RECORDS: usize = 1_000;", "| records that the console keeps | 1000, of 4 KiB on average |"),
    ("const FOLLOWERS: usize = 32;", "| those who follow decisions live | 32 |"),
    ("const MAX_KEPT: usize = 128;", "128 bytes; a longer one is replaced"),
];

#[test]
fn limits_that_are_fixed_are_the_programs() {
    let (page, sources) = (read(PAGE), sources());
    let mut wrong = Vec::new();
    for (declared, told) in FIXED {
        if !sources.iter().any(|(_, text)| text.contains(declared)) {
            wrong.push(format!(
                "no source says `{declared}` any more: mend `{told}` in {PAGE}, and the table in tests/it/reference/limits.rs"
            ));
        }
        if !page.contains(told) {
            wrong.push(format!("{PAGE} does not say `{told}`"));
        }
    }

    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn limits_of_listeners_are_the_programs() {
    let schema: Value = serde_json::to_value(entrada::schema()).unwrap();
    let mut table = "| key | limit |\n| --- | --- |\n".to_owned();
    for (key, limit) in schema["$defs"]["LimitsConfig"]["properties"].as_object().unwrap() {
        table.push_str(&format!("| `{key}` | {} |\n", cell(limit["description"].as_str().unwrap())));
    }

    hold_blocks(PAGE, &[("listeners[].limits".to_owned(), table)]);
}

//! The heap memory of a config, counted over the whole process: common parts of many routes exist once, and a reload leaks
//! nothing. The counts are of allocated bytes, not of the allocator's memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    alloc::System,
    fmt::Write,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use entrada::{Document, Server, ServerOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUTES: usize = 200;
const ADDRESSES: u32 = 10_000;
const RELOADS: usize = 10;
/// The bytes of one more address, wherever its list is used: two numbers, and its text in the config.
const BYTES_AN_ADDRESS: usize = 40;

#[test]
fn lists_that_routes_have_in_common_are_held_once_and_reloads_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let held = |addresses: u32| {
        let document = document(folder.path(), addresses);
        let mut server = Server::start(&document, ServerOptions { workers: 2, ..ServerOptions::default() })
            .unwrap_or_else(|error| panic!("{error}"));
        drop(document);
        let start = bytes();
        let mut after = Vec::new();
        for _ in 0..RELOADS {
            server.reload(&self::document(folder.path(), addresses)).unwrap();
            after.push(settled(after.first().copied().unwrap_or(start)));
        }
        drop(server);
        (start, after)
    };

    let (few, _) = held(1);
    let (many, after) = held(ADDRESSES);
    eprintln!("{few} bytes with one address, {many} with {ADDRESSES}; after each reload {after:?}");

    let more = many.saturating_sub(few);
    assert!(more < ADDRESSES as usize * BYTES_AN_ADDRESS, "{ADDRESSES} addresses on {ROUTES} routes hold {more} bytes more");
    for later in &after[1..] {
        assert!(*later <= after[0] + after[0] / 20, "reloads leave something behind: {after:?}");
    }
    assert!(after[0] <= many + many / 10, "a reload leaves something behind: {many}, then {after:?}");
}

/// Makes many routes, and a long list of addresses in every place for one.
fn document(folder: &Path, addresses: u32) -> Document {
    // No two of them touch, so that none are merged.
    let addresses: Vec<_> = (0..addresses).map(|index| Ipv4Addr::from(0x0A00_0000 + 2 * index).to_string()).collect();
    std::fs::write(folder.join("list.txt"), addresses.join("\n")).unwrap();
    let mut text = "listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [big] } ]\n\
        admin: { address: \"127.0.0.1:0\" }\naudit: { sinks: [ { file: { path: /dev/null } } ] }\n\
        address-sets: { big: { file: list.txt }, bigger: [big, 192.0.2.1], same: { file: list.txt } }\n\
        fragments: { walls: [ { ip-filter: { action: forbid, addresses: [bigger, 192.0.2.2] } } ] }\n\
        inbound:\n  - ip-filter: { action: forbid, addresses: [big] }\n  \
        - any-of: [ [ { ip-filter: { action: allow, addresses: [big, 192.0.2.3] } } ], [ { include-fragment: walls } ] ]\n  \
        - choose: [ { when: \"@(request.method == 'PUT')\", do: [ { include-fragment: walls } ] } ]\nroutes:\n"
        .to_owned();
    for route in 0..ROUTES {
        // Every route has a list of its own, too, that no other one has, and captures of its own.
        let own = Ipv4Addr::from(0xC612_0000 + u32::try_from(route).unwrap());
        let capture: String = route.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        writeln!(
            text,
            "  - {{ name: r{route}, match: {{ path: \"/r{route}/{{{capture}}}\" }}, anonymous: true, respond: {{ status: 200 }}, \
             inbound: [ {{ include-fragment: walls }}, {{ ip-filter: {{ action: forbid, addresses: [same, {own}] }} }} ] }}"
        )
        .unwrap();
    }
    let name = folder.join("entrada.yaml").display().to_string();
    Document::from_text(&name, &text).unwrap_or_else(|report| panic!("{report}"))
}

/// Waits until the previous config is gone: its last holders drop it on their own threads.
fn settled(expected: usize) -> usize {
    let begun = Instant::now();
    loop {
        let held = bytes();
        if held <= expected + expected / 100 || begun.elapsed() > Duration::from_secs(20) {
            return held;
        }
        std::thread::yield_now();
    }
}

fn bytes() -> usize {
    let stats = ALLOCATOR.stats();
    // What a reallocation adds or takes is counted apart.
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated)
}

//! Benchmarks of lookups: of an address in a set, and of a route in a table.

use std::{hint::black_box, net::IpAddr};

use divan::{AllocProfiler, Bencher};
use entrada::{
    Clock,
    unstable::{
        address::{AddressEntryConfig, AddressSet, AddressSets},
        request::Target,
        route::{MatchConfig, Matching, RouteTable},
        settings::{Faults, Place},
    },
};
use http::Method;

/// Also reports the memory of a set: the `max alloc` of the rows that build one.
#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Returns a generator whose numbers are the same in every run.
fn numbers(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 32
    })
}

fn prefixes(count: usize) -> Vec<AddressEntryConfig> {
    let prefix = |number: u64| {
        let address = u32::try_from(number & 0xFFFF_FF00).expect("32 bits");
        AddressEntryConfig::Text(format!("{}/24", std::net::Ipv4Addr::from(address)))
    };
    numbers(1).take(count).map(prefix).collect()
}

fn set(count: usize) -> std::sync::Arc<AddressSet> {
    AddressSet::build(&prefixes(count), &Place::root(), &AddressSets::default(), &mut Faults::default())
        .expect("prefixes are fine")
}

#[divan::bench(args = [10, 1_000, 100_000])]
fn address(bencher: Bencher<'_, '_>, count: usize) {
    let (set, clock) = (set(count), Clock::manual(0));
    let addresses: Vec<IpAddr> =
        numbers(2).take(4_096).map(|number| std::net::Ipv4Addr::from(u32::try_from(number).expect("32 bits")).into()).collect();
    let mut next = addresses.iter().cycle();
    bencher.bench_local(|| set.contains(*next.next().expect("a cycle never ends"), black_box(&clock)));
}

/// Measures reading, sorting and merging a list, as at load.
#[divan::bench(args = [1_000, 100_000], sample_count = 10)]
fn build_set(bencher: Bencher<'_, '_>, count: usize) {
    let entries = prefixes(count);
    bencher.bench_local(|| AddressSet::build(&entries, &Place::root(), &AddressSets::default(), &mut Faults::default()));
}

/// Measures Microsoft's published file with 70,000 prefixes, as at load.
#[divan::bench(sample_count = 10)]
fn build_service_tags(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let prefixes: Vec<_> =
        numbers(3).take(70_000).map(|number| format!("{}/24", std::net::Ipv4Addr::from((number & 0xFFFF_FF00) as u32))).collect();
    let file = serde_json::json!({ "changeNumber": 1, "values": [{ "name": "AzureCloud", "properties": { "addressPrefixes": prefixes } }] });
    std::fs::write(folder.path().join("tags.json"), file.to_string()).expect("the folder is ours");
    let config = serde_json::from_value(serde_json::json!({ "azure": { "service-tags": "tags.json", "tags": ["AzureCloud"] } }))
        .expect("a config");
    bencher.bench_local(|| AddressSets::build(&config, folder.path(), &Place::root(), 0, &mut Faults::default()));
}

/// Measures the memory of a built set: the `max alloc` of copying the merged ranges.
#[divan::bench(args = [1_000, 100_000], sample_count = 10)]
fn set_in_memory(bencher: Bencher<'_, '_>, count: usize) {
    let set = set(count);
    bencher.bench_local(|| set.as_ref().clone());
}

#[divan::bench(args = [1, 100, 5_000])]
fn route(bencher: Bencher<'_, '_>, count: usize) {
    find_route(bencher, count, false);
}

/// Measures the same for a case-insensitive upstream.
#[divan::bench(args = [1, 100, 5_000])]
fn route_without_case(bencher: Bencher<'_, '_>, count: usize) {
    find_route(bencher, count, true);
}

fn find_route(bencher: Bencher<'_, '_>, count: usize, folds: bool) {
    let routes: Vec<_> = (0..count)
        .map(|index| MatchConfig {
            hosts: vec![format!("api{}.contoso.example", index % 50)],
            path: Some(format!("/teams/{}/orders/{{order}}", index / 50)),
            exact_path: None,
            methods: vec!["GET".to_owned(), "POST".to_owned()],
        })
        .collect();
    let matching = routes.iter().map(|config| Matching {
        name: "",
        config,
        at: (Place::root(), "match"),
        folds,
        accepts: Default::default(),
    });
    let table = RouteTable::build(matching, &mut Faults::default());
    let last = count - 1;
    let host = format!("api{}.contoso.example", last % 50);
    let target = Target::read(format!("/teams/{}/orders/4711/lines", last / 50)).expect("a plain target");
    bencher.bench_local(|| table.find_for(black_box(&host), black_box(&target), &Method::GET).expect("the route is there"));
}

#[divan::bench(args = ["/orders/4711?expand=lines", "/teams/%41%42/orders/caf%C3%A9/lines/1", "/a%2Fb/%252Fc;d=e//f"])]
fn target(bencher: Bencher<'_, '_>, text: &str) {
    bencher.bench_local(|| Target::read(black_box(text)));
}

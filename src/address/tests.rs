use std::{collections::BTreeMap, fs, time::Duration};

use super::*;
use crate::settings::Severity;

const DAY: Duration = Duration::from_secs(86_400);

fn sets(yaml: &str) -> (AddressSets, Faults) {
    sets_in(yaml, std::path::Path::new("."), 0)
}

fn sets_in(yaml: &str, base: &std::path::Path, now: u64) -> (AddressSets, Faults) {
    let config: BTreeMap<String, AddressSetConfig> = crate::settings::testing::part(yaml);
    let mut faults = Faults::default();
    let sets = AddressSets::build(&config, base, &Place::root().key("address-sets"), now, &mut faults);
    (sets, faults)
}

fn told(faults: &Faults) -> Vec<String> {
    faults.iter().map(|fault| format!("{:?} {}: {}", fault.severity, fault.place, fault.message)).collect()
}

fn assert_clean(faults: &Faults) {
    assert!(faults.is_empty(), "{:?}", told(faults));
}

fn contains(set: &AddressSet, address: &str) -> bool {
    set.contains(address.parse().unwrap(), &Clock::manual(0))
}

#[test]
fn looks_up_addresses_of_both_families() {
    let (sets, faults) = sets("offices: [203.0.113.0/24, 198.51.100.10-198.51.100.40, '2001:db8::/32', '::ffff:192.0.2.7']");

    assert_clean(&faults);
    let set = &sets.by_name["offices"];
    for (address, expected) in [
        ("203.0.113.0", true),
        ("203.0.113.255", true),
        ("203.0.112.255", false),
        ("203.0.114.0", false),
        ("198.51.100.9", false),
        ("198.51.100.10", true),
        ("198.51.100.40", true),
        ("198.51.100.41", false),
        ("2001:db8::1", true),
        ("2001:db9::", false),
        ("192.0.2.7", true),
        ("::ffff:192.0.2.7", true),
        ("::ffff:203.0.113.9", true),
        ("::203.0.113.9", false),
        ("64:ff9b::203.0.113.9", false),
        ("0.0.0.0", false),
        ("255.255.255.255", false),
        ("::", false),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
    ] {
        assert_eq!(contains(set, address), expected, "{address}");
    }
}

#[test]
fn all_of_ipv6_is_none_of_ipv4() {
    let (sets, _) = sets("all: ['::/0']");

    assert!(contains(&sets.by_name["all"], "2001:db8::1"));
    assert!(!contains(&sets.by_name["all"], "192.0.2.1"));
    assert!(!contains(&sets.by_name["all"], "::ffff:192.0.2.1"));
}

#[test]
fn sets_hold_sets_in_any_order() {
    let (sets, faults) = sets("a: [b, 192.0.2.1]\nb: [c]\nc: [192.0.2.3]\nd: [a]");

    assert_clean(&faults);
    for (name, address, expected) in
        [("a", "192.0.2.3", true), ("d", "192.0.2.1", true), ("d", "192.0.2.3", true), ("c", "192.0.2.1", false)]
    {
        assert_eq!(contains(&sets.by_name[name], address), expected, "{name} {address}");
    }
}

#[test]
fn all_faults_are_told_with_their_places() {
    let (_, faults) = sets(
        "a: [b]\nb: [c]\nc: [a]\nself: [self]\nofficse: [192.0.2.1]\nx: [offices, 10.1.2.3/8, 192.0.2.9-192.0.2.1, nowhere]\n1st: [192.0.2.1]\ny: {}",
    );

    assert_eq!(
        told(&faults),
        [
            "Error address-sets.1st: `1st` cannot name a set",
            "Error address-sets.c[0]: the set holds itself: `a` → `b` → `c` → `a`",
            "Error address-sets.self[0]: the set holds itself: `self` → `self`",
            "Error address-sets.x[0]: there is no address set `offices`",
            "Error address-sets.x[1]: `10.1.2.3/8`: the address has host bits set beyond the prefix",
            "Error address-sets.x[2]: `192.0.2.9-192.0.2.1`: the range begins after its end",
            "Error address-sets.x[3]: there is no address set `nowhere`",
            "Error address-sets.y: the set is neither a list nor one file",
        ]
    );
    let cure = faults.iter().find(|fault| fault.message.contains("offices")).and_then(|fault| fault.cure.clone());
    assert_eq!(cure.as_deref(), Some("is `officse` meant?"));
}

#[test]
fn expired_entries_no_longer_count_and_are_reported() {
    let clock = Clock::manual(0);
    let yaml = "a: [{ address: 192.0.2.7, owner: sales, reason: trial, expires: 1970-01-03 }, 192.0.2.8]\nb: [{ address: a, expires: 1970-01-02 }]";
    let (sets, faults) = sets_in(yaml, std::path::Path::new("."), 0);
    assert_clean(&faults);
    let counts = |name: &str, address: &str| sets.by_name[name].contains(address.parse().unwrap(), &clock);

    assert_eq!(sets.next_expiry(0), Some(2 * 86_400));
    for (days, in_a, lasting_in_b) in [(0, true, true), (1, true, true), (2, true, false), (3, false, false)] {
        let in_b = lasting_in_b;
        assert_eq!(counts("a", "192.0.2.7"), in_a, "day {days}");
        assert!(counts("a", "192.0.2.8"), "day {days}");
        assert_eq!(counts("b", "192.0.2.7"), in_b, "day {days}");
        assert_eq!(counts("b", "192.0.2.8"), in_b, "day {days}");
        clock.advance(DAY);
    }

    let (_, faults) = sets_in(yaml, std::path::Path::new("."), 3 * 86_400);
    assert_eq!(
        told(&faults),
        [
            "Warning address-sets.a[0].expires: `192.0.2.7` (of sales) has expired on 1970-01-03 and no longer counts",
            "Warning address-sets.b[0].expires: `a` has expired on 1970-01-02 and no longer counts",
        ]
    );
}

#[test]
fn files_hold_one_entry_a_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("blocklist.txt"),
        "\u{feff}# listed by the team\r\n192.0.2.7  # a comment\r\n\r\n198.51.100.0/24\n2001:db8::1-2001:db8::9\n203.0.113.1 - 203.0.113.3",
    )
    .unwrap();

    let (sets, faults) = sets_in("blocklist: { file: blocklist.txt }", folder.path(), 0);

    assert_clean(&faults);
    assert_eq!(sets.files.iter().collect::<Vec<_>>(), [&folder.path().join("blocklist.txt")]);
    for (address, expected) in
        [("192.0.2.7", true), ("198.51.100.200", true), ("2001:db8::5", true), ("203.0.113.2", true), ("203.0.113.4", false)]
    {
        assert_eq!(contains(&sets.by_name["blocklist"], address), expected, "{address}");
    }
}

#[test]
fn bad_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.txt"), "192.0.2.7\noffices\n10.0.0.1/8\n").unwrap();
    fs::write(folder.path().join("empty.txt"), "# nothing\n").unwrap();
    fs::write(folder.path().join("binary.txt"), [0xFF, 0xFE]).unwrap();
    fs::write(folder.path().join("many.txt"), "x\n".repeat(50)).unwrap();

    let yaml = "bad: { file: bad.txt }\nbinary: { file: binary.txt }\nempty: { file: empty.txt }\ngone: { file: gone.txt }\nmany: { file: many.txt }";
    let (_, faults) = sets_in(yaml, folder.path(), 0);

    let told = told(&faults);
    assert_eq!(told[0], "Error address-sets.bad.file: line 2: `offices`: `offices` is not an IP address");
    assert_eq!(told[1], "Error address-sets.bad.file: line 3: `10.0.0.1/8`: the address has host bits set beyond the prefix");
    assert!(told[2].starts_with("Error address-sets.binary.file: ") && told[2].ends_with("is not UTF-8 text"), "{}", told[2]);
    assert_eq!(told[3], "Warning address-sets.empty.file: the file holds no address");
    assert!(told[4].starts_with("Error address-sets.gone.file: "), "{}", told[4]);
    assert_eq!(told.len(), 5 + 20 + 1);
    assert!(told[25].contains("30 more lines"), "{}", told[25]);
}

#[test]
fn service_tags_are_taken_by_name_with_their_change_number() {
    let folder = tempfile::tempdir().unwrap();
    let published = serde_json::json!({
        "changeNumber": 331, "cloud": "Public",
        "values": [
            { "name": "AzureFrontDoor.Backend", "id": "AzureFrontDoor.Backend", "properties": {
                "changeNumber": 7, "region": "", "platform": "Azure", "systemService": "AzureFrontDoor",
                "addressPrefixes": ["192.0.2.0/29", "2001:db8:1::/48"] } },
            { "name": "AzureCloud", "id": "AzureCloud", "properties": { "addressPrefixes": ["198.51.100.0/24"] } },
        ],
    });
    fs::write(folder.path().join("tags.json"), published.to_string()).unwrap();
    fs::write(folder.path().join("other.json"), "{}").unwrap();

    let (sets, faults) = sets_in("front-doors: { service-tags: tags.json, tags: [AzureFrontDoor.Backend] }", folder.path(), 0);
    assert_clean(&faults);
    let set = &sets.by_name["front-doors"];
    assert_eq!(set.change_number(), Some(331));
    for (address, expected) in [("192.0.2.7", true), ("192.0.2.8", false), ("2001:db8:1::9", true), ("198.51.100.1", false)] {
        assert_eq!(contains(set, address), expected, "{address}");
    }

    let yaml = "a: { service-tags: tags.json, tags: [AzureFrontDoor.Frontend] }\nb: { service-tags: tags.json }\nc: { service-tags: other.json, tags: [x] }\nd: { file: tags.json, service-tags: tags.json }";
    let (_, faults) = sets_in(yaml, folder.path(), 0);
    let told = told(&faults);
    assert_eq!(told[0], "Error address-sets.a.tags[0]: the file has no tag `AzureFrontDoor.Frontend`");
    assert_eq!(told[1], "Error address-sets.b: no tag is named");
    assert!(told[2].starts_with("Error address-sets.c.service-tags: the file is not Microsoft's list"), "{}", told[2]);
    assert_eq!(told[3], "Error address-sets.d: the set is neither a list nor one file");
}

#[test]
fn overlaps_and_absurd_entries_are_findings() {
    let (_, faults) = sets(
        "a: [192.0.2.0/24, 192.0.2.7, 198.51.100.1-198.51.100.9, 198.51.100.5-198.51.100.20, 203.0.113.1, 203.0.113.1]\nb: [0.0.0.0/0]\nc: ['::/0']\nd: [8.0.0.0/7]\ne: []",
    );

    assert_eq!(
        told(&faults),
        [
            "Warning address-sets.a[1]: `192.0.2.7` is already in `192.0.2.0/24`",
            "Warning address-sets.a[3]: `198.51.100.5-198.51.100.20` overlaps `198.51.100.1-198.51.100.9`",
            "Warning address-sets.a[5]: `203.0.113.1` is already in `203.0.113.1`",
            "Warning address-sets.b[0]: `0.0.0.0/0` is every address there is",
            "Warning address-sets.c[0]: `::/0` is every address there is",
            "Warning address-sets.d[0]: `8.0.0.0/7` is wider than any one network",
            "Warning address-sets.e: the set is empty",
        ]
    );
}

#[test]
fn what_a_named_set_holds_already_is_a_finding() {
    let yaml = "offices: [192.0.2.0/24, '2001:db8::/32']\nparis: [192.0.2.64/26]\nelsewhere: [198.51.100.0/24]\n\
                a: [offices, 192.0.2.7, 192.0.2.250-192.0.3.1, '2001:db8::7', elsewhere]\nb: [paris, offices]\nc: [offices, offices]\n\
                d: [{ address: offices, expires: 2099-01-01 }, 192.0.2.7]";
    let (_, faults) = sets(yaml);

    assert_eq!(
        told(&faults),
        [
            "Warning address-sets.a[1]: `192.0.2.7` is already in `offices`",
            "Warning address-sets.a[3]: `2001:db8::7` is already in `offices`",
            "Warning address-sets.b[0]: `paris` is already in `offices`",
            "Warning address-sets.c[1]: `offices` is already in `offices`",
        ]
    );
}

#[test]
fn entries_of_a_policys_own_list_expire_too() {
    let sets = AddressSets { now: 3 * 86_400, ..AddressSets::default() };
    let entries = [crate::settings::testing::part("{ address: 192.0.2.7, owner: sales, expires: 1970-01-03 }")];
    let mut faults = Faults::default();

    AddressSet::build(&entries, &Place::root(), &sets, &mut faults).unwrap();

    assert_eq!(told(&faults), ["Warning [0].expires: `192.0.2.7` (of sales) has expired on 1970-01-03 and no longer counts"]);
}

#[test]
fn the_status_page_tells_of_numbers_and_days() {
    let yaml = "guests: [{ address: 192.0.2.7, owner: events, reason: fair, expires: 1970-01-03 }, { address: 192.0.2.9, expires: 1970-01-05 }, 192.0.2.8]";
    let (sets, _) = sets(yaml);

    assert_eq!(
        serde_json::to_value(sets.status(3 * 86_400)).unwrap(),
        serde_json::json!([{
            "name": "guests", "ranges": 3,
            "expired": [{ "address": "192.0.2.7", "owner": "events", "reason": "fair", "expires": "1970-01-03" }],
            "expiring": [{ "address": "192.0.2.9", "expires": "1970-01-05" }],
        }])
    );
}

#[test]
fn many_overlaps_are_summed_up() {
    let entries: Vec<_> = (0..100).map(|_| "192.0.2.1").collect();

    let (_, faults) = sets(&format!("a: [{}]", entries.join(", ")));

    assert_eq!(faults.iter().count(), 6);
    assert!(faults.iter().all(|fault| fault.severity == Severity::Warning));
    assert!(told(&faults)[5].contains("94 more entries"));
}

#[test]
fn an_inline_list_names_sets() {
    let (sets, _) = sets("offices: [192.0.2.0/24]");
    let entries = ["offices", "203.0.113.7"].map(|text| AddressEntryConfig::Text(text.into()));
    let mut faults = Faults::default();

    let set = AddressSet::build(&entries, &Place::root(), &sets, &mut faults).unwrap();

    assert_clean(&faults);
    assert!(contains(&set, "192.0.2.9") && contains(&set, "203.0.113.7") && !contains(&set, "203.0.113.8"));
    let unknown = [AddressEntryConfig::Text("ofices".into())];
    assert!(AddressSet::build(&unknown, &Place::root(), &sets, &mut faults).is_none());
    assert_eq!(told(&faults), ["Error [0]: there is no address set `ofices`"]);
}

#[test]
fn a_whole_family_is_noticed_however_it_is_put_together() {
    for (yaml, expected) in [
        ("a: [0.0.0.0/0]", true),
        ("a: ['::/0']", true),
        ("a: [0.0.0.0/1, 128.0.0.0/1]", true),
        ("a: [0.0.0.0-127.255.255.255, { address: 128.0.0.0/1, expires: 2099-01-01 }]", true),
        ("a: ['::ffff:0:0/96']", true),
        ("a: [0.0.0.0/1]", false),
        ("a: [10.0.0.0/8]", false),
    ] {
        assert_eq!(sets(yaml).0.by_name["a"].holds_a_whole_family(), expected, "{yaml}");
    }
}

/// Makes a set of this many single addresses, no two of them adjacent.
fn many(count: u32) -> String {
    let addresses: Vec<_> = (0..count).map(|index| std::net::Ipv4Addr::from(0x0A00_0000 + 2 * index).to_string()).collect();
    format!("[{}]", addresses.join(", "))
}

/// Returns the number of pieces that both sets share.
fn shares(set: &AddressSet, of: &AddressSet) -> bool {
    set.pieces().any(|(_, piece)| Arc::ptr_eq(piece, &of.own))
}

fn list(entries: &[&str], sets: &AddressSets) -> Arc<AddressSet> {
    let entries: Vec<_> = entries.iter().map(|text| AddressEntryConfig::Text((*text).to_owned())).collect();
    AddressSet::build(&entries, &Place::root(), sets, &mut Faults::default()).unwrap()
}

#[test]
fn large_sets_are_shared_and_small_ones_copied() {
    let yaml = format!("large: {}\nsmall: [192.0.2.1]\nboth: [large, small, 198.51.100.1]\nall: [both, large]", many(1_000));
    let (sets, _) = sets(&yaml);
    let (large, small) = (&sets.by_name["large"], &sets.by_name["small"]);
    let inline = list(&["all", "203.0.113.1"], &sets);

    for set in [&sets.by_name["both"], &sets.by_name["all"], &inline] {
        assert!(shares(set, large) && !shares(set, small), "{set:?}");
        for (address, expected) in [("10.0.0.2", true), ("10.0.0.1", false), ("192.0.2.1", true), ("198.51.100.1", true)] {
            assert_eq!(contains(set, address), expected, "{address}");
        }
    }
    assert!(contains(&inline, "203.0.113.1") && !contains(&sets.by_name["all"], "203.0.113.1"));
    // However many ways lead to a piece, it is looked through once.
    assert_eq!(sets.by_name["all"].ranges(), 1_002);
}

#[test]
fn lists_of_the_same_entries_are_one_set_whose_faults_are_told_at_each_place() {
    let (sets, _) = sets(&format!("large: {}", many(100)));
    let entries = ["large", "10.0.0.2", "192.0.2.1"].map(|text| AddressEntryConfig::Text(text.into()));
    let mut faults = Faults::default();

    let one = AddressSet::build(&entries, &Place::root().key("a"), &sets, &mut faults).unwrap();
    let other = AddressSet::build(&entries.clone(), &Place::root().key("b").index(0), &sets, &mut faults).unwrap();

    assert!(Arc::ptr_eq(&one, &other));
    let message = "`10.0.0.2` is already in `large`";
    assert_eq!(told(&faults), [format!("Warning a[1]: {message}"), format!("Warning b[0][1]: {message}")]);
    let wrong = ["10.1.2.3/8"].map(|text| AddressEntryConfig::Text(text.into()));
    for place in ["c", "d"] {
        assert!(AddressSet::build(&wrong, &Place::root().key(place), &sets, &mut faults).is_none());
    }
    assert_eq!(faults.errors(), 2);
    assert!(!Arc::ptr_eq(&list(&["192.0.2.1"], &sets), &list(&["192.0.2.2"], &sets)));
}

#[test]
fn a_shared_set_ends_with_the_entry_that_names_it() {
    let yaml = format!(
        "large: {}\nguests: [{{ address: large, expires: 1970-01-02 }}, 192.0.2.1]\nlater: [guests, {{ address: large, expires: 1970-01-03 }}]\nalways: [guests, large]",
        many(100)
    );
    let (sets, clock) = (sets(&yaml).0, Clock::manual(0));
    let holds = |name: &str| sets.by_name[name].contains("10.0.0.2".parse().unwrap(), &clock);

    assert_eq!(sets.by_name["guests"].next_expiry(0), Some(2 * 86_400));
    for (day, guests, later) in [(0, true, true), (1, true, true), (2, false, true), (3, false, false)] {
        assert_eq!((holds("guests"), holds("later"), holds("always")), (guests, later, true), "day {day}");
        clock.advance(DAY);
    }
}

#[test]
fn a_set_of_very_many_large_sets_is_merged() {
    let names: Vec<_> = (0..40).map(|index| format!("s{index}")).collect();
    let texts: Vec<_> = (0..40_u32)
        .map(|set| {
            let addresses: Vec<_> = (0..100).map(|index| std::net::Ipv4Addr::from((set << 16) + 2 * index).to_string()).collect();
            format!("s{set}: [{}]", addresses.join(", "))
        })
        .collect();
    let (sets, _) = sets(&format!("{}\nall: [{}]", texts.join("\n"), names.join(", ")));

    let all = &sets.by_name["all"];
    assert_eq!((all.pieces().count(), all.ranges()), (1, 4_000));
    assert!(contains(all, "0.39.0.198") && !contains(all, "0.39.0.199"));
}

#[test]
fn a_whole_family_is_noticed_across_shared_sets() {
    let halves = |start: u64| {
        let spans: Vec<_> = (0..100_u64)
            .map(|part| {
                let (from, to) = (start + (part << 31) / 100, start + ((part + 1) << 31) / 100 - 1);
                let address = |number: u64| std::net::Ipv4Addr::from(u32::try_from(number).unwrap());
                // Each part meets the next one but for one address, which the other list has.
                format!("{}-{}", address(from), address(to - 1))
            })
            .collect();
        let ends: Vec<_> = (0..100_u64)
            .map(|part| std::net::Ipv4Addr::from(u32::try_from(start + ((part + 1) << 31) / 100 - 1).unwrap()).to_string())
            .collect();
        (spans.join(", "), ends.join(", "))
    };
    let ((low, low_ends), (high, high_ends)) = (halves(0), halves(1 << 31));
    let (sets, _) =
        sets(&format!("a: [{low}]\nb: [{low_ends}]\nc: [{high}]\nd: [{high_ends}]\nall: [a, b, c, d]\nmost: [a, b, c]"));

    assert!(sets.by_name["all"].holds_a_whole_family());
    assert!(!sets.by_name["most"].holds_a_whole_family());
}

#[test]
fn a_file_that_several_sets_name_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list.txt"), "192.0.2.7\n192.0.2.7\n").unwrap();

    let (sets, faults) = sets_in("a: { file: list.txt }\nb: { file: list.txt }", folder.path(), 0);

    assert!(Arc::ptr_eq(&sets.by_name["a"], &sets.by_name["b"]));
    let message = "line 2: `192.0.2.7` is already in line 1: `192.0.2.7`";
    assert_eq!(
        told(&faults),
        [format!("Warning address-sets.a.file: {message}"), format!("Warning address-sets.b.file: {message}")]
    );
}

#[test]
fn sets_that_hold_front_doors_tag_are_known_as_such() {
    let (sets, _) = sets(
        "{ fronts: { service-tags: /nowhere.json, tags: [AzureFrontDoor.Backend] }, all: [own, outer], outer: [fronts], own: [192.0.2.1] }",
    );

    for (name, expected) in [("fronts", true), ("outer", true), ("all", true), ("own", false), ("192.0.2.1", false)] {
        let entries: Vec<AddressEntryConfig> = crate::settings::testing::part(&format!("[192.0.2.9, {name}]"));
        assert_eq!(sets.front_door(&entries), expected.then_some(name), "{name}");
    }
}

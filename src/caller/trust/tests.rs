use proptest::prelude::*;

use super::*;
use crate::address::AddressEntryConfig;

/// The proxies that the tests trust.
const PROXIES: [&str; 2] = ["10.1.0.1", "2001:db8:f::1"];
const CLIENT: &str = "192.0.2.7";

fn trust(proxies: &[&str], header: ForwardedHeader) -> Trust {
    let entries: Vec<_> = proxies.iter().map(|text| AddressEntryConfig::Text((*text).into())).collect();
    let proxies = AddressSet::build(&entries, &Place::root(), &BTreeMap::new(), &mut Faults::default()).unwrap();
    Trust { proxies, header }
}

fn fields(name: &HeaderName, lines: &[&str]) -> HeaderMap {
    lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect()
}

fn caller(trust: &Trust, peer: &str, headers: &HeaderMap) -> Result<Caller, Reason> {
    trust.caller(peer.parse().unwrap(), headers, &Clock::manual(0)).map_err(|refusal| refusal.reason)
}

fn address(trust: &Trust, peer: &str, headers: &HeaderMap) -> Result<String, Reason> {
    caller(trust, peer, headers).map(|caller| caller.address.to_string())
}

const UNPARSABLE: Result<&str, Reason> = Err(Reason::CallerAddressUnparsable);

#[test]
fn finds_the_right_most_hop_that_is_not_trusted() {
    let trust = trust(&["10.1.0.0/28", "2001:db8:f::/48"], ForwardedHeader::XForwardedFor);
    for (peer, lines, expected) in [
        ("192.0.2.7", &[][..], Ok("192.0.2.7")),
        ("192.0.2.7", &["198.51.100.1"], Ok("192.0.2.7")),
        ("::ffff:192.0.2.7", &[], Ok("192.0.2.7")),
        ("10.1.0.1", &[], Ok("10.1.0.1")),
        ("10.1.0.1", &["192.0.2.7"], Ok("192.0.2.7")),
        ("::ffff:10.1.0.1", &["192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["198.51.100.1, 192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["198.51.100.1", "192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["198.51.100.1, 192.0.2.7", "10.1.0.2"], Ok("192.0.2.7")),
        ("10.1.0.1", &["192.0.2.7,10.1.0.2,2001:db8:f::9"], Ok("192.0.2.7")),
        ("10.1.0.1", &["192.0.2.7:4711, [2001:db8:f::9]:443"], Ok("192.0.2.7")),
        ("10.1.0.1", &["192.0.2.7, ::ffff:10.1.0.2"], Ok("192.0.2.7")),
        ("10.1.0.1", &["10.1.0.3, 10.1.0.2"], Ok("10.1.0.3")),
        ("10.1.0.1", &["garbage, 192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["unknown, 192.0.2.7, 10.1.0.2"], Ok("192.0.2.7")),
        ("10.1.0.1", &["192.0.2.7, unknown"], UNPARSABLE),
        ("10.1.0.1", &["192.0.2.7, _hidden, 10.1.0.2"], UNPARSABLE),
        ("10.1.0.1", &["192.0.2.7, garbage"], UNPARSABLE),
        ("10.1.0.1", &["192.0.2.7,"], UNPARSABLE),
        ("10.1.0.1", &["192.0.2.7", ""], UNPARSABLE),
        ("10.1.0.1", &[""], UNPARSABLE),
        ("10.1.0.1", &["192.0.2.07"], UNPARSABLE),
        ("10.1.0.1", &["fe80::1%eth0"], UNPARSABLE),
        ("10.1.0.1", &["for=192.0.2.7"], UNPARSABLE),
    ] {
        let found = address(&trust, peer, &fields(&X_FORWARDED_FOR, lines));
        assert_eq!(found.as_deref(), expected.as_ref().map(|text| *text), "{peer} {lines:?}");
    }
}

#[test]
fn reads_forwarded_as_the_rfc_says() {
    let trust = trust(&["10.1.0.0/28", "2001:db8:f::/48"], ForwardedHeader::Forwarded);
    for (peer, lines, expected) in [
        ("192.0.2.7", &["for=198.51.100.1"][..], Ok("192.0.2.7")),
        ("10.1.0.1", &[], Ok("10.1.0.1")),
        ("10.1.0.1", &["for=192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["for=198.51.100.1, for=192.0.2.7;proto=https"], Ok("192.0.2.7")),
        ("10.1.0.1", &["for=198.51.100.1", "for=\"192.0.2.7:4711\"", "For=\"[2001:db8:f::2]\";by=_a"], Ok("192.0.2.7")),
        ("10.1.0.1", &["for=10.1.0.3, for=10.1.0.2"], Ok("10.1.0.3")),
        ("10.1.0.1", &["for=unknown, for=192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["by=10.1.0.1, for=192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["for=a;for=b, for=192.0.2.7"], Ok("192.0.2.7")),
        ("10.1.0.1", &["for=192.0.2.7, proto=https"], UNPARSABLE),
        ("10.1.0.1", &["for=192.0.2.7, for=unknown"], UNPARSABLE),
        ("10.1.0.1", &["for=192.0.2.7, for=_hidden"], UNPARSABLE),
        ("10.1.0.1", &["for=192.0.2.7;for=192.0.2.8"], UNPARSABLE),
        ("10.1.0.1", &["for=192.0.2.7,"], UNPARSABLE),
        ("10.1.0.1", &["for=2001:db8::1"], UNPARSABLE),
        ("10.1.0.1", &["for=\"192.0.2.7"], UNPARSABLE),
        ("10.1.0.1", &["for=\", for=192.0.2.7"], UNPARSABLE),
        ("10.1.0.1", &["192.0.2.7"], UNPARSABLE),
        ("10.1.0.1", &[""], UNPARSABLE),
    ] {
        let found = address(&trust, peer, &fields(&header::FORWARDED, lines));
        assert_eq!(found.as_deref(), expected.as_ref().map(|text| *text), "{peer} {lines:?}");
    }
}

#[test]
fn only_the_configured_header_is_read() {
    let mut headers = fields(&X_FORWARDED_FOR, &["192.0.2.1"]);
    headers.extend(fields(&header::FORWARDED, &["for=192.0.2.2"]));
    headers.extend(fields(&HeaderName::from_static("x-real-ip"), &["192.0.2.3"]));

    for (header, expected, source) in [
        (ForwardedHeader::XForwardedFor, "192.0.2.1", AddressSource::XForwardedFor),
        (ForwardedHeader::Forwarded, "192.0.2.2", AddressSource::Forwarded),
    ] {
        let caller = caller(&trust(&PROXIES, header), PROXIES[0], &headers).unwrap();
        assert_eq!((caller.address.to_string().as_str(), caller.source), (expected, source));
    }
}

#[test]
fn scheme_and_host_are_believed_from_trusted_peers_alone() {
    let trust = trust(&PROXIES, ForwardedHeader::XForwardedFor);
    for (peer, proto, host, expected) in [
        (CLIENT, "https", "a.example", (None, None)),
        (PROXIES[0], "https", "A.example", (Some(Scheme::Https), Some("a.example"))),
        (PROXIES[0], "HTTP", "a.example:8443", (Some(Scheme::Http), Some("a.example:8443"))),
        (PROXIES[0], "https, http", "evil.example, a.example", (Some(Scheme::Http), Some("a.example"))),
        (PROXIES[0], "ftp", "a b", (None, None)),
        (PROXIES[0], "", "user@a.example", (None, None)),
    ] {
        let mut headers = fields(&X_FORWARDED_PROTO, &[proto]);
        headers.extend(fields(&X_FORWARDED_HOST, &[host]));
        let caller = caller(&trust, peer, &headers).unwrap();
        let host_said = caller.host.as_ref().map(|host| host.to_str().unwrap());
        assert_eq!((caller.scheme, host_said), expected, "{peer} {proto} {host}");
        assert_eq!(caller.believed(), peer == PROXIES[0], "{peer}");
    }
}

#[test]
fn forwarded_gives_scheme_and_host_of_the_callers_own_hop() {
    let trust = trust(&PROXIES, ForwardedHeader::Forwarded);
    let line = "for=192.0.2.1;proto=http;host=evil.example, for=192.0.2.7;proto=https;host=a.example, for=10.1.0.1;proto=http;host=inner";
    let mut headers = fields(&header::FORWARDED, &[line]);
    headers.extend(fields(&X_FORWARDED_PROTO, &["http"]));

    let caller = caller(&trust, PROXIES[1], &headers).unwrap();

    assert_eq!(caller.address.to_string(), CLIENT);
    assert_eq!((caller.scheme, caller.host.unwrap().to_str().unwrap()), (Some(Scheme::Https), "a.example"));
}

#[test]
fn trusting_everybody_is_an_error() {
    for (proxies, fine) in [
        ("[]", true),
        ("[10.1.0.0/28]", true),
        ("[0.0.0.0/0]", false),
        ("['::/0']", false),
        ("['::ffff:0:0/96']", false),
        ("[0.0.0.0/1, 128.0.0.0-255.255.255.255]", false),
        ("[nowhere]", false),
        ("[10.1.0.1/28]", false),
    ] {
        let yaml = format!("name: public\naddress: 127.0.0.1:0\ntrusted-proxies: {proxies}");
        let listener: ListenerConfig = crate::config::part(&yaml);
        let mut faults = Faults::default();

        let trust = Trust::build(&listener, &Place::root().key("listeners").index(0), &BTreeMap::new(), &mut faults);

        assert_eq!(trust.is_some(), fine, "{proxies}");
        assert_eq!(faults.any_error(), !fine, "{proxies}");
        let place = |fault: &crate::config::Fault| fault.place.to_string().starts_with("listeners[0].trusted-proxies");
        assert!(faults.iter().all(place), "{proxies}");
    }
}

#[test]
fn nobody_is_trusted_by_default() {
    let headers = fields(&X_FORWARDED_FOR, &["198.51.100.1"]);

    for peer in ["127.0.0.1", "10.0.0.1", "192.0.2.7", "::1", "169.254.1.1"] {
        let caller = caller(&Trust::default(), peer, &headers).unwrap();
        assert_eq!(caller, Caller::peer(peer.parse().unwrap()));
    }
}

/// Every list of up to `length` of the pieces.
fn lists<'p>(pieces: &[&'p str], length: usize) -> Vec<Vec<&'p str>> {
    let mut lists = vec![vec![]];
    let mut longest = lists.clone();
    for _ in 0..length {
        longest = longest.iter().flat_map(|list| pieces.iter().map(|piece| [list.as_slice(), &[*piece]].concat())).collect();
        lists.extend(longest.clone());
    }
    lists
}

/// Every way to spread a list over header lines.
fn spreads(entries: &[String]) -> Vec<Vec<String>> {
    let gaps = entries.len().saturating_sub(1);
    (0..1_u32 << gaps)
        .map(|cuts| {
            let mut lines: Vec<String> = Vec::new();
            for (index, entry) in entries.iter().enumerate() {
                match lines.last_mut() {
                    Some(line) if cuts >> (index - 1) & 1 == 0 => *line = format!("{line}, {entry}"),
                    _ => lines.push(entry.clone()),
                }
            }
            lines
        })
        .collect()
}

/// What a chain of proxies makes of a request: each appends the address that it was called from.
fn chain<'c>(forged: &[&'c str], proxies: &[&'c str]) -> (Vec<&'c str>, &'c str) {
    let hops = [&[CLIENT], proxies].concat();
    let (peer, appended) = hops.split_last().unwrap();
    ([forged, appended].concat(), peer)
}

#[test]
fn no_forged_prefix_chooses_the_address_behind_any_chain() {
    let forged = ["10.1.0.1", "2001:db8:f::1", "198.51.100.1", "192.0.2.7", "unknown", "", "garbage"];
    let trust = trust(&PROXIES, ForwardedHeader::XForwardedFor);
    let mut cases = 0;
    for proxies in lists(&PROXIES, 2) {
        for forged in lists(&forged, 3) {
            let (entries, peer) = chain(&forged, &proxies);
            let entries: Vec<_> = entries.into_iter().map(str::to_owned).collect();
            for lines in spreads(&entries) {
                let lines: Vec<_> = lines.iter().map(String::as_str).collect();
                let found = address(&trust, peer, &fields(&X_FORWARDED_FOR, &lines));
                assert_eq!(found.as_deref(), Ok(CLIENT), "{lines:?} from {peer}");
                cases += 1;
            }
        }
    }
    assert!(cases > 10_000, "{cases}");
}

#[test]
fn no_forged_prefix_chooses_the_address_in_forwarded_either() {
    let forged = [
        "for=10.1.0.1",
        "for=\"[2001:db8:f::1]\"",
        "for=198.51.100.1",
        "for=unknown",
        "",
        "proto=https",
        "for=\"",
        "x=\"\\",
        "a;b",
    ];
    let trust = trust(&PROXIES, ForwardedHeader::Forwarded);
    let mut found_cases = 0;
    for proxies in lists(&PROXIES, 2) {
        for forged in lists(&forged, 3) {
            let hops = [&[CLIENT], proxies.as_slice()].concat();
            let (peer, appended) = hops.split_last().unwrap();
            let appended = appended
                .iter()
                .map(|hop| if hop.contains(':') { format!("for=\"[{hop}]\";host=\"a\"") } else { format!("for={hop}") });
            let entries: Vec<_> = forged.iter().map(|text| (*text).to_owned()).chain(appended).collect();
            for lines in spreads(&entries) {
                let lines: Vec<_> = lines.iter().map(String::as_str).collect();
                // What does not hold together is refused; what does names the client.
                match address(&trust, peer, &fields(&header::FORWARDED, &lines)) {
                    Ok(found) => {
                        assert_eq!(found, CLIENT, "{lines:?} from {peer}");
                        found_cases += 1;
                    }
                    Err(reason) => assert_eq!(reason, Reason::CallerAddressUnparsable),
                }
            }
        }
    }
    assert!(found_cases > 1_000, "{found_cases}");
}

/// Bytes that can stand in a header field.
fn field_bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        &b","[..],
        b";",
        b"\"",
        b"\\",
        b" ",
        b"\t",
        b"for=",
        b"10.1.0.1",
        b"192.0.2.9",
        b"[",
        b"]",
        b":",
        b"2001:db8:f::1",
        b"unknown",
        b"_a",
        b"=",
        b"proto=https",
        b"\xE9",
        b"host=\"",
        b"a",
        b"0",
        b".",
        b"\\\"",
    ]);
    prop_oneof![
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat()),
        prop::collection::vec((0x20_u8..=0xFF).prop_filter("no DEL", |byte| *byte != 0x7F), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn bytes_of_the_client_never_choose_its_address(
        forged in field_bytes(),
        own_line in any::<bool>(),
        proxies in prop::collection::vec(prop::sample::select(PROXIES.to_vec()), 1..4),
        quoted_host in "[a-z;,=\"\\\\ ]{0,12}",
    ) {
        let (entries, peer) = chain(&[], &proxies);
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            let is_forwarded = header == ForwardedHeader::Forwarded;
            let appended: Vec<_> = entries.iter().map(|hop| match (is_forwarded, hop.contains(':')) {
                (false, _) => (*hop).to_owned(),
                // A proxy that quotes what the client sent as `Host` escapes it.
                (true, true) => format!("for=\"[{hop}]\";host=\"{}\"", quoted_host.replace('\\', "\\\\").replace('"', "\\\"")),
                (true, false) => format!("for={hop};host=\"{}\"", quoted_host.replace('\\', "\\\\").replace('"', "\\\"")),
            }).collect();
            let appended = appended.join(", ").into_bytes();
            let name = if is_forwarded { header::FORWARDED } else { X_FORWARDED_FOR };
            let mut headers = HeaderMap::new();
            if own_line {
                headers.append(&name, HeaderValue::from_bytes(&forged).unwrap());
                headers.append(&name, HeaderValue::from_bytes(&appended).unwrap());
            } else {
                headers.append(&name, HeaderValue::from_bytes(&[forged.as_slice(), b", ", &appended].concat()).unwrap());
            }

            let found = address(&trust(&PROXIES, header), peer, &headers);

            match found {
                Ok(found) => prop_assert_eq!(found, CLIENT),
                Err(reason) => prop_assert!(is_forwarded && reason == Reason::CallerAddressUnparsable),
            }
        }
    }

    #[test]
    fn an_untrusted_peer_is_the_caller_whatever_it_says(forged in field_bytes(), header in any::<bool>()) {
        let header = if header { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
        let mut headers = HeaderMap::new();
        for name in [X_FORWARDED_FOR, header::FORWARDED, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            headers.append(name, HeaderValue::from_bytes(&forged).unwrap());
        }

        let caller = caller(&trust(&PROXIES, header), CLIENT, &headers);

        prop_assert_eq!(caller, Ok(Caller::peer(CLIENT.parse().unwrap())));
    }
}

use proptest::prelude::*;

use super::*;
use crate::address::{AddressEntryConfig, AddressSet};

/// The proxies that the tests trust.
const PROXIES: [&str; 2] = ["10.1.0.1", "2001:db8:f::1"];
const CLIENT: &str = "192.0.2.7";

fn trust(proxies: &[&str], header: ForwardedHeader) -> Trust {
    let entries: Vec<_> = proxies.iter().map(|text| AddressEntryConfig::Text((*text).into())).collect();
    let addresses = AddressSet::build(&entries, &Place::root(), &AddressSets::default(), &mut Faults::default()).unwrap();
    Trust { rule: Rule::Any(vec![addresses.into()]), header }
}

fn fields(name: &str, lines: &[&str]) -> Fields {
    Fields::of(&lines.iter().map(|line| (name, *line)).collect::<Vec<_>>())
}

fn add(headers: &mut Fields, more: &Fields) {
    more.iter().for_each(|(name, value)| headers.append(name, value));
}

fn caller(trust: &Trust, peer: &str, headers: &Fields) -> Result<Caller, Reason> {
    trust.caller(peer.parse().unwrap(), headers, &Clock::manual(0)).map_err(|refusal| refusal.reason)
}

fn address(trust: &Trust, peer: &str, headers: &Fields) -> Result<String, Reason> {
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
        let found = address(&trust, peer, &fields("x-forwarded-for", lines));
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
        let found = address(&trust, peer, &fields("forwarded", lines));
        assert_eq!(found.as_deref(), expected.as_ref().map(|text| *text), "{peer} {lines:?}");
    }
}

#[test]
fn only_the_configured_header_is_read() {
    let mut headers = fields("x-forwarded-for", &["192.0.2.1"]);
    add(&mut headers, &fields("forwarded", &["for=192.0.2.2"]));
    add(&mut headers, &fields("x-real-ip", &["192.0.2.3"]));

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
        (PROXIES[0], "wss", "a b", (Some(Scheme::Https), None)),
        (PROXIES[0], "ws", "a b", (Some(Scheme::Http), None)),
        (PROXIES[0], "ftp", "a b", (Some(Scheme::Http), None)),
        (PROXIES[0], "", "user@a.example", (None, None)),
    ] {
        let mut headers = fields("x-forwarded-proto", &[proto]);
        add(&mut headers, &fields("x-forwarded-host", &[host]));
        let caller = caller(&trust, peer, &headers).unwrap();
        let host_said = caller.host.as_ref().map(|host| host.to_str().unwrap());
        assert_eq!((caller.scheme, host_said), expected, "{peer} {proto} {host}");
        assert_eq!(caller.via_trusted_proxy(), peer == PROXIES[0], "{peer}");
    }
}

#[test]
fn forwarded_gives_scheme_and_host_of_the_callers_own_hop() {
    let trust = trust(&PROXIES, ForwardedHeader::Forwarded);
    let line = "for=192.0.2.1;proto=http;host=evil.example, for=192.0.2.7;proto=https;host=a.example, for=10.1.0.1;proto=http;host=inner";
    let mut headers = fields("forwarded", &[line]);
    add(&mut headers, &fields("x-forwarded-proto", &["http"]));

    let caller = caller(&trust, PROXIES[1], &headers).unwrap();

    assert_eq!(caller.address.to_string(), CLIENT);
    assert_eq!((caller.scheme, caller.host.unwrap().to_str().unwrap()), (Some(Scheme::Https), "a.example"));
}

/// Builds a listener's trust, with the sets `fd` (Front Door) and `gw` (application gateways).
fn built(listener: &str) -> Result<Trust, Vec<String>> {
    let sets = crate::settings::testing::part("{ fd: [192.0.2.64/28], gw: [10.1.0.0/28], lb: [10.2.0.1] }");
    let sets = AddressSets::build(&sets, std::path::Path::new("."), &Place::root(), 0, &mut Faults::default());
    let listener: TrustConfig = crate::settings::testing::part(listener);
    let mut faults = Faults::default();
    let trust = Trust::build(&listener, &Place::root().key("listeners").index(0), &sets, &mut faults);
    let errors: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect();
    match trust {
        Some(trust) if errors.is_empty() => Ok(trust),
        _ => Err(errors),
    }
}

#[test]
fn faults_of_trust_are_told_at_their_place() {
    let everyone = "every address of a family is trusted, so every caller could choose its own address";
    for (listener, fault) in [
        ("trusted-proxies: []", None),
        ("trusted-proxies: [gw, { address: 10.3.0.1, owner: net }]", None),
        ("trusted-proxies: [0.0.0.0/0]", Some(format!("listeners[0].trusted-proxies[0]: {everyone}"))),
        ("trusted-proxies: [gw, '::/0']", Some(format!("listeners[0].trusted-proxies[1]: {everyone}"))),
        ("trusted-proxies: [gw, '::/0', lb]", Some(format!("listeners[0].trusted-proxies[1]: {everyone}"))),
        ("trusted-proxies: ['::ffff:0:0/96']", Some(format!("listeners[0].trusted-proxies[0]: {everyone}"))),
        (
            "trusted-proxies: [{ addresses: [0.0.0.0/0], require-header: { X-A: [b] } }]",
            Some(format!("listeners[0].trusted-proxies[0].addresses: {everyone}")),
        ),
        ("trust-path: [{ from: 0.0.0.0/0 }]", Some(format!("listeners[0].trust-path[0].from: {everyone}"))),
        ("trusted-proxies: [nowhere]", Some("listeners[0].trusted-proxies[0]: there is no address set `nowhere`".into())),
        (
            "trusted-proxies: [{ address: 10.1.0.1/28 }]",
            Some(
                "listeners[0].trusted-proxies[0].address: `10.1.0.1/28`: the address has host bits set beyond the prefix".into(),
            ),
        ),
        (
            "trusted-proxies: [{ addresses: [gw, x] }]",
            Some("listeners[0].trusted-proxies[0].addresses[1]: there is no address set `x`".into()),
        ),
        (
            "trusted-proxies: [{ addresses: [gw], require-header: { X-A: [] } }]",
            Some(
                "listeners[0].trusted-proxies[0].require-header.X-A: no value is listed, so the proxies would never be believed"
                    .into(),
            ),
        ),
        (
            "trusted-proxies: [{ addresses: [gw], require-header: { X-A: [b, ''] } }]",
            Some("listeners[0].trusted-proxies[0].require-header.X-A[1]: `` is not a header value".into()),
        ),
        (
            "trusted-proxies: [{ addresses: [gw], require-header: { 'X A': [b] } }]",
            Some("listeners[0].trusted-proxies[0].require-header.X A: `X A` is not a header name".into()),
        ),
        (
            "trust-path: [{ from: [] }]",
            Some("listeners[0].trust-path[0].from: the step names no proxy, so nothing could pass it".into()),
        ),
        (
            "trusted-proxies: [gw]\ntrust-path: [{ from: gw }]",
            Some("listeners[0].trust-path: `trust-path` stands beside `trusted-proxies`".into()),
        ),
    ] {
        match (built(listener), fault) {
            (Ok(_), None) => {}
            (Err(faults), Some(fault)) => assert_eq!(faults, [fault], "{listener}"),
            (trust, fault) => panic!("{listener}: {trust:?} {fault:?}"),
        }
    }
    let halves = built("trusted-proxies: [0.0.0.0/1, 128.0.0.0-255.255.255.255]").unwrap_err();
    assert!(halves.contains(&format!("listeners[0].trusted-proxies: {everyone}")), "{halves:?}");
}

#[test]
fn shared_proxies_are_believed_only_with_their_header() {
    let trust = built("trusted-proxies: [gw, { addresses: [fd], require-header: { X-Azure-FDID: [ours, ours-too] } }]").unwrap();
    for (peer, id, chain, expected) in [
        ("192.0.2.65", &["ours"][..], "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("192.0.2.65", &["ours-too"], "203.0.113.7", "203.0.113.7"),
        ("192.0.2.65", &["other"], "203.0.113.7", "192.0.2.65"),
        ("192.0.2.65", &["OURS"], "203.0.113.7", "192.0.2.65"),
        ("192.0.2.65", &[""], "203.0.113.7", "192.0.2.65"),
        ("192.0.2.65", &[], "203.0.113.7", "192.0.2.65"),
        ("192.0.2.65", &["ours", "ours"], "203.0.113.7", "192.0.2.65"),
        ("192.0.2.65", &["ours, other"], "203.0.113.7", "192.0.2.65"),
        ("192.0.2.99", &["ours"], "203.0.113.7", "192.0.2.99"),
        // Through a gateway behind Front Door: its hop is believed under the same condition.
        ("10.1.0.1", &["ours"], "203.0.113.7, 192.0.2.65", "203.0.113.7"),
        ("10.1.0.1", &["other"], "203.0.113.7, 192.0.2.65", "192.0.2.65"),
        ("10.1.0.1", &["ours"], "192.0.2.65, 203.0.113.7", "203.0.113.7"),
    ] {
        let mut headers = fields("x-forwarded-for", &[chain]);
        add(&mut headers, &fields("x-azure-fdid", id));
        assert_eq!(address(&trust, peer, &headers).as_deref(), Ok(expected), "{peer} {id:?} {chain}");
    }
}

#[test]
fn a_trust_path_believes_each_step_once_and_in_order() {
    let optional = built("trust-path: [{ from: fd, optional: true }, { from: gw }]").unwrap();
    let required = built("trust-path: [{ from: fd }, { from: gw }]").unwrap();
    let nearest_optional = built("trust-path: [{ from: fd }, { from: [gw, lb], optional: true }]").unwrap();
    for (name, trust, peer, chain, expected) in [
        ("optional", &optional, "10.1.0.1", "203.0.113.7, 192.0.2.65", "203.0.113.7"),
        ("optional", &optional, "10.1.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        // A second hop of a step that was passed already was made up, or took another way.
        ("optional", &optional, "10.1.0.1", "203.0.113.7, 10.1.0.2", "10.1.0.2"),
        ("optional", &optional, "10.1.0.1", "203.0.113.7, 192.0.2.66, 192.0.2.65", "192.0.2.66"),
        ("optional", &optional, "10.1.0.1", "203.0.113.7, 10.1.0.2, 192.0.2.65", "10.1.0.2"),
        ("optional", &optional, "192.0.2.65", "203.0.113.7", "192.0.2.65"),
        ("optional", &optional, "203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("required", &required, "10.1.0.1", "203.0.113.7, 192.0.2.65", "203.0.113.7"),
        ("required", &required, "10.1.0.1", "192.0.2.65, 203.0.113.7", "203.0.113.7"),
        ("nearest", &nearest_optional, "192.0.2.65", "203.0.113.7", "203.0.113.7"),
        ("nearest", &nearest_optional, "10.2.0.1", "203.0.113.7, 192.0.2.65", "203.0.113.7"),
        ("nearest", &nearest_optional, "10.2.0.1", "203.0.113.7", "203.0.113.7"),
        ("nearest", &nearest_optional, "10.2.0.1", "203.0.113.7, 10.1.0.1", "10.1.0.1"),
    ] {
        let found = address(trust, peer, &fields("x-forwarded-for", &[chain]));
        assert_eq!(found.as_deref(), Ok(expected), "{name} {peer} {chain}");
    }
}

#[test]
fn only_listed_proxies_may_introduce_a_connection() {
    let clock = Clock::manual(0);
    for (listener, address, expected) in [
        ("trusted-proxies: [lb]", "10.2.0.1", true),
        ("trusted-proxies: [lb]", "::ffff:10.2.0.1", true),
        ("trusted-proxies: [lb]", "10.2.0.2", false),
        ("trust-path: [{ from: fd }, { from: lb, optional: true }]", "10.2.0.1", true),
        ("trust-path: [{ from: fd }]", "10.2.0.1", false),
        ("trust-path: [{ from: fd, optional: true }, { from: lb }]", "10.2.0.1", true),
        ("trust-path: [{ from: fd, optional: true }, { from: lb }]", "192.0.2.65", false),
        ("trust-path: [{ from: fd }, { from: lb, optional: true }]", "192.0.2.65", true),
        ("trusted-proxies: [{ addresses: [fd], require-header: { X-Azure-FDID: [ours] } }]", "192.0.2.65", false),
        ("trusted-proxies: [lb, { addresses: [fd], require-header: { X-Azure-FDID: [ours] } }]", "192.0.2.65", false),
        ("trusted-proxies: [lb, { addresses: [fd], require-header: { X-Azure-FDID: [ours] } }]", "10.2.0.1", true),
        ("trust-path: [{ from: lb, require-header: { X-A: [b] } }]", "10.2.0.1", false),
        ("trust-path: [{ from: lb }, { from: gw, require-header: { X-A: [b] } }]", "10.2.0.1", false),
        ("trusted-proxies: []", "127.0.0.1", false),
    ] {
        let trust = built(listener).unwrap();
        let nobody = [
            "trusted-proxies: []",
            "trusted-proxies: [{ addresses: [fd], require-header: { X-Azure-FDID: [ours] } }]",
            "trust-path: [{ from: lb, require-header: { X-A: [b] } }]",
            "trust-path: [{ from: lb }, { from: gw, require-header: { X-A: [b] } }]",
        ];
        assert_eq!(trust.introduces_nobody(), nobody.contains(&listener), "{listener}");
        assert_eq!(trust.may_introduce(address.parse().unwrap(), &clock), expected, "{listener} {address}");
    }
}

#[test]
fn the_source_of_an_introduced_connection_is_the_peer_to_begin_with() {
    let any = built("trusted-proxies: [lb, gw]").unwrap();
    let path = built("trust-path: [{ from: gw }, { from: lb }]").unwrap();
    let optional = built("trust-path: [{ from: gw, optional: true }, { from: lb }]").unwrap();
    let shared = built("trusted-proxies: [lb, { addresses: [fd], require-header: { X-Azure-FDID: [ours] } }]").unwrap();
    let (peer, proxy, forwarded) = (AddressSource::Peer, AddressSource::ProxyProtocol, AddressSource::XForwardedFor);
    for (name, trust, by, source, chain, expected) in [
        ("any", &any, "10.2.0.1", Some("192.0.2.7"), "198.51.100.1", ("192.0.2.7", proxy)),
        ("any", &any, "10.2.0.1", Some("::ffff:192.0.2.7"), "198.51.100.1", ("192.0.2.7", proxy)),
        ("any", &any, "10.2.0.1", Some("10.1.0.1"), "198.51.100.1, 192.0.2.7", ("192.0.2.7", forwarded)),
        // Whose connection it is nobody said: it may be that of whoever wrote the chain.
        ("any", &any, "10.2.0.1", None, "198.51.100.1", ("10.2.0.1", peer)),
        // The proxy was trusted when it connected; since then the config has changed.
        ("any", &any, "10.3.0.1", Some("192.0.2.7"), "198.51.100.1", ("10.3.0.1", peer)),
        ("any", &any, "10.3.0.1", Some("10.1.0.1"), "198.51.100.1", ("10.3.0.1", peer)),
        ("path", &path, "10.2.0.1", Some("10.1.0.1"), "203.0.113.7, 192.0.2.7", ("192.0.2.7", forwarded)),
        ("path", &path, "10.2.0.1", Some("192.0.2.7"), "10.1.0.1", ("192.0.2.7", proxy)),
        // The step of the introducer is passed: another of its kind further out was made up.
        ("path", &path, "10.2.0.1", Some("10.2.0.1"), "10.1.0.1", ("10.2.0.1", proxy)),
        ("path", &path, "10.1.0.1", Some("192.0.2.7"), "198.51.100.1", ("10.1.0.1", peer)),
        ("optional", &optional, "10.2.0.1", Some("192.0.2.7"), "198.51.100.1", ("192.0.2.7", proxy)),
        ("optional", &optional, "10.2.0.1", Some("10.1.0.1"), "192.0.2.7", ("192.0.2.7", forwarded)),
        ("shared", &shared, "192.0.2.65", Some("203.0.113.7"), "198.51.100.1", ("192.0.2.65", peer)),
        ("shared", &shared, "10.2.0.1", Some("192.0.2.65"), "198.51.100.1", ("198.51.100.1", forwarded)),
    ] {
        let mut headers = fields("x-forwarded-for", &[chain]);
        add(&mut headers, &fields("x-azure-fdid", &["ours"]));
        let by = std::net::SocketAddr::new(by.parse().unwrap(), 4711);
        let introduction = Introduction { by, names_source: source.is_some(), tls: false };
        let peer = source.map_or(by.ip(), |source| source.parse().unwrap());

        let caller = trust.introduced_caller(peer, introduction, &headers, &Clock::manual(0)).unwrap();

        assert_eq!((caller.address.to_string().as_str(), caller.source), expected, "{name} {by} {source:?} {chain}");
        assert_eq!(caller.via_trusted_proxy(), caller.source == forwarded, "{name} {by} {source:?} {chain}");
    }
}

#[test]
fn nobody_is_trusted_by_default() {
    let headers = fields("x-forwarded-for", &["198.51.100.1"]);

    for peer in ["127.0.0.1", "10.0.0.1", "192.0.2.7", "::1", "169.254.1.1"] {
        let caller = caller(&Trust::default(), peer, &headers).unwrap();
        assert_eq!(caller, Caller::peer(peer.parse().unwrap()));
    }
}

/// Returns every list of up to `length` of the pieces.
fn lists<'p>(pieces: &[&'p str], length: usize) -> Vec<Vec<&'p str>> {
    let mut lists = vec![vec![]];
    let mut longest = lists.clone();
    for _ in 0..length {
        longest = longest.iter().flat_map(|list| pieces.iter().map(|piece| [list.as_slice(), &[*piece]].concat())).collect();
        lists.extend(longest.clone());
    }
    lists
}

/// Returns every way to spread a list over header lines.
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

/// Returns what a chain of proxies makes of a request: each appends the address of its own peer.
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
                let found = address(&trust, peer, &fields("x-forwarded-for", &lines));
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
                match address(&trust, peer, &fields("forwarded", &lines)) {
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

/// Returns every rule over the two proxies: any of them, or a path of one or two steps that may be optional.
fn rules() -> Vec<Rule> {
    let group = |proxy: &str| {
        let entries = [AddressEntryConfig::Text(proxy.into())];
        let addresses = AddressSet::build(&entries, &Place::root(), &AddressSets::default(), &mut Faults::default()).unwrap();
        TrustedGroup::from(addresses)
    };
    let choices: Vec<_> = PROXIES.iter().flat_map(|proxy| [(*proxy, false), (*proxy, true)]).collect();
    let step = |(proxy, optional): (&str, bool)| Step { group: group(proxy), optional };
    let mut rules = vec![Rule::Any(PROXIES.iter().map(|proxy| group(proxy)).collect())];
    for first in &choices {
        rules.push(Rule::Path(vec![step(*first)]));
        rules.extend(choices.iter().map(|second| Rule::Path(vec![step(*first), step(*second)])));
    }
    rules
}

/// Returns whether a request through these proxies, the outermost first, came the way that the rule describes.
fn fits(rule: &Rule, proxies: &[&str]) -> bool {
    fn path(steps: &[Step], proxies: &[&str]) -> bool {
        let Some((step, before)) = steps.split_last() else { return proxies.is_empty() };
        let passed = proxies.split_last().is_some_and(|(nearest, further)| {
            step.group.holds(nearest.parse().unwrap(), &Fields::default(), &Clock::manual(0)) && path(before, further)
        });
        passed || (step.optional && path(before, proxies))
    }
    match rule {
        Rule::Any(_) => true,
        Rule::Path(steps) => path(steps, proxies),
    }
}

/// A request that the client sent through these proxies, as it arrives.
#[derive(Clone, Copy)]
struct Journey<'j> {
    proxies: &'j [&'j str],
    /// True if the nearest proxy speaks the PROXY protocol instead of HTTP.
    introduced: bool,
}

impl Journey<'_> {
    /// Returns the final `X-Forwarded-For`, of which the client wrote the beginning, and the peer.
    fn chain(&self, forged: &[&str]) -> (Vec<String>, IpAddr) {
        let http = if self.introduced { &self.proxies[..self.proxies.len() - 1] } else { self.proxies };
        let (entries, peer) = chain(forged, http);
        (entries.into_iter().map(str::to_owned).collect(), peer.parse().unwrap())
    }

    /// Returns the caller that these lines of `X-Forwarded-For` lead to.
    fn found(&self, trust: &Trust, lines: &[String]) -> Result<String, Reason> {
        let (clock, (_, peer)) = (Clock::manual(0), self.chain(&[]));
        let headers = fields("x-forwarded-for", &lines.iter().map(String::as_str).collect::<Vec<_>>());
        let caller = match self.proxies.last().filter(|_| self.introduced) {
            None => trust.caller(peer, &headers, &clock),
            Some(by) => {
                let introduction =
                    Introduction { by: std::net::SocketAddr::new(by.parse().unwrap(), 4711), names_source: true, tls: false };
                trust.introduced_caller(peer, introduction, &headers, &clock)
            }
        };
        caller.map(|caller| caller.address.to_string()).map_err(|refusal| refusal.reason)
    }
}

#[test]
fn no_forged_prefix_changes_what_any_rule_finds_on_any_journey() {
    let forged = ["10.1.0.1", "2001:db8:f::1", "198.51.100.1", "unknown", ""];
    let (mut cases, mut fitting) = (0, 0);
    for rule in rules() {
        let trust = Trust { rule, header: ForwardedHeader::XForwardedFor };
        for proxies in lists(&PROXIES, 3) {
            for introduced in [false, true] {
                if introduced && proxies.is_empty() {
                    continue;
                }
                let journey = Journey { proxies: &proxies, introduced };
                let honest = journey.found(&trust, &journey.chain(&[]).0).unwrap();
                if fits(&trust.rule, &proxies) {
                    assert_eq!(honest, CLIENT, "{:?} {proxies:?} {introduced}", trust.rule);
                    fitting += 1;
                }
                assert!(honest == CLIENT || proxies.contains(&honest.as_str()), "{honest}");
                for forged in lists(&forged, 2) {
                    for lines in spreads(&journey.chain(&forged).0) {
                        assert_eq!(journey.found(&trust, &lines).as_ref(), Ok(&honest), "{lines:?} {proxies:?} {introduced}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases > 50_000 && fitting > 100, "{cases} {fitting}");
}

/// Generates bytes that are allowed in a header field.
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
            let name = if is_forwarded { Known::Forwarded } else { Known::XForwardedFor };
            let mut headers = Fields::default();
            if own_line {
                headers.append(name, &HeaderValue::from_bytes(&forged).unwrap());
                headers.append(name, &HeaderValue::from_bytes(&appended).unwrap());
            } else {
                headers.append(name, &HeaderValue::from_bytes(&[forged.as_slice(), b", ", &appended].concat()).unwrap());
            }

            let found = address(&trust(&PROXIES, header), peer, &headers);

            match found {
                Ok(found) => prop_assert_eq!(found, CLIENT),
                Err(reason) => prop_assert!(is_forwarded && reason == Reason::CallerAddressUnparsable),
            }
        }
    }

    #[test]
    fn bytes_of_the_client_change_nothing_that_any_rule_finds(
        forged in field_bytes(),
        rule in 0..rules().len(),
        proxies in prop::collection::vec(prop::sample::select(PROXIES.to_vec()), 1..4),
        introduced in any::<bool>(),
    ) {
        let trust = Trust { rule: rules().swap_remove(rule), header: ForwardedHeader::XForwardedFor };
        let journey = Journey { proxies: &proxies, introduced };
        let (honest, _) = journey.chain(&[]);
        let Ok(forged) = String::from_utf8(forged) else { return Ok(()) };

        let found = journey.found(&trust, &[&[forged], honest.as_slice()].concat());
        let honest = journey.found(&trust, &honest).unwrap();

        prop_assert_eq!(found, Ok(honest));
    }

    #[test]
    fn an_untrusted_peer_is_the_caller_whatever_it_says(forged in field_bytes(), header in any::<bool>()) {
        let header = if header { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
        let mut headers = Fields::default();
        for name in [Known::XForwardedFor, Known::Forwarded, Known::XForwardedProto, Known::XForwardedHost] {
            headers.append(name, &HeaderValue::from_bytes(&forged).unwrap());
        }

        let caller = caller(&trust(&PROXIES, header), CLIENT, &headers);

        prop_assert_eq!(caller, Ok(Caller::peer(CLIENT.parse().unwrap())));
    }
}

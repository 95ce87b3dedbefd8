use proptest::prelude::*;

use super::*;

fn path_of(target: &str) -> Result<String, TargetFault> {
    Target::read(target).map(|target| target.path.to_string())
}

#[test]
fn reads_each_path_into_one_form() {
    for (raw, expected) in [
        ("/", "/"),
        ("/orders/1", "/orders/1"),
        ("/orders/", "/orders/"),
        ("/%6Frders/%7e%2d%5F", "/orders/~-_"),
        ("/a%2eb", "/a.b"),
        ("/a..b/...c/.well-known", "/a..b/...c/.well-known"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a%20b%2c", "/a%20b%2C"),
        ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ("/{x}|\"^`[]<>", "/%7Bx%7D%7C%22%5E%60%5B%5D%3C%3E"),
    ] {
        let target = Target::read(raw).unwrap_or_else(|fault| panic!("{raw}: {fault}"));
        assert_eq!(&*target.path, expected, "{raw}");
        assert!(target.ambiguities.is_empty(), "{raw}: {}", target.ambiguities);
    }
}

#[test]
fn refuses_what_no_route_may_accept() {
    use TargetFault::{BadEscape, Control, DotSegment, Fragment, NotAPath, Overlong, TooDeep};
    for (raw, fault) in [
        ("", NotAPath),
        ("*", NotAPath),
        ("orders", NotAPath),
        ("http://api.contoso.example/", NotAPath),
        ("/.", DotSegment),
        ("/..", DotSegment),
        ("/a/../b", DotSegment),
        ("/a/./b", DotSegment),
        ("/a/..", DotSegment),
        ("/a/%2e%2e/b", DotSegment),
        ("/a/%2E./b", DotSegment),
        ("/a/.%2e", DotSegment),
        ("/a/..;/b", DotSegment),
        ("/a/..;x=1/b", DotSegment),
        ("/a/..%3bx/b", DotSegment),
        ("/a/..%2fb", DotSegment),
        ("/a%2f..%2fb", DotSegment),
        ("/a%2F%2e%2e%2Fb", DotSegment),
        ("/a%20%2F..", DotSegment),
        ("/a\\..\\b", DotSegment),
        ("/a/..\\b", DotSegment),
        ("/a%5c..%5cb", DotSegment),
        ("/a/..%20/b", DotSegment),
        ("/a/%252e%252e/b", DotSegment),
        ("/a/%25252e%25252e/b", DotSegment),
        ("/a/..%252fb", DotSegment),
        ("/a%255c..%255cb", DotSegment),
        ("/a/%252e%2e/b", DotSegment),
        ("/a\0b", Control),
        ("/a%00b", Control),
        ("/a%0d%0ab", Control),
        ("/a%7f", Control),
        ("/a\tb", Control),
        ("/a b", Control),
        ("/a\u{7f}", Control),
        ("/a%2500", Control),
        ("/a%C2%85", Control),
        ("/a?b\rc", Control),
        ("/a?b c", Control),
        ("/%", BadEscape),
        ("/%4", BadEscape),
        ("/%zz", BadEscape),
        ("/%u002e", BadEscape),
        ("/%+1", BadEscape),
        ("/a%", BadEscape),
        ("/a#b", Fragment),
        ("/a?b#c", Fragment),
        ("/%c0%ae%c0%ae/", Overlong),
        ("/%c0%af", Overlong),
        ("/%e0%80%af", Overlong),
        ("/%f0%80%80%af", Overlong),
        ("/%f8%80%80%80%af", Overlong),
        ("/%fc%80%80%80%80%af", Overlong),
        // Whatever comes behind the first byte: some decoders mask it.
        ("/%c0%ee%c0%ee/", Overlong),
        ("/%c0%2e/", Overlong),
        ("/%c0n%c0n/", Overlong),
        ("/%c1%81dmin", Overlong),
        ("/a%c0", Overlong),
        ("/%e0%c0%ee", Overlong),
        ("/%e0%80%ee", Overlong),
        ("/%f0%c0%c0%ef", Overlong),
        ("/%25c0%25ee", Overlong),
        ("/%25252525252e", TooDeep),
    ] {
        assert_eq!(path_of(raw), Err(fault), "{raw:?}");
    }
}

#[test]
fn refuses_raw_bytes_in_every_spelling_of_a_control() {
    for byte in (0..=0x20).chain([0x7F]) {
        assert_eq!(Target::read([b'/', byte]), Err(TargetFault::Control), "{byte}");
        assert_eq!(Target::read([b'/', b'?', byte]), Err(TargetFault::Control), "{byte}");
        if byte != 0x20 {
            assert_eq!(path_of(&format!("/%{byte:02x}")), Err(TargetFault::Control), "{byte}");
            assert_eq!(path_of(&format!("/%25{byte:02x}")), Err(TargetFault::Control), "{byte}");
        }
    }
}

#[test]
fn leaves_oddities_to_the_route() {
    use AcceptConfig::{
        Backslash, BareEscape, EmptySegment, EncodedHash, EncodedPercent, EncodedQuestionMark, EncodedSlash, NonAscii, Semicolon,
    };
    for (raw, path, odd) in [
        (&b"/a%2fb"[..], "/a%2Fb", &[EncodedSlash][..]),
        (b"/a;v=1/b", "/a;v=1/b", &[Semicolon]),
        (b"/a%3bv", "/a%3Bv", &[Semicolon]),
        (b"//a", "//a", &[EmptySegment]),
        (b"/a//", "/a//", &[EmptySegment]),
        (b"/a\\b", "/a%5Cb", &[Backslash]),
        (b"/a%5cb", "/a%5Cb", &[Backslash]),
        (b"/100%25", "/100%25", &[EncodedPercent]),
        (b"/a%252fb", "/a%252Fb", &[EncodedPercent, EncodedSlash]),
        (b"/a%253bb", "/a%253Bb", &[EncodedPercent, Semicolon]),
        (b"/a%3fb", "/a%3Fb", &[EncodedQuestionMark]),
        (b"/a%23", "/a%23", &[EncodedHash]),
        (b"/a%25%33%46", "/a%253F", &[EncodedPercent, EncodedQuestionMark]),
        (b"/\xC3\xA9", "/%C3%A9", &[NonAscii]),
        (b"/%e9", "/%E9", &[NonAscii]),
        (b"/%ef%bc%8f", "/%EF%BC%8F", &[NonAscii]),
        (b"/caf%e0", "/caf%E0", &[NonAscii]),
        (b"/%e0b/%fcber", "/%E0b/%FCber", &[NonAscii]),
        (b"/%e3%80%82", "/%E3%80%82", &[NonAscii]),
        (b"/a%ef%bd%a1", "/a%EF%BD%A1", &[NonAscii]),
        (b"/%ef%bc%8e%ef%bc%8e/a", "/%EF%BC%8E%EF%BC%8E/a", &[NonAscii]),
        (b"/a?b=\xE9", "/a", &[NonAscii]),
        (b"/a?b=100%", "/a", &[BareEscape]),
        (b"/a?b=%2", "/a", &[BareEscape]),
    ] {
        let shown = String::from_utf8_lossy(raw);
        let target = Target::read(raw).unwrap_or_else(|fault| panic!("{shown}: {fault}"));
        let expected: Ambiguities = odd.iter().copied().collect();

        // A double escape also keeps its own spelling: only its ambiguities are those of what it hides.
        assert!(target.path.eq_ignore_ascii_case(path), "{shown}: {}", target.path);
        assert_eq!(target.ambiguities, expected, "{shown}: {}", target.ambiguities);
        assert_eq!(target.accepted_by(expected), Ok(()), "{shown}");
        for missing in odd {
            let others = odd.iter().copied().filter(|kind| kind != missing).collect();
            assert!(target.accepted_by(others).is_err(), "{shown} without {missing:?}");
        }
    }
}

#[test]
fn keeps_the_query_as_it_came() {
    for (raw, expected) in [
        ("/a", None),
        ("/a?", Some("")),
        ("/a?b=c&d=%2e%2F..//;", Some("b=c&d=%2e%2F..//;")),
        ("/a?b?c", Some("b?c")),
        ("/a?f[x]={1}|\\", Some("f[x]={1}|\\")),
        ("/a?\"<>", Some("%22%3C%3E")),
    ] {
        let target = Target::read(raw).unwrap();
        assert_eq!(target.query.as_deref(), expected, "{raw}");
        assert!(target.ambiguities.is_empty(), "{raw}");
    }
}

#[test]
fn too_long_a_target_has_its_own_reason() {
    let longest = format!("/{}", "a".repeat(MAX_TARGET - 1));

    assert!(Target::read(&longest).is_ok());
    let fault = Target::read(longest + "a").unwrap_err();
    assert_eq!(Refusal::from(fault).reason, Reason::TargetTooLong);
}

/// Makes targets of the pieces that matter.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"/"[..],
        b"a",
        b".",
        b"..",
        b"%2e",
        b"%2E",
        b"%2f",
        b"%2F",
        b"\\",
        b"%5c",
        b";",
        b"%3b",
        b"%",
        b"%25",
        b"25",
        b"2e",
        b"%c3%a9",
        b"%c0",
        b"%ae",
        b"\xC3",
        b"\xA9",
        b"%00",
        b"%20",
        b"%3f",
        b"%23",
        b"?",
        b"#",
        b"%41",
        b"{",
        b"~",
        b"//",
        b"\x7F",
        b"5c",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| [b"/".to_vec(), pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn an_accepted_target_reads_as_itself(raw in hostile()) {
        if let Ok(target) = Target::read(&raw) {
            let again = Target::read(target.to_string()).expect("what was read once is read again");

            prop_assert_eq!(&again.path, &target.path);
            prop_assert_eq!(&again.query, &target.query);
            prop_assert!(again.ambiguities.minus(target.ambiguities).is_empty());
            if target.ambiguities.is_empty() {
                prop_assert_eq!(again, target);
            }
        }
    }

    #[test]
    fn an_accepted_path_has_one_meaning(raw in hostile()) {
        let Ok(target) = Target::read(&raw) else { return Ok(()) };

        prop_assert!(http::uri::PathAndQuery::try_from(target.to_string()).is_ok());
        // However often it is decoded and whatever passes for a slash, no segment climbs.
        let mut text = target.path.to_string();
        for _ in 0..6 {
            for segment in text.split(['/', '\\']) {
                let name = segment.split(';').next().unwrap_or_default();
                prop_assert!(name != "." && name != "..", "{}", text);
            }
            prop_assert!(!text.contains(|letter: char| letter.is_ascii_control()), "{:?}", text);
            text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        }
        if target.ambiguities.is_empty() {
            let once = percent_encoding::percent_decode_str(&target.path).decode_utf8_lossy().into_owned();
            prop_assert_eq!(once.matches('/').count(), target.path.matches('/').count());
            prop_assert!(!once.contains(['\\', ';', '%', '?', '#']) && !once.contains("//"), "{}", once);
        }
    }

    #[test]
    fn no_bytes_are_too_much(raw in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Target::read(&raw);
        let _ = Target::read([b"/".as_slice(), &raw].concat());
    }
}

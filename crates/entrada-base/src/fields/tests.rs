use http::header;
use proptest::prelude::*;

use super::*;

fn name(number: u8) -> HeaderName {
    [header::ACCEPT, header::COOKIE, HeaderName::from_static("x-a"), HeaderName::from_static("x-b")][usize::from(number % 4)]
        .clone()
}

/// Reads a head of `name: value` lines as a codec does.
fn read(lines: &[(String, String)]) -> Fields {
    let (mut head, mut fields) = (Vec::new(), Fields::default());
    let mut places = Vec::new();
    for (name, value) in lines {
        let start = head.len();
        head.extend_from_slice(name.as_bytes());
        let end = head.len();
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        places.push((start..end, end + 2..head.len()));
        head.extend_from_slice(b"\r\n");
    }
    fields.set_head(&head);
    for (name, value) in places {
        fields.read((Known::of(&head[name.clone()]), name), value);
    }
    fields
}

proptest! {
    /// Compares a list with a map after the same steps, which begin with some fields of a received head.
    #[test]
    fn a_list_says_what_a_map_would(
        received in proptest::collection::vec((0..4_u8, 0..9_u16), 0..6),
        steps in proptest::collection::vec((0..6_u8, 0..4_u8, 0..9_u16), 0..40),
    ) {
        let received: Vec<_> = received.into_iter().map(|(number, value)| (name(number).to_string(), value.to_string())).collect();
        let (mut fields, mut map) = (read(&received), HeaderMap::new());
        for (name, value) in &received {
            map.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        for (what, number, value) in steps {
            let (name, value) = (name(number), HeaderValue::from(value));
            match what {
                0 | 1 => {
                    fields.append(&name, &value);
                    map.append(name, value);
                }
                2 => {
                    fields.insert(&name, &value);
                    map.insert(name, value);
                }
                3 => {
                    let (mut sorted, before) = (Fields::default(), fields.clone());
                    sorted.sort_from(&mut fields, |other, _| if other != name { Sorted::Passes } else if number == 0 { Sorted::Goes } else { Sorted::Stays });
                    map.remove(&name);
                    prop_assert_eq!(&fields, if number == 0 { &sorted } else { &before });
                    fields = sorted;
                }
                _ => {
                    fields.remove(&name);
                    map.remove(&name);
                }
            }
        }
        prop_assert_eq!(fields.len(), map.len());
        for number in 0..4 {
            let name = name(number);
            let known = Known::of(name.as_str().as_bytes());
            prop_assert_eq!(fields.get(&name).map(Value::to_header_value), map.get(&name).cloned());
            prop_assert_eq!(fields.contains_key(name.as_str()), map.contains_key(&name));
            if known != Known::Other {
                prop_assert_eq!(fields.get_all(known).map(Value::to_header_value).collect::<Vec<_>>(), map.get_all(&name).iter().cloned().collect::<Vec<_>>());
            }
            let said: Vec<_> = fields.get_all(name.clone()).map(Value::to_header_value).collect();
            prop_assert_eq!(said, map.get_all(name).iter().cloned().collect::<Vec<_>>());
        }
        prop_assert_eq!(HeaderMap::from(&fields), map.clone());
        prop_assert_eq!(HeaderMap::from(&Fields::from(&map)), map);
    }
}

#[test]
fn a_field_that_has_the_value_already_only_becomes_a_secret() {
    let lines =
        [("accept", "*/*"), ("authorization", "Bearer a"), ("x-a", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let value = |text: &'static str| HeaderValue::from_static(text);

    let mut fields = read(&lines);
    let size = fields.bytes.len();
    fields.insert_secret(Known::Authorization, (&value("Bearer a")).into());
    assert_eq!(fields.lines(), ["accept: */*", "authorization: Bearer a", "x-a: 1"]);
    assert!(fields.get(Known::Authorization).unwrap().is_sensitive() && fields.bytes.len() == size);

    // Another value, one of several lines, and none.
    fields.insert_secret(Known::Authorization, (&value("Bearer b")).into());
    assert_eq!(fields.lines(), ["accept: */*", "authorization: Bearer b", "x-a: 1"]);
    fields.append_written(Known::Authorization, |out| out.extend_from_slice(b"mine"));
    fields.insert_secret(Known::Authorization, (&value("Bearer b")).into());
    assert_eq!(fields.lines(), ["accept: */*", "authorization: Bearer b", "x-a: 1"]);
    fields.insert_secret(Known::Cookie, (&value("c")).into());
    assert_eq!(fields.lines().last().unwrap(), "cookie: c");
    assert!([Known::Authorization, Known::Cookie].into_iter().all(|name| fields.get(name).unwrap().is_sensitive()));
}

#[test]
fn a_secret_is_not_shown_and_stays_one() {
    let mut secret = HeaderValue::from_static("hush");
    secret.set_sensitive(true);
    let mut fields = Fields::from_iter([(header::COOKIE, secret), (header::ACCEPT, HeaderValue::from_static("a/b"))]);

    assert_eq!(format!("{fields:?}"), r#"{"cookie": Sensitive, "accept": "a/b"}"#);
    let mut passed = Fields::default();
    passed.sort_from(&mut fields, |_, _| Sorted::Passes);
    assert!(HeaderMap::from(&passed)[header::COOKIE].is_sensitive());
}

#[test]
fn a_field_takes_sixteen_bytes() {
    assert_eq!(size_of::<Field>(), 16);
}

#[test]
fn only_ascii_is_a_text() {
    let fields = Fields::from_iter([(header::ACCEPT, HeaderValue::from_bytes(b"\xff").unwrap())]);

    assert_eq!(fields.get(Known::Accept).unwrap().to_str(), Err(NotAscii));
    assert_eq!(fields.get("Accept").unwrap().to_header_value(), HeaderValue::from_bytes(b"\xff").unwrap());
}

#[test]
fn what_was_received_in_another_form_is_a_field_or_nothing() {
    let mut fields = Fields::default();
    fields.try_append(b"X-User", b"nia").unwrap();
    fields.try_append(b"HOST", b"a\tb \xc5\xba").unwrap();
    fields.try_append(b"x-empty", b"").unwrap();
    for (name, value) in [
        (&b""[..], &b"a"[..]),
        (b"x user", b"a"),
        (b"x:user", b"a"),
        (b"x-\xc5", b"a"),
        (b"x-user", b"a\r\nx-admin: 1"),
        (b"x-user", b"a\0"),
        (b"x-user", b"\x7f"),
        (&[b'x'; 65_536], b"a"),
    ] {
        assert_eq!(fields.try_append(name, value), Err(NotAField), "{name:?}: {value:?}");
    }

    let found: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(found, [("x-user", &b"nia"[..]), ("host", b"a\tb \xc5\xba"), ("x-empty", b"")]);
    assert_eq!(fields.get(Known::Host).map(Value::len), Some(6), "a known name in capitals has its number");
    let mut lines = Vec::new();
    fields.write_lines(&mut lines, |_| true);
    assert_eq!(lines, b"x-user: nia\r\nhost: a\tb \xc5\xba\r\nx-empty: \r\n");
}

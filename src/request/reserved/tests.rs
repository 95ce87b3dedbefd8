use proptest::prelude::*;

use super::*;

fn name(text: &str) -> HeaderName {
    HeaderName::from_bytes(text.as_bytes()).unwrap()
}

#[test]
fn names_of_gateways_and_platforms_are_always_reserved() {
    let reserved = Reserved::default();

    for text in [
        "X-Forwarded-For",
        "x_forwarded_for",
        "X.Forwarded.Host",
        "X-Forwarded-Anything",
        "X-Forwarded_Proto",
        "Forwarded",
        "X-MS-CLIENT-PRINCIPAL",
        "X-MS-CLIENT-PRINCIPAL-NAME",
        "x-ms_client-principal-id",
        "X-MS-TOKEN-AAD-ACCESS-TOKEN",
        "X-ARR-ClientCert",
        "x_arr_clientcert",
        "X-Forwarded-Client-Cert",
        "X-Client-Cert",
        "X-Client-Cert-Chain",
        "Client-Cert",
        "Client-Cert-Chain",
        "client_cert",
        "Client.Cert-Chain",
        "X-SSL-Cert",
        "X-SSL-Client-Verify",
        "SSL_CLIENT_CERT",
        "ssl-client-subject-dn",
        "X-Forwarded-Tls-Client-Cert",
        "X-Amzn-Mtls-Clientcert-Leaf",
        "Cf-Client-Cert-Der-Base64",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "x-http_method-override",
        "X-Real-IP",
        "True-Client-IP",
        "X-Entrada-Assertion",
        "X_Entrada_X",
        "x-request-id",
        "x~request!id",
        "Traceparent",
    ] {
        assert!(reserved.contains(&name(text)), "{text}");
        assert!(reserved.stops(&name(text)), "{text}");
    }
}

#[test]
fn fields_of_the_connection_stop_but_are_not_reserved() {
    let reserved = Reserved::default();

    for text in [
        "Connection",
        "Keep-Alive",
        "Keep_Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "transfer_encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Content_Length",
        "Expect",
        "HTTP2-Settings",
        "Proxy",
        "Proxy-Authorization",
        "Proxy-Connection",
        "proxy_anything",
    ] {
        assert!(reserved.stops(&name(text)), "{text}");
        assert!(!reserved.contains(&name(text)), "{text}");
    }
}

#[test]
fn what_nobody_claimed_passes() {
    let reserved = Reserved::default();

    for text in [
        "Accept",
        "Authorization",
        "Cookie",
        "Content-Type",
        "User-Agent",
        "X-Forward",
        "X-Forwardedfor",
        "X-Ms-Version",
        "X-Ms-Client-Request-Id",
        "X-Entrada",
        "Client-Id",
        "X-Client-Version",
        "X-SSL",
        "SSL-Clients",
        "X-Amzn-Trace-Id",
        "CF-Ray",
        "Host-Name",
        "Proximity",
        "X-User",
        "Remote",
        "Server",
        "X-Azure-FDID",
        "X-Auth-Token",
        "X-Requested-With",
        "CF-Access-Client-Id",
        "Origin",
        "Ivory",
        "a",
    ] {
        assert!(!reserved.stops(&name(text)), "{text}");
    }
}

#[test]
fn identity_is_reserved_everywhere_and_an_override_on_its_upstream() {
    let mut names = ReservedNames::default();
    names.enter(Some("orders"));
    names.claim(&name("X-Sso-User"), Claim::Identity);
    names.claim(&name("X-Tier"), Claim::Override);
    names.enter(None);
    names.claim(&name("X-Global"), Claim::Override);

    for (upstream, text, expected) in [
        (Some("orders"), "x_sso_user", true),
        (Some("graph"), "X.Sso-User", true),
        (None, "X-Sso-User", true),
        (Some("orders"), "X_Tier", true),
        (Some("graph"), "X-Tier", false),
        (None, "X-Tier", false),
        (Some("orders"), "X-Global", true),
        (Some("graph"), "X-Global", true),
        (Some("graph"), "X-Sso-Users", false),
    ] {
        assert_eq!(names.finish(upstream).contains(&name(text)), expected, "{upstream:?} {text}");
    }
}

#[test]
fn adding_to_a_reserved_name_is_an_error_wherever_it_is_claimed() {
    let mut names = ReservedNames::default();
    let place = |index| Place::root().key("inbound").index(index);
    names.enter(Some("orders"));
    names.adds_to(&name("X-Sso_User"), "append", &place(0));
    names.adds_to(&name("X-Forwarded-For"), "append", &place(1));
    names.adds_to(&name("X-Trail"), "skip", &place(2));
    names.enter(Some("graph"));
    names.claim(&name("X-Sso-User"), Claim::Identity);
    names.claim(&name("X-Trail"), Claim::Override);
    let mut faults = Faults::default();

    names.check(&mut faults);

    let places: Vec<_> = faults.iter().map(|fault| fault.place.clone()).collect();
    assert_eq!(places, [place(0), place(1)]);
}

proptest! {
    #[test]
    fn every_spelling_of_a_claimed_name_is_found(
        claimed in prop::collection::vec("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,24}", 1..40),
        odd in prop::collection::vec(prop::sample::select(b"!#$%&'*+.^_`|~-".to_vec()), 24),
    ) {
        let mut names = ReservedNames::default();
        for text in &claimed {
            names.claim(&name(text), Claim::Identity);
        }
        let reserved = names.finish(None);
        for text in &claimed {
            let other: String = text.bytes().zip(&odd)
                .map(|(byte, odd)| char::from(if byte.is_ascii_alphanumeric() { byte } else { *odd })).collect();
            prop_assert!(reserved.stops(&name(&other)), "{} as {}", text, other);
        }
    }
}

#[test]
fn names_of_other_front_ends_are_reserved_in_every_spelling() {
    let reserved = Reserved::default();

    for (_, _, names) in known::KNOWN.iter().filter(|(says, ..)| *says != known::Meaning::Connection) {
        for written in *names {
            for rest in if written.ends_with('*') { &["", "x", "Whatever-1"][..] } else { &[""] } {
                let text = written.replace('*', rest);
                for text in [text.clone(), text.to_ascii_uppercase(), text.replace('-', "_"), text.replace('-', ".")] {
                    assert!(reserved.contains(&name(&text)), "{text}");
                }
            }
        }
    }
}

#[test]
fn what_says_who_calls_may_be_believed_and_what_says_from_where_or_for_what_is_not() {
    for (text, gateways) in [
        ("X-Auth-Request-Email", false),
        ("x_msft_entra_identity", false),
        ("X-Remote-User", false),
        ("X-Forwarded-Client-Cert", false),
        ("X-Forwarded-Tls-Client-Cert-Info", false),
        ("X-SSL-Client-Verify", false),
        ("X-Forwarded-Client", true),
        ("X-Forwarded-User", false),
        ("X_Forwarded_Preferred_Username", false),
        ("Client-IP", true),
        ("X-Original-Host", true),
        ("X-Entrada-Assertion", true),
        ("Proxy-Authorization", true),
    ] {
        assert_eq!(Reserved::is_the_gateways(&name(text)), gateways, "{text}");
    }
}

#[test]
fn an_override_does_not_make_a_field_that_says_who_calls_readable() {
    let mut names = ReservedNames::default();
    names.claim(&name("X-Remote-User"), Claim::Override);
    names.claim(&name("X-Tier"), Claim::Override);
    let mut headers = Fields::of(&[("X_Remote_User", "root"), ("X-Tier", "root"), ("X-Userinfo", "root")]);

    let (reserved, read) = (names.finish(None), [name("X-Userinfo")]);
    Fields::default().sort_from(&mut headers, |name, _| reserved.sort(name, &read));

    assert_eq!(headers.lines(), ["x-tier: root", "x-userinfo: root"]);
}

#[test]
fn the_docs_print_the_whole_list() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reserved-headers.md");
    let mut table = "| subject | written by | names |\n| --- | --- | --- |\n".to_owned();
    for (says, by, names) in known::KNOWN {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        table.push_str(&format!("| {} | {by} | {} |\n", says.words(), names.join(", ")));
    }

    let page = std::fs::read_to_string(path).unwrap();

    assert!(page.contains(&table), "docs/reserved-headers.md should hold:\n{table}");
}

proptest! {
    #[test]
    fn a_name_is_found_by_its_longest_beginning(text in "(x|r|s|cf|_)[_a-z-]{0,3}(forwarded|client|remote|ssl|auth|cert|request)?[_-]?[a-z-]{0,12}") {
        let beginnings = Prefixes::known();
        let (folded, mut longest) = (fold(&text), None);
        for (says, _, names) in known::KNOWN {
            for start in names.iter().filter_map(|name| Some(fold(name.strip_suffix('*')?))) {
                if folded.starts_with(&*start) && longest.as_ref().is_none_or(|(length, _)| start.len() > *length) {
                    longest = Some((start.len(), *says == known::Meaning::Connection));
                }
            }
        }
        prop_assert_eq!(beginnings.find(text.as_bytes()).map(|stops| stops == Stops::Connection), longest.map(|(_, connection)| connection));
    }
}

/// Every name that is known or claimed here, prefixes with what may follow them, and names that are near them.
fn names_around(claimed: &'static [&'static str]) -> impl Strategy<Value = String> {
    let known: Vec<_> =
        known::KNOWN.iter().flat_map(|(_, _, names)| names.iter().copied()).chain(claimed.iter().copied()).collect();
    let near = prop::sample::select(known)
        .prop_flat_map(|name| (Just(name.trim_end_matches('*').to_owned()), "[!-~&&[^:]]{0,3}", prop::option::of(0..name.len())))
        .prop_map(|(name, rest, cut)| format!("{}{rest}", cut.map_or(&*name, |cut| &name[..cut.min(name.len())])));
    let odd = prop::collection::vec(prop::sample::select(b"!#$%&'*+.^_`|~-".to_vec()), 80);
    (prop_oneof![4 => near, 1 => "[a-zA-Z0-9_.-]{1,80}"], odd, any::<bool>()).prop_map(|(name, odd, upper)| {
        let spelt = name.bytes().zip(odd.into_iter().cycle());
        let spelt = spelt.map(|(byte, odd)| char::from(if byte.is_ascii_alphanumeric() { byte } else { odd }));
        let spelt: String = spelt.collect();
        if upper { spelt.to_ascii_uppercase() } else { spelt }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

    #[test]
    fn the_quick_reading_is_that_of_the_whole_list(text in names_around(&["X-Sso-User", "9lives", "_odd", "Zebra-Crossing-Of-A-Name-That-Is-Longer-Than-Sixty-Three-Letters-Are"])) {
        prop_assume!(!text.is_empty());
        let mut names = ReservedNames::default();
        let claimed = ["X-Sso-User", "9lives", "_odd", "Zebra-Crossing-Of-A-Name-That-Is-Longer-Than-Sixty-Three-Letters-Are"];
        claimed.iter().for_each(|claimed| names.claim(&name(claimed), Claim::Identity));
        let folded = fold(&text);
        let all = known::KNOWN.iter().flat_map(|(_, _, names)| names.iter().copied()).chain(claimed);
        let listed = all.into_iter().any(|listed| match listed.strip_suffix('*') {
            Some(prefix) => folded.starts_with(&*fold(prefix)),
            None => folded == fold(listed),
        });

        let reserved = names.finish(None);
        prop_assert_eq!(reserved.find(text.as_bytes()).is_some(), listed, "{}", text);
        if let Ok(name) = HeaderName::from_bytes(text.as_bytes()) {
            prop_assert_eq!(reserved.stops(&name), reserved.find(name.as_str().as_bytes()).is_some(), "{}", text);
        }
    }
}

#[test]
fn the_verdict_on_a_name_with_a_number_is_that_of_its_text() {
    let mut names = ReservedNames::default();
    names.claim(&name("Accept-Language"), Claim::Identity);
    names.claim(&name("Etag"), Claim::Override);
    let reserved = names.finish(None);

    for known in &Known::ALL[1..] {
        assert_eq!(reserved.verdict((*known).into()), reserved.find(known.text().as_bytes()), "{known:?}");
    }
    assert_eq!(reserved.sort(Known::AcceptLanguage.into(), &[]), Sorted::Goes);
    assert_eq!(reserved.sort(Known::Etag.into(), &[]), Sorted::Stays);
}

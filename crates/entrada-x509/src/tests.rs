//! Tests of trust in certificates, and of its duration.

use std::sync::Arc;

use tempfile::TempDir;

use super::{
    authorities::{LARGEST_FILE, SHARDS},
    testing::{Authority, Issued, NOW, Unusual, self_signed, write},
    *,
};

fn authorities(folder: &TempDir, ca: &str, lists: &[String]) -> Authorities {
    let ca = write(folder.path(), "ca.pem", ca);
    let lists: Vec<_> =
        lists.iter().enumerate().map(|(index, list)| write(folder.path(), &format!("{index}.crl"), list)).collect();
    Authorities::load(&ca, &lists).unwrap()
}

fn check(authorities: &Authorities, certificate: &ClientCertificate, now: u64) -> Result<(), CertificateFault> {
    authorities.judge(certificate, 0, now).check(Checks::ALL, now)
}

fn code(result: Result<(), CertificateFault>) -> &'static str {
    result.map_or_else(|fault| Refusal::from(fault).reason.code(), |()| "fine")
}

/// Returns the first second of a year.
fn year(year: i16) -> u64 {
    let time = jiff::civil::date(year, 1, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    u64::try_from(time.as_second()).unwrap()
}

#[test]
fn says_what_stands_in_the_certificate() {
    let authority = Authority::new("Fabrikam Root");
    let unusual = Unusual {
        dns_names: vec!["Client.Fabrikam.example".to_owned()],
        emails: vec!["Ops@fabrikam.example".to_owned()],
        uris: vec!["spiffe://fabrikam.example/Client".to_owned()],
        serial: Some(0xA1),
        ..Unusual::default()
    };
    let issued = authority.issue_unusual("client", &unusual);

    let certificate = issued.read(&[]);

    assert_eq!(certificate.subject(), "CN=client, O=Fabrikam\\, Inc., C=NL");
    assert_eq!(certificate.issuer(), "CN=Fabrikam Root, O=Fabrikam\\, Inc., C=NL");
    assert_eq!(certificate.common_name(), Some("client"));
    assert_eq!(certificate.serial(), "A1");
    assert_eq!(certificate.dns_names(), ["client.fabrikam.example".into()]);
    assert_eq!(certificate.emails(), ["Ops@fabrikam.example".into()]);
    assert_eq!(certificate.uris(), ["spiffe://fabrikam.example/Client".into()]);
    assert_eq!((certificate.not_before(), certificate.not_after()), (year(2025), year(2035)));
    assert_eq!(certificate.thumbprint(), &*hex(&hash::<20>(&SHA1_FOR_LEGACY_USE_ONLY, &issued.der)));
    assert_eq!(*certificate.sha256(), hash(&SHA256, &issued.der));
    for thumbprint in [certificate.thumbprint(), certificate.thumbprint_sha256()] {
        assert!(Thumbprint::parse(thumbprint).unwrap().is_of(&certificate));
        assert!(!Thumbprint::parse(thumbprint).unwrap().is_of(&self_signed("client").read(&[])));
    }
    assert_eq!(STANDARD.decode(certificate.encoded()).unwrap(), *issued.der);
    let printed = format!("{certificate:?}");
    assert_eq!(printed, format!("ClientCertificate {{ thumbprint_sha256: {:?}, .. }}", certificate.thumbprint_sha256()));
}

#[test]
fn what_is_no_certificate_is_not_read() {
    let der = self_signed("client").der;
    let with_more: Vec<u8> = der.iter().copied().chain([0]).collect();

    for chain in [vec![], vec![der[..der.len() - 1].to_vec()], vec![with_more], vec![der.to_vec(); LONGEST_CHAIN + 1]] {
        let chain: Vec<CertificateDer<'_>> = chain.into_iter().map(Into::into).collect();
        assert_eq!(ClientCertificate::read(&chain).err(), Some(Unreadable));
    }
}

#[test]
fn each_defect_has_its_own_word() {
    let folder = TempDir::new().unwrap();
    let (root, stranger) = (Authority::new("Root"), Authority::new("Root"));
    let sub = root.subordinate("Issuing", (2025, 2035));
    let old_sub = root.subordinate("Issuing 2010", (2010, 2020));
    let lists = [root.revoke(&[8], 2030), sub.revoke(&[9], 2030)];
    let plain = authorities(&folder, &root.pem(), &[]);
    let listed = authorities(&folder, &root.pem(), &lists);
    let years = |years| Unusual { years: Some(years), ..Unusual::default() };
    let serial = |serial| Unusual { serial: Some(serial), ..Unusual::default() };
    let unusual = |authority: &Authority, unusual: Unusual| authority.issue_unusual("client", &unusual);

    for (row, issued, more, expected, expected_with_lists) in [
        ("of the root", root.issue("client"), &[][..], "fine", "fine"),
        ("of one below it", sub.issue("client"), &[&sub], "fine", "fine"),
        ("with the root sent along", sub.issue("client"), &[&sub, &root], "fine", "fine"),
        ("without what issued it", sub.issue("client"), &[], "client-certificate-untrusted", "client-certificate-untrusted"),
        ("self-signed", self_signed("client"), &[], "client-certificate-untrusted", "client-certificate-untrusted"),
        (
            "of an authority of the same name",
            stranger.issue("client"),
            &[&stranger],
            "client-certificate-untrusted",
            "client-certificate-untrusted",
        ),
        (
            "for servers",
            unusual(&root, Unusual { for_servers: true, ..Unusual::default() }),
            &[],
            "client-certificate-untrusted",
            "client-certificate-untrusted",
        ),
        ("over", unusual(&root, years((2020, 2025))), &[], "client-certificate-expired", "client-certificate-expired"),
        ("to come", unusual(&root, years((2030, 2031))), &[], "client-certificate-expired", "client-certificate-expired"),
        (
            "over, and of a stranger",
            unusual(&stranger, years((2020, 2025))),
            &[],
            "client-certificate-untrusted",
            "client-certificate-untrusted",
        ),
        (
            "of one that is over",
            unusual(&old_sub, years((2015, 2035))),
            &[&old_sub],
            "client-certificate-expired",
            "client-certificate-expired",
        ),
        ("revoked", unusual(&root, serial(8)), &[], "fine", "client-certificate-revoked"),
        ("revoked by one below", unusual(&sub, serial(9)), &[&sub], "fine", "client-certificate-revoked"),
        ("another's serial", unusual(&root, serial(9)), &[], "fine", "fine"),
        (
            "revoked and over",
            unusual(&root, Unusual { serial: Some(8), ..years((2020, 2025)) }),
            &[],
            "client-certificate-expired",
            "client-certificate-expired",
        ),
    ] {
        let certificate = issued.read(more);
        for _ in 0..2 {
            assert_eq!(code(check(&plain, &certificate, NOW)), expected, "{row}");
            assert_eq!(code(check(&listed, &certificate, NOW)), expected_with_lists, "{row}, with lists");
        }
    }
}

#[test]
fn an_authority_itself_is_no_client() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    let sub = root.subordinate("Issuing", (2025, 2035));
    let authorities = authorities(&folder, &root.pem(), &[]);

    let certificate = ClientCertificate::read(&[sub.der()]).unwrap();

    assert_eq!(code(check(&authorities, &certificate, NOW)), "client-certificate-untrusted");
}

#[test]
fn a_list_must_be_there_for_every_issuer_and_must_not_be_overdue() {
    let folder = TempDir::new().unwrap();
    let (root, stranger) = (Authority::new("Root"), Authority::new("Root"));
    let sub = root.subordinate("Issuing", (2025, 2035));
    let certificate = sub.issue("client").read(&[&sub]);
    let of_root = || root.revoke(&[], 2030);

    for (row, lists, now, expected) in [
        ("both", vec![of_root(), sub.revoke(&[], 2030)], NOW, Ok(())),
        ("the issuing one's is missing", vec![of_root()], NOW, Err("no revocation list is there")),
        ("the root's is missing", vec![sub.revoke(&[], 2030)], NOW, Err("no revocation list is there")),
        ("one of a stranger", vec![stranger.revoke(&[], 2030), sub.revoke(&[], 2030)], NOW, Err("not signed by its issuer")),
        ("the last second", vec![of_root(), sub.revoke(&[], 2027)], year(2027) - 1, Ok(())),
        ("overdue", vec![of_root(), sub.revoke(&[], 2027)], year(2027), Err("older than its next update")),
        ("the issuing one itself is revoked", vec![root.revoke(&[77], 2030), sub.revoke(&[], 2030)], NOW, Err("was revoked")),
    ] {
        let authorities = authorities(&folder, &root.pem(), &lists);
        // Judged before, as on a connection that has been open for long.
        authorities.judge(&certificate, 0, NOW);
        let found = check(&authorities, &certificate, now).map_err(|fault| fault.to_string());
        match expected {
            Ok(()) => assert_eq!(found, Ok(()), "{row}"),
            Err(words) => assert!(found.as_ref().is_err_and(|fault| fault.contains(words)), "{row}: {found:?}"),
        }
    }
}

#[test]
fn time_is_held_against_the_whole_path_whenever_it_was_judged() {
    let folder = TempDir::new().unwrap();
    let root = Authority::valid_in("Root", (2025, 2029));
    let sub = root.subordinate("Issuing", (2026, 2028));
    let authorities = authorities(&folder, &root.pem(), &[]);
    let by_root = root.issue("client").read(&[]);
    let by_sub = sub.issue("client").read(&[&sub]);

    for (now, of_root, of_sub) in [
        (year(2025) - 1, "client-certificate-expired", "client-certificate-expired"),
        (year(2025), "fine", "client-certificate-expired"),
        (year(2026), "fine", "fine"),
        (year(2028), "fine", "fine"),
        (year(2028) + 1, "fine", "client-certificate-expired"),
        (year(2029), "fine", "client-certificate-expired"),
        (year(2029) + 1, "client-certificate-expired", "client-certificate-expired"),
    ] {
        assert_eq!(code(check(&authorities, &by_root, now)), of_root, "{now}");
        assert_eq!(code(check(&authorities, &by_sub, now)), of_sub, "{now}");
    }
}

#[test]
fn what_was_found_once_is_found_again() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    let authorities = authorities(&folder, &root.pem(), &[]);
    let (one, other) = (root.issue("one").read(&[]), root.issue("other").read(&[]));

    for worker in [0, 1, SHARDS, usize::MAX] {
        let judge = |certificate, now| authorities.judge(certificate, worker, now);
        let first = judge(&one, NOW);
        judge(&other, NOW);
        assert!(Arc::ptr_eq(&first, &judge(&one, NOW + 1)), "{worker}");
        assert!(
            Arc::ptr_eq(&first, &judge(&one, one.not_after() + 1)),
            "{worker}: nothing else can be found of one that is over"
        );
    }
}

#[test]
fn another_path_is_looked_for_where_an_issuer_has_ended_and_the_certificate_has_not() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    let sub = root.subordinate("Issuing", (2025, 2027));
    let renewed = sub.renewed_by(&root, "Issuing", (2025, 2030));
    let authorities = authorities(&folder, &root.pem(), &[]);
    let certificate = sub.issue("client").read(&[&sub, &renewed]);

    for (now, expected) in
        [(NOW, "fine"), (year(2027) + 1, "fine"), (year(2030), "fine"), (year(2030) + 1, "client-certificate-expired")]
    {
        assert_eq!(code(check(&authorities, &certificate, now)), expected, "{now}");
    }
}

#[test]
fn tells_how_long_something_is_from_being_valid() {
    let certificate = self_signed("client").read(&[]);
    let (from, until) = (certificate.not_before(), certificate.not_after());

    for (now, expected) in [
        (from - 7, Err(CertificateFault::NotYetValid(7))),
        (from, Ok(())),
        (until, Ok(())),
        (until + 7, Err(CertificateFault::Expired(7))),
    ] {
        assert_eq!(certificate.check_times(Checks::ALL, now), expected, "{now}");
        assert_eq!(certificate.is_valid_at(now), expected.is_ok(), "{now}");
    }
}

#[test]
fn authorities_and_lists_are_told_of_with_the_time_that_is_left() {
    const DAY: u64 = 86_400;
    let folder = TempDir::new().unwrap();
    let (root, other) = (Authority::new("Root"), Authority::valid_in("Other", (2025, 2027)));
    let twice = [root.pem(), other.pem(), root.pem()].concat();
    let without = authorities(&folder, &twice, &[]);
    let with = authorities(&folder, &twice, &[root.revoke(&[], 2027)]);
    let days = |until| i64::try_from((until - NOW) / DAY).unwrap();
    let (end, name) = (year(2027), |name: &str| format!("CN={name}, O=Fabrikam\\, Inc., C=NL").into_boxed_str());

    let told = |now| with.status(now).map(|status| (status.subject, status.days_left)).collect::<Vec<_>>();
    assert_eq!(told(NOW), [(name("Root"), days(year(2035))), (name("Other"), days(end))], "each once, whatever the file repeats");
    for (now, left) in [(end - DAY, 1), (end - DAY + 1, 0), (end, 0), (end + 1, -1), (end + 2 * DAY, -2)] {
        assert_eq!(told(now)[1].1, left, "{now}");
    }
    let lists = |now| with.list_status(now).map(|list| (list.issuer, list.seconds_left)).collect::<Vec<_>>();
    assert_eq!(lists(end - 9), [(name("Root"), 9)]);
    assert_eq!(lists(end + 9), [(name("Root"), -9)]);
    assert!(with.has_lists() && !without.has_lists() && without.list_status(NOW).next().is_none());

    let names: Vec<_> = with.names().map(|name| name.as_ref().to_vec()).collect();
    let own = |authority: &Authority| {
        let der = authority.der();
        X509Certificate::from_der(&der).unwrap().1.subject().as_raw().to_vec()
    };
    assert_eq!(names, [own(&root), own(&other)]);
    let printed = format!("{with:?}");
    assert_eq!(printed, format!("Authorities {{ subjects: {:?}, lists: 1, .. }}", [name("Root"), name("Other")]));
}

#[test]
fn a_question_that_is_not_asked_is_not_answered() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    let authorities = authorities(&folder, &root.pem(), &[root.revoke(&[8], 2030)]);
    let years = |years, serial| Unusual { years: Some(years), serial: Some(serial), ..Unusual::default() };
    let over = root.issue_unusual("client", &years((2020, 2025), 7)).read(&[]);
    let to_come = root.issue_unusual("client", &years((2030, 2031), 7)).read(&[]);
    let revoked = root.issue_unusual("client", &years((2025, 2035), 8)).read(&[]);

    for (certificate, checks, expected) in [
        (&over, Checks { not_after: false, ..Checks::ALL }, "fine"),
        (&over, Checks { not_before: false, ..Checks::ALL }, "client-certificate-expired"),
        (&to_come, Checks { not_before: false, ..Checks::ALL }, "fine"),
        (&to_come, Checks { not_after: false, ..Checks::ALL }, "client-certificate-expired"),
        (&revoked, Checks { revocation: false, ..Checks::ALL }, "fine"),
        (&revoked, Checks::ALL, "client-certificate-revoked"),
    ] {
        assert_eq!(code(authorities.judge(certificate, 0, NOW).check(checks, NOW)), expected, "{checks:?}");
    }
}

#[test]
fn knows_what_issued_a_certificate() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    let sub = root.subordinate("Issuing", (2025, 2035));
    let authorities = authorities(&folder, &root.pem(), &[]);
    let sha1 = |authority: &Authority| Thumbprint::Sha1(hash(&SHA1_FOR_LEGACY_USE_ONLY, &authority.der()));
    let of = |authority: &Authority| Thumbprint::Sha256(hash(&SHA256, &authority.der()));
    let issued = |issued: Issued, more: &[&Authority]| authorities.judge(&issued.read(more), 0, NOW);

    let (by_root, by_sub) = (issued(root.issue("client"), &[]), issued(sub.issue("client"), &[&sub]));

    assert!(by_root.is_issued_by(&of(&root)) && !by_root.is_issued_by(&of(&sub)));
    assert!(by_sub.is_issued_by(&of(&sub)) && !by_sub.is_issued_by(&of(&root)));
    assert!(by_sub.is_issued_by(&sha1(&sub)) && !by_sub.is_issued_by(&sha1(&root)));
    assert!(!issued(self_signed("client"), &[]).is_issued_by(&of(&root)));
}

#[test]
fn files_that_would_check_nothing_are_refused() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    let file = |name: &str, text: &str| write(folder.path(), name, text);
    let (ca, list) = (file("ca.pem", &root.pem()), file("root.crl", &root.revoke(&[], 2030)));
    let load = |ca: &std::path::Path, list: &std::path::Path| {
        let errors = Authorities::load(ca, &[list.to_owned()]).err().unwrap_or_default();
        errors.into_iter().map(|(index, error)| (index, error.to_string(), error.cure())).collect::<Vec<_>>()
    };
    assert_eq!(load(&ca, &list), []);

    let empty = file("empty", "");
    let key = file("client.key", &root.issue("client").key_pem);
    let leaf = file("leaf.pem", &root.issue("client").pem);
    let damaged = file("damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let damaged_list = file("damaged.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    let (may_read, kind) = ("that the gateway may read", "with the certificates of authorities (PEM), or with revocation lists");
    for (ca, list, index, words, cure) in [
        (&folder.path().join("nowhere"), &list, None, "cannot be read", may_read),
        (&empty, &list, None, "holds no certificate", kind),
        (&key, &list, None, "holds no certificate", kind),
        (&leaf, &list, None, "is not an authority", "name the authority that issued it"),
        (&damaged, &list, None, "holds a certificate that cannot be read", kind),
        (&ca, &folder.path().join("nowhere"), Some(0), "cannot be read", may_read),
        (&ca, &empty, Some(0), "holds no revocation list", kind),
        (&ca, &ca, Some(0), "holds no revocation list", kind),
        (&ca, &damaged_list, Some(0), "of a kind that is not supported", "name complete lists"),
    ] {
        let errors = load(ca, list);
        let [(found_index, told, offered)] = errors.as_slice() else { panic!("{words}: {errors:?}") };
        assert_eq!(*found_index, index, "{words}");
        assert!(told.contains(words) && offered.contains(cure), "{words}: {told}; {offered}");
    }
}

#[test]
fn a_file_far_too_large_is_not_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("large.pem");
    let file = std::fs::File::create(&path).unwrap();
    let load = || Authorities::load(&path, &[]).err().unwrap();

    // It takes no room: nothing is written.
    file.set_len(LARGEST_FILE).unwrap();
    assert!(matches!(load().as_slice(), [(None, AuthoritiesError::Empty { .. })]));
    file.set_len(LARGEST_FILE + 1).unwrap();
    let errors = load();

    let [(None, AuthoritiesError::Read { source, .. })] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!(source.to_string(), "it is far too large");
}

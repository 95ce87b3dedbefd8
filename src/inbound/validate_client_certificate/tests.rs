//! Tests of settings, and of the certificates that match them.

use tempfile::TempDir;

use super::*;
use crate::{
    certificate::testing::{Authority, NOW, Unusual, self_signed, write},
    inbound::{
        build_context::{AskedCertificates, CertificateContext},
        testing::Building,
    },
};

const ASKED: AskedCertificates = AskedCertificates { any: true, required: false, every_one_has_lists: false };

fn build(yaml: &str, asked: AskedCertificates, folder: &TempDir) -> Result<ValidateClientCertificate, Vec<String>> {
    let config: ValidateClientCertificateConfig = crate::settings::testing::part(yaml);
    let certificates = CertificateContext { base: folder.path(), asked, validated: false };
    Building { certificates, ..Building::default() }.build(|place, scope| {
        let built = ValidateClientCertificate::build(&config, place, scope);
        assert!(scope.certificates.validated);
        built
    })
}

#[test]
fn settings_that_would_check_nothing_are_faults() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    write(folder.path(), "ca.pem", root.pem());
    write(folder.path(), "root.crl", root.revoke(&[], 2030));
    let (none, lists) = (AskedCertificates::default(), AskedCertificates { every_one_has_lists: true, ..ASKED });
    let sha1 = "AB".repeat(20);
    let from = "from: { header: X-ARR-ClientCert, addresses: [10.1.0.0/28] }";

    for (yaml, asked, expected) in [
        ("{}".to_owned(), ASKED, None),
        ("{}".to_owned(), none, Some("no listener asks clients for certificates")),
        ("{ ca: ca.pem }".to_owned(), none, Some("no listener asks clients for certificates")),
        ("{ ca: ca.pem, crl: [root.crl], validate-revocation: true }".to_owned(), ASKED, None),
        ("{ ca: ca.pem, validate-revocation: true }".to_owned(), lists, Some("no revocation lists to look into")),
        ("{ validate-revocation: true }".to_owned(), ASKED, Some("no revocation lists to look into")),
        ("{ validate-revocation: true }".to_owned(), lists, None),
        ("{ crl: [root.crl] }".to_owned(), ASKED, Some("lists of no authority")),
        ("{ ca: nowhere.pem }".to_owned(), ASKED, Some("cannot be read")),
        ("{ ca: root.crl }".to_owned(), ASKED, Some("holds no certificate")),
        ("{ ca: ca.pem, crl: [ca.pem] }".to_owned(), ASKED, Some("holds no revocation list")),
        ("{ validate-trust: false }".to_owned(), ASKED, Some("every certificate would be let through")),
        (format!("{{ validate-trust: false, identities: [{{ thumbprint: {sha1} }}] }}"), ASKED, None),
        ("{ validate-trust: false, identities: [{ subject: CN=a }] }".to_owned(), ASKED, Some("anybody can make a certificate")),
        (
            format!("{{ validate-trust: false, identities: [{{ thumbprint: {sha1}, issuer-thumbprint: {sha1} }}] }}"),
            ASKED,
            Some("nothing is known of the issuer"),
        ),
        (
            format!("{{ validate-trust: false, ca: ca.pem, identities: [{{ thumbprint: {sha1} }}] }}"),
            ASKED,
            Some("no authority is asked"),
        ),
        (
            format!("{{ validate-trust: false, validate-revocation: true, identities: [{{ thumbprint: {sha1} }}] }}"),
            ASKED,
            Some("no authority is known whose lists"),
        ),
        ("{ identities: [] }".to_owned(), ASKED, Some("the list is empty, so every caller would be refused")),
        ("{ identities: [{}] }".to_owned(), ASKED, Some("every one would fit")),
        ("{ identities: [{ thumbprint: abc }] }".to_owned(), ASKED, Some("`abc` is not a thumbprint")),
        ("{ identities: [{ serial-number: xyz }] }".to_owned(), ASKED, Some("`xyz` is not a serial number")),
        ("{ identities: [{ subject: daemon }] }".to_owned(), ASKED, Some("`daemon` is not a name")),
        ("{ identities: [{ issuer-subject: XY=a }] }".to_owned(), ASKED, Some("not a known type of attribute")),
        ("{ identities: [{ common-name: '' }] }".to_owned(), ASKED, Some("this text is empty")),
        (format!("{{ ca: ca.pem, {from} }}"), none, None),
        (format!("{{ {from} }}"), ASKED, None),
        (format!("{{ {from} }}"), none, Some("not said which authorities are trusted")),
        (format!("{{ {from}, validate-trust: false, identities: [{{ thumbprint: {sha1} }}] }}"), none, None),
        ("{ ca: ca.pem, from: { header: X-A, addresses: [] } }".to_owned(), none, Some("would never be believed")),
        ("{ ca: ca.pem, from: { header: X-A, addresses: [0.0.0.0/0] } }".to_owned(), none, Some("could claim any certificate")),
        ("{ ca: ca.pem, from: { header: X-A, addresses: [10.1.0.1], require-header: { X-B: [c] } } }".to_owned(), none, None),
        (
            "{ ca: ca.pem, from: { header: X-A, addresses: [10.1.0.1], require-header: { X-B: [] } } }".to_owned(),
            none,
            Some("no value is listed"),
        ),
        ("{ ca: ca.pem, from: { header: 'X A', addresses: [10.1.0.1] } }".to_owned(), none, Some("is not a header name")),
        ("{ ca: ca.pem, from: { header: Cookie, addresses: [10.1.0.1] } }".to_owned(), none, Some("holds no certificate")),
    ] {
        match (build(&yaml, asked, &folder), expected) {
            (Ok(_), None) => {}
            (Err(faults), Some(words)) => assert!(faults.len() == 1 && faults[0].contains(words), "{yaml}: {faults:?}"),
            (built, _) => panic!("{yaml}: {built:?}"),
        }
    }
}

#[test]
fn an_identity_fits_with_all_that_is_written_of_it() {
    let folder = TempDir::new().unwrap();
    let root = Authority::new("Root");
    let authorities = {
        let ca = write(folder.path(), "ca.pem", root.pem());
        Authorities::load(&ca, &[]).unwrap()
    };
    let unusual = Unusual { dns_names: vec!["daemon.fabrikam.example".to_owned()], serial: Some(0xAF3), ..Unusual::default() };
    let certificate = root.issue_unusual("daemon", &unusual).read(&[]);
    let of_root = ClientCertificate::read(&[root.der()]).unwrap();
    let subject = "CN=daemon, O=\\\"Fabrikam, Inc.\\\", C=NL";

    for (identities, expected) in [
        ("[{ common-name: daemon }]".to_owned(), true),
        ("[{ common-name: Daemon }]".to_owned(), false),
        ("[{ common-name: other }, { common-name: daemon }]".to_owned(), true),
        ("[{ common-name: daemon, serial-number: '0a:f3' }]".to_owned(), true),
        ("[{ common-name: daemon, serial-number: '0a:f4' }]".to_owned(), false),
        (format!("[{{ subject: \"{subject}\" }}]"), true),
        ("[{ subject: \"CN=daemon, O=Fabrikam\\\\, Inc., C=NL\" }]".to_owned(), true),
        ("[{ subject: \"C=NL, O=Fabrikam\\\\, Inc., CN=daemon\" }]".to_owned(), false),
        ("[{ subject: CN=daemon }]".to_owned(), false),
        ("[{ dns-name: Daemon.Fabrikam.example }]".to_owned(), true),
        ("[{ dns-name: fabrikam.example }]".to_owned(), false),
        ("[{ uri: spiffe://fabrikam.example/daemon }]".to_owned(), false),
        ("[{ email: daemon@fabrikam.example }]".to_owned(), false),
        ("[{ issuer-subject: \"CN=Root, O=Fabrikam\\\\, Inc., C=NL\" }]".to_owned(), true),
        ("[{ issuer-subject: CN=Root }]".to_owned(), false),
        (format!("[{{ thumbprint: {} }}]", certificate.thumbprint()), true),
        (format!("[{{ thumbprint: {} }}]", certificate.thumbprint_sha256()), true),
        (format!("[{{ thumbprint: {} }}]", of_root.thumbprint()), false),
        (format!("[{{ issuer-thumbprint: {} }}]", of_root.thumbprint()), true),
        (format!("[{{ issuer-thumbprint: {} }}]", certificate.thumbprint()), false),
    ] {
        let policy = build(&format!("{{ identities: {identities} }}"), ASKED, &folder).unwrap();
        let found = policy.judge_by(&certificate, Some(&authorities), 0, NOW);
        assert_eq!(found.is_ok(), expected, "{identities}: {found:?}");
    }
}

#[test]
fn a_pinned_certificate_needs_no_authority_but_its_time() {
    let folder = TempDir::new().unwrap();
    let certificate = self_signed("daemon").read(&[]);
    let policy = |more: &str| {
        let thumbprint = certificate.thumbprint_sha256();
        build(&format!("{{ validate-trust: false, identities: [{{ thumbprint: {thumbprint} }}]{more} }}"), ASKED, &folder)
            .unwrap()
    };
    let judged = |policy: &ValidateClientCertificate, now| policy.judge_by(&certificate, None, 0, now);

    assert_eq!(judged(&policy(""), NOW), Ok(()));
    assert_eq!(judged(&policy(""), certificate.not_after() + 3), Err(CertificateFault::Expired(3)));
    assert_eq!(judged(&policy(""), certificate.not_before() - 3), Err(CertificateFault::NotYetValid(3)));
    assert_eq!(judged(&policy(", validate-not-after: false"), certificate.not_after() + 3), Ok(()));
    let other = self_signed("daemon").read(&[]);
    assert!(matches!(policy("").judge_by(&other, None, 0, NOW), Err(CertificateFault::NotAllowed { .. })));
}

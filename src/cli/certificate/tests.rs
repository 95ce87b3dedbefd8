//! Tests that Entra would accept our certificates, and that the content of a file is shown correctly.

use std::process::Command as Program;

use super::*;
use crate::base::clock::Clock;

/// 2026-11-21 12:00 UTC.
const NOW: u64 = 1_795_262_400;

fn made() -> Made {
    NewCertificate { subject: "CN=gateway,O=Contoso".to_owned(), days: 90, bits: 2048 }.make(&Clock::manual(NOW)).expect("makes")
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("writes");
    path
}

fn arguments(line: &[&str]) -> CertificateArguments {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: CertificateArguments,
    }
    <Line as clap::Parser>::try_parse_from(["certificate"].iter().chain(line)).expect("parses").arguments
}

#[test]
fn shows_what_was_made() {
    let folder = tempfile::tempdir().expect("folder");
    let made = made();
    let file = write(folder.path(), "gateway.pem", made.pem().as_bytes());

    let found = inspect(&file, None, None, &Clock::manual(NOW + 86_400)).expect("inspects");

    assert_eq!((found.subject.as_str(), found.private_key), ("CN=gateway, O=Contoso", KeyFinding::Matches));
    assert_eq!((found.key_type.as_str(), found.key_bits, found.days_left), ("RSA", 2048, 88));
    assert_eq!(
        (found.thumbprint, found.x5t, found.x5t_s256),
        (made.thumbprints().hex(), made.thumbprints().x5t(), made.thumbprints().x5t_s256())
    );
    assert_eq!((found.not_before.as_str(), found.problems), ("2026-11-21T11:55:00Z", Vec::<String>::new()));
}

#[test]
fn shows_der_and_pem_without_key() {
    let folder = tempfile::tempdir().expect("folder");
    let made = made();

    for file in [write(folder.path(), "a.der", made.der()), write(folder.path(), "a.cer", made.certificate_pem())] {
        let found = inspect(&file, None, None, &Clock::manual(NOW)).expect("inspects");
        assert_eq!((found.private_key, found.x5t_s256), (KeyFinding::Absent, made.thumbprints().x5t_s256()));
    }
}

#[test]
fn tells_a_wrong_password_from_a_wrong_file() {
    let folder = tempfile::tempdir().expect("folder");
    let made = made();
    let password = SecretString::from("Grüße 1");
    let file = write(folder.path(), "gateway.pfx", made.pfx(&password).expect("PFX"));
    let junk = write(folder.path(), "junk.pfx", b"not a certificate");
    let look = |file: &Path, password: Option<&str>| {
        inspect(file, None, password.map(SecretString::from).as_ref(), &Clock::manual(NOW)).map_err(|error| error.to_string())
    };

    let found = look(&file, Some("Grüße 1")).expect("inspects");

    assert_eq!((found.private_key, found.x5t), (KeyFinding::Matches, made.thumbprints().x5t()));
    assert!(look(&file, Some("other")).expect_err("refuses").contains("the password is wrong"));
    assert!(look(&file, None).expect_err("refuses").contains("--password-file"));
    assert!(look(&junk, Some("x")).expect_err("refuses").contains("neither PEM nor DER nor PFX"));
    assert!(made.pfx(&SecretString::from("")).is_err());
}

#[test]
fn lists_what_entra_would_refuse() {
    let folder = tempfile::tempdir().expect("folder");
    let (one, other) = (made(), made());
    let mixed = write(
        folder.path(),
        "mixed.pem",
        format!("{}{}", one.certificate_pem(), other.pem().split_once("-----END CERTIFICATE-----\n").expect("PEM").1),
    );
    let elliptic = rcgen::generate_simple_self_signed(["gateway.contoso.example".to_owned()]).expect("makes");
    let elliptic = write(folder.path(), "ec.pem", elliptic.cert.pem() + &elliptic.signing_key.serialize_pem());
    let cut = one.pem().replace("-----BEGIN PRIVATE KEY-----\nMII", "-----BEGIN PRIVATE KEY-----\nAII");
    let cut = write(folder.path(), "cut.pem", cut);

    let expired = inspect(&write(folder.path(), "old.pem", one.pem().as_bytes()), None, None, &Clock::manual(NOW + 91 * 86_400))
        .expect("inspects");
    let mixed = inspect(&mixed, None, None, &Clock::manual(NOW)).expect("inspects");
    let elliptic = inspect(&elliptic, None, None, &Clock::manual(NOW)).expect("inspects");
    let cut = inspect(&cut, None, None, &Clock::manual(NOW)).expect("inspects");

    assert_eq!((expired.problems, expired.days_left), (vec!["it has expired".to_owned()], -2));
    assert_eq!((mixed.private_key, mixed.problems.len()), (KeyFinding::Differs, 1));
    assert!(elliptic.problems[0].contains("RSA keys only"));
    assert_eq!((elliptic.private_key, elliptic.key_type.as_str()), (KeyFinding::Matches, "EC"));
    assert_eq!((cut.private_key, cut.problems.len()), (KeyFinding::Unusable, 1));
}

#[test]
fn the_manifest_entry_is_complete() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let made = made();

    let entry = made.key_credential();

    assert_eq!((&entry["type"], &entry["usage"]), (&"AsymmetricX509Cert".into(), &"Verify".into()));
    assert_eq!(STANDARD.decode(entry["key"].as_str().expect("text")).expect("base64"), made.der());
    let name = STANDARD.decode(entry["customKeyIdentifier"].as_str().expect("text")).expect("base64");
    assert_eq!(name, made.thumbprints().sha1());
    assert_eq!(entry["endDateTime"], "2027-02-19T11:55:00Z");
}

#[cfg(unix)]
#[test]
fn writes_files_that_only_the_owner_reads_and_replaces_none_unasked() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("folder");
    let (pem, pfx) = (folder.path().join("a.pem"), folder.path().join("a.pfx"));
    let line = ["new", "--subject", "CN=a", "--out", pem.to_str().expect("path"), "--pfx", pfx.to_str().expect("path")];

    run(&arguments(&line)).expect("makes");

    for name in ["a.pem", "a.pfx", "a.pfx.password"] {
        let mode = std::fs::metadata(folder.path().join(name)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(format!("{:#}", run(&arguments(&line)).expect_err("refuses")).contains("--force"));
    run(&arguments(&[&line[..], &["--force"]].concat())).expect("replaces");
    let password = folder.path().join("a.pfx.password");
    let shown = run(&arguments(&["show", pfx.to_str().expect("path"), "--password-file", password.to_str().expect("path")]));
    assert_eq!(format!("{:?}", shown.expect("shows")), format!("{:?}", ExitCode::SUCCESS));
}

/// Compares with OpenSSL, if it is installed.
#[test]
fn openssl_reads_what_we_write_and_we_read_what_it_writes() {
    let folder = tempfile::tempdir().expect("folder");
    let openssl = |line: &[&str]| Program::new("openssl").args(line).current_dir(folder.path()).output();
    if openssl(&["version"]).is_err() {
        eprintln!("skipped: no openssl on this machine");
        return;
    }
    let made = made();
    write(folder.path(), "a.pem", made.pem().as_bytes());
    write(folder.path(), "a.pfx", made.pfx(&SecretString::from("pw")).expect("PFX"));

    let read = openssl(&["pkcs12", "-in", "a.pfx", "-passin", "pass:pw", "-nodes"]).expect("runs");
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(read.status.success() && text.contains("BEGIN PRIVATE KEY") && text.contains("BEGIN CERTIFICATE"), "{read:?}");
    let written = openssl(&["pkcs12", "-export", "-in", "a.pem", "-out", "b.pfx", "-passout", "pass:pw2"]).expect("runs");
    assert!(written.status.success(), "{written:?}");
    let found =
        inspect(&folder.path().join("b.pfx"), None, Some(&SecretString::from("pw2")), &Clock::manual(NOW)).expect("inspects");
    assert_eq!((found.private_key, found.x5t_s256), (KeyFinding::Matches, made.thumbprints().x5t_s256()));
}

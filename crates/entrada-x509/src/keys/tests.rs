use std::sync::LazyLock;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    testing::{self, Made},
    *,
};

static GATEWAY: LazyLock<Made> = LazyLock::new(|| testing::certificate("gateway"));
static OTHER: LazyLock<Made> = LazyLock::new(|| testing::certificate("other"));

fn load(text: &str) -> Result<KeyedCertificate, CertificateError> {
    KeyedCertificate::from_pem(text.as_bytes(), None, None)
}

#[test]
fn reads_certificate_and_key_however_they_are_written() {
    let (certificate, key) = (&GATEWAY.certificate_pem, &GATEWAY.key_pem);
    let pkcs1 = GATEWAY.key_pkcs1_pem();

    for (name, text) in [
        ("certificate first", format!("{certificate}{key}")),
        ("key first", format!("{key}{certificate}")),
        ("PKCS#1", format!("{certificate}{pkcs1}")),
        ("Windows line ends", format!("{certificate}{key}").replace('\n', "\r\n")),
        ("line ends of old", format!("{certificate}{key}").replace('\n', "\r")),
        ("blanks behind lines", format!("{certificate}{key}").replace('\n', " \t\r\n")),
        ("byte order mark", format!("\u{feff}{certificate}{key}")),
        (
            "bag attributes",
            format!(
                "Bag Attributes\n    localKeyID: 01 \nsubject=CN = gateway\n{certificate}Key Attributes: <No Attributes>\n{key}"
            ),
        ),
        ("no line end at the end", format!("{certificate}{}", key.trim_end())),
        ("another certificate first", format!("{}{certificate}{key}", OTHER.certificate_pem)),
        ("another key too", format!("{certificate}{}{key}", OTHER.key_pem)),
    ] {
        let pair = load(&text).unwrap_or_else(|error| panic!("{name}: {error}"));

        assert_eq!(pair.certificate().subject(), "CN=gateway", "{name}");
        assert_eq!(pair.certificate().bits(), 2_048, "{name}");
    }
}

#[test]
fn keeps_the_other_certificates_as_the_chain() {
    let text = format!("{}{}{}", OTHER.certificate_pem, GATEWAY.certificate_pem, GATEWAY.key_pem);

    let pair = load(&text).unwrap();

    assert_eq!(pair.certificate().chain().collect::<Vec<_>>(), [&*OTHER.certificate_der]);
}

#[test]
fn reads_the_key_from_a_file_of_its_own() {
    let pair = KeyedCertificate::from_pem(GATEWAY.certificate_pem.as_bytes(), Some(GATEWAY.key_pem.as_bytes()), None).unwrap();

    assert_eq!(pair.certificate().der(), &*GATEWAY.certificate_der);
}

#[test]
fn says_what_is_wrong_with_a_file() {
    let (certificate, key) = (&GATEWAY.certificate_pem, &GATEWAY.key_pem);
    let elliptic = testing::elliptic_certificate();
    let old_encryption = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let cut = &key[..key.len() / 2];

    for (name, text, expected) in [
        ("nothing", String::new(), "the file is empty"),
        ("blanks", " \r\n".to_owned(), "the file is empty"),
        ("no PEM", "0\u{82}\u{3}binary".to_owned(), "there is no PEM block in it"),
        ("no certificate", key.clone(), "there is no certificate in it"),
        ("no key", certificate.clone(), "there is no private key in it"),
        ("cut off", format!("{certificate}{cut}"), "a PEM block is damaged"),
        (
            "another's key",
            format!("{certificate}{}", OTHER.key_pem),
            "the private key does not belong to the certificate of CN=gateway",
        ),
        (
            "old encryption",
            format!("{certificate}{old_encryption}"),
            "the private key is encrypted in OpenSSL's legacy format (Proc-Type: 4,ENCRYPTED)",
        ),
        (
            "elliptic",
            format!("{}{}", elliptic.certificate_pem, elliptic.key_pem),
            "the private key is not an RSA key, but Entra accepts only RSA keys",
        ),
        (
            "elliptic certificate",
            format!("{}{key}", elliptic.certificate_pem),
            "the certificate has no RSA key, but Entra accepts only RSA keys",
        ),
        ("short", format!("{SHORT_CERTIFICATE}{key}"), "the RSA key has 1024 bits, and Entra accepts no fewer than 2048"),
        (
            "damaged certificate",
            format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{key}"),
            "the certificate cannot be read",
        ),
    ] {
        let error = load(&text).expect_err(name);

        assert_eq!(error.to_string(), expected, "{name}");
        assert!(!error.cure().is_empty(), "{name}");
    }
}

#[test]
fn opens_encrypted_keys_with_their_password_alone() {
    use pkcs8::pkcs5::pbes2::Parameters;

    let modern = Parameters::generate_pbkdf2_sha256_aes256cbc(2_048, &[7; 16], [9; 16]).unwrap();
    // What OpenSSL 1.0 wrote: PBKDF2 with HMAC-SHA-1, and 3DES.
    let mut old = modern.clone();
    old.kdf = pkcs8::pkcs5::pbes2::Kdf::Pbkdf2(pkcs8::pkcs5::pbes2::Pbkdf2Params {
        salt: pkcs8::pkcs5::pbes2::Salt::new([7; 8]).unwrap(),
        iteration_count: 2_048,
        key_length: None,
        prf: pkcs8::pkcs5::pbes2::Pbkdf2Prf::HmacWithSha1,
    });
    old.encryption = pkcs8::pkcs5::pbes2::EncryptionScheme::DesEde3Cbc { iv: [9; 8] };
    for (name, parameters) in [("AES", modern), ("3DES", old)] {
        let key = GATEWAY.key_encrypted_pem(&parameters, "correct horse");
        let load = |password: Option<&str>| {
            let password = password.map(SecretString::from);
            KeyedCertificate::from_pem(GATEWAY.certificate_pem.as_bytes(), Some(key.as_bytes()), password.as_ref())
        };

        assert!(load(Some("correct horse")).is_ok(), "{name}: {:?}", load(Some("correct horse")));
        assert!(matches!(load(Some("wrong")), Err(CertificateError::WrongPassword)), "{name}");
        assert!(matches!(load(None), Err(CertificateError::Encrypted)), "{name}");
    }
}

#[test]
fn opens_pfx_files_modern_and_old() {
    use p12_keystore::{EncryptionAlgorithm, MacAlgorithm};

    for (name, encryption, mac) in [
        ("AES", EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256),
        ("3DES", EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc, MacAlgorithm::HmacSha1),
        ("RC2", EncryptionAlgorithm::PbeWithShaAnd40BitRc4Cbc, MacAlgorithm::HmacSha1),
    ] {
        for password in ["hunter2", "pässwörd", ""] {
            let pfx = GATEWAY.pfx(password, encryption, mac);
            let load = |password: &str| KeyedCertificate::from_pfx(&pfx, Some(&SecretString::from(password)));

            let pair = load(password).unwrap_or_else(|error| panic!("{name} `{password}`: {error}"));
            assert_eq!(pair.certificate().subject(), "CN=gateway");
            assert!(matches!(load("wrong"), Err(CertificateError::WrongPassword)), "{name} `{password}`");
            let without = KeyedCertificate::from_pfx(&pfx, None);
            assert_eq!(password.is_empty(), without.is_ok(), "{name} `{password}`: {without:?}");
        }
    }
}

#[test]
fn says_what_is_wrong_with_a_pfx_file() {
    for (name, bytes) in [("PEM", GATEWAY.pem().into_bytes()), ("DER", GATEWAY.certificate_der.clone()), ("nothing", Vec::new())]
    {
        let error = KeyedCertificate::from_pfx(&bytes, None).expect_err(name);

        assert!(matches!(error, CertificateError::NotPfx), "{name}: {error:?}");
    }
}

#[test]
fn tells_a_pfx_that_is_cut_off_from_one_whose_password_is_wrong() {
    use p12_keystore::{EncryptionAlgorithm, MacAlgorithm};

    let pfx = GATEWAY.pfx("hunter2", EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256);
    let password = SecretString::from("hunter2");
    for length in [pfx.len() - 1, pfx.len() / 2, 4] {
        let error = KeyedCertificate::from_pfx(&pfx[..length], Some(&password)).expect_err("it is cut off");

        assert_eq!(error.to_string(), format!("the PKCS#12 file is cut off: {length} bytes of {}", pfx.len()));
    }
    for length in [0, 1, 3] {
        assert!(matches!(KeyedCertificate::from_pfx(&pfx[..length], Some(&password)), Err(CertificateError::NotPfx)));
    }
}

#[test]
fn a_key_of_another_kind_beside_the_right_one_does_no_harm() {
    let elliptic = testing::elliptic_certificate();
    let text = format!("{}{}{}{}", elliptic.certificate_pem, elliptic.key_pem, GATEWAY.certificate_pem, GATEWAY.key_pem);

    assert_eq!(load(&text).unwrap().certificate().subject(), "CN=gateway");
}

/// Checks that no wrong password is reported as a broken key: bad padding reveals most of them, the decrypted content the rest.
#[test]
fn every_wrong_password_is_called_one() {
    let parameters = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(1, &[7; 16], [9; 16]).unwrap();
    let key = GATEWAY.key_encrypted_pem(&parameters, "correct horse");
    for number in 0..1_000 {
        let password = SecretString::from(format!("wrong {number}"));
        let pair = KeyedCertificate::from_pem(GATEWAY.certificate_pem.as_bytes(), Some(key.as_bytes()), Some(&password));

        assert!(matches!(pair, Err(CertificateError::WrongPassword)), "{number}: {pair:?}");
    }
}

#[test]
fn refuses_text_in_utf16() {
    let text: Vec<u8> = [0xff, 0xfe].into_iter().chain(GATEWAY.key_pem.bytes().flat_map(|byte| [byte, 0])).collect();

    assert!(matches!(KeyedCertificate::from_pem(&text, None, None), Err(CertificateError::Utf16)));
}

#[test]
fn thumbprints_are_those_that_microsofts_clients_send() {
    // The certificate and its thumbprints stand in the captures of real clients.
    let captured: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/client-certificates.json")).unwrap();

    for entry in captured.as_array().unwrap() {
        let text = |name: &str| entry[name].as_str().unwrap();
        let der = CertificateDer::from_pem_slice(text("pem").as_bytes()).unwrap();

        let certificate = Certificate::from_der(&der).unwrap();

        assert_eq!(certificate.x5t(), text("x5t"));
        assert_eq!(certificate.x5t_s256(), text("x5t#S256"));
        assert_eq!(certificate.thumbprint(), text("sha1_hex").to_uppercase());
        assert_eq!(certificate.thumbprints().hex_sha256(), text("sha256_hex").to_uppercase());
    }
}

#[test]
fn counts_the_days_that_are_left() {
    let certificate = GATEWAY.pair();
    let end = certificate.certificate().not_after();

    for (now, days) in [(end - 86_400 * 30, 30), (end - 1, 0), (end, 0), (end + 1, -1)] {
        assert_eq!(certificate.certificate().days_left(now), days, "{now}");
    }
}

#[test]
fn days_are_told_as_people_count_them() {
    let words = [(30, "30 days left"), (1, "1 day left"), (0, "0 days left"), (-1, "expired less than a day ago")];
    let words = words.into_iter().chain([(-2, "expired a day ago"), (-36, "expired 35 days ago")]);
    for (days, expected) in words {
        assert_eq!(days_in_words(days), expected, "{days}");
    }
}

#[cfg(unix)]
#[test]
fn tells_who_else_may_read_a_key() {
    use std::os::unix::fs::PermissionsExt as _;

    let file = tempfile::NamedTempFile::new().unwrap();
    for (mode, expected) in
        [(0o600, None), (0o400, None), (0o440, None), (0o640, None), (0o644, Some("644")), (0o660, Some("660"))]
    {
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();

        assert_eq!(loose_permissions(file.path()).as_deref(), expected, "{mode:o}");
    }
}

#[test]
fn no_debug_text_shows_a_key() {
    let text = format!("{:?} {:#?}", GATEWAY.pair(), GATEWAY.pair());

    assert!(text.contains("CN=gateway"), "{text}");
    assert!(text.len() < 300, "{text}");
}

/// A certificate of a 1024-bit RSA key, which was discarded.
const SHORT_CERTIFICATE: &str = include_str!("../../../../tests/fixtures/short-key-certificate.pem");

#[test]
fn reads_files_of_certificates_and_keys_as_windows_writes_them() {
    let (certificate, key) = (&GATEWAY.certificate_pem, &GATEWAY.key_pem);
    let text = format!("{certificate}{key}").replace('\n', "\r\n");
    let utf16 = |mark: &str, unit: fn(u16) -> [u8; 2]| format!("{mark}{text}").encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.pem");
    for (name, bytes, expected) in [
        ("UTF-16, little end first", utf16("\u{feff}", u16::to_le_bytes), Ok(())),
        ("UTF-16, big end first", utf16("\u{feff}", u16::to_be_bytes), Ok(())),
        ("byte order mark", format!("\u{feff}{text}").into_bytes(), Ok(())),
        ("UTF-16 without a mark", utf16("", u16::to_le_bytes), Err("the file is UTF-16 text")),
        ("UTF-16 cut off", utf16("\u{feff}", u16::to_le_bytes)[..1001].to_vec(), Err("the file is UTF-16 text")),
        ("empty", Vec::new(), Err("the file is empty")),
        ("a mark alone", b"\xef\xbb\xbf".to_vec(), Err("the file is empty")),
    ] {
        std::fs::write(&file, bytes).unwrap();

        let read = read_file(&file).and_then(|bytes| KeyedCertificate::from_pem(&bytes, None, None));

        let read = read.map(drop).map_err(|error| (error.to_string(), !error.cure().is_empty()));
        assert_eq!(read, expected.map_err(|error| (error.to_owned(), true)), "{name}");
    }
}

//! The files that the configs of the table name.

use std::path::Path;

/// Writes the files that the configs name.
pub(super) fn write_files(folder: &Path) {
    use crate::support::Authority;
    use std::os::unix::fs::PermissionsExt as _;

    let write = |name: &str, text: &str, mode: u32| {
        std::fs::write(folder.join(name), text).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let tags = r#"{ "changeNumber": 331, "cloud": "Public", "values": [ { "name": "AzureFrontDoor.Backend", "id": "AzureFrontDoor.Backend", "properties": { "addressPrefixes": ["198.51.100.0/24"] } } ] }"#;
    let authority = Authority::new("Contoso Servers");
    let server = authority.server("gateway.contoso.example");
    let old = {
        let mut parameters = rcgen::CertificateParams::new(["gateway.contoso.example".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        let key = rcgen::KeyPair::generate().unwrap();
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    for (name, text) in [
        ("tags.json", tags),
        ("ca.pem", &authority.pem()),
        ("server.pem", &server.chain),
        ("server.key", &server.key),
        ("old.pem", &old.0),
        ("old.key", &old.1),
        ("own.txt", "abc"),
        (
            "keys.json",
            r#"{ "keys": [ { "kty": "EC", "crv": "P-256", "kid": "a", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" } ] }"#,
        ),
        ("empty-one.yaml", "{}\n"),
    ] {
        write(name, text, 0o600);
    }
    write("open.txt", "abc", 0o644);
}

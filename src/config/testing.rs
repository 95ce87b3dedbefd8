//! The examples of `config/`, for tests.

use std::path::Path;

use p12_keystore::{EncryptionAlgorithm, MacAlgorithm};

use crate::{
    certificate::{keys::testing::certificate, testing::Authority},
    entra::testing::{jwks, key},
    settings::testing::write_all,
};

/// Copies the examples into a temporary folder, with the files that they name.
pub(crate) fn examples() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = certificate("orders.internal");
    let partners = Authority::new("Partners");
    let own = partners.issue("gateway");
    write_all(
        folder.path(),
        &[
            ("tls/server.pem", &made.certificate_pem),
            ("tls/server.key", &made.key_pem),
            ("tls/corporate-ca.pem", &made.certificate_pem),
            ("tls/internal-ca.pem", &made.certificate_pem),
            ("tls/partners-ca.pem", &partners.pem()),
            ("certs/mtls.pem", &own.pem),
            ("certs/mtls.key", &own.key_pem),
            ("tls/partners.crl", &partners.revoke(&[], 2090)),
            ("certs/gateway.pem", &made.pem()),
            ("certs/gateway.key", &made.key_pem),
            ("keys/assertion.pem", &made.key_pem),
            ("keys/tools.pem", &made.certificate_pem),
            ("keys/build.json", &String::from_utf8_lossy(&jwks(&[key(0).jwk(None)]))),
            ("audit/readme.txt", "where records go\n"),
            ("keys/audit-seal.pem", &made.key_pem),
            ("secrets/workspace-key", "AAECAwQFBgcICQoLDA0ODw==\n"),
            ("blocklist.txt", "192.0.2.66\n"),
            ("tenants.txt", "aaaabbbb-0000-cccc-1111-dddd2222eeee\n"),
            (
                "ServiceTags_Public.json",
                r#"{"changeNumber":1,"cloud":"Public","values":[{"name":"AzureFrontDoor.Backend","id":"AzureFrontDoor.Backend","properties":{"addressPrefixes":["192.0.2.128/25"]}}]}"#,
            ),
            ("secrets/password", "hunter2\n"),
            ("secrets/limit-keys", "the-same-on-every-gateway\n"),
            ("secrets/backend-key", "hunter2\n"),
        ],
    );
    let pfx = made.pfx("hunter2", EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256);
    std::fs::write(folder.path().join("certs/gateway.pfx"), pfx).expect("written");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for entry in std::fs::read_dir(source).expect("the examples are there") {
        let entry = entry.expect("it can be listed");
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
        }
    }
    folder
}

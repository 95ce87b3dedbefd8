//! Tests of a private key whose certificate is known by its thumbprint alone, as tools and portals hand it out.

use std::{path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entrada::{
    Clock, Reason,
    cli::certificate::{Inspection, NewCertificate, inspect},
    dev_tenant::{DevTenant, Options},
};
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, ORDERS_TOKEN, Upstream, config};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

/// A development tenant that knows the gateway's certificate, and a folder with the private key alone.
struct Scene {
    tenant: DevTenant,
    upstream: Upstream,
    folder: tempfile::TempDir,
    certificate: Inspection,
}

impl Scene {
    async fn set() -> Self {
        let tenant = DevTenant::start(Options::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let made = NewCertificate { subject: "CN=gateway".to_owned(), days: 90, bits: 2048 }.make(&Clock::system()).unwrap();
        let both = folder.path().join("gateway.pem");
        write(&both, &made.pem());
        let key = made.pem().replace(made.certificate_pem(), "");
        assert!(!key.contains("CERTIFICATE"), "{key}");
        write(&folder.path().join("gateway.key"), &key);
        write(&folder.path().join("two.key"), &format!("{key}{key}"));
        tenant.update_app(GATEWAY, |app| app.certificate_pem(made.certificate_pem()));
        let certificate = inspect(&both, None, None, &Clock::system()).unwrap();
        Self { tenant, upstream: Upstream::start().await, folder, certificate }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Returns a config whose one route sends a token that this certificate earns.
    fn config(&self, certificate: &str, more: &str) -> String {
        let route = format!(
            "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: {{ credential: gateway, scope: api://orders-internal/.default }}, upstream: backend }}"
        );
        let credentials = format!(
            "credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ {certificate} }}{more} }} }}"
        );
        config(&self.tenant, &self.upstream, &route, &credentials)
    }

    fn key_and(&self, thumbprint: &str) -> String {
        format!("private-key: \"{}\", thumbprint: \"{thumbprint}\"", self.at("gateway.key"))
    }

    async fn call(&self, gateway: &Gateway) -> Answer {
        let caller = self.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
        gateway.get("/orders").bearer(caller).send().await
    }

    /// Returns the header of the assertion that the tenant received last.
    fn assertion_header(&self) -> Value {
        let assertion = self.tenant.requests("/token").last().unwrap().field("client_assertion").unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap()).unwrap()).unwrap()
    }

    /// Runs a command on a config file with the credential.
    async fn run(&self, line: &[&str], certificate: &str) -> (Option<i32>, String) {
        let file = self.folder.path().join("entrada.yaml");
        let listeners = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\n";
        write(&file, &format!("{}{listeners}", self.config(certificate, "")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
        command.args(line).arg("--config").arg(file).env_remove("ENTRADA_CONFIG");
        // Off the test's thread, which carries the tenant.
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_key_with_a_thumbprint_earns_tokens_and_the_assertion_names_the_certificate_by_it() {
    let scene = Scene::set().await;
    let Inspection { thumbprint, thumbprint_sha256, x5t, x5t_s256, .. } = &scene.certificate;
    let spaced = thumbprint.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(" ");
    for (written, header) in [
        (thumbprint.clone(), json!({ "alg": "RS256", "typ": "JWT", "x5t": x5t })),
        (spaced.to_lowercase(), json!({ "alg": "RS256", "typ": "JWT", "x5t": x5t })),
        (thumbprint_sha256.clone(), json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": x5t_s256 })),
    ] {
        let gateway = Gateway::start(&scene.config(&scene.key_and(&written), "")).await;

        let answer = scene.call(&gateway).await;

        assert_eq!(answer.status, 200, "{written}: {:?}", answer.body);
        assert_eq!(scene.assertion_header(), header, "{written}");
        let token = scene.upstream.last().value("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        assert_eq!(scene.tenant.verify(&token).unwrap()["roles"], json!(["Orders.Forward"]));
    }
}

#[tokio::test]
async fn a_thumbprint_of_another_certificate_earns_none_and_the_record_names_it() {
    let scene = Scene::set().await;
    let gateway = Gateway::start(&scene.config(&scene.key_and(&"AB".repeat(20)), "")).await;

    let answer = scene.call(&gateway).await;

    answer.assert_refused(Reason::CredentialUnavailable);
    assert_eq!(scene.upstream.requests(), 0);
    let acquire = ["token", "acquire", "--credential", "gateway", "--scope", "api://orders-internal/.default"];
    let (code, told) = scene.run(&acquire, &scene.key_and(&"AB".repeat(20))).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("AADSTS700027") && told.contains(&"AB".repeat(20)), "{told}");
}

#[tokio::test]
async fn a_key_that_replaces_a_wrong_one_is_taken_although_the_thumbprint_stays() {
    let scene = Scene::set().await;
    let right = std::fs::read_to_string(scene.at("gateway.key")).unwrap();
    let other = NewCertificate { subject: "CN=other".to_owned(), days: 90, bits: 2048 }.make(&Clock::system()).unwrap();
    write(&scene.folder.path().join("gateway.key"), &other.pem().replace(other.certificate_pem(), ""));
    let text = scene.config(&scene.key_and(&scene.certificate.thumbprint), "");
    let mut gateway = Gateway::start(&text).await;
    assert_eq!(scene.call(&gateway).await.status, 503);

    write(&scene.folder.path().join("gateway.key"), &right);
    gateway.reload(&text).await;

    assert_eq!(scene.call(&gateway).await.status, 200);
}

#[tokio::test]
async fn the_commands_know_it_too() {
    let scene = Scene::set().await;
    let certificate = scene.key_and(&scene.certificate.thumbprint);

    let (code, told) = scene.run(&["check"], &certificate).await;
    assert_eq!(code, Some(0), "{told}");

    let (code, told) = scene.run(&["doctor"], &certificate).await;
    assert_eq!(code, Some(0), "{told}");
    for part in [
        &*format!("the private key for the certificate with thumbprint {}, 2048 bits", scene.certificate.thumbprint),
        "its end is known to the app registration alone",
        "signed here with RS256; it names the certificate by x5t",
        "Every credential gets its tokens.",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    let acquire = ["token", "acquire", "--credential", "gateway", "--scope", "api://orders-internal/.default"];
    let (code, told) = scene.run(&acquire, &certificate).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("thumbprint {}, known by its private key alone", scene.certificate.thumbprint)), "{told}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_others_may_read_is_warned_of() {
    let scene = Scene::set().await;
    let key = scene.folder.path().join("gateway.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();

    let (_, told) = scene.run(&["check"], &scene.key_and(&scene.certificate.thumbprint)).await;

    assert!(told.contains("gateway.key holds a private key, and others may use it (mode 644)"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_what_to_write() {
    let scene = Scene::set().await;
    let Inspection { thumbprint: sha1, thumbprint_sha256: sha256, .. } = &scene.certificate;
    let (key, both, two) = (scene.at("gateway.key"), scene.at("gateway.pem"), scene.at("two.key"));
    for (certificate, more, told, cure) in [
        (
            format!("private-key: \"{key}\""),
            "",
            "a private key is named, and no certificate",
            "write the `thumbprint` of the one that the app registration has",
        ),
        (format!("thumbprint: {sha1}"), "", "a thumbprint names a certificate, and no key is named", "as `private-key`"),
        (format!("pem: \"{both}\", thumbprint: {sha1}"), "", "the certificate is in the file", "leave `thumbprint` out"),
        (
            format!("private-key: \"{both}\", thumbprint: {sha1}"),
            "",
            "there is a certificate in it",
            "name the file as `pem` instead",
        ),
        (format!("private-key: \"{two}\", thumbprint: {sha1}"), "", "there are several private keys in it", "leave one of them"),
        (format!("private-key: \"{key}\", thumbprint: nonsense"), "", "is not a thumbprint", "40 hexadecimal digits"),
        (format!("private-key: \"{key}\", thumbprint: \"{}\"", &sha1[2..]), "", "38 hexadecimal digits", "the 64 of SHA-256"),
        (
            format!("private-key: \"{key}\", thumbprint: {sha1}"),
            ", assertion: { algorithm: PS256 }",
            "PS256 names the certificate by its SHA-256 thumbprint",
            "leave `algorithm` out",
        ),
        (
            format!("private-key: \"{key}\", thumbprint: {sha256}"),
            ", assertion: { algorithm: RS256 }",
            "RS256 names the certificate by its SHA-1 thumbprint",
            "leave `algorithm` out",
        ),
        (
            format!("private-key: \"{key}\", thumbprint: {sha256}"),
            ", assertion: { send-certificate-chain: true }",
            "only its thumbprint is known",
            "name the certificate's file as `pem`",
        ),
    ] {
        let refusal = Gateway::refusal(&scene.config(&certificate, more));

        assert!(refusal.contains(told) && refusal.contains(cure), "{certificate}{more}\n{refusal}");
        assert!(!refusal.contains("BEGIN"), "{refusal}");
    }
}

//! Tests of each way in which a chain can break, and of the doctor's report.

use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::{
    cli::certificate::NewCertificate,
    dev_tenant::{DevTenant, Fault as Played, Options},
};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const PARTNER: &str = "22223333-cccc-4444-dddd-5555eeee6666";

/// The permissions that signing in a vault takes.
const SIGNER: &[&str] = &["certificates/get", "certificates/list", "keys/get", "keys/sign"];

/// A development tenant, and a folder with a config whose credentials it knows.
struct TestBed {
    entra: DevTenant,
    folder: tempfile::TempDir,
}

impl TestBed {
    async fn open() -> Self {
        let entra = DevTenant::start(Options::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, client) in [("gateway", GATEWAY), ("opener", PARTNER)] {
            let made = certificate(name, 90);
            write(&folder.path().join(format!("{name}.pem")), &made.pem());
            entra.update_app(client, |app| app.certificate_pem(made.certificate_pem()));
        }
        entra.update_app(PARTNER, |app| app.granted("https://vault.azure.net", ["user_impersonation"]));
        Self { entra, folder }
    }

    /// Returns the doctor's findings for these credentials, with the routes after them.
    async fn examine(&self, credentials: &str, more: &[&str]) -> Diagnosis {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: DoctorArguments,
        }

        let file = self.folder.path().join("entrada.yaml");
        let text = format!(
            "tenants:\n  contoso: {{ id: {tenant}, authority: \"{base}\" }}\n  many: {{ id: organizations, authority: \"{base}\" }}\n  lost: {{ id: 99999999-0000-4000-8000-000000000000, authority: \"{base}\" }}\ncredentials:\n{credentials}",
            tenant = self.entra.tenant_id(),
            base = self.entra.base_url(),
        );
        write(&file, &text);
        let arguments =
            Line::try_parse_from(["doctor", "--config", file.to_str().unwrap()].iter().chain(more)).unwrap().arguments;
        let loaded = Loaded::load(&file, &Clock::system()).unwrap_or_else(|report| panic!("{report}"));
        diagnose(&arguments, &loaded, &Clock::system()).await
    }

    /// Returns the links of the credential named `gateway`.
    async fn links(&self, credentials: &str, more: &[&str]) -> Vec<(&'static str, Outcome)> {
        let line = [&["--credential", "gateway"], more].concat();
        let mut diagnosis = self.examine(credentials, &line).await;
        diagnosis.credentials.remove(0).steps.into_iter().map(|step| (step.step, step.outcome)).collect()
    }

    /// Returns the broken link.
    async fn broken(&self, credentials: &str, more: &[&str]) -> Step {
        let line = [&["--credential", "gateway"], more].concat();
        let diagnosis = self.examine(credentials, &line).await;
        assert!(!diagnosis.healthy, "{}", in_words(&diagnosis));
        let mut broken: Vec<_> =
            diagnosis.credentials[0].steps.iter().filter(|step| step.outcome == Outcome::Failed).cloned().collect();
        assert_eq!(broken.len(), 1, "{}", in_words(&diagnosis));
        broken.remove(0)
    }
}

fn certificate(name: &str, days: u32) -> crate::cli::certificate::Made {
    NewCertificate { subject: format!("CN={name}"), days, bits: 2048 }.make(&Clock::system()).unwrap()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn with_file() -> String {
    format!("  gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: gateway.pem }} }}\n")
}

fn with_vault(vault: &str) -> String {
    format!(
        "  opener: {{ tenant: contoso, client-id: {PARTNER}, certificate: {{ pem: opener.pem }} }}\n  gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ key-vault: {{ vault: \"{vault}\", certificate: signer, identity: opener }} }} }}\n"
    )
}

#[tokio::test]
async fn a_chain_that_holds_is_told_link_by_link() {
    use Outcome::{Ok, Skipped};

    let bed = TestBed::open().await;

    let links = bed.links(&with_file(), &[]).await;

    assert_eq!(links, [("certificate", Ok), ("assertion", Ok), ("authority", Ok), ("token", Ok), ("registration", Skipped)]);
}

#[tokio::test]
async fn a_chain_through_a_vault_is_told_link_by_link() {
    use Outcome::{Ok, Skipped, Warning};

    let bed = TestBed::open().await;
    bed.entra.vault_restrict(PARTNER, SIGNER);
    let (_, certificate) = bed.entra.vault_certificate("signer", false, 20);
    bed.entra.update_app(GATEWAY, |app| app.certificate_der(&certificate));

    let links = bed.links(&with_vault(bed.entra.base_url()), &[]).await;

    assert_eq!(
        links,
        [
            ("identity", Ok),
            ("vault", Ok),
            ("certificate", Warning),
            ("assertion", Ok),
            ("authority", Ok),
            ("token", Ok),
            ("registration", Skipped)
        ]
    );
}

#[tokio::test]
async fn the_link_that_breaks_is_named_with_what_mends_it() {
    let bed = TestBed::open().await;
    let vault = with_vault(bed.entra.base_url());
    let (_, signer) = bed.entra.vault_certificate("signer", false, 90);

    bed.entra.vault_restrict(PARTNER, &[]);
    let link = bed.broken(&vault, &[]).await;
    assert_eq!(link.step, "vault", "{link:?}");
    let cure = link.cure.unwrap();
    assert!(cure.contains("Key Vault Reader (21090545-7ca7-4776-b22c-e363652d74d2)") && cure.contains("object id"), "{cure}");

    bed.entra.vault_restrict(PARTNER, &["certificates/get"]);
    let link = bed.broken(&vault, &[]).await;
    assert_eq!(link.step, "assertion", "{link:?}");
    assert!(link.cure.unwrap().contains("Key Vault Crypto User (12338af0-0e69-4776-bea7-57ae8d297424)"));

    bed.entra.vault_restrict(PARTNER, &["certificates/get", "keys/sign"]);
    let link = bed.broken(&vault, &[]).await;
    assert_eq!((link.step, link.code.as_deref()), ("token", Some("AADSTS700027")), "{link:?}");
    bed.entra.update_app(GATEWAY, |app| app.certificate_der(&signer));
    assert_eq!(bed.links(&vault, &[]).await.len(), 7);

    bed.entra.update_app(PARTNER, |mut app| {
        app.certificates.clear();
        app
    });
    let link = bed.broken(&vault, &[]).await;
    assert_eq!((link.step, link.code.as_deref()), ("identity", Some("AADSTS700027")), "{link:?}");
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_file_of_a_tenant_or_of_a_scope_is_told() {
    let bed = TestBed::open().await;
    let at = |tenant: &str, means: &str| format!("  gateway: {{ tenant: {tenant}, client-id: {GATEWAY}, {means} }}\n");
    let pem = "certificate: { pem: gateway.pem }";
    write(&bed.folder.path().join("old.pem"), &old_certificate());
    write(&bed.folder.path().join("pod.jwt"), "no token\n");
    for (credentials, more, step, found) in [
        (at("contoso", "certificate: { pem: absent.pem }"), &[][..], "config", "absent.pem cannot be read"),
        (at("contoso", "certificate: { pem: old.pem }"), &[], "certificate", "the certificate of CN=old has expired"),
        (at("lost", pem), &[], "authority", "AADSTS90002"),
        (at("contoso", pem), &["--scope", "api://nothing/.default"], "token", "AADSTS500011"),
        (at("contoso", "federated-token: { file: absent.jwt }"), &[], "federated-token", "absent.jwt cannot be read"),
        (at("contoso", "federated-token: { file: pod.jwt }"), &[], "federated-token", "holds no token that can be read"),
        (at("many", pem), &[], "authority", "it has no tenant of its own"),
    ] {
        let link = bed.broken(&credentials, more).await;

        assert_eq!(link.step, step, "{link:?}");
        assert!(link.found.contains(found), "{found}: {link:?}");
        assert!(link.cure.is_some(), "{link:?}");
    }
    let link = bed.broken(&at("contoso", "certificate: { pem: old.pem }"), &[]).await;
    assert!(link.found.contains(", expired ") && link.found.ends_with(" days ago"), "{link:?}");
    let links = bed.links(&at("many", pem), &["--tenant", "contoso"]).await;
    assert!(links.contains(&("token", Outcome::Ok)), "{links:?}");

    bed.entra.fail(Played::on("/token").status(503));
    assert_eq!(bed.broken(&with_file(), &[]).await.step, "token");
}

#[tokio::test]
async fn a_federated_token_is_shown_as_the_registration_must_have_it() {
    let bed = TestBed::open().await;
    let issuer = bed.entra.issuer_v2(&bed.entra.tenant_id());
    let subject = "system:serviceaccount:shop:gateway";
    bed.entra.update_app(GATEWAY, |app| app.federated(&issuer, subject));
    let pod = || bed.entra.token().app(PARTNER).audience("api://AzureADTokenExchange").claim("sub", subject);
    let file = bed.folder.path().join("pod.jwt");
    let credentials = format!("  gateway: {{ tenant: contoso, client-id: {GATEWAY}, federated-token: {{ file: pod.jwt }} }}\n");

    write(&file, &pod().sign());
    let diagnosis = bed.examine(&credentials, &[]).await;
    assert!(diagnosis.healthy, "{}", in_words(&diagnosis));
    let words = in_words(&diagnosis);
    for part in [&*issuer, subject, "api://AzureADTokenExchange"] {
        assert!(words.contains(part), "{words}");
    }
    assert!(!words.contains("eyJ"), "{words}");

    write(&file, &pod().expired().sign());
    assert_eq!(bed.broken(&credentials, &[]).await.step, "federated-token");
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_and_so_is_what_the_build_warned_of() {
    let bed = TestBed::open().await;
    bed.entra.fail(Played::on("openid-configuration").header("date", "Sat, 21 Nov 2020 23:40:00 GMT").body("{}"));
    write(&bed.folder.path().join("soon.pem"), &soon_certificate(&bed.entra));
    #[cfg(unix)]
    std::fs::set_permissions(bed.folder.path().join("soon.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let credentials = format!("  gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: soon.pem }} }}\n");

    let diagnosis = bed.examine(&credentials, &[]).await;

    let warned: Vec<_> = diagnosis.credentials[0]
        .steps
        .iter()
        .filter(|step| step.outcome == Outcome::Warning)
        .map(|step| (step.step, &*step.found))
        .collect();
    let told = |step: &str, part: &str| warned.iter().filter(|(of, found)| *of == step && found.contains(part)).count();
    assert_eq!(told("authority", "ahead of that of"), 1, "{warned:?}");
    assert_eq!(told("certificate", "expires in"), 1, "{warned:?}");
    assert_eq!(told("config", "others may use it"), usize::from(cfg!(unix)), "{warned:?}");
    assert_eq!(told("config", "expires in"), 0, "the certificate is told of once: {warned:?}");
    assert!(diagnosis.healthy);
}

#[tokio::test]
async fn tokens_are_tried_for_what_the_routes_and_the_vaults_ask() {
    let bed = TestBed::open().await;
    let file = bed.folder.path().join("entrada.yaml");
    let text = format!(
        "{}{}",
        format_args!(
            "tenants:\n  contoso: {{ id: {}, authority: \"{}\" }}\ncredentials:\n{}",
            bed.entra.tenant_id(),
            bed.entra.base_url(),
            with_vault(bed.entra.base_url())
        ),
        "upstreams: { orders: { servers: [\"http://127.0.0.1:1\"] } }\nroutes:\n- { name: a, match: { path: /a }, inbound: [ { validate-azure-ad-token: { tenant: contoso, audiences: [x], roles: [r] } } ], authorization: { credential: gateway, scope: api://orders-internal/.default }, upstream: orders }\n- { name: b, match: { path: /b }, inbound: [ { validate-azure-ad-token: { tenant: contoso, audiences: [x], roles: [r] } } ], authorization: { on-behalf-of: gateway, scope: https://graph.microsoft.com/Mail.Read }, upstream: orders }\n"
    );
    write(&file, &text);
    let loaded = Loaded::load(&file, &Clock::system()).unwrap_or_else(|report| panic!("{report}"));
    let of = |name: &str| -> Vec<String> {
        scopes(&loaded.document.config, loaded.credentials.find(name).unwrap()).into_iter().collect()
    };

    assert_eq!(of("gateway"), ["api://orders-internal/.default", "https://graph.microsoft.com/.default"]);
    assert_eq!(of("opener"), ["https://vault.azure.net/.default"]);
}

fn old_certificate() -> String {
    let clock = Clock::manual(Clock::system().unix_seconds() - 40 * 86_400);
    let made = NewCertificate { subject: "CN=old".to_owned(), days: 30, bits: 2048 }.make(&clock).unwrap();
    made.pem().to_string()
}

fn soon_certificate(entra: &DevTenant) -> String {
    let made = certificate("soon", 20);
    entra.update_app(GATEWAY, |app| app.certificate_pem(made.certificate_pem()));
    made.pem().to_string()
}

#[tokio::test]
async fn a_newest_version_that_entra_does_not_know_is_told_of() {
    let bed = TestBed::open().await;
    bed.entra.vault_restrict(PARTNER, SIGNER);
    let (_, first) = bed.entra.vault_certificate("signer", false, 365);
    bed.entra.update_app(GATEWAY, |mut app| {
        app.certificates.clear();
        app.certificate_der(&first)
    });
    let (second, _) = bed.entra.vault_certificate("signer", false, 365);

    let diagnosis = bed.examine(&with_vault(bed.entra.base_url()), &["--credential", "gateway"]).await;

    assert!(diagnosis.healthy, "{diagnosis:?}");
    let told = diagnosis.credentials[0].steps.iter().find(|step| step.outcome == Outcome::Warning).unwrap();
    assert_eq!(told.step, "vault");
    assert!(told.found.contains(&second) && told.found.contains("is not registered (AADSTS700027)"), "{told:?}");
    assert!(told.cure.as_ref().unwrap().contains("upload the newest version"), "{told:?}");
}

#[tokio::test]
async fn rights_that_the_gateway_does_not_need_are_told() {
    let bed = TestBed::open().await;
    let (_, certificate) = bed.entra.vault_certificate("signer", true, 90);
    bed.entra.update_app(GATEWAY, |app| {
        app.certificate_der(&certificate).granted("https://graph.microsoft.com", ["Application.Read.All", "Directory.Read.All"])
    });

    let diagnosis = bed.examine(&with_vault(bed.entra.base_url()), &["--credential", "gateway"]).await;

    let warned: Vec<_> =
        diagnosis.credentials[0].steps.iter().filter(|step| step.outcome == Outcome::Warning).map(|step| &*step.found).collect();
    for part in [
        "its policy lets it be exported all the same",
        "may read the secret beside the certificate signer, and with it the private key",
        "broad roles of Microsoft Graph: Directory.Read.All",
        "delegated permissions for the API",
    ] {
        assert!(warned.iter().any(|found| found.contains(part)), "{part}: {warned:#?}");
    }
    assert!(diagnosis.healthy);

    // An identity that may only sign is not warned of.
    bed.entra.vault_restrict(PARTNER, SIGNER);
    let (_, certificate) = bed.entra.vault_certificate("signer", false, 90);
    bed.entra.update_app(GATEWAY, |app| app.certificate_der(&certificate));
    let links = bed.links(&with_vault(bed.entra.base_url()), &[]).await;
    assert_eq!(links.iter().filter(|(step, outcome)| *step == "vault" && *outcome == Outcome::Warning).count(), 0, "{links:?}");
}

/// Rehearses the credential `gateway`.
async fn rehearse(bed: &TestBed, credentials: &str) -> (rehearse::Rehearsing, serde_json::Value) {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: DoctorArguments,
    }

    let file = bed.folder.path().join("entrada.yaml");
    let (tenant, base) = (bed.entra.tenant_id(), bed.entra.base_url());
    let text = format!("tenants: {{ contoso: {{ id: {tenant}, authority: \"{base}\" }} }}\ncredentials:\n{credentials}");
    write(&file, &text);
    let line =
        ["doctor", "--rehearse", "gateway", "--scope", "api://orders-internal/.default", "--config", file.to_str().unwrap()];
    let arguments = Line::try_parse_from(line).unwrap().arguments;
    let loaded = Loaded::load(&file, &Clock::system()).unwrap_or_else(|report| panic!("{report}"));
    let rehearsed = rehearse::of(&arguments, &loaded, "gateway").await;
    let json = serde_json::to_value(&rehearsed).unwrap();
    (rehearsed, json)
}

/// Returns part, outcome and code of each thing that was tried.
fn tried(json: &serde_json::Value) -> Vec<(&str, &str, Option<&str>)> {
    let tried = json["scopes"][0]["tried"].as_array().unwrap();
    tried.iter().map(|one| (one["part"].as_str().unwrap(), one["outcome"].as_str().unwrap(), one["code"].as_str())).collect()
}

#[tokio::test]
async fn each_certificate_of_a_rotation_is_tried_by_itself() {
    let bed = TestBed::open().await;
    let next = certificate("next", 400);
    write(&bed.folder.path().join("next.pem"), &next.pem());
    let both = format!(
        "  gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificates: [ {{ pem: gateway.pem }}, {{ pem: next.pem }} ] }}\n"
    );

    let (rehearsed, json) = rehearse(&bed, &both).await;
    assert!(!rehearsed.holds);
    assert_eq!(tried(&json), [("listed", "ok", None), ("listed", "failed", Some("AADSTS700027"))], "{json:#}");
    let verdict = json["scopes"][0]["verdict"].as_str().unwrap();
    assert!(verdict.contains("is not ready") && verdict.contains("in 8"), "until the one that is accepted ends: {verdict}");
    let words = rehearse::in_words(&rehearsed);
    assert!(words.contains("FAILED") && words.contains("next.pem") && words.contains("CN=next"), "{words}");

    bed.entra.update_app(GATEWAY, |app| app.certificate_pem(next.certificate_pem()));
    let (rehearsed, json) = rehearse(&bed, &both).await;
    assert!(rehearsed.holds, "{json:#}");
    assert_eq!(tried(&json), [("listed", "ok", None), ("listed", "ok", None)]);
    let left = json["scopes"][0]["tried"][1]["days_left"].as_i64().unwrap();
    assert!((398..=400).contains(&left), "{json:#}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_and_one_that_ends_soon_are_told() {
    let bed = TestBed::open().await;
    let short = certificate("gateway", 7);
    write(&bed.folder.path().join("gateway.pem"), &short.pem());
    bed.entra.update_app(GATEWAY, |app| app.certificate_pem(short.certificate_pem()));
    let (rehearsed, json) = rehearse(&bed, &with_file()).await;
    assert!(rehearsed.holds, "{json:#}");
    assert_eq!(tried(&json), [("listed", "warning", None)], "{json:#}");
    assert!(json["scopes"][0]["tried"][0]["cure"].as_str().unwrap().contains("successor"), "{json:#}");

    let absent = format!(
        "  gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificates: [ {{ pem: gateway.pem }}, {{ pem: absent.pem }} ] }}\n"
    );
    let (rehearsed, json) = rehearse(&bed, &absent).await;
    assert!(!rehearsed.holds);
    assert!(json["faults"].to_string().contains("absent.pem"), "{json:#}");
    assert!(rehearse::in_words(&rehearsed).contains("there would be no token"));
}

#[tokio::test]
async fn a_vaults_next_version_is_tried_before_anything_uses_it() {
    let bed = TestBed::open().await;
    let (_, first) = bed.entra.vault_certificate("signer", true, 300);
    bed.entra.update_app(GATEWAY, |app| app.certificate_der(&first));
    let credentials = with_vault(bed.entra.base_url());
    let (rehearsed, json) = rehearse(&bed, &credentials).await;
    assert!(rehearsed.holds, "{json:#}");
    assert_eq!(tried(&json), [("newest", "ok", None)], "{json:#}");

    // The vault has renewed it, and nobody has uploaded that yet. Versions of the same second are in no order.
    let (version, second) = loop {
        let made = bed.entra.vault_certificate("signer", true, 300);
        let (_, json) = rehearse(&bed, &credentials).await;
        if json["scopes"][0]["tried"][0]["what"].as_str().unwrap().contains(&made.0) {
            break made;
        }
    };
    let (rehearsed, json) = rehearse(&bed, &credentials).await;
    assert!(!rehearsed.holds);
    let all = tried(&json);
    assert_eq!(all[0], ("newest", "failed", Some("AADSTS700027")), "{json:#}");
    assert!(all[1..].contains(&("older", "ok", None)), "{json:#}");
    assert!(json["scopes"][0]["tried"][0]["what"].as_str().unwrap().contains(&version), "{json:#}");

    bed.entra.update_app(GATEWAY, |app| app.certificate_der(&second));
    let (rehearsed, json) = rehearse(&bed, &credentials).await;
    assert!(rehearsed.holds, "an older one that is no longer accepted breaks nothing: {json:#}");
}

#[tokio::test]
async fn a_vault_that_does_not_open_and_a_secret_that_is_wrong_are_told() {
    let bed = TestBed::open().await;
    bed.entra.update_app(GATEWAY, |app| app.secret("right"));
    let secret = |value: &str| format!("  gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: {value} }}\n");
    assert!(rehearse(&bed, &secret("right")).await.0.holds);
    let (rehearsed, json) = rehearse(&bed, &secret("mistyped")).await;
    assert!(!rehearsed.holds);
    assert_eq!(tried(&json), [("only", "failed", Some("AADSTS7000215"))], "{json:#}");
    assert!(!json.to_string().contains("mistyped"), "{json:#}");

    let (rehearsed, json) = rehearse(&bed, &with_vault(bed.entra.base_url())).await;
    assert!(!rehearsed.holds, "there is no such certificate: {json:#}");
    assert_eq!(tried(&json)[0].1, "failed");
}

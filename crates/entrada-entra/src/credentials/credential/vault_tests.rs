//! Keys, certificates and secrets of a vault, through rotations and outages.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::*;
use crate::{
    credentials::{
        CertificateConfig, CredentialError, Credentials, Failure, KeyUse, KeyVaultCertificateConfig, VaultError,
        testing::{CLIENT, GATEWAY, OTHER, TestBed, config, pem},
    },
    dev_tenant::Fault,
    settings::{Faults, KeyVaultSecretConfig, LiveSecret, Secret, SecretCell, Secrets},
};

/// The application whose certificate or secret is in the vault.
const VAULTED: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const ORDERS: &str = "api://orders/.default";
const GRAPH: &str = "https://graph.microsoft.com/.default";

fn kept(bed: &TestBed, key_use: KeyUse) -> CertificateConfig {
    let key_vault = KeyVaultCertificateConfig {
        vault: bed.entra.base_url().to_owned(),
        certificate: "gateway-key".to_owned(),
        version: None,
        identity: "gateway".to_owned(),
        key_use,
    };
    CertificateConfig { key_vault: Some(key_vault), ..CertificateConfig::default() }
}

/// Builds `gateway`, which opens the vault in which `vaulted` has its proof.
fn build(bed: &TestBed, vaulted: CredentialConfig, previous: Option<&Credentials>) -> (Credentials, Faults) {
    let vaulted = CredentialConfig { client_id: Some(VAULTED.to_owned()), ..vaulted };
    let configs = [("gateway".to_owned(), config()), ("vaulted".to_owned(), vaulted)].into();
    bed.build_all(&configs, previous)
}

fn with_certificates(bed: &TestBed, certificates: Vec<CertificateConfig>) -> Credentials {
    let (credentials, faults) = build(bed, CredentialConfig { certificate: None, certificates, ..config() }, None);
    // A key that is downloaded is warned of.
    assert!(!faults.any_error(), "{faults:?}");
    credentials
}

async fn acquire(credentials: &Credentials, scope: &str) -> Result<Arc<AccessToken>, CredentialError> {
    credentials.find("vaulted").unwrap().slot(scope).unwrap().token().await
}

fn upload(bed: &TestBed, der: &[u8]) {
    bed.entra.update_app(VAULTED, |app| app.certificate_der(der));
}

fn withdraw(bed: &TestBed) {
    bed.entra.update_app(VAULTED, |mut app| {
        app.certificates.clear();
        app
    });
}

fn vault_error(error: &CredentialError) -> &VaultError {
    match &*error.failure {
        Failure::Vault(error) => error,
        failure => panic!("{failure:?}"),
    }
}

#[tokio::test]
async fn an_exportable_certificate_is_downloaded_in_either_form() {
    for form in ["application/x-pkcs12", "application/x-pem-file"] {
        let bed = TestBed::open().await;
        let (_, der) = bed.entra.vault_certificate("gateway-key", true, 365);
        bed.entra.vault_certificate_form("gateway-key", form);
        upload(&bed, &der);
        let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Download)]);

        acquire(&credentials, ORDERS).await.unwrap();
        acquire(&credentials, GRAPH).await.unwrap();

        assert_eq!(bed.entra.calls("/secrets/gateway-key"), 1, "{form}");
        assert_eq!(bed.entra.calls("/sign"), 0, "{form}: it signs here");
    }
}

/// Tests that members a vault has nothing to say about may be `null` or absent: none of them decides anything by itself.
#[tokio::test]
async fn what_a_vault_writes_as_null_counts_as_absent() {
    for (what, policy) in [
        ("a policy", Some(json!({ "key_props": { "exportable": false } }))),
        ("no policy", None),
        ("a policy that is null", Some(Value::Null)),
        ("properties that are null", Some(json!({ "key_props": null }))),
        ("no properties", Some(json!({ "id": "x" }))),
        ("nothing of export", Some(json!({ "key_props": { "exportable": null, "kty": "RSA" } }))),
    ] {
        let bed = TestBed::open().await;
        let (version, der) = bed.entra.vault_certificate("gateway-key", false, 365);
        upload(&bed, &der);
        let base = bed.entra.base_url();
        let mut bundle = json!({
            "id": format!("{base}/certificates/gateway-key/{version}"),
            "kid": format!("{base}/keys/gateway-key/{version}"),
            "cer": STANDARD.encode(&der),
            "attributes": null,
        });
        if let Some(policy) = policy {
            bundle["policy"] = policy;
        }
        bed.entra.fail(Fault::on("/certificates/gateway-key").body(bundle.to_string()));
        let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Sign)]);

        let acquired = acquire(&credentials, ORDERS).await;

        assert!(acquired.is_ok(), "{what}: {acquired:?}");
        assert_eq!(bed.entra.calls("/sign"), 1, "{what}");
    }
}

#[tokio::test]
async fn a_certificate_whose_key_stays_in_the_vault_cannot_be_downloaded() {
    let bed = TestBed::open().await;
    bed.entra.vault_certificate("gateway-key", false, 365);
    let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Download)]);

    let error = acquire(&credentials, ORDERS).await.unwrap_err();

    assert!(error.cure().unwrap().contains("use: sign"), "{error:?}");
    bed.entra.vault_restrict(CLIENT, &["certificates/get", "keys/sign"]);
    bed.clock.advance(Duration::from_secs(30));
    let error = acquire(&credentials, ORDERS).await.unwrap_err();
    assert!(error.cure().unwrap().contains("Key Vault Certificate User"), "{error:?}");
}

#[tokio::test]
async fn a_new_version_is_downloaded_when_the_old_one_is_no_longer_accepted() {
    let bed = TestBed::open().await;
    let (_, der) = bed.entra.vault_certificate("gateway-key", true, 365);
    upload(&bed, &der);
    let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Download)]);
    acquire(&credentials, ORDERS).await.unwrap();

    let (_, der) = bed.entra.vault_certificate("gateway-key", true, 365);
    withdraw(&bed);
    upload(&bed, &der);

    acquire(&credentials, GRAPH).await.unwrap();
    assert_eq!(bed.entra.calls("/secrets/gateway-key"), 2);
}

#[tokio::test]
async fn a_new_version_that_entra_does_not_know_yet_changes_nothing() {
    let bed = TestBed::open().await;
    let (first, der) = bed.entra.vault_certificate("gateway-key", false, 365);
    upload(&bed, &der);
    let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Sign)]);
    acquire(&credentials, ORDERS).await.unwrap();

    bed.entra.vault_certificate("gateway-key", false, 365);
    // The vault is looked at after some hours, and has a newer version then.
    bed.clock.advance(Duration::from_secs(7 * 3_600));
    bed.entra.forget_calls();
    acquire(&credentials, GRAPH).await.unwrap();

    assert_eq!(bed.entra.calls("/certificates/gateway-key"), 1, "it was looked at");
    assert_eq!(bed.entra.calls("/token"), 2, "one for the vault, one for Graph: no attempt with the new version");
    let signed = bed.entra.requests("/sign");
    assert_eq!(signed.last().unwrap().target.path(), format!("/keys/gateway-key/{first}/sign"));
}

#[tokio::test]
async fn while_the_vault_is_out_a_key_that_is_here_serves() {
    let bed = TestBed::open().await;
    let (_, der) = bed.entra.vault_certificate("gateway-key", false, 365);
    upload(&bed, &der);
    bed.entra.update_app(VAULTED, |app| app.certificate_pem(&OTHER.certificate_pem));
    bed.write("other.pem", &OTHER.pem());
    let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Sign), pem("other.pem")]);
    acquire(&credentials, ORDERS).await.unwrap();
    assert_eq!(bed.entra.calls("/sign"), 1, "the vault's is preferred");

    bed.entra.fail(Fault::on("/keys/").status(503));
    bed.clock.advance(Duration::from_secs(300));

    acquire(&credentials, GRAPH).await.unwrap();
}

#[tokio::test]
async fn an_assertion_is_signed_ahead_of_need_and_serves_through_an_outage_of_the_vault() {
    let bed = TestBed::open().await;
    let (_, der) = bed.entra.vault_certificate("gateway-key", false, 365);
    upload(&bed, &der);
    let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Sign)]);
    acquire(&credentials, ORDERS).await.unwrap();

    bed.clock.advance(Duration::from_secs(160));
    acquire(&credentials, GRAPH).await.unwrap();
    bed.entra.arrived("/sign", 2).await;
    credentials.find("vaulted").unwrap().endpoint.as_ref().unwrap().assertions.settled().await;
    bed.entra.fail(Fault::on("/keys/").status(503));
    bed.clock.advance(Duration::from_secs(200));

    acquire(&credentials, "https://monitor.azure.com/.default").await.unwrap();
    let sent: Vec<_> = bed.entra.requests("/token").iter().filter_map(|request| request.field("client_assertion")).collect();
    let [.., second, third] = &sent[..] else { panic!("three requests at least") };
    assert_ne!(second, third, "the one that was signed ahead is in use");
}

#[tokio::test]
async fn a_vault_that_throttles_is_left_alone_for_as_long_as_it_says() {
    let bed = TestBed::open().await;
    let (_, der) = bed.entra.vault_certificate("gateway-key", false, 365);
    upload(&bed, &der);
    bed.entra.fail(Fault::on("/certificates/").status(429).header("retry-after", "20"));
    let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Sign)]);

    let error = acquire(&credentials, ORDERS).await.unwrap_err();
    assert!(matches!(vault_error(&error), VaultError::Refused { retry_after: Some(20), .. }), "{error:?}");
    for _ in 0..20 {
        assert!(acquire(&credentials, GRAPH).await.is_err());
    }
    assert_eq!(bed.entra.calls("/certificates/gateway-key"), 1, "one vault, whoever asks");

    bed.entra.recover();
    bed.clock.advance(Duration::from_secs(20));
    acquire(&credentials, ORDERS).await.unwrap();
}

#[tokio::test]
async fn a_claims_challenge_of_the_vault_is_answered_once() {
    let bed = TestBed::open().await;
    let (_, der) = bed.entra.vault_certificate("gateway-key", false, 365);
    upload(&bed, &der);
    // {"access_token":{"nbf":{"essential":true,"value":"1760000000"}}}
    let challenge = "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzYwMDAwMDAwIn19fQ==\"";
    bed.entra.fail(Fault::on("/certificates/").status(401).header("www-authenticate", challenge).times(1));
    let credentials = with_certificates(&bed, vec![kept(&bed, KeyUse::Sign)]);

    acquire(&credentials, ORDERS).await.unwrap();

    let claims: Vec<_> = bed.entra.requests("/token").iter().map(|request| request.field("claims")).collect();
    assert_eq!(
        claims,
        [
            None,
            Some(r#"{"access_token":{"nbf":{"essential":true,"value":"1760000000"},"xms_cc":{"values":["cp1"]}}}"#.to_owned()),
            None
        ]
    );
}

mod secrets {
    use super::*;

    fn key_vault(bed: &TestBed, required: bool) -> KeyVaultSecretConfig {
        KeyVaultSecretConfig {
            vault: bed.entra.base_url().to_owned(),
            secret: "partner-key".to_owned(),
            version: None,
            identity: "gateway".to_owned(),
            required,
        }
    }

    fn named(bed: &mut TestBed, required: bool) -> LiveSecret {
        bed.secrets = Secrets::in_vault(SecretCell::new("partner-key", key_vault(bed, required)));
        Secret::from("Key {{partner-key}}").live(&bed.secrets).unwrap()
    }

    fn text(bed: &TestBed, live: &LiveSecret) -> Option<String> {
        live.value(bed.clock.unix_seconds()).map(|text| text.expose_secret().to_owned())
    }

    /// Reads everything that is due, and waits for it.
    async fn tend(bed: &TestBed, credentials: &Credentials, reads: usize) {
        credentials.tend(&Handle::current());
        bed.entra.arrived("/secrets/partner-key", reads).await;
        credentials.settled().await;
    }

    #[tokio::test]
    async fn a_secret_is_followed_through_its_versions_without_a_restart() {
        let mut bed = TestBed::open().await;
        bed.entra.vault_secret("partner-key", "first\n", None);
        let live = named(&mut bed, false);
        let credentials = bed.gateway();
        let now = bed.clock.unix_seconds();
        assert_eq!(text(&bed, &live), None);
        assert_eq!(credentials.awaited_secrets(now).collect::<Vec<_>>(), ["partner-key"]);

        tend(&bed, &credentials, 1).await;
        assert_eq!(text(&bed, &live).as_deref(), Some("Key first\n"), "nothing is trimmed");
        assert_eq!(credentials.awaited_secrets(now).count(), 0);

        bed.entra.vault_secret("partner-key", "second", None);
        tend(&bed, &credentials, 1).await;
        assert_eq!(bed.entra.calls("/secrets/partner-key"), 1, "not before it is due");
        bed.clock.advance(Duration::from_secs(300));
        tend(&bed, &credentials, 2).await;
        assert_eq!(text(&bed, &live).as_deref(), Some("Key second"));
        let status = &credentials.secrets(bed.clock.unix_seconds())[0];
        assert!(status.ready && status.version.is_some() && status.last_error.is_none(), "{status:?}");
    }

    #[tokio::test]
    async fn a_short_lived_secret_is_read_again_before_it_ends_and_never_used_after() {
        let mut bed = TestBed::open().await;
        let end = bed.clock.unix_seconds() + 60;
        bed.entra.vault_secret("partner-key", "first", Some(end));
        let live = named(&mut bed, false);
        let credentials = bed.gateway();
        tend(&bed, &credentials, 1).await;

        bed.clock.advance(Duration::from_secs(30));
        tend(&bed, &credentials, 2).await;
        bed.entra.vault_secret("partner-key", "second", Some(end + 600));
        bed.clock.advance(Duration::from_secs(15));
        tend(&bed, &credentials, 3).await;
        assert_eq!(text(&bed, &live).as_deref(), Some("Key second"));

        bed.entra.fail(Fault::on("/secrets/").status(503));
        bed.clock.advance(Duration::from_secs(614));
        assert_eq!(text(&bed, &live).as_deref(), Some("Key second"), "an outage takes nothing away");
        bed.clock.advance(Duration::from_secs(1));
        assert_eq!(text(&bed, &live), None, "its end does");
    }

    #[tokio::test]
    async fn a_secret_that_is_withdrawn_serves_no_longer() {
        let mut bed = TestBed::open().await;
        let version = bed.entra.vault_secret("partner-key", "first", None);
        let live = named(&mut bed, true);
        let credentials = bed.gateway();
        tend(&bed, &credentials, 1).await;

        bed.entra.vault_enable("partner-key", &version, false);
        bed.clock.advance(Duration::from_secs(300));
        tend(&bed, &credentials, 2).await;

        assert_eq!(text(&bed, &live), None);
        let now = bed.clock.unix_seconds();
        assert_eq!(credentials.awaited_secrets(now).collect::<Vec<_>>(), ["partner-key"], "it is required");
        let status = &credentials.secrets(now)[0];
        assert!(status.last_error.as_ref().unwrap().contains("SecretNotFound"), "{status:?}");
    }

    #[tokio::test]
    async fn a_client_secret_of_a_vault_is_read_for_the_first_token_and_again_when_it_is_not_accepted() {
        let mut bed = TestBed::open().await;
        bed.entra.vault_secret("partner-key", "old", None);
        bed.entra.update_app(VAULTED, |app| app.secret("old"));
        named(&mut bed, false);
        let by_secret = CredentialConfig { certificate: None, client_secret: Some("{{partner-key}}".into()), ..config() };
        let (credentials, faults) = build(&bed, by_secret.clone(), None);
        assert!(!faults.any_error(), "{faults:?}");

        acquire(&credentials, ORDERS).await.unwrap();
        bed.entra.vault_secret("partner-key", "new", None);
        bed.entra.update_app(VAULTED, |mut app| {
            app.secrets.clear();
            app.secret("new")
        });
        bed.clock.advance(Duration::from_secs(30));
        acquire(&credentials, GRAPH).await.unwrap();
        assert_eq!(bed.entra.calls("/secrets/partner-key"), 2);

        let (same, _) = build(&bed, by_secret, Some(&credentials));
        assert!(Arc::ptr_eq(credentials.find("vaulted").unwrap(), same.find("vaulted").unwrap()), "and lives through a reload");
    }

    #[tokio::test]
    async fn without_the_secret_there_is_no_token_and_the_vaults_answer_says_why() {
        let mut bed = TestBed::open().await;
        named(&mut bed, false);
        let by_secret = CredentialConfig { certificate: None, client_secret: Some("{{partner-key}}".into()), ..config() };
        let (credentials, _) = build(&bed, by_secret, None);

        let error = acquire(&credentials, ORDERS).await.unwrap_err();

        assert!(vault_error(&error).to_string().contains("SecretNotFound"), "{error:?}");
        assert!(!bed.entra.requests("/token").iter().any(|request| request.field("client_id").as_deref() == Some(VAULTED)));
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        let mut bed = TestBed::open().await;
        let told = |bed: &TestBed, config: CredentialConfig| -> Vec<String> {
            let (_, faults) = bed.build(config, None);
            faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect()
        };
        let with = |bed: &mut TestBed, change: fn(&mut KeyVaultSecretConfig)| {
            let mut config = key_vault(bed, false);
            change(&mut config);
            bed.secrets = Secrets::in_vault(SecretCell::new("partner-key", config));
        };
        let at = "named-values.partner-key.key-vault";

        with(&mut bed, |config| config.vault = "contoso".into());
        assert_eq!(told(&bed, config()), [format!("{at}.vault: `contoso` is not a vault")]);
        with(&mut bed, |config| config.secret = "a/b".into());
        assert_eq!(told(&bed, config()), [format!("{at}.secret: `a/b` cannot be the name of something in a vault")]);
        with(&mut bed, |config| config.identity = "nobody".into());
        assert_eq!(told(&bed, config()), [format!("{at}.identity: there is no credential `nobody`")]);

        with(&mut bed, |_| ());
        let own = CredentialConfig { certificate: None, client_secret: Some("{{partner-key}}".into()), ..config() };
        let own = told(&bed, own);
        assert!(
            own.contains(&"credentials.gateway: it needs `gateway` for its token, and `gateway` needs it in turn".to_owned())
        );
        let password = CertificateConfig { password: Some("{{partner-key}}".into()), ..pem("gateway.pem") };
        assert_eq!(
            told(&bed, CredentialConfig { certificate: Some(password), ..config() }),
            [
                "credentials.gateway.certificate.password: the secret `partner-key` is in a vault, and this setting is read before any vault is asked"
            ]
        );
    }
}

/// Tests a file that was replaced before Entra knows its new content.
#[tokio::test]
async fn what_the_config_before_signed_with_serves_until_the_new_certificate_is_known() {
    let bed = TestBed::open().await;
    let first = bed.gateway();
    first.find("gateway").unwrap().slot(ORDERS).unwrap().token().await.unwrap();

    bed.write("gateway.pem", &OTHER.pem());
    let (rotated, _) = bed.build(config(), Some(&first));
    bed.entra.forget_calls();
    rotated.find("gateway").unwrap().slot(GRAPH).unwrap().token().await.unwrap();
    assert_eq!(bed.entra.calls("/token"), 2, "the new one is tried, and the old one serves");

    bed.entra.update_app(CLIENT, |mut app| {
        app.certificates.clear();
        app.certificate_pem(&OTHER.certificate_pem)
    });
    rotated.find("gateway").unwrap().slot("https://monitor.azure.com/.default").unwrap().token().await.unwrap();
    assert_eq!(rotated.status()[0].certificates[0].subject.as_deref(), Some(OTHER.pair().certificate().subject()));
    assert_ne!(OTHER.certificate_der, GATEWAY.certificate_der);
}

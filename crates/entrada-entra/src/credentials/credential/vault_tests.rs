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

fn kept(house: &TestBed, key_use: KeyUse) -> CertificateConfig {
    let key_vault = KeyVaultCertificateConfig {
        vault: house.entra.base_url().to_owned(),
        certificate: "gateway-key".to_owned(),
        version: None,
        identity: "gateway".to_owned(),
        key_use,
    };
    CertificateConfig { key_vault: Some(key_vault), ..CertificateConfig::default() }
}

/// Builds `gateway`, which opens the vault in which `vaulted` has its proof.
fn build(house: &TestBed, vaulted: CredentialConfig, previous: Option<&Credentials>) -> (Credentials, Faults) {
    let vaulted = CredentialConfig { client_id: Some(VAULTED.to_owned()), ..vaulted };
    let configs = [("gateway".to_owned(), config()), ("vaulted".to_owned(), vaulted)].into();
    house.build_all(&configs, previous)
}

fn with_certificates(house: &TestBed, certificates: Vec<CertificateConfig>) -> Credentials {
    let (credentials, faults) = build(house, CredentialConfig { certificate: None, certificates, ..config() }, None);
    // A key that is downloaded is warned of.
    assert!(!faults.any_error(), "{faults:?}");
    credentials
}

async fn acquire(credentials: &Credentials, scope: &str) -> Result<Arc<AccessToken>, CredentialError> {
    credentials.find("vaulted").unwrap().slot(scope).unwrap().token().await
}

fn upload(house: &TestBed, der: &[u8]) {
    house.entra.update_app(VAULTED, |app| app.certificate_der(der));
}

fn withdraw(house: &TestBed) {
    house.entra.update_app(VAULTED, |mut app| {
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
        let house = TestBed::open().await;
        let (_, der) = house.entra.vault_certificate("gateway-key", true, 365);
        house.entra.vault_certificate_form("gateway-key", form);
        upload(&house, &der);
        let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Download)]);

        acquire(&credentials, ORDERS).await.unwrap();
        acquire(&credentials, GRAPH).await.unwrap();

        assert_eq!(house.entra.calls("/secrets/gateway-key"), 1, "{form}");
        assert_eq!(house.entra.calls("/sign"), 0, "{form}: it signs here");
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
        let house = TestBed::open().await;
        let (version, der) = house.entra.vault_certificate("gateway-key", false, 365);
        upload(&house, &der);
        let base = house.entra.base_url();
        let mut bundle = json!({
            "id": format!("{base}/certificates/gateway-key/{version}"),
            "kid": format!("{base}/keys/gateway-key/{version}"),
            "cer": STANDARD.encode(&der),
            "attributes": null,
        });
        if let Some(policy) = policy {
            bundle["policy"] = policy;
        }
        house.entra.fail(Fault::on("/certificates/gateway-key").body(bundle.to_string()));
        let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Sign)]);

        let acquired = acquire(&credentials, ORDERS).await;

        assert!(acquired.is_ok(), "{what}: {acquired:?}");
        assert_eq!(house.entra.calls("/sign"), 1, "{what}");
    }
}

#[tokio::test]
async fn a_certificate_whose_key_stays_in_the_vault_cannot_be_downloaded() {
    let house = TestBed::open().await;
    house.entra.vault_certificate("gateway-key", false, 365);
    let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Download)]);

    let error = acquire(&credentials, ORDERS).await.unwrap_err();

    assert!(error.cure().unwrap().contains("use: sign"), "{error:?}");
    house.entra.vault_restrict(CLIENT, &["certificates/get", "keys/sign"]);
    house.clock.advance(Duration::from_secs(30));
    let error = acquire(&credentials, ORDERS).await.unwrap_err();
    assert!(error.cure().unwrap().contains("Key Vault Certificate User"), "{error:?}");
}

#[tokio::test]
async fn a_new_version_is_downloaded_when_the_old_one_is_no_longer_accepted() {
    let house = TestBed::open().await;
    let (_, der) = house.entra.vault_certificate("gateway-key", true, 365);
    upload(&house, &der);
    let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Download)]);
    acquire(&credentials, ORDERS).await.unwrap();

    let (_, der) = house.entra.vault_certificate("gateway-key", true, 365);
    withdraw(&house);
    upload(&house, &der);

    acquire(&credentials, GRAPH).await.unwrap();
    assert_eq!(house.entra.calls("/secrets/gateway-key"), 2);
}

#[tokio::test]
async fn a_new_version_that_entra_does_not_know_yet_changes_nothing() {
    let house = TestBed::open().await;
    let (first, der) = house.entra.vault_certificate("gateway-key", false, 365);
    upload(&house, &der);
    let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Sign)]);
    acquire(&credentials, ORDERS).await.unwrap();

    house.entra.vault_certificate("gateway-key", false, 365);
    // The vault is looked at after some hours, and has a newer version then.
    house.clock.advance(Duration::from_secs(7 * 3_600));
    house.entra.forget_calls();
    acquire(&credentials, GRAPH).await.unwrap();

    assert_eq!(house.entra.calls("/certificates/gateway-key"), 1, "it was looked at");
    assert_eq!(house.entra.calls("/token"), 2, "one for the vault, one for Graph: no attempt with the new version");
    let signed = house.entra.requests("/sign");
    assert_eq!(signed.last().unwrap().target.path(), format!("/keys/gateway-key/{first}/sign"));
}

#[tokio::test]
async fn while_the_vault_is_out_a_key_that_is_here_serves() {
    let house = TestBed::open().await;
    let (_, der) = house.entra.vault_certificate("gateway-key", false, 365);
    upload(&house, &der);
    house.entra.update_app(VAULTED, |app| app.certificate_pem(&OTHER.certificate_pem));
    house.write("other.pem", &OTHER.pem());
    let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Sign), pem("other.pem")]);
    acquire(&credentials, ORDERS).await.unwrap();
    assert_eq!(house.entra.calls("/sign"), 1, "the vault's is preferred");

    house.entra.fail(Fault::on("/keys/").status(503));
    house.clock.advance(Duration::from_secs(300));

    acquire(&credentials, GRAPH).await.unwrap();
}

#[tokio::test]
async fn an_assertion_is_signed_ahead_of_need_and_serves_through_an_outage_of_the_vault() {
    let house = TestBed::open().await;
    let (_, der) = house.entra.vault_certificate("gateway-key", false, 365);
    upload(&house, &der);
    let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Sign)]);
    acquire(&credentials, ORDERS).await.unwrap();

    house.clock.advance(Duration::from_secs(160));
    acquire(&credentials, GRAPH).await.unwrap();
    house.entra.arrived("/sign", 2).await;
    credentials.find("vaulted").unwrap().endpoint.as_ref().unwrap().assertions.settled().await;
    house.entra.fail(Fault::on("/keys/").status(503));
    house.clock.advance(Duration::from_secs(200));

    acquire(&credentials, "https://monitor.azure.com/.default").await.unwrap();
    let sent: Vec<_> = house.entra.requests("/token").iter().filter_map(|request| request.field("client_assertion")).collect();
    let [.., second, third] = &sent[..] else { panic!("three requests at least") };
    assert_ne!(second, third, "the one that was signed ahead is in use");
}

#[tokio::test]
async fn a_vault_that_throttles_is_left_alone_for_as_long_as_it_says() {
    let house = TestBed::open().await;
    let (_, der) = house.entra.vault_certificate("gateway-key", false, 365);
    upload(&house, &der);
    house.entra.fail(Fault::on("/certificates/").status(429).header("retry-after", "20"));
    let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Sign)]);

    let error = acquire(&credentials, ORDERS).await.unwrap_err();
    assert!(matches!(vault_error(&error), VaultError::Refused { retry_after: Some(20), .. }), "{error:?}");
    for _ in 0..20 {
        assert!(acquire(&credentials, GRAPH).await.is_err());
    }
    assert_eq!(house.entra.calls("/certificates/gateway-key"), 1, "one vault, whoever asks");

    house.entra.recover();
    house.clock.advance(Duration::from_secs(20));
    acquire(&credentials, ORDERS).await.unwrap();
}

#[tokio::test]
async fn a_claims_challenge_of_the_vault_is_answered_once() {
    let house = TestBed::open().await;
    let (_, der) = house.entra.vault_certificate("gateway-key", false, 365);
    upload(&house, &der);
    // {"access_token":{"nbf":{"essential":true,"value":"1760000000"}}}
    let challenge = "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzYwMDAwMDAwIn19fQ==\"";
    house.entra.fail(Fault::on("/certificates/").status(401).header("www-authenticate", challenge).times(1));
    let credentials = with_certificates(&house, vec![kept(&house, KeyUse::Sign)]);

    acquire(&credentials, ORDERS).await.unwrap();

    let claims: Vec<_> = house.entra.requests("/token").iter().map(|request| request.field("claims")).collect();
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

    fn key_vault(house: &TestBed, required: bool) -> KeyVaultSecretConfig {
        KeyVaultSecretConfig {
            vault: house.entra.base_url().to_owned(),
            secret: "partner-key".to_owned(),
            version: None,
            identity: "gateway".to_owned(),
            required,
        }
    }

    fn named(house: &mut TestBed, required: bool) -> LiveSecret {
        house.secrets = Secrets::in_vault(SecretCell::new("partner-key", key_vault(house, required)));
        Secret::from("Key {{partner-key}}").live(&house.secrets).unwrap()
    }

    fn text(house: &TestBed, live: &LiveSecret) -> Option<String> {
        live.value(house.clock.unix_seconds()).map(|text| text.expose_secret().to_owned())
    }

    /// Reads everything that is due, and waits for it.
    async fn tend(house: &TestBed, credentials: &Credentials, reads: usize) {
        credentials.tend(&Handle::current());
        house.entra.arrived("/secrets/partner-key", reads).await;
        credentials.settled().await;
    }

    #[tokio::test]
    async fn a_secret_is_followed_through_its_versions_without_a_restart() {
        let mut house = TestBed::open().await;
        house.entra.vault_secret("partner-key", "first\n", None);
        let live = named(&mut house, false);
        let credentials = house.gateway();
        let now = house.clock.unix_seconds();
        assert_eq!(text(&house, &live), None);
        assert_eq!(credentials.awaited_secrets(now).collect::<Vec<_>>(), ["partner-key"]);

        tend(&house, &credentials, 1).await;
        assert_eq!(text(&house, &live).as_deref(), Some("Key first\n"), "nothing is trimmed");
        assert_eq!(credentials.awaited_secrets(now).count(), 0);

        house.entra.vault_secret("partner-key", "second", None);
        tend(&house, &credentials, 1).await;
        assert_eq!(house.entra.calls("/secrets/partner-key"), 1, "not before it is due");
        house.clock.advance(Duration::from_secs(300));
        tend(&house, &credentials, 2).await;
        assert_eq!(text(&house, &live).as_deref(), Some("Key second"));
        let status = &credentials.secrets(house.clock.unix_seconds())[0];
        assert!(status.ready && status.version.is_some() && status.last_error.is_none(), "{status:?}");
    }

    #[tokio::test]
    async fn a_short_lived_secret_is_read_again_before_it_ends_and_never_used_after() {
        let mut house = TestBed::open().await;
        let end = house.clock.unix_seconds() + 60;
        house.entra.vault_secret("partner-key", "first", Some(end));
        let live = named(&mut house, false);
        let credentials = house.gateway();
        tend(&house, &credentials, 1).await;

        house.clock.advance(Duration::from_secs(30));
        tend(&house, &credentials, 2).await;
        house.entra.vault_secret("partner-key", "second", Some(end + 600));
        house.clock.advance(Duration::from_secs(15));
        tend(&house, &credentials, 3).await;
        assert_eq!(text(&house, &live).as_deref(), Some("Key second"));

        house.entra.fail(Fault::on("/secrets/").status(503));
        house.clock.advance(Duration::from_secs(614));
        assert_eq!(text(&house, &live).as_deref(), Some("Key second"), "an outage takes nothing away");
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(text(&house, &live), None, "its end does");
    }

    #[tokio::test]
    async fn a_secret_that_is_withdrawn_serves_no_longer() {
        let mut house = TestBed::open().await;
        let version = house.entra.vault_secret("partner-key", "first", None);
        let live = named(&mut house, true);
        let credentials = house.gateway();
        tend(&house, &credentials, 1).await;

        house.entra.vault_enable("partner-key", &version, false);
        house.clock.advance(Duration::from_secs(300));
        tend(&house, &credentials, 2).await;

        assert_eq!(text(&house, &live), None);
        let now = house.clock.unix_seconds();
        assert_eq!(credentials.awaited_secrets(now).collect::<Vec<_>>(), ["partner-key"], "it is required");
        let status = &credentials.secrets(now)[0];
        assert!(status.last_error.as_ref().unwrap().contains("SecretNotFound"), "{status:?}");
    }

    #[tokio::test]
    async fn a_client_secret_of_a_vault_is_read_for_the_first_token_and_again_when_it_is_not_accepted() {
        let mut house = TestBed::open().await;
        house.entra.vault_secret("partner-key", "old", None);
        house.entra.update_app(VAULTED, |app| app.secret("old"));
        named(&mut house, false);
        let by_secret = CredentialConfig { certificate: None, client_secret: Some("{{partner-key}}".into()), ..config() };
        let (credentials, faults) = build(&house, by_secret.clone(), None);
        assert!(!faults.any_error(), "{faults:?}");

        acquire(&credentials, ORDERS).await.unwrap();
        house.entra.vault_secret("partner-key", "new", None);
        house.entra.update_app(VAULTED, |mut app| {
            app.secrets.clear();
            app.secret("new")
        });
        house.clock.advance(Duration::from_secs(30));
        acquire(&credentials, GRAPH).await.unwrap();
        assert_eq!(house.entra.calls("/secrets/partner-key"), 2);

        let (same, _) = build(&house, by_secret, Some(&credentials));
        assert!(Arc::ptr_eq(credentials.find("vaulted").unwrap(), same.find("vaulted").unwrap()), "and lives through a reload");
    }

    #[tokio::test]
    async fn without_the_secret_there_is_no_token_and_the_vaults_answer_says_why() {
        let mut house = TestBed::open().await;
        named(&mut house, false);
        let by_secret = CredentialConfig { certificate: None, client_secret: Some("{{partner-key}}".into()), ..config() };
        let (credentials, _) = build(&house, by_secret, None);

        let error = acquire(&credentials, ORDERS).await.unwrap_err();

        assert!(vault_error(&error).to_string().contains("SecretNotFound"), "{error:?}");
        assert!(!house.entra.requests("/token").iter().any(|request| request.field("client_id").as_deref() == Some(VAULTED)));
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        let mut house = TestBed::open().await;
        let told = |house: &TestBed, config: CredentialConfig| -> Vec<String> {
            let (_, faults) = house.build(config, None);
            faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect()
        };
        let with = |house: &mut TestBed, change: fn(&mut KeyVaultSecretConfig)| {
            let mut config = key_vault(house, false);
            change(&mut config);
            house.secrets = Secrets::in_vault(SecretCell::new("partner-key", config));
        };
        let at = "named-values.partner-key.key-vault";

        with(&mut house, |config| config.vault = "contoso".into());
        assert_eq!(told(&house, config()), [format!("{at}.vault: `contoso` is not a vault")]);
        with(&mut house, |config| config.secret = "a/b".into());
        assert_eq!(told(&house, config()), [format!("{at}.secret: `a/b` cannot be the name of something in a vault")]);
        with(&mut house, |config| config.identity = "nobody".into());
        assert_eq!(told(&house, config()), [format!("{at}.identity: there is no credential `nobody`")]);

        with(&mut house, |_| ());
        let own = CredentialConfig { certificate: None, client_secret: Some("{{partner-key}}".into()), ..config() };
        let own = told(&house, own);
        assert!(
            own.contains(&"credentials.gateway: it needs `gateway` for its token, and `gateway` needs it in turn".to_owned())
        );
        let password = CertificateConfig { password: Some("{{partner-key}}".into()), ..pem("gateway.pem") };
        assert_eq!(
            told(&house, CredentialConfig { certificate: Some(password), ..config() }),
            [
                "credentials.gateway.certificate.password: the secret `partner-key` is in a vault, and this setting is read before any vault is asked"
            ]
        );
    }
}

/// Tests a file that was replaced before Entra knows its new content.
#[tokio::test]
async fn what_the_config_before_signed_with_serves_until_the_new_certificate_is_known() {
    let house = TestBed::open().await;
    let first = house.gateway();
    first.find("gateway").unwrap().slot(ORDERS).unwrap().token().await.unwrap();

    house.write("gateway.pem", &OTHER.pem());
    let (rotated, _) = house.build(config(), Some(&first));
    house.entra.forget_calls();
    rotated.find("gateway").unwrap().slot(GRAPH).unwrap().token().await.unwrap();
    assert_eq!(house.entra.calls("/token"), 2, "the new one is tried, and the old one serves");

    house.entra.update_app(CLIENT, |mut app| {
        app.certificates.clear();
        app.certificate_pem(&OTHER.certificate_pem)
    });
    rotated.find("gateway").unwrap().slot("https://monitor.azure.com/.default").unwrap().token().await.unwrap();
    assert_eq!(rotated.status()[0].certificates[0].subject.as_deref(), Some(OTHER.pair().certificate().subject()));
    assert_ne!(OTHER.certificate_der, GATEWAY.certificate_der);
}

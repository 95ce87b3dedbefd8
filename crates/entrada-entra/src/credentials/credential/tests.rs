use tokio::runtime::Handle;

use super::*;
use crate::{
    credentials::{
        AssertionAlgorithm, AssertionConfig, CertificateConfig, CredentialError, Credentials,
        testing::{CLIENT, GATEWAY, OTHER, SCOPE, TestBed, config, pem},
    },
    dev_tenant::Fault,
    refusal::Reason,
    settings::{Faults, Secrets},
};

fn told(faults: &Faults) -> Vec<String> {
    faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect()
}

#[tokio::test]
async fn acquires_a_token_with_either_signature_and_with_the_chain() {
    let bed = TestBed::open().await;
    for (algorithm, send_certificate_chain) in
        [(AssertionAlgorithm::PS256, false), (AssertionAlgorithm::RS256, false), (AssertionAlgorithm::PS256, true)]
    {
        let config =
            CredentialConfig { assertion: AssertionConfig { algorithm: Some(algorithm), send_certificate_chain }, ..config() };
        let (credentials, _) = bed.build(config, None);

        let token = credentials.find("gateway").unwrap().slot(SCOPE).unwrap().token().await.unwrap();

        assert!(token.header().to_str().unwrap().starts_with("Bearer eyJ"));
        assert!(token.expires_at() > 1_800_000_000);
    }
}

#[tokio::test]
async fn five_hundred_cold_requests_make_one_token_request() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let slot = credentials.find("gateway").unwrap().slot(SCOPE).unwrap();
    let hold = bed.entra.hold("/token");
    let waiting: Vec<_> = (0..500)
        .map(|_| {
            let slot = slot.clone();
            tokio::spawn(async move { slot.token().await })
        })
        .collect();
    bed.entra.arrived("/token", 1).await;

    drop(hold);

    for waiter in waiting {
        assert!(waiter.await.unwrap().is_ok());
    }
    assert_eq!(bed.entra.calls("/token"), 1);
}

#[tokio::test]
async fn one_assertion_serves_several_scopes_while_it_is_good() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let credential = credentials.find("gateway").unwrap();

    for scope in [SCOPE, "https://graph.microsoft.com/.default", "https://vault.azure.net/.default"] {
        credential.slot(scope).unwrap().token().await.unwrap();
    }
    bed.clock.advance(Duration::from_secs(240));
    credential.slot("https://monitor.azure.com/.default").unwrap().token().await.unwrap();

    let assertions: Vec<_> =
        bed.entra.requests("/token").iter().map(|request| request.field("client_assertion").unwrap()).collect();
    assert_eq!(assertions.len(), 4);
    assert!(assertions[0] == assertions[1] && assertions[1] == assertions[2]);
    assert_ne!(assertions[2], assertions[3], "a minute before its end it is replaced");
}

#[tokio::test]
async fn the_same_scope_in_another_letter_case_is_the_same_token() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let credential = credentials.find("gateway").unwrap();

    assert!(Arc::ptr_eq(&credential.slot(SCOPE).unwrap(), &credential.slot("API://orders-internal/.default").unwrap()));
    assert!(!Arc::ptr_eq(&credential.slot(SCOPE).unwrap(), &credential.slot("api://orders/.default").unwrap()));
}

#[tokio::test]
async fn a_refusal_of_entra_comes_with_its_code_and_a_cure() {
    let bed = TestBed::open().await;
    bed.write("gateway.pem", &OTHER.pem());
    let credentials = bed.gateway();

    let error = credentials.find("gateway").unwrap().slot(SCOPE).unwrap().token().await.unwrap_err();

    assert_eq!(error.reason(), Reason::CredentialUnavailable);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("AADSTS700027"), "{cause}");
    let cure = error.cure().unwrap();
    assert!(cure.contains("upload this certificate"), "{cure}");
    assert!(cure.contains(&OTHER.pair().certificate().thumbprint()), "{cure}");
    let status = &credentials.status()[0];
    assert!(!status.ready);
    assert_eq!(status.tokens[0].last_error.as_ref().unwrap().cure.as_deref(), Some(&*cure));
}

#[tokio::test]
async fn reads_the_certificate_again_when_it_is_not_accepted() {
    let bed = TestBed::open().await;
    bed.write("gateway.pem", &OTHER.pem());
    let credentials = bed.gateway();
    bed.write("gateway.pem", &GATEWAY.pem());

    let token = credentials.find("gateway").unwrap().slot(SCOPE).unwrap().token().await;

    assert!(token.is_ok(), "{token:?}");
    assert_eq!(bed.entra.calls("/token"), 2);
    assert_eq!(credentials.status()[0].certificates[0].subject.as_deref(), Some("CN=gateway"));
}

#[tokio::test]
async fn of_two_certificates_the_one_that_is_accepted_is_remembered() {
    let bed = TestBed::open().await;
    bed.write("new.pem", &OTHER.pem());
    let config = CredentialConfig { certificate: None, certificates: vec![pem("new.pem"), pem("gateway.pem")], ..config() };
    let (credentials, faults) = bed.build(config, None);
    assert!(faults.is_empty(), "{faults:?}");
    let credential = credentials.find("gateway").unwrap();

    credential.slot(SCOPE).unwrap().token().await.unwrap();
    assert_eq!(bed.entra.calls("/token"), 2, "Entra does not know the new one yet");
    credential.slot("https://graph.microsoft.com/.default").unwrap().token().await.unwrap();
    assert_eq!(bed.entra.calls("/token"), 3, "and the old one is asked first from now on");
    assert_eq!(credentials.status()[0].certificates[0].subject.as_deref(), Some("CN=gateway"));

    bed.entra.update_app(CLIENT, |mut app| {
        app.certificates.clear();
        app.certificate_pem(&OTHER.certificate_pem)
    });
    bed.clock.advance(Duration::from_secs(300));
    credential.slot("https://vault.azure.net/.default").unwrap().token().await.unwrap();

    assert_eq!(credentials.status()[0].certificates[0].subject.as_deref(), Some("CN=other"));
}

#[tokio::test]
async fn acquires_a_token_with_a_pfx_file_and_with_a_secret() {
    let mut bed = TestBed::open().await;
    let pfx = GATEWAY.pfx(
        "hunter2",
        p12_keystore::EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
        p12_keystore::MacAlgorithm::HmacSha256,
    );
    std::fs::write(bed.folder.path().join("gateway.pfx"), pfx).unwrap();
    bed.secrets = Secrets::known([("word", "hunter2")]);
    bed.entra.update_app(CLIENT, |app| app.secret("hunter2"));
    let with_pfx =
        CertificateConfig { pfx: Some("gateway.pfx".to_owned()), password: Some("{{word}}".into()), ..Default::default() };

    for config in [
        CredentialConfig { certificate: Some(with_pfx), ..config() },
        CredentialConfig { certificate: None, client_secret: Some("{{word}}".into()), ..config() },
    ] {
        let (credentials, faults) = bed.build(config, None);
        assert!(!faults.any_error(), "{faults:?}");

        let token = credentials.find("gateway").unwrap().slot(SCOPE).unwrap().token().await;

        assert!(token.is_ok(), "{token:?}");
        assert!(!format!("{credentials:#?} {faults:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_credential_has_one_means_to_prove_itself() {
    let mut bed = TestBed::open().await;
    bed.secrets = Secrets::known([("word", "hunter2")]);
    let with = |change: fn(&mut CredentialConfig)| {
        let mut config = config();
        change(&mut config);
        told(&bed.build(config, None).1)
    };
    let at = "credentials.gateway";

    assert_eq!(with(|config| config.certificate = None), [format!("{at}: it has nothing to prove itself with")]);
    assert_eq!(
        with(|config| config.client_secret = Some("{{word}}".into())),
        [format!("{at}: it has several means to prove itself: certificate, client-secret")]
    );
    assert_eq!(
        with(|config| config.certificate = Some(CertificateConfig::default())),
        [format!("{at}.certificate: no file is named")]
    );
    assert_eq!(
        with(|config| config.certificate = Some(CertificateConfig { pfx: Some("a".into()), ..pem("b") })),
        [format!("{at}.certificate: both `pem` and `pfx` are given")]
    );
    assert_eq!(
        with(|config| {
            config.certificate = None;
            config.client_secret = Some("hunter2".into());
        }),
        [format!("{at}.client-secret: a client secret stands in the config itself")]
    );
}

#[tokio::test]
async fn an_outage_at_the_start_is_over_when_it_is_over() {
    let bed = TestBed::open().await;
    bed.entra.fail(Fault { path: "/token".to_owned(), status: Some(503), ..Fault::default() });
    let (credentials, _) = bed.build(CredentialConfig { required: true, ..config() }, None);
    let slot = credentials.find("gateway").unwrap().slot(SCOPE).unwrap();

    assert!(slot.token().await.is_err());
    assert_eq!(credentials.unready().collect::<Vec<_>>(), ["gateway"]);
    bed.entra.recover();
    bed.clock.advance(Duration::from_secs(30));
    credentials.tend(&Handle::current());
    slot.token().await.unwrap();

    assert_eq!(credentials.unready().count(), 0);
}

#[tokio::test]
async fn starting_fetches_what_routes_will_ask_for() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let slot = credentials.find("gateway").unwrap().slot(SCOPE).unwrap();

    credentials.start(&Handle::current());
    slot.token().await.unwrap();

    assert_eq!(bed.entra.calls("/token"), 1);
    assert!(credentials.status()[0].ready);
}

#[tokio::test]
async fn what_did_not_change_is_carried_over_and_what_did_inherits_its_tokens() {
    let bed = TestBed::open().await;
    let first = bed.gateway();
    first.find("gateway").unwrap().slot(SCOPE).unwrap().token().await.unwrap();

    let (same, _) = bed.build(config(), Some(&first));
    assert!(Arc::ptr_eq(first.find("gateway").unwrap(), same.find("gateway").unwrap()));

    bed.write("gateway.pem", &OTHER.pem());
    let (rotated, _) = bed.build(config(), Some(&same));
    assert!(!Arc::ptr_eq(same.find("gateway").unwrap(), rotated.find("gateway").unwrap()));
    assert!(
        rotated.find("gateway").unwrap().slot(SCOPE).unwrap().cached().is_some(),
        "tokens outlive the certificate they were earned with"
    );

    let other = CredentialConfig { client_id: Some("11111111-aaaa-2222-bbbb-3333cccc4444".to_owned()), ..config() };
    let (other, _) = bed.build(other, Some(&rotated));
    assert!(other.find("gateway").unwrap().slot(SCOPE).unwrap().cached().is_none(), "and belong to one client alone");
    assert_eq!(bed.entra.calls("/token"), 1);
}

#[tokio::test]
async fn says_what_is_wrong_with_a_credential() {
    let bed = TestBed::open().await;
    let with = |change: fn(&mut CredentialConfig)| {
        let mut config = config();
        change(&mut config);
        told(&bed.build(config, None).1)
    };

    assert_eq!(
        with(|config| config.tenant = Some("elsewhere".into())),
        ["credentials.gateway.tenant: there is no tenant `elsewhere`"]
    );
    assert_eq!(
        with(|config| config.client_id = Some("gateway".into())),
        ["credentials.gateway.client-id: `gateway` is not an application id"]
    );
    let absent = with(|config| config.certificate = Some(pem("absent.pem")));
    assert!(absent[0].starts_with("credentials.gateway.certificate: ") && absent[0].contains("absent.pem"), "{absent:?}");
    assert_eq!(absent.len(), 1);
    let several = with(|config| {
        config.client_id = None;
        config.tenant = Some("elsewhere".into());
        config.certificate = Some(pem("absent.pem"));
    });
    assert_eq!(several.len(), 3, "{several:?}");
}

#[tokio::test]
async fn warns_of_a_certificate_that_ends_soon_and_of_loose_permissions() {
    let bed = TestBed::open().await;
    let end = GATEWAY.pair().certificate().not_after();
    bed.clock.advance(Duration::from_secs(end - 86_400 * 3 - 1_800_000_000));

    assert_eq!(
        told(&bed.build(config(), None).1),
        ["credentials.gateway.certificate: the certificate of CN=gateway expires in 3 days"]
    );

    bed.clock.advance(Duration::from_secs(86_400 * 4));
    assert_eq!(
        told(&bed.build(config(), None).1),
        ["credentials.gateway.certificate: the certificate of CN=gateway has expired"]
    );
    #[cfg(unix)]
    {
        let path = bed.folder.path().join("gateway.pem");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let (credentials, faults) = bed.build(config(), None);
        assert!(credentials.find("gateway").is_some());
        assert!(told(&faults)[0].contains("others may use it (mode 644)"), "{faults:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_warned_of_once_a_day_for_as_long_as_the_gateway_runs() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let credential = credentials.find("gateway").unwrap();
    assert!(!credential.warn_of_certificates());

    let end = GATEWAY.pair().certificate().not_after();
    bed.clock.advance(Duration::from_secs(end - 86_400 * 29 - 1_800_000_000));
    assert!(credential.warn_of_certificates());
    assert!(!credential.warn_of_certificates(), "once a day is enough");
    bed.clock.advance(Duration::from_secs(86_400));
    assert!(credential.warn_of_certificates());
}

#[tokio::test]
async fn nothing_shows_a_token_or_an_assertion() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let token = credentials.find("gateway").unwrap().slot(SCOPE).unwrap().token().await.unwrap();
    let assertion = bed.entra.requests("/token")[0].field("client_assertion").unwrap();

    let shown = format!(
        "{credentials:#?} {:#?} {} {token:?}",
        credentials.status(),
        serde_json::to_string(&credentials.status()).unwrap()
    );

    for secret in [token.expose(), &assertion, "PRIVATE KEY"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!shown.contains("eyJ"), "{shown}");
}

/// Tokens for callers: in their tenant, and on their behalf.
mod for_callers {
    use super::*;

    const GRAPH: &str = "https://graph.microsoft.com/User.Read";
    const FABRIKAM: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";

    async fn exchange(bed: &TestBed, credentials: &Credentials, token: &str) -> Result<Arc<AccessToken>, CredentialError> {
        let tenant = bed.entra.tenant_id();
        let token = SecretString::from(token);
        let user = UserToken { token: &token, tenant: &tenant, expires_at: bed.clock.unix_seconds() + 1_000 };
        credentials.find("gateway").unwrap().slot_on_behalf_of(user, GRAPH).unwrap().token().await
    }

    fn user_token(bed: &TestBed, name: &str) -> String {
        bed.entra.token().user(name).audience(CLIENT).scopes(["access_as_user"]).sign()
    }

    #[tokio::test]
    async fn a_users_token_is_exchanged_once_and_each_user_has_its_own() {
        let bed = TestBed::open().await;
        let credentials = bed.gateway();
        let (nia, otto) = (user_token(&bed, "nia"), user_token(&bed, "otto"));

        let first = exchange(&bed, &credentials, &nia).await.unwrap();
        let again = exchange(&bed, &credentials, &nia).await.unwrap();
        let other = exchange(&bed, &credentials, &otto).await.unwrap();

        assert!(Arc::ptr_eq(&first, &again));
        assert_ne!(first.expose(), other.expose());
        assert_eq!(bed.entra.calls("/token"), 2);
        assert_eq!(credentials.status()[0].tokens_for_callers, 2);
    }

    #[tokio::test]
    async fn what_was_exchanged_ends_with_the_users_own_token() {
        let bed = TestBed::open().await;
        let credentials = bed.gateway();
        let nia = user_token(&bed, "nia");

        let token = exchange(&bed, &credentials, &nia).await.unwrap();

        assert_eq!(token.expires_at(), bed.clock.unix_seconds() + 1_000);
    }

    #[tokio::test]
    async fn a_user_who_must_sign_in_again_is_told_so_and_entra_is_not_asked_twice() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};

        let bed = TestBed::open().await;
        let credentials = bed.gateway();
        let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
        bed.entra.fail(Fault {
            path: "/token".to_owned(),
            aadsts: Some(50_079),
            members: [("claims".to_owned(), claims.into())].into_iter().collect(),
            ..Fault::default()
        });
        let nia = user_token(&bed, "nia");

        let error = exchange(&bed, &credentials, &nia).await.unwrap_err();
        bed.clock.advance(Duration::from_secs(300));
        assert!(exchange(&bed, &credentials, &nia).await.is_err());

        assert_eq!(bed.entra.calls("/token"), 1);
        assert_eq!(error.reason(), Reason::InteractionRequired);
        let challenge = error.challenge().unwrap();
        let challenge = challenge.to_str().unwrap();
        assert!(challenge.contains(&format!("claims=\"{}\"", STANDARD.encode(claims))), "{challenge}");
        assert!(challenge.contains("error=\"insufficient_claims\""), "{challenge}");
        assert!(challenge.contains("/oauth2/v2.0/authorize\""), "{challenge}");
    }

    #[tokio::test]
    async fn a_customer_without_consent_is_told_so_and_others_are_served() {
        let bed = TestBed::open().await;
        let credentials = bed.gateway();
        let credential = credentials.find("gateway").unwrap();

        let error = credential.slot_in(FABRIKAM, "https://graph.microsoft.com/.default").unwrap().token().await.unwrap_err();
        assert_eq!(error.reason(), Reason::TenantNotConsented);
        credential.slot(SCOPE).unwrap().token().await.unwrap();

        bed.entra.update_app(CLIENT, |app| app.consented_by("fabrikam"));
        bed.clock.advance(Duration::from_secs(10));
        credential.slot_in(FABRIKAM, "https://graph.microsoft.com/.default").unwrap().token().await.unwrap();
        let paths: Vec<_> = bed.entra.requests("/token").iter().map(|request| request.target.path().to_owned()).collect();
        assert!(paths[2].starts_with(&format!("/{FABRIKAM}/")), "{paths:?}");
    }

    #[tokio::test]
    async fn a_credential_without_a_tenant_of_its_own_serves_callers_tenants_alone() {
        let mut bed = TestBed::open().await;
        let many = crate::credentials::testing::tenant("organizations", Some(bed.entra.base_url()));
        bed.tenants.insert("contoso".to_owned(), many);
        let credentials = bed.gateway();
        let credential = credentials.find("gateway").unwrap();

        assert!(credential.slot(SCOPE).is_none());
        let token = credential.slot_in(&bed.entra.tenant_id(), SCOPE).unwrap().token().await;

        assert!(token.is_ok(), "{token:?}");
    }
}

/// Keys that stay in a vault, and tokens of other issuers.
mod without_a_key {
    use super::*;
    use crate::credentials::{
        FederatedTokenConfig, KeyUse, KeyVaultCertificateConfig, ManagedIdentityConfig, WorkloadIdentityConfig,
    };

    /// The application whose key is in the vault.
    const VAULTED: &str = "22223333-cccc-4444-dddd-5555eeee6666";
    const ORDERS: &str = "api://orders/.default";

    /// Makes `gateway`, which opens the vault in which `vaulted` has its certificate.
    fn configs(bed: &TestBed) -> BTreeMap<String, CredentialConfig> {
        let key_vault = KeyVaultCertificateConfig {
            vault: bed.entra.base_url().to_owned(),
            certificate: "gateway-key".to_owned(),
            version: None,
            identity: "gateway".to_owned(),
            key_use: KeyUse::Sign,
        };
        let certificate = CertificateConfig { key_vault: Some(key_vault), ..CertificateConfig::default() };
        let vaulted = CredentialConfig { client_id: Some(VAULTED.to_owned()), certificate: Some(certificate), ..config() };
        [("gateway".to_owned(), config()), ("a-vaulted".to_owned(), vaulted)].into()
    }

    fn build(bed: &TestBed) -> Credentials {
        let (credentials, faults) = bed.build_all(&configs(bed), None);
        assert!(faults.is_empty(), "{faults:?}");
        credentials
    }

    #[tokio::test]
    async fn the_vault_signs_and_the_key_stays_there() {
        let bed = TestBed::open().await;
        let (version, der) = bed.entra.vault_certificate("gateway-key", false, 365);
        bed.entra.update_app(VAULTED, |app| app.certificate_der(&der));
        bed.entra.vault_restrict(CLIENT, &["certificates/get", "keys/sign"]);
        let credentials = build(&bed);
        let credential = credentials.find("a-vaulted").unwrap();

        credential.slot(ORDERS).unwrap().token().await.unwrap();
        credential.slot("https://graph.microsoft.com/.default").unwrap().token().await.unwrap();

        let signed = bed.entra.requests("/sign");
        assert_eq!(signed.len(), 1, "one signature serves several token requests");
        assert_eq!(signed[0].target.path(), format!("/keys/gateway-key/{version}/sign"));
        assert_eq!(credentials.status().iter().find(|status| status.name == "a-vaulted").unwrap().certificates.len(), 1);
    }

    #[tokio::test]
    async fn a_new_version_is_taken_when_the_old_one_is_no_longer_accepted_and_not_before() {
        let bed = TestBed::open().await;
        let (first, der) = bed.entra.vault_certificate("gateway-key", false, 365);
        bed.entra.update_app(VAULTED, |app| app.certificate_der(&der));
        let credentials = build(&bed);
        let credential = credentials.find("a-vaulted").unwrap();
        credential.slot(ORDERS).unwrap().token().await.unwrap();

        let (second, der) = bed.entra.vault_certificate("gateway-key", false, 365);
        bed.clock.advance(Duration::from_secs(300));
        credential.slot("https://graph.microsoft.com/.default").unwrap().token().await.unwrap();
        bed.entra.update_app(VAULTED, |mut app| {
            app.certificates.clear();
            app.certificate_der(&der)
        });
        bed.clock.advance(Duration::from_secs(300));
        credential.slot("https://vault.azure.net/.default").unwrap().token().await.unwrap();

        let signed: Vec<_> = bed.entra.requests("/sign").iter().map(|request| request.target.path().to_owned()).collect();
        let path = |version: &str| format!("/keys/gateway-key/{version}/sign");
        assert_eq!(signed, [path(&first), path(&first), path(&first), path(&second)]);
    }

    #[tokio::test]
    async fn a_missing_role_is_named() {
        let bed = TestBed::open().await;
        let (_, der) = bed.entra.vault_certificate("gateway-key", false, 365);
        bed.entra.update_app(VAULTED, |app| app.certificate_der(&der));
        bed.entra.vault_restrict(CLIENT, &["certificates/get"]);
        let credentials = build(&bed);

        let error = credentials.find("a-vaulted").unwrap().slot(ORDERS).unwrap().token().await.unwrap_err();

        assert_eq!(error.reason(), Reason::CredentialUnavailable);
        assert!(error.cure().unwrap().contains("Key Vault Crypto User"), "{error:?}");
    }

    #[tokio::test]
    async fn tokens_are_served_through_an_outage_of_the_vault() {
        let bed = TestBed::open().await;
        let (_, der) = bed.entra.vault_certificate("gateway-key", false, 365);
        bed.entra.update_app(VAULTED, |app| app.certificate_der(&der));
        let credentials = build(&bed);
        let slot = credentials.find("a-vaulted").unwrap().slot(ORDERS).unwrap();
        let token = slot.token().await.unwrap();

        bed.entra.fail(Fault { path: "/keys/".to_owned(), status: Some(503), ..Fault::default() });
        bed.clock.advance(Duration::from_secs(token.expires_at() - bed.clock.unix_seconds() - 30));

        assert!(Arc::ptr_eq(&token, &slot.token().await.unwrap()));
    }

    #[tokio::test]
    async fn the_platforms_token_is_read_anew_for_each_request() {
        let bed = TestBed::open().await;
        let issuer = bed.entra.issuer_v2(&bed.entra.tenant_id());
        bed.entra.update_app(CLIENT, |app| app.federated(&issuer, "pod"));
        let pod = || bed.entra.token().app(VAULTED).audience("api://AzureADTokenExchange").claim("sub", "pod").sign();
        let by_file = FederatedTokenConfig { file: Some("token".to_owned()), managed_identity: None };
        let by_pod = WorkloadIdentityConfig { token_file: Some("token".to_owned()) };

        for config in [
            CredentialConfig { certificate: None, federated_token: Some(by_file), ..config() },
            CredentialConfig { certificate: None, workload_identity: Some(by_pod), ..config() },
        ] {
            bed.entra.forget_calls();
            let (credentials, faults) = bed.build(config, None);
            assert!(faults.is_empty(), "{faults:?}");
            let credential = credentials.find("gateway").unwrap();
            for scope in [SCOPE, "https://graph.microsoft.com/.default"] {
                let token = pod();
                bed.write("token", &format!("{token}\n"));

                let acquired = credential.slot(scope).unwrap().token().await;

                assert!(acquired.is_ok(), "{acquired:?}");
                assert_eq!(bed.entra.requests("/token").last().unwrap().field("client_assertion"), Some(token));
            }
        }
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        let bed = TestBed::open().await;
        let with = |change: fn(&mut BTreeMap<String, CredentialConfig>)| {
            let mut configs = configs(&bed);
            change(&mut configs);
            told(&bed.build_all(&configs, None).1)
        };
        fn vault(configs: &mut BTreeMap<String, CredentialConfig>) -> &mut KeyVaultCertificateConfig {
            configs.get_mut("a-vaulted").unwrap().certificate.as_mut().unwrap().key_vault.as_mut().unwrap()
        }
        let at = "credentials.a-vaulted";

        assert_eq!(
            with(|configs| vault(configs).identity = "a-vaulted".into()),
            [format!("{at}: it needs `a-vaulted` for its token, and `a-vaulted` needs it in turn")]
        );
        assert_eq!(
            with(|configs| vault(configs).identity = "nobody".into()),
            [format!("{at}.certificate.key-vault.identity: there is no credential `nobody`")]
        );
        assert_eq!(
            with(|configs| vault(configs).vault = "http://contoso.vault.azure.net".into())[0],
            format!("{at}.certificate.key-vault.vault: `http://contoso.vault.azure.net` is not a vault")
        );
        assert_eq!(
            with(|configs| vault(configs).certificate = "../secrets/x".into()),
            [format!("{at}.certificate.key-vault.certificate: `../secrets/x` cannot be the name of something in a vault")]
        );
        assert_eq!(
            with(|configs| {
                configs.get_mut("gateway").unwrap().managed_identity = Some(ManagedIdentityConfig::default());
            }),
            ["credentials.gateway: a managed identity needs no tenant, no client id and no other means"]
        );
    }
}

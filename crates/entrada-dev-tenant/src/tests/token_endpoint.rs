//! Tests of the token endpoint: requests of real clients are accepted, invalid ones are refused as Entra refuses them.

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};

use super::{
    super::defaults::{FABRIKAM, INTERNAL},
    *,
};

#[tokio::test]
async fn accepts_assertions_in_every_form_that_real_clients_send() {
    let tenant = tenant().await;
    let client = Client::registered(&tenant).await;
    let (sha1, sha256) = (client.sha1(), client.sha256());
    let der = STANDARD.encode(client.key.certificate());
    let now = crate::base::clock::Clock::system().unix_seconds();
    let plain = Client::claims(&tenant);
    let with = |more: Value| {
        let mut claims = plain.clone();
        claims.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        claims
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let fraction = with(json!({ "exp": now as f64 + 600.25, "iat": now as f64 + 0.25, "nbf": null }));
    let cases: Vec<(&str, Value, Value, bool)> = vec![
        ("strict", client.header(), plain.clone(), false),
        (
            "MSAL Python, certificate",
            json!({ "alg": "PS256", "typ": "JWT", "x5c": [format!("{}\n{}", &der[..64], &der[64..])],
            "x5t#S256": URL_SAFE.encode(&sha256) }),
            fraction.clone(),
            false,
        ),
        ("MSAL Python, thumbprint", json!({ "alg": "RS256", "typ": "JWT", "x5t": URL_SAFE.encode(&sha1) }), fraction, false),
        (
            "azure-identity aio",
            json!({ "typ": "JWT", "alg": "PS256", "x5t#S256": URL_SAFE.encode(&sha256) }),
            plain.clone(),
            true,
        ),
        (
            "MSAL .NET",
            json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(&sha256), "x5c": der }),
            with(json!({ "nbf": now.to_string(), "exp": (now + 600).to_string() })),
            false,
        ),
        ("MSAL Go", json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": STANDARD.encode(&sha256) }), plain.clone(), false),
        ("azure_identity Rust", json!({ "alg": "RS256", "x5t": STANDARD_NO_PAD.encode(&sha1) }), plain.clone(), false),
        ("v1 audience", client.header(), with(json!({ "aud": format!("{}/{CONTOSO}/oauth2/token", tenant.base_url()) })), false),
    ];

    for (name, header, claims, padded) in cases {
        let assertion = if padded {
            client.assert_with(&URL_SAFE, &header, &claims)
        } else {
            client.assert_with(&URL_SAFE_NO_PAD, &header, &claims)
        };
        let (status, answer) = ask(&tenant, &assertion, &[]).await;
        assert_eq!(status, 200, "{name}: {answer}");
        assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3599)), "{name}");
    }
}

#[tokio::test]
async fn the_token_of_a_certificate_says_what_was_granted() {
    let tenant = tenant().await;
    let client = Client::registered(&tenant).await;

    let (_, answer) = ask(&tenant, &client.assertion(&tenant), &[]).await;
    let claims =
        verified(&tenant, &format!("/{CONTOSO}/discovery/v2.0/keys"), answer["access_token"].as_str().expect("token")).await;

    assert_eq!((&claims["aud"], &claims["azp"], &claims["azpacr"]), (&json!(INTERNAL), &json!(GATEWAY), &json!("2")));
    assert_eq!(claims["roles"], json!(["Orders.Forward"]));
}

#[tokio::test]
async fn version_1_answers_with_numbers_as_texts_and_the_resource_as_asked() {
    let tenant = tenant().await;
    tenant.update_app(GATEWAY, |app| app.secret("a secret of the tests"));

    let form = [
        ("client_id", GATEWAY),
        ("grant_type", "client_credentials"),
        ("resource", "https://vault.azure.net"),
        ("client_secret", "a secret of the tests"),
    ];
    let (status, answer) = post(&tenant, &format!("/{CONTOSO}/oauth2/token"), &form).await;
    let claims = verified(&tenant, &format!("/{CONTOSO}/discovery/keys"), answer["access_token"].as_str().expect("token")).await;

    assert_eq!((status, &answer["expires_in"], &answer["resource"]), (200, &json!("3599"), &json!("https://vault.azure.net")));
    assert_eq!(
        (&claims["aud"], &claims["appidacr"], &claims["ver"]),
        (&json!("https://vault.azure.net"), &json!("1"), &json!("1.0"))
    );
}

#[tokio::test]
async fn refuses_assertions_that_do_not_hold() {
    let tenant = tenant().await;
    let client = Client::registered(&tenant).await;
    let stranger = Client::new();
    let now = crate::base::clock::Clock::system().unix_seconds();
    let (header, claims) = (client.header(), Client::claims(&tenant));
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        client.assert_with(&URL_SAFE_NO_PAD, &header, &claims)
    };
    let cases = [
        ("another certificate", stranger.assertion(&tenant), 700_027),
        ("another key under the thumbprint", stranger.assert_with(&URL_SAFE_NO_PAD, &header, &claims), 700_027),
        ("no thumbprint", client.assert_with(&URL_SAFE_NO_PAD, &json!({ "alg": "PS256" }), &claims), 50027),
        ("sub is not iss", changed("sub", json!(PARTNER)), 50048),
        ("expired", changed("exp", json!(now - 600)), 700_024),
        ("not yet valid", changed("nbf", json!(now + 600)), 700_024),
        ("no expiry", changed("exp", Value::Null), 700_024),
        ("audience of common", changed("aud", json!(format!("{}/common/oauth2/v2.0/token", tenant.base_url()))), 700_023),
        ("two audiences", changed("aud", json!([tenant.token_endpoint(CONTOSO), "https://other.example"])), 50027),
    ];

    for (name, assertion, code) in cases {
        let (status, answer) = ask(&tenant, &assertion, &[]).await;
        assert_eq!(
            (status, &answer["error"], &answer["error_codes"]),
            (401, &json!("invalid_client"), &json!([code])),
            "{name}: {answer}"
        );
    }
    let (status, answer) = ask(&tenant, "no.jwt", &[]).await;
    assert_eq!((status, &answer["error_codes"]), (400, &json!([50027])));
}

#[tokio::test]
async fn answers_wrong_requests_as_entra_does() {
    let tenant = tenant().await;
    let client = Client::registered(&tenant).await;
    let assertion = client.assertion(&tenant);
    type Case<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)], u16, &'a str, u32);
    let cases: &[Case<'_>] = &[
        ("no grant", &[("grant_type", None)], 400, "invalid_request", 900_144),
        ("another grant", &[("grant_type", Some("password"))], 400, "unsupported_grant_type", 70003),
        ("unknown client", &[("client_id", Some("99999999-0000-4000-8000-000000000000"))], 400, "unauthorized_client", 700_016),
        ("no credential", &[("client_assertion", None)], 401, "invalid_client", 7_000_218),
        ("wrong secret", &[("client_assertion", None), ("client_secret", Some("x"))], 401, "invalid_client", 7_000_215),
        ("no default scope", &[("scope", Some("api://orders-internal/Orders.Read"))], 400, "invalid_scope", 1_002_012),
        (
            "two resources",
            &[("scope", Some("api://orders/.default api://orders-internal/.default"))],
            400,
            "invalid_scope",
            700_022,
        ),
        ("unknown resource", &[("scope", Some("api://nothing/.default"))], 400, "invalid_resource", 500_011),
        (
            "a resource that the scope is not of",
            &[("resource", Some("https://orders.example"))],
            400,
            "invalid_target",
            9_010_010,
        ),
    ];

    for (name, change, status, error, code) in cases {
        let (answered, answer) = ask(&tenant, &assertion, change).await;
        assert_eq!(
            (answered, &answer["error"], &answer["error_codes"]),
            (*status, &json!(error), &json!([code])),
            "{name}: {answer}"
        );
        let text = answer["error_description"].as_str().expect("text");
        assert!(
            text.starts_with(&format!("AADSTS{code}: ")) && text.contains("Trace ID: ") && text.contains("Correlation ID: "),
            "{text}"
        );
    }
}

#[tokio::test]
async fn only_tenants_that_consented_know_an_app() {
    let tenant = tenant().await;
    tenant.update_app(GATEWAY, |app| app.secret("s"));
    let path = format!("/{FABRIKAM}/oauth2/v2.0/token");
    let form = [
        ("client_id", GATEWAY),
        ("grant_type", "client_credentials"),
        ("scope", "https://graph.microsoft.com/.default"),
        ("client_secret", "s"),
    ];

    let (_, single) = post(&tenant, &path, &form).await;
    tenant.update_app(GATEWAY, |app| App { multi_tenant: true, ..app });
    let (_, unconsented) = post(&tenant, &path, &form).await;
    tenant.update_app(GATEWAY, |app| app.consented_by("fabrikam"));
    let (status, _) = post(&tenant, &path, &form).await;

    assert_eq!((&single["error_codes"], &unconsented["error_codes"], status), (&json!([700_016]), &json!([7_000_229]), 200));
}

#[tokio::test]
async fn mapped_claims_need_a_key_or_the_manifests_word() {
    let tenant = tenant().await;
    tenant.update_app(GATEWAY, |app| app.secret("s"));
    let path = format!("/{CONTOSO}/oauth2/v2.0/token");
    let ask = async |scope: &str| {
        post(
            &tenant,
            &path,
            &[("client_id", GATEWAY), ("grant_type", "client_credentials"), ("scope", scope), ("client_secret", "s")],
        )
        .await
        .1
    };

    tenant.update_app(LEGACY, |app| app.mapped_claim("sam", "onpremisessamaccountname"));
    assert_eq!(ask("api://legacy/.default").await["error_codes"], json!([50146]));
    tenant.update_app(LEGACY, |app| app.accepts_mapped_claims().uri("https://contoso.example/legacy"));
    assert_eq!(ask("api://legacy/.default").await["error_codes"], json!([501_461]));
    assert!(ask(&format!("{LEGACY}/.default")).await.get("access_token").is_some());
    assert!(ask("https://contoso.example/legacy/.default").await.get("access_token").is_some());
    tenant.update_app(LEGACY, App::own_signing_key);
    assert!(ask("api://legacy/.default").await.get("access_token").is_some());
}

#[tokio::test]
async fn exchanges_a_users_token_and_nothing_else() {
    let tenant = tenant().await;
    tenant.update_app(GATEWAY, |app| app.secret("s"));
    let ask = async |assertion: String, scope: &str| {
        let form = [
            ("client_id", GATEWAY),
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("requested_token_use", "on_behalf_of"),
            ("client_secret", "s"),
            ("assertion", &assertion),
            ("scope", scope),
        ];
        post(&tenant, &format!("/{CONTOSO}/oauth2/v2.0/token"), &form).await.1
    };
    let inbound = || tenant.token().user("nia").audience("api://gateway");
    let scope = "api://orders-internal/Orders.Read openid profile offline_access";

    let good = ask(inbound().sign(), scope).await;
    let claims =
        verified(&tenant, &format!("/{CONTOSO}/discovery/v2.0/keys"), good["access_token"].as_str().expect("token")).await;

    assert_eq!((&claims["scp"], &claims["azp"], &claims["name"]), (&json!("Orders.Read"), &json!(GATEWAY), &json!("Nia Okafor")));
    assert!(good.get("refresh_token").is_none());
    for (name, assertion, code) in [
        ("expired", inbound().expired().sign(), 500_133),
        ("for another app", inbound().audience("api://orders").sign(), 500_131),
        ("wrong key", inbound().wrong_key().sign(), 50013),
        ("own key of the app", inbound().app_key(GATEWAY).sign(), 50013),
        ("app-only", tenant.token().app(PARTNER).audience("api://gateway").sign(), 7_000_114),
        ("id token", inbound().id_token().sign(), 240_002),
    ] {
        assert_eq!(ask(assertion, scope).await["error_codes"], json!([code]), "{name}");
    }
    assert_eq!(ask(inbound().sign(), "api://orders-internal/Orders.Write").await["error_codes"], json!([65001]));
}

#[tokio::test]
async fn federated_tokens_match_to_the_letter() {
    let tenant = tenant().await;
    let issuer = tenant.issuer_v2(CONTOSO);
    tenant.update_app(GATEWAY, |app| app.federated(&issuer, "system:serviceaccount:shop:gateway"));
    let pod =
        || tenant.token().app(PARTNER).audience(directory::TOKEN_EXCHANGE).claim("sub", "system:serviceaccount:shop:gateway");

    let (status, answer) = ask(&tenant, &pod().sign(), &[]).await;

    assert_eq!(status, 200, "{answer}");
    for (name, assertion, code) in [
        ("issuer", pod().claim("iss", "https://other.example").sign(), 700_211),
        ("audience", pod().claim("aud", "api://other").sign(), 700_212),
        ("subject", pod().claim("sub", "system:serviceaccount:shop:other").sign(), 700_213),
        ("letter case", pod().claim("sub", "system:serviceaccount:Shop:gateway").sign(), 7_002_138),
        ("key", pod().wrong_key().sign(), 700_027),
        ("user", pod().scopes(["x"]).sign(), 700_229),
        ("expired", pod().expired().sign(), 700_024),
    ] {
        let (status, answer) = ask(&tenant, &assertion, &[]).await;
        assert_eq!((status, &answer["error_codes"]), (401, &json!([code])), "{name}: {answer}");
    }
}

/// Replays the requests of real clients, byte for byte, if the captures lie beside the checkout.
#[tokio::test]
async fn accepts_what_real_clients_were_seen_to_send() {
    let Some(folder) = std::env::var_os("ENTRADA_GOLDEN").map(std::path::PathBuf::from).filter(|folder| folder.is_dir()) else {
        eprintln!("skipped: ENTRADA_GOLDEN names no folder with captures");
        return;
    };
    let read = |path: &std::path::Path| -> Value { serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON") };
    let certificates = read(&folder.join("certificates.json"));
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).expect("folder").map(|entry| entry.expect("entry").path()) {
        if entry.extension().is_none_or(|extension| extension != "json") || entry.ends_with("certificates.json") {
            continue;
        }
        for request in read(&entry)["requests"].as_array().cloned().unwrap_or_default() {
            let Some(assertion) = request["client_assertion_compact"].as_str() else { continue };
            let mut form: Vec<(String, String)> = serde_json::from_value(request["form_in_order"].clone()).expect("form");
            for (name, value) in &mut form {
                if name == "client_assertion" {
                    assertion.clone_into(value);
                }
            }
            // The user tokens of the on-behalf-of captures were invented.
            if form.iter().any(|(name, _)| name == "assertion") {
                continue;
            }
            let claims = &request["client_assertion_decoded"]["payload"];
            let expires = claims["exp"].as_f64().expect("exp");
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
            let clock = crate::base::clock::Clock::manual(expires as u64 - 60);
            let url = reqwest::Url::parse(request["url"].as_str().expect("url")).expect("URL");
            let aliases = vec!["https://login.microsoftonline.com".to_owned()];
            let tenant = DevTenant::start(Options { clock, aliases, ..Options::default() }).await.expect("starts");
            let id = url.path_segments().and_then(|mut segments| segments.next()).expect("tenant");
            tenant.add_tenant(Tenant {
                id: id.to_owned(),
                name: "captured".to_owned(),
                domains: std::collections::BTreeSet::default(),
            });
            let client = form.iter().find(|(name, _)| name == "client_id").expect("client").1.clone();
            let pems = ["leaf_certificate_pem", "chain_leaf_certificate_pem"]
                .map(|name| certificates[name].as_str().unwrap_or_default());
            tenant.register(pems.iter().fold(App::new(&client).in_tenant("captured"), |app, pem| app.certificate_pem(pem)));
            let answer = http().post(format!("{}{}", tenant.base_url(), url.path())).form(&form).send().await.expect("answers");

            assert_eq!(answer.status().as_u16(), 200, "{}: {}", entry.display(), answer.text().await.expect("text"));
            replayed += 1;
        }
    }
    assert!(replayed >= 10, "{replayed} requests replayed");
}

//! Tests of what surrounds requests: files as Windows writes them, warnings of `check`, and the commands about tokens and
//! certificates.

use std::{path::Path, process::Output};

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Options},
};
use serde_json::{Value, json};

use crate::support::{Gateway, ORDERS_TOKEN, TestBed, Upstream, config};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

/// Runs the program; nothing in its environment leads off this machine.
fn entrada(arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_entrada"));
    command.args(arguments).env_remove("ENTRADA_CONFIG").env("NO_PROXY", "127.0.0.1").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn a_secret_file_from_windows_proves_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let utf16 = |text: &str| format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (name, bytes) in [
        ("byte order mark", b"\xef\xbb\xbfright~1\r\n".to_vec()),
        ("UTF-16", utf16("right~1\r\n")),
        ("line end", b"right~1\r\n".to_vec()),
    ] {
        let file = folder.path().join("secret.txt");
        std::fs::write(&file, bytes).unwrap();
        let tenant = DevTenant::start(Options::default()).await.unwrap();
        tenant.update_app(GATEWAY, |app| app.secret("right~1"));
        let upstream = Upstream::start().await;
        let route = format!(
            "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {ORDERS_TOKEN} ], authorization: {{ credential: gateway, scope: \"api://orders-internal/.default\" }}, upstream: backend }}"
        );
        let more = format!(
            "named-values: {{ secret: {{ file: \"{}\" }} }}\ncredentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: \"{{{{secret}}}}\" }} }}",
            file.display()
        );
        let gateway = Gateway::start(&config(&tenant, &upstream, &route, &more)).await;
        let bed = TestBed { tenant, upstream, gateway };

        bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();

        let asked = bed.tenant.requests("/token").pop().unwrap();
        assert_eq!(asked.field("client_secret").as_deref(), Some("right~1"), "{name}");
    }
}

#[test]
fn check_names_what_is_wrong_with_a_secret_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    std::fs::write(
        &file,
        format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
named-values: {{ secret: {{ file: secret.txt }} }}
tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: \"{{{{secret}}}}\" }} }}
routes: [ {{ name: open, match: {{ path: / }}, anonymous: true, respond: {{ status: 204 }} }} ]
"
        ),
    )
    .unwrap();
    for (bytes, passed, expected) in [
        (&b"S~cret.1\r\n"[..], true, "a client secret"),
        (b"", false, "it is empty"),
        (b"\r\n", false, "it is empty"),
        (b"S~cret.1 \r\n", false, "it ends with a space"),
        (b"S\0~\0c\0r\0e\0t\0", false, "UTF-16 text without a byte order mark"),
        (b"S~cret\xe4", false, "it is not UTF-8 text"),
    ] {
        std::fs::write(folder.path().join("secret.txt"), bytes).unwrap();

        let output = entrada(&["check", file.to_str().unwrap()]);

        assert_eq!(output.status.success(), passed, "{}", text(&output));
        assert!(text(&output).contains(expected) && !text(&output).contains("S~cret"), "{}", text(&output));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = folder.path().join("secret.txt");
        std::fs::write(&secret, "S~cret.1").unwrap();
        for (mode, warned) in [(0o644, true), (0o600, false), (0o440, false)] {
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
            let output = entrada(&["check", file.to_str().unwrap()]);
            assert_eq!(text(&output).contains("others may use it"), warned, "{mode:o}: {}", text(&output));
        }
    }
}

#[test]
fn check_warns_of_every_token_in_clear_and_of_keys_that_leave_their_vault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    for (upstream, authorization, key_use, expected) in [
        ("http://10.0.0.7:8080", "keep", "sign", Some("the caller's token travels to the upstream in clear")),
        (
            "http://10.0.0.7:8080",
            "{ from-header: Authorization }",
            "sign",
            Some("the caller's token travels to the upstream in clear"),
        ),
        (
            "http://10.0.0.7:8080",
            "{ credential: gateway, scope: api://backend/.default }",
            "sign",
            Some("the gateway's own token travels to the upstream in clear"),
        ),
        (
            "http://10.0.0.7:8080",
            "{ on-behalf-of: gateway, scope: api://backend/.default }",
            "sign",
            Some("the token that the gateway gets on the user's behalf travels to the upstream in clear"),
        ),
        ("http://10.0.0.7:8080", "remove", "sign", None),
        ("http://127.0.0.1:8080", "keep", "sign", None),
        ("https://10.0.0.7", "keep", "sign", None),
        ("https://10.0.0.7", "keep", "download", Some("the private key leaves the vault")),
    ] {
        let config = format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}
credentials:
  pod: {{ managed-identity: {{ source: imds }} }}
  gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ key-vault: {{ vault: \"https://contoso.vault.azure.net\", certificate: gateway, identity: pod, use: {key_use} }} }} }}
upstreams: {{ backend: {{ servers: [\"{upstream}\"] }} }}
routes:
  - name: orders
    match: {{ path: /orders }}
    inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{GATEWAY}], scopes: [Orders.Read], token-kind: user }} ]
    authorization: {authorization}
    upstream: backend
"
        );
        std::fs::write(&file, config).unwrap();

        let output = text(&entrada(&["check", file.to_str().unwrap()]));

        match expected {
            Some(expected) => assert!(output.contains(expected), "{authorization}: {output}"),
            None => assert!(!output.contains("in clear") && !output.contains("leaves the vault"), "{authorization}: {output}"),
        }
    }
}

#[tokio::test]
async fn a_token_that_another_header_holds_is_named_in_the_hint() {
    let bed = TestBed::with_orders().await;
    let token = bed.user_token();
    for (name, value, expected) in [
        ("X-Access-Token", token.clone(), "x-access-token"),
        ("X-User-Token", format!("Bearer {token}"), "x-user-token"),
        ("Authorization", token.clone(), "without a scheme"),
        ("Authorization", "Basic eDp5".to_owned(), "another scheme than Bearer"),
        ("X-Other", "no token".to_owned(), ""),
        ("X-Access-Token", "no token".to_owned(), ""),
    ] {
        let before = bed.gateway.records().len();
        let answer = bed.gateway.get("/orders").header(name, &value).send().await;

        answer.assert_refused(Reason::TokenMissing);
        let id = answer.header("x-request-id").unwrap().to_owned();
        let record = bed.gateway.record(|record| record["request_id"] == id).await;
        let hint = record["hint"].as_str().unwrap_or_default();
        assert!(hint.contains(expected) && hint.is_empty() == expected.is_empty(), "{name}: {hint}");
        assert!(!record.to_string().contains(&token[..30]));
        assert!(bed.gateway.records().len() > before);
    }
    let answer = bed.gateway.get(&format!("/orders?access_token={token}")).send().await;
    answer.assert_refused(Reason::TokenMissing);
    bed.gateway.record(|record| record["hint"].as_str().is_some_and(|hint| hint.contains("the parameter access_token"))).await;
    assert_eq!(bed.upstream.requests(), 0);
}

/// Returns the output of `token decode` for a token that a route judges.
async fn judged(tenant: &DevTenant, folder: &Path, token: String) -> (bool, Value) {
    let config = folder.join("entrada.yaml");
    let written = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}
upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}
routes:
  - name: orders
    match: {{ path: /orders }}
    inbound:
      - validate-azure-ad-token:
          tenant: contoso
          audiences: [api://orders]
          scopes: [Orders.Read]
          token-kind: user
          client-application-ids: [11112222-bbbb-3333-cccc-4444dddd5555]
          required-claims: [ {{ name: department, values: [sales] }} ]
    upstream: backend
",
        tenant.tenant_id(),
        tenant.base_url()
    );
    std::fs::write(&config, written).unwrap();
    std::fs::write(folder.join("token.txt"), format!("Authorization: Bearer {token}\r\n")).unwrap();
    let folder = folder.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let at = |name: &str| folder.join(name).display().to_string();
        entrada(&["token", "decode", &at("token.txt"), "--config", &at("entrada.yaml"), "--route", "orders", "--format", "json"])
    });
    let output = output.await.unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    (output.status.success(), document)
}

#[tokio::test]
async fn a_route_of_a_config_judges_a_token_by_every_check() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let failed = |document: &Value| -> Vec<(String, String)> {
        let checks = document["policies"][0]["checks"].as_array().unwrap().iter().filter(|check| check["passed"] == false);
        checks.map(|check| (check["check"].as_str().unwrap().to_owned(), check["code"].as_str().unwrap().to_owned())).collect()
    };
    let good = || tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("department", "sales");

    let (fine, document) = judged(&tenant, folder.path(), good().sign()).await;
    assert!(fine && failed(&document).is_empty(), "{document}");

    // All that is wrong is told in one go.
    let wrong = good().audience("api://other").scopes(["Other"]).claim("department", "legal").client(GATEWAY).expired().sign();
    let (fine, document) = judged(&tenant, folder.path(), wrong).await;
    assert!(!fine);
    let expected = [
        ("audience", "token-audience-not-allowed"),
        ("times", "token-expired"),
        ("client", "client-application-not-allowed"),
        ("required claim", "required-claim-missing"),
        ("scopes and roles", "scope-missing"),
    ];
    assert_eq!(failed(&document), expected.map(|(check, code)| (check.to_owned(), code.to_owned())), "{document}");

    // Of a token that nobody vouches for nothing else is told.
    let (fine, document) = judged(&tenant, folder.path(), good().audience("api://other").wrong_key().sign()).await;
    assert_eq!(
        (fine, failed(&document)),
        (false, vec![("signature".to_owned(), "token-signature-invalid".to_owned())]),
        "{document}"
    );
}

#[test]
fn commands_print_what_portals_and_vaults_want() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("gateway.pem").display().to_string();
    let made = entrada(&["certificate", "new", "--subject", "CN=gateway", "--out", &pem, "--format", "json"]);
    assert!(made.status.success(), "{}", text(&made));

    let shown = entrada(&["certificate", "show", &pem, "--key-credential"]);
    let entry: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&entry["type"], &entry["usage"]), (&json!("AsymmetricX509Cert"), &json!("Verify")), "{entry}");
    assert!(!text(&shown).contains("PRIVATE KEY") && entry["key"].as_str().unwrap().starts_with("MII"), "{entry}");

    let soon = folder.path().join("soon.pem").display().to_string();
    entrada(&["certificate", "new", "--subject", "CN=gateway", "--days", "12", "--out", &soon]);
    let shown = entrada(&["certificate", "show", &soon]);
    assert!(!shown.status.success() && text(&shown).contains("it expires in 11 days"), "{}", text(&shown));

    let policy = entrada(&["certificate", "policy", "--subject", "CN=gateway"]);
    let policy: Value = serde_json::from_slice(&policy.stdout).unwrap();
    assert_eq!(policy["keyProperties"]["exportable"], false);

    let mapping = entrada(&["claims-mapping", "show", "--claim", "samaccountname=onpremisessamaccountname", "--graph", "orders"]);
    let mapping: Value = serde_json::from_slice(&mapping.stdout).unwrap();
    let definition: Value = serde_json::from_str(mapping["definition"][0].as_str().unwrap()).unwrap();
    assert_eq!(definition["ClaimsMappingPolicy"]["ClaimsSchema"][0]["JwtClaimType"], "samaccountname");
    assert!(!entrada(&["claims-mapping", "show", "--claim", "oid=mail"]).status.success());
}

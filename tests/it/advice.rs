//! Tests of the advice to operators: settings that look like more than they are, keys that others may read, and refusals whose usual
//! words would point at the wrong thing.

use std::{path::Path, process::Command};

use entrada::{
    Clock, Reason,
    cli::certificate::NewCertificate,
    dev_tenant::{DevTenant, Options},
};

use crate::support::{Authority, Gateway, ORDERS_TOKEN, Upstream, config};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    #[cfg(not(unix))]
    let _ = mode;
}

/// Returns the output of `entrada check` for the config in a folder.
fn check(folder: &Path, config: &str) -> String {
    let file = folder.join("entrada.yaml");
    std::fs::write(&file, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_entrada")).arg("check").arg(file).env_remove("ENTRADA_CONFIG").output();
    let output = output.unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn route(policies: &str, more: &str) -> String {
    format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}
upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}
routes:
  - name: a
    match: {{ path: \"/a/{{account}}\" }}
    upstream: backend
    inbound: [ {policies} ]{more}
"
    )
}

#[test]
fn an_expression_where_none_is_evaluated_is_warned_of() {
    const TOLD: &str = "expressions are not evaluated here: this is the text itself";
    let folder = tempfile::tempdir().unwrap();
    let token =
        |more: &str| format!("validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], roles: [r]{more} }}");
    let with = |policy: &str| route(&format!("{}, {policy}", token("")), "");
    for text in [
        route(&token(", audiences: [\"@(request.host)\"]").replace("audiences: [api://orders], ", ""), ""),
        route(&token(", query-parameter-name: \"@(captures.account)\""), ""),
        route(&token(", failed-validation-error-message: \"@(request.path)\""), ""),
        route(&token(", required-claims: [ { name: account, values: [\"@(captures.account)\"] } ]"), ""),
        route(&token(", required-claims: [ { name: \"@(captures.account)\" } ]"), ""),
        with("check-header: { name: X-Account, values: [\"@(token.claims.account)\"] }"),
        with("authorize: { condition: \"@(true)\", message: \"@(request.path)\" }"),
        with("rate-limit-by-key: { calls: 1, renewal-period: 60s, counter-key: \"@(token.client)\", name: \"@(route.name)\" }"),
    ] {
        let told = check(folder.path(), &text);
        assert!(told.contains(TOLD), "{text}\n{told}");
    }
    for text in [
        with("set-header: { name: X-A, values: [\"@(token.client)\"] }"),
        with("set-query-parameter: { name: a, value: \"@(token.client)\" }"),
        with("authorize: { condition: \"@(token.client == 'a')\" }"),
        with(
            "rate-limit-by-key: { calls: 1, renewal-period: 60s, counter-key: \"@(token.client)\", increment-condition: \"@(response.status < 500)\" }",
        ),
        with("quota-by-key: { calls: 1, renewal-period: 60s, counter-key: \"@(token.client)\" }"),
        with("limit-concurrency: { max-count: 1, key: \"@(token.client)\" }"),
        with(
            "choose: [ { when: \"@(request.method == 'GET')\", do: [ return-response: { status: 200, headers: { X-A: \"@(token.client)\" }, body: \"@(request.path)\" } ] } ]",
        ),
        route(&token(""), "\n    identity-headers: { X-User: { value: \"@(token.claims.oid)\" } }"),
    ] {
        let told = check(folder.path(), &text);
        assert!(!told.contains(TOLD) && !told.contains("error:"), "{text}\n{told}");
    }
}

#[test]
fn a_condition_that_is_a_claim_by_itself_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    for (condition, claim) in [
        ("token.claims.department", Some("token.claims.department")),
        ("!token.claims.blocked", Some("token.claims.blocked")),
        ("request.method == 'GET' || token.claims[\"extn.admin\"]", Some("token.claims[\"extn.admin\"]")),
        ("token.claims.department == 'sales'", None),
        ("token.claims.email_verified == true", None),
        ("has(token.claims.department)", None),
        ("'admins' in token.claims.groups", None),
    ] {
        let policies = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], roles: [r] }";
        let told = check(
            folder.path(),
            &route(&format!("{policies}, authorize: {{ condition: '@({})' }}", condition.replace('\'', "''")), ""),
        );

        assert!(!told.contains("error:"), "{condition}: {told}");
        match claim {
            Some(claim) => {
                assert!(
                    told.contains(&format!("`{claim}` by itself holds only where the claim is `true`")),
                    "{condition}: {told}"
                );
                assert!(told.contains(&format!("`has({claim})`")), "{condition}: {told}");
            }
            None => assert!(!told.contains("by itself holds"), "{condition}: {told}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn private_keys_that_others_may_read_are_warned_of_wherever_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Authority::new("Contoso Servers").server("gateway.contoso.example").write(folder.path(), "server");
    write(&folder.path().join("assertion.pem"), &rcgen::KeyPair::generate().unwrap().serialize_pem(), 0o600);
    let text = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\", tls: {tls} }} ]
backend-assertion: {{ issuer: \"https://gateway.contoso.example\", private-keys: [assertion.pem] }}
routes: [ {{ name: ping, match: {{ exact-path: /ping }}, anonymous: true, respond: {{ status: 204 }} }} ]
"
    );
    for (file, told) in [("server.key", "server.key holds a private key"), ("assertion.pem", "assertion.pem holds a private key")]
    {
        let path = folder.path().join(file);
        let mode = |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        assert!(!check(folder.path(), &text).contains(told));

        mode(0o644);
        let found = check(folder.path(), &text);
        assert!(found.contains(told) && found.contains("(mode 644)") && found.contains("chmod 600"), "{found}");

        // How container platforms hand out secrets.
        mode(0o440);
        assert!(!check(folder.path(), &text).contains(told));
    }
}

#[tokio::test]
async fn a_token_can_be_tried_with_a_config_that_has_errors_elsewhere_and_they_are_mentioned() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = NewCertificate { subject: "CN=gateway".to_owned(), days: 90, bits: 2048 }.make(&Clock::system()).unwrap();
    write(&folder.path().join("gateway.pem"), &made.pem(), 0o600);
    tenant.update_app(GATEWAY, |app| app.certificate_pem(made.certificate_pem()));
    let text = |upstream: &str| {
        format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
tenants: {{ contoso: {{ id: {}, authority: \"{}\" }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: gateway.pem }} }} }}
upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}
routes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, upstream: {upstream} }} ]
",
            tenant.tenant_id(),
            tenant.base_url()
        )
    };
    let file = folder.path().join("entrada.yaml");
    for (upstream, told) in [("nowhere", true), ("backend", false)] {
        write(&file, &text(upstream), 0o600);
        let acquire = ["token", "acquire", "--credential", "gateway", "--scope", "api://orders-internal/.default"];
        for line in [&acquire[..], &["doctor"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
            command.args(line).arg("--config").arg(&file).env_remove("ENTRADA_CONFIG");
            // Off the test's thread, which carries the tenant.
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();

            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(0), "{line:?}: {error}");
            assert_eq!(
                error.contains("this config has 1 error, so `entrada run` would not start with it"),
                told,
                "{line:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_tenant_of_the_path_that_is_not_allowed_is_not_said_to_be_the_tokens() {
    const FABRIKAM: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
    let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
    tenant.update_app(GATEWAY, |app| app.secret("a-secret"));
    let route = format!(
        "- {{ name: customers, match: {{ path: \"/customers/{{customer}}\" }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend, \
         authorization: {{ credential: gateway, scope: \"https://graph.microsoft.com/.default\", tenant: \"@(captures.customer)\", allowed-tenants: [{}] }} }}",
        tenant.tenant_id()
    );
    let credentials = format!(
        "named-values: {{ word: {{ value: a-secret, secret: true }} }}\ncredentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: \"{{{{word}}}}\" }} }}"
    );
    let gateway = Gateway::start(&config(&tenant, &upstream, &route, &credentials)).await;
    let caller = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();

    gateway.get(&format!("/customers/{}", tenant.tenant_id())).bearer(&caller).send().await.assert_allowed();
    let answer = gateway.get(&format!("/customers/{FABRIKAM}")).bearer(&caller).send().await;

    answer.assert_refused(Reason::TokenTenantNotAllowed);
    assert!(answer.json().to_string().contains("The tenant that the path names is not allowed."), "{}", answer.json());
    assert!(!answer.json().to_string().contains("token's tenant"), "{}", answer.json());
    let record = gateway.record(|record| record["code"] == "token-tenant-not-allowed").await;
    assert_eq!(record["cause"], "the path names no tenant of `allowed-tenants`");
    assert!(record["hint"].as_str().unwrap().contains("`allowed-tenants`"), "{record}");
    assert_eq!(upstream.requests(), 1);
}

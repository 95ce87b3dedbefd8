//! Tests of refusals by Entra, a vault or the platform: the record has their meaning and their cure, for the party that asked.

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Fault, Options},
};
use http::Method;
use serde_json::Value;

use crate::support::{Answer, Gateway, TestBed, Upstream, config};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const PARTNER: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const INTERNAL: &str = "44445555-eeee-6666-ffff-777788889999";

/// The scope that the gateway asks for.
const SCOPE: &str = "api://orders-internal/.default";

/// A tenant in which gateway and partner have a secret, and that is set up further before the gateway starts: it asks for its tokens at
/// once.
async fn bed(set_up: impl FnOnce(&DevTenant)) -> TestBed {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::start().await;
    for client in [GATEWAY, PARTNER] {
        tenant.update_app(client, |app| app.secret("a-secret"));
    }
    tenant.update_app(GATEWAY, |app| app.granted("https://vault.azure.net", ["user_impersonation"]));
    set_up(&tenant);
    let token = format!(
        "validate-azure-ad-token: {{ tenant: contoso, audiences: [{GATEWAY}], scopes: [Orders.Read], token-kind: user }}"
    );
    let route = |name: &str, authorization: &str| {
        format!(
            "- {{ name: {name}, match: {{ path: /{name} }}, inbound: [ {token} ], authorization: {{ {authorization} }}, upstream: backend }}\n"
        )
    };
    let routes = [
        route("own", &format!("credential: gateway, scope: \"{SCOPE}\"")),
        route("vaulted", &format!("credential: vaulted, scope: \"{SCOPE}\"")),
        route("user", "on-behalf-of: gateway, scope: \"api://orders-internal/Orders.Read\""),
        format!(
            "- {{ name: relay, match: {{ exact-path: /token, methods: [POST] }}, token-relay: {{ tenant: contoso, scopes: [\"{SCOPE}\"] }} }}"
        ),
    ];
    let more = format!(
        "partners: {{ fabrikam: {{ client-application-ids: [{PARTNER}], tenants: [contoso], addresses: [127.0.0.1] }} }}
credentials:
  gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: a-secret }}
  opener: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: a-secret }}
  vaulted: {{ tenant: contoso, client-id: {PARTNER}, certificate: {{ key-vault: {{ vault: \"{}\", certificate: gateway-key, identity: opener }} }} }}",
        tenant.base_url()
    );
    let gateway = Gateway::start(&config(&tenant, &upstream, &routes.concat(), &more)).await;
    TestBed { tenant, upstream, gateway }
}

async fn call(bed: &TestBed, route: &str) -> (Answer, Value) {
    let before = bed.gateway.records().len();
    let answer = match route {
        "relay" => {
            let body = format!(
                "client_id={PARTNER}&grant_type=client_credentials&scope=api%3A%2F%2Forders-internal%2F.default&client_secret=a-secret"
            );
            let call = bed.gateway.request(Method::POST, "/token").header("Content-Type", "application/x-www-form-urlencoded");
            call.body(body).send().await
        }
        route => {
            let token = bed.tenant.token().user("nia").audience(GATEWAY).scopes(["Orders.Read"]).sign();
            bed.gateway.get(&format!("/{route}")).bearer(token).send().await
        }
    };
    let id = answer.header("x-request-id").unwrap_or_default().to_owned();
    let record = bed.gateway.record(|record| record["request_id"] == id).await;
    assert!(bed.gateway.records().len() > before);
    (answer, record)
}

#[tokio::test]
async fn the_same_code_is_told_to_the_gateway_to_the_user_and_to_the_partner_as_it_fits_them() {
    for (code, route, expected) in [
        (53_003, "own", "the sign-in logs of service principals name the policy"),
        (53_003, "user", "the user has to sign in again"),
        (53_003, "relay", "let the policy admit the gateway's outgoing address for the partner's application"),
        (7_000_215, "own", "paste the secret's value"),
        (7_000_215, "relay", "the partner has to send the secret's value"),
        (50_146, "own", "set `acceptMappedClaims` to true"),
        (501_461, "own", "ask for it by its client id"),
        (700_021, "relay", "the partner has to put its client id into `client_id`"),
        (9_010_010, "own", "RFC 8707"),
        (50_105, "user", "assign the user or a group to the resource"),
    ] {
        let bed = bed(|tenant| tenant.fail(Fault::on("/oauth2/v2.0/token").aadsts(code))).await;

        let (answer, record) = call(&bed, route).await;

        let hint = record["hint"].as_str().unwrap_or_default();
        assert!(hint.contains(expected), "AADSTS{code} {route}: {hint}\n{answer:?}");
        assert!(record["cause"].as_str().unwrap().contains(&format!("AADSTS{code}")), "{record}");
        assert_eq!(bed.upstream.requests(), 0);
        if code == 53_003 && route != "relay" {
            // Nobody can sign in for an application, and a user can.
            answer.assert_refused(if route == "own" { Reason::CredentialUnavailable } else { Reason::InteractionRequired });
        }
    }
}

#[tokio::test]
async fn a_missing_consent_names_where_it_is_given() {
    for (code, route, client) in
        [(65_001, "user", GATEWAY), (650_057, "own", GATEWAY), (700_016, "relay", PARTNER), (7_000_229, "own", GATEWAY)]
    {
        let bed = bed(|tenant| tenant.fail(Fault::on("/oauth2/v2.0/token").aadsts(code))).await;

        let (_, record) = call(&bed, route).await;

        let uri = format!("{}/{}/adminconsent?client_id={client}", bed.tenant.base_url(), bed.tenant.tenant_id());
        assert!(record["hint"].as_str().unwrap().contains(&uri), "AADSTS{code}: {record}");
    }
}

#[tokio::test]
async fn a_claims_mapping_without_either_way_out_is_told_with_both() {
    let bed = bed(|tenant| tenant.update_app(INTERNAL, |app| app.mapped_claim("dept", "department"))).await;
    let (_, record) = call(&bed, "own").await;
    let hint = record["hint"].as_str().unwrap();
    assert!(hint.contains("acceptMappedClaims") && hint.contains("signing-keys-of"), "{record}");

    // With the manifest's switch the URI is what Entra holds against it next.
    let mapped =
        |tenant: &DevTenant| tenant.update_app(INTERNAL, |app| app.mapped_claim("dept", "department").accepts_mapped_claims());
    let bed = self::bed(mapped).await;
    let (_, record) = call(&bed, "own").await;
    assert!(record["cause"].as_str().unwrap().contains("AADSTS501461"), "{record}");
    assert!(record["hint"].as_str().unwrap().contains("the GUID, followed by `/.default`"), "{record}");
}

#[tokio::test]
async fn a_vault_with_access_policies_is_told_from_one_with_roles() {
    for (policies, expected) in [(true, "az keyvault set-policy"), (false, "Key Vault Crypto User")] {
        let bed = bed(|tenant| {
            tenant.vault_certificate("gateway-key", false, 365);
            tenant.vault_restrict(GATEWAY, &["certificates/list"]);
            if policies {
                tenant.vault_access_policies();
            }
        })
        .await;

        let (answer, record) = call(&bed, "vaulted").await;

        answer.assert_refused(Reason::CredentialUnavailable);
        let hint = record["hint"].as_str().unwrap();
        assert!(hint.contains(expected) && hint.contains("access policies") == policies, "{hint}");
    }
}

#[tokio::test]
async fn a_vault_that_throttles_is_told_as_one() {
    let bed = bed(|tenant| {
        tenant.vault_certificate("gateway-key", false, 365);
        tenant.fail(Fault::on("/certificates").status(429));
    })
    .await;

    let (answer, record) = call(&bed, "vaulted").await;

    answer.assert_refused(Reason::CredentialUnavailable);
    assert!(record["cause"].as_str().unwrap().ends_with("the vault answered 429"), "{record}");
    assert!(record["hint"].as_str().unwrap().contains("asks again by itself"), "{record}");
}

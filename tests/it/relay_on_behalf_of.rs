//! A partner's middle tier exchanges its users' tokens through the relay, under the rules for the partner's other requests.

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Fault, Options},
};
use http::{Method, StatusCode};

use crate::support::{Answer, Gateway, TestBed, Upstream, config};

const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const TAILSPIN: &str = "44443333-cccc-4444-dddd-5555eeee6666";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ORDERS: &str = "api://orders-internal/Orders.Read";

async fn bed(grants: &str) -> TestBed {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::start().await;
    for client in [FABRIKAM, TAILSPIN] {
        tenant
            .update_app(client, |app| app.secret("a-secret").delegated("api://orders-internal", ["Orders.Read", "Orders.Write"]));
    }
    let for_users = if grants.contains(GRANT) { format!("\"{ORDERS}\", ") } else { String::new() };
    let routes = format!(
        "- {{ name: tokens, match: {{ exact-path: /token, methods: [POST] }}, token-relay: {{ tenant: contoso, grant-types: [{grants}], scopes: [{for_users}\"api://orders-internal/.default\"] }} }}"
    );
    let partners = format!(
        "partners:
  fabrikam: {{ client-application-ids: [{FABRIKAM}], tenants: [contoso], addresses: [127.0.0.1], token-kind: any }}
  tailspin: {{ client-application-ids: [{TAILSPIN}], tenants: [contoso], addresses: [127.0.0.1] }}"
    );
    let gateway = Gateway::start(&config(&tenant, &upstream, &routes, &partners)).await;
    TestBed { tenant, upstream, gateway }
}

/// A request as Microsoft's libraries make it.
async fn exchange(bed: &TestBed, client: &str, scope: &str, user: &str) -> Answer {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("client_id", client),
            ("grant_type", GRANT),
            ("assertion", user),
            ("requested_token_use", "on_behalf_of"),
            ("scope", scope),
            ("client_secret", "a-secret"),
            ("client_info", "1"),
            ("claims", "{\"access_token\":{\"xms_cc\":{\"values\":[\"CP1\"]}}}"),
        ])
        .finish();
    let call = bed.gateway.request(Method::POST, "/token").header("Content-Type", "application/x-www-form-urlencoded");
    call.body(body).send().await
}

#[tokio::test]
async fn a_middle_tier_exchanges_its_users_tokens() {
    let bed = bed(&format!("client_credentials, \"{GRANT}\"")).await;
    let user = bed.tenant.token().user("nia").audience(FABRIKAM).scopes(["Api.Read"]).sign();

    let answer = exchange(&bed, FABRIKAM, &format!("{ORDERS} openid profile offline_access"), &user).await;

    answer.assert_allowed();
    let claims = bed.tenant.verify(answer.json()["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((&claims["azp"], &claims["scp"]), (&FABRIKAM.into(), &"Orders.Read".into()));
    let asked = bed.tenant.requests("/token").pop().unwrap();
    let field = |name: &str| asked.field(name);
    assert_eq!(field("assertion").as_deref(), Some(&*user));
    assert_eq!(field("requested_token_use").as_deref(), Some("on_behalf_of"));
    // A refresh token would outlive the partner's access.
    assert_eq!(field("scope").as_deref(), Some(&*format!("{ORDERS} openid profile")));
    assert_eq!((field("client_info"), field("claims")), (None, None));
    let record = bed.gateway.record(|record| record["partner"] == "fabrikam").await;
    assert_eq!(record["decision"], "allow");
    assert!(!record.to_string().contains(&user[..40]));
}

#[tokio::test]
async fn an_exchange_is_held_to_the_partners_rules_and_the_routes() {
    let both = bed(&format!("client_credentials, \"{GRANT}\"")).await;
    let user = |bed: &TestBed, client: &str| bed.tenant.token().user("nia").audience(client).scopes(["Api.Read"]).sign();
    for (client, scope, reason) in [
        // A partner whose applications call for themselves alone has no users.
        (TAILSPIN, ORDERS, Reason::PartnerUnknown),
        (FABRIKAM, "api://orders-internal/Orders.Write", Reason::ScopeNotAllowed),
        (FABRIKAM, "api://orders-internal/Orders.Read api://orders-internal/Orders.Write", Reason::ScopeNotAllowed),
        (FABRIKAM, "https://graph.microsoft.com/.default", Reason::ScopeNotAllowed),
        // It stands for `Orders.Write`, too, which was consented to and is not listed.
        (FABRIKAM, "api://orders-internal/.default", Reason::ScopeNotAllowed),
        (FABRIKAM, "openid offline_access", Reason::ScopeNotAllowed),
        (FABRIKAM, "api://orders-internal/orders.read", Reason::ScopeNotAllowed),
    ] {
        exchange(&both, client, scope, &user(&both, client)).await.assert_refused(reason);
    }
    exchange(&both, FABRIKAM, ORDERS, "no token").await.assert_refused(Reason::TokenRequestInvalid);
    assert_eq!(both.tenant.calls("/token"), 0);

    // An application's own request cannot use what is listed for users.
    let body =
        format!("client_id={FABRIKAM}&grant_type=client_credentials&client_secret=a-secret&scope={}", ORDERS.replace('/', "%2F"));
    let call = both.gateway.request(Method::POST, "/token").header("Content-Type", "application/x-www-form-urlencoded");
    call.body(body).send().await.assert_refused(Reason::ScopeNotAllowed);
    assert_eq!(both.tenant.calls("/token"), 0);

    let applications = bed("client_credentials").await;
    let token = user(&applications, FABRIKAM);
    exchange(&applications, FABRIKAM, "api://orders-internal/.default", &token).await.assert_refused(Reason::GrantTypeNotAllowed);
    assert_eq!(applications.tenant.calls("/token"), 0);
}

#[tokio::test]
async fn what_entra_says_of_the_user_reaches_the_middle_tier() {
    let bed = bed(&format!("\"{GRANT}\"")).await;
    let user = bed.tenant.token().user("nia").audience(FABRIKAM).scopes(["Api.Read"]).sign();
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    bed.tenant.fail(Fault::on("/token").aadsts(50_079).member("claims", claims).times(1));

    let answer = exchange(&bed, FABRIKAM, ORDERS, &user).await;
    assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::BAD_REQUEST, &"interaction_required".into()));
    assert_eq!(answer.json()["claims"], claims);
    let record = bed.gateway.record(|record| record["cause"].is_string()).await;
    assert!(record["hint"].as_str().unwrap().contains("hand the `claims` of this answer to its own client"), "{record}");

    // A token for another application is Entra's to refuse, and the hint's to explain.
    let other = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    exchange(&bed, FABRIKAM, ORDERS, &other).await;
    let record = bed.gateway.record(|record| record["cause"].as_str().is_some_and(|cause| cause.contains("500131"))).await;
    assert!(record["hint"].as_str().unwrap().contains("its own client id"), "{record}");
}

//! Tests of a token endpoint's responses: only tokens are sent upstream.

use entrada::{
    Reason,
    dev_tenant::{DevTenant, Fault, Options},
};

use crate::support::{Gateway, ORDERS_TOKEN, Upstream, config};

/// The application that routes use, with a secret.
const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

#[tokio::test]
async fn what_is_no_bearer_token_is_never_taken_from_a_token_endpoint() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::start().await;
    tenant.update_app(GATEWAY, |app| app.secret("a-word-of-the-gateway"));
    let routes = format!(
        "- {{ name: own, match: {{ path: /own }}, inbound: [ {ORDERS_TOKEN} ], authorization: {{ credential: gateway, scope: \"api://orders/.default\" }}, upstream: backend }}
- name: user
  match: {{ path: /user }}
  inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{GATEWAY}], scopes: [access_as_user] }} ]
  authorization: {{ on-behalf-of: gateway, scope: \"https://graph.microsoft.com/User.Read\" }}
  upstream: backend"
    );
    let credentials = format!(
        "named-values: {{ word: {{ value: a-word-of-the-gateway, secret: true }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: \"{{{{word}}}}\" }} }}"
    );
    let config = config(&tenant, &upstream, &routes, &credentials);
    let caller = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    let user = tenant.token().user("nia").audience(GATEWAY).scopes(["access_as_user"]).sign();

    for written in
        ["quokka wombat", "quokka\\r\\nX-Evil: 1", "quokka,wombat", "quokka\\u0000", "qu\\u00f6kka", "quokka=x", "\\\"quokka\\\""]
    {
        tenant.recover();
        let body = format!("{{\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"{written}\"}}");
        tenant.fail(Fault::on("/token").status(200).header("content-type", "application/json").body(body));
        let gateway = Gateway::start(&config).await;

        gateway.get("/own").bearer(&caller).send().await.assert_refused(Reason::CredentialUnavailable);
        gateway.get("/user").bearer(&user).send().await.assert_refused(Reason::CredentialUnavailable);

        for route in ["own", "user"] {
            let record = gateway.record(|record| record["route"] == route).await;
            assert!(record["cause"].as_str().unwrap().contains("RFC 6750"), "{written}: {record}");
            assert!(!record.to_string().contains("kka"), "{written}: {record}");
        }
    }
    assert_eq!(upstream.requests(), 0);

    tenant.recover();
    let gateway = Gateway::start(&config).await;
    gateway.get("/own").bearer(&caller).send().await.assert_allowed();
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn an_application_has_no_user_on_whose_behalf_the_gateway_could_call() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::start().await;
    tenant.update_app(GATEWAY, |app| app.secret("a-word-of-the-gateway"));
    let route = format!(
        "- name: user
  match: {{ path: /user }}
  inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [{GATEWAY}], roles: [Orders.Read.All] }} ]
  authorization: {{ on-behalf-of: gateway, scope: \"https://graph.microsoft.com/User.Read\" }}
  upstream: backend"
    );
    let credentials = format!(
        "named-values: {{ word: {{ value: a-word-of-the-gateway, secret: true }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: \"{{{{word}}}}\" }} }}"
    );
    let gateway = Gateway::start(&config(&tenant, &upstream, &route, &credentials)).await;
    let daemon = tenant.token().app("11112222-bbbb-3333-cccc-4444dddd5555").audience(GATEWAY).roles(["Orders.Read.All"]).sign();

    gateway.get("/user").bearer(&daemon).send().await.assert_refused(Reason::OnBehalfOfNeedsUser);

    let record = gateway.record(|record| record["route"] == "user").await;
    assert_eq!((&record["decision"], &record["token_kind"]), (&"deny".into(), &"app".into()), "{record}");
    assert_eq!((tenant.calls("/token"), upstream.requests()), (0, 0), "nobody was asked");
}

//! Tokens: the caller's own goes on as it came, and those of the gateway only where the config says so.

use entrada::dev_tenant::{DevTenant, Options};

use super::{Asks, Bed, DIALECTS, orders};

#[tokio::test]
async fn the_callers_token_stays_where_it_is() {
    let route = orders("decide-only: true").replace("authorization: remove", "authorization: keep");
    let bed = Bed::with(&route, "carry-tokens: false", "").await;
    for dialect in DIALECTS {
        let token = bed.token();
        let decided = bed.ask(dialect, &Asks::get("/orders/1").bearer(&token)).await;
        decided.assert_admitted();
        // Where the proxy removes what its list has and an answer has not, the answer repeats it.
        let told = decided.set.get("authorization").cloned();
        assert!(told.is_none_or(|told| told == format!("Bearer {token}")), "{dialect}");
        assert!(!decided.removed.contains(&"authorization".to_owned()), "{dialect}: {decided:?}");
    }
}

#[tokio::test]
async fn a_token_from_another_header_moves() {
    let policy = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], header-name: [Authorization2], scopes: [Orders.Read] }";
    let route = format!(
        "- {{ name: moved, match: {{ path: /moved }}, inbound: [ {policy} ], authorization: {{ from-header: Authorization2 }}, decide-only: true }}"
    );
    let bed = Bed::with(&route, "carry-tokens: false", "").await;
    for dialect in DIALECTS {
        let token = bed.token();
        let decided = bed.ask(dialect, &Asks::get("/moved").field("authorization2", &token)).await;
        decided.assert_admitted();
        assert_eq!(decided.set["authorization"], format!("Bearer {token}"), "{dialect}");
        assert!(!decided.set.contains_key("authorization2"), "{dialect}: {decided:?}");
        assert!(
            !dialect.starts_with("envoy") || decided.removed.contains(&"authorization2".to_owned()),
            "{dialect}: {decided:?}"
        );
    }
}

/// The application that the gateway is.
const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

#[tokio::test]
async fn the_gateways_own_token_goes_to_a_proxy_that_may_carry_it() {
    let own = "authorization: { credential: gateway, scope: \"https://graph.microsoft.com/.default\" }";
    let route = orders("decide-only: true").replace("authorization: remove", own);
    let more = format!(
        "{}named-values: {{ word: {{ value: opens-the-door, secret: true }} }}\ncredentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, \
         client-secret: \"{{{{word}}}}\", required: false }} }}\n",
        super::listeners("carry-tokens: true", "")
    );
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    tenant.update_app(GATEWAY, |app| app.secret("opens-the-door").granted("https://graph.microsoft.com", ["User.Read.All"]));
    let bed = Bed::around(tenant, &route, &more).await;
    for dialect in DIALECTS {
        let decided = bed.ask(dialect, &Asks::get("/orders/1").bearer(&bed.token())).await;
        decided.assert_admitted();
        let told = &decided.set["authorization"];
        assert!(told.starts_with("Bearer ") && *told != format!("Bearer {}", bed.token()), "{dialect}: {decided:?}");
        let record = bed.gateway.record(|record| record["listener"] == dialect).await;
        assert_eq!(record["credential"], "gateway", "{record}");
        let refused = bed.ask(dialect, &Asks::get("/orders/1")).await;
        assert!(!refused.admitted && refused.header("authorization").is_none(), "{dialect}: {refused:?}");
    }
    assert!(bed.gateway.written_records().iter().all(|record| !record.contains("Bearer ")));
}

#[tokio::test]
async fn a_password_of_the_gateway_goes_there_alike() {
    let own = "authorization: { basic: { username: gateway, password: \"{{word}}\" } }";
    let route = orders("decide-only: true").replace("authorization: remove", own);
    let more = format!(
        "{}named-values: {{ word: {{ value: open-sesame, secret: true }} }}\n",
        super::listeners("carry-tokens: true", "")
    );
    let bed = Bed::with_keys(&route, &more).await;
    for dialect in DIALECTS {
        let decided = bed.ask(dialect, &Asks::get("/orders/1").bearer(&bed.token())).await;
        decided.assert_admitted();
        assert!(decided.set["authorization"].starts_with("Basic "), "{dialect}: {decided:?}");
    }
}

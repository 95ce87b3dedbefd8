//! Tests of described requests: the gateway judges them as others, and calls nothing.

use entrada::{
    Document,
    unstable::{
        offline::{OfflineGateway, OfflineKeys, OfflineRequest, Outcome, TokenSpec, Verdict},
        refusal::trace,
    },
};

/// 2027-03-01, 09:00 UTC.
const NOW: u64 = 1_803_891_600;

const CONFIG: &str = "
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
listeners: [ { name: public, address: \"127.0.0.1:0\", trusted-proxies: [10.1.0.0/28] } ]
named-values: { key: { key-vault: { vault: https://contoso.vault.azure.net, secret: key, identity: gateway } } }
credentials: { gateway: { managed-identity: {} } }
upstreams:
  orders: { servers: [\"https://orders.internal:8443/api\"], host: preserve }
  graph: { servers: [\"https://graph.microsoft.com\"] }
routes:
  - name: orders
    match: { hosts: [api.contoso.example], path: /orders, methods: [GET, POST] }
    inbound:
      - ip-filter: { action: allow, addresses: [203.0.113.0/24] }
      - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], roles: [Orders.Read.All] }
      - rate-limit-by-key: { calls: 2, renewal-period: 60s, counter-key: \"@(token.client)\" }
      - set-header: { name: X-Remote-User, value: \"@(token.claims.name)\" }
      - set-header: { name: X-Key, value: \"{{key}}\" }
    outbound: [ { set-header: { name: Server, exists-action: delete } } ]
    upstream: orders
  - name: graph
    match: { hosts: [api.contoso.example], path: /graph }
    inbound: [ { validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] } } ]
    authorization: { credential: gateway, scope: https://graph.microsoft.com/.default }
    upstream: graph
  - { name: ping, match: { exact-path: /ping }, anonymous: true, respond: { status: 204 } }
";

fn gateway() -> OfflineGateway {
    let document = Document::from_text("test.yaml", CONFIG).unwrap_or_else(|report| panic!("{report}"));
    OfflineGateway::build(&document, NOW, OfflineKeys::Development).unwrap_or_else(|fault| panic!("{fault:?}"))
}

fn request(method: &str, path: &str, token: Option<&str>) -> OfflineRequest {
    let url = format!("http://api.contoso.example{path}");
    let mut request = OfflineRequest::new(method, &url, [203, 0, 113, 9].into()).unwrap();
    if let Some(token) = token {
        request.header("Authorization", format!("Bearer {token}"));
    }
    request
}

fn token(gateway: &OfflineGateway, spec: &str) -> String {
    TokenSpec::read(spec).unwrap().mint(gateway).unwrap()
}

const NIA: &str = "{ user: nia, audience: api://orders, scopes: [Orders.Read] }";

fn verdict(outcome: &Outcome) -> (Verdict, u16, Option<&str>, Option<&str>) {
    (outcome.verdict, outcome.status.as_u16(), outcome.code.as_deref(), outcome.policy.as_deref())
}

#[tokio::test]
async fn the_upstreams_request_is_described_and_nothing_is_sent() {
    let gateway = gateway();
    let nia = token(&gateway, NIA);
    let mut asked = request("GET", "/orders/17?expand=lines", Some(&nia));
    asked.header("X-Remote-User", "admin");
    asked.header("X-Forwarded-For", "192.0.2.1");
    *asked.answer.status_mut() = http::StatusCode::NOT_FOUND;
    asked.answer.headers_mut().insert("server", "Kestrel".parse().unwrap());

    let outcome = gateway.run(&asked).await;

    assert_eq!(verdict(&outcome), (Verdict::Allow, 404, None, None), "{outcome:#?}");
    let sent = outcome.upstream.as_ref().unwrap();
    assert_eq!((&*sent.upstream, &*sent.server), ("orders", "orders.internal:8443"));
    assert_eq!(sent.url, "https://orders.internal:8443/api/orders/17?expand=lines");
    let value = |name: &str| sent.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(value("host"), Some("api.contoso.example"));
    assert_eq!(value("x-remote-user"), Some("nia"));
    assert_eq!(value("x-forwarded-for"), Some("203.0.113.9"));
    assert_eq!(value("authorization"), None);
    assert!(sent.headers["x-key"].is_sensitive(), "what is made from a secret is marked");
    assert!(outcome.response.headers().get("server").is_none(), "the policies on the response have run");
    assert_eq!(outcome.judged_without, ["the secrets of a vault"]);
    let at: Vec<_> = outcome.steps.iter().map(|step| &*step.at).collect();
    assert_eq!(&at[..3], ["route", "inbound[0].ip-filter", "inbound[1].validate-azure-ad-token"]);
    assert!(outcome.steps[1..].iter().all(|step| step.place.is_some() && step.verdict == trace::Verdict::Passed));
}

#[tokio::test]
async fn refusals_are_those_of_the_gateway() {
    let gateway = gateway();
    let nia = token(&gateway, NIA);
    let at = "inbound[1].validate-azure-ad-token";
    for (spec, code, status) in [
        ("{ user: nia, audience: api://orders, scopes: [Other] }", "scope-missing", 403),
        ("{ user: nia, audience: api://other, scopes: [Orders.Read] }", "token-audience-not-allowed", 401),
        ("{ user: nia, audience: api://orders, scopes: [Orders.Read], expires: -10m }", "token-expired", 401),
        ("{ user: nia, audience: api://orders, scopes: [Orders.Read], wrong-key: true }", "token-signature-invalid", 401),
        ("{ kind: app, client: 11112222-bbbb-3333-cccc-4444dddd5555, audience: api://orders }", "role-missing", 403),
    ] {
        let outcome = gateway.run(&request("GET", "/orders/17", Some(&token(&gateway, spec)))).await;
        assert_eq!(verdict(&outcome), (Verdict::Refuse, status, Some(code), Some(at)), "{spec}: {:?}", outcome.cause);
        assert!(outcome.place.is_some() && outcome.upstream.is_none());
    }
    let mut elsewhere = request("GET", "/orders/17", Some(&nia));
    elsewhere.peer = [192, 0, 2, 99].into();
    elsewhere.header("X-Forwarded-For", "203.0.113.9");
    let outcome = gateway.run(&elsewhere).await;
    assert_eq!(outcome.code.as_deref(), Some("caller-address-not-allowed"), "a stranger speaks for nobody");
    elsewhere.peer = [10, 1, 0, 7].into();
    let outcome = gateway.run(&elsewhere).await;
    assert_eq!(outcome.verdict, Verdict::Allow, "a trusted proxy does");
    let hops: Vec<_> = outcome.caller.unwrap().hops.iter().map(|hop| (hop.address.to_string(), hop.trusted_by)).collect();
    assert_eq!(hops, [("10.1.0.7".to_owned(), Some(0)), ("203.0.113.9".to_owned(), None)]);

    assert_eq!(verdict(&gateway.run(&request("DELETE", "/orders/17", Some(&nia))).await).2, Some("method-not-allowed"));
    assert_eq!(verdict(&gateway.run(&request("GET", "/nowhere", Some(&nia))).await).2, Some("no-route"));
    assert_eq!(verdict(&gateway.run(&request("GET", "/a%2fb", Some(&nia))).await).2, Some("request-target-invalid"));
    let ping = OfflineRequest::new("GET", "http://other.example/ping", [192, 0, 2, 1].into()).unwrap();
    assert_eq!(verdict(&gateway.run(&ping).await), (Verdict::Answer, 204, None, None));
}

#[tokio::test]
async fn a_case_begins_with_no_counts_and_with_its_own_time() {
    let gateway = gateway();
    let nia = token(&gateway, NIA);
    let asked = OfflineRequest { read_trace: false, ..request("GET", "/orders/17", Some(&nia)) };
    for case in 0..2 {
        gateway.begin(NOW);
        for (call, expected) in [(1, None), (2, None), (3, Some("rate-limit-exceeded"))] {
            let outcome = gateway.run(&asked).await;
            assert_eq!(outcome.code.as_deref(), expected, "case {case}, call {call}");
            assert!(outcome.steps.is_empty());
        }
        gateway.advance(61);
        assert_eq!(gateway.run(&asked).await.code, None, "the period is over");
    }
    gateway.begin(NOW + 2 * 86_400);
    assert_eq!(gateway.run(&asked).await.code.as_deref(), Some("token-expired"));
    gateway.begin(NOW);
    assert_eq!(gateway.run(&asked).await.code, None, "the clock goes back, too");
}

#[tokio::test]
async fn the_gateways_own_token_is_a_placeholder() {
    let gateway = gateway();
    let mut asked = request("GET", "/graph/me", Some(&token(&gateway, NIA)));

    let outcome = gateway.run(&asked).await;

    assert_eq!(outcome.verdict, Verdict::Allow, "{outcome:#?}");
    let authorization = &outcome.upstream.as_ref().unwrap().headers["authorization"];
    assert_eq!(authorization, "Bearer the-token-of-the-gateway");
    assert_eq!(outcome.credential.as_deref(), Some("gateway"));
    assert!(outcome.judged_without.contains(&"the token of the gateway's credential"));

    *asked.answer.status_mut() = http::StatusCode::UNAUTHORIZED;
    assert_eq!(gateway.run(&asked).await.code.as_deref(), Some("upstream-refused-credential"));
}

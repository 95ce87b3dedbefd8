//! Tests of partners' API keys: what opens a route, what the backend and the records get to see, and what a key cannot do.

use aws_lc_rs::digest::{SHA256, digest};
use entrada::Reason;
use http::StatusCode;

use crate::support::{Gateway, ORDERS_TOKEN, RawConnection, TestBed};

const KEY: &str = "9d3f0c6b8f5e4a71b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728";
const NEXT_KEY: &str = "0000111122223333444455556666777788889999aaaabbbbccccddddeeeeffff";
const FIELD: &str = "Ocp-Apim-Subscription-Key";

fn sha256(key: &str) -> String {
    digest(&SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn route(policy: &str) -> String {
    format!("- {{ name: reports, match: {{ path: /reports }}, inbound: [ {policy} ], upstream: backend }}")
}

fn partners(more: &str) -> String {
    let (key, next) = (sha256(KEY), sha256(NEXT_KEY).to_uppercase());
    format!("partners: {{ fabrikam: {{ api-keys: [ {{ sha256: {key} }}, {{ sha256: {next} }} ]{more} }} }}")
}

async fn bed(policy: &str, more: &str) -> TestBed {
    TestBed::with(&route(policy), &partners(more)).await
}

#[tokio::test]
async fn a_partners_key_opens_the_route_and_stays_here() {
    let header = r#"set-header: { name: X-Partner, value: "@(partner.name)" }"#;
    let bed = bed(&format!("validate-api-key: {{ query-parameter-name: key, header-name: {FIELD} }}, {header}"), "").await;

    bed.gateway
        .get("/reports?a=1&KEY=x")
        .header(FIELD, KEY)
        .header("ocp_apim_subscription_key", "x")
        .send()
        .await
        .assert_allowed();
    let received = bed.upstream.last();
    assert_eq!((received.value("x-partner"), received.uri.query()), (Some("fabrikam"), Some("a=1")));
    assert!(received.headers.keys().all(|name| !name.as_str().contains("subscription")), "{received:?}");

    bed.gateway.get(&format!("/reports?key={NEXT_KEY}&a=1")).send().await.assert_allowed();
    assert_eq!(bed.upstream.last().uri.query(), Some("a=1"));
    let record = bed.gateway.record(|record| record["api_key"] == "api-keys[1]").await;
    assert_eq!((&record["partner"], &record["credential_kind"]), (&"fabrikam".into(), &"api-key".into()));
    assert!(record.get("client_application").is_none() && record.get("token_id").is_none(), "{record}");
}

#[tokio::test]
async fn no_other_key_opens_it() {
    let bed = bed("validate-api-key: {}", "").await;

    let missing = bed.gateway.get("/reports").send().await;
    missing.assert_refused(Reason::ApiKeyMissing);
    assert_eq!(missing.header("www-authenticate"), Some("ApiKey"));
    bed.gateway.get("/reports").header(FIELD, "").send().await.assert_refused(Reason::ApiKeyMissing);
    bed.gateway.get("/reports").bearer(KEY).send().await.assert_refused(Reason::ApiKeyMissing);
    let digest = sha256(KEY);
    let longer = format!("{KEY}0");
    for wrong in [&KEY[1..], &KEY[..KEY.len() - 1], &longer, &KEY.to_uppercase(), &digest, "fabrikam", &"k".repeat(5_000)] {
        let answer = bed.gateway.get("/reports").header(FIELD, wrong).send().await;
        answer.assert_refused(Reason::ApiKeyInvalid);
        assert_eq!(answer.header("www-authenticate"), Some("ApiKey"));
    }
    // A query parameter that the policy does not name holds nothing.
    bed.gateway.get(&format!("/reports?subscription-key={KEY}")).send().await.assert_refused(Reason::ApiKeyMissing);
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn two_keys_in_one_place_are_none() {
    let bed = bed("validate-api-key: { query-parameter-name: key }", "").await;
    bed.gateway.get(&format!("/reports?key={KEY}&key={KEY}")).send().await.assert_refused(Reason::ApiKeyInvalid);

    let bed = self::bed("validate-api-key: {}", "").await;
    let mut caller = RawConnection::open(bed.gateway.address()).await;
    caller.send(format!("GET /reports HTTP/1.1\r\nHost: a\r\n{FIELD}: {KEY}\r\n{FIELD}: {KEY}\r\n\r\n").as_bytes()).await;
    let answer = caller.read_answer().await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("api-key-invalid"), "{answer}");
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn the_partner_is_judged_like_one_with_a_token() {
    for (more, reason) in [
        (", enabled: false", Reason::PartnerDisabled),
        (", routes: [other]", Reason::PartnerRouteNotAllowed),
        (", addresses: [203.0.113.7]", Reason::PartnerAddressNotAllowed),
        (", expires: 2020-01-31", Reason::PartnerExpired),
        (", client-credential: certificate", Reason::PartnerCredentialTooWeak),
    ] {
        let routes = format!(
            "{}\n- {{ name: other, match: {{ path: /other }}, inbound: [ validate-api-key: {{}} ], upstream: backend }}",
            route("validate-api-key: {}")
        );
        let bed = TestBed::with(&routes, &partners(more)).await;

        bed.gateway.get("/reports").header(FIELD, KEY).send().await.assert_refused(reason);

        let record = bed.gateway.record(|record| record["path"] == "/reports").await;
        assert_eq!((&record["partner"], &record["api_key"]), (&"fabrikam".into(), &"api-keys[0]".into()), "{more}");
        assert_eq!(bed.upstream.requests(), 0, "{more}");
    }
}

#[tokio::test]
async fn calls_with_a_key_count_against_the_partners_rate() {
    let bed = bed("validate-api-key: {}", ", rate-limit: { calls: 2, renewal-period: 60s }").await;

    bed.gateway.get("/reports").header(FIELD, KEY).send().await.assert_allowed();
    bed.gateway.get("/reports").header(FIELD, NEXT_KEY).send().await.assert_allowed();
    bed.gateway.get("/reports").header(FIELD, KEY).send().await.assert_refused(Reason::RateLimitExceeded);
    // Guesses count against nobody.
    assert_eq!(bed.gateway.get("/reports").header(FIELD, "guess").send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_expired_key_opens_nothing_while_its_successor_does() {
    let (old, new) = (sha256(KEY), sha256(NEXT_KEY));
    let partners = format!(
        "partners: {{ fabrikam: {{ api-keys: [ {{ sha256: {old}, expires: 2020-01-31 }}, {{ sha256: {new}, expires: 2999-12-31 }} ] }} }}"
    );
    let bed = TestBed::with(&route("validate-api-key: {}"), &partners).await;

    bed.gateway.get("/reports").header(FIELD, KEY).send().await.assert_refused(Reason::ApiKeyInvalid);
    let record = bed.gateway.record(|record| record["code"] == "api-key-invalid").await;
    assert_eq!(record["hint"], "see `partners.fabrikam`");
    assert!(record["cause"].as_str().unwrap().contains("has expired"), "{record}");
    bed.gateway.get("/reports").header(FIELD, NEXT_KEY).send().await.assert_allowed();
}

#[tokio::test]
async fn a_key_is_an_alternative_to_a_token_and_never_goes_upstream() {
    let any = format!("any-of: [ [ {{ {ORDERS_TOKEN} }} ], [ {{ validate-api-key: {{ header-name: X-Api-Key }} }} ] ]");
    let bed = bed(&any, "").await;

    let answer = bed.gateway.get("/reports").bearer(bed.user_token()).header("X-Api-Key", KEY).send().await;
    answer.assert_allowed();
    assert!(bed.upstream.last().values("x-api-key").is_empty());
    let record = bed.gateway.record(|record| record["status"] == 200).await;
    assert!(record.get("partner").is_none() && record.get("api_key").is_none(), "{record}");
    bed.gateway.get("/reports").header("X-Api-Key", KEY).send().await.assert_allowed();
    bed.gateway.get("/reports").send().await.assert_refused(Reason::TokenMissing);
    assert_eq!(bed.upstream.requests(), 2);
}

#[tokio::test]
async fn beside_a_good_key_a_token_that_nobody_accepted_is_neither_kept_nor_believed() {
    let any = format!("any-of: [ [ {{ {ORDERS_TOKEN} }} ], [ {{ validate-api-key: {{ header-name: X-Api-Key }} }} ] ]");
    let kept = route(&any).replace("upstream: backend", "authorization: keep, upstream: backend");
    let bed = TestBed::with(&kept, &partners("")).await;

    for token in ["forged".to_owned(), bed.tenant.token().audience("api://of-another").sign()] {
        bed.gateway.get("/reports").bearer(&token).header("X-Api-Key", KEY).send().await.assert_allowed();

        assert!(bed.upstream.last().values("authorization").is_empty());
        let record = bed.gateway.record(|record| record["status"] == 200).await;
        assert_eq!((&record["partner"], &record["credential_kind"]), (&"fabrikam".into(), &"api-key".into()), "{record}");
        for name in ["object_id", "issuer", "token_seen", "tenant_id"] {
            assert!(record.get(name).is_none(), "{name}: {record}");
        }
    }
    let token = bed.user_token();
    bed.gateway.get("/reports").bearer(&token).send().await.assert_allowed();
    assert_eq!(bed.upstream.last().values("authorization"), [format!("Bearer {token}")]);
}

#[tokio::test]
async fn the_backend_can_have_a_key_of_its_own_in_the_same_field() {
    let bed =
        bed("validate-api-key: { header-name: X-Api-Key }, set-header: { name: X-Api-Key, value: for-the-backend }", "").await;

    bed.gateway.get("/reports").header("X-Api-Key", KEY).send().await.assert_allowed();

    assert_eq!(bed.upstream.last().values("x-api-key"), ["for-the-backend"]);
}

#[tokio::test]
async fn no_record_answer_or_page_has_the_key_or_its_digest() {
    let bed = bed("validate-api-key: { query-parameter-name: key, header-name: X-Api-Key }", "").await;
    let mut seen = String::new();

    for target in [format!("/reports?key={KEY}"), format!("/reports?key={KEY}x"), format!("/reports/%2f?key={KEY}")] {
        let answer = bed.gateway.get(&target).send().await;
        seen.push_str(&format!("{:?} {:?}", answer.headers, answer.body));
    }
    bed.gateway.get("/reports").header("X-Api-Key", NEXT_KEY).send().await.assert_allowed();
    bed.gateway.get("/reports").header("X-Api-Key", format!("{KEY}y")).send().await.assert_refused(Reason::ApiKeyInvalid);
    bed.gateway.record(|record| record["api_key"] == "api-keys[1]").await;
    for record in bed.gateway.records() {
        seen.push_str(&record.to_string());
    }
    let status = reqwest::get(format!("http://{}/api/status", bed.gateway.admin_address())).await.unwrap();
    seen.push_str(&status.text().await.unwrap());
    seen.push_str(&format!("{:?}", bed.gateway.server()));

    for secret in [KEY, NEXT_KEY, &sha256(KEY), &sha256(NEXT_KEY)] {
        assert!(!seen.to_lowercase().contains(secret), "{}", seen.len());
    }
}

#[test]
fn keys_that_cannot_be_meant_are_errors_and_never_shown() {
    let (key, nothing) = (sha256(KEY), sha256(""));
    for (list, expected) in [
        (format!("{{ sha256: {KEY}x }}"), "this is not a SHA-256"),
        ("{ sha256: hunter2 }".to_owned(), "this is not a SHA-256"),
        (format!("{{ sha256: {nothing} }}"), "of the empty text"),
        (
            format!("{{ sha256: {key} }}, {{ sha256: {} }}", key.to_uppercase()),
            "this is api-keys[0] of the partner `fabrikam`, too",
        ),
    ] {
        let refusal = Gateway::refusal(&format!(
            "upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n  {}\npartners: {{ fabrikam: {{ api-keys: [ {list} ] }} }}\n",
            route("validate-api-key: {}")
        ));
        assert!(refusal.contains(expected), "{list}: {refusal}");
        assert!(!refusal.contains("hunter2") && !refusal.contains(KEY), "{refusal}");
    }
}

#[tokio::test]
async fn without_the_policy_a_key_authenticates_nobody() {
    let refusal = Gateway::refusal(&format!(
        "upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n  {}\n{}\n",
        route(""),
        partners("")
    ));
    assert!(refusal.contains("authenticates nobody"), "{refusal}");
}

#[tokio::test]
async fn the_status_page_says_which_keys_there_are_and_how_long() {
    let key = sha256(KEY);
    let partners = format!(
        "partners: {{ fabrikam: {{ api-keys: [ {{ sha256: {key}, owner: reports@contoso.example, expires: 2999-12-31 }}, {{ sha256: {} }} ] }} }}",
        sha256(NEXT_KEY)
    );
    let bed = TestBed::with(&route("validate-api-key: {}"), &partners).await;

    let status = reqwest::get(format!("http://{}/api/status", bed.gateway.admin_address())).await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.bytes().await.unwrap()).unwrap();

    let keys = &status["partners"][0]["api_keys"];
    assert_eq!(
        (&keys[0]["name"], &keys[0]["state"], &keys[0]["owner"]),
        (&"api-keys[0]".into(), &"active".into(), &"reports@contoso.example".into())
    );
    assert_eq!(
        (&keys[0]["expires"], &keys[1]),
        (&"2999-12-31".into(), &serde_json::json!({ "name": "api-keys[1]", "state": "active" }))
    );
}

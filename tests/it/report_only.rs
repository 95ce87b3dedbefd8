//! Tests of report-only: refusals that are recorded, counted and shown, and not enforced; and of what nobody gets by it.

use entrada::Reason;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Gateway, ORDERS_TOKEN, TestBed};

const ALLOW: &str = "ip-filter: { action: allow, addresses: [203.0.113.0/24]";

/// Returns the token policy of the orders API, which enforces nothing.
fn report_only_token() -> String {
    ORDERS_TOKEN.replace("roles: [Orders.Read.All]", "roles: [Orders.Read.All], mode: report-only")
}

fn route(settings: &str) -> String {
    format!("- {{ name: orders, match: {{ path: /orders }}, {settings}, upstream: backend }}")
}

async fn admin(bed: &TestBed, path: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("http://{}{path}", bed.gateway.admin_address())).send().await.unwrap().text().await.unwrap()
}

/// Returns the single record, once it is written.
async fn record(bed: &TestBed) -> Value {
    bed.gateway.record(|record| record["route"] == "orders").await
}

#[tokio::test]
async fn a_refusal_is_recorded_counted_and_shown_and_the_request_goes_on() {
    let bed =
        TestBed::with(&route(&format!("inbound: [ {ORDERS_TOKEN}, {ALLOW}, mode: report-only }} ], authorization: keep")), "")
            .await;
    let token = bed.user_token();

    bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();

    assert_eq!(bed.upstream.requests(), 1);
    let record = record(&bed).await;
    assert_eq!((&record["decision"], &record["mode"]), (&json!("allow"), &json!("report-only")), "{record}");
    let would_deny = &record["would_deny"];
    assert_eq!(would_deny.as_array().unwrap().len(), 1, "{record}");
    assert_eq!(
        (&would_deny[0]["at"], &would_deny[0]["code"]),
        (&json!("inbound[1].ip-filter"), &json!("caller-address-not-allowed"))
    );
    let place = would_deny[0]["place"].as_str().unwrap();
    assert!(place.contains(".yaml:") || place.rsplit_once(':').is_some_and(|(_, line)| line.parse::<u32>().is_ok()), "{record}");
    assert!(record.get("policy").is_none() && record.get("code").is_none(), "{record}");
    assert_eq!(record["object_id"].as_str().map(str::len), Some(36), "what was validated is recorded as ever: {record}");
    let metrics = admin(&bed, "/metrics").await;
    let counted =
        "entrada_would_deny_total{route=\"orders\",policy=\"inbound[1].ip-filter\",code=\"caller-address-not-allowed\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let status: Value = serde_json::from_str(&admin(&bed, "/api/status").await).unwrap();
    let shown = &status["routes"][0];
    assert_eq!(shown["report_only"], json!(["inbound[1].ip-filter"]), "{shown}");
    let would_deny = json!([{ "policy": "inbound[1].ip-filter", "code": "caller-address-not-allowed", "count": 1 }]);
    assert_eq!((&shown["would_deny"], shown.get("mode")), (&would_deny, None), "{shown}");
}

#[tokio::test]
async fn what_is_not_refused_has_no_would_deny_and_what_is_enforced_stays_so() {
    let bed = TestBed::with(
        &route("inbound: [ ip-filter: { action: allow, addresses: [127.0.0.0/8], mode: report-only }, check-header: { name: X-Key } ], anonymous: true"),
        "",
    )
    .await;

    bed.gateway.get("/orders").header("X-Key", "a").send().await.assert_allowed();
    let allowed = record(&bed).await;
    bed.gateway.get("/orders").send().await.assert_refused(Reason::HeaderCheckFailed);
    let refused = bed.gateway.record(|record| record["decision"] == "deny").await;

    assert_eq!((&allowed["mode"], allowed.get("would_deny")), (&json!("report-only"), None), "{allowed}");
    assert_eq!((&refused["policy"], refused.get("would_deny")), (&json!("inbound[1].check-header"), None), "{refused}");
}

#[tokio::test]
async fn each_entry_that_would_have_refused_is_told() {
    let bed = TestBed::with(
        &route(&format!(
            "mode: report-only, inbound: [ {ALLOW} }}, {ORDERS_TOKEN}, check-header: {{ name: X-Key }}, \
             any-of: [ [ {{ check-header: {{ name: X-A }} }} ], [ {{ authorize: {{ condition: \"@(request.path == '/')\", code: not-here }} }} ] ], \
             authorize: {{ condition: \"@(request.method == 'POST')\", code: read-only }} ]"
        )),
        "",
    )
    .await;

    bed.gateway.get("/orders").send().await.assert_allowed();

    let record = record(&bed).await;
    let told: Vec<_> = record["would_deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["at"].as_str().unwrap(), one["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("inbound[0].ip-filter", "caller-address-not-allowed"),
            ("inbound[1].validate-azure-ad-token", "token-missing"),
            ("inbound[2].check-header", "header-check-failed"),
            ("inbound[3].any-of", Reason::NoneAdmitted.code()),
            ("inbound[4].authorize", "read-only"),
        ],
        "{record}"
    );
    let status: Value = serde_json::from_str(&admin(&bed, "/api/status").await).unwrap();
    assert_eq!(status["routes"][0]["mode"], "report-only", "{status}");
}

#[tokio::test]
async fn every_form_of_the_mode_is_the_same() {
    let any_of = "any-of: [ [ { check-header: { name: X-A } } ], [ { check-header: { name: X-B } } ] ]";
    for (inbound, at) in [
        (format!("{{ {ALLOW}, mode: report-only }} }}"), "inbound[0].ip-filter"),
        (format!("{{ {ALLOW} }}, mode: report-only }}"), "inbound[0].ip-filter"),
        (format!("{{ {any_of}, mode: report-only }}"), "inbound[0].report-only[0].any-of"),
        (format!("{{ report-only: [ {{ {ALLOW} }} }} ] }}"), "inbound[0].report-only[0].ip-filter"),
        ("{ report-only: [ { include-fragment: office } ] }".to_owned(), "office[0].ip-filter"),
        ("{ include-fragment: office, mode: report-only }".to_owned(), "office[0].ip-filter"),
        (
            format!("{{ choose: [ {{ when: \"@(request.method == 'GET')\", do: [ {{ {ALLOW}, mode: report-only }} }} ] }} ] }}"),
            "inbound[0].choose[0].do[0].ip-filter",
        ),
        (
            format!(
                "{{ report-only: [ {{ choose: [ {{ when: \"@(request.method == 'GET')\", do: [ {{ {ALLOW} }} }} ] }} ] }} ] }}"
            ),
            "inbound[0].report-only[0].choose[0].do[0].ip-filter",
        ),
    ] {
        let fragment = format!("fragments: {{ office: [ {ALLOW} }} ] }}");
        let more = if inbound.contains("office") { fragment.as_str() } else { "" };
        let bed = TestBed::with(&route(&format!("anonymous: true, inbound: [ {inbound} ]")), more).await;

        bed.gateway.get("/orders").send().await.assert_allowed();

        assert_eq!(record(&bed).await["would_deny"][0]["at"], at, "{inbound}");
    }
}

/// A fragment that one route tries and another one enforces.
#[tokio::test]
async fn a_shared_list_is_report_only_where_it_is_said_alone() {
    let routes = "- { name: tried, match: { path: /tried }, anonymous: true, inbound: [ { report-only: [ { include-fragment: office } ] } ], upstream: backend }
- { name: enforced, match: { path: /enforced }, anonymous: true, inbound: [ { include-fragment: office } ], upstream: backend }
- { name: whole, match: { path: /whole }, mode: report-only, anonymous: true, inbound: [ { include-fragment: office } ], upstream: backend }";
    let bed = TestBed::with(routes, &format!("fragments: {{ office: [ {ALLOW} }} ] }}")).await;

    bed.gateway.get("/tried").send().await.assert_allowed();
    bed.gateway.get("/enforced").send().await.assert_refused(Reason::CallerAddressNotAllowed);
    bed.gateway.get("/whole").send().await.assert_allowed();
}

#[tokio::test]
async fn the_gateways_own_list_stays_enforced_on_a_route_that_is_report_only() {
    let bed = TestBed::with(
        &route("mode: report-only, anonymous: true, inbound: [ check-header: { name: X-Key } ]"),
        &format!("inbound: [ {ALLOW} }} ]"),
    )
    .await;
    bed.gateway.get("/orders").send().await.assert_refused(Reason::CallerAddressNotAllowed);
    drop(bed);

    let tried = TestBed::with(&route("anonymous: true"), &format!("inbound: [ {ALLOW}, mode: report-only }} ]")).await;
    tried.gateway.get("/orders").send().await.assert_allowed();
    assert_eq!(record(&tried).await["would_deny"][0]["at"], "global[0].ip-filter");
}

/// Attack: a caller whose token nobody verified names itself in the fields that the gateway makes from tokens.
#[tokio::test]
async fn a_token_that_was_not_accepted_makes_no_field_and_no_caller_writes_it() {
    let certain = "X-Remote-User";
    let routes = format!(
        "- {{ name: orders, match: {{ path: /orders }}, inbound: [ {}, authorize: {{ condition: \"@(token.claims.oid != '')\", mode: report-only }} ], upstream: backend }}
- {{ name: certain, match: {{ path: /certain }}, inbound: [ {ORDERS_TOKEN}, set-header: {{ name: {certain}, value: \"@(token.claims.oid)\" }} ], upstream: backend }}",
        report_only_token()
    );
    let bed = TestBed::with(&routes, "").await;
    let forged = forge(&bed.user_token());

    for token in [&*forged, "abc", "a.b.c"] {
        let call = bed.gateway.get("/orders").bearer(token).header("X_Remote_User", "root").header(certain, "root");
        call.send().await.assert_allowed();
        let received = bed.upstream.last();
        assert!(received.values("x-remote-user").is_empty() && received.values("x_remote_user").is_empty(), "{received:?}");
        assert!(received.values("authorization").is_empty(), "{received:?}");
    }
    let record = bed.gateway.record(|record| record["would_deny"][0]["code"] == "token-signature-invalid").await;
    assert_eq!(record["would_deny"][1]["code"], "not-authorized", "the token does not exist for later policies: {record}");
    for field in ["object_id", "subject", "client_application", "tenant_id"] {
        assert!(record.get(field).is_none(), "{field} of a token that nobody verified: {record}");
    }
}

/// Changes a claim of a token, and leaves its signature.
fn forge(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let parts: Vec<_> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["oid"] = json!("00000000-0000-0000-0000-000000000001");
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

#[test]
fn a_route_that_vouches_for_its_callers_authenticates_them() {
    let base = |settings: &str, more: &str| {
        format!(
            "tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}\nupstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\n\
             credentials: {{ gateway: {{ managed-identity: {{}} }} }}\nroutes:\n  {}\n{more}\n",
            route(settings)
        )
    };
    let tried = report_only_token();
    let enforced = ORDERS_TOKEN;
    for (vouching, place) in [
        ("authorization: { credential: gateway, scope: https://graph.microsoft.com/.default }", "authorization"),
        ("authorization: { from-header: Authorization }", "authorization"),
        ("identity-headers: { X-Groups: { claim: groups, when-absent: skip } }", "identity-headers"),
        ("identity-headers: { X-Name: { value: \"@(token.claims.name)\" } }", "identity-headers"),
    ] {
        for inbound in [
            format!("inbound: [ {tried} ]"),
            format!("mode: report-only, inbound: [ {enforced} ]"),
            format!("inbound: [ report-only: [ {enforced} ] ]"),
            format!("inbound: [ any-of: [ [ {{ {tried} }} ], [ {{ {enforced} }} ] ] ]"),
        ] {
            let refusal = Gateway::refusal(&base(&format!("{inbound}, {vouching}"), ""));
            assert!(refusal.contains("report-only") && refusal.contains(place), "{inbound} {vouching}: {refusal}");
        }
    }
    for name in ["token.claims.oid", "order.claims.oid", "lower(token.tenant)"] {
        let named = tried.replace("mode:", "as: order, mode:");
        let header = format!("set-header: {{ name: X-User, value: \"@({name})\", when-absent: skip }}");
        let refusal = Gateway::refusal(&base(&format!("inbound: [ {named}, {header} ]"), ""));
        assert!(refusal.contains("`X-User` is made from a token"), "{refusal}");
    }
    let relay = "- { name: orders, match: { exact-path: /token, methods: [POST] }, mode: report-only, token-relay: { tenant: contoso, grant-types: [client_credentials], scopes: [api://orders/.default] } }";
    let refusal = Gateway::refusal(&base("anonymous: true", "").replace(&route("anonymous: true"), relay));
    assert!(refusal.contains("none of that can be report-only"), "{refusal}");
}

/// Attack: a policy that leaves its decision to a check of partners behind it, which refuses nobody.
#[tokio::test]
async fn a_check_of_partners_that_is_report_only_grants_no_permission() {
    let token = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app";
    let partner =
        "partners: { fabrikam: { client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666], addresses: [203.0.113.9] } }";
    for (inbound, refused) in [
        // Enforced, the check decides about applications that were granted nothing; tried, it decides nothing.
        (format!("{token} }}, check-partner: {{}}"), Some(Reason::PartnerAddressNotAllowed)),
        (format!("{token} }}, check-partner: {{ mode: report-only }}"), Some(Reason::PermissionMissing)),
        (format!("{token}, mode: report-only }}, check-partner: {{ mode: report-only }}"), None),
    ] {
        let bed = TestBed::with(&route(&format!("inbound: [ {inbound} ]")), partner).await;
        let daemon = bed.tenant.token().app("22223333-cccc-4444-dddd-5555eeee6666").audience("api://orders").sign();

        let answer = bed.gateway.get("/orders").bearer(daemon).send().await;

        match refused {
            Some(reason) => answer.assert_refused(reason),
            None => {
                answer.assert_allowed();
                let record = record(&bed).await;
                assert_eq!(record["would_deny"][0]["code"], "partner-address-not-allowed", "{record}");
                assert!(record.get("partner").is_none(), "a partner that was refused is none: {record}");
            }
        }
    }
}

#[tokio::test]
async fn a_limit_that_is_tried_counts_and_lets_through() {
    let limit = "rate-limit-by-key: { calls: 1, renewal-period: 60s, counter-key: \"@(string(caller.address))\", mode: report-only, remaining-calls-header-name: X-Left }";
    let bed = TestBed::with(&route(&format!("anonymous: true, inbound: [ {limit} ]")), "").await;

    let first = bed.gateway.get("/orders").send().await;
    let second = bed.gateway.get("/orders").send().await;

    first.assert_allowed();
    second.assert_allowed();
    assert_eq!((first.header("x-left"), second.header("retry-after")), (Some("0"), None));
    let record = bed.gateway.record(|record| record.get("would_deny").is_some()).await;
    assert_eq!(record["would_deny"][0]["code"], "rate-limit-exceeded", "{record}");
}

#[tokio::test]
async fn what_changes_or_answers_a_request_does_so_in_every_mode() {
    let bed = TestBed::with(
        &route(
            "mode: report-only, anonymous: true, inbound: [ check-header: { name: X-Key }, set-header: { name: X-Way, value: \"@(request.headers['x-way-of'])\" }, \
             choose: [ { when: \"@(request.path == '/orders/stop')\", do: [ { return-response: { status: 410 } } ] } ] ]",
        ),
        "",
    )
    .await;

    bed.gateway.get("/orders").header("X-Way-Of", "a").send().await.assert_allowed();
    assert_eq!(bed.upstream.last().values("x-way"), ["a"]);
    // Without its value the backend would receive another request than is meant.
    bed.gateway.get("/orders").send().await.assert_refused(Reason::HeaderValueUnavailable);
    assert_eq!(bed.gateway.get("/orders/stop").header("X-Way-Of", "a").send().await.status, StatusCode::GONE);
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn a_list_that_was_not_taken_tells_nothing() {
    let bed = TestBed::with(
        &route(&format!(
            "anonymous: true, inbound: [ any-of: [ [ {{ {ALLOW}, mode: report-only }} }}, {{ check-header: {{ name: X-A }} }} ], [ {{ check-header: {{ name: X-B }} }} ] ] ]"
        )),
        "",
    )
    .await;

    bed.gateway.get("/orders").header("X-B", "b").send().await.assert_allowed();
    assert!(record(&bed).await.get("would_deny").is_none());
    bed.gateway.get("/orders").header("X-A", "a").send().await.assert_allowed();
    let record = bed.gateway.record(|record| record.get("would_deny").is_some()).await;
    assert_eq!(record["would_deny"][0]["at"], "inbound[0].any-of[0][0].ip-filter", "{record}");
}

#[test]
fn a_mode_that_is_unknown_is_an_error_and_none_is_a_policys_that_judges_nothing() {
    for (settings, expected) in [
        (format!("anonymous: true, inbound: [ {ALLOW}, mode: reportonly }} ]"), "report-only"),
        ("anonymous: true, mode: dry-run".to_owned(), "report-only"),
        ("anonymous: true, inbound: [ set-header: { name: X-A, value: a, mode: report-only } ]".to_owned(), "unknown key `mode`"),
        (format!("anonymous: true, inbound: [ {{ {ALLOW} }}, mode: reportonly }} ]"), "report-only"),
    ] {
        let text =
            format!("upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\nroutes:\n  {}\n", route(&settings));
        let refusal = entrada::Document::from_text("test.yaml", &text).expect_err(&settings).to_string();
        assert!(refusal.contains(expected), "{settings}: {refusal}");
    }
}

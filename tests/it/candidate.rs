//! Tests of a candidate: a second config that judges live requests, and what it never does.

use entrada::{
    CandidateSample, Reason, ServerOptions,
    dev_tenant::{App, DevTenant, Options, User},
};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, ORDERS_TOKEN, Upstream, config};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

/// A gateway that may have a candidate.
struct Bed {
    tenant: DevTenant,
    upstream: Upstream,
    gateway: Gateway,
    active: String,
}

impl Bed {
    async fn with(routes: &str, more: &str) -> Self {
        Self::sampled(routes, more, "100%").await
    }

    async fn sampled(routes: &str, more: &str, sample: &str) -> Self {
        let (tenant, upstream) = (DevTenant::start(Options::default()).await.unwrap(), Upstream::start().await);
        let active = config(&tenant, &upstream, routes, more);
        let sample: CandidateSample = sample.parse().unwrap();
        let options = ServerOptions { workers: 1, candidate: Some(sample), ..ServerOptions::default() };
        let gateway = Gateway::start_with(&active, options).await;
        Self { tenant, upstream, gateway, active }
    }

    /// Lets the active config judge once more, with this text replaced.
    fn candidate(&self, from: &str, to: &str) {
        assert!(self.active.contains(from), "{from}\n{}", self.active);
        self.gateway.judge_beside(&self.active.replace(from, to)).unwrap_or_else(|report| panic!("{report}"));
    }

    fn token(&self) -> String {
        self.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign()
    }

    async fn status(&self) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/api/status", self.gateway.admin_address());
        let status: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        status["candidate"].clone()
    }

    /// Returns what the console says about the candidate among what needs attention, with its weight.
    async fn attention(&self) -> Vec<(String, String)> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/api/overview", self.gateway.admin_address());
        let overview: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        let text = |matter: &Value, name: &str| matter[name].as_str().unwrap().to_owned();
        let matters = overview["attention"].as_array().unwrap().iter();
        matters
            .map(|matter| (text(matter, "state"), text(matter, "what")))
            .filter(|(_, what)| what.contains("candidate"))
            .collect()
    }

    /// Returns the candidate's part of the record of the newest request to this path.
    async fn verdict(&self, path: &str) -> Value {
        self.gateway.record(|record| record["path"] == path).await["candidate"].clone()
    }
}

fn orders(inbound: &str, settings: &str) -> String {
    format!("- {{ name: orders, match: {{ path: /orders }}, inbound: [ {inbound} ], {settings}, upstream: backend }}")
}

#[tokio::test]
async fn gains_and_losses_are_recorded_counted_and_shown_and_nothing_else_happens() {
    let bed = Bed::with(&orders("check-header: { name: X-Key, values: [old, both] }", "anonymous: true"), "").await;
    bed.candidate("values: [old, both]", "values: [new, both]");

    bed.gateway.get("/orders/1").header("X-Key", "both").send().await.assert_allowed();
    bed.gateway.get("/orders/2").header("X-Key", "old").send().await.assert_allowed();
    bed.gateway.get("/orders/3").header("X-Key", "new").send().await.assert_refused(Reason::HeaderCheckFailed);
    bed.gateway.get("/nowhere").send().await.assert_refused(Reason::NoRoute);

    assert_eq!(bed.upstream.requests(), 2, "the candidate sends nothing");
    let verdicts = [bed.verdict("/orders/1").await, bed.verdict("/orders/2").await, bed.verdict("/orders/3").await];
    let shown = verdicts.each_ref().map(|verdict| (verdict["verdict"].as_str().unwrap(), verdict.get("code")));
    assert_eq!(shown, [("allow", None), ("deny", Some(&json!("header-check-failed"))), ("allow", None)]);
    assert_eq!(verdicts[2]["route"], "orders");
    assert_eq!(bed.verdict("/nowhere").await["code"], "no-route");
    let status = bed.status().await;
    assert_eq!((&status["judged"], &status["sample"], &status["digest"]), (&json!(4), &json!("100%"), &verdicts[0]["digest"]));
    let gained = bed.gateway.record(|record| record["path"] == "/orders/3").await["request_id"].clone();
    let [gains, losses] = ["gains", "losses"].map(|kind| status[kind].as_array().unwrap().clone());
    assert_eq!((gains.len(), losses.len()), (1, 1), "{status}");
    assert_eq!((&gains[0]["before"], &gains[0]["after"]), (&json!("header-check-failed"), &json!("allow")));
    assert_eq!((&gains[0]["count"], &gains[0]["request_ids"]), (&json!(1), &json!([gained])), "{status}");
    assert_eq!((&losses[0]["route"], &losses[0]["after"]), (&json!("orders"), &json!("header-check-failed")));
    let text = status.to_string();
    assert!(text.find("\"gains\"").unwrap() < text.find("\"losses\"").unwrap(), "who gains stands first");
    assert_eq!(
        bed.attention().await,
        [
            ("warn".to_owned(), "the candidate config would have admitted 1 request that was refused".to_owned()),
            ("note".to_owned(), "the candidate config would have refused 1 request that was admitted".to_owned()),
        ]
    );
    let metrics = bed.gateway.metrics().await;
    for line in [
        "entrada_candidate_differs_total{route=\"orders\",before=\"allow\",after=\"header-check-failed\"} 1\n",
        "entrada_candidate_differs_total{route=\"orders\",before=\"header-check-failed\",after=\"allow\"} 1\n",
        "entrada_candidate_judged_total 4\n",
        "entrada_decisions_total{route=\"orders\",decision=\"allow\",code=\"\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_token_is_judged_by_the_candidates_rules_and_verified_once() {
    let bed = Bed::with(&orders(ORDERS_TOKEN, "authorization: keep"), "").await;
    bed.candidate("scopes: [Orders.Read]", "scopes: [Orders.Write]");
    let writer = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Write"]).sign();
    let daemon =
        bed.tenant.token().app("11112222-bbbb-3333-cccc-4444dddd5555").audience("api://orders").roles(["Orders.Read.All"]);

    bed.gateway.get("/orders/reader").bearer(bed.token()).send().await.assert_allowed();
    bed.gateway.get("/orders/writer").bearer(&writer).send().await.assert_refused(Reason::ScopeMissing);
    bed.gateway.get("/orders/daemon").bearer(daemon.sign()).send().await.assert_allowed();

    let codes = [bed.verdict("/orders/reader").await, bed.verdict("/orders/writer").await, bed.verdict("/orders/daemon").await];
    assert_eq!(codes.each_ref().map(|verdict| verdict.get("code").and_then(Value::as_str)), [Some("scope-missing"), None, None]);
    let metrics = bed.gateway.metrics().await;
    assert!(metrics.contains("\nentrada_token_verifications_total 3\n"), "each token once: {metrics}");
}

/// Attack: tokens that nobody signed, or for others, while a candidate judges.
#[tokio::test]
async fn a_forged_token_is_believed_by_neither() {
    let bed = Bed::with(&orders(ORDERS_TOKEN, "authorization: keep"), "").await;
    let more = "set-header: { name: X-Remote-User, value: \"@(token.claims.oid)\" } ], authorization: keep";
    bed.candidate(" ], authorization: keep", &format!(", {more}"));
    let wrong = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).wrong_key().sign();
    let unknown = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).unknown_key().sign();
    let other = bed.tenant.token().user("nia").audience("api://others").scopes(["Orders.Read"]).sign();

    for (path, token, reason) in [
        ("/orders/wrong", &*wrong, Reason::TokenSignatureInvalid),
        ("/orders/unknown", &unknown, Reason::TokenKeyUnknown),
        ("/orders/other", &other, Reason::TokenAudienceNotAllowed),
        ("/orders/none", "a.b.c", Reason::TokenMalformed),
    ] {
        bed.gateway.get(path).bearer(token).send().await.assert_refused(reason);
        let verdict = bed.verdict(path).await;
        assert_eq!((&verdict["verdict"], &verdict["code"]), (&json!("deny"), &json!(reason.code())), "{path}");
    }
    bed.gateway.get("/orders/fine").bearer(bed.token()).send().await.assert_allowed();
    assert_eq!(bed.verdict("/orders/fine").await["verdict"], "allow");
    assert!(bed.upstream.last().values("x-remote-user").is_empty(), "a header of the candidate's is not sent");
    assert_eq!(bed.upstream.requests(), 1);
}

/// A candidate for another tenant: its tokens are verified with its own keys, and those of the active one are not believed.
#[tokio::test]
async fn another_issuer_is_verified_with_the_candidates_own_keys() {
    let bed = Bed::with(&orders(ORDERS_TOKEN, "authorization: keep"), "").await;
    let other = DevTenant::start(Options::default()).await.unwrap();
    let route = orders(ORDERS_TOKEN, "authorization: keep");
    bed.gateway.judge_beside(&config(&other, &bed.upstream, &route, "")).unwrap();
    other.arrived("/discovery/v2.0/keys", 1).await;
    let of_other = other.token().user("otto").audience("api://orders").scopes(["Orders.Read"]);

    // The keys were asked for; that they have arrived shows in the verdict.
    for attempt in 0.. {
        let path = format!("/orders/{attempt}");
        let answer = bed.gateway.get(&path).bearer(of_other.clone().sign()).send().await;
        assert!(answer.status.is_client_error(), "the active config knows nothing of that tenant");
        let verdict = bed.verdict(&path).await;
        if verdict["verdict"] == "allow" {
            break;
        }
        assert!(attempt < 500 && verdict["code"] == "signing-keys-unavailable", "{verdict}");
        tokio::task::yield_now().await;
    }
    bed.gateway.get("/orders/own").bearer(bed.token()).send().await.assert_allowed();
    let verdict = bed.verdict("/orders/own").await;
    assert_eq!(verdict["verdict"], "deny", "{verdict}");
    let forged = of_other.clone().wrong_key().sign();
    bed.gateway.get("/orders/forged").bearer(&forged).send().await;
    assert_eq!(bed.verdict("/orders/forged").await["code"], "token-signature-invalid");
}

#[tokio::test]
async fn it_sees_the_request_as_it_was_received() {
    let user = "set-header: { name: X-Staff-Number, value: \"@(token.claims.oid)\" }";
    let bed = Bed::with(&orders(&format!("{ORDERS_TOKEN}, {user}"), "authorization: keep"), "").await;
    // To the candidate the field is an ordinary one, which callers send.
    bed.candidate(user, "check-header: { name: X-Staff-Number, values: [ada] }");

    bed.gateway.get("/orders/1").bearer(bed.token()).header("X-Staff-Number", "ada").send().await.assert_allowed();
    bed.gateway.get("/orders/2").bearer(bed.token()).header("X-Staff-Number", "eve").send().await.assert_allowed();

    assert_eq!(bed.verdict("/orders/1").await["verdict"], "allow");
    assert_eq!(bed.verdict("/orders/2").await["code"], "header-check-failed");
    assert_ne!(bed.upstream.last().value("x-staff-number"), Some("eve"), "the active config stays as it is");
}

#[tokio::test]
async fn the_caller_is_the_one_of_the_candidates_listener() {
    let filter = "ip-filter: { action: allow, addresses: [127.0.0.0/8] }";
    let listeners = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]";
    let bed = Bed::with(&orders(filter, "anonymous: true"), listeners).await;
    bed.candidate("address: \"127.0.0.1:0\" } ]", "address: \"127.0.0.1:0\", trusted-proxies: [127.0.0.1/32] } ]");

    bed.gateway.get("/orders/1").header("X-Forwarded-For", "192.0.2.9").send().await.assert_allowed();
    bed.gateway.get("/orders/2").send().await.assert_allowed();

    assert_eq!(bed.verdict("/orders/1").await["code"], "caller-address-not-allowed");
    assert_eq!(bed.verdict("/orders/2").await["verdict"], "allow");

    // Another candidate sees the same connection by its own rules.
    bed.candidate("name: orders", "name: renamed");
    bed.gateway.get("/orders/3").header("X-Forwarded-For", "192.0.2.9").send().await.assert_allowed();
    assert_eq!(bed.verdict("/orders/3").await["verdict"], "allow");
}

/// The same routes with other rules: the captures are those of the path, and a preflight is answered by the rules of the candidate.
#[tokio::test]
async fn the_same_routes_have_the_candidates_rules() {
    let route = "- { name: orders, match: { path: '/orders/{id}' }, anonymous: true, inbound: [ authorize: { condition: \"@(captures.id != 'x')\" } ], upstream: backend }";
    let bed = Bed::with(route, "").await;
    bed.candidate("captures.id != 'x'", "captures.id == '7'");

    for (path, verdict) in [("/orders/7", "allow"), ("/orders/8", "deny"), ("/orders/7/lines", "allow")] {
        bed.gateway.get(path).send().await.assert_allowed();
        assert_eq!(bed.verdict(path).await["verdict"], verdict, "{path}");
    }

    let cors = "cors: { allowed-origins: ['https://a.example'], allowed-methods: [GET] }";
    bed.candidate("inbound: [ ", &format!("inbound: [ {cors}, "));
    let preflight = bed.gateway.request(Method::OPTIONS, "/orders/x").header("Origin", "https://a.example");
    preflight.header("Access-Control-Request-Method", "GET").send().await.assert_refused(Reason::NotAuthorized);
    assert_eq!(bed.verdict("/orders/x").await["verdict"], "allow");
}

/// A header of the candidate's whose value is not there refuses, also where nobody would get the header; and what is there already
/// decides whether it is needed.
#[tokio::test]
async fn headers_that_nobody_gets_are_judged() {
    let header = "set-header: { name: X-Team, value: \"@(request.headers['x-group'])\" }";
    let bed = Bed::with(&orders(header, "anonymous: true"), "").await;
    let sent = |path: &'static str, fields: &'static [(&str, &str)]| {
        fields.iter().fold(bed.gateway.get(path), |request, (name, value)| request.header(name, *value))
    };
    for (path, value, more, fields, code) in [
        ("/orders/1", "request.headers['x-other']", "", &[("X-Group", "a")][..], Some("header-value-unavailable")),
        ("/orders/2", "request.headers['x-other']", "", &[("X-Group", "a"), ("X-Other", "b")][..], None),
        ("/orders/3", "request.headers['x-other'] + 'é'", "", &[("X-Group", "a"), ("X-Other", "b")][..], None),
        (
            "/orders/4",
            "' ' + request.headers['x-other']",
            "",
            &[("X-Group", "a"), ("X-Other", "b")][..],
            Some("header-value-unavailable"),
        ),
        ("/orders/5", "request.headers['x-other']", ", exists-action: skip", &[("X-Group", "a"), ("X-Team", "t")][..], None),
        ("/orders/6", "request.headers['x-other']", ", when-absent: skip", &[("X-Group", "a")][..], None),
    ] {
        let changed = format!("set-header: {{ name: X-Team, value: \"@({value})\"{more} }}");
        bed.candidate(header, &changed);
        sent(path, fields).send().await.assert_allowed();
        let verdict = bed.verdict(path).await;
        assert_eq!(verdict.get("code").and_then(Value::as_str), code, "{path}: {verdict}");
    }
}

/// Attack: whoever is limited must neither pass nor be limited sooner because a candidate looks on.
#[tokio::test]
async fn limits_are_neither_counted_nor_judged() {
    let limit = "rate-limit-by-key: { calls: 3, renewal-period: 60s, counter-key: all }";
    let bed = Bed::with(&orders(limit, "anonymous: true"), "").await;
    bed.candidate("calls: 3", "calls: 1");

    for number in 0..3 {
        bed.gateway.get(&format!("/orders/{number}")).send().await.assert_allowed();
        let verdict = bed.verdict(&format!("/orders/{number}")).await;
        assert_eq!(verdict["verdict"], "allow");
        assert_eq!(verdict["judged_without"], json!(["earlier calls, which limits count"]));
    }
    bed.gateway.get("/orders/late").send().await.assert_refused(Reason::RateLimitExceeded);

    bed.verdict("/orders/late").await;
    let status = bed.status().await;
    assert_eq!((&status["gains"], &status["losses"], &status["not_compared"]), (&json!([]), &json!([]), &json!(1)), "{status}");
}

#[tokio::test]
async fn no_token_is_acquired_and_no_lookup_made() {
    let staff = "aaaa0000-1111-2222-3333-bbbb4444cccc";
    let credentials =
        format!("credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: a secret of the tests }} }}");
    let routes = format!(
        "{}\n- {{ name: graph, match: {{ path: /graph }}, inbound: [ {ORDERS_TOKEN} ], upstream: backend }}",
        orders(ORDERS_TOKEN, "authorization: keep")
    );
    let bed = Bed::with(&routes, "").await;
    bed.tenant.update_app(GATEWAY, |app: App| app.secret("a secret of the tests"));
    bed.tenant.add_user(User::new("nia").group(staff));
    let lookup = format!(
        "required-claims: [ {{ name: groups, match: any, values: [{staff}] }} ], group-lookup: {{ graph: gateway }}, scopes"
    );
    let candidate =
        bed.active.replace("authorization: keep", "authorization: { credential: gateway, scope: api://backend/.default }");
    let (first, last) = candidate.split_at(candidate.rfind("scopes").unwrap());
    let candidate = format!("{first}{}\n{credentials}\n", last.replacen("scopes", &lookup, 1));
    bed.gateway.judge_beside(&candidate).unwrap_or_else(|report| panic!("{report}"));
    bed.tenant.forget_calls();
    let overage = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("hasgroups", true).sign();

    bed.gateway.get("/orders/1").bearer(bed.token()).send().await.assert_allowed();
    bed.gateway.get("/graph/1").bearer(&overage).send().await.assert_allowed();

    assert_eq!(bed.verdict("/orders/1").await["verdict"], "allow");
    let verdict = bed.verdict("/graph/1").await;
    assert_eq!((&verdict["verdict"], verdict.get("code")), (&json!("unknown"), None), "{verdict}");
    assert_eq!(verdict["judged_without"][0], "an answer of Microsoft Graph", "{verdict}");
    assert_eq!((bed.tenant.calls("/oauth2/v2.0/token"), bed.tenant.calls("/checkMemberGroups")), (0, 0));
    assert_eq!(bed.status().await["not_compared"], 1);
}

#[tokio::test]
async fn a_faulty_candidate_is_said_and_a_good_one_goes_on() {
    let mut bed = Bed::with(&orders("check-header: { name: X-Key }", "anonymous: true"), "").await;
    bed.candidate("name: X-Key", "name: X-Other");
    bed.gateway.get("/orders/1").header("X-Key", "a").send().await.assert_allowed();
    bed.verdict("/orders/1").await;

    let report = bed.gateway.judge_beside(&bed.active.replace("name: X-Key", "name: 'X Key'")).unwrap_err();
    assert!(report.contains("is not a header's name"), "{report}");
    bed.gateway.get("/orders/2").header("X-Key", "a").send().await.assert_allowed();
    assert_eq!(bed.verdict("/orders/2").await, Value::Null, "none judges");
    let status = bed.status().await;
    assert!(status["error"].as_str().unwrap().contains("is not a header's name"), "{status}");
    assert_eq!((status.get("digest"), &status["judged"]), (None, &json!(0)));
    let [(state, what)] = &bed.attention().await[..] else { panic!("one matter") };
    assert_eq!(state, "warn");
    assert!(what.starts_with("the candidate config cannot be used, and judges nothing: "), "{what}");
    assert!(what.contains("is not a header's name"), "{what}");

    bed.candidate("name: X-Key", "name: X-Other");
    bed.gateway.get("/orders/3").header("X-Key", "a").send().await.assert_allowed();
    let digest = bed.verdict("/orders/3").await["digest"].clone();
    // The active config is loaded anew; the candidate, unchanged, goes on counting.
    bed.gateway.reload(&bed.active.clone()).await;
    bed.candidate("name: X-Key", "name: X-Other");
    bed.gateway.get("/orders/4").header("X-Key", "a").send().await.assert_allowed();
    bed.verdict("/orders/4").await;
    let status = bed.status().await;
    assert_eq!((&status["judged"], &status["digest"], status.get("error")), (&json!(2), &digest, None), "{status}");
    assert_eq!(status["losses"][0]["count"], 2, "{status}");
}

#[tokio::test]
async fn a_sample_is_a_part_of_the_requests() {
    let bed = Bed::sampled(&orders("check-header: { name: X-Key }", "anonymous: true"), "", "10%").await;
    bed.candidate("name: X-Key", "name: X-Other");

    for number in 0..200 {
        bed.gateway.get(&format!("/orders/{number}")).header("X-Key", "a").send().await.assert_allowed();
    }

    bed.gateway.record(|record| record["path"] == "/orders/199").await;
    let judged = bed.status().await["judged"].as_u64().unwrap();
    assert!((18..=22).contains(&judged), "{judged}");
}

/// Attack: a route that the candidate has renamed, a listener that it has not, a body that it cannot have.
#[tokio::test]
async fn what_it_cannot_know_is_unknown_and_what_it_does_not_have_is_none_of_its() {
    let listeners = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]";
    let bed = Bed::with(&orders("check-header: { name: X-Key }", "anonymous: true"), listeners).await;
    bed.candidate("name: public, address: \"127.0.0.1:0\"", "name: other, address: \"127.0.0.1:0\"");
    bed.gateway.get("/orders/1").header("X-Key", "a").send().await.assert_allowed();
    let verdict = bed.verdict("/orders/1").await;
    assert_eq!(
        (&verdict["verdict"], &verdict["judged_without"][0]),
        (&json!("unknown"), &json!("the listener, which the candidate does not have"))
    );

    bed.candidate("name: orders", "name: renamed");
    bed.gateway.get("/orders/2").header("X-Key", "a").send().await.assert_allowed();
    assert_eq!(bed.verdict("/orders/2").await["route"], "renamed");
    assert_eq!(bed.status().await["rerouted"], 1);
}

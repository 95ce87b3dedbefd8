//! Tests of relayed token requests of partners: their client, address, scope and credential.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entrada::{
    Reason,
    dev_tenant::{DevTenant, Fault, SigningKey},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, TestBed, config};

const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const TAILSPIN: &str = "44443333-cccc-4444-dddd-5555eeee6666";
const REVOKED: &str = "55553333-cccc-4444-dddd-5555eeee6666";
const ELSEWHERE: &str = "66663333-cccc-4444-dddd-5555eeee6666";
const SECRET: &str = "a secret of the tests +/=&%";
const SCOPE: &str = "api://orders/.default";

fn routes(client_credential: &str) -> String {
    format!(
        "- name: tokens
  match: {{ exact-path: /token, methods: [POST] }}
  token-relay: {{ tenant: contoso, grant-types: [client_credentials], scopes: [\"{SCOPE}\"], client-credential: {client_credential} }}
- {{ name: open, match: {{ path: /open }}, anonymous: true, upstream: backend }}"
    )
}

fn partners(fabrikam: &str) -> String {
    format!(
        "partners:
  fabrikam: {{ client-application-ids: [{FABRIKAM}], tenants: [contoso], addresses: [127.0.0.1], {fabrikam} }}
  tailspin: {{ client-application-ids: [{TAILSPIN}], tenants: [contoso], addresses: [203.0.113.7] }}
  revoked: {{ enabled: false, client-application-ids: [{REVOKED}], tenants: [contoso], addresses: [127.0.0.1] }}
  elsewhere: {{ client-application-ids: [{ELSEWHERE}], tenants: [contoso], addresses: [127.0.0.1], routes: [open] }}"
    )
}

async fn bed(client_credential: &str, fabrikam: &str) -> TestBed {
    let bed = TestBed::with(&routes(client_credential), &partners(fabrikam)).await;
    bed.tenant.update_app(FABRIKAM, |app| app.secret(SECRET));
    bed
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn asking(client: &str, proof: &[(&str, &str)]) -> String {
    let fields = [("client_id", client), ("grant_type", "client_credentials"), ("scope", SCOPE)];
    form(&[&fields[..], proof].concat())
}

async fn ask(gateway: &Gateway, body: String) -> Answer {
    let call = gateway.request(Method::POST, "/token").header("Content-Type", "application/x-www-form-urlencoded");
    call.body(body).send().await
}

/// Makes an assertion of the partner's, signed with its certificate.
fn assertion(key: &SigningKey, client: &str, audience: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, key.certificate()));
    let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
    let payload = json!({ "aud": audience, "iss": client, "sub": client, "jti": "1", "nbf": now, "iat": now, "exp": now + 300 });
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let input = format!("{}.{}", part(&header), part(&payload));
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(key.sign("PS256", input.as_bytes()).unwrap()))
}

fn jwt_bearer(assertion: &str) -> [(&str, &str); 2] {
    [("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), ("client_assertion", assertion)]
}

fn endpoint(tenant: &DevTenant) -> String {
    tenant.token_endpoint(&tenant.tenant_id())
}

#[tokio::test]
async fn a_partners_request_passes_with_what_was_judged_and_nothing_else() {
    let bed = bed("any", "owner: integration@contoso.example").await;
    let proof =
        [("client_secret", SECRET), ("client_info", "1"), ("claims", "{}"), ("tenant", "fabrikam"), ("resource", "api://other")];

    let call =
        bed.gateway.request(Method::POST, "/token").header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8");
    let call = call.header("Cookie", "a=b").header("client-request-id", "not-ours").header("X-Forwarded-For", "203.0.113.7");
    let answer = call.body(asking(&FABRIKAM.to_uppercase(), &proof)).send().await;

    answer.assert_allowed();
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let claims = bed.tenant.verify(&token).expect("the tenant's own token");
    assert_eq!((&claims["azp"], &claims["azpacr"]), (&json!(FABRIKAM), &json!("1")));
    assert_eq!((answer.header("cache-control"), answer.header("content-type")), (Some("no-store"), Some("application/json")));
    let came: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    let known =
        ["cache-control", "content-length", "content-type", "date", "pragma", "x-request-id", "ratelimit", "ratelimit-policy"];
    assert!(came.iter().all(|name| known.contains(&name.as_str())), "{came:?}");

    let sent = bed.tenant.requests("/token").pop().unwrap();
    assert_eq!(sent.target.path(), format!("/{}/oauth2/v2.0/token", bed.tenant.tenant_id()));
    assert_eq!(sent.target.query(), None);
    let expected = [("client_id", FABRIKAM), ("grant_type", "client_credentials"), ("scope", SCOPE), ("client_secret", SECRET)];
    assert_eq!(sent.form(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(sent.headers["client-request-id"].to_str().ok(), answer.header("x-request-id"));
    for name in ["cookie", "x-forwarded-for", "authorization"] {
        assert!(!sent.headers.contains_key(name), "{name} got through");
    }

    let record = bed.gateway.record(|record| record["route"] == "tokens").await;
    let fields = ["decision", "partner", "client_application", "credential_kind", "tenant_id"];
    let tenant = bed.tenant.tenant_id();
    assert_eq!(fields.map(|field| record[field].as_str().unwrap()), ["allow", "fabrikam", FABRIKAM, "secret", &tenant]);
    let text = record.to_string();
    assert!(!text.contains("a secret of") && !text.contains(&token), "{text}");
}

#[tokio::test]
async fn who_is_no_partner_or_calls_from_elsewhere_is_refused_before_the_tenant_is_asked() {
    let bed = bed("any", "").await;
    for (client, reason, partner) in [
        ("99993333-cccc-4444-dddd-5555eeee6666", Reason::PartnerUnknown, None),
        (TAILSPIN, Reason::PartnerAddressNotAllowed, Some("tailspin")),
        (REVOKED, Reason::PartnerDisabled, Some("revoked")),
        (ELSEWHERE, Reason::PartnerRouteNotAllowed, Some("elsewhere")),
    ] {
        let answer = ask(&bed.gateway, asking(client, &[("client_secret", SECRET)])).await;

        answer.assert_refused(reason);
        assert_eq!(answer.json()["error"], "unauthorized_client");
        let record = bed.gateway.record(|record| record["code"] == reason.code()).await;
        assert_eq!((record["partner"].as_str(), &record["client_application"]), (partner, &json!(client)));
    }
    assert_eq!(bed.tenant.calls("/token"), 0);
}

#[tokio::test]
async fn grant_scope_and_credential_are_the_routes_to_allow() {
    let bed = bed("certificate", "").await;
    let secret = ("client_secret", SECRET);
    let fields = |grant, scope| form(&[("client_id", FABRIKAM), ("grant_type", grant), ("scope", scope), secret]);
    for (body, reason, error) in [
        (fields("password", SCOPE), Reason::GrantTypeNotAllowed, "unsupported_grant_type"),
        (fields("urn:ietf:params:oauth:grant-type:jwt-bearer", SCOPE), Reason::GrantTypeNotAllowed, "unsupported_grant_type"),
        (fields("Client_Credentials", SCOPE), Reason::GrantTypeNotAllowed, "unsupported_grant_type"),
        (fields("client_credentials", "https://graph.microsoft.com/.default"), Reason::ScopeNotAllowed, "invalid_scope"),
        (
            fields("client_credentials", &format!("{SCOPE} https://graph.microsoft.com/.default")),
            Reason::ScopeNotAllowed,
            "invalid_scope",
        ),
        (fields("client_credentials", "api://orders//.default"), Reason::ScopeNotAllowed, "invalid_scope"),
        (fields("client_credentials", SCOPE), Reason::ClientCredentialTooWeak, "unauthorized_client"),
    ] {
        let answer = ask(&bed.gateway, body.clone()).await;

        answer.assert_refused(reason);
        assert_eq!(answer.json()["error"], error, "{body}");
    }
    assert_eq!(bed.tenant.calls("/token"), 0);
}

#[tokio::test]
async fn a_partner_that_must_use_a_certificate_cannot_use_a_secret() {
    let bed = bed("any", "client-credential: certificate").await;

    let answer = ask(&bed.gateway, asking(FABRIKAM, &[("client_secret", SECRET)])).await;

    answer.assert_refused(Reason::PartnerCredentialTooWeak);
    assert_eq!(bed.tenant.calls("/token"), 0);
}

#[tokio::test]
async fn an_assertion_is_made_for_the_tenants_own_url() {
    let bed = bed("certificate", "client-credential: certificate").await;
    let key = SigningKey::certified("partner", 1_577_836_800, 4_070_908_800).unwrap();
    bed.tenant.update_app(FABRIKAM, |app| app.certificate_der(key.certificate()));

    let good = assertion(&key, FABRIKAM, &endpoint(&bed.tenant));
    let answer = ask(&bed.gateway, asking(FABRIKAM, &jwt_bearer(&good))).await;
    answer.assert_allowed();
    let claims = bed.tenant.verify(answer.json()["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((&claims["azp"], &claims["azpacr"]), (&json!(FABRIKAM), &json!("2")));

    // A library that is pointed at the relay makes it for the relay: the tenant says no, and the record says why.
    let url = format!("http://{}/token", bed.gateway.address());
    let answer = ask(&bed.gateway, asking(FABRIKAM, &jwt_bearer(&assertion(&key, FABRIKAM, &url)))).await;
    assert!(
        answer.status.is_client_error() && answer.json()["error_description"].as_str().unwrap().starts_with("AADSTS"),
        "{answer:?}"
    );
    let record = bed.gateway.record(|record| record["cause"].is_string()).await;
    assert!(record["hint"].as_str().unwrap().contains("made its assertion for another URL"), "{record}");
    assert!(!record.to_string().contains(&good[..40]));

    // The partner is judged by `client_id`; an assertion of another client would be judged by nobody.
    let others = assertion(&key, TAILSPIN, &endpoint(&bed.tenant));
    ask(&bed.gateway, asking(FABRIKAM, &jwt_bearer(&others))).await.assert_refused(Reason::TokenRequestInvalid);
    assert_eq!(bed.tenant.calls("/token"), 2);
}

#[tokio::test]
async fn what_is_no_plain_form_is_refused() {
    let bed = bed("any", "").await;
    let good = asking(FABRIKAM, &[("client_secret", SECRET)]);
    let json =
        json!({ "client_id": FABRIKAM, "grant_type": "client_credentials", "scope": SCOPE, "client_secret": SECRET }).to_string();
    let kind = "application/x-www-form-urlencoded";
    let basic = ("Authorization", "Basic eDp5");
    let encoded = ("Content-Encoding", "gzip");
    for (target, content_type, more, body) in [
        ("/token", "application/json", None, json.clone()),
        ("/token", kind, None, json),
        ("/token", "text/plain", None, good.clone()),
        ("/token", "", None, good.clone()),
        ("/token", "application/x-www-form-urlencoded; charset=utf-7", None, good.clone()),
        ("/token", "application/x-www-form-urlencoded-2", None, good.clone()),
        ("/token?scope=other", kind, None, good.clone()),
        ("/token?", kind, None, good.clone()),
        ("/token", kind, Some(basic), good.clone()),
        ("/token", kind, Some(encoded), good.clone()),
        ("/token", kind, None, format!("{good}&client_id={TAILSPIN}")),
        ("/token", kind, None, format!("{good}&Scope=api%3A%2F%2Forders%2F.default")),
        ("/token", kind, None, String::new()),
    ] {
        let mut call = bed.gateway.request(Method::POST, target);
        if !content_type.is_empty() {
            call = call.header("Content-Type", content_type);
        }
        if let Some((name, value)) = more {
            call = call.header(name, value);
        }
        let answer = call.body(body).send().await;
        answer.assert_refused(Reason::TokenRequestInvalid);
        assert_eq!(answer.json()["error"], "invalid_request", "{target} {content_type} {more:?}");
    }
    ask(&bed.gateway, format!("{good}&x={}", "y".repeat(64 << 10))).await.assert_refused(Reason::BodyTooLarge);
    bed.gateway.get("/token").send().await.assert_refused(Reason::MethodNotAllowed);
    assert_eq!(bed.tenant.calls("/token"), 0);
}

#[tokio::test]
async fn the_tenants_answer_comes_back_without_its_headers() {
    let bed = bed("any", "").await;
    let request = || asking(FABRIKAM, &[("client_secret", SECRET)]);

    let wrong = ask(&bed.gateway, asking(FABRIKAM, &[("client_secret", "wrong")])).await;
    assert_eq!((wrong.status, &wrong.json()["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    assert_eq!(wrong.json()["error_codes"], json!([7_000_215]));

    let slow = Fault::on("/token").status(429).times(1).header("Retry-After", "17").header("Set-Cookie", "fpc=1");
    bed.tenant.fail(slow.header("x-ms-request-id", "1").body(r#"{"error":"temporarily_unavailable"}"#));
    let throttled = ask(&bed.gateway, request()).await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("17")));
    assert!(!throttled.headers.contains_key("set-cookie") && !throttled.headers.contains_key("x-ms-request-id"));

    for (status, body) in [(302, "{}"), (200, "<html>"), (503, "<html>"), (200, "[1]")] {
        let fault = Fault::on("/token").status(status).times(1).header("Location", "http://elsewhere.example/").body(body);
        bed.tenant.fail(fault);
        let answer = ask(&bed.gateway, request()).await;
        answer.assert_refused(Reason::UpstreamProtocolError);
        assert!(!answer.headers.contains_key("location"));
        assert_eq!(answer.json()["error"], "temporarily_unavailable", "{status} {body}");
    }
    // Nothing was kept: each request was asked for anew, and once.
    let before = bed.tenant.calls("/token");
    ask(&bed.gateway, request()).await.assert_allowed();
    ask(&bed.gateway, request()).await.assert_allowed();
    assert_eq!(bed.tenant.calls("/token"), before + 2);
}

#[tokio::test]
async fn one_line_revokes() {
    let mut bed = bed("any", "").await;
    let request = || asking(FABRIKAM, &[("client_secret", SECRET)]);
    ask(&bed.gateway, request()).await.assert_allowed();

    let text = config(&bed.tenant, &bed.upstream, &routes("any"), &partners("enabled: false"));
    bed.gateway.reload(&text).await;

    ask(&bed.gateway, request()).await.assert_refused(Reason::PartnerDisabled);
    assert_eq!(bed.tenant.calls("/token"), 1);
}

#[tokio::test]
async fn whoever_only_knows_the_partners_id_uses_up_nothing_of_it() {
    let asking_for = |scope: &str, secret: &str| {
        let fields = [("client_id", FABRIKAM), ("grant_type", "client_credentials"), ("scope", scope), ("client_secret", secret)];
        form(&fields)
    };
    for (limit, reason) in [
        ("quota: { calls: 2, renewal-period: 30d }", Reason::QuotaExceeded),
        ("rate-limit: { calls: 2, renewal-period: 1h }", Reason::RateLimitExceeded),
    ] {
        let bed = bed("any", limit).await;

        for _ in 0..3 {
            ask(&bed.gateway, asking_for("nonsense", "x")).await.assert_refused(Reason::ScopeNotAllowed);
            assert_eq!(ask(&bed.gateway, asking_for(SCOPE, "guessed")).await.status, 401);
        }

        for _ in 0..2 {
            ask(&bed.gateway, asking_for(SCOPE, SECRET)).await.assert_allowed();
        }
        let asked = bed.tenant.calls("/token");
        ask(&bed.gateway, asking_for(SCOPE, SECRET)).await.assert_refused(reason);
        assert_eq!(bed.tenant.calls("/token"), asked);
    }
}

#[test]
fn mistakes_are_found_at_load() {
    let relay = |matches: &str, rest: &str| {
        format!(
            "tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }}, many: {{ id: organizations }} }}
partners: {{ fabrikam: {{ client-application-ids: [{FABRIKAM}], addresses: [127.0.0.1] }} }}
routes: [ {{ name: tokens, match: {{ {matches} }}, token-relay: {{ {rest} }} }} ]
"
        )
    };
    let good = "exact-path: /token, methods: [POST]";
    for (matches, rest, expected) in [
        ("exact-path: /token", "tenant: contoso, scopes: [api://orders/.default]", "one path that takes POST alone"),
        ("path: /token, methods: [POST]", "tenant: contoso, scopes: [api://orders/.default]", "one path that takes POST alone"),
        (good, "tenant: many, scopes: [api://orders/.default]", "does not stand for one tenant"),
        (good, "tenant: other, scopes: [api://orders/.default]", "there is no tenant `other`"),
        (good, "tenant: contoso, scopes: []", "every request would be refused"),
        (good, "tenant: contoso, scopes: [api://orders/Orders.Read]", "is not a scope of this grant"),
        (good, "tenant: contoso, scopes: [api://orders/.default], grant-types: []", "every request would be refused"),
        (good, "tenant: contoso, scopes: [api://orders/.default], grant-types: [password]", "none of the words"),
        (good, "tenant: contoso, scopes: [api://orders/.default], partners: [tailspin]", "there is no partner `tailspin`"),
    ] {
        let refusal = match std::panic::catch_unwind(|| Gateway::refusal(&relay(matches, rest))) {
            Ok(refusal) => refusal,
            // What the schema finds is told before a server is started.
            Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
        };
        assert!(refusal.contains(expected), "{matches} {rest}\nwas refused with\n{refusal}");
    }
}

/// Attack: whoever writes a partner's id into a form is not the partner, and must not look like it.
#[tokio::test]
async fn a_client_that_the_tenant_has_not_taken_for_the_partner_is_not_counted_as_it() {
    let bed = bed("any", "owner: integration@contoso.example").await;

    ask(&bed.gateway, asking(FABRIKAM, &[("client_secret", "guess")])).await;
    let guessed = bed.gateway.record(|record| record["route"] == "tokens" && record["status"] == 401).await;
    let before = bed.gateway.metrics().await;
    ask(&bed.gateway, asking(FABRIKAM, &[("client_secret", SECRET)])).await.assert_allowed();
    let proven = bed.gateway.record(|record| record["route"] == "tokens" && record["status"] == 200).await;
    let after = bed.gateway.metrics().await;

    assert_eq!((&guessed["partner"], &guessed["client_verified"]), (&json!("fabrikam"), &json!(false)), "{guessed}");
    assert_eq!(proven["client_verified"], true, "{proven}");
    let seen = "entrada_partner_last_seen_timestamp_seconds{partner=\"fabrikam\"}";
    assert!(!before.contains(seen) && after.contains(seen), "{before}");
    let counted = "entrada_partner_decisions_total{partner=\"fabrikam\",decision=\"allow\",code=\"\"}";
    assert!(before.contains(&format!("{counted} 0\n")) && after.contains(&format!("{counted} 1\n")), "{before}");
}

//! Tests of tokens that fail exactly one check, and of impossible settings.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    dev_tenant::{App, DevTenant, Options},
    entra::{Tenants, VerifiedTokens, testing::*},
    identity_http::{
        IdentityHttp, IdentityHttpConfig,
        testing::{Origin, Reply},
    },
    inbound::build_context::BuildContext,
    limits::Limits,
    request::testing::request,
    request::{ReservedNames, TokenPlace},
    settings::{Faults, Place},
};

fn build(tenants: &Tenants, config: Value) -> (Option<ValidateAzureAdToken>, Faults, Vec<TokenPlace>) {
    let config = serde_json::from_value(config).unwrap();
    let (mut faults, mut token_places) = (Faults::default(), Vec::new());
    let policy = ValidateAzureAdToken::build(
        &config,
        &Place::root(),
        &mut BuildContext {
            faults: &mut faults,
            sets: &Default::default(),
            tenants,
            limits: (&Limits::default()).into(),
            secrets: &Default::default(),
            captures: None,
            anonymous: false,
            reserved: &mut ReservedNames::default(),
            certificates: Default::default(),
            partners: None,
            token_places: &mut token_places,
            graph: None,
            tokens_before: &mut Default::default(),
            on_error: Default::default(),
            credential_names: &Default::default(),
            upstreams: None,
            key_places: &mut Vec::new(),
        },
    );
    (policy, faults, token_places)
}

fn one_tenant() -> Tenants {
    tenants(&[("contoso", json!({ "id": TENANT }))])
}

impl ValidateAzureAdToken {
    /// Judges the token of a request, as the policy does.
    async fn admit(&self, incoming: &IncomingRequest, clock: &Clock, caller: Caller<'_>) -> Result<Admitted<'_>, Refusal> {
        self.authenticate(incoming, clock, caller).await.map_err(|refused| self.refuse_request(refused.error, incoming))
    }
}

/// Makes a policy for [`TENANT`] with the usual settings and these, and with the first test key.
fn policy(more: &Value) -> ValidateAzureAdToken {
    let tenants = one_tenant();
    let mut config = json!({ "tenant": "contoso", "audiences": [API] });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (policy, faults, _) = build(&tenants, config);
    assert!(faults.is_empty(), "{faults:?}");
    tenants.assume_keys(&jwks(&[key(0).jwk(Some(TEMPLATE))]), &clock()).unwrap();
    policy.unwrap()
}

async fn admit(policy: &ValidateAzureAdToken, token: &str) -> Result<Arc<Verified>, Refusal> {
    let request = request(&[("authorization", &format!("Bearer {token}"))], None);
    policy.admit(&request, &clock(), Caller::default()).await.map(|(verified, _)| verified)
}

async fn code(policy: &ValidateAzureAdToken, token: &str) -> &'static str {
    admit(policy, token).await.map_or_else(|refusal| refusal.reason.code(), |_| "accepted")
}

#[tokio::test]
async fn accepts_what_entra_issues() {
    let policy = policy(&json!({}));
    for (row, token) in [
        ("a user's, version 2", Mint::user()),
        ("a user's, version 1", Mint::user().version_1()),
        ("an application's, version 2", Mint::app()),
        ("an application's, version 1", Mint::app().version_1()),
        ("an application's, without its kind", Mint::app().without("idtyp")),
        ("type of RFC 9068", Mint::user().header("typ", "at+jwt")),
        ("no type", Mint::user().headerless("typ")),
        ("with an x5t", Mint::user().header("x5t", "whatever")),
        ("no time of issue", Mint::user().without("iat").without("nbf")),
        ("issued in the future", Mint::user().with("iat", NOW + 1_000_000)),
        ("one role as a text", Mint::app().with("roles", "Orders.Sync.All")),
    ] {
        assert_eq!(code(&policy, &token.sign()).await, "accepted", "{row}");
    }
}

/// Tests tokens that fail exactly one check; their signatures are valid, unless the row is about that.
#[tokio::test]
async fn tells_what_is_wrong_with_a_token() {
    let policy = policy(&json!({}));
    let other = key(1);
    let user = Mint::user;
    for (row, token, expected) in [
        // form
        ("critical extension", user().header("crit", json!(["x"])).sign(), "token-malformed"),
        ("compressed", user().header("zip", "DEF").sign(), "token-malformed"),
        ("another type", user().header("typ", "dpop+jwt").sign(), "token-malformed"),
        ("no key id", user().headerless("kid").sign(), "token-malformed"),
        ("key id of 10 KiB", user().header("kid", "k".repeat(10_240)).sign(), "token-malformed"),
        ("encrypted", format!("{}.x.y", user().sign()), "token-malformed"),
        ("a word", "hello".to_owned(), "token-malformed"),
        ("two words", "hello world".to_owned(), "token-malformed"),
        ("a mebibyte", "a".repeat(1 << 20), "token-malformed"),
        // algorithm
        ("none", user().header("alg", "none").sign(), "token-algorithm-not-allowed"),
        ("None", user().header("alg", "None").sign(), "token-algorithm-not-allowed"),
        ("nOnE, no key id", user().header("alg", "nOnE").headerless("kid").sign(), "token-algorithm-not-allowed"),
        ("no algorithm", user().headerless("alg").sign(), "token-algorithm-not-allowed"),
        ("HMAC", user().header("alg", "HS256").sign(), "token-algorithm-not-allowed"),
        ("another RSA algorithm", user().header("alg", "RS512").sign(), "token-algorithm-not-allowed"),
        ("PSS", user().header("alg", "PS256").sign(), "token-algorithm-not-allowed"),
        ("elliptic", user().header("alg", "ES256").sign(), "token-algorithm-not-allowed"),
        // key
        ("unknown key", user().header("kid", other.kid()).signed_by(other).sign(), "token-key-unknown"),
        ("key id as a path", user().header("kid", "../../dev/null").sign(), "token-key-unknown"),
        ("empty key id", user().header("kid", "").sign(), "token-key-unknown"),
        ("embedded key", user().header("kid", "x").header("jwk", other.jwk(None)).signed_by(other).sign(), "token-key-unknown"),
        // signature
        ("another key", user().signed_by(other).sign(), "token-signature-invalid"),
        (
            "embedded key under a known id",
            user().header("jwk", other.jwk(None)).signed_by(other).sign(),
            "token-signature-invalid",
        ),
        ("a key elsewhere", user().header("jku", "https://evil.example").signed_by(other).sign(), "token-signature-invalid"),
        ("no signature", format!("{}.", user().sign().rsplit_once('.').unwrap().0), "token-signature-invalid"),
        // payload
        ("no JSON", user().sign_text("hello"), "token-malformed"),
        ("a list", user().sign_text("[]"), "token-malformed"),
        ("tenant twice", user().sign_text(&twice("tid")), "token-malformed"),
        ("roles in two spellings", user().with("roles", json!(["a"])).with("Roles", json!(["b"])).sign(), "token-malformed"),
        ("no expiry", user().without("exp").sign(), "token-malformed"),
        ("expiry as a text", user().with("exp", (NOW + 3_600).to_string()).sign(), "token-malformed"),
        ("expiry as a fraction", user().with("exp", NOW as f64 + 0.5).sign(), "token-malformed"),
        ("expiry before 1970", user().with("exp", -1).sign(), "token-malformed"),
        ("expiry beyond all time", user().with("exp", u64::MAX).sign(), "token-malformed"),
        ("null expiry", user().with("exp", Value::Null).sign(), "token-malformed"),
        ("begins as a text", user().with("nbf", "0").sign(), "token-malformed"),
        ("ends before it begins", user().with("nbf", NOW + 3_601).sign(), "token-malformed"),
        ("audiences in a list", user().with("aud", json!([API])).sign(), "token-malformed"),
        ("issuer in a list", user().with("iss", json!(["https://x"])).sign(), "token-malformed"),
        ("roles as an object", Mint::app().with("roles", json!({ "a": 1 })).sign(), "token-malformed"),
        ("scopes in a list", user().with("scp", json!(["orders.read"])).sign(), "token-malformed"),
        // issuer
        ("no issuer", user().without("iss").sign(), "token-issuer-not-allowed"),
        ("version 3", user().with("ver", "3.0").sign(), "token-issuer-not-allowed"),
        ("no version", user().without("ver").sign(), "token-issuer-not-allowed"),
        ("version 1 with the issuer of 2", user().with("ver", "1.0").sign(), "token-issuer-not-allowed"),
        (
            "slash more",
            user().with("iss", format!("https://login.microsoftonline.com/{TENANT}/v2.0/")).sign(),
            "token-issuer-not-allowed",
        ),
        (
            "slash less",
            user().version_1().with("iss", format!("https://sts.windows.net/{TENANT}")).sign(),
            "token-issuer-not-allowed",
        ),
        ("alias", user().with("iss", format!("https://login.windows.net/{TENANT}/v2.0")).sign(), "token-issuer-not-allowed"),
        (
            "lookalike",
            user().with("iss", format!("https://login.microsoftonline.com.evil.example/{TENANT}/v2.0")).sign(),
            "token-issuer-not-allowed",
        ),
        (
            "plain",
            user().with("iss", format!("http://login.microsoftonline.com/{TENANT}/v2.0")).sign(),
            "token-issuer-not-allowed",
        ),
        (
            "another cloud",
            user().with("iss", format!("https://login.microsoftonline.us/{TENANT}/v2.0")).sign(),
            "token-issuer-not-allowed",
        ),
        ("another tenant", of_tenant(OTHER_TENANT).sign(), "token-issuer-not-allowed"),
        ("another tenant than the issuer's", user().with("tid", OTHER_TENANT).sign(), "token-issuer-not-allowed"),
        // tenant
        ("no tenant", user().without("tid").sign(), "token-tenant-not-allowed"),
        ("a tenant that is not a GUID", user().with("tid", "contoso.example").sign(), "token-tenant-not-allowed"),
        ("a tenant that is not a text", user().with("tid", 7).sign(), "token-tenant-not-allowed"),
        // audience
        ("no audience", user().without("aud").sign(), "token-audience-not-allowed"),
        ("another audience", user().with("aud", "api://other").sign(), "token-audience-not-allowed"),
        ("another case", user().with("aud", API.to_uppercase()).sign(), "token-audience-not-allowed"),
        ("a slash more", user().with("aud", format!("{API}/")).sign(), "token-audience-not-allowed"),
        // times
        ("expired", user().with("exp", NOW - 300).with("nbf", NOW - 4_000).sign(), "token-expired"),
        ("not yet valid", user().with("nbf", NOW + 301).sign(), "token-not-yet-valid"),
        // kind
        ("no client", user().without("azp").sign(), "token-not-access-token"),
        ("an ID token", user().without("azp").without("scp").with("nonce", "n").sign(), "token-not-access-token"),
        (
            "an ID token with roles",
            user().without("azp").without("scp").with("roles", json!(["a"])).sign(),
            "token-not-access-token",
        ),
        ("hash of an access token", user().with("at_hash", "x").sign(), "token-not-access-token"),
        ("hash of a code", user().with("c_hash", "x").sign(), "token-not-access-token"),
        ("roles, but whose", Mint::app().without("idtyp").with("sub", "x").sign(), "token-not-access-token"),
        ("bound to a certificate", user().with("cnf", json!({ "x5t#S256": "x" })).sign(), "token-binding-missing"),
        // claims
        ("no grant, an application", Mint::app().without("roles").sign(), "permission-missing"),
        ("no grant, a user", user().without("scp").sign(), "permission-missing"),
        ("an empty grant", user().with("scp", "").sign(), "permission-missing"),
    ] {
        assert_eq!(code(&policy, &token).await, expected, "{row}");
        assert_eq!(code(&policy, &token).await, expected, "{row}, seen again");
    }
}

/// Returns the payload of a user's token with one member repeated.
fn twice(name: &str) -> String {
    let claims = Value::Object(Mint::user().claims);
    let member = format!("\"{name}\":{}", claims[name]);
    claims.to_string().replacen(&member, &format!("{member},{member}"), 1)
}

fn of_tenant(tenant: &str) -> Mint {
    Mint::user().with("tid", tenant).with("iss", format!("https://login.microsoftonline.com/{tenant}/v2.0"))
}

#[tokio::test]
async fn holds_tokens_to_the_settings() {
    let user = Mint::user;
    let app = Mint::app;
    let listed = json!({ "client-application-ids": [CLIENT] });
    let both = json!({ "scopes": ["orders.read"], "roles": ["Orders.Sync.All"] });
    for (row, settings, token, expected) in [
        ("users only", json!({ "token-kind": "user" }), app(), "token-kind-not-allowed"),
        ("applications only", json!({ "token-kind": "app" }), user(), "token-kind-not-allowed"),
        ("users only, a user", json!({ "token-kind": "user" }), user(), "accepted"),
        ("listed client", listed.clone(), user(), "accepted"),
        ("another client", listed.clone(), user().with("azp", OTHER_TENANT), "client-application-not-allowed"),
        ("no grant, but listed", listed.clone(), app().without("roles"), "accepted"),
        ("no grant, listed, but whose", listed, user().without("scp"), "permission-missing"),
        ("certificate", json!({ "client-credential": "certificate" }), app(), "accepted"),
        ("certificate, version 1", json!({ "client-credential": "certificate" }), app().version_1(), "accepted"),
        ("secret", json!({ "client-credential": "certificate" }), app().with("azpacr", "1"), "client-credential-too-weak"),
        ("nothing said", json!({ "client-credential": "certificate" }), app().without("azpacr"), "client-credential-too-weak"),
        (
            "the other version's name",
            json!({ "client-credential": "certificate" }),
            app().without("azpacr").with("appidacr", "2"),
            "client-credential-too-weak",
        ),
        ("a scope", json!({ "scopes": ["orders.write"] }), user(), "accepted"),
        ("another scope", json!({ "scopes": ["orders.delete"] }), user(), "scope-missing"),
        ("part of a scope", json!({ "scopes": ["orders"] }), user(), "scope-missing"),
        ("case of a scope", json!({ "scopes": ["Orders.Read"] }), user(), "scope-missing"),
        ("scopes alone are for users", json!({ "scopes": ["orders.read"] }), app(), "role-missing"),
        ("a role", json!({ "roles": ["Orders.Sync.All"] }), app(), "accepted"),
        ("another role", json!({ "roles": ["Orders.Admin"] }), app(), "role-missing"),
        ("roles are asked of users too", json!({ "roles": ["Orders.Sync.All"] }), user(), "role-missing"),
        ("both, a user", both.clone(), user(), "accepted"),
        ("both, an application", both.clone(), app(), "accepted"),
        (
            "both, a user with the role",
            both.clone(),
            user().with("scp", "x").with("roles", json!(["Orders.Sync.All"])),
            "scope-missing",
        ),
        ("both, an application with another role", both, app().with("roles", json!(["x"])), "role-missing"),
        ("claim", claim(&json!({ "name": "department" })), user().with("department", "sales"), "accepted"),
        ("claim absent", claim(&json!({ "name": "department" })), user(), "required-claim-missing"),
        ("claim null", claim(&json!({ "name": "department" })), user().with("department", Value::Null), "required-claim-missing"),
        ("claim empty", claim(&json!({ "name": "department" })), user().with("department", ""), "required-claim-missing"),
        ("dotted name", claim(&json!({ "name": "extn.team", "values": ["a"] })), user().with("extn.team", "a"), "accepted"),
        (
            "name as a path",
            claim(&json!({ "name": "extn.team" })),
            user().with("extn", json!({ "team": "a" })),
            "required-claim-missing",
        ),
        (
            "all of",
            claim(&json!({ "name": "groups", "values": ["a", "b"] })),
            user().with("groups", json!(["b", "a"])),
            "accepted",
        ),
        (
            "not all of",
            claim(&json!({ "name": "groups", "values": ["a", "b"] })),
            user().with("groups", json!(["a"])),
            "required-claim-missing",
        ),
        (
            "any of",
            claim(&json!({ "name": "groups", "values": ["a", "b"], "match": "any" })),
            user().with("groups", "b"),
            "accepted",
        ),
        (
            "none of",
            claim(&json!({ "name": "groups", "values": ["a"], "match": "any" })),
            user().with("groups", json!([])),
            "required-claim-missing",
        ),
        ("a number", claim(&json!({ "name": "acct", "values": ["0"] })), user().with("acct", 0), "accepted"),
        ("a boolean", claim(&json!({ "name": "in_corp", "values": ["true"] })), user().with("in_corp", true), "accepted"),
        (
            "an object",
            claim(&json!({ "name": "x", "values": ["a"] })),
            user().with("x", json!({ "a": "a" })),
            "required-claim-missing",
        ),
        ("separated", claim(&json!({ "name": "scp", "values": ["orders.read"], "separator": " " })), user(), "accepted"),
        (
            "a list, whose elements nothing cuts",
            claim(&json!({ "name": "groups", "values": ["Admins"], "separator": ",", "match": "any" })),
            user().with("groups", json!(["Users,Admins"])),
            "required-claim-missing",
        ),
        (
            "a list, by its elements",
            claim(&json!({ "name": "groups", "values": ["Admins"], "separator": ",", "match": "any" })),
            user().with("groups", json!(["Users", "Admins"])),
            "accepted",
        ),
        (
            "separators and nothing between",
            claim(&json!({ "name": "department", "separator": " " })),
            user().with("department", "  "),
            "required-claim-missing",
        ),
        (
            "a list of nothing",
            claim(&json!({ "name": "groups" })),
            user().with("groups", json!(["", null])),
            "required-claim-missing",
        ),
        ("not separated", claim(&json!({ "name": "scp", "values": ["orders.read"] })), user(), "required-claim-missing"),
        (
            "groups elsewhere",
            claim(&json!({ "name": "groups", "values": ["a"] })),
            user().with("_claim_names", json!({ "groups": "src1" })),
            "group-overage",
        ),
        (
            "groups elsewhere, implicit flow",
            claim(&json!({ "name": "groups", "values": ["a"] })),
            user().with("hasgroups", true),
            "group-overage",
        ),
        ("context", json!({ "authentication-context": "c1" }), user().with("acrs", json!(["c2", "c1"])), "accepted"),
        ("no context", json!({ "authentication-context": ["c1", "c3"] }), user().with("acrs", json!(["c2"])), "claims-challenge"),
        ("ID token", json!({ "token-type": "id" }), user().without("azp").without("scp"), "accepted"),
        ("access token for an ID token", json!({ "token-type": "id" }), user(), "token-not-access-token"),
        ("application's token for an ID token", json!({ "token-type": "id" }), app(), "token-not-access-token"),
        ("skew", json!({ "clock-skew": "10m" }), user().with("exp", NOW - 599).with("nbf", NOW - 4_000), "accepted"),
        ("beyond skew", json!({ "clock-skew": "10m" }), user().with("exp", NOW - 600).with("nbf", NOW - 4_000), "token-expired"),
        ("no skew", json!({ "clock-skew": "0s" }), user().with("exp", NOW).with("nbf", NOW - 4_000), "token-expired"),
        ("no skew, one second left", json!({ "clock-skew": "0s" }), user().with("exp", NOW + 1), "accepted"),
        ("no skew, early", json!({ "clock-skew": "0s" }), user().with("nbf", NOW + 1), "token-not-yet-valid"),
        ("other audience", json!({ "audiences": ["api://orders"] }), user().version_1().with("aud", "api://orders"), "accepted"),
    ] {
        assert_eq!(code(&policy(&settings), &token.sign()).await, expected, "{row}");
    }
}

fn claim(claim: &Value) -> Value {
    json!({ "required-claims": [claim] })
}

#[tokio::test]
async fn a_partners_check_may_decide_about_applications_without_a_grant() {
    let mut policy = policy(&json!({}));

    policy.rules.partner_check_follows = true;

    assert_eq!(code(&policy, &Mint::app().without("roles").sign()).await, "accepted");
    assert_eq!(code(&policy, &Mint::user().without("scp").sign()).await, "permission-missing");
}

/// Judges a token of `tenant`, signed by the key that is listed with `issuer`.
async fn judged_with_key_of(config: Value, tenant_id: &str, issuer: Option<&str>, token: &Mint) -> &'static str {
    let tenants = tenants(&[("entra", json!({ "id": tenant_id }))]);
    let mut settings = json!({ "tenant": "entra", "audiences": [API] });
    settings.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let (policy, faults, _) = build(&tenants, settings);
    assert!(faults.is_empty(), "{faults:?}");
    tenants.assume_keys(&jwks(&[key(0).jwk(issuer)]), &clock()).unwrap();
    code(&policy.unwrap(), &token.sign()).await
}

#[tokio::test]
async fn issuer_tenant_and_key_agree() {
    const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
    let personal = format!("https://login.microsoftonline.com/{PERSONAL}/v2.0");
    let other = format!("https://login.microsoftonline.com/{OTHER_TENANT}/v2.0");
    let any = json!({ "allowed-tenants": "any" });
    let two = json!({ "allowed-tenants": [TENANT, OTHER_TENANT.to_uppercase()] });
    let named = json!({ "allowed-tenants": [PERSONAL] });
    for (row, config, id, issuer, token, expected) in [
        ("any tenant", any.clone(), "organizations", Some(TEMPLATE), of_tenant(OTHER_TENANT), "accepted"),
        ("any tenant, version 1", any.clone(), "common", Some(TEMPLATE), Mint::user().version_1(), "accepted"),
        ("a listed tenant", two.clone(), "organizations", Some(TEMPLATE), of_tenant(OTHER_TENANT), "accepted"),
        ("another tenant", two, "organizations", Some(TEMPLATE), of_tenant(CLIENT), "token-tenant-not-allowed"),
        (
            "issuer and tenant differ",
            any.clone(),
            "organizations",
            Some(TEMPLATE),
            Mint::user().with("tid", OTHER_TENANT),
            "token-issuer-not-allowed",
        ),
        (
            "the template as issuer",
            any.clone(),
            "organizations",
            Some(TEMPLATE),
            Mint::user().with("iss", TEMPLATE),
            "token-issuer-not-allowed",
        ),
        ("no tenant", any.clone(), "organizations", Some(TEMPLATE), Mint::user().without("tid"), "token-tenant-not-allowed"),
        ("key of personal accounts", any.clone(), "common", Some(&*personal), Mint::user(), "token-issuer-not-allowed"),
        (
            "key of personal accounts, version 1",
            any.clone(),
            "common",
            Some(&*personal),
            Mint::user().version_1(),
            "token-issuer-not-allowed",
        ),
        ("key of another tenant", any.clone(), "organizations", Some(&*other), Mint::user(), "token-issuer-not-allowed"),
        ("key of nobody", any.clone(), "organizations", None, Mint::user(), "token-issuer-not-allowed"),
        ("personal account", any.clone(), "common", Some(&*personal), of_tenant(PERSONAL), "token-tenant-not-allowed"),
        ("personal account, named", named, "common", Some(&*personal), of_tenant(PERSONAL), "accepted"),
        (
            "one tenant, its key",
            json!({}),
            TENANT,
            Some(&*format!("https://login.microsoftonline.com/{TENANT}/v2.0")),
            Mint::user(),
            "accepted",
        ),
        ("one tenant, key without issuer", json!({}), TENANT, None, Mint::user(), "accepted"),
        ("one tenant, key of another", json!({}), TENANT, Some(&*other), Mint::user(), "token-issuer-not-allowed"),
        (
            "one tenant, key of another, version 1",
            json!({}),
            TENANT,
            Some(&*other),
            Mint::user().version_1(),
            "token-issuer-not-allowed",
        ),
        (
            "one tenant, key without issuer, another tenant",
            json!({}),
            TENANT,
            None,
            Mint::user().with("tid", OTHER_TENANT),
            "token-issuer-not-allowed",
        ),
    ] {
        assert_eq!(judged_with_key_of(config, id, issuer, &token).await, expected, "{row}");
    }
}

/// Tests issuers as each cloud's and each product's metadata names them, with tokens of both versions.
#[tokio::test]
async fn every_clouds_own_issuers_are_accepted_and_no_others() {
    let of = |issuer: String| Mint::user().with("iss", issuer);
    let v1 = |issuer: String| Mint::user().version_1().with("iss", issuer);
    let clouds = [
        ("public", json!({ "id": TENANT }), "login.microsoftonline.com", "sts.windows.net"),
        ("US Government", json!({ "id": TENANT, "cloud": "us-government" }), "login.microsoftonline.us", "sts.windows.net"),
        ("China", json!({ "id": TENANT, "cloud": "china" }), "login.partner.microsoftonline.cn", "sts.chinacloudapi.cn"),
        (
            "a private cloud",
            json!({ "id": TENANT, "authority": "https://login.private.example" }),
            "login.private.example",
            "login.private.example",
        ),
    ];
    for (row, config, login, tokens) in &clouds {
        let all = tenants(&[("contoso", config.clone())]);
        let (policy, faults, _) = build(&all, json!({ "tenant": "contoso", "audiences": [API] }));
        assert!(faults.is_empty(), "{faults:?}");
        let policy = policy.unwrap();
        all.assume_keys(&jwks(&[key(0).jwk(None)]), &clock()).unwrap();

        assert_eq!(code(&policy, &of(format!("https://{login}/{TENANT}/v2.0")).sign()).await, "accepted", "{row}");
        assert_eq!(code(&policy, &v1(format!("https://{tokens}/{TENANT}/")).sign()).await, "accepted", "{row}, version 1");
        for (other, _, elsewhere, theirs) in clouds.iter().filter(|(_, _, elsewhere, _)| elsewhere != login) {
            let token = of(format!("https://{elsewhere}/{TENANT}/v2.0")).sign();
            assert_eq!(code(&policy, &token).await, "token-issuer-not-allowed", "{row}, a token of {other}");
            let token = v1(format!("https://{theirs}/{TENANT}/")).sign();
            assert_eq!(code(&policy, &token).await == "accepted", theirs == tokens, "{row}, version 1 of {other}");
        }
    }
}

/// Tests a user flow of Azure AD B2C: its path follows the tenant, its tokens state version 1, and need not name their tenant.
#[tokio::test]
async fn user_flows_of_b2c_are_judged_as_what_they_are() {
    const FLOW: &str = "/contoso.onmicrosoft.com/b2c_1_signin";
    let origin = Origin::start(|request| {
        let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
        if request.starts_with(&format!("GET {FLOW}/v2.0/.well-known/openid-configuration ")) {
            let (issuer, keys) = (format!("http://{host}/{TENANT}/v2.0/"), format!("http://{host}{FLOW}/discovery/v2.0/keys"));
            return Reply::json(json!({ "issuer": issuer, "jwks_uri": keys }).to_string());
        }
        assert!(request.starts_with(&format!("GET {FLOW}/discovery/v2.0/keys ")), "{request}");
        Reply::json(String::from_utf8(jwks(&[key(0).jwk(None)])).unwrap())
    })
    .await;
    let authority = format!("http://{}{FLOW}", origin.address);
    let issuer = format!("http://{}/{TENANT}/v2.0/", origin.address);
    let all = tenants(&[("customers", json!({ "id": "contoso.onmicrosoft.com", "authority": authority }))]);
    let (policy, faults, _) = build(&all, json!({ "tenant": "customers", "audiences": [API], "scopes": ["orders.read"] }));
    assert!(faults.is_empty(), "{faults:?}");
    let policy = policy.unwrap();
    all.start(&IdentityHttp::new(&IdentityHttpConfig::default()).unwrap(), &clock(), &tokio::runtime::Handle::current());
    all.tried().await;
    let token = || {
        Mint::user().with("ver", "1.0").with("iss", issuer.as_str()).with("tfp", "b2c_1_signin").without("tid").without("azpacr")
    };

    for (row, token, expected) in [
        ("as B2C writes it", token(), "accepted"),
        ("with its tenant", token().with("tid", TENANT), "accepted"),
        ("with another tenant", token().with("tid", OTHER_TENANT), "token-issuer-not-allowed"),
        ("a tenant that is none", token().with("tid", "contoso"), "token-tenant-not-allowed"),
        ("no slash", token().with("iss", issuer.trim_end_matches('/')), "token-issuer-not-allowed"),
        ("another tenant's issuer", token().with("iss", issuer.replace(TENANT, OTHER_TENANT)), "token-issuer-not-allowed"),
        ("no client", token().without("azp"), "token-not-access-token"),
        ("no scope", token().with("scp", "other"), "scope-missing"),
    ] {
        assert_eq!(code(&policy, &token.sign()).await, expected, "{row}");
    }
}

#[tokio::test]
async fn without_keys_nobody_is_refused_for_good() {
    let tenants = one_tenant();
    let (policy, ..) = build(&tenants, json!({ "tenant": "contoso", "audiences": [API], "failed-validation-httpcode": 404 }));

    let refusal = admit(&policy.unwrap(), &Mint::user().sign()).await.unwrap_err();

    assert_eq!(refusal.reason, Reason::SigningKeysUnavailable);
    assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal.retry_after, Some(RETRY_AFTER));
}

#[tokio::test]
async fn answers_as_it_was_told() {
    let told = policy(&json!({ "failed-validation-httpcode": 418, "failed-validation-error-message": "No entry." }));
    let plain = policy(&json!({ "scopes": ["orders.delete", "orders.admin"] }));

    let missing = told.admit(&request(&[], None), &clock(), Caller::default()).await.unwrap_err();
    let forbidden = admit(&told, &Mint::app().without("roles").sign()).await.unwrap_err();
    let twice =
        told.admit(&request(&[("authorization", "Bearer a, Bearer b")], None), &clock(), Caller::default()).await.unwrap_err();
    let scope = admit(&plain, &Mint::user().sign()).await.unwrap_err();

    for refusal in [&missing, &forbidden] {
        assert_eq!(refusal.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(refusal.message.as_deref(), Some("No entry."));
    }
    assert_eq!(twice.status(), StatusCode::BAD_REQUEST);
    assert_eq!(twice.reason, Reason::TokenAmbiguous);
    let scopes = format!("{API}/orders.delete {API}/orders.admin");
    assert_eq!(
        scope.into_parts().challenge.unwrap(),
        format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"").as_str()
    );
}

#[tokio::test]
async fn asks_clients_that_can_to_step_up() {
    let policy = policy(&json!({ "authentication-context": "c1" }));

    let capable = admit(&policy, &Mint::user().with("xms_cc", json!(["CP1"])).sign()).await.unwrap_err();
    let other = admit(&policy, &Mint::user().sign()).await.unwrap_err();

    assert_eq!(capable.status(), StatusCode::UNAUTHORIZED);
    let challenge = capable.into_parts().challenge.unwrap();
    assert_eq!(
        challenge,
        format!(
            "Bearer realm=\"{TENANT}\", authorization_uri=\"https://login.microsoftonline.com/{TENANT}/oauth2/authorize\", \
             error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlIjoiYzEifX19\""
        )
    );
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    assert_eq!(other.reason, Reason::ClaimsChallenge);
    assert_eq!(other.challenge, None);
}

#[tokio::test]
async fn takes_the_token_from_the_places_it_was_told() {
    let tenants = one_tenant();
    let config = json!({
        "tenant": "contoso", "audiences": [API], "header-name": ["Authorization2", "Authorization"], "query-parameter-name": "token",
    });
    let (policy, _, places) = build(&tenants, config);
    let policy = policy.unwrap();
    tenants.assume_keys(&jwks(&[key(0).jwk(None)]), &clock()).unwrap();
    let token = Mint::user().sign();
    let request = request(&[("authorization", "Bearer nonsense"), ("authorization2", &token)], None);

    let (_, place) = policy.admit(&request, &clock(), Caller::default()).await.unwrap();

    assert_eq!(*place, places[0]);
    let header = |name| TokenPlace::Header(http::HeaderName::from_static(name));
    assert_eq!(places, [header("authorization2"), header("authorization"), TokenPlace::Query("token".into())]);
}

#[tokio::test]
async fn a_token_seen_before_is_verified_once_but_judged_each_time() {
    let policy = policy(&json!({ "clock-skew": "0s" }));
    let token = Mint::user().sign();
    let request = request(&[("authorization", &format!("Bearer {token}"))], None);
    let clock = clock();

    let (first, _) = policy.admit(&request, &clock, Caller { worker: 3, ..Caller::default() }).await.unwrap();
    let (second, _) = policy.admit(&request, &clock, Caller { worker: 3, ..Caller::default() }).await.unwrap();
    let (elsewhere, _) = policy.admit(&request, &clock, Caller { worker: 4, ..Caller::default() }).await.unwrap();
    clock.advance(std::time::Duration::from_secs(3_600));
    let late = policy.admit(&request, &clock, Caller { worker: 3, ..Caller::default() }).await.unwrap_err();

    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &elsewhere));
    assert_eq!(late.reason, Reason::TokenExpired);
}

#[tokio::test]
async fn how_many_tokens_are_remembered_is_for_the_config_to_say() {
    for (memory, expected) in [(64 << 20, 3), (0, 0)] {
        let tenants = one_tenant();
        let (policy, ..) = build(&tenants, json!({ "tenant": "contoso", "audiences": [API] }));
        let policy = policy.unwrap();
        tenants.assume_keys(&jwks(&[key(0).jwk(None)]), &clock()).unwrap();
        tenants.keep_tokens(VerifiedTokens { memory, largest: 8 << 10 }, 1);
        let tokens = ["a", "b", "c"].map(|id| Mint::user().with("uti", id).sign());
        for token in &tokens {
            assert_eq!(code(&policy, token).await, "accepted");
        }
        let seen =
            || tokens.iter().filter(|token| policy.verifier.cached(token.as_bytes(), 0, Moment::of(&clock())).is_some()).count();

        assert_eq!(seen(), expected, "{memory}");
        // Less room counts at once, for what is kept as well.
        tenants.keep_tokens(VerifiedTokens { memory: 0, largest: 8 << 10 }, 1);
        assert_eq!(seen(), 0);
        assert_eq!(code(&policy, &tokens[2]).await, "accepted");
        assert_eq!(seen(), 0);
    }
}

#[tokio::test]
async fn a_token_seen_before_falls_with_its_key() {
    let tenants = one_tenant();
    let (policy, ..) = build(&tenants, json!({ "tenant": "contoso", "audiences": [API] }));
    let policy = policy.unwrap();
    let token = Mint::user().sign();
    tenants.assume_keys(&jwks(&[key(0).jwk(None), key(1).jwk(None)]), &clock()).unwrap();

    let before = code(&policy, &token).await;
    tenants.assume_keys(&jwks(&[key(1).jwk(None)]), &clock()).unwrap();
    let after = code(&policy, &token).await;

    assert_eq!((before, after), ("accepted", "token-key-unknown"));
}

#[test]
fn settings_that_cannot_be_meant_are_faults() {
    let tenants = tenants(&[
        ("contoso", json!({ "id": TENANT })),
        ("fabrikam", json!({ "id": "fabrikam.example" })),
        ("all", json!({ "id": "organizations" })),
    ]);
    for (settings, place, what) in [
        (json!({ "tenant": "nobody" }), "/tenant", "there is no tenant `nobody`"),
        (json!({ "audiences": [] }), "/audiences", "every caller would be refused"),
        (json!({ "audiences": [""] }), "/audiences/0", "no audience"),
        (json!({ "client-application-ids": ["orders"] }), "/client-application-ids/0", "not a GUID"),
        (json!({ "signing-keys-of": "orders" }), "/signing-keys-of", "not a GUID"),
        (json!({ "signing-keys": ["app"] }), "/signing-keys", "whose keys"),
        (json!({ "signing-keys": ["tenant"], "signing-keys-of": API }), "/signing-keys", "do not count"),
        (json!({ "clock-skew": "11m" }), "/clock-skew", "longer than 10m"),
        (json!({ "header-name": [] }), "/header-name", "no header is named"),
        (json!({ "header-name": "Host" }), "/header-name", "cannot hold a token"),
        (json!({ "header-name": "no header" }), "/header-name", "not a header name"),
        (json!({ "header-name": ["A", "a"] }), "/header-name", "twice"),
        (json!({ "query-parameter-name": "" }), "/query-parameter-name", "no name"),
        (json!({ "failed-validation-httpcode": 200 }), "/failed-validation-httpcode", "200"),
        (json!({ "failed-validation-httpcode": 503 }), "/failed-validation-httpcode", "503"),
        (json!({ "scopes": ["api://orders/read all"] }), "/scopes/0", "not a scope"),
        (json!({ "scopes": ["a"], "token-kind": "app" }), "/scopes", "applications have no scopes"),
        (json!({ "token-type": "id", "client-application-ids": [CLIENT] }), "/client-application-ids", "no client"),
        (json!({ "authentication-context": "c 1" }), "/authentication-context", "not an authentication context"),
        (json!({ "required-claims": [{ "name": "" }] }), "/required-claims/0/name", "no name"),
        (json!({ "required-claims": [{ "name": "scp", "values": [""] }] }), "/required-claims/0/values/0", "not a value"),
        (json!({ "required-claims": [{ "name": "scp", "separator": "" }] }), "/required-claims/0/separator", "empty separator"),
        (json!({ "tenant": "all" }), "/allowed-tenants", "not said whose"),
        (json!({ "tenant": "all", "allowed-tenants": ["any"] }), "/allowed-tenants/0", "allows all others"),
        (json!({ "tenant": "all", "allowed-tenants": ["fabrikam"] }), "/allowed-tenants/0", "one GUID"),
        (json!({ "tenant": "all", "allowed-tenants": ["nobody"] }), "/allowed-tenants/0", "neither a tenant"),
        (json!({ "tenant": "all", "allowed-tenants": [] }), "/allowed-tenants", "every caller would be refused"),
        (json!({ "tenant": "all", "allowed-tenants": { "file": "/nowhere/tenants.txt" } }), "/allowed-tenants", "cannot be read"),
        (json!({ "allowed-tenants": "any" }), "/allowed-tenants", "its own tenant alone"),
        (json!({ "allowed-tenants": [OTHER_TENANT] }), "/allowed-tenants", "issues no tokens for"),
    ] {
        let mut config = json!({ "tenant": "contoso", "audiences": [API] });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());

        let (policy, faults, _) = build(&tenants, config);

        assert!(policy.is_none(), "{settings}");
        let found: Vec<_> = faults.iter().map(|fault| (fault.place.pointer(), &*fault.message, fault.cure.is_some())).collect();
        assert!(found.iter().any(|(at, message, cure)| *at == place && message.contains(what) && *cure), "{settings}: {found:?}");
    }
}

#[test]
fn reads_tenants_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenants.txt");
    std::fs::write(&path, format!("# partners\n{}\n\n{OTHER_TENANT} # fabrikam\n", TENANT.to_uppercase())).unwrap();
    let tenants = tenants(&[("all", json!({ "id": "organizations" }))]);

    let (policy, faults, _) =
        build(&tenants, json!({ "tenant": "all", "audiences": [API], "allowed-tenants": [{ "file": path }, CLIENT] }));

    assert!(faults.is_empty(), "{faults:?}");
    let listed = judge::AllowedTenants::Listed([TENANT, CLIENT, OTHER_TENANT].map(Into::into).to_vec());
    assert_eq!(policy.unwrap().rules.tenants, listed);
    assert_eq!(tenants.files(), [path], "its change calls for a new build");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_mutation_of_a_token_is_accepted(position in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..3_u8) {
        let token = Mint::user().sign();
        let mut bytes = token.clone().into_bytes();
        let at = position.index(bytes.len());
        match kind {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => _ = bytes.remove(at),
        }
        prop_assume!(bytes != token.as_bytes());
        let policy = policy(&json!({}));
        let now = Moment::of(&clock());

        // Seen before or not: no other bytes are taken for it.
        prop_assert!(policy.verifier.verify(&bytes, 0, now).is_err());
        let verified = policy.verifier.verify(token.as_bytes(), 0, now).unwrap();
        policy.verifier.keep(token.as_bytes(), 0, now.unix, &verified);
        prop_assert!(policy.verifier.cached(&bytes, 0, now).is_none());
        prop_assert!(policy.verifier.verify(&bytes, 0, now).is_err());
    }

    #[test]
    fn no_time_outside_its_window_is_accepted(now in 0..2 * NOW, begins in 0..2 * NOW, lasts in 0..100_000_u64) {
        let token = Mint::user().with("nbf", begins).with("exp", begins + lasts).sign();
        let policy = policy(&json!({ "clock-skew": "1m" }));
        let verified = policy.verifier.verify(token.as_bytes(), 0, Moment { unix: now, monotonic: clock().monotonic() }).unwrap();

        let inside = now + 60 >= begins && now < begins + lasts + 60;

        prop_assert_eq!(policy.rules.judge(&verified, now, None).is_ok(), inside);
    }

    #[test]
    fn agrees_with_another_implementation(
        audience in prop::sample::select(vec![API, "api://other"]),
        issuer in prop::sample::select(vec!["https://login.microsoftonline.com/0f0f0f0f-1111-4222-8333-444455556666/v2.0", "https://sts.windows.net/x/"]),
        offset in -1_000_i64..1_000,
        signer in 0..2_usize,
    ) {
        let expires = NOW.saturating_add_signed(offset);
        let token = Mint::user().with("aud", audience).with("iss", issuer).with("nbf", NOW - 10_000).with("exp", expires);
        let token = token.signed_by(key(signer)).sign();
        let policy = policy(&json!({ "clock-skew": "0s" }));
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        validation.set_audience(&[API]);
        validation.set_issuer(&["https://login.microsoftonline.com/0f0f0f0f-1111-4222-8333-444455556666/v2.0"]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
        // That library knows no clock but the machine's: it judges all but the time, which is judged here.
        validation.validate_exp = false;
        let key = jsonwebtoken::DecodingKey::from_rsa_raw_components(key(0).modulus(), key(0).exponent());

        let now = Moment::of(&clock());
        let own = policy.verifier.verify(token.as_bytes(), 0, now).ok().is_some_and(|verified| policy.rules.judge(&verified, NOW, None).is_ok());
        let other = jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok() && expires > NOW;

        prop_assert_eq!(own, other);
    }
}

/// Tests the hints about keys, with the tenant's keys and an application's, fetched with and without `?appid=`.
#[tokio::test]
async fn operators_are_told_whose_keys_would_do() {
    let clock = clock();
    let entra = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
    entra.update_app(API, App::own_signing_key);
    let tenants = tenants(&[("contoso", json!({ "id": entra.tenant_id(), "authority": entra.base_url() }))]);
    let build = |more: Value| {
        let mut config = json!({ "tenant": "contoso", "audiences": [format!("api://{API}"), API] });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (policy, faults, _) = build(&tenants, config);
        assert!(faults.is_empty(), "{faults:?}");
        policy.unwrap()
    };
    let (plain, application) = (build(json!({})), build(json!({ "signing-keys-of": API })));
    let both = build(json!({ "signing-keys-of": API, "signing-keys": ["tenant", "app"] }));
    let http = IdentityHttp::new(&IdentityHttpConfig::default()).unwrap();
    tenants.start(&http, &clock, &tokio::runtime::Handle::current());
    tenants.tried().await;
    let of_application = entra.token().audience(API).app_key(API).sign();
    let of_tenant = entra.token().audience(API).key(entra.signing_key()).sign();
    let told = async |policy: &ValidateAzureAdToken, token: &str| {
        let request = request(&[("authorization", &format!("Bearer {token}"))], None);
        let verdict = policy.admit(&request, &clock, Caller::default()).await;
        verdict.map_or_else(
            |refusal| (refusal.reason.code(), refusal.into_parts().hint.unwrap_or_default().into_owned()),
            |_| ("accepted", String::new()),
        )
    };

    let (code, hint) = told(&plain, &of_application).await;
    assert!(code == "token-key-unknown" && hint.contains(&format!("set signing-keys-of to {API}")), "{code}: {hint}");
    let (code, hint) = told(&application, &of_tenant).await;
    assert!(code == "token-key-unknown" && hint.contains("remove signing-keys-of"), "{code}: {hint}");
    for (policy, token) in [(&plain, &of_tenant), (&application, &of_application), (&both, &of_tenant), (&both, &of_application)]
    {
        assert_eq!(told(policy, token).await.0, "accepted");
    }
}

#[tokio::test]
async fn a_bound_token_is_for_whoever_holds_its_certificate() {
    let (own, other) = ([7_u8; 32], [8_u8; 32]);
    let hash = URL_SAFE_NO_PAD.encode(own);
    let bound = |cnf: Value| Mint::user().with("cnf", cnf).sign();
    let (any, demanding) = (policy(&json!({})), policy(&json!({ "token-binding": "certificate" })));
    let plain = Mint::user().sign();
    let (good, padded) = (bound(json!({ "x5t#S256": hash })), bound(json!({ "x5t#S256": format!("{hash}=") })));

    for (row, token, certificate, expected, expected_where_demanded) in [
        ("not bound", &plain, None, true, false),
        ("not bound, with a certificate", &plain, Some(&own), true, false),
        ("bound", &good, Some(&own), true, true),
        ("bound to another", &good, Some(&other), false, false),
        ("bound, without a certificate", &good, None, false, false),
        ("padded", &padded, Some(&own), false, false),
        ("nothing", &bound(json!({})), Some(&own), false, false),
        ("null", &bound(json!(null)), Some(&own), false, false),
        ("a text", &bound(json!(hash)), Some(&own), false, false),
        ("a list", &bound(json!([{ "x5t#S256": hash }])), Some(&own), false, false),
        ("a number", &bound(json!({ "x5t#S256": 7 })), Some(&own), false, false),
        ("too short", &bound(json!({ "x5t#S256": URL_SAFE_NO_PAD.encode([7; 31]) })), Some(&own), false, false),
        ("hexadecimal", &bound(json!({ "x5t#S256": "07".repeat(32) })), Some(&own), false, false),
        ("SHA-1", &bound(json!({ "x5t": hash })), Some(&own), false, false),
        ("a key id", &bound(json!({ "kid": "a" })), Some(&own), false, false),
        ("a key", &bound(json!({ "jwk": {} })), Some(&own), false, false),
        ("a key besides", &bound(json!({ "x5t#S256": hash, "jkt": "a" })), Some(&own), false, false),
    ] {
        for (policy, expected) in [(&any, expected), (&demanding, expected_where_demanded)] {
            let request = request(&[("authorization", &format!("Bearer {token}"))], None);
            let found = policy.admit(&request, &clock(), Caller { worker: 0, certificate, evidence: None }).await;
            let found = found.map_or_else(|refusal| refusal.reason.code(), |_| "accepted");
            assert_eq!(found, if expected { "accepted" } else { "token-binding-missing" }, "{row}");
        }
    }
}

/// Returns the hint for the operator about a token, under these settings.
async fn hint(settings: &Value, token: &str) -> String {
    admit(&policy(settings), token).await.unwrap_err().into_parts().hint.unwrap_or_default().into_owned()
}

#[tokio::test]
async fn operators_are_told_what_to_change() {
    let user = Mint::user;
    let uri = json!({ "audiences": [format!("api://{API}")] });
    let graph = |mint: Mint| mint.with("aud", "00000003-0000-0000-c000-000000000000");
    for (row, settings, token, expected) in [
        ("Graph's, unverifiable", json!({}), graph(user()).header("nonce", "n").signed_by(key(1)).sign(), "Microsoft Graph"),
        ("Graph's, verifiable", json!({}), graph(user()).sign(), "Microsoft Graph"),
        ("client id against URI", uri, user().sign(), &*format!("add {API} to audiences")),
        (
            "URI against client id",
            json!({}),
            user().with("aud", format!("api://{API}")).sign(),
            &*format!("add api://{API} to audiences"),
        ),
        ("a slash", json!({ "audiences": ["api://orders"] }), user().with("aud", "api://orders/").sign(), "slash"),
        ("case", json!({ "audiences": ["api://orders"] }), user().with("aud", "api://Orders").sign(), "upper and lower case"),
        ("another API", json!({}), user().with("aud", "api://other").sign(), "another API"),
        ("another tenant", json!({}), of_tenant(OTHER_TENANT).sign(), "allowed-tenants"),
        (
            "another cloud",
            json!({}),
            user().with("iss", format!("https://login.microsoftonline.us/{TENANT}/v2.0")).sign(),
            "us-government",
        ),
        ("an ID token", json!({}), user().without("azp").without("scp").sign(), "access token"),
        (
            "an ID token of the client's",
            json!({}),
            user().without("azp").without("scp").with("aud", OTHER_TENANT).sign(),
            "Expose an API",
        ),
        ("an application's", json!({ "token-kind": "user" }), Mint::app().sign(), "sign a user in"),
        ("a user's", json!({ "token-kind": "app" }), user().sign(), "client credentials"),
        ("client", json!({ "client-application-ids": [OTHER_TENANT] }), user().sign(), "client-application-ids"),
        ("no grant", json!({}), Mint::app().without("roles").sign(), "app role"),
        ("an unknown key", json!({}), user().header("kid", "x").sign(), "signing-keys-of"),
        ("an unknown key, version 1", json!({}), user().version_1().header("kid", "x").sign(), "signing-keys-of"),
        ("a clock ahead", json!({}), user().with("exp", NOW - 400).with("nbf", NOW - 4_000).sign(), "clock"),
        ("a clock behind", json!({}), user().with("nbf", NOW + 400).sign(), "clock"),
        ("scope", json!({ "scopes": ["orders.delete"] }), user().sign(), "orders.delete"),
        ("scopes and no roles", json!({ "scopes": ["orders.read"] }), Mint::app().sign(), "in `roles`"),
        ("role", json!({ "roles": ["Orders.Admin"] }), Mint::app().sign(), "Orders.Admin"),
        ("secret", json!({ "client-credential": "certificate" }), user().sign(), "Certificates & secrets"),
        ("mapped claim", claim(&json!({ "name": "samaccount" })), user().sign(), "acceptMappedClaims"),
        ("groups", claim(&json!({ "name": "groups" })), user().with("hasgroups", true).sign(), "ApplicationGroup"),
    ] {
        let hint = hint(&settings, &token).await;

        assert!(hint.contains(expected), "{row}: {hint}");
        assert!(!hint.contains("Okafor") && !hint.contains(CLIENT), "{row}: {hint}");
    }
}

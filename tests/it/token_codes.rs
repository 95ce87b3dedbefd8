//! Tests of every refusal of a token, each with a token that has only this fault, through a whole gateway.

use std::collections::BTreeSet;

use entrada::{
    Reason,
    dev_tenant::{ClientAuthentication, DEFAULT_CLIENT, DevTenant, Options, TokenBuilder},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Upstream};

/// The documented reasons of the two token policies.
const CONTRACT: [Reason; 23] = [
    Reason::TokenAmbiguous,
    Reason::TokenMissing,
    Reason::TokenMalformed,
    Reason::TokenAlgorithmNotAllowed,
    Reason::TokenSignatureInvalid,
    Reason::TokenKeyUnknown,
    Reason::TokenExpired,
    Reason::TokenNotYetValid,
    Reason::TokenIssuerNotAllowed,
    Reason::TokenAudienceNotAllowed,
    Reason::TokenNotAccessToken,
    Reason::TokenBindingMissing,
    Reason::ClaimsChallenge,
    Reason::TokenTenantNotAllowed,
    Reason::TokenKindNotAllowed,
    Reason::ClientApplicationNotAllowed,
    Reason::ClientCredentialTooWeak,
    Reason::RequiredClaimMissing,
    Reason::ScopeMissing,
    Reason::RoleMissing,
    Reason::PermissionMissing,
    Reason::GroupOverage,
    Reason::SigningKeysUnavailable,
];
const OTHER_CLIENT: &str = "99998888-bbbb-3333-cccc-4444dddd5555";

/// A gateway whose routes have every requirement for tokens.
struct Stage {
    tenant: DevTenant,
    upstream: Upstream,
    gateway: Gateway,
}

impl Stage {
    async fn build() -> Self {
        let tenant = DevTenant::start(Options::default()).await.unwrap();
        let dead = DevTenant::start(Options::default()).await.unwrap();
        dead.stop();
        let upstream = Upstream::start().await;
        let (id, base) = (tenant.tenant_id(), tenant.base_url());
        let config = format!(
            "
tenants:
  contoso: {{ id: {id}, authority: \"{base}\" }}
  everybody: {{ id: organizations, authority: \"{base}\" }}
  unreachable: {{ id: {id}, authority: \"{}\", required: false }}
upstreams: {{ backend: {{ servers: [\"{}\"] }} }}
routes:
  - name: strict
    match: {{ path: /strict }}
    inbound:
      - validate-azure-ad-token:
          tenant: contoso
          audiences: [api://orders]
          token-kind: user
          client-application-ids: [{DEFAULT_CLIENT}]
          client-credential: certificate
          required-claims: [ {{ name: groups, values: [staff] }}, {{ name: department, values: [sales] }} ]
          scopes: [Orders.Read]
          authentication-context: c1
    upstream: backend
  - name: roles
    match: {{ path: /roles }}
    inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], roles: [Orders.Read.All] }} ]
    upstream: backend
  - name: plain
    match: {{ path: /plain }}
    inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders] }} ]
    upstream: backend
  - name: several
    match: {{ path: /several }}
    inbound: [ validate-azure-ad-token: {{ tenant: everybody, allowed-tenants: [{id}], audiences: [api://orders] }} ]
    upstream: backend
  - name: unreachable
    match: {{ path: /unreachable }}
    inbound: [ validate-azure-ad-token: {{ tenant: unreachable, audiences: [api://orders] }} ]
    upstream: backend
",
            dead.base_url(),
            upstream.url(),
        );
        Self { gateway: Gateway::start(&config).await, tenant, upstream }
    }

    /// Makes a user's token that the strict route admits.
    fn good(&self) -> TokenBuilder {
        self.tenant
            .token()
            .user("nia")
            .audience("api://orders")
            .scopes(["Orders.Read"])
            .client_credential(ClientAuthentication::Certificate)
            .claim("groups", json!(["staff"]))
            .claim("department", "sales")
            .claim("acrs", json!(["c1"]))
            .claim("xms_cc", json!(["cp1"]))
    }

    fn app(&self) -> TokenBuilder {
        self.tenant.token().app(DEFAULT_CLIENT).audience("api://orders").roles(["Orders.Read.All"])
    }

    async fn answer(&self, path: &str, token: TokenBuilder) -> Answer {
        self.gateway.get(path).bearer(token.sign()).send().await
    }
}

#[tokio::test]
async fn each_code_is_met_by_a_token_that_fails_that_check_alone() {
    let stage = Stage::build().await;
    let (good, app) = (|| stage.good(), || stage.app());
    // Nothing is wrong with what the rows begin with.
    for (path, token) in [
        ("/strict", good()),
        ("/strict", good().v1()),
        ("/roles", app()),
        ("/roles", app().v1()),
        ("/plain", good()),
        ("/plain", app()),
        ("/several", good()),
    ] {
        stage.answer(path, token).await.assert_allowed();
    }
    let allowed = stage.upstream.requests();

    let mut met = BTreeSet::new();
    let rows = [
        (Reason::TokenMalformed, "/strict", good().header("crit", json!(["exp"]))),
        (Reason::TokenMalformed, "/strict", good().claim("aud", json!(["api://orders"]))),
        (Reason::TokenAlgorithmNotAllowed, "/strict", good().algorithm("RS512")),
        (Reason::TokenAlgorithmNotAllowed, "/strict", good().algorithm("PS256")),
        (Reason::TokenSignatureInvalid, "/strict", good().wrong_key()),
        (Reason::TokenKeyUnknown, "/strict", good().unknown_key()),
        (Reason::TokenExpired, "/strict", good().issued_in(-4_000).expires_in(-301)),
        (Reason::TokenNotYetValid, "/strict", good().issued_in(302)),
        (Reason::TokenIssuerNotAllowed, "/strict", good().claim("iss", "https://login.microsoftonline.com/common/v2.0")),
        (Reason::TokenAudienceNotAllowed, "/strict", good().audience("api://orders/")),
        (Reason::TokenNotAccessToken, "/strict", good().claim("at_hash", "x")),
        (Reason::TokenNotAccessToken, "/plain", good().id_token()),
        (Reason::TokenBindingMissing, "/strict", good().claim("cnf", json!({ "x5t#S256": "AAAA" }))),
        (Reason::ClaimsChallenge, "/strict", good().claim("acrs", json!(["c2"]))),
        (Reason::TokenTenantNotAllowed, "/strict", good().without("tid")),
        (Reason::TokenTenantNotAllowed, "/several", good().tenant("fabrikam")),
        (Reason::TokenKindNotAllowed, "/strict", good().without("scp").claim("idtyp", "app")),
        (Reason::ClientApplicationNotAllowed, "/strict", good().client(OTHER_CLIENT)),
        (Reason::ClientCredentialTooWeak, "/strict", good().client_credential(ClientAuthentication::Secret)),
        (Reason::RequiredClaimMissing, "/strict", good().without("department")),
        (Reason::ScopeMissing, "/strict", good().scopes(["Orders.Write"])),
        (Reason::RoleMissing, "/roles", app().roles(["Orders.Write.All"])),
        (Reason::PermissionMissing, "/plain", app().roles([] as [&str; 0])),
        (Reason::GroupOverage, "/strict", good().without("groups").claim("_claim_names", json!({ "groups": "src1" }))),
        (Reason::SigningKeysUnavailable, "/unreachable", good()),
    ];
    for (reason, path, token) in rows {
        let answer = stage.answer(path, token).await;
        answer.assert_refused(reason);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        match (answer.status, reason) {
            (StatusCode::UNAUTHORIZED, Reason::ClaimsChallenge) => {
                assert!(challenge.contains("error=\"insufficient_claims\""), "{challenge}")
            }
            (StatusCode::UNAUTHORIZED, _) => {
                assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{reason}: {challenge}")
            }
            (_, Reason::ScopeMissing) => assert!(challenge.contains("scope=\"api://orders/Orders.Read\""), "{challenge}"),
            _ => {}
        }
        assert_eq!(answer.headers.contains_key("retry-after"), reason == Reason::SigningKeysUnavailable, "{reason}");
        met.insert(reason);
    }
    let token = good().sign();
    let twice = stage
        .gateway
        .get("/strict")
        .header("Authorization", format!("Bearer {token}"))
        .header("Authorization", format!("Bearer {token}"));
    twice.send().await.assert_refused(Reason::TokenAmbiguous);
    stage.gateway.get("/strict").send().await.assert_refused(Reason::TokenMissing);
    met.extend([Reason::TokenAmbiguous, Reason::TokenMissing]);

    assert_eq!(met, BTreeSet::from(CONTRACT));
    assert_eq!(stage.upstream.requests(), allowed, "what was refused went no further");
}

#[tokio::test]
async fn keys_of_personal_accounts_vouch_for_them_alone() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::start().await;
    let config = format!(
        "
tenants: {{ everybody: {{ id: common, authority: \"{}\" }} }}
upstreams: {{ backend: {{ servers: [\"{}\"] }} }}
routes:
  - name: any
    match: {{ path: /any }}
    inbound: [ validate-azure-ad-token: {{ tenant: everybody, allowed-tenants: any, audiences: [api://orders] }} ]
    upstream: backend
  - name: named
    match: {{ path: /named }}
    inbound: [ validate-azure-ad-token: {{ tenant: everybody, allowed-tenants: [9188040d-6c67-4c5b-b112-36a304b66dad], audiences: [api://orders] }} ]
    upstream: backend
",
        tenant.base_url(),
        upstream.url(),
    );
    let gateway = Gateway::start(&config).await;
    let personal = entrada::dev_tenant::PERSONAL_TENANT;
    let token = || tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let send = async |path: &str, token: TokenBuilder| gateway.get(path).bearer(token.sign()).send().await;

    send("/any", token()).await.assert_allowed();
    send("/any", token().tenant("fabrikam")).await.assert_allowed();
    send("/named", token().tenant(personal).personal_key()).await.assert_allowed();
    send("/any", token().personal_key()).await.assert_refused(Reason::TokenIssuerNotAllowed);
    send("/any", token().v1().personal_key()).await.assert_refused(Reason::TokenIssuerNotAllowed);
    send("/any", token().tenant(personal).personal_key()).await.assert_refused(Reason::TokenTenantNotAllowed);
    send("/named", token().personal_key()).await.assert_refused(Reason::TokenIssuerNotAllowed);
    send("/named", token()).await.assert_refused(Reason::TokenTenantNotAllowed);
}

#[tokio::test]
async fn nothing_is_told_of_a_token_whose_signature_does_not_hold() {
    let stage = Stage::build().await;
    let forged = || stage.good().wrong_key();
    let variants = [
        forged(),
        forged().expired(),
        forged().not_yet_valid(),
        forged().audience("api://payroll"),
        forged().claim("iss", "https://evil.example"),
        forged().tenant("fabrikam"),
        forged().client(OTHER_CLIENT),
        forged().scopes(["Other"]),
        forged().id_token(),
        forged().claim("exp", "no number"),
        forged().payload_text("no JSON at all"),
        forged().payload_text("{\"tid\":1,\"tid\":2}"),
    ];
    let mut told = BTreeSet::new();
    for token in variants {
        let answer = stage.answer("/strict", token).await;

        answer.assert_refused(Reason::TokenSignatureInvalid);
        let mut problem = answer.json();
        let id = problem.as_object_mut().unwrap().remove("request_id").unwrap();
        told.insert((problem.to_string(), answer.header("www-authenticate").unwrap().to_owned()));
        let record = stage.gateway.record(|record| record["request_id"] == id).await;
        for member in ["tenant_id", "client_application", "subject", "object_id", "token_id", "credential_kind", "partner"] {
            assert_eq!(record[member], Value::Null, "{member}: {record}");
        }
    }

    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn no_time_outside_of_its_window_lets_a_token_in() {
    let stage = Stage::build().await;
    for (row, token, expected) in [
        ("over, within the skew", stage.good().issued_in(-4_000).expires_in(-290), None),
        ("over, beyond the skew", stage.good().issued_in(-4_000).expires_in(-300), Some(Reason::TokenExpired)),
        ("long over", stage.good().issued_in(-100_000).expires_in(-90_000), Some(Reason::TokenExpired)),
        ("begins, within the skew", stage.good().issued_in(290), None),
        ("begins, beyond the skew", stage.good().issued_in(310), Some(Reason::TokenNotYetValid)),
        ("begins next year", stage.good().issued_in(31_000_000).expires_in(32_000_000), Some(Reason::TokenNotYetValid)),
        ("issued in the future, begins now", stage.good().claim("iat", 4_000_000_000_u64), None),
        ("of no beginning", stage.good().without("nbf"), None),
        ("for a hundred years", stage.good().expires_in(3_155_760_000), None),
        ("of no end", stage.good().without("exp"), Some(Reason::TokenMalformed)),
        ("of an end that is not a number", stage.good().claim("exp", "4000000000"), Some(Reason::TokenMalformed)),
    ] {
        let answer = stage.answer("/strict", token).await;

        match expected {
            None => assert_eq!(answer.status, StatusCode::OK, "{row}"),
            Some(reason) => assert_eq!(answer.json()["code"], reason.code(), "{row}"),
        }
    }
}

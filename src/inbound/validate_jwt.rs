//! Admits callers with a token of another issuer: an OpenID Connect provider, or the holder of a given key.
//!
//! The checks and their order are those of [`validate_azure_ad_token`](super::validate_azure_ad_token), without those specific to
//! Entra: tenants, versions, and the client's authentication.

use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::PolicySettings;
use super::{
    build_context::BuildContext,
    mode::ModeConfig,
    validate_azure_ad_token::{
        RequiredClaimConfig, TokenBindingConfig, TokenKindConfig, ValidateAzureAdToken, outside_of_routes,
    },
};
use crate::{
    base::clock::Clock,
    entra::{Algorithm, Tenants},
    exchange::Exchange,
    refusal::{Refusal, Stop},
    request::IncomingRequest,
    settings::{ConfigDuration, Faults, OneOrMany, Place},
    upstream::UpstreamRequest,
};

/// Settings of `validate-jwt`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ValidateJwtConfig {
    /// The name of the issuer, as in `issuers`.
    pub issuer: String,
    /// The accepted audiences, compared exactly; at least one. A token may name several, one of which must be accepted.
    pub audiences: Vec<String>,
    /// The accepted algorithms: RS256 to RS512, PS256 to PS512, ES256 to ES512 and EdDSA. Default: RS256, PS256, ES256, EdDSA.
    #[serde(default)]
    pub algorithms: Vec<String>,
    /// The accepted client applications: `client_id`, or `azp`. Default: any.
    #[serde(default)]
    pub client_application_ids: Vec<String>,
    /// Claims that the token must have.
    #[serde(default)]
    pub required_claims: Vec<RequiredClaimConfig>,
    /// Scopes of which the token must have one; with `roles` too, users need a scope and applications a role.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Roles of which the token must have one; with `scopes` too, users need a scope and applications a role.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The accepted kind of tokens. An application's own token names the application as its subject. Default: any.
    #[serde(default)]
    pub token_kind: TokenKindConfig,
    /// Whether the token must be bound to the certificate that the caller shows (`cnf` with `x5t#S256`, RFC 8705); a bound token
    /// always needs it. Default: any.
    #[serde(default)]
    pub token_binding: TokenBindingConfig,
    /// The header, or headers in order of preference, that hold the token. Default: Authorization.
    pub header_name: Option<OneOrMany<String>>,
    /// The query parameter that holds the token; tried last, removed before forwarding.
    pub query_parameter_name: Option<String>,
    /// The name by which expressions read the token: `name.claims.…`. A second token policy on a route needs one; the token of
    /// the first is `token`, with or without a name.
    #[serde(rename = "as")]
    pub named: Option<String>,
    /// The accepted clock skew. At most 10m. Default: 5m.
    pub clock_skew: Option<ConfigDuration>,
    /// The status of refusals instead of 401 and 403.
    pub failed_validation_httpcode: Option<u16>,
    /// The sentence of refusals.
    pub failed_validation_error_message: Option<String>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Admits callers with a token of another issuer.
#[derive(Debug)]
pub struct ValidateJwt(ValidateAzureAdToken);

const DEFAULT_ALGORITHMS: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];

impl PolicySettings for ValidateJwtConfig {
    fn authenticates(&self) -> bool {
        true
    }

    fn requires_token(&self) -> bool {
        true
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl ValidateJwt {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.check(exchange, incoming, outgoing).await?)
    }

    pub(crate) fn build(config: &ValidateJwtConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let algorithms = algorithms(config, place, context);
        Some(Self(ValidateAzureAdToken::of_issuer(config, algorithms, place, context)?))
    }

    /// Builds a policy outside of any route, for judging single tokens.
    pub(crate) fn alone(config: &ValidateJwtConfig, tenants: &Tenants, faults: &mut Faults) -> Option<Self> {
        outside_of_routes(tenants, faults, |context| Self::build(config, &Place::root(), context))
    }

    /// Judges a token outside of any request, by each check on its own.
    pub(crate) async fn judge_each(&self, token: &[u8], clock: &Clock) -> Vec<(&'static str, Option<Refusal>)> {
        self.0.judge_each(token, clock).await
    }

    /// Judges the token of a request; notes it on the exchange if it is accepted.
    pub(crate) async fn check(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        self.0.check(exchange, incoming, outgoing).await
    }
}

fn algorithms(config: &ValidateJwtConfig, place: &Place, context: &mut BuildContext<'_>) -> Vec<Algorithm> {
    let mut algorithms = Vec::new();
    for (index, name) in config.algorithms.iter().enumerate() {
        match Algorithm::named(name) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let known: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
                let at = place.key("algorithms").index(index);
                context.faults.error(&at, format!("`{name}` is not accepted"), format!("write one of {}", known.join(", ")));
            }
        }
    }
    if config.algorithms.is_empty() { DEFAULT_ALGORITHMS.to_vec() } else { algorithms }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        entra::testing::{NOW, clock, jwks, key},
        identity_http::{
            IdentityHttp, IdentityHttpConfig,
            testing::{Origin, Reply},
        },
        limits::Limits,
        request::ReservedNames,
        settings::Secrets,
    };

    const ISSUER: &str = "https://build.example";

    fn policy(tenants: &Tenants, more: &Value) -> (Option<ValidateJwt>, Faults) {
        let mut config = json!({ "issuer": "idp", "audiences": ["orders"] });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (mut faults, limits) = (Faults::default(), Limits::default());
        let mut context = BuildContext {
            faults: &mut faults,
            sets: &Default::default(),
            tenants,
            captures: None,
            anonymous: false,
            reserved: &mut ReservedNames::default(),
            limits: (&limits).into(),
            secrets: &Secrets::default(),
            certificates: Default::default(),
            partners: None,
            token_places: &mut Vec::new(),
            graph: None,
            tokens_before: &mut Default::default(),
            on_error: Default::default(),
            credential_names: &Default::default(),
            upstreams: None,
            key_places: &mut Vec::new(),
        };
        let policy = ValidateJwt::build(&serde_json::from_value(config).unwrap(), &Place::root(), &mut context);
        (policy, faults)
    }

    fn issuers(config: &Value) -> (Tenants, Faults) {
        let mut faults = Faults::default();
        let configs = [("idp".to_owned(), serde_json::from_value(config.clone()).unwrap())].into();
        let tenants = Tenants::build(&BTreeMap::new(), None, &Place::root(), &mut faults);
        let place = Place::root().key("issuers");
        (tenants.with_issuers(&configs, &place, &mut faults), faults)
    }

    fn claims() -> Value {
        json!({ "iss": ISSUER, "aud": "orders", "sub": "nia", "client_id": "portal", "scope": "read write", "exp": NOW + 600 })
    }

    fn with(name: &str, value: impl Into<Value>) -> Value {
        let mut claims = claims();
        claims[name] = value.into();
        claims
    }

    fn unsigned(header: &Value, claims: &Value) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn rsa(algorithm: &str, claims: &Value) -> String {
        let input = unsigned(&json!({ "alg": algorithm, "kid": key(0).kid(), "typ": "at+jwt" }), claims);
        let signature = key(0).sign(algorithm, input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn code(policy: &ValidateJwt, token: &str) -> &'static str {
        let verdict = policy.0.judge_text(token.as_bytes(), &clock()).await;
        verdict.map_or_else(|refusal| refusal.reason.code(), |()| "accepted")
    }

    #[tokio::test]
    async fn judges_tokens_by_given_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, jwks(&[key(0).jwk(None)])).unwrap();
        let (tenants, faults) = issuers(&json!({ "issuer": ISSUER, "keys": { "jwks": path } }));
        assert!(faults.is_empty(), "{faults:?}");
        for (row, settings, token, expected) in [
            ("RS256", json!({}), rsa("RS256", &claims()), "accepted"),
            ("PS256", json!({}), rsa("PS256", &claims()), "accepted"),
            ("RS512, not listed", json!({}), rsa("RS512", &claims()), "token-algorithm-not-allowed"),
            ("RS512, listed", json!({ "algorithms": ["RS512"] }), rsa("RS512", &claims()), "accepted"),
            ("RS256, not listed", json!({ "algorithms": ["RS512"] }), rsa("RS256", &claims()), "token-algorithm-not-allowed"),
            ("one of several audiences", json!({}), rsa("RS256", &with("aud", json!(["x", "orders"]))), "accepted"),
            ("none of several audiences", json!({}), rsa("RS256", &with("aud", json!(["x"]))), "token-audience-not-allowed"),
            ("an audience that is not a text", json!({}), rsa("RS256", &with("aud", json!([1]))), "token-malformed"),
            ("another issuer", json!({}), rsa("RS256", &with("iss", "https://build.example/")), "token-issuer-not-allowed"),
            ("expired", json!({}), rsa("RS256", &with("exp", NOW - 301)), "token-expired"),
            ("an expiry with a fraction", json!({}), rsa("RS256", &with("exp", NOW as f64 + 0.5)), "accepted"),
            ("an expiry with a fraction, over", json!({}), rsa("RS256", &with("exp", NOW as f64 - 300.5)), "token-expired"),
            ("a start with a fraction", json!({}), rsa("RS256", &with("nbf", NOW as f64 - 0.5)), "accepted"),
            (
                "a start with a fraction, too late",
                json!({}),
                rsa("RS256", &with("nbf", NOW as f64 + 300.5)),
                "token-not-yet-valid",
            ),
            ("bound", json!({}), rsa("RS256", &with("cnf", json!({ "jkt": "x" }))), "token-binding-missing"),
            ("an ID token", json!({}), rsa("RS256", &with("at_hash", "x")), "token-not-access-token"),
            ("a scope", json!({ "scopes": ["write"] }), rsa("RS256", &claims()), "accepted"),
            ("no such scope", json!({ "scopes": ["admin"] }), rsa("RS256", &claims()), "scope-missing"),
            (
                "an application without such a scope",
                json!({ "scopes": ["admin"] }),
                rsa("RS256", &with("sub", "portal")),
                "scope-missing",
            ),
            ("an application with a scope", json!({ "scopes": ["write"] }), rsa("RS256", &with("sub", "portal")), "accepted"),
            ("scopes in a list", json!({ "scopes": ["admin"] }), rsa("RS256", &with("scope", json!(["admin"]))), "accepted"),
            ("a client", json!({ "client-application-ids": ["portal"] }), rsa("RS256", &claims()), "accepted"),
            (
                "another client",
                json!({ "client-application-ids": ["Portal"] }),
                rsa("RS256", &claims()),
                "client-application-not-allowed",
            ),
            ("a user", json!({ "token-kind": "app" }), rsa("RS256", &claims()), "token-kind-not-allowed"),
            ("an application", json!({ "token-kind": "app" }), rsa("RS256", &with("sub", "portal")), "accepted"),
            ("none", json!({}), format!("{}.", unsigned(&json!({ "alg": "none" }), &claims())), "token-algorithm-not-allowed"),
        ] {
            let (policy, faults) = policy(&tenants, &settings);
            assert!(faults.is_empty(), "{row}: {faults:?}");

            assert_eq!(code(&policy.unwrap(), &token).await, expected, "{row}");
        }
    }

    #[tokio::test]
    async fn judges_tokens_by_a_key_in_pem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let pair = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&path, pair.public_key_pem()).unwrap();
        let (tenants, faults) = issuers(&json!({ "issuer": ISSUER, "keys": { "pem": path } }));
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(tenants.files(), [path], "its change calls for a new build");
        let (policy, _) = policy(&tenants, &json!({}));
        let policy = policy.unwrap();
        let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der()).unwrap();
        let sign = |header: &Value| {
            let input = unsigned(header, &claims());
            let signature = signer.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
        };

        assert_eq!(code(&policy, &sign(&json!({ "alg": "ES256" }))).await, "accepted");
        assert_eq!(code(&policy, &sign(&json!({ "alg": "ES256", "kid": "any" }))).await, "accepted");
        assert_eq!(code(&policy, &sign(&json!({ "alg": "RS256" }))).await, "token-algorithm-not-allowed");
        assert_eq!(code(&policy, &rsa("RS256", &claims())).await, "token-algorithm-not-allowed");
    }

    #[tokio::test]
    async fn discovers_an_issuer_and_follows_its_keys() {
        let rolled = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let origin = {
            let rolled = rolled.clone();
            Origin::start(move |request| {
                let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
                if request.starts_with("GET /idp/.well-known/openid-configuration ") {
                    let base = format!("http://{host}/idp");
                    return Reply::json(json!({ "issuer": base, "jwks_uri": format!("{base}/jwks") }).to_string());
                }
                let index = usize::from(rolled.load(std::sync::atomic::Ordering::Relaxed));
                let mut jwk = key(index).jwk(None);
                jwk["kid"] = format!("k{index}").into();
                Reply::json(String::from_utf8(jwks(&[jwk])).unwrap())
            })
            .await
        };
        let issuer = format!("http://{}/idp", origin.address);
        let (tenants, faults) = issuers(&json!({ "openid-config": format!("{issuer}/.well-known/openid-configuration") }));
        assert!(faults.is_empty(), "{faults:?}");
        let (policy, _) = policy(&tenants, &json!({}));
        let policy = policy.unwrap();
        let token = |index: usize| {
            let input = unsigned(&json!({ "alg": "RS256", "kid": format!("k{index}") }), &with("iss", issuer.as_str()));
            let signature = key(index).sign("RS256", input.as_bytes()).unwrap();
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
        };
        let there = |tenants: &Tenants| tenants.without_keys(&clock()).is_empty();

        let before = there(&tenants);
        let http = IdentityHttp::new(&IdentityHttpConfig::default()).unwrap();
        tenants.start(&http, &clock(), &tokio::runtime::Handle::current());
        tenants.tried().await;
        let first = code(&policy, &token(0)).await;
        rolled.store(true, std::sync::atomic::Ordering::Relaxed);
        let second = code(&policy, &token(1)).await;
        let old = code(&policy, &token(0)).await;

        assert_eq!((first, second, old), ("accepted", "accepted", "token-key-unknown"));
        assert_eq!((before, there(&tenants)), (false, true));
    }

    #[test]
    fn settings_that_cannot_be_meant_are_faults() {
        for (config, place) in [
            (json!({}), "/issuers/idp"),
            (json!({ "issuer": ISSUER }), "/issuers/idp"),
            (json!({ "keys": { "jwks": "k.json" } }), "/issuers/idp"),
            (json!({ "openid-config": "http://idp.example/.well-known/openid-configuration" }), "/issuers/idp/openid-config"),
            (json!({ "openid-config": "https://idp.example/discovery" }), "/issuers/idp/openid-config"),
            (json!({ "issuer": ISSUER, "keys": { "jwks": "/nowhere/keys.json" } }), "/issuers/idp/keys/jwks"),
            (
                json!({ "openid-config": "https://idp.example/.well-known/openid-configuration", "keys": { "pem": "x" } }),
                "/issuers/idp",
            ),
            (
                json!({ "openid-config": "https://idp.example/.well-known/openid-configuration", "jwks-hosts": ["https://x"] }),
                "/issuers/idp/jwks-hosts/0",
            ),
        ] {
            let (tenants, faults) = issuers(&config);

            let found: Vec<_> = faults.iter().map(|fault| (fault.place.pointer(), fault.cure.is_some())).collect();
            assert_eq!(found, [(place, true)], "{config}");
            // The policy that names it adds nothing to what was said already.
            let (_, faults) = policy(&tenants, &json!({}));
            assert!(faults.is_empty(), "{config}: {faults:?}");
        }
        let (tenants, _) = issuers(&json!({ "openid-config": "https://idp.example/.well-known/openid-configuration" }));
        for (settings, place) in [
            (json!({ "issuer": "nobody" }), "/issuer"),
            (json!({ "algorithms": ["HS256"] }), "/algorithms/0"),
            (json!({ "audiences": [] }), "/audiences"),
        ] {
            let (_, faults) = policy(&tenants, &settings);

            assert!(faults.iter().any(|fault| fault.place.pointer() == place && fault.cure.is_some()), "{settings}: {faults:?}");
        }
    }
}

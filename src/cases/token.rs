//! The tokens of cases: composed from those that they are like, and minted once each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    config::test_case::{TestClientCredential, TestOffset, TestTokenConfig, TestTokenKind},
    offline::{MintFault, OfflineGateway, TokenSpec, TokenSpecCredential, TokenSpecKind},
};

/// Longer ago than the clock skew that is accepted by default, in seconds.
const EXPIRED: i64 = -360;
/// A client that no config has.
const ANOTHER_CLIENT: &str = "99999999-9999-4999-8999-999999999999";

/// The maximum length of a chain of tokens that are like each other.
const DEEPEST: usize = 16;

/// A token that a case sends.
#[derive(Clone, Debug)]
pub(crate) struct WantedToken {
    pub(super) config: Arc<TestTokenConfig>,
    /// Equal for equal tokens.
    key: Arc<str>,
}

impl WantedToken {
    /// Makes the token of this description that is minted at this time, in seconds since 1970.
    pub(super) fn new(config: TestTokenConfig, now: u64) -> Self {
        let key = format!("{now} {config:?}").into();
        Self { config: Arc::new(config), key }
    }
}

impl WantedToken {
    /// Returns tokens that differ from this one in one fact, each with its difference in words.
    pub(super) fn variations(&self, now: u64) -> Vec<(Self, &'static str)> {
        let with = |change: &dyn Fn(&mut TestTokenConfig)| {
            let mut config = (*self.config).clone();
            change(&mut config);
            Self::new(config, now)
        };
        vec![
            (with(&|token| token.expires = Some(TestOffset(EXPIRED))), "that expired six minutes ago"),
            (with(&|token| (token.scopes, token.roles) = (None, None)), "without scopes and roles"),
            (with(&|token| token.audience = Some("api://another".to_owned())), "for another audience"),
            (with(&|token| token.client = Some(ANOTHER_CLIENT.to_owned())), "of another client"),
        ]
    }
}

/// Composes a token from those that it is like.
///
/// # Errors
/// Returns the name of a token that does not exist, or that is like itself.
pub(super) fn resolve(
    written: &TestTokenConfig,
    tokens: Option<&BTreeMap<String, TestTokenConfig>>,
) -> Result<TestTokenConfig, String> {
    let mut token = written.clone();
    for _ in 0..DEEPEST {
        let Some(name) = token.like.take() else { return Ok(token) };
        let Some(base) = tokens.and_then(|tokens| tokens.get(&name)) else { return Err(name) };
        token = over(base.clone(), token);
    }
    Err(token.like.unwrap_or_default())
}

/// Returns the one token, with what the other one says instead.
fn over(base: TestTokenConfig, own: TestTokenConfig) -> TestTokenConfig {
    let mut claims = base.claims;
    let mut without: Vec<String> = base.without.into_iter().filter(|name| !own.claims.contains_key(name)).collect();
    claims.retain(|name, _| !own.without.contains(name));
    claims.extend(own.claims);
    without.extend(own.without);
    // What only a user's token has does not become an application's.
    let (user, scopes) = if own.kind == Some(TestTokenKind::App) { (None, None) } else { (base.user, base.scopes) };
    // A token of another issuer is none of the tenant, and the reverse.
    let (tenant, issuer) = match (own.tenant, own.issuer) {
        (None, None) => (base.tenant, base.issuer),
        own => own,
    };
    TestTokenConfig {
        like: base.like,
        kind: own.kind.or(base.kind),
        tenant,
        issuer,
        user: own.user.or(user),
        client: own.client.or(base.client),
        client_credential: own.client_credential.or(base.client_credential),
        audience: own.audience.or(base.audience),
        scopes: own.scopes.or(scopes),
        roles: own.roles.or(base.roles),
        version: own.version.or(base.version),
        claims,
        without,
        expires: own.expires.or(base.expires),
        issued: own.issued.or(base.issued),
        id_token: own.id_token.or(base.id_token),
        signed_by: own.signed_by.or(base.signed_by),
        algorithm: own.algorithm.or(base.algorithm),
        text: own.text.or(base.text),
    }
}

/// The tokens that were minted so far.
#[derive(Debug, Default)]
pub(super) struct Mint(HashMap<Arc<str>, Arc<str>>);

impl Mint {
    /// Returns the token, minted on first use. The gateway's clock has to stand at the token's time.
    ///
    /// # Errors
    /// Fails if the config does not have the issuer.
    pub(super) fn token(&mut self, wanted: &WantedToken, gateway: &OfflineGateway) -> Result<Arc<str>, MintFault> {
        if let Some(token) = self.0.get(&wanted.key) {
            return Ok(token.clone());
        }
        let token: Arc<str> = match &wanted.config.text {
            Some(text) => text.as_str().into(),
            None => spec(&wanted.config).mint(gateway)?.into(),
        };
        self.0.insert(wanted.key.clone(), token.clone());
        Ok(token)
    }
}

/// Describes the token for its mint.
fn spec(config: &TestTokenConfig) -> TokenSpec {
    let seconds = |offset: i64| format!("{offset}s");
    let mut spec = TokenSpec {
        kind: Some(match config.kind {
            Some(TestTokenKind::App) => TokenSpecKind::App,
            Some(TestTokenKind::User) | None => TokenSpecKind::User,
        }),
        tenant: config.tenant.clone(),
        issuer: config.issuer.clone(),
        user: config.user.clone(),
        client: config.client.clone(),
        audience: config.audience.clone(),
        scopes: config.scopes.clone(),
        roles: config.roles.clone().unwrap_or_default(),
        version: config.version,
        client_credential: config.client_credential.map(|credential| match credential {
            TestClientCredential::None => TokenSpecCredential::None,
            TestClientCredential::Secret => TokenSpecCredential::Secret,
            TestClientCredential::Certificate => TokenSpecCredential::Certificate,
        }),
        issued: config.issued.map(|offset| seconds(offset.0)),
        expires: config.expires.map(|offset| seconds(offset.0)),
        ..TokenSpec::default()
    };
    if config.id_token == Some(true) {
        // What an access token has and an ID token has not.
        for claim in ["azp", "azpacr", "appid", "appidacr", "scp", "idtyp"] {
            spec.claims.insert(claim.to_owned(), Value::Null);
        }
        spec.claims.insert("nonce".to_owned(), json!("12345"));
    }
    spec.claims.extend(config.claims.iter().map(|(name, value)| (name.clone(), value.clone())));
    spec.claims.extend(config.without.iter().map(|name| (name.clone(), Value::Null)));
    if let Some(algorithm) = &config.algorithm {
        spec.header.insert("alg".to_owned(), json!(algorithm));
    }
    spec.signed_by = config.signed_by;
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::test_case::TestSigner, settings::testing::part};

    #[test]
    fn a_token_is_like_another_except_for_its_own_keys() {
        let tokens: BTreeMap<String, TestTokenConfig> = part(
            "nia: { user: nia, tenant: contoso, scopes: [A], claims: { a: 1, b: 2 }, without: [c] }\n\
             late: { like: nia, expires: -10m, claims: { b: 3, c: 4 } }\n\
             other: { like: late, issuer: idp, without: [a] }\n\
             loop: { like: pool }\n\
             pool: { like: loop }",
        );
        let of = |name: &str| resolve(&tokens[name], Some(&tokens));

        let other = of("other").expect("it is like others");
        assert_eq!(other.user.as_deref(), Some("nia"));
        assert_eq!((other.tenant, other.issuer.as_deref()), (None, Some("idp")));
        assert_eq!(Value::Object(other.claims), json!({ "b": 3, "c": 4 }));
        assert_eq!(other.without, ["a"]);
        assert_eq!(other.expires.map(|offset| offset.0), Some(-600));
        assert!(of("loop").is_err());
        assert_eq!(resolve(&part("like: nobody"), Some(&tokens)).expect_err("there is none"), "nobody");
    }

    #[test]
    fn defects_are_those_of_the_description() {
        let spec = spec(&part("{ kind: app, signed-by: unknown-key, algorithm: none, without: [tid], id-token: true }"));

        assert!(spec.signed_by == Some(TestSigner::UnknownKey) && spec.header["alg"] == json!("none"));
        assert!(spec.claims["tid"].is_null() && spec.claims["azp"].is_null() && spec.claims["nonce"] == json!("12345"));
    }
}

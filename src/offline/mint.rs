//! Described tokens: what `--mint` takes, and the `token` of a test.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{OfflineGateway, keys::development_key};
use crate::{
    config::test_case::TestSigner,
    dev_tenant::SigningKey,
    entra::{TenantId, UNKNOWN_TENANT, is_guid},
    settings::{ConfigDuration, deserialize, yaml},
};

/// The tenant of tokens for issuers of several tenants that name none.
const SOME_TENANT: &str = "10000000-0000-4000-8000-000000000001";
/// The client of users' tokens that name none.
const SOME_CLIENT: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
/// The lifetime of tokens, in seconds.
const LIFETIME: i64 = 3_600;

/// A token to be signed for a run without a network. Without further settings it is a user's access token of version 2, valid for an
/// hour.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TokenSpec {
    /// The kind of caller that the token is for. Default: user; app where `client` stands without `user` and `scopes`.
    pub kind: Option<TokenSpecKind>,
    /// The tenant: a name of `tenants`, or a GUID. Default: the only one of the config.
    pub tenant: Option<String>,
    /// The name of an entry of `issuers`, instead of a tenant.
    pub issuer: Option<String>,
    /// The user's name. Default: nia.
    pub user: Option<String>,
    /// The client application's id.
    pub client: Option<String>,
    /// The audience.
    pub audience: Option<String>,
    /// The granted scopes, of a user's token.
    pub scopes: Option<Vec<String>>,
    /// The granted roles.
    pub roles: Vec<String>,
    /// The version: 1 or 2. Default: 2.
    pub version: Option<u8>,
    /// How the client has authenticated to Entra. Default: certificate for an application's token, none for a user's.
    pub client_credential: Option<TokenSpecCredential>,
    /// The time of issue, from now: `-1h`. Default: now.
    pub issued: Option<String>,
    /// The expiry, from now: `30m`, or `-10m` for an expired token. Default: an hour after its issue.
    pub expires: Option<String>,
    /// Further claims; `null` removes one.
    pub claims: BTreeMap<String, Value>,
    /// Further members of the header; `null` removes one.
    pub header: BTreeMap<String, Value>,
    /// Signs with a key that is not the issuer's, under the issuer's key id.
    pub wrong_key: bool,
    /// The signer, in the words of test cases. Default: the issuer.
    pub signed_by: Option<TestSigner>,
}

/// The kind of caller that a token is for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TokenSpecKind {
    /// A user's.
    User,
    /// An application's own.
    App,
}

/// How a client has authenticated.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TokenSpecCredential {
    /// Not at all: a public client.
    None,
    /// With a secret.
    Secret,
    /// With a certificate, or a federated credential.
    Certificate,
}

/// The reason why a described token cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintFault {
    /// The text is not YAML, or has unknown keys.
    #[error("the description of the token cannot be read: {0}")]
    Text(String),
    /// There are several tenants, or none.
    #[error("the token names no `tenant`, and the config does not have exactly one; it has {0}")]
    WhichTenant(String),
    /// There is no such issuer.
    #[error("the config has no entry `{0}` of `tenants` or `issuers`")]
    NoIssuer(String),
    /// A time cannot be read.
    #[error("`{0}` is no time from now; write it as 30m or -10m")]
    Time(String),
    /// There is no such version.
    #[error("tokens are of version 1 or 2, and not {0}")]
    Version(u8),
}

impl TokenSpec {
    /// Reads a description: YAML, or JSON.
    ///
    /// # Errors
    /// Fails if it is not one.
    pub fn read(text: &str) -> Result<Self, MintFault> {
        let mut findings = Vec::new();
        let node = yaml::read(text, 0, &mut findings, &mut Vec::new());
        match findings.first() {
            Some(finding) => Err(MintFault::Text(finding.message.clone())),
            None => deserialize::settings(&node).map_err(|error| MintFault::Text(error.to_string())),
        }
    }

    /// Makes the token.
    ///
    /// # Errors
    /// Fails if the config does not know the issuer, or a time cannot be read.
    pub fn mint(&self, gateway: &OfflineGateway) -> Result<String, MintFault> {
        let claims = self.claims(gateway)?;
        let mut header = header();
        if self.version == Some(1) {
            header.insert("x5t".to_owned(), development_key().kid().into());
        }
        if self.signed_by == Some(TestSigner::UnknownKey) {
            header.insert("kid".to_owned(), "a-key-that-nobody-knows".into());
        }
        merge(&mut header, &self.header);
        let by_another = matches!(self.signed_by, Some(TestSigner::WrongKey | TestSigner::UnknownKey));
        let key = if self.wrong_key || by_another { wrong_key() } else { development_key() };
        Ok(sign_as(&header, &claims, key))
    }

    /// Returns the claims of the token.
    ///
    /// # Errors
    /// Fails as [`mint`](Self::mint).
    pub fn claims(&self, gateway: &OfflineGateway) -> Result<Map<String, Value>, MintFault> {
        let now = i64::try_from(gateway.now()).unwrap_or(i64::MAX);
        let issued = now.saturating_add(self.issued.as_deref().map_or(Ok(0), from_now)?);
        let expires = match &self.expires {
            Some(text) => now.saturating_add(from_now(text)?),
            None => issued.saturating_add(LIFETIME),
        };
        // An expired token was issued before.
        let issued = issued.min(expires.saturating_sub(if self.expires.is_some() { LIFETIME.min(60) } else { 0 }));
        let times = json!({ "iat": issued, "nbf": issued, "exp": expires });
        let mut claims = match &self.issuer {
            Some(name) => self.of_other_issuer(gateway, name)?,
            None => self.of_entra(gateway)?,
        };
        claims.extend(times.as_object().cloned().unwrap_or_default());
        if let Some(audience) = &self.audience {
            claims.insert("aud".to_owned(), audience.as_str().into());
        }
        if !self.roles.is_empty() {
            claims.insert("roles".to_owned(), self.roles.clone().into());
        }
        merge(&mut claims, &self.claims);
        if self.issuer.is_none() && self.is_app() {
            self.keep_principal(&mut claims);
        }
        Ok(claims)
    }

    /// Gives an application's own token one principal: with a subject that is not its object id it would be a user's.
    fn keep_principal(&self, claims: &mut Map<String, Value>) {
        for (given, other) in [("oid", "sub"), ("sub", "oid")] {
            if let Some(principal) = self.claims.get(given).filter(|value| value.is_string() && !self.claims.contains_key(other))
            {
                claims.insert(other.to_owned(), principal.clone());
            }
        }
    }

    fn is_app(&self) -> bool {
        match self.kind {
            Some(kind) => kind == TokenSpecKind::App,
            None => self.client.is_some() && self.user.is_none() && self.scopes.is_none(),
        }
    }

    fn of_entra(&self, gateway: &OfflineGateway) -> Result<Map<String, Value>, MintFault> {
        let version = self.version.unwrap_or(2);
        if !matches!(version, 1 | 2) {
            return Err(MintFault::Version(version));
        }
        let (name, tid) = gateway.tenant_of(self.tenant.as_deref())?;
        let issuer = gateway.issuer(&name, &tid, version).ok_or(MintFault::NoIssuer(name))?;
        let client = self.client.as_deref().unwrap_or(SOME_CLIENT);
        let (app, v1) = (self.is_app(), version == 1);
        let credential = self.client_credential.unwrap_or(match app {
            true => TokenSpecCredential::Certificate,
            false => TokenSpecCredential::None,
        });
        let strength = match credential {
            TokenSpecCredential::None => "0",
            TokenSpecCredential::Secret => "1",
            TokenSpecCredential::Certificate => "2",
        };
        let mut claims = json!({
            "iss": issuer, "tid": tid, "ver": if v1 { "1.0" } else { "2.0" }, "uti": URL_SAFE_NO_PAD.encode(guid("uti", client)),
        });
        claims[if v1 { "appid" } else { "azp" }] = client.into();
        claims[if v1 { "appidacr" } else { "azpacr" }] = strength.into();
        if app {
            let principal = guid("service-principal", client);
            claims["oid"] = principal.as_str().into();
            claims["sub"] = principal.into();
        } else {
            let user = self.user.as_deref().unwrap_or("nia");
            claims["oid"] = guid("user", user).into();
            claims["sub"] = guid("pairwise", &format!("{user} {client}")).into();
            claims["name"] = user.into();
            claims[if v1 { "upn" } else { "preferred_username" }] = format!("{user}@contoso.example").into();
            let scopes = self.scopes.clone().unwrap_or_default();
            if !scopes.is_empty() {
                claims["scp"] = scopes.join(" ").into();
            } else {
                // Without a scope only this tells a user's token from an application's.
                claims["idtyp"] = "user".into();
            }
        }
        Ok(claims.as_object().cloned().unwrap_or_default())
    }

    fn of_other_issuer(&self, gateway: &OfflineGateway, name: &str) -> Result<Map<String, Value>, MintFault> {
        let issuer = gateway.runtime().tenants.issuer(name).ok_or_else(|| MintFault::NoIssuer(name.to_owned()))?;
        let client = self.client.as_deref().unwrap_or(SOME_CLIENT);
        let subject = if self.is_app() { client } else { self.user.as_deref().unwrap_or("nia") };
        let mut claims = json!({ "iss": issuer, "sub": subject, "client_id": client, "jti": guid("jti", client) });
        if let Some(scopes) = &self.scopes {
            claims["scope"] = scopes.join(" ").into();
        }
        Ok(claims.as_object().cloned().unwrap_or_default())
    }
}

impl OfflineGateway {
    /// Signs these claims with the development key, with the header that Entra writes.
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        sign_as(&header(), claims, development_key())
    }

    /// Signs these claims with the development key, with a header of one's own.
    pub fn sign_with(&self, header: &Map<String, Value>, claims: &Map<String, Value>) -> String {
        sign_as(header, claims, development_key())
    }

    /// Returns the issuer in tokens of a tenant or another issuer, by its name in the config; `tid` is the tenant's GUID.
    pub fn issuer(&self, name: &str, tid: &str, version: u8) -> Option<String> {
        self.runtime().tenants.issuer_of(name, tid, version)
    }

    /// Returns the name and the GUID of the tenant that is meant: by its name, by its GUID, or as the only one.
    ///
    /// # Errors
    /// Fails if there is no such tenant, or if none is named and there are several.
    pub fn tenant_of(&self, written: Option<&str>) -> Result<(String, String), MintFault> {
        let tenants = &self.runtime().tenants;
        let id_of = |name: &str| tenants.get(name).map(|tenant| tenant.id().clone());
        let guid_of = |name: &str| match id_of(name) {
            Some(TenantId::Guid(guid)) => Some(String::from(guid)),
            _ => None,
        };
        // What is known of a tenant by its domain alone is in its metadata, which is not read here.
        let some = |name: &str| if id_of(name).is_some_and(|id| id.is_many()) { SOME_TENANT } else { UNKNOWN_TENANT };
        let names: Vec<&str> = tenants.names().collect();
        match written {
            Some(name) if names.contains(&name) => Ok((name.to_owned(), guid_of(name).unwrap_or_else(|| some(name).to_owned()))),
            Some(guid) => {
                let own = names.iter().find(|name| guid_of(name).is_some_and(|own| own.eq_ignore_ascii_case(guid)));
                let many = names.iter().find(|name| id_of(name).is_some_and(|id| id.is_many()));
                let name = own.or(many).or(names.first()).filter(|_| is_guid(guid));
                let name = name.ok_or_else(|| MintFault::NoIssuer(guid.to_owned()))?;
                Ok(((*name).to_owned(), guid.to_ascii_lowercase()))
            }
            None => match names.as_slice() {
                [name] => self.tenant_of(Some(name)),
                _ => Err(MintFault::WhichTenant(if names.is_empty() { "none".to_owned() } else { names.join(", ") })),
            },
        }
    }
}

/// Signs a token with a header of one's own.
pub(crate) fn sign_as(header: &Map<String, Value>, claims: &Map<String, Value>, key: &SigningKey) -> String {
    let part = |object: &Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(object.clone()).to_string());
    let input = format!("{}.{}", part(header), part(claims));
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or("none");
    let signature = key.sign(algorithm, input.as_bytes()).unwrap_or_default();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Returns the header that Entra writes.
pub(crate) fn header() -> Map<String, Value> {
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": development_key().kid() });
    header.as_object().cloned().unwrap_or_default()
}

/// Returns a key that no key set has.
fn wrong_key() -> &'static SigningKey {
    static KEY: std::sync::OnceLock<SigningKey> = std::sync::OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate().expect("an RSA key can be made"))
}

fn merge(object: &mut Map<String, Value>, more: &BTreeMap<String, Value>) {
    for (name, value) in more {
        match value {
            Value::Null => drop(object.remove(name)),
            value => drop(object.insert(name.clone(), value.clone())),
        }
    }
}

/// Reads a time from now, in seconds: `30m`, `-10m`, `1h`.
///
/// # Errors
/// Fails if it is none.
pub(crate) fn from_now(text: &str) -> Result<i64, MintFault> {
    let (sign, span) = text.strip_prefix('-').map_or((1, text.strip_prefix('+').unwrap_or(text)), |span| (-1, span));
    let span = ConfigDuration::parse(span).ok_or_else(|| MintFault::Time(text.to_owned()))?;
    Ok(sign * i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX))
}

/// Returns an identifier that is the same for the same name.
fn guid(kind: &str, name: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{kind}:{name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_from_now() {
        for (text, expected) in
            [("30m", Some(1_800)), ("-10m", Some(-600)), ("+1h", Some(3_600)), ("0s", Some(0)), ("soon", None)]
        {
            assert_eq!(from_now(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_description_is_yaml_and_an_unknown_key_is_a_fault() {
        let spec =
            TokenSpec::read("{ kind: app, client: 22223333-cccc-4444-dddd-5555eeee6666, roles: [A], claims: { x: null } }");
        assert!(spec.is_ok_and(|spec| spec.is_app() && spec.roles == ["A"]));
        assert!(TokenSpec::read("{ knid: app }").is_err());
    }
}

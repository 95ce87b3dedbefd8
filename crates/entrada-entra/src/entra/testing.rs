//! Keys and tokens for tests.

#![allow(missing_docs, missing_debug_implementations, clippy::unwrap_used, reason = "helpers of tests alone")]

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{TenantConfig, Tenants};
use crate::{
    base::clock::Clock,
    dev_tenant::SigningKey,
    settings::{Faults, Place},
};

/// The time of the tests.
pub const NOW: u64 = 1_790_000_000;
pub const TENANT: &str = "0f0f0f0f-1111-4222-8333-444455556666";
pub const OTHER_TENANT: &str = "1a1a1a1a-2222-4333-8444-555566667777";
pub const API: &str = "33334444-dddd-5555-eeee-6666ffff7777";
pub const CLIENT: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
pub const TEMPLATE: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";

/// Returns one of three keys, made once per process.
pub fn key(index: usize) -> &'static Arc<SigningKey> {
    static KEYS: [OnceLock<Arc<SigningKey>>; 3] = [const { OnceLock::new() }; 3];
    KEYS[index].get_or_init(|| Arc::new(SigningKey::generate().unwrap()))
}

/// Makes a key set of these entries.
pub fn jwks(entries: &[Value]) -> Vec<u8> {
    json!({ "keys": entries }).to_string().into_bytes()
}

/// A token under construction: a user's, of version 2, valid for an hour.
#[derive(Clone)]
pub struct Mint {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
    pub key: Arc<SigningKey>,
}

impl Mint {
    pub fn user() -> Self {
        let key = key(0).clone();
        let claims = json!({
            "aud": API, "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "tid": TENANT, "ver": "2.0",
            "iat": NOW, "nbf": NOW, "exp": NOW + 3_600, "azp": CLIENT, "azpacr": "0", "name": "Nia Okafor",
            "oid": "0b1d0000-0000-4000-8000-00000000000a", "sub": "pairwise-value", "scp": "orders.read orders.write",
            "uti": "q1W2e3R4t5Y6u7I8o9P0aA",
        });
        Self { header: object(json!({ "typ": "JWT", "alg": "RS256", "kid": key.kid() })), claims: object(claims), key }
    }

    pub fn app() -> Self {
        Self::user()
            .without("scp")
            .without("name")
            .with("roles", json!(["Orders.Sync.All"]))
            .with("idtyp", "app")
            .with("azpacr", "2")
            .with("oid", "5e500000-0000-4000-8000-00000000005e")
            .with("sub", "5e500000-0000-4000-8000-00000000005e")
    }

    /// Turns the token into one of version 1.
    pub fn version_1(mut self) -> Self {
        for (v2, v1) in [("azp", "appid"), ("azpacr", "appidacr")] {
            if let Some(value) = self.claims.remove(v2) {
                self.claims.insert(v1.to_owned(), value);
            }
        }
        self.with("ver", "1.0").with("iss", format!("https://sts.windows.net/{TENANT}/"))
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub fn headerless(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Signs with another key; the key id stays.
    pub fn signed_by(mut self, key: &Arc<SigningKey>) -> Self {
        self.key = key.clone();
        self
    }

    pub fn sign(&self) -> String {
        self.sign_text(&Value::Object(self.claims.clone()).to_string())
    }

    /// Signs this text as the payload.
    pub fn sign_text(&self, payload: &str) -> String {
        let header = Value::Object(self.header.clone()).to_string();
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let algorithm = self.header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let signature = self.key.sign(algorithm, input.as_bytes()).unwrap_or_default();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => unreachable!("{other}"),
    }
}

/// Builds tenants from settings without faults.
pub fn tenants(entries: &[(&str, Value)]) -> Tenants {
    let configs = entries.iter().map(|(name, config)| ((*name).to_owned(), tenant_config(config))).collect();
    let mut faults = Faults::default();
    let tenants = Tenants::build(&configs, None, &Place::root().key("tenants"), &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    tenants
}

pub fn tenant_config(config: &Value) -> TenantConfig {
    serde_json::from_value(config.clone()).unwrap()
}

/// Makes a clock that stands at [`NOW`].
pub fn clock() -> Clock {
    Clock::manual(NOW)
}

//! `backend-assertion`: a signed statement about the caller, by which a backend recognises the gateway's requests.
//!
//! `X-Entrada-Assertion` is a JWT that is valid for a minute, is made for one audience and one request, and repeats the header
//! fields that the gateway made: nobody who reaches the backend another way can make one. `docs/backend-assertion.md` describes
//! its verification.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::{AssertionKeys, KeyFault};
use crate::{
    entra::token::Token,
    exchange::Exchange,
    refusal::{Reason, Refusal},
    request::Reserved,
    settings::{ConfigDuration, Faults, Place},
    upstream::UpstreamRequest,
};

/// The field with the assertion. Callers' own are removed on every route.
pub(crate) const X_ENTRADA_ASSERTION: HeaderName = HeaderName::from_static("x-entrada-assertion");

/// The type of the assertion, which nothing else that is signed has. RFC 8725, section 3.11.
const TYPE: &str = "entrada-assertion+jwt";
const DEFAULT_LIFETIME: u64 = 60;
/// The longest lifetime, in seconds: as long as old keys stay published.
const LONGEST_LIFETIME: u64 = 600;

/// A signed statement about the caller, for the upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackendAssertionConfig {
    /// `aud`: the backend's name for itself.
    pub audience: String,
    /// The lifetime of the assertion; from 5s to 10m. Default: 60s.
    pub lifetime: Option<ConfigDuration>,
}

/// The assertions of a route.
#[derive(Debug)]
pub struct BackendAssertion {
    keys: Arc<AssertionKeys>,
    audience: Box<str>,
    lifetime: u64,
}

/// The claims about one request. Unknown values are omitted.
#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    /// The issuer of the caller's token, without which `sub` has no meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azp: Option<&'a str>,
    token_kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    partner: Option<&'a str>,
    caller: String,
    route: Option<&'a str>,
    request_id: &'a str,
    method: &'a str,
    path: &'a str,
    /// The fields that the gateway made, with their lines.
    headers: BTreeMap<&'a str, Vec<&'a str>>,
}

/// The reason why there is no assertion.
#[derive(Debug, thiserror::Error)]
enum AssertionFault {
    #[error("the caller is unknown, so nothing can be asserted")]
    Nobody,
    #[error("{0} is not a text, so it cannot be asserted")]
    NoText(HeaderName),
    #[error("the assertion cannot be signed")]
    Unsigned(#[source] KeyFault),
}

impl From<AssertionFault> for Refusal {
    fn from(fault: AssertionFault) -> Self {
        let reason = match &fault {
            AssertionFault::Nobody | AssertionFault::NoText(_) => Reason::HeaderValueUnavailable,
            AssertionFault::Unsigned(_) => Reason::InternalError,
        };
        Self::new(reason, fault)
    }
}

impl BackendAssertion {
    /// Builds the setting of a route at this place, or reports its faults. `authenticates`: a policy of the route validates a
    /// token.
    pub(crate) fn build(
        config: &BackendAssertionConfig,
        keys: Option<&Arc<AssertionKeys>>,
        authenticates: bool,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Self> {
        let before = faults.errors();
        if config.audience.is_empty() {
            faults.error(&place.key("audience"), "the audience is empty", "write what the backend calls itself");
        }
        let lifetime = config.lifetime.map_or(DEFAULT_LIFETIME, |span| span.0.as_secs());
        if !(5..=LONGEST_LIFETIME).contains(&lifetime) {
            faults.error(&place.key("lifetime"), "the lifetime is too short or too long", "write one from 5s to 10m");
        }
        if !authenticates {
            let cure = "validate a token on the route first, or leave the assertion out";
            faults.missing(place, "the route knows nobody of whom something could be asserted", cure);
        }
        (faults.errors() == before).then_some(())?;
        Some(Self { keys: keys?.clone(), audience: config.audience.as_str().into(), lifetime })
    }

    /// Writes the assertion to the upstream's request, after everything else.
    ///
    /// # Errors
    /// Fails if the caller is unknown, or if a field cannot be repeated in the assertion.
    pub(crate) fn apply(&self, exchange: &Exchange, reserved: &Reserved, outgoing: &mut UpstreamRequest) -> Result<(), Refusal> {
        let token = exchange.token.as_deref().ok_or(AssertionFault::Nobody)?;
        let value = self.made(token, exchange, reserved, outgoing)?;
        outgoing.headers.insert(&X_ENTRADA_ASSERTION, &value);
        Ok(())
    }

    /// Does the same as [`apply`](Self::apply) where only the decision is wanted: nothing is signed.
    ///
    /// # Errors
    /// Fails if the caller is unknown, or if a field cannot be repeated in the assertion.
    pub(crate) fn judge(&self, exchange: &Exchange, reserved: &Reserved, outgoing: &UpstreamRequest) -> Result<(), Refusal> {
        exchange.token.as_deref().ok_or(AssertionFault::Nobody)?;
        made_by_us(reserved, outgoing)?;
        Ok(())
    }

    fn made(
        &self,
        token: &Token,
        exchange: &Exchange,
        reserved: &Reserved,
        outgoing: &UpstreamRequest,
    ) -> Result<HeaderValue, AssertionFault> {
        let now = self.keys.clock().unix_seconds();
        let payload = Payload {
            iss: self.keys.issuer(),
            aud: &self.audience,
            iat: now,
            exp: now + self.lifetime,
            jti: uuid::Uuid::new_v4().to_string(),
            sub: token.subject.as_deref(),
            token_issuer: token.claims.get("iss").and_then(serde_json::Value::as_str),
            oid: token.object_id.as_deref(),
            tid: Some(&*token.tenant).filter(|tenant| !tenant.is_empty()),
            azp: token.client.as_deref(),
            token_kind: token.kind.as_str(),
            partner: exchange.partner_name(),
            caller: exchange.caller_address().to_string(),
            route: exchange.route.as_ref().map(|route| &**route.name()),
            request_id: exchange.id.as_str(),
            method: outgoing.method.as_str(),
            path: &outgoing.path,
            headers: made_by_us(reserved, outgoing)?,
        };
        self.signed(&payload)
    }

    fn signed(&self, payload: &Payload<'_>) -> Result<HeaderValue, AssertionFault> {
        #[derive(Serialize)]
        struct Header<'a> {
            alg: &'a str,
            typ: &'a str,
            kid: &'a str,
        }
        let key = self.keys.signer();
        let header = Header { alg: key.algorithm(), typ: TYPE, kid: key.kid() };
        let part =
            |json: Result<Vec<u8>, serde_json::Error>| URL_SAFE_NO_PAD.encode(json.expect("texts and numbers are always JSON"));
        let input = format!("{}.{}", part(serde_json::to_vec(&header)), part(serde_json::to_vec(payload)));
        let signature = key.sign(input.as_bytes()).map_err(AssertionFault::Unsigned)?;
        let text = format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature));
        let mut value = HeaderValue::try_from(text).expect("base64url and dots are a header value");
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Returns the fields that no caller can have made. Fixed values from the config are not repeated: they do not depend on the
/// caller, and may be secret.
fn made_by_us<'a>(reserved: &Reserved, outgoing: &'a UpstreamRequest) -> Result<BTreeMap<&'a str, Vec<&'a str>>, AssertionFault> {
    let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in outgoing.headers.iter() {
        if reserved.contains(name) && !value.is_sensitive() {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| AssertionFault::NoText(name.to_header_name()))?;
            fields.entry(name.as_str()).or_default().push(text);
        }
    }
    Ok(fields)
}

//! The settings of test cases: `tests` of a config, and files of them.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use crate::settings::{ConfigDuration, OneOrMany};

/// A file of test cases, `*.test.yaml`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct TestFileConfig {
    /// The config that is tested, relative to this file. Default: the config that the command names.
    pub(crate) config: Option<String>,
    /// The time at which the cases happen; it stands still. Default: the time at which the command starts.
    pub(crate) now: Option<TestTime>,
    /// The address of callers. Default: 192.0.2.1.
    pub(crate) from: Option<String>,
    /// Tokens that the cases name.
    pub(crate) tokens: BTreeMap<String, TestTokenConfig>,
    /// The cases; at least one.
    pub(crate) tests: Vec<TestConfig>,
}

/// A test case: a request, and what is expected of the gateway. Counters of limits begin anew with each case.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestConfig {
    /// The name of the case: a sentence about the guarantee that it shows; unique in its file.
    pub name: String,
    /// The time at which the case happens. Default: that of the file.
    pub now: Option<TestTime>,
    /// The request.
    pub request: TestRequestConfig,
    /// The number of times that the request is sent. Default: 1.
    pub times: Option<u32>,
    /// The upstream's response. Default: 200 without a body.
    pub answer: Option<TestAnswerConfig>,
    /// The expected outcome; only what is written is compared.
    pub expect: ExpectConfig,
    /// Further requests of the case, which share its counters.
    #[serde(default)]
    pub then: Vec<TestStepConfig>,
}

/// A further request of a case.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestStepConfig {
    /// The time that passes before it. Default: none.
    pub after: Option<ConfigDuration>,
    /// The request. Default: the request before.
    pub request: Option<TestRequestConfig>,
    /// The number of times that the request is sent. Default: 1.
    pub times: Option<u32>,
    /// The upstream's response. Default: 200 without a body.
    pub answer: Option<TestAnswerConfig>,
    /// The expected outcome; only what is written is compared.
    pub expect: ExpectConfig,
}

/// The request of a case.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestRequestConfig {
    /// The method. Default: GET.
    pub method: Option<String>,
    /// The whole URL; `https` stands for a connection with TLS.
    pub url: String,
    /// The address that connects: the caller's, or a proxy's. Default: that of the file.
    pub from: Option<String>,
    /// The name of the listener. Default: the first one that has TLS, or has none, as the URL says.
    pub listener: Option<String>,
    /// The token in `Authorization`: a name of `tokens`, or a token. Default: none.
    pub token: Option<TestTokenUseConfig>,
    /// Tokens in other header fields, by the field's name.
    #[serde(default)]
    pub tokens: BTreeMap<String, TestTokenUseConfig>,
    /// Header fields; a field with a list is sent several times.
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMany<String>>,
    /// A file with the client's certificate chain (PEM), relative to the file of the case. Default: none.
    pub certificate: Option<String>,
    /// The body. Default: none.
    pub body: Option<String>,
}

/// The name of a token, or a token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TestTokenUseConfig {
    /// A name of the file's `tokens`.
    Name(String),
    /// A token of this case alone.
    Token(Box<TestTokenConfig>),
}

/// A token that is minted for a case, signed, and verified like any other.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TestTokenConfig {
    /// A name of the file's `tokens` that this token is like, except for the keys below.
    pub like: Option<String>,
    /// The kind of caller that the token is for. Default: user.
    pub kind: Option<TestTokenKind>,
    /// The tenant: a name of the config's `tenants`, or a GUID. Default: the first one of the config.
    pub tenant: Option<String>,
    /// A name of the config's `issuers`, for a token of an issuer other than Entra.
    pub issuer: Option<String>,
    /// The user's name, for a user's token. Default: nia.
    pub user: Option<String>,
    /// The client application. Default: 11112222-bbbb-3333-cccc-4444dddd5555.
    pub client: Option<String>,
    /// The client's authentication to Entra. Default: none for users' tokens, certificate for applications'.
    pub client_credential: Option<TestClientCredential>,
    /// The audience.
    pub audience: Option<String>,
    /// The scopes.
    pub scopes: Option<Vec<String>>,
    /// The roles.
    pub roles: Option<Vec<String>>,
    /// The version of the token: 1 or 2. Default: 2.
    #[schemars(range(min = 1, max = 2))]
    pub version: Option<u8>,
    /// Further claims, or other values of them.
    pub claims: Map<String, Value>,
    /// Claims that are left out.
    pub without: Vec<String>,
    /// The expiry, from the time of the case on: `1h`, or `-10m` for a token that has expired. Default: 1h.
    pub expires: Option<TestOffset>,
    /// The beginning of its validity, from the time of the case on. Default: 0s.
    pub issued: Option<TestOffset>,
    /// An ID token instead of an access token. Default: false.
    pub id_token: Option<bool>,
    /// The signature: by the issuer's key, by another key with the issuer's key id, or by a key that nobody knows. Default: issuer.
    pub signed_by: Option<TestSigner>,
    /// The algorithm. Default: RS256.
    pub algorithm: Option<String>,
    /// This text in place of a token.
    pub text: Option<String>,
}

/// `user` or `app`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TestTokenKind {
    /// A user's token.
    User,
    /// An application's own token.
    App,
}

/// The authentication of a client to Entra.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TestClientCredential {
    /// None: a public client.
    None,
    /// A client secret.
    Secret,
    /// A certificate, or a federated credential.
    Certificate,
}

/// The signer of a token.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TestSigner {
    /// The issuer.
    Issuer,
    /// Another key, under the issuer's key id.
    WrongKey,
    /// A key that no key set has.
    UnknownKey,
}

/// The upstream's response.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TestAnswerConfig {
    /// The status. Default: 200.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// Header fields.
    pub headers: BTreeMap<String, OneOrMany<String>>,
    /// The body. Default: none.
    pub body: Option<String>,
}

/// The expected outcome of a request; at least `code`, `status`, `upstream`, `verdict`, or one of these for a part of several requests.
/// Texts are compared whole, but for `/pattern/`, `present` and `absent`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ExpectationConfig {
    /// Whether the request is allowed (sent to the upstream), refused, or answered by the gateway itself.
    pub verdict: Option<TestVerdict>,
    /// The code of the refusal.
    pub code: Option<String>,
    /// The status of the response.
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// The entry that refuses, as in audit records: `inbound[1].ip-filter`.
    pub policy: Option<String>,
    /// The codes of refusals that are only reported (`mode: report-only`), separated by commas.
    pub would_deny: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// The upstream that receives the request, which is then allowed.
    pub upstream: Option<String>,
    /// The method of the upstream's request.
    pub upstream_method: Option<String>,
    /// The path and query of the upstream's request, with the server's base path.
    pub upstream_path: Option<String>,
    /// Header fields of the upstream's request, by name.
    pub upstream_headers: BTreeMap<String, String>,
    /// Header fields of the response, by name.
    pub headers: BTreeMap<String, String>,
    /// The body of the response.
    pub body: Option<String>,
    /// The caller, as the gateway knows it.
    pub identity: Option<IdentityExpectationConfig>,
}

/// The caller, as the gateway knows it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct IdentityExpectationConfig {
    /// The caller's address.
    pub caller: Option<String>,
    /// The partner's name.
    pub partner: Option<String>,
    /// The tenant that issued the token, by its GUID.
    pub tenant: Option<String>,
    /// The client application.
    pub client: Option<String>,
    /// Whether the token is a user's or an application's.
    pub kind: Option<TestTokenKind>,
    /// The token's subject (`sub`).
    pub subject: Option<String>,
    /// The user's or application's object id (`oid`).
    pub object_id: Option<String>,
}

/// The verdict on a request.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TestVerdict {
    /// It is sent to the upstream.
    Allow,
    /// It is refused.
    Refuse,
    /// The gateway answers it itself.
    Answer,
}

/// The expected outcome of the requests of a case: of each, of the first ones, and of the last one.
#[derive(Clone, Debug, Default)]
pub struct ExpectConfig {
    /// Of each request.
    pub each: ExpectationConfig,
    /// Of the first so many requests: `first-100`.
    pub first: BTreeMap<u32, ExpectationConfig>,
    /// Of the last request.
    pub last: Option<ExpectationConfig>,
}

/// The keys `first-N`.
pub(crate) const FIRST: &str = "first-";

/// Returns the number of a key `first-N`.
pub(crate) fn first(key: &str) -> Option<u32> {
    let digits = key.strip_prefix(FIRST)?;
    let plain = !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

impl<'de> Deserialize<'de> for ExpectConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Map::<String, Value>::deserialize(deserializer)?;
        let (mut each, mut expect) = (Map::new(), Self::default());
        let read = |value| serde_json::from_value(value).map_err(D::Error::custom);
        for (key, value) in written {
            if key == "last" {
                expect.last = Some(read(value)?);
            } else if let Some(count) = first(&key) {
                expect.first.insert(count, read(value)?);
            } else {
                each.insert(key, value);
            }
        }
        expect.each = read(Value::Object(each))?;
        Ok(expect)
    }
}

impl JsonSchema for ExpectConfig {
    fn schema_name() -> Cow<'static, str> {
        "ExpectConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<ExpectationConfig>();
        let mut schema = ExpectationConfig::json_schema(generator);
        let mut last = part.clone();
        last.insert("description".to_owned(), "What is expected of the last request.".into());
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("last".to_owned(), last.to_value());
        }
        let numbered = serde_json::json!({ "^first-[1-9][0-9]*$": part.to_value() });
        schema.insert("patternProperties".to_owned(), numbered);
        let about = "What is expected of each request; under `first-100` and `last` of these of several.";
        schema.insert("description".to_owned(), about.into());
        schema
    }
}

/// A moment, UTC: `2027-03-01T09:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestTime(pub u64);

impl TestTime {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        const FORM: &[u8; 20] = b"0000-00-00T00:00:00Z";
        let fits = text.len() == FORM.len()
            && text.bytes().zip(FORM).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form });
        let at: Timestamp = fits.then(|| text.parse().ok()).flatten()?;
        u64::try_from(at.as_second()).ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for TestTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a time; write it as 2027-03-01T09:00:00Z")))
    }
}

impl JsonSchema for TestTime {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
            "description": "Write a time, UTC: 2027-03-01T09:00:00Z.",
        })
    }
}

/// A time from another one on, or before it: `1h`, `-10m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestOffset(pub i64);

impl TestOffset {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (sign, span) = text.strip_prefix('-').map_or((1, text), |span| (-1, span));
        let seconds = i64::try_from(ConfigDuration::parse(span)?.0.as_secs()).ok()?;
        Some(Self(sign * seconds))
    }
}

impl<'de> Deserialize<'de> for TestOffset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a time from now; write it as 1h or -10m")))
    }
}

impl JsonSchema for TestOffset {
    fn schema_name() -> Cow<'static, str> {
        "Offset".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^-?[0-9]+(ms|s|m|h|d)$",
            "description": "Write a duration, with a minus for the past: 1h, -10m.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_spelling() {
        for (text, expected) in [
            ("2027-03-01T09:00:00Z", Some(1_803_891_600)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59Z", None),
            ("2027-02-30T09:00:00Z", None),
            ("2027-03-01 09:00:00Z", None),
            ("2027-03-01T09:00:00+01:00", None),
            ("2027-03-01", None),
        ] {
            assert_eq!(TestTime::parse(text).map(|time| time.0), expected, "{text}");
        }
        for (text, expected) in [("1h", Some(3_600)), ("-10m", Some(-600)), ("--1s", None), ("1", None), ("", None)] {
            assert_eq!(TestOffset::parse(text).map(|offset| offset.0), expected, "{text}");
        }
    }

    #[test]
    fn several_requests_have_expectations_of_their_own() {
        let yaml = "{ first-100: { upstream: orders }, last: { status: 429 }, route: partners }";
        let expect: ExpectConfig = crate::settings::testing::part(yaml);

        assert_eq!(expect.each.route.as_deref(), Some("partners"));
        assert_eq!(expect.first[&100].upstream.as_deref(), Some("orders"));
        assert_eq!(expect.last.and_then(|last| last.status), Some(429));
        for (key, expected) in [("first-1", Some(1)), ("first-0", None), ("first-01", None), ("first-", None), ("first", None)] {
            assert_eq!(first(key), expected, "{key}");
        }
    }
}

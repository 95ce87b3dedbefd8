//! The form of a token request, parsed so that no reader can read it differently.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::entra::{is_guid, token::CredentialKind};

/// The type of client assertions. RFC 7523, section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The grant of exchanges on behalf of users.
pub(super) const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The maximum number of parameters in a form: clients send about ten.
const MOST_PARAMETERS: usize = 32;

/// The client's request, and its proof of identity.
#[derive(Debug)]
pub(super) struct RelayRequest {
    /// The client id: a GUID in lower case.
    pub(super) client_id: String,
    pub(super) grant_type: String,
    pub(super) scope: String,
    pub(super) shown: ClientProof,
    /// The user's token, in an exchange on behalf of a user; its faults count after the grant is allowed.
    pub(super) user: Option<Result<SecretString, FormFault>>,
}

/// The client's proof of identity.
#[derive(Debug)]
pub(super) enum ClientProof {
    Secret(SecretString),
    Assertion {
        assertion: SecretString,
        /// The declared audience of the assertion.
        audience: Option<Box<str>>,
    },
}

/// The reason why a form is refused. Names parameters of the protocol, never their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormFault {
    #[error("a parameter is not well encoded")]
    Encoding,
    #[error("a parameter has no `=`, or no name")]
    Shape,
    #[error("a value has control characters")]
    Control,
    #[error("there are more than {MOST_PARAMETERS} parameters")]
    TooMany,
    #[error("a parameter is repeated")]
    Duplicate,
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`client_id` is not a GUID")]
    ClientId,
    #[error("there are both `client_secret` and `client_assertion`")]
    TwoProofs,
    #[error("`requested_token_use` is not `on_behalf_of`")]
    TokenUse,
    #[error("`assertion` is no signed token")]
    User,
    #[error("`client_assertion_type` is not that of a JWT")]
    AssertionType,
    #[error("`client_assertion` cannot be read")]
    Assertion,
    #[error("`client_assertion` does not belong to `client_id`")]
    OtherClient,
}

impl ClientProof {
    pub(super) const fn kind(&self) -> CredentialKind {
        match self {
            Self::Secret(_) => CredentialKind::Secret,
            Self::Assertion { .. } => CredentialKind::Certificate,
        }
    }

    /// Returns whether it can be valid at an endpoint that accepts assertions with these audiences.
    pub(super) fn is_for(&self, audiences: &[Box<str>]) -> bool {
        match self {
            Self::Secret(_) => true,
            // That of a federated credential is not the endpoint; Entra's own answer says what is wrong with it.
            Self::Assertion { audience, .. } => audience.as_ref().is_none_or(|audience| audiences.contains(audience)),
        }
    }
}

/// The parameters of the form, decoded.
struct Parameters<'a>(Vec<(Cow<'a, str>, Zeroizing<String>)>);

/// Reads a form. Irrelevant parameters are dropped.
pub(super) fn read(body: &[u8]) -> Result<RelayRequest, FormFault> {
    let parameters = Parameters::read(body)?;
    let client_id = parameters.need("client_id")?.to_ascii_lowercase();
    if !is_guid(&client_id) {
        return Err(FormFault::ClientId);
    }
    let grant_type = parameters.need("grant_type")?.to_owned();
    let scope = parameters.need("scope")?.to_owned();
    let shown = match (parameters.get("client_secret"), parameters.get("client_assertion")) {
        (Some(_), Some(_)) => return Err(FormFault::TwoProofs),
        (None, None) => return Err(FormFault::Missing("client_assertion` or `client_secret")),
        (Some(secret), None) => ClientProof::Secret(secret.into()),
        (None, Some(assertion)) => {
            if parameters.need("client_assertion_type")? != JWT_BEARER {
                return Err(FormFault::AssertionType);
            }
            let audience = audience(assertion, &client_id)?;
            ClientProof::Assertion { assertion: assertion.into(), audience }
        }
    };
    let user = match &*grant_type {
        ON_BEHALF_OF => Some(user(&parameters)),
        // RFC 7523 knows the parameter for that grant alone.
        _ => None,
    };
    Ok(RelayRequest { client_id, grant_type, scope, shown, user })
}

/// Returns the user's token of an exchange. Whether it is good, and for this client, Entra decides.
fn user(parameters: &Parameters<'_>) -> Result<SecretString, FormFault> {
    if parameters.need("requested_token_use")? != "on_behalf_of" {
        return Err(FormFault::TokenUse);
    }
    let token = parameters.need("assertion")?;
    // Base64url and dots: three parts of a signed token, five of an encrypted one.
    let letters = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    match token.split('.').count() {
        3 | 5 if letters => Ok(token.into()),
        _ => Err(FormFault::User),
    }
}

impl<'a> Parameters<'a> {
    fn read(body: &'a [u8]) -> Result<Self, FormFault> {
        let body = std::str::from_utf8(body).map_err(|_| FormFault::Encoding)?;
        let mut parameters: Vec<(Cow<'a, str>, Zeroizing<String>)> = Vec::new();
        for pair in body.split('&') {
            let (name, value) = pair.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(FormFault::Shape)?;
            let (name, value) = (Cow::<'a, str>::Owned(decoded(name)?.to_string()), decoded(value)?);
            if value.chars().chain(name.chars()).any(char::is_control) {
                return Err(FormFault::Control);
            }
            // Whoever reads names without case, or without blanks, must not find another one than is judged here.
            if parameters.iter().any(|(other, _)| other.trim().eq_ignore_ascii_case(name.trim())) {
                return Err(FormFault::Duplicate);
            }
            if parameters.len() == MOST_PARAMETERS {
                return Err(FormFault::TooMany);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &'static str) -> Result<&str, FormFault> {
        self.get(name).ok_or(FormFault::Missing(name))
    }
}

/// Decodes a name or value of a form: `+` is a space, escapes are complete, and the text is UTF-8.
fn decoded(text: &str) -> Result<Zeroizing<String>, FormFault> {
    let spaced = Zeroizing::new(text.replace('+', " "));
    let mut rest = spaced.as_str();
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        digits.ok_or(FormFault::Encoding)?;
        rest = &rest[at + 3..];
    }
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| FormFault::Encoding)?;
    Ok(Zeroizing::new(decoded.into_owned()))
}

/// The claims that tell an assertion's owner. Unverified: Entra verifies them, after the partner was judged by `client_id`.
#[derive(Deserialize)]
struct Payload {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<serde_json::Value>,
}

/// Returns the audience of an assertion that does not belong to another client.
fn audience(assertion: &str, client_id: &str) -> Result<Option<Box<str>>, FormFault> {
    let mut parts = assertion.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(FormFault::Assertion);
    };
    // Entra takes padding and the other alphabet, and some clients rely on it.
    let payload = Zeroizing::new(payload.trim_end_matches('=').replace('+', "-").replace('/', "_"));
    let payload = URL_SAFE_NO_PAD.decode(payload.as_bytes()).map_err(|_| FormFault::Assertion)?;
    let payload: Payload = serde_json::from_slice(&payload).map_err(|_| FormFault::Assertion)?;
    let issuer = payload.iss.as_deref().unwrap_or_default();
    // Who issues to itself is the client, and so is an issuer that is a client id. Another issuer's is a federated credential.
    let own = payload.iss.is_none() || payload.iss == payload.sub || is_guid(&issuer.to_ascii_lowercase());
    if own && ![issuer, payload.sub.as_deref().unwrap_or_default()].iter().all(|id| id.eq_ignore_ascii_case(client_id)) {
        return Err(FormFault::OtherClient);
    }
    match payload.aud {
        Some(serde_json::Value::String(audience)) if own => Ok(Some(audience.into())),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    const CLIENT: &str = "22223333-cccc-4444-dddd-5555eeee6666";
    const OTHER: &str = "33334444-cccc-4444-dddd-5555eeee6666";

    fn jwt(payload: &serde_json::Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    fn form(rest: &str) -> String {
        format!("client_id={CLIENT}&grant_type=client_credentials&scope=api%3A%2F%2Forders%2F.default&{rest}")
    }

    fn exchange(rest: &str) -> String {
        let grant = ON_BEHALF_OF.replace(':', "%3A");
        format!("client_id={CLIENT}&client_secret=s&scope=a%2Fb&grant_type={grant}&{rest}")
    }

    fn with_assertion(assertion: &str) -> String {
        form(&format!("client_assertion_type={}&client_assertion={assertion}", JWT_BEARER.replace(':', "%3A")))
    }

    #[test]
    fn reads_what_clients_send() {
        let secret = read(form("client_secret=a%2Bb+c%26%3D&client_info=1&x-client-sku=any").as_bytes()).expect("a secret");
        assert_eq!(
            (&*secret.client_id, &*secret.grant_type, &*secret.scope),
            (CLIENT, "client_credentials", "api://orders/.default")
        );
        let ClientProof::Secret(value) = &secret.shown else { panic!("{secret:?}") };
        assert_eq!(value.expose_secret(), "a+b c&=");
        assert!(secret.shown.is_for(&[]));

        let assertion = jwt(&json!({ "iss": CLIENT, "sub": CLIENT, "aud": "https://login.example/t", "exp": 1.5 }));
        let read = read(with_assertion(&format!("{assertion}%3D%3D")).as_bytes()).expect("an assertion");
        assert_eq!(read.shown.kind(), CredentialKind::Certificate);
        assert!(read.shown.is_for(&["https://login.example/t".into()]) && !read.shown.is_for(&[]));
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for (body, expected) in [
            (String::new(), FormFault::Shape),
            (r#"{"client_id":"a"}"#.to_owned(), FormFault::Shape),
            (form("client_secret=s&"), FormFault::Shape),
            (form("client_secret=s&&a=b"), FormFault::Shape),
            (form("client_secret"), FormFault::Shape),
            (form("client_secret=s&=b"), FormFault::Shape),
            (form("client_secret=s%2"), FormFault::Encoding),
            (form("client_secret=s%zz"), FormFault::Encoding),
            (form("client_secret=s%ff"), FormFault::Encoding),
            (form("client_secret=a%00b"), FormFault::Control),
            (form("client_secret=s%0d%0a"), FormFault::Control),
            (form(&format!("client_secret=s&client_id={OTHER}")), FormFault::Duplicate),
            (form(&format!("client_secret=s&Client_Id={OTHER}")), FormFault::Duplicate),
            (form(&format!("client_secret=s&client%5Fid={OTHER}")), FormFault::Duplicate),
            (form(&format!("client_secret=s&+client_id={OTHER}")), FormFault::Duplicate),
            (form("client_secret=s&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"), FormFault::Duplicate),
            (form("client_secret=s&x=1&X=2"), FormFault::Duplicate),
            (form(&(0..40).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&")), FormFault::TooMany),
            (form("a=b"), FormFault::Missing("client_assertion` or `client_secret")),
            (form("client_secret="), FormFault::Missing("client_assertion` or `client_secret")),
            (form("client_secret=s&client_assertion=a.b.c"), FormFault::TwoProofs),
            ("client_secret=s&client_id=orders&grant_type=a&scope=b".to_owned(), FormFault::ClientId),
            (format!("client_secret=s&client_id={CLIENT}&scope=b"), FormFault::Missing("grant_type")),
            (format!("client_secret=s&client_id={CLIENT}&grant_type=b"), FormFault::Missing("scope")),
            (format!("CLIENT_ID={CLIENT}&client_secret=s&grant_type=a&scope=b"), FormFault::Missing("client_id")),
            (exchange("requested_token_use=on_behalf_of&assertion=a.b.c&Assertion=d.e.f"), FormFault::Duplicate),
            (form("client_assertion=a.b.c"), FormFault::Missing("client_assertion_type")),
            (form("client_assertion=a.b.c&client_assertion_type=saml"), FormFault::AssertionType),
            (with_assertion("a.b"), FormFault::Assertion),
            (with_assertion("a.b.c.d"), FormFault::Assertion),
            (with_assertion("e30.bm8.c2ln"), FormFault::Assertion),
        ] {
            assert_eq!(read(body.as_bytes()).err(), Some(expected), "{body}");
        }
        assert_eq!(read(b"client_id=\xff").err(), Some(FormFault::Encoding));
    }

    #[test]
    fn an_assertion_is_the_clients_own_or_a_federated_one() {
        for (payload, allowed) in [
            (json!({ "iss": CLIENT, "sub": CLIENT }), true),
            (json!({ "iss": CLIENT.to_uppercase(), "sub": CLIENT.to_uppercase() }), true),
            (json!({ "iss": OTHER, "sub": OTHER }), false),
            (json!({ "iss": OTHER, "sub": CLIENT }), false),
            (json!({ "iss": CLIENT, "sub": OTHER }), false),
            (json!({ "sub": CLIENT }), false),
            (json!({}), false),
            (json!({ "iss": "https://cluster.example", "sub": "system:serviceaccount:shop:partner" }), true),
            // A managed identity as the credential of an application: `sub` is its object.
            (json!({ "iss": "https://login.example/t/v2.0", "sub": OTHER }), true),
            (json!({ "iss": "https://same.example", "sub": "https://same.example" }), false),
        ] {
            let read = read(with_assertion(&jwt(&payload)).as_bytes());
            assert_eq!(read.is_ok(), allowed, "{payload}: {read:?}");
            assert!(allowed || read.err() == Some(FormFault::OtherClient));
        }
        let twice =
            format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{CLIENT}","sub":"{CLIENT}","sub":"{OTHER}"}}"#)));
        assert_eq!(read(with_assertion(&twice).as_bytes()).err(), Some(FormFault::Assertion));
    }

    #[test]
    fn an_exchange_has_a_users_token() {
        for (rest, expected) in [
            ("requested_token_use=on_behalf_of&assertion=a.b.c", None),
            ("requested_token_use=on_behalf_of&assertion=a.b.c.d.e", None),
            ("requested_token_use=on_behalf_of", Some(FormFault::Missing("assertion"))),
            ("assertion=a.b.c", Some(FormFault::Missing("requested_token_use"))),
            ("requested_token_use=other&assertion=a.b.c", Some(FormFault::TokenUse)),
            ("requested_token_use=on_behalf_of&assertion=a.b", Some(FormFault::User)),
            ("requested_token_use=on_behalf_of&assertion=a.b.c%2F", Some(FormFault::User)),
        ] {
            let asked = read(exchange(rest).as_bytes()).expect("a form");
            assert_eq!(asked.user.expect("an exchange").err(), expected, "{rest}");
        }
        assert!(read(form("client_secret=s&assertion=a.b.c").as_bytes()).expect("a form").user.is_none());
    }

    #[test]
    fn nothing_shows_what_a_client_proves_itself_with() {
        let asked = read(form("client_secret=hunter2").as_bytes()).expect("a secret");
        assert!(!format!("{asked:?}").contains("hunter2"));
    }
}

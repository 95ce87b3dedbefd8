//! The members of a token in audit records, written once when it is verified and copied into the record of each request.

use serde::Serialize;
use serde_json::Value;

use super::{CredentialKind, Facts, Token, TokenKind};
use crate::entra::jws::read_part;

/// The longest text, in bytes. Issuers choose what stands in their tokens, and records are short.
const LONGEST: usize = 256;
/// The most bytes of a list.
const LONGEST_LIST: usize = 2 << 10;
/// The last entry of a list that was cut.
const MORE: &str = "…";

/// The facts of a verified token that audit records have, in their order.
#[derive(Serialize)]
struct TokenMembers<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    issuer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<Audience<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    tenant_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_kind: Option<&'static str>,
    token_kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<&'a str>,
}

/// `aud`: a text where there is one, a list otherwise, as in the token.
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

/// Returns the members of this token, each with a comma before it.
pub(in crate::entra) fn recorded(token: &Token, facts: &Facts) -> Box<str> {
    let members = TokenMembers {
        issuer: cut(&facts.issuer),
        audience: match &*facts.audiences {
            [] => None,
            [one] => Some(Audience::One(cut(one))),
            several => Some(Audience::Several(list(several))),
        },
        tenant_id: &token.tenant,
        client_application: token.client.as_deref().map(cut),
        credential_kind: token.credential_kind.map(CredentialKind::as_str),
        token_kind: TokenKind::as_str(token.kind),
        subject: token.subject.as_deref().map(cut),
        object_id: token.object_id.as_deref().map(cut),
        token_id: token.id.as_deref().map(cut),
        scopes: list(&token.scopes),
        roles: list(&token.roles),
    };
    let object = serde_json::to_string(&members).unwrap_or_default();
    match object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(members) if !members.is_empty() => format!(",{members}").into(),
        _ => Box::default(),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

fn list(texts: &[Box<str>]) -> Vec<&str> {
    let mut left = LONGEST_LIST;
    let mut list = Vec::new();
    for text in texts {
        let text = cut(text);
        if text.len() > left {
            list.push(MORE);
            break;
        }
        left -= text.len();
        list.push(text);
    }
    list
}

/// Unverified statements of a token, for the records of refused ones. None of them is a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSeen {
    /// `iss`.
    pub issuer: Option<Box<str>>,
    /// `aud`; several are joined by a space.
    pub audience: Option<Box<str>>,
    /// `azp`, `appid` or `client_id`.
    pub client_application: Option<Box<str>>,
    /// `kid`.
    pub key_id: Option<Box<str>>,
    /// `alg`.
    pub algorithm: Option<Box<str>>,
}

impl TokenSeen {
    /// Reads the statements of a token as far as they can be read; `None` if nothing can.
    pub fn read(token: &[u8]) -> Option<Box<Self>> {
        let mut parts = token.split(|byte| *byte == b'.');
        let mut object = || parts.next().and_then(read_part);
        let (header, claims) = (object(), object());
        let member = |object: &Option<serde_json::Map<String, Value>>, names: &[&str]| {
            let object = object.as_ref()?;
            names.iter().find_map(|name| seen(object.get(*name)?))
        };
        let seen = Self {
            issuer: member(&claims, &["iss"]),
            audience: member(&claims, &["aud"]),
            client_application: member(&claims, &["azp", "appid", "client_id"]),
            key_id: member(&header, &["kid"]),
            algorithm: member(&header, &["alg"]),
        };
        (seen != Self::default()).then(|| Box::new(seen))
    }
}

/// Returns a text, or the texts of a list, cut to its length.
fn seen(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => Some(cut(text).into()),
        Value::Array(entries) => {
            let texts: Vec<&str> = entries.iter().filter_map(Value::as_str).take(LONGEST).collect();
            (!texts.is_empty()).then(|| cut(&texts.join(" ")).into())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;
    use crate::entra::token::{Payload, read_entra, read_other};

    fn members(payload: &Payload) -> Value {
        let written = recorded(&payload.token, &payload.facts);
        serde_json::from_str(&format!("{{\"first\":1{written}}}")).unwrap()
    }

    #[test]
    fn an_entra_token_is_recorded_with_who_called_and_what_was_granted() {
        let claims = json!({
            "iss": "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0", "ver": "2.0", "exp": 9,
            "tid": "aaaabbbb-0000-cccc-1111-dddd2222eeee", "aud": "api://orders", "azp": "11112222-bbbb-3333-cccc-4444dddd5555",
            "azpacr": "2", "sub": "s", "oid": "o", "uti": "u", "scp": "Orders.Read Orders.Write", "name": "Nia \"N\"",
        });

        let written = members(&read_entra(claims.to_string().as_bytes()).unwrap());

        assert_eq!(
            written,
            json!({
                "first": 1, "issuer": claims["iss"], "audience": "api://orders", "tenant_id": claims["tid"],
                "client_application": claims["azp"], "credential_kind": "certificate", "token_kind": "user", "subject": "s",
                "object_id": "o", "token_id": "u", "scopes": ["Orders.Read", "Orders.Write"],
            })
        );
    }

    #[test]
    fn lists_and_texts_have_an_end() {
        let roles: Vec<_> = (0..2_000).map(|role| format!("Role.{role}")).collect();
        let claims = json!({ "exp": 9, "iss": "i".repeat(9_000), "aud": ["a", "b"], "roles": roles });

        let written = members(&read_other(claims.to_string().as_bytes()).unwrap());

        assert_eq!(written["issuer"].as_str().unwrap().len(), LONGEST);
        assert_eq!(written["audience"], json!(["a", "b"]));
        let roles = written["roles"].as_array().unwrap();
        assert!(roles.len() < 400 && roles[0] == "Role.0" && *roles.last().unwrap() == MORE, "{roles:?}");
    }

    #[test]
    fn what_is_seen_of_an_unverified_token_is_short_and_of_five_names() {
        let token = |header: &Value, claims: &Value| {
            let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
            format!("{}.{}.AAAA", part(header), part(claims))
        };
        let header = json!({ "alg": "RS256", "kid": "k1", "x": "secret" });
        let claims = json!({ "iss": "i".repeat(300), "aud": ["a", "b"], "appid": "c", "sub": "secret", "azp": 7 });

        let seen = TokenSeen::read(token(&header, &claims).as_bytes()).unwrap();

        let text = |text: &str| Some(text.into());
        assert_eq!(
            *seen,
            TokenSeen {
                issuer: text(&"i".repeat(LONGEST)),
                audience: text("a b"),
                client_application: text("c"),
                key_id: text("k1"),
                algorithm: text("RS256"),
            }
        );
        assert_eq!(TokenSeen::read(b"eyJhbGciOiJSUzI1NiJ9").unwrap().algorithm, text("RS256"));
        for nothing in ["", "a.b.c", "..", token(&json!({}), &json!([])).as_str()] {
            assert_eq!(TokenSeen::read(nothing.as_bytes()), None, "{nothing}");
        }
        assert_eq!(TokenSeen::read(&vec![b'a'; 1 << 20]), None);
    }
}

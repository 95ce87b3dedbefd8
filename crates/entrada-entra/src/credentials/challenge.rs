//! The challenges of `WWW-Authenticate` in a 401 (RFC 9110, section 11.6.1), as far as they concern tokens.
//!
//! They come from the server that answers, so they never choose the destination or the issuer of a token. Their only effect is
//! one more token request, with claims that the issuer is told of.

use std::sync::Arc;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

/// The length limit: more than any claims challenge.
const LONGEST: usize = 8 << 10;
/// base64url with optional padding; the other alphabet is converted first.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One Bearer challenge: its parameters, by lower-case name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge(Vec<(Box<str>, Box<str>)>);

impl Challenge {
    /// Returns the value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// Returns the claims that the next token has to contain, in the form of a token request; `None` if no usable claims are
    /// demanded.
    pub(crate) fn claims(&self) -> Option<Arc<str>> {
        let text = self.get("claims").filter(|text| text.len() <= LONGEST)?;
        if self.get("error") != Some("insufficient_claims") {
            return None;
        }
        let text: String = text
            .chars()
            .map(|letter| match letter {
                '+' => '-',
                '/' => '_',
                other => other,
            })
            .collect();
        let claims: Map<String, Value> = serde_json::from_slice(&FORGIVING.decode(text).ok()?).ok()?;
        claims.get("access_token").is_some_and(Value::is_object).then(|| with_capabilities(claims))
    }
}

/// Returns the claims by which the client announces that it answers claims challenges: without them Microsoft's services send
/// none, and their tokens are short-lived.
pub(crate) fn capabilities() -> Arc<str> {
    with_capabilities(Map::new())
}

fn with_capabilities(mut claims: Map<String, Value>) -> Arc<str> {
    let access = claims.entry("access_token").or_insert_with(|| json!({}));
    if let Some(access) = access.as_object_mut() {
        access.insert("xms_cc".to_owned(), json!({ "values": ["cp1"] }));
    }
    Value::Object(claims).to_string().into()
}

/// Returns the Bearer challenges of a response, in their order.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        if let Ok(text) = value.to_str() {
            read(text, &mut found);
        }
    }
    found
}

/// Returns the claims that a response demands.
pub fn wanted_claims(headers: &HeaderMap) -> Option<Arc<str>> {
    challenges(headers).iter().find_map(Challenge::claims)
}

/// Reads the challenges of one field line. A word not followed by `=` begins a challenge; its parameters follow.
fn read(text: &str, found: &mut Vec<Challenge>) {
    let mut rest = text;
    let mut current: Option<Challenge> = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = parameter(value.trim_start());
                if let Some(challenge) = &mut current {
                    challenge.0.push((word.to_ascii_lowercase().into(), value.into()));
                }
                rest = after;
            }
            None => {
                found.extend(current.take());
                current = word.eq_ignore_ascii_case("bearer").then(Challenge::default);
                rest = after;
            }
        }
    }
    found.extend(current);
}

/// Reads a token or a quoted string; returns the remaining text.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap())).collect()
    }

    const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1760000000"}}}"#;

    #[test]
    fn finds_the_one_challenge_that_asks_for_claims() {
        let (standard, url) = (STANDARD.encode(CLAIMS), URL_SAFE_NO_PAD.encode(CLAIMS));
        let asks = format!(
            "Bearer realm=\"\", authorization_uri=\"https://a.example/authorize\", error=\"insufficient_claims\", claims=\"{standard}\""
        );
        let turned = format!("bearer claims={url}, error = insufficient_claims");
        let beside = format!("Basic realm=\"a, Bearer b=c\", {asks}, Digest nonce=\"x\"");

        for lines in [&[&*asks][..], &[&*turned], &[&*beside], &["Bearer", "Negotiate YII=", &*asks]] {
            let claims = wanted_claims(&headers(lines)).unwrap_or_else(|| panic!("{lines:?}"));

            let claims: Value = serde_json::from_str(&claims).unwrap();
            assert_eq!(claims["access_token"]["nbf"]["value"], "1760000000");
            assert_eq!(claims["access_token"]["xms_cc"], json!({ "values": ["cp1"] }));
        }
    }

    #[test]
    fn asks_for_nothing_that_could_not_be_meant() {
        let encoded = |text: &str| format!("Bearer error=\"insufficient_claims\", claims=\"{}\"", STANDARD.encode(text));
        let long = format!("{{\"access_token\":{{\"a\":\"{}\"}}}}", "x".repeat(LONGEST));
        for line in [
            "Bearer".to_owned(),
            format!("Bearer error=\"invalid_token\", claims=\"{}\"", STANDARD.encode(CLAIMS)),
            format!("Basic error=\"insufficient_claims\", claims=\"{}\"", STANDARD.encode(CLAIMS)),
            "Bearer error=\"insufficient_claims\"".to_owned(),
            "Bearer error=\"insufficient_claims\", claims=\"%%%\"".to_owned(),
            encoded("[]"),
            encoded("{\"id_token\":{}}"),
            encoded("{\"access_token\":1}"),
            encoded("not json"),
            encoded(&long),
            "Bearer error=\"insufficient_claims".to_owned(),
            "= , ,\"".to_owned(),
        ] {
            assert_eq!(wanted_claims(&headers(&[&line])), None, "{line}");
        }
    }

    #[test]
    fn reads_what_a_vault_says_of_itself() {
        let line = "Bearer authorization=\"https://login.windows.net/11111111-2222-3333-4444-555555555555\", resource=\"https://vault.azure.net\"";

        let challenge = challenges(&headers(&[line])).remove(0);

        assert_eq!(challenge.get("resource"), Some("https://vault.azure.net"));
        assert_eq!(challenge.get("authorization"), Some("https://login.windows.net/11111111-2222-3333-4444-555555555555"));
    }

    #[test]
    fn says_what_the_client_can_do() {
        assert_eq!(&*capabilities(), r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#);
    }
}

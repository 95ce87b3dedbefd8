//! The text around a token, as people copy it: quotes, line breaks, a header's name, a scheme, the JSON of an answer.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Returns the token itself, without what was copied along.
pub(super) fn bare(text: &str) -> String {
    let mut text = trimmed(text);
    if text.starts_with('{')
        && let Ok(answer) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
    {
        let names = ["access_token", "id_token", "client_assertion", "assertion", "token"];
        if let Some(token) = names.iter().find_map(|name| answer.get(*name)?.as_str()) {
            return bare(token);
        }
    }
    // `Authorization: Bearer …`, `TOKEN=…`, each with quotes before or behind.
    let name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b' '))
    };
    if let Some((before, rest)) = text
        .split_once([':', '='])
        .map(|(before, rest)| (trimmed(before), rest))
        .filter(|(before, rest)| name(before) && !rest.trim_matches('=').is_empty())
    {
        let is_part = before.len() > 40 || rest.starts_with('.');
        text = if is_part { text } else { trimmed(rest) };
    }
    if let Some((scheme, token)) = text.split_once(char::is_whitespace)
        && ["bearer", "mtls_pop", "pop"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
    {
        text = trimmed(token);
    }
    // A terminal or a mail breaks long lines, a shell continues them with a backslash.
    let joined: String = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '\\').collect();
    let is_token = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=' | b'+' | b'/'))
    };
    if is_token(&joined) && joined.contains('.') { joined } else { text.to_owned() }
}

/// Returns the text without blanks, quotes and separators around it.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|letter: char| {
        letter.is_whitespace() || matches!(letter, '\u{feff}' | '"' | '\'' | '`' | ',' | ';' | '<' | '>')
    })
}

/// Decodes base64 in either alphabet, padded or not.
///
/// # Errors
/// It is neither.
pub(super) fn forgiving(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=').replace('+', "-").replace('/', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_in_whatever_was_copied_along() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJhIn0.c2lnbmF0dXJl";
        let (head, tail) = token.split_at(20);
        for text in [
            token.to_owned(),
            format!(" {token}\r\n"),
            format!("Bearer {token}"),
            format!("bearer\t{token}"),
            format!("\"{token}\""),
            format!("'{token}',"),
            format!("Authorization: Bearer {token}"),
            format!("authorization:{token}"),
            format!("Authorization: \"Bearer {token}\""),
            format!("\"Authorization\": \"Bearer {token}\","),
            format!("-H 'Authorization: Bearer {token}'").trim_start_matches("-H ").to_owned(),
            format!("X-User-Token: {token}"),
            format!("TOKEN={token}"),
            format!("client_assertion={token}"),
            format!("{head}\n{tail}"),
            format!("Bearer {head}\r\n    {tail}\r\n"),
            format!("{head}\\\n{tail}"),
            format!("{{\"token_type\":\"Bearer\",\"access_token\":\"{token}\"}}"),
            format!("\u{feff}{token}"),
        ] {
            assert_eq!(bare(&text), token, "{text:?}");
        }
        // Padding is part of the last word, and a word that is no token stays what it is.
        assert_eq!(bare("e30=.e30=.YQ=="), "e30=.e30=.YQ==");
        assert_eq!(bare("hello world"), "hello world");
        assert_eq!(bare(""), "");
    }
}

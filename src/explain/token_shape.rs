//! The form of what stands where a token is expected: enough to see what went wrong, and nothing of its content.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::token::FoundPlace;
use crate::{entra::read_object, offline::OfflineRequest};

/// The number of parts whose lengths are told.
const MOST_PARTS: usize = 6;

/// Describes what the request has in the first of these places that holds anything.
pub(super) fn presented(request: &OfflineRequest, places: &[FoundPlace]) -> Option<String> {
    places.iter().find_map(|place| match place {
        FoundPlace::Header(name, _) => {
            let value = request.values(name).next()?;
            Some(std::str::from_utf8(value).map_or_else(|_| format!("{} bytes that are no text", value.len()), in_header))
        }
        FoundPlace::Query(name) => {
            let query = request.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
            let mut parameters = url::form_urlencoded::parse(query.as_bytes());
            parameters.find(|(other, _)| other == name).map(|(_, value)| shape(&value))
        }
    })
}

fn in_header(value: &str) -> String {
    let value = value.trim();
    match value.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("bearer ") => shape(value[7..].trim()),
        _ => shape(value),
    }
}

/// Describes the form of a text. None of its letters are shown, since it may be a secret of another kind.
fn shape(text: &str) -> String {
    let parts: Vec<usize> = text.split('.').map(|part| part.chars().count()).collect();
    let lengths: Vec<String> = parts.iter().take(MOST_PARTS).map(usize::to_string).collect();
    let more = if parts.len() > MOST_PARTS { ", …" } else { "" };
    let parts = match parts.as_slice() {
        [0] => return "nothing".to_owned(),
        [length] => format!("1 part of {length} characters"),
        several => format!("{} parts of {}{more} characters", several.len(), lengths.join(", ")),
    };
    // All tokens begin so: it is the beginning of a JSON object.
    let begins = if text.starts_with("eyJ") { "begins with eyJ as tokens do" } else { "begins with *** and not with eyJ" };
    format!("{parts}; {begins}{}", remark(text).map(|remark| format!("; {remark}")).unwrap_or_default())
}

/// Returns the mistake that the form suggests.
fn remark(text: &str) -> Option<&'static str> {
    let object = |index: usize| {
        let part = text.split('.').nth(index).unwrap_or_default();
        URL_SAFE_NO_PAD.decode(part).is_ok_and(|bytes| read_object(&bytes).is_ok())
    };
    let lower = text.get(..7).map(str::to_ascii_lowercase);
    Some(match text.split('.').count() {
        _ if lower.as_deref() == Some("bearer ") => "the word Bearer stands before it twice",
        _ if text.starts_with(['"', '\'']) => "it is in quotation marks",
        _ if text.starts_with('$') || text.starts_with("{{") || text.starts_with('<') => {
            "it looks like a placeholder that was not filled in"
        }
        _ if text.contains(char::is_whitespace) => "it has spaces or line breaks within it",
        _ if text.contains('%') => "it is percent-encoded",
        _ if text.contains(['+', '/', '=']) => "it has characters of base64 that base64url does not have",
        5 => "5 parts are an encrypted token, which only its audience can read",
        1 if !text.starts_with("eyJ") => "it is no JSON Web Token: an opaque token, or a key",
        count if count < 3 => "it was cut off",
        count if count > 3 => "more parts than a signed token has",
        _ if !object(0) => "the first part is no JSON object in base64url",
        _ if !object(1) => "the second part is no JSON object in base64url",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_told_and_no_letter_of_a_secret() {
        let secret = "hunter2hunter2";
        for (value, expected) in [
            (
                "Bearer hunter2hunter2",
                "1 part of 14 characters; begins with *** and not with eyJ; it is no JSON Web Token: an opaque token, or a key",
            ),
            (
                "bearer Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
                "3 parts of 27, 3, 4 characters; begins with *** and not with eyJ; the word Bearer stands before it twice",
            ),
            ("Bearer eyJhbGciOiJSUzI1NiJ9.e30", "2 parts of 20, 3 characters; begins with eyJ as tokens do; it was cut off"),
            (
                "eyJhbGciOiJSUzI1NiJ9.hunter2hunter2.c2ln",
                "3 parts of 20, 14, 4 characters; begins with eyJ as tokens do; the second part is no JSON object in base64url",
            ),
            (
                "Bearer $TOKEN",
                "1 part of 6 characters; begins with *** and not with eyJ; it looks like a placeholder that was not filled in",
            ),
            (
                "Bearer a.b.c.d.e",
                "5 parts of 1, 1, 1, 1, 1 characters; begins with *** and not with eyJ; 5 parts are an encrypted token, which only its audience can read",
            ),
            (
                "Bearer ........",
                "9 parts of 0, 0, 0, 0, 0, 0, … characters; begins with *** and not with eyJ; more parts than a signed token has",
            ),
            ("", "nothing"),
        ] {
            let mut request = OfflineRequest::new("GET", "https://a.example/x", [192, 0, 2, 1].into()).unwrap();
            request.header("Authorization", value);

            let told = presented(&request, &[FoundPlace::preferred(None, None)]).unwrap();

            assert_eq!(told, expected, "{value}");
            assert!(!told.contains(secret) && !told.contains("TOKEN"), "{told}");
        }
    }

    #[test]
    fn the_first_place_that_holds_anything_is_told() {
        let mut request = OfflineRequest::new("GET", "https://a.example/x?t=a%2Eb", [192, 0, 2, 1].into()).unwrap();
        let places = [FoundPlace::preferred(Some("X-Token"), None), FoundPlace::Query("t".to_owned())];

        assert!(presented(&request, &places).unwrap().starts_with("2 parts of 1, 1"));
        request.header("X-Token", vec![0xff, 0xfe]);
        assert_eq!(presented(&request, &places).unwrap(), "2 bytes that are no text");
        assert_eq!(presented(&request, &[FoundPlace::Query("u".to_owned())]), None);
    }
}

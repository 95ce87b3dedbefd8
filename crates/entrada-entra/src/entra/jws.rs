//! Signed tokens in compact form (RFC 7515, section 7.1), parsed strictly.
//!
//! The size is checked first, and the payload is not read before its signature was verified.

use std::{cell::RefCell, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    algorithm::Algorithm,
    json::{NotStrict, read_object},
};

/// The longest accepted token, in bytes. Entra's stay below 16 KiB, group claims included.
pub(crate) const MAX_TOKEN_BYTES: usize = 32 << 10;
/// The longest header, decoded.
const MAX_HEADER_BYTES: usize = 4 << 10;
/// The longest key id.
const MAX_KEY_ID_BYTES: usize = 256;

/// A token split into its parts; nothing of it is verified.
pub(crate) struct Jws<'a> {
    /// The parsed header.
    pub(crate) header: Header,
    /// The signed bytes: the first two parts and the dot between them.
    pub(crate) signing_input: &'a [u8],
    /// The decoded payload. Read it only after the signature was verified.
    pub(crate) payload: Vec<u8>,
    /// The signature, decoded.
    pub(crate) signature: Vec<u8>,
}

/// The header of a token. `jku`, `jwk`, `x5u` and `x5c` are ignored: a token never chooses its own key.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// `alg`; `None` if it is absent or not supported, such as `none` and HMAC.
    pub(crate) algorithm: Option<Algorithm>,
    /// `kid`.
    pub(crate) key_id: Option<Arc<str>>,
}

/// The reason why a token cannot be read. Contains nothing of the token.
#[derive(Debug, thiserror::Error)]
pub enum JwsError {
    #[error("it has {0} bytes, more than {MAX_TOKEN_BYTES}")]
    TooLong(usize),
    #[error("the number of its parts is {0} and not 3")]
    Parts(usize),
    #[error("its {0} is not strict base64url")]
    Encoding(&'static str),
    #[error("its header has {0} bytes, more than {MAX_HEADER_BYTES}")]
    HeaderTooLong(usize),
    #[error("its header is {0}")]
    Header(#[from] NotStrict),
    #[error("the header member {0} has the wrong type")]
    MemberType(&'static str),
    #[error("the header member {0} is not accepted")]
    MemberRefused(&'static str),
    #[error("its type is not that of an access token")]
    Type,
    #[error("its key id has {0} bytes, more than {MAX_KEY_ID_BYTES}")]
    KeyIdTooLong(usize),
    #[error("it is empty")]
    EmptyPayload,
}

impl<'a> Jws<'a> {
    /// Splits a token into its parts, checking size, then form.
    ///
    /// # Errors
    /// Returns the first fault.
    pub(crate) fn read(token: &'a [u8]) -> Result<Self, JwsError> {
        // Size before all else, or splitting and decoding are the caller's to pay with.
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwsError::TooLong(token.len()));
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (first, second) = match (dots.next(), dots.next(), dots.count()) {
            (Some(first), Some(second), 0) => (first, second),
            (first, second, more) => {
                return Err(JwsError::Parts(1 + usize::from(first.is_some()) + usize::from(second.is_some()) + more));
            }
        };
        let known = Header::known(&token[..first]);
        let header = known.is_none().then(|| decode(&token[..first], "header")).transpose()?;
        let payload = decode(&token[first + 1..second], "payload")?;
        let signature = decode(&token[second + 1..], "signature")?;
        let header = match (known, header) {
            (Some(known), _) => known,
            (None, decoded) => Header::read(&decoded.unwrap_or_default())?.remembered(&token[..first]),
        };
        if payload.is_empty() {
            return Err(JwsError::EmptyPayload);
        }
        Ok(Self { header, signing_input: &token[..second], payload, signature })
    }
}

/// Decodes strict base64url: no padding, no foreign characters, no bits set beyond the end. RFC 7515, section 2.
fn decode(part: &[u8], what: &'static str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Encoding(what))
}

/// Reads a part of a token as one JSON object, without its signature; `None` if it is none, or longer than a token may be.
pub(super) fn read_part(part: &[u8]) -> Option<serde_json::Map<String, serde_json::Value>> {
    if part.len() > MAX_TOKEN_BYTES {
        return None;
    }
    read_object(&decode(part, "part").ok()?).ok()
}

/// Checks the form of a token, and its algorithm for a token of Entra, as far as that is possible without a key.
pub fn inspect_form(token: &[u8]) -> Result<(), String> {
    let jws = Jws::read(token).map_err(|error| error.to_string())?;
    match (jws.header.algorithm, &jws.header.key_id) {
        (None, _) => Err("its algorithm is none that is accepted".to_owned()),
        (Some(_), None) => Err("it names no key".to_owned()),
        (Some(_), Some(_)) => Ok(()),
    }
}

thread_local! {
    /// The last header that was read, in encoded form: tokens signed with one key usually share it.
    static LAST: RefCell<Option<(Box<[u8]>, Header)>> = const { RefCell::new(None) };
}

impl Header {
    /// Returns the header of this encoded form, if it is that of the last token.
    fn known(encoded: &[u8]) -> Option<Self> {
        LAST.with_borrow(|last| last.as_ref().filter(|(known, _)| **known == *encoded).map(|(_, header)| header.clone()))
    }

    fn remembered(self, encoded: &[u8]) -> Self {
        LAST.set(Some((encoded.into(), self.clone())));
        self
    }

    fn read(bytes: &[u8]) -> Result<Self, JwsError> {
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(JwsError::HeaderTooLong(bytes.len()));
        }
        let header = read_object(bytes)?;
        let text = |name: &'static str| match header.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(JwsError::MemberType(name)),
        };

        // RFC 7515, section 4.1.11: who understands no extension refuses all that must be understood. `b64` (RFC 7797) changes
        // what is signed, and `zip` would let a small token grow.
        for refused in ["crit", "b64", "zip"] {
            if header.contains_key(refused) {
                return Err(JwsError::MemberRefused(refused));
            }
        }
        // Entra says `JWT`; RFC 9068 says `at+jwt`. Whatever names itself something else (a proof, an ID token, a logout token) is
        // not taken for an access token.
        if let Some(kind) = text("typ")? {
            let accepted = ["JWT", "at+jwt", "application/at+jwt"];
            if !accepted.iter().any(|accepted| kind.eq_ignore_ascii_case(accepted)) {
                return Err(JwsError::Type);
            }
        }
        let key_id = text("kid")?;
        if let Some(length) = key_id.map(str::len).filter(|length| *length > MAX_KEY_ID_BYTES) {
            return Err(JwsError::KeyIdTooLong(length));
        }
        Ok(Self { algorithm: text("alg")?.and_then(Algorithm::named), key_id: key_id.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str) -> String {
        format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn reads_a_header_and_ignores_what_could_name_a_key() {
        let token =
            token(r#"{"alg":"RS256","kid":"k1","typ":"jwt","nonce":"n","jku":"https://x","jwk":{},"x5c":["AA"],"x5u":"u"}"#);

        let jws = Jws::read(token.as_bytes()).unwrap();

        assert_eq!(jws.header.algorithm, Some(Algorithm::Rs256));
        assert_eq!(jws.header.key_id.as_deref(), Some("k1"));
        assert_eq!(jws.payload, b"{}");
        assert_eq!(jws.signature, [0, 0, 0]);
        assert_eq!(jws.signing_input, &token.as_bytes()[..token.len() - 5]);
    }

    #[test]
    fn a_header_that_was_read_before_is_that_one_and_no_other() {
        let (one, other) = (token(r#"{"alg":"RS256","kid":"k1"}"#), token(r#"{"alg":"RS256","kid":"k2"}"#));
        for (text, key_id) in [(&one, "k1"), (&one, "k1"), (&other, "k2"), (&one, "k1")] {
            assert_eq!(Jws::read(text.as_bytes()).unwrap().header.key_id.as_deref(), Some(key_id));
        }

        // What is refused is not remembered, and refused again.
        let refused = token(r#"{"alg":"RS256","crit":["exp"]}"#);
        assert!(Jws::read(refused.as_bytes()).is_err() && Jws::read(refused.as_bytes()).is_err());
    }

    #[test]
    fn refuses_headers_that_ask_for_more_than_a_signature() {
        for (row, header, fits) in [
            ("plain", r#"{"alg":"RS256"}"#, true),
            ("access token type", r#"{"alg":"RS256","typ":"application/AT+jwt"}"#, true),
            ("critical extension", r#"{"alg":"RS256","crit":["exp"]}"#, false),
            ("empty critical list", r#"{"alg":"RS256","crit":[]}"#, false),
            ("unencoded payload", r#"{"alg":"RS256","b64":false}"#, false),
            ("compression", r#"{"alg":"RS256","zip":"DEF"}"#, false),
            ("a proof of possession", r#"{"alg":"RS256","typ":"pop"}"#, false),
            ("a logout token", r#"{"alg":"RS256","typ":"logout+jwt"}"#, false),
            ("type of a wrong type", r#"{"alg":"RS256","typ":1}"#, false),
            ("null type", r#"{"alg":"RS256","typ":null}"#, false),
            ("algorithm of a wrong type", r#"{"alg":["RS256"]}"#, false),
            ("key id of a wrong type", r#"{"alg":"RS256","kid":7}"#, false),
            ("algorithm twice", r#"{"alg":"RS256","alg":"RS256"}"#, false),
            ("no object", r#"["RS256"]"#, false),
        ] {
            assert_eq!(Jws::read(token(header).as_bytes()).is_ok(), fits, "{row}");
        }
    }

    #[test]
    fn knows_no_algorithm_without_a_public_key() {
        for name in ["none", "None", "nOnE", "", "HS256", "HS384", "HS512", "RS1", "rs256", "RSA-OAEP", "dir", "ES256K"] {
            let jws = token(&format!(r#"{{"alg":"{name}"}}"#));

            assert_eq!(Jws::read(jws.as_bytes()).unwrap().header.algorithm, None, "{name}");
        }
        assert_eq!(Jws::read(token("{}").as_bytes()).unwrap().header.algorithm, None);
    }

    #[test]
    fn bounds_sizes_before_reading() {
        let long_kid = |length| token(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(length)));
        let long_header = token(&format!(r#"{{"alg":"RS256","x":"{}"}}"#, "x".repeat(MAX_HEADER_BYTES)));

        assert!(Jws::read(long_kid(MAX_KEY_ID_BYTES).as_bytes()).is_ok());
        assert!(matches!(Jws::read(long_kid(MAX_KEY_ID_BYTES + 1).as_bytes()), Err(JwsError::KeyIdTooLong(257))));
        assert!(matches!(Jws::read(long_header.as_bytes()), Err(JwsError::HeaderTooLong(_))));
        assert!(matches!(Jws::read(&vec![b'.'; MAX_TOKEN_BYTES + 1]), Err(JwsError::TooLong(_))));
        assert!(matches!(Jws::read(&vec![b'.'; MAX_TOKEN_BYTES]), Err(JwsError::Parts(32_769))));
    }

    #[test]
    fn wants_three_parts_of_strict_base64url() {
        let good = token(r#"{"alg":"RS256"}"#);
        let head = good.split('.').next().unwrap().to_owned();
        for (row, text, fits) in [
            ("as it should be", good.clone(), true),
            ("no signature", format!("{head}.e30."), true),
            ("two parts", format!("{head}.e30"), false),
            ("five parts, encrypted", format!("{head}.e30.AAAA.AAAA.AAAA"), false),
            ("four parts", format!("{good}."), false),
            ("no header", ".e30.AAAA".to_owned(), false),
            ("no payload", format!("{head}..AAAA"), false),
            ("padding", format!("{head}.e30=.AAAA"), false),
            ("trailing bits", format!("{head}.e31.AAAA"), false),
            ("standard alphabet", format!("{head}.e30.AA+/"), false),
            ("space", format!("{head}.e30.AAAA "), false),
            ("line end", format!("{head}.e30.AAAA\n"), false),
            ("nothing", String::new(), false),
        ] {
            assert_eq!(Jws::read(text.as_bytes()).is_ok(), fits, "{row}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Jws::read(&bytes);
        }

        #[test]
        fn never_panics_on_three_parts(text in "[A-Za-z0-9_=+-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}") {
            let _ = Jws::read(text.as_bytes());
        }
    }
}

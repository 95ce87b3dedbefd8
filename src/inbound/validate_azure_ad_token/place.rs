//! The place of the token in a request.

use std::borrow::Cow;

use http::{HeaderName, header};
use percent_encoding::percent_decode_str;

use crate::request::{IncomingRequest, TOKEN_SCHEMES, TokenPlace};

/// The places in which a policy looks, in order of preference.
#[derive(Debug)]
pub(super) struct Places(Vec<TokenPlace>);

/// A fault of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("one place of the request holds two tokens")]
    Ambiguous,
    #[error("the token's place holds no token")]
    NoToken,
}

/// A token, and its place.
pub(super) type Found<'a, 'b> = (Cow<'a, [u8]>, &'b TokenPlace);

/// The content of one place.
enum Content<'a> {
    Nothing,
    Token(Cow<'a, [u8]>),
}

impl Places {
    pub(super) const fn new(places: Vec<TokenPlace>) -> Self {
        Self(places)
    }

    /// Returns the token of the most preferred place that has one, and that place.
    pub(super) fn find<'a>(&self, incoming: &'a IncomingRequest) -> Result<Option<Found<'a, '_>>, PlaceError> {
        for place in &self.0 {
            let content = match place {
                TokenPlace::Header(name) => in_header(incoming, name)?,
                TokenPlace::Query(name) => in_query(incoming.target.query.as_deref().unwrap_or_default(), name)?,
            };
            if let Content::Token(token) = content {
                return Ok(Some((token, place)));
            }
        }
        Ok(None)
    }
}

/// Returns the token in a header. `Authorization` needs the Bearer scheme (or that of certificate-bound tokens); with another
/// scheme it holds no token of ours (RFC 9110, section 11.6.2). Other fields hold the token with or without the scheme.
fn in_header<'a>(incoming: &'a IncomingRequest, name: &HeaderName) -> Result<Content<'a>, PlaceError> {
    let mut values = incoming.headers.get_all(name).iter();
    let Some(value) = values.next().map(http::HeaderValue::as_bytes) else { return Ok(Content::Nothing) };
    // RFC 9110, section 5.3: a comma joins two lines of one field. No token and no scheme holds one.
    if values.next().is_some() || memchr::memchr(b',', value).is_some() {
        return Err(PlaceError::Ambiguous);
    }
    match (strip_scheme(value), name == header::AUTHORIZATION) {
        (Some([]), _) => Err(PlaceError::NoToken),
        (Some(token), _) => Ok(Content::Token(token.into())),
        (None, true) => Ok(Content::Nothing),
        (None, false) if value.is_empty() => Ok(Content::Nothing),
        (None, false) => Ok(Content::Token(value.into())),
    }
}

/// Returns the text after the scheme, if it is one of ours: compared case-insensitively, one space or more (RFC 9110, section
/// 11.4).
fn strip_scheme(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    let ours = TOKEN_SCHEMES.iter().any(|ours| scheme.eq_ignore_ascii_case(ours.as_bytes()));
    ours.then(|| rest.trim_ascii_start())
}

fn in_query<'a>(query: &'a str, name: &str) -> Result<Content<'a>, PlaceError> {
    let mut found = Content::Nothing;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !percent_decode_str(key).eq(name.bytes()) {
            continue;
        }
        if matches!(found, Content::Token(_)) {
            return Err(PlaceError::Ambiguous);
        }
        found = Content::Token(percent_decode_str(value).into());
    }
    match found {
        Content::Token(token) if token.is_empty() => Err(PlaceError::NoToken),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::testing::request;

    fn header(name: &'static str) -> TokenPlace {
        TokenPlace::Header(HeaderName::from_static(name))
    }

    #[test]
    fn finds_the_token_in_each_kind_of_place() {
        let both = || vec![header("authorization2"), header("authorization"), TokenPlace::Query("access_token".into())];
        let ambiguous = Err(PlaceError::Ambiguous);
        let empty = Err(PlaceError::NoToken);
        for (row, headers, query, expected) in [
            ("nothing", &[][..], None, Ok(None)),
            ("scheme", &[("authorization", "Bearer a.b.c")], None, Ok(Some("a.b.c"))),
            ("scheme, another case", &[("authorization", "bEARER a.b.c")], None, Ok(Some("a.b.c"))),
            ("of a bound token", &[("authorization", "MTLS_PoP a.b.c")], None, Ok(Some("a.b.c"))),
            ("of a signed request", &[("authorization", "PoP a.b.c")], None, Ok(None)),
            ("more spaces", &[("authorization", "Bearer   a.b.c")], None, Ok(Some("a.b.c"))),
            ("bare in Authorization", &[("authorization", "a.b.c")], None, Ok(None)),
            ("another scheme", &[("authorization", "Basic eDp5")], None, Ok(None)),
            ("a longer scheme", &[("authorization", "BearerToken a.b.c")], None, Ok(None)),
            ("scheme alone", &[("authorization", "Bearer")], None, empty),
            ("two lines", &[("authorization", "Bearer a"), ("authorization", "Bearer b")], None, ambiguous),
            ("one of two is no token", &[("authorization", "Basic a"), ("authorization", "Bearer b")], None, ambiguous),
            ("joined by a comma", &[("authorization", "Bearer a, Bearer b")], None, ambiguous),
            ("bare", &[("authorization2", "a.b.c")], None, Ok(Some("a.b.c"))),
            ("with scheme", &[("authorization2", "bearer a.b.c")], None, Ok(Some("a.b.c"))),
            ("preferred", &[("authorization", "Bearer x"), ("authorization2", "a.b.c")], None, Ok(Some("a.b.c"))),
            ("preferred is empty", &[("authorization", "Bearer x"), ("authorization2", "")], None, Ok(Some("x"))),
            ("query", &[], Some("x=1&access_token=a.b.c"), Ok(Some("a.b.c"))),
            ("query, escaped", &[], Some("acces%73_token=a%2Eb.c"), Ok(Some("a.b.c"))),
            ("query, last", &[("authorization", "Bearer x")], Some("access_token=a.b.c"), Ok(Some("x"))),
            ("query, another name", &[], Some("access_token2=a&Access_Token=b"), Ok(None)),
            ("query, twice", &[], Some("access_token=a&access_token=b"), ambiguous),
            ("query, empty", &[], Some("access_token="), empty),
            ("query, name alone", &[], Some("access_token"), empty),
        ] {
            let request = request(headers, query);

            let places = Places::new(both());
            let found = places.find(&request);

            let found = found.map(|found| found.map(|(token, _)| String::from_utf8(token.into_owned()).unwrap()));
            assert_eq!(found, expected.map(|token: Option<&str>| token.map(str::to_owned)), "{row}");
        }
    }

    #[test]
    fn borrows_a_token_that_needs_no_decoding() {
        let request = request(&[("authorization", "Bearer a.b.c")], None);

        let places = Places::new(vec![header("authorization")]);
        let found = places.find(&request).unwrap();

        assert!(matches!(found, Some((Cow::Borrowed(_), _))));
    }
}

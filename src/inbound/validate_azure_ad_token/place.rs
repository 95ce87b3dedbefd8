//! The place of the token in a request.

use std::borrow::Cow;

use crate::request::{IncomingRequest, PlaceError, TokenPlace};

/// The places in which a policy looks, in order of preference.
#[derive(Debug)]
pub(super) struct Places(Vec<TokenPlace>);

/// A token, and its place.
pub(super) type Found<'a, 'b> = (Cow<'a, [u8]>, &'b TokenPlace);

impl Places {
    pub(super) const fn new(places: Vec<TokenPlace>) -> Self {
        Self(places)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, TokenPlace> {
        self.0.iter()
    }

    /// Returns the token of the most preferred place that has one, and that place.
    pub(super) fn find<'a>(&self, incoming: &'a IncomingRequest) -> Result<Option<Found<'a, '_>>, PlaceError> {
        for place in &self.0 {
            if let Some(token) = place.read(incoming)? {
                return Ok(Some((token, place)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::request::testing::request;

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
            ("another scheme with commas", &[("authorization", "Digest username=\"a\", realm=\"b\", qop=auth")], None, Ok(None)),
            ("a scheme with commas and a token", &[("authorization", "Digest username=\"a\", Bearer b")], None, ambiguous),
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

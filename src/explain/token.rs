//! The tokens of a described request: where they are, what they say, and the same request with other ones.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{entra::read_object, offline::OfflineRequest};

/// A token in a request, as it reads. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FoundToken {
    pub(crate) place: FoundPlace,
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
}

/// The place of a token in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundPlace {
    /// A header field, and the scheme before the token, with its space; empty for none.
    Header(String, String),
    /// A query parameter.
    Query(String),
}

impl FoundPlace {
    /// Returns the place in words.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Header(name, _) => name.clone(),
            Self::Query(name) => format!("the query parameter {name}"),
        }
    }

    /// Returns the place where a policy with these settings prefers a token.
    pub(crate) fn preferred(header: Option<&str>, query: Option<&str>) -> Self {
        match (header, query) {
            (Some(name), _) if !name.eq_ignore_ascii_case("authorization") => Self::Header(name.to_owned(), String::new()),
            (None, Some(name)) => Self::Query(name.to_owned()),
            _ => Self::Header("Authorization".to_owned(), "Bearer ".to_owned()),
        }
    }

    /// Puts a token into this place of a request, instead of what is there; `None` removes it.
    pub(crate) fn put(&self, request: &mut OfflineRequest, token: Option<&str>) {
        match self {
            Self::Header(name, scheme) => {
                request.set_header(name, token.map(|token| format!("{scheme}{token}")).as_deref());
            }
            Self::Query(name) => request.target = with_parameter(&request.target, name, token),
        }
    }
}

/// Finds the tokens of a request: what looks like a signed token, in any header field or query parameter.
pub(crate) fn tokens_of(request: &OfflineRequest) -> Vec<FoundToken> {
    let headers = request.headers.iter().filter_map(|(name, value)| {
        let text = std::str::from_utf8(value).ok()?.trim();
        let (scheme, token) = match text.split_once(' ') {
            Some((scheme, token)) => (format!("{scheme} "), token.trim()),
            None => (String::new(), text),
        };
        let (header, claims) = read(token)?;
        Some(FoundToken { place: FoundPlace::Header(name.clone(), scheme), header, claims })
    });
    let query = request.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let parameters = url::form_urlencoded::parse(query.as_bytes()).filter_map(|(name, value)| {
        let (header, claims) = read(&value)?;
        Some(FoundToken { place: FoundPlace::Query(name.into_owned()), header, claims })
    });
    headers.chain(parameters).collect()
}

/// Reads the header and the claims of a token in compact form.
pub(crate) fn read(token: &str) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let mut parts = token.split('.');
    let mut part = || read_object(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok();
    let (header, claims) = (part()?, part()?);
    (parts.count() == 1 && header.contains_key("alg")).then_some((header, claims))
}

fn with_parameter(target: &str, name: &str, value: Option<&str>) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_it = |pair: &str| {
        let written = pair.split_once('=').map_or(pair, |(written, _)| written);
        url::form_urlencoded::parse(written.as_bytes()).next().is_some_and(|(written, _)| written == name)
    };
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty() && !is_it(pair)).map(str::to_owned).collect();
    pairs.extend(value.map(|value| url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()));
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", part("{\"alg\":\"RS256\"}"), part(claims))
    }

    #[test]
    fn tokens_are_found_in_headers_and_parameters_and_replaced_there() {
        let url = format!("https://a.example/x?b=1&access_token={}&c", token("{\"sub\":\"query\"}"));
        let mut request = OfflineRequest::new("GET", &url, [192, 0, 2, 1].into()).unwrap();
        request.header("Authorization", format!("Bearer {}", token("{\"sub\":\"header\"}")));
        request.header("X-Version", "1.2.3");

        let found = tokens_of(&request);
        let subjects: Vec<_> = found.iter().map(|token| token.claims["sub"].as_str().unwrap()).collect();
        assert_eq!(subjects, ["header", "query"]);

        found[0].place.put(&mut request, Some("new"));
        found[1].place.put(&mut request, None);
        assert_eq!(request.values("authorization").collect::<Vec<_>>(), [b"Bearer new"]);
        assert_eq!(request.target, "/x?b=1&c");
    }
}

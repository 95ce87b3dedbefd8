//! Questions in the five fields that Traefik, Caddy and nginx share: `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For`.
//!
//! The rest of the question's header is the request's own. Each of the five is the proxy's, who overwrites what a client sends by that
//! name.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, Method, Version, header, uri::PathAndQuery};

use super::{
    changes::is_of_the_connection,
    question::{Head, Question, QuestionFault, host, method, scheme, single, target},
};
use crate::base::fields::{Fields, Known, Name, Value};

const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// The path of questions.
pub(super) const PATH: &str = "/decide";

/// The fields by which other kinds of proxies ask.
pub(super) static FOREIGN: [HeaderName; 8] = [
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-auth-request-redirect"),
    HeaderName::from_static("x-sent-from"),
    header::FORWARDED,
];

/// Reads a question, whose query was judged.
pub(super) fn question(head: Head) -> Result<Question, QuestionFault> {
    let Head { method: asked_with, uri, mut headers, .. } = head;
    if uri.path() != PATH {
        return Err(QuestionFault::NoQuestion("GET /decide"));
    }
    if let Some(name) = FOREIGN.iter().find(|name| headers.names().any(|other| other == **name)) {
        return Err(QuestionFault::Foreign(name.clone()));
    }
    let method = method(single(&headers, &METHOD, "method")?.as_bytes())?;
    // A proxy may ask with the method of the request itself.
    if asked_with != Method::GET && asked_with != method {
        return Err(QuestionFault::NoQuestion("GET /decide"));
    }
    let scheme = scheme(single(&headers, Known::XForwardedProto, "scheme")?.as_bytes())?;
    let host = host(single(&headers, Known::XForwardedHost, "host")?.to_header_value())?;
    let target = written_target(&headers)?;
    let source = take_source(&mut headers)?;
    own(&mut headers);
    Ok(Question {
        method,
        target,
        host,
        scheme,
        version: Version::HTTP_11,
        headers,
        source,
        certificate: None,
        server_name: None,
    })
}

/// Reads the target of the request.
pub(super) fn written_target(headers: &Fields) -> Result<PathAndQuery, QuestionFault> {
    target(single(headers, &URI, "target")?.as_bytes())
}

/// Takes the nearest hop out of `X-Forwarded-For`: the address that connected to the proxy. The rest is what that peer said.
pub(super) fn take_source(headers: &mut Fields) -> Result<SocketAddr, QuestionFault> {
    let line = single(headers, Known::XForwardedFor, "source")?;
    let text = line.to_str().map_err(|_| QuestionFault::Source)?;
    let (rest, nearest) = text.rsplit_once(',').map_or(("", text), |(rest, nearest)| (rest.trim_end(), nearest));
    let address: IpAddr = nearest.trim().parse().map_err(|_| QuestionFault::Source)?;
    match HeaderValue::from_str(rest) {
        Ok(rest) if !rest.is_empty() => headers.insert(Known::XForwardedFor, &rest),
        _ => headers.remove(Known::XForwardedFor),
    }
    Ok(SocketAddr::new(address.to_canonical(), 0))
}

/// Returns whether a field is the question's, and not the request's own.
fn is_asked(field: Name<'_>) -> bool {
    matches!(field.known(), Known::XForwardedProto | Known::XForwardedHost) || field == METHOD || field == URI
}

/// Leaves of a question's header what is the request's own. Whether that asks for a WebSocket stays.
pub(super) fn own(headers: &mut Fields) {
    let names = |value: Value<'_>, wanted: &str| {
        value.as_bytes().split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    let upgrade = headers.get_all(Known::Upgrade).any(|value| names(value, "websocket"))
        && headers.get_all(Known::Connection).any(|value| names(value, "upgrade"));
    headers.remove_if(|field| is_of_the_connection(field) || is_asked(field));
    if upgrade {
        headers.insert(Known::Connection, Value::visible(b"upgrade"));
        headers.insert(Known::Upgrade, Value::visible(b"websocket"));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes the head of a question to this target, with these fields.
    pub(in super::super) fn asked(target: &str, fields: &[(&str, &str)]) -> Head {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into()
    }

    pub(in super::super) const FIVE: [(&str, &str); 5] = [
        ("x-forwarded-method", "POST"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.contoso.example"),
        ("x-forwarded-uri", "/orders/1?a=b,c"),
        ("x-forwarded-for", "203.0.113.7"),
    ];

    fn with(more: &[(&str, &str)]) -> Head {
        asked("/decide", &[&FIVE, more].concat())
    }

    fn without(name: &str, more: &[(&str, &str)]) -> Head {
        let four: Vec<_> = FIVE.into_iter().filter(|(other, _)| *other != name).collect();
        asked("/decide", &[&*four, more].concat())
    }

    #[test]
    fn a_question_is_the_request_that_the_proxy_received() {
        let question = question(with(&[
            ("host", "127.0.0.1:9191"),
            ("authorization", "Bearer a.b.c"),
            ("connection", "close"),
            ("content-length", "0"),
            ("accept", "*/*"),
        ]))
        .unwrap();

        assert_eq!(question.method, Method::POST);
        assert_eq!((question.target.as_str(), question.host.to_str().unwrap()), ("/orders/1?a=b,c", "api.contoso.example"));
        assert_eq!(question.source.to_string(), "203.0.113.7:0");
        let mut names: Vec<_> = question.headers.names().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization"]);
    }

    #[test]
    fn each_of_the_five_stands_there_exactly_once() {
        for (name, value) in FIVE {
            assert!(matches!(question(without(name, &[])), Err(QuestionFault::Missing(_))), "{name}");
            assert!(matches!(question(with(&[(name, value)])), Err(QuestionFault::Repeated(_))), "{name}");
        }
    }

    #[test]
    fn what_two_values_were_merged_into_is_refused() {
        for (name, value) in [
            ("x-forwarded-method", "GET,POST"),
            ("x-forwarded-proto", "https,http"),
            ("x-forwarded-host", "a.example,b.example"),
            ("x-forwarded-uri", "https://api.contoso.example/orders"),
            ("x-forwarded-uri", "orders"),
            ("x-forwarded-for", "unknown"),
            ("x-forwarded-for", "203.0.113.7,"),
            ("x-forwarded-for", "203.0.113.7:443"),
        ] {
            assert!(question(without(name, &[(name, value)])).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn another_kind_of_question_is_refused_and_not_read() {
        for name in &FOREIGN {
            let fault = question(with(&[(name.as_str(), "/admin")])).unwrap_err();
            assert!(matches!(fault, QuestionFault::Foreign(found) if found == name));
        }
        assert!(matches!(question(asked("/other", &FIVE)), Err(QuestionFault::NoQuestion(_))));
        let mut deletes = with(&[]);
        deletes.method = Method::DELETE;
        assert!(matches!(question(deletes), Err(QuestionFault::NoQuestion(_))));
        let mut preserved = with(&[]);
        preserved.method = Method::POST;
        assert!(question(preserved).is_ok(), "the method of the request itself");
    }

    #[test]
    fn the_nearest_hop_is_the_source_and_the_others_are_what_it_said() {
        let question =
            question(without("x-forwarded-for", &[("x-forwarded-for", "192.0.2.1, 198.51.100.2 ,::ffff:10.0.0.1")])).unwrap();

        assert_eq!(question.source.ip().to_string(), "10.0.0.1");
        assert_eq!(question.headers.lines(), ["x-forwarded-for: 192.0.2.1, 198.51.100.2"]);
    }

    #[test]
    fn a_websocket_stays_one() {
        let question = question(with(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])).unwrap();

        assert_eq!(question.headers.lines(), ["connection: upgrade", "upgrade: websocket"]);
    }
}

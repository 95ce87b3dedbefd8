//! `Forwarded`, RFC 7239.
//!
//! The whole line must be well-formed: a part that a client wrote can open a quotation that swallows what a proxy appended, but
//! then the proxy's own quotation marks, or the end of the line, break the grammar.

use std::borrow::Cow;

use super::hop::HopFault;

/// The entry of one hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// The client of the hop (`for`).
    pub(super) node: Option<Cow<'a, str>>,
    /// The scheme of the request to the hop.
    pub(super) proto: Option<Cow<'a, str>>,
    /// The requested host.
    pub(super) host: Option<Cow<'a, str>>,
    /// True if a parameter occurs twice, which section 4 forbids.
    pub(super) repeats: bool,
}

/// Returns the elements of one line, the first hop first.
pub(super) fn elements(line: &[u8]) -> Result<Vec<Element<'_>>, HopFault> {
    let text = std::str::from_utf8(line).map_err(|_| HopFault::Malformed)?;
    let mut rest = text;
    let mut elements = vec![Element::default()];
    loop {
        rest = skip_blanks(rest);
        rest = match rest.as_bytes().first() {
            None => return Ok(elements),
            Some(b',') => {
                elements.push(Element::default());
                &rest[1..]
            }
            Some(b';') => &rest[1..],
            Some(_) => {
                let element = elements.last_mut().ok_or(HopFault::Malformed)?;
                let after = skip_blanks(pair(rest, element)?);
                if !after.is_empty() && !after.starts_with([',', ';']) {
                    return Err(HopFault::Malformed);
                }
                after
            }
        };
    }
}

/// Reads `name=value`; returns the remaining text.
fn pair<'a>(text: &'a str, element: &mut Element<'a>) -> Result<&'a str, HopFault> {
    let (name, rest) = token(text)?;
    let rest = rest.strip_prefix('=').ok_or(HopFault::Malformed)?;
    let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
        unquote(quoted)?
    } else {
        let (value, rest) = token(rest)?;
        (Cow::Borrowed(value), rest)
    };
    let slot = match name {
        name if name.eq_ignore_ascii_case("for") => &mut element.node,
        name if name.eq_ignore_ascii_case("proto") => &mut element.proto,
        name if name.eq_ignore_ascii_case("host") => &mut element.host,
        _ => return Ok(rest),
    };
    element.repeats |= slot.replace(value).is_some();
    Ok(rest)
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Reads a token: RFC 9110, section 5.6.2.
fn token(text: &str) -> Result<(&str, &str), HopFault> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    if end == 0 { Err(HopFault::Malformed) } else { Ok(text.split_at(end)) }
}

/// Returns the text before the closing quotation mark and the text after it. RFC 9110, section 5.6.4.
fn unquote(text: &str) -> Result<(Cow<'_, str>, &str), HopFault> {
    let mut value = Cow::Borrowed("");
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\']).ok_or(HopFault::Malformed)?;
        let (plain, marked) = rest.split_at(at);
        if value.is_empty() {
            value = Cow::Borrowed(plain)
        } else {
            value.to_mut().push_str(plain)
        }
        if let Some(after) = marked.strip_prefix('"') {
            return Ok((value, after));
        }
        let mut escaped = marked[1..].chars();
        value.to_mut().push(escaped.next().ok_or(HopFault::Malformed)?);
        rest = escaped.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(line: &str) -> Result<Vec<Option<String>>, HopFault> {
        Ok(elements(line.as_bytes())?.into_iter().map(|element| element.node.map(Cow::into_owned)).collect())
    }

    #[test]
    fn reads_the_forms_of_the_rfc() {
        for (line, expected) in [
            ("for=192.0.2.43", &[Some("192.0.2.43")][..]),
            ("For=\"[2001:db8:cafe::17]:4711\"", &[Some("[2001:db8:cafe::17]:4711")]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", &[Some("192.0.2.60")]),
            ("for=192.0.2.43, for=198.51.100.17", &[Some("192.0.2.43"), Some("198.51.100.17")]),
            ("for=_hidden, for=_SEVKISEK", &[Some("_hidden"), Some("_SEVKISEK")]),
            ("by=203.0.113.43 ,\tFOR=unknown", &[None, Some("unknown")]),
            ("for=192.0.2.1;;proto=https;", &[Some("192.0.2.1")]),
            ("for=192.0.2.1; proto=https ; host=a", &[Some("192.0.2.1")]),
            ("for=\"a\\\"b\\\\c\\,\"", &[Some("a\"b\\c,")]),
            ("secret=\"a, for=192.0.2.9\";for=192.0.2.1", &[Some("192.0.2.1")]),
            ("", &[None]),
            ("for=192.0.2.1,", &[Some("192.0.2.1"), None]),
            (",for=192.0.2.1", &[None, Some("192.0.2.1")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|node| node.map(str::to_owned)).collect();
            assert_eq!(nodes(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn takes_scheme_and_host_from_each_hop() {
        let line = b"for=192.0.2.1;proto=HTTPS;host=\"a.example:8443\", for=192.0.2.2;PROTO=http;by=203.0.113.1;secret=b";

        let elements = elements(line).unwrap();

        assert_eq!(elements[0].proto.as_deref(), Some("HTTPS"));
        assert_eq!(elements[0].host.as_deref(), Some("a.example:8443"));
        assert_eq!((elements[1].proto.as_deref(), elements[1].host.as_deref()), (Some("http"), None));
        assert!(elements.iter().all(|element| !element.repeats));
    }

    #[test]
    fn refuses_what_the_grammar_does_not_know() {
        for line in [
            "for",
            "for=",
            "=192.0.2.1",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1 for=192.0.2.2",
            "for=192.0.2.1:80",
            "for=[2001:db8::1]",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\\"",
            "for=\"a\"b",
            "for=\"a\"\"b\"",
            "for=a\"b\"",
            "192.0.2.1",
            "for:192.0.2.1",
            "for=\u{e9}",
            "\"",
            "for=(a)",
        ] {
            assert_eq!(nodes(line), Err(HopFault::Malformed), "{line}");
        }
        assert_eq!(elements(b"for=\xFF"), Err(HopFault::Malformed));
    }

    #[test]
    fn notices_a_parameter_that_occurs_twice() {
        for line in ["for=192.0.2.1;for=192.0.2.2", "for=a;FOR=b", "proto=http;proto=https", "host=a;host=a"] {
            assert!(elements(line.as_bytes()).unwrap()[0].repeats, "{line}");
        }
    }
}

//! The pattern of a route, read from its config.

use http::Method;

use super::MatchConfig;
use crate::{
    connection::Authority,
    request::Target,
    settings::{Faults, Lint, Place},
};

/// The maximum number of segments in a route's path.
const MAX_SEGMENTS: usize = 32;

/// The methods of a route without `methods`.
const DEFAULT_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The registered methods (IANA, HTTP Method Registry), except those that are never served.
const METHODS: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// The pattern of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Never empty.
    pub(super) hosts: Vec<Host>,
    /// The segments, in order.
    pub(super) segments: Vec<Segment>,
    /// True if nothing may follow.
    pub(super) exact: bool,
    /// Never empty; GET includes HEAD.
    pub(super) methods: Vec<Method>,
}

/// The pattern of a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    /// Exactly this host.
    Exact(Box<str>),
    /// Any single label below this domain.
    Below(Box<str>),
    /// Any host.
    Any,
}

/// The pattern of a path segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly this segment.
    Literal(Box<str>),
    /// Any non-empty segment, captured under this name.
    Capture(Box<str>),
}

impl Pattern {
    /// Reads the pattern of a route; `None` if faults keep it from being read.
    pub(super) fn read(config: &MatchConfig, place: &Place, faults: &mut Faults) -> Option<Self> {
        let hosts = hosts(&config.hosts, &place.key("hosts"), faults);
        let methods = methods(&config.methods, &place.key("methods"), faults);
        let (path, exact, place) = match (&config.path, &config.exact_path) {
            (Some(path), None) => (path.as_str(), false, place.key("path")),
            (None, Some(path)) => (path.as_str(), true, place.key("exact-path")),
            (None, None) => ("/", false, place.clone()),
            (Some(_), Some(_)) => {
                faults.error(&place.key("exact-path"), "a route has `path` or `exact-path`, not both", "keep one of them");
                return None;
            }
        };
        let segments = segments(path, exact, &place, faults);
        Some(Self { hosts: hosts?, segments: segments?, exact, methods: methods? })
    }

    /// Returns the literal segments, in the order of the path.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(text) => Some(&**text),
            Segment::Capture(_) => None,
        })
    }

    /// Returns whether the literals are spelled as in the other pattern.
    pub(super) fn is_spelled_as(&self, other: &Self) -> bool {
        self.literals().eq(other.literals())
    }

    /// Returns the names of the captures, in the order of the path.
    pub(super) fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }
}

fn hosts(written: &[String], place: &Place, faults: &mut Faults) -> Option<Vec<Host>> {
    let before = faults.errors();
    let mut hosts = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let place = place.index(index);
        let Some(host) = host(text, &place, faults) else { continue };
        if hosts.contains(&host) {
            faults.warning(Lint::ListedTwice, &place, format!("`{text}` is listed already"), "leave it out");
        } else {
            hosts.push(host);
        }
    }
    if written.is_empty() {
        hosts.push(Host::Any);
    }
    (faults.errors() == before).then_some(hosts)
}

fn host(text: &str, place: &Place, faults: &mut Faults) -> Option<Host> {
    if text == "*" {
        faults.error(place, "`*` is not a host", "leave `hosts` out for any host");
        return None;
    }
    let (name, wildcard) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
    match Authority::read(name.as_bytes()) {
        Ok(authority) if authority.port.is_some() => {
            faults.error(
                place,
                format!("`{text}` has a port, which routes do not look at"),
                format!("write `{}`", authority.host),
            );
            None
        }
        // `*.0.2.1` and `*.[::1]` are no names.
        Ok(authority) if wildcard && !authority.host.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            faults.error(place, format!("`{text}` is not a host"), "write `*.` and a name, as in `*.contoso.example`");
            None
        }
        Ok(authority) if wildcard => Some(Host::Below((*authority.host).into())),
        Ok(authority) => Some(Host::Exact((*authority.host).into())),
        Err(_) if !text.is_ascii() => {
            faults.error(
                place,
                format!("`{text}` is not as hosts are sent"),
                "write the name in ASCII, as in `xn--bcher-kva.example`",
            );
            None
        }
        Err(_) if text.contains("://") => {
            let (_, rest) = text.split_once("://").unwrap_or_default();
            let name = rest.split(['/', ':']).next().unwrap_or_default();
            faults.error(place, format!("`{text}` is a URL and no host"), format!("write `{name}`"));
            None
        }
        Err(fault) => {
            let cure = "write a name as `api.contoso.example` or `*.contoso.example`, or an address";
            faults.error(place, format!("`{text}` is not a host: {fault}"), cure);
            None
        }
    }
}

fn methods(written: &[String], place: &Place, faults: &mut Faults) -> Option<Vec<Method>> {
    let before = faults.errors();
    let mut methods = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let place = place.index(index);
        if matches!(text.to_ascii_uppercase().as_str(), "TRACE" | "TRACK" | "CONNECT") {
            faults.error(&place, format!("`{text}` is never served"), "leave it out");
            continue;
        }
        let known = METHODS.contains(&text.as_str()).then(|| Method::from_bytes(text.as_bytes()).ok()).flatten();
        let Some(method) = known else {
            let upper = text.to_ascii_uppercase();
            let near = METHODS.iter().find(|method| **method == upper || strsim::damerau_levenshtein(method, &upper) == 1);
            let cure = near.map_or_else(
                || "write one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, or another registered one".into(),
                |method| format!("write `{method}`"),
            );
            faults.error(&place, format!("`{text}` is not a method"), cure);
            continue;
        };
        if methods.contains(&method) {
            faults.warning(Lint::ListedTwice, &place, format!("`{text}` is listed already"), "leave it out");
        } else {
            methods.push(method);
        }
    }
    if written.is_empty() {
        methods.extend(DEFAULT_METHODS);
    }
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        methods.push(Method::HEAD);
    }
    (faults.errors() == before).then_some(methods)
}

fn segments(path: &str, exact: bool, place: &Place, faults: &mut Faults) -> Option<Vec<Segment>> {
    let before = faults.errors();
    let Some(inner) = path.strip_prefix('/') else {
        let cure = if path.starts_with(['~', '^']) || path.contains(['(', '$', '\\', '+']) {
            "patterns are not matched: write the path that they begin with, and `{name}` for any one segment".to_owned()
        } else {
            format!("write `/{path}`")
        };
        faults.error(place, format!("`{path}` does not begin with `/`"), cure);
        return None;
    };
    if !exact && inner.is_empty() {
        return Some(Vec::new());
    }
    if !exact && inner.ends_with('/') {
        let cure = format!("write `{}`, which also matches all below it", path.trim_end_matches('/'));
        faults.error(place, format!("`{path}` ends with `/`"), cure);
        return None;
    }
    let mut segments: Vec<Segment> = Vec::new();
    for (index, text) in inner.split('/').enumerate() {
        if text.contains("{*") || text == "{rest}" {
            let before = inner.split('/').take(index).fold(String::new(), |before, text| format!("{before}/{text}"));
            let before = if before.is_empty() { "/".to_owned() } else { before };
            faults.error(
                place,
                format!("`{text}` stands for what follows, which a `path` matches by itself"),
                format!("write `path: {before}`"),
            );
            continue;
        }
        let Some(segment) = segment(text, place, faults) else { continue };
        if matches!(&segment, Segment::Capture(_)) && segments.contains(&segment) {
            faults.error(place, format!("`{text}` captures twice"), "give each capture its own name");
        }
        segments.push(segment);
    }
    if segments.len() > MAX_SEGMENTS {
        faults.error(place, format!("the path has more than {MAX_SEGMENTS} segments"), "match a shorter one");
    }
    (faults.errors() == before).then_some(segments)
}

fn segment(text: &str, place: &Place, faults: &mut Faults) -> Option<Segment> {
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            faults.error(
                place,
                format!("`{text}` is not a name for a capture"),
                "use lower case letters and `_`, as in `{person}`",
            );
            return None;
        }
        return Some(Segment::Capture(name.into()));
    }
    if text.contains(['{', '}']) {
        faults.error(place, format!("`{text}`: a capture is a whole segment"), "write `/{name}/`");
        return None;
    }
    if text.contains('?') {
        faults.error(place, "a route's path has no query", "leave out what follows `?`");
        return None;
    }
    // Requests are compared in their canonical form: a path in any other would never match.
    match Target::read(format!("/{text}")) {
        Ok(target) if target.path[1..] == *text => Some(Segment::Literal(text.into())),
        Ok(target) => {
            faults.error(place, format!("`{text}` is not as paths are compared"), format!("write `{}`", &target.path[1..]));
            None
        }
        Err(fault) => {
            faults.error(place, format!("`{text}` can never match: {fault}"), "write the path as clients are to send it");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> (Option<Pattern>, Vec<String>) {
        let mut faults = Faults::default();
        let pattern = Pattern::read(&crate::settings::testing::part(yaml), &Place::root().key("match"), &mut faults);
        (pattern, faults.iter().map(|fault| format!("{:?} {}: {}", fault.severity, fault.place, fault.message)).collect())
    }

    #[test]
    fn reads_hosts_paths_and_methods() {
        let (pattern, faults) = read(
            "{ hosts: [API.contoso.example., '*.fabrikam.example', 192.0.2.1, '[2001:DB8::1]'], path: '/people/{person}/mail', methods: [GET, REPORT] }",
        );

        assert!(faults.is_empty(), "{faults:?}");
        let pattern = pattern.unwrap();
        assert_eq!(
            pattern.hosts,
            [
                Host::Exact("api.contoso.example".into()),
                Host::Below("fabrikam.example".into()),
                Host::Exact("192.0.2.1".into()),
                Host::Exact("[2001:db8::1]".into())
            ]
        );
        assert_eq!(
            pattern.segments,
            [Segment::Literal("people".into()), Segment::Capture("person".into()), Segment::Literal("mail".into())]
        );
        assert_eq!(pattern.methods.iter().map(Method::as_str).collect::<Vec<_>>(), ["GET", "REPORT", "HEAD"]);
        assert_eq!(pattern.captures().collect::<Vec<_>>(), ["person"]);
    }

    #[test]
    fn nothing_written_matches_any_host_and_path() {
        let (pattern, faults) = read("{}");

        let pattern = pattern.unwrap();
        assert!(faults.is_empty());
        assert_eq!((pattern.hosts.as_slice(), pattern.segments.len(), pattern.exact), (&[Host::Any][..], 0, false));
        assert_eq!(pattern.methods, DEFAULT_METHODS);
    }

    #[test]
    fn an_exact_path_keeps_its_slash() {
        for (yaml, segments) in
            [("{ exact-path: / }", &[""][..]), ("{ exact-path: /a/ }", &["a", ""]), ("{ exact-path: /a }", &["a"])]
        {
            let expected: Vec<_> = segments.iter().map(|text| Segment::Literal((*text).into())).collect();
            assert_eq!(read(yaml).0.unwrap().segments, expected, "{yaml}");
        }
    }

    #[test]
    fn each_fault_has_its_place_and_reason() {
        for (yaml, fault) in [
            ("{ hosts: ['*'] }", "Error match.hosts[0]: `*` is not a host"),
            (
                "{ hosts: [a.example, 'a.example:443'] }",
                "Error match.hosts[1]: `a.example:443` has a port, which routes do not look at",
            ),
            ("{ hosts: ['https://a.example'] }", "Error match.hosts[0]: `https://a.example` is a URL and no host"),
            (
                "{ hosts: ['a.*.example'] }",
                "Error match.hosts[0]: `a.*.example` is not a host: the host is neither a name nor an address in canonical form",
            ),
            ("{ hosts: ['*.192.0.2.1'] }", "Error match.hosts[0]: `*.192.0.2.1` is not a host"),
            ("{ hosts: [bücher.example] }", "Error match.hosts[0]: `bücher.example` is not as hosts are sent"),
            (
                "{ hosts: [''] }",
                "Error match.hosts[0]: `` is not a host: the host is neither a name nor an address in canonical form",
            ),
            ("{ hosts: [a.example, A.example] }", "Warning match.hosts[1]: `A.example` is listed already"),
            ("{ methods: [get] }", "Error match.methods[0]: `get` is not a method"),
            ("{ methods: [GET, GETT] }", "Error match.methods[1]: `GETT` is not a method"),
            ("{ methods: [TRACE] }", "Error match.methods[0]: `TRACE` is never served"),
            ("{ methods: [connect] }", "Error match.methods[0]: `connect` is never served"),
            ("{ methods: [GET, GET] }", "Warning match.methods[1]: `GET` is listed already"),
            ("{ path: /a, exact-path: /a }", "Error match.exact-path: a route has `path` or `exact-path`, not both"),
            ("{ path: orders }", "Error match.path: `orders` does not begin with `/`"),
            ("{ path: '' }", "Error match.path: `` does not begin with `/`"),
            ("{ path: /orders/ }", "Error match.path: `/orders/` ends with `/`"),
            ("{ path: /a/../b }", "Error match.path: `..` can never match: the path contains a dot segment"),
            ("{ path: '/a b' }", "Error match.path: `a b` can never match: the target contains a control character or a space"),
            ("{ path: '/%6Frders' }", "Error match.path: `%6Frders` is not as paths are compared"),
            ("{ path: '/%c3%a9' }", "Error match.path: `%c3%a9` is not as paths are compared"),
            ("{ path: /é }", "Error match.path: `é` is not as paths are compared"),
            ("{ path: '/a?b=c' }", "Error match.path: a route's path has no query"),
            ("{ path: '/{Person}' }", "Error match.path: `{Person}` is not a name for a capture"),
            ("{ path: '/{}' }", "Error match.path: `{}` is not a name for a capture"),
            ("{ path: '/{rest}' }", "Error match.path: `{rest}` stands for what follows, which a `path` matches by itself"),
            ("{ path: '/a{b}' }", "Error match.path: `a{b}`: a capture is a whole segment"),
            ("{ path: '/{a}/{a}' }", "Error match.path: `{a}` captures twice"),
        ] {
            let (pattern, faults) = read(yaml);
            assert_eq!(faults, [fault], "{yaml}");
            assert_eq!(pattern.is_none(), fault.starts_with("Error"), "{yaml}");
        }
    }
}

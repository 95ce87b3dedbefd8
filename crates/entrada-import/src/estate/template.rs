//! Templates of operations: `/items/{id}?version={v}`.

use std::collections::BTreeMap;

use crate::{
    expression::scope::Parameters,
    names::{capture_name, unique},
};

/// A template, as a route matches it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RoutePath {
    /// The path of the route below the API's.
    pub(crate) path: String,
    /// Whether nothing may follow.
    pub(crate) is_exact: bool,
    /// The path for the backend.
    pub(crate) rewrite: String,
    /// Segments of which a parameter is only a part.
    pub(crate) partial: Vec<String>,
}

/// Reads a template.
pub(crate) fn read(template: &str) -> (RoutePath, Parameters) {
    let (path, query) = template.split_once('?').unwrap_or((template, ""));
    let mut parameters = Parameters::default();
    let mut route = RoutePath { is_exact: true, ..RoutePath::default() };
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if segment == "*" || segment.starts_with("{*") {
            route.is_exact = false;
            continue;
        }
        match (segment.find('{'), segment.rfind('}')) {
            (Some(0), Some(end)) if end + 1 == segment.len() && segment.matches('{').count() == 1 => {
                let name = segment[1..end].trim();
                let capture = unique_capture(&parameters.captures, name);
                route.path.push_str(&format!("/{{{capture}}}"));
                parameters.captures.insert(name.to_owned(), capture);
            }
            (Some(_), Some(_)) => {
                let capture = unique_capture(&parameters.captures, segment);
                route.path.push_str(&format!("/{{{capture}}}"));
                parameters.captures.insert(segment.to_owned(), capture);
                route.partial.push(segment.to_owned());
            }
            _ => {
                route.path.push('/');
                route.path.push_str(&literal(segment));
            }
        }
    }
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let name = part.split_once('=').map_or(part, |(name, _)| name);
        parameters.query.insert(name.to_owned());
    }
    route.rewrite = if route.is_exact { route.path.clone() } else { "{rest}".to_owned() };
    if route.is_exact && route.path.is_empty() {
        route.path = "/".to_owned();
        route.rewrite = "/".to_owned();
    }
    if !route.is_exact {
        route.rewrite = format!("{}{{rest}}", route.path);
    }
    (route, parameters)
}

/// Returns the names of parameters that a document reads, in the order of their first use.
pub(crate) fn read_by(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if is_name && !names.iter().any(|own| own == name) {
            names.push(name.to_owned());
        }
    };
    for part in text.split("MatchedParameters").skip(1) {
        let part = part.trim_start_matches(|letter: char| letter.is_whitespace());
        let begin = ["[", ".GetValueOrDefault(", ".ContainsKey(", ".GetValueOrDefault<string>("]
            .iter()
            .find_map(|mark| part.strip_prefix(*mark));
        let Some(rest) = begin else { continue };
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("&quot;").or_else(|| rest.strip_prefix('"'));
        if let Some(rest) = rest {
            add(rest.split(['"', '&']).next().unwrap_or_default());
        }
    }
    for part in text.split("<rewrite-uri").skip(1) {
        let Some(template) = part.split("template=\"").nth(1).and_then(|rest| rest.split('"').next()) else { continue };
        if template.trim_start().starts_with('@') {
            continue;
        }
        let template = template.replace("{{", "\u{0}").replace("}}", "\u{0}").replace("${", "\u{1}");
        let mut rest = template.as_str();
        while let Some(at) = rest.find(['{', '\u{0}', '\u{1}']) {
            let is_hole = rest[at..].starts_with('{');
            let is_template = rest[at..].starts_with('\u{1}');
            let inner = &rest[at + 1..];
            let end = inner.find(if is_hole || is_template { '}' } else { '\u{0}' });
            let Some(end) = end else { break };
            if is_hole {
                add(inner[..end].trim_start_matches('*').trim());
            }
            rest = &inner[end + 1..];
        }
    }
    names
}

/// Returns the captures for names.
pub(crate) fn captures(names: &[String]) -> Parameters {
    let mut parameters = Parameters::default();
    for name in names {
        let capture = unique_capture(&parameters.captures, name);
        parameters.captures.insert(name.clone(), capture);
    }
    parameters
}

fn unique_capture(captures: &BTreeMap<String, String>, name: &str) -> String {
    // `unique` counts in digits, which no capture has.
    let wanted = capture_name(name);
    let found = unique(&wanted, |candidate| captures.values().any(|own| *own == capture_name(candidate)));
    capture_name(&found)
}

/// Escapes what a path cannot hold.
pub(crate) fn literal(segment: &str) -> String {
    let mut escaped = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_become_paths_with_captures() {
        for (template, path, is_exact, rewrite) in [
            ("/items/{id}", "/items/{id}", true, "/items/{id}"),
            ("items/{walletId}/x", "/items/{wallet_id}/x", true, "/items/{wallet_id}/x"),
            ("/", "/", true, "/"),
            ("/*", "", false, "{rest}"),
            ("/a/{*rest}", "/a", false, "/a{rest}"),
            ("/a?q={q}&v=1", "/a", true, "/a"),
            ("/file-{id}.json", "/{file_id_json}", true, "/{file_id_json}"),
        ] {
            let (route, _) = read(template);
            assert_eq!((&*route.path, route.is_exact, &*route.rewrite), (path, is_exact, rewrite), "{template}");
        }
        let (_, parameters) = read("/a/{id-2}/{Id2}?q={q}");
        assert_eq!(parameters.captures["id-2"], "id_two");
        assert_ne!(parameters.captures["Id2"], parameters.captures["id-2"]);
        assert!(parameters.query.contains("q"));
    }

    #[test]
    fn the_parameters_that_a_document_reads_are_found() {
        let text = r#"<when condition="@(context.Request.MatchedParameters["a-b"] == context.Request.MatchedParameters.GetValueOrDefault("c", ""))">
            <rewrite-uri template="/x/{d}/{{named}}/${hole}?e={e}" />@(context.Request.MatchedParameters.ContainsKey(&quot;f&quot;))"#;
        assert_eq!(read_by(text), ["a-b", "c", "f", "d", "e"]);
    }
}

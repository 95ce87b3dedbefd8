//! The routes that a request did not take, and why.

use http::Method;
use serde::Serialize;

use crate::{
    config::Document,
    offline::Outcome,
    refusal::Reason,
    request::{Ambiguities, Target},
    route::{MatchConfig, Matching, RouteConfig, RouteTable},
    settings::{Faults, Place},
};

/// The number of routes that are told of.
const MOST: usize = 4;

/// A route that a request did not take.
#[derive(Clone, Debug, Serialize)]
pub struct RouteConsidered {
    /// The route's name.
    pub name: String,
    /// The reason.
    pub why_not: String,
}

/// Returns the nearest routes that the request did not take.
pub(super) fn considered(document: &Document, outcome: &Outcome, (host, path): (&str, &str)) -> Vec<RouteConsidered> {
    let method = outcome.incoming.as_ref().map_or(Method::GET, |incoming| incoming.method.clone());
    let Ok(target) = Target::read(path) else { return Vec::new() };
    let taken = outcome.route_index.and_then(|index| document.config.routes.get(index));
    let mut near: Vec<_> =
        document.config.routes.iter().enumerate().filter(|(index, _)| Some(*index) != outcome.route_index).collect();
    near.sort_by_key(|(_, route)| std::cmp::Reverse(likeness(&route.matches, host, path)));
    let near = near.into_iter().filter(|(_, route)| likeness(&route.matches, host, path) > 1).take(MOST);
    near.map(|(_, route)| RouteConsidered {
        name: route.name.clone(),
        why_not: why_not(route, taken, (host, &target, &method), outcome),
    })
    .collect()
}

/// Returns why a route was not taken, by asking a table that has it alone.
fn why_not(
    route: &RouteConfig,
    taken: Option<&RouteConfig>,
    (host, target, method): (&str, &Target, &Method),
    outcome: &Outcome,
) -> String {
    let alone = |config: &MatchConfig| {
        let matching =
            Matching { name: &route.name, config, at: (Place::root(), "match"), folds: false, accepts: Ambiguities::NONE };
        let table = RouteTable::build([matching], &mut Faults::default());
        table.find_for(host, target, method).map_err(|refusal| refusal.reason)
    };
    let hosts = || route.matches.hosts.join(", ");
    match alone(&route.matches) {
        Ok(_) => match taken {
            Some(taken) if route.matches.hosts.is_empty() && !taken.matches.hosts.is_empty() => {
                format!("it is for any host, and {} names this one", taken.name)
            }
            Some(taken) if written(&route.matches) != written(&taken.matches) => {
                format!("{} is closer to the path than {}", written(&taken.matches), written(&route.matches))
            }
            Some(taken) => format!("{} names the host or the method more exactly", taken.name),
            None if outcome.reason == Some(Reason::NoRoute) => {
                "the host is named by other routes, which alone serve it".to_owned()
            }
            None => "the request was refused before a route was looked for".to_owned(),
        },
        Err(Reason::MethodNotAllowed) => format!("it takes {}", route.matches.methods.join(", ")),
        Err(_) => {
            let any_host = MatchConfig { hosts: Vec::new(), ..route.matches.clone() };
            match alone(&any_host) {
                Err(Reason::NoRoute) => format!("{} is another path", written(&route.matches)),
                _ => format!("it is for {}", hosts()),
            }
        }
    }
}

/// Returns the path of a route as written.
fn written(matches: &MatchConfig) -> String {
    match (&matches.exact_path, &matches.path) {
        (Some(path), _) => format!("{path} alone"),
        (None, Some(path)) => path.clone(),
        (None, None) => "/".to_owned(),
    }
}

/// Returns how much a route's match resembles a request: more for each segment of the path, and for the host.
pub(super) fn likeness(matches: &MatchConfig, host: &str, path: &str) -> usize {
    let written = matches.exact_path.as_deref().or(matches.path.as_deref()).unwrap_or("/");
    let mut own = path.split('/').filter(|segment| !segment.is_empty());
    let mut shared = 0;
    for segment in written.split('/').filter(|segment| !segment.is_empty()) {
        match own.next() {
            Some(other) if segment.starts_with('{') || segment.eq_ignore_ascii_case(other) => shared += 1,
            _ => break,
        }
    }
    let same_host = |named: &String| {
        named.eq_ignore_ascii_case(host)
            || named
                .strip_prefix("*.")
                .is_some_and(|below| host.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(below)))
    };
    let by_host = match matches.hosts.as_slice() {
        [] => 1,
        hosts if hosts.iter().any(same_host) => 2,
        _ => 0,
    };
    shared * 2 + by_host
}

/// Returns a path that a pattern matches.
pub(super) fn filled(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| if segment.starts_with('{') { "1" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(yaml: &str) -> MatchConfig {
        crate::settings::testing::part(yaml)
    }

    #[test]
    fn routes_are_near_by_their_segments_and_hosts() {
        let orders = matches("{ hosts: [api.contoso.example], path: /orders }");
        let notes = matches("{ path: \"/orders/{id}/notes\" }");
        let other = matches("{ hosts: [\"*.fabrikam.example\"], path: /reports }");

        let near = |matches: &MatchConfig| likeness(matches, "api.contoso.example", "/orders/17");
        assert!(
            near(&notes) > near(&orders) && near(&orders) > near(&other),
            "{} {} {}",
            near(&notes),
            near(&orders),
            near(&other)
        );
        assert_eq!(near(&other), 0);
        assert_eq!(filled("/orders/{id}/notes"), "/orders/1/notes");
    }
}

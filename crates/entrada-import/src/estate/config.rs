//! The whole config.

use super::{model::Subscription, routes::BuiltRoute};
use crate::{
    elements::{Authorization, Shared, Upstream, flow::refusal_item},
    names::identifier,
    output::{
        Item, Writer, Yaml,
        fragments::Fragments,
        map, text,
        yaml::{flow, quoted_key},
    },
};

/// Writes the config; returns its text, and the place of each policy.
pub(crate) fn write(routes: &[BuiltRoute], fragments: &Fragments, shared: &Shared) -> (String, Vec<(String, usize)>) {
    let mut body = Writer::default();
    let mut bottom = String::new();
    self::routes(routes, &mut body);
    let (routes_text, mut places) = body.finish();
    bottom.push_str(&routes_text);
    let mut lists = Writer::default();
    write_fragments(fragments, shared, &mut lists);
    let (fragments_text, more) = lists.finish();
    places.extend(more);
    let mut top = Writer::default();
    top.line(0, "# Imported from API Management; report.md says what is the same and what is not.");
    top.line(0, "# The comment behind a policy is the place of the original.");
    top.line(0, "listeners:");
    top.line(2, "- { name: public, address: \"127.0.0.1:8080\" }");
    let used = format!("{fragments_text}{routes_text}");
    let upstreams = upstreams(shared, &used);
    let credentials = credentials(shared, &used);
    let everything = format!("{used}{upstreams}{credentials}{}", others(shared));
    named_values(shared, &everything, &mut top);
    let (top, _) = top.finish();
    let text = format!("{top}{}{credentials}{upstreams}{fragments_text}{bottom}", others(shared));
    (text, places)
}

fn named_values(shared: &Shared, everything: &str, out: &mut Writer) {
    let entries = shared.named.entries(everything);
    if entries.is_empty() {
        return;
    }
    out.line(0, "named-values:");
    for (name, value, comment) in entries {
        let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
        out.line(2, &format!("{}: {}{comment}", quoted_key(&name), flow(&value)));
    }
}

/// Writes tenants and issuers.
fn others(shared: &Shared) -> String {
    let mut out = Writer::default();
    for (section, entries) in [("tenants", &shared.tenants), ("issuers", &shared.issuers)] {
        if !entries.is_empty() {
            out.line(0, &format!("{section}:"));
            entries.iter().for_each(|(name, value)| out.entry(2, name, value));
        }
    }
    out.finish().0
}

fn credentials(shared: &Shared, used: &str) -> String {
    let mut out = Writer::default();
    let mut credentials: Vec<(String, Yaml)> = shared
        .credentials
        .iter()
        .filter(|(name, _)| used.contains(&format!("credential: {name},")))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if shared.named.uses_vault() && !credentials.iter().any(|(name, _)| name == "managed-identity") {
        credentials.push(("managed-identity".to_owned(), map([("managed-identity", Yaml::Map(Vec::new()))])));
    }
    if !credentials.is_empty() {
        out.line(0, "credentials:");
        credentials.iter().for_each(|(name, value)| out.entry(2, name, value));
    }
    out.finish().0
}

fn upstreams(shared: &Shared, used: &str) -> String {
    let mut out = Writer::default();
    out.line(0, "upstreams:");
    for (name, upstream) in &shared.upstreams {
        let is_used = [format!("upstream: {name}\n"), format!("upstream: {name} }}"), format!("'{name}'")]
            .iter()
            .any(|mark| used.contains(mark));
        if is_used || used.contains(&format!("[{name}")) || used.contains(&format!(", {name}")) {
            out.entry(2, name, &settings(upstream));
        }
    }
    out.finish().0
}

/// Returns the settings of an upstream.
fn settings(upstream: &Upstream) -> Yaml {
    let servers = upstream.servers.iter().map(|server| text(server.clone())).collect();
    let mut entries = vec![("servers".to_owned(), Yaml::List(servers))];
    if let Some(host) = &upstream.host {
        entries.push(("host".to_owned(), text(host.clone())));
    }
    if let Some(protocol) = upstream.protocol {
        entries.push(("protocol".to_owned(), text(protocol)));
    }
    entries.push(("timeouts".to_owned(), map([("response", text(format!("{}s", upstream.timeout)))])));
    if let Some((attempts, when)) = &upstream.retries {
        let when = when.iter().map(|condition| text(condition.clone())).collect();
        entries.push(("retries".to_owned(), map([("attempts", Yaml::Plain(attempts.to_string())), ("when", Yaml::List(when))])));
    }
    if let Some((failures, time)) = &upstream.ejection {
        let value = map([("consecutive-failures", Yaml::Plain(failures.to_string())), ("for", text(time.clone()))]);
        entries.push(("ejection".to_owned(), value));
    }
    Yaml::Map(entries)
}

fn write_fragments(fragments: &Fragments, shared: &Shared, out: &mut Writer) {
    if fragments.lists.is_empty() && shared.missing_fragments.is_empty() {
        return;
    }
    out.line(0, "fragments:");
    for (name, items) in &fragments.lists {
        out.policies(2, name, items, &format!("/fragments/{name}"));
    }
    for name in shared.missing_fragments.iter().filter(|name| !fragments.lists.contains_key(*name)) {
        let comment = "the fragment was not among the documents: write its policies here";
        let item = if name.ends_with("-outbound") { refused_answer(comment) } else { refusal_item(usize::MAX, comment) };
        out.policies(2, name, &[item], &format!("/fragments/{name}"));
    }
}

/// Returns the policy that stands for a fragment of answers that nobody has.
fn refused_answer(comment: &str) -> Item {
    let value = map([("status", Yaml::Plain("502".to_owned())), ("body", text("A rule of this API was not imported."))]);
    Item::Policy { name: "return-response".to_owned(), value, origin: usize::MAX, comment: comment.to_owned() }
}

fn routes(routes: &[BuiltRoute], out: &mut Writer) {
    out.line(0, "routes:");
    for (index, route) in routes.iter().enumerate() {
        let pointer = format!("/routes/{index}");
        out.line(2, &format!("# {}", route.comment));
        if !route.absorbed.is_empty() {
            out.line(2, &format!("# one route for {}", several(&route.operations)));
        }
        out.line(2, &format!("- name: {}", flow(&text(route.name.clone()))));
        out.line(4, &format!("match: {}", flow(&route.matches())));
        if route.is_anonymous {
            out.line(4, "anonymous: true");
        }
        if route.require_tls {
            out.line(4, "require-tls: true");
        }
        lists(route, &pointer, out);
        let authorization = match &route.authorization {
            Authorization::Keep => text("keep"),
            Authorization::Remove => text("remove"),
            Authorization::Set(value) => value.clone(),
        };
        out.line(4, &format!("authorization: {}", flow(&authorization)));
        if let Some(origin) = route.authorization_origin {
            out.places.push((format!("{pointer}/authorization"), origin));
        }
        out.line(4, &format!("upstream: {}", route.upstream));
        // What the operations of their own say became the same entries.
        for absorbed in &route.absorbed {
            let mut same = Writer::default();
            lists(absorbed, &pointer, &mut same);
            out.places.append(&mut same.finish().1);
        }
    }
}

/// Writes the lists of a route.
fn lists(route: &BuiltRoute, pointer: &str, out: &mut Writer) {
    for (key, items) in [("inbound", &route.inbound), ("outbound", &route.outbound), ("on-error", &route.on_error)] {
        out.policies(4, key, items, &format!("{pointer}/{key}"));
    }
}

/// Lists the operations of a route, the first of them by name.
fn several(operations: &[String]) -> String {
    const NAMED: usize = 6;
    let named = operations[..operations.len().min(NAMED)].join(", ");
    match operations.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Returns the names of the partners that subscriptions become.
pub(crate) fn partner_names(subscriptions: &[Subscription]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for subscription in subscriptions {
        let name = crate::names::unique(&identifier(&subscription.name, "partner"), |name| names.iter().any(|own| own == name));
        names.push(name);
    }
    names
}

/// Writes the partners that subscriptions become, to be filled in.
pub(crate) fn partners(subscriptions: &[Subscription]) -> Option<String> {
    if subscriptions.is_empty() {
        return None;
    }
    let mut out = Writer::default();
    for line in [
        "# The subscriptions, as partners. Keys cannot be exported, and are known here by their SHA-256 alone:",
        "#   printf %s \"$KEY\" | sha256sum",
        "# Fill in the digests or the applications of each, remove the comment signs, and write",
        "# `include: [partners.yaml]` into entrada.yaml.",
        "# partners:",
    ] {
        out.line(0, line);
    }
    for (subscription, name) in subscriptions.iter().zip(partner_names(subscriptions)) {
        let mut entries = vec![("enabled".to_owned(), Yaml::Plain(subscription.is_active.to_string()))];
        if !subscription.owner.is_empty() {
            entries.push(("owner".to_owned(), text(subscription.owner.clone())));
        }
        out.line(0, &format!("#   {name}:  # {}", subscription.scope));
        for (key, value) in &entries {
            out.line(0, &format!("#     {key}: {}", flow(value)));
        }
        out.line(0, "#     api-keys: [ { sha256: \"\" } ]");
        out.line(0, "#     # client-application-ids: []");
    }
    Some(out.finish().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_are_written_as_comments() {
        let subscription =
            Subscription { name: "Fabrikam Ltd".into(), owner: "a@b".into(), is_active: false, scope: "products/gold".into() };
        let text = partners(&[subscription.clone(), subscription]).expect("partners");
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
        assert!(text.contains("#   fabrikam-ltd:  # products/gold") && text.contains("#   fabrikam-ltd-2:"), "{text}");
        assert_eq!(partners(&[]), None);
    }
}

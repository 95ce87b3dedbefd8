//! `mode` beside a policy: `- { any-of: […], mode: report-only }` is read as if it stood within the settings, or as an entry of
//! `report-only` where a policy's settings are a list or a name.

use crate::settings::node::{Key, Kind, Node};

const MODE: &str = "mode";
const REPORT_ONLY: &str = "report-only";

/// Moves each `mode` that stands beside a policy of the document to where it is read.
pub(super) fn move_modes(document: &mut Node) {
    let Kind::Map(sections) = &mut document.kind else { return };
    for (section, value) in sections {
        match (section.text.as_str(), &mut value.kind) {
            ("inbound", _) => in_list(value),
            ("fragments", Kind::Map(fragments)) => fragments.iter_mut().for_each(|(_, list)| in_list(list)),
            ("routes", Kind::List(routes)) => {
                for route in routes {
                    let Kind::Map(settings) = &mut route.kind else { continue };
                    settings.iter_mut().filter(|(key, _)| key.text == "inbound").for_each(|(_, list)| in_list(list));
                }
            }
            _ => {}
        }
    }
}

fn in_list(list: &mut Node) {
    let Kind::List(policies) = &mut list.kind else { return };
    for policy in policies {
        move_mode(policy);
        let Kind::Map(entries) = &mut policy.kind else { continue };
        for (name, settings) in entries {
            match (name.text.as_str(), &mut settings.kind) {
                (REPORT_ONLY, _) => in_list(settings),
                ("any-of", Kind::List(lists)) => lists.iter_mut().for_each(in_list),
                ("choose", Kind::List(branches)) => branches.iter_mut().for_each(in_branch),
                _ => {}
            }
        }
    }
}

fn in_branch(branch: &mut Node) {
    let Kind::Map(settings) = &mut branch.kind else { return };
    settings.iter_mut().filter(|(key, _)| matches!(key.text.as_str(), "do" | "otherwise")).for_each(|(_, list)| in_list(list));
}

fn move_mode(policy: &mut Node) {
    let Kind::Map(entries) = &mut policy.kind else { return };
    let Some(at) = entries.iter().position(|(key, _)| key.text == MODE).filter(|_| entries.len() == 2) else { return };
    let (key, mode) = entries.remove(at);
    let Some((name, settings)) = entries.first_mut() else { return };
    match (&mut settings.kind, mode.as_text()) {
        (Kind::Map(inner), _) if inner.iter().all(|(key, _)| key.text != MODE) => inner.push((key, mode)),
        (Kind::Null, _) => settings.kind = Kind::Map(vec![(key, mode)]),
        (Kind::List(_) | Kind::Text(_), Some("enforce")) => {}
        (Kind::List(_) | Kind::Text(_), Some(REPORT_ONLY)) => {
            let name = Key { text: REPORT_ONLY.to_owned(), at: name.at.clone() };
            let inner = Node::new(Kind::Map(std::mem::take(entries)), policy.at.clone());
            *entries = vec![(name, Node::new(Kind::List(vec![inner]), policy.at.clone()))];
        }
        // Anything else is a fault where it stands.
        _ => entries.insert(at, (key, mode)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::yaml;

    #[test]
    fn a_mode_beside_a_policy_is_as_one_within_it() {
        for (written, read) in [
            ("ip-filter: { action: allow }, mode: report-only", "ip-filter: { action: allow, mode: report-only }"),
            ("mode: report-only, check-partner: ", "check-partner: { mode: report-only }"),
            ("any-of: [ [ { a: {} } ] ], mode: report-only", "report-only: [ { any-of: [ [ { a: {} } ] ] } ]"),
            ("include-fragment: staff, mode: report-only", "report-only: [ { include-fragment: staff } ]"),
            ("any-of: [ [ { a: {}, mode: report-only } ] ]", "any-of: [ [ { a: { mode: report-only } } ] ]"),
            (
                "choose: [ { otherwise: [ { a: {}, mode: enforce } ] } ]",
                "choose: [ { otherwise: [ { a: { mode: enforce } } ] } ]",
            ),
            ("any-of: [], mode: enforce", "any-of: []"),
            ("any-of: [], mode: reportonly", "any-of: [], mode: reportonly"),
            ("a: { mode: enforce }, mode: report-only", "a: { mode: enforce }, mode: report-only"),
        ] {
            for frame in ["inbound: [ { @ } ]", "fragments: { f: [ { @ } ] }", "routes: [ { name: r, inbound: [ { @ } ] } ]"] {
                let read_as = |text: &str| yaml::read(&frame.replace('@', text), 0, &mut Vec::new(), &mut Vec::new());
                let mut document = read_as(written);

                move_modes(&mut document);

                assert_eq!(document.to_json(), read_as(read).to_json(), "{written}");
            }
        }
    }
}

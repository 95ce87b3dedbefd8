//! Values that no report shows: secrets, and whatever stands under a key that nobody knows, which may be one under a mistyped name.

use super::Walk;
use crate::{
    config::{forms::pick, named_values::is_expression, schema::Shape},
    settings::{
        node::{Key, Kind, Node},
        origin::Origin,
        parts::{Part, parts},
    },
};

impl Walk<'_> {
    /// Hides the value of a setting for secrets, whatever it contains. The name of a named value is shown, and so is an
    /// expression where one is allowed.
    pub(super) fn hide_secret(&mut self, node: &Node, key: Option<&Origin>, secret: Shape<'_>, shape: Shape<'_>) {
        // Each entry of a list of secrets is seen by itself.
        if let Kind::List(entries) = &node.kind
            && pick(shape, "array").is_some()
            && entries.iter().all(|entry| matches!(entry.kind, Kind::Text(_)))
        {
            return;
        }
        // A map that is another form of the setting, as `{ file: … }`, says where the secret is: each of its entries is seen by itself.
        if let Kind::Map(entries) = &node.kind
            && let Some(map) = pick(shape, "object")
            && !entries.is_empty()
            && entries.iter().all(|(key, _)| map.property(&key.text).is_some())
        {
            return;
        }
        let text = &self.sources.get(node.at.file).text;
        let bare = text.get(node.at.start..node.at.end).unwrap_or_default().trim_matches(['"', '\'']);
        let is_name = !bare.is_empty() && parts(bare).iter().all(|part| matches!(part, Part::Name { .. }));
        let is_shown = is_name || secret.is_also_plain() && is_expression(bare);
        if let Kind::Text(text) = &node.kind
            && !text.names_secret
            && !secret.is_also_plain()
        {
            self.sources.keep_secret(&text.value);
        }
        if !is_shown {
            self.hide(node, key);
        }
    }

    /// Hides a value together with everything between it and its key: a tag or an anchor may be a secret that begins with `!` or
    /// `&`.
    pub(super) fn hide(&mut self, node: &Node, key: Option<&Origin>) {
        let mut parts = Vec::new();
        node.each_part(&mut |origin| parts.push(origin.clone()));
        let own = parts.iter().filter(|part| part.file == node.at.file && part.start >= node.at.start);
        let mut whole = node.at.clone();
        whole.end = own.map(|part| part.end).max().unwrap_or(whole.end).max(whole.end);
        if let Some(key) = key.filter(|key| key.file == whole.file) {
            let text = &self.sources.get(key.file).text;
            let behind = text.get(key.end..).unwrap_or_default();
            let start = key.end + behind.find(':').map_or(0, |at| at + 1);
            if matches!(node.kind, Kind::Null) {
                // An empty value stands somewhere behind its key, and what is left of the line may be meant as one.
                whole.end = start + behind[start - key.end..].find('\n').unwrap_or(behind.len() + key.end - start);
            }
            whole.start = start.min(whole.start);
            whole.end = whole.end.max(whole.start);
        }
        parts.push(whole);
        parts.into_iter().for_each(|part| self.sources.hide(part));
    }

    /// Hides the values of keys that nobody knows: any of them may be a secret under a mistyped name.
    pub(super) fn hide_all(&mut self, entries: &[(Key, Node)]) {
        entries.iter().for_each(|(key, value)| self.hide(value, Some(&key.at)));
    }
}

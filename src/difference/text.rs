//! A difference for people.

use std::fmt::Write as _;

use super::report::{Change, Difference, Group, Verdict};
use crate::explain::Position;

impl Difference {
    /// Writes the difference as a text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", self.summary());
        for change in [Change::Gain, Change::Loss] {
            for (number, group) in self.of(change).enumerate() {
                let _ = write!(text, "\n{}", group.to_text(number + 1));
            }
        }
        if !self.treatment.is_empty() {
            text.push_str("\nSAME CALLERS, OTHER TREATMENT\n");
            for treatment in &self.treatment {
                let _ = writeln!(text, "   {:<12} {}", treatment.route, treatment.in_words());
            }
        }
        let _ = writeln!(text, "\nNOT COMPARED  {}", listed(&self.not_compared));
        if self.unknown.is_empty() {
            let _ = writeln!(text, "UNKNOWN       none{}", if self.complete { "" } else { " in what was compared" });
        } else {
            text.push_str("UNKNOWN\n");
            for unknown in &self.unknown {
                let _ = writeln!(text, "   {}  {}", unknown.place, unknown.why);
            }
        }
        for why in &self.cut_short {
            let _ = writeln!(text, "NOT COMPLETE  {why}");
        }
        text
    }

    /// Returns the result in one line.
    pub fn summary(&self) -> String {
        let verb = |number: usize, word: &str| format!("{word}{}", if number == 1 { "s" } else { "" });
        let groups = match (self.of(Change::Gain).count(), self.of(Change::Loss).count()) {
            (0, 0) => "nobody gains or loses access".to_owned(),
            (gain, loss) => format!("{} {}, {loss} {}", plural(gain, "group"), verb(gain, "gain"), verb(loss, "lose")),
        };
        let cells = plural(self.cells, "cell");
        match self.routes.same {
            Some(same) => {
                let have = if same == 1 || self.routes.all == 1 { "has" } else { "have" };
                format!("{groups}; {same} of {} {have} the same rules.   complete, {cells}", plural(self.routes.all, "route"))
            }
            // Of what was not compared nothing is said, and nothing is counted as the same.
            None => format!("NOT COMPLETE: in what was compared, {groups}; the rest may differ.   {cells}"),
        }
    }
}

fn plural(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

pub(super) fn listed(texts: &[String]) -> String {
    if texts.is_empty() { "nothing that differs".to_owned() } else { texts.join(", ") }
}

impl super::report::Treatment {
    /// Returns the change in words.
    pub fn in_words(&self) -> String {
        match (self.before.as_str(), self.after.as_str()) {
            ("", "") => self.what.clone(),
            ("", after) => format!("{}: {after}", self.what),
            (before, "") => format!("{}: {before} → nothing", self.what),
            (before, after) => format!("{}: {before} → {after}", self.what),
        }
    }
}

impl Group {
    /// Returns the routes and methods in words.
    pub fn where_it_is(&self) -> String {
        let routes = if self.routes.is_empty() { "no route".to_owned() } else { few(&self.routes) };
        let methods = if self.methods.is_empty() { "all methods".to_owned() } else { few(&self.methods) };
        format!("{routes}: {methods}")
    }

    /// Returns the callers in words.
    pub fn who(&self) -> String {
        let mut words = Vec::new();
        if self.callers.addresses != ["any address"] {
            let count =
                if self.callers.count < u64::MAX { format!(" ({} addresses)", self.callers.count) } else { String::new() };
            words.push(format!("callers from {}{count}", few(&self.callers.addresses)));
        }
        if !self.tokens.is_empty() {
            words.push(self.tokens.join("; or "));
        }
        words.extend(
            self.condition.iter().map(
                |condition| {
                    if condition.value { condition.text.clone() } else { format!("not: {}", condition.text) }
                },
            ),
        );
        if words.is_empty() { "everyone".to_owned() } else { words.join(", ") }
    }

    /// Returns the request that shows the difference, on one line.
    pub fn request(&self) -> String {
        let request = &self.witness.request;
        let field = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let tokens: Vec<String> =
            self.witness.token_spec.iter().map(|spec| format!("   token {}", flow(&spec["token"]))).collect();
        let caller = if field("from") == field("caller") { String::new() } else { format!(" for {}", field("caller")) };
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let headers = request["headers"].as_array().into_iter().flatten();
        let headers: Vec<String> = headers.map(|pair| format!("   {}: {}", text(&pair[0]), text(&pair[1]))).collect();
        format!("{} {}   from {}{caller}{}{}", field("method"), field("url"), field("from"), headers.concat(), tokens.concat())
    }

    fn to_text(&self, number: usize) -> String {
        let mut text = String::new();
        let word = self.change.as_str().to_uppercase();
        let since = self.from.as_ref().map(|from| format!("   from {from} on")).unwrap_or_default();
        let _ = writeln!(text, "{word}  {number}  {}   {}{since}", self.where_it_is(), self.who());
        for place in &self.places {
            let _ = writeln!(text, "         {}  {}", at(place.place.as_ref(), &place.pointer), place.what);
        }
        let _ = writeln!(text, "         {}", self.request());
        let _ = writeln!(text, "           before   {}", self.before.in_words());
        let _ = writeln!(text, "           after    {}", self.after.in_words());
        text
    }
}

impl Verdict {
    /// Returns the verdict in words.
    pub fn in_words(&self) -> String {
        if let Some(to) = &self.to {
            return format!("✓ → {to}");
        }
        let entry = self.at.as_deref().unwrap_or("before any policy");
        let place = self.place.as_ref().map(|place| format!("   {}:{}", place.file, place.line)).unwrap_or_default();
        format!("✗ {entry}    {}{place}", self.code.as_deref().unwrap_or("answered"))
    }
}

fn at(place: Option<&Position>, pointer: &str) -> String {
    place.map_or_else(|| pointer.to_owned(), |place| format!("{}:{}", place.file, place.line))
}

fn few(texts: &[String]) -> String {
    const MOST: usize = 8;
    let shown = texts.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if texts.len() > MOST { format!("{shown} and {} more", texts.len() - MOST) } else { shown }
}

/// Writes a value of JSON on one line, as YAML takes it.
pub(super) fn flow(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{key}: {}", flow(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Array(entries) => format!("[{}]", entries.iter().map(flow).collect::<Vec<_>>().join(", ")),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

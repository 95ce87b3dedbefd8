//! A difference in SARIF 2.1.0, for code scanning.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::report::{Change, Difference, Group};
use crate::explain::Position;

/// The kinds of results, with the words that describe them.
const RULES: [(&str, &str, &str, &str); 4] = [
    ("access-gained", "AccessGained", "Requests that were refused are served.", "warning"),
    ("access-lost", "AccessLost", "Requests that were served are refused.", "note"),
    ("treatment-changed", "TreatmentChanged", "Requests of the same callers are treated otherwise.", "note"),
    ("access-unknown", "AccessUnknown", "Access may differ, and no request was found that shows it.", "warning"),
];

impl Difference {
    /// Returns the difference in SARIF. Files are named as the configs name them.
    pub fn to_sarif(&self) -> Value {
        let mut seen = HashMap::new();
        let mut results: Vec<Value> = self.groups.iter().map(|group| of_group(group, &mut seen)).collect();
        for treatment in &self.treatment {
            let message = format!("{}: {}", treatment.route, treatment.in_words());
            results.push(result(2, &message, None, &message, &mut seen));
        }
        for unknown in &self.unknown {
            let (file, line) = unknown.place.rsplit_once(':').unwrap_or((&unknown.place, ""));
            let place = line.parse().ok().map(|line| Position { file: file.to_owned(), line, column: 1 });
            results.push(result(3, &unknown.why, place.as_ref(), &unknown.why, &mut seen));
        }
        let rules = RULES.map(|(id, name, text, level)| {
            let mut properties = json!({ "tags": ["security", "access"], "precision": "very-high" });
            if id == "access-gained" {
                properties["security-severity"] = json!("7.0");
            }
            json!({
                "id": id, "name": name, "shortDescription": { "text": text }, "fullDescription": { "text": text },
                "help": { "text": format!("{text} The page docs/diff.md describes the comparison."), "markdown": format!("{text} The page `docs/diff.md` describes the comparison.") },
                "defaultConfiguration": { "level": level }, "properties": properties,
            })
        });
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": { "name": "entrada", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules } },
                "automationDetails": { "id": "entrada-diff/" },
                "columnKind": "unicodeCodePoints",
                "invocations": [self.invocation()],
                "results": results,
            }],
        })
    }
}

impl Difference {
    /// Returns how the comparison ended. Without a result of a kind, readers take it that there is none: not so where it was cut short.
    fn invocation(&self) -> Value {
        let mut invocation = json!({ "executionSuccessful": self.complete });
        if !self.complete {
            let notification = |why: &String| {
                let text = format!("The comparison is not complete: {why}. What was not compared may differ.");
                json!({ "level": "error", "descriptor": { "id": "not-complete" }, "message": { "text": text } })
            };
            invocation["toolExecutionNotifications"] = self.cut_short.iter().map(notification).collect();
        }
        invocation
    }
}

fn of_group(group: &Group, seen: &mut HashMap<String, usize>) -> Value {
    let rule = usize::from(group.change == Change::Loss);
    let message = format!(
        "{}: {}. Before: {}. After: {}. For example: {}",
        group.where_it_is(),
        group.who(),
        group.before.in_words(),
        group.after.in_words(),
        group.witness.curl
    );
    let in_new = |place: &&super::report::ChangedPlace| place.config == "new" && place.place.is_some();
    let main = group.places.iter().find(in_new).or(group.places.first());
    let at = main.and_then(|place| place.place.clone()).or_else(|| group.after.place.clone());
    let key = main.map_or_else(|| message.clone(), |place| format!("{} {}", place.pointer, group.routes.join(",")));
    let mut result = result(rule, &message, at.as_ref(), &key, seen);
    let related: Vec<Value> = group
        .places
        .iter()
        .enumerate()
        .filter_map(|(index, place)| {
            let mut location = location(place.place.as_ref()?);
            location["id"] = json!(index + 1);
            location["message"] = json!({ "text": format!("{} ({})", place.what, place.config) });
            Some(location)
        })
        .collect();
    if !related.is_empty() {
        result["relatedLocations"] = json!(related);
    }
    result
}

fn result(rule: usize, message: &str, at: Option<&Position>, key: &str, seen: &mut HashMap<String, usize>) -> Value {
    let (id, _, _, level) = RULES[rule];
    // By kind and place in the config: lines move.
    let key = format!("{id}\n{key}");
    let count = seen.entry(key.clone()).and_modify(|count| *count += 1).or_insert(1);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let print = digest.as_ref()[..16].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let mut result = json!({
        "ruleId": id,
        "ruleIndex": rule,
        "level": level,
        "message": { "text": message },
        "partialFingerprints": { "primaryLocationLineHash": format!("{print}:{count}") },
    });
    if let Some(at) = at {
        result["locations"] = json!([location(at)]);
    }
    result
}

fn location(at: &Position) -> Value {
    json!({ "physicalLocation": {
        "artifactLocation": { "uri": at.file.replace(' ', "%20") },
        "region": { "startLine": at.line, "startColumn": at.column },
    } })
}

//! The report for machines.

use serde_json::{Value, json};

use super::{Entry, EntryKind, Report, Totals, Verdict};

impl Totals {
    fn to_json(self) -> Value {
        json!({ "same": self.same, "note": self.note, "changed": self.changed, "not": self.not, "all": self.all() })
    }
}

impl Entry {
    fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "scope": self.scope,
            "owner": self.owner,
            "section": self.section,
            "element": self.element,
            "path": self.path,
            "kind": self.kind.word(),
            "verdict": self.verdict.word(),
            "code": self.code,
            "reason": self.reason,
            "advice": self.advice,
            "security": self.security,
            "yaml": self.yaml,
            "needs": self.needs,
            "excerpt": self.excerpt,
        })
    }
}

impl Report {
    /// Returns the report for machines.
    pub fn to_json(&self) -> Value {
        let mut by_element = std::collections::BTreeMap::<&str, Totals>::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == EntryKind::Element) {
            by_element.entry(&entry.element).or_default().add(entry.verdict);
        }
        let whole = self.whole_documents();
        json!({
            "totals": {
                "documents": self.documents.len(),
                "documents_whole": whole.len(),
                "elements": self.totals(EntryKind::Element).to_json(),
                "expressions": self.totals(EntryKind::Expression).to_json(),
                "resources": self.totals(EntryKind::Resource).to_json(),
                "elements_found": self.found.0,
                "expressions_found": self.found.1,
                "by_element": by_element.into_iter().map(|(name, totals)| (name.to_owned(), totals.to_json())).collect::<serde_json::Map<_, _>>(),
                "routes": self.routes,
                "routes_refused": self.refused_routes,
                "lints": self.lints.len(),
                "needs": self.needs.len(),
            },
            "documents": self.documents.iter().map(|(file, scope)| {
                json!({ "file": file, "scope": scope, "whole": whole.contains(&file.as_str()) })
            }).collect::<Vec<_>>(),
            "needs": self.needs.iter().map(|need| {
                json!({ "kind": need.kind, "name": need.name, "advice": need.advice })
            }).collect::<Vec<_>>(),
            "lints": self.lints.iter().map(|lint| {
                json!({ "file": lint.file, "line": lint.line, "code": lint.code, "message": lint.message })
            }).collect::<Vec<_>>(),
            "merged": self.merged.iter().map(|(route, operations)| {
                json!({ "route": route, "operations": operations })
            }).collect::<Vec<_>>(),
            "variables": self.renamed,
            "out_of_scope": self.out_of_scope,
            "entries": self.entries.iter().map(Entry::to_json).collect::<Vec<_>>(),
        })
    }

    /// Returns what is not translated or changed as SARIF 2.1.0, for code scanning.
    pub fn to_sarif(&self, version: &str) -> Value {
        let told = self.entries.iter().filter(|entry| entry.verdict >= Verdict::Changed && !entry.code.is_empty());
        let results = told.map(|entry| {
            let level = match (entry.verdict, entry.security) {
                (Verdict::Not, true) => "error",
                (Verdict::Not, false) => "warning",
                _ => "note",
            };
            result(&entry.code, level, &entry.reason, &entry.file, (entry.line, Some(entry.column)))
        });
        let lints = self.lints.iter().map(|lint| result(lint.code, "warning", &lint.message, &lint.file, (lint.line, None)));
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": { "name": "entrada import", "version": version } },
                "results": results.chain(lints).collect::<Vec<_>>(),
            }],
        })
    }
}

fn result(rule: &str, level: &str, message: &str, file: &str, (line, column): (usize, Option<usize>)) -> Value {
    let mut region = json!({ "startLine": line.max(1) });
    if let Some(column) = column {
        region["startColumn"] = json!(column.max(1));
    }
    json!({
        "ruleId": rule,
        "level": level,
        "message": { "text": message },
        "locations": [{ "physicalLocation": { "artifactLocation": { "uri": file }, "region": region } }],
    })
}

//! Reports in SARIF 2.1.0, as code scanning of GitHub and others take it.

use std::{
    collections::HashMap,
    fmt::Write as _,
    path::{Component, Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::report::Report;
use crate::settings::{Finding, Lint, Severity, Topic, origin::Origin};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

impl Report {
    /// Returns the report in SARIF. Files are named relative to `root`, the folder of the repository.
    pub fn to_sarif(&self, root: &Path) -> Value {
        let mut seen = HashMap::new();
        let told = self.findings().iter().map(|finding| (finding, None));
        let silenced = self.all_silenced().iter().map(|silenced| (&silenced.finding, Some(silenced)));
        let results: Vec<_> = told
            .chain(silenced)
            .map(|(finding, silenced)| {
                let mut result = self.result(finding, root, &mut seen);
                if let Some(silenced) = silenced {
                    let kind = if silenced.in_source { "inSource" } else { "external" };
                    let reason = self.sources.said(&silenced.reason, None);
                    result["suppressions"] = json!([{ "kind": kind, "status": "accepted", "justification": reason }]);
                }
                result
            })
            .collect();
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "entrada",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": Lint::ALL.iter().map(|lint| rule(*lint)).collect::<Vec<_>>(),
                } },
                "automationDetails": { "id": "entrada-check/" },
                "columnKind": "unicodeCodePoints",
                "invocations": [{ "executionSuccessful": !self.is_unread() }],
                "results": results,
            }],
        })
    }

    fn result(&self, finding: &Finding, root: &Path, seen: &mut HashMap<String, usize>) -> Value {
        let message = match finding.cure() {
            Some(cure) => format!("{}; {cure}", finding.message()),
            None => finding.message().to_owned(),
        };
        // By kind and place in the config: lines move.
        let key = format!("{}\n{}", finding.code(), self.pointer(finding));
        let count = seen.entry(key.clone()).and_modify(|count| *count += 1).or_insert(1);
        let fingerprint = format!("{}:{count}", hexadecimal(&digest(&SHA256, key.as_bytes()).as_ref()[..16]));
        let rule = Lint::ALL.iter().position(|lint| *lint == finding.lint).unwrap_or_default();
        let mut result = json!({
            "ruleId": finding.code(),
            "ruleIndex": rule,
            "level": level(finding.severity),
            "message": { "text": message },
            "partialFingerprints": { "primaryLocationLineHash": fingerprint },
        });
        if let Some(origin) = &finding.origin {
            result["locations"] = json!([self.location(origin, root)]);
        }
        let related = finding.related.iter().enumerate().map(|(index, (origin, label))| {
            let mut location = self.location(origin, root);
            location["id"] = json!(index + 1);
            location["message"] = json!({ "text": label });
            location
        });
        let related: Vec<_> = related.collect();
        if !related.is_empty() {
            result["relatedLocations"] = json!(related);
        }
        result
    }

    fn location(&self, origin: &Origin, root: &Path) -> Value {
        let range = self.sources.first_line(origin);
        let (line, column) = self.sources.line_column(origin.file, origin.start);
        let letters = self.sources.get(origin.file).text[range].chars().count();
        json!({ "physicalLocation": {
            "artifactLocation": { "uri": uri(&self.sources.get(origin.file).path, root) },
            "region": { "startLine": line, "startColumn": column, "endLine": line, "endColumn": column + letters },
        } })
    }
}

fn rule(lint: Lint) -> Value {
    let help = format!("`{lint}`: {} The page docs/lints.md has all lints, and how to silence one.", lint.meaning());
    let mut properties = json!({ "tags": [lint.topic().as_str()], "precision": "high" });
    if lint.topic() == Topic::Security {
        // Of 10: `high`, as what lets in or shows more than is meant is.
        properties["security-severity"] = json!("7.0");
    }
    json!({
        "id": lint.code(),
        "name": name(lint),
        "shortDescription": { "text": lint.meaning() },
        "fullDescription": { "text": lint.meaning() },
        "help": { "text": help, "markdown": help },
        "defaultConfiguration": { "level": level(lint.severity()) },
        "properties": properties,
    })
}

/// Returns the code in the notation of SARIF's names: `TokenUnrestricted`.
fn name(lint: Lint) -> String {
    let words = lint.code().split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    });
    words.collect()
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// Returns the URI of a file: relative to the root where it is below it.
fn uri(path: &Path, root: &Path) -> String {
    let whole = if path.is_absolute() { path.to_owned() } else { std::env::current_dir().unwrap_or_default().join(path) };
    let whole = plain(&whole);
    let (scheme, shown) = match whole.strip_prefix(plain(root)) {
        Ok(below) => ("", below),
        Err(_) => ("file://", whole.as_path()),
    };
    let mut text = scheme.to_owned();
    for byte in shown.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Resolves `.` and `..` by the names alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_repository_on() {
        let here = std::env::current_dir().unwrap();
        for (path, root, expected) in [
            ("/srv/app/routes/a b.yaml", "/srv/app", "routes/a%20b.yaml"),
            ("/srv/app/./x/../entrada.yaml", "/srv/app", "entrada.yaml"),
            ("/etc/entrada.yaml", "/srv/app", "file:///etc/entrada.yaml"),
            ("ä.yaml", here.to_str().unwrap(), "%C3%A4.yaml"),
        ] {
            assert_eq!(uri(Path::new(path), Path::new(root)), expected, "{path}");
        }
    }

    #[test]
    fn codes_have_names() {
        assert_eq!(name(Lint::TokenUnrestricted), "TokenUnrestricted");
        assert_eq!(name(Lint::AffinityOverHttp2), "AffinityOverHttp2");
    }
}

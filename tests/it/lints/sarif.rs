//! Tests of the report in SARIF 2.1.0, as code scanning takes it.

use std::process::Command;

use serde_json::{Value, json};

const CONFIG: &str = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]
upstreams: { backend: { servers: [\"http://127.0.0.1:1\"] } }
routes:
  - { anonymous: true, respond: { status: 200, body: ä }, name: a, match: { path: /a/* } }
  - { name: b, match: { path: /b/* }, anonymous: true, upstream: backend }   # entrada: allow path-star because its files are called so
  - { name: c, match: { path: /c }, anonymous: true, upstream: backends }
";

/// The part of the standard's structure that is used here, with what GitHub demands besides. Nothing else may occur.
fn structure() -> Value {
    let text = json!({ "type": "object", "required": ["text"], "additionalProperties": false, "properties": {
        "text": { "type": "string", "minLength": 1 }, "markdown": { "type": "string" } } });
    let level = json!({ "enum": ["none", "note", "warning", "error"] });
    let number = json!({ "type": "integer", "minimum": 1 });
    let location = |more: Value| {
        let mut properties = json!({ "physicalLocation": { "type": "object", "required": ["artifactLocation", "region"], "additionalProperties": false, "properties": {
            "artifactLocation": { "type": "object", "required": ["uri"], "additionalProperties": false, "properties": { "uri": { "type": "string", "format": "uri-reference", "pattern": "^[^\\s\\\\]+$" } } },
            "region": { "type": "object", "required": ["startLine", "startColumn", "endLine", "endColumn"], "additionalProperties": false,
                "properties": { "startLine": number, "startColumn": number, "endLine": number, "endColumn": number } } } } });
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "type": "object", "required": ["physicalLocation"], "additionalProperties": false, "properties": properties })
    };
    let rule = json!({ "type": "object", "required": ["id", "shortDescription", "help", "defaultConfiguration"], "additionalProperties": false, "properties": {
        "id": { "type": "string" }, "name": { "type": "string", "pattern": "^[A-Za-z0-9]+$" }, "shortDescription": text, "fullDescription": text, "help": text,
        "defaultConfiguration": { "type": "object", "required": ["level"], "additionalProperties": false, "properties": { "level": level } },
        "properties": { "type": "object", "required": ["tags", "precision"], "additionalProperties": false, "properties": {
            "tags": { "type": "array", "maxItems": 20, "uniqueItems": true, "items": { "type": "string" } },
            "precision": { "enum": ["very-high", "high", "medium", "low"] },
            "security-severity": { "type": "string", "pattern": "^(10|[0-9])\\.[0-9]$" } } } } });
    let result = json!({ "type": "object", "required": ["ruleId", "ruleIndex", "level", "message", "partialFingerprints"], "additionalProperties": false, "properties": {
        "ruleId": { "type": "string" }, "ruleIndex": { "type": "integer", "minimum": 0 }, "level": level, "message": text,
        "locations": { "type": "array", "minItems": 1, "maxItems": 1, "items": location(json!({})) },
        "relatedLocations": { "type": "array", "items": location(json!({ "id": { "type": "integer", "minimum": 0 }, "message": text })) },
        "partialFingerprints": { "type": "object", "required": ["primaryLocationLineHash"], "additionalProperties": { "type": "string" } },
        "suppressions": { "type": "array", "items": { "type": "object", "required": ["kind"], "additionalProperties": false, "properties": {
            "kind": { "enum": ["inSource", "external"] }, "status": { "enum": ["accepted", "underReview", "rejected"] }, "justification": { "type": "string" } } } } } });
    json!({ "type": "object", "required": ["$schema", "version", "runs"], "additionalProperties": false, "properties": {
        "$schema": { "type": "string", "format": "uri" }, "version": { "const": "2.1.0" },
        "runs": { "type": "array", "minItems": 1, "maxItems": 20, "items": { "type": "object", "required": ["tool", "results"], "additionalProperties": false, "properties": {
            "tool": { "type": "object", "required": ["driver"], "additionalProperties": false, "properties": { "driver": { "type": "object", "required": ["name"], "additionalProperties": false, "properties": {
                "name": { "type": "string" }, "semanticVersion": { "type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+" }, "rules": { "type": "array", "uniqueItems": true, "items": rule } } } } },
            "automationDetails": { "type": "object", "required": ["id"], "additionalProperties": false, "properties": { "id": { "type": "string" } } },
            "columnKind": { "enum": ["utf16CodeUnits", "unicodeCodePoints"] },
            "invocations": { "type": "array", "items": { "type": "object", "required": ["executionSuccessful"], "additionalProperties": false, "properties": { "executionSuccessful": { "type": "boolean" } } } },
            "results": { "type": "array", "maxItems": 25000, "items": result } } } } } })
}

/// Returns the SARIF of a config in a repository's folder, called from a folder below its root.
fn sarif(config: &str) -> (Value, Option<i32>) {
    let repository = tempfile::tempdir().unwrap();
    let folder = repository.path().join("deploy here");
    std::fs::create_dir_all(repository.path().join(".git")).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("entrada.yaml"), config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_entrada"))
        .args(["check", "--format", "sarif", "entrada.yaml"])
        .current_dir(&folder)
        .env_remove("ENTRADA_CONFIG")
        .output()
        .unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let validator = jsonschema::validator_for(&structure()).unwrap();
    let wrong: Vec<_> = validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{value:#}");
    (value, output.status.code())
}

#[test]
fn results_name_rule_file_and_place_and_rules_are_those_of_the_table() {
    let (report, exit) = sarif(CONFIG);

    let run = &report["runs"][0];
    assert_eq!(exit, Some(1));
    let rules: Vec<_> =
        run["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    let lints: Vec<_> = entrada::unstable::settings::Lint::ALL.iter().map(|lint| lint.code()).collect();
    assert_eq!(rules, lints);
    let results = run["results"].as_array().unwrap();
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            assert_eq!(result["ruleId"], rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()]);
            let place = &result["locations"][0]["physicalLocation"];
            let region = &place["region"];
            assert_eq!(place["artifactLocation"]["uri"], "deploy%20here/entrada.yaml");
            (
                result["ruleId"].as_str().unwrap(),
                result["level"].as_str().unwrap(),
                [&region["startLine"], &region["startColumn"], &region["endColumn"]].map(|number| number.as_u64().unwrap()),
                result["suppressions"][0]["justification"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("path-star", "warning", [4, 83, 87], None),
            ("config-invalid", "error", [6, 64, 72], None),
            ("path-star", "warning", [5, 31, 35], Some("its files are called so")),
        ]
    );
}

#[test]
fn a_fingerprint_is_that_of_rule_and_place_whatever_the_line() {
    let prints = |config: &str| {
        let (report, _) = sarif(config);
        let results = report["runs"][0]["results"].as_array().unwrap().clone();
        results
            .iter()
            .map(|result| result["partialFingerprints"]["primaryLocationLineHash"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    let before = prints(CONFIG);
    let moved = prints(&format!("# a line\n\n{CONFIG}"));

    assert_eq!(before, moved);
    let unique: std::collections::BTreeSet<_> = before.iter().collect();
    assert_eq!(unique.len(), before.len());
}

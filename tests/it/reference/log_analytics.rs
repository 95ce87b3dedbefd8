//! `deploy/log-analytics`: the table and the rule have the columns that the gateway writes.

use entrada::unstable::audit::row::{COLUMNS, MORE};
use serde_json::{Value, json};

use super::{hold, read};

fn columns() -> Vec<(String, &'static str)> {
    let columns = COLUMNS.iter().map(|(_, name, kind)| ((*name).to_owned(), kind.as_str()));
    columns.chain([(MORE.to_owned(), "dynamic")]).collect()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn the_table_has_the_columns_that_are_written() {
    let columns: Vec<_> = columns().into_iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
    let table = json!({ "properties": { "schema": { "name": "Entrada_CL", "columns": columns }, "retentionInDays": 90, "totalRetentionInDays": 365 } });

    hold("deploy/log-analytics/table.json", &pretty(&table));
}

#[test]
fn the_rule_declares_the_stream_with_these_columns() {
    let columns: Vec<_> = columns().into_iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
    let rule = json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "name": { "type": "string", "defaultValue": "entrada" },
            "location": { "type": "string", "defaultValue": "[resourceGroup().location]" },
            "workspace": { "type": "string", "metadata": { "description": "The resource id of the workspace." } },
        },
        "resources": [{
            "type": "Microsoft.Insights/dataCollectionRules",
            "apiVersion": "2023-03-11",
            "name": "[parameters('name')]",
            "location": "[parameters('location')]",
            "kind": "Direct",
            "properties": {
                "streamDeclarations": { "Custom-Entrada_CL": { "columns": columns } },
                "destinations": { "logAnalytics": [{ "workspaceResourceId": "[parameters('workspace')]", "name": "workspace" }] },
                "dataFlows": [{
                    "streams": ["Custom-Entrada_CL"],
                    "destinations": ["workspace"],
                    "transformKql": "source",
                    "outputStream": "Custom-Entrada_CL",
                }],
            },
        }],
        "outputs": {
            "rule": { "type": "string", "value": "[reference(resourceId('Microsoft.Insights/dataCollectionRules', parameters('name'))).immutableId]" },
            "endpoint": {
                "type": "string",
                "value": "[reference(resourceId('Microsoft.Insights/dataCollectionRules', parameters('name'))).endpoints.logsIngestion]",
            },
        },
    });

    hold("deploy/log-analytics/rule.json", &pretty(&rule));
}

#[test]
fn the_queries_name_columns_of_the_table() {
    let known: Vec<_> = columns().into_iter().map(|(name, _)| name).collect();
    let queries = read("deploy/log-analytics/queries.kql");
    let code: String = queries.lines().filter(|line| !line.starts_with("//")).map(|line| format!("{line}\n")).collect();
    // What a query names itself stands before `=`.
    let made: Vec<_> = code
        .split('=')
        .filter_map(|part| part.split(|letter: char| !letter.is_alphanumeric() && letter != '_').rfind(|word| !word.is_empty()))
        .collect();
    for line in code.lines() {
        let outside: String = line.split('"').step_by(2).collect();
        for word in outside
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .filter(|word| word.starts_with(|letter: char| letter.is_ascii_uppercase()))
        {
            assert!(
                known.iter().any(|name| name == word) || made.contains(&word) || word == "Entrada_CL",
                "queries.kql: `{word}` in {line}"
            );
        }
    }
    assert!(queries.matches("\nEntrada_CL\n").count() >= 12);
}

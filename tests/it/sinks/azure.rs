//! Azure Monitor and Log Analytics, played by the development tenant, also while they fail.

use std::collections::{BTreeMap, BTreeSet};

use entrada::dev_tenant::{DevTenant, Fault, Options, Rule};
use serde_json::{Value, json};
use tempfile::tempdir;

use super::{RULE, azure_monitor, call, identity, members, sink, spooled, until};
use crate::support::Gateway;

const STREAM: &str = "Custom-Entrada_CL";
const INGESTION: &str = "/streams/Custom-Entrada_CL";

async fn gateway(tenant: &DevTenant, folder: &std::path::Path) -> Gateway {
    Gateway::start(&(identity(tenant) + &spooled(&azure_monitor(tenant), folder))).await
}

/// Waits until so many different records have arrived, and returns the rows.
async fn arrived(tenant: &DevTenant, stream: &str, count: usize) -> Vec<Value> {
    let distinct = |rows: &Vec<Value>| members(rows, "RecordId").into_iter().collect::<BTreeSet<_>>().len();
    until(async || tenant.rows(stream), |rows| distinct(rows) >= count).await
}

/// The columns of the table, as the gateway declares them.
fn columns() -> BTreeMap<String, String> {
    let columns = entrada::unstable::audit::row::COLUMNS.iter();
    let more = (entrada::unstable::audit::row::MORE.to_owned(), "dynamic".to_owned());
    columns.map(|(_, name, kind)| ((*name).to_owned(), kind.as_str().to_owned())).chain([more]).collect()
}

fn rule(columns: BTreeMap<String, String>) -> Rule {
    Rule { streams: BTreeMap::from([(STREAM.to_owned(), columns)]), publishers: None }
}

#[tokio::test]
async fn records_are_rows_of_the_table_that_the_rule_declares() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempdir().unwrap());
    tenant.define_rule(RULE, rule(columns()));
    let gateway = gateway(&tenant, folder.path()).await;

    let mut ids = call(&gateway, 3).await;
    gateway.get("/shut").send().await;
    let rows = arrived(&tenant, STREAM, 4).await;

    ids.sort();
    let mut allowed: Vec<_> =
        rows.iter().filter(|row| row["Decision"] == "allow").map(|row| row["RequestId"].as_str().unwrap().to_owned()).collect();
    allowed.sort();
    assert_eq!(allowed, ids);
    let refused = rows.iter().find(|row| row["Decision"] == "deny").unwrap();
    assert_eq!(
        (&refused["Code"], &refused["Status"], &refused["Route"]),
        (&json!("header-check-failed"), &json!(401), &json!("shut"))
    );
    assert_eq!(refused["Policy"], "inbound[0].check-header");
    let request = tenant.requests(INGESTION).pop().unwrap();
    assert_eq!(request.headers["content-encoding"], "gzip");
    assert!(request.headers["authorization"].to_str().unwrap().starts_with("Bearer "));
    assert_eq!(request.target.query(), Some("api-version=2023-01-01"));
    let state = until(async || sink(&gateway, "azure-monitor").await, |state| state["spooled_bytes"] == 0).await;
    assert_eq!((&state["written"], &state["dropped"]), (&json!(4), &json!(0)), "{state}");
}

#[tokio::test]
async fn every_record_arrives_across_outages_throttling_and_lost_answers_and_duplicates_are_known() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempdir().unwrap());
    for fault in [
        Fault::on(INGESTION).cut().times(1),
        Fault::on(INGESTION).status(503).header("Retry-After", "1").times(1),
        Fault::on(INGESTION).status(429).header("Retry-After", "0").times(1),
        Fault::on(INGESTION).status(500).times(1),
        Fault::on(INGESTION).lose_answer().times(1),
        Fault::on(INGESTION).status(413).times(2),
        Fault::on(INGESTION).status(401).times(1),
    ] {
        tenant.fail(fault);
    }
    let gateway = gateway(&tenant, folder.path()).await;

    let ids: BTreeSet<_> = call(&gateway, 100).await.into_iter().collect();
    let rows = arrived(&tenant, STREAM, 100).await;
    until(async || sink(&gateway, "azure-monitor").await, |state| state["spooled_bytes"] == 0).await;

    assert_eq!(members(&rows, "RequestId").into_iter().collect::<BTreeSet<_>>(), ids, "each of them");
    let rows = tenant.rows(STREAM);
    let records: BTreeSet<_> = members(&rows, "RecordId").into_iter().collect();
    assert_eq!(records.len(), 100);
    assert!(rows.len() > 100, "the answer that was lost made some come twice: {}", rows.len());
    let state = sink(&gateway, "azure-monitor").await;
    assert!(state["failures"].as_u64().unwrap() >= 5 && state["dropped"] == 0 && state.get("error").is_none(), "{state}");
}

#[tokio::test]
async fn a_record_that_is_refused_for_good_is_set_aside_and_holds_up_no_other() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempdir().unwrap());
    let mut columns = columns();
    // Whoever sends one makes a row that the table never takes.
    columns.insert("UserAgent".to_owned(), "long".to_owned());
    tenant.define_rule(RULE, rule(columns));
    let gateway = gateway(&tenant, folder.path()).await;

    call(&gateway, 20).await;
    gateway.get("/own/poison").header("user-agent", "curl/8.5.0").send().await;
    call(&gateway, 20).await;
    let rows = arrived(&tenant, STREAM, 41).await;

    assert!(!members(&rows, "Path").contains(&"/own/poison".to_owned()));
    let told = rows.iter().find(|row| row["Event"] == "records-rejected").unwrap();
    assert_eq!(told["RecordCount"], 1);
    assert!(told["Detail"].as_str().unwrap().contains("400: InvalidRecord: The column UserAgent is of type long"), "{told}");
    let kept = std::fs::read_dir(folder.path().join("spool/rejected")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(kept).unwrap();
    assert!(text.contains("\"path\":\"/own/poison\"") && text.lines().count() == 2, "{text}");
    assert_eq!(sink(&gateway, "azure-monitor").await["dropped"], 1);
}

#[tokio::test]
async fn without_the_role_records_wait_and_the_status_says_what_is_missing() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempdir().unwrap());
    tenant.define_rule(RULE, Rule { publishers: Some(BTreeSet::new()), ..rule(columns()) });
    let gateway = gateway(&tenant, folder.path()).await;

    call(&gateway, 5).await;
    let state = until(async || sink(&gateway, "azure-monitor").await, |state| state.get("error").is_some()).await;

    assert!(state["error"].as_str().unwrap().contains("Monitoring Metrics Publisher"), "{state}");
    assert!(state["spooled_bytes"].as_u64().unwrap() > 1_000 && state["dropped"] == 0, "{state}");
    let metrics = gateway.metrics().await;
    let named = format!("entrada_audit_failures_total{{sink=\"azure-monitor:{RULE}/{STREAM}\"}} 1\n");
    assert!(metrics.contains(&named), "{metrics}");
}

#[tokio::test]
async fn the_data_collector_gets_signed_posts_with_flat_rows() {
    const WORKSPACE: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempdir().unwrap());
    let key: Vec<u8> = (0..64).collect();
    tenant.define_workspace(WORKSPACE, &key);
    tenant.fail(Fault::on("/api/logs").status(503).times(1));
    let sinks = format!(
        "    - log-analytics: {{ workspace: {WORKSPACE}, shared-key: \"{{{{key}}}}\", log-type: Entrada, endpoint: \"{}\", only: [deny] }}\n",
        tenant.base_url()
    );
    let encoded = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
    let named = format!("named-values: {{ key: {{ value: \"{encoded}\", secret: true }} }}\n");
    let gateway = Gateway::start(&(named + &spooled(&sinks, folder.path()))).await;

    call(&gateway, 3).await;
    gateway.get("/shut").send().await;
    let rows = arrived(&tenant, "Entrada_CL", 1).await;

    assert_eq!(rows.len(), 1, "only what was refused: {rows:?}");
    assert_eq!((&rows[0]["Decision"], &rows[0]["Code"]), (&json!("deny"), &json!("header-check-failed")));
    assert!(rows[0]["Config"].as_str().unwrap().contains("generation"), "objects are texts there");
    let post = tenant.requests("/api/logs").pop().unwrap();
    assert_eq!(
        (&post.headers["log-type"], &post.headers["time-generated-field"]),
        (&"Entrada".parse().unwrap(), &"Time".parse().unwrap())
    );
    assert_eq!(rows[0]["Time"].as_str().unwrap().len(), "2026-11-30T12:00:00Z".len());
}

#[tokio::test]
async fn when_the_spool_is_full_the_oldest_go_and_the_receiver_learns_how_many() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempdir().unwrap());
    let held = tenant.hold(INGESTION);
    let config = spooled(&azure_monitor(&tenant), folder.path()).replace("8MiB", "1MiB");
    let gateway = Gateway::start(&(identity(&tenant) + &config)).await;
    let agent = "x".repeat(250);

    // About a kilobyte each.
    let mut sent = 0_u64;
    let dropped = until(
        async || {
            for _ in 0..50 {
                gateway.get("/own/wide").header("user-agent", &agent).header("x-request-id", &agent).send().await;
                sent += 1;
            }
            sink(&gateway, "azure-monitor").await["dropped"].as_u64().unwrap()
        },
        |dropped| *dropped > 100,
    )
    .await;
    drop(held);
    let told = until(
        async || tenant.rows(STREAM).into_iter().filter(|row| row["Event"] == "spool-full").collect::<Vec<_>>(),
        |told| told.iter().map(|row| row["RecordCount"].as_u64().unwrap()).sum::<u64>() >= dropped,
    )
    .await;
    until(async || sink(&gateway, "azure-monitor").await, |state| state["spooled_bytes"] == 0).await;

    assert!(told[0]["Sink"].as_str().unwrap().starts_with("azure-monitor:"), "{told:?}");
    let rows = tenant.rows(STREAM);
    let arrived: BTreeSet<_> =
        rows.iter().filter(|row| row["Path"] == "/own/wide").map(|row| row["RecordId"].to_string()).collect();
    let lost = sink(&gateway, "azure-monitor").await["dropped"].as_u64().unwrap();
    assert!(arrived.len() as u64 + lost >= sent, "each has arrived or is counted: {} and {lost} of {sent}", arrived.len());
}

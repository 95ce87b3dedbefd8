//! Files of records: rotation, retention, compression, reload.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::tempdir;

use super::{call, config, members, records, sink, until};
use crate::support::Gateway;

/// Returns the files of records in a folder, in the order of their names, the newest last.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        // One that is being compressed.
        .filter(|path| path.extension().is_none_or(|ending| ending != "part"))
        .collect();
    // Those of the same second by the number of the record that they begin with.
    files.sort_by_key(|path| records(path).first().map(|record| record["time"].to_string()));
    files
}

fn all(folder: &Path) -> Vec<Value> {
    files(folder).iter().flat_map(|path| records(path)).collect()
}

fn file(folder: &Path, more: &str) -> String {
    format!("    - file: {{ path: \"{}\"{more} }}\n", folder.join("r.jsonl").display())
}

#[tokio::test]
async fn a_file_is_rotated_by_size_and_compressed_and_no_record_is_lost_or_there_twice() {
    let folder = tempdir().unwrap();
    let rotated = file(folder.path(), ", rotate: { size: 64KiB }, keep: 400d, compress: gzip");
    let gateway = Gateway::start(&config(&rotated, "")).await;

    let ids = call(&gateway, 400).await;
    let found = until(
        async || files(folder.path()),
        |files| {
            let plain = files.iter().filter(|file| file.extension().is_none_or(|ending| ending != "gz"));
            files.len() >= 3 && plain.count() == 1
        },
    )
    .await;
    let records = until(async || all(folder.path()), |records| records.len() >= 400).await;

    assert!(found.len() >= 3, "{found:?}");
    assert_eq!(members(&records, "request_id"), ids, "in order, each once");
    assert!(
        found
            .iter()
            .all(|file| !file.to_string_lossy().ends_with(".jsonl") || std::fs::metadata(file).unwrap().len() <= 64 << 10)
    );
}

#[tokio::test]
async fn a_reload_hands_the_file_over_in_order_also_when_its_settings_change() {
    let folder = tempdir().unwrap();
    let mut gateway = Gateway::start(&config(&file(folder.path(), ""), "")).await;
    let mut ids = call(&gateway, 20).await;

    gateway.reload(&config(&file(folder.path(), ", rotate: { size: 64KiB }, mode: \"0600\""), "")).await;
    ids.extend(call(&gateway, 20).await);
    let other = format!("    - stdout: {{ only: [error] }}\n{}", file(folder.path(), ", only: [allow]"));
    gateway.reload(&config(&other, "")).await;
    ids.extend(call(&gateway, 5).await);
    gateway.get("/shut").send().await;
    // Once more, so that the refusal before is certainly handed to the sinks.
    ids.extend(call(&gateway, 1).await);
    let records = until(async || all(folder.path()), |records| records.len() >= ids.len()).await;

    assert_eq!(members(&records, "request_id"), ids);
    assert!(records.iter().all(|record| record["decision"] == "allow"));
    assert_eq!(sink(&gateway, "file:").await["written"], 46);
}

#[tokio::test]
async fn a_reload_that_names_a_file_that_cannot_be_opened_changes_nothing() {
    let folder = tempdir().unwrap();
    let mut gateway = Gateway::start(&config(&file(folder.path(), ""), "")).await;
    let mut ids = call(&gateway, 3).await;

    let fault = gateway.refused_reload(&config("    - file: { path: /nowhere/r.jsonl }\n", "")).await;
    ids.extend(call(&gateway, 3).await);

    assert!(fault.contains("the folder `/nowhere` is not there") && fault.contains("mkdir -p /nowhere"), "{fault}");
    let records = until(async || all(folder.path()), |records| records.len() >= 6).await;
    assert_eq!(members(&records, "request_id"), ids);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_is_full_stops_no_request_and_is_told() {
    let folder = tempdir().unwrap();
    let sinks = format!("    - file: {{ path: /dev/full }}\n{}", file(folder.path(), ""));
    let gateway = Gateway::start(&config(&sinks, "")).await;

    let ids = call(&gateway, 10).await;
    let state = until(async || sink(&gateway, "file:/dev/full").await, |state| state.get("error").is_some()).await;

    assert!(state["error"].as_str().unwrap().contains("No space left on device"), "{state}");
    assert_eq!(state["dropped"], 0, "what the disk does not take waits: {state}");
    let records = until(async || all(folder.path()), |records| records.len() >= 10).await;
    assert_eq!(members(&records, "request_id"), ids, "the other sink has them all");
    assert!(gateway.metrics().await.contains("entrada_audit_records_lost_total{sink=\"file:/dev/full\"} 0\n"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_full_disk_has_no_room_for_is_recorded_elsewhere_with_its_number() {
    let folder = tempdir().unwrap();
    let sinks = format!("    - file: {{ path: /dev/full }}\n{}", file(folder.path(), ""));
    // Records of some nine kilobytes.
    let notes = [r#"trace: { message: "@(request.query.q)" }"#; 8].join(", ");
    let noted = format!(
        "  - {{ name: noted, match: {{ path: /noted }}, anonymous: true, inbound: [ {notes} ], respond: {{ status: 200 }} }}\naudit:"
    );
    let gateway = Gateway::start(&config(&sinks, "").replace("audit:", &noted)).await;
    let wide = format!("/noted?q={}", "x".repeat(1_024));

    // 16 MiB wait.
    let dropped = until(
        async || {
            for _ in 0..200 {
                assert_eq!(gateway.get(&wide).send().await.status, 200);
            }
            sink(&gateway, "file:/dev/full").await["dropped"].as_u64().unwrap()
        },
        |dropped| *dropped > 200,
    )
    .await;
    gateway.stop().await;

    let told: Vec<_> = all(folder.path()).into_iter().filter(|record| record["event"] == "records-dropped").collect();
    assert!(told.iter().all(|record| record["sink"] == "file:/dev/full"), "{told:?}");
    assert!(told[0]["detail"].as_str().unwrap().contains("No space left on device"), "{told:?}");
    assert!(told.iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>() >= dropped, "{told:?}: of {dropped}");
}

#[tokio::test]
async fn a_line_that_a_crash_left_incomplete_stays_as_it_is() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("r.jsonl");
    std::fs::write(&path, "{\"time\":\"2026-11-30T12:00:00.000000Z\"}\n{\"time\":\"2026-1").unwrap();

    let gateway = Gateway::start(&config(&file(folder.path(), ""), "")).await;
    call(&gateway, 1).await;
    let text = until(async || std::fs::read_to_string(&path).unwrap(), |text| text.lines().count() == 4).await;

    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], "{\"time\":\"2026-1");
    let torn: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!((&torn["event"], &torn["bytes"]), (&"torn".into(), &15.into()));
}

//! The chain through a gateway's files, and `entrada audit verify`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use entrada::dev_tenant::{DevTenant, Options};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::{GATEWAY, call, config, identity, records, sink, until};
use crate::support::Gateway;

/// Makes a key on P-256, and returns its file.
fn key(folder: &Path) -> PathBuf {
    let path = folder.join("seal.key");
    let pair = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&path, pair.serialize_pem()).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

/// Returns a config with a chained file, and another sink.
fn chained(folder: &Path, file: &str, key: &str) -> String {
    let sinks = format!(
        "    - file: {{ path: \"{}\"{file} }}\n    - file: {{ path: \"{}\", only: [error] }}\n",
        folder.join("audit/r.jsonl").display(),
        folder.join("seals/s.jsonl").display()
    );
    config(&sinks, &format!("  chain: {{ seal: {{ every: 1s, key: {key} }} }}"))
}

fn folders() -> TempDir {
    let folder = tempdir().unwrap();
    for name in ["audit", "seals"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
}

/// Runs `entrada audit verify`, and returns its exit code and its JSON.
fn verify(files: &[PathBuf], arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_entrada"))
        .args(["audit", "verify", "--format", "json"])
        .args(arguments)
        .args(files)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|_| errors.into()))
}

#[tokio::test]
async fn nothing_is_found_across_rotations_reloads_and_restarts_and_every_change_is() {
    let folder = folders();
    let key = key(folder.path());
    let key_text = format!("\"{}\"", key.display());
    let key_argument = key.display().to_string();
    let plain = chained(folder.path(), "", &key_text);
    let rotated = chained(folder.path(), ", rotate: { size: 64KiB }, compress: gzip", &key_text);

    let mut gateway = Gateway::start(&plain).await;
    call(&gateway, 100).await;
    gateway.reload(&rotated).await;
    call(&gateway, 300).await;
    let sealed = until(async || sink(&gateway, "file:").await, |state| state["chain"]["last_seal"]["reason"] == "interval").await;
    gateway.stop().await;
    let gateway = Gateway::start(&rotated).await;
    call(&gateway, 50).await;
    gateway.stop().await;
    until(
        async || files(folder.path()),
        |files| files.iter().filter(|file| file.extension().is_none_or(|ending| ending != "gz")).count() == 1,
    )
    .await;

    let files = files(folder.path());
    assert!(files.len() >= 3, "{files:?}");
    let anchor = sealed["chain"]["last_seal"].to_string();
    let seals = folder.path().join("seals/s.jsonl").display().to_string();
    let (code, result) = verify(&files, &["--key", &key_argument, "--anchor", &anchor, "--anchor", &seals]);
    assert_eq!((code, &result["findings"]), (0, &Value::Array(Vec::new())), "{result:#}");
    assert!(result["records"].as_u64().unwrap() > 450 && result["unsealed_tail"] == 0, "{result:#}");
    assert!(result["seals"]["valid"].as_u64().unwrap() >= 4, "{result:#}");

    // One letter of one record is another.
    let newest = folder.path().join("audit/r.jsonl");
    let text = std::fs::read_to_string(&newest).unwrap();
    std::fs::write(&newest, text.replacen("\"path\":\"/own/", "\"path\":\"/oWn/", 1)).unwrap();
    let (code, result) = verify(&files, &["--key", &key_argument]);
    assert_eq!((code, &result["findings"][0]["kind"]), (1, &"edited".into()), "{result:#}");
    // The newest file is gone: only the seals elsewhere know.
    std::fs::remove_file(&newest).unwrap();
    let rest: Vec<_> = files.iter().filter(|file| **file != newest).cloned().collect();
    assert_eq!(verify(&rest, &["--key", &key_argument]).0, 0);
    let (code, result) = verify(&rest, &["--key", &key_argument, "--anchor", &seals]);
    assert!(
        code == 1 && result["findings"].as_array().unwrap().iter().any(|finding| finding["kind"] == "truncated"),
        "{result:#}"
    );
    // What cannot be read is neither.
    assert_eq!(verify(&[newest], &[]).0, 2);
}

#[tokio::test]
async fn a_file_without_a_chain_is_renamed_before_a_chain_begins() {
    let folder = folders();
    let key = format!("\"{}\"", key(folder.path()).display());
    let path = folder.path().join("audit/r.jsonl");
    std::fs::write(&path, "{\"time\":\"2026-11-30T12:00:00.000000Z\"}\n").unwrap();

    let gateway = Gateway::start(&chained(folder.path(), "", &key)).await;
    call(&gateway, 3).await;
    gateway.stop().await;

    let found = records(&path);
    assert_eq!((&found[0]["event"], &found[0]["seq"]), (&"chain-begin".into(), &1.into()));
    assert_eq!(files(folder.path()).len(), 2);
    assert_eq!(verify(&[path], &[]).0, 0);
}

#[tokio::test]
async fn a_key_in_a_vault_seals_and_its_certificate_verifies() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), folders());
    let made = reqwest::Client::new()
        .post(format!("{}/dev/vault/certificates", tenant.base_url()))
        .body(r#"{"name":"audit-seal"}"#)
        .send()
        .await
        .unwrap();
    let made: Value = made.json().await.unwrap();
    let certificate = folder.path().join("seal.pem");
    let lines = made["cer"].as_str().unwrap();
    std::fs::write(&certificate, format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")).unwrap();
    let key = format!("{{ vault: \"{}\", certificate: audit-seal, identity: gateway }}", tenant.base_url());
    let gateway = Gateway::start(&(identity(&tenant) + &chained(folder.path(), "", &key))).await;

    call(&gateway, 5).await;
    until(async || sink(&gateway, "file:").await, |state| state["chain"]["last_seal"].is_object()).await;
    gateway.stop().await;

    let file = folder.path().join("audit/r.jsonl");
    let (code, result) = verify(std::slice::from_ref(&file), &["--key", &certificate.display().to_string()]);
    assert_eq!(code, 0, "{result:#}");
    let seals: Vec<_> = records(&file).into_iter().filter(|record| record["event"] == "seal").collect();
    assert!(seals.iter().all(|seal| seal["algorithm"] == "PS256"), "{seals:?}");
    assert_eq!(seals.last().unwrap()["reason"], "stop");
    assert!(!tenant.requests("/sign").is_empty() && tenant.apps().iter().any(|app| app.client_id == GATEWAY));
    let other = folder.path().join("seal.key");
    std::fs::write(&other, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let (code, result) = verify(&[file], &["--key", &other.display().to_string()]);
    assert_eq!((code, &result["findings"][0]["kind"]), (1, &"signature".into()), "{result:#}");
}

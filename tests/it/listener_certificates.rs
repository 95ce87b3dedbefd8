//! Tests that the expiry and the names of listeners' certificates are checked in advance.

use std::{
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use entrada::{Clock, ServerOptions};
use tempfile::TempDir;

use crate::support::Gateway;

const DAY: i64 = 86_400;

/// Writes a certificate for the names, valid for this many days from now, and its key.
fn write(folder: &Path, file: &str, names: &[&str], days: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    write_until(folder, file, names, now + days * DAY);
}

fn write_until(folder: &Path, file: &str, names: &[&str], end: i64) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = rcgen::CertificateParams::new(names).unwrap();
    parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(end.cast_unsigned());
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    std::fs::write(folder.join(file).with_extension("pem"), certificate.pem()).unwrap();
    let path = folder.join(file).with_extension("key");
    std::fs::write(&path, key.serialize_pem()).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn tls(folder: &Path, file: &str) -> String {
    let path = |extension| folder.join(file).with_extension(extension).display().to_string();
    format!("{{ certificate: \"{}\", private-key: \"{}\" }}", path("pem"), path("key"))
}

/// Returns the output of `entrada check --deny-warnings` for a config, and whether it passes.
fn check(folder: &Path, config: &str) -> (String, bool) {
    let file = folder.join("entrada.yaml");
    std::fs::write(&file, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_entrada"))
        .args(["check", "--deny-warnings", "--format", "json"])
        .arg(file)
        .env_remove("ENTRADA_CONFIG")
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = report["findings"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|it| format!("{} {}: {}", it["severity"], it["place"], it["message"]).replace('"', "")).collect();
    (told.join("\n"), output.status.success())
}

fn config(tls: &str, hosts: &str, more: &str) -> String {
    format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\", tls: {tls}{more} }} ]\naudit: {{ sinks: [ stdout: {{}} ] }}\n\
         routes: [ {{ name: own, match: {{ hosts: [{hosts}], path: /own }}, anonymous: true, respond: {{ status: 200 }} }} ]\n"
    )
}

#[test]
fn check_warns_of_certificates_that_have_expired_or_are_about_to() {
    let folder = TempDir::new().unwrap();
    for (file, days) in [("good", 90), ("soon", 10), ("gone", -1)] {
        write(folder.path(), file, &["a.example"], days);
    }
    let of = |files: &[&str]| files.iter().map(|file| tls(folder.path(), file)).collect::<Vec<_>>().join(", ");

    let (told, passes) = check(folder.path(), &config(&of(&["good"]), "a.example", ""));
    assert!(passes && told.is_empty(), "{told}");
    let (told, passes) = check(folder.path(), &config(&of(&["gone"]), "a.example", ""));
    assert!(!passes && told.starts_with("warning listeners[0].tls.certificate: ") && told.contains("has expired"), "{told}");
    let (told, passes) = check(folder.path(), &config(&format!("[{}]", of(&["good", "soon", "gone"])), "a.example", ""));
    let told: Vec<_> = told.lines().collect();
    assert!(!passes && told.len() == 2, "{told:?}");
    assert!(told[0].starts_with("warning listeners[0].tls[1].certificate: ") && told[0].contains("expires in "), "{told:?}");
    assert!(told[1].starts_with("warning listeners[0].tls[2].certificate: ") && told[1].contains("has expired"), "{told:?}");
}

#[test]
fn check_warns_of_hosts_that_no_certificate_is_for() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "one", &["api.contoso.example"], 90);
    write(folder.path(), "two", &["*.apps.contoso.example"], 90);
    let tls = format!("[{}, {}]", tls(folder.path(), "one"), tls(folder.path(), "two"));

    let covered = "api.contoso.example, a.apps.contoso.example, '*.apps.contoso.example'";
    let (told, passes) = check(folder.path(), &config(&tls, covered, ""));
    assert!(passes, "{told}");
    for host in ["www.contoso.example", "'*.contoso.example'", "a.b.apps.contoso.example", "apps.contoso.example"] {
        let (told, passes) = check(folder.path(), &config(&tls, &format!("api.contoso.example, {host}"), ""));
        assert!(!passes && told.starts_with("warning routes[0].match.hosts[1]: no certificate of a listener is for"), "{told}");
    }
    // Callers see the certificate of the proxy, and this one only the proxy does.
    let (told, passes) = check(folder.path(), &config(&tls, "www.contoso.example", ", trusted-proxies: [192.0.2.7]"));
    assert!(passes, "{told}");
}

#[tokio::test]
async fn status_and_metrics_tell_when_the_certificates_of_listeners_end_and_follow_new_files() {
    let folder = TempDir::new().unwrap();
    let end = 2_000_000_000;
    write_until(folder.path(), "one", &["a.example", "192.0.2.7"], end);
    let text = config(&tls(folder.path(), "one"), "a.example", "").replace("audit: { sinks: [ stdout: {} ] }\n", "");
    let clock = Clock::manual((end - 5 * DAY).cast_unsigned());
    let mut gateway =
        Gateway::start_with(&text, ServerOptions { workers: 1, clock: clock.clone(), ..ServerOptions::default() }).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let admin = gateway.admin_address();
    let fetch = async |path: &str| client.get(format!("http://{admin}{path}")).send().await.unwrap().text().await.unwrap();
    let file = folder.path().join("one.pem").display().to_string();
    let sample = |end: i64| {
        format!("entrada_listener_certificate_expiry_timestamp_seconds{{listener=\"public\",certificate=\"{file}\"}} {end}\n")
    };

    let status: serde_json::Value = serde_json::from_str(&fetch("/api/status").await).unwrap();
    let shown = &status["listener_certificates"][0];
    assert_eq!((&shown["listener"], &shown["certificate"]), (&"public".into(), &file.as_str().into()));
    assert_eq!((&shown["not_after"], &shown["days_left"]), (&end.into(), &5.into()));
    assert_eq!(shown["names"], serde_json::json!(["a.example", "192.0.2.7"]));
    assert!(fetch("/metrics").await.contains(&sample(end)));

    clock.advance(std::time::Duration::from_secs(6 * 86_400));
    let status: serde_json::Value = serde_json::from_str(&fetch("/api/status").await).unwrap();
    assert_eq!(status["listener_certificates"][0]["days_left"], -1);

    write_until(folder.path(), "one", &["a.example"], end + 100 * DAY);
    gateway.reload(&text).await;
    let status: serde_json::Value = serde_json::from_str(&fetch("/api/status").await).unwrap();
    assert_eq!(status["listener_certificates"][0]["days_left"], 99);
    assert!(fetch("/metrics").await.contains(&sample(end + 100 * DAY)));
}

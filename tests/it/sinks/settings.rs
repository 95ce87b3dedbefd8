//! Settings of sinks that cannot be used, and those that are remarked on.

use entrada::Document;

use super::ROUTES;
use crate::support::Gateway;

fn refusal(audit: &str) -> String {
    Gateway::refusal(&format!("{ROUTES}audit: {audit}\n"))
}

#[test]
fn what_cannot_work_is_a_fault_with_its_cure() {
    const AZURE: &str = "azure-monitor: { endpoint: \"https://a.ingest.monitor.azure.com\", rule: dcr-00000000000000000000000000000000, \
                         stream: Custom-A_CL, credential: gateway }";
    const SPOOL: &str = "spool: { directory: target/tmp/spool-of-settings }";
    for (audit, expected) in [
        (format!("{{ sinks: [ {AZURE} ] }}"), "add `spool: { directory: spool, size: 1GiB }`"),
        (format!("{{ sinks: [ {AZURE} ], {SPOOL} }}"), "no credential is named `gateway`"),
        ("{ sinks: [ syslog: { address: \"udp://127.0.0.1:514\" } ] }".to_owned(), "there is no spool"),
        (format!("{{ sinks: [ syslog: {{ address: \"127.0.0.1:514\" }} ], {SPOOL} }}"), "is not the address of a syslog server"),
        (format!("{{ sinks: [ syslog: {{ address: \"http://127.0.0.1:514\" }} ], {SPOOL} }}"), "`http` is no way to a syslog server"),
        (format!("{{ sinks: [ syslog: {{ address: \"tcp://a:514\", ca: ca.pem }} ], {SPOOL} }}"), "authorities are trusted for TLS alone"),
        (format!("{{ sinks: [ syslog: {{ address: \"tls://a:6514\", ca: /nowhere.pem }} ], {SPOOL} }}"), "`/nowhere.pem` cannot be read"),
        ("{ sinks: [ syslog: { address: \"unix:log\" } ] }".to_owned(), "`unix:log` names no socket"),
        (format!("{{ sinks: [ otlp: {{ endpoint: \"localhost:4318\" }} ], {SPOOL} }}"), "the address cannot be used"),
        (format!("{{ sinks: [ {} ], {SPOOL} }}", AZURE.replace("https:", "http:")), "the address cannot be used"),
        (format!("{{ sinks: [ {} ], {SPOOL} }}", AZURE.replace("dcr-", "rule-")), "is not the immutable id of a rule"),
        (format!("{{ sinks: [ {} ], {SPOOL} }}", AZURE.replace("Custom-A_CL", "A_CL")), "`A_CL` is not a stream"),
        (
            format!("{{ sinks: [ log-analytics: {{ workspace: w, shared-key: \"%\", log-type: \"a-b\" }} ], {SPOOL} }}"),
            "`a-b` cannot be the name of a table",
        ),
        ("{ sinks: [ { stdout: {} }, { stdout: { format: text } } ] }".to_owned(), "there is another sink like this"),
        ("{ sinks: [ file: { path: target/r.jsonl, mode: \"0644\" } ] }".to_owned(), "their files are at most 0640"),
        ("{ sinks: [ file: { path: target/r.jsonl, keep: 400d } ] }".to_owned(), "`keep` is about rotated files"),
        ("{ sinks: [ file: { path: target/r.jsonl, rotate: { size: 1KiB } } ] }".to_owned(), "write at least 64KiB"),
        ("{ sinks: [ file: { path: target/r.jsonl, rotate: { every: 1s } } ] }".to_owned(), "write at least 1m"),
        ("{ sinks: [ syslog: { address: \"tcp://a:514\" } ], spool: { directory: /dev/null/spool } }".to_owned(), "`/dev/null` is not a folder"),
        ("{ sinks: [ syslog: { address: \"tcp://a:514\" } ], spool: { directory: target, size: 1KiB } }".to_owned(), "write at least 1MiB"),
        ("{ sinks: [ stdout: {} ], chain: { seal: { key: Cargo.toml } } }".to_owned(), "a chain goes through files"),
        ("{ sinks: [ file: { path: target/r.jsonl } ], chain: { seal: { key: Cargo.toml } } }".to_owned(), "`Cargo.toml` is no key to sign with"),
        (
            "{ sinks: [ file: { path: target/r.jsonl } ], chain: { seal: { key: { vault: \"https://a.vault.azure.net\", certificate: seal, identity: nobody } } } }"
                .to_owned(),
            "no credential is named `nobody`",
        ),
    ] {
        let report = refusal(&audit);
        assert!(report.contains(expected), "{audit}\n{report}");
    }
}

#[test]
fn short_retention_and_retired_services_are_remarked_on() {
    let audit = "audit:\n  sinks:\n    - file: { path: target/r.jsonl, rotate: { every: 24h }, keep: 90d }\n    \
                 - log-analytics: { workspace: aaaabbbb-0000-cccc-1111-dddd2222eeee, shared-key: \"{{key}}\", log-type: Entrada }\n  \
                 spool: { directory: target/tmp/spool-of-settings }\nnamed-values: { key: { value: AAAA, secret: true } }\n";
    let config = format!("listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\n{ROUTES}{audit}");
    let document = Document::from_text("test.yaml", &config).unwrap_or_else(|report| panic!("{report}"));
    let mut faults = entrada::unstable::settings::Faults::default();

    drop(entrada::unstable::server::try_out(&document, &mut faults));

    let found: Vec<_> = faults.iter().map(|fault| (fault.lint.code(), fault.cure.clone().unwrap_or_default())).collect();
    assert!(found.iter().any(|(code, cure)| *code == "audit-keep-short" && cure.contains("365d")), "{found:?}");
    assert!(found.iter().any(|(code, cure)| *code == "audit-sink-retired" && cure.contains("azure-monitor")), "{found:?}");
    assert!(!faults.any_error(), "{found:?}");
}

//! Tests of imports: what is written is accepted, and judges as the original did.

use std::{collections::BTreeMap, sync::Mutex};

use entrada_import::report::EntryKind;
use serde_json::Value;

use super::*;

/// Imports one document, and asserts that the result is accepted and accounts for everything.
fn imported(name: &str, text: &str, options: &Options) -> Import {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    fs::write(&file, text).expect("written");
    let (import, faults) = checked(&[file], options.clone(), &folder.path().join("out/entrada.yaml")).expect("an import");
    assert!(faults.is_none(), "{name}: {}\n{}", faults.expect("faults").render(false), import.files[0].1);
    assert!(import.report.accounts_for_all(), "{name}");
    import
}

/// The documents of running estates among those at hand.
const PRODUCTION: [&str; 2] = ["pagopa/", "IATI/"];

#[test]
fn documents_of_the_collection_are_imported_and_accounted_for() {
    let Some(data) = std::env::var_os("ENTRADA_DATA") else { return };
    let Ok(lines) = fs::read_to_string(Path::new(&data).join("apim-policies/policies.jsonl")) else { return };
    let documents: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let reasons = Mutex::new(BTreeMap::<String, usize>::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let counts = Mutex::new((0, 0, 0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(document) = documents.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let text = document["text"].as_str().expect("a text");
                    let name = document["path"].as_str().expect("a path").rsplit('/').next().expect("a name");
                    let import = imported(name, text, &Options::default());
                    let is_production =
                        PRODUCTION.iter().any(|owner| document["repository"].as_str().is_some_and(|own| own.starts_with(owner)));
                    let is_whole = !import.report.whole_documents().is_empty();
                    let mut counts = counts.lock().expect("no panic");
                    counts.0 += usize::from(is_production);
                    counts.1 += usize::from(is_production && is_whole);
                    counts.2 += usize::from(!is_production && is_whole);
                    drop(counts);
                    if is_production && !is_whole {
                        for (code, _) in import.report.reasons() {
                            *reasons.lock().expect("no panic").entry(code.to_owned()).or_default() += 1;
                        }
                    }
                    if let Some(folder) = std::env::var_os("ENTRADA_IMPORT_OUT") {
                        let name = document["path"].as_str().expect("a path").replace('/', "_");
                        let base = Path::new(&folder).join(name);
                        fs::write(base.with_extension("out.yaml"), &import.files[0].1).expect("written");
                        fs::write(base.with_extension("out.json"), import.report.to_json().to_string()).expect("written");
                    }
                }
            });
        }
    });
    let (production, whole, samples) = *counts.lock().expect("no panic");
    eprintln!("{whole} of {production} production documents are whole, {samples} of {} samples", documents.len() - production);
    eprintln!("{:#?}", reasons.lock().expect("no panic"));
    assert!(whole * 2 >= production, "{whole} of {production} are translated whole");
    assert!(documents.iter().all(|document| document["text"].is_string()));
    let _ = EntryKind::Element;
}

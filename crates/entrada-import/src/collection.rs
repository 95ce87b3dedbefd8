//! A test of the whole import over a collection of documents, which lies beside the checkout where there is one.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{Options, import};

/// Reads the collection; `None` where there is none.
fn documents() -> Option<Vec<Value>> {
    let Some(data) = std::env::var_os("ENTRADA_DATA") else {
        eprintln!("skipped: ENTRADA_DATA names no folder with documents");
        return None;
    };
    let lines = fs::read_to_string(Path::new(&data).join("apim-policies/policies.jsonl")).ok()?;
    Some(lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

#[test]
fn every_document_is_accounted_for_and_imported_twice_alike() {
    let Some(documents) = documents() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut whole = [0, 0];
    let mut production = 0;
    for document in &documents {
        let path = document["path"].as_str().expect("a path");
        let owner = document["repository"].as_str().expect("a repository");
        let file = folder.path().join(path.rsplit('/').next().expect("a name"));
        fs::write(&file, document["text"].as_str().expect("a text")).expect("written");

        let first =
            import(std::slice::from_ref(&file), &Options::default()).unwrap_or_else(|error| panic!("{owner} {path}: {error}"));
        let second = import(std::slice::from_ref(&file), &Options::default()).expect("an import");

        assert!(first.report.accounts_for_all(), "{owner} {path}");
        assert_eq!(first.files, second.files, "{owner} {path}");
        assert_eq!(first.report.to_json(), second.report.to_json(), "{owner} {path}");
        let is_production = owner.starts_with("pagopa/") || owner.starts_with("IATI/");
        production += usize::from(is_production);
        whole[usize::from(is_production)] += first.report.whole_documents().len();
        if let Some(out) = std::env::var_os("ENTRADA_IMPORT_OUT") {
            let base = Path::new(&out).join(format!("{}_{}", owner.replace('/', "_"), path.replace(['/', ' '], "_")));
            fs::create_dir_all(&base).expect("a folder");
            for (name, text) in &first.files {
                fs::write(base.join(name), text).expect("written");
            }
            fs::write(base.join("report.json"), first.report.to_json().to_string()).expect("written");
        }
    }
    eprintln!(
        "whole: {} of {production} production documents, {} of {} samples",
        whole[1],
        whole[0],
        documents.len() - production
    );
    assert!(whole[1] * 2 >= production, "{} of {production}", whole[1]);
}

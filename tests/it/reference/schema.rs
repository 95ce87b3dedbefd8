//! The committed JSON Schema.

use super::{hold, read};

#[test]
fn the_committed_schema_is_the_one_that_the_program_prints() {
    let schema = serde_json::to_string_pretty(&entrada::schema()).unwrap();

    hold("config/entrada.schema.json", &format!("{schema}\n"));
}

#[test]
fn the_committed_schema_of_test_cases_is_the_one_that_the_program_prints() {
    let schema = serde_json::to_string_pretty(&entrada::test_schema()).unwrap();

    hold("config/entrada-test.schema.json", &format!("{schema}\n"));
}

#[test]
fn every_example_names_the_schema() {
    for name in std::fs::read_dir(super::root().join("config")).unwrap() {
        let name = name.unwrap().file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") {
            let text = read(&format!("config/{name}"));
            let schema = if name.ends_with(".test.yaml") { "entrada-test.schema.json" } else { "entrada.schema.json" };
            assert!(text.starts_with(&format!("# yaml-language-server: $schema={schema}\n")), "config/{name}");
        }
    }
}

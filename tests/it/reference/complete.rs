//! Checks that hand-written pages are complete.

use serde_json::Value;

use super::{read, sources};

/// Collects the keys of a type of the config, and of the types of its keys.
fn keys(schema: &Value, name: &str, into: &mut Vec<String>) {
    for (key, value) in schema["$defs"][name]["properties"].as_object().into_iter().flatten() {
        into.push(key.clone());
        let references = std::iter::once(value).chain(value["anyOf"].as_array().into_iter().flatten());
        for reference in references.filter_map(|value| value["$ref"].as_str()) {
            keys(schema, reference.trim_start_matches("#/$defs/"), into);
        }
    }
}

#[test]
fn every_key_of_an_upstream_is_documented() {
    let (page, schema) = (read("docs/upstreams.md"), serde_json::to_value(entrada::schema()).unwrap());
    let mut wanted = Vec::new();
    keys(&schema, "UpstreamConfig", &mut wanted);
    assert!(wanted.len() > 20, "{wanted:?}");

    let missing: Vec<_> = wanted.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();

    // Two keys stand in one row with what they are part of.
    let missing: Vec<_> =
        missing.into_iter().filter(|key| !page.contains(&format!("{key}:")) && !page.contains(&format!("{key} }}"))).collect();
    assert!(missing.is_empty(), "docs/upstreams.md: {missing:?}");
}

#[test]
fn every_endpoint_of_the_development_tenant_is_documented() {
    let page = read("docs/development-tenant.md");
    let mut missing = Vec::new();
    for (path, text) in sources() {
        if !path.components().any(|part| part.as_os_str().to_string_lossy().contains("dev_tenant")) {
            continue;
        }
        for route in text.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            // What follows is told in words.
            let told = route.split("{*").next().unwrap().split("{object}").next().unwrap();
            if !page.contains(told) {
                missing.push(route.to_owned());
            }
        }
    }

    assert!(missing.is_empty(), "docs/development-tenant.md: {missing:?}");
}

#[test]
fn every_member_of_an_app_of_the_development_tenant_is_documented() {
    let page = read("docs/development-tenant.md");
    let app = serde_json::to_value(entrada::dev_tenant::App::new("00001111-aaaa-2222-bbbb-3333cccc4444")).unwrap();

    for member in app.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{member}`")), "docs/development-tenant.md: {member}");
    }
}

#[test]
fn contributors_are_told_of_every_step_of_ci_and_every_recipe() {
    let page = read("CONTRIBUTING.md");
    let ci = read(".ci/run");
    let steps = ci.split_once("\nall=(").expect("the steps are listed").1.split(')').next().unwrap();
    for step in steps.split_whitespace() {
        assert!(page.contains(&format!("| `{step}` |")), "CONTRIBUTING.md: the step `{step}`");
    }
    let justfile = read("justfile");
    let recipes = justfile.lines().filter(|line| !line.starts_with([' ', '#']) && line.contains(':'));
    for recipe in recipes.map(|line| line.split([' ', ':']).next().unwrap()).filter(|recipe| *recipe != "default") {
        assert!(page.contains(&format!("`just {recipe}")), "CONTRIBUTING.md: `just {recipe}`");
    }
}

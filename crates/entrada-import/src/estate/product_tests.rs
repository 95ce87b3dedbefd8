//! Tests of products: one of them is spliced in, several are told apart by the partner.

use std::fs;

use crate::{Import, Options, import, report::Verdict};

fn imported(more: &[(&str, &str)]) -> Import {
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        ("policy.xml", "<policies><inbound><set-header name=\"X-Global\"><value>g</value></set-header></inbound></policies>"),
        ("apis/orders/apiInformation.json", r#"{ "properties": { "path": "shop", "serviceUrl": "https://o.example" } }"#),
        (
            "apis/orders/policy.xml",
            "<policies><inbound><base /><set-header name=\"X-Api\"><value>a</value></set-header></inbound></policies>",
        ),
        ("products/gold/apis/orders/productApiInformation.json", "{}"),
        ("products/free/apis/orders/productApiInformation.json", "{}"),
        (
            "subscriptions/s1/subscriptionInformation.json",
            r#"{ "properties": { "displayName": "Fabrikam", "scope": "/x/service/y/products/gold" } }"#,
        ),
        (
            "subscriptions/s2/subscriptionInformation.json",
            r#"{ "properties": { "displayName": "Operations", "scope": "/x/service/y/apis" } }"#,
        ),
    ];
    for (name, text) in files.iter().chain(more) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let import = import(&[folder.path().to_owned()], &Options::default()).expect("an import");
    assert!(import.report.accounts_for_all());
    import
}

/// Returns the lines of the route's `inbound`, without comments.
fn inbound(import: &Import) -> Vec<String> {
    let lines = import.files[0].1.lines().skip_while(|line| *line != "    inbound:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("      "));
    let lines = lines.map(|line| line.split("  # ").next().unwrap_or(line).trim().to_owned());
    lines.filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

const GOLD: (&str, &str) = (
    "products/gold/policy.xml",
    "<policies><inbound><base /><set-header name=\"X-Tier\"><value>gold</value></set-header></inbound></policies>",
);

const NO_PRODUCT: &str = "- authorize: { condition: \"@(false)\", code: product-missing, message: \"The subscription is for no product of this API.\" }";

#[test]
fn the_partner_tells_whose_policies_run() {
    let free = (
        "products/free/policy.xml",
        "<policies><inbound><base /><rate-limit calls=\"5\" renewal-period=\"60\" /></inbound></policies>",
    );
    let import = imported(&[GOLD, free]);
    let expected = [
        "- validate-api-key: {}",
        "- rewrite-uri: { template: \"{rest}\" }",
        "- set-header: { name: X-Global, value: g }",
        "- choose:",
        "- when: \"@(partner.name in ['partner-of-free'])\"",
        "do:",
        "- rate-limit-by-key: { counter-key: \"@(partner.name)\", calls: 5, renewal-period: \"60s\" }",
        "- when: \"@(partner.name in ['fabrikam'])\"",
        "do:",
        "- set-header: { name: X-Tier, value: gold }",
        "- when: \"@(partner.name in ['operations'])\"",
        "do: []",
        "- otherwise:",
        NO_PRODUCT,
        "- set-header: { name: X-Api, value: a }",
    ];
    assert_eq!(inbound(&import), expected, "{}", import.files[0].1);
    // A product whose subscriptions are not in the export: its partners are asked for.
    assert!(import.report.needs.iter().any(|need| need.kind == "product" && need.name == "free"), "{:?}", import.report.needs);
    let root =
        import.report.entries.iter().find(|entry| entry.owner == "gold" && entry.element == "policies").expect("the product");
    assert_eq!((root.verdict, root.code.as_str()), (Verdict::Changed, "several-products"));
}

#[test]
fn a_product_without_policies_gets_none_of_the_others() {
    let import = imported(&[GOLD]);
    let lines = inbound(&import);
    let at = lines.iter().position(|line| line == "- when: \"@(partner.name in ['partner-of-free'])\"").expect("the product");
    assert_eq!(lines[at + 1], "do: []", "{lines:?}");
}

#[test]
fn what_stands_around_base_in_a_product_stays_in_its_branch() {
    let free = (
        "products/free/policy.xml",
        "<policies><inbound><set-header name=\"X-Tier\"><value>free</value></set-header><base /></inbound></policies>",
    );
    let lines = inbound(&imported(&[GOLD, free]));
    let at = |wanted: &str| lines.iter().position(|line| line == wanted).unwrap_or_else(|| panic!("{wanted} {lines:?}"));
    let globals = lines.iter().filter(|line| line.contains("X-Global") || line.contains("apim-global-inbound")).count();
    assert_eq!(globals, 3, "{lines:?}");
    assert!(at("- set-header: { name: X-Tier, value: free }") < at("- set-header: { name: X-Tier, value: gold }"));
}

#[test]
fn a_backend_that_depends_on_the_product_refuses() {
    let free = ("products/free/policy.xml", "<policies><backend><forward-request timeout=\"5\" /></backend></policies>");
    let import = imported(&[GOLD, free]);
    assert!(inbound(&import).iter().any(|line| line.contains("not-imported")), "{}", import.files[0].1);
}

#[test]
fn an_api_without_base_runs_no_product() {
    let own = ("apis/orders/policy.xml", "<policies><inbound><set-method>GET</set-method></inbound></policies>");
    let import = imported(&[GOLD, own]);
    assert!(!import.files[0].1.contains("choose:"), "{}", import.files[0].1);
}

//! Tests of layouts: folders of apiops, ARM templates, descriptions, and collections of documents.

use std::{fs, path::Path};

use crate::{DocumentScope, Import, Options, import, report::Verdict};

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
}

fn imported(files: &[(&str, &str)], options: &Options) -> Import {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    let import = import(&[folder.path().to_owned()], options).expect("an import");
    assert!(import.report.accounts_for_all());
    import
}

const DESCRIPTION: &str = r#"
openapi: 3.0.1
info: { title: Orders }
servers: [ { url: "https://orders.example/v1" } ]
paths:
  /orders/{orderId}:
    get:
      operationId: get-order
      responses: { "200": { content: { application/json: { example: { id: 1 } } } } }
    delete: { operationId: delete-order }
  /files/{*rest}: { get: { operationId: files } }
  /search?q={q}: { get: { operationId: search } }
"#;

/// An estate as the extractor lays it out.
fn estate() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "policy.xml",
            "<policies><inbound><set-header name=\"X-Global\"><value>g</value></set-header><set-header name=\"X-Two\"><value>2</value></set-header></inbound>\
             <backend><forward-request timeout=\"20\" /></backend></policies>",
        ),
        (
            "apis/orders/apiInformation.json",
            r#"{ "properties": { "displayName": "Orders", "path": "shop/orders", "serviceUrl": "https://orders.example/api/", "protocols": ["https"],
                 "subscriptionRequired": true, "isCurrent": true, "subscriptionKeyParameterNames": { "header": "X-Shop-Key", "query": "shop-key" } } }"#,
        ),
        ("apis/orders/specification.yaml", DESCRIPTION),
        (
            "apis/orders/policy.xml",
            "<policies><inbound><base /><set-header name=\"X-Api\"><value>@(context.Api.Name)</value></set-header></inbound></policies>",
        ),
        (
            "apis/orders/operations/get-order/policy.xml",
            r#"<policies><inbound><set-header name="X-First"><value>1</value></set-header><base />
               <include-fragment fragment-id="Common" /><set-header name="X-Order"><value>@(context.Request.MatchedParameters["orderId"])</value></set-header>
               </inbound></policies>"#,
        ),
        (
            "apis/orders/operations/files/policy.xml",
            "<policies><inbound><mock-response status-code=\"200\" /></inbound></policies>",
        ),
        ("apis/orders;rev=2/apiInformation.json", r#"{ "properties": { "path": "shop/orders", "isCurrent": false } }"#),
        ("apis/graph/apiInformation.json", r#"{ "properties": { "path": "g", "type": "graphql" } }"#),
        ("products/gold/productInformation.json", r#"{ "properties": { "subscriptionRequired": true } }"#),
        (
            "products/gold/policy.xml",
            "<policies><inbound><base /><rate-limit calls=\"5\" renewal-period=\"60\" /></inbound></policies>",
        ),
        ("products/gold/apis/orders/productApiInformation.json", "{}"),
        (
            "named values/stage/namedValueInformation.json",
            r#"{ "properties": { "displayName": "stage", "value": "test", "secret": false } }"#,
        ),
        ("named values/pw/namedValueInformation.json", r#"{ "properties": { "displayName": "pw", "secret": true } }"#),
        (
            "policy fragments/Common/policy.xml",
            "<fragment><set-header name=\"X-Stage\"><value>{{stage}}</value></set-header><set-header name=\"X-Pw\"><value>{{pw}}</value></set-header></fragment>",
        ),
        (
            "backends/pool/backendInformation.json",
            r#"{ "properties": { "url": "https://pool.example", "tls": { "validateCertificateChain": false } } }"#,
        ),
        (
            "subscriptions/s1/subscriptionInformation.json",
            r#"{ "properties": { "displayName": "Fabrikam", "state": "active", "ownerId": "/users/7", "scope": "/x/service/y/products/gold" } }"#,
        ),
        ("loggers/l/loggerInformation.json", "{}"),
    ]
}

#[test]
fn an_estate_becomes_one_route_for_each_operation() {
    let import = imported(&estate(), &Options::default());
    let text = &import.files[0].1;
    for line in [
        "  - name: orders-get-order",
        "    match: { exact-path: \"/shop/orders/orders/{order_id}\", methods: [GET] }",
        "    match: { exact-path: \"/shop/orders/orders/{order_id}\", methods: [DELETE] }",
        "    match: { path: /shop/orders/files, methods: [GET] }",
        "    require-tls: true",
        "      - validate-api-key: { header-name: X-Shop-Key, query-parameter-name: shop-key }  # the subscription key",
        "      - rewrite-uri: { template: \"/orders/{order_id}\" }  # the path below the API",
        "      - authorize: { condition: \"@(has(request.query['q']))\", code: parameter-missing }  # the operation's template asks for this parameter",
        "      - return-response: { status: 200 }  # apis/orders/operations/files/policy.xml:1",
        "  stage: { value: test }",
        "  pw: { env: PW, default: unset-pw, secret: true }  # to be supplied: an export has no secrets",
        "  orders: { servers: [\"https://orders.example/api\"], timeouts: { response: \"20s\" } }",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
}

#[test]
fn an_environment_overrides_properties() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("configuration.test.yaml");
    let text = "apis: [ { name: orders, properties: { serviceUrl: \"https://test.example\" } } ]\n\
                namedValues: [ { name: stage, properties: { value: other } } ]\n";
    fs::write(&file, text).expect("written");
    let import = imported(&estate(), &Options { overrides: vec![file], ..Options::default() });
    let text = &import.files[0].1;
    assert!(text.contains("servers: [\"https://test.example\"]") && text.contains("stage: { value: other }"), "{text}");
}

#[test]
fn scopes_run_in_the_order_in_which_base_stands() {
    let import = imported(&estate(), &Options::default());
    let text = &import.files[0].1;
    let route: String =
        text.split("- name: orders-get-order\n").nth(1).expect("the route").split("  - name: ").next().unwrap_or_default().into();
    let place = |mark: &str| route.find(mark).unwrap_or_else(|| panic!("{mark}\n{route}"));
    // The operation's own, then at its <base /> global, product and API, and then the rest of the operation.
    let first = place("X-First");
    let product = place("include-fragment: apim-product-gold-inbound");
    assert!(first < product && product < place("X-Api") && place("X-Api") < place("X-Stage"), "{route}");
    assert!(text.contains("  apim-product-gold-inbound:\n") && text.contains("rate-limit-by-key"), "{text}");
    assert!(place("X-First") < place("X-Stage") && place("X-Stage") < place("X-Order"), "{route}");
}

#[test]
fn resources_are_told_with_their_fate() {
    let import = imported(&estate(), &Options::default());
    let verdict = |element: &str, owner: &str| {
        let found = import.report.entries.iter().find(|entry| entry.element == element && entry.owner == owner);
        found.map(|entry| (entry.verdict, entry.code.clone()))
    };
    assert_eq!(verdict("api", "orders"), Some((Verdict::Same, String::new())));
    assert_eq!(verdict("api", "graph"), Some((Verdict::Not, "api-kind".to_owned())));
    assert_eq!(verdict("revision", "orders;rev=2"), Some((Verdict::Not, "revision".to_owned())));
    assert_eq!(verdict("backend", "pool"), Some((Verdict::Not, "tls-unchecked".to_owned())));
    assert_eq!(verdict("subscription", "Fabrikam"), Some((Verdict::Changed, "subscription-is-partner".to_owned())));
    assert!(import.files.iter().any(|(name, text)| name == "partners.yaml" && text.contains("#   fabrikam:")));
    assert!(import.report.lints.iter().any(|lint| lint.code == "L9"), "{:?}", import.report.lints);
    assert!(import.report.summary().contains("fill in 1 partners"), "{}", import.report.summary());
}

#[test]
fn templates_hold_documents_as_texts() {
    let policy = "<policies><inbound><base /><set-header name=\\\"X-A\\\"><value>a</value></set-header></inbound></policies>";
    let template = format!(
        r#"{{ "$schema": "x", "resources": [
          {{ "type": "Microsoft.ApiManagement/service/apis", "name": "[concat(parameters('svc'), '/orders')]",
             "properties": {{ "path": "orders", "serviceUrl": "https://o.example", "subscriptionRequired": false }},
             "resources": [ {{ "type": "operations", "name": "list", "properties": {{ "method": "GET", "urlTemplate": "/list", "displayName": "List" }} }} ] }},
          {{ "type": "Microsoft.ApiManagement/service/apis/policies", "name": "[concat(parameters('svc'), '/orders/policy')]",
             "properties": {{ "format": "rawxml", "value": "{policy}" }} }},
          {{ "type": "Microsoft.ApiManagement/service/policies", "name": "svc/policy", "properties": {{ "format": "xml-link", "value": "https://x" }} }},
          {{ "type": "Microsoft.ApiManagement/service/loggers", "name": "svc/l", "properties": {{}} }} ] }}"#
    );
    let import = imported(&[("azuredeploy.json", &template)], &Options::default());
    let text = &import.files[0].1;
    assert!(text.contains("match: { exact-path: /orders/list, methods: [GET] }"), "{text}");
    assert!(text.contains("anonymous: true") && text.contains("set-header: { name: X-A, value: a }"), "{text}");
    assert!(import.report.entries.iter().any(|entry| entry.code == "link"));
    assert_eq!(import.report.out_of_scope.get("ARM resources `loggers`"), Some(&1));
}

#[test]
fn a_folder_of_documents_has_its_base_beside_it() {
    let files = [
        ("api/v1/_base_policy.xml", "<policies><inbound><set-variable name=\"tier\" value=\"gold\" /></inbound></policies>"),
        (
            "api/v1/_get.xml.tpl",
            "<policies><inbound><base /><set-header name=\"X-T\"><value>@((string)context.Variables[\"tier\"])</value></set-header>\
             <set-backend-service base-url=\"https://${host_name}/x\" /></inbound></policies>",
        ),
        ("readme.json", "{}"),
    ];
    let import = imported(&files, &Options::default());
    let text = &import.files[0].1;
    assert!(text.contains("set-header: { name: X-T, value: \"@(variables.tier)\" }"), "{text}");
    assert!(text.contains("tf-host-name: { env: TF_HOST_NAME, default: tf-host-name.invalid }"), "{text}");
    assert!(import.report.needs.iter().any(|need| need.name == "tf-host-name"));
    let given = Options { named_values: vec![("tf-host-name".into(), "h.example".into())], ..Options::default() };
    let import = imported(&files, &given);
    assert!(import.files[0].1.contains("tf-host-name: { value: h.example }"), "{}", import.files[0].1);
    let mapped = Options { scope_map: vec![("*_get*".into(), DocumentScope::Product)], ..Options::default() };
    assert!(imported(&files, &mapped).report.documents.iter().any(|(_, scope)| *scope == "product"));
}

#[test]
fn a_missing_base_before_access_rules_is_told() {
    let files = [
        (
            "api/_base_policy.xml",
            "<policies><inbound><ip-filter action=\"forbid\"><address>198.51.100.1</address></ip-filter></inbound></policies>",
        ),
        ("api/get.xml", "<policies><inbound><set-method>GET</set-method></inbound></policies>"),
    ];
    let import = imported(&files, &Options::default());
    assert!(import.report.lints.iter().any(|lint| lint.code == "L10" && lint.file == "api/get.xml"), "{:?}", import.report.lints);
}

#[test]
fn a_description_alone_becomes_routes() {
    let import = imported(&[("openapi.yaml", DESCRIPTION)], &Options::default());
    assert_eq!(import.report.routes, 3);
    let merged =
        ("orders-orders-order-id".to_owned(), vec!["GET /orders/{orderId}".to_owned(), "DELETE /orders/{orderId}".to_owned()]);
    assert_eq!(import.report.merged, [merged]);
    assert!(import.files[0].1.contains("servers: [\"https://orders.example/v1\"]"), "{}", import.files[0].1);
}

const ANY_PATH: &str = r#"
openapi: 3.0.1
info: { title: Orders }
paths:
  /*: { get: { operationId: get-any }, post: { operationId: post-any } }
  /orders: { get: { operationId: list }, post: { operationId: create } }
  /orders/{id}: { get: { operationId: read } }
"#;

/// An API with a description, and policies of its operations.
fn with_operations(description: &'static str, policies: &[(&'static str, &'static str)]) -> Import {
    let information = r#"{ "properties": { "path": "shop", "serviceUrl": "https://o.example", "subscriptionRequired": true } }"#;
    let mut files = vec![
        ("apis/orders/apiInformation.json", information),
        ("apis/orders/specification.yaml", description),
        (
            "apis/orders/policy.xml",
            "<policies><inbound><base /><set-header name=\"X-A\"><value>a</value></set-header></inbound></policies>",
        ),
    ];
    files.extend(policies);
    imported(&files, &Options::default())
}

#[test]
fn operations_with_the_same_policies_become_one_route() {
    let alike = "<policies><inbound><base /><set-header name=\"X-B\"><value>b</value></set-header></inbound></policies>";
    let import = with_operations(
        ANY_PATH,
        &[
            ("apis/orders/operations/list/policy.xml", alike),
            ("apis/orders/operations/create/policy.xml", alike),
            ("apis/orders/operations/read/policy.xml", alike),
        ],
    );
    let text = &import.files[0].1;
    for line in [
        "  # one route for GET /orders, POST /orders",
        "  - name: orders-orders",
        "    match: { exact-path: /shop/orders, methods: [GET, POST] }",
        "    match: { exact-path: \"/shop/orders/{id}\", methods: [GET] }",
        "    match: { path: /shop, methods: [GET, POST] }",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    assert_eq!(import.report.routes, 3);
    // Both documents are found at the one place in the config.
    let place = |file: &str| {
        import
            .report
            .entries
            .iter()
            .find(|entry| entry.file == file && entry.element == "set-header")
            .expect("it is there")
            .yaml
            .clone()
    };
    let (list, create) = (place("apis/orders/operations/list/policy.xml"), place("apis/orders/operations/create/policy.xml"));
    assert!(list.is_some() && list == create, "{list:?} {create:?}");
    let markdown = import.report.to_markdown();
    assert!(markdown.contains("| `orders-orders` | `GET /orders`, `POST /orders` |"), "{markdown}");
    assert_eq!(import.report.to_json()["merged"][1]["route"], "orders-orders");
}

#[test]
fn an_api_whose_operations_are_all_alike_becomes_one_route() {
    let import = with_operations(ANY_PATH, &[]);
    let text = &import.files[0].1;
    assert_eq!(import.report.routes, 1, "{text}");
    assert!(text.contains("  - name: orders\n    match: { path: /shop, methods: [GET, POST] }\n"), "{text}");
    assert!(text.contains("rewrite-uri: { template: \"{rest}\" }"), "{text}");
    assert_eq!(import.report.merged[0].1.len(), 5);
}

#[test]
fn a_method_that_only_some_paths_have_opens_no_other_path() {
    let description =
        "openapi: 3.0.1\npaths:\n  /*: { get: { operationId: any } }\n  /orders: { delete: { operationId: clear } }\n";
    let import = with_operations(description, &[]);
    assert!(import.files[0].1.contains("match: { path: /shop, methods: [GET] }"), "{}", import.files[0].1);
    assert!(import.files[0].1.contains("match: { exact-path: /shop/orders, methods: [DELETE] }"), "{}", import.files[0].1);
}

#[test]
fn operations_that_differ_in_an_access_rule_stay_apart() {
    let filter =
        "<policies><inbound><base /><ip-filter action=\"allow\"><address>198.51.100.1</address></ip-filter></inbound></policies>";
    let import = with_operations(ANY_PATH, &[("apis/orders/operations/create/policy.xml", filter)]);
    let text = &import.files[0].1;
    assert!(text.contains("match: { exact-path: /shop/orders, methods: [GET] }"), "{text}");
    assert!(text.contains("match: { exact-path: /shop/orders, methods: [POST] }"), "{text}");
}

#[test]
fn names_of_files_and_resources_stay_within_their_comment() {
    let policy = "<policies><inbound><set-header name=\\\"X-A\\\"><value>a</value></set-header></inbound></policies>";
    let template = format!(
        r#"{{ "resources": [ {{ "type": "Microsoft.ApiManagement/service/apis/policies", "name": "svc/or\n    anonymous: true\n    #/policy",
             "properties": {{ "format": "rawxml", "value": "{policy}" }} }} ] }}"#
    );
    let import = imported(&[("azuredeploy.json", &template)], &Options::default());
    assert!(!import.files[0].1.lines().any(|line| line.trim() == "anonymous: true"), "{}", import.files[0].1);
}

#[test]
fn what_is_no_input_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(import(&[folder.path().to_owned()], &Options::default()).is_err());
    assert!(import(&[folder.path().join("none.xml")], &Options::default()).is_err());
    write(folder.path(), &[("a.xml", "<html />"), ("b.json", "[1"), ("c.json", "{}")]);
    for name in ["a.xml", "b.json", "c.json"] {
        assert!(import(&[folder.path().join(name)], &Options::default()).is_err(), "{name}");
    }
}

//! A table of elements, as Microsoft documents them, with the policies and the verdict that each becomes.

use std::fs;

use crate::{
    Import, Options, import,
    report::{EntryKind, Verdict},
};

fn imported(text: &str) -> Import {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.xml");
    fs::write(&file, text).expect("written");
    let options = Options { accept_anonymous: true, ..Options::default() };
    import(&[file], &options).expect("an import")
}

/// Returns the lines of a list of the route, without comments behind policies.
fn list(import: &Import, key: &str) -> Vec<String> {
    let text = &import.files[0].1;
    let head = format!("    {key}:");
    let lines = text.lines().skip_while(|line| *line != head).skip(1).take_while(|line| line.starts_with("      "));
    lines.map(|line| line.split("  # ").next().unwrap_or(line).trim_start().to_owned()).collect()
}

/// Returns the verdict of an element and its code.
fn verdict(import: &Import, element: &str) -> (Verdict, String) {
    let found = import.report.entries.iter().find(|entry| entry.kind == EntryKind::Element && entry.element == element);
    let entry = found.unwrap_or_else(|| panic!("no `{element}`"));
    (entry.verdict, entry.code.clone())
}

const REFUSAL: &str =
    "- authorize: { condition: \"@(false)\", code: not-imported, message: \"A rule of this API was not imported.\" }";

/// Elements of `inbound`: the element, the policies, the verdict with its code.
const INBOUND: &[(&str, &[&str], Verdict, &str)] = &[
    (
        r#"<set-header name="X-A" exists-action="override"><value>a</value></set-header>"#,
        &["- set-header: { name: X-A, value: a }"],
        Verdict::Same,
        "",
    ),
    (r#"<set-header name="X-A"><value>a</value></set-header>"#, &["- set-header: { name: X-A, value: a }"], Verdict::Same, ""),
    (
        r#"<set-header name="X-A" exists-action="append"><value>a</value><value>b</value></set-header>"#,
        &["- set-header: { name: X-A, exists-action: append, values: [a, b] }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-header name="X-A" exists-action="skip"><value>@(context.Request.Method)</value></set-header>"#,
        &["- set-header: { name: X-A, exists-action: skip, value: \"@(request.method)\" }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-header name="X-A" exists-action="delete" />"#,
        &["- set-header: { name: X-A, exists-action: delete }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-header name="X-A"><value>@(context.Request.Headers.GetValueOrDefault("X-B",""))</value></set-header>"#,
        &[
            "- set-header: { name: X-A, value: \"@(has(request.headers['x-b']) ? request.headers['x-b'] : '')\", when-absent: skip }",
        ],
        Verdict::Changed,
        "empty-value",
    ),
    (
        r#"<set-header name="X-A"><value>@(context.Request.Body.As<string>())</value></set-header>"#,
        &["- set-header: { name: X-A, exists-action: delete }"],
        Verdict::Not,
        "body",
    ),
    (r#"<set-header name="Content-Length"><value>1</value></set-header>"#, &[], Verdict::Note, "framing"),
    (r#"<set-header name="X-Forwarded-For"><value>a</value></set-header>"#, &[], Verdict::Changed, "forwarded-header"),
    (
        r#"<set-query-parameter name="a" exists-action="override"><value>b</value></set-query-parameter>"#,
        &["- set-query-parameter: { name: a, value: b }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-query-parameter name="a" exists-action="delete" />"#,
        &["- set-query-parameter: { name: a, exists-action: delete }"],
        Verdict::Same,
        "",
    ),
    (r#"<set-variable name="myName" value="a" />"#, &["- set-variable: { name: my_name, value: a }"], Verdict::Same, ""),
    (
        r#"<set-variable name="a" value="@(context.Request.Headers.GetValueOrDefault("X"))" />"#,
        &["- set-variable: { name: a, value: \"@(request.headers['x'])\", when-absent: skip }"],
        Verdict::Same,
        "",
    ),
    (r#"<set-method>post</set-method>"#, &["- set-method: POST"], Verdict::Same, ""),
    (r#"<rewrite-uri template="/a/b" />"#, &["- rewrite-uri: { template: /a/b }"], Verdict::Same, ""),
    (r#"<rewrite-uri template="a?b=c" />"#, &["- rewrite-uri: { template: \"/a?b=c\" }"], Verdict::Note, "leading-slash"),
    (
        r#"<rewrite-uri template="/a/{id}" copy-unmatched-params="false" />"#,
        &["- rewrite-uri: { template: \"/a/{id}\", copy-unmatched-params: false }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<rewrite-uri template="@($"/a/{context.Request.MatchedParameters["id"]}")" />"#,
        &["- rewrite-uri: { template: \"/a/{id}\" }"],
        Verdict::Same,
        "",
    ),
    (r#"<rewrite-uri template="@(context.Request.Body.As<string>())" />"#, &[REFUSAL], Verdict::Not, "computed-path"),
    (
        r#"<set-backend-service base-url="https://b.example/x/" />"#,
        &["- set-backend-service: { upstream: x }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-backend-service backend-id="orders-pool" />"#,
        &["- set-backend-service: { upstream: orders-pool }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-backend-service base-url="@(context.Request.Method == "GET" ? "https://r.example" : "https://w.example")" />"#,
        &["- set-backend-service: { upstream: \"@(request.method == 'GET' ? 'r' : 'w')\", among: [r, w] }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-backend-service base-url="@(context.Request.Headers.GetValueOrDefault("Host",""))" />"#,
        &[REFUSAL],
        Verdict::Not,
        "backend-not-finite",
    ),
    (
        r#"<ip-filter action="allow"><address>198.51.100.1</address><address-range from="203.0.113.1" to="203.0.113.9" /></ip-filter>"#,
        &["- ip-filter: { action: allow, addresses: [\"198.51.100.1\", \"203.0.113.1-203.0.113.9\"], of: peer }"],
        Verdict::Note,
        "last-hop",
    ),
    (r#"<ip-filter action="deny"><address>198.51.100.1</address></ip-filter>"#, &[REFUSAL], Verdict::Not, "unparsable"),
    (
        r#"<check-header name="X-A" failed-check-httpcode="403" failed-check-error-message="No" ignore-case="true"><value>a</value></check-header>"#,
        &[
            "- check-header: { name: X-A, values: [a], ignore-case: true, failed-check-httpcode: 403, failed-check-error-message: \"No\" }",
        ],
        Verdict::Same,
        "",
    ),
    (
        r#"<check-header name="X-Forwarded-For" failed-check-httpcode="403" failed-check-error-message="No" ignore-case="true"><value>198.51.100.1</value></check-header>"#,
        &["- ip-filter: { action: allow, addresses: [\"198.51.100.1\"] }"],
        Verdict::Changed,
        "forwarded-header",
    ),
    (
        r#"<validate-azure-ad-token tenant-id="aaaabbbb-0000-cccc-1111-dddd2222eeee"><audiences><audience>api://a</audience></audiences></validate-azure-ad-token>"#,
        &["- validate-azure-ad-token: { tenant: tenant, audiences: [\"api://a\"], failed-validation-httpcode: 401 }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<validate-azure-ad-token tenant-id="aaaabbbb-0000-cccc-1111-dddd2222eeee"><client-application-ids><application-id>a</application-id></client-application-ids></validate-azure-ad-token>"#,
        &[REFUSAL],
        Verdict::Not,
        "audience-missing",
    ),
    (
        r#"<validate-jwt header-name="Authorization" require-scheme="Bearer"><openid-config url="https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0/.well-known/openid-configuration" /><audiences><audience>api://a</audience></audiences></validate-jwt>"#,
        &[
            "- validate-azure-ad-token: { tenant: tenant, audiences: [\"api://a\"], failed-validation-httpcode: 401, clock-skew: \"0s\" }",
        ],
        Verdict::Same,
        "",
    ),
    (
        r#"<validate-jwt header-name="X-Token"><openid-config url="https://idp.fabrikam.example/.well-known/openid-configuration" /><audiences><audience>a</audience></audiences><required-claims><claim name="scp" match="any" separator=" "><value>r</value></claim></required-claims></validate-jwt>"#,
        &[
            "- validate-jwt: { issuer: idp-fabrikam-example, audiences: [a], required-claims: [{ name: scp, match: any, separator: \" \", values: [r] }], header-name: X-Token, failed-validation-httpcode: 401, clock-skew: \"0s\" }",
        ],
        Verdict::Same,
        "",
    ),
    (
        r#"<validate-jwt header-name="Authorization" require-scheme="Bearer"><openid-config url="https://idp.fabrikam.example/.well-known/openid-configuration" /><required-claims><claim name="aud"><value>a</value></claim></required-claims></validate-jwt>"#,
        &[
            "- validate-jwt: { issuer: idp-fabrikam-example, audiences: [a], failed-validation-httpcode: 401, clock-skew: \"0s\" }",
        ],
        Verdict::Same,
        "",
    ),
    (
        r#"<validate-jwt header-name="Authorization"><issuer-signing-keys><key>{{k}}</key></issuer-signing-keys></validate-jwt>"#,
        &[REFUSAL],
        Verdict::Not,
        "symmetric-key",
    ),
    (
        r#"<validate-jwt header-name="Authorization" require-signed-tokens="false"><openid-config url="https://idp.fabrikam.example/.well-known/openid-configuration" /></validate-jwt>"#,
        &[REFUSAL],
        Verdict::Not,
        "unsigned-tokens",
    ),
    (
        r#"<rate-limit-by-key calls="10" renewal-period="60" counter-key="@(context.Request.IpAddress)" />"#,
        &["- rate-limit-by-key: { counter-key: \"@(caller.address)\", calls: 10, renewal-period: \"60s\" }"],
        Verdict::Changed,
        "caller-address",
    ),
    (
        r#"<rate-limit-by-key calls="10" renewal-period="60" counter-key="@(context.Request.Headers.GetValueOrDefault("X-Forwarded-For"))" />"#,
        &["- rate-limit-by-key: { counter-key: \"@(caller.address)\", calls: 10, renewal-period: \"60s\" }"],
        Verdict::Changed,
        "forwarded-header",
    ),
    (
        r#"<rate-limit-by-key calls="10" renewal-period="60" counter-key="all" increment-condition="@(context.Response.StatusCode == 200)" />"#,
        &[
            "- rate-limit-by-key: { counter-key: \"@('all')\", calls: 10, renewal-period: \"60s\", increment-condition: \"@(response.status == 200)\" }",
        ],
        Verdict::Note,
        "counted-at-once",
    ),
    (
        r#"<quota-by-key calls="10" bandwidth="5" renewal-period="3600" counter-key="a" />"#,
        &["- quota-by-key: { counter-key: \"@('a')\", bandwidth: \"5KiB\", calls: 10, renewal-period: \"3600s\" }"],
        Verdict::Changed,
        "quota-periods",
    ),
    (r#"<quota-by-key calls="10" renewal-period="0" counter-key="a" />"#, &[REFUSAL], Verdict::Not, "quota-for-ever"),
    (
        r#"<limit-concurrency key="@(context.Request.Method)" max-count="3"><set-method>GET</set-method></limit-concurrency>"#,
        &["- limit-concurrency: { max-count: 3, key: \"@(request.method)\" }", "- set-method: GET"],
        Verdict::Note,
        "permit",
    ),
    (
        r#"<cors allow-credentials="true"><allowed-origins><origin>https://a.example/</origin></allowed-origins><allowed-methods preflight-result-max-age="300"><method>GET</method></allowed-methods><allowed-headers><header>*</header></allowed-headers></cors>"#,
        &[
            "- cors: { allowed-origins: [\"https://a.example\"], allowed-methods: [GET], allowed-headers: [\"*\"], allow-credentials: true, preflight-result-max-age: \"300s\" }",
        ],
        Verdict::Note,
        "cors",
    ),
    (
        r#"<return-response><set-status code="403" reason="Forbidden" /><set-header name="X-A"><value>a</value></set-header><set-body>no</set-body></return-response>"#,
        &["- return-response: { status: 403, headers: { X-A: a }, body: \"no\" }"],
        Verdict::Note,
        "reason-phrase",
    ),
    (r#"<return-response />"#, &["- return-response: { status: 200 }"], Verdict::Same, ""),
    (
        r#"<return-response><set-body template="liquid">{"a":"{{body.b}}"}</set-body></return-response>"#,
        &[REFUSAL],
        Verdict::Not,
        "liquid",
    ),
    (
        r#"<return-response><set-header name="Set-Cookie"><value>a=1</value><value>b=2</value></set-header></return-response>"#,
        &["- return-response: { status: 200, headers: { Set-Cookie: [\"a=1\", \"b=2\"] } }"],
        Verdict::Same,
        "",
    ),
    (r#"<mock-response status-code="404" />"#, &["- return-response: { status: 404 }"], Verdict::Changed, "no-example"),
    (
        r#"<trace source="s"><message>m</message><metadata name="a" value="@(context.Request.Method)" /></trace>"#,
        &["- trace: { source: s, message: m, metadata: { a: \"@(request.method)\" } }"],
        Verdict::Note,
        "trace",
    ),
    (
        r#"<choose><when condition="@(context.Request.Method == "GET")"><set-method>POST</set-method></when><otherwise><set-method>PUT</set-method></otherwise></choose>"#,
        &[
            "- choose:",
            "- when: \"@(request.method == 'GET')\"",
            "do:",
            "- set-method: POST",
            "- otherwise:",
            "- set-method: PUT",
        ],
        Verdict::Same,
        "",
    ),
    (
        r#"<choose><when condition="@(context.Request.Body.As<string>() == "a")"><return-response /></when></choose>"#,
        &[REFUSAL],
        Verdict::Not,
        "body",
    ),
    (
        r#"<choose><when condition="@(context.Request.Body.As<string>() == "a")"><set-header name="X-A"><value>a</value></set-header></when></choose>"#,
        &["- set-header: { name: X-A, exists-action: delete }"],
        Verdict::Not,
        "body",
    ),
    (
        r#"<include-fragment fragment-id="Shared_Rules" />"#,
        &["- include-fragment: shared-rules"],
        Verdict::Note,
        "fragment-missing",
    ),
    (
        r#"<send-request mode="new" response-variable-name="r"><set-url>https://a.example</set-url></send-request>"#,
        &[],
        Verdict::Not,
        "sub-request",
    ),
    (r#"<cache-lookup-value key="a" variable-name="b" />"#, &[], Verdict::Not, "cache"),
    (r#"<set-body>a</set-body>"#, &[], Verdict::Not, "body"),
    (r#"<find-and-replace from="a" to="b" />"#, &[], Verdict::Not, "body"),
    (
        r#"<get-authorization-context provider-id="a" authorization-id="b" context-variable-name="c" />"#,
        &[],
        Verdict::Not,
        "credential-manager",
    ),
    (r#"<validate-content unspecified-content-type-action="prevent" />"#, &[REFUSAL], Verdict::Not, "body"),
    (r#"<llm-token-limit tokens-per-minute="5" counter-key="a" />"#, &[REFUSAL], Verdict::Not, "ai"),
    (r#"<something-new />"#, &[REFUSAL], Verdict::Not, "element"),
];

/// The same for `outbound` and `on-error`.
const OUTBOUND: &[(&str, &[&str], Verdict, &str)] = &[
    (r#"<set-status code="404" reason="Not Found" />"#, &["- set-status: { code: 404 }"], Verdict::Note, "reason-phrase"),
    (
        r#"<set-header name="Server" exists-action="delete" />"#,
        &["- set-header: { name: Server, exists-action: delete }"],
        Verdict::Same,
        "",
    ),
    (
        r#"<set-header name="X-S"><value>@(context.Response.StatusCode.ToString())</value></set-header>"#,
        &["- set-header: { name: X-S, value: \"@(string(response.status))\" }"],
        Verdict::Same,
        "",
    ),
    (r#"<set-body>a</set-body>"#, &[], Verdict::Not, "body"),
    (r#"<rewrite-uri template="/a" />"#, &[], Verdict::Not, "section"),
];

const ON_ERROR: &[(&str, &[&str], Verdict, &str)] = &[
    (r#"<set-body>a b</set-body>"#, &["- set-body: { value: \"a b\" }"], Verdict::Same, ""),
    (
        r#"<choose><when condition="@(context.LastError.Reason == "TokenExpired")"><return-response><set-status code="401" /></return-response></when></choose>"#,
        &["- choose:", "- when: \"@(error.code == 'token-expired')\"", "do:", "- return-response: { status: 401 }"],
        Verdict::Same,
        "",
    ),
];

fn name_of(element: &str) -> &str {
    element[1..].split([' ', '>', '/']).next().unwrap_or_default()
}

#[test]
fn elements_become_what_the_table_says() {
    let mut wrong = Vec::new();
    for (section, table) in [("inbound", INBOUND), ("outbound", OUTBOUND), ("on-error", ON_ERROR)] {
        for (element, policies, expected, code) in table {
            let import = imported(&format!("<policies><{section}>{element}</{section}></policies>"));
            let found = list(&import, section);
            let found: Vec<_> = found.iter().filter(|line| !line.starts_with('#') && !line.is_empty()).cloned().collect();
            let (verdict, own) = verdict(&import, name_of(element));
            if found != *policies || verdict != *expected || own != *code {
                wrong.push(format!(
                    "{element}\n  expected {policies:?} {expected:?} {code}\n  found    {found:?} {verdict:?} {own}"
                ));
            }
            assert!(import.report.accounts_for_all());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the value of a key of the route.
fn setting(import: &Import, key: &str) -> String {
    let head = format!("    {key}: ");
    import.files[0].1.lines().find_map(|line| line.strip_prefix(&head)).unwrap_or_default().to_owned()
}

#[test]
fn the_authorization_for_the_backend_is_the_routes() {
    for (elements, expected) in [
        ("", "keep"),
        (r#"<set-header name="Authorization" exists-action="delete" />"#, "remove"),
        (r#"<authentication-basic username="u" password="{{p}}" />"#, "{ basic: { username: u, password: \"{{p}}\" } }"),
        (
            r#"<set-header name="Authorization"><value>@("Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes("u:{{p}}")))</value></set-header>"#,
            "{ basic: { username: u, password: \"{{p}}\" } }",
        ),
        (
            r#"<authentication-managed-identity resource="https://a.example" />"#,
            "{ credential: managed-identity, scope: \"https://a.example/.default\" }",
        ),
        (
            r#"<authentication-managed-identity resource="api://a" output-token-variable-name="t" /><set-header name="Authorization"><value>@("Bearer " + (string)context.Variables["t"])</value></set-header>"#,
            "{ credential: managed-identity, scope: \"api://a/.default\" }",
        ),
        (
            r#"<set-header name="Authorization"><value>@(context.Request.Headers.GetValueOrDefault("X-Key",""))</value></set-header>"#,
            "remove",
        ),
    ] {
        let import = imported(&format!("<policies><inbound>{elements}</inbound></policies>"));
        assert_eq!(setting(&import, "authorization"), expected, "{elements}");
    }
    // Its token goes nowhere that is known here.
    let unused = imported(
        r#"<policies><inbound><authentication-managed-identity resource="a" output-token-variable-name="t" /></inbound></policies>"#,
    );
    assert_eq!(verdict(&unused, "authentication-managed-identity"), (Verdict::Not, "managed-identity".to_owned()));
}

#[test]
fn the_backend_section_is_the_settings_of_the_upstream() {
    for (backend, expected) in [
        ("<base />", "{ servers: [\"https://backend.invalid\"], timeouts: { response: \"300s\" } }"),
        (r#"<forward-request timeout="60" />"#, "{ servers: [\"https://backend.invalid\"], timeouts: { response: \"60s\" } }"),
        (
            r#"<retry condition="@(context.Response.StatusCode == 503 || context.Response.StatusCode == 429)" count="9" interval="1"><forward-request /></retry>"#,
            "{ servers: [\"https://backend.invalid\"], timeouts: { response: \"300s\" }, retries: { attempts: 5, when: [\"429\", \"503\"] } }",
        ),
    ] {
        let import = imported(&format!("<policies><backend>{backend}</backend></policies>"));
        let line = import.files[0].1.lines().find_map(|line| line.strip_prefix("  orders: ")).map(str::to_owned);
        assert_eq!(line.as_deref(), Some(expected), "{backend}");
    }
    let silent = imported("<policies><backend></backend></policies>");
    assert_eq!(list(&silent, "inbound"), ["- return-response: { status: 200 }"]);
}

#[test]
fn an_answer_that_is_not_translated_refuses_before_the_backend_is_called() {
    let import = imported(
        r#"<policies><outbound><choose><when condition="@(context.Response.Body.As<string>() == "x")"><return-response /></when></choose></outbound></policies>"#,
    );
    assert_eq!(list(&import, "inbound"), [REFUSAL]);
    assert_eq!(import.report.refused_routes, 1);
}

#[test]
fn the_report_says_the_same_each_time_and_masks_credentials() {
    let text = r#"<policies><inbound><set-header name="X-Functions-Key"><value>aB3dE5gH7jK9mN1p</value></set-header></inbound></policies>"#;
    let (first, second) = (imported(text), imported(text));
    let json = first.report.to_json().to_string();
    assert_eq!(json, second.report.to_json().to_string());
    assert!(!json.contains("aB3dE5gH7jK9mN1p"), "{json}");
    assert!(first.report.lints.iter().any(|lint| lint.code == "L6"), "{:?}", first.report.lints);
    let markdown = first.report.to_markdown();
    assert!(markdown.contains("## Dangerous originals") && !markdown.contains("aB3dE5gH7jK9mN1p"), "{markdown}");
}

mod any_document {
    use proptest::prelude::*;

    use super::imported;

    const PIECES: &[&str] = &[
        "<inbound>",
        "</inbound>",
        "<outbound>",
        "</outbound>",
        "<backend>",
        "</backend>",
        "<on-error>",
        "</on-error>",
        "<base />",
        "<choose>",
        "</choose>",
        "<when condition=\"@(context.Request.Method == \"GET\")\">",
        "<when condition=\"@(context.Variables[\"a\"])\">",
        "<when>",
        "</when>",
        "<otherwise>",
        "</otherwise>",
        "<set-header name=\"X-A\">",
        "<set-header name=\"{{n}}\" exists-action=\"odd\">",
        "</set-header>",
        "<value>",
        "</value>",
        "@(context.Request.Headers[\"a\"])",
        "@{ var a = 1; return a; }",
        "@(",
        "{{n}}",
        "${m}",
        "<set-variable name=\"a\" value=\"@(context.Request.IpAddress)\" />",
        "<set-variable />",
        "<set-backend-service base-url=\"@((string)context.Variables[\"a\"])\" />",
        "<set-backend-service base-url=\"https://${h}/é\" />",
        "<rewrite-uri template=\"/{x}/{{n}}{\" />",
        "<return-response>",
        "</return-response>",
        "<set-status code=\"x\" />",
        "<set-body template=\"liquid\">",
        "</set-body>",
        "<validate-jwt>",
        "<openid-config url=\"x\" />",
        "</validate-jwt>",
        "<ip-filter action=\"allow\"><address>x</address>",
        "</ip-filter>",
        "<retry count=\"é\" condition=\"@(true)\"><forward-request timeout=\"@(1)\" /></retry>",
        "<rate-limit-by-key calls=\"{{n}}\" counter-key=\"\" />",
        "<include-fragment fragment-id=\"é\" />",
        "<!-- c -->",
        "<![CDATA[",
        "]]>",
        "&lt;",
        "text",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn is_imported_and_accounted_for(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
            let import = imported(&format!("<policies>{}</policies>", pieces.concat()));
            prop_assert!(import.report.accounts_for_all());
            prop_assert!(import.files[0].1.contains("routes:"));
        }
    }
}

//! Tests of imports: what is written is accepted, and judges as the original did.

use std::sync::Mutex;

use serde_json::Value;

use super::*;
use crate::offline::{OfflineGateway, OfflineKeys, OfflineRequest, Outcome, TokenSpec};

/// 2027-03-01, 09:00 UTC.
const NOW: u64 = 1_803_891_600;

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

#[test]
fn what_the_documents_of_the_collection_become_is_accepted() {
    let Some(data) = std::env::var_os("ENTRADA_DATA") else {
        eprintln!("skipped: ENTRADA_DATA names no folder with documents");
        return;
    };
    let Ok(lines) = fs::read_to_string(Path::new(&data).join("apim-policies/policies.jsonl")) else { return };
    let documents: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let counts = Mutex::new((0, 0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(document) = documents.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let name = document["path"].as_str().expect("a path").rsplit('/').next().expect("a name");
                    let import = imported(name, document["text"].as_str().expect("a text"), &Options::default());
                    let owner = document["repository"].as_str().expect("a repository");
                    if owner.starts_with("pagopa/") || owner.starts_with("IATI/") {
                        let mut counts = counts.lock().expect("no panic");
                        counts.0 += 1;
                        counts.1 += import.report.whole_documents().len();
                    }
                }
            });
        }
    });
    let (production, whole) = *counts.lock().expect("no panic");
    eprintln!("{whole} of {production} documents of running estates are translated whole, and accepted");
    assert!(whole * 2 >= production, "{whole} of {production}");
}

/// A request: method and path, header fields, and whether it has the token; then the status that the caller gets, and what the
/// backend receives: `-` if nothing.
type Judged = (&'static str, &'static [(&'static str, &'static str)], bool, u16, &'static str);

/// Policies, each with requests and how API Management treats them.
const JUDGED: &[(&str, &[Judged])] = &[
    (
        r#"<ip-filter action="allow"><address-range from="203.0.113.0" to="203.0.113.99" /></ip-filter>"#,
        &[("GET /a", &[], false, 200, "GET /a"), ("GET /a", &[("peer", "198.51.100.1")], false, 403, "-")],
    ),
    (
        r#"<ip-filter action="forbid"><address>203.0.113.9</address></ip-filter>"#,
        &[("GET /a", &[], false, 403, "-"), ("GET /a", &[("peer", "198.51.100.1")], false, 200, "GET /a")],
    ),
    (
        r#"<check-header name="X-A" failed-check-httpcode="418" failed-check-error-message="No" ignore-case="true"><value>yes</value></check-header>"#,
        &[
            ("GET /a", &[("X-A", "YES")], false, 200, "GET /a"),
            ("GET /a", &[("X-A", "no")], false, 418, "-"),
            ("GET /a", &[], false, 418, "-"),
        ],
    ),
    (
        r#"<check-header name="X-Forwarded-For" failed-check-httpcode="403" failed-check-error-message="No" ignore-case="true"><value>198.51.100.7</value></check-header>"#,
        // The attack: anybody can write the field.
        &[
            ("GET /a", &[("X-Forwarded-For", "198.51.100.7")], false, 403, "-"),
            ("GET /a", &[("peer", "198.51.100.7")], false, 200, "GET /a"),
        ],
    ),
    (
        r#"<choose><when condition="@(context.Request.Method == "DELETE")"><return-response><set-status code="405" /></return-response></when></choose>"#,
        &[("DELETE /a", &[], false, 405, "-"), ("GET /a", &[], false, 200, "GET /a")],
    ),
    (
        r#"<choose><when condition="@(context.Request.Headers.GetValueOrDefault("X-Env","").Equals("prod", StringComparison.OrdinalIgnoreCase))"><set-header name="X-B"><value>p</value></set-header></when><otherwise><set-header name="X-B"><value>o</value></set-header></otherwise></choose>"#,
        &[
            ("GET /a", &[("X-Env", "PROD")], false, 200, "GET /a X-B=p"),
            ("GET /a", &[("X-Env", "")], false, 200, "GET /a X-B=o"),
            ("GET /a", &[], false, 200, "GET /a X-B=o"),
        ],
    ),
    (
        r#"<set-header name="X-B"><value>@(context.Request.Headers.GetValueOrDefault("X-C","none") + "/" + context.Request.Method)</value></set-header>"#,
        &[
            ("GET /a", &[("X-C", "c"), ("X-B", "forged")], false, 200, "GET /a X-B=c/GET"),
            ("GET /a", &[], false, 200, "GET /a X-B=none/GET"),
        ],
    ),
    (
        r#"<set-header name="X-B" exists-action="skip"><value>d</value></set-header>"#,
        &[("GET /a", &[("X-B", "own")], false, 200, "GET /a X-B=own"), ("GET /a", &[], false, 200, "GET /a X-B=d")],
    ),
    (
        r#"<set-header name="X-B" exists-action="delete" />"#,
        &[("GET /a", &[("X-B", "own")], false, 200, "GET /a"), ("GET /a", &[], false, 200, "GET /a")],
    ),
    (
        r#"<set-query-parameter name="v" exists-action="override"><value>2</value></set-query-parameter>"#,
        &[("GET /a?v=1&b=c", &[], false, 200, "GET /a?b=c&v=2"), ("GET /a", &[], false, 200, "GET /a?v=2")],
    ),
    (r#"<rewrite-uri template="/x/y" />"#, &[("GET /a?b=c", &[], false, 200, "GET /x/y?b=c")]),
    (r#"<rewrite-uri template="/x/y" copy-unmatched-params="false" />"#, &[("GET /a?b=c", &[], false, 200, "GET /x/y")]),
    (r#"<set-method>PUT</set-method>"#, &[("POST /a", &[], false, 200, "PUT /a")]),
    (
        r#"<set-variable name="tier" value="@(context.Request.Headers.GetValueOrDefault("X-T","basic").ToLower())" /><set-header name="X-B"><value>@((string)context.Variables["tier"])</value></set-header>"#,
        &[("GET /a", &[("X-T", "GOLD")], false, 200, "GET /a X-B=gold"), ("GET /a", &[], false, 200, "GET /a X-B=basic")],
    ),
    (
        r#"<set-header name="X-B"><value>@(context.Request.OriginalUrl.Path.Split('/').Last())</value></set-header>"#,
        &[("GET /a/bc", &[], false, 200, "GET /a/bc X-B=bc")],
    ),
    (
        r#"<choose><when condition="@(Regex.IsMatch(context.Request.OriginalUrl.Path, "^/A/", RegexOptions.IgnoreCase))"><return-response><set-status code="302" /><set-header name="Location"><value>https://x.example/</value></set-header></return-response></when></choose>"#,
        &[("GET /a/b", &[], false, 302, "-"), ("GET /b/a/", &[], false, 200, "GET /b/a/")],
    ),
    (
        r#"<validate-azure-ad-token tenant-id="aaaabbbb-0000-cccc-1111-dddd2222eeee" output-token-variable-name="t"><audiences><audience>api://orders</audience></audiences><required-claims><claim name="scp" match="any" separator=" "><value>Orders.Read</value></claim></required-claims></validate-azure-ad-token><set-header name="X-B"><value>@(((Jwt)context.Variables["t"]).Claims.GetValueOrDefault("scp",""))</value></set-header>"#,
        &[("GET /a", &[], false, 401, "-"), ("GET /a", &[("X-B", "forged")], true, 200, "GET /a X-B=Orders.Read")],
    ),
    (
        r#"<choose><when condition="@(context.Request.Body.As<string>() == "x")"><return-response><set-status code="403" /></return-response></when></choose>"#,
        // What cannot be judged is refused.
        &[("GET /a", &[], false, 403, "-")],
    ),
    (
        r#"<set-header name="X-B"><value>@(context.Request.Body.As<string>())</value></set-header>"#,
        // What the backend believes of the gateway is never the caller's.
        &[("GET /a", &[("X-B", "forged")], false, 200, "GET /a")],
    ),
    (
        r#"<rate-limit calls="5" renewal-period="60"><api name="a" calls="1" renewal-period="60" /></rate-limit>"#,
        &[("GET /a", &[], false, 403, "-")],
    ),
    (
        r#"<set-backend-service base-url="@(context.Request.Method == "GET" ? "https://r.example/r" : "https://w.example/w")" />"#,
        &[("GET /a", &[], false, 200, "GET /r/a"), ("POST /a", &[], false, 200, "POST /w/a")],
    ),
    (
        r#"<cors><allowed-origins><origin>https://a.example</origin></allowed-origins><allowed-headers><header>*</header></allowed-headers></cors>"#,
        &[
            ("GET /a", &[("Origin", "https://b.example")], false, 200, "GET /a"),
            ("GET /a", &[("Origin", "https://a.example")], false, 200, "GET /a"),
        ],
    ),
];

/// Describes what the backend received: method, path and query, and the field that the policies write.
fn received(outcome: &Outcome) -> String {
    let Some(sent) = &outcome.upstream else { return "-".to_owned() };
    let target = sent.url.splitn(4, '/').nth(3).unwrap_or_default();
    let field = sent.headers.get("x-b").map(|value| format!(" X-B={}", value.to_str().unwrap_or_default()));
    format!("{} /{target}{}", sent.method, field.unwrap_or_default())
}

#[tokio::test]
async fn requests_are_judged_as_the_original_does() {
    let options = Options { accept_anonymous: true, ..Options::default() };
    let mut wrong = Vec::new();
    for (policies, requests) in JUDGED {
        let text = format!("<policies><inbound><base />{policies}</inbound></policies>");
        let import = imported("orders.xml", &text, &options);
        let document = Document::from_text("test.yaml", &import.files[0].1).unwrap_or_else(|report| panic!("{report}"));
        let gateway = OfflineGateway::build(&document, NOW, OfflineKeys::Development).unwrap_or_else(|fault| panic!("{fault:?}"));
        for (line, fields, has_token, status, expected) in *requests {
            let (method, target) = line.split_once(' ').expect("a method and a path");
            let mut request =
                OfflineRequest::new(method, &format!("http://api.example{target}"), [203, 0, 113, 9].into()).expect("a request");
            for (name, value) in *fields {
                match *name {
                    "peer" => request.peer = value.parse().expect("an address"),
                    name => request.header(name, *value),
                }
            }
            if *has_token {
                let spec = TokenSpec::read("{ user: nia, audience: api://orders, scopes: [Orders.Read] }").expect("a token");
                request.header("Authorization", format!("Bearer {}", spec.mint(&gateway).expect("minted")));
            }
            let outcome = gateway.run(&request).await;
            let found = received(&outcome);
            if outcome.status.as_u16() != *status || found != *expected {
                wrong.push(format!(
                    "{policies}\n  {line} {fields:?}: expected {status} {expected}, found {} {found}",
                    outcome.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_check_does_not_accept_is_left_out_with_a_refusal_in_its_place() {
    // The address is none, which nobody knows before the config is read.
    let text = "<policies><inbound><ip-filter action=\"allow\"><address>not-an-address</address></ip-filter><set-method>GET</set-method></inbound></policies>";
    let import = imported("orders.xml", text, &Options { accept_anonymous: true, ..Options::default() });
    let entry = import.report.entries.iter().find(|entry| entry.element == "ip-filter").expect("the filter");
    assert_eq!((entry.verdict, entry.code.as_str()), (Verdict::Not, "not-accepted"), "{entry:?}");
    assert!(import.files[0].1.contains("not-imported") && import.files[0].1.contains("set-method: GET"));
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: ImportArguments,
}

#[derive(clap::Parser)]
struct TestLine {
    #[command(flatten)]
    arguments: crate::cli::test::TestArguments,
}

/// Runs the command, and returns whether its exit code is 0. The cases that it writes hold.
fn exits_well(text: &str, more: &[&str]) -> bool {
    use clap::Parser as _;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, out) = (folder.path().join("orders.xml"), folder.path().join("out"));
    fs::write(&file, text).expect("written");
    let report = folder.path().join("report.json");
    let mut line = vec!["import", "api-management", file.to_str().expect("a text"), "--out", out.to_str().expect("a text")];
    line.extend(["--report", report.to_str().expect("a text")]);
    line.extend(more);
    let code = run(&Line::parse_from(line).arguments).expect("it runs");
    let config = out.join("entrada.yaml");
    assert!(config.is_file() && out.join("report.md").is_file());
    let tested = crate::cli::test::run(&TestLine::parse_from(["test", config.to_str().expect("a text")]).arguments);
    assert_eq!(format!("{:?}", tested.expect("they run")), format!("{:?}", ExitCode::SUCCESS));
    let report: Value = serde_json::from_str(&fs::read_to_string(report).expect("a report")).expect("JSON");
    assert_eq!(report["totals"]["elements"]["all"], report["totals"]["elements_found"]);
    format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
}

#[test]
fn the_exit_code_says_whether_something_is_changed_or_missing() {
    let same = "<policies><inbound><set-method>GET</set-method></inbound></policies>";
    let changed = "<policies><inbound><set-header name=\"X-Forwarded-For\"><value>a</value></set-header></inbound></policies>";
    let lost = "<policies><inbound><set-body>a</set-body></inbound></policies>";
    for (text, more, expected) in [
        (same, &[][..], true),
        (changed, &[][..], false),
        (changed, &["--fail-on", "not"][..], true),
        (lost, &["--fail-on", "not"][..], false),
        (lost, &["--fail-on", "never"][..], true),
        (lost, &["--max-not", "1"][..], true),
        (lost, &["--max-not", "0"][..], false),
    ] {
        assert_eq!(exits_well(text, more), expected, "{text} {more:?}");
    }
}

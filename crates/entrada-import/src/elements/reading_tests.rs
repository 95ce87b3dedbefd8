//! Tests of what people read: names, comments, questions and warnings of whole documents.

use std::fs;

use crate::{Import, Options, import};

fn imported(text: &str) -> Import {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.xml");
    fs::write(&file, text).expect("written");
    let options = Options { accept_anonymous: true, ..Options::default() };
    import(&[file], &options).expect("an import")
}

#[test]
fn upstreams_are_named_by_what_tells_them_apart() {
    for (url, name) in [
        ("https://orders-v1.contoso.example/api", "orders-v1"),
        ("https://orders.contoso.example/api/v2", "orders"),
        ("https://contoso.example/inventory/v1", "inventory"),
        ("https://contoso.example", "contoso"),
    ] {
        let import = imported(&format!("<policies><inbound><set-backend-service base-url=\"{url}\" /></inbound></policies>"));
        let line = format!("  {name}: {{ servers: [\"{url}\"]");
        assert!(import.files[0].1.contains(&line), "{line}\n{}", import.files[0].1);
    }
}

#[test]
fn nobody_is_asked_for_a_backend_that_is_never_called() {
    let choose = |otherwise: &str| {
        format!(
            "<policies><inbound><choose><when condition=\"@(context.Request.Method == \"GET\")\"><set-backend-service base-url=\"https://r.example\" /></when>\
             <when condition=\"@(context.Request.Method == \"PUT\")\"><return-response /></when>{otherwise}</choose></inbound></policies>"
        )
    };
    let all = imported(&choose("<otherwise><set-backend-service base-url=\"https://w.example\" /></otherwise>"));
    assert!(all.report.needs.is_empty() && !all.files[0].1.contains(".invalid"), "{}", all.files[0].1);
    let some = imported(&choose("<otherwise><set-method>GET</set-method></otherwise>"));
    assert!(some.report.needs.iter().any(|need| need.kind == "backend"), "{}", some.files[0].1);
    assert!(imported(&choose("")).files[0].1.contains("backend.invalid"));
}

#[test]
fn a_field_that_several_branches_write_is_removed_once() {
    let import = imported(
        "<policies><inbound><choose><when condition=\"@(context.User != null)\"><set-header name=\"X-Tier\"><value>a</value></set-header></when>\
         <otherwise><set-header name=\"X-Tier\"><value>b</value></set-header></otherwise></choose></inbound></policies>",
    );
    assert_eq!(import.files[0].1.matches("name: X-Tier, exists-action: delete").count(), 1, "{}", import.files[0].1);
}

#[test]
fn the_message_of_an_error_in_a_trace_is_shown_to_nobody() {
    let lints = |element: &str| {
        let import = imported(&format!("<policies><on-error>{element}</on-error></policies>"));
        import.report.lints.iter().filter(|lint| lint.code == "L16").count()
    };
    assert_eq!(lints("<trace source=\"a\"><message>@(context.LastError.Message)</message></trace>"), 0);
    assert_eq!(lints("<set-body>@(context.LastError.Message)</set-body>"), 1);
}

#[test]
fn a_note_counts_the_places_and_not_what_stands_within_them() {
    let cors =
        "<cors><allowed-origins><origin>https://a.example</origin><origin>https://b.example</origin></allowed-origins></cors>";
    let import = imported(&format!("<policies><inbound>{cors}</inbound></policies>"));
    let markdown = import.report.to_markdown();
    assert!(markdown.contains("a preflight gets an empty 200 | 1 |"), "{markdown}");
}

#[test]
fn a_path_below_the_api_is_compared_as_the_author_meant_it() {
    // Whether it begins with `/` is not certain there, and a rule that never holds would be a gap.
    let rule = "<choose><when condition=\"@(context.Request.Url.Path.StartsWith(\"admin/\"))\"><return-response><set-status code=\"403\" /></return-response></when></choose>";
    let import = imported(&format!("<policies><inbound>{rule}</inbound></policies>"));
    assert!(import.files[0].1.contains("substring(request.path, 0).startsWith('/admin/')"), "{}", import.files[0].1);

    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("apis/shop");
    fs::create_dir_all(&own).expect("made");
    fs::write(own.join("apiInformation.json"), r#"{ "properties": { "path": "shop/v1", "subscriptionRequired": false } }"#)
        .expect("written");
    fs::write(own.join("policy.xml"), format!("<policies><inbound>{rule}</inbound></policies>")).expect("written");
    let import = crate::import(&[folder.path().to_owned()], &Options::default()).expect("an import");
    assert!(import.files[0].1.contains("substring(request.path, 8).startsWith('/admin/')"), "{}", import.files[0].1);
}

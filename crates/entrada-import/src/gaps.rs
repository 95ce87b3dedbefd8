//! Attempts to make an access rule into a gap: each ends in a refusal, or in the rule.

use std::{fs, path::Path};

use crate::{Import, Options, import, report::Verdict};

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
}

fn imported(files: &[(&str, &str)]) -> Import {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    let options = Options { accept_anonymous: true, ..Options::default() };
    let import = import(&[folder.path().to_owned()], &options).expect("an import");
    assert!(import.report.accounts_for_all());
    import
}

const FILTER: &str = "<ip-filter action=\"allow\"><address>198.51.100.1</address></ip-filter>";
const DENY: &str = "<return-response><set-status code=\"403\" /></return-response>";

/// Documents in which something restricts access and cannot be read: the route refuses.
fn unreadable() -> Vec<(&'static str, String)> {
    let inbound = |inner: &str| format!("<policies><inbound><base />{inner}</inbound></policies>");
    let jwt = |attributes: &str, inner: &str| {
        format!(
            "<policies><inbound><base /><validate-jwt header-name=\"Authorization\" {attributes}><openid-config \
             url=\"https://idp.example/.well-known/openid-configuration\" /><audiences><audience>a</audience></audiences>{inner}</validate-jwt></inbound></policies>"
        )
    };
    let entra = |inner: &str| {
        format!(
            "<policies><inbound><base /><validate-azure-ad-token tenant-id=\"aaaabbbb-0000-cccc-1111-dddd2222eeee\">\
             <audiences><audience>a</audience></audiences>{inner}</validate-azure-ad-token></inbound></policies>"
        )
    };
    vec![
        ("a policy in other letters", inbound("<IP-Filter action=\"allow\"><address>198.51.100.1</address></IP-Filter>")),
        ("a policy that nobody knows", inbound("<require-network name=\"corp\" />")),
        (
            "a policy that nobody knows, in a choice that is not translated",
            inbound("<choose><when condition=\"@(context.Request.Body != null)\"><require-network /></when></choose>"),
        ),
        ("a section in other letters", format!("<policies><Inbound>{FILTER}</Inbound></policies>")),
        ("a section for the second time", format!("<policies><inbound /><inbound>{FILTER}</inbound></policies>")),
        ("a policy beside the sections", format!("<policies>{FILTER}<inbound><base /></inbound></policies>")),
        ("a policy behind the section", format!("<policies><inbound><base /></inbound>{FILTER}</inbound></policies>")),
        ("a second root", format!("<policies><inbound /></policies><policies><inbound>{FILTER}</inbound></policies>")),
        ("a comment without an end", inbound(&format!("<!-- access {FILTER}"))),
        ("a comment without an end in a policy", inbound(&format!("<set-header name=\"X\"><!-- {FILTER}</set-header>"))),
        ("a hole that rules are filled into", inbound("${ip_filter}")),
        (
            "a hole that rules are filled into, in a branch",
            inbound("<choose><when condition=\"@(context.Request.Method == \"GET\")\">${deny}</when></choose>"),
        ),
        ("a hole between branches", inbound("<choose>${branches}<when condition=\"@(false)\" /></choose>")),
        ("a hole in the backend", "<policies><backend>${rules}<forward-request /></backend></policies>".to_owned()),
        ("rules that are text", inbound(&format!("<![CDATA[{FILTER}]]>"))),
        ("a directive of a template", inbound(&format!("%{{ if restricted }}{FILTER}%{{ endif }}"))),
        ("addresses beside addresses", inbound("<ip-filter action=\"forbid\"><address>198.51.100.1</address>${more}</ip-filter>")),
        ("claims in other letters", jwt("", "<Required-Claims><claim name=\"role\"><value>admin</value></claim></Required-Claims>")),
        ("an attribute that nobody knows", jwt("required-roles=\"admin\"", "")),
        ("a claim with an empty value", jwt("", "<required-claims><claim name=\"role\"><value></value></claim></required-claims>")),
        ("claims that are filled in", jwt("", "<required-claims>${claims}</required-claims>")),
        ("clients in other letters", entra("<Client-Application-Ids><application-id>x</application-id></Client-Application-Ids>")),
        ("a client that is empty", entra("<client-application-ids><application-id></application-id></client-application-ids>")),
        ("no clients", entra("<client-application-ids />")),
        ("a branch in other letters", inbound(&format!("<choose><When condition=\"@(true)\">{DENY}</When></choose>"))),
        (
            "a backend that is called on a condition",
            "<policies><backend><choose><when condition=\"@(context.Request.Method == \"GET\")\"><forward-request /></when></choose></backend></policies>"
                .to_owned(),
        ),
        ("the user of the portal", inbound(&format!("<choose><when condition=\"@(context.User == null)\">{DENY}</when></choose>"))),
        (
            "a loop",
            inbound(&format!(
                "<choose><when condition=\"@{{ bool bad = true; foreach (var h in context.Request.Headers) {{ if (h.Key == \"X\") {{ bad = false; }} }} return bad; }}\">{DENY}</when></choose>"
            )),
        ),
        (
            "a value that a later policy overwrites with the body",
            inbound(&format!(
                "<set-variable name=\"ok\" value=\"@(true)\" /><set-variable name=\"ok\" value=\"@(context.Request.Body.As<string>() == \"x\")\" />\
                 <choose><when condition=\"@(!(bool)context.Variables[\"ok\"])\">{DENY}</when></choose>"
            )),
        ),
        (
            "a variable that a sub-request may set",
            inbound(&format!(
                "<choose><when condition=\"@(context.Request.Method == \"GET\")\"><send-request response-variable-name=\"r\" /></when></choose>\
                 <choose><when condition=\"@(context.Variables.ContainsKey(\"r\"))\">{DENY}</when></choose>"
            )),
        ),
        (
            "a token that is not validated on every way",
            inbound(&format!(
                "<choose><when condition=\"@(context.Request.Method == \"GET\")\"><validate-azure-ad-token \
                 tenant-id=\"aaaabbbb-0000-cccc-1111-dddd2222eeee\" output-token-variable-name=\"t\"><audiences><audience>a</audience></audiences>\
                 </validate-azure-ad-token></when></choose><choose>\
                 <when condition=\"@(((Jwt)context.Variables[\"t\"]).Claims.GetValueOrDefault(\"x\", \"\") == \"no\")\">{DENY}</when></choose>"
            )),
        ),
        ("policies that wait", inbound(&format!("<wait for=\"all\"><choose><when condition=\"@(true)\">{DENY}</when></choose></wait>"))),
        ("an expression without an end", inbound(&format!("<set-variable name=\"x\" value=\"@(1\" /><set-header name=\"a>{FILTER}"))),
    ]
}

#[test]
fn what_cannot_be_read_refuses() {
    let mut open = Vec::new();
    for (name, text) in unreadable() {
        let import = imported(&[("orders.xml", &text)]);
        if !import.files[0].1.contains("code: not-imported") || import.report.refused_routes != 1 {
            open.push(format!("{name}: {text}\n{}", import.files[0].1));
        }
        if import.report.worst() != Verdict::Not {
            open.push(format!("{name}: the report says nothing"));
        }
    }
    assert!(open.is_empty(), "{}", open.join("\n"));
}

#[test]
fn stray_signs_and_comments_are_no_rules() {
    for text in [
        "<policies><inbound><base />></inbound></policies>",
        "<policies><inbound><base /><!-- <ip-filter /> --></inbound><!-- end --></policies>",
        "<policies><inbound><choose> ; <when condition=\"@(context.Request.Method == \"GET\")\"><set-method>PUT</set-method></when></choose></inbound></policies>",
    ] {
        let import = imported(&[("orders.xml", text)]);
        assert_eq!(import.report.refused_routes, 0, "{text}\n{}", import.files[0].1);
    }
}

#[test]
fn the_wider_scope_runs_where_base_stands_in_a_branch() {
    let global = format!("<policies><inbound>{FILTER}</inbound></policies>");
    let information = "{ \"properties\": { \"path\": \"a\", \"subscriptionRequired\": false } }";
    let branch = "<policies><inbound><choose><when condition=\"@(context.Request.Method == \"GET\")\"><base /></when></choose></inbound></policies>";
    let fragment = "<policies><inbound><include-fragment fragment-id=\"f\" /></inbound></policies>";
    let untranslated =
        "<policies><inbound><choose><when condition=\"@(context.User != null)\"><base /></when></choose></inbound></policies>";
    for (text, expected) in
        [(branch, "ip-filter: { action: allow"), (fragment, "code: not-imported"), (untranslated, "code: not-imported")]
    {
        let import = imported(&[
            ("policy.xml", &global),
            ("apis/a/apiInformation.json", information),
            ("apis/a/policy.xml", text),
            ("policy fragments/f/policy.xml", "<fragment><base /></fragment>"),
        ]);
        assert!(import.files[0].1.contains(expected), "{text}\n{}", import.files[0].1);
    }
}

#[test]
fn the_rules_of_a_layout_count_wherever_it_lies() {
    let global = format!("<policies><inbound>{FILTER}</inbound></policies>");
    let information = "{ \"properties\": { \"path\": \"a\", \"subscriptionRequired\": false } }";
    let import = imported(&[("estate/policy.xml", &global), ("estate/apis/a/apiInformation.json", information)]);
    assert!(import.files[0].1.contains("ip-filter"), "{}", import.files[0].1);

    let own = "<policies><inbound><base /><set-method>PUT</set-method></inbound></policies>";
    let import = imported(&[
        ("policy.xml", &global),
        ("apis/a/apiInformation.json", information),
        ("workspaces/w/policy.xml", own),
        ("workspaces/w/apis/a/apiInformation.json", &information.replace("\"a\"", "\"b\"")),
    ]);
    let text = &import.files[0].1;
    // The workspace has its own rules besides those of all, and the other API has none of the workspace's.
    let route = |name: &str| {
        text.split(&format!("- name: {name}\n"))
            .nth(1)
            .expect("the route")
            .split("- name: ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(route("a").contains("ip-filter") && !route("a").contains("set-method"), "{text}");
    assert!(route("w-a").contains("ip-filter") && route("w-a").contains("set-method"), "{text}");

    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("test/apis/a/apiInformation.json", information), ("prod/apis/a/apiInformation.json", information)]);
    let error = import_error(folder.path());
    assert!(error.contains("several estates"), "{error}");
}

fn import_error(path: &Path) -> String {
    import(&[path.to_owned()], &Options::default()).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn policies_of_a_template_that_are_not_there_refuse() {
    for properties in [
        r#""format": "rawxml-link", "value": "https://x.example/policy.xml""#,
        r#""format": "rawxml", "value": "[parameters('policy')]""#,
    ] {
        let template = format!(
            r#"{{ "resources": [
              {{ "type": "Microsoft.ApiManagement/service/apis", "name": "svc/a", "properties": {{ "path": "a", "subscriptionRequired": false }} }},
              {{ "type": "Microsoft.ApiManagement/service/apis/policies", "name": "svc/a/policy", "properties": {{ {properties} }} }} ] }}"#
        );
        let import = imported(&[("azuredeploy.json", &template)]);
        assert!(import.files[0].1.contains("code: not-imported"), "{}", import.files[0].1);
    }
}

#[test]
fn nobody_passes_by_sending_a_stand_in() {
    for rule in [
        "<check-header name=\"X-Azure-FDID\" failed-check-httpcode=\"403\" failed-check-error-message=\"no\" ignore-case=\"false\"><value>{{front-door}}</value></check-header>",
        "<choose><when condition=\"@(context.Request.Headers.GetValueOrDefault(\"X-Key\",\"\") != \"{{front-door}}\")\"><return-response /></when></choose>",
    ] {
        let text = format!("<policies><inbound>{rule}</inbound></policies>");
        let import = imported(&[("orders.xml", &text)]);
        let guard = "- authorize: { condition: \"@({{front-door}} != 'unset-front-door')\", code: value-missing }";
        assert!(import.files[0].1.contains(guard), "{}", import.files[0].1);
        assert!(import.files[0].1.contains("default: unset-front-door"), "{}", import.files[0].1);
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[("orders.xml", &text)]);
        let given =
            Options { named_values: vec![("front-door".into(), "f".into())], accept_anonymous: true, ..Options::default() };
        let import = crate::import(&[folder.path().to_owned()], &given).expect("an import");
        assert!(!import.files[0].1.contains("value-missing"), "{}", import.files[0].1);
    }
}

//! Tests that no secret of a config is ever printed, wherever it is written and whatever else is wrong there. The fields are
//! those that the schema marks, so that a new one is tested as soon as it exists.

use std::{collections::BTreeSet, path::Path, process::Command};

use entrada::{
    Document, Report, schema,
    unstable::{gateway::runtime::Runtime, settings::Faults},
};
use serde_json::Value;

/// A text that no message and no other setting contains; nothing in it has to be escaped anywhere.
const SECRET: &str = "Zq8Q~TopSekret.Value_93";
/// A unique number.
const NUMBER: &str = "7391846205";

/// A path from the top of a config to a field: keys, with the entries of lists and maps between them.
#[derive(Clone, Debug)]
struct Field {
    way: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Named,
    Entry,
}

impl Field {
    /// Returns a config on one line that has `last` in place of the field and its value, and `value` where the value is wrapped
    /// in lists.
    fn config(&self, entry: impl Fn(&str, &str) -> String, value: &str) -> String {
        let last = self.way.iter().rposition(|step| matches!(step, Step::Key(_))).unwrap();
        let value = self.way[last + 1..].iter().rev().fold(value.to_owned(), |inner, step| wrap(step, &inner));
        let Step::Key(key) = &self.way[last] else { unreachable!() };
        let inner = format!("{{ {} }}", entry(key, &value));
        self.around(last, &inner)
    }

    /// Returns a config with this text in place of the map with the field.
    fn instead(&self, text: &str) -> String {
        let last = self.way.iter().rposition(|step| matches!(step, Step::Key(_))).unwrap();
        self.around(last, text)
    }

    fn around(&self, last: usize, inner: &str) -> String {
        let Step::Key(top) = &self.way[0] else { unreachable!() };
        format!("{top}: {}\n", self.way[1..last].iter().rev().fold(inner.to_owned(), |inner, step| wrap(step, &inner)))
    }

    /// Returns the step at which values are tried: all of them where a field's type occurs first, some where it occurs again.
    fn pace(&self) -> usize {
        let Step::Key(top) = &self.way[0] else { unreachable!() };
        if matches!(&**top, "credentials" | "inbound") { 1 } else { 5 }
    }

    fn name(&self) -> String {
        let keys: Vec<_> =
            self.way.iter().filter_map(|step| if let Step::Key(key) = step { Some(&**key) } else { None }).collect();
        keys.join(".")
    }
}

fn wrap(step: &Step, inner: &str) -> String {
    match step {
        Step::Key(key) => format!("{{ {key}: {inner} }}"),
        Step::Named => format!("{{ gateway: {inner} }}"),
        Step::Entry => format!("[ {inner} ]"),
    }
}

/// Returns all fields of the schema that may hold secrets; a type is entered at most this often on one path.
fn fields(depth: usize) -> Vec<Field> {
    let schema = schema();
    let mut found = Vec::new();
    walk(&schema, &schema, &mut Vec::new(), &mut Vec::new(), depth, &mut found);
    found
}

fn walk<'s>(
    part: &'s Value,
    schema: &'s Value,
    way: &mut Vec<Step>,
    within: &mut Vec<&'s str>,
    depth: usize,
    found: &mut Vec<Field>,
) {
    if part.get("x-entrada-secret").is_some() {
        found.push(Field { way: way.clone() });
    }
    if let Some(name) = part.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"))
        && within.iter().filter(|known| **known == name).count() < depth
    {
        within.push(name);
        walk(&schema["$defs"][name], schema, way, within, depth, found);
        within.pop();
    }
    for (key, inner) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
        way.push(Step::Key(key.clone()));
        walk(inner, schema, way, within, depth, found);
        way.pop();
    }
    for (keyword, step) in [("items", Step::Entry), ("additionalProperties", Step::Named)] {
        if let Some(inner) = part.get(keyword) {
            way.push(step);
            walk(inner, schema, way, within, depth, found);
            way.pop();
        }
    }
    for keyword in ["oneOf", "anyOf", "allOf"] {
        for inner in part.get(keyword).and_then(Value::as_array).into_iter().flatten() {
            walk(inner, schema, way, within, depth, found);
        }
    }
}

/// Returns all forms of a report.
fn told(report: &Report) -> String {
    [report.render(false), report.render(true), report.to_json().to_string(), report.lines().join("\n"), format!("{report:?}")]
        .concat()
}

/// Returns everything that is reported of a config while it is read or built.
fn told_of(result: Result<Document, Report>) -> String {
    match result {
        Ok(document) => {
            let mut faults = Faults::default();
            drop(Runtime::try_out(&document, &mut faults));
            told(&document.report(&faults)) + &told(document.warnings())
        }
        Err(report) => told(&report.with_the_rest(|document, faults| drop(Runtime::try_out(document, faults)))),
    }
}

fn told_of_text(text: &str) -> String {
    told_of(Document::from_text_with("entrada.yaml", text, &|_| None))
}

#[track_caller]
fn shows_nothing(what: &str, config: &str, told: &str) {
    for secret in [SECRET, "TopSekret", NUMBER] {
        assert!(!told.contains(secret), "{what}: {secret} of\n{config}\nshows in\n{told}");
    }
}

/// Returns values as people write them, right or wrong, with other text on the line.
fn values() -> Vec<String> {
    let escaped: String = SECRET.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    let mut values: Vec<String> = [
        "\"S\"",
        "'S'",
        "S",
        "[S, S]",
        "[\"S\"]",
        "{ S: x }",
        "{ x: S }",
        "{ S }",
        "[ { a: [S] } ]",
        "!S",
        "!S x",
        "*S",
        "&S",
        "&S x",
        "\"{{S\"",
        "\"a {{S}}\"",
        "\"{{S}} and S\"",
        "\"https://me:S@host/\"",
        "\" S \"",
        "\"S\\n\"",
        "\"S\" # S\n",
        "# S\n",
        "\"S",
        "`S",
        "%S",
        "|S",
        "S: S",
        "\"a: 1\" S",
        "<<: S",
        "[S",
        "\"S\" }",
        "? S",
    ]
    .iter()
    .map(|form| form.replace('S', SECRET))
    .collect();
    values.push(format!("\"{escaped}\""));
    values.extend([NUMBER.to_owned(), format!("0{NUMBER}"), format!("{NUMBER}.5"), format!("[{NUMBER}]"), format!("0x{NUMBER}")]);
    values
}

#[test]
fn a_secret_shows_in_no_report_whatever_else_is_wrong() {
    let fields = fields(1);
    let names: BTreeSet<_> = fields.iter().map(Field::name).collect();
    for known in [
        "credentials.client-secret",
        "credentials.certificate.password",
        "routes.inbound.set-header.value",
        "routes.inbound.set-header.values",
        "routes.outbound.set-header.value",
        "fragments.check-header.values",
    ] {
        assert!(names.contains(known), "{known}: {names:?}");
    }
    let mut tried = 0;
    for field in &fields {
        for value in values().into_iter().step_by(field.pace()) {
            for (what, config) in [
                ("alone", field.config(|key, value| format!("{key}: {value}"), &value)),
                ("beside a mistyped key", field.config(|key, value| format!("tenent: 1, {key}: {value}"), &value)),
                (
                    "beside a key that is there twice",
                    field.config(|key, value| format!("a: 1, a: {value}, {key}: x, {key}: {value}"), &value),
                ),
            ] {
                shows_nothing(&format!("{} {what}", field.name()), &config, &told_of_text(&config));
                tried += 1;
            }
        }
        for config in [
            field.instead(SECRET),
            field.instead(&format!("\"{SECRET}\"")),
            field.instead(NUMBER),
            field.instead(&format!("[ {SECRET} ]")),
            field.instead(&format!("[ [ \"{SECRET}\" ] ]")),
        ] {
            shows_nothing(&format!("in the place of {}", field.name()), &config, &told_of_text(&config));
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn a_secret_under_a_mistyped_key_shows_nowhere() {
    for field in fields(1) {
        let camel = |key: &str| {
            key.split('-')
                .enumerate()
                .map(|(at, word)| if at == 0 { word.to_owned() } else { word[..1].to_uppercase() + &word[1..] })
                .collect::<String>()
        };
        let mistypings: [&dyn Fn(&str) -> String; 7] = [
            &|key| format!("{key}t"),
            &|key| key[..key.len() - 1].to_owned(),
            &|key| key.replace('-', "_"),
            &camel,
            &|key| key.to_uppercase(),
            &|key| format!("my-{key}"),
            &|_| "shared-key".to_owned(),
        ];
        for mistyped in mistypings {
            for value in values().into_iter().step_by(4 * field.pace()) {
                let config = field.config(|key, value| format!("{}: {value}", mistyped(key)), &value);
                shows_nothing(&field.name(), &config, &told_of_text(&config));
            }
        }
        for glue in [":", "=", ":\"", " "] {
            let config = field.config(|key, _| format!("{key}{glue}{SECRET}"), "");
            shows_nothing(&field.name(), &config, &told_of_text(&config));
        }
    }
}

/// Tests values on separate lines, in every form that YAML has for a text.
#[test]
fn a_secret_of_several_lines_shows_nowhere() {
    for value in [
        format!("|\n      {SECRET}\n      {SECRET}"),
        format!(">-\n      {SECRET}\n\n      {SECRET}"),
        format!("\n      {SECRET}\n      {SECRET}"),
        format!("\"{SECRET}\n      {SECRET}\""),
        format!("'{SECRET}\n      {SECRET}'"),
        format!("!secret\n      {SECRET}"),
        format!("\n      - {SECRET}\n      - {SECRET}"),
        format!("\n      a: {SECRET}\n      {SECRET}: b"),
        format!("# {SECRET}\n      {SECRET}"),
        format!("|\n      {SECRET}\n  {SECRET}\n{SECRET}"),
        format!("\"{SECRET}\n      {SECRET}"),
        format!("\n    {SECRET}"),
        format!("\n{SECRET}"),
        format!("\n\t{SECRET}"),
    ] {
        for key in ["client-secret", "client-secrett", "password", "certificate"] {
            let config =
                format!("credentials:\n  gateway:\n    tenent: x\n    {key}: {value}\n    client-idd: y\n    {key}: {value}\n");
            shows_nothing(key, &config, &told_of_text(&config));
        }
        let config = format!("named-values:\n  key:\n    secrett: true\n    value: {value}\n    valuee: x\n");
        shows_nothing("named value", &config, &told_of_text(&config));
    }
}

#[test]
fn a_named_value_that_is_a_secret_shows_nowhere() {
    for value in values() {
        for entry in [
            format!("{{ value: {value}, secret: true, tenent: 1 }}"),
            format!("{{ value: {value}, secret: yess }}"),
            format!("{{ value: {value}, secrets: true }}"),
            format!("{{ value: {value}, env: NOT_SET, secret: true }}"),
            format!("{{ env: NOT_SET, default: {value}, secret: true, tenent: 1 }}"),
            format!("{{ valeu: {value} }}"),
            format!("{{ secret: {value} }}"),
            format!("{{ value: x, value: {value}, secret: true }}"),
            value.clone(),
            format!("[ {value} ]"),
        ] {
            let config = format!("named-values: {{ key: {entry}, other: {{}} }}\n");
            shows_nothing("named value", &config, &told_of_text(&config));
        }
    }
    // One that says of itself that it is none, and is used as one.
    let config = format!(
        "named-values: {{ key: {{ value: {SECRET} }}, other: {{ value: x{SECRET}x, tenent: 1 }} }}\ncredentials: {{ gateway: {{ client-secret: \"{{{{key}}}}\", tenent: 1 }} }}\n"
    );
    let told = told_of_text(&config);
    shows_nothing("a plain named value", &config, &told);
    assert!(told.contains("{{key}}"), "its name may be shown: {told}");
    for config in [format!("named-values: {{ key:\"{SECRET}\" }}\n"), format!("named-values: {SECRET}\n"), format!("{SECRET}\n")]
    {
        shows_nothing("named value", &config, &told_of_text(&config));
    }
}

#[test]
fn what_an_alias_stands_for_shows_nowhere() {
    for config in [
        format!(
            "upstreams: {{ a: {{ host: &s \"{SECRET}\", nonsense: 1 }} }}\ncredentials: {{ gateway: {{ client-secret: *s, tenent: 1 }} }}\n"
        ),
        format!(
            "upstreams: {{ a: {{ host: &s \"\\x5a{}\", nonsense: 1 }} }}\ncredentials: {{ gateway: {{ client-secret: *s, tenent: 1 }} }}\n",
            &SECRET[1..]
        ),
        format!(
            "upstreams: {{ a: {{ tls: &s {{ password: {SECRET} }}, x: 1 }} }}\ncredentials: {{ gateway: {{ certificate: *s, tenent: 1 }} }}\n"
        ),
        format!("anchors: [ &s {SECRET} ]\ncredentials: {{ gateway: {{ tenent: 1, client-secret: *s }} }}\n"),
    ] {
        shows_nothing("alias", &config, &told_of_text(&config));
    }
}

#[test]
fn included_files_and_urls_show_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("entrada.yaml");
    let credential = format!("credentials: {{ gateway: {{ client-secret: {SECRET}, tenent: 1 }} }}\n");
    for (main_text, more) in [
        (credential.clone(), credential.clone()),
        (String::new(), format!("{credential}include: [ {SECRET} ]\n")),
        (String::new(), format!("{SECRET}\n")),
        (String::new(), format!("- {SECRET}\n")),
        (String::new(), format!("\"{SECRET}\n{credential}")),
        ("credentials: 5\n".to_owned(), credential),
    ] {
        std::fs::write(&main, format!("include: [ more.yaml ]\n{main_text}")).unwrap();
        std::fs::write(folder.path().join("more.yaml"), &more).unwrap();
        shows_nothing("include", &more, &told_of(Document::load(&main)));
    }
    for config in [
        format!("upstreams: {{ a: {{ servers: [\"http://me:{SECRET}@127.0.0.1:1\"], nonsense: 1 }} }}\n"),
        format!("upstreams: {{ a: {{ servers: [\"http://me:{SECRET}@127.0.0.1:1\"] }} }}\n"),
        format!("upstreams: {{ a: {{ servers: [\"http://{SECRET}@127.0.0.1:1/a?b#c\"] }} }}\n"),
        format!("upstreams: {{ a: {{ servers: [\"http://me:a/b@{SECRET}@127.0.0.1:1\"] }} }}\n"),
        format!("identity-http: {{ proxy: \"http://me:{SECRET}@proxy:3128\", nonsense: 1 }}\n"),
        format!("identity-http: {{ proxy: \"nonsense://me:{SECRET}@:3128\" }}\n"),
        format!("tenants: {{ a: {{ id: organizations, authority: \"https://me:{SECRET}@login\" }} }}\n"),
        format!("issuers: {{ a: {{ openid-config: \"https://me:{SECRET}@idp/.well-known/openid-configuration\" }} }}\n"),
        format!("redis: {{ url: \"rediss://me:{SECRET}@limits:6380/0\", password: {SECRET}, key-secret: {SECRET} }}\n"),
        format!("audit: {{ sinks: [ {{ log-analytics: {{ workspace: x, shared-key: \"{SECRET}\" }} }} ] }}\n"),
    ] {
        shows_nothing("URL", &config, &told_of_text(&config));
    }
}

/// Tests that helpful content is still shown.
#[test]
fn reports_show_names_expressions_and_all_that_is_no_secret() {
    let config = format!(
        "credentials: {{ gateway: {{ tenent: contoso, client-secret: \"{SECRET}\" }} }}
inbound: [ {{ set-header: {{ name: X-Key, value: \"@(token.claims.oid\", whenabsent: skip }} }} ]
named-values: {{ key: {{ file: nowhere }} }}
fragments: {{ a: [ {{ set-header: {{ name: X-Key, value: \"{{{{key}}}}\", whenabsent: skip }} }} ] }}\n"
    );

    let told = told_of_text(&config);

    for shown in
        ["tenent", "client-secret: ***", "@(token.claims.oid", "name: X-Key, value: \"{{key}}\"", "did you mean `tenant`?"]
    {
        assert!(told.contains(shown), "{shown}: {told}");
    }
    shows_nothing("all", &config, &told);
}

/// Tests every command that reads a config, for each field: its output on either stream.
#[test]
fn no_command_prints_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    let rest = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\nadmin: { address: \"127.0.0.1:0\" }\n";
    let mut configs: Vec<String> = Vec::new();
    for field in fields(1) {
        configs.push(field.config(|key, value| format!("tenent: 1, {key}: {value}"), &format!("\"{SECRET}\"")));
        configs.push(field.config(|key, value| format!("{key}x: {value}"), SECRET));
    }
    configs.dedup();
    // One that can be read, and is warned of; and one that fails when it is built.
    configs.push(format!(
        "tenants: {{ contoso: {{ id: organizations }} }}
credentials: {{ gateway: {{ tenant: contoso, client-id: 00001111-aaaa-2222-bbbb-3333cccc4444, client-secret: \"{SECRET}\" }} }}\n"
    ));
    configs.push(format!("credentials: {{ gateway: {{ tenant: nobody, client-id: x, client-secret: \"{SECRET}\" }} }}\n"));
    for config in configs {
        std::fs::write(&file, format!("{config}{rest}")).unwrap();
        for arguments in [
            &["check", "FILE"][..],
            &["check", "FILE", "--format", "json"],
            &["run", "--config", "FILE"],
            &["doctor", "--config", "FILE"],
            &["doctor", "--config", "FILE", "--format", "json"],
            &["token", "acquire", "--config", "FILE", "--credential", "gateway", "--scope", "api://orders/.default"],
        ] {
            // What can be read is not served, and nobody is asked for tokens.
            if arguments[0] != "check" && config.contains("organizations") {
                continue;
            }
            let told = printed(arguments, &file);
            assert!(!told.is_empty(), "{arguments:?}");
            shows_nothing(&arguments.join(" "), &config, &told);
        }
    }
}

fn printed(arguments: &[&str], file: &Path) -> String {
    let arguments = arguments.iter().map(|argument| if *argument == "FILE" { file.as_os_str() } else { argument.as_ref() });
    let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
    let output = command.args(arguments).env_remove("ENTRADA_CONFIG").env("ENTRADA_LOG", "trace").output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

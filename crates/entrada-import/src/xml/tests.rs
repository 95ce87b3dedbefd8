//! Tests of the reader.

use proptest::prelude::*;

use super::*;

fn root(text: &str) -> Element {
    let document = read(text);
    assert_eq!(document.problems, [], "{text}");
    document.elements.into_iter().next().expect("a root")
}

fn attribute(text: &str) -> String {
    root(text).text_of("value").expect("the attribute").to_owned()
}

#[test]
fn expressions_stand_in_attributes_as_they_are_typed() {
    for (written, expected) in [
        (r#"<a value="@(x.Get("a") < 3 && y > 2)" />"#, r#"@(x.Get("a") < 3 && y > 2)"#),
        (r#"<a value="@(x == &quot;)&quot; &amp;&amp; y &lt; 2)" />"#, r#"@(x == ")" && y < 2)"#),
        (r#"<a value='@(x == "it's")' />"#, r#"@(x == "it's")"#),
        (r#"<a value="@(x == ')' || x == '\'' || x == '"')" />"#, r#"@(x == ')' || x == '\'' || x == '"')"#),
        (r#"<a value="@(@"c:\" + @"say ""hi"" :)")" />"#, r#"@(@"c:\" + @"say ""hi"" :)")"#),
        (r#"<a value="@($"{x["k"]}) {{ {y("}")}")" />"#, r#"@($"{x["k"]}) {{ {y("}")}")"#),
        ("<a value=\"@{ // it's )\n /* \" ) */ return \"}\"; }\" />", "@{ // it's )\n /* \" ) */ return \"}\"; }"),
        (r#"<a value=" @(x) " />"#, " @(x) "),
        (r#"<a value="plain &lt; &#65;&#x42; &nope; & more" />"#, "plain < AB &nope; & more"),
        (r#"<a value="@(x.As<JObject>()["k"])" />"#, r#"@(x.As<JObject>()["k"])"#),
    ] {
        assert_eq!(attribute(written).trim(), expected.trim(), "{written}");
    }
}

#[test]
fn expressions_stand_in_texts() {
    let text = |written: &str| root(written).text().expect("a text").content.trim().to_owned();
    assert_eq!(text(r#"<v> @(x.As<string>("<b>") + "</v>") </v>"#), r#"@(x.As<string>("<b>") + "</v>")"#);
    assert_eq!(text("<v>@(a &lt; b)</v>"), "@(a < b)");
    assert_eq!(text("<v><![CDATA[@(a < b && c)]]></v>"), "@(a < b && c)");
    assert_eq!(text("<v>one <!-- not < this --> two</v>"), "one  two");
    assert_eq!(text("<v>{ \"a\": 1 < 2 }</v>"), "{ \"a\": 1 < 2 }");
}

#[test]
fn a_declaration_a_mark_and_comments_are_passed_over() {
    let root = root("\u{feff}<!-- a -->\n<?xml version=\"1.0\"?>\n<policies>\n  <inbound><base /></inbound>\n</policies>\n");
    assert_eq!(root.name, "policies");
    assert_eq!(root.child("inbound").map(|inbound| inbound.elements().count()), Some(1));
}

#[test]
fn places_are_lines_and_columns() {
    let text = "\u{feff}<p>\n  <é a=\"1\" b=\"@(x)\"/>\n</p>";
    let lines = Lines::of(text);
    let root = root(text);
    let inner = root.elements().next().expect("an element");
    assert_eq!(lines.place(root.start), (1, 1));
    assert_eq!(lines.place(inner.start), (2, 3));
    assert_eq!(lines.place(inner.attribute("b").expect("b").start), (2, 15));
    assert_eq!(lines.place(10_000), (3, 5));
}

#[test]
fn what_is_not_well_formed_is_told_and_hides_nothing_behind_it() {
    for (text, message) in [
        ("<p><a><b></a><c/></p>", "`<b>` is not closed before `</a>`"),
        ("<p><a/></b><c/></p>", "`</b>` closes nothing that is open"),
        ("<p><a x=1 /><c/></p>", "the value of `x` has no quotes"),
        ("<p><a x /><c/></p>", "the attribute `x` has no value"),
        ("<p><a x=\"1\" x=\"2\"/><c/></p>", "`x` is here twice"),
        ("<p><v>@(a(</v><c/></p>", "the first bracket of this expression is never closed"),
        ("<p><a =/><c/></p>", "`=` stands where an attribute is expected"),
        ("<p><a/><c/>", "`<p>` is never closed"),
    ] {
        let document = read(text);
        assert_eq!(document.problems.first().map(|problem| &*problem.message), Some(message), "{text}");
        let root = document.elements.first().expect("a root");
        assert!(root.child("c").is_some(), "{text}: {root:#?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let text = "<a>".repeat(10_000);
    let document = read(&text);
    assert!(document.problems.iter().any(|problem| problem.message.contains("too deeply")));
    assert_eq!(expression_end(&format!("@({}", "(".repeat(100_000))), None);
    assert_eq!(expression_end(&"@($\"{".repeat(5_000)), None);
}

fn places_are_within(element: &Element, text: &str) {
    assert!(element.start < element.end && element.end <= text.len());
    assert!(text.is_char_boundary(element.start) && text[element.start..].starts_with('<'));
    for attribute in &element.attributes {
        assert!(text.is_char_boundary(attribute.value.start));
    }
    element.elements().for_each(|inner| {
        assert!(element.start <= inner.start && inner.end <= element.end);
        places_are_within(inner, text);
    });
}

proptest! {
    #[test]
    fn any_text_is_read(text in "\\PC{0,200}") {
        read(&text).elements.iter().for_each(|element| places_are_within(element, &text));
    }

    #[test]
    fn any_mixture_of_marks_is_read(parts in prop::collection::vec(prop::sample::select(vec![
        "<a ", "<b>", "</a>", "</b>", "/>", ">", "x=", "\"", "'", "@(", "@{", ")", "}", "$\"", "@\"", "{", "{{", "<!--", "-->", "<![CDATA[",
        "]]>", "&lt;", "&", "\\", "é", "\n", "//", "/*", "*/", "<?", "<!", " ", "w",
    ]), 0..60)) {
        let text = parts.concat();
        read(&text).elements.iter().for_each(|element| places_are_within(element, &text));
    }

    #[test]
    fn what_is_written_as_xml_is_read_back(value in "\\PC{0,60}", inner in "\\PC{0,60}") {
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        prop_assume!(!value.trim_start().starts_with('@') && !inner.trim_start().starts_with('@'));
        let text = format!("<p a=\"{}\">{}</p>", escape(&value), escape(&inner));
        let root = root(&text);
        prop_assert_eq!(root.text_of("a"), Some(&*value));
        prop_assert_eq!(root.text().map(|text| &*text.content), Some(&*inner).filter(|inner| !inner.trim().is_empty()));
    }
}

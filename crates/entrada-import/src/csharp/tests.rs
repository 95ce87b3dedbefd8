//! Tests of the parser.

use proptest::prelude::*;

use super::*;

/// Writes an expression with all its brackets.
fn shown(expr: &Expr) -> String {
    let list = |exprs: &[Expr]| exprs.iter().map(shown).collect::<Vec<_>>().join(", ");
    match &*expr.kind {
        ExprKind::Null => "null".to_owned(),
        ExprKind::Bool(value) => value.to_string(),
        ExprKind::Int(value) => value.to_string(),
        ExprKind::Fraction(value) => value.clone(),
        ExprKind::Text(pieces) => pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => format!("{text:?}"),
                Piece::Named(name) => format!("<{name}>"),
                Piece::Hole(inner) => format!("[{}]", shown(inner)),
            })
            .collect(),
        ExprKind::Named(name) => format!("<{name}>"),
        ExprKind::Name(name) => name.clone(),
        ExprKind::Member { of, name, conditional } => format!("{}{}.{name}", shown(of), if *conditional { "?" } else { "" }),
        ExprKind::Index { of, index, conditional } => {
            format!("{}{}[{}]", shown(of), if *conditional { "?" } else { "" }, shown(index))
        }
        ExprKind::Call { function, types, arguments } => {
            let types = if types.is_empty() { String::new() } else { format!("<{}>", types.join(", ")) };
            format!("{}{types}({})", shown(function), list(arguments))
        }
        ExprKind::Cast(name, inner) => format!("({name}){}", shown(inner)),
        ExprKind::Unary(sign, inner) => format!("{sign}{}", shown(inner)),
        ExprKind::Binary(sign, left, right) => format!("({} {sign} {})", shown(left), shown(right)),
        ExprKind::Conditional(condition, then, otherwise) => {
            format!("({} ? {} : {})", shown(condition), shown(then), shown(otherwise))
        }
        ExprKind::Array(elements) => format!("{{{}}}", list(elements)),
        ExprKind::Lambda(name, body) => format!("{name} => {}", shown(body)),
        ExprKind::New(name) => format!("new {name}"),
    }
}

fn expression(text: &str) -> Result<String, String> {
    match parse(&format!("@({text})")) {
        Ok(Code::Expression(expr)) => Ok(shown(&expr)),
        Ok(Code::Block(_)) => Err("a block".to_owned()),
        Err(refusal) => Err(format!("{}: {}", refusal.code, refusal.reason)),
    }
}

#[test]
fn expressions_are_read_with_the_precedence_of_csharp() {
    for (text, expected) in [
        ("a || b && c == d < e + f * -g", "(a || (b && (c == (d < (e + (f * -g))))))"),
        ("a - b - c", "((a - b) - c)"),
        ("a ? b : c ? d : e", "(a ? b : (c ? d : e))"),
        ("a ?? b ?? c", "(a ?? (b ?? c))"),
        ("a ?? b ? c : d", "((a ?? b) ? c : d)"),
        ("!a.B && c", "(!a.B && c)"),
        ("(string)a.B[\"k\"] + \"x\"", "((string)a.B[\"k\"] + \"x\")"),
        ("((string)a).Length > 2", "((string)a.Length > 2)"),
        ("(a) + (b)", "(a + b)"),
        ("(int?)a", "(int?)a"),
        ("a.B<string>(\"k\", \"\")", "a.B<string>(\"k\", \"\")"),
        ("a.B < c.D && e > (f)", "((a.B < c.D) && (e > f))"),
        ("a?.B?[0]?.C()", "a?.B?[0]?.C()"),
        ("'x' + '\\'' + '\\u0041'", "((\"x\" + \"'\") + \"A\")"),
        ("@\"c:\\d \"\"e\"\"\"", "\"c:\\\\d \\\"e\\\"\""),
        ("$\"a{b + \"}\"}c{{d}}e\"", "\"a\"[(b + \"}\")]\"c\"<d>\"e\""),
        ("\"x {{name}} y\"", "\"x \"<name>\" y\""),
        ("{{flag}} == true", "(<flag> == true)"),
        ("new[] { \"a\", \"b\" }.Contains(c)", "{\"a\", \"b\"}.Contains(c)"),
        ("new string[] { 'a' }", "{\"a\"}"),
        ("new List<string>() { a }.Any(x => x.B == c)", "{a}.Any(x => (x.B == c))"),
        ("a is null || b is not null", "((a == null) || (b != null))"),
        ("a as string", "(string)a"),
        ("1_000 + 0x1F + 2.5 + 3m", "(((1000 + 31) + 2.5) + 3.0)"),
        ("a /* b */ + // c\n d", "(a + d)"),
        ("System.Net.WebUtility.UrlEncode(a)", "System.Net.WebUtility.UrlEncode(a)"),
        ("a.B(c: d)", "a.B(d)"),
    ] {
        assert_eq!(expression(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    for (text, code) in [
        ("new Random().Next()", "type: `new Random` is not translated"),
        ("int.TryParse(a, out b)", "statement: a call with `out` is not translated"),
        ("$\"{a:yyyy}\"", "member format: a format or an alignment within a text is not translated"),
        ("a = b", "statement: an assignment is not translated"),
        ("a +", "unparsable: a value is missing"),
        ("\"a", "unparsable: a text is never closed"),
        ("a b", "unparsable: something follows the expression"),
        ("a # b", "unparsable: `#` is not understood"),
    ] {
        assert_eq!(expression(text), Err(code.to_owned()), "{text}");
    }
}

#[test]
fn blocks_are_declarations_conditions_and_returns() {
    let text = "@{ string a = \"x\", b; if (c) { a = d; } else if (e) return f; a += g; return a; }";
    let Ok(Code::Block(statements)) = parse(text) else { panic!("{:?}", parse(text)) };
    assert_eq!(statements.len(), 5, "{statements:#?}");
    assert!(matches!(&statements[2], Statement::If { then, otherwise, .. } if then.len() == 1 && otherwise.len() == 1));
    assert!(matches!(&statements[3], Statement::Assign { value: Some(value), .. } if shown(value) == "(a + g)"));
    for word in ["foreach (var a in b) { }", "try { } catch { }", "while (a) { }", "switch (a) { }", "a.Add(b);"] {
        let refusal = parse(&format!("@{{ {word} return x; }}")).expect_err(word);
        assert_eq!(refusal.code, "statement", "{word}");
    }
}

#[test]
fn length_and_depth_are_bounded() {
    for text in [
        format!("@({}a{})", "(".repeat(5_000), ")".repeat(5_000)),
        format!("@({}a)", "!".repeat(5_000)),
        format!("@(a{})", ".B()".repeat(5_000)),
        format!("@({}a)", "a ? b : ".repeat(3_000)),
        format!("@({}a)", "a ?? ".repeat(4_000)),
        format!("@({})", "$\"{".repeat(3_000)),
        format!("@{{{}}}", "if (a) ".repeat(3_000)),
        format!("@({})", "a + ".repeat(20_000)),
    ] {
        assert_eq!(parse(&text).expect_err("it is too deep").code, "unparsable");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,120}") {
        let _ = parse(&text);
        let _ = parse(&format!("@({text})"));
        let _ = parse(&format!("@{{{text}}}"));
    }

    #[test]
    fn any_mixture_of_signs_is_read_or_refused(parts in prop::collection::vec(prop::sample::select(vec![
        "a", "(", ")", "[", "]", "{", "}", "\"", "$\"", "@\"", "'", "\\", ".", "?.", "?[", "?", ":", "??", "=>", "=", "==", "<", ">", "new ",
        "string", "if", "return ", ";", "var ", "1", "+", "!", "{{n}}", " ", ",",
    ]), 0..50)) {
        let text = parts.concat();
        let _ = parse(&format!("@({text})"));
        let _ = parse(&format!("@{{{text}}}"));
    }
}

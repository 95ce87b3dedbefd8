//! The parser against the one of the crate `cel`, which is generated from CEL's grammar: both accept a text as the same tree, or both
//! refuse it. Differences are those of [`Theirs::left_out`] and of the depth that the limits allow.

use std::{fmt::Write as _, thread};

use cel::{
    Env,
    common::ast::{EntryExpr, Expr as CelExpr, IdedExpr, LiteralValue, operators},
};
use proptest::prelude::*;

use super::{Call, Expr, Logic, Operator, Part, parse};
use crate::expression::limits;

/// Pieces of expressions: what can follow what is left to chance.
const PIECES: [&str; 86] = [
    "a",
    "b",
    "x",
    "has",
    "_",
    "r",
    "R",
    "br",
    "in",
    "true",
    "false",
    "null",
    "for",
    "as",
    "while",
    "truex",
    "0",
    "1",
    "42",
    "007",
    "0x2a",
    "0X1",
    "0x",
    "1u",
    "0x1U",
    "1.5",
    ".5",
    "1e3",
    "1E-3",
    "2.5e+1",
    "1e",
    "1.",
    "1e400",
    "9223372036854775807",
    "9223372036854775808",
    "0x8000000000000000",
    "18446744073709551615u",
    "''",
    "'a'",
    "\"b\"",
    "'''c'd'''",
    "\"\"\"e\nf\"\"\"",
    "r'\\d'",
    "R\"\\\"",
    "r'''\\'''",
    "'\\n\\x41\\u00e9'",
    "'\\377'",
    "'\\q'",
    "'\\ud800'",
    "b'a'",
    "bR'\\x'",
    "'",
    "\"",
    "'''",
    "é",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".",
    ",",
    ":",
    "?",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "!",
    "=",
    "&",
    "|",
    "`a`",
    "// b\n",
    "\n",
    "\\",
];

/// A tree of the crate, in the words in which both are compared.
#[derive(Default)]
struct Theirs {
    text: String,
    /// True if a part of it is one that the language leaves out, by a message of its own.
    left_out: bool,
    height: usize,
}

/// Messages of parts that the language leaves out of CEL.
const LEFT_OUT: [&str; 6] = [
    "bytes are not supported",
    "unsigned numbers are not supported",
    "nothing is ever null here: what is null is absent",
    "messages are not supported",
    // A dot before a name: there is no container whose root it could name.
    "`.` stands where a value is expected",
    // Also as the name of a message.
    "is a word that is kept for later",
];

impl Theirs {
    fn of(expr: &IdedExpr) -> Self {
        let mut theirs = Self::default();
        theirs.write(expr, 1);
        theirs
    }

    fn write(&mut self, expr: &IdedExpr, height: usize) {
        self.height = self.height.max(height);
        match &expr.expr {
            CelExpr::Literal(literal) => self.literal(literal),
            CelExpr::Ident(name) => self.name(name),
            CelExpr::Select(select) => {
                assert!(!select.test, "without macros");
                self.parts("field", [&*select.operand], height);
                self.text.push_str(&select.field);
            }
            CelExpr::Call(call) if matches!(call.func_name.as_str(), operators::LOGICAL_AND | operators::LOGICAL_OR) => {
                let mut operands = Vec::new();
                flat(&call.func_name, expr, &mut operands);
                self.parts(&call.func_name, operands, height);
            }
            CelExpr::Call(call) => {
                self.text.push_str(if call.target.is_some() { "method " } else { "" });
                self.left_out |= call.func_name.starts_with('.');
                self.parts(&call.func_name, call.target.as_deref().into_iter().chain(&call.args), height);
            }
            CelExpr::List(list) => self.parts("list", &list.elements, height),
            CelExpr::Map(map) => {
                let entries = map.entries.iter().flat_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => [&entry.key, &entry.value],
                    EntryExpr::StructField(_) => panic!("a field in a map"),
                });
                self.parts("map", entries, height);
            }
            CelExpr::Struct(_) => self.left_out = true,
            CelExpr::Comprehension(_) | CelExpr::Unspecified => panic!("accepted without a tree"),
        }
    }

    fn name(&mut self, name: &str) {
        self.left_out |= name.starts_with('.');
        let _ = write!(self.text, "{name} ");
    }

    fn literal(&mut self, literal: &LiteralValue) {
        let _ = match literal {
            LiteralValue::Boolean(value) => write!(self.text, "{} ", value.inner()),
            LiteralValue::Int(value) => write!(self.text, "{} ", value.inner()),
            LiteralValue::Double(value) => write!(self.text, "bits {} ", value.inner().to_bits()),
            LiteralValue::String(value) => write!(self.text, "{:?} ", value.inner()),
            LiteralValue::UInt(_) | LiteralValue::Bytes(_) | LiteralValue::Null => {
                self.left_out = true;
                Ok(())
            }
        };
    }

    fn parts<'a>(&mut self, what: &str, parts: impl IntoIterator<Item = &'a IdedExpr>, height: usize) {
        let _ = write!(self.text, "{what}(");
        parts.into_iter().for_each(|part| self.write(part, height + 1));
        self.text.push(')');
    }
}

/// Lists the operands of a chain in order: the crate makes a balanced tree of it.
fn flat<'a>(sign: &str, expr: &'a IdedExpr, operands: &mut Vec<&'a IdedExpr>) {
    match &expr.expr {
        CelExpr::Call(call) if call.func_name == sign => call.args.iter().for_each(|operand| flat(sign, operand, operands)),
        _ => operands.push(expr),
    }
}

/// Writes our tree in the same words.
fn ours(expr: &Expr<'_>, text: &mut String) {
    let mut parts = |what: &str, parts: &[&Expr<'_>]| {
        let _ = write!(text, "{what}(");
        parts.iter().for_each(|part| ours(part, text));
        text.push(')');
    };
    match &expr.part {
        Part::Field(of, name) => {
            parts("field", &[of]);
            text.push_str(name);
        }
        Part::Index(both) => parts(operators::INDEX, &both.each_ref()),
        Part::Call(call) => {
            let Call { on, name, arguments } = &**call;
            let all: Vec<_> = on.iter().chain(arguments).collect();
            parts(&format!("{}{name}", if on.is_some() { "method " } else { "" }), &all);
        }
        Part::Not(of) => parts(operators::LOGICAL_NOT, &[of]),
        Part::Negate(of) => parts(operators::NEGATE, &[of]),
        Part::Binary(Operator::In, both) => parts(operators::IN, &both.each_ref()),
        Part::Binary(Operator::Compare(sign), both) => parts(&format!("_{}_", sign.sign()), &both.each_ref()),
        Part::Binary(Operator::Calculate(sign), both) => parts(&format!("_{}_", sign.sign()), &both.each_ref()),
        Part::Chain(Logic::And, operands) => parts(operators::LOGICAL_AND, &operands.iter().collect::<Vec<_>>()),
        Part::Chain(Logic::Or, operands) => parts(operators::LOGICAL_OR, &operands.iter().collect::<Vec<_>>()),
        Part::Choose(all) => parts(operators::CONDITIONAL, &all.each_ref()),
        Part::List(elements) => parts("list", &elements.iter().collect::<Vec<_>>()),
        Part::Map(entries) => parts("map", &entries.iter().flat_map(|(name, value)| [name, value]).collect::<Vec<_>>()),
        Part::Bool(value) => drop(write!(text, "{value} ")),
        Part::Int(value) => drop(write!(text, "{value} ")),
        Part::Double(value) => drop(write!(text, "bits {} ", value.to_bits())),
        Part::Text(value) => drop(write!(text, "{value:?} ")),
        Part::Name(name) => drop(write!(text, "{name} ")),
    }
}

/// Parses with the crate, on a stack that its limits cannot exhaust.
fn theirs(text: &str) -> Option<Theirs> {
    let work = || {
        let parser = Env::default().with_optional_support(false).parser();
        let parsed = parser.max_recursion_depth(limits::NESTING).error_recovery_limit(1).parse(text);
        parsed.ok().map(|expr| Theirs::of(&expr))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(64 * 1024 * 1024).spawn_scoped(scope, work);
        thread.expect("a thread starts").join().expect("the crate does not panic")
    })
}

/// Returns the difference between both parsers, if there is one that nobody wanted.
fn difference(text: &str) -> Result<(), String> {
    match (theirs(text), parse(text)) {
        (None, Err(_)) => Ok(()),
        (None, Ok(expr)) => Err(format!("{text:?} is refused by the crate, and read as {expr:?}")),
        (Some(theirs), Ok(expr)) => {
            let mut tree = String::new();
            ours(&expr, &mut tree);
            if theirs.text == tree && !theirs.left_out {
                Ok(())
            } else {
                Err(format!("{text:?}\n  the crate: {}\n  ours:      {tree}", theirs.text))
            }
        }
        (Some(theirs), Err(fault)) => {
            let left_out = theirs.left_out && LEFT_OUT.iter().any(|message| fault.message.ends_with(message));
            let too_deep = theirs.height > limits::DEPTH && fault.message.starts_with("nested more than");
            if left_out || too_deep { Ok(()) } else { Err(format!("{text:?}: {fault:?}; the crate: {}", theirs.text)) }
        }
    }
}

fn literal() -> impl Strategy<Value = String> {
    let number = "-?(0x[0-9a-f]{1,17}|[0-9]{1,20}|[0-9]{0,3}\\.[0-9]{1,3}|[0-9]{1,3}(\\.[0-9])?[eE][+-]?[0-9]{1,3})[uU]?";
    let inner = "([a-z'\"\\r\\n\u{e9}\u{1f600}\u{2028}`?]|\\\\[abfnrtv'\"\\\\?`xX0-4uUq]|\\\\[xX][0-9a-fA-F]{2}|\\\\u[0-9a-f]{4}|\\\\U000[0-9a-f]{5}|\\\\[0-4][0-8]{2}){0,6}";
    let quoted = (prop::sample::select(vec!["", "r", "R", "b", "B", "br", "BR", "rb"]), inner, 0..6_usize).prop_map(
        |(prefix, inner, quotes)| {
            let mark = ["'", "\"", "'''", "\"\"\"", "'", "\""][quotes];
            format!("{prefix}{mark}{inner}{mark}")
        },
    );
    prop_oneof![number, quoted, prop::sample::select(PIECES.to_vec()).prop_map(str::to_owned), "[a-z_][a-z0-9_]{0,3}"]
}

/// Generates the tokens of an expression that follows the grammar.
fn written() -> impl Strategy<Value = Vec<String>> {
    fn bracketed(open: &str, parts: Vec<Vec<String>>, separators: &[&str], close: &str) -> Vec<String> {
        let mut tokens = vec![open.to_owned()];
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                tokens.push(separators[(index - 1) % separators.len()].to_owned());
            }
            tokens.extend(part);
        }
        tokens.push(close.to_owned());
        tokens
    }
    let leaf = prop_oneof![
        4 => "[a-e]".prop_map(|name| vec![name]),
        1 => literal().prop_map(|literal| vec![literal]),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let many = || prop::collection::vec(inner.clone(), 0..4);
        let sign = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "&&", "||", "||", "in", "?", ":", ".",
        ]);
        prop_oneof![
            3 => (inner.clone(), sign, inner.clone())
                .prop_map(|(left, sign, right)| [left, vec![sign.to_owned()], right].concat()),
            1 => (prop::sample::select(vec!["!", "-"]), 1..4_usize, inner.clone())
                .prop_map(|(sign, count, of)| [vec![sign.to_owned(); count], of].concat()),
            1 => (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| [a, vec!["?".to_owned()], b, vec![":".to_owned()], c].concat()),
            1 => (inner.clone(), "[a-e]").prop_map(|(of, name)| [of, vec![".".to_owned(), name]].concat()),
            1 => (inner.clone(), inner.clone()).prop_map(|(of, key)| [of, bracketed("[", vec![key], &[","], "]")].concat()),
            1 => (inner.clone(), "[a-e]", many())
                .prop_map(|(of, name, parts)| [of, vec![".".to_owned(), name], bracketed("(", parts, &[","], ")")].concat()),
            1 => ("[a-e]", many()).prop_map(|(name, parts)| [vec![name], bracketed("(", parts, &[","], ")")].concat()),
            1 => inner.clone().prop_map(|inner| bracketed("(", vec![inner], &[","], ")")),
            1 => (many(), any::<bool>()).prop_map(|(parts, comma)| bracketed("[", parts, &[","], if comma { ",]" } else { "]" })),
            1 => (many(), any::<bool>())
                .prop_map(|(parts, comma)| bracketed("{", parts, &[":", ","], if comma { ",}" } else { "}" })),
            1 => ("[a-e]", "[a-e]", inner.clone())
                .prop_map(|(name, field, value)| [vec![name, "{".to_owned(), field, ":".to_owned()], value, vec!["}".to_owned()]].concat()),
        ]
    })
}

/// Joins tokens, most of them with a blank between.
fn joined(tokens: &[String], blanks: &[u8]) -> String {
    let mut text = String::new();
    for (index, token) in tokens.iter().enumerate() {
        text.push_str(token);
        text.push_str(match blanks[index % blanks.len()] {
            0 | 1 => "",
            2 => "\n",
            3 => "\t\r\u{c}",
            4 => " // a comment's \"end\"\n",
            _ => " ",
        });
    }
    text
}

fn blanks() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..12_u8, 1..20)
}

proptest! {
    // PROPTEST_CASES makes more of them.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), ..ProptestConfig::default() })]

    #[test]
    fn what_follows_the_grammar_is_one_tree(tokens in written(), blanks in blanks()) {
        let text = joined(&tokens, &blanks);
        prop_assert!(difference(&text).is_ok(), "{}", difference(&text).unwrap_err());
    }

    #[test]
    fn what_nearly_follows_the_grammar_is_judged_alike(
        tokens in written(),
        changes in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), prop::sample::select(PIECES.to_vec())), 1..4),
        blanks in blanks(),
    ) {
        let mut tokens = tokens;
        for (kind, place, piece) in changes {
            let at = place.index(tokens.len().max(1)).min(tokens.len());
            match kind {
                0 if !tokens.is_empty() => drop(tokens.remove(at)),
                1 if !tokens.is_empty() => tokens[at] = piece.to_owned(),
                2 if tokens.len() > 1 => {
                    let other = at / 2;
                    tokens.swap(at, other);
                }
                _ => tokens.insert(at, piece.to_owned()),
            }
        }
        let text = joined(&tokens, &blanks);
        prop_assert!(difference(&text).is_ok(), "{}", difference(&text).unwrap_err());
    }

    #[test]
    fn pieces_in_any_order_are_judged_alike(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..8), blanks in blanks()) {
        let text = joined(&pieces.into_iter().map(str::to_owned).collect::<Vec<_>>(), &blanks);
        prop_assert!(difference(&text).is_ok(), "{}", difference(&text).unwrap_err());
    }

    #[test]
    fn literals_are_judged_alike(literal in literal()) {
        prop_assert!(difference(&literal).is_ok(), "{}", difference(&literal).unwrap_err());
    }

    #[test]
    fn any_text_is_judged_alike(text in prop_oneof![".{0,30}", "[ -~\\n]{0,30}", "[0-9xXuUeE.+-]{0,8}", "[rb'\"\\\\nx41u\\n\\r]{0,14}"]) {
        prop_assert!(difference(&text).is_ok(), "{}", difference(&text).unwrap_err());
    }
}

#[test]
fn both_end_at_the_same_depth() {
    for (open, inner, close) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("[", "", "]"),
        ("{'a': ", "1", "}"),
        ("{", "1", ": 1}"),
        ("f(", "1", ")"),
        ("a.f(", "1", ")"),
        ("a[", "1", "]"),
        ("a ? b : ", "c", ""),
        ("(a ? b : c) ? d : ", "e", ""),
        ("!(", "true", ")"),
        ("[1, (2)].map(x, ", "x", ")"),
    ] {
        let at_most = usize::from(limits::NESTING);
        for depth in [1, at_most - 1, at_most, at_most + 1, at_most + 2] {
            let text = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(difference(&text), Ok(()), "{open} {depth} times");
        }
    }
}

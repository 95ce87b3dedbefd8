use crate::expression::{Expression, limits};

/// Returns the fault of an expression in one line: its column, the message and the cure.
fn fault(text: &str) -> String {
    let fault = Expression::parse(text).expect_err(text);
    format!("{}: {}; {}", fault.column, fault.message, fault.cure)
}

#[test]
fn a_fault_says_what_stands_there_and_what_is_expected() {
    let general = "expressions are written in CEL, as @(token.claims.oid)";
    for (text, expected) in [
        ("", "1: the expression ends where a value is expected"),
        ("1 +", "4: the expression ends where a value is expected"),
        ("1 + )", "5: `)` stands where a value is expected"),
        ("(1", "3: the expression ends where an operator or `)` is expected"),
        ("[1 2]", "4: `2` stands where an operator, `,` or `]` is expected"),
        ("{'a' 1}", "6: `1` stands where an operator or `:` is expected"),
        ("{'a': 1", "8: the expression ends where an operator, `,` or `}` is expected"),
        ("lower('a',)", "11: `)` stands where a value is expected"),
        ("lower('a'", "10: the expression ends where an operator, `,` or `)` is expected"),
        ("request.headers['a'", "20: the expression ends where an operator or `]` is expected"),
        ("true ? 1", "9: the expression ends where an operator or `:` is expected"),
        ("true ? false ? 1 : 2 : 3", "14: `?` stands where an operator or `:` is expected"),
        ("'ü' 'b'", "5: a text stands where an operator or the end is expected"),
        ("1 1.5", "3: `1.5` stands where an operator or the end is expected"),
        ("token.", "7: the expression ends where the name of a field is expected"),
        ("token.in", "7: `in` stands where the name of a field is expected"),
        ("token.claims.5", "13: `.5` stands where an operator or the end is expected"),
        (".x", "1: `.` stands where a value is expected"),
        ("!-x", "3: `x` stands where a number is expected"),
        ("-!x", "2: `!` stands where a value is expected"),
        ("#", "1: `#` has no meaning"),
        ("\u{1}", "1: `\\u{1}` has no meaning"),
    ] {
        assert_eq!(fault(text), format!("{expected}; {general}"), "{text}");
    }
}

#[test]
fn a_fault_that_shows_what_was_meant_has_its_own_cure() {
    for (text, expected) in [
        ("request.method = 'GET'", "16: `=` has no meaning; write `==` to compare"),
        ("true & false", "6: `&` has no meaning; write `&&`"),
        ("true | false", "6: `|` has no meaning; write `||`"),
        ("true and false", "6: `and` stands where an operator or the end is expected; write `&&`"),
        ("true or false", "6: `or` stands where an operator or the end is expected; write `||`"),
        ("\u{201c}a\u{201d}", "1: `\u{201c}` has no meaning; write a text between straight quotes, as \"text\" or 'text'"),
        (
            "token.claims.`a.b`",
            "14: ``` has no meaning; write a name that is no word in quotes, as token.claims[\"extn.costCenter\"]",
        ),
        ("token.?claims", "6: `.?` is not supported; ask with has(…), as has(token.claims.oid) ? token.claims.oid : \"none\""),
        ("token[?'claims']", "6: `[?` is not supported; ask with has(…), as has(token.claims.oid) ? token.claims.oid : \"none\""),
        ("1 + for", "5: `for` is a word that is kept for later; choose another name"),
        ("while(1)", "1: `while` is a word that is kept for later; choose another name"),
        (
            "'a\nb'",
            "1: the text that begins here has no closing '; close it on the line on which it begins, or write ''' at both ends",
        ),
        ("1 + \"\"\"a\"", "5: the text that begins here has no closing \"\"\"; write \"\"\" at its end"),
        ("'ü\\d'", "3: `\\d` is no escape; write `\\\\` for one backslash, or `r` before the quote of a text without escapes"),
        ("'\\x4'", "2: `\\x` is no escape; write two hexadecimal digits after it, as \\x41"),
        ("'\\ud800'", "2: `\\u` is no escape; write the four hexadecimal digits of a character after it, as \\u0041"),
        ("9223372036854775808", "1: a number is too large; whole numbers go from -9223372036854775808 to 9223372036854775807"),
        ("1 + 1u", "5: unsigned numbers are not supported; leave the `u` out"),
        ("1 + br'a'", "5: bytes are not supported; leave the `b` out"),
        ("a.Message{}", "10: messages are not supported; write a map as {\"name\": value}"),
        (
            "context.Request.Method == null",
            "27: nothing is ever null here: what is null is absent; this is C#, and expressions are CEL: for `context.Request.Method` write request.method",
        ),
        ("x => x", "3: `=>` has no meaning; this is C#, and expressions are CEL, as @(token.claims.oid)"),
    ] {
        assert_eq!(fault(text), expected, "{text}");
    }
}

/// Forms of nesting: what opens, stands within and closes.
const FORMS: [(&str, &str, &str); 14] = [
    ("int(1 + ", "1", ")"),
    ("-(1 + ", "1", ")"),
    ("!(true && ", "true", ")"),
    ("(true || false && 1 == 1 + 1 * ", "1", " ? 1 : 2)"),
    ("'a'.replace('a', 'b' + ", "'c'", ")"),
    ("[1, 2][", "0", "]"),
    ("[1 + ", "1", "][0]"),
    ("(true ? 1 : 2 + ", "1", ")"),
    ("true ? 1 : ", "2", ""),
    ("{'a': 1 + ", "1", "}['a']"),
    ("[1].map(x#, true, 1 + ", "1", ")[0]"),
    ("", "1", " + 1"),
    ("", "token.claims", ".a"),
    ("", "request.path", ".trim()"),
];

/// Counts how often each form is accepted within itself, on a thread with a quarter of the usual stack.
fn deepest(accepts: fn(&str) -> bool) -> Vec<usize> {
    let times = move |(open, inner, close): (&str, &str, &str)| {
        let accepted = (1..=2 * limits::DEPTH).rfind(|times| {
            let opened: String = (0..*times).map(|level| open.replace('#', &level.to_string())).collect();
            accepts(&format!("{opened}{inner}{}", close.repeat(*times)))
        });
        accepted.unwrap_or_default()
    };
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    small.spawn(move || FORMS.map(times).to_vec()).expect("a thread starts").join().expect("nothing overflows")
}

#[test]
fn whatever_the_limits_allow_is_parsed_and_checked_on_a_small_stack() {
    assert_eq!(deepest(|text| super::parse(text).is_ok()), [32, 32, 32, 10, 32, 32, 21, 16, 32, 21, 21, 65, 64, 64]);
    assert_eq!(deepest(|text| Expression::parse(text).is_ok()), [31, 31, 31, 10, 31, 32, 21, 16, 32, 21, 21, 63, 64, 63]);
}

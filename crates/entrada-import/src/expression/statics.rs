//! Functions of types: `string.IsNullOrEmpty`, `Regex.IsMatch`, `Convert.ToInt32`.

use super::{
    Kind, Translator,
    calls::arity,
    value::{Cel, Object, Plain, Value, literal, sum},
};
use crate::{
    csharp::{Expr, ExprKind, Refusal},
    report::Verdict,
};

fn text(cel: Cel) -> Result<Value, Refusal> {
    Ok(Value::Plain(Plain::text(cel)))
}

impl Translator<'_> {
    pub(super) fn static_member(&mut self, of: &str, name: &str, at: usize) -> Result<Value, Refusal> {
        match (of, name) {
            ("string" | "String", "Empty") => text(literal("")),
            ("Guid", "Empty") => text(literal("00000000-0000-0000-0000-000000000000")),
            ("Encoding", "UTF8" | "ASCII") => Ok(Value::Object(Object::Type("UTF8".to_owned()))),
            // Options are read where they are used.
            ("StringComparison" | "StringSplitOptions" | "RegexOptions", _) => Ok(Value::Object(Object::Type(name.to_owned()))),
            _ => Err(Refusal::new("member", format!("`{of}.{name}` is not translated"), at)),
        }
    }

    pub(super) fn static_call(&mut self, of: &str, name: &str, arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        match (of, name, arguments) {
            ("string" | "String", "IsNullOrEmpty", [argument]) => self.is_blank(argument, false),
            ("string" | "String", "IsNullOrWhiteSpace", [argument]) => self.is_blank(argument, true),
            ("string" | "String", "Equals", [left, right, ..]) => {
                let (left, right) = (self.plain(left)?, self.plain(right)?);
                let equal = if self.ignores_case(&arguments[1..], at)? {
                    self.equal_without_case(&left, &right, at)?
                } else {
                    self.equal(&left, &right, at)?
                };
                Ok(Value::Plain(Plain::bool(equal)))
            }
            ("string" | "String", "Concat", parts) => {
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| self.plain(part).map(|plain| plain.as_text())).collect();
                text(sum(parts?))
            }
            ("string" | "String", "Format", [format, arguments @ ..]) => self.format(format, arguments, at),
            ("string" | "String", "Join", [separator, list]) => self.join(separator, list, at),
            ("int" | "Int32" | "Int64" | "long", "Parse", [argument]) | ("Convert", "ToInt32" | "ToInt64", [argument]) => {
                self.converted(argument, "int", Kind::Int)
            }
            ("bool" | "Boolean", "Parse", [argument]) | ("Convert", "ToBoolean", [argument]) => {
                self.remark(Verdict::Note, "boolean", "only `true` and `false` in lower case are read here");
                self.converted(argument, "bool", Kind::Bool)
            }
            ("double", "Parse", [argument]) | ("Convert", "ToDouble", [argument]) => {
                self.converted(argument, "double", Kind::Fraction)
            }
            ("Convert", "ToString", [argument]) => {
                let plain = self.plain(argument)?;
                text(plain.as_text())
            }
            ("Guid", "NewGuid", []) => text(Cel::primary("uuid()")),
            ("Uri", "EscapeDataString" | "EscapeUriString", [argument]) => {
                let argument = self.text_cel(argument)?;
                text(argument.call("url_encode", &[]))
            }
            ("WebUtility" | "HttpUtility", "UrlEncode", [argument]) => {
                self.remark(Verdict::Note, "blanks", "a blank is `+` there, and `%20` here");
                let argument = self.text_cel(argument)?;
                text(argument.call("url_encode", &[]))
            }
            ("UTF8", "GetBytes", [argument]) => {
                let argument = self.text_cel(argument)?;
                Ok(Value::Object(Object::Bytes(argument)))
            }
            ("UTF8", "GetString", [argument]) => match self.value(argument)? {
                Value::Object(Object::Bytes(encoded)) => text(encoded),
                _ => Err(Refusal::new("crypto", "it computes with bytes", at)),
            },
            ("Convert", "ToBase64String", [argument]) => match self.value(argument)? {
                Value::Object(Object::Bytes(bytes)) => text(bytes.call("base64", &[])),
                _ => Err(Refusal::new("crypto", "it computes with bytes", at)),
            },
            ("Convert", "FromBase64String", [argument]) => {
                let argument = self.text_cel(argument)?;
                Ok(Value::Object(Object::Bytes(argument.call("base64_decode", &[]))))
            }
            ("Regex", "IsMatch", [subject, pattern, options @ ..]) => self.matches(subject, pattern, options, at),
            ("Regex", "Replace", [subject, pattern, by]) => {
                let subject = self.text_cel(subject)?;
                let by = self.text_cel(by)?;
                let (part, anchors) = self.plain_pattern(pattern, at)?;
                if anchors != (false, false) || by.text.contains('$') {
                    return Err(Refusal::new("member", "a replacement by a pattern is not translated", at));
                }
                text(subject.call("replace", &[&part.text, &by.text]))
            }
            ("Array", "Exists", [list, function]) => {
                let list = self.plain(list)?;
                self.method(list, "Any", std::slice::from_ref(function), false, at)
            }
            _ => Err(Refusal::new("member", format!("`{of}.{name}` is not translated"), at)),
        }
    }

    fn converted(&mut self, argument: &Expr, function: &str, kind: Kind) -> Result<Value, Refusal> {
        let plain = self.plain(argument)?;
        if plain.kind == kind {
            return Ok(Value::Plain(plain));
        }
        Ok(Value::Plain(Plain::new(plain.cel.call(function, &[]), kind)))
    }

    /// Translates `string.Format("{0}/{1}", …)`.
    fn format(&mut self, format: &Expr, arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        use crate::csharp::Piece;
        let ExprKind::Text(pieces) = &*format.kind else {
            return Err(Refusal::new("member", "`Format` of a text that is computed is not translated", at));
        };
        let mut parts = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Named(name) => parts.push(self.named(name)?),
                Piece::Hole(_) => return Err(arity("Format", at)),
                Piece::Text(own) => self.format_text(own, arguments, &mut parts, at)?,
            }
        }
        text(sum(parts))
    }

    fn format_text(&mut self, own: &str, arguments: &[Expr], parts: &mut Vec<Cel>, at: usize) -> Result<(), Refusal> {
        let mut rest = own;
        let mut plain = String::new();
        while let Some(place) = rest.find(['{', '}']) {
            plain.push_str(&rest[..place]);
            rest = &rest[place..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                plain.push_str(&rest[..1]);
                rest = &rest[2..];
                continue;
            }
            let end = rest.find('}').filter(|_| rest.starts_with('{')).ok_or_else(|| arity("Format", at))?;
            let argument = rest[1..end].parse::<usize>().ok().and_then(|index| arguments.get(index));
            let argument = argument.ok_or_else(|| arity("Format", at))?;
            parts.push(literal(&std::mem::take(&mut plain)));
            parts.push(self.plain(argument)?.as_text());
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        parts.push(literal(&plain));
        Ok(())
    }

    fn join(&mut self, separator: &Expr, list: &Expr, at: usize) -> Result<Value, Refusal> {
        let separator = Self::literal_text(separator).ok_or_else(|| arity("Join", at))?;
        let list = match self.value(list)? {
            Value::Object(object) => self.object_list(&object, at)?,
            Value::Plain(plain) if plain.kind == Kind::List => plain,
            _ => return Err(arity("Join", at)),
        };
        self.remark(Verdict::Changed, "join", "an element that holds the separator refuses here");
        text(list.cel.call("join", &[&literal(&separator).text]))
    }

    /// Translates a pattern of letters and named values to a comparison.
    fn matches_text(&mut self, subject: &Cel, pattern: &Expr, ignores_case: bool, at: usize) -> Result<Value, Refusal> {
        let (part, anchors) = self.plain_pattern(pattern, at)?;
        let (subject, part) =
            if ignores_case { (subject.call("lower", &[]), part.call("lower", &[])) } else { (subject.clone(), part) };
        Ok(Value::Plain(Plain::bool(match anchors {
            (true, true) => subject.relation("==", &part),
            (true, false) => subject.method("startsWith", &part),
            (false, true) => subject.method("endsWith", &part),
            (false, false) => subject.method("contains", &part),
        })))
    }

    /// Returns the text that a pattern of letters and named values stands for, and whether it is bound to begin and end.
    fn plain_pattern(&mut self, pattern: &Expr, at: usize) -> Result<(Cel, (bool, bool)), Refusal> {
        use crate::csharp::Piece;
        let computed = || Refusal::new("member", "a pattern that is computed is not translated", at);
        let ExprKind::Text(pieces) = &*pattern.kind else { return Err(computed()) };
        let mut parts = Vec::new();
        let mut anchors = (false, false);
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Named(name) => parts.push(self.named(name)?),
                Piece::Hole(_) => return Err(computed()),
                Piece::Text(own) => {
                    let (mut own, is_last) = (own.as_str(), index + 1 == pieces.len());
                    if let Some(rest) = own.strip_prefix('^').filter(|_| index == 0) {
                        (own, anchors.0) = (rest, true);
                    }
                    if let Some(rest) = own.strip_suffix('$').filter(|rest| is_last && !rest.ends_with('\\')) {
                        (own, anchors.1) = (rest, true);
                    }
                    parts.push(literal(&unescaped(own).ok_or_else(computed)?));
                }
            }
        }
        self.remark(Verdict::Changed, "pattern-of-named-value", "a named value within a pattern is a text here, and no pattern");
        Ok((sum(parts), anchors))
    }

    /// Translates `Regex.IsMatch`.
    fn matches(&mut self, subject: &Expr, pattern: &Expr, options: &[Expr], at: usize) -> Result<Value, Refusal> {
        let subject = self.text_cel(subject)?;
        let mut flags = String::new();
        for option in options {
            read_options(option, &mut flags, at)?;
        }
        let Some(pattern) = Self::literal_text(pattern) else {
            self.no_path_below(&subject, at)?;
            return self.matches_text(&subject, pattern, flags.contains('i'), at);
        };
        if pattern.contains('^') {
            self.no_path_below(&subject, at)?;
        }
        let is_backreference = pattern.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]));
        if ["(?=", "(?!", "(?<=", "(?<!", "(?>", "\\k<", "\\G"].iter().any(|mark| pattern.contains(mark)) || is_backreference {
            return Err(Refusal::new("member", "a pattern that looks around or back is not translated", at));
        }
        let pattern = match pattern.strip_suffix('$') {
            // `$` also matches before a last line break there.
            Some(start) if !start.ends_with('\\') => format!("{start}\\n?$"),
            _ => pattern,
        };
        let pattern = if flags.is_empty() { pattern } else { format!("(?{flags}){pattern}") };
        Ok(Value::Plain(Plain::bool(subject.method("matches", &literal(&pattern)))))
    }
}

/// Returns the text that a pattern without meaning matches. A `\` at its end escapes what a named value begins with.
fn unescaped(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                None => {}
                Some(next) if next.is_ascii_alphanumeric() => return None,
                Some(next) => text.push(next),
            },
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            letter => text.push(letter),
        }
    }
    Some(text)
}

/// Reads options of a pattern; a timeout has none, since patterns take linear time here.
fn read_options(option: &Expr, flags: &mut String, at: usize) -> Result<(), Refusal> {
    match &*option.kind {
        ExprKind::Binary(_, left, right) => {
            read_options(left, flags, at)?;
            read_options(right, flags, at)
        }
        ExprKind::Member { name, .. } if name == "IgnoreCase" => {
            flags.push('i');
            Ok(())
        }
        ExprKind::Member { name, .. } if matches!(name.as_str(), "None" | "Compiled" | "CultureInvariant") => Ok(()),
        ExprKind::Call { function, .. } if matches!(&*function.kind, ExprKind::Member { name, .. } if name.starts_with("From")) => {
            Ok(())
        }
        _ => Err(Refusal::new("member", "an option of a pattern is not translated", at)),
    }
}

//! Methods of texts, lists, numbers and booleans.

use super::{
    Kind, Translator,
    calls::{arity, empty},
    value::{Cel, Level, Plain, Value, literal},
};
use crate::{
    csharp::{Expr, ExprKind, Refusal},
    report::Verdict,
};

fn text(cel: Cel) -> Result<Value, Refusal> {
    Ok(Value::Plain(Plain::text(cel)))
}

fn truth(cel: Cel) -> Result<Value, Refusal> {
    Ok(Value::Plain(Plain::bool(cel)))
}

impl Translator<'_> {
    /// Reads a member of a text or a list.
    pub(super) fn member_of_value(&mut self, of: &Plain, name: &str, at: usize) -> Result<Value, Refusal> {
        match (name, of.kind) {
            ("Length" | "Count", Kind::Text | Kind::List) => Ok(Value::Plain(Plain::new(of.cel.call("size", &[]), Kind::Int))),
            ("Value", _) => Ok(Value::Plain(Plain { present: None, ..of.clone() })),
            ("HasValue", _) => truth(of.present.clone().unwrap_or_else(|| Cel::primary("true"))),
            _ => Err(Refusal::new("member", format!("`{name}` is not translated"), at)),
        }
    }

    /// Calls a method of a value. On null it fails there; behind `?.` it is null.
    pub(super) fn method(
        &mut self,
        of: Plain,
        name: &str,
        arguments: &[Expr],
        conditional: bool,
        at: usize,
    ) -> Result<Value, Refusal> {
        let present = of.present.clone();
        let of = Plain { present: None, null_test: None, ..of };
        let value = match of.kind {
            Kind::List => self.list_method(&of, name, arguments, at)?,
            Kind::Text => self.text_method(&of, name, arguments, at)?,
            Kind::Any if of.untyped || !matches!(name, "ToString" | "Equals") => {
                // Without a cast only methods of any object can be called.
                match name {
                    "ToString" | "Equals" | "GetHashCode" => self.any_method(&of, name, arguments, at)?,
                    _ => self.text_method(&of, name, arguments, at)?,
                }
            }
            _ => self.any_method(&of, name, arguments, at)?,
        };
        match (conditional, present, value) {
            (true, Some(present), Value::Plain(plain)) => Ok(Value::Plain(Plain { present: Some(present), ..plain })),
            (_, _, value) => Ok(value),
        }
    }

    fn any_method(&mut self, of: &Plain, name: &str, arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        match (name, arguments) {
            ("ToString", []) => text(of.as_text()),
            ("Equals", [other]) => {
                let other = self.plain(other)?;
                let untyped = Plain { untyped: false, ..of.clone() };
                truth(self.equal(&untyped, &Plain { untyped: false, ..other }, at)?)
            }
            _ => Err(Refusal::new("member", format!("`{name}` is not translated"), at)),
        }
    }

    fn text_method(&mut self, of: &Plain, name: &str, arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        let own = &of.cel;
        if matches!(name, "Substring" | "IndexOf" | "LastIndexOf" | "Split") {
            self.no_path_below(own, at)?;
        }
        match (name, arguments) {
            ("ToString", [] | [_]) => text(own.clone()),
            ("ToLower" | "ToLowerInvariant", []) => {
                self.remark(Verdict::Note, "letters", "a letter beyond ASCII never becomes one within it");
                text(own.call("lower", &[]))
            }
            ("ToUpper" | "ToUpperInvariant", []) => {
                self.remark(Verdict::Note, "letters", "a letter beyond ASCII never becomes one within it");
                text(own.call("upper", &[]))
            }
            ("Trim", []) => text(own.call("trim", &[])),
            ("Equals", [other, ..]) => {
                let other = self.plain(other)?;
                if self.ignores_case(arguments, at)? {
                    return truth(self.equal_without_case(of, &other, at)?);
                }
                truth(self.equal(&Plain { untyped: false, ..of.clone() }, &Plain { untyped: false, ..other }, at)?)
            }
            ("Contains" | "StartsWith" | "EndsWith", [part, ..]) => {
                let part = self.text_cel(part)?;
                let method = match name {
                    "Contains" => "contains",
                    "StartsWith" => "startsWith",
                    _ => "endsWith",
                };
                let ignores_case = self.ignores_case(arguments, at)?;
                if arguments.len() == 1 && name != "Contains" {
                    self.remark(
                        Verdict::Note,
                        "culture",
                        "`StartsWith` and `EndsWith` follow the culture there, and compare exactly here",
                    );
                }
                let part = if name == "StartsWith" { self.below_api(own, &part, at)? } else { part };
                let (own, part) =
                    if ignores_case { (own.call("lower", &[]), part.call("lower", &[])) } else { (own.clone(), part) };
                truth(own.method(method, &part))
            }
            ("Replace", [part, by]) => {
                let part = self.text_cel(part)?;
                let by = self.text_cel(by)?;
                text(own.call("replace", &[&part.text, &by.text]))
            }
            ("Substring", [start]) => {
                if let Some(separator) = self.behind_last(own, start) {
                    return text(Cel::primary(format!("last({})", own.call("split", &[&separator.text]).text)));
                }
                let start = self.int(start)?;
                text(own.call("substring", &[&start.text]))
            }
            ("Substring", [start, length]) => {
                let (start, length) = (self.int(start)?, self.int(length)?);
                let end = match (start.text.parse::<i64>(), length.text.parse::<i64>()) {
                    (Ok(start), Ok(length)) => (start.saturating_add(length)).to_string(),
                    (Ok(0), _) => length.text,
                    _ => format!("{} + {}", start.at(Level::Sum), length.at(Level::Product)),
                };
                text(own.call("substring", &[&start.text, &end]))
            }
            ("IndexOf", [part]) => {
                let part = self.text_cel(part)?;
                Ok(Value::Plain(Plain::new(own.call("index_of", &[&part.text]), Kind::Int)))
            }
            ("Split", arguments) => self.split(own, arguments, at),
            _ => Err(Refusal::new("member", format!("`{name}` is not translated"), at)),
        }
    }

    /// Returns the separator of `text.Substring(text.LastIndexOf('/') + 1)`.
    fn behind_last(&mut self, own: &Cel, start: &Expr) -> Option<Cel> {
        let ExprKind::Binary("+", left, right) = &*start.kind else { return None };
        let (ExprKind::Call { function, arguments, .. }, ExprKind::Int(1)) = (&*left.kind, &*right.kind) else { return None };
        let (ExprKind::Member { of, name, .. }, [separator]) = (&*function.kind, arguments.as_slice()) else { return None };
        let separator = Self::literal_text(separator).filter(|separator| separator.chars().count() == 1)?;
        let of = (name == "LastIndexOf").then(|| self.plain(of).ok()).flatten()?;
        (of.cel == *own).then(|| literal(&separator))
    }

    fn int(&mut self, expr: &Expr) -> Result<Cel, Refusal> {
        let plain = self.plain(expr)?;
        if plain.kind == Kind::Int && plain.present.is_none() {
            return Ok(plain.cel);
        }
        Err(Refusal::new("type", "a number is expected", expr.at))
    }

    pub(super) fn equal_without_case(&mut self, left: &Plain, right: &Plain, at: usize) -> Result<Cel, Refusal> {
        let lower =
            |plain: &Plain| Plain { cel: plain.cel.call("lower", &[]), kind: Kind::Text, untyped: false, ..plain.clone() };
        if ![left.kind, right.kind].iter().all(|kind| matches!(kind, Kind::Text | Kind::Any)) {
            return Err(Refusal::new("type", "something else than texts is compared without case", at));
        }
        self.remark(Verdict::Note, "letters", "a letter beyond ASCII never becomes one within it");
        self.equal(&lower(left), &lower(right), at)
    }

    fn split(&mut self, own: &Cel, arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        let (separator, without_empty) = match arguments {
            [one] => (self.separator(one)?, false),
            [one, options] => match &*options.kind {
                ExprKind::Member { name, .. } if name == "RemoveEmptyEntries" => (self.separator(one)?, true),
                ExprKind::Member { name, .. } if name == "None" => (self.separator(one)?, false),
                _ => return Err(arity("Split", at)),
            },
            _ => return Err(arity("Split", at)),
        };
        let list = own.call("split", &[&separator.text]);
        let list = if without_empty { Cel::primary(format!("{}.filter(x, x != '')", list.text)) } else { list };
        Ok(Value::Plain(Plain::new(list, Kind::List)))
    }

    /// Translates the separator of `Split`: a text, a character, or a list of one.
    fn separator(&mut self, expr: &Expr) -> Result<Cel, Refusal> {
        let one = match &*expr.kind {
            ExprKind::Array(elements) => match elements.as_slice() {
                [one] => one,
                _ => return Err(Refusal::new("member", "`Split` at several separators is not translated", expr.at)),
            },
            _ => expr,
        };
        match Self::literal_text(one) {
            Some(text) if !text.is_empty() => Ok(literal(&text)),
            _ => Err(Refusal::new("member", "`Split` at a separator that is computed is not translated", expr.at)),
        }
    }

    fn list_method(&mut self, of: &Plain, name: &str, arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        let own = of.cel.at(Level::Primary);
        let nth = |cel: String, present: Option<Cel>| Ok(Value::Plain(Plain { present, ..Plain::text(Cel::primary(cel)) }));
        match (name, arguments) {
            ("First", []) => nth(format!("{own}[0]"), None),
            ("Last", []) => nth(format!("last({})", of.cel.text), None),
            ("FirstOrDefault", []) => {
                let present = of.cel.call("size", &[]).relation(">", &Cel::primary("0"));
                nth(format!("{own}[0]"), Some(present))
            }
            ("LastOrDefault", []) => {
                let present = of.cel.call("size", &[]).relation(">", &Cel::primary("0"));
                nth(format!("last({})", of.cel.text), Some(present))
            }
            ("ElementAt", [index]) => {
                let index = self.int(index)?;
                nth(format!("{own}[{}]", index.text), None)
            }
            ("ToArray" | "ToList" | "AsEnumerable", []) => Ok(Value::Plain(of.clone())),
            ("Count", []) => Ok(Value::Plain(Plain::new(of.cel.call("size", &[]), Kind::Int))),
            ("Any", []) => truth(of.cel.call("size", &[]).relation(">", &Cel::primary("0"))),
            ("Contains", [value, ..]) => {
                let value = self.plain(value)?;
                let comparer = arguments.get(1);
                let ignores_case = match comparer.map(|expr| &*expr.kind) {
                    None => false,
                    Some(ExprKind::Member { name, .. }) if name.ends_with("IgnoreCase") => true,
                    Some(_) => return Err(arity(name, at)),
                };
                let found = if ignores_case {
                    let value = value.cel.call("lower", &[]);
                    Cel::primary(format!("{own}.exists(x, lower(x) == {})", value.text))
                } else {
                    self.no_path_below(&value.cel, at)?;
                    value.cel.relation("in", &of.cel)
                };
                truth(match &value.present {
                    Some(present) => present.and(&found),
                    None => found,
                })
            }
            ("Any" | "All" | "Exists" | "Where" | "Select", [function]) => {
                let (parameter, body) = self.lambda(function)?;
                let method = match name {
                    "Any" | "Exists" => "exists",
                    "All" => "all",
                    "Where" => "filter",
                    _ => "map",
                };
                let wanted = if method == "map" { Kind::Text } else { Kind::Bool };
                if body.kind != wanted || body.present.is_some() {
                    return Err(Refusal::new("type", format!("the function of `{name}` makes something else than expected"), at));
                }
                let cel = Cel::primary(format!("{own}.{method}({parameter}, {})", body.cel.text));
                let kind = if matches!(method, "map" | "filter") { Kind::List } else { Kind::Bool };
                Ok(Value::Plain(Plain::new(cel, kind)))
            }
            ("First" | "FirstOrDefault", [function]) => {
                let (parameter, body) = self.lambda(function)?;
                let list = format!("{own}.filter({parameter}, {})", body.cel.text);
                let present =
                    (name == "FirstOrDefault").then(|| Cel::primary(format!("size({list})")).relation(">", &Cel::primary("0")));
                nth(format!("{list}[0]"), present)
            }
            _ => Err(Refusal::new("member", format!("`{name}` of a list is not translated"), at)),
        }
    }

    /// Translates `IsNullOrEmpty` and `IsNullOrWhiteSpace`.
    pub(super) fn is_blank(&mut self, argument: &Expr, trimmed: bool) -> Result<Value, Refusal> {
        let value = self.value(argument)?;
        let value = match value {
            Value::Null => return truth(Cel::primary("true")),
            Value::Plain(plain) => plain,
            Value::Object(object) => self.object_value(&object, argument.at)?,
        };
        if !matches!(value.kind, Kind::Text | Kind::Any) {
            return Err(Refusal::new("type", "a text is expected", argument.at));
        }
        let own = if trimmed { value.cel.call("trim", &[]) } else { value.cel.clone() };
        let blank = own.relation("==", &empty());
        truth(match value.present.as_ref().or(value.null_test.as_ref()) {
            Some(present) => present.not().or(&blank),
            None => blank,
        })
    }
}

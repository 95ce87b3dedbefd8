//! Operators and casts, with C#'s rules for null.

use super::{
    Kind, Translator,
    value::{Cel, Level, Object, Plain, Value, literal, sum},
};
use crate::{
    csharp::{Expr, ExprKind, Piece, Refusal},
    report::Verdict,
};

impl Translator<'_> {
    pub(super) fn binary(&mut self, sign: &'static str, left: &Expr, right: &Expr, at: usize) -> Result<Value, Refusal> {
        let plain = |cel: Cel| Ok(Value::Plain(Plain::bool(cel)));
        match sign {
            "&&" => {
                // `Response != null && …`: the second is translated also where the first is always true.
                let (left, right) = (self.bool(left)?, self.bool(right)?);
                plain(left.and(&right))
            }
            "||" => {
                let (left, right) = (self.bool(left)?, self.bool(right)?);
                plain(left.or(&right))
            }
            "==" | "!=" => {
                let equal = self.equality(left, right, at)?;
                plain(if sign == "==" { equal } else { negated(&equal) })
            }
            "<" | ">" | "<=" | ">=" => {
                let (left, right) = (self.plain(left)?, self.plain(right)?);
                let is_number =
                    |plain: &Plain| matches!(plain.kind, Kind::Int | Kind::Fraction | Kind::Any) && plain.present.is_none();
                if !is_number(&left) || !is_number(&right) {
                    return Err(Refusal::new("type", "something else than numbers is compared", at));
                }
                plain(left.cel.relation(sign, &right.cel))
            }
            "+" => self.addition(left, right, at),
            "??" => self.coalesce(left, right),
            _ => self.arithmetic(sign, left, right, at),
        }
    }

    fn arithmetic(&mut self, sign: &str, left: &Expr, right: &Expr, at: usize) -> Result<Value, Refusal> {
        let (left, right) = (self.plain(left)?, self.plain(right)?);
        if left.kind != right.kind || !matches!(left.kind, Kind::Int | Kind::Fraction) {
            return Err(Refusal::new("type", "the operands of a calculation are no numbers of one type", at));
        }
        let level = if sign == "-" { Level::Sum } else { Level::Product };
        let next = if sign == "-" { Level::Product } else { Level::Unary };
        let cel = Cel::new(format!("{} {sign} {}", left.cel.at(level), right.cel.at(next)), level);
        Ok(Value::Plain(Plain::new(cel, left.kind)))
    }

    fn addition(&mut self, left: &Expr, right: &Expr, at: usize) -> Result<Value, Refusal> {
        let (left, right) = (self.plain(left)?, self.plain(right)?);
        let is_number = |plain: &Plain| matches!(plain.kind, Kind::Int | Kind::Fraction);
        if is_number(&left) && is_number(&right) {
            if left.kind != right.kind {
                return Err(Refusal::new("type", "a whole number and a fraction are added", at));
            }
            let cel = Cel::new(format!("{} + {}", left.cel.at(Level::Sum), right.cel.at(Level::Product)), Level::Sum);
            return Ok(Value::Plain(Plain::new(cel, left.kind)));
        }
        if ![&left, &right].iter().any(|plain| matches!(plain.kind, Kind::Text | Kind::Any)) {
            return Err(Refusal::new("type", "`+` stands between things that are neither texts nor numbers", at));
        }
        if [&left, &right].iter().any(|plain| plain.kind == Kind::List) {
            return Err(Refusal::new("type", "a list is added to a text", at));
        }
        Ok(Value::Plain(Plain::text(sum(vec![left.as_text(), right.as_text()]))))
    }

    fn coalesce(&mut self, left: &Expr, right: &Expr) -> Result<Value, Refusal> {
        let (first, second) = (self.value(left)?, self.value(right)?);
        let first = match first {
            Value::Null => return Ok(second),
            Value::Object(object) if !matches!(second, Value::Null) => self.object_value(&object, left.at)?,
            Value::Object(object) => return Ok(Value::Object(object)),
            Value::Plain(plain) => plain,
        };
        let Some(present) = first.present.clone().or(first.null_test.clone()) else { return Ok(Value::Plain(first)) };
        let first = Value::Plain(Plain { present: None, null_test: None, untyped: false, ..first });
        self.conditional(&present, first, second, left.at)
    }

    /// Translates `left == right`.
    fn equality(&mut self, left: &Expr, right: &Expr, at: usize) -> Result<Cel, Refusal> {
        let (first, second) = (self.value(left)?, self.value(right)?);
        match (first, second) {
            (Value::Null, Value::Null) => Ok(Cel::primary("true")),
            (Value::Null, other) | (other, Value::Null) => self.is_null(&other, at),
            (Value::Object(object), _) if is_error(&object) => self.error_equals(&object, right),
            (_, Value::Object(object)) if is_error(&object) => self.error_equals(&object, left),
            (first, second) => {
                let (first, second) = (self.plain_value(first, at)?, self.plain_value(second, at)?);
                self.equal(&first, &second, at)
            }
        }
    }

    /// Translates a comparison of two values.
    pub(super) fn equal(&mut self, left: &Plain, right: &Plain, at: usize) -> Result<Cel, Refusal> {
        let comparable = left.kind == right.kind
            || matches!(
                (left.kind, right.kind),
                (Kind::Any, _) | (_, Kind::Any) | (Kind::Int, Kind::Fraction) | (Kind::Fraction, Kind::Int)
            );
        if !comparable || left.kind == Kind::List {
            return Err(Refusal::new("type", "values of different types are compared", at));
        }
        if left.untyped || right.untyped {
            self.remark(
                Verdict::Changed,
                "compared-by-reference",
                "a variable without a cast is compared by reference there, which can be false for equal texts; here texts are compared",
            );
        }
        let (first, second) = (self.below_api(&right.cel, &left.cel, at)?, self.below_api(&left.cel, &right.cel, at)?);
        let equal = first.relation("==", &second);
        match (&left.present, &right.present) {
            (None, None) => Ok(equal),
            (Some(present), None) | (None, Some(present)) => Ok(present.and(&equal)),
            (Some(_), Some(_)) => Err(Refusal::new("null-comparison", "two values are compared that can both be null", at)),
        }
    }

    /// Translates `value == null`.
    fn is_null(&mut self, value: &Value, at: usize) -> Result<Cel, Refusal> {
        Ok(match value {
            Value::Null => Cel::primary("true"),
            Value::Plain(plain) => match plain.present.as_ref().or(plain.null_test.as_ref()) {
                Some(present) => present.not(),
                None => Cel::primary("false"),
            },
            Value::Object(object) => self.object_is_null(object, at)?,
        })
    }

    /// Returns the texts of a literal, if the expression is one.
    pub(super) fn literal_text(expr: &Expr) -> Option<String> {
        let ExprKind::Text(pieces) = &*expr.kind else { return None };
        pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Named(_) | Piece::Hole(_) => None,
            })
            .collect()
    }

    pub(super) fn cast(&mut self, name: &str, inner: &Expr, at: usize) -> Result<Value, Refusal> {
        let value = self.value(inner)?;
        let name = name.trim_end_matches('?');
        match (name, value) {
            ("Jwt", value @ Value::Object(Object::Jwt(_))) => Ok(value),
            (_, Value::Null) => Ok(Value::Null),
            ("object", value) => Ok(value),
            (_, Value::Object(object)) => {
                let plain = self.object_value(&object, at)?;
                self.cast_plain(name, plain, at)
            }
            (_, Value::Plain(plain)) => self.cast_plain(name, plain, at),
        }
    }

    fn cast_plain(&mut self, name: &str, plain: Plain, at: usize) -> Result<Value, Refusal> {
        let kind = match name {
            "string" | "String" => Kind::Text,
            "bool" | "Boolean" => Kind::Bool,
            "int" | "Int32" | "Int64" | "long" => Kind::Int,
            "double" | "float" | "decimal" => Kind::Fraction,
            "Guid" => Kind::Text,
            "IEnumerable<>" | "List<>" | "string[]" => Kind::List,
            "IResponse" => {
                return Err(Refusal::new("sub-request", "it reads the response of a request that the policy made", at));
            }
            "JObject" | "JToken" | "JArray" | "JProperty" | "JValue" => {
                return Err(Refusal::new("body", "it reads or makes JSON", at));
            }
            "Jwt" => return Err(Refusal::new("type", "the variable holds no token of a policy", at)),
            _ => return Err(Refusal::new("type", format!("the type `{name}` is not translated"), at)),
        };
        let fits = plain.kind == kind || plain.kind == Kind::Any || matches!((plain.kind, kind), (Kind::Fraction, Kind::Int));
        if !fits {
            return Err(Refusal::new("type", format!("a value of another type is cast to `{name}`, which fails there"), at));
        }
        if plain.kind == Kind::Fraction && kind == Kind::Int {
            return Ok(Value::Plain(Plain { cel: plain.cel.call("int", &[]), kind, untyped: false, ..plain }));
        }
        Ok(Value::Plain(Plain { kind, untyped: false, ..plain }))
    }

    /// Translates `LastError.Reason == "…"` and `LastError.Source == "…"`.
    fn error_equals(&mut self, object: &Object, other: &Expr) -> Result<Cel, Refusal> {
        let Some(text) = Self::literal_text(other) else {
            return Err(Refusal::new("member", "a fact of the error is compared with something else than a text", other.at));
        };
        self.error_is(object, &text, other.at)
    }

    /// Translates the question whether a fact of the error has a value.
    pub(super) fn error_is(&mut self, object: &Object, text: &str, at: usize) -> Result<Cel, Refusal> {
        if *object == Object::LastErrorSource {
            self.remark(Verdict::Note, "error-source", "the policy is named by its entry here");
            let names: &[&str] = match text {
                "validate-jwt" => &["validate-jwt", "validate-azure-ad-token"],
                "rate-limit" | "quota" | "authorization" => &["validate-api-key", "check-partner"],
                own => &[own],
            };
            let policy = Cel::primary("error.policy");
            let ends = names.iter().map(|name| policy.method("endsWith", &literal(&format!(".{name}"))));
            let any = ends.reduce(|left, right| left.or(&right)).unwrap_or_else(|| Cel::primary("false"));
            return Ok(Cel::primary("has(error.policy)").and(&any));
        }
        let codes = super::context::codes_of(text)
            .ok_or_else(|| Refusal::new("member", format!("the reason `{text}` of an error has no counterpart"), at))?;
        let code = Cel::primary("error.code");
        Ok(match codes {
            [one] => code.relation("==", &literal(one)),
            codes => {
                let list: Vec<_> = codes.iter().map(|code| literal(code).text).collect();
                code.relation("in", &Cel::primary(format!("[{}]", list.join(", "))))
            }
        })
    }
}

/// Returns whether an object is a fact of the error that is compared with texts.
pub(super) fn is_error(object: &Object) -> bool {
    matches!(object, Object::LastErrorReason | Object::LastErrorSource)
}

/// Negates a comparison: `a == b` becomes `a != b`.
fn negated(equal: &Cel) -> Cel {
    let is_plain = equal.level == Level::Relation && equal.text.matches(" == ").count() == 1 && !equal.text.contains('\'');
    if is_plain {
        return Cel::new(equal.text.replacen(" == ", " != ", 1), Level::Relation);
    }
    // Literals may hold the sign: only one that is nothing but a path and a literal is rewritten.
    if equal.level == Level::Relation
        && let Some((left, right)) = equal.text.split_once(" == ")
        && !left.contains('\'')
        && right.starts_with('\'')
    {
        return Cel::new(format!("{left} != {right}"), Level::Relation);
    }
    equal.not()
}

//! Translation of C# into the expressions of entrada.
//!
//! An expression is translated whole or not at all, and nothing is guessed: a member, a function or a type that is not in the tables
//! is refused by name.

mod blocks;
mod calls;
mod context;
mod finite;
mod operators;
pub(crate) mod scope;
mod service;
mod statics;
#[cfg(test)]
mod tests;
mod texts;
pub(crate) mod value;
mod variables;

use self::value::{Cel, Plain, Value};
pub(crate) use self::{
    finite::{cases, key_of_cases},
    scope::{Holds, Scope, Section, Variable},
    value::{Kind, literal, literal_of},
};
use crate::{
    csharp::{self, Code, Expr, ExprKind, Piece, Refusal},
    report::Verdict,
};

/// The longest expression that entrada reads, in bytes.
const LONGEST: usize = 4_000;

/// A difference that a translation brings with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remark {
    pub(crate) verdict: Verdict,
    pub(crate) code: &'static str,
    pub(crate) reason: &'static str,
}

/// A translated expression.
#[derive(Clone, Debug)]
pub(crate) struct Translated {
    /// The expression, without `@(` and `)`.
    pub(crate) cel: String,
    pub(crate) kind: Kind,
    /// Whether the value can be null in C#.
    pub(crate) nullable: bool,
    /// Whether the value can be the empty text.
    pub(crate) can_be_empty: bool,
    pub(crate) remarks: Vec<Remark>,
    /// The named values that it reads.
    pub(crate) named: Vec<String>,
}

/// Translates an expression to a value of any kind.
///
/// # Errors
/// Fails with the reason if the expression, or anything in it, has no counterpart.
pub(crate) fn translate(text: &str, scope: &Scope) -> Result<Translated, Refusal> {
    let code = csharp::parse(text).map_err(|refusal| named_by_content(refusal, text))?;
    let mut translator = Translator::new(scope);
    let value = translator.code(&code).and_then(|value| translator.plain_value(value, 0));
    let value = value.map_err(|refusal| named_by_content(refusal, text))?;
    if value.cel.text.len() > LONGEST {
        return Err(Refusal::new("too-large", "the translation is longer than an expression may be", 0));
    }
    let mut remarks = translator.remarks;
    remarks.sort();
    remarks.dedup();
    Ok(Translated {
        can_be_empty: value.cel.text.contains("''") && value.kind == Kind::Text || value.cel.text == "''",
        nullable: value.present.is_some(),
        cel: value.cel.text,
        kind: value.kind,
        remarks,
        named: translator.named,
    })
}

/// Translates a condition.
///
/// # Errors
/// Fails as [`translate`] does, and if the value is no boolean.
pub(crate) fn condition(text: &str, scope: &Scope) -> Result<Translated, Refusal> {
    let translated = translate(text, scope)?;
    if matches!(translated.kind, Kind::Bool | Kind::Any) && !translated.nullable {
        return Ok(translated);
    }
    Err(Refusal::new("type", "the condition is not true or false", 0))
}

/// Gives a refusal of a statement or a type the code of what the expression is about: a loop over a body is about the body.
fn named_by_content(refusal: Refusal, text: &str) -> Refusal {
    if !matches!(refusal.code, "statement" | "type" | "unparsable" | "member") {
        return refusal;
    }
    let about = [
        (".Body", "body", "it reads a body, and bodies pass through unread"),
        ("JObject", "body", "it reads or makes JSON"),
        ("JArray", "body", "it reads or makes JSON"),
        ("XElement", "body", "it reads or makes XML"),
        ("XDocument", "body", "it reads or makes XML"),
        ("IResponse", "sub-request", "it reads the response of a request that the policy made"),
        ("HMAC", "crypto", "it computes a signature"),
        ("SHA", "crypto", "it computes a digest"),
        ("MD5", "crypto", "it computes a digest"),
        ("Encrypt(", "crypto", "it encrypts"),
        ("Decrypt(", "crypto", "it decrypts"),
        ("Random", "random", "it draws a random number"),
        ("DateTime", "clock", "it reads the clock"),
    ];
    let found = about.iter().find(|(mark, ..)| text.contains(mark));
    found.map_or(refusal.clone(), |(_, code, reason)| Refusal::new(code, *reason, refusal.at))
}

/// The translator of one expression.
pub(crate) struct Translator<'s> {
    scope: &'s Scope,
    remarks: Vec<Remark>,
    named: Vec<String>,
    /// The local variables of a block, and the parameters of functions.
    locals: Vec<(String, Value)>,
    /// The number of ways through a block that were translated.
    ways: usize,
}

impl<'s> Translator<'s> {
    fn new(scope: &'s Scope) -> Self {
        Self { scope, remarks: Vec::new(), named: Vec::new(), locals: Vec::new(), ways: 0 }
    }

    fn code(&mut self, code: &Code) -> Result<Value, Refusal> {
        match code {
            Code::Expression(expr) => self.value(expr),
            Code::Block(statements) => self.block(statements),
        }
    }

    fn remark(&mut self, verdict: Verdict, code: &'static str, reason: &'static str) {
        self.remarks.push(Remark { verdict, code, reason });
    }

    /// Translates an expression. What it becomes is bounded: variables that are read twice double it each time.
    fn value(&mut self, expr: &Expr) -> Result<Value, Refusal> {
        let value = self.value_of(expr)?;
        if let Value::Plain(plain) = &value
            && (plain.cel.text.len() > 2 * LONGEST
                || plain.present.as_ref().is_some_and(|present| present.text.len() > 2 * LONGEST))
        {
            return Err(Refusal::new("too-large", "the translation is longer than an expression may be", expr.at));
        }
        Ok(value)
    }

    fn value_of(&mut self, expr: &Expr) -> Result<Value, Refusal> {
        let at = expr.at;
        match &*expr.kind {
            ExprKind::Null => Ok(Value::Null),
            ExprKind::Bool(value) => Ok(Value::Plain(Plain::bool(Cel::primary(value.to_string())))),
            ExprKind::Int(value) => Ok(Value::Plain(Plain::new(Cel::primary(value.to_string()), Kind::Int))),
            ExprKind::Fraction(value) => Ok(Value::Plain(Plain::new(Cel::primary(value.clone()), Kind::Fraction))),
            ExprKind::Text(pieces) => self.text(pieces).map(|cel| Value::Plain(Plain::text(cel))),
            ExprKind::Named(name) => self.bare(name, at),
            ExprKind::Name(name) => self.name(name, at),
            ExprKind::Member { of, name, .. } => {
                let of = self.value(of)?;
                self.member(of, name, at)
            }
            ExprKind::Index { of, index, .. } => {
                let of = self.value(of)?;
                self.index(of, index, at)
            }
            ExprKind::Call { function, types, arguments } => self.call(function, types, arguments, at),
            ExprKind::Cast(name, inner) => self.cast(name, inner, at),
            ExprKind::Unary('!', inner) => {
                let inner = self.bool(inner)?;
                Ok(Value::Plain(Plain::bool(inner.not())))
            }
            ExprKind::Unary(_, inner) => {
                let inner = self.plain(inner)?;
                if !matches!(inner.kind, Kind::Int | Kind::Fraction) {
                    return Err(Refusal::new("type", "`-` needs a number", at));
                }
                let cel = Cel::new(format!("-{}", inner.cel.at(value::Level::Primary)), value::Level::Unary);
                Ok(Value::Plain(Plain::new(cel, inner.kind)))
            }
            ExprKind::Binary(sign, left, right) => self.binary(sign, left, right, at),
            ExprKind::Conditional(condition, then, otherwise) => {
                let condition = self.bool(condition)?;
                let (then, otherwise) = (self.value(then)?, self.value(otherwise)?);
                self.conditional(&condition, then, otherwise, at)
            }
            ExprKind::Array(elements) => self.array(elements),
            ExprKind::Lambda(..) => Err(Refusal::new("member", "a function stands where none can", at)),
            ExprKind::New(name) => Err(Refusal::new("type", format!("`new {name}` is not translated"), at)),
        }
    }

    /// Translates an expression that must be a value.
    fn plain(&mut self, expr: &Expr) -> Result<Plain, Refusal> {
        let value = self.value(expr)?;
        self.plain_value(value, expr.at)
    }

    /// Returns a value; some objects have one by themselves.
    fn plain_value(&mut self, value: Value, at: usize) -> Result<Plain, Refusal> {
        match value {
            Value::Plain(plain) => Ok(plain),
            Value::Null => Ok(Plain::nullable(literal(""), Kind::Text, Cel::primary("false"))),
            Value::Object(object) => self.object_value(&object, at),
        }
    }

    fn bool(&mut self, expr: &Expr) -> Result<Cel, Refusal> {
        let plain = self.plain(expr)?;
        match plain.kind {
            Kind::Bool | Kind::Any if plain.present.is_none() => Ok(plain.cel),
            _ => Err(Refusal::new("type", "a condition is not true or false", expr.at)),
        }
    }

    /// Translates an expression that must be a text, and never null where it is used.
    fn text_cel(&mut self, expr: &Expr) -> Result<Cel, Refusal> {
        let plain = self.plain(expr)?;
        match plain.kind {
            Kind::Text | Kind::Any => Ok(plain.cel),
            _ => Err(Refusal::new("type", "a text is expected", expr.at)),
        }
    }

    fn array(&mut self, elements: &[Expr]) -> Result<Value, Refusal> {
        let mut texts = Vec::with_capacity(elements.len());
        for element in elements {
            let plain = self.plain(element)?;
            if plain.kind != Kind::Text && plain.kind != Kind::Int || plain.present.is_some() {
                return Err(Refusal::new("type", "a list holds something else than texts", element.at));
            }
            texts.push(plain.cel.text);
        }
        Ok(Value::Plain(Plain::new(Cel::primary(format!("[{}]", texts.join(", "))), Kind::List)))
    }

    /// Translates a string literal.
    fn text(&mut self, pieces: &[Piece]) -> Result<Cel, Refusal> {
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            parts.push(match piece {
                Piece::Text(text) => literal(text),
                Piece::Named(name) => self.named(name)?,
                Piece::Hole(expr) => self.plain(expr)?.as_text(),
            });
        }
        Ok(value::sum(parts))
    }

    /// Reads a named value that stands in a string.
    fn named(&mut self, name: &str) -> Result<Cel, Refusal> {
        if self.scope.secrets.contains(name) {
            return Err(Refusal::new("secret", format!("`{name}` is a secret, and an expression reads none"), 0));
        }
        self.named.push(name.to_owned());
        Ok(Cel::primary(format!("{{{{{name}}}}}")))
    }

    /// Reads a named value that stands as code.
    fn bare(&mut self, name: &str, at: usize) -> Result<Value, Refusal> {
        match self.scope.named.get(name).map(String::as_str) {
            Some("true") => Ok(Value::Plain(Plain::bool(Cel::primary("true")))),
            Some("false") => Ok(Value::Plain(Plain::bool(Cel::primary("false")))),
            Some(number) if number.parse::<i64>().is_ok() => {
                Ok(Value::Plain(Plain::new(Cel::primary(number.to_owned()), Kind::Int)))
            }
            Some(_) => Err(Refusal::new(
                "named-value-as-code",
                format!("`{{{{{name}}}}}` stands as code and is no number or boolean"),
                at,
            )),
            None => {
                Err(Refusal::new("named-value-as-code", format!("`{{{{{name}}}}}` stands as code, and its value is unknown"), at))
            }
        }
    }

    fn local(&self, name: &str) -> Option<&Value> {
        self.locals.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

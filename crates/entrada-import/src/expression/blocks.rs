//! Blocks: each way through the statements is followed to its `return`.

use super::{
    Kind, Translator,
    value::{Cel, Plain, Value, literal},
};
use crate::csharp::{Refusal, Statement};

/// The maximum number of ways through a block.
const MOST_WAYS: usize = 64;

impl Translator<'_> {
    /// Translates a block to the value that it returns.
    pub(super) fn block(&mut self, statements: &[Statement]) -> Result<Value, Refusal> {
        let statements: Vec<&Statement> = statements.iter().collect();
        self.way(&statements)
    }

    /// Follows statements to their end; what stands behind an `if` is followed once for each of its branches.
    fn way(&mut self, statements: &[&Statement]) -> Result<Value, Refusal> {
        self.ways += 1;
        if self.ways > MOST_WAYS {
            return Err(Refusal::new("too-large", "there are too many ways through the statements", 0));
        }
        for (index, statement) in statements.iter().enumerate() {
            match statement {
                Statement::Return(value) => return self.value(value),
                Statement::Assign { name, declared, value } => {
                    let value = match value {
                        Some(value) => self.value(value)?,
                        None => Value::Null,
                    };
                    let value = match declared.as_deref() {
                        Some("string" | "String") => self.as_declared(value, Kind::Text)?,
                        _ => value,
                    };
                    self.assign(name, declared.is_some(), value)?;
                }
                Statement::If { condition, then, otherwise } => {
                    let condition = self.bool(condition)?;
                    let rest = &statements[index + 1..];
                    let then = self.branch(then, rest)?;
                    let otherwise = self.branch(otherwise, rest)?;
                    return self.conditional(&condition, then, otherwise, 0);
                }
            }
        }
        Err(Refusal::new("statement", "a way through the statements returns nothing", 0))
    }

    fn branch(&mut self, own: &[Statement], rest: &[&Statement]) -> Result<Value, Refusal> {
        let before = self.locals.clone();
        let statements: Vec<&Statement> = own.iter().chain(rest.iter().copied()).collect();
        let value = self.way(&statements);
        self.locals = before;
        value
    }

    fn assign(&mut self, name: &str, is_new: bool, value: Value) -> Result<(), Refusal> {
        match self.locals.iter_mut().rev().find(|(own, _)| own == name) {
            Some((_, own)) if !is_new => *own = value,
            None if !is_new => return Err(Refusal::new("statement", format!("`{name}` is assigned and not declared"), 0)),
            _ => self.locals.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Holds a value against its declared type.
    fn as_declared(&mut self, value: Value, kind: Kind) -> Result<Value, Refusal> {
        match value {
            Value::Plain(plain) if plain.kind == Kind::Any => Ok(Value::Plain(Plain { kind, untyped: false, ..plain })),
            other => Ok(other),
        }
    }

    /// Translates `condition ? then : otherwise`.
    pub(super) fn conditional(&mut self, condition: &Cel, then: Value, otherwise: Value, at: usize) -> Result<Value, Refusal> {
        let (then, otherwise) = match (then, otherwise) {
            (Value::Null, Value::Null) => return Ok(Value::Null),
            (Value::Object(left), Value::Object(right)) if left == right => return Ok(Value::Object(left)),
            (then, otherwise) => (self.plain_value(then, at)?, self.plain_value(otherwise, at)?),
        };
        let kind = match (then.kind, otherwise.kind) {
            (left, right) if left == right => left,
            (Kind::Any, other) | (other, Kind::Any) => other,
            _ => return Err(Refusal::new("type", "the two results of a choice are of different types", at)),
        };
        let present = match (&then.present, &otherwise.present) {
            (None, None) => None,
            (left, right) => {
                let always = Cel::primary("true");
                let (left, right) = (left.as_ref().unwrap_or(&always), right.as_ref().unwrap_or(&always));
                Some(both(condition, left, right))
            }
        };
        // A branch that is always null has no value of its own.
        let blank = match kind {
            Kind::Text | Kind::Any => literal(""),
            Kind::Bool => Cel::primary("false"),
            Kind::Int => Cel::primary("0"),
            Kind::Fraction => Cel::primary("0.0"),
            Kind::List => Cel::primary("[]"),
        };
        let never = |plain: &Plain| plain.present.as_ref().is_some_and(|present| present.text == "false");
        let cel = match (never(&then), never(&otherwise)) {
            (true, true) => blank,
            (true, false) => otherwise.cel,
            (false, true) => then.cel,
            (false, false) => Cel::conditional(condition, &then.cel, &otherwise.cel),
        };
        Ok(Value::Plain(Plain { cel, kind, present, null_test: None, untyped: false }))
    }
}

/// Returns the condition that holds if one of two does, depending on a third.
fn both(condition: &Cel, then: &Cel, otherwise: &Cel) -> Cel {
    match (then.text.as_str(), otherwise.text.as_str()) {
        ("true", "true") => Cel::primary("true"),
        ("false", "false") => Cel::primary("false"),
        ("true", "false") => condition.clone(),
        ("false", "true") => condition.not(),
        ("false", _) => condition.not().and(otherwise),
        (_, "false") => condition.and(then),
        ("true", _) => condition.or(otherwise),
        _ => Cel::conditional(condition, then, otherwise),
    }
}

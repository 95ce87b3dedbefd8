//! The syntax of expressions: CEL's, without what the language leaves out (messages, bytes, unsigned numbers, `null`, optional
//! fields, names that begin with a dot, names in backticks). Each of these is refused by its name.

#[cfg(test)]
mod against_cel;
mod parser;
mod quoted;
#[cfg(test)]
mod tests;
mod tokens;

use std::borrow::Cow;

pub(super) use self::parser::{is_word, parse};
use super::node::{Calculation, Comparison};

/// A part of an expression, as it is written.
#[derive(Debug)]
pub(super) struct Expr<'s> {
    /// The byte at which a fault of the part is told: the sign of an operator, the name of a call or a field, or the first byte.
    pub(super) at: usize,
    /// The number of parts on the longest way down, this one included.
    height: usize,
    pub(super) part: Part<'s>,
}

/// The kinds of parts. Parentheses leave no trace.
#[derive(Debug)]
pub(super) enum Part<'s> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'s, str>),
    Name(&'s str),
    Field(Box<Expr<'s>>, &'s str),
    /// A list or a map, and the index or the name.
    Index(Box<[Expr<'s>; 2]>),
    Call(Box<Call<'s>>),
    Not(Box<Expr<'s>>),
    Negate(Box<Expr<'s>>),
    Binary(Operator, Box<[Expr<'s>; 2]>),
    /// The operands of one logical operator in the order of the text; none of them is a chain of the same operator.
    Chain(Logic, Vec<Expr<'s>>),
    /// A condition, and the parts after `?` and after `:`.
    Choose(Box<[Expr<'s>; 3]>),
    List(Vec<Expr<'s>>),
    Map(Vec<(Expr<'s>, Expr<'s>)>),
}

/// A call, as `name(…)` or `on.name(…)`.
#[derive(Debug)]
pub(super) struct Call<'s> {
    pub(super) on: Option<Expr<'s>>,
    pub(super) name: &'s str,
    pub(super) arguments: Vec<Expr<'s>>,
}

/// The operators that join their operands to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
}

/// The other operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Compare(Comparison),
    Calculate(Calculation),
    In,
}

/// A fault of the syntax.
#[derive(Debug)]
pub(super) struct Fault {
    /// The byte at which it is.
    pub(super) at: usize,
    pub(super) message: String,
    /// The correct form, where it can be told from the fault alone.
    pub(super) cure: Option<String>,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { at, message: message.into(), cure: None })
    }

    fn with_cure(mut self: Box<Self>, cure: impl Into<String>) -> Box<Self> {
        self.cure = Some(cure.into());
        self
    }
}

// A fault is rare, and a small result keeps the frames of the parser small.
type Parsed<T> = Result<T, Box<Fault>>;

//! The part of C# in which policy expressions are written: read into a tree, or refused with a reason, and never run.

mod blocks;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use self::parser::parse;

/// The longest expression that is read, in bytes.
pub(crate) const LONGEST: usize = 32 << 10;
/// The deepest nesting of an expression.
pub(crate) const DEEPEST: usize = 96;

/// The content of `@(…)` or `@{…}`.
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    /// `@(expression)`.
    Expression(Expr),
    /// `@{ statements }`.
    Block(Vec<Statement>),
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `T name = value;` or `name = value;`.
    Assign {
        /// The variable.
        name: String,
        /// The declared type, `var` included; `None` for an assignment.
        declared: Option<String>,
        /// The value, if there is one.
        value: Option<Expr>,
    },
    /// `if (condition) … else …`.
    If {
        /// The condition.
        condition: Expr,
        /// The statements if it is true.
        then: Vec<Self>,
        /// The statements if it is not.
        otherwise: Vec<Self>,
    },
    /// `return value;`.
    Return(Expr),
}

/// An expression with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// The expression.
    pub kind: Box<ExprKind>,
    /// The offset in the decoded text.
    pub at: usize,
}

/// A part of a string literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text, without escapes.
    Text(String),
    /// `{{name}}`, which is replaced before the code is compiled.
    Named(String),
    /// `{expression}` of an interpolated string.
    Hole(Expr),
}

/// A parameter of a call.
pub type Arguments = Vec<Expr>;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A fraction, as written.
    Fraction(String),
    /// A string or a character.
    Text(Vec<Piece>),
    /// `{{name}}` outside of a string.
    Named(String),
    /// A name.
    Name(String),
    /// `a.name`, or `a?.name`.
    Member {
        /// The expression before the dot.
        of: Expr,
        /// The member.
        name: String,
        /// Whether `?.` stands there.
        conditional: bool,
    },
    /// `a[index]`, or `a?[index]`.
    Index {
        /// The list or map.
        of: Expr,
        /// The index.
        index: Expr,
        /// Whether `?[` stands there.
        conditional: bool,
    },
    /// `a.name<T>(arguments)`.
    Call {
        /// The function that is called.
        function: Expr,
        /// The types in angle brackets.
        types: Vec<String>,
        /// The arguments.
        arguments: Arguments,
    },
    /// `(T)a`, or `a as T`.
    Cast(String, Expr),
    /// `!a` or `-a`.
    Unary(char, Expr),
    /// `a + b` and the like.
    Binary(&'static str, Expr, Expr),
    /// `c ? a : b`.
    Conditional(Expr, Expr, Expr),
    /// `new [] { … }`.
    Array(Vec<Expr>),
    /// `name => expression`.
    Lambda(String, Expr),
    /// `new T(…)`: read in order to be refused by name.
    New(String),
}

/// The reason why code is not translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: &'static str,
    /// The sentence.
    pub reason: String,
    /// The offset in the decoded text.
    pub at: usize,
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(code: &'static str, reason: impl Into<String>, at: usize) -> Self {
        Self { code, reason: reason.into(), at }
    }
}

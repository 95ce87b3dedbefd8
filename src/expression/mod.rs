//! Expressions: the `@(…)` of a config.
//!
//! The language is CEL, the Common Expression Language; it reads only one request. Where the language's rules could admit a
//! request that was not judged, ours are stricter:
//!
//! - **What is absent refuses.** Reading a claim, a header, a parameter or a capture that is not there is an error, and an error
//!   ends the evaluation: also to the right of `||`, below `!`, within `exists` and `all`. CEL lets `error || true` be true; here the
//!   operands are evaluated from left to right, and `&&`, `||` and `?:` leave out a side only because of the value on their left.
//!   `has(token.claims.oid)` asks; `has(token.claims["extn.costCenter"])` does too. A claim that is `null` is absent, one that is the empty text is not.
//! - **Nothing is converted.** Comparing a text with a number is an error, not `false` (which `!=` would make `true`). Whole
//!   numbers and
//!   fractions compare by value; `string()`, `int()`, `double()` and `bool()` convert.
//! - **All is checked at load**: names, fields, functions, the number of their arguments, patterns and networks, which have to be
//!   literals.
//! - **The cost is bounded** by [`limits`], whatever the request holds. An expression that reaches a limit refuses.
//!
//! | name | what it is |
//! | --- | --- |
//! | `request.method`, `request.path`, `request.host` | as the gateway read them: the path that is matched and sent, the host in lower case without its port |
//! | `request.scheme`, `.url`, `.query_string`, `.id` | `http` or `https`, as the caller uses it; the whole URL; the query as sent; the request's id |
//! | `request.headers["name"]` | the header as the caller sent it, whatever the case of the name; joined by `,` where it is repeated |
//! | `request.query["name"]` | the parameter, decoded as a form is (`+` is a space); joined by `,` where it is repeated |
//! | `caller.address` | the caller's address as text |
//! | `caller.certificate` | the caller's certificate, once the listener (`mode: required`) or `validate-client-certificate` has accepted it |
//! | `.subject`, `.issuer` of it | names as RFC 4514 writes them, with a blank after each comma: `CN=daemon, O=Fabrikam, C=NL` |
//! | `.common_name`, `.serial` | texts; the serial number in hexadecimal, upper case, without leading zeros |
//! | `.thumbprint`, `.thumbprint_sha256` | SHA-1 and SHA-256 in hexadecimal, upper case |
//! | `.dns_names`, `.emails`, `.uris` | lists of texts: the subject alternative names |
//! | `.not_before`, `.not_after` | the first and the last second of its validity, since 1970 |
//! | `.encoded` | the certificate itself in base64 |
//! | `token.claims.name`, `token.claims["name"]` | a claim as it was signed |
//! | `token.kind`, `.tenant`, `.client`, `.subject`, `.scopes`, `.roles` | `user` or `app`; GUIDs and texts; lists of texts |
//! | `name.claims.…`, `name.kind`, … | the same of a further token, which its policy names with `as: name` |
//! | `route.name` | the route's name in the config |
//! | `response.status` | the status of the answer, in `outbound` policies and in the `increment-condition` of limits |
//! | `response.headers["name"]` | a header of the answer, in `outbound` policies |
//! | `variables.name` | the value that `set-variable` gave it |
//! | `error.code`, `.status`, `.policy` | in `on-error`: the refusal's code and status, and the entry that refused, if one did |
//! | `captures.name` | what `{name}` in the route's path captured, decoded |
//!
//! | function, also as `value.function(…)` | what it gives |
//! | --- | --- |
//! | `lower(text)`, `upper(text)` | the text in the other case; a letter beyond ASCII never becomes an ASCII one, so that no lookalike is made equal |
//! | `split(text, separator)` | a list |
//! | `join(list, separator)` | a text; an element that contains the separator is an error, since the reader could not tell it from two |
//! | `cidr("10.0.0.0/8", caller.address)` | whether the address lies in the network, or in one of a list of networks; `caller.address.cidr("10.0.0.0/8")` is the same |
//! | `startsWith`, `endsWith`, `contains`, `matches` | as in CEL; `matches` takes a literal pattern and finds it anywhere in the text |
//! | `size(x)`, `string(x)`, `int(x)`, `double(x)`, `bool(x)` | as in CEL |
//! | `replace(text, part, by)`, `trim(text)`, `substring(text, start, end)`, `index_of(text, part)` | a text, counted in characters from 0; an index of what is not there is -1, and a part beyond the text's ends is an error |
//! | `last(list)`, `values(x)` | the last element; a list, of one element where the value is none |
//! | `base64(text)`, `base64_decode(text)`, `url_encode(text)` | a text; what is decoded has to be one |
//! | `uuid()`, `now()` | a random UUID; seconds since 1970 |
//! | `list.exists(x, …)`, `all`, `exists_one`, `filter`, `map` | as in CEL, but for errors, which are never swallowed |

mod certificate;
mod check;
mod evaluate;
mod facts;
mod functions;
mod known;
mod literal;
mod node;
mod operands;
mod parse;
mod record;
pub(crate) mod shape;
mod syntax;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod value;
mod variables;

use std::{borrow::Cow, fmt};

use http::HeaderName;

pub(crate) use self::template::{EMPTY, HeaderTextError, Template, condition, field_value, header_value, judged_value};
use self::{
    check::Subject,
    evaluate::Evaluator,
    node::{Kind, Node},
};
pub use self::{
    facts::{ErrorFacts, Facts},
    known::KnownFacts,
    value::{EvaluationError, List, Map, Value},
    variables::Variables,
};
pub(crate) use self::{functions::could_be_two, literal::literal, record::RecordCondition};
pub(crate) use variables::MOST as MOST_OF_VARIABLES;

/// Returns whether a token may have this name: a word that expressions can use and that has no meaning yet.
pub(crate) fn is_free_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_')
        && name.len() <= 32
        && !check::ROOTS.contains(&name)
        && !syntax::is_word(name)
}

/// The limits of an expression's size and cost.
pub mod limits {
    /// The longest expression, in bytes.
    pub const LENGTH: usize = 4_096;
    /// The most signs (operators, dots, brackets, quotes) in an expression.
    pub const SIGNS: usize = 1_024;
    /// How deeply brackets may be nested, and choices, as `a ? b : c ? d : e`.
    pub const NESTING: u16 = 32;
    /// How deeply the parts of an expression may be nested, chains as `a + b + c` and `a.b.c` included.
    pub const DEPTH: usize = 64;
    /// The most parts of an expression.
    pub const PARTS: usize = 1_024;
    /// The most steps of one evaluation; long texts cost more than one.
    pub const STEPS: u32 = 10_000;
    /// The most bytes of text that one evaluation may make.
    pub const TEXT: usize = 64 * 1024;
    /// The most bytes that the variables of a request may hold.
    pub const VARIABLES: usize = super::variables::MOST;
    /// The most memory that one compiled pattern may take, in bytes.
    pub const PATTERN: usize = 256 * 1024;
}

/// An expression, parsed and checked.
#[derive(Clone)]
pub struct Expression {
    node: Node,
    uses: Uses,
    names: Names,
}

/// The names that an expression reads and that depend on the config around it.
#[derive(Clone, Debug, Default)]
struct Names {
    captures: Vec<Box<str>>,
    variables: Vec<Box<str>>,
    /// Header fields of the request.
    headers: Vec<HeaderName>,
    /// Parameters of the query.
    parameters: Vec<Box<str>>,
}

// A text within it may be a secret.
impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").field("uses", &self.uses).finish_non_exhaustive()
    }
}

/// The data that an expression reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uses {
    /// `request`
    pub request: bool,
    /// `caller`
    pub caller: bool,
    /// `caller.certificate`
    pub certificate: bool,
    /// `token`
    pub token: bool,
    /// `partner`
    pub partner: bool,
    /// `captures`
    pub captures: bool,
    /// `response`, which is only known to policies on the response, and to conditions evaluated after it
    pub response: bool,
    /// `response.headers`, which are only known while policies on the response run
    pub response_headers: bool,
    /// `error`, which is only known in `on-error`
    pub error: bool,
    /// Parts of the request or the response that may hold credentials: the whole header, query or URL, or a variable made of them
    pub confidential: bool,
}

impl Uses {
    /// Returns the data that either of two expressions reads.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            request: self.request || other.request,
            caller: self.caller || other.caller,
            certificate: self.certificate || other.certificate,
            token: self.token || other.token,
            partner: self.partner || other.partner,
            captures: self.captures || other.captures,
            response: self.response || other.response,
            response_headers: self.response_headers || other.response_headers,
            error: self.error || other.error,
            confidential: self.confidential || other.confidential,
        }
    }

    /// Returns whether a header made from it identifies the caller to a backend: its name must then never come from the caller.
    pub const fn identity(self) -> bool {
        self.token || self.caller || self.partner
    }
}

/// A fault of an expression, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at column {column} of the expression: {message}")]
pub struct ExpressionError {
    /// The column, counted in characters from 1.
    pub column: usize,
    /// The description of the fault.
    pub message: String,
    /// The correct form.
    pub cure: String,
    /// A name is unknown that a policy before could have given.
    pub unknown_name: bool,
}

impl Expression {
    /// Parses and checks the expression between `@(` and `)`.
    ///
    /// # Errors
    /// Returns the first fault only.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        Self::parse_knowing(text, &[])
    }

    /// Does the same as [`parse`](Self::parse), where there are tokens of these names besides `token`.
    ///
    /// # Errors
    /// Returns the first fault only.
    pub fn parse_knowing(text: &str, tokens: &[Box<str>]) -> Result<Self, ExpressionError> {
        Self::parse_about(text, Subject::Request(tokens))
    }

    /// Parses and checks an expression about this subject.
    fn parse_about(text: &str, subject: Subject<'_>) -> Result<Self, ExpressionError> {
        parse::bounded(text)?;
        check::check(&parse::parse(text)?, text, subject)
    }

    /// Parses and checks a condition: an expression that can be true or false.
    ///
    /// # Errors
    /// Returns the first fault, including that the value can be neither true nor false.
    pub fn parse_condition(text: &str) -> Result<Self, ExpressionError> {
        Self::parse(text)?.into_condition()
    }

    /// Returns the expression as a condition: one that can be true or false.
    pub(crate) fn into_condition(self) -> Result<Self, ExpressionError> {
        match self.node.kind() {
            None | Some(Kind::Bool) => Ok(self),
            Some(kind) => Err(ExpressionError {
                column: 1,
                message: format!("a condition is true or false, and this is {kind}"),
                cure: "compare it with something".to_owned(),
                unknown_name: false,
            }),
        }
    }

    /// Returns a claim that stands in this condition by itself, uncompared, as a person would write it: the condition then holds only
    /// if the claim is `true`, and not if it is there.
    pub(crate) fn bare_claim(&self) -> Option<&str> {
        self.node.bare_claim()
    }

    /// Returns the claim of this exact name, without any text to be parsed.
    pub(crate) fn claim(name: &str) -> Self {
        let path =
            node::Path { field: node::Field::Claim(name.into()), token: None, told: format!("token.claims.{name}").into() };
        Self { node: Node::Path(path), uses: Uses { token: true, ..Uses::default() }, names: Names::default() }
    }

    /// Returns the data that the expression reads.
    pub const fn uses(&self) -> Uses {
        self.uses
    }

    /// Returns the captures that it names.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.names.captures.iter().map(|name| &**name)
    }

    /// Returns the variables that it reads.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.names.variables.iter().map(|name| &**name)
    }

    /// Returns the header fields of the request that it names.
    pub(crate) fn headers(&self) -> &[HeaderName] {
        &self.names.headers
    }

    /// Returns the parameters of the query that it names.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.names.parameters.iter().map(|name| &**name)
    }

    /// Adds the data that went into the variables that it reads.
    pub(crate) fn reads_through(&mut self, variables: Uses) {
        self.uses = self.uses.or(variables);
    }

    /// Evaluates the expression with these facts.
    ///
    /// # Errors
    /// Fails on data that is absent or of the wrong kind, or beyond the [`limits`].
    pub fn evaluate<'a>(&'a self, facts: &Facts<'a>) -> Result<Value<'a>, EvaluationError> {
        // A plain path is one lookup, and the common case.
        match &self.node {
            Node::Path(path) => facts.look_up(path),
            node => Evaluator::new(facts).evaluate(node),
        }
    }

    /// Evaluates the condition.
    ///
    /// # Errors
    /// Fails as [`evaluate`](Self::evaluate), and if the value is neither true nor false.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, EvaluationError> {
        match self.evaluate(facts)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(EvaluationError::kind("a condition", Kind::Bool, &other)),
        }
    }

    /// Evaluates the expression as text: a text, number or boolean.
    ///
    /// # Errors
    /// Fails as [`evaluate`](Self::evaluate), and for a list or a map, which only an explicit `join` makes a text.
    pub fn text<'a>(&'a self, facts: &Facts<'a>) -> Result<Cow<'a, str>, EvaluationError> {
        self.evaluate(facts)?.into_text()
    }
}

//! Values while they are translated: the CEL that makes them, their kind, and whether they can be null.

use crate::csharp::Piece;

/// How strongly an expression holds together, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Conditional,
    Or,
    And,
    Relation,
    Sum,
    Product,
    Unary,
    Primary,
}

/// The type of a value, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bool,
    Int,
    Fraction,
    /// A list of texts.
    List,
    Any,
}

/// A text of CEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cel {
    pub(crate) text: String,
    pub(crate) level: Level,
}

impl Cel {
    pub(crate) fn new(text: impl Into<String>, level: Level) -> Self {
        Self { text: text.into(), level }
    }

    /// Makes a path or a call, which need no brackets anywhere.
    pub(crate) fn primary(text: impl Into<String>) -> Self {
        Self::new(text, Level::Primary)
    }

    /// Returns the text, in brackets where it would fall apart at this level.
    pub(crate) fn at(&self, level: Level) -> String {
        if self.level < level { format!("({})", self.text) } else { self.text.clone() }
    }

    pub(crate) fn not(&self) -> Self {
        match self.text.as_str() {
            "true" => Self::primary("false"),
            "false" => Self::primary("true"),
            // `!has(a)` is one thing; what follows the sign has no operators outside of brackets.
            _ if self.level == Level::Unary && self.text.starts_with('!') => Self::primary(&self.text[1..]),
            _ => Self::new(format!("!{}", self.at(Level::Unary)), Level::Unary),
        }
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        match (self.text.as_str(), other.text.as_str()) {
            ("true", _) => other.clone(),
            (_, "true") => self.clone(),
            _ => Self::new(format!("{} && {}", self.at(Level::And), other.at(Level::And)), Level::And),
        }
    }

    pub(crate) fn or(&self, other: &Self) -> Self {
        match (self.text.as_str(), other.text.as_str()) {
            ("false", _) => other.clone(),
            (_, "false") => self.clone(),
            _ => Self::new(format!("{} || {}", self.at(Level::Or), other.at(Level::Or)), Level::Or),
        }
    }

    pub(crate) fn relation(&self, sign: &str, other: &Self) -> Self {
        Self::new(format!("{} {sign} {}", self.at(Level::Sum), other.at(Level::Sum)), Level::Relation)
    }

    pub(crate) fn conditional(condition: &Self, then: &Self, otherwise: &Self) -> Self {
        match condition.text.as_str() {
            "true" => then.clone(),
            "false" => otherwise.clone(),
            _ => {
                let text = format!("{} ? {} : {}", condition.at(Level::Or), then.at(Level::Or), otherwise.at(Level::Conditional));
                Self::new(text, Level::Conditional)
            }
        }
    }

    /// Calls a function with this as its first argument.
    pub(crate) fn call(&self, function: &str, arguments: &[&str]) -> Self {
        let more: String = arguments.iter().map(|argument| format!(", {argument}")).collect();
        Self::primary(format!("{function}({}{more})", self.text))
    }

    /// Calls a method.
    pub(crate) fn method(&self, name: &str, argument: &Self) -> Self {
        Self::primary(format!("{}.{name}({})", self.at(Level::Primary), argument.text))
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) cel: Cel,
    pub(crate) kind: Kind,
    /// The condition under which it is not null; `None` if it never is.
    pub(crate) present: Option<Cel>,
    /// The condition by which `== null` is answered, if reading it does not ask.
    pub(crate) null_test: Option<Cel>,
    /// Whether C# compares it by reference.
    pub(crate) untyped: bool,
}

impl Plain {
    pub(crate) fn new(cel: Cel, kind: Kind) -> Self {
        Self { cel, kind, present: None, null_test: None, untyped: false }
    }

    pub(crate) fn text(cel: Cel) -> Self {
        Self::new(cel, Kind::Text)
    }

    pub(crate) fn bool(cel: Cel) -> Self {
        Self::new(cel, Kind::Bool)
    }

    /// Makes a value that can be null.
    pub(crate) fn nullable(cel: Cel, kind: Kind, present: Cel) -> Self {
        Self { present: Some(present), ..Self::new(cel, kind) }
    }

    /// Returns the value as C# writes it into a text.
    pub(crate) fn as_text(&self) -> Cel {
        let text = match self.kind {
            Kind::Text => self.cel.clone(),
            Kind::Bool => Cel::conditional(&self.cel, &literal("True"), &literal("False")),
            Kind::Int | Kind::Fraction | Kind::Any | Kind::List => self.cel.call("string", &[]),
        };
        match &self.present {
            Some(present) => Cel::conditional(present, &text, &literal("")),
            None => text,
        }
    }
}

/// Something of the policy's context, or a value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Plain(Plain),
    Null,
    Object(Object),
}

/// A part of the context, which is no value by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Context,
    Request,
    Response,
    /// The fields of the request, or of the response.
    Headers {
        response: bool,
    },
    /// The values of one field.
    HeaderValues {
        response: bool,
        name: String,
    },
    Query,
    QueryValues(String),
    /// The URL as called, or as it goes to the backend.
    Url {
        original: bool,
    },
    Variables,
    MatchedParameters,
    /// A token, by its name here.
    Jwt(String),
    Claims(String),
    ClaimValues(String, String),
    Api,
    ServiceUrl,
    Operation,
    Product,
    Subscription,
    User,
    Groups,
    Deployment,
    LastError,
    LastErrorReason,
    LastErrorSource,
    /// A type, whose functions are called.
    Type(String),
    /// Bytes that were made of a text.
    Bytes(Cel),
}

/// Returns a text as CEL writes it.
pub(crate) fn literal(text: &str) -> Cel {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for letter in text.chars() {
        match letter {
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("\\'"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('\'');
    Cel::primary(quoted)
}

/// Returns the parts of a text that names named values; `None` if a part is an expression.
pub(crate) fn literal_of(pieces: &[Piece]) -> Option<Cel> {
    let parts: Option<Vec<Cel>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => Some(literal(text)),
            Piece::Named(name) => Some(Cel::primary(format!("{{{{{name}}}}}"))),
            Piece::Hole(_) => None,
        })
        .collect();
    Some(sum(parts?))
}

/// Joins texts with `+`.
pub(crate) fn sum(parts: Vec<Cel>) -> Cel {
    let mut joined: Vec<Cel> = Vec::new();
    for part in parts {
        // Literals that stand side by side are one; `''` adds nothing.
        let is_literal = |cel: &Cel| cel.text.starts_with('\'') && cel.level == Level::Primary && is_one_literal(&cel.text);
        match joined.last_mut() {
            Some(last) if is_literal(last) && is_literal(&part) => {
                last.text.pop();
                last.text.push_str(&part.text[1..]);
            }
            _ => joined.push(part),
        }
    }
    if joined.len() > 1 {
        joined.retain(|part| part.text != "''");
    }
    match joined.len() {
        0 => literal(""),
        1 => joined.remove(0),
        _ => {
            let texts: Vec<_> = joined.iter().map(|part| part.at(Level::Sum)).collect();
            Cel::new(texts.join(" + "), Level::Sum)
        }
    }
}

/// Returns whether a text is one literal from its first quote to its last.
fn is_one_literal(text: &str) -> bool {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'\'' => return at + 1 == text.len(),
            _ => {}
        }
    }
    false
}

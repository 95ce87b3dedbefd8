//! An expression ready for evaluation: every name resolved, every pattern and network read.

use std::{fmt, sync::Arc};

use http::HeaderName;
use ipnet::IpNet;
use regex::Regex;

use super::certificate::CertificateField;

/// One part of an expression.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    Path(Path),
    /// A variable of `exists` and the like: the number of variables bound before it.
    Variable(usize),
    /// `of.name`
    Member {
        of: Box<Self>,
        name: Box<str>,
        told: Arc<str>,
    },
    /// `of[key]`
    Index {
        of: Box<Self>,
        key: Box<Self>,
        told: Arc<str>,
    },
    Has(Box<Self>),
    Not(Box<Self>),
    Negate(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    Choose(Box<[Self; 3]>),
    Compare(Comparison, Box<[Self; 2]>),
    Calculate(Calculation, Box<[Self; 2]>),
    In(Box<[Self; 2]>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Each(Each, Box<Comprehension>),
    Call(Function, Vec<Self>),
    Matches(Box<Self>, Regex),
    Cidr(Box<[IpNet]>, Box<Self>),
}

/// The list of `exists` and the like, and the condition or result for each element.
#[derive(Clone, Debug)]
pub(super) struct Comprehension {
    pub(super) over: Node,
    /// The condition; absent only for `map` without one.
    pub(super) condition: Option<Node>,
    /// The result expression of `map`.
    pub(super) result: Option<Node>,
}

/// A path that can be looked up directly.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) field: Field,
    /// The name of the token that is read, where it is not `token`.
    pub(super) token: Option<Box<str>>,
    /// The path as written, for errors.
    pub(super) told: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Method,
    RequestPath,
    Host,
    Scheme,
    Url,
    QueryString,
    RequestId,
    Header(HeaderName),
    Headers,
    Parameter(Box<str>),
    Query,
    CallerAddress,
    Certificate,
    CertificateField(CertificateField),
    Claim(Box<str>),
    Claims,
    TokenKind,
    Tenant,
    Client,
    Subject,
    Scopes,
    Roles,
    Capture(Box<str>),
    Captures,
    PartnerName,
    RouteName,
    Status,
    ResponseHeader(HeaderName),
    ResponseHeaders,
    Variable(Box<str>),
    ErrorCode,
    ErrorStatus,
    ErrorPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calculation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Calculation {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    Exists,
    All,
    ExistsOne,
    Filter,
    Map,
}

impl Each {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "exists" => Self::Exists,
            "all" => Self::All,
            "exists_one" | "existsOne" => Self::ExistsOne,
            "filter" => Self::Filter,
            "map" => Self::Map,
            _ => return None,
        })
    }
}

/// A function of evaluated arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Lower,
    Upper,
    Split,
    Join,
    StartsWith,
    EndsWith,
    Contains,
    Size,
    Text,
    Int,
    Double,
    Bool,
    Replace,
    Trim,
    Substring,
    IndexOf,
    Last,
    Values,
    Base64,
    Base64Decode,
    UrlEncode,
    Uuid,
    Now,
}

impl Function {
    pub(super) const ALL: [Self; 23] = [
        Self::Lower,
        Self::Upper,
        Self::Split,
        Self::Join,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::Size,
        Self::Text,
        Self::Int,
        Self::Double,
        Self::Bool,
        Self::Replace,
        Self::Trim,
        Self::Substring,
        Self::IndexOf,
        Self::Last,
        Self::Values,
        Self::Base64,
        Self::Base64Decode,
        Self::UrlEncode,
        Self::Uuid,
        Self::Now,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Split => "split",
            Self::Join => "join",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Contains => "contains",
            Self::Size => "size",
            Self::Text => "string",
            Self::Int => "int",
            Self::Double => "double",
            Self::Bool => "bool",
            Self::Replace => "replace",
            Self::Trim => "trim",
            Self::Substring => "substring",
            Self::IndexOf => "index_of",
            Self::Last => "last",
            Self::Values => "values",
            Self::Base64 => "base64",
            Self::Base64Decode => "base64_decode",
            Self::UrlEncode => "url_encode",
            Self::Uuid => "uuid",
            Self::Now => "now",
        }
    }

    /// Returns the least and the greatest number of its arguments, the one before the dot included.
    pub(super) const fn arguments(self) -> (usize, usize) {
        match self {
            Self::Uuid | Self::Now => (0, 0),
            Self::Lower
            | Self::Upper
            | Self::Size
            | Self::Text
            | Self::Int
            | Self::Double
            | Self::Bool
            | Self::Trim
            | Self::Last
            | Self::Values
            | Self::Base64
            | Self::Base64Decode
            | Self::UrlEncode => (1, 1),
            Self::Split | Self::Join | Self::StartsWith | Self::EndsWith | Self::Contains | Self::IndexOf => (2, 2),
            Self::Substring => (2, 3),
            Self::Replace => (3, 3),
        }
    }

    /// Returns the kinds that the argument of this index may have.
    pub(super) const fn takes(self, index: usize) -> &'static [Kind] {
        match (self, index) {
            (Self::Join | Self::Last, 0) => &[Kind::List],
            (Self::Size, _) => &[Kind::Text, Kind::List, Kind::Map],
            (Self::Text, _) => &[Kind::Text, Kind::Bool, Kind::Int, Kind::Double],
            (Self::Int | Self::Double, _) => &[Kind::Text, Kind::Int, Kind::Double],
            (Self::Bool, _) => &[Kind::Text, Kind::Bool],
            (Self::Substring, 1 | 2) => &[Kind::Int],
            (Self::Values, _) => &[Kind::Text, Kind::Bool, Kind::Int, Kind::Double, Kind::List],
            _ => &[Kind::Text],
        }
    }

    /// Returns whether it may only be written after a value and a dot, only as a call, or either way.
    pub(super) const fn member_only(self) -> bool {
        matches!(self, Self::StartsWith | Self::EndsWith | Self::Contains)
    }

    pub(super) const fn call_only(self) -> bool {
        matches!(self, Self::Text | Self::Int | Self::Double | Self::Bool | Self::Uuid | Self::Now)
    }

    /// Returns the kind of its result, if that is known before there is a request.
    const fn gives(self) -> Option<Kind> {
        Some(match self {
            Self::Lower
            | Self::Upper
            | Self::Join
            | Self::Text
            | Self::Replace
            | Self::Trim
            | Self::Substring
            | Self::Base64
            | Self::Base64Decode
            | Self::UrlEncode
            | Self::Uuid => Kind::Text,
            Self::Split | Self::Values => Kind::List,
            Self::StartsWith | Self::EndsWith | Self::Contains | Self::Bool => Kind::Bool,
            Self::Size | Self::Int | Self::IndexOf | Self::Now => Kind::Int,
            Self::Double => Kind::Double,
            Self::Last => return None,
        })
    }
}

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Double,
    Text,
    List,
    Map,
}

impl Kind {
    pub(super) const fn article(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Double => "a fraction",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "an object",
        }
    }

    /// Returns whether values of the two kinds can be compared.
    pub(super) fn comparable(self, other: Self) -> bool {
        self == other || (self.is_number() && other.is_number())
    }

    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.article())
    }
}

impl Node {
    /// Returns a claim that decides by itself, uncompared, in a condition.
    pub(super) fn bare_claim(&self) -> Option<&str> {
        match self {
            Self::Path(Path { field: Field::Claim(_), told, .. }) => Some(told),
            Self::Not(of) => of.bare_claim(),
            Self::And(parts) | Self::Or(parts) => parts.iter().find_map(Self::bare_claim),
            Self::Choose(parts) => parts.iter().find_map(Self::bare_claim),
            _ => None,
        }
    }

    /// Returns the kind of this part's value, if it is known before there is a request.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Bool(_)
            | Self::Has(_)
            | Self::Not(_)
            | Self::And(_)
            | Self::Or(_)
            | Self::Compare(..)
            | Self::In(_)
            | Self::Matches(..)
            | Self::Cidr(..)
            | Self::Each(Each::Exists | Each::All | Each::ExistsOne, _) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Double(_) => Kind::Double,
            Self::Text(_) => Kind::Text,
            Self::List(_) | Self::Each(Each::Filter | Each::Map, _) => Kind::List,
            Self::Map(_) => Kind::Map,
            Self::Path(path) => return path.field.kind(),
            Self::Call(function, _) => return function.gives(),
            Self::Negate(of) => return of.kind(),
            Self::Calculate(_, operands) => return operands[0].kind().or_else(|| operands[1].kind()),
            Self::Choose(parts) => {
                let (yes, no) = (parts[1].kind()?, parts[2].kind()?);
                return (yes == no).then_some(yes);
            }
            Self::Variable(_) | Self::Member { .. } | Self::Index { .. } => return None,
        })
    }
}

impl Field {
    const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Claim(_) | Self::Variable(_) => None,
            Self::Status | Self::ErrorStatus => Some(Kind::Int),
            Self::CertificateField(field) => Some(field.kind()),
            Self::Headers | Self::ResponseHeaders | Self::Query | Self::Claims | Self::Captures | Self::Certificate => {
                Some(Kind::Map)
            }
            Self::Scopes | Self::Roles => Some(Kind::List),
            Self::Method
            | Self::RequestPath
            | Self::Host
            | Self::Scheme
            | Self::Url
            | Self::QueryString
            | Self::RequestId
            | Self::ResponseHeader(_)
            | Self::ErrorCode
            | Self::ErrorPolicy
            | Self::Header(_)
            | Self::Parameter(_)
            | Self::CallerAddress
            | Self::TokenKind
            | Self::Tenant
            | Self::Client
            | Self::Subject
            | Self::Capture(_)
            | Self::PartnerName
            | Self::RouteName => Some(Kind::Text),
        }
    }
}

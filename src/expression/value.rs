//! The values of expressions, and their comparison.

use std::{borrow::Cow, cmp::Ordering, fmt, sync::Arc};

use serde_json::Value as Json;

use super::{certificate::CertificateField, facts, node::Kind, variables};
use crate::{base::fields::Fields, certificate::ClientCertificate, entra::token::Members, request::Captures};

/// The value of an expression, or of a part of one. Borrows from the request wherever it can.
#[derive(Clone)]
pub enum Value<'a> {
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond the other one's range; claims may hold one.
    Large(u64),
    /// A fraction; never infinite, never "not a number".
    Double(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(List<'a>),
    /// Values by name.
    Map(Map<'a>),
}

/// A list of values.
#[derive(Clone)]
pub enum List<'a> {
    /// A claim.
    Json(&'a [Json]),
    /// Scopes or roles.
    Texts(&'a [Box<str>]),
    /// A list that the expression made.
    Made(Arc<[Value<'a>]>),
}

/// Values by name.
#[derive(Clone)]
pub enum Map<'a> {
    /// Claims.
    Claims(&'a Members),
    /// A claim.
    Json(&'a serde_json::Map<String, Json>),
    /// The caller's certificate.
    Certificate(&'a ClientCertificate),
    /// The header of the request, or of the response.
    Headers(&'a Fields),
    /// The request's query, still encoded.
    Query(&'a str),
    /// The captures of the route's path, still encoded.
    Captures(&'a Captures),
    /// A map that the expression made.
    Made(Arc<[(Cow<'a, str>, Value<'a>)]>),
}

/// The reason why an expression has no value. Holds names and kinds, never a value of the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The expression reads something that is absent.
    #[error("{0} is absent")]
    Absent(Arc<str>),
    /// A value is of the wrong kind.
    #[error("{what} must be {wanted}, but it is {found}")]
    Kind {
        /// The value in question.
        what: &'static str,
        /// The expected kind.
        wanted: &'static str,
        /// The actual kind.
        found: &'static str,
    },
    /// The operands cannot be combined.
    #[error("{left} and {right} cannot be combined in `{operation}`")]
    Mismatch {
        /// The operator.
        operation: &'static str,
        /// The kind of the left operand.
        left: &'static str,
        /// The kind of the right operand.
        right: &'static str,
    },
    /// A value cannot be read, counted or converted.
    #[error("{0}")]
    Unfit(&'static str),
    /// The evaluation exceeds the limits.
    #[error("the expression costs more than {0}")]
    Cost(&'static str),
}

impl EvaluationError {
    pub(super) fn kind(what: &'static str, wanted: Kind, found: &Value<'_>) -> Self {
        Self::Kind { what, wanted: wanted.article(), found: found.kind().article() }
    }
}

impl<'a> Value<'a> {
    /// Returns a claim or a part of one; `None` where it is `null`, which is absent.
    pub(super) fn of_json(json: &'a Json) -> Option<Self> {
        Some(match json {
            Json::Null => return None,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(large)) => Self::Large(large),
                // JSON has no infinite numbers, so this always is one; were it none, absent is the safe side.
                (None, None) => Self::Double(number.as_f64().filter(|number| number.is_finite())?),
            },
            Json::String(text) => Self::Text(Cow::Borrowed(text)),
            Json::Array(list) => Self::List(List::Json(list)),
            Json::Object(map) => Self::Map(Map::Json(map)),
        })
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) | Self::Large(_) => Kind::Int,
            Self::Double(_) => Kind::Double,
            Self::Text(_) => Kind::Text,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
        }
    }

    /// Returns the value as text: texts, numbers and booleans.
    ///
    /// # Errors
    /// Fails for lists and maps, since the config must say how they are written.
    pub fn into_text(self) -> Result<Cow<'a, str>, EvaluationError> {
        Ok(match self {
            Self::Text(text) => text,
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Large(number) => Cow::Owned(number.to_string()),
            // As JSON writes it, so that a claim is handed on as it was signed.
            Self::Double(number) => Cow::Owned(Json::from(number).to_string()),
            Self::List(_) => return Err(EvaluationError::Unfit("a list is not a text; write join(list, separator)")),
            Self::Map(_) => return Err(EvaluationError::Unfit("an object is not a text")),
        })
    }

    /// Returns the value as JSON: a claim as it was signed.
    ///
    /// # Errors
    /// Fails for parts of the request that cannot be read as text.
    pub(crate) fn into_json(self) -> Result<Json, EvaluationError> {
        Ok(match self {
            Self::Bool(value) => value.into(),
            Self::Int(number) => number.into(),
            Self::Large(number) => number.into(),
            Self::Double(number) => number.into(),
            Self::Text(text) => text.into_owned().into(),
            // Whole, so that an entry that is `null` stays one.
            Self::List(List::Json(list)) => Json::Array(list.to_vec()),
            Self::List(list) => list.iter().map(|element| element?.into_json()).collect::<Result<_, _>>()?,
            Self::Map(Map::Json(map)) => Json::Object(map.clone()),
            Self::Map(Map::Claims(claims)) => {
                Json::Object(claims.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())
            }
            Self::Map(map) => {
                let mut json = serde_json::Map::new();
                for name in map.names()? {
                    if let Some(value) = map.get(&name)? {
                        json.insert(name.into_owned(), value.into_json()?);
                    }
                }
                Json::Object(json)
            }
        })
    }

    /// Returns whether the value takes no more than these bytes as JSON, before it is made.
    pub(crate) fn fits(&self, most: usize) -> bool {
        let mut left = most;
        self.weigh(&mut left).is_some()
    }

    /// Takes the bytes of the value from those that are left; `None` if they are not enough.
    fn weigh(&self, left: &mut usize) -> Option<()> {
        let mut spend = |bytes: usize| left.checked_sub(bytes).map(|rest| *left = rest);
        match self {
            Self::Bool(_) | Self::Int(_) | Self::Large(_) | Self::Double(_) => spend(variables::EACH),
            Self::Text(text) => spend(variables::EACH + text.len()),
            Self::List(List::Json(list)) => list.iter().try_for_each(|entry| spend(variables::weight(entry))),
            Self::List(List::Texts(list)) => list.iter().try_for_each(|text| spend(variables::EACH + text.len())),
            Self::List(List::Made(list)) => list.iter().try_for_each(|entry| entry.weigh(left)),
            Self::Map(Map::Json(map)) => map.iter().try_for_each(|(name, entry)| spend(name.len() + variables::weight(entry))),
            Self::Map(Map::Claims(claims)) => {
                claims.iter().try_for_each(|(name, entry)| spend(name.len() + variables::weight(entry)))
            }
            Self::Map(Map::Made(map)) => map.iter().try_for_each(|(name, entry)| {
                *left = left.checked_sub(name.len())?;
                entry.weigh(left)
            }),
            // Joined and decoded they are no longer than this.
            Self::Map(Map::Headers(headers)) => {
                headers.iter().try_for_each(|(name, value)| spend(variables::EACH + name.as_bytes().len() + value.len()))
            }
            Self::Map(Map::Query(query)) => spend(variables::EACH + query.len()),
            Self::Map(Map::Captures(captures)) => {
                captures.segments.iter().try_for_each(|(name, value)| spend(variables::EACH + name.len() + value.len()))
            }
            // Bounded where it was read.
            Self::Map(Map::Certificate(_)) => spend(variables::EACH),
        }
    }

    /// Returns whether two values are equal; `spend` is called before each comparison.
    pub(super) fn equals(
        &self,
        other: &Self,
        spend: &mut impl FnMut(usize) -> Result<(), EvaluationError>,
    ) -> Result<bool, EvaluationError> {
        spend(1)?;
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => Ok(left == right),
            (Self::Text(left), Self::Text(right)) => {
                spend(left.len().min(right.len()) / 64)?;
                Ok(left == right)
            }
            (Self::List(left), Self::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right.iter()) {
                    if !left?.equals(&right?, spend)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Self::Map(left), Self::Map(right)) => {
                let names = left.names()?;
                if names.len() != right.names()?.len() {
                    return Ok(false);
                }
                for name in names {
                    spend(1)?;
                    match (left.get(&name)?, right.get(&name)?) {
                        (Some(left), Some(right)) if left.equals(&right, spend)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            _ => match self.compare_numbers(other) {
                Some(ordering) => Ok(ordering == Ordering::Equal),
                None => Err(self.mismatch("==", other)),
            },
        }
    }

    /// Returns the order of two numbers or two texts.
    pub(super) fn compare(&self, operation: &'static str, other: &Self) -> Result<Ordering, EvaluationError> {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => Ok(left.cmp(right)),
            _ => self.compare_numbers(other).ok_or_else(|| self.mismatch(operation, other)),
        }
    }

    fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        Some(match (self.as_double(), other.as_double(), self.as_whole(), other.as_whole()) {
            (_, _, Some(left), Some(right)) => left.cmp(&right),
            (Some(left), Some(right), ..) => left.partial_cmp(&right)?,
            (Some(left), _, _, Some(right)) => compare_whole(right, left).reverse(),
            (_, Some(right), Some(left), _) => compare_whole(left, right),
            _ => return None,
        })
    }

    const fn as_double(&self) -> Option<f64> {
        if let Self::Double(number) = self { Some(*number) } else { None }
    }

    const fn as_whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(*number as i128),
            Self::Large(number) => Some(*number as i128),
            Self::Bool(_) | Self::Double(_) | Self::Text(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    pub(super) fn mismatch(&self, operation: &'static str, other: &Self) -> EvaluationError {
        EvaluationError::Mismatch { operation, left: self.kind().article(), right: other.kind().article() }
    }
}

/// Compares by value, without converting the whole number to a fraction.
fn compare_whole(whole: i128, fraction: f64) -> Ordering {
    let trunk = fraction.trunc();
    // `as` saturates, far beyond any whole number there is here.
    whole.cmp(&(trunk as i128)).then_with(|| 0.0_f64.partial_cmp(&(fraction - trunk)).unwrap_or(Ordering::Equal))
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(list) => list.len(),
            Self::Texts(list) => list.len(),
            Self::Made(list) => list.len(),
        }
    }

    /// Returns the element at an index that is within the list.
    pub(super) fn get(&self, index: usize) -> Result<Value<'a>, EvaluationError> {
        let element = match self {
            Self::Json(list) => list.get(index).and_then(Value::of_json),
            Self::Texts(list) => list.get(index).map(|text| Value::Text(Cow::Borrowed(text))),
            Self::Made(list) => list.get(index).cloned(),
        };
        element.ok_or_else(|| EvaluationError::Absent("the element of a list".into()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvaluationError>> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl<'a> Map<'a> {
    /// Returns the value of this name, if there is one. Names of header fields are case-insensitive.
    pub(super) fn get(&self, name: &str) -> Result<Option<Value<'a>>, EvaluationError> {
        Ok(match self {
            Self::Claims(claims) => claims.get(name).and_then(Value::of_json),
            Self::Json(map) => map.get(name).and_then(Value::of_json),
            Self::Certificate(certificate) => CertificateField::named(name).and_then(|field| field.of(certificate)),
            Self::Headers(headers) => facts::header(headers, name)?,
            Self::Query(query) => facts::parameter(query, name)?,
            Self::Captures(captures) => facts::capture(captures, name)?,
            Self::Made(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()),
        })
    }

    /// Returns the names, each once.
    pub(super) fn names(&self) -> Result<Vec<Cow<'a, str>>, EvaluationError> {
        Ok(match self {
            Self::Claims(claims) => {
                claims.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| Cow::Borrowed(name)).collect()
            }
            Self::Json(map) => {
                map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| Cow::Borrowed(name.as_str())).collect()
            }
            Self::Certificate(certificate) => {
                let says = |name: &&str| CertificateField::named(name).is_some_and(|field| field.of(certificate).is_some());
                CertificateField::NAMES.into_iter().filter(says).map(Cow::Borrowed).collect()
            }
            Self::Headers(headers) => headers.distinct_names().map(|name| Cow::Borrowed(name.as_str())).collect(),
            Self::Query(query) => facts::parameter_names(query)?,
            Self::Captures(captures) => captures.segments.iter().map(|(name, _)| Cow::Borrowed(&**name)).collect(),
            Self::Made(entries) => entries.iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// Returns the number of bytes that a lookup may have to read through.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Query(query) => query.len(),
            Self::Made(entries) => entries.len() * 8,
            Self::Claims(_) | Self::Json(_) | Self::Headers(_) | Self::Captures(_) | Self::Certificate(_) => 0,
        }
    }
}

// Claims and header values are personal data and no part of any log.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().article())
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Kind::List.article())
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Kind::Map.article())
    }
}

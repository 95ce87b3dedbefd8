//! A value of the config that may be an expression.

use http::HeaderValue;

use super::{EvaluationError, Expression, Facts, Uses};
use crate::{
    base::buffers,
    settings::{Faults, Place},
};

/// A literal text, or an expression that makes one.
#[derive(Clone)]
pub(crate) enum Template {
    /// The text itself.
    Literal(Box<str>),
    /// `@(…)`
    Expression(Box<Expression>),
}

// A text may be a secret.
impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal"),
            Self::Expression(expression) => expression.fmt(f),
        }
    }
}

impl Template {
    /// Reads a value; an expression is the whole value, as in API Management. Faults go to `faults`.
    ///
    /// `tokens` are the names of tokens besides `token`.
    pub(crate) fn build(text: &str, tokens: &[Box<str>], place: &Place, faults: &mut Faults) -> Option<Self> {
        match expression_in(text) {
            Ok(None) => Some(Self::Literal(text.into())),
            Ok(Some(inner)) => {
                let expression = parsed(Expression::parse_knowing(inner, tokens), place, faults)?;
                Some(Self::Expression(Box::new(expression)))
            }
            Err((message, cure)) => {
                faults.error(place, message, cure);
                None
            }
        }
    }

    /// Returns the data that an expression reads; none for a text.
    pub(crate) fn uses(&self) -> Uses {
        match self {
            Self::Literal(_) => Uses::default(),
            Self::Expression(expression) => expression.uses(),
        }
    }
}

/// Reads a condition, `@(…)`, that is true or false. Faults go to `faults`.
pub(crate) fn condition(text: &str, tokens: &[Box<str>], place: &Place, faults: &mut Faults) -> Option<Expression> {
    match expression_in(text) {
        Ok(Some(inner)) => parsed(Expression::parse_knowing(inner, tokens).and_then(Expression::into_condition), place, faults),
        Ok(None) => {
            faults.error(place, format!("`{text}` is not an expression"), "write the condition as \"@(…)\"");
            None
        }
        Err((message, cure)) => {
            faults.error(place, message, cure);
            None
        }
    }
}

fn parsed(result: Result<Expression, super::ExpressionError>, place: &Place, faults: &mut Faults) -> Option<Expression> {
    match result {
        Ok(expression) => Some(expression),
        Err(error) => {
            // The column is counted in the value as it is written, `@(` included.
            let column = error.column + 2;
            let message = format!("at column {column} of the expression: {}", error.message);
            if error.unknown_name {
                faults.missing(place, message, error.cure);
            } else {
                faults.error(place, message, error.cure);
            }
            None
        }
    }
}

/// Returns the text between `@(` and its closing parenthesis, if the text is an expression.
fn expression_in(text: &str) -> Result<Option<&str>, (String, String)> {
    // A block of text ends with a line end.
    let trimmed = text.trim_end();
    if trimmed.starts_with("@{") {
        let message = "statements in `@{…}` are not supported".to_owned();
        return Err((message, "write one expression, as @(token.claims.oid)".to_owned()));
    }
    let Some(inner) = trimmed.strip_prefix("@(") else {
        if trimmed.contains("@(") {
            let message = format!("`{text}` mixes text and an expression, and an expression is the whole value");
            return Err((message, "write it as @(\"text \" + token.claims.oid)".to_owned()));
        }
        return Ok(None);
    };
    match closing(inner) {
        Some(end) if end + 1 == inner.len() => Ok(Some(&inner[..end])),
        Some(_) => {
            let message = format!("`{text}` goes on after the expression, and an expression is the whole value");
            Err((
                message,
                "join texts within it with +, as @(token.claims.given_name + \" \" + token.claims.family_name)".to_owned(),
            ))
        }
        // The last bracket does not close the first one, as in `@(lower(request.path)` or `@('open)`: the parser tells the place.
        None => match inner.strip_suffix(')') {
            Some(inner) => Ok(Some(inner)),
            None => Err((format!("`{text}` has no closing bracket"), "write it as @(…)".to_owned())),
        },
    }
}

/// Returns the position of the parenthesis that closes the one opened before the text. Quoted texts, their escapes included, and
/// comments are skipped.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth > 0 => depth -= 1,
            b')' => return Some(at),
            b'"' | b'\'' => at = after_quoted(bytes, at)?,
            b'/' if bytes[at..].starts_with(b"//") => at += text[at..].find('\n')?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns the last byte of the quoted text that begins at `start`; three quotes open a text that only three close, and after the
/// prefix `r` there are no escapes.
fn after_quoted(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let width = if triple { 3 } else { 1 };
    let mut at = start + width;
    while at < bytes.len() {
        if bytes[at] == b'\\' && !raw {
            at += 2;
        } else if bytes[at..].starts_with(&[quote; 3][..width]) {
            return Some(at + width - 1);
        } else {
            at += 1;
        }
    }
    None
}

/// The error of a value that no backend could tell from none.
pub(crate) const EMPTY: EvaluationError = EvaluationError::Unfit("the value is the empty text");

/// The reason why a value cannot stand in a header field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderTextError {
    /// The expression has no value.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The value is a list or an object.
    #[error("the value is a list or an object; only join(list, separator) makes a list a text")]
    NotText,
    /// The value could be read as more than one field, or as another value.
    #[error("the value begins or ends with a space, or has control characters")]
    Unclean,
}

/// Returns the value of an expression as a header field value: one line, without control characters, and without spaces around it
/// that a reader would cut off.
pub(crate) fn header_value(expression: &Expression, facts: &Facts<'_>) -> Result<HeaderValue, HeaderTextError> {
    let text = expression.evaluate(facts)?.into_text().map_err(|_| HeaderTextError::NotText)?;
    field_value(&text)
}

/// Checks that an expression has a value for a header field, which is not the empty text.
pub(crate) fn judged_value(expression: &Expression, facts: &Facts<'_>) -> Result<(), HeaderTextError> {
    let text = expression.evaluate(facts)?.into_text().map_err(|_| HeaderTextError::NotText)?;
    clean(&text)?;
    if text.is_empty() { Err(EMPTY.into()) } else { Ok(()) }
}

fn clean(text: &str) -> Result<(), HeaderTextError> {
    let printable = |byte: &u8| (b' '..=b'~').contains(byte);
    let clean = if text.as_bytes().iter().all(printable) {
        !text.starts_with(' ') && !text.ends_with(' ')
    } else {
        !text.chars().any(char::is_control) && text.trim() == text
    };
    if clean { Ok(()) } else { Err(HeaderTextError::Unclean) }
}

/// Returns a text as the value of a header field.
pub(crate) fn field_value(text: &str) -> Result<HeaderValue, HeaderTextError> {
    clean(text)?;
    HeaderValue::from_maybe_shared(buffers::bytes(text.as_bytes())).map_err(|_| HeaderTextError::Unclean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an expression's column and fault, or the text that is parsed.
    fn read(text: &str) -> Result<&str, String> {
        let inner = expression_in(text).map_err(|(message, _)| message)?.expect("an expression");
        Expression::parse(inner).map_err(|fault| format!("{}: {}", fault.column, fault.message))?;
        Ok(inner)
    }

    #[test]
    fn an_expression_ends_with_the_bracket_that_closes_it() {
        for (text, expected) in [
            ("@(request.path)", Ok("request.path")),
            ("@((request.path) + ')')\n", Ok("(request.path) + ')'")),
            // It isn't over in a comment.
            ("@(request.path // (isn't it?\n + ' (' // a\n)", Ok("request.path // (isn't it?\n + ' (' // a\n")),
            ("@(request.path // all of it)", Ok("request.path // all of it")),
            ("@(lower(request.path)", Err("19: the expression ends where an operator, `,` or `)` is expected")),
            ("@('CONTOSO\\' + request.path)", Err("1: the text that begins here has no closing '")),
            ("@(request.headers['x-a)", Err("17: the text that begins here has no closing '")),
            ("@(request.path", Err("`@(request.path` has no closing bracket")),
        ] {
            assert_eq!(read(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}

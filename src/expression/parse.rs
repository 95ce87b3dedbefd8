//! Parsing of text into CEL's syntax tree, within bounds.

use cel::{
    Env,
    common::ast::{IdedExpr, SourceInfo},
};

use super::{ExpressionError, limits};

/// Refuses a text that is too long to be parsed.
pub(super) fn bounded(text: &str) -> Result<(), ExpressionError> {
    if text.len() > limits::LENGTH {
        return Err(too_much(format!("the expression is longer than {} bytes", limits::LENGTH)));
    }
    // Quotes and the text between them count too: telling them apart is the parser's business.
    if text.bytes().filter(u8::is_ascii_punctuation).count() > limits::SIGNS {
        return Err(too_much(format!("the expression has more than {} signs", limits::SIGNS)));
    }
    Ok(())
}

/// Parses an expression; its names are resolved later.
pub(super) fn parse(text: &str) -> Result<(IdedExpr, SourceInfo), ExpressionError> {
    // Without macros, so that `has` and `exists` stay the calls they are written as, and their rules are ours.
    Env::default()
        .with_optional_support(false)
        .parser()
        .max_recursion_depth(limits::NESTING)
        .error_recovery_limit(1)
        .parse_with_source_info(text)
        .map_err(|errors| {
            let first = errors.errors.into_iter().next();
            let (column, message) = first.map_or((1, "the expression cannot be read".to_owned()), |error| {
                let column = column_of_line(text, error.pos);
                (column, error.msg.trim_start_matches("Syntax error: ").to_owned())
            });
            ExpressionError { column, message, cure: "expressions are written in CEL, as @(token.claims.oid)".to_owned() }
        })
}

fn too_much(message: String) -> ExpressionError {
    ExpressionError { column: 1, message, cure: "write several smaller ones".to_owned() }
}

/// Converts the parser's line and column, counted from 1, to a position in characters of the whole expression.
fn column_of_line(text: &str, (line, column): (isize, isize)) -> usize {
    let before = usize::try_from(line - 1).unwrap_or(0);
    let lines: usize = text.split_inclusive('\n').take(before).map(|line| line.chars().count()).sum();
    lines + usize::try_from(column).unwrap_or(1).max(1)
}

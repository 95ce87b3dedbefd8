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
                (column, in_words(error.msg.trim_start_matches("Syntax error: ")))
            });
            ExpressionError { column, message, cure: of_api_management(text), unknown_name: false }
        })
}

/// Returns the parser's finding, without the list of all that its grammar would allow.
fn in_words(message: &str) -> String {
    let found = |opening: &str| {
        let rest = message.strip_prefix(opening)?;
        Some(rest.split(" expecting ").next().unwrap_or(rest).trim().trim_matches('\'').to_owned())
    };
    let unexpected = found("extraneous input ").or_else(|| found("mismatched input "));
    if let Some(input) = unexpected {
        return if input == "<EOF>" {
            "something is missing at the end".to_owned()
        } else {
            format!("`{input}` does not fit here")
        };
    }
    if let Some(input) = found("no viable alternative at input ") {
        return format!("`{input}` cannot be read");
    }
    if let Some(input) = found("token recognition error at: ") {
        return format!("`{input}` has no meaning");
    }
    if let Some((wanted, input)) = message.strip_prefix("missing ").and_then(|rest| rest.split_once(" at ")) {
        return format!("{} is missing before `{}`", wanted.replace('\'', "`"), input.trim_matches('\''));
    }
    message.split(" expecting ").next().unwrap_or(message).to_owned()
}

/// The cure of an expression that cannot be read; for one of API Management, what is written for it here.
pub(super) fn of_api_management(text: &str) -> String {
    const FORMS: [(&str, &str); 13] = [
        ("context.Request.Headers", "request.headers[\"x-name\"], and has(request.headers[\"x-name\"]) for whether it is there"),
        ("context.Request.MatchedParameters", "captures.name, with {name} in the route's path"),
        ("context.Request.IpAddress", "caller.address"),
        ("context.Request.Url.Query", "request.query[\"name\"]"),
        ("context.Request.OriginalUrl.Scheme", "request.scheme"),
        ("context.Request.OriginalUrl", "request.url, request.host, request.path"),
        ("context.Request.Url", "request.path, request.host"),
        ("context.Request.Method", "request.method"),
        ("context.Request.Certificate", "caller.certificate"),
        ("context.Response.StatusCode", "response.status"),
        ("context.Response.Headers", "response.headers[\"x-name\"]"),
        ("context.LastError", "error.code, in `on-error`"),
        (
            "context.Variables",
            "variables.name, which a `set-variable` before sets, and has(variables.name) for whether it is there",
        ),
    ];
    let form = FORMS.iter().find(|(theirs, _)| text.contains(theirs));
    match form {
        Some((theirs, ours)) => format!("this is C#, and expressions are CEL: for `{theirs}` write {ours}"),
        None if text.contains("AsJwt") || text.contains("Jwt)") => {
            "this is C#, and expressions are CEL: write token.claims.name for what a token policy has validated".to_owned()
        }
        None if text.contains("context.") || text.contains("=>") || text.contains("new ") => {
            "this is C#, and expressions are CEL, as @(token.claims.oid)".to_owned()
        }
        None => "expressions are written in CEL, as @(token.claims.oid)".to_owned(),
    }
}

fn too_much(message: String) -> ExpressionError {
    ExpressionError { column: 1, message, cure: "write several smaller ones".to_owned(), unknown_name: false }
}

/// Converts the parser's line and column, counted from 1, to a position in characters of the whole expression.
fn column_of_line(text: &str, (line, column): (isize, isize)) -> usize {
    let before = usize::try_from(line - 1).unwrap_or(0);
    let lines: usize = text.split_inclusive('\n').take(before).map(|line| line.chars().count()).sum();
    lines + usize::try_from(column).unwrap_or(1).max(1)
}

//! Parsing of text into the syntax tree, within bounds, and the faults of what cannot be parsed.

use super::{
    ExpressionError, limits,
    syntax::{self, Expr},
};

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
pub(super) fn parse(text: &str) -> Result<Expr<'_>, ExpressionError> {
    syntax::parse(text).map_err(|fault| ExpressionError {
        column: column(text, fault.at),
        message: fault.message,
        cure: of_api_management(text).or(fault.cure).unwrap_or_else(|| of_language(text).to_owned()),
        unknown_name: false,
    })
}

/// Returns the column of a byte, counted in characters from 1.
pub(super) fn column(text: &str, at: usize) -> usize {
    text.char_indices().take_while(|(index, _)| *index < at).count() + 1
}

/// Returns the cure of an expression of API Management: what is written for it here.
pub(super) fn of_api_management(text: &str) -> Option<String> {
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
    if let Some((theirs, ours)) = FORMS.iter().find(|(theirs, _)| text.contains(theirs)) {
        return Some(format!("this is C#, and expressions are CEL: for `{theirs}` write {ours}"));
    }
    if text.contains("AsJwt") || text.contains("Jwt)") {
        return Some(
            "this is C#, and expressions are CEL: write token.claims.name for what a token policy has validated".to_owned(),
        );
    }
    text.contains("context.").then(|| C_SHARP.to_owned())
}

const C_SHARP: &str = "this is C#, and expressions are CEL, as @(token.claims.oid)";

/// Returns the cure of an expression that cannot be read, where nothing more is known.
fn of_language(text: &str) -> &'static str {
    if text.contains("=>") || text.contains("new ") { C_SHARP } else { "expressions are written in CEL, as @(token.claims.oid)" }
}

fn too_much(message: String) -> ExpressionError {
    ExpressionError { column: 1, message, cure: "write several smaller ones".to_owned(), unknown_name: false }
}

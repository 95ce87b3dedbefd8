//! The operands of expressions: what they are in a request, and what they could be for a condition to hold.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::{
    candidates::{Candidate, MOST, Refused},
    describe::is_credential,
    entry::policy_at,
    token::FoundPlace,
    variant::Change,
};
use crate::{
    base::clock::Clock,
    expression::{Expression, Facts},
    inbound::PolicyConfig,
    offline::Outcome,
    refusal::Reason,
    settings::Place,
};

/// The candidates for one condition.
const MOST_TRIED: usize = 64;

/// An operand of an expression, and its value in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) path: String,
    /// `None` if it is absent, or cannot be evaluated.
    pub(crate) value: Option<String>,
    /// The texts that it is or holds, and that may be shown.
    texts: Vec<String>,
}

static PATHS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\b[a-z_][a-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*|\["[^"\\]*"\]|\['[^'\\]*'\])+"#)
        .expect("a pattern that is tested")
});
static TEXTS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""([^"\\]*)"|'([^'\\]*)'"#).expect("a pattern that is tested"));
static CLAIM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^([a-z_][a-z0-9_]*)\.claims(?:\.([A-Za-z0-9_]+)|\["([^"]+)"\]|\['([^']+)'\])$"#)
        .expect("a pattern that is tested")
});
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^request\.(headers|query)(?:\.([A-Za-z0-9_]+)|\["([^"]+)"\]|\['([^']+)'\])$"#)
        .expect("a pattern that is tested")
});

/// Returns the texts of an expression, with their bytes; those that name a member, as `["dept"]` after a word does, are none.
fn texts(expression: &str) -> impl Iterator<Item = regex::Match<'_>> {
    let names_member = |start: usize| {
        let mut before = expression[..start].chars().rev();
        before.next() == Some('[') && before.next().is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    };
    TEXTS.find_iter(expression).filter(move |text| !names_member(text.start()))
}

/// Returns the paths that an expression reads.
fn paths(expression: &str) -> Vec<String> {
    // What stands in a text is no path.
    let mut bare = expression.to_owned();
    for text in texts(expression) {
        bare.replace_range(text.range(), &" ".repeat(text.len()));
    }
    let mut found: Vec<String> = Vec::new();
    for path in PATHS.find_iter(&bare) {
        // A call is no operand: `token.claims.name.startsWith(…)` reads `token.claims.name`.
        let called = bare[path.end()..].trim_start().starts_with('(');
        let text = if called { path.as_str().rsplit_once('.').map_or("", |(path, _)| path) } else { path.as_str() };
        if text.contains(['.', '[']) && !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
    }
    found
}

/// Returns the operands of an expression with their values in a request.
pub(crate) fn operands(expression: &str, outcome: &Outcome) -> Vec<Operand> {
    let Some(request) = &outcome.incoming else { return Vec::new() };
    let clock = Clock::manual(outcome.now);
    let facts = Facts {
        request,
        caller: outcome.caller.as_ref().map_or([0, 0, 0, 0].into(), |caller| caller.address),
        certificate: None,
        token: outcome.token.as_deref(),
        partner: outcome.partner.as_deref(),
        named_tokens: &outcome.named_tokens,
        captures: &outcome.captures,
        route: outcome.route.as_deref(),
        status: None,
        response_headers: None,
        error: None,
        scheme: request.scheme,
        id: &outcome.id,
        variables: &outcome.variables,
        clock: &clock,
        known: None,
    };
    let names: Vec<Box<str>> = outcome.named_tokens.iter().map(|token| (*token.name).into()).collect();
    let operand = |path: String| {
        let expression = Expression::parse_knowing(&path, &names).ok();
        match expression.as_ref().and_then(|expression| expression.evaluate(&facts).ok()) {
            None => Operand { value: None, texts: Vec::new(), path },
            Some(_) if may_be_secret(&path) => Operand { value: Some("***".to_owned()), texts: Vec::new(), path },
            Some(value) => Operand { value: Some(in_words(&value)), texts: texts_in(&value), path },
        }
    };
    paths(expression).into_iter().map(operand).collect()
}

/// Returns the texts that a value is, or holds.
fn texts_in(value: &crate::expression::Value<'_>) -> Vec<String> {
    use crate::expression::{List, Value as Found};
    match value {
        Found::Text(text) => vec![text.to_string()],
        Found::List(List::Texts(texts)) => texts.iter().map(ToString::to_string).collect(),
        Found::List(List::Json(values)) => values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Returns whether the value may hold a credential: a field or parameter of such a name, or what contains all of them.
fn may_be_secret(path: &str) -> bool {
    let named = NAMED.captures(path).and_then(|named| named.get(2).or(named.get(3)).or(named.get(4)));
    named.map_or(matches!(path, "request.headers" | "request.query" | "request.query_string" | "request.url"), |name| {
        is_credential(name.as_str()) || matches!(name.as_str(), "sig" | "code" | "key")
    })
}

/// Writes a value as people read it.
fn in_words(value: &crate::expression::Value<'_>) -> String {
    use crate::expression::{List, Value as Found};
    match value {
        Found::Bool(value) => value.to_string(),
        Found::Int(value) => value.to_string(),
        Found::Large(value) => value.to_string(),
        Found::Double(value) => value.to_string(),
        Found::Text(value) => value.to_string(),
        Found::List(List::Texts(texts)) => texts.join(", "),
        Found::List(List::Json(values)) => {
            let words = values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            words.collect::<Vec<_>>().join(", ")
        }
        Found::List(List::Made(_)) | Found::Map(_) => "a list or a map".to_owned(),
    }
}

/// Returns candidates for a condition that does not hold, or a value that is not there.
pub(super) fn candidates(refused: &Refused<'_>, reason: Reason) -> Vec<Candidate> {
    if !matches!(reason, Reason::NotAuthorized | Reason::HeaderValueUnavailable) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for expression in expressions(refused).into_iter().map(|expression| with_variables(refused, expression)) {
        let operands = operands(&expression, refused.outcome);
        let mut literals = literals(&expression);
        literals.push("value".to_owned());
        // A missing operand comes first: with it alone the expression may be evaluated. Then those that the caller chooses.
        let mut order: Vec<_> = operands.iter().collect();
        order.sort_by_key(|operand| (operand.value.is_some(), !is_of_caller(&operand.path)));
        for operand in order {
            // What it is compared with may be another operand.
            let of_others = others_in_words(&operands, operand, &expression);
            for text in of_others.iter().take(MOST).chain(literals.iter().take(MOST)) {
                found.extend(setting(refused, operand, text));
            }
            found.extend(truth(refused, operand));
        }
    }
    found.truncate(MOST_TRIED);
    found
}

/// Returns whether a fact is one that the caller chooses, and no administrator.
fn is_of_caller(path: &str) -> bool {
    ["request.", "captures.", "caller."].iter().any(|of_caller| path.starts_with(of_caller))
}

/// Returns the texts of the other operands, in the other cases, too, where the expression changes the case.
fn others_in_words(operands: &[Operand], own: &Operand, expression: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in operands.iter().filter(|other| other.path != own.path).flat_map(|other| &other.texts) {
        let lower = expression.contains("lower(").then(|| text.to_lowercase());
        let upper = expression.contains("upper(").then(|| text.to_uppercase());
        for text in [Some(text.clone()), lower, upper].into_iter().flatten() {
            if !found.contains(&text) && own.value.as_ref() != Some(&text) {
                found.push(text);
            }
        }
    }
    found
}

/// Returns an expression with the values of variables in place of their names, as the policies before have set them: what they were made
/// of are the facts that may be changed.
fn with_variables(refused: &Refused<'_>, expression: String) -> String {
    /// The nesting of variables that are made of variables.
    const DEEPEST: usize = 4;
    static VARIABLE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bvariables\s*\.\s*([a-z][a-z0-9_]*)").expect("a valid pattern"));
    let places = refused.outcome.steps.iter().rev().filter_map(|step| step.place.as_ref());
    let set: Vec<_> = places
        .filter_map(|place| match policy_at(refused.config(), place) {
            Some(PolicyConfig::SetVariable(config)) => Some(config),
            _ => None,
        })
        .collect();
    let mut expression = expression;
    for _ in 0..DEEPEST {
        let replaced = VARIABLE.replace_all(&expression, |found: &regex::Captures<'_>| {
            let Some(config) = set.iter().find(|config| config.name == found[1]) else { return found[0].to_owned() };
            match config.value.strip_prefix("@(").and_then(|inner| inner.strip_suffix(')')) {
                Some(inner) => format!("({inner})"),
                None => format!("'{}'", config.value.replace(['\'', '\\'], "")),
            }
        });
        if replaced == expression {
            break;
        }
        expression = replaced.into_owned();
    }
    expression
}

/// Returns the expressions of the entry that refused.
fn expressions(refused: &Refused<'_>) -> Vec<String> {
    match refused.policy() {
        Some(PolicyConfig::Authorize(config)) => vec![config.condition.clone()],
        Some(PolicyConfig::Choose(branches)) => branches.iter().filter_map(|branch| branch.when.clone()).collect(),
        Some(PolicyConfig::SetHeader(config)) => {
            let values = config.value.iter().chain(&config.values);
            values.filter_map(|value| value.plain().map(str::to_owned)).collect()
        }
        Some(PolicyConfig::SetQueryParameter(config)) => config.value.iter().chain(&config.values).cloned().collect(),
        Some(PolicyConfig::RewriteUri(config)) => vec![config.template.clone()],
        _ => identity_header(refused).into_iter().collect(),
    }
}

/// Returns the value of an entry of `identity-headers`, as an expression.
fn identity_header(refused: &Refused<'_>) -> Option<String> {
    let (route, name) = identity_header_at(refused.outcome.place.as_ref()?)?;
    let header = refused.config().routes.get(route)?.identity_headers.get(&name)?;
    header.claim.as_ref().map(|claim| format!("token.claims[\"{claim}\"]")).or_else(|| header.value.clone())
}

fn identity_header_at(place: &Place) -> Option<(usize, String)> {
    let mut parts = place.pointer().split('/').skip(1);
    let (routes, index) = (parts.next()?, parts.next()?);
    (routes == "routes" && parts.next()? == "identity-headers").then_some(())?;
    Some((index.parse().ok()?, parts.next()?.replace("~1", "/").replace("~0", "~")))
}

/// Returns the texts of an expression, without their quotation marks.
fn literals(expression: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in texts(expression) {
        let text = text.as_str();
        let inner = &text[1..text.len() - 1];
        if !found.iter().any(|known| known == inner) {
            found.push(inner.to_owned());
        }
    }
    found
}

/// Returns the change that gives an operand this value.
fn setting(refused: &Refused<'_>, operand: &Operand, literal: &str) -> Option<Candidate> {
    let from = operand.value.clone().unwrap_or_else(|| "absent".to_owned());
    let make = |change: Change, who: &str| Some(Candidate::new(&operand.path, &from, literal, change, who));
    let text = Value::from(literal);
    if let Some((token, claim)) = claim_of(&operand.path) {
        let place = place_of(refused, token)?;
        let present = refused.variant.token(std::slice::from_ref(&place)).and_then(|token| token.claims.get(claim));
        let value = match present {
            Some(Value::Array(entries)) => entries.iter().cloned().chain([text]).collect(),
            None if matches!(claim, "roles" | "groups" | "wids" | "amr") => json!([literal]),
            _ => text,
        };
        return make(
            Change::Claim(place, claim.to_owned(), Some(value)),
            "an administrator of the tenant, then the caller with a new token",
        );
    }
    if let Some(named) = NAMED.captures(&operand.path) {
        let name = named.get(2).or(named.get(3)).or(named.get(4))?.as_str().to_owned();
        return match &named[1] {
            "headers" => make(Change::Header(name, Some(literal.to_owned())), "the caller"),
            _ => make(Change::Parameter(name, literal.to_owned()), "the caller"),
        };
    }
    match operand.path.as_str() {
        "request.method" => make(Change::Method(literal.to_owned()), "the caller"),
        "request.host" => make(Change::Host(literal.to_owned()), "the caller"),
        path if path.starts_with("captures.") => {
            let to = with_capture(refused, path.trim_start_matches("captures."), literal)?;
            Some(Candidate::new("path", path_of(refused), &to, Change::Path(to.clone()), "the caller"))
        }
        "request.path" if literal.starts_with('/') => make(Change::Path(literal.to_owned()), "the caller"),
        "caller.address" => literal.parse().ok().and_then(|address| make(Change::Caller(address), "the caller")),
        path => {
            let (token, field) = path.split_once('.')?;
            let place = place_of(refused, token)?;
            let present = refused.variant.token(std::slice::from_ref(&place))?;
            let who = "an administrator of the tenant, then the caller with a new token";
            match field {
                "roles" => {
                    let roles = present.claims.get("roles").and_then(Value::as_array).cloned().unwrap_or_default();
                    let roles = roles.into_iter().chain([text]).collect();
                    make(Change::Claim(place, "roles".to_owned(), Some(roles)), who)
                }
                "scopes" => {
                    let has = present.claims.get("scp").and_then(Value::as_str).unwrap_or_default();
                    make(Change::Claim(place, "scp".to_owned(), Some(format!("{has} {literal}").trim().into())), who)
                }
                "subject" => make(Change::Claim(place, "sub".to_owned(), Some(text)), who),
                "client" => {
                    let claim = ["azp", "appid", "client_id"].into_iter().find(|claim| present.claims.contains_key(*claim))?;
                    make(Change::Claim(place, claim.to_owned(), Some(text)), who)
                }
                _ => None,
            }
        }
    }
}

fn path_of<'r>(refused: &Refused<'r>) -> &'r str {
    refused.variant.request().target.split('?').next().unwrap_or_default()
}

/// Returns the path of the request with another text in the place of a capture.
fn with_capture(refused: &Refused<'_>, name: &str, text: &str) -> Option<String> {
    let matches = &refused.config().routes.get(refused.outcome.route_index?)?.matches;
    let pattern = matches.path.as_ref().or(matches.exact_path.as_ref())?;
    let at =
        pattern.split('/').position(|segment| segment.strip_prefix('{').and_then(|it| it.strip_suffix('}')) == Some(name))?;
    let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut segments: Vec<&str> = path_of(refused).split('/').collect();
    *segments.get_mut(at)? = if text.bytes().all(is_unreserved) { text } else { &encoded };
    Some(segments.join("/"))
}

/// Returns whether a byte stands in a path as it is (RFC 3986, section 2.3).
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns the change that makes a claim true.
fn truth(refused: &Refused<'_>, operand: &Operand) -> Option<Candidate> {
    let (token, claim) = claim_of(&operand.path)?;
    let change = Change::Claim(place_of(refused, token)?, claim.to_owned(), Some(true.into()));
    let from = operand.value.clone().unwrap_or_else(|| "absent".to_owned());
    Some(Candidate::new(&operand.path, from, "true", change, "an administrator of the tenant, then the caller with a new token"))
}

fn claim_of(path: &str) -> Option<(&str, &str)> {
    let found = CLAIM.captures(path)?;
    Some((found.get(1)?.as_str(), found.get(2).or(found.get(3)).or(found.get(4))?.as_str()))
}

/// Returns the place of the token that an expression calls so.
fn place_of(refused: &Refused<'_>, token: &str) -> Option<FoundPlace> {
    let named = refused.outcome.named_tokens.iter().find(|named| *named.name == *token).map(|named| &named.place);
    let place = named.or(refused.outcome.token_place.as_ref().filter(|_| token == "token"))?;
    let place = match place {
        crate::request::TokenPlace::Header(name) => FoundPlace::Header(name.as_str().to_owned(), String::new()),
        crate::request::TokenPlace::Query(name) => FoundPlace::Query(name.to_string()),
    };
    refused.variant.token(&[place]).map(|token| token.place.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operands_and_texts_of_a_condition_are_found() {
        let condition = "@(token.claims[\"extn.dept\"] == \"sales\" && request.path.startsWith(\"/a\") || 'x' in token.roles)";

        assert_eq!(paths(condition), ["token.claims[\"extn.dept\"]", "request.path", "token.roles"]);
        assert_eq!(paths("@(request.headers['x-team'] == 'a.b')"), ["request.headers['x-team']"]);
        assert_eq!(claim_of("token.claims['extn.dept']"), Some(("token", "extn.dept")));
        assert_eq!(literals(condition), ["sales", "/a", "x"]);
    }

    #[test]
    fn an_identity_header_is_named_by_its_place() {
        let place = Place::from("/routes/3/identity-headers/X-Groups".to_owned());
        assert_eq!(identity_header_at(&place), Some((3, "X-Groups".to_owned())));
        assert_eq!(identity_header_at(&Place::from("/routes/3/inbound/0".to_owned())), None);
    }
}

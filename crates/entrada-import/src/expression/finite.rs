//! The values of an expression that has only a few: each with the condition under which it is the value.

use super::{
    Holds, Scope, Translator,
    value::{Cel, literal_of},
};
use crate::csharp::{self, Code, Expr, ExprKind, Piece, Refusal, Statement};

/// The maximum number of values.
pub(crate) const MOST_CASES: usize = 16;
/// The longest condition and text of a value together.
const LONGEST: usize = 4_000;

/// A value, and the condition under which it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// The condition; `true` if the value is the only one.
    pub(crate) condition: Cel,
    pub(crate) text: Vec<Piece>,
}

/// Returns the values of an expression, if they can be enumerated. The conditions exclude each other.
pub(crate) fn cases(text: &str, scope: &Scope) -> Result<Vec<Case>, Refusal> {
    let code = csharp::parse(text)?;
    let mut finder = Finder { translator: Translator::new(scope), scope, locals: Vec::new() };
    let found = match &code {
        Code::Expression(expr) => finder.of(expr),
        Code::Block(statements) => finder.block(&statements.iter().collect::<Vec<_>>(), 0),
    };
    found.map(|mut cases| {
        cases.iter_mut().for_each(|case| join(&mut case.text));
        cases
    })
}

/// Returns the CEL that picks one of the keys by the conditions of the cases, and the empty text if none holds.
pub(crate) fn key_of_cases(cases: &[Case], keys: &[String]) -> Cel {
    let is_either = matches!(cases, [first, second] if second.condition == first.condition.not());
    let mut pairs: Vec<_> = cases.iter().zip(keys).collect();
    let last = if is_either {
        pairs.pop().map_or_else(|| super::literal(""), |(_, key)| super::literal(key))
    } else {
        super::literal("")
    };
    pairs.into_iter().rev().fold(last, |rest, (case, key)| Cel::conditional(&case.condition, &super::literal(key), &rest))
}

struct Finder<'s> {
    translator: Translator<'s>,
    scope: &'s Scope,
    locals: Vec<(String, Vec<Case>)>,
}

fn not_finite(at: usize) -> Refusal {
    Refusal::new("backend-not-finite", "its values cannot be enumerated", at)
}

fn one(text: Vec<Piece>) -> Vec<Case> {
    vec![Case { condition: Cel::primary("true"), text }]
}

impl Finder<'_> {
    fn of(&mut self, expr: &Expr) -> Result<Vec<Case>, Refusal> {
        match &*expr.kind {
            ExprKind::Text(pieces) => self.pieces(pieces, expr.at),
            ExprKind::Int(number) => Ok(one(vec![Piece::Text(number.to_string())])),
            ExprKind::Cast(_, inner) => self.of(inner),
            ExprKind::Binary("+", left, right) => {
                let (left, right) = (self.of(left)?, self.of(right)?);
                product(&left, &right, expr.at)
            }
            ExprKind::Conditional(condition, then, otherwise) => {
                let condition = self.translator.bool(condition)?;
                let (then, otherwise) = (self.of(then)?, self.of(otherwise)?);
                choice(&condition, then, otherwise, expr.at)
            }
            ExprKind::Name(name) => {
                let found = self.locals.iter().rev().find(|(own, _)| own == name);
                found.map(|(_, cases)| cases.clone()).ok_or_else(|| not_finite(expr.at))
            }
            ExprKind::Index { of, index, .. } if is_variables(of) => self.variable(index, None, expr.at),
            ExprKind::Call { function, arguments, .. } => self.call(function, arguments, expr),
            ExprKind::Member { .. } => {
                let plain = self.translator.plain(expr)?;
                constant(&plain.cel.text).map(one).ok_or_else(|| not_finite(expr.at))
            }
            _ => Err(not_finite(expr.at)),
        }
    }

    fn call(&mut self, function: &Expr, arguments: &[Expr], expr: &Expr) -> Result<Vec<Case>, Refusal> {
        let ExprKind::Member { of, name, .. } = &*function.kind else { return Err(not_finite(expr.at)) };
        let is_string = matches!(&*of.kind, ExprKind::Name(name) if name == "string" || name == "String");
        match (name.as_str(), arguments) {
            ("GetValueOrDefault", [key, rest @ ..]) if is_variables(of) => self.variable(key, rest.first(), expr.at),
            ("ToString" | "Trim", []) => self.of(of),
            ("Concat", parts) if is_string => {
                let mut joined = one(Vec::new());
                for part in parts {
                    let part = self.of(part)?;
                    joined = product(&joined, &part, expr.at)?;
                }
                Ok(joined)
            }
            ("Format", [format, arguments @ ..]) if is_string => self.format(format, arguments, expr.at),
            _ => Err(not_finite(expr.at)),
        }
    }

    fn format(&mut self, format: &Expr, arguments: &[Expr], at: usize) -> Result<Vec<Case>, Refusal> {
        let ExprKind::Text(pieces) = &*format.kind else { return Err(not_finite(at)) };
        let mut joined = one(Vec::new());
        for piece in pieces {
            let Piece::Text(text) = piece else {
                joined = product(&joined, &one(vec![piece.clone()]), at)?;
                continue;
            };
            for (index, part) in text.split('{').enumerate() {
                if index == 0 {
                    joined = product(&joined, &one(vec![Piece::Text(part.to_owned())]), at)?;
                    continue;
                }
                let (number, rest) = part.split_once('}').ok_or_else(|| not_finite(at))?;
                let argument =
                    number.parse::<usize>().ok().and_then(|index| arguments.get(index)).ok_or_else(|| not_finite(at))?;
                let value = self.of(argument)?;
                joined = product(&joined, &value, at)?;
                joined = product(&joined, &one(vec![Piece::Text(rest.to_owned())]), at)?;
            }
        }
        Ok(joined)
    }

    fn pieces(&mut self, pieces: &[Piece], at: usize) -> Result<Vec<Case>, Refusal> {
        let mut joined = one(Vec::new());
        for piece in pieces {
            let part = match piece {
                Piece::Hole(expr) => self.of(expr)?,
                Piece::Named(name) if self.scope.secrets.contains(name) => return Err(not_finite(at)),
                literal => one(vec![literal.clone()]),
            };
            joined = product(&joined, &part, at)?;
        }
        Ok(joined)
    }

    fn variable(&mut self, key: &Expr, default: Option<&Expr>, at: usize) -> Result<Vec<Case>, Refusal> {
        let name = Translator::literal_text(key).ok_or_else(|| not_finite(at))?;
        let Some(variable) = self.scope.variables.get(&name) else {
            let unset = Refusal::new("variable-not-set", format!("no policy before sets `{name}`"), at);
            return Err(unset);
        };
        if let Holds::Nothing(refusal) = &variable.holds {
            return Err(refusal.clone());
        }
        let texts = variable.texts.clone().filter(|texts| !texts.is_empty()).ok_or_else(|| not_finite(at))?;
        let path = Cel::primary(format!("variables.{}", variable.name));
        let mut cases = Vec::with_capacity(texts.len());
        for text in &texts {
            let value = literal_of(text).ok_or_else(|| not_finite(at))?;
            // Where it may not have been set, the comparison asks for it: without a value there is no backend.
            let is_certain = texts.len() == 1 && (default.is_some() || !variable.unset && !variable.null);
            let condition = if is_certain { Cel::primary("true") } else { path.relation("==", &value) };
            cases.push(Case { condition, text: text.clone() });
        }
        match default {
            Some(default) if variable.unset || variable.null => {
                let default = self.of(default)?;
                choice(&path.call("has", &[]), cases, default, at)
            }
            _ => Ok(cases),
        }
    }

    fn block(&mut self, statements: &[&Statement], depth: usize) -> Result<Vec<Case>, Refusal> {
        if depth > MOST_CASES {
            return Err(not_finite(0));
        }
        for (index, statement) in statements.iter().enumerate() {
            match statement {
                Statement::Return(expr) => return self.of(expr),
                Statement::Assign { name, value: Some(value), .. } => {
                    let cases = self.of(value)?;
                    self.locals.push((name.clone(), cases));
                }
                Statement::Assign { value: None, .. } => {}
                Statement::If { condition, then, otherwise } => {
                    let condition = self.translator.bool(condition)?;
                    let rest = &statements[index + 1..];
                    let mut branch = |own: &[Statement]| {
                        let before = self.locals.clone();
                        let statements: Vec<&Statement> = own.iter().chain(rest.iter().copied()).collect();
                        let cases = self.block(&statements, depth + 1);
                        self.locals = before;
                        cases
                    };
                    let (then, otherwise) = (branch(then)?, branch(otherwise)?);
                    return choice(&condition, then, otherwise, 0);
                }
            }
        }
        Err(not_finite(0))
    }
}

/// Returns the text of a literal of CEL.
fn constant(cel: &str) -> Option<Vec<Piece>> {
    if let Some(name) = cel.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
        return Some(vec![Piece::Named(name.to_owned())]);
    }
    let inner = cel.strip_prefix('\'')?.strip_suffix('\'')?;
    (!inner.contains(['\\', '\''])).then(|| vec![Piece::Text(inner.to_owned())])
}

fn is_variables(expr: &Expr) -> bool {
    matches!(&*expr.kind, ExprKind::Member { name, .. } if name == "Variables")
}

fn product(left: &[Case], right: &[Case], at: usize) -> Result<Vec<Case>, Refusal> {
    let longest = |cases: &[Case]| cases.iter().map(|case| case.condition.text.len() + 8 * case.text.len()).max().unwrap_or(0);
    if left.len() * right.len() > MOST_CASES || longest(left) + longest(right) > LONGEST {
        return Err(not_finite(at));
    }
    let pairs = left.iter().flat_map(|first| right.iter().map(move |second| (first, second)));
    let joined = pairs.map(|(first, second)| Case {
        condition: first.condition.and(&second.condition),
        text: first.text.iter().chain(&second.text).cloned().collect(),
    });
    Ok(joined.collect())
}

fn choice(condition: &Cel, then: Vec<Case>, otherwise: Vec<Case>, at: usize) -> Result<Vec<Case>, Refusal> {
    if then.len() + otherwise.len() > MOST_CASES {
        return Err(not_finite(at));
    }
    let then = then.into_iter().map(|case| Case { condition: condition.and(&case.condition), ..case });
    let otherwise = otherwise.into_iter().map(|case| Case { condition: condition.not().and(&case.condition), ..case });
    Ok(then.chain(otherwise).collect())
}

/// Joins texts that stand side by side.
fn join(pieces: &mut Vec<Piece>) {
    let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces.drain(..) {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
            (_, Piece::Text(text)) if text.is_empty() => {}
            (_, piece) => joined.push(piece),
        }
    }
    *pieces = joined;
}

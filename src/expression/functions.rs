//! The functions on evaluated arguments.

use std::borrow::Cow;

use super::{
    evaluate::{Evaluator, OUT_OF_RANGE},
    node::{Function, Kind},
    text as texts,
    value::{EvaluationError, List, Map, Value},
};

/// Calls a function; [`check`](super::check) has counted its arguments.
pub(super) fn call<'a>(
    function: Function,
    arguments: Vec<Value<'a>>,
    evaluator: &mut Evaluator<'_, 'a>,
) -> Result<Value<'a>, EvaluationError> {
    let mut arguments = arguments.into_iter();
    let mut next = || arguments.next().ok_or(EvaluationError::Unfit("an argument is missing"));
    match function {
        Function::Lower => {
            let text = text(next()?)?;
            evaluator.spend(text.len() / 16)?;
            evaluator.made(lower(&text))
        }
        Function::Upper => {
            let text = text(next()?)?;
            evaluator.spend(text.len() / 16)?;
            evaluator.made(upper(&text))
        }
        Function::Split => {
            let (whole, separator) = (text(next()?)?, text(next()?)?);
            split(&whole, &separator, evaluator)
        }
        Function::Join => {
            let (list, separator) = (next()?, text(next()?)?);
            match list {
                Value::List(list) => join(&list, &separator, evaluator),
                other => Err(EvaluationError::kind("what is joined", Kind::List, &other)),
            }
        }
        Function::StartsWith | Function::EndsWith | Function::Contains => {
            let (whole, part) = (text(next()?)?, text(next()?)?);
            evaluator.spend((whole.len() + part.len()) / 64)?;
            Ok(Value::Bool(match function {
                Function::StartsWith => whole.starts_with(&*part),
                Function::EndsWith => whole.ends_with(&*part),
                _ => whole.contains(&*part),
            }))
        }
        Function::Size => size(&next()?, evaluator),
        Function::Text => {
            let value = next()?;
            match value.into_text()? {
                Cow::Borrowed(text) => Ok(Value::Text(Cow::Borrowed(text))),
                Cow::Owned(text) => evaluator.made(text),
            }
        }
        Function::Int => whole_number(next()?),
        Function::Double => fraction(next()?),
        Function::Bool => match next()? {
            Value::Bool(value) => Ok(Value::Bool(value)),
            Value::Text(text) if text == "true" => Ok(Value::Bool(true)),
            Value::Text(text) if text == "false" => Ok(Value::Bool(false)),
            Value::Text(_) => Err(EvaluationError::Unfit("a text is neither `true` nor `false`")),
            other => Err(EvaluationError::kind("what bool() converts", Kind::Text, &other)),
        },
        Function::Replace => {
            let (whole, part, by) = (text(next()?)?, text(next()?)?, text(next()?)?);
            texts::replace(whole, &part, &by, evaluator)
        }
        Function::Trim => texts::trim(text(next()?)?, evaluator),
        Function::Substring => {
            let (whole, start) = (text(next()?)?, index(next()?)?);
            let end = next().ok().map(index).transpose()?;
            texts::substring(whole, start, end, evaluator)
        }
        Function::IndexOf => {
            let (whole, part) = (text(next()?)?, text(next()?)?);
            texts::index_of(&whole, &part, evaluator)
        }
        Function::Last => match next()? {
            Value::List(list) => match list.len().checked_sub(1) {
                Some(index) => evaluator.account(list.get(index)?),
                None => Err(EvaluationError::Absent("the last element of a list".into())),
            },
            other => Err(EvaluationError::kind("what has a last element", Kind::List, &other)),
        },
        Function::Values => match next()? {
            list @ Value::List(_) => Ok(list),
            map @ Value::Map(_) => Err(EvaluationError::kind("what values() lists", Kind::List, &map)),
            one => Ok(Value::List(List::Made([one].into()))),
        },
        Function::Base64 => texts::base64(&text(next()?)?, evaluator),
        Function::Base64Decode => texts::base64_decode(&text(next()?)?, evaluator),
        Function::UrlEncode => texts::url_encode(&text(next()?)?, evaluator),
        Function::Uuid => texts::uuid(evaluator),
        Function::Now => Ok(Value::Int(i64::try_from(evaluator.now()).map_err(|_| OUT_OF_RANGE)?)),
    }
}

fn index(value: Value<'_>) -> Result<i64, EvaluationError> {
    match value {
        Value::Int(number) => Ok(number),
        other => Err(EvaluationError::kind("a position within a text", Kind::Int, &other)),
    }
}

fn text(value: Value<'_>) -> Result<Cow<'_, str>, EvaluationError> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(EvaluationError::kind("an argument", Kind::Text, &other)),
    }
}

/// Lower-cases a text, except letters beyond ASCII that would become ASCII ones: U+212A, the Kelvin sign, would be `k`, and one
/// user would be another.
fn lower(text: &str) -> String {
    fold(text, |letter| letter.to_ascii_lowercase(), char::to_lowercase)
}

/// Upper-cases a text, under the same rule: `ı` would be `I`, and `ß` would be `SS`.
fn upper(text: &str) -> String {
    fold(text, |letter| letter.to_ascii_uppercase(), char::to_uppercase)
}

fn fold<I: Iterator<Item = char> + Clone>(text: &str, ascii: fn(&char) -> char, wide: fn(char) -> I) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            folded.push(ascii(&letter));
            continue;
        }
        let changed = wide(letter);
        if changed.clone().any(|letter| letter.is_ascii()) {
            folded.push(letter);
        } else {
            folded.extend(changed);
        }
    }
    folded
}

fn split<'a>(whole: &Cow<'a, str>, separator: &str, evaluator: &mut Evaluator<'_, 'a>) -> Result<Value<'a>, EvaluationError> {
    if separator.is_empty() {
        return Err(EvaluationError::Unfit("the separator is empty"));
    }
    evaluator.spend(whole.len() / 64)?;
    let mut list = Vec::new();
    match whole {
        Cow::Borrowed(whole) => {
            for part in whole.split(separator) {
                evaluator.spend(1)?;
                list.push(Value::Text(Cow::Borrowed(part)));
            }
        }
        Cow::Owned(whole) => {
            for part in whole.split(separator) {
                evaluator.spend(1)?;
                list.push(evaluator.made(part.to_owned())?);
            }
        }
    }
    Ok(Value::List(List::Made(list.into())))
}

/// Returns whether a reader that splits a joined list could take the element for two, or for the end of one and the beginning of
/// another: it contains a character of the separator. The spaces of `, ` are ignored, since readers that split at `,` trim; where
/// the separator is only whitespace, any whitespace separates.
pub(crate) fn could_be_two(element: &str, separator: &str) -> bool {
    match separator.trim() {
        "" => !separator.is_empty() && element.contains(char::is_whitespace),
        visible => element.contains(|letter| visible.contains(letter)),
    }
}

fn join<'a>(list: &List<'a>, separator: &str, evaluator: &mut Evaluator<'_, 'a>) -> Result<Value<'a>, EvaluationError> {
    let mut joined = String::new();
    for (index, element) in list.iter().enumerate() {
        let element = element?.into_text()?;
        evaluator.spend(1 + element.len() / 64)?;
        if element.is_empty() || element.trim() != &*element {
            return Err(EvaluationError::Unfit("an element of the list that is joined is empty, or has blanks around it"));
        }
        if could_be_two(&element, separator) {
            return Err(EvaluationError::Unfit("an element contains the separator of the joined list"));
        }
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&element);
        if joined.len() > super::limits::TEXT {
            return Err(EvaluationError::Cost("the text it may make"));
        }
    }
    evaluator.made(joined)
}

fn size<'a>(value: &Value<'a>, evaluator: &mut Evaluator<'_, 'a>) -> Result<Value<'a>, EvaluationError> {
    let size = match value {
        Value::Text(text) => {
            evaluator.spend(text.len() / 64)?;
            text.chars().count()
        }
        Value::List(list) => list.len(),
        Value::Map(map) => {
            evaluator.spend(map.weight())?;
            match map {
                Map::Made(entries) => entries.len(),
                map => map.names()?.len(),
            }
        }
        other => return Err(EvaluationError::kind("what has a size", Kind::Text, other)),
    };
    Ok(Value::Int(i64::try_from(size).map_err(|_| OUT_OF_RANGE)?))
}

fn whole_number(value: Value<'_>) -> Result<Value<'_>, EvaluationError> {
    match value {
        Value::Int(number) => Ok(Value::Int(number)),
        Value::Large(_) => Err(OUT_OF_RANGE),
        Value::Double(number) => {
            let trunk = number.trunc();
            // The bounds are exact powers of two, so nothing within them is out of range.
            if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&trunk) {
                Ok(Value::Int(trunk as i64))
            } else {
                Err(OUT_OF_RANGE)
            }
        }
        Value::Text(text) => text.parse().map(Value::Int).map_err(|_| EvaluationError::Unfit("a text is not a whole number")),
        other => Err(EvaluationError::kind("what int() converts", Kind::Text, &other)),
    }
}

fn fraction(value: Value<'_>) -> Result<Value<'_>, EvaluationError> {
    let number = match value {
        Value::Double(number) => number,
        Value::Int(number) => number as f64,
        Value::Large(number) => number as f64,
        Value::Text(text) => text.parse::<f64>().map_err(|_| EvaluationError::Unfit("a text is not a number"))?,
        other => return Err(EvaluationError::kind("what double() converts", Kind::Text, &other)),
    };
    if number.is_finite() { Ok(Value::Double(number)) } else { Err(OUT_OF_RANGE) }
}

//! The functions that make texts of texts. No result is made that the evaluation may not hold.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::{
    evaluate::{Evaluator, OUT_OF_RANGE},
    value::{EvaluationError, Value},
};

type Evaluated<'a> = Result<Value<'a>, EvaluationError>;

/// The characters that `url_encode` escapes: all but the unreserved ones (RFC 3986, section 2.3).
pub(super) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Replaces every occurrence of a part.
pub(super) fn replace<'a>(whole: Cow<'a, str>, part: &str, by: &str, evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    if part.is_empty() {
        return Err(EvaluationError::Unfit("the part to be replaced is empty"));
    }
    evaluator.spend((whole.len() + part.len()) / 16)?;
    let count = whole.matches(part).count();
    if count == 0 {
        return Ok(Value::Text(whole));
    }
    evaluator.may_make((whole.len() - count * part.len()).saturating_add(count.saturating_mul(by.len())))?;
    evaluator.made(whole.replace(part, by))
}

/// Removes white space at both ends.
pub(super) fn trim<'a>(whole: Cow<'a, str>, evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    evaluator.spend(whole.len() / 64)?;
    let start = whole.len() - whole.trim_start().len();
    let end = start + whole.trim().len();
    part(whole, start, end, evaluator)
}

/// Returns the characters from `start` up to `end`, which is not included; without it up to the end of the text.
pub(super) fn substring<'a>(
    whole: Cow<'a, str>,
    start: i64,
    end: Option<i64>,
    evaluator: &mut Evaluator<'_, 'a>,
) -> Evaluated<'a> {
    evaluator.spend(whole.len() / 16)?;
    let begin = position(&whole, start)?;
    let end = end.map_or(Ok(whole.len()), |end| position(&whole, end))?;
    if begin > end {
        return Err(OUT_OF_RANGE);
    }
    part(whole, begin, end, evaluator)
}

/// Returns the position of a part, in characters; -1 if the text does not contain it.
pub(super) fn index_of<'a>(whole: &str, part: &str, evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    evaluator.spend((whole.len() + part.len()) / 16)?;
    let index = whole.find(part).map_or(Ok(-1), |at| i64::try_from(whole[..at].chars().count()));
    Ok(Value::Int(index.map_err(|_| OUT_OF_RANGE)?))
}

/// Encodes in base64: RFC 4648, section 4.
pub(super) fn base64<'a>(text: &str, evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    evaluator.spend(text.len() / 16)?;
    evaluator.may_make(text.len().div_ceil(3).saturating_mul(4))?;
    evaluator.made(STANDARD.encode(text))
}

/// Decodes base64 of a text.
pub(super) fn base64_decode<'a>(text: &str, evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    evaluator.spend(text.len() / 16)?;
    evaluator.may_make(text.len() / 4 * 3)?;
    let bytes = STANDARD.decode(text).map_err(|_| EvaluationError::Unfit("a text is not base64"))?;
    evaluator.made(String::from_utf8(bytes).map_err(|_| EvaluationError::Unfit("what is in base64 is not a text"))?)
}

/// Escapes a text so that it is one part of a URL.
pub(super) fn url_encode<'a>(text: &str, evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    evaluator.spend(text.len() / 16)?;
    evaluator.may_make(text.len())?;
    let encoded = utf8_percent_encode(text, RESERVED);
    evaluator.may_make(encoded.clone().map(str::len).sum())?;
    evaluator.made(encoded.collect())
}

/// Returns a random UUID.
pub(super) fn uuid<'a>(evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    // A system call, which is worth a few steps.
    evaluator.spend(64)?;
    evaluator.made(Uuid::new_v4().to_string())
}

/// Returns the byte at which the character of this index begins; the end of the text is one, too.
fn position(whole: &str, index: i64) -> Result<usize, EvaluationError> {
    let index = usize::try_from(index).map_err(|_| OUT_OF_RANGE)?;
    whole.char_indices().map(|(at, _)| at).chain([whole.len()]).nth(index).ok_or(OUT_OF_RANGE)
}

fn part<'a>(whole: Cow<'a, str>, start: usize, end: usize, evaluator: &mut Evaluator<'_, 'a>) -> Evaluated<'a> {
    match whole {
        Cow::Borrowed(whole) => Ok(Value::Text(Cow::Borrowed(&whole[start..end]))),
        Cow::Owned(whole) => evaluator.made(whole[start..end].to_owned()),
    }
}

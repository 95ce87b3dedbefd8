//! Encoding of values as header field lines, so that a reader sees exactly the signed value.

use std::borrow::Cow;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::expression::{EvaluationError, HeaderTextError, List, Value, could_be_two, field_value};

/// The characters that `percent` escapes besides those beyond ASCII: its own sign, which makes escapes distinguishable.
const PERCENT: &AsciiSet = &CONTROLS.add(b'%');

/// All characters except `attr-char` (RFC 8187, section 3.2.1).
const EXTENDED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The encoding of a list. Without it, the value is one text, number or boolean, and a list is refused.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// On one line, with `separator` between the elements. An element that contains a character of the separator is refused.
    Joined,
    /// One line for each element. An element that contains a comma is refused, since lines may be joined on the way.
    Repeated,
    /// As JSON, objects too, in ASCII.
    Json,
}

/// The encoding of characters beyond ASCII.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum NonAscii {
    /// Unchanged, in UTF-8.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Percent-encoded UTF-8; `%` too, so that every value can be decoded.
    #[serde(rename = "percent")]
    Percent,
    /// Every value as an extended one, `UTF-8''…`, including those in ASCII (RFC 8187, section 3.2).
    #[serde(rename = "rfc8187")]
    Rfc8187,
    /// Not at all: the value is refused.
    #[serde(rename = "refuse")]
    Refuse,
}

/// The form of a value.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) encoding: Option<Encoding>,
    pub(super) separator: Box<str>,
    pub(super) non_ascii: NonAscii,
}

/// The reason why a value cannot be written. Names kinds, never the value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unencodable {
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error("the value is a list, and no `encoding` is configured")]
    List,
    #[error("the value is an object, which only `encoding: json` writes")]
    Object,
    #[error("an element of the list is absent, empty, or not a text, number or boolean")]
    Element,
    #[error("an element contains the separator")]
    Separator,
    #[error("the value has control characters, or begins or ends with a space")]
    Unclean,
    #[error("the value has letters beyond ASCII, which `non-ascii: refuse` refuses")]
    NonAscii,
}

impl From<HeaderTextError> for Unencodable {
    fn from(error: HeaderTextError) -> Self {
        match error {
            HeaderTextError::Evaluation(error) => Self::Evaluation(error),
            HeaderTextError::NotText => Self::Object,
            HeaderTextError::Unclean => Self::Unclean,
        }
    }
}

impl Form {
    /// Returns the lines of the field; none for an empty text or list, which counts as absent.
    pub(super) fn lines(&self, value: Value<'_>) -> Result<Vec<HeaderValue>, Unencodable> {
        match self.encoding {
            None => match value {
                Value::List(_) => Err(Unencodable::List),
                Value::Map(_) => Err(Unencodable::Object),
                value => match &*value.into_text()? {
                    "" => Ok(Vec::new()),
                    text => Ok(vec![self.line(text)?]),
                },
            },
            Some(Encoding::Json) => {
                let json = value.into_json()?;
                check_clean(&json)?;
                Ok(vec![self.line(&ascii(&json.to_string()))?])
            }
            Some(Encoding::Joined) => {
                let elements = elements(value, &self.separator)?;
                if elements.is_empty() { Ok(Vec::new()) } else { Ok(vec![self.line(&elements.join(&self.separator))?]) }
            }
            Some(Encoding::Repeated) => elements(value, ",")?.iter().map(|element| self.line(element)).collect(),
        }
    }

    /// Makes one line. Characters that a reader would cut off or take for the end of the line are refused, not escaped.
    fn line(&self, text: &str) -> Result<HeaderValue, Unencodable> {
        let plain = field_value(text)?;
        let written: Cow<'_, str> = match self.non_ascii {
            NonAscii::Utf8 => return Ok(plain),
            NonAscii::Refuse if !text.is_ascii() => return Err(Unencodable::NonAscii),
            NonAscii::Refuse => return Ok(plain),
            NonAscii::Percent => utf8_percent_encode(text, PERCENT).into(),
            NonAscii::Rfc8187 => format!("UTF-8''{}", utf8_percent_encode(text, EXTENDED)).into(),
        };
        Ok(field_value(&written)?)
    }
}

/// Returns the elements of a list, or a single value as a list of one.
fn elements(value: Value<'_>, separator: &str) -> Result<Vec<String>, Unencodable> {
    let texts: Vec<String> = match value {
        Value::List(list) => texts(&list)?,
        Value::Map(_) => return Err(Unencodable::Object),
        value => vec![value.into_text()?.into_owned()],
    };
    for text in &texts {
        if text.is_empty() {
            return Err(Unencodable::Element);
        }
        if could_be_two(text, separator) {
            return Err(Unencodable::Separator);
        }
        field_value(text)?;
    }
    Ok(texts)
}

fn texts(list: &List<'_>) -> Result<Vec<String>, Unencodable> {
    // What is absent in a list is a list that cannot be written, not a claim that is absent.
    list.iter().map(|element| element.and_then(Value::into_text).map(Cow::into_owned).map_err(|_| Unencodable::Element)).collect()
}

/// Checks that no text within has control characters. JSON would escape them, and its reader would restore them.
fn check_clean(json: &Json) -> Result<(), Unencodable> {
    let clean = |text: &str| if text.chars().any(char::is_control) { Err(Unencodable::Unclean) } else { Ok(()) };
    match json {
        Json::String(text) => clean(text),
        Json::Array(list) => list.iter().try_for_each(check_clean),
        Json::Object(map) => map.iter().try_for_each(|(name, value)| clean(name).and_then(|()| check_clean(value))),
        Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
    }
}

/// Returns JSON in ASCII. Other characters occur only within its texts, where an escape means the same (RFC 8259, section 7).
fn ascii(json: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{Expression, tests::World};

    fn form(encoding: Option<Encoding>, separator: &str, non_ascii: NonAscii) -> Form {
        Form { encoding, separator: separator.into(), non_ascii }
    }

    fn written(form: &Form, source: &str) -> Result<Vec<String>, Unencodable> {
        let world = World::new();
        let expression = Expression::parse(source).expect(source);
        let lines = form.lines(expression.evaluate(&world.facts())?)?;
        Ok(lines.iter().map(|line| String::from_utf8(line.as_bytes().to_vec()).expect("UTF-8")).collect())
    }

    #[test]
    fn values_are_written_as_the_config_says() {
        use Encoding::{Joined, Json, Repeated};
        let plain = NonAscii::Utf8;
        for (encoding, separator, non_ascii, source, expected) in [
            (None, ",", plain, "token.claims.oid", &["0f0f"][..]),
            (None, ",", plain, "token.claims.level", &["5"]),
            (None, ",", plain, "token.claims.yes", &["true"]),
            (None, ",", plain, "token.claims.umlaut", &["M\u{dc}LLER"]),
            (None, ",", plain, "'CONTOSO\\\\' + lower(token.claims.upn)", &["CONTOSO\\ada@contoso.example"]),
            (None, ",", NonAscii::Percent, "token.claims.umlaut", &["M%C3%9CLLER"]),
            (None, ",", NonAscii::Percent, "'100%'", &["100%25"]),
            (None, ",", NonAscii::Rfc8187, "token.claims.umlaut", &["UTF-8''M%C3%9CLLER"]),
            // Otherwise a user of this very name would be taken for another one.
            (None, ",", NonAscii::Rfc8187, "\"UTF-8''root\"", &["UTF-8''UTF-8%27%27root"]),
            (None, ",", NonAscii::Refuse, "token.claims.oid", &["0f0f"]),
            (Some(Joined), ",", plain, "token.claims.groups", &["g1,g2"]),
            (Some(Joined), "; ", plain, "token.claims.groups", &["g1; g2"]),
            (Some(Joined), ",", plain, "token.claims.oid", &["0f0f"]),
            (Some(Joined), ",", plain, "token.claims.none", &[]),
            (Some(Joined), "|", plain, "token.claims.comma", &["a,b|c"]),
            (Some(Joined), ", ", plain, "['Domain Users', 'b']", &["Domain Users, b"]),
            (Some(Joined), ",", plain, "token.claims.mixed", &["a,1"]),
            (Some(Joined), ",", NonAscii::Rfc8187, "token.claims.groups", &["UTF-8''g1%2Cg2"]),
            (Some(Repeated), ",", plain, "token.claims.groups", &["g1", "g2"]),
            (Some(Repeated), ",", plain, "token.claims.none", &[]),
            (Some(Json), ",", plain, "token.claims.groups", &[r#"["g1","g2"]"#]),
            (Some(Json), ",", plain, "token.claims.umlaut", &["\"M\\u00dcLLER\""]),
            (Some(Json), ",", plain, "'\u{1f600}'", &["\"\\ud83d\\ude00\""]),
            (Some(Json), ",", plain, "token.claims.address", &[r#"{"street":"Main","zip":null}"#]),
            (Some(Json), ",", plain, "token.scopes", &[r#"["Orders.Read","Mail.Read"]"#]),
            (Some(Json), ",", plain, "['a', 1, true]", &[r#"["a",1,true]"#]),
        ] {
            let lines = written(&form(encoding, separator, non_ascii), source).expect(source);
            assert_eq!(lines, expected, "{encoding:?} {separator:?} {non_ascii:?} {source}");
        }
    }

    #[test]
    fn what_could_be_read_as_something_else_refuses() {
        use Encoding::{Joined, Json, Repeated};
        let plain = NonAscii::Utf8;
        for (encoding, separator, non_ascii, source, expected) in [
            (None, ",", plain, "token.claims.groups", Unencodable::List),
            (None, ",", plain, "token.claims.address", Unencodable::Object),
            (None, ",", plain, "token.claims.line", Unencodable::Unclean),
            (None, ",", plain, "token.claims.padded", Unencodable::Unclean),
            (None, ",", plain, "'c1\\u0085'", Unencodable::Unclean),
            (None, ",", NonAscii::Percent, "token.claims.line", Unencodable::Unclean),
            (None, ",", NonAscii::Rfc8187, "token.claims.line", Unencodable::Unclean),
            (None, ",", NonAscii::Refuse, "token.claims.umlaut", Unencodable::NonAscii),
            (Some(Joined), ",", plain, "token.claims.comma", Unencodable::Separator),
            (Some(Joined), ", ", plain, "token.claims.comma", Unencodable::Separator),
            (Some(Joined), ",", plain, "'a,b'", Unencodable::Separator),
            (Some(Joined), "||", plain, "['Admins|', 'Users']", Unencodable::Separator),
            (Some(Joined), "||", plain, "['|Admins', 'Users']", Unencodable::Separator),
            (Some(Joined), " - ", plain, "['a-b']", Unencodable::Separator),
            (Some(Joined), " ", plain, "['Domain Users']", Unencodable::Separator),
            (Some(Joined), " ", plain, "['Domain\u{2003}Users']", Unencodable::Separator),
            (Some(Joined), ",", plain, "['\u{a0}a']", Unencodable::Unclean),
            (Some(Joined), ",", plain, "token.claims.holes", Unencodable::Element),
            (Some(Joined), ",", plain, "['', 'a']", Unencodable::Element),
            (Some(Joined), ",", plain, "[['a']]", Unencodable::Element),
            (Some(Joined), ",", plain, "[' a']", Unencodable::Unclean),
            (Some(Joined), ",", plain, "['a\\r\\nb']", Unencodable::Unclean),
            (Some(Joined), ",", plain, "token.claims.address", Unencodable::Object),
            (Some(Repeated), ",", plain, "token.claims.comma", Unencodable::Separator),
            (Some(Json), ",", plain, "token.claims.line", Unencodable::Unclean),
            (Some(Json), ",", plain, "['a\\u007f']", Unencodable::Unclean),
        ] {
            let refused = written(&form(encoding, separator, non_ascii), source).expect_err(source);
            assert_eq!(refused, expected, "{encoding:?} {separator:?} {non_ascii:?} {source}");
        }
    }
}

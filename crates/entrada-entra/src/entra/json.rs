//! Strict JSON for tokens and key sets: no duplicate member, at any level, and bounded depth.
//!
//! RFC 7519, section 4, lets a reader take the last of two members with one name. Two readers of one token could then see two
//! tokens, so duplicates are refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting that any token, key set or metadata document needs, with room to spare.
const MAX_DEPTH: usize = 12;

/// An error: the text is not a JSON object, or not a strict one. Gives the position, never the content.
#[derive(Debug, thiserror::Error)]
#[error("not a strict JSON object (line {line}, column {column}): {what}")]
pub struct NotStrict {
    line: usize,
    column: usize,
    what: &'static str,
}

impl NotStrict {
    pub(super) fn of(error: &serde_json::Error) -> Self {
        Self { line: error.line(), column: error.column(), what: describe(error) }
    }
}

/// Reads one JSON object: UTF-8, nothing after it, no duplicate member.
///
/// # Errors
/// Says where the first fault stands, and what it is.
pub fn read_object(bytes: &[u8]) -> Result<Map<String, Value>, NotStrict> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| NotStrict::of(&error))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(NotStrict { line: 1, column: 1, what: "not an object" }),
    }
}

pub(super) const TWICE: &str = "a member stands twice";
const TOO_DEEP: &str = "nested too deep";

/// Returns the error's kind. The error's own text could repeat the input.
fn describe(error: &serde_json::Error) -> &'static str {
    let text = error.to_string();
    [TWICE, TOO_DEEP].into_iter().find(|known| text.starts_with(known)).unwrap_or("malformed")
}

/// A value, deserialised strictly.
pub(super) struct Strict {
    depth: usize,
}

impl Strict {
    /// Makes the seed for a member of the top-level object.
    pub(super) const fn member() -> Self {
        Self { depth: 1 }
    }

    fn deeper<E: Error>(&self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH { Err(E::custom(TOO_DEEP)) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("no finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(self.deeper()?)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.deeper()?)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for (text, fits) in [
            (r#"{"a":1,"b":[true,null,"x",1.5,-2]}"#, true),
            (" {} ", true),
            (r#"{"a":1,"a":1}"#, false),
            (r#"{"tid":1,"t\u0069d":2}"#, false),
            (r#"{"a":{"b":1,"b":2}}"#, false),
            (r#"{"a":[{"b":1,"b":2}]}"#, false),
            (r#"{"a":1}{"a":2}"#, false),
            (r#"{"a":1} x"#, false),
            (r#"[{"a":1}]"#, false),
            ("\"text\"", false),
            ("\u{feff}{}", false),
            (r#"{"a":1e400}"#, false),
            (r#"{"a":NaN}"#, false),
            (r#"{"a":"\ud800"}"#, false),
            (r#"{"a":1,}"#, false),
            (r#"{a:1}"#, false),
            ("", false),
        ] {
            assert_eq!(read_object(text.as_bytes()).is_ok(), fits, "{text}");
        }
        assert!(read_object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn refuses_deep_nesting_without_recursing_far() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));

        assert!(read_object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(read_object(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(read_object(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn tells_where_but_not_what() {
        let error = read_object(br#"{"secret-name":1,"secret-name":2}"#).unwrap_err();

        assert!(error.to_string().contains(TWICE), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_object(&bytes);
        }

        #[test]
        fn agrees_with_serde_json_where_it_accepts(text in r#"\{("[ab]":(0|[1-9][0-9]{0,2}|"x"|\[\]|null)(,"[cd]":(true|\{\}))?)?\}"#) {
            let expected: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Value::Object(read_object(text.as_bytes()).unwrap()), expected);
        }
    }
}

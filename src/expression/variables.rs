//! The variables of a request.

use std::{fmt, sync::Arc};

use serde_json::Value as Json;

/// The most bytes that the variables of a request may hold.
pub(crate) const MOST: usize = 64 * 1024;

/// The variables of a request, in the order they were first set. Takes no memory until one is set.
#[derive(Clone, Default)]
pub struct Variables(Vec<(Arc<str>, Json)>);

// They may hold claims.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Variables {
    /// Returns the value of a variable, if it was set.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    /// Gives a variable a value, in place of an earlier one.
    ///
    /// # Errors
    /// Fails if the variables would exceed their [limit](super::limits::VARIABLES).
    pub(crate) fn set(&mut self, name: &Arc<str>, value: Json) -> Result<(), TooLarge> {
        let others = self.0.iter().filter(|(known, _)| known != name);
        let total = others.map(|(_, value)| weight(value)).sum::<usize>() + weight(&value);
        if total > MOST {
            return Err(TooLarge);
        }
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.clone(), value)),
        }
        Ok(())
    }

    /// Takes the value of a variable away.
    pub(crate) fn unset(&mut self, name: &str) {
        self.0.retain(|(known, _)| **known != *name);
    }
}

/// An error: the variables of a request would hold too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The bytes of a value beside its text.
pub(super) const EACH: usize = 16;

/// Returns about the memory that a value takes, in bytes.
pub(super) fn weight(value: &Json) -> usize {
    EACH + match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text.len(),
        Json::Array(list) => list.iter().map(weight).sum(),
        Json::Object(map) => map.iter().map(|(name, value)| name.len() + weight(value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variable_has_the_value_that_it_was_given_last() {
        let mut variables = Variables::default();
        variables.set(&"tier".into(), json!("gold")).unwrap();
        variables.set(&"tier".into(), json!(2)).unwrap();

        assert_eq!(variables.get("tier"), Some(&json!(2)));
        assert!(variables.get("Tier").is_none());
        variables.unset("tier");
        assert!(variables.get("tier").is_none());
    }

    #[test]
    fn all_variables_together_are_bounded() {
        let mut variables = Variables::default();
        let half = "x".repeat(MOST / 2);

        assert!(variables.set(&"a".into(), json!(half)).is_ok());
        assert_eq!(variables.set(&"b".into(), json!(half)), Err(TooLarge));
        assert!(variables.get("b").is_none());
        // In place of itself it fits again and again.
        assert!(variables.set(&"a".into(), json!(half)).is_ok());
    }

    #[test]
    fn a_value_is_weighed_before_it_is_made() {
        use crate::expression::{List, Map, Value};

        let claim = json!({ "a": ["x".repeat(100), 1, null], "b": { "c": "y".repeat(100) } });
        let list = claim["a"].as_array().unwrap();
        let object = claim.as_object().unwrap();
        let made = Value::List(List::Made(vec![Value::Text("z".repeat(100).into()), Value::Bool(true)].into()));
        for (value, least) in [
            (Value::List(List::Json(list)), 100 + 3 * EACH),
            (Value::Map(Map::Json(object)), 200 + 2 + 1 + 6 * EACH),
            (made, 100 + 2 * EACH),
            (Value::Map(Map::Query("a=1&b=2")), EACH + 7),
        ] {
            assert!(value.fits(least) && !value.fits(least - 1), "{least}");
        }
    }
}

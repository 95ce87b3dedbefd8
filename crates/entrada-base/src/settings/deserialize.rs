//! Deserialises settings from nodes, and reports the place of a value that does not fit.
//!
//! Nodes are read directly. An intermediate document of some library would have every config type compiled for that type as well.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};

use super::{
    fault::Place,
    node::{Key, Kind, Node},
};

/// Reads settings from a node.
///
/// # Errors
/// Returns the first value that does not fit.
pub fn settings<T: DeserializeOwned>(node: &Node) -> Result<T, TypeMismatch> {
    T::deserialize(node)
}

/// A value that does not fit, and its place.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TypeMismatch {
    message: String,
    /// The keys and indexes that lead to it, the last one first.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl TypeMismatch {
    /// Returns the place of the value.
    pub fn place(&self) -> Place {
        self.steps.iter().rev().fold(Place::root(), |place, step| match step {
            Step::Key(key) => place.key(key),
            Step::Index(index) => place.index(*index),
        })
    }

    fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn below_key(self, key: &Key) -> Self {
        self.below(Step::Key(key.text.clone()))
    }
}

impl serde::de::Error for TypeMismatch {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), steps: Vec::new() }
    }
}

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.kind {
            Kind::Null | Kind::Broken => Unexpected::Unit,
            Kind::Bool(value) => Unexpected::Bool(*value),
            Kind::Number(number) => number
                .as_u64()
                .map(Unexpected::Unsigned)
                .or_else(|| number.as_i64().map(Unexpected::Signed))
                .unwrap_or_else(|| Unexpected::Float(number.as_f64().unwrap_or(f64::NAN))),
            Kind::Text(text) => Unexpected::Str(&text.value),
            Kind::List(_) => Unexpected::Seq,
            Kind::Map(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for &Node {
    type Error = TypeMismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeMismatch> {
        match (&self.kind, self.unexpected()) {
            (Kind::List(entries), _) => {
                let mut rest = List { entries: entries.iter(), index: 0 };
                let value = visitor.visit_seq(&mut rest)?;
                if rest.entries.any(is_there) {
                    return Err(TypeMismatch::invalid_length(entries.len(), &"a shorter list"));
                }
                Ok(value)
            }
            (Kind::Map(entries), _) => visitor.visit_map(Map { entries: entries.iter(), current: None }),
            (Kind::Text(text), _) => visitor.visit_str(&text.value),
            (_, Unexpected::Bool(value)) => visitor.visit_bool(value),
            (_, Unexpected::Unsigned(number)) => visitor.visit_u64(number),
            (_, Unexpected::Signed(number)) => visitor.visit_i64(number),
            (_, Unexpected::Float(number)) => visitor.visit_f64(number),
            _ => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeMismatch> {
        if matches!(self.kind, Kind::Null | Kind::Broken) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeMismatch> {
        match &self.kind {
            Kind::Text(word) => {
                let word: StrDeserializer<'_, TypeMismatch> = word.value.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            Kind::Map(entries) => match entries.as_slice() {
                [(key, value)] => visitor.visit_enum(Variant { key, value }),
                _ => Err(TypeMismatch::invalid_value(Unexpected::Map, &"a map with a single key")),
            },
            _ => Err(TypeMismatch::invalid_type(self.unexpected(), &"a text or a map")),
        }
    }

    /// Reads a map alone: a list of a struct's fields by their order is no settings, and its reader would be compiled for each type.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeMismatch> {
        match &self.kind {
            Kind::Map(entries) => visitor.visit_map(Map { entries: entries.iter(), current: None }),
            _ => Err(TypeMismatch::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, TypeMismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeMismatch> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map identifier
    }
}

struct List<'n> {
    entries: std::slice::Iter<'n, Node>,
    /// The number of entries that were read so far.
    index: usize,
}

/// Returns whether an entry of a list counts; entries that were reported already are skipped.
fn is_there(entry: &Node) -> bool {
    !matches!(entry.kind, Kind::Broken)
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = TypeMismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TypeMismatch> {
        let before = self.entries.len();
        let Some(entry) = self.entries.find(|entry| is_there(entry)) else { return Ok(None) };
        self.index += before - self.entries.len();
        let index = self.index - 1;
        seed.deserialize(entry).map(Some).map_err(|misfit| misfit.below(Step::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Map<'n> {
    entries: std::slice::Iter<'n, (Key, Node)>,
    current: Option<&'n (Key, Node)>,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = TypeMismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypeMismatch> {
        self.current = self.entries.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        let name: StrDeserializer<'_, TypeMismatch> = key.text.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|misfit| misfit.below_key(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeMismatch> {
        let Some((key, value)) = self.current.take() else {
            return Err(TypeMismatch::custom("a value was asked for before its key"));
        };
        seed.deserialize(value).map_err(|misfit| misfit.below_key(key))
    }
}

/// A map of one entry as an enum: the key names the variant.
struct Variant<'n> {
    key: &'n Key,
    value: &'n Node,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = TypeMismatch;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), TypeMismatch> {
        let name: StrDeserializer<'_, TypeMismatch> = self.key.text.as_str().into_deserializer();
        Ok((seed.deserialize(name).map_err(|misfit| misfit.below_key(self.key))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = TypeMismatch;

    fn unit_variant(self) -> Result<(), TypeMismatch> {
        match self.value.kind {
            Kind::Null | Kind::Broken => Ok(()),
            _ => Err(TypeMismatch::invalid_type(self.value.unexpected(), &"nothing").below_key(self.key)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TypeMismatch> {
        seed.deserialize(self.value).map_err(|misfit| misfit.below_key(self.key))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, TypeMismatch> {
        self.value.deserialize_any(visitor).map_err(|misfit| misfit.below_key(self.key))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, TypeMismatch> {
        self.value.deserialize_struct("", fields, visitor).map_err(|misfit| misfit.below_key(self.key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::settings::yaml;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Form {
        Plain,
        Text(String),
        Pair(i8, f64),
        Fields { number: u8, size: Option<crate::settings::Size> },
    }

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, TypeMismatch> {
        settings(&yaml::read(text, 0, &mut Vec::new(), &mut Vec::new()))
    }

    #[test]
    fn every_form_of_a_type_is_read() {
        let text =
            "[plain, {plain: }, {text: a}, {pair: [-1, 2]}, {fields: {number: 3, size: 2KiB}}, {fields: {number: 4, size: }}]";

        let forms: Vec<Form> = read(text).expect("all fit");

        let expected = [
            Form::Plain,
            Form::Plain,
            Form::Text("a".to_owned()),
            Form::Pair(-1, 2.0),
            Form::Fields { number: 3, size: Some(crate::settings::Size(2048)) },
            Form::Fields { number: 4, size: None },
        ];
        assert_eq!(forms, expected);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        for (text, place, message) in [
            ("a: [plain, {text: 7}]", "/a/1/text", "invalid type: integer `7`, expected a string"),
            ("a: [{fields: {number: 256}}]", "/a/0/fields/number", "invalid value: integer `256`, expected u8"),
            ("a: [{fields: {}}]", "/a/0/fields", "missing field `number`"),
            ("a: [{fields: {number: 1, size: 5}}]", "/a/0/fields/size", "invalid type: integer `5`, expected a string"),
            ("a: [{pair: [1, 2, 3]}]", "/a/0/pair", "invalid length 3, expected a shorter list"),
            ("a: [{plain: {}}]", "/a/0/plain", "invalid type: map, expected nothing"),
            ("a: [{plain: , text: a}]", "/a/0", "invalid value: map, expected a map with a single key"),
            ("a: [true]", "/a/0", "invalid type: boolean `true`, expected a text or a map"),
            ("a: [plan]", "/a/0", "unknown variant `plan`, expected one of `plain`, `text`, `pair`, `fields`"),
            ("a: {b: plain}", "/a", "invalid type: map, expected a sequence"),
            ("a: [{fields: [3]}]", "/a/0/fields", "invalid type: sequence, expected struct variant Form::Fields"),
        ] {
            let misfit = read::<BTreeMap<String, Vec<Form>>>(text).expect_err(text);

            assert_eq!((misfit.place().pointer(), misfit.to_string().as_str()), (place, message), "{text}");
        }
    }
}

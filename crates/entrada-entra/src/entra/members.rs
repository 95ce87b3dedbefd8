//! The members of one JSON object, flat and sorted: few allocations to make, few comparisons to look one up.

use std::{cmp::Ordering, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::{
    footprint::{block, of_value},
    json::{NotStrict, Strict, TWICE},
};

/// The members of a JSON object, sorted by name, without duplicates.
#[derive(Clone, Default)]
pub struct Members {
    /// All names, concatenated.
    names: String,
    list: Vec<Member>,
}

#[derive(Clone)]
struct Member {
    /// The first bytes of the name, which distinguish most names.
    prefix: u64,
    start: usize,
    end: usize,
    value: Value,
}

impl Members {
    /// Reads one JSON object, as strictly as [`read_object`](super::json::read_object).
    ///
    /// # Errors
    /// Returns [`NotStrict`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, NotStrict> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let members = deserializer.deserialize_map(Object).and_then(|members| deserializer.end().map(|()| members));
        members.map_err(|error| NotStrict::of(&error))
    }

    /// Returns the value of the member of this exact name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.find(name).ok().map(|at| &self.list[at].value)
    }

    /// Returns whether there is a member of this exact name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the members, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.list.iter().map(|member| (self.name(member), &member.value))
    }

    /// Returns the number of members.
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there are no members.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the memory of the members, without this value itself.
    pub(super) fn memory(&self) -> usize {
        block(self.names.capacity())
            + block(self.list.capacity() * size_of::<Member>())
            + self.list.iter().map(|member| of_value(&member.value)).sum::<usize>()
    }

    /// Adds a member, replacing one of the same name.
    pub fn put(&mut self, name: &str, value: Value) {
        match self.find(name) {
            Ok(at) => self.list[at].value = value,
            Err(at) => {
                let start = self.names.len();
                self.names.push_str(name);
                self.list.insert(at, Member { prefix: prefix(name), start, end: self.names.len(), value });
            }
        }
    }

    /// Returns the index of the member of this name, or its insertion point.
    fn find(&self, name: &str) -> Result<usize, usize> {
        let wanted = prefix(name);
        self.list.binary_search_by(|member| member.prefix.cmp(&wanted).then_with(|| member.beyond_prefix(&self.names, name)))
    }

    fn name(&self, member: &Member) -> &str {
        &self.names[member.start..member.end]
    }
}

/// The number of bytes in a prefix.
const PREFIX: usize = size_of::<u64>();

/// Returns the first bytes of a name as a number with the same order.
fn prefix(name: &str) -> u64 {
    match name.as_bytes().first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let number = name.bytes().fold(0, |number, byte| number << 8 | u64::from(byte));
            number.checked_shl(8 * u32::try_from(PREFIX - name.len()).unwrap_or(0)).unwrap_or(0)
        }
    }
}

impl Member {
    /// Compares this member's name with one of the same prefix. Most names are no longer, and need no comparison.
    fn beyond_prefix(&self, names: &str, other: &str) -> Ordering {
        let length = self.end - self.start;
        if length <= PREFIX && other.len() <= PREFIX {
            // What differs can only be how many of the last bytes are zero.
            length.cmp(&other.len())
        } else {
            names[self.start..self.end].cmp(other)
        }
    }

    /// Compares two members by name.
    fn order(&self, names: &str, other: &Self) -> Ordering {
        self.prefix.cmp(&other.prefix).then_with(|| self.beyond_prefix(names, &names[other.start..other.end]))
    }
}

#[cfg(any(test, feature = "testing"))]
impl From<Value> for Members {
    fn from(object: Value) -> Self {
        let mut members = Self::default();
        object.as_object().expect("an object").iter().for_each(|(name, value)| members.put(name, value.clone()));
        members
    }
}

// Values are personal data and no part of any log.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Members").field(&self.list.len()).finish()
    }
}

/// The initial capacity, enough for most tokens.
const MEMBERS: usize = 24;
const NAMES: usize = 192;

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members, A::Error> {
        let mut members = Members { names: String::with_capacity(NAMES), list: Vec::with_capacity(MEMBERS) };
        loop {
            let start = members.names.len();
            if object.next_key_seed(Name(&mut members.names))?.is_none() {
                break;
            }
            let (end, value) = (members.names.len(), object.next_value_seed(Strict::member())?);
            members.list.push(Member { prefix: prefix(&members.names[start..end]), start, end, value });
        }
        let names = &members.names;
        members.list.sort_unstable_by(|a, b| a.order(names, b));
        if members.list.array_windows().any(|[a, b]| a.order(names, b).is_eq()) {
            return Err(A::Error::custom(TWICE));
        }
        Ok(members)
    }
}

/// A name, appended to the earlier ones.
struct Name<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.0.push_str(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entra::json::read_object;

    #[test]
    fn members_are_found_by_their_exact_names_and_told_in_order() {
        let members = Members::read(
            r#"{"oid":1,"preferred_username":2,"preferred":3,"":4,"a\u0000":6,"exactly8":7,"aud":null,"\u0061":{"b":[5]}}"#
                .as_bytes(),
        )
        .expect("an object");

        let names: Vec<&str> = members.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["", "a", "a\0", "aud", "exactly8", "oid", "preferred", "preferred_username"]);
        for (name, value) in [
            ("oid", Some(json!(1))),
            ("preferred_username", Some(json!(2))),
            ("preferred", Some(json!(3))),
            ("", Some(json!(4))),
            ("aud", Some(json!(null))),
            ("a", Some(json!({ "b": [5] }))),
            ("OID", None),
            ("prefer", None),
            ("preferred_usernam", None),
            ("a\0", Some(json!(6))),
            ("a\0\0", None),
            ("exactly8", Some(json!(7))),
            ("exactly89", None),
        ] {
            assert_eq!(members.get(name), value.as_ref(), "{name}");
        }
    }

    #[test]
    fn what_is_put_stands_in_its_place() {
        let mut members = Members::from(json!({ "b": 1, "d": null }));

        for (name, value) in [("c", 2), ("d", 3), ("a", 4)] {
            members.put(name, value.into());
        }

        let all: Vec<_> = members.iter().map(|(name, value)| (name, value.as_u64())).collect();
        assert_eq!(all, [("a", Some(4)), ("b", Some(1)), ("c", Some(2)), ("d", Some(3))]);
    }

    proptest! {
        #[test]
        fn is_as_strict_as_the_other_reader(
            text in r#"[\[{ ]("(a|aud|\\u0061|preferred_username|preferred_user)":(1|"x"|\{"a":1,"a":2\}|\[[1,]{0,3}\]|\{\}),?){0,4}\}?[ x]?"#,
        ) {
            let (flat, map) = (Members::read(text.as_bytes()), read_object(text.as_bytes()));

            match (flat, map) {
                (Ok(flat), Ok(map)) => {
                    prop_assert!(flat.iter().eq(map.iter().map(|(name, value)| (name.as_str(), value))));
                }
                (flat, map) => prop_assert_eq!(flat.is_ok(), map.is_ok(), "{}", text),
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Members::read(&bytes);
        }
    }
}

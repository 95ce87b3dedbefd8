//! Header fields as a flat list, in the order in which they were added.
//!
//! `http::HeaderMap` hashes each name that is added or looked up, and a message has a dozen fields: to compare a name with a dozen
//! others costs less, since nearly all well-known names are numbers. Nobody makes it slow either: a head has a hundred fields at most.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header fields in the order in which they were added; the names may repeat.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

/// Header fields that policies change: those of a request to an upstream, or those of a response.
pub trait FieldList {
    /// Returns whether there is a field of this name.
    fn has(&self, name: &HeaderName) -> bool;
    /// Adds a field, also if there is one of this name.
    fn add(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes the fields whose names are such.
    fn remove_all(&mut self, unwanted: impl Fn(&HeaderName) -> bool);
}

impl FieldList for Fields {
    fn has(&self, name: &HeaderName) -> bool {
        self.contains_key(name)
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.append(name, value);
    }

    fn remove_all(&mut self, unwanted: impl Fn(&HeaderName) -> bool) {
        self.remove_if(unwanted);
    }
}

impl FieldList for HeaderMap {
    fn has(&self, name: &HeaderName) -> bool {
        self.contains_key(name)
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.append(name, value);
    }

    fn remove_all(&mut self, unwanted: impl Fn(&HeaderName) -> bool) {
        while let Some(name) = self.keys().find(|name| unwanted(name)).cloned() {
            self.remove(name);
        }
    }
}

/// A name by which fields are looked up.
pub trait FieldName {
    /// Returns whether a field has this name.
    fn names(&self, field: &HeaderName) -> bool;
}

impl FieldName for HeaderName {
    fn names(&self, field: &HeaderName) -> bool {
        self == field
    }
}

impl FieldName for &HeaderName {
    fn names(&self, field: &HeaderName) -> bool {
        *self == field
    }
}

impl FieldName for &str {
    fn names(&self, field: &HeaderName) -> bool {
        field == *self
    }
}

impl Fields {
    /// Makes an empty list with room for this many fields.
    pub fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    /// Returns the number of fields.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of fields for which there is room.
    pub const fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Removes all fields, and keeps their room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the first value of this name.
    pub fn get(&self, name: impl FieldName) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// Returns the values of this name, in order.
    pub fn get_all<N: FieldName>(&self, name: N) -> impl Iterator<Item = &HeaderValue> + use<'_, N> {
        self.0.iter().filter(move |(field, _)| name.names(field)).map(|(_, value)| value)
    }

    /// Returns whether there is a field of this name.
    pub fn contains_key(&self, name: impl FieldName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field, also if there is one of this name.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Sets a field: it is then the only one of this name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        match self.0.iter().position(|(field, _)| *field == name) {
            Some(at) => {
                self.0[at].1 = value;
                while let Some(next) = self.0[at + 1..].iter().position(|(field, _)| *field == name) {
                    self.0.remove(at + 1 + next);
                }
            }
            None => self.0.push((name, value)),
        }
    }

    /// Removes the fields of this name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.remove_if(|field| field == name);
    }

    /// Removes the fields whose names are such.
    pub fn remove_if(&mut self, unwanted: impl Fn(&HeaderName) -> bool) {
        // Nearly always there is none, and then nothing is moved.
        if self.0.iter().any(|(field, _)| unwanted(field)) {
            self.0.retain(|(field, _)| !unwanted(field));
        }
    }

    /// Returns the fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = std::iter::Map<
        std::slice::Iter<'a, (HeaderName, HeaderValue)>,
        fn(&'a (HeaderName, HeaderValue)) -> (&'a HeaderName, &'a HeaderValue),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields.0 {
            map.append(name, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: u8) -> HeaderName {
        [http::header::ACCEPT, http::header::COOKIE, HeaderName::from_static("x-a"), HeaderName::from_static("x-b")]
            [usize::from(number % 4)]
        .clone()
    }

    proptest! {
        /// Compares a list with a map after the same steps.
        #[test]
        fn a_list_says_what_a_map_would(steps in proptest::collection::vec((0..4_u8, 0..4_u8, 0..9_u16), 0..40)) {
            let (mut fields, mut map) = (Fields::default(), HeaderMap::new());
            for (what, number, value) in steps {
                let (name, value) = (name(number), HeaderValue::from(value));
                match what {
                    0 | 1 => {
                        fields.append(name.clone(), value.clone());
                        map.append(name, value);
                    }
                    2 => {
                        fields.insert(name.clone(), value.clone());
                        map.insert(name, value);
                    }
                    _ => {
                        fields.remove(&name);
                        map.remove(&name);
                    }
                }
            }
            prop_assert_eq!(fields.len(), map.len());
            for number in 0..4 {
                let name = name(number);
                prop_assert_eq!(fields.get(&name), map.get(&name));
                prop_assert_eq!(fields.contains_key(name.as_str()), map.contains_key(&name));
                let said: Vec<_> = fields.get_all(name.clone()).collect();
                prop_assert_eq!(said, map.get_all(name).iter().collect::<Vec<_>>());
            }
            prop_assert_eq!(HeaderMap::from(fields.clone()), map.clone());
            prop_assert_eq!(HeaderMap::from(Fields::from(&map)), map);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let mut secret = HeaderValue::from_static("hush");
        secret.set_sensitive(true);
        let fields = Fields::from_iter([(http::header::COOKIE, secret), (http::header::ACCEPT, HeaderValue::from_static("a/b"))]);

        assert_eq!(format!("{fields:?}"), r#"{"cookie": Sensitive, "accept": "a/b"}"#);
    }
}

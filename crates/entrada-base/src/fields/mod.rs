//! Header fields as a flat list, in the order in which they came.
//!
//! `http::HeaderMap` hashes each name that is added or looked up, and counts references to each value. Here a field is sixteen bytes that
//! say where name and value stand, in one buffer with the head as it was received, and what was added since behind it. Both are the
//! thread's own and used over again. Names that rules speak of are [numbers](Known), given when the field is read. Nobody makes a look-up
//! slow: a head has a hundred fields at most.

mod known;
mod name;
mod token;
mod value;

use std::{fmt, ops::Range};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::{
    known::Known,
    name::{FieldName, Name},
    token::{TOKEN, is_forbidden},
    value::{NotAscii, Value},
};

/// The largest buffer that is kept for another list, in bytes.
const KEPT: usize = 16 << 10;

/// An error: a name is no token, or a value holds a control character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name is no token, or the value holds a control character")]
pub struct NotAField;

/// The lot of a field in [`Fields::sort_from`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// It is in both lists.
    Passes,
    /// It stays where it is.
    Stays,
    /// It is in neither.
    Goes,
}

/// Header fields in the order in which they came; the names may repeat.
#[derive(Clone, Default)]
pub struct Fields {
    /// The head as it was received, its names in lower case, and what was added since, end to end.
    bytes: Vec<u8>,
    list: Vec<Field>,
    /// The known names that a field has, or had before it was removed.
    known: u64,
}

/// The places of one field's name and value.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: Known,
    sensitive: bool,
    /// The length of the name.
    name_len: u16,
    name_at: u32,
    value_at: u32,
    value_len: u32,
}

/// Returns a place in the bytes of a head.
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("a head is far shorter than 4 GiB")
}

impl Fields {
    /// Makes an empty list with room for this many fields.
    pub fn with_capacity(fields: usize) -> Self {
        Self { list: Vec::with_capacity(fields), ..Self::default() }
    }

    /// Returns the number of fields.
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the number of fields for which there is room.
    pub const fn capacity(&self) -> usize {
        self.list.capacity()
    }

    /// Removes all fields, and keeps their room.
    pub fn clear(&mut self) {
        if self.bytes.capacity() <= KEPT {
            self.bytes.clear();
        } else {
            self.bytes = Vec::new();
        }
        self.list.clear();
        self.known = 0;
    }

    /// Copies the head in which the fields stand that were [read](Self::read), before any other is added.
    pub fn set_head(&mut self, head: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
    }

    /// Adds a field of a head that is being read: the number and the place of its name, which must be a token of at most 65,535 bytes in lower case, and
    /// the place of its value.
    #[inline]
    pub fn read(&mut self, (known, name): (Known, Range<usize>), value: Range<usize>) {
        self.list.push(Field {
            name: known,
            sensitive: false,
            name_len: name.len() as u16,
            name_at: name.start as u32,
            value_at: value.start as u32,
            value_len: value.len() as u32,
        });
        self.known |= known.bit();
    }

    /// Sorts the fields of another list, each once: those that go are removed from it, and those that pass are in this one, too, which
    /// must be empty.
    pub fn sort_from(&mut self, other: &mut Self, sort: impl Fn(Name<'_>, Value<'_>) -> Sorted) {
        // One copy of all bytes costs less than one for each field.
        self.set_head(&other.bytes);
        let mut list = std::mem::take(&mut other.list);
        list.retain(|field| {
            let sorted = sort(other.name(field), other.value(field));
            if sorted == Sorted::Passes {
                self.list.push(*field);
                self.known |= field.name.bit();
            }
            sorted != Sorted::Goes
        });
        other.list = list;
    }

    #[inline]
    fn name(&self, field: &Field) -> Name<'_> {
        let bytes = if field.name == Known::Other {
            &self.bytes[field.name_at as usize..][..usize::from(field.name_len)]
        } else {
            field.name.text().as_bytes()
        };
        Name { known: field.name, bytes }
    }

    #[inline]
    fn value(&self, field: &Field) -> Value<'_> {
        let bytes = &self.bytes[field.value_at as usize..][..field.value_len as usize];
        Value { bytes, sensitive: field.sensitive }
    }

    fn has(&self, name: &impl FieldName, field: &Field) -> bool {
        match name.known() {
            Some(known) => field.name == known,
            None => name.names(self.name(field)),
        }
    }

    /// Returns whether no field can have this name, which most names can be told at once.
    fn lacks(&self, name: &impl FieldName) -> bool {
        name.known().is_some_and(|known| self.known & known.bit() == 0)
    }

    /// Returns the first value of this name.
    #[expect(clippy::needless_pass_by_value, reason = "a name is a number or a reference")]
    pub fn get(&self, name: impl FieldName) -> Option<Value<'_>> {
        match name.known() {
            Some(known) if self.known & known.bit() == 0 => None,
            Some(known) => self.get_known(known),
            None => self.list.iter().find(|field| name.names(self.name(field))).map(|field| self.value(field)),
        }
    }

    #[inline(never)]
    fn get_known(&self, name: Known) -> Option<Value<'_>> {
        self.list.iter().find(|field| field.name == name).map(|field| self.value(field))
    }

    /// Returns the values of this name, in order.
    pub fn get_all<N: FieldName>(&self, name: N) -> impl DoubleEndedIterator<Item = Value<'_>> + use<'_, N> {
        let list = if self.lacks(&name) { &[] } else { &self.list[..] };
        list.iter().filter(move |field| self.has(&name, field)).map(|field| self.value(field))
    }

    /// Returns whether there is a field of this name.
    pub fn contains_key(&self, name: impl FieldName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field, also if there is one of this name.
    pub fn append<'n, 'v>(&mut self, name: impl Into<Name<'n>>, value: impl Into<Value<'v>>) {
        let field = self.written(name.into(), value.into());
        self.list.push(field);
    }

    /// Adds a field whose value is written here: visible ASCII letters.
    pub fn append_written(&mut self, name: Known, write: impl FnOnce(&mut Vec<u8>)) {
        let name_at = self.bytes.len();
        self.bytes.extend_from_slice(name.line().as_bytes());
        let value_at = self.bytes.len();
        write(&mut self.bytes);
        debug_assert!(self.bytes[value_at..].iter().all(u8::is_ascii_graphic), "only visible letters make a value");
        let field = self.ended(name, (name_at, name.text().len() as u16), value_at);
        self.list.push(field);
    }

    /// Adds a field that was received in another form than that of a head, its name in any case.
    ///
    /// # Errors
    /// Fails if the name is no token, or the value holds a control character.
    pub fn try_append(&mut self, name: &[u8], value: &[u8]) -> Result<(), NotAField> {
        // Read to its end, so that many bytes are looked at together.
        let forbidden = value.iter().fold(false, |found, byte| found | is_forbidden(*byte));
        let name_len = u16::try_from(name.len()).ok().filter(|length| *length > 0 && !forbidden).ok_or(NotAField)?;
        let name_at = self.bytes.len();
        self.bytes.extend(name.iter().map(|byte| TOKEN[usize::from(*byte)]));
        let lower = &self.bytes[name_at..];
        if lower.contains(&0) {
            self.bytes.truncate(name_at);
            return Err(NotAField);
        }
        let name = Known::of(lower);
        self.bytes.extend_from_slice(b": ");
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let field = self.ended(name, (name_at, name_len), value_at);
        self.list.push(field);
        Ok(())
    }

    /// Writes a field line behind what was added before.
    // A request comes here several times, and each inlined copy would take room in the first-level cache.
    #[inline(never)]
    fn written(&mut self, name: Name<'_>, value: Value<'_>) -> Field {
        let (name_at, name_len) = (self.bytes.len(), name.bytes.len());
        self.bytes.reserve(name_len + value.bytes.len() + 4);
        if name.known == Known::Other {
            self.bytes.extend_from_slice(name.bytes);
            self.bytes.extend_from_slice(b": ");
        } else {
            self.bytes.extend_from_slice(name.known.line().as_bytes());
        }
        let value_at = self.bytes.len();
        self.bytes.extend_from_slice(value.bytes);
        let name_len = u16::try_from(name_len).expect("a name is no longer than that");
        Field { sensitive: value.sensitive, ..self.ended(name.known, (name_at, name_len), value_at) }
    }

    /// Ends the line that was written, and returns its field: the place and the length of its name, and the place of its value.
    #[inline]
    fn ended(&mut self, name: Known, (name_at, name_len): (usize, u16), value_at: usize) -> Field {
        // All places lie before the end, which is looked at alone.
        let end = place(self.bytes.len());
        self.bytes.extend_from_slice(b"\r\n");
        self.known |= name.bit();
        let (name_at, value_at) = (name_at as u32, value_at as u32);
        Field { name, sensitive: false, name_len, name_at, value_at, value_len: end - value_at }
    }

    /// Sets a field to a secret: it is then the only one of this name. One that has this value already only becomes a secret.
    pub fn insert_secret(&mut self, name: Known, value: Value<'_>) {
        let Self { bytes, list, .. } = self;
        let mut own = list.iter_mut().filter(|field| field.name == name);
        if let (Some(field), None) = (own.next(), own.next())
            && bytes[field.value_at as usize..][..field.value_len as usize] == *value.bytes
        {
            field.sensitive = true;
        } else {
            self.insert(name, value.secret());
        }
    }

    /// Sets a field: it is then the only one of this name, in the place of the first one.
    pub fn insert<'n, 'v>(&mut self, name: impl Into<Name<'n>>, value: impl Into<Value<'v>>) {
        let name = name.into();
        let is_new = name.known != Known::Other && self.known & name.known.bit() == 0;
        let field = self.written(name, value.into());
        if is_new {
            return self.list.push(field);
        }
        match self.list.iter().position(|other| self.name(other) == name) {
            Some(at) => {
                self.list[at] = field;
                let mut index = 0;
                self.retain(|other| {
                    index += 1;
                    index <= at + 1 || other != name
                });
            }
            None => self.list.push(field),
        }
    }

    /// Replaces values of this name by those that `make` returns.
    #[expect(clippy::needless_pass_by_value, reason = "a name is a number or a reference")]
    pub fn replace(&mut self, name: impl FieldName, make: impl Fn(Value<'_>) -> Option<HeaderValue>) {
        if self.lacks(&name) {
            return;
        }
        for index in 0..self.list.len() {
            let field = self.list[index];
            if self.has(&name, &field)
                && let Some(made) = make(self.value(&field))
            {
                let name = self.name(&field).to_header_name();
                self.list[index] = self.written((&name).into(), (&made).into());
            }
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(Name<'_>) -> bool) {
        let mut list = std::mem::take(&mut self.list);
        list.retain(|field| keep(self.name(field)));
        self.list = list;
    }

    /// Removes the fields of this name.
    #[expect(clippy::needless_pass_by_value, reason = "a name is a number or a reference")]
    pub fn remove(&mut self, name: impl FieldName) {
        if !self.lacks(&name) {
            self.remove_if(|field| name.names(field));
        }
    }

    /// Removes the fields whose names are such.
    pub fn remove_if(&mut self, unwanted: impl Fn(Name<'_>) -> bool) {
        // Nearly always there is none, and then nothing is moved.
        if self.list.iter().any(|field| unwanted(self.name(field))) {
            self.retain(|name| !unwanted(name));
        }
    }

    /// Returns the fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Name<'_>, Value<'_>)> {
        self.list.iter().map(|field| (self.name(field), self.value(field)))
    }

    /// Writes the lines of the fields that pass, as a message in HTTP/1.1 has them.
    pub fn write_lines(&self, out: &mut Vec<u8>, passes: impl Fn(Name<'_>) -> bool) {
        out.reserve(self.bytes.len());
        for field in &self.list {
            let name = self.name(field);
            if !passes(name) {
                continue;
            }
            let (start, end) = (field.name_at as usize, field.value_at as usize + field.value_len as usize);
            let name_end = start + usize::from(field.name_len);
            // Most lines were received as they are written.
            if self.bytes[name_end..].starts_with(b": ")
                && field.value_at as usize == name_end + 2
                && self.bytes[end..].starts_with(b"\r\n")
            {
                out.extend_from_slice(&self.bytes[start..end + 2]);
            } else {
                out.extend_from_slice(name.bytes);
                out.extend_from_slice(b": ");
                out.extend_from_slice(self.value(field).bytes);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Returns the names in order, each as often as there are fields of it.
    pub fn names(&self) -> impl ExactSizeIterator<Item = Name<'_>> {
        self.list.iter().map(|field| self.name(field))
    }

    /// Returns the names in order, each once.
    pub fn distinct_names(&self) -> impl Iterator<Item = Name<'_>> {
        self.names().enumerate().filter(|(at, name)| !self.names().take(*at).any(|before| before == *name)).map(|(_, name)| name)
    }
}

impl Fields {
    /// Adds the fields that pass to a map, where a library wants one. The values share one copy of the bytes.
    pub fn append_to(&self, map: &mut HeaderMap, passes: impl Fn(Name<'_>, Value<'_>) -> bool) {
        let bytes = Bytes::copy_from_slice(&self.bytes);
        for field in self.list.iter().filter(|field| passes(self.name(field), self.value(field))) {
            let at = field.value_at as usize;
            let mut value = HeaderValue::from_maybe_shared(bytes.slice(at..at + field.value_len as usize))
                .expect("a value was checked when it was read");
            value.set_sensitive(field.sensitive);
            map.append(self.name(field).to_header_name(), value);
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Fields {
    /// Makes a list of these fields, for a test.
    ///
    /// # Panics
    /// Panics if a name or a value is none.
    pub fn of(fields: &[(&str, &str)]) -> Self {
        let field = |(name, value): &(&str, &str)| (name.parse().expect("a name"), value.parse().expect("a value"));
        fields.iter().map(field).collect()
    }

    /// Returns the fields as lines, for a test.
    ///
    /// # Panics
    /// Panics if a value is not text.
    pub fn lines(&self) -> Vec<String> {
        self.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(given: I) -> Self {
        let mut fields = Self::default();
        given.into_iter().for_each(|(name, value)| fields.append(&name, &value));
        fields
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        map.iter().for_each(|(name, value)| fields.append(name, value));
        fields
    }
}

impl From<&Fields> for HeaderMap {
    fn from(fields: &Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        fields.append_to(&mut map, |_, _| true);
        map
    }
}

#[cfg(test)]
mod tests;

//! Messages of Protocol Buffers, as OTLP's are written: fields with their numbers, and messages within messages.

/// A message under construction.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Makes a message whose fields follow these bytes, with room for so many.
    pub(crate) fn behind(prefix: &[u8], capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(prefix);
        Self(bytes)
    }

    /// Writes the key of a field: its number, and how its value is written.
    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Writes a number of variable length; 0 is the default, which is not written.
    pub(crate) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        if value != 0 {
            self.key(field, 0);
            self.varint(value);
        }
        self
    }

    /// Writes a number of variable length, also 0: a choice among fields is made by which one is there.
    pub(crate) fn chosen_number(&mut self, field: u32, value: u64) -> &mut Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    /// Writes a number of 64 bits.
    pub(crate) fn fixed64(&mut self, field: u32, value: u64) -> &mut Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Writes a number of 32 bits.
    pub(crate) fn fixed32(&mut self, field: u32, value: u32) -> &mut Self {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Writes a fraction.
    pub(crate) fn double(&mut self, field: u32, value: f64) -> &mut Self {
        self.fixed64(field, value.to_bits())
    }

    /// Writes bytes.
    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Writes a text.
    pub(crate) fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    /// Writes a message, in its place: what it holds is moved only if its length needs more than the one byte that is left for it.
    pub(crate) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.key(field, 2);
        let at = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - at - 1;
        match u8::try_from(length) {
            Ok(short @ ..0x80) => self.0[at] = short,
            _ => self.move_behind(at, length),
        }
        self
    }

    /// Writes the length of what follows this place, where one byte was left for it, in the several bytes that it needs.
    fn move_behind(&mut self, at: usize, length: usize) {
        let (end, bytes) = (self.0.len(), (usize::BITS - length.leading_zeros()).div_ceil(7) as usize);
        self.0.resize(end + bytes - 1, 0);
        self.0.copy_within(at + 1..end, at + bytes);
        let mut left = length;
        for byte in &mut self.0[at..at + bytes] {
            *byte = left as u8 | 0x80;
            left >>= 7;
        }
        self.0[at + bytes - 1] &= 0x7F;
    }

    /// Writes numbers of 64 bits, packed.
    pub(crate) fn packed(&mut self, field: u32, values: impl IntoIterator<Item = u64>) -> &mut Self {
        let bytes: Vec<u8> = values.into_iter().flat_map(u64::to_le_bytes).collect();
        self.bytes(field, &bytes)
    }

    /// Adds fields that are written already.
    pub(crate) fn fields(&mut self, fields: &[u8]) -> &mut Self {
        self.0.extend_from_slice(fields);
        self
    }

    /// Writes an attribute whose value is a text: `KeyValue`.
    pub(crate) fn attribute(&mut self, field: u32, key: &str, value: &str) -> &mut Self {
        self.message(field, |pair| {
            pair.text(1, key).message(2, |any| {
                any.text(1, value);
            });
        })
    }

    /// Writes an attribute whose value is a whole number.
    pub(crate) fn attribute_number(&mut self, field: u32, key: &str, value: u64) -> &mut Self {
        self.message(field, |pair| {
            pair.text(1, key).message(2, |any| {
                any.chosen_number(3, value);
            });
        })
    }

    /// Returns the bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A value as it was read.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) enum Value {
        Number(u64),
        Fixed(u64),
        Bytes(Vec<u8>),
    }

    /// Reads the fields of a message strictly.
    pub(crate) fn read(mut bytes: &[u8]) -> Vec<(u32, Value)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let (first, rest) = bytes.split_first().expect("a varint ends");
                *bytes = rest;
                value |= u64::from(first & 0x7F) << shift;
                shift += 7;
                if first & 0x80 == 0 {
                    return value;
                }
            }
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)),
                1 => {
                    let (value, rest) = bytes.split_first_chunk().expect("eight bytes");
                    bytes = rest;
                    Value::Fixed(u64::from_le_bytes(*value))
                }
                5 => {
                    let (value, rest) = bytes.split_first_chunk().expect("four bytes");
                    bytes = rest;
                    Value::Fixed(u32::from_le_bytes(*value).into())
                }
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(value.to_vec())
                }
                other => panic!("no wire type: {other}"),
            };
            fields.push((u32::try_from(key >> 3).unwrap(), value));
        }
        fields
    }

    #[test]
    fn fields_are_written_as_the_specification_says() {
        let mut message = Message::default();
        message.number(1, 150).number(2, 0).text(3, "testing").fixed32(4, 1).message(5, |inner| {
            inner.number(1, 1);
        });

        let expected: &[u8] =
            &[0x08, 0x96, 0x01, 0x1a, 7, b't', b'e', b's', b't', b'i', b'n', b'g', 0x25, 1, 0, 0, 0, 0x2a, 2, 0x08, 1];
        assert_eq!(message.into_bytes(), expected);
    }

    #[test]
    fn a_message_of_any_length_is_read_as_it_was_written() {
        for length in [0, 1, 0x7D, 0x7E, 0x7F, 0x80, 0x3FFC, 0x3FFD, 0x4000, 0x1F_FFFB, 0x20_0000] {
            let text = "a".repeat(length);
            let mut message = Message::behind(b"before", 16);
            message.message(1, |outer| {
                outer.number(1, 7).message(2, |inner| {
                    inner.text(3, &text);
                });
                outer.number(4, 8);
            });
            message.number(5, 9);

            let bytes = message.into_bytes();
            let fields = read(bytes.strip_prefix(b"before").unwrap());
            let [(1, Value::Bytes(outer)), (5, Value::Number(9))] = &*fields else { panic!("{length}: {fields:?}") };
            let [(1, Value::Number(7)), (2, Value::Bytes(inner)), (4, Value::Number(8))] = &*read(outer) else {
                panic!("{length}: {outer:?}")
            };
            assert_eq!(read(inner), [(3, Value::Bytes(text.into_bytes()))], "{length}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::default();
        message.attribute(9, "k", "v").attribute_number(9, "n", 0).packed(6, [1, 2]).double(5, 1.5);

        let fields = read(&message.into_bytes());

        assert_eq!(fields.len(), 4);
        assert_eq!(fields[3], (5, Value::Fixed(1.5_f64.to_bits())));
        let (9, Value::Bytes(pair)) = &fields[1] else { panic!("{fields:?}") };
        assert_eq!(read(pair), [(1, Value::Bytes(b"n".to_vec())), (2, Value::Bytes(vec![3 << 3, 0]))]);
    }
}

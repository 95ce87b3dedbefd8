//! Messages of Protocol Buffers, written and read without the gateway's own code.

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(pub(crate) Vec<u8>);

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

impl Written {
    pub(crate) fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        varint(field << 3 | 2, &mut self.0);
        varint(bytes.as_ref().len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn number(mut self, field: u64, number: u64) -> Self {
        varint(field << 3, &mut self.0);
        varint(number, &mut self.0);
        self
    }

    pub(crate) fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, message.0)
    }
}

/// The fields of a message: numbers and the bytes of what has a length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(u32, Vec<u8>)>);

impl Fields {
    /// Reads a message strictly.
    pub(crate) fn read(mut bytes: &[u8]) -> Self {
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
            let length = match key & 7 {
                0 => {
                    let value = varint(&mut bytes);
                    fields.push(((key >> 3) as u32, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => usize::try_from(varint(&mut bytes)).unwrap(),
                other => panic!("no wire type: {other}"),
            };
            let (value, rest) = bytes.split_at(length);
            bytes = rest;
            fields.push(((key >> 3) as u32, value.to_vec()));
        }
        Self(fields)
    }

    pub(crate) fn all(&self, field: u32) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(number, _)| *number == field).map(|(_, value)| &**value)
    }

    /// Returns the messages of this field.
    pub(crate) fn messages(&self, field: u32) -> Vec<Self> {
        self.all(field).map(Self::read).collect()
    }

    /// Returns the first message of this field.
    pub(crate) fn message(&self, field: u32) -> Option<Self> {
        self.all(field).next().map(Self::read)
    }

    /// Returns the texts of this field.
    pub(crate) fn texts(&self, field: u32) -> Vec<String> {
        self.all(field).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    pub(crate) fn hex(&self, field: u32) -> String {
        self.all(field).flatten().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn text(&self, field: u32) -> String {
        self.texts(field).concat()
    }

    /// Returns a number, 0 if it is not written.
    pub(crate) fn number(&self, field: u32) -> u64 {
        self.all(field).next().map_or(0, |value| u64::from_le_bytes(value.try_into().unwrap()))
    }

    /// Returns the attributes of this field: texts, and numbers as text.
    pub(crate) fn attribute(&self, field: u32, key: &str) -> Option<String> {
        let pair = self.all(field).map(Self::read).find(|pair| pair.text(1) == key)?;
        let any = Self::read(pair.all(2).next()?);
        Some(if any.all(1).next().is_some() { any.text(1) } else { any.number(3).to_string() })
    }
}

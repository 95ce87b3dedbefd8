//! Messages of Protocol Buffers, for the side that asks: written and read without the gateway's own code.

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(pub(super) Vec<u8>);

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

impl Written {
    pub(super) fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        varint(field << 3 | 2, &mut self.0);
        varint(bytes.as_ref().len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(super) fn number(mut self, field: u64, number: u64) -> Self {
        varint(field << 3, &mut self.0);
        varint(number, &mut self.0);
        self
    }

    pub(super) fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, message.0)
    }
}

/// A message that was received.
#[derive(Clone, Debug, Default)]
pub(super) struct Read(Vec<(u64, Value)>);

#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Read {
    pub(super) fn of(mut bytes: &[u8]) -> Self {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let (first, rest) = bytes.split_first().expect("a number ends");
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
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(value.to_vec())
                }
                other => panic!("no such field: {other}"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> Vec<Vec<u8>> {
        let bytes = |value: &'_ Value| match value {
            Value::Bytes(bytes) => bytes.clone(),
            Value::Number(_) => Vec::new(),
        };
        self.0.iter().filter(|(number, _)| *number == field).map(|(_, value)| bytes(value)).collect()
    }

    pub(super) fn message(&self, field: u64) -> Option<Self> {
        self.all(field).first().map(|bytes| Self::of(bytes))
    }

    pub(super) fn messages(&self, field: u64) -> Vec<Self> {
        self.all(field).iter().map(|bytes| Self::of(bytes)).collect()
    }

    pub(super) fn texts(&self, field: u64) -> Vec<String> {
        self.all(field).into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    pub(super) fn text(&self, field: u64) -> String {
        self.texts(field).into_iter().next().unwrap_or_default()
    }

    /// Returns a number, 0 if it is not written.
    pub(super) fn number(&self, field: u64) -> u64 {
        let of = |(number, value): &(u64, Value)| match value {
            Value::Number(value) if *number == field => Some(*value),
            _ => None,
        };
        self.0.iter().find_map(of).unwrap_or_default()
    }
}

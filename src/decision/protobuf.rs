//! Messages of Protocol Buffers, read field by field. What nobody asks for is skipped; what is written wrongly is an error.

/// A message that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number of variable length.
    Number(u64),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// A number of a fixed length.
    Fixed,
}

/// An error: the bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be read")]
pub struct Malformed;

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the number and the value of the next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (field, value) = (
            key >> 3,
            match key & 7 {
                0 => Value::Number(self.varint()?),
                1 => self.skip(8)?,
                2 => {
                    let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                    let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                    self.0 = rest;
                    Value::Bytes(bytes)
                }
                5 => self.skip(4)?,
                // Groups, which nothing that is read here has.
                _ => return Err(Malformed),
            },
        );
        if field == 0 { Err(Malformed) } else { Ok(Some((field, value))) }
    }

    /// Visits the fields in their order.
    pub(super) fn each<E: From<Malformed>>(mut self, mut visit: impl FnMut(u64, Value<'a>) -> Result<(), E>) -> Result<(), E> {
        while let Some((field, value)) = self.next()? {
            visit(field, value)?;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<Value<'a>, Malformed> {
        self.0 = self.0.get(bytes..).ok_or(Malformed)?;
        Ok(Value::Fixed)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            // The tenth byte holds one bit.
            if shift == 63 && *byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

impl<'a> Value<'a> {
    /// Returns the bytes.
    pub(super) const fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Fixed => Err(Malformed),
        }
    }

    /// Returns the text.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// Returns the message.
    pub(super) fn message(self) -> Result<Reader<'a>, Malformed> {
        self.bytes().map(Reader::new)
    }

    /// Returns the number.
    pub(super) const fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) | Self::Fixed => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::Message;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        let mut fields = Vec::new();
        Reader::new(bytes).each(|field, value| {
            fields.push((field, value));
            Ok::<_, Malformed>(())
        })?;
        Ok(fields)
    }

    #[test]
    fn what_is_written_is_read_and_what_is_not_known_is_skipped() {
        let mut message = Message::default();
        message.number(1, 300).text(2, "Łódź").fixed64(3, 7).fixed32(4, 7).message(15, |inner| {
            inner.number(1, u64::MAX);
        });
        let bytes = message.into_bytes();

        let fields = read(&bytes).unwrap();

        assert_eq!(
            fields[..4],
            [(1, Value::Number(300)), (2, Value::Bytes("Łódź".as_bytes())), (3, Value::Fixed), (4, Value::Fixed)]
        );
        assert_eq!(fields[1].1.text(), Ok("Łódź"));
        assert_eq!(read(fields[4].1.bytes().unwrap()).unwrap(), [(1, Value::Number(u64::MAX))]);
    }

    #[test]
    fn what_is_cut_off_or_written_wrongly_is_an_error() {
        let wrong: &[&[u8]] = &[
            &[0x80],
            &[0x08],
            &[0x0a, 5, b'a'],
            &[0x09, 1, 2],
            &[0x0d, 1],
            &[0x0b],
            &[0x00, 1],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ];
        for bytes in wrong {
            assert_eq!(read(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(Value::Bytes(&[0xff]).text(), Err(Malformed));
        assert_eq!((Value::Number(1).bytes(), Value::Fixed.number()), (Err(Malformed), Err(Malformed)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // That it ends, and does not panic, is what is shown.
            if let Ok(fields) = read(&bytes) {
                let held: usize = fields.iter().filter_map(|(_, value)| value.bytes().ok()).map(<[u8]>::len).sum();
                prop_assert!(held <= bytes.len());
            }
        }
    }
}

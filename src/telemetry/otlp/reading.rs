//! Reads what collectors answer with: messages of Protocol Buffers, of which a few fields matter.

/// A value that was read.
pub(crate) enum Read<'a> {
    /// A number of variable length.
    Number(u64),
    /// Text, bytes, or a message.
    Bytes(&'a [u8]),
    /// A number of fixed length, which no answer's meaning depends on.
    Other,
}

/// The part of an export that a collector did not take: `partial_success`, which is the same field in the answers of all signals.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected<'a> {
    /// The number of spans, points or records.
    pub(crate) count: u64,
    /// The collector's reason.
    pub(crate) reason: &'a [u8],
}

/// Returns what a collector rejected of an export that it took otherwise. A reason without a number is a warning, and nothing is lost.
pub(crate) fn rejected(answer: &[u8]) -> Option<Rejected<'_>> {
    let partial = field(answer, 1)?;
    let count = varint_field(partial, 1).filter(|count| *count > 0)?;
    Some(Rejected { count, reason: field(partial, 2).unwrap_or_default() })
}

/// Returns the bytes of a field with a length.
pub(crate) fn field(message: &[u8], wanted: u32) -> Option<&[u8]> {
    fields(message).find_map(|(number, value)| match value {
        Read::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    })
}

/// Returns the number of a field.
pub(crate) fn varint_field(message: &[u8], wanted: u32) -> Option<u64> {
    fields(message).find_map(|(number, value)| match value {
        Read::Number(value) if number == wanted => Some(value),
        _ => None,
    })
}

/// Reads the fields of a message until one is not well formed.
pub(crate) fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u32, Read<'_>)> {
    std::iter::from_fn(move || {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Read::Number(varint(&mut rest)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Read::Bytes(value)
            }
            kind @ (1 | 5) => {
                (_, rest) = rest.split_at_checked(if kind == 1 { 8 } else { 4 })?;
                Read::Other
            }
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7F) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

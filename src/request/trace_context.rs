//! The trace of a request: W3C Trace Context.

use super::id::{random_64, random_128};
use crate::base::{
    fields::{Fields, Known},
    fmt_fast,
};

/// The trace that a request belongs to, and the gateway's own span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace's id; never zero.
    pub trace_id: u128,
    /// The id of the gateway's span; never zero.
    pub span_id: u64,
    /// The caller's span, where the caller had a trace.
    pub parent_id: Option<u64>,
    /// The trace flags that are forwarded: sampled (1) and random (2).
    pub flags: u8,
}

impl TraceContext {
    /// Continues the caller's trace, or starts one. An unreadable trace counts as absent (section 3.2.2.3).
    pub fn of(headers: &Fields) -> Self {
        let mut values = headers.get_all(Known::Traceparent);
        let parent = match (values.next(), values.next()) {
            (Some(value), None) => parse(value.as_bytes()),
            _ => None,
        };
        let span_id = random_64().max(1);
        match parent {
            Some((trace_id, parent_id, flags)) => Self { trace_id, span_id, parent_id: Some(parent_id), flags },
            // Sampled: the audit record names the trace, so there is something to be found under its id.
            None => Self { trace_id: random_128().max(1), span_id, parent_id: None, flags: 0b11 },
        }
    }

    /// Returns the trace's id as 32 digits.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// Returns the forwarded `traceparent`: the same trace, the gateway's span. Visible ASCII.
    pub fn forwarded(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&fmt_fast::hexadecimal(self.trace_id));
        let rest = fmt_fast::hexadecimal(u128::from(self.span_id) << 8 | u128::from(self.flags));
        text[36..52].copy_from_slice(&rest[14..30]);
        text[53..].copy_from_slice(&rest[30..]);
        text
    }

    /// Returns whether the caller's `tracestate` is forwarded: only together with the caller's trace (section 3.3).
    pub const fn keeps_state(&self) -> bool {
        self.parent_id.is_some()
    }
}

/// Parses trace, parent and flags. Section 3.2.2.
fn parse(value: &[u8]) -> Option<(u128, u64, u8)> {
    let field = |from: usize, to: usize| {
        value.get(from..to)?.iter().try_fold(0_u128, |number, byte| match byte {
            b'0'..=b'9' => Some(number << 4 | u128::from(byte - b'0')),
            b'a'..=b'f' => Some(number << 4 | u128::from(byte - b'a' + 10)),
            _ => None,
        })
    };
    let version = field(0, 2)?;
    let (trace_id, parent_id, flags) = (field(3, 35)?, field(36, 52)?, field(53, 55)?);
    let dashes = [2, 35, 52].iter().all(|at| value[*at] == b'-');
    // A later version may have more fields behind these; 255 is never a version.
    let ends = value.len() == 55 || (version != 0 && value[55] == b'-');
    let valid = dashes && ends && version != 0xFF && trace_id != 0 && parent_id != 0;
    valid.then_some((trace_id, u64::try_from(parent_id).ok()?, (flags & 0b11) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

    fn of(values: &[&str]) -> TraceContext {
        TraceContext::of(&Fields::of(&values.iter().map(|value| ("traceparent", *value)).collect::<Vec<_>>()))
    }

    #[test]
    fn continues_the_callers_trace_with_a_span_of_its_own() {
        let context = of(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]);

        assert_eq!((context.trace_id, context.parent_id, context.flags), (TRACE, Some(0x00f0_67aa_0ba9_02b7), 1));
        assert_ne!(context.span_id, 0x00f0_67aa_0ba9_02b7);
        let value = context.forwarded();
        let expected = format!("00-{}-{:016x}-01", context.trace_id_hex(), context.span_id);
        assert_eq!(value, *expected.as_bytes());
        assert!(context.keeps_state());
    }

    #[test]
    fn starts_a_trace_where_there_is_none_that_can_be_read() {
        for values in [
            &[][..],
            &[
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"],
            &["00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x"],
            &[""],
        ] {
            let context = of(values);
            assert_ne!(context.trace_id, TRACE, "{values:?}");
            assert!(context.trace_id != 0 && context.span_id != 0 && !context.keeps_state(), "{values:?}");
        }
    }

    #[test]
    fn reads_later_versions_as_far_as_it_knows_them() {
        let context = of(&["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more"]);

        assert_eq!((context.trace_id, context.flags), (TRACE, 0b11));
    }
}

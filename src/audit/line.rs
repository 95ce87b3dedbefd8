//! A record under construction: one JSON object on one line, written directly into the worker's buffer.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::base::fmt_fast;

/// One JSON object on one line. Members that are absent are left out.
pub(crate) struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    /// Begins a line at the end of the buffer.
    pub(crate) fn begin(buffer: &'a mut Vec<u8>) -> Self {
        buffer.push(b'{');
        Self(buffer)
    }

    fn key(&mut self, key: &'static str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    pub(crate) fn text<'b>(&mut self, key: &'static str, text: impl Into<Option<&'b str>>) {
        if let Some(text) = text.into() {
            self.key(key);
            self.0.push(b'"');
            escape(self.0, text);
            self.0.push(b'"');
        }
    }

    pub(crate) fn number(&mut self, key: &'static str, number: impl Into<Option<u64>>) {
        if let Some(number) = number.into() {
            self.key(key);
            fmt_fast::decimal(self.0, number);
        }
    }

    pub(crate) fn truth(&mut self, key: &'static str, truth: bool) {
        self.key(key);
        self.0.extend_from_slice(if truth { b"true" } else { b"false" });
    }

    /// Writes the number as 32 hexadecimal digits.
    pub(crate) fn hexadecimal(&mut self, key: &'static str, number: Option<u128>) {
        if let Some(number) = number {
            let mut room = [0; 32];
            fmt_fast::hexadecimal(&mut room, number);
            self.quoted(key, |out| out.extend_from_slice(&room));
        }
    }

    pub(crate) fn address(&mut self, key: &'static str, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.quoted(key, |out| fmt_fast::address(out, address));
        }
    }

    pub(crate) fn socket_address(&mut self, key: &'static str, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.quoted(key, |out| fmt_fast::socket_address(out, address));
        }
    }

    /// Writes a time since 1970: RFC 3339, in UTC, to the microsecond.
    pub(crate) fn time(&mut self, key: &'static str, since_epoch: Duration) {
        self.quoted(key, |out| {
            with_second(since_epoch.as_secs(), |second| out.extend_from_slice(second.as_bytes()));
            // A digit before those that are wanted keeps the zeros in front.
            let at = out.len();
            fmt_fast::decimal(out, 1_000_000 + u64::from(since_epoch.subsec_micros()));
            out[at] = b'.';
            out.push(b'Z');
        });
    }

    /// Writes a text that needs no escapes.
    fn quoted(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.0.push(b'"');
        write(self.0);
        self.0.push(b'"');
    }

    pub(crate) fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }
}

/// Formats `2026-11-22T10:00:00`, once a second.
fn with_second(second: u64, write: impl FnOnce(&str)) {
    thread_local!(static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) });
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second || text.is_empty() {
            *last = second;
            // A time beyond the calendar's end cannot come from a clock.
            let time = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            *text = time.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        write(text);
    });
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Escapes a text: RFC 8259, section 7.
fn escape(out: &mut Vec<u8>, text: &str) {
    // Without a way out of the loop, so that many bytes are looked at in one step: nearly every text is plain.
    if !text.bytes().fold(false, |special, byte| special | is_special(byte)) {
        return out.extend_from_slice(text.as_bytes());
    }
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !is_special(byte) {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                let mut code = *b"\\u0000";
                fmt_fast::hexadecimal(&mut code[2..], byte.into());
                out.extend_from_slice(&code);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn line(write: impl FnOnce(&mut Line<'_>)) -> Value {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer);
        write(&mut line);
        line.end();
        assert!(buffer.ends_with(b"}\n") && memchr::memchr_iter(b'\n', &buffer).count() == 1);
        serde_json::from_slice(&buffer).unwrap()
    }

    #[test]
    fn members_have_their_json_form_and_absent_ones_none() {
        let written = line(|line| {
            line.time("time", Duration::from_micros(1_795_000_000_000_042));
            line.text("host", "api.contoso.example");
            line.text("route", None);
            line.hexadecimal("trace_id", Some(0x4bf9));
            line.hexadecimal("none", None);
            line.socket_address("peer", Some(([192, 0, 2, 7], 443).into()));
            line.address("caller", Some("2001:db8::1".parse().unwrap()));
            line.truth("complete", true);
            line.number("status", 200);
            line.number("left", None);
        });

        assert_eq!(
            written,
            json!({
                "time": "2026-11-18T11:06:40.000042Z", "host": "api.contoso.example",
                "trace_id": "00000000000000000000000000004bf9", "peer": "192.0.2.7:443", "caller": "2001:db8::1",
                "complete": true, "status": 200
            })
        );
    }

    #[test]
    fn a_line_may_be_empty() {
        assert_eq!(line(|_| ()), json!({}));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in any::<String>(), control in "[\\x00-\\x1F\"\\\\/a]{0,20}") {
            let written = line(|line| {
                line.text("text", &*text);
                line.text("control", &*control);
            });

            prop_assert_eq!(written, json!({ "text": text, "control": control }));
        }
    }
}

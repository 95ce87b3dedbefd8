//! A record under construction: one JSON object on one line, written directly into the worker's buffer.
//!
//! Members are written by the macros below, which make one constant of the comma, the name and its quotes: most of a record is the
//! same each time, and what is copied in one piece costs least. For the same reason, members that many records share are
//! [prepared](Prepared) once.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::base::fmt_fast;

/// Writes a text, or none: `text!(line, "method", method)`.
macro_rules! text {
    ($line:expr, $name:literal, $text:expr) => {
        $line.text(concat!(",\"", $name, "\":\""), $text)
    };
}

/// Writes a text that needs no escapes, or none.
macro_rules! plain {
    ($line:expr, $name:literal, $text:expr) => {
        $line.plain(concat!(",\"", $name, "\":\""), $text)
    };
}

/// Writes what a caller wrote as a text.
macro_rules! caller_text {
    ($line:expr, $name:literal, $bytes:expr) => {
        $line.caller_text(concat!(",\"", $name, "\":\""), $bytes)
    };
}

/// Writes a number, or none.
macro_rules! number {
    ($line:expr, $name:literal, $number:expr) => {
        $line.number(concat!(",\"", $name, "\":"), $number)
    };
}

/// Writes `true` or `false`.
macro_rules! truth {
    ($line:expr, $name:literal, $truth:expr) => {
        $line.literal(if $truth { concat!(",\"", $name, "\":true") } else { concat!(",\"", $name, "\":false") })
    };
}

/// Writes a number as 32 hexadecimal digits, or none.
macro_rules! hexadecimal {
    ($line:expr, $name:literal, $number:expr) => {
        $line.hexadecimal(concat!(",\"", $name, "\":\""), $number)
    };
}

/// Writes an IP address, or none.
macro_rules! address {
    ($line:expr, $name:literal, $address:expr) => {
        $line.address(concat!(",\"", $name, "\":\""), $address)
    };
}

/// Writes an address with its port, or none.
macro_rules! socket_address {
    ($line:expr, $name:literal, $address:expr) => {
        $line.socket_address(concat!(",\"", $name, "\":\""), $address)
    };
}

/// Writes a list of texts; none if it is empty.
macro_rules! list {
    ($line:expr, $name:literal, $texts:expr) => {
        $line.list(concat!(",\"", $name, "\":["), $texts)
    };
}

/// Writes an object, whose members the closure writes; none if it writes none.
macro_rules! object {
    ($line:expr, $name:literal, $write:expr) => {
        $line.object(concat!(",\"", $name, "\":{"), $write)
    };
}

/// Writes a list of objects, whose members the closure writes; none if it is empty.
macro_rules! objects {
    ($line:expr, $name:literal, $list:expr, $write:expr) => {
        $line.objects(concat!(",\"", $name, "\":["), $list, $write)
    };
}

pub(crate) use {address, caller_text, hexadecimal, list, number, object, objects, plain, socket_address, text, truth};

/// The longest text of a caller's, in bytes: what callers write is shown, not stored.
pub(crate) const LONGEST: usize = 256;

/// One JSON object on one line. Members that are absent are left out.
pub(crate) struct Line<'a>(&'a mut Vec<u8>);

/// Members that are written once and copied into many records. Begins with a comma, unless it is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared(Box<[u8]>);

impl Prepared {
    /// Writes the members.
    pub(crate) fn new(write: impl FnOnce(&mut Line<'_>)) -> Self {
        let mut buffer = Vec::new();
        write(&mut Line(&mut buffer));
        Self(buffer.into())
    }
}

impl<'a> Line<'a> {
    /// Begins a line at the end of the buffer, with the time since 1970 and the record's id.
    pub(crate) fn begin(buffer: &'a mut Vec<u8>, time: Duration, record_id: u128) -> Self {
        // Room for nearly every record, so that it is not moved while it grows.
        buffer.reserve(1 << 10);
        buffer.extend_from_slice(b"{\"time\":\"");
        write_time(buffer, time);
        let mut line = Self(buffer);
        hexadecimal!(line, "record_id", Some(record_id));
        line
    }

    pub(crate) fn text<'b>(&mut self, key: &'static str, text: impl Into<Option<&'b str>>) {
        if let Some(text) = text.into() {
            self.escaped(key, text);
        }
    }

    /// Writes a text with its escapes.
    ///
    /// Members are written by calls that are not inlined: a request runs through more code than the first-level cache holds, and
    /// each copy of this would be read from the next.
    #[inline(never)]
    fn escaped(&mut self, key: &'static str, text: &str) {
        self.0.extend_from_slice(key.as_bytes());
        escape(self.0, text);
        self.0.push(b'"');
    }

    /// Writes a text that needs no escapes.
    #[inline(never)]
    fn as_it_is(&mut self, key: &'static str, text: &[u8]) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(text);
        self.0.push(b'"');
    }

    /// Writes what a caller wrote as a text of at most [`LONGEST`] bytes.
    pub(crate) fn caller_text(&mut self, key: &'static str, bytes: &[u8]) {
        let beginning = &bytes[..bytes.len().min(LONGEST)];
        if beginning.is_ascii() && is_plain(beginning) {
            self.as_it_is(key, beginning);
        } else {
            self.escaped(key, &shown(bytes));
        }
    }

    pub(crate) fn plain<'b>(&mut self, key: &'static str, text: impl Into<Option<&'b str>>) {
        if let Some(text) = text.into() {
            debug_assert!(is_plain(text.as_bytes()), "{text:?} needs escapes");
            self.as_it_is(key, text.as_bytes());
        }
    }

    pub(crate) fn number(&mut self, key: &'static str, number: impl Into<Option<u64>>) {
        if let Some(number) = number.into() {
            self.decimal(key, number);
        }
    }

    #[inline(never)]
    fn decimal(&mut self, key: &'static str, number: u64) {
        self.0.extend_from_slice(key.as_bytes());
        fmt_fast::decimal(self.0, number);
    }

    pub(crate) fn literal(&mut self, member: &'static str) {
        self.0.extend_from_slice(member.as_bytes());
    }

    pub(crate) fn hexadecimal(&mut self, key: &'static str, number: Option<u128>) {
        if let Some(number) = number {
            self.as_it_is(key, &fmt_fast::hexadecimal(number));
        }
    }

    pub(crate) fn address(&mut self, key: &'static str, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.0.extend_from_slice(key.as_bytes());
            fmt_fast::address(self.0, address);
            self.0.push(b'"');
        }
    }

    pub(crate) fn socket_address(&mut self, key: &'static str, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.0.extend_from_slice(key.as_bytes());
            fmt_fast::socket_address(self.0, address);
            self.0.push(b'"');
        }
    }

    pub(crate) fn list<'b>(&mut self, key: &'static str, texts: impl IntoIterator<Item = &'b str>) {
        let before = self.0.len();
        for text in texts {
            self.0.extend_from_slice(if self.0.len() == before { key.as_bytes() } else { b"," });
            self.0.push(b'"');
            escape(self.0, text);
            self.0.push(b'"');
        }
        if self.0.len() > before {
            self.0.push(b']');
        }
    }

    pub(crate) fn object(&mut self, key: &'static str, write: impl FnOnce(&mut Self)) {
        let before = self.0.len();
        self.0.extend_from_slice(key.as_bytes());
        let inner = self.0.len();
        write(self);
        if self.0.len() == inner {
            self.0.truncate(before);
        } else {
            // Members begin with a comma, which the first one of an object has no use for.
            self.0.remove(inner);
            self.0.push(b'}');
        }
    }

    pub(crate) fn objects<T>(&mut self, key: &'static str, list: &[T], write: impl Fn(&mut Self, &T)) {
        for (index, entry) in list.iter().enumerate() {
            self.0.extend_from_slice(if index == 0 { key.as_bytes() } else { b"," });
            self.0.push(b'{');
            let inner = self.0.len();
            write(self, entry);
            if self.0.len() > inner {
                self.0.remove(inner);
            }
            self.0.push(b'}');
        }
        if !list.is_empty() {
            self.0.push(b']');
        }
    }

    /// Writes a member whose name is known at run time alone; its value is JSON.
    pub(crate) fn member(&mut self, name: &str, json: &str) {
        self.0.extend_from_slice(b",\"");
        escape(self.0, name);
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(json.as_bytes());
    }

    /// Writes members that were prepared.
    pub(crate) fn prepared(&mut self, members: &Prepared) {
        self.0.extend_from_slice(&members.0);
    }

    /// Writes members that are JSON already, each with a comma before it.
    pub(crate) fn members(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    pub(crate) fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }
}

/// Returns the beginning of a text, of at most [`LONGEST`] bytes.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// Returns what a caller wrote as a text of at most [`LONGEST`] bytes.
pub(crate) fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            text.truncate(text.floor_char_boundary(LONGEST));
            text.into()
        }
    }
}

/// Writes a time since 1970 and its closing quote: RFC 3339, in UTC, to the microsecond.
fn write_time(out: &mut Vec<u8>, since_epoch: Duration) {
    with_second(since_epoch.as_secs(), |second| out.extend_from_slice(second.as_bytes()));
    let mut fraction = *b".000000Z\"";
    fmt_fast::decimal_digits(&mut fraction[1..7], since_epoch.subsec_micros().into());
    out.extend_from_slice(&fraction);
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

/// Returns whether no byte needs an escape. Looks at eight in one step: nearly every text is plain.
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 0xFF;
    // Whether some byte is below the bound: the highest bit of a byte is set then.
    const fn below(word: u64, bound: u64) -> u64 {
        word.wrapping_sub(ONES * bound) & !word
    }
    const fn holds_special(word: [u8; 8]) -> u64 {
        let word = u64::from_ne_bytes(word);
        let (quote, backslash) = (word ^ (ONES * b'"' as u64), word ^ (ONES * b'\\' as u64));
        (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & (ONES << 7)
    }
    let Some(last) = bytes.last_chunk() else { return !bytes.iter().copied().any(is_special) };
    let (words, _) = bytes.as_chunks();
    words.iter().fold(holds_special(*last), |special, word| special | holds_special(*word)) == 0
}

/// Escapes a text: RFC 8259, section 7.
fn escape(out: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
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
                code[2..].copy_from_slice(&fmt_fast::hexadecimal(byte.into())[28..]);
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

    const TIME: Duration = Duration::from_micros(1_795_000_000_000_042);

    fn line(write: impl FnOnce(&mut Line<'_>)) -> Value {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, TIME, 7);
        write(&mut line);
        line.end();
        assert!(buffer.ends_with(b"}\n") && memchr::memchr_iter(b'\n', &buffer).count() == 1);
        let mut line: Value = serde_json::from_slice(&buffer).unwrap();
        let members = line.as_object_mut().unwrap();
        assert_eq!(members.remove("time"), Some("2026-11-18T11:06:40.000042Z".into()));
        assert_eq!(members.remove("record_id"), Some("00000000000000000000000000000007".into()));
        line
    }

    #[test]
    fn objects_in_a_list_have_their_members_alone() {
        let written = line(|line| {
            objects!(line, "notes", &[Some("a"), None], |line: &mut Line<'_>, text: &Option<&str>| {
                text!(line, "message", *text);
                object!(line, "metadata", |line: &mut Line<'_>| line.member("x\"", "1"));
            });
            objects!(line, "none", &[(); 0], |_: &mut Line<'_>, (): &()| {});
        });

        assert_eq!(written["notes"], json!([{ "message": "a", "metadata": { "x\"": 1 } }, { "metadata": { "x\"": 1 } }]));
        assert!(written.get("none").is_none());
    }

    #[test]
    fn members_have_their_json_form_and_absent_ones_none() {
        let prepared = Prepared::new(|line| {
            text!(line, "listener", "pub\"lic");
            text!(line, "absent", None);
        });
        let written = line(|line| {
            text!(line, "host", "api.contoso.example");
            plain!(line, "route", None);
            hexadecimal!(line, "trace_id", Some(0x4bf9));
            hexadecimal!(line, "none", None);
            line.prepared(&prepared);
            line.prepared(&Prepared::default());
            socket_address!(line, "peer", Some(([192, 0, 2, 7], 443).into()));
            address!(line, "caller", Some("2001:db8::1".parse().unwrap()));
            truth!(line, "complete", true);
            truth!(line, "verified", false);
            number!(line, "status", 200);
            number!(line, "left", None);
            list!(line, "roles", ["a", "b\\"]);
            list!(line, "scopes", []);
            object!(line, "claims", |line: &mut Line<'_>| {
                line.member("dep\"artment", "\"sales\"");
                number!(line, "level", 5);
            });
            object!(line, "nothing", |_: &mut Line<'_>| {});
            objects!(line, "would_deny", &["a", "b"], |line: &mut Line<'_>, at: &&str| text!(line, "at", *at));
            objects!(line, "none", &[], |line: &mut Line<'_>, at: &&str| text!(line, "at", *at));
            line.members(",\"issuer\":\"i\"");
        });

        assert_eq!(
            written,
            json!({
                "host": "api.contoso.example", "trace_id": "00000000000000000000000000004bf9", "listener": "pub\"lic",
                "peer": "192.0.2.7:443", "caller": "2001:db8::1", "complete": true, "verified": false, "status": 200,
                "roles": ["a", "b\\"], "claims": { "dep\"artment": "sales", "level": 5 },
                "would_deny": [{ "at": "a" }, { "at": "b" }], "issuer": "i"
            })
        );
    }

    #[test]
    fn a_line_may_have_no_further_members() {
        assert_eq!(line(|_| ()), json!({}));
    }

    #[test]
    fn what_a_caller_wrote_is_short_and_a_text() {
        assert_eq!(shown(b"curl/8.5.0"), "curl/8.5.0");
        assert_eq!(shown(&[b'a'; 300]).len(), LONGEST);
        for bytes in [&[0xFF; 300][..], "ä".repeat(200).as_bytes(), &[b"a", "ä".repeat(200).as_bytes()].concat()] {
            let shown = shown(bytes);
            assert!(shown.len() <= LONGEST && shown.len() > LONGEST - 4, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in any::<String>(), control in "[\\x00-\\x1F\"\\\\/a]{0,20}", tail in "[ -~\\x7Fä]{0,20}[\"\\\\\\x1Fa]?[ -~]{0,9}") {
            let written = line(|line| {
                text!(line, "text", &*text);
                text!(line, "control", &*control);
                text!(line, "tail", &*tail);
            });

            prop_assert_eq!(written, json!({ "text": text, "control": control, "tail": tail }));
        }

        #[test]
        fn plain_texts_are_those_without_special_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(is_plain(&bytes), !bytes.iter().copied().any(is_special));
        }
    }
}

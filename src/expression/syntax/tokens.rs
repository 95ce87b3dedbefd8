//! Words, signs, numbers and texts of an expression.

use std::borrow::Cow;

use super::{Fault, Parsed, quoted};

/// A word, sign, number or text.
#[derive(Debug)]
pub(super) struct Token<'s> {
    pub(super) at: usize,
    pub(super) kind: Kind<'s>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'s> {
    End,
    /// An operator, a bracket, a separator, or a word that cannot be a name.
    Sign(&'static str),
    Name(&'s str),
    /// A whole number, as it is written.
    Int(&'s str),
    /// A fraction, as it is written.
    Double(&'s str),
    Text(Cow<'s, str>),
}

/// Words that can be no name, not even that of a field.
pub(super) const WORDS: [&str; 4] = ["in", "true", "false", "null"];

/// Signs, those of two characters first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "(", ")", "[", "]", "{", "}", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%",
];

/// The rest of an expression, from which tokens are taken one by one.
pub(super) struct Tokens<'s> {
    text: &'s str,
    at: usize,
}

impl<'s> Tokens<'s> {
    pub(super) const fn of(text: &'s str) -> Self {
        Self { text, at: 0 }
    }

    /// Takes the next token; at the end of the text it is [`Kind::End`].
    pub(super) fn next(&mut self) -> Parsed<Token<'s>> {
        self.skip_blanks();
        let at = self.at;
        let rest = &self.text[at..];
        let Some(first) = rest.chars().next() else { return Ok(Token { at, kind: Kind::End }) };
        let digit_follows = || rest[1..].starts_with(|next: char| next.is_ascii_digit());
        let kind = match first {
            '0'..='9' => self.number(rest)?,
            '.' if digit_follows() => self.number(rest)?,
            '"' | '\'' => self.quoted(0)?,
            'a'..='z' | 'A'..='Z' | '_' => self.word(rest)?,
            _ => match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
                Some(sign) => {
                    self.at += sign.len();
                    Kind::Sign(sign)
                }
                None => return Err(unknown(at, first, rest)),
            },
        };
        Ok(Token { at, kind })
    }

    /// Skips white space, and comments up to the end of their line.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let length = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else {
                rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{c}']).len()
            };
            if length == 0 {
                return;
            }
            self.at += length;
        }
    }

    fn word(&mut self, rest: &'s str) -> Parsed<Kind<'s>> {
        let length = rest.find(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        if after.starts_with(['"', '\'']) {
            match word {
                "r" | "R" => return self.quoted(1),
                "b" | "B" | "br" | "bR" | "Br" | "BR" => {
                    return Err(Fault::new(self.at, "bytes are not supported").with_cure("leave the `b` out"));
                }
                _ => {}
            }
        }
        self.at += length;
        Ok(WORDS.into_iter().find(|reserved| *reserved == word).map_or(Kind::Name(word), Kind::Sign))
    }

    fn number(&mut self, rest: &'s str) -> Parsed<Kind<'s>> {
        let bytes = rest.as_bytes();
        let (whole, length) = match rest.strip_prefix("0x").map(|digits| digits_of(digits.as_bytes(), u8::is_ascii_hexdigit)) {
            Some(digits) if digits > 0 => (true, 2 + digits),
            _ => {
                let digits = digits_of(bytes, u8::is_ascii_digit);
                let length = with_fraction(bytes, digits);
                (length == digits, length)
            }
        };
        if whole && matches!(bytes.get(length), Some(b'u' | b'U')) {
            return Err(Fault::new(self.at, "unsigned numbers are not supported").with_cure("leave the `u` out"));
        }
        self.at += length;
        let written = &rest[..length];
        Ok(if whole { Kind::Int(written) } else { Kind::Double(written) })
    }

    /// Takes a quoted text after a prefix of this length, which makes it raw.
    fn quoted(&mut self, prefix: usize) -> Parsed<Kind<'s>> {
        let (value, end) = quoted::read(self.text, self.at + prefix, prefix > 0)?;
        self.at = end;
        Ok(Kind::Text(value))
    }
}

fn digits_of(bytes: &[u8], is_digit: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is_digit(byte)).count()
}

/// Returns the length of a number that begins with so many digits, its fraction and its exponent included.
fn with_fraction(bytes: &[u8], digits: usize) -> usize {
    let mut length = digits;
    if bytes.get(length) == Some(&b'.') {
        let fraction = digits_of(&bytes[length + 1..], u8::is_ascii_digit);
        if fraction > 0 {
            length += 1 + fraction;
        }
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits_of(bytes.get(length + 1 + sign..).unwrap_or_default(), u8::is_ascii_digit);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

/// Returns the fault of a character that begins nothing.
fn unknown(at: usize, first: char, rest: &str) -> Box<Fault> {
    let (found, cure) = match first {
        '=' if rest.starts_with("=>") => ("=>".to_owned(), None),
        '=' => ("=".to_owned(), Some("write `==` to compare")),
        '&' => ("&".to_owned(), Some("write `&&`")),
        '|' => ("|".to_owned(), Some("write `||`")),
        '`' => ("`".to_owned(), Some("write a name that is no word in quotes, as token.claims[\"extn.costCenter\"]")),
        '\u{2018}'..='\u{201f}' => (first.to_string(), Some("write a text between straight quotes, as \"text\" or 'text'")),
        first if first.is_control() => (first.escape_default().to_string(), None),
        first => (first.to_string(), None),
    };
    let fault = Fault::new(at, format!("`{found}` has no meaning"));
    match cure {
        Some(cure) => fault.with_cure(cure),
        None => fault,
    }
}

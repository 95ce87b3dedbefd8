//! Tokens of C#.

use super::{Refusal, parser};

/// The maximum number of tokens.
const MOST: usize = 8_000;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    Fraction(String),
    Text(Vec<super::Piece>),
    Named(String),
    Sign(&'static str),
    End,
}

/// The signs, the longer ones first.
const SIGNS: &[&str] = &[
    "??=", "=>", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "?[", "++", "--", "+=", "-=", "(", ")", "[", "]", "{", "}", "<",
    ">", "!", "=", "+", "-", "*", "/", "%", "?", ":", ",", ";", ".", "&", "|",
];

/// Takes a text apart.
pub(super) fn tokens(text: &str, offset: usize, nesting: usize) -> Result<Vec<(Token, usize)>, Refusal> {
    let mut lexer = Lexer { text, at: 0, offset, nesting, tokens: Vec::new() };
    while lexer.skip_blanks()? {
        lexer.token()?;
        if lexer.tokens.len() > MOST {
            return Err(lexer.unparsable("the expression is too long"));
        }
    }
    lexer.push(Token::End, lexer.at);
    Ok(lexer.tokens)
}

/// Returns the name of a named value that a text begins with as `{{name}}`, and its length.
pub(super) fn named_value(text: &str) -> Option<(&str, usize)> {
    let inner = text.strip_prefix("{{")?;
    let end = inner.find("}}")?;
    let name = inner[..end].trim();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    is_name.then_some((name, end + 4))
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// The offset of the text within the whole expression.
    offset: usize,
    nesting: usize,
    tokens: Vec<(Token, usize)>,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn unparsable(&self, reason: impl Into<String>) -> Refusal {
        Refusal::new("unparsable", reason, self.offset + self.at)
    }

    fn push(&mut self, token: Token, start: usize) {
        self.tokens.push((token, self.offset + start));
    }

    /// Skips blanks and comments; returns whether anything follows.
    fn skip_blanks(&mut self) -> Result<bool, Refusal> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let length = rest.find("*/").ok_or_else(|| self.unparsable("a comment is never closed"))?;
                self.at += length + 2;
            } else {
                return Ok(!rest.is_empty());
            }
        }
    }

    fn token(&mut self) -> Result<(), Refusal> {
        let (rest, start) = (self.rest(), self.at);
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_alphabetic() || first == '_' {
            let length = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
            self.at += length;
            self.push(Token::Name(rest[..length].to_owned()), start);
        } else if first.is_ascii_digit() {
            self.number(start)?;
        } else if rest.starts_with('"') {
            self.at += 1;
            self.string(start, false, false)?;
        } else if rest.starts_with("@\"") {
            self.at += 2;
            self.string(start, true, false)?;
        } else if rest.starts_with("$\"") {
            self.at += 2;
            self.string(start, false, true)?;
        } else if rest.starts_with("$@\"") || rest.starts_with("@$\"") {
            self.at += 3;
            self.string(start, true, true)?;
        } else if first == '\'' {
            self.character(start)?;
        } else if let Some((name, length)) = named_value(rest) {
            self.at += length;
            self.push(Token::Named(name.to_owned()), start);
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            self.at += sign.len();
            self.push(Token::Sign(sign), start);
        } else {
            return Err(self.unparsable(format!("`{first}` is not understood")));
        }
        Ok(())
    }

    fn number(&mut self, start: usize) -> Result<(), Refusal> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        if let Some(digits) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let length = digits.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(digits.len());
            let number = i64::from_str_radix(&digits[..length], 16).map_err(|_| self.unparsable("a number is too large"))?;
            self.at += 2 + length;
            self.push(Token::Int(number), start);
            return Ok(());
        }
        let mut length = bytes.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count();
        let is_fraction = bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit);
        if is_fraction {
            length += 1 + bytes[length + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        }
        let digits = rest[..length].replace('_', "");
        self.at += length;
        // The type of a number: `1L`, `2.5m`.
        let suffix =
            self.rest().chars().take_while(|letter| matches!(letter, 'L' | 'l' | 'U' | 'u' | 'm' | 'M' | 'd' | 'D' | 'f' | 'F'));
        let suffix: String = suffix.collect();
        self.at += suffix.len();
        if is_fraction || suffix.contains(['m', 'M', 'd', 'D', 'f', 'F']) {
            let fraction = if is_fraction { digits } else { format!("{digits}.0") };
            self.push(Token::Fraction(fraction), start);
        } else {
            let number = digits.parse().map_err(|_| self.unparsable("a number is too large"))?;
            self.push(Token::Int(number), start);
        }
        Ok(())
    }

    fn character(&mut self, start: usize) -> Result<(), Refusal> {
        self.at += 1;
        let letter = match self.take() {
            Some('\\') => self.escape()?,
            Some(letter) => letter,
            None => return Err(self.unparsable("a character is never closed")),
        };
        if self.take() != Some('\'') {
            return Err(self.unparsable("a character is never closed"));
        }
        self.push(Token::Text(vec![super::Piece::Text(letter.to_string())]), start);
        Ok(())
    }

    fn take(&mut self) -> Option<char> {
        let letter = self.rest().chars().next()?;
        self.at += letter.len_utf8();
        Some(letter)
    }

    /// Reads an escape behind its `\`.
    fn escape(&mut self) -> Result<char, Refusal> {
        let letter = self.take().ok_or_else(|| self.unparsable("a text is never closed"))?;
        Ok(match letter {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            '\\' | '"' | '\'' => letter,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'u' | 'x' => {
                let length = self.rest().bytes().take(4).take_while(u8::is_ascii_hexdigit).count();
                let code = u32::from_str_radix(&self.rest()[..length], 16).ok().and_then(char::from_u32);
                self.at += length;
                code.ok_or_else(|| self.unparsable("an escape is not understood"))?
            }
            _ => return Err(self.unparsable(format!("the escape `\\{letter}` is not understood"))),
        })
    }

    /// Reads a string behind its first quote.
    fn string(&mut self, start: usize, is_verbatim: bool, is_interpolated: bool) -> Result<(), Refusal> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        loop {
            if let Some((name, length)) = named_value(self.rest()) {
                if !text.is_empty() {
                    pieces.push(super::Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(super::Piece::Named(name.to_owned()));
                self.at += length;
                continue;
            }
            match self.take() {
                None => return Err(self.unparsable("a text is never closed")),
                Some('"') if is_verbatim && self.rest().starts_with('"') => {
                    self.at += 1;
                    text.push('"');
                }
                Some('"') => break,
                Some('\\') if !is_verbatim => text.push(self.escape()?),
                Some('\n') if !is_verbatim => return Err(self.unparsable("a text is never closed")),
                Some('{') if is_interpolated => {
                    if self.rest().starts_with('{') {
                        self.at += 1;
                        text.push('{');
                        continue;
                    }
                    if !text.is_empty() {
                        pieces.push(super::Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(super::Piece::Hole(self.hole()?));
                }
                Some('}') if is_interpolated => {
                    if self.rest().starts_with('}') {
                        self.at += 1;
                    }
                    text.push('}');
                }
                Some(letter) => text.push(letter),
            }
        }
        if !text.is_empty() || pieces.is_empty() {
            pieces.push(super::Piece::Text(text));
        }
        self.push(Token::Text(pieces), start);
        Ok(())
    }

    /// Reads a hole behind its `{`.
    fn hole(&mut self) -> Result<super::Expr, Refusal> {
        let start = self.at;
        let braces = format!("@{{{}", self.rest());
        let length = crate::xml::expression_end(&braces).ok_or_else(|| self.unparsable("a hole of a text is never closed"))?;
        let inner = &self.rest()[..length - 3];
        self.at += length - 2;
        parser::hole(inner, self.offset + start, self.nesting + 1)
    }
}

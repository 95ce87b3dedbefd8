//! Quoted texts: one or three quotes of either kind, escapes, and raw texts without them.

use std::{borrow::Cow, str::Chars};

use super::{Fault, Parsed};

/// Reads the text whose quote is at this byte; returns what it stands for, and the byte after it.
pub(super) fn read(text: &str, quote: usize, raw: bool) -> Parsed<(Cow<'_, str>, usize)> {
    let rest = &text[quote..];
    let mark = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|mark| rest.starts_with(mark)).unwrap_or("\"");
    let start = quote + mark.len();
    let Some(length) = closing(&text[start..], mark, raw) else { return Err(open(quote, mark)) };
    let written = &text[start..start + length];
    Ok((resolved(written, start, raw)?, start + length + mark.len()))
}

/// Returns the byte of the closing quotes. A text of single quotes ends on its line.
fn closing(rest: &str, mark: &str, raw: bool) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if !raw => at += 2,
            b'\n' | b'\r' if mark.len() == 1 => return None,
            _ if bytes[at..].starts_with(mark.as_bytes()) => return Some(at),
            _ => at += 1,
        }
    }
    None
}

fn open(at: usize, mark: &str) -> Box<Fault> {
    let cure = if mark.len() == 1 {
        format!("close it on the line on which it begins, or write {mark}{mark}{mark} at both ends")
    } else {
        format!("write {mark} at its end")
    };
    Fault::new(at, format!("the text that begins here has no closing {mark}")).with_cure(cure)
}

/// Returns the characters that a text stands for: escapes resolved, and each line end as `\n`, whatever wrote the file.
fn resolved(written: &str, start: usize, raw: bool) -> Parsed<Cow<'_, str>> {
    if !written.contains(['\\', '\r']) {
        return Ok(Cow::Borrowed(written));
    }
    let mut text = String::with_capacity(written.len());
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if !raw => {
                let rest = letters.as_str();
                let at = start + written.len() - rest.len() - 1;
                text.push(escaped(&mut letters).ok_or_else(|| unknown(at, rest))?);
            }
            '\r' => {
                text.push('\n');
                if letters.as_str().starts_with('\n') {
                    letters.next();
                }
            }
            letter => text.push(letter),
        }
    }
    Ok(Cow::Owned(text))
}

/// Reads what follows a backslash.
fn escaped(letters: &mut Chars<'_>) -> Option<char> {
    Some(match letters.next()? {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        same @ ('"' | '\'' | '\\' | '?' | '`') => same,
        'x' | 'X' => return numbered(letters, 0, 2, 16),
        'u' => return numbered(letters, 0, 4, 16),
        'U' => return numbered(letters, 0, 8, 16),
        first @ '0'..='3' => return numbered(letters, u32::from(first) - u32::from('0'), 2, 8),
        _ => return None,
    })
}

/// Reads the character whose number begins with `first` and goes on for so many digits.
fn numbered(letters: &mut Chars<'_>, first: u32, digits: usize, radix: u32) -> Option<char> {
    let mut number = first;
    for _ in 0..digits {
        number = number.checked_mul(radix)?.checked_add(letters.next()?.to_digit(radix)?)?;
    }
    char::from_u32(number)
}

fn unknown(at: usize, rest: &str) -> Box<Fault> {
    let Some(letter) = rest.chars().next() else { return Fault::new(at, "`\\` is no escape") };
    let cure = match letter {
        'x' | 'X' => "write two hexadecimal digits after it, as \\x41".to_owned(),
        'u' => "write the four hexadecimal digits of a character after it, as \\u0041".to_owned(),
        'U' => "write the eight hexadecimal digits of a character after it, as \\U00000041".to_owned(),
        '0'..='3' => "write three octal digits, as \\101".to_owned(),
        _ => "write `\\\\` for one backslash, or `r` before the quote of a text without escapes".to_owned(),
    };
    Fault::new(at, format!("`\\{}` is no escape", letter.escape_debug())).with_cure(cure)
}

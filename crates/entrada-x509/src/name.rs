//! Distinguished names in one canonical text form, so that they can be compared as texts.
//!
//! The form is that of RFC 4514, the most specific part first, with a space after each comma as API Management and Windows write
//! it. Values are compared character by character, whatever the certificate's string type.

use std::fmt::Write as _;

use x509_parser::{
    der_parser::asn1_rs::{Any, Tag},
    x509::X509Name,
};

use super::hex;

/// Attribute types with a short name: the object identifier, the name that we write, and other names that are read.
const TYPES: &[(&str, &str, &[&str])] = &[
    ("2.5.4.3", "CN", &["COMMONNAME"]),
    ("2.5.4.4", "SN", &["SURNAME"]),
    ("2.5.4.5", "SERIALNUMBER", &[]),
    ("2.5.4.6", "C", &["COUNTRYNAME"]),
    ("2.5.4.7", "L", &["LOCALITYNAME"]),
    ("2.5.4.8", "ST", &["S", "STATEORPROVINCENAME"]),
    ("2.5.4.9", "STREET", &["STREETADDRESS"]),
    ("2.5.4.10", "O", &["ORGANIZATIONNAME"]),
    ("2.5.4.11", "OU", &["ORGANIZATIONALUNITNAME"]),
    ("2.5.4.12", "T", &["TITLE"]),
    ("2.5.4.42", "GN", &["G", "GIVENNAME"]),
    ("2.5.4.97", "ORGANIZATIONIDENTIFIER", &[]),
    ("0.9.2342.19200300.100.1.1", "UID", &["USERID"]),
    ("0.9.2342.19200300.100.1.25", "DC", &["DOMAINCOMPONENT"]),
    ("1.2.840.113549.1.9.1", "E", &["EMAILADDRESS", "EMAIL"]),
];

/// The reason why a text is not a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// A part without `=`.
    #[error("`{0}` is not a `TYPE=value`")]
    Part(String),
    /// A type without a known short name.
    #[error("`{0}` is not a known type of attribute; its object identifier always is, as in `2.5.4.10=Fabrikam`")]
    Type(String),
    /// Unterminated quotes or an unfinished escape.
    #[error("quotes or an escape are unterminated")]
    Unfinished,
}

/// One attribute, the type as it is written and the value unescaped.
type Attribute = (String, Value);

#[derive(Debug)]
enum Value {
    Text(String),
    /// A value that is not text, in hexadecimal.
    Other(String),
}

/// Returns a certificate's name in canonical form.
pub(super) fn of(name: &X509Name<'_>) -> Box<str> {
    let parts = name.iter_rdn().map(|part| {
        let attributes = part.iter().map(|attribute| {
            let identifier = attribute.attr_type().to_id_string();
            let known = TYPES.iter().find(|(own, ..)| *own == identifier);
            let value =
                text(attribute.attr_value()).map_or_else(|| Value::Other(hex(attribute.attr_value().data).into()), Value::Text);
            (known.map_or(identifier, |(_, name, _)| (*name).to_owned()), value)
        });
        attributes.collect::<Vec<_>>()
    });
    // RFC 4514, section 2.1: the last part comes first.
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    write(parts)
}

/// Returns the text of a value, if it is text.
pub(super) fn text(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(value.data.to_vec()).ok()
        }
        // Old certificates hold Latin-1 in these; read as anything else than ASCII they would be a guess.
        Tag::T61String if value.data.is_ascii() => String::from_utf8(value.data.to_vec()).ok(),
        Tag::BmpString if value.data.len().is_multiple_of(2) => {
            let units: Vec<u16> = value.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// Converts a name as people write it to the canonical form.
///
/// # Errors
/// Returns the part that cannot be read.
pub fn canonical(text: &str) -> Result<Box<str>, NameFault> {
    if text.trim().is_empty() {
        return Err(NameFault::Empty);
    }
    let mut parts = vec![Vec::new()];
    let mut rest = text;
    loop {
        let (kind, after) = rest.split_once('=').ok_or_else(|| NameFault::Part(rest.trim().to_owned()))?;
        let (value, end, after) = value(after)?;
        if let Some(part) = parts.last_mut() {
            part.push((kind_of(kind.trim())?, value));
        }
        rest = after;
        match end {
            None => return Ok(write(parts)),
            Some('+') => {}
            Some(_) => parts.push(Vec::new()),
        }
    }
}

/// Returns the type of an attribute in its canonical spelling.
fn kind_of(written: &str) -> Result<String, NameFault> {
    let upper = written.to_ascii_uppercase();
    let identifier = upper.strip_prefix("OID.").unwrap_or(&upper);
    let known = TYPES.iter().find(|(own, name, others)| *own == identifier || *name == upper || others.contains(&upper.as_str()));
    if let Some((_, name, _)) = known {
        return Ok((*name).to_owned());
    }
    let is_identifier = identifier.contains('.')
        && identifier.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()));
    if is_identifier { Ok(identifier.to_owned()) } else { Err(NameFault::Type(written.to_owned())) }
}

/// Reads a value; returns it with its terminator (`,`, `;` or `+`) and the remaining text.
fn value(text: &str) -> Result<(Value, Option<char>, &str), NameFault> {
    let text = text.trim_start_matches(' ');
    if let Some(digits) = text.strip_prefix('#') {
        let end = digits.find([',', ';', '+']).unwrap_or(digits.len());
        let (value, after) = digits.split_at(end);
        let mut after = after.chars();
        let end = after.next();
        return Ok((Value::Other(value.trim_end().to_ascii_uppercase()), end, after.as_str()));
    }
    let mut bytes = Vec::new();
    // Blanks at the end do not count, unless they were escaped or quoted.
    let mut kept = 0;
    let mut quoted = false;
    let mut letters = text.chars();
    let mut end = None;
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                kept = bytes.len();
            }
            '\\' => {
                bytes.extend_from_slice(&escaped(&mut letters)?);
                kept = bytes.len();
            }
            ',' | ';' | '+' if !quoted => {
                end = Some(letter);
                break;
            }
            letter => {
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                if letter != ' ' || quoted {
                    kept = bytes.len();
                }
            }
        }
    }
    if quoted {
        return Err(NameFault::Unfinished);
    }
    bytes.truncate(kept);
    let value = String::from_utf8(bytes).map_err(|_| NameFault::Unfinished)?;
    Ok((Value::Text(value), end, letters.as_str()))
}

/// Reads an escape after a backslash: two hexadecimal digits are a byte, anything else stands for itself.
fn escaped(letters: &mut std::str::Chars<'_>) -> Result<Vec<u8>, NameFault> {
    let first = letters.next().ok_or(NameFault::Unfinished)?;
    let Some(high) = first.to_digit(16) else { return Ok(first.to_string().into_bytes()) };
    let low = letters.next().and_then(|letter| letter.to_digit(16)).ok_or(NameFault::Unfinished)?;
    Ok(vec![(high * 16 + low) as u8])
}

fn write(parts: Vec<Vec<Attribute>>) -> Box<str> {
    let parts = parts.into_iter().map(|attributes| {
        let mut texts: Vec<_> = attributes.into_iter().map(|(kind, value)| format!("{kind}={}", escape(&value))).collect();
        // The attributes of one part are a set.
        texts.sort_unstable();
        texts.join("+")
    });
    parts.collect::<Vec<_>>().join(", ").into()
}

/// Escapes a value: RFC 4514, section 2.4.
fn escape(value: &Value) -> String {
    let text = match value {
        Value::Text(text) => text,
        Value::Other(digits) => return format!("#{digits}"),
    };
    let mut out = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => {
                out.push('\\');
                out.push(letter);
            }
            ' ' | '#' if at == 0 => {
                out.push('\\');
                out.push(letter);
            }
            ' ' if at + 1 == text.len() => out.push_str("\\ "),
            letter if letter.is_control() => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_written_name_has_one_form() {
        for (text, expected) in [
            ("CN=client", "CN=client"),
            ("cn = client", "CN=client"),
            ("CN=client,O=Fabrikam,C=NL", "CN=client, O=Fabrikam, C=NL"),
            ("CN=client; O=Fabrikam", "CN=client, O=Fabrikam"),
            ("CN=client, O=\"Fabrikam, Inc.\"", "CN=client, O=Fabrikam\\, Inc."),
            ("CN=client, O=Fabrikam\\, Inc.", "CN=client, O=Fabrikam\\, Inc."),
            ("CN=client, O=Fabrikam\\2C Inc.", "CN=client, O=Fabrikam\\, Inc."),
            ("S=Utrecht, E=ops@fabrikam.example", "ST=Utrecht, E=ops@fabrikam.example"),
            ("emailAddress=ops@fabrikam.example", "E=ops@fabrikam.example"),
            ("OID.2.5.4.10=Fabrikam", "O=Fabrikam"),
            ("1.3.6.1.4.1.311=x", "1.3.6.1.4.1.311=x"),
            ("UID=7+CN=client", "CN=client+UID=7"),
            ("CN=\"  spaces  \"", "CN=\\  spaces \\ "),
            ("CN=Lu\\C4\\8Di\\C4\\87", "CN=Lučić"),
            ("CN=#0402AB", "CN=#0402AB"),
            ("CN=a\\00b\\C2\\85", "CN=a\\00b\\C2\\85"),
            ("CN=", "CN="),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_told() {
        for (text, expected) in [
            ("", NameFault::Empty),
            ("  ", NameFault::Empty),
            ("client", NameFault::Part("client".into())),
            ("CN=client,", NameFault::Part(String::new())),
            ("XX=client", NameFault::Type("XX".into())),
            ("5=client", NameFault::Type("5".into())),
            ("2..5=client", NameFault::Type("2..5".into())),
            ("2.5.x=client", NameFault::Type("2.5.x".into())),
            ("CN=\"client", NameFault::Unfinished),
            ("CN=client\\", NameFault::Unfinished),
            ("CN=client\\C4", NameFault::Unfinished),
        ] {
            assert_eq!(canonical(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn values_are_texts_whatever_kind_of_string_they_are_held_in() {
        for (tag, bytes, expected) in [
            (Tag::Utf8String, "Lučić".as_bytes(), Some("Lučić")),
            (Tag::Utf8String, b"\xFF", None),
            (Tag::PrintableString, b"Fabrikam", Some("Fabrikam")),
            (Tag::Ia5String, b"ops@fabrikam.example", Some("ops@fabrikam.example")),
            (Tag::NumericString, b"42", Some("42")),
            (Tag::VisibleString, b"Fabrikam", Some("Fabrikam")),
            (Tag::T61String, b"Fabrikam", Some("Fabrikam")),
            (Tag::T61String, "Luc\u{ed}a".as_bytes(), None),
            (Tag::BmpString, b"\0L\0u\x01\x0D", Some("Lu\u{10d}")),
            (Tag::BmpString, b"\0L\0", None),
            (Tag::BmpString, b"\xD8\0", None),
            (Tag::OctetString, b"Fabrikam", None),
        ] {
            assert_eq!(text(&Any::from_tag_and_data(tag, bytes)).as_deref(), expected, "{tag} {bytes:02X?}");
        }
    }

    proptest! {
        #[test]
        fn the_one_form_is_read_as_itself(values in prop::collection::vec(".{0,12}", 1..5)) {
            let written = write(values.iter().map(|value| vec![("O".to_owned(), Value::Text(value.clone()))]).collect());

            prop_assert_eq!(canonical(&written).unwrap(), written);
        }
    }
}

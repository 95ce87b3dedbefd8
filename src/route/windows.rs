//! Paths that a backend on Windows reads as others, apart from case.
//!
//! Win32 drops dots and spaces at the end of a name, `admin::$DATA` is the content of the file `admin`, and a name with a `~` and
//! a number may be the short name of another file. ASP.NET drops `(S(…))` anywhere, which once held a session. Such paths are
//! refused on routes to a case-insensitive upstream, since they cannot be matched as every such backend reads them.

use std::borrow::Cow;

use crate::request::normalised;

/// Characters with a special meaning somewhere on the way to a file.
const DELIMITERS: &[char] = &['.', '/', '\\', ':', ';', '%', '?', '#', '~', ' ', '"', '<', '>'];

/// Returns whether such a backend may read a segment of the path, in its canonical form, as another one.
pub(super) fn reads_otherwise(path: &str) -> bool {
    let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode_str(path).into();
    // What is no UTF-8 is read by the code page of the machine.
    let Ok(text) = std::str::from_utf8(&decoded) else { return true };
    if holds_a_session(text) || text.split(['/', '\\', ';', '?', '#']).any(is_another_name) {
        return true;
    }
    if text.is_ascii() {
        return false;
    }
    if text.chars().any(is_another_letter) {
        return true;
    }
    let normalised = normalised(text);
    let delimiters = |text: &str| text.matches(DELIMITERS).count();
    delimiters(&normalised) > delimiters(text) || holds_a_session(&normalised) || normalised.split('/').any(is_another_name)
}

/// Returns whether case folding in some language (`K`, the Kelvin sign, `ſ`, `ı`, `İ`) or a compatibility conversion (`ａ`, `ﬁ`)
/// turns a non-ASCII letter into an ASCII one.
fn is_another_letter(letter: char) -> bool {
    if letter.is_ascii() {
        return false;
    }
    let (mut lower, mut upper) = (letter.to_lowercase(), letter.to_uppercase());
    // A single letter: `ß` becomes two only where `fold` does the same.
    let cased = lower.len() == 1 && lower.next().is_some_and(|it| it.is_ascii())
        || upper.len() == 1 && upper.next().is_some_and(|it| it.is_ascii())
        || letter == '\u{130}';
    let plain = normalised(letter.encode_utf8(&mut [0; 4])).into_owned();
    cased || plain.is_ascii() && plain.contains(|letter: char| letter.is_ascii_alphabetic())
}

fn is_another_name(segment: &str) -> bool {
    // `"`, `<` and `>` are wildcards to some functions of Windows, and in no name.
    segment.ends_with(['.', ' ']) || segment.contains([':', '"', '<', '>']) || is_short_name(segment)
}

/// Returns whether a segment is a short name, such as `PROGRA~1` or `ADMIN~1.ASP`: at most eight letters that end with `~` and a
/// number, and at most three after a dot.
///
/// IIS itself answers 404 to short names; other servers on Windows open the file, and so do handlers that map paths themselves.
fn is_short_name(segment: &str) -> bool {
    let (name, extension) = segment.split_once('.').unwrap_or((segment, ""));
    let Some((beginning, number)) = name.rsplit_once('~') else { return false };
    name.chars().count() <= 8
        && !beginning.is_empty()
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && extension.chars().count() <= 3
}

/// Returns whether a text holds `(S(…))` or the like, however nested: a bracket, a letter, a bracket.
fn holds_a_session(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('(') {
        let inner = after.trim_start();
        let letter = inner.chars().next().filter(char::is_ascii_alphanumeric);
        if letter.is_some() && inner[1..].trim_start().starts_with('(') {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_reads_as_another_path_is_told_from_what_it_does_not() {
        for path in [
            "/app/admin.",
            "/app/admin./x",
            "/app/admin.../x",
            "/app/admin%20",
            "/app/admin%20/x",
            "/app/admin.%20.",
            "/app/admin.%2Fx",
            "/app/admin.%5Cx",
            "/app/admin.;v=1",
            "/app/admin.%3Fx",
            "/app/admin::$DATA",
            "/app/admin:x",
            "/app/admin%3A%3A$DATA",
            "/app/(S(x))/admin",
            "/app/(s(x))admin/x",
            "/app/ad(F(x)A(y))min",
            "/app/%28A%28x%29%29/admin",
            "/app/(%20S%20(x))/admin",
            "/app/(X(1))/",
            "/app/((S(x)))/admin",
            "/app/ADMIN~1",
            "/app/admini~1.asp",
            "/app/AB12C~10/x",
            "/app/admin%3C%3C",
            "/app/admin%22x",
            "/app/%EF%BC%8E",
            "/app/admin%EF%BC%8E/x",
            "/app/admin%E3%80%80/x",
            "/app/admin%C2%A0",
            "/app/admin%EF%BC%9Ax",
            "/app/%EF%BC%88S%EF%BC%88x%EF%BC%89%EF%BC%89/admin",
            "/app/ADMIN%EF%BD%9E1",
            "/app/admin%E2%80%A6",
            "/app/admin%C2%A5x",
            "/app/admin%85",
            "/app/adm%C4%B0n",
            "/app/adm%C4%B1n",
            "/app/u%C5%BFers",
            "/app/%E2%84%AAeys",
            "/app/%EF%BD%81dmin",
            "/app/%EF%AC%81les",
            "/app/x%E3%80%82",
            "/app/x%EF%BD%A1y",
        ] {
            assert!(reads_otherwise(path), "{path}");
        }
        for path in [
            "/",
            "/app/admin/",
            "/app/users.aspx",
            "/app/.well-known/x",
            "/app/my%20files/x",
            "/app/Products(5)/Rating",
            "/app/Nearest(lat=33,lon=-118)",
            "/app/f(ab(x))",
            "/app/~user/x",
            "/app/~1",
            "/app/a~b",
            "/app/averylongname~1",
            "/app/x~1.html",
            "/app/caf%C3%A9",
            "/app/%E6%97%A5%E6%9C%AC",
            "/app/C%EF%BC%88x%EF%BC%89",
            "/app/stra%C3%9Fe",
            "/app/50%20m%C2%B2",
            "/app/a,b'c!$&*+=@",
        ] {
            assert!(!reads_otherwise(path), "{path}");
        }
    }
}

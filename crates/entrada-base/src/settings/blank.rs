//! Redaction of a config's secrets, in the lines of its files and in messages about them.
//!
//! Every report is made from redacted text, so that no code that reports a fault has to know which values are secret.

mod url;

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::{
    node::{Kind, Node},
    origin::Origin,
};

/// The replacement for a secret in a message.
const BLANK: &str = "****";
/// The shortest secret that is redacted everywhere. A shorter one is redacted only where it stands, since it may be part of an
/// ordinary word.
const SHORTEST: usize = 6;

/// Returns whether a text holds secrets of URLs, which are known as such only while it is whole.
pub fn has_url_secrets(text: &str) -> bool {
    !url::secrets(text).is_empty()
}

/// The secrets of a config's files, by place and by content.
#[derive(Default)]
pub(crate) struct Blanks {
    places: Vec<Origin>,
    texts: Vec<Zeroizing<String>>,
}

impl Blanks {
    /// Redacts the text at a place.
    pub(crate) fn place(&mut self, origin: Origin) {
        if origin.start < origin.end {
            self.places.push(origin);
        }
    }

    /// Returns whether part of the text at a place is redacted.
    pub(crate) fn touches(&self, origin: &Origin) -> bool {
        self.places.iter().any(|place| overlap(place, origin))
    }

    /// Redacts a text wherever it occurs.
    pub(crate) fn text(&mut self, text: &str) {
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST);
        for line in lines {
            if !self.texts.iter().any(|known| ***known == *line) {
                self.texts.push(Zeroizing::new(line.to_owned()));
            }
        }
    }

    /// Returns the text of a file with its secrets redacted, every byte at its old position.
    pub(crate) fn of_file(&self, file: usize, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let mut blank = |start: usize, end: usize| {
            let end = end.min(bytes.len());
            for byte in bytes[start.min(end)..end].iter_mut().filter(|byte| !byte.is_ascii_whitespace()) {
                *byte = b'*';
            }
        };
        for place in self.places.iter().filter(|place| place.file == file) {
            // Some places are guessed, and need not begin and end between characters.
            blank(text.floor_char_boundary(place.start), text.ceil_char_boundary(place.end));
        }
        for secret in &self.texts {
            text.match_indices(secret.as_str()).for_each(|(at, found)| blank(at, at + found.len()));
        }
        url::secrets(text).into_iter().for_each(|(start, end)| blank(start, end));
        String::from_utf8(bytes).expect("whole characters are replaced")
    }

    /// Returns a message without secrets. `about` is the text that the message is about, with its place.
    pub(crate) fn of_message<'m>(&self, message: &'m str, about: Option<(&Origin, &str)>) -> Cow<'m, str> {
        let mut said = Cow::Borrowed(message);
        let mut blank = |text: &str| {
            if !text.is_empty() && said.contains(text) {
                said = Cow::Owned(said.replace(text, BLANK));
            }
        };
        for secret in &self.texts {
            blank(secret);
            // As it stands in a text that is quoted anew.
            blank(&secret.replace('\'', "''"));
        }
        if let Some((_, text)) = about.filter(|(origin, _)| self.touches(origin)) {
            let bare = text.trim_matches(['"', '\'']);
            // Not the words of the message itself, where the text is a single letter or so.
            if bare.len() >= SHORTEST {
                blank(bare);
                blank(&bare.replace('\'', "''"));
            } else {
                blank(&format!("`{bare}`"));
                blank(&format!("\"{bare}\""));
            }
        }
        let mut shown = String::new();
        let mut done = 0;
        for (start, end) in url::secrets(&said) {
            shown.push_str(&said[done..start]);
            shown.push_str(BLANK);
            done = end;
        }
        if done > 0 {
            shown.push_str(&said[done..]);
            said = Cow::Owned(shown);
        }
        said
    }
}

/// Never shows the secrets.
impl std::fmt::Debug for Blanks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blanks").field("places", &self.places).finish_non_exhaustive()
    }
}

/// Hides values that are, or were meant to be, secret: a named value that is marked as secret in any way, or whose settings are
/// not understood.
pub fn named_value(node: &Node, hidden: &mut Vec<Origin>) {
    let mut hide = |node: &Node| node.each_part(&mut |origin| hidden.push(origin.clone()));
    let Some(entries) = node.as_map() else { return hide(node) };
    let is_plain = entries.iter().all(|(key, value)| match &*key.text {
        "value" | "env" | "default" | "file" | "key-vault" => true,
        "secret" => matches!(value.kind, Kind::Bool(false)),
        _ => false,
    });
    // The secret itself may have been written behind `secret`.
    let may_hold = |key: &str, value: &Node| match key {
        "value" | "default" => !is_plain,
        "secret" => !matches!(value.kind, Kind::Bool(_)),
        _ => false,
    };
    entries.iter().filter(|(key, value)| may_hold(&key.text, value)).for_each(|(_, value)| hide(value));
}

fn overlap(one: &Origin, other: &Origin) -> bool {
    one.file == other.file && one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanks() -> Blanks {
        let mut blanks = Blanks::default();
        blanks.place(Origin::new(0, 8..12));
        blanks.text("hunter2-and-more");
        blanks.text("short");
        blanks
    }

    #[test]
    fn lines_are_blanked_by_place_and_by_text() {
        assert_eq!(blanks().of_file(0, "secret: häm\nother: 1\n"), "secret: ****\nother: 1\n");
        assert_eq!(blanks().of_file(1, "a: x hunter2-and-more y, short\n"), "a: x **************** y, short\n");
        assert_eq!(blanks().of_file(1, "p: 'https://me:p/w@h@proxy:3128/'\n"), "p: 'https://********@proxy:3128/'\n");
        assert_eq!(blanks().of_file(1, "p: a@b https://[::1]:1/a"), "p: a@b https://[::1]:1/a");
    }

    #[test]
    fn messages_say_no_secret() {
        let (here, there) = (Origin::new(0, 8..9), Origin::new(0, 20..29));
        for (message, about, expected) in [
            ("`hunter2-and-more` is not a size", None, "`****` is not a size"),
            ("`https://me:pw@proxy` is no server", None, "`https://****@proxy` is no server"),
            ("`https://h/a?sv=1&sig=a%2Fb%3D` or `me:pw@proxy`", None, "`https://h/a?sv=1&sig=****` or `****@proxy`"),
            ("`*a` begins with `*`", Some((&here, "*a")), "**** begins with `*`"),
            (
                "`*abcdefg` begins with `*`; quote it: \"*abcdefg\"",
                Some((&here, "*abcdefg")),
                "`****` begins with `*`; quote it: \"****\"",
            ),
            ("`*abcdefg` begins with `*`", Some((&there, "*abcdefg")), "`*abcdefg` begins with `*`"),
        ] {
            assert_eq!(blanks().of_message(message, about), expected);
        }
    }
}

//! Reads YAML into [`Node`]s.
//!
//! The parser's events are read directly, not a deserialiser's values: they show whether a text was quoted, the places of keys,
//! and both places of a duplicate key. Untyped words follow YAML 1.2, except for `yes`, `no`, `on` and `off`, which many readers
//! take for booleans: so do we, and a place that expects a text says "quote it".

use std::{collections::HashMap, ops::Range};

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::Number;

use super::{
    fault::Place,
    node::{Key, Kind, Node, Text},
    origin::Origin,
};
use crate::settings::Finding;

/// The maximum nesting depth of maps and lists.
const NESTING: usize = 64;
/// The maximum number of values in one file, with aliases counted on each use, as a guard against alias bombs.
const NODES: usize = 200_000;
/// The maximum number of syntax errors that are skipped so that the rest of the file is read.
const RECOVERIES: usize = 100;

/// Reads the text of one file and returns what could be read. Faults go to `findings`. Parts that must not be shown, because
/// their meaning is unknown (an omitted value, a comment), go to `hidden`.
pub fn read(text: &str, file: usize, findings: &mut Vec<Finding>, hidden: &mut Vec<Origin>) -> Node {
    let mut patched = text.to_owned();
    let mut blanked = Vec::new();
    for _ in 0..RECOVERIES {
        let (mut found, mut hides) = (Vec::new(), Vec::new());
        match Reader::new(&patched, text, file, &blanked, &mut found, &mut hides).document() {
            Ok(node) => {
                findings.extend(found);
                hidden.extend(hides);
                return node;
            }
            Err(stop) => match recover(&mut patched, stop.at, file) {
                Some((range, finding)) => {
                    findings.push(finding);
                    blanked.push(range);
                }
                None => {
                    findings.extend(found);
                    findings.push(stop.finding(file));
                    break;
                }
            },
        }
    }
    // Where the text cannot be read nobody can tell which of its values are secrets.
    hidden.extend(values(text).map(|range| Origin::new(file, range)));
    Node::broken(Origin::file(file))
}

/// Returns the parts of a text that are not keys. A key is a word followed by `:` at the start of a line or an entry.
fn values(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split_inclusive('\n').flat_map(move |line| {
        let at = start;
        start += line.len();
        let mut ranges = Vec::new();
        let mut shown = 0;
        for (begin, end) in keys(line) {
            ranges.push(at + shown..at + begin);
            shown = end;
        }
        ranges.push(at + shown..at + line.len());
        ranges
    })
}

/// Returns the probable keys of a line.
fn keys(line: &str) -> Vec<(usize, usize)> {
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let bytes = line.as_bytes();
    let mut keys = Vec::new();
    let mut at = 0;
    let mut opens = true;
    while at < bytes.len() {
        // The dash of an entry is none of a key.
        let dash = bytes[at] == b'-' && bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace);
        let end = at + bytes[at..].iter().take_while(|byte| is_key(**byte)).count();
        if opens && end > at && !dash {
            if bytes.get(end) == Some(&b':') && bytes.get(end + 1).is_none_or(u8::is_ascii_whitespace) {
                keys.push((at, end + 1));
            }
            opens = false;
            at = end;
        } else {
            opens = matches!(bytes[at], b'{' | b',' | b'[') || opens && (bytes[at].is_ascii_whitespace() || dash);
            at += 1;
        }
    }
    keys
}

/// The error that stops the parser.
struct Stop {
    at: usize,
    message: String,
    cure: &'static str,
}

impl Stop {
    fn finding(self, file: usize) -> Finding {
        Finding::error(Origin::new(file, self.at..self.at + 1), &Place::root(), self.message, self.cure)
    }
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        let message = error.info();
        let cure = if message.contains("tab") {
            "indent with spaces"
        } else if message.contains("mapping values") {
            "a text that holds `: ` must stand in quotes"
        } else {
            "look for a missing quote, bracket or colon, or for indentation that does not fit, here or just before"
        };
        Self { at: offset(error.marker()), message: format!("not readable as YAML: {message}"), cure }
    }
}

fn offset(marker: &Marker) -> usize {
    marker.byte_offset().unwrap_or_else(|| marker.index())
}

/// Blanks an expression or a named value that lacks its quotes, where that is what stopped the parser.
fn recover(text: &mut String, at: usize, file: usize) -> Option<(Range<usize>, Finding)> {
    let at = text.floor_char_boundary(at.min(text.len()));
    let line_start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let before_start = text[..line_start.saturating_sub(1)].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let range = [(line_start, line_end), (before_start, line_start)]
        .into_iter()
        .find_map(|(start, end)| unquoted(&text[start..end]).map(|range| start + range.start..start + range.end))?;
    let original = text[range.clone()].to_owned();
    text.replace_range(range.clone(), &"x".repeat(range.len()));
    Some((range.clone(), quote_it(Origin::new(file, range), &original)))
}

fn quote_it(at: Origin, original: &str) -> Finding {
    let message = format!("`{original}` has to stand in quotes, or YAML reads it as something else");
    Finding::error(at, &Place::root(), message, format!("quote it: {}", in_quotes(original)))
}

/// Returns the text in suitable quotes.
pub fn in_quotes(text: &str) -> String {
    if text.contains('"') { format!("'{}'", text.replace('\'', "''")) } else { format!("\"{text}\"") }
}

/// Returns the first `@(…)` or `{{…}}` of a line outside quotes and comments.
fn unquoted(line: &str) -> Option<Range<usize>> {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if matches!(before, ' ' | '[' | '{' | ',') => quote = Some(letter),
            (None, '#') if before == ' ' => return None,
            (None, '@') if line[at..].starts_with("@(") => return Some(at..at + balanced(&line[at..])),
            (None, '{') => {
                if let Some(end) = named_value(&line[at..]) {
                    return Some(at..at + end);
                }
            }
            _ => {}
        }
        before = letter;
    }
    None
}

/// Returns the position where the parenthesis that `text` opens is closed, or the end of the text.
fn balanced(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => return at + 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.trim_end().len()
}

/// Returns the length of the `{{name}}` that `text` begins with.
fn named_value(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("{{")?;
    let end = inner.find("}}")?;
    inner[..end].bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b' ')).then_some(end + 4)
}

type Pair<'a> = (Event<'a>, Span);

struct Reader<'a, 'f> {
    parser: Parser<'a, StrInput<'a>>,
    original: &'a str,
    file: usize,
    blanked: &'f [Range<usize>],
    findings: &'f mut Vec<Finding>,
    hidden: &'f mut Vec<Origin>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a, 'f> Reader<'a, 'f> {
    fn new(
        text: &'a str,
        original: &'a str,
        file: usize,
        blanked: &'f [Range<usize>],
        findings: &'f mut Vec<Finding>,
        hidden: &'f mut Vec<Origin>,
    ) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(true);
        options.max_buffered_comment_events = usize::MAX;
        options.emit_anchor_events = true;
        options.emit_unresolved_aliases = true;
        options.flow_nesting_limit = NESTING;
        options.block_nesting_limit = NESTING;
        let parser = Parser::new_from_str_with_options(text, options);
        Self { parser, original, file, blanked, findings, hidden, anchors: HashMap::new(), nodes: 0 }
    }

    fn next(&mut self) -> Result<Pair<'a>, Stop> {
        loop {
            match self.parser.next_event() {
                // A comment may hold what stood in the value's place before, and a secret may begin with `&`.
                Some(Ok((Event::Comment(..) | Event::Anchor(..), span))) => {
                    let comment = self.origin(&span);
                    self.hidden.push(comment);
                }
                Some(event) => return Ok(event?),
                None => return Err(self.stop(self.original.len(), "the file ends too early", "")),
            }
        }
    }

    /// Hides a value that is never checked against the schema.
    fn hide(&mut self, node: &Node) {
        node.each_part(&mut |origin| self.hidden.push(origin.clone()));
    }

    fn stop(&self, at: usize, message: impl Into<String>, cure: &'static str) -> Stop {
        Stop { at: at.min(self.original.len()), message: message.into(), cure }
    }

    fn origin(&self, span: &Span) -> Origin {
        let range = span.byte_range().unwrap_or_default();
        Origin::new(self.file, range)
    }

    fn report(&mut self, at: &Origin, message: impl Into<String>, cure: impl Into<String>) {
        self.findings.push(Finding::error(at.clone(), &Place::root(), message, cure));
    }

    fn document(mut self) -> Result<Node, Stop> {
        let mut document = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) if document.is_some() => {
                    let at = self.origin(&span);
                    self.report(
                        &at,
                        "a second document begins here",
                        "a config is one document; name further files in `include`",
                    );
                    self.hidden.push(Origin::new(self.file, at.end..self.original.len()));
                    break;
                }
                Event::DocumentStart(..) => {
                    let first = self.next()?;
                    document = Some(self.node(first, 0)?);
                }
                _ => return Err(self.stop(offset(&span.start), "not readable as YAML", "")),
            }
        }
        Ok(document.unwrap_or(Node::new(Kind::Null, Origin::file(self.file))))
    }

    fn node(&mut self, (event, span): Pair<'a>, depth: usize) -> Result<Node, Stop> {
        self.nodes += 1;
        if self.nodes > NODES || depth > NESTING {
            return Err(self.stop(offset(&span.start), "the file holds too much", "split it, or use fewer aliases"));
        }
        let at = self.origin(&span);
        let before = self.nodes;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(text.into_owned(), style, tag.as_deref(), at), anchor),
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), "seq", &at);
                (self.list(at, depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), "map", &at);
                (self.map(at, depth)?, anchor)
            }
            Event::Alias(id) => (self.alias(id, at)?, 0),
            Event::UnresolvedAlias(name) => {
                let text = format!("*{name}");
                self.report(
                    &at,
                    format!("`{text}` begins with `*`, which YAML reads as the name of an anchor"),
                    format!("quote it: {}", in_quotes(&text)),
                );
                (Node::broken(at), 0)
            }
            _ => return Err(self.stop(at.start, "not readable as YAML", "")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Origin) -> Result<Node, Stop> {
        let Some((node, size)) = self.anchors.get(&id).cloned() else {
            return Err(self.stop(at.start, "this alias stands inside of what it names", ""));
        };
        self.nodes += size;
        if self.nodes > NODES {
            return Err(self.stop(at.start, "the file holds too much", "split it, or use fewer aliases"));
        }
        let anchored = node.anchored.unwrap_or_else(|| Box::new(node.at));
        Ok(Node { kind: node.kind, at, anchored: Some(anchored) })
    }

    fn list(&mut self, at: Origin, depth: usize) -> Result<Node, Stop> {
        let mut entries = Vec::new();
        loop {
            let next = self.next()?;
            if matches!(next.0, Event::SequenceEnd) {
                return Ok(Node::new(Kind::List(entries), at));
            }
            entries.push(self.node(next, depth + 1)?);
        }
    }

    fn map(&mut self, mut at: Origin, depth: usize) -> Result<Node, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut named_value = false;
        loop {
            let next = self.next()?;
            if matches!(next.0, Event::MappingEnd) {
                break;
            }
            let is_scalar = matches!(next.0, Event::Scalar(..));
            let written = if let Event::Scalar(text, ..) = &next.0 { text.clone().into_owned() } else { String::new() };
            let key = self.origin(&next.1);
            // Only a key that is a text names a setting; `{{name}}` without quotes is a map whose key is a map.
            if !is_scalar {
                let broken = self.key(next, &key, depth)?;
                named_value |= broken;
                let value = self.next()?;
                let value = self.node(value, depth + 1)?;
                self.hide(&value);
                continue;
            }
            let value = self.next()?;
            let value = self.node(value, depth + 1)?;
            if written == "<<" {
                self.hide(&value);
                self.report(
                    &key,
                    "`<<` is not understood: YAML 1.2 has no merge keys",
                    "use an alias for a whole value, or a fragment",
                );
                continue;
            }
            match places.get(&written) {
                Some(first) => {
                    let first = entries[*first].0.at.clone();
                    let finding =
                        Finding::error(key, &Place::root(), format!("`{written}` is here twice"), "remove one of the two");
                    self.findings.push(finding.related(first, "the first one"));
                    self.hide(&value);
                }
                None => {
                    places.insert(written.clone(), entries.len());
                    entries.push((Key { text: written, at: key }, value));
                }
            }
        }
        if let Some((first, _)) = entries.first()
            && at.start == at.end
        {
            at = first.at.clone();
        }
        let map = Node::new(Kind::Map(entries), at);
        if !named_value {
            return Ok(map);
        }
        if let Kind::Map(entries) = &map.kind {
            entries.iter().for_each(|(_, value)| self.hide(value));
        }
        // The place of all of `{{name}}`, which may be shown.
        let length = self.original.get(map.at.start..).and_then(self::named_value).unwrap_or(map.at.end - map.at.start);
        let end = map.at.start + length;
        Ok(Node::broken(Origin { end, ..map.at }))
    }

    /// Reports a key that is not a text; returns whether it was a named value without quotes.
    fn key(&mut self, event: Pair<'a>, at: &Origin, depth: usize) -> Result<bool, Stop> {
        let start = at.start.saturating_sub(1);
        let length = self.original.get(start..).and_then(named_value);
        let key = self.node(event, depth + 1)?;
        if let Some(length) = length {
            let range = start..start + length;
            let original = &self.original[range.clone()];
            self.findings.push(quote_it(Origin::new(self.file, range), original));
            return Ok(true);
        }
        self.hide(&key);
        self.report(at, "a key has to be a text", "");
        Ok(false)
    }

    fn tag(&mut self, tag: Option<&Tag>, allowed: &str, at: &Origin) {
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema_tag(allowed)
        {
            // It may be a secret that begins with `!`. It stands just before the value, which may be empty.
            let start = self.original.get(..at.start).and_then(|before| before.rfind('!')).unwrap_or(at.start);
            self.hidden.push(Origin::new(self.file, start..at.start));
            self.report(at, "a tag, which begins with `!`, is not understood here", "remove it, or quote the text");
        }
    }

    fn scalar(&mut self, value: String, style: ScalarStyle, tag: Option<&Tag>, at: Origin) -> Node {
        self.tag(tag, "str", &at);
        if self.blanked.iter().any(|blanked| blanked.start < at.end && at.start < blanked.end) {
            return Node::broken(at);
        }
        let kind = if style == ScalarStyle::Plain && tag.is_none() { plain(value) } else { Kind::Text(Text::plain(value)) };
        Node::new(kind, at)
    }
}

/// Returns the kind of a text without quotes.
fn plain(value: String) -> Kind {
    match value.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Kind::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Kind::Bool(false),
        _ => {}
    }
    if let Some(number) = number(&value) {
        return Kind::Number(number);
    }
    let odd = is_odd(&value);
    Kind::Text(Text { value, odd, names_secret: false })
}

/// Numbers as JSON writes them, so that no two readers differ.
fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.bytes().next()?.is_ascii_digit() {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Returns whether some readers of YAML take the text for a number and others do not, or for a different number.
fn is_odd(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = |rest: &str, digit: fn(&u8) -> bool| !rest.is_empty() && rest.as_bytes().iter().all(digit);
    match digits.as_bytes() {
        [b'0', b'x', ..] => plain(&digits[2..], |byte| byte.is_ascii_hexdigit() || *byte == b'_'),
        [b'0', b'o' | b'b', ..] => plain(&digits[2..], |byte| byte.is_ascii_digit() || *byte == b'_'),
        [b'.', b'i' | b'I' | b'n' | b'N', ..] => matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan"),
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => {
            plain(digits, |byte| byte.is_ascii_digit() || matches!(byte, b'_' | b'.'))
                && digits.bytes().filter(|byte| *byte == b'.').count() <= 1
        }
        _ => false,
    }
}

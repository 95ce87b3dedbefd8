//! The reader of policy documents.

use super::{Attribute, Document, Element, Node, Problem, Text, brackets::expression_end, entities::decode};

/// The deepest nesting of elements.
const DEEPEST: usize = 128;
/// The maximum number of problems that are told.
const MOST_PROBLEMS: usize = 50;

/// Reads a document of any content: what is not well-formed is among its problems.
pub fn read(text: &str) -> Document {
    let mut reader = Reader { text, at: 0, open: Vec::new(), document: Document::default() };
    reader.run();
    reader.document
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    open: Vec<Element>,
    document: Document,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn problem(&mut self, at: usize, message: impl Into<String>) {
        if self.document.problems.len() < MOST_PROBLEMS {
            self.document.problems.push(Problem { at, message: message.into() });
        }
    }

    fn run(&mut self) {
        if self.rest().starts_with('\u{feff}') {
            self.at += '\u{feff}'.len_utf8();
        }
        while self.at < self.text.len() {
            let rest = self.rest();
            if rest.starts_with("<!--") {
                self.skip_to("-->", "this comment is never closed");
            } else if rest.starts_with("<![CDATA[") {
                self.cdata();
            } else if rest.starts_with("<?") {
                self.skip_to("?>", "this instruction is never closed");
            } else if rest.starts_with("<!") {
                self.skip_to(">", "this declaration is never closed");
            } else if rest.starts_with("</") {
                self.end_tag();
            } else if rest.starts_with('<') && rest[1..].starts_with(is_name_start) {
                self.start_tag();
            } else {
                self.content();
            }
        }
        while let Some(element) = self.open.pop() {
            let message = format!("`<{}>` is never closed", element.name);
            self.problem(element.start, message);
            self.close(element);
        }
    }

    /// Skips what begins here and ends with a mark.
    fn skip_to(&mut self, mark: &str, message: &str) {
        match self.rest().find(mark) {
            Some(length) => self.at += length + mark.len(),
            None => {
                self.problem(self.at, message);
                self.at = self.text.len();
            }
        }
    }

    fn cdata(&mut self) {
        let start = self.at + "<![CDATA[".len();
        let end = self.text[start..].find("]]>").map(|length| start + length);
        if end.is_none() {
            self.problem(self.at, "this CDATA section is never closed");
        }
        let end = end.unwrap_or(self.text.len());
        self.push_text(self.text[start..end].to_owned(), start);
        self.at = (end + 3).min(self.text.len());
    }

    /// Reads a text: up to the next tag, or to the bracket that ends an expression.
    fn content(&mut self) {
        let start = self.at;
        let rest = self.rest();
        // A `<` that begins no tag is text.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let plain_end = rest[first..].find('<').map_or(rest.len(), |length| length + first);
        let blanks = rest.len() - rest.trim_start().len();
        let begins = &rest[blanks..];
        if begins.starts_with("@(") || begins.starts_with("@{") {
            let strict = decode(&rest[..plain_end]);
            let is_whole = expression_end(strict.trim()) == Some(strict.trim().len());
            if !is_whole && let Some(length) = expression_end(begins) {
                let end = blanks + length;
                self.push_text(decode(&rest[..end]), start);
                self.at = start + end;
                return;
            }
            if !is_whole {
                self.problem(start + blanks, "the first bracket of this expression is never closed");
                // What follows is code: only the end of the element is one.
                let end = self.open.last().and_then(|element| rest.find(&format!("</{}", element.name))).unwrap_or(plain_end);
                let end = end.max(first);
                self.push_text(decode(&rest[..end]), start);
                self.at = start + end;
                return;
            }
        }
        self.push_text(decode(&rest[..plain_end]), start);
        self.at = start + plain_end;
    }

    fn push_text(&mut self, content: String, start: usize) {
        if content.trim().is_empty() {
            return;
        }
        let Some(parent) = self.open.last_mut() else {
            self.problem(start, "text outside of the document");
            return;
        };
        match parent.children.last_mut() {
            Some(Node::Text(text)) => text.content.push_str(&content),
            _ => parent.children.push(Node::Text(Text { content, start })),
        }
    }

    fn end_tag(&mut self) {
        let start = self.at;
        self.at += 2;
        let name = self.name().to_owned();
        self.skip_to(">", "this tag is never closed");
        let Some(depth) = self.open.iter().rposition(|element| element.name == name) else {
            self.problem(start, format!("`</{name}>` closes nothing that is open"));
            return;
        };
        while self.open.len() > depth {
            let Some(element) = self.open.pop() else { break };
            if self.open.len() > depth {
                let message = format!("`<{}>` is not closed before `</{name}>`", element.name);
                self.problem(element.start, message);
            }
            self.close(element);
        }
    }

    /// Adds an element to the one around it.
    fn close(&mut self, mut element: Element) {
        element.end = self.at;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(element)),
            None => self.document.elements.push(element),
        }
    }

    fn start_tag(&mut self) {
        let start = self.at;
        self.at += 1;
        let name = self.name().to_owned();
        let mut attributes: Vec<Attribute> = Vec::new();
        let is_empty = loop {
            self.blanks();
            let rest = self.rest();
            if rest.starts_with("/>") {
                self.at += 2;
                break true;
            }
            if rest.starts_with('>') {
                self.at += 1;
                break false;
            }
            if rest.is_empty() || rest.starts_with('<') {
                self.problem(start, format!("the tag `<{name}` is never closed"));
                break false;
            }
            if let Some(attribute) = self.attribute() {
                if attributes.iter().any(|other| other.name == attribute.name) {
                    self.problem(attribute.value.start, format!("`{}` is here twice", attribute.name));
                } else {
                    attributes.push(attribute);
                }
            }
        };
        let element = Element { name, attributes, children: Vec::new(), start, end: self.at };
        if is_empty {
            self.close(element);
        } else if self.open.len() >= DEEPEST {
            self.problem(start, "elements are nested too deeply");
            self.close(element);
        } else {
            self.open.push(element);
        }
    }

    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|letter| !is_name_part(letter)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn attribute(&mut self) -> Option<Attribute> {
        let start = self.at;
        let name = self.name().to_owned();
        if name.is_empty() {
            let letter = self.rest().chars().next()?;
            self.problem(start, format!("`{letter}` stands where an attribute is expected"));
            self.at += letter.len_utf8();
            return None;
        }
        self.blanks();
        if !self.rest().starts_with('=') {
            self.problem(start, format!("the attribute `{name}` has no value"));
            return Some(Attribute { name, value: Text { content: String::new(), start } });
        }
        self.at += 1;
        self.blanks();
        let quote = self.rest().chars().next().filter(|letter| matches!(letter, '"' | '\''));
        let Some(quote) = quote else {
            self.problem(self.at, format!("the value of `{name}` has no quotes"));
            let rest = self.rest();
            let length = rest.find(|letter: char| letter.is_whitespace() || letter == '>').unwrap_or(rest.len());
            let value = Text { content: decode(&rest[..length]), start: self.at };
            self.at += length;
            return Some(Attribute { name, value });
        };
        self.at += 1;
        Some(Attribute { name, value: self.value(quote) })
    }

    /// Reads a value behind its first quote.
    fn value(&mut self, quote: char) -> Text {
        let start = self.at;
        let rest = self.rest();
        let plain_end = rest.find(quote);
        let blanks = rest.len() - rest.trim_start().len();
        let begins = &rest[blanks..];
        if begins.starts_with("@(") || begins.starts_with("@{") {
            // Well-formed XML has entities for quotes; then the next quote is the last.
            let strict = plain_end.map(|end| decode(&rest[..end]));
            let is_whole = strict.as_ref().is_some_and(|strict| expression_end(strict.trim()) == Some(strict.trim().len()));
            if !is_whole && let Some(end) = raw_end(begins, quote) {
                let end = blanks + end;
                self.at = start + rest[end..].find(quote).map_or(rest.len(), |more| end + more + 1);
                return Text { content: decode(&rest[..end]), start };
            }
            if !is_whole {
                self.problem(start + blanks, "the first bracket of this expression is never closed, or something follows it");
            }
        }
        let end = plain_end.unwrap_or_else(|| {
            self.problem(start, "this value is never closed");
            rest.len()
        });
        self.at = (start + end + 1).min(self.text.len());
        Text { content: decode(&rest[..end]), start }
    }
}

/// Returns the length of an expression that nothing but blanks separates from its closing quote.
fn raw_end(text: &str, quote: char) -> Option<usize> {
    let end = expression_end(text)?;
    text[end..].trim_start().starts_with(quote).then_some(end)
}

fn is_name_start(letter: char) -> bool {
    letter.is_alphabetic() || letter == '_'
}

fn is_name_part(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':')
}

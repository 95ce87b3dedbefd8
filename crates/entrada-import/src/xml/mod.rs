//! Policy documents as API Management reads them: XML whose attributes and texts hold C# as it is typed.
//!
//! `condition="@(a < b && c == "d")"` is no XML, and half of all documents have such a line. An expression ends at the bracket that
//! matches its first one; whatever else is not well-formed is a [`Problem`] with its place, and reading goes on.

mod brackets;
mod entities;
mod reader;
#[cfg(test)]
mod tests;

pub use self::{brackets::expression_end, reader::read};

/// A policy document.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The elements at the top, the first of which is the root if all is well.
    pub elements: Vec<Element>,
    /// Places that are not well-formed.
    pub problems: Vec<Problem>,
}

/// An element.
#[derive(Clone, Debug)]
pub struct Element {
    /// The name as written.
    pub name: String,
    /// The attributes, in order.
    pub attributes: Vec<Attribute>,
    /// The elements and texts within, in order.
    pub children: Vec<Node>,
    /// The offset of `<`.
    pub start: usize,
    /// The offset behind the closing `>`.
    pub end: usize,
}

/// An attribute.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// The name as written.
    pub name: String,
    /// The value.
    pub value: Text,
}

/// A value or a text, without its entities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The content.
    pub content: String,
    /// The offset of its first byte.
    pub start: usize,
}

/// A part of an element's content.
#[derive(Clone, Debug)]
pub enum Node {
    /// An element.
    Element(Element),
    /// A text that is not blank.
    Text(Text),
}

/// A place that is not well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The offset.
    pub at: usize,
    /// The description.
    pub message: String,
}

impl Text {
    /// Returns the expression, if that is what the text is.
    pub fn expression(&self) -> Option<&str> {
        let trimmed = self.content.trim();
        (trimmed.starts_with("@(") || trimmed.starts_with("@{")).then_some(trimmed)
    }

    /// Returns the offset of the first byte that is not blank.
    pub fn content_start(&self) -> usize {
        self.start + (self.content.len() - self.content.trim_start().len())
    }
}

impl Element {
    /// Returns the value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&Text> {
        self.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| &attribute.value)
    }

    /// Returns the content of an attribute.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.attribute(name).map(|value| value.content.as_str())
    }

    /// Returns the elements within.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Returns the elements within that have a name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.elements().filter(move |element| element.name == name)
    }

    /// Returns the first element within that has a name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.elements().find(|element| element.name == name)
    }

    /// Returns the text within, if there is no element.
    pub fn text(&self) -> Option<&Text> {
        self.children.iter().find_map(|node| match node {
            Node::Text(text) => Some(text),
            Node::Element(_) => None,
        })
    }
}

/// The lines of a text, to tell places by.
#[derive(Clone, Debug)]
pub struct Lines {
    starts: Vec<usize>,
    text: std::sync::Arc<str>,
}

impl Lines {
    /// Finds the lines of a text.
    pub fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(ends).collect(), text: text.into() }
    }

    /// Returns line and column of an offset, both counted from 1; the column counts characters.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = self.starts.partition_point(|start| *start <= offset);
        let column = self.text[self.starts[line - 1]..offset].chars().filter(|letter| *letter != '\u{feff}').count();
        (line, column + 1)
    }
}

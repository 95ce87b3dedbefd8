//! A policy document of any content is read, and each of its expressions is read or refused, without a panic.

#![no_main]

use entrada_import::{
    csharp,
    xml::{self, Element, Node, Text},
};
use libfuzzer_sys::fuzz_target;

fn visit(element: &Element, text: &str) {
    assert!(element.start < element.end && element.end <= text.len());
    let parse = |text: &Text| drop(text.expression().map(csharp::parse));
    element.attributes.iter().for_each(|attribute| parse(&attribute.value));
    for node in &element.children {
        match node {
            Node::Element(inner) => visit(inner, text),
            Node::Text(text) => parse(text),
        }
    }
}

fuzz_target!(|text: &str| {
    xml::read(text).elements.iter().for_each(|element| visit(element, text));
    drop(csharp::parse(text));
});

//! The config that is written: policies with their origin, and the YAML of the whole.

pub(crate) mod fragments;
pub(crate) mod yaml;

pub(crate) use self::yaml::{Item, Writer, Yaml, map, text};

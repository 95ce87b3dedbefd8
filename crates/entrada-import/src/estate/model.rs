//! The parts of an estate.

use std::collections::BTreeMap;

use serde_json::Value;

use super::named::NamedValues;
use crate::{
    elements::{Documents, state::Backend},
    report::{Entry, EntryKind, Judgement, Verdict},
};

/// An operation of an API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) method: String,
    /// The template of its path: `/items/{id}`.
    pub(crate) template: String,
    pub(crate) document: Option<usize>,
    /// The examples of its answers by status: type and body.
    pub(crate) examples: BTreeMap<u64, (String, String)>,
}

/// An API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Api {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The path below which it is called, without slashes at its ends.
    pub(crate) path: String,
    pub(crate) servers: Vec<String>,
    /// Whether a subscription key is needed; `None` if nobody knows.
    pub(crate) needs_key: Option<bool>,
    /// The field and the parameter of the key, if they have other names.
    pub(crate) key_names: Option<(String, String)>,
    pub(crate) https_only: bool,
    pub(crate) version: Option<String>,
    pub(crate) document: Option<usize>,
    /// The document of the workspace around it.
    pub(crate) workspace: Option<usize>,
    pub(crate) operations: Vec<Operation>,
    /// Whether it is a document by itself, whose operation and parameters nobody knows.
    pub(crate) is_single: bool,
    /// The file in which it is described.
    pub(crate) file: String,
}

/// A product.
#[derive(Clone, Debug, Default)]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) document: Option<usize>,
    pub(crate) apis: Vec<String>,
    pub(crate) needs_key: Option<bool>,
}

/// A subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscription {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) is_active: bool,
    /// The part of the service that it is for.
    pub(crate) scope: String,
}

/// All that an import reads.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    pub(crate) documents: Documents,
    pub(crate) global: Option<usize>,
    pub(crate) apis: Vec<Api>,
    pub(crate) products: Vec<Product>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) backends: BTreeMap<String, Backend>,
    pub(crate) named: NamedValues,
    /// Properties that an environment overrides, by kind and name.
    pub(crate) overrides: BTreeMap<(String, String), Value>,
    pub(crate) out_of_scope: BTreeMap<String, usize>,
    /// Judgements about resources.
    pub(crate) resources: Vec<Entry>,
}

impl Estate {
    /// Counts something that is left alone.
    pub(crate) fn leave(&mut self, kind: &str) {
        *self.out_of_scope.entry(kind.to_owned()).or_default() += 1;
    }

    /// Reads a file of overrides: lists of names and properties, by kind.
    pub(crate) fn read_overrides(&mut self, value: &Value) {
        for (kind, list) in value.as_object().into_iter().flatten() {
            for entry in list.as_array().into_iter().flatten() {
                let name = entry.get("name").and_then(Value::as_str);
                if let (Some(name), Some(properties)) = (name, entry.get("properties")) {
                    self.overrides.insert((kind.clone(), name.to_owned()), properties.clone());
                }
            }
        }
    }

    /// Returns properties, with those that the environment overrides in their place.
    pub(crate) fn overridden(&self, kind: &str, name: &str, mut properties: Value) -> Value {
        let more = self.overrides.get(&(kind.to_owned(), name.to_owned()));
        if let (Some(own), Some(more)) = (properties.as_object_mut(), more.and_then(Value::as_object)) {
            own.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        properties
    }

    /// Adds a judgement about a resource.
    pub(crate) fn resource(&mut self, file: &str, element: &str, owner: &str, judgement: &Judgement) {
        self.resources.push(Entry {
            file: file.to_owned(),
            line: 1,
            column: 1,
            end_line: 1,
            scope: "api",
            owner: owner.to_owned(),
            section: "",
            element: element.to_owned(),
            path: owner.to_owned(),
            kind: EntryKind::Resource,
            verdict: judgement.verdict,
            code: judgement.code.clone(),
            reason: judgement.reason.clone(),
            advice: judgement.advice.clone(),
            security: matches!(element, "subscription" | "product"),
            yaml: None,
            needs: Vec::new(),
            excerpt: String::new(),
        });
    }

    pub(crate) fn same(&mut self, file: &str, element: &str, owner: &str) {
        self.resource(file, element, owner, &Judgement::same());
    }

    pub(crate) fn lost(&mut self, file: &str, element: &str, owner: &str, code: &str, reason: &str, advice: &str) {
        self.resource(file, element, owner, &Judgement::new(Verdict::Not, code, reason, advice));
    }

    pub(crate) fn changed(&mut self, file: &str, element: &str, owner: &str, code: &str, reason: &str, advice: &str) {
        self.resource(file, element, owner, &Judgement::new(Verdict::Changed, code, reason, advice));
    }
}

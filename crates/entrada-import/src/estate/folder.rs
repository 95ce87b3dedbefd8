//! Documents by themselves, and folders of them: Terraform's modules and collections of policies.

use std::collections::BTreeMap;

use super::{
    files,
    input::{self, File},
    model::{Api, Estate, Operation},
};
use crate::{
    ImportError, Options,
    policy::{DocumentScope, PolicyDocument},
};

/// Reads one document.
pub(crate) fn single(file: &File, estate: &mut Estate, options: &Options, is_alone: bool) -> Result<(), ImportError> {
    let scope = options.scope_of(&file.name).unwrap_or(DocumentScope::Api);
    let index = add(file, scope, estate)?;
    if estate.documents.all[index].scope == DocumentScope::Global {
        estate.global = Some(index);
    }
    let path = if is_alone { String::new() } else { stem(&file.name) };
    push_api(estate, index, &stem(&file.name), &path, Vec::new());
    Ok(())
}

/// Reads a folder of documents. One that is called `_base_policy` is that of the API or product whose operations lie beside it.
pub(crate) fn read(files: &[File], estate: &mut Estate, options: &Options) -> Result<(), ImportError> {
    let mut folders: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in files {
        if input::is_template(&file.name) {
            let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            folders.entry(folder).or_default().push(file);
            continue;
        }
        // Other files of a repository are no input; ARM templates and descriptions are.
        if let Some(value) = input::value(&file.text)
            && (super::openapi::is_description(&value) || super::arm::is_template(&value))
        {
            files::one(file, estate, options, false)?;
        } else {
            estate.leave("other files");
        }
    }
    let number: usize = folders.values().map(Vec::len).sum();
    for (folder, files) in folders {
        let base = files.iter().find(|file| stem(&file.name).contains("base_policy"));
        let mut operations = Vec::new();
        let mut own = None;
        for file in &files {
            let is_base = base.is_some_and(|base| base.name == file.name);
            let scope = options.scope_of(&file.name).unwrap_or_else(|| scope_of(&file.name, is_base, base.is_some()));
            let Ok(index) = add(file, scope, estate) else {
                estate.leave("XML files that are no policy documents");
                continue;
            };
            match estate.documents.all[index].scope {
                DocumentScope::Global => estate.global = Some(index),
                DocumentScope::Fragment => push_api(estate, index, &stem(&file.name), &path_of(&file.name, number), Vec::new()),
                _ if is_base => own = Some((index, file)),
                DocumentScope::Operation if base.is_some() => {
                    let id = stem(&file.name).trim_start_matches('_').to_owned();
                    operations.push(Operation {
                        template: format!("/{id}/*"),
                        id: id.clone(),
                        name: id,
                        document: Some(index),
                        ..Operation::default()
                    });
                }
                _ => push_api(estate, index, &stem(&file.name), &path_of(&file.name, number), Vec::new()),
            }
        }
        if let Some((index, file)) = own {
            let name = if folder.is_empty() { stem(&file.name) } else { folder.rsplit('/').next().unwrap_or(folder).to_owned() };
            let path = if number == 1 { String::new() } else { folder.to_owned() };
            push_api(estate, index, &name, &path, operations);
        }
    }
    Ok(())
}

/// Returns the scope that a name says.
fn scope_of(name: &str, is_base: bool, has_base: bool) -> DocumentScope {
    let name = name.to_ascii_lowercase();
    if name.contains("product") {
        DocumentScope::Product
    } else if name.contains("fragment") {
        DocumentScope::Api
    } else if name.contains("operation") || has_base && !is_base {
        DocumentScope::Operation
    } else if name.rsplit('/').next().is_some_and(|file| file.starts_with("global")) {
        DocumentScope::Global
    } else {
        DocumentScope::Api
    }
}

/// Adds a document.
pub(crate) fn add(file: &File, scope: DocumentScope, estate: &mut Estate) -> Result<usize, ImportError> {
    let index = estate.documents.all.len();
    let name = stem(&file.name);
    let document = PolicyDocument::read(index, &file.name, &file.text, scope, &name)?;
    if document.scope == DocumentScope::Fragment {
        let parent = file.name.rsplit('/').nth(1).unwrap_or_default().to_owned();
        for name in [name.clone(), crate::names::identifier(&name, ""), parent] {
            if !name.is_empty() {
                estate.documents.fragments.entry(name).or_insert(index);
            }
        }
    }
    estate.documents.all.push(document);
    Ok(index)
}

fn push_api(estate: &mut Estate, document: usize, name: &str, path: &str, operations: Vec<Operation>) {
    let file = estate.documents.all[document].file.clone();
    estate.apis.push(Api {
        id: name.to_owned(),
        name: name.to_owned(),
        path: path.to_owned(),
        document: Some(document),
        operations,
        is_single: true,
        file,
        ..Api::default()
    });
}

/// Returns a file's name without its folders and extensions.
pub(crate) fn stem(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let lower = file.to_ascii_lowercase();
    let end = [".xml.tpl", ".policy.xml", ".xml", ".tpl", ".json", ".yaml", ".yml", ".cshtml"]
        .iter()
        .find(|extension| lower.ends_with(*extension))
        .map_or(file.len(), |extension| file.len() - extension.len());
    file[..end].to_owned()
}

/// Returns the path that stands for a document among others.
fn path_of(name: &str, number: usize) -> String {
    if number == 1 {
        return String::new();
    }
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let stem = stem(name);
    if folder.is_empty() { stem } else { format!("{folder}/{stem}") }
}

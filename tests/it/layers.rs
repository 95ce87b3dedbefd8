//! Checks the layers of the code: a folder of `src/`, or of the crates below it, names only lower folders, and contains no large
//! circle of files. What a crate may name of the others is in its manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The folders of the workspace, the lowest first. A folder may name those before it, and itself.
const LAYERS: &[&str] = &[
    "base",
    "settings",
    "refusal",
    "certificate",
    "dev_tenant",
    "connection",
    "field_lines",
    "listener",
    "upstream",
    "redis",
    "identity_http",
    "entra",
    "credentials",
    "graph",
    "import",
    "telemetry",
    "address",
    "request",
    "caller",
    "limits",
    "partner",
    "expression",
    "outgoing",
    "exchange",
    "authorization",
    "inbound",
    "identity",
    "outbound",
    "token_relay",
    "route",
    "audit",
    "decision",
    "config",
    "gateway",
    "offline",
    "replay",
    "explain",
    "difference",
    "cases",
    "admin",
    "server",
    "embedding",
    "cli",
];

/// A crate of the workspace.
struct Crate {
    sources: &'static str,
    /// Its name in code.
    name: &'static str,
    /// The folder that it is by itself.
    is_folder: Option<&'static str>,
    /// The folders within it, if it is one itself.
    contains: &'static [&'static str],
    /// The crates that it may name.
    depends_on: &'static [&'static str],
}

/// The crates of the workspace. What issues tokens shares nothing with what judges them, and what speaks HTTP and what asks Entra
/// know nothing of each other.
const CRATES: &[Crate] = &[
    Crate {
        sources: "crates/entrada-base/src",
        name: "entrada_base",
        is_folder: Some("base"),
        contains: &["settings", "refusal"],
        depends_on: &[],
    },
    Crate {
        sources: "crates/entrada-x509/src",
        name: "entrada_x509",
        is_folder: Some("certificate"),
        contains: &[],
        depends_on: &["base"],
    },
    Crate {
        sources: "crates/entrada-dev-tenant/src",
        name: "entrada_dev_tenant",
        is_folder: Some("dev_tenant"),
        contains: &[],
        depends_on: &["base", "x509"],
    },
    Crate {
        sources: "crates/entrada-http/src",
        name: "entrada_http",
        is_folder: None,
        contains: &[],
        depends_on: &["base", "x509"],
    },
    Crate {
        sources: "crates/entrada-redis/src",
        name: "entrada_redis",
        is_folder: Some("redis"),
        contains: &[],
        depends_on: &["base"],
    },
    Crate {
        sources: "crates/entrada-entra/src",
        name: "entrada_entra",
        is_folder: None,
        contains: &[],
        depends_on: &["base", "x509"],
    },
    Crate {
        sources: "crates/entrada-import/src",
        name: "entrada_import",
        is_folder: Some("import"),
        contains: &[],
        depends_on: &["base"],
    },
    Crate {
        sources: "src",
        name: "entrada",
        is_folder: None,
        contains: &[],
        depends_on: &["base", "dev-tenant", "entra", "http", "import", "redis", "x509"],
    },
];

/// The maximum number of files that may depend on each other within one folder.
const LARGEST_CIRCLE: usize = 8;

/// A source file, by the path of its module.
struct Module {
    file: PathBuf,
    /// The names that its code uses, from the crate's root on.
    names: Vec<Vec<String>>,
    /// The names that it re-exports.
    hands_on: BTreeMap<String, Vec<String>>,
}

type Modules = BTreeMap<Vec<String>, Module>;

#[test]
fn a_folder_names_only_folders_below_it() {
    let wrong: BTreeSet<_> = read_modules(Code::Production).iter().flat_map(|(path, module)| wrong_names(path, module)).collect();

    assert!(wrong.is_empty(), "\n{}\n", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_tests_of_a_folder_name_only_folders_below_it() {
    let wrong: BTreeSet<_> = read_modules(Code::WithTests).iter().flat_map(|(path, module)| wrong_names(path, module)).collect();

    assert!(wrong.is_empty(), "\n{}\n", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Returns how far from the lowest layer a folder stands.
fn rank(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == folder)
}

/// Returns the names that a module uses and may not.
fn wrong_names(path: &[String], module: &Module) -> Vec<String> {
    let Some(own) = path.first() else { return Vec::new() };
    let own_rank = rank(own).unwrap_or_else(|| panic!("`{own}` stands in no layer: give it its place in LAYERS"));
    let above =
        module.names.iter().filter(|name| name.first().and_then(|other| rank(other)).is_some_and(|other| other > own_rank));
    above.map(|name| format!("{} names `{}`, which stands above `{own}`", module.file.display(), name.join("::"))).collect()
}

#[test]
fn a_crate_depends_on_the_crates_of_its_list() {
    for this in CRATES {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(this.sources).with_file_name("Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("a manifest");
        let (_, dependencies) = text.split_once("\n[dependencies]\n").expect("dependencies");
        let ours =
            dependencies.lines().take_while(|line| !line.starts_with('[')).filter(|line| !line.contains("optional = true"));
        let named: Vec<_> = ours.filter_map(|line| line.strip_prefix("entrada-")?.split(['.', ' ']).next()).collect();

        assert_eq!(named, this.depends_on, "{}", manifest.display());
    }
}

#[test]
fn no_large_circle_of_files_stands_within_a_folder() {
    let modules = read_modules(Code::Production);
    let edges: BTreeMap<_, BTreeSet<_>> = modules
        .iter()
        .map(|(path, module)| {
            let leads = module.names.iter().filter_map(|name| file_of(&modules, name));
            (path, leads.filter(|other| *other != path && other.first() == path.first()).collect())
        })
        .collect();
    let mut circles = circles(&edges);
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    for circle in circles.iter().filter(|circle| circle.len() > 1) {
        let files: Vec<_> = circle.iter().map(|path| path.join("::")).collect();
        println!("{} files lead back to each other: {}", circle.len(), files.join(", "));
    }

    for circle in &circles {
        let folder = circle.first().and_then(|path| path.first()).expect("a circle has files, which stand in a folder");
        assert!(
            circle.len() <= LARGEST_CIRCLE,
            "{folder}: {} files lead back to each other; run with --nocapture to see which",
            circle.len()
        );
    }
}

/// Which code of a module is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    /// Neither the tests at its end nor modules that only tests have.
    Production,
    /// All of it.
    WithTests,
}

/// The modules of the workspace.
fn read_modules(which: Code) -> Modules {
    let mut modules = Modules::new();
    let mut crate_of = BTreeMap::new();
    for this in CRATES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(this.sources);
        for file in source_files(&root) {
            let relative = file.strip_prefix(&root).expect("below the root").with_extension("");
            let mut path: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if path.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
                path.pop();
            }
            let path = this.place(&path);
            let (code, tests) = code_of(&fs::read_to_string(&file).expect("source"));
            let file = Path::new(this.sources).join(relative).with_extension("rs");
            if !path.is_empty() {
                let inner = [path.as_slice(), &["tests".to_owned()]].concat();
                if let Some(tests) = tests.filter(|_| which == Code::WithTests) {
                    crate_of.insert(inner.clone(), this);
                    modules.insert(inner, Module { file: file.clone(), names: vec![vec![tests]], hands_on: BTreeMap::new() });
                }
                crate_of.insert(path.clone(), this);
                modules.insert(path, Module { file, names: vec![vec![code]], hands_on: BTreeMap::new() });
            }
        }
    }
    let only_for_tests: Vec<_> = modules
        .iter()
        .flat_map(|(path, module)| {
            test_modules(&module.names[0][0]).map(|name| [path.as_slice(), &[name]].concat()).collect::<Vec<_>>()
        })
        .collect();
    modules.retain(|path, _| which == Code::WithTests || !only_for_tests.iter().any(|test| path.starts_with(test)));
    let paths: BTreeSet<_> = modules.keys().cloned().collect();
    for (path, module) in &mut modules {
        let code = std::mem::take(&mut module.names).remove(0).remove(0);
        let own = crate_of[path];
        for (is_public, tree) in uses(&code) {
            for (name, alias) in leaves(&tree) {
                let Some(name) = absolute(&name, path, own, &paths) else { continue };
                if let Some(alias) = alias.filter(|_| is_public) {
                    module.hands_on.insert(alias, name);
                } else {
                    module.names.push(name);
                }
            }
        }
        let mentioned = mentions(&code).into_iter().filter_map(|name| absolute(&name, path, own, &paths));
        module.names.extend(mentioned);
    }
    modules
}

impl Crate {
    /// Returns the path of a module of this crate among the folders of the workspace.
    fn place(&self, path: &[String]) -> Vec<String> {
        match self.is_folder {
            Some(folder)
                if !path.first().is_some_and(|first| {
                    self.contains.contains(&first.as_str()) || rank(first).is_some_and(|first| Some(first) < rank(folder))
                }) =>
            {
                [&[folder.to_owned()], path].concat()
            }
            _ => path.to_vec(),
        }
    }
}

/// Returns all source files below a folder.
fn source_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be listed") {
            let file = entry.expect("it can be listed").path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                files.push(file);
            }
        }
    }
    files
}

/// The source without comments and texts, and apart from it the tests at its end.
fn code_of(source: &str) -> (String, Option<String>) {
    let mut code = String::with_capacity(source.len());
    for line in source.lines() {
        if line == "#[cfg(test)]" || !line.trim_start().starts_with("//") {
            let line = line.split(" // ").next().unwrap_or(line);
            // Texts hold no quotation marks in what is looked at here.
            let outside = line.split('"').step_by(2);
            code.extend(outside);
            code.push('\n');
        }
    }
    let begins = ["", "pub(super) ", "pub(crate) "].map(|visibility| format!("#[cfg(test)]\n{visibility}mod tests {{"));
    match begins.iter().find_map(|begins| code.find(begins)) {
        Some(tests) => (code[..tests].to_owned(), Some(code[tests..].to_owned())),
        None => (code, None),
    }
}

/// Returns the names of modules that are declared for tests only.
fn test_modules(code: &str) -> impl Iterator<Item = String> {
    let mut names = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" || line.trim().starts_with("#[cfg(any(test,") {
            let declared = lines.next().unwrap_or_default();
            names.extend(declared.trim_end_matches(';').rsplit_once("mod ").map(|(_, name)| name.to_owned()));
        }
    }
    names.into_iter()
}

/// Returns the trees of `use`, and whether they are public.
fn uses(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        let after_visibility = trimmed.strip_prefix("pub").map(|rest| match rest.strip_prefix('(') {
            Some(rest) => rest.split_once(") ").map_or("", |(_, rest)| rest),
            None => rest.trim_start(),
        });
        let Some(tree) = after_visibility.unwrap_or(trimmed).strip_prefix("use ") else { continue };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            tree.push_str(lines.next().expect("the end of a use"));
        }
        found.push((
            after_visibility.is_some(),
            tree.replace([' ', ';', '\n'], "").replace("as", " as ").replace(" as sert", "assert"),
        ));
    }
    found
}

/// Returns the paths of a tree, with their new names.
fn leaves(tree: &str) -> Vec<(Vec<String>, Option<String>)> {
    let mut leaves = Vec::new();
    let (head, group) = match tree.find('{') {
        Some(brace) => (tree[..brace].trim_end_matches("::"), Some(&tree[brace + 1..tree.len() - 1])),
        None => (tree, None),
    };
    let steps = |path: &str| path.split("::").filter(|step| !step.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let Some(group) = group else {
        let (path, alias) = head.split_once(" as ").map_or((head, None), |(path, alias)| (path, Some(alias.to_owned())));
        let path = steps(path);
        let alias = alias.or_else(|| path.last().cloned());
        return vec![(path, alias)];
    };
    let mut depth = 0;
    let mut begin = 0;
    let mut parts = Vec::new();
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[begin..]);
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        for (path, alias) in self::leaves(part) {
            let is_self = path.first().is_some_and(|step| step == "self") && !head.is_empty();
            let path = if is_self { steps(head) } else { [steps(head), path].concat() };
            leaves.push((path.clone(), if is_self { path.last().cloned() } else { alias }));
        }
    }
    leaves
}

/// Returns the paths that code mentions outside of `use`.
fn mentions(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // The words of a visibility lead nowhere.
            if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':')
                || code[..at].ends_with("(in ")
            {
                continue;
            }
            let end = code[at..].find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':'));
            let path = &code[at..end.map_or(code.len(), |end| at + end)];
            // The tree of a `use`, which was read as such.
            if path.ends_with("::") {
                continue;
            }
            found.push(path.split("::").filter(|step| !step.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

/// Returns a path among the folders of the workspace; `None` outside of it.
fn absolute(name: &[String], own: &[String], own_crate: &Crate, modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let first = name.first()?;
    if first == "crate" {
        return Some(own_crate.place(&name[1..]));
    }
    if let Some(other) = CRATES.iter().find(|other| other.name == first) {
        return Some(other.place(&name[1..]));
    }
    let ups = name.iter().take_while(|step| *step == "super").count();
    if ups > 0 {
        let path = [own.get(..own.len().checked_sub(ups)?)?, &name[ups..]].concat();
        return Some(if path.first().map(String::as_str) == own_crate.is_folder { own_crate.place(&path[1..]) } else { path });
    }
    let inner = if first == "self" { &name[1..] } else { name };
    let path = [own, inner].concat();
    (first == "self" || modules.contains(&path[..=own.len()])).then_some(path)
}

/// Returns the module whose file defines the path, through re-exports.
fn file_of<'a>(modules: &'a Modules, name: &[String]) -> Option<&'a Vec<String>> {
    let mut name = name.to_vec();
    for _ in 0..8 {
        let depth = (1..=name.len()).rev().find(|depth| modules.contains_key(&name[..*depth]))?;
        let (path, module) = modules.get_key_value(&name[..depth])?;
        match name.get(depth).and_then(|item| module.hands_on.get(item)) {
            Some(elsewhere) => name = [elsewhere.as_slice(), &name[depth + 1..]].concat(),
            None => return Some(path),
        }
    }
    None
}

/// Returns the sets of nodes that depend on each other.
fn circles<'a>(edges: &BTreeMap<&'a Vec<String>, BTreeSet<&'a Vec<String>>>) -> Vec<BTreeSet<&'a Vec<String>>> {
    let reached = |from: &'a Vec<String>| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            for next in &edges[node] {
                if reached.insert(*next) {
                    open.push(next);
                }
            }
        }
        reached
    };
    let all: BTreeMap<_, _> = edges.keys().map(|node| (*node, reached(node))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for node in edges.keys() {
        if seen.insert(*node) {
            let circle: BTreeSet<_> =
                all[node].iter().copied().filter(|other| all[other].contains(node)).chain([*node]).collect();
            seen.extend(circle.iter().copied());
            circles.push(circle);
        }
    }
    circles
}

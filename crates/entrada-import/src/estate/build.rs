//! From the estate to the config: one route for each operation.

use std::collections::{BTreeSet, HashMap};

use super::{
    config, merge,
    model::{Api, Estate, Operation},
    routes::{self, BuiltRoute, Site},
};
use crate::{
    Options,
    elements::{Shared, sections::Alternative},
    names::{identifier, unique},
    output::fragments::Fragments,
    policy::DocumentScope,
    report::{EntryKind, Judgement, Registry, Report, Verdict, lint},
};

/// The files of an import, and its report.
pub(crate) type Built = (Vec<(String, String)>, Report, Vec<(String, (String, usize, usize))>);

/// Builds the config.
pub(crate) fn build(mut estate: Estate, options: &Options) -> Built {
    let mut registry = Registry::default();
    estate.documents.all.iter().for_each(|document| registry.enter(document));
    std::mem::take(&mut estate.resources).into_iter().for_each(|entry| registry.resource(entry));
    let mut shared = Shared {
        registry,
        lints: BTreeSet::new(),
        needs: BTreeSet::new(),
        named: std::mem::take(&mut estate.named),
        upstreams: std::collections::BTreeMap::new(),
        origins: std::collections::BTreeMap::new(),
        backends: std::mem::take(&mut estate.backends),
        tenants: std::collections::BTreeMap::new(),
        issuers: std::collections::BTreeMap::new(),
        credentials: std::collections::BTreeMap::new(),
        missing_fragments: BTreeSet::new(),
        variables: std::collections::BTreeMap::new(),
        rejected: options.rejected.iter().cloned().collect::<HashMap<_, _>>(),
    };
    judge_problems(&estate, &mut shared);
    let mut built = Vec::new();
    let mut names = BTreeSet::new();
    // What others include is translated in its place.
    let (fragments, apis): (Vec<&Api>, Vec<&Api>) = estate.apis.iter().partition(|api| is_fragment(&estate, api));
    for api in apis {
        api_routes(&estate, api, &mut shared, options, &mut names, &mut built);
    }
    for api in fragments {
        let is_read = api.document.is_some_and(|index| {
            let document = &estate.documents.all[index];
            shared.registry.of_element(document.id, &document.root).is_some_and(|id| shared.registry.is_judged(id))
        });
        if !is_read {
            api_routes(&estate, api, &mut shared, options, &mut names, &mut built);
        }
    }
    for api in &estate.apis {
        lint_of_api(api, &built, &mut shared);
    }
    subscriptions(&estate, &mut shared);
    for route in &mut built {
        route.guard(&shared.named);
        route.absorbed.iter_mut().for_each(|absorbed| absorbed.guard(&shared.named));
    }
    let mut lists: Vec<&mut Vec<crate::output::Item>> =
        built.iter_mut().flat_map(|route| [&mut route.inbound, &mut route.outbound, &mut route.on_error]).collect();
    let fragments = Fragments::of(&mut lists);
    // What an absorbed route has stands where that of the other route stands.
    built.iter_mut().flat_map(|route| &mut route.absorbed).for_each(|route| {
        fragments.put_into(&mut [&mut route.inbound, &mut route.outbound, &mut route.on_error]);
    });
    let (text, places) = config::write(&built, &fragments, &shared);
    let mut positions = Vec::new();
    for (pointer, id) in places.into_iter().filter(|(_, id)| *id != usize::MAX) {
        shared.registry.place(id, &pointer);
        positions.push((pointer, shared.registry.position(id)));
    }
    for (pointer, id) in shared.origins.iter().filter(|(_, id)| **id != usize::MAX) {
        positions.push((pointer.clone(), shared.registry.position(*id)));
    }
    let mut files = vec![("entrada.yaml".to_owned(), text)];
    if let Some(partners) = config::partners(&estate.subscriptions) {
        files.push(("partners.yaml".to_owned(), partners));
    }
    let report = report(&estate, shared, &built);
    files.push(("report.md".to_owned(), report.to_markdown()));
    (files, report, positions)
}

fn is_fragment(estate: &Estate, api: &Api) -> bool {
    api.document.is_some_and(|index| estate.documents.all[index].scope == DocumentScope::Fragment)
}

/// Judges documents that are not well-formed.
fn judge_problems(estate: &Estate, shared: &mut Shared) {
    for document in &estate.documents.all {
        let Some(problem) = document.problems.first() else { continue };
        let is_within = document.root.elements().any(|section| (section.start..section.end).contains(&problem.at));
        if is_within && document.problems.len() == 1 {
            // The element around it is judged.
            continue;
        }
        let reason = format!("line {}: {}", document.line(problem.at), problem.message);
        let judgement = Judgement::new(Verdict::Not, "unparsable", reason, "mend the document");
        shared.registry.judge_element(document.id, &document.root, &judgement);
    }
}

fn api_routes(
    estate: &Estate,
    api: &Api,
    shared: &mut Shared,
    options: &Options,
    names: &mut BTreeSet<String>,
    built: &mut Vec<BuiltRoute>,
) {
    let (product, products) = products_of(estate, api, shared);
    let mut operations: Vec<Option<&Operation>> = api.operations.iter().map(Some).collect();
    if operations.is_empty() || api.is_single {
        operations.push(None);
    }
    let mut routes = Vec::new();
    for operation in operations {
        let site = Site { api, operation, chain: routes::chain(estate, api, operation, product), products: products.clone() };
        let base = identifier(&api.id, "api");
        let wanted = match operation {
            Some(operation) => format!("{base}-{}", identifier(&operation.id, "operation")),
            None => base,
        };
        let name = unique(&wanted, |name| names.contains(name));
        names.insert(name.clone());
        routes.push(routes::build(&site, &estate.documents, shared, options, &name));
    }
    // The operations of a document by itself are guessed.
    if !api.is_single {
        routes = merge::merge(routes, &routes::prefix_of(api));
        routes.iter_mut().filter(|route| !route.absorbed.is_empty()).for_each(|route| rename(api, route, names));
    }
    built.append(&mut routes);
}

/// Names a route by its path below the API: it stands for several operations.
fn rename(api: &Api, route: &mut BuiltRoute, names: &mut BTreeSet<String>) {
    let base = identifier(&api.id, "api");
    let below = route.path.strip_prefix(&routes::prefix_of(api)).unwrap_or(&route.path);
    let below = identifier(below, "");
    let wanted = match (below.is_empty(), route.is_exact) {
        (false, _) => format!("{base}-{below}"),
        (true, true) => format!("{base}-root"),
        (true, false) => base,
    };
    std::iter::once(&route.name).chain(route.absorbed.iter().map(|own| &own.name)).for_each(|name| {
        names.remove(name);
    });
    route.name = unique(&wanted, |name| names.contains(name));
    names.insert(route.name.clone());
}

/// Returns the document of the product that an API belongs to; if there are several, each with its partners.
fn products_of<'e>(estate: &'e Estate, api: &Api, shared: &mut Shared) -> (Option<usize>, Vec<Alternative<'e>>) {
    let products: Vec<_> = estate.products.iter().filter(|product| product.apis.contains(&api.id)).collect();
    let documents: Vec<usize> = products.iter().filter_map(|product| product.document).collect();
    if documents.is_empty() || products.len() == 1 {
        return (documents.first().copied(), Vec::new());
    }
    if api.needs_key == Some(false) {
        // Whoever sends no key is a caller of the product that needs none, and otherwise of none.
        let open = products.iter().find(|product| product.needs_key == Some(false)).and_then(|product| product.document);
        let reason = "the API needs no subscription: a call without a key does not run the policies of this product";
        let judgement =
            Judgement::new(Verdict::Not, "several-products", reason, "write what is meant for everybody into the API");
        for index in documents.iter().filter(|index| Some(**index) != open) {
            let document = &estate.documents.all[*index];
            shared.registry.judge_element(document.id, &document.root, &judgement);
        }
        return (open, Vec::new());
    }
    let names = config::partner_names(&estate.subscriptions);
    let subscribers = |ends: &dyn Fn(&str) -> bool| -> Vec<String> {
        let own = estate.subscriptions.iter().zip(&names).filter(|(subscription, _)| ends(&subscription.scope));
        own.map(|(_, name)| name.clone()).collect()
    };
    let is_scope = |scope: &str, end: &str| scope.trim_matches('/') == end || scope.ends_with(&format!("/{end}"));
    let mut alternatives = Vec::new();
    for product in &products {
        let mut partners = subscribers(&|scope| is_scope(scope, &format!("products/{}", product.name)));
        if partners.is_empty() {
            let stand_in = format!("partner-of-{}", identifier(&product.name, "product"));
            shared.need("product", &product.name, &format!("write the names of its partners in the place of `{stand_in}`"));
            partners.push(stand_in);
        }
        alternatives.push(Alternative { partners, document: product.document.map(|index| &estate.documents.all[index]) });
    }
    // A key for the API or for all of them runs no product's policies.
    let others = subscribers(&|scope| is_scope(scope, &format!("apis/{}", api.id)) || is_scope(scope, "apis"));
    if !others.is_empty() {
        alternatives.push(Alternative { partners: others, document: None });
    }
    (None, alternatives)
}

/// Finds APIs that nothing, or a key alone, protects.
fn lint_of_api(api: &Api, built: &[BuiltRoute], shared: &mut Shared) {
    let routes: Vec<&BuiltRoute> = built.iter().filter(|route| route.api == api.id).collect();
    let is_open = |route: &&BuiltRoute| (route.is_anonymous || api.needs_key == Some(true)) && !has_token_policy(&route.inbound);
    if !api.is_single && routes.iter().any(is_open) {
        shared.lints.insert(lint("L9", &api.file, 1));
    }
    let keeps =
        |route: &&BuiltRoute| route.authorization == crate::elements::Authorization::Keep && has_token_policy(&route.inbound);
    if routes.iter().any(keeps) {
        shared.lints.insert(lint("L12", &api.file, 1));
    }
}

fn has_token_policy(items: &[crate::output::Item]) -> bool {
    use crate::output::{Item, Yaml};
    items.iter().any(|item| match item {
        Item::Policy { name, value, .. } => {
            matches!(name.as_str(), "validate-jwt" | "validate-azure-ad-token" | "any-of")
                || matches!(value, Yaml::Branches(branches) if branches.iter().any(|(_, items)| has_token_policy(items)))
        }
        Item::Group { items, .. } => has_token_policy(items),
        Item::Comment(_) | Item::Missing { .. } => false,
    })
}

fn subscriptions(estate: &Estate, shared: &mut Shared) {
    for subscription in &estate.subscriptions {
        let advice = "add its application or the SHA-256 of its key to `partners.yaml`, and include that file";
        shared.need("partner", &subscription.name, advice);
    }
}

fn report(estate: &Estate, shared: Shared, built: &[BuiltRoute]) -> Report {
    let found = shared.registry.found;
    let renamed = shared.variables.iter().filter(|(there, here)| there != here);
    let mut report = Report {
        renamed: renamed.map(|(there, here)| (there.clone(), here.clone())).collect(),
        lints: shared.lints.into_iter().collect(),
        needs: shared.needs.into_iter().collect(),
        documents: estate.documents.all.iter().map(|document| (document.file.clone(), document.scope.word())).collect(),
        routes: built.len(),
        merged: built
            .iter()
            .filter(|route| !route.absorbed.is_empty())
            .map(|route| (route.name.clone(), route.operations.clone()))
            .collect(),
        refused_routes: built.iter().filter(|route| route.refuses).count(),
        out_of_scope: estate.out_of_scope.clone(),
        found,
        entries: shared.registry.finish(),
    };
    report.entries.retain(|entry| entry.kind != EntryKind::Resource || !entry.element.is_empty());
    report
}

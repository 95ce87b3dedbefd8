//! Routes: the policies of an API or operation, in the order in which they run.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    merge::BELOW_API,
    model::{Api, Estate, Operation},
    named::NamedValues,
    template,
};
use crate::{
    Options,
    elements::{
        Authorization, Flow, Route, Shared, Upstream,
        flow::refusal_item,
        sections::{Alternative, Link},
        state::Documents,
    },
    expression::scope::{Constants, Parameters, Scope, Section},
    names::identifier,
    output::{Item, Yaml, map, text},
    policy::{DocumentScope, PolicyDocument},
    report::{Judgement, Verdict},
};

/// A route of the config.
#[derive(Debug)]
pub(crate) struct BuiltRoute {
    /// The API that it belongs to.
    pub(crate) api: String,
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) path: String,
    /// Whether nothing may follow the path.
    pub(crate) is_exact: bool,
    /// The methods; none for all.
    pub(crate) methods: Vec<String>,
    /// The operations that it stands for: method and template of each.
    pub(crate) operations: Vec<String>,
    /// The routes that it stands for as well.
    pub(crate) absorbed: Vec<Self>,
    pub(crate) is_anonymous: bool,
    pub(crate) require_tls: bool,
    pub(crate) inbound: Vec<Item>,
    pub(crate) outbound: Vec<Item>,
    pub(crate) on_error: Vec<Item>,
    pub(crate) upstream: String,
    pub(crate) authorization: Authorization,
    pub(crate) authorization_origin: Option<usize>,
    pub(crate) refuses: bool,
    /// The named values that it asks callers for, and that nobody has supplied yet.
    pub(crate) guards: BTreeSet<String>,
}

impl BuiltRoute {
    /// Refuses all requests until the named values are supplied that a caller is asked for: the stand-ins stand in the config.
    pub(crate) fn guard(&mut self, named: &NamedValues) {
        let is_check_of_key = |item: &Item| matches!(item, Item::Policy { name, .. } if name == "validate-api-key");
        let at = self.inbound.iter().position(|item| !is_check_of_key(item)).unwrap_or(self.inbound.len());
        for name in self.guards.iter().rev() {
            let Some(stand_in) = named.stand_in(name) else { continue };
            let condition = format!("@({{{{{name}}}}} != {})", crate::expression::literal(&stand_in).text);
            let value = map([("condition", text(condition)), ("code", text("value-missing"))]);
            let comment = format!("until `{name}` is supplied, for which callers are asked");
            self.inbound.insert(at, Item::Policy { name: "authorize".to_owned(), value, origin: usize::MAX, comment });
        }
    }

    /// Returns the settings of `match`.
    pub(crate) fn matches(&self) -> Yaml {
        let mut matches = vec![(if self.is_exact { "exact-path" } else { "path" }.to_owned(), text(self.path.clone()))];
        if !self.methods.is_empty() {
            matches.push(("methods".to_owned(), Yaml::List(self.methods.iter().map(|method| text(method.clone())).collect())));
        }
        Yaml::Map(matches)
    }
}

/// A place in the estate for which a route is built.
#[derive(Debug)]
pub(crate) struct Site<'e> {
    pub(crate) api: &'e Api,
    pub(crate) operation: Option<&'e Operation>,
    /// The documents, the narrowest first; without those of several products.
    pub(crate) chain: Vec<&'e PolicyDocument>,
    /// The products of the API, if they are several; they stand before the global document.
    pub(crate) products: Vec<Alternative<'e>>,
}

impl<'e> Site<'e> {
    /// Returns the scopes, the narrowest first.
    fn links(&self) -> Vec<Link<'_>> {
        let mut links: Vec<Link<'_>> = self.chain.iter().map(|document| Link::Document(document)).collect();
        if !self.products.is_empty() {
            let is_wide = |document: &&PolicyDocument| matches!(document.scope, DocumentScope::Global | DocumentScope::Workspace);
            let at = self.chain.iter().position(is_wide).unwrap_or(links.len());
            links.insert(at, Link::Products(&self.products));
        }
        links
    }

    /// Returns all documents, those of several products included.
    fn documents(&self) -> impl Iterator<Item = &'e PolicyDocument> {
        self.chain.iter().copied().chain(self.products.iter().filter_map(|product| product.document))
    }
}

/// The decisions about a route that depend on all of its policies.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plan {
    /// Whether the subscription key is checked first.
    checks_key: bool,
    host: Option<String>,
}

/// Builds a route.
pub(crate) fn build(site: &Site<'_>, documents: &Documents, shared: &mut Shared, options: &Options, name: &str) -> BuiltRoute {
    let (path, parameters) = path_of(site, documents);
    let mut plan = Plan { checks_key: first_guess(site, options), host: None };
    let mut attempt = attempt(site, documents, shared, &plan, &parameters);
    for _ in 0..2 {
        let next = Plan {
            checks_key: plan.checks_key || needs_key(site, &attempt.route, options),
            host: attempt.route.settings.host.clone(),
        };
        if next == plan {
            break;
        }
        plan = next;
        attempt = self::attempt(site, documents, shared, &plan, &parameters);
    }
    finish(site, shared, attempt, &plan, path, name)
}

/// The policies of a route, translated under a plan.
struct Attempt {
    route: Route,
    inbound: Vec<Item>,
    outbound: Vec<Item>,
    on_error: Vec<Item>,
}

fn attempt(site: &Site<'_>, documents: &Documents, shared: &mut Shared, plan: &Plan, parameters: &Parameters) -> Attempt {
    let mut route = Route::new(site.api.servers.clone());
    route.settings.host.clone_from(&plan.host);
    route.authenticates = plan.checks_key;
    route.examples = site.operation.map(|operation| operation.examples.clone()).unwrap_or_default();
    let mut scope = Scope::new(Section::Inbound);
    scope.has_partner = plan.checks_key;
    scope.parameters = parameters.clone();
    scope.constants = constants(site);
    let chain = site.links();
    let mut flow = Flow::new(shared, documents, scope, route);
    flow.backend_section(&chain);
    let inbound = flow.section(&chain, Section::Inbound);
    let inner = flow.scope.clone();
    let outbound = flow.section(&chain, Section::Outbound);
    flow.scope = inner;
    let on_error = flow.section(&chain, Section::OnError);
    flow.judge_identities();
    Attempt { route: flow.route, inbound, outbound, on_error }
}

/// Returns whether the key is checked first, as far as the estate tells.
fn first_guess(site: &Site<'_>, options: &Options) -> bool {
    if !site.products.is_empty() {
        return true;
    }
    match site.api.needs_key {
        Some(needs) => needs,
        None => !options.accept_anonymous && site.chain.iter().any(|document| reads_subscription(&document.text)),
    }
}

/// Returns whether a document of which nothing else is known needs the subscription key.
fn needs_key(site: &Site<'_>, route: &Route, options: &Options) -> bool {
    if route.authenticates || site.api.needs_key.is_some() {
        return false;
    }
    // A credential of the gateway's own is not for everybody.
    !options.accept_anonymous || matches!(&route.authorization, Authorization::Set(value) if *value != Yaml::Map(Vec::new()))
}

fn reads_subscription(text: &str) -> bool {
    ["context.Subscription", "context.Product", "<rate-limit ", "<quota ", "Ocp-Apim-Subscription-Key"]
        .iter()
        .any(|mark| text.contains(mark))
}

fn constants(site: &Site<'_>) -> Constants {
    let mut constants = Constants { is_single: site.api.is_single, known: BTreeMap::new() };
    if site.api.is_single {
        return constants;
    }
    let api = site.api;
    for (key, value) in [("Api.Id", &api.id), ("Api.Name", &api.name), ("Api.Path", &api.path)] {
        constants.known.insert(key, value.clone());
    }
    if let Some(version) = &api.version {
        constants.known.insert("Api.Version", version.clone());
    }
    if let Some((scheme, rest)) = api.servers.first().and_then(|server| server.split_once("://")) {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        constants.known.insert("ServiceUrl.Scheme", scheme.to_owned());
        constants.known.insert("ServiceUrl.Host", host.split(':').next().unwrap_or(host).to_owned());
        constants.known.insert("ServiceUrl.Path", format!("/{path}"));
        constants.known.insert("ServiceUrl.", api.servers[0].clone());
    }
    if let Some(operation) = site.operation {
        constants.known.insert("Operation.Id", operation.id.clone());
        constants.known.insert("Operation.Name", operation.name.clone());
        constants.known.insert("Operation.UrlTemplate", operation.template.clone());
        constants.known.insert("Operation.Method", operation.method.clone());
    }
    constants
}

/// The path of a route: what it matches, the path for the backend, and the parts of segments that are lost.
#[derive(Default)]
struct Path {
    path: String,
    is_exact: bool,
    methods: Vec<String>,
    /// The path for the backend, if it differs.
    rewrite: Option<String>,
    partial: Vec<String>,
    /// Parameters that the query must have.
    query: Vec<String>,
}

/// Returns the path below which an API is called; empty for all paths.
pub(crate) fn prefix_of(api: &Api) -> String {
    let segments = api.path.split('/').filter(|segment| !segment.is_empty());
    segments.map(|segment| format!("/{}", template::literal(segment))).collect()
}

fn path_of(site: &Site<'_>, documents: &Documents) -> (Path, Parameters) {
    let prefix = prefix_of(site.api);
    let Some(operation) = site.operation.filter(|operation| !operation.template.is_empty()) else {
        let mut names = Vec::new();
        if site.api.is_single {
            site.chain.iter().chain(&fragments_of(&site.chain, documents)).for_each(|document| {
                for name in template::read_by(&document.text) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            });
        }
        // Where nobody knows where parameters stand, each has a segment.
        let parameters = template::captures(&names);
        let captures: String = names.iter().map(|name| format!("/{{{}}}", parameters.captures[name])).collect();
        let path = format!("{prefix}{captures}");
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let rewrite = (!prefix.is_empty()).then(|| format!("{captures}{{rest}}"));
        return (Path { path, rewrite, ..Path::default() }, parameters);
    };
    let (route, mut parameters) = template::read(&operation.template);
    let mut captures = String::new();
    if site.api.is_single {
        for document in &site.chain {
            for name in template::read_by(&document.text) {
                if !parameters.captures.contains_key(&name) {
                    let more = template::captures(std::slice::from_ref(&name));
                    captures.push_str(&format!("/{{{}}}", more.captures[&name]));
                    parameters.captures.extend(more.captures);
                }
            }
        }
    }
    let path = format!("{prefix}{}{captures}", route.path.trim_end_matches('/'));
    let path = if path.is_empty() { "/".to_owned() } else { path };
    let has_method = !operation.method.is_empty() && operation.method != "*";
    let methods = has_method.then(|| operation.method.to_ascii_uppercase()).into_iter().collect();
    let rewrite = (!prefix.is_empty()).then(|| route.rewrite.replace("{rest}", &format!("{captures}{{rest}}")));
    let query = parameters.query.iter().cloned().collect();
    (Path { path, is_exact: route.is_exact, methods, rewrite, partial: route.partial, query }, parameters)
}

/// Returns the fragments that documents include.
fn fragments_of<'d>(chain: &[&PolicyDocument], documents: &'d Documents) -> Vec<&'d PolicyDocument> {
    let names = documents
        .fragments
        .iter()
        .filter(|(name, _)| chain.iter().any(|document| document.text.contains(&format!("\"{name}\""))));
    names.map(|(_, index)| &documents.all[*index]).collect()
}

/// Completes a route: what stands before its policies and behind them, and where it leads.
fn finish(site: &Site<'_>, shared: &mut Shared, attempt: Attempt, plan: &Plan, path: Path, name: &str) -> BuiltRoute {
    let Attempt { mut route, inbound, outbound, on_error } = attempt;
    let own = |name: &str, value: Yaml, comment: &str| Item::Policy {
        name: name.to_owned(),
        value,
        origin: usize::MAX,
        comment: comment.to_owned(),
    };
    let mut items = Vec::new();
    if !path.partial.is_empty() {
        route.refuses = true;
        items.push(refusal_item(usize::MAX, "apim: a parameter is a part of a segment, and a capture is a whole one"));
    }
    if plan.checks_key {
        let mut settings = Vec::new();
        if let Some((header, query)) = &site.api.key_names {
            settings.push(("header-name".to_owned(), text(header.clone())));
            settings.push(("query-parameter-name".to_owned(), text(query.clone())));
        }
        items.push(own("validate-api-key", Yaml::Map(settings), "the subscription key"));
    }
    for parameter in &path.query {
        let condition = format!("@(has(request.query[{}]))", crate::expression::literal(parameter).text);
        let value = map([("condition", text(condition)), ("code", text("parameter-missing"))]);
        items.push(own("authorize", value, "the operation's template asks for this parameter"));
    }
    if let Some(rewrite) = path.rewrite.filter(|_| !route.rewrites) {
        let rewrite = if rewrite.is_empty() { "/".to_owned() } else { rewrite };
        items.push(own("rewrite-uri", map([("template", text(rewrite))]), BELOW_API));
    }
    items.extend(inbound);
    for place in &route.refuses_for {
        items.push(refusal_item(usize::MAX, place));
    }
    if !route.forwards {
        no_backend(site, shared, &mut route, &outbound, &mut items);
    }
    let upstream = upstream_of(site, shared, &route);
    let is_anonymous = !route.authenticates;
    BuiltRoute {
        api: site.api.id.clone(),
        name: name.to_owned(),
        comment: site.api.file.clone(),
        path: path.path,
        is_exact: path.is_exact,
        methods: path.methods,
        operations: site.operation.map(title_of).into_iter().collect(),
        absorbed: Vec::new(),
        is_anonymous,
        require_tls: site.api.https_only,
        inbound: items,
        outbound,
        on_error,
        upstream,
        authorization: route.authorization.clone(),
        authorization_origin: route.authorization_origin,
        refuses: route.refuses,
        guards: route.guards,
    }
}

/// Returns the method and the template of an operation.
fn title_of(operation: &Operation) -> String {
    let method = if operation.method.is_empty() { "*".to_owned() } else { operation.method.to_ascii_uppercase() };
    let template = if operation.template.is_empty() { "/*" } else { &operation.template };
    format!("{method} /{}", template.trim_start_matches('/'))
}

/// Answers in the place of a backend that is not called.
fn no_backend(site: &Site<'_>, shared: &mut Shared, route: &mut Route, outbound: &[Item], items: &mut Vec<Item>) {
    let place = format!("{}: no `forward-request`", site.api.file);
    let Some((document, section)) = site.chain.iter().find_map(|document| Some((*document, document.section(Section::Backend)?)))
    else {
        return;
    };
    if outbound.iter().any(Item::writes) || has_outbound(site) {
        let reason = "no backend is called, and `outbound` makes the answer";
        let judgement = Judgement::new(Verdict::Not, "no-backend", reason, "answer with `return-response`");
        shared.registry.judge_element(document.id, section, &judgement);
        route.refuses = true;
        items.push(refusal_item(usize::MAX, &place));
        return;
    }
    let judgement = Judgement::new(Verdict::Note, "no-backend", "no backend is called: the answer is empty", "");
    shared.registry.judge_element(document.id, section, &judgement);
    items.push(crate::elements::empty_answer(usize::MAX, &place));
}

fn has_outbound(site: &Site<'_>) -> bool {
    site.documents()
        .filter_map(|document| document.section(Section::Outbound))
        .any(|section| section.elements().any(|child| child.name != "base"))
}

/// Returns the upstream of a route.
fn upstream_of(site: &Site<'_>, shared: &mut Shared, route: &Route) -> String {
    if let Some(upstream) = &route.upstream {
        return upstream.clone();
    }
    let servers = if route.servers.is_empty() {
        if route.forwards {
            let advice = "write the URL of the API's backend into `upstreams`";
            shared.need("backend", &site.api.id, advice);
        }
        vec!["https://backend.invalid".to_owned()]
    } else {
        route.servers.clone()
    };
    let wanted = Upstream::of(servers, &route.settings);
    shared.upstream(&wanted, &identifier(&site.api.id, "backend"), usize::MAX)
}

/// Returns the documents of a route, the narrowest first.
pub(crate) fn chain<'e>(
    estate: &'e Estate,
    api: &Api,
    operation: Option<&Operation>,
    product: Option<usize>,
) -> Vec<&'e PolicyDocument> {
    let documents = &estate.documents.all;
    let own = operation.and_then(|operation| operation.document).into_iter().chain(api.document).chain(product);
    let mut chain: Vec<&PolicyDocument> = own.chain(api.workspace).map(|index| &documents[index]).collect();
    if let Some(global) = estate.global
        && chain.iter().all(|document| document.id != global && document.scope != DocumentScope::Fragment)
    {
        chain.push(&documents[global]);
    }
    chain
}

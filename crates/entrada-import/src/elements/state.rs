//! The state of an import, and of one route while its policies are translated.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    estate::named::NamedValues,
    names::{identifier, snake, unique},
    output::Yaml,
    policy::PolicyDocument,
    report::{Lint, Need, Registry, lint},
};

/// The documents of an import.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(crate) all: Vec<PolicyDocument>,
    /// Fragments by name.
    pub(crate) fragments: BTreeMap<String, usize>,
}

impl Documents {
    pub(crate) fn fragment(&self, name: &str) -> Option<&PolicyDocument> {
        self.fragments.get(name).map(|index| &self.all[*index])
    }
}

/// An upstream: all its settings are those of the tuple.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Upstream {
    pub(crate) servers: Vec<String>,
    /// The time to the response head, in seconds.
    pub(crate) timeout: u64,
    /// The attempts beyond the first, and their conditions.
    pub(crate) retries: Option<(u64, Vec<String>)>,
    pub(crate) host: Option<String>,
    pub(crate) protocol: Option<&'static str>,
    /// Consecutive failures and the time of an ejection.
    pub(crate) ejection: Option<(u64, String)>,
}

/// Seconds that API Management waits for a response.
pub(crate) const TIMEOUT: u64 = 300;

impl Upstream {
    /// Makes an upstream with the settings of another.
    pub(crate) fn of(servers: Vec<String>, settings: &Self) -> Self {
        Self { servers, ..settings.clone() }
    }

    /// Returns the settings of API Management's default.
    pub(crate) fn settings() -> Self {
        Self { servers: Vec::new(), timeout: TIMEOUT, retries: None, host: None, protocol: None, ejection: None }
    }
}

/// A backend that the estate names.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) servers: Vec<String>,
    pub(crate) ejection: Option<(u64, String)>,
}

/// All that several routes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    pub(crate) lints: BTreeSet<Lint>,
    pub(crate) needs: BTreeSet<Need>,
    pub(crate) named: NamedValues,
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    /// The entries of the report that an upstream, tenant or issuer comes from.
    pub(crate) origins: BTreeMap<String, usize>,
    pub(crate) backends: BTreeMap<String, Backend>,
    pub(crate) tenants: BTreeMap<String, Yaml>,
    pub(crate) issuers: BTreeMap<String, Yaml>,
    pub(crate) credentials: BTreeMap<String, Yaml>,
    pub(crate) missing_fragments: BTreeSet<String>,
    /// The names of variables here.
    pub(crate) variables: BTreeMap<String, String>,
    /// Elements that the product did not accept, with its message.
    pub(crate) rejected: HashMap<(String, usize, usize), String>,
}

impl Shared {
    pub(crate) fn lint(&mut self, code: &'static str, document: &PolicyDocument, offset: usize) {
        self.lints.insert(lint(code, &document.file, document.line(offset)));
    }

    pub(crate) fn need(&mut self, kind: &'static str, name: &str, advice: &str) {
        self.needs.insert(Need { kind, name: name.to_owned(), advice: advice.to_owned() });
    }

    /// Returns the name of an upstream, which is made if there is none yet.
    pub(crate) fn upstream(&mut self, wanted: &Upstream, suggested: &str, origin: usize) -> String {
        if let Some((name, _)) = self.upstreams.iter().find(|(_, own)| *own == wanted) {
            return name.clone();
        }
        let name = unique(&identifier(suggested, "backend"), |name| self.upstreams.contains_key(name));
        self.upstreams.insert(name.clone(), wanted.clone());
        self.origins.insert(format!("/upstreams/{name}"), origin);
        name
    }

    /// Returns the name here of a variable: letters in lower case, digits and `_`.
    pub(crate) fn variable(&mut self, name: &str) -> String {
        if let Some(own) = self.variables.get(name) {
            return own.clone();
        }
        let own = snake(name, "variable");
        let taken: BTreeSet<String> = self.variables.values().cloned().collect();
        let own = (1..)
            .map(|count| if count == 1 { own.clone() } else { format!("{own}_{count}") })
            .find(|name| !taken.contains(name))
            .unwrap_or(own);
        self.variables.insert(name.to_owned(), own.clone());
        own
    }
}

/// The `authorization` of a route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Authorization {
    /// The caller's, as it came.
    Keep,
    Remove,
    Set(Yaml),
}

/// One route while its policies are translated.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The settings of its upstreams.
    pub(crate) settings: Upstream,
    /// The URLs of the API itself.
    pub(crate) servers: Vec<String>,
    /// The upstream that a policy chose for all requests.
    pub(crate) upstream: Option<String>,
    /// All upstreams that it may use.
    pub(crate) authorization: Authorization,
    /// Where the authorization was set, for the report.
    pub(crate) authorization_origin: Option<usize>,
    pub(crate) authenticates: bool,
    pub(crate) token_policies: usize,
    pub(crate) rewrites: bool,
    pub(crate) forwards: bool,
    /// Whether a refusal stands for something that was not translated.
    pub(crate) refuses: bool,
    /// The elements of other sections for which the route refuses.
    pub(crate) refuses_for: Vec<String>,
    /// The elements that put a token of the identity into a variable nobody has used yet.
    pub(crate) identities: BTreeMap<String, usize>,
    pub(crate) has_cors: bool,
    /// The named values that nobody has supplied yet, and that a caller is asked for.
    pub(crate) guards: BTreeSet<String>,
    /// The examples of the operation's answers, by status.
    pub(crate) examples: BTreeMap<u64, (String, String)>,
}

impl Route {
    pub(crate) fn new(servers: Vec<String>) -> Self {
        Self {
            settings: Upstream::settings(),
            servers,
            upstream: None,
            authorization: Authorization::Keep,
            authorization_origin: None,
            authenticates: false,
            token_policies: 0,
            rewrites: false,
            forwards: true,
            refuses: false,
            refuses_for: Vec::new(),
            identities: BTreeMap::new(),
            has_cors: false,
            guards: BTreeSet::new(),
            examples: BTreeMap::new(),
        }
    }
}

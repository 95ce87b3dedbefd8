//! A compiled config: immutable, replaced as a whole.

use std::{
    collections::BTreeMap,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::runtime::Handle;

pub use super::{admin_rules::AdminRules, listeners::ListenerRules, recorded::Recorded};
use super::{
    files::files,
    listeners::{build_decisions, build_listeners, lint_certificates},
};
use crate::{
    address::AddressSets,
    audit::{AuditContext, RemoteContext},
    base::clock::Clock,
    config::{Config, Document},
    credentials::{Credentials, CredentialsContext},
    entra::{Tenants, VerifiedTokens},
    exchange::{Exchange, RouteLabel, RouteNames},
    graph::Graphs,
    identity::AssertionKeys,
    identity_http::{IdentityHttp, IdentityHttpConfig},
    inbound::{LimitContext, LimitOwners, PolicySettings, build_context::AskedCertificates, list, token_policies},
    limits::{
        ConfiguredStore, Limits,
        store::{Store, StoreContext},
    },
    listener::{ListenerCertificateStatus, ServedCertificate},
    outbound::OutboundList,
    partner::{Partners, PartnersContext},
    request::Ambiguities,
    route::{Described, Matching, Route, RouteBuilder, RouteSources, RouteTable, described, lint_shadowed},
    settings::{Faults, Lint, Place, Secrets},
    telemetry::{Counters, Metrics, NO_ROUTE},
    upstream::Upstreams,
};

/// Everything that requests are judged by, made once from a config.
#[derive(Debug)]
pub struct Runtime {
    /// The number of configs before this one in the life of the process.
    pub generation: u64,
    /// The digest of the config, which is the same on every gateway with the same settings.
    pub digest: Box<str>,
    /// The digest of each part of the config, for telling what another config has otherwise.
    pub parts: Arc<BTreeMap<String, String>>,
    /// The clock.
    pub clock: Clock,
    /// The rules of listeners, by index.
    pub listeners: Vec<ListenerRules>,
    /// The rules of the admin listener; `None` where there is none.
    pub(crate) admin: Option<AdminRules>,
    /// The table from requests to routes.
    pub table: RouteTable,
    /// The routes, by index.
    pub routes: Vec<Route>,
    /// The policies on refusals of requests that no route takes.
    pub on_error: OutboundList,
    /// Whether some route lets WebSockets open.
    pub(super) opens_websockets: bool,
    /// The names of the routes, by index.
    route_names: Arc<[Arc<str>]>,
    /// The client for identity services, with its settings.
    identity_http: IdentityHttpConfig,
    http: Arc<IdentityHttp>,
    /// The tenants with their signing keys.
    pub tenants: Tenants,
    /// The limits of the verified-token cache, and the number of threads.
    verified_tokens: (VerifiedTokens, usize),
    /// The values of secret named values.
    secrets: Secrets,
    /// The gateway's own credentials.
    pub credentials: Credentials,
    /// The named address sets.
    pub address_sets: AddressSets,
    /// Microsoft Graph, as policies ask it.
    pub graphs: Graphs,
    /// The keys that sign assertions for backends; `None` if they are not needed.
    pub assertion_keys: Option<Arc<AssertionKeys>>,
    /// The partners whose daemons call.
    pub partners: Arc<Partners>,
    /// The backends.
    pub upstreams: Upstreams,
    /// The counters of limits; they continue from one config to the next.
    pub limits: Arc<Limits>,
    /// The store of limits that several gateways share.
    pub(crate) limit_store: Option<Arc<Store>>,
    /// The files that the config names, whose change requires a new build.
    pub files: Vec<PathBuf>,
    /// The counters of requests without a route, one for each worker.
    pub unrouted: Arc<[Counters]>,
    /// The parts of records that are the same for all of its requests.
    pub recorded: Recorded,
}

/// A worker's reference to the runtime. Cloning and dropping it touches a counter that no other core touches.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<Held>);

#[derive(Debug)]
struct Held {
    runtime: Arc<Runtime>,
    route_names: RouteNames,
}

impl Snapshot {
    /// Returns whether it refers to this runtime.
    pub fn is_of(&self, runtime: &Arc<Runtime>) -> bool {
        Arc::ptr_eq(&self.0.runtime, runtime)
    }

    /// Returns the label of the route with this index.
    pub fn label(&self, index: usize) -> RouteLabel {
        RouteLabel::new(index, &self.0.route_names)
    }
}

impl From<Arc<Runtime>> for Snapshot {
    fn from(runtime: Arc<Runtime>) -> Self {
        Self(Arc::new(Held { route_names: RouteNames::new(&runtime.route_names), runtime }))
    }
}

impl Deref for Snapshot {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.0.runtime
    }
}

/// The use of a runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A server: the listeners of its config are opened.
    #[default]
    Listeners,
    /// A service in an application, which hands requests over: listeners are optional.
    Mounted,
    /// A layer in an application: in addition, routes without an upstream lead to the application's service.
    BeforeService,
    /// A candidate, which judges the requests of a running gateway and has no effect. What it shares with that one it reads.
    Beside,
}

impl Purpose {
    /// Returns whether the config is one of a server.
    const fn has_listeners(self) -> bool {
        matches!(self, Self::Listeners | Self::Beside)
    }
}

/// The context in which a runtime is built.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeContext<'a> {
    /// The config.
    pub document: &'a Document,
    /// The use of the runtime.
    pub purpose: Purpose,
    /// The number of threads that carry requests.
    pub workers: usize,
    /// The clock.
    pub clock: &'a Clock,
    /// The request counters.
    pub metrics: &'a Metrics,
}

impl Runtime {
    /// Compiles a config to find its faults.
    pub fn try_out(document: &Document, faults: &mut Faults) -> Option<Self> {
        let (clock, metrics) = (Clock::system(), Metrics::default());
        let purpose = Purpose::Listeners;
        Self::build(RuntimeContext { document, purpose, workers: 1, clock: &clock, metrics: &metrics }, None, faults)
    }

    /// Compiles a config. Nothing is fetched, and only the files that the config names are read.
    ///
    /// State that outlives a config (key sets, tokens, pools) is taken over from `previous` where its settings did not change.
    /// Faults go to `faults`; returns `None` if any of them is an error.
    pub fn build(context: RuntimeContext<'_>, previous: Option<&Self>, faults: &mut Faults) -> Option<Self> {
        let errors = faults.errors();
        let root = Place::root();
        let RuntimeContext { document, purpose, workers, clock, metrics } = context;
        let Document { config, base, .. } = document;

        let sets = AddressSets::build(&config.address_sets, base, &root.key("address-sets"), clock.unix_seconds(), faults);
        let tenants =
            Tenants::build(&config.tenants, previous.map(|old| &old.tenants), &root.key("tenants"), faults).relative_to(base);
        let beside = purpose == Purpose::Beside;
        let tenants = if beside { tenants.with_tokens_apart() } else { tenants };
        let tenants = tenants.with_issuers(&config.issuers, &root.key("issuers"), faults);
        let secrets = document.secrets.after(previous.map(|old| &old.secrets));
        let http = identity_http(config, document, previous, &root.key("identity-http"), faults)?;
        let setting = CredentialsContext {
            tenants: &config.tenants,
            base,
            secrets: &secrets,
            http: &http,
            clock,
            previous: previous.map(|old| &old.credentials),
        };
        let credentials = Credentials::build(&config.credentials, &setting, &root.key("credentials"), faults);
        let routes: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
        let limit_store = limit_store(config, &credentials, (base, &secrets, clock), previous, faults);
        let limits = previous.filter(|_| !beside).map_or_else(Arc::default, |old| old.limits.clone());
        limits.begin_build(limit_store.clone());
        let with = PartnersContext {
            sets: &sets,
            tenants: &tenants,
            routes: &routes,
            certificates: can_show_certificates(config),
            now: clock.unix_seconds(),
            secrets: &secrets,
            limits: &limits,
            metrics: (metrics, workers),
            previous: previous.map(|old| &*old.partners),
        };
        let partners = Arc::new(Partners::build(&config.partners, with, &root.key("partners"), faults));
        let graphs = Graphs::after(previous.map(|old| &old.graphs));
        let upstreams = Upstreams::build(
            &config.upstreams,
            base,
            workers,
            previous.filter(|_| !beside).map(|old| &old.upstreams),
            &root.key("upstreams"),
            faults,
        );
        upstreams.lint(&root.key("upstreams"), clock.unix_seconds(), faults);
        if purpose.has_listeners() {
            super::addresses::check(config, faults);
        }
        let mut listeners = build_listeners(document, purpose.has_listeners(), (&sets, clock), faults);
        lint_certificates(config, &listeners, clock.unix_seconds(), faults);
        let admin = purpose.has_listeners().then(|| AdminRules::build(config, base, &tenants, faults)).flatten();
        let described = described(&config.routes, &root.key("routes"), faults);
        let table = route_table(config, &described, faults);
        let assertion_keys = assertion_keys(document, clock, previous, faults);
        let routes = config.routes.iter().map(|route| (&*route.name, &*route.inbound));
        let limit_owners = LimitOwners::of(&config.inbound, &config.fragments, routes);
        let lists = config.routes.iter().map(|route| &*route.inbound).chain([&*config.inbound]);
        let credential_names = token_policies::credential_names(lists, &config.fragments);
        let builder = RouteBuilder {
            config: RouteSources {
                routes: &config.routes,
                inbound: &config.inbound,
                outbound: &config.outbound,
                on_error: &config.on_error,
                fragments: &config.fragments,
                upstreams: &config.upstreams,
                asked_certificates: AskedCertificates::by(
                    config.listeners.iter().filter_map(|listener| listener.client_certificates.as_ref()),
                )
                .or_told(tells_certificates(config)),
                all_offer_http2: !config.listeners.is_empty()
                    && config.listeners.iter().all(|listener| listener.http2 && listener.tls.is_some()),
            },
            base,
            sets: &sets,
            tenants: &tenants,
            credentials: &credentials,
            graphs: &graphs,
            upstreams: &upstreams,
            partners: &partners,
            table: &table,
            before_service: purpose == Purpose::BeforeService,
            described: &described,
            metrics,
            workers,
            limits: LimitContext::new(&limits, &limit_owners),
            http: &http,
            assertion_keys: assertion_keys.as_ref(),
            secrets: &secrets,
            credential_names: &credential_names,
        };
        let routes = builder.build(faults);
        let position = |place: &Place| {
            let (file, line, _) = document.position(place)?;
            let file = Path::new(&file);
            Some(format!("{}:{line}", file.strip_prefix(base).unwrap_or(file).display()).into())
        };
        routes.iter().for_each(|route| route.inbound.each(&mut |entry| entry.stands_at(|| position(&entry.place))));
        let on_error = builder.on_error_everywhere(faults);
        build_decisions(config, &sets, &routes, &mut listeners, faults);
        let limit_store = match limit_store {
            ConfiguredStore::Ready(store, _) => Some(store),
            ConfiguredStore::None | ConfiguredStore::Faulty => None,
        };
        if limit_store.as_ref().is_some_and(|store| !store.is_used()) {
            let cure = "write `store: redis` at a limit, or `default-store: true` here";
            faults.warning(Lint::Unused, &root.key("redis"), "no limit is kept in the store", cure);
        }
        sets.finish();

        let verified_tokens = VerifiedTokens::build(config.verified_tokens, workers, &root.key("verified-tokens"), faults);
        if faults.errors() > errors {
            return None;
        }
        let generation = previous.map_or(0, |old| old.generation + 1);
        Some(Self {
            files: files(document, &sets, &tenants, &credentials, assertion_keys.as_deref()),
            generation,
            recorded: Recorded::new(document, generation, &routes),
            digest: document.fingerprint.digest().into(),
            parts: document.fingerprint.parts().clone(),
            clock: clock.clone(),
            listeners,
            admin,
            table,
            opens_websockets: routes.iter().any(|route| route.websocket),
            route_names: routes.iter().map(|route| route.name.clone()).collect(),
            routes,
            on_error,
            identity_http: config.identity_http.clone().unwrap_or_default(),
            http,
            tenants,
            verified_tokens: (verified_tokens, workers),
            secrets,
            credentials,
            address_sets: sets,
            graphs,
            assertion_keys,
            partners,
            upstreams,
            limits,
            limit_store,
            unrouted: metrics.route(NO_ROUTE, workers),
        })
    }

    /// Starts network activity: keys and tokens are fetched and kept fresh, servers are checked.
    pub fn start(&self, background: &Handle) {
        self.tenants.start(&self.http, &self.clock, background);
        self.tenants.keep_tokens(self.verified_tokens.0, self.verified_tokens.1);
        self.credentials.start(background);
        self.graphs.start(&self.http, &self.clock, background);
        if let Some(store) = &self.limit_store {
            store.start();
        }
        self.upstreams.start(background);
        self.routes.iter().for_each(|route| route.start(background));
        if let Some(keys) = &self.assertion_keys {
            keys.start(background);
        }
    }

    /// Starts to fetch the signing keys that the active config does not have. Nothing else is fetched for a candidate.
    pub(super) fn start_beside(&self, active: &Self, background: &Handle) {
        self.tenants.start_beside(&active.tenants, &self.http, &self.clock, background);
    }

    /// Fetches the signing keys, and nothing else; waits until each was tried.
    pub(crate) async fn fetch_keys(&self, background: &Handle) {
        self.tenants.start(&self.http, &self.clock, background);
        self.tenants.tried().await;
    }

    /// Returns the things that are still missing before every request can be handled; empty once nothing is missing.
    pub(crate) fn waiting_for(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        if self.tenants.were_tried() {
            waiting.extend(self.tenants.without_keys(&self.clock));
        } else {
            waiting.push("signing keys".to_owned());
        }
        waiting.extend(self.credentials.unready().map(|credential| format!("a token for credential {credential}")));
        let secrets = self.credentials.awaited_secrets(self.clock.unix_seconds());
        waiting.extend(secrets.map(|name| format!("the named value {name} from its vault")));
        waiting
    }

    /// Returns what audit sinks that cross a network are built with.
    pub(crate) const fn remote_context(&self) -> RemoteContext<'_> {
        RemoteContext { credentials: &self.credentials, http: &self.http, secrets: &self.secrets, clock: &self.clock }
    }

    /// Returns what audit sinks are opened with; names of files are relative to `base`.
    pub(crate) const fn audit_context<'a>(&'a self, base: &'a Path) -> AuditContext<'a> {
        AuditContext { base, clock: &self.clock, remote: Some(self.remote_context()) }
    }

    /// Returns the values of the secret named values.
    pub(crate) const fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Returns the rules of the listener of this name; `None` if the config does not have it.
    pub(crate) fn listener(&self, name: &str) -> Option<&ListenerRules> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }

    /// Returns the route of a request, if one matched.
    pub(crate) fn route(&self, exchange: &Exchange) -> Option<&Route> {
        exchange.route.as_ref().map(|route| &self.routes[route.index])
    }

    /// Returns the certificates that listeners show, with their problems at this time.
    pub(crate) fn listener_certificates(&self, now: u64) -> Vec<(ListenerCertificateStatus, Option<String>)> {
        let of = |rules: &ListenerRules| {
            let status = |shown: &ServedCertificate| (shown.status(&rules.name, now), shown.complaint(now));
            rules.certificates().iter().map(status).collect::<Vec<_>>()
        };
        let admin = self.admin.iter().flat_map(|admin| admin.settings.tls.as_ref()).flat_map(|tls| tls.served().to_vec());
        let admin = admin.map(|shown| (shown.status("admin", now), shown.complaint(now)));
        self.listeners.iter().flat_map(of).chain(admin).collect()
    }
}

/// Builds the store of limits that several gateways share, if the config names one.
fn limit_store(
    config: &Config,
    credentials: &Credentials,
    (base, secrets, clock): (&Path, &Secrets, &Clock),
    previous: Option<&Runtime>,
    faults: &mut Faults,
) -> ConfiguredStore {
    let Some(written) = &config.redis else { return ConfiguredStore::None };
    let previous = previous.and_then(|previous| previous.limit_store.as_ref());
    let with = StoreContext { base, secrets, credentials, clock, previous };
    match Store::build(written, with, &Place::root().key("redis"), faults) {
        Some(store) => ConfiguredStore::Ready(store, written.default_store),
        None => ConfiguredStore::Faulty,
    }
}

/// Builds the table of the config's routes, followed by the metadata documents of some of them.
fn route_table(config: &Config, described: &[Described], faults: &mut Faults) -> RouteTable {
    let place = |index: usize| Place::root().key("routes").index(index);
    let routes = config.routes.iter().enumerate().map(|(index, route)| {
        let upstream = route.upstream.as_ref().and_then(|name| config.upstreams.get(name));
        let folds = upstream.is_some_and(|upstream| upstream.case_insensitive_paths);
        let accepts = route.accept.iter().copied().collect();
        Matching { name: &route.name, config: &route.matches, at: (place(index), "match"), folds, accepts }
    });
    let documents = described.iter().map(|described| {
        let at = (place(described.routes[0]), "protected-resource-metadata");
        Matching { name: "its metadata", config: &described.matches, at, folds: false, accepts: Ambiguities::NONE }
    });
    let matching: Vec<_> = routes.chain(documents).collect();
    let table = RouteTable::build(matching.iter().cloned(), faults);
    lint_shadowed(matching.iter().cloned(), faults);
    table.lint_hosts(matching, faults);
    table
}

/// Returns the client for identity services: that of the previous config if its settings did not change, so that unchanged
/// credentials and key sets continue to use it.
pub(crate) fn identity_http(
    config: &Config,
    document: &Document,
    previous: Option<&Runtime>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Arc<IdentityHttp>> {
    let mut written = config.identity_http.clone().unwrap_or_default();
    if let Some(previous) = previous.filter(|previous| previous.identity_http == written) {
        return Some(previous.http.clone());
    }
    written.ca = written.ca.map(|ca| document.path(&ca).to_string_lossy().into_owned());
    match IdentityHttp::new(&written) {
        Ok(http) => Some(Arc::new(http)),
        Err(fault) => {
            faults.error(place, crate::base::error_chain::chain(&fault), "");
            None
        }
    }
}

/// Builds the keys that sign assertions, if some route needs them.
fn assertion_keys(
    document: &Document,
    clock: &Clock,
    previous: Option<&Runtime>,
    faults: &mut Faults,
) -> Option<Arc<AssertionKeys>> {
    let config = &document.config;
    let asked = config.routes.iter().any(|route| route.backend_assertion.is_some() || route.assertion_keys.is_some());
    let written = config.backend_assertion.clone().or_else(|| asked.then(Default::default))?;
    let previous = previous.and_then(|previous| previous.assertion_keys.as_ref());
    AssertionKeys::build(&written, &document.base, clock, previous, &Place::root().key("backend-assertion"), faults)
}

/// Returns the settings of all policies on requests, those of fragments once more for each list that includes them.
pub(super) fn policies(config: &Config) -> Vec<&dyn PolicySettings> {
    let mut found = Vec::new();
    let routes = config.routes.iter().map(|route| &route.inbound);
    for policies in std::iter::once(&config.inbound).chain(config.fragments.values()).chain(routes) {
        list::each(policies, &config.fragments, 0, &mut |policy| found.extend(policy.settings()));
    }
    found
}

/// Returns whether a proxy that asks for decisions tells the certificates of its callers.
fn tells_certificates(config: &Config) -> bool {
    config.listeners.iter().filter_map(|listener| listener.decides.as_ref()).any(|decides| decides.dialect.tells_certificates())
}

/// Returns whether callers can show certificates: in the handshake, or through a proxy.
fn can_show_certificates(config: &Config) -> bool {
    config.listeners.iter().any(|listener| listener.client_certificates.is_some())
        || tells_certificates(config)
        || policies(config).iter().any(|policy| policy.accepts_forwarded_certificates())
}

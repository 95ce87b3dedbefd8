//! The tenants of a config, and the key sets that policies ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio::runtime::Handle;

use super::{
    TenantConfig,
    key_set::{Document, KeySet, KeySetStatus, Source},
    keys::Keys,
    metadata::Metadata,
    openid::{self, IssuerConfig, IssuerKeysConfig},
    seen::{Seen, SeenStatus},
    tenant::Tenant,
    verified_tokens::VerifiedTokens,
};
use crate::{
    base::{clock::Clock, lock::lock},
    identity_http::IdentityHttp,
    settings::{Faults, Place},
};

/// An issuer besides Entra.
#[derive(Debug)]
struct Issuing {
    set: Arc<KeySet>,
    required: bool,
}

/// The tenants of a config, and the sets of signing keys that live on across reloads.
#[derive(Debug, Default)]
pub struct Tenants {
    by_name: BTreeMap<String, Arc<Tenant>>,
    /// The names of those whose settings cannot be used.
    faulty: Vec<String>,
    /// Other issuers by name, each with its keys; `None` where the settings cannot be used.
    issuers: BTreeMap<String, Option<Issuing>>,
    /// Relative paths of the settings are relative to this folder.
    base: PathBuf,
    /// The files that were read for issuers and policies.
    files: Mutex<BTreeSet<PathBuf>>,
    /// The key sets that policies asked for.
    key_sets: Mutex<Vec<Arc<KeySet>>>,
    /// Those without which the gateway is not ready, by the names of their tenants.
    awaited: Mutex<BTreeMap<Box<str>, Vec<Arc<KeySet>>>>,
    /// Those of the config before, to go on with where nothing changed.
    inherited: Mutex<Vec<Arc<KeySet>>>,
    /// The tokens that were verified and accepted, under this config and those before.
    seen: Arc<Seen>,
}

impl Tenants {
    /// Reads the tenants of a config; `place` is that of the map. Key sets of `previous` live on where they are asked for again.
    pub fn build(configs: &BTreeMap<String, TenantConfig>, previous: Option<&Self>, place: &Place, faults: &mut Faults) -> Self {
        let (mut by_name, mut faulty) = (BTreeMap::new(), Vec::new());
        for (name, config) in configs {
            match Tenant::build(name, config, &place.key(name), faults) {
                Some(tenant) => _ = by_name.insert(name.clone(), Arc::new(tenant)),
                None => faulty.push(name.clone()),
            }
        }
        let inherited = previous.map(|previous| previous.key_sets()).unwrap_or_default();
        Self {
            by_name,
            faulty,
            issuers: BTreeMap::new(),
            base: PathBuf::new(),
            files: Mutex::default(),
            key_sets: Mutex::default(),
            awaited: Mutex::default(),
            inherited: Mutex::new(inherited),
            seen: previous.map(|previous| previous.seen.clone()).unwrap_or_default(),
        }
    }

    /// Names the folder that relative paths of the settings are relative to.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> Self {
        self.base = base.to_owned();
        self
    }

    /// Reads the issuers of a config besides Entra; `place` is that of the map.
    #[must_use]
    pub fn with_issuers(mut self, configs: &BTreeMap<String, IssuerConfig>, place: &Place, faults: &mut Faults) -> Self {
        for (name, config) in configs {
            if let Some(IssuerKeysConfig::Jwks(file) | IssuerKeysConfig::Pem(file)) = &config.keys {
                self.file(file);
            }
            let set = openid::build(config, &self.base, &place.key(name), faults);
            let issuing = set.map(|set| Issuing { set, required: config.required.unwrap_or(true) });
            self.issuers.insert(name.clone(), issuing);
        }
        self
    }

    /// The key set of an issuer besides Entra: the one that is there, or a new one. `Err` if there is no such issuer, and
    /// `Ok(None)` if its settings cannot be used.
    pub(crate) fn issuer_keys(&self, name: &str) -> Result<Option<Arc<KeySet>>, ()> {
        let Some(issuing) = self.issuers.get(name).ok_or(())? else { return Ok(None) };
        Ok(Some(self.register(issuing.set.clone())))
    }

    /// The issuer besides Entra of this name, as tokens bear it.
    pub(crate) fn issuer(&self, name: &str) -> Option<String> {
        let set = &self.issuers.get(name)?.as_ref()?.set;
        set.source().endpoints.first().map(|endpoint| endpoint.assumed_issuer.of(""))
    }

    /// The names of the issuers besides Entra.
    pub(crate) fn issuer_names(&self) -> impl Iterator<Item = &str> {
        self.issuers.keys().map(String::as_str)
    }

    /// The path of a file that the settings name and that is read now; its change calls for a new build.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        let path = self.base.join(path);
        lock(&self.files).insert(path.clone());
        path
    }

    /// The files whose change calls for a new build.
    pub fn files(&self) -> Vec<PathBuf> {
        lock(&self.files).iter().cloned().collect()
    }

    /// The required tenants and issuers that have no keys, in words. What no policy names is asked for nothing.
    pub fn without_keys(&self, clock: &Clock) -> Vec<String> {
        let now = clock.monotonic();
        let has_keys = |set: &KeySet| set.snapshot(now).documents.iter().any(Option::is_some);
        let tenants = lock(&self.awaited).clone();
        let tenants = tenants.iter().filter(|(_, sets)| !sets.iter().all(|set| has_keys(set)));
        let tenants = tenants.map(|(name, _)| format!("the signing keys of the tenant {name}"));
        let live = self.key_sets();
        let issuers = self.issuers.iter().filter(|(_, issuing)| {
            let required = issuing.as_ref().filter(|issuing| issuing.required);
            let live = required.and_then(|issuing| live.iter().find(|set| set.source() == issuing.set.source()));
            live.is_some_and(|set| !has_keys(set))
        });
        tenants.chain(issuers.map(|(name, _)| format!("the signing keys of the issuer {name}"))).collect()
    }

    /// The tenant of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.by_name.get(name)
    }

    /// Whether the config has a tenant of this name, faulty or not.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.faulty.iter().any(|faulty| faulty == name)
    }

    /// The names, for telling what would have been right.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The key set of a tenant, or of an application of it: the one that is there, or a new one.
    pub(crate) fn key_set(&self, tenant: &Tenant, application: Option<&str>) -> Arc<KeySet> {
        let set = self.register(KeySet::new(tenant.source(application)));
        if tenant.is_required() {
            let mut awaited = lock(&self.awaited);
            let sets = awaited.entry(tenant.name().into()).or_default();
            if !sets.iter().any(|known| Arc::ptr_eq(known, &set)) {
                sets.push(set.clone());
            }
        }
        set
    }

    /// The key set of an application that might have keys of its own, though no policy says so, or of the tenant, where a policy
    /// goes by an application's: for telling which setting is wrong, never for judging.
    pub(crate) fn suspect(&self, tenant: &Tenant, application: Option<&str>) -> Arc<KeySet> {
        self.register(KeySet::new(Source { quiet: true, ..tenant.source(application) }))
    }

    /// The set of the same source that lives already, or this one.
    fn register(&self, new: Arc<KeySet>) -> Arc<KeySet> {
        let mut sets = lock(&self.key_sets);
        let inherited = lock(&self.inherited);
        if let Some(set) = sets.iter().find(|set| set.is_as(&new)) {
            return set.clone();
        }
        let set = inherited.iter().find(|set| set.is_as(&new)).cloned().unwrap_or(new);
        sets.push(set.clone());
        set
    }

    /// Begins to fetch, on `handle`'s runtime, what policies asked for, and keeps it fresh as long as it is held. Sets that lived
    /// under the config before go on with the new client.
    pub fn start(&self, http: &IdentityHttp, clock: &Clock, handle: &Handle) {
        lock(&self.inherited).clear();
        for set in self.key_sets() {
            set.start(http, clock, handle);
        }
    }

    /// Gives verified tokens so much room from now on, divided among so many threads, and lets go of those whose keys no policy
    /// asks for any more.
    pub(crate) fn keep_tokens(&self, tokens: VerifiedTokens, workers: usize) {
        self.seen.set_room(tokens.memory, workers, tokens.largest);
        self.seen.retain(&self.key_sets().iter().map(|set| set.id()).collect::<Vec<_>>());
    }

    /// The tokens that were verified and accepted, of whatever tenants and issuers.
    pub(crate) const fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }

    /// How much the tokens take that are kept so as not to verify them again.
    pub fn seen_status(&self) -> SeenStatus {
        self.seen.status()
    }

    /// Whether a first fetch of every key set has ended, well or not.
    pub fn were_tried(&self) -> bool {
        self.key_sets().iter().all(|set| set.was_tried())
    }

    /// Waits until a first fetch of every key set has ended, well or not. Needs [`start`](Self::start) first.
    pub async fn tried(&self) {
        for set in self.key_sets() {
            set.tried().await;
        }
    }

    /// Takes these keys (a JSON Web Key Set) for those of every key set, without asking anybody: for judging tokens that were
    /// signed for the occasion. Issuers are those of [`Tenant::issuer_v1`] and [`Tenant::issuer_v2`].
    ///
    /// # Errors
    /// The keys cannot be read.
    pub fn assume_keys(&self, jwks: &[u8], clock: &Clock) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for set in self.key_sets() {
            let source = set.source();
            let keys = Keys::read(jwks, source.algorithms)?;
            for (index, endpoint) in source.endpoints.iter().enumerate() {
                let issuer = endpoint.assumed_issuer.clone();
                let metadata = Metadata { issuer, jwks_uri: endpoint.metadata.clone(), cloud: None };
                set.put(index, Document { metadata, keys: keys.clone() }, clock.monotonic());
            }
        }
        Ok(())
    }

    /// How each document of each key set fares.
    pub fn status(&self, clock: &Clock) -> Vec<KeySetStatus> {
        let now = clock.monotonic();
        self.key_sets().iter().filter(|set| !set.source().quiet).flat_map(|set| set.status(now)).collect()
    }

    fn key_sets(&self) -> Vec<Arc<KeySet>> {
        lock(&self.key_sets).clone()
    }
}

//! The tenants of a config, and the key sets that policies use.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    TenantConfig,
    issuer::PLACEHOLDER,
    key_set::{Document, KeySet, KeySetStatus, Source},
    keys::Keys,
    metadata::Metadata,
    openid::{self, IssuerConfig, IssuerKeysConfig},
    tenant::Tenant,
    verified_token_cache::{VerifiedTokenCache, VerifiedTokenCacheStatus},
    verified_tokens::VerifiedTokens,
};
use crate::{
    base::{clock::Clock, lock::lock},
    identity_http::IdentityHttp,
    settings::{Faults, Place},
};

/// An issuer other than Entra.
#[derive(Debug)]
struct OtherIssuer {
    set: Arc<KeySet>,
    required: bool,
}

/// The tenants of a config, and the signing key sets, which outlive reloads.
#[derive(Debug, Default)]
pub struct Tenants {
    by_name: BTreeMap<String, Arc<Tenant>>,
    /// The names of tenants whose settings cannot be used.
    faulty: Vec<String>,
    /// Other issuers by name, each with its keys; `None` if the settings cannot be used.
    issuers: BTreeMap<String, Option<OtherIssuer>>,
    /// The folder that relative paths of the settings start from.
    base: PathBuf,
    /// The files that were read for issuers and policies.
    files: Mutex<BTreeSet<PathBuf>>,
    /// The key sets that policies use.
    key_sets: Mutex<Vec<Arc<KeySet>>>,
    /// The key sets that readiness requires, by the names of their tenants.
    awaited: Mutex<BTreeMap<Box<str>, Vec<Arc<KeySet>>>>,
    /// The key sets of the previous config, which are reused where nothing changed.
    inherited: Mutex<Vec<Arc<KeySet>>>,
    /// The tokens that were verified and accepted, under this config and earlier ones.
    verified_token_cache: Arc<VerifiedTokenCache>,
}

impl Tenants {
    /// Reads the tenants of a config; `place` is that of the map. Key sets of `previous` are reused where they are requested
    /// again.
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
            verified_token_cache: previous.map(|previous| previous.verified_token_cache.clone()).unwrap_or_default(),
        }
    }

    /// Keeps the tokens that it verifies apart from those of the previous config, whose room they would take.
    #[must_use]
    pub fn with_tokens_apart(self) -> Self {
        Self { verified_token_cache: Arc::default(), ..self }
    }

    /// Starts to fetch the key sets that another config does not use. Its own are not touched.
    pub fn start_beside(&self, other: &Self, http: &IdentityHttp, clock: &Clock, handle: &Handle) {
        lock(&self.inherited).clear();
        let others = other.key_sets();
        for set in self.key_sets().iter().filter(|set| !others.iter().any(|other| Arc::ptr_eq(other, set))) {
            set.start(http, clock, handle);
        }
    }

    /// Sets the folder that relative paths of the settings start from.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> Self {
        self.base = base.to_owned();
        self
    }

    /// Reads the other issuers of a config; `place` is that of the map.
    #[must_use]
    pub fn with_issuers(mut self, configs: &BTreeMap<String, IssuerConfig>, place: &Place, faults: &mut Faults) -> Self {
        for (name, config) in configs {
            if let Some(IssuerKeysConfig::Jwks(file) | IssuerKeysConfig::Pem(file)) = &config.keys {
                self.file(file);
            }
            let set = openid::build(config, &self.base, &place.key(name), faults);
            let issuing = set.map(|set| OtherIssuer { set, required: config.required.unwrap_or(true) });
            self.issuers.insert(name.clone(), issuing);
        }
        self
    }

    /// Returns the key set of another issuer: the existing one, or a new one. `Err` if there is no such issuer, and `Ok(None)` if
    /// its settings cannot be used.
    #[allow(clippy::result_unit_err, reason = "who asks knows the name, and says which there are")]
    pub fn issuer_keys(&self, name: &str) -> Result<Option<Arc<KeySet>>, ()> {
        let Some(issuing) = self.issuers.get(name).ok_or(())? else { return Ok(None) };
        Ok(Some(self.register(issuing.set.clone())))
    }

    /// Returns the issuer with this name in the config, as tokens state it.
    pub fn issuer(&self, name: &str) -> Option<String> {
        let set = &self.issuers.get(name)?.as_ref()?.set;
        set.source().endpoints.first().map(|endpoint| endpoint.assumed_issuer.of(""))
    }

    /// Returns the names of the other issuers.
    pub fn issuer_names(&self) -> impl Iterator<Item = &str> {
        self.issuers.keys().map(String::as_str)
    }

    /// Returns the path of a file that the settings name and that is read now; a change of it requires a new build.
    pub fn file(&self, path: &str) -> PathBuf {
        let path = self.base.join(path);
        lock(&self.files).insert(path.clone());
        path
    }

    /// Returns the files whose change requires a new build.
    pub fn files(&self) -> Vec<PathBuf> {
        lock(&self.files).iter().cloned().collect()
    }

    /// Describes the required tenants and issuers that have no keys. Those that no policy uses are not required.
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

    /// Returns the tenant of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.by_name.get(name)
    }

    /// Returns whether the config has a tenant of this name, faulty or not.
    pub fn mentions(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.faulty.iter().any(|faulty| faulty == name)
    }

    /// Returns the names, for error messages.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Returns the key set of a tenant, or of one of its applications: the existing one, or a new one.
    pub fn key_set(&self, tenant: &Tenant, application: Option<&str>) -> Arc<KeySet> {
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

    /// Returns the key set of an application that might have its own keys, though no policy says so, or of the tenant, where a
    /// policy uses an application's: for hints about wrong settings, never for judging.
    pub fn suspect(&self, tenant: &Tenant, application: Option<&str>) -> Arc<KeySet> {
        self.register(KeySet::new(Source { quiet: true, ..tenant.source(application) }))
    }

    /// Returns the existing set of the same source, or this one.
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

    /// Starts to fetch the key sets that policies use, on `handle`'s runtime, and keeps them fresh as long as they are in use.
    /// Sets taken over from the previous config use the new client.
    pub fn start(&self, http: &IdentityHttp, clock: &Clock, handle: &Handle) {
        lock(&self.inherited).clear();
        for set in self.key_sets() {
            set.start(http, clock, handle);
        }
    }

    /// Sets the memory for verified tokens, divided among this many threads, and drops tokens whose keys no policy uses any more.
    pub fn keep_tokens(&self, tokens: VerifiedTokens, workers: usize) {
        self.verified_token_cache.set_room(tokens.memory, workers, tokens.largest);
        self.verified_token_cache.retain(&self.key_sets().iter().map(|set| set.id()).collect::<Vec<_>>());
    }

    /// Returns the tokens that were verified and accepted, of any tenant or issuer.
    pub const fn verified_token_cache(&self) -> &Arc<VerifiedTokenCache> {
        &self.verified_token_cache
    }

    /// Returns the size of the verified-token cache.
    pub fn verified_token_cache_status(&self) -> VerifiedTokenCacheStatus {
        self.verified_token_cache.status()
    }

    /// Returns whether a first fetch of every key set has ended, successfully or not.
    pub fn were_tried(&self) -> bool {
        self.key_sets().iter().all(|set| set.was_tried())
    }

    /// Waits until a first fetch of every key set has ended, successfully or not. Needs [`start`](Self::start) first.
    pub async fn tried(&self) {
        for set in self.key_sets() {
            set.tried().await;
        }
    }

    /// Uses these keys (a JSON Web Key Set) for every key set, without any fetch, for judging tokens that were signed for a test.
    /// Issuers are those of [`Tenant::issuer_v1`] and [`Tenant::issuer_v2`].
    ///
    /// # Errors
    /// Fails if the keys cannot be read.
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

    /// Uses keys for every key set, without any fetch. `keys` makes the JSON Web Key Set for an issuer. `given`: also for
    /// sets whose keys the config holds.
    ///
    /// # Errors
    /// Fails if no set can use its keys.
    pub fn assume(
        &self,
        given: bool,
        clock: &Clock,
        keys: impl Fn(&str) -> Vec<u8>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (mut used, mut fault) = (false, None);
        for set in self.key_sets() {
            let source = set.source();
            if source.quiet || set.is_given() && !given {
                continue;
            }
            for (index, endpoint) in source.endpoints.iter().enumerate() {
                let issuer = endpoint.assumed_issuer.clone();
                match Keys::read(&keys(&issuer.of(PLACEHOLDER)), source.algorithms) {
                    Ok(keys) => {
                        let metadata = Metadata { issuer, jwks_uri: endpoint.metadata.clone(), cloud: None };
                        set.put(index, Document { metadata, keys }, clock.monotonic());
                        used = true;
                    }
                    Err(error) => fault = Some(error),
                }
            }
        }
        fault.filter(|_| !used).map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Uses the keys that another config's sets of the same sources have now.
    pub fn copy_keys(&self, other: &Self, now: Duration, clock: &Clock) {
        let others = other.key_sets();
        for set in self.key_sets().iter().filter(|set| !set.is_given()) {
            let Some(other) = others.iter().find(|other| other.source() == set.source()) else { continue };
            for (index, document) in other.snapshot(now).documents.into_iter().enumerate() {
                if let Some(document) = document {
                    set.put(index, (*document).clone(), clock.monotonic());
                }
            }
        }
    }

    /// Returns the issuer of tokens of a tenant or another issuer, by its name in the config; `tid` is the tenant's GUID.
    pub fn issuer_of(&self, name: &str, tid: &str, version: u8) -> Option<String> {
        match self.by_name.get(name) {
            Some(tenant) if version == 1 => Some(tenant.issuer_v1(tid)),
            Some(tenant) => Some(tenant.issuer_v2(tid)),
            None => self.issuer(name),
        }
    }

    /// Returns the status of each document of each key set.
    pub fn status(&self, clock: &Clock) -> Vec<KeySetStatus> {
        let now = clock.monotonic();
        self.key_sets().iter().filter(|set| !set.source().quiet).flat_map(|set| set.status(now)).collect()
    }

    fn key_sets(&self) -> Vec<Arc<KeySet>> {
        lock(&self.key_sets).clone()
    }
}

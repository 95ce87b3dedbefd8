//! Tenants: where each one's documents are, and the key sets that policies ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;
use url::Url;

use super::{
    CloudConfig, TenantConfig,
    graph::GraphAddress,
    issuer::{Issuer, PLACEHOLDER, is_guid},
    key_set::{Document, Endpoint, KeySet, KeySetStatus, Source},
    keys::{Algorithm, Keys},
    metadata::{Bounds, IssuerBounds, Metadata, Origin},
    openid::{self, IssuerConfig, IssuerKeysConfig},
    seen,
    token::Version,
};
use crate::{
    clock::Clock,
    config::{Faults, Place},
    identity_http::{IdentityHttp, is_loopback},
};

/// How long the last good keys serve while new ones cannot be had.
pub(super) const STALE: Duration = Duration::from_secs(24 * 3_600);

/// The tenant of personal Microsoft accounts.
pub(crate) const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// An Entra tenant, or several under one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The name in the config.
    name: Box<str>,
    id: TenantId,
    cloud: CloudConfig,
    /// Scheme, host and path up to and with the tenant, without a slash at its end.
    base: Url,
    custom_authority: bool,
    /// Whether the authority is a user flow of Azure AD B2C: its path goes on behind the tenant.
    user_flow: bool,
    /// Where Graph is asked about its users.
    graph: GraphAddress,
    stale: Duration,
}

/// Stands for a tenant that the config names by a domain, where nobody can be asked for its GUID.
pub const UNKNOWN_TENANT: &str = "00000000-0000-0000-0000-000000000000";

/// Which tenant, or tenants, a config entry stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantId {
    /// One tenant, by its GUID, in lower case.
    Guid(Box<str>),
    /// One tenant, by a domain; its GUID is learnt from the metadata.
    Domain(Box<str>),
    /// Every organization's tenant.
    Organizations,
    /// Every organization's tenant, and personal accounts where they are named.
    Common,
}

impl TenantId {
    fn read(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "organizations" => Some(Self::Organizations),
            "common" => Some(Self::Common),
            guid if is_guid(guid) => Some(Self::Guid(guid.into())),
            domain if is_domain(domain) => Some(Self::Domain(domain.into())),
            _ => None,
        }
    }

    /// The segment in URLs.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Guid(text) | Self::Domain(text) => text,
            Self::Organizations => "organizations",
            Self::Common => "common",
        }
    }

    /// Whether it stands for several tenants.
    pub const fn is_many(&self) -> bool {
        matches!(self, Self::Organizations | Self::Common)
    }
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// Hosts of a cloud.
struct Cloud {
    login: &'static str,
    /// Other names of the login host, which may serve keys.
    aliases: &'static [&'static str],
    /// The host of version 1 issuers. Where Microsoft's documents are silent any of these is believed if the metadata names it.
    tokens: &'static [&'static str],
    /// Microsoft Graph.
    graph: &'static str,
}

impl CloudConfig {
    const fn hosts(self) -> Cloud {
        match self {
            Self::Public => Cloud {
                login: "login.microsoftonline.com",
                aliases: &["login.windows.net", "login.microsoft.com", "sts.windows.net"],
                tokens: &["sts.windows.net"],
                graph: "graph.microsoft.com",
            },
            Self::UsGovernment => Cloud {
                login: "login.microsoftonline.us",
                aliases: &["login.usgovcloudapi.net"],
                tokens: &["sts.windows.net"],
                graph: "graph.microsoft.us",
            },
            Self::China => Cloud {
                login: "login.partner.microsoftonline.cn",
                aliases: &["login.chinacloudapi.cn"],
                tokens: &["sts.chinacloudapi.cn"],
                graph: "microsoftgraph.chinacloudapi.cn",
            },
        }
    }
}

impl Tenant {
    /// Reads the settings of one tenant.
    fn build(name: &str, config: &TenantConfig, place: &Place, faults: &mut Faults) -> Option<Self> {
        let id = TenantId::read(&config.id);
        if id.is_none() {
            let cure = if config.id.eq_ignore_ascii_case("consumers") {
                format!("write {PERSONAL_ACCOUNTS} if personal Microsoft accounts are meant")
            } else {
                "write a GUID, a verified domain, `organizations` or `common`".to_owned()
            };
            faults.error(&place.key("id"), format!("`{}` is no tenant", config.id), cure);
        }
        let authority = match &config.authority {
            None => Url::parse(&format!("https://{}", config.cloud.hosts().login)).ok(),
            Some(text) => authority(text, &place.key("authority"), faults),
        };
        let graph = authority.as_ref().and_then(|authority| graph(config, authority, place, faults));
        let (id, mut base, graph) = (id?, authority?, graph?);

        let path = base.path().trim_end_matches('/').to_owned();
        let names_tenant = path.split('/').any(|segment| segment.eq_ignore_ascii_case(id.as_str()));
        // Nothing else of Entra's has a segment there: https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_signin.
        let user_flow = names_tenant && !path.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(id.as_str()));
        let path = if names_tenant { path } else { format!("{path}/{}", id.as_str()) };
        base.set_path(&path);
        Some(Self {
            name: name.into(),
            id,
            cloud: config.cloud,
            base,
            custom_authority: config.authority.is_some(),
            user_flow,
            graph,
            stale: config.stale.map_or(STALE, |span| span.0),
        })
    }

    /// The name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which tenant it is.
    pub const fn id(&self) -> &TenantId {
        &self.id
    }

    /// The cloud it lives in.
    pub const fn cloud(&self) -> CloudConfig {
        self.cloud
    }

    /// Whether another authority than the cloud's speaks for it.
    pub const fn has_own_authority(&self) -> bool {
        self.custom_authority
    }

    /// Where Graph is asked about the tenant's users.
    pub(crate) const fn graph(&self) -> &GraphAddress {
        &self.graph
    }

    /// The authority's URL up to and with the tenant: `https://login.microsoftonline.com/{tenant}`.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// A URL below the tenant's, as `oauth2/v2.0/token`.
    pub fn below(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// The issuer of version 1 tokens of the tenant with this GUID, as far as it is known without asking.
    pub fn issuer_v1(&self, guid: &str) -> String {
        if self.custom_authority {
            format!("{}/{guid}/", self.root())
        } else {
            format!("https://{}/{guid}/", self.cloud.hosts().tokens[0])
        }
    }

    /// The issuer of version 2 tokens of the tenant with this GUID, as far as it is known without asking.
    pub fn issuer_v2(&self, guid: &str) -> String {
        format!("{}/{guid}/v2.0", self.root())
    }

    /// The authority without the tenant.
    fn root(&self) -> &str {
        let base = self.base.as_str().trim_end_matches('/');
        base.strip_suffix(self.id.as_str()).map_or(base, |root| root.trim_end_matches('/'))
    }

    /// What is fetched to judge this tenant's tokens; with `application`, that application's own keys.
    fn source(&self, application: Option<&str>) -> Source {
        let cloud = self.cloud.hosts();
        let own = Origin::of(&self.base);
        let (key_origins, issuer_origins) = if self.custom_authority {
            (own.iter().cloned().collect(), own.into_iter().collect())
        } else {
            let named = |names: &'static [&'static str]| names.iter().map(|name| Origin::https(name));
            let keys: Vec<_> = [Origin::https(cloud.login)].into_iter().chain(named(cloud.aliases)).collect();
            (keys, [Origin::https(cloud.login)].into_iter().chain(named(cloud.tokens)).collect::<Vec<_>>())
        };
        let tenant = match &self.id {
            TenantId::Guid(guid) => Some(guid.clone()),
            TenantId::Domain(_) | TenantId::Organizations | TenantId::Common => None,
        };
        let bounds = Bounds {
            key_origins,
            issuers: IssuerBounds::Entra { origins: issuer_origins, tenant: tenant.clone(), template: self.id.is_many() },
        };
        let guid = tenant.as_deref().unwrap_or(if self.id.is_many() { PLACEHOLDER } else { UNKNOWN_TENANT });
        let endpoint = |version, path, issuer: &str| {
            let mut metadata = self.below(path);
            if let Some(application) = application {
                metadata.query_pairs_mut().append_pair("appid", application);
            }
            let assumed_issuer = Issuer::read(issuer).unwrap_or_else(|| Issuer::Literal(issuer.into()));
            Endpoint { version, metadata, bounds: bounds.clone(), assumed_issuer }
        };
        let mut endpoints = vec![endpoint(Version::V2, "v2.0/.well-known/openid-configuration", &self.issuer_v2(guid))];
        // User flows have one document, whatever their tokens say of their version.
        if !self.user_flow {
            endpoints.push(endpoint(Version::V1, ".well-known/openid-configuration", &self.issuer_v1(guid)));
        }
        Source {
            endpoints,
            user_flow: self.user_flow,
            algorithms: Algorithm::ENTRA,
            tenant,
            many_tenants: self.id.is_many(),
            application: application.map(Into::into),
            stale: self.stale,
            quiet: false,
        }
    }
}

/// Where Graph answers for a tenant, and what tokens for it are asked for; `None` where the tenant's settings cannot be used.
pub(crate) fn graph_address(config: &TenantConfig) -> Option<GraphAddress> {
    Tenant::build("", config, &Place::root(), &mut Faults::default()).map(|tenant| tenant.graph)
}

/// Where Graph is: the cloud's, the one that the config names, or the authority itself where that plays Entra on this machine.
fn graph(config: &TenantConfig, authority: &Url, place: &Place, faults: &mut Faults) -> Option<GraphAddress> {
    let of_cloud = Url::parse(&format!("https://{}", config.cloud.hosts().graph)).ok()?;
    let base = match &config.graph {
        Some(text) => self::authority(text, &place.key("graph"), faults)?,
        None if config.authority.is_some() && is_loopback(authority) => authority.join("/").ok()?,
        None => of_cloud.clone(),
    };
    // What plays Graph on this machine takes the tokens that are meant for the cloud's.
    let resource = if is_loopback(&base) { &of_cloud } else { &base };
    let scope = format!("{}/.default", resource.origin().ascii_serialization()).into();
    Some(GraphAddress { base, scope })
}

fn authority(text: &str, place: &Place, faults: &mut Faults) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| {
        url.has_host()
            && matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let Some(url) = url else {
        faults.error(place, format!("`{text}` is no authority"), "write it as https://contoso.ciamlogin.com, without a query");
        return None;
    };
    if url.scheme() == "http" && !is_loopback(&url) {
        let cure = "write https; http is for an authority on this machine alone";
        faults.error(place, format!("keys from `{text}` could be anybody's: the connection is not protected"), cure);
        return None;
    }
    Some(url)
}

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
    /// Those of the config before, to go on with where nothing changed.
    inherited: Mutex<Vec<Arc<KeySet>>>,
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
            inherited: Mutex::new(inherited),
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
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        path
    }

    /// The files whose change calls for a new build.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether every issuer that is required has keys.
    pub fn required_are_there(&self, clock: &Clock) -> bool {
        let now = clock.monotonic();
        let has_keys = |set: &KeySet| set.snapshot(now).documents.iter().any(Option::is_some);
        self.issuers.values().flatten().filter(|issuing| issuing.required).all(|issuing| {
            let live = self.key_sets().into_iter().find(|set| set.source() == issuing.set.source());
            // An issuer that no policy names is asked for nothing.
            live.is_none_or(|set| has_keys(&set))
        })
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
        self.register(KeySet::new(tenant.source(application)))
    }

    /// The key set of an application that might have keys of its own, though no policy says so, or of the tenant, where a policy
    /// goes by an application's: for telling which setting is wrong, never for judging.
    pub(crate) fn suspect(&self, tenant: &Tenant, application: Option<&str>) -> Arc<KeySet> {
        self.register(KeySet::new(Source { quiet: true, ..tenant.source(application) }))
    }

    /// The set of the same source that lives already, or this one.
    fn register(&self, new: Arc<KeySet>) -> Arc<KeySet> {
        let mut sets = self.key_sets.lock().unwrap_or_else(PoisonError::into_inner);
        let inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for set in self.key_sets() {
            set.start(http, clock, handle);
        }
    }

    /// Gives each thread room for so many verified tokens of each key set; `None`: as many as ever.
    pub(crate) fn keep_tokens(&self, tokens: Option<u32>) {
        let room = tokens.map_or(seen::ROOM, |tokens| tokens as usize);
        self.key_sets().iter().for_each(|set| set.seen.set_room(room));
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
        self.key_sets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

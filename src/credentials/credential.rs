//! The credentials of a config, built.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;

use super::{
    CertificateConfig, CredentialConfig,
    application::{Application, Ask, CertificateForm, CertificateSource, Certificates, Endpoint, Identity, VaultIdentity},
    certificate::loose_permissions,
    error::ForWhom,
    generations::Generations,
    key_vault::{self, Vault},
    managed_identity::{ManagedIdentity, Platform},
    status::{self, CredentialStatus},
    token_cache::{AccessToken, Background, Fetched, Pace, TokenSlot, lock},
    token_request::Grant,
};
use crate::{
    clock::Clock,
    config::{Faults, Place, Secret, Secrets},
    entra::{CloudConfig, TenantConfig},
    identity_http::IdentityHttp,
};

/// How many days before its end a certificate is warned of.
const WARN_DAYS: i64 = 30;
/// The most tenants of callers whose token endpoints are remembered.
const MOST_TENANTS: usize = 2_000;
/// The most tokens that are kept for callers.
const MOST_CALLERS: usize = 10_000;
/// How often the tokens are looked after.
const TEND_EVERY: Duration = Duration::from_secs(5);
/// How long a token request that failed for a passing reason waits before its second attempt.
const SECOND_ATTEMPT_AFTER: Duration = Duration::from_millis(300);

/// What credentials are built from, besides their own settings.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// The tenants of the config, by name.
    pub tenants: &'a BTreeMap<String, TenantConfig>,
    /// The folder that relative paths start at.
    pub base: &'a Path,
    /// What the secrets of the config stand for.
    pub secrets: &'a Secrets,
    /// How Entra is reached. Pass the same one again, and not an equal one, for as long as `identity-http` does not change.
    pub http: &'a Arc<IdentityHttp>,
    /// Where time comes from.
    pub clock: &'a Clock,
    /// The credentials of the config before: what did not change is carried over, with its tokens.
    pub previous: Option<&'a Credentials>,
}

/// The credentials of a config, by name.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    built: Arc<BTreeMap<String, Arc<Credential>>>,
    /// Those that a fault was told of.
    broken: BTreeSet<String>,
    tenants: BTreeMap<String, TenantConfig>,
}

/// One credential of the gateway.
pub struct Credential {
    name: Arc<str>,
    config: CredentialConfig,
    /// The authority, with the credential's own tenant where it has one.
    authority: TenantConfig,
    /// The token endpoint of the credential's own tenant.
    endpoint: Option<Arc<Endpoint>>,
    /// What proves itself at the authority, or lets the platform vouch for it.
    source: Source,
    shared_http: Arc<IdentityHttp>,
    background: Background,
    slots: Mutex<BTreeMap<Box<str>, Arc<TokenSlot>>>,
    /// The token endpoints of callers' tenants.
    elsewhere: Generations<Box<str>, Endpoint>,
    /// The tokens for callers' tenants and on behalf of users.
    for_callers: Generations<CallerKey, TokenSlot>,
    /// The tokens of the credential that this one takes the place of, by scope.
    inherited: HashMap<Box<str>, Arc<AccessToken>>,
}

/// The credentials of the same config that were built before.
#[derive(Clone, Copy)]
struct Siblings<'a> {
    built: &'a BTreeMap<String, Arc<Credential>>,
    broken: &'a BTreeSet<String>,
}

/// Where tokens come from.
#[derive(Debug)]
enum Source {
    /// An application at an authority.
    Application(Arc<Application>),
    /// The platform that the gateway runs on.
    Platform(Arc<ManagedIdentity>, Arc<Pace>),
}

/// What a token for a caller is kept under: all that goes into its request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallerKey {
    tenant: Box<str>,
    scope: Box<str>,
    /// SHA-256 of the user's token.
    user: Option<[u8; 32]>,
}

/// The validated token of a user, to be exchanged.
#[derive(Clone, Copy, Debug)]
pub struct UserToken<'a> {
    /// The token as it came.
    pub token: &'a SecretString,
    /// Its tenant, as validated.
    pub tenant: &'a str,
    /// Its end, in seconds since 1970.
    pub expires_at: u64,
}

impl Credentials {
    /// Builds the credentials; what is wrong goes to `faults`, and that credential is left out.
    pub fn build(
        configs: &BTreeMap<String, CredentialConfig>,
        setting: &Setting<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Self {
        let (mut built, mut broken) = (BTreeMap::new(), BTreeSet::new());
        let mut left: Vec<_> = configs.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            // What stands on another credential is built after that one.
            left.retain(|(name, config)| {
                let waits = config
                    .stands_on()
                    .is_some_and(|other| configs.contains_key(other) && !built.contains_key(other) && !broken.contains(other));
                if !waits {
                    let siblings = Siblings { built: &built, broken: &broken };
                    match Credential::build(name, config, setting, siblings, &place.key(name), faults) {
                        Some(credential) => _ = built.insert((*name).clone(), credential),
                        None => _ = broken.insert((*name).clone()),
                    }
                }
                waits
            });
            if left.len() == before {
                for (name, config) in left.drain(..) {
                    let other = config.stands_on().unwrap_or_default();
                    let message = format!("it needs `{other}` for its token, and `{other}` needs it in turn");
                    faults.error(
                        &place.key(name),
                        message,
                        "let a managed identity, a workload identity or a file open the vault",
                    );
                    broken.insert(name.clone());
                }
            }
        }
        Self { built: Arc::new(built), broken, tenants: setting.tenants.clone() }
    }

    /// The credential of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Credential>> {
        self.built.get(name)
    }

    /// Whether the config has it, and it could not be built: what refers to it need not complain as well.
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// The id of the tenant that the config names so, if this credential can ask there: it is one tenant, under the same authority.
    pub(crate) fn tenant_of(&self, credential: &Credential, name: &str) -> Option<&str> {
        let tenant = self.tenants.get(name)?;
        let own = &credential.authority;
        (tenant.cloud == own.cloud && tenant.authority == own.authority && !is_many(&tenant.id)).then_some(&*tenant.id)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.built.keys().map(String::as_str)
    }

    /// Begins what needs the network, on a runtime that outlives requests: every token that a route will ask for is fetched, so
    /// that the first request need not wait, and kept fresh for as long as this set of credentials is in force.
    pub fn start(&self, background: &Handle) {
        for credential in self.built.values() {
            // A credential that was carried over has its runtime already.
            let _ = credential.background.handle.set(background.clone());
        }
        self.warm();
        let built = Arc::downgrade(&self.built);
        background.spawn(async move {
            let mut ticks = tokio::time::interval(TEND_EVERY);
            loop {
                ticks.tick().await;
                let Some(built) = built.upgrade() else { return };
                tend(&built);
            }
        });
    }

    /// Starts to fetch every token that a route will ask for.
    pub fn warm(&self) {
        for slot in self.slots() {
            slot.warm();
        }
    }

    /// Renews what is due and used, and asks again for what a `required` credential lacks. For a timer of some seconds.
    pub fn tend(&self) {
        tend(&self.built);
    }

    /// The names of the `required` credentials that have no token yet.
    pub fn unready(&self) -> impl Iterator<Item = &str> {
        let lacks =
            |credential: &Credential| credential.config.required && credential.slots().iter().any(|slot| !slot.is_ready());
        self.built.values().filter(move |credential| lacks(credential)).map(|credential| &*credential.name)
    }

    /// What there is to tell of each, for the status page.
    pub fn status(&self) -> Vec<CredentialStatus> {
        self.built.values().map(|credential| credential.status()).collect()
    }

    /// The files whose change calls for a new build.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.built.values().flat_map(|credential| credential.identity().map(Identity::files).unwrap_or_default())
    }

    fn slots(&self) -> Vec<Arc<TokenSlot>> {
        self.built.values().flat_map(|credential| credential.slots()).collect()
    }
}

fn tend(credentials: &BTreeMap<String, Arc<Credential>>) {
    for credential in credentials.values() {
        for slot in credential.slots() {
            slot.tend(credential.config.required);
        }
        for slot in credential.for_callers.entries() {
            slot.tend(false);
        }
    }
}

impl Credential {
    fn build(
        name: &str,
        config: &CredentialConfig,
        setting: &Setting<'_>,
        siblings: Siblings<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Arc<Self>> {
        let errors = faults.errors();
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (source, authority) = if config.managed_identity.is_some() {
            let identity = managed_identity(config, setting, environment, place, faults)?;
            // Nobody asks an authority; what stands here only has to stay the same.
            (Source::Platform(Arc::new(identity), Arc::default()), worldwide())
        } else {
            let client_id = client_id(config, environment, place, faults);
            let authority = authority(config, setting, environment, place, faults);
            let identity = identity(config, setting, siblings, environment, place, faults);
            let (client_id, authority, identity) = (client_id?, authority?, identity?);
            let (http, clock) = (IdentityHttp::clone(setting.http), setting.clock.clone());
            (Source::Application(Arc::new(Application { client_id, identity, http, clock })), authority)
        };
        if faults.errors() > errors {
            return None;
        }

        let previous = setting
            .previous
            .and_then(|previous| previous.find(name))
            .filter(|previous| previous.authority == authority && previous.source.is_same_client(&source));
        if let Some(previous) = previous
            && previous.config == *config
            && Arc::ptr_eq(&previous.shared_http, setting.http)
            && previous.source.same_as(&source)
        {
            return Some(previous.clone());
        }
        Some(Arc::new(Self {
            name: name.into(),
            config: config.clone(),
            endpoint: authority.token_endpoint().filter(|_| !is_many(&authority.id)).map(|url| Arc::new(Endpoint::new(url))),
            authority,
            source,
            shared_http: setting.http.clone(),
            background: Background {
                clock: setting.clock.clone(),
                handle: Arc::default(),
                second_attempt_after: SECOND_ATTEMPT_AFTER,
            },
            slots: Mutex::default(),
            elsewhere: Generations::new(MOST_TENANTS),
            for_callers: Generations::new(MOST_CALLERS),
            // A new certificate is no reason to throw away what the old one earned.
            inherited: previous.map(|previous| previous.bequest()).unwrap_or_default(),
        }))
    }

    /// The credential's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The application id that the credential proves.
    pub fn client_id(&self) -> &str {
        match &self.source {
            Source::Application(application) => &application.client_id,
            Source::Platform(identity, _) => identity.which.client_id.as_deref().unwrap_or("the platform's own"),
        }
    }

    /// Whether it is an application that can exchange users' tokens and ask several tenants; a managed identity can do neither.
    pub const fn is_application(&self) -> bool {
        matches!(self.source, Source::Application(_))
    }

    fn identity(&self) -> Option<&Identity> {
        match &self.source {
            Source::Application(application) => Some(&application.identity),
            Source::Platform(..) => None,
        }
    }

    /// Whether the gateway is not ready without it.
    pub fn is_required(&self) -> bool {
        self.config.required
    }

    /// Whether the credential has a tenant of its own, which [`slot`](Self::slot) asks.
    pub const fn has_own_tenant(&self) -> bool {
        self.endpoint.is_some() || !self.is_application()
    }

    /// The place where this credential's token for `scope` is kept. The same one for the same scope, in whatever letter case.
    /// `None` where the credential has no tenant of its own.
    pub fn slot(&self, scope: &str) -> Option<Arc<TokenSlot>> {
        let key: Box<str> = scope.to_lowercase().into();
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(&key) {
            return Some(slot.clone());
        }
        let inherited = self.inherited.get(&key).cloned();
        let slot = match &self.source {
            Source::Application(application) => {
                self.new_slot(application, self.endpoint.as_ref()?, ForWhom::Gateway, scope, inherited)
            }
            Source::Platform(identity, pace) => self.new_platform_slot(identity, pace, scope, inherited),
        };
        slots.insert(key, slot.clone());
        Some(slot)
    }

    /// The place where this credential's token for `scope` in another tenant is kept. The tenant is one that was validated, or
    /// that the config names: a caller must not choose it. `None` where it makes no URL.
    pub fn slot_in(&self, tenant: &str, scope: &str) -> Option<Arc<TokenSlot>> {
        let Source::Application(application) = &self.source else { return None };
        let endpoint = self.endpoint_of(tenant)?;
        let key = CallerKey { tenant: tenant.to_ascii_lowercase().into(), scope: scope.to_lowercase().into(), user: None };
        Some(self.for_callers.get(&key, || self.new_slot(application, &endpoint, ForWhom::Caller, scope, None)))
    }

    /// The place where the token is kept that this credential gets for `scope` on behalf of a user. It ends with the user's own.
    /// `None` where the tenant makes no URL.
    pub fn slot_on_behalf_of(&self, user: UserToken<'_>, scope: &str) -> Option<Arc<TokenSlot>> {
        let Source::Application(application) = &self.source else { return None };
        let endpoint = self.endpoint_of(user.tenant)?;
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, user.token.expose_secret().as_bytes()).as_ref());
        let key = CallerKey { tenant: user.tenant.into(), scope: scope.to_lowercase().into(), user: Some(hash) };
        Some(self.for_callers.get(&key, || {
            let (application, clock, scope) = (application.clone(), self.background.clock.clone(), Arc::<str>::from(scope));
            let (assertion, expires_at, pace) = (Arc::new(user.token.clone()), user.expires_at, endpoint.pace.clone());
            let fetch = Box::new(move |claims: Option<Arc<str>>| -> Pin<Box<dyn Future<Output = Fetched> + Send>> {
                let (application, endpoint, clock) = (application.clone(), endpoint.clone(), clock.clone());
                let (scope, assertion) = (scope.clone(), assertion.clone());
                Box::pin(async move {
                    let ask = Ask { scope: &scope, grant: Grant::OnBehalfOf(&assertion), claims: claims.as_deref() };
                    let mut issued = application.ask(&endpoint, ask).await?;
                    let left = Duration::from_secs(expires_at.saturating_sub(clock.unix_seconds()));
                    issued.lifetime = issued.lifetime.min(left + clock.monotonic().saturating_sub(issued.sent_at));
                    Ok(issued)
                })
            });
            TokenSlot::new(self.name.clone(), ForWhom::Caller, fetch, pace, self.background.clone(), None)
        }))
    }

    /// Where the tokens of another tenant are asked for.
    pub fn token_endpoint_in(&self, tenant: &str) -> Option<String> {
        self.endpoint_of(tenant).filter(|_| self.is_application()).map(|endpoint| endpoint.url.to_string())
    }

    fn endpoint_of(&self, tenant: &str) -> Option<Arc<Endpoint>> {
        if let Some(own) = self.endpoint.as_ref().filter(|_| self.authority.id.eq_ignore_ascii_case(tenant)) {
            return Some(own.clone());
        }
        let url = TenantConfig { id: tenant.to_ascii_lowercase(), ..self.authority.clone() }.token_endpoint()?;
        Some(self.elsewhere.get(&tenant.to_ascii_lowercase().into(), || Arc::new(Endpoint::new(url))))
    }

    fn new_platform_slot(
        &self,
        identity: &Arc<ManagedIdentity>,
        pace: &Arc<Pace>,
        scope: &str,
        inherited: Option<Arc<AccessToken>>,
    ) -> Arc<TokenSlot> {
        let (identity, scope) = (identity.clone(), Arc::<str>::from(scope));
        let fetch = Box::new(move |_: Option<Arc<str>>| -> Pin<Box<dyn Future<Output = Fetched> + Send>> {
            let (identity, scope) = (identity.clone(), scope.clone());
            Box::pin(async move { identity.ask(&scope).await })
        });
        TokenSlot::new(self.name.clone(), ForWhom::Gateway, fetch, pace.clone(), self.background.clone(), inherited)
    }

    fn new_slot(
        &self,
        application: &Arc<Application>,
        endpoint: &Arc<Endpoint>,
        for_whom: ForWhom,
        scope: &str,
        inherited: Option<Arc<AccessToken>>,
    ) -> Arc<TokenSlot> {
        let (application, endpoint, scope) = (application.clone(), endpoint.clone(), Arc::<str>::from(scope));
        let pace = endpoint.pace.clone();
        let fetch = Box::new(move |claims: Option<Arc<str>>| -> Pin<Box<dyn Future<Output = Fetched> + Send>> {
            let (application, endpoint, scope) = (application.clone(), endpoint.clone(), scope.clone());
            Box::pin(async move {
                let ask = Ask { scope: &scope, grant: Grant::ClientCredentials, claims: claims.as_deref() };
                application.ask(&endpoint, ask).await
            })
        });
        TokenSlot::new(self.name.clone(), for_whom, fetch, pace, self.background.clone(), inherited)
    }

    /// What there is to tell of it.
    pub fn status(&self) -> CredentialStatus {
        let slots: Vec<_> = lock(&self.slots).iter().map(|(scope, slot)| (scope.clone(), slot.status())).collect();
        let now = self.background.clock.unix_seconds();
        let certificates = self.identity().map(Identity::certificates).unwrap_or_default();
        let endpoint = self.endpoint.as_ref().map(|endpoint| endpoint.url.to_string());
        let for_callers = self.for_callers.entries().iter().filter(|slot| slot.is_ready()).count();
        status::of(self.name.to_string(), &self.config, endpoint, for_callers, &certificates, slots, now)
    }

    fn slots(&self) -> Vec<Arc<TokenSlot>> {
        lock(&self.slots).values().cloned().collect()
    }

    fn bequest(&self) -> HashMap<Box<str>, Arc<AccessToken>> {
        lock(&self.slots).iter().filter_map(|(scope, slot)| Some((scope.clone(), slot.bequest()?))).collect()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).field("client_id", &self.client_id()).finish_non_exhaustive()
    }
}

impl Source {
    fn is_same_client(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Application(one), Self::Application(other)) => one.client_id == other.client_id,
            (Self::Platform(one, _), Self::Platform(other, _)) => one.which == other.which,
            (Self::Application(_) | Self::Platform(..), _) => false,
        }
    }

    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Application(one), Self::Application(other)) => one.identity.same_as(&other.identity),
            (Self::Platform(..), Self::Platform(..)) => true,
            (Self::Application(_) | Self::Platform(..), _) => false,
        }
    }
}

impl CredentialConfig {
    /// The credential without whose token this one gets none.
    fn stands_on(&self) -> Option<&str> {
        let vault = self.certificate.as_ref().and_then(|certificate| certificate.key_vault.as_ref());
        let federated = self.federated_token.as_ref().and_then(|federated| federated.managed_identity.as_deref());
        vault.map(|vault| &*vault.identity).or(federated)
    }
}

fn managed_identity(
    config: &CredentialConfig,
    setting: &Setting<'_>,
    environment: impl Fn(&str) -> Option<String>,
    place: &Place,
    faults: &mut Faults,
) -> Option<ManagedIdentity> {
    let which = config.managed_identity.clone()?;
    let others = CredentialConfig { managed_identity: None, required: false, ..config.clone() };
    if others != CredentialConfig::default() {
        let cure = "leave what is beside it; which identity is meant stands below `managed-identity`";
        faults.error(place, "a managed identity needs no tenant, no client id and no other means", cure);
        return None;
    }
    let place = place.key("managed-identity");
    if [&which.client_id, &which.object_id, &which.resource_id].into_iter().flatten().count() > 1 {
        faults.error(&place, "it is named by several ids", "leave one of `client-id`, `object-id` and `resource-id`");
        return None;
    }
    match Platform::detect(which.source, environment) {
        Ok(platform) => {
            Some(ManagedIdentity { platform, which, http: IdentityHttp::clone(setting.http), clock: setting.clock.clone() })
        }
        Err(error) => {
            faults.error(&place, error.to_string(), "run where the platform sets it, or name another `source`");
            None
        }
    }
}

fn client_id(
    config: &CredentialConfig,
    environment: impl Fn(&str) -> Option<String>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Box<str>> {
    let cure = "write the application (client) id of the app registration, a GUID";
    let from_platform = || config.workload_identity.as_ref().and_then(|_| environment("AZURE_CLIENT_ID"));
    match config.client_id.clone().or_else(from_platform) {
        Some(id) if uuid::Uuid::parse_str(&id).is_ok_and(|parsed| parsed.to_string() == id.to_ascii_lowercase()) => {
            return Some(id.to_ascii_lowercase().into());
        }
        Some(id) => faults.error(&place.key("client-id"), format!("`{id}` is no application id"), cure),
        None => faults.error(place, "`client-id` is missing", cure),
    }
    None
}

/// The authority of a credential, with the id of its tenant.
fn authority(
    config: &CredentialConfig,
    setting: &Setting<'_>,
    environment: impl Fn(&str) -> Option<String>,
    place: &Place,
    faults: &mut Faults,
) -> Option<TenantConfig> {
    let Some(name) = &config.tenant else {
        if config.workload_identity.is_none() {
            // Each route names the tenant then; what they share is the worldwide cloud.
            return Some(worldwide());
        }
        let Some(id) = environment("AZURE_TENANT_ID") else {
            faults.error(place, "`tenant` is missing", "name one of `tenants`, or run where the platform sets AZURE_TENANT_ID");
            return None;
        };
        return Some(TenantConfig { id, authority: environment("AZURE_AUTHORITY_HOST"), ..worldwide() });
    };
    let place = place.key("tenant");
    let Some(tenant) = setting.tenants.get(name) else {
        let known: Vec<_> = setting.tenants.keys().map(String::as_str).collect();
        let cure =
            if known.is_empty() { "define one under `tenants`".to_owned() } else { format!("name one of: {}", known.join(", ")) };
        faults.error(&place, format!("there is no tenant `{name}`"), cure);
        return None;
    };
    // What is wrong with the tenant itself is told at the tenant.
    if tenant.token_endpoint().is_none() {
        if !faults.any_error() {
            faults.error(&place, format!("tenant `{name}` has no usable authority"), "mend the tenant's `id` or `authority`");
        }
        return None;
    }
    Some(TenantConfig { stale: None, ..tenant.clone() })
}

/// Many tenants of the worldwide cloud.
fn worldwide() -> TenantConfig {
    TenantConfig { id: "organizations".to_owned(), cloud: CloudConfig::Public, authority: None, stale: None }
}

/// Whether a tenant's id stands for many tenants, none of which issues tokens under that name.
fn is_many(id: &str) -> bool {
    ["common", "organizations", "consumers"].iter().any(|many| id.eq_ignore_ascii_case(many))
}

/// The one means by which the application proves itself.
fn identity(
    config: &CredentialConfig,
    setting: &Setting<'_>,
    siblings: Siblings<'_>,
    environment: impl Fn(&str) -> Option<String>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Identity> {
    let means: Vec<_> = [
        ("certificate", config.certificate.is_some()),
        ("certificates", !config.certificates.is_empty()),
        ("client-secret", config.client_secret.is_some()),
        ("federated-token", config.federated_token.is_some()),
        ("workload-identity", config.workload_identity.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    match means[..] {
        [] => {
            faults.error(place, "it has nothing to prove itself with", "give it a `certificate`");
            None
        }
        ["client-secret"] => secret(config.client_secret.as_ref()?, setting, &place.key("client-secret"), faults),
        ["federated-token"] => federated(config, setting, siblings, &place.key("federated-token"), faults),
        ["workload-identity"] => {
            let written = config.workload_identity.as_ref().and_then(|workload| workload.token_file.as_ref());
            let file = written.map(|file| setting.base.join(file));
            let file = file.or_else(|| environment("AZURE_FEDERATED_TOKEN_FILE").map(Into::into));
            if file.is_none() {
                let cure = "write `token-file`, or run where the platform sets AZURE_FEDERATED_TOKEN_FILE";
                faults.error(&place.key("workload-identity"), "no file with the pod's token is known", cure);
            }
            file.map(Identity::File)
        }
        ["certificate"] if config.certificate.as_ref().is_some_and(|certificate| certificate.key_vault.is_some()) => {
            vault(config, setting, siblings, &place.key("certificate"), faults).map(Identity::Vault)
        }
        [_] => certificates(config, setting, place, faults).map(Identity::Certificates),
        _ => {
            let message = format!("it has several means to prove itself: {}", means.join(", "));
            faults.error(place, message, "leave one of them");
            None
        }
    }
}

fn federated(
    config: &CredentialConfig,
    setting: &Setting<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Identity> {
    let written = config.federated_token.as_ref()?;
    match (&written.file, &written.managed_identity) {
        (Some(file), None) => Some(Identity::File(setting.base.join(file))),
        (None, Some(name)) => {
            let place = place.key("managed-identity");
            let other = other(name, siblings, &place, faults)?;
            if other.is_application() {
                let cure = "name a credential with `managed-identity`";
                faults.error(&place, format!("credential `{name}` is no managed identity"), cure);
                return None;
            }
            let cloud = config.tenant.as_ref().and_then(|tenant| setting.tenants.get(tenant)).map(|tenant| tenant.cloud);
            let audience = match cloud.unwrap_or_default() {
                CloudConfig::Public => "api://AzureADTokenExchange/.default",
                CloudConfig::UsGovernment => "api://AzureADTokenExchangeUSGov/.default",
                CloudConfig::China => "api://AzureADTokenExchangeChina/.default",
            };
            other.slot(audience).map(Identity::Managed)
        }
        (Some(_), Some(_)) | (None, None) => {
            faults.error(place, "it needs one source", "write either `file` or `managed-identity`");
            None
        }
    }
}

fn vault(
    config: &CredentialConfig,
    setting: &Setting<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<VaultIdentity> {
    let certificate = config.certificate.as_ref()?;
    let written = certificate.key_vault.as_ref()?;
    if *certificate != (CertificateConfig { key_vault: Some(written.clone()), ..CertificateConfig::default() }) {
        faults.error(place, "both a file and `key-vault` are given", "leave one of them");
        return None;
    }
    let place = place.key("key-vault");
    let url = key_vault::vault_url(&written.vault);
    if url.is_none() {
        let cure = "write it as https://contoso.vault.azure.net";
        faults.error(&place.key("vault"), format!("`{}` is no vault", written.vault), cure);
    }
    for (key, name) in [("certificate", Some(&written.certificate)), ("version", written.version.as_ref())] {
        if let Some(name) = name.filter(|name| !key_vault::is_name(name)) {
            let message = format!("`{name}` cannot be the name of something in a vault");
            faults.error(&place.key(key), message, "names have letters, digits and hyphens alone");
            return None;
        }
    }
    let url = url?;
    let opens = other(&written.identity, siblings, &place.key("identity"), faults)?;
    let Some(slot) = opens.slot(key_vault::scope_of(&url)) else {
        let message = format!("credential `{}` has no tenant of its own", written.identity);
        faults.error(&place.key("identity"), message, "name the vault's tenant at that credential");
        return None;
    };
    Some(VaultIdentity {
        vault: Vault { url, slot, http: IdentityHttp::clone(setting.http), clock: setting.clock.clone() },
        name: written.certificate.clone(),
        version: written.version.clone(),
        settings: config.assertion,
        current: ArcSwapOption::empty(),
    })
}

/// Another credential, which was built before.
fn other<'a>(name: &str, siblings: Siblings<'a>, place: &Place, faults: &mut Faults) -> Option<&'a Arc<Credential>> {
    let found = siblings.built.get(name);
    if found.is_none() && !siblings.broken.contains(name) {
        faults.error(place, format!("there is no credential `{name}`"), "define it under `credentials`");
    }
    found
}

fn secret(written: &Secret, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<Identity> {
    let (message, cure) = if written.names_secret() {
        (
            "a client secret can be copied by whoever sees it",
            "let a certificate prove the gateway: its key never leaves the machine",
        )
    } else {
        ("a client secret stands in the config itself", "name a secret from a file, as \"{{name}}\"; better: use a certificate")
    };
    faults.warning(place, message, cure);
    reveal(written, setting, place, faults).map(Identity::Secret)
}

fn reveal(written: &Secret, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<SecretString> {
    match written.reveal(setting.secrets) {
        Ok(secret) => Some(secret),
        Err(error) => {
            faults.error(place, error.to_string(), "define it under `named-values`");
            None
        }
    }
}

fn certificates(config: &CredentialConfig, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<Certificates> {
    let written: Vec<_> = match &config.certificate {
        Some(certificate) => vec![(place.key("certificate"), certificate)],
        None => {
            let place = place.key("certificates");
            config.certificates.iter().enumerate().map(|(index, certificate)| (place.index(index), certificate)).collect()
        }
    };
    let sources: Vec<_> = written.iter().map(|(place, written)| source(written, setting, place, faults)).collect();
    let sources: Vec<_> = sources.into_iter().collect::<Option<_>>()?;
    let certificates = match Certificates::load(config.assertion, sources.clone()) {
        Ok(certificates) => certificates,
        Err(failed) => {
            for (index, error) in failed {
                let file = sources[index].file.display();
                faults.error(&written[index].0, format!("{file}: {}", super::token_cache::chain(&error)), error.cure());
            }
            return None;
        }
    };
    for ((place, _), source) in written.iter().zip(&sources) {
        if let Some(mode) = loose_permissions(source.key_file()) {
            faults.warning(
                place,
                format!("{} holds a private key, and others may use it (mode {mode})", source.key_file().display()),
                "let the gateway's user alone read it: chmod 600, or defaultMode: 0440 on a mounted secret",
            );
        }
    }
    for (index, pair) in certificates.in_order() {
        let days = pair.certificate().days_left(setting.clock.unix_seconds());
        let subject = pair.certificate().subject();
        let message = match days {
            ..0 => format!("the certificate of {subject} has expired"),
            0..WARN_DAYS => format!("the certificate of {subject} expires in {days} days"),
            _ => continue,
        };
        let cure = "make a new one with `entrada certificate new`, and upload it beside the old one";
        faults.warning(&written[index].0, message, cure);
    }
    Some(certificates)
}

fn source(written: &CertificateConfig, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<CertificateSource> {
    let path = |text: &String| setting.base.join(text);
    let password = match &written.password {
        Some(password) => Some(reveal(password, setting, &place.key("password"), faults)?),
        None => None,
    };
    match (&written.pem, &written.pfx, &written.private_key) {
        (Some(pem), None, key) => {
            Some(CertificateSource { file: path(pem), form: CertificateForm::Pem(key.as_ref().map(path)), password })
        }
        (None, Some(pfx), None) => Some(CertificateSource { file: path(pfx), form: CertificateForm::Pfx, password }),
        (None, Some(_), Some(_)) => {
            faults.error(&place.key("private-key"), "a PFX file holds its private key itself", "leave `private-key` out");
            None
        }
        (Some(_), Some(_), _) => {
            faults.error(place, "both `pem` and `pfx` are given", "leave one of them");
            None
        }
        (None, None, _) => {
            faults.error(place, "no file is named", "name one as `pem` or `pfx`");
            None
        }
    }
}

#[cfg(test)]
mod tests;

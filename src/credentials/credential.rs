//! The credentials of a config, built.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::runtime::Handle;
use url::Url;

use super::{
    CredentialConfig,
    application::{Application, Ask, CertificateSource, Certificates, Endpoint},
    certificate::loose_permissions,
    error::ForWhom,
    status::{self, CredentialStatus},
    token_cache::{AccessToken, Background, TokenSlot, lock},
    token_request::Grant,
};
use crate::{
    clock::Clock,
    config::{Faults, Place},
    entra::TenantConfig,
    identity_http::IdentityHttp,
};

/// How many days before its end a certificate is warned of.
const WARN_DAYS: i64 = 30;
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
}

/// One credential of the gateway.
pub struct Credential {
    name: Arc<str>,
    config: CredentialConfig,
    endpoint: Arc<Endpoint>,
    application: Arc<Application>,
    shared_http: Arc<IdentityHttp>,
    background: Background,
    slots: Mutex<BTreeMap<Box<str>, Arc<TokenSlot>>>,
    /// The tokens of the credential that this one takes the place of, by scope.
    inherited: HashMap<Box<str>, Arc<AccessToken>>,
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
        for (name, config) in configs {
            match Credential::build(name, config, setting, &place.key(name), faults) {
                Some(credential) => _ = built.insert(name.clone(), credential),
                None => _ = broken.insert(name.clone()),
            }
        }
        Self { built: Arc::new(built), broken }
    }

    /// The credential of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Credential>> {
        self.built.get(name)
    }

    /// Whether the config has it, and it could not be built: what refers to it need not complain as well.
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
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

    /// The files that a change of calls for a new build.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.built.values().flat_map(|credential| credential.application.certificates.files())
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
    }
}

impl Credential {
    fn build(
        name: &str,
        config: &CredentialConfig,
        setting: &Setting<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Arc<Self>> {
        let errors = faults.errors();
        if uuid::Uuid::parse_str(&config.client_id).is_err() {
            faults.error(
                &place.key("client-id"),
                format!("`{}` is no application id", config.client_id),
                "write the application (client) id of the app registration, a GUID",
            );
        }
        let endpoint = token_endpoint(config, setting, place, faults);
        let certificates = certificates(config, setting, place, faults);
        let (endpoint, certificates) = (endpoint?, certificates?);
        if faults.errors() > errors {
            return None;
        }

        let previous = setting.previous.and_then(|previous| previous.find(name)).filter(|previous| {
            previous.endpoint.url == endpoint && previous.config.client_id.eq_ignore_ascii_case(&config.client_id)
        });
        if let Some(previous) = previous
            && previous.config == *config
            && Arc::ptr_eq(&previous.shared_http, setting.http)
            && previous.application.certificates.same_as(&certificates)
        {
            return Some(previous.clone());
        }
        Some(Arc::new(Self {
            name: name.into(),
            config: config.clone(),
            endpoint: Arc::new(Endpoint::new(endpoint)),
            application: Arc::new(Application {
                client_id: config.client_id.to_ascii_lowercase().into(),
                certificates,
                http: IdentityHttp::clone(setting.http),
                clock: setting.clock.clone(),
            }),
            shared_http: setting.http.clone(),
            background: Background {
                clock: setting.clock.clone(),
                handle: Arc::default(),
                second_attempt_after: SECOND_ATTEMPT_AFTER,
            },
            slots: Mutex::default(),
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
        &self.application.client_id
    }

    /// Whether the gateway is not ready without it.
    pub fn is_required(&self) -> bool {
        self.config.required
    }

    /// The place where this credential's token for `scope` is kept. The same one for the same scope, in whatever letter case.
    pub fn slot(&self, scope: &str) -> Arc<TokenSlot> {
        let key: Box<str> = scope.to_lowercase().into();
        lock(&self.slots).entry(key.clone()).or_insert_with(|| self.new_slot(scope, &key)).clone()
    }

    fn new_slot(&self, scope: &str, key: &str) -> Arc<TokenSlot> {
        let (application, endpoint) = (self.application.clone(), self.endpoint.clone());
        let scope: Arc<str> = scope.into();
        TokenSlot::new(
            self.name.clone(),
            ForWhom::Gateway,
            Box::new(move |claims| {
                let (application, endpoint, scope) = (application.clone(), endpoint.clone(), scope.clone());
                Box::pin(async move {
                    let ask = Ask { scope: &scope, grant: Grant::ClientCredentials, claims: claims.as_deref() };
                    application.ask(&endpoint, ask).await
                })
            }),
            self.endpoint.pace.clone(),
            self.background.clone(),
            self.inherited.get(key).cloned(),
        )
    }

    /// What there is to tell of it.
    pub fn status(&self) -> CredentialStatus {
        let slots: Vec<_> = lock(&self.slots).iter().map(|(scope, slot)| (scope.clone(), slot.status())).collect();
        let now = self.background.clock.unix_seconds();
        let certificates = self.application.certificates.in_order();
        status::of(self.name.to_string(), &self.config, &self.endpoint.url, &certificates, slots, now)
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

fn token_endpoint(config: &CredentialConfig, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<Url> {
    let place = place.key("tenant");
    let Some(tenant) = setting.tenants.get(&config.tenant) else {
        let known: Vec<_> = setting.tenants.keys().map(String::as_str).collect();
        let cure =
            if known.is_empty() { "define it under `tenants`".to_owned() } else { format!("name one of: {}", known.join(", ")) };
        faults.error(&place, format!("there is no tenant `{}`", config.tenant), cure);
        return None;
    };
    if matches!(&*tenant.id.to_ascii_lowercase(), "common" | "organizations" | "consumers") {
        faults.error(
            &place,
            format!("tenant `{}` stands for many tenants, and each issues its own tokens", config.tenant),
            "name a tenant with an id of its own",
        );
        return None;
    }
    // What is wrong with the tenant itself is told at the tenant.
    let url = tenant.token_endpoint();
    if url.is_none() && !faults.any_error() {
        faults.error(
            &place,
            format!("tenant `{}` has no usable authority", config.tenant),
            "mend the tenant's `id` or `authority`",
        );
    }
    url
}

fn certificates(config: &CredentialConfig, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<Certificates> {
    let place = place.key("certificate");
    let path = |text: &String| -> PathBuf { setting.base.join(text) };
    let source = CertificateSource::Pem {
        pem: path(&config.certificate.pem),
        private_key: config.certificate.private_key.as_ref().map(path),
    };
    let key_file = source.key_file().to_owned();
    let certificates = match Certificates::load(config.assertion, vec![source]) {
        Ok(certificates) => certificates,
        Err((_, error)) => {
            faults.error(&place, format!("{}: {}", config.certificate.pem, super::token_cache::chain(&error)), error.cure());
            return None;
        }
    };
    if let Some(mode) = loose_permissions(&key_file) {
        faults.warning(
            &place,
            format!("{} holds a private key, and others may use it (mode {mode})", key_file.display()),
            "let the gateway's user alone read it: chmod 600, or defaultMode: 0440 on a mounted secret",
        );
    }
    for (_, pair) in certificates.in_order() {
        let days = pair.certificate().days_left(setting.clock.unix_seconds());
        let subject = pair.certificate().subject();
        let message = match days {
            ..0 => format!("the certificate of {subject} has expired"),
            0..WARN_DAYS => format!("the certificate of {subject} expires in {days} days"),
            _ => continue,
        };
        faults.warning(&place, message, "make a new one with `entrada certificate new`, and upload it beside the old one");
    }
    Some(certificates)
}

#[cfg(test)]
mod tests;

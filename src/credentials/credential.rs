//! The credentials of a config, built.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::SecretString;
use tokio::runtime::Handle;
use url::Url;

use super::{
    CertificateConfig, CredentialConfig,
    application::{Application, Ask, CertificateForm, CertificateSource, Certificates, Endpoint, Identity},
    certificate::loose_permissions,
    error::ForWhom,
    status::{self, CredentialStatus},
    token_cache::{AccessToken, Background, TokenSlot, lock},
    token_request::Grant,
};
use crate::{
    clock::Clock,
    config::{Faults, Place, Secret, Secrets},
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

    /// The files whose change calls for a new build.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.built.values().flat_map(|credential| credential.application.identity.files())
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
        let client_id = client_id(config, place, faults);
        let endpoint = token_endpoint(config, setting, place, faults);
        let identity = identity(config, setting, place, faults);
        let (client_id, endpoint, identity) = (client_id?, endpoint?, identity?);
        if faults.errors() > errors {
            return None;
        }

        let previous = setting
            .previous
            .and_then(|previous| previous.find(name))
            .filter(|previous| previous.endpoint.url == endpoint && previous.application.client_id == client_id);
        if let Some(previous) = previous
            && previous.config == *config
            && Arc::ptr_eq(&previous.shared_http, setting.http)
            && previous.application.identity.same_as(&identity)
        {
            return Some(previous.clone());
        }
        Some(Arc::new(Self {
            name: name.into(),
            config: config.clone(),
            endpoint: Arc::new(Endpoint::new(endpoint)),
            application: Arc::new(Application {
                client_id,
                identity,
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
        let certificates = self.application.identity.certificates();
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

fn client_id(config: &CredentialConfig, place: &Place, faults: &mut Faults) -> Option<Box<str>> {
    let cure = "write the application (client) id of the app registration, a GUID";
    match &config.client_id {
        Some(id) if uuid::Uuid::parse_str(id).is_ok_and(|parsed| parsed.to_string() == id.to_ascii_lowercase()) => {
            return Some(id.to_ascii_lowercase().into());
        }
        Some(id) => faults.error(&place.key("client-id"), format!("`{id}` is no application id"), cure),
        None => faults.error(place, "`client-id` is missing", cure),
    }
    None
}

fn token_endpoint(config: &CredentialConfig, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<Url> {
    let known: Vec<_> = setting.tenants.keys().map(String::as_str).collect();
    let cure =
        if known.is_empty() { "define one under `tenants`".to_owned() } else { format!("name one of: {}", known.join(", ")) };
    let Some(name) = &config.tenant else {
        faults.error(place, "`tenant` is missing", cure);
        return None;
    };
    let place = place.key("tenant");
    let Some(tenant) = setting.tenants.get(name) else {
        faults.error(&place, format!("there is no tenant `{name}`"), cure);
        return None;
    };
    if matches!(&*tenant.id.to_ascii_lowercase(), "common" | "organizations" | "consumers") {
        faults.error(
            &place,
            format!("tenant `{name}` stands for many tenants, and each issues its own tokens"),
            "name a tenant with an id of its own",
        );
        return None;
    }
    // What is wrong with the tenant itself is told at the tenant.
    let url = tenant.token_endpoint();
    if url.is_none() && !faults.any_error() {
        faults.error(&place, format!("tenant `{name}` has no usable authority"), "mend the tenant's `id` or `authority`");
    }
    url
}

/// The one means by which the application proves itself.
fn identity(config: &CredentialConfig, setting: &Setting<'_>, place: &Place, faults: &mut Faults) -> Option<Identity> {
    let means: Vec<_> = [
        ("certificate", config.certificate.is_some()),
        ("certificates", !config.certificates.is_empty()),
        ("client-secret", config.client_secret.is_some()),
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
        [_] => certificates(config, setting, place, faults).map(Identity::Certificates),
        _ => {
            let message = format!("it has several means to prove itself: {}", means.join(", "));
            faults.error(place, message, "leave one of them");
            None
        }
    }
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

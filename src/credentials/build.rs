//! From the settings to a credential: what cannot be meant is a fault, with its place and its cure.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use secrecy::SecretString;

use super::{
    CertificateConfig, Credential, CredentialConfig,
    application::{Application, CertificateForm, CertificateSource, Certificates, Endpoint, Identity, VaultIdentity},
    certificate::loose_permissions,
    credential::{MOST_CALLERS, MOST_TENANTS, Source},
    generations::Generations,
    key_vault::{self, Vault},
    managed_identity::{ManagedIdentity, Platform},
    set::{Setting, Siblings},
    token_cache::{self, Background},
};
use crate::{
    config::{Faults, Place, Secret},
    entra::{CloudConfig, TenantConfig},
    identity_http::IdentityHttp,
};

/// How long a token request that failed for a passing reason waits before its second attempt.
const SECOND_ATTEMPT_AFTER: Duration = Duration::from_millis(300);

impl Credential {
    pub(super) fn build(
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
}

impl CredentialConfig {
    /// The credential without whose token this one gets none.
    pub(super) fn stands_on(&self) -> Option<&str> {
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
pub(super) fn is_many(id: &str) -> bool {
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
                faults.error(&written[index].0, format!("{file}: {}", token_cache::chain(&error)), error.cure());
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
        let now = setting.clock.unix_seconds();
        if let Some(concern) = pair.certificate().concern(now) {
            faults.warning(&written[index].0, concern, pair.certificate().standing(now).cure());
        }
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

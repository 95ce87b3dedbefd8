//! Builds credentials from settings; impossible settings are faults, with place and cure.

mod certificates;

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use secrecy::SecretString;

use self::certificates::certificates;
use super::{
    Credential, CredentialConfig,
    application::{Application, ClientSecret, Endpoint, Identity},
    credential::{MOST_CALLERS, MOST_TENANTS, Source},
    key_vault::{self, OpenedSecret, Vault},
    managed_identity::ManagedIdentity,
    platform::Platform,
    set::{CredentialsContext, Siblings},
    token_cache::Background,
};
use crate::{
    base::generations::Generations,
    entra::{CloudConfig, TenantConfig},
    identity_http::IdentityHttp,
    settings::{Faults, KeyVaultSecretConfig, Lint, LiveSecret, Place, Secret, SecretCell, Secrets},
};

/// The pause before the second attempt of a token request that failed temporarily.
const SECOND_ATTEMPT_AFTER: Duration = Duration::from_millis(300);

impl Credential {
    pub(super) fn build(
        name: &str,
        config: &CredentialConfig,
        context: &CredentialsContext<'_>,
        siblings: Siblings<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Arc<Self>> {
        let errors = faults.errors();
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (source, authority) = if config.managed_identity.is_some() {
            let identity = managed_identity(config, context, environment, place, faults)?;
            // Nobody asks an authority; what stands here only has to stay the same.
            (Source::Platform(Arc::new(identity), Arc::default()), worldwide())
        } else {
            let client_id = client_id(config, environment, place, faults);
            let authority = authority(config, context, environment, place, faults);
            let identity = identity(config, context, siblings, environment, place, faults);
            let (client_id, authority, identity) = (client_id?, authority?, identity?);
            let (http, clock) = (IdentityHttp::clone(context.http), context.clock.clone());
            let answers_challenges = config.answers_claims_challenges;
            (Source::Application(Arc::new(Application { client_id, identity, answers_challenges, http, clock })), authority)
        };
        if faults.errors() > errors {
            return None;
        }

        let previous = context
            .previous
            .and_then(|previous| previous.find(name))
            .filter(|previous| previous.authority == authority && previous.source.is_same_client(&source));
        if let Some(previous) = previous
            && previous.config == *config
            && Arc::ptr_eq(&previous.shared_http, context.http)
            && previous.source.same_as(&source)
        {
            return Some(previous.clone());
        }
        let source = source.after(previous.map(|previous| &previous.source));
        Some(Arc::new(Self {
            name: name.into(),
            config: config.clone(),
            endpoint: authority.token_endpoint().filter(|_| !is_many(&authority.id)).map(|url| Arc::new(Endpoint::new(url))),
            authority,
            source,
            shared_http: context.http.clone(),
            background: Background {
                clock: context.clock.clone(),
                handle: Arc::default(),
                second_attempt_after: SECOND_ATTEMPT_AFTER,
            },
            slots: Mutex::default(),
            elsewhere: Generations::new(MOST_TENANTS),
            for_callers: Generations::new(MOST_CALLERS),
            vaults: Mutex::default(),
            warned_on: AtomicU64::default(),
            // A new certificate is no reason to throw away what the old one earned.
            inherited: previous.map(|previous| previous.handover()).unwrap_or_default(),
        }))
    }
}

/// Returns the credentials that this one needs for its own tokens: those that open its vaults, or vouch for it.
pub(super) fn stands_on(config: &CredentialConfig, secrets: &Secrets) -> Vec<String> {
    let certificates = config.certificate.iter().chain(&config.certificates);
    let vaults = certificates.filter_map(|certificate| certificate.key_vault.as_ref()).map(|vault| vault.identity.clone());
    let federated = config.federated_token.iter().filter_map(|federated| federated.managed_identity.clone());
    let secret = config.client_secret.as_ref().and_then(|secret| secret.live(secrets).ok());
    let in_vaults = secret.iter().flat_map(LiveSecret::in_vaults).map(|secret| secret.config().identity.clone());
    vaults.chain(federated).chain(in_vaults).collect()
}

/// Opens the vaults of named values.
pub(super) fn open_secrets(context: &CredentialsContext<'_>, siblings: Siblings<'_>, faults: &mut Faults) -> Vec<OpenedSecret> {
    context.secrets.in_vaults().filter_map(|secret| open_secret(secret, siblings, faults)).collect()
}

fn open_secret(cell: &Arc<SecretCell>, siblings: Siblings<'_>, faults: &mut Faults) -> Option<OpenedSecret> {
    let KeyVaultSecretConfig { vault, secret: name, version, identity, .. } = cell.config();
    let place = Place::root().key("named-values").key(cell.name()).key("key-vault");
    let names = [("secret", Some(name)), ("version", version.as_ref())];
    let vault = open_vault(vault, identity, &names, siblings, &place, faults)?;
    Some(OpenedSecret { secret: siblings.vault_secret(cell), vault })
}

/// Returns the vault at an address, opened with a credential that was built before; `names` lists what is read there.
fn open_vault(
    address: &str,
    identity: &str,
    names: &[(&str, Option<&String>)],
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Arc<Vault>> {
    let before = faults.errors();
    let url = key_vault::vault_url(address);
    if url.is_none() {
        let cure = "write it as https://contoso.vault.azure.net";
        faults.error(&place.key("vault"), format!("`{address}` is not a vault"), cure);
    }
    for (key, name) in names {
        if let Some(name) = name.filter(|name| !key_vault::is_name(name)) {
            let message = format!("`{name}` cannot be the name of something in a vault");
            faults.error(&place.key(key), message, "names have letters, digits and hyphens alone");
        }
    }
    let opens = other(identity, siblings, &place.key("identity"), faults)?;
    if faults.errors() > before {
        return None;
    }
    let vault = opens.vault(url?);
    if vault.is_none() {
        let message = format!("credential `{identity}` has no tenant of its own");
        faults.error(&place.key("identity"), message, "name the vault's tenant at that credential");
    }
    vault
}

fn managed_identity(
    config: &CredentialConfig,
    context: &CredentialsContext<'_>,
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
    let ids = [&which.client_id, &which.object_id, &which.resource_id].into_iter().flatten().count();
    let names_identity = ids > 0;
    if ids > 1 {
        faults.error(&place, "it is named by several ids", "leave one of `client-id`, `object-id` and `resource-id`");
        return None;
    }
    match Platform::detect(which.source, environment) {
        Ok(platform) => {
            let http = match &platform {
                Platform::ServiceFabric { .. } if names_identity => {
                    let cure = "leave the ids out: the cluster's application manifest says which identity it is";
                    faults.error(&place, "a service of Service Fabric has one identity, which no id names", cure);
                    return None;
                }
                Platform::ServiceFabric { thumbprint, .. } => match context.http.pinned(*thumbprint) {
                    Ok(http) => http,
                    Err(error) => {
                        faults.error(&place, error.to_string(), "");
                        return None;
                    }
                },
                _ => IdentityHttp::clone(context.http),
            };
            Some(ManagedIdentity { platform, which, http, clock: context.clock.clone() })
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
        Some(id) => faults.error(&place.key("client-id"), format!("`{id}` is not an application id"), cure),
        None => faults.error(place, "`client-id` is missing", cure),
    }
    None
}

/// Returns the authority of a credential, with the id of its tenant.
fn authority(
    config: &CredentialConfig,
    context: &CredentialsContext<'_>,
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
    let Some(tenant) = context.tenants.get(name) else {
        let known: Vec<_> = context.tenants.keys().map(String::as_str).collect();
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
    Some(TenantConfig { stale: None, graph: None, required: None, ..tenant.clone() })
}

/// Returns settings for many tenants of the worldwide cloud.
fn worldwide() -> TenantConfig {
    TenantConfig {
        id: "organizations".to_owned(),
        cloud: CloudConfig::Public,
        authority: None,
        stale: None,
        graph: None,
        required: None,
    }
}

/// Returns whether a tenant's id stands for many tenants, which issue no tokens under that name.
pub(super) fn is_many(id: &str) -> bool {
    ["common", "organizations", "consumers"].iter().any(|many| id.eq_ignore_ascii_case(many))
}

/// Builds the one proof of the application's identity.
fn identity(
    config: &CredentialConfig,
    context: &CredentialsContext<'_>,
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
        ["client-secret"] => secret(config.client_secret.as_ref()?, context, siblings, &place.key("client-secret"), faults),
        ["federated-token"] => federated(config, context, siblings, &place.key("federated-token"), faults),
        ["workload-identity"] => {
            let written = config.workload_identity.as_ref().and_then(|workload| workload.token_file.as_ref());
            let file = written.map(|file| context.base.join(file));
            let file = file.or_else(|| environment("AZURE_FEDERATED_TOKEN_FILE").map(Into::into));
            if file.is_none() {
                let cure = "write `token-file`, or run where the platform sets AZURE_FEDERATED_TOKEN_FILE";
                faults.error(&place.key("workload-identity"), "no file with the pod's token is known", cure);
            }
            file.map(Identity::File)
        }
        [_] => certificates(config, context, siblings, place, faults).map(Identity::Certificates),
        _ => {
            let message = format!("it has several means to prove itself: {}", means.join(", "));
            faults.error(place, message, "leave one of them");
            None
        }
    }
}

fn federated(
    config: &CredentialConfig,
    context: &CredentialsContext<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Identity> {
    let written = config.federated_token.as_ref()?;
    match (&written.file, &written.managed_identity) {
        (Some(file), None) => Some(Identity::File(context.base.join(file))),
        (None, Some(name)) => {
            let place = place.key("managed-identity");
            let other = other(name, siblings, &place, faults)?;
            if other.is_application() {
                let cure = "name a credential with `managed-identity`";
                faults.error(&place, format!("credential `{name}` is not a managed identity"), cure);
                return None;
            }
            let cloud = config.tenant.as_ref().and_then(|tenant| context.tenants.get(tenant)).map(|tenant| tenant.cloud);
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

/// Returns another credential that was built before.
fn other<'a>(name: &str, siblings: Siblings<'a>, place: &Place, faults: &mut Faults) -> Option<&'a Arc<Credential>> {
    let found = siblings.built.get(name);
    if found.is_none() && !siblings.broken.contains(name) {
        faults.error(place, format!("there is no credential `{name}`"), "define it under `credentials`");
    }
    found
}

fn secret(
    written: &Secret,
    context: &CredentialsContext<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Identity> {
    let (lint, message, cure) = if written.names_secret() {
        (
            Lint::ClientSecret,
            "a client secret can be copied by whoever sees it",
            "let a certificate prove the gateway: its key never leaves the machine",
        )
    } else {
        (
            Lint::ClientSecretInConfig,
            "a client secret stands in the config itself",
            "name a secret from a file, as \"{{name}}\"; better: use a certificate",
        )
    };
    faults.warning(lint, place, message, cure);
    match written.live(context.secrets) {
        Ok(secret) => {
            // What is wrong with the named value is told once, where that stands.
            let silent = &mut Faults::default();
            let opened: Vec<_> = secret.in_vaults().filter_map(|secret| open_secret(secret, siblings, silent)).collect();
            (opened.len() == secret.in_vaults().count()).then_some(Identity::Secret(ClientSecret { secret, opened }))
        }
        Err(error) => {
            faults.error(place, error.to_string(), error.cure());
            None
        }
    }
}

fn reveal(written: &Secret, context: &CredentialsContext<'_>, place: &Place, faults: &mut Faults) -> Option<SecretString> {
    match written.reveal(context.secrets) {
        Ok(secret) => Some(secret),
        Err(error) => {
            faults.error(place, error.to_string(), error.cure());
            None
        }
    }
}

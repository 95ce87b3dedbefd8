//! Builds credentials from settings; impossible settings are faults, with place and cure.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use secrecy::SecretString;

use super::{
    AssertionAlgorithm, AssertionConfig, CertificateConfig, Credential, CredentialConfig, KeyUse, KeyVaultCertificateConfig,
    application::{Application, ClientSecret, Endpoint, Identity},
    certificates::{CertificateFile, CertificateForm, CertificateSource, Certificates, VaultSource},
    credential::{MOST_CALLERS, MOST_TENANTS, Source},
    key_vault::{self, OpenedSecret, Vault},
    managed_identity::ManagedIdentity,
    platform::Platform,
    set::{CredentialsContext, Siblings},
    token_cache::Background,
};
use crate::{
    base::generations::Generations,
    certificate::{
        Thumbprint,
        keys::{LOOSE_CURE, loose_key},
    },
};
use crate::{
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

fn certificates(
    config: &CredentialConfig,
    context: &CredentialsContext<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Certificates> {
    let written: Vec<_> = match &config.certificate {
        Some(certificate) => vec![(place.key("certificate"), certificate)],
        None => {
            let place = place.key("certificates");
            config.certificates.iter().enumerate().map(|(index, certificate)| (place.index(index), certificate)).collect()
        }
    };
    let sources: Vec<_> = written.iter().map(|(place, written)| source(written, context, siblings, place, faults)).collect();
    let sources: Vec<_> = sources.into_iter().collect::<Option<_>>()?;
    for ((place, _), source) in written.iter().zip(&sources) {
        suits(source, config.assertion, place, faults)?;
    }
    let certificates = match Certificates::load(config.assertion, sources.clone()) {
        Ok(certificates) => certificates,
        Err(failed) => {
            for (index, error) in failed {
                let CertificateSource::File(source) = &sources[index] else { continue };
                let file = source.file.display();
                faults.error(&written[index].0, format!("{file}: {}", crate::base::error_chain::chain(&error)), error.cure());
            }
            return None;
        }
    };
    for ((place, _), source) in written.iter().zip(&sources) {
        let CertificateSource::File(source) = source else { continue };
        if let Some(message) = loose_key(source.key_file()) {
            faults.warning(Lint::SecretFilePermissions, place, message, LOOSE_CURE);
        }
    }
    for (index, signer) in certificates.by_source() {
        let now = context.clock.unix_seconds();
        if let Some((concern, cure)) = signer.concern(now) {
            faults.warning(Lint::CertificateExpiry, &written[index].0, concern, cure);
        }
    }
    Some(certificates)
}

fn source(
    written: &CertificateConfig,
    context: &CredentialsContext<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<CertificateSource> {
    if let Some(kept) = &written.key_vault {
        if *written != (CertificateConfig { key_vault: Some(kept.clone()), ..CertificateConfig::default() }) {
            faults.error(place, "both a file and `key-vault` are given", "leave one of them");
            return None;
        }
        let KeyVaultCertificateConfig { vault, certificate, version, identity, key_use } = kept;
        let names = [("certificate", Some(certificate)), ("version", version.as_ref())];
        let vault = open_vault(vault, identity, &names, siblings, &place.key("key-vault"), faults)?;
        let (name, version, key_use) = (certificate.clone(), version.clone(), *key_use);
        if key_use == KeyUse::Download {
            faults.warning(Lint::KeyExportable,
                &place.key("key-vault").key("use"),
                "the private key leaves the vault: a stolen copy is good until the certificate ends, for days or months; a stolen token for an hour",
                "write `use: sign`, so that the key stays in the vault; `entrada certificate policy` prints the policy of a certificate whose key cannot be exported",
            );
        }
        return Some(CertificateSource::Vault(VaultSource { vault, name, version, key_use }));
    }
    let path = |text: &String| context.base.join(text);
    let password = match &written.password {
        Some(password) => Some(reveal(password, context, &place.key("password"), faults)?),
        None => None,
    };
    if let Some(thumbprint) = &written.thumbprint {
        let (form, file) = key_only(written, thumbprint, place, faults)?;
        return Some(CertificateSource::File(CertificateFile { file: path(file), form, password }));
    }
    match (&written.pem, &written.pfx, &written.private_key) {
        (Some(pem), None, key) => {
            let form = CertificateForm::Pem(key.as_ref().map(path));
            Some(CertificateSource::File(CertificateFile { file: path(pem), form, password }))
        }
        (None, Some(pfx), None) => {
            Some(CertificateSource::File(CertificateFile { file: path(pfx), form: CertificateForm::Pfx, password }))
        }
        (None, Some(_), Some(_)) => {
            faults.error(&place.key("private-key"), "a PFX file holds its private key itself", "leave `private-key` out");
            None
        }
        (Some(_), Some(_), _) => {
            faults.error(place, "both `pem` and `pfx` are given", "leave one of them");
            None
        }
        (None, None, Some(_)) => {
            let cure = "name its file as `pem`, or write the `thumbprint` of the one that the app registration has";
            faults.error(place, "a private key is named, and no certificate", cure);
            None
        }
        (None, None, None) => {
            faults.error(place, "no file is named", "name one as `pem` or `pfx`");
            None
        }
    }
}

/// Returns the form and the file of a private key whose certificate is known by its thumbprint.
fn key_only<'a>(
    written: &'a CertificateConfig,
    thumbprint: &str,
    place: &Place,
    faults: &mut Faults,
) -> Option<(CertificateForm, &'a String)> {
    let at = place.key("thumbprint");
    let file = match (&written.private_key, &written.pem, &written.pfx) {
        (Some(file), None, None) => file,
        (_, Some(_), _) | (_, _, Some(_)) => {
            faults.error(&at, "the certificate is in the file, and its thumbprint with it", "leave `thumbprint` out");
            return None;
        }
        (None, None, None) => {
            faults.error(&at, "a thumbprint names a certificate, and no key is named", "name the key's file as `private-key`");
            return None;
        }
    };
    match Thumbprint::parse(thumbprint) {
        Ok(thumbprint) => Some((CertificateForm::Key(thumbprint), file)),
        Err(fault) => {
            let cure = "write the 40 hexadecimal digits that the portal shows, or the 64 of SHA-256";
            faults.error(&at, format!("`{thumbprint}` is not a thumbprint: {fault}"), cure);
            None
        }
    }
}

/// Reports settings that a private key without its certificate cannot follow: the thumbprint has to be the one that the algorithm
/// names certificates by, and there is no chain to send.
fn suits(source: &CertificateSource, settings: AssertionConfig, place: &Place, faults: &mut Faults) -> Option<()> {
    let CertificateSource::File(CertificateFile { form: CertificateForm::Key(thumbprint), .. }) = source else { return Some(()) };
    let at = place.key("thumbprint");
    match (settings.algorithm, thumbprint) {
        (Some(AssertionAlgorithm::PS256), Thumbprint::Sha1(_)) => {
            let cure = "write the SHA-256 thumbprint (64 digits), or leave `algorithm` out: SHA-1 signs with RS256";
            faults.error(&at, "PS256 names the certificate by its SHA-256 thumbprint, and this is SHA-1", cure);
            return None;
        }
        (Some(AssertionAlgorithm::RS256), Thumbprint::Sha256(_)) => {
            let cure = "write the SHA-1 thumbprint (40 digits), or leave `algorithm` out: SHA-256 signs with PS256";
            faults.error(&at, "RS256 names the certificate by its SHA-1 thumbprint, and this is SHA-256", cure);
            return None;
        }
        _ => {}
    }
    if settings.send_certificate_chain {
        let cure = "name the certificate's file as `pem`, or leave `send-certificate-chain` out";
        faults.error(&at, "the certificate is to be sent, and only its thumbprint is known", cure);
        return None;
    }
    Some(())
}

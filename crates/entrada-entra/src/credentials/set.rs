//! The credentials of a config: built, started and maintained together.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    Credential, CredentialConfig, CredentialStatus, VaultSecretStatus,
    application::Identity,
    build::{is_many, open_secrets, stands_on},
    key_vault::{OpenedSecret, VaultSecret},
    token_cache::TokenSlot,
};
use crate::{
    base::clock::Clock,
    entra::TenantConfig,
    identity_http::IdentityHttp,
    settings::{Faults, Place, SecretCell, Secrets},
};

/// The interval of token maintenance.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// The context in which credentials are built.
#[derive(Clone, Debug)]
pub struct CredentialsContext<'a> {
    /// The tenants of the config, by name.
    pub tenants: &'a BTreeMap<String, TenantConfig>,
    /// The folder that relative paths start from.
    pub base: &'a Path,
    /// The values of the config's secrets.
    pub secrets: &'a Secrets,
    /// The client for Entra. Pass the same one again, not an equal one, as long as `identity-http` does not change.
    pub http: &'a Arc<IdentityHttp>,
    /// The clock.
    pub clock: &'a Clock,
    /// The credentials of the previous config: unchanged ones are carried over, with their tokens.
    pub previous: Option<&'a Credentials>,
}

/// The credentials of a config, by name.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    built: Arc<BTreeMap<String, Arc<Credential>>>,
    /// The named values that vaults hold, each with its vault.
    secrets: Arc<Vec<OpenedSecret>>,
    /// The credentials with faults.
    broken: BTreeSet<String>,
    tenants: BTreeMap<String, TenantConfig>,
}

/// The credentials of the same config that were built before.
#[derive(Clone, Copy)]
pub(super) struct Siblings<'a> {
    pub(super) built: &'a BTreeMap<String, Arc<Credential>>,
    pub(super) broken: &'a BTreeSet<String>,
    /// The readers of the config's secrets.
    vault_secrets: &'a [Arc<VaultSecret>],
}

impl Siblings<'_> {
    /// Returns the reader of this secret, shared by all its users.
    pub(super) fn vault_secret(&self, cell: &Arc<SecretCell>) -> Arc<VaultSecret> {
        let known = self.vault_secrets.iter().find(|secret| secret.fills(cell));
        known.cloned().unwrap_or_else(|| Arc::new(VaultSecret::new(cell.clone())))
    }
}

impl Credentials {
    /// Builds the credentials; faults go to `faults`, and faulty credentials are left out.
    pub fn build(
        configs: &BTreeMap<String, CredentialConfig>,
        context: &CredentialsContext<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Self {
        let (mut built, mut broken) = (BTreeMap::new(), BTreeSet::new());
        let vault_secrets = &vault_secrets(context);
        let mut left: Vec<_> = configs.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            // What stands on another credential is built after that one.
            left.retain(|(name, config)| {
                let waits = stands_on(config, context.secrets)
                    .iter()
                    .any(|other| configs.contains_key(other) && !built.contains_key(other) && !broken.contains(other));
                if !waits {
                    let siblings = Siblings { built: &built, broken: &broken, vault_secrets };
                    match Credential::build(name, config, context, siblings, &place.key(name), faults) {
                        Some(credential) => _ = built.insert((*name).clone(), credential),
                        None => _ = broken.insert((*name).clone()),
                    }
                }
                waits
            });
            if left.len() == before {
                for (name, config) in left.drain(..) {
                    let others = stands_on(config, context.secrets);
                    let other = others.iter().find(|other| !built.contains_key(*other)).map_or("", String::as_str);
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
        let secrets = open_secrets(context, Siblings { built: &built, broken: &broken, vault_secrets }, faults);
        Self { built: Arc::new(built), secrets: Arc::new(secrets), broken, tenants: context.tenants.clone() }
    }

    /// Returns the credential of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Credential>> {
        self.built.get(name)
    }

    /// Returns whether the config has it, but it could not be built: references to it need not report another fault.
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// Returns the id of the tenant with this name in the config, if this credential can use it: a single tenant, under the same
    /// authority.
    pub fn tenant_of(&self, credential: &Credential, name: &str) -> Option<&str> {
        let tenant = self.tenants.get(name).filter(|tenant| !is_many(&tenant.id))?;
        self.shares_authority(credential, name).then_some(&*tenant.id)
    }

    /// Returns whether this credential uses the same authority as the tenant or tenants with this name.
    pub fn shares_authority(&self, credential: &Credential, name: &str) -> bool {
        let own = &credential.authority;
        self.tenants.get(name).is_some_and(|tenant| tenant.cloud == own.cloud && tenant.authority == own.authority)
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.built.keys().map(String::as_str)
    }

    /// Starts network access on a runtime that outlives requests: every token that a route needs is fetched, so that the first
    /// request need not wait, and kept fresh as long as these credentials are in use.
    pub fn start(&self, background: &Handle) {
        for credential in self.built.values() {
            // A credential that was carried over has its runtime already.
            let _ = credential.background.handle.set(background.clone());
        }
        self.warm();
        let (built, secrets) = (Arc::downgrade(&self.built), self.secrets.clone());
        let handle = background.clone();
        background.spawn(async move {
            let mut ticks = tokio::time::interval(TEND_EVERY);
            loop {
                ticks.tick().await;
                let Some(built) = built.upgrade() else { return };
                tend(&built);
                tend_secrets(&secrets, &handle);
            }
        });
    }

    /// Starts to fetch every token that routes need.
    pub fn warm(&self) {
        for slot in self.slots() {
            slot.warm();
        }
    }

    /// Renews used tokens that are due, retries for `required` credentials without a token, and reads secrets of vaults that are
    /// due, on `background`. For a timer of some seconds.
    pub fn tend(&self, background: &Handle) {
        tend(&self.built);
        tend_secrets(&self.secrets, background);
    }

    /// Returns the vaults' named values that readiness waits for: those that were not read yet, or are `required` and missing.
    pub fn awaited_secrets(&self, now: u64) -> impl Iterator<Item = &str> {
        self.secrets.iter().filter(move |opened| opened.secret.is_awaited(now)).map(|opened| opened.secret.name())
    }

    /// Returns the status of the named values that vaults hold.
    pub fn secrets(&self, now: u64) -> Vec<VaultSecretStatus> {
        self.secrets.iter().map(|opened| opened.secret.status(now)).collect()
    }

    /// Returns the names of the `required` credentials that have no token yet.
    pub fn unready(&self) -> impl Iterator<Item = &str> {
        let lacks =
            |credential: &Credential| credential.config.required && credential.slots().iter().any(|slot| !slot.is_ready());
        self.built.values().filter(move |credential| lacks(credential)).map(|credential| &*credential.name)
    }

    /// Returns the status of each, for the status page.
    pub fn status(&self) -> Vec<CredentialStatus> {
        self.built.values().map(|credential| credential.status()).collect()
    }

    /// Waits until no secret is being read.
    #[cfg(any(test, feature = "testing"))]
    pub async fn settled(&self) {
        for opened in &*self.secrets {
            opened.settled().await;
        }
    }

    /// Returns the files whose change requires a new build.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.built.values().flat_map(|credential| credential.identity().map(Identity::files).unwrap_or_default())
    }

    fn slots(&self) -> Vec<Arc<TokenSlot>> {
        self.built.values().flat_map(|credential| credential.slots()).collect()
    }
}

/// Makes the readers of the vaults' secrets; readers of unchanged secrets are taken over from the config before.
fn vault_secrets(context: &CredentialsContext<'_>) -> Vec<Arc<VaultSecret>> {
    let before: &[OpenedSecret] = context.previous.map_or(&[], |previous| &previous.secrets);
    let fill = |cell: &Arc<SecretCell>| {
        let known = before.iter().find(|opened| opened.secret.fills(cell));
        known.map_or_else(|| Arc::new(VaultSecret::new(cell.clone())), |opened| opened.secret.clone())
    };
    context.secrets.in_vaults().map(fill).collect()
}

fn tend_secrets(secrets: &[OpenedSecret], background: &Handle) {
    for opened in secrets {
        opened.tend(background);
    }
}

fn tend(credentials: &BTreeMap<String, Arc<Credential>>) {
    for credential in credentials.values() {
        credential.warn_of_certificates();
        for slot in credential.slots() {
            slot.tend(credential.config.required);
        }
        for slot in credential.for_callers.entries() {
            slot.tend(false);
        }
        // What was exchanged for a token that has ended is of no use to anybody.
        credential.for_callers.retain(|slot| !slot.has_ended());
    }
}

//! One credential of the gateway: its tokens, and their sources.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{
    CredentialConfig,
    access_token::AccessToken,
    application::{Application, Ask, Endpoint, Identity},
    error::ForWhom,
    key_vault::{self, Vault},
    managed_identity::ManagedIdentity,
    pace::Pace,
    status::{self, CredentialStatus},
    token_cache::{Background, Fetched, TokenSlot},
    token_request::Grant,
};
use crate::base::generations::Generations;
use crate::{base::lock::lock, entra::TenantConfig, identity_http::IdentityHttp};

/// The maximum number of callers' tenants whose token endpoints are remembered.
pub(super) const MOST_TENANTS: usize = 2_000;
/// The maximum number of tokens that are kept for callers.
pub(super) const MOST_CALLERS: usize = 10_000;

/// One credential of the gateway.
pub struct Credential {
    pub(super) name: Arc<str>,
    pub(super) config: CredentialConfig,
    /// The authority, with the credential's own tenant if it has one.
    pub(super) authority: TenantConfig,
    /// The token endpoint of the credential's own tenant.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// The proof of identity at the authority, or the platform that vouches for it.
    pub(super) source: Source,
    pub(super) shared_http: Arc<IdentityHttp>,
    pub(super) background: Background,
    pub(super) slots: Mutex<BTreeMap<Box<str>, Arc<TokenSlot>>>,
    /// The token endpoints of callers' tenants.
    pub(super) elsewhere: Generations<Box<str>, Endpoint>,
    /// The tokens for callers' tenants and on behalf of users.
    pub(super) for_callers: Generations<CallerKey, TokenSlot>,
    /// The vaults that are opened with this credential, by address.
    pub(super) vaults: Mutex<BTreeMap<Url, Arc<Vault>>>,
    /// The day on which certificates were last checked, counted from 1970.
    pub(super) warned_on: AtomicU64,
    /// The tokens of the credential that this one replaces, by scope.
    pub(super) inherited: HashMap<Box<str>, Arc<AccessToken>>,
}

/// The source of tokens.
#[derive(Debug)]
pub(crate) enum Source {
    /// An application at an authority.
    Application(Arc<Application>),
    /// The platform that the gateway runs on.
    Platform(Arc<ManagedIdentity>, Arc<Pace>),
}

/// The cache key of a token for a caller: all parameters of its request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallerKey {
    tenant: Box<str>,
    scope: Box<str>,
    /// SHA-256 of the user's token.
    user: Option<[u8; 32]>,
}

/// The validated token of a user, to be exchanged.
#[derive(Clone, Copy, Debug)]
pub struct UserToken<'a> {
    /// The token as received.
    pub token: &'a SecretString,
    /// Its tenant, as validated.
    pub tenant: &'a str,
    /// Its end, in seconds since 1970.
    pub expires_at: u64,
}

impl Credential {
    /// Returns the credential's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the application id of the credential.
    pub fn client_id(&self) -> &str {
        match &self.source {
            Source::Application(application) => &application.client_id,
            Source::Platform(identity, _) => identity.which.client_id.as_deref().unwrap_or("the platform's own"),
        }
    }

    /// Returns whether it is an application that can exchange users' tokens and use several tenants; a managed identity can do
    /// neither.
    pub const fn is_application(&self) -> bool {
        matches!(self.source, Source::Application(_))
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        match &self.source {
            Source::Application(application) => Some(&application.identity),
            Source::Platform(..) => None,
        }
    }

    /// Returns whether readiness requires it.
    pub fn is_required(&self) -> bool {
        self.config.required
    }

    /// Returns whether the credential has its own tenant, which [`slot`](Self::slot) uses.
    pub const fn has_own_tenant(&self) -> bool {
        self.endpoint.is_some() || !self.is_application()
    }

    /// Returns the slot of this credential's token for `scope`, the same one for the same scope in any letter case. `None` if the
    /// credential has no tenant of its own.
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

    /// Returns the slot of this credential's token for `scope` in another tenant. The tenant was validated, or comes from the
    /// config: a caller must not choose it. `None` if it does not form a URL.
    pub fn slot_in(&self, tenant: &str, scope: &str) -> Option<Arc<TokenSlot>> {
        let Source::Application(application) = &self.source else { return None };
        let endpoint = self.endpoint_of(tenant)?;
        let key = CallerKey { tenant: tenant.to_ascii_lowercase().into(), scope: scope.to_lowercase().into(), user: None };
        Some(self.for_callers.get(&key, || self.new_slot(application, &endpoint, ForWhom::Caller, scope, None)))
    }

    /// Returns the slot of the token that this credential gets for `scope` on behalf of a user. It ends with the user's own.
    /// `None` if the tenant does not form a URL.
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
            TokenSlot::new(self.name.clone(), ForWhom::Caller, fetch, pace, self.background.clone(), None).until(expires_at)
        }))
    }

    /// Returns the token endpoint of the credential's own tenant, or of another one.
    pub(super) fn endpoint_for(&self, tenant: Option<&str>) -> Option<Arc<Endpoint>> {
        tenant.map_or_else(|| self.endpoint.clone(), |tenant| self.endpoint_of(tenant))
    }

    /// Returns the token endpoint of another tenant.
    pub fn token_endpoint_in(&self, tenant: &str) -> Option<String> {
        self.endpoint_of(tenant).filter(|_| self.is_application()).map(|endpoint| endpoint.url.to_string())
    }

    /// Returns the vault at this address, opened with this credential; one for everything that is read from it. `None` if the
    /// credential has no tenant of its own.
    pub(super) fn vault(&self, url: Url) -> Option<Arc<Vault>> {
        if let Some(vault) = lock(&self.vaults).get(&url) {
            return Some(vault.clone());
        }
        let slot = self.slot(key_vault::scope_of(&url))?;
        let (http, clock) = (IdentityHttp::clone(&self.shared_http), self.background.clock.clone());
        let vault = Arc::new(Vault { url: url.clone(), slot, http, clock, pace: Pace::default() });
        Some(lock(&self.vaults).entry(url).or_insert(vault).clone())
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

    /// Returns its status.
    pub fn status(&self) -> CredentialStatus {
        let slots: Vec<_> = lock(&self.slots).iter().map(|(scope, slot)| (scope.clone(), slot.status())).collect();
        let now = self.background.clock.unix_seconds();
        let certificates = self.identity().map(|identity| identity.certificates(now)).unwrap_or_default();
        let endpoint = self.endpoint.as_ref().map(|endpoint| endpoint.url.to_string());
        let for_callers = self.for_callers.entries().iter().filter(|slot| slot.is_ready()).count();
        let status = status::of(self.name.to_string(), &self.config, endpoint, for_callers, &certificates, slots, now);
        let vault_certificates = self.identity().map(Identity::vault_certificates).unwrap_or_default();
        CredentialStatus { vault_certificates, ..status }
    }

    /// Warns of certificates that end soon, once a day, since a gateway may run longer than a certificate is valid.
    pub(super) fn warn_of_certificates(&self) -> bool {
        let now = self.background.clock.unix_seconds();
        let today = now / 86_400;
        if self.warned_on.swap(today, Ordering::Relaxed) == today {
            return false;
        }
        let mut warned = false;
        for certificate in self.identity().map(|identity| identity.certificates(now)).unwrap_or_default() {
            if let Some((concern, cure)) = certificate.concern(now) {
                let thumbprint = certificate.thumbprint();
                tracing::warn!(credential = &*self.name, thumbprint, cure, "{concern}");
                warned = true;
            }
        }
        warned
    }

    pub(super) fn slots(&self) -> Vec<Arc<TokenSlot>> {
        lock(&self.slots).values().cloned().collect()
    }

    pub(super) fn handover(&self) -> HashMap<Box<str>, Arc<AccessToken>> {
        lock(&self.slots).iter().filter_map(|(scope, slot)| Some((scope.clone(), slot.handover()?))).collect()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).field("client_id", &self.client_id()).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn is_same_client(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Application(one), Self::Application(other)) => one.client_id == other.client_id,
            (Self::Platform(one, _), Self::Platform(other, _)) => one.which == other.which,
            (Self::Application(_) | Self::Platform(..), _) => false,
        }
    }

    /// Takes over the state of the previous config.
    pub(super) fn after(self, previous: Option<&Self>) -> Self {
        let Self::Application(application) = self else { return self };
        let previous = match previous {
            Some(Self::Application(previous)) => Some(&previous.identity),
            Some(Self::Platform(..)) | None => None,
        };
        Self::Application(match Arc::try_unwrap(application) {
            Ok(application) => {
                let identity = application.identity.after(previous);
                Arc::new(Application { identity, ..application })
            }
            Err(shared) => shared,
        })
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Application(one), Self::Application(other)) => one.identity.same_as(&other.identity),
            (Self::Platform(..), Self::Platform(..)) => true,
            (Self::Application(_) | Self::Platform(..), _) => false,
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vault_tests;

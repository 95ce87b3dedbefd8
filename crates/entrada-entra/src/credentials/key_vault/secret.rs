//! A cached secret of a vault, read again periodically and before it expires.
//!
//! The last value stays valid while the vault is unreachable, but not beyond its own expiry, nor once the vault reports it as
//! disabled or deleted. Users ask for it each time, so that a new version needs no restart.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;
use tokio::runtime::Handle;

use super::{KeptSecret, Vault, VaultError};
use crate::{
    base::{error_chain::chain, lock::lock},
    credentials::{error::Delay, pace::Pace, token_cache::random},
    settings::{CurrentSecret, KeyVaultSecretConfig, SecretCell},
};

/// The interval at which a secret is read again.
const EVERY: Duration = Duration::from_secs(300);
/// The minimum interval between readings of a secret, for any reason.
const NOT_WITHIN: Duration = Duration::from_secs(10);
/// The minimum interval between readings of a secret that is about to expire.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);

/// The reader of a named value in a vault; it fills the value's cell.
pub(crate) struct VaultSecret {
    /// The cell that it fills.
    cell: Arc<SecretCell>,
    /// Held while reading: one reading serves all waiters.
    reading: tokio::sync::Mutex<()>,
    /// The delay of the next attempt after a failure.
    pace: Pace<VaultError>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tried: bool,
    /// The time of the last reading, on the monotonic clock.
    read_at: Option<Duration>,
    next_at: Duration,
    last_failure: Option<(Arc<VaultError>, u64)>,
}

/// A secret, and the vault that it is read from.
#[derive(Clone, Debug)]
pub(crate) struct OpenedSecret {
    pub(crate) secret: Arc<VaultSecret>,
    pub(crate) vault: Arc<Vault>,
}

/// The status of a vault's secret.
#[derive(Clone, Debug, Serialize)]
pub struct VaultSecretStatus {
    /// Returns the name of the named value.
    pub name: String,
    /// The vault.
    pub vault: String,
    /// The secret's name there.
    pub secret: String,
    /// True if its value is known.
    pub ready: bool,
    /// The version in use.
    pub version: Option<String>,
    /// Its expiry, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// The last failure, if any.
    pub last_error: Option<String>,
    /// The remedy.
    pub cure: Option<&'static str>,
    /// The time of the last failure, in seconds since 1970.
    pub last_error_at: Option<u64>,
}

impl VaultSecret {
    /// Makes a secret that was not read yet.
    pub(crate) fn new(cell: Arc<SecretCell>) -> Self {
        Self { cell, reading: tokio::sync::Mutex::default(), pace: Pace::default(), state: Mutex::default() }
    }

    /// Returns whether it fills this cell.
    pub(crate) fn fills(&self, cell: &Arc<SecretCell>) -> bool {
        Arc::ptr_eq(&self.cell, cell)
    }

    /// Returns the name of the named value.
    pub(crate) fn name(&self) -> &str {
        self.cell.name()
    }

    /// Returns its settings.
    pub(crate) fn config(&self) -> &KeyVaultSecretConfig {
        self.cell.config()
    }

    /// Returns whether readiness waits for it.
    pub(crate) fn is_awaited(&self, now: u64) -> bool {
        let tried = lock(&self.state).tried;
        !tried || (self.config().required && self.cell.value(now).is_none())
    }

    /// Returns the last failure to read it, if any.
    pub(crate) fn last_failure(&self) -> Option<Arc<VaultError>> {
        lock(&self.state).last_failure.as_ref().map(|(failure, _)| failure.clone())
    }

    pub(crate) fn status(&self, now: u64) -> VaultSecretStatus {
        let current = self.cell.current();
        let failure = lock(&self.state).last_failure.clone();
        VaultSecretStatus {
            name: self.name().to_owned(),
            vault: self.config().vault.clone(),
            secret: self.config().secret.clone(),
            ready: self.cell.value(now).is_some(),
            version: current.as_ref().and_then(|current| current.version.clone()).map(Into::into),
            expires_at: current.and_then(|current| current.expires_at),
            last_error: failure.as_ref().map(|(failure, _)| chain(&**failure)),
            cure: failure.as_ref().and_then(|(failure, _)| failure.cure()),
            last_error_at: failure.map(|(_, at)| at),
        }
    }
}

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSecret").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl OpenedSecret {
    /// Reads the secret in the background if that is due. For a timer of some seconds.
    pub(crate) fn tend(&self, background: &Handle) {
        let now = self.vault.clock.monotonic();
        let due = lock(&self.secret.state).next_at <= now && self.secret.pace.held(now).is_none();
        if due && self.secret.reading.try_lock().is_ok() {
            let opened = self.clone();
            background.spawn(async move { opened.read(Duration::ZERO).await });
        }
    }

    /// Waits until no reading is in progress.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn settled(&self) {
        drop(self.secret.reading.lock().await);
    }

    /// Reads the secret because its value was refused; once for all concurrent callers.
    pub(crate) async fn read_again(&self) {
        self.read(NOT_WITHIN).await;
    }

    /// Reads the secret, unless it was read within this time.
    async fn read(&self, not_within: Duration) {
        let _one = self.secret.reading.lock().await;
        let now = self.vault.clock.monotonic();
        let read_at = lock(&self.secret.state).read_at;
        // Somebody else's reading, for which this one has waited, is as good as its own.
        if read_at.is_some_and(|at| now < at + not_within) || self.secret.pace.held(now).is_some() {
            return;
        }
        let KeyVaultSecretConfig { secret, version, .. } = self.secret.config();
        let read = self.vault.secret(secret, version.as_deref()).await;
        self.settle(read);
    }

    fn settle(&self, read: Result<KeptSecret, Arc<VaultError>>) {
        let (clock, secret) = (&self.vault.clock, &self.secret);
        let (now, wall) = (clock.monotonic(), clock.unix_seconds());
        let read = read.and_then(|kept| match (kept.not_before, kept.expires_at) {
            (Some(start), _) if wall < start => Err(VaultError::OutOfTime("is not valid yet").into()),
            (_, Some(end)) if end <= wall => Err(VaultError::OutOfTime("has ended").into()),
            _ => Ok(kept),
        });
        let failure = match read {
            Ok(kept) => {
                secret.pace.release();
                // Replicas that started together do not read together.
                let every = EVERY.mul_f64(0.9 + random() / 10.0);
                // One that is about to end has a successor soon, or has it already when half of what is left has passed.
                let left = kept.expires_at.map(|end| Duration::from_secs(end - wall) / 2);
                let next_at = now + left.map_or(every, |left| every.min(left.max(AT_MOST_EVERY)));
                let before = secret.cell.current();
                let version = kept.version.as_deref().unwrap_or_default();
                if before.is_none_or(|before| before.version != kept.version) {
                    tracing::info!(
                        named_value = secret.name(),
                        version,
                        expires_at = kept.expires_at,
                        "secret read from its vault"
                    );
                }
                secret.cell.set(Some(CurrentSecret {
                    value: Arc::new(kept.value),
                    version: kept.version,
                    expires_at: kept.expires_at,
                }));
                *lock(&secret.state) = State { tried: true, read_at: Some(now), next_at, last_failure: None };
                return;
            }
            Err(failure) => failure,
        };
        let withdrawn = failure.is_withdrawn();
        if withdrawn && !matches!(*failure, VaultError::OutOfTime("is not valid yet")) {
            secret.cell.set(None);
        }
        secret.pace.hold(now, &failure, Delay::Growing, random());
        tracing::warn!(
            named_value = secret.name(),
            error = chain(&*failure),
            cure = failure.cure(),
            serving = secret.cell.value(wall).is_some(),
            "the secret cannot be read from its vault"
        );
        let mut state = lock(&secret.state);
        state.tried = true;
        state.last_failure = Some((failure, wall));
    }
}

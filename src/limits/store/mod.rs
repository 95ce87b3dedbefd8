//! Counts that several gateways share: in a Redis or a Valkey, by scripts that run there, with its clock.
//!
//! Every gateway asks the same script on the same key, so that a limit holds over all of them, whichever of them asked, and whatever
//! became of the others. Keys do not tell who calls: they are keyed hashes. A store that does not answer in time is left alone for a
//! while ([`Breaker`]), and what then happens each policy says.

mod ahead;
mod build;
mod config;
mod counter;
mod counts;
mod examine;
mod logins;
mod permits;

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::RootCertStore;
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use self::{
    build::{StoreContext, lint_quota},
    config::{OnStoreFailureConfig, RedisConfig, StoreConfig},
    counter::{SharedCounter, SharedKind, SharedReceipt},
    counts::StoreStatus,
    permits::{SharedPermit, SharedPermits},
};
use self::{counts::StoreCounts, logins::LoginSource, permits::Permits};
use crate::{
    base::lock::lock,
    redis::{Client, Failure, Reply, Script, Settings, breaker::Breaker},
    refusal::{Reason, Refusal},
};

/// The version of what is stored: values of another one are never read.
const VERSION: &str = "1";

/// A store that several gateways share.
pub(crate) struct Store {
    identity: Identity,
    /// The settings of the client, until it is started.
    settings: Mutex<Option<Settings>>,
    client: OnceLock<Client>,
    breaker: Breaker,
    scripts: Scripts,
    /// The key that callers are hashed with.
    key: hmac::Key,
    counts: StoreCounts,
    permits: Permits,
    /// True once a policy counts here.
    is_used: AtomicBool,
}

/// The settings that a store was built from, for finding out whether a later config has the same.
struct Identity {
    config: RedisConfig,
    login: LoginSource,
    sentinel_password: Option<SecretString>,
    /// A hash of the secret that callers are hashed with.
    key_secret: Box<[u8]>,
    authorities: Option<Arc<RootCertStore>>,
}

struct Scripts {
    rate: Script,
    quota: Script,
    permit: Script,
}

/// The hash of a policy and a caller, which a key is made of.
type Name = [u8; 16];

/// An error: the store has not answered, or is not asked at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreUnavailable {
    /// It failed.
    #[error("the limit store failed")]
    Failed(#[source] Failure),
    /// It has failed repeatedly, and is asked again later.
    #[error("the limit store has failed repeatedly and is asked again in {} ms", .0.as_millis())]
    Resting(Duration),
}

impl From<StoreUnavailable> for Refusal {
    fn from(error: StoreUnavailable) -> Self {
        let wait = if let StoreUnavailable::Resting(wait) = &error { wait.as_secs() + 1 } else { 1 };
        let mut refusal = Self::new(Reason::LimitStoreUnavailable, error);
        refusal.retry_after = Some(u32::try_from(wait).unwrap_or(u32::MAX));
        refusal
    }
}

impl Store {
    fn new(identity: Identity, settings: Settings, key: hmac::Key) -> Self {
        Self {
            identity,
            settings: Mutex::new(Some(settings)),
            client: OnceLock::new(),
            breaker: Breaker::default(),
            scripts: Scripts {
                rate: Script::new(include_str!("scripts/rate.lua")),
                quota: Script::new(include_str!("scripts/quota.lua")),
                permit: Script::new(include_str!("scripts/permit.lua")),
            },
            key,
            counts: StoreCounts::default(),
            permits: Permits::default(),
            is_used: AtomicBool::new(false),
        }
    }

    /// Starts to connect, once; does nothing if it was started.
    pub(crate) fn start(self: &Arc<Self>) {
        let Some(settings) = lock(&self.settings).take() else { return };
        match Client::start(settings) {
            Ok(client) => {
                let client = self.client.get_or_init(|| client);
                client.spawn(permits::tend(Arc::downgrade(self)));
            }
            Err(error) => {
                tracing::error!(%error, "the limit store's thread cannot be started, so no shared limit can be counted")
            }
        }
    }

    /// Returns whether a policy of the config counts here.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Waits until permits that were given up are given back, for a process that ends; not for long.
    pub(crate) fn finish(&self, longest: Duration) {
        let deadline = Instant::now() + longest;
        while self.permits.are_giving() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Runs a script on the key of this name; `kind` tells keys of one name apart. Returns the numbers that it answers with.
    async fn run<const N: usize>(
        &self,
        script: &Script,
        (name, kind): (&Name, char),
        arguments: &[&[u8]],
    ) -> Result<[i64; N], StoreUnavailable> {
        let began = Instant::now();
        let attempt = self.breaker.attempt(began).map_err(|wait| {
            self.counts.rested();
            StoreUnavailable::Resting(wait)
        })?;
        let result = match self.client.get() {
            Some(client) => client.run(script, self.key_of(name, kind).as_bytes(), arguments).await,
            None => Err(Failure::NotRunning),
        };
        let result = result.and_then(|reply| numbers(&reply).ok_or(Failure::Unexpected));
        let now = Instant::now();
        self.counts.asked(now - began, result.as_ref().err());
        match result {
            Ok(numbers) => {
                if attempt.succeeded() {
                    tracing::warn!("the limit store answers again");
                }
                Ok(numbers)
            }
            Err(failure) => {
                if attempt.failed(now, jitter()) {
                    tracing::error!(
                        error = %failure,
                        kind = failure.kind().as_str(),
                        "the limit store fails: each limit does as `on-store-failure` says until it answers again"
                    );
                }
                Err(StoreUnavailable::Failed(failure))
            }
        }
    }

    /// Returns the hash of a policy and a caller. The policy's text has its limit in it, so that another limit begins anew.
    fn name(&self, policy: &[u8], caller: &[u8]) -> Name {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(policy);
        context.update(&[0]);
        context.update(caller);
        let mut name = Name::default();
        name.copy_from_slice(&context.sign().as_ref()[..size_of::<Name>()]);
        name
    }

    /// Returns the key of a name. What is in braces decides on the node of a cluster.
    fn key_of(&self, name: &Name, kind: char) -> String {
        format!("{}:{VERSION}:{{{}}}:{kind}", self.identity.config.prefix, URL_SAFE_NO_PAD.encode(name))
    }
}

impl Identity {
    fn same_as(&self, other: &Self) -> bool {
        let secret = |identity: &Self| identity.sentinel_password.as_ref().map(|secret| secret.expose_secret().to_owned());
        let roots = match (&self.authorities, &other.authorities) {
            (Some(own), Some(others)) => own.roots == others.roots,
            (None, None) => true,
            _ => false,
        };
        roots
            && self.config == other.config
            && self.login.same_as(&other.login)
            && self.key_secret == other.key_secret
            && secret(self) == secret(other)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("url", &self.identity.config.url).finish_non_exhaustive()
    }
}

/// Returns the numbers of a script's answer.
fn numbers<const N: usize>(reply: &Reply) -> Option<[i64; N]> {
    let list = reply.list();
    if list.len() != N {
        return None;
    }
    let mut numbers = [0; N];
    for (number, reply) in numbers.iter_mut().zip(list) {
        *number = reply.integer()?;
    }
    Some(numbers)
}

/// Returns a number from 0 to 1 that differs between gateways and times.
fn jitter() -> f64 {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    (bits >> 32) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;

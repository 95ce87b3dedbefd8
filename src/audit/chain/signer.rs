//! Signers of seals: a key of this machine, or one that stays in a vault.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};

use serde_json::Value;
use tokio::runtime::Handle;

use crate::{base::lock::lock, credentials::VaultSigner, identity::SigningKey};

/// The time that the last seal waits for a vault.
const PATIENCE: Duration = Duration::from_secs(5);

/// A signature, with the key that verifies it.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) signature: Vec<u8>,
    pub(super) algorithm: &'static str,
    pub(super) key_id: String,
    /// The public key as a JSON Web Key.
    pub(super) public_key: Value,
}

/// A signature, or the reason why there is none; nothing as long as it is awaited.
type Awaited = Mutex<Option<Result<Signed, String>>>;

/// The answer to a request for a signature.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer(Arc<(Awaited, Condvar)>);

impl Answer {
    /// Returns the answer if it is there, or comes within this time.
    pub(super) fn get(&self, patience: Duration) -> Option<Result<Signed, String>> {
        let (slot, changed) = &*self.0;
        let slot = lock(slot);
        if slot.is_some() || patience.is_zero() {
            return slot.clone();
        }
        changed.wait_timeout_while(slot, patience, |slot| slot.is_none()).ok().and_then(|(slot, _)| slot.clone())
    }

    fn give(&self, answer: Result<Signed, String>) {
        *lock(&self.0.0) = Some(answer);
        self.0.1.notify_all();
    }
}

/// A signer of seals.
#[derive(Debug)]
pub(in crate::audit) enum Signer {
    /// A key of this machine.
    Here(Box<SigningKey>),
    /// A key in a vault, and the runtime that asks for its signatures.
    Vault(Arc<VaultSigner>, OnceLock<Handle>),
}

impl Signer {
    /// Returns a signer with a key of this machine.
    pub(in crate::audit) fn here(key: SigningKey) -> Self {
        Self::Here(Box::new(key))
    }

    /// Returns a signer with a key in a vault.
    pub(in crate::audit) fn in_vault(vault: VaultSigner) -> Self {
        Self::Vault(Arc::new(vault), OnceLock::new())
    }

    /// Lets signatures of a vault be asked for on this runtime.
    pub(in crate::audit) fn start(&self, background: &Handle) {
        if let Self::Vault(_, handle) = self {
            let _ = handle.set(background.clone());
        }
    }

    /// Returns the time that the last seal waits.
    pub(super) const fn patience(&self) -> Duration {
        match self {
            Self::Here(_) => Duration::ZERO,
            Self::Vault(..) => PATIENCE,
        }
    }

    /// Asks for a signature of a text.
    pub(super) fn sign(&self, text: Vec<u8>) -> Answer {
        let answer = Answer::default();
        match self {
            Self::Here(key) => answer.give(sign_here(key, &text)),
            Self::Vault(vault, handle) => match handle.get() {
                Some(handle) => {
                    let (vault, answer) = (vault.clone(), answer.clone());
                    handle.spawn(async move {
                        let signed = vault.sign(&text).await;
                        let signed = signed.map_err(|error| crate::base::error_chain::chain(&*error)).and_then(|signed| {
                            let key = SigningKey::public_key(&signed.certificate).ok_or("the certificate has no RSA key")?;
                            let key_id = key["kid"].as_str().unwrap_or_default().to_owned();
                            Ok(Signed { signature: signed.signature, algorithm: "PS256", key_id, public_key: key })
                        });
                        answer.give(signed);
                    });
                }
                None => answer.give(Err("no vault is asked before the gateway runs".to_owned())),
            },
        }
        answer
    }
}

fn sign_here(key: &SigningKey, text: &[u8]) -> Result<Signed, String> {
    let signature = key.sign(text).map_err(|error| error.to_string())?;
    Ok(Signed { signature, algorithm: key.algorithm(), key_id: key.kid().to_owned(), public_key: key.jwk().clone() })
}

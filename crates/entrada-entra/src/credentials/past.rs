//! Earlier versions of a vault's certificate.
//!
//! A vault renews a certificate automatically, but the new version has to be uploaded to the app registration by hand. A gateway
//! that starts in between finds a newest version that Entra does not know: it looks for the version that Entra accepts, newest
//! first, and uses that. The newest one is tried again at intervals.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::MutexGuard;

use super::{
    certificates::{CertificateSource, Certificates, Kept, VaultSource},
    signing_certificate::SigningCertificate,
    status::VaultCertificateStatus,
};
use crate::base::{clock::Clock, error_chain::chain, lock::lock};

/// The maximum number of versions that are tried besides the newest one.
const MOST_VERSIONS: usize = 5;
/// The time after its refusal at which the newest version is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(15 * 60);

/// The newest version of a certificate, refused by Entra.
#[derive(Debug)]
pub(super) struct RefusedVersion {
    /// Its id.
    id: String,
    /// Entra's own code.
    code: Option<String>,
    /// The time of the last attempt, on the monotonic clock.
    at: Duration,
}

/// The older versions, during a token request.
pub(super) struct Past<'c> {
    certificates: &'c Certificates,
    /// The versions still to be tried, each with the number of its source; `None` before the vaults were asked.
    listed: Option<VecDeque<(usize, Box<str>)>>,
    /// The reasons why some cannot be tried.
    notes: Vec<String>,
    _alone: MutexGuard<'c, ()>,
}

impl<'c> Past<'c> {
    /// Waits until nobody else tries the same.
    pub(super) async fn of(certificates: &'c Certificates) -> Self {
        Self { certificates, listed: None, notes: Vec::new(), _alone: certificates.looking_back.lock().await }
    }

    /// Returns the next version to try: not one of `tried`, not disabled, and within its validity.
    ///
    /// Returns the number of its source as well.
    pub(super) async fn next(
        &mut self,
        tried: &[Arc<SigningCertificate>],
        clock: &Clock,
    ) -> Option<(usize, Arc<SigningCertificate>)> {
        if self.listed.is_none() {
            self.listed = Some(self.list(tried, clock).await);
        }
        while let Some((index, version)) = self.listed.as_mut().and_then(VecDeque::pop_front) {
            let CertificateSource::Vault(source) = &self.certificates.kept()[index].source else { continue };
            match source.read_version(&version).await {
                Ok(signer) => return Some((index, Arc::new(signer))),
                Err(error) => self.note(source, &format!("the version {version} of"), &chain(&*error)),
            }
        }
        None
    }

    /// Returns the reasons why some could not be tried.
    pub(super) fn notes(self) -> Vec<String> {
        self.notes
    }

    async fn list(&mut self, tried: &[Arc<SigningCertificate>], clock: &Clock) -> VecDeque<(usize, Box<str>)> {
        let mut all = VecDeque::new();
        for (index, kept) in self.certificates.kept().iter().enumerate() {
            // A version that is pinned is the one that is meant.
            let CertificateSource::Vault(source @ VaultSource { version: None, .. }) = &kept.source else { continue };
            match source.vault.certificate_versions(&source.name).await {
                Ok(mut versions) => {
                    versions.retain(|listed| {
                        let is_tried = |signer: &Arc<SigningCertificate>| {
                            signer.certificate().is_some_and(|tried| listed.x5t.as_deref() == Some(&*tried.x5t()))
                        };
                        listed.is_usable(clock.unix_seconds()) && !tried.iter().any(is_tried)
                    });
                    versions.sort_by_key(|listed| std::cmp::Reverse(listed.created()));
                    all.extend(versions.into_iter().take(MOST_VERSIONS).map(|listed| (index, listed.version)));
                }
                Err(error) => {
                    let cure = error.cure().map(|cure| format!(" ({cure})")).unwrap_or_default();
                    self.note(source, "the versions of", &format!("{}{cure}", chain(&*error)));
                }
            }
        }
        all
    }

    fn note(&mut self, source: &VaultSource, what: &str, why: &str) {
        let name = &*source.name;
        tracing::warn!(name, error = why, "{what} the certificate in the vault cannot be read");
        self.notes.push(format!("{what} the certificate {name} in the vault cannot be read: {why}"));
    }
}

impl Certificates {
    /// Remembers that a certificate was refused, if it is the newest version of a vault's.
    pub(super) fn doubt(&self, signer: &SigningCertificate, code: Option<&str>, clock: &Clock) {
        for kept in self.kept().iter().filter(|kept| kept.follows() && kept.has_newest(signer)) {
            let id = signer.id();
            *lock(&kept.refused) = Some(RefusedVersion { id, code: code.map(str::to_owned), at: clock.monotonic() });
        }
    }

    /// Keeps an accepted older version from the vault of a source.
    pub(super) fn keep(&self, index: usize, signer: &Arc<SigningCertificate>) {
        let kept = &self.kept()[index];
        kept.found.store(Some(signer.clone()));
        if let CertificateSource::Vault(source) = &kept.source {
            let (name, newest, used, cure) =
                (&*source.name, kept.newest_version(), signer.version(), VaultCertificateStatus::CURE);
            tracing::warn!(
                name,
                newest,
                used,
                cure,
                "Entra does not accept the newest version of the vault's certificate; an older one is used"
            );
        }
    }

    /// Forgets the refusal of a newest version once it is accepted.
    pub(super) fn told_of_accepted(&self, signer: &SigningCertificate) {
        for kept in self.kept().iter().filter(|kept| kept.has_newest(signer)) {
            if lock(&kept.refused).take().is_some()
                && let CertificateSource::Vault(source) = &kept.source
            {
                let (name, version) = (&*source.name, signer.version());
                tracing::info!(name, version, "Entra accepts the newest version of the vault's certificate now");
            }
        }
    }

    /// Returns the newest version of a vault's certificate if its refusal is old enough for another try.
    pub(super) fn newest_again(&self, clock: &Clock) -> Option<Arc<SigningCertificate>> {
        let now = clock.monotonic();
        self.kept().iter().find_map(|kept| {
            let newest = kept.newest.load_full()?;
            let mut refused = lock(&kept.refused);
            let refused = refused.as_mut().filter(|refused| now >= refused.at + TRY_AGAIN)?;
            // Whoever asks at the same time goes on with the one that is accepted.
            refused.at = now;
            Some(newest)
        })
    }

    /// Returns the versions of the vaults' certificates in use.
    pub(super) fn vault_status(&self) -> Vec<VaultCertificateStatus> {
        let accepted = self.accepted();
        let of = |kept: &Kept| {
            let CertificateSource::Vault(source) = &kept.source else { return None };
            let newest_version = kept.newest_version();
            let used = accepted.as_ref().filter(|used| kept.gave(used)).and_then(|used| used.version().map(str::to_owned));
            let refused = lock(&kept.refused);
            let refused =
                refused.as_ref().filter(|refused| kept.newest.load_full().is_some_and(|newest| newest.id() == refused.id));
            let note = refused.map(|refused| {
                let code = refused.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
                let newest = newest_version.as_deref().unwrap_or("the newest");
                let instead = match (&used, &accepted) {
                    (Some(used), _) => format!("version {used} is used"),
                    (None, Some(_)) => "another certificate is used".to_owned(),
                    (None, None) => "no other one is accepted".to_owned(),
                };
                format!("version {newest} of the certificate {} in the vault is not registered{code}; {instead}", source.name)
            });
            Some(VaultCertificateStatus { name: source.name.clone(), newest_version, used_version: used, note })
        };
        self.kept().iter().filter_map(of).collect()
    }
}

impl Kept {
    /// Returns whether it is a vault's certificate whose versions are followed.
    fn follows(&self) -> bool {
        matches!(&self.source, CertificateSource::Vault(VaultSource { version: None, .. }))
    }

    fn has_newest(&self, signer: &SigningCertificate) -> bool {
        self.newest.load_full().is_some_and(|newest| newest.is(signer))
    }

    fn newest_version(&self) -> Option<String> {
        self.newest.load_full()?.version().map(str::to_owned)
    }

    /// Returns whether the certificate came from this source: a version of the same vault and, if its key tells it, of the same
    /// name.
    fn gave(&self, signer: &SigningCertificate) -> bool {
        let CertificateSource::Vault(source) = &self.source else { return false };
        match signer {
            SigningCertificate::InVault(kept, vault) => {
                Arc::ptr_eq(vault, &source.vault)
                    && kept
                        .key
                        .path_segments()
                        .and_then(|mut path| path.nth(1))
                        .is_some_and(|name| name.eq_ignore_ascii_case(&source.name))
            }
            SigningCertificate::Downloaded(..) => {
                let known = [self.newest.load_full(), self.found.load_full(), self.older.load_full()];
                known.into_iter().flatten().any(|known| known.is(signer))
            }
            SigningCertificate::Here(_) | SigningCertificate::KeyOnly(_) => false,
        }
    }
}

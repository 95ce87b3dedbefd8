//! Rehearsal of a rotation: a token is acquired with each certificate, key version and identity that the next one would use.
//!
//! Each is tried by itself, with the code of real token requests, at an endpoint that keeps nothing. What serves is not touched: no
//! certificate is remembered as accepted or refused, and no token is kept.

use std::{collections::BTreeSet, sync::Arc};

use secrecy::SecretString;
use serde::Serialize;

use super::{
    AssertionConfig, Credential, CredentialError,
    application::{Application, Ask, Endpoint, Identity},
    certificates::{CertificateSource, Certificates, VaultSource},
    credential::Source,
    error::Failure,
    examine::{Links, Outcome, Step},
    signing_certificate::SigningCertificate,
    token_request::{Grant, Proof},
};
use crate::{
    base::text,
    certificate::keys::{self, days_in_words},
};

/// The versions of a vault's certificate that are tried, the newest first.
const MOST_VERSIONS: usize = 6;
/// The days before an end from which on it is told as a warning.
const WARN_DAYS: i64 = 30;

/// One thing that a token was requested with.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsed {
    /// The kind of secret or identity, and where it comes from.
    pub what: String,
    /// Its part: `newest`, `older`, `listed` (in a file) or `only`.
    pub part: &'static str,
    /// The outcome: `ok` if Entra gave a token.
    pub outcome: Outcome,
    /// The finding.
    pub found: String,
    /// Entra's own code, if Entra answered with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The end of its validity, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
    /// The whole days until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    /// The remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// The result of a rehearsal.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsal {
    /// The scope of the tokens.
    pub scope: String,
    /// Each thing that was tried.
    pub tried: Vec<Rehearsed>,
    /// When tokens would no longer be had, if nothing is done; absent if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaks_at: Option<u64>,
    /// The outcome of the next rotation, in words.
    pub verdict: String,
    /// True if each of them gets a token.
    pub holds: bool,
}

/// A request of a rehearsal.
struct Trial<'a> {
    application: &'a Application,
    endpoint: Endpoint,
    scope: &'a str,
    now: u64,
}

impl Credential {
    /// Rehearses the next rotation with tokens for this scope, in the credential's own tenant or in another one.
    pub async fn rehearse(&self, tenant: Option<&str>, scope: &str) -> Rehearsal {
        let now = self.background.clock.unix_seconds();
        let tried = match &self.source {
            Source::Platform(identity, _) => {
                let fetched = match self.slot_for(tenant, scope) {
                    Some(slot) => slot.token().await.map(drop).map_err(|error| error.failure),
                    None => return Rehearsal::of(scope, Vec::new(), now),
                };
                let what = format!("the identity of {}", identity.platform);
                vec![match fetched {
                    Ok(()) => Rehearsed::of(what, "only", None, now),
                    Err(failure) => Rehearsed::of(what, "only", None, now).failed(&failure),
                }]
            }
            Source::Application(application) => match self.endpoint_for(tenant) {
                Some(endpoint) => {
                    // One of its own: nothing that is signed or refused here is known to what serves.
                    let endpoint = Endpoint::new(endpoint.url.clone());
                    Trial { application, endpoint, scope, now }.all().await
                }
                None => {
                    let mut none = Rehearsed::of("the credential".to_owned(), "only", None, now);
                    none.outcome = Outcome::Failed;
                    "it has no tenant of its own: each route names one".clone_into(&mut none.found);
                    none.cure = Some("say which one to try, as --tenant".to_owned());
                    vec![none]
                }
            },
        };
        Rehearsal::of(scope, tried, now)
    }
}

impl Trial<'_> {
    async fn all(&self) -> Vec<Rehearsed> {
        match &self.application.identity {
            Identity::Certificates(certificates) => self.certificates(certificates).await,
            Identity::Secret(secret) => {
                // Read anew from its vault: that is what a rotation would find.
                secret.read_again().await;
                let what = "the client secret".to_owned();
                let Some(value) = secret.secret.value(self.now) else {
                    let failures = secret.opened.iter().filter_map(|opened| opened.secret.last_failure());
                    let failure = failures.map(Failure::Vault).next().unwrap_or(Failure::NoSecret);
                    return vec![Rehearsed::of(what, "only", None, self.now).failed(&failure)];
                };
                vec![self.proven(Rehearsed::of(what, "only", None, self.now), Proof::Secret(&value)).await]
            }
            Identity::File(file) => {
                let tried = Rehearsed::of(format!("the federated token in {}", file.display()), "only", None, self.now);
                let read = keys::read_file(file).map_err(Failure::from);
                let token = read.and_then(|bytes| {
                    text::decode(&bytes).map(|text| SecretString::from(text.trim())).map_err(|_| Failure::FederatedFile)
                });
                vec![match token {
                    Ok(token) => self.proven(tried, Proof::Assertion(&token)).await,
                    Err(failure) => tried.failed(&failure),
                }]
            }
            Identity::Managed(slot) => {
                let name = slot.credential().clone();
                let tried = Rehearsed::of(format!("the managed identity {name}"), "only", None, self.now);
                vec![match slot.token().await {
                    Ok(token) => self.proven(tried, Proof::Assertion(&token.expose().into())).await,
                    Err(CredentialError { failure, .. }) => tried.failed(&failure),
                }]
            }
        }
    }

    async fn certificates(&self, certificates: &Certificates) -> Vec<Rehearsed> {
        let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
        for (source, _) in certificates.sources() {
            match source {
                CertificateSource::File(file) => {
                    let what = format!("the certificate in {}", file.file.display());
                    match file.load() {
                        Ok(signer) => {
                            if seen.insert(signer.id()) {
                                all.push(self.held(what, "listed", Arc::new(signer), certificates.settings).await);
                            }
                        }
                        Err(error) => all.push(Rehearsed::of(what, "listed", None, self.now).failed(&error.into())),
                    }
                }
                CertificateSource::Vault(source) => {
                    self.vault(source, certificates.settings, &mut seen, &mut all).await;
                }
            }
        }
        all
    }

    /// Tries the versions of a vault's certificate that could serve: the newest, and those before it.
    async fn vault(
        &self,
        source: &VaultSource,
        settings: AssertionConfig,
        seen: &mut BTreeSet<String>,
        all: &mut Vec<Rehearsed>,
    ) {
        let name = &*source.name;
        let what = |version: &str| format!("version {version} of the certificate {name} in the vault");
        if let Some(version) = &source.version {
            return all.push(self.version(source, version, ("only", what(version)), settings).await);
        }
        let mut versions = match source.vault.certificate_versions(name).await {
            Ok(versions) => versions,
            Err(error) => {
                let what = format!("the versions of the certificate {name} in the vault");
                all.push(Rehearsed::of(what, "newest", None, self.now).failed(&Failure::Vault(error)));
                return;
            }
        };
        versions.retain(|listed| listed.is_usable(self.now));
        versions.sort_by_key(|listed| std::cmp::Reverse(listed.created()));
        for (index, listed) in versions.iter().take(MOST_VERSIONS).enumerate() {
            let part = if index == 0 { "newest" } else { "older" };
            if seen.insert(format!("{name}/{}", listed.version)) {
                all.push(self.version(source, &listed.version, (part, what(&listed.version)), settings).await);
            }
        }
        if versions.is_empty() {
            let mut none = Rehearsed::of(format!("the certificate {name} in the vault"), "newest", None, self.now);
            none.outcome = Outcome::Failed;
            "no version is enabled and within its validity".clone_into(&mut none.found);
            none.cure = Some("make a new version of it, and upload its certificate to the app registration".to_owned());
            all.push(none);
        }
    }

    async fn version(
        &self,
        source: &VaultSource,
        version: &str,
        (part, what): (&'static str, String),
        settings: AssertionConfig,
    ) -> Rehearsed {
        match source.read_version(version).await {
            Ok(signer) => self.held(what, part, Arc::new(signer), settings).await,
            Err(error) => Rehearsed::of(what, part, None, self.now).failed(&Failure::Vault(error)),
        }
    }

    /// Requests a token with this certificate alone.
    async fn held(
        &self,
        what: String,
        part: &'static str,
        signer: Arc<SigningCertificate>,
        settings: AssertionConfig,
    ) -> Rehearsed {
        let what = match signer.certificate() {
            Some(certificate) => format!("{what} ({}, thumbprint {})", certificate.subject(), certificate.thumbprint()),
            None => format!("{what} (thumbprint {})", signer.thumbprint()),
        };
        let tried = Rehearsed::of(what, part, signer.certificate().map(|certificate| certificate.not_after()), self.now);
        match self.application.ask_with(&signer, settings, &self.endpoint, self.ask()).await {
            Ok(_) => tried,
            Err(failure) => tried.failed(&failure),
        }
    }

    async fn proven(&self, tried: Rehearsed, proof: Proof<'_>) -> Rehearsed {
        match self.application.send(proof, &self.endpoint, self.ask()).await {
            Ok(_) => tried,
            Err(failure) => tried.failed(&failure),
        }
    }

    const fn ask(&self) -> Ask<'_> {
        Ask { scope: self.scope, grant: Grant::ClientCredentials, claims: None }
    }
}

impl Rehearsed {
    /// Makes one that gets a token.
    fn of(what: String, part: &'static str, ends_at: Option<u64>, now: u64) -> Self {
        let days_left = ends_at.map(|end| (end.cast_signed() - now.cast_signed()).div_euclid(86_400));
        let soon = days_left.filter(|days| *days < WARN_DAYS);
        let found = match days_left {
            Some(days) => format!("Entra gives a token; {}", days_in_words(days)),
            None => "Entra gives a token".to_owned(),
        };
        Self {
            what,
            part,
            outcome: if soon.is_some() { Outcome::Warning } else { Outcome::Ok },
            found,
            code: None,
            ends_at,
            days_left,
            cure: soon.map(|_| "make its successor, upload that to the app registration, and rehearse again".to_owned()),
        }
    }

    fn failed(mut self, failure: &Failure) -> Self {
        let mut links = Links::default();
        let _ = links.failure("token", "", failure);
        let Step { found, code, cure, .. } = links.last().unwrap_or_else(|| Step::new("token", Outcome::Failed, "no token"));
        (self.outcome, self.found, self.code, self.cure) = (Outcome::Failed, found, code, cure);
        self
    }

    const fn gets_a_token(&self) -> bool {
        matches!(self.outcome, Outcome::Ok | Outcome::Warning)
    }
}

impl Rehearsal {
    fn of(scope: &str, mut tried: Vec<Rehearsed>, now: u64) -> Self {
        // One that was replaced need not be accepted any more.
        for older in tried.iter_mut().filter(|tried| tried.part == "older" && tried.outcome == Outcome::Failed) {
            older.outcome = Outcome::Skipped;
            older.cure = None;
        }
        let good: Vec<&Rehearsed> = tried.iter().filter(|tried| tried.gets_a_token()).collect();
        let holds = !tried.is_empty() && tried.iter().all(|tried| tried.outcome != Outcome::Failed);
        // One whose end is not known may go on for ever.
        let last = good.iter().map(|tried| tried.ends_at).collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
        let in_words = |end: u64| {
            let day = jiff::Timestamp::from_second(end.cast_signed()).map(|end| end.strftime("%Y-%m-%d").to_string());
            let days = (end.cast_signed() - now.cast_signed()).div_euclid(86_400);
            format!("{} ({})", day.unwrap_or_default(), if days == 1 { "in 1 day".to_owned() } else { format!("in {days} days") })
        };
        let (breaks_at, verdict) = match (good.is_empty(), holds, last) {
            (true, ..) => (Some(now), "no token can be had with any of them: tokens end when the present ones do".to_owned()),
            (false, true, Some(end)) => (Some(end), format!("each gets a token; the last of them ends on {}", in_words(end))),
            (false, true, None) => (None, "each gets a token".to_owned()),
            (false, false, Some(end)) => {
                let verdict = "the rotation is not ready: tokens are still had with what Entra accepts, until";
                (Some(end), format!("{verdict} {}", in_words(end)))
            }
            (false, false, None) => (None, "the rotation is not ready: tokens are still had with what Entra accepts".to_owned()),
        };
        Self { scope: scope.to_owned(), tried, breaks_at, verdict, holds }
    }
}

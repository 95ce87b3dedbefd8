//! Verification of a token from its bytes: form, algorithm, key, signature; only then the payload.

use std::{sync::Arc, time::Duration};

use super::{
    algorithm::Algorithm,
    footprint::{COUNTS, block},
    issuer::Issuer,
    jws::{Jws, JwsError},
    key_set::{KeySet, Snapshot},
    keys::{Key, KeyVerdict},
    token::{Facts, Payload, Token, TokenFault, Version, read_entra, read_other, read_user_flow, recorded},
    verified_token_cache::VerifiedTokenCache,
};
use crate::base::clock::Clock;

/// A token whose signature is valid under a key of the policy's sets. Each request decides whether it is admitted.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The token.
    pub token: Arc<Token>,
    /// The claims that every check needs.
    pub facts: Facts,
    /// The agreement of issuer, tenant and signing key.
    pub issuer: IssuerVerdict,
    /// True if the token's tenant is the one that the key set is for.
    pub own_tenant: bool,
    /// The signature algorithm.
    pub(super) algorithm: Algorithm,
    /// The endpoints of the key set whose documents confirm this, one bit each.
    pub(super) endpoints: u8,
    /// The number of the key set that verified it.
    pub(super) set: u64,
    /// The generation of the set's keys.
    pub(super) generation: u64,
}

impl Verified {
    /// Returns the memory taken while this is kept.
    pub(super) fn memory(&self) -> usize {
        block(COUNTS + size_of::<Self>()) + block(COUNTS + size_of::<Token>()) + self.token.memory() + self.facts.memory()
    }
}

/// The agreement of a token's issuer, tenant and signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerVerdict {
    /// They agree.
    Agrees,
    /// The token states no version, or an unknown one.
    UnknownVersion,
    /// The token names no tenant.
    NoTenant,
    /// The issuer is not the one in the metadata of the token's version.
    OtherIssuer,
    /// The signing key is for another issuer.
    KeyOfOtherIssuer,
    /// The signing key names no issuer, and the set serves many tenants.
    KeyOfUnknownIssuer,
    /// The metadata of the token's version is unavailable.
    NoMetadata,
}

/// The reason why a token is not verified, in the order of the checks.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The text is not a signed token.
    #[error("the token cannot be read")]
    Form(#[from] JwsError),
    /// The algorithm is not accepted.
    #[error("the token's algorithm is not accepted by the policy or the key")]
    Algorithm,
    /// The header names no key.
    #[error("the token names no key")]
    NoKeyId,
    /// No key set holds the key that the header names.
    #[error("no signing key has the id that the token names")]
    UnknownKey,
    /// No signing keys are known at the time.
    #[error("there are no signing keys to check the token with")]
    NoKeys,
    /// The signature is not that of the key.
    #[error("the signature is invalid")]
    Signature,
    /// The payload cannot be read.
    #[error("the token cannot be read")]
    Payload(#[from] TokenFault),
}

/// The verifier of tokens: the key sets of a policy, in order of preference.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// The key sets in which keys are looked for.
    pub sets: Vec<Arc<KeySet>>,
    /// The form of the issuer's tokens.
    pub profile: Profile,
    /// The accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The tokens of the process that were verified and accepted before.
    pub verified_token_cache: Arc<VerifiedTokenCache>,
}

/// The kind of issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Entra's.
    Entra,
    /// Another issuer's.
    Other,
}

/// A key with the token's key id.
struct Candidate<'a> {
    set: &'a Arc<KeySet>,
    /// The endpoint that lists it.
    endpoint: usize,
    key: Arc<Key>,
    /// The generation of the set's keys.
    generation: u64,
}

impl Verifier {
    /// Returns the cached result for this token, if it is still valid.
    pub fn cached(&self, token: &[u8], worker: usize, now: Moment) -> Option<Arc<Verified>> {
        self.sets.iter().find_map(|set| {
            let verified = self.verified_token_cache.get(token, worker, set.id(), set.generation(), now.unix)?;
            // Policies that share a key set may differ in what they accept.
            let accepted = self.algorithms.contains(&verified.algorithm);
            (accepted && set.serves(verified.endpoints, now.monotonic)).then_some(verified)
        })
    }

    /// Keeps a token that the policy has accepted, so that it is not verified again.
    pub fn keep(&self, token: &[u8], worker: usize, now: u64, verified: &Arc<Verified>) {
        self.verified_token_cache.keep(token, worker, now, verified);
    }

    /// Verifies a token with the keys at hand.
    ///
    /// # Errors
    /// Returns the first failed check.
    pub fn verify(&self, token: &[u8], worker: usize, now: Moment) -> Result<Arc<Verified>, VerifyError> {
        // Before the snapshots: what is verified with newer keys may be kept under an older count, never the other way round.
        let generations: Vec<u64> = self.sets.iter().map(|set| set.generation()).collect();
        let snapshots: Vec<Snapshot> = self.sets.iter().map(|set| set.snapshot(now.monotonic)).collect();

        let jws = Jws::read(token)?;
        let algorithm = jws.header.algorithm.ok_or(VerifyError::Algorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(VerifyError::Algorithm);
        }
        let key_id = jws.header.key_id.as_deref();
        if key_id.is_none() && self.profile == Profile::Entra {
            return Err(VerifyError::NoKeyId);
        }
        let candidates = self.candidates(&snapshots, &generations, key_id);
        if candidates.is_empty() {
            let complete = snapshots.iter().all(|snapshot| snapshot.documents.iter().any(Option::is_some));
            return Err(if complete { VerifyError::UnknownKey } else { VerifyError::NoKeys });
        }

        self.verified_token_cache.count_verification(worker);
        let mut error = VerifyError::Algorithm;
        for candidate in candidates {
            match candidate.key.verify(algorithm, jws.signing_input, &jws.signature) {
                KeyVerdict::WrongAlgorithm => {}
                KeyVerdict::Fails => error = VerifyError::Signature,
                KeyVerdict::Holds => {
                    let index = self.sets.iter().position(|set| Arc::ptr_eq(set, candidate.set)).unwrap_or_default();
                    let verified = Arc::new(match self.profile {
                        Profile::Entra => {
                            let payload = if candidate.set.source().user_flow { read_user_flow } else { read_entra };
                            conclude(&candidate, &snapshots[index], algorithm, payload(&jws.payload)?)
                        }
                        Profile::Other => conclude_other(&candidate, &snapshots[index], algorithm, read_other(&jws.payload)?),
                    });
                    return Ok(verified);
                }
            }
        }
        Err(error)
    }

    /// Returns the keys of this id. The same key under two endpoints is tried once.
    fn candidates<'a>(&'a self, snapshots: &[Snapshot], generations: &[u64], key_id: Option<&str>) -> Vec<Candidate<'a>> {
        let mut candidates: Vec<Candidate<'a>> = Vec::new();
        for ((set, snapshot), &generation) in self.sets.iter().zip(snapshots).zip(generations) {
            for (endpoint, document) in snapshot.documents.iter().enumerate() {
                let keys = document.as_ref().map_or(&[][..], |document| match self.profile {
                    // Entra names every key, and every token names its key.
                    Profile::Entra => document.keys.of(key_id.unwrap_or_default()),
                    Profile::Other => document.keys.matching(key_id),
                });
                for key in keys {
                    let known = |other: &Candidate<'_>| Arc::ptr_eq(other.set, set) && other.key.is_same_key(key);
                    if !candidates.iter().any(known) {
                        candidates.push(Candidate { set, endpoint, key: key.clone(), generation });
                    }
                }
            }
        }
        candidates
    }

    /// Verifies a token whose key is unknown, after fetching newer keys if that is allowed.
    ///
    /// # Errors
    /// Returns the first failed check.
    pub async fn verify_anew(&self, token: &[u8], worker: usize, clock: &Clock) -> Result<Arc<Verified>, VerifyError> {
        // A fetch that was under way may have begun before the key was published; then one of our own follows it.
        for _ in 0..2 {
            let now = clock.monotonic();
            let waiting: Vec<_> = self.sets.iter().filter_map(|set| set.renew(now)).collect();
            let joined = waiting.iter().any(|waiting| waiting.joined);
            if waiting.is_empty() {
                break;
            }
            for fetch in waiting {
                fetch.over().await;
            }
            match self.verify(token, worker, Moment::of(clock)) {
                Err(VerifyError::UnknownKey) if joined => {}
                result => return result,
            }
        }
        self.verify(token, worker, Moment::of(clock))
    }
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time in seconds since 1970.
    pub unix: u64,
    /// The time since the start of the process.
    pub monotonic: Duration,
}

impl Moment {
    /// Reads the clock.
    pub fn of(clock: &Clock) -> Self {
        Self { unix: clock.unix_seconds(), monotonic: clock.monotonic() }
    }
}

/// Checks an issuer with one name: the token must state it, and the key's issuer, if any, must agree.
fn conclude_other(candidate: &Candidate<'_>, snapshot: &Snapshot, algorithm: Algorithm, payload: Payload) -> Verified {
    let Payload { mut token, facts } = payload;
    token.recorded = recorded(&token, &facts);
    let expected = snapshot.documents[candidate.endpoint].as_ref().map(|document| &document.metadata.issuer);
    let bears = |issuer: &Issuer| !facts.issuer.is_empty() && issuer.is(&facts.issuer, "");
    let issuer = match (expected, &candidate.key.issuer) {
        (Some(expected), _) if !bears(expected) => IssuerVerdict::OtherIssuer,
        (Some(_), Some(own)) if !bears(own) => IssuerVerdict::KeyOfOtherIssuer,
        (Some(_), _) => IssuerVerdict::Agrees,
        (None, _) => IssuerVerdict::NoMetadata,
    };
    Verified {
        issuer,
        own_tenant: true,
        token: Arc::new(token),
        facts,
        algorithm,
        endpoints: 1 << candidate.endpoint,
        set: candidate.set.id(),
        generation: candidate.generation,
    }
}

fn conclude(candidate: &Candidate<'_>, snapshot: &Snapshot, algorithm: Algorithm, payload: Payload) -> Verified {
    let Payload { mut token, mut facts } = payload;
    let source = candidate.set.source();
    let of_version = source.endpoints.iter().position(|endpoint| endpoint.version == facts.version);
    let metadata = of_version.and_then(|index| snapshot.documents[index].as_ref()).map(|document| &document.metadata);
    // Tokens of a user flow need not name their tenant: its issuer, which they bear, does.
    if source.user_flow
        && token.claims.get("tid").is_none()
        && let Some(tenant) = metadata.and_then(|metadata| metadata.issuer.tenant())
    {
        token.tenant = tenant.to_ascii_lowercase().into();
        facts.tenant = tenant.into();
    }
    token.recorded = recorded(&token, &facts);
    let issuer = match (facts.version, of_version, metadata) {
        (Version::Unknown, ..) => IssuerVerdict::UnknownVersion,
        (_, None, _) => IssuerVerdict::OtherIssuer,
        // Who has no metadata of a version issues no tokens of it; who could not be asked may.
        (_, Some(index), None) if candidate.set.is_absent(index) => IssuerVerdict::OtherIssuer,
        (_, Some(_), None) => IssuerVerdict::NoMetadata,
        (_, Some(_), Some(metadata)) => {
            let listed_by = snapshot.documents[candidate.endpoint].as_ref().map(|document| &document.metadata.issuer);
            agreement(&metadata.issuer, listed_by, candidate.key.issuer.as_ref(), source.many_tenants, &facts)
        }
    };
    let own = source.tenant.as_deref().or_else(|| metadata.and_then(|metadata| metadata.issuer.tenant()));
    let endpoints = (1 << candidate.endpoint) | of_version.map_or(0, |index| 1 << index);
    Verified {
        issuer,
        own_tenant: own.is_some_and(|own| !token.tenant.is_empty() && own.eq_ignore_ascii_case(&token.tenant)),
        token: Arc::new(token),
        facts,
        algorithm,
        endpoints,
        set: candidate.set.id(),
        generation: candidate.generation,
    }
}

/// Checks that the token's issuer is the one of its version, and that the key's own issuer agrees.
///
/// `listed_by` is the issuer of the document that lists the key: version 1 tokens may be signed by a key that only the version 2
/// set assigns to an issuer, and the key's issuer is then compared with that set's.
fn agreement(
    expected: &Issuer,
    listed_by: Option<&Issuer>,
    key: Option<&Issuer>,
    many_tenants: bool,
    facts: &Facts,
) -> IssuerVerdict {
    if expected.is_template() && facts.tenant.is_empty() {
        return IssuerVerdict::NoTenant;
    }
    if facts.issuer.is_empty() || !expected.is(&facts.issuer, &facts.tenant) {
        return IssuerVerdict::OtherIssuer;
    }
    if facts.tenant.is_empty() {
        return IssuerVerdict::NoTenant;
    }
    if expected.tenant().is_some_and(|tenant| !tenant.eq_ignore_ascii_case(&facts.tenant)) {
        return IssuerVerdict::OtherIssuer;
    }
    match key {
        None if many_tenants => IssuerVerdict::KeyOfUnknownIssuer,
        None => IssuerVerdict::Agrees,
        Some(key) if key.is(&facts.issuer, &facts.tenant) => IssuerVerdict::Agrees,
        Some(key) => {
            let agrees = listed_by.is_some_and(|issuer| key.of(&facts.tenant) == issuer.of(&facts.tenant));
            if agrees { IssuerVerdict::Agrees } else { IssuerVerdict::KeyOfOtherIssuer }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes a verified token that expires at this time.
    pub(crate) fn verified(expires_at: u64) -> Arc<Verified> {
        let Payload { token, facts } = read_other(format!(r#"{{"exp":{expires_at}}}"#).as_bytes()).unwrap();
        let (issuer, algorithm) = (IssuerVerdict::Agrees, Algorithm::Rs256);
        let token = Arc::new(token);
        Arc::new(Verified { token, facts, issuer, own_tenant: true, algorithm, endpoints: 1, set: 1, generation: 0 })
    }
}

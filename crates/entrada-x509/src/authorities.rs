//! Trust anchors for clients' certificates, and their revocation lists.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use rustls::{DistinguishedName, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime, pem::PemObject,
};
use serde::Serialize;
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList};

use super::{CertificateFault, ClientCertificate, Thumbprint, hash, name, seconds};

/// The number of shards of verdicts: one per thread on machines of usual size.
pub(super) const SHARDS: usize = 64;
/// The maximum number of verdicts in a shard.
const VERDICTS_PER_SHARD: usize = 512;
/// The largest file that is read, in bytes: more than any file of authorities, and little for memory.
pub(super) const LARGEST_FILE: u64 = 64 << 20;

/// The only trusted certificate authorities, with their revocation lists.
pub struct Authorities {
    anchors: Box<[TrustAnchor<'static>]>,
    /// The status of each anchor, in the same order.
    told: Box<[Authority]>,
    lists: Box<[RevocationList]>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    /// Verdicts on certificates by the digest of their chains, in shards by thread, so that threads do not wait for each other.
    verdicts: Box<[Mutex<Shard>]>,
}

/// The verdicts of one thread, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Shard(HashMap<[u8; 32], Arc<Verdict>>);

struct Authority {
    subject: Box<str>,
    not_before: u64,
    not_after: u64,
    fingerprint: Fingerprint,
}

struct RevocationList {
    list: CertRevocationList<'static>,
    issuer: Box<str>,
    /// The time when the next list is due, in seconds since 1970; from then on this list does not count.
    next_update: u64,
}

/// The status of an authority.
#[derive(Clone, Debug, Serialize)]
pub struct AuthorityStatus {
    /// The authority's name.
    pub subject: Box<str>,
    /// Whole days until the certificate expires.
    pub days_left: i64,
}

/// The status of a revocation list.
#[derive(Clone, Debug, Serialize)]
pub struct RevocationListStatus {
    /// The issuer of the list.
    pub issuer: Box<str>,
    /// Seconds until the next one is due; negative when it is overdue.
    pub seconds_left: i64,
}

/// The reason why a file of authorities or revocation lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// The file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file holds no certificate or list.
    #[error("`{}` holds no {what}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The expected content.
        what: &'static str,
    },
    /// Part of the file is damaged.
    #[error("`{}` holds a {what} that cannot be read", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part that cannot be read.
        what: &'static str,
    },
    /// A certificate in the file is not that of an authority.
    #[error("`{}` holds the certificate of {subject}, which is not an authority", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// The subject of the certificate.
        subject: Box<str>,
    },
    /// The list is of a kind that is not supported.
    #[error("`{}` holds a revocation list of a kind that is not supported ({source})", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// The error of the library.
        source: Error,
    },
}

impl AuthoritiesError {
    /// Returns the operator's remedy.
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::Read { .. } => "name a file that the gateway may read; relative paths start at the config file",
            Self::Empty { .. } | Self::Damaged { .. } => {
                "name a file with the certificates of authorities (PEM), or with revocation lists (PEM or DER)"
            }
            // Whoever has its key could make certificates for everybody.
            Self::NoAuthority { .. } => "name the authority that issued it; a single certificate is pinned by its thumbprint",
            Self::List { .. } => "name complete lists of the authorities themselves: no delta lists, no indirect ones",
        }
    }
}

/// The checks that a verdict has to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Checks that an authority vouches for the certificate.
    pub trust: bool,
    /// Checks that it was not revoked.
    pub revocation: bool,
    /// Checks that its validity has begun.
    pub not_before: bool,
    /// Checks that it has not expired.
    pub not_after: bool,
}

impl Checks {
    /// All checks.
    pub const ALL: Self = Self { trust: true, revocation: true, not_before: true, not_after: true };
}

/// The authorities' verdict on a certificate. It covers signatures; the time is checked on each use.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The certificate of the issuer.
    trust: Result<Fingerprint, CertificateFault>,
    /// The time until which the lists are valid; `None` where no list was consulted.
    revocation: Result<Option<u64>, CertificateFault>,
    /// The time from which all certificates of the path are valid.
    not_before: u64,
    not_after: u64,
}

/// The identity of a certificate.
#[derive(Clone, Copy, Debug)]
struct Fingerprint {
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl Verdict {
    /// Checks whether the certificate is acceptable at this time.
    ///
    /// # Errors
    /// Returns the first failed check: trust, then time, then revocation.
    pub fn check(&self, checks: Checks, now: u64) -> Result<(), CertificateFault> {
        if checks.trust {
            self.trust.as_ref().map_err(Clone::clone)?;
        }
        check_times((self.not_before, self.not_after), checks, now)?;
        if checks.trust && checks.revocation {
            let until = self.revocation.as_ref().map_err(Clone::clone)?;
            if until.is_some_and(|until| now >= until) {
                return Err(CertificateFault::RevocationUnknown("the revocation list is older than its next update".into()));
            }
        }
        Ok(())
    }

    /// Returns whether the certificate of this thumbprint issued the certificate.
    pub fn is_issued_by(&self, thumbprint: &Thumbprint) -> bool {
        self.trust.as_ref().is_ok_and(|issuer| thumbprint.is(&issuer.sha1, &issuer.sha256))
    }
}

/// Checks the time against a validity period, both ends included.
pub(super) fn check_times((not_before, not_after): (u64, u64), checks: Checks, now: u64) -> Result<(), CertificateFault> {
    if checks.not_before && now < not_before {
        return Err(CertificateFault::NotYetValid(not_before - now));
    }
    if checks.not_after && now > not_after {
        return Err(CertificateFault::Expired(now - not_after));
    }
    Ok(())
}

impl Authorities {
    /// Reads authorities (PEM) and revocation lists (PEM or DER).
    ///
    /// # Errors
    /// Returns every file that cannot be used, with the index of the list, or `None` for the file of authorities.
    pub fn load(ca: &Path, crl: &[PathBuf]) -> Result<Self, Vec<(Option<usize>, AuthoritiesError)>> {
        let mut errors = Vec::new();
        let mut lists = Vec::new();
        let authorities = read_authorities(ca).map_err(|error| errors.push((None, error))).unwrap_or_default();
        for (index, path) in crl.iter().enumerate() {
            match read_lists(path) {
                Ok(read) => lists.extend(read),
                Err(error) => errors.push((Some(index), error)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let (anchors, told): (Vec<_>, Vec<_>) = authorities.into_iter().unzip();
        Ok(Self {
            anchors: anchors.into(),
            told: told.into(),
            lists: lists.into(),
            algorithms: default_provider().signature_verification_algorithms.all,
            verdicts: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Returns the names of the authorities, as TLS sends them to clients.
    pub fn names(&self) -> impl Iterator<Item = DistinguishedName> {
        self.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject))
    }

    /// Returns whether there are revocation lists.
    pub const fn has_lists(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Returns the status of the authorities at this time.
    pub fn status(&self, now: u64) -> impl Iterator<Item = AuthorityStatus> {
        self.told.iter().map(move |authority| AuthorityStatus {
            subject: authority.subject.clone(),
            days_left: (authority.not_after.cast_signed() - now.cast_signed()).div_euclid(86_400),
        })
    }

    /// Returns the status of the revocation lists at this time.
    pub fn list_status(&self, now: u64) -> impl Iterator<Item = RevocationListStatus> {
        self.lists.iter().map(move |list| RevocationListStatus {
            issuer: list.issuer.clone(),
            seconds_left: list.next_update.cast_signed().saturating_sub(now.cast_signed()),
        })
    }

    /// Returns the authorities' verdict on a certificate. Verdicts are cached per thread of the gateway.
    pub fn judge(&self, certificate: &ClientCertificate, worker: usize, now: u64) -> Arc<Verdict> {
        let shard = &self.verdicts[worker % SHARDS];
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = lock().0.get(&certificate.digest)
            // An issuer's own validity may have ended while the certificate's has not: there may be another path by now.
            && (now <= verdict.not_after || !certificate.is_valid_at(now))
        {
            return verdict.clone();
        }
        let verdict = Arc::new(self.judge_anew(certificate, now));
        // What depends on the moment is not kept.
        if !matches!(verdict.trust, Err(CertificateFault::Expired(_) | CertificateFault::NotYetValid(_))) {
            let mut shard = lock();
            if shard.0.len() >= VERDICTS_PER_SHARD {
                // Each of them costs one verification to come back.
                shard.0.clear();
            }
            shard.0.insert(certificate.digest, verdict.clone());
        }
        verdict
    }

    /// Builds the path from the certificate to an authority.
    fn judge_anew(&self, certificate: &ClientCertificate, now: u64) -> Verdict {
        // The certificate's own times are held against each request's; here they are left out of the question whether anybody
        // vouches for it, so that a stranger's certificate is not called an expired one.
        let moment = now.clamp(certificate.not_before, certificate.not_after.max(certificate.not_before));
        let at = UnixTime::since_unix_epoch(Duration::from_secs(moment));
        let own = (certificate.not_before, certificate.not_after);
        let refused = |fault: CertificateFault| Verdict {
            trust: Err(fault.clone()),
            revocation: Err(fault),
            not_before: own.0,
            not_after: own.1,
        };
        let leaf = match EndEntityCert::try_from(&certificate.chain[0]) {
            Ok(leaf) => leaf,
            Err(error) => return refused(fault(&error, moment)),
        };
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|list| &list.list).collect();
        let verify = |revocation| {
            leaf.verify_for_usage(
                self.algorithms,
                &self.anchors,
                &certificate.chain[1..],
                at,
                KeyUsage::client_auth(),
                revocation,
                None,
            )
        };
        let options = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                // How old a list may be is judged with each request.
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let (path, revocation) = match verify(options) {
            Ok(path) => (path, Ok(())),
            // With several paths, or where only the lists stand in the way: who vouches is another question than what was revoked.
            Err(revoked) if options.is_some() => match verify(None) {
                Ok(path) => (path, Err(fault(&revoked, moment))),
                Err(error) => return refused(fault(&error, moment)),
            },
            Err(error) => return refused(fault(&error, moment)),
        };
        match self.follow(&path, own) {
            Some(followed) => Verdict {
                trust: Ok(followed.issuer),
                revocation: revocation.map(|()| followed.lists_until),
                not_before: followed.not_before,
                not_after: followed.not_after,
            },
            None => refused(CertificateFault::Untrusted("a certificate of its path cannot be read".into())),
        }
    }

    /// Collects the facts of a verified path's certificates, beginning with the validity of the client's own.
    fn follow(&self, path: &VerifiedPath<'_>, own: (u64, u64)) -> Option<PathFacts> {
        let anchor = self.anchors.iter().position(|anchor| anchor == path.anchor())?;
        let anchor = &self.told[anchor];
        let mut followed = PathFacts { issuer: anchor.fingerprint, lists_until: None, not_before: own.0, not_after: own.1 };
        // Where an authority's own validity ends, so does its word, though the path builder does not ask.
        followed.narrow((anchor.not_before, anchor.not_after));
        let mut issuers: Vec<&[u8]> = vec![path.end_entity().issuer()];
        // The first of them issued the client's certificate.
        for (index, certificate) in path.intermediate_certificates().enumerate() {
            let der = certificate.der();
            let (_, parsed) = X509Certificate::from_der(&der).ok()?;
            followed.narrow(validity(&parsed));
            issuers.push(certificate.issuer());
            if index == 0 {
                followed.issuer = Fingerprint::of(&der);
            }
        }
        let asked = self.lists.iter().filter(|list| issuers.contains(&list.list.issuer()));
        followed.lists_until = asked.map(|list| list.next_update).min();
        Some(followed)
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let subjects: Vec<_> = self.told.iter().map(|authority| &authority.subject).collect();
        f.debug_struct("Authorities").field("subjects", &subjects).field("lists", &self.lists.len()).finish_non_exhaustive()
    }
}

/// The facts collected along a path.
struct PathFacts {
    issuer: Fingerprint,
    lists_until: Option<u64>,
    not_before: u64,
    not_after: u64,
}

impl PathFacts {
    /// Narrows the validity: no certificate outlives its issuer.
    fn narrow(&mut self, (not_before, not_after): (u64, u64)) {
        self.not_before = self.not_before.max(not_before);
        self.not_after = self.not_after.min(not_after);
    }
}

impl Fingerprint {
    fn of(der: &[u8]) -> Self {
        Self { sha1: hash(&SHA1_FOR_LEGACY_USE_ONLY, der), sha256: hash(&SHA256, der) }
    }
}

fn validity(certificate: &X509Certificate<'_>) -> (u64, u64) {
    (seconds(certificate.validity().not_before), seconds(certificate.validity().not_after))
}

/// Translates an error of the path builder.
fn fault(error: &Error, moment: u64) -> CertificateFault {
    match error {
        Error::CertExpired { not_after, .. } => CertificateFault::Expired(moment.saturating_sub(not_after.as_secs())),
        Error::CertNotValidYet { not_before, .. } => CertificateFault::NotYetValid(not_before.as_secs().saturating_sub(moment)),
        Error::CertRevoked => CertificateFault::Revoked,
        Error::UnknownRevocationStatus => {
            CertificateFault::RevocationUnknown("no revocation list is there for one of its issuers".into())
        }
        Error::InvalidCrlSignatureForPublicKey
        | Error::IssuerNotCrlSigner
        | Error::UnsupportedCrlSignatureAlgorithmContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            CertificateFault::RevocationUnknown("a revocation list is not signed by its issuer".into())
        }
        Error::UnknownIssuer => CertificateFault::Untrusted("its issuer is none of the authorities".into()),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
            CertificateFault::Untrusted("it was not issued for clients (extended key usage)".into())
        }
        Error::CaUsedAsEndEntity => CertificateFault::Untrusted("it is the certificate of an authority itself".into()),
        // What is left speaks of form and signatures, and holds nothing of the certificate.
        error => CertificateFault::Untrusted(error.to_string().into()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AuthoritiesError> {
    let unreadable = |source| AuthoritiesError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > LARGEST_FILE {
        return Err(unreadable(io::Error::other("it is far too large")));
    }
    fs::read(path).map_err(unreadable)
}

fn read_authorities(path: &Path) -> Result<Vec<(TrustAnchor<'static>, Authority)>, AuthoritiesError> {
    const WHAT: &str = "certificate";
    let damaged = || AuthoritiesError::Damaged { path: path.to_owned(), what: WHAT };
    let text = read(path)?;
    let mut found: Vec<(TrustAnchor<'static>, Authority)> = Vec::new();
    for der in CertificateDer::pem_slice_iter(&text) {
        let der = der.map_err(|_| damaged())?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| damaged())?;
        let subject = name::of(parsed.subject());
        if !parsed.is_ca() {
            return Err(AuthoritiesError::NoAuthority { path: path.to_owned(), subject });
        }
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| damaged())?.to_owned();
        if found.iter().any(|(known, _)| *known == anchor) {
            continue;
        }
        let (not_before, not_after) = validity(&parsed);
        found.push((anchor, Authority { subject, not_before, not_after, fingerprint: Fingerprint::of(&der) }));
    }
    if found.is_empty() { Err(AuthoritiesError::Empty { path: path.to_owned(), what: WHAT }) } else { Ok(found) }
}

fn read_lists(path: &Path) -> Result<Vec<RevocationList>, AuthoritiesError> {
    const WHAT: &str = "revocation list";
    let damaged = || AuthoritiesError::Damaged { path: path.to_owned(), what: WHAT };
    let bytes = read(path)?;
    // Authorities publish them as DER, which begins with a sequence; everything else may be PEM, with text around it.
    let lists: Vec<CertificateRevocationListDer<'_>> = if bytes.first() == Some(&0x30) {
        vec![bytes.as_slice().into()]
    } else {
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_| damaged())?
    };
    if lists.is_empty() {
        return Err(AuthoritiesError::Empty { path: path.to_owned(), what: WHAT });
    }
    let read = lists.iter().map(|der| {
        let list =
            OwnedCertRevocationList::from_der(der).map_err(|source| AuthoritiesError::List { path: path.to_owned(), source })?;
        let (_, parsed) = CertificateRevocationList::from_der(der).map_err(|_| damaged())?;
        // RFC 5280, section 5.1.2.5: authorities must say when the next one is due.
        let next_update = seconds(parsed.next_update().ok_or_else(damaged)?);
        Ok(RevocationList { list: list.into(), issuer: name::of(parsed.issuer()), next_update })
    });
    read.collect()
}

//! The API keys of partners: secrets that a caller sends with each request, of which the config holds only the SHA-256.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
};
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{Call, Partner, PartnerFault, Partners, WARNED_AHEAD};
use crate::{
    base::clock::Clock,
    refusal::{Reason, Refusal},
    settings::{Date, Faults, Lint, Place, Secret, Secrets},
};

/// The SHA-256 of the empty text, which is no key.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// An API key of a partner.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiKeyConfig {
    /// The SHA-256 of the key, in hexadecimal. The key itself is not part of the config; it should be long and random, as of
    /// `openssl rand -hex 32`.
    pub sha256: Secret,
    /// The owner: the person or team that has the key.
    pub owner: Option<String>,
    /// The last day on which the key is accepted, UTC. Default: unlimited.
    pub expires: Option<Date>,
}

/// An API key of a partner, by its digest.
pub struct ApiKey {
    digest: [u8; SHA256_OUTPUT_LEN],
    partner: Arc<Partner>,
    /// The name of the key in records: its place among those of the partner, as `api-keys[0]`.
    pub name: Arc<str>,
    /// The end of its validity, in seconds since 1970.
    pub until: Option<u64>,
    /// The last day of its validity.
    pub(super) expires: Option<Date>,
    /// The person or team that has it.
    pub(super) owner: Option<Box<str>>,
}

// Without the digest: that of a weak key would give it away.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("partner", &self.partner.name).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The mark of an API key, or of several as a whole, by which records name them: a part of the digest of its digest, from which nothing
/// leads back to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyMark(u64);

impl KeyMark {
    fn of(bytes: &[u8]) -> Self {
        let hash = digest(&SHA256, bytes);
        Self(hash.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
    }

    /// Returns the mark that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for KeyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An API key as a request presents it, or as its record names it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PresentedKey<'a> {
    /// The key itself.
    Text(&'a [u8]),
    /// The mark of a known key; `None` for one that was none of them.
    Marked(Option<KeyMark>),
}

/// The API keys of all partners.
#[derive(Debug, Default)]
pub(super) struct ApiKeys(Vec<Arc<ApiKey>>);

impl ApiKeys {
    /// Adds the keys of a partner; `place` is that of the list.
    pub(super) fn add(
        &mut self,
        configs: &[ApiKeyConfig],
        partner: &Arc<Partner>,
        (secrets, now): (&Secrets, u64),
        place: &Place,
        faults: &mut Faults,
    ) {
        for (index, config) in configs.iter().enumerate() {
            let place = place.index(index);
            let Some(digest) = digest_of(&config.sha256, secrets, &place.key("sha256"), faults) else { continue };
            if let Some(other) = self.0.iter().find(|other| other.digest == digest) {
                let cure = "give every partner a key of its own, and list it once";
                faults.error(
                    &place.key("sha256"),
                    format!("this is {} of the partner `{}`, too", other.name, other.partner.name),
                    cure,
                );
                continue;
            }
            let until = config.expires.map(Date::end);
            lint(config, partner, now, &place.key("expires"), faults);
            let name = format!("api-keys[{index}]").into();
            let owner = config.owner.as_deref().map(Into::into);
            self.0.push(Arc::new(ApiKey { digest, partner: partner.clone(), name, until, expires: config.expires, owner }));
        }
    }

    /// Returns the key that this text is. Every key is compared, each in constant time: how long it takes says nothing about any.
    fn find(&self, presented: &[u8]) -> Option<&Arc<ApiKey>> {
        let digest = digest(&SHA256, presented);
        let mut found = None;
        for key in &self.0 {
            if verify_slices_are_equal(&key.digest, digest.as_ref()).is_ok() {
                found = Some(key);
            }
        }
        found
    }

    /// Returns the mark of all keys together.
    fn mark(&self) -> KeyMark {
        let mut all: Vec<_> = self.0.iter().map(|key| key.digest).collect();
        all.sort_unstable();
        KeyMark::of(all.as_flattened())
    }

    /// Returns the keys of a partner.
    pub(super) fn of<'a>(&'a self, partner: &'a Partner) -> impl Iterator<Item = &'a ApiKey> {
        self.0.iter().map(|key| &**key).filter(|key| key.partner.name == partner.name)
    }
}

/// Warns of a key that is no longer accepted, or soon will not be.
fn lint(config: &ApiKeyConfig, partner: &Partner, now: u64, place: &Place, faults: &mut Faults) {
    let Some(day) = config.expires.filter(|_| partner.enabled) else { return };
    let left = day.end().saturating_sub(now);
    if left == 0 {
        faults.warning(
            Lint::PartnerExpired,
            place,
            format!("the key was accepted until {day}"),
            "remove it, or give it a later day",
        );
    } else if left <= WARNED_AHEAD {
        let days = left.div_ceil(86_400);
        faults.warning(
            Lint::PartnerExpiresSoon,
            place,
            format!("the key expires in {days} days, on {day}"),
            "list its successor beside it, or give it a later day",
        );
    }
}

/// Reads a SHA-256. What is written instead is not shown: it may be the key itself.
fn digest_of(written: &Secret, secrets: &Secrets, place: &Place, faults: &mut Faults) -> Option<[u8; SHA256_OUTPUT_LEN]> {
    let text = match written.reveal(secrets) {
        Ok(text) => text,
        Err(error) => {
            faults.error(place, error.to_string(), error.cure());
            return None;
        }
    };
    let text = text.expose_secret();
    let mut digest = [0; SHA256_OUTPUT_LEN];
    let is_hexadecimal = text.len() == 2 * SHA256_OUTPUT_LEN && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hexadecimal {
        let cure = "write the 64 hexadecimal digits that `printf %s \"$KEY\" | sha256sum` prints";
        faults.error(place, "this is not a SHA-256", cure);
        return None;
    }
    if text.eq_ignore_ascii_case(OF_NOTHING) {
        faults.error(place, "this is the SHA-256 of the empty text", "hash the key, without a line end behind it");
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default();
        // Two hexadecimal digits are a byte.
        *byte = (digit(digits[0]) * 16 + digit(digits[1])) as u8;
    }
    Some(digest)
}

/// The reason why a key is not accepted, and the key where it is a known one.
pub(crate) type RefusedKey<'a> = (ApiKeyFault, Option<&'a Arc<ApiKey>>);

impl Partners {
    /// Finds the partner whose key this is, and judges the call as [`judge`](Self::judge) does.
    ///
    /// # Errors
    /// Returns the first check that fails.
    pub(crate) fn judge_key(
        &self,
        presented: PresentedKey<'_>,
        call: Call<'_>,
        only: Option<&[Arc<str>]>,
        clock: &Clock,
    ) -> Result<(&Arc<Partner>, &Arc<ApiKey>), RefusedKey<'_>> {
        let found = match presented {
            PresentedKey::Text(text) => self.keys.find(text),
            PresentedKey::Marked(mark) => mark.and_then(|mark| self.keys.0.iter().find(|key| key.mark() == mark)),
        };
        let key = found.ok_or((ApiKeyFault::Unknown, None))?;
        let fails = |fault| (fault, Some(key));
        if key.until.is_some_and(|until| clock.unix_seconds() >= until) {
            return Err(fails(ApiKeyFault::Expired(key.partner.name.clone(), key.name.clone())));
        }
        key.partner.admits(call, only, clock).map_err(|fault| fails(ApiKeyFault::Partner(fault)))?;
        Ok((&key.partner, key))
    }

    /// Returns the mark of all API keys together.
    pub(crate) fn keys_mark(&self) -> KeyMark {
        self.keys.mark()
    }

    /// Returns whether the partner has an API key.
    pub(crate) fn has_key(&self, partner: &Partner) -> bool {
        self.keys.of(partner).next().is_some()
    }
}

impl ApiKey {
    /// Returns the mark of the key.
    pub(crate) fn mark(&self) -> KeyMark {
        KeyMark::of(&self.digest)
    }

    /// Returns the partner whose key it is.
    pub(crate) const fn partner(&self) -> &Arc<Partner> {
        &self.partner
    }
}

/// The reason why a call with an API key is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiKeyFault {
    /// No partner has this key.
    #[error("no partner has this API key")]
    Unknown,
    /// After the key's last day.
    #[error("{1} of the partner `{0}` has expired")]
    Expired(Arc<str>, Arc<str>),
    /// The partner is not admitted.
    #[error(transparent)]
    Partner(PartnerFault),
}

impl From<ApiKeyFault> for Refusal {
    fn from(fault: ApiKeyFault) -> Self {
        match fault {
            ApiKeyFault::Partner(fault) => fault.into(),
            fault => Self::new(Reason::ApiKeyInvalid, fault),
        }
    }
}

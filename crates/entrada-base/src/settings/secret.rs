//! Secrets of the config: references to them, and their values.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

use super::{
    parts::{self, Part},
    secret_cell::{CurrentSecret, SecretCell},
};

/// The schema keyword that marks a place which may hold a secret.
pub const SECRET_KEYWORD: &str = "x-entrada-secret";
/// The value of that keyword where ordinary text is allowed too: the value may be an expression, and is not a secret elsewhere.
pub const PLAIN_TOO: &str = "or-plain";

/// A text that may be, or hold, a secret: the type of every setting where `{{name}}` may stand for one.
///
/// It holds the text as written, `Bearer {{partner-key}}`. The values are kept apart, in [`Secrets`], and inserted by
/// [`reveal`](Self::reveal) where the secret is used.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Returns the text if it names no secret.
    ///
    /// For settings that usually hold ordinary text, such as the value of `set-header`. Plain text of a setting that is always
    /// secret is returned too.
    pub fn plain(&self) -> Option<&str> {
        (!self.names_secret()).then(|| self.0.expose_secret())
    }

    /// Returns whether the text names a secret; neither the text nor a value made from it may then be shown.
    pub fn names_secret(&self) -> bool {
        self.0.expose_secret().contains("{{")
    }

    /// Returns the text with its secrets inserted, for settings that are read once, when the config is built.
    ///
    /// # Errors
    /// Returns the name that stands for no secret (a loaded `Document` has none), or for one in a
    /// vault, which is not known yet.
    pub fn reveal(&self, secrets: &Secrets) -> Result<SecretString, UnknownSecret> {
        let text = self.0.expose_secret();
        let mut revealed = zeroize::Zeroizing::new(String::with_capacity(text.len()));
        for part in parts::parts(text) {
            match part {
                Part::Text(text) | Part::Malformed { text, .. } => revealed.push_str(text),
                Part::Name { name, .. } => match secrets.find(name)? {
                    SecretSource::Known(secret) => revealed.push_str(secret.expose_secret()),
                    SecretSource::Vault(_) => return Err(UnknownSecret::InVault(name.to_owned())),
                },
            }
        }
        Ok(SecretString::from(revealed.as_str()))
    }

    /// Returns the text in a form that is read on each use, because a vault's value changes while the gateway runs.
    ///
    /// # Errors
    /// Returns the name that stands for no secret.
    pub fn live(&self, secrets: &Secrets) -> Result<LiveSecret, UnknownSecret> {
        let mut parts = Vec::new();
        for part in parts::parts(self.0.expose_secret()) {
            parts.push(match part {
                Part::Text(text) | Part::Malformed { text, .. } => SecretSource::Known(text.into()),
                Part::Name { name, .. } => secrets.find(name)?.clone(),
            });
        }
        Ok(LiveSecret { parts: parts.into(), made: Arc::default() })
    }
}

/// The value of a header field: ordinary text, an expression or a secret. It is shown no more than a secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HeaderText(Secret);

impl std::ops::Deref for HeaderText {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0
    }
}

impl From<&str> for HeaderText {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl JsonSchema for HeaderText {
    fn schema_name() -> Cow<'static, str> {
        "HeaderText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A text that may name secrets: {{name}}.", SECRET_KEYWORD: PLAIN_TOO })
    }
}

/// The reason why secrets cannot be inserted into a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownSecret {
    /// The name refers to no secret.
    #[error("no secret is named `{0}`")]
    NotNamed(String),
    /// The secret is in a vault, but the setting is read only once.
    #[error("the secret `{0}` is in a vault, and this setting is read before any vault is asked")]
    InVault(String),
}

impl UnknownSecret {
    /// Returns the way to mend the config.
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::NotNamed(_) => "define it in `named-values`",
            Self::InVault(_) => {
                "take it from a `file`; secrets of a vault can be client secrets and values of `set-header` and `check-header`"
            }
        }
    }
}

/// The source of a secret. A known value is not shown.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// A known value: from a file, a variable or the config itself.
    Known(SecretString),
    /// A vault's secret.
    Vault(Arc<SecretCell>),
}

/// The secrets among the named values, by name. Their values are never shown.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, SecretSource>);

impl Secrets {
    /// Makes secrets with known values.
    pub fn known<const N: usize>(secrets: [(&str, &str); N]) -> Self {
        Self(secrets.map(|(name, secret)| (name.to_owned(), SecretSource::Known(secret.into()))).into())
    }

    /// Makes a single secret that a vault holds.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_vault(secret: SecretCell) -> Self {
        Self([(secret.name().to_owned(), SecretSource::Vault(Arc::new(secret)))].into())
    }

    /// Takes over vault secrets from the previous config where they are the same, so that values read before need not be read
    /// again.
    #[must_use]
    pub fn after(&self, previous: Option<&Self>) -> Self {
        let mut secrets = self.clone();
        for (name, source) in &mut secrets.0 {
            if let (SecretSource::Vault(own), Some(SecretSource::Vault(before))) =
                (&*source, previous.and_then(|previous| previous.0.get(name)))
                && own.config() == before.config()
            {
                *source = SecretSource::Vault(before.clone());
            }
        }
        secrets
    }

    /// Returns a copy whose vault secrets are its own: with the values that `known` has of them now, or else this placeholder.
    #[must_use]
    pub fn apart(&self, known: Option<&Self>, placeholder: &str) -> Self {
        let mut secrets = self.clone();
        for (name, source) in &mut secrets.0 {
            let SecretSource::Vault(secret) = source else { continue };
            let current = match known.and_then(|known| known.0.get(name)) {
                Some(SecretSource::Vault(known)) => known.current(),
                _ => secret.current(),
            };
            let own = SecretCell::new(name, secret.config().clone());
            own.set(Some(match current {
                Some(current) => CurrentSecret {
                    value: current.value.clone(),
                    version: current.version.clone(),
                    expires_at: current.expires_at,
                },
                None => CurrentSecret { value: Arc::new(placeholder.into()), version: None, expires_at: None },
            }));
            *source = SecretSource::Vault(Arc::new(own));
        }
        secrets
    }

    /// Returns whether a vault holds one of them.
    pub fn has_vault(&self) -> bool {
        self.in_vaults().next().is_some()
    }

    /// Returns the secrets that vaults hold.
    pub fn in_vaults(&self) -> impl Iterator<Item = &Arc<SecretCell>> {
        self.0.values().filter_map(|source| match source {
            SecretSource::Vault(secret) => Some(secret),
            SecretSource::Known(_) => None,
        })
    }

    fn find(&self, name: &str) -> Result<&SecretSource, UnknownSecret> {
        self.0.get(name).ok_or_else(|| UnknownSecret::NotNamed(name.to_owned()))
    }
}

/// A text with secrets in it that may change while the gateway runs.
#[derive(Clone)]
pub struct LiveSecret {
    parts: Arc<[SecretSource]>,
    /// The last composed value, with the values that it was composed from.
    made: Arc<ArcSwapOption<Made>>,
}

struct Made {
    from: Vec<Arc<SecretString>>,
    text: Arc<SecretString>,
}

impl LiveSecret {
    /// Returns the value at `now`, in seconds since 1970: the same `Arc` as long as nothing has changed, and `None` while a
    /// vault's part of it is missing.
    pub fn value(&self, now: u64) -> Option<Arc<SecretString>> {
        let made = self.made.load_full();
        let mut same = made.is_some();
        let mut from = made.iter().flat_map(|made| &made.from);
        for secret in self.in_vaults() {
            let value = secret.value(now)?;
            same = same && from.next().is_some_and(|before| Arc::ptr_eq(before, &value));
        }
        match made {
            Some(made) if same => Some(made.text.clone()),
            _ => self.make(now),
        }
    }

    fn make(&self, now: u64) -> Option<Arc<SecretString>> {
        let mut text = zeroize::Zeroizing::new(String::new());
        let mut from = Vec::new();
        for part in &*self.parts {
            match part {
                SecretSource::Known(known) => text.push_str(known.expose_secret()),
                SecretSource::Vault(secret) => {
                    let value = secret.value(now)?;
                    text.push_str(value.expose_secret());
                    from.push(value);
                }
            }
        }
        let text = Arc::new(SecretString::from(text.as_str()));
        self.made.store(Some(Arc::new(Made { from, text: text.clone() })));
        Some(text)
    }

    /// Returns the secrets of vaults in it.
    pub fn in_vaults(&self) -> impl Iterator<Item = &Arc<SecretCell>> {
        self.parts.iter().filter_map(|part| match part {
            SecretSource::Vault(secret) => Some(secret),
            SecretSource::Known(_) => None,
        })
    }

    /// Returns whether both are composed of the same secrets; for secrets in vaults their names are compared, not their values.
    pub fn same_as(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && self.parts.iter().zip(&*other.parts).all(|(one, other)| match (one, other) {
                (SecretSource::Known(one), SecretSource::Known(other)) => one.expose_secret() == other.expose_secret(),
                (SecretSource::Vault(one), SecretSource::Vault(other)) => Arc::ptr_eq(one, other),
                (SecretSource::Known(_) | SecretSource::Vault(_), _) => false,
            })
    }
}

impl fmt::Debug for LiveSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveSecret")
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(SecretString::from(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Compares configs with each other. Never use it for a caller's input: the time it takes depends on the length of the common
/// prefix.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Secret {}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A text that may name secrets: {{name}}.", SECRET_KEYWORD: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::known([("key", "hunter\"2")])
    }

    #[test]
    fn secrets_are_put_in_where_they_are_used() {
        for (text, expected) in [("plain", "plain"), ("{{key}}", "hunter\"2"), ("Bearer {{ key }}!", "Bearer hunter\"2!")] {
            assert_eq!(Secret::from(text).reveal(&secrets()).expect("known").expose_secret(), expected);
            let live = Secret::from(text).live(&secrets()).expect("known");
            let value = live.value(0).expect("known");
            assert_eq!(value.expose_secret(), expected);
            assert!(Arc::ptr_eq(&value, &live.value(1).expect("known")), "made once");
        }
        assert_eq!(Secret::from("{{other}}").reveal(&secrets()).err(), Some(UnknownSecret::NotNamed("other".into())));
        assert_eq!(Secret::from("{{other}}").live(&secrets()).err(), Some(UnknownSecret::NotNamed("other".into())));
    }

    #[test]
    fn nothing_shows_a_secret() {
        let shown = format!("{:?} {:?}", Secret::from("hunter2"), secrets());

        assert!(!shown.contains("hunter"), "{shown}");
    }
}

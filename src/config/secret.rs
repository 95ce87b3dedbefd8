//! Secrets of the config: what names them, and what they are.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

use super::named_values::{self, Part};

/// The mark of a place that may hold a secret, in the schema.
pub(crate) const SECRET_KEYWORD: &str = "x-entrada-secret";

/// A text that may be, or hold, a secret: the type of every setting where `{{name}}` may stand for one.
///
/// It holds the text as written, `Bearer {{partner-key}}`. What the names stand for is kept apart, in [`Secrets`], and joined by
/// [`reveal`](Self::reveal) where the secret is used.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The text, where it names no secret.
    ///
    /// For settings that usually hold ordinary text, such as the value of `set-header`. What a setting that is always a secret
    /// holds as plain text is returned, too.
    pub fn plain(&self) -> Option<&str> {
        (!self.names_secret()).then(|| self.0.expose_secret())
    }

    /// Whether the text names a secret; it then must not be shown, nor what is made from it.
    pub fn names_secret(&self) -> bool {
        self.0.expose_secret().contains("{{")
    }

    /// The text with its secrets put in.
    ///
    /// # Errors
    /// The name that stands for no secret. A loaded [`Document`](super::Document) has none such.
    pub fn reveal(&self, secrets: &Secrets) -> Result<SecretString, UnknownSecret> {
        let text = self.0.expose_secret();
        let mut revealed = zeroize::Zeroizing::new(String::with_capacity(text.len()));
        for part in named_values::parts(text) {
            match part {
                Part::Text(text) | Part::Malformed { text, .. } => revealed.push_str(text),
                Part::Name { name, .. } => {
                    let secret = secrets.0.get(name).ok_or_else(|| UnknownSecret(name.to_owned()))?;
                    revealed.push_str(secret.expose_secret());
                }
            }
        }
        Ok(SecretString::from(revealed.as_str()))
    }
}

/// A name that stands for no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no secret is named `{0}`")]
pub struct UnknownSecret(pub String);

/// The secrets among the named values, by name. Nothing shows what they are.
#[derive(Clone, Default)]
pub struct Secrets(pub(crate) BTreeMap<String, SecretString>);

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

/// For telling one config from another, never for judging what a caller sent: it takes longer the more agrees.
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
        Secrets([("key".to_owned(), SecretString::from("hunter\"2"))].into())
    }

    #[test]
    fn secrets_are_put_in_where_they_are_used() {
        for (text, expected) in [("plain", "plain"), ("{{key}}", "hunter\"2"), ("Bearer {{ key }}!", "Bearer hunter\"2!")] {
            assert_eq!(Secret::from(text).reveal(&secrets()).expect("known").expose_secret(), expected);
        }
        assert_eq!(Secret::from("{{other}}").reveal(&secrets()).err(), Some(UnknownSecret("other".into())));
    }

    #[test]
    fn nothing_shows_a_secret() {
        let shown = format!("{:?} {:?}", Secret::from("hunter2"), secrets());

        assert!(!shown.contains("hunter"), "{shown}");
    }
}

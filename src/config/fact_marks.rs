//! Marks of header fields that are compared with secrets or prove a proxy: for records that are to be replayed, in place of their values.
//!
//! A mark is a keyed hash, whose key is made of the accepted values. Whoever does not know these can neither read nor guess a value from it;
//! and where they have changed, nothing is compared.

use std::collections::HashMap;

use aws_lc_rs::{digest, hmac};
use http::HeaderName;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{Config, Document};
use crate::{caller::TrustedProxyConfig, inbound::PolicyConfig, inbound::list, settings::Secrets};

/// The fields that have marks, by name.
#[derive(Default)]
pub struct FactMarks(HashMap<HeaderName, Accepted>);

impl std::fmt::Debug for FactMarks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// The accepted values of a field, and the key that is made of them.
struct Accepted {
    values: Vec<Zeroizing<String>>,
    key: hmac::Key,
    /// The name of the key.
    id: String,
}

/// The knowledge that a mark gives of a value.
#[derive(Debug)]
pub enum Marked {
    /// It is this accepted value, or one that a reader who ignores case takes for it.
    Value(Zeroizing<String>),
    /// It is none of the accepted values.
    Other,
}

impl FactMarks {
    /// Returns the marks of a config. A field that is compared with a secret of a vault, which changes, has none.
    pub fn of(document: &Document) -> Self {
        let (config, secrets) = (&document.config, &document.secrets);
        let mut values: HashMap<HeaderName, Option<Vec<Zeroizing<String>>>> = HashMap::new();
        let mut add = |name: &str, accepted: Option<Vec<Zeroizing<String>>>| {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return };
            let known = values.entry(name).or_insert_with(|| Some(Vec::new()));
            *known = known.take().zip(accepted).map(|(known, more)| known.into_iter().chain(more).collect());
        };
        let lists = config.routes.iter().map(|route| &*route.inbound).chain([&*config.inbound]);
        for policies in lists.chain(config.fragments.values().map(Vec::as_slice)) {
            list::each(policies, &config.fragments, 0, &mut |policy| {
                if let PolicyConfig::CheckHeader(check) = policy
                    && check.values.iter().any(|value| value.names_secret())
                {
                    add(&check.name, check.values.iter().map(|value| revealed(value, secrets)).collect());
                }
            });
        }
        for (name, accepted) in proofs(config) {
            add(name, Some(accepted.iter().map(|value| Zeroizing::new(value.clone())).collect()));
        }
        Self(values.into_iter().filter_map(|(name, values)| Some((name, Accepted::new(values?)))).collect())
    }

    /// Returns the mark of a value.
    pub fn mark(&self, name: &HeaderName, value: &[u8]) -> Option<String> {
        Some(self.0.get(name)?.mark(value))
    }

    /// Returns what a mark tells; `None` if it was made with other accepted values, or none.
    pub fn read(&self, name: &HeaderName, mark: &str) -> Option<Marked> {
        let accepted = self.0.get(name)?;
        let (id, told) = mark.split_once('.')?;
        if id != accepted.id {
            return None;
        }
        let (exact, folded) = told.split_once('.')?;
        for value in &accepted.values {
            let own = accepted.mark(value.as_bytes());
            let mut own = own.split('.').skip(1);
            if own.next() == Some(exact) {
                return Some(Marked::Value(value.clone()));
            }
        }
        let alike = accepted.values.iter().find(|value| accepted.mark(value.as_bytes()).ends_with(&format!(".{folded}")));
        // In another case: the same to whoever ignores it, and to nobody else.
        Some(match alike {
            Some(value) => Marked::Value(Zeroizing::new(other_case(value))),
            None => Marked::Other,
        })
    }
}

impl Accepted {
    fn new(mut values: Vec<Zeroizing<String>>) -> Self {
        values.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        values.dedup();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"entrada replay 1");
        for value in &values {
            context.update(&value.len().to_be_bytes());
            context.update(value.as_bytes());
        }
        let secret = context.finish();
        let id = hex(&digest::digest(&digest::SHA256, secret.as_ref()).as_ref()[..4]);
        Self { values, key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()), id }
    }

    fn mark(&self, value: &[u8]) -> String {
        let part = |bytes: &[u8]| hex(&hmac::sign(&self.key, bytes).as_ref()[..8]);
        format!("{}.{}.{}", self.id, part(value), part(&value.to_ascii_lowercase()))
    }
}

/// Returns the header fields that prove a proxy to the listeners, with their accepted values.
pub(crate) fn proofs(config: &Config) -> impl Iterator<Item = (&str, &[String])> {
    config.listeners.iter().flat_map(|listener| {
        let groups = listener.trusted_proxies.iter().filter_map(|proxy| match proxy {
            TrustedProxyConfig::Group(group) => Some(&group.require_header),
            TrustedProxyConfig::Text(_) | TrustedProxyConfig::Noted(_) => None,
        });
        let steps = listener.trust_path.iter().map(|step| &step.require_header);
        groups.chain(steps).flatten().map(|(name, values)| (name.as_str(), values.as_slice()))
    })
}

fn revealed(value: &crate::settings::HeaderText, secrets: &Secrets) -> Option<Zeroizing<String>> {
    let live = value.live(secrets).ok()?;
    if live.in_vaults().next().is_some() {
        return None;
    }
    Some(Zeroizing::new(live.value(0)?.expose_secret().to_owned()))
}

fn other_case(value: &str) -> String {
    let upper = value.to_ascii_uppercase();
    if upper == value { value.to_ascii_lowercase() } else { upper }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(values: &str) -> FactMarks {
        let config = format!(
            "named-values: {{ key: {{ value: s3cret, secret: true }} }}\n\
             listeners: [ {{ name: a, address: \"127.0.0.1:0\", trusted-proxies: [ {{ addresses: [10.0.0.0/28], require-header: {{ X-Azure-FDID: [ours] }} }} ] }} ]\n\
             routes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, respond: {{ status: 204 }}, inbound: [ check-header: {{ name: X-Key, values: {values} }} ] }} ]\n"
        );
        FactMarks::of(&Document::from_text("test.yaml", &config).unwrap_or_else(|report| panic!("{report}")))
    }

    #[test]
    fn a_mark_tells_an_accepted_value_from_another_one_and_nothing_else() {
        let name = HeaderName::from_static("x-key");
        let own = marks("['{{key}}', Spare]");
        let mark = |value: &str| own.mark(&name, value.as_bytes()).unwrap();

        assert!(matches!(own.read(&name, &mark("s3cret")), Some(Marked::Value(value)) if *value == "s3cret"));
        assert!(
            matches!(own.read(&name, &mark("SPARE")), Some(Marked::Value(value)) if *value != "Spare" && value.eq_ignore_ascii_case("spare"))
        );
        assert!(matches!(own.read(&name, &mark("guess")), Some(Marked::Other)));
        assert!(!mark("guess").contains("guess") && mark("s3cret").len() == 8 + 1 + 16 + 1 + 16);
        // The accepted values have changed: nothing is known.
        assert!(marks("['{{key}}']").read(&name, &mark("s3cret")).is_none());
        assert!(own.read(&name, "nonsense").is_none() && own.read(&HeaderName::from_static("x-other"), &mark("a")).is_none());
        let proof = HeaderName::from_static("x-azure-fdid");
        assert!(matches!(own.read(&proof, &own.mark(&proof, b"ours").unwrap()), Some(Marked::Value(_))));
        assert!(!format!("{own:?}").contains("s3cret"));
    }
}

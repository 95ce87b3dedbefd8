//! Header fields written by the gateway: the allowed names and values, and the reasons why a value is unavailable.

use http::{HeaderName, HeaderValue, header};

use crate::{
    base::fields::Known,
    expression::field_value,
    refusal::{Reason, Refusal},
    settings::{Faults, Place},
};

/// Fields about message framing or the connection, which belong to the gateway alone (RFC 9110, section 7.6.1).
pub(crate) const FRAMING: [Known; 11] = [
    Known::Host,
    Known::Connection,
    Known::ContentLength,
    Known::TransferEncoding,
    Known::Te,
    Known::Trailer,
    Known::Upgrade,
    Known::Expect,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Http2Settings,
];

/// Reads the name of a field that a policy may set.
pub(crate) fn name(written: &str, place: &Place, faults: &mut Faults) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
        faults.error(place, format!("`{written}` is not a header's name"), "names have letters, digits and `-`");
        return None;
    };
    if name == header::AUTHORIZATION {
        faults.error(
            place,
            "`Authorization` is not set as a header",
            "say what the upstream gets to see with the route's `authorization`: keep, remove, from-header or credential",
        );
        return None;
    }
    if name == header::HOST {
        let cure = "say what the upstream gets to see with the upstream's `host`: upstream, preserve or a name";
        faults.error(place, "`Host` is not set as a header", cure);
        return None;
    }
    if FRAMING.contains(&Known::of(name.as_str().as_bytes())) {
        let message = format!("`{written}` says where a message ends or what its connection does; the gateway sets it itself");
        faults.error(place, message, "leave the policy out");
        return None;
    }
    Some(name)
}

/// Reads a literal value, once. It may be a secret, so it is never shown and never put into a compression table.
pub(crate) fn literal(text: &str, place: &Place, faults: &mut Faults) -> Option<HeaderValue> {
    if text.is_empty() {
        faults.error(place, "the value is empty", "write one, or `exists-action: delete` to remove the field");
        return None;
    }
    match field_value(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(error) => {
            faults.error(place, error.to_string(), "write the value on one line, without blanks around it");
            None
        }
    }
}

/// Joins two values on one line. RFC 9110, section 5.3.
pub(crate) fn joined(one: &HeaderValue, other: &HeaderValue) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(&[one.as_bytes(), b", ", other.as_bytes()].concat()).ok()?;
    value.set_sensitive(one.is_sensitive() || other.is_sensitive());
    Some(value)
}

/// An error: a value is unavailable.
#[derive(Debug, thiserror::Error)]
#[error("the value of {name} is unavailable")]
pub struct Unavailable {
    name: HeaderName,
    reason: Reason,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Unavailable {
    /// Makes the error for this field, with its cause.
    pub(crate) fn new(name: &HeaderName, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { name: name.clone(), reason: Reason::HeaderValueUnavailable, source: Box::new(source) }
    }

    /// Makes the error for a vault's secret that is missing, which is not the caller's fault.
    pub(crate) fn secret(name: &HeaderName, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { reason: Reason::CredentialUnavailable, ..Self::new(name, source) }
    }
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        match error.reason {
            reason @ Reason::CredentialUnavailable => {
                Self::new(reason, error).with_hint("`vault_secrets` of the console says what the vault answered")
            }
            reason => Self::new(reason, error),
        }
    }
}

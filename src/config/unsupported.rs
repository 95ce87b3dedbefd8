//! Keys that the documentation of the config promises and this version does not support.
//!
//! Such a key is an error that says so, since silently ignoring it could drop a check. The table is only consulted for keys that
//! the schema does not know, so an outdated row does no harm; remove it then.

/// The types of the config with their planned keys.
const PLANNED: &[(&str, &[&str])] = &[("AuditConfig", &[]), ("TelemetryConfig", &["otlp"])];

/// Returns whether the type `owner` will have `key`.
pub(crate) fn is_planned(owner: &str, key: &str) -> bool {
    PLANNED.iter().any(|(name, keys)| *name == owner && keys.contains(&key))
}

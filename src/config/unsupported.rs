//! What the documentation of the config promises and this version does not have.
//!
//! Such a key is an error that says so, since leaving it out silently would leave a check out. The table is only asked about keys
//! that the schema does not know, so a row that has come true does no harm; remove it then.

/// Types of the config and the keys they will have.
const PLANNED: &[(&str, &[&str])] = &[
    ("Config", &["tests"]),
    ("RouteConfig", &["mode"]),
    ("ValidateAzureAdTokenConfig", &["mode"]),
    ("IpFilterConfig", &["mode"]),
    ("AuditConfig", &[]),
    ("TelemetryConfig", &["otlp"]),
];

/// Whether the type `owner` will have `key`.
pub(crate) fn is_planned(owner: &str, key: &str) -> bool {
    PLANNED.iter().any(|(name, keys)| *name == owner && keys.contains(&key))
}

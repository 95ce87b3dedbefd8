//! The settings of `validate-client-certificate`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{address::AddressEntryConfig, inbound::mode::ModeConfig};

/// Settings of `validate-client-certificate`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ValidateClientCertificateConfig {
    /// Whether an authority must vouch for the certificate. Otherwise each of the `identities` needs a `thumbprint`. Default:
    /// true.
    #[serde(default = "yes")]
    pub validate_trust: bool,
    /// Whether revocation is checked. Default: true, if there are revocation lists.
    pub validate_revocation: Option<bool>,
    /// Whether the start of the validity is checked. Default: true.
    #[serde(default = "yes")]
    pub validate_not_before: bool,
    /// Whether the end of the validity is checked. Default: true.
    #[serde(default = "yes")]
    pub validate_not_after: bool,
    /// The only trusted certificate authorities (PEM) here; read again when the file changes. Default: the listener's.
    pub ca: Option<String>,
    /// Revocation lists of `ca` (PEM or DER); read again when the files change. Default: none.
    #[serde(default)]
    pub crl: Vec<String>,
    /// The expected certificates: one of these has to match with all of its keys. Default: every certificate.
    pub identities: Option<Vec<IdentityConfig>>,
    /// The proxies that forward the certificate, and its header. Default: the certificate of the connection.
    pub from: Option<FromConfig>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

const fn yes() -> bool {
    true
}

/// An expected certificate. At least one of the keys; all that are present must match exactly.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct IdentityConfig {
    /// SHA-1 or SHA-256 of the certificate, in hexadecimal.
    pub thumbprint: Option<String>,
    /// The serial number, in hexadecimal.
    pub serial_number: Option<String>,
    /// The common name; a subject with several has none.
    pub common_name: Option<String>,
    /// The whole subject, the most specific part first: `CN=daemon, O=Fabrikam, C=NL`.
    pub subject: Option<String>,
    /// One of the DNS names, case-insensitively.
    pub dns_name: Option<String>,
    /// One of the URIs, such as `spiffe://fabrikam.example/daemon`.
    pub uri: Option<String>,
    /// One of the e-mail addresses.
    pub email: Option<String>,
    /// The whole subject of the issuer.
    pub issuer_subject: Option<String>,
    /// SHA-1 or SHA-256 of the certificate that issued it, in hexadecimal.
    pub issuer_thumbprint: Option<String>,
}

/// Proxies that terminate TLS, and forward the caller's certificate.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FromConfig {
    /// The header field that holds the certificate: percent-encoded PEM, base64, RFC 9440, or `X-Forwarded-Client-Cert`. It is
    /// removed from every request and never read from anyone else.
    pub header: String,
    /// The proxies: addresses, CIDRs, ranges or names of address sets. They must replace what a caller sends in that field.
    pub addresses: Vec<AddressEntryConfig>,
    /// Header fields that requests must also carry, each with its accepted values: they distinguish a proxy from others at the
    /// same addresses, as `X-Azure-FDID` does. Default: none.
    #[serde(default)]
    pub require_header: BTreeMap<String, Vec<String>>,
}

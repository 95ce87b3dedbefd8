//! What `validate-client-certificate` may be told.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::AddressEntryConfig;

/// Settings of `validate-client-certificate`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ValidateClientCertificateConfig {
    /// Whether an authority must vouch for the certificate. Without that, each of the `identities` needs a `thumbprint`. Default: true.
    #[serde(default = "yes")]
    pub validate_trust: bool,
    /// Whether the certificate must not have been revoked. Default: true, where there are revocation lists.
    pub validate_revocation: Option<bool>,
    /// Whether the certificate must be valid already. Default: true.
    #[serde(default = "yes")]
    pub validate_not_before: bool,
    /// Whether the certificate must still be valid. Default: true.
    #[serde(default = "yes")]
    pub validate_not_after: bool,
    /// The certificate authorities (PEM) that alone are trusted here; read again when the file changes. Default: the listener's.
    pub ca: Option<String>,
    /// Revocation lists of `ca` (PEM or DER); read again when the files change. Default: none.
    #[serde(default)]
    pub crl: Vec<String>,
    /// The certificates that are meant: one of these has to fit with all that is written of it. Default: every one.
    pub identities: Option<Vec<IdentityConfig>>,
    /// The proxies that hand the certificate on, and where. Default: it is the one of the connection.
    pub from: Option<FromConfig>,
}

const fn yes() -> bool {
    true
}

/// A certificate that is meant. At least one of the keys; all that are written must fit, letter by letter.
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
    /// One of the DNS names, whatever the case.
    pub dns_name: Option<String>,
    /// One of the URIs, as `spiffe://fabrikam.example/daemon`.
    pub uri: Option<String>,
    /// One of the e-mail addresses.
    pub email: Option<String>,
    /// The whole subject of the issuer.
    pub issuer_subject: Option<String>,
    /// SHA-1 or SHA-256 of the certificate that issued it, in hexadecimal.
    pub issuer_thumbprint: Option<String>,
}

/// Proxies that end TLS, and hand the caller's certificate on.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FromConfig {
    /// The header field that holds the certificate: percent-encoded PEM, base64, RFC 9440, or `X-Forwarded-Client-Cert`. It is
    /// removed from every request and never read from anyone else.
    pub header: String,
    /// The proxies: addresses, CIDRs, ranges or names of address sets. They must replace what a caller sends in that field.
    pub addresses: Vec<AddressEntryConfig>,
    /// Header fields that requests must bear besides, each with the values of which it must have one: they tell a proxy from others
    /// at the same addresses, as `X-Azure-FDID` does. Default: none.
    #[serde(default)]
    pub require_header: BTreeMap<String, Vec<String>>,
}

//! The header fields and query parameters in which callers send credentials: those that policies of the config read, wherever they
//! stand, and the usual ones.

use std::collections::BTreeSet;

use http::HeaderName;

use crate::settings::OneOrMany;

/// The fields that hold callers' credentials in most configs.
pub(crate) const USUAL: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "api-key",
    "x-api-key",
    "x-functions-key",
    "ocp-apim-subscription-key",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
];

/// The query parameters that hold credentials in most URLs: keys of functions, signatures, codes and tokens.
pub(crate) const USUAL_PARAMETERS: [&str; 9] =
    ["access_token", "api-key", "api_key", "apikey", "client_secret", "code", "key", "sig", "subscription-key"];

/// The names under which callers send credentials.
#[derive(Clone, Debug, Default)]
pub(crate) struct CredentialNames {
    /// Header fields besides the usual ones, in lower case.
    headers: BTreeSet<String>,
    /// Query parameters, in lower case.
    parameters: BTreeSet<String>,
}

impl CredentialNames {
    /// Adds the names that a policy reads.
    pub(super) fn add(&mut self, headers: Option<&OneOrMany<String>>, parameter: Option<&String>) {
        let headers = headers.map(OneOrMany::as_slice).unwrap_or_default();
        self.headers.extend(headers.iter().map(|name| name.to_ascii_lowercase()));
        self.parameters.extend(parameter.map(|name| name.to_ascii_lowercase()));
    }

    /// Returns whether a header field of this name may hold a credential.
    pub(crate) fn is_header(&self, name: &HeaderName) -> bool {
        USUAL.contains(&name.as_str()) || self.headers.contains(name.as_str())
    }

    /// Returns whether a query parameter of this name may hold one. Names are compared without case, as many backends do.
    pub(crate) fn is_parameter(&self, name: &str) -> bool {
        self.parameters.contains(&name.to_ascii_lowercase())
    }
}

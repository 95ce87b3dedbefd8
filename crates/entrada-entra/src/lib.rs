//! Microsoft Entra, as a gateway needs it: the HTTP client for it ([`identity_http`]); tenants, signing keys and access tokens
//! ([`entra`]); credentials for tokens of one's own, with Key Vault and managed identities ([`credentials`]); and Microsoft Graph
//! ([`graph`]). Nothing in here knows of listeners, upstreams or policies.

pub mod credentials;
pub mod entra;
pub mod graph;
pub mod identity_http;

use entrada_base::{self as base, refusal, settings};
#[cfg(any(test, feature = "testing"))]
use entrada_dev_tenant as dev_tenant;
use entrada_x509 as certificate;

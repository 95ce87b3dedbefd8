//! What the gateway found out of a request, for the service behind it.

use std::{net::IpAddr, sync::Arc};

use serde_json::Value;

use crate::{certificate::ClientCertificate, entra, exchange::Exchange, partner};

/// The token that a policy of the route has validated, in the extensions of a request. `Debug` shows no claims.
#[derive(Clone, Debug)]
pub struct Token(pub(super) Arc<entra::token::Token>);

impl Token {
    /// The claim of this exact name, as it was signed.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.0.claims.get(name)
    }

    /// The tenant that issued it: `tid`. Empty where an issuer other than Entra names none.
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// The user or application within this client: `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The user or application in the tenant: `oid`.
    pub fn object_id(&self) -> Option<&str> {
        self.0.object_id.as_deref()
    }

    /// The client application: `azp` or `appid`.
    pub fn client(&self) -> Option<&str> {
        self.0.client.as_deref()
    }

    /// Whether an application calls by itself, and no user stands behind it.
    pub fn is_application(&self) -> bool {
        self.0.kind == entra::token::TokenKind::App
    }

    /// Whether this scope was granted.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|granted| **granted == *scope)
    }

    /// Whether this role was granted.
    pub fn has_role(&self, role: &str) -> bool {
        self.0.roles.iter().any(|granted| **granted == *role)
    }

    /// When it ends, in seconds since 1970.
    pub fn expires_at(&self) -> u64 {
        self.0.expires_at
    }
}

/// The partner that calls, in the extensions of a request that a `check-partner` policy let through.
#[derive(Clone, Debug)]
pub struct Partner(pub(super) Arc<partner::Partner>);

impl Partner {
    /// The partner's name in the config.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// Who calls, as far as the connection and trusted proxies tell, in the extensions of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    address: IpAddr,
    route: Arc<str>,
    request_id: Box<str>,
    certificate: Option<Arc<ClientCertificate>>,
}

impl Caller {
    pub(super) fn of(exchange: &Exchange) -> Self {
        Self {
            address: exchange.caller_address(),
            route: exchange.route.as_ref().map_or_else(|| "".into(), |route| route.name().clone()),
            request_id: exchange.id.as_str().into(),
            certificate: exchange.certificate.clone(),
        }
    }

    /// The caller's address: the peer's, or what a trusted proxy says.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The request's id, as on the answer and in the record.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The SHA-256 thumbprint, in hexadecimal, of the certificate that a policy or the listener accepted.
    pub fn certificate_thumbprint(&self) -> Option<&str> {
        self.certificate.as_ref().map(|certificate| certificate.thumbprint_sha256())
    }
}

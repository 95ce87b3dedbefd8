//! Facts about a request that the gateway has established, for the service behind it.

use std::{net::IpAddr, sync::Arc};

use serde_json::Value;

use crate::{certificate::ClientCertificate, entra, exchange::Exchange, partner};

/// The token that a policy of the route has validated, in the extensions of a request. `Debug` shows no claims.
#[derive(Clone, Debug)]
pub struct Token(pub(super) Arc<entra::token::Token>);

impl Token {
    /// Returns the claim of exactly this name, as it was signed.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.0.claims.get(name)
    }

    /// Returns the tenant that issued the token (`tid`); empty if an issuer other than Entra names none.
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// Returns the identifier of the user or application, which is specific to the client (`sub`).
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// Returns the identifier of the user or application in the tenant (`oid`).
    pub fn object_id(&self) -> Option<&str> {
        self.0.object_id.as_deref()
    }

    /// Returns the client application (`azp` or `appid`).
    pub fn client(&self) -> Option<&str> {
        self.0.client.as_deref()
    }

    /// Returns whether the token is an application's own, without a user.
    pub fn is_application(&self) -> bool {
        self.0.kind == entra::token::TokenKind::App
    }

    /// Returns whether this scope was granted.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|granted| **granted == *scope)
    }

    /// Returns whether this role was granted.
    pub fn has_role(&self, role: &str) -> bool {
        self.0.roles.iter().any(|granted| **granted == *role)
    }

    /// Returns the expiry of the token, in seconds since 1970.
    pub fn expires_at(&self) -> u64 {
        self.0.expires_at
    }
}

/// The partner that calls, in the extensions of a request that a `check-partner` policy let through.
#[derive(Clone, Debug)]
pub struct Partner(pub(super) Arc<partner::Partner>);

impl Partner {
    /// Returns the partner's name in the config.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// The caller as identified by the connection and by trusted proxies, in the extensions of a request.
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

    /// Returns the caller's address: the peer's, or the one that a trusted proxy states.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the route's name.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Returns the request's id, as in the response and in the record.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the SHA-256 thumbprint, in hexadecimal, of the certificate that a policy or the listener accepted.
    pub fn certificate_thumbprint(&self) -> Option<&str> {
        self.certificate.as_ref().map(|certificate| certificate.thumbprint_sha256())
    }
}

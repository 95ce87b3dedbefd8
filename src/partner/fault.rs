//! The reasons why a call is not admitted as a partner's.

use std::{net::IpAddr, sync::Arc};

use crate::refusal::{Reason, Refusal};

/// The reason why a call is not admitted as a partner's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartnerFault {
    /// No partner has this application in this tenant, or takes this kind of token.
    #[error("no partner has the token's application in the token's tenant")]
    Unknown,
    /// `enabled: false`.
    #[error("the partner `{0}` is disabled")]
    Disabled(Arc<str>),
    /// Not among the partner's routes, or the policy's partners.
    #[error("the partner `{0}` may not use this route")]
    Route(Arc<str>),
    /// Not among the partner's addresses.
    #[error("the partner `{0}` does not call from {1}")]
    Address(Arc<str>, IpAddr),
    /// Less than a certificate.
    #[error("the partner `{0}` did not authenticate with a certificate")]
    Credential(Arc<str>),
    /// Not one of the partner's certificates, or one that is not valid now.
    #[error("the caller showed no valid certificate of the partner `{0}`")]
    Certificate(Arc<str>),
    /// After its last day.
    #[error("the access of the partner `{0}` has ended")]
    Expired(Arc<str>),
}

impl PartnerFault {
    /// Returns the partner, if one was identified.
    pub fn partner(&self) -> Option<&Arc<str>> {
        match self {
            Self::Unknown => None,
            Self::Disabled(name)
            | Self::Route(name)
            | Self::Address(name, _)
            | Self::Credential(name)
            | Self::Certificate(name)
            | Self::Expired(name) => Some(name),
        }
    }
}

impl From<PartnerFault> for Refusal {
    fn from(fault: PartnerFault) -> Self {
        let reason = match &fault {
            PartnerFault::Unknown => Reason::PartnerUnknown,
            PartnerFault::Disabled(_) => Reason::PartnerDisabled,
            PartnerFault::Route(_) => Reason::PartnerRouteNotAllowed,
            PartnerFault::Address(..) => Reason::PartnerAddressNotAllowed,
            PartnerFault::Credential(_) | PartnerFault::Certificate(_) => Reason::PartnerCredentialTooWeak,
            PartnerFault::Expired(_) => Reason::PartnerExpired,
        };
        Self::new(reason, fault)
    }
}

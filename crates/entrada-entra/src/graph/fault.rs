//! The reason why Graph gave no answer.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;

use crate::{
    credentials::CredentialError,
    identity_http::IdentityHttpError,
    refusal::{Reason, Refusal},
};

/// The pause after Graph was unreachable.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause that Graph may demand.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The reason why Graph gave no answer. Names no user and no group.
#[derive(Debug, thiserror::Error)]
pub enum GraphFault {
    /// No token for Microsoft Graph could be acquired.
    #[error("there is no token for Microsoft Graph")]
    Credential(#[from] CredentialError),
    /// Microsoft Graph was not reached.
    #[error("Microsoft Graph cannot be reached")]
    Unreachable(#[from] IdentityHttpError),
    /// Microsoft Graph was throttled or failed; `retry_after` is in seconds.
    #[error("Microsoft Graph is busy (status {})", status.as_u16())]
    Busy {
        /// The status of its answer.
        status: StatusCode,
        /// The seconds to wait, as the answer says.
        retry_after: Option<u64>,
    },
    /// Microsoft Graph is left alone for so many seconds more.
    #[error("Microsoft Graph is not called for another {seconds} s")]
    Paused {
        /// The seconds that remain.
        seconds: u64,
    },
    /// Microsoft Graph did not accept the token.
    #[error("Microsoft Graph refused the gateway's token")]
    Unauthorized,
    /// Microsoft Graph refused the request.
    #[error("Microsoft Graph refused the query (status {}, {code})", status.as_u16())]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// The error's code, as Graph names it.
        code: Box<str>,
    },
    /// The answer is not what Microsoft Graph answers.
    #[error("the answer of Microsoft Graph cannot be read")]
    Nonsense,
    /// The caller is no person, and has no memberships.
    #[error("the token names no user for a query to Microsoft Graph")]
    NoPerson,
    /// The request was not begun.
    #[error("Microsoft Graph is not called yet")]
    NotStarted,
    /// The answer is not known, and nobody is asked.
    #[error("an answer of Microsoft Graph is needed that is not at hand")]
    NotAtHand,
    /// The request ended without an answer.
    #[error("the call to Microsoft Graph was aborted")]
    Interrupted,
}

impl GraphFault {
    /// Returns the demanded pause.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => {
                Some(retry_after.map_or(PAUSE, |seconds| Duration::from_secs(seconds).clamp(PAUSE, LONGEST_PAUSE)))
            }
            Self::Unreachable(_) => Some(PAUSE),
            _ => None,
        }
    }

    /// Returns the reason that the caller is told: the gateway could not use its credential, except for faults that only the
    /// caller's tenant can mend.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Credential(error) => error.reason(),
            _ => Reason::CredentialUnavailable,
        }
    }

    /// Returns the seconds after which to retry.
    pub fn retry_after(&self) -> Option<u32> {
        let seconds = match self {
            Self::Credential(error) => error.retry_in?.as_secs() + 1,
            Self::Paused { seconds } => *seconds,
            fault => fault.pause().unwrap_or(PAUSE).as_secs(),
        };
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Returns the operator's remedy.
    pub fn cure(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Credential(error) => error.cure(),
            Self::Unauthorized | Self::Refused { status: StatusCode::FORBIDDEN, .. } => Some(
                "grant the application of the lookup's credential the application permissions User.Read.All and GroupMember.Read.All \
                 of Microsoft Graph (API permissions in its app registration), with admin consent"
                    .into(),
            ),
            Self::Refused { .. } => Some("see that every group and attribute that the policy names exists in the tenant".into()),
            Self::Unreachable(_) | Self::Nonsense => {
                Some("see that this machine reaches Microsoft Graph, through `identity-http.proxy` if need be".into())
            }
            Self::Busy { .. } | Self::Paused { .. } => None,
            Self::NoPerson | Self::NotStarted | Self::NotAtHand | Self::Interrupted => None,
        }
    }
}

impl From<&GraphFault> for Refusal {
    fn from(fault: &GraphFault) -> Self {
        let mut refusal = Self::from(fault.reason());
        refusal.retry_after = fault.retry_after().filter(|_| fault.reason() == Reason::CredentialUnavailable);
        refusal.hint = fault.cure();
        refusal
    }
}

//! Failures of a store, and their kinds.

use crate::resp::{ProtocolError, ServerError};

/// The reason why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The client was not started, or has ended.
    #[error("the store is not in use")]
    NotRunning,
    /// The store did not answer in time. What was asked may still happen there.
    #[error("the store did not answer in time")]
    Timeout,
    /// There is no connection, and none can be made.
    #[error("no connection: {0}")]
    Connect(Box<str>),
    /// The connection was lost before the reply. What was asked may have happened.
    #[error("the connection was lost: {0}")]
    Lost(Box<str>),
    /// Too many calls wait already.
    #[error("too many calls wait for the store")]
    Overload,
    /// The server does not speak the protocol.
    #[error("the store's answer cannot be read: {0}")]
    Protocol(#[from] ProtocolError),
    /// The reply is of another form than the command has.
    #[error("the store answered something else than was asked")]
    Unexpected,
    /// The server answered with an error.
    #[error("the store refused: {0}")]
    Refused(#[from] ServerError),
}

/// The kind of a failure, for metrics and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// No answer in time.
    Timeout,
    /// No connection, or it was lost.
    Connection,
    /// Too many calls wait.
    Overload,
    /// The name, the password or the token is not accepted.
    Authentication,
    /// The user lacks a command or a key.
    Permission,
    /// The store is full.
    Memory,
    /// The server is a replica, or has too few of them.
    ReadOnly,
    /// The server is starting, or runs a script that does not end.
    Busy,
    /// The cluster is incomplete, or sends calls from node to node.
    Cluster,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::Connection,
        Self::Overload,
        Self::Authentication,
        Self::Permission,
        Self::Memory,
        Self::ReadOnly,
        Self::Busy,
        Self::Cluster,
        Self::Other,
    ];

    /// Returns the kind as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Overload => "overload",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::Memory => "memory",
            Self::ReadOnly => "read-only",
            Self::Busy => "busy",
            Self::Cluster => "cluster",
            Self::Other => "other",
        }
    }
}

impl Failure {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Timeout => FailureKind::Timeout,
            Self::NotRunning | Self::Connect(_) | Self::Lost(_) => FailureKind::Connection,
            Self::Overload => FailureKind::Overload,
            Self::Protocol(_) | Self::Unexpected => FailureKind::Other,
            Self::Refused(error) => match error.prefix() {
                "NOAUTH" | "WRONGPASS" => FailureKind::Authentication,
                "NOPERM" => FailureKind::Permission,
                // A command that is missing within a script has no prefix of its own.
                "ERR" if lacks_permission(error.text()) => FailureKind::Permission,
                "OOM" => FailureKind::Memory,
                "READONLY" | "MASTERDOWN" | "NOREPLICAS" => FailureKind::ReadOnly,
                "LOADING" | "BUSY" => FailureKind::Busy,
                "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" => FailureKind::Cluster,
                _ => FailureKind::Other,
            },
        }
    }
}

/// Returns whether an error says that the user may not run a command, as the servers put it for one within a script.
fn lacks_permission(text: &str) -> bool {
    text.contains("can't run this command") || text.contains("ACL failure in script") || text.contains("no permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_the_first_word() {
        for (text, kind) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", "authentication"),
            ("NOAUTH Authentication required.", "authentication"),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", "permission"),
            (
                "ERR The user executing the script can't run this command or subcommand script: 1f2e, on @user_script:1.",
                "permission",
            ),
            ("ERR ACL failure in script: User entrada has no permissions to run the 'time' command script: 1f2e", "permission"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "memory"),
            ("READONLY You can't write against a read only replica.", "read-only"),
            ("LOADING Redis is loading the dataset in memory", "busy"),
            ("BUSY Redis is busy running a script.", "busy"),
            ("CLUSTERDOWN Hash slot not served", "cluster"),
            ("CROSSSLOT Keys in request don't hash to the same slot", "cluster"),
            ("ERR unknown command", "other"),
            ("", "other"),
        ] {
            assert_eq!(Failure::Refused(ServerError::new(text)).kind().as_str(), kind, "{text}");
        }
        assert_eq!(FailureKind::ALL.map(FailureKind::as_str).len(), 10);
    }
}

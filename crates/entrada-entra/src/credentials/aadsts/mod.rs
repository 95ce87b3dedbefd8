//! Entra's error codes, explained for operators.
//!
//! Microsoft warns that codes and texts change. Therefore only two things depend on them: the advice in logs, status and `entrada
//! token acquire`, and the decision to try another certificate. The advice depends on the party that asked: Conditional Access can
//! require a new sign-in of a user, but not of an application.

mod table;
pub(in crate::credentials) use table::RENEW;

#[cfg(test)]
mod tests;

/// The meaning of an error code, and its remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The meaning, in few words.
    pub meaning: &'static str,
    /// The operator's remedy.
    pub cure: &'static str,
    /// The gateway's next step.
    pub next: Next,
}

/// The condition under which the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Never.
    Nothing,
    /// With the certificate that is now on disk or in the vault, or with the other one.
    OtherCertificate,
    /// After a while.
    Wait,
    /// After the user has signed in again.
    Interaction,
    /// After the tenant's administrator has consented.
    Consent,
}

/// The party that asked for the refused token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The gateway, for itself (client credentials).
    Gateway,
    /// The gateway, on behalf of the user who calls.
    User,
    /// A partner's client, whose request was relayed.
    Partner,
    /// A partner's client on behalf of a user, whose request was relayed.
    PartnerUser,
    /// The gateway, at the platform that it runs on (managed identity), which has no error codes of Entra.
    Platform,
}

impl Asker {
    /// Returns whether a user is involved, who can sign in again.
    const fn has_user(self) -> bool {
        matches!(self, Self::User | Self::PartnerUser)
    }
}

/// Returns the advice on an answer: by Entra's code if it is known, or else by the OAuth error.
pub fn advice(code: Option<u32>, error: &str, asker: Asker) -> Option<Advice> {
    if asker == Asker::Platform {
        return None;
    }
    code.and_then(|code| table::find(code, asker)).or_else(|| table::by_error(error, asker))
}

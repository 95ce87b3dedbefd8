//! Facts about a policy that follow from its settings.

use super::mode::ModeConfig;

/// The properties of a route that the meaning of a policy's settings may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DependsOn {
    /// None: the policy means the same on every route.
    Nothing,
    /// The captures of its path: the settings contain expressions, or a path.
    Captures,
    /// The route itself.
    Route,
}

/// The subject of a policy, in words: for people who ask why a request is decided as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The part of the request that the policy looks at or changes.
    pub(crate) looked_at: String,
    /// The values that it wants, as written: constants and expressions.
    pub(crate) wanted: Vec<String>,
}

impl Subject {
    pub(crate) fn new(looked_at: impl Into<String>, wanted: impl IntoIterator<Item = String>) -> Self {
        Self { looked_at: looked_at.into(), wanted: wanted.into_iter().collect() }
    }
}

/// The settings of a policy. The rest of the gateway asks these questions where a policy's kind matters; the defaults are the
/// answers for a policy that only judges or changes a request.
pub(crate) trait PolicySettings {
    /// Returns whether the policy establishes the caller's identity.
    fn authenticates(&self) -> bool {
        false
    }

    /// Returns whether the policy requires a token, or a key in place of one.
    fn requires_token(&self) -> bool {
        false
    }

    /// Returns whether no request gets past the policy.
    fn ends_request(&self) -> bool {
        false
    }

    /// Returns whether the policy determines the partner that calls.
    fn checks_partner(&self) -> bool {
        false
    }

    /// Returns whether the policy decides which of the callers with a valid token may pass.
    fn restricts_callers(&self) -> bool {
        false
    }

    /// Returns whether the policy accepts certificates from a proxy's header fields.
    fn accepts_forwarded_certificates(&self) -> bool {
        false
    }

    /// Returns the property of a route that the settings depend on.
    fn depends_on(&self) -> DependsOn {
        DependsOn::Nothing
    }

    /// Returns whether the policy only judges requests. What changes one, or answers it, is no judgement: without it the backend
    /// would receive another request than is meant.
    fn judges(&self) -> bool {
        false
    }

    /// Returns the mode that the settings have; those that judge nothing have none.
    fn mode(&self) -> ModeConfig {
        ModeConfig::Enforce
    }

    /// Returns the files that the settings name, as written.
    fn files(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Returns the subject in words. Without any, the name of the policy and its refusal stand alone.
    fn subject(&self) -> Subject {
        Subject::default()
    }
}

impl<S: PolicySettings> PolicySettings for Box<S> {
    fn authenticates(&self) -> bool {
        S::authenticates(self)
    }

    fn requires_token(&self) -> bool {
        S::requires_token(self)
    }

    fn ends_request(&self) -> bool {
        S::ends_request(self)
    }

    fn checks_partner(&self) -> bool {
        S::checks_partner(self)
    }

    fn restricts_callers(&self) -> bool {
        S::restricts_callers(self)
    }

    fn accepts_forwarded_certificates(&self) -> bool {
        S::accepts_forwarded_certificates(self)
    }

    fn depends_on(&self) -> DependsOn {
        S::depends_on(self)
    }

    fn judges(&self) -> bool {
        S::judges(self)
    }

    fn mode(&self) -> ModeConfig {
        S::mode(self)
    }

    fn files(&self) -> Vec<&str> {
        S::files(self)
    }

    fn subject(&self) -> Subject {
        S::subject(self)
    }
}

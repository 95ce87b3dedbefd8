//! The evidence by which a request was judged, for judging it once more: beside the answer by another config, or later from its record.

use std::sync::Arc;

use crate::{
    base::fields::Fields,
    entra::{Moment, PayloadForm, Verified, VerifiedWith, Verifier},
    expression::KnownFacts,
    graph::GraphAnswer,
    partner::KeyMark,
    refusal::Reason,
    request::TokenPlace,
};

/// The evidence of one request.
#[derive(Debug, Default)]
pub struct Evidence {
    /// True if a candidate judges the request when it was answered.
    pub for_candidate: bool,
    /// The tokens, in the order in which policies judged them.
    pub tokens: Vec<TokenEvidence>,
    /// The answers of Microsoft Graph.
    pub graph: Vec<GraphAnswer>,
    /// The API keys that policies looked for.
    pub keys: Vec<KeyEvidence>,
    /// The header fields as received, if the route's policies see fewer.
    pub headers: Option<Fields>,
    /// The facts of the request that a record tells; `None` while the request itself is there.
    pub recorded: Option<Box<KnownFacts>>,
}

/// The verification of one token.
#[derive(Clone, Debug)]
pub struct TokenEvidence {
    /// Its place.
    pub place: TokenPlace,
    /// The name of the keys and algorithms with which it was verified.
    pub verifier: Arc<str>,
    /// The same within this process; absent for what a record says.
    pub with: Option<VerifiedWith>,
    /// The token, with the form in which it was read, or the reason why there is none.
    pub result: Result<(Arc<Verified>, PayloadForm), Reason>,
}

/// An API key that a policy looked for.
#[derive(Clone, Debug)]
pub struct KeyEvidence {
    /// Its place.
    pub place: TokenPlace,
    /// The keys that there were, as a whole.
    pub among: KeyMark,
    /// The one that it was; `None` for another one.
    pub mark: Option<KeyMark>,
}

/// The result of an earlier verification, as far as it counts for a policy.
#[derive(Clone, Debug)]
pub enum Earlier {
    /// The signature held.
    Held(Arc<Verified>),
    /// It failed for this reason.
    Failed(Reason),
    /// Nothing is known of it.
    Unknown,
}

impl Evidence {
    /// Returns what is known of the token in this place, for a verifier of this name.
    pub(crate) fn of(&self, place: &TokenPlace, verifier: &Verifier, name: &str, now: Moment) -> Earlier {
        for token in self.tokens.iter().filter(|token| token.place == *place) {
            let same = match &token.with {
                Some(with) => match &token.result {
                    Ok((verified, _)) => verifier.confirms(verified, now),
                    Err(_) => verifier.is_with(with),
                },
                None => *token.verifier == *name,
            };
            if same {
                return match &token.result {
                    Ok((verified, _)) => Earlier::Held(verified.clone()),
                    Err(reason) => Earlier::Failed(*reason),
                };
            }
        }
        Earlier::Unknown
    }

    /// Returns whether it comes from a record: the token itself is not there.
    pub(crate) const fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }
}

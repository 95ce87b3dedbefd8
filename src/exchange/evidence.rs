//! The evidence by which a request was judged, for judging it once more: beside the answer by another config, or later from its record.

use std::{cell::RefCell, sync::Arc};

use crate::{
    base::{buffers, fields::Fields},
    entra::{Moment, PayloadForm, Verified, VerifiedWith, Verifier},
    expression::KnownFacts,
    graph::GraphAnswer,
    partner::KeyMark,
    refusal::Reason,
    request::{Captures, TokenPlace},
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
    /// The index of the route that another config has found, and its captures, where this one has the same routes.
    pub found: Option<(usize, Captures)>,
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

/// The most rooms for evidence that a thread keeps for reuse.
const ROOMS: usize = 64;
/// The most tokens for which a room is kept.
const MOST_TOKENS: usize = 8;

/// The room of evidence that nobody uses.
struct Room(Box<Evidence>);

thread_local! {
    static SPARE: RefCell<Vec<Room>> = const { RefCell::new(Vec::new()) };
}

impl Evidence {
    /// Makes the empty evidence of a request, in room that the thread has left if there is some.
    pub(crate) fn begin(for_candidate: bool) -> Box<Self> {
        let mut room = SPARE.with_borrow_mut(Vec::pop).map_or_else(Box::default, |Room(room)| room);
        room.for_candidate = for_candidate;
        room
    }

    /// Keeps the room for another request, without what is in it.
    pub(crate) fn keep(mut self: Box<Self>) {
        let Self { for_candidate, tokens, graph, keys, headers, found, recorded } = &mut *self;
        *for_candidate = false;
        tokens.clear();
        graph.clear();
        keys.clear();
        headers.take().into_iter().for_each(buffers::keep_fields);
        (*found, *recorded) = (None, None);
        if self.tokens.capacity() <= MOST_TOKENS {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < ROOMS {
                    spare.push(Room(self));
                }
            });
        }
    }

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

    /// Returns whether it comes from a record that stands for the tokens as well: they are not in the request.
    pub(crate) fn stands_for_tokens(&self) -> bool {
        self.recorded.as_ref().is_some_and(|known| !known.tokens)
    }

    /// Returns whether it comes from a record: what is not in it is not known.
    pub(crate) const fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }
}

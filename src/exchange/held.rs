//! What a request holds of limits while it goes on, and what is counted when it ends.

use std::sync::Arc;

use crate::limits::{Fixed, Owner, Permit, Receipt, Sliding};
use crate::{
    exchange::Exchange,
    expression::{Expression, Facts},
    request::IncomingRequest,
};

/// What a request holds of limits: it is on the exchange, and goes with it when the answer's body has ended.
#[derive(Debug, Default)]
pub struct Held {
    /// Calls under way.
    pub permits: Vec<Permit>,
    /// What is counted when the request has ended.
    pub pending: Vec<Pending>,
    /// The partner that the request was counted for.
    pub partner: Option<Arc<str>>,
}

/// Something that is settled when the request has ended.
#[derive(Clone, Debug)]
pub enum Pending {
    /// A call that has its place since it began, and gives it back unless the condition holds then.
    Rate(Arc<Sliding>, Receipt, Arc<Expression>),
    /// The same against a quota.
    Quota(Arc<Fixed>, Receipt, Arc<Expression>),
    /// The bytes of both bodies, counted then if the condition holds.
    Bandwidth(Arc<Fixed>, (Owner, Box<str>), Option<Arc<Expression>>),
}

impl Pending {
    /// Gives back what the call had taken.
    fn give_back(self) {
        match self {
            Self::Rate(counter, receipt, _) => counter.give_back(receipt),
            Self::Quota(counter, receipt, _) => counter.give_back(receipt),
            Self::Bandwidth(..) => {}
        }
    }
}

impl Held {
    /// Forgets what was to be settled since there were so many of them: a policy tried a way that led nowhere.
    pub(crate) fn give_back_to(&mut self, pending: usize) {
        self.pending.drain(pending..).for_each(Pending::give_back);
    }

    /// Settles what was to be settled at the end, and gives all permits back. To be called when the bodies have ended, for they are
    /// counted too; `incoming` is absent for a request whose head could not be read, which no policy has seen.
    pub fn settle(exchange: &mut Exchange, incoming: Option<&IncomingRequest>) {
        let held = std::mem::take(&mut exchange.limits);
        let Some(incoming) = incoming.filter(|_| !held.pending.is_empty()) else { return };
        let facts = Facts::of(exchange, incoming);
        // A condition that cannot be judged does not let a call go uncounted: whoever leaves before the answer keeps its place taken.
        let counts = |condition: &Expression| condition.holds(&facts).unwrap_or(true);
        for pending in held.pending {
            match &pending {
                Pending::Rate(_, _, condition) | Pending::Quota(_, _, condition) => {
                    if !counts(condition) {
                        pending.give_back();
                    }
                }
                Pending::Bandwidth(counter, key, condition) => {
                    if condition.as_ref().is_none_or(|condition| counts(condition)) {
                        let bytes = exchange.outcome.bytes_in.get().saturating_add(exchange.outcome.bytes_out);
                        counter.count(key, bytes, exchange.clock().unix());
                    }
                }
            }
        }
    }
}

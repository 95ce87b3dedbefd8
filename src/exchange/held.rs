//! The limits that a request occupies while it runs, and the counts to be made when it ends.

use std::sync::Arc;

use crate::limits::{Fixed, Owner, Permit, Receipt, Sliding};
use crate::{exchange::Exchange, expression::Expression, request::IncomingRequest};

/// A request's share of limits: stored on the exchange, and released when the response body has ended.
#[derive(Debug, Default)]
pub struct Held {
    /// The permits of concurrent calls.
    pub permits: Vec<Permit>,
    /// The counts to be made when the request has ended.
    pub pending: Vec<Pending>,
    /// The partner that the request was counted for.
    pub partner: Option<Arc<str>>,
}

/// A count that is settled when the request has ended.
#[derive(Clone, Debug)]
pub enum Pending {
    /// A call that was counted when it began, and that is given back unless the condition is true at the end.
    Rate(Arc<Sliding>, Receipt, Arc<Expression>),
    /// The same for a quota.
    Quota(Arc<Fixed>, Receipt, Arc<Expression>),
    /// The bytes of both bodies, counted at the end if the condition is true.
    Bandwidth(Arc<Fixed>, (Owner, Box<str>), Option<Arc<Expression>>),
}

impl Pending {
    /// Gives back the count of the call.
    fn give_back(self) {
        match self {
            Self::Rate(counter, receipt, _) => counter.give_back(receipt),
            Self::Quota(counter, receipt, _) => counter.give_back(receipt),
            Self::Bandwidth(..) => {}
        }
    }
}

impl Held {
    /// Drops the pending counts beyond this number: a policy tried an alternative that failed.
    pub(crate) fn give_back_to(&mut self, pending: usize) {
        self.pending.drain(pending..).for_each(Pending::give_back);
    }

    /// Settles the pending counts, and gives all permits back. Must be called when the bodies have ended, since they are counted
    /// too; `incoming` is absent for a request whose head could not be read, which no policy has seen.
    pub fn settle(exchange: &mut Exchange, incoming: Option<&IncomingRequest>) {
        let held = std::mem::take(&mut exchange.limits);
        let Some(incoming) = incoming.filter(|_| !held.pending.is_empty()) else { return };
        let facts = exchange.facts(incoming);
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
                        counter.count(key, bytes, exchange.clock.unix());
                    }
                }
            }
        }
    }
}

//! The limits that a request occupies while it runs, and the counts to be made when it ends.

use std::sync::Arc;

use crate::limits::{CountReceipt, Limiter, Permit, store::SharedPermit};
use crate::{exchange::Exchange, expression::Expression, request::IncomingRequest};

/// A request's share of limits: stored on the exchange, and released when the response body has ended.
#[derive(Debug, Default)]
pub struct Held {
    /// The permits of concurrent calls.
    pub(crate) permits: Vec<HeldPermit>,
    /// The counts to be made when the request has ended.
    pub(crate) pending: Vec<Pending>,
    /// The partner that the request was counted for.
    pub partner: Option<Arc<str>>,
}

/// A permit of a concurrent call, given back when it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "a permit is held, and not looked at")]
pub(crate) enum HeldPermit {
    /// Of this process.
    Local(Permit),
    /// Of the store that several gateways share.
    Shared(SharedPermit),
}

/// A count that is settled when the request has ended.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    /// A call that was counted when it began, and that is given back unless the condition is true at the end.
    Call(Arc<Limiter>, CountReceipt, Arc<Expression>),
    /// The bytes of both bodies, counted at the end for this key if the condition is true.
    Bandwidth(Arc<Limiter>, Box<str>, Option<Arc<Expression>>),
}

impl Pending {
    /// Gives back the count of the call.
    fn give_back(self) {
        match self {
            Self::Call(limiter, receipt, _) => limiter.give_back(receipt),
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
        for pending in held.pending {
            match pending {
                Pending::Call(limiter, receipt, condition) => {
                    if !counts(&condition, exchange, incoming) {
                        limiter.give_back(receipt);
                    }
                }
                Pending::Bandwidth(limiter, key, condition) => {
                    if condition.is_none_or(|condition| counts(&condition, exchange, incoming)) {
                        let bytes = exchange.outcome.bytes_in.get().saturating_add(exchange.outcome.bytes_out);
                        limiter.count(&key, bytes, &exchange.clock, &mut exchange.trace);
                    }
                }
            }
        }
    }
}

/// Returns whether a call stays counted. A condition that cannot be judged does not let it go uncounted: whoever leaves before the
/// answer keeps its place taken.
fn counts(condition: &Expression, exchange: &Exchange, incoming: &IncomingRequest) -> bool {
    condition.holds(&exchange.facts(incoming)).unwrap_or(true)
}

//! What a request holds of limits while it goes on, and what is counted when it ends.

use std::sync::Arc;

use super::{Fixed, Permit, Sliding};
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

/// Something that is counted when the request has ended.
#[derive(Clone, Debug)]
pub enum Pending {
    /// A call, if the condition holds then.
    Rate(Arc<Sliding>, Box<str>, u64, Arc<Expression>),
    /// A call against a quota, if the condition holds then.
    Quota(Arc<Fixed>, Box<str>, u64, Option<Arc<Expression>>),
    /// The bytes of both bodies, if the condition holds then.
    Bandwidth(Arc<Fixed>, Box<str>, Option<Arc<Expression>>),
}

impl Held {
    /// Counts what was to be counted at the end, and gives all permits back. To be called when the bodies have ended, for they are
    /// counted too; `incoming` is absent for a request whose head could not be read, which no policy has seen.
    pub fn settle(exchange: &mut Exchange, incoming: Option<&IncomingRequest>) {
        let held = std::mem::take(&mut exchange.limits);
        let Some(incoming) = incoming.filter(|_| !held.pending.is_empty()) else { return };
        let facts = Facts::of(exchange, incoming);
        // A condition that cannot be judged does not let a call go uncounted.
        let counts = |condition: &Expression| condition.holds(&facts).unwrap_or(true);
        let clock = exchange.clock();
        for pending in held.pending {
            match pending {
                Pending::Rate(counter, key, cost, condition) => {
                    if counts(&condition) {
                        counter.count(&key, cost, clock.monotonic());
                    }
                }
                Pending::Quota(counter, key, cost, condition) => {
                    if condition.is_none_or(|condition| counts(&condition)) {
                        counter.count(&key, cost, clock.unix());
                    }
                }
                Pending::Bandwidth(counter, key, condition) => {
                    if condition.is_none_or(|condition| counts(&condition)) {
                        let bytes = exchange.outcome.bytes_in.get().saturating_add(exchange.outcome.bytes_out);
                        counter.count(&key, bytes, clock.unix());
                    }
                }
            }
        }
    }
}

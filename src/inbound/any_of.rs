//! Admits requests that one of several lists of policies admits.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/any-of.yaml")]
//! ```
//!
//! The lists are tried in their order, and the first that admits the request wins: its token is `token`, and its changes go
//! upstream. The changes of a list that refused are undone, except for counts. If all refuse, the first list's refusal is the
//! response.

use std::sync::Arc;

use super::settings::PolicySettings;
use super::{
    PolicyConfig,
    build_context::BuildContext,
    list::{ListContext, PolicyList, Written},
};
use crate::{
    exchange::Exchange,
    refusal::{
        Stop,
        trace::{Step, Verdict},
    },
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// Admits requests that one of several lists of policies admits.
#[derive(Debug)]
pub struct AnyOf(Vec<Alternative>);

/// One of the lists.
#[derive(Debug)]
struct Alternative {
    list: PolicyList,
    /// Its name in traces: `inbound[1].any-of[0]`.
    at: Arc<str>,
    place: Place,
}

impl PolicySettings for Vec<Vec<PolicyConfig>> {
    fn judges(&self) -> bool {
        true
    }
}

impl AnyOf {
    pub(crate) fn build(
        config: &[Vec<PolicyConfig>],
        (place, at): (&Place, &str),
        within: ListContext<'_>,
        context: &mut BuildContext<'_>,
    ) -> Option<Self> {
        let errors = context.faults.errors();
        let (before, mut after) = (context.tokens_before.clone(), context.tokens_before.clone());
        let mut lists = Vec::with_capacity(config.len());
        for (index, policies) in config.iter().enumerate() {
            let place = place.index(index);
            if policies.is_empty() {
                context.faults.error(
                    &place,
                    "the list is empty, so every request would pass",
                    "write a policy, or leave the list out",
                );
            }
            let name = format!("{at}[{index}]");
            context.tokens_before.clone_from(&before);
            // Which list admits is decided by their refusals: report-only is the policy as a whole.
            let within = ListContext { report_only: false, ..within };
            let written = Written { policies, place: place.clone(), name: &name, shared: false, report_only: false };
            let list = PolicyList::build(&[written], within, context);
            lists.push(Alternative { list, at: name.into(), place });
            after.join(context.tokens_before);
        }
        *context.tokens_before = after;
        if config.len() < 2 {
            context.faults.error(place, "there are fewer than two lists to choose from", "write at least two lists of policies");
        }
        (context.faults.errors() == errors).then_some(Self(lists))
    }

    /// Returns the lists, in the order they are tried.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &PolicyList> {
        self.0.iter().map(|alternative| &alternative.list)
    }

    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        let mut first = None;
        let judged_before = (exchange.refused_token.clone(), exchange.refused_place.clone(), exchange.judged_certificate.clone());
        let had_seen = exchange.token_seen.is_some();
        for Alternative { list, at, place } in &self.0 {
            let before = exchange.checkpoint();
            let mut tried = outgoing.clone();
            let result = list.run_within(exchange, incoming, &mut tried).await;
            exchange.trace.note(|| Step::new(at.clone(), Some(place.clone()), Verdict::of(&result), "".into()));
            match result {
                Ok(()) => {
                    *outgoing = tried;
                    if first.is_some() {
                        // The caller is who this list found: what others have refused says nothing of it.
                        (exchange.refused_token, exchange.refused_place, exchange.judged_certificate) = judged_before;
                        exchange.judged_certificate = exchange.certificate.clone().or_else(|| exchange.judged_certificate.take());
                        exchange.token_seen.take_if(|_| !had_seen);
                    }
                    return Ok(());
                }
                Err(Stop::Refuse(refusal)) => {
                    let decided = exchange.outcome.policy.take();
                    let partner = (exchange.partner.take(), exchange.api_key.take());
                    exchange.restore(before);
                    first.get_or_insert((refusal, decided, partner));
                }
                Err(answer @ Stop::Respond(_)) => return Err(answer),
            }
        }
        match first {
            None => Ok(()),
            Some((refusal, decided, partner)) => {
                exchange.outcome.policy = decided;
                // For the record, and for nothing else: the request ends here.
                (exchange.partner, exchange.api_key) = partner;
                Err(Stop::Refuse(refusal))
            }
        }
    }
}

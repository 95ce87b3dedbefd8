//! Report-only: policies that judge a request, and whose refusal is recorded and counted instead of enforced.

use std::sync::Arc;

use super::{InboundPolicy, PolicyConfig, PolicyEntry, mode::ModeConfig};
use crate::{
    exchange::{Exchange, WouldDeny},
    refusal::{
        Reason, Refusal, Stop,
        trace::{Step, Verdict},
    },
    request::IncomingRequest,
    upstream::UpstreamRequest,
};

impl PolicyConfig {
    /// Returns the mode that the policy's own settings have.
    pub(crate) fn mode(&self) -> ModeConfig {
        self.settings().map_or(ModeConfig::Enforce, |settings| settings.mode())
    }

    /// Returns whether the policy only judges requests.
    pub(crate) fn judges(&self) -> bool {
        self.is(|settings| settings.judges())
    }
}

impl PolicyEntry {
    /// Returns whether a refusal is not enforced.
    pub(crate) const fn is_report_only(&self) -> bool {
        self.report_only
    }

    /// Runs the policy, and records its refusal instead of enforcing it. What a refused policy has found and changed is undone.
    ///
    /// # Errors
    /// Returns the gateway's own response that ends the request.
    pub(super) async fn report(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        exchange.outcome.report_only = true;
        let before = exchange.checkpoint();
        let unchanged = outgoing.clone();
        let refusal = match self.policy.run(exchange, incoming, outgoing).await {
            Ok(()) => {
                exchange.trace.note(|| self.step(Verdict::Passed, None));
                return Ok(());
            }
            Err(Stop::Refuse(refusal)) => refusal,
            Err(answer @ Stop::Respond(_)) => {
                exchange.outcome.policy.get_or_insert_with(|| self.at.clone());
                exchange.trace.note(|| self.step(Verdict::Answered, None));
                return Err(answer);
            }
        };
        // One within it may have said that it decided; nothing is decided.
        exchange.outcome.policy = None;
        exchange.restore(before);
        *outgoing = unchanged;
        let reason = self.reported(&refusal);
        exchange.trace.note(|| self.step(Verdict::WouldRefuse(reason), Some(&refusal)));
        let code = refusal.code.clone().filter(|_| reason == refusal.reason);
        let place = self.position.get().cloned();
        exchange.outcome.would_deny.push(WouldDeny { at: self.at.clone(), place, reason, code });
        Ok(())
    }

    /// Returns the reason that is recorded. A caller gets that of the first alternative; an operator asks why none was taken.
    fn reported(&self, refusal: &Refusal) -> Reason {
        if matches!(self.policy, InboundPolicy::AnyOf(_)) { Reason::NoneAdmitted } else { refusal.reason }
    }

    pub(super) fn step(&self, verdict: Verdict, refusal: Option<&Refusal>) -> Step {
        let cause = refusal.and_then(|refusal| refusal.cause.as_ref());
        let detail = cause.map_or("".into(), |cause| cause.to_string().into());
        Step::new(self.at.clone(), Some(self.place.clone()), verdict, detail)
    }

    /// Sets the file and the line of the entry, for records.
    pub(crate) fn stands_at(&self, position: impl FnOnce() -> Option<Arc<str>>) {
        if self.report_only
            && self.position.get().is_none()
            && let Some(position) = position()
        {
            // A shared entry has the same place for every route.
            let _ = self.position.set(position);
        }
    }
}

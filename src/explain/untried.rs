//! Facts that would turn a refusal and that cannot be made for a trial: a certificate of an authority, and the calls of others.

use super::{
    entry::policy_at,
    turning::{Turning, TurningFact},
};
use crate::{config::Document, inbound::PolicyConfig, offline::Outcome, refusal::Reason};

/// Returns the fact that would turn this refusal, if it is one that is known and cannot be tried.
pub(super) fn of(document: &Document, outcome: &Outcome) -> Option<Turning> {
    let reason = outcome.reason?;
    let (fact, who) = match reason {
        reason if reason.is_of_limits() => limit(document, outcome, reason)?,
        Reason::ClientCertificateMissing
        | Reason::ClientCertificateUntrusted
        | Reason::ClientCertificateExpired
        | Reason::ClientCertificateRevoked
        | Reason::ClientCertificateNotAllowed => certificate(document, outcome, reason),
        _ => return None,
    };
    Some(Turning { facts: vec![fact], who: vec![who], ..Turning::none(outcome) })
}

fn limit(document: &Document, outcome: &Outcome, reason: Reason) -> Option<(TurningFact, String)> {
    let policy = outcome.place.as_ref().and_then(|place| policy_at(&document.config, place));
    let (most, keeper) = match policy {
        Some(PolicyConfig::RateLimitByKey(limit)) => {
            (format!("at most {} calls in {} s", limit.calls, limit.renewal_period.0.as_secs()), "the limit".to_owned())
        }
        Some(PolicyConfig::QuotaByKey(quota)) => {
            let calls = quota.calls.map(|calls| format!("{calls} calls"));
            let bytes = quota.bandwidth.map(|size| format!("{} bytes", size.0));
            let most = [calls, bytes].into_iter().flatten().collect::<Vec<_>>().join(" and ");
            (format!("at most {most} in {} s", quota.renewal_period.0.as_secs()), "the quota".to_owned())
        }
        Some(PolicyConfig::LimitConcurrency(limit)) => (format!("at most {} at a time", limit.max_count), "the limit".to_owned()),
        _ => {
            let (name, partner) = document.config.partners.get_key_value(outcome.partner.as_deref()?)?;
            let limit = if reason == Reason::QuotaExceeded { partner.quota } else { partner.rate_limit };
            let limit = limit?;
            (format!("at most {} calls in {} s", limit.calls, limit.renewal_period.0.as_secs()), format!("partners.{name}"))
        }
    };
    let fact = TurningFact { name: "earlier calls".to_owned(), from: "as many as are allowed".to_owned(), to: most };
    Some((fact, format!("the caller, when the period has passed; or whoever keeps {keeper}")))
}

fn certificate(document: &Document, outcome: &Outcome, reason: Reason) -> (TurningFact, String) {
    let policy = outcome.place.as_ref().and_then(|place| policy_at(&document.config, place));
    let listed = match policy {
        Some(PolicyConfig::ValidateClientCertificate(config)) => config.identities.as_ref().map(Vec::len),
        _ => None,
    };
    let from = match reason {
        Reason::ClientCertificateMissing => "none",
        Reason::ClientCertificateUntrusted => "one of an unknown authority",
        Reason::ClientCertificateExpired => "one outside of its validity",
        Reason::ClientCertificateRevoked => "one that was revoked",
        _ => "one that is not listed",
    };
    let to = match listed {
        Some(1) => "the one of `identities`".to_owned(),
        Some(count) => format!("one of the {count} of `identities`"),
        None => "one that an authority of `ca` has issued, within its validity".to_owned(),
    };
    let who = match reason {
        Reason::ClientCertificateNotAllowed => "whoever keeps `identities`; or the caller, with a certificate that is listed",
        Reason::ClientCertificateMissing => "the caller: it shows a certificate in the handshake, or its proxy hands it on",
        _ => "whoever issues the caller's certificate; none can be made for a trial",
    };
    (TurningFact { name: "certificate".to_owned(), from: from.to_owned(), to }, who.to_owned())
}

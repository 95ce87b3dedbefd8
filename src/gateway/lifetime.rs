//! The bounds of a request: its deadline, the listener's certificate rules, and its connection.

use std::{sync::Arc, time::Duration};

use http::Version;
use tokio::time::Instant;

use crate::{
    certificate::CertificateFault,
    exchange::{EndedBy, Exchange},
    gateway::runtime::ListenerRules,
    listener::{ClientCertificateMode, ListenerSettings},
    partner::Access,
    request::IncomingRequest,
    route::Route,
};

/// Checks the caller's certificate against the listener's requirements.
///
/// Of all rules of a listener only these apply to open connections at once, so that a revoked certificate is refused. They are those of
/// the request's own config, from which its route is, too: a route that needs no token since its listener asks for certificates is
/// never met without them. A listener that a reload has removed keeps its last rules.
///
/// # Errors
/// Fails if the listener requires a certificate and this one is not acceptable.
pub(super) fn admit_certificate(exchange: &mut Exchange, rules: Option<&ListenerRules>) -> Result<(), CertificateFault> {
    let Exchange { connection, judged_certificate, certificate, listener_authorities, worker, clock, evidence, .. } = exchange;
    let mut admit = |rules: &ListenerSettings| {
        let Some(asked) = rules.client_certificates() else { return Ok(()) };
        *listener_authorities = Some(asked.authorities().clone());
        if asked.mode() == ClientCertificateMode::Optional {
            return Ok(());
        }
        let shown = connection.certificate();
        if let Some(known) = evidence.as_ref().and_then(|evidence| evidence.recorded.as_deref()) {
            known.look_at_certificate();
        }
        *judged_certificate = shown.cloned();
        asked.admit(shown.map(|shown| &**shown), *worker, clock.unix_seconds())?;
        *certificate = shown.cloned();
        Ok(())
    };
    match rules {
        Some(rules) => admit(&rules.settings),
        None => connection.listener.present(admit),
    }
}

/// Returns whether the caller itself made the connection, so that credentials of the connection are the caller's alone: not behind a
/// proxy, which sends the requests of several callers on one connection, and not over HTTP/2.
pub(super) fn has_connection_of_its_own(exchange: &Exchange, route: &Route, incoming: &IncomingRequest) -> bool {
    let Some(maker) = exchange.connection.maker() else { return false };
    let shown = exchange.connection.certificate();
    let handed_on = exchange.certificate.as_ref().is_some_and(|accepted| shown.is_none_or(|shown| !Arc::ptr_eq(shown, accepted)));
    let speaks_for_others =
        route.trusted_headers.as_ref().is_some_and(|trusted| trusted.believes(Some(maker), &exchange.clock, incoming));
    incoming.version < Version::HTTP_2
        && exchange.caller.as_ref().is_some_and(|caller| !caller.via_trusted_proxy() && caller.address == maker)
        && !handed_on
        && !speaks_for_others
}

/// Returns the deadline of the response: the earliest expiry of the request's tokens, its API key, its certificate and its partner's access, and
/// `max-stream` of the listener or the route.
pub(super) fn ends_at(exchange: &Exchange) -> Instant {
    let now = exchange.began.unix;
    let partner = exchange.partner.as_ref().filter(|_| exchange.let_through()).and_then(|partner| partner.until);
    let certificate = exchange.certificate.as_ref().map(|certificate| certificate.not_after() + 1);
    let key = exchange.api_key.as_ref().filter(|_| exchange.let_through()).and_then(|key| key.until);
    let ends = [exchange.tokens_until, partner, key, certificate].into_iter().flatten();
    let left = ends.map(|until| Duration::from_secs(until).saturating_sub(now));
    exchange.began.instant + left.chain(deadline(exchange)).fold(exchange.max_stream(), Duration::min)
}

/// Returns the deadline of a caller of gRPC. A refusal that tells of its end comes after it.
fn deadline(exchange: &Exchange) -> Option<Duration> {
    exchange.deadline.filter(|_| exchange.let_through())
}

/// Returns the bound that [`ends_at`] is.
pub(super) fn ended_by_time(exchange: &Exchange) -> EndedBy {
    let now = exchange.began.unix;
    let ends = ends_at(exchange).saturating_duration_since(exchange.began.instant);
    let is = |until: Option<u64>| until.is_some_and(|until| Duration::from_secs(until).saturating_sub(now) == ends);
    if is(exchange.tokens_until) {
        EndedBy::TokenExpired
    } else if is(exchange.certificate.as_ref().map(|certificate| certificate.not_after() + 1)) {
        EndedBy::CertificateExpired
    } else if is(exchange.api_key.as_ref().filter(|_| exchange.let_through()).and_then(|key| key.until)) {
        EndedBy::ApiKeyExpired
    } else if deadline(exchange) == Some(ends) {
        EndedBy::GrpcTimeout
    } else if ends < exchange.max_stream() {
        EndedBy::PartnerExpired
    } else {
        EndedBy::MaxStream
    }
}

/// Awaits the future; returns `None` if the partner's access ends first. The future is pinned by the caller, since this one would
/// need space for it twice.
pub(super) async fn unless_revoked<T>(access: Option<Access>, future: impl Future<Output = T> + Unpin) -> Option<T> {
    let Some(access) = access else { return Some(future.await) };
    tokio::select! {
        biased;
        () = access.ended() => None,
        result = future => Some(result),
    }
}

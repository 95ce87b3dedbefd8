//! The exchange with the upstream: from the policies' decision to the head of the upstream's response.

use std::{mem, pin::pin};

use http::{HeaderValue, StatusCode};
use http_body::Body as _;

use super::{
    answer::ResponseBody,
    grpc,
    lifetime::{has_connection_of_its_own, unless_revoked},
    tunnel::{Downstream, Tunnel},
};
use crate::{
    authorization::AfterRefusal,
    base::response::Response,
    exchange::{Exchange, Timings},
    listener::{Informational, RequestBody},
    outgoing,
    refusal::{Reason, Refusal},
    request::IncomingRequest,
    route::Route,
    upstream::{self, Call, Interim, Owner, Reached, Upstream, UpstreamRequest},
};

static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// The upstream exchange: from the policies' decision to the head of the upstream's response.
pub(super) struct UpstreamExchange<'a> {
    pub(super) route: &'a Route,
    pub(super) upstream: &'a Upstream,
    pub(super) incoming: &'a IncomingRequest,
    /// The caller's connection, if it may become a tunnel.
    pub(super) upgrade: Option<Downstream>,
    /// The channel of informational responses to the caller.
    pub(super) informational: Option<Informational>,
}

impl UpstreamExchange<'_> {
    /// Sends the request, and once more if the upstream refuses a token of the gateway's own that can be had afresh.
    ///
    /// # Errors
    /// Returns why there is no response of the upstream, or none that the caller may see.
    pub(super) async fn send(
        &self,
        exchange: &mut Exchange,
        outgoing: &mut UpstreamRequest,
        body: &mut RequestBody,
    ) -> Result<Response<ResponseBody>, Refusal> {
        // Only our own token can be had afresh, and only what nobody has read yet can be sent again.
        let repeatable = self.route.authorization.is_own() && body.is_end_stream() && outgoing.method.is_idempotent();
        let again = repeatable.then(|| outgoing.clone());
        let response = self.send_once(exchange, outgoing, body).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        if exchange.trace.stand_in().is_some() {
            // There is no token of the gateway that could be had afresh.
            return if self.route.authorization.is_own() { Err(Reason::UpstreamRefusedCredential.into()) } else { Ok(response) };
        }
        match (self.route.authorization.refused(exchange, response.headers(), again.is_some())?, again) {
            (AfterRefusal::ApplyAgain, Some(mut outgoing)) => {
                // Boxed, since it is rare: every request would have to keep the room for it.
                let response = Box::pin(self.send_once(exchange, &mut outgoing, &mut RequestBody::empty())).await?;
                if response.status() == StatusCode::UNAUTHORIZED {
                    // The upstream's challenge speaks of our token, which is no business of the caller's: this ends in a refusal.
                    self.route.authorization.refused(exchange, response.headers(), false)?;
                }
                Ok(response)
            }
            (AfterRefusal::PassOn | AfterRefusal::ApplyAgain, _) => Ok(response),
        }
    }

    async fn send_once(
        &self,
        exchange: &mut Exchange,
        outgoing: &mut UpstreamRequest,
        body: &mut RequestBody,
    ) -> Result<Response<ResponseBody>, Refusal> {
        exchange.own_connection = self.upstream.has_affinity()
            && self.route.authorization.is_kept()
            && has_connection_of_its_own(exchange, self.route, self.incoming);
        self.route.authorization.apply(exchange, self.incoming, outgoing).await?;
        exchange.outcome.allow();
        if exchange.trace.decides_only() {
            return Ok(Response::new(ResponseBody::whole(bytes::Bytes::new())));
        }
        set_forwarding_headers(exchange, self.incoming, outgoing);
        if let Some(Downstream::Stream(stream)) = &self.upgrade {
            stream.handshake.begin(&mut outgoing.headers);
        }
        if let Some(stand_in) = exchange.trace.stand_in() {
            let upgrade = (self.route.websocket && self.incoming.asks_for_websocket()).then_some(&WEBSOCKET);
            let sent = self.upstream.preview(&self.incoming.authority, outgoing, body.size_hint().exact(), upgrade)?;
            exchange.outcome.server = Some(sent.server.clone());
            stand_in.sent = Some(sent);
            let answer = stand_in.answer.clone();
            // What stands in for the upstream takes time of its own, which is no policy's.
            exchange.trace.go_on();
            return Ok(answer.map(ResponseBody::whole));
        }
        let reached = self
            .upstream
            .rewrites_redirects()
            .then(|| Reached::new(&self.incoming.authority, &self.incoming.target.path, &outgoing.path, &exchange.captures.rest));
        // The first time nothing has happened since the policies but the wait for a credential.
        let Timings { policies, credential, upstream } = exchange.timings;
        let began = if upstream.is_zero() { policies + credential } else { exchange.elapsed() };
        let connection = exchange.own_connection.then(|| exchange.connection.clone());
        let call = Call {
            worker: exchange.worker,
            host: &self.incoming.authority,
            upgrade: self.upgrade.as_ref().map(|_| &WEBSOCKET),
            owner: connection
                .as_deref()
                .map(|connection| Owner { affinity: &connection.affinity, caller_key: exchange.caller_key() }),
            response_timeout: self.route.limits.response_timeout,
            informational: self.informational.as_ref().map(|way| Interim { way, withheld: &self.route.outbound }),
        };
        // Taken only here: what is handed from one future to the next is copied each time.
        let sending = pin!(self.upstream.send(call, mem::take(outgoing), mem::take(body)));
        let revocable = unless_revoked(exchange.access().cloned(), sending);
        let sent = match exchange.deadline {
            None => revocable.await,
            // Boxed, since few callers set one.
            Some(deadline) => Box::pin(grpc::in_time(exchange.began.instant + deadline, revocable)).await?,
        };
        let duration = exchange.elapsed().saturating_sub(began);
        exchange.timings.upstream += duration;
        let count = |server: &str, status| {
            self.upstream.count(exchange.worker, server, (&self.incoming.method, status), duration);
        };
        match sent {
            None => Err(Reason::PartnerDisabled.into()),
            Some(Ok(mut response)) => {
                count(response.body().server(), Some(response.status()));
                if let Some(Downstream::Stream(stream)) = &self.upgrade {
                    stream.handshake.judge(&response)?;
                }
                if let Some(reached) = &reached {
                    let server = response.body().server().clone();
                    self.upstream.rewrite_redirects(&server, response.headers_mut(), reached);
                }
                Ok(self.answer(exchange, response))
            }
            Some(Err(error)) => {
                error.server().into_iter().for_each(|server| count(server, None));
                exchange.outcome.server = error.server().cloned();
                Err(error.into())
            }
        }
    }

    fn answer(&self, exchange: &mut Exchange, mut response: Response<upstream::ResponseBody>) -> Response<ResponseBody> {
        exchange.outcome.server = Some(response.body().server().clone());
        let upgrade = self.upgrade.as_ref().filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
        let upstream = upgrade.and_then(|_| response.body_mut().take_upgrade());
        let mut response = response.map(ResponseBody::upstream);
        if let (Some(downstream), Some(upstream)) = (upgrade.cloned(), upstream) {
            response.body_mut().opens(Tunnel { downstream, upstream });
        }
        response
    }
}

/// Tells the upstream on whose behalf the request is sent.
pub(super) fn set_forwarding_headers(exchange: &Exchange, incoming: &IncomingRequest, outgoing: &mut UpstreamRequest) {
    if let (Some(caller), Some(trace)) = (&exchange.caller, &exchange.trace_context) {
        outgoing::set_forwarding_headers(&mut outgoing.headers, incoming, (caller, &exchange.id, trace));
    }
}

//! The facts that expressions read, taken from an exchange.

use super::Exchange;
use crate::{expression::Facts, request::IncomingRequest};

impl<'a> Facts<'a> {
    /// Collects the facts of a request in progress.
    pub fn of(exchange: &'a Exchange, request: &'a IncomingRequest) -> Self {
        Self {
            request,
            caller: exchange.caller_address(),
            certificate: exchange.certificate.as_deref(),
            token: exchange.token.as_deref(),
            partner: exchange.partner.as_deref(),
            named_tokens: &exchange.named_tokens,
            captures: &exchange.captures,
            route: exchange.matched_route().map(|route| &*route.name),
            status: exchange.outcome.status,
        }
    }
}

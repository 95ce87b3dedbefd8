//! The response to a refused request: its problem document, what its route adds, and the policies of `on-error`.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    Recorder,
    answer::{self, ResponseBody},
};
use crate::{
    base::response::Response,
    exchange::{Decision, Exchange},
    refusal::{Reason, Refusal},
};

/// Makes the refusal for a request in which the gateway panicked. The process's hook has logged the panic itself.
pub(super) fn panicked(panic: &(dyn Any + Send), exchange: &Exchange) -> Refusal {
    tracing::error!(request_id = exchange.id.as_str(), "the gateway panicked; this request was refused");
    // Other texts are put together while the gateway runs, and may quote what the caller sent.
    let literal = panic.downcast_ref::<&'static str>().copied().unwrap_or("the log says where");
    Refusal::new(Reason::InternalError, format!("the gateway panicked: {literal}"))
}

/// Makes the response to a refused request, with its route's additions for clients.
pub(super) fn refuse(refusal: Refusal, recorder: &mut Recorder) -> Response<ResponseBody> {
    let mut response = answer::refuse(refusal, recorder);
    let exchange = &recorder.exchange;
    let metadata = recorder.route().and_then(|route| route.metadata.as_ref());
    if let (Some(metadata), Some(incoming)) = (metadata, &recorder.incoming) {
        let status = response.status();
        metadata.name_in(response.headers_mut(), status, exchange, incoming);
    }
    on_error(&mut response, recorder);
    response
}

/// Applies the policies of `on-error`, of the route or of all, to the response to a refused request. Nobody reads one to a caller who has
/// left, and a request whose head could not be read has no policies.
fn on_error(response: &mut Response<ResponseBody>, recorder: &mut Recorder) {
    let Recorder { exchange, incoming: Some(incoming), runtime, .. } = recorder else { return };
    if exchange.outcome.decision == Decision::Refused(Reason::ClientLeft) {
        return;
    }
    let list = match &exchange.route {
        Some(route) => &runtime.routes[route.index].on_error,
        None => &runtime.on_error,
    };
    if list.is_empty() {
        return;
    }
    let (status, headers) = (response.status(), response.headers().clone());
    let applied = catch_unwind(AssertUnwindSafe(|| list.answer_refusal(exchange, incoming, response)));
    if let Err(panic) = applied {
        // The refusal stands, and what the policies had changed of it by then is taken back.
        panicked(&*panic, exchange);
        *response = answer::as_refused(exchange, status);
        *response.headers_mut() = headers;
    }
}

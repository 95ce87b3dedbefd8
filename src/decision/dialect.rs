//! The dialects, each by its file.

use bytes::Bytes;
use http::Method;

use super::{
    DialectConfig,
    answer::{self, Admitted, Answer, Refused, Told},
    caddy,
    changes::Untellable,
    envoy_grpc, envoy_http, grpc, nginx,
    question::{Head, Question, QuestionFault},
    traefik,
};
use crate::{
    base::fields::{Fields, Known},
    refusal::Refusal,
    request::{GrpcStatus, is_grpc_type},
};

/// A question that has no answer of its dialect: it was not asked as one.
#[derive(Debug)]
pub(crate) struct NotAsked {
    /// The refusal, for the record.
    pub(crate) refusal: Refusal,
    /// The status of gRPC that ends the call, where one is spoken.
    pub(crate) status: GrpcStatus,
}

impl DialectConfig {
    /// Returns whether questions are calls of gRPC.
    pub(crate) const fn is_grpc(self) -> bool {
        matches!(self, Self::EnvoyGrpc)
    }

    /// Returns whether questions tell the certificates of callers.
    pub(crate) const fn tells_certificates(self) -> bool {
        matches!(self, Self::EnvoyGrpc)
    }

    /// Checks that a request of gRPC is one for questions, before its message is read.
    ///
    /// # Errors
    /// Fails for another method or service.
    pub(crate) fn is_asked(self, head: &Head) -> Result<(), NotAsked> {
        const CHECK: QuestionFault = QuestionFault::NoQuestion("POST /envoy.service.auth.v3.Authorization/Check in gRPC");
        let not = |status| Err(NotAsked { refusal: CHECK.into(), status });
        if !self.is_grpc() {
            return Ok(());
        }
        if head.method != Method::POST || !head.headers.get(Known::ContentType).is_some_and(|kind| is_grpc_type(kind.as_bytes()))
        {
            return not(GrpcStatus::INVALID_ARGUMENT);
        }
        if head.uri.path() != envoy_grpc::PATH {
            return not(GrpcStatus::UNIMPLEMENTED);
        }
        Ok(())
    }

    /// Returns the message of a call, without what frames it.
    ///
    /// # Errors
    /// Fails if it is compressed, too long or cut off.
    pub(crate) fn message(self, body: &Bytes) -> Result<Bytes, NotAsked> {
        grpc::message(body).map_err(|status| NotAsked { refusal: envoy_grpc::broken().into(), status })
    }

    /// Reads a question. `message` is that of a call of gRPC, and empty otherwise.
    ///
    /// # Errors
    /// Fails if it could be read in two ways, or not at all.
    pub(crate) fn question(self, head: Head, message: &Bytes) -> Result<Question, QuestionFault> {
        match self {
            Self::EnvoyGrpc => envoy_grpc::question(message),
            Self::EnvoyHttp => envoy_http::question(head),
            Self::Traefik => traefik::question(head),
            Self::Caddy => caddy::question(head),
            Self::Nginx => nginx::question(head),
        }
    }

    /// Makes the answer to a question about an admitted request; `informs` are fields for the caller.
    pub(super) fn admit(self, admitted: &Admitted<'_>, told: &Told, informs: &Fields) -> Result<Answer, Untellable> {
        match self {
            Self::EnvoyGrpc => envoy_grpc::admit(admitted, told, informs),
            Self::EnvoyHttp => envoy_http::admit(admitted, told),
            Self::Traefik | Self::Nginx => answer::admit(admitted, told),
            Self::Caddy => caddy::admit(admitted, told),
        }
    }

    /// Makes the answer to a question about a request that is refused.
    pub(crate) fn refuse(self, refused: Refused<'_>) -> Answer {
        match self {
            Self::EnvoyGrpc => envoy_grpc::refuse(&refused),
            Self::EnvoyHttp => envoy_http::refuse(refused),
            Self::Traefik | Self::Caddy => Answer::refusal(refused),
            Self::Nginx => nginx::refuse(refused),
        }
    }

    /// Makes the end of a call that is no question; `None` outside of gRPC, where it is refused as any request.
    pub(crate) fn failure(self, status: GrpcStatus, code: &str) -> Option<Answer> {
        self.is_grpc().then(|| grpc::failure(status, code))
    }
}

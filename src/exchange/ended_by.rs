//! The end of a tunnel, or of a response that was not sent completely.

/// The cause of the end of a tunnel, or of a response before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The caller.
    Caller,
    /// The server.
    Upstream,
    /// The end of a token.
    TokenExpired,
    /// The end of the caller's certificate.
    CertificateExpired,
    /// The last day of the partner's access.
    PartnerExpired,
    /// The last day of the partner's API key.
    ApiKeyExpired,
    /// The partner's access was taken away.
    PartnerDisabled,
    /// The listener's `max-stream`.
    MaxStream,
    /// The deadline that a caller of gRPC has set.
    GrpcTimeout,
    /// The gateway, which stops.
    Drain,
}

impl EndedBy {
    /// Returns the word of the audit record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Upstream => "upstream",
            Self::TokenExpired => "token-expired",
            Self::CertificateExpired => "certificate-expired",
            Self::PartnerExpired => "partner-expired",
            Self::ApiKeyExpired => "api-key-expired",
            Self::PartnerDisabled => "partner-disabled",
            Self::MaxStream => "max-stream",
            Self::GrpcTimeout => "grpc-timeout",
            Self::Drain => "drain",
        }
    }
}

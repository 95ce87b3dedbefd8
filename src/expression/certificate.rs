//! The certificate fields that expressions can read.

use std::borrow::Cow;

use super::{
    node::Kind,
    value::{List, Value},
};
use crate::certificate::ClientCertificate;

/// A field of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificateField {
    Subject,
    Issuer,
    CommonName,
    Serial,
    Thumbprint,
    ThumbprintSha256,
    DnsNames,
    Emails,
    Uris,
    NotBefore,
    NotAfter,
    Encoded,
}

impl CertificateField {
    /// The names that follow `caller.certificate.`
    pub(super) const NAMES: [&str; 12] = [
        "subject",
        "issuer",
        "common_name",
        "serial",
        "thumbprint",
        "thumbprint_sha256",
        "dns_names",
        "emails",
        "uris",
        "not_before",
        "not_after",
        "encoded",
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "subject" => Self::Subject,
            "issuer" => Self::Issuer,
            "common_name" => Self::CommonName,
            "serial" => Self::Serial,
            "thumbprint" => Self::Thumbprint,
            "thumbprint_sha256" => Self::ThumbprintSha256,
            "dns_names" => Self::DnsNames,
            "emails" => Self::Emails,
            "uris" => Self::Uris,
            "not_before" => Self::NotBefore,
            "not_after" => Self::NotAfter,
            "encoded" => Self::Encoded,
            _ => return None,
        })
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::DnsNames | Self::Emails | Self::Uris => Kind::List,
            Self::NotBefore | Self::NotAfter => Kind::Int,
            _ => Kind::Text,
        }
    }

    /// Returns the field of this certificate; `None` if the certificate lacks it.
    pub(super) fn of(self, certificate: &ClientCertificate) -> Option<Value<'_>> {
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        let list = |list| Some(Value::List(List::Texts(list)));
        let time = |time: u64| i64::try_from(time).ok().map(Value::Int);
        match self {
            Self::Subject => text(certificate.subject()),
            Self::Issuer => text(certificate.issuer()),
            Self::CommonName => certificate.common_name().and_then(text),
            Self::Serial => text(certificate.serial()),
            Self::Thumbprint => text(certificate.thumbprint()),
            Self::ThumbprintSha256 => text(certificate.thumbprint_sha256()),
            Self::DnsNames => list(certificate.dns_names()),
            Self::Emails => list(certificate.emails()),
            Self::Uris => list(certificate.uris()),
            Self::NotBefore => time(certificate.not_before()),
            Self::NotAfter => time(certificate.not_after()),
            Self::Encoded => Some(Value::Text(Cow::Owned(certificate.encoded()))),
        }
    }
}

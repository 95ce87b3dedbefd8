//! The expected certificates.

use super::IdentityConfig;
use crate::{
    certificate::{ClientCertificate, Thumbprint, Verdict, canonical, serial_number},
    settings::{Faults, Place},
};

/// An expected certificate: all of its marks match.
#[derive(Debug)]
pub(super) struct Identity(Vec<Property>);

/// An identifying property of a certificate.
#[derive(Debug)]
enum Property {
    Thumbprint(Thumbprint),
    SerialNumber(Box<str>),
    CommonName(Box<str>),
    Subject(Box<str>),
    DnsName(Box<str>),
    Uri(Box<str>),
    Email(Box<str>),
    IssuerSubject(Box<str>),
    IssuerThumbprint(Thumbprint),
}

impl Identity {
    pub(super) fn build(config: &IdentityConfig, place: &Place, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors();
        let mut marks = Vec::new();
        let mut add = |key: &str, written: &Option<String>, read: &dyn Fn(&str) -> Read<Property>| {
            let Some(text) = written else { return };
            match read(text) {
                Ok(mark) => marks.push(mark),
                Err((what, cure)) => faults.error(&place.key(key), what, cure),
            }
        };
        add("thumbprint", &config.thumbprint, &|text| thumbprint(text).map(Property::Thumbprint));
        add("serial-number", &config.serial_number, &|text| {
            let read = serial_number(text).map_err(|fault| (format!("`{text}` is not a serial number: {fault}"), HEXADECIMAL));
            read.map(Property::SerialNumber)
        });
        add("common-name", &config.common_name, &|text| plain(text).map(Property::CommonName));
        add("subject", &config.subject, &|text| name(text).map(Property::Subject));
        add("dns-name", &config.dns_name, &|text| plain(&text.to_ascii_lowercase()).map(Property::DnsName));
        add("uri", &config.uri, &|text| plain(text).map(Property::Uri));
        add("email", &config.email, &|text| plain(text).map(Property::Email));
        add("issuer-subject", &config.issuer_subject, &|text| name(text).map(Property::IssuerSubject));
        add("issuer-thumbprint", &config.issuer_thumbprint, &|text| thumbprint(text).map(Property::IssuerThumbprint));
        if faults.errors() == before && marks.is_empty() {
            let cure = "write a thumbprint, a subject or another mark, or leave `identities` out";
            faults.error(place, "nothing is written of this certificate, so every one would fit", cure);
        }
        (faults.errors() == before).then_some(Self(marks))
    }

    /// Returns whether it identifies exactly one certificate, whatever its issuer.
    pub(super) fn is_pinned(&self) -> bool {
        self.0.iter().any(|mark| matches!(mark, Property::Thumbprint(_)))
    }

    /// Returns whether it refers to the certificate's verified issuer.
    pub(super) fn asks_for_issuer(&self) -> bool {
        self.0.iter().any(|mark| matches!(mark, Property::IssuerThumbprint(_)))
    }

    /// Returns whether the certificate matches. Without a verdict the issuer is unknown.
    pub(super) fn fits(&self, certificate: &ClientCertificate, verdict: Option<&Verdict>) -> bool {
        self.0.iter().all(|mark| match mark {
            Property::Thumbprint(thumbprint) => thumbprint.is_of(certificate),
            Property::SerialNumber(serial) => **serial == *certificate.serial(),
            Property::CommonName(name) => certificate.common_name() == Some(name),
            Property::Subject(name) => **name == *certificate.subject(),
            Property::DnsName(name) => certificate.dns_names().contains(name),
            Property::Uri(uri) => certificate.uris().contains(uri),
            Property::Email(email) => certificate.emails().contains(email),
            Property::IssuerSubject(name) => **name == *certificate.issuer(),
            Property::IssuerThumbprint(thumbprint) => verdict.is_some_and(|verdict| verdict.is_issued_by(thumbprint)),
        })
    }
}

const HEXADECIMAL: &str = "write hexadecimal digits, with colons between them or without";

/// The value read, or the fault and its cure.
type Read<T> = Result<T, (String, &'static str)>;

fn thumbprint(text: &str) -> Read<Thumbprint> {
    let cure = "write the SHA-1 or SHA-256 of the certificate in hexadecimal, as `entrada certificate show` prints it";
    Thumbprint::parse(text).map_err(|fault| (format!("`{text}` is not a thumbprint: {fault}"), cure))
}

fn name(text: &str) -> Read<Box<str>> {
    let cure = "write it as `CN=daemon, O=Fabrikam, C=NL`, the most specific part first";
    canonical(text).map_err(|fault| (format!("`{text}` is not a name: {fault}"), cure))
}

fn plain(text: &str) -> Read<Box<str>> {
    if text.trim().is_empty() {
        return Err(("this text is empty".to_owned(), "write something, or leave the key out"));
    }
    Ok(text.into())
}

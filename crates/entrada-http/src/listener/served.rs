//! The certificates that a listener shows: their status, and probable problems.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{
    certificate::ClientCertificate,
    settings::{Faults, Lint, Place},
};

/// The number of days before expiry from which on a warning is given.
const WARN_DAYS: i64 = 30;

/// The number of hosts without a certificate that are reported one by one.
const TOLD: usize = 5;

/// A certificate that a listener shows.
#[derive(Clone, Debug)]
pub struct ServedCertificate {
    /// The index of the certificate in the listener's list.
    index: usize,
    file: Box<str>,
    subject: Box<str>,
    thumbprint: Box<str>,
    /// The DNS names, in lower case, and the addresses.
    names: Box<[Box<str>]>,
    not_before: u64,
    not_after: u64,
}

/// The status of a certificate that a listener shows.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerCertificateStatus {
    /// The listener's name.
    pub listener: String,
    /// The file that it was read from.
    pub certificate: String,
    /// The subject of the certificate.
    pub subject: String,
    /// The names that it covers.
    pub names: Vec<String>,
    /// SHA-256, in hexadecimal.
    pub thumbprint: String,
    /// Its expiry, in seconds since 1970.
    pub not_after: u64,
    /// Whole days until then; negative when it has.
    pub days_left: i64,
}

impl ServedCertificate {
    /// Reads a chain from this file, the server's own certificate first; `None` if that cannot be read.
    pub(super) fn read(index: usize, file: &str, chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = chain.get(..1)?;
        let certificate = ClientCertificate::read(leaf).ok()?;
        let (_, parsed) = X509Certificate::from_der(leaf.first()?).ok()?;
        let others = parsed.subject_alternative_name().ok().flatten();
        let others = others.iter().flat_map(|names| &names.value.general_names);
        let addresses = others.filter_map(|name| match name {
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string().into()),
            _ => None,
        });
        Some(Self {
            index,
            file: file.into(),
            subject: certificate.subject().into(),
            thumbprint: certificate.thumbprint_sha256().into(),
            names: certificate.dns_names().iter().cloned().chain(addresses).collect(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    /// Returns whether clients that use this host accept the certificate; for a wildcard host, whether they do for every matching
    /// host.
    fn covers(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.names.iter().any(|name| name.parse() == Ok(address));
        }
        // RFC 9525, section 6.3: a wildcard stands for the first label, whole.
        let below = host.split_once('.').map(|(_, below)| below);
        let by_wildcard = |name: &str| name.strip_prefix("*.").is_some_and(|name| below == Some(name));
        self.names.iter().any(|name| **name == *host || by_wildcard(name))
    }

    /// Returns the whole days until it expires; negative after that.
    fn days_left(&self, now: u64) -> i64 {
        (self.not_after.cast_signed() - now.cast_signed()).div_euclid(86_400)
    }

    /// Returns the problem of its validity, if any.
    pub fn complaint(&self, now: u64) -> Option<String> {
        let subject = &self.subject;
        match self.days_left(now) {
            ..0 => Some(format!("the certificate of {subject} has expired, and clients refuse it")),
            _ if now < self.not_before => Some(format!("the certificate of {subject} is not valid yet, and clients refuse it")),
            days @ 0..WARN_DAYS => Some(format!("the certificate of {subject} expires in {days} days")),
            _ => None,
        }
    }

    /// Warns of problems of its validity. `place` is that of the listener's `tls`.
    pub fn lint(&self, place: &Place, is_list: bool, now: u64, faults: &mut Faults) {
        let place = if is_list { place.index(self.index) } else { place.clone() };
        if let Some(complaint) = self.complaint(now) {
            faults.warning(
                Lint::CertificateExpiry,
                &place.key("certificate"),
                complaint,
                "replace the files; they are read again when they change",
            );
        }
    }

    /// Returns its status at this time.
    pub fn status(&self, listener: &str, now: u64) -> ListenerCertificateStatus {
        ListenerCertificateStatus {
            listener: listener.to_owned(),
            certificate: self.file.to_string(),
            subject: self.subject.to_string(),
            names: self.names.iter().map(ToString::to_string).collect(),
            thumbprint: self.thumbprint.to_string(),
            not_after: self.not_after,
            days_left: self.days_left(now),
        }
    }
}

/// Warns of hosts that no certificate covers.
pub fn lint_hosts<'a>(hosts: impl Iterator<Item = (&'a str, Place)>, certificates: &[ServedCertificate], faults: &mut Faults) {
    let mut told: Vec<&str> = Vec::new();
    let mut last = None;
    for (host, place) in hosts {
        if told.contains(&host) || certificates.iter().any(|certificate| certificate.covers(host)) {
            continue;
        }
        told.push(host);
        if told.len() <= TOLD {
            let message = format!("no certificate of a listener is for `{host}`, so clients that come by this name refuse it");
            faults.warning(Lint::HostWithoutCertificate, &place, message, cure(certificates));
        }
        last = Some(place);
    }
    if let (Some(place), true) = (last, told.len() > TOLD) {
        let message = format!("no certificate of a listener is for {} more hosts", told.len() - TOLD);
        faults.warning(Lint::HostWithoutCertificate, &place, message, "list certificates for them in the `tls` of a listener");
    }
}

fn cure(certificates: &[ServedCertificate]) -> String {
    let names: Vec<_> = certificates.iter().flat_map(|certificate| &certificate.names).take(6).collect();
    let more = if names.len() > 5 { ", …" } else { "" };
    let names: Vec<_> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    let are = if names.is_empty() { "name no host".to_owned() } else { format!("are for {}{more}", names.join(", ")) };
    format!("list one for it in the `tls` of a listener: those there {are}")
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> ServedCertificate {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        ServedCertificate::read(0, "a.pem", &[made.cert.der().clone()]).unwrap()
    }

    #[test]
    fn a_certificate_is_for_the_hosts_that_x509_says() {
        let certificate = certificate(&["api.contoso.example", "*.apps.contoso.example", "192.0.2.7", "2001:db8::7"]);

        for (host, expected) in [
            ("api.contoso.example", true),
            ("API.contoso.example", true),
            ("v1.api.contoso.example", false),
            ("contoso.example", false),
            ("a.apps.contoso.example", true),
            ("*.apps.contoso.example", true),
            ("a.b.apps.contoso.example", false),
            ("apps.contoso.example", false),
            ("*.contoso.example", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("[2001:db8::7]", true),
            ("[2001:db8:0:0::7]", true),
            ("[2001:db8::8]", false),
            ("fabrikam.example", false),
        ] {
            assert_eq!(certificate.covers(host), expected, "{host}");
        }
    }

    #[test]
    fn the_days_of_a_certificate_are_told_ahead_and_after() {
        let mut certificate = certificate(&["a.example"]);
        const DAY: u64 = 86_400;
        (certificate.not_before, certificate.not_after) = (100 * DAY, 200 * DAY);

        for (now, expected) in [
            (99 * DAY, Some("is not valid yet, and clients refuse it")),
            (100 * DAY, None),
            (170 * DAY - 1, None),
            (170 * DAY + 1, Some("expires in 29 days")),
            (200 * DAY, Some("expires in 0 days")),
            (200 * DAY + 1, Some("has expired, and clients refuse it")),
        ] {
            let complaint = certificate.complaint(now);
            match expected {
                None => assert_eq!(complaint, None, "{now}"),
                Some(expected) => {
                    assert!(complaint.as_ref().is_some_and(|told| told.ends_with(expected)), "{now}: {complaint:?}")
                }
            }
        }
    }

    #[test]
    fn hosts_without_a_certificate_are_told_and_summed_up() {
        let certificates = [certificate(&["a.example"]), certificate(&["b.example"])];
        let names: Vec<_> = (0..20).map(|index| format!("h{}.example", index % 10)).collect();
        let hosts = ["a.example", "b.example"].into_iter().chain(names.iter().map(String::as_str));
        let mut faults = Faults::default();

        lint_hosts(hosts.enumerate().map(|(index, host)| (host, Place::root().index(index))), &certificates, &mut faults);

        let told: Vec<_> = faults.iter().map(|fault| (fault.place.to_string(), fault.message.clone())).collect();
        assert_eq!(told.len(), 6, "{told:?}");
        assert_eq!(told[0].0, "[2]");
        assert!(told[0].1.contains("`h0.example`") && told[5].1.contains("5 more hosts"), "{told:?}");
    }
}

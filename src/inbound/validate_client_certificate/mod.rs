//! Admits callers by their certificate: the one of the TLS connection, or one that a trusted proxy forwards.
//!
//! ```yaml
#![doc = include_str!("../../../config/policies/validate-client-certificate.yaml")]
//! ```
//!
//! The checks have this order, and the first that fails refuses: whether there is a certificate, whether an authority vouches for
//! it, whether it is valid now, whether it was revoked, whether it is one of the expected ones. API Management's `ignore-error`
//! does not exist here: an authentication that admits everybody is none.
//!
//! With `from` the certificate is read from a header field, if the peer is one of the proxies; the certificate of the connection
//! is then the proxy's, and ignored. If others use the proxies' addresses, too, the request must also carry the fields of
//! `require-header`. The name of the field is reserved: from anybody else it is removed unread.

mod config;
mod identity;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderName, header};

pub use self::config::{FromConfig, IdentityConfig, ValidateClientCertificateConfig};
use self::identity::Identity;
use super::build_context::BuildContext;
use crate::inbound::{mode::ModeConfig, settings::PolicySettings};
use crate::{
    caller::{TrustPurpose, TrustedGroup},
    certificate::{Authorities, CertificateFault, Checks, ClientCertificate, Verdict, header as certificate_header},
    exchange::Exchange,
    listener::load_authorities,
    refusal::{Refusal, Stop},
    request::{Claim, IncomingRequest},
    settings::Place,
    upstream::UpstreamRequest,
};

/// Admits callers by their certificate.
#[derive(Debug)]
pub struct ValidateClientCertificate {
    source: Source,
    /// The trusted authorities; `None`: those of the request's listener.
    authorities: Option<Arc<Authorities>>,
    checks: Checks,
    /// None means every certificate.
    identities: Option<Box<[Identity]>>,
}

/// The source of the certificate.
#[derive(Debug)]
enum Source {
    Connection,
    Header { name: HeaderName, from: TrustedGroup },
}

const STAKE: TrustPurpose = TrustPurpose {
    everybody: "every address of a family is believed, so every caller could claim any certificate",
    cure: "list the proxies alone",
};

impl PolicySettings for ValidateClientCertificateConfig {
    fn authenticates(&self) -> bool {
        true
    }

    fn accepts_forwarded_certificates(&self) -> bool {
        self.from.is_some()
    }

    fn files(&self) -> Vec<&str> {
        self.ca.iter().chain(&self.crl).map(String::as_str).collect()
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl ValidateClientCertificate {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.check(exchange, incoming)?)
    }

    pub(crate) fn build(config: &ValidateClientCertificateConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let source = match &config.from {
            None => Some(Source::Connection),
            Some(from) => source(from, &place.key("from"), context),
        };
        let identities = identities(config, place, context);
        let authorities =
            config.ca.as_ref().and_then(|ca| load_authorities(ca, &config.crl, context.certificates.base, place, context.faults));
        judge_combination(config, place, context);
        if let (false, Some(identities)) = (config.validate_trust, &identities) {
            for (index, identity) in identities.iter().enumerate() {
                let place = place.key("identities").index(index);
                if !identity.is_pinned() {
                    let message = "without `validate-trust` anybody can make a certificate that says this";
                    context.faults.error(&place, message, "give it a `thumbprint`, or leave `validate-trust: false` out");
                } else if identity.asks_for_issuer() {
                    let message = "without `validate-trust` nothing is known of the issuer's certificate";
                    context.faults.error(&place, message, "leave `issuer-thumbprint` out");
                }
            }
        }
        // What follows on the route may read it, whatever is wrong with the policy itself.
        context.certificates.validated = true;
        if context.faults.errors() > before {
            return None;
        }
        let checks = Checks {
            trust: config.validate_trust,
            revocation: config.validate_revocation.unwrap_or(true),
            not_before: config.validate_not_before,
            not_after: config.validate_not_after,
        };
        Some(Self { source: source?, authorities, checks, identities })
    }

    /// Judges the caller's certificate; notes it on the exchange, as accepted if it is.
    pub(crate) fn check(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        if let Some(known) = exchange.evidence.as_ref().and_then(|evidence| evidence.recorded.as_deref()) {
            known.look_at_certificate();
            if let Source::Header { name, .. } = &self.source {
                known.look_at_header(name);
            }
        }
        let certificate = self.certificate(exchange, incoming)?;
        exchange.judged_certificate = Some(certificate.clone());
        self.judge(&certificate, exchange).map_err(|fault| {
            let hint = hint(&fault);
            let refusal = Refusal::from(fault);
            if let Some(hint) = hint { refusal.with_hint(hint) } else { refusal }
        })?;
        exchange.certificate = Some(certificate);
        Ok(())
    }

    fn certificate(&self, exchange: &Exchange, incoming: &IncomingRequest) -> Result<Arc<ClientCertificate>, CertificateFault> {
        let Source::Header { name, from } = &self.source else {
            let tls = exchange.connection.tls.as_ref();
            return tls.and_then(|tls| tls.certificate.clone()).ok_or(CertificateFault::Missing);
        };
        // Whoever made the connection and nobody else: it wrote the field. Behind a proxy that does not say who did, nobody is believed.
        if !exchange.connection.maker().is_some_and(|maker| from.holds(maker, &incoming.headers, &exchange.clock)) {
            return Err(CertificateFault::Missing);
        }
        let mut values = incoming.headers.get_all(name);
        let value = values.next().ok_or(CertificateFault::Missing)?;
        if values.next().is_some() {
            return Err(certificate_header::HeaderFault::Repeated.into());
        }
        let chain = certificate_header::read(value.as_bytes())?;
        if chain.is_empty() {
            return Err(CertificateFault::Missing);
        }
        certificate_header::check_chain(&chain)?;
        let read = ClientCertificate::read(&chain).map_err(|_| certificate_header::HeaderFault::Certificate)?;
        Ok(Arc::new(read))
    }

    fn judge(&self, certificate: &ClientCertificate, exchange: &Exchange) -> Result<(), CertificateFault> {
        let now = exchange.clock.unix_seconds();
        let authorities = self.authorities.as_deref().or(exchange.listener_authorities.as_deref());
        self.judge_by(certificate, authorities, exchange.worker, now)
    }

    fn judge_by(
        &self,
        certificate: &ClientCertificate,
        authorities: Option<&Authorities>,
        worker: usize,
        now: u64,
    ) -> Result<(), CertificateFault> {
        let verdict = if self.checks.trust {
            let unknown = || CertificateFault::Untrusted("the listener knows no authorities".into());
            let verdict = authorities.ok_or_else(unknown)?.judge(certificate, worker, now);
            verdict.check(self.checks, now)?;
            Some(verdict)
        } else {
            certificate.check_times(self.checks, now)?;
            None
        };
        let Some(identities) = &self.identities else { return Ok(()) };
        let verdict: Option<&Verdict> = verdict.as_deref();
        if identities.iter().any(|identity| identity.fits(certificate, verdict)) {
            return Ok(());
        }
        Err(CertificateFault::NotAllowed {
            subject: certificate.subject().into(),
            thumbprint: certificate.thumbprint_sha256().into(),
        })
    }
}

/// Returns a change that the operator could make, unless the fault makes it obvious.
const fn hint(fault: &CertificateFault) -> Option<&'static str> {
    match fault {
        CertificateFault::NotAllowed { .. } => Some("if it is meant, add it to `identities`"),
        CertificateFault::RevocationUnknown(_) => {
            Some("give `crl` a current list of every issuer on the way to the authority, its own included")
        }
        CertificateFault::Untrusted(_) => {
            Some("if it is meant, add its authority to `ca`; a client has to send the certificates between the two")
        }
        _ => None,
    }
}

fn source(config: &FromConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Source> {
    let at = place.key("header");
    let name = match HeaderName::from_bytes(config.header.as_bytes()) {
        Ok(name) if [header::AUTHORIZATION, header::HOST, header::COOKIE].contains(&name) => {
            context.faults.error(
                &at,
                format!("`{}` holds no certificate", config.header),
                "name the field that the proxy writes",
            );
            None
        }
        Ok(name) => Some(name),
        Err(_) => {
            context.faults.error(&at, format!("`{}` is not a header name", config.header), "use letters, digits and `-`");
            None
        }
    };
    let list = place.key("addresses");
    if config.addresses.is_empty() {
        let cure = "list the proxies that hand certificates on";
        context.faults.error(&list, "the list is empty, so the field would never be believed", cure);
        return None;
    }
    let from =
        TrustedGroup::build(&config.addresses, &config.require_header, (&list, place), STAKE, context.sets, context.faults)?;
    let name = name?;
    context.reserved.claim(&name, Claim::Identity);
    context.reserved.reads(&name);
    Some(Source::Header { name, from })
}

fn identities(
    config: &ValidateClientCertificateConfig,
    place: &Place,
    context: &mut BuildContext<'_>,
) -> Option<Box<[Identity]>> {
    let written = config.identities.as_ref()?;
    let place = place.key("identities");
    if written.is_empty() {
        let cure = "list the certificates that are meant, or leave `identities` out for every one that is trusted";
        context.faults.error(&place, "the list is empty, so every caller would be refused", cure);
    }
    let built = written.iter().enumerate().map(|(index, config)| Identity::build(config, &place.index(index), context.faults));
    // All of them are built before any is missed, so that every fault is told.
    let built: Vec<_> = built.collect();
    built.into_iter().collect()
}

/// Reports settings that contradict each other, or would check nothing.
fn judge_combination(config: &ValidateClientCertificateConfig, place: &Place, context: &mut BuildContext<'_>) {
    let asked = context.certificates.asked;
    let faults = &mut *context.faults;
    if config.from.is_none() && !asked.any {
        faults.error(
            place,
            "no listener asks clients for certificates, so every caller would be refused",
            "give the listener `client-certificates`, or say `from` which proxy hands them on",
        );
    } else if config.validate_trust && config.ca.is_none() && !asked.any {
        faults.error(
            place,
            "it is not said which authorities are trusted",
            "name them as `ca`; or pin `identities` by thumbprint and say `validate-trust: false`",
        );
    }
    if config.ca.is_none() && !config.crl.is_empty() {
        faults.error(&place.key("crl"), "these are lists of no authority that is named here", "name it as `ca`");
    }
    if !config.validate_trust {
        if config.identities.is_none() {
            faults.error(
                &place.key("validate-trust"),
                "every certificate would be let through, also those that callers make themselves",
                "leave it out, or pin `identities` by thumbprint",
            );
        }
        if config.ca.is_some() {
            faults.error(&place.key("ca"), "without `validate-trust` no authority is asked", "leave one of the two out");
        }
        if config.validate_revocation == Some(true) {
            let message = "without `validate-trust` no authority is known whose lists would count";
            faults.error(&place.key("validate-revocation"), message, "leave one of the two out");
        }
    } else if config.validate_revocation == Some(true) {
        let listed = if config.ca.is_some() { !config.crl.is_empty() } else { asked.every_one_has_lists };
        if !listed {
            let message = "there are no revocation lists to look into";
            faults.error(&place.key("validate-revocation"), message, "name them as `crl`, beside the `ca` that counts here");
        }
    }
}

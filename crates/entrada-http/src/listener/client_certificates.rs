//! Clients' certificates in the handshake: requested, with proof of the private key.
//!
//! If they are `required`, the handshake fails for a client without one, or with one that no authority vouches for. If they are
//! `optional`, it continues with any certificate whose key the client has proven to hold: the policies of a route judge it, and
//! the caller sees the reason in a refusal.
//!
//! A resumed session (RFC 8446, section 2.2) brings the certificate of the earlier session, but no verdict: the listener judges
//! it again, and so does every policy. Tickets are bound to one set of settings, and end with it.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    certificate::{Authorities, CertificateFault, Checks, ClientCertificate},
    settings::{Faults, Place},
};

/// Clients' certificates, and the authorities that vouch for them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClientCertificatesConfig {
    /// Whether the handshake of a client without a trusted certificate fails.
    pub mode: ClientCertificateMode,
    /// The only trusted certificate authorities (PEM); read again when the file changes.
    pub ca: String,
    /// Their revocation lists (PEM or DER); read again when the files change. If there are any, each issuer needs one that is not
    /// overdue. Default: none, so that nothing counts as revoked.
    #[serde(default)]
    pub crl: Vec<String>,
}

/// `optional` or `required`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificateMode {
    /// The handshake continues; `validate-client-certificate` judges.
    Optional,
    /// The handshake fails without a certificate that is trusted, valid and not revoked.
    Required,
}

/// A listener's requirements for clients' certificates.
#[derive(Debug)]
pub struct ClientCertificates {
    mode: ClientCertificateMode,
    authorities: Arc<Authorities>,
}

impl ClientCertificates {
    /// Reads the authorities and their lists; file names are relative to `base`. Faults go to `faults`.
    pub(super) fn build(config: &ClientCertificatesConfig, base: &Path, place: &Place, faults: &mut Faults) -> Option<Self> {
        let authorities = load_authorities(&config.ca, &config.crl, base, place, faults)?;
        Some(Self { mode: config.mode, authorities })
    }

    /// Returns the authorities that vouch for certificates.
    pub const fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// Returns the mode.
    pub const fn mode(&self) -> ClientCertificateMode {
        self.mode
    }

    /// Checks whether a caller with this certificate is admitted at this time. Called for each request, since a certificate can
    /// expire on an open connection, a session can be resumed, and a reload can change the requirements.
    ///
    /// # Errors
    /// Returns the failed check, if certificates are required.
    pub fn admit(&self, certificate: Option<&ClientCertificate>, worker: usize, now: u64) -> Result<(), CertificateFault> {
        match self.mode {
            ClientCertificateMode::Optional => Ok(()),
            ClientCertificateMode::Required => {
                let certificate = certificate.ok_or(CertificateFault::Missing)?;
                self.authorities.judge(certificate, worker, now).check(Checks::ALL, now)
            }
        }
    }
}

/// Reads authorities (`ca`) and their lists (`crl`), as keys below `place`.
pub fn load_authorities(ca: &str, crl: &[String], base: &Path, place: &Place, faults: &mut Faults) -> Option<Arc<Authorities>> {
    let lists: Vec<_> = crl.iter().map(|path| base.join(path)).collect();
    match Authorities::load(&base.join(ca), &lists) {
        Ok(authorities) => Some(Arc::new(authorities)),
        Err(errors) => {
            for (index, error) in errors {
                let place = index.map_or_else(|| place.key("ca"), |index| place.key("crl").index(index));
                faults.error(&place, crate::base::error_chain::chain(&error), error.cure());
            }
            None
        }
    }
}

/// The handshake's verifier.
#[derive(Debug)]
pub(super) struct Verifier {
    certificates: Arc<ClientCertificates>,
    names: Vec<DistinguishedName>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(certificates: Arc<ClientCertificates>) -> Arc<Self> {
        let names = certificates.authorities.names().collect();
        Arc::new(Self { certificates, names, algorithms: default_provider().signature_verification_algorithms })
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.certificates.mode == ClientCertificateMode::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let certificate = ClientCertificate::read(&chain).map_err(|_| CertificateError::BadEncoding)?;
        // The shard of no thread in particular: handshakes are not what is hurried.
        self.certificates.admit(Some(&certificate), 0, now.as_secs()).map_err(|fault| alert(&fault))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns the TLS alert for the client; the operator finds the fault in the connection's event.
fn alert(fault: &CertificateFault) -> Error {
    Error::InvalidCertificate(match fault {
        CertificateFault::NotYetValid(_) => CertificateError::NotValidYet,
        CertificateFault::Expired(_) => CertificateError::Expired,
        CertificateFault::Revoked => CertificateError::Revoked,
        CertificateFault::RevocationUnknown(_) => CertificateError::UnknownRevocationStatus,
        CertificateFault::Missing
        | CertificateFault::Header(_)
        | CertificateFault::Untrusted(_)
        | CertificateFault::NotAllowed { .. } => CertificateError::UnknownIssuer,
    })
}

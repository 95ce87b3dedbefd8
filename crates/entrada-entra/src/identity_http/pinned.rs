//! Trust in one certificate by its thumbprint, as Service Fabric asks for: it has no name, and no authority vouches for it.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::IdentityHttpFault;

/// Returns TLS settings that accept the certificate with this SHA-1 thumbprint and no other.
pub(super) fn tls_config(thumbprint: [u8; 20]) -> Result<ClientConfig, IdentityHttpFault> {
    let provider = Arc::new(default_provider());
    let verifier = Pinned { thumbprint, provider: provider.clone() };
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| IdentityHttpFault::Tls(error.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// Compares the server's certificate with a thumbprint. The handshake's signature, which proves possession of the key, is verified as
/// always.
#[derive(Debug)]
struct Pinned {
    thumbprint: [u8; 20],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The platform names its certificate so; a second one with the same SHA-1 would take a second preimage.
        let own = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, end_entity);
        if own.as_ref() == self.thumbprint {
            Ok(ServerCertVerified::assertion())
        } else {
            // The library's own errors about certificates would not say which setting this is about.
            Err(Error::General("the server's certificate is not the one of IDENTITY_SERVER_THUMBPRINT".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

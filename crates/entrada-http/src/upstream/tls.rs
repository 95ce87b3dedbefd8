//! Trust in TLS servers of upstreams.

use std::{fs, io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, sign::SingleCertAndKey};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::{
    client_certificate::OwnCertificate,
    config::{ProtocolConfig, UpstreamTlsConfig},
};
use crate::settings::{Faults, Place};

/// A reader of certificate authorities for the upstreams of one config: the system's once, files per config.
#[derive(Debug)]
pub(super) struct Trust<'a> {
    base: &'a Path,
    system: Option<Arc<RootCertStore>>,
}

/// TLS towards the servers of one upstream.
#[derive(Clone)]
pub(super) struct Tls {
    /// The settings that offer the upstream's protocols.
    pub(super) config: Arc<ClientConfig>,
    /// The settings that offer only HTTP/1.1, for upgrades.
    pub(super) http1: Arc<ClientConfig>,
    /// The name that the certificate must contain, instead of the server's host.
    pub(super) server_name: Option<ServerName<'static>>,
    /// The authorities, for detecting changes.
    roots: Arc<RootCertStore>,
    /// The gateway's own certificate, if it has one.
    pub(super) own: Option<OwnCertificate>,
}

impl Tls {
    /// Returns whether the same authorities are trusted, and the same certificate is shown.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let own = match (&self.own, &other.own) {
            (None, None) => true,
            (Some(one), Some(other)) => one.same_as(other),
            _ => false,
        };
        own && (Arc::ptr_eq(&self.roots, &other.roots) || self.roots.roots == other.roots.roots)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl<'a> Trust<'a> {
    pub(super) const fn new(base: &'a Path) -> Self {
        Self { base, system: None }
    }

    /// Builds TLS from the settings, or reports faults.
    pub(super) fn tls(
        &mut self,
        config: &UpstreamTlsConfig,
        protocol: ProtocolConfig,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Tls> {
        let server_name = config.server_name.as_ref().map(|name| ServerName::try_from(name.clone()).ok());
        if matches!(server_name, Some(None)) {
            let name = config.server_name.as_deref().unwrap_or_default();
            faults.error(
                &place.key("server-name"),
                format!("`{name}` is not a host name"),
                "write the name that the certificate bears",
            );
        }
        let own = match &config.client_certificate {
            Some(config) => Some(OwnCertificate::build(config, self.base, &place.key("client-certificate"), faults)?),
            None => None,
        };
        let roots = match &config.ca {
            Some(path) => self.file(path, &place.key("ca"), faults)?,
            None => self.system(place, faults)?,
        };
        let offers: &[&[u8]] = match protocol {
            ProtocolConfig::Auto => &[b"h2", b"http/1.1"],
            ProtocolConfig::Http1 => &[b"http/1.1"],
            ProtocolConfig::Http2 => &[b"h2"],
        };
        Some(Tls {
            config: client(&roots, own.as_ref(), offers),
            http1: client(&roots, own.as_ref(), &[b"http/1.1"]),
            server_name: server_name.flatten(),
            roots,
            own,
        })
    }

    fn file(&self, path: &str, place: &Place, faults: &mut Faults) -> Option<Arc<RootCertStore>> {
        let read = || -> Result<RootCertStore, Box<dyn std::error::Error>> {
            let mut roots = RootCertStore::empty();
            let text = fs::read(self.base.join(path))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                roots.add(certificate?)?;
            }
            if roots.is_empty() {
                return Err(io::Error::other("it holds no certificate").into());
            }
            Ok(roots)
        };
        read()
            .map(Arc::new)
            .map_err(|error| {
                faults.error(
                    place,
                    format!("`{path}` cannot be used: {error}"),
                    "name a PEM file with the authority's certificate",
                );
            })
            .ok()
    }

    fn system(&mut self, place: &Place, faults: &mut Faults) -> Option<Arc<RootCertStore>> {
        let roots = self.system.get_or_insert_with(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        });
        if roots.is_empty() {
            faults.error(
                place,
                "the system has no bundle of certificate authorities, so no server could be verified",
                "install one (ca-certificates), set SSL_CERT_FILE, or name a file as `ca`",
            );
            return None;
        }
        Some(roots.clone())
    }
}

/// Builds TLS towards servers other than upstreams, which trusts these authorities or the system's, or reports faults. `place` is that
/// of the settings with `ca`.
pub fn tls_client(
    ca: Option<&str>,
    base: &Path,
    place: &Place,
    faults: &mut Faults,
) -> Option<(Arc<ClientConfig>, Arc<RootCertStore>)> {
    let mut trust = Trust::new(base);
    let roots = match ca {
        Some(path) => trust.file(path, &place.key("ca"), faults)?,
        None => trust.system(place, faults)?,
    };
    Some((client(&roots, None, &[]), roots))
}

fn client(roots: &Arc<RootCertStore>, own: Option<&OwnCertificate>, offers: &[&[u8]]) -> Arc<ClientConfig> {
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots.clone());
    let mut client = match own {
        Some(own) => client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.key.clone()))),
        None => client.with_no_client_auth(),
    };
    client.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
    Arc::new(client)
}

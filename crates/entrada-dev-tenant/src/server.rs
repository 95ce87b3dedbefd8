//! The sockets: plain or TLS, HTTP/1.1.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    routing::{get, post},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{State, control, graph, interference, managed_identity, metadata, monitor, registration, sign_in, token, vault};
use crate::certificate::keys::Thumbprints;

/// The peer's address of a connection, for the control endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Builds the router of all endpoints.
pub(crate) fn router(state: &Arc<State>) -> Router {
    Router::new()
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(metadata::openid_v2))
        .route("/{tenant}/.well-known/openid-configuration", get(metadata::openid_v1))
        .route("/{tenant}/discovery/v2.0/keys", get(metadata::keys_v2))
        .route("/{tenant}/discovery/keys", get(metadata::keys_v1))
        .route("/common/discovery/instance", get(metadata::instance))
        .route("/{tenant}/oauth2/v2.0/token", post(token::v2))
        .route("/{tenant}/oauth2/token", post(token::v1))
        .merge(sign_in::router())
        .merge(control::router())
        .merge(vault::router())
        .merge(managed_identity::router())
        .merge(graph::router())
        .merge(monitor::router())
        .merge(registration::router())
        .layer(axum::middleware::from_fn_with_state(state.clone(), interference::middleware))
        .with_state(state.clone())
}

/// Accepts connections until stopped, then closes the open ones.
pub(crate) async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, peer, acceptor, router) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            // Out of descriptors, most likely: the next one to close helps.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, acceptor: Option<TlsAcceptor>, router: Router) {
    let _ = stream.set_nodelay(true);
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.map(axum::body::Body::new)
    });
    let service = TowerToHyperService::new(service);
    let builder = hyper::server::conn::http1::Builder::new();
    match acceptor {
        None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await {
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            }
        }
    }
}

pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) ca_pem: String,
    /// SHA-1 of the server's certificate, in hexadecimal.
    pub(crate) thumbprint: String,
}

/// Makes a certificate authority and a server certificate for this machine's own names.
pub(crate) fn tls(host: &str) -> Result<Tls, String> {
    let made = || -> Result<_, rcgen::Error> {
        let (from, to) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2049, 1, 1));
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "entrada development tenant CA");
        (ca.not_before, ca.not_after) = (from, to);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(ca, ca_key);

        let mut names: Vec<String> = ["localhost", "*.localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']).to_owned();
        if !names.contains(&name) && name.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified())
            || name.parse::<IpAddr>().is_err()
        {
            names.push(name);
        }
        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, "entrada development tenant");
        (server.not_before, server.not_after) = (from, to);
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = server.signed_by(&key, &issuer)?;
        Ok((ca_pem, certificate.der().clone(), key.serialize_der()))
    };
    let (ca_pem, certificate, key) = made().map_err(|error| error.to_string())?;
    let thumbprint = Thumbprints::of(&certificate).hex();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem, thumbprint })
}

//! Tests of the key exchange of TLS: post-quantum (X25519MLKEM768) with whoever knows it, classic with everybody else.

use std::sync::Arc;

use rustls::{
    ClientConfig, NamedGroup, RootCertStore, ServerConfig,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{
            default_provider,
            kx_group::{SECP256R1, X25519, X25519MLKEM768},
        },
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{Authority, Gateway, Identity};

type Group = &'static dyn SupportedKxGroup;

fn provider(groups: &[Group]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..default_provider() })
}

/// Sends a request over a connection with these groups; returns the response's first line and the group.
async fn ask(gateway: &Gateway, authority: &Authority, groups: &[Group]) -> (String, NamedGroup) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let config = ClientConfig::builder_with_provider(provider(groups)).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let tcp = TcpStream::connect(gateway.address()).await.unwrap();
    let name = ServerName::try_from("gateway.contoso.example").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, tcp).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: gateway.contoso.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    (String::from_utf8(text).unwrap().lines().next().unwrap_or_default().to_owned(), group)
}

/// Starts an HTTPS backend that knows these groups; returns its address, and the groups of its connections.
async fn backend(identity: &Identity, groups: &[Group]) -> (u16, tokio::sync::mpsc::UnboundedReceiver<NamedGroup>) {
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider(groups)).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = socket.accept().await {
            let (acceptor, sender) = (TlsAcceptor::from(config.clone()), sender.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let _ = sender.send(stream.get_ref().1.negotiated_key_exchange_group().unwrap().name());
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, receiver)
}

#[tokio::test]
async fn a_listener_agrees_on_post_quantum_keys_with_clients_that_know_them_and_on_classic_ones_with_others() {
    let (authority, folder) = (Authority::new("Contoso Servers"), tempfile::tempdir().unwrap());
    let tls = authority.server("gateway.contoso.example").write(folder.path(), "server");
    let config = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\", tls: {tls} }} ]\nroutes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, respond: {{ status: 204 }} }} ]"
    );
    let gateway = Gateway::start(&config).await;
    for (groups, expected) in [
        (&[X25519MLKEM768, X25519] as &[Group], NamedGroup::X25519MLKEM768),
        (&[X25519], NamedGroup::X25519),
        (&[SECP256R1], NamedGroup::secp256r1),
    ] {
        assert_eq!(ask(&gateway, &authority, groups).await, ("HTTP/1.1 204 No Content".to_owned(), expected));
    }
}

#[tokio::test]
async fn an_upstream_is_offered_post_quantum_keys_and_may_know_none() {
    let authority = Authority::new("Contoso Servers");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let identity = authority.server("localhost");
    for (groups, expected) in [
        (&[X25519MLKEM768, X25519] as &[Group], NamedGroup::X25519MLKEM768),
        (&[X25519], NamedGroup::X25519),
        // Nothing was sent for this one: the server asks again.
        (&[SECP256R1], NamedGroup::secp256r1),
    ] {
        let (port, mut agreed) = backend(&identity, groups).await;
        let config = format!(
            "upstreams: {{ backend: {{ servers: [\"https://localhost:{port}\"], tls: {{ ca: \"{}\" }} }} }}\nroutes: [ {{ name: a, match: {{ path: /a }}, anonymous: true, upstream: backend }} ]",
            ca.display()
        );
        let gateway = Gateway::start(&config).await;

        assert_eq!(gateway.get("/a").send().await.status, 204);
        assert_eq!(agreed.recv().await, Some(expected));
    }
}

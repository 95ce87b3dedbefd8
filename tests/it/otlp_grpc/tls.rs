//! Exports with TLS, by a process of its own: the authorities and the protocol come from its environment.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use super::collector::{Answer, Collector, METRICS};
use crate::support::{Authority, eventually};

/// A gateway that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_collector_with_tls_is_asked_for_h2_and_trusted_by_the_systems_authorities_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("System"), Authority::new("Somebody"));
    let identity = authority.server("localhost");
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let mut tls = tls.with_no_client_auth().with_single_cert(chain, key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let collector = Collector::at(anywhere, Some(TlsAcceptor::from(Arc::new(tls))), |_| Answer::Taken(Vec::new())).await;
    let config = folder.path().join("entrada.yaml");
    let text = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\nadmin: { address: \"127.0.0.1:0\" }\n\
                routes: [ { name: a, match: { path: /a }, anonymous: true, respond: { status: 204 } } ]\n\
                telemetry: { otlp: { metrics: { every: 1s } } }\n";
    std::fs::write(&config, text).unwrap();
    let start = |name: &str, authority: &Authority| {
        let ca = folder.path().join(format!("{name}.pem"));
        std::fs::write(&ca, authority.pem()).unwrap();
        let log = std::fs::File::create(folder.path().join(format!("{name}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_entrada"))
            .args(["run", "--workers", "1"])
            .arg(&config)
            .env_remove("ENTRADA_CONFIG")
            .env_remove("SSL_CERT_DIR")
            .env("SSL_CERT_FILE", ca)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://localhost:{}", collector.address.port()))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn();
        Running(child.unwrap())
    };

    let distrustful = start("other", &stranger);
    let log = folder.path().join("other.log");
    eventually("the log says why nothing is exported", async || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.contains("the collector cannot be reached") && log.contains("certificate")
    })
    .await;
    assert_eq!(collector.calls(), 0);
    drop(distrustful);

    let _trusting = start("system", &authority);

    collector.exports(METRICS, 2).await;
}

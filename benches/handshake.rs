//! Benchmark of full TLS 1.3 handshakes with and without post-quantum key exchange: CPU time of each side, and bytes on the wire.
//!
//! Both sides run in this thread, in memory, with the gateway's settings: a P-256 certificate, one session ticket, no resumption.
//! The rows alternate from handshake to handshake, and each figure is the lower quartile of its row: what else the machine does
//! touches few handshakes of a fifth of a millisecond. Compare ratios, not days.
//! `cargo bench --bench handshake`.

use std::{io::Read as _, sync::Arc, time::Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig, ServerConnection, SideData,
    client::Resumption,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{
            self, Ticketer,
            kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768},
        },
    },
};
use rustls_pki_types::PrivateKeyDer;

const HANDSHAKES: usize = 4_000;

/// The groups of peers that know no post-quantum key exchange.
const CLASSIC: &[&dyn SupportedKxGroup] = &[X25519, SECP256R1, SECP384R1];
/// The groups of peers that know it and do not prefer it.
const LAST: &[&dyn SupportedKxGroup] = &[X25519, SECP256R1, SECP384R1, X25519MLKEM768];
/// The groups of peers that prefer it.
const FIRST: &[&dyn SupportedKxGroup] = &[X25519MLKEM768, X25519, SECP256R1, SECP384R1];

/// The cost of one handshake: nanoseconds and bytes of each side.
#[derive(Clone, Copy)]
struct Cost {
    client: u64,
    server: u64,
    sent_by_client: usize,
    sent_by_server: usize,
}

/// The two sides of a row.
struct Row {
    name: &'static str,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

fn provider(groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() })
}

/// Moves what one side has to say to the other; returns the time of the receiver and the bytes.
fn pass<A: SideData, B: SideData>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> (u64, u64, usize) {
    let mut wire = Vec::with_capacity(8 << 10);
    let begun = Instant::now();
    while from.wants_write() {
        from.write_tls(&mut wire).expect("memory takes everything");
    }
    let writing = begun.elapsed();
    let (bytes, mut rest, begun) = (wire.len(), wire.as_slice(), Instant::now());
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("memory gives everything");
        to.process_new_packets().expect("the peer is sound");
    }
    let nanoseconds = |span: std::time::Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    (nanoseconds(writing), nanoseconds(begun.elapsed()), bytes)
}

impl Row {
    fn handshake(&self) -> Cost {
        let mut cost = Cost { client: 0, server: 0, sent_by_client: 0, sent_by_server: 0 };
        let name = "gateway.contoso.example".try_into().expect("a name");
        let begun = Instant::now();
        let mut client = ClientConnection::new(self.client.clone(), name).expect("the settings are sound");
        cost.client += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut server = ServerConnection::new(self.server.clone()).expect("the settings are sound");
        while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
            let (written, read, bytes) = pass(&mut client, &mut server);
            (cost.client, cost.server, cost.sent_by_client) =
                (cost.client + written, cost.server + read, cost.sent_by_client + bytes);
            let (written, read, bytes) = pass(&mut server, &mut client);
            (cost.server, cost.client, cost.sent_by_server) =
                (cost.server + written, cost.client + read, cost.sent_by_server + bytes);
        }
        // Nothing is sent but the handshake and the ticket.
        assert!(client.reader().read(&mut [0; 1]).is_err());
        cost
    }

    fn group(&self) -> String {
        let name = "gateway.contoso.example".try_into().expect("a name");
        let mut client = ClientConnection::new(self.client.clone(), name).expect("the settings are sound");
        let mut server = ServerConnection::new(self.server.clone()).expect("the settings are sound");
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut client, &mut server);
            pass(&mut server, &mut client);
        }
        client.negotiated_key_exchange_group().map_or_else(String::new, |group| format!("{:?}", group.name()))
    }
}

fn main() {
    let key = KeyPair::generate().expect("a P-256 key");
    let certificate = CertificateParams::new(["gateway.contoso.example".to_owned()]).expect("a name").self_signed(&key);
    let certificate = certificate.expect("it can be signed").der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is an authority's");
    let roots = Arc::new(roots);

    let client = |groups| {
        let config = ClientConfig::builder_with_provider(provider(groups)).with_safe_default_protocol_versions();
        let mut config = config.expect("the provider knows them").with_root_certificates(roots.clone()).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    };
    let server = |groups| {
        let config = ServerConfig::builder_with_provider(provider(groups)).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = config.expect("the provider knows them").with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.clone()], key).expect("they belong together");
        config.ticketer = Ticketer::new().expect("the machine has randomness");
        config.send_tls13_tickets = 1;
        Arc::new(config)
    };
    let rows = [
        Row { name: "neither side knows it", client: client(CLASSIC), server: server(CLASSIC) },
        Row { name: "the server prefers it, the client knows none", client: client(CLASSIC), server: server(FIRST) },
        Row { name: "the server prefers it, the client knows it last", client: client(LAST), server: server(FIRST) },
        Row { name: "the client prefers it, the server knows none", client: client(FIRST), server: server(CLASSIC) },
        Row { name: "the client prefers it, the server knows it last", client: client(FIRST), server: server(LAST) },
        Row { name: "both prefer it", client: client(FIRST), server: server(FIRST) },
    ];
    // `cargo test --benches` wants to know that it runs, not how fast.
    let handshakes = if std::env::args().any(|argument| argument == "--bench") { HANDSHAKES } else { 1 };
    let mut costs = rows.each_ref().map(|_| Vec::with_capacity(handshakes));
    for _ in 0..handshakes {
        for (row, costs) in rows.iter().zip(&mut costs) {
            costs.push(row.handshake());
        }
    }
    let typical = costs.map(|costs| Cost {
        client: lower_quartile(costs.iter().map(|cost| cost.client)),
        server: lower_quartile(costs.iter().map(|cost| cost.server)),
        ..costs[costs.len() - 1]
    });
    let base = typical[0];
    for (row, Cost { client, server, sent_by_client, sent_by_server }) in rows.iter().zip(typical) {
        println!(
            "{}: {}\n  server {server} ns ({:.2}), {} full handshakes a second and core; client {client} ns ({:.2}); bytes {sent_by_client} + {sent_by_server}",
            row.name,
            row.group(),
            server as f64 / base.server as f64,
            1_000_000_000 / server.max(1),
            client as f64 / base.client as f64,
        );
    }
}

fn lower_quartile(figures: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<_> = figures.collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 4]
}

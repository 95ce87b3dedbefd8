//! The settings that connections of a listener follow; replaced as a whole on reload.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{
    admission::{Admission, ConnectionCounts},
    client_certificates::ClientCertificates,
    config::{LimitsConfig, SettingsConfig, TlsConfig},
    tls::ServerTls,
};
use crate::{
    base::error_chain::chain,
    certificate::keys::{LOOSE_CURE, loose_key},
    connection::{NoTrustedPeers, TrustedPeers},
    settings::{Faults, Lint, OneOrMany, Place},
};

/// A listener, as shared by the workers that serve it.
#[derive(Debug)]
pub struct Listener {
    /// Its name in audit records and metrics.
    pub name: Arc<str>,
    /// The current settings. A connection keeps those that it began with, except `limits`, which are read for each request.
    pub settings: ArcSwap<ListenerSettings>,
    pub(super) admission: Admission,
}

/// The settings of a listener, built.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The limits for clients.
    pub limits: Limits,
    /// The certificates; absent on a plain listener.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The peers that may introduce connections and send requests of other callers.
    pub trusted_peers: Arc<dyn TrustedPeers>,
    /// True if HTTP/2 is served besides HTTP/1.1.
    pub http2: bool,
    /// The longest duration of one request.
    pub max_stream: Duration,
    /// The number of streams that a connection of HTTP/2 may have at a time.
    pub streams: u32,
    /// True if requests are questions of other proxies: none is forwarded.
    pub decides: bool,
    /// True if connections of peers that are not trusted are closed.
    pub only_trusted: bool,
}

/// The limits of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of connections.
    pub connections: usize,
    /// The maximum number of connections of one peer.
    pub connections_per_peer: usize,
    /// The size limit of a head, in bytes.
    pub header_bytes: usize,
    /// The timeout for TLS handshake and head.
    pub header_timeout: Duration,
    /// The idle timeout of a connection between requests.
    pub idle_timeout: Duration,
    /// The size limit of a body, in bytes.
    pub body_bytes: u64,
    /// The timeout for the next bytes of a body.
    pub body_timeout: Duration,
    /// The timeout for a client that reads nothing of a response.
    pub write_timeout: Duration,
}

/// The usual number of a client's open streams. RFC 9113, section 6.5.2 advises no fewer.
const STREAMS: u32 = 100;
/// The number of open streams of a proxy that asks: each of its threads has one connection for all of its questions.
const STREAMS_OF_A_PROXY: u32 = 1_024;
/// The smallest limit of a head: browsers' requests need more.
const LEAST_HEADER_BYTES: u64 = 1 << 10;
/// The largest limit of a head: a target of half of it must fit into what `http` holds.
const MOST_HEADER_BYTES: u64 = 128 << 10;

impl ListenerSettings {
    /// Returns the settings of a listener without TLS and without trusted peers, with these limits.
    pub fn plain(limits: Limits) -> Self {
        Self {
            limits,
            tls: None,
            proxy_protocol: false,
            trusted_peers: Arc::new(NoTrustedPeers),
            http2: true,
            max_stream: LimitsConfig::default().max_stream.0,
            streams: STREAMS,
            decides: false,
            only_trusted: false,
        }
    }

    /// Builds the settings of a listener without trusted peers; file names are relative to `base`. Faults go to `faults`.
    pub fn build(config: SettingsConfig<'_>, base: &Path, place: &Place, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors();
        check_limits(config.limits, &place.key("limits"), faults);
        let asked = place.key("client-certificates");
        if config.client_certificates.is_some() && config.tls.is_none() {
            faults.error(&asked, "clients show certificates in TLS alone, and this listener has none", "give it `tls`");
        }
        let client_certificates = config.client_certificates;
        let client_certificates =
            client_certificates.and_then(|config| ClientCertificates::build(config, base, &asked, faults)).map(Arc::new);
        let tls = config.tls.and_then(|tls| load_tls(tls, client_certificates, base, &place.key("tls"), faults));
        let tls = if config.http2 { tls } else { tls.map(ServerTls::without_http2) };
        (faults.errors() == before).then(|| Self {
            tls: tls.map(Arc::new),
            proxy_protocol: config.proxy_protocol,
            http2: config.http2,
            max_stream: config.limits.max_stream.0,
            ..Self::plain(Limits::from(config.limits))
        })
    }

    /// Returns the settings with these trusted peers.
    #[must_use]
    pub fn trusting(self, peers: impl TrustedPeers) -> Self {
        Self { trusted_peers: Arc::new(peers), ..self }
    }

    /// Returns the settings of a listener for questions of other proxies, each of which asks all its questions on few connections.
    #[must_use]
    pub fn deciding(self) -> Self {
        Self { decides: true, streams: STREAMS_OF_A_PROXY, ..self }
    }

    /// Returns the requirements for clients' certificates, if they are requested.
    pub fn client_certificates(&self) -> Option<&ClientCertificates> {
        self.tls.as_ref()?.client_certificates().map(|asked| &**asked)
    }
}

fn check_limits(limits: &LimitsConfig, place: &Place, faults: &mut Faults) {
    if !(LEAST_HEADER_BYTES..=MOST_HEADER_BYTES).contains(&limits.header_bytes.0) {
        let cure = "choose between 1KiB and 128KiB; the default is 64KiB";
        faults.error(
            &place.key("header-bytes"),
            format!("{} bytes is not a sensible size for a head", limits.header_bytes.0),
            cure,
        );
    }
    if limits.connections == 0 {
        faults.error(&place.key("connections"), "0 connections would refuse every caller", "allow some; the default is 10000");
    }
    let per_peer = place.key("connections-per-peer");
    match limits.connections_per_peer {
        Some(0) => {
            faults.error(
                &per_peer,
                "0 connections would refuse every caller",
                "allow some; the default is a quarter of `connections`",
            );
        }
        Some(most) if most > limits.connections => {
            let message = format!("{most} connections of one peer are more than the listener's {}", limits.connections);
            faults.warning(
                Lint::ConnectionsPerPeer,
                &per_peer,
                message,
                "write no more than `connections`, or leave it out for a quarter of it",
            );
        }
        _ => {}
    }
    for (key, span) in [
        ("header-timeout", limits.header_timeout),
        ("idle-timeout", limits.idle_timeout),
        ("body-timeout", limits.body_timeout),
        ("write-timeout", limits.write_timeout),
        ("max-stream", limits.max_stream),
    ] {
        if span.0.is_zero() {
            faults.error(&place.key(key), format!("a {key} of nothing would end every request"), "give it some time, as in 10s");
        }
    }
}

fn load_tls(
    config: &OneOrMany<TlsConfig>,
    client_certificates: Option<Arc<ClientCertificates>>,
    base: &Path,
    place: &Place,
    faults: &mut Faults,
) -> Option<ServerTls> {
    let under_base = |path: &str| base.join(path).display().to_string();
    let files: Vec<_> = config
        .as_slice()
        .iter()
        .map(|files| TlsConfig { certificate: under_base(&files.certificate), private_key: under_base(&files.private_key) })
        .collect();
    let mut sound = true;
    for (index, files) in files.iter().enumerate() {
        let place = if matches!(config, OneOrMany::One(_)) { place.clone() } else { place.index(index) };
        if let Err(error) = ServerTls::check(files) {
            let (key, cure) = error.cure(files);
            faults.error(&place.key(key), chain(&error), cure);
            sound = false;
        }
    }
    if !sound {
        return None;
    }
    for (index, files) in files.iter().enumerate() {
        let place = if matches!(config, OneOrMany::One(_)) { place.clone() } else { place.index(index) };
        if let Some(message) = loose_key(Path::new(&files.private_key)) {
            faults.warning(Lint::SecretFilePermissions, &place.key("private-key"), message, LOOSE_CURE);
        }
    }
    ServerTls::asking(&files, client_certificates)
        .map_err(|error| faults.error(place, chain(&error), "list at least one certificate"))
        .ok()
}

impl From<&LimitsConfig> for Limits {
    fn from(config: &LimitsConfig) -> Self {
        Self {
            connections: config.connections as usize,
            connections_per_peer: config.connections_per_peer.unwrap_or((config.connections / 4).max(1)) as usize,
            header_bytes: usize::try_from(config.header_bytes.0).unwrap_or(usize::MAX),
            header_timeout: config.header_timeout.0,
            idle_timeout: config.idle_timeout.0,
            body_bytes: config.body_bytes.0,
            body_timeout: config.body_timeout.0,
            write_timeout: config.write_timeout.0,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&LimitsConfig::default())
    }
}

impl Listener {
    /// Makes a listener of this name.
    pub fn new(name: impl Into<Arc<str>>, settings: ListenerSettings) -> Arc<Self> {
        Arc::new(Self { name: name.into(), settings: ArcSwap::from_pointee(settings), admission: Admission::new() })
    }

    /// Returns the current limits.
    #[expect(clippy::disallowed_methods, reason = "the guard ends here; a counted pointer would be written to by every core")]
    pub fn limits(&self) -> Limits {
        self.settings.load().limits
    }

    /// Reads the current settings.
    #[expect(clippy::disallowed_methods, reason = "the guard ends here; a counted pointer would be written to by every core")]
    pub fn present<R>(&self, read: impl FnOnce(&ListenerSettings) -> R) -> R {
        read(&self.settings.load())
    }

    /// Returns whether HTTP/2 is currently served besides HTTP/1.1.
    #[expect(clippy::disallowed_methods, reason = "the guard ends here; a counted pointer would be written to by every core")]
    pub(super) fn speaks_http2(&self) -> bool {
        self.settings.load().http2
    }

    /// Returns the number of open connections, on all workers together.
    pub fn connections(&self) -> usize {
        self.admission.open()
    }

    /// Returns the counts of connections.
    pub fn counts(&self) -> ConnectionCounts {
        self.admission.counts()
    }

    /// Returns the peer that a connection counts for; `None` for proxies that send requests of other callers.
    pub(super) fn counted(&self, peer: IpAddr) -> Option<IpAddr> {
        let settings = self.settings.load_full();
        (!settings.trusted_peers.may_speak_for_others(peer)).then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{listener::tls, settings::Size};

    fn plain(limits: &LimitsConfig) -> SettingsConfig<'_> {
        SettingsConfig { limits, tls: None, client_certificates: None, http2: true, proxy_protocol: false }
    }

    fn places(faults: &Faults) -> Vec<String> {
        faults.iter().map(|fault| fault.place.to_string()).collect()
    }

    #[test]
    fn every_fault_is_told_at_its_place() {
        let folder = TempDir::new().unwrap();
        let sound = tls::tests::write(folder.path(), "a", &["a.example"]);
        let other = tls::tests::write(folder.path(), "b", &["b.example"]);
        let mixed = TlsConfig { private_key: other.private_key, ..sound.clone() };
        let limits =
            LimitsConfig { header_bytes: Size(10), connections: 0, connections_per_peer: Some(0), ..LimitsConfig::default() };
        let tls = OneOrMany::Many(vec![sound, mixed]);
        let config = SettingsConfig { tls: Some(&tls), ..plain(&limits) };
        let (mut faults, place) = (Faults::default(), Place::root().key("listeners").index(0));

        let settings = ListenerSettings::build(config, folder.path(), &place, &mut faults);

        assert!(settings.is_none());
        assert_eq!(
            places(&faults),
            [
                "listeners[0].limits.header-bytes",
                "listeners[0].limits.connections",
                "listeners[0].limits.connections-per-peer",
                "listeners[0].tls[1].private-key",
            ]
        );
    }

    #[test]
    fn file_names_are_relative_to_the_config() {
        let folder = TempDir::new().unwrap();
        tls::tests::write(folder.path(), "a", &["a.example"]);
        let files = TlsConfig { certificate: "a.pem".to_owned(), private_key: "a.key".to_owned() };
        let (limits, tls) = (LimitsConfig::default(), OneOrMany::One(files));
        let config = SettingsConfig { tls: Some(&tls), ..plain(&limits) };
        let mut faults = Faults::default();

        let settings = ListenerSettings::build(config, folder.path(), &Place::root(), &mut faults).unwrap();

        assert!(faults.is_empty());
        assert_eq!(settings.tls.unwrap().files().count(), 2);
        assert_eq!(settings.limits, Limits::default());
    }
}

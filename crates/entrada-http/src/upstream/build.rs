//! Building of an upstream from its settings.

use std::sync::{Arc, atomic::AtomicBool};
use std::time::Duration;

use http::{HeaderValue, uri};

use super::{
    affinity::UpstreamId,
    config::{ProtocolConfig, UpstreamConfig},
    pool::Pool,
    send::{Host, PerWorker, Upstream},
    server::{Location, Server},
    server_health::ServerHealth,
    tls::Trust,
};
use crate::settings::{Faults, Lint, Place};

/// The shortest time between two health checks.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

impl Upstream {
    /// Builds an upstream from its settings, or reports their faults.
    pub(super) fn build(
        name: &str,
        config: &UpstreamConfig,
        workers: usize,
        trust: &mut Trust<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Self> {
        let before = faults.errors();
        let mut config = config.clone();
        if config.connection_affinity.is_some() {
            if config.protocol == ProtocolConfig::Http2 {
                let message = "over HTTP/2 many callers share a connection, so none can belong to one of them";
                faults.error(&place.key("connection-affinity"), message, "use `protocol: http1`, or leave one of the two out");
            }
            config.protocol = ProtocolConfig::Http1;
        }
        let config = &config;
        let locations = locations(config, &place.key("servers"), faults);
        let tls_wanted = locations.iter().any(|location| location.scheme == uri::Scheme::HTTPS);
        if !tls_wanted && config.tls != Default::default() && !locations.is_empty() {
            faults.warning(
                Lint::UpstreamTlsUnused,
                &place.key("tls"),
                "no server of this upstream uses TLS",
                "write the servers as https://, or drop `tls`",
            );
        }
        let tls = if tls_wanted { trust.tls(&config.tls, config.protocol, &place.key("tls"), faults) } else { None };
        let host = host(config.host.as_deref(), &place.key("host"), faults);
        check_resilience(config, place, faults);
        let servers = locations.into_iter().filter_map(|location| {
            let tls = match &tls {
                Some(tls) if location.scheme == uri::Scheme::HTTPS => {
                    Some((tls.clone(), tls.server_name.clone().or_else(|| location.server_name())?))
                }
                _ => None,
            };
            let name = location.name();
            Some(Server {
                name: name.as_str().into(),
                host: HeaderValue::from_str(location.authority.as_str()).ok()?,
                pools: (0..workers.max(1)).map(|_| Arc::new(Pool::new(&name))).collect(),
                scheme: location.scheme,
                authority: location.authority,
                base: location.base,
                address: location.address,
                tls,
                health: ServerHealth::default(),
            })
        });
        let servers: Box<[_]> = servers.collect();
        if faults.errors() > before || servers.is_empty() {
            return None;
        }
        Some(Self {
            id: UpstreamId::new(),
            name: name.into(),
            config: config.clone(),
            host: host?,
            servers,
            per_worker: (0..workers.max(1)).map(|_| PerWorker::default()).collect(),
            watched: AtomicBool::new(false),
        })
    }
}

/// Returns the correct form of a server that cannot be read.
fn server_cure(text: &str, what: &str) -> String {
    if what.contains("platform") {
        let cure = "remove it: no caller may reach it; the gateway gets tokens there with a `managed-identity` credential";
        return cure.to_owned();
    }
    let (url, _) = text.split_once(['?', '#']).unwrap_or((text, ""));
    let with_scheme = format!("http://{url}");
    if Location::parse(url).is_ok() {
        format!("write `{url}`")
    } else if !text.contains("://") && Location::parse(&with_scheme).is_ok() {
        format!("write `{with_scheme}`, or `https://{url}` where it speaks TLS")
    } else {
        "write scheme, host and port of a backend, as https://10.0.0.5:8443".to_owned()
    }
}

fn locations(config: &UpstreamConfig, place: &Place, faults: &mut Faults) -> Vec<Location> {
    if config.servers.is_empty() {
        faults.error(place, "there is no server", "list at least one URL, as https://10.0.0.5:8443");
    }
    let mut locations: Vec<Location> = Vec::new();
    for (index, text) in config.servers.iter().enumerate() {
        let place = place.index(index);
        match Location::parse(text) {
            Err(what) => faults.error(&place, format!("`{text}` {what}"), server_cure(text, what)),
            Ok(location) => {
                if locations.iter().any(|other| other.name() == location.name() && other.base == location.base) {
                    faults.error(&place, format!("`{text}` is listed twice"), "list each server once");
                }
                if location.scheme == uri::Scheme::HTTPS && config.tls.server_name.is_none() && location.server_name().is_none() {
                    faults.error(
                        &place,
                        format!("no certificate can bear the host of `{text}`"),
                        "set `tls: { server-name: … }`",
                    );
                }
                locations.push(location);
            }
        }
    }
    locations
}

fn host(text: Option<&str>, place: &Place, faults: &mut Faults) -> Option<Host> {
    match text {
        None | Some("upstream") => Some(Host::Server),
        Some("preserve") => Some(Host::Caller),
        Some(name) => {
            let authority = name.parse::<uri::Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
            let value = HeaderValue::from_str(name).ok();
            if let (Some(authority), Some(value)) = (authority, value) {
                return Some(Host::Named(authority, value));
            }
            faults.error(place, format!("`{name}` is not a host"), "write `upstream`, `preserve` or a host name");
            None
        }
    }
}

/// Reports numbers that would disable the feature that they belong to.
fn check_resilience(config: &UpstreamConfig, place: &Place, faults: &mut Faults) {
    if let Some(retries) = &config.retries {
        let place = place.key("retries");
        if !(1..=5).contains(&retries.attempts) {
            faults.error(
                &place.key("attempts"),
                format!("{} is not a number of further attempts", retries.attempts),
                "write 1 to 5",
            );
        }
        if retries.when.is_empty() {
            faults.error(
                &place.key("when"),
                "nothing is tried again",
                "list at least one of connect-failure, reset-before-response, timeout, \"503\"",
            );
        }
    }
    if let Some(health) = &config.health {
        let place = place.key("health");
        if !health.path.starts_with('/') || health.path.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
            faults.error(&place.key("path"), format!("`{}` is not a path", health.path), "write a path, as /healthz");
        }
        if health.interval.0 < MIN_INTERVAL {
            faults.error(&place.key("interval"), "checks would be a load of their own", "write at least 100ms");
        }
        for (name, number) in [("healthy", health.healthy), ("unhealthy", health.unhealthy)] {
            if number == 0 {
                faults.error(&place.key(name), "no check would ever be enough", "write at least 1");
            }
        }
    }
    if let Some(ejection) = &config.ejection
        && ejection.consecutive_failures == 0
    {
        faults.error(&place.key("ejection").key("consecutive-failures"), "every server would be ejected", "write at least 1");
    }
}

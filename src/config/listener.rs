//! The settings of a listener.

use std::{net::SocketAddr, path::Path};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    address::AddressSets,
    base::clock::Clock,
    caller::{ForwardedHeader, ListenerTrust, ProxyProtocolConfig, TrustConfig, TrustStepConfig, TrustedProxyConfig},
    decision::DecidesConfig,
    listener::{ClientCertificateMode, ClientCertificatesConfig, LimitsConfig, ListenerSettings, SettingsConfig, TlsConfig},
    settings::{Faults, Lint, OneOrMany, Place},
};

/// A listener: its addresses, and the proxies that it trusts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenerConfig {
    /// The listener's name in audit records and metrics.
    pub name: String,
    /// `address:port`, or a list of them.
    pub address: OneOrMany<String>,
    /// Server certificates, chosen by the requested server name (SNI); the first is the default. Absent: no TLS.
    pub tls: Option<OneOrMany<TlsConfig>>,
    /// Whether HTTP/2 is served besides HTTP/1.1. Without it browsers can sign in with Windows credentials (NTLM), which need a
    /// connection with a single caller. Default: true.
    #[serde(default = "yes")]
    pub http2: bool,
    /// Requests client certificates. Default: they are not requested.
    pub client_certificates: Option<ClientCertificatesConfig>,
    /// The proxies that are trusted to name the caller. Default: none.
    #[serde(default)]
    pub trusted_proxies: Vec<TrustedProxyConfig>,
    /// The proxies that requests pass through, the outermost first. Instead of `trusted-proxies`, if there are different
    /// entrances: each step is trusted once, and only in this order.
    #[serde(default)]
    pub trust_path: Vec<TrustStepConfig>,
    /// Closes the connections of all peers but trusted proxies, so that nobody goes around the proxy in front. Default: false.
    #[serde(default)]
    pub only_trusted_proxies: bool,
    /// The header in which trusted proxies name the caller; the others are removed unread. Default: x-forwarded-for.
    #[serde(default)]
    pub forwarded_header: ForwardedHeader,
    /// Whether connections begin with a PROXY protocol header, before TLS. Only trusted proxies may then connect. Default: none.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocolConfig,
    /// Answers the questions of another proxy, which forwards the requests itself: nothing is proxied here. Default: requests are served.
    pub decides: Option<DecidesConfig>,
    /// The limits for clients of the listener.
    #[serde(default)]
    pub limits: LimitsConfig,
}

const fn yes() -> bool {
    true
}

impl ListenerConfig {
    /// Builds the rules of the listener; file names are relative to `base`. Faults go to `faults`.
    pub fn settings(
        &self,
        (base, sets, clock): (&Path, &AddressSets, &Clock),
        place: &Place,
        faults: &mut Faults,
    ) -> Option<ListenerSettings> {
        let of_peers = self.decides.as_ref().and_then(|decides| decides.client_certificates.as_ref());
        let config = SettingsConfig {
            limits: &self.limits,
            tls: self.tls.as_ref(),
            client_certificates: self.client_certificates.as_ref().or(of_peers),
            http2: self.http2,
            proxy_protocol: self.proxy_protocol == ProxyProtocolConfig::Required,
        };
        let settings = ListenerSettings::build(config, base, place, faults);
        let trust = ListenerTrust::build(&self.trust(), clock, place, sets, faults)?;
        self.check_lock(place, faults);
        self.check_decides(place, faults);
        let settings = settings?.trusting(trust);
        let settings = ListenerSettings { only_trusted: self.only_trusted_proxies, ..settings };
        Some(if self.decides.is_some() { settings.deciding() } else { settings })
    }

    fn check_lock(&self, place: &Place, faults: &mut Faults) {
        if self.only_trusted_proxies && self.trusted_proxies.is_empty() && self.trust_path.is_empty() {
            let message = "no proxy is trusted, so every connection would be closed";
            faults.error(&place.key("only-trusted-proxies"), message, "list the proxies in front as `trusted-proxies`");
        }
    }

    /// Reports settings that have no meaning where questions are answered.
    fn check_decides(&self, place: &Place, faults: &mut Faults) {
        let Some(decides) = &self.decides else { return };
        if self.client_certificates.is_some() {
            let message = "the clients of this listener are the proxies that ask";
            faults.error(&place.key("client-certificates"), message, "write `client-certificates` within `decides`");
        }
        if decides.client_certificates.as_ref().is_some_and(|asked| asked.mode == ClientCertificateMode::Optional) {
            let place = place.key("decides").key("client-certificates").key("mode");
            let message = "a certificate that may be missing says nothing about who asks";
            faults.error(&place, message, "write `required`, or leave it out and list `peers`");
        }
        if self.proxy_protocol == ProxyProtocolConfig::Required {
            let message = "a proxy that asks does so on its own connections";
            faults.error(&place.key("proxy-protocol"), message, "leave it out");
        }
        if self.forwarded_header == ForwardedHeader::Forwarded {
            let message = "proxies that ask name the caller in `X-Forwarded-For` or in the question";
            faults.error(&place.key("forwarded-header"), message, "leave it out");
        }
        if self.only_trusted_proxies {
            let message = "`decides` says itself which proxies may ask";
            faults.error(&place.key("only-trusted-proxies"), message, "leave it out");
        }
        if decides.dialect.is_grpc() && !self.http2 {
            faults.error(&place.key("http2"), "gRPC is spoken over HTTP/2 alone", "leave it out");
        }
        let far = |address: &String| address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
        if decides.carry_tokens && self.tls.is_none() && self.address.as_slice().iter().any(far) {
            let message = "tokens of the gateway's own go over the network without TLS";
            let place = place.key("decides").key("carry-tokens");
            faults.warning(Lint::DecisionTokensPlain, &place, message, "give the listener `tls`, or let it listen on loopback");
        }
    }

    fn trust(&self) -> TrustConfig {
        TrustConfig {
            trusted_proxies: self.trusted_proxies.clone(),
            trust_path: self.trust_path.clone(),
            forwarded_header: self.forwarded_header,
            proxy_protocol: self.proxy_protocol,
        }
    }

    /// Returns the addresses to listen on. Faults go to `faults`.
    pub fn addresses(&self, place: &Place, faults: &mut Faults) -> Vec<SocketAddr> {
        let place = place.key("address");
        if self.address.as_slice().is_empty() {
            faults.error(&place, "the listener has no address", "write one as 0.0.0.0:8443");
        }
        let mut addresses = Vec::new();
        for (index, text) in self.address.as_slice().iter().enumerate() {
            let place = if matches!(self.address, OneOrMany::One(_)) { place.clone() } else { place.index(index) };
            match text.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => faults.error(&place, format!("`{text}` is not an address to listen on"), address_cure(text)),
            }
        }
        addresses
    }

    /// Returns the default limit of connections.
    pub(crate) fn default_connections() -> u32 {
        LimitsConfig::default().connections
    }
}

/// Describes how an address to listen on is written.
pub(crate) fn address_cure(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if port.parse::<u16>().is_err() {
        return "write address and port: 0.0.0.0:8443, 127.0.0.1:8080 or [::]:8443".to_owned();
    }
    match host {
        "" | "*" => {
            format!("write `0.0.0.0:{port}` for every address of this machine (`[::]:{port}` with IPv6), or `127.0.0.1:{port}`")
        }
        "localhost" => format!("write `127.0.0.1:{port}`"),
        _ => format!("write an address of this machine instead of the name, as `0.0.0.0:{port}` or `127.0.0.1:{port}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_at_its_place() {
        let config: ListenerConfig =
            crate::settings::testing::part("name: public\naddress: [\"127.0.0.1:0\", \"8443\", \"localhost:1\"]");
        let (mut faults, place) = (Faults::default(), Place::root().key("listeners").index(0));

        assert_eq!(config.addresses(&place, &mut faults).len(), 1);
        let places: Vec<_> = faults.iter().map(|fault| fault.place.to_string()).collect();
        assert_eq!(places, ["listeners[0].address[1]", "listeners[0].address[2]"]);
    }
}

//! From the settings to receivers.

use std::{path::Path, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret as _;
use url::Url;

use super::{
    Remote, Target,
    azure_monitor::{self, AzureMonitor},
    log_analytics::{self, LogAnalytics},
    otlp::{self, OtlpLogs},
    syslog::{SyslogServer, Transport},
    tls,
};
use crate::{
    audit::{
        config::{AuditConfig, AzureMonitorConfig, LogAnalyticsConfig, OtlpLogsConfig, SinkConfig, SyslogConfig},
        sink::{Only, SyslogFormat},
    },
    base::clock::Clock,
    credentials::Credentials,
    identity_http::{IdentityHttp, is_loopback},
    settings::{Faults, Lint, Place, Secret, Secrets},
};

/// The context that receivers are built with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteContext<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) http: &'a Arc<IdentityHttp>,
    pub(crate) secrets: &'a Secrets,
    pub(crate) clock: &'a Clock,
}

/// The sinks of a config that cross a network.
#[derive(Debug, Default)]
pub(in crate::audit) struct Remotes(pub(in crate::audit) Vec<Remote>);

/// Checks the sinks that cross a network. Those of credentials can be checked with a context alone.
pub(in crate::audit) fn check(config: &AuditConfig, base: &Path, context: Option<RemoteContext<'_>>, faults: &mut Faults) {
    drop(Remotes::build(config, base, context, faults));
}

impl Remotes {
    /// Builds the sinks; faults go to `faults`.
    pub(in crate::audit) fn build(
        config: &AuditConfig,
        base: &Path,
        context: Option<RemoteContext<'_>>,
        faults: &mut Faults,
    ) -> Self {
        let mut remotes = Vec::new();
        for (index, sink) in config.sinks.iter().enumerate() {
            let place = Place::root().key("audit").key("sinks").index(index).key(sink.key());
            let target = match sink {
                SinkConfig::Syslog(sink) => syslog(sink, base, &place, faults).map(Target::Syslog),
                SinkConfig::Otlp(sink) => collector(sink, context, &place, faults).map(|logs| Target::Otlp(Box::new(logs))),
                SinkConfig::AzureMonitor(sink) => azure(sink, context, &place, faults).map(Target::AzureMonitor),
                SinkConfig::LogAnalytics(sink) => {
                    workspace(sink, context, &place, faults).map(|target| Target::LogAnalytics(Box::new(target)))
                }
                SinkConfig::Stdout(_) | SinkConfig::File(_) => None,
            };
            if let Some(target) = target {
                remotes.push(Remote { name: sink.name(), only: Only::new(sink.only()), target: Arc::new(target) });
            }
        }
        Self(remotes)
    }
}

/// Reads an address without a user, a query or a fragment: `https`, or `http` where `plain` allows it.
fn address(text: &str, plain: impl Fn(&Url) -> bool, cure: &str, place: &Place, faults: &mut Faults) -> Option<Url> {
    let bare = |url: &Url| {
        url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && (url.scheme() == "https" || (url.scheme() == "http" && plain(url)))
    };
    let url = Url::parse(text).ok().filter(bare);
    if url.is_none() {
        faults.error(place, "the address cannot be used", cure);
    }
    url
}

fn reveal(
    secret: &Secret,
    context: Option<RemoteContext<'_>>,
    place: &Place,
    faults: &mut Faults,
) -> Option<secrecy::SecretString> {
    match secret.reveal(context?.secrets) {
        Ok(value) => Some(value),
        Err(unknown) => {
            faults.error(place, unknown.to_string(), unknown.cure());
            None
        }
    }
}

fn syslog(config: &SyslogConfig, base: &Path, place: &Place, faults: &mut Faults) -> Option<SyslogServer> {
    let format = SyslogFormat::new(config.facility);
    let cure = "write it as udp://host:514, tcp://host:601, tls://host:6514 or unix:/dev/log";
    let written = &config.address;
    if config.ca.is_some() && !written.starts_with("tls:") {
        let message = "authorities are trusted for TLS alone, and this server is reached without";
        faults.error(&place.key("ca"), message, "write the address as tls://…, or leave `ca` out");
    }
    if let Some(path) = written.strip_prefix("unix:") {
        if !path.starts_with('/') {
            faults.error(&place.key("address"), format!("`{written}` names no socket"), cure);
        }
        return None;
    }
    let parts = written.split_once("://").and_then(|(scheme, rest)| {
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = Some(host).filter(|host| !host.is_empty() && !host.contains(['/', '@', ' ', '[', ']']))?;
        Some((scheme, host, port.parse::<u16>().ok().filter(|port| *port > 0)?, rest))
    });
    let Some((scheme, host, _, address)) = parts else {
        faults.error(&place.key("address"), format!("`{written}` is not the address of a syslog server"), cure);
        return None;
    };
    let transport = match scheme {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "tls" => {
            let Ok(name) = ServerName::try_from(host.to_owned()) else {
                faults.error(&place.key("address"), format!("`{host}` is not a host"), cure);
                return None;
            };
            match tls::client(config.ca.as_ref().map(|ca| base.join(ca)).as_deref()) {
                Ok(tls) => Transport::Tls(tls, name),
                Err(message) => {
                    faults.error(&place.key("ca"), message, "name a PEM file with the authority of the server's certificate");
                    return None;
                }
            }
        }
        other => {
            faults.error(&place.key("address"), format!("`{other}` is no way to a syslog server"), cure);
            return None;
        }
    };
    Some(SyslogServer { address: address.to_owned(), transport, format })
}

fn collector(
    config: &OtlpLogsConfig,
    context: Option<RemoteContext<'_>>,
    place: &Place,
    faults: &mut Faults,
) -> Option<OtlpLogs> {
    let cure = "write the collector's base address, as http://127.0.0.1:4318";
    let url = address(&config.endpoint, |_| true, cure, &place.key("endpoint"), faults)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let place = place.key("headers").key(name);
        let value = reveal(value, context, &place, faults)?;
        match (HeaderName::try_from(name), HeaderValue::try_from(value.expose_secret())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => {
                faults.error(&place, "this is no header field", "write names and values as HTTP has them");
                return None;
            }
        }
    }
    let client = reqwest::Client::builder()
        .user_agent(concat!("entrada/", env!("CARGO_PKG_VERSION")))
        .timeout(otlp::TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .default_headers(headers)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            faults.error(place, format!("TLS cannot be set up: {error}"), "");
            return None;
        }
    };
    let mut url = url;
    url.path_segments_mut().ok()?.pop_if_empty().extend(["v1", "logs"]);
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let resource = vec![
        ("service.name".to_owned(), service.unwrap_or_else(|| "entrada".to_owned())),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    Some(OtlpLogs { url, client, clock: context?.clock.clone(), resource })
}

fn azure(
    config: &AzureMonitorConfig,
    context: Option<RemoteContext<'_>>,
    place: &Place,
    faults: &mut Faults,
) -> Option<AzureMonitor> {
    let errors = faults.errors();
    let cure = "write the logs ingestion endpoint, as https://name-x1y2.westeurope-1.ingest.monitor.azure.com";
    let endpoint = address(&config.endpoint, is_loopback, cure, &place.key("endpoint"), faults);
    let id = config.rule.strip_prefix("dcr-");
    if !id.is_some_and(|id| id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())) {
        let message = format!("`{}` is not the immutable id of a rule", config.rule);
        faults.error(
            &place.key("rule"),
            message,
            "write it as dcr- and 32 hexadecimal digits; the portal shows it in the rule's JSON view",
        );
    }
    let known = config.stream.strip_prefix("Custom-").or_else(|| config.stream.strip_prefix("Microsoft-"));
    let letters = |name: &str| !name.is_empty() && name.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
    if !known.is_some_and(letters) {
        let message = format!("`{}` is not a stream", config.stream);
        faults.error(&place.key("stream"), message, "write the name in the rule's streamDeclarations, as Custom-Entrada_CL");
    }
    let context = context?;
    let credential = context.credentials.find(&config.credential);
    if credential.is_none() && !context.credentials.is_broken(&config.credential) {
        let message = format!("no credential is named `{}`", config.credential);
        faults.error(&place.key("credential"), message, "define it in `credentials`");
    }
    let (credential, endpoint) = (credential?, endpoint?);
    let slot = credential.slot(azure_monitor::scope_of(&endpoint));
    if slot.is_none() {
        let message = format!("credential `{}` has no tenant of its own", config.credential);
        faults.error(&place.key("credential"), message, "name the rule's tenant at that credential");
    }
    if faults.errors() > errors {
        return None;
    }
    let url = azure_monitor::url(&endpoint, &config.rule, &config.stream)?;
    Some(AzureMonitor { url, slot: slot?, http: context.http.clone(), clock: context.clock.clone() })
}

fn workspace(
    config: &LogAnalyticsConfig,
    context: Option<RemoteContext<'_>>,
    place: &Place,
    faults: &mut Faults,
) -> Option<LogAnalytics> {
    let errors = faults.errors();
    let message = "Microsoft has retired the HTTP Data Collector API, with an end on 14 September 2026: records may never arrive";
    let cure = "write an `azure-monitor` sink, which uses its successor, the Logs Ingestion API";
    faults.warning(Lint::AuditSinkRetired, place, message, cure);
    if uuid::Uuid::try_parse(&config.workspace).is_err() {
        let message = format!("`{}` is not the id of a workspace", config.workspace);
        faults.error(&place.key("workspace"), message, "write the workspace's id, a GUID");
    }
    let letters = config.log_type.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
    if !letters || !(1..=100).contains(&config.log_type.len()) {
        let message = format!("`{}` cannot be the name of a table", config.log_type);
        faults.error(&place.key("log-type"), message, "write up to 100 letters, digits and `_`, as Entrada");
    }
    let default = format!("https://{}.ods.opinsights.azure.com", config.workspace);
    let written = config.endpoint.as_ref().unwrap_or(&default);
    let cure = "leave `endpoint` out, or write https://WORKSPACE.ods.opinsights.azure.us";
    let endpoint = address(written, is_loopback, cure, &place.key("endpoint"), faults);
    let text = reveal(&config.shared_key, context, &place.key("shared-key"), faults);
    let key = text.as_ref().and_then(|text| log_analytics::key(text.expose_secret()));
    if text.is_some() && key.is_none() {
        let message = "the key is not base64";
        faults.error(
            &place.key("shared-key"),
            message,
            "take the primary or secondary key of the workspace's agents, as it is shown",
        );
    }
    let context = context?;
    if faults.errors() > errors {
        return None;
    }
    Some(LogAnalytics {
        url: log_analytics::url(&endpoint?)?,
        workspace: config.workspace.clone(),
        log_type: HeaderValue::try_from(&config.log_type).ok()?,
        key: key?,
        http: context.http.clone(),
        clock: context.clock.clone(),
    })
}

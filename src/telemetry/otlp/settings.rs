//! The settings of OTLP, from the config and from the variables that OpenTelemetry names.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::{
    settings::{ConfigDuration, Faults, Lint, Place},
    upstream::Percent,
};

/// The collector's address, if nothing else is said: OpenTelemetry's defaults.
const HTTP_ENDPOINT: &str = "http://localhost:4318";
const GRPC_ENDPOINT: &str = "http://localhost:4317";
/// The shortest time between two exports of metrics.
const SHORTEST: Duration = Duration::from_secs(1);

/// The export of traces and metrics to an OpenTelemetry collector.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OtlpConfig {
    /// The collector's address, to which `v1/traces` and `v1/metrics` are added, or for gRPC nothing. Default:
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, or `http://localhost:4318`, for gRPC `http://localhost:4317`.
    pub endpoint: Option<String>,
    /// The protocol. Default: `OTEL_EXPORTER_OTLP_PROTOCOL`, or http/protobuf.
    pub protocol: Option<OtlpProtocol>,
    /// Header fields of each export that are no secrets. Default: those of `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: BTreeMap<String, String>,
    /// Exports spans. Default: none.
    pub traces: Option<TracesConfig>,
    /// Exports metrics. Default: none.
    pub metrics: Option<OtlpMetricsConfig>,
}

/// The protocol of an export.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protocol Buffers over HTTP, which collectors take on port 4318.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// gRPC over HTTP/2, which collectors take on port 4317.
    #[serde(rename = "grpc")]
    Grpc,
}

/// The traces that are exported.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TracesConfig {
    /// The share of the traces that begin at the gateway. A trusted proxy's own decision stands. Default: 100%.
    pub sample: Percent,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { sample: Percent(100) }
    }
}

/// The metrics that are exported.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OtlpMetricsConfig {
    /// The time between two exports. Default: `OTEL_METRIC_EXPORT_INTERVAL`, or 60s.
    pub every: Option<ConfigDuration>,
}

/// The settings of an exporter.
#[derive(Clone)]
pub struct OtlpSettings {
    pub(super) protocol: OtlpProtocol,
    pub(super) endpoint: Url,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    /// The share of traces, if they are exported.
    pub traces: Option<Percent>,
    /// The time between two exports of metrics, if they are exported.
    pub metrics: Option<Duration>,
    /// The attributes of the resource.
    pub(super) resource: Vec<(String, String)>,
}

/// Shows no header: these carry credentials.
impl std::fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtlpSettings").field("traces", &self.traces).field("metrics", &self.metrics).finish_non_exhaustive()
    }
}

/// Checks the settings with the variables of the environment; faults go to `faults`.
pub fn check(config: &OtlpConfig, place: &Place, faults: &mut Faults) {
    drop(OtlpSettings::build(config, &|name| std::env::var(name).ok(), place, faults));
}

impl OtlpSettings {
    /// Builds the settings; `None` if nothing is exported or something is wrong, which goes to `faults`.
    pub fn build(
        config: &OtlpConfig,
        variable: &dyn Fn(&str) -> Option<String>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Self> {
        let errors = faults.errors();
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if config.traces.is_none() && config.metrics.is_none() {
            faults.warning(
                Lint::OtlpExportsNothing,
                place,
                "neither traces nor metrics are exported",
                "add `traces: {}` or `metrics: {}`",
            );
        }
        let written = config.endpoint.clone().or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let protocol = config.protocol.or_else(|| OtlpProtocol::named(&variable("OTEL_EXPORTER_OTLP_PROTOCOL")?));
        let protocol = protocol.unwrap_or_default();
        let endpoint = endpoint(written.as_deref(), protocol, &place.key("endpoint"), faults);
        let headers = headers(config, variable("OTEL_EXPORTER_OTLP_HEADERS"), &place.key("headers"), faults);
        let milliseconds = |name: &str| variable(name).and_then(|value| value.parse().ok()).map(Duration::from_millis);
        let every = config.metrics.map(|metrics| match metrics.every {
            Some(every) => every.0,
            None => milliseconds("OTEL_METRIC_EXPORT_INTERVAL").unwrap_or(Duration::from_secs(60)),
        });
        if every.is_some_and(|every| every < SHORTEST) {
            let place = place.key("metrics").key("every");
            faults.error(&place, "the time between two exports is too short", "write one of at least 1s");
        }
        let mut resource =
            vec![("service.name".to_owned(), variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "entrada".to_owned()))];
        resource.push(("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        resource.extend(pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()));
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let settings = Self {
            protocol,
            endpoint: endpoint?,
            headers: headers?,
            timeout: milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT").unwrap_or(Duration::from_secs(10)),
            traces: config.traces.map(|traces| traces.sample),
            metrics: every,
            resource,
        };
        let exports = settings.traces.is_some() || settings.metrics.is_some();
        (faults.errors() == errors && exports && !disabled).then_some(settings)
    }
}

impl OtlpProtocol {
    /// Returns the protocol that a variable names. The specification wants unknown ones ignored.
    fn named(name: &str) -> Option<Self> {
        match name {
            "grpc" => Some(Self::Grpc),
            "http/protobuf" => Some(Self::HttpProtobuf),
            _ => None,
        }
    }

    /// Returns the address of a collector on this machine.
    const fn default_endpoint(self) -> &'static str {
        match self {
            Self::HttpProtobuf => HTTP_ENDPOINT,
            Self::Grpc => GRPC_ENDPOINT,
        }
    }

    /// Reports an address with a path if the protocol has none; returns whether it may stay.
    fn admits_path(self, url: &Url, place: &Place, faults: &mut Faults) -> bool {
        let admitted = self == Self::HttpProtobuf || matches!(url.path(), "" | "/");
        if !admitted {
            let message = "gRPC has paths of its own, and none before them";
            faults.error(place, message, "write scheme, host and port alone, as http://127.0.0.1:4317");
        }
        admitted
    }
}

fn endpoint(written: Option<&str>, protocol: OtlpProtocol, place: &Place, faults: &mut Faults) -> Option<Url> {
    let usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty();
    let url = Url::parse(written.unwrap_or(protocol.default_endpoint())).ok().filter(usable);
    if url.is_none() {
        let example = protocol.default_endpoint().replace("localhost", "127.0.0.1");
        faults.error(place, "the address cannot be used", format!("write the collector's base address, as {example}"));
    }
    let url = url.filter(|url| protocol.admits_path(url, place, faults));
    let mut url = url?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

fn headers(config: &OtlpConfig, variable: Option<String>, place: &Place, faults: &mut Faults) -> Option<HeaderMap> {
    let from_variable = pairs(&variable.filter(|_| config.headers.is_empty()).unwrap_or_default());
    let written = config.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    let mut headers = HeaderMap::new();
    for (name, value) in written.chain(from_variable) {
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => {
                faults.error(place, "this is no header field", "write names and values as HTTP has them");
                return None;
            }
        }
    }
    Some(headers)
}

/// Reads `a=1,b=2`, with escapes as in URLs.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decoded(key), decoded(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(yaml: &str, variables: &[(&str, &str)]) -> (Option<OtlpSettings>, Vec<String>) {
        let config: OtlpConfig = crate::settings::testing::part(yaml);
        let mut faults = Faults::default();
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let settings = OtlpSettings::build(&config, &variable, &Place::root(), &mut faults);
        (settings, faults.iter().map(|fault| fault.message.clone()).collect())
    }

    #[test]
    fn what_the_config_leaves_out_the_variables_say() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.contoso.example/base"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b,x=y"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ];

        let (settings, faults) = build("{ traces: { sample: 10% }, metrics: {} }", &variables);

        let settings = settings.unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(settings.endpoint.join("v1/traces").unwrap().as_str(), "https://otel.contoso.example/base/v1/traces");
        assert_eq!((settings.headers["api-key"].to_str().unwrap(), settings.headers.len()), ("a b", 2));
        assert_eq!((settings.traces, settings.metrics), (Some(Percent(10)), Some(Duration::from_secs(15))));
        assert!(settings.resource.contains(&("service.name".to_owned(), "edge".to_owned())));
        assert!(settings.resource.contains(&("deployment.environment".to_owned(), "test".to_owned())));
        assert!(!format!("{settings:?}").contains("a b"));

        let (settings, _) = build("{ endpoint: \"http://127.0.0.1:4318\", headers: { a: b }, traces: {} }", &variables);
        let settings = settings.unwrap();
        assert_eq!((settings.endpoint.as_str(), settings.headers.len()), ("http://127.0.0.1:4318/", 1));
        assert!(build("{ traces: {} }", &[("OTEL_SDK_DISABLED", "true")]).0.is_none());
    }

    #[test]
    fn the_protocol_is_what_the_config_says_or_the_variable_and_has_a_port_of_its_own() {
        for (yaml, variable, expected) in [
            ("{ traces: {} }", "", (OtlpProtocol::HttpProtobuf, "http://localhost:4318/")),
            ("{ traces: {} }", "grpc", (OtlpProtocol::Grpc, "http://localhost:4317/")),
            ("{ traces: {} }", "http/protobuf", (OtlpProtocol::HttpProtobuf, "http://localhost:4318/")),
            ("{ traces: {} }", "http/json", (OtlpProtocol::HttpProtobuf, "http://localhost:4318/")),
            ("{ traces: {}, protocol: grpc }", "", (OtlpProtocol::Grpc, "http://localhost:4317/")),
            ("{ traces: {}, protocol: http/protobuf }", "grpc", (OtlpProtocol::HttpProtobuf, "http://localhost:4318/")),
            ("{ traces: {}, endpoint: \"https://h.example\" }", "grpc", (OtlpProtocol::Grpc, "https://h.example/")),
        ] {
            let (settings, faults) = build(yaml, &[("OTEL_EXPORTER_OTLP_PROTOCOL", variable)]);

            let settings = settings.unwrap_or_else(|| panic!("{yaml} {variable}: {faults:?}"));
            assert_eq!((settings.protocol, settings.endpoint.as_str()), expected, "{yaml} {variable}");
        }
    }

    #[test]
    fn what_cannot_be_exported_is_a_fault() {
        for (yaml, expected) in [
            (
                "{ traces: {}, protocol: grpc, endpoint: \"http://h.example:4317/v1/traces\" }",
                "gRPC has paths of its own, and none before them",
            ),
            ("{}", "neither traces nor metrics are exported"),
            ("{ traces: {}, endpoint: \"localhost:4317\" }", "the address cannot be used"),
            ("{ traces: {}, endpoint: \"https://user@h.example\" }", "the address cannot be used"),
            ("{ traces: {}, headers: { \"a b\": c } }", "this is no header field"),
            ("{ metrics: { every: 10ms } }", "the time between two exports is too short"),
        ] {
            let (settings, faults) = build(yaml, &[]);
            assert!(settings.is_none() && faults == [expected], "{yaml}: {faults:?}");
        }
    }
}

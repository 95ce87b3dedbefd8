//! Instructions for the config of the proxy that asks, printed by `entrada check` to be pasted.

use std::{fmt::Write as _, net::SocketAddr};

use http::HeaderName;

use super::{DialectConfig, forwarded::FOREIGN, rules::DecisionRules};

/// The settings of the proxy that asks a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instructions {
    /// The listener's name.
    pub listener: String,
    /// The dialect's name.
    pub dialect: &'static str,
    /// The settings, each for one program: what it is called, and what to paste.
    pub settings: Vec<(&'static str, String)>,
}

/// Where the proxy asks.
#[derive(Clone, Debug)]
struct Server {
    host: String,
    port: u16,
    scheme: &'static str,
}

impl Instructions {
    /// Makes the instructions for the proxy of a listener with this name and this address, with TLS or without.
    pub(crate) fn of(listener: &str, address: SocketAddr, tls: bool, rules: &DecisionRules) -> Self {
        let server = Server {
            // Whatever the machine is called by those who ask.
            host: if address.ip().is_unspecified() { "entrada.internal".to_owned() } else { bracketed(address) },
            port: address.port(),
            scheme: if tls { "https" } else { "http" },
        };
        let settings = match rules.dialect {
            DialectConfig::EnvoyGrpc => {
                vec![("Envoy", envoy_grpc(&server, tls)), ("Envoy Gateway", envoy_gateway(&server)), ("Istio", istio(&server))]
            }
            DialectConfig::EnvoyHttp => vec![("Envoy", envoy_http(&server, rules.names()))],
            DialectConfig::Traefik => {
                vec![("Traefik", traefik(&server, rules.names())), ("HAProxy", haproxy(&server, rules.names()))]
            }
            DialectConfig::Caddy => vec![("Caddy", caddy(&server, rules.names()))],
            DialectConfig::Nginx => vec![("nginx", nginx(&server, rules.names()))],
        };
        Self { listener: listener.to_owned(), dialect: rules.dialect.as_str(), settings }
    }
}

fn bracketed(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

impl Server {
    fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }
}

fn list<'a>(names: impl IntoIterator<Item = &'a HeaderName>, separator: &str) -> String {
    names.into_iter().map(HeaderName::as_str).collect::<Vec<_>>().join(separator)
}

fn envoy_grpc(server: &Server, tls: bool) -> String {
    let secured = if tls { "  # with a transport_socket for TLS" } else { "" };
    format!(
        r#"http_filters:
  - name: envoy.filters.http.ext_authz          # before the router; nothing behind it may clear the route cache
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
      transport_api_version: V3
      grpc_service: {{ envoy_grpc: {{ cluster_name: entrada }}, timeout: 0.5s }}
      failure_mode_allow: false
      status_on_error: {{ code: ServiceUnavailable }}
      encode_raw_headers: true                  # duplicates stay visible
      include_peer_certificate: true
      include_tls_session: true
      validate_mutations: true
clusters:
  - name: entrada{secured}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: entrada
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: "{}", port_value: {} }} }} }} }} ] }} ]
# On the connection manager: use_remote_address, normalize_path and merge_slashes are true, path_with_escaped_slashes_action is REJECT_REQUEST.
"#,
        server.host, server.port
    )
}

fn envoy_gateway(server: &Server) -> String {
    format!(
        r"apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{ name: entrada, namespace: default }}
spec:
  targetRefs: [ {{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: NAME-OF-YOUR-ROUTE }} ]
  extAuth:
    timeout: 500ms
    failOpen: false
    statusOnError: 503
    grpc: {{ backendRefs: [ {{ name: entrada, port: {} }} ] }}
",
        server.port
    )
}

fn istio(server: &Server) -> String {
    format!(
        r#"extensionProviders:                       # in the mesh config
  - name: entrada
    envoyExtAuthzGrpc: {{ service: entrada.default.svc.cluster.local, port: {}, timeout: 0.5s, statusOnError: "503" }}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: entrada, namespace: default }}
spec:
  selector: {{ matchLabels: {{ app: NAME-OF-YOUR-APP }} }}
  action: CUSTOM
  provider: {{ name: entrada }}
  rules: [ {{}} ]                             # every request: what no rule matches is not asked about
"#,
        server.port
    )
}

fn envoy_http(server: &Server, names: &[HeaderName]) -> String {
    let patterns: String = names.iter().fold(String::new(), |mut text, name| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "            - {{ exact: {name} }}");
        text
    });
    format!(
        r#"http_filters:
  - name: envoy.filters.http.ext_authz          # before the router; nothing behind it may clear the route cache
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
      transport_api_version: V3
      failure_mode_allow: false
      status_on_error: {{ code: ServiceUnavailable }}
      validate_mutations: true
      allowed_headers: {{ patterns: [ {{ safe_regex: {{ regex: ".*" }} }} ] }}   # x-forwarded-for and -proto among them
      http_service:
        server_uri: {{ uri: "{url}", cluster: entrada, timeout: 0.5s }}
        path_prefix: /decide
        authorization_response:
          allowed_client_headers:
            patterns: [ {{ exact: content-type }}, {{ exact: cache-control }}, {{ exact: retry-after }}, {{ exact: x-request-id }} ]
          allowed_upstream_headers:
            patterns:
{patterns}clusters:
  - name: entrada
    load_assignment:
      cluster_name: entrada
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: "{host}", port_value: {port} }} }} }} }} ] }} ]
# On the connection manager: use_remote_address, normalize_path and merge_slashes are true, path_with_escaped_slashes_action is REJECT_REQUEST.
"#,
        url = server.url(),
        host = server.host,
        port = server.port,
    )
}

fn traefik(server: &Server, names: &[HeaderName]) -> String {
    let names: String = names.iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "          - {name}");
        text
    });
    format!(
        r#"http:
  middlewares:
    entrada:
      forwardAuth:
        address: "{}/decide"
        trustForwardHeader: false
        maxResponseBodySize: 65536
        authResponseHeaders:
{names}"#,
        server.url()
    )
}

fn haproxy(server: &Server, names: &[HeaderName]) -> String {
    let taken: String = names.iter().fold(String::new(), |mut text, name| {
        let variable = name.as_str().replace('-', "_");
        let _ = writeln!(text, "    http-request del-header {name}");
        let _ = writeln!(
            text,
            "    http-request set-header {name} %[var(txn.entrada.{variable})] if {{ var(txn.entrada.{variable}) -m found }}"
        );
        text
    });
    format!(
        r"global
    setenv ENTRADA_DECIDE {}/decide
    lua-load decide.lua                         # config/decisions/decide.lua
frontend public
    http-request lua.decide
    http-request deny deny_status 503 unless {{ var(txn.entrada_admitted) -m bool }}
{taken}",
        server.url()
    )
}

fn caddy(server: &Server, names: &[HeaderName]) -> String {
    let scheme = if server.scheme == "https" { "https://" } else { "" };
    format!("forward_auth {scheme}{}:{} {{\n\turi /decide\n\tcopy_headers {}\n}}\n", server.host, server.port, list(names, " "))
}

fn nginx(server: &Server, names: &[HeaderName]) -> String {
    let mut text = "location / {\n    auth_request /_entrada;\n".to_owned();
    for name in names {
        let variable = name.as_str().replace('-', "_");
        let _ = writeln!(text, "    auth_request_set $entrada_{variable} $upstream_http_{variable};");
        let _ = writeln!(text, "    proxy_set_header {name} $entrada_{variable};");
    }
    // A question does not have them, so that nobody would refuse them: they end here.
    for name in FOREIGN.iter().filter(|name| !names.contains(name)) {
        let _ = writeln!(text, "    proxy_set_header {name} \"\";");
    }
    let _ = write!(
        text,
        "    proxy_pass http://YOUR-BACKEND;             # without a path, so that the target goes on as it came\n}}\n\
         location = /_entrada {{\n    internal;\n    proxy_pass {}/decide;\n    proxy_http_version 1.1;\n    \
         proxy_pass_request_body off;\n    proxy_set_header Content-Length \"\";\n    \
         proxy_set_header X-Forwarded-Method $request_method;\n    proxy_set_header X-Forwarded-Uri $request_uri;\n    \
         proxy_set_header X-Forwarded-Host $http_host;\n    proxy_set_header X-Forwarded-Proto $scheme;\n    \
         proxy_set_header X-Forwarded-For $remote_addr;\n",
        server.url()
    );
    for name in &FOREIGN {
        let _ = writeln!(text, "    proxy_set_header {name} \"\";");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server { host: "127.0.0.1".to_owned(), port: 9_191, scheme: "http" }
    }

    fn names() -> [HeaderName; 2] {
        ["authorization", "x-user"].map(HeaderName::from_static)
    }

    #[test]
    fn each_proxy_is_told_every_name_and_the_address() {
        let names = names();
        for (text, lines) in [
            (
                traefik(&server(), &names),
                ["          - authorization", "          - x-user", "address: \"http://127.0.0.1:9191/decide\""],
            ),
            (caddy(&server(), &names), ["forward_auth 127.0.0.1:9191 {", "\turi /decide", "\tcopy_headers authorization x-user"]),
            (
                nginx(&server(), &names),
                [
                    "proxy_set_header x-user $entrada_x_user;",
                    "auth_request_set $entrada_authorization $upstream_http_authorization;",
                    "proxy_pass http://127.0.0.1:9191/decide;",
                ],
            ),
            // What is kept out of the question is kept from the backend, too.
            (
                nginx(&server(), &names).split("location = /_entrada").next().unwrap_or_default().to_owned(),
                ["    proxy_set_header x-auth-request-redirect \"\";", "    proxy_set_header x-sent-from \"\";", "location / {"],
            ),
            (envoy_http(&server(), &names), ["            - { exact: x-user }", "path_prefix: /decide", "port_value: 9191"]),
            (envoy_grpc(&server(), false), ["encode_raw_headers: true", "failure_mode_allow: false", "port_value: 9191"]),
            (
                haproxy(&server(), &names),
                ["http-request del-header x-user", "setenv ENTRADA_DECIDE http://127.0.0.1:9191/decide", "txn.entrada.x_user"],
            ),
        ] {
            for line in lines {
                assert!(text.contains(line), "{line}\n{text}");
            }
        }
    }
}

//! Header names that other front ends and gateways write, and that no caller may: the table, and lookups in it.
//!
//! A name is in the table if a backend, or something in between, could take it for the identity, the address or the target of a
//! call, although the front end that would have written it is absent. Your own names are reserved by writing them in the config.

use std::sync::LazyLock;

use super::{Stops, fold, fold_byte};

/// The meaning of a name, which decides its treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Fields about one connection or one message, which are never forwarded (RFC 9110, section 7.6.1), or which the gateway
    /// makes anew. A backend that folds names reads `Content_Length` as the length, so the folded spellings stop here, too.
    Connection,
    /// Fields that the gateway writes itself, and that a second spelling would contradict.
    Gateway,
    /// Fields that name the requested resource, method or scheme.
    Target,
    /// Fields that name the address of the caller.
    Address,
    /// Fields that name the caller. A config may trust them from some peers.
    Caller,
    /// The caller's certificate, and the result of its check. A config may trust them from some peers.
    Certificate,
}

impl Meaning {
    const fn stops(self) -> Stops {
        match self {
            Self::Connection => Stops::Connection,
            Self::Gateway | Self::Target | Self::Address => Stops::Reserved,
            Self::Caller | Self::Certificate => Stops::Platform,
        }
    }

    #[cfg(test)]
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Connection => "a single connection",
            Self::Gateway => "the gateway's own",
            Self::Target => "the target",
            Self::Address => "the address",
            Self::Caller => "the caller",
            Self::Certificate => "the caller's certificate",
        }
    }
}

/// The names, by meaning and by the software that writes them. A name that ends in `*` is a prefix.
#[rustfmt::skip]
pub(super) const KNOWN: &[(Meaning, &str, &[&str])] = &[
    (Meaning::Connection, "HTTP", &[
        "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Host", "Content-Length", "Expect",
        "HTTP2-Settings", "Proxy-*",
    ]),
    // What a CGI program would see as `HTTP_PROXY` and use as its own proxy.
    (Meaning::Connection, "nobody (`HTTP_PROXY` to a CGI program)", &["Proxy"]),
    (Meaning::Gateway, "entrada", &["X-Entrada-*", "X-Request-Id", "Traceparent", "Tracestate"]),

    (Meaning::Target, "proxies of all kinds", &["X-Forwarded", "X-Forwarded-*", "Forwarded", "Forwarded-*"]),
    (Meaning::Target, "controllers of nginx, Application Gateway, IIS", &["X-Original-*", "X-Rewrite-URL", "X-Scheme"]),
    (Meaning::Target, "frameworks, for another method", &["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]),
    (Meaning::Target, "servers of Python and Ruby", &["Script-Name", "X-Script-Name", "Path-Info", "X-URL-Scheme", "X-Host", "X-HTTP-Host-Override"]),
    (Meaning::Target, "Exchange, SharePoint, App Service", &["Front-End-Https", "X-ARR-SSL", "X-WAWS-Unencoded-URL", "Disguised-Host", "WAS-Default-Hostname"]),
    (Meaning::Target, "Cloudflare, Fastly, Fly, CloudFront", &["CF-Visitor", "Fastly-SSL", "Fly-Forwarded-*", "CloudFront-Forwarded-*"]),
    (Meaning::Target, "Linkerd", &["l5d-dst-*"]),

    (Meaning::Address, "proxies of all kinds", &[
        "X-Real-IP", "X-Client-IP", "Client-IP", "X-Cluster-Client-IP", "X-ProxyUser-IP", "X-Originating-IP", "X-True-IP", "X-Forward-For",
        "Z-Forwarded-For",
    ]),
    (Meaning::Address, "Akamai, Cloudflare", &["True-Client-IP", "CF-Connecting-IP*", "CF-Pseudo-IPv4", "CF-IPCountry"]),
    (Meaning::Address, "Azure Front Door", &["X-Azure-ClientIP", "X-Azure-SocketIP"]),
    (Meaning::Address, "Application Gateway", &["X-Appgw-*"]),
    (Meaning::Address, "Fastly, CloudFront, Fly", &["Fastly-Client*", "CloudFront-Viewer-*", "Fly-Client-IP"]),
    (Meaning::Address, "other hosts and networks", &[
        "X-Vercel-Forwarded-For", "X-Vercel-Proxied-For", "X-NF-Client-Connection-IP", "DO-Connecting-IP", "Incap-Client-IP",
        "X-Sucuri-ClientIP", "Ali-CDN-Real-IP",
    ]),

    (Meaning::Caller, "oauth2-proxy, Traefik's forward authentication", &[
        "X-Forwarded-User*", "X-Forwarded-Email*", "X-Forwarded-Groups*", "X-Forwarded-Roles*", "X-Forwarded-Preferred-Username",
        "X-Forwarded-Access-Token", "X-Forwarded-Id-Token",
    ]),
    (Meaning::Caller, "App Service, Container Apps, Functions (Easy Auth)", &["X-MS-Client-Principal*", "X-MS-Token-*", "X-EasyAuth-*"]),
    (Meaning::Caller, "Application Gateway", &["X-MSFT-Entra-*"]),
    (Meaning::Caller, "Envoy, Istio", &["X-Envoy-*"]),
    (Meaning::Caller, "Linkerd, Dapr", &["l5d-client-*", "Dapr-Caller-*"]),
    (Meaning::Caller, "oauth2-proxy, gogatekeeper, nginx's auth_request", &[
        "X-Auth-Request-*", "X-Auth-User", "X-Auth-Username", "X-Auth-Userid", "X-Auth-Subject", "X-Auth-Email", "X-Auth-Groups", "X-Auth-Roles",
    ]),
    (Meaning::Caller, "Cloudflare Access", &["CF-Access-JWT-Assertion", "CF-Access-Authenticated-*"]),
    (Meaning::Caller, "Google's Identity-Aware Proxy, App Engine, API Gateway, Endpoints", &[
        "X-Goog-Authenticated-User-*", "X-Goog-IAP-*", "X-AppEngine-*", "X-Apigateway-Api-*", "X-Endpoint-API-*",
    ]),
    (Meaning::Caller, "AWS: load balancers, Verified Access, Lambda Web Adapter", &[
        "X-Amzn-OIDC-*", "X-Amzn-Ava-*", "X-Amzn-Request-Context", "X-Amzn-Lambda-Context",
    ]),
    (Meaning::Caller, "Authelia, web servers that forward `REMOTE_USER`", &["Remote-*", "X-Remote-*"]),
    (Meaning::Caller, "Grafana, Gitea and the proxies in front of them", &["X-WEBAUTH-*"]),
    (Meaning::Caller, "Kong, APISIX", &["X-Authenticated-*", "X-Consumer-*", "X-Credential-*", "X-Anonymous-Consumer", "X-Userinfo"]),
    (Meaning::Caller, "authentik, Pomerium, Vouch, Teleport, Tailscale", &[
        "X-authentik-*", "X-Pomerium-*", "X-Vouch-*", "Teleport-*", "X-Teleport-*", "Tailscale-*",
    ]),
    (Meaning::Caller, "Caddy's security plugin", &["X-Token-User-*", "X-Token-Subject"]),
    (Meaning::Caller, "Apache: mod_auth_openidc, mod_auth_mellon, mod_auth_cas, Shibboleth", &["OIDC-*", "Mellon-*", "CAS-*", "Shib-*"]),
    (Meaning::Caller, "SiteMinder, WebSEAL, Oracle Access Manager", &["SM-*", "iv-*", "OAM-*"]),
    (Meaning::Caller, "WebSphere's plug-in (`$WSRU` …), WebLogic's", &["$WS*", "WL-Proxy-*"]),
    (Meaning::Caller, "WSO2, Snowflake", &["X-JWT-Assertion", "Sf-Context-*"]),
    (Meaning::Caller, "Kubernetes, OpenSearch, Elasticsearch, CouchDB, NiFi", &[
        "Impersonate-*", "X-Proxy-User", "X-Proxy-Roles", "es-security-runas-user", "X-Auth-CouchDB-*", "X-ProxiedEntitiesChain",
    ]),

    // RFC 9440: `Client-Cert`, `Client-Cert-Chain`.
    (Meaning::Certificate, "RFC 9440", &["Client-Cert*"]),
    (Meaning::Certificate, "App Service, Application Gateway, HAProxy", &["X-ARR-ClientCert*", "X-Client-Cert*"]),
    (Meaning::Certificate, "Envoy, Istio, Traefik", &["X-Forwarded-Client-Cert*", "X-Forwarded-TLS-Client-Cert*"]),
    // Controllers of nginx (`ssl-client-cert`, `ssl-client-verify`, `ssl-client-subject-dn`); Apache's variables as fields.
    (Meaning::Certificate, "controllers of nginx, Apache", &["SSL-Client-*", "X-SSL-Client-*", "X-SSL-Cert*", "X-Client-DN", "X-Client-Verify"]),
    (Meaning::Certificate, "load balancers of AWS, Cloudflare", &["X-Amzn-MTLS-*", "CF-Client-Cert-*"]),
];

/// Returns the names that are not prefixes, folded.
pub(super) fn whole() -> impl Iterator<Item = (Box<str>, Stops)> {
    each().filter(|(_, name)| !name.ends_with('*')).map(|(says, name)| (fold(name), says.stops()))
}

fn each() -> impl Iterator<Item = (Meaning, &'static str)> {
    KNOWN.iter().flat_map(|(says, _, names)| names.iter().map(|name| (*says, *name)))
}

/// The reserved prefixes of names, folded and sorted.
#[derive(Debug)]
pub(super) struct Prefixes {
    sorted: Box<[Prefix]>,
    /// The position in the list of the first prefix with this first letter, and at last the end of the list.
    by_first: [u8; 129],
}

#[derive(Debug)]
struct Prefix {
    folded: Box<str>,
    stops: Stops,
    /// The index of the shorter prefix that this one begins with.
    within: Option<u8>,
}

impl Default for Prefixes {
    fn default() -> Self {
        let mut sorted: Vec<_> = each()
            .filter_map(|(says, name)| Some(Prefix { folded: fold(name.strip_suffix('*')?), stops: says.stops(), within: None }))
            .collect();
        sorted.sort_by(|one, other| one.folded.cmp(&other.folded));
        for at in 0..sorted.len() {
            let shorter = sorted[..at].iter().rposition(|shorter| sorted[at].folded.starts_with(&*shorter.folded));
            sorted[at].within = shorter.and_then(|shorter| u8::try_from(shorter).ok());
        }
        let from = |first: usize| sorted.partition_point(|beginning| usize::from(beginning.folded.as_bytes()[0]) < first);
        let by_first = std::array::from_fn(|first| u8::try_from(from(first)).expect("the table is short"));
        Self { sorted: sorted.into(), by_first }
    }
}

impl Prefixes {
    /// Returns the prefixes of the table, built once.
    pub(super) fn known() -> &'static Self {
        static KNOWN_BEGINNINGS: LazyLock<Prefixes> = LazyLock::new(Prefixes::default);
        &KNOWN_BEGINNINGS
    }

    /// Returns the prefixes, folded.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.sorted.iter().map(|prefix| &*prefix.folded)
    }

    /// Returns the reason why a name is not forwarded, if it begins with one of these; the longest prefix counts.
    pub(super) fn find(&self, name: &[u8]) -> Option<Stops> {
        let first = usize::from(fold_byte(*name.first()?));
        let [from, to] = [first, first + 1].map(|at| usize::from(self.by_first[at]));
        if from == to {
            return None;
        }
        let before = |beginning: &Prefix| beginning.folded.bytes().le(name.iter().map(|byte| fold_byte(*byte)));
        let mut at = (from + self.sorted[from..to].partition_point(before)).checked_sub(1).filter(|at| *at >= from)?;
        // What begins the name stands before it in the order, and between the two are only such as begin likewise.
        loop {
            let beginning = &self.sorted[at];
            if super::starts_folded(name, &beginning.folded) {
                return Some(beginning.stops);
            }
            at = usize::from(beginning.within?);
        }
    }
}

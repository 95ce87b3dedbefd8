//! Protected resource metadata (RFC 9728): the issuers of tokens for a route, and their scopes.
//!
//! ```yaml
//! protected-resource-metadata: {}      # everything is derived
//! ```
//!
//! The document is served at `/.well-known/oauth-protected-resource` and the resource's path, on the hosts of the route, to
//! anyone; and every challenge of the route names it (`resource_metadata`, section 5.1). Without `resource` it describes the
//! requested host and the route's path, so that it is right under each of several names.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{MatchConfig, RouteConfig, build::RouteSources};
use crate::{
    base::{
        fields::{Fields, Known},
        response::Response,
    },
    entra::Tenants,
    exchange::Exchange,
    identity_http::is_loopback,
    inbound::{
        PolicyConfig, list,
        validate_azure_ad_token::{TokenTypeConfig, ValidateAzureAdTokenConfig},
        validate_jwt::ValidateJwtConfig,
    },
    request::IncomingRequest,
    settings::{Faults, Lint, OneOrMany, Place},
};

/// RFC 9728, section 3.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Whether clients are told where to get their tokens, and the details of that.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum ProtectedResourceMetadataConfig {
    /// `true`: everything is derived.
    Switch(bool),
    /// The values that are not derived.
    Settings(ResourceMetadataConfig),
}

/// The settings of protected resource metadata (RFC 9728).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ResourceMetadataConfig {
    /// The resource's identifier, an https URL, whose path determines the document's location. Default: the requested host with
    /// the route's path.
    pub resource: Option<String>,
    /// The issuers that clients get tokens from. Default: those of the route's token policies.
    pub authorization_servers: Vec<String>,
    /// The scopes that clients request. Default: those of the route's token policies, in Entra's form: the audience, a slash, the
    /// scope.
    pub scopes_supported: Option<Vec<String>>,
    /// The resource's name, for people.
    pub resource_name: Option<String>,
    /// The address of its documentation.
    pub resource_documentation: Option<String>,
}

/// The metadata of a resource, ready to be served and referred to.
#[derive(Debug)]
pub struct ResourceMetadata {
    /// The resource, if the config names it.
    resource: Option<Box<str>>,
    /// Scheme, host and port of that resource.
    origin: Option<Box<str>>,
    /// The resource's path.
    path: Box<str>,
    /// The scopes for clients to request.
    scopes: Box<[String]>,
    /// The members other than the resource.
    members: serde_json::Map<String, Value>,
}

/// One document, its routes, and the pattern of its requests.
#[derive(Debug)]
pub(crate) struct Described {
    /// Their indexes. The first one's settings count where they differ, and lists are joined.
    pub(crate) routes: Vec<usize>,
    pub(crate) matches: MatchConfig,
    path: Box<str>,
}

impl RouteConfig {
    fn described(&self) -> Option<ResourceMetadataConfig> {
        match self.protected_resource_metadata.as_ref()? {
            ProtectedResourceMetadataConfig::Switch(on) => on.then(ResourceMetadataConfig::default),
            ProtectedResourceMetadataConfig::Settings(settings) => Some(settings.clone()),
        }
    }
}

/// Returns the documents that the routes request: one for each host and path, however many routes share them.
pub(crate) fn described(routes: &[RouteConfig], place: &Place, faults: &mut Faults) -> Vec<Described> {
    let mut all: Vec<Described> = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let Some(settings) = route.described() else { continue };
        let place = place.index(index).key("protected-resource-metadata");
        let Some(path) = path(route, &settings, &place, faults) else { continue };
        let hosts = &route.matches.hosts;
        if let Some(other) = all.iter_mut().find(|other| other.path == path && other.matches.hosts == *hosts) {
            other.routes.push(index);
            continue;
        }
        let matches = MatchConfig {
            hosts: hosts.clone(),
            path: None,
            exact_path: Some(format!("{WELL_KNOWN}{path}")),
            methods: vec!["GET".to_owned()],
        };
        all.push(Described { routes: vec![index], matches, path });
    }
    all
}

/// Returns the resource's path after the well-known one: without a trailing slash (RFC 9728, section 3.1).
fn path(route: &RouteConfig, settings: &ResourceMetadataConfig, place: &Place, faults: &mut Faults) -> Option<Box<str>> {
    if let Some(resource) = &settings.resource {
        let url = read_url(resource, &place.key("resource"), faults)?;
        return Some(url.path().trim_end_matches('/').into());
    }
    let path = route.matches.path.as_deref().or(route.matches.exact_path.as_deref()).unwrap_or_default();
    if path.contains('{') {
        let message = format!("`{path}` stands for many resources, and it is not said which one is described");
        faults.error(place, message, "write the `resource`, as https://api.contoso.example/people");
        return None;
    }
    Some(path.trim_end_matches('/').into())
}

/// Reads a URL: https without a fragment (RFC 9728, section 1.2). http is only for this machine.
fn read_url(text: &str, place: &Place, faults: &mut Faults) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| {
        let safe = url.scheme() == "https" || url.scheme() == "http" && is_loopback(url);
        safe && url.has_host() && url.username().is_empty() && url.query().is_none() && url.fragment().is_none()
    });
    if url.is_none() {
        let cure = "write an https URL without a query, as https://api.contoso.example/orders";
        faults.error(place, format!("`{text}` is not a valid resource"), cure);
    }
    url
}

impl ResourceMetadata {
    /// Builds a document from the settings and the token policies of its routes.
    pub(crate) fn build(
        described: &Described,
        config: &RouteSources<'_>,
        tenants: &Tenants,
        faults: &mut Faults,
    ) -> Option<Arc<Self>> {
        let before = faults.errors();
        let mut resource = None;
        let (mut servers, mut scopes, mut methods) = (Vec::new(), Vec::new(), Vec::new());
        let mut texts = BTreeMap::new();
        for index in &described.routes {
            let route = &config.routes[*index];
            let place = Place::root().key("routes").index(*index).key("protected-resource-metadata");
            let settings = route.described().unwrap_or_default();
            let mut derived = Derived::default();
            for policies in [config.inbound, &route.inbound] {
                list::each(policies, config.fragments, 0, &mut |policy| derived.take(policy, tenants));
            }
            if !derived.has_policy {
                faults.error(&place, "no policy of the route asks for a token", "add a token policy, or leave the metadata out");
            }
            for (index, server) in settings.authorization_servers.iter().enumerate() {
                read_url(server, &place.key("authorization-servers").index(index), faults);
            }
            if let Some(page) = &settings.resource_documentation {
                read_url(page, &place.key("resource-documentation"), faults);
            }
            let host = |server: &String| Url::parse(server).ok().and_then(|url| Some(url.host_str()?.to_owned()));
            let own = &settings.authorization_servers;
            let of_entra = own.is_empty() || own.iter().any(|own| derived.servers.iter().any(|server| host(server) == host(own)));
            if !derived.entra_scopes.is_empty() && of_entra {
                let asked = settings.scopes_supported.as_ref().unwrap_or(&derived.entra_scopes);
                judge_resource(described, settings.resource.as_deref(), asked, &place, faults);
            }
            let own = settings.authorization_servers;
            join(&mut servers, if own.is_empty() { derived.servers } else { own });
            join(&mut scopes, settings.scopes_supported.unwrap_or(derived.scopes));
            join(&mut methods, derived.methods);
            resource = resource.or(settings.resource);
            let named = [("resource_name", settings.resource_name), ("resource_documentation", settings.resource_documentation)];
            for (name, text) in named.into_iter().filter_map(|(name, text)| Some((name, text?))) {
                texts.entry(name).or_insert(text);
            }
        }
        let mut members = serde_json::Map::new();
        let mut add = |name: &str, value: Value| _ = members.insert(name.to_owned(), value);
        // RFC 9728, section 2: a member without a value is left out, but no bearer method at all is said as an empty list.
        if !servers.is_empty() {
            add("authorization_servers", json!(servers));
        }
        if !scopes.is_empty() {
            add("scopes_supported", json!(scopes));
        }
        add("bearer_methods_supported", json!(methods));
        for (name, text) in texts {
            add(name, text.into());
        }
        let url = resource.as_deref().and_then(|resource| Url::parse(resource).ok());
        (faults.errors() == before).then(|| {
            Arc::new(Self {
                origin: url.map(|url| url.origin().ascii_serialization().into()),
                resource: resource.map(Into::into),
                path: described.path.clone(),
                scopes: scopes.into(),
                members,
            })
        })
    }

    /// Makes the response to a request for the document. It is public, so that pages of any origin may read it.
    pub(crate) fn response(&self, exchange: &Exchange, incoming: &IncomingRequest) -> Response<Bytes> {
        let resource = match &self.resource {
            Some(resource) => resource.to_string(),
            None => format!("{}{}", origin(exchange, incoming), self.path),
        };
        let mut document = serde_json::Map::from_iter([("resource".to_owned(), Value::from(resource))]);
        document.extend(self.members.clone());
        let mut response = Response::new(Bytes::from(Value::Object(document).to_string()));
        let headers = response.headers_mut();
        headers.insert(Known::ContentType, &HeaderValue::from_static("application/json"));
        // It may speak of the host that was asked, which no cache between need know of.
        headers.insert(Known::CacheControl, &HeaderValue::from_static("no-store"));
        headers.insert(&header::ACCESS_CONTROL_ALLOW_ORIGIN, &HeaderValue::from_static("*"));
        response
    }

    /// Refers to the document in the challenge of a refusal, if there is one.
    pub(crate) fn name_in(&self, headers: &mut Fields, status: StatusCode, exchange: &Exchange, incoming: &IncomingRequest) {
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return;
        }
        let Some(challenge) = headers.get(Known::WwwAuthenticate).and_then(|value| value.to_str().ok()) else { return };
        let origin = self.origin.as_deref().map_or_else(|| origin(exchange, incoming), str::to_owned);
        if origin.is_empty() {
            // A host that is none of a URL, or none at all: a document without one cannot be asked for.
            return;
        }
        let challenge = self.with_scope(challenge, status);
        // RFC 9110, section 11.6.1: a blank stands before the first parameter, a comma before the others.
        let separator = if challenge.contains(' ') { "," } else { "" };
        let named = format!("{challenge}{separator} resource_metadata=\"{origin}{WELL_KNOWN}{}\"", self.path);
        if let Ok(named) = HeaderValue::try_from(named) {
            headers.insert(Known::WwwAuthenticate, &named);
        }
    }

    /// Returns the challenge with the scopes of the document: a 401 names all of them, a 403 the missing ones by the same names.
    fn with_scope<'a>(&self, challenge: &'a str, status: StatusCode) -> Cow<'a, str> {
        let named = challenge.split_once(" scope=\"").and_then(|(before, rest)| Some((before, rest.split_once('"')?)));
        match named {
            Some((before, (scopes, after))) => {
                let last = |scope: &str| scope.rsplit('/').next().unwrap_or_default().to_owned();
                let documented = |scope: &str| self.scopes.iter().find(|own| last(own) == last(scope)).cloned();
                let scopes: Vec<_> =
                    scopes.split(' ').map(|scope| documented(scope).unwrap_or_else(|| scope.to_owned())).collect();
                format!("{before} scope=\"{}\"{after}", scopes.join(" ")).into()
            }
            None if status == StatusCode::UNAUTHORIZED
                && !self.scopes.is_empty()
                && self.scopes.iter().all(|scope| is_scope(scope)) =>
            {
                let separator = if challenge.contains(' ') { "," } else { "" };
                format!("{challenge}{separator} scope=\"{}\"", self.scopes.join(" ")).into()
            }
            None => challenge.into(),
        }
    }
}

/// Returns whether the text is a scope: RFC 6749, section 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Warns of a resource that Entra rejects in combination with the scopes. Clients that follow the document send it as `resource`
/// (RFC 8707), and Entra compares it with the application ID URI of the scope.
fn judge_resource(described: &Described, resource: Option<&str>, scopes: &[String], place: &Place, faults: &mut Faults) {
    let fits = |api: &str| match resource {
        Some(resource) => resource.trim_end_matches('/') == api.trim_end_matches('/'),
        None => Url::parse(api).is_ok_and(|url| {
            let hosts = &described.matches.hosts;
            let host = url.host_str().unwrap_or_default();
            let is_own = |own: &String| own == host || own.strip_prefix("*.").is_some_and(|domain| host.ends_with(domain));
            url.scheme() == "https"
                && url.path().trim_end_matches('/') == &*described.path
                && (hosts.is_empty() || hosts.iter().any(is_own))
        }),
    };
    let api = scopes.iter().filter_map(|scope| scope.rsplit_once('/')).map(|(api, _)| api).find(|api| !fits(api));
    if let Some(api) = api {
        let what = resource.map_or_else(|| "the route's URL".to_owned(), |resource| format!("`{resource}`"));
        let message = format!(
            "clients that follow the metadata send {what} as `resource` (RFC 8707), and Entra refuses it beside scopes of `{api}` (AADSTS9010010)"
        );
        let cure = "make the URL an application ID URI of the API (in a verified domain), list it first in `audiences`, and name it as `resource`; clients that send no `resource` are served as it is";
        faults.warning(Lint::MetadataResourceMismatch, place, message, cure);
    }
}

/// Returns scheme, host and port as the caller used them, or as a trusted proxy states.
fn origin(exchange: &Exchange, incoming: &IncomingRequest) -> String {
    let caller = exchange.caller.as_ref();
    let scheme = caller.and_then(|caller| caller.scheme).unwrap_or(incoming.scheme).as_str();
    let told = caller.and_then(|caller| caller.host.as_ref()?.to_str().ok());
    let of = |host: &str| Url::parse(&format!("{scheme}://{host}")).ok().filter(|url| url.has_host() && url.path() == "/");
    let url = told.and_then(of).or_else(|| of(&incoming.authority.to_string()));
    url.map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}

/// The token settings of a route's policies.
#[derive(Debug, Default)]
struct Derived {
    has_policy: bool,
    servers: Vec<String>,
    scopes: Vec<String>,
    /// The scopes among them that are requested from Entra.
    entra_scopes: Vec<String>,
    methods: Vec<String>,
}

impl Derived {
    fn take(&mut self, policy: &PolicyConfig, tenants: &Tenants) {
        match policy {
            PolicyConfig::ValidateAzureAdToken(policy) => self.take_entra(policy, tenants),
            PolicyConfig::ValidateJwt(policy) => self.take_other(policy, tenants),
            _ => {}
        }
    }

    fn take_entra(&mut self, policy: &ValidateAzureAdTokenConfig, tenants: &Tenants) {
        self.has_policy = true;
        if policy.token_type == TokenTypeConfig::Id {
            // ID tokens are handed on by a front end; no client asks for one to call an API.
            return;
        }
        join(&mut self.servers, tenants.get(&policy.tenant).map(|tenant| tenant.below("v2.0").to_string()));
        let scopes = policy.requested_scopes();
        join(&mut self.entra_scopes, scopes.iter().cloned());
        join(&mut self.scopes, scopes);
        self.take_places(policy.header_name.as_ref(), policy.query_parameter_name.as_ref());
    }

    fn take_other(&mut self, policy: &ValidateJwtConfig, tenants: &Tenants) {
        self.has_policy = true;
        join(&mut self.servers, tenants.issuer(&policy.issuer));
        join(&mut self.scopes, policy.scopes.iter().cloned());
        self.take_places(policy.header_name.as_ref(), policy.query_parameter_name.as_ref());
    }

    /// Adds token places. RFC 6750, section 2: the method "header" means only `Authorization`.
    fn take_places(&mut self, headers: Option<&OneOrMany<String>>, parameter: Option<&String>) {
        let in_header =
            headers.is_none_or(|names| names.as_slice().iter().any(|name| name.eq_ignore_ascii_case("authorization")));
        join(&mut self.methods, in_header.then(|| "header".to_owned()));
        join(&mut self.methods, parameter.map(|_| "query".to_owned()));
    }
}

/// Adds the values that are missing.
fn join(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

//! Allows pages of other origins to call, by the rules of browsers.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/cors.yaml")]
//! ```
//!
//! A preflight (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) takes the route of the method that it asks for and
//! is answered here with 200, with or without a permission; policies before this one run as written, so put it before those that
//! require a token. Any other request continues, and its response, refusals included, carries the permission if its origin is
//! allowed. The upstream's own permissions are dropped.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::Deserialize;

use super::build_context::BuildContext;
use super::settings::PolicySettings;
use crate::{
    base::fields::{Fields, Known, Name},
    base::response::Response,
    exchange::Exchange,
    refusal::Stop,
    request::IncomingRequest,
    settings::{ConfigDuration, Faults, Place},
    upstream::UpstreamRequest,
};

/// Settings of `cors`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CorsConfig {
    /// The allowed origins, such as `https://app.contoso.example`; or `*` alone.
    pub allowed_origins: Vec<String>,
    /// The allowed methods; or `*` alone. Default: GET and POST.
    #[serde(default)]
    pub allowed_methods: Vec<String>,
    /// The allowed header fields; or `*` alone.
    #[serde(default)]
    pub allowed_headers: Vec<String>,
    /// The response's header fields that pages may read.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// Whether pages may send cookies and certificates. Not with `*`. Default: false.
    #[serde(default)]
    pub allow_credentials: bool,
    /// The time for which a browser may cache the response to a preflight. Default: not at all.
    pub preflight_result_max_age: Option<ConfigDuration>,
}

/// Allows pages of other origins to call.
#[derive(Debug)]
pub struct Cors {
    origins: Allowed<Box<[u8]>>,
    methods: Allowed<Method>,
    headers: Allowed<HeaderName>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

#[derive(Debug)]
enum Allowed<T> {
    All,
    These(Vec<T>),
}

impl<T> Allowed<T> {
    fn has(&self, is_it: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::These(list) => list.iter().any(is_it),
        }
    }
}

/// Returns the method that a preflight asks for; `None` for any other request.
pub(crate) fn preflight(incoming: &IncomingRequest) -> Option<Method> {
    if incoming.method != Method::OPTIONS || !incoming.headers.contains_key(Known::Origin) {
        return None;
    }
    let asked = incoming.headers.get(Known::AccessControlRequestMethod)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

/// Returns whether a response field is a permission for other origins.
pub(crate) fn is_permission(name: Name<'_>) -> bool {
    name.as_bytes().starts_with(b"access-control-")
}

impl PolicySettings for CorsConfig {}

impl Cors {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        self.check(exchange, incoming)
    }

    pub(crate) fn build(config: &CorsConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let faults = &mut *context.faults;
        let origins = allowed(
            &config.allowed_origins,
            &place.key("allowed-origins"),
            faults,
            "an origin, as https://app.contoso.example",
            origin,
        );
        let methods = match config.allowed_methods.as_slice() {
            [] => Some(Allowed::These(vec![Method::GET, Method::POST])),
            methods => allowed(methods, &place.key("allowed-methods"), faults, "a method in capitals, as GET", method),
        };
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).ok();
        let headers = allowed(&config.allowed_headers, &place.key("allowed-headers"), faults, "a header's name", name);
        let expose = allowed(&config.expose_headers, &place.key("expose-headers"), faults, "a header's name", name);
        if config.allowed_origins.is_empty() {
            faults.error(&place.key("allowed-origins"), "no origin is listed", "list the origins whose pages may call");
        }
        if config.allow_credentials && config.allowed_origins.iter().any(|origin| origin == "*") {
            let message = "every page there is could act as whoever looks at it";
            faults.error(
                &place.key("allow-credentials"),
                message,
                "list the origins that are trusted with the users' credentials",
            );
        }
        if faults.errors() > before {
            return None;
        }
        let expose = match expose? {
            Allowed::All => Some(HeaderValue::from_static("*")),
            Allowed::These(names) if names.is_empty() => None,
            Allowed::These(names) => Some(list(names.iter().map(HeaderName::as_str))),
        };
        let max_age = config.preflight_result_max_age.map(|ConfigDuration(age)| Duration::as_secs(&age).into());
        Some(Self {
            origins: origins?,
            methods: methods?,
            headers: headers?,
            expose,
            credentials: config.allow_credentials,
            max_age,
        })
    }

    pub(crate) fn check(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Stop> {
        exchange.cors = true;
        let Some(method) = preflight(incoming) else {
            self.permit(incoming, &mut exchange.response_headers);
            return Ok(());
        };
        let mut response = Response::new(Bytes::new());
        self.answer(&method, incoming, &mut exchange.response_headers);
        response.headers_mut().insert(Known::CacheControl, &HeaderValue::from_static("no-store"));
        Err(Stop::Respond(Box::new(response)))
    }

    /// Adds the permission to a response, if the request's origin is allowed. Adds nothing if the request does not come from a
    /// page.
    fn permit(&self, incoming: &IncomingRequest, headers: &mut Fields) {
        if !matches!(self.origins, Allowed::All) {
            // A cache must not give one origin the answer to another.
            headers.append(Known::Vary, &HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.allowed_origin(incoming) else { return };
        headers.insert(&header::ACCESS_CONTROL_ALLOW_ORIGIN, &origin);
        if self.credentials {
            headers.insert(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS, &HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(&header::ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }

    /// Returns the headers of a preflight's response, if origin, method and headers are all allowed.
    fn answer(&self, method: &Method, incoming: &IncomingRequest, headers: &mut Fields) {
        let varies = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.append(Known::Vary, &HeaderValue::from_static(varies));
        let asked = requested_headers(incoming);
        let allowed = |name: &HeaderName| self.headers.has(|listed| listed == name);
        let (Some(origin), Some(asked)) = (self.allowed_origin(incoming), asked) else { return };
        if !self.methods.has(|listed| listed == method) || !asked.iter().all(allowed) {
            return;
        }
        headers.insert(&header::ACCESS_CONTROL_ALLOW_ORIGIN, &origin);
        headers.insert(&header::ACCESS_CONTROL_ALLOW_METHODS, &list(std::iter::once(method.as_str())));
        if !asked.is_empty() {
            headers.insert(&header::ACCESS_CONTROL_ALLOW_HEADERS, &list(asked.iter().map(HeaderName::as_str)));
        }
        if self.credentials {
            headers.insert(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS, &HeaderValue::from_static("true"));
        }
        if let Some(max_age) = &self.max_age {
            headers.insert(&header::ACCESS_CONTROL_MAX_AGE, max_age);
        }
    }

    /// Returns the permission for the request's origin: one line, one origin, compared exactly.
    fn allowed_origin(&self, incoming: &IncomingRequest) -> Option<HeaderValue> {
        let mut lines = incoming.headers.get_all(Known::Origin);
        let origin = lines.next().filter(|_| lines.next().is_none())?;
        match &self.origins {
            Allowed::All => Some(HeaderValue::from_static("*")),
            Allowed::These(listed) => {
                listed.iter().any(|listed| **listed == *origin.as_bytes()).then(|| origin.to_header_value())
            }
        }
    }
}

/// Returns the header fields that a preflight asks for; `None` if they cannot be read.
fn requested_headers(incoming: &IncomingRequest) -> Option<Vec<HeaderName>> {
    let lines = incoming.headers.get_all(Known::AccessControlRequestHeaders);
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    names.filter(|name| !name.is_empty()).map(|name| HeaderName::from_bytes(name).ok()).collect()
}

fn allowed<T>(
    written: &[String],
    place: &Place,
    faults: &mut Faults,
    cure: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Option<Allowed<T>> {
    if let [one] = written
        && one == "*"
    {
        return Some(Allowed::All);
    }
    let before = faults.errors();
    let mut list = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        match read(text) {
            _ if text == "*" => faults.error(&place.index(index), "`*` stands beside others", "write `*` alone, or leave it out"),
            Some(value) => list.push(value),
            None => faults.error(&place.index(index), format!("`{text}` is not what belongs here"), format!("write {cure}")),
        }
    }
    (faults.errors() == before).then_some(Allowed::These(list))
}

/// Reads an origin as browsers send it (RFC 6454, section 6.2): scheme, host and port, nothing after them; or `null`.
fn origin(text: &str) -> Option<Box<[u8]>> {
    if text == "null" {
        return Some(text.as_bytes().into());
    }
    let url = url::Url::parse(text).ok()?;
    (url.has_host() && !text.contains('*') && url.origin().ascii_serialization() == text).then(|| text.as_bytes().into())
}

fn method(text: &str) -> Option<Method> {
    let method = Method::from_bytes(text.as_bytes()).ok()?;
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-').then_some(method)
}

/// Names on one line.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> HeaderValue {
    let names: Vec<_> = names.collect();
    HeaderValue::try_from(names.join(", ")).expect("names of headers and methods are a header value")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{base::fields::Value, inbound::testing::Building};

    const APP: &str = "https://app.contoso.example";

    fn config() -> CorsConfig {
        CorsConfig {
            allowed_origins: vec![APP.to_owned(), "http://localhost:3000".to_owned()],
            allowed_methods: vec!["GET".to_owned(), "PUT".to_owned()],
            allowed_headers: vec!["Authorization".to_owned(), "Content-Type".to_owned()],
            expose_headers: vec!["X-Request-Id".to_owned()],
            allow_credentials: false,
            preflight_result_max_age: Some(ConfigDuration::seconds(300)),
        }
    }

    fn built(config: &CorsConfig) -> Result<Cors, Vec<String>> {
        Building::default().build(|place, context| Cors::build(config, place, context))
    }

    fn incoming(method: &str, fields: &[(&str, &str)]) -> IncomingRequest {
        let mut request = Request::builder().method(method).uri("/").header("host", "api.contoso.example");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        IncomingRequest::read(request.body(()).expect("a request").into_parts().0, None).expect("readable")
    }

    fn answer(policy: &Cors, fields: &[(&str, &str)]) -> Fields {
        let incoming = incoming("OPTIONS", fields);
        let mut headers = Fields::default();
        policy.answer(&preflight(&incoming).expect("a preflight"), &incoming, &mut headers);
        headers
    }

    #[test]
    fn a_preflight_is_permitted_only_if_all_that_it_asks_for_is() {
        let policy = built(&config()).expect("valid");
        for (origin, method, headers, permitted) in [
            (APP, "GET", "", true),
            (APP, "PUT", "authorization, Content-Type", true),
            ("http://localhost:3000", "GET", "", true),
            (APP, "DELETE", "", false),
            (APP, "GET", "authorization, x-other", false),
            (APP, "GET", "a b", false),
            ("https://evil.example", "GET", "", false),
            ("https://app.contoso.example.evil.example", "GET", "", false),
            ("http://app.contoso.example", "GET", "", false),
            ("https://APP.contoso.example", "GET", "", false),
            ("null", "GET", "", false),
        ] {
            let fields =
                [("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", headers)];

            let answer = answer(&policy, &fields);

            let permission = answer.get("access-control-allow-origin").map(Value::as_bytes);
            assert_eq!(permission, permitted.then_some(origin.as_bytes()), "{origin} {method} {headers}");
            assert_eq!(answer.names().any(is_permission), permitted);
            assert!(answer.contains_key("vary"));
        }
    }

    #[test]
    fn only_a_whole_preflight_is_one() {
        let asks = ("access-control-request-method", "GET");
        assert_eq!(preflight(&incoming("OPTIONS", &[("origin", APP), asks])), Some(Method::GET));
        for (method, fields) in
            [("OPTIONS", &[("origin", APP)][..]), ("OPTIONS", &[asks]), ("GET", &[("origin", APP), asks]), ("OPTIONS", &[])]
        {
            assert_eq!(preflight(&incoming(method, fields)), None, "{method} {fields:?}");
        }
    }

    #[test]
    fn an_answer_bears_the_permission_for_its_origin_alone() {
        let policy = built(&CorsConfig { allow_credentials: true, ..config() }).expect("valid");
        for (origins, permitted) in [
            (&[APP][..], true),
            (&["https://evil.example"], false),
            (&[APP, APP], false),
            (&[APP, "https://evil.example"], false),
            (&[], false),
        ] {
            let fields: Vec<_> = origins.iter().map(|origin| ("origin", *origin)).collect();
            let mut headers = Fields::default();

            policy.permit(&incoming("GET", &fields), &mut headers);

            assert_eq!(headers.contains_key("access-control-allow-origin"), permitted, "{origins:?}");
            assert_eq!(headers.contains_key("access-control-allow-credentials"), permitted, "{origins:?}");
            assert_eq!(headers.get(Known::Vary).unwrap(), "Origin");
        }
    }

    #[test]
    fn every_origin_is_a_star_and_never_has_credentials() {
        let open = CorsConfig { allowed_origins: vec!["*".to_owned()], ..config() };
        let mut headers = Fields::default();

        built(&open).expect("valid").permit(&incoming("GET", &[("origin", APP)]), &mut headers);

        assert_eq!(headers.get("access-control-allow-origin").unwrap(), "*");
        assert!(!headers.contains_key("vary"));
        assert!(built(&CorsConfig { allow_credentials: true, ..open }).expect_err("credentials")[0].contains("could act as"));
    }

    #[test]
    fn mistakes_are_found_at_load() {
        let list = |text: &str| vec![text.to_owned()];
        for (config, expected) in [
            (CorsConfig { allowed_origins: vec![], ..config() }, "no origin is listed"),
            (CorsConfig { allowed_origins: list("app.contoso.example"), ..config() }, "not what belongs here"),
            (CorsConfig { allowed_origins: list("https://app.contoso.example/"), ..config() }, "not what belongs here"),
            (CorsConfig { allowed_origins: list("https://*.contoso.example"), ..config() }, "not what belongs here"),
            (CorsConfig { allowed_origins: vec!["*".to_owned(), APP.to_owned()], ..config() }, "stands beside others"),
            (CorsConfig { allowed_methods: list("get"), ..config() }, "not what belongs here"),
            (CorsConfig { allowed_headers: list("a b"), ..config() }, "not what belongs here"),
        ] {
            let faults = built(&config).expect_err(expected);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
        }
    }
}

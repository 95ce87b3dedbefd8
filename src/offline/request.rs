//! A described request.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri, Version, header};
use rustls_pki_types::CertificateDer;

use crate::{
    certificate::ClientCertificate,
    connection::Scheme,
    gateway::runtime::{ListenerRules, Runtime},
    listener::{Arrival, Broken, Connection, Limits, Listener, ListenerSettings, RequestBody, TlsFacts, read_request},
    refusal::Reason,
};

/// The listener's name where the config has none.
const NO_LISTENER: &str = "application";
/// The port of peers, which no rule looks at.
const PORT: u16 = 50_000;

/// A request as it is described, with all that the gateway would learn from its connection.
#[derive(Clone, Debug)]
pub struct OfflineRequest {
    /// The method.
    pub method: String,
    /// The scheme of the URL.
    pub scheme: Scheme,
    /// Host and port, as in `Host`.
    pub authority: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// The protocol: HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The header fields in their order, without `Host` and framing.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The address that connects: the caller's, or a proxy's.
    pub peer: IpAddr,
    /// The listener, by its name. Default: the first that has TLS as the scheme says, or else the first; of those that only answer
    /// questions of other proxies none, unless there is no other.
    pub listener: Option<String>,
    /// Whether the connection to the gateway uses TLS. Default: as the listener does.
    pub tls: Option<bool>,
    /// The server name that the client asks for. Default: the host.
    pub server_name: Option<String>,
    /// The client's certificate chain.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The body.
    pub body: Bytes,
    /// The answer of the upstream.
    pub answer: Response<Bytes>,
    /// Whether the steps of the decision are noted.
    pub read_trace: bool,
}

/// The reason why a request cannot be described so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// The URL has another scheme, or none.
    #[error("`{0}` is no URL of http or https; write it as https://api.contoso.example/orders")]
    Url(String),
    /// The URL contains a user name.
    #[error("the URL holds a user name or password, which is not sent; name the credential in a header")]
    UserInUrl,
}

impl OfflineRequest {
    /// Describes a request without header fields to this URL, whose path and query are taken as they are.
    ///
    /// # Errors
    /// Fails if the URL has no host, or another scheme than `http` and `https`.
    pub fn new(method: &str, url: &str, from: IpAddr) -> Result<Self, RequestFault> {
        let fault = || RequestFault::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(fault)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(fault()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(RequestFault::UserInUrl);
        }
        if authority.is_empty() {
            return Err(fault());
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self {
            method: method.to_owned(),
            scheme,
            authority: authority.to_owned(),
            target,
            version: Version::HTTP_11,
            headers: Vec::new(),
            peer: from.to_canonical(),
            listener: None,
            tls: None,
            server_name: None,
            certificates: Vec::new(),
            body: Bytes::new(),
            answer: Response::new(Bytes::new()),
            read_trace: true,
        })
    }

    /// Adds a header field.
    pub fn header(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.headers.push((name.into(), value.into()));
    }

    /// Replaces a header field, or adds it; `None` removes it.
    pub fn set_header(&mut self, name: &str, value: Option<&str>) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.extend(value.map(|value| (name.to_owned(), value.as_bytes().to_vec())));
    }

    /// Returns the values of a header field.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.authority, self.target)
    }

    /// Returns the host without its port.
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.authority,
        }
    }

    /// Returns the header fields that can be read as such.
    pub(crate) fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    /// Returns the name of the listener that takes the request, if the config has one.
    pub fn listener_name<'a>(&'a self, runtime: &'a Runtime) -> Option<&'a str> {
        self.rules(runtime).map(|rules| &*rules.name)
    }

    /// Returns whether the connection to the gateway uses TLS.
    pub fn uses_tls(&self, runtime: &Runtime) -> bool {
        let of_listener = self.rules(runtime).map_or(self.scheme == Scheme::Https, |rules| rules.settings.tls.is_some());
        self.tls.unwrap_or(of_listener || !self.certificates.is_empty())
    }

    fn rules<'a>(&self, runtime: &'a Runtime) -> Option<&'a ListenerRules> {
        if let Some(name) = &self.listener {
            return runtime.listener(name);
        }
        let wanted = self.tls.unwrap_or(self.scheme == Scheme::Https);
        let serves = |rules: &&ListenerRules| !rules.settings.decides;
        let fits = |rules: &&ListenerRules| serves(rules) && rules.settings.tls.is_some() == wanted;
        let listeners = &runtime.listeners;
        listeners.iter().find(fits).or_else(|| listeners.iter().find(serves)).or_else(|| listeners.first())
    }

    /// Makes the connection that it comes on.
    pub(crate) fn connection(&self, runtime: &Runtime) -> Connection {
        let rules = self.rules(runtime);
        let nowhere = || Listener::new(NO_LISTENER, ListenerSettings::plain(Limits::default()));
        let listener = rules.map_or_else(nowhere, |rules| rules.mounted().clone());
        let tls = self.uses_tls(runtime).then(|| TlsFacts {
            version: None,
            server_name: Some(self.server_name.as_deref().unwrap_or(self.host()).to_ascii_lowercase().into()),
            shown: None,
            certificate: ClientCertificate::read(&self.certificates).ok().map(Arc::new),
        });
        let peer = SocketAddr::new(self.peer, PORT);
        let local = rules.and_then(|rules| rules.addresses.first().copied()).unwrap_or(peer);
        Connection { tls, ..Connection::plain(listener, peer, local) }
    }

    /// Makes the arrival of the request, as the listener's parser reads it.
    pub(crate) fn arrival(&self) -> Arrival {
        let read = if self.version == Version::HTTP_2 { self.http2() } else { self.http1() };
        read.map_or_else(Arrival::Broken, |request| Arrival::Request(Box::new(request.into())))
    }

    fn http1(&self) -> Result<http::Request<RequestBody>, Broken> {
        let bytes = self.wire()?;
        const INCOMPLETE: Broken = Broken::new(Reason::RequestFramingInvalid, "the request ends before its end");
        let whole = read_request(&bytes, Limits::default().header_bytes)?.ok_or(INCOMPLETE)?;
        Ok(whole.request.map(|body| RequestBody::from(Bytes::from(body))))
    }

    /// Writes the request as a client of HTTP/1.1 would.
    fn wire(&self) -> Result<Vec<u8>, Broken> {
        // A line end within a part would make two of it, which is another request than the one described.
        let broken = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
        if broken(self.method.as_bytes()) || broken(self.target.as_bytes()) {
            return Err(Broken::new(Reason::RequestTargetInvalid, "the request line contains a line end"));
        }
        if broken(self.authority.as_bytes())
            || self.headers.iter().any(|(name, value)| broken(name.as_bytes()) || broken(value) || name.contains(':'))
        {
            return Err(Broken::new(Reason::RequestHeaderInvalid, "a header field contains a line end"));
        }
        let mut bytes = Vec::with_capacity(512);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| bytes.extend_from_slice(part));
        put(&[self.method.as_bytes(), b" ", self.target.as_bytes(), b" HTTP/1.1\r\nHost: ", self.authority.as_bytes(), b"\r\n"]);
        for (name, value) in self.described() {
            put(&[name.as_bytes(), b": ", value, b"\r\n"]);
        }
        if !self.body.is_empty() {
            put(&[b"Content-Length: ", self.body.len().to_string().as_bytes(), b"\r\n"]);
        }
        put(&[b"\r\n", &self.body]);
        Ok(bytes)
    }

    fn http2(&self) -> Result<http::Request<RequestBody>, Broken> {
        const TARGET: Broken = Broken::new(Reason::RequestTargetInvalid, "the target is none of HTTP/2");
        const FIELD: Broken = Broken::new(Reason::RequestHeaderInvalid, "a header field cannot be in a request of HTTP/2");
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.scheme == Scheme::Https { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
        parts.authority = Some(self.authority.parse().map_err(|_| TARGET)?);
        parts.path_and_query = Some(self.target.parse().map_err(|_| TARGET)?);
        let mut request = http::Request::new(RequestBody::from(self.body.clone()));
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).map_err(|_| TARGET)?;
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| TARGET)?;
        *request.version_mut() = Version::HTTP_2;
        for (name, value) in self.described() {
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| FIELD)?;
            request.headers_mut().append(name, HeaderValue::from_bytes(value).map_err(|_| FIELD)?);
        }
        if !self.body.is_empty() {
            request.headers_mut().insert(header::CONTENT_LENGTH, self.body.len().into());
        }
        Ok(request)
    }

    /// Returns the fields but for those that follow from the URL and the body.
    fn described(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let made = |name: &str| ["host", "content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own));
        self.headers.iter().filter(move |(name, _)| !made(name)).map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> Result<OfflineRequest, RequestFault> {
        OfflineRequest::new("GET", url, [203, 0, 113, 9].into())
    }

    #[test]
    fn a_url_is_taken_apart_and_its_path_is_not_touched() {
        for (url, authority, target) in [
            ("https://api.contoso.example/a//b/../c?d=%2F#e", "api.contoso.example", "/a//b/../c?d=%2F"),
            ("http://[2001:db8::1]:8080", "[2001:db8::1]:8080", "/"),
            ("HTTPS://a.example?b", "a.example", "/?b"),
        ] {
            let request = request(url).expect(url);
            assert_eq!((&*request.authority, &*request.target), (authority, target), "{url}");
        }
        for url in ["api.contoso.example/orders", "ftp://a.example", "https:///a", "https://nia:secret@a.example/"] {
            assert!(request(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_line_end_in_a_part_makes_no_second_field() {
        let mut request = request("https://a.example/").expect("a URL");
        request.header("X-One", "1\r\nX-Two: 2");
        assert!(matches!(request.arrival(), Arrival::Broken(broken) if broken.reason == Reason::RequestHeaderInvalid));

        request.headers.clear();
        request.target = "/ HTTP/1.1\r\nX-Two: 2\r\n\r\n".to_owned();
        assert!(matches!(request.arrival(), Arrival::Broken(broken) if broken.reason == Reason::RequestTargetInvalid));
    }

    #[test]
    fn the_body_alone_determines_the_framing() {
        let mut request = request("https://a.example/").expect("a URL");
        request.header("Content-Length", "7");
        request.header("Transfer-Encoding", "chunked");
        assert_eq!(request.wire().expect("written"), b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");

        request.body = Bytes::from_static(b"a=b");
        assert!(request.wire().expect("written").ends_with(b"Content-Length: 3\r\n\r\na=b"));
    }
}

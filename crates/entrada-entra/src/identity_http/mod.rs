//! Calls to identity services: Entra, vaults, Graph, the platform's token endpoints. One client, bounded in time and size.
//!
//! Redirects are never followed: a token or an assertion goes to its intended address, or nowhere. Plain `http` is only used on
//! the machine itself, and for the platform's own token endpoints, which the caller has to mark as such. Connections are driven
//! by the runtime that made the call, so make calls from one that outlives them.

mod config;
mod pinned;

pub use self::config::IdentityHttpConfig;
use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use url::{Host, Url};

/// The timeout for connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The default timeout of a whole call.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);

/// The client for calls to identity services. Clones share their connections.
#[derive(Clone)]
pub struct IdentityHttp {
    /// The client that uses the corporate proxy, if there is one.
    outside: reqwest::Client,
    /// The client that never uses a proxy: for this machine and its link-local services.
    here: reqwest::Client,
    trusts_nobody: bool,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: &'a Url,
    /// Header fields other than those that HTTP itself needs. Secret ones are marked as sensitive.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
    /// The size limit of the response body, in bytes.
    pub cap: usize,
    /// The timeout of the call. Default: 15 s.
    pub timeout: Duration,
    /// True for a token endpoint of the platform that the gateway runs on: plain `http` is allowed to any address, and a proxy is
    /// never used.
    pub platform: bool,
}

/// A response, read completely.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, within the size limit of the call.
    pub body: Bytes,
}

/// The reason why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityHttpFault {
    /// The proxy's address cannot be used. It may hold a password, so it is not repeated.
    #[error("the proxy's address cannot be used; write it as http://proxy.contoso.example:3128")]
    Proxy,
    /// The file with certificate authorities cannot be read.
    #[error("the certificate authorities in {path} cannot be read")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file holds no certificate.
    #[error("{} holds no PEM certificate", path.display())]
    CaEmpty {
        /// The file.
        path: PathBuf,
    },
    /// The TLS library refused its own settings.
    #[error("TLS for identity services cannot be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The reason why a call got no response. Names hosts, never a path, a header, a body or a proxy's password.
#[derive(Debug, thiserror::Error)]
pub enum IdentityHttpError {
    /// Plain `http` to another machine.
    #[error("{host} would be called without TLS, which is only allowed on loopback")]
    NotHttps {
        /// The host.
        host: String,
    },
    /// The URL has no host, holds a password, or is neither `http` nor `https`.
    #[error("the address of an identity service is not usable")]
    Address,
    /// No connection: name resolution, routing or TLS failed.
    #[error("no connection to {host}{}", if *no_roots { " (this machine has no certificate authorities: install ca-certificates, or set identity-http.ca)" } else { "" })]
    Connect {
        /// The host.
        host: String,
        /// True if no authority is trusted at all.
        no_roots: bool,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The call timed out.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host.
        host: String,
    },
    /// The body exceeds the limit.
    #[error("{host} answered with more than {cap} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit.
        cap: usize,
    },
    /// The connection broke, or the response was not HTTP.
    #[error("the answer of {host} broke off or is not HTTP")]
    Broken {
        /// The host.
        host: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl IdentityHttpError {
    /// Returns whether the call certainly did not reach the server: no connection was made.
    pub const fn never_sent(&self) -> bool {
        matches!(self, Self::NotHttps { .. } | Self::Address | Self::Connect { .. })
    }
}

impl<'a> Call<'a> {
    /// Makes a GET.
    pub fn get(url: &'a Url, cap: usize) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: None, cap, timeout: TOTAL_TIMEOUT, platform: false }
    }

    /// Makes a POST of a form (`application/x-www-form-urlencoded`).
    pub fn post_form(url: &'a Url, form: &[(&str, &str)], headers: HeaderMap, cap: usize) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        Self::post(url, HeaderValue::from_static("application/x-www-form-urlencoded"), body.into(), headers, cap)
    }

    /// Makes a POST of JSON.
    pub fn post_json(url: &'a Url, body: Bytes, headers: HeaderMap, cap: usize) -> Self {
        Self::post(url, HeaderValue::from_static("application/json"), body, headers, cap)
    }

    fn post(url: &'a Url, content_type: HeaderValue, body: Bytes, mut headers: HeaderMap, cap: usize) -> Self {
        headers.insert(header::CONTENT_TYPE, content_type);
        Self { method: Method::POST, headers, body: Some(body), ..Self::get(url, cap) }
    }

    /// Sets the timeout of the call.
    #[must_use]
    pub const fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Marks the call as one to a token endpoint of the platform.
    #[must_use]
    pub const fn to_platform(mut self) -> Self {
        self.platform = true;
        self
    }
}

impl IdentityHttp {
    /// Makes the client; reads the file of certificate authorities and the proxy variables of the environment.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or the proxy's address cannot be used.
    pub fn new(config: &IdentityHttpConfig) -> Result<Self, IdentityHttpFault> {
        Self::with_environment(config, |name| std::env::var(name).ok())
    }

    fn with_environment(
        config: &IdentityHttpConfig,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, IdentityHttpFault> {
        let (tls, trusts_nobody) = tls_config(config)?;
        let here = builder(tls.clone()).build().map_err(|error| IdentityHttpFault::Tls(error.into()))?;
        let outside = match proxy(config, environment)? {
            Some(proxy) => builder(tls).proxy(proxy).build().map_err(|error| IdentityHttpFault::Tls(error.into()))?,
            None => here.clone(),
        };
        Ok(Self { outside, here, trusts_nobody })
    }

    /// Returns a client that trusts one certificate alone: that with this SHA-1 thumbprint, whoever issued it.
    ///
    /// # Errors
    /// The TLS library refuses its settings.
    pub(crate) fn pinned(&self, thumbprint: [u8; 20]) -> Result<Self, IdentityHttpFault> {
        let tls = pinned::tls_config(thumbprint)?;
        let here = builder(tls).build().map_err(|error| IdentityHttpFault::Tls(error.into()))?;
        Ok(Self { outside: here.clone(), here, trusts_nobody: false })
    }

    /// Gets `url`; the body may have `cap` bytes.
    ///
    /// # Errors
    /// Returns any [`IdentityHttpError`]; a status other than 200 is not an error.
    pub async fn get(&self, url: &Url, cap: usize) -> Result<Answer, IdentityHttpError> {
        self.send(Call::get(url, cap)).await
    }

    /// Posts a form; the response body may have `cap` bytes.
    ///
    /// # Errors
    /// Returns any [`IdentityHttpError`]; a status other than 200 is not an error.
    pub async fn post_form(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        headers: HeaderMap,
        cap: usize,
    ) -> Result<Answer, IdentityHttpError> {
        self.send(Call::post_form(url, form, headers, cap)).await
    }

    /// Makes one call. Nothing is repeated, no redirect is followed.
    ///
    /// # Errors
    /// Returns any [`IdentityHttpError`]; a status other than 200 is not an error.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, IdentityHttpError> {
        let local = check_address(call.url, call.platform)?;
        let host = || call.url.host_str().unwrap_or_default().to_owned();
        let failed = |error: reqwest::Error| {
            let error = error.without_url();
            // A connection that took too long is both: that nothing was sent says more.
            if error.is_connect() {
                IdentityHttpError::Connect { host: host(), no_roots: self.trusts_nobody, source: error.into() }
            } else if error.is_timeout() {
                IdentityHttpError::Timeout { host: host() }
            } else {
                IdentityHttpError::Broken { host: host(), source: error.into() }
            }
        };

        let client = if local || call.platform { &self.here } else { &self.outside };
        let mut request = client.request(call.method, call.url.clone()).headers(call.headers).timeout(call.timeout);
        if let Some(body) = call.body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(failed)?;
        let too_large = || IdentityHttpError::TooLarge { host: host(), cap: call.cap };
        if response.content_length().is_some_and(|length| length > call.cap as u64) {
            return Err(too_large());
        }
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > call.cap - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.into() })
    }
}

impl fmt::Debug for IdentityHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityHttp").finish_non_exhaustive()
    }
}

// Bodies of identity services are tokens and keys.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Returns whether `url` names this machine: `localhost` or a loopback address.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // RFC 6761, section 6.3: `localhost` never leaves the machine.
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// Refuses addresses that must not be called; returns whether the address is this machine.
fn check_address(url: &Url, platform: bool) -> Result<bool, IdentityHttpError> {
    let local = is_loopback(url);
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return Err(IdentityHttpError::Address);
    }
    match url.scheme() {
        "https" => Ok(local),
        "http" if local || platform => Ok(local),
        "http" => Err(IdentityHttpError::NotHttps { host: url.host_str().unwrap_or_default().to_owned() }),
        _ => Err(IdentityHttpError::Address),
    }
}

fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("entrada/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(60))
}

fn proxy(
    config: &IdentityHttpConfig,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<reqwest::Proxy>, IdentityHttpFault> {
    let first_set = |names: [&str; 2]| names.iter().find_map(|name| environment(name)).filter(|text| !text.is_empty());
    let (address, exceptions) = match &config.proxy {
        Some(address) => (address.clone(), None),
        None => match first_set(["HTTPS_PROXY", "https_proxy"]) {
            Some(address) => (address, first_set(["NO_PROXY", "no_proxy"])),
            None => return Ok(None),
        },
    };
    let address = if address.contains("://") { address } else { format!("http://{address}") };
    let usable = Url::parse(&address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !usable {
        return Err(IdentityHttpFault::Proxy);
    }
    let proxy = reqwest::Proxy::all(&address).map_err(|_| IdentityHttpFault::Proxy)?;
    Ok(Some(proxy.no_proxy(exceptions.as_deref().and_then(reqwest::NoProxy::from_string))))
}

/// Returns the TLS settings, and whether no authority is trusted.
fn tls_config(config: &IdentityHttpConfig) -> Result<(ClientConfig, bool), IdentityHttpFault> {
    let mut roots = RootCertStore::empty();
    // What cannot be read of the system's store is left out; without any authority each connection fails, and says why.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &config.ca {
        let path = PathBuf::from(path);
        let unreadable = |source| IdentityHttpFault::CaFile { path: path.clone(), source };
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| unreadable(error.into()))? {
            let certificate = certificate.map_err(|error| unreadable(error.into()))?;
            roots.add(certificate).map_err(|error| unreadable(error.into()))?;
            found = true;
        }
        if !found {
            return Err(IdentityHttpFault::CaEmpty { path });
        }
    }
    let trusts_nobody = roots.is_empty();
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| IdentityHttpFault::Tls(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((tls, trusts_nobody))
}

/// A small origin on loopback, for tests of calls to identity services.
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

//! TLS towards clients: certificates chosen by name, and read again when their files change.
//!
//! TLS 1.2 and 1.3, without early data: data sent before the end of the handshake can be replayed by anyone, and its source
//! address is not proven.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{
    TlsConfig,
    client_certificates::{ClientCertificates, Verifier},
    served::ServedCertificate,
};

/// The offered protocols, in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS side of a listener.
#[derive(Debug)]
pub struct ServerTls {
    /// The settings without the certificates.
    config: ServerConfig,
    certificates: ArcSwap<InUse>,
    files: Vec<TlsConfig>,
    /// The requirements for clients' certificates; `None`: they are not requested.
    client_certificates: Option<Arc<ClientCertificates>>,
}

/// The reason why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file lacks the expected content.
    #[error("{path} holds no {what} in PEM form")]
    Absent {
        /// The file.
        path: String,
        /// The expected content.
        what: &'static str,
    },
    /// The private key is encrypted.
    #[error("the private key in {path} is encrypted; decrypt it with `openssl pkey -in {path}`")]
    Encrypted {
        /// The file.
        path: String,
    },
    /// Certificate and key do not belong together.
    #[error("the private key in {private_key} does not belong to the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        private_key: String,
    },
    /// The certificate or the key is of an unsupported kind.
    #[error("the certificate in {path} cannot be used")]
    Unusable {
        /// The certificate's file.
        path: String,
        /// The error of the TLS library.
        source: rustls::Error,
    },
    /// There is no certificate.
    #[error("tls lists no certificate")]
    None,
}

impl CertificateError {
    /// Returns the key of the faulty setting, and the cure.
    pub(super) fn cure(&self, files: &TlsConfig) -> (&'static str, &'static str) {
        let of_key = |path: &str| path == files.private_key;
        match self {
            Self::Read { path, .. } if of_key(path) => ("private-key", "name a file that the gateway may read"),
            Self::Read { .. } => ("certificate", "name a file that the gateway may read"),
            Self::Absent { path, .. } if of_key(path) => ("private-key", "name a file with `-----BEGIN PRIVATE KEY-----`"),
            Self::Absent { .. } => ("certificate", "name a file with `-----BEGIN CERTIFICATE-----`, the server's own first"),
            Self::Encrypted { .. } => ("private-key", "decrypt it, and let the file's permissions protect it"),
            Self::Mismatch { .. } => ("private-key", "name the key that the certificate was made for"),
            // Only the library's own words tell it: the error within is not public.
            Self::Unusable { source, .. } if format!("{source:?}").contains("UnsupportedCertVersion") => (
                "certificate",
                "it is of X.509 version 1: make one of version 3, with the name as subjectAltName (`openssl x509 -req … -extfile`, `openssl req -x509 -addext`)",
            ),
            Self::Unusable { .. } => ("certificate", "use an RSA key of at least 2048 bits, ECDSA on P-256 or P-384, or Ed25519"),
            Self::None => ("certificate", "list at least one certificate"),
        }
    }
}

impl ServerTls {
    /// Checks whether certificate and key can be used, without keeping them.
    ///
    /// # Errors
    /// Fails as [`load`](Self::load).
    pub(super) fn check(files: &TlsConfig) -> Result<(), CertificateError> {
        load_key(files).map(drop)
    }

    /// Reads certificates and keys. The first is for clients that request no server name, or an unknown one.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or if certificate and key do not belong together.
    pub fn load(files: &[TlsConfig]) -> Result<Self, CertificateError> {
        Self::asking(files, None)
    }

    /// Does the same, requesting clients' certificates.
    ///
    /// # Errors
    /// Fails as [`load`](Self::load).
    pub fn asking(files: &[TlsConfig], client_certificates: Option<Arc<ClientCertificates>>) -> Result<Self, CertificateError> {
        let table = Arc::new(Table::load(files)?);
        let unusable = |source| CertificateError::Unusable { path: files[0].certificate.clone(), source };
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let config = match &client_certificates {
            None => config.with_no_client_auth(),
            Some(asked) => config.with_client_cert_verifier(Verifier::new(asked.clone())),
        };
        let mut config = config.with_cert_resolver(table.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Sessions are resumed from tickets alone: no table that workers share, and nothing kept for clients that never return. Their
        // key is made with these settings and ends with them, so that no session is resumed that began under others: it would bring
        // a client's certificate along that these settings never saw.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
        config.send_tls13_tickets = 1;
        let certificates = ArcSwap::from_pointee(InUse { config: Arc::new(config.clone()), table });
        Ok(Self { config, certificates, files: files.to_vec(), client_certificates })
    }

    /// Disables HTTP/2.
    #[must_use]
    pub(super) fn without_http2(mut self) -> Self {
        self.config.alpn_protocols.retain(|protocol| protocol != b"h2");
        let table = self.in_use().table.clone();
        self.put_in_use(table);
        self
    }

    /// Reads the files again. All of them are taken over, or none.
    ///
    /// # Errors
    /// Fails as [`load`](Self::load); the certificates in use stay.
    pub fn reload(&self) -> Result<(), CertificateError> {
        self.put_in_use(Arc::new(Table::load(&self.files)?));
        Ok(())
    }

    fn put_in_use(&self, table: Arc<Table>) {
        let mut config = self.config.clone();
        config.cert_resolver = table.clone();
        self.certificates.store(Arc::new(InUse { config: Arc::new(config), table }));
    }

    /// Returns the certificates in use now, for one handshake and the facts of its connection.
    pub(super) fn in_use(&self) -> Arc<InUse> {
        self.certificates.load_full()
    }

    /// Returns the files that [`reload`](Self::reload) reads: those to watch.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|files| [files.certificate.as_str(), files.private_key.as_str()])
    }

    /// Returns the requirements for clients' certificates, if they are requested.
    pub const fn client_certificates(&self) -> Option<&Arc<ClientCertificates>> {
        self.client_certificates.as_ref()
    }

    /// Returns the certificates that are shown now.
    pub fn served(&self) -> Arc<[ServedCertificate]> {
        self.in_use().table.served.clone()
    }
}

/// The certificates with the settings of a handshake that shows one of them.
#[derive(Debug)]
pub(super) struct InUse {
    config: Arc<ServerConfig>,
    table: Arc<Table>,
}

impl InUse {
    pub(super) const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Returns the names of the certificate that is shown to a client with this server name. `None` if there is only one
    /// certificate: it is shown to everybody.
    pub(super) fn shown(&self, server_name: Option<&str>) -> Option<Arc<CertificateNames>> {
        self.table.several.then(|| self.table.choose(server_name).names.clone())
    }
}

#[derive(Debug)]
struct Table {
    default: Entry,
    /// Whole names, and the rest after the `*` of wildcards (with its dot); lower case.
    by_name: HashMap<Box<str>, Entry>,
    /// True if there are several to choose from.
    several: bool,
    /// Their status.
    served: Arc<[ServedCertificate]>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Arc<CertifiedKey>,
    names: Arc<CertificateNames>,
}

/// The names of a certificate: its subject's alternative names (RFC 9525; a common name does not count).
#[derive(Debug, Default)]
pub struct CertificateNames {
    /// Whole names, and the rest after the `*` of wildcards (with its dot); lower case.
    dns: HashSet<Box<str>>,
    addresses: HashSet<IpAddr>,
}

impl CertificateNames {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut names = Self::default();
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return names };
        let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return names };
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    let name = name.to_ascii_lowercase();
                    names.dns.insert(name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&name).into());
                }
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        names
    }

    /// Returns whether the certificate covers this host, as in [`Authority`](crate::connection::Authority): lower case, IPv6 in
    /// brackets.
    pub fn cover(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // What ends in a digit is an address, or else no name.
        if (literal.len() < host.len() || host.ends_with(|last: char| last.is_ascii_digit()))
            && let Ok(address) = literal.parse::<IpAddr>()
        {
            return self.addresses.contains(&address);
        }
        // RFC 9525, section 6.3: a wildcard stands for one whole label. It is kept as what follows that label, which is no name itself.
        match host.find('.') {
            Some(0) => false,
            Some(dot) => self.dns.contains(host) || self.dns.contains(&host[dot..]),
            None => self.dns.contains(host),
        }
    }
}

/// Reads the address of a certificate. RFC 5280, section 4.2.1.6.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let v6 = || <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    v4().or_else(|_| v6()).ok()
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name()).key.clone())
    }
}

impl Table {
    fn load(files: &[TlsConfig]) -> Result<Self, CertificateError> {
        let mut by_name = HashMap::new();
        let mut default = None;
        let mut served = Vec::new();
        for (index, files) in files.iter().enumerate() {
            let entry = load_key(files)?;
            served.extend(ServedCertificate::read(index, &files.certificate, &entry.key.cert));
            for name in &entry.names.dns {
                // Where several bear a name the one that is listed first has it.
                by_name.entry(name.clone()).or_insert_with(|| entry.clone());
            }
            default.get_or_insert(entry);
        }
        Ok(Self { default: default.ok_or(CertificateError::None)?, by_name, several: files.len() > 1, served: served.into() })
    }

    fn choose(&self, name: Option<&str>) -> &Entry {
        let chosen = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            // RFC 9525, section 6.3: a wildcard stands for one whole label.
            let wildcard = || name.find('.').and_then(|dot| self.by_name.get(&name[dot..]));
            self.by_name.get(name.as_str()).or_else(wildcard)
        });
        chosen.unwrap_or(&self.default)
    }
}

/// Loads certificate and key, and the names of the certificate.
fn load_key(files: &TlsConfig) -> Result<Entry, CertificateError> {
    let pem = read(&files.certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    let Some(leaf) = chain.first() else {
        return Err(CertificateError::Absent { path: files.certificate.clone(), what: "certificate" });
    };
    let names = Arc::new(CertificateNames::of(leaf));
    let pem = read(&files.private_key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let path = files.private_key.clone();
        if memchr::memmem::find(&pem, b"ENCRYPTED").is_some() {
            CertificateError::Encrypted { path }
        } else {
            CertificateError::Absent { path, what: "private key" }
        }
    })?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::Mismatch { certificate: files.certificate.clone(), private_key: files.private_key.clone() }
        }
        source => CertificateError::Unusable { path: files.certificate.clone(), source },
    })?;
    Ok(Entry { key: Arc::new(key), names })
}

fn read(path: &str) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    /// Writes a new certificate for the names into the folder.
    pub(crate) fn write(folder: &Path, file: &str, names: &[&str]) -> TlsConfig {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let path = |extension| folder.join(file).with_extension(extension).display().to_string();
        let files = TlsConfig { certificate: path("pem"), private_key: path("key") };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.private_key, made.signing_key.serialize_pem()).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&files.private_key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        files
    }

    fn leaf(table: &Table, name: Option<&str>) -> Vec<u8> {
        table.choose(name).key.cert[0].to_vec()
    }

    #[test]
    fn certificates_are_chosen_by_name() {
        let folder = TempDir::new().unwrap();
        let first = write(folder.path(), "first", &["first.contoso.example"]);
        let second = write(folder.path(), "second", &["api.contoso.example", "*.apps.contoso.example"]);
        let table = Table::load(&[first, second]).unwrap();
        let (first, second) = (leaf(&table, None), leaf(&table, Some("api.contoso.example")));

        assert_ne!(first, second);
        for (name, expected) in [
            ("first.contoso.example", &first),
            ("API.Contoso.example", &second),
            ("a.apps.contoso.example", &second),
            ("a.b.apps.contoso.example", &first),
            ("apps.contoso.example", &first),
            (".apps.contoso.example", &second),
            ("fabrikam.example", &first),
        ] {
            assert!(leaf(&table, Some(name)) == *expected, "{name}");
        }
    }

    #[test]
    fn a_certificate_is_for_its_alternative_names_alone() {
        let folder = TempDir::new().unwrap();
        let names = ["api.contoso.example", "*.apps.contoso.example", "192.0.2.7", "2001:db8::7"];
        let files = [write(folder.path(), "a", &names), write(folder.path(), "b", &["b.example"])];
        let tls = ServerTls::load(&files).unwrap();
        let shown = tls.in_use().shown(Some("api.contoso.example")).unwrap();

        for (host, expected) in [
            ("api.contoso.example", true),
            ("a.apps.contoso.example", true),
            ("192.0.2.7", true),
            ("[2001:db8::7]", true),
            ("apps.contoso.example", false),
            ("a.b.apps.contoso.example", false),
            (".apps.contoso.example", false),
            ("contoso.example", false),
            ("b.example", false),
            ("192.0.2.8", false),
            ("[2001:db8::8]", false),
            ("", false),
        ] {
            assert_eq!(shown.cover(host), expected, "{host}");
        }
        // A reload changes what is shown from then on, and nothing of what was.
        write(folder.path(), "a", &["other.example"]);
        tls.reload().unwrap();
        assert!(shown.cover("api.contoso.example"));
        assert!(!tls.in_use().shown(None).unwrap().cover("api.contoso.example"));
        // One certificate is shown whatever is asked for.
        assert!(ServerTls::load(&files[..1]).unwrap().in_use().shown(Some("b.example")).is_none());
    }

    #[test]
    fn a_reload_takes_all_or_nothing() {
        let folder = TempDir::new().unwrap();
        let files = [write(folder.path(), "a", &["a.example"]), write(folder.path(), "b", &["b.example"])];
        let tls = ServerTls::load(&files).unwrap();
        let before = leaf(&tls.in_use().table, None);

        write(folder.path(), "a", &["a.example"]);
        fs::write(&files[1].private_key, "nothing").unwrap();
        tls.reload().unwrap_err();
        assert!(leaf(&tls.in_use().table, None) == before);

        write(folder.path(), "b", &["b.example"]);
        tls.reload().unwrap();
        assert!(leaf(&tls.in_use().table, None) != before);
    }

    #[test]
    fn says_what_is_wrong_with_the_files() {
        let folder = TempDir::new().unwrap();
        let (one, two) = (write(folder.path(), "one", &["a.example"]), write(folder.path(), "two", &["a.example"]));
        let with_key = |private_key: &str| TlsConfig { private_key: private_key.to_owned(), ..one.clone() };
        let locked = folder.path().join("locked.key").display().to_string();
        fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();

        for (files, expected) in [
            (with_key(&two.private_key), "does not belong"),
            (with_key(&locked), "is encrypted"),
            (with_key(&one.certificate), "holds no private key"),
            (with_key("/nowhere.key"), "cannot read /nowhere.key"),
            (TlsConfig { certificate: one.private_key.clone(), ..one.clone() }, "holds no certificate"),
        ] {
            let error = ServerTls::load(&[files]).unwrap_err().to_string();

            assert!(error.contains(expected), "{error}");
        }
        assert!(matches!(ServerTls::load(&[]), Err(CertificateError::None)));
    }
}

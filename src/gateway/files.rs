//! The files that a config names.

use std::path::{Path, PathBuf};

use super::runtime::policies;
use crate::{
    address::AddressSets, config::Document, credentials::Credentials, entra::Tenants, identity::AssertionKeys,
    limits::RedisConfig,
};

/// Returns the files that the config names, to be read again when they change.
///
/// One list is extended again and again: a single chain of all these iterators is a type that takes the compiler minutes.
pub(super) fn files(
    document: &Document,
    sets: &AddressSets,
    tenants: &Tenants,
    credentials: &Credentials,
    assertion_keys: Option<&AssertionKeys>,
) -> Vec<PathBuf> {
    let config = &document.config;
    let mut written: Vec<&str> = Vec::new();
    let of_listeners = config.listeners.iter().flat_map(|listener| &listener.tls);
    for tls in of_listeners.chain(config.admin.iter().flat_map(|admin| &admin.tls)).flat_map(|tls| tls.as_slice()) {
        written.extend([tls.certificate.as_str(), &tls.private_key]);
    }
    let of_decisions = config.listeners.iter().filter_map(|listener| listener.decides.as_ref());
    let mut asked: Vec<_> = of_decisions.filter_map(|decides| decides.client_certificates.as_ref()).collect();
    asked.extend(config.listeners.iter().filter_map(|listener| listener.client_certificates.as_ref()));
    asked.extend(config.admin.iter().filter_map(|admin| admin.client_certificates.as_ref()));
    for asked in asked {
        written.push(&asked.ca);
        written.extend(asked.crl.iter().map(String::as_str));
    }
    for tls in config.upstreams.values().map(|upstream| &upstream.tls) {
        written.extend(tls.ca.as_deref());
        written.extend(tls.client_certificate.iter().flat_map(|shown| shown.files()).map(String::as_str));
    }
    written.extend(config.audit.sealing_file().map(String::as_str));
    written.extend(policies(config).into_iter().flat_map(|policy| policy.files()));
    written.extend(config.redis.iter().flat_map(RedisConfig::files).map(String::as_str));

    let mut files: Vec<PathBuf> = written.into_iter().map(|file| document.path(file)).collect();
    files.extend(sets.files.iter().cloned());
    files.extend(tenants.files());
    files.extend(credentials.files().map(Path::to_owned));
    files.extend(assertion_keys.into_iter().flat_map(AssertionKeys::files).map(Path::to_owned));
    files
}

//! Issuers other than Entra: discovered OpenID Connect providers, or given keys.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::{
    algorithm::Algorithm,
    issuer::Issuer,
    key_set::{Document, Endpoint, KeySet, Source},
    keys::Keys,
    metadata::{Bounds, IssuerBounds, Metadata, Origin},
    tenant::STALE,
    token::Version,
};
use crate::{
    identity_http::is_loopback,
    settings::{ConfigDuration, Faults, Place},
};

/// The path that OpenID Connect Discovery appends to the issuer (section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// The validity of given keys, which never become too old.
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Another issuer of tokens, for `validate-jwt`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IssuerConfig {
    /// The address of the issuer's discovery document.
    pub openid_config: Option<String>,
    /// The issuer that tokens must name. Required with `keys`; with `openid-config` the default is the text before
    /// `/.well-known`.
    pub issuer: Option<String>,
    /// Hosts other than that of `openid-config` that may serve the keys.
    #[serde(default)]
    pub jwks_hosts: Vec<String>,
    /// The keys themselves, instead of a discovery document.
    pub keys: Option<IssuerKeysConfig>,
    /// Whether readiness requires the keys, rather than an attempt to fetch them. Default: true.
    pub required: Option<bool>,
    /// The time for which the last good keys stay valid while the issuer is unreachable. Default: 24h.
    pub stale: Option<ConfigDuration>,
}

/// A file of keys.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerKeysConfig {
    /// A JSON Web Key Set.
    Jwks(String),
    /// Public keys or certificates, PEM.
    Pem(String),
}

/// Builds the key set of an issuer, or reports the faults of its settings.
pub(super) fn build(config: &IssuerConfig, base: &Path, place: &Place, faults: &mut Faults) -> Option<Arc<KeySet>> {
    match (&config.openid_config, &config.keys) {
        (Some(url), None) => discovered(url, config, place, faults),
        (None, Some(keys)) => given(keys, config, base, place, faults),
        (Some(_), Some(_)) => {
            faults.error(place, "keys are both discovered and given", "keep one of `openid-config` and `keys`");
            None
        }
        (None, None) => {
            faults.error(place, "it is not said where the keys are", "add `openid-config`, or `issuer` with `keys`");
            None
        }
    }
}

fn discovered(text: &str, config: &IssuerConfig, place: &Place, faults: &mut Faults) -> Option<Arc<KeySet>> {
    let at = place.key("openid-config");
    let url = Url::parse(text).ok().filter(|url| {
        url.has_host() && (url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)) && url.username().is_empty()
    });
    let Some(metadata) = url else {
        let cure = format!("write it as https://idp.fabrikam.example{WELL_KNOWN}; http is for an issuer on this machine alone");
        faults.error(&at, format!("`{text}` is not a trustworthy address for keys"), cure);
        return None;
    };
    let issuers = match (&config.issuer, text.strip_suffix(WELL_KNOWN)) {
        (Some(issuer), _) => IssuerBounds::Exactly(issuer.as_str().into()),
        (None, Some(before)) => IssuerBounds::Discovered(before.into()),
        (None, None) => {
            let what = format!("`{text}` does not end with {WELL_KNOWN}, so it does not tell the issuer");
            faults.error(&at, what, "add `issuer`, as tokens have it");
            return None;
        }
    };
    let mut key_origins: Vec<_> = Origin::of(&metadata).into_iter().collect();
    for (index, host) in config.jwks_hosts.iter().enumerate() {
        let origin = Url::parse(&format!("https://{host}")).ok().filter(|url| url.path() == "/" && url.username().is_empty());
        match origin.as_ref().and_then(Origin::of) {
            Some(origin) => key_origins.push(origin),
            None => {
                let at = place.key("jwks-hosts").index(index);
                faults.error(
                    &at,
                    format!("`{host}` is not a host"),
                    "write it as keys.fabrikam.example, with a port where it has one",
                );
            }
        }
    }
    let assumed = config.issuer.as_deref().or(text.strip_suffix(WELL_KNOWN)).unwrap_or_default();
    let endpoint = Endpoint {
        version: Version::Unknown,
        metadata,
        bounds: Bounds { key_origins, issuers },
        assumed_issuer: Issuer::Literal(assumed.into()),
    };
    Some(KeySet::new(source(vec![endpoint], config.stale.map_or(STALE, |span| span.0))))
}

fn given(keys: &IssuerKeysConfig, config: &IssuerConfig, base: &Path, place: &Place, faults: &mut Faults) -> Option<Arc<KeySet>> {
    let Some(issuer) = config.issuer.as_deref().filter(|issuer| !issuer.is_empty()) else {
        faults.error(place, "keys are given, and it is not said whose tokens they sign", "add `issuer`, as tokens have it");
        return None;
    };
    let (at, path) = match keys {
        IssuerKeysConfig::Jwks(path) => (place.key("keys").key("jwks"), base.join(path)),
        IssuerKeysConfig::Pem(path) => (place.key("keys").key("pem"), base.join(path)),
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            faults.error(&at, format!("{} cannot be read: {error}", path.display()), "name a file of public keys");
            return None;
        }
    };
    let document = match keys {
        IssuerKeysConfig::Jwks(_) => bytes,
        IssuerKeysConfig::Pem(_) => json!({ "keys": pem_keys(&bytes) }).to_string().into_bytes(),
    };
    let keys = match Keys::read(&document, Algorithm::ALL) {
        Ok(keys) => keys,
        Err(error) => {
            let cure = "give RSA keys of 2048 to 8192 bits, or keys on P-256, P-384, P-521 or Ed25519";
            faults.error(&at, format!("{}: {error}", path.display()), cure);
            return None;
        }
    };
    // Nothing is fetched, so the address is only a name.
    let name = Url::parse("file:///").ok()?.join(&path.to_string_lossy()).ok()?;
    let issuer = Issuer::Literal(issuer.into());
    let endpoint = Endpoint {
        version: Version::Unknown,
        metadata: name.clone(),
        bounds: Bounds { key_origins: Vec::new(), issuers: IssuerBounds::Exactly("".into()) },
        assumed_issuer: issuer.clone(),
    };
    Some(KeySet::given(
        source(vec![endpoint], FOR_EVER),
        Document { metadata: Metadata { issuer, jwks_uri: name, cloud: None }, keys },
    ))
}

fn source(endpoints: Vec<Endpoint>, stale: Duration) -> Source {
    Source {
        endpoints,
        algorithms: Algorithm::ALL,
        tenant: None,
        many_tenants: false,
        user_flow: false,
        application: None,
        stale,
        quiet: false,
    }
}

/// Returns the public keys of a PEM file, as JSON Web Keys without an id. Unsupported kinds are skipped.
fn pem_keys(pem: &[u8]) -> Vec<Value> {
    let bare = SubjectPublicKeyInfoDer::pem_slice_iter(pem).flatten().map(|key| key.as_ref().to_vec());
    let certified = CertificateDer::pem_slice_iter(pem).flatten().filter_map(|certificate| {
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        Some(parsed.public_key().raw.to_vec())
    });
    bare.chain(certified).filter_map(|spki| jwk(&spki)).collect()
}

/// Converts a `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7) to a JSON Web Key.
fn jwk(spki: &[u8]) -> Option<Value> {
    let (_, info) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match info.parsed().ok()? {
        PublicKey::RSA(key) => Some(json!({ "kty": "RSA", "n": text(key.modulus), "e": text(key.exponent) })),
        PublicKey::EC(point) => {
            let point = point.data();
            let (curve, length) = match point.len() {
                65 => ("P-256", 32),
                97 => ("P-384", 48),
                133 => ("P-521", 66),
                _ => return None,
            };
            Some(json!({ "kty": "EC", "crv": curve, "x": text(&point[1..=length]), "y": text(&point[length + 1..]) }))
        }
        // RFC 8410, section 3: Ed25519 is 1.3.101.112, and the key is the bit string itself.
        PublicKey::Unknown(key) if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => {
            Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": text(key) }))
        }
        _ => None,
    }
}

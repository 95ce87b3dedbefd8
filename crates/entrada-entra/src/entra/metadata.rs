//! Discovery documents: issuers, and the addresses of keys.

use url::Url;

use super::{
    issuer::{Issuer, is_guid},
    json::{NotStrict, read_object},
};

/// The limits of a discovery document's statements. Other members are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The origins that keys may be fetched from: scheme, host and port.
    pub(crate) key_origins: Vec<Origin>,
    /// The allowed issuers.
    pub(crate) issuers: IssuerBounds,
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: Box<str>,
    host: Box<str>,
    port: Option<u16>,
}

impl Origin {
    pub(crate) fn of(url: &Url) -> Option<Self> {
        Some(Self { scheme: url.scheme().into(), host: url.host_str()?.into(), port: url.port_or_known_default() })
    }

    pub(crate) fn https(host: &str) -> Self {
        Self { scheme: "https".into(), host: host.into(), port: Some(443) }
    }
}

/// The issuers that a document may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IssuerBounds {
    /// Entra's issuers: on one of these origins, with the tenant if it is known.
    Entra {
        origins: Vec<Origin>,
        /// The GUID that the issuer must name; `None` if the config names a domain or several tenants.
        tenant: Option<Box<str>>,
        /// True if the issuer must leave the tenant open.
        template: bool,
    },
    /// Exactly this issuer.
    Exactly(Box<str>),
    /// The issuer that the document was discovered for, with or without a trailing slash.
    Discovered(Box<str>),
}

/// The content of a discovery document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) issuer: Issuer,
    pub(crate) jwks_uri: Url,
    /// The cloud of the document.
    pub(crate) cloud: Option<Box<str>>,
}

/// The reason why a discovery document is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataFault {
    #[error("the metadata is {0}")]
    Json(#[from] NotStrict),
    #[error("the metadata has no usable {0}")]
    Member(&'static str),
    #[error("the metadata names keys on {0}, which is not the authority")]
    KeysElsewhere(String),
    #[error("the metadata names the issuer {0:?}, which is not one of this authority")]
    IssuerElsewhere(String),
    #[error("the metadata names the issuer {0:?}, which is not the tenant's")]
    OtherTenant(String),
}

impl Metadata {
    /// Reads a document and checks it against the limits.
    ///
    /// # Errors
    /// Fails if the document is malformed, or exceeds the limits.
    pub(crate) fn read(document: &[u8], bounds: &Bounds) -> Result<Self, MetadataFault> {
        let document = read_object(document)?;
        let text = |name: &'static str| document.get(name).and_then(serde_json::Value::as_str);

        let stated = text("issuer").ok_or(MetadataFault::Member("issuer"))?;
        let issuer = bounds.issuers.judge(stated)?;
        let jwks_uri = text("jwks_uri").and_then(|uri| Url::parse(uri).ok()).ok_or(MetadataFault::Member("jwks_uri"))?;
        if !Origin::of(&jwks_uri).is_some_and(|origin| bounds.key_origins.contains(&origin)) {
            return Err(MetadataFault::KeysElsewhere(jwks_uri.host_str().unwrap_or_default().to_owned()));
        }
        Ok(Self { issuer, jwks_uri, cloud: text("cloud_instance_name").map(Into::into) })
    }
}

/// Returns the issuer and the key address in a discovery document, restricted to one host.
///
/// # Errors
/// Returns the fault of the document.
pub fn inspect_metadata(document: &[u8], host: &str) -> Result<(String, Url), String> {
    let origins = vec![Origin::https(host)];
    let issuers = IssuerBounds::Entra { origins: origins.clone(), tenant: None, template: false };
    let metadata = Metadata::read(document, &Bounds { key_origins: origins, issuers }).map_err(|error| error.to_string())?;
    Ok((metadata.issuer.of(super::issuer::PLACEHOLDER), metadata.jwks_uri))
}

impl IssuerBounds {
    fn judge(&self, stated: &str) -> Result<Issuer, MetadataFault> {
        let (origins, tenant, template) = match self {
            Self::Exactly(issuer) if **issuer == *stated => return Ok(Issuer::Literal(issuer.clone())),
            Self::Discovered(before) if *stated.trim_end_matches('/') == *before.trim_end_matches('/') => {
                return Ok(Issuer::Literal(stated.into()));
            }
            Self::Exactly(_) | Self::Discovered(_) => return Err(MetadataFault::IssuerElsewhere(stated.to_owned())),
            Self::Entra { origins, tenant, template } => (origins, tenant, *template),
        };
        let issuer = Issuer::read(stated).ok_or(MetadataFault::Member("issuer"))?;
        let other_tenant = || Err(MetadataFault::OtherTenant(stated.to_owned()));
        if template && !issuer.is_template() {
            return other_tenant();
        }
        // A template for a single tenant speaks of that tenant alone.
        let issuer = match (tenant, issuer) {
            (Some(tenant), issuer @ Issuer::Template(..)) => Issuer::Literal(issuer.of(tenant).into()),
            (_, issuer) => issuer,
        };
        if let (Some(tenant), Some(named)) = (tenant, issuer.tenant())
            && !named.eq_ignore_ascii_case(tenant)
        {
            return other_tenant();
        }
        // Where the tenant stays open, any GUID shows where the issuer lies.
        let example = issuer.of("00000000-0000-0000-0000-000000000000");
        let url = Url::parse(&example).map_err(|_| MetadataFault::Member("issuer"))?;
        let known = Origin::of(&url).is_some_and(|origin| origins.contains(&origin)) || is_external_id(&url, origins, &issuer);
        if known { Ok(issuer) } else { Err(MetadataFault::IssuerElsewhere(stated.to_owned())) }
    }
}

/// Returns whether this is Entra External ID: it is served at `{name}.ciamlogin.com` and issues as `{tenant}.ciamlogin.com`, with
/// the tenant in the path again.
fn is_external_id(url: &Url, origins: &[Origin], issuer: &Issuer) -> bool {
    const DOMAIN: &str = ".ciamlogin.com";
    let asked_there = origins.iter().any(|origin| &*origin.scheme == "https" && origin.host.ends_with(DOMAIN));
    let label = url.host_str().and_then(|host| host.strip_suffix(DOMAIN));
    asked_there
        && url.scheme() == "https"
        && url.port().is_none()
        && label.is_some_and(|label| is_guid(label) && issuer.tenant().is_some_and(|tenant| tenant.eq_ignore_ascii_case(label)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TENANT: &str = "0f0f0f0f-1111-4222-8333-444455556666";
    const OTHER: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

    fn bounds(host: &str, tenant: Option<&str>, template: bool) -> Bounds {
        Bounds {
            key_origins: vec![Origin::https(host)],
            issuers: IssuerBounds::Entra { origins: vec![Origin::https(host)], tenant: tenant.map(Into::into), template },
        }
    }

    fn read(bounds: &Bounds, issuer: &str, jwks_uri: &str) -> Result<Metadata, MetadataFault> {
        Metadata::read(json!({ "issuer": issuer, "jwks_uri": jwks_uri, "more": [1] }).to_string().as_bytes(), bounds)
    }

    #[test]
    fn believes_issuers_of_the_authority_and_the_tenant_alone() {
        let keys = "https://login.microsoftonline.com/x/discovery/v2.0/keys?appid=1";
        let own = bounds("login.microsoftonline.com", Some(TENANT), false);
        let domain = bounds("login.microsoftonline.com", None, false);
        let many = bounds("login.microsoftonline.com", None, true);
        for (row, bounds, issuer, fits) in [
            ("own", &own, format!("https://login.microsoftonline.com/{TENANT}/v2.0"), true),
            ("template, for one tenant", &own, "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(), true),
            ("another tenant", &own, format!("https://login.microsoftonline.com/{OTHER}/v2.0"), false),
            ("by domain", &domain, format!("https://login.microsoftonline.com/{OTHER}/v2.0"), true),
            ("many", &many, "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(), true),
            ("many, but one tenant is named", &many, format!("https://login.microsoftonline.com/{OTHER}/v2.0"), false),
            ("plain", &own, format!("http://login.microsoftonline.com/{TENANT}/v2.0"), false),
            ("elsewhere", &own, format!("https://login.evil.example/{TENANT}/v2.0"), false),
            ("suffix", &own, format!("https://login.microsoftonline.com.evil.example/{TENANT}/v2.0"), false),
            ("another port", &own, format!("https://login.microsoftonline.com:8443/{TENANT}/v2.0"), false),
            ("no URL", &own, "login".to_owned(), false),
        ] {
            assert_eq!(read(bounds, &issuer, keys).is_ok(), fits, "{row}");
        }
        let filled = read(&own, "https://login.microsoftonline.com/{tenantid}/v2.0", keys).unwrap();
        assert_eq!(filled.issuer, Issuer::Literal(format!("https://login.microsoftonline.com/{TENANT}/v2.0").into()));
        assert_eq!(filled.jwks_uri.query(), Some("appid=1"));
    }

    #[test]
    fn fetches_no_keys_from_elsewhere() {
        let own = bounds("login.microsoftonline.com", Some(TENANT), false);
        let issuer = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        for (uri, fits) in [
            ("https://login.microsoftonline.com/keys", true),
            ("http://login.microsoftonline.com/keys", false),
            ("https://login.microsoftonline.com:444/keys", false),
            ("https://evil.example/keys", false),
            ("https://login.microsoftonline.com@evil.example/keys", false),
            ("file:///etc/passwd", false),
            ("//login.microsoftonline.com/keys", false),
        ] {
            assert_eq!(read(&own, &issuer, uri).is_ok(), fits, "{uri}");
        }
    }

    #[test]
    fn knows_the_issuer_of_external_id() {
        let bounds = bounds("contoso.ciamlogin.com", Some(TENANT), false);
        let keys = "https://contoso.ciamlogin.com/keys";

        assert!(read(&bounds, &format!("https://{TENANT}.ciamlogin.com/{TENANT}/v2.0"), keys).is_ok());
        assert!(read(&bounds, &format!("https://{OTHER}.ciamlogin.com/{TENANT}/v2.0"), keys).is_err());
        assert!(read(&bounds, &format!("https://fabrikam.ciamlogin.com/{TENANT}/v2.0"), keys).is_err());
        assert!(read(&bounds, &format!("https://{TENANT}.fakeciamlogin.com/{TENANT}/v2.0"), keys).is_err());
    }

    #[test]
    fn refuses_documents_that_lack_or_repeat_a_member() {
        let bounds = bounds("login.microsoftonline.com", None, false);
        for text in ["{}", "[]", "<html>", r#"{"issuer":"https://login.microsoftonline.com/x"}"#, r#"{"issuer":1,"jwks_uri":2}"#]
        {
            assert!(Metadata::read(text.as_bytes(), &bounds).is_err(), "{text}");
        }
        let twice = r#"{"issuer":"https://login.microsoftonline.com/a","issuer":"https://login.microsoftonline.com/b","jwks_uri":"https://login.microsoftonline.com/k"}"#;
        assert!(Metadata::read(twice.as_bytes(), &bounds).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(issuer in "\\PC{0,60}", jwks in "\\PC{0,60}") {
            let _ = read(&bounds("login.microsoftonline.com", None, false), &issuer, &jwks);
            let _ = read(&bounds("contoso.ciamlogin.com", Some(TENANT), true), &issuer, &format!("https://{jwks}"));
        }
    }
}

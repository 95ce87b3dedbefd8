//! A tenant: its authority, its issuers, and the addresses of its documents.

use std::time::Duration;

use url::Url;

use super::{
    CloudConfig, TenantConfig,
    algorithm::Algorithm,
    issuer::{Issuer, PLACEHOLDER, is_guid},
    key_set::{Endpoint, Source},
    metadata::{Bounds, IssuerBounds, Origin},
    token::Version,
};
use crate::{
    identity_http::is_loopback,
    settings::{Faults, Place},
};

/// The address of Microsoft Graph, and the scope of tokens for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphAddress {
    /// `https://graph.microsoft.com`
    pub(crate) base: Url,
    /// `https://graph.microsoft.com/.default`
    pub(crate) scope: Box<str>,
}

/// The time for which the last good keys stay valid while new ones are unavailable.
pub(super) const STALE: Duration = Duration::from_secs(24 * 3_600);

/// The tenant of personal Microsoft accounts.
pub const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// An Entra tenant, or several under one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The name in the config.
    name: Box<str>,
    id: TenantId,
    cloud: CloudConfig,
    /// Scheme, host and path up to and including the tenant, without a trailing slash.
    base: Url,
    custom_authority: bool,
    /// True if the authority is a user flow of Azure AD B2C, whose path continues after the tenant.
    user_flow: bool,
    /// The address of Graph for its users.
    graph: GraphAddress,
    stale: Duration,
    required: bool,
}

/// A stand-in for a tenant that the config names by domain, where its GUID cannot be looked up.
pub const UNKNOWN_TENANT: &str = "00000000-0000-0000-0000-000000000000";

/// The tenant, or tenants, of a config entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantId {
    /// One tenant, by its GUID, in lower case.
    Guid(Box<str>),
    /// One tenant, by domain; its GUID comes from the metadata.
    Domain(Box<str>),
    /// Every organization's tenant.
    Organizations,
    /// Every organization's tenant, and personal accounts if they are listed.
    Common,
}

impl TenantId {
    fn read(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "organizations" => Some(Self::Organizations),
            "common" => Some(Self::Common),
            guid if is_guid(guid) => Some(Self::Guid(guid.into())),
            domain if is_domain(domain) => Some(Self::Domain(domain.into())),
            _ => None,
        }
    }

    /// Returns the segment in URLs.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Guid(text) | Self::Domain(text) => text,
            Self::Organizations => "organizations",
            Self::Common => "common",
        }
    }

    /// Returns whether it stands for several tenants.
    pub const fn is_many(&self) -> bool {
        matches!(self, Self::Organizations | Self::Common)
    }
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// The hosts of a cloud.
struct Cloud {
    login: &'static str,
    /// Other names of the login host, which may serve keys.
    aliases: &'static [&'static str],
    /// The host of version 1 issuers. Where Microsoft's documents are silent, any of these is accepted if the metadata names it.
    tokens: &'static [&'static str],
    /// The address of Microsoft Graph.
    graph: &'static str,
}

impl CloudConfig {
    const fn hosts(self) -> Cloud {
        match self {
            Self::Public => Cloud {
                login: "login.microsoftonline.com",
                aliases: &["login.windows.net", "login.microsoft.com", "sts.windows.net"],
                tokens: &["sts.windows.net"],
                graph: "graph.microsoft.com",
            },
            Self::UsGovernment => Cloud {
                login: "login.microsoftonline.us",
                aliases: &["login.usgovcloudapi.net"],
                tokens: &["sts.windows.net"],
                graph: "graph.microsoft.us",
            },
            Self::China => Cloud {
                login: "login.partner.microsoftonline.cn",
                aliases: &["login.chinacloudapi.cn"],
                tokens: &["sts.chinacloudapi.cn"],
                graph: "microsoftgraph.chinacloudapi.cn",
            },
        }
    }
}

impl Tenant {
    /// Reads the settings of one tenant.
    pub(super) fn build(name: &str, config: &TenantConfig, place: &Place, faults: &mut Faults) -> Option<Self> {
        let id = TenantId::read(&config.id);
        if id.is_none() {
            let cure = if config.id.eq_ignore_ascii_case("consumers") {
                format!("write {PERSONAL_ACCOUNTS} if personal Microsoft accounts are meant")
            } else if let Some(id) = config.id.split('/').find(|part| TenantId::read(part).is_some_and(|_| is_guid(part))) {
                format!("write `{id}`")
            } else {
                "write a GUID, a verified domain, `organizations` or `common`".to_owned()
            };
            faults.error(&place.key("id"), format!("`{}` is no tenant", config.id), cure);
        }
        let authority = match &config.authority {
            None => Url::parse(&format!("https://{}", config.cloud.hosts().login)).ok(),
            Some(text) => authority(text, &place.key("authority"), faults),
        };
        let graph = authority.as_ref().and_then(|authority| graph(config, authority, place, faults));
        let (id, mut base, graph) = (id?, authority?, graph?);

        let path = base.path().trim_end_matches('/').to_owned();
        let names_tenant = path.split('/').any(|segment| segment.eq_ignore_ascii_case(id.as_str()));
        // Nothing else of Entra's has a segment there: https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_signin.
        let is_flow = path.split('/').any(|segment| segment.to_ascii_lowercase().starts_with("b2c_1"));
        if is_flow && !names_tenant {
            let named = path.split('/').find(|segment| !segment.is_empty()).unwrap_or_default();
            let message = format!("the authority is of a user flow of `{named}`, and `id` is `{}`", id.as_str());
            faults.error(&place.key("authority"), message, format!("write `id: {named}`, as the authority names the tenant"));
            return None;
        }
        let user_flow = names_tenant && !path.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(id.as_str()));
        let path = if names_tenant { path } else { format!("{path}/{}", id.as_str()) };
        base.set_path(&path);
        Some(Self {
            name: name.into(),
            id,
            cloud: config.cloud,
            base,
            custom_authority: config.authority.is_some(),
            user_flow,
            graph,
            stale: config.stale.map_or(STALE, |span| span.0),
            required: config.required.unwrap_or(true),
        })
    }

    /// Returns the name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tenant or tenants.
    pub const fn id(&self) -> &TenantId {
        &self.id
    }

    /// Returns the cloud of the tenant.
    pub const fn cloud(&self) -> CloudConfig {
        self.cloud
    }

    /// Returns whether the tenant has an authority other than the cloud's.
    pub const fn has_own_authority(&self) -> bool {
        self.custom_authority
    }

    /// Returns whether readiness requires its keys, if a route accepts its tokens.
    pub const fn is_required(&self) -> bool {
        self.required
    }

    /// Returns the address of Graph for the tenant's users.
    pub const fn graph(&self) -> &GraphAddress {
        &self.graph
    }

    /// Returns the authority's URL up to and with the tenant: `https://login.microsoftonline.com/{tenant}`.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// Returns a URL below the tenant's, such as `oauth2/v2.0/token`.
    pub fn below(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Returns the issuer of version 1 tokens of the tenant with this GUID, as far as it is known in advance.
    pub fn issuer_v1(&self, guid: &str) -> String {
        if self.custom_authority {
            format!("{}/{guid}/", self.root())
        } else {
            format!("https://{}/{guid}/", self.cloud.hosts().tokens[0])
        }
    }

    /// Returns the issuer of version 2 tokens of the tenant with this GUID, as far as it is known in advance.
    pub fn issuer_v2(&self, guid: &str) -> String {
        format!("{}/{guid}/v2.0", self.root())
    }

    /// Returns the authority without the tenant.
    fn root(&self) -> &str {
        let base = self.base.as_str().trim_end_matches('/');
        base.strip_suffix(self.id.as_str()).map_or(base, |root| root.trim_end_matches('/'))
    }

    /// Returns the source of the keys for this tenant's tokens; with `application`, of that application's own keys.
    pub(super) fn source(&self, application: Option<&str>) -> Source {
        let cloud = self.cloud.hosts();
        let own = Origin::of(&self.base);
        let (key_origins, issuer_origins) = if self.custom_authority {
            // External ID issues as `{tenant}.ciamlogin.com` under whatever domain it is served, a domain of one's own as well.
            let issues_as = match &self.id {
                TenantId::Guid(guid) if self.base.scheme() == "https" => Some(Origin::https(&format!("{guid}.ciamlogin.com"))),
                _ => None,
            };
            let origins: Vec<_> = own.into_iter().chain(issues_as).collect();
            (origins.clone(), origins)
        } else {
            let named = |names: &'static [&'static str]| names.iter().map(|name| Origin::https(name));
            let keys: Vec<_> = [Origin::https(cloud.login)].into_iter().chain(named(cloud.aliases)).collect();
            (keys, [Origin::https(cloud.login)].into_iter().chain(named(cloud.tokens)).collect::<Vec<_>>())
        };
        let tenant = match &self.id {
            TenantId::Guid(guid) => Some(guid.clone()),
            TenantId::Domain(_) | TenantId::Organizations | TenantId::Common => None,
        };
        let bounds = Bounds {
            key_origins,
            issuers: IssuerBounds::Entra { origins: issuer_origins, tenant: tenant.clone(), template: self.id.is_many() },
        };
        let guid = tenant.as_deref().unwrap_or(if self.id.is_many() { PLACEHOLDER } else { UNKNOWN_TENANT });
        let endpoint = |version, path, issuer: &str| {
            let mut metadata = self.below(path);
            if let Some(application) = application {
                metadata.query_pairs_mut().append_pair("appid", application);
            }
            let assumed_issuer = Issuer::read(issuer).unwrap_or_else(|| Issuer::Literal(issuer.into()));
            Endpoint { version, metadata, bounds: bounds.clone(), assumed_issuer }
        };
        let mut endpoints = vec![endpoint(Version::V2, "v2.0/.well-known/openid-configuration", &self.issuer_v2(guid))];
        // User flows have one document, whatever their tokens say of their version.
        if !self.user_flow {
            endpoints.push(endpoint(Version::V1, ".well-known/openid-configuration", &self.issuer_v1(guid)));
        }
        Source {
            endpoints,
            user_flow: self.user_flow,
            algorithms: Algorithm::ENTRA,
            tenant,
            many_tenants: self.id.is_many(),
            application: application.map(Into::into),
            stale: self.stale,
            quiet: false,
        }
    }
}

/// Returns the address of Graph for a tenant, and the scope of tokens for it; `None` if the tenant's settings cannot be used.
pub fn graph_address(config: &TenantConfig) -> Option<GraphAddress> {
    Tenant::build("", config, &Place::root(), &mut Faults::default()).map(|tenant| tenant.graph)
}

/// Returns the base URL of Graph: the cloud's, the configured one, or the authority itself if that is on this machine.
fn graph(config: &TenantConfig, authority: &Url, place: &Place, faults: &mut Faults) -> Option<GraphAddress> {
    let of_cloud = Url::parse(&format!("https://{}", config.cloud.hosts().graph)).ok()?;
    let base = match &config.graph {
        Some(text) => self::authority(text, &place.key("graph"), faults)?,
        None if config.authority.is_some() && is_loopback(authority) => authority.join("/").ok()?,
        None => of_cloud.clone(),
    };
    // What plays Graph on this machine takes the tokens that are meant for the cloud's.
    let resource = if is_loopback(&base) { &of_cloud } else { &base };
    let scope = format!("{}/.default", resource.origin().ascii_serialization()).into();
    Some(GraphAddress { base, scope })
}

fn authority(text: &str, place: &Place, faults: &mut Faults) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| {
        url.has_host()
            && matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let Some(url) = url else {
        faults.error(
            place,
            format!("`{text}` is not an authority"),
            "write it as https://contoso.ciamlogin.com, without a query",
        );
        return None;
    };
    if url.scheme() == "http" && !is_loopback(&url) {
        let cure = "write https; http is for an authority on this machine alone";
        faults.error(place, format!("keys from `{text}` could be anybody's: the connection is not protected"), cure);
        return None;
    }
    let path = url.path().trim_end_matches('/');
    if let Some(short) = ["/.well-known/openid-configuration", "/v2.0"].iter().find_map(|end| path.strip_suffix(end)) {
        let mut authority = url.clone();
        authority.set_path(short.strip_suffix("/v2.0").unwrap_or(short));
        let cure = format!("write `{}`: versions and documents are found below it", authority.as_str().trim_end_matches('/'));
        faults.error(place, format!("`{text}` is an address below the authority, and not the authority itself"), cure);
        return None;
    }
    Some(url)
}

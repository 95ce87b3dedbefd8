//! The platform that the gateway runs on: where it hands out the tokens of managed identities.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use url::Url;

use super::ManagedIdentitySource;
use crate::certificate::Thumbprint;

/// The folder in which Azure Arc's agent leaves its challenges, and the only one that they are read from.
pub(super) const ARC_FOLDER: &str =
    if cfg!(windows) { r"C:\ProgramData\AzureConnectedMachineAgent\Tokens" } else { "/var/opt/azcmagent/tokens" };
/// The path of the agent, which exists on managed machines.
const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";
/// The default address of the agent.
pub(super) const ARC_ENDPOINT: &str = "http://localhost:40342/metadata/identity/oauth2/token";

/// The platform's token endpoint.
#[derive(Debug)]
pub(crate) enum Platform {
    /// Virtual machines, scale sets, Kubernetes nodes.
    Imds(Url),
    /// App Service, Functions, Container Apps.
    AppService(Url, SecretString),
    /// The 2017 version of the same, which some plans still have.
    AppService2017(Url, SecretString),
    /// Machines that Azure Arc manages.
    Arc(Url, PathBuf),
    /// Service Fabric clusters, whose endpoint has a certificate that only its thumbprint vouches for.
    ServiceFabric {
        /// The endpoint.
        url: Url,
        /// The content of the `Secret` header.
        secret: SecretString,
        /// SHA-1 of the endpoint's certificate.
        thumbprint: [u8; 20],
    },
}

/// The reason why the platform's endpoint is unknown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NoPlatform {
    /// A variable that the source needs is missing from the environment.
    #[error("the environment has no {0}")]
    Lacks(&'static str),
    /// A variable is not a URL.
    #[error("{0} is not a URL")]
    NoUrl(&'static str),
    /// A variable is a URL without TLS.
    #[error("{0} is not an https URL")]
    NotHttps(&'static str),
    /// The thumbprint cannot be read.
    #[error("IDENTITY_SERVER_THUMBPRINT is not a SHA-1 thumbprint of 40 hexadecimal digits")]
    NoThumbprint,
}

impl Platform {
    /// Detects the platform from the environment; `auto` looks in the same order as Microsoft's clients.
    pub(crate) fn detect(
        source: ManagedIdentitySource,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, NoPlatform> {
        let get = |name: &str| environment(name).filter(|value| !value.is_empty());
        let url = |name: &'static str| {
            let text = get(name).ok_or(NoPlatform::Lacks(name))?;
            Url::parse(&text).ok().filter(|url| url.has_host()).ok_or(NoPlatform::NoUrl(name))
        };
        let secret = |name: &'static str| get(name).map(SecretString::from).ok_or(NoPlatform::Lacks(name));
        match source {
            ManagedIdentitySource::Auto if get("IDENTITY_SERVER_THUMBPRINT").is_some() => {
                Self::detect(ManagedIdentitySource::ServiceFabric, environment)
            }
            ManagedIdentitySource::Auto if get("IDENTITY_ENDPOINT").is_some() && get("IDENTITY_HEADER").is_some() => {
                Self::detect(ManagedIdentitySource::AppService, environment)
            }
            ManagedIdentitySource::Auto if get("IDENTITY_ENDPOINT").is_some() && get("IMDS_ENDPOINT").is_some() => {
                Self::detect(ManagedIdentitySource::Arc, environment)
            }
            ManagedIdentitySource::Auto if get("MSI_ENDPOINT").is_some() && get("MSI_SECRET").is_some() => {
                Self::detect(ManagedIdentitySource::AppService, environment)
            }
            // Half of a platform's variables would lead to another platform's endpoint, and so to another identity.
            ManagedIdentitySource::Auto if get("IDENTITY_ENDPOINT").is_some() => {
                Err(NoPlatform::Lacks("IDENTITY_HEADER or IMDS_ENDPOINT beside its IDENTITY_ENDPOINT"))
            }
            ManagedIdentitySource::Auto if get("MSI_ENDPOINT").is_some() => {
                Err(NoPlatform::Lacks("MSI_SECRET beside its MSI_ENDPOINT"))
            }
            // A service that is started by itself has no variables; the agent is there all the same.
            ManagedIdentitySource::Auto if Path::new(ARC_AGENT).exists() => Self::detect(ManagedIdentitySource::Arc, environment),
            ManagedIdentitySource::Auto => Self::detect(ManagedIdentitySource::Imds, environment),
            ManagedIdentitySource::AppService if get("IDENTITY_ENDPOINT").is_none() && get("MSI_ENDPOINT").is_some() => {
                Ok(Self::AppService2017(url("MSI_ENDPOINT")?, secret("MSI_SECRET")?))
            }
            ManagedIdentitySource::AppService => Ok(Self::AppService(url("IDENTITY_ENDPOINT")?, secret("IDENTITY_HEADER")?)),
            ManagedIdentitySource::Arc if get("IDENTITY_ENDPOINT").is_none() => {
                let url = Url::parse(ARC_ENDPOINT).map_err(|_| NoPlatform::NoUrl("the agent's endpoint"))?;
                Ok(Self::Arc(url, ARC_FOLDER.into()))
            }
            ManagedIdentitySource::Arc => Ok(Self::Arc(url("IDENTITY_ENDPOINT")?, ARC_FOLDER.into())),
            ManagedIdentitySource::ServiceFabric => {
                let url = url("IDENTITY_ENDPOINT")?;
                if url.scheme() != "https" {
                    return Err(NoPlatform::NotHttps("IDENTITY_ENDPOINT"));
                }
                let text = get("IDENTITY_SERVER_THUMBPRINT").ok_or(NoPlatform::Lacks("IDENTITY_SERVER_THUMBPRINT"))?;
                let Ok(Thumbprint::Sha1(thumbprint)) = Thumbprint::parse(&text) else { return Err(NoPlatform::NoThumbprint) };
                Ok(Self::ServiceFabric { url, secret: secret("IDENTITY_HEADER")?, thumbprint })
            }
            ManagedIdentitySource::Imds => {
                let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
                let mut base = if get(name).is_some() {
                    url(name)?
                } else {
                    Url::parse("http://169.254.169.254").map_err(|_| NoPlatform::NoUrl("the metadata service"))?
                };
                base.set_path("/metadata/identity/oauth2/token");
                Ok(Self::Imds(base))
            }
        }
    }

    /// Returns the platform's name in settings.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Imds(_) => "imds",
            Self::AppService(..) | Self::AppService2017(..) => "app-service",
            Self::Arc(..) => "arc",
            Self::ServiceFabric { .. } => "service-fabric",
        }
    }

    pub(super) fn endpoint(&self) -> &Url {
        match self {
            Self::Imds(url)
            | Self::AppService(url, _)
            | Self::AppService2017(url, _)
            | Self::Arc(url, _)
            | Self::ServiceFabric { url, .. } => url,
        }
    }

    pub(super) const fn api_version(&self) -> &'static str {
        match self {
            Self::Imds(_) => "2018-02-01",
            Self::AppService(..) => "2019-08-01",
            Self::AppService2017(..) => "2017-09-01",
            Self::Arc(..) => "2020-06-01",
            Self::ServiceFabric { .. } => "2019-07-01-preview",
        }
    }
}

/// Writes the platform as operators know it: `imds at 169.254.169.254`.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name(), self.endpoint().host_str().unwrap_or_default())
    }
}

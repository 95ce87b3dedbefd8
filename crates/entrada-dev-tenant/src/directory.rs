//! The content of the development tenant: tenants, users and app registrations.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A tenant of the directory.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The tenant id, a GUID.
    pub id: String,
    /// A short name, for people and for tests.
    pub name: String,
    /// Its verified domains.
    #[serde(default)]
    pub domains: BTreeSet<String>,
}

/// A user.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The part of the principal name before the `@`.
    pub name: String,
    /// The tenant, by id or name. Default: the first tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The object id; derived from the name if absent.
    #[serde(default)]
    pub object_id: Option<String>,
    /// The display name.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Attributes that claims can be mapped from, in Entra's lower-case spelling (`onpremisessamaccountname`, `employeeid`, …).
    /// An attribute that is absent here is absent in tokens too: a cloud-only user has no account name.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// Object ids of the user's groups.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

impl User {
    /// Makes a user of the first tenant with only a name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tenant: None,
            object_id: None,
            display_name: None,
            attributes: BTreeMap::new(),
            groups: BTreeSet::new(),
        }
    }

    /// Adds an attribute to the user.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the user to a group.
    #[must_use]
    pub fn group(mut self, id: &str) -> Self {
        self.groups.insert(id.to_owned());
        self
    }

    /// Sets the display name.
    #[must_use]
    pub fn named(mut self, display_name: &str) -> Self {
        self.display_name = Some(display_name.to_owned());
        self
    }
}

/// An app registration, with its service principals.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The application (client) id, a GUID.
    pub client_id: String,
    /// The display name.
    #[serde(default)]
    pub name: String,
    /// The home tenant, by id or name. Default: the first tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Other tenants, by id or name, whose administrators consented; `*` for all. An app with an entry here, or with `multi_tenant`, is multi-tenant.
    #[serde(default)]
    pub consented: BTreeSet<String>,
    /// True if other tenants may consent at all.
    #[serde(default)]
    pub multi_tenant: bool,
    /// The App ID URIs under which clients request tokens for it.
    #[serde(default)]
    pub identifier_uris: BTreeSet<String>,
    /// `api.requestedAccessTokenVersion` of the manifest: the version of *its* access tokens, whatever endpoint is called.
    /// Default: 2.
    #[serde(default = "two")]
    pub token_version: u8,
    /// The certificates of the app: standard base64 of the DER, or PEM.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Client secrets.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// The expiry of the client secrets, in seconds since 1970. Default: far in the future.
    #[serde(default)]
    pub secrets_end: Option<u64>,
    /// The redirect URIs of a sign-in.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// True if the implicit grant is enabled.
    #[serde(default)]
    pub implicit_grant: bool,
    /// True if public client flows are allowed.
    #[serde(default)]
    pub public_client: bool,
    /// The issuers whose tokens the app trusts in place of its own credentials.
    #[serde(default)]
    pub federated: Vec<FederatedCredential>,
    /// The app roles granted to it on other apps: resource (client id or URI) to role names.
    #[serde(default)]
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// The delegated permissions consented to for it: resource (client id or URI) to scope names.
    #[serde(default)]
    pub delegated: BTreeMap<String, BTreeSet<String>>,
    /// Optional claims of its access tokens (`idtyp`, `use_guid`).
    #[serde(default)]
    pub optional_claims: BTreeSet<String>,
    /// The claims-mapping policy of the app: claim to user attribute.
    #[serde(default)]
    pub claims_mapping: BTreeMap<String, String>,
    /// `acceptMappedClaims` of the manifest.
    #[serde(default)]
    pub accept_mapped_claims: bool,
    /// True if the app has its own signing key, published only with `?appid=`.
    #[serde(default)]
    pub custom_signing_key: bool,
    /// `groupMembershipClaims` of the manifest: users' tokens for it list their groups, up to 200 of them.
    #[serde(default)]
    pub group_claims: bool,
    /// True if only clients with a role get tokens for it.
    #[serde(default)]
    pub assignment_required: bool,
    /// True if an administrator disabled it.
    #[serde(default)]
    pub disabled: bool,
}

const fn two() -> u8 {
    2
}

/// A federated identity credential: tokens of `issuer` about `subject` count as the app's own.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FederatedCredential {
    /// The issuer; one that this tenant simulates.
    pub issuer: String,
    /// The exact subject, case-sensitive.
    pub subject: String,
    /// The exact audience.
    #[serde(default = "exchange")]
    pub audience: String,
}

fn exchange() -> String {
    TOKEN_EXCHANGE.to_owned()
}

/// Stands among the consenting tenants for all of them, as for Microsoft's own services.
pub const EVERY_TENANT: &str = "*";

/// The audience of federated credentials.
pub const TOKEN_EXCHANGE: &str = "api://AzureADTokenExchange";

impl App {
    /// Makes a registration in the first tenant with only an id.
    pub fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_ascii_lowercase(),
            name: String::new(),
            tenant: None,
            consented: BTreeSet::new(),
            multi_tenant: false,
            identifier_uris: BTreeSet::new(),
            token_version: 2,
            certificates: Vec::new(),
            secrets: Vec::new(),
            secrets_end: None,
            redirect_uris: Vec::new(),
            implicit_grant: false,
            public_client: false,
            federated: Vec::new(),
            roles: BTreeMap::new(),
            delegated: BTreeMap::new(),
            optional_claims: BTreeSet::new(),
            claims_mapping: BTreeMap::new(),
            accept_mapped_claims: false,
            custom_signing_key: false,
            group_claims: false,
            assignment_required: false,
            disabled: false,
        }
    }

    /// Sets the display name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Registers it in this tenant, by id or name.
    #[must_use]
    pub fn in_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Adds the consent of another tenant's administrator.
    #[must_use]
    pub fn consented_by(mut self, tenant: &str) -> Self {
        self.multi_tenant = true;
        self.consented.insert(tenant.to_owned());
        self
    }

    /// Adds an App ID URI.
    #[must_use]
    pub fn uri(mut self, uri: &str) -> Self {
        self.identifier_uris.insert(uri.to_owned());
        self
    }

    /// Asks for access tokens of version 1.
    #[must_use]
    pub const fn v1(mut self) -> Self {
        self.token_version = 1;
        self
    }

    /// Uploads a certificate, PEM text.
    #[must_use]
    pub fn certificate_pem(mut self, pem: &str) -> Self {
        self.certificates.push(pem.to_owned());
        self
    }

    /// Uploads a certificate, DER.
    #[must_use]
    pub fn certificate_der(mut self, der: &[u8]) -> Self {
        self.certificates.push(STANDARD.encode(der));
        self
    }

    /// Adds a client secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// Sets the expiry of its client secrets, in seconds since 1970.
    #[must_use]
    pub const fn secrets_end_at(mut self, end: u64) -> Self {
        self.secrets_end = Some(end);
        self
    }

    /// Adds a redirect URI.
    #[must_use]
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }

    /// Enables the implicit grant.
    #[must_use]
    pub const fn implicit_grant(mut self) -> Self {
        self.implicit_grant = true;
        self
    }

    /// Trusts an issuer's tokens about a subject.
    #[must_use]
    pub fn federated(mut self, issuer: &str, subject: &str) -> Self {
        self.federated.push(FederatedCredential { issuer: issuer.to_owned(), subject: subject.to_owned(), audience: exchange() });
        self
    }

    /// Grants roles on a resource to this app.
    #[must_use]
    pub fn granted<I: IntoIterator<Item: Into<String>>>(mut self, resource: &str, roles: I) -> Self {
        self.roles.entry(resource.to_owned()).or_default().extend(roles.into_iter().map(Into::into));
        self
    }

    /// Consents to delegated permissions on a resource for this app.
    #[must_use]
    pub fn delegated<I: IntoIterator<Item: Into<String>>>(mut self, resource: &str, scopes: I) -> Self {
        self.delegated.entry(resource.to_owned()).or_default().extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Adds an optional claim to its access tokens.
    #[must_use]
    pub fn optional_claim(mut self, name: &str) -> Self {
        self.optional_claims.insert(name.to_owned());
        self
    }

    /// Maps a user's attribute to a claim of its access tokens.
    #[must_use]
    pub fn mapped_claim(mut self, claim: &str, attribute: &str) -> Self {
        self.claims_mapping.insert(claim.to_owned(), attribute.to_owned());
        self
    }

    /// Sets `acceptMappedClaims`: the tenant's own keys may sign mapped claims.
    #[must_use]
    pub const fn accepts_mapped_claims(mut self) -> Self {
        self.accept_mapped_claims = true;
        self
    }

    /// Adds a signing key of the app's own.
    #[must_use]
    pub const fn own_signing_key(mut self) -> Self {
        self.custom_signing_key = true;
        self
    }

    /// Lists users' groups in their tokens.
    #[must_use]
    pub const fn lists_groups(mut self) -> Self {
        self.group_claims = true;
        self
    }

    /// Issues tokens for it only to clients with a role.
    #[must_use]
    pub const fn assignment_required(mut self) -> Self {
        self.assignment_required = true;
        self
    }

    /// Returns whether a resource text means this app: its client id, or one of its URIs. Entra also issues tokens for a URI with
    /// one trailing slash.
    pub(crate) fn is_resource(&self, resource: &str) -> bool {
        resource.eq_ignore_ascii_case(&self.client_id)
            || resource.eq_ignore_ascii_case(&format!("api://{}", self.client_id))
            || self.identifier_uris.iter().any(|uri| resource == uri || resource.strip_suffix('/') == Some(uri))
    }

    /// Returns the entry of a map by resource.
    pub(crate) fn of_resource<'a, T>(&self, map: &'a BTreeMap<String, T>) -> Option<&'a T> {
        map.iter().find(|(resource, _)| self.is_resource(resource)).map(|(_, value)| value)
    }
}

/// Returns the default id for a name: the same name has the same id, in every process.
pub(crate) fn id_of(kind: &str, name: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{kind}:{name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// All registrations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    /// At least one; the first is the default.
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) users: Vec<User>,
    pub(crate) apps: Vec<App>,
}

impl Directory {
    /// Returns the tenant of an id, a verified domain or a short name.
    pub(crate) fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| {
            tenant.id.eq_ignore_ascii_case(name) || tenant.name == name || tenant.domains.contains(&name.to_ascii_lowercase())
        })
    }

    /// Returns the id of the tenant that a registration names, or of the first one.
    pub(crate) fn home(&self, name: Option<&str>) -> String {
        let tenant = name.map_or_else(|| self.tenants.first(), |name| self.tenant(name));
        match (tenant, name) {
            (Some(tenant), _) => tenant.id.clone(),
            (None, name) => name.unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn app(&self, client_id: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.client_id.eq_ignore_ascii_case(client_id))
    }

    pub(crate) fn resource(&self, resource: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.is_resource(resource))
    }

    /// Returns the user by name in a tenant, by object id, or by principal name; an unregistered user has only a name.
    pub(crate) fn user(&self, name: &str, tenant: &str) -> User {
        let short = name.split('@').next().unwrap_or(name);
        self.users
            .iter()
            .find(|user| {
                self.home(user.tenant.as_deref()) == tenant
                    && (user.name == short || user.object_id.as_deref().is_some_and(|id| id.eq_ignore_ascii_case(name)))
            })
            .cloned()
            .unwrap_or_else(|| User::new(short))
    }

    pub(crate) fn object_id(user: &User) -> String {
        user.object_id.clone().unwrap_or_else(|| id_of("user", &user.name))
    }

    /// Returns whether an app has a service principal in a tenant.
    pub(crate) fn is_in(&self, app: &App, tenant: &str) -> bool {
        self.home(app.tenant.as_deref()) == tenant
            || app.consented.iter().any(|name| name == EVERY_TENANT || self.home(Some(name)) == tenant)
    }

    pub(crate) fn put_app(&mut self, app: App) {
        self.apps.retain(|other| other.client_id != app.client_id);
        self.apps.push(app);
    }

    pub(crate) fn put_user(&mut self, user: User) {
        self.users.retain(|other| other.name != user.name || other.tenant != user.tenant);
        self.users.push(user);
    }
}

/// Returns a fresh id.
pub(crate) fn new_id() -> String {
    Uuid::new_v4().to_string()
}

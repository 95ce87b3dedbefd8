//! Tokens of any shape: faithful ones by default, and every defect that a test may need.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};

use super::{
    State,
    directory::{App, Directory, User, id_of},
    keys::{KeyError, SigningKey},
};

/// The signer of a token.
#[derive(Clone, Debug, Default)]
enum Signer {
    /// The tenant's own key.
    #[default]
    Tenant,
    /// Another key under the tenant's key id.
    Wrong,
    /// An unpublished key with its own id.
    Unknown,
    /// The key that signs for personal accounts only.
    Personal,
    /// The custom key of an application.
    App(String),
    /// A key supplied by the caller.
    Given(Arc<SigningKey>),
}

/// The method by which a client has authenticated to the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// None: a public client.
    None,
    /// A client secret.
    Secret,
    /// A certificate, or a federated credential.
    Certificate,
}

/// The subject of a token.
#[derive(Clone, Debug)]
enum Subject {
    User(String),
    App,
}

/// A token under construction; [`sign`](Self::sign) completes it. By default it is a version 2 access token of the user `nia`,
/// issued to a public client, valid for an hour.
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenBuilder {
    state: Arc<State>,
    tenant: Option<String>,
    subject: Subject,
    client: String,
    credential: Option<ClientAuthentication>,
    audience: Option<String>,
    version: Option<u8>,
    scopes: Option<Vec<String>>,
    roles: Vec<String>,
    /// The time of issue, in seconds from now.
    issued: i64,
    /// The expiry, in seconds from now.
    expires: i64,
    id_token: bool,
    claims: Vec<(String, Value)>,
    without: Vec<String>,
    header: Vec<(String, Value)>,
    headerless: Vec<String>,
    algorithm: String,
    signer: Signer,
    payload: Option<String>,
    header_text: Option<String>,
}

/// The client of tokens that name none.
pub const DEFAULT_CLIENT: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
/// The audience of tokens that name none: the orders API.
pub const DEFAULT_AUDIENCE: &str = "33334444-dddd-5555-eeee-6666ffff7777";
/// The tenant of personal Microsoft accounts.
pub const PERSONAL_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

impl TokenBuilder {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            tenant: None,
            subject: Subject::User("nia".to_owned()),
            client: DEFAULT_CLIENT.to_owned(),
            credential: None,
            audience: None,
            version: None,
            scopes: None,
            roles: Vec::new(),
            issued: 0,
            expires: 3_600,
            id_token: false,
            claims: Vec::new(),
            without: Vec::new(),
            header: Vec::new(),
            headerless: Vec::new(),
            algorithm: "RS256".to_owned(),
            signer: Signer::Tenant,
            payload: None,
            header_text: None,
        }
    }

    /// Sets the tenant, by id, domain or name; an unregistered one is taken as an id. Default: the first tenant.
    pub fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Makes a user's token. The attributes of a registered user follow the claims mapping of the audience.
    pub fn user(mut self, name: &str) -> Self {
        self.subject = Subject::User(name.to_owned());
        self
    }

    /// Makes an application's own token; the application is the client, authenticated by certificate unless set otherwise.
    pub fn app(mut self, client_id: &str) -> Self {
        self.subject = Subject::App;
        client_id.clone_into(&mut self.client);
        self
    }

    /// Sets the client that a user's token was issued to.
    pub fn client(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client);
        self
    }

    /// Sets the client's authentication: `azpacr` or `appidacr`.
    pub const fn client_credential(mut self, kind: ClientAuthentication) -> Self {
        self.credential = Some(kind);
        self
    }

    /// Sets `aud`.
    pub fn audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.to_owned());
        self
    }

    /// Sets the scopes: `scp`, in one text.
    pub fn scopes<I: IntoIterator<Item: Into<String>>>(mut self, scopes: I) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the roles.
    pub fn roles<I: IntoIterator<Item: Into<String>>>(mut self, roles: I) -> Self {
        self.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Makes a token of version 1. Default: the version in the audience's registration, else version 2.
    pub const fn v1(mut self) -> Self {
        self.version = Some(1);
        self
    }

    /// Makes a token of version 2.
    pub const fn v2(mut self) -> Self {
        self.version = Some(2);
        self
    }

    /// Makes a token that expired an hour ago.
    pub const fn expired(mut self) -> Self {
        self.issued = -7_200;
        self.expires = -3_600;
        self
    }

    /// Makes a token that becomes valid in an hour.
    pub const fn not_yet_valid(mut self) -> Self {
        self.issued = 3_600;
        self.expires = 7_200;
        self
    }

    /// Sets the time of issue (`iat`, `nbf`), in seconds from now.
    pub const fn issued_in(mut self, seconds: i64) -> Self {
        self.issued = seconds;
        self
    }

    /// Sets the expiry (`exp`), in seconds from now.
    pub const fn expires_in(mut self, seconds: i64) -> Self {
        self.expires = seconds;
        self
    }

    /// Makes an ID token instead of an access token.
    pub const fn id_token(mut self) -> Self {
        self.id_token = true;
        self
    }

    /// Sets a claim, or replaces one.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.push((name.to_owned(), value.into()));
        self
    }

    /// Removes a claim.
    pub fn without(mut self, name: &str) -> Self {
        self.without.push(name.to_owned());
        self
    }

    /// Sets a member of the header, or replaces one.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.push((name.to_owned(), value.into()));
        self
    }

    /// Removes a member of the header.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headerless.push(name.to_owned());
        self
    }

    /// Removes the key id.
    pub fn without_kid(self) -> Self {
        self.without_header("kid").without_header("x5t")
    }

    /// Signs with another algorithm: RS256 (default), RS384, RS512, PS256, PS384, PS512, `none`, or HS256 with the public key as the secret.
    pub fn algorithm(mut self, name: &str) -> Self {
        name.clone_into(&mut self.algorithm);
        self
    }

    /// Names the tenant's key id, but signs with another key.
    pub fn wrong_key(mut self) -> Self {
        self.signer = Signer::Wrong;
        self
    }

    /// Signs with an unpublished key.
    pub fn unknown_key(mut self) -> Self {
        self.signer = Signer::Unknown;
        self
    }

    /// Signs with the key for personal accounts only.
    pub fn personal_key(mut self) -> Self {
        self.signer = Signer::Personal;
        self
    }

    /// Signs with the custom key of an application.
    pub fn app_key(mut self, client_id: &str) -> Self {
        self.signer = Signer::App(client_id.to_owned());
        self
    }

    /// Signs with a given key.
    pub fn key(mut self, key: Arc<SigningKey>) -> Self {
        self.signer = Signer::Given(key);
        self
    }

    /// Signs this text as the payload, unchecked.
    pub fn payload_text(mut self, text: &str) -> Self {
        self.payload = Some(text.to_owned());
        self
    }

    /// Signs this text as the header, unchecked.
    pub fn header_text(mut self, text: &str) -> Self {
        self.header_text = Some(text.to_owned());
        self
    }

    /// Returns the token, in compact form.
    ///
    /// # Panics
    ///
    /// Panics if the algorithm is unknown or no key can be made; [`try_sign`](Self::try_sign) returns an error instead.
    pub fn sign(self) -> String {
        match self.try_sign() {
            Ok(token) => token,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the token, in compact form.
    ///
    /// # Errors
    ///
    /// Fails if the algorithm is unknown or no key can be made.
    pub fn try_sign(self) -> Result<String, MintError> {
        let directory = self.state.directory().clone();
        let resource = self.audience.as_deref().and_then(|audience| directory.resource(audience));
        let version = self.version.or_else(|| resource.map(|app| app.token_version)).unwrap_or(2);
        let claims = self.compose(&directory, resource, version);

        let (key, kid) = self.signing_key(resource)?;
        let mut header = Map::new();
        header.insert("typ".to_owned(), "JWT".into());
        header.insert("alg".to_owned(), self.algorithm.as_str().into());
        header.insert("kid".to_owned(), kid.as_str().into());
        if version == 1 {
            header.insert("x5t".to_owned(), kid.into());
        }
        for (name, value) in self.header {
            header.insert(name, value);
        }
        for name in &self.headerless {
            header.remove(name);
        }

        let header = self.header_text.unwrap_or_else(|| Value::Object(header).to_string());
        let payload = self.payload.unwrap_or_else(|| Value::Object(claims).to_string());
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        if self.algorithm.eq_ignore_ascii_case("none") {
            return Ok(format!("{input}."));
        }
        let unknown = || MintError::Algorithm(self.algorithm.clone());
        let algorithm = self.algorithm.parse().map_err(|_| unknown())?;
        let signer = match algorithm {
            // The confusion of an RSA public key with an HMAC secret.
            Algorithm::HS256 => EncodingKey::from_secret(&key.spki()),
            _ => key.encoding_key(),
        };
        // A signer that the gateway has no part in: what it verifies, another library has signed.
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &signer, algorithm).map_err(|_| unknown())?;
        Ok(format!("{input}.{signature}"))
    }

    fn signing_key(&self, resource: Option<&App>) -> Result<(Arc<SigningKey>, String), MintError> {
        let mut keys = self.state.keys();
        let key = match &self.signer {
            Signer::Tenant => match resource {
                // What Entra does: an app with a custom key has all its tokens signed by it.
                Some(app) if app.custom_signing_key => keys.app(&app.client_id)?,
                _ => keys.current(),
            },
            Signer::Wrong => return Ok((keys.unknown.clone(), keys.current().kid().to_owned())),
            Signer::Unknown => keys.unknown.clone(),
            Signer::Personal => keys.personal.clone(),
            Signer::App(client_id) => keys.app(&client_id.to_ascii_lowercase())?,
            Signer::Given(key) => key.clone(),
        };
        let kid = key.kid().to_owned();
        Ok((key, kid))
    }

    fn compose(&self, directory: &Directory, resource: Option<&App>, version: u8) -> Map<String, Value> {
        let tenant = match &self.tenant {
            Some(name) => directory.tenant(name).map_or_else(|| name.clone(), |tenant| tenant.id.clone()),
            None => directory.home(None),
        };
        let now = i64::try_from(self.state.clock.unix_seconds()).unwrap_or(i64::MAX);
        let v1 = version == 1;
        let audience = self.audience.clone().unwrap_or_else(|| DEFAULT_AUDIENCE.to_owned());
        let is_user = matches!(self.subject, Subject::User(_));
        let credential =
            self.credential.unwrap_or(if is_user { ClientAuthentication::None } else { ClientAuthentication::Certificate });
        let acr = match credential {
            ClientAuthentication::None => "0",
            ClientAuthentication::Secret => "1",
            ClientAuthentication::Certificate => "2",
        };

        let issued = now.saturating_add(self.issued);
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
        put("aud", audience.into());
        put("iss", if v1 { self.state.issuer_v1(&tenant) } else { self.state.issuer_v2(&tenant) }.into());
        put("iat", issued.into());
        put("nbf", issued.into());
        put("exp", now.saturating_add(self.expires).into());
        put("aio", "ASQA2/8OAAAA".into());
        if !self.id_token {
            put(if v1 { "appid" } else { "azp" }, self.client.as_str().into());
            put(if v1 { "appidacr" } else { "azpacr" }, acr.into());
        }
        let wants = |name: &str| resource.is_some_and(|app| app.optional_claims.contains(name));
        match &self.subject {
            Subject::User(name) => {
                let user = directory.user(name, &tenant);
                let domain = directory.tenant(&tenant).and_then(|tenant| tenant.domains.first().cloned());
                let principal = format!("{}@{}", user.name, domain.as_deref().unwrap_or("unknown.example"));
                put("oid", Directory::object_id(&user).into());
                put("sub", id_of("pairwise", &format!("{}{}", user.name, self.audience.as_deref().unwrap_or_default())).into());
                put("name", user.display_name.clone().unwrap_or_else(|| user.name.clone()).into());
                if v1 {
                    put("acr", "1".into());
                    put("amr", json!(["pwd", "mfa"]));
                    put("ipaddr", "203.0.113.7".into());
                    put("unique_name", principal.as_str().into());
                    put("upn", principal.into());
                } else {
                    put("preferred_username", principal.into());
                }
                if self.id_token {
                    put("nonce", "12345".into());
                } else {
                    let scopes = self.scopes.clone().unwrap_or_else(|| vec!["user_impersonation".to_owned()]);
                    put("scp", scopes.join(" ").into());
                }
                if resource.is_some_and(|app| app.group_claims) {
                    groups(&user, &tenant).into_iter().for_each(|(name, value)| put(name, value));
                }
                for (claim, attribute) in resource.map(|app| &app.claims_mapping).into_iter().flatten() {
                    if let Some(value) = user.attributes.get(attribute) {
                        put(claim, value.clone());
                    }
                }
            }
            Subject::App => {
                let principal = id_of("service-principal", &self.client);
                put("oid", principal.as_str().into());
                put("sub", principal.into());
                put("idp", self.state.issuer_v1(&tenant).into());
                if wants("idtyp") {
                    put("idtyp", "app".into());
                }
                if let Some(scopes) = &self.scopes {
                    put("scp", scopes.join(" ").into());
                }
            }
        }
        if !self.roles.is_empty() {
            put("roles", self.roles.clone().into());
        }
        put("rh", "0.AAAA".into());
        put("tid", tenant.into());
        put("uti", URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes()).into());
        put("ver", if v1 { "1.0" } else { "2.0" }.into());
        for (name, value) in &self.claims {
            put(name, value.clone());
        }
        for name in &self.without {
            claims.remove(name);
        }
        claims
    }
}

/// The maximum number of groups in a token.
const MOST_GROUPS: usize = 200;

/// Returns the groups of a user, or Entra's reference to them if there are too many.
fn groups(user: &User, tenant: &str) -> Vec<(&'static str, Value)> {
    if user.groups.is_empty() {
        return Vec::new();
    }
    if user.groups.len() <= MOST_GROUPS {
        return vec![("groups", json!(user.groups))];
    }
    // An address of a service that is gone, as Entra still writes it.
    let endpoint = format!("https://graph.windows.net/{tenant}/users/{}/getMemberObjects", Directory::object_id(user));
    vec![("_claim_names", json!({ "groups": "src1" })), ("_claim_sources", json!({ "src1": { "endpoint": endpoint } }))]
}

/// The reason why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No key could be made.
    #[error("cannot make a signing key")]
    Key(#[from] KeyError),
    /// The algorithm is unknown.
    #[error("the algorithm {0:?} is not one that the development tenant signs with")]
    Algorithm(String),
}
